//! The machine of the meta group: what is assigned, and what its leader decides.
//!
//! The rule: after a start nothing is done before the log was read as far as it is known to go; what
//! is left then is done at once. From there on each committed entry is done as it comes. What is to
//! be done comes out as [`Changes`]; who runs streams and consumers does it.
//!
//! Upstream: `monitorCluster`, `applyMetaEntries` and `applyMetaSnapshot` in
//! `server/jetstream_cluster.go`.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::api::ApiRequest;
use super::assignments::{Assignments, Change, StreamKey};
use super::consumer_check::ConsumerBounds;
use super::consumer_request::{self, ConsumerRequest};
use super::inflight::{Foresight, Inflight};
use super::recovery::Recovery;
use super::servers::{Resources, Server, Servers};
use super::stream_check::fixed;
use super::stream_request::{self, StreamRequest};
use crate::config::MetaConfig;
use crate::ids::{ByteCount, Index, PeerId, RequestId};
use crate::limits::Limits;
use crate::random::Random;
use crate::stream::check_config;
use crate::time::Time;
use crate::wire::{
    ApiError, ClientInfo, ConsumerAssignment, ConsumerChange, GoTime, MetaOp, MetaSnapshot,
    RaftGroup, ResponseType, StreamAssignment, StreamChange, WireError,
};

/// What is to be done on this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was changed, in order.
    pub changes: Vec<Change>,
    /// Groups that this server was a member of and is no more, or that are no more.
    pub gone: Vec<String>,
}

/// A proposal that a leader decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// About a stream.
    Stream(StreamChange, Box<StreamAssignment>),
    /// About a consumer.
    Consumer(ConsumerChange, Box<ConsumerAssignment>),
}

impl Decided {
    /// The entry to propose.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Stream(change, stream) => stream.to_bytes(*change),
            // Upstream compresses what it proposes for a new consumer.
            Self::Consumer(ConsumerChange::Assign, consumer) => consumer.encode_assign_compressed(),
            Self::Consumer(change, consumer) => consumer.to_bytes(*change),
        }
    }
}

/// A client that waits for its wish to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its request.
    pub request: RequestId,
    /// The type of its answer.
    pub kind: ResponseType,
    /// The stream that it is about.
    pub stream: StreamKey,
    /// The consumer that it is about, if it is about one.
    pub consumer: Option<String>,
    /// Whether what it wished for was not there before.
    pub new: bool,
}

/// What was gathered of the log since the start.
#[derive(Debug)]
struct Gathering {
    recovery: Recovery,
    /// When it is done although nobody leads.
    until: Time,
}

/// One member's machine of the meta group.
#[derive(Debug)]
pub struct Meta {
    me: PeerId,
    config: MetaConfig,
    assignments: Assignments,
    gathering: Option<Gathering>,
    /// Groups of this server that the disk's log and snapshot named, until it is known which of them
    /// are no more: the run before may have left something of each.
    named: BTreeSet<String>,
    inflight: Inflight,
    /// One for each proposal of this leadership that is not committed, in order.
    waiting: VecDeque<Option<Waiting>>,
    told: Servers,
    changes: Changes,
    applied: Index,
    /// The last record whose entries are in the assignments.
    settled: Index,
}

/// An entry that cannot be applied: the group has to stand aside, as nobody knows what it would
/// miss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// It cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is of a newer server, or of another group.
    #[error("an entry with the operation {0}, which no meta group of this version has")]
    Unknown(u8),
}

/// Tells whether a snapshot's data could be installed.
///
/// # Errors
/// As [`MetaSnapshot::decode`] says.
pub fn check_snapshot(data: &Bytes, limits: &Limits) -> Result<(), WireError> {
    MetaSnapshot::decode(data, limits).map(|_| ())
}

/// Reads an entry.
///
/// # Errors
/// [`MetaError`]; such an entry must not be proposed.
pub fn decode(data: &Bytes, limits: &Limits) -> Result<MetaOp, MetaError> {
    match MetaOp::decode(data, limits)? {
        MetaOp::Unknown { op, .. } => Err(MetaError::Unknown(op.as_u8())),
        op => Ok(op),
    }
}

