//! The one clock: the wall's time at the start, and what a monotonic clock measured since.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jetwake::time::Time;

/// Reads the time as the core wants it: since the Unix epoch, never running back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall: Time,
}

impl Clock {
    /// Starts the clock.
    #[allow(clippy::disallowed_methods, reason = "time enters the program here, and nowhere else")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall: Time::ZERO + wall }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.wall + self.started.elapsed()
    }

    /// How long it is until then; zero if that has passed.
    pub fn until(&self, moment: Time) -> Duration {
        moment.since(self.now())
    }
}
