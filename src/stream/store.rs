//! What was handed to one stream's store: how much of it was taken, and how much is on disk.

use alloc::collections::VecDeque;

use crate::command::StoreChange;
use crate::event::StoreMark;
use crate::ids::{GroupId, StoreId};
use crate::outbox::Outbox;

/// The changes of one store that are under way.
#[derive(Debug)]
pub(super) struct StoreQueue {
    group: GroupId,
    /// Changes that the store has not taken yet, with their bytes.
    waiting: VecDeque<(StoreId, u64)>,
    bytes: u64,
    last: StoreId,
    /// What is on disk; none before the first sync, when an earlier run may have left something
    /// that is not.
    synced: Option<StoreId>,
    syncing: Option<StoreId>,
}

impl StoreQueue {
    pub(super) const fn new(group: GroupId) -> Self {
        Self {
            group,
            waiting: VecDeque::new(),
            bytes: 0,
            last: StoreId::ZERO,
            synced: None,
            syncing: None,
        }
    }

    /// Hands a change over.
    pub(super) fn change(
        &mut self,
        out: &mut Outbox,
        change: StoreChange,
        mark: StoreMark,
        bytes: u64,
    ) {
        self.last = out.store(self.group, change, mark);
        self.waiting.push_back((self.last, bytes));
        self.bytes += bytes;
    }

    /// The store took every change up to this one.
    pub(super) fn stored(&mut self, through: StoreId) {
        while let Some((_, bytes)) = self.waiting.pop_front_if(|(id, _)| *id <= through) {
            self.bytes -= bytes;
        }
    }

    /// Bytes that the store has not taken yet.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last change.
    pub(super) const fn last(&self) -> StoreId {
        self.last
    }

    /// Asks that all so far survive a power cut, unless that is asked or so already; the change that
    /// [`is_synced`](Self::is_synced) will be true for.
    pub(super) fn sync(&mut self, out: &mut Outbox) -> StoreId {
        if !self.is_synced(self.last) && self.syncing.is_none_or(|asked| asked < self.last) {
            out.sync_store(self.group, self.last);
            self.syncing = Some(self.last);
        }
        self.last
    }

    /// Whether a sync is under way.
    pub(super) const fn syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Every change up to this one is on disk.
    pub(super) fn synced(&mut self, through: StoreId) {
        self.stored(through);
        self.synced = self.synced.max(Some(through));
        if self.syncing.is_some_and(|asked| asked <= through) {
            self.syncing = None;
        }
    }

    /// Whether a change is on disk.
    pub(super) fn is_synced(&self, change: StoreId) -> bool {
        self.synced >= Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    #[test]
    fn what_an_earlier_run_left_is_synced_once() {
        let (mut out, mut queue) = (Outbox::new(), StoreQueue::new(GroupId(3)));
        let before = queue.sync(&mut out);
        assert!(!queue.is_synced(before));
        assert!(matches!(out.pop(), Some(Command::SyncStore { group: GroupId(3), .. })));
        queue.sync(&mut out);
        assert!(out.is_empty());
        queue.synced(before);
        assert!(queue.is_synced(before) && !queue.syncing());
        queue.sync(&mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn bytes_count_until_they_are_taken() {
        let (mut out, mut queue) = (Outbox::new(), StoreQueue::new(GroupId(0)));
        for bytes in [10, 20] {
            queue.change(&mut out, StoreChange::Mark, StoreMark::default(), bytes);
        }
        queue.stored(StoreId::new(1));
        assert_eq!(queue.bytes(), 20);
        let through = queue.sync(&mut out);
        queue.change(&mut out, StoreChange::Mark, StoreMark::default(), 5);
        queue.synced(through);
        assert_eq!(queue.bytes(), 5);
        assert!(queue.is_synced(through) && !queue.is_synced(queue.last()));
    }
}
