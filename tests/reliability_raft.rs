//! Defects that others had in their consensus, each as a situation of ours, named after its number in
//! the list below. What nats-server has a test of its own for is played under that test's name in
//! `tests/nrg`.
//!
//! | # | defect | upstream | test |
//! |---|---|---|---|
//! | 1 | a leader stores an entry and dies; it stays in the log of one | #5957 | `nrg_wal_entry_without_quorum_must_truncate` |
//! | 2 | cutting one uncommitted entry takes the committed one before it | #6073 | `nrg_truncate_down_to_committed` |
//! | 3 | a cut or emptied log lowers the term | #5975 | `nrg_term_no_decrease_after_wal_reset` |
//! | 4 | an unreadable entry is kept at the start | #7162 | here |
//! | 5 | a log that does not join its snapshot is accepted | #7620 | here |
//! | 6 | another term below the commit index cuts committed entries | #8023 | here |
//! | 7 | cached entries outlive a cut or a snapshot | #8149 | here |
//! | 8 | applying exactly at the snapshot's end empties the log | #8321 | here |
//! | 9 | a vote amid a catchup gives the old leader a quorum | #6072 | `nrg_cancel_catchup_when_detecting_higher_term_during_vote_request` |
//! | 10 | what a catchup brings counts towards a quorum | #6944 | `nrg_catchup_dont_count_toward_quorum` |
//! | 11 | a deposed leader's catchup is accepted | #6951 | `nrg_reject_append_entry_during_catchup_from_previous_leader` |
//! | 12 | success after a mismatch or a cancelled catchup | #7151 | here |
//! | 13 | an old leader's new entries empty the log in a catchup | #7209 | `nrg_new_entries_from_old_leader_resets_wal_during_catchup` |
//! | 14 | a late parallel catchup cuts acknowledged entries | #7424 | `nrg_parallel_catchup_rollback` |
//! | 15 | a catchup that ends takes its successor's queue along | | here |
//! | 16 | under steady writes a catchup never ends | #8519 | here |
//! | 17 | the log is cut before its snapshot is on disk | #7043 | `a_log_is_compacted_only_behind_a_durable_snapshot` in `tests/nrg` |
//! | 18 | a node that is half caught up leads | #7040 | `nrg_snapshot_recovery` |
//! | 19 | a node's own snapshot replaces its leader's newer one | #6053 | here |
//! | 20 | a snapshot contains an uncommitted change of the members | #8332 | `a_change_that_is_truncated_restores_the_members_and_the_quorum` in `tests/cluster_membership` |
//! | 21 | a step-down or transfer clears the vote | #7698 | here |
//! | 22 | a candidate keeps its old vote in a new term | #7956 | here |
//! | 23 | a vote that could not be written is given | #8290 | here |
//! | 24 | an entry of an older term is committed by counting | #7955 | here |
//! | 25 | a wiped disk elects a stale peer | #7038 | here |
//! | 26 | a stale leader proposes in a newer term | #8370 | here |
//! | 27 | who was cut off disturbs the rest when it returns | | here |
//! | 28 | a leader that is cut off commits with whom it adds | #7632 | `a_leader_that_is_cut_off_makes_no_majority_of_those_that_it_adds` in `tests/cluster_membership`, where 29 to 31 and 34 are too |
//! | 29 | two changes of the members at once | #7565 | `a_leader_that_is_cut_off_makes_no_majority_of_those_that_it_adds` |
//! | 30 | a leader that starts again brings removed members back | #7602 | `members_are_the_same_after_a_restart` |
//! | 31 | a removed leader is added again by a transfer | #7649 | `a_leader_that_is_removed_hands_over_and_is_not_added_again` |
//! | 32 | a record that adds a member makes the group one member large when it is read | #7850 | `nrg_replay_add_peer_keeps_cluster_size` |
//! | 33 | a change that is cut off leaves the quorum wrong | #8332 | `nrg_uncommitted_membership_change_gets_truncated` |
//! | 34 | a removed member's vote elects a leader | #8353 | `the_vote_of_a_removed_member_elects_nobody` |

