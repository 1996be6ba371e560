//! A message of a stream, in its log and in a catchup.
//!
//! Upstream: `encodeStreamMsg` and `decodeStreamMsg` in `server/jetstream_cluster.go`; op 4, or
//! op 14 and the rest as an S2 block. Little-endian: sequence, time, subject, reply, header
//! and payload with their lengths, flags as a variable-length number.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{Fault, WireError};
use super::op::Op;
use super::reader::Reader;
use super::{s2, varint};
use crate::ids::Sequence;
use crate::limits::Limits;

const FORMAT: &str = "stream_msg";

/// Bytes of everything but the four fields of variable length, and the flags.
const FIXED: usize = 8 + 8 + 2 + 2 + 2 + 4;

/// Bytes of subject, reply, header and payload above which upstream compresses a message.
const COMPRESS_ABOVE: usize = 8192;

/// The flag of a message that comes from a source or a mirror.
const SOURCED: u64 = 1;

/// A message as a stream's group replicates it.
///
/// A copy costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamMessage {
    /// The subject, as it was published. At most 65,535 bytes, not necessarily UTF-8.
    pub subject: Bytes,
    /// The reply subject. At most 65,535 bytes.
    pub reply: Bytes,
    /// The header, with its first line and its end. At most 65,535 bytes.
    pub header: Bytes,
    /// The payload. At most 4 GiB.
    pub payload: Bytes,
    /// The wire's sequence as it is: in a log the last one before this message, counting
    /// failed ones; in a catchup the message's own.
    pub sequence: Sequence,
    /// When it was stored, in nanoseconds since 1970; zero where that is still to be decided.
    pub timestamp: i64,
    /// Whether it comes from a source or a mirror.
    pub sourced: bool,
    /// Flags of newer servers, kept so that they can be passed on. Upstream overlooks those
    /// that it does not know.
    pub unknown_flags: u64,
}

/// A message of a stream, as it lies in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMessageView<'a> {
    /// As [`StreamMessage::subject`].
    pub subject: &'a [u8],
    /// As [`StreamMessage::reply`].
    pub reply: &'a [u8],
    /// As [`StreamMessage::header`].
    pub header: &'a [u8],
    /// As [`StreamMessage::payload`].
    pub payload: &'a [u8],
    /// As [`StreamMessage::sequence`].
    pub sequence: Sequence,
    /// As [`StreamMessage::timestamp`].
    pub timestamp: i64,
    /// As [`StreamMessage::sourced`].
    pub sourced: bool,
    /// As [`StreamMessage::unknown_flags`].
    pub unknown_flags: u64,
}

impl<'a> StreamMessageView<'a> {
    /// Looks at what follows an op byte of 4. Takes no memory, and shares none.
    ///
    /// # Errors
    /// As [`StreamMessage::decode_body`].
    pub fn decode_body(body: &'a [u8]) -> Result<Self, WireError> {
        Self::read(body, 0)
    }

    /// Looks at what begins at `offset`.
    fn read(bytes: &'a [u8], offset: usize) -> Result<Self, WireError> {
        // What is well formed is read without a thought of errors, which are large; the rest is
        // read again, to say what is wrong with it.
        match bytes.get(offset..).and_then(Self::try_read) {
            Some(view) => Ok(view),
            None => Self::explain(bytes, offset),
        }
    }

    fn try_read(bytes: &'a [u8]) -> Option<Self> {
        let (sequence, bytes) = bytes.split_first_chunk()?;
        let (timestamp, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (subject, bytes) = bytes.split_at_checked(u16::from_le_bytes(*length).into())?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (reply, bytes) = bytes.split_at_checked(u16::from_le_bytes(*length).into())?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (header, bytes) = bytes.split_at_checked(u16::from_le_bytes(*length).into())?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (payload, bytes) = bytes.split_at_checked(length)?;
        // Flags that take more than a byte are not known yet.
        let [flags @ 0..=0x7f] = *bytes else { return None };
        Some(Self {
            subject,
            reply,
            header,
            payload,
            sequence: Sequence::new(u64::from_le_bytes(*sequence)),
            timestamp: i64::from_le_bytes(*timestamp),
            sourced: u64::from(flags) & SOURCED != 0,
            unknown_flags: u64::from(flags) & !SOURCED,
        })
    }

    #[cold]
    fn explain(bytes: &'a [u8], offset: usize) -> Result<Self, WireError> {
        let mut reader = Reader::at(FORMAT, bytes, offset);
        let sequence = Sequence::new(reader.u64("sequence")?);
        // The wire has the bits of a signed number.
        let timestamp = reader.u64("time")? as i64;
        let length = reader.u16("subject length")?;
        let subject = reader.borrow("subject", u64::from(length))?;
        let length = reader.u16("reply length")?;
        let reply = reader.borrow("reply", u64::from(length))?;
        let length = reader.u16("header length")?;
        let header = reader.borrow("header", u64::from(length))?;
        let length = reader.u32("payload length")?;
        let payload = reader.borrow("payload", u64::from(length))?;
        let flags = if reader.left() > 0 { reader.uvarint("flags")? } else { 0 };
        reader.end()?;
        Ok(Self {
            subject,
            reply,
            header,
            payload,
            sequence,
            timestamp,
            sourced: flags & SOURCED != 0,
            unknown_flags: flags & !SOURCED,
        })
    }
}

impl StreamMessage {
    /// The place of a message that a catchup has no more: op 4 with neither subject nor time.
    pub fn skip(sequence: Sequence) -> Self {
        Self { sequence, ..Self::default() }
    }

    /// Whether this is the place of a message that is no more.
    pub fn is_skip(&self) -> bool {
        self.subject.is_empty() && self.timestamp == 0
    }

