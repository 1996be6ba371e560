//! What a stream keeps at most, and what it takes no more: `jetstream_test.go`,
//! `jetstream_cluster_*_test.go`, `filestore_test.go` and `store_test.go` of upstream.

use jetwake::ids::Sequence;
use jetwake::wire::{DiscardPolicy, EntryKind, StorageType, StreamConfig, StreamMessageView};

use super::{STORAGES, publish_each, span};
use crate::rig::{Log, Replica, ack, assert_same, config, error, two};

fn full(what: &str) -> String {
    error(503, 10077, &format!("maximum {what} exceeded"))
}

fn one_of_each(storage: StorageType) -> StreamConfig {
    StreamConfig {
        storage,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_msgs_per_subject: 1,
        ..config()
    }
}

/// That the configuration needs both bounds is in `tests/meta`.
/// Red when `check_room` does not look at the subject.
#[test]
fn jetstream_cluster_discard_new_and_max_msgs_per_subject() {
    for storage in STORAGES {
        let config = StreamConfig { max_msgs: 10, ..one_of_each(storage) };
        let (mut one, mut two, mut log) = two(&config);
        publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 1);
        let refused = log.publish(&mut one, "s.foo", "");
        assert_eq!(one.answer(refused), full("messages per subject"));
        let other = log.publish(&mut one, "s.bar", "");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(other), ack(2));
    }
}

/// Red when a message that the bound refuses is proposed and fails.
#[test]
fn jetstream_cluster_discard_new_per_subject_rejects_without_clfs_bump() {
    let (mut one, mut two, mut log) = two(&one_of_each(StorageType::File));
    let first = log.publish(&mut one, "s.foo", "");
    log.commit_to(&mut [&mut one, &mut two]);
    let refused = log.publish(&mut one, "s.foo", "");
    assert_eq!(
        (one.answer(first), one.answer(refused)),
        (&*ack(1), &*full("messages per subject"))
    );
    log.delete(&mut one, 1);
    log.commit_to(&mut [&mut one, &mut two]);
    let retried = log.publish(&mut one, "s.foo", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(retried), ack(2));
    assert_eq!((one.stream.state().failed, two.stream.state().failed), (0, 0));
    assert_same(&one, &two);
}

