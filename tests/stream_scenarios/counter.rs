//! Counters: each message adds to what the last one of its subject says.

use bytes::Bytes;
use jetwake::command::Command;
use jetwake::wire::{StreamConfig, StreamMessage, StreamMessageView};

use crate::rig::{Log, Replica, assert_same, config, error, two};

pub(crate) fn counting() -> StreamConfig {
    StreamConfig { allow_msg_counter: true, allow_atomic: true, ..config() }
}

pub(crate) fn add(log: &mut Log, one: &mut Replica, subject: &str, increment: &str) -> u64 {
    let id = log.publish_with(one, subject, &format!("Nats-Incr: {increment}"), "");
    log.propose_own(one);
    id
}

pub(crate) fn told(sequence: u64, value: &str) -> String {
    format!(r#"{{"stream":"S","seq":{sequence},"val":"{value}"}}"#)
}

pub(crate) fn payload(replica: &Replica, sequence: u64) -> String {
    let record = replica.store.messages.get(&sequence).expect("stored");
    let message = StreamMessage::decode(record, &replica.limits).expect("a message");
    String::from_utf8(message.payload().to_vec()).expect("text")
}

#[test]
fn a_message_adds_to_the_sum_of_its_subject() {
    let (mut one, mut two, mut log) = two(&counting());
    let first = add(&mut log, &mut one, "s.a", "1");
    let second = add(&mut log, &mut one, "s.a", "+20");
    let other = add(&mut log, &mut one, "s.b", "-3");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(first), told(1, "1"));
    assert_eq!(one.answer(second), told(2, "21"), "with what was in flight");
    assert_eq!(one.answer(other), told(3, "-3"));
    let third = add(&mut log, &mut one, "s.a", "99999999999999999999999999");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(third), told(4, "100000000000000000000000020"));
    assert_eq!(payload(&two, 4), r#"{"val":"100000000000000000000000020"}"#);
    assert_same(&one, &two);
}

#[test]
fn a_sum_that_is_not_known_is_read_and_who_comes_behind_waits() {
    let (mut one, mut two, mut log) = two(&counting());
    add(&mut log, &mut one, "s.a", "5");
    add(&mut log, &mut one, "s.b", "7");
    log.commit_to(&mut [&mut one, &mut two]);
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    // The store answers late.
    let mut ids = Vec::new();
    for subject in ["s.a", "s.a", "s.c", "s.b"] {
        let id = log.next_request();
        ids.push(id.get());
        let header = Bytes::from_static(b"NATS/1.0\r\nNats-Incr: 1\r\n\r\n");
        let parts = (Bytes::from(subject), header, Bytes::new());
        assert!(one.step(|stream, cx| stream.publish(cx, id, parts)).is_none(), "{subject}");
        assert!(one.step(|stream, cx| stream.next_proposal(cx)).is_none());
    }
    let reads: Vec<_> = std::iter::from_fn(|| one.out.pop()).collect();
    assert_eq!(reads.len(), 2, "one read a subject: {reads:?}");
    for read in reads {
        assert!(matches!(read, Command::Read { .. }));
        one.out.push(read);
    }
    one.with_stream(|_, _| {});
    log.propose_own(&mut one);
    log.commit_to(&mut [&mut one, &mut two]);
    let answers: Vec<_> = ids.iter().map(|id| one.answer(*id).to_string()).collect();
    assert_eq!(answers, [told(3, "6"), told(4, "7"), told(5, "1"), told(6, "8")]);
    assert_same(&one, &two);
}

#[test]
fn who_waits_for_a_sum_is_told_when_the_leadership_goes() {
    let (mut one, _, mut log) = two(&counting());
    add(&mut log, &mut one, "s.a", "5");
    log.commit_to(&mut [&mut one]);
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let id = log.next_request();
    let header = Bytes::from_static(b"NATS/1.0\r\nNats-Incr: 1\r\n\r\n");
    let parts = (Bytes::from_static(b"s.a"), header, Bytes::new());
    assert!(one.step(|stream, cx| stream.publish(cx, id, parts)).is_none());
    one.step(|stream, cx| stream.leadership_lost(cx));
    one.with_stream(|_, _| {});
    assert!(one.answer(id.get()).contains("10008"), "{}", one.answer(id.get()));
}

