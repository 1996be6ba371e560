//! What a stream keeps at most, and what gives way: the part of its configuration that decides what an
//! applied message takes out.
//!
//! Upstream: `enforceMsgLimit`, `enforceBytesLimit` and `enforceMsgPerSubjectLimit` in
//! `server/filestore.go`. All of it follows from the messages, so every replica takes out the same.

use super::index::{Ranges, StreamIndex};
use crate::ids::Sequence;
use crate::wire::{DiscardPolicy, StorageType, StreamConfig};

/// The bounds of one stream; each is none where the stream has no such bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Messages.
    pub(super) messages: Option<u64>,
    /// Bytes of all messages.
    pub(super) bytes: Option<u64>,
    /// Messages of one subject.
    pub(super) per_subject: Option<u64>,
    /// What gives way.
    pub(super) discard: DiscardPolicy,
    /// How bytes are counted.
    pub(super) storage: StorageType,
}

impl Bounds {
    pub(super) fn of(config: &StreamConfig) -> Self {
        let bound = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        Self {
            messages: bound(config.max_msgs),
            bytes: bound(config.max_bytes),
            per_subject: bound(config.max_msgs_per_subject),
            discard: config.discard,
            storage: config.storage,
        }
    }

    /// Takes out what there is no room for, now that the message of this sequence was added.
    pub(super) fn enforce(&self, index: &mut StreamIndex, added: Sequence, removed: &mut Ranges) {
        let mut take = |index: &mut StreamIndex, sequence: Sequence| {
            let there = index.remove(sequence);
            if there {
                removed.push(sequence);
            }
            there
        };
        if let Some(most) = self.per_subject {
            while let Some(oldest) = index.oldest_beyond(added, most) {
                if !take(index, oldest) {
                    break;
                }
            }
        }
        // Where new messages are discarded, the leader has refused them.
        if self.discard != DiscardPolicy::Old {
            return;
        }
        let full = |index: &StreamIndex| {
            self.messages.is_some_and(|most| index.messages() > most)
                || self.bytes.is_some_and(|most| index.bytes() > most)
        };
        while index.messages() > 0 && full(index) {
            let first = index.first();
            if !take(index, first) {
                break;
            }
        }
    }
}
