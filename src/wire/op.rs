//! The first byte of a normal entry and of a catchup's message: what the rest is.
//!
//! Upstream: `entryOp` in `server/jetstream_cluster.go`. Numbers are only ever added.

use super::error::WireError;
use super::reader::Reader;

/// What an entry asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Assign a stream; JSON.
    AssignStream,
    /// Assign a consumer; JSON.
    AssignConsumer,
    /// Remove a stream; JSON.
    RemoveStream,
    /// Remove a consumer; JSON.
    RemoveConsumer,
    /// Store a message.
    Message,
    /// Purge a stream; JSON.
    Purge,
    /// Delete a message; JSON.
    DeleteMessage,
    /// A consumer has delivered a message.
    Delivered,
    /// A consumer's message was acknowledged.
    Acks,
    /// Assign a consumer; JSON as an S2 stream.
    AssignCompressedConsumer,
    /// A consumer has passed over messages.
    Skip,
    /// Update a stream; JSON.
    UpdateStream,
    /// A pull request waits: reserved upstream, and never sent.
    AddPendingRequest,
    /// A pull request waits no more: reserved upstream, and never sent.
    RemovePendingRequest,
    /// Store a message; an S2 block.
    CompressedMessage,
    /// Messages that are no more, in a catchup; JSON.
    DeleteRange,
    /// A message of a batch.
    Batch,
    /// The last message of a batch.
    BatchCommit,
    /// A consumer starts anew at a sequence.
    ResetSequence,
    /// The group of a consumer has the members that it was to have; JSON. Ours (see
    /// `docs/protocol.md`): counted from the end, where upstream's numbers will not soon be.
    ConsumerResized,
    /// An op of a newer server, kept so that it can be passed on. An entry with it must not be
    /// applied in part: whoever meets it stops, and says so.
    Unknown(u8),
}

impl Op {
    /// Upstream's ops in the order of their bytes.
    const KNOWN: [Self; 19] = [
        Self::AssignStream,
        Self::AssignConsumer,
        Self::RemoveStream,
        Self::RemoveConsumer,
        Self::Message,
        Self::Purge,
        Self::DeleteMessage,
        Self::Delivered,
        Self::Acks,
        Self::AssignCompressedConsumer,
        Self::Skip,
        Self::UpdateStream,
        Self::AddPendingRequest,
        Self::RemovePendingRequest,
        Self::CompressedMessage,
        Self::DeleteRange,
        Self::Batch,
        Self::BatchCommit,
        Self::ResetSequence,
    ];

    /// The op of this byte.
    pub fn from_u8(byte: u8) -> Self {
        match byte {
            254 => Self::ConsumerResized,
            _ => Self::KNOWN.get(usize::from(byte)).copied().unwrap_or(Self::Unknown(byte)),
        }
    }

    /// The byte of this op.
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::AssignStream => 0,
            Self::AssignConsumer => 1,
            Self::RemoveStream => 2,
            Self::RemoveConsumer => 3,
            Self::Message => 4,
            Self::Purge => 5,
            Self::DeleteMessage => 6,
            Self::Delivered => 7,
            Self::Acks => 8,
            Self::AssignCompressedConsumer => 9,
            Self::Skip => 10,
            Self::UpdateStream => 11,
            Self::AddPendingRequest => 12,
            Self::RemovePendingRequest => 13,
            Self::CompressedMessage => 14,
            Self::DeleteRange => 15,
            Self::Batch => 16,
            Self::BatchCommit => 17,
            Self::ResetSequence => 18,
            Self::ConsumerResized => 254,
            Self::Unknown(byte) => byte,
        }
    }

    /// The op of an entry's data, or of a catchup's message. Constant time, no memory.
    ///
    /// # Errors
    /// [`WireError`] if there is not even an op.
    pub fn of(data: &[u8]) -> Result<Self, WireError> {
        Reader::new("entry", data).u8("op").map(Self::from_u8)
    }
}