    /// Reads a message with its op byte, 4 or 14.
    ///
    /// Op 4 takes no memory; the fields share the message's. Op 14 takes what the message
    /// unpacks to, `limits.decompressed` at most.
    ///
    /// # Errors
    /// [`WireError`] as [`decode_body`](Self::decode_body), for another op, and for a block that
    /// is too large or corrupt. Inside of a block, offsets count from the start of the body.
    pub fn decode(message: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        Self::decode_at(message, 0, limits)
    }

    /// Reads a message whose op byte is at `offset`.
    pub(super) fn decode_at(
        message: &Bytes,
        offset: usize,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let mut reader = Reader::at(FORMAT, message, offset);
        match Op::from_u8(reader.u8("op")?) {
            Op::Message => Self::read(message, offset + 1),
            Op::CompressedMessage => {
                // The op byte was read, so there is a byte at the offset.
                let block = &message[offset + 1..];
                let body = s2::decode_block(block, limits.decompressed.get())?;
                Self::decode_body(&Bytes::from(body))
            }
            other => Err(WireError {
                format: FORMAT,
                field: "op",
                offset,
                fault: Fault::Value { expected: "4 or 14", found: u64::from(other.as_u8()) },
            }),
        }
    }

    /// Reads what follows an op byte of 4. Takes no memory; costs the count of owners of each
    /// field that is not empty, which [`StreamMessageView`] spares those who only look.
    ///
    /// The flags may be missing, as from old servers; they are written when the message is
    /// encoded again. Bytes behind the flags are refused, which upstream overlooks.
    ///
    /// # Errors
    /// [`WireError`] if a field ends early, or bytes are left.
    pub fn decode_body(body: &Bytes) -> Result<Self, WireError> {
        Self::read(body, 0)
    }

    fn read(body: &Bytes, offset: usize) -> Result<Self, WireError> {
        let view = StreamMessageView::read(body, offset)?;
        let share = |field: &[u8]| body.slice_ref(field);
        Ok(Self {
            subject: share(view.subject),
            reply: share(view.reply),
            header: share(view.header),
            payload: share(view.payload),
            sequence: view.sequence,
            timestamp: view.timestamp,
            sourced: view.sourced,
            unknown_flags: view.unknown_flags,
        })
    }

    /// Whether every field fits its length on the wire. Upstream clips those that do not.
    ///
    /// # Errors
    /// [`WireError`] with the field, its length and its limit.
    pub fn check(&self) -> Result<(), WireError> {
        let fits = |field, bytes: &Bytes, limit: u64| match bytes.len() as u64 {
            found if found > limit => {
                let fault = Fault::TooLarge { limit, found };
                Err(WireError { format: FORMAT, field, offset: 0, fault })
            }
            _ => Ok(()),
        };
        fits("subject", &self.subject, u64::from(u16::MAX))?;
        fits("reply", &self.reply, u64::from(u16::MAX))?;
        fits("header", &self.header, u64::from(u16::MAX))?;
        fits("payload", &self.payload, u64::from(u32::MAX))
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        1 + self.body_len()
    }

    fn body_len(&self) -> usize {
        FIXED + self.variable_len() + varint::len(self.flags())
    }

    /// Bytes of the four fields of variable length.
    fn variable_len(&self) -> usize {
        self.subject.len() + self.reply.len() + self.header.len() + self.payload.len()
    }

    const fn flags(&self) -> u64 {
        let sourced = if self.sourced { SOURCED } else { 0 };
        self.unknown_flags & !SOURCED | sourced
    }

    /// Appends the message with its op byte, 4. One copy of each field, one growth at most.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is appended then.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), WireError> {
        self.check()?;
        buffer.reserve(self.encoded_len());
        buffer.put_u8(Op::Message.as_u8());
        self.put_body(buffer);
        Ok(())
    }

    /// Appends the message, compressed (op 14) if it has more than 8,192 bytes of subject, reply,
    /// header and payload and becomes smaller; else as [`encode`](Self::encode) does.
    ///
    /// Compression takes as much memory again as the message, for the time of the call.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is appended then.
    pub fn encode_allow_compress(&self, buffer: &mut BytesMut) -> Result<(), WireError> {
        if self.variable_len() > COMPRESS_ABOVE {
            self.check()?;
            let mut body = BytesMut::with_capacity(self.body_len());
            self.put_body(&mut body);
            // A body of more than 4 GiB cannot be a block.
            if let Ok(block) = s2::encode_block(&body)
                && block.len() < body.len()
            {
                buffer.reserve(1 + block.len());
                buffer.put_u8(Op::CompressedMessage.as_u8());
                buffer.put_slice(&block);
                return Ok(());
            }
        }
        self.encode(buffer)
    }

    /// The message with its op byte, 4, in a buffer of its own.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn to_bytes(&self) -> Result<Bytes, WireError> {
        self.check()?;
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer)?;
        Ok(buffer.freeze())
    }

    /// Appends what follows the op byte. The lengths have been checked.
    fn put_body(&self, buffer: &mut BytesMut) {
        buffer.put_u64_le(self.sequence.get());
        buffer.put_i64_le(self.timestamp);
        buffer.put_u16_le(self.subject.len() as u16);
        buffer.put_slice(&self.subject);
        buffer.put_u16_le(self.reply.len() as u16);
        buffer.put_slice(&self.reply);
        buffer.put_u16_le(self.header.len() as u16);
        buffer.put_slice(&self.header);
        buffer.put_u32_le(self.payload.len() as u32);
        buffer.put_slice(&self.payload);
        varint::put(buffer, self.flags());
    }
}