use jetwake::command::{Answer, Role};
use jetwake::config::GroupKind;
use jetwake::event::{Request, TermAndVote};
use jetwake::ids::{ByteCount, GroupId, Index, PeerId, Term};
use jetwake::subject::Subject;
use jetwake::time::Duration;
use jetwake_sim::lone::{self, Append, Applied, Lone, LoneDisk, Message};
use jetwake_sim::workload::quick_timers;
use jetwake_sim::{ClientPlan, Cluster, Setup};

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

fn member() -> Lone {
    Lone::plain(&MEMBERS)
}

/// A member that keeps one record in memory, and reads all others from disk.
fn member_without_cache() -> Lone {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.log_cache = ByteCount::new(1);
    Lone::start(config, LoneDisk::default())
}

/// The record at `index` of a leader's log that is all of one term.
fn record(term: u64, index: u64) -> Append {
    Append::by("n2", term).after(if index > 1 { term } else { 0 }, index - 1).entry("record")
}

/// A follower with so many records of term 1, so many of them committed.
fn follower(records: u64, commit: u64) -> Lone {
    let mut node = member();
    filled(&mut node, records, commit);
    node
}

fn filled(node: &mut Lone, records: u64, commit: u64) {
    (1..=records).for_each(|index| node.hear(&record(1, index)));
    node.hear(&Append::by("n2", 1).after(1, records).commit(commit));
    assert_eq!(node.status().commit, Index::new(commit));
    node.sent();
}

fn texts(node: &Lone) -> Vec<String> {
    node.log().into_iter().map(|(_, text)| text).collect()
}

/// It gives no vote to somebody whose log is shorter than what it once had, and acknowledges nothing.
fn promises_nothing(node: &mut Lone, term: u64, last: u64) {
    node.wait(Duration::from_secs(20));
    node.sent();
    node.ask_vote("n3", 100, term, last);
    assert!(node.votes().iter().all(|vote| !vote.granted), "it may have promised more");
    node.hear(&Append::by("n3", 101).after(term, last));
    assert_eq!(node.acks(), []);
}

#[test]
fn defect_04_an_unreadable_entry_at_the_start_is_not_built_upon() {
    let mut node = follower(3, 2);
    node.restart_after(|disk| disk.tear_record(3));
    promises_nothing(&mut node, 1, 2);
    let mut node = follower(3, 2);
    node.restart_after(|disk| disk.spoil_record(3));
    promises_nothing(&mut node, 1, 2);
    // A leader of a newer term has all that was committed: what joins it is all that was promised.
    node.hear(&Append::by("n3", 101).after(1, 2).entry("after"));
    node.hear(&Append::by("n3", 101).after(101, 3));
    assert_eq!(node.acks().last(), Some(&(101, 3)));
}

#[test]
fn defect_05_a_log_that_does_not_join_its_snapshot_is_not_accepted() {
    let mut node = follower(6, 6);
    node.take_snapshot(3, "state");
    assert_eq!(node.status().first, Index::new(4));
    node.restart_after(|disk| disk.remove_through(4));
    assert!(node.status().commit < Index::new(5));
    promises_nothing(&mut node, 1, 4);
    assert!(node.applied_texts().is_empty(), "record 4 is missing before what is there");
}

#[test]
fn defect_06_another_term_below_the_commit_index_cuts_nothing() {
    for (previous, by_catchup) in [(1, false), (2, false), (3, false), (1, true), (3, true)] {
        let mut node = follower(4, 3);
        let contradiction = Append::by("n3", 2).after(2, previous).entry("another").led_in(2);
        if by_catchup {
            node.hear(&Append::by("n3", 2).after(2, 9));
            node.feed(&contradiction);
        } else {
            node.hear(&contradiction);
        }
        let three = ["record"; 3];
        assert_eq!(texts(&node)[..3], three, "previous {previous}, catchup {by_catchup}");
        let durable = node.disk.durable_log();
        assert!(durable.last() >= Index::new(3));
        assert_eq!(node.acks(), []);
        // What contradicts a committed record itself is told, and nothing more is promised.
        assert_eq!(node.status().aside.is_some(), previous == 3);
    }
}

