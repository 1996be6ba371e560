//! Terms, votes and quorums.

use jetwake::command::{Answer, Role};
use jetwake::event::TermAndVote;
use jetwake::ids::{Index, PeerId, Term};
use jetwake_sim::lone::{Append, Lone};

use crate::{member, member_that_holds_nothing, records};

/// A new leader inherits a record and does not know whether a quorum has it: its own first record,
/// once acknowledged, commits both; until then it takes no proposals.
///
/// Upstream waits until its machine has applied both; ours until both were handed to the machine, which
/// is handed whatever is proposed from then on behind them.
///
/// Seen red with `response.term == self.term` and the check of the term in `advance_commit` left out:
/// then the acknowledgement of the inherited record commits it.
#[test]
fn nrg_append_entry_can_establish_quorum_after_leader_change() {
    let mut node = Lone::plain(&["n1", "n2"]);
    node.hold_applies = true;
    node.hear(&Append::by("n2", 1).entry("inherited"));
    node.elect(&["n2"]);
    let status = node.status();
    assert_eq!((status.last.index, status.commit), (Index::new(2), Index::ZERO));
    let early = node.propose("early");
    let Some(Answer::Json(answer)) = node.answer_to(early) else { panic!("it is not answered") };
    assert!(answer.starts_with(b"{\"error\""), "{answer:?}");

    // That the follower has the inherited record says nothing about this term.
    node.acknowledge("n2", 1, 1);
    assert_eq!(node.status().commit, Index::ZERO);
    node.acknowledge("n2", status.term.get(), 2);
    assert_eq!((node.status().commit, node.status().last.index), (Index::new(2), Index::new(2)));
    assert_eq!(node.applied_texts(), ["inherited"]);
    assert_eq!(node.status().machine_applied, Index::ZERO, "handed out is not applied");
    let late = node.propose("late");
    assert!(node.answer_to(late).is_none(), "it is taken");
    node.acknowledge("n2", status.term.get(), 3);
    assert_eq!(node.answer_to(late), Some(&Answer::Json("{\"index\":3}".into())));
    assert_eq!(node.applied_texts(), ["inherited", "late"]);
    node.finish_applies();
    assert_eq!(node.status().machine_applied, Index::new(3));
}

/// Who voted in a newer term takes nothing from the leader of the last, and tells it so.
///
/// Seen red without the comparison of terms in `Raft::handle_append_entry`.
#[test]
fn nrg_reject_new_append_entry_from_previous_leader() {
    let mut node = member();
    node.hear(&Append::by("n2", 1).entry("a"));
    // While that leader is alive, nobody else needs votes: the request is not even answered.
    node.ask_vote("n3", 5, 1, 2);
    assert_eq!((node.votes(), node.status().term), (vec![], Term::new(1)));

    node.wait(node.config().timers.election_min);
    node.ask_vote("n3", 5, 1, 2);
    let votes = node.votes();
    assert!(votes.len() == 1 && votes[0].granted && votes[0].term == Term::new(5), "{votes:?}");

    node.hear(&Append::by("n2", 1).after(1, 1).commit(1).entry("b"));
    assert_eq!(node.log(), records(&[(1, "a")]));
    assert_eq!(node.status().commit, Index::ZERO);
    let responses = node.responses();
    assert!(responses.len() == 1 && !responses[0].success, "{responses:?}");
    assert_eq!(responses[0].term, Term::new(5));
}

/// The same in the middle of a catchup, live or at the inbox, with and without the leader's own term
/// in the message: after the vote nothing of the old leader is stored.
///
/// Upstream takes the catchup message that names no leader's term, for the sake of older servers;
/// ours has closed the inbox with the vote, so it takes neither. Seen red without `cancel_catchup` in
/// `Raft::handle_vote_request`.
#[test]
fn nrg_reject_append_entry_during_catchup_from_previous_leader() {
    for catching_up in [false, true] {
        for leader_term in [0, 1] {
            let mut node = member_that_holds_nothing();
            let first = Append::by("n2", 1).entry("a").led_in(leader_term);
            let second = Append::by("n2", 1).after(1, 1).commit(1).entry("b").led_in(leader_term);
            node.hear(&second);
            let request = node.responses();
            assert_eq!((request[0].success, request[0].index), (false, Index::ZERO));
            let inbox = node.inbox().expect("it asks for what it lacks");
            node.feed(&first);
            assert_eq!(node.log(), records(&[(1, "a")]));

            // The candidate is the leader itself: it has given its lease up.
            node.ask_vote("n2", 5, 1, 2);
            assert!(node.votes()[0].granted);
            assert!(!node.listens(&inbox));
            match catching_up {
                true => node.feed_at(&inbox, &second),
                false => node.hear(&second),
            }
            assert_eq!(node.log(), records(&[(1, "a")]));
            assert_eq!(node.acks(), []);
        }
    }
}

/// A candidate, and later a leader, that hears entries of an old term from the leader of a newer one:
/// it steps down, takes the newer term on, without a vote in it, and stores the entry.
///
/// Seen red with `entry.term` in place of `entry.leader_term.max(entry.term)` in
/// `Raft::handle_append_entry`.
#[test]
fn nrg_stepdown_with_highest_term_during_catchup() {
    let mut node = member();
    node.wait_until("it asks for votes", |node| node.status().role == Some(Role::Candidate));
    node.hear(&Append::by("n2", 1).entry("a").led_in(10));
    let follows = |node: &Lone, term| {
        let status = node.status();
        assert_eq!((status.role, status.term), (Some(Role::Follower), Term::new(term)));
        assert_eq!(status.leader, Some(PeerId::from_name("n2")));
        let kept = TermAndVote { term: Term::new(term), vote: None };
        assert_eq!(node.disk.durable_log().vote(), Some(kept));
    };
    follows(&node, 10);
    assert_eq!(node.log(), records(&[(1, "a")]));

    node.elect(&["n3"]);
    assert_eq!(node.status().last.index, Index::new(2), "its own first record");
    node.hear(&Append::by("n2", 1).after(1, 1).entry("b").led_in(20));
    follows(&node, 20);
    assert_eq!(node.log(), records(&[(1, "a"), (1, "b")]));
}
