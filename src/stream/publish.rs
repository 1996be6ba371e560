//! What a leader decides before a proposal, and whom it answers when the proposal is applied.
//!
//! Upstream: `processClusteredInboundMsg` in `server/jetstream_cluster.go` and
//! `checkMsgHeadersPreClusteredProposal` in `server/jetstream_batching.go`, in their order. A decision
//! changes nothing: what is in flight is counted when the group has taken the proposal, so a
//! refused proposal costs no sequence (upstream counts it, and skips one). The expected last message
//! id is checked here too, against what is in flight, where upstream checks it when the message is
//! applied: no replica has to remember an id for that.

use alloc::collections::VecDeque;
use alloc::string::String;

use bytes::{Bytes, BytesMut};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::Stream;
use super::dedupe::Seen;
use super::header::{self, Fields};
use crate::command::Answer;
use crate::context::Context;
use crate::ids::{RequestId, Sequence};
use crate::outbox::Outbox;
use crate::subject;
use crate::wire::{
    ApiError, ApiResponse, MessageDelete, PublishAckTemplate, PurgeRequest, ResponseType,
    StreamMessageView, StreamPurge,
};

/// Bytes of subject, header and payload above which upstream compresses a message.
const COMPRESS_ABOVE: usize = 8192;

/// An entry to be proposed, which nothing rests on yet: once the group has taken it,
/// [`Stream::proposed`] tells the stream, else [`Stream::not_proposed`] the client.
#[derive(Debug)]
pub struct Proposal {
    entry: Entry,
    pending: Pending,
    /// The message's id, or nothing.
    id: Bytes,
    /// When it was decided on, in nanoseconds since the epoch.
    time: i64,
}

#[derive(Debug)]
enum Entry {
    /// Written straight into the append entry.
    Message(Published),
    /// Written already: compressed, or JSON.
    Encoded(Bytes),
}

/// A message with what was decided on for it.
#[derive(Debug)]
struct Published {
    subject: Bytes,
    header: Bytes,
    payload: Bytes,
    sequence: Sequence,
    timestamp: i64,
}

impl Published {
    fn view(&self) -> StreamMessageView<'_> {
        StreamMessageView {
            subject: &self.subject,
            header: &self.header,
            payload: &self.payload,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ..StreamMessageView::default()
        }
    }
}

impl Proposal {
    const fn json(data: Bytes, pending: Pending) -> Self {
        Self { entry: Entry::Encoded(data), pending, id: Bytes::new(), time: 0 }
    }

    /// The exact length of the entry's data.
    pub fn encoded_len(&self) -> usize {
        match &self.entry {
            Entry::Message(message) => message.view().encoded_len(),
            Entry::Encoded(data) => data.len(),
        }
    }

    /// Appends the entry's data.
    pub fn encode(&self, buffer: &mut BytesMut) {
        match &self.entry {
            Entry::Message(message) => {
                message
                    .view()
                    .encode(buffer)
                    .expect("its lengths were checked when it was decided on");
            }
            Entry::Encoded(data) => buffer.extend_from_slice(data),
        }
    }
}

/// A proposal that was not applied yet.
#[derive(Debug)]
struct Pending {
    request: RequestId,
    kind: PendingKind,
}

#[derive(Debug)]
enum PendingKind {
    /// A message, by the sequence it was proposed with, its subject's hash, and the hash of the
    /// subject whose last sequence was expected.
    Message {
        sequence: Sequence,
        subject: u64,
        expected: Option<u64>,
    },
    Delete,
    Purge,
}

/// What a leader has in flight.
#[derive(Debug)]
pub(super) struct Leadership {
    /// The last sequence that was proposed, counting failed ones.
    sequence: Sequence,
    pending: VecDeque<Pending>,
    hasher: SipHasher13,
    /// How often a subject is in flight, by its hash: as a message's, and as an expected one. Only
    /// ever asked, never walked.
    subjects: HashTable<(u64, u32)>,
    last_message_id: Bytes,
}

impl Leadership {
    pub(super) fn new(key: u64, sequence: Sequence, last_message_id: Bytes) -> Self {
        Self {
            sequence,
            pending: VecDeque::new(),
            hasher: SipHasher13::new_with_keys(key, 2),
            subjects: HashTable::new(),
            last_message_id,
        }
    }

    /// The client that proposed the message that is applied now, if it is the next in flight.
    pub(super) fn message_applied(&mut self, proposed: Sequence) -> Option<RequestId> {
        match self.pending.front()?.kind {
            PendingKind::Message { sequence, .. } if sequence == proposed => {}
            _ => return None,
        }
        let Pending { request, kind } = self.pending.pop_front()?;
        if let PendingKind::Message { subject, expected, .. } = kind {
            self.count_out(subject);
            expected.into_iter().for_each(|hash| self.count_out(hash));
        }
        Some(request)
    }

