//! What each step does to the state of a consumer.
//!
//! Upstream: `UpdateDelivered`, `UpdateAcks`, `UpdateStarting`, `Reset` and `Update` of
//! `consumerFileStore` in `server/filestore.go`.

use alloc::vec::Vec;

use crate::ids::Sequence;
use crate::wire::{AckPolicy, ConsumerConfig, ConsumerOp, ConsumerState, Pending, SequencePair};

/// What of a configuration decides on the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What has to be acknowledged.
    pub acks: AckPolicy,
    /// Deliveries of one message at most; none for no bound.
    pub most_deliveries: Option<u64>,
}

impl Rules {
    /// Those of a configuration.
    pub fn of(config: &ConsumerConfig) -> Self {
        let most = u64::try_from(config.max_deliver).ok().filter(|most| *most > 0);
        Self { acks: config.ack_policy, most_deliveries: most }
    }
}

/// A step that no consumer of these rules makes, or a state that none is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Where nothing is acknowledged, nothing is delivered again.
    #[error("message {0} is delivered again, though nothing has to be acknowledged")]
    Again(Sequence),
    /// A floor passes what was delivered.
    #[error("the floor {floor} passes what was delivered, {delivered}")]
    Floor {
        /// The floor.
        floor: Sequence,
        /// The last delivery.
        delivered: Sequence,
    },
    /// A message waits that is acknowledged, or was never delivered.
    #[error("message {0} waits for its acknowledgement, but does not lie behind the floor")]
    Pending(Sequence),
}

/// Applies a step. Steps that a replay brings again change nothing.
///
/// Costs the logarithm of the messages that wait; an acknowledgement of all before it, and a reset,
/// besides what they let go.
///
/// # Errors
/// [`StepError`]; nothing is changed then.
pub(super) fn apply(
    state: &mut ConsumerState,
    rules: &Rules,
    step: &ConsumerOp,
) -> Result<(), StepError> {
    match step {
        ConsumerOp::Delivered { consumer, stream, count, timestamp } => {
            let at = SequencePair { consumer: *consumer, stream: *stream };
            return delivered(state, rules, at, *count, *timestamp);
        }
        ConsumerOp::Acks { consumer, stream } => {
            acknowledged(state, rules, SequencePair { consumer: *consumer, stream: *stream });
        }
        ConsumerOp::Skip { stream } => skipped(state, rules, stream.previous()),
        ConsumerOp::ResetSequence { stream, .. } => {
            let at = SequencePair { stream: stream.previous(), consumer: Sequence::ZERO };
            *state = ConsumerState { delivered: at, ack_floor: at, ..ConsumerState::default() };
        }
        // Was refused when it was read.
        ConsumerOp::Unknown { .. } => {}
    }
    Ok(())
}

fn delivered(
    state: &mut ConsumerState,
    rules: &Rules,
    at: SequencePair,
    count: u64,
    timestamp: i64,
) -> Result<(), StepError> {
    if rules.acks == AckPolicy::None && count != 1 {
        return Err(StepError::Again(at.stream));
    }
    if at.consumer <= state.ack_floor.consumer {
        return Ok(());
    }
    let new = at.stream > state.delivered.stream;
    state.delivered.consumer = state.delivered.consumer.max(at.consumer);
    state.delivered.stream = state.delivered.stream.max(at.stream);
    if rules.acks == AckPolicy::None {
        state.ack_floor = state.delivered;
        return Ok(());
    }
    if new {
        state.pending.insert(at.stream, Pending { sequence: at.consumer, timestamp });
    } else if let Some(pending) = state.pending.get_mut(&at.stream) {
        // It keeps the number of its first delivery, by which the floor moves.
        pending.timestamp = timestamp;
    }
    if count > 1 {
        if rules.most_deliveries.is_some_and(|most| count > most) {
            state.pending.remove(&at.stream);
        }
        let again = state.redelivered.entry(at.stream).or_default();
        *again = (*again).max(count - 1);
    }
    Ok(())
}

fn acknowledged(state: &mut ConsumerState, rules: &Rules, at: SequencePair) {
    if rules.acks == AckPolicy::None || at.consumer <= state.ack_floor.consumer {
        return;
    }
    let Some(first) = state.pending.get(&at.stream).map(|pending| pending.sequence) else {
        state.redelivered.remove(&at.stream);
        return;
    };
    if rules.acks == AckPolicy::All {
        return all_acknowledged(state, at);
    }
    state.pending.remove(&at.stream);
    state.redelivered.remove(&at.stream);
    let consumer = if first > Sequence::ZERO { at.consumer.min(first) } else { at.consumer };
    if state.pending.is_empty() {
        state.ack_floor = state.delivered;
    } else if consumer == state.ack_floor.consumer.next() {
        state.ack_floor = SequencePair { consumer, stream: at.stream };
        // All before the next message that waits is acknowledged.
        let next = state.pending.range(at.stream.next()..).next();
        if let Some((stream, waiting)) = next.filter(|_| state.delivered.consumer > consumer)
            && waiting.sequence > Sequence::ZERO
        {
            let before = waiting.sequence.previous();
            state.ack_floor = SequencePair { consumer: before, stream: stream.previous() };
        }
    }
}

/// A message is acknowledged, and all before it.
fn all_acknowledged(state: &mut ConsumerState, at: SequencePair) {
    let gap = at.stream.since(state.ack_floor.stream);
    let before = state.ack_floor.stream;
    // A floor never passes what was delivered, whatever number a client made up.
    let consumer = at.consumer.min(state.delivered.consumer);
    state.ack_floor = SequencePair { consumer, stream: at.stream };
    let walks_pending = gap > state.pending.len() as u64;
    let later = state.pending.split_off(&at.stream.next());
    let gone = core::mem::replace(&mut state.pending, later);
    // What was delivered too often waits no more and is told of by upstream until it is walked over.
    let sequences: Vec<Sequence> = match walks_pending {
        true => gone.into_keys().collect(),
        false => {
            let range = state.redelivered.range(before.next()..=at.stream);
            range.map(|(stream, _)| *stream).collect()
        }
    };
    for stream in sequences {
        state.redelivered.remove(&stream);
    }
}

fn skipped(state: &mut ConsumerState, rules: &Rules, last: Sequence) {
    if last > state.delivered.stream {
        state.delivered.stream = last;
        if rules.acks == AckPolicy::None {
            state.ack_floor.stream = last;
        }
    }
}

/// Whether a consumer could be in this state.
///
/// # Errors
/// [`StepError`] says why not.
pub(super) fn check(state: &ConsumerState) -> Result<(), StepError> {
    let (floor, delivered) = (state.ack_floor, state.delivered);
    for (floor, delivered) in
        [(floor.consumer, delivered.consumer), (floor.stream, delivered.stream)]
    {
        if floor > delivered {
            return Err(StepError::Floor { floor, delivered });
        }
    }
    let outside = |stream: &&Sequence| **stream <= floor.stream || **stream > delivered.stream;
    match state.pending.keys().find(outside) {
        Some(stream) => Err(StepError::Pending(*stream)),
        None => Ok(()),
    }
}
