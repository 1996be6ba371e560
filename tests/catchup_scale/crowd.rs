//! A thousand streams catch up at once: one server lost its disk, and another serves all of them
//! within its budget, over a link that takes longer for that than a follower waits for its first message.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jetwake::command::{Command, Destination, LogChange, Report, StoreChange};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Opened, Request, StoreMark};
use jetwake::ids::{GroupId, GroupName, Index, PeerId, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::random::Random;
use jetwake::time::{Duration, Time};
use jetwake::wire::{StreamMessage, StreamMessageView};
use jetwake_sim::log::Log;
use jetwake_sim::store::Store;

use crate::replica::config;

const NAMES: [&str; 2] = ["n1", "n2"];
const STREAMS: u32 = 1000;
/// Messages of each stream, and bytes of each.
const MESSAGES: u64 = 8;
const PAYLOAD: usize = 8000;
/// How long a message is on its way, and bytes that the link carries each second.
const DELAY: Duration = Duration::from_millis(1);
const BANDWIDTH: u64 = 128 << 20;
/// How long a read or a sync takes.
const DISK: Duration = Duration::from_millis(1);

/// A server with its disk.
struct Server {
    node: Node,
    me: PeerId,
    disks: Vec<(Log, Store)>,
    /// When the link to the other is free again.
    link_free: Time,
    answers: u64,
    /// What its followers say who did not get what they asked for in time.
    retries: Vec<String>,
    /// The most bytes that its catchups had in flight.
    most: u64,
}

impl Server {
    fn new(name: &str) -> Self {
        let group = |number: u32| GroupConfig {
            name: GroupName::new(format!("S-R2F-{number:08}")).expect("letters and digits"),
            members: NAMES.map(String::from).to_vec(),
            kind: GroupKind::Stream(config()),
        };
        let mut timers = Timers::default();
        if name == NAMES[1] {
            // It never leads.
            timers.election_min *= 100;
            timers.election_max *= 100;
        }
        let config = Config {
            name: name.into(),
            domain: String::new(),
            seed: u64::from(name.as_bytes()[1]),
            limits: Limits::default(),
            timers,
            groups: (0..STREAMS).map(group).collect(),
        };
        Self {
            node: Node::new(config).expect("it works"),
            me: PeerId::from_name(name),
            disks: (0..STREAMS).map(|_| Default::default()).collect(),
            link_free: Time::ZERO,
            answers: 0,
            retries: Vec::new(),
            most: 0,
        }
    }

    fn store(&self, group: GroupId) -> &Store {
        &self.disks[group.0 as usize].1
    }

    fn change(&mut self, group: GroupId, change: &StoreChange, mark: &StoreMark) {
        let store = &mut self.disks[group.0 as usize].1;
        assert_eq!(store.objection(change, mark), None);
        store.apply(change, mark);
    }

    fn write(&mut self, group: GroupId, change: &LogChange) {
        let log = &mut self.disks[group.0 as usize].0;
        assert_eq!(log.objection(change), None);
        log.apply(change);
    }

    /// Does what the node asks for: what it is told of it, and when.
    fn perform(&mut self, now: Time, command: Command) -> Option<(Time, Event)> {
        match command {
            Command::Write { id, group, change } => {
                self.write(group, &change);
                Some((now, Event::Written { through: id }))
            }
            Command::Store { id, group, change, mark } => {
                self.change(group, &change, &mark);
                Some((now, Event::Stored { through: id }))
            }
            Command::SyncStore { group, through } => {
                Some((now + DISK, Event::StoreSynced { group, through }))
            }
            Command::Read { id, group, first, last, messages, bytes } => {
                let (messages, next) = self.store(group).read(first, last, messages, bytes);
                Some((now + DISK, Event::Read { load: id, messages, next }))
            }
            Command::Load { id, group, first, last, .. } => {
                let log = &self.disks[group.0 as usize].0;
                let indexes = (first.get()..=last.get()).map(Index::new);
                let records = indexes.map_while(|index| log.record(index).cloned());
                Some((now + DISK, Event::Loaded { load: id, records: records.collect() }))
            }
            Command::LoadSnapshot { id, group, file, offset, bytes } => {
                let part = self.disks[group.0 as usize].0.snapshot_bytes(file, offset, bytes.get());
                Some((now + DISK, Event::SnapshotLoaded { load: id, part }))
            }
            Command::Answer { answer, .. } => {
                assert!(!format!("{answer:?}").contains("error"), "{answer:?}");
                self.answers += 1;
                None
            }
            Command::Report { report: Report::Catchup(what), .. }
                if what.contains("asks again") =>
            {
                self.retries.push(what);
                None
            }
            _ => None,
        }
    }
}

/// The two servers, and what is on its way.
struct Pair {
    servers: [Server; 2],
    now: Time,
    /// By the time of arrival and the server.
    coming: BTreeMap<(Time, usize), VecDeque<Event>>,
}

impl Pair {
    fn new() -> Self {
        let mut pair =
            Self { servers: NAMES.map(Server::new), now: Time::ZERO, coming: BTreeMap::new() };
        (0..2).for_each(|server| pair.open(server));
        pair
    }

    fn open(&mut self, server: usize) {
        let opened = |group| Event::Opened { group: GroupId(group), disk: Opened::default() };
        self.coming.insert((self.now, server), (0..STREAMS).map(opened).collect());
    }

    /// A server loses all that it has, and starts anew.
    fn replace(&mut self, server: usize) {
        self.servers[server] = Server::new(NAMES[server]);
        self.coming.retain(|(_, to), _| *to != server);
        self.open(server);
    }

    fn at(&mut self, time: Time, server: usize, event: Event) {
        self.coming.entry((time, server)).or_default().push_back(event);
    }

    /// Goes on to the next moment at which something happens.
    fn step(&mut self) {
        let due = self.servers.iter().enumerate();
        let due = due.filter_map(|(place, server)| Some((server.node.deadline()?.0, place))).min();
        let arrival = self.coming.keys().next().copied();
        let (time, place) = due.into_iter().chain(arrival).min().expect("somebody waits");
        self.now = self.now.max(time);
        let mut events = self.coming.remove(&(time, place)).unwrap_or_default();
        if events.is_empty() {
            events.push_back(Event::DeadlineReached);
        }
        for event in events {
            self.handle(place, event);
        }
    }

    fn handle(&mut self, place: usize, event: Event) {
        let server = &mut self.servers[place];
        server.node.handle(self.now, event);
        let (bytes, limits) = (server.node.catchup_bytes(), &server.node.config().limits);
        assert!(bytes <= limits.stream_catchups_in_flight.get(), "{bytes} bytes in flight");
        server.most = server.most.max(bytes);
        while let Some(command) = self.servers[place].node.poll() {
            if let Command::Send { to, subject, reply, payload } = command {
                self.send(
                    place,
                    &to,
                    Event::Received { from: Some(self.servers[place].me), subject, reply, payload },
                );
            } else if let Some((time, event)) = self.servers[place].perform(self.now, command) {
                self.at(time, place, event);
            }
        }
    }

    fn send(&mut self, from: usize, to: &Destination, event: Event) {
        let Event::Received { payload, .. } = &event else { return };
        let (server, other) = (&self.servers[from], 1 - from);
        let reaches = match to {
            Destination::Peers(peers) => peers.contains(&self.servers[other].me),
            Destination::Subscribers => true,
        };
        if reaches {
            let nanos = payload.len() as u64 * 1_000_000_000 / BANDWIDTH;
            let free = server.link_free.max(self.now) + Duration::from_nanos(nanos);
            self.servers[from].link_free = free;
            self.at(free + DELAY, other, event);
        }
    }

    fn until(&mut self, what: &str, patience: Duration, so: impl Fn(&Self) -> bool) {
        let end = self.now + patience;
        while !so(self) {
            assert!(self.now < end, "it did not come about in time that {what}");
            // Nothing of this changes with a single event.
            for _ in 0..100 {
                self.step();
            }
        }
    }

    fn statuses(&self, server: usize) -> impl Iterator<Item = jetwake::raft::Status> + '_ {
        let node = &self.servers[server].node;
        (0..STREAMS).map(|group| node.status(GroupId(group)).expect("it has the group"))
    }

    /// Asks a server for something about each stream, and waits for the answers.
    fn ask(&mut self, server: usize, what: &str, request: impl Fn() -> Request) {
        let expected = self.servers[server].answers + u64::from(STREAMS);
        for group in 0..STREAMS {
            let id = RequestId::new(expected + u64::from(group));
            let event = Event::Request { id, group: GroupId(group), request: request() };
            self.handle(server, event);
        }
        self.until(what, Duration::from_secs(60), |pair| pair.servers[server].answers >= expected);
    }
}

