//! The state of the meta group: every stream and consumer of the cluster, how it is meant to be,
//! and on which servers.
//!
//! The rule: an assignment leaves this room only by a removal that names it. One that we do not
//! understand is kept and offline, and takes its stream offline with it: a stream that went on
//! without one of its consumers might drop what that consumer is owed.
//!
//! Upstream: `processStreamAssignment`, `processUpdateStreamAssignment`, `processStreamRemoval`,
//! `processConsumerAssignment`, `processConsumerRemoval` and `applyMetaSnapshot` in
//! `server/jetstream_cluster.go`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::wire::{ConsumerAssignment, MetaSnapshot, MetaStream, RaftGroup, StreamAssignment};

/// A stream's account and name: what tells it from all others of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey {
    /// The account that it belongs to; empty where there are no accounts.
    pub account: String,
    /// Its name.
    pub name: String,
}

impl StreamKey {
    /// The stream that an assignment is about.
    pub fn of_stream(stream: &StreamAssignment) -> Self {
        let account = stream.client.as_ref().map_or("", |client| client.service_account());
        Self { account: account.into(), name: stream.config.name.clone() }
    }

    /// The stream that a consumer's assignment belongs to.
    pub fn of_consumer(consumer: &ConsumerAssignment) -> Self {
        let account = consumer.client.as_ref().map_or("", |client| client.service_account());
        Self { account: account.into(), name: consumer.stream.clone() }
    }
}

/// A stream that is assigned, with its consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// How it is meant to be, and where.
    pub assignment: StreamAssignment,
    /// Its consumers by name.
    consumers: BTreeMap<String, AssignedConsumer>,
    offline: Option<String>,
}

/// A consumer that is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedConsumer {
    /// How it is meant to be, and where.
    pub assignment: ConsumerAssignment,
    offline: Option<String>,
}

impl Assigned {
    /// Why the stream must not run here, as clients are told; none if it may.
    ///
    /// Once said it stays said, or is said anew, until the node starts anew: what was written
    /// meanwhile is not known (upstream does the same).
    pub fn offline(&self) -> Option<&str> {
        self.offline.as_deref()
    }

    /// The consumer of this name.
    pub fn consumer(&self, name: &str) -> Option<&AssignedConsumer> {
        self.consumers.get(name)
    }

    /// The consumers, by name.
    pub fn consumers(&self) -> impl Iterator<Item = &AssignedConsumer> {
        self.consumers.values()
    }
}

impl AssignedConsumer {
    /// Why the consumer must not run here, as clients are told; none if it may.
    pub fn offline(&self) -> Option<&str> {
        self.offline.as_deref()
    }
}

/// What a committed entry or a snapshot changed, for those who run streams and consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A stream is new, or assigned anew under its name.
    StreamAssigned(StreamKey),
    /// A stream is meant to be otherwise, or elsewhere.
    StreamUpdated(StreamKey),
    /// A stream and its consumers are gone.
    StreamRemoved(StreamKey),
    /// A consumer is new, or meant to be otherwise, or elsewhere.
    ConsumerAssigned(StreamKey, String),
    /// A consumer is gone.
    ConsumerRemoved(StreamKey, String),
}

/// Every stream and consumer that the meta group assigned.
///
/// Memory is that of the assignments; each change costs the logarithm of their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments {
    streams: BTreeMap<StreamKey, Assigned>,
}

impl Assignments {
    /// The stream of this account and name.
    pub fn stream(&self, key: &StreamKey) -> Option<&Assigned> {
        self.streams.get(key)
    }

