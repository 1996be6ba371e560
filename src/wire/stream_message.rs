//! A message of a stream, in its log and in a catchup.
//!
//! Upstream: `encodeStreamMsg` and `decodeStreamMsg` in `server/jetstream_cluster.go`; op 4, or
//! op 14 and the rest as an S2 block. Little-endian: sequence, time, subject, reply, header
//! and payload with their lengths, flags as a variable-length number.

use alloc::vec::Vec;
use core::fmt;

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
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

const PLAIN: u8 = Op::Message.as_u8();
const COMPRESSED: u8 = Op::CompressedMessage.as_u8();

/// A message of a stream: its fields, wherever they lie.
///
/// It is what is encoded, and what decoding gives to those who only look: neither takes memory of
/// its own. [`StreamMessage`] is one that owns its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMessageView<'a> {
    /// The subject, as it was published. At most 65,535 bytes, not necessarily UTF-8.
    pub subject: &'a [u8],
    /// The reply subject. At most 65,535 bytes.
    pub reply: &'a [u8],
    /// The header, with its first line and its end. At most 65,535 bytes.
    pub header: &'a [u8],
    /// The payload. At most 4 GiB.
    pub payload: &'a [u8],
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

impl<'a> StreamMessageView<'a> {
    /// The place of a message that a catchup has no more: op 4 with neither subject nor time.
    pub fn skip(sequence: Sequence) -> Self {
        Self { sequence, ..Self::default() }
    }

    /// Whether this is the place of a message that is no more.
    pub const fn is_skip(&self) -> bool {
        self.subject.is_empty() && self.timestamp == 0
    }