#[test]
fn defect_07_a_replaced_record_is_not_applied_from_memory() {
    let mut node = follower(1, 1);
    node.hear(&Append::by("n2", 1).after(1, 1).commit(1).entry("stale"));
    node.hear(&Append::by("n2", 1).after(1, 2).commit(1).entry("stale too"));
    node.hear(&Append::by("n3", 2).after(1, 1).commit(1).entry("fresh"));
    node.hear(&Append::by("n3", 2).after(2, 2).commit(2));
    assert_eq!(node.applied_texts(), ["record", "fresh"]);
}

#[test]
fn defect_07_records_that_were_being_read_when_a_snapshot_came_are_not_applied() {
    let mut node = member_without_cache();
    node.disk.hold_loads = true;
    (1..=3).for_each(|index| node.hear(&record(1, index)));
    node.hear(&Append::by("n2", 1).after(1, 3).commit(3));
    assert_eq!(node.applied(), [], "they are being read");

    node.hear(&Append::by("n2", 1).after(1, 12).commit(12));
    node.feed(&Append::by("n2", 1).after(1, 10).commit(10).snapshot("state", &MEMBERS));
    node.disk.answer_loads();
    node.feed(&Append::by("n2", 1).after(1, 10).commit(10).entry("eleven"));
    node.feed(&Append::by("n2", 1).after(1, 11).commit(10).entry("twelve"));
    node.hear(&Append::by("n2", 1).after(1, 12).commit(12));
    node.disk.answer_loads();
    node.hear(&Append::by("n2", 1).after(1, 12).commit(12));
    let Some((Applied::Snapshot { index, .. }, rest)) = node.applied().split_first() else {
        panic!("{:?}", node.applied());
    };
    assert_eq!((*index, rest.len()), (Index::new(10), 2));
    assert_eq!(node.applied_texts(), ["eleven", "twelve"]);
}

#[test]
fn defect_08_a_snapshot_that_ends_with_the_log_leaves_it_as_it_is() {
    // Its own, of all that there is; then it goes on behind it, and starts again there.
    let mut node = follower(5, 5);
    node.take_snapshot(5, "state");
    let status = node.status();
    assert_eq!(
        (status.first, status.last.index, status.commit.get()),
        (Index::new(6), Index::new(5), 5)
    );
    node.restart();
    let last = node.status().last;
    assert_eq!((last.index, last.term), (Index::new(5), Term::new(1)));
    node.hear(&record(1, 6));
    node.hear(&Append::by("n2", 1).after(1, 6).commit(6));
    assert_eq!((node.acks().last(), node.inbox()), (Some(&(1, 6)), None));
    assert_eq!(node.applied_texts(), ["record"]);

    // A leader's, of records that are all here: none of them goes, and none is applied twice.
    let mut node = follower(5, 3);
    node.hear(&Append::by("n2", 1).after(1, 9).commit(3));
    node.feed(&Append::by("n2", 1).after(1, 5).commit(5).snapshot("state", &MEMBERS));
    assert_eq!(texts(&node).len(), 5);
    node.feed(&Append::by("n2", 1).after(1, 3).commit(5).snapshot("state", &MEMBERS));
    assert_eq!((texts(&node).len(), node.applied_texts().len()), (5, 3));
    assert!(node.applied().iter().all(|applied| matches!(applied, Applied::Entries { .. })));
}

#[test]
fn defect_12_neither_a_mismatch_nor_a_cancelled_catchup_is_a_success() {
    // A mismatch: the record is another leader's.
    let mut node = follower(3, 1);
    node.hear(&Append::by("n3", 2).after(2, 3).entry("other"));
    let responses = node.responses();
    assert!(!responses.is_empty() && responses.iter().all(|r| !r.success), "{responses:?}");
    // A vote cancels the catchup: neither the old leader nor what is left of it gets a success.
    let inbox = node.inbox().expect("it asks for what it lacks");
    node.ask_vote("n3", 3, 2, 9);
    assert!(node.votes()[0].granted);
    node.feed_at(&inbox, &Append::by("n3", 2).after(1, 2).entry("other").led_in(2));
    node.hear(&Append::by("n3", 2).after(1, 2).entry("other"));
    node.hear(&Append::by("n3", 2).after(1, 2));
    assert_eq!((node.acks(), texts(&node).len()), (vec![], 2));
}

