//! The clock of one machine: it starts off the truth, drifts, and may jump ahead.

use jetwake::time::{Duration, Time};

const MILLION: u128 = 1_000_000;

/// Translates between true time, which starts at zero, and what one machine's clock shows.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    set_at: Time,
    shows: Time,
    /// Parts per million that it runs too fast, or too slow below zero.
    drift: i32,
    /// The same, for a while.
    more: i32,
}

impl Clock {
    /// A clock that shows a moment at the true time zero, and drifts by parts per million.
    pub const fn new(shows: Time, drift: i32) -> Self {
        Self { set_at: Time::ZERO, shows, drift, more: 0 }
    }

    /// What it shows at a true time.
    pub fn shows(&self, at: Time) -> Time {
        let passed = u128::from(at.since(self.set_at).as_nanos() as u64);
        Time::from_nanos(self.shows.as_nanos() + (passed * self.rate() / MILLION) as u64)
    }

    /// The first true time at which it shows this moment or a later one.
    pub fn when(&self, shown: Time) -> Time {
        let wanted = u128::from(shown.since(self.shows).as_nanos() as u64);
        let nanos = (wanted * MILLION).div_ceil(self.rate());
        self.set_at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Jumps ahead at a true time.
    pub fn jump(&mut self, at: Time, by: Duration) {
        *self = Self { set_at: at, shows: self.shows(at) + by, ..*self };
    }

    /// From a true time on, drifts by so much more than it does by itself; at minus a million it
    /// stands still.
    pub fn drift_more(&mut self, at: Time, more: i32) {
        *self = Self { set_at: at, shows: self.shows(at), more, ..*self };
    }

    fn rate(&self) -> u128 {
        // A clock that stands still creeps, so that each moment has a time.
        (MILLION as i128 + i128::from(self.drift) + i128::from(self.more)).max(1) as u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_reached_exactly_when_it_is_shown() {
        for drift in [-200_000, -37, 0, 41, 200_000] {
            let mut clock = Clock::new(Time::from_nanos(1_000_000_007), drift);
            clock.jump(Time::from_nanos(500), Duration::from_nanos(77));
            for ahead in [0, 1, 999, 1_000_000_003] {
                let wanted = clock.shows(Time::from_nanos(500)) + Duration::from_nanos(ahead);
                let at = clock.when(wanted);
                assert!(clock.shows(at) >= wanted, "drift {drift}, ahead {ahead}");
                let before = Time::from_nanos(at.as_nanos().saturating_sub(1));
                assert!(ahead == 0 || clock.shows(before) < wanted, "drift {drift}, ahead {ahead}");
            }
        }
    }
}
