//! Who belongs to the group: what the log says, one change at a time.
//!
//! The rule: the members are those of the snapshot, or of the configuration before there was any,
//! and every change in the log behind it, committed or not. A change counts from the moment it is
//! appended and is gone when its record is truncated, so a member never needs to remember it
//! elsewhere (Raft thesis, section 4.1). Two changes are never under way at once, which keeps
//! every majority before a change overlapping with every one after it.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use thiserror::Error;

use super::{Context, Raft, State, leader::append_entry_of, quorum::Members};
use crate::canary::Canary;
use crate::command::Report;
use crate::ids::{Index, PeerId};
use crate::limits::Limits;
use crate::time::{Duration, Time};
use crate::wire::{AppendEntry, EntryKind, Fault, PeerState, WireError};

/// How many heartbeats a removed member is still sent once its removal is committed, so that it
/// learns of it.
const FAREWELL_BEATS: u8 = 3;

/// Every set of members that the log and what is before it name, the last of which counts.
#[derive(Debug)]
pub struct Membership {
    /// The members before the first record.
    base: Members,
    /// The members from each record on that changes them, ascending.
    changes: VecDeque<(Index, Members)>,
}

/// A change of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This peer becomes a member.
    Add(PeerId),
    /// This peer is no member any more.
    Remove(PeerId),
}

/// Why a change of the members was not begun; nothing of it will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Another member leads, or none, or this one does not know yet what it inherited.
    #[error("this node does not lead the group")]
    NotLeader,
    /// Another change is not committed yet, or its peer not caught up.
    #[error("another change of the members is under way")]
    UnderWay,
    /// The peer is a member already.
    #[error("{0} is a member already")]
    Member(PeerId),
    /// The peer is no member.
    #[error("{0} is not a member")]
    NotAMember(PeerId),
    /// A group without members could never be heard of again.
    #[error("the last member cannot be removed")]
    Last,
    /// [`Limits::members`](crate::limits::Limits::members) is reached.
    #[error("the group has the {0} members that are allowed")]
    TooMany(usize),
}

/// A peer that is to be added, and gets what it lacks first: until then it does not count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    pub(super) peer: PeerId,
    pub(super) since: Time,
}

/// A member that was removed, and is told so for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) peer: PeerId,
    /// The record that removes it.
    at: Index,
    beats: u8,
}

impl Membership {
    /// These members, and a log without a change.
    pub(super) const fn new(base: Members) -> Self {
        Self { base, changes: VecDeque::new() }
    }

    /// The members that count now: those of the last change, committed or not.
    pub fn current(&self) -> &Members {
        self.changes.back().map_or(&self.base, |(_, members)| members)
    }

    /// The members as they were when a record was the last; of the base for one before it.
    pub fn at(&self, index: Index) -> &Members {
        let before = self.changes.iter().rev().find(|(change, _)| *change <= index);
        before.map_or(&self.base, |(_, members)| members)
    }

    /// Every member that the log and what is before it name.
    pub(super) fn ever(&self) -> impl Iterator<Item = PeerId> + '_ {
        let changed = self.changes.iter().flat_map(|(_, members)| members.iter());
        self.base.iter().chain(changed).collect::<BTreeSet<_>>().into_iter()
    }

    /// The last change, if it is not committed yet.
    pub fn pending(&self, commit: Index) -> Option<Index> {
        self.changes.back().map(|(index, _)| *index).filter(|index| *index > commit)
    }

    /// The members before the last change, if that may be uncommitted; those of now if not.
    ///
    /// Not those at the commit: a member that just started knows of no commit behind its snapshot,
    /// but as one change goes at a time, every change but the last is committed.
    fn before_pending(&self, commit: Index) -> &Members {
        let mut changes = self.changes.iter().rev().map(|(_, members)| members);
        let skipped = usize::from(self.pending(commit).is_some());
        changes.nth(skipped).unwrap_or(&self.base)
    }

    /// The members after an append entry that comes next; none if it leaves them as they are.
    ///
    /// A group that is made for more members than it knows keeps that size when one is added, and
    /// shrinks by one when one is removed: a quorum never changes by more than one step.
    ///
    /// # Errors
    /// [`WireError`] for a peer or peer state that is not one, or too many members.
    pub fn after(
        &self,
        entry: &AppendEntry,
        limits: &Limits,
    ) -> Result<Option<Members>, WireError> {
        let changes = |kind| {
            matches!(kind, EntryKind::PeerState | EntryKind::AddPeer | EntryKind::RemovePeer)
        };
        if !entry.entries.views().any(|(kind, _)| changes(kind)) {
            return Ok(None);
        }
        let mut members = self.current().clone();
        for part in entry.entries.iter() {
            match part.kind {
                EntryKind::PeerState => {
                    members = Members::from_peer_state(&PeerState::decode(&part.data, limits)?);
                }
                EntryKind::AddPeer => members = members.with(peer_of(&part.data)?),
                EntryKind::RemovePeer => members = members.without(peer_of(&part.data)?),
                _ => {}
            }
        }
        let (found, limit) = (members.iter().count() as u64, limits.members as u64);
        if found > limit {
            return Err(error("members", Fault::TooLarge { limit, found }));
        }
        if found == 0 {
            return Err(error("members", Fault::Text("at least one member")));
        }
        Ok((members != *self.current()).then_some(members))
    }

    /// A record was appended, and these are the members from now on.
    fn append(&mut self, index: Index, members: Members) {
        self.changes.push_back((index, members));
    }

    /// Every record behind `last` is gone; whether a change was among them.
    fn truncate(&mut self, last: Index) -> bool {
        let before = self.changes.len();
        while self.changes.back().is_some_and(|(index, _)| *index > last) {
            self.changes.pop_back();
        }
        self.changes.len() < before
    }

    /// Every record up to `through` is covered by a snapshot.
    fn compact(&mut self, through: Index) {
        while self.changes.front().is_some_and(|(index, _)| *index <= through) {
            if let Some((_, members)) = self.changes.pop_front() {
                self.base = members;
            }
        }
    }
}

