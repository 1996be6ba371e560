//! Messages of a batch whose last one was not applied yet: all of them are stored with it, or none.
//!
//! Upstream: `batchApply` in `server/jetstream_batching.go` and `applyStreamEntries` in
//! `server/jetstream_cluster.go`. A batch may span records. Until it is decided, the store's mark stays
//! before its first message, so that a start reads all of it again.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::contents::{Applied, Contents};
use crate::canary::Canary;
use crate::limits::Limits;
use crate::wire::{BatchMessage, StreamMessage};

/// A batch that is not decided yet.
#[derive(Debug)]
pub(super) struct StagedBatch {
    id: Bytes,
    /// What is applied before its first message.
    pub(super) start: Applied,
    messages: Vec<StagedMessage>,
}

/// One of its messages.
#[derive(Debug)]
pub(super) struct StagedMessage {
    /// The record that it came with.
    record: Bytes,
    /// The part of the record that is stored.
    pub(super) data: Bytes,
    pub(super) message: StreamMessage,
}

impl StagedBatch {
    /// How many messages it has so far.
    pub(super) const fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Its messages, and the bytes that they are slices of: the record, if all came with it.
    pub(super) fn into_block(self, record: &Bytes) -> (Vec<StagedMessage>, Bytes) {
        let Self { mut messages, .. } = self;
        let same = |message: &StagedMessage| {
            message.record.as_ptr() == record.as_ptr() && message.record.len() == record.len()
        };
        if messages.iter().all(same) {
            return (messages, record.clone());
        }
        let length = messages.iter().map(|message| message.data.len()).sum();
        let mut block = BytesMut::with_capacity(length);
        for message in &messages {
            block.extend_from_slice(&message.data);
        }
        let block = block.freeze();
        let mut rest = block.clone();
        for message in &mut messages {
            message.data = rest.split_to(message.data.len());
        }
        (messages, block)
    }
}

impl Contents {
    /// Adds a message to the batch that it belongs to, which it may begin; whether it follows on the
    /// others. If it does not, the batch is lost, and each of its messages counts as failed.
    pub(super) fn stage(
        &mut self,
        limits: &Limits,
        part: &BatchMessage,
        (data, record): (Bytes, &Bytes),
    ) -> bool {
        let (batch_id, message) = (part.batch_id().clone(), part.message().clone());
        let batch_sequence = part.view().batch_sequence;
        let other = self.staged.as_ref().is_some_and(|staged| staged.id != batch_id);
        let goes_on = !other && limits.planted(Canary::LeftBatchGoesOn);
        if goes_on && self.staged.is_some() {
            // Whatever was left of an earlier one.
        } else if other || batch_sequence == 1 {
            self.abandon_batch();
        }
        let start = self.applied;
        let staged = self.staged.get_or_insert_with(|| StagedBatch {
            id: batch_id,
            start,
            messages: Vec::new(),
        });
        staged.messages.push(StagedMessage { record: record.clone(), data, message });
        if batch_sequence != staged.count() && !goes_on {
            self.abandon_batch();
            return false;
        }
        true
    }

    /// The batch that is not decided yet will never be: each of its messages counts as failed.
    pub(super) fn abandon_batch(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.failed += staged.count();
        }
    }
}
