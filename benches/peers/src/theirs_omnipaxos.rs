//! [omnipaxos](https://docs.rs/omnipaxos), with its own storage in memory.

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::{LogEntry, NodeId};
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use serde::{Deserialize, Serialize};

use crate::Cluster;
use crate::ours::Handed;

/// A copy of it costs no copy of the bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payload(Bytes);

impl Entry for Payload {
    type Snapshot = NoSnapshot;
}

/// Three nodes of it, whose messages are passed on as they are, or as bytes.
pub struct ThreeOmniPaxos<const BYTES: bool> {
    nodes: Vec<Server>,
    leader: usize,
    outgoing: Vec<Message<Payload>>,
}

struct Server {
    node: OmniPaxos<Payload, MemoryStorage<Payload>>,
    read: usize,
    handed: Handed,
}

const IDS: [NodeId; 3] = [1, 2, 3];

/// Ticks until a leader must have been elected; one round of heartbeats is 100.
const PATIENCE: usize = 10_000;

impl<const BYTES: bool> Cluster for ThreeOmniPaxos<BYTES> {
    fn new() -> Self {
        let server = |pid: NodeId| {
            let group =
                ClusterConfig { configuration_id: 1, nodes: IDS.to_vec(), flexible_quorum: None };
            let server = ServerConfig { pid, ..ServerConfig::default() };
            let node = group.build_for_server(server, MemoryStorage::default());
            Server {
                node: node.expect("the configuration is sound"),
                read: 0,
                handed: Handed::default(),
            }
        };
        let nodes = IDS.map(server).into();
        let mut cluster = Self { nodes, leader: 0, outgoing: Vec::new() };
        for _ in 0..PATIENCE {
            for server in &mut cluster.nodes {
                server.node.tick();
            }
            cluster.deliver();
            if let Some((leader, true)) = cluster.nodes[0].node.get_current_leader() {
                cluster.leader = place(leader);
                return cluster;
            }
        }
        panic!("no leader after {PATIENCE} ticks");
    }

    fn commit(&mut self, payload: &Bytes, batch: u64) {
        let leader = &mut self.nodes[self.leader].node;
        for _ in 0..batch {
            leader
                .append(Payload(Bytes::copy_from_slice(payload)))
                .expect("the leader takes entries");
        }
        self.deliver();
    }

    fn handed(&self) -> [Handed; 3] {
        [0, 1, 2].map(|place: usize| self.nodes[place].handed)
    }
}

impl<const BYTES: bool> ThreeOmniPaxos<BYTES> {
    fn deliver(&mut self) {
        loop {
            for server in &mut self.nodes {
                server.node.take_outgoing_messages(&mut self.outgoing);
            }
            if self.outgoing.is_empty() {
                return;
            }
            for message in self.outgoing.drain(..) {
                let node = &mut self.nodes[place(message.get_receiver())].node;
                node.handle_incoming(if BYTES { through_bytes(&message) } else { message });
            }
            for server in &mut self.nodes {
                server.apply();
            }
        }
    }
}

impl Server {
    fn apply(&mut self) {
        if self.node.get_decided_idx() == self.read {
            return;
        }
        for entry in self.node.read_decided_suffix(self.read).unwrap_or_default() {
            self.read += 1;
            if let LogEntry::Decided(payload) = entry {
                self.handed.take(&payload.0);
            }
        }
    }
}

/// As a network would carry it.
fn through_bytes(message: &Message<Payload>) -> Message<Payload> {
    let bytes = postcard::to_allocvec(message).expect("messages can be encoded");
    postcard::from_bytes(&bytes).expect("they were encoded just now")
}

const fn place(node: NodeId) -> usize {
    node as usize - 1
}
