//! What every room may use while it handles one event, handed down from the node.

use crate::budget::Budget;
use crate::limits::{Limits, Timers};
use crate::outbox::Outbox;
use crate::random::Random;
use crate::time::Time;

/// The node's own things, lent to one group for one event.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of the event.
    pub now: Time,
    /// The bounds of the node.
    pub limits: &'a Limits,
    /// The intervals of the node.
    pub timers: &'a Timers,
    /// The node's randomness.
    pub random: &'a mut Random,
    /// Where commands go.
    pub out: &'a mut Outbox,
    /// The bytes in flight of all catchups that the node serves.
    pub budget: &'a mut Budget,
}
