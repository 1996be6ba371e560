//! One replicated stream on top of a group.
//!
//! A [`Stream`] is a pure machine. The node hands it what concerns it, in this order:
//!
//! 1. [`open`](Stream::open) once, with the store's mark; reads go to
//!    [`handle_read`](Stream::handle_read) until [`Notice::Ready`].
//! 2. [`install`](Stream::install) whenever the group has a snapshot that the machine has to take on,
//!    and [`apply`](Stream::apply) for each committed record while it is not
//!    [`paused`](Stream::paused).
//! 3. [`leadership_gained`](Stream::leadership_gained) when this node leads and has handed over every
//!    record of earlier leaders, [`leadership_lost`](Stream::leadership_lost) when that ends;
//!    [`set_leader`](Stream::set_leader) whenever another leads.
//! 4. Requests of clients, messages of peers, finished stores and syncs, and deadlines as they come.
//!
//! After each of them [`poll`](Stream::poll) has what the node must know.

pub mod catchup;
pub mod dedupe;
pub mod index;

mod apply;
mod batch;
mod bounds;
mod checks;
mod contents;
mod counter;
mod duration;
mod exact;
mod expiry;
mod header;
mod header_edit;
mod leadership;
mod lifetimes;
mod mend;
mod publish;
mod read;
mod restore;
mod schedule;
mod staging;
mod state;
mod store;
mod transform;

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::canary::Canary;
use crate::config::ConfigError;
use crate::context::Context;
use crate::event::{Damage, LostMessages, StoredMessage};
use crate::ids::{GroupId, GroupName, Index, LoadId, PeerId, Sequence, StoreId, Term};
use crate::node::Wake;
use crate::subject::{Subject, Token};
use crate::subject_transform::Transform;
use crate::time::Time;
use crate::wire::{
    DiscardPolicy, PublishAckTemplate, RetentionPolicy, StreamConfig, StreamState, SyncRequest,
};

use catchup::follower::{CatchupProgress, Follower};
use catchup::leader::{Server, Standing, Verdict};
use catchup::peers::CatchupPeers;
use catchup::stopped::Stopped;
use contents::{Applied, Contents};
use leadership::Leadership;
use read::Reads;
use restore::Restore;
use transform::SubjectsStored;

pub use publish::Proposal;
pub use state::decode_state;

/// One replica of a stream.
#[derive(Debug)]
pub struct Stream {
    group: GroupId,
    me: PeerId,
    /// Where this stream's catchups are asked for.
    sync: Subject,
    config: StreamConfig,
    domain: String,
    acks: PublishAckTemplate,
    transform: Option<SubjectsStored>,
    /// Keeps hashes from being foreseen.
    key: u64,
    contents: Contents,
    phase: Phase,
    leader: Option<PeerId>,
    /// The other members of the group, and those before them that the log names.
    others: Arc<[PeerId]>,
    /// Servers that said that they read no binary snapshots.
    legacy: BTreeSet<PeerId>,
    leadership: Option<Leadership>,
    reads: Reads,
    server: Server,
    snapshot: Option<SnapshotUnderWay>,
    /// A snapshot that came before the store was read.
    snapshot_waiting: Option<(Applied, StreamState)>,
    /// How the last catchup went.
    last_catchup: Option<CatchupProgress>,
    /// What the stream itself proposes.
    proposals: VecDeque<Proposal>,
    /// Room for answers.
    answers: BytesMut,
    notices: VecDeque<Notice>,
}

/// What a stream is doing.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a stream has one")]
enum Phase {
    /// Waits for its store to be opened.
    Opening,
    /// Reads its store.
    Restoring(Restore),
    /// Applies.
    Current,
    /// Lacks messages of a snapshot.
    CatchingUp(Follower),
    /// Cannot go on.
    Stopped(Stopped),
}

/// A snapshot whose store is not on disk yet.
#[derive(Debug)]
struct SnapshotUnderWay {
    index: Index,
    term: Term,
    data: Bytes,
    through: StoreId,
}

