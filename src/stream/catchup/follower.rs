//! Installs a leader's snapshot: asks for the messages that this replica lacks, and receives them.
//!
//! Upstream: `processSnapshot`, `processSnapshotDeletes`, `calculateSyncRequest` and
//! `processCatchupMsg` in `server/jetstream_cluster.go`. Applies are paused until the stream has all
//! that the snapshot says, on disk. No ack leaves before what it acknowledges is on disk; one sync
//! serves all acks that wait for it, and the next begins when that one ends.
//!
//! The leader is asked; while there is none, the other members are, since any replica that has
//! applied enough can serve. A catchup that fails three times rests for the time of a silence and begins anew: without the
//! messages there is nothing to go on with.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::stopped::Untold;
use crate::canary::Canary;
use crate::command::{Command, Destination, Place, Report, StoreChange};
use crate::context::Context;
use crate::ids::{Index, PeerId, Sequence, StoreId, Term};
use crate::stream::contents::{Applied, Contents};
use crate::stream::header::Fields;
use crate::stream::state::{decode_state, remove_deleted};
use crate::stream::{Notice, Phase, Stream};
use crate::subject::{self, Subject};
use crate::time::{Duration, Time};
use crate::wire::{
    CatchupState, DeleteRange, Op, StreamMessageView, StreamState, SyncRequest, WireError,
};

/// Tries before a longer rest.
const TRIES: u32 = 3;
/// Bytes of messages that go to the store in one piece.
const BLOCK: usize = 256 * 1024;
/// Bytes received after which those acknowledged are synced at once.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// How long an ack waits for more before its messages are synced.
const SYNC_WAIT: Duration = Duration::from_millis(20);

/// A catchup under way.
#[derive(Debug)]
pub(in crate::stream) struct Follower {
    /// What the stream has applied once it has all of the snapshot.
    position: Applied,
    /// The snapshot's last sequence.
    last: Sequence,
    /// How many messages the snapshot counted.
    messages: u64,
    step: Step,
    tries: u32,
    /// How often a member was asked that does not lead.
    turns: usize,
    received: Received,
    began: Time,
    /// Sequences received, deleted ones too, and the bytes of what carried them.
    done: u64,
    bytes: u64,
    /// Why it asked again, if it did.
    retried: Option<String>,
}

/// How far a catchup is, or how the last one went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchupProgress {
    /// What it is doing, in words; `done` at its end.
    pub phase: String,
    /// Sequences received, deleted ones too.
    pub done: u64,
    /// Sequences still lacking.
    pub left: u64,
    /// Bytes of what was received.
    pub bytes: u64,
    /// From its beginning until now, or to its end.
    pub elapsed: Duration,
    /// Why it last asked again, if it did.
    pub retried: Option<String>,
}

/// What a catchup is doing.
#[derive(Debug)]
enum Step {
    /// Nobody leads. After a while the other members are asked in turn: those that lack messages
    /// may be the only ones that could be elected, and then nobody leads before they have them.
    AwaitingLeader { until: Time },
    /// Has asked, and receives.
    Receiving { server: PeerId, inbox: Subject, wanted: Wanted, asked: Time, until: Time },
    /// Waits before it asks again.
    Resting { until: Time },
    /// Has everything, and waits for the disk.
    Finishing { through: StoreId },
}

/// What a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The messages that are lacking, and the state that says what is gone.
    Messages,
    /// That state alone: the end of an earlier catchup, which told it, was lost. The last message is
    /// asked for again, as a request names one.
    State,
}

/// What was received and did not reach the disk yet.
#[derive(Debug, Default)]
struct Received {
    block: BytesMut,
    places: Vec<Place>,
    /// Bytes since the last sync.
    bytes: u64,
    /// Acks that wait for the next sync, and since when the first of them does.
    gathered: Vec<Ack>,
    since: Option<Time>,
    /// Acks that leave when this change is on disk.
    syncing: Option<(StoreId, Vec<Ack>)>,
    /// Where the server can be told to stop.
    last_ack: Option<Ack>,
}

/// Where a server awaits an answer.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    pub(super) to: Destination,
    pub(super) subject: Subject,
}

