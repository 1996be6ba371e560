//! A snapshot for the machine: a small one is handed out whole, a large one in parts, each read from
//! the disk when the machine has taken the one before.

use alloc::boxed::Box;
use alloc::format;

use bytes::Bytes;

use super::snapshot::{Body, Installed, Snapshot};
use super::{Context, Position, Raft, State, catchup::Load};
use crate::command::SnapshotFile;
use crate::ids::{ByteCount, Index};
use crate::wire::SnapshotReader;

/// A large snapshot that is being handed out.
#[derive(Debug)]
pub(super) struct Handing {
    position: Position,
    reader: SnapshotReader,
    /// Bytes of data that were handed out.
    handed: u64,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// It is being read.
    Loading,
    /// It is here.
    Ready(Bytes),
    /// The machine has not taken the one before.
    Awaited,
}

impl Raft {
    /// The machine has to take the newest snapshot on before it applies more.
    pub(super) fn offer_newest(&mut self) {
        self.offer_nothing();
        self.installed = self.newest_snapshot().cloned();
        if let Some(index) = self.installed.as_ref().map(|snapshot| snapshot.position.index) {
            self.machine.owe(index);
        }
    }

    /// What it was to be handed of a snapshot it is not.
    pub(super) fn offer_nothing(&mut self) {
        (self.installed, self.handing) = (None, None);
        self.loads.retain(|_, load| !matches!(load, Load::Handing));
    }

    /// Whether the machine was not handed all of a snapshot.
    pub(super) const fn owes_snapshot(&self) -> bool {
        self.installed.is_some() || self.handing.is_some()
    }

    /// The leader's snapshot that the machine has to take on before it applies more, once; or the
    /// next part of it.
    pub fn take_installed(&mut self, context: &mut Context<'_>) -> Option<Installed> {
        let aside = matches!(self.state, State::Aside(_));
        if self.installed.is_some() && !aside && self.machine.admits_snapshot() {
            let Snapshot { position, body, .. } = self.installed.take()?;
            match body {
                Body::Held(data) => {
                    return Some(Installed { position, offset: 0, data, last: true });
                }
                Body::Filed(filed) => self.begin_handing(context, position, filed.length),
            }
        }
        let handing = self.handing.as_mut()?;
        if !matches!(handing.next, Next::Ready(_)) {
            return None;
        }
        let Next::Ready(data) = core::mem::replace(&mut handing.next, Next::Awaited) else {
            return None;
        };
        let (position, offset) = (handing.position, handing.handed);
        handing.handed += data.len() as u64;
        let last = handing.reader.is_whole();
        if last {
            self.handing = None;
        }
        Some(Installed { position, offset, data, last })
    }

    fn begin_handing(&mut self, context: &mut Context<'_>, position: Position, length: u64) {
        match SnapshotReader::new(&self.name, length, context.limits) {
            Ok(reader) => {
                let next = Next::Awaited;
                self.handing = Some(Box::new(Handing { position, reader, handed: 0, next }));
                self.load_for_handing(context);
            }
            Err(error) => self.snapshot_is_bad(context, position.index, &format!("{error}")),
        }
    }

    fn load_for_handing(&mut self, context: &mut Context<'_>) {
        let bytes = ByteCount::new(self.part(context.limits) as u64);
        let Some(handing) = &mut self.handing else { return };
        handing.next = Next::Loading;
        let (file, offset) = (SnapshotFile::Current, handing.reader.read());
        let load = context.out.load_snapshot(self.group, file, offset, bytes);
        self.loads.insert(load, Load::Handing);
    }

    /// A part that was read for the machine.
    pub(super) fn handing_loaded(&mut self, context: &mut Context<'_>, part: &Bytes) {
        let Some(handing) = &mut self.handing else { return };
        let index = handing.position.index;
        let data = match handing.reader.push(part) {
            Ok(data) => data,
            Err(error) => return self.snapshot_is_bad(context, index, &format!("{error}")),
        };
        // With the last part the hash is checked: the machine gets the end of what is good alone.
        match data.is_empty() && !handing.reader.is_whole() {
            // The head of the file, and nothing else.
            true => self.load_for_handing(context),
            false => handing.next = Next::Ready(data),
        }
    }

    /// The machine has taken a part in.
    pub fn machine_took_part(&mut self, context: &mut Context<'_>, index: Index, through: u64) {
        if let Some(handing) = &self.handing
            && (handing.position.index, handing.handed) == (index, through)
            && matches!(handing.next, Next::Awaited)
        {
            self.load_for_handing(context);
        }
    }

    /// What was verified at the start is something else now: what the group promised may be gone.
    pub(super) fn snapshot_is_bad(&mut self, context: &mut Context<'_>, index: Index, what: &str) {
        self.handing = None;
        self.stand_aside(context, format!("the snapshot of {index} is damaged: {what}"));
    }
}
