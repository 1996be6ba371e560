//! Defects that others had in their streams, each as a situation of ours, named after its number in the
//! list below. Those of the consensus are in `tests/reliability_raft.rs`.
//!
//! | # | defect | upstream | test |
//! |---|---|---|---|
//! | 35 | retries run out, and the log is deleted | #5939, #5986 | here |
//! | 36 | messages are sent, or deleted, past the range that was asked for | #6038, #6213 | here |
//! | 37 | a leader that is behind on applies serves what is deleted later | #6216 | here |
//! | 38 | a node stops in the middle of a catchup, and makes a snapshot of what it lacks | #6459 | here |
//! | 39 | an early end of an old leader is accepted | #6943 | here |
//! | 40 | a skip out of order shifts every later sequence | #7400 | here |
//! | 41 | a leader that has to catch up with a snapshot does not pause | #8021 | here |
//! | 42 | what cannot be stored ends a catchup in silence | #8265 | `who_has_a_full_disk_tells_who_serves_it_at_once` |
//! | 43 | a migration removes the old member before the catchup has ended | #8460 | `who_is_left_gets_what_it_lacks_from_who_goes` in `tests/cluster_membership.rs` |
//! | 44 | a proposal that fails moves the sequence on | #8057 | `a_proposal_that_is_not_taken_costs_no_sequence` |
//! | 45 | ids in flight outlive a change of the leader | #6486 | `ids_in_flight_do_not_outlive_the_leadership` |
//! | 46 | one dead peer holds what all share | | `those_who_are_served_share_the_room_in_turn`, `a_silent_follower_is_given_up_after_thirty_seconds` |
//! | 47 | a catchup is slow with many deletes | #6687, #7512, #4929, #4695 | here |
//! | 48 | a batch is abandoned and begun again in one record | #7316 | `a_batch_that_is_begun_again_counts_from_its_new_beginning` |
//! | 49 | half a batch survives a change of the leader | #7321 | `half_a_batch_in_the_log_is_stored_by_nobody`, `batches_that_are_gathered_go_with_the_leadership` |
//! | 50 | a batch that is applied is replayed behind a compaction | #7322 | `a_start_in_the_middle_of_batches_stores_each_once` |
//! | 51 | a snapshot in the middle of a batch | 2025 | here |
//! | 52 | assets of newer versions are dropped | #7158 | `jetstream_cluster_offline_…` in `tests/meta/offline.rs` |
//! | 53 | healthy before the catchup is applied | #5976, #7535 | `a_stream_is_healthy_when_group_and_messages_are_there` in `tests/cluster_stream.rs` |
//! | 54 | replicas begin with different messages when one removes what has ended | #3567, #3596 | `replicas_begin_with_the_same_message_whenever_each_of_them_hears_of_the_time` |

use bytes::Bytes;
use jetwake::ids::{Index, PeerId, Sequence};
use jetwake::stream::Notice;
use jetwake::subject::{Kind, Subject};
use jetwake::wire::{DeleteRange, Op, StreamMessageView, SyncRequest};

use crate::catchup::{behind, carry, install, message, request_of, snapshot, stored};
use crate::rig::{Log, Replica, Store, assert_same, leader};

#[test]
fn defect_35_a_catchup_that_fails_again_and_again_gives_nothing_up() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let before = (two.kept(), two.stream.applied());
    for _ in 0..20 {
        two.wait();
    }
    let asked = two.sent.drain(..).filter(|sent| matches!(kind(&sent.subject), Kind::Sync(_)));
    assert!(asked.count() > 6, "more than twice as often as before it rests");
    assert_eq!((two.kept(), two.stream.applied()), before);
    assert!(two.step(|stream, cx| stream.paused(cx)) && two.notices.is_empty());
    while two.sent.is_empty() {
        two.wait();
    }
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
}

/// The first and last sequence of everything that a catchup carries, the end left out.
fn spans(sent: impl IntoIterator<Item = Bytes>, one: &Replica) -> Vec<(u64, u64)> {
    let span = |payload: &Bytes| match Op::of(payload).expect("it is not empty") {
        Op::DeleteRange => {
            let range = DeleteRange::decode(payload, &one.limits).expect("a range");
            (range.first.get(), range.last().expect("not empty").get())
        }
        _ => {
            let mut unpacked = Vec::new();
            let view = StreamMessageView::decode(payload, &mut unpacked, &one.limits);
            let sequence = view.expect("a message").sequence.get();
            (sequence, sequence)
        }
    };
    sent.into_iter().filter(|payload| !payload.is_empty()).map(|payload| span(&payload)).collect()
}