/// Why a catchup cannot go on as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum CatchupError {
    #[error("bad catchup message: {0}")]
    Wire(#[from] WireError),
    #[error("bad catchup message: op {0}")]
    Op(u8),
    #[error("a range of no deleted messages")]
    Nothing,
    #[error("expected sequence {expected}, found {found}")]
    Sequence { expected: Sequence, found: Sequence },
    #[error("sequence {found} is beyond {last}, the last one asked for")]
    Beyond { last: Sequence, found: Sequence },
    #[error("a message of 4 GiB or more")]
    TooLarge,
    #[error("the end came at sequence {found}, before {last}")]
    TooEarly { last: Sequence, found: Sequence },
    #[error("more than {limit} bytes wait for the disk")]
    TooMuch { limit: u64 },
    #[error("catchup stalled")]
    Stalled,
}

impl Stream {
    /// Takes on a snapshot of record `index`: what it deleted goes, and what is lacking is asked
    /// for. Ignored if as much is applied already. A catchup for an older snapshot ends.
    ///
    /// # Errors
    /// [`WireError`] if the snapshot cannot be read; nothing has changed then.
    pub fn install(
        &mut self,
        context: &mut Context<'_>,
        index: Index,
        term: Term,
        data: &Bytes,
    ) -> Result<(), WireError> {
        let state = decode_state(data, context.limits)?;
        let position = Applied { index, term, entries: 0 };
        match &self.phase {
            Phase::Stopped(_) => {}
            Phase::Opening | Phase::Restoring(_) => self.snapshot_waiting = Some((position, state)),
            Phase::Current | Phase::CatchingUp(_) => {
                self.process_snapshot(context, position, &state);
            }
        }
        Ok(())
    }

    /// Upstream: `processSnapshot`.
    pub(in crate::stream) fn process_snapshot(
        &mut self,
        context: &mut Context<'_>,
        position: Applied,
        state: &StreamState,
    ) {
        if position.index <= self.contents.applied.index {
            return;
        }
        if let Phase::CatchingUp(follower) = &mut self.phase {
            follower.abort(context, &mut self.contents, "a newer snapshot has come");
        }
        // What a batch lacks was behind the snapshot, or is covered by it.
        self.contents.staged = None;
        self.process_snapshot_deletes(context, state);
        self.contents.failed = state.failed;
        let mut follower = Follower {
            position,
            last: state.last,
            messages: state.messages,
            step: Step::AwaitingLeader { until: context.now },
            tries: 0,
            turns: 0,
            received: Received::default(),
            began: context.now,
            done: 0,
            bytes: 0,
            retried: None,
        };
        follower.ask(context, &mut self.contents, self.me, self.leader);
        self.report(context, follower.describe(&self.contents));
        self.phase = Phase::CatchingUp(follower);
        if self.leadership.is_some() {
            self.leadership_lost(context);
            self.notices.push_back(Notice::StepDown("a snapshot has to be caught up with".into()));
        }
    }

    /// Moves the first sequence up and takes out what the snapshot deleted, nothing else. Upstream:
    /// `processSnapshotDeletes`.
    fn process_snapshot_deletes(&mut self, context: &mut Context<'_>, state: &StreamState) {
        let first = self.contents.index.first();
        if state.first > first {
            self.contents.index.compact(state.first);
            if let Some(change) = self.front_removed(first) {
                self.contents.put(context.out, change, 0);
            }
        }
        let removed = remove_deleted(&mut self.contents.index, state);
        if !removed.is_empty() {
            self.contents.put(context.out, StoreChange::Remove(removed.into_vec()), 0);
        }
    }

    /// What the snapshot has and this replica lacks; none if nothing is. Upstream:
    /// `calculateSyncRequest`.
    pub fn sync_request(&self, snapshot_last: Sequence, index: Index) -> Option<SyncRequest> {
        sync_request(&self.contents, self.me, snapshot_last, index)
    }

    /// Whether a snapshot is being caught up with, or was, and what is gone since is not taken out, on
    /// disk too. Upstream: `isCatchingUp`.
    pub fn is_catching_up(&self) -> bool {
        matches!(self.phase, Phase::CatchingUp(_))
            || self.is_current() && !self.contents.is_settled()
    }

    /// How far the catchup is, or how the last one went; none if there never was one.
    pub fn catchup(&self, now: Time) -> Option<CatchupProgress> {
        match &self.phase {
            Phase::CatchingUp(follower) => Some(follower.progress(&self.contents, now)),
            _ => self.last_catchup.clone(),
        }
    }

