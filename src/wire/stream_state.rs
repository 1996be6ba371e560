//! The state of a stream in a snapshot: counts, ends, and which messages in between are no more.
//!
//! Upstream: `EncodedStreamState` and `DecodeStreamState` in `server/store.go`: 42, 1, then as
//! variable-length numbers messages, bytes, first, last, failed, deleted; if that is not zero,
//! blocks of deletes until the end. The JSON that servers before 2.10 send is another format.

use bytes::{BufMut, Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;
use super::sequence_set::{self, SequenceSet};
use super::varint;
use crate::ids::{ByteCount, Sequence};
use crate::limits::Limits;

const FORMAT: &str = "stream_state";
const MAGIC: u8 = 42;
const VERSION: u8 = 1;
/// The first byte of a run of deletes.
const RUN: u8 = 33;

/// What a stream holds, as its group's snapshots say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Messages in the stream.
    pub messages: u64,
    /// Their bytes, as the store of the snapshot's maker counts them.
    pub bytes: ByteCount,
    /// The first sequence; one after the last if the stream is empty.
    pub first: Sequence,
    /// The last sequence ever given.
    pub last: Sequence,
    /// Messages that were in the log and got no sequence.
    pub failed: u64,
    /// How many sequences between first and last are no more, by upstream's count: it says one
    /// for an empty stream in memory, and zero where the blocks are left out.
    pub deleted_count: u64,
    /// Which they are.
    pub deleted: DeleteBlocks,
}

impl StreamState {
    /// Whether these bytes are such a state, rather than the old JSON.
    pub fn is_encoded(bytes: &[u8]) -> bool {
        bytes.starts_with(&[MAGIC, VERSION])
    }

    /// Reads a state. Checks all of it, and takes no memory if its sets are as servers since
    /// 2.10 write them; else as much as its largest set, for the time of the call.
    ///
    /// # Errors
    /// [`WireError`] if magic or version are others, the bytes end early, a block is unknown,
    /// empty, past the largest sequence or not what it claims, the sets name more than
    /// `limits.deleted` sequences, or bytes are left (behind a count of zero, too).
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        Self::read(&mut Reader::new(FORMAT, bytes), bytes, limits)
    }

    /// Reads a state up to the end of `bytes`, which the reader reads.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        bytes: &Bytes,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        reader.constant("magic", MAGIC, "42")?;
        reader.constant("version", VERSION, "1")?;
        let mut state = Self {
            messages: reader.uvarint("messages")?,
            bytes: ByteCount::new(reader.uvarint("bytes")?),
            first: Sequence::new(reader.uvarint("first")?),
            last: Sequence::new(reader.uvarint("last")?),
            failed: reader.uvarint("failed")?,
            deleted_count: reader.uvarint("deleted")?,
            deleted: DeleteBlocks::default(),
        };
        if state.deleted_count > 0 {
            state.deleted = DeleteBlocks::read(reader, bytes, limits)?;
        }
        reader.end()?;
        Ok(state)
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        let numbers = self.numbers().map(varint::len).iter().sum::<usize>();
        2 + numbers + self.blocks().len()
    }

    /// Appends the state. The blocks are copied at once, and left out if the count is zero.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len());
        buffer.put_u8(MAGIC);
        buffer.put_u8(VERSION);
        for number in self.numbers() {
            varint::put(buffer, number);
        }
        buffer.put_slice(self.blocks());
    }

    /// The state in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }

    fn numbers(&self) -> [u64; 6] {
        [
            self.messages,
            self.bytes.get(),
            self.first.get(),
            self.last.get(),
            self.failed,
            self.deleted_count,
        ]
    }

    /// The blocks as far as they are written.
    fn blocks(&self) -> &[u8] {
        if self.deleted_count > 0 { &self.deleted.region } else { &[] }
    }
}

/// Sequences that are no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteBlock {
    /// Neighbours.
    Run {
        /// The first of them.
        first: Sequence,
        /// How many there are, at least one.
        count: u64,
    },
    /// Any.
    Set(SequenceSet),
}

impl DeleteBlock {
    /// How many sequences there are.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Run { count, .. } => *count,
            Self::Set(set) => set.len(),
        }
    }

    /// Whether there are none: upstream sends an empty set for an empty stream in memory.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Blocks of deletes, checked once and unpacked one by one as they are asked for.
///
/// A copy costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteBlocks {
    /// Every block in here has been checked.
    region: Bytes,
    sequences: u64,
}

