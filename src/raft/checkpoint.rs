//! A snapshot that the machine makes step by step, while its group goes on.
//!
//! One is under way at a time. It covers what the machine had applied when it began; what it may be
//! made from, the snapshot before it and the records between, stays until it ends. A leader's
//! snapshot ends it, and every step of one that is over is answered by that. What is large is never
//! in memory: it goes to the disk as it comes (see `filing`), and is read back (see `proving`).

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::filing::{Filing, Made};
use super::proving::Proving;
use super::snapshot::{Body, Origin, UnderWay};
use super::{Context, Position, Raft, catchup::Load};
use crate::command::{CheckpointNews, Command, LogChange, Report, SnapshotFile, SnapshotRefusal};
use crate::event::CheckpointStep;
use crate::ids::{ByteCount, CheckpointId, Index};
use crate::outbox::Outbox;
use crate::wire::{AppendEntry, EntryKind, SnapshotReader};

/// What the machine is making.
#[derive(Debug)]
pub(super) struct Checkpoint {
    id: CheckpointId,
    position: Position,
    /// The last record that the snapshot before it covers.
    before: Index,
    pub(super) filing: Filing,
    /// The snapshot before it, if it is large and the machine reads it.
    reading: Option<SnapshotReader>,
}

impl Checkpoint {
    pub(super) const fn id(&self) -> CheckpointId {
        self.id
    }
}

impl Raft {
    /// A step of the machine's; answered by [`Command::Checkpoint`], but for parts and an end that
    /// went well: a finished one is answered when it is durable.
    pub fn checkpoint(&mut self, context: &mut Context<'_>, step: CheckpointStep) {
        match step {
            CheckpointStep::Begin { force } => self.begin_checkpoint(context, force),
            CheckpointStep::LoadSnapshot(id) => self.load_last_snapshot(context, id),
            CheckpointStep::LoadRecords { id, first } => self.load_records(context, id, first),
            CheckpointStep::Write { id, part } => self.write_part(context, id, &part),
            CheckpointStep::Finish(id) => self.finish_checkpoint(context, id),
            CheckpointStep::Abandon(id) => {
                if self.checkpoint_of(context.out, id).is_some() {
                    self.end_checkpoint(context.out, &SnapshotRefusal::Over);
                }
            }
            CheckpointStep::NextPart(id) => self.load_next_part(context, id),
        }
    }

    fn begin_checkpoint(&mut self, context: &mut Context<'_>, force: bool) {
        let position = match self.may_snapshot(force) {
            // One file in parts is written at a time.
            Ok(_) if self.receives() => {
                let why = SnapshotRefusal::UnderWay;
                return self.tell_checkpoint(context.out, CheckpointNews::Refused(why));
            }
            Ok(position) => position,
            Err(why) => return self.tell_checkpoint(context.out, CheckpointNews::Refused(why)),
        };
        self.receiving = None;
        self.last_checkpoint = self.last_checkpoint.next();
        let (id, index, before) = (self.last_checkpoint, position.index, self.log.base().index);
        let peer_state = self.peer_state_at(index).to_bytes();
        let filing = Filing::new(&self.name, position, peer_state);
        self.under_way =
            UnderWay::Checkpoint(Checkpoint { id, position, before, filing, reading: None });
        context.out.report(self.group, Report::CheckpointBegun { index });
        let frees = self.log.size_through(index);
        self.tell_checkpoint(context.out, CheckpointNews::Begun { id, index, before, frees });
    }

    /// The checkpoint of this number; whoever asks for another one is told that it is over.
    fn checkpoint_of(&mut self, out: &mut Outbox, id: CheckpointId) -> Option<&mut Checkpoint> {
        if !matches!(&self.under_way, UnderWay::Checkpoint(checkpoint) if checkpoint.id == id) {
            let why = SnapshotRefusal::Over;
            self.tell_checkpoint(out, CheckpointNews::Ended { id, why });
            return None;
        }
        match &mut self.under_way {
            UnderWay::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        }
    }

    fn load_last_snapshot(&mut self, context: &mut Context<'_>, id: CheckpointId) {
        let last = self.snapshot.as_ref().map(|snapshot| snapshot.body.clone());
        let reader = match &last {
            Some(Body::Filed(filed)) => {
                SnapshotReader::new(&self.name, filed.length, context.limits).ok()
            }
            _ => None,
        };
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        checkpoint.reading = reader;
        match last {
            Some(Body::Filed(_)) => self.load_next_part(context, id),
            Some(Body::Held(data)) => {
                let news = CheckpointNews::Snapshot { id, data: Some(data) };
                self.tell_checkpoint(context.out, news);
            }
            None => {
                self.tell_checkpoint(context.out, CheckpointNews::Snapshot { id, data: None });
            }
        }
    }

    /// The machine reads on; one part at a time, and none behind the last.
    fn load_next_part(&mut self, context: &mut Context<'_>, id: CheckpointId) {
        let bytes = ByteCount::new(self.part(context.limits) as u64);
        let loading = self.loads.values().any(|load| matches!(load, Load::LastSnapshot(_)));
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        let Some(reader) = checkpoint.reading.as_ref().filter(|_| !loading) else { return };
        let (file, offset) = (SnapshotFile::Current, reader.read());
        let load = context.out.load_snapshot(self.group, file, offset, bytes);
        self.loads.insert(load, Load::LastSnapshot(id));
    }