    /// A message reached an inbox of this stream's.
    pub fn handle_catchup_message(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        inbox: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) {
        let follower = match &mut self.phase {
            Phase::CatchingUp(follower) => follower,
            Phase::Restoring(_) => {
                return self.handle_mending_message(context, from, inbox, payload);
            }
            Phase::Stopped(stopped) => {
                return stopped.handle_message(context, from, inbox, reply, payload);
            }
            Phase::Opening | Phase::Current => return,
        };
        if !follower.awaits(from, inbox) {
            return;
        }
        match follower.receive(context, &mut self.contents, reply, payload) {
            Ok(()) => self.catchup_went_on(context),
            Err(error) => self.catchup_failed(context, &error),
        }
    }

    /// The store is on disk up to some change, or a deadline has come.
    pub(in crate::stream) fn catchup_went_on(&mut self, context: &mut Context<'_>) {
        let Phase::CatchingUp(follower) = &mut self.phase else { return };
        follower.send_acks(context, &self.contents);
        let Step::Finishing { through } = follower.step else {
            return follower.sync(context, &mut self.contents);
        };
        if self.contents.store.is_synced(through) {
            let what = format!(
                "has all of the snapshot of record {}: {} sequences in {} ms",
                follower.position.index,
                follower.done,
                context.now.since(follower.began).as_millis()
            );
            let mut progress = follower.progress(&self.contents, context.now);
            progress.phase = "done".into();
            self.last_catchup = Some(progress);
            self.phase = Phase::Current;
            self.report(context, what);
            self.notices.push_back(Notice::CaughtUp);
            self.serve_waiting(context);
        }
    }

    fn catchup_failed(&mut self, context: &mut Context<'_>, error: &CatchupError) {
        let Phase::CatchingUp(follower) = &mut self.phase else { return };
        let why = error.to_string();
        let asked = match &follower.step {
            Step::Receiving { asked, .. } => *asked,
            _ => context.now,
        };
        follower.abort(context, &mut self.contents, &why);
        follower.retried = Some(why.clone());
        let until = match follower.tries {
            tries if tries < TRIES => asked + context.timers.catchup_retry,
            _ => {
                follower.tries = 0;
                #[cfg(feature = "canaries")]
                if context.limits.planted(Canary::GivesLogUp) {
                    return self.notices.push_back(Notice::LogGivenUp);
                }
                context.now + context.timers.catchup_silence
            }
        };
        // A deadline that has passed already is handled when it is asked for.
        follower.step = Step::Resting { until };
        let rest = until.since(context.now).as_millis();
        self.report(context, format!("{why}: asks again in {rest} ms"));
    }

    /// A moment of [`deadline`](Stream::deadline) has come.
    pub(in crate::stream) fn catchup_deadline(&mut self, context: &mut Context<'_>) {
        let follower = match &mut self.phase {
            Phase::CatchingUp(follower) => follower,
            Phase::Stopped(stopped) => return stopped.handle_deadline(context),
            Phase::Opening | Phase::Restoring(_) | Phase::Current => return,
        };
        match follower.step {
            Step::Receiving { until, .. } if context.now >= until => {
                return self.catchup_failed(context, &CatchupError::Stalled);
            }
            Step::Resting { until } if context.now >= until => {
                follower.ask(context, &mut self.contents, self.me, self.leader);
                let what = follower.describe(&self.contents);
                self.report(context, what);
            }
            Step::AwaitingLeader { until } if context.now >= until => {
                let server = self.leader.or_else(|| follower.next_in_turn(&self.others));
                follower.ask(context, &mut self.contents, self.me, server);
                let what = follower.describe(&self.contents);
                self.report(context, what);
            }
            _ => {}
        }
        self.catchup_went_on(context);
    }

    /// Another leads, or nobody does.
    pub(in crate::stream) fn catchup_leader_changed(&mut self, context: &mut Context<'_>) {
        let Phase::CatchingUp(follower) = &mut self.phase else { return };
        if self.leader == Some(self.me) {
            if context.limits.planted(Canary::HalfCaughtUpLeads) {
                follower.abort(context, &mut self.contents, "this node leads");
                return follower.finish(context, &mut self.contents, None);
            }
            let why = "a snapshot has to be caught up with";
            return self.notices.push_back(Notice::StepDown(why.into()));
        }
        match &follower.step {
            Step::AwaitingLeader { .. } => {}
            // The one that was asked may be gone; what it has sent is kept.
            Step::Receiving { server, .. } if self.leader.is_some_and(|now| now != *server) => {
                follower.abort(context, &mut self.contents, "another leads now");
            }
            _ => return,
        }
        follower.tries = 0;
        follower.ask(context, &mut self.contents, self.me, self.leader);
        let what = follower.describe(&self.contents);
        self.report(context, what);
    }

