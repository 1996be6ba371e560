//! The binary form of a consumer's state, in its group's snapshots and in its store.
//!
//! Upstream: `encodeConsumerState` in `server/store.go`, `decodeConsumerState` in
//! `server/filestore.go`: 22, version, then variable-length numbers: ack floor, delivered,
//! pending messages, redelivered ones. Times are seconds; sequences count from the ack floor.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::consumer_state::{ConsumerState, Pending, SequencePair};
use super::error::{Fault, WireError};
use super::reader::Reader;
use super::varint;
use crate::ids::Sequence;

const FORMAT: &str = "consumer_state";
const MAGIC: u8 = 22;
const VERSION: u8 = 2;
const OLD_VERSION: u8 = 1;
const SECOND: i64 = 1_000_000_000;

impl ConsumerState {
    /// Reads a state of version 1 or 2, and the second since 1970 from which its times are
    /// counted (zero if nothing is pending), with which [`encode`](Self::encode) makes the same
    /// bytes of a state of version 2 again, but for the order of messages: upstream's comes from
    /// a hash map, ours rises.
    ///
    /// Takes at most 64 bytes for each message that is pending or redelivered, which have at
    /// least two on the wire. Deliveries of version 1 have no number: zero.
    ///
    /// # Errors
    /// [`WireError`] if magic or version are others, the bytes end early, a count is larger than
    /// the bytes that are left allow, a message is named twice, a time does not fit, a pending
    /// sequence is zero, a floor is above 2^63 (where upstream refuses it), or bytes are left.
    pub fn decode(bytes: &Bytes) -> Result<(Self, i64), WireError> {
        let mut reader = Reader::new(FORMAT, bytes);
        reader.constant("magic", MAGIC, "22")?;
        let old = reader.peek() == Some(OLD_VERSION);
        if old {
            reader.skip("version", 1)?;
        } else {
            reader.constant("version", VERSION, "1 or 2")?;
        }
        let ack_floor = read_pair(&mut reader, "ack floor")?;
        let mut delivered = read_pair(&mut reader, "delivered")?;
        if old {
            // The old version counts deliveries from the floor, and names the next of them.
            delivered.consumer = above(ack_floor.consumer.previous(), delivered.consumer.get());
            delivered.stream = above(ack_floor.stream.previous(), delivered.stream.get());
        }
        if (ack_floor.stream.get() | delivered.stream.get()) >> 63 != 0 {
            let expected = "stream sequences below 2^63";
            return Err(reader.error("delivered", Fault::Text(expected)));
        }
        let mut state = Self { ack_floor, delivered, ..Self::default() };
        let base_seconds = state.read_pending(&mut reader, old)?;
        state.read_redelivered(&mut reader)?;
        reader.end()?;
        Ok((state, base_seconds))
    }

    fn read_pending(&mut self, reader: &mut Reader<'_>, old: bool) -> Result<i64, WireError> {
        let count = read_count(reader, "pending", if old { 2 } else { 3 })?;
        if count == 0 {
            return Ok(0);
        }
        let base_seconds = varint::unzigzag(reader.uvarint("base time")?);
        for _ in 0..count {
            let stream = above(self.ack_floor.stream, reader.uvarint("pending stream")?);
            if stream == Sequence::ZERO {
                let fault = Fault::Value { expected: "a sequence above 0", found: 0 };
                return Err(reader.error("pending stream", fault));
            }
            let sequence = if old {
                Sequence::ZERO
            } else {
                above(self.ack_floor.consumer, reader.uvarint("pending consumer")?)
            };
            let away = varint::unzigzag(reader.uvarint("pending time")?);
            let seconds =
                if old { base_seconds.wrapping_add(away) } else { base_seconds.wrapping_sub(away) };
            let timestamp = seconds.checked_mul(SECOND).ok_or_else(|| {
                reader.error("pending time", Fault::Text("nanoseconds of 64 bits"))
            })?;
            if self.pending.insert(stream, Pending { sequence, timestamp }).is_some() {
                return Err(reader.error("pending stream", Fault::Text("each message once")));
            }
        }
        Ok(base_seconds)
    }

    fn read_redelivered(&mut self, reader: &mut Reader<'_>) -> Result<(), WireError> {
        for _ in 0..read_count(reader, "redelivered", 2)? {
            let stream = above(self.ack_floor.stream, reader.uvarint("redelivered stream")?);
            let count = reader.uvarint("redelivered count")?;
            if self.redelivered.insert(stream, count).is_some() {
                return Err(reader.error("redelivered stream", Fault::Text("each message once")));
            }
        }
        Ok(())
    }

    /// How many bytes [`encode`](Self::encode) appends with this base. Walks the messages once.
    pub fn encoded_len(&self, base_seconds: i64) -> usize {
        let mut length = 2;
        self.numbers(base_seconds, |number| length += varint::len(number));
        length
    }

    /// Appends the state, in version 2, its messages rising. Times of deliveries are cut to
    /// seconds, and written as the distance from `base_seconds` since 1970: upstream takes the
    /// present.
    pub fn encode(&self, base_seconds: i64, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len(base_seconds));
        buffer.put_u8(MAGIC);
        buffer.put_u8(VERSION);
        self.numbers(base_seconds, |number| varint::put(buffer, number));
    }

    /// The state in a buffer of its own; see [`encode`](Self::encode).
    pub fn to_bytes(&self, base_seconds: i64) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len(base_seconds));
        self.encode(base_seconds, &mut buffer);
        buffer.freeze()
    }

    /// Hands over every number behind the version, in order.
    fn numbers(&self, base_seconds: i64, mut take: impl FnMut(u64)) {
        let floor = &self.ack_floor;
        let from = |floor: Sequence, sequence: Sequence| sequence.get().wrapping_sub(floor.get());
        take(floor.consumer.get());
        take(floor.stream.get());
        take(self.delivered.consumer.get());
        take(self.delivered.stream.get());
        take(self.pending.len() as u64);
        if !self.pending.is_empty() {
            take(varint::zigzag(base_seconds));
        }
        for (stream, pending) in &self.pending {
            take(from(floor.stream, *stream));
            take(from(floor.consumer, pending.sequence));
            // Wraps back where it is read, should the base be that far away.
            take(varint::zigzag(base_seconds.wrapping_sub(pending.timestamp / SECOND)));
        }
        take(self.redelivered.len() as u64);
        for (stream, count) in &self.redelivered {
            take(from(floor.stream, *stream));
            take(*count);
        }
    }
}

fn read_pair(reader: &mut Reader<'_>, field: &'static str) -> Result<SequencePair, WireError> {
    let consumer = Sequence::new(reader.uvarint(field)?);
    let stream = Sequence::new(reader.uvarint(field)?);
    Ok(SequencePair { consumer, stream })
}

/// A count of things that take so many bytes each at least.
fn read_count(
    reader: &mut Reader<'_>,
    field: &'static str,
    bytes_each: u64,
) -> Result<u64, WireError> {
    let count = reader.uvarint(field)?;
    let limit = reader.left() as u64 / bytes_each;
    if count > limit {
        return Err(reader.error(field, Fault::TooLarge { limit, found: count }));
    }
    Ok(count)
}

/// The sequence so far above the floor. Upstream writes what lies below it as a number that
/// wraps, and so reads it back.
const fn above(floor: Sequence, distance: u64) -> Sequence {
    Sequence::new(floor.get().wrapping_add(distance))
}
