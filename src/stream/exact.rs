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
//! The question is a field of the request that nats-server passes over, as is who is asked; the
//! answer is a message with an op that it does not have, which nobody gets who did not ask.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Stream;
use super::contents::Contents;
use super::index::Ranges;
use super::state::{decode_state, remove_deleted};
use crate::command::StoreChange;
use crate::context::Context;
use crate::event::StoreMark;
use crate::ids::{Index, PeerId};
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::wire::{StreamState, WireError, peer_text};

/// The first byte of a state that ends a catchup.
pub(super) const OP: u8 = 0xff;
/// The fields of a request that nats-server passes over.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// Whether the state is wanted at the end.
    #[serde(rename = "jetwake_state")]
    pub(super) state: bool,
    /// Who is asked. All members hear a request where a NATS server carries it, and one may answer.
    #[serde(rename = "jetwake_of", with = "peer_text")]
    pub(super) of: Option<PeerId>,
}

/// What a replica that only adds will be once it has applied as much.
#[derive(Clone, Debug)]
pub(super) struct Until {
    pub(super) index: Index,
    pub(super) state: StreamState,
}

/// A request to one member, which asks for the state at its end too.
pub(super) fn ask(request: &Bytes, of: PeerId) -> Bytes {
    let asked = serde_json::to_vec(&Asked { state: true, of: Some(of) }).unwrap_or_default();
    let (Some(open), Some(fields)) = (request.strip_suffix(b"}"), asked.strip_prefix(b"{")) else {
        return request.clone();
    };
    let mut out = BytesMut::with_capacity(open.len() + 1 + fields.len());
    out.put_slice(open);
    out.put_u8(b',');
    out.put_slice(fields);
    out.freeze()
}

/// What a request says in our own fields.
pub(super) fn asked(request: &[u8]) -> Asked {
    serde_json::from_slice(request).unwrap_or_default()
}

/// What a store is marked by, if it can be relied on: one that only added is known as long as the state
/// up to which it does so is.
pub(super) fn opened(
    mark: Option<StoreMark>,
    only_adds: Option<&Bytes>,
    limits: &Limits,
) -> Option<(StoreMark, Option<Until>)> {
    let mark = mark?;
    if !mark.only_added {
        return Some((mark, None));
    }
    let until = decode(only_adds?, limits).ok()??;
    Some((mark, Some(until)))
}

/// The message that tells the state after a record; a store remembers it by the same bytes.
pub(super) fn encode(index: Index, state: &StreamState) -> Bytes {
    let state = state.to_bytes();
    let mut out = BytesMut::with_capacity(9 + state.len());
    out.put_u8(OP);
    out.put_u64_le(index.get());
    out.put_slice(&state);
    out.freeze()
}

/// Reads such a message.
pub(super) fn decode(message: &Bytes, limits: &Limits) -> Result<Option<Until>, WireError> {
    let Some(([_, index @ ..], _)) = message.split_first_chunk::<9>() else { return Ok(None) };
    let state = decode_state(&message.slice(9..), limits)?;
    Ok(Some(Until { index: Index::new(u64::from_le_bytes(*index)), state }))
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
        let Some(Until { state, .. }) = self.until.take_if(|until| until.index <= index) else {
            return false;
        };
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
            Some(until) => StoreChange::OnlyAdds(encode(until.index, &until.state)),
            None => StoreChange::Mark,
        }
    }

    /// A catchup has ended that makes it what the snapshot of record `index` says, but for what is gone
    /// since; `messages` is what the snapshot counted, `until` what the server said.
    pub(super) fn caught_up(&mut self, index: Index, messages: u64, until: Option<Until>) {
        if self.index.messages() == messages {
            self.until = None;
        } else {
            let earlier = self.until.take();
            self.until = until.or(earlier).filter(|until| until.index > index);
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
            let state = asks.then(|| encode(self.contents.applied.index, &self.contents.state()));
            self.server.finish(context, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Sequence;
    use crate::wire::SyncRequest;

    #[test]
    fn the_question_is_passed_over_by_who_does_not_know_it() {
        let request = SyncRequest {
            peer: None,
            first: Sequence::new(3),
            last: Sequence::new(9),
            delete_ranges: true,
            min_applied: Index::new(4),
        };
        let plain = request.to_bytes();
        let of = PeerId::from_name("n2");
        let asking = ask(&plain, of);
        assert!(asked(&asking).state && asked(&asking).of == Some(of));
        for not in [&plain[..], b"x"] {
            assert!(!asked(not).state && asked(not).of.is_none());
        }
        assert_eq!(SyncRequest::decode(&asking, &Limits::default()), Ok(request));
    }

    #[test]
    fn a_state_goes_both_ways() {
        let state = StreamState {
            first: Sequence::new(3),
            last: Sequence::new(5),
            messages: 3,
            ..StreamState::default()
        };
        let until = decode(&encode(Index::new(7), &state), &Limits::default()).expect("good");
        let until = until.expect("whole");
        assert_eq!((until.index, until.state), (Index::new(7), state));
        assert!(
            decode(&Bytes::from_static(b"\xff123"), &Limits::default()).expect("cut").is_none()
        );
        assert!(decode(&Bytes::from_static(b"\xff12345678x"), &Limits::default()).is_err());
    }
}
