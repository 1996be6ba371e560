//! What a follower keeps of its log, and what it cuts.

use jetwake::ids::{Index, Term};
use jetwake_sim::lone::{Append, Lone};

use crate::{member, records};

fn commit(node: &Lone) -> u64 {
    node.status().commit.get()
}

/// A leader has stored an entry that nobody else ever saw, and dies. It returns to a leader that has
/// gone on without it: its log becomes the new leader's, and the entry is never applied.
///
/// Seen red without `self.truncate(context, entry.previous_index)` in `Raft::take`.
#[test]
fn nrg_wal_entry_without_quorum_must_truncate() {
    for diverged in [false, true] {
        let mut node = member();
        node.elect(&["n2"]);
        let term = node.status().term.get();
        node.acknowledge("n2", term, 1);
        node.acknowledge("n3", term, 1);
        let lost = node.propose("only here");
        assert_eq!((node.status().last.index, commit(&node)), (Index::new(2), 1));
        node.restart();
        assert!(node.answer_to(lost).is_none(), "nobody was told that it is kept");

        let next = term + 1;
        let first = Append::by("n3", next).after(term, 1).commit(1).entry("first");
        let second = Append::by("n3", next).after(next, 2).commit(1).entry("11");
        if diverged {
            // It hears of the new leader when that is ahead: the gap shows the fork one by one.
            node.hear(&Append::by("n3", next).after(next, 3).commit(1));
            node.feed(&second.clone().led_in(next));
            assert_eq!(node.status().last.index, Index::new(1), "the fork is cut");
            node.feed(&first.clone().led_in(next));
            node.feed(&second.clone().led_in(next));
            node.hear(&Append::by("n3", next).after(next, 3).commit(3));
            let expected = [(term, peer_state(&node)), (next, "first".into()), (next, "11".into())];
            assert_eq!(node.log(), expected);
            assert_eq!(node.applied_texts(), ["first", "11"]);
        } else {
            node.hear(&first);
            node.hear(&Append::by("n3", next).after(next, 2).commit(2));
            assert_eq!(node.log(), [(term, peer_state(&node)), (next, "first".into())]);
            assert_eq!(node.applied_texts(), ["first"]);
        }
        assert!(node.inbox().is_none());
    }
}

/// What its first leader's first record says.
fn peer_state(node: &Lone) -> String {
    node.log()[0].1.clone()
}

/// A term that was heard stays, whatever happens to the log: an older leader is refused after the
/// records are gone as before.
///
/// Upstream's node empties its log; ours has no such call, so its records go while it is down.
/// Seen red with the term of the slot left out in `Raft::open`.
#[test]
fn nrg_term_no_decrease_after_wal_reset() {
    let mut node = member();
    node.hear(&Append::by("n2", 20).entry("a"));
    assert_eq!(node.status().term, Term::new(20));
    assert_eq!(node.acks(), [(20, 1)]);

    let old = Append::by("n2", 3).entry("a");
    let refused = |node: &mut Lone| {
        node.hear(&old);
        let responses = node.responses();
        assert_eq!(responses.len(), 1);
        assert!(!responses[0].success && responses[0].term == Term::new(20), "{responses:?}");
        assert_eq!(node.status().term, Term::new(20));
    };
    refused(&mut node);
    node.restart_after(|disk| disk.remove_behind(0));
    refused(&mut node);
    assert_eq!(node.log(), []);
}

/// An old entry that comes again cuts nothing and moves the commit index nowhere.
///
/// Seen red with a truncation to the entry in `Raft::take` where the record is known.
#[test]
fn nrg_catchup_does_not_truncate_committed_entries_during_redelivery() {
    let mut node = member();
    let first = Append::by("n2", 1).entry("a");
    node.hear(&first);
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1).entry("b"));
    node.hear(&Append::by("n2", 1).after(1, 2).commit(2));
    assert_eq!(commit(&node), 2);
    node.hear(&Append::by("n2", 1).after(1, 2).commit(1).entry("c"));
    let three = records(&[(1, "a"), (1, "b"), (1, "c")]);
    assert_eq!((node.log(), commit(&node)), (three.clone(), 2));

    node.hear(&first);
    assert_eq!((node.log(), commit(&node)), (three.clone(), 2));
    node.hear(&Append::by("n2", 1).after(1, 3).commit(3));
    assert_eq!((node.log(), commit(&node)), (three, 3));
    assert_eq!(node.applied_texts(), ["a", "b", "c"]);
}

