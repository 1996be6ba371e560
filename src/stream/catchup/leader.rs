//! Serves catchups: sends the messages that a follower asked for, paced by its acks, by a window of
//! its own and by the node's budget.
//!
//! Upstream: `handleClusterSyncRequest` and `runCatchup` in `server/jetstream_cluster.go`. The
//! messages go to the follower's inbox, deleted ones as skips or ranges; an empty message is the
//! end, or this replica's state if the follower wants that. What waits for an ack carries a reply
//! subject that ends in the bytes it acknowledges. Here one reply covers about 64 KiB, so that acks
//! cost little; a follower of either kind answers each reply that it gets.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::peers::CatchupPeers;
use crate::budget::Charge;
use crate::canary::Canary;
use crate::command::{Command, Destination, Report};
use crate::context::Context;
use crate::event::StoredMessage;
use crate::ids::{GroupId, Index, LoadId, PeerId, Sequence};
use crate::subject::{self, Subject, Token};
use crate::time::Time;
use crate::wire::{DeleteRange, StreamMessageView, SyncRequest, WireError};

/// Bytes after which a message carries a reply.
const ACK_EVERY: u64 = 64 * 1024;
/// The op byte of a message that is not compressed; its sequence follows.
const PLAIN: u8 = 4;

/// All catchups that one stream serves.
#[derive(Debug)]
pub struct Server {
    group: GroupId,
    serving: BTreeMap<Token, Serving>,
    reads: BTreeMap<LoadId, Token>,
    peers: CatchupPeers,
}

/// Where the stream and its log stand.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The last record of the log, committed or not.
    pub log: Index,
    /// The last record that the stream has applied.
    pub applied: Index,
    /// The stream's last sequence.
    pub last: Sequence,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served, now or when enough is applied.
    Serving,
    /// The asker knows of more than this node has: a leader should step down.
    Behind,
    /// It asks for nothing that can be, or too many are served.
    Refused,
}

/// One follower that is being served.
#[derive(Debug)]
struct Serving {
    peer: Option<PeerId>,
    to: Destination,
    inbox: Subject,
    next: Sequence,
    last: Sequence,
    delete_ranges: bool,
    /// Whether the follower wants this replica's state at the end.
    wants_state: bool,
    phase: Phase,
    charge: Charge,
    /// What awaits an ack: bytes and messages, in the order in which they were sent.
    sent: VecDeque<(u64, u64)>,
    messages: u64,
    /// When the follower's silence ends the catchup.
    until: Time,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The stream has not applied enough yet.
    Waiting(Index),
    /// Room is needed before the next read.
    Paused,
    /// The store reads; this many bytes are charged for it.
    Reading(u64),
    /// All is sent but the end.
    Ending,
}

impl Server {
    /// Serves nobody yet.
    pub fn new(group: GroupId) -> Self {
        Self {
            group,
            serving: BTreeMap::new(),
            reads: BTreeMap::new(),
            peers: CatchupPeers::default(),
        }
    }

    /// The lags of those who are served.
    pub const fn peers(&self) -> &CatchupPeers {
        &self.peers
    }

    /// A follower asks, and awaits what it asks for at `inbox`.
    pub fn start(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        request: &SyncRequest,
        inbox: Subject,
        standing: Standing,
    ) -> Verdict {
        if request.first > request.last
            || request.first == Sequence::ZERO
            || self.serving.len() >= context.limits.members
        {
            return Verdict::Refused;
        }
        if behind(request.min_applied, request.last, standing) {
            return Verdict::Behind;
        }
        let peer = from.or(request.peer);
        self.forget(context, peer);
        let token = context.random.inbox_token();
        context.out.subscribe(self.group, subject::sync_ack_wildcard(token));
        let to = match peer {
            Some(peer) => Destination::Peers(Arc::from([peer])),
            None => Destination::Subscribers,
        };
        let serving = Serving {
            peer,
            to,
            inbox,
            next: request.first,
            last: request.last,
            delete_ranges: request.delete_ranges,
            wants_state: request.state,
            phase: Phase::Waiting(request.min_applied),
            charge: Charge::default(),
            sent: VecDeque::new(),
            messages: 0,
            // Who is sent nothing asks again after this, and listens no longer here.
            until: context.now + context.timers.catchup_start,
        };
        if let Some(peer) = peer {
            self.peers.set(peer, request.last.since(request.first).saturating_add(1));
        }
        self.serving.insert(token, serving);
        self.report(context, peer, format!("is served {}..={}", request.first, request.last));
        self.applied(context, standing)
    }

