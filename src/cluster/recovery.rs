//! What a restart gathers from the meta group's log before any stream or consumer starts.
//!
//! The rule: only what is left at the end is done. A stream that was created and removed again is
//! never made; one that was removed and created anew is removed first, then made.
//!
//! Upstream: `recoveryUpdates` and `collectStreamAndConsumerChanges` in
//! `server/jetstream_cluster.go`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::assignments::{Assignments, Change, StreamKey, keyed, resize};
use crate::ids::PeerId;
use crate::wire::{ConsumerAssignment, MetaOp, MetaSnapshot, RaftGroup, StreamAssignment};

type Consumers = BTreeMap<StreamKey, BTreeMap<String, ConsumerAssignment>>;

/// Staged operations of the meta group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    removed_streams: BTreeMap<StreamKey, StreamAssignment>,
    removed_consumers: Consumers,
    added_streams: BTreeMap<StreamKey, StreamAssignment>,
    updated_streams: BTreeMap<StreamKey, StreamAssignment>,
    updated_consumers: Consumers,
}

impl Recovery {
    /// Stages one operation of the log; gives back one that is not the meta group's.
    pub fn stage(&mut self, op: MetaOp) -> Result<(), MetaOp> {
        match op {
            MetaOp::AssignStream(stream) => {
                self.added_streams.insert(StreamKey::of_stream(&stream), again(*stream));
            }
            MetaOp::UpdateStream(stream) => {
                self.updated_streams.insert(StreamKey::of_stream(&stream), again(*stream));
            }
            MetaOp::RemoveStream(stream) => self.remove_stream(again(*stream)),
            MetaOp::AssignConsumer(consumer) => self.assign_consumer(*consumer),
            MetaOp::RemoveConsumer(consumer) => {
                let key = StreamKey::of_consumer(&consumer);
                if let Some(updated) = self.updated_consumers.get_mut(&key) {
                    updated.remove(&consumer.name);
                }
                let removed = self.removed_consumers.entry(key).or_default();
                removed.insert(consumer.name.clone(), consumer_again(*consumer));
            }
            MetaOp::ConsumerResized(consumer) => {
                // What a change began is staged as well, be it by an entry or by a snapshot.
                let staged = self.updated_consumers.get_mut(&StreamKey::of_consumer(&consumer));
                if let Some(there) = staged.and_then(|staged| staged.get_mut(&consumer.name)) {
                    resize(&mut there.group, &consumer.group);
                }
            }
            unknown => return Err(unknown),
        }
        Ok(())
    }

    fn assign_consumer(&mut self, consumer: ConsumerAssignment) {
        let key = StreamKey::of_consumer(&consumer);
        let updated = self.updated_consumers.entry(key).or_default();
        updated.insert(consumer.name.clone(), consumer_again(consumer));
    }

    /// Nothing of a removed stream is left of what was staged before.
    fn remove_stream(&mut self, stream: StreamAssignment) {
        let key = StreamKey::of_stream(&stream);
        self.added_streams.remove(&key);
        self.updated_streams.remove(&key);
        self.updated_consumers.remove(&key);
        self.removed_consumers.remove(&key);
        self.removed_streams.insert(key, stream);
    }

    /// Stages a snapshot: the way from what there is to what it says.
    pub fn stage_snapshot(&mut self, there: &Assignments, snapshot: MetaSnapshot) {
        let next = keyed(snapshot);
        for (key, assigned) in there.streams() {
            match next.get(key) {
                None => self.remove_stream(again(assigned.assignment.clone())),
                Some(stream) => {
                    for consumer in assigned.consumers().map(|one| &one.assignment) {
                        let same = |one: &&ConsumerAssignment| {
                            one.name == consumer.name && one.group.name == consumer.group.name
                        };
                        if !stream.consumers.iter().any(|one| same(&one)) {
                            let removed = self.removed_consumers.entry(key.clone()).or_default();
                            let gone = consumer_again(consumer.clone());
                            removed.insert(consumer.name.clone(), gone);
                        }
                    }
                }
            }
        }
        for (key, stream) in next {
            let staged = match there.stream(&key) {
                Some(_) => &mut self.updated_streams,
                None => &mut self.added_streams,
            };
            staged.insert(key, again(stream.stream));
            for consumer in stream.consumers {
                self.assign_consumer(consumer);
            }
        }
    }

    /// Does what is left: consumers are removed first, then streams, then streams are made and
    /// changed, and their consumers last.
    pub fn finish(self, assignments: &mut Assignments) -> Vec<Change> {
        let mut changes = Vec::new();
        for consumer in self.removed_consumers.into_values().flat_map(BTreeMap::into_values) {
            changes.extend(assignments.remove_consumer(&consumer));
        }
        for key in self.removed_streams.into_keys() {
            changes.extend(assignments.remove_stream(&key));
        }
        for stream in self.added_streams.into_values() {
            changes.push(assignments.assign_stream(stream));
        }
        for stream in self.updated_streams.into_values() {
            changes.extend(assignments.update_stream(stream));
        }
        for consumer in self.updated_consumers.into_values().flat_map(BTreeMap::into_values) {
            changes.extend(assignments.assign_consumer(consumer));
        }
        changes
    }

    /// Streams to be removed.
    pub fn removed_streams(&self) -> impl Iterator<Item = &StreamKey> {
        self.removed_streams.keys()
    }

    /// Streams to be made.
    pub fn added_streams(&self) -> impl Iterator<Item = &StreamAssignment> {
        self.added_streams.values()
    }

    /// Streams to be changed.
    pub fn updated_streams(&self) -> impl Iterator<Item = &StreamAssignment> {
        self.updated_streams.values()
    }

    /// Consumers of a stream to be removed.
    pub fn removed_consumers(&self, key: &StreamKey) -> impl Iterator<Item = &ConsumerAssignment> {
        self.removed_consumers.get(key).into_iter().flat_map(BTreeMap::values)
    }

    /// Consumers of a stream to be made or changed.
    pub fn updated_consumers(&self, key: &StreamKey) -> impl Iterator<Item = &ConsumerAssignment> {
        self.updated_consumers.get(key).into_iter().flat_map(BTreeMap::values)
    }
}

/// A stream that is not assigned for the first time: nothing is restored, nobody preferred.
fn again(stream: StreamAssignment) -> StreamAssignment {
    StreamAssignment { restore: None, group: settled(&stream.group), ..stream }
}

fn consumer_again(consumer: ConsumerAssignment) -> ConsumerAssignment {
    ConsumerAssignment { group: settled(&consumer.group), ..consumer }
}

fn settled(group: &RaftGroup) -> RaftGroup {
    const NOBODY: Option<PeerId> = None;
    RaftGroup { preferred: NOBODY, scale_up: false, ..group.clone() }
}
