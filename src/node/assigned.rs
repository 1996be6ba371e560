//! The groups of what the meta group assigned to this server: opened, told of changes, closed.
//!
//! The rule: a group's disk is erased only when an entry or a snapshot of the meta group says that
//! its stream or consumer is gone, or is no longer this server's; never because nothing is said.
//!
//! Upstream: `processClusterCreateStream`, `processClusterUpdateStream` and `processStreamRemoval` in
//! `server/jetstream_cluster.go`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use super::machine::{Founding, Machine};
use crate::cluster::assignments::{Assignments, Change, StreamKey};
use crate::cluster::consumer_group::wanted_peers;
use crate::command::Command;
use crate::config::GroupKind;
use crate::ids::{GroupId, GroupName, PeerId};
use crate::subject::Subject;
use crate::wire::{ConsumerAssignment, RaftGroup, StreamAssignment};

/// The groups that were opened because they are assigned here.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    streams: BTreeMap<StreamKey, Running>,
    consumers: BTreeMap<(StreamKey, String), Running>,
}

/// An open group.
#[derive(Debug)]
struct Running {
    group: GroupId,
    name: GroupName,
}

impl Assigned {
    /// The consumer that a group belongs to. Costs the number of consumers.
    pub(super) fn consumer_of(&self, group: GroupId) -> Option<(&StreamKey, &str)> {
        let mut consumers = self.consumers.iter();
        let found = consumers.find(|(_, running)| running.group == group);
        found.map(|((key, name), _)| (key, name.as_str()))
    }
}

impl Node {
    /// The group of a stream that the meta group assigned to this server, while it runs here.
    pub fn assigned_stream(&self, key: &StreamKey) -> Option<GroupId> {
        self.assigned.streams.get(key).map(|running| running.group)
    }

    /// The group of a consumer that the meta group assigned to this server, while it runs here.
    pub fn assigned_consumer(&self, key: &StreamKey, name: &str) -> Option<GroupId> {
        let running = self.assigned.consumers.get(&(key.clone(), name.into()));
        running.map(|running| running.group)
    }

    /// What the meta group assigned, as far as this node applied it; none if it is no member of one.
    pub fn assignments(&self) -> Option<&Assignments> {
        Some(self.group_at(self.meta?)?.meta()?.assignments())
    }

    /// Does what the meta group wants done.
    pub(super) fn follow_assignments(&mut self) {
        while let Some(changes) = self.take_changes() {
            for change in &changes.changes {
                match change {
                    Change::StreamAssigned(key)
                    | Change::StreamUpdated(key)
                    | Change::StreamRemoved(key) => self.settle_stream(key),
                    Change::ConsumerAssigned(key, name) | Change::ConsumerRemoved(key, name) => {
                        // One that is not understood takes its stream offline.
                        self.settle_stream(key);
                        self.settle_consumer(key, name);
                    }
                }
            }
            for name in changes.gone {
                // Such a name was never opened, and is on no disk.
                let Ok(name) = GroupName::new(name) else { continue };
                if !self.names.contains_key(&name) {
                    self.out.push(Command::EraseGroup(name));
                }
            }
        }
    }

    fn take_changes(&mut self) -> Option<crate::cluster::meta::Changes> {
        let meta = self.meta?;
        self.groups.get_mut(meta.0 as usize)?.as_mut()?.take_changes()
    }

    /// Brings the group of a stream to what is assigned, and those of its consumers that run.
    fn settle_stream(&mut self, key: &StreamKey) {
        self.settle_stream_itself(key);
        let first = (key.clone(), String::new());
        let running = self.assigned.consumers.range(first..);
        let names = running.take_while(|((stream, _), _)| stream == key);
        let names: Vec<String> = names.map(|((_, name), _)| name.clone()).collect();
        for name in names {
            self.settle_consumer(key, &name);
        }
    }

    /// Brings the group of a consumer to what is assigned.
    fn settle_consumer(&mut self, key: &StreamKey, name: &str) {
        let wanted = self.wanted_consumer(key, name);
        let place = (key.clone(), String::from(name));
        if let Some(running) = self.assigned.consumers.get(&place) {
            let group = running.group;
            match wanted {
                Some((wanted, members)) if running.name.as_str() == wanted.group.name => {
                    let more_assigned = members.len() < wanted.group.peers.len();
                    return self.with(group, |group, _| {
                        if let Machine::Consumer(consumer) = &mut group.machine {
                            consumer.reconfigure(wanted.config);
                        }
                        group.want_members(&members, more_assigned);
                    });
                }
                _ => {
                    self.assigned.consumers.remove(&place);
                    self.close_group(group);
                }
            }
        }
        if let Some((wanted, members)) = self.wanted_consumer(key, name)
            && let Err(why) = self.open_consumer(place, wanted, &members)
        {
            self.stop_stream(key, format!("stopped - consumer {name:?}: {why}"));
        }
    }

