//! Counters: streams whose messages each add to what the last one of their subject says.
//!
//! Upstream: the counter's part of `checkMsgHeadersPreClusteredProposal` in
//! `server/jetstream_batching.go`. What is proposed carries the sum, so a replica that applies it adds
//! nothing up. The last sum of a subject is known while messages of it are in flight, and a while
//! longer; else it is read from the store, and what was published meanwhile waits for it in its order.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use num_bigint::BigInt;
use serde::Deserialize;

use super::Stream;
use super::batch::Published;
use super::checks::Staged;
use super::header::{self, Fields};
use super::header_edit;
use super::index::StreamIndex;
use super::transform::SubjectsStored;
use crate::context::Context;
use crate::event::StoredMessage;
use crate::ids::{LoadId, RequestId, Sequence};
use crate::wire::{ApiError, StreamMessageView, go_json};

/// Sums that are kept with nothing in flight.
const KEPT: usize = 1024;

/// What a counter's message says: `{"val":"7"}`.
#[derive(Deserialize)]
struct Value {
    #[serde(default)]
    val: String,
}

impl Value {
    fn read(payload: &[u8]) -> Result<BigInt, ApiError> {
        let value = serde_json::from_slice::<Self>(payload);
        let value = value.map_err(|_| ApiError::MESSAGE_COUNTER_BROKEN)?;
        sum(&value.val)
    }
}

/// A sum as text; nothing is zero.
fn sum(text: &str) -> Result<BigInt, ApiError> {
    match text {
        "" => Ok(BigInt::ZERO),
        text => number(text.as_bytes()).ok_or(ApiError::MESSAGE_COUNTER_BROKEN),
    }
}

/// What other streams have counted: sums by stream and subject.
type Sources = BTreeMap<String, BTreeMap<String, String>>;

fn read_sources(text: &[u8]) -> Result<Sources, ApiError> {
    serde_json::from_slice(text).map_err(|_| ApiError::MESSAGE_COUNTER_BROKEN)
}

/// Takes up the sum of a message that another stream has counted: what others have counted with it, and
/// how much it adds to what that stream said before. None if it names no stream.
fn take_up(
    sources: &Bytes,
    subject: &[u8],
    (header, payload): (&[u8], &[u8]),
) -> Result<Option<(Bytes, BigInt)>, ApiError> {
    let Some(origin) = header::field(header, header::SOURCE) else { return Ok(None) };
    let mut parts = origin.split(|byte| *byte == b' ');
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let stream = text(parts.next().unwrap_or_default());
    let subject = text(parts.nth(3).unwrap_or(subject));
    let counted = Value::read(payload)?;
    let mut sources = match sources.is_empty() {
        true => Sources::new(),
        false => read_sources(sources)?,
    };
    let said = sources.entry(stream).or_default().entry(subject).or_default();
    let more = &counted - sum(said)?;
    *said = format!("{counted}");
    Ok(Some((Bytes::from(go_json::to_string(&sources)), more)))
}

/// The last sum of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    total: BigInt,
    /// What other streams have counted, as the header says it; empty if none has.
    sources: Bytes,
}

impl Sum {
    const fn zero() -> Self {
        Self { total: BigInt::ZERO, sources: Bytes::new() }
    }

    /// What the last message says.
    fn of(message: &StreamMessageView<'_>) -> Result<Self, ApiError> {
        let total = Value::read(message.payload)?;
        let Some(text) = header::field(message.header, header::COUNTER_SOURCES) else {
            return Ok(Self { total, sources: Bytes::new() });
        };
        let text = if read_sources(text)?.is_empty() { &[][..] } else { text };
        Ok(Self { total, sources: Bytes::copy_from_slice(text) })
    }
}

/// A decimal number of any length, with a sign or without.
fn number(text: &[u8]) -> Option<BigInt> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    BigInt::parse_bytes(text, 10).filter(|_| valid)
}

/// The value that a counter's message carries, for its acknowledgement.
pub(super) fn value_of(payload: &[u8]) -> String {
    serde_json::from_slice(payload).map_or_else(|_| String::new(), |value: Value| value.val)
}

/// A sum with what was proposed.
#[derive(Debug)]
struct Running {
    sum: Sum,
    /// Messages of it in flight.
    in_flight: u32,
    /// The message that says the sum, once nothing is in flight.
    at: Sequence,
}

/// The sums of one leadership, and who waits for others.
#[derive(Debug, Default)]
pub(super) struct Counters {
    running: BTreeMap<Bytes, Running>,
    /// What the store said of the last message of a subject.
    read: BTreeMap<Bytes, (Sequence, Result<Sum, ApiError>)>,
    reads: BTreeMap<LoadId, (Bytes, Sequence)>,
    waiting: VecDeque<Waiting>,
}

/// A publish that waits for sums.
#[derive(Debug)]
pub(super) enum Waiting {
    Message(RequestId, Published),
    Batch(RequestId, Vec<Published>),
}

