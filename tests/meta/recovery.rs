//! What a restart gathers of the log before anything starts.

use bytes::Bytes;
use jetwake::cluster::assignments::{Assignments, Change, StreamKey};
use jetwake::cluster::recovery::Recovery;
use jetwake::ids::PeerId;
use jetwake::wire::{
    ConsumerAssignment, ConsumerChange, MetaOp, MetaSnapshot, RaftGroup, StorageType,
};

use super::{consumer, op, stream};

pub(crate) fn stage(recovery: &mut Recovery, entry: &Bytes) {
    recovery.stage(op(entry)).expect("an operation of the meta group");
}

/// How many streams are to be made, to be removed, and how many consumers of TEST are to be made,
/// to be removed.
fn counts(recovery: &Recovery) -> [usize; 4] {
    let test = key("TEST");
    [
        recovery.added_streams().count(),
        recovery.removed_streams().count(),
        recovery.updated_consumers(&test).count(),
        recovery.removed_consumers(&test).count(),
    ]
}

pub(crate) fn key(name: &str) -> StreamKey {
    StreamKey { account: String::new(), name: name.into() }
}

/// Red when `Recovery::remove_stream` keeps the consumers that were staged.
#[test]
fn jetstream_cluster_meta_recovery_updates_deletes_consumers() {
    let mut recovery = Recovery::default();
    stage(&mut recovery, &stream("TEST", StorageType::File).encode_assign());
    stage(&mut recovery, &consumer("TEST", "consumer").encode_assign());
    assert_eq!(counts(&recovery), [1, 0, 1, 0]);
    stage(&mut recovery, &stream("TEST", StorageType::File).encode_remove());
    assert_eq!(counts(&recovery), [0, 1, 0, 0]);
    let mut assignments = Assignments::default();
    assert_eq!(recovery.finish(&mut assignments), []);
    assert_eq!(assignments, Assignments::default());
}

/// Red when `Recovery::remove_stream` keeps the stream that was staged, or when
/// `Recovery::finish` makes streams before it removes them.
#[test]
fn jetstream_cluster_meta_recovery_recreate_file_stream_as_memory() {
    let mut recovery = Recovery::default();
    stage(&mut recovery, &stream("TEST", StorageType::File).encode_assign());
    assert_eq!(counts(&recovery), [1, 0, 0, 0]);
    stage(&mut recovery, &stream("TEST", StorageType::File).encode_remove());
    assert_eq!(counts(&recovery), [0, 1, 0, 0]);
    stage(&mut recovery, &stream("TEST", StorageType::Memory).encode_assign());
    assert_eq!(counts(&recovery), [1, 1, 0, 0]);
    stage(&mut recovery, &consumer("TEST", "consumer").encode_assign());
    assert_eq!(counts(&recovery), [1, 1, 1, 0]);

    // A server that still has the file stream removes it, and makes the other one.
    let mut assignments = Assignments::default();
    assignments.assign_stream(stream("TEST", StorageType::File));
    assignments.assign_consumer(consumer("TEST", "old"));
    let changes = recovery.finish(&mut assignments);
    let expected = [
        Change::StreamRemoved(key("TEST")),
        Change::StreamAssigned(key("TEST")),
        Change::ConsumerAssigned(key("TEST"), "consumer".into()),
    ];
    assert_eq!(changes, expected);
    let there = assignments.stream(&key("TEST")).expect("it is assigned");
    assert_eq!(there.assignment.config.storage, StorageType::Memory);
    assert!(there.consumer("old").is_none());
    assert!(there.consumer("consumer").is_some());
}

/// Red when a removal leaves the consumer among those to be made, or when making it anew forgets
/// the removal.
#[test]
fn jetstream_cluster_meta_recovery_consumer_create_and_remove() {
    let assign: [fn(&ConsumerAssignment) -> Bytes; 2] =
        [ConsumerAssignment::encode_assign, ConsumerAssignment::encode_assign_compressed];
    for assign in assign {
        let consumer = consumer("TEST", "consumer");
        let mut recovery = Recovery::default();
        stage(&mut recovery, &assign(&consumer));
        assert_eq!(counts(&recovery), [0, 0, 1, 0]);
        stage(&mut recovery, &consumer.encode_remove());
        assert_eq!(counts(&recovery), [0, 0, 0, 1]);
        stage(&mut recovery, &assign(&consumer));
        assert_eq!(counts(&recovery), [0, 0, 1, 1]);
    }
}