/// Serves a range to a peer that does not ask for a state, and takes what is sent.
pub(crate) fn served(one: &mut Replica, first: u64, last: u64) -> Vec<Bytes> {
    let request = SyncRequest {
        peer: Some(PeerId::from_name("n2")),
        first: Sequence::new(first),
        last: Sequence::new(last),
        delete_ranges: true,
        min_applied: Index::ZERO,
        ..SyncRequest::default()
    };
    let (from, inbox) = (request.peer, Some(Subject::from_static("$JSC.R.abcdefgh")));
    let (log, payload) = (one.stream.applied(), request.to_bytes());
    one.with_stream(|stream, cx| stream.handle_sync_request(cx, from, inbox, &payload, log));
    let mut payloads = Vec::new();
    while let Some(sent) = one.sent.pop_front() {
        if let Some(Kind::SyncAck { token, bytes }) = sent.reply.as_ref().and_then(Kind::parse) {
            let bytes = bytes.expect("the bytes");
            one.with_stream(|stream, cx| {
                stream.handle_catchup_ack(cx, token, bytes, &Bytes::new());
            });
        }
        payloads.push(sent.payload);
    }
    payloads
}

fn kind(subject: &Subject) -> Kind {
    Kind::parse(subject).expect("a subject of ours")
}

/// A leader with so many messages of one subject.
fn leader_with(messages: u64) -> (Replica, Log) {
    let (mut one, mut log) = leader();
    for _ in 0..messages {
        log.publish(&mut one, "s.1", "x");
    }
    log.commit_to(&mut [&mut one]);
    (one, log)
}

#[test]
fn defect_36_nothing_past_the_range_is_sent_or_taken_or_deleted() {
    let (mut one, mut log) = leader_with(100);
    // A run of deletes begins in the range and ends behind it.
    (45..=60).for_each(|sequence| _ = log.delete(&mut one, sequence));
    log.commit_to(&mut [&mut one]);
    let sent = served(&mut one, 21, 50);
    assert_eq!(sent.last(), Some(&Bytes::new()), "the end");
    let spans = spans(sent, &one);
    assert_eq!((spans[0].0, spans.last()), (21, Some(&(45, 50))));

    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    let past = DeleteRange { first: Sequence::new(21), count: 81 };
    two.receive(&message(&request, past.to_bytes()));
    assert_eq!(two.stream.state().last.get(), 20, "none of it");
    assert!(two.reports.last().is_some_and(|why| why.contains("sequence 101 is beyond 100")));
}

#[test]
fn defect_37_a_leader_that_is_behind_on_applies_serves_when_it_is_not() {
    let (mut one, mut log) = leader_with(30);
    let mut behind = Replica::new("n3", Store::default());
    log.feed(&mut behind);
    log.delete(&mut one, 25);
    log.commit_to(&mut [&mut one]);
    let (index, state) = snapshot(&mut one);
    // It leads now, and has not applied the delete that the snapshot tells of.
    behind.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut two = Replica::new("n2", Store::default());
    let leads = Some(behind.me);
    two.with_stream(|stream, cx| {
        stream.set_leader(cx, leads);
        stream.install(cx, index, jetwake::ids::Term::new(3), &state).expect("good");
    });
    let request = request_of(&mut two);
    let (from, reply) = (Some(two.me), request.reply);
    let last = index;
    let payload = request.payload;
    behind.with_stream(|stream, cx| stream.handle_sync_request(cx, from, reply, &payload, last));
    assert!(behind.sent.is_empty(), "message 25 is there, and must not be sent");
    log.feed(&mut behind);
    carry(&mut behind, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
}

#[test]
fn defect_38_a_node_that_stops_in_a_catchup_makes_no_snapshot_of_what_it_lacks() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    two.receive(&message(&request, stored(&one, 21)));
    assert!(!two.with_stream(|stream, cx| stream.snapshot(cx)));
    let mut two = two.restart();
    assert!(two.stream.applied() < index, "it stands where it stood before");
    install(&mut two, index, &state);
    assert!(!two.with_stream(|stream, cx| stream.snapshot(cx)));
    carry(&mut one, &mut two);
    assert_same(&one, &two);
}

