//! Batches: all of their messages are stored, or none.

use jetwake::ids::ByteCount;
use jetwake::limits::Limits;
use jetwake::time::Duration;
use jetwake::wire::{DiscardPolicy, StreamConfig};

use crate::rig::{Log, Replica, Store, ack, assert_same, config, error, two};

pub(crate) fn atomic() -> StreamConfig {
    StreamConfig { allow_atomic: true, allow_rollup_hdrs: true, ..config() }
}

pub(crate) fn fields(id: &str, number: u64, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!("\r\n{more}") };
    format!("Nats-Batch-Id: {id}\r\nNats-Batch-Sequence: {number}{more}")
}

pub(crate) fn part(log: &mut Log, one: &mut Replica, id: &str, number: u64, more: &str) -> u64 {
    log.publish_with(one, &format!("s.{number}"), &fields(id, number, more), "x")
}

pub(crate) const COMMIT: &str = "Nats-Batch-Commit: 1";

/// A batch of so many messages; the request that commits it.
pub(crate) fn batch(log: &mut Log, one: &mut Replica, id: &str, size: u64) -> u64 {
    for number in 1..size {
        let kept = part(log, one, id, number, "");
        assert_eq!(one.answer(kept), "", "an empty acknowledgement");
        assert!(one.answered(kept));
    }
    part(log, one, id, size, COMMIT)
}

pub(crate) fn incomplete() -> String {
    error(400, 10176, "atomic publish batch is incomplete")
}

#[test]
fn a_batch_is_stored_when_it_is_committed() {
    let (mut one, mut two, mut log) = two(&atomic());
    let done = batch(&mut log, &mut one, "uuid", 3);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(done), r#"{"stream":"S","seq":3,"batch":"uuid","count":3}"#);
    assert_eq!(one.kept(), [1, 2, 3]);
    let alone = part(&mut log, &mut one, "alone", 1, COMMIT);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(alone), r#"{"stream":"S","seq":4,"batch":"alone","count":1}"#);
    assert_same(&one, &two);
    assert_same(&one.restart(), &two);
}

#[test]
fn an_end_that_is_not_stored_commits_what_came_before() {
    let (mut one, mut two, mut log) = two(&atomic());
    part(&mut log, &mut one, "uuid", 1, "");
    part(&mut log, &mut one, "uuid", 2, "");
    let done = part(&mut log, &mut one, "uuid", 3, "Nats-Batch-Commit: eob");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(done), r#"{"stream":"S","seq":2,"batch":"uuid","count":2}"#);
    let last = one.store.messages.values().last().expect("stored");
    let header = b"Nats-Batch-Commit: 1\r\n\r\n";
    assert!(last.windows(header.len()).any(|part| part == header));
    assert_same(&one, &two);
    let empty = part(&mut log, &mut one, "none", 1, "Nats-Batch-Commit: eob");
    assert_eq!(one.answer(empty), incomplete());
}

#[test]
fn what_is_wrong_with_a_batch_is_said_as_upstream_does() {
    let (mut plain, _, mut log) = two(&config());
    let off = part(&mut log, &mut plain, "uuid", 1, "");
    assert_eq!(plain.answer(off), error(400, 10174, "atomic publish is disabled"));
    let (mut one, _, mut log) = two(&atomic());
    let long = part(&mut log, &mut one, &"x".repeat(65), 1, "");
    assert_eq!(one.answer(long), error(400, 10179, "atomic publish batch ID is invalid"));
    let missing = log.publish_with(&mut one, "s.a", "Nats-Batch-Id: uuid", "x");
    assert_eq!(one.answer(missing), error(400, 10175, "atomic publish sequence is missing"));
    let behind = part(&mut log, &mut one, "uuid", 2, "");
    assert_eq!(one.answer(behind), incomplete());
    let beyond = part(&mut log, &mut one, "uuid", 1001, "");
    let large = error(400, 10199, "atomic publish batch is too large: 1000");
    assert_eq!(one.answer(beyond), large);
    part(&mut log, &mut one, "uuid", 1, "");
    let wrong = part(&mut log, &mut one, "uuid", 2, "Nats-Batch-Commit: yes");
    assert_eq!(one.answer(wrong), error(400, 10200, "atomic publish batch commit is invalid"));
    let gone = part(&mut log, &mut one, "uuid", 2, COMMIT);
    assert_eq!(one.answer(gone), incomplete());
}

