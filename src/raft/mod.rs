//! One group's consensus, as NATS servers speak it (NRG), with durability as an event.
//!
//! A leader broadcasts append entries; a follower whose log they do not join answers with a
//! catchup inbox, which the leader feeds from its log or starts with a snapshot. Votes, terms and
//! messages are those of the Raft paper in NRG's formats; what differs from upstream is listed in
//! `docs/decisions.md`.
//!
//! The rooms: `log` knows the terms, `quorum` counts, `held` keeps back what is not durable;
//! `opening` starts from a disk, `election` decides who leads, `follower` takes entries in, `gap` is
//! what it lacks, `leader` hands them out, `catchup` feeds one follower that lags, `snapshot` replaces
//! logs, `checkpoint` lets a machine make one while the group goes on, `filing` writes a large one in
//! parts, `proving` reads it back, and `handing` gives it to the machine, `offering` and `receiving`
//! bring it from a leader to a follower; `applies` knows how far the
//! machine is, `health` says how the member stands, `aside` ends it; `membership` tells who belongs
//! to the group, `proposals` takes what others forward, and `trust` keeps a member that may have
//! forgotten what it promised from promising more.

mod applies;
mod aside;
mod catchup;
mod checkpoint;
mod election;
mod filing;
mod follower;
mod gap;
mod handing;
mod health;
mod held;
mod leader;
mod log;
mod membership;
mod offering;
mod opening;
mod proposals;
mod proving;
mod quorum;
mod receiving;
mod size;
mod snapshot;
mod trust;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::command::{Command, Destination, LogChange, Report, Role};
use crate::context::Context;
use crate::event::{Damage, Standing, TermAndVote};
use crate::ids::{CheckpointId, GroupId, GroupName, Index, LoadId, LogSize, PeerId, Term, WriteId};
use crate::limits::Limits;
use crate::node::Wake;
use crate::outbox::Outbox;
use crate::random::Random;
use crate::subject::{self, Subject};
use crate::time::{Duration, Time};
use crate::wire::{AppendEntry, WireError};

use applies::Applies;
use election::Candidate;
use election::Occasion;
use follower::Follower;
use handing::Handing;
use held::Held;
use leader::Leader;
use log::Log;
use opening::Opening;
use receiving::Receiving;
use snapshot::UnderWay;
use trust::Trust;

pub use gap::{Cancelled, Catchup, Gap};
pub use health::{Health, Lacking};
pub use leader::ProposeError;
pub use log::Position;
pub use membership::{Change, ChangeError, Membership};
pub use quorum::Members;
pub use snapshot::Installed;

/// Tells whether a snapshot's data could be installed, before anything is replaced by it.
pub type SnapshotCheck = fn(&Bytes, &Limits) -> Result<(), WireError>;

/// How the state of a group's machine comes and goes.
#[derive(Clone, Copy, Debug)]
pub enum StateForm {
    /// In one piece, which can be checked: the machine is in the core.
    Whole(SnapshotCheck),
    /// In parts, if it is large.
    InParts,
}

/// One member's part in one group.
#[derive(Debug)]
pub struct Raft {
    group: GroupId,
    name: GroupName,
    me: PeerId,
    membership: Membership,
    /// What was last said of the members: the last change, and whether it was uncommitted.
    told_members: (Option<Index>, bool),
    /// All members but this one.
    others: Arc<[PeerId]>,
    /// The same of every record that the log has.
    others_ever: Arc<[PeerId]>,
    subjects: Subjects,
    form: StateForm,
    /// The term of the leader that is followed, or of this member's own candidacy or leadership.
    term: Term,
    /// The newest term that this member has promised anything in, and the vote that it gave
    /// there. Newer than `term` only by candidacies of its own that nobody else supported.
    promised: TermAndVote,
    /// The newest write of term and vote.
    term_written: WriteId,
    log: Log,
    /// The newest durable snapshot, or the leader's that is being written.
    snapshot: Option<snapshot::Snapshot>,
    under_way: UnderWay,
    last_checkpoint: CheckpointId,
    /// What the machine has to take on.
    installed: Option<snapshot::Snapshot>,
    handing: Option<Box<Handing>>,
    /// The leader's, as far as it came.
    receiving: Option<Box<Receiving>>,
    /// The catchup that was given up last, until something shows that nothing is missing.
    cancelled: Option<(Gap, Cancelled)>,
    commit: Index,
    /// The last committed record that the machine was handed.
    applied: Index,
    /// What the machine has said of what it was handed.
    machine: Applies,
    /// When it was last known who leads.
    leader_seen: Time,
    /// A load for the machine that is under way.
    applying: Option<LoadId>,
    loads: BTreeMap<LoadId, catchup::Load>,
    held: Held,
    /// Whether the machine has all that a leader must have.
    may_lead: bool,
    /// Whether it follows, acknowledges and votes, but never asks for votes itself.
    observer: bool,
    /// Whether it should lead first when the group is new.
    preferred: bool,
    /// Whether it may promise anything.
    trust: Trust,
    /// What was found damaged at the start.
    found: Vec<Damage>,
    state: State,
}

