//! Some servers with a meta group on all of them: real nodes, whose messages arrive and whose
//! disks write at once. A test stops and starts servers, asks, and lets time pass.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use jetwake::cluster::assignments::StreamKey;
use jetwake::command::{Answer, Command, Destination, Report, Role};
use jetwake::config::{Config, GroupConfig, GroupKind, MetaConfig};
use jetwake::consumer::Wish;
use jetwake::event::{Event, Opened, Request, SnapshotFound, Standing};
use jetwake::ids::{GroupId, GroupName, PeerId, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::subject::Subject;
use jetwake::time::{Duration, Time};
use jetwake::wire::GoTime;
use jetwake_sim::log::Log;
use jetwake_sim::network::Subscriptions;
use jetwake_sim::store::Store;
use serde_json::Value;

/// The meta group, on every server.
pub(crate) const META: GroupId = GroupId(0);

/// What a client says of itself.
const CLIENT: &[u8] = br#"{"acc":"$G","cluster":"C"}"#;

#[derive(Debug, Default)]
struct GroupDisk {
    log: Log,
    store: Store,
}

impl GroupDisk {
    fn opened(&self) -> Opened {
        Opened {
            vote: self.log.vote(),
            snapshot: (self.log.snapshot())
                .map(|snapshot| SnapshotFound::Whole(snapshot.file.clone())),
            log: self.log.range(),
            store: self.store.mark(),
            standing: self.log.standing().cloned().unwrap_or(Standing::Unknown),
            ..Opened::default()
        }
    }
}

/// One server.
#[derive(Debug)]
struct Server {
    config: Config,
    peer: PeerId,
    node: Option<Node>,
    disks: BTreeMap<GroupName, GroupDisk>,
    open: BTreeMap<GroupId, GroupName>,
    subscriptions: Subscriptions,
    roles: BTreeMap<GroupId, Role>,
    /// Whether nothing reaches it, and nothing of it reaches others.
    cut_off: bool,
    /// The names of all groups that were ever opened since it was started.
    opened: BTreeSet<GroupName>,
}

/// The servers `n1`, `n2`, ….
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) now: Time,
    servers: Vec<Server>,
    events: VecDeque<(usize, Event)>,
    answers: BTreeMap<RequestId, Answer>,
    asked: u64,
    /// Reports that a group stands aside, or was refused something.
    pub(crate) complaints: Vec<String>,
}

impl Servers {
    pub(crate) fn new(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        let meta = MetaConfig { cluster: "C".into(), ..MetaConfig::default() };
        let group = GroupConfig {
            name: GroupName::new("_meta_").expect("it is one token"),
            members: names.clone(),
            kind: GroupKind::Meta(meta),
        };
        let server = |(number, name): (u64, &String)| Server {
            config: Config {
                name: name.clone(),
                domain: String::new(),
                seed: number,
                limits: Limits::default(),
                timers: Timers::default(),
                groups: vec![group.clone()],
            },
            peer: PeerId::from_name(name),
            node: None,
            disks: BTreeMap::new(),
            open: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            roles: BTreeMap::new(),
            cut_off: false,
            opened: BTreeSet::new(),
        };
        let mut servers = Self {
            now: Time::from_nanos(1_767_225_600_000_000_000),
            servers: (1..).zip(&names).map(server).collect(),
            events: VecDeque::new(),
            answers: BTreeMap::new(),
            asked: 0,
            complaints: Vec::new(),
        };
        for at in 0..count {
            servers.start(at);
        }
        servers
    }

    /// Servers whose meta group has a leader.
    pub(crate) fn led(count: usize) -> Self {
        let mut servers = Self::new(count);
        servers.wait_for("a leader of the meta group", |servers| servers.leader().is_some());
        servers
    }

    pub(crate) fn start(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.config.seed += 100;
        server.node = Some(Node::new(server.config.clone()).expect("the configuration works"));
        let name = server.config.groups[0].name.clone();
        server.open.insert(META, name.clone());
        let disk = server.disks.entry(name).or_default().opened();
        self.events.push_back((at, Event::Opened { group: META, disk }));
        self.run();
    }

    /// Cuts a server off from the others, or lets it back.
    pub(crate) fn cut_off(&mut self, at: usize, cut_off: bool) {
        self.servers[at].cut_off = cut_off;
    }

