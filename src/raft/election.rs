//! Who leads: campaigns, votes, and the lease that keeps a live leader.
//!
//! A vote leaves only after it is on disk, the candidate's own counts only then too. A member
//! that hears from a live leader ignores vote requests until that leader has been silent for the
//! shortest election timeout (Raft thesis, section 6.4.1), unless it announced a transfer.

use alloc::collections::BTreeSet;

use bytes::Bytes;

use super::gap::Cancelled;
use super::{Context, Raft, Refusal, State, follower::Follower, send_to};
use crate::command::{Command, Destination, Role};
use crate::ids::{PeerId, Term, WriteId};
use crate::subject::Subject;
use crate::time::{Duration, Time};
use crate::wire::{VoteRequest, VoteResponse};

/// The earliest and latest that a member whose log is better than a candidate's campaigns itself.
const CAMPAIGN_SOON: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(800));

/// A member that asks for votes.
#[derive(Debug)]
pub(super) struct Candidate {
    /// When it gives up and tries the next term.
    pub(super) until: Time,
    /// The write of its own vote.
    own_vote: WriteId,
    granted: BTreeSet<PeerId>,
    /// Granted by members whose log is empty: perhaps they lost it (upstream defect 7038).
    granted_empty: BTreeSet<PeerId>,
}

impl Raft {
    /// Asks for votes in the next term, at once. Does nothing in a member that may not lead.
    pub fn campaign(&mut self, context: &mut Context<'_>) {
        if matches!(self.state, State::Opening(_) | State::Aside(_) | State::Leader(_)) {
            return;
        }
        self.cancel_catchup(context.out, Cancelled::Campaign);
        // There is no term behind the last: one could vote twice in it.
        if !self.may_lead || !self.members.contains(&self.me) || self.term == Term::MAX {
            return self.follow(context, None);
        }
        self.term = self.term.next();
        self.vote = Some(self.me);
        let own_vote = self.write_term_and_vote(context.out);
        let timers = context.timers;
        let wait = context.random.duration(timers.election_min..timers.election_max);
        self.state = State::Candidate(Candidate {
            until: context.now + wait,
            own_vote,
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
        if !self.others.is_empty() {
            let command = Command::Send {
                to: Destination::Peers(self.others.clone()),
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
        let candidate = self.check_sender(from, Some(request.candidate))?;
        // A leader that asks for votes has given its own lease up.
        let ignored = self.leader_is_live(context) && self.leader() != Some(candidate);
        if candidate == self.me || ignored && request.term > self.term {
            return Ok(());
        }
        if request.term > self.term {
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
        let granted = request.term == self.term && self.grant(context, &request);
        let response = VoteResponse {
            term: self.term,
            peer: self.me,
            granted,
            empty: self.log.last().index.get() == 0,
        };
        if let Some(reply) = reply {
            let command = send_to(candidate, reply, None, response.to_bytes());
            self.held.send_after(self.term_written, command, context.out);
        }
        Ok(())
    }

    /// Decides on a request of this member's own term, and writes the vote.
    fn grant(&mut self, context: &mut Context<'_>, request: &VoteRequest) -> bool {
        let free = self.vote.is_none_or(|vote| vote == request.candidate);
        let last = self.log.last();
        let current = (request.last_term, request.last_index) >= (last.term, last.index);
        if free && current {
            if self.vote.is_none() {
                self.vote = Some(request.candidate);
                self.write_term_and_vote(context.out);
            }
            if let State::Follower(follower) = &mut self.state {
                follower.heard = context.now;
            }
            return true;
        }
        if let (None, State::Follower(follower)) = (self.vote, &mut self.state) {
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
                leader.hears_quorum(&self.members, self.me, context.now, lease)
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
        let peer = self.check_sender(from, Some(response.peer))?;
        if response.term > self.term {
            self.adopt_term(context, response.term);
            self.follow(context, None);
        } else if let State::Candidate(candidate) = &mut self.state
            && response.granted
            && response.term == self.term
        {
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
        if written.is_some_and(|through| through >= candidate.own_vote) {
            candidate.granted.insert(self.me);
        }
        if !candidate.granted.contains(&self.me) {
            return;
        }
        let heard = candidate.granted.union(&candidate.granted_empty).count();
        if candidate.granted.len() >= self.members.quorum() || heard >= self.members.size() {
            self.lead(context);
        }
    }

    /// Becomes a follower, of this leader if it is known.
    pub(super) fn follow(&mut self, context: &mut Context<'_>, leader: Option<PeerId>) {
        self.cancel_catchup(context.out, Cancelled::NewTerm(self.term));
        let timers = context.timers;
        let alone = self.others.is_empty() && self.members.contains(&self.me);
        let timeout = match alone && self.may_lead && self.term < Term::MAX {
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