/// What a member is doing, with what it needs for that.
#[derive(Debug)]
enum State {
    /// Reads its disk.
    Opening(Opening),
    /// Can be trusted with nothing: it neither votes, acknowledges nor leads.
    Aside(String),
    /// Follows a leader, or waits for one.
    Follower(Follower),
    /// Asks for votes.
    Candidate(Candidate),
    /// Leads.
    Leader(Leader),
}

/// The subjects of one group, made once.
#[derive(Debug)]
struct Subjects {
    append_entries: Subject,
    /// Where a leader takes proposals of members that do not lead.
    proposals: Subject,
    /// Where a leader takes the removal of a member from others.
    removals: Subject,
    votes: Subject,
    append_replies: Subject,
    /// Where a leader hears how far those are whom it feeds.
    catchup_progress: Subject,
    vote_replies: Subject,
}

/// A record that a quorum has on disk, for the machine to apply.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place in the log.
    pub index: Index,
    /// Its decoded form.
    pub entry: AppendEntry,
    /// Its bytes, which the entries share.
    pub record: Bytes,
}

/// How a group stands, for people and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The role; none while the disk is being read or the group stands aside.
    pub role: Option<Role>,
    /// Why the group stands aside, if it does.
    pub aside: Option<String>,
    /// Whether the member has all that it ever promised; it takes part in no quorum before.
    pub standing: Standing,
    /// What a member that does not have it waits for.
    pub repair: Option<String>,
    /// What was found damaged when this process started, whether it is repaired by now or not.
    pub found: Vec<Damage>,
    /// The newest term.
    pub term: Term,
    /// Who leads, as far as is known.
    pub leader: Option<PeerId>,
    /// Since when this member leads, if it does.
    pub leader_since: Option<Time>,
    /// The last record of the log.
    pub last: Position,
    /// The last record that is on disk.
    pub durable: Index,
    /// The first record that was not compacted.
    pub first: Index,
    /// The last record that a quorum has.
    pub commit: Index,
    /// The last record that the machine was handed.
    pub applied: Index,
    /// The last record that the machine has taken in, with all before it. Upstream: `processed`.
    pub processed: Index,
    /// The last record that the machine's state contains, with all before it: a snapshot covers no
    /// more. Upstream: `applied`.
    pub machine_applied: Index,
    /// Whether the machine takes nothing for now.
    pub paused: bool,
    /// All records that were not compacted. Upstream: `Size`.
    pub size: LogSize,
    /// Those that a snapshot of what the machine has applied would free. Upstream: what `Applied`
    /// returns.
    pub compactable: LogSize,
    /// What the newest durable snapshot covers, if there is one.
    pub snapshot: Option<Position>,
    /// When a leader last heard a quorum, itself included; none of other members.
    pub quorum_heard: Option<Time>,
    /// Whether a catchup of the log is under way here.
    pub catching_up: bool,
    /// What is done about what the log lacks.
    pub catchup: Catchup,
    /// The other members, as a leader sees them.
    pub peers: Vec<PeerStatus>,
    /// The members, as the log says.
    pub members: Vec<PeerId>,
    /// How many members the quorum is counted from.
    pub cluster_size: usize,
    /// The record of a change of the members that is not committed yet.
    pub change: Option<Index>,
    /// The peer that gets what it lacks, to be added then.
    pub joining: Option<PeerId>,
    /// Whether this member never asks for votes.
    pub observer: bool,
}

/// Another member, as a leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerId,
    /// The last record that it is known to have on disk.
    pub last: Index,
    /// When it was last heard; none if never in this leadership.
    pub heard: Option<Time>,
}

