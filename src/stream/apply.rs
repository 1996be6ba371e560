//! Applies the committed records of a stream's log, in order.
//!
//! Upstream: `applyStreamEntries` and `applyStreamMsgOp` in `server/jetstream_cluster.go`. What a
//! record does depends on the stream and the record alone, so that every replica does the same; who
//! is answered is the one thing that a leader does besides. The messages of a record go to the
//! store as one block, the record's own bytes. A message's sequence is the one it was proposed with,
//! plus one, less the messages that failed.
//!
//! Where subjects are transformed, each replica does so here, as upstream's do: the log has messages as
//! they were published, and the block is a copy with the subjects that they are stored under.
//!
//! An entry that cannot be read or belongs to another machine stops the stream before anything of it
//! is applied: a replica that went on would differ from those that understand it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::catchup::stopped::Stopped;
use super::contents::Applied;
use super::counter::value_of;
use super::header::{self, Fields};
use super::index::Ranges;
use super::publish::{refusal, refused};
use super::staging::StagedMessage;
use super::{Notice, Phase, Stream};
use crate::canary::Canary;
use crate::command::{Answer, Exchange, Place, Report, StoreChange};
use crate::context::Context;
use crate::ids::{Index, RequestId, Sequence};
use crate::subject_transform::TooLong;
use crate::wire::{
    ApiError, ApiResponse, AppendEntry, BatchMessage, EntryKind, MessageDelete, Op, ResponseType,
    StorageType, StreamMessageView, StreamPurge, WireError,
};

/// Room for the answers of one record.
const ANSWERS: usize = 16 * 1024;

/// Why a record cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum ApplyError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("op {0} is none of a stream's, or of a newer server")]
    Op(u8),
    #[error("proposed behind sequence {found}, but the stream is at {expected}")]
    Sequence { expected: u64, found: u64 },
    #[error("a message of 4 GiB or more")]
    TooLarge,
    #[error("the entry is no part of the record")]
    Apart,
    #[error(transparent)]
    Subject(#[from] TooLong),
}

/// Changes of one record that were not handed to the store yet.
#[derive(Debug, Default)]
struct Changes {
    places: Vec<Place>,
    removed: Ranges,
    /// What the places are in, if it is not the record.
    copied: BytesMut,
}

impl Stream {
    /// Applies a committed record: the next of the log. `record` is the bytes that the entries of
    /// `entry` are slices of.
    ///
    /// Ignored before [`Notice::Ready`], while [`paused`](Self::paused) for a catchup, and for a
    /// record that was applied before.
    pub fn apply(
        &mut self,
        context: &mut Context<'_>,
        index: Index,
        entry: &AppendEntry,
        record: &Bytes,
    ) {
        if !matches!(self.phase, Phase::Current) || index <= self.contents.applied.index {
            return;
        }
        let mut changes = Changes::default();
        let already = self.contents.applied.entries;
        let mut number = 0_u32;
        let mut handed_over = false;
        for (kind, data) in entry.entries.views() {
            if kind != EntryKind::Normal {
                // These upstream hands to its streams, where they end a batch that is not whole; the
                // others it keeps from them, and the batch may go on behind them.
                let ends = matches!(
                    kind,
                    EntryKind::AddPeer
                        | EntryKind::RemovePeer
                        | EntryKind::Snapshot
                        | EntryKind::OldSnapshot
                );
                if ends && number >= already {
                    self.contents.abandon_batch();
                }
                handed_over |= ends;
                continue;
            }
            handed_over = true;
            number += 1;
            if number <= already {
                continue;
            }
            if let Err(error) = self.apply_entry(context, &mut changes, record, data) {
                let number = number - 1;
                return self.stop(context, format!("log record {index}, entry {number}: {error}"));
            }
            // Not a move of its own: the mark of the next change carries it.
            self.contents.applied.entries = number;
        }
        if !handed_over {
            // A record of which nothing is left, as a new leader's first, ends it too.
            self.contents.abandon_batch();
        }
        let applied = Applied { index, term: entry.term, entries: 0 };
        let exact = self.contents.catch_up_with_removals(index, &mut changes.removed);
        match changes.take(record) {
            None if exact => {
                self.contents.applied = applied;
                self.contents.put(context.out, StoreChange::Mark, 0);
            }
            None => self.contents.moved(applied),
            Some((change, bytes)) => {
                self.contents.applied = applied;
                self.contents.put(context.out, change, bytes);
            }
        }
        if exact {
            self.contents.settle(context.out);
        }
        self.contents.dedupe.expire(context.now.as_timestamp());
        self.serve_waiting(context);
    }