    /// The client that asked for the delete that is applied now.
    pub(super) fn delete_applied(&mut self) -> Option<RequestId> {
        self.pending
            .pop_front_if(|pending| matches!(pending.kind, PendingKind::Delete))
            .map(|pending| pending.request)
    }

    /// The client that asked for the purge that is applied now.
    pub(super) fn purge_applied(&mut self) -> Option<RequestId> {
        self.pending
            .pop_front_if(|pending| matches!(pending.kind, PendingKind::Purge))
            .map(|pending| pending.request)
    }

    /// The stream's last sequence, counting failed ones, has moved.
    pub(super) fn reached(&mut self, sequence: Sequence) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Leadership is gone: what is in flight may or may not be stored by another.
    pub(super) fn lost(self, acks: &PublishAckTemplate, out: &mut Outbox) {
        for Pending { request, kind } in self.pending {
            let answer = match kind {
                PendingKind::Message { .. } => refusal(acks, &ApiError::CLUSTER_NOT_AVAIL),
                PendingKind::Delete => refused(ResponseType::MessageDelete, NOT_AVAILABLE),
                PendingKind::Purge => refused(ResponseType::StreamPurge, NOT_AVAILABLE),
            };
            out.answer(request, answer);
        }
    }

    fn count_in(&mut self, hash: u64) {
        match self.subjects.find_mut(hash, |(found, _)| *found == hash) {
            Some((_, count)) => *count += 1,
            None => {
                self.subjects.insert_unique(hash, (hash, 1), |(hash, _)| *hash);
            }
        }
    }

    fn count_out(&mut self, hash: u64) {
        if let Ok(mut entry) = self.subjects.find_entry(hash, |(found, _)| *found == hash) {
            let (_, count) = entry.get_mut();
            *count -= 1;
            if *count == 0 {
                entry.remove();
            }
        }
    }

    fn is_in_flight(&self, hash: u64) -> bool {
        self.subjects.find(hash, |(found, _)| *found == hash).is_some()
    }
}

const NOT_AVAILABLE: ApiError = ApiError::CLUSTER_NOT_AVAIL;

/// Why a message is not proposed.
enum Refusal {
    Error(ApiError),
    /// It is stored already.
    Duplicate(Sequence),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl Stream {
    /// Decides on a message that a client wants stored; none if the client was answered.
    pub fn publish(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        (subject, header, payload): (Bytes, Bytes, Bytes),
    ) -> Option<Proposal> {
        if let Some(leadership) = &mut self.leadership {
            // A purge may have moved the last sequence up.
            leadership.reached(self.contents.index.last().plus(self.contents.failed));
        }
        match self.check(context, &subject, &header, &payload) {
            Ok(expected) => self.prepare(context, request, (subject, header, payload), expected),
            Err(Refusal::Error(error)) => {
                context.out.answer(request, refusal(&self.acks, &error));
                None
            }
            Err(Refusal::Duplicate(sequence)) => {
                let mut json = BytesMut::with_capacity(self.acks.duplicate_len(sequence));
                self.acks.duplicate(sequence, &mut json);
                context.out.answer(request, Answer::Json(json.freeze()));
                None
            }
        }
    }

    /// Decides on the delete of a message; none if the client was answered.
    pub fn delete(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        sequence: Sequence,
    ) -> Option<Proposal> {
        let kind = ResponseType::MessageDelete;
        let refuse = |context: &mut Context<'_>, error| {
            context.out.answer(request, refused(kind, error));
            None
        };
        if let Err(error) = self.check_leading(context) {
            return refuse(context, error);
        }
        if self.config.sealed {
            return refuse(context, ApiError::STREAM_SEALED);
        }
        if self.config.deny_delete {
            let why = &"message delete not permitted";
            return refuse(context, ApiError::STREAM_MSG_DELETE_FAILED.with(&[("err", why)]));
        }
        let stream = self.config.name.clone();
        let delete = MessageDelete { stream, sequence, ..MessageDelete::default() };
        let pending = Pending { request, kind: PendingKind::Delete };
        Some(Proposal::json(delete.to_bytes(), pending))
    }

