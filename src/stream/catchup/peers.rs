//! How far the followers that are being caught up lag, as their server knows it.

use alloc::collections::BTreeMap;

use crate::ids::PeerId;

/// The lag of each follower in a catchup, in messages.
#[derive(Debug, Default)]
pub struct CatchupPeers(BTreeMap<PeerId, u64>);

impl CatchupPeers {
    /// Records a peer's lag. Upstream: `setCatchupPeer`.
    pub fn set(&mut self, peer: PeerId, lag: u64) {
        self.0.insert(peer, lag);
    }

    /// One less. Upstream: `updateCatchupPeer`.
    pub fn step(&mut self, peer: PeerId) {
        self.decrement(peer, 1);
    }

    /// Many less, never below zero; nothing for a peer that is not caught up. Upstream:
    /// `decrementCatchupPeer`.
    pub fn decrement(&mut self, peer: PeerId, messages: u64) {
        if let Some(lag) = self.0.get_mut(&peer) {
            *lag = lag.saturating_sub(messages);
        }
    }

    /// Forgets one. Upstream: `clearCatchupPeer`.
    pub fn clear(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    /// Forgets all. Upstream: `clearAllCatchupPeers`.
    pub fn clear_all(&mut self) {
        self.0.clear();
    }

    /// A peer's lag; zero for one that is not caught up. Upstream: `lagForCatchupPeer`.
    pub fn lag(&self, peer: PeerId) -> u64 {
        self.0.get(&peer).copied().unwrap_or(0)
    }

    /// Whether any peer is caught up. Upstream: `hasCatchupPeers`.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_goes_down_to_zero_and_not_below() {
        let (one, two) = (PeerId::from_name("n1"), PeerId::from_name("n2"));
        let mut peers = CatchupPeers::default();
        assert!(!peers.any());
        peers.set(one, 10);
        peers.step(one);
        peers.decrement(one, 4);
        peers.decrement(two, 4);
        assert_eq!((peers.lag(one), peers.lag(two)), (5, 0));
        peers.decrement(one, u64::MAX);
        assert_eq!(peers.lag(one), 0);
        assert!(peers.any());
        peers.clear(one);
        assert!(!peers.any());
        peers.set(two, 1);
        peers.clear_all();
        assert!(!peers.any());
    }
}