impl Waiting {
    pub(super) const fn request(&self) -> RequestId {
        match self {
            Self::Message(request, _) | Self::Batch(request, _) => *request,
        }
    }

    /// Whether its publisher wants to know what becomes of it.
    pub(super) fn is_traced(&self) -> bool {
        match self {
            Self::Message(_, message) => header::field(&message.header, header::TRACE).is_some(),
            Self::Batch(..) => false,
        }
    }

    /// The subjects that its messages are stored under.
    fn subjects(&self, transform: Option<&SubjectsStored>) -> impl Iterator<Item = Bytes> {
        let messages = match self {
            Self::Message(_, message) => core::slice::from_ref(message),
            Self::Batch(_, messages) => messages.as_slice(),
        };
        messages.iter().filter_map(move |message| match transform {
            None => Some(message.subject.clone()),
            // Nothing is random here, and a subject that is too long is refused.
            Some(transform) => {
                transform.stored(&message.subject, Sequence::ZERO).ok().map(Bytes::from)
            }
        })
    }
}

impl Counters {
    /// How many publishes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Who waits, when the leadership is gone.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.waiting.into_iter()
    }

    /// The last sum of a subject, if it is known.
    fn sum(&self, index: &StreamIndex, subject: &Bytes) -> Option<Result<Sum, ApiError>> {
        let last = index.last_of(subject);
        if let Some(running) = self.running.get(subject)
            && (running.in_flight > 0 || Some(running.at) == last)
        {
            return Some(Ok(running.sum.clone()));
        }
        let Some(last) = last else { return Some(Ok(Sum::zero())) };
        let (_, read) = self.read.get(subject).filter(|(at, _)| *at == last)?;
        Some(read.clone())
    }

    /// A message was proposed, and says this sum.
    pub(super) fn proposed(&mut self, subject: Bytes, sum: Sum) {
        let in_flight = self.running.get(&subject).map_or(0, |running| running.in_flight) + 1;
        self.running.insert(subject, Running { sum, in_flight, at: Sequence::ZERO });
    }

    /// A message of this leadership was stored.
    pub(super) fn applied(&mut self, subject: &[u8], sequence: Sequence) {
        let full = self.running.len() > KEPT;
        let Some(running) = self.running.get_mut(subject) else { return };
        running.in_flight = running.in_flight.saturating_sub(1);
        running.at = sequence;
        if full && running.in_flight == 0 {
            self.running.remove(subject);
        }
    }

    /// Reads what a publish needs and nobody knows; whether something has to be waited for.
    fn fetch(
        &mut self,
        context: &mut Context<'_>,
        group: crate::ids::GroupId,
        (index, transform): (&StreamIndex, Option<&SubjectsStored>),
        waiting: &Waiting,
    ) -> bool {
        let mut lacking = false;
        for subject in waiting.subjects(transform) {
            if self.sum(index, &subject).is_some() {
                continue;
            }
            lacking = true;
            let Some(last) = index.last_of(&subject) else { continue };
            let wanted = (subject, last);
            if !self.reads.values().any(|reading| *reading == wanted) {
                let load = context.out.read(group, (last, last), 1, context.limits.load);
                self.reads.insert(load, wanted);
            }
        }
        lacking
    }
}

impl Stream {
    /// Lets a publish wait if it needs a sum that is not known, or comes behind one that waits; gives
    /// it back if not.
    pub(super) fn await_sums(
        &mut self,
        context: &mut Context<'_>,
        waiting: Waiting,
    ) -> Option<Waiting> {
        let Some(leadership) = self.leadership.as_mut().filter(|_| self.config.allow_msg_counter)
        else {
            return Some(waiting);
        };
        let counters = &mut leadership.counters;
        let place = (&self.contents.index, self.transform.as_ref());
        let lacking = counters.fetch(context, self.group, place, &waiting);
        if !lacking && counters.waiting.is_empty() {
            return Some(waiting);
        }
        counters.waiting.push_back(waiting);
        None
    }

    /// The first publish that waited and need not wait any longer.
    pub(super) fn next_waiting(&mut self, context: &mut Context<'_>) -> Option<Waiting> {
        let counters = &mut self.leadership.as_mut()?.counters;
        let first = counters.waiting.pop_front()?;
        let place = (&self.contents.index, self.transform.as_ref());
        if counters.fetch(context, self.group, place, &first) {
            counters.waiting.push_front(first);
            return None;
        }
        Some(first)
    }

    /// A message was read, perhaps a counter's last.
    pub(super) fn counter_read(
        &mut self,
        context: &Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
    ) {
        let Some(counters) = self.leadership.as_mut().map(|own| &mut own.counters) else { return };
        let Some((subject, wanted)) = counters.reads.remove(&load) else { return };
        let found = messages.iter().find(|found| found.sequence == wanted);
        let sum = found.map(|found| {
            let mut unpacked = Vec::new();
            StreamMessageView::decode(&found.record, &mut unpacked, context.limits)
                .map_err(|_| ApiError::MESSAGE_COUNTER_BROKEN)
                .and_then(|message| Sum::of(&message))
        });
        // A message that is no more is not the last one either, when it is looked for again.
        if let Some(sum) = sum {
            counters.read.insert(subject, (wanted, sum));
        }
    }