#[test]
fn a_gap_ends_a_batch() {
    let (mut one, _, mut log) = two(&atomic());
    part(&mut log, &mut one, "uuid", 1, "");
    let gap = part(&mut log, &mut one, "uuid", 3, "");
    assert_eq!(one.answer(gap), incomplete());
    let late = part(&mut log, &mut one, "uuid", 2, COMMIT);
    assert_eq!(one.answer(late), incomplete());
    log.commit_to(&mut [&mut one]);
    assert!(one.kept().is_empty());
}

#[test]
fn a_batch_is_given_up_in_time() {
    let (mut one, _, mut log) = two(&atomic());
    part(&mut log, &mut one, "slow", 1, "");
    one.pass(&mut log, Duration::from_secs(9));
    part(&mut log, &mut one, "slow", 2, "");
    one.pass(&mut log, Duration::from_secs(1));
    let late = part(&mut log, &mut one, "slow", 3, COMMIT);
    assert_eq!(one.answer(late), incomplete());
    assert_eq!(one.stream.deadline(), None);
}

#[test]
fn batches_are_bounded_in_number_length_and_bytes() {
    let limits = Limits {
        batches: 2,
        batch_messages: 3,
        batch_bytes: ByteCount::new(1000),
        ..Limits::default()
    };
    let mut one = Replica::with("n1", Store::default(), atomic(), limits);
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut log = Log::new();
    part(&mut log, &mut one, "a", 1, "");
    part(&mut log, &mut one, "b", 1, "");
    let third = part(&mut log, &mut one, "c", 1, "");
    assert_eq!(one.answer(third), incomplete());
    part(&mut log, &mut one, "a", 2, "");
    part(&mut log, &mut one, "a", 3, "");
    let large = part(&mut log, &mut one, "a", 4, COMMIT);
    let text = "atomic publish batch is too large: 3";
    assert_eq!(one.answer(large), error(400, 10199, text));
    // There is room for another now.
    part(&mut log, &mut one, "c", 1, "");
    let heavy = log.publish_with(&mut one, "s.2", &fields("c", 2, ""), &"x".repeat(1000));
    assert_eq!(one.answer(heavy), error(400, 10199, text));
    let whole = part(&mut log, &mut one, "b", 2, COMMIT);
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(whole), r#"{"stream":"S","seq":2,"batch":"b","count":2}"#);
}

