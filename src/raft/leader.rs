//! A leader: gathers proposals into append entries, sends and writes them at the same time, and
//! commits what a quorum has on disk.
//!
//! Proposals are encoded straight into the append entry that will carry them. An append entry
//! leaves when fewer than `Limits::append_entries_in_flight` are uncommitted, so under load they
//! grow by themselves; only entries of the leader's own term count towards a commit (Raft paper,
//! section 5.4.2).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use thiserror::Error;

use super::{
    Context, PeerStatus, Raft, Refusal, State,
    catchup::Feed,
    election::Occasion,
    membership::{Joining, Leaving},
    quorum::Members,
};
use crate::canary::Canary;
use crate::command::{Command, Destination, Role};
use crate::ids::{Index, PeerId, Term};
use crate::limits::Limits;
use crate::node::Wake;
use crate::subject::Subject;
use crate::time::{Duration, Time};
use crate::wire::{AppendEntryBuilder, AppendResponse, EntryKind, SnapshotTransfer};

/// A member that leads.
#[derive(Debug)]
pub(super) struct Leader {
    /// The first record of this leadership: what stands before it was inherited.
    pub(super) begins: Index,
    pub(super) since: Time,
    pub(super) peers: BTreeMap<PeerId, Progress>,
    /// Proposals, in append entries of at most the size that is allowed; the last one is open.
    waiting: VecDeque<AppendEntryBuilder>,
    waiting_bytes: u64,
    /// Bytes of the entries that were sent last: under a steady load the next are as many.
    last_bytes: u64,
    heartbeat_at: Time,
    last_sent: Time,
    /// The commit index that followers were last told.
    announced: Index,
    /// A peer that is to be added.
    pub(super) joining: Option<Joining>,
    /// A member that was removed.
    pub(super) leaving: Option<Leaving>,
    /// Who gets append entries: the other members, and these two.
    audience: Arc<[PeerId]>,
}

/// What a leader knows of one follower.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last record of the leader's own term that it has on disk.
    matched: Index,
    /// The last record of any term that it said it has.
    known: Index,
    pub(super) heard: Option<Time>,
    pub(super) feed: Option<Feed>,
}

/// Why a proposal was not taken; nothing of it will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Another member leads, or none, or this one does not know yet what it inherited.
    #[error("this node does not lead the group")]
    NotLeader,
    /// [`Limits::proposals_waiting`](crate::limits::Limits::proposals_waiting) is reached.
    #[error("too many bytes of proposals wait")]
    Busy,
}

impl Progress {
    /// Whether it has all but the newest records, which are on their way.
    pub(super) fn is_within(&self, near: u64, last: Index) -> bool {
        self.matched > Index::ZERO && last.since(self.matched) <= near
    }

    /// Whether it was silent for less than three heartbeats.
    fn was_heard_lately(&self, now: Time, heartbeat: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < heartbeat * 3)
    }

    /// When it was last heard in this leadership.
    pub(super) const fn heard(&self) -> Option<Time> {
        self.heard
    }
}

impl Leader {
    /// Whether a quorum, this member included, was heard within `interval`.
    pub(super) fn hears_quorum(
        &self,
        members: &Members,
        me: PeerId,
        now: Time,
        interval: Duration,
    ) -> bool {
        let heard = |peer: &PeerId| {
            let last = self.peers.get(peer).and_then(|progress| progress.heard);
            *peer == me || now.since(last.unwrap_or(self.since)) < interval
        };
        members.iter().filter(heard).count() >= members.quorum()
    }

    pub(super) fn peers(&self, others: &[PeerId]) -> Vec<PeerStatus> {
        let status = |peer: &PeerId| {
            let progress = self.peers.get(peer);
            PeerStatus {
                peer: *peer,
                last: progress.map_or(Index::ZERO, |progress| progress.known),
                heard: progress.and_then(|progress| progress.heard),
            }
        };
        others.iter().map(status).collect()
    }

    /// How many followers are being fed.
    pub(super) fn feeds(&self) -> usize {
        self.peers.values().filter(|progress| progress.feed.is_some()).count()
    }

    pub(super) fn deadline(&self) -> Option<(Time, Wake)> {
        (!self.audience.is_empty()).then_some((self.heartbeat_at, Wake::Heartbeat))
    }

    /// The open append entry, or a new one if `bytes` more would not fit.
    fn open(
        &mut self,
        bytes: usize,
        most_bytes: u64,
        most_entries: u16,
    ) -> &mut AppendEntryBuilder {
        let full = self.waiting.back().is_none_or(|open| {
            !open.is_empty() && (open.byte_len() + bytes) as u64 > most_bytes
                || open.len() >= usize::from(most_entries)
        });
        if full {
            let room = AppendEntryBuilder::entry_len(bytes)
                .max(usize::try_from(self.last_bytes.min(most_bytes)).unwrap_or(0));
            self.waiting.push_back(AppendEntryBuilder::with_capacity(room));
        }
        let last = self.waiting.len() - 1;
        &mut self.waiting[last]
    }
}

