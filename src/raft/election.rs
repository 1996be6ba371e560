//! Who leads: campaigns, votes, and the lease that keeps a live leader.
//!
//! A vote leaves only after it is on disk, the candidate's own counts only then too. A member
//! that hears from a live leader ignores vote requests until that leader has been silent for the
//! shortest election timeout (Raft thesis, section 6.4.1), unless it announced a transfer.

use alloc::collections::BTreeSet;

use bytes::Bytes;

use super::gap::Cancelled;
use super::{Context, Raft, Refusal, State, check_identity, follower::Follower, send_to};
use crate::canary::Canary;
use crate::command::{Command, Destination, Role};
use crate::event::TermAndVote;
use crate::ids::{PeerId, Term, WriteId};
use crate::subject::Subject;
use crate::time::{Duration, Time};
use crate::wire::{VoteRequest, VoteResponse};

/// The earliest and latest that a member whose log is better than a candidate's campaigns itself.
const CAMPAIGN_SOON: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(800));

/// Why a member asks for votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It has not heard a leader.
    Silence,
    /// The leader hands over to it, or somebody in charge wants it.
    Asked,
}

/// A member that asks for votes.
#[derive(Debug)]
pub(super) struct Candidate {
    /// When it gives up and tries the next term.
    pub(super) until: Time,
    /// The write of its own vote, until that is durable.
    own_vote: Option<WriteId>,
    /// The oldest term whose leader it may still follow, as long as nobody supports it.
    back: Option<Term>,
    granted: BTreeSet<PeerId>,
    /// Granted by members whose log is empty: perhaps they lost it (upstream defect 7038).
    granted_empty: BTreeSet<PeerId>,
}

impl Raft {
    /// Asks for votes in the next term, at once. Does nothing in a member that may not lead.
    pub(super) fn campaign(&mut self, context: &mut Context<'_>, occasion: Occasion) {
        if matches!(self.state, State::Opening(_) | State::Aside(_) | State::Leader(_)) {
            return;
        }
        self.cancel_catchup(context.out, Cancelled::Campaign);
        // There is no term behind the last: one could vote twice in it.
        let last_term = self.promised.term == Term::MAX;
        let may_lead = self.may_lead || context.limits.planted(Canary::HalfCaughtUpLeads);
        let able = may_lead && !self.observer && self.is_whole();
        if !able || !self.may_be_elected() || last_term {
            return self.follow(context, None);
        }
        let back = match (&self.state, occasion) {
            (State::Candidate(candidate), Occasion::Silence) => candidate.back,
            (State::Follower(_), Occasion::Silence) => Some(self.term),
            _ => None,
        };
        self.term = self.promised.term.next();
        self.promised = TermAndVote { term: self.term, vote: Some(self.me) };
        let own_vote = self.write_term_and_vote(context.out);
        let timers = context.timers;
        let wait = context.random.duration(timers.election_min..timers.election_max);
        self.state = State::Candidate(Candidate {
            until: context.now + wait,
            own_vote: Some(own_vote),
            back,
            granted: BTreeSet::new(),
            granted_empty: BTreeSet::new(),
        });
        self.report_role(context.out, Role::Candidate);
        let last = self.log.last();
        let request = VoteRequest {
            term: self.term,
            last_term: last.term,
            last_index: last.index,
            candidate: self.me,
        };
        let voters = match context.limits.planted(Canary::RemovedMemberVotes) {
            false => self.others.clone(),
            true => self.membership.ever().filter(|peer| *peer != self.me).collect(),
        };
        if !voters.is_empty() {
            let command = Command::Send {
                to: Destination::Peers(voters),
                subject: self.subjects.votes.clone(),
                reply: Some(self.subjects.vote_replies.clone()),
                payload: request.to_bytes(),
            };
            self.held.send_after(own_vote, command, context.out);
        }
    }

