//! What a leader answers, and what it keeps in flight.

use jetwake::ids::RequestId;
use jetwake::limits::Limits;
use jetwake::time::Duration;
use jetwake::wire::StreamConfig;

use crate::rig::{Log, Replica, Store, ack, error, leader};

#[test]
fn a_publish_is_answered_when_it_is_applied() {
    let (mut one, mut log) = leader();
    let (a, b) = (log.publish(&mut one, "s.a", "x"), log.publish(&mut one, "s.b", "y"));
    assert!(one.answers.is_empty());
    log.commit_to(&mut [&mut one]);
    assert_eq!((one.answer(a), one.answer(b)), (&*ack(1), &*ack(2)));
}

#[test]
fn a_message_id_is_stored_once() {
    let (mut one, mut log) = leader();
    let first = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    let conflict = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    assert_eq!(one.answer(conflict), error(409, 10158, "duplicate message id is in process"));
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(first), ack(1));
    let again = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    assert_eq!(one.answer(again), r#"{"stream":"S","seq":1,"duplicate": true}"#);
    one.now = one.now + Duration::from_secs(121);
    let later = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(later), ack(2));
}

#[test]
fn ids_in_flight_do_not_outlive_the_leadership() {
    let (mut one, mut log) = leader();
    let lost = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    assert_eq!(one.answer(lost), error(503, 10008, "JetStream system temporarily unavailable"));
    // Another leader never saw it; this one leads again.
    let mut log = Log::new();
    log.next_request();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let again = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(again), ack(1));
}

#[test]
fn another_leaders_ids_are_known_here() {
    let (mut one, mut log) = leader();
    let mut two = Replica::new("n2", Store::default());
    log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert!(two.answers.is_empty(), "only the leader answers");
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    let again = log.publish_with(&mut two, "s.a", "Nats-Msg-Id: m", "x");
    assert_eq!(two.answer(again), r#"{"stream":"S","seq":1,"duplicate": true}"#);
}

#[test]
fn a_proposal_that_is_not_taken_costs_no_sequence() {
    let (mut one, mut log) = leader();
    log.full = true;
    let refused = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    assert_eq!(one.answer(refused), error(503, 10023, "insufficient resources"));
    log.full = false;
    let taken = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(taken), ack(1));
}

#[test]
fn expected_sequences_count_what_is_in_flight() {
    let (mut one, mut log) = leader();
    log.publish(&mut one, "s.a", "x");
    let last = "Nats-Expected-Last-Sequence: 0";
    let wrong = log.publish_with(&mut one, "s.a", last, "x");
    assert_eq!(one.answer(wrong), error(400, 10071, "wrong last sequence: 1"));
    let right = log.publish_with(&mut one, "s.b", "Nats-Expected-Last-Sequence: 1", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(right), ack(2));
}

