//! A follower: takes append entries in, acknowledges what is on disk, and asks for what it lacks.
//!
//! The rule: `matched` is how far a live append entry of this term's leader has shown the log to be
//! the leader's own; an ack says no more than that, and no more than is durable. What came by a
//! catchup is never acknowledged by itself, so it never counts towards a quorum.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;

use bytes::Bytes;

use super::gap::{Asking, Cancelled, Catchup, Phase};
use super::log::Log;
use super::{
    Context, Raft, Refusal, State, StateForm, check_identity, election::Occasion, send_to,
    snapshot::is_snapshot,
};
use crate::canary::Canary;
use crate::command::{Command, Destination, Report};
use crate::event::TermAndVote;
use crate::ids::{Index, PeerId};
use crate::limits::Limits;
use crate::node::Wake;
use crate::outbox::Outbox;
use crate::subject::{self, Subject};
use crate::time::{Duration, Time};
use crate::wire::{AppendEntry, AppendResponse, EntryKind, SnapshotTransfer};

/// A member that follows a leader, or waits for one.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) leader: Option<PeerId>,
    /// When a leader or a worthy candidate was last heard.
    pub(super) heard: Time,
    /// The silence after which it campaigns.
    pub(super) timeout: Duration,
    /// Whether the leader announced that it hands over.
    pub(super) transfer: bool,
    /// The last record that a live append entry of this term showed to be the leader's.
    matched: Index,
    /// The leader alone, as the destination of acks.
    acks_to: Option<Arc<[PeerId]>>,
    /// Where the leader awaits acks, and whether it is owed one.
    reply: Option<Subject>,
    owes_ack: bool,
    acknowledged: Index,
    pub(super) catchup: Option<Asking>,
}

/// How an append entry joins the log.
#[derive(Debug, PartialEq, Eq)]
enum Join {
    /// The record before it is here, with its term.
    Joins,
    /// It begins within what is committed: seen before.
    Covered,
    /// Another term stands in its place before it.
    Conflicts,
    /// Records are missing between.
    Gap,
}

impl Follower {
    pub(super) const fn new(leader: Option<PeerId>, now: Time, timeout: Duration) -> Self {
        Self {
            leader,
            heard: now,
            timeout,
            transfer: false,
            matched: Index::ZERO,
            acks_to: None,
            reply: None,
            owes_ack: false,
            acknowledged: Index::ZERO,
            catchup: None,
        }
    }

    /// A newer term began, and nobody is known to lead in it.
    pub(super) fn forget_leader(&mut self) {
        (self.leader, self.transfer) = (None, false);
        (self.reply, self.owes_ack) = (None, false);
        (self.matched, self.acknowledged) = (Index::ZERO, Index::ZERO);
    }

    pub(super) const fn catching_up(&self) -> bool {
        self.catchup.is_some()
    }

    pub(super) fn deadline(&self) -> (Time, Wake) {
        let election = (self.heard + self.timeout, Wake::Election);
        match &self.catchup {
            Some(catchup) => election.min((catchup.until, Wake::Catchup)),
            None => election,
        }
    }
}

impl Raft {
    /// A live append entry: on the group's subject.
    pub(super) fn handle_append_entry(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        reply: Option<Subject>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let entry = AppendEntry::decode(payload)?;
        // A leader may be a member that was added behind the end of this log.
        let leader = check_identity(from, entry.leader)?;
        if leader == self.me {
            return Ok(());
        }
        self.group_is_not_new(context, leader);
        let term = entry.leader_term.max(entry.term);
        let voted = self.promised.vote.is_some() && self.leader().is_none();
        let heard = voted && context.limits.planted(Canary::OldLeaderHeardAfterVote);
        if term < self.term && !self.gives_way(context, term) && !heard {
            self.reject(context, leader, reply);
            return Ok(());
        }
        if term > self.term {
            self.adopt_term(context, term);
            self.follow(context, Some(leader));
        } else if matches!(self.state, State::Leader(_)) {
            return Err(Refusal::SecondLeader(leader));
        } else if matches!(self.state, State::Candidate(_)) {
            self.follow(context, Some(leader));
        }
        self.hear_leader(context, leader, reply);
        self.take_live(context, entry, payload.clone());
        self.seek_proof(context);
        self.end_catchup_if_joined(context);
        self.try_to_heal(context);
        self.acknowledge(context);
        Ok(())
    }

