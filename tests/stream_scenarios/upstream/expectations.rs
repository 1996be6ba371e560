//! What publishers expect of a stream, and what stands in their headers: `jetstream_test.go` and
//! `jetstream_cluster_*_test.go` of upstream.

use jetwake::wire::{StreamConfig, StreamMessageView};

use super::{STORAGES, hand_over, publish_each};
use crate::rig::{Log, Replica, ack, assert_same, config, error, two};

fn expect(sequence: u64) -> String {
    format!("Nats-Expected-Last-Subject-Sequence: {sequence}")
}

/// Publishes and commits; whether it was taken, and else what the last sequence was said to be.
fn check(
    log: &mut Log,
    one: &mut Replica,
    two: &mut Replica,
    subject: &str,
    fields: &str,
    wrong: Option<u64>,
) {
    let id = log.publish_with(one, subject, fields, "HELLO");
    log.commit_to(&mut [one, two]);
    match wrong {
        None => assert!(
            one.answer(id).contains(r#""seq":"#) && !one.answer(id).contains("error"),
            "{subject} {fields}"
        ),
        Some(last) => {
            let why = format!("wrong last sequence: {last}");
            assert_eq!(one.answer(id), error(400, 10071, &why), "{subject} {fields}");
        }
    }
}

/// Red when `expected_stream` or a last sequence is not looked at, or forgotten by a restart.
#[test]
fn jetstream_publish_expect() {
    let (mut one, mut two, mut log) = two(&config());
    let fields = "Nats-Expected-Stream: S";
    let right = log.publish_with(&mut one, "s.bar", fields, "HELLO");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(right), ack(1));
    let wrong = log.publish_with(&mut one, "s.bar", "Nats-Expected-Stream: ORDERS", "HELLO");
    assert_eq!(one.answer(wrong), error(400, 10060, "expected stream does not match"));
    for last in ["10", "0"] {
        let fields = format!("{fields}\r\nNats-Expected-Last-Sequence: {last}");
        check(&mut log, &mut one, &mut two, "s.bar", &fields, Some(1));
    }
    log.publish_with(&mut one, "s.bar", "Nats-Msg-Id: AAA", "HELLO");
    log.commit_to(&mut [&mut one, &mut two]);
    let fields = "Nats-Msg-Id: ZZZ\r\nNats-Expected-Last-Msg-Id: BBB";
    let wrong = log.publish_with(&mut one, "s.bar", fields, "HELLO");
    assert_eq!(one.answer(wrong), error(400, 10070, "wrong last msg ID: AAA"));
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let fields =
        "Nats-Msg-Id: BBB\r\nNats-Expected-Last-Sequence: 2\r\nNats-Expected-Last-Msg-Id: AAA";
    let right = log.publish_with(&mut one, "s.baz", fields, "HELLO AGAIN");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(right), ack(3));
    assert_same(&one, &two);
}

/// Red when a purge leaves the last sequence of a subject.
#[test]
fn jetstream_publish_expect_no_msg() {
    let (mut one, mut two, mut log) = two(&StreamConfig { max_msgs_per_subject: 5, ..config() });
    publish_each(&mut log, &mut [&mut one, &mut two], "s.22", 1);
    check(&mut log, &mut one, &mut two, "s.33", &expect(0), None);
    check(&mut log, &mut one, &mut two, "s.22", &expect(0), Some(1));
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one, &mut two]);
    check(&mut log, &mut one, &mut two, "s.22", &expect(0), None);
    assert_same(&one, &two);
}

/// Red when the last sequence of the stream is compared.
#[test]
fn jetstream_last_sequence_by_subject() {
    for storage in STORAGES {
        let config = StreamConfig { storage, max_msgs_per_subject: 1, ..config() };
        let (mut one, mut two, mut log) = two(&config);
        for subject in ["s.foo", "s.bar", "s.baz"] {
            publish_each(&mut log, &mut [&mut one, &mut two], subject, 1);
        }
        for (subject, sequence, wrong) in [
            ("s.foo", 1, None),
            ("s.foo", 1, Some(4)),
            ("s.bar", 2, None),
            ("s.bar", 5, None),
            ("s.xxx", 5, Some(0)),
        ] {
            check(&mut log, &mut one, &mut two, subject, &expect(sequence), wrong);
        }
        assert_same(&one, &two);
    }
}

