//! The answer to an append entry.
//!
//! Upstream: `appendEntryResponse` in `server/raft.go`; 25 bytes, little-endian.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::WireError;
use super::reader::Reader;
use crate::ids::{Index, PeerId, Term};

/// What a follower says about an append entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendResponse {
    /// The follower's term.
    pub term: Term,
    /// The index up to which its log agrees; on failure, where it ends.
    pub index: Index,
    /// Who answers.
    pub peer: PeerId,
    /// Whether the append entry was taken. If not, the message's reply subject is the inbox in
    /// which the follower waits for a catchup.
    pub success: bool,
}

impl AppendResponse {
    /// Bytes of every answer.
    pub const LEN: usize = 8 + 8 + 8 + 1;

    /// Reads an answer. Constant time, no memory.
    ///
    /// # Errors
    /// [`WireError`] if there are not exactly 25 bytes, nobody answers, or success is neither 0
    /// nor 1 (upstream reads all but 1 as failure).
    pub fn decode(message: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("append_entry_response", message);
        let response = Self {
            term: Term::new(reader.u64("term")?),
            index: Index::new(reader.u64("index")?),
            peer: reader.somebody("peer")?,
            success: reader.bool("success")?,
        };
        reader.end()?;
        Ok(response)
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub const fn encoded_len(&self) -> usize {
        Self::LEN
    }

    /// Appends the answer.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(Self::LEN);
        buffer.put_u64_le(self.term.get());
        buffer.put_u64_le(self.index.get());
        buffer.put_slice(self.peer.as_bytes());
        buffer.put_u8(u8::from(self.success));
    }

    /// The answer in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(Self::LEN);
        self.encode(&mut buffer);
        buffer.freeze()
    }
}
