//! The machine of a plain group: committed entries are handed to the driver as they are.

use alloc::collections::VecDeque;
use alloc::format;

use bytes::Bytes;

use crate::command::{Answer, Command};
use crate::ids::{GroupId, RequestId};
use crate::outbox::Outbox;
use crate::raft::{Committed, Installed};
use crate::wire::{ApiError, EntryKind};

/// What the core keeps of a plain group's machine.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// Proposals of this leadership whose entries are not committed yet, in order.
    /// What another member forwarded has nobody who waits for it here.
    waiting: VecDeque<Option<RequestId>>,
}

impl Plain {
    /// A proposal was taken; it is answered when it is committed.
    pub(super) fn proposed(&mut self, id: RequestId) {
        self.waiting.push_back(Some(id));
    }

    /// A proposal that another member forwarded was taken.
    pub(super) fn forwarded(&mut self) {
        self.waiting.push_back(None);
    }

    /// Hands a committed record out, and answers those who proposed its entries. Whether there was
    /// anything to hand out.
    pub(super) fn apply(
        &mut self,
        group: GroupId,
        committed: &Committed,
        own: bool,
        out: &mut Outbox,
    ) -> bool {
        let entries = committed.entry.entries.data_of(EntryKind::Normal);
        if own {
            let answer = Bytes::from(format!("{{\"index\":{}}}", committed.index).into_bytes());
            for _ in &entries {
                if let Some(Some(id)) = self.waiting.pop_front() {
                    out.answer(id, Answer::Json(answer.clone()));
                }
            }
        }
        let any = !entries.is_empty();
        if any {
            out.push(Command::Apply { group, index: committed.index, entries });
        }
        any
    }

    /// Hands a leader's snapshot out, or a part of it.
    pub(super) fn install(&mut self, group: GroupId, installed: Installed, out: &mut Outbox) {
        let Installed { position, offset, data, last } = installed;
        let index = position.index;
        out.push(match (offset, last) {
            (0, true) => Command::ApplySnapshot { group, index, data },
            _ => Command::ApplySnapshotPart { group, index, offset, part: data, last },
        });
    }

    /// Leadership is gone: what was proposed may or may not be committed by another.
    pub(super) fn leadership_lost(&mut self, out: &mut Outbox) {
        for id in self.waiting.drain(..).flatten() {
            out.answer(id, super::error_answer(ApiError::CLUSTER_NOT_AVAIL));
        }
    }
}
