//! Deletes and purges, and what is left of them after a start: `jetstream_cluster_*_test.go`,
//! `jetstream_test.go`, `filestore_test.go`, `memstore_test.go` and `store_test.go` of upstream.

use super::{STORAGES, hand_over, publish_each, span};
use crate::catchup::snapshot;
use crate::rig::{Log, Replica, ack, assert_same, config, two};
use crate::schedule::message;
use jetwake::wire::StreamConfig;

/// Purges, and commits; how many messages went.
fn purge(
    log: &mut Log,
    replicas: &mut [&mut Replica],
    filter: &str,
    before: u64,
    keep: u64,
) -> u64 {
    let id = log.purge(replicas[0], filter, before, keep);
    log.commit_to(replicas);
    let answer = replicas[0].answer(id);
    let purged = answer.rsplit_once(r#""purged":"#).expect(answer).1;
    purged.trim_end_matches('}').parse().expect("a number")
}

fn delete(log: &mut Log, replicas: &mut [&mut Replica], sequence: u64) {
    let id = log.delete(replicas[0], sequence);
    log.commit_to(replicas);
    let answer = replicas[0].answer(id);
    assert!(answer.contains(r#""success":true"#), "{answer}");
}

/// How many sequences between the ends are gone.
fn deleted(replica: &Replica) -> u64 {
    replica.stream.state().deleted_count
}

/// Upstream's file store tells what lies outside its ends from what is gone between them; its memory
/// store does not.
/// Red when a message before the first is looked for as one between the ends.
#[test]
fn jetstream_cluster_delete_msg_eof() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..config() });
        publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 3);
        let mut tried = |one: &mut Replica, two: &mut Replica, sequence: u64| {
            let id = log.delete(one, sequence);
            log.commit_to(&mut [one, two]);
            one.answer(id).to_string()
        };
        let file = storage == STORAGES[0];
        let unknown = |answer: &str, sequence: u64, why: &str, outside: bool| {
            let expected = match outside && file {
                true => format!(r#""code":500,"err_code":10057,"description":"{why}""#),
                false => format!(
                    r#""code":400,"err_code":10043,"description":"sequence {sequence} not found""#
                ),
            };
            assert!(answer.contains(&expected), "{answer}");
        };
        unknown(&tried(&mut one, &mut two, 0), 0, "no message found", true);
        assert!(tried(&mut one, &mut two, 2).contains(r#""success":true"#));
        unknown(&tried(&mut one, &mut two, 2), 2, "", false);
        assert!(tried(&mut one, &mut two, 1).contains(r#""success":true"#));
        unknown(&tried(&mut one, &mut two, 1), 1, "no message found", true);
        unknown(&tried(&mut one, &mut two, 4), 4, "stream store EOF", true);
        assert!(tried(&mut one, &mut two, 3).contains(r#""success":true"#));
        unknown(&tried(&mut one, &mut two, 3), 3, "no message found", true);
        unknown(&tried(&mut one, &mut two, 4), 4, "stream store EOF", true);
        assert_same(&one, &two);
    }
}

/// Red when a delete does not reach the store, or its mark.
#[test]
fn jetstream_cluster_delete_msg_and_restart() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.TEST", 10);
    delete(&mut log, &mut [&mut one, &mut two], 1);
    let (mut one, mut two) = (one.restart(), two.restart());
    assert_eq!((span(&one), span(&two)), ((9, 2, 10), (9, 2, 10)));
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    let next = log.publish(&mut two, "s.TEST", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(two.answer(next), ack(11));
    assert_same(&one, &two);
}

/// Red when a purge does not reach the store, or is done again by a start.
#[test]
fn jetstream_cluster_purge_replay_after_restart() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.TEST", 10);
    purge(&mut log, &mut [&mut one, &mut two], "", 0, 0);
    publish_each(&mut log, &mut [&mut one, &mut two], "s.TEST", 10);
    let (mut one, mut two) = (one.restart(), two.restart());
    log.feed(&mut one);
    log.feed(&mut two);
    assert_eq!((span(&one), span(&two)), ((10, 11, 20), (10, 11, 20)));
    // And one that has nothing but the log.
    let mut third = Replica::new("n3", crate::rig::Store::default());
    log.feed(&mut third);
    assert_same(&third, &one);
    assert_same(&one, &two);
}

/// A leader takes a snapshot, does something, dies, comes back, and leads again.
fn comes_back(
    log: &mut Log,
    (mut one, mut two): (Replica, Replica),
    act: impl FnOnce(&mut Log, &mut Replica, &mut Replica),
) -> (Replica, Replica) {
    snapshot(&mut one);
    act(log, &mut one, &mut two);
    hand_over(&mut one, &mut two);
    let mut one = one.restart();
    log.feed(&mut one);
    hand_over(&mut two, &mut one);
    assert_same(&one, &two);
    (one, two)
}

/// Red when a purge with a subject, or with what it keeps, is done otherwise by a start.
#[test]
fn jetstream_cluster_purge_ex_replay_after_restart() {
    let (mut one, mut two, mut log) = two(&config());
    let send = |log: &mut Log, one: &mut Replica, two: &mut Replica, subjects: &[u64]| {
        for subject in subjects {
            log.publish(one, &format!("s.{subject}"), "OK");
            log.commit_to(&mut [one, two]);
        }
    };
    send(&mut log, &mut one, &mut two, &[0, 1, 2]);
    let (one, two) = comes_back(&mut log, (one, two), |log, one, two| {
        purge(log, &mut [one, two], "s.0", 0, 0);
    });
    assert_eq!(span(&one), (2, 2, 3));
    let (one, two) = comes_back(&mut log, (one, two), |log, one, two| {
        purge(log, &mut [one, two], "", 0, 0);
        send(log, one, two, &[1, 2]);
    });
    assert_eq!(span(&one), (2, 4, 5));
    let (one, two) = comes_back(&mut log, (one, two), |log, one, two| {
        purge(log, &mut [one, two], "", 0, 1);
        send(log, one, two, &[1, 2, 3, 1]);
    });
    assert_eq!(span(&one), (5, 5, 9));
    let (one, two) = comes_back(&mut log, (one, two), |log, one, two| {
        purge(log, &mut [one, two], "s.1", 0, 1);
        send(log, one, two, &[1, 2, 3]);
    });
    assert_eq!((span(&one), span(&two)), ((7, 5, 12), (7, 5, 12)));
}

/// Ours has no reader: what would be read is what is kept. Red when the bound of a purge counts itself.
#[test]
fn jetstream_cluster_purge_by_sequence() {
    for storage in STORAGES {
        let config = StreamConfig { storage, max_msgs_per_subject: 5, ..config() };
        let (mut one, mut two, mut log) = two(&config);
        publish_each(&mut log, &mut [&mut one, &mut two], "s.app.username", 20);
        publish_each(&mut log, &mut [&mut one, &mut two], "s.app.password", 20);
        let of_each = [16, 17, 18, 19, 20, 36, 37, 38, 39, 40];
        assert_eq!(two.kept(), of_each);
        assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "s.app.username", 18, 0), 2);
        assert_eq!(two.kept(), of_each[2..]);
        assert_same(&one, &two);
    }
}

/// Red when a purge up to a sequence leaves sequences that count as deleted.
#[test]
fn jetstream_purge_ex_seq_simple() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..config() });
        (0..1000).for_each(|_| _ = log.publish(&mut one, "s.test", "x"));
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "", 900, 0), 899);
        assert_eq!((span(&two), deleted(&two)), ((101, 900, 1000), 0));
        assert_same(&one.restart(), &two);
    }
}

