//! The thread that writes, syncs and reads the stores of all groups, in the order asked.

use std::sync::mpsc::Receiver;

use jetwake::command::Command;
use jetwake::event::{Event, Failure};
use jetwake::ids::{GroupId, StoreId};

use super::Report;
use super::failure::damage;
use super::store::{ReadFailure, Stores};

/// Writes that are reported together.
const REPORT_AT_ONCE: usize = 256;

/// What the thread owns.
pub(super) struct StoreThread {
    /// The failure if the database could not be opened: everything fails with it.
    pub(super) stores: Result<Stores, Failure>,
    /// Why nothing more is written for a group.
    pub(super) failed: Vec<Option<Failure>>,
    pub(super) report: Report,
    /// The last write performed and not yet reported.
    pub(super) through: Option<StoreId>,
}

impl StoreThread {
    /// Works until the queue's other end is gone.
    pub(super) fn run(mut self, queue: &Receiver<Command>) {
        while let Ok(command) = queue.recv() {
            self.take(command);
            for _ in 0..REPORT_AT_ONCE {
                let Ok(command) = queue.try_recv() else { break };
                self.take(command);
            }
            self.settle();
        }
        if let Ok(stores) = &mut self.stores {
            // Nobody was told that the stores are synced; it spares the next start a replay.
            let _ = stores.end();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Store { id, group, change, mark } => {
                let at = group.0 as usize;
                let done = self.ready(group).and_then(|stores| stores.apply(at, change, &mark));
                match done {
                    Ok(()) => self.through = Some(id),
                    Err(failure) => self.fail(group, failure),
                }
            }
            Command::SyncStore { group, through } => {
                self.settle();
                let synced = self.ready(group).map(Stores::sync);
                match synced.and_then(|synced| {
                    // A second sync would say that all is well, whatever the disk holds.
                    synced.inspect_err(|failure| self.stores = Err(failure.clone()))
                }) {
                    Ok(()) => (self.report)(Event::StoreSynced { group, through }),
                    Err(failure) => self.fail(group, failure),
                }
            }
            Command::Read { id, group, first, last, messages, bytes } => {
                self.settle();
                let at = group.0 as usize;
                let read = self.known(group).map_err(ReadFailure::from);
                let read = read.and_then(|()| match &mut self.stores {
                    Ok(stores) => stores.read(at, first, last, messages, bytes),
                    Err(failure) => Err(failure.clone().into()),
                });
                (self.report)(match read {
                    Ok((messages, next)) => Event::Read { load: id, messages, next },
                    Err(ReadFailure::Lost(lost)) => Event::MessagesLost { load: id, lost },
                    Err(ReadFailure::Other(failure)) => Event::LoadFailed { load: id, failure },
                });
            }
            // `Disk::perform` hands in nothing else.
            _ => {}
        }
    }

    fn known(&self, group: GroupId) -> Result<(), Failure> {
        if (group.0 as usize) < self.failed.len() {
            return Ok(());
        }
        let what = format!("group {group}: the disk was opened with {}", self.failed.len());
        Err(Failure::Io(damage("".as_ref(), None, what)))
    }

    /// The stores, if the group can still be written.
    fn ready(&mut self, group: GroupId) -> Result<&mut Stores, Failure> {
        self.known(group)?;
        if let Some(failure) = &self.failed[group.0 as usize] {
            return Err(failure.clone());
        }
        self.stores.as_mut().map_err(|failure| failure.clone())
    }

    fn settle(&mut self) {
        if let Some(through) = self.through.take() {
            (self.report)(Event::Stored { through });
        }
    }

    fn fail(&mut self, group: GroupId, failure: Failure) {
        if let Some(failed) = self.failed.get_mut(group.0 as usize) {
            failed.get_or_insert_with(|| failure.clone());
        }
        (self.report)(Event::StoreFailed { group, failure });
    }
}