/// A new leader replaces the last, uncommitted record: the committed one before it stays, and the
/// replacement is stored at once.
///
/// Seen red with `truncate(entry.previous_index.previous())` in `Raft::take`, which the assertion of
/// `Log::truncate` stops.
#[test]
fn nrg_truncate_down_to_committed() {
    let mut node = member();
    node.hear(&Append::by("n2", 1).entry("a"));
    assert_eq!((node.log(), commit(&node)), (records(&[(1, "a")]), 0));
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1).entry("b"));
    assert_eq!((node.log(), commit(&node)), (records(&[(1, "a"), (1, "b")]), 1));

    node.hear(&Append::by("n3", 2).after(1, 1).commit(1).entry("c"));
    assert_eq!((node.log(), commit(&node)), (records(&[(1, "a"), (2, "c")]), 1));
    assert_eq!(node.acks().last(), Some(&(2, 2)));
    node.hear(&Append::by("n3", 2).after(2, 2).commit(2));
    assert_eq!(commit(&node), 2);
    assert_eq!(node.applied_texts(), ["a", "c"]);
}

/// An entry right behind the snapshot comes again: it is known, and nothing behind it is cut.
///
/// Seen red with a truncation to the entry in `Raft::take` where the record is known.
#[test]
fn nrg_replay_on_snapshot_same_term() {
    let mut node = member();
    node.hear(&Append::by("n2", 1).commit(1).entry("a"));
    assert_eq!((commit(&node), node.applied_texts()), (1, vec!["a".into()]));
    node.take_snapshot(1, "state");
    assert_eq!(node.status().first, Index::new(2));

    let second = Append::by("n2", 1).after(1, 1).commit(1).entry("b");
    node.hear(&second);
    node.hear(&Append::by("n2", 1).after(1, 2).commit(1).entry("c"));
    node.acks();
    node.hear(&second);
    assert_eq!(node.log(), records(&[(1, "b"), (1, "c")]));
    assert_eq!(node.acks(), [(1, 3)], "it is answered with what is there");
}

/// As before, with a snapshot of an older term, which the machine has not finished to apply; once
/// taken here, once received from the leader.
///
/// Upstream cuts the log back to the snapshot and takes the entry again; ours knows the record by
/// its term and cuts nothing. Seen red with the base left out in `Log::term`: the log is asked for
/// again.
#[test]
fn nrg_replay_on_snapshot_different_term() {
    for received in [false, true] {
        let mut node = member();
        node.hold_applies = true;
        let second = Append::by("n2", 2).after(1, 1).commit(1).entry("b").led_in(2);
        let third = Append::by("n2", 2).after(2, 2).commit(1).entry("c").led_in(2);
        if received {
            node.hear(&second);
            node.feed(
                &Append::by("n2", 2).after(1, 1).commit(1).snapshot("state", &crate::MEMBERS),
            );
            assert_eq!(node.inbox(), None, "the entry that was held closes the gap");
        } else {
            node.hear(&Append::by("n2", 1).commit(1).entry("a").led_in(2));
            node.take_snapshot(1, "state");
            node.hear(&second);
        }
        assert_eq!((node.status().first, commit(&node)), (Index::new(2), 1));
        node.hear(&third);
        let both = records(&[(2, "b"), (2, "c")]);
        assert_eq!(node.log(), both);

        node.hear(&second);
        assert_eq!(node.log(), both);
        node.hear(&third);
        assert_eq!((node.log(), node.inbox()), (both, None));
        assert_eq!(node.acks().last(), Some(&(2, 3)));
    }
}
