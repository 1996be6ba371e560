//! How a gap is closed: what a follower asks for, takes and never acknowledges, and what a leader
//! sends.

use jetwake::ids::{Index, Term};
use jetwake::subject::Subject;
use jetwake_sim::lone::{Append, Lone, Message};

use crate::{member, member_that_holds_nothing, records};

fn commit(node: &Lone) -> u64 {
    node.status().commit.get()
}

/// What the last request for a catchup said: term and index of the last record.
fn asked(node: &mut Lone) -> (u64, u64) {
    let inbox = node.inbox();
    let request = node.sent().into_iter().rev().find_map(|sent| match sent.message {
        Message::AppendResponse(request) if sent.reply == inbox && inbox.is_some() => Some(request),
        _ => None,
    });
    let request = request.expect("it asks for what it lacks");
    assert!(!request.success);
    (request.term.get(), request.index.get())
}

/// Of two records without a known quorum the leader that follows has only the first: the follower
/// loses the second, keeps the first, and catches up behind it.
///
/// Upstream waits for a heartbeat before it asks; ours asks at once. Seen red with
/// `self.truncate(context, self.commit)` in `Raft::drop_conflict`.
#[test]
fn nrg_catchup_does_not_truncate_uncommitted_entries_with_quorum() {
    let mut node = member_that_holds_nothing();
    node.hear(&Append::by("n2", 1).entry("a"));
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1));
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1).entry("has a quorum"));
    node.hear(&Append::by("n2", 1).after(1, 2).commit(1).entry("has none"));
    assert_eq!((node.log().len(), commit(&node)), (3, 1));

    let missed = Append::by("n3", 2).after(1, 2).commit(1).entry("missed");
    let trigger = Append::by("n3", 2).after(2, 3).commit(1).entry("trigger");
    node.hear(&trigger);
    assert_eq!(node.log(), records(&[(1, "a"), (1, "has a quorum")]));
    assert_eq!(asked(&mut node), (1, 2));
    node.hear(&Append::by("n3", 2).after(2, 4).commit(2));
    assert_eq!((node.log().len(), commit(&node)), (2, 1), "a record is missing before it");

    node.feed(&missed);
    assert_eq!(node.log().len(), 3);
    node.feed(&trigger);
    assert!(node.inbox().is_some(), "no live entry has shown yet that this is all");
    let four = records(&[(1, "a"), (1, "has a quorum"), (2, "missed"), (2, "trigger")]);
    assert_eq!(node.log(), four);
    node.hear(&Append::by("n3", 2).after(2, 4).commit(4));
    assert_eq!((commit(&node), node.inbox()), (4, None));
    assert_eq!(node.applied_texts(), ["a", "has a quorum", "missed", "trigger"]);
}

/// Two records without a quorum, one after the other found to be of another term than the leader's:
/// both go, and nothing that is committed.
///
/// Seen red with `Join::Conflicts` treated as `Join::Gap` in `Raft::handle_catchup_entry`: the
/// catchup then waits for ever.
#[test]
fn nrg_catchup_can_truncate_multiple_entries_without_quorum() {
    let mut node = member_that_holds_nothing();
    node.hear(&Append::by("n2", 1).entry("a"));
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1));
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1).entry("has none"));
    node.hear(&Append::by("n2", 1).after(1, 2).commit(1).entry("has none either"));

    let missed = [
        Append::by("n3", 2).after(1, 1).commit(1).entry("b"),
        Append::by("n3", 2).after(2, 2).commit(1).entry("c"),
    ];
    let trigger = Append::by("n3", 2).after(2, 3).commit(1).entry("d");
    let beat = |commit| Append::by("n3", 2).after(2, 4).commit(commit);
    node.hear(&trigger);
    assert_eq!(node.log().len(), 2);
    assert_eq!(asked(&mut node), (1, 2));
    node.hear(&beat(2));
    assert_eq!((node.log().len(), commit(&node)), (2, 1));

    let first_inbox = node.inbox();
    node.feed(&missed[1]);
    assert_eq!(node.log(), records(&[(1, "a")]));
    assert_ne!(node.inbox(), first_inbox, "it asks again, at an inbox of its own");
    assert_eq!(asked(&mut node), (1, 1));
    node.hear(&beat(2));
    assert_eq!((node.log().len(), commit(&node)), (1, 1));

    node.feed(&missed[0]);
    node.feed(&missed[1]);
    node.feed(&trigger);
    assert!(node.inbox().is_some());
    assert_eq!(node.log(), records(&[(1, "a"), (2, "b"), (2, "c"), (2, "d")]));
    node.hear(&beat(4));
    assert_eq!((commit(&node), node.inbox()), (4, None));
}