#[test]
fn a_recovery_ends_where_doing_each_step_at_once_ends() {
    let group = |name: &str| RaftGroup { name: name.into(), ..RaftGroup::default() };
    let in_group =
        |name: &str, at: &str| ConsumerAssignment { group: group(at), ..consumer("A", name) };
    let resized = |name: &str, resizes, servers: &[&str]| {
        let peers = servers.iter().map(|server| PeerId::from_name(server)).collect();
        let group = RaftGroup { peers, resizes, ..group("g4") };
        ConsumerAssignment { group, ..consumer("A", name) }
    };
    let log = [
        stream("A", StorageType::File).encode_assign(),
        in_group("one", "g1").encode_assign(),
        in_group("two", "g2").encode_assign_compressed(),
        stream("B", StorageType::File).encode_assign(),
        in_group("one", "g1").encode_remove(),
        in_group("one", "g3").encode_assign(),
        stream("B", StorageType::File).encode_remove(),
        stream("A", StorageType::Memory).encode_update(),
        // One that gets fewer replicas, which come to an end.
        resized("three", 1, &["n1", "n2", "n3"]).encode_assign(),
        resized("three", 1, &["n3"]).to_bytes(ConsumerChange::Resized),
        // One whose end comes late: more were wanted again.
        resized("four", 1, &["n1", "n2", "n3"]).encode_assign(),
        resized("four", 2, &["n1", "n2", "n3"]).encode_assign(),
        resized("four", 1, &["n3"]).to_bytes(ConsumerChange::Resized),
        // Of a group that it no longer has: a removal that came late.
        in_group("two", "g9").encode_remove(),
    ];
    let mut at_once = Assignments::default();
    let mut recovery = Recovery::default();
    for entry in &log[..log.len() - 1] {
        recovery.stage(op(entry)).expect("an operation");
    }
    for entry in &log {
        match op(entry) {
            MetaOp::AssignStream(stream) => drop(at_once.assign_stream(*stream)),
            MetaOp::UpdateStream(stream) => drop(at_once.update_stream(*stream)),
            MetaOp::RemoveStream(stream) => {
                drop(at_once.remove_stream(&StreamKey::of_stream(&stream)));
            }
            MetaOp::AssignConsumer(consumer) => drop(at_once.assign_consumer(*consumer)),
            MetaOp::RemoveConsumer(consumer) => drop(at_once.remove_consumer(&consumer)),
            MetaOp::ConsumerResized(consumer) => drop(at_once.resize_consumer(&consumer)),
            other => panic!("{other:?}"),
        }
    }
    let mut recovered = Assignments::default();
    recovery.finish(&mut recovered);
    assert_eq!(recovered, at_once);
    assert_eq!(recovered.streams().count(), 1);
    let there = recovered.stream(&key("A")).expect("A stays");
    assert_eq!(there.consumer("one").map(|one| one.assignment.group.name.as_str()), Some("g3"));
    let peers = |name| there.consumer(name).expect("it is assigned").assignment.group.peers.len();
    assert_eq!((peers("three"), peers("four")), (1, 3));

    // And by a snapshot, over what there was before.
    let snapshot = recovered.snapshot();
    let bytes = snapshot.encode().expect("it fits");
    let limits = jetwake::limits::Limits::default();
    let read = MetaSnapshot::decode(&bytes, &limits).expect("just made");
    let mut before = Assignments::default();
    before.assign_stream(stream("C", StorageType::File));
    before.assign_stream(stream("A", StorageType::File));
    before.assign_consumer(in_group("one", "g1"));
    let mut staged = Recovery::default();
    staged.stage_snapshot(&before, read.clone());
    let mut by_recovery = before.clone();
    let changes = staged.finish(&mut by_recovery);
    let mut installed = before;
    let mut same = installed.install(read);
    same.sort_by_key(|change| format!("{change:?}"));
    let mut sorted = changes;
    sorted.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(sorted, same);
    assert_eq!(by_recovery, installed);
    assert_eq!(installed.snapshot().document(), recovered.snapshot().document());
}

#[test]
fn what_is_not_the_meta_groups_is_given_back() {
    let mut recovery = Recovery::default();
    for byte in [4, 19, 255] {
        let unknown = op(&Bytes::copy_from_slice(&[byte, 1, 2]));
        assert_eq!(recovery.stage(unknown.clone()), Err(unknown));
    }
    assert_eq!(recovery, Recovery::default());
}

#[test]
fn nothing_assigned_is_a_snapshot_of_no_bytes() {
    assert!(Assignments::default().snapshot().encode().expect("nothing fits").is_empty());
}