/// Red when the subject that is named is not the one that is looked for.
#[test]
fn jetstream_last_sequence_by_subject_with_subject() {
    for storage in STORAGES {
        let config = StreamConfig { storage, max_msgs_per_subject: 1, ..config() };
        let (mut one, mut two, mut log) = two(&config);
        for subject in ["1.foo", "1.bar", "2.foo", "3.bar", "1.baz", "1.bar", "2.baz"] {
            publish_each(&mut log, &mut [&mut one, &mut two], &format!("s.{subject}"), 1);
        }
        for (subject, of, sequence, wrong) in [
            ("s.1.foo", "s.1.*", 0, Some(6)),
            ("s.1.bar", "s.1.*", 0, Some(6)),
            ("s.1.xxx", "s.1.*", 0, Some(6)),
            ("s.1.foo", "s.1.*", 1, Some(6)),
            ("s.2.foo", "s.2.*", 1, Some(7)),
            ("s.2.xxx", "s.2.*", 1, Some(7)),
            ("s.1.bar", "s.1.*", 2, Some(6)),
            ("s.1.bar", "s.1.*", 5, Some(6)),
            ("s.1.bar", "s.1.*", 6, None),
            ("s.1.baz", "s.1.*", 2, Some(8)),
            ("s.1.bar", "s.1.*", 7, Some(8)),
            ("s.1.xxx", "s.1.*", 8, None),
            ("s.2.foo", "s.2.*", 2, Some(7)),
            ("s.2.foo", "s.2.*", 7, None),
            ("s.xxx", "s.*", 0, None),
            ("s.xxx", "s.*.*", 0, Some(10)),
            ("s.3.xxx", "s.3.*", 4, None),
            ("s.3.xyz", "s.3.*", 12, None),
        ] {
            let fields = format!(
                "{}\r\nNats-Expected-Last-Subject-Sequence-Subject: {of}",
                expect(sequence)
            );
            check(&mut log, &mut one, &mut two, subject, &fields, wrong);
        }
        let alone = "Nats-Expected-Last-Subject-Sequence-Subject: s.invalid";
        let id = log.publish_with(&mut one, "s.invalid", alone, "HELLO");
        let why = "missing sequence for expected last sequence per subject";
        assert_eq!(one.answer(id), error(400, 10193, why));
        assert_same(&one, &two);
    }
}

/// Many publishers come at once, each behind what the others have in flight.
/// Red when what is in flight does not count.
#[test]
fn jetstream_last_sequence_by_subject_concurrent() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..config() });
        for sequence in 0..5 {
            let ids: Vec<_> = (0..20)
                .map(|_| log.publish_with(&mut one, "s.foo", &expect(sequence), ""))
                .collect();
            log.commit_to(&mut [&mut one, &mut two]);
            let taken = ids.iter().filter(|id| one.answer(**id) == ack(sequence + 1)).count();
            let wrong = error(400, 10164, "wrong last sequence");
            let refused = ids.iter().filter(|id| one.answer(**id) == wrong).count();
            assert_eq!((taken, refused), (1, 19));
        }
        assert_eq!((two.kept(), two.stream.state().failed), ([1, 2, 3, 4, 5].to_vec(), 0));
        assert_same(&one, &two);
    }
}

/// Upstream writes into its maps, and here messages are in flight.
/// Red when `Leadership::take_off` or its counterpart forgets one of the two counts.
#[test]
fn jetstream_cluster_expected_per_subject_consistency() {
    let wrong = error(400, 10164, "wrong last sequence");
    let (mut one, mut two, mut log) = two(&config());
    // Another message expects the subject's last sequence.
    let of = format!("{}\r\nNats-Expected-Last-Subject-Sequence-Subject: s.foo", expect(0));
    log.publish_with(&mut one, "s.other", &of, "");
    let blocked = log.publish_with(&mut one, "s.foo", &expect(0), "");
    assert_eq!(one.answer(blocked), wrong);
    log.commit_to(&mut [&mut one, &mut two]);
    let taken = log.publish_with(&mut one, "s.foo", &expect(0), "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(taken), ack(2));
    // Another message of the subject is in flight, and expects nothing.
    log.publish(&mut one, "s.foo", "");
    let blocked = log.publish_with(&mut one, "s.foo", &expect(2), "");
    assert_eq!(one.answer(blocked), wrong);
    log.commit_to(&mut [&mut one, &mut two]);
    let taken = log.publish_with(&mut one, "s.foo", &expect(3), "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(taken), ack(4));
    // What was in flight is forgotten with the leadership too.
    log.publish_with(&mut one, "s.foo", &expect(4), "");
    log.commit();
    log.records.pop();
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let taken = log.publish_with(&mut one, "s.foo", &expect(4), "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(taken), ack(5));
    assert_same(&one, &two);
}

/// What a client of the key-value store sends. Red when the answer names what was expected.
#[test]
fn jetstream_cluster_key_value_last_seq_mismatch() {
    let (mut one, mut two, mut log) = two(&config());
    for (subject, revision) in [("s.foo", 1), ("s.bar", 2)] {
        let created = log.publish_with(&mut one, subject, &expect(0), "1");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(created), ack(revision));
    }
    check(&mut log, &mut one, &mut two, "s.baz", &expect(1), Some(0));
}

/// A second create is refused before it is proposed, so no replica can store the put twice or never.
/// Red when a start behind a refusal counts other than those that go on.
#[test]
fn jetstream_cluster_key_value_desync_after_hard_kill() {
    let (mut one, mut two, mut log) = two(&StreamConfig { max_msgs_per_subject: 1, ..config() });
    let created = log.publish_with(&mut one, "s.exists", &expect(0), "1");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(created), ack(1));
    check(&mut log, &mut one, &mut two, "s.exists", &expect(0), Some(1));
    let put = log.publish(&mut one, "s.put", "3");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(put), ack(2));
    // Its store lost all of it, or only the last change.
    for changes in [0, 1, 2] {
        let mut killed = Replica::new("n3", crate::rig::Store::default());
        killed.changes_left = changes;
        log.feed(&mut killed);
        let mut killed = killed.restart();
        log.feed(&mut killed);
        assert_same(&one, &killed);
    }
    assert_same(&one, &two);
}

