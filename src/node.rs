//! All groups of one server: routes events, collects commands.
//!
//! The contract, in full: hand in one event, then poll until there is no command left, then wait
//! for the next event or for the deadline.
//!
//! * [`Node::handle`] takes one fact. It never blocks and costs what the fact itself costs, not
//!   what the history or the number of groups would.
//! * [`Node::poll`] gives the next command. Proposals of all events since the last drain leave in
//!   one append entry a group, when the commands before them are drained: a driver that hands in
//!   all that is ready before it polls gets larger ones.
//! * [`Node::status`] and [`Node::health`] tell how a group stands, and change nothing.
//! * [`Node::deadline`] tells when to hand in [`Event::DeadlineReached`].

mod api;
mod assigned;
mod consumer;
mod feedback;
mod info;
mod machine;
mod membership;
mod meta;
mod plain;
mod questions;
mod resizing;
mod timers;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::budget::Budget;
use crate::command::{Answer, Command, Report};
use crate::config::{Config, ConfigError, GroupKind};
use crate::context::Context;
use crate::event::{Event, MachineSays, Request};
use crate::ids::{GroupId, GroupName, PeerId, RequestId};
use crate::outbox::Outbox;
use crate::raft::{self, Health, ProposeError};
use crate::random::Random;
use crate::stream;
use crate::subject::Subject;
use crate::time::Time;
use crate::wire::{ApiError, PublishAckResponse};

use assigned::Assigned;
use info::Names;
use machine::{Founding, Group, Machine};
use timers::Timers;

/// How often in a row the deadline of a group may stay the same although it was handled.
const DEADLINES_OF_A_MOMENT: u32 = 8;

/// One server's part in all its groups.
#[derive(Debug)]
pub struct Node {
    config: Config,
    me: PeerId,
    now: Time,
    random: Random,
    out: Outbox,
    budget: Budget,
    /// By their numbers; none where a group was closed.
    groups: Vec<Option<Box<Group>>>,
    names: BTreeMap<GroupName, GroupId>,
    /// The names of all servers that are members of a group.
    peers: BTreeMap<PeerId, String>,
    timers: Timers,
    /// The meta group, if the node is a member of one.
    meta: Option<GroupId>,
    /// The name of the meta group's cluster; empty without one.
    cluster: String,
    assigned: Assigned,
    /// Groups that have the members that they were to have, of which the meta group is to be told.
    resized: Vec<GroupId>,
    /// Groups with something to flush once the commands are drained.
    unflushed: BTreeSet<GroupId>,
}

/// Why a node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Wake {
    /// Commands wait to be polled.
    Commands,
    /// A follower has not heard of a leader.
    Election,
    /// A leader is due to be heard, and must still see a quorum.
    Heartbeat,
    /// A catchup must make progress.
    Catchup,
    /// A change of the members goes on, or a client is to be told of one.
    Members,
    /// A message expires.
    Expiry,
    /// Another server awaits an answer about a stream.
    Info,
    /// A batch that its publisher did not commit is given up.
    Batch,
    /// A schedule sends its message.
    Schedule,
    /// A member that lost its votes asks for terms again.
    Repair,
    /// What the meta group gathered of its log is done, although nobody leads it.
    Recovery,
}

