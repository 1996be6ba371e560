//! Batches that publishers are still sending, each of which is proposed whole or not at all.
//!
//! Upstream: `processJetStreamBatchMsg` in `server/stream.go` and `batching` in
//! `server/jetstream_batching.go`. The messages wait with the leader, and go with its leadership; what
//! they expect is checked when the batch is committed, one behind the other.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::Stream;
use super::checks::{Refusal, Staged};
use super::counter::Waiting;
use super::header::{self, Fields};
use super::header_edit;
use super::publish::{Part, Proposal, refusal};
use crate::command::{Answer, Report};
use crate::context::Context;
use crate::ids::{GroupId, RequestId, Sequence};
use crate::time::Time;
use crate::wire::{API_LEVEL, ApiError, BatchMessageView, StreamMessageView};

/// Bytes of a batch's id at most.
const ID: usize = 64;

/// A message as its publisher sent it.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) subject: Bytes,
    pub(super) header: Bytes,
    pub(super) payload: Bytes,
    /// Whether another stream had it, and a source brings it.
    pub(super) sourced: bool,
}

impl Published {
    /// The message with what was decided on for it.
    pub(super) fn view(&self, sequence: Sequence, timestamp: i64) -> StreamMessageView<'_> {
        StreamMessageView {
            subject: &self.subject,
            header: &self.header,
            payload: &self.payload,
            sequence,
            timestamp,
            sourced: self.sourced,
            ..StreamMessageView::default()
        }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.subject.len() as u64 + self.header.len() as u64 + self.payload.len() as u64
    }
}

/// A batch that is not committed yet.
#[derive(Debug)]
struct Gathering {
    messages: Vec<Published>,
    bytes: u64,
    /// When it is given up.
    until: Time,
}

/// The batches of one leadership.
#[derive(Debug, Default)]
pub(super) struct Batches(BTreeMap<Bytes, Gathering>);

impl Batches {
    /// When the next one is given up.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.0.values().map(|batch| batch.until).min()
    }

    /// Forgets all, as the stream takes batches no longer.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Gives up those whose time is over.
    fn expire(&mut self, context: &mut Context<'_>, group: GroupId) {
        let now = context.now;
        self.0.retain(|id, batch| {
            let lives = now < batch.until;
            if !lives {
                abandoned(context, group, id, "timeout");
            }
            lives
        });
    }
}

/// What becomes of a message of a batch.
enum Outcome {
    /// It waits for the others.
    Kept,
    /// It was the last: these are to be proposed.
    Committed(Vec<Published>),
}

impl Stream {
    /// Decides on a message of a batch; the whole batch to be proposed, if the message commits it.
    pub(super) fn publish_in_batch(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        message: Published,
    ) -> Option<Proposal> {
        let decided =
            self.check_message(context, &message).and_then(|()| self.gather(context, message));
        let answer = match decided {
            Ok(Outcome::Kept) => Answer::Json(Bytes::new()),
            Ok(Outcome::Committed(messages)) => {
                let whole = Waiting::Batch(request, messages);
                return self
                    .await_sums(context, whole)
                    .and_then(|whole| self.resume(context, whole));
            }
            Err(error) => refusal(&self.acks, &error),
        };
        context.out.answer(request, answer);
        None
    }

