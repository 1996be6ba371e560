//! What a consumer's group replicates: deliveries, acknowledgements, skips and resets.
//!
//! Upstream: `updateDelivered`, `updateAcks`, `updateSkipped` and `resetStartingSeq` in
//! `server/consumer.go`; ops 7 and 8 as variable-length numbers, 10 and 18 with a sequence of
//! eight bytes, little-endian.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::op::Op;
use super::reader::Reader;
use super::varint;
use crate::ids::Sequence;

/// One step of a consumer. A copy costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumerOp {
    /// A message was delivered (op 7).
    Delivered {
        /// The delivery, counted by the consumer.
        consumer: Sequence,
        /// The message, in its stream.
        stream: Sequence,
        /// How often it has been delivered by now.
        count: u64,
        /// When, in nanoseconds since 1970.
        timestamp: i64,
    },
    /// A message was acknowledged (op 8).
    Acks {
        /// The delivery, counted by the consumer.
        consumer: Sequence,
        /// The message, in its stream.
        stream: Sequence,
    },
    /// Messages that the consumer does not want were passed over (op 10).
    Skip {
        /// The next message to look at, in its stream.
        stream: Sequence,
    },
    /// The consumer starts anew (op 18).
    ResetSequence {
        /// The next message to deliver, in its stream.
        stream: Sequence,
        /// Whom to tell; empty for nobody. Shares the memory of the entry.
        reply: Bytes,
    },
    /// A step of a newer server, kept so that it can be passed on. Whoever should apply it must
    /// stop, as it cannot know what it would miss.
    Unknown {
        /// The op.
        op: Op,
        /// All of the data, op byte first. Shares the memory of the entry.
        bytes: Bytes,
    },
}

impl ConsumerOp {
    /// Reads an entry's data, op byte first. Constant time, no memory.
    ///
    /// # Errors
    /// [`WireError`] for an op that is another group's, and if the bytes end early (upstream reads
    /// a missing number as zero, or panics) or are left.
    pub fn decode(data: &Bytes) -> Result<Self, WireError> {
        Self::read(data, |part| data.slice_ref(part))
    }

    /// As [`decode`](Self::decode), but shares nothing: a reply, or a step of a newer server, is copied.
    /// Those are rare, and a share costs more than to read any other step.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_copied(data: &[u8]) -> Result<Self, WireError> {
        Self::read(data, Bytes::copy_from_slice)
    }

    fn read(data: &[u8], keep: impl Fn(&[u8]) -> Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("consumer_op", data);
        let op = Op::from_u8(reader.u8("op")?);
        let step = match op {
            Op::Delivered => Self::Delivered {
                consumer: Sequence::new(reader.uvarint("consumer sequence")?),
                stream: Sequence::new(reader.uvarint("stream sequence")?),
                count: reader.uvarint("count")?,
                timestamp: varint::unzigzag(reader.uvarint("time")?),
            },
            Op::Acks => Self::Acks {
                consumer: Sequence::new(reader.uvarint("consumer sequence")?),
                stream: Sequence::new(reader.uvarint("stream sequence")?),
            },
            Op::Skip => Self::Skip { stream: Sequence::new(reader.u64("stream sequence")?) },
            Op::ResetSequence => {
                let stream = Sequence::new(reader.u64("stream sequence")?);
                let reply = reader.borrow("reply", reader.left() as u64)?;
                Self::ResetSequence { stream, reply: keep(reply) }
            }
            op @ (Op::Unknown(_) | Op::AddPendingRequest | Op::RemovePendingRequest) => {
                return Ok(Self::Unknown { op, bytes: keep(data) });
            }
            other => {
                let found = u64::from(other.as_u8());
                let fault = Fault::Value { expected: "7, 8, 10 or 18", found };
                return Err(WireError { format: "consumer_op", field: "op", offset: 0, fault });
            }
        };
        reader.end()?;
        Ok(step)
    }

    /// The op byte of this step.
    pub const fn op(&self) -> Op {
        match self {
            Self::Delivered { .. } => Op::Delivered,
            Self::Acks { .. } => Op::Acks,
            Self::Skip { .. } => Op::Skip,
            Self::ResetSequence { .. } => Op::ResetSequence,
            Self::Unknown { op, .. } => *op,
        }
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        let body = match self {
            Self::Delivered { consumer, stream, count, timestamp } => {
                varint::len(consumer.get())
                    + varint::len(stream.get())
                    + varint::len(*count)
                    + varint::len(varint::zigzag(*timestamp))
            }
            Self::Acks { consumer, stream } => {
                varint::len(consumer.get()) + varint::len(stream.get())
            }
            Self::Skip { .. } => 8,
            Self::ResetSequence { reply, .. } => 8 + reply.len(),
            Self::Unknown { bytes, .. } => return bytes.len(),
        };
        1 + body
    }

    /// Appends the entry's data, op byte first.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len());
        if let Self::Unknown { bytes, .. } = self {
            return buffer.put_slice(bytes);
        }
        buffer.put_u8(self.op().as_u8());
        match self {
            Self::Delivered { consumer, stream, count, timestamp } => {
                varint::put(buffer, consumer.get());
                varint::put(buffer, stream.get());
                varint::put(buffer, *count);
                varint::put(buffer, varint::zigzag(*timestamp));
            }
            Self::Acks { consumer, stream } => {
                varint::put(buffer, consumer.get());
                varint::put(buffer, stream.get());
            }
            Self::Skip { stream } => buffer.put_u64_le(stream.get()),
            Self::ResetSequence { stream, reply } => {
                buffer.put_u64_le(stream.get());
                buffer.put_slice(reply);
            }
            // Was appended as it came.
            Self::Unknown { .. } => {}
        }
    }

    /// The entry's data in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }
}