/// A leader of nats-server may name a term for the place before the first record, where nothing
/// stands: the record is taken all the same.
///
/// Upstream takes that term on and asks again; ours asks once, since an empty place contradicts
/// nobody. Seen red without the arm for index zero in `Raft::join`: the member stood aside.
#[test]
fn nrg_catchup_from_new_leader_with_incorrect_pterm() {
    let mut node = member();
    let beat = Append::by("n2", 1).after(1, 1).commit(1);
    node.hear(&beat);
    assert_eq!((commit(&node), asked(&mut node)), (0, (0, 0)));
    node.feed(&Append::by("n2", 1).after(1, 0).entry("a"));
    assert_eq!(node.log(), records(&[(1, "a")]));
    assert_eq!(node.status().aside, None);
    node.hear(&beat);
    assert_eq!((commit(&node), node.inbox()), (1, None));
    node.restart();
    assert_eq!((node.status().aside, node.log()), (None, records(&[(1, "a")])));
}

/// Who votes in a newer term gives its catchup up: else the old leader could reach a quorum with
/// records that the new one lacks.
///
/// Seen red without `cancel_catchup` in `Raft::handle_vote_request`.
#[test]
fn nrg_cancel_catchup_when_detecting_higher_term_during_vote_request() {
    let mut node = member_that_holds_nothing();
    let trigger = Append::by("n2", 1).after(1, 1).commit(1).entry("b");
    node.hear(&trigger);
    assert_eq!(asked(&mut node), (0, 0));
    node.feed(&Append::by("n2", 1).entry("a"));
    let inbox = node.inbox().expect("it goes on");

    node.ask_vote("n2", 2, 1, 1);
    assert!(node.votes()[0].granted);
    assert!(node.inbox().is_none() && !node.listens(&inbox));
    node.feed_at(&inbox, &trigger);
    assert_eq!(node.log(), records(&[(1, "a")]));
    // Nor does it ask the old leader again, however long it waits.
    node.wait(node.config().timers.log_catchup_stall * 2);
    assert_eq!((node.inbox(), node.responses()), (None, vec![]));
}

/// What comes by a catchup is never acknowledged; the first live message behind it is.
///
/// Ours tells progress by a refusal, which no leader counts. Seen red with `live` true in
/// `Raft::handle_catchup_entry`.
#[test]
fn nrg_catchup_dont_count_toward_quorum() {
    let mut node = member_that_holds_nothing();
    let trigger = Append::by("n2", 1).after(1, 1).entry("b");
    node.hear(&trigger);
    assert_eq!(asked(&mut node), (0, 0));
    node.feed(&Append::by("n2", 1).entry("a"));
    node.feed(&trigger);
    assert_eq!(node.log().len(), 2);
    let responses = node.responses();
    assert!(responses.iter().all(|response| !response.success), "{responses:?}");
    assert!(responses.iter().all(|response| response.term == Term::new(1)), "{responses:?}");

    node.hear(&Append::by("n2", 1).after(1, 2));
    assert_eq!(node.acks(), [(1, 2)]);
    assert!(node.inbox().is_none());
}

/// After a catchup was given up, nothing that still comes to its inbox is stored.
///
/// Seen red with the inbox left in place: without `out.unsubscribe` in `Raft::end_catchup` and with
/// any inbox taken for the present one in `Raft::handle_catchup_entry`.
#[test]
fn nrg_ignore_entry_after_canceled_catchup() {
    let mut node = member();
    node.hear(&Append::by("n2", 1).after(1, 1).entry("b"));
    let inbox = node.inbox().expect("it asks for what it lacks");
    node.ask_vote("n2", 2, 1, 2);
    assert!(node.inbox().is_none());
    node.feed_at(&inbox, &Append::by("n2", 1).entry("a"));
    node.feed_at(&inbox, &Append::by("n2", 1).entry("a").led_in(1));
    assert_eq!(node.log(), []);
}

/// Live messages that are late by a whole catchup: none is answered with more than it proves itself.
///
/// Upstream answers none but the newest. Ours answers the second with its own index: a live message
/// of this term's leader proves that much, and no more. Seen red with `self.log.durable()` in place
/// of `follower.matched.min(…)` in `Raft::acknowledge`.
#[test]
fn nrg_delayed_messages_after_catchup_dont_count_toward_quorum() {
    let mut node = member_that_holds_nothing();
    let messages = [
        Append::by("n2", 1).entry("a"),
        Append::by("n2", 1).after(1, 1).commit(1).entry("b"),
        Append::by("n2", 1).after(1, 2).commit(1).entry("c"),
        Append::by("n2", 1).after(1, 3).commit(1).entry("d"),
    ];
    node.hear(&messages[3]);
    node.feed(&messages[0]);
    node.feed(&messages[1]);
    node.feed(&messages[2]);
    assert_eq!((node.log().len(), commit(&node)), (3, 1));
    node.take_snapshot(1, "state");
    assert_eq!(node.acks(), []);

    node.hear(&messages[0]);
    assert_eq!((node.status().last.index, node.acks()), (Index::new(3), vec![]));
    node.hear(&messages[1]);
    assert_eq!((node.status().last.index, node.acks()), (Index::new(3), vec![(1, 2)]));
    node.hear(&messages[2]);
    assert_eq!(node.acks(), [(1, 3)]);
    node.hear(&messages[3]);
    assert_eq!((node.status().last.index, node.acks()), (Index::new(4), vec![(1, 4)]));
}