    /// A read failed, perhaps of a counter's last message: who waits for it is told so.
    pub(super) fn counter_read_failed(&mut self, load: LoadId) {
        let Some(counters) = self.leadership.as_mut().map(|own| &mut own.counters) else { return };
        if let Some((subject, wanted)) = counters.reads.remove(&load) {
            counters.read.insert(subject, (wanted, Err(ApiError::MESSAGE_COUNTER_BROKEN)));
        }
    }

    /// What a header asks of a counter, as far as the configuration alone says.
    pub(super) fn check_increment(
        &self,
        fields: &Fields<'_>,
        payload: &[u8],
        sourced: bool,
    ) -> Result<Option<BigInt>, ApiError> {
        let Some(text) = fields.increment else { return Ok(None) };
        let increment = number(text).ok_or(ApiError::MESSAGE_INCR_INVALID)?;
        if sourced {
            // Another stream took it; here it is stored as it is.
            return Ok(Some(increment));
        }
        if !self.config.allow_msg_counter {
            return Err(ApiError::MESSAGE_INCR_DISABLED);
        }
        if !payload.is_empty() {
            return Err(ApiError::MESSAGE_INCR_PAYLOAD);
        }
        let beside = [
            fields.rollup,
            fields.expected_stream,
            fields.expected_last_message_id,
            fields.expected_last_subject,
            fields.expected_last_sequence,
            fields.expected_last_subject_sequence,
        ];
        match beside.iter().any(Option::is_some) {
            true => Err(ApiError::MESSAGE_INCR_INVALID),
            false => Ok(Some(increment)),
        }
    }

    /// Adds an increment to the last sum: the header, the payload and the sum of the message.
    pub(super) fn count(
        &mut self,
        context: &Context<'_>,
        staged: &Staged,
        subject: &Bytes,
        (header, payload): (&Bytes, &Bytes),
        increment: BigInt,
    ) -> Result<(Bytes, Bytes, Sum), ApiError> {
        let Some(leadership) = &mut self.leadership else {
            return Err(ApiError::CLUSTER_NOT_LEADER);
        };
        let known = match staged.sums.get(subject) {
            Some(sum) => Some(Ok(sum.clone())),
            None => leadership.counters.sum(&self.contents.index, subject),
        };
        // Whoever needs a sum that is not known waits for it.
        let Sum { total, sources } = known.unwrap_or(Err(ApiError::MESSAGE_COUNTER_BROKEN))?;
        leadership.counters.read.remove(subject);
        let taken_up = take_up(&sources, subject, (header, payload))?;
        let (sources, header, increment) = match taken_up {
            Some((sources, counted)) => {
                let text = format!("{counted}");
                let header = header_edit::set(header, header::INCREMENT, text.as_bytes());
                (sources, header, counted)
            }
            None => (sources, header.clone(), increment),
        };
        let total = total + increment;
        let payload = Bytes::from(format!("{{\"val\":\"{total}\"}}"));
        let header = match sources.is_empty() {
            true => header,
            false => header_edit::set(&header, header::COUNTER_SOURCES, &sources),
        };
        self.check_size(context, header.len() as u64 + payload.len() as u64)?;
        Ok((header, payload, Sum { total, sources }))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn numbers_have_any_length_and_nothing_but_digits() {
        let long = "9".repeat(100);
        let negative = format!("-{long}");
        for text in ["0", "-1", "12", &long, &negative] {
            assert_eq!(
                number(text.as_bytes()).map(|found| found.to_string()).as_deref(),
                Some(text)
            );
        }
        assert_eq!(number(b"+7"), Some(BigInt::from(7)));
        for text in ["", "+", "-", "1_000", "1.5", " 1", "0x1", "+-1"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_last_message_that_is_no_sum_is_broken() {
        let message = |payload: &'static str, header: &'static str| StreamMessageView {
            payload: payload.as_bytes(),
            header: header.as_bytes(),
            ..StreamMessageView::default()
        };
        for (payload, header) in [
            ("", ""),
            ("7", ""),
            (r#"{"val":7}"#, ""),
            (r#"{"val":"x"}"#, ""),
            (r#"{"val":"7"}"#, "NATS/1.0\r\nNats-Counter-Sources: x\r\n\r\n"),
        ] {
            let found = Sum::of(&message(payload, header));
            assert_eq!(found, Err(ApiError::MESSAGE_COUNTER_BROKEN), "{payload} {header}");
        }
        assert_eq!(Sum::of(&message("{}", "")), Ok(Sum::zero()));
        assert_eq!(value_of(br#"{"val":"-3"}"#), "-3");
        assert_eq!(value_of(b"x"), "");
    }
}
