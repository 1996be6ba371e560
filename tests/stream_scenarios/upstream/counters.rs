//! Counters: `jetstream_test.go` and `jetstream_cluster_4_test.go` of upstream.

use jetwake::wire::StreamConfig;
use serde_json::Value;

use super::reconfigure;
use crate::counter::{add, counting, payload, store, told};
use crate::rig::{Log, Replica, ack, assert_same, config, error, two};
use crate::schedule::message;

/// What a message says of the sum.
fn value(replica: &Replica, sequence: u64) -> String {
    let json: Value = serde_json::from_str(&payload(replica, sequence)).expect("JSON");
    json["val"].as_str().expect("a sum").to_string()
}

/// A message that a source brings, whose subject was transformed on the way.
fn bring(log: &mut Log, one: &mut Replica, origin: &str, increment: u64, sum: u64) -> u64 {
    let fields = format!("Nats-Incr: {increment}\r\nNats-Stream-Source: {origin}");
    log.source(one, "s.a", &fields, &format!(r#"{{"val":"{sum}"}}"#))
}

/// Ours cannot recreate a stream under its name, so the two kinds are two streams, and what cannot be
/// changed is refused in `jetstream_allow_msg_counter_incompatible_settings`.
/// Red when `Stream::count` adds to another sum, or a duplicate counts.
#[test]
fn jetstream_allow_msg_counter() {
    let (mut plain, _, mut log) = two(&config());
    let normal = log.publish_with(&mut plain, "s.a", "Key: Value", "");
    log.commit_to(&mut [&mut plain]);
    assert_eq!(plain.answer(normal), ack(1));
    let off = add(&mut log, &mut plain, "s.a", "1");
    assert_eq!(plain.answer(off), error(400, 10168, "message counters is disabled"));

    let (mut one, mut two, mut log) = two(&counting());
    let invalid = "message counter increment is invalid";
    for (fields, body, code, why) in [
        ("", "", 10169, "message counter increment is missing"),
        ("Key: Value", "", 10169, "message counter increment is missing"),
        ("Key: Value\r\nNats-Incr: 1", "data", 10170, "message counter has payload"),
        ("Nats-Incr: bogus", "", 10171, invalid),
        ("Nats-Incr: 1\r\nNats-Rollup: 1", "", 10171, invalid),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Sequence: 1", "", 10171, invalid),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Subject-Sequence: 1", "", 10171, invalid),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Subject-Sequence-Subject: 1", "", 10171, invalid),
        ("Nats-Incr: 1\r\nNats-Expected-Last-Msg-Id: 1", "", 10171, invalid),
    ] {
        let id = log.publish_with(&mut one, "s.a", fields, body);
        assert_eq!(one.answer(id), error(400, code, why), "{fields}");
    }
    for (sequence, increment, sum) in
        [(1, "1", "1"), (2, "2", "3"), (3, "-3", "0"), (4, "1", "1"), (5, "-1", "0")]
    {
        let id = add(&mut log, &mut one, "s.a", increment);
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(id), told(sequence, sum));
        assert_eq!(value(&two, sequence), sum);
    }
    let once = add(&mut log, &mut one, "s.a", "1\r\nNats-Msg-Id: dedupe");
    log.commit_to(&mut [&mut one, &mut two]);
    let again = add(&mut log, &mut one, "s.a", "1\r\nNats-Msg-Id: dedupe");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(once), told(6, "1"));
    assert_eq!(one.answer(again), r#"{"stream":"S","seq":6,"duplicate": true}"#);
    assert_eq!((value(&two, 6), two.kept().len()), ("1".into(), 6));
    assert_same(&one, &two);
    // What another leader stored, which knows nothing of counters.
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    store(&mut log, &mut [&mut one, &mut two], "A: b", "");
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let broken = add(&mut log, &mut one, "s.a", "1");
    assert_eq!(one.answer(broken), error(400, 10172, "message counter is broken"));
}

