//! A message of a batch, all of whose messages are stored, or none.
//!
//! Upstream: `encodeStreamMsgAllowCompressAndBatch` and `decodeBatchMsg` in
//! `server/jetstream_cluster.go`; op 16, or 17 for the last one: the batch's id with its length
//! u16, the message's place as a variable-length number, then the message with its op byte.

use core::fmt;

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::op::Op;
use super::reader::Reader;
use super::stream_message::{StreamMessage, StreamMessageView};
use super::varint;
use crate::limits::Limits;

const FORMAT: &str = "batch_msg";

/// A message of a batch: its fields, wherever they lie. It is what is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchMessageView<'a> {
    /// Names the batch. 1 to 65,535 bytes.
    pub batch_id: &'a [u8],
    /// The message's place in the batch; the first is 1.
    pub batch_sequence: u64,
    /// Whether it is the last one, with which the batch is to be stored.
    pub commit: bool,
    /// The message.
    pub message: StreamMessageView<'a>,
}

impl BatchMessageView<'_> {
    /// Whether every field fits its length on the wire. Upstream clips those that do not.
    ///
    /// # Errors
    /// [`WireError`] with the field, its length and its limit.
    pub fn check(&self) -> Result<(), WireError> {
        let error = |fault| WireError { format: FORMAT, field: "batch id", offset: 0, fault };
        let (limit, found) = (u64::from(u16::MAX), self.batch_id.len() as u64);
        match found {
            0 => Err(error(Fault::Value { expected: "at least 1", found })),
            found if found > limit => Err(error(Fault::TooLarge { limit, found })),
            _ => self.message.check(),
        }
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub const fn encoded_len(&self) -> usize {
        self.head_len() + self.message.encoded_len()
    }

    const fn head_len(&self) -> usize {
        1 + 2 + self.batch_id.len() + varint::len(self.batch_sequence)
    }

    /// Appends the message with its op byte, 16 or 17. One copy of each field, one growth at
    /// most.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is appended then.
    pub fn encode(&self, buffer: &mut impl Buffer) -> Result<(), WireError> {
        self.check()?;
        buffer.reserve(self.encoded_len());
        self.put_head(buffer);
        self.message.encode(buffer)
    }

    /// Appends the message as [`encode`](Self::encode) does, the inner one as
    /// [`StreamMessageView::encode_allow_compress`].
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is appended then.
    pub fn encode_allow_compress(&self, buffer: &mut impl Buffer) -> Result<(), WireError> {
        self.check()?;
        buffer.reserve(self.head_len());
        self.put_head(buffer);
        self.message.encode_allow_compress(buffer)
    }

    /// The message in a buffer of its own, not compressed.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn to_bytes(&self) -> Result<Bytes, WireError> {
        self.check()?;
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer)?;
        Ok(buffer.freeze())
    }

    fn put_head(&self, buffer: &mut impl Buffer) {
        buffer.put_u8(if self.commit { Op::BatchCommit } else { Op::Batch }.as_u8());
        // The length has been checked.
        buffer.put_u16_le(self.batch_id.len() as u16);
        buffer.put_slice(self.batch_id);
        varint::put(buffer, self.batch_sequence);
    }
}

/// A message of a batch that shares its bytes with what it was decoded from.
///
/// A copy costs no allocation.
#[derive(Clone)]
pub struct BatchMessage {
    batch_id: Bytes,
    batch_sequence: u64,
    commit: bool,
    message: StreamMessage,
}

impl BatchMessage {
    /// Reads a message with its op byte, 16 or 17. Takes no memory, but for a compressed
    /// message what it unpacks to, `limits.decompressed` at most.
    ///
    /// # Errors
    /// [`WireError`] as [`decode_body`](Self::decode_body), and for another op.
    pub fn decode(message: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let mut reader = Reader::new(FORMAT, message);
        let commit = match Op::from_u8(reader.u8("op")?) {
            Op::Batch => false,
            Op::BatchCommit => true,
            other => {
                let found = u64::from(other.as_u8());
                let fault = Fault::Value { expected: "16 or 17", found };
                return Err(WireError { format: FORMAT, field: "op", offset: 0, fault });
            }
        };
        Self::read(&mut reader, message, commit, limits)
    }

    /// Reads what follows the op byte; `commit` says which one that was.
    ///
    /// # Errors
    /// [`WireError`] if a field ends early, the id is empty (upstream reads such a batch and
    /// never writes one), the message's op is missing (upstream panics) or neither 4 nor 14, or
    /// the message is bad.
    pub fn decode_body(body: &Bytes, commit: bool, limits: &Limits) -> Result<Self, WireError> {
        Self::read(&mut Reader::new(FORMAT, body), body, commit, limits)
    }

    fn read(
        reader: &mut Reader<'_>,
        bytes: &Bytes,
        commit: bool,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let length = reader.u16("batch id length")?;
        if length == 0 {
            let fault = Fault::Value { expected: "at least 1", found: 0 };
            return Err(reader.error("batch id", fault));
        }
        let batch_id = reader.slice("batch id", u64::from(length))?;
        let batch_sequence = reader.uvarint("batch sequence")?;
        let message = StreamMessage::decode_at(bytes, reader.offset(), limits)?;
        Ok(Self { batch_id, batch_sequence, commit, message })
    }

    /// Where the inner message begins, its op byte first. Takes no memory.
    ///
    /// # Errors
    /// [`WireError`] if what stands before it ends early.
    pub fn inner_offset(message: &[u8]) -> Result<usize, WireError> {
        let mut reader = Reader::at(FORMAT, message, 1);
        let length = reader.u16("batch id length")?;
        reader.borrow("batch id", u64::from(length))?;
        reader.uvarint("batch sequence")?;
        Ok(reader.offset())
    }

    /// Its fields, to be looked at or encoded. It was decoded, so every field fits its length.
    pub fn view(&self) -> BatchMessageView<'_> {
        BatchMessageView {
            batch_id: &self.batch_id,
            batch_sequence: self.batch_sequence,
            commit: self.commit,
            message: self.message.view(),
        }
    }

    /// As [`BatchMessageView::batch_id`].
    pub const fn batch_id(&self) -> &Bytes {
        &self.batch_id
    }

    /// As [`BatchMessageView::message`].
    pub const fn message(&self) -> &StreamMessage {
        &self.message
    }
}

impl fmt::Debug for BatchMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(formatter)
    }
}

impl PartialEq for BatchMessage {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for BatchMessage {}

impl PartialEq<BatchMessageView<'_>> for BatchMessage {
    fn eq(&self, other: &BatchMessageView<'_>) -> bool {
        self.view() == *other
    }
}