/// Red when one of the two bounds is looked at alone.
#[test]
fn file_store_max_msgs_and_max_msgs_per_subject() {
    let config = StreamConfig { max_msgs: 100, ..one_of_each(StorageType::File) };
    let (mut one, mut two, mut log) = two(&config);
    for number in 1..=101 {
        let id = log.publish(&mut one, &format!("s.{number}"), "value");
        log.commit_to(&mut [&mut one, &mut two]);
        let expected = if number == 101 { full("messages") } else { ack(number) };
        assert_eq!(one.answer(id), expected);
    }
    for number in 1..=100 {
        let id = log.publish(&mut one, &format!("s.{number}"), "value");
        assert!(one.answer(id).contains(r#""err_code":10077"#), "{}", one.answer(id));
    }
    assert_eq!((span(&two), two.stream.state().deleted_count), ((100, 1, 100), 0));
    assert_same(&one, &two);
}

/// The server's answer in a cluster is the same. Red when a bound of bytes takes out too much.
#[test]
fn file_store_bytes_limit() {
    let body = "0".repeat(512);
    let (mut one, _, mut log) = two(&config());
    log.publish(&mut one, "s.foo", &body);
    log.commit_to(&mut [&mut one]);
    let size = one.stream.state().bytes.get();
    let bound = i64::try_from(size * 1024).expect("it fits");
    let (mut one, mut two, mut log) =
        crate::rig::two(&StreamConfig { max_bytes: bound, ..config() });
    (0..1024).for_each(|_| _ = log.publish(&mut one, "s.foo", &body));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((span(&one), one.stream.state().bytes.get()), ((1024, 1, 1024), size * 1024));
    (0..10).for_each(|_| _ = log.publish(&mut one, "s.foo", &body));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((span(&two), two.stream.state().bytes.get()), ((1024, 11, 1034), size * 1024));
    assert_same(&one, &two);
}

/// A message as a leader of another kind proposes it, who knows of no bound.
fn propose_raw(log: &mut Log, replicas: &mut [&mut Replica]) {
    let last = replicas[0].stream.state().last;
    let message = StreamMessageView {
        subject: b"s.foo",
        sequence: Sequence::new(last.get()),
        timestamp: 5,
        ..StreamMessageView::default()
    };
    log.push_raw(EntryKind::Normal, &message.to_bytes().expect("short"));
    log.commit_to(replicas);
}

/// Where a subject replaces its message, upstream's store has room for it and its leaders of a cluster
/// refuse it, as ours do.
/// Red when a follower refuses, or takes out, what the leader took.
#[test]
fn store_discard_new() {
    let new = StreamConfig { discard: DiscardPolicy::New, ..config() };
    let each = StreamConfig { max_msgs_per_subject: 1, ..new.clone() };
    let refusing = StreamConfig { discard_new_per_subject: true, ..each.clone() };
    let of_subject = Some("messages per subject");
    for (config, refused) in [
        (StreamConfig { max_msgs: 1, ..new.clone() }, Some("messages")),
        (StreamConfig { max_bytes: 35, ..new }, Some("bytes")),
        (each.clone(), None),
        (refusing.clone(), of_subject),
        (StreamConfig { max_msgs: 1, ..each }, Some("messages")),
        (StreamConfig { max_msgs: 10, ..refusing }, of_subject),
    ] {
        for storage in STORAGES {
            let config = StreamConfig { storage, ..config.clone() };
            let (mut one, mut two, mut log) = two(&config);
            log.publish(&mut one, "s.foo", "");
            log.commit_to(&mut [&mut one, &mut two]);
            let second = log.publish(&mut one, "s.foo", "");
            log.commit_to(&mut [&mut one, &mut two]);
            let last = match refused {
                None => 2,
                Some(what) => {
                    assert_eq!(one.answer(second), full(what), "{config:?}");
                    1
                }
            };
            let first = if config.max_msgs_per_subject == 1 { last } else { 1 };
            assert_eq!(span(&two), (last - first + 1, first, last));
            propose_raw(&mut log, &mut [&mut one, &mut two]);
            let first = if config.max_msgs_per_subject == 1 { last + 1 } else { 1 };
            assert_eq!(span(&two), (last + 2 - first, first, last + 1), "{config:?}");
            assert_same(&one, &two);
        }
    }
}

/// Red when either bound of a stream that discards new messages is not looked at.
#[test]
fn jetstream_add_stream_discard_new() {
    for storage in STORAGES {
        let discard = DiscardPolicy::New;
        let config = StreamConfig { storage, discard, max_msgs: 10, max_bytes: 4096, ..config() };
        let (mut one, mut two, mut log) = two(&config);
        (1..=10).for_each(|number| _ = log.publish(&mut one, "s.foo", &format!("MSG: {number}")));
        log.commit_to(&mut [&mut one, &mut two]);
        let refused = log.publish(&mut one, "s.foo", "discard me");
        assert_eq!(one.answer(refused), full("messages"));
        log.purge(&mut one, "", 0, 0);
        log.commit_to(&mut [&mut one, &mut two]);
        let refused = log.publish(&mut one, "s.foo", &"0".repeat(8192));
        assert_eq!(one.answer(refused), full("bytes"));
        let fits = log.publish(&mut one, "s.foo", &"0".repeat(2048));
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(fits), ack(11));
    }
}

/// Red when `check_size` does not look at the stream's own bound.
#[test]
fn jetstream_add_stream_max_msg_size() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) =
            two(&StreamConfig { storage, max_msg_size: 22, ..config() });
        let fits = log.publish(&mut one, "s.foo", "Hello World!");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(fits), ack(1));
        let refused = log.publish(&mut one, "s.foo", "1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        let why = "message size exceeds maximum allowed";
        assert_eq!(one.answer(refused), error(400, 10054, why));
    }
}

