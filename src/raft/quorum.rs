//! Majorities: who is a member, how many make a quorum, and what a quorum has.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::ids::{Index, PeerId};
use crate::wire::PeerState;

/// So many members of a group are counted without taking memory.
const FEW: usize = 8;

/// The members of a group and the size that its quorum is counted from.
///
/// The size may be larger than the members that are known: a group that is being made waits for
/// members whose names it has not heard (upstream keeps the two apart as well).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    peers: BTreeSet<PeerId>,
    size: usize,
}

impl Members {
    /// A group of exactly these.
    pub fn new(peers: impl IntoIterator<Item = PeerId>) -> Self {
        let peers: BTreeSet<_> = peers.into_iter().collect();
        let size = peers.len();
        Self { peers, size }
    }

    /// The group that a peer state describes.
    pub fn from_peer_state(state: &PeerState) -> Self {
        let peers: BTreeSet<_> = state.peers.iter().copied().collect();
        let size = peers.len().max(usize::try_from(state.cluster_size).unwrap_or(usize::MAX));
        Self { peers, size }
    }

    /// With one more; a size that was larger than the members that are known stays.
    #[must_use]
    pub fn with(&self, peer: PeerId) -> Self {
        let mut peers = self.peers.clone();
        peers.insert(peer);
        let size = self.size.max(peers.len());
        Self { peers, size }
    }

    /// With one less, if it was a member.
    #[must_use]
    pub fn without(&self, peer: PeerId) -> Self {
        let mut peers = self.peers.clone();
        let size = if peers.remove(&peer) { self.size - 1 } else { self.size };
        Self { peers, size }
    }

    /// Whether this peer belongs to the group.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains(peer)
    }

    /// All members, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.iter().copied()
    }

    /// The size that the quorum is counted from.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many make a majority.
    pub const fn quorum(&self) -> usize {
        self.size / 2 + 1
    }

    /// The highest index that a quorum has, when `matched` tells what each member has.
    ///
    /// Costs a sort of the members, and no memory for those of a common group.
    pub fn agreed(&self, matched: impl Fn(PeerId) -> Index) -> Index {
        let mut few = [Index::ZERO; FEW];
        let mut many = Vec::new();
        let indexes = match few.get_mut(..self.peers.len()) {
            Some(few) => few,
            None => {
                many.resize(self.peers.len(), Index::ZERO);
                &mut many[..]
            }
        };
        for (index, peer) in indexes.iter_mut().zip(self.iter()) {
            *index = matched(peer);
        }
        indexes.sort_unstable_by(|a, b| b.cmp(a));
        indexes.get(self.quorum() - 1).copied().unwrap_or(Index::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(indexes: &[u64]) -> u64 {
        let name = |place: usize| PeerId::from_name(&alloc::format!("n{place}"));
        let members = Members::new((0..indexes.len()).map(name));
        let matched = |peer| {
            let place = (0..indexes.len()).find(|place| name(*place) == peer);
            Index::new(indexes[place.expect("each peer was made from a place")])
        };
        members.agreed(matched).get()
    }

    #[test]
    fn a_majority_must_have_it() {
        assert_eq!(agreed(&[7]), 7);
        assert_eq!(agreed(&[7, 3]), 3);
        assert_eq!(agreed(&[7, 3, 5]), 5);
        assert_eq!(agreed(&[9, 8, 2, 1]), 2);
        assert_eq!(agreed(&[9, 8, 6, 1, 1]), 6);
    }

    #[test]
    fn members_that_were_never_heard_count_against_the_quorum() {
        let state = PeerState {
            cluster_size: 5,
            peers: ["a", "b"].map(PeerId::from_name).to_vec(),
            domain: Default::default(),
        };
        let members = Members::from_peer_state(&state);
        assert_eq!(members.quorum(), 3);
        assert_eq!(members.agreed(|_| Index::new(4)), Index::ZERO);
    }
}
