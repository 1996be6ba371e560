//! Who delivers a consumer's messages: asks the consumer's leader for each step, and remembers what it
//! was told.
//!
//! The rule: a delivery that was granted is never forgotten, nor is its number given to another; a
//! message waits from its first delivery until it is acknowledged, or was delivered too often.

use std::collections::{BTreeMap, BTreeSet};

use jetwake::consumer::Wish;
use jetwake::event::Request;
use jetwake::ids::Sequence;
use jetwake::wire::{AckPolicy, ConsumerConfig, ConsumerState};

use crate::dice::{Dice, PerMillion};

/// How many messages may be left open before none is delivered that was not.
const OPEN: usize = 64;
/// What is said of a delivery that can never be.
const BAD_REQUEST: u64 = 10_003;
/// What is said of one for which there is no room.
const FULL: u64 = 10_023;

/// How a consumer's messages are delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryPlan {
    /// How likely a message that was delivered is acknowledged next, rather than another delivered.
    pub acknowledges: PerMillion,
    /// How likely a message is delivered again.
    pub again: PerMillion,
    /// How likely some messages are passed over.
    pub skips: PerMillion,
}

/// A step that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Deliver a message.
    Deliver(Sequence),
    /// A message is acknowledged, and the delivery of this number was.
    Acknowledge(Sequence, Sequence),
    /// Go on with this message.
    Skip(Sequence),
}

impl Step {
    /// The request for it.
    pub const fn request(self) -> Request {
        Request::Consumer(match self {
            Self::Deliver(sequence) => Wish::Deliver { sequence },
            Self::Acknowledge(sequence, delivery) => Wish::Acknowledge { sequence, delivery },
            Self::Skip(sequence) => Wish::Skip { sequence },
        })
    }
}

/// A delivery that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number.
    pub number: Sequence,
    /// Which message.
    pub message: Sequence,
    /// How often the message was delivered, this time included.
    pub count: u64,
    /// Whether that is more often than it may be: it is the end of its deliveries, and none itself.
    pub exceeded: bool,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    /// The last delivery that was told of: its number, and how often it was delivered.
    told: Option<(Sequence, u64)>,
    acknowledge_asked: bool,
    acknowledged: bool,
    exceeded: bool,
}

impl Message {
    /// Whether it is known that it waits no more.
    const fn is_done(&self) -> bool {
        self.acknowledged || self.exceeded
    }
}

/// All that was asked of a consumer and told of it.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    messages: BTreeMap<Sequence, Message>,
    numbers: BTreeSet<Sequence>,
    /// Messages that may wait: those that were asked for, and not said to be done with.
    open: BTreeSet<Sequence>,
    /// How often a delivery was granted.
    granted: u64,
    /// The last message that was asked for, or passed over.
    last: Sequence,
}

impl Deliveries {
    /// What is asked for next.
    pub fn next_step(&mut self, plan: &DeliveryPlan, dice: &mut Dice) -> Step {
        let (acknowledges, again) = (dice.chance(plan.acknowledges), dice.chance(plan.again));
        let place = dice.place(self.open.len());
        // Whoever never acknowledges gets nothing more.
        let enough = self.open.len() >= OPEN;
        let looks_back = acknowledges || again || enough;
        let open = if looks_back { self.open.iter().nth(place) } else { None };
        if let Some(sequence) = open.copied() {
            let message = self.messages.entry(sequence).or_default();
            let number = message.told.filter(|_| acknowledges || enough && !again);
            message.acknowledge_asked |= number.is_some();
            return match number {
                Some((number, _)) => Step::Acknowledge(sequence, number),
                None => Step::Deliver(sequence),
            };
        }
        if dice.chance(plan.skips) {
            self.last = self.last.plus(1 + dice.below(5));
            return Step::Skip(self.last.next());
        }
        self.last = self.last.next();
        self.messages.insert(self.last, Message::default());
        self.open.insert(self.last);
        Step::Deliver(self.last)
    }

    /// A step was refused.
    pub fn refused(&mut self, step: Step, code: u64) {
        match (step, code) {
            // It was passed over, or waits no more; whoever led no longer may have been wrong.
            (Step::Deliver(sequence), BAD_REQUEST) => drop(self.open.remove(&sequence)),
            // So many wait that none more is delivered, and of none it is known which they are.
            (Step::Deliver(_), FULL) if !self.open.iter().any(|at| self.is_told(*at)) => {
                let left = self.messages.iter().filter(|(_, message)| !message.is_done());
                self.open.extend(left.map(|(sequence, _)| *sequence));
            }
            _ => {}
        }
    }

    fn is_told(&self, sequence: Sequence) -> bool {
        self.messages.get(&sequence).is_some_and(|message| message.told.is_some())
    }