impl Raft {
    /// Takes office: the first record is the peer state, as upstream's leaders do.
    pub(super) fn lead(&mut self, context: &mut Context<'_>) {
        let begins = self.log.last().index.next();
        self.state = State::Leader(Leader {
            begins,
            since: context.now,
            peers: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            last_bytes: 0,
            heartbeat_at: next_beat(context),
            last_sent: context.now,
            announced: self.commit,
            joining: None,
            leaving: None,
            audience: self.others.clone(),
        });
        self.listen_for_proposals(context);
        self.report_role(context.out, Role::Leader);
        let peer_state = self.peer_state_at(self.log.last().index).to_bytes();
        self.send_append(context, append_entry_of(&[(EntryKind::PeerState, &peer_state)]));
    }

    /// Adds an entry to what will be sent by the next [`flush`](Self::flush): `length` bytes that
    /// `encode` appends.
    ///
    /// # Errors
    /// [`ProposeError`]; then `encode` was not called.
    pub fn propose(
        &mut self,
        context: &Context<'_>,
        kind: EntryKind,
        length: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ProposeError> {
        self.check_room(context, length as u64)?;
        self.propose_into_room(context, kind, length, encode)
    }

    /// Like [`propose`](Self::propose), for one of several entries that
    /// [`check_room`](Self::check_room) found room for together.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`]; then `encode` was not called.
    pub fn propose_into_room(
        &mut self,
        context: &Context<'_>,
        kind: EntryKind,
        length: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ProposeError> {
        let limits = context.limits;
        let State::Leader(leader) = &mut self.state else { return Err(ProposeError::NotLeader) };
        leader.waiting_bytes += length as u64;
        let (bytes, entries) = (limits.append_entry_bytes.get(), limits.append_entry_entries);
        let taken = leader.open(length, bytes, entries).push_with(kind, length, encode);
        assert!(taken, "an open append entry has room for one more entry");
        Ok(())
    }

    /// Whether entries of so many bytes can be proposed now, one behind the other. There is room
    /// for any while nothing waits: what is larger than the bound would else be refused for ever.
    ///
    /// # Errors
    /// [`ProposeError`], as [`propose`](Self::propose) would say it.
    pub fn check_room(&self, context: &Context<'_>, bytes: u64) -> Result<(), ProposeError> {
        let State::Leader(leader) = &self.state else { return Err(ProposeError::NotLeader) };
        if !self.leads() {
            return Err(ProposeError::NotLeader);
        }
        let all = leader.waiting_bytes.saturating_add(bytes);
        let full = leader.waiting_bytes > 0 && all > context.limits.proposals_waiting.get();
        if full { Err(ProposeError::Busy) } else { Ok(()) }
    }

    /// Whether [`flush`](Self::flush) would send anything now.
    pub fn has_to_flush(&self, limits: &Limits) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        let in_flight = self.log.last().index.since(self.commit);
        match leader.waiting.is_empty() {
            true => leader.announced < self.commit,
            false => in_flight < limits.append_entries_in_flight as u64,
        }
    }

    /// Sends what was proposed, as far as the pipeline has room, and tells followers of commits.
    /// A node calls it when its events are handled, so that one append entry carries them all.
    pub fn flush(&mut self, context: &mut Context<'_>) {
        let most = context.limits.append_entries_in_flight as u64;
        while let State::Leader(leader) = &mut self.state
            && self.log.last().index.since(self.commit) < most
            && let Some(builder) = leader.waiting.pop_front()
        {
            leader.waiting_bytes = match leader.waiting.is_empty() {
                true => 0,
                false => leader.waiting_bytes.saturating_sub(builder.byte_len() as u64),
            };
            leader.last_bytes = builder.entries_len() as u64;
            self.send_append(context, builder);
        }
        if let State::Leader(leader) = &self.state
            && leader.announced < self.commit
            && leader.waiting.is_empty()
        {
            self.send_heartbeat(context);
        }
    }

    pub(super) fn send_append(&mut self, context: &mut Context<'_>, builder: AppendEntryBuilder) {
        let last = self.log.last();
        let record =
            builder.finish(self.me, self.term, self.commit, last.term, last.index, Term::ZERO);
        self.broadcast(context, record.clone());
        self.log.append(self.term, record, context.out);
    }

    pub(super) fn send_heartbeat(&mut self, context: &mut Context<'_>) {
        let last = self.log.last();
        let beat = AppendEntryBuilder::new().finish(
            self.me,
            self.term,
            self.commit,
            last.term,
            last.index,
            Term::ZERO,
        );
        self.broadcast(context, beat);
    }

    pub(super) fn broadcast(&mut self, context: &mut Context<'_>, payload: Bytes) {
        let State::Leader(leader) = &mut self.state else { return };
        leader.last_sent = context.now;
        leader.announced = self.commit;
        if !leader.audience.is_empty() {
            context.out.push(Command::Send {
                to: Destination::Peers(leader.audience.clone()),
                subject: self.subjects.append_entries.clone(),
                reply: Some(self.subjects.append_replies.clone()),
                payload,
            });
        }
    }

    pub(super) fn leader_deadline(&mut self, context: &mut Context<'_>) {
        let State::Leader(leader) = &mut self.state else { return };
        if context.now < leader.heartbeat_at {
            return;
        }
        leader.heartbeat_at = next_beat(context);
        let lost = context.timers.lost_quorum;
        if !leader.hears_quorum(self.membership.current(), self.me, context.now, lost) {
            return self.follow(context, None);
        }
        self.tend_strangers(context.now, lost);
        let State::Leader(leader) = &mut self.state else { return };
        for progress in leader.peers.values_mut() {
            if progress.feed.as_ref().is_some_and(|feed| context.now >= feed.until) {
                progress.feed = None;
            }
        }
        if context.now.since(leader.last_sent) * 2 >= context.timers.heartbeat {
            self.send_heartbeat(context);
        }
    }

    pub(super) fn handle_append_response(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        reply: Option<Subject>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let response = AppendResponse::decode(payload)?;
        let peer = self.check_follower(from, response.peer)?;
        let refused = !response.success && reply.is_none();
        if refused && response.term > self.promised.term && !self.is_leaving(peer) {
            self.overtaken(context, response.term);
            return Ok(());
        }
        let State::Leader(leader) = &mut self.state else { return Ok(()) };
        let progress = leader.peers.entry(peer).or_default();
        progress.heard = Some(context.now);
        let (index, last) = (response.index, self.log.last().index);
        if context.limits.planted(Canary::CatchupRequestCounts) && index <= last {
            progress.matched = progress.matched.max(index);
        }
        if let (false, Some(inbox)) = (response.success, reply) {
            self.start_feed(context, peer, index, inbox);
            return Ok(());
        }
        if index > last {
            return Err(Refusal::NeverSent { index, last });
        }
        progress.known = progress.known.max(index);
        let any_term = context.limits.planted(Canary::OldTermCommitted);
        if response.success && (response.term == self.term || any_term) {
            progress.matched = progress.matched.max(index);
            self.advance_commit(context);
            self.add_if_caught_up(context, peer);
        }
        self.feed_progressed(context, peer, index);
        if !response.success && index == last && self.joining() == Some(peer) {
            // All that it lacked is there; a live entry shows it to be ours, so that it can say so.
            self.send_heartbeat(context);
        }
        Ok(())
    }

    /// A follower that is fed tells how far it is. It counts towards no quorum, whatever it says.
    pub(super) fn handle_catchup_progress(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        if SnapshotTransfer::is_one(payload) && payload.len() != AppendResponse::LEN {
            return self.handle_ask(context, from, payload);
        }
        let response = AppendResponse::decode(payload)?;
        let peer = self.check_follower(from, response.peer)?;
        let State::Leader(leader) = &mut self.state else { return Ok(()) };
        let (index, last) = (response.index, self.log.last().index);
        if index > last {
            return Err(Refusal::NeverSent { index, last });
        }
        let progress = leader.peers.entry(peer).or_default();
        progress.heard = Some(context.now);
        progress.known = progress.known.max(index);
        self.feed_progressed(context, peer, index);
        if index == last && self.joining() == Some(peer) {
            // All that it lacked is there; a live entry shows it to be ours, so that it can say so.
            self.send_heartbeat(context);
        }
        Ok(())
    }

    /// A member is in a newer term than this leader: perhaps it was cut off and campaigned in vain.
    /// A leader that hears a quorum all the same asks for its votes at once, so that the one who
    /// returned costs no election timeout.
    fn overtaken(&mut self, context: &mut Context<'_>, term: Term) {
        let lease = context.timers.election_min;
        let heard = matches!(&self.state, State::Leader(leader)
            if leader.hears_quorum(self.members(), self.me, context.now, lease));
        self.adopt_term(context, term);
        self.follow(context, None);
        if heard {
            self.campaign(context, Occasion::Asked);
        }
    }

    /// Commits what a quorum has, if it is of this term.
    pub(super) fn advance_commit(&mut self, context: &mut Context<'_>) {
        let State::Leader(leader) = &self.state else { return };
        let matched = |peer: PeerId| match leader.peers.get(&peer) {
            _ if peer == self.me => self.log.durable(),
            Some(progress) => progress.matched,
            None => Index::ZERO,
        };
        let agreed = self.members().agreed(matched);
        let any_term = context.limits.planted(Canary::OldTermCommitted);
        if agreed > self.commit && (self.log.term(agreed) == Some(self.term) || any_term) {
            self.commit = agreed;
        }
    }

    /// Gives up leadership: to `to` if that is a member which is heard and lacks nothing that is not
    /// on its way, else to the one of those which has most. If there is none of those either, it
    /// goes to whoever has most of those that are heard, who may have to try again; and if nobody
    /// is heard, to nobody.
    ///
    /// Proposals that wait are dropped; their clients hear of it.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if there is nothing to give up.
    pub fn step_down(
        &mut self,
        context: &mut Context<'_>,
        to: Option<PeerId>,
    ) -> Result<(), ProposeError> {
        if !matches!(self.state, State::Leader(_)) {
            return Err(ProposeError::NotLeader);
        }
        let heir = self.heir(context, to);
        if let Some(heir) = heir {
            let transfer = append_entry_of(&[(EntryKind::LeaderTransfer, heir.as_bytes())]);
            self.send_append(context, transfer);
        }
        if context.limits.planted(Canary::TransferClearsVote) {
            self.promised.vote = None;
        }
        self.follow(context, None);
        Ok(())
    }
}

impl Raft {
    /// Whether a peer was heard lately and lacks nothing that is not on its way; of this member itself
    /// that is so. Only a leader knows.
    pub fn keeps_up(&self, context: &Context<'_>, peer: PeerId) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        let near = context.limits.append_entries_in_flight as u64;
        let fit = |progress: &Progress| {
            progress.is_within(near, self.log.last().index)
                && progress.was_heard_lately(context.now, context.timers.heartbeat)
        };
        peer == self.me || leader.peers.get(&peer).is_some_and(fit)
    }

