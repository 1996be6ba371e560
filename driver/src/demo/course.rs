//! How far the publishing may go, and what those who wait for it see of it.
//!
//! The demo has a plot: each event has its place in the publishing. The publisher runs freely up
//! to the next such place. While something is under way that takes its time (a node is away, a
//! node catches up), it goes on ever more slowly instead, so that it neither ends too early nor
//! stands still.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use jetwake::time::Time;
use tokio::sync::watch;

use super::DemoError;

/// When the follower is killed, in percent of all messages acknowledged.
pub(super) const FOLLOWER_KILLED: u64 = 40;
/// How long the follower stays away.
pub(super) const FOLLOWER_RESTARTED: u64 = 60;
/// When the leader is killed.
pub(super) const LEADER_KILLED: u64 = 75;

/// The shares that are never passed before the event behind them has happened.
const BEFORE_FOLLOWER_KILLED: u64 = 45;
const BEFORE_LEADER_KILLED: u64 = 90;
/// The time in which all but a third or so of a share is used up while it lasts.
const SLOWING: Duration = Duration::from_secs(2);

/// Between the publisher and those who disturb it.
#[derive(Debug)]
pub(super) struct Course {
    messages: u64,
    limit: Cell<Limit>,
    /// How many messages are acknowledged.
    acked: watch::Sender<u64>,
    /// The highest sequence that was acknowledged.
    pub(super) highest: Cell<u64>,
    /// Who takes the messages.
    pub(super) leader: RefCell<Option<String>>,
    /// How many leaders there have been.
    pub(super) leaders: Cell<u64>,
    /// When the leader was killed, and how many there had been.
    pub(super) killed: Cell<Option<(Time, u64)>>,
    /// How long it took from then to the first acknowledgement of the next.
    pub(super) failover: Cell<Option<Duration>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// Up to here.
    Free(u64),
    /// Ever more slowly from here at this time, and never beyond there.
    Slowed { from: u64, since: Time, to: u64 },
}

impl Course {
    pub(super) fn new(messages: u64) -> Self {
        let course = Self {
            messages,
            limit: Cell::new(Limit::Free(0)),
            acked: watch::Sender::new(0),
            highest: Cell::new(0),
            leader: RefCell::new(None),
            leaders: Cell::new(0),
            killed: Cell::new(None),
            failover: Cell::new(None),
        };
        course.limit.set(Limit::Free(course.share(BEFORE_FOLLOWER_KILLED)));
        course
    }

    /// How many messages there are.
    pub(super) const fn messages(&self) -> u64 {
        self.messages
    }

    /// So many percent of all messages.
    pub(super) fn share(&self, percent: u64) -> u64 {
        (u128::from(self.messages) * u128::from(percent) / 100) as u64
    }

    /// How many messages may have been sent by now.
    pub(super) fn allowed(&self, now: Time) -> u64 {
        match self.limit.get() {
            Limit::Free(to) => to,
            Limit::Slowed { from, since, to } => {
                let elapsed = now.since(since).as_secs_f64() / SLOWING.as_secs_f64();
                let used = 1.0 - (-elapsed).exp();
                from + (to.saturating_sub(from) as f64 * used) as u64
            }
        }
    }

    /// A follower is away: go on slowly until it is back.
    pub(super) fn follower_away(&self, now: Time) {
        let from = self.allowed(now).min(self.acked().max(self.share(FOLLOWER_KILLED)));
        self.limit.set(Limit::Slowed { from, since: now, to: self.share(LEADER_KILLED) });
    }

    /// The follower is back: go on up to where the leader must be killed.
    pub(super) fn follower_back(&self) {
        self.limit.set(Limit::Free(self.share(BEFORE_LEADER_KILLED)));
    }

    /// The leader was killed: there is nothing to wait for any more.
    pub(super) fn leader_killed(&self, now: Time) {
        self.killed.set(Some((now, self.leaders.get())));
        self.limit.set(Limit::Free(self.messages));
    }

    /// How many messages are acknowledged.
    pub(super) fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// So many messages are acknowledged now.
    pub(super) fn set_acked(&self, acked: u64) {
        self.acked.send_replace(acked);
    }

    /// Waits until so many messages are acknowledged, however long that takes.
    pub(super) async fn reaches(&self, acked: u64) -> Result<(), DemoError> {
        // The sender lives as long as this borrow, so it cannot be gone.
        let reached = self.acked.subscribe().wait_for(|now| *now >= acked).await.is_ok();
        if reached { Ok(()) } else { Err(DemoError::Input("the publisher is gone".into())) }
    }

    /// Waits for the first acknowledgement of the next leader.
    pub(super) async fn failed_over(&self) -> Duration {
        let mut acked = self.acked.subscribe();
        loop {
            if let Some(failover) = self.failover.get() {
                return failover;
            }
            // An error means that the sender is gone, which lives as long as this borrow.
            if acked.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn each_event_has_room_before_and_behind_it() {
        for messages in [100, 101, 5000, 200_000, u64::MAX / 2] {
            let course = Course::new(messages);
            let first = course.allowed(at(0));
            assert!(first >= course.share(FOLLOWER_KILLED) && first < messages);
            course.set_acked(course.share(FOLLOWER_KILLED));
            course.follower_away(at(10));
            let away = course.allowed(at(1_000));
            assert!(away >= course.share(FOLLOWER_RESTARTED), "{away} of {messages}");
            assert!(away <= course.share(LEADER_KILLED), "{away} of {messages}");
            course.follower_back();
            let back = course.allowed(at(1_001));
            assert!(back >= course.share(LEADER_KILLED) && back < messages);
            course.leader_killed(at(1_002));
            assert_eq!(course.allowed(at(1_002)), messages);
        }
    }

    #[test]
    fn while_a_follower_is_away_publishing_slows_down_and_does_not_stop() {
        let course = Course::new(1_000_000);
        course.set_acked(400_000);
        course.follower_away(at(10));
        let steps: Vec<u64> = (10..18).map(|second| course.allowed(at(second))).collect();
        let rates: Vec<u64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(steps[0], 400_000);
        assert!(rates.windows(2).all(|pair| pair[0] > pair[1] && pair[1] > 0), "{rates:?}");
    }
}
