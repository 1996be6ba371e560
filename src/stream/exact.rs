//! A replica that was caught up by one that is ahead, and does not know what is gone meanwhile.
//!
//! What a snapshot had may be gone by the time its messages are asked for. Without those, a bound of the
//! stream would take out others than it took out elsewhere. So a server of our own kind ends a catchup
//! by its own state instead of an empty message, so that neither comes without the other; and until the
//! replica has applied as much it only adds: then it takes out what that state has not, and is the same
//! again. The state is on disk, so that a restart goes on with it: what the replica has is not thrown
//! away, as it may be all that there is. nats-server sends no such state, and is believed as its own
//! followers believe it.
//!
//! The question is a field of the request that nats-server passes over, as is who is asked
//! ([`SyncRequest`](crate::wire::SyncRequest)); the answer is a message with an op that it does not have
//! ([`CatchupState`]), which nobody gets who did not ask.

use bytes::Bytes;

use super::Stream;
use super::contents::Contents;
use super::index::Ranges;
use super::state::remove_deleted;
use crate::command::StoreChange;
use crate::context::Context;
use crate::event::StoreMark;
use crate::ids::Index;
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::wire::CatchupState;

/// What a store is marked by, if it can be relied on: one that only added is known as long as the state
/// up to which it does so is.
pub(super) fn opened(
    mark: Option<StoreMark>,
    only_adds: Option<&Bytes>,
    limits: &Limits,
) -> Option<(StoreMark, Option<CatchupState>)> {
    let mark = mark?;
    if !mark.only_added {
        return Some((mark, None));
    }
    let until = CatchupState::decode(only_adds?, limits).ok()?;
    Some((mark, Some(until)))
}

impl Contents {
    /// Whether it only adds for now.
    pub(super) const fn only_adds(&self) -> bool {
        self.until.is_some()
    }

    /// Whether what it holds is exact, and is so on disk too.
    pub(super) const fn is_settled(&self) -> bool {
        !self.only_adds() && self.settling.is_none()
    }

    /// The last change has made it exact.
    pub(super) fn settle(&mut self, out: &mut Outbox) {
        self.settling = Some(self.store.sync(out));
        self.settled();
    }

    /// The store is on disk up to some change.
    pub(super) fn settled(&mut self) {
        let store = &self.store;
        self.settling.take_if(|change| store.is_synced(*change));
    }

    /// Takes out what is gone, if the record that was applied is the one that this waited for; whether
    /// it was.
    pub(super) fn catch_up_with_removals(&mut self, index: Index, removed: &mut Ranges) -> bool {
        let reached = self.until.take_if(|until| until.applied <= index);
        let Some(CatchupState { state, .. }) = reached else { return false };
        let first = self.index.first();
        if state.first > first {
            self.index.compact(state.first);
            removed.push_range(first, state.first.previous());
        }
        removed.append(remove_deleted(&mut self.index, &state));
        true
    }

    /// The change of the store that marks what it is now, and remembers until when it only adds.
    pub(super) fn marking(&self) -> StoreChange {
        match &self.until {
            Some(until) => StoreChange::OnlyAdds(until.to_bytes()),
            None => StoreChange::Mark,
        }
    }

    /// A catchup has ended that makes it what the snapshot of record `index` says, but for what is gone
    /// since; `messages` is what the snapshot counted, `until` what the server said.
    pub(super) fn caught_up(&mut self, index: Index, messages: u64, until: Option<CatchupState>) {
        if self.index.messages() == messages {
            self.until = None;
        } else {
            let earlier = self.until.take();
            self.until = until.or(earlier).filter(|until| until.applied > index);
        }
    }
}

impl Stream {
    /// Ends the catchups that have sent all. One whose follower wants the state waits while that is
    /// between two records; a batch that is not decided yet is no part of it, here as there.
    pub(super) fn end_served(&mut self, context: &mut Context<'_>) {
        let whole = self.contents.applied.entries == 0 && !self.contents.only_adds();
        while let Some(asks) = self.server.next_ending() {
            if asks && !whole {
                return;
            }
            let state = || {
                let (applied, state) = (self.contents.applied.index, self.contents.state());
                CatchupState { applied, state }.to_bytes()
            };
            self.server.finish(context, asks.then(state));
        }
    }
}