#[test]
fn defect_15_a_catchup_that_ends_leaves_the_next_alone() {
    // On the follower: the first stalls, the second begins, what is left of the first comes.
    let mut node = member();
    node.hear(&record(1, 3));
    let first = node.inbox().expect("it asks");
    node.wait(node.config().timers.log_catchup_stall);
    let second = node.inbox().expect("it asks again");
    node.feed_at(&first, &record(1, 1));
    assert!(node.listens(&second) && !node.listens(&first));
    (1..=3).for_each(|index| node.feed(&record(1, index)));
    assert_eq!(texts(&node).len(), 3);

    // On the leader: a follower asks at a second inbox while it is fed at the first.
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.log_catchup_in_flight = ByteCount::new(1);
    let mut node = Lone::start(config, LoneDisk::default());
    filled(&mut node, 5, 5);
    node.elect(&["n3"]);
    let term = node.status().term.get();
    let inboxes =
        [Subject::from_static("$NRG.CR.aaaaaaaa"), Subject::from_static("$NRG.CR.bbbbbbbb")];
    let fed = |node: &mut Lone| -> Vec<(Subject, u64)> {
        let sent = node.sent().into_iter().filter(|sent| inboxes.contains(&sent.subject));
        sent.map(|sent| match sent.message {
            // The one without entries tells where the log ends.
            Message::Append(entry) if entry.entries.is_empty() => (sent.subject, u64::MAX),
            Message::Append(entry) => (sent.subject, entry.previous_index.next().get()),
            other => panic!("it feeds {other:?}"),
        })
        .collect()
    };
    node.ask_catchup("n2", (1, 1), &inboxes[0]);
    assert_eq!(fed(&mut node), [(inboxes[0].clone(), 2)], "one record fits the window");
    node.ask_catchup("n2", (1, 1), &inboxes[1]);
    assert_eq!(fed(&mut node), [(inboxes[1].clone(), 2)]);
    for index in 3..=5 {
        node.respond("n2", (1, index - 1, false), None);
        assert_eq!(fed(&mut node), [(inboxes[1].clone(), index)]);
    }
    node.respond("n2", (1, 5, false), None);
    assert_eq!(fed(&mut node), [(inboxes[1].clone(), 6), (inboxes[1].clone(), u64::MAX)]);
    node.respond("n2", (term, 6, true), None);
    assert_eq!(fed(&mut node), []);
}

#[test]
fn defect_16_a_catchup_ends_under_steady_writes() {
    // Whether live entries are held for its end or not.
    for held in [ByteCount::ZERO, ByteCount::new(10_000_000)] {
        let mut setup = Setup { timers: quick_timers(), ..Setup::plain(3) };
        setup.limits.follower_held = held;
        setup.limits.log_catchup_in_flight = ByteCount::new(10_000);
        let mut cluster = Cluster::new(16, setup);
        let group = GroupId(0);
        cluster.wait_for_leader(group);
        let interval = Duration::from_millis(4);
        cluster.add_client(ClientPlan { interval, ..ClientPlan::default() });
        cluster.run_for(Duration::from_secs(1));
        let follower = cluster.followers(group)[0];
        cluster.crash(follower);
        cluster.run_for(Duration::from_secs(2));
        cluster.restart(follower);
        cluster.run_for(Duration::from_millis(500));
        cluster.wait("the catchup ends", Duration::from_secs(5), |cluster| {
            let node = cluster.process(follower).node.as_ref();
            let status = node.and_then(|node| node.status(group));
            status.is_some_and(|status| !status.catchup.is_under_way() && status.leader.is_some())
        });
        cluster.settle_soundly();
    }
}