    pub(super) fn heir(&self, context: &Context<'_>, to: Option<PeerId>) -> Option<PeerId> {
        let State::Leader(leader) = &self.state else { return None };
        let (last, near) = (self.log.last().index, context.limits.append_entries_in_flight as u64);
        let heard = leader.peers.iter().filter(|(peer, progress)| {
            self.others.contains(peer)
                && progress.was_heard_lately(context.now, context.timers.heartbeat)
        });
        // Who is fit goes before who is not; then whom the caller wants, and who has most.
        let merit = |peer: PeerId, progress: &Progress| {
            (progress.is_within(near, last), to == Some(peer), progress.matched)
        };
        heard.max_by_key(|(peer, progress)| merit(**peer, progress)).map(|(peer, _)| *peer)
    }

    /// Who gets append entries has changed.
    pub(super) fn gather_audience(&mut self) {
        let State::Leader(leader) = &mut self.state else { return };
        let joining = leader.joining.map(|joining| joining.peer);
        let leaving = leader.leaving.map(|leaving| leaving.peer);
        let strangers = joining.into_iter().chain(leaving);
        leader.audience = self.others.iter().copied().chain(strangers).collect();
    }

    fn is_leaving(&self, peer: PeerId) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        leader.leaving.is_some_and(|leaving| leaving.peer == peer)
    }

