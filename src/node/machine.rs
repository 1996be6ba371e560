//! What the entries of a group mean, and the glue between that and the group's consensus.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::info::Names;
use super::membership::Changes;
use super::plain::Plain;
use super::questions::Questions;
use super::resizing::Wanted;
use super::{Wake, error_answer, refusal};
use crate::cluster::info_request::info_subject;
use crate::cluster::meta::{self, Meta};
use crate::command::{Answer, Report};
use crate::config::{GroupConfig, GroupKind};
use crate::consumer::{self, Consumer};
use crate::context::Context;
use crate::event::{Damaged, Failure, LostMessages, Opened, Request, StoredMessage};
use crate::ids::{GroupId, GroupName, LoadId, PeerId, RequestId, Sequence, StoreId, Term};
use crate::limits::Limits;
use crate::raft::{Change, Raft, StateForm, Status};
use crate::stream::{Notice, Proposal, Stream, decode_state};
use crate::subject::{Kind, Subject, Token};
use crate::time::Time;
use crate::wire::{ApiError, ApiResponse, EntryKind, ResponseType, WireError};

/// One group: its consensus, and what its entries mean.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) raft: Raft,
    pub(super) machine: Machine,
    /// The leadership that the machine was told of.
    pub(super) leading: Option<Term>,
    /// Clients that asked for the snapshot that is under way.
    snapshot_asked: Vec<RequestId>,
    /// Bytes that a snapshot must free before another one is thought of.
    snapshot_at: u64,
    pub(super) info: Questions,
    /// Clients that asked for a change of the members.
    changes: Changes,
    /// The members that the meta group wants it to have.
    pub(super) wanted: Option<Wanted>,
}

#[derive(Debug)]
pub(super) enum Machine {
    Plain(Plain),
    Stream(Box<Stream>),
    Consumer(Box<Consumer>),
    Meta(Box<Meta>),
}

/// What a group is made of.
#[derive(Debug)]
pub(super) struct Founding {
    pub(super) name: GroupName,
    pub(super) members: Vec<PeerId>,
    pub(super) kind: GroupKind,
    /// Where catchups of an assigned stream are asked for.
    pub(super) sync: Option<Subject>,
    /// Who should lead first.
    pub(super) preferred: Option<PeerId>,
}

impl From<&GroupConfig> for Founding {
    fn from(config: &GroupConfig) -> Self {
        Self {
            name: config.name.clone(),
            members: config.members.iter().map(|name| PeerId::from_name(name)).collect(),
            kind: config.kind.clone(),
            sync: None,
            preferred: None,
        }
    }
}

fn check_stream_snapshot(data: &Bytes, limits: &Limits) -> Result<(), WireError> {
    decode_state(data, limits).map(|_| ())
}

impl Group {
    pub(super) fn new(
        id: GroupId,
        founding: Founding,
        me: PeerId,
        context: &mut Context<'_>,
    ) -> Self {
        let Founding { name, members, kind, sync, preferred } = founding;
        let mut info = Questions::default();
        let (form, machine) = match kind {
            GroupKind::Plain => (StateForm::InParts, Machine::Plain(Plain::default())),
            GroupKind::Stream(stream) => {
                info.subject = Some(info_subject(&stream.name));
                let mut stream = Stream::new(id, &name, me, stream, context);
                if let Some(sync) = sync {
                    stream.set_sync(sync);
                }
                (StateForm::Whole(check_stream_snapshot), Machine::Stream(Box::new(stream)))
            }
            GroupKind::Consumer(config) => {
                let consumer = Machine::Consumer(Box::new(Consumer::new(config)));
                (StateForm::Whole(|data, _| consumer::check_snapshot(data)), consumer)
            }
            GroupKind::Meta(config) => {
                let meta = Machine::Meta(Box::new(Meta::new(me, config)));
                (StateForm::Whole(meta::check_snapshot), meta)
            }
        };
        let mut raft = Raft::new(id, &name, &members, me, form, context);
        if preferred == Some(me) {
            raft.prefer();
        }
        let snapshot_at = context.limits.log_before_snapshot.get();
        Self {
            id,
            raft,
            machine,
            leading: None,
            snapshot_asked: Vec::new(),
            snapshot_at,
            info,
            changes: Changes::default(),
            wanted: None,
        }
    }

    pub(super) const fn raft(&mut self) -> &mut Raft {
        &mut self.raft
    }

    pub(super) fn status(&self) -> Status {
        self.raft.status()
    }