/// Red when the first sequence is that of the purge, where a gap is.
#[test]
fn jetstream_purge_ex_seq_in_interior_delete_gap() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..config() });
        log.publish(&mut one, "s.start", "x");
        (0..1000).for_each(|_| _ = log.publish(&mut one, "s.mid", "x"));
        log.publish(&mut one, "s.end", "x");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "s.mid", 0, 0), 1000);
        assert_eq!((span(&two), deleted(&two)), ((2, 1, 1002), 1000));
        assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "", 900, 0), 1);
        assert_eq!((span(&two), deleted(&two)), ((1, 1002, 1002), 0));
        assert_same(&one.restart(), &two);
    }
}

/// The account's usage is what the stream holds. Red when a purge of a subject keeps its bytes.
#[test]
fn jetstream_purge_ex_and_accounting() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..config() });
        for _ in 0..100 {
            log.publish(&mut one, "s.foo", "accounting");
            log.publish(&mut one, "s.bar", "accounting");
        }
        log.commit_to(&mut [&mut one, &mut two]);
        let before = two.stream.state().bytes.get();
        assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "s.foo", 0, 0), 100);
        assert_eq!(two.stream.state().bytes.get(), before / 2);
        assert_same(&one, &two);
    }
}

/// Its blocks and files are not ours. Red when the ends of an empty stream are lost by a start.
#[test]
fn file_store_purge() {
    let (mut one, mut two, mut log) = two(&config());
    for round in 1..=2 {
        (0..1024).for_each(|_| _ = log.publish(&mut one, "s.foo", "x"));
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(two.stream.state().messages, 1024);
        assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "", 0, 0), 1024);
        let empty = (0, round * 1024 + 1, round * 1024);
        assert_eq!((span(&two), two.stream.state().bytes.get()), (empty, 0));
        two = two.restart();
        assert_eq!(span(&two), empty);
    }
    assert_same(&one, &two);
}

