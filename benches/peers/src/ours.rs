//! Three nodes of this project whose messages arrive at once and whose writes are durable at once.
//! `benches/raft.rs` measures them too.

use std::collections::VecDeque;

use bytes::Bytes;
use jetwake::command::{Command, Destination};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Opened, Request};
use jetwake::ids::{GroupId, GroupName, PeerId, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::time::Time;

const GROUP: GroupId = GroupId(0);

/// Three nodes of one group.
pub struct ThreeNodes {
    nodes: Vec<Server>,
    now: Time,
    events: VecDeque<(usize, Event)>,
    answered: u64,
    leader: usize,
    requests: u64,
}

struct Server {
    peer: PeerId,
    node: Node,
    handed: Handed,
}

/// What a node's application was handed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// Decided entries, in order.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Handed {
    /// Takes the next entry.
    pub const fn take(&mut self, entry: &Bytes) {
        self.entries += 1;
        self.bytes += entry.len() as u64;
    }
}

impl ThreeNodes {
    /// Elects a leader.
    pub fn new() -> Self {
        let names = ["n1", "n2", "n3"];
        let group = GroupConfig {
            name: GroupName::new("G").expect("a letter is a name"),
            members: names.map(String::from).to_vec(),
            kind: GroupKind::Plain,
        };
        let server = |(seed, name): (u64, &&str)| {
            let config = Config {
                name: (*name).into(),
                domain: String::new(),
                seed,
                limits: Limits::default(),
                timers: Timers::default(),
                groups: vec![group.clone()],
            };
            let node = Node::new(config).expect("the configuration is sound");
            Server { peer: PeerId::from_name(name), node, handed: Handed::default() }
        };
        let nodes: Vec<_> = (1..).zip(&names).map(server).collect();
        let events = (0..3)
            .map(|node| (node, Event::Opened { group: GROUP, disk: Opened::default() }))
            .collect();
        let mut cluster =
            Self { nodes, now: Time::ZERO, events, answered: 0, leader: 0, requests: 0 };
        cluster.deliver();
        while !cluster.elected() {
            let deadlines = cluster.nodes.iter().enumerate();
            let (when, node) = deadlines
                .filter_map(|(place, server)| Some((server.node.deadline()?.0, place)))
                .min()
                .expect("an election is due");
            cluster.now = when;
            cluster.events.push_back((node, Event::DeadlineReached));
            cluster.deliver();
        }
        cluster
    }

    fn elected(&mut self) -> bool {
        let status = self.nodes[0].node.status(GROUP).expect("the group exists");
        let leads = |leader| self.nodes.iter().position(|server| server.peer == leader);
        let leader = status.leader.and_then(leads);
        self.leader = leader.unwrap_or(0);
        leader.is_some() && status.commit.get() > 0
    }

    /// Proposes the payload so many times at the leader, then delivers messages until none is left.
    pub fn commit(&mut self, payload: &Bytes, batch: u64) {
        for _ in 0..batch {
            self.requests += 1;
            let (subject, header) = (Bytes::new(), Bytes::new());
            let request =
                Request::Publish { subject, header, payload: Bytes::copy_from_slice(payload) };
            let event = Event::Request { id: RequestId::new(self.requests), group: GROUP, request };
            self.nodes[self.leader].node.handle(self.now, event);
        }
        self.deliver();
    }

    /// What each node's machine was handed.
    pub fn handed(&self) -> [Handed; 3] {
        [0, 1, 2].map(|place: usize| self.nodes[place].handed)
    }

    /// How many clients were told that theirs is committed.
    pub const fn answered(&self) -> u64 {
        self.answered
    }

    fn deliver(&mut self) {
        loop {
            for place in 0..self.nodes.len() {
                self.drain(place);
            }
            if self.events.is_empty() {
                return;
            }
            while let Some((place, event)) = self.events.pop_front() {
                self.nodes[place].node.handle(self.now, event);
            }
        }
    }

    fn deliver_to(&mut self, peer: PeerId, event: Event) {
        let place = self.nodes.iter().position(|server| server.peer == peer);
        self.events.push_back((place.expect("peers are the three"), event));
    }

    fn drain(&mut self, place: usize) {
        let mut written = None;
        while let Some(command) = self.nodes[place].node.poll() {
            match command {
                Command::Send { to: Destination::Peers(peers), subject, reply, payload } => {
                    let (from, peers) = (Some(self.nodes[place].peer), &*peers);
                    let (last, others) = peers.split_last().expect("somebody gets it");
                    for peer in others {
                        let (subject, reply, payload) =
                            (subject.clone(), reply.clone(), payload.clone());
                        self.deliver_to(*peer, Event::Received { from, subject, reply, payload });
                    }
                    self.deliver_to(*last, Event::Received { from, subject, reply, payload });
                }
                Command::Write { id, .. } => written = Some(id),
                Command::Answer { .. } => self.answered += 1,
                Command::Apply { entries, .. } => {
                    let handed = &mut self.nodes[place].handed;
                    entries.iter().for_each(|entry| handed.take(entry));
                }
                _ => {}
            }
        }
        if let Some(through) = written {
            self.events.push_back((place, Event::Written { through }));
        }
    }
}

impl Default for ThreeNodes {
    fn default() -> Self {
        Self::new()
    }
}
