//! [raft-rs](https://docs.rs/raft), with its own storage in memory.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use crate::Cluster;
use crate::ours::Handed;

/// Three nodes of it, whose messages are passed on as they are, or as bytes.
pub struct ThreeRaft<const BYTES: bool> {
    nodes: Vec<Server>,
    leader: usize,
    sent: Vec<Message>,
}

struct Server {
    node: RawNode<MemStorage>,
    handed: Handed,
}

const IDS: [u64; 3] = [1, 2, 3];

impl<const BYTES: bool> Cluster for ThreeRaft<BYTES> {
    fn new() -> Self {
        let logger = Logger::root(Discard, o!());
        let server = |id| {
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                // Entries proposed together travel together.
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 4096,
                batch_append: true,
                ..Config::default()
            };
            let members = ConfState::from((IDS.to_vec(), Vec::new()));
            let storage = MemStorage::new_with_conf_state(members);
            let node = RawNode::new(&config, storage, &logger);
            Server { node: node.expect("the configuration is sound"), handed: Handed::default() }
        };
        let nodes = IDS.map(server).into();
        let mut cluster = Self { nodes, leader: 0, sent: Vec::new() };
        cluster.nodes[0].node.campaign().expect("a new node may campaign");
        cluster.deliver();
        assert_eq!(cluster.nodes[0].node.raft.state, StateRole::Leader);
        cluster
    }

    fn commit(&mut self, payload: &Bytes, batch: u64) {
        let leader = &mut self.nodes[self.leader].node;
        for _ in 0..batch {
            let data = Bytes::copy_from_slice(payload);
            let mut message = Message::default();
            message.set_msg_type(raft::eraftpb::MessageType::MsgPropose);
            message.from = IDS[self.leader];
            message.mut_entries().push(Entry { data, ..Entry::default() });
            leader.raft.step(message).expect("the leader takes entries");
        }
        self.deliver();
    }

    fn handed(&self) -> [Handed; 3] {
        [0, 1, 2].map(|place: usize| self.nodes[place].handed)
    }
}

impl<const BYTES: bool> ThreeRaft<BYTES> {
    fn deliver(&mut self) {
        loop {
            for server in &mut self.nodes {
                while server.node.has_ready() {
                    server.advance(&mut self.sent);
                }
            }
            if self.sent.is_empty() {
                return;
            }
            for message in self.sent.drain(..) {
                let node = &mut self.nodes[message.to as usize - 1].node;
                let message = if BYTES { through_bytes(&message) } else { message };
                node.step(message).expect("messages of members are taken");
            }
        }
    }
}

/// As a network would carry it; the entries share the memory of the bytes.
fn through_bytes(message: &Message) -> Message {
    let bytes = Bytes::from(message.write_to_bytes().expect("messages can be encoded"));
    Message::parse_from_carllerche_bytes(&bytes).expect("they were encoded just now")
}

impl Server {
    /// The loop of its documentation: send, apply, store, send what rests on it, advance.
    fn advance(&mut self, sent: &mut Vec<Message>) {
        let mut ready = self.node.ready();
        sent.extend(ready.take_messages());
        let committed = ready.take_committed_entries();
        self.apply(&committed);
        let storage = self.node.raft.raft_log.store.clone();
        if !ready.entries().is_empty() {
            storage.wl().append(ready.entries()).expect("they join the log");
        }
        if let Some(state) = ready.hs() {
            storage.wl().set_hardstate(state.clone());
        }
        sent.extend(ready.take_persisted_messages());
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            storage.wl().mut_hard_state().set_commit(commit);
        }
        sent.extend(light.take_messages());
        let committed = light.take_committed_entries();
        self.apply(&committed);
        self.node.advance_apply();
    }

    fn apply(&mut self, committed: &[Entry]) {
        // A leader begins with an empty entry.
        let normal = committed.iter().filter(|entry| {
            entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty()
        });
        normal.for_each(|entry| self.handed.take(&entry.data));
    }
}