    fn gather(
        &mut self,
        context: &mut Context<'_>,
        mut message: Published,
    ) -> Result<Outcome, ApiError> {
        let Some(leadership) = &mut self.leadership else {
            return Err(ApiError::CLUSTER_NOT_LEADER);
        };
        if !self.config.allow_atomic {
            return Err(ApiError::ATOMIC_PUBLISH_DISABLED);
        }
        let limits = context.limits;
        let header = message.header.clone();
        let fields = Fields::of(&header);
        let id = fields.batch_id.filter(|id| id.len() <= ID);
        let id = header.slice_ref(id.ok_or(ApiError::ATOMIC_PUBLISH_INVALID_BATCH_ID)?);
        let number = fields.batch_sequence.ok_or(ApiError::ATOMIC_PUBLISH_MISSING_SEQ)?;
        let number = header::number(number);
        let too_large = number > limits.batch_messages as u64;
        let batches = &mut leadership.batches;
        batches.expire(context, self.group);
        let mut batch = match batches.0.remove(&id) {
            Some(batch) => batch,
            None if number != 1 && too_large => return Err(too_large_batch(limits.batch_messages)),
            None if number != 1 || batches.0.len() >= limits.batches => {
                return Err(ApiError::ATOMIC_PUBLISH_INCOMPLETE_BATCH);
            }
            None => {
                Gathering { messages: Vec::new(), bytes: 0, until: context.now + limits.batch_time }
            }
        };
        // From here on the batch is gone unless it is put back.
        let commit = match fields.batch_commit {
            None => None,
            Some(b"1") => Some(false),
            Some(b"eob") => Some(true),
            Some(_) => return Err(ApiError::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT),
        };
        if let Some(level) = fields.required_api_level {
            if header::number(level) > u64::from(API_LEVEL) {
                return Err(ApiError::REQUIRED_API_LEVEL);
            }
            message.header = header_edit::remove(&header, header::REQUIRED_API_LEVEL);
        }
        if number != batch.messages.len() as u64 + 1 {
            abandoned(context, self.group, &id, "incomplete");
            return Err(ApiError::ATOMIC_PUBLISH_INCOMPLETE_BATCH);
        }
        batch.bytes = batch.bytes.saturating_add(message.bytes());
        if too_large || batch.bytes > limits.batch_bytes.get() {
            abandoned(context, self.group, &id, "large");
            return Err(too_large_batch(limits.batch_messages));
        }
        if commit != Some(true) {
            batch.messages.push(message);
        }
        match commit {
            None => {
                batches.0.insert(id, batch);
                Ok(Outcome::Kept)
            }
            Some(_) if batch.messages.is_empty() => Err(ApiError::ATOMIC_PUBLISH_INCOMPLETE_BATCH),
            Some(end) => {
                if end && let Some(last) = batch.messages.last_mut() {
                    // The last message commits, as the one that is not stored said.
                    last.header = header_edit::append(&last.header, header::BATCH_COMMIT, b"1");
                }
                Ok(Outcome::Committed(batch.messages))
            }
        }
    }

    /// Checks a whole batch, and prepares it.
    pub(super) fn commit(
        &mut self,
        context: &Context<'_>,
        request: RequestId,
        messages: Vec<Published>,
    ) -> Result<Proposal, ApiError> {
        let time = context.now.as_timestamp();
        let mut staged = Staged::default();
        let mut parts = Vec::with_capacity(messages.len());
        let count = messages.len();
        for (batch_sequence, message) in (1_u64..).zip(messages) {
            let batch_id = header::field(&message.header, header::BATCH_ID);
            let batch_id = batch_id.map_or(Bytes::new(), |id| message.header.slice_ref(id));
            if header::field(&message.header, header::EXPECTED_LAST_MESSAGE_ID).is_some() {
                let header = &header::EXPECTED_LAST_MESSAGE_ID;
                let error = ApiError::ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH;
                return Err(error.with(&[("header", header)]));
            }
            let checked = match self.check_header(context, &staged, &message) {
                Ok(checked) => checked,
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Duplicate(_)) => {
                    return Err(ApiError::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE);
                }
            };
            staged.add(&checked);
            let commit = batch_sequence == count as u64;
            let sum = checked.sum.map(|sum| (checked.stored, sum));
            let (header, payload) = (checked.header, checked.payload);
            let message = Published { header, payload, ..message };
            let message = BatchMessageView {
                batch_id: &batch_id,
                batch_sequence,
                commit,
                message: message.view(checked.flight.sequence, time),
            };
            let mut data = BytesMut::new();
            message
                .encode_allow_compress(&mut data)
                .map_err(|_| ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM)?;
            let (flight, id) = (checked.flight, checked.id);
            parts.push(Part { data: data.freeze(), flight, id, sum });
        }
        let proposal = Proposal::batch(request, parts, time);
        proposal.ok_or(ApiError::ATOMIC_PUBLISH_INCOMPLETE_BATCH)
    }

    /// When the next batch is given up.
    pub(super) fn batch_deadline(&self) -> Option<Time> {
        self.leadership.as_ref()?.batches.deadline()
    }

    /// A moment of [`batch_deadline`](Self::batch_deadline) has come.
    pub(super) fn give_up_batches(&mut self, context: &mut Context<'_>) {
        if let Some(leadership) = &mut self.leadership {
            leadership.batches.expire(context, self.group);
        }
    }
}

fn too_large_batch(most: usize) -> ApiError {
    ApiError::ATOMIC_PUBLISH_TOO_LARGE_BATCH.with(&[("size", &most)])
}

/// Upstream tells by an advisory.
fn abandoned(context: &mut Context<'_>, group: GroupId, id: &[u8], why: &str) {
    let id = String::from_utf8_lossy(id);
    let why = format!("batch {id:?} is abandoned: {why}");
    context.out.report(group, Report::Refused { from: None, why });
}
