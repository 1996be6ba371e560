//! What a member may promise: whether its disk still has all that it ever acknowledged or voted.
//!
//! The rule: a member that may have forgotten a promise makes none. It neither votes, campaigns nor
//! acknowledges, so it counts in no quorum, until it has again
//!
//! 1. its votes: every other member has told its term since this member started. In those terms it
//!    votes for nobody, and from then on it listens to nobody in an older one;
//! 2. its records: on its disk is a record of a leader's term that is newer than all in which it
//!    promised something, or everything up to where the log of a leader of a term that is not older
//!    ended after this member had started.
//!
//! `docs/decisions.md` says why that suffices. What is lost is on the disk before anything is
//! discarded, and stays there until the member is whole: a crash in between begins anew.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Context, Position, Raft, State, send_to};
use crate::command::{Command, Destination, LogChange, Report};
use crate::event::{Damage, Damaged, Impairment, Loss, Standing, TermAndVote};
use crate::ids::{Index, PeerId, Term};
use crate::subject::Subject;
use crate::time::Time;
use crate::wire::{AppendEntry, VoteRequest, VoteResponse};

/// How far a member can be trusted with promises.
#[derive(Debug, Default)]
pub(super) enum Trust {
    /// It has all that it promised.
    #[default]
    Whole,
    /// Its disk is empty: it asks the others whether theirs are, too. Then the group is new.
    Blank(Inquiry),
    /// It may have forgotten promises.
    Impaired(Impairment, Repair),
}

/// How far a member has got its promises back.
#[derive(Debug)]
pub(super) enum Repair {
    /// It asks every other member for its term. Meanwhile it takes records, and believes none to
    /// be all.
    Asking(Inquiry),
    /// It takes a leader's records. It promised nothing in a term behind `promised`.
    Fetching { promised: Term, proof: Option<Proof> },
}

/// Where a leader's log ended after this member had started: the leader said so at an inbox that
/// nobody knew before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    end: Position,
    /// The leader's term.
    term: Term,
}

/// Questions to every other member for its term, and whether its log is empty.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    answers: BTreeMap<PeerId, Term>,
    /// When those who were silent are asked again.
    again: Time,
}

impl Trust {
    const fn inquiry(&self) -> Option<&Inquiry> {
        match self {
            Self::Blank(inquiry) | Self::Impaired(_, Repair::Asking(inquiry)) => Some(inquiry),
            _ => None,
        }
    }

    const fn inquiry_mut(&mut self) -> Option<&mut Inquiry> {
        match self {
            Self::Blank(inquiry) | Self::Impaired(_, Repair::Asking(inquiry)) => Some(inquiry),
            _ => None,
        }
    }

    /// When those who did not answer are to be asked again.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.inquiry().map(|inquiry| inquiry.again)
    }
}

/// What a part of the disk that cannot be read makes a member forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgotten {
    Votes,
    Records,
    Everything,
}