    pub(in crate::stream) fn report(&self, context: &mut Context<'_>, what: String) {
        context.out.report(self.group, Report::Catchup(what));
    }
}

fn sync_request(
    contents: &Contents,
    me: PeerId,
    snapshot_last: Sequence,
    index: Index,
) -> Option<SyncRequest> {
    let last = contents.index.last();
    (last < snapshot_last).then(|| SyncRequest {
        peer: Some(me),
        first: last.next(),
        last: snapshot_last,
        delete_ranges: true,
        min_applied: index,
        ..SyncRequest::default()
    })
}

impl Follower {
    /// When it wants to be woken.
    pub(in crate::stream) fn deadline(&self, contents: &Contents) -> Option<Time> {
        let step = match self.step {
            Step::Receiving { until, .. }
            | Step::Resting { until }
            | Step::AwaitingLeader { until } => Some(until),
            Step::Finishing { .. } => None,
        };
        let sync = self.received.since.filter(|_| !contents.store.syncing());
        let sync = sync.map(|since| since + SYNC_WAIT);
        step.into_iter().chain(sync).min()
    }

    fn describe(&self, contents: &Contents) -> String {
        let (doing, left) = (self.doing(), self.last.since(contents.index.last()));
        format!("snapshot of record {}: {doing}, {left} sequences left", self.position.index)
    }

    fn doing(&self) -> String {
        match &self.step {
            Step::AwaitingLeader { .. } => "waits for a leader".to_string(),
            Step::Receiving { server, .. } => format!("asks {server}, try {}", self.tries),
            Step::Resting { .. } => "rests".to_string(),
            Step::Finishing { .. } => "waits for the disk".to_string(),
        }
    }

    pub(super) fn progress(&self, contents: &Contents, now: Time) -> CatchupProgress {
        CatchupProgress {
            phase: self.doing(),
            done: self.done,
            left: self.last.since(contents.index.last()),
            bytes: self.bytes,
            elapsed: now.since(self.began),
            retried: self.retried.clone(),
        }
    }

    /// The member to ask while nobody leads: each in its turn, for only those that have applied
    /// enough answer.
    fn next_in_turn(&mut self, others: &[PeerId]) -> Option<PeerId> {
        let place = self.turns.checked_rem(others.len())?;
        self.turns = self.turns.wrapping_add(1);
        others.get(place).copied()
    }

    /// What is to be asked for; nothing if all is here that the snapshot counted.
    fn request(&self, contents: &Contents, me: PeerId) -> Option<(SyncRequest, Wanted)> {
        let (last, index) = (self.last, self.position.index);
        if let Some(request) = sync_request(contents, me, last, index) {
            return Some((request, Wanted::Messages));
        }
        if contents.index.last() > last || contents.index.messages() == self.messages {
            return None;
        }
        // No request can name message zero, whatever a snapshot counts.
        let request = SyncRequest {
            peer: Some(me),
            first: last,
            last,
            delete_ranges: true,
            min_applied: index,
            ..SyncRequest::default()
        };
        (last > Sequence::ZERO).then_some((request, Wanted::State))
    }

    /// Asks the server for what is lacking; with nothing lacking it is done but for the disk.
    fn ask(
        &mut self,
        context: &mut Context<'_>,
        contents: &mut Contents,
        me: PeerId,
        server: Option<PeerId>,
    ) {
        let Some((request, wanted)) = self.request(contents, me) else {
            return self.finish(context, contents, None);
        };
        let Some(server) = server.filter(|server| *server != me) else {
            let until = context.now + context.timers.catchup_start;
            self.step = Step::AwaitingLeader { until };
            return;
        };
        self.tries += 1;
        let request = SyncRequest { state: true, of: Some(server), ..request };
        let inbox = subject::sync_reply_subject(context.random);
        context.out.subscribe(contents.group, inbox.clone());
        context.out.push(Command::Send {
            to: Destination::Peers(Arc::from([server])),
            subject: contents.sync.clone(),
            reply: Some(inbox.clone()),
            payload: request.to_bytes(),
        });
        let until = context.now + context.timers.catchup_start;
        self.step = Step::Receiving { server, inbox, wanted, asked: context.now, until };
    }

