//! A snapshot file that is written and read in parts, and never whole in memory.
//!
//! The same bytes as [`RaftSnapshot`](super::RaftSnapshot) has, with the hash as it goes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Bytes, BytesMut};

use super::error::{Fault, WireError};
use super::raft_snapshot::{FORMAT, HASH, RaftSnapshot, key};
use super::reader::Reader;
use crate::ids::{GroupName, Index, Term};
use crate::limits::Limits;
use highway::{HighwayHash, HighwayHasher};

/// Bytes before the peer state: term, index, and the peer state's length.
const FIXED: usize = 8 + 8 + 4;

/// The hash at the end of a snapshot file.
pub type SnapshotSeal = [u8; HASH];

/// The hash of a snapshot file, as its parts come.
pub struct SnapshotHash(Box<HighwayHasher>);

impl SnapshotHash {
    /// Of no bytes yet.
    pub fn new(group: &GroupName) -> Self {
        Self(Box::new(HighwayHasher::new(key(group))))
    }

    /// Takes in what follows.
    pub fn append(&mut self, bytes: &[u8]) {
        self.0.append(bytes);
    }

    /// What stands behind all that was taken in.
    pub fn seal(self) -> SnapshotSeal {
        self.0.finalize64().to_le_bytes()
    }
}

impl fmt::Debug for SnapshotHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotHash")
    }
}

/// What stands in a snapshot file before its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The term of the last append entry that it stands for.
    pub last_term: Term,
    /// The index of that append entry.
    pub last_index: Index,
    /// The encoded [`PeerState`](super::PeerState).
    pub peer_state: Bytes,
}

impl SnapshotHead {
    /// How many bytes [`to_bytes`](Self::to_bytes) gives.
    pub const fn encoded_len(&self) -> usize {
        FIXED + self.peer_state.len()
    }

    /// The beginning of the file.
    ///
    /// # Panics
    /// If the peer state is longer than 4 GiB, which no group's is.
    pub fn to_bytes(&self) -> Bytes {
        let peer_state = u32::try_from(self.peer_state.len())
            .expect("a peer state has ten bytes and eight for each of its few members");
        let mut bytes = BytesMut::with_capacity(self.encoded_len());
        bytes.extend_from_slice(&self.last_term.get().to_le_bytes());
        bytes.extend_from_slice(&self.last_index.get().to_le_bytes());
        bytes.extend_from_slice(&peer_state.to_le_bytes());
        bytes.extend_from_slice(&self.peer_state);
        bytes.freeze()
    }
}

/// Reads a snapshot file whose parts come one behind the other, and checks its hash with the last.
///
/// It keeps the head and the hash, and none of the data.
#[derive(Debug)]
pub struct SnapshotReader {
    length: u64,
    read: u64,
    /// Bytes of a peer state at most.
    most_peers: u64,
    beginning: BytesMut,
    head: Option<SnapshotHead>,
    hash: Option<SnapshotHash>,
    seal: Vec<u8>,
}

impl SnapshotReader {
    /// Before the first byte of a file of this length.
    ///
    /// # Errors
    /// [`WireError`] if it is too short for a snapshot.
    pub fn new(group: &GroupName, length: u64, limits: &Limits) -> Result<Self, WireError> {
        let expected = RaftSnapshot::LEN_MIN as u64;
        if length < expected {
            let found = usize::try_from(length).unwrap_or(0);
            return Err(error("snapshot", 0, Fault::Short { expected, found }));
        }
        Ok(Self {
            length,
            read: 0,
            most_peers: 10 + 8 * limits.members as u64,
            beginning: BytesMut::new(),
            head: None,
            hash: Some(SnapshotHash::new(group)),
            seal: Vec::new(),
        })
    }

    /// How many bytes of the file it was given: where the next part begins.
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// How many bytes the file has.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Whether it was given all parts.
    pub const fn is_whole(&self) -> bool {
        self.read == self.length
    }

    /// Takes the next part in, and gives back what is data in it: a slice. Nothing is verified
    /// before the last part was taken.
    ///
    /// # Errors
    /// [`WireError`] if the part is empty before the end or goes beyond it, or if the head cannot be
    /// read; and of the last part, if the hash does not fit: a damaged file, or one of another group.
    pub fn push(&mut self, part: &Bytes) -> Result<Bytes, WireError> {
        let (at, left) = (self.offset(), self.length - self.read);
        if part.is_empty() && left > 0 {
            return Err(error("data", at, Fault::Short { expected: left, found: 0 }));
        }
        let bytes = part.len() as u64;
        if bytes > left {
            let more = usize::try_from(bytes - left).unwrap_or(usize::MAX);
            return Err(error("data", at, Fault::Trailing(more)));
        }
        let sealed = self.length - HASH as u64;
        let sealed = sealed.saturating_sub(self.read).min(bytes);
        // No more than the part has.
        let mut data = part.clone();
        let seal = data.split_off(sealed as usize);
        if let Some(hash) = &mut self.hash {
            hash.append(&data);
        }
        self.seal.extend_from_slice(&seal);
        self.read += bytes;
        while self.head.is_none() {
            if !self.take_beginning(&mut data)? {
                return Ok(Bytes::new());
            }
        }
        if self.is_whole() && self.hash.take().is_some_and(|hash| hash.seal()[..] != self.seal) {
            let at = self.offset().saturating_sub(HASH);
            return Err(error("hash", at, Fault::Checksum));
        }
        Ok(data)
    }