    pub(super) fn handle_vote_request(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        reply: Option<Subject>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let request = VoteRequest::decode(payload)?;
        if request.term == Term::ZERO {
            // Nobody's term: who asks in it wants to know which one this is, member or not.
            let candidate = check_identity(from, Some(request.candidate))?;
            self.refuse_vote(context, candidate, reply);
            return Ok(());
        }
        let candidate = self.check_candidate(from, &request)?;
        if !self.is_whole() {
            self.refuse_vote(context, candidate, reply);
            return Ok(());
        }
        // A leader that asks for votes has given its own lease up.
        let ignored = self.leader_is_live(context) && self.leader() != Some(candidate);
        if candidate == self.me || ignored && request.term > self.promised.term {
            return Ok(());
        }
        if request.term > self.promised.term {
            self.adopt_term(context, request.term);
            self.cancel_catchup(context.out, Cancelled::NewTerm(request.term));
            match &mut self.state {
                State::Follower(follower) => {
                    // Its timer runs on: who asks for votes in vain does not put it off.
                    follower.forget_leader();
                    self.report_role(context.out, Role::Follower);
                }
                _ => self.follow(context, None),
            }
        }
        let granted = request.term == self.promised.term && self.grant(context, &request);
        let wiped_votes = context.limits.planted(Canary::WipedDiskVotes);
        let response = VoteResponse {
            term: self.promised.term,
            peer: self.me,
            granted,
            empty: self.log.last().index.get() == 0 && !wiped_votes,
        };
        if let Some(reply) = reply {
            let command = send_to(candidate, reply, None, response.to_bytes());
            let at_once = context.limits.planted(Canary::VoteNotWritten);
            let write = if at_once { WriteId::ZERO } else { self.term_written };
            self.held.send_after(write, command, context.out);
        }
        Ok(())
    }

    /// That a candidate is whom it says, and one who could win. A member may be added behind the
    /// end of this log; but whoever is not a member here and lacks what is committed here was
    /// removed, and its term is none of ours.
    fn check_candidate(
        &self,
        from: Option<PeerId>,
        request: &VoteRequest,
    ) -> Result<PeerId, Refusal> {
        let candidate = check_identity(from, Some(request.candidate))?;
        let committed = self.log.term(self.commit).unwrap_or(self.log.base().term);
        let lacks = (request.last_term, request.last_index) < (committed, self.commit);
        if lacks && !self.members().contains(&candidate) {
            return Err(Refusal::Outdated(candidate));
        }
        Ok(candidate)
    }

    /// A leader of an older term is heard: whether this member, which asked for votes because it
    /// heard none, and asked in vain, goes back to follow it.
    ///
    /// That is safe. Its votes of the terms since were its own and are never given again, so a
    /// leader of one of them was elected without it; and a later one needs its vote, which it
    /// gives only to a log that has what it acknowledged. So a member that was cut off deposes no
    /// leader when it returns.
    pub(super) fn gives_way(&mut self, context: &mut Context<'_>, term: Term) -> bool {
        let State::Candidate(candidate) = &self.state else { return false };
        if candidate.back.is_none_or(|back| term < back) {
            return false;
        }
        self.term = term;
        self.follow(context, None);
        true
    }

    /// Asks for votes now, as if the leader had fallen silent; whether it does. It does not while
    /// it hears a leader, leads, or may not lead.
    pub fn campaign_now(&mut self, context: &mut Context<'_>) -> bool {
        let State::Follower(_) = &self.state else { return false };
        if !self.leader_is_live(context) {
            self.campaign(context, Occasion::Asked);
        }
        matches!(self.state, State::Candidate(_))
    }

    /// Makes this member an observer, or an ordinary member again. An observer follows,
    /// acknowledges and votes, but never asks for votes; who leads hands over first, and a
    /// leadership that is offered to it is not taken. Not remembered over a restart.
    pub fn set_observer(&mut self, context: &mut Context<'_>, observer: bool) {
        if observer == self.observer {
            return;
        }
        self.observer = observer;
        match &self.state {
            // It leads, so there is something to give up.
            State::Leader(_) => drop(self.step_down(context, None)),
            State::Candidate(_) => self.follow(context, None),
            State::Follower(_) => {
                let timers = context.timers;
                let timeout = context.random.duration(timers.election_min..timers.election_max);
                if let State::Follower(follower) = &mut self.state {
                    // Whoever returns waits for as long as a member that just started.
                    (follower.heard, follower.timeout) = (context.now, timeout);
                }
                self.report_role(context.out, Role::Follower);
            }
            State::Opening(_) | State::Aside(_) => {}
        }
    }