    /// The process dies; its disk stays.
    pub(crate) fn stop(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.node = None;
        server.open.clear();
        server.subscriptions = Subscriptions::default();
        server.roles.clear();
        server.opened.clear();
    }

    /// Every server takes a snapshot of its meta group, stops, and is started again.
    pub(crate) fn restart(&mut self) {
        for at in 0..self.servers.len() {
            self.ask(at, META, Request::Snapshot);
        }
        self.restart_as_they_are();
    }

    /// Every server stops, and is started again.
    pub(crate) fn restart_as_they_are(&mut self) {
        for at in 0..self.servers.len() {
            self.stop(at);
        }
        for at in 0..self.servers.len() {
            self.start(at);
        }
        self.wait_for("a leader of the meta group", |servers| servers.leader().is_some());
        self.wait(Duration::from_secs(3));
    }

    /// Every server but one stops, and is started again.
    pub(crate) fn restart_all_but(&mut self, stays: usize) {
        let others: Vec<_> = (0..self.servers.len()).filter(|at| *at != stays).collect();
        others.iter().for_each(|at| self.stop(*at));
        others.iter().for_each(|at| self.start(*at));
        self.wait_for("a leader of the meta group", |servers| servers.leader().is_some());
    }

    /// Everything that follows at once.
    fn run(&mut self) {
        while let Some((at, event)) = self.events.pop_front() {
            self.hand(at, event);
        }
    }

    fn hand(&mut self, at: usize, event: Event) {
        let Some(node) = &mut self.servers[at].node else { return };
        node.handle(self.now, event);
        while let Some(command) = self.servers[at].node.as_mut().and_then(Node::poll) {
            self.perform(at, command);
        }
    }

    fn perform(&mut self, at: usize, command: Command) {
        let server = &mut self.servers[at];
        let mut tell = |event| self.events.push_back((at, event));
        match command {
            Command::Send { to, subject, reply, payload } => {
                self.send(at, &to, &subject, reply, &payload);
            }
            Command::Subscribe(subject) => server.subscriptions.add(&subject).expect("it can be"),
            Command::Unsubscribe(subject) => {
                server.subscriptions.remove(&subject).expect("it is listened to");
            }
            Command::Write { id, group, change } => {
                let log = &mut server.disk(group).log;
                assert_eq!(log.objection(&change), None);
                log.apply(&change);
                tell(Event::Written { through: id });
            }
            Command::Load { id, group, first, last, .. } => {
                let log = &server.disk(group).log;
                let indexes = (first.get()..=last.get()).map(jetwake::ids::Index::new);
                let record = |index| log.record(index).expect("it is there").clone();
                tell(Event::Loaded { load: id, records: indexes.map(record).collect() });
            }
            Command::Store { id, group, change, mark } => {
                let store = &mut server.disk(group).store;
                assert_eq!(store.objection(&change, &mark), None);
                store.apply(&change, &mark);
                tell(Event::Stored { through: id });
            }
            Command::SyncStore { group, through } => tell(Event::StoreSynced { group, through }),
            Command::Read { id, group, first, last, messages, bytes } => {
                let (messages, next) = server.disk(group).store.read(first, last, messages, bytes);
                tell(Event::Read { load: id, messages, next });
            }
            Command::Answer { id, answer } => {
                let twice = self.answers.insert(id, answer);
                assert!(twice.is_none(), "request {id} is answered twice");
            }
            Command::Report { group, report } => {
                if let (Some(group), Report::Role { role, .. }) = (group, &report) {
                    server.roles.insert(group, *role);
                }
                // Whoever was let go may answer once more.
                let late = format!("{report:?}").contains("is not a member");
                if let Report::StoodAside(_) | Report::Refused { .. } = &report
                    && !late
                {
                    self.complaints.push(format!("{} {group:?}: {report:?}", server.config.name));
                }
            }
            Command::OpenGroup { group, name, .. } => {
                assert!(!server.open.values().any(|open| *open == name), "{name} is open");
                server.open.insert(group, name.clone());
                server.opened.insert(name.clone());
                let disk = server.disks.entry(name).or_default().opened();
                tell(Event::Opened { group, disk });
            }
            Command::CloseGroup(group) => {
                server.open.remove(&group).expect("it is open");
                server.roles.remove(&group);
            }
            Command::EraseGroup(name) => {
                assert!(!server.open.values().any(|open| *open == name), "{name} is open");
                server.disks.remove(&name);
            }
            other => panic!("nobody knows {other:?}"),
        }
    }

