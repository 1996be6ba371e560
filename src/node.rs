//! All groups of one server: routes events, collects commands.

use alloc::collections::VecDeque;
use alloc::format;

use crate::command::Command;
use crate::config::{Config, ConfigError};
use crate::event::Event;
use crate::time::Time;

/// One server's part in all its groups.
#[derive(Debug)]
pub struct Node {
    config: Config,
    now: Time,
    commands: VecDeque<Command>,
}

/// Why a node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wake {
    /// Commands wait to be polled.
    Commands,
    /// A follower has not heard of a leader.
    Election,
    /// A leader is due to be heard.
    Heartbeat,
    /// A leader must still see a quorum.
    Quorum,
    /// A catchup must make progress.
    Catchup,
    /// A message expires.
    Expiry,
}

impl Node {
    /// A node that waits for [`Event::Opened`] of each of its groups.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that cannot work.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.name.is_empty() {
            return Err(ConfigError {
                field: "name".into(),
                why: format!("found {:?}, expected a server name", config.name),
            });
        }
        Ok(Self { config, now: Time::ZERO, commands: VecDeque::new() })
    }

    /// One thing happened.
    pub fn handle(&mut self, now: Time, _event: Event) {
        self.now = self.now.max(now);
    }

    /// The next thing to do; call until there is none.
    pub fn poll(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to hand in [`Event::DeadlineReached`], and why; none while nothing is due.
    pub fn deadline(&self) -> Option<(Time, Wake)> {
        (!self.commands.is_empty()).then_some((self.now, Wake::Commands))
    }

    /// What it was told before it started.
    pub const fn config(&self) -> &Config {
        &self.config
    }
}