    /// More was applied: those who waited for it may go on.
    pub fn applied(&mut self, context: &mut Context<'_>, standing: Standing) -> Verdict {
        let mut verdict = Verdict::Serving;
        let behind = context.limits.planted(Canary::ServesBehindApplies);
        let waits = |serving: &Serving| matches!(serving.phase, Phase::Waiting(min) if min <= standing.applied || behind && serving.last <= standing.last);
        let ready: VecDeque<Token> = self
            .serving
            .iter()
            .filter(|(_, serving)| waits(serving))
            .map(|(token, _)| *token)
            .collect();
        for token in ready {
            let Some(serving) = self.serving.get_mut(&token) else { continue };
            if serving.last > standing.last {
                verdict = Verdict::Behind;
                self.end(context, token, "asked for more than there is");
                continue;
            }
            serving.phase = Phase::Paused;
            self.advance(context, token);
        }
        verdict
    }

    /// It is this catchup's turn to take room of the node's budget.
    pub fn budget_available(&mut self, context: &mut Context<'_>, token: Token) {
        self.advance(context, token);
    }

    /// Whether this read is one of a catchup.
    pub fn owns(&self, load: LoadId) -> bool {
        self.reads.contains_key(&load)
    }

    /// Messages of the store for one of the catchups.
    pub fn handle_read(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) {
        let Some(token) = self.reads.remove(&load) else { return };
        let Some(serving) = self.serving.get_mut(&token) else { return };
        let Phase::Reading(reserved) = serving.phase else { return };
        context.budget.release(&mut serving.charge, reserved);
        serving.phase = Phase::Paused;
        serving.until = context.now + context.timers.catchup_silence;
        if let Err(error) = serving.send(context, token, messages, next) {
            return self.end(context, token, &format!("cannot be served: {error}"));
        }
        self.advance(context, token);
    }

    /// A read failed: what cannot be verified is not served.
    pub fn handle_read_failed(&mut self, context: &mut Context<'_>, load: LoadId, why: &str) {
        if let Some(token) = self.reads.remove(&load) {
            self.end(context, token, why);
        }
    }

    /// A follower acknowledges, or aborts with a reason.
    pub fn handle_ack(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        bytes: u64,
        payload: &Bytes,
    ) {
        let Some(serving) = self.serving.get_mut(&token) else { return };
        if !payload.is_empty() {
            let reason = String::from_utf8_lossy(&payload[..payload.len().min(256)]);
            return self.end(context, token, &format!("was aborted there: {reason}"));
        }
        // An ack that names other bytes than were sent is a lie or a stranger's: it frees nothing.
        let Some(place) = serving.sent.iter().position(|(sent, _)| *sent == bytes) else { return };
        serving.until = context.now + context.timers.catchup_silence;
        // Acks arrive in order or not at all: those before were lost on the way.
        for (bytes, messages) in serving.sent.drain(..=place) {
            serving.messages -= messages;
            context.budget.release(&mut serving.charge, bytes);
            if let Some(peer) = serving.peer {
                self.peers.decrement(peer, messages);
            }
        }
        self.advance(context, token);
    }

    /// When the next silent follower is given up.
    pub fn deadline(&self) -> Option<Time> {
        self.serving.values().map(|serving| serving.until).min()
    }

