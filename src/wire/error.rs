//! Why bytes could not be decoded, or values not be encoded.

use thiserror::Error;

/// A format that was not met: which one, in which field, at which byte, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{format}: {field} at byte {offset}: {fault}")]
#[non_exhaustive]
pub struct WireError {
    /// The format, as `jetwake decode --kinds` names it.
    pub format: &'static str,
    /// The field that was being read or written.
    pub field: &'static str,
    /// Where it begins, in bytes from the start of the format.
    pub offset: usize,
    /// What was wrong with it.
    pub fault: Fault,
}

/// What was wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end too early.
    #[error("expected {expected} bytes, found {found}")]
    Short {
        /// How many bytes the field takes.
        expected: u64,
        /// How many are left.
        found: usize,
    },
    /// Bytes are left behind the last field.
    #[error("expected the end, found {0} more bytes")]
    Trailing(usize),
    /// A variable-length number does not end, or does not fit 64 bits.
    #[error("expected a variable-length number of at most 64 bits")]
    Varint,
    /// A number has no meaning here.
    #[error("found {found}, expected {expected}")]
    Value {
        /// What was expected, in words.
        expected: &'static str,
        /// What was found.
        found: u64,
    },
    /// A bound of [`Limits`](crate::limits::Limits) was passed, before memory was taken.
    #[error("{found} is more than the {limit} allowed")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// What the input claims.
        found: u64,
    },
    /// A checksum or hash does not fit its bytes.
    #[error("the checksum does not match")]
    Checksum,
    /// Compressed bytes do not unpack.
    #[error("the compressed bytes are corrupt")]
    Compression,
    /// Not the JSON that was expected.
    #[error("{0}")]
    Json(alloc::string::String),
    /// Text that is not what the field may hold.
    #[error("expected {0}")]
    Text(&'static str),
}
