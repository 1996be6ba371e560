//! What a damaged, an empty and an old disk may promise: one real node, message by message. The
//! reasons stand in `docs/decisions.md`, in the order of these tests.

use jetwake::command::Report;
use jetwake::event::{Loss, Standing};
use jetwake::ids::Term;
use jetwake_sim::lone::{Append, Lone, Message};

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

/// A member that has acknowledged three records of term 4, in which it voted for `n2`.
fn member() -> Lone {
    let mut node = Lone::plain(&MEMBERS);
    node.ask_vote("n2", 4, 0, 0);
    node.hear(&Append::by("n2", 4).entry("one"));
    node.hear(&Append::by("n2", 4).after(4, 1).entry("two"));
    node.hear(&Append::by("n2", 4).after(4, 2).entry("three"));
    assert_eq!(node.acks().last(), Some(&(4, 3)));
    node
}

fn lost(node: &Lone) -> Option<Loss> {
    match node.status().standing {
        Standing::Impaired(impairment) => Some(impairment.lost),
        _ => None,
    }
}

/// Who is asked for its term by what the node sent.
fn asks(node: &mut Lone) -> usize {
    let sent = node.sent();
    let questions = sent.iter().filter(
        |sent| matches!(&sent.message, Message::VoteRequest(request) if request.term == Term::ZERO),
    );
    questions.count()
}

#[test]
fn an_old_heartbeat_of_the_leader_proves_nothing() {
    let mut node = member();
    node.restart_after(|disk| disk.spoil_record(2));
    // It is from before the third record: the log that it describes is not all that was promised.
    node.hear(&Append::by("n2", 4).after(4, 1).commit(1));
    node.feed(&Append::by("n2", 4).after(4, 1).entry("two").led_in(4));
    node.hear(&Append::by("n2", 4).after(4, 2).commit(2));
    assert!(lost(&node).is_some() && node.acks().is_empty());
    node.feed(&Append::by("n2", 4).after(4, 2).entry("three").led_in(4));
    node.feed(&Append::by("n2", 4).after(4, 3).led_in(4));
    assert_eq!(lost(&node), None);
}

#[test]
fn a_record_of_a_newer_term_proves_that_nothing_committed_is_missing() {
    let mut node = member();
    node.restart_after(|disk| disk.spoil_record(1));
    node.hear(&Append::by("n3", 5).after(4, 3).commit(3));
    for (index, text) in [(0, "one"), (1, "two"), (2, "three")] {
        let before = if index > 0 { 4 } else { 0 };
        let mut append = Append::by("n2", 4).after(before, index).entry(text);
        append = append.led_in(5);
        node.feed(&append);
        assert!(lost(&node).is_some());
    }
    node.hear(&Append::by("n3", 5).after(4, 3).commit(3).entry("four"));
    assert_eq!(lost(&node), None, "a leader of term 5 had all that term 4 committed");
    node.hear(&Append::by("n3", 5).after(5, 4));
    assert_eq!(node.acks().last(), Some(&(5, 4)));
}

#[test]
fn a_crash_in_the_middle_of_a_repair_begins_it_anew() {
    let mut node = member();
    node.restart_after(|disk| disk.spoil_record(2));
    node.hear(&Append::by("n2", 4).after(4, 3).commit(3));
    node.feed(&Append::by("n2", 4).after(4, 1).entry("two").led_in(4));
    // Nothing that can be seen is wrong with the disk now, but the third record is not there.
    node.restart();
    assert_eq!(lost(&node), Some(Loss::Records { promised: Term::new(4) }));
    node.sent();
    node.ask_vote("n3", 5, 4, 2);
    assert!(node.votes().iter().all(|vote| !vote.granted));
    node.hear(&Append::by("n2", 4).after(4, 3).commit(3));
    node.feed(&Append::by("n2", 4).after(4, 2).entry("three").led_in(4));
    node.feed(&Append::by("n2", 4).after(4, 3).led_in(4));
    assert_eq!(lost(&node), None);
}

#[test]
fn what_is_lost_is_on_disk_before_anything_is_discarded() {
    let mut node = member();
    node.restart_after(|disk| {
        disk.spoil_record(2);
        disk.hold_writes = true;
    });
    assert_eq!(node.disk.waiting(), 2);
    node.perform_one_write();
    assert!(node.disk.durable_log().is_impaired());
    assert_eq!(node.disk.durable_log().last().get(), 3, "the truncation comes behind it");
}

