//! What a leader has proposed and not yet applied: whom it answers, and what it counts in before it
//! takes more.
//!
//! Upstream: `clseq`, `inflight`, `expectedPerSubjectInProcess` and `clusteredCounterTotal` of
//! `stream` in `server/stream.go`. All of it goes with the leadership.

use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::batch::Batches;
use super::counter::Counters;
use super::publish::{refusal, refused};
use super::schedule::Sendings;
use crate::ids::{RequestId, Sequence};
use crate::outbox::Outbox;
use crate::time::Time;
use crate::wire::{ApiError, PublishAckTemplate, ResponseType};

/// A proposal that was not applied yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// Who is answered; nobody for what the stream proposes itself.
    pub(super) request: Option<RequestId>,
    pub(super) kind: PendingKind,
}

#[derive(Debug)]
pub(super) enum PendingKind {
    /// A message.
    Message(Flight),
    Delete,
    Purge,
}

/// A message in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    /// What it was proposed with.
    pub(super) sequence: Sequence,
    /// Its subject's hash.
    pub(super) subject: u64,
    /// Its bytes, as the stream counts them.
    pub(super) bytes: u64,
    /// The hash of the subject whose last sequence it expects.
    pub(super) expected: Option<u64>,
}

/// What is in flight of one subject.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    hash: u64,
    /// Messages of it.
    messages: u32,
    /// Messages that expect its last sequence.
    expected: u32,
}

/// What a leader has in flight.
#[derive(Debug)]
pub(super) struct Leadership {
    /// The last sequence that was proposed, counting failed ones.
    pub(super) sequence: Sequence,
    pub(super) pending: VecDeque<Pending>,
    pub(super) hasher: SipHasher13,
    /// Only ever asked, never walked.
    subjects: HashTable<InFlight>,
    /// Messages in flight, and their bytes.
    messages: u64,
    bytes: u64,
    /// The id of the last message that was proposed; none if it is not known.
    pub(super) last_message_id: Option<Bytes>,
    /// Batches that their publishers have not committed yet.
    pub(super) batches: Batches,
    /// The sums of counters.
    pub(super) counters: Counters,
    /// Schedules that send.
    pub(super) sendings: Sendings,
    /// Messages in flight that are traced, by what they were proposed with.
    traces: BTreeMap<Sequence, RequestId>,
    /// Removals of expired messages in flight.
    pub(super) expiring: u32,
    /// Nothing that expired is proposed to be removed before.
    pub(super) expire_after: Time,
}

impl Leadership {
    pub(super) fn new(key: u64, sequence: Sequence, last_message_id: Option<Bytes>) -> Self {
        Self {
            sequence,
            pending: VecDeque::new(),
            hasher: SipHasher13::new_with_keys(key, 2),
            subjects: HashTable::new(),
            messages: 0,
            bytes: 0,
            last_message_id,
            batches: Batches::default(),
            counters: Counters::default(),
            sendings: Sendings::default(),
            traces: BTreeMap::new(),
            expiring: 0,
            expire_after: Time::ZERO,
        }
    }

    /// A traced message was proposed.
    pub(super) fn trace(&mut self, proposed: Sequence, request: RequestId) {
        self.traces.insert(proposed, request);
    }

    /// The trace of a message that is applied now, once. Upstream: `getAndDeleteMsgTrace`.
    pub(super) fn take_trace(&mut self, proposed: Sequence) -> Option<RequestId> {
        self.traces.remove(&proposed)
    }

    /// The proposal of the message that is applied now, if it is the next in flight.
    pub(super) fn message_applied(&mut self, proposed: Sequence) -> Option<RequestId> {
        let is_next = |pending: &mut Pending| matches!(&pending.kind, PendingKind::Message(flight) if flight.sequence == proposed);
        let Pending { request, kind } = self.pending.pop_front_if(is_next)?;
        if let PendingKind::Message(flight) = kind {
            self.land(&flight);
        }
        request
    }

    /// The client that asked for the delete that is applied now.
    pub(super) fn delete_applied(&mut self) -> Option<RequestId> {
        let applied =
            self.pending.pop_front_if(|pending| matches!(pending.kind, PendingKind::Delete));
        self.removal_applied(applied)
    }

    /// The client that asked for the purge that is applied now.
    pub(super) fn purge_applied(&mut self) -> Option<RequestId> {
        let applied =
            self.pending.pop_front_if(|pending| matches!(pending.kind, PendingKind::Purge));
        self.removal_applied(applied)
    }

    fn removal_applied(&mut self, applied: Option<Pending>) -> Option<RequestId> {
        let Pending { request, .. } = applied?;
        if request.is_none() {
            self.expiring = self.expiring.saturating_sub(1);
        }
        request
    }

    /// The stream's last sequence, counting failed ones, has moved.
    pub(super) fn reached(&mut self, sequence: Sequence) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Leadership is gone: what is in flight may or may not be stored by another.
    pub(super) fn lost(self, acks: &PublishAckTemplate, out: &mut Outbox) {
        for Pending { request, kind } in self.pending {
            let Some(request) = request else { continue };
            let answer = match kind {
                PendingKind::Message(_) => refusal(acks, &NOT_AVAILABLE),
                PendingKind::Delete => refused(ResponseType::MessageDelete, NOT_AVAILABLE),
                PendingKind::Purge => refused(ResponseType::StreamPurge, NOT_AVAILABLE),
            };
            out.answer(request, answer);
        }
        for waiting in self.counters.into_waiting() {
            out.answer(waiting.request(), refusal(acks, &NOT_AVAILABLE));
        }
    }

    /// A message was proposed.
    pub(super) fn take_off(&mut self, flight: &Flight) {
        self.messages += 1;
        self.bytes += flight.bytes;
        self.in_flight_mut(flight.subject).messages += 1;
        if let Some(expected) = flight.expected {
            self.in_flight_mut(expected).expected += 1;
        }
    }

    fn land(&mut self, flight: &Flight) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(flight.bytes);
        self.count_out(flight.subject, |found| &mut found.messages);
        if let Some(expected) = flight.expected {
            self.count_out(expected, |found| &mut found.expected);
        }
    }

    fn in_flight_mut(&mut self, hash: u64) -> &mut InFlight {
        self.subjects
            .entry(hash, |found| found.hash == hash, |found| found.hash)
            .or_insert(InFlight { hash, messages: 0, expected: 0 })
            .into_mut()
    }

    fn count_out(&mut self, hash: u64, count: impl FnOnce(&mut InFlight) -> &mut u32) {
        if let Ok(mut entry) = self.subjects.find_entry(hash, |found| found.hash == hash) {
            let found = entry.get_mut();
            let left = count(found);
            *left = left.saturating_sub(1);
            if (found.messages, found.expected) == (0, 0) {
                entry.remove();
            }
        }
    }

    /// Whether a subject has messages in flight, or is one whose last sequence is expected.
    pub(super) fn is_in_flight(&self, hash: u64) -> bool {
        self.subjects.find(hash, |found| found.hash == hash).is_some()
    }

    /// How many messages of a subject are in flight.
    pub(super) fn messages_of(&self, hash: u64) -> u64 {
        let found = self.subjects.find(hash, |found| found.hash == hash);
        found.map_or(0, |found| u64::from(found.messages))
    }

    /// Messages in flight.
    pub(super) const fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of the messages in flight.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

const NOT_AVAILABLE: ApiError = ApiError::CLUSTER_NOT_AVAIL;