impl Meta {
    /// A machine that knows of nothing.
    pub fn new(me: PeerId, config: MetaConfig) -> Self {
        Self {
            me,
            config,
            assignments: Assignments::default(),
            gathering: None,
            named: BTreeSet::new(),
            inflight: Inflight::default(),
            waiting: VecDeque::new(),
            told: Servers::default(),
            changes: Changes::default(),
            applied: Index::ZERO,
            settled: Index::ZERO,
        }
    }

    /// What it was told before it started.
    pub const fn config(&self) -> &MetaConfig {
        &self.config
    }

    /// What is assigned.
    pub const fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    /// The disk was opened: what the log holds is gathered before anything is done, until this
    /// moment at most.
    pub fn open(&mut self, until: Time) {
        self.gathering = Some(Gathering { recovery: Recovery::default(), until });
    }

    /// An entry that lay on the disk, committed or not.
    pub fn found(&mut self, entry: &Bytes, limits: &Limits) {
        // One that cannot be read is spoken of when it is applied.
        if let Ok(op) = decode(entry, limits)
            && let Some(group) = group_of(&op).filter(|group| has(group, self.me))
        {
            self.named.insert(name(group));
        }
    }

    /// When what was gathered is done although nobody leads.
    pub fn deadline(&self) -> Option<Time> {
        self.gathering.as_ref().map(|gathering| gathering.until)
    }

    /// The last record that was applied.
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// The last record that the assignments contain.
    pub const fn settled(&self) -> Index {
        self.settled
    }

    /// Does what was gathered if there is no more to come: everything was applied that the leader
    /// has (`current`), or the moment has come. Only in the first case it is known what is gone.
    pub fn settle(&mut self, now: Time, current: bool) {
        if current || self.gathering.as_ref().is_some_and(|gathering| now >= gathering.until) {
            self.finish_gathering();
        }
        if current && !self.named.is_empty() {
            let mut gone = core::mem::take(&mut self.named);
            let now = self.own_groups();
            gone.retain(|name| !now.contains(name));
            self.changes.gone.extend(gone);
        }
    }

    fn finish_gathering(&mut self) {
        let Some(gathering) = self.gathering.take() else { return };
        let changes = gathering.recovery.finish(&mut self.assignments);
        for change in &changes {
            self.check_support(change, None);
        }
        self.changes.changes.extend(changes);
        self.settled = self.applied;
    }

    /// What is to be done since this was asked last.
    pub fn take_changes(&mut self) -> Option<Changes> {
        (self.changes != Changes::default()).then(|| core::mem::take(&mut self.changes))
    }

    /// A stream that is assigned here cannot run, and why.
    pub fn stop_stream(&mut self, key: &StreamKey, why: String) {
        self.assignments.stop_stream(key, why);
    }

    /// All that is assigned, to be a snapshot.
    ///
    /// # Errors
    /// As [`MetaSnapshot::encode`] says.
    pub fn snapshot(&self) -> Result<Bytes, WireError> {
        self.assignments.snapshot().encode()
    }

    /// A snapshot takes the place of all that was applied.
    ///
    /// # Errors
    /// As [`MetaSnapshot::decode`] says; nothing is changed then.
    pub fn install(
        &mut self,
        index: Index,
        data: &Bytes,
        limits: &Limits,
    ) -> Result<(), WireError> {
        let snapshot = MetaSnapshot::decode(data, limits)?;
        self.applied = index;
        self.inflight.clear();
        if let Some(gathering) = &mut self.gathering {
            // It says all that was gathered before, but for what is gone.
            let groups = snapshot.streams.iter().flat_map(|stream| {
                let consumers = stream.consumers.iter().map(|consumer| &consumer.group);
                consumers.chain([&stream.stream.group])
            });
            self.named.extend(groups.filter(|group| has(group, self.me)).map(name));
            gathering.recovery = Recovery::default();
            gathering.recovery.stage_snapshot(&self.assignments, snapshot);
            return Ok(());
        }
        let before = self.own_groups();
        let old: Vec<_> = self.configs_of(snapshot.streams.iter().map(|stream| &stream.stream));
        let changes = self.assignments.install(snapshot);
        for change in &changes {
            let was = old.iter().find(|was| Some(&was.key) == stream_of(change));
            self.check_support(change, was);
        }
        self.changes.changes.extend(changes);
        let now = self.own_groups();
        self.changes.gone.extend(before.into_iter().filter(|name| !now.contains(name)));
        self.settled = index;
        Ok(())
    }