impl Node {
    /// A node that waits for [`Event::Opened`] of each of its groups.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that cannot work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        check(&config)?;
        let me = PeerId::from_name(&config.name);
        let mut node = Self {
            me,
            now: Time::ZERO,
            random: Random::new(config.seed),
            out: Outbox::new(),
            budget: Budget::new(config.limits.stream_catchups_in_flight.get()),
            groups: Vec::new(),
            names: BTreeMap::new(),
            peers: names_of_peers(&config),
            timers: Timers::default(),
            unflushed: BTreeSet::new(),
            meta: None,
            cluster: String::new(),
            assigned: Assigned::default(),
            resized: Vec::new(),
            config,
        };
        #[cfg(feature = "canaries")]
        {
            node.out.canary = node.config.limits.canary;
        }
        for (place, config) in (0_u32..).zip(node.config.groups.clone()) {
            if let GroupKind::Meta(meta) = &config.kind {
                node.meta = Some(GroupId(place));
                node.cluster.clone_from(&meta.cluster);
            }
            node.add_group(GroupId(place), Founding::from(&config));
        }
        Ok(node)
    }

    fn add_group(&mut self, id: GroupId, founding: Founding) {
        self.names.insert(founding.name.clone(), id);
        let me = self.me;
        let mut group = Group::new(id, founding, me, &mut self.context());
        if let Machine::Stream(stream) = &mut group.machine {
            stream.set_domain(&self.config.domain);
        }
        self.groups.push(Some(Box::new(group)));
    }

    const fn context(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            limits: &self.config.limits,
            timers: &self.config.timers,
            random: &mut self.random,
            out: &mut self.out,
            budget: &mut self.budget,
        }
    }

    fn group_at(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.0 as usize)?.as_deref()
    }

    /// One thing happened.
    ///
    /// A time before that of an earlier event counts as that of the earlier event.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.now = self.now.max(now);
        match event {
            Event::Opened { group, disk } => self.with(group, |group, cx| group.open(cx, disk)),
            Event::Received { from, subject, reply, payload } => {
                self.receive(from, &subject, reply, &payload);
            }
            Event::Connected(_) | Event::Disconnected(_) => {}
            Event::Announced { peer, binary_snapshots } => {
                for place in 0..self.groups.len() {
                    // Groups are numbered by `u32`.
                    let group = GroupId(place as u32);
                    self.with(group, |group, cx| group.announced(cx, peer, binary_snapshots));
                }
            }
            Event::Request { id, group, request } => self.request(id, group, request),
            Event::Written { through } => {
                while let Some(group) = self.out.next_written(through) {
                    self.with(group, |group, cx| group.raft().handle_written(cx, through));
                }
            }
            Event::WriteFailed { group, failure, .. } | Event::StoreFailed { group, failure } => {
                self.with(group, |group, cx| group.handle_failure(cx, &failure));
            }
            Event::Stored { through } => {
                while let Some(group) = self.out.next_stored(through) {
                    self.with(group, |group, _| group.handle_stored(through));
                }
            }
            Event::StoreSynced { group, through } => {
                self.with(group, |group, cx| group.handle_synced(cx, through));
            }
            Event::Loaded { load, records } => {
                if let Some(group) = self.out.take_load(load) {
                    self.with(group, |group, cx| group.handle_loaded(cx, load, &records));
                }
            }
            Event::Read { load, messages, next } => {
                if let Some(group) = self.out.take_load(load) {
                    self.with(group, |group, cx| group.handle_read(cx, load, &messages, next));
                }
            }
            Event::LoadFailed { load, failure } => {
                if let Some(group) = self.out.take_load(load) {
                    self.with(group, |group, cx| group.handle_load_failed(cx, load, &failure));
                }
            }
            Event::MessagesLost { load, lost } => {
                if let Some(group) = self.out.take_load(load) {
                    self.with(group, |group, cx| group.handle_messages_lost(cx, load, lost));
                }
            }
            Event::Applied { group, through } => {
                let says = MachineSays::Processed { through, applied: through };
                self.with(group, |group, cx| group.hear_machine(cx, says));
            }
            Event::SnapshotTaken { group, index, data } => {
                self.with(group, |group, cx| group.handle_snapshot_taken(cx, index, data));
            }
            Event::Machine { group, says } => {
                self.with(group, |group, cx| group.hear_machine(cx, says));
            }
            Event::DeadlineReached => self.deadline_reached(),
            Event::Assigned { group, sync } => {
                self.with(group, |group, _| group.assigned(sync));
            }
            Event::SnapshotLoaded { load, part } => {
                if let Some(group) = self.out.take_load(load) {
                    self.with(group, |group, cx| {
                        group.raft().handle_snapshot_loaded(cx, load, part);
                    });
                }
            }
            Event::ServerTold { peer, server } => {
                let member =
                    |meta: &GroupId| self.group_at(*meta).is_some_and(|group| group.has(peer));
                if let Some(meta) = self.meta.filter(member) {
                    self.peers.insert(peer, server.name.clone());
                    self.with(meta, |group, _| group.server_told(peer, *server));
                }
            }
        }
        self.tell_resized();
        self.follow_assignments();
        while let Some((group, token)) = self.budget.woken() {
            self.with(group, |group, cx| group.budget_available(cx, token));
        }
    }

    /// The next thing to do; call until there is none.
    pub fn poll(&mut self) -> Option<Command> {
        while self.out.is_empty() {
            let group = self.unflushed.pop_first()?;
            self.with(group, |group, cx| group.raft().flush(cx));
        }
        self.out.pop()
    }

    /// When to hand in [`Event::DeadlineReached`], and why; none while nothing is due.
    pub fn deadline(&self) -> Option<(Time, Wake)> {
        if !self.out.is_empty() || !self.unflushed.is_empty() {
            return Some((self.now, Wake::Commands));
        }
        self.timers.first().map(|(time, _, wake)| (time, wake))
    }

    /// What it was told before it started.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The group of this name.
    pub fn group(&self, name: &GroupName) -> Option<GroupId> {
        self.names.get(name).copied()
    }

    /// How a group stands; none if there is no such group.
    pub fn status(&self, group: GroupId) -> Option<raft::Status> {
        self.group_at(group).map(Group::status)
    }

    /// Whether a group has here what it has elsewhere, at a time that is not before the last event;
    /// none if there is no such group.
    pub fn health(&self, group: GroupId, now: Time) -> Option<Health> {
        let group = self.group_at(group)?;
        Some(group.health(now.max(self.now), &self.config.timers))
    }

    /// Bytes in flight of all catchups of streams that the node serves: at most
    /// [`Limits::stream_catchups_in_flight`](crate::limits::Limits::stream_catchups_in_flight), or
    /// what a single one has.
    pub const fn catchup_bytes(&self) -> u64 {
        self.budget.total()
    }

    /// Runs a step of one group, and what follows from it.
    fn with(&mut self, id: GroupId, step: impl FnOnce(&mut Group, &mut Context<'_>)) {
        let Some(Some(group)) = self.groups.get_mut(id.0 as usize) else { return };
        let mut context = Context {
            now: self.now,
            limits: &self.config.limits,
            timers: &self.config.timers,
            random: &mut self.random,
            out: &mut self.out,
            budget: &mut self.budget,
        };
        step(group, &mut context);
        group.settle(&mut context);
        if group.resize(&mut context) {
            self.resized.push(id);
        }
        self.timers.set(id, group.deadline());
        if group.raft.has_to_flush(&self.config.limits) {
            self.unflushed.insert(id);
        }
    }

    fn receive(
        &mut self,
        from: Option<PeerId>,
        subject: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) {
        let Some(id) = self.out.subscriber(subject) else { return };
        let (found, limit) = (payload.len() as u64, self.config.limits.peer_message.get());
        if found > limit {
            let why = format!("{subject}: {found} bytes are more than the {limit} allowed");
            return self.out.report(id, Report::Refused { from, why });
        }
        if self.group_at(id).is_some_and(|group| group.is_info_subject(subject)) {
            return self.with_names(id, |group, cx, names| {
                group.handle_info_request(cx, names, reply);
            });
        }
        self.with(id, |group, cx| group.handle_message(cx, from, subject, reply, payload));
    }

    /// Runs a step of one group that tells the names of servers.
    fn with_names(
        &mut self,
        id: GroupId,
        step: impl FnOnce(&mut Group, &mut Context<'_>, Names<'_>),
    ) {
        let (peers, cluster) =
            (core::mem::take(&mut self.peers), core::mem::take(&mut self.cluster));
        self.with(id, |group, cx| step(group, cx, Names { of_peers: &peers, cluster: &cluster }));
        (self.peers, self.cluster) = (peers, cluster);
    }

    fn request(&mut self, id: RequestId, group: GroupId, request: Request) {
        if self.group_at(group).is_none() {
            return self.out.answer(id, error_answer(ApiError::STREAM_NOT_FOUND));
        }
        if let Request::Api { client, subject, payload } = &request
            && let Some(answer) = self.answer_question(group, (client, subject, payload))
        {
            return self.out.answer(id, Answer::Json(answer));
        }
        self.with_names(group, |group, cx, names| group.request(cx, names, id, request));
    }

    fn deadline_reached(&mut self) {
        let mut again = 0;
        while let Some((time, group, wake)) = self.timers.first()
            && time <= self.now
        {
            self.with_names(group, |group, cx, names| {
                group.handle_deadline(cx);
                group.answer_due(cx, names);
            });
            // A group whose deadline does not move would be asked for ever: that is a bug here. Two
            // of one group may fall on one moment, though, and the next of one on that of the other.
            again = if self.timers.first() == Some((time, group, wake)) { again + 1 } else { 0 };
            assert!(
                again < DEADLINES_OF_A_MOMENT,
                "{wake:?} of group {group} at {time} was handled and did not move"
            );
        }
    }
}