/// Seen red with an older snapshot let through in `Raft::take_snapshot`.
#[test]
fn defect_19_an_own_snapshot_does_not_replace_the_leaders_newer_one() {
    let mut node = follower(3, 3);
    node.hear(&record(1, 9));
    node.feed(&Append::by("n2", 1).after(1, 8).commit(8).snapshot("eight", &MEMBERS));
    let covered = |node: &Lone| node.disk.durable_log().snapshot_index();
    assert_eq!(covered(&node), Index::new(8));
    node.take_snapshot(3, "three");
    assert_eq!(covered(&node), Index::new(8));
    node.restart();
    assert_eq!((covered(&node), node.status().commit), (Index::new(8), Index::new(8)));
}

fn kept_vote(node: &Lone) -> Option<TermAndVote> {
    node.disk.durable_log().vote()
}

#[test]
fn defect_21_a_vote_outlives_the_leadership_that_it_made() {
    for restarted in [false, true] {
        let mut node = member();
        node.elect(&["n2"]);
        let status = node.status();
        let vote = Some(TermAndVote { term: status.term, vote: Some(node.me()) });
        node.acknowledge("n2", status.term.get(), 1);
        node.request(Request::StepDown { to: Some(PeerId::from_name("n3")) });
        assert_eq!(node.status().role, Some(Role::Follower));
        if restarted {
            node.restart();
        }
        node.sent();
        // Another candidate of the same term, with a log as good as ours.
        let (term, last) = (status.term.get(), node.status().last);
        node.ask_vote("n3", term, last.term.get(), last.index.get());
        let votes = node.votes();
        assert!(votes.len() == 1 && !votes[0].granted, "{votes:?}");
        assert_eq!(kept_vote(&node), vote);
    }
}

#[test]
fn defect_22_a_new_term_begins_without_a_vote() {
    let candidate = || {
        let mut node = member();
        node.wait_until("it asks for votes", |node| node.status().role == Some(Role::Candidate));
        assert_eq!(kept_vote(&node).and_then(|kept| kept.vote), Some(node.me()));
        node
    };
    let mut node = candidate();
    node.hear(&Append::by("n2", 7));
    assert_eq!(kept_vote(&node), Some(TermAndVote { term: Term::new(7), vote: None }));

    let mut node = candidate();
    node.answer_vote("n2", (8, false, false));
    assert_eq!(kept_vote(&node), Some(TermAndVote { term: Term::new(8), vote: None }));

    let mut node = candidate();
    node.ask_vote("n2", 9, 8, 1);
    let vote = Some(PeerId::from_name("n2"));
    assert_eq!(kept_vote(&node), Some(TermAndVote { term: Term::new(9), vote }));
    assert!(node.votes()[0].granted);
}

#[test]
fn defect_23_a_vote_leaves_when_it_is_written() {
    let mut node = follower(1, 1);
    node.hold_writes();
    node.ask_vote("n2", 5, 1, 1);
    assert_eq!(node.votes(), []);
    node.perform_writes();
    assert!(node.votes()[0].granted);
    // Asked again, and the answer was lost: it is the same, at once.
    node.ask_vote("n2", 5, 1, 1);
    assert!(node.votes()[0].granted);

    let mut node = follower(1, 1);
    node.disk.fail_writes = true;
    node.ask_vote("n2", 5, 1, 1);
    assert_eq!(node.votes(), []);
    assert!(node.status().aside.is_some_and(|why| why.contains("a write failed")));
    node.wait(Duration::from_secs(60));
    assert_eq!(node.sent(), []);
}

#[test]
fn defect_24_an_older_terms_entry_is_not_committed_by_counting() {
    // Figure 8 of the Raft paper: this node leads in term 2, its record reaches one other of five.
    let mut node = Lone::plain(&["n1", "n2", "n3", "n4", "n5"]);
    node.hear(&Append::by("n5", 1).entry("one"));
    node.elect(&["n2", "n3"]);
    let second = node.status().term.get();
    assert_eq!(node.status().last.index, Index::new(2));
    node.acknowledge("n2", second, 2);
    // It dies, another leads in between and dies, and it leads again.
    node.restart();
    node.hear(&Append::by("n5", second + 1).after(1, 1));
    node.elect(&["n2", "n3"]);
    let fourth = node.status().term.get();
    assert!(fourth > second + 1);
    // The record of term 2 is on three of five now, and is not committed.
    for peer in ["n2", "n3"] {
        node.acknowledge(peer, second, 2);
    }
    assert_eq!(node.status().commit, Index::ZERO);

    let mut other = node;
    // Another may still be elected and replace it ...
    other.hear(&Append::by("n5", fourth + 1).after(1, 1).entry("another"));
    assert_eq!(texts(&other), ["one", "another"]);
    // ... unless a record of this node's own term reached a quorum first.
    other.elect(&["n2", "n3"]);
    let last = other.status().last.index.get();
    for peer in ["n2", "n3"] {
        other.acknowledge(peer, other.status().term.get(), last);
    }
    assert_eq!(other.status().commit, Index::new(last));
}

