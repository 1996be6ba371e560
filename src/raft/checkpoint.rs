//! A snapshot that the machine makes step by step, while its group goes on.
//!
//! One is under way at a time. It covers what the machine had applied when it began; what it may be
//! made from, the snapshot before it and the records between, stays until it ends. A leader's
//! snapshot ends it, and every step of one that is over is answered by that.

use alloc::format;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::snapshot::{Origin, Snapshot, UnderWay};
use super::{Context, Position, Raft, catchup::Load};
use crate::command::{CheckpointNews, Command, Report, SnapshotRefusal};
use crate::event::CheckpointStep;
use crate::ids::{CheckpointId, Index};
use crate::outbox::Outbox;
use crate::wire::{AppendEntry, EntryKind};

/// What the machine is making.
#[derive(Debug)]
pub(super) struct Checkpoint {
    id: CheckpointId,
    position: Position,
    /// The last record that the snapshot before it covers.
    before: Index,
    peer_state: Bytes,
    data: BytesMut,
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
        }
    }

    fn begin_checkpoint(&mut self, context: &mut Context<'_>, force: bool) {
        let position = match self.may_snapshot(force) {
            Ok(position) => position,
            Err(why) => return self.tell_checkpoint(context.out, CheckpointNews::Refused(why)),
        };
        self.last_checkpoint = self.last_checkpoint.next();
        let (id, index, before) = (self.last_checkpoint, position.index, self.log.base().index);
        let peer_state = self.peer_state_at(index).to_bytes();
        let data = BytesMut::new();
        self.under_way =
            UnderWay::Checkpoint(Checkpoint { id, position, before, peer_state, data });
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
        if self.checkpoint_of(context.out, id).is_some() {
            let data = self.snapshot.as_ref().map(|snapshot| snapshot.data.clone());
            self.tell_checkpoint(context.out, CheckpointNews::Snapshot { id, data });
        }
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
                Ok(entry) => records.push((next, normal_entries(&entry))),
                Err(error) => {
                    return self.stand_aside(context, format!("log record {next}: {error}"));
                }
            }
            next = next.next();
        }
        let next = Some(next).filter(|next| *next <= last);
        self.tell_checkpoint(context.out, CheckpointNews::Records { id, records, next });
    }

    fn write_part(&mut self, context: &mut Context<'_>, id: CheckpointId, part: &Bytes) {
        let limit = self.most_data(context.limits);
        let Some(checkpoint) = self.checkpoint_of(context.out, id) else { return };
        let found = (checkpoint.data.len() as u64).saturating_add(part.len() as u64);
        if found > limit {
            let why = SnapshotRefusal::TooLarge { limit, found };
            return self.end_checkpoint(context.out, &why);
        }
        checkpoint.data.extend_from_slice(part);
    }

    fn finish_checkpoint(&mut self, context: &mut Context<'_>, id: CheckpointId) {
        let Some(Checkpoint { position, peer_state, data, .. }) =
            self.checkpoint_of(context.out, id)
        else {
            return;
        };
        let (position, peer_state) = (*position, peer_state.clone());
        let data = core::mem::take(data).freeze();
        let snapshot = Snapshot { position, peer_state, data };
        if let Err(why) = self.keep_snapshot(context, snapshot, Origin::Checkpoint(id)) {
            self.end_checkpoint(context.out, &why);
        }
    }

    /// Ends what is made or written, if it is a checkpoint, and tells the machine why. What the
    /// disk was asked to write is written all the same; nothing follows from it.
    pub(super) fn end_checkpoint(&mut self, out: &mut Outbox, why: &SnapshotRefusal) {
        let id = match &self.under_way {
            UnderWay::Checkpoint(checkpoint) => Some(checkpoint.id),
            UnderWay::Writing(writing) => writing.checkpoint(),
            UnderWay::Nothing => None,
        };
        let Some(id) = id else { return };
        self.under_way = UnderWay::Nothing;
        self.loads.retain(|_, load| !matches!(load, Load::Checkpoint { .. }));
        out.report(self.group, Report::SnapshotRefused(why.clone()));
        self.tell_checkpoint(out, CheckpointNews::Ended { id, why: why.clone() });
    }

    fn tell_checkpoint(&self, out: &mut Outbox, news: CheckpointNews) {
        out.push(Command::Checkpoint { group: self.group, news });
    }
}

/// What a record holds for the machine.
fn normal_entries(entry: &AppendEntry) -> Vec<Bytes> {
    let normal = entry.entries.iter().filter(|part| part.kind == EntryKind::Normal);
    normal.map(|part| part.data).collect()
}