    /// A part of the snapshot before, which a checkpoint asked for.
    pub(super) fn last_snapshot_loaded(
        &mut self,
        context: &mut Context<'_>,
        id: CheckpointId,
        part: &Bytes,
    ) {
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        let before = checkpoint.before;
        let Some(reader) = &mut checkpoint.reading else { return };
        let part = match reader.push(part) {
            Ok(part) => part,
            Err(error) => return self.snapshot_is_bad(context, before, &format!("{error}")),
        };
        let last = reader.is_whole();
        if part.is_empty() && !last {
            // The head of the file, and nothing else.
            return self.load_next_part(context, id);
        }
        if last {
            checkpoint.reading = None;
        }
        self.tell_checkpoint(context.out, CheckpointNews::SnapshotPart { id, part, last });
    }

    fn load_records(&mut self, context: &mut Context<'_>, id: CheckpointId, first: Index) {
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        let (first, last) = (first.max(checkpoint.before.next()), checkpoint.position.index);
        if first > last {
            let news = CheckpointNews::Records { id, records: Vec::new(), next: None };
            return self.tell_checkpoint(context.out, news);
        }
        let load = context.out.load(self.group, first, last, context.limits.load);
        self.loads.insert(load, Load::Checkpoint { id, first });
    }

    /// Records that a checkpoint asked for.
    pub(super) fn checkpoint_loaded(
        &mut self,
        context: &mut Context<'_>,
        (id, first): (CheckpointId, Index),
        loaded: &[Bytes],
    ) {
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        let last = checkpoint.position.index;
        let mut records = Vec::new();
        let mut next = first;
        for record in loaded.iter().take(usize::try_from(last.since(first)).unwrap_or(0) + 1) {
            match AppendEntry::decode(record) {
                Ok(entry) => records.push((next, entry.entries.data_of(EntryKind::Normal))),
                Err(error) => {
                    return self.stand_aside(context, format!("log record {next}: {error}"));
                }
            }
            next = next.next();
        }
        let next = Some(next).filter(|next| *next <= last);
        self.tell_checkpoint(context.out, CheckpointNews::Records { id, records, next });
    }

    fn write_part(&mut self, context: &mut Context<'_>, id: CheckpointId, bytes: &Bytes) {
        let (limit, part) = (self.most_filed(context.limits), self.part(context.limits));
        let most = context.limits.snapshot_parts_in_flight.get();
        let group = self.group;
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        let (found, waits) = (bytes.len() as u64, checkpoint.filing.in_flight());
        let data = checkpoint.filing.data().saturating_add(found);
        if data > limit {
            let why = SnapshotRefusal::TooLarge { limit, found: data };
            return self.end_checkpoint(context.out, &why);
        }
        if waits > 0 && waits + found > most {
            let why = SnapshotRefusal::TooFast { limit: most, found: waits + found };
            return self.end_checkpoint(context.out, &why);
        }
        checkpoint.filing.take(group, bytes, part, context.out);
    }

    fn finish_checkpoint(&mut self, context: &mut Context<'_>, id: CheckpointId) {
        if self.checkpoint_of(context.out, id).is_none() {
            return;
        }
        let UnderWay::Checkpoint(checkpoint) = core::mem::take(&mut self.under_way) else { return };
        let origin = Origin::Checkpoint(id);
        match checkpoint.filing.finish(self.group, context.out) {
            Made::Held { position, peer_state, data } => {
                if let Err(why) = self.keep_snapshot(context, (position, peer_state, data), origin)
                {
                    self.refuse_checkpoint(context.out, id, &why);
                }
            }
            Made::Filed { position, peer_state, filed, last } => {
                let proving = Proving::new((position, peer_state), filed, origin, last);
                self.under_way = UnderWay::Proving(proving);
            }
        }
    }

    /// Ends what is made or written, if it is a checkpoint, and tells the machine why. What the
    /// disk was asked to write is written all the same; nothing follows from it.
    pub(super) fn end_checkpoint(&mut self, out: &mut Outbox, why: &SnapshotRefusal) {
        let (id, parts) = match &self.under_way {
            UnderWay::Checkpoint(checkpoint) => (Some(checkpoint.id), checkpoint.filing.on_disk()),
            UnderWay::Proving(proving) => (proving.origin.checkpoint(), true),
            UnderWay::Writing(writing) => (writing.checkpoint(), false),
            UnderWay::Nothing => (None, false),
        };
        let Some(id) = id else { return };
        self.under_way = UnderWay::Nothing;
        self.loads.retain(|_, load| {
            !matches!(load, Load::Checkpoint { .. } | Load::LastSnapshot(_) | Load::Proof)
        });
        if parts && !matches!(why, SnapshotRefusal::Aside(_)) {
            out.write(self.group, LogChange::DropSnapshotParts);
        }
        self.refuse_checkpoint(out, id, why);
    }

    fn refuse_checkpoint(&self, out: &mut Outbox, id: CheckpointId, why: &SnapshotRefusal) {
        out.report(self.group, Report::SnapshotRefused(why.clone()));
        self.tell_checkpoint(out, CheckpointNews::Ended { id, why: why.clone() });
    }

    pub(super) fn tell_checkpoint(&self, out: &mut Outbox, news: CheckpointNews) {
        out.push(Command::Checkpoint { group: self.group, news });
    }
}
