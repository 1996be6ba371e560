//! Snapshots that are larger than one part: written as they are made, read back before they count,
//! handed out as the machine takes them; and what interrupts that.
//!
//! The parts are of sixteen bytes here, so that little data is large.

mod making;
mod receiving;
mod sending;
mod taking;

use bytes::Bytes;
use jetwake::command::CheckpointNews;
use jetwake::config::GroupKind;
use jetwake::event::CheckpointStep;
use jetwake::ids::{ByteCount, CheckpointId};
use jetwake::wire::RaftSnapshot;
use jetwake_sim::lone::{self, Append, Applied, Lone, LoneDisk};

/// The node under test is `n1`; the others are played.
const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

/// Bytes of a part.
const PART: usize = 16;

/// A member whose parts are small, with `records` that are committed and applied.
fn member(records: u64) -> Lone {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.snapshot_part = ByteCount::new(PART as u64);
    config.limits.snapshot_parts_in_flight = ByteCount::new(4 * PART as u64);
    let mut disk = LoneDisk::default();
    disk.snapshots_in_parts = true;
    let mut node = Lone::start(config, disk);
    hear_records(&mut node, 0, records);
    node
}

/// The leader sends records, all of which are committed.
fn hear_records(node: &mut Lone, after: u64, records: u64) {
    for index in after..after + records {
        let entry = Append::by("n2", 1).after(u64::from(index > 0), index).commit(index + 1);
        node.hear(&entry.entry("a"));
    }
}

/// A state that is many parts long.
fn state(seed: u8) -> Bytes {
    (0..200_u8).map(|at| at.wrapping_mul(7).wrapping_add(seed)).collect()
}

fn begin(node: &mut Lone) -> CheckpointId {
    match node.checkpoint(CheckpointStep::Begin { force: true })[..] {
        [CheckpointNews::Begun { id, .. }] => id,
        ref other => panic!("no checkpoint begins: {other:?}"),
    }
}

/// Writes a whole state, as fast as the disk does; what is told at the end.
fn write_all(node: &mut Lone, id: CheckpointId, state: &Bytes) -> Vec<CheckpointNews> {
    for part in state.chunks(PART - 3) {
        let part = Bytes::copy_from_slice(part);
        for news in node.checkpoint(CheckpointStep::Write { id, part }) {
            assert!(matches!(news, CheckpointNews::Written { .. }), "{news:?}");
        }
    }
    let mut told = node.checkpoint(CheckpointStep::Finish(id));
    told.retain(|news| !matches!(news, CheckpointNews::Written { .. }));
    told
}

/// Makes a checkpoint of this state.
fn checkpoint(node: &mut Lone, state: &Bytes) {
    let id = begin(node);
    let told = write_all(node, id, state);
    assert!(matches!(told[..], [CheckpointNews::Durable { .. }]), "{told:?}");
}

/// What the snapshot on disk covers, and its data.
fn on_disk(node: &Lone) -> Option<(u64, Bytes)> {
    let file = &node.disk.durable_log().snapshot()?.file;
    let name = &node.config().groups[0].name;
    let snapshot = RaftSnapshot::decode(file, name).expect("the format of every snapshot");
    Some((snapshot.last_index.get(), snapshot.data))
}

/// The snapshots that the machine took on since the start, put together from their parts.
fn taken(node: &Lone) -> Vec<(u64, Bytes)> {
    let (mut whole, mut begun) = (Vec::new(), Vec::new());
    for applied in node.applied() {
        match applied {
            Applied::Snapshot { index, data } => whole.push((index.get(), data.clone())),
            Applied::Part { index, offset, data, last } => {
                if *offset == 0 {
                    begun.clear();
                }
                assert_eq!(*offset, begun.len() as u64, "parts come in order");
                assert!(data.len() <= PART, "no more than one part is in memory");
                begun.extend_from_slice(data);
                if *last {
                    whole.push((index.get(), std::mem::take(&mut begun).into()));
                }
            }
            Applied::Entries { .. } => {}
        }
    }
    whole
}
