//! The snapshot file of a group, sealed with a hash.
//!
//! Upstream: `encodeSnapshot` and `loadLastSnapshot` in `server/raft.go`; little-endian: last
//! term, last index, length of the peer state, peer state, data, and the `HighwayHash-64` of all
//! before, keyed with the SHA-256 of the group's name.

use bytes::{Bytes, BytesMut};
use highway::{HighwayHash, HighwayHasher, Key};
use sha2::{Digest, Sha256};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;
use crate::ids::{GroupName, Index, Term};

pub(super) const FORMAT: &str = "raft_snapshot";
pub(super) const HASH: usize = 8;

/// The state of a group's log up to an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftSnapshot {
    /// The term of the last append entry that it stands for.
    pub last_term: Term,
    /// The index of that append entry. nats-server 2.9.12 could write zero, and later ones
    /// delete such a file; here it decodes, and means that nothing is covered.
    pub last_index: Index,
    /// The encoded [`PeerState`](super::PeerState).
    pub peer_state: Bytes,
    /// What the group's entries add up to; its owner knows the format.
    pub data: Bytes,
}

impl RaftSnapshot {
    /// Bytes of a snapshot with neither peers nor data.
    pub const LEN_MIN: usize = 8 + 8 + 4 + HASH;

    /// Checks the hash and reads the file. Takes no memory; costs one pass of hashing.
    ///
    /// # Errors
    /// [`WireError`] if the file is too short, the hash does not fit (a damaged file, or one of
    /// another group), or the peer state does not fit in.
    pub fn decode(file: &Bytes, group: &GroupName) -> Result<Self, WireError> {
        let error = |field, offset, fault| WireError { format: FORMAT, field, offset, fault };
        if file.len() < Self::LEN_MIN {
            let fault = Fault::Short { expected: Self::LEN_MIN as u64, found: file.len() };
            return Err(error("snapshot", 0, fault));
        }
        let end = file.len() - HASH;
        if hash(group, &file[..end]) != file[end..] {
            return Err(error("hash", end, Fault::Checksum));
        }
        let sealed = file.slice(..end);
        let mut reader = Reader::new(FORMAT, &sealed);
        let last_term = Term::new(reader.u64("last term")?);
        let last_index = Index::new(reader.u64("last index")?);
        let length = reader.u32("peer state length")?;
        let peer_state = reader.slice("peer state", u64::from(length))?;
        Ok(Self { last_term, last_index, peer_state, data: reader.rest() })
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        Self::LEN_MIN + self.peer_state.len() + self.data.len()
    }

    /// Appends the file, with its hash, which reads all that was appended once more.
    ///
    /// # Panics
    /// If the peer state is longer than 4 GiB, which no group's is.
    pub fn encode(&self, group: &GroupName, buffer: &mut impl Buffer) {
        let peer_state = u32::try_from(self.peer_state.len())
            .expect("a peer state has ten bytes and eight for each of its few members");
        let start = buffer.as_ref().len();
        buffer.reserve(self.encoded_len());
        buffer.put_u64_le(self.last_term.get());
        buffer.put_u64_le(self.last_index.get());
        buffer.put_u32_le(peer_state);
        buffer.extend_from_slice(&self.peer_state);
        buffer.extend_from_slice(&self.data);
        let seal = hash(group, &buffer.as_ref()[start..]);
        buffer.extend_from_slice(&seal);
    }

    /// The file in a buffer of its own.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    pub fn to_bytes(&self, group: &GroupName) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(group, &mut buffer);
        buffer.freeze()
    }
}

/// The hash of these bytes in a snapshot of this group.
fn hash(group: &GroupName, bytes: &[u8]) -> [u8; HASH] {
    HighwayHasher::new(key(group)).hash64(bytes).to_le_bytes()
}

/// The key of a group's hashes.
pub(super) fn key(group: &GroupName) -> Key {
    let digest = Sha256::digest(group.as_str().as_bytes());
    let mut key = [0; 4];
    for (lane, quarter) in key.iter_mut().zip(digest.as_chunks::<8>().0) {
        *lane = u64::from_le_bytes(*quarter);
    }
    Key(key)
}