    /// Tells a leader of an older term which term this is.
    fn reject(&self, context: &mut Context<'_>, leader: PeerId, reply: Option<Subject>) {
        let response = AppendResponse {
            term: self.term,
            index: self.log.durable(),
            peer: self.me,
            success: false,
        };
        if let Some(reply) = reply {
            context.out.push(send_to(leader, reply, None, response.to_bytes()));
        }
    }

    fn hear_leader(&mut self, context: &mut Context<'_>, leader: PeerId, reply: Option<Subject>) {
        let State::Follower(follower) = &mut self.state else { return };
        let new = follower.leader != Some(leader);
        follower.leader = Some(leader);
        follower.heard = context.now;
        if new || follower.acks_to.is_none() {
            follower.acks_to = Some(Arc::from([leader]));
        }
        if reply.is_some() {
            follower.reply = reply;
        }
        if new {
            let timers = context.timers;
            follower.timeout = context.random.duration(timers.election_min..timers.election_max);
            self.report_role(context.out, crate::command::Role::Follower);
        }
    }

    /// Takes in, holds or asks for what is before a live entry.
    fn take_live(&mut self, context: &mut Context<'_>, entry: AppendEntry, record: Bytes) {
        match self.join(context.limits, &entry) {
            Join::Joins if self.has_room(context, &entry) => {
                self.cancelled = None;
                if self.take(context, &entry, record, true) {
                    self.take_held(context);
                }
            }
            Join::Covered => {}
            Join::Conflicts => {
                if self.drop_conflict(context, entry.previous_index) {
                    self.ask_for_catchup(context, Some((entry, record)));
                }
            }
            Join::Gap | Join::Joins => {
                let most = context.limits.follower_held.get();
                let State::Follower(follower) = &mut self.state else { return };
                match &mut follower.catchup {
                    Some(catchup) => catchup.hold(entry, record, most),
                    None => self.ask_for_catchup(context, Some((entry, record))),
                }
            }
        }
    }

    fn join(&self, limits: &Limits, entry: &AppendEntry) -> Join {
        let planted = limits.planted(Canary::UnknownTermConflicts);
        let stays = limits.planted(Canary::LoneEntryStays);
        let before = entry.previous_index;
        if before > self.log.last().index {
            return Join::Gap;
        }
        match self.log.term(before) {
            // Nothing stands there; nats-server's leaders may name a term for it all the same.
            Some(_) if before == Index::ZERO => Join::Joins,
            Some(term) if term == entry.previous_term => Join::Joins,
            Some(_) if stays && before > self.commit => Join::Joins,
            None if planted => Join::Conflicts,
            None => Join::Covered,
            Some(_) if before < self.commit => Join::Covered,
            Some(_) => Join::Conflicts,
        }
    }

    /// Removes the record at `index`, of another term than the leader's, and all behind it.
    fn drop_conflict(&mut self, context: &mut Context<'_>, index: Index) -> bool {
        if context.limits.planted(Canary::UnknownTermConflicts) {
            self.commit = self.commit.min(self.log.base().index);
            self.truncate(context, self.log.base().index);
            return true;
        }
        if index <= self.commit {
            let why = format!("a leader contradicts record {index}, which is committed here");
            self.stand_aside(context, why);
            return false;
        }
        self.truncate(context, index.previous());
        true
    }

    fn truncate(&mut self, context: &mut Context<'_>, last: Index) {
        let too_far = context.limits.planted(Canary::TruncationTakesCommitted);
        let last = if too_far { last.previous().max(self.log.base().index) } else { last };
        self.log.truncate(last, self.commit, context.out);
        if context.limits.planted(Canary::TruncationLowersTerm) {
            self.term = self.log.last().term;
            self.promised = TermAndVote { term: self.term, vote: None };
        }
        self.revert_changes(last);
        if let State::Follower(follower) = &mut self.state {
            follower.matched = follower.matched.min(last);
        }
    }

