//! Three nodes in memory, of this project and of others, that commit the same entries.
//!
//! Messages are handed over at once and in order, writes are durable at once, and each node's
//! application is handed every entry that was decided. Ours makes the bytes of the wire itself, reads
//! them again, and answers each client. The others leave bytes to their users, so they are measured
//! twice: with messages that are passed on as they are, and with messages that go through bytes as
//! those between servers must.

pub mod ours;
pub mod theirs_omnipaxos;
pub mod theirs_raft;

use bytes::Bytes;

use ours::Handed;

/// Three nodes of one group, of which one leads.
pub trait Cluster {
    /// Elects a leader.
    fn new() -> Self;

    /// Proposes the payload so many times at the leader, then delivers messages until none is left.
    fn commit(&mut self, payload: &Bytes, batch: u64);

    /// What each node's application was handed.
    fn handed(&self) -> [Handed; 3];
}

impl Cluster for ours::ThreeNodes {
    fn new() -> Self {
        Self::new()
    }

    fn commit(&mut self, payload: &Bytes, batch: u64) {
        self.commit(payload, batch);
    }

    fn handed(&self) -> [Handed; 3] {
        self.handed()
    }
}
