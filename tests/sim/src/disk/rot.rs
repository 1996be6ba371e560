//! What goes bad on a disk while its process is down.
//!
//! Only what a driver finds at the next start is here: checksums cover each record with its place,
//! each slot and each file, and a file that was made once is known to be missing. A log that lost
//! its end at the border of two records, and an old copy of a whole disk, look like an earlier state
//! of the disk; see [`Disk::copy`].

use jetwake::event::Standing;
use jetwake::ids::{GroupId, Index};

use super::{Disk, GroupDisk};

/// A way for a group's part of a disk to go bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// A bit flips in a record.
    Record,
    /// A write went to the wrong place: one record is overwritten, and another is not there.
    Misdirected,
    /// The file with the records is gone.
    LogMissing,
    /// A bit flips in the snapshot.
    Snapshot,
    /// The snapshot's file is too short.
    SnapshotShort,
    /// The snapshot's file is gone.
    SnapshotMissing,
    /// Neither slot with the term and vote can be read.
    Votes,
    /// A bit flips in messages of the store.
    Messages,
    /// A bit flips in what says which messages lie where.
    MessageTable,
    /// The store's database cannot be opened, and was moved aside.
    StoreMissing,
    /// Everything is gone.
    Wiped,
}

/// Every way.
const ALL: [Rot; 11] = [
    Rot::Record,
    Rot::Misdirected,
    Rot::LogMissing,
    Rot::Snapshot,
    Rot::SnapshotShort,
    Rot::SnapshotMissing,
    Rot::Votes,
    Rot::Messages,
    Rot::MessageTable,
    Rot::StoreMissing,
    Rot::Wiped,
];

/// What a disk no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The first record that is of no use any more.
    pub from: Index,
    /// Whether the snapshot is lost.
    pub snapshot: bool,
}

impl Rot {
    /// One of all ways.
    pub fn drawn(dice: &mut crate::dice::Dice) -> Self {
        ALL[dice.place(ALL.len())]
    }
}

impl Disk {
    /// Something goes bad in a group's part; none if there was nothing to go bad.
    pub fn rot(&mut self, group: GroupId, rot: Rot) -> Option<Lost> {
        let lost = match rot {
            Rot::Wiped => {
                self.groups.remove(&group)?;
                self.wiped.insert(group);
                return Some(Lost { from: Index::new(1), snapshot: true });
            }
            rot => {
                let pick = self.dice.bits();
                self.groups.get_mut(&group)?.rot(rot, pick)
            }
        };
        let disk = self.groups.get_mut(&group)?;
        disk.current = disk.durable.clone();
        disk.store.current = disk.store.durable.clone();
        lost
    }

    /// Whether all that was ever reported as written for a group is there, and all that its snapshot
    /// stands for.
    pub fn is_sound(&self, group: GroupId) -> bool {
        let Some(disk) = self.groups.get(&group) else { return false };
        let applied = disk.store.durable.mark().map(|mark| mark.applied);
        self.says_whole(group)
            && disk.durable.is_sound()
            && disk.store.durable.is_sound()
            && applied.is_none_or(|applied| applied >= disk.durable.snapshot_index())
    }

    /// Whether a group has begun on it: the vote of who has no record does not count, unless all give
    /// theirs.
    pub fn has_records(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|disk| disk.durable.last() > Index::ZERO)
    }

    /// Whether it says that all that was promised is on it.
    pub fn says_whole(&self, group: GroupId) -> bool {
        let written = self.groups.get(&group).and_then(|disk| disk.durable.standing());
        written.cloned().unwrap_or_else(|| self.unwritten(group)) == Standing::Whole
    }

    /// What it says of a group of which nothing is written.
    pub(super) fn unwritten(&self, group: GroupId) -> Standing {
        match self.wiped.contains(&group) {
            true => Standing::Unknown,
            false => Standing::Whole,
        }
    }

    /// All that lies on it now, to be put back later.
    pub fn copy(&self, group: GroupId) -> DiskCopy {
        DiskCopy(self.groups.get(&group).cloned().unwrap_or_default())
    }

    /// Puts an old copy in the place of what there is.
    pub fn put_back(&mut self, group: GroupId, copy: DiskCopy) {
        self.groups.insert(group, copy.0);
        self.crash();
    }
}

/// An old copy of a group's part of a disk.
#[derive(Clone, Debug)]
pub struct DiskCopy(GroupDisk);

impl GroupDisk {
    fn rot(&mut self, rot: Rot, pick: u64) -> Option<Lost> {
        let log = &mut self.durable;
        let behind = log.last().next();
        match rot {
            Rot::Record | Rot::Misdirected => {
                let (first, last) = log.range()?;
                let records = last.since(first) + 1;
                let index = first.plus(pick % records);
                log.spoil_record(index);
                if rot == Rot::Record {
                    return Some(Lost { from: index, snapshot: false });
                }
                // The one that was meant is missing as well.
                let meant = first.plus((pick >> 32) % records);
                log.spoil_record(meant);
                Some(Lost { from: index.min(meant), snapshot: false })
            }
            Rot::LogMissing => {
                let first = log.range()?.0;
                log.lose_records();
                Some(Lost { from: first, snapshot: false })
            }
            Rot::Snapshot | Rot::SnapshotShort | Rot::SnapshotMissing => {
                log.snapshot()?;
                match rot {
                    Rot::SnapshotMissing => log.lose_snapshot(),
                    Rot::SnapshotShort => {
                        log.spoil_snapshot(|file| file.truncate(pick as usize % file.len()));
                    }
                    _ => log.spoil_snapshot(|file| {
                        let at = pick as usize % file.len();
                        file[at] ^= 1 << (pick >> 61);
                    }),
                }
                // A log that reaches back needs no snapshot.
                let from = if log.base() > Index::ZERO { Index::new(1) } else { behind };
                Some(Lost { from, snapshot: true })
            }
            Rot::Votes => {
                log.vote()?;
                log.lose_votes();
                Some(Lost { from: behind, snapshot: false })
            }
            Rot::Messages | Rot::MessageTable => {
                let counted = rot == Rot::Messages;
                let lost = self.store.durable.lose_messages(pick, 1 + (pick >> 58), counted);
                lost.then_some(Lost { from: behind, snapshot: false })
            }
            Rot::StoreMissing => {
                self.store.durable.mark()?;
                self.store.durable.lose_all();
                Some(Lost { from: behind, snapshot: false })
            }
            Rot::Wiped => None,
        }
    }
}