impl DeleteBlocks {
    /// Checks blocks up to the end.
    fn read(reader: &mut Reader<'_>, bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let start = reader.offset();
        let mut sequences = 0_u64;
        let mut in_sets = 0_u64;
        while let Some(magic) = reader.peek() {
            let count = match magic {
                RUN => {
                    reader.skip("run", 1)?;
                    read_run(reader)?.1
                }
                sequence_set::MAGIC => {
                    let (length, size) = sequence_set::verify_prefix(reader.as_slice(), limits)
                        .map_err(|error| reader.inside(error))?;
                    in_sets = in_sets.saturating_add(u64::from(size));
                    if in_sets > limits.deleted {
                        let fault = Fault::TooLarge { limit: limits.deleted, found: in_sets };
                        return Err(reader.error("set", fault));
                    }
                    reader.skip("set", length as u64)?;
                    u64::from(size)
                }
                other => {
                    let fault = Fault::Value { expected: "22 or 33", found: u64::from(other) };
                    return Err(reader.error("block", fault));
                }
            };
            sequences = sequences.saturating_add(count);
        }
        Ok(Self { region: bytes.slice(start..reader.offset()), sequences })
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty()
    }

    /// How many sequences all blocks name, counting those that two of them name twice.
    pub const fn sequences(&self) -> u64 {
        self.sequences
    }

    /// The blocks as the wire carries them.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.region
    }

    /// The blocks in order. A set is unpacked when it is reached, into 280 bytes of memory for
    /// each 266 of the wire.
    pub fn iter(&self) -> DeleteBlocksIter {
        DeleteBlocksIter { region: self.region.clone() }
    }
}

impl IntoIterator for &DeleteBlocks {
    type Item = DeleteBlock;
    type IntoIter = DeleteBlocksIter;
    fn into_iter(self) -> DeleteBlocksIter {
        self.iter()
    }
}

/// Reads first and count of a run, which must be possible.
fn read_run(reader: &mut Reader<'_>) -> Result<(Sequence, u64), WireError> {
    let first = reader.uvarint("run's first")?;
    let count = reader.uvarint("run's count")?;
    let more = count.checked_sub(1).ok_or_else(|| {
        reader.error("run's count", Fault::Value { expected: "at least 1", found: 0 })
    })?;
    if first.checked_add(more).is_none() {
        return Err(reader.error("run's count", Fault::Text("sequences of at most 64 bits")));
    }
    Ok((Sequence::new(first), count))
}

/// Unpacks blocks of deletes, in order.
#[derive(Clone, Debug)]
pub struct DeleteBlocksIter {
    region: Bytes,
}

impl Iterator for DeleteBlocksIter {
    type Item = DeleteBlock;

    fn next(&mut self) -> Option<DeleteBlock> {
        // All of this was checked when the blocks were read or built.
        let mut reader = Reader::new(FORMAT, &self.region);
        let block = match reader.peek()? {
            RUN => {
                reader.skip("run", 1).ok()?;
                let (first, count) = read_run(&mut reader).ok()?;
                DeleteBlock::Run { first, count }
            }
            _ => {
                let unlimited = Limits { deleted: u64::MAX, ..Limits::default() };
                let (set, length) =
                    sequence_set::decode_prefix(reader.as_slice(), &unlimited).ok()?;
                reader.skip("set", length as u64).ok()?;
                DeleteBlock::Set(set)
            }
        };
        self.region = reader.rest();
        Some(block)
    }
}

/// Collects blocks of deletes for a state.
#[derive(Debug, Default)]
pub struct DeleteBlocksBuilder {
    region: BytesMut,
    sequences: u64,
}

impl DeleteBlocksBuilder {
    /// No blocks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a run.
    ///
    /// # Errors
    /// [`WireError`] if the run is empty or goes past the largest sequence; nothing is appended
    /// then.
    pub fn push_run(&mut self, first: Sequence, count: u64) -> Result<(), WireError> {
        let fits = count.checked_sub(1).and_then(|more| first.get().checked_add(more));
        if fits.is_none() {
            let fault = Fault::Value { expected: "a count that fits", found: count };
            return Err(WireError { format: FORMAT, field: "run's count", offset: 0, fault });
        }
        self.region.reserve(1 + varint::len(first.get()) + varint::len(count));
        self.region.put_u8(RUN);
        varint::put(&mut self.region, first.get());
        varint::put(&mut self.region, count);
        self.sequences = self.sequences.saturating_add(count);
        Ok(())
    }

    /// Appends a set.
    ///
    /// # Errors
    /// As [`SequenceSet::encode`].
    pub fn push_set(&mut self, set: &SequenceSet) -> Result<(), WireError> {
        set.encode(&mut self.region)?;
        self.sequences = self.sequences.saturating_add(set.len());
        Ok(())
    }

    /// The blocks, without another copy.
    pub fn finish(self) -> DeleteBlocks {
        DeleteBlocks { region: self.region.freeze(), sequences: self.sequences }
    }
}