/// Red when a bound of one subject takes out too few, or too many.
#[test]
fn jetstream_message_per_subject_keep_bug() {
    for storage in STORAGES {
        for keep in [10, 1] {
            let config = StreamConfig { storage, max_msgs_per_subject: keep, ..config() };
            let (mut one, mut two, mut log) = two(&config);
            publish_each(&mut log, &mut [&mut one, &mut two], "s.TEST", 100);
            let keep = keep.unsigned_abs();
            assert_eq!(span(&two), (keep, 101 - keep, 100));
            assert_same(&one, &two);
        }
    }
}

/// That the denials cannot be taken back is in `tests/meta`.
/// Red when a leader proposes what its stream denies.
#[test]
fn jetstream_cluster_append_only() {
    let deny = StreamConfig { deny_delete: true, deny_purge: true, ..config() };
    let (mut one, mut two, mut log) = two(&StreamConfig { storage: STORAGES[1], ..deny });
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 10);
    let delete = log.delete(&mut one, 1);
    let purge = log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one, &mut two]);
    let why = r#""err_code":10057,"description":"message delete not permitted""#;
    assert!(one.answer(delete).contains(why), "{}", one.answer(delete));
    let why = r#""err_code":10110,"description":"stream purge not permitted""#;
    assert!(one.answer(purge).contains(why), "{}", one.answer(purge));
    assert_eq!(span(&two), (10, 1, 10));
}

/// Ours chooses by a fixed rule and not at random, and has nobody that reads.
/// Red when a rollup takes out messages of other subjects, or leaves some of its own.
#[test]
fn jetstream_cluster_rollups() {
    let config = StreamConfig { max_msgs_per_subject: 10, allow_rollup_hdrs: true, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    for number in 0..1000 {
        log.publish(&mut one, &format!("s.{}.temp", number * 7 % 9 + 1), "xx");
        if number % 50 == 49 {
            log.commit_to(&mut [&mut one, &mut two]);
        }
    }
    assert_eq!(two.stream.state().messages, 90);
    let of = |replica: &Replica, subject: &str| -> usize {
        let subjects = replica.kept().into_iter().map(|at| crate::schedule::message(replica, at).0);
        subjects.filter(|found| found == subject).count()
    };
    assert_eq!(of(&two, "s.3.temp"), 10);
    log.publish_with(&mut one, "s.3.temp", "Nats-Rollup: sub", "avg");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((of(&two, "s.3.temp"), of(&two, "s.4.temp")), (1, 10));
    log.publish_with(&mut one, "s.3.temp", "Nats-Rollup: all", "avg");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((of(&two, "s.3.temp"), two.stream.state().messages), (1, 1));
    assert_same(&one, &two);
}

/// There is no consumer of a stream's replica to ask: what waits for one is what the stream has.
/// Red when a rollup of a subject takes out the message that brings it.
#[test]
fn jetstream_rollup() {
    let (mut one, mut two, mut log) = two(&StreamConfig { allow_rollup_hdrs: true, ..config() });
    for _ in 0..10 {
        publish_each(&mut log, &mut [&mut one, &mut two], "s.A", 1);
        publish_each(&mut log, &mut [&mut one, &mut two], "s.B", 1);
    }
    assert_eq!(span(&two).0, 20);
    let rollup = log.publish_with(&mut one, "s.A", "Nats-Rollup: sub", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(rollup), span(&two)), (&*ack(21), (11, 2, 21)));
    assert_eq!(crate::schedule::message(&two, 21).0, "s.A");
    assert_same(&one, &two);
}