#[test]
fn defect_39_an_end_of_an_old_leader_ends_nothing() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let old = request_of(&mut two);
    let third = Some(PeerId::from_name("n3"));
    two.with_stream(|stream, cx| stream.set_leader(cx, third));
    let asked = request_of(&mut two);
    let end = |request| crate::rig::Sent { reply: None, ..message(request, Bytes::new()) };
    two.receive(&end(&old));
    two.receive(&crate::rig::Sent { from: one.me, ..end(&asked) });
    assert!(two.stream.is_catching_up() && two.reports.iter().all(|why| !why.contains("the end")));
    // Nor does one of whom was asked, before all is there.
    two.receive(&end(&asked));
    assert!(two.stream.is_catching_up());
    assert!(two.reports.last().is_some_and(|why| why.contains("the end came at sequence 20")));
    let again = Some(one.me);
    two.with_stream(|stream, cx| stream.set_leader(cx, again));
    two.wait();
    carry(&mut one, &mut two);
    assert_same(&one, &two);
}

#[test]
fn defect_40_a_skip_out_of_order_shifts_nothing() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    let skip = StreamMessageView::skip(Sequence::new(22)).to_bytes().expect("short");
    two.receive(&message(&request, skip));
    assert_eq!(two.stream.state().last.get(), 20);
    two.receive(&message(&request, stored(&one, 21)));
    assert_eq!(two.stream.state().last.get(), 20, "nothing more is taken of that catchup");
    two.wait();
    carry(&mut one, &mut two);
    assert_same(&one, &two);
}

#[test]
fn defect_41_a_leader_that_has_to_catch_up_pauses_and_leads_no_longer() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    let me = Some(two.me);
    two.with_stream(|stream, cx| {
        stream.set_leader(cx, me);
        stream.install(cx, index, jetwake::ids::Term::new(3), &state).expect("good");
    });
    assert!(two.notices.iter().any(|notice| matches!(notice, Notice::StepDown(_))));
    assert!(two.step(|stream, cx| stream.paused(cx)), "nothing is applied on top of a hole");
    let leads = Some(one.me);
    two.with_stream(|stream, cx| stream.set_leader(cx, leads));
    carry(&mut one, &mut two);
    assert_same(&one, &two);
}

#[test]
fn defect_47_what_is_sent_grows_with_the_messages_and_not_with_the_deletes() {
    let (mut one, mut log) = leader_with(3_000);
    (10..=2_990).for_each(|sequence| _ = log.delete(&mut one, sequence));
    log.commit_to(&mut [&mut one]);
    let sent = served(&mut one, 1, 3_000);
    // Nine messages, one range, ten messages, and the end.
    assert_eq!(sent.len(), 21);
    let spans = spans(sent, &one);
    assert!(spans.contains(&(10, 2_990)), "{spans:?}");
}

#[test]
fn defect_51_no_snapshot_is_taken_in_the_middle_of_a_batch() {
    let config = jetwake::wire::StreamConfig { allow_atomic: true, ..crate::rig::config() };
    let limits = jetwake::limits::Limits::default();
    let mut one = Replica::with("n1", Store::default(), config.clone(), limits.clone());
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut log = Log::new();
    log.split_after = Some(1);
    log.publish(&mut one, "s.1", "before");
    let part =
        |number, commit: &str| format!("Nats-Batch-Id: b\r\nNats-Batch-Sequence: {number}{commit}");
    log.publish_with(&mut one, "s.1", &part(1, ""), "x");
    log.publish_with(&mut one, "s.1", &part(2, "\r\nNats-Batch-Commit: 1"), "y");
    log.commit();
    let mut two = Replica::with("n2", Store::default(), config, limits);
    // One record holds one entry: the first is whole, the second half a batch.
    log.feed_through(&mut two, Index::new(2));
    assert_eq!(two.stream.state().last.get(), 1, "half a batch is not visible");
    assert!(!two.with_stream(|stream, cx| stream.snapshot(cx)));
    log.feed(&mut two);
    log.feed(&mut one);
    assert!(two.with_stream(|stream, cx| stream.snapshot(cx)));
    assert_same(&one, &two);
}
