//! Votes: a candidate's request, and the answer.
//!
//! Upstream: `voteRequest` and `voteResponse` in `server/raft.go`; 32 and 17 bytes,
//! little-endian.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;
use crate::ids::{Index, PeerId, Term};

/// A candidate asks for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// The term in which it wants to lead.
    pub term: Term,
    /// The term of the last append entry in its log.
    pub last_term: Term,
    /// The index of the last append entry in its log.
    pub last_index: Index,
    /// Who asks.
    pub candidate: PeerId,
}

impl VoteRequest {
    /// Bytes of every request.
    pub const LEN: usize = 8 + 8 + 8 + 8;

    /// Reads a request. Constant time, no memory.
    ///
    /// # Errors
    /// [`WireError`] if there are not exactly 32 bytes, or nobody asks.
    pub fn decode(message: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("vote_request", message);
        let request = Self {
            term: Term::new(reader.u64("term")?),
            last_term: Term::new(reader.u64("last term")?),
            last_index: Index::new(reader.u64("last index")?),
            candidate: reader.somebody("candidate")?,
        };
        reader.end()?;
        Ok(request)
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub const fn encoded_len(&self) -> usize {
        Self::LEN
    }

    /// Appends the request.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(Self::LEN);
        buffer.put_u64_le(self.term.get());
        buffer.put_u64_le(self.last_term.get());
        buffer.put_u64_le(self.last_index.get());
        buffer.put_slice(self.candidate.as_bytes());
    }

    /// The request in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(Self::LEN);
        self.encode(&mut buffer);
        buffer.freeze()
    }
}

const GRANTED: u8 = 1;
const EMPTY: u8 = 2;

/// The answer to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteResponse {
    /// The voter's term.
    pub term: Term,
    /// Who answers.
    pub peer: PeerId,
    /// Whether the vote is given.
    pub granted: bool,
    /// Whether the voter's log is empty: such votes alone do not elect a leader.
    pub empty: bool,
}

impl VoteResponse {
    /// Bytes of every answer.
    pub const LEN: usize = 8 + 8 + 1;

    /// Reads an answer. Constant time, no memory.
    ///
    /// # Errors
    /// [`WireError`] if there are not exactly 17 bytes, nobody answers, or a flag is set whose
    /// meaning is not known: such a vote is not safe to count.
    pub fn decode(message: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("vote_response", message);
        let term = Term::new(reader.u64("term")?);
        let peer = reader.somebody("peer")?;
        let flags = reader.u8("flags")?;
        if flags & !(GRANTED | EMPTY) != 0 {
            return Err(WireError {
                format: "vote_response",
                field: "flags",
                offset: 16,
                fault: Fault::Value { expected: "at most 3", found: u64::from(flags) },
            });
        }
        reader.end()?;
        Ok(Self { term, peer, granted: flags & GRANTED != 0, empty: flags & EMPTY != 0 })
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub const fn encoded_len(&self) -> usize {
        Self::LEN
    }

    /// Appends the answer.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(Self::LEN);
        buffer.put_u64_le(self.term.get());
        buffer.put_slice(self.peer.as_bytes());
        let granted = if self.granted { GRANTED } else { 0 };
        let empty = if self.empty { EMPTY } else { 0 };
        buffer.put_u8(granted | empty);
    }

    /// The answer in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(Self::LEN);
        self.encode(&mut buffer);
        buffer.freeze()
    }
}