#[test]
fn the_last_sequence_of_a_subject_is_expected() {
    let (mut one, mut log) = leader();
    let expect = |n: u64| format!("Nats-Expected-Last-Subject-Sequence: {n}");
    let first = log.publish_with(&mut one, "s.a", &expect(0), "x");
    let in_flight = log.publish_with(&mut one, "s.a", &expect(0), "x");
    assert_eq!(one.answer(in_flight), error(400, 10164, "wrong last sequence"));
    let other = log.publish_with(&mut one, "s.b", &expect(0), "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!((one.answer(first), one.answer(other)), (&*ack(1), &*ack(2)));
    let wrong = log.publish_with(&mut one, "s.a", &expect(2), "x");
    assert_eq!(one.answer(wrong), error(400, 10071, "wrong last sequence: 1"));
    let wild = format!("{}\r\nNats-Expected-Last-Subject-Sequence-Subject: s.*", expect(2));
    let any = log.publish_with(&mut one, "s.a", &wild, "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(any), ack(3));
    let missing = "Nats-Expected-Last-Subject-Sequence-Subject: s.a";
    let missing = log.publish_with(&mut one, "s.a", missing, "x");
    let text = "missing sequence for expected last sequence per subject";
    assert_eq!(one.answer(missing), error(400, 10193, text));
}

#[test]
fn the_last_message_id_is_expected() {
    let (mut one, mut log) = leader();
    let expect = |id: &str| format!("Nats-Expected-Last-Msg-Id: {id}");
    log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m1", "x");
    let wrong = log.publish_with(&mut one, "s.a", &expect("m0"), "x");
    assert_eq!(one.answer(wrong), error(400, 10070, "wrong last msg ID: m1"));
    let right = log.publish_with(&mut one, "s.a", &expect("m1"), "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(right), ack(2));
    let none = log.publish_with(&mut one, "s.a", &expect("m1"), "x");
    assert_eq!(one.answer(none), error(400, 10070, "wrong last msg ID: "));
}

#[test]
fn refusals_have_upstreams_codes_and_texts() {
    let config = StreamConfig { max_msg_size: 100, ..crate::rig::config() };
    let limits = Limits { publishes_in_flight: 1, ..Limits::default() };
    let mut one = Replica::with("n1", Store::default(), config, limits);
    let mut log = Log::new();
    let not_leader = log.publish(&mut one, "s.a", "x");
    assert_eq!(
        one.answer(not_leader),
        error(500, 10009, "JetStream cluster can not handle request")
    );
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let large = "x".repeat(101);
    let long = format!("Nats-Msg-Id: {}", "x".repeat(66_000));
    for (subject, fields, payload, answer) in [
        ("s.a", "", &*large, error(400, 10054, "message size exceeds maximum allowed")),
        ("s.a", &long, "", error(400, 10054, "message size exceeds maximum allowed")),
        ("s..a", "", "", error(400, 10003, "bad request")),
        ("s.*", "", "", error(400, 10003, "bad request")),
        ("t.a", "", "", error(400, 10060, "expected stream does not match")),
        ("s.a", "Nats-Expected-Stream: T", "", error(400, 10060, "expected stream does not match")),
        ("s.a", "Nats-Rollup: sub", "", error(500, 10111, "rollup not permitted")),
        ("s.a", "Nats-TTL: 1s", "", error(400, 10166, "per-message TTL is disabled")),
        ("s.a", "Nats-Incr: +1", "", error(400, 10168, "message counters is disabled")),
        ("s.a", "Nats-Batch-Id: b", "", error(400, 10174, "atomic publish is disabled")),
        ("s.a", "Nats-Schedule: @at", "", error(400, 10188, "message schedules is disabled")),
    ] {
        let id = log.publish_with(&mut one, subject, fields, payload);
        assert_eq!(one.answer(id), answer, "{subject} {fields:.40}");
    }
    log.publish(&mut one, "s.a", "x");
    let full = log.publish(&mut one, "s.a", "x");
    assert_eq!(one.answer(full), error(503, 10023, "insufficient resources"));
}

#[test]
fn a_header_of_64_kib_is_refused_as_upstream_does() {
    let (mut one, mut log) = leader();
    let fields = format!("Nats-Msg-Id: {}", "x".repeat(66_000));
    let id = log.publish_with(&mut one, "s.a", &fields, "");
    assert_eq!(one.answer(id), error(400, 10097, "header size exceeds maximum allowed of 64k"));
}

#[test]
fn a_large_message_is_compressed_and_read_back_whole() {
    let (mut one, mut log) = leader();
    let payload = "compress me ".repeat(2000);
    log.publish(&mut one, "s.a", &payload);
    log.commit_to(&mut [&mut one]);
    let stored = one.store.messages.values().next().expect("stored");
    assert!(stored[0] == 14 && stored.len() < payload.len() / 10);
    assert_eq!(one.stream.state().bytes.get(), 22 + 3 + 8 + payload.len() as u64);
    let id = log.next_request();
    let read = (10, jetwake::ids::ByteCount::new(1));
    one.with_stream(|stream, cx| stream.read(cx, id, jetwake::ids::Sequence::ZERO, read));
    assert!(one.answers[&RequestId::new(2)].contains(&payload));
}

#[test]
fn a_trace_follows_a_message_to_where_it_is_stored_and_is_taken_once() {
    let (mut one, mut log) = leader();
    let traced = log.publish_with(&mut one, "s.a", "Nats-Trace-Dest: t", "x");
    log.publish(&mut one, "s.a", "x");
    assert!(one.traces.is_empty());
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.traces, [(traced, Some(1))]);
    let wrong = "Nats-Trace-Dest: t\r\nNats-Expected-Last-Sequence: 9";
    let refused = log.publish_with(&mut one, "s.a", wrong, "x");
    log.full = true;
    let full = log.publish_with(&mut one, "s.a", "Nats-Trace-Dest: t", "x");
    log.full = false;
    assert_eq!(one.traces[1..], [(refused, None), (full, None)]);
    // What is lost with the leadership is traced no further.
    log.publish_with(&mut one, "s.a", "Nats-Trace-Dest: t", "x");
    one.with_stream(|stream, cx| {
        stream.leadership_lost(cx);
        stream.leadership_gained(cx);
    });
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.traces.len(), 3);
}