    /// Applies the entries of a record, and gives back who waited for them; `own` says whether this
    /// leadership proposed it.
    ///
    /// # Errors
    /// [`MetaError`]; the machine must not go on then.
    pub fn apply(
        &mut self,
        index: Index,
        entries: impl Iterator<Item = Bytes>,
        own: bool,
        limits: &Limits,
    ) -> Result<Vec<Waiting>, MetaError> {
        let mut answered = Vec::new();
        for entry in entries {
            self.apply_entry(decode(&entry, limits)?);
            if own {
                answered.extend(self.waiting.pop_front().flatten());
            }
        }
        self.applied = index;
        if self.gathering.is_none() {
            self.settled = index;
        }
        Ok(answered)
    }

    fn apply_entry(&mut self, op: MetaOp) {
        if let Some(gathering) = &mut self.gathering {
            // What is not the meta group's was refused when it was read.
            let _ = gathering.recovery.stage(op);
            return;
        }
        let change = match op {
            MetaOp::AssignStream(stream) => Some(self.place_stream(*stream, true)).flatten(),
            MetaOp::UpdateStream(stream) => self.place_stream(*stream, false),
            MetaOp::RemoveStream(stream) => self.remove_stream(&StreamKey::of_stream(&stream)),
            MetaOp::AssignConsumer(consumer) => {
                let key = StreamKey::of_consumer(&consumer);
                let before = self.consumer_group(&key, &consumer.name);
                let after = consumer.group.clone();
                let change = self.assignments.assign_consumer(*consumer);
                self.note_gone(before, change.is_some().then_some(&after));
                change
            }
            MetaOp::RemoveConsumer(consumer) => {
                let change = self.assignments.remove_consumer(&consumer);
                self.note_gone(change.is_some().then(|| consumer.group.clone()), None);
                change
            }
            MetaOp::Unknown { .. } => None,
        };
        if let Some(change) = change {
            self.inflight.applied(&change);
            self.changes.changes.push(change);
        }
    }

    fn place_stream(&mut self, stream: StreamAssignment, new: bool) -> Option<Change> {
        let key = StreamKey::of_stream(&stream);
        let was = self.configs_of([&stream].into_iter()).pop();
        let before = self.assignments.stream(&key).map(|there| there.assignment.group.clone());
        let after = stream.group.clone();
        let change = match new {
            true => Some(self.assignments.assign_stream(stream)),
            false => self.assignments.update_stream(stream),
        };
        if let Some(change) = &change {
            self.note_gone(before, Some(&after));
            self.check_support(change, was.as_ref());
        }
        change
    }

    fn remove_stream(&mut self, key: &StreamKey) -> Option<Change> {
        let stream = self.assignments.stream(key)?;
        let consumers = stream.consumers().map(|consumer| consumer.assignment.group.clone());
        let groups: Vec<_> = consumers.chain([stream.assignment.group.clone()]).collect();
        for group in groups {
            self.note_gone(Some(group), None);
        }
        self.assignments.remove_stream(key)
    }

    fn consumer_group(&self, key: &StreamKey, name: &str) -> Option<RaftGroup> {
        let consumer = self.assignments.stream(key)?.consumer(name)?;
        Some(consumer.assignment.group.clone())
    }

    /// A group took the place of another, or nothing did.
    fn note_gone(&mut self, before: Option<RaftGroup>, after: Option<&RaftGroup>) {
        let Some(before) = before.filter(|before| has(before, self.me)) else { return };
        let stays = |after: &RaftGroup| after.name == before.name && has(after, self.me);
        if !after.is_some_and(stays) {
            self.changes.gone.push(before.name);
        }
    }

    /// The groups that this server is a member of.
    fn own_groups(&self) -> BTreeSet<String> {
        let groups = self.assignments.streams().flat_map(|(_, stream)| {
            let consumers = stream.consumers().map(|consumer| &consumer.assignment.group);
            consumers.chain([&stream.assignment.group])
        });
        groups.filter(|group| has(group, self.me)).map(name).collect()
    }

