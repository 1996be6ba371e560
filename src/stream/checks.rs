//! What a leader checks of a message before it proposes it, in upstream's order.
//!
//! Upstream: `processClusteredInboundMsg` in `server/jetstream_cluster.go` and
//! `checkMsgHeadersPreClusteredProposal` in `server/jetstream_batching.go`. The expected last message
//! id is checked here too, against what is in flight, where upstream checks it when the message is
//! applied; both happen here, so a message of ours never fails then.

use alloc::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Stream;
use super::batch::Published;
use super::counter::Sum;
use super::dedupe::Seen;
use super::header::{self, Fields};
use super::index::message_size;
use super::leadership::Flight;
use super::lifetimes::Life;
use crate::context::Context;
use crate::ids::Sequence;
use crate::subject;
use crate::wire::{ApiError, DiscardPolicy};

/// Why a message is not proposed.
pub(super) enum Refusal {
    Error(ApiError),
    /// It is stored already.
    Duplicate(Sequence),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// What the messages of a batch that were checked so far will change, if all of it is taken. Nothing,
/// and no memory, for a message of its own.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// How many there are.
    pub(super) messages: u64,
    bytes: u64,
    ids: BTreeSet<Bytes>,
    /// How many messages of a subject there are, by its hash.
    subjects: BTreeMap<u64, u64>,
    /// The last sequences that were expected, by the subject's hash.
    expected: BTreeMap<u64, u64>,
    /// The sums of counters.
    pub(super) sums: BTreeMap<Bytes, Sum>,
}

impl Staged {
    /// A message was checked, and others follow.
    pub(super) fn add(&mut self, checked: &Checked) {
        self.messages += 1;
        self.bytes += checked.flight.bytes;
        *self.subjects.entry(checked.flight.subject).or_default() += 1;
        self.expected.extend(checked.expected);
        if let Some(sum) = &checked.sum {
            self.sums.insert(checked.stored.clone(), sum.clone());
        }
        if !checked.id.is_empty() {
            self.ids.insert(checked.id.clone());
        }
    }
}

/// A message that may be proposed.
#[derive(Debug)]
pub(super) struct Checked {
    /// The subject that it is stored under.
    pub(super) stored: Bytes,
    pub(super) header: Bytes,
    pub(super) payload: Bytes,
    /// Its id, or nothing.
    pub(super) id: Bytes,
    pub(super) flight: Flight,
    /// The subject whose last sequence it expects, by its hash, and that sequence.
    pub(super) expected: Option<(u64, u64)>,
    /// The counter's sum with it.
    pub(super) sum: Option<Sum>,
    /// Whether its publisher wants to know what becomes of it.
    pub(super) traced: bool,
}

impl Stream {
    /// What is asked of every message, in a batch or not, whatever its header says.
    pub(super) fn check_message(
        &self,
        context: &Context<'_>,
        message: &Published,
    ) -> Result<(), ApiError> {
        let Published { subject, header, payload, sourced } = message;
        self.check_subject(subject, *sourced)?;
        match self.check_leading(context) {
            _ if self.leadership.is_some() && self.config.sealed => {
                return Err(ApiError::STREAM_SEALED);
            }
            result => result?,
        }
        let length = header.len() as u64 + payload.len() as u64;
        let in_flight = self.leadership.as_ref().map_or(0, |leadership| leadership.bytes());
        let held = self.contents.index.bytes().saturating_add(in_flight);
        if held.saturating_add(length) > context.limits.stream_bytes.get() {
            return Err(ApiError::ACCOUNT_RESOURCES_EXCEEDED);
        }
        self.check_size(context, length)
    }

    pub(super) fn check_size(&self, context: &Context<'_>, length: u64) -> Result<(), ApiError> {
        let bound = u64::try_from(self.config.max_msg_size).ok().filter(|bound| *bound > 0);
        let bound = bound.unwrap_or(u64::MAX).min(context.limits.message.get());
        match length > bound {
            true => Err(ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM),
            false => Ok(()),
        }
    }

    pub(super) fn check_leading(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let Some(leadership) = &self.leadership else { return Err(ApiError::CLUSTER_NOT_LEADER) };
        let waiting = leadership.pending.len() + leadership.counters.waiting();
        if waiting >= context.limits.publishes_in_flight {
            return Err(ApiError::INSUFFICIENT_RESOURCES);
        }
        Ok(())
    }

