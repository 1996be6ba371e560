//! The file in which a member keeps its term and its vote.
//!
//! Upstream: `writeTermVote` in `server/raft.go`, file `tav.idx`: the term, and the peer voted
//! for unless there was none.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::WireError;
use super::reader::Reader;
use crate::ids::{PeerId, Term};

/// A member's term, and whom it voted for in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermAndVote {
    /// The highest term seen.
    pub term: Term,
    /// Who has the vote of this term.
    pub vote: Option<PeerId>,
}

impl TermAndVote {
    /// Reads the file: 8 bytes without a vote, 16 with. Constant time, no memory.
    ///
    /// # Errors
    /// [`WireError`] at every other length (upstream takes a short file for term zero, which
    /// would let a member vote twice), and for a vote that nobody has.
    pub fn decode(file: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("term_and_vote", file);
        let term = Term::new(reader.u64("term")?);
        let vote = match reader.left() {
            0 => None,
            _ => Some(reader.somebody("vote")?),
        };
        reader.end()?;
        Ok(Self { term, vote })
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub const fn encoded_len(&self) -> usize {
        if self.vote.is_some() { 16 } else { 8 }
    }

    /// Appends the file.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len());
        buffer.put_u64_le(self.term.get());
        if let Some(vote) = &self.vote {
            buffer.put_slice(vote.as_bytes());
        }
    }

    /// The file in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }
}
