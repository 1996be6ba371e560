//! Entries a second that one group of three nodes commits in memory: no sockets, no disk.
//!
//! `cargo bench --bench raft`

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jetwake::command::{Command, Destination};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Opened, Request};
use jetwake::ids::{GroupId, GroupName, PeerId, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::time::Time;

const GROUP: GroupId = GroupId(0);

/// Three nodes whose messages arrive at once and whose writes are durable at once.
struct Cluster {
    nodes: Vec<(PeerId, Node)>,
    now: Time,
    events: VecDeque<(usize, Event)>,
    answered: u64,
    leader: usize,
    requests: u64,
}

impl Cluster {
    fn new() -> Self {
        let names = ["n1", "n2", "n3"];
        let group = GroupConfig {
            name: GroupName::new("G").expect("a letter is a name"),
            members: names.map(String::from).to_vec(),
            kind: GroupKind::Plain,
        };
        let node = |(seed, name): (u64, &&str)| {
            let config = Config {
                name: (*name).into(),
                seed,
                limits: Limits::default(),
                timers: Timers::default(),
                groups: vec![group.clone()],
            };
            (PeerId::from_name(name), Node::new(config).expect("the configuration is sound"))
        };
        let nodes: Vec<_> = (1..).zip(&names).map(node).collect();
        let events = (0..3)
            .map(|node| (node, Event::Opened { group: GROUP, disk: Opened::default() }))
            .collect();
        let mut cluster =
            Self { nodes, now: Time::ZERO, events, answered: 0, leader: 0, requests: 0 };
        cluster.run();
        while !cluster.elected() {
            let deadlines = cluster.nodes.iter().enumerate();
            let (when, node) = deadlines
                .filter_map(|(place, (_, node))| Some((node.deadline()?.0, place)))
                .min()
                .expect("an election is due");
            cluster.now = when;
            cluster.events.push_back((node, Event::DeadlineReached));
            cluster.run();
        }
        cluster
    }

    fn elected(&mut self) -> bool {
        let status = self.nodes[0].1.status(GROUP).expect("the group exists");
        let leader =
            status.leader.and_then(|leader| self.nodes.iter().position(|(p, _)| *p == leader));
        self.leader = leader.unwrap_or(0);
        let ready = status.commit.get() > 0;
        leader.is_some() && ready
    }

    fn propose(&mut self, payload: &Bytes, count: u64) {
        for _ in 0..count {
            self.requests += 1;
            let request = Request::Publish {
                subject: Bytes::new(),
                header: Bytes::new(),
                payload: payload.clone(),
            };
            let id = RequestId::new(self.requests);
            self.nodes[self.leader]
                .1
                .handle(self.now, Event::Request { id, group: GROUP, request });
        }
    }

    fn run(&mut self) {
        loop {
            for place in 0..self.nodes.len() {
                self.drain(place);
            }
            if self.events.is_empty() {
                return;
            }
            while let Some((node, event)) = self.events.pop_front() {
                self.nodes[node].1.handle(self.now, event);
            }
        }
    }

    fn drain(&mut self, place: usize) {
        let mut written = None;
        while let Some(command) = self.nodes[place].1.poll() {
            match command {
                Command::Send { to: Destination::Peers(peers), subject, reply, payload } => {
                    for peer in peers.iter() {
                        let to = self.nodes.iter().position(|(id, _)| id == peer);
                        let event = Event::Received {
                            from: Some(self.nodes[place].0),
                            subject: subject.clone(),
                            reply: reply.clone(),
                            payload: payload.clone(),
                        };
                        self.events.push_back((to.expect("peers are the three"), event));
                    }
                }
                Command::Write { id, .. } => written = Some(id),
                Command::Answer { .. } => self.answered += 1,
                _ => {}
            }
        }
        if let Some(through) = written {
            self.events.push_back((place, Event::Written { through }));
        }
    }
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("three nodes commit");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for size in [16, 128, 1024] {
        for batch in [1, 64, 1024] {
            let payload = Bytes::from(vec![7; size]);
            let rounds = 4096 / batch;
            group.throughput(Throughput::Elements(rounds * batch));
            let id = BenchmarkId::new(format!("{size} B"), format!("batch {batch}"));
            group.bench_function(id, |bencher| {
                bencher.iter_batched_ref(
                    Cluster::new,
                    |cluster| {
                        for _ in 0..rounds {
                            cluster.propose(&payload, batch);
                            cluster.run();
                        }
                        assert_eq!(cluster.answered, rounds * batch);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
