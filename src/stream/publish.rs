//! What a leader decides before a proposal.
//!
//! Upstream: `processClusteredInboundMsg` in `server/jetstream_cluster.go`. A decision changes nothing:
//! what is in flight is counted when the group has taken the proposal, so a refused proposal costs no
//! sequence (upstream counts it, and skips one).

use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::Stream;
use super::batch::Published;
use super::checks::{Checked, Refusal, Staged};
use super::counter::{Sum, Waiting};
use super::header;
use super::leadership::{Flight, Pending, PendingKind};
use crate::canary::Canary;
use crate::command::{Answer, Report};
use crate::context::Context;
use crate::ids::{RequestId, Sequence};
use crate::subject;
use crate::wire::{
    ApiError, ApiResponse, Buffer, MessageDelete, PublishAckTemplate, PurgeRequest, ResponseType,
    StreamPurge,
};

/// Bytes of subject, header and payload above which upstream compresses a message.
const COMPRESS_ABOVE: u64 = 8192;

/// Entries to be proposed, one behind the other, which nothing rests on yet: once the group has taken
/// them, [`Stream::proposed`] tells the stream, else [`Stream::not_proposed`] the client.
#[derive(Debug)]
pub struct Proposal {
    /// The messages of a batch, but for its last.
    earlier: Vec<Part>,
    entry: Entry,
    pending: Pending,
    /// The id of the last message, or nothing.
    id: Bytes,
    /// The subject and the sum of the last message, of a counter.
    sum: Option<(Bytes, Sum)>,
    /// When it was decided on, in nanoseconds since the epoch.
    time: i64,
    /// The subject of the schedule that sends it.
    schedule: Option<Bytes>,
    /// Whether its publisher wants to know what becomes of it.
    traced: bool,
}

#[derive(Debug)]
enum Entry {
    /// Written straight into the append entry.
    Message { message: Published, sequence: Sequence, timestamp: i64 },
    /// Written already: compressed, of a batch, or JSON.
    Encoded(Bytes),
}

/// One message of a batch.
#[derive(Debug)]
pub(super) struct Part {
    /// The entry's data.
    pub(super) data: Bytes,
    pub(super) flight: Flight,
    /// Its id, or nothing.
    pub(super) id: Bytes,
    /// Its subject and its sum, of a counter.
    pub(super) sum: Option<(Bytes, Sum)>,
}

impl Proposal {
    pub(super) const fn json(data: Bytes, pending: Pending) -> Self {
        Self {
            earlier: Vec::new(),
            entry: Entry::Encoded(data),
            pending,
            id: Bytes::new(),
            sum: None,
            time: 0,
            schedule: None,
            traced: false,
        }
    }

    /// All messages of a batch; the client is answered with the last.
    pub(super) fn batch(request: RequestId, mut parts: Vec<Part>, time: i64) -> Option<Self> {
        let Part { data, flight, id, sum } = parts.pop()?;
        let pending = Pending { request: Some(request), kind: PendingKind::Message(flight) };
        let entry = Entry::Encoded(data);
        let traced = false;
        Some(Self { earlier: parts, entry, pending, id, sum, time, schedule: None, traced })
    }

    /// How many entries there are.
    pub const fn entries(&self) -> usize {
        self.earlier.len() + 1
    }

    /// The exact length of an entry's data.
    pub fn encoded_len(&self, entry: usize) -> usize {
        match (self.earlier.get(entry), &self.entry) {
            (Some(part), _) => part.data.len(),
            (None, Entry::Message { message, sequence, timestamp }) => {
                message.view(*sequence, *timestamp).encoded_len()
            }
            (None, Entry::Encoded(data)) => data.len(),
        }
    }

    /// The length of all entries' data.
    pub fn bytes(&self) -> u64 {
        (0..self.entries()).map(|entry| self.encoded_len(entry) as u64).sum()
    }

    /// Appends an entry's data.
    pub fn encode(&self, entry: usize, buffer: &mut impl Buffer) {
        match (self.earlier.get(entry), &self.entry) {
            (Some(part), _) => buffer.extend_from_slice(&part.data),
            (None, Entry::Message { message, sequence, timestamp }) => {
                message
                    .view(*sequence, *timestamp)
                    .encode(buffer)
                    .expect("its lengths were checked when it was decided on");
            }
            (None, Entry::Encoded(data)) => buffer.extend_from_slice(data),
        }
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
        let in_batch = header::field(&header, header::BATCH_ID).is_some();
        let message = Published { subject, header, payload, sourced: false };
        self.catch_up_with_purges();
        if in_batch {
            return self.publish_in_batch(context, request, message);
        }
        let waiting = self.await_sums(context, Waiting::Message(request, message))?;
        self.resume(context, waiting)
    }

    /// Decides on a message that another stream had, which a source brings; none if the client was
    /// answered. It is stored as it was there: what a publisher may not ask for is not refused, and a
    /// counter takes up what the other stream has counted.
    pub fn publish_sourced(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        (subject, header, payload): (Bytes, Bytes, Bytes),
    ) -> Option<Proposal> {
        let message = Published { subject, header, payload, sourced: true };
        self.catch_up_with_purges();
        let waiting = self.await_sums(context, Waiting::Message(request, message))?;
        self.resume(context, waiting)
    }

    fn catch_up_with_purges(&mut self) {
        if let Some(leadership) = &mut self.leadership {
            // A purge may have moved the last sequence up.
            leadership.reached(self.contents.index.last().plus(self.contents.failed));
        }
    }