    /// All streams, by account and name.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamKey, &Assigned)> {
        self.streams.iter()
    }

    /// The streams of one account, by name.
    pub fn of_account<'a>(
        &'a self,
        account: &'a str,
    ) -> impl Iterator<Item = (&'a StreamKey, &'a Assigned)> {
        let first = StreamKey { account: account.into(), name: String::new() };
        self.streams.range(first..).take_while(move |(key, _)| key.account == account)
    }

    /// Assigns a stream; one of its name keeps its consumers.
    pub fn assign_stream(&mut self, assignment: StreamAssignment) -> Change {
        let key = StreamKey::of_stream(&assignment);
        let before = self.streams.remove(&key);
        self.streams.insert(key.clone(), placed(assignment, before));
        Change::StreamAssigned(key)
    }

    /// Changes a stream; nothing if there is none of its name.
    pub fn update_stream(&mut self, assignment: StreamAssignment) -> Option<Change> {
        let key = StreamKey::of_stream(&assignment);
        let before = self.streams.remove(&key)?;
        self.streams.insert(key.clone(), placed(assignment, Some(before)));
        Some(Change::StreamUpdated(key))
    }

    /// Says that a stream must not run here, unless that was said before.
    pub fn stop_stream(&mut self, key: &StreamKey, why: String) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.offline.get_or_insert(why);
        }
    }

    /// Removes a stream with its consumers, whether it is supported or not.
    pub fn remove_stream(&mut self, key: &StreamKey) -> Option<Change> {
        self.streams.remove(key).map(|_| Change::StreamRemoved(key.clone()))
    }

    /// Assigns a consumer, or changes it; nothing if its stream is not assigned.
    pub fn assign_consumer(&mut self, assignment: ConsumerAssignment) -> Option<Change> {
        let key = StreamKey::of_consumer(&assignment);
        let stream = self.streams.get_mut(&key)?;
        let name = assignment.name.clone();
        let said = stream.consumers.remove(&name).and_then(|before| before.offline);
        let reason = assignment.unsupported.as_ref().map(|why| why.reason.clone());
        let offline = reason.or(said);
        if offline.is_some() && stream.offline.is_none() {
            stream.offline = Some(format!("stopped - unsupported consumer {name:?}"));
        }
        // What it began with was for those who start it, once.
        let assignment = ConsumerAssignment { state: None, ..assignment };
        stream.consumers.insert(name.clone(), AssignedConsumer { assignment, offline });
        Some(Change::ConsumerAssigned(key, name))
    }

    /// Removes a consumer, if it is still the one of that group: one that was made anew under
    /// the same name has another.
    pub fn remove_consumer(&mut self, removal: &ConsumerAssignment) -> Option<Change> {
        let key = StreamKey::of_consumer(removal);
        let stream = self.streams.get_mut(&key)?;
        let there = stream.consumers.get(&removal.name)?;
        if there.assignment.group.name != removal.group.name {
            return None;
        }
        stream.consumers.remove(&removal.name);
        Some(Change::ConsumerRemoved(key, removal.name.clone()))
    }

    /// A consumer's group has the members that it was to have. That leaves out those that were to go,
    /// unless others are wanted since.
    pub fn resize_consumer(&mut self, resized: &ConsumerAssignment) -> Option<Change> {
        let key = StreamKey::of_consumer(resized);
        let stream = self.streams.get_mut(&key)?;
        let there = stream.consumers.get_mut(&resized.name)?;
        resize(&mut there.assignment.group, &resized.group)
            .then(|| Change::ConsumerAssigned(key, resized.name.clone()))
    }

    /// All of it, to be a snapshot of the meta group.
    pub fn snapshot(&self) -> MetaSnapshot {
        let stream = |assigned: &Assigned| MetaStream {
            stream: assigned.assignment.clone(),
            consumers: assigned.consumers().map(|consumer| consumer.assignment.clone()).collect(),
        };
        MetaSnapshot { streams: self.streams.values().map(stream).collect() }
    }

    /// Becomes what a snapshot says, by the changes that lead there: what is gone first, then
    /// what is new, then what is otherwise.
    pub fn install(&mut self, snapshot: MetaSnapshot) -> Vec<Change> {
        let mut changes = Vec::new();
        let next = keyed(snapshot);
        let gone: Vec<_> =
            self.streams.keys().filter(|key| !next.contains_key(key)).cloned().collect();
        changes.extend(gone.iter().filter_map(|key| self.remove_stream(key)));
        for (key, MetaStream { stream, consumers }) in next {
            if self.streams.contains_key(&key) {
                changes.extend(self.update_stream(stream));
                changes.extend(self.remove_consumers_not_in(&key, &consumers));
            } else {
                changes.push(self.assign_stream(stream));
            }
            changes.extend(consumers.into_iter().filter_map(|one| self.assign_consumer(one)));
        }
        changes
    }

    /// Removes consumers that are gone, or were made anew in another group.
    fn remove_consumers_not_in(
        &mut self,
        key: &StreamKey,
        next: &[ConsumerAssignment],
    ) -> Vec<Change> {
        let Some(stream) = self.streams.get(key) else { return Vec::new() };
        let stays = |there: &ConsumerAssignment| {
            next.iter().any(|one| one.name == there.name && one.group.name == there.group.name)
        };
        let gone: Vec<_> = stream
            .consumers()
            .filter(|there| !stays(&there.assignment))
            .map(|there| there.assignment.clone())
            .collect();
        gone.iter().filter_map(|consumer| self.remove_consumer(consumer)).collect()
    }
}

/// The streams of a snapshot by account and name; of two with one name the later counts.
pub(super) fn keyed(snapshot: MetaSnapshot) -> BTreeMap<StreamKey, MetaStream> {
    let key = |stream: MetaStream| (StreamKey::of_stream(&stream.stream), stream);
    snapshot.streams.into_iter().map(key).collect()
}

/// Leaves out of a group those who were to go; whether somebody was, and it is still that change.
pub(super) fn resize(there: &mut RaftGroup, resized: &RaftGroup) -> bool {
    let same = (&there.name, there.resizes) == (&resized.name, resized.resizes);
    let fewer = !resized.peers.is_empty() && resized.peers.len() < there.peers.len();
    let fits = same && fewer && there.peers.ends_with(&resized.peers);
    if fits {
        there.peers.clone_from(&resized.peers);
    }
    fits
}

/// A stream in the place of the one before it.
fn placed(assignment: StreamAssignment, before: Option<Assigned>) -> Assigned {
    let (consumers, said) = match before {
        Some(before) => (before.consumers, before.offline),
        None => (BTreeMap::new(), None),
    };
    let reason = assignment.unsupported.as_ref().map(|why| why.reason.clone());
    Assigned { assignment, consumers, offline: reason.or(said) }
}