#[test]
fn a_message_that_cannot_be_stored_refuses_its_whole_batch() {
    let config = StreamConfig {
        allow_msg_ttl: true,
        max_msgs: 6,
        max_msgs_per_subject: 2,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        ..atomic()
    };
    let (mut one, mut two, mut log) = two(&config);
    log.publish_with(&mut one, "s.a", "Nats-Msg-Id: known", "x");
    log.publish(&mut one, "s.b", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    let in_flight = log.publish(&mut one, "s.f", "x");
    let duplicate = "atomic publish batch contains duplicate message id";
    let constant = "wrong last sequence";
    let unsupported = "atomic publish unsupported header used: Nats-Expected-Last-Msg-Id";
    let tail = "Nats-Expected-Last-Subject-Sequence";
    for (number, (second, more, refused)) in [
        ("s.x", "Nats-Msg-Id: known".to_string(), error(400, 10201, duplicate)),
        ("s.x", "Nats-Msg-Id: first".to_string(), error(400, 10201, duplicate)),
        ("s.x", "Nats-Expected-Last-Msg-Id: known".to_string(), error(400, 10177, unsupported)),
        ("s.x", "Nats-Expected-Last-Sequence: 4".to_string(), error(400, 10164, constant)),
        (
            "s.x",
            "Nats-Expected-Last-Sequence: 9".to_string(),
            error(400, 10071, "wrong last sequence: 4"),
        ),
        ("s.1", format!("{tail}: 0"), error(400, 10164, constant)),
        ("s.f", format!("{tail}: 0"), error(400, 10164, constant)),
        ("s.a", format!("{tail}: 7"), error(400, 10071, "wrong last sequence: 1")),
        ("s.1", "Nats-Rollup: sub".to_string(), error(500, 10111, "batch rollup sub invalid")),
        ("s.x", "Nats-Rollup: all".to_string(), error(500, 10111, "batch rollup all invalid")),
        ("s.x", "Nats-TTL: soon".to_string(), error(400, 10165, "invalid per-message TTL")),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("b{number}");
        part(&mut log, &mut one, &id, 1, "Nats-Msg-Id: first");
        let commit = fields(&id, 2, &format!("{more}\r\n{COMMIT}"));
        let commit = log.publish_with(&mut one, second, &commit, "x");
        assert_eq!(one.answer(commit), refused, "{more}");
    }
    let many = batch(&mut log, &mut one, "many", 4);
    assert_eq!(one.answer(many), error(503, 10077, "maximum messages exceeded"));
    for number in 1..=3 {
        let more = if number == 3 { COMMIT } else { "" };
        let last = log.publish_with(&mut one, "s.same", &fields("same", number, more), "x");
        if number == 3 {
            let why = "maximum messages per subject exceeded";
            assert_eq!(one.answer(last), error(503, 10077, why));
        }
    }
    let next = log.publish(&mut one, "s.z", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(in_flight), one.answer(next)), (&*ack(3), &*ack(4)));
    assert_same(&one, &two);
}

#[test]
fn the_first_of_a_batch_may_expect_the_streams_last_sequence() {
    let (mut one, _, mut log) = two(&atomic());
    log.publish(&mut one, "s.a", "x");
    part(&mut log, &mut one, "uuid", 1, "Nats-Expected-Last-Sequence: 1");
    let expects = "Nats-Expected-Last-Subject-Sequence: 0";
    part(&mut log, &mut one, "uuid", 2, expects);
    let done = part(&mut log, &mut one, "uuid", 3, COMMIT);
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(done), r#"{"stream":"S","seq":4,"batch":"uuid","count":3}"#);
}

