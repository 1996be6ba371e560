//! What idle groups cost: the heartbeats of all groups between two nodes leave in one turn, which
//! a driver sends as one frame, and so do the answers to them.

use std::collections::BTreeMap;

use jetwake::command::{Command, Destination};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Opened};
use jetwake::ids::{GroupId, GroupName, PeerId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::time::{Duration, Time};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
const GROUPS: u32 = 300;
const DELAY: Duration = Duration::from_millis(1);

/// Nodes that take all that is ready in one turn, as the driver does, and whose writes are durable
/// at once.
struct Cluster {
    nodes: Vec<Node>,
    now: Time,
    /// By the time of arrival and the node.
    ready: BTreeMap<(Time, usize), Vec<Event>>,
    /// From whom to whom: turns with a message, and messages.
    sent: BTreeMap<(usize, usize), (u64, u64)>,
}

impl Cluster {
    fn new() -> Self {
        let group = |number: u32| GroupConfig {
            name: GroupName::new(format!("G{number}")).expect("letters and digits are a name"),
            members: NAMES.map(String::from).to_vec(),
            kind: GroupKind::Plain,
        };
        let groups: Vec<_> = (0..GROUPS).map(group).collect();
        let node = |(seed, name): (u64, &&str)| {
            let config = Config {
                name: (*name).into(),
                domain: String::new(),
                seed,
                limits: Limits::default(),
                timers: Timers::default(),
                groups: groups.clone(),
            };
            Node::new(config).expect("the configuration is sound")
        };
        let nodes = (1..).zip(&NAMES).map(node).collect();
        let opened = |group| Event::Opened { group: GroupId(group), disk: Opened::default() };
        let ready = (0..NAMES.len())
            .map(|place| ((Time::ZERO, place), (0..GROUPS).map(opened).collect()))
            .collect();
        Self { nodes, now: Time::ZERO, ready, sent: BTreeMap::new() }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let deadlines = self.nodes.iter().enumerate();
            let due = deadlines.filter_map(|(place, node)| Some((node.deadline()?.0, place))).min();
            let arrival = self.ready.keys().next().copied();
            let Some((when, place)) = due.into_iter().chain(arrival).min() else { return };
            if when > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(when);
            let mut events = self.ready.remove(&(when, place)).unwrap_or_default();
            events.push(Event::DeadlineReached);
            self.turn(place, events);
        }
    }

    fn turn(&mut self, place: usize, events: Vec<Event>) {
        let mut messages = [0; NAMES.len()];
        for event in events {
            self.nodes[place].handle(self.now, event);
        }
        while let Some(command) = self.nodes[place].poll() {
            match command {
                Command::Send { to: Destination::Peers(peers), subject, reply, payload } => {
                    for peer in peers.iter() {
                        let to = NAMES.iter().position(|name| PeerId::from_name(name) == *peer);
                        let to = to.expect("peers are the three");
                        messages[to] += 1;
                        let event = Event::Received {
                            from: Some(PeerId::from_name(NAMES[place])),
                            subject: subject.clone(),
                            reply: reply.clone(),
                            payload: payload.clone(),
                        };
                        self.ready.entry((self.now + DELAY, to)).or_default().push(event);
                    }
                }
                Command::Write { id, .. } => {
                    self.nodes[place].handle(self.now, Event::Written { through: id });
                }
                _ => {}
            }
        }
        for (to, count) in messages.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let (turns, sent) = self.sent.entry((place, to)).or_default();
            *turns += 1;
            *sent += count;
        }
    }
}

#[test]
fn idle_groups_share_their_heartbeats() {
    let mut cluster = Cluster::new();
    cluster.run_for(Duration::from_secs(30));
    for group in (0..GROUPS).map(GroupId) {
        let status = cluster.nodes[0].status(group).expect("the group exists");
        assert!(status.leader.is_some(), "group {group:?} has no leader");
    }
    cluster.sent.clear();
    let beats = 20;
    cluster.run_for(Timers::default().heartbeat * u32::try_from(beats).expect("twenty is small"));
    let messages: u64 = cluster.sent.values().map(|(_, messages)| messages).sum();
    let heartbeats = u64::from(GROUPS) * 2 * beats;
    assert!(messages >= heartbeats, "{messages} messages, of {heartbeats} heartbeats or more");
    for (pair, (turns, messages)) in &cluster.sent {
        assert!(*turns <= 2 * beats, "{pair:?}: {messages} messages left in {turns} turns");
    }
}
