//! What the messages of a batch expect, and what is checked of them one behind the other:
//! `jetstream_batching_test.go` of upstream.

use jetwake::wire::{DiscardPolicy, StreamConfig};

use super::STORAGES;
use crate::batch::{COMMIT, atomic, fields, part};
use crate::rig::{Log, Replica, ack, assert_same, error, two};
use crate::schedule::message;

/// Publishes a batch of messages, each with its subject, fields and body; the request that commits it.
fn publish(log: &mut Log, one: &mut Replica, messages: &[(&str, &str, &str)]) -> u64 {
    let mut last = 0;
    for (number, (subject, more, body)) in (1..).zip(messages) {
        let commit = if number == messages.len() { COMMIT } else { "" };
        let more = [*more, commit].into_iter().filter(|part| !part.is_empty());
        let more = more.collect::<Vec<_>>().join("\r\n");
        last = log.publish_with(one, subject, &fields("uuid", number as u64, &more), body);
    }
    last
}

/// A stream, what is in flight when a batch comes, the batch, and how it is refused.
struct Case {
    title: &'static str,
    config: StreamConfig,
    /// Subjects and fields of messages that are stored before.
    stored: &'static [(&'static str, &'static str)],
    /// Those of messages that are in flight.
    in_flight: &'static [(&'static str, &'static str)],
    batch: &'static [(&'static str, &'static str, &'static str)],
    refused: Option<String>,
    /// What the counter says in the end.
    sum: Option<&'static str>,
}

