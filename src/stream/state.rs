//! A stream's state as its snapshots say it, and as clients are told.

use alloc::vec::Vec;

use bytes::Bytes;
use highway::{HighwayHash, HighwayHasher, Key};

use super::Stream;
use super::contents::Contents;
use super::index::{Deleted, Ranges, StreamIndex};
use crate::context::Context;
use crate::ids::{ByteCount, Sequence};
use crate::limits::Limits;
use crate::wire::{
    DeleteBlock, DeleteBlocks, DeleteBlocksBuilder, Fault, GoTime, LegacyStreamState, SequenceSet,
    StreamInfoState, StreamState, WireError,
};

/// The key of a state's digest: any, as long as every replica has the same.
const DIGEST_KEY: [u64; 4] = [0x6a65_7477, 0x616b_6500, 0x7374_6174, 0x6500_0001];

/// Reads a snapshot's state in either form.
///
/// # Errors
/// [`WireError`] if it is neither, or no stream could have these ends.
pub fn decode_state(data: &Bytes, limits: &Limits) -> Result<StreamState, WireError> {
    let state = match StreamState::is_encoded(data) {
        true => StreamState::decode(data, limits)?,
        false => decode_legacy(data, limits)?,
    };
    if state.first > state.last.next() {
        let fault =
            Fault::Value { expected: "one behind the last at most", found: state.first.get() };
        return Err(WireError { format: "stream_state", field: "first", offset: 0, fault });
    }
    Ok(state)
}

fn decode_legacy(data: &Bytes, limits: &Limits) -> Result<StreamState, WireError> {
    let legacy = LegacyStreamState::decode(data, limits)?;
    let mut deleted = DeleteBlocksBuilder::new();
    let mut set = SequenceSet::new();
    for sequence in &legacy.deleted {
        set.insert(*sequence);
    }
    if !set.is_empty() {
        deleted.push_set(&set)?;
    }
    Ok(StreamState {
        messages: legacy.messages,
        bytes: legacy.bytes,
        first: legacy.first,
        last: legacy.last,
        failed: legacy.failed,
        deleted_count: set.len(),
        deleted: deleted.finish(),
    })
}

/// Takes out of an index what a snapshot deleted; returns what was taken out.
pub(super) fn remove_deleted(index: &mut StreamIndex, state: &StreamState) -> Ranges {
    let mut removed = Ranges::default();
    let run =
        |(first, count): (Sequence, u64)| Deleted::Run(first, first.plus(count.saturating_sub(1)));
    for block in &state.deleted {
        match block {
            DeleteBlock::Run { first, count } => {
                index.remove_deleted([run((first, count))], &mut removed);
            }
            DeleteBlock::Set(set) => {
                let bits = |(base, bits): (Sequence, &_)| Deleted::Bits { base, bits: *bits };
                index.remove_deleted(set.bits().map(bits), &mut removed);
            }
        }
    }
    // A peer may name its blocks in any order.
    removed.sort();
    removed
}

impl Contents {
    /// The state as of the last applied record.
    pub(super) fn state(&self) -> StreamState {
        StreamState {
            messages: self.index.messages(),
            bytes: ByteCount::new(self.index.bytes()),
            first: self.index.first(),
            last: self.index.last(),
            failed: self.failed,
            deleted_count: self.index.deleted(),
            deleted: delete_blocks(&self.index),
        }
    }
}

/// The deletes of an index: runs where whole chunks are gone, one set for each stretch of others.
fn delete_blocks(index: &StreamIndex) -> DeleteBlocks {
    let mut blocks = DeleteBlocksBuilder::new();
    let mut set = SequenceSet::new();
    let close = |blocks: &mut DeleteBlocksBuilder, set: &mut SequenceSet| {
        if !set.is_empty() {
            let set = core::mem::take(set);
            blocks.push_set(&set).expect("a set of less than 2^32 sequences can be said");
        }
    };
    for part in index.deleted_parts() {
        match part {
            Deleted::Run(first, last) => {
                close(&mut blocks, &mut set);
                let count = last.since(first).saturating_add(1);
                blocks.push_run(first, count).expect("the index ends before the largest sequence");
            }
            Deleted::Bits { base, bits } => {
                set.insert_bits(base, &bits);
                // Far below what one set can say.
                if set.len() >= 1 << 30 {
                    close(&mut blocks, &mut set);
                }
            }
        }
    }
    close(&mut blocks, &mut set);
    blocks.finish()
}

impl Stream {
    /// The state as of the last applied record, as snapshots carry it.
    pub fn state(&self) -> StreamState {
        self.contents.state()
    }

    /// A hash of the state: the same on replicas that have applied the same.
    pub fn digest(&self) -> u64 {
        HighwayHasher::new(Key(DIGEST_KEY)).hash64(&self.contents.state().to_bytes())
    }

    /// Whether every other member reads the binary form of the state: one that said nothing does.
    /// Upstream: `supportsBinarySnapshot`.
    pub fn supports_binary_snapshot(&self) -> bool {
        self.others.iter().all(|peer| !self.legacy.contains(peer))
    }

    /// The state as a snapshot that every member reads; none if it can only be said by naming more
    /// deleted sequences one by one than the limits allow. Upstream: `stateSnapshot`.
    pub fn state_snapshot(&self, context: &Context<'_>) -> Option<Bytes> {
        if self.supports_binary_snapshot() {
            return Some(self.contents.state().to_bytes());
        }
        let index = &self.contents.index;
        if index.deleted() > context.limits.deleted {
            return None;
        }
        let mut deleted = Vec::new();
        for part in index.deleted_parts() {
            match part {
                Deleted::Run(first, last) => {
                    deleted.extend((first.get()..=last.get()).map(Sequence::new));
                }
                Deleted::Bits { base, bits } => {
                    let set = |at: &u64| {
                        bits.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 == 1)
                    };
                    deleted.extend((0..64 * bits.len() as u64).filter(set).map(|at| base.plus(at)));
                }
            }
        }
        let state = LegacyStreamState {
            messages: index.messages(),
            bytes: ByteCount::new(index.bytes()),
            first: index.first(),
            last: index.last(),
            failed: self.contents.failed,
            deleted,
        };
        Some(state.to_bytes())
    }

    /// The state as clients are told.
    pub fn info(&self) -> StreamInfoState {
        let index = &self.contents.index;
        let time = |nanos| if nanos == 0 { GoTime::ZERO } else { GoTime::from_unix_nanos(nanos) };
        StreamInfoState {
            messages: index.messages(),
            bytes: index.bytes(),
            first_seq: index.first().get(),
            first_ts: time(index.get(index.first()).map_or(0, |first| first.timestamp)),
            last_seq: index.last().get(),
            last_ts: time(self.contents.last_time),
            num_subjects: index.subjects() as u64,
            num_deleted: index.deleted(),
            ..StreamInfoState::default()
        }
    }
}
