//! One replica of a consumer: what of its stream it has delivered, and what of that is acknowledged.
//!
//! The rule: the state follows from the steps that its group committed, in their order, and from
//! nothing else. Neither floor ever passes what was delivered, and none moves back but by a reset.
//! Who leads decides on steps by the state as it will be when all that it proposed is committed.
//!
//! Delivery to clients is not here: who delivers asks the leader for each step, and sends a message
//! once the step is committed.
//!
//! Upstream: `ConsumerStore` as `consumerFileStore` in `server/filestore.go` and `consumerMemStore` in
//! `server/memstore.go` have it, `applyConsumerEntries` in `server/jetstream_cluster.go`, and of
//! `server/consumer.go` what proposes.

mod leadership;
mod steps;

use bytes::Bytes;

use crate::ids::Index;
use crate::time::Time;
use crate::wire::{ConsumerConfig, ConsumerOp, ConsumerState, WireError};

use leadership::Leadership;

pub use leadership::{Decided, Wish};
pub use steps::{Rules, StepError};

/// One replica of a consumer. Memory is that of the messages that wait for their acknowledgement.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    rules: Rules,
    state: ConsumerState,
    applied: Index,
    leadership: Option<Leadership>,
}

/// A committed step or snapshot that cannot be applied: the group has to stand aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// It cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is of a newer server.
    #[error("a step with the operation {0}, which no consumer of this version has")]
    Unknown(u8),
    /// No consumer could have made it.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Tells whether a snapshot's data could be installed.
///
/// # Errors
/// As [`ConsumerState::decode`] says.
pub fn check_snapshot(data: &Bytes) -> Result<(), WireError> {
    ConsumerState::decode(data).map(|_| ())
}

impl Consumer {
    /// A consumer that has delivered nothing.
    pub fn new(config: ConsumerConfig) -> Self {
        let rules = Rules::of(&config);
        let state = ConsumerState::default();
        Self { config, rules, state, applied: Index::ZERO, leadership: None }
    }

    /// How it is meant to be.
    pub const fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// How far it is.
    pub const fn state(&self) -> &ConsumerState {
        &self.state
    }

    /// The last record that was applied.
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// Until when it delivers nothing; none if it does not pause.
    pub fn paused_until(&self, now: Time) -> Option<Time> {
        let until = self.config.pause_until?.unix_nanos()?;
        let until = Time::from_nanos(u64::try_from(until).ok()?);
        (until > now).then_some(until)
    }

    /// It is meant to be otherwise from here on.
    pub fn reconfigure(&mut self, config: ConsumerConfig) {
        self.rules = Rules::of(&config);
        self.config = config;
    }

    /// Applies an entry; `own` says whether this leadership proposed it. Gives back who waited for
    /// it.
    ///
    /// # Errors
    /// [`ConsumerError`]; the consumer must not go on then.
    pub fn apply(&mut self, entry: &[u8], own: bool) -> Result<Option<Decided>, ConsumerError> {
        let step = ConsumerOp::decode_copied(entry)?;
        if let ConsumerOp::Unknown { op, .. } = step {
            return Err(ConsumerError::Unknown(op.as_u8()));
        }
        steps::apply(&mut self.state, &self.rules, &step)?;
        let leadership = self.leadership.as_mut().filter(|_| own);
        Ok(leadership.and_then(Leadership::applied))
    }

    /// A record was applied to its end.
    pub const fn reached(&mut self, index: Index) {
        self.applied = index;
    }

    /// A snapshot takes the place of all that was applied.
    ///
    /// # Errors
    /// As [`ConsumerState::decode`] says, or if no consumer could be in that state; nothing is changed
    /// then.
    pub fn install(&mut self, index: Index, data: &Bytes) -> Result<(), ConsumerError> {
        let (state, _) = ConsumerState::decode(data)?;
        steps::check(&state)?;
        (self.state, self.applied) = (state, index);
        Ok(())
    }

    /// The state, to be a snapshot. The times of deliveries are cut to seconds in it, as upstream's.
    pub fn snapshot(&self) -> Bytes {
        // Distances from the first delivery are the shortest.
        let first = self.state.pending.values().map(|pending| pending.timestamp).min();
        self.state.to_bytes(first.unwrap_or(0) / 1_000_000_000)
    }
}