    /// Gives silent followers up.
    pub fn handle_deadline(&mut self, context: &mut Context<'_>) {
        let silent = |serving: &Serving| context.now >= serving.until;
        let tokens: VecDeque<Token> = self
            .serving
            .iter()
            .filter(|(_, serving)| silent(serving))
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.end(context, token, "was silent for too long");
        }
    }

    /// Ends all catchups: the node no longer serves the stream.
    pub fn stop(&mut self, context: &mut Context<'_>) {
        while let Some((token, _)) = self.serving.first_key_value() {
            self.end(context, *token, "ended: this node serves no longer");
        }
        self.peers.clear_all();
    }

    /// A follower that asks anew gives its earlier catchup up.
    fn forget(&mut self, context: &mut Context<'_>, peer: Option<PeerId>) {
        let same = |serving: &Serving| peer.is_some() && serving.peer == peer;
        let earlier = self.serving.iter().find(|(_, serving)| same(serving));
        if let Some(token) = earlier.map(|(token, _)| *token) {
            self.end(context, token, "asked again");
        }
    }

    /// Reads on if there is something left and room for it; ends what is done.
    fn advance(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(serving) = self.serving.get_mut(&token) else { return };
        if serving.phase != Phase::Paused {
            return;
        }
        if serving.next > serving.last {
            serving.phase = Phase::Ending;
            return;
        }
        let limits = context.limits;
        let (bytes, mine) = (limits.load, serving.charge.bytes());
        let whole = limits.planted(Canary::CatchupTakesWholeBudget);
        let share = if whole { u64::MAX } else { limits.stream_catchup_bytes.get() };
        let full = mine > 0 && mine.saturating_add(bytes.get()) > share
            || serving.messages >= limits.stream_catchup_messages;
        if full || !context.budget.try_add((self.group, token), &mut serving.charge, bytes.get()) {
            return;
        }
        serving.phase = Phase::Reading(bytes.get());
        let range = (serving.next, serving.last);
        let load = context.out.read(self.group, range, limits.read_messages, bytes);
        self.reads.insert(load, token);
    }

    /// Whether the next catchup to be ended wants a state; none if none has sent all.
    pub fn next_ending(&self) -> Option<bool> {
        self.ending().map(|(_, serving)| serving.wants_state)
    }

    fn ending(&self) -> Option<(&Token, &Serving)> {
        self.serving.iter().find(|(_, serving)| serving.phase == Phase::Ending)
    }

    /// Ends the next catchup that has sent all, by this state or an empty message. Never by both:
    /// if the state is lost, so is the end, and the follower asks again.
    pub fn finish(&mut self, context: &mut Context<'_>, state: Option<Bytes>) {
        let Some((token, serving)) = self.ending() else { return };
        let token = *token;
        serving.push(context, None, state.unwrap_or_default());
        self.end(context, token, "has all that was asked for");
    }

    fn end(&mut self, context: &mut Context<'_>, token: Token, why: &str) {
        let Some(mut serving) = self.serving.remove(&token) else { return };
        context.budget.leave(&(self.group, token));
        context.budget.release_last(&mut serving.charge);
        context.out.unsubscribe(&subject::sync_ack_wildcard(token));
        if let Some(peer) = serving.peer {
            self.peers.clear(peer);
        }
        self.report(context, serving.peer, why.into());
    }

    fn report(&self, context: &mut Context<'_>, peer: Option<PeerId>, what: String) {
        let text = match peer {
            Some(peer) => format!("{peer} {what}"),
            None => format!("a follower {what}"),
        };
        context.out.report(self.group, Report::Catchup(text));
    }
}

/// Whether the asker knows of records that this node will never apply, or of messages that it
/// lacks with all of them applied. A log that went bad may end before what was applied.
fn behind(min_applied: Index, last: Sequence, standing: Standing) -> bool {
    standing.log.max(standing.applied) < min_applied
        || standing.applied >= min_applied && standing.last < last
}

/// What goes out for one read: payloads that share one allocation, and what awaits an ack.
struct Sending<'a, 'b> {
    context: &'a mut Context<'b>,
    buffer: BytesMut,
    token: Token,
    unacked: (u64, u64),
    /// The last payload and the messages that it stands for. It waits for the next, as the last of a
    /// read asks for an ack.
    held: Option<(Bytes, u64)>,
    /// How many deleted messages may be told one by one.
    skips: u64,
}