    /// Whether there is anything to go on with.
    fn take_beginning(&mut self, data: &mut Bytes) -> Result<bool, WireError> {
        let peers = match self.beginning.first_chunk::<FIXED>() {
            None => 0,
            Some([.., a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        };
        let whole = FIXED + peers;
        let take = (whole - self.beginning.len()).min(data.len());
        self.beginning.extend_from_slice(&data.split_to(take));
        if self.beginning.len() < whole {
            return Ok(false);
        }
        if let Some([.., a, b, c, d]) = self.beginning.first_chunk::<FIXED>()
            && self.beginning.len() == FIXED
        {
            let found = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
            let room = self.length - RaftSnapshot::LEN_MIN as u64;
            let limit = room.min(self.most_peers);
            if found > limit {
                let fault = Fault::TooLarge { limit, found };
                return Err(error("peer state length", FIXED - 4, fault));
            }
            if found > 0 {
                return Ok(true);
            }
        }
        let beginning = core::mem::take(&mut self.beginning).freeze();
        let mut reader = Reader::new(FORMAT, &beginning);
        self.head = Some(SnapshotHead {
            last_term: Term::new(reader.u64("last term")?),
            last_index: Index::new(reader.u64("last index")?),
            peer_state: beginning.slice(FIXED..),
        });
        Ok(true)
    }

    /// What the file begins and ends with.
    ///
    /// # Errors
    /// [`WireError`] if parts are missing.
    pub fn finish(self) -> Result<(SnapshotHead, SnapshotSeal), WireError> {
        let at = self.offset();
        match (self.head, SnapshotSeal::try_from(&self.seal[..])) {
            (Some(head), Ok(seal)) => Ok((head, seal)),
            _ => {
                let expected = self.length - self.read;
                Err(error("data", at, Fault::Short { expected, found: 0 }))
            }
        }
    }

    fn offset(&self) -> usize {
        usize::try_from(self.read).unwrap_or(usize::MAX)
    }
}

const fn error(field: &'static str, offset: usize, fault: Fault) -> WireError {
    WireError { format: FORMAT, field, offset, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupName {
        GroupName::new("G").unwrap()
    }

    fn file(peers: usize, data: usize) -> (RaftSnapshot, Bytes) {
        let bytes = |length: usize| (0..length).map(|at| (at * 7) as u8).collect::<Vec<u8>>();
        let snapshot = RaftSnapshot {
            last_term: Term::new(3),
            last_index: Index::new(9),
            peer_state: bytes(peers).into(),
            data: bytes(data).into(),
        };
        let file = snapshot.to_bytes(&group());
        (snapshot, file)
    }

    type Read = (Vec<u8>, SnapshotHead, SnapshotSeal);

    fn read(file: &Bytes, part: usize) -> Result<Read, WireError> {
        let mut reader = SnapshotReader::new(&group(), file.len() as u64, &Limits::default())?;
        let mut data = Vec::new();
        for part in file.chunks(part) {
            data.extend_from_slice(&reader.push(&Bytes::copy_from_slice(part))?);
        }
        let (head, seal) = reader.finish()?;
        Ok((data, head, seal))
    }

    #[test]
    fn parts_of_any_size_give_what_the_whole_file_holds() {
        for (peers, data) in [(0, 0), (0, 1), (26, 0), (26, 100), (34, 1000)] {
            let (snapshot, file) = file(peers, data);
            for part in [1, 2, 7, 8, 19, 20, 21, 64, 4096] {
                let (data, head, seal) = read(&file, part).unwrap();
                assert_eq!(data, snapshot.data, "{part}");
                assert_eq!(seal[..], file[file.len() - HASH..]);
                assert_eq!(head.to_bytes(), file[..head.encoded_len()]);
                assert_eq!(head.peer_state, snapshot.peer_state);
            }
        }
    }

    #[test]
    fn any_bit_that_flips_is_found() {
        let (_, file) = file(26, 60);
        for at in 0..file.len() {
            let mut spoilt = file.to_vec();
            spoilt[at] ^= 0x10;
            assert!(read(&spoilt.into(), 16).is_err(), "byte {at}");
        }
    }

    #[test]
    fn parts_that_are_missing_or_too_many_are_found() {
        let (_, file) = file(26, 60);
        let limits = Limits::default();
        let start = || SnapshotReader::new(&group(), file.len() as u64, &limits).unwrap();
        let mut reader = start();
        reader.push(&file.slice(..40)).unwrap();
        assert!(matches!(reader.push(&Bytes::new()).unwrap_err().fault, Fault::Short { .. }));
        let beyond = reader.push(&file).unwrap_err();
        assert_eq!(beyond.fault, Fault::Trailing(40));
        assert!(reader.finish().is_err());
        assert!(start().finish().is_err());
        assert!(SnapshotReader::new(&group(), 27, &limits).is_err());
    }

    #[test]
    fn a_peer_state_that_claims_too_much_takes_no_memory() {
        let (_, file) = file(26, 60);
        let mut spoilt = file.to_vec();
        spoilt[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = read(&spoilt.into(), 16).unwrap_err();
        assert_eq!(error.fault, Fault::TooLarge { limit: 86, found: u64::from(u32::MAX) });
    }
}
