//! What a restart makes of the meta group's log: `jetstream_cluster_1_test.go` and
//! `jetstream_cluster_4_test.go` of upstream.

use jetwake::cluster::assignments::{Assignments, Change};
use jetwake::cluster::recovery::Recovery;
use jetwake::wire::{ConsumerAssignment, RaftGroup, StorageType, StreamAssignment};

use crate::recovery::{key, stage};
use crate::{consumer, stream};

fn group(name: &str) -> RaftGroup {
    RaftGroup { name: name.into(), ..RaftGroup::default() }
}

fn in_group(name: &str) -> (StreamAssignment, ConsumerAssignment) {
    let stream = StreamAssignment { group: group(name), ..stream("TEST", StorageType::File) };
    let consumer = ConsumerAssignment { group: group(name), ..consumer("TEST", "consumer") };
    (stream, consumer)
}

/// Red when an update takes the place of the creation, and nothing is created.
#[test]
fn jetstream_cluster_meta_recovery_add_and_update_stream() {
    let mut recovery = Recovery::default();
    let mut assignment = stream("TEST", StorageType::File);
    stage(&mut recovery, &assignment.encode_assign());
    let counts = |recovery: &Recovery| {
        let added = recovery.added_streams().count();
        (added, recovery.updated_streams().count(), recovery.removed_streams().count())
    };
    assert_eq!(counts(&recovery), (1, 0, 0));
    assignment.config.subjects = vec!["foo".into()];
    stage(&mut recovery, &assignment.encode_update());
    assert_eq!(counts(&recovery), (1, 1, 0));
    let mut assignments = Assignments::default();
    recovery.finish(&mut assignments);
    let there = assignments.stream(&key("TEST")).expect("it is assigned");
    assert_eq!(there.assignment.config.subjects, ["foo"]);
}

/// Upstream looks for the groups of before; here the changes name none that was made and removed again.
/// Red when what a snapshot has is made before the log behind it is read.
#[test]
fn jetstream_cluster_meta_snapshot_re_create_consistency() {
    let (old_stream, old_consumer) = in_group("old-group");
    let (new_stream, new_consumer) = in_group("new-group");
    let mut before = Assignments::default();
    before.assign_stream(old_stream.clone());
    before.assign_consumer(old_consumer).expect("its stream is there");
    let snapshot = before.snapshot();
    let mut recovery = Recovery::default();
    recovery.stage_snapshot(&Assignments::default(), snapshot);
    stage(&mut recovery, &old_stream.encode_remove());
    stage(&mut recovery, &new_stream.encode_assign());
    stage(&mut recovery, &new_consumer.encode_assign());
    assert_eq!(recovery.added_streams().count(), 1);
    assert_eq!(recovery.updated_consumers(&key("TEST")).count(), 1);
    let mut assignments = Assignments::default();
    let changes = recovery.finish(&mut assignments);
    let expected = [
        Change::StreamAssigned(key("TEST")),
        Change::ConsumerAssigned(key("TEST"), "consumer".into()),
    ];
    assert_eq!(changes, expected);
    let there = assignments.stream(&key("TEST")).expect("it is assigned");
    assert_eq!(there.assignment.group.name, "new-group");
    let consumer = there.consumer("consumer").expect("it is assigned");
    assert_eq!(consumer.assignment.group.name, "new-group");
}

/// Red when a removal behind a snapshot leaves the consumer among those to be made.
#[test]
fn jetstream_cluster_meta_snapshot_consumer_delete_consistency() {
    let (stream, consumer) = in_group("group");
    let mut before = Assignments::default();
    before.assign_stream(stream);
    before.assign_consumer(consumer.clone()).expect("its stream is there");
    let mut recovery = Recovery::default();
    recovery.stage_snapshot(&Assignments::default(), before.snapshot());
    stage(&mut recovery, &consumer.encode_remove());
    assert_eq!(recovery.added_streams().count(), 1);
    assert_eq!(recovery.updated_consumers(&key("TEST")).count(), 0);
    assert_eq!(recovery.removed_consumers(&key("TEST")).count(), 1);
    let mut assignments = Assignments::default();
    recovery.finish(&mut assignments);
    let there = assignments.stream(&key("TEST")).expect("it is assigned");
    assert!(there.consumer("consumer").is_none());
}