#[test]
fn a_thousand_streams_that_catch_up_at_once_share_the_budget_of_their_node() {
    let mut pair = Pair::new();
    pair.until("one leads all", Duration::from_secs(60), |pair| {
        pair.statuses(0).all(|status| status.leader_since.is_some() && status.commit > Index::ZERO)
    });
    let mut random = Random::new(1);
    let payload: Bytes = (0..PAYLOAD).map(|_| random.bits() as u8).collect();
    for _ in 0..MESSAGES {
        pair.ask(0, "all is published", || Request::Publish {
            subject: Bytes::from_static(b"s.a"),
            header: Bytes::new(),
            payload: payload.clone(),
        });
    }
    pair.ask(0, "snapshots are taken", || Request::Snapshot);
    assert_eq!(pair.servers[0].most, 0);

    pair.replace(1);
    let begun = pair.now;
    let messages = |pair: &Pair, server: usize, group| {
        pair.servers[server].store(group).messages().len() as u64
    };
    pair.until("all are caught up", Duration::from_secs(5), |pair| {
        (0..STREAMS).all(|group| messages(pair, 1, GroupId(group)) == MESSAGES)
    });
    println!("{:?} for all, at most {} bytes", pair.now.since(begun), pair.servers[0].most);
    pair.until("nothing is in flight", Duration::from_secs(5), |pair| {
        pair.servers[0].node.catchup_bytes() == 0
    });
    assert_eq!(pair.servers[1].retries, [""; 0], "none is starved");
    let most = pair.servers[0].node.config().limits.stream_catchups_in_flight.get();
    assert!(pair.servers[0].most > most / 2, "they have to share: {} bytes", pair.servers[0].most);
    for group in (0..STREAMS).map(GroupId) {
        let [one, two] = [0, 1].map(|server| pair.servers[server].store(group));
        // The one has it as it was proposed, the other as it was stored.
        let views = |store: &Store| store.messages().values().map(stored).collect::<Vec<_>>();
        assert_eq!(views(one), views(two), "group {group}");
        let place = |store: &Store| store.mark().map(|mark| (mark.first, mark.last, mark.failed));
        assert_eq!(place(one), place(two), "group {group}");
    }
}

/// All of a stored message but the sequence that it was proposed with.
fn stored(record: &Bytes) -> ([Vec<u8>; 3], i64) {
    let message = StreamMessage::decode(record, &Limits::default()).expect("a stored message");
    let StreamMessageView { subject, header, payload, timestamp, .. } = message.view();
    ([subject, header, payload].map(<[u8]>::to_vec), timestamp)
}
