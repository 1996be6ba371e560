//! A snapshot on its way in parts, between nodes of this kind: NATS has no format for that.
//!
//! A message is the magic, a version, the length of its body and a checksum of version, length and
//! body; then the body: a postcard value, and behind it the bytes of a part. The magic begins with a
//! byte that no append entry begins with, since those begin with a server's name.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::error::{Fault, WireError};
use super::raft_snapshot_parts::SnapshotSeal;
use crate::ids::{Index, PeerId, Term};

const FORMAT: &str = "snapshot_transfer";
/// The first bytes of every such message.
const MAGIC: [u8; 4] = *b"\xffjts";
/// The one version there is.
const VERSION: u8 = 1;
/// Magic, version, length of the body, checksum; the last two little-endian.
const HEADER: usize = 4 + 1 + 4 + 4;

/// Which snapshot file: one that is told from any other by what it ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The last record that it covers.
    pub index: Index,
    /// The term of that record.
    pub term: Term,
    /// How many bytes the file has.
    pub length: u64,
    /// Its hash.
    pub seal: SnapshotSeal,
}

/// A message about a snapshot in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotTransfer {
    /// Who sends it.
    pub sender: PeerId,
    /// In which term: one of another term counts for nothing.
    pub term: Term,
    /// Of which file it speaks.
    pub snapshot: SnapshotId,
    /// What it says.
    pub says: TransferSays,
}

/// What a message about a snapshot says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferSays {
    /// A leader: this is what you lack; ask for parts of so many bytes at most.
    Offer {
        /// Bytes.
        part: u64,
    },
    /// A follower: send me these bytes of the file. None are asked for to say that it goes on.
    Ask {
        /// The first of them.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// A leader: bytes of the file.
    Part {
        /// Where the first of them stands.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
}

/// What stands in postcard.
#[derive(Serialize, Deserialize)]
struct Head {
    sender: PeerId,
    term: Term,
    snapshot: SnapshotId,
    says: Says,
}

#[derive(Serialize, Deserialize)]
enum Says {
    Offer {
        part: u64,
    },
    Ask {
        offset: u64,
        bytes: u64,
    },
    /// The rest of the body are the bytes.
    Part {
        offset: u64,
    },
}

impl SnapshotTransfer {
    /// Whether these bytes are such a message, or a damaged one.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// The message in a buffer of its own.
    ///
    /// # Panics
    /// If a part is longer than 4 GiB.
    pub fn to_bytes(&self) -> Bytes {
        let (says, part) = match &self.says {
            TransferSays::Offer { part } => (Says::Offer { part: *part }, None),
            TransferSays::Ask { offset, bytes } => {
                (Says::Ask { offset: *offset, bytes: *bytes }, None)
            }
            TransferSays::Part { offset, bytes } => (Says::Part { offset: *offset }, Some(bytes)),
        };
        let Self { sender, term, snapshot, .. } = *self;
        // Vectors grow and none of our types can fail to serialize: no error is left.
        let head =
            postcard::to_allocvec(&Head { sender, term, snapshot, says }).unwrap_or_default();
        let part = part.map_or(&[][..], |part| part);
        let length = u32::try_from(head.len() + part.len()).expect("a part fits into a message");
        let mut message = BytesMut::with_capacity(HEADER + head.len() + part.len());
        message.extend_from_slice(&MAGIC);
        message.extend_from_slice(&[VERSION]);
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&checksum(length, &head, part).to_le_bytes());
        message.extend_from_slice(&head);
        message.extend_from_slice(part);
        message.freeze()
    }

    /// Reads a message; the bytes of a part are a slice of it.
    ///
    /// # Errors
    /// [`WireError`] if it is not one, of another version, or damaged.
    pub fn decode(message: &Bytes) -> Result<Self, WireError> {
        let error = |field, offset, fault| WireError { format: FORMAT, field, offset, fault };
        let Some(([a, b, c, d, version, l0, l1, l2, l3, c0, c1, c2, c3], body)) =
            message.split_first_chunk::<HEADER>()
        else {
            let fault = Fault::Short { expected: HEADER as u64, found: message.len() };
            return Err(error("header", 0, fault));
        };
        if [*a, *b, *c, *d] != MAGIC {
            return Err(error("magic", 0, Fault::Text("a message about a snapshot")));
        }
        if *version != VERSION {
            let fault = Fault::Value { expected: "version 1", found: u64::from(*version) };
            return Err(error("version", 4, fault));
        }
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]);
        if length as usize != body.len() {
            let fault = Fault::Short { expected: u64::from(length), found: body.len() };
            return Err(error("length", 5, fault));
        }
        if checksum(length, body, &[]) != u32::from_le_bytes([*c0, *c1, *c2, *c3]) {
            return Err(error("checksum", 9, Fault::Checksum));
        }
        let (head, part) = postcard::take_from_bytes::<Head>(body)
            .map_err(|_| error("body", HEADER, Fault::Text("what the version says")))?;
        let part = message.slice(message.len() - part.len()..);
        let says = match head.says {
            Says::Part { offset } => TransferSays::Part { offset, bytes: part },
            _ if !part.is_empty() => {
                return Err(error("body", message.len() - part.len(), Fault::Trailing(part.len())));
            }
            Says::Offer { part } => TransferSays::Offer { part },
            Says::Ask { offset, bytes } => TransferSays::Ask { offset, bytes },
        };
        let Head { sender, term, snapshot, .. } = head;
        Ok(Self { sender, term, snapshot, says })
    }
}

fn checksum(length: u32, head: &[u8], part: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[VERSION]);
    sum.update(&length.to_le_bytes());
    sum.update(head);
    sum.update(part);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> [SnapshotTransfer; 3] {
        let snapshot = SnapshotId {
            index: Index::new(1 << 40),
            term: Term::new(7),
            length: 10 << 30,
            seal: *b"12345678",
        };
        [
            TransferSays::Offer { part: 1 << 20 },
            TransferSays::Ask { offset: 5 << 30, bytes: 1 << 20 },
            TransferSays::Part { offset: 5 << 30, bytes: Bytes::from_static(b"some bytes") },
        ]
        .map(|says| {
            let sender = PeerId::from_name("n1");
            SnapshotTransfer { sender, term: Term::new(9), snapshot, says }
        })
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for message in messages() {
            let bytes = message.to_bytes();
            assert!(SnapshotTransfer::is_one(&bytes));
            assert_eq!(SnapshotTransfer::decode(&bytes), Ok(message));
        }
    }

    #[test]
    fn any_bit_that_flips_and_any_byte_that_lacks_is_found() {
        for message in messages() {
            let bytes = message.to_bytes();
            for at in 0..bytes.len() {
                let mut spoilt = bytes.to_vec();
                spoilt[at] ^= 4;
                assert!(SnapshotTransfer::decode(&spoilt.into()).is_err(), "byte {at}");
                assert!(SnapshotTransfer::decode(&bytes.slice(..at)).is_err(), "{at} bytes");
            }
        }
    }
}