    /// Decides on a purge: of the subjects that `filter` takes (all if empty), below `before` (all if
    /// zero), all but the newest `keep`. None if the client was answered.
    pub fn purge(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        filter: &[u8],
        before: Sequence,
        keep: u64,
    ) -> Option<Proposal> {
        let kind = ResponseType::StreamPurge;
        let filter = core::str::from_utf8(filter).ok();
        let filter =
            filter.filter(|text| text.is_empty() || subject::is_valid_filter(text.as_bytes()));
        let error = match (self.check_leading(context), filter) {
            (Err(error), _) => Some(error),
            _ if self.config.sealed => Some(ApiError::STREAM_SEALED),
            _ if self.config.deny_purge => {
                let why = &"stream purge not permitted";
                Some(ApiError::STREAM_PURGE_FAILED.with(&[("err", why)]))
            }
            // Upstream takes one or the other.
            _ if keep > 0 && before > Sequence::ZERO => Some(ApiError::BAD_REQUEST),
            (Ok(()), None) => Some(ApiError::BAD_REQUEST),
            (Ok(()), Some(_)) => None,
        };
        if let Some(error) = error {
            context.out.answer(request, refused(kind, error));
            return None;
        }
        if before == Sequence::new(1) {
            // Nothing is below it; upstream's servers would take it for no bound.
            context.out.answer(request, Answer::Json(ApiResponse::purged(0).to_bytes()));
            return None;
        }
        let purge = StreamPurge {
            stream: self.config.name.clone(),
            last: self.contents.index.last(),
            request: Some(PurgeRequest {
                before,
                filter: String::from(filter.unwrap_or("")),
                keep,
            }),
            ..StreamPurge::default()
        };
        let pending = Pending { request, kind: PendingKind::Purge };
        Some(Proposal::json(purge.to_bytes(), pending))
    }

    /// The group took a proposal of this leadership.
    pub fn proposed(&mut self, proposal: Proposal) {
        let Some(leadership) = &mut self.leadership else { return };
        let Proposal { pending, id, time, .. } = proposal;
        if let PendingKind::Message { sequence, subject, expected } = &pending.kind {
            if !id.is_empty() {
                self.contents.dedupe.propose(&id, time);
            }
            leadership.last_message_id = id;
            leadership.count_in(*subject);
            expected.iter().for_each(|hash| leadership.count_in(*hash));
            leadership.sequence = sequence.next();
        }
        leadership.pending.push_back(pending);
    }

    /// The group did not take a proposal: the client is told, and nothing else has changed.
    pub fn not_proposed(
        &mut self,
        context: &mut Context<'_>,
        proposal: &Proposal,
        error: ApiError,
    ) {
        let answer = match proposal.pending.kind {
            PendingKind::Message { .. } => refusal(&self.acks, &error),
            PendingKind::Delete => refused(ResponseType::MessageDelete, error),
            PendingKind::Purge => refused(ResponseType::StreamPurge, error),
        };
        context.out.answer(proposal.pending.request, answer);
    }

    fn check_leading(&self, context: &Context<'_>) -> Result<(), ApiError> {
        let Some(leadership) = &self.leadership else { return Err(ApiError::CLUSTER_NOT_LEADER) };
        if leadership.pending.len() >= context.limits.publishes_in_flight {
            return Err(ApiError::INSUFFICIENT_RESOURCES);
        }
        Ok(())
    }