    /// Stores an entry whose predecessor is here. Says whether the group goes on.
    fn take(
        &mut self,
        context: &mut Context<'_>,
        entry: &AppendEntry,
        record: Bytes,
        live: bool,
    ) -> bool {
        let mut through = entry.previous_index;
        if !entry.entries.is_empty() {
            through = through.next();
            let known = self.log.term(through);
            let stays = context.limits.planted(Canary::LoneEntryStays);
            let differs = known.is_some_and(|term| term != entry.term) && !stays;
            if differs && through > self.log.base().index {
                if through <= self.commit {
                    return self.drop_conflict(context, through);
                }
                self.truncate(context, entry.previous_index);
            }
            let late = !live && context.limits.planted(Canary::LateCatchupTruncates);
            if late && through < self.log.last().index {
                self.truncate(context, through.max(self.commit));
            }
            if through > self.log.last().index && !self.append_received(context, entry, record) {
                return false;
            }
        }
        let State::Follower(follower) = &mut self.state else { return false };
        if live {
            follower.matched = follower.matched.max(through);
            follower.owes_ack = true;
        }
        self.commit = self.commit.max(entry.commit.min(through));
        if live {
            self.follow_transfer(context, entry);
        }
        matches!(self.state, State::Follower(_))
    }

    /// A leader that hands over says to whom, in an entry of its own.
    fn follow_transfer(&mut self, context: &mut Context<'_>, entry: &AppendEntry) {
        let mut parts = entry.entries.views();
        let named = parts.find(|(kind, _)| *kind == EntryKind::LeaderTransfer);
        let Some((_, named)) = named else { return };
        if let State::Follower(follower) = &mut self.state {
            follower.transfer = true;
        }
        if context.limits.planted(Canary::TransferClearsVote) {
            self.promised.vote = None;
        }
        if named == self.me.as_bytes() {
            self.campaign(context, Occasion::Asked);
        }
    }

    /// Live entries that were held because of a gap that is closed now.
    fn take_held(&mut self, context: &mut Context<'_>) {
        loop {
            let State::Follower(follower) = &mut self.state else { return };
            let Some(catchup) = &mut follower.catchup else { return };
            let Some((entry, _)) = catchup.held.front() else { return };
            if entry.previous_index > self.log.last().index
                || !has_room(&self.log, context.limits, entry)
            {
                return;
            }
            let Some((entry, record)) = catchup.held.pop_front() else { return };
            catchup.held_bytes -= record.len() as u64;
            match self.join(context.limits, &entry) {
                Join::Joins => {
                    if !self.take(context, &entry, record, true) {
                        return;
                    }
                }
                Join::Covered => {}
                Join::Conflicts | Join::Gap => return self.ask_for_catchup(context, None),
            }
        }
    }

    /// Nothing is held and a live entry joined: the gap is closed.
    fn end_catchup_if_joined(&mut self, context: &mut Context<'_>) {
        if self.awaits_proof() {
            return;
        }
        if let State::Follower(follower) = &mut self.state
            && let last = self.log.last().index
            && follower
                .catchup
                .as_ref()
                .is_some_and(|catchup| catchup.held.is_empty() && last >= catchup.beyond)
            && follower.matched >= last
        {
            self.end_catchup(context.out);
        }
    }

    /// An impaired member asks its leader even for what it has: where the leader's log ends is said
    /// at the end of a catchup.
    fn seek_proof(&mut self, context: &mut Context<'_>) {
        if self.awaits_proof()
            && matches!(&self.state, State::Follower(follower) if !follower.catching_up())
        {
            self.ask_for_catchup(context, None);
        }
    }

    /// The gap is closed, or shows anew whether it is.
    pub(super) fn end_catchup(&mut self, out: &mut Outbox) {
        self.stop_receiving();
        if let State::Follower(follower) = &mut self.state
            && let Some(asking) = follower.catchup.take()
            && !out.planted(Canary::DeposedLeaderFeeds)
        {
            out.unsubscribe(&asking.inbox);
        }
    }