/// The bound of a server is a field of `Limits` here.
/// Red when `Stream::count` does not check the size of what it made.
#[test]
fn jetstream_allow_msg_counter_max_payload_and_size() {
    let (mut one, mut two, mut log) = two(&counting());
    for replica in [&mut one, &mut two] {
        replica.limits.message = jetwake::ids::ByteCount::new(1024);
    }
    let mut increment = |one: &mut Replica, two: &mut Replica, text: &str| {
        let id = add(&mut log, one, "s.a", text);
        log.commit_to(&mut [one, two]);
        one.answer(id).to_string()
    };
    let large = "1".repeat(500);
    let exceeds = error(400, 10054, "message size exceeds maximum allowed");
    assert_eq!(increment(&mut one, &mut two, "1"), told(1, "1"));
    assert_eq!(increment(&mut one, &mut two, &large), exceeds);
    assert_eq!(increment(&mut one, &mut two, "-2"), told(2, "-1"));
    assert_eq!(increment(&mut one, &mut two, &format!("-{large}")), exceeds);
    assert_eq!(increment(&mut one, &mut two, "1"), told(3, "0"));
    // Exactly the first message of a counter.
    for replica in [&mut one, &mut two] {
        reconfigure(replica, &StreamConfig { max_msg_size: 37, ..counting() });
    }
    assert_eq!(increment(&mut one, &mut two, "1"), told(4, "1"));
    assert_eq!(increment(&mut one, &mut two, "10"), exceeds);
    assert_eq!(span_of(&one), 4);
}

fn span_of(replica: &Replica) -> u64 {
    replica.stream.state().last.get()
}

/// A mirror's refusal is in `tests/meta`; here is what it stores, as a source brings it.
/// Red when what a source brings is counted where nothing is counted.
#[test]
fn jetstream_allow_msg_counter_source_verbatim() {
    let (mut one, mut two, mut log) = two(&config());
    bring(&mut log, &mut one, "O1 1 foo.* foo foo.1", 1, 1);
    log.commit_to(&mut [&mut one, &mut two]);
    bring(&mut log, &mut one, "O2 1 foo.* foo foo.2", 2, 2);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((value(&two, 1), value(&two, 2)), ("1".into(), "2".into()));
    assert!(message(&two, 2).1.contains("Nats-Incr: 2\r\n"));
    assert_same(&one, &two);
}

/// Nothing pulls here: what the sources would bring is handed over.
/// Red when `take_up` keeps one sum for all streams.
#[test]
fn jetstream_allow_msg_counter_source_aggregates() {
    let (mut one, mut two, mut log) = two(&counting());
    bring(&mut log, &mut one, "O1 1 foo.* foo foo.1", 1, 1);
    log.commit_to(&mut [&mut one, &mut two]);
    let second = bring(&mut log, &mut one, "O2 1 foo.* foo foo.2", 2, 2);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(second), told(2, "3"));
    assert_eq!(value(&two, 2), "3");
    assert_same(&one, &two);
}

/// Nothing pulls here: what the sources would bring is handed over.
/// Red when `take_up` adds the increment that the message says, and not the sum that it makes.
#[test]
fn jetstream_allow_msg_counter_source_starting_above_zero() {
    let (mut one, mut two, mut log) = two(&counting());
    let own = add(&mut log, &mut one, "s.a", "1");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(own), told(1, "1"));
    // Of each stream only its fifth message is left.
    bring(&mut log, &mut one, "O1 5 foo.* foo foo.1", 1, 5);
    bring(&mut log, &mut one, "O2 5 foo.* foo foo.2", 2, 10);
    log.commit_to(&mut [&mut one, &mut two]);
    let own = add(&mut log, &mut one, "s.a", "1");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(own), told(4, "17"));
    let header = |sequence| message(&two, sequence).1;
    for (sequence, increment) in [(1, 1), (2, 5), (3, 10), (4, 1)] {
        assert!(header(sequence).contains(&format!("Nats-Incr: {increment}\r\n")), "{sequence}");
    }
    let sources = r#"Nats-Counter-Sources: {"O1":{"foo.1":"5"},"O2":{"foo.2":"10"}}"#;
    assert!(header(4).contains(sources), "{}", header(4));
    assert_same(&one, &two);
}

/// Upstream sets its running total to ten, and here a message in flight does.
/// Red when a sum in flight is not added to, or one that was applied is believed for ever.
#[test]
fn jetstream_cluster_msg_counter_running_total_consistency() {
    let (mut one, mut two, mut log) = two(&counting());
    let ten = add(&mut log, &mut one, "s.a", "10");
    let behind = add(&mut log, &mut one, "s.a", "1");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(ten), one.answer(behind)), (&*told(1, "10"), &*told(2, "11")));
    // Nothing is in flight: what the store says counts, whatever was known before.
    log.delete(&mut one, 2);
    log.commit_to(&mut [&mut one, &mut two]);
    let next = add(&mut log, &mut one, "s.a", "1");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), told(3, "11"));
    assert_eq!(value(&two, 3), "11");
    assert_same(&one, &two);
}
