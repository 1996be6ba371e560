//! What a stream holds, as its log says: the part of a stream that is the same on every replica, and
//! the queue by which it reaches the disk.

use alloc::string::String;
use alloc::vec::Vec;

use super::bounds::Bounds;
use super::dedupe::Dedupe;
use super::header::{self, Fields};
use super::index::{Ranges, StreamIndex, message_size};
use super::lifetimes::Lifetimes;
use super::schedule::Schedules;
use super::staging::StagedBatch;
use super::store::StoreQueue;
use crate::command::StoreChange;
use crate::event::StoreMark;
use crate::ids::{GroupId, Index, Sequence, StoreId, Term};
use crate::outbox::Outbox;
use crate::subject::Subject;
use crate::wire::{ApiError, CatchupState, StreamConfig, StreamMessageView};

/// How far a stream has applied its log: whole records up to one, and entries of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// The last record that is applied.
    pub(super) index: Index,
    /// Its term.
    pub(super) term: Term,
    /// Normal entries of the next record that are applied as well.
    pub(super) entries: u32,
}

/// Messages and counts.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) group: GroupId,
    /// Where the stream's catchups are asked for.
    pub(super) sync: Subject,
    pub(super) index: StreamIndex,
    pub(super) dedupe: Dedupe,
    pub(super) bounds: Bounds,
    pub(super) lifetimes: Lifetimes,
    pub(super) schedules: Schedules,
    /// The id of the last message, or nothing if it has none; none if the last message was gone
    /// before this replica saw it.
    pub(super) last_message_id: Option<Vec<u8>>,
    /// When the last message was taken, in nanoseconds since the epoch.
    pub(super) last_time: i64,
    /// Proposed messages that failed when they were applied (upstream's `clfs`).
    pub(super) failed: u64,
    pub(super) applied: Applied,
    /// A batch that is not decided yet.
    pub(super) staged: Option<StagedBatch>,
    /// Until when nothing is taken out, and what the stream has then.
    pub(super) until: Option<CatchupState>,
    /// The change of the store by which it is exact again, until that is on disk: who loses it only
    /// adds once more.
    pub(super) settling: Option<StoreId>,
    pub(super) store: StoreQueue,
    /// Whether the store's mark is what it should be.
    marked: bool,
}

impl Contents {
    pub(super) fn new(
        group: GroupId,
        sync: Subject,
        key: u64,
        config: &StreamConfig,
        ids: usize,
    ) -> Self {
        Self {
            group,
            sync,
            index: StreamIndex::new(key),
            dedupe: Dedupe::new(key, config.duplicate_window, ids),
            bounds: Bounds::of(config),
            lifetimes: Lifetimes::new(config.max_age, config.allow_msg_ttl),
            schedules: Schedules::new(config.allow_msg_schedules),
            last_message_id: Some(Vec::new()),
            last_time: 0,
            failed: 0,
            applied: Applied::default(),
            staged: None,
            until: None,
            settling: None,
            store: StoreQueue::new(group),
            marked: true,
        }
    }

    /// Takes on what the store's mark says of it.
    pub(super) fn restore(&mut self, mark: StoreMark) {
        self.failed = mark.failed;
        self.applied = Applied { index: mark.applied, term: mark.term, entries: mark.entries };
    }

    /// How far the store is with all that was handed to it.
    pub(super) fn mark(&self) -> StoreMark {
        let applied = self.staged.as_ref().map_or(self.applied, |staged| staged.start);
        StoreMark {
            applied: applied.index,
            term: applied.term,
            entries: applied.entries,
            only_added: self.only_adds(),
            first: self.index.first(),
            last: self.index.last(),
            failed: self.failed,
        }
    }

    /// Adds a message to the index, its id to those that are known, and its life to those that end;
    /// whether it fits: it has to be behind the last, and below 4 GiB.
    pub(super) fn add(
        &mut self,
        sequence: Sequence,
        message: &StreamMessageView<'_>,
        fields: &Fields<'_>,
    ) -> bool {
        let StreamMessageView { subject, header, payload, timestamp, .. } = *message;
        let size = message_size(self.bounds.storage, subject, header, payload);
        let Some(size) = size else { return false };
        if !self.index.append(sequence, subject, size, timestamp) {
            return false;
        }
        self.last_time = timestamp;
        self.lifetimes.added(sequence, timestamp, fields.ttl);
        self.schedules.added(sequence, message, fields);
        // Copied, as a slice would keep the whole record in memory.
        let last = self.last_message_id.get_or_insert_default();
        last.clear();
        if let Some(id) = fields.message_id {
            self.dedupe.store(id, sequence, timestamp);
            last.extend_from_slice(id);
        }
        true
    }

    /// Moves the last sequence up past messages that are no more.
    pub(super) fn skip_to(&mut self, last: Sequence) {
        if last > self.index.last() {
            self.index.skip_to(last);
            self.last_message_id = None;
        }
    }

    /// Takes out what has ended by the time of a message that is applied.
    pub(super) fn expire(&mut self, now: i64, removed: &mut Ranges) {
        if self.only_adds() || self.lifetimes.next().is_none_or(|next| now < next) {
            return;
        }
        while let Some(sequence) = self.lifetimes.take_ended(&self.index, now) {
            if self.index.remove(sequence) {
                removed.push(sequence);
            }
        }
    }

    /// Takes out what the stream has no room for, now that a message was added, and what the message
    /// itself takes the place of.
    pub(super) fn make_room(&mut self, added: Sequence, fields: &Fields<'_>, removed: &mut Ranges) {
        if self.only_adds() {
            return;
        }
        self.bounds.enforce(&mut self.index, added, removed);
        let is =
            |kind: &[u8]| fields.rollup.is_some_and(|rollup| rollup.eq_ignore_ascii_case(kind));
        if is(header::ROLLUP_SUBJECT) {
            self.index.remove_older(added, removed);
        } else if is(header::ROLLUP_ALL) {
            while self.index.first() < added && self.index.messages() > 0 {
                let first = self.index.first();
                self.index.remove(first);
                removed.push(first);
            }
        } else if let (Some(next), Some(scheduler)) = (fields.schedule_next, fields.scheduler)
            && next == header::SCHEDULE_DONE.as_bytes()
        {
            removed.append(self.index.remove_matching(scheduler, Sequence::ZERO, 0));
        }
        self.schedules.stay_small(&self.index);
        self.lifetimes.stay_small(&self.index);
    }

    /// Why a message that expects an id before it cannot be stored, if it cannot. A replica that
    /// never saw the last message takes the leader's word.
    pub(super) fn wrong_last_message_id(&self, fields: &Fields<'_>) -> Option<ApiError> {
        let (expected, last) = (fields.expected_last_message_id?, self.last_message_id.as_ref()?);
        if *expected == last[..] {
            return None;
        }
        let last = String::from_utf8_lossy(last);
        Some(ApiError::STREAM_WRONG_LAST_MSG_ID.with(&[("id", &last)]))
    }

    /// Hands a change to the store.
    pub(super) fn put(&mut self, out: &mut Outbox, change: StoreChange, bytes: u64) {
        let mark = self.mark();
        self.store.change(out, change, mark, bytes);
        self.marked = true;
    }

    /// The log went on without a change of the store.
    pub(super) fn moved(&mut self, applied: Applied) {
        self.marked = self.marked && self.applied == applied;
        self.applied = applied;
    }

    /// Makes the store's mark say how far the log is applied.
    pub(super) fn write_mark(&mut self, out: &mut Outbox) {
        if !self.marked {
            self.put(out, StoreChange::Mark, 0);
        }
    }
}