    /// When the group wants to be woken, and why.
    pub(super) fn deadline(&self) -> Option<(Time, Wake)> {
        let machine = match &self.machine {
            Machine::Plain(_) | Machine::Consumer(_) => None,
            Machine::Stream(stream) => stream.deadline(),
            Machine::Meta(meta) => meta.deadline().map(|time| (time, Wake::Recovery)),
        };
        let info = self.info.requests.deadline().map(|time| (time, Wake::Info));
        let wanted = self.wanted.as_ref().and_then(Wanted::deadline);
        let changes = self.changes.deadline().into_iter().chain(wanted).min();
        let changes = changes.map(|time| (time, Wake::Members));
        self.raft.deadline().into_iter().chain(machine).chain(info).chain(changes).min()
    }

    pub(super) fn handle_deadline(&mut self, context: &mut Context<'_>) {
        self.raft.handle_deadline(context);
        if let Machine::Stream(stream) = &mut self.machine
            && stream.deadline().is_some_and(|(time, _)| time <= context.now)
        {
            stream.handle_deadline(context);
        }
    }

    /// Others made the stream.
    pub(super) fn assigned(&mut self, sync: Subject) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.set_sync(sync);
        }
    }

    pub(super) fn open(&mut self, context: &mut Context<'_>, disk: Opened) {
        if let Some(subject) = &self.info.subject {
            context.out.subscribe(self.id, subject.clone());
        }
        let mark = disk.store;
        let spoilt = disk.damage.iter().any(|damaged| matches!(damaged, Damaged::Store(_)));
        match &mut self.machine {
            Machine::Plain(_) | Machine::Consumer(_) => self.raft.open(context, disk, None),
            Machine::Stream(stream) => {
                // Nothing may be led before the store was read.
                self.raft.set_may_lead(false);
                // A store that has to be emptied has applied nothing.
                let only_adds = disk.only_adds.clone();
                let applied = Stream::known_mark(mark, only_adds.as_ref(), context.limits);
                self.raft.open(context, disk, applied);
                stream.open(context, mark, only_adds.as_ref(), spoilt);
            }
            Machine::Meta(meta) => {
                meta.open(context.now + context.timers.lost_quorum);
                self.raft.open(context, disk, None);
            }
        }
    }

    /// A message of a peer, on a subject that this group listens to.
    pub(super) fn handle_message(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        subject: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) {
        if self.raft.is_forwarded(subject) {
            return self.take_forwarded(context, from, payload);
        }
        let Machine::Stream(stream) = &mut self.machine else {
            return self.raft.handle_message(context, from, subject, reply, payload);
        };
        match Kind::borrowed(subject) {
            Some(Kind::Sync(_)) => {
                let log = self.raft.status().last.index;
                stream.handle_sync_request(context, from, reply, payload, log);
            }
            Some(Kind::SyncReply(_)) => {
                stream.handle_catchup_message(context, from, subject, reply, payload);
            }
            Some(Kind::SyncAck { token, bytes: Some(bytes) }) => {
                stream.handle_catchup_ack(context, token, bytes, payload);
            }
            _ => self.raft.handle_message(context, from, subject, reply, payload),
        }
    }

    /// An entry that another member hands to its leader.
    fn take_forwarded(&mut self, context: &mut Context<'_>, from: Option<PeerId>, payload: &Bytes) {
        let taken = match &mut self.machine {
            Machine::Plain(plain) => {
                self.raft.take_forwarded(context, from, payload).map(|()| plain.forwarded())
            }
            Machine::Meta(_) => self.take_forwarded_assignment(context, from, payload),
            // Every entry of a stream rests on what its leader knows to be in flight.
            Machine::Stream(_) => Err("a stream's entries are made by its leader".into()),
            Machine::Consumer(_) => Err("a consumer's steps are made by its leader".into()),
        };
        if let Err(why) = taken {
            context.out.report(self.id, Report::Refused { from, why });
        }
    }

    /// A server says whether it reads binary snapshots.
    pub(super) fn announced(&mut self, context: &Context<'_>, peer: PeerId, binary: bool) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.announced(context, peer, binary);
        }
    }

    /// A write of the group's log or store failed.
    pub(super) fn handle_failure(&mut self, context: &mut Context<'_>, failure: &Failure) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.handle_failure(context, failure);
        }
        self.raft.handle_failure(context, failure);
    }

    pub(super) fn handle_stored(&mut self, through: StoreId) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.handle_stored(through);
        }
    }

    pub(super) fn handle_synced(&mut self, context: &mut Context<'_>, through: StoreId) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.handle_synced(context, through);
        }
    }

    pub(super) fn handle_read(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.handle_read(context, load, messages, next);
        }
    }

    pub(super) fn handle_load_failed(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        failure: &Failure,
    ) {
        match &mut self.machine {
            Machine::Stream(stream) if !self.raft.owns_load(load) => {
                stream.handle_read_failed(context, load, &format!("{failure}"));
            }
            _ => self.raft.handle_load_failed(context, load, failure),
        }
    }

    /// The store says that it lost messages, which it was asked for.
    pub(super) fn handle_messages_lost(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        lost: LostMessages,
    ) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.handle_messages_lost(context, load, lost);
        }
    }

    pub(super) fn budget_available(&mut self, context: &mut Context<'_>, token: Token) {
        if let Machine::Stream(stream) = &mut self.machine {
            stream.budget_available(context, token);
        }
    }

    pub(super) fn request(
        &mut self,
        context: &mut Context<'_>,
        names: Names<'_>,
        id: RequestId,
        request: Request,
    ) {
        match (&mut self.machine, request) {
            (_, Request::StepDown { to }) => {
                let kind = ResponseType::StreamLeaderStepDown;
                let answer = match self.raft.step_down(context, to) {
                    Ok(()) => ApiResponse::success(kind),
                    Err(error) => ApiResponse::error(kind, refusal(error)),
                };
                context.out.answer(id, Answer::Json(answer.to_bytes()));
            }
            (_, Request::AddPeer { peer }) => {
                self.changes.ask(context, &mut self.raft, id, Change::Add(peer));
            }
            (_, Request::RemovePeer { peer }) => {
                self.changes.ask(context, &mut self.raft, id, Change::Remove(peer));
            }
            (_, Request::Campaign) => {
                let answer = match self.raft.campaign_now(context) {
                    true => done(),
                    false => error_answer(ApiError::BAD_REQUEST),
                };
                context.out.answer(id, answer);
            }
            (_, Request::Observe { observer }) => {
                self.raft.set_observer(context, observer);
                context.out.answer(id, done());
            }
            (Machine::Plain(plain), Request::Forward { payload }) => {
                let taken = if self.raft.leads() {
                    let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&payload);
                    let kind = EntryKind::Normal;
                    let taken = self.raft.propose(context, kind, payload.len(), encode);
                    taken.map(|()| plain.forwarded())
                } else {
                    self.raft.forward(context, payload)
                };
                let answer = taken.map_or_else(|error| error_answer(refusal(error)), |()| done());
                context.out.answer(id, answer);
            }
            (Machine::Stream(_), Request::Forward { .. }) => {
                context.out.answer(id, error_answer(ApiError::BAD_REQUEST));
            }
            (Machine::Plain(plain), Request::Publish { payload, .. }) => {
                let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&payload);
                match self.raft.propose(context, EntryKind::Normal, payload.len(), encode) {
                    Ok(()) => plain.proposed(id),
                    Err(error) => context.out.answer(id, error_answer(refusal(error))),
                }
            }
            (_, Request::Info) => {
                let info = self.describe(context, names);
                context.out.answer(id, Answer::Json(info));
            }
            (Machine::Meta(_), Request::Forward { payload }) => {
                let taken = self.forward_assignment(context, &payload);
                let answer = taken.map_or_else(error_answer, |()| done());
                context.out.answer(id, answer);
            }
            (Machine::Meta(_), Request::Api { client, subject, payload }) => {
                self.take_wish(context, names, id, (&client, &subject, &payload));
            }
            (Machine::Meta(_), Request::Snapshot) => {
                self.snapshot_meta(context);
                self.snapshot_asked.push(id);
            }
            (Machine::Consumer(_), Request::Snapshot) => {
                self.snapshot_consumer(context);
                self.snapshot_asked.push(id);
            }
            (Machine::Consumer(_), Request::Consumer(wish)) => {
                self.take_step(context, id, &wish);
            }
            (Machine::Plain(_) | Machine::Meta(_) | Machine::Consumer(_), _)
            | (_, Request::Api { .. } | Request::Consumer(_)) => {
                context.out.answer(id, error_answer(ApiError::BAD_REQUEST));
            }
            (Machine::Stream(stream), Request::Publish { subject, header, payload }) => {
                let proposal = stream.publish(context, id, (subject, header, payload));
                propose(stream, &mut self.raft, context, proposal);
            }
            (Machine::Stream(stream), Request::Source { subject, header, payload }) => {
                let proposal = stream.publish_sourced(context, id, (subject, header, payload));
                propose(stream, &mut self.raft, context, proposal);
            }
            (Machine::Stream(stream), Request::Delete { sequence }) => {
                let proposal = stream.delete(context, id, sequence);
                propose(stream, &mut self.raft, context, proposal);
            }
            (Machine::Stream(stream), Request::Purge { filter, before, keep }) => {
                let proposal = stream.purge(context, id, &filter, before, keep);
                propose(stream, &mut self.raft, context, proposal);
            }
            (Machine::Stream(stream), Request::Read { first, most, bytes }) => {
                stream.read(context, id, first, (most, bytes));
            }
            (Machine::Stream(stream), Request::ReadLast { filter }) => {
                stream.read_last(context, id, &filter);
            }
            (Machine::Stream(stream), Request::Snapshot) => {
                stream.snapshot(context);
                self.snapshot_asked.push(id);
            }
        }
    }

    /// Hands to the machine what the step made ready for it, and to the group what the machine
    /// says.
    pub(super) fn settle(&mut self, context: &mut Context<'_>) {
        self.raft.settle(context);
        loop {
            self.install(context);
            self.apply(context);
            if !self.take_notices(context) {
                break;
            }
        }
        let applied = match &self.machine {
            Machine::Stream(stream) => Some(stream.applied()),
            Machine::Consumer(consumer) => Some(consumer.applied()),
            Machine::Plain(_) | Machine::Meta(_) => None,
        };
        if let Some(applied) = applied {
            self.raft.machine_processed(applied, applied);
        }
        self.settle_meta(context);
        self.raft.note_leader(context.now);
        self.follow_leadership(context);
        self.shorten_log(context);
        self.answer_snapshots(context);
        self.changes.settle(context, &self.raft);
    }

    fn install(&mut self, context: &mut Context<'_>) {
        let Some(installed) = self.raft.take_installed(context) else { return };
        match &mut self.machine {
            Machine::Plain(plain) => plain.install(self.id, installed, context.out),
            Machine::Stream(stream) => {
                let position = installed.position;
                let (index, term) = (position.index, position.term);
                if let Err(error) = stream.install(context, index, term, &installed.data) {
                    self.raft.stop(context, format!("the snapshot of {index}: {error}"));
                }
                self.raft.set_may_lead(stream.is_current());
            }
            Machine::Consumer(consumer) => {
                let index = installed.position.index;
                if let Err(error) = consumer.install(index, &installed.data) {
                    self.raft.stop(context, format!("the snapshot of {index}: {error}"));
                }
            }
            Machine::Meta(meta) => {
                let index = installed.position.index;
                if let Err(error) = meta.install(index, &installed.data, context.limits) {
                    self.raft.stop(context, format!("the snapshot of {index}: {error}"));
                }
            }
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) {
        loop {
            if matches!(&self.machine, Machine::Stream(stream) if stream.paused(context)) {
                return;
            }
            let Some(committed) = self.raft.next_committed(context) else { return };
            match &mut self.machine {
                Machine::Plain(plain) => {
                    let own = self.leading == Some(committed.entry.term);
                    if plain.apply(self.id, &committed, own, context.out) {
                        self.raft.handed_out(committed.index);
                    }
                }
                Machine::Stream(stream) => {
                    self.raft.handed_out(committed.index);
                    stream.apply(context, committed.index, &committed.entry, &committed.record);
                }
                Machine::Consumer(_) => {
                    self.raft.handed_out(committed.index);
                    self.apply_steps(context, &committed);
                }
                Machine::Meta(_) => {
                    self.raft.handed_out(committed.index);
                    self.apply_assignments(context, &committed);
                }
            }
        }
    }

    /// Whether there was one.
    fn take_notices(&mut self, context: &mut Context<'_>) -> bool {
        let Machine::Stream(stream) = &mut self.machine else { return false };
        while let Some(proposal) = stream.next_proposal(context) {
            propose(stream, &mut self.raft, context, Some(proposal));
        }
        let mut any = false;
        while let Some(notice) = stream.poll() {
            any = true;
            match notice {
                Notice::Ready | Notice::CaughtUp => self.raft.set_may_lead(stream.is_current()),
                Notice::Snapshot { index, data, .. } => {
                    // Whether followers are being fed was asked when it was begun.
                    if let Err(why) = self.raft.take_snapshot(context, index, data, true) {
                        context.out.report(self.id, Report::SnapshotRefused(why));
                    }
                }
                #[cfg(feature = "canaries")]
                Notice::LogGivenUp => self.raft.delete_log(context),
                Notice::StepDown(why) => {
                    if self.raft.step_down(context, None).is_ok() {
                        let why = format!("gave up leadership: {why}");
                        context.out.report(self.id, Report::Catchup(why));
                    }
                }
                Notice::StoreDamaged(damage) => {
                    self.raft.note_damage(context, Damaged::Store(damage));
                }
                Notice::Stopped(why) => self.raft.stop(context, why),
            }
        }
        any
    }

    fn follow_leadership(&mut self, context: &mut Context<'_>) {
        self.info.leaderless = match self.raft.leader() {
            Some(_) => None,
            None => self.info.leaderless.or(Some(context.now)),
        };
        if let Machine::Stream(stream) = &mut self.machine {
            stream.set_others(self.raft.others_ever());
            stream.set_leader(context, self.raft.leader());
        }
        let leading = self.raft.leadership();
        if leading == self.leading {
            return;
        }
        match &mut self.machine {
            Machine::Plain(plain) => plain.leadership_lost(context.out),
            Machine::Stream(stream) if leading.is_some() => stream.leadership_gained(context),
            Machine::Stream(stream) => stream.leadership_lost(context),
            Machine::Consumer(_) => self.consumer_leadership_changed(context, leading.is_some()),
            Machine::Meta(_) => self.meta_leadership_changed(context, leading.is_some()),
        }
        self.leading = leading;
    }

    /// Begins a snapshot when the log has grown enough, and another time when it has grown by as
    /// much again. Followers that are being fed are let finish, until it is twice as large.
    fn shorten_log(&mut self, context: &mut Context<'_>) {
        let step = context.limits.log_before_snapshot.get();
        let bytes = match self.raft.log_bytes() < step {
            true => 0,
            false => self.raft.compactable().bytes,
        };
        if bytes < step {
            self.snapshot_at = step;
        }
        if bytes < self.snapshot_at || self.raft.may_snapshot(bytes / 2 >= step).is_err() {
            return;
        }
        let begun = match &mut self.machine {
            Machine::Plain(_) => self.ask_for_snapshot(context),
            Machine::Stream(stream) => stream.snapshot(context),
            Machine::Consumer(_) => self.snapshot_consumer(context),
            Machine::Meta(_) => self.snapshot_meta(context),
        };
        if begun {
            self.snapshot_at = bytes.saturating_add(step);
        }
    }

    /// The group ends here: whoever waits is told that nothing is known. Its disk is no longer
    /// changed by it.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        let not_available = || error_answer(ApiError::CLUSTER_NOT_AVAIL);
        match &mut self.machine {
            Machine::Plain(plain) => plain.leadership_lost(context.out),
            Machine::Stream(stream) => stream.close(context),
            Machine::Consumer(_) => self.consumer_leadership_changed(context, false),
            Machine::Meta(_) => self.meta_leadership_changed(context, false),
        }
        for id in self.snapshot_asked.drain(..) {
            context.out.answer(id, not_available());
        }
        for id in self.changes.take_waiting() {
            context.out.answer(id, not_available());
        }
    }

    fn answer_snapshots(&mut self, context: &mut Context<'_>) {
        let writes = match &self.machine {
            Machine::Plain(_) => return,
            Machine::Stream(stream) => stream.snapshotting() || self.raft.snapshotting(),
            Machine::Consumer(_) | Machine::Meta(_) => self.raft.snapshotting(),
        };
        if self.snapshot_asked.is_empty() || writes {
            return;
        }
        for id in self.snapshot_asked.drain(..) {
            let answer = format!("{{\"compacted\":{}}}", self.raft.status().first.previous());
            context.out.answer(id, Answer::Json(Bytes::from(answer.into_bytes())));
        }
    }
}

/// That a request without an answer of its own is done.
pub(super) fn done() -> Answer {
    Answer::Json(Bytes::from_static(b"{\"success\":true}"))
}

/// Hands a decision of the stream to its group.
fn propose(
    stream: &mut Stream,
    raft: &mut Raft,
    context: &mut Context<'_>,
    proposal: Option<Proposal>,
) {
    let Some(proposal) = proposal else { return };
    // All of a batch fits, or none of it is proposed.
    let mut taken = raft.check_room(context, proposal.bytes());
    for entry in 0..proposal.entries() {
        let length = proposal.encoded_len(entry);
        let encode = |buffer: &mut Vec<u8>| proposal.encode(entry, buffer);
        taken =
            taken.and_then(|()| raft.propose_into_room(context, EntryKind::Normal, length, encode));
    }
    match taken {
        Ok(()) => stream.proposed(proposal),
        Err(error) => stream.not_proposed(context, &proposal, refusal(error)),
    }
}
