//! Reads of clients from this replica.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Stream;
use super::publish::refusal;
use crate::command::{Answer, Message};
use crate::context::Context;
use crate::event::StoredMessage;
use crate::ids::{ByteCount, LoadId, RequestId, Sequence};
use crate::limits::Limits;
use crate::subject;
use crate::time::Time;
use crate::wire::{ApiError, StreamMessage, WireError};

/// Reads of clients that wait for the store at the same time; the next is refused.
const MOST: usize = 1024;

/// The reads that wait for the store.
#[derive(Debug, Default)]
pub(super) struct Reads(BTreeMap<LoadId, RequestId>);

impl Stream {
    /// Reads messages from `first` on: `most` of them, `bytes` of them, but at least one if there is
    /// one. A replica that is not current refuses: what it lacks would look as if it were gone, and a
    /// batch might be there in part.
    pub fn read(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        first: Sequence,
        (most, bytes): (usize, ByteCount),
    ) {
        let Some(first) = self.contents.index.at_or_after(first) else {
            return self.answer_nothing(context, request);
        };
        let range = (first, self.contents.index.last());
        self.load_for(context, request, range, (most.max(1), bytes));
    }

    /// Reads the newest message of the subjects that `filter` takes; all if it is empty.
    pub fn read_last(&mut self, context: &mut Context<'_>, request: RequestId, filter: &[u8]) {
        let index = &self.contents.index;
        let newest = match filter {
            b"" => index.last_of(b">"),
            _ if !subject::is_valid_filter(filter) => None,
            _ => index.last_of(filter),
        };
        let Some(newest) = newest else { return self.answer_nothing(context, request) };
        self.load_for(context, request, (newest, newest), (1, context.limits.load));
    }

    fn load_for(
        &mut self,
        context: &mut Context<'_>,
        request: RequestId,
        range: (Sequence, Sequence),
        (most, bytes): (usize, ByteCount),
    ) {
        if self.is_not_readable() {
            return self.answer_nothing(context, request);
        }
        if self.reads.0.len() >= MOST {
            let answer = refusal(&self.acks, &ApiError::INSUFFICIENT_RESOURCES);
            return context.out.answer(request, answer);
        }
        let most = most.min(context.limits.read_messages);
        let load = context.out.read(self.group, range, most, bytes.min(context.limits.load));
        self.reads.0.insert(load, request);
    }

    const fn is_not_readable(&self) -> bool {
        !self.is_current()
    }

    /// There is no such message, as far as this replica can say.
    fn answer_nothing(&self, context: &mut Context<'_>, request: RequestId) {
        let answer = if self.is_not_readable() {
            refusal(&self.acks, &ApiError::CLUSTER_NOT_AVAIL)
        } else {
            Answer::Messages { messages: Vec::new(), next: None }
        };
        context.out.answer(request, answer);
    }

    /// Messages for a client, if `load` is its read.
    pub(super) fn client_read(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) {
        let Some(request) = self.reads.0.remove(&load) else { return };
        let messages = messages.iter().map(|stored| message(stored, context.limits));
        let answer = match messages.collect() {
            Ok(messages) => Answer::Messages { messages, next },
            Err(error) => {
                let error = ApiError::STREAM_GENERAL.with(&[("err", &error)]);
                refusal(&self.acks, &error)
            }
        };
        context.out.answer(request, answer);
    }

    /// Nobody will answer the reads that wait.
    pub(super) fn close_reads(&mut self, context: &mut Context<'_>) {
        for request in core::mem::take(&mut self.reads.0).into_values() {
            let answer = refusal(&self.acks, &ApiError::CLUSTER_NOT_AVAIL);
            context.out.answer(request, answer);
        }
    }

    /// A read failed, perhaps a client's.
    pub(super) fn client_read_failed(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        why: &str,
    ) {
        let Some(request) = self.reads.0.remove(&load) else { return };
        let error = ApiError::STREAM_GENERAL.with(&[("err", &why)]);
        context.out.answer(request, refusal(&self.acks, &error));
    }
}

/// A stored message as clients see it.
fn message(stored: &StoredMessage, limits: &Limits) -> Result<Message, WireError> {
    let message = StreamMessage::decode(&stored.record, limits)?;
    Ok(Message {
        sequence: stored.sequence,
        time: Time::from_nanos(u64::try_from(message.timestamp()).unwrap_or(0)),
        subject: message.share(message.subject()),
        header: message.share(message.header()),
        payload: message.share(message.payload()),
    })
}