impl Raft {
    /// A member that waits for its disk to be opened. The members are those that the group begins
    /// with.
    pub fn new(
        group: GroupId,
        name: &GroupName,
        members: &[PeerId],
        me: PeerId,
        form: StateForm,
        context: &mut Context<'_>,
    ) -> Self {
        let members = Members::new(members.iter().copied());
        let subjects = Subjects::new(name, context.random);
        let mut raft = Self {
            group,
            name: name.clone(),
            me,
            others: Arc::from([]),
            others_ever: Arc::from([]),
            membership: Membership::new(members),
            told_members: (None, false),
            subjects,
            form,
            term: Term::ZERO,
            promised: TermAndVote::default(),
            term_written: WriteId::ZERO,
            log: Log::new(group, Position::default(), context.limits.log_cache.get()),
            snapshot: None,
            under_way: UnderWay::Nothing,
            last_checkpoint: CheckpointId::ZERO,
            installed: None,
            handing: None,
            receiving: None,
            cancelled: None,
            commit: Index::ZERO,
            applied: Index::ZERO,
            machine: Applies::default(),
            leader_seen: Time::ZERO,
            applying: None,
            loads: BTreeMap::new(),
            held: Held::default(),
            may_lead: true,
            observer: false,
            preferred: false,
            trust: Trust::Whole,
            found: Vec::new(),
            state: State::Opening(Opening::default()),
        };
        raft.members_changed();
        raft
    }

    /// A message reached one of the group's subjects.
    pub fn handle_message(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        subject: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) {
        if matches!(self.state, State::Opening(_) | State::Aside(_)) {
            return;
        }
        let handled = if *subject == self.subjects.append_entries {
            self.handle_append_entry(context, from, reply, payload)
        } else if *subject == self.subjects.append_replies {
            self.handle_append_response(context, from, reply, payload)
        } else if *subject == self.subjects.catchup_progress {
            self.handle_catchup_progress(context, from, payload)
        } else if *subject == self.subjects.votes {
            self.handle_vote_request(context, from, reply, payload)
        } else if *subject == self.subjects.vote_replies {
            self.handle_vote_response(context, from, payload)
        } else if *subject == self.subjects.removals {
            self.handle_removal(context, from, payload)
        } else {
            self.handle_catchup_entry(context, subject, reply, payload)
        };
        if let Err(refusal) = handled {
            let why = alloc::format!("{subject}: {refusal}");
            context.out.report(self.group, Report::Refused { from, why });
        }
    }

    /// Every log write up to this one is on disk.
    pub fn handle_written(&mut self, context: &mut Context<'_>, through: WriteId) {
        if matches!(self.state, State::Aside(_)) {
            // A write that failed may be among them, of which nothing is to be relied on.
            return;
        }
        self.log.written(through);
        self.held.written(through, context.out);
        self.snapshot_written(context, through);
        self.try_to_heal(context);
        match &self.state {
            State::Follower(_) => self.acknowledge(context),
            State::Candidate(_) => self.count_votes(context, Some(through)),
            State::Leader(_) => self.advance_commit(context),
            State::Opening(_) | State::Aside(_) => {}
        }
    }

    /// The moment of [`deadline`](Self::deadline) has come, or passed.
    pub fn handle_deadline(&mut self, context: &mut Context<'_>) {
        match &self.state {
            State::Follower(_) => self.follower_deadline(context),
            State::Candidate(candidate) if context.now >= candidate.until => {
                self.campaign(context, Occasion::Silence);
            }
            State::Leader(_) => self.leader_deadline(context),
            _ => {}
        }
    }

    /// When the group wants to be woken, and why.
    pub fn deadline(&self) -> Option<(Time, Wake)> {
        match &self.state {
            State::Opening(_) | State::Aside(_) => None,
            State::Follower(follower) => {
                let asks = self.trust.deadline().map(|time| (time, Wake::Repair));
                asks.into_iter().chain([follower.deadline()]).min()
            }
            State::Candidate(candidate) => Some((candidate.until, Wake::Election)),
            State::Leader(leader) => leader.deadline(),
        }
    }

    /// This member should lead first: if the group turns out to be new it campaigns before the others
    /// do. Before [`open`](Self::open).
    pub const fn prefer(&mut self) {
        self.preferred = true;
    }

