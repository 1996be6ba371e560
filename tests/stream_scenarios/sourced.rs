//! Messages of other streams, as a source brings them: stored as they were there.

use jetwake::wire::{StreamConfig, StreamMessage};

use crate::rig::{Log, Replica, ack, assert_same, config, error, two};

const ORIGIN: &str = "Nats-Stream-Source: T 7 > > t.a";

fn stored(replica: &Replica, sequence: u64) -> StreamMessage {
    let record = replica.store.messages.get(&sequence).expect("stored");
    StreamMessage::decode(record, &replica.limits).expect("a message")
}

fn header(replica: &Replica, sequence: u64) -> String {
    String::from_utf8(stored(replica, sequence).header().to_vec()).expect("text")
}

fn payload(replica: &Replica, sequence: u64) -> String {
    String::from_utf8(stored(replica, sequence).payload().to_vec()).expect("text")
}

#[test]
fn what_a_source_brings_is_stored_as_it_was() {
    let (mut one, mut two, mut log) = two(&config());
    // On a subject, with a time to live and an increment, none of which a publisher may bring here.
    let fields = format!("Nats-TTL: 5s\r\nNats-Incr: 3\r\n{ORIGIN}");
    let refused = log.publish_with(&mut one, "t.a", &fields, r#"{"val":"3"}"#);
    assert_eq!(one.answer(refused), error(400, 10060, "expected stream does not match"));
    let taken = log.source(&mut one, "t.a", &fields, r#"{"val":"3"}"#);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(taken), ack(1));
    assert_eq!(header(&two, 1), format!("NATS/1.0\r\n{fields}\r\n\r\n"));
    assert_eq!(payload(&two, 1), r#"{"val":"3"}"#);
    assert!(stored(&two, 1).view().sourced);
    assert_same(&one, &two);
    // What no stream takes is refused here too.
    let invalid = log.source(&mut one, "t..a", &fields, "x");
    assert_eq!(one.answer(invalid), error(400, 10003, "bad request"));
    let invalid = log.source(&mut one, "t.a", "Nats-Incr: x", "x");
    assert!(one.answer(invalid).contains("10171"), "{}", one.answer(invalid));
    let other = log.source(&mut one, "t.a", "Nats-Expected-Stream: T", "x");
    assert_eq!(one.answer(other), error(400, 10060, "expected stream does not match"));
    let first = log.source(&mut one, "t.a", "Nats-Msg-Id: 1", "x");
    let second = log.source(&mut one, "t.a", "Nats-Msg-Id: 1", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(first), ack(2));
    assert!(one.answer(second).contains("10158"), "{}", one.answer(second));
}

fn counting() -> StreamConfig {
    StreamConfig { allow_msg_counter: true, ..config() }
}

/// What the stream `T` has counted on a subject, and what it says it added.
fn bring(log: &mut Log, one: &mut Replica, origin: &str, value: &str) -> u64 {
    let fields = format!("Nats-Incr: 1\r\nNats-Stream-Source: {origin}");
    log.source(one, "s.a", &fields, &format!(r#"{{"val":"{value}"}}"#))
}

#[test]
fn a_counter_takes_up_what_other_streams_have_counted() {
    let (mut one, mut two, mut log) = two(&counting());
    log.publish_with(&mut one, "s.a", "Nats-Incr: 2", "");
    log.commit_to(&mut [&mut one, &mut two]);
    bring(&mut log, &mut one, "T 1 > > t.a", "40");
    // One was lost on the way: the sums tell how much it was.
    let next = bring(&mut log, &mut one, "T 3 > > t.a", "45");
    let other = bring(&mut log, &mut one, "T 4 > > <&>", "-7");
    let short = bring(&mut log, &mut one, "U 1", "100");
    log.commit_to(&mut [&mut one, &mut two]);
    let told =
        |sequence, value: &str| format!(r#"{{"stream":"S","seq":{sequence},"val":"{value}"}}"#);
    assert_eq!(one.answer(next), told(3, "47"));
    assert_eq!(one.answer(other), told(4, "40"));
    assert_eq!(one.answer(short), told(5, "140"));
    assert!(header(&two, 3).contains("Nats-Incr: 5\r\n"), "{}", header(&two, 3));
    let sources = r#"{"T":{"\u003c\u0026\u003e":"-7","t.a":"45"},"U":{"s.a":"100"}}"#;
    assert!(header(&two, 5).contains(&format!("Nats-Counter-Sources: {sources}\r\n")));
    // What is added here knows of them, and so does who leads next.
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let own = log.publish_with(&mut one, "s.a", "Nats-Incr: 1", "");
    log.propose_own(&mut one);
    let again = bring(&mut log, &mut one, "T 5 > > t.a", "46");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(own), one.answer(again)), (&*told(6, "141"), &*told(7, "142")));
    assert!(header(&two, 6).contains(&format!("Nats-Counter-Sources: {sources}\r\n")));
    assert!(header(&two, 7).contains(r#""t.a":"46""#));
    assert_same(&one, &two);
}

#[test]
fn what_is_no_sum_is_not_taken_up() {
    let (mut one, _, mut log) = two(&counting());
    let broken = error(400, 10172, "message counter is broken");
    for payload in ["", "7", r#"{"val":"x"}"#] {
        let fields = format!("Nats-Incr: 1\r\n{ORIGIN}");
        let refused = log.source(&mut one, "s.a", &fields, payload);
        assert_eq!(one.answer(refused), broken, "{payload}");
    }
    // A publisher has no sum, so it cannot pass for a source.
    let refused = log.publish_with(&mut one, "s.a", &format!("Nats-Incr: 1\r\n{ORIGIN}"), "");
    assert_eq!(one.answer(refused), broken);
    let missing = log.source(&mut one, "s.a", ORIGIN, r#"{"val":"1"}"#);
    assert!(one.answer(missing).contains("10169"), "{}", one.answer(missing));
}
