//! A checkpoint of a large state.

use bytes::Bytes;
use jetwake::command::{CheckpointNews, Report, SnapshotRefusal};
use jetwake::event::{CheckpointStep, MachineSays};
use jetwake::ids::Index;
use jetwake_sim::lone::{Append, Applied, Lone};

use crate::{
    MEMBERS, PART, begin, checkpoint, hear_records, member, on_disk, state, taken, write_all,
};

/// The file is the one that a small snapshot has, and the log is compacted behind it.
#[test]
fn a_large_checkpoint_is_written_in_parts_and_read_back() {
    let mut node = member(3);
    let id = begin(&mut node);
    hear_records(&mut node, 3, 2);
    let told = write_all(&mut node, id, &state(1));
    let [CheckpointNews::Durable { index, freed, .. }] = told[..] else { panic!("{told:?}") };
    assert_eq!((index, freed.records), (Index::new(3), 3), "appends went on meanwhile");
    assert_eq!(on_disk(&node), Some((3, state(1))));
    assert_eq!((node.status().first.get(), node.status().last.index.get()), (4, 5));
}

/// How much of it is on disk is told, of its data alone; who does not wait for that is ended.
#[test]
fn a_machine_that_does_not_wait_for_the_disk_has_its_checkpoint_ended() {
    let mut node = member(1);
    let id = begin(&mut node);
    node.hold_writes();
    let part = Bytes::from(vec![7; PART]);
    let write = CheckpointStep::Write { id, part };
    for _ in 0..4 {
        assert_eq!(node.checkpoint(write.clone()), []);
    }
    let bytes = 4 * PART as u64;
    node.perform_writes();
    assert_eq!(node.news().last(), Some(&CheckpointNews::Written { id, bytes }));
    for _ in 0..4 {
        assert_eq!(node.checkpoint(write.clone()), []);
    }
    let limit = 4 * PART as u64;
    let why = SnapshotRefusal::TooFast { limit, found: limit + PART as u64 };
    assert_eq!(node.checkpoint(write), [CheckpointNews::Ended { id, why }]);
    node.release_writes();
    assert_eq!(on_disk(&node), None);
    checkpoint(&mut node, &state(2));
    assert_eq!(on_disk(&node), Some((1, state(2))), "another one begins anew");
}

/// Data that is exactly one part is small.
#[test]
fn what_fits_into_one_part_is_written_whole() {
    for (length, parts) in [(0, false), (PART, false), (PART + 1, true), (2 * PART, true)] {
        let mut node = member(1);
        let id = begin(&mut node);
        node.hold_writes();
        let data = Bytes::from(vec![1; length]);
        node.checkpoint(CheckpointStep::Write { id, part: data.clone() });
        node.checkpoint(CheckpointStep::Finish(id));
        let waiting = node.disk.waiting();
        assert_eq!(waiting > 1, parts, "{waiting} writes for {length} bytes");
        node.release_writes();
        assert_eq!(on_disk(&node), Some((1, data)));
    }
}

/// What lies on the disk is not what was handed to it: the snapshot before stays, and that is said.
///
/// Seen red with a `Raft::proof_loaded` that reads nothing.
#[test]
fn a_part_that_is_damaged_on_the_disk_takes_no_place() {
    for at in [3, 24, 100, 200] {
        let mut node = member(1);
        checkpoint(&mut node, &state(1));
        hear_records(&mut node, 1, 2);
        let id = begin(&mut node);
        for part in state(2).chunks(PART) {
            node.checkpoint(CheckpointStep::Write { id, part: Bytes::copy_from_slice(part) });
        }
        node.disk.spoil_part(at);
        node.reports();
        let told = node.checkpoint(CheckpointStep::Finish(id));
        let told: Vec<_> = told
            .into_iter()
            .filter(|news| !matches!(news, CheckpointNews::Written { .. }))
            .collect();
        let [CheckpointNews::Ended { why: SnapshotRefusal::Unreadable(_), .. }] = &told[..] else {
            panic!("byte {at}: {told:?}")
        };
        assert!(node.reports().iter().any(|told| matches!(told, Report::Damaged(_))));
        assert_eq!((on_disk(&node), node.status().aside), (Some((1, state(1))), None));
        assert_eq!(node.status().first.get(), 2, "and the log with it");
        checkpoint(&mut node, &state(3));
        assert_eq!(on_disk(&node), Some((3, state(3))));
    }
}

