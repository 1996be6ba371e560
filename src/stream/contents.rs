//! What a stream holds, as its log says: the part of a stream that is the same on every replica, and
//! the queue by which it reaches the disk.

use alloc::vec::Vec;

use super::dedupe::Dedupe;
use super::header;
use super::index::{StreamIndex, message_size};
use super::store::StoreQueue;
use crate::command::StoreChange;
use crate::event::StoreMark;
use crate::ids::{GroupId, Index, Sequence, Term};
use crate::outbox::Outbox;
use crate::subject::Subject;
use crate::wire::StreamMessageView;

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
    /// The id of the last message, or nothing.
    pub(super) last_message_id: Vec<u8>,
    /// When the last message was taken, in nanoseconds since the epoch.
    pub(super) last_time: i64,
    /// Proposed messages that failed when they were applied (upstream's `clfs`).
    pub(super) failed: u64,
    pub(super) applied: Applied,
    pub(super) store: StoreQueue,
    /// Whether the store's mark is what it should be.
    marked: bool,
}

impl Contents {
    pub(super) fn new(group: GroupId, sync: Subject, key: u64, window: i64, ids: usize) -> Self {
        Self {
            group,
            sync,
            index: StreamIndex::new(key),
            dedupe: Dedupe::new(key, window, ids),
            last_message_id: Vec::new(),
            last_time: 0,
            failed: 0,
            applied: Applied::default(),
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
        StoreMark {
            applied: self.applied.index,
            term: self.applied.term,
            entries: self.applied.entries,
            first: self.index.first(),
            last: self.index.last(),
            failed: self.failed,
        }
    }

    /// Adds a message to the index and its id to those that are known; whether it fits: it has to be
    /// behind the last, and below 4 GiB.
    pub(super) fn add(&mut self, sequence: Sequence, message: &StreamMessageView<'_>) -> bool {
        let StreamMessageView { subject, header, payload, timestamp, .. } = *message;
        let Some(size) = message_size(subject, header, payload) else { return false };
        if !self.index.append(sequence, subject, size, timestamp) {
            return false;
        }
        self.last_time = timestamp;
        let id = header::field(header, header::MESSAGE_ID);
        // Copied, as a slice would keep the whole record in memory.
        self.last_message_id.clear();
        if let Some(id) = id {
            self.dedupe.store(id, sequence, timestamp);
            self.last_message_id.extend_from_slice(id);
        }
        true
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
