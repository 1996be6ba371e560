//! A snapshot that was written in parts is read back before it takes the place of another: what lies
//! on the disk must be what was handed to it.
//!
//! No promise rests on it before that, so one that fails is given up, and the one before stays.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::filing::Filed;
use super::snapshot::{Body, Origin, Snapshot, UnderWay};
use super::{Context, Position, Raft, catchup::Load};
use crate::command::{CheckpointNews, LogChange, SnapshotFile, SnapshotRefusal};
use crate::event::{Damage, Damaged};
use crate::ids::{ByteCount, WriteId};
use crate::wire::{SnapshotId, SnapshotReader, WireError};

/// A file in parts that is to become the snapshot.
#[derive(Debug)]
pub(super) struct Proving {
    position: Position,
    peer_state: Bytes,
    filed: Filed,
    pub(super) origin: Origin,
    /// The write that its end rests on.
    last: WriteId,
    /// How far it was read, once it is on disk.
    reading: Option<SnapshotReader>,
}

impl Proving {
    pub(super) fn new(
        (position, peer_state): (Position, Bytes),
        filed: Filed,
        origin: Origin,
        last: WriteId,
    ) -> Self {
        Self { position, peer_state, filed, origin, last, reading: None }
    }

    pub(super) const fn id(&self) -> SnapshotId {
        let (index, term) = (self.position.index, self.position.term);
        SnapshotId { index, term, length: self.filed.length, seal: self.filed.seal }
    }

    pub(super) fn is_of(&self, of: &SnapshotId) -> bool {
        self.origin == Origin::Leader && self.id() == *of
    }

    pub(super) const fn peer_state(&self) -> &Bytes {
        &self.peer_state
    }
}

impl Raft {
    /// Writes up to this one are on disk: perhaps parts of a snapshot.
    pub(super) fn parts_written(&mut self, context: &mut Context<'_>, through: WriteId) {
        match &mut self.under_way {
            UnderWay::Checkpoint(checkpoint) => {
                let id = checkpoint.id();
                if let Some(bytes) = checkpoint.filing.written(through) {
                    self.tell_checkpoint(context.out, CheckpointNews::Written { id, bytes });
                }
            }
            UnderWay::Proving(proving) if proving.reading.is_none() && proving.last <= through => {
                self.begin_reading_back(context);
            }
            _ => {}
        }
        self.received_written(context, through);
    }

    /// All of it is on disk.
    pub(super) fn begin_reading_back(&mut self, context: &mut Context<'_>) {
        let UnderWay::Proving(proving) = &mut self.under_way else { return };
        match SnapshotReader::new(&self.name, proving.filed.length, context.limits) {
            Ok(reader) => proving.reading = Some(reader),
            Err(error) => return self.not_proven(context, format!("{error}")),
        }
        self.read_back(context);
    }

    fn read_back(&mut self, context: &mut Context<'_>) {
        let bytes = ByteCount::new(self.part(context.limits) as u64);
        let UnderWay::Proving(Proving { reading: Some(reader), .. }) = &self.under_way else {
            return;
        };
        let (file, offset) = (SnapshotFile::Parts, reader.read());
        let load = context.out.load_snapshot(self.group, file, offset, bytes);
        self.loads.insert(load, Load::Proof);
    }

    /// A part of what was written.
    pub(super) fn proof_loaded(&mut self, context: &mut Context<'_>, part: &Bytes) {
        let UnderWay::Proving(Proving { reading: Some(reader), .. }) = &mut self.under_way else {
            return;
        };
        match reader.push(part) {
            Err(error) => self.not_proven(context, format!("{error}")),
            Ok(_) if !reader.is_whole() => self.read_back(context),
            Ok(_) => {
                let UnderWay::Proving(proving) = core::mem::take(&mut self.under_way) else {
                    return;
                };
                self.proven(context, proving);
            }
        }
    }

    fn proven(&mut self, context: &mut Context<'_>, mut proving: Proving) {
        let Some(reader) = proving.reading.take() else { return };
        if let Err(error) = proving.check(reader) {
            self.under_way = UnderWay::Proving(proving);
            return self.not_proven(context, error);
        }
        if proving.origin == Origin::Leader && !self.may_install(context, &proving) {
            context.out.write(self.group, LogChange::DropSnapshotParts);
            return;
        }
        let Proving { position, peer_state, filed, origin, .. } = proving;
        let Position { index, term } = position;
        let change = LogChange::PlaceSnapshot { index, term, length: filed.length };
        let snapshot = Snapshot { position, peer_state, body: Body::Filed(filed) };
        self.put_snapshot(context, change, snapshot, None, origin);
    }

    /// What was written cannot be read, or is something else.
    pub(super) fn not_proven(&mut self, context: &mut Context<'_>, what: String) {
        if matches!(&self.under_way, UnderWay::Proving(proving) if proving.origin == Origin::Leader)
        {
            return self.received_not_proven(context, what);
        }
        let damage = Damage { file: "snapshot".into(), offset: None, what: what.clone() };
        self.note_damage(context, Damaged::Snapshot(damage));
        self.end_checkpoint(context.out, &SnapshotRefusal::Unreadable(what));
    }
}

impl Proving {
    fn check(&self, reader: SnapshotReader) -> Result<(), String> {
        let words = |error: WireError| format!("{error}");
        let (head, seal) = reader.finish().map_err(words)?;
        let found = Position { index: head.last_index, term: head.last_term };
        let same =
            found == self.position && seal == self.filed.seal && head.peer_state == self.peer_state;
        if same { Ok(()) } else { Err("it is not what was written".into()) }
    }
}