    /// How the streams that are assigned anew are now.
    fn configs_of<'a>(&self, streams: impl Iterator<Item = &'a StreamAssignment>) -> Vec<Was> {
        let was = |stream: &StreamAssignment| {
            let key = StreamKey::of_stream(stream);
            let there = self.assignments.stream(&key)?;
            Some(Was { key, stream: there.assignment.clone() })
        };
        streams.filter_map(was).collect()
    }

    /// A stream that ours cannot be is kept, offline.
    fn check_support(&mut self, change: &Change, was: Option<&Was>) {
        let (Change::StreamAssigned(key) | Change::StreamUpdated(key)) = change else { return };
        let Some(there) = self.assignments.stream(key) else { return };
        let config = &there.assignment.config;
        let changed = was.filter(|was| was.stream.group.name == there.assignment.group.name);
        let why = match (check_config(config), changed) {
            (Err(error), _) => format!("stopped - {error}"),
            (Ok(()), Some(was)) => match fixed(&was.stream.config, config) {
                Some(field) => format!("stopped - {field}: can not be changed yet"),
                None => return,
            },
            (Ok(()), None) => return,
        };
        self.assignments.stop_stream(key, why);
    }

    /// A member told of itself. The caller checks that it is one: what others say is not kept.
    pub fn told(&mut self, peer: PeerId, server: Server) {
        self.told.heard(peer, server);
    }

    /// What is known of the servers, of which only these are online.
    pub fn servers(
        &self,
        members: impl Iterator<Item = (PeerId, String)>,
        online: &BTreeSet<PeerId>,
    ) -> Servers {
        const ROOM: Resources =
            Resources { memory: ByteCount::MAX, disk: ByteCount::MAX, replicated_assets: 0 };
        let server = |(peer, name): (PeerId, String)| {
            let server = self.told.get(&peer).cloned().unwrap_or_else(|| Server {
                name,
                cluster: self.config.cluster.clone(),
                resources: Some(ROOM),
                ..Server::default()
            });
            (peer, Server { offline: !online.contains(&peer), ..server })
        };
        members.map(server).collect()
    }

    /// This node leads, and every entry of earlier leaders was applied.
    pub fn leadership_gained(&mut self, now: Time) {
        self.settle(now, true);
        self.inflight.clear();
    }

    /// This node leads no longer: those who wait are to be told that nothing is known.
    pub fn leadership_lost(&mut self) -> Vec<Waiting> {
        self.inflight.clear();
        self.waiting.drain(..).flatten().collect()
    }

    /// Decides on a wish: what to propose, and what its client waits for.
    ///
    /// # Errors
    /// What upstream refuses it with.
    pub fn decide(
        &self,
        request: ApiRequest,
        asked: Asked<'_>,
        random: &mut Random,
    ) -> Result<(Decided, Waiting), ApiError> {
        let kind = request.response_type();
        let foresight = Foresight { assignments: &self.assignments, inflight: &self.inflight };
        let account = asked.client.as_ref().map_or("", |client| client.service_account());
        let key = |name: &str| StreamKey { account: account.into(), name: name.into() };
        let waiting = |stream: StreamKey, consumer: Option<String>| Waiting {
            request: asked.request,
            kind,
            new: match &consumer {
                Some(name) => foresight.consumer(&stream, name).is_none(),
                None => foresight.stream(&stream).is_none(),
            },
            stream,
            consumer,
        };
        let grounds = stream_request::Grounds {
            foresight,
            members: asked.members,
            servers: asked.servers,
            cluster: &self.config.cluster,
            unique_tag: &self.config.unique_tag,
            most_replicated_assets: self.config.most_replicated_assets,
            now: asked.now,
        };
        let client = asked.client.clone();
        let subject = asked.subject.to_string();
        let wish = |config: Box<crate::wire::StreamConfig>, pedantic| StreamRequest {
            key: key(&config.name),
            config: *config,
            pedantic,
            client: client.clone(),
            subject: subject.clone(),
        };
        match request {
            ApiRequest::CreateStream { config, pedantic } => {
                let wish = wish(config, pedantic);
                let waits = waiting(wish.key.clone(), None);
                let stream = stream_request::create(wish, grounds, random)?;
                Ok((Decided::Stream(StreamChange::Assign, Box::new(stream)), waits))
            }
            ApiRequest::UpdateStream { config, pedantic } => {
                let wish = wish(config, pedantic);
                let waits = waiting(wish.key.clone(), None);
                let stream = stream_request::update(wish, grounds)?;
                Ok((Decided::Stream(StreamChange::Update, Box::new(stream)), waits))
            }
            ApiRequest::DeleteStream(name) => {
                let stream = stream_request::remove(&key(&name), client, foresight)?;
                let waits = waiting(key(&name), None);
                Ok((Decided::Stream(StreamChange::Remove, Box::new(stream)), waits))
            }
            ApiRequest::CreateConsumer { stream, config, action, pedantic } => {
                let stream = key(&stream);
                self.check_online(&stream)?;
                let wish = ConsumerRequest {
                    stream: stream.clone(),
                    config: *config,
                    action,
                    pedantic,
                    client,
                    subject,
                    reply: String::new(),
                };
                let grounds = consumer_request::Grounds {
                    foresight,
                    servers: asked.servers,
                    bounds: ConsumerBounds::default(),
                    most_replicated_assets: self.config.most_replicated_assets,
                    leader: None,
                    bound: false,
                    now: asked.now,
                };
                let consumer = consumer_request::decide(wish, grounds, random)?;
                let waits = waiting(stream, Some(consumer.name.clone()));
                Ok((Decided::Consumer(ConsumerChange::Assign, Box::new(consumer)), waits))
            }
            ApiRequest::DeleteConsumer { stream, consumer } => {
                let stream = key(&stream);
                let there = self.assignments.stream(&stream).ok_or(ApiError::STREAM_NOT_FOUND)?;
                let there = there.consumer(&consumer).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
                let client = client.or_else(|| there.assignment.client.clone());
                let removal = ConsumerAssignment { client, ..there.assignment.clone() };
                let waits = waiting(stream, Some(consumer));
                Ok((Decided::Consumer(ConsumerChange::Remove, Box::new(removal)), waits))
            }
            _ => Err(ApiError::BAD_REQUEST),
        }
    }

    /// A stream that is offline gets no consumers: nobody could start them.
    fn check_online(&self, key: &StreamKey) -> Result<(), ApiError> {
        match self.assignments.stream(key).and_then(|stream| stream.offline()) {
            Some(why) => Err(ApiError::STREAM_OFFLINE_REASON.with(&[("err", &why)])),
            None => Ok(()),
        }
    }

    /// How many proposals of this leadership are not committed yet.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// What was decided was proposed.
    pub fn proposed(&mut self, decided: Decided, waiting: Waiting) {
        match decided {
            Decided::Stream(change, stream) => {
                let proposed = (change != StreamChange::Remove).then_some(*stream);
                self.inflight.stream_proposed(waiting.stream.clone(), proposed);
            }
            Decided::Consumer(change, consumer) => {
                let name = consumer.name.clone();
                let proposed = (change == ConsumerChange::Assign).then_some(*consumer);
                self.inflight.consumer_proposed(waiting.stream.clone(), name, proposed);
            }
        }
        self.waiting.push_back(Some(waiting));
    }

    /// An entry that another server made was proposed: nobody here waits for it.
    pub fn forwarded(&mut self) {
        self.waiting.push_back(None);
    }
}

