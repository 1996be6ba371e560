//! What a consumer's leader decides on, and what it has proposed.
//!
//! Upstream: `updateDelivered`, `processAckMsg`, `updateSkipped` and `resetStartingSeq` in
//! `server/consumer.go`, as far as they decide what is proposed.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::{Consumer, steps};
use crate::ids::{RequestId, Sequence};
use crate::limits::Limits;
use crate::time::Time;
use crate::wire::{AckPolicy, ApiError, ConsumerOp, ConsumerState, DeliverPolicy};

/// What a leader has proposed.
#[derive(Debug)]
pub(super) struct Leadership {
    /// The state as it will be when all of it is committed.
    ahead: ConsumerState,
    /// One for each step that is not committed, in order.
    waiting: VecDeque<Option<Decided>>,
}

/// What who delivers asks of a consumer's leader.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Wish {
    /// Deliver a message, or deliver it again. It may be sent when this is answered, unless the answer
    /// says that it was delivered as often as it may be, and waits no more.
    Deliver {
        /// Which.
        sequence: Sequence,
    },
    /// A message was acknowledged, or never will be: it is not to be delivered again.
    Acknowledge {
        /// Which.
        sequence: Sequence,
        /// The number of the delivery that the client answers.
        delivery: Sequence,
    },
    /// Messages are not wanted: go on with this one.
    Skip {
        /// The next to look at.
        sequence: Sequence,
    },
    /// Start anew.
    Reset {
        /// The next message to deliver; zero for the first that is not acknowledged.
        sequence: Sequence,
    },
}

/// A wish that is proposed, and what its client is told when it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Who waits.
    pub request: RequestId,
    /// What is committed.
    pub step: ConsumerOp,
}

impl Leadership {
    pub(super) fn applied(&mut self) -> Option<Decided> {
        self.waiting.pop_front().flatten()
    }
}

impl Consumer {
    /// This node leads, and every record of earlier leaders was applied here.
    pub fn leadership_gained(&mut self) {
        let ahead = self.state.clone();
        self.leadership = Some(Leadership { ahead, waiting: VecDeque::new() });
    }

    /// This node leads no longer: those who wait are to be told that nothing is known.
    pub fn leadership_lost(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        let waiting = self.leadership.take().map(|leadership| leadership.waiting);
        waiting.into_iter().flatten().flatten().map(|decided| decided.request)
    }

    /// Decides on a wish: the step to propose; none for one that changes nothing while nothing
    /// else is proposed.
    ///
    /// # Errors
    /// Why not, in upstream's words where it has such.
    pub fn decide(
        &self,
        now: Time,
        wish: &Wish,
        limits: &Limits,
    ) -> Result<Option<ConsumerOp>, ApiError> {
        let leadership = self.leadership.as_ref().ok_or(ApiError::CLUSTER_NOT_LEADER)?;
        if leadership.waiting.len() >= limits.consumer_steps {
            return Err(ApiError::INSUFFICIENT_RESOURCES);
        }
        let ahead = &leadership.ahead;
        // What is done once all that is proposed is committed is proposed as well, a step that changes
        // nothing: whoever asks is not told before.
        let in_flight = !leadership.waiting.is_empty();
        match *wish {
            Wish::Deliver { sequence } => self.deliver(now, ahead, sequence, limits).map(Some),
            Wish::Acknowledge { .. } if self.rules.acks == AckPolicy::None => Ok(None),
            Wish::Acknowledge { sequence, delivery } => {
                let step = self.acknowledge(ahead, sequence, delivery);
                let nothing = ConsumerOp::Acks { consumer: Sequence::ZERO, stream: sequence };
                Ok(step.or_else(|| in_flight.then_some(nothing)))
            }
            Wish::Skip { sequence } => {
                let further = sequence > ahead.delivered.stream.next();
                Ok((further || in_flight).then_some(ConsumerOp::Skip { stream: sequence }))
            }
            Wish::Reset { sequence } => self.reset(ahead, sequence).map(Some),
        }
    }

    fn deliver(
        &self,
        now: Time,
        ahead: &ConsumerState,
        stream: Sequence,
        limits: &Limits,
    ) -> Result<ConsumerOp, ApiError> {
        if self.paused_until(now).is_some() {
            return Err(ApiError::CLUSTER_NOT_AVAIL);
        }
        if stream == Sequence::ZERO {
            return Err(ApiError::BAD_REQUEST);
        }
        let mut at = (ahead.delivered.consumer.next(), now.as_timestamp());
        let count = if stream > ahead.delivered.stream {
            let most = usize::try_from(self.config.max_ack_pending).unwrap_or(usize::MAX);
            let most = if most == 0 { usize::MAX } else { most }.min(limits.consumer_pending);
            if self.rules.acks != AckPolicy::None && ahead.pending.len() >= most {
                return Err(ApiError::INSUFFICIENT_RESOURCES);
            }
            1
        } else {
            // Again, if it waits: as often as before and once more.
            let waiting = ahead.pending.get(&stream).ok_or(ApiError::BAD_REQUEST)?;
            let count = ahead.redelivered.get(&stream).map_or(2, |again| again.saturating_add(2));
            if self.exceeds(count) {
                // It is no delivery, but the end of them.
                at = (waiting.sequence, waiting.timestamp);
            }
            count
        };
        let (consumer, timestamp) = at;
        Ok(ConsumerOp::Delivered { consumer, stream, count, timestamp })
    }

    /// Whether a message was delivered as often as it may be before this delivery.
    pub fn exceeds(&self, count: u64) -> bool {
        self.rules.most_deliveries.is_some_and(|most| count > most)
    }

    /// Acknowledgements of what does not wait are nothing new.
    fn acknowledge(
        &self,
        ahead: &ConsumerState,
        stream: Sequence,
        delivery: Sequence,
    ) -> Option<ConsumerOp> {
        let waiting = ahead.pending.get(&stream)?;
        let consumer = match self.rules.acks {
            AckPolicy::None => return None,
            AckPolicy::Explicit => waiting.sequence,
            // The client says up to which delivery; more than there were is not believed.
            AckPolicy::All => delivery.min(ahead.delivered.consumer),
        };
        (consumer > ahead.ack_floor.consumer).then_some(ConsumerOp::Acks { consumer, stream })
    }

    fn reset(&self, ahead: &ConsumerState, stream: Sequence) -> Result<ConsumerOp, ApiError> {
        let refused = |why: &str| ApiError::CONSUMER_INVALID_RESET.with(&[("err", &why)]);
        let stream = match self.config.deliver_policy {
            _ if stream == Sequence::ZERO => ahead.ack_floor.stream.next(),
            DeliverPolicy::All => stream,
            DeliverPolicy::ByStartSequence if stream.get() < self.config.opt_start_seq => {
                return Err(refused("below start seq"));
            }
            DeliverPolicy::ByStartSequence => stream,
            // Of a start by time it is not known here where that lies.
            _ => return Err(refused("not allowed")),
        };
        Ok(ConsumerOp::ResetSequence { stream, reply: Bytes::new() })
    }

    /// What was decided was proposed.
    pub fn proposed(&mut self, request: RequestId, step: ConsumerOp) {
        let Some(leadership) = &mut self.leadership else { return };
        // It was decided by this very state.
        let _ = steps::apply(&mut leadership.ahead, &self.rules, &step);
        leadership.waiting.push_back(Some(Decided { request, step }));
    }
}