    /// What [`Canary::DeposedLeaderFeeds`] does.
    fn take_from_deposed(&mut self, context: &mut Context<'_>, entry: &AppendEntry, record: Bytes) {
        if matches!(self.join(context.limits, entry), Join::Joins) && !is_snapshot(entry) {
            self.take(context, entry, record, false);
        }
    }

    /// Gives a catchup up: nothing that its leader sends counts from now on.
    pub(super) fn cancel_catchup(&mut self, out: &mut Outbox, why: Cancelled) {
        if let State::Follower(follower) = &self.state
            && let Some(asking) = &follower.catchup
        {
            let gap = asking.gap(self.log.last().index);
            let cancelled = Catchup::Cancelled { gap, why };
            out.report(self.group, Report::Catchup(format!("the log's catchup is {cancelled}")));
            self.cancelled = Some((gap, why));
            self.end_catchup(out);
        }
    }

    /// What is done about what the log lacks.
    pub(super) fn catchup(&self) -> Catchup {
        let asking = match &self.state {
            State::Follower(follower) => follower.catchup.as_ref(),
            State::Leader(_) => return Catchup::None,
            _ => None,
        };
        match (asking, self.cancelled) {
            (Some(asking), _) => match asking.phase {
                Phase::Parts(covers) => {
                    self.parts_status(asking.gap(self.log.last().index), covers)
                }
                _ => asking.status(self.log.last().index),
            },
            (None, Some((gap, why))) => Catchup::Cancelled { gap, why },
            (None, None) => Catchup::None,
        }
    }

    /// Asks the leader for everything behind the end of the log, at a fresh inbox; not before this
    /// member's own disk has written most of what is here.
    fn ask_for_catchup(&mut self, context: &mut Context<'_>, beyond: Option<(AppendEntry, Bytes)>) {
        let State::Follower(follower) = &mut self.state else { return };
        let before = follower.catchup.take();
        if let Some(asking) = &before {
            context.out.unsubscribe(&asking.inbox);
        }
        let (Some(leader), Some(reply)) = (follower.leader, follower.reply.clone()) else { return };
        let last = self.log.last();
        let inbox = match self.form {
            StateForm::InParts => subject::raft_catchup_in_parts(context.random),
            StateForm::Whole(_) => subject::raft_catchup(context.random),
        };
        let phase = match self.log.unwritten() * 2 >= most_unwritten(context.limits) {
            true => Phase::OwnDisk,
            false => Phase::Asked { stalls: 0 },
        };
        let mut asking = Asking {
            inbox: inbox.clone(),
            leader,
            since: before.as_ref().map_or(context.now, |asking| asking.since),
            // A record that was found to be another's is lacking too.
            from: before.as_ref().map_or(last.index, |asking| asking.from.min(last.index)),
            seen: last.index,
            beyond: before.as_ref().map_or(Index::ZERO, |asking| asking.beyond),
            until: context.now + context.timers.log_catchup_stall,
            reply: None,
            phase,
            held: VecDeque::new(),
            held_bytes: 0,
        };
        if let Some((entry, record)) = beyond {
            asking.hold(entry, record, context.limits.follower_held.get());
        }
        follower.catchup = Some(asking);
        self.cancelled = None;
        if phase == Phase::OwnDisk {
            let what = "the log waits for its own disk".into();
            return context.out.report(self.group, Report::Catchup(what));
        }
        context.out.subscribe(self.group, inbox.clone());
        if before.is_some() && context.limits.planted(Canary::CatchupEndsSuccessor) {
            context.out.unsubscribe(&inbox);
        }
        let request =
            AppendResponse { term: last.term, index: last.index, peer: self.me, success: false };
        context.out.push(send_to(leader, reply, Some(inbox), request.to_bytes()));
        let phase = format!("the log asks {leader} for what follows {}", last.index);
        context.out.report(self.group, Report::Catchup(phase));
    }

