//! What a leader of the meta group proposed and nobody has applied yet.
//!
//! The rule: a decision sees it as if it were applied, so that two requests that arrive together
//! do not both create the same name. It is dropped when leadership ends.
//!
//! Upstream: `trackInflightStreamProposal`, `trackInflightConsumerProposal` and those that read
//! them in `server/jetstream_cluster.go`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use super::assignments::{Assignments, Change, StreamKey};
use crate::wire::{ConsumerAssignment, StreamAssignment};

/// Proposals in flight; none in the place of an assignment is its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflight {
    streams: BTreeMap<StreamKey, Option<StreamAssignment>>,
    consumers: BTreeMap<(StreamKey, String), Option<ConsumerAssignment>>,
}

impl Inflight {
    /// A stream was proposed, or its removal.
    pub fn stream_proposed(&mut self, key: StreamKey, stream: Option<StreamAssignment>) {
        self.streams.insert(key, stream);
    }

    /// A consumer was proposed, or its removal.
    pub fn consumer_proposed(
        &mut self,
        key: StreamKey,
        name: String,
        consumer: Option<ConsumerAssignment>,
    ) {
        self.consumers.insert((key, name), consumer);
    }

    /// What was proposed of it is applied.
    pub fn applied(&mut self, change: &Change) {
        match change {
            Change::StreamAssigned(key) | Change::StreamUpdated(key) => {
                self.streams.remove(key);
            }
            Change::StreamRemoved(key) => {
                self.streams.remove(key);
                self.consumers.retain(|(stream, _), _| stream != key);
            }
            Change::ConsumerAssigned(key, name) | Change::ConsumerRemoved(key, name) => {
                self.consumers.remove(&(key.clone(), name.clone()));
            }
        }
    }

    /// How many proposals are in flight.
    pub fn len(&self) -> usize {
        self.streams.len() + self.consumers.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leadership ended: what was proposed may or may not be committed by another.
    pub fn clear(&mut self) {
        self.streams.clear();
        self.consumers.clear();
    }
}

/// What is assigned, with what is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Foresight<'a> {
    /// What is applied.
    pub assignments: &'a Assignments,
    /// What is proposed.
    pub inflight: &'a Inflight,
}

impl<'a> Foresight<'a> {
    /// A stream.
    pub fn stream(&self, key: &StreamKey) -> Option<&'a StreamAssignment> {
        match self.inflight.streams.get(key) {
            Some(proposed) => proposed.as_ref(),
            None => self.assignments.stream(key).map(|assigned| &assigned.assignment),
        }
    }

    /// The streams of an account, in no order that means anything.
    pub fn streams(
        &self,
        account: &'a str,
    ) -> impl Iterator<Item = &'a StreamAssignment> + use<'a> {
        let inflight = self.inflight;
        let first = StreamKey { account: account.to_string(), name: String::new() };
        let proposed =
            inflight.streams.range(first..).take_while(move |(key, _)| key.account == account);
        let applied = self.assignments.of_account(account);
        let applied = applied.filter(move |(key, _)| !inflight.streams.contains_key(*key));
        let applied = applied.map(|(_, stream)| &stream.assignment);
        proposed.filter_map(|(_, proposed)| proposed.as_ref()).chain(applied)
    }

    /// A consumer of a stream.
    pub fn consumer(&self, key: &StreamKey, name: &str) -> Option<&'a ConsumerAssignment> {
        match self.inflight.consumers.get(&(key.clone(), name.to_string())) {
            Some(proposed) => proposed.as_ref(),
            None => {
                let consumer = self.assignments.stream(key)?.consumer(name)?;
                Some(&consumer.assignment)
            }
        }
    }

    /// The consumers of a stream, in no order that means anything.
    pub fn consumers(
        &self,
        key: &'a StreamKey,
    ) -> impl Iterator<Item = &'a ConsumerAssignment> + use<'a> {
        let inflight = self.inflight;
        let first = (key.clone(), String::new());
        let proposed = inflight.consumers.range(first..).take_while(move |(of, _)| of.0 == *key);
        let applied = self.assignments.stream(key).into_iter();
        let applied = applied.flat_map(|stream| stream.consumers()).filter(move |consumer| {
            let name = consumer.assignment.name.clone();
            !inflight.consumers.contains_key(&(key.clone(), name))
        });
        let applied = applied.map(|consumer| &consumer.assignment);
        proposed.filter_map(|(_, proposed)| proposed.as_ref()).chain(applied)
    }
}