#[test]
fn without_its_votes_it_hears_every_other_member_before_it_listens() {
    let mut node = member();
    node.restart_after(|disk| disk.lose_votes());
    assert_eq!(lost(&node), Some(Loss::Votes));
    assert_eq!(asks(&mut node), 1);
    // A candidate of a newer term and a leader: it voted for either, or for neither.
    node.ask_vote("n3", 7, 4, 3);
    node.hear(&Append::by("n2", 6).after(4, 3).commit(3));
    let said = node.sent();
    assert!(said.iter().all(|sent| match &sent.message {
        Message::VoteResponse(vote) => !vote.granted,
        Message::AppendResponse(response) => !response.success,
        _ => true,
    }));
    node.answer_vote("n2", (6, false, false));
    assert_eq!(lost(&node), Some(Loss::Votes), "one is not enough: the other may have its vote");
    node.wait(node.config().timers.heartbeat);
    assert_eq!(asks(&mut node), 1, "who was silent is asked again");
    node.answer_vote("n3", (7, false, false));
    assert_eq!(node.status().standing, Standing::Whole, "its records are all there");
    assert_eq!(node.status().term, Term::new(7));
    // In the terms that it may have voted in it listens to no older leader, and votes for nobody.
    node.sent();
    node.hear(&Append::by("n2", 6).after(4, 3).commit(3));
    assert!(node.acks().is_empty());
    node.ask_vote("n3", 7, 4, 3);
    assert!(node.votes().iter().all(|vote| !vote.granted));
    node.ask_vote("n3", 8, 4, 3);
    assert!(node.votes().iter().any(|vote| vote.granted), "term 8 is new to it");
}

#[test]
fn an_empty_disk_in_an_old_group_lost_everything() {
    let mut node = member();
    node.restart_after(jetwake_sim::lone::LoneDisk::wipe);
    assert_eq!(node.status().standing, Standing::Unknown);
    assert_eq!(asks(&mut node), 1);
    node.answer_vote("n2", (4, false, true));
    assert_eq!(node.status().standing, Standing::Unknown, "another empty one proves nothing");
    node.answer_vote("n3", (4, false, false));
    assert_eq!(lost(&node), Some(Loss::Everything));
    node.answer_vote("n2", (4, false, true));
    node.answer_vote("n3", (4, false, false));
    // It takes everything from the leader, and promises nothing before it has it.
    node.sent();
    node.ask_vote("n3", 4, 4, 3);
    assert!(node.votes().iter().all(|vote| !vote.granted && !vote.empty));
    node.hear(&Append::by("n2", 4).after(4, 3).commit(3));
    for (index, text) in [(0, "one"), (1, "two"), (2, "three")] {
        let before = if index > 0 { 4 } else { 0 };
        node.feed(&Append::by("n2", 4).after(before, index).entry(text).led_in(4));
    }
    assert!(lost(&node).is_some() && node.acks().is_empty());
    node.feed(&Append::by("n2", 4).after(4, 3).led_in(4));
    assert_eq!(lost(&node), None);
    assert!(node.reports().iter().any(|report| matches!(report, Report::Repaired { .. })));
}

#[test]
fn empty_disks_of_all_members_begin_a_group() {
    let mut node = Lone::plain(&MEMBERS);
    node.restart_after(jetwake_sim::lone::LoneDisk::wipe);
    node.sent();
    node.ask_vote("n2", 1, 0, 0);
    let votes = node.votes();
    assert!(votes.iter().all(|vote| !vote.granted && vote.empty), "it says that it is empty");
    node.answer_vote("n2", (1, false, true));
    node.answer_vote("n3", (0, false, true));
    assert_eq!(node.status().standing, Standing::Whole);
    assert!(!node.reports().iter().any(|report| matches!(report, Report::Impaired(_))));
    node.ask_vote("n2", 2, 0, 0);
    assert!(node.votes().iter().any(|vote| vote.granted));
    node.restart();
    assert_eq!(node.status().standing, Standing::Whole, "that is known for good");
}

#[test]
fn a_snapshot_that_cannot_be_read_is_not_missed_by_a_log_that_reaches_back() {
    let mut node = member();
    node.restart_after(|disk| disk.lose_snapshot());
    assert_eq!(node.status().standing, Standing::Whole);
    assert!(node.reports().iter().any(|report| matches!(report, Report::Damaged(_))));
}

#[test]
fn a_member_that_is_alone_says_that_nobody_has_its_records() {
    let mut node = Lone::plain(&["n1"]);
    node.elect(&[]);
    node.restart_after(|disk| disk.spoil_record(1));
    node.wait(node.config().timers.election_max * 3);
    let status = node.status();
    assert!(matches!(status.standing, Standing::Impaired(_)));
    assert!(status.repair.is_some_and(|waits| waits.contains("no other member")));
}
