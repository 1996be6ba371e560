//! The machine of the meta group: what is assigned, and what of that is to be done here.
//!
//! The rule: after a start nothing is done before the log was read as far as it is known to go; what
//! is left then is done at once. From there on each committed entry is done as it comes. What is to
//! be done comes out as [`Changes`]; who runs streams and consumers does it.
//!
//! Upstream: `monitorCluster`, `applyMetaEntries` and `applyMetaSnapshot` in
//! `server/jetstream_cluster.go`.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::assignments::{Assignments, Change, StreamKey};
use super::inflight::Inflight;
use super::recovery::Recovery;
use super::servers::{Resources, Server, Servers};
use super::stream_check::fixed;
use super::wishes::Waiting;
use crate::config::MetaConfig;
use crate::ids::{ByteCount, Index, PeerId};
use crate::limits::Limits;
use crate::stream::check_config;
use crate::time::Time;
use crate::wire::{MetaOp, MetaSnapshot, RaftGroup, StreamAssignment, WireError};

/// What is to be done on this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was changed, in order.
    pub changes: Vec<Change>,
    /// Groups that this server was a member of and is no more, or that are no more.
    pub gone: Vec<String>,
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
    pub(super) config: MetaConfig,
    pub(super) assignments: Assignments,
    gathering: Option<Gathering>,
    /// Groups of this server that the disk's log and snapshot named, and in which record last, until it
    /// is known which of them are no more: the run before may have left something of each.
    named: BTreeMap<String, Index>,
    pub(super) inflight: Inflight,
    /// One for each proposal of this leadership that is not committed, in order.
    pub(super) waiting: VecDeque<Option<Waiting>>,
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
            named: BTreeMap::new(),
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

    /// An entry that lay on the disk, committed or not, and in which record.
    pub fn found(&mut self, index: Index, entry: &Bytes, limits: &Limits) {
        // One that cannot be read is spoken of when it is applied.
        if let Ok(op) = decode(entry, limits)
            && let Some(group) = group_of(&op).filter(|group| has(group, self.me))
        {
            self.named.insert(name(group), index);
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
            gone.retain(|name, _| !now.contains(name));
            self.changes.gone.extend(gone.into_keys());
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
        if !self.changes.gone.is_empty() {
            // A name that somebody gave twice is not gone with one of the two.
            let own = self.own_groups();
            self.changes.gone.retain(|name| !own.contains(name));
        }
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
            // It says all that was gathered before, but for what is gone; and it takes the place of the
            // records that named that, so nobody would know of it at the next start.
            let groups = snapshot.streams.iter().flat_map(|stream| {
                let consumers = stream.consumers.iter().map(|consumer| &consumer.group);
                consumers.chain([&stream.stream.group])
            });
            let own: BTreeSet<_> = groups.filter(|group| has(group, self.me)).map(name).collect();
            let gone = self.named.extract_if(.., |name, at| *at <= index && !own.contains(name));
            self.changes.gone.extend(gone.map(|(name, _)| name));
            for name in own {
                let last = self.named.entry(name).or_insert(index);
                *last = index.max(*last);
            }
            gathering.recovery = Recovery::default();
            gathering.recovery.stage_snapshot(&self.assignments, snapshot);
            return Ok(());
        }
        let before = self.own_groups();
        let old: Vec<_> = self.configs_of(snapshot.streams.iter().map(|stream| &stream.stream));
        let changes = self.assignments.install(snapshot);
        let now = self.own_groups();
        self.changes.gone.extend(before.into_iter().filter(|name| !now.contains(name)));
        for change in &changes {
            let was = old.iter().find(|was| Some(&was.key) == stream_of(change));
            self.check_support(change, was);
        }
        self.changes.changes.extend(changes);
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
                let (name, after) = (consumer.name.clone(), consumer.group.clone());
                let change = self.assignments.assign_consumer(*consumer);
                if before.is_some_and(|before| !goes_on(&before, &after)) {
                    let why =
                        format!("stopped - the servers of {name:?} can not be replaced at once");
                    self.assignments.stop_stream(&key, why);
                }
                change
            }
            MetaOp::RemoveConsumer(consumer) => {
                let change = self.assignments.remove_consumer(&consumer);
                self.note_gone(change.is_some().then(|| consumer.group.clone()), None);
                change
            }
            MetaOp::ConsumerResized(consumer) => {
                let before =
                    self.consumer_group(&StreamKey::of_consumer(&consumer), &consumer.name);
                // What clients wish for, and is in flight, is still to come.
                if let Some(change) = self.assignments.resize_consumer(&consumer) {
                    self.note_gone(before, Some(&consumer.group));
                    self.changes.changes.push(change);
                }
                None
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
        // One that was created anew under the name is another.
        let same = was.filter(|was| was.stream.created == there.assignment.created);
        let (old, group) = (same.map(|was| &was.stream), &there.assignment.group);
        let moved =
            old.filter(|old| (&old.group.name, &old.group.peers) != (&group.name, &group.peers));
        if let Some(old) = moved {
            // What it holds may be all that there is of it.
            self.changes.gone.retain(|name| *name != old.group.name);
        }
        let why = match (check_config(config), old.and_then(|old| fixed(&old.config, config))) {
            (Err(error), _) => format!("stopped - {error}"),
            (Ok(()), Some(field)) => format!("stopped - {field}: can not be changed yet"),
            (Ok(()), None) if moved.is_some() => {
                "stopped - its servers can not be changed yet".to_string()
            }
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

    /// An entry that another server made was proposed: nobody here waits for it.
    pub fn forwarded(&mut self) {
        self.waiting.push_back(None);
    }
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

/// Whether a group is still the same, and nobody was left out of it: its members may be the only ones
/// that have what it has.
fn goes_on(before: &RaftGroup, after: &RaftGroup) -> bool {
    before.name == after.name && before.peers.iter().all(|peer| after.peers.contains(peer))
}

fn name(group: &RaftGroup) -> String {
    group.name.clone()
}

fn group_of(op: &MetaOp) -> Option<&RaftGroup> {
    match op {
        MetaOp::AssignStream(stream)
        | MetaOp::UpdateStream(stream)
        | MetaOp::RemoveStream(stream) => Some(&stream.group),
        MetaOp::AssignConsumer(consumer)
        | MetaOp::RemoveConsumer(consumer)
        | MetaOp::ConsumerResized(consumer) => Some(&consumer.group),
        MetaOp::Unknown { .. } => None,
    }
}

const fn stream_of(change: &Change) -> Option<&StreamKey> {
    match change {
        Change::StreamAssigned(key) | Change::StreamUpdated(key) => Some(key),
        _ => None,
    }
}