    fn apply_entry(
        &mut self,
        context: &mut Context<'_>,
        changes: &mut Changes,
        record: &Bytes,
        data: &[u8],
    ) -> Result<(), ApplyError> {
        let op = Op::of(data)?;
        if matches!(op, Op::Batch | Op::BatchCommit) {
            return self.apply_batch_message(context, changes, record, data);
        }
        self.abandon_batch(context, changes, record)?;
        match op {
            Op::Message | Op::CompressedMessage => {
                let mut unpacked = Vec::new();
                let message = StreamMessageView::decode(data, &mut unpacked, context.limits)?;
                self.apply_message(context, changes, record, (data, message))
            }
            Op::DeleteMessage => {
                let delete = MessageDelete::decode(&record.slice_ref(data), context.limits)?;
                self.apply_delete(context, changes, delete.sequence);
                Ok(())
            }
            Op::Purge => {
                let purge = StreamPurge::decode(&record.slice_ref(data), context.limits)?;
                self.flush(context, changes, record);
                self.apply_purge(context, &purge);
                Ok(())
            }
            op => Err(ApplyError::Op(op.as_u8())),
        }
    }

    fn apply_batch_message(
        &mut self,
        context: &mut Context<'_>,
        changes: &mut Changes,
        record: &Bytes,
        data: &[u8],
    ) -> Result<(), ApplyError> {
        // Its bytes are the record's own.
        let data = record.slice_ref(data);
        let part = BatchMessage::decode(&data, context.limits)?;
        let inner = data.slice(BatchMessage::inner_offset(&data)?..);
        let commit = part.view().commit;
        if !self.contents.stage(context.limits, &part, (inner, record)) || !commit {
            return Ok(());
        }
        self.apply_batch(context, changes, record)
    }

    /// Stores the messages of the batch that is staged.
    fn apply_batch(
        &mut self,
        context: &mut Context<'_>,
        changes: &mut Changes,
        record: &Bytes,
    ) -> Result<(), ApplyError> {
        let Some(staged) = self.contents.staged.take() else { return Ok(()) };
        let (messages, block) = staged.into_block(record);
        let own = block.as_ptr() != record.as_ptr();
        if own {
            self.flush(context, changes, record);
        }
        for StagedMessage { data, message, .. } in messages {
            self.apply_message(context, changes, &block, (&data, message.view()))?;
        }
        if own {
            // The entry itself is applied with it.
            self.contents.applied.entries += 1;
            self.flush(context, changes, &block);
            self.contents.applied.entries -= 1;
        }
        Ok(())
    }

    /// An entry that is none of its own ends the batch that is staged.
    fn abandon_batch(
        &mut self,
        context: &mut Context<'_>,
        changes: &mut Changes,
        record: &Bytes,
    ) -> Result<(), ApplyError> {
        if context.limits.planted(Canary::HalfBatchSurvives) {
            self.apply_batch(context, changes, record)?;
        }
        self.contents.abandon_batch();
        Ok(())
    }