    /// Whether this member's own disk keeps up, so that one more record may be handed to it.
    fn has_room(&self, context: &Context<'_>, entry: &AppendEntry) -> bool {
        has_room(&self.log, context.limits, entry)
    }

    /// Goes on with what its own disk had no room for, once half of that is written.
    fn go_on_with_disk(&mut self, context: &mut Context<'_>) {
        let waits = matches!(&self.state, State::Follower(Follower { catchup: Some(asking), .. })
            if asking.phase == Phase::OwnDisk);
        if !waits || self.log.unwritten() * 2 >= most_unwritten(context.limits) {
            return;
        }
        self.take_held(context);
        self.end_catchup_if_joined(context);
        let last = self.log.last().index;
        // What is held may begin behind a record that was lost meanwhile.
        if let State::Follower(Follower { catchup: Some(asking), .. }) = &self.state
            && asking.phase == Phase::OwnDisk
            && asking.held.front().is_none_or(|(entry, _)| entry.previous_index > last)
        {
            self.ask_for_catchup(context, None);
        }
    }

    /// Nothing came for too long: the leader is asked again.
    fn catchup_stalled(&mut self, context: &mut Context<'_>, stalls: u32) {
        let phase = format!("the log's catchup stalled at {}", self.log.last().index);
        context.out.report(self.group, Report::Catchup(phase));
        self.ask_for_catchup(context, None);
        if let State::Follower(follower) = &mut self.state
            && let Some(asking) = &mut follower.catchup
            && asking.phase != Phase::OwnDisk
        {
            asking.phase = Phase::Asked { stalls };
        }
    }

    /// An append entry on a catchup inbox; one of an earlier catchup is ignored.
    pub(super) fn handle_catchup_entry(
        &mut self,
        context: &mut Context<'_>,
        subject: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let State::Follower(follower) = &mut self.state else { return Ok(()) };
        let deposed = context.limits.planted(Canary::DeposedLeaderFeeds);
        let Some(catchup) = follower.catchup.as_mut().filter(|c| c.inbox == *subject) else {
            if deposed && let Ok(entry) = AppendEntry::decode(payload) {
                self.take_from_deposed(context, &entry, payload.clone());
            }
            return Ok(());
        };
        if SnapshotTransfer::is_one(payload) {
            return self.handle_transfer(context, reply, payload);
        }
        let entry = AppendEntry::decode(payload)?;
        // A leader names its own term here; servers before 2.11 do not.
        let explicit = entry.leader_term.get() != 0;
        if entry.term > self.term || explicit && entry.leader_term != self.term {
            return Ok(());
        }
        catchup.until = context.now + context.timers.log_catchup_stall;
        catchup.reply = reply;
        catchup.phase = match is_snapshot(&entry) {
            true => Phase::Snapshot(entry.previous_index),
            false => Phase::Log,
        };
        if is_snapshot(&entry) {
            self.receive_snapshot(context, &entry)?;
        } else {
            match self.join(context.limits, &entry) {
                Join::Joins if self.has_room(context, &entry) => {
                    self.take(context, &entry, payload.clone(), false);
                    self.note_proof(&entry);
                }
                Join::Conflicts => {
                    if self.drop_conflict(context, entry.previous_index) {
                        self.ask_for_catchup(context, None);
                    }
                }
                // Its own disk is behind: what it has no room for is asked for again when it has.
                Join::Joins => self.ask_for_catchup(context, None),
                Join::Covered | Join::Gap => {}
            }
        }
        self.take_held(context);
        self.end_catchup_if_joined(context);
        self.try_to_heal(context);
        self.acknowledge(context);
        Ok(())
    }