/// A crash at any moment leaves the one before or the new one, and nothing of what was begun.
#[test]
fn a_crash_leaves_the_snapshot_before_or_the_new_one() {
    let mut seen = [0, 0];
    for writes in 0..24 {
        let mut node = member(1);
        checkpoint(&mut node, &state(1));
        hear_records(&mut node, 1, 2);
        let id = begin(&mut node);
        node.hold_writes();
        for part in state(2).chunks(PART) {
            node.checkpoint(CheckpointStep::Write { id, part: Bytes::copy_from_slice(part) });
            node.perform_writes();
        }
        node.checkpoint(CheckpointStep::Finish(id));
        (0..writes).for_each(|_| node.perform_one_write());
        node.restart();
        node.release_writes();
        node.news();
        let (index, data) = on_disk(&node).expect("there was one");
        assert_eq!(data, if index == 1 { state(1) } else { state(2) });
        assert_eq!(taken(&node), [(index, data)], "after {writes} writes");
        assert_eq!(node.status().last.index.get(), 3);
        seen[usize::from(index == 3)] += 1;
        hear_records(&mut node, 3, 1);
        checkpoint(&mut node, &state(3));
        assert_eq!(on_disk(&node), Some((4, state(3))));
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}

/// The disk is full in the middle: the member stands aside, and has the snapshot before after a
/// restart.
#[test]
fn a_full_disk_in_the_middle_costs_nothing_that_was_there() {
    let mut node = member(1);
    checkpoint(&mut node, &state(1));
    hear_records(&mut node, 1, 1);
    let id = begin(&mut node);
    node.checkpoint(CheckpointStep::Write { id, part: Bytes::from(vec![1; 3 * PART]) });
    node.disk.fail_writes = true;
    let told = node.checkpoint(CheckpointStep::Write { id, part: Bytes::from(vec![1; PART]) });
    let [CheckpointNews::Ended { why: SnapshotRefusal::Aside(_), .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(node.status().aside.is_some());
    node.restart();
    assert_eq!((on_disk(&node), node.status().aside.clone()), (Some((1, state(1))), None));
    assert_eq!(taken(&node), [(1, state(1))]);
}

/// A leader's snapshot ends it, and what was written of it is forgotten.
#[test]
fn a_leaders_snapshot_ends_a_large_checkpoint_at_any_step() {
    for step in 0..3 {
        let mut node = member(1);
        let id = begin(&mut node);
        node.disk.hold_loads = true;
        let part = Bytes::from(vec![1; 3 * PART]);
        node.checkpoint(CheckpointStep::Write { id, part });
        if step > 0 {
            node.checkpoint(CheckpointStep::Finish(id));
        }
        node.hear(&Append::by("n2", 1).after(1, 9).commit(9));
        let snapshot = Append::by("n2", 1).after(1, 9).led_in(1).snapshot("leader's", &MEMBERS);
        node.feed(&snapshot);
        let why = SnapshotRefusal::Replaced { index: Index::new(9) };
        assert_eq!(node.news(), [CheckpointNews::Ended { id, why }]);
        node.disk.answer_loads();
        hear_records(&mut node, 9, 1);
        assert_eq!(on_disk(&node), Some((9, Bytes::from("leader's"))));
        assert_eq!(node.status().aside, None);
        node.disk.hold_loads = false;
    }
}

/// The snapshot before is read part by part, one at a time, from its beginning whenever that is
/// asked for.
#[test]
fn a_checkpoint_is_made_from_a_large_snapshot_part_by_part() {
    let mut node = member(1);
    checkpoint(&mut node, &state(1));
    hear_records(&mut node, 1, 1);
    let id = begin(&mut node);
    for _ in 0..2 {
        let (mut data, mut step) = (Vec::new(), CheckpointStep::LoadSnapshot(id));
        loop {
            let told = node.checkpoint(step);
            let [CheckpointNews::SnapshotPart { part, last, .. }] = &told[..] else {
                panic!("{told:?}")
            };
            assert!(part.len() <= PART && !part.is_empty() || *last);
            data.extend_from_slice(part);
            if *last {
                break;
            }
            step = CheckpointStep::NextPart(id);
        }
        assert_eq!(data, state(1));
        assert_eq!(node.checkpoint(CheckpointStep::NextPart(id)), [], "nothing follows the last");
    }
    assert!(matches!(write_all(&mut node, id, &state(2))[..], [CheckpointNews::Durable { .. }]));
    let over = CheckpointNews::Ended { id, why: SnapshotRefusal::Over };
    assert_eq!(node.checkpoint(CheckpointStep::NextPart(id)), [over]);
}

/// A machine that lost its state is handed the snapshot again, from its first part.
#[test]
fn a_machine_that_needs_its_snapshot_again_gets_it_from_the_beginning() {
    let mut node = member(1);
    checkpoint(&mut node, &state(1));
    node.hold_applies = true;
    node.machine_says(MachineSays::NeedsSnapshot);
    let parts = |node: &Lone| {
        node.applied().iter().filter(|applied| matches!(applied, Applied::Part { .. })).count()
    };
    assert_eq!(parts(&node), 1, "one at a time");
    node.machine_says(MachineSays::NeedsSnapshot);
    assert_eq!(parts(&node), 2);
    node.hold_applies = false;
    node.finish_applies();
    assert_eq!(taken(&node), [(1, state(1))]);
    node.machine_says(MachineSays::Resumed);
    hear_records(&mut node, 1, 1);
    assert_eq!(
        node.applied().last().map(|applied| matches!(applied, Applied::Entries { .. })),
        Some(true)
    );
}
