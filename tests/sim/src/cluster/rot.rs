//! Disks that go bad while their process is down, within what a group can survive.

use jetwake::ids::GroupId;
use jetwake::time::Duration;

use super::Cluster;
use crate::disk::{DiskCopy, Rot};
use crate::network::Machine;
use crate::record::Kind;

impl Cluster {
    /// Something goes bad on the disk of a machine that is down; whether there was something to go
    /// bad.
    ///
    /// # Panics
    /// If the machine's process runs.
    pub fn spoil(&mut self, machine: Machine, group: GroupId, rot: Rot) -> bool {
        assert!(!self.is_up(machine), "{machine} runs, and would not notice");
        let Some(lost) = self.disks[machine.0].rot(group, rot) else { return false };
        self.ledger.lost(machine, group, lost.from, lost.snapshot);
        self.coverage.count(match rot {
            Rot::Record => "records spoiled",
            Rot::Misdirected => "writes misdirected",
            Rot::LogMissing => "logs gone",
            Rot::Snapshot => "snapshots spoiled",
            Rot::SnapshotShort => "snapshots cut short",
            Rot::SnapshotMissing => "snapshots gone",
            Rot::Votes => "votes gone",
            Rot::Messages => "messages spoiled",
            Rot::MessageTable => "message tables spoiled",
            Rot::StoreMissing => "stores gone",
            Rot::Wiped => "disks wiped",
        });
        self.tell(machine, Some(group), |_| Kind::Fault(format!("its disk goes bad: {rot:?}")));
        true
    }

    /// Puts an old copy of a disk in the place of what there is, on a machine that is down.
    pub fn put_back(&mut self, machine: Machine, group: GroupId, copy: DiskCopy) {
        assert!(!self.is_up(machine), "{machine} runs, and would not notice");
        self.disks[machine.0].put_back(group, copy);
        let last = self.disks[machine.0].log(group).map(|log| log.last().next());
        self.ledger.lost(machine, group, last.unwrap_or_default(), false);
        self.tell(machine, Some(group), |_| Kind::Fault("an old copy of its disk".into()));
    }

    /// Whether a change of a group's members is under way anywhere: who has what is open then.
    fn members_change(&self, group: GroupId) -> bool {
        let status = |process: &crate::process::Process| process.node.as_ref()?.status(group);
        let mut standing = self.processes.iter().filter_map(status);
        standing.any(|status| status.change.is_some() || status.joining.is_some())
    }

    /// A process dies, its disk goes bad, and it comes back after a while; unless a quorum of the
    /// others must be repaired themselves.
    pub(crate) fn rot_for(&mut self, machine: Machine, rot: Rot, downtime: Duration) {
        let groups = 0..self.setup.groups.len() as u32;
        for group in groups.map(GroupId) {
            let members = self.members_of(group);
            let others = members.iter().filter(|other| **other != machine);
            let sound = |other: &&Machine| {
                let disk = &self.disks[other.0];
                disk.is_sound(group) && disk.has_records(group)
            };
            let sound = others.filter(sound).count();
            if sound <= members.len() / 2 || self.members_change(group) {
                continue;
            }
            if self.is_up(machine) {
                self.crash(machine);
                self.restart_after(machine, downtime);
            }
            self.spoil(machine, group, rot);
        }
    }
}