#[test]
fn a_sum_goes_back_to_what_is_left_after_a_delete() {
    let (mut one, mut two, mut log) = two(&counting());
    add(&mut log, &mut one, "s.a", "5");
    add(&mut log, &mut one, "s.a", "5");
    log.commit_to(&mut [&mut one, &mut two]);
    log.delete(&mut one, 2);
    log.commit_to(&mut [&mut one, &mut two]);
    let next = add(&mut log, &mut one, "s.a", "1");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), told(3, "6"));
}

#[test]
fn what_is_wrong_with_an_increment_is_said_as_upstream_does() {
    let (mut plain, _, mut log) = two(&config());
    let off = add(&mut log, &mut plain, "s.a", "1");
    assert_eq!(plain.answer(off), error(400, 10168, "message counters is disabled"));
    let config = StreamConfig { allow_rollup_hdrs: true, ..counting() };
    let (mut one, _, mut log) = two(&config);
    let invalid = error(400, 10171, "message counter increment is invalid");
    for (fields, payload, refused) in [
        ("", "", error(400, 10169, "message counter increment is missing")),
        ("Other: 1", "", error(400, 10169, "message counter increment is missing")),
        ("Nats-Incr: x", "", invalid.clone()),
        ("Nats-Incr: 1.5", "", invalid.clone()),
        ("Nats-Incr: 1", "x", error(400, 10170, "message counter has payload")),
        ("Nats-Incr: 1\r\nNats-Rollup: sub", "", invalid.clone()),
        ("Nats-Incr: 1\r\nNats-Expected-Stream: S", "", invalid.clone()),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Sequence: 0", "", invalid.clone()),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Msg-Id: m", "", invalid.clone()),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Subject-Sequence: 0", "", invalid),
        (
            "Nats-Incr: 1\r\nNats-Stream-Source: T 1",
            "",
            error(400, 10172, "message counter is broken"),
        ),
    ] {
        let id = log.publish_with(&mut one, "s.a", fields, payload);
        assert_eq!(one.answer(id), refused, "{fields} {payload}");
    }
}

/// A message that another kind of server stored before the stream counted.
pub(crate) fn store(log: &mut Log, replicas: &mut [&mut Replica], fields: &str, payload: &str) {
    let last = replicas[0].stream.state().last;
    let header = format!("NATS/1.0\r\n{fields}\r\n\r\n");
    let message = StreamMessageView {
        subject: b"s.a",
        header: header.as_bytes(),
        payload: payload.as_bytes(),
        sequence: last,
        timestamp: 5,
        ..StreamMessageView::default()
    };
    log.push_raw(jetwake::wire::EntryKind::Normal, &message.to_bytes().expect("short"));
    log.commit_to(replicas);
}

#[test]
fn what_other_streams_have_counted_is_handed_on() {
    let (mut one, mut two, mut log) = two(&counting());
    let sources = r#"Nats-Counter-Sources: {"T":{"t.a":"40"}}"#;
    store(&mut log, &mut [&mut one, &mut two], sources, r#"{"val":"40"}"#);
    let next = add(&mut log, &mut one, "s.a", "2");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), told(2, "42"));
    let stored = one.store.messages.get(&2).expect("stored");
    assert!(stored.windows(sources.len()).any(|part| part == sources.as_bytes()));
}

#[test]
fn a_counter_that_is_broken_stays_so() {
    let (mut one, mut two, mut log) = two(&counting());
    store(&mut log, &mut [&mut one, &mut two], "A: b", "no sum");
    let refused = add(&mut log, &mut one, "s.a", "2");
    assert_eq!(one.answer(refused), error(400, 10172, "message counter is broken"));
}

#[test]
fn a_batch_counts_in_order() {
    let (mut one, mut two, mut log) = two(&counting());
    add(&mut log, &mut one, "s.a", "5");
    log.commit_to(&mut [&mut one, &mut two]);
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut last = 0;
    for number in 1..=3 {
        let commit = if number == 3 { "\r\nNats-Batch-Commit: 1" } else { "" };
        let fields = format!(
            "Nats-Incr: {number}\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: {number}{commit}"
        );
        last = log.publish_with(&mut one, "s.a", &fields, "");
    }
    log.propose_own(&mut one);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(last), r#"{"stream":"S","seq":4,"batch":"b","count":3}"#);
    assert_eq!(payload(&two, 4), r#"{"val":"11"}"#);
    let next = add(&mut log, &mut one, "s.a", "0");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), told(5, "11"));
    assert_same(&one, &two);
}