    /// The consumer, if it is to run here, and the servers that it is to be on in the end.
    fn wanted_consumer(
        &self,
        key: &StreamKey,
        name: &str,
    ) -> Option<(ConsumerAssignment, Vec<PeerId>)> {
        let stream = self.assignments()?.stream(key);
        let stream = stream.filter(|stream| stream.offline().is_none())?;
        let consumer = stream.consumer(name).filter(|consumer| consumer.offline().is_none())?;
        let consumer = &consumer.assignment;
        let members = || wanted_peers(consumer, &stream.assignment.config).to_vec();
        consumer.group.peers.contains(&self.me).then(|| (consumer.clone(), members()))
    }

    fn open_consumer(
        &mut self,
        place: (StreamKey, String),
        consumer: ConsumerAssignment,
        members: &[PeerId],
    ) -> Result<(), String> {
        let ConsumerAssignment { config, group, .. } = consumer;
        let more_assigned = members.len() < group.peers.len();
        // Whoever comes has an empty disk, and takes part in nothing before those that are there let it.
        let running = self.open_group(group, GroupKind::Consumer(config), None)?;
        let id = running.group;
        self.assigned.consumers.insert(place, running);
        self.with(id, |group, _| group.want_members(members, more_assigned));
        Ok(())
    }

    fn settle_stream_itself(&mut self, key: &StreamKey) {
        let wanted = self.wanted_stream(key);
        if let Some(running) = self.assigned.streams.get(key) {
            let same = |wanted: &StreamAssignment| running.name.as_str() == wanted.group.name;
            let group = running.group;
            match wanted {
                Some(wanted) if same(&wanted) => {
                    return self.with(group, |group, _| {
                        if let Machine::Stream(stream) = &mut group.machine {
                            stream.reconfigure(wanted.config);
                        }
                    });
                }
                _ => {
                    self.assigned.streams.remove(key);
                    self.close_group(group);
                }
            }
        }
        // What takes the place of another is asked for anew: it may be another one.
        if let Some(wanted) = self.wanted_stream(key)
            && let Err(why) = self.open_stream(key, wanted)
        {
            self.stop_stream(key, format!("stopped - {why}"));
        }
    }

    /// The stream, if it is to run here.
    fn wanted_stream(&self, key: &StreamKey) -> Option<StreamAssignment> {
        let stream = self.assignments()?.stream(key)?;
        let here = stream.offline().is_none() && stream.assignment.group.peers.contains(&self.me);
        here.then(|| stream.assignment.clone())
    }

    fn stop_stream(&mut self, key: &StreamKey, why: String) {
        if let Some(meta) = self.meta {
            self.with(meta, |group, _| group.stop_stream(key, why));
        }
    }

    fn open_stream(&mut self, key: &StreamKey, stream: StreamAssignment) -> Result<(), String> {
        let StreamAssignment { config, group, sync, .. } = stream;
        let sync = (!sync.is_empty()).then(|| Subject::from(sync));
        let running = self.open_group(group, GroupKind::Stream(config), sync)?;
        self.assigned.streams.insert(key.clone(), running);
        Ok(())
    }

    fn open_group(
        &mut self,
        group: RaftGroup,
        kind: GroupKind,
        sync: Option<Subject>,
    ) -> Result<Running, String> {
        let RaftGroup { name, peers: members, storage, preferred, .. } = group;
        let name = GroupName::new(name).map_err(|error| format!("{error}"))?;
        if members.len() > self.config.limits.members {
            return Err(format!("{} members are too many", members.len()));
        }
        if self.names.contains_key(&name) {
            return Err(format!("this server has another group of the name {name}"));
        }
        let group = u32::try_from(self.groups.len())
            .map(GroupId)
            .map_err(|_| String::from("this server has had too many groups"))?;
        self.out.push(Command::OpenGroup { group, name: name.clone(), storage });
        self.add_group(group, Founding { name: name.clone(), members, kind, sync, preferred });
        Ok(Running { group, name })
    }

    fn close_group(&mut self, id: GroupId) {
        let Some(mut group) = self.groups.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.names.remove(group.raft.name());
        group.close(&mut self.context());
        self.out.forget(id);
        self.timers.set(id, None);
        self.unflushed.remove(&id);
        self.out.push(Command::CloseGroup(id));
    }
}