    /// Sends the acks that are owed and whose records are on disk.
    pub(super) fn acknowledge(&mut self, context: &mut Context<'_>) {
        self.go_on_with_disk(context);
        self.tell_catchup_progress(context);
        if !self.is_whole() {
            return;
        }
        let receiving = self.receiving_snapshot();
        let State::Follower(follower) = &mut self.state else { return };
        let early = follower.catchup.is_some() && context.limits.planted(Canary::SuccessInCatchup);
        follower.owes_ack |= early;
        let matched = if early { self.log.durable() } else { follower.matched };
        let index = matched.min(self.log.durable());
        let (true, false, Some(leader)) = (follower.owes_ack, receiving, follower.leader) else {
            return;
        };
        let Some(reply) = follower.reply.clone() else { return };
        let Some(term) = self.log.term(index) else { return };
        let term = if early { self.term } else { term };
        // The rest of what matched is being written: its ack follows then.
        follower.owes_ack = index < follower.matched;
        if index <= follower.acknowledged && follower.owes_ack {
            return;
        }
        follower.acknowledged = index;
        let ack = AppendResponse { term, index, peer: self.me, success: true };
        let to = follower.acks_to.clone().unwrap_or_else(|| Arc::from([leader]));
        let (to, payload) = (Destination::Peers(to), ack.to_bytes());
        let command = Command::Send { to, subject: reply, reply: None, payload };
        self.held.send_after(self.term_written, command, context.out);
    }

    /// Tells a leader that feeds a catchup how much of it is on disk, so that it sends more.
    ///
    /// Told where acknowledgements come too, as servers before 2.15 want it, the message is a refusal
    /// without an inbox in a term that is not newer: no leader counts it towards a quorum.
    fn tell_catchup_progress(&mut self, context: &mut Context<'_>) {
        let receiving = self.receiving_snapshot();
        let State::Follower(follower) = &mut self.state else { return };
        let (Some(leader), Some(catchup)) = (follower.leader, &mut follower.catchup) else {
            return;
        };
        let durable = self.log.durable();
        let (Some(reply), false) = (catchup.reply.clone(), receiving) else { return };
        let silent = context.limits.planted(Canary::CatchupNeverAcknowledged);
        if durable <= catchup.seen || silent {
            return;
        }
        catchup.seen = durable;
        let Some(term) = self.log.term(durable) else { return };
        // Where nothing else is told, servers look for success; where acknowledgements are, it would
        // count as one.
        let success = subject::is_catchup_progress(&reply);
        let progress = AppendResponse { term, index: durable, peer: self.me, success };
        context.out.push(send_to(leader, reply, None, progress.to_bytes()));
    }

    pub(super) fn follower_deadline(&mut self, context: &mut Context<'_>) {
        if self.trust.deadline().is_some_and(|again| context.now >= again) {
            self.inquire(context);
        }
        let whole = self.is_whole();
        let State::Follower(follower) = &mut self.state else { return };
        if context.now >= follower.heard + follower.timeout {
            follower.leader = None;
            follower.heard = context.now;
            match whole {
                true => return self.campaign(context, Occasion::Silence),
                false => return self.end_catchup(context.out),
            }
        }
        let due = follower.catchup.as_ref().filter(|catchup| context.now >= catchup.until);
        let Some(phase) = due.map(|asking| asking.phase) else { return };
        match phase {
            Phase::OwnDisk => self.wait_for_own_disk(context),
            Phase::Asked { stalls } => self.catchup_stalled(context, stalls.saturating_add(1)),
            Phase::Parts(_) if self.waits_for_own_parts(context) => {}
            Phase::Log | Phase::Snapshot(_) | Phase::Parts(_) => self.catchup_stalled(context, 1),
        }
    }

    /// The disk is slow, which is no reason to ask anybody for anything.
    fn wait_for_own_disk(&mut self, context: &mut Context<'_>) {
        if let State::Follower(Follower { catchup: Some(asking), .. }) = &mut self.state {
            asking.until = context.now + context.timers.log_catchup_stall;
        }
    }
}

/// Whether a record may be handed to the disk: one that is here already may, and a new one while
/// fewer bytes than [`Limits::follower_unwritten`] wait for it.
fn has_room(log: &Log, limits: &Limits, entry: &AppendEntry) -> bool {
    let new = !entry.entries.is_empty() && entry.previous_index == log.last().index;
    !new || log.unwritten() < most_unwritten(limits)
}

/// At least one byte: with none, nothing could ever be taken.
fn most_unwritten(limits: &Limits) -> u64 {
    limits.follower_unwritten.get().max(1)
}