/// An error without the name of a stream: `{"error":{…}}`.
fn error_answer(error: ApiError) -> Answer {
    Answer::Json(PublishAckResponse { error: Some(error), ack: None }.to_bytes())
}

/// What a client is told about a proposal that was not taken.
fn refusal(error: ProposeError) -> ApiError {
    match error {
        ProposeError::Busy => ApiError::INSUFFICIENT_RESOURCES,
        ProposeError::NotLeader => ApiError::CLUSTER_NOT_LEADER,
    }
}

fn names_of_peers(config: &Config) -> BTreeMap<PeerId, String> {
    let members = config.groups.iter().flat_map(|group| &group.members);
    members.map(|name| (PeerId::from_name(name), name.clone())).collect()
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let error = |field: String, why: String| Err(ConfigError { field, why });
    if config.name.is_empty() {
        return error("name".into(), "found nothing, expected a server name".into());
    }
    let timers = &config.timers;
    for (field, interval) in [
        ("timers.election_min", timers.election_min),
        ("timers.heartbeat", timers.heartbeat),
        ("timers.log_catchup_stall", timers.log_catchup_stall),
        ("timers.catchup_start", timers.catchup_start),
        ("timers.catchup_silence", timers.catchup_silence),
        ("timers.catchup_retry", timers.catchup_retry),
    ] {
        if interval.is_zero() {
            return error(field.into(), "found zero, expected a time to wait".into());
        }
    }
    let (mut names, mut meta) = (BTreeSet::new(), false);
    for (place, group) in config.groups.iter().enumerate() {
        if !names.insert(&group.name) {
            let why = format!("{} is named twice", group.name);
            return error(format!("groups[{place}].name"), why);
        }
        if group.members.len() > config.limits.members {
            let why = format!(
                "found {}, expected at most {}",
                group.members.len(),
                config.limits.members
            );
            return error(format!("groups[{place}].members"), why);
        }
        if matches!(group.kind, GroupKind::Meta(_)) && core::mem::replace(&mut meta, true) {
            let why = "there is another meta group before it".into();
            return error(format!("groups[{place}].kind"), why);
        }
        if let GroupKind::Meta(meta) = &group.kind
            && meta.cluster.is_empty()
        {
            let why = "found nothing, expected the name of a cluster".into();
            return error(format!("groups[{place}].kind.cluster"), why);
        }
        if let GroupKind::Stream(stream) = &group.kind {
            stream::check_config(stream).map_err(|found| ConfigError {
                field: format!("groups[{place}].kind.{}", found.field),
                why: found.why,
            })?;
        }
        let peers: BTreeSet<_> = group.members.iter().map(|name| PeerId::from_name(name)).collect();
        if peers.len() != group.members.len() {
            let why = "two of the names are the same, or give the same peer id".into();
            return error(format!("groups[{place}].members"), why);
        }
    }
    Ok(())
}