impl Raft {
    /// Whether this member may vote, campaign and acknowledge.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.trust, Trust::Whole)
    }

    /// Takes on what the disk says of itself. `empty` is whether there is nothing else on it.
    pub(super) fn open_trust(&mut self, standing: Standing, empty: bool) {
        self.trust = match standing {
            Standing::Unknown if empty => Trust::Blank(Inquiry::default()),
            Standing::Impaired(impairment) => {
                let repair = match impairment.lost {
                    Loss::Records { promised } => Repair::Fetching { promised, proof: None },
                    Loss::Votes | Loss::Everything => Repair::Asking(Inquiry::default()),
                };
                Trust::Impaired(impairment, repair)
            }
            Standing::Whole | Standing::Unknown => Trust::Whole,
        };
    }

    /// Something is lost: that is on the disk before anything else happens to it.
    pub(super) fn impair(
        &mut self,
        context: &mut Context<'_>,
        forgotten: Forgotten,
        mut found: Vec<Damage>,
    ) {
        // What was not repaired when the process stopped is still lost.
        let (before, mut known) = match core::mem::take(&mut self.trust) {
            Trust::Impaired(Impairment { lost, found }, _) => (Some(lost), found),
            Trust::Blank(_) => (Some(Loss::Everything), Vec::new()),
            Trust::Whole => (None, Vec::new()),
        };
        let term = self.promised.term.max(self.log.last().term);
        let lost = match (before, forgotten) {
            (None, Forgotten::Records) => Loss::Records { promised: term },
            (Some(Loss::Records { promised }), Forgotten::Records) => {
                Loss::Records { promised: promised.max(term) }
            }
            (None | Some(Loss::Votes), Forgotten::Votes) => Loss::Votes,
            _ => Loss::Everything,
        };
        self.found.extend_from_slice(&found);
        self.found.truncate(Impairment::DAMAGES);
        found.retain(|damage| !known.contains(damage));
        known.append(&mut found);
        known.truncate(Impairment::DAMAGES);
        let impairment = Impairment { lost, found: known };
        let standing = Standing::Impaired(impairment.clone());
        context.out.write(self.group, LogChange::Standing(standing.clone()));
        context.out.report(self.group, Report::Impaired(impairment));
        self.open_trust(standing, false);
    }

    /// Something is damaged on which no promise rests.
    pub fn note_damage(&mut self, context: &mut Context<'_>, damaged: Damaged) {
        if self.found.len() < Impairment::DAMAGES {
            self.found.push(damaged.damage().clone());
        }
        context.out.report(self.group, Report::Damaged(damaged));
    }

    /// The disk is read: asks for what only the others know.
    pub(super) fn begin_repair(&mut self, context: &mut Context<'_>) {
        self.inquire(context);
        self.try_to_heal(context);
    }

    /// Asks those who have not told their term: a vote request in term 0, which any member answers
    /// with its own term, and none grants.
    pub(super) fn inquire(&mut self, context: &mut Context<'_>) {
        let Some(inquiry) = self.trust.inquiry_mut() else { return };
        inquiry.again = context.now + context.timers.heartbeat;
        let silent = |peer: &PeerId| !inquiry.answers.contains_key(peer);
        let silent: Arc<[PeerId]> = self.others.iter().copied().filter(silent).collect();
        if silent.is_empty() {
            return self.all_have_answered(context);
        }
        let question = VoteRequest {
            term: Term::ZERO,
            last_term: Term::ZERO,
            last_index: Index::ZERO,
            candidate: self.me,
        };
        context.out.push(Command::Send {
            to: Destination::Peers(silent),
            subject: self.subjects.votes.clone(),
            reply: Some(self.subjects.vote_replies.clone()),
            payload: question.to_bytes(),
        });
    }

    /// Another member tells its term, and whether its log is empty.
    pub(super) fn hear_term(&mut self, context: &mut Context<'_>, response: VoteResponse) {
        let peer = response.peer;
        if matches!(self.trust, Trust::Blank(_)) && !response.empty {
            self.not_new(context, format!("empty, but {peer} has records of the group"));
        }
        let Some(inquiry) = self.trust.inquiry_mut() else { return };
        inquiry.answers.insert(peer, response.term);
        let answered = |peer: &PeerId| inquiry.answers.contains_key(peer);
        if self.others.iter().all(answered) {
            self.all_have_answered(context);
        }
    }

    /// A leader was heard: an empty disk in its group lost everything.
    pub(super) fn group_is_not_new(&mut self, context: &mut Context<'_>, leader: PeerId) {
        if matches!(self.trust, Trust::Blank(_)) {
            self.not_new(context, format!("empty, but {leader} leads the group"));
        }
    }

    fn not_new(&mut self, context: &mut Context<'_>, what: String) {
        let damage = Damage { file: "disk".into(), offset: None, what };
        self.impair(context, Forgotten::Everything, alloc::vec![damage]);
        self.inquire(context);
    }

    /// Every other member has told its term.
    fn all_have_answered(&mut self, context: &mut Context<'_>) {
        let Some(inquiry) = self.trust.inquiry() else { return };
        let heard = inquiry.answers.values().copied().max().unwrap_or_default();
        let promised = heard.max(self.log.last().term);
        if promised > Term::ZERO && promised >= self.promised.term {
            // It may have voted for anybody in any of these terms; a vote for itself, which
            // nobody counts, keeps it from a second one.
            self.promised = TermAndVote { term: promised, vote: Some(self.me) };
            self.write_term_and_vote(context.out);
            if self.term < promised {
                self.term = promised;
                self.follow(context, None);
            }
        }
        match &mut self.trust {
            Trust::Impaired(Impairment { lost: Loss::Everything, .. }, repair) => {
                *repair = Repair::Fetching { promised, proof: None };
                self.try_to_heal(context);
            }
            // A new group, or one whose records are all here.
            _ => self.heal(context),
        }
        if let (true, State::Follower(follower)) = (self.preferred, &mut self.state) {
            // The others are there, and know by then that the group is new: they ask again after one
            // heartbeat, and one who hears of a candidate before gives no vote in its term.
            let soon = (context.timers.heartbeat * 2).min(context.timers.election_min);
            (follower.heard, follower.timeout) = (context.now, soon);
        }
    }

    /// Tells a term and whether the log is empty, and gives no vote.
    pub(super) fn refuse_vote(
        &mut self,
        context: &mut Context<'_>,
        candidate: PeerId,
        reply: Option<Subject>,
    ) {
        let empty = match self.trust {
            Trust::Whole => self.log.last().index == Index::ZERO,
            Trust::Blank(_) => true,
            Trust::Impaired(..) => false,
        };
        let response = {
            // Of a whole member's log, or of a disk on which nothing ever was.
            let term = self.promised.term;
            VoteResponse { term, peer: self.me, granted: false, empty }
        };
        if let Some(reply) = reply {
            let command = send_to(candidate, reply, None, response.to_bytes());
            self.held.send_after(self.term_written, command, context.out);
        }
    }

    /// Whether it still has to learn where a leader's log ends.
    pub(super) fn awaits_proof(&self) -> bool {
        let Trust::Impaired(_, Repair::Fetching { promised, proof }) = &self.trust else {
            return false;
        };
        !proof.is_some_and(|proof| proof.term >= *promised && self.matches(proof.end))
    }

    /// Whether the log has this record, or a snapshot in its place.
    fn matches(&self, end: Position) -> bool {
        end.index < self.log.base().index || self.log.term(end.index) == Some(end.term)
    }

    /// An empty append entry on a catchup's inbox: the leader's log ended there when it was sent.
    pub(super) fn note_proof(&mut self, entry: &AppendEntry) {
        if let Trust::Impaired(_, Repair::Fetching { proof, .. }) = &mut self.trust
            && entry.entries.is_empty()
        {
            let end = Position { index: entry.previous_index, term: entry.previous_term };
            *proof = Some(Proof { end, term: self.term });
        }
    }

    /// Becomes whole if it has what it may have acknowledged.
    pub(super) fn try_to_heal(&mut self, context: &mut Context<'_>) {
        let Trust::Impaired(_, Repair::Fetching { promised, proof }) = &self.trust else { return };
        if self.receiving_snapshot() || matches!(self.state, State::Opening(_) | State::Aside(_)) {
            return;
        }
        let durable = self.log.durable();
        let newer = self.log.term(durable).is_some_and(|term| term > *promised);
        let reached = proof.is_some_and(|proof| proof.end.index <= durable);
        if newer || reached && !self.awaits_proof() {
            self.heal(context);
        }
    }

    fn heal(&mut self, context: &mut Context<'_>) {
        if matches!(core::mem::take(&mut self.trust), Trust::Impaired(..)) {
            let last = self.log.durable();
            context.out.report(self.group, Report::Repaired { last });
        }
        // Acknowledgements and votes wait for this write: who crashes before it promised nothing.
        self.term_written = context.out.write(self.group, LogChange::Standing(Standing::Whole));
    }

    /// How the member stands, as its disk says it.
    pub(super) fn standing(&self) -> Standing {
        match &self.trust {
            Trust::Whole => Standing::Whole,
            Trust::Blank(_) => Standing::Unknown,
            Trust::Impaired(impairment, _) => Standing::Impaired(impairment.clone()),
        }
    }

    /// What a member without promises waits for, in words.
    pub(super) fn repair(&self) -> Option<String> {
        if let Some(inquiry) = self.trust.inquiry() {
            let (heard, others) = (inquiry.answers.len(), self.others.len());
            let silent = self.others.iter().find(|peer| !inquiry.answers.contains_key(*peer))?;
            return Some(format!(
                "{heard} of {others} members have told their term; {silent} has not"
            ));
        }
        let Trust::Impaired(..) = &self.trust else { return None };
        let last = self.log.last().index;
        Some(match self.leader() {
            _ if self.others.is_empty() => {
                "the group has no other member to take records from".into()
            }
            None => "waits for a leader to take records from".into(),
            Some(leader) if self.awaits_proof() => {
                format!("takes records from {leader}, and has them up to {last}")
            }
            Some(leader) => format!("has all records of {leader}, and waits for the disk"),
        })
    }
}