    /// Looks at a message with its op byte, 4 or 14.
    ///
    /// Op 4 takes no memory. Op 14 is unpacked into `unpacked`, which grows to what the message
    /// unpacks to, `limits.decompressed` at most, and can serve one message after the other.
    ///
    /// # Errors
    /// [`WireError`] as [`decode_body`](Self::decode_body), for another op, and for a block that
    /// is too large or corrupt. Inside of a block, offsets count from the start of the body.
    pub fn decode(
        message: &'a [u8],
        unpacked: &'a mut Vec<u8>,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        match compressed(message, 0)? {
            None => Self::read(message, 1),
            Some(block) => {
                s2::decode_block_into(block, limits.decompressed.get(), unpacked)?;
                Self::read(unpacked, 0)
            }
        }
    }

    /// Looks at what follows an op byte of 4. Takes no memory, and shares none.
    ///
    /// The flags may be missing, as from old servers; they are written when the message is
    /// encoded again. Bytes behind the flags are refused, which upstream overlooks.
    ///
    /// # Errors
    /// [`WireError`] if a field ends early, or bytes are left.
    pub fn decode_body(body: &'a [u8]) -> Result<Self, WireError> {
        Self::read(body, 0)
    }

    /// Looks at the body that begins at `offset`.
    #[inline]
    fn read(bytes: &'a [u8], offset: usize) -> Result<Self, WireError> {
        // What is well formed is read without a thought of errors, which are large; the rest is
        // read again, to say what is wrong with it.
        match bytes.get(offset..).and_then(Self::try_read) {
            Some(view) => Ok(view),
            None => Self::explain(bytes, offset),
        }
    }

    #[inline]
    fn try_read(bytes: &'a [u8]) -> Option<Self> {
        let (sequence, bytes) = bytes.split_first_chunk()?;
        let (timestamp, bytes) = bytes.split_first_chunk()?;
        let (subject, bytes) = short_field(bytes)?;
        // Most messages have neither reply nor header: all lengths stand together.
        let (reply, header, length, bytes) = match bytes.split_first_chunk::<8>()? {
            ([0, 0, 0, 0, length @ ..], bytes) => (&bytes[..0], &bytes[..0], *length, bytes),
            _ => {
                let (reply, bytes) = short_field(bytes)?;
                let (header, bytes) = short_field(bytes)?;
                let (length, bytes) = bytes.split_first_chunk()?;
                (reply, header, *length, bytes)
            }
        };
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
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

    /// Whether every field fits its length on the wire. Upstream clips those that do not.
    ///
    /// # Errors
    /// [`WireError`] with the field, its length and its limit.
    #[inline]
    pub fn check(&self) -> Result<(), WireError> {
        fits("subject", self.subject, u64::from(u16::MAX))?;
        fits("reply", self.reply, u64::from(u16::MAX))?;
        fits("header", self.header, u64::from(u16::MAX))?;
        fits("payload", self.payload, u64::from(u32::MAX))
    }

    /// How many bytes [`encode`](Self::encode) appends.
    #[inline]
    pub const fn encoded_len(&self) -> usize {
        1 + self.body_len()
    }

    const fn body_len(&self) -> usize {
        FIXED + self.variable_len() + varint::len(self.flags())
    }

    /// Bytes of the four fields of variable length.
    const fn variable_len(&self) -> usize {
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
    #[inline]
    pub fn encode(&self, buffer: &mut impl Buffer) -> Result<(), WireError> {
        self.check()?;
        buffer.reserve(self.encoded_len());
        let mut head = [PLAIN; 1 + SUBJECT];
        head[1..].copy_from_slice(&self.body_head());
        buffer.extend_from_slice(&head);
        self.put_fields(buffer);
        Ok(())
    }

    /// Appends the message, compressed (op 14) if it has more than 8,192 bytes of subject, reply,
    /// header and payload and becomes smaller; else as [`encode`](Self::encode) does.
    ///
    /// Compression takes as much memory again as the message, for the time of the call.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is appended then.
    pub fn encode_allow_compress(&self, buffer: &mut impl Buffer) -> Result<(), WireError> {
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

    /// The message with bytes of its own: one allocation, one copy of each field.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn to_message(&self) -> Result<StreamMessage, WireError> {
        self.check()?;
        let mut body = BytesMut::with_capacity(self.body_len());
        self.put_body(&mut body);
        Ok(StreamMessage { body: body.freeze(), shape: Shape::of(self) })
    }

    /// Appends what follows the op byte. The lengths have been checked.
    fn put_body(&self, buffer: &mut impl Buffer) {
        buffer.extend_from_slice(&self.body_head());
        self.put_fields(buffer);
    }

    /// What stands before the subject.
    #[inline]
    fn body_head(&self) -> [u8; SUBJECT] {
        let mut head = [0; SUBJECT];
        head[..8].copy_from_slice(&self.sequence.get().to_le_bytes());
        head[8..16].copy_from_slice(&self.timestamp.to_le_bytes());
        head[16..].copy_from_slice(&(self.subject.len() as u16).to_le_bytes());
        head
    }

    /// Appends the subject and all behind it.
    #[inline]
    fn put_fields(&self, buffer: &mut impl Buffer) {
        buffer.extend_from_slice(self.subject);
        let [a, b, c, d] = (self.payload.len() as u32).to_le_bytes();
        if self.reply.is_empty() && self.header.is_empty() {
            // Most messages have neither: their lengths go out together.
            buffer.extend_from_slice(&[0, 0, 0, 0, a, b, c, d]);
        } else {
            buffer.extend_from_slice(&(self.reply.len() as u16).to_le_bytes());
            buffer.extend_from_slice(self.reply);
            buffer.extend_from_slice(&(self.header.len() as u16).to_le_bytes());
            buffer.extend_from_slice(self.header);
            buffer.extend_from_slice(&[a, b, c, d]);
        }
        buffer.extend_from_slice(self.payload);
        varint::put(buffer, self.flags());
    }
}

/// A message of a stream that owns its bytes, or shares them with what it was decoded from.
///
/// A copy costs no allocation, and the count of one owner.
#[derive(Clone)]
pub struct StreamMessage {
    /// What follows the op byte, not compressed.
    body: Bytes,
    shape: Shape,
}

/// What was read from a body, to find its fields again.
#[derive(Clone, Copy)]
struct Shape {
    flags: u64,
    payload: u32,
    subject: u16,
    reply: u16,
    header: u16,
}

impl Shape {
    /// The lengths fit: they come from a body, or were checked for one.
    #[inline]
    const fn of(view: &StreamMessageView<'_>) -> Self {
        Self {
            flags: view.flags(),
            payload: view.payload.len() as u32,
            subject: view.subject.len() as u16,
            reply: view.reply.len() as u16,
            header: view.header.len() as u16,
        }
    }
}

impl StreamMessage {
    /// Reads a message with its op byte, 4 or 14.
    ///
    /// Op 4 takes no memory and one share of the message's. Op 14 takes what the message unpacks
    /// to, `limits.decompressed` at most.
    ///
    /// # Errors
    /// As [`StreamMessageView::decode`].
    #[inline]
    pub fn decode(message: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        Self::decode_at(message, 0, limits)
    }

    /// Reads a message whose op byte is at `offset`.
    #[inline]
    pub(super) fn decode_at(
        message: &Bytes,
        offset: usize,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        match compressed(message, offset)? {
            None => Self::read(message, offset + 1),
            Some(block) => {
                let body = s2::decode_block(block, limits.decompressed.get())?;
                Self::decode_body(&Bytes::from(body))
            }
        }
    }

    /// Reads what follows an op byte of 4. Takes no memory and one share of the message's.
    ///
    /// # Errors
    /// As [`StreamMessageView::decode_body`].
    pub fn decode_body(body: &Bytes) -> Result<Self, WireError> {
        Self::read(body, 0)
    }

    #[inline]
    fn read(bytes: &Bytes, offset: usize) -> Result<Self, WireError> {
        let shape = Shape::of(&StreamMessageView::read(bytes, offset)?);
        Ok(Self { body: bytes.slice(offset..), shape })
    }

    /// Its fields. Costs no count of owners.
    #[inline]
    pub fn view(&self) -> StreamMessageView<'_> {
        StreamMessageView {
            subject: self.subject(),
            reply: self.reply(),
            header: self.header(),
            payload: self.payload(),
            sequence: self.sequence(),
            timestamp: self.timestamp(),
            sourced: self.shape.flags & SOURCED != 0,
            unknown_flags: self.shape.flags & !SOURCED,
        }
    }

    /// As [`StreamMessageView::subject`].
    pub fn subject(&self) -> &[u8] {
        self.field(SUBJECT, self.shape.subject.into())
    }

    /// As [`StreamMessageView::reply`].
    pub fn reply(&self) -> &[u8] {
        self.field(SUBJECT + usize::from(self.shape.subject) + 2, self.shape.reply.into())
    }

    /// As [`StreamMessageView::header`].
    pub fn header(&self) -> &[u8] {
        let Shape { subject, reply, header, .. } = self.shape;
        let before = usize::from(subject) + 2 + usize::from(reply) + 2;
        self.field(SUBJECT + before, header.into())
    }

    /// As [`StreamMessageView::payload`].
    pub fn payload(&self) -> &[u8] {
        let Shape { subject, reply, header, payload, .. } = self.shape;
        let before = usize::from(subject) + 2 + usize::from(reply) + 2 + usize::from(header) + 4;
        self.field(SUBJECT + before, payload as usize)
    }

    fn field(&self, start: usize, length: usize) -> &[u8] {
        // The body was read with these lengths, so it has the bytes.
        &self.body[start..start + length]
    }

    fn number(&self, start: usize) -> [u8; 8] {
        // As above.
        self.body[start..].first_chunk().copied().unwrap_or_default()
    }

    /// A field, or a part of one, as bytes that share the message's memory.
    ///
    /// # Panics
    /// If the bytes are not this message's.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.body.slice_ref(part)
    }

    /// As [`StreamMessageView::sequence`].
    pub fn sequence(&self) -> Sequence {
        Sequence::new(u64::from_le_bytes(self.number(0)))
    }

    /// As [`StreamMessageView::timestamp`].
    pub fn timestamp(&self) -> i64 {
        i64::from_le_bytes(self.number(8))
    }

    /// As [`StreamMessageView::is_skip`].
    pub fn is_skip(&self) -> bool {
        self.view().is_skip()
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        self.view().encoded_len()
    }

    /// Appends the message with its op byte, 4. One copy of each field, one growth at most.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        self.view().encode(buffer).expect(FITS);
    }

    /// Appends the message as [`StreamMessageView::encode_allow_compress`] does.
    pub fn encode_allow_compress(&self, buffer: &mut impl Buffer) {
        self.view().encode_allow_compress(buffer).expect(FITS);
    }

    /// The message with its op byte, 4, in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        self.view().to_bytes().expect(FITS)
    }
}