    fn check_subject(&self, subject: &[u8], sourced: bool) -> Result<(), ApiError> {
        if subject.len() > usize::from(u16::MAX) || !subject::is_valid_publish(subject) {
            return Err(ApiError::BAD_REQUEST);
        }
        let takes = |filter: &alloc::string::String| subject::matches(filter.as_bytes(), subject);
        // The subjects of other streams are others.
        match sourced || self.config.subjects.iter().any(takes) {
            true => Ok(()),
            false => Err(ApiError::STREAM_NOT_MATCH),
        }
    }

    /// Checks a message behind those that are in flight and those that are staged.
    pub(super) fn check_header(
        &mut self,
        context: &Context<'_>,
        staged: &Staged,
        message: &Published,
    ) -> Result<Checked, Refusal> {
        let Published { header, payload, sourced, .. } = message;
        let stored = self.stored_subject(staged, &message.subject)?;
        let subject = &stored;
        let fields = Fields::of(header);
        let mut increment = None;
        if !header.is_empty() {
            if header.len() as u64 > context.limits.header.get().min(u64::from(u16::MAX)) {
                return Err(ApiError::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
            }
            increment = self.check_increment(&fields, payload, *sourced)?;
            self.check_plain(&fields, *sourced)?;
            self.check_id(context, staged, &fields)?;
        }
        let (mut new_header, mut payload, mut sum) = (header.clone(), payload.clone(), None);
        if self.config.allow_msg_counter {
            let increment = increment.ok_or(ApiError::MESSAGE_INCR_MISSING)?;
            let added = self.count(context, staged, subject, (header, &payload), increment);
            let counted = added?;
            (new_header, payload, sum) = (counted.0, counted.1, Some(counted.2));
        }
        let (mut expected, mut id) = (None, Bytes::new());
        if !header.is_empty() {
            expected = self.check_expected(staged, subject, &fields)?;
            match self.check_schedule(context, subject, &new_header, &fields)? {
                Some(with_rollup) => {
                    self.check_rollup(staged, subject, Some(header::ROLLUP_SUBJECT))?;
                    new_header = with_rollup;
                }
                None => self.check_rollup(staged, subject, fields.rollup)?,
            }
            self.check_last_message_id(&fields)?;
            id = fields.message_id.map_or(id, |id| header.slice_ref(id));
        }
        let flight = self.check_room(staged, subject, (&new_header, &payload), expected)?;
        let traced = fields.trace.is_some();
        Ok(Checked { stored, header: new_header, payload, id, flight, expected, sum, traced })
    }

    /// What depends on the configuration alone.
    fn check_plain(&self, fields: &Fields<'_>, sourced: bool) -> Result<(), ApiError> {
        let config = &self.config;
        if fields.expected_stream.is_some_and(|name| name != config.name.as_bytes()) {
            return Err(ApiError::STREAM_NOT_MATCH);
        }
        match fields.ttl.filter(|_| !sourced).map(Life::parse) {
            None | Some(Ok(None)) => {}
            Some(_) if !config.allow_msg_ttl => return Err(ApiError::MESSAGE_TTL_DISABLED),
            Some(Err(_)) => return Err(ApiError::MESSAGE_TTL_INVALID),
            Some(Ok(Some(_))) => {}
        }
        Ok(())
    }

    fn check_id(
        &mut self,
        context: &Context<'_>,
        staged: &Staged,
        fields: &Fields<'_>,
    ) -> Result<(), Refusal> {
        let Some(id) = fields.message_id else { return Ok(()) };
        if staged.ids.contains(id) {
            return Err(ApiError::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE.into());
        }
        match self.contents.dedupe.find(id, context.now.as_timestamp()) {
            Some(Seen::Stored(sequence)) => Err(Refusal::Duplicate(sequence)),
            Some(Seen::InFlight) => Err(ApiError::STREAM_DUPLICATE_MESSAGE_CONFLICT.into()),
            None => Ok(()),
        }
    }

    /// The last sequence of the stream, and of a subject, as the publisher expects them.
    fn check_expected(
        &self,
        staged: &Staged,
        subject: &[u8],
        fields: &Fields<'_>,
    ) -> Result<Option<(u64, u64)>, ApiError> {
        let Some(leadership) = &self.leadership else { return Err(ApiError::CLUSTER_NOT_LEADER) };
        if let Some(digits) = fields.expected_last_sequence {
            let last = leadership.sequence.get() + staged.messages;
            let last = last.saturating_sub(self.contents.failed);
            if header::number(digits) != last {
                return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE.with(&[("seq", &last)]));
            }
            if staged.messages > 0 {
                // Only the first message of a batch can know.
                return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
            }
        }
        let Some(wanted) = fields.expected_last_subject_sequence.map(header::number) else {
            return match fields.expected_last_subject {
                Some(_) => Err(ApiError::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID),
                None => Ok(None),
            };
        };
        let subject = fields.expected_last_subject.unwrap_or(subject);
        let hash = leadership.hasher.hash(subject);
        if staged.subjects.contains_key(&hash) || leadership.is_in_flight(hash) {
            // Its last sequence is about to change.
            return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
        }
        let found = match staged.expected.get(&hash) {
            Some(found) => *found,
            None => self.contents.index.last_of(subject).map_or(0, Sequence::get),
        };
        if found != wanted {
            return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE.with(&[("seq", &found)]));
        }
        Ok(Some((hash, found)))
    }

    fn check_rollup(
        &self,
        staged: &Staged,
        subject: &[u8],
        rollup: Option<&[u8]>,
    ) -> Result<(), ApiError> {
        let Some(rollup) = rollup else { return Ok(()) };
        let failed = |why: &str| Err(ApiError::STREAM_ROLLUP_FAILED.with(&[("err", &why)]));
        if !self.config.allow_rollup_hdrs || self.config.deny_purge {
            return failed("rollup not permitted");
        }
        let lower = rollup.to_ascii_lowercase();
        match &*lower {
            header::ROLLUP_SUBJECT => {
                let hash = self.leadership.as_ref().map(|own| own.hasher.hash(subject));
                match hash.is_some_and(|hash| staged.subjects.contains_key(&hash)) {
                    true => failed("batch rollup sub invalid"),
                    false => Ok(()),
                }
            }
            header::ROLLUP_ALL if staged.messages > 0 => failed("batch rollup all invalid"),
            header::ROLLUP_ALL => Ok(()),
            _ => {
                let text = alloc::string::String::from_utf8_lossy(&lower);
                failed(&alloc::format!("rollup value invalid: {text:?}"))
            }
        }
    }

    fn check_last_message_id(&self, fields: &Fields<'_>) -> Result<(), ApiError> {
        let (Some(expected), Some(leadership)) =
            (fields.expected_last_message_id, &self.leadership)
        else {
            return Ok(());
        };
        let last = leadership.last_message_id.as_deref();
        if last == Some(expected) {
            return Ok(());
        }
        let last = alloc::string::String::from_utf8_lossy(last.unwrap_or(b""));
        Err(ApiError::STREAM_WRONG_LAST_MSG_ID.with(&[("id", &last)]))
    }

    /// Whether a stream that discards new messages has room, with all that is in flight; how the
    /// message is counted.
    fn check_room(
        &self,
        staged: &Staged,
        subject: &[u8],
        (header, payload): (&[u8], &[u8]),
        expected: Option<(u64, u64)>,
    ) -> Result<Flight, ApiError> {
        let Some(leadership) = &self.leadership else { return Err(ApiError::CLUSTER_NOT_LEADER) };
        let (index, bounds) = (&self.contents.index, &self.contents.bounds);
        let size = message_size(bounds.storage, subject, header, payload).map(u64::from);
        let flight = Flight {
            sequence: leadership.sequence.plus(staged.messages),
            subject: leadership.hasher.hash(subject),
            bytes: size.ok_or(ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM)?,
            expected: expected.map(|(hash, _)| hash),
        };
        if bounds.discard != DiscardPolicy::New {
            return Ok(flight);
        }
        let full = |why: &str| Err(ApiError::STREAM_STORE_FAILED.with(&[("err", &why)]));
        let messages = index.messages() + leadership.messages() + staged.messages + 1;
        let bytes = index.bytes() + leadership.bytes() + staged.bytes + flight.bytes;
        if bounds.messages.is_some_and(|most| messages > most) {
            return full("maximum messages exceeded");
        }
        if bounds.bytes.is_some_and(|most| bytes > most) {
            return full("maximum bytes exceeded");
        }
        if let Some(most) = bounds.per_subject.filter(|_| self.config.discard_new_per_subject) {
            let staged = staged.subjects.get(&flight.subject).copied().unwrap_or(0);
            let in_flight = leadership.messages_of(flight.subject) + staged + 1;
            if index.messages_of(subject) + in_flight > most {
                return full("maximum messages per subject exceeded");
            }
        }
        Ok(flight)
    }
}