#[test]
fn ids_of_a_batch_are_known_from_its_proposal_on() {
    let (mut one, mut two, mut log) = two(&atomic());
    part(&mut log, &mut one, "uuid", 1, "Nats-Msg-Id: m1");
    part(&mut log, &mut one, "uuid", 2, &format!("Nats-Msg-Id: m2\r\n{COMMIT}"));
    let conflict = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m1", "x");
    assert_eq!(one.answer(conflict), error(409, 10158, "duplicate message id is in process"));
    log.commit_to(&mut [&mut one, &mut two]);
    let again = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m1", "x");
    assert_eq!(one.answer(again), r#"{"stream":"S","seq":1,"duplicate": true}"#);
}

#[test]
fn a_batch_that_the_group_does_not_take_costs_nothing() {
    let (mut one, mut two, mut log) = two(&atomic());
    log.full = true;
    let refused = batch(&mut log, &mut one, "uuid", 5);
    assert_eq!(one.answer(refused), error(503, 10023, "insufficient resources"));
    log.full = false;
    let next = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m1", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), ack(1));
}

#[test]
fn the_level_that_a_message_requires_is_known_and_not_stored() {
    let (mut one, _, mut log) = two(&atomic());
    let high = part(&mut log, &mut one, "high", 1, "Nats-Required-Api-Level: 99");
    assert_eq!(one.answer(high), error(412, 10185, "JetStream minimum api level required"));
    part(&mut log, &mut one, "low", 1, &format!("Nats-Required-Api-Level: 0\r\n{COMMIT}"));
    log.commit_to(&mut [&mut one]);
    let stored = one.store.messages.values().next().expect("stored");
    assert!(!stored.windows(8).any(|part| part == b"Required"));
}

/// Upstream's pull request 7321: half a batch is left when its leader goes.
#[test]
fn half_a_batch_in_the_log_is_stored_by_nobody() {
    let (mut one, mut two, mut log) = two(&atomic());
    log.publish(&mut one, "s.a", "x");
    log.split_after = Some(2);
    batch(&mut log, &mut one, "uuid", 4);
    // The last record never reaches a quorum.
    log.commit();
    log.records.truncate(log.records.len() - 1);
    log.split_after = None;
    for replica in [&mut one, &mut two] {
        log.feed(replica);
        assert_eq!(replica.kept(), [1]);
    }
    assert!(!two.with_stream(|stream, cx| stream.snapshot(cx)), "in the middle of a batch");
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    let next = log.publish(&mut two, "s.b", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((two.answer(next), two.kept()), (&*ack(2), [1, 2].to_vec()));
    assert_eq!(two.stream.state().failed, 3);
    assert_same(&one, &two);
    assert_same(&one.restart(), &two);
}

/// Upstream's pull request 7316: a batch is abandoned, and begun again with its own name.
#[test]
fn a_batch_that_is_begun_again_counts_from_its_new_beginning() {
    let (mut one, mut two, mut log) = two(&atomic());
    log.split_after = Some(2);
    batch(&mut log, &mut one, "uuid", 3);
    log.commit();
    log.records.truncate(1);
    log.split_after = None;
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    for replica in [&mut one, &mut two] {
        log.feed(replica);
    }
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let done = batch(&mut log, &mut one, "uuid", 2);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(done), r#"{"stream":"S","seq":2,"batch":"uuid","count":2}"#);
    assert_eq!((one.kept(), one.stream.state().failed), ([1, 2].to_vec(), 2));
    assert_same(&one, &two);
}

#[test]
fn a_batch_may_span_records() {
    let (mut one, mut two, mut log) = two(&atomic());
    log.split_after = Some(3);
    log.publish(&mut one, "s.a", "x");
    let done = batch(&mut log, &mut one, "uuid", 8);
    log.publish(&mut one, "s.a", "y");
    log.commit();
    for (index, entry, record) in &log.records {
        one.with_stream(|stream, cx| stream.apply(cx, *index, entry, record));
        let kept = one.kept().len();
        assert!([1, 9, 10].contains(&kept), "{kept} messages of a batch of 8 are seen");
    }
    log.feed(&mut two);
    assert_eq!(one.answer(done), r#"{"stream":"S","seq":9,"batch":"uuid","count":8}"#);
    assert_same(&one, &two);
}

/// Upstream's pull request 7322: a start finds a batch that is applied, and another that is not.
#[test]
fn a_start_in_the_middle_of_batches_stores_each_once() {
    let (_, mut two, mut log) = two(&atomic());
    let mut one = Replica::with("n1", Store::default(), atomic(), Limits::default());
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    batch(&mut log, &mut one, "first", 3);
    log.split_after = Some(5);
    batch(&mut log, &mut one, "second", 4);
    log.commit();
    log.feed_through(&mut two, jetwake::ids::Index::new(1));
    assert_eq!(two.kept(), [1, 2, 3]);
    let mark = two.store.mark.expect("written");
    assert_eq!((mark.applied.get(), mark.entries), (0, 3), "before the second batch");
    let mut two = two.restart();
    log.feed(&mut two);
    log.feed(&mut one);
    assert_eq!(two.kept(), [1, 2, 3, 4, 5, 6, 7]);
    assert_same(&one, &two);
}

#[test]
fn batches_that_are_gathered_go_with_the_leadership() {
    let (mut one, _, mut log) = two(&atomic());
    part(&mut log, &mut one, "uuid", 1, "");
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let late = part(&mut log, &mut one, "uuid", 2, COMMIT);
    assert_eq!(one.answer(late), incomplete());
}

#[test]
fn a_batch_and_a_bound_keep_the_newest() {
    let config = StreamConfig { max_msgs: 3, ..atomic() };
    let (mut one, mut two, mut log) = two(&config);
    log.split_after = Some(2);
    batch(&mut log, &mut one, "uuid", 5);
    log.commit();
    log.feed(&mut one);
    log.feed(&mut two);
    assert_eq!(one.kept(), [3, 4, 5]);
    assert_same(&one, &two);
    assert_same(&one.restart(), &two);
}