/// A leader sends a follower all that it lacks, in order and with the term that it leads in now.
///
/// Ours also sends the record that it began its term with, and in the end says where its log ends. Seen red with `index` in place of
/// `index.next()` in `Raft::start_feed`.
#[test]
fn nrg_leader_catchup_handling() {
    let mut node = member();
    node.hear(&Append::by("n2", 1).entry("a"));
    node.hear(&Append::by("n2", 1).after(1, 1).entry("b"));
    node.hear(&Append::by("n2", 1).after(1, 2).entry("c"));
    node.elect(&["n3"]);
    let term = node.status().term;
    node.sent();

    let inbox = Subject::from_static("$NRG.CR.follower");
    node.ask_catchup("n2", (1, 1), &inbox);
    let sent = node.sent();
    assert!(sent.iter().all(|sent| sent.subject == inbox), "{sent:?}");
    let fed: Vec<_> = sent
        .into_iter()
        .map(|sent| match sent.message {
            Message::Append(entry) => {
                assert_eq!((entry.leader_term, entry.commit), (term, Index::ZERO));
                (entry.previous_term.get(), entry.previous_index.get(), entry.term.get())
            }
            other => panic!("it sends {other:?}"),
        })
        .collect();
    let term = term.get();
    assert_eq!(fed, [(1, 1, 1), (1, 2, 1), (1, 3, term), (term, 4, term)]);
}

/// A deposed leader's messages, new to a follower that another leader is catching up, are refused with
/// the newer term; the catchup, stalled or not, goes on as it was.
///
/// Seen red without the comparison of terms in `Raft::handle_append_entry`.
#[test]
fn nrg_new_entries_from_old_leader_resets_wal_during_catchup() {
    let mut node = member_that_holds_nothing();
    let message = |index: u64, text| {
        let before = if index == 1 { 0 } else { 20 };
        Append::by("n2", 20).after(before, index - 1).entry(text).led_in(20)
    };
    node.hear(&message(2, "b"));
    assert_eq!(asked(&mut node), (0, 0));
    node.feed(&message(1, "a"));
    assert_eq!(node.log(), records(&[(20, "a")]));
    // It stalls: the leader is asked again, at a new inbox.
    let stalled = node.inbox();
    node.wait(node.config().timers.log_catchup_stall);
    assert_eq!(asked(&mut node), (20, 1));
    let inbox = node.inbox();
    assert_ne!(inbox, stalled);

    for fork in [Append::by("n3", 1).entry("fork"), Append::by("n3", 1).after(1, 1).entry("fork")] {
        node.hear(&fork);
        let responses = node.responses();
        assert_eq!(responses.len(), 1, "{responses:?}");
        assert!(!responses[0].success);
        assert_eq!((responses[0].term, responses[0].index), (Term::new(20), Index::new(1)));
        assert_eq!((node.log(), node.inbox()), (records(&[(20, "a")]), inbox.clone()));
    }

    node.feed(&message(2, "b"));
    node.feed(&message(3, "c"));
    assert_eq!(node.log(), records(&[(20, "a"), (20, "b"), (20, "c")]));
    node.hear(&Append::by("n2", 20).after(20, 3));
    assert_eq!((node.acks().last(), node.inbox()), (Some(&(20, 3)), None));
}

/// Two catchups of one follower run at once, and one repeats what was acknowledged already: nothing is
/// cut, in the present catchup or at an inbox of the past.
///
/// Seen red with a truncation to the entry in `Raft::take` where the record is known.
#[test]
fn nrg_parallel_catchup_rollback() {
    let mut node = member_that_holds_nothing();
    let first = Append::by("n2", 1).entry("a").led_in(1);
    let second = Append::by("n2", 1).after(1, 1).entry("b").led_in(1);
    node.hear(&second);
    assert_eq!(node.log(), []);
    let past = node.inbox().expect("it asks for what it lacks");
    node.feed(&first);
    node.feed(&second);
    let both = records(&[(1, "a"), (1, "b")]);
    assert_eq!(node.log(), both);
    node.hear(&Append::by("n2", 1).after(1, 2));
    assert_eq!(node.acks(), [(1, 2)]);

    node.feed_at(&past, &first);
    assert_eq!(node.log(), both);
    // A second gap, whose catchup begins too early.
    node.hear(&Append::by("n2", 1).after(1, 3).entry("d"));
    node.feed(&first);
    assert_eq!(node.log(), both);
    node.feed(&second);
    assert_eq!(node.log(), both);
    node.feed(&Append::by("n2", 1).after(1, 2).entry("c").led_in(1));
    assert_eq!(node.log().len(), 3);
}