impl Serving {
    /// Sends what a read gave: messages, and what is deleted between them.
    fn send(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) -> Result<(), WireError> {
        let bytes: usize = messages.iter().map(|message| message.record.len()).sum();
        let buffer = BytesMut::with_capacity(bytes);
        let planted = context.limits.planted(Canary::PastTheRange);
        let skips = context.limits.read_messages as u64;
        let mut sending = Sending { context, buffer, token, unacked: (0, 0), held: None, skips };
        if self.send_messages(&mut sending, messages)? {
            let reached = next.map_or(self.last.next(), |next| next.max(self.next));
            let past = u64::from(next.is_none() && planted);
            self.send_deleted(&mut sending, reached.min(self.last.next()).plus(past))?;
        }
        self.send_held(&mut sending, true);
        Ok(())
    }

    /// Sends messages and what is deleted before each; whether all.
    fn send_messages(
        &mut self,
        sending: &mut Sending<'_, '_>,
        messages: &[StoredMessage],
    ) -> Result<bool, WireError> {
        for message in messages {
            if message.sequence < self.next || message.sequence > self.last {
                continue;
            }
            self.send_deleted(sending, message.sequence)?;
            if self.next < message.sequence {
                return Ok(false);
            }
            encode(message, sending)?;
            self.next = message.sequence.next();
            let payload = sending.buffer.split().freeze();
            self.send_one(sending, payload, 1);
        }
        Ok(true)
    }

    /// Tells that all up to `until`, exclusive, is deleted, or as much of it as one read may: what
    /// follows is read again then.
    fn send_deleted(
        &mut self,
        sending: &mut Sending<'_, '_>,
        until: Sequence,
    ) -> Result<(), WireError> {
        let count = until.since(self.next);
        if count == 0 {
            return Ok(());
        }
        let first = core::mem::replace(&mut self.next, until);
        if self.delete_ranges && count > 1 {
            let range = DeleteRange { first, count }.to_bytes();
            self.send_one(sending, range, count);
            return Ok(());
        }
        let told = count.min(sending.skips);
        sending.skips -= told;
        self.next = first.plus(told);
        for sequence in (first.get()..self.next.get()).map(Sequence::new) {
            StreamMessageView::skip(sequence).encode(&mut sending.buffer)?;
            let payload = sending.buffer.split().freeze();
            self.send_one(sending, payload, 1);
        }
        Ok(())
    }

    /// Sends one payload, which stands for `messages`, once it is known whether it is the last.
    fn send_one(&mut self, sending: &mut Sending<'_, '_>, payload: Bytes, messages: u64) {
        self.send_held(sending, false);
        sending.held = Some((payload, messages));
    }

    /// Sends the payload that waited; the last, and one every so often, asks for an ack.
    fn send_held(&mut self, sending: &mut Sending<'_, '_>, last: bool) {
        let Some((payload, messages)) = sending.held.take() else { return };
        let (bytes, count) = sending.unacked;
        let (bytes, count) = (bytes + payload.len() as u64, count + messages);
        if !last && bytes < ACK_EVERY {
            sending.unacked = (bytes, count);
            return self.push(sending.context, None, payload);
        }
        sending.unacked = (0, 0);
        self.messages += count;
        self.sent.push_back((bytes, count));
        sending.context.budget.add(&mut self.charge, bytes);
        let reply = Some(subject::sync_ack_with(sending.token, bytes));
        self.push(sending.context, reply, payload);
    }

    fn push(&self, context: &mut Context<'_>, reply: Option<Subject>, payload: Bytes) {
        let (to, subject) = (self.to.clone(), self.inbox.clone());
        context.out.push(Command::Send { to, subject, reply, payload });
    }
}

/// Appends a stored message with its own sequence. The record has the one it was proposed with.
fn encode(message: &StoredMessage, sending: &mut Sending<'_, '_>) -> Result<(), WireError> {
    let sequence = message.sequence.get().to_le_bytes();
    match message.record.split_first_chunk::<9>() {
        Some(([PLAIN, ..], rest)) => {
            sending.buffer.put_u8(PLAIN);
            sending.buffer.put_slice(&sequence);
            sending.buffer.put_slice(rest);
            Ok(())
        }
        _ => {
            let mut unpacked = Vec::new();
            let limits = sending.context.limits;
            let decoded = StreamMessageView::decode(&message.record, &mut unpacked, limits)?;
            let decoded = StreamMessageView { sequence: message.sequence, ..decoded };
            decoded.encode_allow_compress(&mut sending.buffer)
        }
    }
}
