//! The client that publishes: as fast as acknowledgements come, and it keeps the record.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use indicatif::HumanCount;
use jetwake::time::Time;
use tokio::time::{sleep, timeout};

use super::DemoError;
use super::course::{Course, FOLLOWER_KILLED};
use super::record::Record;
use super::story::{Bar, Story};
use super::workload::{Messages, Outgoing};
use crate::client::publisher::{Published, Publisher};
use crate::clock::Clock;

/// Messages sent and not acknowledged, at most. Twice as many are no faster and wait twice as long.
pub(super) const WINDOW: usize = 4 * 1024;
/// Bytes of them, at most.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// How long to rest when nothing may be sent.
const REST: Duration = Duration::from_millis(5);
/// How long no message may be acknowledged. More than the publisher itself takes to give up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured before anything was disturbed: from the first message to the
/// acknowledgement of the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Undisturbed {
    /// How many messages.
    pub(super) messages: u64,
    /// How long they took.
    pub(super) seconds: f64,
    /// From handing a message to the client to its acknowledgement: half took less.
    pub(super) p50_milliseconds: f64,
    /// 99 of 100 took less.
    pub(super) p99_milliseconds: f64,
}

impl Undisturbed {
    /// Messages acknowledged each second.
    pub(super) fn messages_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.messages as f64 / self.seconds } else { 0.0 }
    }
}

/// Publishes everything.
pub(super) struct Publishing<'a> {
    pub(super) clock: Clock,
    pub(super) story: &'a Story,
    pub(super) course: &'a Course,
    pub(super) record: &'a RefCell<Record>,
    pub(super) undisturbed: &'a RefCell<Option<Undisturbed>>,
    pub(super) publisher: Publisher,
    pub(super) messages: Messages,
}

/// Messages that are not acknowledged yet, from the first of them on.
#[derive(Debug, Default)]
struct InFlight {
    first: u64,
    sent: VecDeque<Sent>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Time,
    /// Zero once it is acknowledged.
    bytes: u32,
}

impl InFlight {
    fn push(&mut self, at: Time, bytes: u32) {
        self.sent.push_back(Sent { at, bytes });
        self.bytes += u64::from(bytes);
    }

    /// When the message was sent that is acknowledged now.
    fn take(&mut self, number: u64) -> Option<Time> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sent = self.sent.get_mut(place)?;
        self.bytes -= u64::from(std::mem::take(&mut sent.bytes));
        let at = sent.at;
        while let Some(Sent { bytes: 0, .. }) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
        Some(at)
    }
}

