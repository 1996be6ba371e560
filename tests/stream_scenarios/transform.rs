//! Transforms: messages are stored under other subjects than they were published to.

use jetwake::ids::Index;
use jetwake::stream::check_config;
use jetwake::wire::{DiscardPolicy, StreamConfig, StreamMessage, SubjectTransform};

use crate::catchup::{carry, install};
use crate::rig::{Log, Replica, Store, ack, assert_same, config, error, two};

fn to(src: &str, dest: &str) -> StreamConfig {
    let transform = SubjectTransform { src: src.into(), dest: dest.into() };
    StreamConfig { subject_transform: Some(transform), ..config() }
}

fn subjects(replica: &Replica) -> Vec<String> {
    let subject = |record| {
        let message = StreamMessage::decode(record, &replica.limits).expect("a message");
        String::from_utf8(message.subject().to_vec()).expect("text")
    };
    replica.store.messages.values().map(subject).collect()
}

fn batch(number: u64, more: &str) -> String {
    format!("Nats-Batch-Id: b\r\nNats-Batch-Sequence: {number}{more}")
}

#[test]
fn messages_are_stored_under_other_subjects_on_every_replica() {
    let config = StreamConfig {
        allow_atomic: true,
        ..to("s.*.*", "t.$2.{{partition(3,1)}}.{{random(1000000)}}")
    };
    let (mut one, mut two, mut log) = two(&config);
    let first = log.publish(&mut one, "s.a.b", "x");
    log.publish(&mut one, "s.other", "x");
    // What is compressed on its way is another block.
    log.publish(&mut one, "s.c.d", &"payload".repeat(2_000));
    log.commit_to(&mut [&mut one, &mut two]);
    log.publish_with(&mut one, "s.e.f", &batch(1, ""), "x");
    log.split_after = Some(1);
    log.publish_with(&mut one, "s.g.h", &batch(2, "\r\nNats-Batch-Commit: 1"), "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(first), ack(1));
    let stored = subjects(&one);
    let begins: Vec<_> = stored.iter().map(|subject| &subject[..4]).collect();
    assert_eq!(begins, ["t.b.", "s.ot", "t.d.", "t.f.", "t.h."], "{stored:?}");
    assert!(stored[0].len() > 8, "{stored:?}");
    assert_same(&one, &two);

    // Whoever catches up gets them as they are stored, and so does who reads its store again.
    let mut three = Replica::with("n3", Store::default(), config, one.limits.clone());
    assert!(one.with_stream(|stream, cx| stream.snapshot(cx)));
    let (index, state) = match one.notices.pop() {
        Some(jetwake::stream::Notice::Snapshot { index, data, .. }) => (index, data),
        other => panic!("{other:?}"),
    };
    install(&mut three, index, &state);
    carry(&mut one, &mut three);
    assert_same(&one, &three);
    log.publish(&mut one, "s.i.j", "x");
    log.commit_to(&mut [&mut one, &mut two, &mut three]);
    assert_same(&one, &three);
    let again = two.restart();
    assert_same(&one, &again);
    assert!(
        index > Index::ZERO && subjects(&again).last().is_some_and(|last| last.starts_with("t.j."))
    );
}

#[test]
fn a_leader_looks_up_what_is_stored() {
    let config = StreamConfig {
        discard: DiscardPolicy::New,
        max_msgs_per_subject: 2,
        discard_new_per_subject: true,
        ..to("s.*.*", "t.$1")
    };
    let (mut one, mut two, mut log) = two(&config);
    log.publish(&mut one, "s.a.x", "1");
    log.commit_to(&mut [&mut one, &mut two]);
    let expects = |log: &mut Log, one: &mut Replica, subject, last| {
        let fields = format!("Nats-Expected-Last-Subject-Sequence: {last}");
        log.publish_with(one, subject, &fields, "x")
    };
    let wrong = expects(&mut log, &mut one, "s.a.y", 0);
    assert_eq!(one.answer(wrong), error(400, 10071, "wrong last sequence: 1"));
    let right = expects(&mut log, &mut one, "s.a.y", 1);
    let busy = expects(&mut log, &mut one, "s.a.z", 1);
    assert!(one.answer(busy).contains("10164"), "{}", one.answer(busy));
    let full = log.publish(&mut one, "s.a.z", "x");
    assert!(one.answer(full).contains("maximum messages per subject"), "{}", one.answer(full));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(right), ack(2));
    let room = log.publish(&mut one, "s.b.z", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(room), ack(3));
    assert_eq!(subjects(&two), ["t.a", "t.a", "t.b"]);
    assert_same(&one, &two);
}

#[test]
fn counters_that_are_stored_together_add_up() {
    let config = StreamConfig { allow_msg_counter: true, ..to("s.*.*", "t.$1") };
    let (mut one, mut two, mut log) = two(&config);
    for (subject, sum) in [("s.a.x", 1), ("s.a.y", 2), ("s.b.x", 1), ("s.a.z", 3)] {
        let id = log.publish_with(&mut one, subject, "Nats-Incr: 1", "");
        log.propose_own(&mut one);
        log.commit_to(&mut [&mut one, &mut two]);
        assert!(one.answer(id).ends_with(&format!(r#""val":"{sum}"}}"#)), "{}", one.answer(id));
    }
    assert_same(&one, &two);
    // Its sums are read again.
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let id = log.publish_with(&mut one, "s.a.w", "Nats-Incr: 1", "");
    log.propose_own(&mut one);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(id), r#"{"stream":"S","seq":5,"val":"4"}"#);
}

#[test]
fn a_subject_that_would_be_too_long_is_refused() {
    let (mut one, _, mut log) = two(&to("s.*", "t.$1.$1.$1"));
    let long = format!("s.{}", "a".repeat(30_000));
    let refused = log.publish(&mut one, &long, "x");
    assert_eq!(one.answer(refused), error(400, 10003, "bad request"));
    let taken = log.publish(&mut one, &long[..10_000], "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(taken), ack(1));
}

#[test]
fn a_transform_that_cannot_be_applied_is_refused() {
    for (src, dest, why) in [
        ("s..", "t", "subject_transform: invalid subject s.."),
        (
            "s.*",
            "t.$2",
            "subject_transform: invalid mapping destination: wildcard index out of range in $2: [2]",
        ),
    ] {
        assert_eq!(check_config(&to(src, dest)).expect_err(dest).to_string(), why);
    }
    let random = to("s.*", "{{random(2)}}");
    assert_eq!(check_config(&random), Ok(()));
    let counter = StreamConfig { allow_msg_counter: true, ..random };
    let why = check_config(&counter).expect_err("a random sum").to_string();
    assert_eq!(why, "subject_transform: a counter needs subjects that are not random");
}

#[test]
fn acknowledgements_name_the_domain() {
    let (mut one, _, mut log) = two(&to("", ""));
    one.stream.set_domain("hub");
    let first = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: 1", "x");
    log.commit_to(&mut [&mut one]);
    let again = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: 1", "x");
    let refused = log.publish(&mut one, "t.a", "x");
    assert_eq!(one.answer(first), r#"{"stream":"S","domain":"hub","seq":1}"#);
    assert_eq!(one.answer(again), r#"{"stream":"S","domain":"hub","seq":1,"duplicate": true}"#);
    let text = "expected stream does not match";
    assert_eq!(one.answer(refused), error(400, 10060, text), "as upstream has it");
}