    /// A delivery was granted.
    ///
    /// # Errors
    /// What it contradicts.
    pub fn delivered(&mut self, asked: Sequence, delivery: Delivery) -> Result<(), String> {
        let Delivery { number, message: sequence, count, exceeded } = delivery;
        if sequence != asked {
            return Err(format!("message {asked} was asked for, and {sequence} delivered"));
        }
        self.granted += 1;
        let message = self.messages.entry(sequence).or_default();
        if exceeded {
            message.exceeded = true;
            self.open.remove(&sequence);
            return Ok(());
        }
        if !self.numbers.insert(number) {
            return Err(format!("delivery {number}, of message {sequence}, was another's"));
        }
        // Answers overtake each other: the later delivery has the larger number and the larger count.
        if let Some((before, times)) = message.told
            && (number > before) != (count > times)
        {
            return Err(format!(
                "message {sequence}: delivery {number} counts {count}, and {before} counts {times}"
            ));
        }
        message.told = message.told.max(Some((number, count)));
        if !message.is_done() {
            self.open.insert(sequence);
        }
        Ok(())
    }

    /// How often a delivery was granted.
    pub const fn granted(&self) -> u64 {
        self.granted
    }

    /// A message is acknowledged.
    pub fn acknowledged(&mut self, sequence: Sequence) {
        self.messages.entry(sequence).or_default().acknowledged = true;
        self.open.remove(&sequence);
    }

    /// Holds a replica's state against what was told.
    ///
    /// # Errors
    /// What it contradicts.
    pub fn check(&self, config: &ConsumerConfig, state: &ConsumerState) -> Result<(), String> {
        let last = self.numbers.last().copied().unwrap_or(Sequence::ZERO);
        if state.delivered.consumer < last {
            let known = state.delivered.consumer;
            return Err(format!("delivery {last} was granted, and {known} is the last"));
        }
        let explicit = config.ack_policy != AckPolicy::None;
        for (sequence, message) in &self.messages {
            let waits = state.pending.contains_key(sequence);
            let must = message.told.is_some() && explicit;
            let must = must && !message.acknowledge_asked && !message.exceeded;
            // Whoever asked for one delivery more and was not told may have ended them.
            let must = must && config.max_deliver <= 0;
            let must_not = message.is_done();
            if message.told.is_some() && *sequence > state.delivered.stream {
                return Err(format!("message {sequence} was delivered, and is not known of"));
            }
            if must && !waits {
                return Err(format!("message {sequence} was delivered, and does not wait"));
            }
            if must_not && waits {
                return Err(format!("message {sequence} is done with, and waits"));
            }
        }
        let unasked = state.pending.keys().find(|sequence| !self.messages.contains_key(sequence));
        match unasked {
            Some(sequence) => Err(format!("message {sequence} waits, and nobody asked for it")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetwake::wire::{Pending, SequencePair};

    fn at(sequence: u64) -> Sequence {
        Sequence::new(sequence)
    }

    fn delivery(number: u64, message: u64, count: u64) -> Delivery {
        Delivery { number: at(number), message: at(message), count, exceeded: false }
    }

    fn told(deliveries: &[(u64, u64, u64)]) -> Deliveries {
        let mut all = Deliveries::default();
        for (number, message, count) in deliveries {
            let delivery = delivery(*number, *message, *count);
            all.delivered(at(*message), delivery).expect("nothing is said twice");
        }
        all
    }

    fn state(consumer: u64, stream: u64, pending: &[u64]) -> ConsumerState {
        let waits = Pending { sequence: at(1), timestamp: 0 };
        ConsumerState {
            delivered: SequencePair { consumer: at(consumer), stream: at(stream) },
            pending: pending.iter().map(|sequence| (at(*sequence), waits)).collect(),
            ..ConsumerState::default()
        }
    }

    #[test]
    fn no_number_is_given_twice_and_counts_rise_with_numbers() {
        let mut all = told(&[(1, 1, 1), (4, 1, 2), (2, 2, 1)]);
        assert!(all.delivered(at(3), delivery(4, 3, 1)).is_err(), "it was message 1's");
        assert!(all.delivered(at(3), delivery(5, 2, 1)).is_err(), "nobody asked for 2");
        assert!(all.delivered(at(1), delivery(6, 1, 2)).is_err(), "it counts no further");
        assert_eq!(all.delivered(at(1), delivery(3, 1, 1)), Ok(()), "an answer that came late");
    }

    #[test]
    fn what_was_told_must_be_in_the_state() {
        let config =
            ConsumerConfig { ack_policy: AckPolicy::Explicit, ..ConsumerConfig::default() };
        let mut all = told(&[(1, 1, 1), (2, 2, 1)]);
        assert_eq!(all.check(&config, &state(2, 2, &[1, 2])), Ok(()));
        assert!(all.check(&config, &state(1, 2, &[1, 2])).is_err(), "delivery 2 is forgotten");
        assert!(all.check(&config, &state(2, 1, &[1, 2])).is_err(), "message 2 is forgotten");
        assert!(all.check(&config, &state(2, 2, &[1])).is_err(), "message 2 does not wait");
        assert!(all.check(&config, &state(3, 3, &[1, 2, 3])).is_err(), "nobody asked for 3");
        all.messages.entry(at(2)).or_default().acknowledge_asked = true;
        assert_eq!(all.check(&config, &state(2, 2, &[1])), Ok(()));
        assert_eq!(all.check(&config, &state(2, 2, &[1, 2])), Ok(()));
        all.acknowledged(at(2));
        assert!(all.check(&config, &state(2, 2, &[1, 2])).is_err(), "message 2 still waits");
    }
}