    /// Whether this is the inbox that it listens at, and the sender the one it asked.
    fn awaits(&self, from: Option<PeerId>, at: &Subject) -> bool {
        match &self.step {
            Step::Receiving { server, inbox, .. } => {
                inbox == at && from.is_none_or(|from| from == *server)
            }
            _ => false,
        }
    }

    fn receive(
        &mut self,
        context: &mut Context<'_>,
        contents: &mut Contents,
        reply: Option<Subject>,
        payload: &Bytes,
    ) -> Result<(), CatchupError> {
        let Step::Receiving { server, until, wanted, .. } = &mut self.step else { return Ok(()) };
        *until = context.now + context.timers.catchup_silence;
        let (server, wanted) = (*server, *wanted);
        if payload.is_empty() {
            return self.end(context, contents, None);
        }
        let ack = reply.map(|subject| Ack { to: Destination::Peers(Arc::from([server])), subject });
        if ack.is_some() {
            self.received.last_ack.clone_from(&ack);
        }
        if CatchupState::is_one(payload) {
            let until = CatchupState::decode(payload, context.limits)?;
            return self.end(context, contents, Some(until));
        }
        // What is here already is not taken twice.
        if wanted == Wanted::Messages {
            self.process(context, contents, payload)?;
        }
        self.received.gather(context, ack);
        let limit = context.limits.stream_catchups_in_flight.get().saturating_mul(2);
        if contents.store.bytes() > limit {
            return Err(CatchupError::TooMuch { limit });
        }
        Ok(())
    }

    /// One message, or the place of some that are no more. Upstream: `processCatchupMsg`.
    fn process(
        &mut self,
        context: &mut Context<'_>,
        contents: &mut Contents,
        payload: &Bytes,
    ) -> Result<(), CatchupError> {
        match Op::of(payload)? {
            Op::Message | Op::CompressedMessage => {
                let mut unpacked = Vec::new();
                let message = StreamMessageView::decode(payload, &mut unpacked, context.limits)?;
                self.check_sequence(context, contents, message.sequence, message.sequence)?;
                self.count(1, payload);
                if message.is_skip() {
                    contents.skip_to(message.sequence);
                    return Ok(());
                }
                let fields = Fields::of(message.header);
                // Before the message counts: a mark must not tell of one that is not in the store.
                if self.received.block.len() >= BLOCK {
                    self.received.flush(context, contents);
                }
                if !contents.add(message.sequence, &message, &fields) {
                    return Err(CatchupError::TooLarge);
                }
                self.received.add(message.sequence, payload)
            }
            Op::DeleteRange => {
                let range = DeleteRange::decode(payload, context.limits)?;
                let last = range.last().ok_or(CatchupError::Nothing)?;
                self.check_sequence(context, contents, range.first, last)?;
                self.count(range.count, payload);
                contents.skip_to(last);
                Ok(())
            }
            op => Err(CatchupError::Op(op.as_u8())),
        }
    }

    const fn count(&mut self, sequences: u64, payload: &Bytes) {
        self.done = self.done.saturating_add(sequences);
        self.bytes = self.bytes.saturating_add(payload.len() as u64);
    }

    fn check_sequence(
        &self,
        context: &Context<'_>,
        contents: &Contents,
        first: Sequence,
        last: Sequence,
    ) -> Result<(), CatchupError> {
        let expected = contents.index.last().next();
        let past = context.limits.planted(Canary::PastTheRange);
        let skips = first > expected && context.limits.planted(Canary::SkipOutOfOrder);
        if first != expected && !skips {
            return Err(CatchupError::Sequence { expected, found: first });
        }
        if last > self.last && !past {
            return Err(CatchupError::Beyond { last: self.last, found: last });
        }
        Ok(())
    }

    /// The end of what the server has, which members of our own kind tell by their state; it counts
    /// once all of the snapshot is there.
    fn end(
        &mut self,
        context: &mut Context<'_>,
        contents: &mut Contents,
        until: Option<CatchupState>,
    ) -> Result<(), CatchupError> {
        let found = contents.index.last();
        if found < self.last && !context.limits.planted(Canary::EarlyEndAccepted) {
            return Err(CatchupError::TooEarly { last: self.last, found });
        }
        self.finish(context, contents, until);
        Ok(())
    }