impl Publishing<'_> {
    /// Runs until every message is acknowledged.
    pub(super) async fn run(mut self, bar: Bar<'_>) -> Result<(), DemoError> {
        let measured = self.course.share(FOLLOWER_KILLED);
        let mut latencies = Vec::with_capacity(usize::try_from(measured).unwrap_or(0));
        let (mut flight, mut outcomes) = (InFlight::default(), Vec::new());
        let begun = self.clock.now();
        loop {
            let now = self.clock.now();
            self.offer(now, &mut flight)?;
            if self.publisher.is_done() {
                if self.record.borrow().acked() == self.course.messages() {
                    return Ok(());
                }
                sleep(REST).await;
                continue;
            }
            self.wait(&mut outcomes).await?;
            let now = self.clock.now();
            self.take(&outcomes, now, measured, &mut flight, &mut latencies)?;
            outcomes.clear();
            let acked = self.record.borrow().acked();
            if acked >= measured && self.undisturbed.borrow().is_none() {
                let took = now.since(begun);
                let figures = undisturbed(acked, took, &mut latencies);
                self.story.line(&format!(
                    "{} acknowledged, {} each second; half within {:.1} ms, 99 % within {:.1} ms",
                    HumanCount(acked),
                    HumanCount(figures.messages_per_second() as u64),
                    figures.p50_milliseconds,
                    figures.p99_milliseconds,
                ));
                self.undisturbed.replace(Some(figures));
            }
            self.tell(now, acked);
            bar.set(acked);
        }
    }

    /// Hands messages to the publisher as long as there is room.
    fn offer(&mut self, now: Time, flight: &mut InFlight) -> Result<(), DemoError> {
        let mut record = self.record.borrow_mut();
        let allowed = self.course.allowed(now);
        while self.publisher.has_room()
            && flight.bytes < WINDOW_BYTES
            && record.sent_count() < allowed
        {
            let Some(Outgoing { request, hash, bytes }) = self.messages.next()? else { break };
            // It was asked for room above.
            if self.publisher.offer(request).is_err() {
                return Err(DemoError::Input("the publisher has no room".into()));
            }
            record.sent(hash);
            flight.push(now, bytes);
        }
        Ok(())
    }

    async fn wait(&mut self, outcomes: &mut Vec<Published>) -> Result<(), DemoError> {
        match timeout(PATIENCE, self.publisher.outcomes(outcomes)).await {
            Ok(done) => done.map_err(|why| DemoError::Client { step: "publishing".into(), why }),
            Err(_) => {
                let leader = self.publisher.leader().unwrap_or("nobody");
                Err(DemoError::Hung {
                    step: "publishing".into(),
                    patience: PATIENCE,
                    how: format!("{leader} took messages and acknowledged none"),
                })
            }
        }
    }

    fn take(
        &self,
        outcomes: &[Published],
        now: Time,
        measured: u64,
        flight: &mut InFlight,
        latencies: &mut Vec<u32>,
    ) -> Result<(), DemoError> {
        let mut record = self.record.borrow_mut();
        for Published { number, outcome } in outcomes {
            let stored = outcome.as_ref().map_err(|why| DemoError::Refused {
                what: format!("message {number}"),
                why: why.clone(),
            })?;
            record.acknowledged(*number, stored.sequence, stored.duplicate);
            if let Some(at) = flight.take(*number)
                && *number < measured
            {
                let micros = now.since(at).as_micros();
                latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
            }
        }
        self.course.highest.set(record.highest_sequence());
        Ok(())
    }

    /// Lets the others see how far it is.
    fn tell(&self, now: Time, acked: u64) {
        let course = self.course;
        if course.leaders.get() != self.publisher.leaders() {
            course.leaders.set(self.publisher.leaders());
            course.leader.replace(self.publisher.leader().map(str::to_owned));
        }
        if let Some((killed, leaders)) = course.killed.get()
            && course.failover.get().is_none()
            && self.publisher.leaders() > leaders
            && self.publisher.leader().is_some()
        {
            course.failover.set(Some(now.since(killed)));
        }
        course.set_acked(acked);
    }
}

fn undisturbed(messages: u64, took: Duration, latencies: &mut [u32]) -> Undisturbed {
    latencies.sort_unstable();
    let at = |percent: usize| {
        let place = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
        latencies.get(place).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    };
    Undisturbed {
        messages,
        seconds: took.as_secs_f64(),
        p50_milliseconds: at(50),
        p99_milliseconds: at(99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_ranks() {
        let mut latencies: Vec<u32> = (1..=200).rev().map(|n| n * 1000).collect();
        let figures = undisturbed(200, Duration::from_millis(500), &mut latencies);
        assert_eq!((figures.p50_milliseconds, figures.p99_milliseconds), (100.0, 198.0));
        assert!((figures.messages_per_second() - 400.0).abs() < 1e-9);
        let none = undisturbed(0, Duration::ZERO, &mut []);
        assert_eq!((none.p99_milliseconds, none.messages_per_second()), (0.0, 0.0));
    }

    #[test]
    fn messages_in_flight_are_taken_in_any_order() {
        let mut flight = InFlight::default();
        for n in 0..4 {
            flight.push(Time::from_nanos(n), 10);
        }
        assert_eq!(flight.take(2), Some(Time::from_nanos(2)));
        assert_eq!((flight.bytes, flight.sent.len()), (30, 4));
        assert_eq!(flight.take(0), Some(Time::from_nanos(0)));
        assert_eq!(flight.take(1), Some(Time::from_nanos(1)));
        assert_eq!((flight.bytes, flight.sent.len(), flight.first), (10, 1, 3));
        assert_eq!(flight.take(1), None);
        assert_eq!(flight.take(4), None);
    }
}
