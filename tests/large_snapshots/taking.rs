//! A large snapshot at a start, and on its way to the machine.

use bytes::Bytes;
use jetwake::command::{CheckpointNews, Report};
use jetwake::event::{CheckpointStep, Damaged, MachineSays};
use jetwake::ids::Index;
use jetwake_sim::lone::{Append, Applied, Lone};

use crate::{MEMBERS, PART, checkpoint, hear_records, member, on_disk, state, taken};

/// A member that was started again on a disk with a large snapshot of record 3, and a record more.
fn restarted() -> Lone {
    let mut node = member(3);
    checkpoint(&mut node, &state(1));
    hear_records(&mut node, 3, 1);
    node.restart();
    node
}

/// At a start the file is read once to be verified, and once for the machine, part by part.
#[test]
fn a_start_reads_a_large_snapshot_in_parts() {
    let mut node = restarted();
    assert_eq!(taken(&node), [(3, state(1))]);
    assert_eq!(node.status().snapshot.map(|at| at.index.get()), Some(3));
    node.hear(&Append::by("n2", 1).after(1, 4).commit(4));
    assert_eq!(node.applied_texts(), ["a"], "and what follows comes after it");
}

/// Handed in whole, it is let go of all the same.
#[test]
fn a_large_snapshot_that_a_start_is_handed_whole_is_handed_out_in_parts() {
    let mut node = member(3);
    checkpoint(&mut node, &state(1));
    node.restart_after(|disk| disk.snapshots_in_parts = false);
    assert_eq!(taken(&node), [(3, state(1))]);
    let parts = node.applied().iter().filter(|part| matches!(part, Applied::Part { .. }));
    assert!(parts.count() > 200 / PART - 1);
}

/// The machine gets one part at a time, each when it has taken the one before; what it says of
/// another part or snapshot counts for nothing.
#[test]
fn the_machine_gets_the_next_part_when_it_took_the_one_before() {
    let mut node = member(3);
    checkpoint(&mut node, &state(1));
    node.hold_applies = true;
    node.restart();
    let mut through = 0;
    loop {
        let Some(Applied::Part { data, last, .. }) = node.applied().last().cloned() else {
            panic!("{:?}", node.applied())
        };
        let before = node.applied().len();
        through += data.len() as u64;
        if last {
            break;
        }
        for (index, through) in [(3, through - 1), (3, through + 1), (2, through)] {
            node.machine_says(MachineSays::TookPart { index: Index::new(index), through });
        }
        assert_eq!(node.applied().len(), before);
        node.machine_says(MachineSays::TookPart { index: Index::new(3), through });
        assert_eq!(node.applied().len(), before + 1);
    }
    assert_eq!(taken(&node), [(3, state(1))]);
    assert_eq!(node.status().machine_applied.get(), 0, "it did not say that it has applied it");
    node.machine_processed(3, 3);
    assert_eq!(node.status().machine_applied.get(), 3);
}

/// A damaged one is found before anything of it is handed out; the log behind it joins nothing.
///
/// Seen red with a `SnapshotReader::push` that does not compare the hash.
#[test]
fn a_damaged_snapshot_is_found_at_the_start() {
    for at in [0, 8, 21, 60, 200, 250] {
        let mut node = member(3);
        checkpoint(&mut node, &state(1));
        hear_records(&mut node, 3, 1);
        node.restart_after(|disk| disk.spoil_snapshot(at));
        assert_eq!(node.applied(), [], "byte {at}");
        let found = node.status().found;
        assert!(found[0].what.starts_with("the snapshot file is damaged"), "{found:?}");
        assert_eq!(node.status().last.index.get(), 0);
    }
}

/// It is not missed by a log that reaches back to its beginning.
#[test]
fn a_damaged_snapshot_is_not_missed_by_a_whole_log() {
    let mut node = member(3);
    node.hold_writes();
    let id = crate::begin(&mut node);
    node.checkpoint(CheckpointStep::Write { id, part: state(1).slice(..PART * 3) });
    node.perform_writes();
    node.checkpoint(CheckpointStep::Finish(id));
    while on_disk(&node).is_none() {
        node.perform_one_write();
    }
    node.restart_after(|disk| disk.spoil_snapshot(40));
    node.release_writes();
    let damaged = |told: &Report| matches!(told, Report::Damaged(Damaged::Snapshot(_)));
    assert!(node.reports().iter().any(damaged));
    assert_eq!(node.status().last.index.get(), 3);
}

/// One that goes bad while it is handed out is never handed out to its end: the member stands aside.
#[test]
fn a_snapshot_that_goes_bad_is_not_handed_out_to_its_end() {
    let mut node = restarted();
    node.hold_applies = true;
    node.machine_says(MachineSays::NeedsSnapshot);
    node.disk.spoil_snapshot(200);
    node.hold_applies = false;
    node.finish_applies();
    assert_eq!(taken(&node).len(), 1, "the one at the start alone");
    let aside = node.status().aside.expect("it stands aside");
    assert!(aside.contains("the snapshot of 3 is damaged"), "{aside}");
}

/// A newer snapshot of the leader's comes while one is handed out: the machine begins anew with it.
#[test]
fn a_newer_snapshot_takes_the_place_of_one_that_is_being_handed_out() {
    let mut node = member(3);
    checkpoint(&mut node, &state(1));
    node.hold_applies = true;
    node.restart();
    node.machine_says(MachineSays::TookPart { index: Index::new(3), through: 1 });
    node.hear(&Append::by("n2", 1).after(1, 9).commit(9));
    let newer = Bytes::from(vec![9; 3 * PART]);
    node.feed(&Append::by("n2", 1).after(1, 9).led_in(1).snapshot(newer.clone(), &MEMBERS));
    node.hold_applies = false;
    node.finish_applies();
    assert_eq!(taken(&node), [(9, newer)]);
    assert_eq!(node.status().aside, None);
}

/// A leader that leads from a large snapshot sends it whole to a server that takes nothing else.
#[test]
fn a_leader_reads_its_large_snapshot_for_a_follower() {
    let mut node = restarted();
    node.hear(&Append::by("n2", 1).after(1, 4).commit(4));
    node.elect(&["n2"]);
    node.sent();
    let inbox = jetwake::subject::Subject::from_static("$NRG.CR.abcdefgh");
    node.disk.hold_loads = true;
    node.ask_catchup("n3", (0, 0), &inbox);
    assert_eq!(node.appends(), [], "nothing overtakes it");
    node.disk.answer_loads();
    node.disk.hold_loads = false;
    node.settle();
    let sent = node.appends();
    let first = sent.first().and_then(|append| append.entries.iter().next()).expect("a snapshot");
    assert_eq!((sent[0].previous_index.get(), first.data), (3, state(1)));
    assert!(sent.len() > 2, "and the records behind it");
    assert_eq!(node.news(), Vec::<CheckpointNews>::new());
}