#[test]
fn defect_25_votes_of_empty_logs_elect_nobody_unless_all_are_empty_or_heard() {
    let mut node = member();
    node.wait_until("it asks for votes", |node| node.status().role == Some(Role::Candidate));
    let term = node.status().term.get();
    node.answer_vote("n2", (term, true, true));
    node.answer_vote("n2", (term, true, true));
    assert_eq!(node.status().role, Some(Role::Candidate), "n2 may have lost what it acknowledged");
    node.answer_vote("n3", (term, true, true));
    assert_eq!(node.status().role, Some(Role::Leader), "all have been heard");

    // A voter whose disk was wiped does not hide it.
    let mut node = follower(3, 3);
    node.restart_after(LoneDisk::wipe);
    node.ask_vote("n3", 5, 1, 1);
    assert!(node.votes().iter().all(|vote| vote.empty || !vote.granted));
}

#[test]
fn defect_26_nothing_of_an_old_leadership_is_proposed_in_a_new_one() {
    let mut node = member();
    node.elect(&["n2"]);
    let first = node.status().term.get();
    node.acknowledge("n2", first, 1);
    let lost = node.propose("lost");
    node.hear(&Append::by("n3", first + 1).after(first, 1).commit(1).entry("theirs"));
    let told = node.answer_to(lost).cloned();
    assert!(matches!(&told, Some(Answer::Json(json)) if json.starts_with(b"{\"error\"")));

    node.elect(&["n2"]);
    let (term, last) = (node.status().term.get(), node.status().last.index.get());
    // It does not know yet what it inherited: it takes nothing.
    let early = node.propose("early");
    assert!(node.answer_to(early).is_some());
    node.acknowledge("n2", term, last);
    let late = node.propose("late");
    node.acknowledge("n2", term, last + 1);
    assert_eq!(
        node.answer_to(late),
        Some(&Answer::Json(format!("{{\"index\":{}}}", last + 1).into()))
    );
    assert_eq!(node.answer_to(lost).cloned(), told, "it is told once");
    assert_eq!(node.applied_texts(), ["theirs", "late"]);
}

#[test]
fn defect_27_who_was_cut_off_does_not_disturb_a_live_leader() {
    let mut node = follower(2, 2);
    // Its log is the longer one, even.
    node.ask_vote("n3", 50, 1, 9);
    assert_eq!((node.sent(), node.status().term), (vec![], Term::new(1)));
    // The leader hands over: then its heir is heard.
    let heir = PeerId::from_name("n3");
    let transfer = jetwake::wire::EntryKind::LeaderTransfer;
    node.hear(&Append::by("n2", 1).after(1, 2).part(transfer, heir.as_bytes().to_vec()));
    node.sent();
    node.ask_vote("n3", 2, 1, 3);
    assert!(node.votes()[0].granted);

    // A leader that a quorum follows ignores the request too, and wins its office back at once if the
    // one who returned makes it hear of a newer term.
    let mut node = member();
    node.elect(&["n2"]);
    let term = node.status().term.get();
    node.acknowledge("n2", term, 1);
    node.ask_vote("n3", 50, term, 9);
    assert_eq!(node.status().role, Some(Role::Leader));
    node.respond("n3", (50, 1, false), None);
    node.wait(Duration::from_millis(1));
    assert_eq!((node.status().role, node.status().term), (Some(Role::Candidate), Term::new(51)));
}