/// What the node must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The store is read; records may be applied.
    Ready,
    /// All that the installed snapshot says is there and on disk; applies go on.
    CaughtUp,
    /// A snapshot that [`Stream::snapshot`] began, whose store is on disk: the log may be compacted.
    Snapshot {
        /// The last record that it covers.
        index: Index,
        /// The term of that record.
        term: Term,
        /// The state.
        data: Bytes,
    },
    /// What [`Canary::GivesLogUp`] does: the log is deleted.
    #[cfg(feature = "canaries")]
    LogGivenUp,
    /// The store lost messages, and what was found; they are mended while it is being read.
    StoreDamaged(Damage),
    /// This node must not lead now, and why.
    StepDown(String),
    /// The stream cannot go on, and why: the group has to stand aside.
    Stopped(String),
}

/// The subject on which a stream's catchups are asked for: `$JSC.SYNC.` and eight digits that every
/// member makes from the group's name alike.
pub fn sync_subject(group: &GroupName) -> Subject {
    Subject::from(format!("$JSC.SYNC.{}", PeerId::from_name(group.as_str())))
}

/// Whether a stream of this configuration can be kept.
///
/// # Errors
/// [`ConfigError`] names the field of the configuration that is not supported.
pub fn check_config(config: &StreamConfig) -> Result<(), ConfigError> {
    let unsupported = [
        ("retention", config.retention != RetentionPolicy::Limits),
        ("mirror", config.mirror.is_some()),
        ("sources", !config.sources.is_empty()),
        ("republish", config.republish.is_some()),
        ("subject_delete_marker_ttl", config.subject_delete_marker_ttl != 0),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
        return Err(ConfigError { field: (*field).into(), why: "not supported yet".into() });
    }
    if config.discard_new_per_subject {
        let error = |field: &str, why: &str| ConfigError { field: field.into(), why: why.into() };
        if config.discard != DiscardPolicy::New {
            let why = "discarding new messages of each subject needs `new`";
            return Err(error("discard", why));
        }
        if config.max_msgs_per_subject <= 0 {
            let why = "discarding new messages of each subject needs a bound above zero";
            return Err(error("max_msgs_per_subject", why));
        }
    }
    check_transform(config)?;
    for subject in &config.subjects {
        if !crate::subject::is_valid_filter(subject.as_bytes()) {
            let why = format!("{subject:?} is no subject");
            return Err(ConfigError { field: "subjects".into(), why });
        }
    }
    Ok(())
}

fn check_transform(config: &StreamConfig) -> Result<(), ConfigError> {
    let Some(given) = &config.subject_transform else { return Ok(()) };
    let why = match Transform::new(&given.src, &given.dest) {
        Err(error) => error.to_string(),
        // Its leader adds to the last message of a subject before the next one is there.
        Ok(Some(transform)) if transform.is_random() && config.allow_msg_counter => {
            "a counter needs subjects that are not random".into()
        }
        Ok(_) => return Ok(()),
    };
    Err(ConfigError { field: "subject_transform".into(), why })
}

/// Fills in what a configuration means without saying so.
fn complete(config: &mut StreamConfig) {
    if config.subjects.is_empty() {
        config.subjects.push(config.name.clone());
    }
    if config.allow_msg_schedules {
        // A schedule takes the place of the one before.
        (config.allow_rollup_hdrs, config.deny_purge) = (true, false);
    }
}

impl Stream {
    /// A stream that waits for [`open`](Self::open). Without subjects it takes its own name, as
    /// upstream's.
    pub fn new(
        group: GroupId,
        name: &GroupName,
        me: PeerId,
        mut config: StreamConfig,
        context: &mut Context<'_>,
    ) -> Self {
        complete(&mut config);
        let key = context.random.bits();
        let ids = context.limits.dedupe_ids;
        let sync = sync_subject(name);
        Self {
            group,
            me,
            sync: sync.clone(),
            domain: String::new(),
            acks: PublishAckTemplate::new(&config.name, None),
            transform: SubjectsStored::of(&config),
            contents: Contents::new(group, sync, key, &config, ids),
            config,
            key,
            phase: Phase::Opening,
            leader: None,
            others: Arc::from([]),
            legacy: BTreeSet::new(),
            leadership: None,
            reads: Reads::default(),
            server: Server::new(group),
            snapshot: None,
            snapshot_waiting: None,
            last_catchup: None,
            proposals: VecDeque::new(),
            answers: BytesMut::new(),
            notices: VecDeque::new(),
        }
    }

