//! A value beside the bytes it came as, for those who pass messages on.

use core::ops::Deref;

use bytes::Bytes;

use super::error::WireError;
use crate::limits::Limits;

/// A decoded value and its bytes.
///
/// A newer server may send JSON fields that a value has no place for: decoding passes them over,
/// and encoding the value would lose them. The bytes are what a proxy should pass on; they share
/// the memory of the message.
///
/// ```
/// use bytes::Bytes;
/// use jetwake::{limits::Limits, wire::{StreamPurge, Written}};
/// let bytes = Bytes::from_static(b"\x05{\"stream\":\"S\",\"new\":[1]}\n");
/// let purge = Written::read(&bytes, &Limits::default(), StreamPurge::decode)?;
/// assert_eq!(purge.stream, "S");
/// assert_eq!(purge.bytes(), &bytes);
/// # Ok::<(), jetwake::wire::WireError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    value: T,
    bytes: Bytes,
}

impl<T> Written<T> {
    /// Decodes a value with its decoder, and keeps the bytes.
    ///
    /// # Errors
    /// Those of the decoder.
    pub fn read(
        bytes: &Bytes,
        limits: &Limits,
        decode: impl FnOnce(&Bytes, &Limits) -> Result<T, WireError>,
    ) -> Result<Self, WireError> {
        Ok(Self { value: decode(bytes, limits)?, bytes: bytes.clone() })
    }

    /// The bytes as they came.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The value, to be changed; the bytes are forgotten.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Written<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
