//! A cursor over a message: slices out fields without copying them, and never reads past the end.

use bytes::Bytes;

use super::error::{Fault, WireError};
use crate::ids::PeerId;

/// Reads one format from its first byte to its last, from [`Bytes`] or a plain slice.
///
/// Every read costs constant time and takes no memory; a slice shares the memory of the input.
#[derive(Debug)]
pub(crate) struct Reader<'a, S: ?Sized = Bytes> {
    format: &'static str,
    bytes: &'a S,
    offset: usize,
}

impl<'a, S: AsRef<[u8]> + ?Sized> Reader<'a, S> {
    /// Starts at the first byte.
    pub(crate) const fn new(format: &'static str, bytes: &'a S) -> Self {
        Self { format, bytes, offset: 0 }
    }

    /// Starts behind bytes that were read already; offsets still count from the first byte.
    pub(crate) fn at(format: &'static str, bytes: &'a S, offset: usize) -> Self {
        Self { format, bytes, offset: offset.min(bytes.as_ref().len()) }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.as_slice().len()
    }

    /// Where the next field begins.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// An error about the field that begins here.
    pub(crate) const fn error(&self, field: &'static str, fault: Fault) -> WireError {
        WireError { format: self.format, field, offset: self.offset, fault }
    }

    /// An error of another format that begins here, as one of this.
    pub(crate) fn inside(&self, error: WireError) -> WireError {
        WireError { format: self.format, offset: self.offset + error.offset, ..error }
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WireError> {
        let found = self.left();
        match self.as_slice().first_chunk::<N>() {
            Some(chunk) => {
                self.offset += N;
                Ok(*chunk)
            }
            None => Err(self.error(field, Fault::Short { expected: N as u64, found })),
        }
    }

    /// One byte.
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// A little-endian number of 16 bits.
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// A little-endian number of 32 bits.
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A little-endian number of 64 bits.
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Eight bytes of a peer id; zeros mean nobody.
    pub(crate) fn peer(&mut self, field: &'static str) -> Result<Option<PeerId>, WireError> {
        self.array(field).map(PeerId::from_wire)
    }

    /// Eight bytes of a peer id where nobody will not do.
    pub(crate) fn somebody(&mut self, field: &'static str) -> Result<PeerId, WireError> {
        let start = self.offset;
        self.peer(field)?.ok_or(WireError {
            format: self.format,
            field,
            offset: start,
            fault: Fault::Text("a peer id, found eight zero bytes"),
        })
    }

    /// One byte that is 0 or 1.
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, WireError> {
        let start = self.offset;
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(WireError {
                format: self.format,
                field,
                offset: start,
                fault: Fault::Value { expected: "0 or 1", found: u64::from(found) },
            }),
        }
    }

    /// One byte that can only be this.
    pub(crate) fn constant(
        &mut self,
        field: &'static str,
        wanted: u8,
        expected: &'static str,
    ) -> Result<(), WireError> {
        match self.peek() {
            Some(found) if found != wanted => {
                Err(self.error(field, Fault::Value { expected, found: u64::from(found) }))
            }
            _ => self.u8(field).map(|_| ()),
        }
    }

    /// The next byte, left where it is; none at the end.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.as_slice().first().copied()
    }

    /// All that is left, left where it is.
    pub(crate) fn as_slice(&self) -> &'a [u8] {
        &self.bytes.as_ref()[self.offset..]
    }

    /// A variable-length number, as Go's `binary.Uvarint` reads it.
    pub(crate) fn uvarint(&mut self, field: &'static str) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (position, byte) in self.as_slice().iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for the topmost bit alone.
            if position == 9 && *byte > 1 {
                break;
            }
            value |= bits << (7 * position);
            if byte & 0x80 == 0 {
                self.offset += position + 1;
                return Ok(value);
            }
        }
        Err(self.error(field, Fault::Varint))
    }

    /// The next `length` bytes, borrowed.
    pub(crate) fn borrow(
        &mut self,
        field: &'static str,
        length: u64,
    ) -> Result<&'a [u8], WireError> {
        let start = self.offset;
        self.skip(field, length)?;
        Ok(&self.bytes.as_ref()[start..self.offset])
    }

    /// Passes over the next `length` bytes.
    pub(crate) fn skip(&mut self, field: &'static str, length: u64) -> Result<(), WireError> {
        let found = self.left();
        match usize::try_from(length) {
            Ok(length) if length <= found => {
                self.offset += length;
                Ok(())
            }
            _ => Err(self.error(field, Fault::Short { expected: length, found })),
        }
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            more => Err(self.error("end", Fault::Trailing(more))),
        }
    }
}

impl Reader<'_> {
    /// The next `length` bytes, shared with the input.
    pub(crate) fn slice(&mut self, field: &'static str, length: u64) -> Result<Bytes, WireError> {
        let start = self.offset;
        self.skip(field, length)?;
        Ok(self.bytes.slice(start..self.offset))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        let start = self.offset;
        self.offset = self.bytes.len();
        self.bytes.slice(start..)
    }
}