fn error(field: &'static str, fault: Fault) -> WireError {
    WireError { format: "append_entry", field, offset: 0, fault }
}

fn peer_of(data: &[u8]) -> Result<PeerId, WireError> {
    let id = <[u8; 8]>::try_from(data).ok().and_then(PeerId::from_wire);
    id.ok_or_else(|| error("peer", Fault::Text("a peer id of eight bytes")))
}

impl Raft {
    /// Begins to add or to remove a member. The change is done when
    /// [`change_is_done`](Self::change_is_done) says so.
    ///
    /// A peer that is added gets all that it lacks first, and becomes a member when it has it.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing was begun.
    pub fn change_members(
        &mut self,
        context: &mut Context<'_>,
        change: Change,
    ) -> Result<(), ChangeError> {
        if !self.leads() {
            return Err(ChangeError::NotLeader);
        }
        let members = self.members();
        match change {
            Change::Add(peer) if members.contains(&peer) => return Err(ChangeError::Member(peer)),
            Change::Remove(peer) if !members.contains(&peer) => {
                return Err(ChangeError::NotAMember(peer));
            }
            Change::Add(_) if members.iter().count() >= context.limits.members => {
                return Err(ChangeError::TooMany(context.limits.members));
            }
            Change::Remove(_) if members.iter().count() == 1 => return Err(ChangeError::Last),
            _ => {}
        }
        let pending = self.membership.pending(self.commit).is_some();
        let pending = pending && !context.limits.planted(Canary::ChangesOverlap);
        let now = context.now;
        let State::Leader(leader) = &mut self.state else { return Err(ChangeError::NotLeader) };
        if pending || leader.joining.is_some() {
            return Err(ChangeError::UnderWay);
        }
        match change {
            Change::Add(peer) => {
                if leader.leaving.is_some_and(|leaving| leaving.peer == peer) {
                    leader.leaving = None;
                }
                leader.peers.remove(&peer);
                leader.joining = Some(Joining { peer, since: now });
                self.gather_audience();
                // It answers where its log ends, and is fed from there.
                self.send_heartbeat(context);
            }
            Change::Remove(peer) => self.append_change(context, EntryKind::RemovePeer, peer),
        }
        Ok(())
    }

    /// Whether a change that was begun is committed; none while it may still become so.
    pub fn change_is_done(&self, change: Change) -> Option<bool> {
        let committed = self.membership.at(self.commit);
        let done = match change {
            Change::Add(peer) => committed.contains(&peer),
            Change::Remove(peer) => !committed.contains(&peer),
        };
        let open = self.leads()
            && match change {
                Change::Add(peer) => self.joining() == Some(peer) || self.members().contains(&peer),
                Change::Remove(peer) => !self.members().contains(&peer),
            };
        if done { Some(true) } else { (!open).then_some(false) }
    }

    /// The members as the log says.
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The peer that is to be added once it has what it lacks.
    pub fn joining(&self) -> Option<PeerId> {
        match &self.state {
            State::Leader(leader) => leader.joining.map(|joining| joining.peer),
            _ => None,
        }
    }

    /// Whether this member may ask for votes: also one whose removal may be uncommitted, whose log
    /// may be the one that is needed (Raft thesis, section 4.2.2).
    pub(super) fn may_be_elected(&self) -> bool {
        let before = || self.membership.before_pending(self.commit);
        self.members().contains(&self.me) || before().contains(&self.me)
    }