    /// Tells the group whether its machine has all that a leader must have. A member whose
    /// stream is being caught up votes, but does not campaign (upstream defect 7040).
    pub fn set_may_lead(&mut self, may_lead: bool) {
        let alone = self.others.is_empty() && self.members().contains(&self.me);
        if let (true, false, true, State::Follower(follower)) =
            (alone, self.may_lead, may_lead, &mut self.state)
        {
            // Nobody else could lead, so there is nobody to wait for.
            follower.timeout = Duration::ZERO;
        }
        self.may_lead = may_lead;
    }

    /// Whether this member leads and has applied all that earlier leaders committed: from then on
    /// it may take proposals from clients.
    pub fn leads(&self) -> bool {
        matches!(&self.state, State::Leader(leader) if self.applied >= leader.begins)
    }

    /// The term of this member's leadership, if it leads.
    pub fn leadership(&self) -> Option<Term> {
        self.leads().then_some(self.term)
    }

    /// The next record that a quorum has and this disk has, once. `None` also while it is being
    /// loaded from disk.
    pub fn next_committed(&mut self, context: &mut Context<'_>) -> Option<Committed> {
        let index = self.applied.next();
        if index > self.commit.min(self.log.durable()) {
            return None;
        }
        let waits = self.receiving_snapshot() || self.owes_snapshot() || self.paused();
        if waits || self.applying.is_some() {
            return None;
        }
        let Some(record) = self.log.record(index).cloned() else {
            self.load_for_machine(context, index);
            return None;
        };
        match AppendEntry::decode(&record) {
            Ok(entry) => {
                self.applied = index;
                Some(Committed { index, entry, record })
            }
            Err(error) => {
                self.stand_aside(context, alloc::format!("log record {index}: {error}"));
                None
            }
        }
    }

    /// The group's name on the wire.
    pub const fn name(&self) -> &GroupName {
        &self.name
    }

    /// Who leads, as far as is known.
    pub fn leader(&self) -> Option<PeerId> {
        match &self.state {
            State::Follower(follower) => follower.leader,
            State::Leader(_) => Some(self.me),
            _ => None,
        }
    }

    /// The members of the group but this one.
    pub const fn others(&self) -> &Arc<[PeerId]> {
        &self.others
    }

    /// The other members, and those that a record of the log made members or removed: what a new
    /// member lacks may be with one of them alone.
    pub const fn others_ever(&self) -> &Arc<[PeerId]> {
        &self.others_ever
    }

    /// This member.
    pub const fn me(&self) -> PeerId {
        self.me
    }

    /// The members of the group.
    pub fn members(&self) -> &Members {
        self.membership.current()
    }

    /// The last record that the machine was handed, and its term.
    pub fn applied(&self) -> Position {
        let term = self.log.term(self.applied).unwrap_or(self.log.base().term);
        Position { index: self.applied, term }
    }

