//! The thread that writes the logs, votes and snapshots of all groups.
//!
//! It performs what waits in order, syncs once, and then reports; so one sync serves every
//! write of every group that came in meanwhile. Votes and snapshots lie in files of their own,
//! and are performed only when all before them is synced: what is durable is always a
//! beginning of what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;

use jetwake::command::{Command, LogChange};
use jetwake::event::{Event, Failure};
use jetwake::ids::{GroupId, WriteId};

use super::Report;
use super::failure::{damage, from_io};
use super::log::Logs;
use super::snapshot::Snapshots;
use super::standing::StandingFile;
use super::vote::VoteFile;

/// Bytes of records in one sync; what waits beyond them goes with the next.
const SYNC_BYTES: usize = 8 << 20;

/// What the thread owns.
pub(super) struct LogThread {
    /// None if the database could not be opened: every write and load fails with this.
    pub(super) logs: Result<Logs, Failure>,
    pub(super) groups: Vec<Beside>,
    pub(super) report: Report,
    /// The last write performed and not yet synced.
    pub(super) through: Option<WriteId>,
    /// The first such write of each group.
    pub(super) unsynced: BTreeMap<GroupId, WriteId>,
    /// The groups that wrote parts of a snapshot among them.
    pub(super) unsynced_parts: BTreeSet<GroupId>,
}

/// What lies beside a group's log.
pub(super) struct Beside {
    pub(super) vote: VoteFile,
    pub(super) snapshots: Snapshots,
    pub(super) standing: StandingFile,
    /// Why nothing more is written for the group: a write failed, and what came later must not
    /// stand without it.
    pub(super) failed: Option<Failure>,
}

impl LogThread {
    /// Works until the queue's other end is gone.
    pub(super) fn run(mut self, queue: &Receiver<Command>) {
        while let Ok(command) = queue.recv() {
            self.take(command);
            while self.pending_bytes() < SYNC_BYTES
                && let Ok(command) = queue.try_recv()
            {
                self.take(command);
            }
            self.settle();
        }
        if let Ok(logs) = &mut self.logs {
            // All that was asked is reported; a failure now says nothing about it.
            let _ = logs.end();
        }
    }

    fn pending_bytes(&self) -> usize {
        self.logs.as_ref().map_or(0, Logs::pending_bytes)
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Write { id, group, change } => match self.write(group, change) {
                Ok(()) => {
                    self.through = Some(id);
                    self.unsynced.entry(group).or_insert(id);
                }
                Err(failure) => self.fail(group, id, failure),
            },
            Command::Load { id, group, first, last, bytes } => {
                let at = group.0 as usize;
                let loaded = self.known(group).and_then(|()| match &mut self.logs {
                    Ok(logs) => logs.load(at, first, last, bytes),
                    Err(failure) => Err(failure.clone()),
                });
                (self.report)(match loaded {
                    Ok(records) => Event::Loaded { load: id, records },
                    Err(failure) => Event::LoadFailed { load: id, failure },
                });
            }
            Command::LoadSnapshot { id, group, file, offset, bytes } => {
                let loaded = self.known(group).and_then(|()| {
                    let snapshots = &self.groups[group.0 as usize].snapshots;
                    let loaded = snapshots.load(file, offset, bytes.get());
                    loaded.map_err(|error| from_io(snapshots.folder(), &error))
                });
                (self.report)(match loaded {
                    Ok(part) => Event::SnapshotLoaded { load: id, part },
                    Err(failure) => Event::LoadFailed { load: id, failure },
                });
            }
            // `Disk::perform` hands in nothing else.
            _ => {}
        }
    }

    fn known(&self, group: GroupId) -> Result<(), Failure> {
        if (group.0 as usize) < self.groups.len() {
            return Ok(());
        }
        let what = format!("group {group}: the disk was opened with {}", self.groups.len());
        Err(Failure::Io(damage("".as_ref(), None, what)))
    }

    fn write(&mut self, group: GroupId, change: LogChange) -> Result<(), Failure> {
        self.known(group)?;
        let at = group.0 as usize;
        let beside_the_log = matches!(
            change,
            LogChange::TermAndVote(_)
                | LogChange::Snapshot { .. }
                | LogChange::PlaceSnapshot { .. }
                | LogChange::Standing(_)
        );
        if beside_the_log {
            self.settle();
        }
        let beside = &mut self.groups[at];
        if let Some(failure) = &beside.failed {
            return Err(failure.clone());
        }
        let logs = self.logs.as_mut().map_err(|failure| failure.clone())?;
        match change {
            LogChange::Append { index, record } => logs.append(at, index, &record),
            LogChange::Truncate { last } => logs.truncate(at, last),
            LogChange::Compact { through } => logs.compact(at, through),
            LogChange::Reset { last } => logs.reset(at, last),
            LogChange::TermAndVote(vote) => {
                beside.vote.write(&vote).map_err(|error| from_io(beside.vote.path(), &error))
            }
            LogChange::Snapshot { index, term, file } => beside
                .snapshots
                .write(index, term, &file)
                .map_err(|error| from_io(beside.snapshots.folder(), &error)),
            LogChange::SnapshotPart { offset, part } => {
                self.unsynced_parts.insert(group);
                beside
                    .snapshots
                    .write_part(offset, &part)
                    .map_err(|error| from_io(beside.snapshots.folder(), &error))
            }
            LogChange::PlaceSnapshot { index, term, length } => beside
                .snapshots
                .place(index, term, length)
                .map_err(|error| from_io(beside.snapshots.folder(), &error)),
            LogChange::DropSnapshotParts => beside
                .snapshots
                .drop_parts()
                .map_err(|error| from_io(beside.snapshots.folder(), &error)),
            LogChange::Standing(standing) => beside
                .standing
                .write(&standing)
                .map_err(|error| from_io(beside.standing.path(), &error)),
            other => {
                let what = format!("a change that this disk does not know: {other:?}");
                Err(Failure::Io(damage("".as_ref(), None, what)))
            }
        }
    }

    /// Syncs what was performed, and reports it.
    fn settle(&mut self) {
        let Some(through) = self.through.take() else { return };
        let unsynced = std::mem::take(&mut self.unsynced);
        self.sync_parts(&unsynced);
        match self.logs.as_mut().map_or_else(|failure| Err(failure.clone()), Logs::sync) {
            Ok(()) => (self.report)(Event::Written { through }),
            Err(failure) => {
                for (group, write) in unsynced {
                    self.fail(group, write, failure.clone());
                }
                // After a failed sync nobody knows what the disk holds: asking again would say
                // that all is well. Nothing is written until the node starts anew.
                self.logs = Err(failure);
            }
        }
    }

    /// Syncs the snapshots that are written in parts. One that fails is its group's affair alone.
    fn sync_parts(&mut self, unsynced: &BTreeMap<GroupId, WriteId>) {
        for group in std::mem::take(&mut self.unsynced_parts) {
            let Some(beside) = self.groups.get_mut(group.0 as usize) else { continue };
            let synced = beside.snapshots.sync_parts();
            let failure = synced.map_err(|error| from_io(beside.snapshots.folder(), &error));
            if let (Err(failure), Some(write)) = (failure, unsynced.get(&group)) {
                self.fail(group, *write, failure);
            }
        }
    }

    fn fail(&mut self, group: GroupId, write: WriteId, failure: Failure) {
        if let Some(beside) = self.groups.get_mut(group.0 as usize) {
            beside.failed.get_or_insert_with(|| failure.clone());
        }
        (self.report)(Event::WriteFailed { group, write, failure });
    }
}