    fn send(
        &mut self,
        from: usize,
        to: &Destination,
        subject: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) {
        let sender = self.servers[from].peer;
        for (at, server) in self.servers.iter().enumerate() {
            let meant = match to {
                Destination::Peers(peers) => peers.contains(&server.peer),
                Destination::Subscribers => at != from,
            };
            let reached = !server.cut_off && !self.servers[from].cut_off;
            if meant && reached && server.subscriptions.hear(subject) {
                let event = Event::Received {
                    from: Some(sender),
                    subject: subject.clone(),
                    reply: reply.clone(),
                    payload: payload.clone(),
                };
                self.events.push_back((at, event));
            }
        }
    }

    /// Time passes, and each node is woken whenever it asked to be.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run();
        while let Some((when, at)) = self.next_deadline().filter(|(when, _)| *when <= end) {
            self.now = self.now.max(when);
            self.events.push_back((at, Event::DeadlineReached));
            self.run();
        }
        self.now = end;
    }

    fn next_deadline(&self) -> Option<(Time, usize)> {
        let deadline = |(at, server): (usize, &Server)| {
            server.node.as_ref()?.deadline().map(|(when, _)| (when, at))
        };
        self.servers.iter().enumerate().filter_map(deadline).min()
    }

    pub(crate) fn wait_for(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..600 {
            self.run();
            if so(self) {
                return;
            }
            self.wait(Duration::from_millis(100));
        }
        panic!("a minute passed before {what}; {:?}", self.complaints);
    }

    /// Who leads the meta group and can take requests.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.leader_of(META)
    }

    fn leader_of(&self, group: GroupId) -> Option<usize> {
        let leads = |server: &Server| server.roles.get(&group) == Some(&Role::Leader);
        self.servers.iter().position(leads)
    }

    /// Hands a request to a node at once.
    pub(crate) fn ask(&mut self, at: usize, group: GroupId, request: Request) -> RequestId {
        self.asked += 1;
        let id = RequestId::new(self.asked);
        self.events.push_back((at, Event::Request { id, group, request }));
        self.run();
        id
    }

    pub(crate) fn answer(&mut self, id: RequestId) -> Option<Value> {
        match self.answers.remove(&id)? {
            Answer::Json(json) => Some(serde_json::from_slice(&json).expect("it is JSON")),
            other => panic!("{other:?}"),
        }
    }

    fn called(&mut self, at: usize, group: GroupId, request: Request) -> Value {
        let id = self.ask(at, group, request);
        self.wait_for("an answer", |servers| servers.answers.contains_key(&id));
        self.answer(id).expect("it was just there")
    }

    /// Asks the leader of the meta group as a client does.
    pub(crate) fn api(&mut self, subject: &str, payload: &str) -> Value {
        let leader = self.leader().expect("the meta group has a leader");
        self.called(leader, META, api(subject, payload))
    }

    /// The error code of a refusal; none if it is none.
    pub(crate) fn refused(&mut self, subject: &str, payload: &str) -> Option<u64> {
        self.api(subject, payload)["error"]["err_code"].as_u64()
    }

    /// Proposes an entry of the meta group as it is, as a server of another version would.
    pub(crate) fn propose(&mut self, entry: Bytes) {
        let leader = self.leader().expect("the meta group has a leader");
        let done = self.called(leader, META, Request::Forward { payload: entry });
        assert_eq!(done["success"], true, "{done}");
        self.wait(Duration::from_secs(2));
    }

    /// The group of a stream on a server where it runs.
    pub(crate) fn group(&self, at: usize, stream: &str) -> Option<GroupId> {
        let key = StreamKey { account: "$G".into(), name: stream.into() };
        self.servers[at].node.as_ref()?.assigned_stream(&key)
    }

    /// The server that leads a stream.
    pub(crate) fn stream_leader(&self, stream: &str) -> Option<usize> {
        (0..self.servers.len()).find(|at| {
            let group = self.group(*at, stream);
            group.is_some_and(|group| self.servers[*at].roles.get(&group) == Some(&Role::Leader))
        })
    }

    /// Publishes to the leader of a stream.
    pub(crate) fn publish(&mut self, stream: &str, subject: &str, payload: &str) -> Value {
        self.ask_stream(stream, published(subject, payload))
    }

    /// Asks the leader of a stream.
    pub(crate) fn ask_stream(&mut self, stream: &str, request: Request) -> Value {
        self.wait_for("a leader of the stream", |servers| servers.stream_leader(stream).is_some());
        let at = self.stream_leader(stream).expect("it was just there");
        let group = self.group(at, stream).expect("it leads it");
        self.called(at, group, request)
    }

    /// What a server's replica of a stream tells of itself.
    pub(crate) fn stream_info(&mut self, at: usize, stream: &str) -> Value {
        let group = self.group(at, stream).expect("it runs there");
        self.called(at, group, Request::Info)
    }

    /// A server that is stopped loses its disk.
    pub(crate) fn lose_disk(&mut self, at: usize) {
        assert!(self.servers[at].node.is_none(), "it is stopped");
        self.servers[at].disks.clear();
    }

    fn consumer_group(&self, at: usize, stream: &str, consumer: &str) -> Option<GroupId> {
        let key = StreamKey { account: "$G".into(), name: stream.into() };
        self.servers[at].node.as_ref()?.assigned_consumer(&key, consumer)
    }

    /// The server that leads a consumer.
    pub(crate) fn consumer_leader(&self, stream: &str, consumer: &str) -> Option<usize> {
        (0..self.servers.len()).find(|at| {
            let group = self.consumer_group(*at, stream, consumer);
            group.is_some_and(|group| self.servers[*at].roles.get(&group) == Some(&Role::Leader))
        })
    }

    /// How many servers there are.
    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Whether a consumer's group runs on a server.
    pub(crate) fn consumer_runs(&self, at: usize, stream: &str, consumer: &str) -> bool {
        self.consumer_group(at, stream, consumer).is_some()
    }

    /// How many members a consumer's group has, as its leader says.
    pub(crate) fn members_of_consumer(&self, stream: &str, consumer: &str) -> Option<usize> {
        let at = self.consumer_leader(stream, consumer)?;
        let group = self.consumer_group(at, stream, consumer)?;
        let status = self.servers[at].node.as_ref()?.status(group)?;
        status.change.is_none().then_some(status.members.len())
    }

    /// The server that stands last in a consumer's assignment, as the leader of the meta group says.
    pub(crate) fn last_assigned(&self, stream: &str, consumer: &str) -> usize {
        let key = StreamKey { account: "$G".into(), name: stream.into() };
        let leader = self.leader().expect("the meta group has a leader");
        let node = self.servers[leader].node.as_ref().expect("it runs");
        let meta = node.assignments().expect("it is in the meta group");
        let there = meta.stream(&key).and_then(|stream| stream.consumer(consumer));
        let peers = &there.expect("it is assigned").assignment.group.peers;
        let last = peers.last().expect("somebody has it");
        self.servers.iter().position(|server| server.peer == *last).expect("it is a server")
    }

    /// When a consumer was created, as far as a server knows; none if it knows of none.
    pub(crate) fn consumer_created(
        &self,
        at: usize,
        stream: &str,
        consumer: &str,
    ) -> Option<GoTime> {
        let key = StreamKey { account: "$G".into(), name: stream.into() };
        let assignments = self.servers[at].node.as_ref()?.assignments()?;
        Some(assignments.stream(&key)?.consumer(consumer)?.assignment.created)
    }

    /// What the leader of a consumer tells of it.
    pub(crate) fn consumer_info(&mut self, stream: &str, consumer: &str) -> Value {
        self.wait_for("a leader of the consumer", |servers| {
            servers.consumer_leader(stream, consumer).is_some()
        });
        let at = self.consumer_leader(stream, consumer).expect("it was just there");
        let group = self.consumer_group(at, stream, consumer).expect("it leads it");
        self.called(at, group, Request::Info)
    }

    /// Asks the leader of a consumer for a step, if somebody leads it, and says when that consumer was
    /// created; does not await the answer.
    pub(crate) fn ask_step(
        &mut self,
        stream: &str,
        consumer: &str,
        wish: Wish,
    ) -> Option<(RequestId, GoTime)> {
        let at = self.consumer_leader(stream, consumer)?;
        let group = self.consumer_group(at, stream, consumer)?;
        let created = self.consumer_created(at, stream, consumer)?;
        Some((self.ask(at, group, Request::Consumer(wish)), created))
    }

    /// Asks the leader of a consumer for a step.
    pub(crate) fn step(&mut self, stream: &str, consumer: &str, wish: Wish) -> Value {
        self.wait_for("a leader of the consumer", |servers| {
            servers.consumer_leader(stream, consumer).is_some()
        });
        let at = self.consumer_leader(stream, consumer).expect("it was just there");
        let group = self.consumer_group(at, stream, consumer).expect("it leads it");
        self.called(at, group, Request::Consumer(wish))
    }

    /// A server's member of a consumer takes a snapshot.
    pub(crate) fn snapshot_consumer(&mut self, at: usize, stream: &str, consumer: &str) {
        let group = self.consumer_group(at, stream, consumer).expect("it runs there");
        let done = self.called(at, group, Request::Snapshot);
        assert!(done["compacted"].as_u64().is_some_and(|through| through > 0), "{done}");
    }

    /// How many messages a server's disk holds of a stream that runs there.
    pub(crate) fn stored(&self, at: usize, stream: &str) -> Option<usize> {
        let server = &self.servers[at];
        let name = server.open.get(&self.group(at, stream)?)?;
        Some(server.disks.get(name)?.store.messages().len())
    }

    /// The groups that a server's disk holds, but for the meta group.
    pub(crate) fn on_disk(&self, at: usize) -> Vec<String> {
        let names = self.servers[at].disks.keys().map(|name| name.as_str().to_string());
        names.filter(|name| name != "_meta_").collect()
    }

    /// The groups that are open on a server, but for the meta group.
    pub(crate) fn open_groups(&self, at: usize) -> Vec<String> {
        let names = self.servers[at].open.values().map(|name| name.as_str().to_string());
        names.filter(|name| name != "_meta_").collect()
    }

    /// The groups that a server opened since it was started.
    pub(crate) fn opened(&self, at: usize) -> Vec<String> {
        self.servers[at].opened.iter().map(|name| name.as_str().to_string()).collect()
    }

    /// Whether a server's member of every group has what the group has.
    pub(crate) fn healthy(&self, at: usize) -> bool {
        let server = &self.servers[at];
        let node = server.node.as_ref().expect("it runs");
        let health = |group: &GroupId| node.health(*group, self.now);
        server.open.keys().all(|group| health(group).is_some_and(|health| health.is_healthy()))
    }

    /// Whether a snapshot of the meta group lies on a server's disk.
    pub(crate) fn has_meta_snapshot(&self, at: usize) -> bool {
        let meta = GroupName::new("_meta_").expect("it is one token");
        self.servers[at].disks.get(&meta).is_some_and(|disk| disk.log.snapshot().is_some())
    }

    /// The last snapshot of a server's meta group, as it lies on its disk.
    pub(crate) fn meta_snapshot(&self, at: usize) -> Bytes {
        let meta = GroupName::new("_meta_").expect("it is one token");
        let disk = &self.servers[at].disks[&meta];
        let file = &disk.log.snapshot().expect("there is one").file;
        let snapshot = jetwake::wire::RaftSnapshot::decode(file, &meta).expect("it is whole");
        snapshot.data
    }
}

impl Server {
    fn disk(&mut self, group: GroupId) -> &mut GroupDisk {
        let name = self.open.get(&group).unwrap_or_else(|| panic!("{group} is not open"));
        self.disks.get_mut(name).expect("an open group has a disk")
    }
}

/// A message as a client publishes it.
pub(crate) fn published(subject: &str, payload: &str) -> Request {
    Request::Publish {
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        header: Bytes::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

/// A request as a client makes it.
pub(crate) fn api(subject: &str, payload: &str) -> Request {
    Request::Api {
        client: Bytes::from_static(CLIENT),
        subject: format!("$JS.API.{subject}").into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}