    pub(super) const fn follower_role(&self) -> Role {
        if self.observer { Role::Observer } else { Role::Follower }
    }

    /// Decides on a request of this member's own term, and writes the vote.
    fn grant(&mut self, context: &mut Context<'_>, request: &VoteRequest) -> bool {
        let free = self.promised.vote.is_none_or(|vote| vote == request.candidate);
        let last = self.log.last();
        let current = (request.last_term, request.last_index) >= (last.term, last.index);
        if free && current {
            if self.promised.vote.is_none() {
                self.promised.vote = Some(request.candidate);
                self.write_term_and_vote(context.out);
            }
            if let State::Follower(follower) = &mut self.state {
                follower.heard = context.now;
            }
            return true;
        }
        if let (None, State::Follower(follower)) = (self.promised.vote, &mut self.state) {
            // The candidate cannot win with our log around: campaign before it tries again.
            let (soonest, latest) = CAMPAIGN_SOON;
            follower.heard = context.now;
            follower.timeout = follower.timeout.min(context.random.duration(soonest..latest));
        }
        false
    }

    /// Whether a leader was heard so lately that nobody else can need votes.
    fn leader_is_live(&self, context: &Context<'_>) -> bool {
        let lease = context.timers.election_min;
        match &self.state {
            State::Follower(follower) => {
                follower.leader.is_some()
                    && !follower.transfer
                    && context.now.since(follower.heard) < lease
            }
            State::Leader(leader) => {
                leader.hears_quorum(self.members(), self.me, context.now, lease)
            }
            _ => false,
        }
    }

    pub(super) fn handle_vote_response(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let response = VoteResponse::decode(payload)?;
        let peer = match context.limits.planted(Canary::RemovedMemberVotes) {
            false => self.check_sender(from, Some(response.peer))?,
            true => check_identity(from, Some(response.peer))?,
        };
        if !self.is_whole() {
            self.hear_term(context, response);
        } else if response.term > self.promised.term {
            self.adopt_term(context, response.term);
            self.follow(context, None);
        } else if let State::Candidate(candidate) = &mut self.state
            && response.granted
            && response.term == self.term
        {
            candidate.back = None;
            if response.empty {
                candidate.granted_empty.insert(peer);
            } else {
                candidate.granted.insert(peer);
            }
            self.count_votes(context, None);
        }
        Ok(())
    }

    /// Leads if the votes suffice: a quorum of members with a log, or every single member.
    pub(super) fn count_votes(&mut self, context: &mut Context<'_>, written: Option<WriteId>) {
        let State::Candidate(candidate) = &mut self.state else { return };
        let members = self.membership.current();
        if written >= candidate.own_vote && candidate.own_vote.take().is_some() {
            // One that is being removed votes, but does not count.
            candidate.granted.extend(Some(self.me).filter(|me| members.contains(me)));
        }
        if candidate.own_vote.is_some() {
            return;
        }
        let heard = candidate.granted.union(&candidate.granted_empty).count();
        if candidate.granted.len() >= members.quorum() || heard >= members.size() {
            self.lead(context);
        }
    }

    /// Becomes a follower, of this leader if it is known.
    pub(super) fn follow(&mut self, context: &mut Context<'_>, leader: Option<PeerId>) {
        self.cancel_catchup(context.out, Cancelled::NewTerm(self.term));
        self.stop_listening_for_proposals(context.out);
        let timers = context.timers;
        let alone = self.others.is_empty() && self.members().contains(&self.me);
        let able = self.may_lead && !self.observer && self.is_whole();
        let timeout = match alone && able && self.promised.term < Term::MAX {
            // Nobody else could lead, so there is nobody to wait for.
            true => Duration::ZERO,
            false => context.random.duration(timers.election_min..timers.election_max),
        };
        self.state = State::Follower(Follower::new(leader, context.now, timeout));
        self.report_role(context.out, Role::Follower);
    }

    /// The newest term of any message of a member; for tests and people.
    pub const fn term(&self) -> Term {
        self.term
    }
}
