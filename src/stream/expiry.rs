//! Removes what has ended while no messages come: the leader proposes it, so that every replica
//! removes the same at the same place of the log.
//!
//! Upstream does so where a stream leaves marks of deleted subjects, by one delete a message. A run from
//! the front is one purge here; both are operations that upstream's servers know.

use super::Stream;
use super::leadership::{Pending, PendingKind};
use super::publish::Proposal;
use crate::context::Context;
use crate::ids::Sequence;
use crate::time::{Duration, Time};
use crate::wire::{MessageDelete, PurgeRequest, StreamPurge};

/// Messages that are looked at in one step.
const MOST: usize = 4096;
/// Rest between two steps, in which messages that come make them needless.
const REST: Duration = Duration::from_millis(250);

impl Stream {
    /// When the leader has something to remove.
    pub(super) fn expiry_deadline(&self) -> Option<Time> {
        let leadership = self.leadership.as_ref().filter(|own| own.expiring == 0)?;
        let next = self.contents.lifetimes.next()?;
        let next = Time::from_nanos(u64::try_from(next).unwrap_or(0));
        Some(next.max(leadership.expire_after))
    }

    /// A moment of [`expiry_deadline`](Self::expiry_deadline) has come.
    pub(super) fn remove_ended(&mut self, context: &Context<'_>) {
        let due = self.expiry_deadline().is_some_and(|at| at <= context.now);
        let Some(leadership) = self.leadership.as_mut().filter(|_| due) else { return };
        leadership.expire_after = context.now + REST;
        if leadership.messages() > 0 {
            // What is in flight takes with it what has ended by then.
            return;
        }
        let now = context.now.as_timestamp();
        let ended = self.contents.lifetimes.ended(&self.contents.index, now, MOST);
        if let Some(below) = ended.below {
            self.propose_purge_below(below);
        }
        for sequence in ended.single {
            let stream = self.config.name.clone();
            let delete =
                MessageDelete { stream, sequence, no_erase: true, ..MessageDelete::default() };
            let pending = Pending { request: None, kind: PendingKind::Delete };
            self.proposals.push_back(Proposal::json(delete.to_bytes(), pending));
        }
    }

    fn propose_purge_below(&mut self, before: Sequence) {
        let purge = StreamPurge {
            stream: self.config.name.clone(),
            last: self.contents.index.last(),
            request: Some(PurgeRequest { before, ..PurgeRequest::default() }),
            ..StreamPurge::default()
        };
        let pending = Pending { request: None, kind: PendingKind::Purge };
        self.proposals.push_back(Proposal::json(purge.to_bytes(), pending));
    }
}