    /// Where catchups are asked for, if not at the [`sync_subject`] of the group; before
    /// [`open`](Self::open).
    pub fn set_sync(&mut self, sync: Subject) {
        self.contents.sync.clone_from(&sync);
        self.sync = sync;
    }

    /// The JetStream domain that acknowledgements and infos name; none if it is empty.
    pub fn set_domain(&mut self, domain: &str) {
        self.domain = domain.into();
        self.acks = PublishAckTemplate::new(&self.config.name, Some(domain));
    }

    /// Takes up what a leader checks before it takes a message. What decides on an applied message
    /// stays as it was: every replica would have to take that up at the same message.
    pub fn reconfigure(&mut self, mut config: StreamConfig) {
        complete(&mut config);
        self.config = config;
        if let Some(leadership) = self.leadership.as_mut().filter(|_| !self.config.allow_atomic) {
            leadership.batches.clear();
        }
    }

    /// The stream ends here: whoever waits is told that nothing is known, and who is served that it
    /// is served no longer.
    pub fn close(&mut self, context: &mut Context<'_>) {
        self.leadership_lost(context);
        self.close_reads(context);
        self.server.stop(context);
        match &mut self.phase {
            Phase::CatchingUp(follower) => {
                follower.abort(context, &mut self.contents, "the replica is closed");
            }
            Phase::Stopped(stopped) => stopped.stop_listening(context),
            Phase::Opening | Phase::Restoring(_) | Phase::Current => {}
        }
    }