impl Case {
    fn new(
        title: &'static str,
        batch: &'static [(&'static str, &'static str, &'static str)],
    ) -> Self {
        let config = StreamConfig { storage: STORAGES[1], ..atomic() };
        let config = StreamConfig { allow_rollup_hdrs: false, ..config };
        Self { title, config, stored: &[], in_flight: &[], batch, refused: None, sum: None }
    }

    fn with(self, change: impl FnOnce(&mut StreamConfig)) -> Self {
        let mut config = self.config;
        change(&mut config);
        Self { config, ..self }
    }

    fn stored(self, stored: &'static [(&'static str, &'static str)]) -> Self {
        Self { stored, ..self }
    }

    fn in_flight(self, in_flight: &'static [(&'static str, &'static str)]) -> Self {
        Self { in_flight, ..self }
    }

    fn refused(self, code: i32, err_code: i32, text: &str) -> Self {
        Self { refused: Some(error(code, err_code, text)), ..self }
    }

    fn counts(self, sum: &'static str) -> Self {
        Self { sum: Some(sum), ..self }.with(|config| config.allow_msg_counter = true)
    }

    /// Plays it. A batch that is refused costs no sequence, and one that is taken is stored whole.
    fn play(&self) {
        let title = self.title;
        let (mut one, mut two, mut log) = two(&self.config);
        for (subject, fields) in self.stored {
            log.publish_with(&mut one, subject, fields, "");
            log.commit_to(&mut [&mut one, &mut two]);
        }
        for (subject, fields) in self.in_flight {
            log.publish_with(&mut one, subject, fields, "");
        }
        let before = (self.stored.len() + self.in_flight.len()) as u64;
        let done = publish(&mut log, &mut one, self.batch);
        let early = one.answer(done).to_string();
        log.propose_own(&mut one);
        log.commit_to(&mut [&mut one, &mut two]);
        let last = one.stream.state().last.get();
        match &self.refused {
            Some(refused) => assert_eq!((&early, last), (refused, before), "{title}"),
            None => {
                let count = self.batch.len() as u64;
                let sequence = before + count;
                let told =
                    format!(r#"{{"stream":"S","seq":{sequence},"batch":"uuid","count":{count}}}"#);
                assert_eq!((one.answer(done), last), (&*told, sequence), "{title}");
            }
        }
        if let Some(sum) = self.sum {
            assert_eq!(message(&two, last).2, format!(r#"{{"val":"{sum}"}}"#), "{title}");
        }
        assert_eq!(one.stream.state().failed, 0, "{title}");
        assert_same(&one, &two);
    }
}

const LAST: &str = "Nats-Expected-Last-Sequence: 0";
const OF_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence: 0";
const WRONG: &str = "wrong last sequence";
const PAST: &str = "Nats-Schedule: @at 1970-01-01T00:00:00Z";
const ROLLUP: &str = "Nats-Rollup: sub";

fn dedupe_cases() -> Vec<Case> {
    let twice = "atomic publish batch contains duplicate message id";
    let conflict = "duplicate message id is in process";
    vec![
        Case::new(
            "dedupe-distinct",
            &[("s.foo", "Nats-Msg-Id: foo", ""), ("s.bar", "Nats-Msg-Id: bar", "")],
        ),
        Case::new("dedupe", &[("s.foo", "Nats-Msg-Id: foo", "")])
            .in_flight(&[("s.x", "Nats-Msg-Id: foo")])
            .refused(409, 10158, conflict),
        Case::new("dedupe-stored", &[("s.foo", "Nats-Msg-Id: foo", "")])
            .stored(&[("s.x", "Nats-Msg-Id: foo")])
            .refused(400, 10201, twice),
        Case::new(
            "dedupe-staged",
            &[("s.foo", "Nats-Msg-Id: foo", ""), ("s.foo", "Nats-Msg-Id: foo", "")],
        )
        .refused(400, 10201, twice),
    ]
}

fn counter_cases() -> Vec<Case> {
    let one_and_two = &[("s.foo", "Nats-Incr: 1", ""), ("s.foo", "Nats-Incr: 2", "")];
    vec![
        Case::new("counter-single", &[("s.foo", "Nats-Incr: 1", "")]).counts("1"),
        Case::new("counter-multiple", one_and_two).counts("3"),
        Case::new("counter-pre-init", &[("s.foo", "Nats-Incr: 2", "")])
            .in_flight(&[("s.foo", "Nats-Incr: 1")])
            .counts("3"),
    ]
}

fn schedule_cases() -> Vec<Case> {
    let schedules = |config: &mut StreamConfig| config.allow_msg_schedules = true;
    let timed = |config: &mut StreamConfig| {
        (config.allow_msg_schedules, config.allow_msg_ttl) = (true, true);
    };
    let off = "message schedules is disabled";
    let target = "message schedules target is invalid";
    vec![
        Case::new("msg-schedules-disabled", &[("s.foo", PAST, "")]).refused(400, 10188, off),
        Case::new("msg-schedules-disabled, no pattern", &[("s.foo", "Nats-Schedule: disabled", "")])
            .refused(400, 10188, off),
        Case::new(
            "msg-schedules-ttl-disabled",
            &[("s.foo", "Nats-Schedule: @at 1970-01-01T00:00:00Z\r\nNats-Schedule-TTL: 1s", "")],
        )
        .with(schedules)
        .refused(400, 10166, "per-message TTL is disabled"),
        Case::new(
            "msg-schedules-ttl-invalid",
            &[("s.foo", "Nats-Schedule: @at 1970-01-01T00:00:00Z\r\nNats-Schedule-TTL: invalid", "")],
        )
        .with(timed)
        .refused(400, 10191, "message schedules invalid per-message TTL"),
        Case::new("msg-schedules-invalid-schedule", &[("s.foo", "Nats-Schedule: invalid", "")])
            .with(schedules)
            .refused(400, 10189, "message schedules pattern is invalid"),
        Case::new(
            "msg-schedules-target-mismatch",
            &[("s.foo", "Nats-Schedule: @at 1970-01-01T00:00:00Z\r\nNats-Schedule-Target: not.matching", "")],
        )
        .with(schedules)
        .refused(400, 10190, target),
        Case::new(
            "msg-schedules-target-must-be-literal",
            &[("s.foo", "Nats-Schedule: @at 1970-01-01T00:00:00Z\r\nNats-Schedule-Target: s.*", "")],
        )
        .with(schedules)
        .refused(400, 10190, target),
        Case::new(
            "msg-schedules-target-must-be-unique",
            &[("s.foo", "Nats-Schedule: @at 1970-01-01T00:00:00Z\r\nNats-Schedule-Target: s.foo", "")],
        )
        .with(schedules)
        .refused(400, 10190, target),
        Case::new(
            "msg-schedules",
            &[
                ("s.foo", "Nats-Schedule: @at 2200-01-01T00:00:00Z\r\nNats-Schedule-Target: s.baz", ""),
                (
                    "s.bar",
                    "Nats-Schedule: @at 2200-01-01T00:00:00Z\r\nNats-Schedule-Target: s.baz\r\nNats-Rollup: sub",
                    "",
                ),
            ],
        )
        .with(schedules),
    ]
}

fn discard_cases() -> Vec<Case> {
    let new = |config: &mut StreamConfig| {
        (config.discard, config.max_msgs) = (DiscardPolicy::New, 2);
    };
    let bytes = |config: &mut StreamConfig| {
        (config.discard, config.max_bytes) = (DiscardPolicy::New, 200);
    };
    let each = |config: &mut StreamConfig| {
        config.discard = DiscardPolicy::New;
        (config.discard_new_per_subject, config.max_msgs_per_subject) = (true, 1);
    };
    let full = "maximum messages per subject exceeded";
    let two_of_one = &[("s.foo", "", ""), ("s.foo", "", "")];
    vec![
        Case::new("discard-new", &[("s.foo1", "", ""), ("s.foo2", "", "")]).with(new),
        Case::new(
            "discard-new-max-msgs",
            &[("s.foo", "", ""), ("s.foo", "", ""), ("s.foo", "", "")],
        )
        .with(new)
        .refused(503, 10077, "maximum messages exceeded"),
        // With the fields of the batch, the first has 89 bytes and the second 101 and its body.
        Case::new("fits-max-bytes", &[("s.foo1", "", "AAAAAAAAAA"), ("s.foo2", "", "AAAAAAAAAA")])
            .with(bytes),
        Case::new(
            "discard-new-max-bytes",
            &[("s.foo1", "", "AAAAAAAAAA"), ("s.foo2", "", "AAAAAAAAAAA")],
        )
        .with(bytes)
        .refused(503, 10077, "maximum bytes exceeded"),
        Case::new("discard-new-max-msgs-per-subj", &[("s.foo", "", "")]).with(each),
        Case::new("discard-new-max-msgs-per-subj-duplicate", two_of_one)
            .with(each)
            .refused(503, 10077, full),
        Case::new("discard-new-max-msgs-per-subj-inflight", &[("s.foo", "", "")])
            .with(each)
            .in_flight(&[("s.foo", "")])
            .refused(503, 10077, full),
        Case::new("discard-new-max-msgs-per-subj-pre-existing", &[("s.foo", "", "")])
            .with(each)
            .stored(&[("s.foo", "")])
            .refused(503, 10077, full),
    ]
}

fn expect_cases() -> Vec<Case> {
    vec![
        Case::new("expect-last-seq", &[("s.foo", LAST, ""), ("s.bar", "", "")]),
        Case::new("expect-last-seq-not-first", &[("s.foo", "", ""), ("s.bar", LAST, "")]).refused(
            400,
            10071,
            "wrong last sequence: 1",
        ),
        Case::new(
            "expect-last-seq-invalid-first",
            &[("s.foo", "Nats-Expected-Last-Sequence: 1", "")],
        )
        .refused(400, 10071, "wrong last sequence: 0"),
        Case::new("expect-last-seq-invalid", &[("s.foo", LAST, ""), ("s.bar", LAST, "")]).refused(
            400,
            10071,
            "wrong last sequence: 1",
        ),
        Case::new(
            "expect-per-subj-simple",
            &[("s.foo", OF_SUBJECT, ""), ("s.bar", OF_SUBJECT, "")],
        ),
        Case::new(
            "expect-per-subj-redundant-in-batch",
            &[
                ("s.foo", OF_SUBJECT, ""),
                ("s.foo", "Nats-Expected-Last-Subject-Sequence: 1", ""),
                ("s.foo", OF_SUBJECT, ""),
            ],
        )
        .refused(400, 10164, WRONG),
        Case::new(
            "expect-per-subj-dupe-in-change",
            &[("s.foo", OF_BAZ, ""), ("s.bar", OF_BAZ, "")],
        ),
        Case::new("expect-per-subj-not-first", &[("s.foo", "", ""), ("s.foo", OF_SUBJECT, "")])
            .refused(400, 10164, WRONG),
        Case::new(
            "expect-per-subj-not-first, of another",
            &[("s.baz", "", ""), ("s.bar", OF_BAZ, "")],
        )
        .refused(400, 10164, WRONG),
        Case::new(
            "expect-per-subj-in-process",
            &[("s.baz", "Nats-Expected-Last-Subject-Sequence: 10", "")],
        )
        .in_flight(&[("s.foo", OF_BAZ)])
        .refused(400, 10164, WRONG),
        Case::new("expect-per-subj-inflight", &[("s.foo", OF_BAZ, "")])
            .in_flight(&[("s.baz", "")])
            .refused(400, 10164, WRONG),
    ]
}

const OF_BAZ: &str = "Nats-Expected-Last-Subject-Sequence: 0\r\n\
    Nats-Expected-Last-Subject-Sequence-Subject: s.baz";

fn rollup_cases() -> Vec<Case> {
    let rollups = |config: &mut StreamConfig| config.allow_rollup_hdrs = true;
    let kept = |config: &mut StreamConfig| {
        (config.allow_rollup_hdrs, config.deny_purge) = (true, true);
    };
    vec![
        Case::new("rollup-deny-purge", &[("s.foo", ROLLUP, "")]).with(kept).refused(
            500,
            10111,
            "rollup not permitted",
        ),
        Case::new("rollup-invalid", &[("s.foo", "Nats-Rollup: invalid", "")])
            .with(rollups)
            .refused(500, 10111, r#"rollup value invalid: \"invalid\""#),
        Case::new("rollup-all-first", &[("s.foo", "Nats-Rollup: all", "")]).with(rollups),
        Case::new("rollup-all-not-first", &[("s.foo", "", ""), ("s.bar", "Nats-Rollup: all", "")])
            .with(rollups)
            .refused(500, 10111, "batch rollup all invalid"),
        Case::new("rollup-sub-unique", &[("s.foo", ROLLUP, ""), ("s.bar", ROLLUP, "")])
            .with(rollups),
        Case::new("rollup-sub-overlap", &[("s.foo", ROLLUP, ""), ("s.foo", ROLLUP, "")])
            .with(rollups)
            .refused(500, 10111, "batch rollup sub invalid"),
    ]
}

/// Upstream calls one function for each message, and here the whole batch is published. A stream that
/// schedules takes rollups here, as upstream's does once its configuration is checked.
/// Red when `Staged::add` forgets subjects, ids, bytes or what was expected.
#[test]
fn jetstream_atomic_batch_publish_stage_and_commit() {
    let cases = [
        dedupe_cases(),
        counter_cases(),
        schedule_cases(),
        discard_cases(),
        expect_cases(),
        rollup_cases(),
    ];
    cases.iter().flatten().for_each(Case::play);
}

/// Red when a message may expect what another of its batch changes.
#[test]
fn jetstream_atomic_batch_publish_expected_per_subject() {
    let expects = "Nats-Expected-Last-Subject-Sequence: 1";
    for (first, second, taken) in
        [(expects, "", true), (expects, expects, false), ("", expects, false)]
    {
        let (mut one, mut two, mut log) = two(&atomic());
        log.publish(&mut one, "s.a", "");
        log.commit_to(&mut [&mut one, &mut two]);
        let done = publish(&mut log, &mut one, &[("s.a", first, ""), ("s.a", second, "")]);
        log.commit_to(&mut [&mut one, &mut two]);
        if !taken {
            assert_eq!(one.answer(done), error(400, 10164, WRONG));
            continue;
        }
        let told = r#"{"stream":"S","seq":3,"batch":"uuid","count":2}"#;
        assert_eq!(one.answer(done), told);
        let header = |sequence| message(&two, sequence).1;
        let of_batch = |number| format!("Nats-Batch-Id: uuid\r\nNats-Batch-Sequence: {number}\r\n");
        assert!(header(2).contains(&of_batch(1)) && header(2).contains(expects));
        assert!(header(3).contains(&of_batch(2)) && !header(3).contains("Nats-Expected"));
    }
}

/// Upstream looks at its counters after each message, and here the next one tells that none was lost.
/// Red when `check_expected` counts a batch twice.
#[test]
fn jetstream_atomic_batch_publish_expected_seq() {
    let (mut one, mut two, mut log) = two(&atomic());
    log.publish(&mut one, "s.a", "hello");
    log.commit_to(&mut [&mut one, &mut two]);
    let single = log.publish_with(&mut one, "s.a", "Nats-Expected-Last-Sequence: 1", "hello");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(single), ack(2));
    let batch = publish(&mut log, &mut one, &[("s.a", "Nats-Expected-Last-Sequence: 2", "")]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(batch), r#"{"stream":"S","seq":3,"batch":"uuid","count":1}"#);
    assert_eq!(two.stream.state().failed, 0);
    let next = log.publish_with(&mut one, "s.a", "Nats-Expected-Last-Sequence: 3", "hello");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), ack(4));
}

/// Red when the last sequences of two subjects are mixed up.
#[test]
fn jetstream_atomic_batch_publish_expected_last_subject_sequence() {
    let (mut one, mut two, mut log) = two(&atomic());
    log.publish(&mut one, "s.A", "");
    log.publish(&mut one, "s.B", "");
    log.commit_to(&mut [&mut one, &mut two]);
    let of = |subject: &str, sequence: u64| {
        format!(
            "Nats-Expected-Last-Subject-Sequence: {sequence}\r\n\
             Nats-Expected-Last-Subject-Sequence-Subject: {subject}"
        )
    };
    let both = format!("Nats-Expected-Last-Sequence: 2\r\n{}", of("s.A", 1));
    let first = log.publish_with(&mut one, "s.A", &fields("uuid", 1, &both), "");
    assert_eq!((one.answer(first), one.answered(first)), ("", true), "an empty answer");
    let commit = format!("{COMMIT}\r\n{}", of("s.B", 2));
    let done = log.publish_with(&mut one, "s.B", &fields("uuid", 2, &commit), "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(done), r#"{"stream":"S","seq":4,"batch":"uuid","count":2}"#);
    let wrong = part(&mut log, &mut one, "other", 1, &format!("{COMMIT}\r\n{}", of("s.B", 2)));
    assert_eq!(one.answer(wrong), error(400, 10071, "wrong last sequence: 4"));
}
