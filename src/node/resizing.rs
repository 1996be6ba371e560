//! Brings the members of a group to those that the meta group wants.
//!
//! The rule: one change at a time, by the group's own leader. Nobody goes before all who come are
//! members, nor while those who stay lack what the group has. Only then the meta group is
//! told, and what it commits of that closes and erases those who went. So a server whose copy is
//! needed keeps it, however often anybody starts again meanwhile.
//!
//! Upstream: `monitorConsumer` in `server/jetstream_cluster.go` does so when a stream is moved; when
//! replicas are taken away it lets them go at once.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Node;
use super::machine::{Group, Machine};
use crate::cluster::consumer_group::wanted_peers;
use crate::context::Context;
use crate::ids::{GroupId, PeerId};
use crate::raft::{Change, Members};
use crate::time::Time;
use crate::wire::{ConsumerAssignment, ConsumerChange, RaftGroup};

/// The members that a group is to have.
#[derive(Debug)]
pub(super) struct Wanted {
    members: Vec<PeerId>,
    /// Whether more servers are assigned, who wait to be let go.
    more_assigned: bool,
    step: Step,
}

/// What a leader did last for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing, or all that there was to do.
    None,
    /// This change was begun; if it fails, the next is begun not before this moment.
    Change(Change, Time),
    /// Whoever is to stay lacks something, and is looked at again at this moment.
    Wait(Time),
    /// The meta group is to be told, and again at this moment.
    Tell(Time),
}

impl Wanted {
    pub(super) fn new(members: Vec<PeerId>, more_assigned: bool) -> Self {
        Self { members, more_assigned, step: Step::None }
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.step {
            Step::None => None,
            Step::Change(_, again) | Step::Wait(again) | Step::Tell(again) => Some(again),
        }
    }

    /// The change that comes next: who is lacking first, one after the other; then who is too many,
    /// those first that lack something, and who leads last. No memory, as it is asked after every
    /// event.
    fn next_change(
        &self,
        members: &Members,
        me: PeerId,
        keeps_up: impl Fn(PeerId) -> bool,
    ) -> Option<Change> {
        let last = match self.step {
            Step::Change(Change::Add(last), _) => Some(last),
            _ => None,
        };
        // Whoever was silent must not keep another from being added.
        let tried = self.members.iter().position(|peer| Some(*peer) == last);
        let turn = tried.map_or(0, |tried| tried + 1);
        let in_turn = self.members.iter().skip(turn).chain(self.members.iter().take(turn));
        if let Some(peer) = in_turn.copied().find(|peer| !members.contains(peer)) {
            return Some(Change::Add(peer));
        }
        let surplus = members.iter().filter(|peer| !self.members.contains(peer));
        let worth = |peer: &PeerId| (keeps_up(*peer), *peer == me);
        surplus.min_by_key(worth).map(Change::Remove)
    }

    /// Whether a quorum of those who are left has everything, and one of those who are to stay.
    fn is_safe(
        &self,
        change: Change,
        members: &Members,
        keeps_up: impl Fn(PeerId) -> bool,
    ) -> bool {
        let Change::Remove(gone) = change else { return true };
        let left = members.without(gone);
        let have = left.iter().filter(|peer| keeps_up(*peer)).count();
        let stay = self.members.iter().filter(|peer| keeps_up(**peer)).count();
        have >= left.quorum() && stay > self.members.len() / 2
    }
}

impl Group {
    /// Other members are wanted than before, or the same again.
    pub(super) fn want_members(&mut self, members: &[PeerId], more_assigned: bool) {
        let same = self.wanted.as_ref().is_some_and(|wanted| {
            wanted.members == members && wanted.more_assigned == more_assigned
        });
        if !same {
            self.wanted = Some(Wanted::new(members.to_vec(), more_assigned));
        }
    }

    /// Takes the next step towards the members that are wanted; whether the meta group is to be told
    /// that they are the members.
    pub(super) fn resize(&mut self, context: &mut Context<'_>) -> bool {
        let Some(wanted) = &mut self.wanted else { return false };
        if !self.raft.leads() {
            wanted.step = Step::None;
            return false;
        }
        let now = context.now;
        match wanted.step {
            Step::Change(change, again) => match self.raft.change_is_done(change) {
                Some(true) => {}
                // Under way, or given up a moment ago.
                _ if now < again => return false,
                None => {
                    wanted.step = Step::Change(change, now + context.timers.lost_quorum);
                    return false;
                }
                Some(false) => {}
            },
            Step::Wait(again) | Step::Tell(again) if now < again => return false,
            _ => {}
        }
        let (members, me) = (self.raft.members(), self.raft.me());
        let keeps_up = |peer| self.raft.keeps_up(context, peer);
        if let Some(change) = wanted.next_change(members, me, keeps_up) {
            if !wanted.is_safe(change, members, keeps_up) {
                wanted.step = Step::Wait(now + context.timers.heartbeat);
                return false;
            }
            // What is refused now, as another change is under way, is tried again.
            let _ = self.raft.change_members(context, change);
            wanted.step = Step::Change(change, now + context.timers.election_max);
            return false;
        }
        let tells = wanted.more_assigned && self.raft.status().change.is_none();
        wanted.step = match tells {
            true => Step::Tell(now + context.timers.lost_quorum),
            false => Step::None,
        };
        tells
    }

    /// Tells the meta group that another group of this server has the members that it wants.
    fn tell_resized(&mut self, context: &mut Context<'_>, resized: Bytes) {
        if !matches!(self.machine, Machine::Meta(_)) {
            return;
        }
        // Where nobody takes it now, it is told again.
        let _ = self.forward_assignment(context, &resized);
    }
}

impl Node {
    /// Tells the meta group of groups that have the members that it wants.
    pub(super) fn tell_resized(&mut self) {
        while let Some(group) = self.resized.pop() {
            if let (Some(meta), Some(resized)) = (self.meta, self.resized_consumer(group)) {
                let resized = resized.to_bytes(ConsumerChange::Resized);
                self.with(meta, |meta, cx| meta.tell_resized(cx, resized));
            }
        }
    }

    fn resized_consumer(&self, group: GroupId) -> Option<ConsumerAssignment> {
        let (key, name) = self.assigned.consumer_of(group)?;
        let stream = self.assignments()?.stream(key)?;
        let there = &stream.consumer(name)?.assignment;
        let peers = wanted_peers(there, &stream.assignment.config).to_vec();
        let group = RaftGroup { peers, scale_up: false, ..there.group.clone() };
        Some(ConsumerAssignment { group, ..there.clone() })
    }
}