const FITS: &str = "a message that has a body fits the lengths of one";

/// Where the subject begins in a body.
const SUBJECT: usize = 8 + 8 + 2;

impl fmt::Debug for StreamMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(formatter)
    }
}

impl PartialEq for StreamMessage {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for StreamMessage {}

impl PartialEq<StreamMessageView<'_>> for StreamMessage {
    fn eq(&self, other: &StreamMessageView<'_>) -> bool {
        self.view() == *other
    }
}

/// A field behind its length of 16 bits, and what stands behind it.
#[inline]
fn short_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = bytes.split_first_chunk()?;
    bytes.split_at_checked(u16::from_le_bytes(*length).into())
}

/// The block of a message whose op byte is at `offset`, if it is compressed; nothing if not.
#[inline]
fn compressed(message: &[u8], offset: usize) -> Result<Option<&[u8]>, WireError> {
    match message.get(offset..).and_then(<[u8]>::split_first) {
        Some((&PLAIN, _)) => Ok(None),
        Some((&COMPRESSED, block)) => Ok(Some(block)),
        other => Err(no_message(other.map(|(op, _)| *op), offset)),
    }
}

#[cold]
fn no_message(op: Option<u8>, offset: usize) -> WireError {
    let fault = match op {
        Some(op) => Fault::Value { expected: "4 or 14", found: u64::from(op) },
        None => Fault::Short { expected: 1, found: 0 },
    };
    WireError { format: FORMAT, field: "op", offset, fault }
}

#[inline]
fn fits(field: &'static str, bytes: &[u8], limit: u64) -> Result<(), WireError> {
    let found = bytes.len() as u64;
    if found <= limit {
        return Ok(());
    }
    Err(WireError { format: FORMAT, field, offset: 0, fault: Fault::TooLarge { limit, found } })
}