    /// Whether the disk is being read.
    pub const fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }

    /// Whether the machine was handed all that this member has, with a leader who has no more.
    pub fn is_current(&self) -> bool {
        let gap = matches!(&self.state, State::Follower(follower) if follower.catching_up());
        let waits = self.owes_snapshot() || self.receiving_snapshot();
        self.leader().is_some() && !gap && !waits && self.applied >= self.log.last().index
    }

    /// Whether a load is the group's own, not its machine's.
    pub fn owns_load(&self, load: LoadId) -> bool {
        let opening = matches!(&self.state, State::Opening(opening) if opening.awaits(load));
        opening || self.loads.contains_key(&load)
    }

    /// How much of the log a snapshot would free now.
    pub fn compactable(&self) -> LogSize {
        self.log.size_through(self.machine_applied())
    }

    /// Bytes of all records that were not compacted: at least what a snapshot would free.
    pub const fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Takes note of the time at which somebody leads.
    pub fn note_leader(&mut self, now: Time) {
        if self.leader().is_some() {
            self.leader_seen = now;
        }
    }

    /// How the group stands.
    pub fn status(&self) -> Status {
        let role = match &self.state {
            State::Opening(_) | State::Aside(_) => None,
            State::Follower(_) => Some(self.follower_role()),
            State::Candidate(_) => Some(Role::Candidate),
            State::Leader(_) => Some(Role::Leader),
        };
        Status {
            role,
            aside: match &self.state {
                State::Aside(why) => Some(why.clone()),
                _ => None,
            },
            standing: self.standing(),
            repair: self.repair(),
            found: self.found.clone(),
            term: self.term,
            leader: self.leader(),
            leader_since: match &self.state {
                State::Leader(leader) => Some(leader.since),
                _ => None,
            },
            last: self.log.last(),
            durable: self.log.durable(),
            first: self.log.first(),
            commit: self.commit,
            applied: self.applied,
            processed: self.processed(),
            machine_applied: self.machine_applied(),
            paused: self.paused(),
            size: self.log.size(),
            compactable: self.compactable(),
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.position),
            quorum_heard: match &self.state {
                State::Leader(leader) => leader.quorum_heard(self.members(), self.me),
                _ => None,
            },
            catching_up: matches!(&self.state, State::Follower(f) if f.catching_up()),
            catchup: self.catchup(),
            peers: match &self.state {
                State::Leader(leader) => leader.peers(&self.others),
                _ => Vec::new(),
            },
            members: self.members().iter().collect(),
            cluster_size: self.members().size(),
            change: self.membership.pending(self.commit),
            joining: self.joining(),
            observer: self.observer,
        }
    }

    /// Takes a newer term on, without a vote in it.
    fn adopt_term(&mut self, context: &mut Context<'_>, term: Term) {
        assert!(term > self.term, "a term never goes back: {term} after {}", self.term);
        self.term = term;
        if term > self.promised.term {
            self.promised = TermAndVote { term, vote: None };
            self.write_term_and_vote(context.out);
        }
    }

    fn write_term_and_vote(&mut self, out: &mut Outbox) -> WriteId {
        self.term_written = out.write(self.group, LogChange::TermAndVote(self.promised));
        self.term_written
    }

    fn members_changed(&mut self) {
        self.others = self.members().iter().filter(|peer| *peer != self.me).collect();
        self.others_ever = self.membership.ever().filter(|peer| *peer != self.me).collect();
        self.gather_audience();
    }

    fn report_role(&self, out: &mut Outbox, role: Role) {
        let role = if role == Role::Follower { self.follower_role() } else { role };
        out.report(self.group, Report::Role { role, term: self.term, leader: self.leader() });
    }
}

/// A message to one peer.
fn send_to(peer: PeerId, subject: Subject, reply: Option<Subject>, payload: Bytes) -> Command {
    Command::Send { to: Destination::Peers(Arc::from([peer])), subject, reply, payload }
}

impl Subjects {
    fn new(group: &GroupName, random: &mut Random) -> Self {
        let append_replies = subject::raft_reply(random);
        Self {
            append_entries: subject::append_entry(group),
            proposals: subject::proposal(group),
            removals: subject::remove_peer(group),
            votes: subject::vote(group),
            catchup_progress: subject::catchup_progress(&append_replies),
            append_replies,
            vote_replies: subject::raft_reply(random),
        }
    }

    fn subscribe(&self, group: GroupId, out: &mut Outbox) {
        let inboxes = [&self.append_replies, &self.catchup_progress, &self.vote_replies];
        for subject in [&self.append_entries, &self.votes].into_iter().chain(inboxes) {
            out.subscribe(group, subject.clone());
        }
    }
}

/// Why a message of a peer was dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0} is not a member")]
    NotAMember(PeerId),
    #[error("it names {claimed} as its sender")]
    NotTheSender { claimed: PeerId },
    #[error("{0} is not a member, and lacks records that are committed here")]
    Outdated(PeerId),
    #[error("it names nobody as its sender")]
    Nobody,
    #[error("{0} claims to lead in a term that this node leads in")]
    SecondLeader(PeerId),
    #[error("it acknowledges record {index}, but the log ends at {last}")]
    NeverSent { index: Index, last: Index },
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("its snapshot covers {index}, which is committed here already")]
    OldSnapshot { index: Index },
}

impl Raft {
    /// That a message may be who it says it is from: a member, and whom the transport knows.
    fn check_sender(
        &self,
        from: Option<PeerId>,
        claimed: Option<PeerId>,
    ) -> Result<PeerId, Refusal> {
        let claimed = check_identity(from, claimed)?;
        if !self.members().contains(&claimed) {
            return Err(Refusal::NotAMember(claimed));
        }
        Ok(claimed)
    }
}

/// That a message may be from whom it says: whom the transport knows, if it knows.
fn check_identity(from: Option<PeerId>, claimed: Option<PeerId>) -> Result<PeerId, Refusal> {
    let claimed = claimed.ok_or(Refusal::Nobody)?;
    if from.is_some_and(|from| from != claimed) {
        return Err(Refusal::NotTheSender { claimed });
    }
    Ok(claimed)
}