    /// Appends a change, which counts from now on.
    fn append_change(&mut self, context: &mut Context<'_>, kind: EntryKind, peer: PeerId) {
        let members = match kind {
            EntryKind::AddPeer => self.members().with(peer),
            _ => self.members().without(peer),
        };
        self.send_append(context, append_entry_of(&[(kind, peer.as_bytes())]));
        let index = self.log.last().index;
        if let State::Leader(leader) = &mut self.state {
            if leader.joining.is_some_and(|joining| joining.peer == peer) {
                leader.joining = None;
            }
            if kind == EntryKind::RemovePeer && peer != self.me {
                let leaving = Leaving { peer, at: index, beats: FAREWELL_BEATS };
                if let Some(before) = leader.leaving.replace(leaving) {
                    leader.peers.remove(&before.peer);
                }
            }
        }
        self.membership.append(index, members);
        self.members_changed();
    }

    /// Appends a leader's record, and follows the change that it makes; whether it was taken.
    pub(super) fn append_received(
        &mut self,
        context: &mut Context<'_>,
        entry: &AppendEntry,
        record: Bytes,
    ) -> bool {
        match self.membership.after(entry, context.limits) {
            Ok(changed) => {
                self.log.append(entry.term, record, context.out);
                if let Some(members) = changed {
                    self.membership.append(self.log.last().index, members);
                    self.members_changed();
                }
                true
            }
            Err(error) => {
                // It can neither be counted with nor be left out, so it is not taken.
                let why = alloc::format!("record {}: {error}", self.log.last().index.next());
                context.out.report(self.group, Report::Refused { from: entry.leader, why });
                false
            }
        }
    }

    /// Follows the change that a record of the disk makes, which comes next behind the last.
    pub(super) fn replay_change(
        &mut self,
        index: Index,
        entry: &AppendEntry,
        limits: &Limits,
    ) -> Result<(), WireError> {
        if let Some(mut members) = self.membership.after(entry, limits)? {
            let adds = || entry.entries.views().any(|(kind, _)| kind == EntryKind::AddPeer);
            if limits.planted(Canary::ReplayedAddShrinks) && adds() {
                members = Members::new([self.me]);
            }
            self.membership.append(index, members);
            self.members_changed();
        }
        Ok(())
    }

    /// Records behind `last` are gone, and the changes in them.
    pub(super) fn revert_changes(&mut self, last: Index) {
        if self.membership.truncate(last) {
            self.members_changed();
        }
    }

    /// A snapshot covers what is before `through`.
    pub(super) fn settle_changes(&mut self, through: Index) {
        self.membership.compact(through);
    }

    /// The log is replaced by a snapshot, whose members these are.
    pub(super) fn take_members(&mut self, state: &PeerState) {
        self.membership = Membership::new(Members::from_peer_state(state));
        self.members_changed();
    }

    /// The peer state after a record: never one of a later or an uncommitted change.
    pub(super) fn peer_state_at(&self, index: Index) -> PeerState {
        let members = self.membership.at(index);
        PeerState {
            cluster_size: u32::try_from(members.size()).unwrap_or(u32::MAX),
            peers: members.iter().collect(),
            domain: Default::default(),
        }
    }

    /// A peer that is to be added becomes a member as soon as all that it lacks is on its way.
    pub(super) fn add_if_caught_up(&mut self, context: &mut Context<'_>, peer: PeerId) {
        let last = self.log.last().index;
        let near = context.limits.append_entries_in_flight as u64;
        let pending = self.membership.pending(self.commit).is_some();
        let pending = pending && !context.limits.planted(Canary::ChangesOverlap);
        let State::Leader(leader) = &mut self.state else { return };
        let ready = leader.joining.is_some_and(|joining| joining.peer == peer)
            && leader.peers.get(&peer).is_some_and(|progress| progress.is_within(near, last));
        if ready && !pending {
            self.append_change(context, EntryKind::AddPeer, peer);
        }
    }

    /// Gives a silent peer up that was to be added, and stops telling a removed one.
    pub(super) fn tend_strangers(&mut self, now: Time, lost: Duration) {
        let commit = self.commit;
        let State::Leader(leader) = &mut self.state else { return };
        let mut changed = false;
        if let Some(joining) = leader.joining {
            let heard = leader.peers.get(&joining.peer).and_then(|progress| progress.heard());
            if now.since(heard.unwrap_or(joining.since)) >= lost {
                leader.joining = None;
                leader.peers.remove(&joining.peer);
                changed = true;
            }
        }
        if let Some(leaving) = &mut leader.leaving
            && leaving.at <= commit
        {
            leaving.beats = leaving.beats.saturating_sub(1);
            if leaving.beats == 0 {
                leader.peers.remove(&leaving.peer);
                leader.leaving = None;
                changed = true;
            }
        }
        if changed {
            self.gather_audience();
        }
    }