/// Five clients create a key at once, and who succeeds updates it.
/// Red when two creates are taken, or what was refused is counted by one replica alone.
#[test]
fn jetstream_cluster_kv_multiple_concurrent_create() {
    let config = StreamConfig { max_msgs_per_subject: 1, max_age: 1_000_000_000, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    let ids: Vec<_> =
        (0..5).map(|_| log.publish_with(&mut one, "s.name", &expect(0), "dlc")).collect();
    log.commit_to(&mut [&mut one, &mut two]);
    let created: Vec<_> = ids.iter().filter(|id| one.answer(**id) == ack(1)).collect();
    assert_eq!(created.len(), 1);
    let updated = log.publish_with(&mut one, "s.name", &expect(1), "rip");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(updated), ack(2));
    let mut two = two.restart();
    let put = log.publish(&mut one, "s.name", "ik");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(put), ack(3));
    hand_over(&mut one, &mut two);
    let mut one = one.restart();
    let put = log.publish(&mut two, "s.name", "mh");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((two.answer(put), two.stream.state().failed), (&*ack(4), 0));
    assert_same(&one, &two);
}

/// A leader that had no quorum leads again: what it proposed then, and what it proposes now, follow on each
/// other in the log. Who stores and elects is upstream's Raft, and here the records come late.
/// Red when a leader counts from what is applied, and not from what is in its log.
#[test]
fn jetstream_cluster_consistency_after_leader_change() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 1);
    // Ten without quorum, then the leadership goes, and comes back when they are committed after all.
    (0..10).for_each(|_| _ = log.publish(&mut one, "s.foo", ""));
    log.commit();
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    log.feed(&mut one);
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    (0..10).for_each(|_| _ = log.publish(&mut one, "s.foo", ""));
    log.commit_to(&mut [&mut one, &mut two]);
    let mut proposed = Vec::new();
    for (_, entry, _) in &log.records {
        for (_, data) in entry.entries.views() {
            let mut unpacked = Vec::new();
            let view = StreamMessageView::decode(data, &mut unpacked, &one.limits);
            proposed.push(view.expect("a message").sequence.get());
        }
    }
    assert_eq!(proposed, (0..21).collect::<Vec<_>>());
    let next = log.publish(&mut one, "s.foo", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(next), ack(22));
    hand_over(&mut one, &mut two);
    let next = log.publish(&mut two, "s.foo", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(two.answer(next), ack(23));
    assert_same(&one, &two);
}

/// Red when a field is looked for anywhere in the header.
#[test]
fn jetstream_msg_id_header_collision() {
    let (mut one, mut two, mut log) = two(&config());
    let fields = [
        "Nats-Msg-Id: 1",
        "Orig-Nats-Msg-Id: 1",
        "Original-Nats-Msg-Id: 1",
        "Original-Nats-Msg-Id: 1\r\nReally-Original-Nats-Msg-Id: 1",
        "X: Nats-Msg-Id:1",
    ];
    for (sequence, fields) in (1..).zip(fields) {
        let id = log.publish_with(&mut one, "s.test", fields, "ok");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(id), ack(sequence), "{fields}");
    }
    assert_same(&one, &two);
}

/// Red when the length of a header is clipped to its sixteen bits.
#[test]
fn jetstream_cluster_large_headers() {
    let (mut one, mut two, mut log) = two(&config());
    let value = "0123456789abcdef".repeat(512);
    let fields: Vec<_> = (1..=10).map(|number| format!("LargeHeader-{number}: {value}")).collect();
    let refused = log.publish_with(&mut one, "s.foo", &fields.join("\r\n"), "Hello Large Headers!");
    let why = "header size exceeds maximum allowed of 64k";
    assert_eq!(one.answer(refused), error(400, 10097, why));
    let fits = log.publish_with(&mut one, "s.foo", &fields[..7].join("\r\n"), "Hello");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(fits), ack(1));
    assert_same(&one, &two);
}
