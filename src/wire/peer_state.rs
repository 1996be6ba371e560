//! Who belongs to a group.
//!
//! Upstream: `peerState` in `server/raft.go`; little-endian: cluster size, count, peers, and
//! the state of the JetStream domain, which old servers leave out.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;
use crate::ids::PeerId;
use crate::limits::Limits;

const FORMAT: &str = "peer_state";

/// Whether a group's JetStream domain reaches over leaf nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainState {
    /// Not found out yet.
    #[default]
    Undetermined,
    /// It does.
    Extended,
    /// It does not.
    NotExtended,
    /// A state of a newer server, kept so that it can be passed on.
    Unknown(u16),
}

impl DomainState {
    /// The state of this number.
    pub const fn from_u16(number: u16) -> Self {
        match number {
            0 => Self::Undetermined,
            1 => Self::Extended,
            2 => Self::NotExtended,
            unknown => Self::Unknown(unknown),
        }
    }

    /// The number of this state.
    pub const fn as_u16(self) -> u16 {
        match self {
            Self::Undetermined => 0,
            Self::Extended => 1,
            Self::NotExtended => 2,
            Self::Unknown(number) => number,
        }
    }
}

/// The members of a group, and how many there should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// How many members the group is made for: its quorum follows from this. More than are
    /// named is usual while a group forms; fewer is accepted too, as upstream does.
    pub cluster_size: u32,
    /// The members, each once.
    pub peers: Vec<PeerId>,
    /// The state of the JetStream domain.
    pub domain: DomainState,
}

impl PeerState {
    /// Reads a peer state. Takes eight bytes of memory a peer, at most `limits.members` of them.
    ///
    /// An omitted domain is undetermined, and is written when the state is encoded again.
    ///
    /// # Errors
    /// [`WireError`] if the bytes do not fit the count, there are more peers than allowed, a
    /// peer is nobody or named twice (upstream counts such a peer twice), or bytes are left.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let mut reader = Reader::new(FORMAT, bytes);
        let cluster_size = reader.u32("cluster size")?;
        let count = u64::from(reader.u32("count")?);
        let limit = limits.members as u64;
        if count > limit {
            return Err(reader.error("count", Fault::TooLarge { limit, found: count }));
        }
        let expected = count * 8;
        if expected > reader.left() as u64 {
            return Err(reader.error("peers", Fault::Short { expected, found: reader.left() }));
        }
        let mut peers = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let peer = reader.somebody("peers")?;
            if peers.contains(&peer) {
                return Err(reader.error("peers", Fault::Text("each peer once")));
            }
            peers.push(peer);
        }
        let domain = match reader.left() {
            0 => DomainState::Undetermined,
            _ => DomainState::from_u16(reader.u16("domain")?),
        };
        reader.end()?;
        Ok(Self { cluster_size, peers, domain })
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        4 + 4 + 8 * self.peers.len() + 2
    }

    /// Appends the state.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len());
        buffer.put_u32_le(self.cluster_size);
        // No machine holds 32 GiB of peers.
        buffer.put_u32_le(self.peers.len() as u32);
        for peer in &self.peers {
            buffer.put_slice(peer.as_bytes());
        }
        buffer.put_u16_le(self.domain.as_u16());
    }

    /// The state in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }
}