    /// What the node must know; call until there is none.
    pub fn poll(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The JetStream domain that it is in; empty if it is in none.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Its configuration.
    pub const fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Whether records must wait: the store is being read, a snapshot is being caught up with, or
    /// the store has too much to take.
    pub fn paused(&self, context: &Context<'_>) -> bool {
        let full = self.contents.store.bytes() >= context.limits.store_in_flight.get();
        full || !matches!(self.phase, Phase::Current)
    }

    /// The last record that is applied.
    pub const fn applied(&self) -> Index {
        self.contents.applied.index
    }

    /// Whether it has all that its group has applied: it is neither restoring nor catching up.
    pub const fn is_current(&self) -> bool {
        matches!(self.phase, Phase::Current)
    }

    /// Whether the store has been read, so that the state is that of the disk or newer.
    pub const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Opening | Phase::Restoring(_))
    }

    /// Why the stream cannot go on, if it cannot.
    pub fn stopped(&self) -> Option<&str> {
        match &self.phase {
            Phase::Stopped(stopped) => Some(stopped.why()),
            _ => None,
        }
    }

    /// The followers that this replica serves.
    pub const fn catchup_peers(&self) -> &CatchupPeers {
        self.server.peers()
    }

    /// Another leads the group, or nobody that is known.
    pub fn set_leader(&mut self, context: &mut Context<'_>, leader: Option<PeerId>) {
        if self.leader != leader {
            self.leader = leader;
            self.catchup_leader_changed(context);
        }
    }

    /// The other members of the group, and those before them that the log names, of whom a catchup
    /// may ask while nobody leads.
    pub fn set_others(&mut self, others: &Arc<[PeerId]>) {
        if !Arc::ptr_eq(&self.others, others) {
            self.others = others.clone();
        }
    }

    /// A server says whether it reads binary snapshots.
    pub fn announced(&mut self, context: &Context<'_>, peer: PeerId, binary: bool) {
        if binary {
            self.legacy.remove(&peer);
        } else if self.legacy.len() < context.limits.members || self.others.contains(&peer) {
            self.legacy.insert(peer);
        }
    }

    /// This node leads, and every record of earlier leaders was applied here.
    pub fn leadership_gained(&mut self, context: &mut Context<'_>) {
        self.leadership_lost(context);
        if !self.is_current() && !context.limits.planted(Canary::HalfCaughtUpLeads) {
            return self.notices.push_back(Notice::StepDown("the stream is not current".into()));
        }
        let staged = self.contents.staged.as_ref().map_or(0, |staged| staged.count());
        let last = self.contents.index.last().plus(self.contents.failed).plus(staged);
        let id = self.contents.last_message_id.as_deref().map(Bytes::copy_from_slice);
        self.leadership = Some(Leadership::new(self.key, last, id));
    }

    /// This node leads no longer: clients whose proposals are in flight are told to ask another.
    pub fn leadership_lost(&mut self, context: &mut Context<'_>) {
        if let Some(leadership) = self.leadership.take() {
            leadership.lost(&self.acks, context.out);
            if !context.limits.planted(Canary::IdsOutliveLeadership) {
                self.contents.dedupe.drop_in_flight();
            }
            self.proposals.clear();
        }
    }

    /// Begins a snapshot of what is applied: [`Notice::Snapshot`] follows when the store is on disk.
    /// Whether it was begun: not while one is under way, while records are not applied, or in the
    /// middle of a record or of a batch.
    pub fn snapshot(&mut self, context: &mut Context<'_>) -> bool {
        let Applied { index, term, entries } = self.contents.applied;
        let contents = &self.contents;
        let exact = entries == 0 && contents.staged.is_none() && !contents.only_adds();
        if !self.is_current() || self.snapshot.is_some() || !exact || index == Index::ZERO {
            return false;
        }
        let Some(data) = self.state_snapshot(context) else { return false };
        self.contents.write_mark(context.out);
        let through = self.contents.store.sync(context.out);
        self.snapshot = Some(SnapshotUnderWay { index, term, data, through });
        self.snapshot_synced();
        true
    }

    /// Whether a snapshot waits for its store to be on disk.
    pub const fn snapshotting(&self) -> bool {
        self.snapshot.is_some()
    }

    fn snapshot_synced(&mut self) {
        let synced =
            |under_way: &mut SnapshotUnderWay| self.contents.store.is_synced(under_way.through);
        if let Some(SnapshotUnderWay { index, term, data, .. }) = self.snapshot.take_if(synced) {
            self.notices.push_back(Notice::Snapshot { index, term, data });
        }
    }

    /// The store has taken every change up to this one.
    pub fn handle_stored(&mut self, through: StoreId) {
        self.contents.store.stored(through);
    }

    /// The store is on disk up to this change.
    pub fn handle_synced(&mut self, context: &mut Context<'_>, through: StoreId) {
        self.contents.store.synced(through);
        self.contents.settled();
        self.snapshot_synced();
        self.catchup_went_on(context);
    }

    /// Messages that this stream asked its store for.
    pub fn handle_read(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) {
        if self.server.owns(load) {
            self.server.handle_read(context, load, messages, next);
            return self.end_served(context);
        }
        self.restored(context, load, messages, next);
        self.counter_read(context, load, messages);
        self.schedule_read(context, load, messages);
        self.client_read(context, load, messages, next);
    }

    /// The store says that it lost messages which this stream asked for. While the store is being
    /// read they are mended; later, who wanted them is refused.
    pub fn handle_messages_lost(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        lost: LostMessages,
    ) {
        if matches!(&self.phase, Phase::Restoring(restore) if restore.reads(load)) {
            return self.begin_mending(context, lost);
        }
        let why =
            format!("messages {} to {} are lost here: {}", lost.first, lost.last, lost.damage);
        self.notices.push_back(Notice::StoreDamaged(lost.damage));
        self.handle_read_failed(context, load, &why);
    }

    /// A read of this stream's failed.
    pub fn handle_read_failed(&mut self, context: &mut Context<'_>, load: LoadId, why: &str) {
        if matches!(&self.phase, Phase::Restoring(restore) if restore.reads(load)) {
            return self.stop(context, format!("the store cannot be read: {why}"));
        }
        self.server.handle_read_failed(context, load, why);
        self.counter_read_failed(load);
        self.schedule_read_failed(context, load);
        self.client_read_failed(context, load, why);
    }

    /// A peer asks for messages. `log` is the last record of this node's log.
    pub fn handle_sync_request(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        reply: Option<Subject>,
        payload: &Bytes,
        log: Index,
    ) {
        let Some(inbox) = reply else { return };
        let request = match SyncRequest::decode(payload, context.limits) {
            Ok(request) => request,
            Err(error) => {
                let why = format!("{}: {error}", self.sync);
                let report = crate::command::Report::Refused { from, why };
                return context.out.report(self.group, report);
            }
        };
        // A nats-server names nobody: its subject is the leader's alone.
        let meant = match request.of {
            Some(of) => of == self.me,
            None => from.is_some() || self.leadership.is_some(),
        };
        // What is not current cannot serve; the asker will ask again.
        if meant && self.is_current() && !self.contents.only_adds() {
            let standing = Standing { log, ..self.standing() };
            let verdict = self.server.start(context, from, &request, inbox, standing);
            self.judge(verdict);
            self.end_served(context);
        }
    }

    /// A peer acknowledges what this replica serves, or aborts it.
    pub fn handle_catchup_ack(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        bytes: u64,
        payload: &Bytes,
    ) {
        self.server.handle_ack(context, token, bytes, payload);
        self.end_served(context);
    }

    /// It is the turn of one that this stream serves to take room of the node's budget.
    pub fn budget_available(&mut self, context: &mut Context<'_>, token: Token) {
        self.server.budget_available(context, token);
        self.end_served(context);
    }

    /// When the stream wants to be woken, and why: a catchup, on either side, must make progress, a
    /// message expires, a batch is given up, or a schedule sends.
    pub fn deadline(&self) -> Option<(Time, Wake)> {
        let follower = match &self.phase {
            Phase::CatchingUp(follower) => follower.deadline(&self.contents),
            Phase::Restoring(restore) => restore.mending.as_ref().map(mend::Mending::deadline),
            Phase::Stopped(stopped) => stopped.deadline(),
            Phase::Opening | Phase::Current => None,
        };
        let catchup = self.server.deadline().into_iter().chain(follower).min();
        let expiry = self.expiry_deadline().map(|time| (time, Wake::Expiry));
        let batch = self.batch_deadline().map(|time| (time, Wake::Batch));
        let schedule = self.schedule_deadline().map(|time| (time, Wake::Schedule));
        let catchup = catchup.map(|time| (time, Wake::Catchup));
        catchup.into_iter().chain(expiry).chain(batch).chain(schedule).min()
    }

    /// A moment of [`deadline`](Self::deadline) has come.
    pub fn handle_deadline(&mut self, context: &mut Context<'_>) {
        self.server.handle_deadline(context);
        self.catchup_deadline(context);
        self.mending_deadline(context);
        self.remove_ended(context);
        self.give_up_batches(context);
        self.send_scheduled(context);
    }

    /// Lets go on who waited for this replica to apply more.
    fn serve_waiting(&mut self, context: &mut Context<'_>) {
        let verdict = self.server.applied(context, self.standing());
        self.judge(verdict);
        self.end_served(context);
    }

    fn standing(&self) -> Standing {
        let applied = self.contents.applied.index;
        Standing { log: applied, applied, last: self.contents.index.last() }
    }

    fn judge(&mut self, verdict: Verdict) {
        if verdict == Verdict::Behind && self.leadership.is_some() {
            let why = "a follower knows of messages that this node lacks";
            self.notices.push_back(Notice::StepDown(why.into()));
        }
    }
}
