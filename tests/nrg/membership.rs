//! Who is a member, from when on, and what becomes of it when logs are cut or read again.

use jetwake::command::{Report, Role};
use jetwake::config::GroupKind;
use jetwake::event::Request;
use jetwake::ids::{Index, PeerId, Term};
use jetwake::wire::EntryKind;
use jetwake_sim::lone::{self, Append, Lone, LoneDisk};

use crate::{MEMBERS, member, records};

fn peer(name: &str) -> PeerId {
    PeerId::from_name(name)
}

fn add(append: Append, name: &str) -> Append {
    append.part(EntryKind::AddPeer, peer(name).as_bytes().to_vec())
}

/// What it says of the members: who they are, how many are counted from, and where a change stands
/// that is not committed.
fn assert_members(node: &Lone, names: &[&str], change: Option<u64>) {
    let mut expected: Vec<_> = names.iter().map(|name| peer(name)).collect();
    expected.sort();
    let status = node.status();
    assert_eq!((status.members, status.cluster_size), (expected, names.len()));
    assert_eq!(status.change, change.map(Index::new));
}

/// A node that waits to be added votes, but asks for no votes itself until its log has data that
/// names it a member, be it a record or a snapshot.
///
/// Upstream hides in the vote of such a node that its log is empty, so that a quorum elects a leader;
/// ours says so each time: a leader adds nobody whose log is empty, and a disk that was wiped looks
/// the same. Seen red without `may_be_elected` in `Raft::campaign`.
#[test]
fn nrg_initialize_and_scale_up() {
    let waiting = || {
        let mut config = lone::config(&["n1", "n2"], GroupKind::Plain);
        config.groups[0].members = vec!["n2".into()];
        let mut node = Lone::start(config, LoneDisk::default());
        node.wait(node.config().timers.election_max * 3);
        assert_eq!((node.status().role, node.status().term), (Some(Role::Follower), Term::ZERO));
        node
    };
    let becomes_candidate = |mut node: Lone| {
        node.wait_until("it is a member like any other", |node| {
            node.status().role == Some(Role::Candidate)
        });
    };
    let assert_vote = |node: &mut Lone, term| {
        let votes = node.votes();
        assert!(votes.len() == 1 && votes[0].granted && votes[0].empty, "{votes:?}");
        assert_eq!(votes[0].term, Term::new(term));
    };

    let mut node = waiting();
    node.ask_vote("n2", 1, 0, 0);
    assert_vote(&mut node, 1);
    node.wait(node.config().timers.election_max * 3);
    assert_eq!(node.status().role, Some(Role::Follower), "a vote makes it no member");
    node.hear(&add(Append::by("n2", 1), "n1").entry("a"));
    assert_eq!((node.status().last.index, node.acks()), (Index::new(1), vec![(1, 1)]));
    assert_members(&node, &["n1", "n2"], Some(1));
    // Its log is gone, and its disk says that nothing was promised on it.
    node.restart_after(|disk| *disk = LoneDisk::default());
    node.ask_vote("n2", 2, 0, 0);
    assert_vote(&mut node, 2);
    node.hear(&add(Append::by("n2", 2), "n1").entry("a"));
    becomes_candidate(node);

    let mut node = waiting();
    node.hear(&Append::by("n2", 2).after(1, 1).commit(1));
    node.feed(&Append::by("n2", 2).after(1, 1).commit(1).snapshot("state", &["n1", "n2"]));
    assert_members(&node, &["n1", "n2"], None);
    node.restart();
    assert_members(&node, &["n1", "n2"], None);
    becomes_candidate(node);
}

/// A change of the members counts while its record is in the log, and is gone with it.
///
/// Seen red without `revert_changes` in the follower's `truncate`.
#[test]
fn nrg_uncommitted_membership_change_gets_truncated() {
    let mut node = member();
    node.hear(&Append::by("n2", 1).entry("a"));
    node.hear(&add(Append::by("n2", 1).after(1, 1), "n4"));
    assert_members(&node, &["n1", "n2", "n3", "n4"], Some(2));

    // Another leader has the record as well: it stays, and so does the change.
    node.hear(&Append::by("n3", 2).after(1, 2).entry("b"));
    node.hear(&Append::by("n2", 3).after(1, 2).entry("c"));
    assert_eq!(node.log().len(), 3, "b made room for c");
    assert_members(&node, &["n1", "n2", "n3", "n4"], Some(2));

    // One that has another in its place: the change goes with the record.
    node.hear(&Append::by("n3", 4).after(1, 1).entry("d"));
    assert_eq!(node.log(), records(&[(1, "a"), (4, "d")]));
    assert_members(&node, &MEMBERS, None);
    node.restart();
    assert_members(&node, &MEMBERS, None);
}

/// Adding who is a member already changes nothing, when it comes and when the log is read again: the
/// quorum of three stays two, so that a node cannot elect itself.
///
/// Seen red with `self.size + 1` for the size in `Members::with`.
#[test]
fn nrg_replay_add_peer_keeps_cluster_size() {
    let mut node = member();
    node.hear(&Append::by("n2", 2).entry("a"));
    node.hear(&add(Append::by("n2", 2).after(2, 1).commit(2), "n3"));
    assert_members(&node, &MEMBERS, None);
    for _ in 0..2 {
        node.restart();
        assert_members(&node, &MEMBERS, None);
        node.wait(node.config().timers.election_max * 3);
        assert_eq!(node.status().role, Some(Role::Candidate), "its own vote is not enough");
    }
    node.elect(&["n2"]);
}

/// A node that was told to campaign at once, and then hears a leader: it says that it follows, be it
/// as a candidate, or as a leader of an older term that has not yet told its clients that it leads.
///
/// Upstream also plays a follower that was told and has not begun; ours begins in the same step.
///
/// Upstream plays the last with one term for both leaders, which cannot be, since each has the votes
/// of a quorum: ours refuses the second and stays. Seen red with the two branches that call `follow`
/// left out in `Raft::handle_append_entry`.
#[test]
fn nrg_signal_lead_change_false_if_campaign_immediately() {
    let follows = |node: &mut Lone, term| {
        let leader = Some(peer("n2"));
        let signal = Report::Role { role: Role::Follower, term: Term::new(term), leader };
        assert_eq!(node.reports().last(), Some(&signal));
        let status = node.status();
        assert_eq!((status.role, status.leader), (Some(Role::Follower), leader));
        assert_eq!(status.term, Term::new(term));
    };
    let campaigning = || {
        let mut node = member();
        node.request(Request::Campaign);
        assert_eq!(node.status().role, Some(Role::Candidate), "at once");
        node.reports();
        node
    };
    let mut node = campaigning();
    node.hear(&Append::by("n2", 1).entry("a"));
    follows(&mut node, 1);

    let mut node = campaigning();
    node.elect(&["n3"]);
    let early = node.propose("early");
    assert!(node.answer_to(early).is_some(), "nothing is committed, so it is refused");
    assert_eq!(node.status().last.index, Index::new(1));
    node.hear(&Append::by("n2", 1).entry("a"));
    let reports = node.reports();
    assert!(matches!(reports.last(), Some(Report::Refused { .. })), "{reports:?}");
    assert_eq!(node.status().role, Some(Role::Leader));
    node.hear(&Append::by("n2", 2).entry("a"));
    follows(&mut node, 2);
}