    fn apply_message(
        &mut self,
        context: &mut Context<'_>,
        changes: &mut Changes,
        record: &Bytes,
        (data, mut message): (&[u8], StreamMessageView<'_>),
    ) -> Result<(), ApplyError> {
        let proposed = message.sequence;
        let own = self.leadership.as_mut().and_then(|own| own.message_applied(proposed));
        let trace = self.leadership.as_mut().and_then(|own| own.take_trace(proposed));
        let expected = self.contents.index.last().plus(self.contents.failed);
        if let Some(request) = trace {
            let next = self.contents.index.last().next();
            let stored = proposed == expected
                && self.contents.wrong_last_message_id(&Fields::of(message.header)).is_none();
            let sequence = stored.then_some(next);
            context.out.report(self.group, Report::Traced { request, sequence });
        }
        if proposed < expected {
            // It is there already, or a purge went past it.
            if let Some(request) = own {
                if let Some(id) = header::field(message.header, header::MESSAGE_ID) {
                    self.contents.dedupe.withdraw(id);
                }
                let error = ApiError::STREAM_SEQUENCE_NOT_MATCH;
                context.out.answer(request, refusal(&self.acks, &error));
            }
            return Ok(());
        }
        if proposed > expected {
            let (expected, found) = (expected.get(), proposed.get());
            return Err(ApplyError::Sequence { expected, found });
        }
        let sequence = self.contents.index.last().next();
        if message.is_skip() && message.header.is_empty() && message.payload.is_empty() {
            self.contents.skip_to(sequence);
            return Ok(());
        }
        let fields = Fields::of(message.header);
        if let Some(error) = self.contents.wrong_last_message_id(&fields) {
            self.contents.failed += 1;
            if let Some(id) = fields.message_id {
                self.contents.dedupe.withdraw(id);
            }
            if let Some(request) = own {
                context.out.answer(request, refusal(&self.acks, &error));
            }
            return Ok(());
        }
        let stored = match &self.transform {
            Some(transform) => Some(transform.stored(message.subject, proposed)?),
            None => None,
        };
        let (offset, length) = match &stored {
            None => part_of(record, data).ok_or(ApplyError::Apart)?,
            Some(subject) => {
                message.subject = subject;
                changes.copy(&message)?
            }
        };
        self.contents.expire(message.timestamp, &mut changes.removed);
        if !self.contents.add(sequence, &message, &fields) {
            return Err(ApplyError::TooLarge);
        }
        changes.places.push(Place { sequence, offset, length });
        self.contents.make_room(sequence, &fields, &mut changes.removed);
        if let Some(leadership) = &mut self.leadership {
            leadership.sendings.applied(&fields);
            if self.config.allow_msg_counter {
                leadership.counters.applied(message.subject, sequence);
            }
        }
        if let Some(request) = own {
            self.acknowledge(context, request, sequence, (&fields, message.payload));
        }
        Ok(())
    }

    fn acknowledge(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        sequence: Sequence,
        (fields, payload): (&Fields<'_>, &[u8]),
    ) {
        // One allocation for many answers, each of which is a slice of it.
        if self.answers.capacity() - self.answers.len() < self.acks.success_len(sequence) {
            self.answers = BytesMut::with_capacity(ANSWERS);
        }
        match fields.batch_id {
            None if self.config.allow_msg_counter => {
                self.acks.counter(sequence, &value_of(payload), &mut self.answers);
            }
            None => self.acks.success(sequence, &mut self.answers),
            Some(id) => {
                let size = fields.batch_sequence.map_or(0, header::number);
                let id = String::from_utf8_lossy(id);
                self.acks.batch(sequence, &id, size, &mut self.answers);
            }
        }
        context.out.answer(request, Answer::Json(self.answers.split().freeze()));
    }

    fn apply_delete(
        &mut self,
        context: &mut Context<'_>,
        changes: &mut Changes,
        sequence: Sequence,
    ) {
        let removed = !self.contents.only_adds() && self.contents.index.remove(sequence);
        if removed {
            changes.removed.push(sequence);
        }
        let own = self.leadership.as_mut().and_then(|own| own.delete_applied());
        let Some(request) = own else { return };
        let kind = ResponseType::MessageDelete;
        let answer = match removed {
            true => Answer::Json(ApiResponse::success(kind).to_bytes()),
            false => refused(kind, self.not_deleted(sequence)),
        };
        context.out.answer(request, answer);
    }

    /// Why there is no message to delete. Upstream's file store tells what lies outside its ends from
    /// what is gone between them, its memory store does not.
    fn not_deleted(&self, sequence: Sequence) -> ApiError {
        let index = &self.contents.index;
        let failed = |why: &str| ApiError::STREAM_MSG_DELETE_FAILED.with(&[("err", &why)]);
        match self.config.storage {
            StorageType::File if sequence > index.last() => failed("stream store EOF"),
            StorageType::File if sequence < index.first() || sequence == Sequence::ZERO => {
                failed("no message found")
            }
            _ => ApiError::SEQUENCE_NOT_FOUND.with(&[("seq", &sequence)]),
        }
    }

    fn apply_purge(&mut self, context: &mut Context<'_>, purge: &StreamPurge) {
        let request = purge.request.clone().unwrap_or_default();
        // Without a bound of its own a purge ends at what its leader knew.
        let before = match (request.before, request.keep) {
            (Sequence::ZERO, 0) => purge.last.next(),
            (before, _) => before,
        };
        let first = self.contents.index.first();
        let held = self.contents.index.messages();
        let all = matches!(request.filter.as_str(), "" | ">");
        // A purge beyond the end moves it, and leaves nothing that could be too much.
        let beyond = all && before > self.contents.index.last().next();
        let change = if self.contents.only_adds() && !beyond {
            None
        } else if all && before > Sequence::new(1) {
            self.contents.index.compact(before);
            self.front_removed(first)
        } else if let Some(cut) = self.contents.index.cut_to_keep(request.keep).filter(|_| all) {
            self.contents.index.compact(cut);
            self.front_removed(first)
        } else if all {
            None
        } else {
            let filter = request.filter.as_bytes();
            let before = Some(before).filter(|before| *before > Sequence::new(1));
            let before = before.unwrap_or(Sequence::ZERO);
            let removed = self.contents.index.remove_matching(filter, before, request.keep);
            Some(removed).filter(|removed| !removed.is_empty()).map(ranges)
        };
        if let Some(change) = change {
            // The entry itself is applied with it.
            self.contents.applied.entries += 1;
            self.contents.put(context.out, change, 0);
            self.contents.applied.entries -= 1;
        }
        let purged = held - self.contents.index.messages();
        let own = self.leadership.as_mut().and_then(|own| own.purge_applied());
        if let Some(request) = own {
            context.out.answer(request, Answer::Json(ApiResponse::purged(purged).to_bytes()));
        }
    }

    /// What the store has to do after everything between an old and the new first is gone.
    pub(super) fn front_removed(&self, first: Sequence) -> Option<StoreChange> {
        let index = &self.contents.index;
        if index.messages() == 0 {
            return Some(StoreChange::Clear);
        }
        let gone = index.first() > first;
        gone.then(|| StoreChange::Remove(alloc::vec![(first, index.first().previous())]))
    }

    /// Hands what the record has changed so far to the store.
    fn flush(&mut self, context: &mut Context<'_>, changes: &mut Changes, record: &Bytes) {
        if let Some((change, bytes)) = changes.take(record) {
            self.contents.put(context.out, change, bytes);
        }
    }

    /// The stream cannot go on: it applies, serves and leads no more.
    pub(super) fn stop(&mut self, context: &mut Context<'_>, why: String) {
        self.leadership_lost(context);
        self.server.stop(context);
        context.out.report(self.group, Report::StoodAside(why.clone()));
        self.notices.push_back(Notice::Stopped(why.clone()));
        self.phase = Phase::Stopped(Stopped::new(why));
    }
}

impl Changes {
    /// Copies a message to where those of the record are gathered; its place there.
    fn copy(&mut self, message: &StreamMessageView<'_>) -> Result<(u32, u32), ApplyError> {
        let offset = self.copied.len();
        message.encode_allow_compress(&mut self.copied)?;
        let length = self.copied.len() - offset;
        let place = u32::try_from(offset).ok().zip(u32::try_from(length).ok());
        place.ok_or(ApplyError::TooLarge)
    }

    /// What the store has to do, in one piece, and the bytes of it; none if it is nothing.
    fn take(&mut self, record: &Bytes) -> Option<(StoreChange, u64)> {
        let mut places = core::mem::take(&mut self.places);
        let mut removed = core::mem::take(&mut self.removed);
        removed.sort();
        // What was added and taken out again never reaches the store.
        if let Some(first) = places.first().map(|place| place.sequence) {
            let new = removed.split_off(first);
            if !new.is_empty() {
                places.retain(|place| !new.contains(place.sequence));
            }
        }
        let bytes = places.iter().map(|place| u64::from(place.length)).sum();
        let block = match self.copied.is_empty() {
            true => record.clone(),
            false => core::mem::take(&mut self.copied).freeze(),
        };
        let change = match (places.is_empty(), removed.is_empty()) {
            (true, true) => return None,
            (true, false) => ranges(removed),
            (false, true) => StoreChange::Messages { block, places },
            (false, false) => {
                let removed = removed.into_vec();
                let exchange = Exchange { removed, block, places };
                StoreChange::Exchange(Box::new(exchange))
            }
        };
        Some((change, bytes))
    }
}

fn ranges(removed: Ranges) -> StoreChange {
    StoreChange::Remove(removed.into_vec())
}

/// Where `part` lies in `whole`, if it is a slice of it.
fn part_of(whole: &[u8], part: &[u8]) -> Option<(u32, u32)> {
    let offset = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let inside = offset.checked_add(part.len()).is_some_and(|end| end <= whole.len());
    inside.then_some(())?;
    Some((u32::try_from(offset).ok()?, u32::try_from(part.len()).ok()?))
}