    /// Upstream's checks, in upstream's order; the hash of the subject whose last sequence is
    /// expected, if one is.
    fn check(
        &mut self,
        context: &Context<'_>,
        subject: &[u8],
        header: &[u8],
        payload: &[u8],
    ) -> Result<Option<u64>, Refusal> {
        self.check_subject(subject)?;
        match self.check_leading(context) {
            _ if self.leadership.is_some() && self.config.sealed => {
                return Err(ApiError::STREAM_SEALED.into());
            }
            result => result?,
        }
        let length = header.len() as u64 + payload.len() as u64;
        let bound = u64::try_from(self.config.max_msg_size).ok().filter(|bound| *bound > 0);
        let bound = bound.unwrap_or(u64::MAX).min(context.limits.message.get());
        if length > bound {
            return Err(ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM.into());
        }
        if header.len() as u64 > context.limits.header.get().min(u64::from(u16::MAX)) {
            return Err(ApiError::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
        }
        if header.is_empty() {
            return Ok(None);
        }
        self.check_header(context, subject, &Fields::of(header))
    }

    fn check_subject(&self, subject: &[u8]) -> Result<(), ApiError> {
        if subject.len() > usize::from(u16::MAX) || !subject::is_valid_publish(subject) {
            return Err(ApiError::BAD_REQUEST);
        }
        match self.config.subjects.iter().any(|filter| subject::matches(filter.as_bytes(), subject))
        {
            true => Ok(()),
            false => Err(ApiError::STREAM_NOT_MATCH),
        }
    }

    fn check_header(
        &mut self,
        context: &Context<'_>,
        subject: &[u8],
        fields: &Fields<'_>,
    ) -> Result<Option<u64>, Refusal> {
        if fields.batch_id.is_some() {
            return Err(ApiError::ATOMIC_PUBLISH_DISABLED.into());
        }
        if fields.increment.is_some() {
            return Err(ApiError::MESSAGE_INCR_DISABLED.into());
        }
        if fields.expected_stream.is_some_and(|name| name != self.config.name.as_bytes()) {
            return Err(ApiError::STREAM_NOT_MATCH.into());
        }
        if fields.ttl.is_some() {
            return Err(ApiError::MESSAGE_TTL_DISABLED.into());
        }
        if let Some(id) = fields.message_id {
            match self.contents.dedupe.find(id, context.now.as_timestamp()) {
                Some(Seen::Stored(sequence)) => return Err(Refusal::Duplicate(sequence)),
                Some(Seen::InFlight) => {
                    return Err(ApiError::STREAM_DUPLICATE_MESSAGE_CONFLICT.into());
                }
                None => {}
            }
        }
        let expected = self.check_expected(subject, fields)?;
        if fields.schedule.is_some() {
            return Err(ApiError::MESSAGE_SCHEDULES_DISABLED.into());
        }
        if fields.rollup.is_some() {
            let why = &"rollup not permitted";
            return Err(ApiError::STREAM_ROLLUP_FAILED.with(&[("err", why)]).into());
        }
        self.check_last_message_id(fields.expected_last_message_id)?;
        Ok(expected)
    }

    /// The last sequence of the stream, and of a subject, as the publisher expects them.
    fn check_expected(&self, subject: &[u8], fields: &Fields<'_>) -> Result<Option<u64>, ApiError> {
        let Some(leadership) = &self.leadership else { return Err(ApiError::CLUSTER_NOT_LEADER) };
        let last = leadership.sequence.get().saturating_sub(self.contents.failed);
        if fields.expected_last_sequence.is_some_and(|digits| header::number(digits) != last) {
            return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE.with(&[("seq", &last)]));
        }
        let Some(wanted) = fields.expected_last_subject_sequence.map(header::number) else {
            return match fields.expected_last_subject {
                Some(_) => Err(ApiError::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID),
                None => Ok(None),
            };
        };
        let subject = fields.expected_last_subject.unwrap_or(subject);
        let hash = leadership.hasher.hash(subject);
        if leadership.is_in_flight(hash) {
            // Its last sequence is about to change.
            return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
        }
        let found = self.contents.index.last_of(subject).unwrap_or(Sequence::ZERO);
        if found.get() != wanted {
            return Err(ApiError::STREAM_WRONG_LAST_SEQUENCE.with(&[("seq", &found)]));
        }
        Ok(Some(hash))
    }

    fn check_last_message_id(&self, expected: Option<&[u8]>) -> Result<(), ApiError> {
        let (Some(expected), Some(leadership)) = (expected, &self.leadership) else {
            return Ok(());
        };
        let last = &leadership.last_message_id;
        if *expected == last[..] {
            return Ok(());
        }
        let last = String::from_utf8_lossy(last);
        Err(ApiError::STREAM_WRONG_LAST_MSG_ID.with(&[("id", &last)]))
    }

    fn prepare(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        (subject, header, payload): (Bytes, Bytes, Bytes),
        expected: Option<u64>,
    ) -> Option<Proposal> {
        // It was checked that this node leads.
        let leadership = self.leadership.as_mut()?;
        let id = header::field(&header, header::MESSAGE_ID)
            .map_or(Bytes::new(), |id| header.slice_ref(id));
        let kind = PendingKind::Message {
            sequence: leadership.sequence,
            subject: leadership.hasher.hash(&subject),
            expected,
        };
        let time = context.now.as_timestamp();
        let sequence = leadership.sequence;
        let message = Published { subject, header, payload, sequence, timestamp: time };
        let pending = Pending { request, kind };
        let length = message.subject.len() + message.header.len() + message.payload.len();
        if length <= COMPRESS_ABOVE {
            let entry = Entry::Message(message);
            return Some(Proposal { entry, pending, id, time });
        }
        let message = message.view();
        let mut encoded = BytesMut::with_capacity(message.encoded_len());
        match message.encode_allow_compress(&mut encoded) {
            Ok(()) => {
                let entry = Entry::Encoded(encoded.freeze());
                Some(Proposal { entry, pending, id, time })
            }
            Err(_) => {
                let error = ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM;
                context.out.answer(request, refusal(&self.acks, &error));
                None
            }
        }
    }
}

/// The answer to a message that is refused.
pub(super) fn refusal(acks: &PublishAckTemplate, error: &ApiError) -> Answer {
    let mut json = BytesMut::new();
    acks.error(error, &mut json);
    Answer::Json(json.freeze())
}

/// The answer to a delete or purge that is refused.
pub(super) fn refused(kind: ResponseType, error: ApiError) -> Answer {
    Answer::Json(ApiResponse::error(kind, error).to_bytes())
}