    /// Decides on what need not wait any longer.
    pub(super) fn resume(
        &mut self,
        context: &mut Context<'_>,
        waiting: Waiting,
    ) -> Option<Proposal> {
        let (request, traced) = (waiting.request(), waiting.is_traced());
        let decided = match waiting {
            Waiting::Message(_, message) => self.decide(context, Some(request), message),
            Waiting::Batch(_, messages) => {
                self.commit(context, request, messages).map_err(Refusal::Error)
            }
        };
        let refused = match decided {
            Ok(proposal) => return Some(proposal),
            Err(Refusal::Error(error)) => refusal(&self.acks, &error),
            Err(Refusal::Duplicate(sequence)) => {
                let mut json = BytesMut::with_capacity(self.acks.duplicate_len(sequence));
                self.acks.duplicate(sequence, &mut json);
                Answer::Json(json.freeze())
            }
        };
        if traced {
            context.out.report(self.group, Report::Traced { request, sequence: None });
        }
        context.out.answer(request, refused);
        None
    }

    /// Decides on a message that is no part of a batch.
    fn decide(
        &mut self,
        context: &Context<'_>,
        request: Option<RequestId>,
        message: Published,
    ) -> Result<Proposal, Refusal> {
        self.check_message(context, &message)?;
        let checked = self.check_header(context, &Staged::default(), &message)?;
        Ok(prepare(context, request, message, checked)?)
    }

    /// What the stream itself proposes, as [`publish`](Self::publish) returns it, and what waited for
    /// its store; call until there is none.
    pub fn next_proposal(&mut self, context: &mut Context<'_>) -> Option<Proposal> {
        if let Some(own) = self.proposals.pop_front() {
            return Some(own);
        }
        while let Some(waiting) = self.next_waiting(context) {
            let proposal = self.resume(context, waiting);
            if proposal.is_some() {
                return proposal;
            }
        }
        while let Some((schedule, message)) =
            self.leadership.as_mut().and_then(|own| own.sendings.ready.pop_front())
        {
            match self.decide(context, None, message) {
                Ok(proposal) => return Some(Proposal { schedule: Some(schedule), ..proposal }),
                Err(_) => self.not_sent(context, &schedule),
            }
        }
        None
    }

    fn not_sent(&mut self, context: &Context<'_>, schedule: &[u8]) {
        if let Some(leadership) = &mut self.leadership {
            leadership.sendings.refused(schedule, context.now);
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
        let pending = Pending { request: Some(request), kind: PendingKind::Delete };
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
        let pending = Pending { request: Some(request), kind: PendingKind::Purge };
        Some(Proposal::json(purge.to_bytes(), pending))
    }

    /// The group took a proposal of this leadership.
    pub fn proposed(&mut self, proposal: Proposal) {
        let Proposal { earlier, pending, id, sum, time, traced, .. } = proposal;
        if let (true, Some(request), PendingKind::Message(flight), Some(leadership)) =
            (traced, pending.request, &pending.kind, &mut self.leadership)
        {
            leadership.trace(flight.sequence, request);
        }
        for Part { flight, id, sum, .. } in earlier {
            let kind = PendingKind::Message(flight);
            self.entry_proposed(Pending { request: None, kind }, id, time);
            self.counted(sum);
        }
        self.entry_proposed(pending, id, time);
        self.counted(sum);
    }

    fn counted(&mut self, sum: Option<(Bytes, Sum)>) {
        if let (Some(leadership), Some((subject, sum))) = (&mut self.leadership, sum) {
            leadership.counters.proposed(subject, sum);
        }
    }

    fn entry_proposed(&mut self, pending: Pending, id: Bytes, time: i64) {
        let Some(leadership) = &mut self.leadership else { return };
        match &pending.kind {
            PendingKind::Message(flight) => {
                if !id.is_empty() {
                    self.contents.dedupe.propose(&id, time);
                }
                leadership.last_message_id = Some(id);
                leadership.take_off(flight);
                leadership.sequence = flight.sequence.next();
            }
            PendingKind::Delete | PendingKind::Purge if pending.request.is_none() => {
                leadership.expiring += 1;
            }
            PendingKind::Delete | PendingKind::Purge => {}
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
        if let Some(schedule) = &proposal.schedule {
            self.not_sent(context, schedule);
        }
        if context.limits.planted(Canary::RefusedProposalCounts)
            && matches!(proposal.pending.kind, PendingKind::Message(_))
            && let Some(own) = &mut self.leadership
        {
            own.sequence = own.sequence.next();
        }
        let Some(request) = proposal.pending.request else { return };
        if proposal.traced {
            context.out.report(self.group, Report::Traced { request, sequence: None });
        }
        let answer = match proposal.pending.kind {
            PendingKind::Message(_) => refusal(&self.acks, &error),
            PendingKind::Delete => refused(ResponseType::MessageDelete, error),
            PendingKind::Purge => refused(ResponseType::StreamPurge, error),
        };
        context.out.answer(request, answer);
    }
}

fn prepare(
    context: &Context<'_>,
    request: Option<RequestId>,
    message: Published,
    checked: Checked,
) -> Result<Proposal, ApiError> {
    let Checked { stored, header, payload, id, flight, sum, traced, .. } = checked;
    let time = context.now.as_timestamp();
    let sum = sum.map(|sum| (stored, sum));
    let (message, sequence) = (Published { header, payload, ..message }, flight.sequence);
    let pending = Pending { request, kind: PendingKind::Message(flight) };
    let entry = match message.bytes() <= COMPRESS_ABOVE {
        true => Entry::Message { message, sequence, timestamp: time },
        false => {
            let message = message.view(sequence, time);
            let mut encoded = BytesMut::with_capacity(message.encoded_len());
            message
                .encode_allow_compress(&mut encoded)
                .map_err(|_| ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM)?;
            Entry::Encoded(encoded.freeze())
        }
    };
    Ok(Proposal { earlier: Vec::new(), entry, pending, id, sum, time, schedule: None, traced })
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