/// Red when a purge beyond the end does not move the first sequence.
#[test]
fn file_store_compact() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 10);
    assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "", 6, 0), 5);
    assert_eq!(span(&two), (5, 6, 10));
    assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "", 100, 0), 5);
    assert_eq!(span(&two), (0, 100, 99));
    assert_eq!(span(&two.restart()), (0, 100, 99));
}

/// Red when the messages that a subject keeps are counted over all subjects.
#[test]
fn file_store_purge_ex_keep_one_bug() {
    let (mut one, mut two, mut log) = two(&config());
    let fill = "X".repeat(128);
    for (subject, body) in [("s.A", "META"), ("s.B", &*fill), ("s.A", "META"), ("s.B", &*fill)] {
        log.publish(&mut one, subject, body);
    }
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "s.A", 0, 1), 1);
    assert_eq!((two.kept(), message(&two, 3).0), ([2, 3, 4].to_vec(), "s.A".into()));
    assert_same(&one, &two);
}

/// The index is not a file here: each start makes it from the messages and the store's mark. A bound of one
/// is none for upstream, and below it is nothing for ours: all of a subject goes without a bound.
/// Red when a start takes what a purge left for what was never there.
#[test]
fn file_store_purge_ex_with_subject() {
    let (mut one, mut two, mut log) = two(&config());
    log.publish(&mut one, "s.0", "x");
    (0..200).for_each(|_| _ = log.publish(&mut one, "s.1", "x"));
    log.publish(&mut one, "s.2", "xxxxxx");
    log.commit_to(&mut [&mut one, &mut two]);
    let before = two.store.clone();
    assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "s.1", 1, 0), 0, "nothing is below one");
    assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "s.1", 0, 0), 200);
    assert_eq!((span(&two), deleted(&two)), ((2, 1, 202), 200));
    let again = two.restart();
    assert_same(&again, &one);
    // A crash lost the purge, and the log has it.
    let mut crashed = Replica::new("n3", before);
    log.feed(&mut crashed);
    assert_same(&crashed, &one);
}

/// Red when deletes at the front leave the first sequence where it was, after a start too.
#[test]
fn file_store_remove_partial_recovery() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 100);
    for sequence in 1..=50 {
        delete(&mut log, &mut [&mut one, &mut two], sequence);
    }
    let state = two.stream.state();
    assert_eq!((span(&two), deleted(&two)), ((50, 51, 100), 0));
    assert_eq!(two.restart().stream.state(), state);
}

/// Ours says how many are gone, and which in its snapshots.
/// Red when the front does not move past what is gone already.
#[test]
fn file_store_stream_state_deleted() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 10);
    assert_eq!(deleted(&two), 0);
    for sequence in [2, 4, 6, 8] {
        delete(&mut log, &mut [&mut one, &mut two], sequence);
    }
    assert_eq!((deleted(&two), two.kept()), (4, [1, 3, 5, 7, 9, 10].to_vec()));
    delete(&mut log, &mut [&mut one, &mut two], 1);
    delete(&mut log, &mut [&mut one, &mut two], 3);
    assert_eq!((deleted(&two), span(&two)), (2, (4, 5, 10)));
    purge(&mut log, &mut [&mut one, &mut two], "", 0, 0);
    assert_eq!((deleted(&two), span(&two)), (0, (0, 11, 10)));
    assert_same(&one.restart(), &two);
}

/// Red when an emptied stream begins at its last message.
#[test]
fn mem_store_delete_all_first_sequence_check() {
    let config = StreamConfig { storage: STORAGES[1], ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 10);
    for sequence in 1..=10 {
        delete(&mut log, &mut [&mut one, &mut two], sequence);
    }
    assert_eq!(span(&two), (0, 11, 10));
    assert_same(&one, &two);
}

/// Red when a purge counts what was gone, or begins at a sequence that is.
#[test]
fn mem_store_purge_ex_with_deleted_msgs() {
    let config = StreamConfig { storage: STORAGES[1], ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 10);
    delete(&mut log, &mut [&mut one, &mut two], 2);
    delete(&mut log, &mut [&mut one, &mut two], 9);
    assert_eq!(purge(&mut log, &mut [&mut one, &mut two], "", 9, 0), 7);
    assert_eq!(span(&two), (1, 10, 10));
    assert_same(&one, &two);
}