    /// Tells of a change that was appended, committed or reverted; a leader that is removed hands
    /// over once that is committed. A node calls it after each step; it costs nothing then.
    pub fn settle(&mut self, context: &mut Context<'_>) {
        if matches!(self.state, State::Opening(_) | State::Aside(_)) {
            return;
        }
        let last = self.membership.changes.back().map(|(index, _)| *index);
        let pending = self.membership.pending(self.commit).is_some();
        if self.told_members == (last, pending) {
            return;
        }
        let settled = self.told_members.1 && !pending;
        self.told_members = (last, pending);
        if pending || settled {
            let members: Vec<_> = self.members().iter().collect();
            context.out.report(self.group, Report::Members { members, committed: !pending });
        }
        if !pending && matches!(self.state, State::Leader(_)) && !self.members().contains(&self.me)
        {
            // It leads, so there is something to give up.
            let _ = self.step_down(context, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use crate::wire::AppendEntryBuilder;

    fn peer(name: &str) -> PeerId {
        PeerId::from_name(name)
    }

    fn membership(names: &[&str]) -> Membership {
        Membership::new(Members::new(names.iter().map(|name| peer(name))))
    }

    fn entry(parts: &[(EntryKind, &[u8])]) -> AppendEntry {
        let mut builder = AppendEntryBuilder::new();
        for (kind, data) in parts {
            assert!(builder.push(*kind, data));
        }
        let (term, zero) = (Term::new(1), Index::ZERO);
        let bytes = builder.finish(peer("a"), term, zero, Term::ZERO, zero, Term::ZERO);
        AppendEntry::decode(&bytes).expect("just built")
    }

    fn add(name: &str) -> AppendEntry {
        entry(&[(EntryKind::AddPeer, peer(name).as_bytes())])
    }

    fn remove(name: &str) -> AppendEntry {
        entry(&[(EntryKind::RemovePeer, peer(name).as_bytes())])
    }

    fn append(membership: &mut Membership, index: u64, entry: &AppendEntry) {
        let members = membership.after(entry, &Limits::default()).expect("sound");
        membership.append(Index::new(index), members.expect("a change"));
    }

    #[test]
    fn a_change_counts_from_its_record_on_and_goes_with_it() {
        let mut all = membership(&["a", "b", "c"]);
        append(&mut all, 4, &add("d"));
        append(&mut all, 7, &remove("a"));
        assert_eq!((all.current().size(), all.current().quorum()), (3, 2));
        assert_eq!(all.at(Index::new(6)).quorum(), 3);
        assert!(all.at(Index::new(6)).contains(&peer("a")));
        assert_eq!(all.pending(Index::new(6)), Some(Index::new(7)));
        assert_eq!(all.pending(Index::new(7)), None);
        assert!(all.truncate(Index::new(6)) && !all.truncate(Index::new(6)));
        assert!(all.current().contains(&peer("a")) && all.current().contains(&peer("d")));
        all.compact(Index::new(5));
        assert!(!all.truncate(Index::ZERO), "what a snapshot covers stays");
        assert_eq!(all.at(Index::ZERO).size(), 4);
    }

    #[test]
    fn what_is_so_already_is_no_change() {
        let all = membership(&["a", "b", "c"]);
        let state = PeerState {
            cluster_size: 3,
            peers: ["c", "a", "b"].map(PeerId::from_name).to_vec(),
            domain: Default::default(),
        };
        let state = entry(&[(EntryKind::PeerState, &state.to_bytes())]);
        for same in [add("a"), remove("z"), state, entry(&[(EntryKind::Normal, b"x")])] {
            assert_eq!(all.after(&same, &Limits::default()), Ok(None));
        }
    }

    #[test]
    fn a_group_that_waits_for_members_keeps_its_quorum() {
        let state = PeerState {
            cluster_size: 5,
            peers: ["a", "b"].map(PeerId::from_name).to_vec(),
            domain: Default::default(),
        };
        let members = Members::from_peer_state(&state);
        assert_eq!(members.with(peer("c")).quorum(), 3);
        assert_eq!(members.without(peer("b")).size(), 4);
    }

    #[test]
    fn what_is_no_peer_is_refused() {
        let all = membership(&["a"]);
        let limits = Limits { members: 1, ..Limits::default() };
        for bad in [
            entry(&[(EntryKind::AddPeer, b"short")]),
            entry(&[(EntryKind::RemovePeer, &[0; 8])]),
            entry(&[(EntryKind::PeerState, b"short")]),
            add("b"),
            remove("a"),
        ] {
            assert!(all.after(&bad, &limits).is_err(), "{bad:?}");
        }
    }
}