    /// Has everything: the stream's store has to be on disk before that counts. Upstream:
    /// `flushAllPending`.
    fn finish(
        &mut self,
        context: &mut Context<'_>,
        contents: &mut Contents,
        until: Option<CatchupState>,
    ) {
        self.stop_listening(context);
        self.received.flush(context, contents);
        contents.applied = self.position;
        contents.caught_up(self.position.index, self.messages, until);
        let change = contents.marking();
        contents.put(context.out, change, 0);
        self.received.sync_all(context, contents);
        self.step = Step::Finishing { through: contents.store.last() };
    }

    /// Syncs what acks wait for, if it is time.
    fn sync(&mut self, context: &mut Context<'_>, contents: &mut Contents) {
        let due = self.received.since.is_some_and(|since| context.now >= since + SYNC_WAIT);
        if !contents.store.syncing() && (due || self.received.bytes >= SYNC_BYTES) {
            self.received.sync_all(context, contents);
        }
    }

    /// Sends the acks whose messages are on disk.
    fn send_acks(&mut self, context: &mut Context<'_>, contents: &Contents) {
        let synced = |(through, _): &mut (StoreId, _)| contents.store.is_synced(*through);
        let Some((_, acks)) = self.received.syncing.take_if(synced) else { return };
        for Ack { to, subject } in acks {
            context.out.push(Command::Send { to, subject, reply: None, payload: Bytes::new() });
        }
    }

    /// Tells the server to stop, and keeps what it has sent so far.
    pub(in crate::stream) fn abort(
        &mut self,
        context: &mut Context<'_>,
        contents: &mut Contents,
        why: &str,
    ) {
        self.stop_listening(context);
        self.received.flush(context, contents);
        let received = core::mem::take(&mut self.received);
        if let Some(ack) = received.last_ack {
            ack.abort(context, why);
        }
    }

    /// Tells the server to stop: nothing of what it sends can be kept. It is left if it cannot be
    /// told yet.
    pub(super) fn give_up(&mut self, context: &mut Context<'_>, why: &str) -> Option<Untold> {
        let received = core::mem::take(&mut self.received);
        let Step::Receiving { server, inbox, until, .. } = &self.step else { return None };
        let Some(ack) = received.last_ack else {
            return Some(Untold { server: *server, inbox: inbox.clone(), until: *until });
        };
        ack.abort(context, why);
        self.stop_listening(context);
        None
    }

    fn stop_listening(&self, context: &mut Context<'_>) {
        if let Step::Receiving { inbox, .. } = &self.step {
            context.out.unsubscribe(inbox);
        }
    }
}

impl Received {
    /// Adds a message to those that go to the store together.
    fn add(&mut self, sequence: Sequence, payload: &Bytes) -> Result<(), CatchupError> {
        let length = u32::try_from(payload.len()).map_err(|_| CatchupError::TooLarge)?;
        if self.block.capacity() == 0 {
            self.block.reserve(BLOCK + payload.len());
        }
        // A block ends once it has reached its size, and a message has less than 4 GiB.
        let offset = self.block.len() as u32;
        self.block.extend_from_slice(payload);
        self.places.push(Place { sequence, offset, length });
        self.bytes += u64::from(length);
        Ok(())
    }

    /// Keeps an ack until what it acknowledges is on disk.
    fn gather(&mut self, context: &Context<'_>, ack: Option<Ack>) {
        if let Some(ack) = ack {
            self.gathered.push(ack);
            self.since.get_or_insert(context.now);
        }
    }

    /// Hands what was received to the store.
    fn flush(&mut self, context: &mut Context<'_>, contents: &mut Contents) {
        if self.places.is_empty() {
            return;
        }
        let block = core::mem::take(&mut self.block).freeze();
        let places = core::mem::take(&mut self.places);
        let bytes = block.len() as u64;
        contents.dedupe.expire(context.now.as_timestamp());
        contents.put(context.out, StoreChange::Messages { block, places }, bytes);
    }

    /// Begins a sync for all that was received.
    fn sync_all(&mut self, context: &mut Context<'_>, contents: &mut Contents) {
        self.flush(context, contents);
        let through = contents.store.sync(context.out);
        let mut acks = self.syncing.take().map_or_else(Vec::new, |(_, acks)| acks);
        acks.append(&mut self.gathered);
        self.syncing = Some((through, acks));
        self.bytes = 0;
        self.since = None;
    }
}