    /// That an answer comes from a member, or from one who joins or leaves.
    pub(super) fn check_follower(
        &self,
        from: Option<PeerId>,
        claimed: PeerId,
    ) -> Result<PeerId, Refusal> {
        let peer = super::check_identity(from, Some(claimed))?;
        let known = match &self.state {
            State::Leader(leader) => leader.audience.contains(&peer),
            _ => self.members().contains(&peer),
        };
        if known { Ok(peer) } else { Err(Refusal::NotAMember(peer)) }
    }
}

/// An append entry of a few entries of the group's own.
pub(super) fn append_entry_of(entries: &[(EntryKind, &[u8])]) -> AppendEntryBuilder {
    let mut builder = AppendEntryBuilder::new();
    for (kind, data) in entries {
        let taken = builder.push(*kind, data);
        assert!(taken, "a new append entry has room for {} entries", entries.len());
    }
    builder
}

/// The next moment of a grid that all groups of a node share, so that their heartbeats leave in
/// one frame.
fn next_beat(context: &Context<'_>) -> Time {
    let beat = u64::try_from(context.timers.heartbeat.as_nanos()).unwrap_or(u64::MAX).max(1);
    Time::from_nanos((context.now.as_nanos() / beat).saturating_add(1).saturating_mul(beat))
}