/// A request and what a decision on it rests on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: RequestId,
    /// Who asks.
    pub client: &'a Option<ClientInfo>,
    /// The subject that it asked on.
    pub subject: &'a str,
    /// The members of the meta group.
    pub members: &'a [PeerId],
    /// The servers.
    pub servers: &'a Servers,
    /// Now.
    pub now: GoTime,
}

/// How a stream was before it was assigned anew.
#[derive(Debug)]
struct Was {
    key: StreamKey,
    stream: StreamAssignment,
}

fn has(group: &RaftGroup, peer: PeerId) -> bool {
    group.peers.contains(&peer)
}

fn name(group: &RaftGroup) -> String {
    group.name.clone()
}

fn group_of(op: &MetaOp) -> Option<&RaftGroup> {
    match op {
        MetaOp::AssignStream(stream)
        | MetaOp::UpdateStream(stream)
        | MetaOp::RemoveStream(stream) => Some(&stream.group),
        MetaOp::AssignConsumer(consumer) | MetaOp::RemoveConsumer(consumer) => {
            Some(&consumer.group)
        }
        MetaOp::Unknown { .. } => None,
    }
}

const fn stream_of(change: &Change) -> Option<&StreamKey> {
    match change {
        Change::StreamAssigned(key) | Change::StreamUpdated(key) => Some(key),
        _ => None,
    }
}
