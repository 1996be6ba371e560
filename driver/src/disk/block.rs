//! A block of messages: bytes as they came, and a table of what lies where in them.
//!
//! The table has a checksum of its own and carries that of the bytes.

use bytes::{BufMut, Bytes, BytesMut};
use jetwake::command::Place;
use jetwake::ids::Sequence;

use super::engine::{seal, unseal};

/// Bytes of one block; larger ones are cut where a message begins.
const BLOCK: usize = 256 << 10;
/// Checksum and length of the bytes, count of places.
const HEAD: usize = 12;
/// Sequence less the block's first, offset, length.
const ENTRY: usize = 12;

/// Bytes with at least one message in them, and where each lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    pub(super) places: Vec<Place>,
}

/// What was wrong with messages that were handed in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPlace(pub(super) String);

/// Cuts messages into blocks, after a check of their places.
pub(super) fn cut(
    bytes: &Bytes,
    places: &[Place],
    after: Sequence,
) -> Result<Vec<Block>, BadPlace> {
    let mut blocks = Vec::new();
    let mut before = after;
    // The places `from..` and the bytes `start..end` belong to the block begun.
    let (mut from, mut start, mut end) = (0, usize::MAX, 0);
    for (at, place) in places.iter().enumerate() {
        let (begin, length) = (place.offset as usize, place.length as usize);
        if begin.checked_add(length).is_none_or(|end| end > bytes.len()) {
            let what = format!(
                "message {}: bytes {begin} and {length} more of {}",
                place.sequence,
                bytes.len()
            );
            return Err(BadPlace(what));
        }
        if place.sequence <= before {
            let what = format!("message {} comes after {before}", place.sequence);
            return Err(BadPlace(what));
        }
        before = place.sequence;
        let (wider_start, wider_end) = (start.min(begin), end.max(begin + length));
        let far = places[from].sequence.plus(u64::from(u32::MAX)) < place.sequence;
        if at > from && (wider_end - wider_start > BLOCK || far) {
            blocks.push(Block::of(bytes.slice(start..end), start, &places[from..at]));
            (from, start, end) = (at, begin, begin + length);
        } else {
            (start, end) = (wider_start, wider_end);
        }
    }
    if from < places.len() {
        blocks.push(Block::of(bytes.slice(start..end), start, &places[from..]));
    }
    Ok(blocks)
}

impl Block {
    /// A block whose places count from `start`.
    fn of(bytes: Bytes, start: usize, places: &[Place]) -> Self {
        let used: usize = places.iter().map(|place| place.length as usize).sum();
        let shifted = |place: &Place| Place { offset: place.offset - start as u32, ..*place };
        let block = Self { bytes, places: places.iter().map(shifted).collect() };
        // Bytes that belong to no message are not worth keeping if they are many.
        if used * 2 < block.bytes.len() { block.only(|_| true) } else { block }
    }

    /// A copy with those messages alone.
    pub(super) fn only(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut bytes = BytesMut::new();
        let mut places = Vec::new();
        for (at, place) in self.places.iter().enumerate().filter(|(at, _)| keep(*at)) {
            let _ = at;
            let offset = bytes.len() as u32;
            bytes.put_slice(&self.message(place));
            places.push(Place { offset, ..*place });
        }
        Self { bytes: bytes.freeze(), places }
    }

    /// A message's bytes, which share the block's.
    pub(super) fn message(&self, place: &Place) -> Bytes {
        let start = place.offset as usize;
        self.bytes.slice(start..start + place.length as usize)
    }

    /// The first message's sequence. A block has at least one message.
    pub(super) fn first(&self) -> Sequence {
        self.places.first().map_or(Sequence::ZERO, |place| place.sequence)
    }

    /// The table, sealed for this key.
    pub(super) fn table(&self, key: &[u8]) -> Bytes {
        let first = self.first();
        let mut table = BytesMut::with_capacity(HEAD + self.places.len() * ENTRY);
        table.put_u32_le(crc32c::crc32c(&self.bytes));
        table.put_u32_le(self.bytes.len() as u32);
        table.put_u32_le(self.places.len() as u32);
        for place in &self.places {
            table.put_u32_le(place.sequence.since(first) as u32);
            table.put_u32_le(place.offset);
            table.put_u32_le(place.length);
        }
        seal(key, &[], &table)
    }
}

/// A table read back.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) places: Vec<Place>,
    sum: u32,
    length: u32,
}

impl Table {
    /// Checks and reads a table; none if it is not whole.
    pub(super) fn decode(key: &[u8], first: Sequence, value: &Bytes) -> Option<Self> {
        let body = unseal(key, value)?;
        let (head, entries) = body.split_first_chunk::<HEAD>()?;
        let [sum, length, count] = three(head);
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        if entries.len() != count as usize || entries.is_empty() || !rest.is_empty() {
            return None;
        }
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let [delta, offset, length_of] = three(entry);
            if offset.checked_add(length_of)? > length {
                return None;
            }
            let sequence = first.plus(u64::from(delta));
            places.push(Place { sequence, offset, length: length_of });
        }
        Some(Self { places, sum, length })
    }

    /// Puts table and bytes together; none if the bytes are not those of the table.
    pub(super) fn join(self, bytes: Bytes) -> Option<Block> {
        let whole = bytes.len() == self.length as usize && crc32c::crc32c(&bytes) == self.sum;
        whole.then_some(Block { bytes, places: self.places })
    }
}

fn three(bytes: &[u8; 12]) -> [u32; 3] {
    let (words, _) = bytes.as_chunks::<4>();
    [0, 1, 2].map(|at| words.get(at).map_or(0, |word| u32::from_le_bytes(*word)))
}
