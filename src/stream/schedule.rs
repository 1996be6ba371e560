//! Messages that send others: once at a time, or again and again.
//!
//! Upstream: `MsgScheduling` in `server/scheduler.go`. Every replica knows when each schedule sends next,
//! from the messages alone; the leader reads what is due, and proposes what it sends as if a client had
//! published it. What a schedule has sent says when it sends again, or that it is done.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;

use bytes::Bytes;

use super::Stream;
use super::batch::Published;
use super::duration;
use super::header::{self, Fields};
use super::header_edit;
use super::index::StreamIndex;
use super::lifetimes::Life;
use crate::context::Context;
use crate::event::StoredMessage;
use crate::ids::{LoadId, Sequence};
use crate::subject;
use crate::time::{Duration, Time};
use crate::wire::{ApiError, GoTime, StreamMessage, StreamMessageView};

const SECOND: i64 = 1_000_000_000;
/// Schedules that send in one step.
const MOST: usize = 256;
/// Rest between two steps.
const REST: Duration = Duration::from_millis(250);
/// Rest of a schedule whose message was refused.
const RETRY: Duration = Duration::from_secs(5);
/// Entries of messages that are gone are kept up to here, whatever the stream holds.
const SPARE: usize = 1024;

/// When a schedule sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct When {
    next: i64,
    repeats: bool,
}

/// What is wrong with a pattern.
struct BadPattern;

/// Reads a pattern, `@at` a time or `@every` so long: when a schedule sends that was written, or has
/// sent, at `from`. Upstream: `parseMsgSchedule`.
fn parse(pattern: &[u8], from: i64, now: i64) -> Result<When, BadPattern> {
    let text = core::str::from_utf8(pattern).map_err(|_| BadPattern)?;
    if let Some(at) = text.strip_prefix("@at ") {
        let next = GoTime::parse(at).ok().and_then(GoTime::unix_nanos).ok_or(BadPattern)?;
        return Ok(When { next, repeats: false });
    }
    let every = text.strip_prefix("@every ").ok_or(BadPattern)?;
    let every = duration::parse(every.as_bytes()).filter(|every| *every >= SECOND);
    let every = every.ok_or(BadPattern)?;
    let mut next = rounded(from).saturating_add(every);
    if next < now {
        // What was missed is sent once.
        next = rounded(now).saturating_add(every);
    }
    Ok(When { next, repeats: true })
}

/// The nearest whole second.
const fn rounded(nanos: i64) -> i64 {
    nanos.saturating_add(SECOND / 2).div_euclid(SECOND).saturating_mul(SECOND)
}

/// One schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Schedule {
    sequence: Sequence,
    next: i64,
}

/// The schedules of a stream, by their subjects.
#[derive(Debug)]
pub(super) struct Schedules {
    on: bool,
    by_subject: BTreeMap<Bytes, Schedule>,
    by_time: BTreeSet<(i64, Bytes)>,
}

impl Schedules {
    /// Of a stream that hears them if `on`.
    pub(super) const fn new(on: bool) -> Self {
        Self { on, by_subject: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// A message was added: it may be a schedule, take the place of one, or come from one.
    pub(super) fn added(
        &mut self,
        sequence: Sequence,
        message: &StreamMessageView<'_>,
        fields: &Fields<'_>,
    ) {
        if !self.on {
            return;
        }
        let subject = Bytes::copy_from_slice(message.subject);
        let when = fields.schedule.map(|text| parse(text, message.timestamp, message.timestamp));
        match when {
            Some(Ok(When { next, .. })) => self.set(&subject, Schedule { sequence, next }),
            _ => self.remove(message.subject),
        }
        if let (Some(scheduler), Some(next)) = (fields.scheduler, fields.schedule_next)
            && let Some(next) =
                core::str::from_utf8(next).ok().and_then(|text| GoTime::parse(text).ok())
            && let Some(next) = next.unix_nanos()
            && let Some(schedule) = self.by_subject.get(scheduler).copied()
        {
            self.set(&Bytes::copy_from_slice(scheduler), Schedule { next, ..schedule });
        }
    }

    fn set(&mut self, subject: &Bytes, schedule: Schedule) {
        self.remove(subject);
        self.by_time.insert((schedule.next, subject.clone()));
        self.by_subject.insert(subject.clone(), schedule);
    }

    /// Forgets the schedule of a subject.
    fn remove(&mut self, subject: &[u8]) {
        if let Some((subject, schedule)) = self.by_subject.remove_entry(subject) {
            self.by_time.remove(&(schedule.next, subject));
        }
    }

    /// Keeps no more entries than twice the messages that there are.
    pub(super) fn stay_small(&mut self, index: &StreamIndex) {
        let entries = self.by_subject.len();
        if entries > SPARE && entries as u64 / 2 > index.messages() {
            self.by_subject.retain(|_, schedule| index.get(schedule.sequence).is_some());
            let Self { by_subject, by_time, .. } = self;
            by_time.retain(|(_, subject)| by_subject.contains_key(subject));
        }
    }
}

/// A schedule that sends now.
#[derive(Debug)]
struct Sending {
    subject: Bytes,
    schedule: Schedule,
    /// What the schedule sends, once that is known: then its source is read.
    found: Option<Found>,
}

/// What a schedule says of what it sends.
#[derive(Debug)]
struct Found {
    target: Bytes,
    ttl: Option<Bytes>,
    when: When,
}

/// The schedules that one leadership lets send.
#[derive(Debug, Default)]
pub(super) struct Sendings {
    reads: BTreeMap<LoadId, Sending>,
    /// Subjects of schedules whose message is read or in flight, and until when that is believed.
    busy: BTreeMap<Bytes, Sequence>,
    after: Time,
    /// What they send, to be checked and proposed.
    pub(super) ready: alloc::collections::VecDeque<(Bytes, Published)>,
}

impl Sendings {
    /// A schedule's message was not taken: it is sent again after a rest.
    pub(super) fn refused(&mut self, subject: &[u8], now: Time) {
        self.busy.remove(subject);
        self.after = self.after.max(now + RETRY);
    }

    /// What a schedule has sent was stored.
    pub(super) fn applied(&mut self, fields: &Fields<'_>) {
        if let Some(scheduler) = fields.scheduler {
            self.busy.remove(scheduler);
        }
    }
}

impl Stream {
    /// When the next schedule sends.
    pub(super) fn schedule_deadline(&self) -> Option<Time> {
        let sendings = &self.leadership.as_ref()?.sendings;
        let schedules = &self.contents.schedules;
        let idle = |(_, subject): &&(i64, Bytes)| !sendings.busy.contains_key(subject);
        let (next, _) = schedules.by_time.iter().take(sendings.busy.len() + 1).find(idle)?;
        let next = Time::from_nanos(u64::try_from(*next).unwrap_or(0));
        Some(next.max(sendings.after))
    }

    /// A moment of [`schedule_deadline`](Self::schedule_deadline) has come.
    pub(super) fn send_scheduled(&mut self, context: &mut Context<'_>) {
        let due = self.schedule_deadline().is_some_and(|at| at <= context.now);
        let Some(leadership) = self.leadership.as_mut().filter(|_| due) else { return };
        let sendings = &mut leadership.sendings;
        sendings.after = context.now + REST;
        let now = context.now.as_timestamp();
        let contents = &mut self.contents;
        let all = contents.schedules.by_time.iter().take_while(|(next, _)| *next <= now);
        let idle = all.filter(|(_, subject)| !sendings.busy.contains_key(subject));
        let due: alloc::vec::Vec<_> = idle.take(MOST).map(|(_, subject)| subject.clone()).collect();
        for subject in due {
            let Some(schedule) = contents.schedules.by_subject.get(&subject).copied() else {
                continue;
            };
            if contents.index.get(schedule.sequence).is_none() {
                contents.schedules.remove(&subject);
                continue;
            }
            sendings.busy.insert(subject.clone(), schedule.sequence);
            let range = (schedule.sequence, schedule.sequence);
            let load = context.out.read(self.group, range, 1, context.limits.load);
            sendings.reads.insert(load, Sending { subject, schedule, found: None });
        }
    }

    /// A message was read, perhaps a schedule's or what it sends.
    pub(super) fn schedule_read(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
    ) {
        let Some(sendings) = self.leadership.as_mut().map(|own| &mut own.sendings) else { return };
        let Some(sending) = sendings.reads.remove(&load) else { return };
        let Sending { subject, schedule, found } = sending;
        let message = messages.first();
        let message =
            message.and_then(|found| StreamMessage::decode(&found.record, context.limits).ok());
        let Some(message) = message else {
            // It is gone, or its source is; upstream forgets the schedule then.
            sendings.busy.remove(&subject);
            return self.contents.schedules.remove(&subject);
        };
        let found = match found {
            Some(found) => found,
            None => match read_schedule(&message, schedule.next, context.now.as_timestamp()) {
                None => {
                    sendings.busy.remove(&subject);
                    return self.contents.schedules.remove(&subject);
                }
                Some((found, None)) => found,
                Some((found, Some(source))) => {
                    let Some(last) = self.contents.index.last_of(&source) else {
                        sendings.busy.remove(&subject);
                        return self.contents.schedules.remove(&subject);
                    };
                    let load = context.out.read(self.group, (last, last), 1, context.limits.load);
                    let found = Some(found);
                    sendings.reads.insert(load, Sending { subject, schedule, found });
                    return;
                }
            },
        };
        let sent = sent(&subject, &found, &message);
        sendings.ready.push_back((subject, sent));
    }

    /// A read failed, perhaps a schedule's: it is tried again after a rest.
    pub(super) fn schedule_read_failed(&mut self, context: &Context<'_>, load: LoadId) {
        let Some(sendings) = self.leadership.as_mut().map(|own| &mut own.sendings) else { return };
        if let Some(Sending { subject, .. }) = sendings.reads.remove(&load) {
            sendings.refused(&subject, context.now);
        }
    }

    /// What is asked of a schedule that is published; the header with the rollup that keeps one
    /// schedule a subject.
    pub(super) fn check_schedule(
        &self,
        context: &Context<'_>,
        subject: &[u8],
        header: &Bytes,
        fields: &Fields<'_>,
    ) -> Result<Option<Bytes>, ApiError> {
        let Some(pattern) = fields.schedule else { return Ok(None) };
        let now = context.now.as_timestamp();
        if !self.config.allow_msg_schedules {
            return Err(ApiError::MESSAGE_SCHEDULES_DISABLED);
        }
        parse(pattern, now, now).map_err(|_| ApiError::MESSAGE_SCHEDULES_PATTERN_INVALID)?;
        if let Some(ttl) = fields.schedule_ttl {
            Life::parse(ttl).map_err(|_| ApiError::MESSAGE_SCHEDULES_TTL_INVALID)?;
            if !self.config.allow_msg_ttl {
                return Err(ApiError::MESSAGE_TTL_DISABLED);
            }
        }
        let target = fields.schedule_target.filter(|target| {
            // Both are literal, so they collide only if they are the same.
            subject::is_valid_publish(target) && *target != subject
        });
        let target = target.ok_or(ApiError::MESSAGE_SCHEDULES_TARGET_INVALID)?;
        if let Some(source) = fields.schedule_source
            && (source == target || source == subject || !subject::is_valid_publish(source))
        {
            return Err(ApiError::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        if !self.config.subjects.iter().any(|own| subject::matches(own.as_bytes(), target)) {
            return Err(ApiError::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        match fields.rollup {
            None => {
                let rollup = header::ROLLUP_SUBJECT;
                Ok(Some(header_edit::append(header, header::ROLLUP, rollup)))
            }
            Some(rollup) if rollup.eq_ignore_ascii_case(header::ROLLUP_SUBJECT) => Ok(None),
            Some(_) => Err(ApiError::MESSAGE_SCHEDULES_ROLLUP_INVALID),
        }
    }
}

/// What a stored schedule sends, and the subject whose last message that is.
fn read_schedule(message: &StreamMessage, due: i64, now: i64) -> Option<(Found, Option<Bytes>)> {
    let fields = Fields::of(message.header());
    let share = |field: &[u8]| message.share(field);
    let when = parse(fields.schedule?, due, now).ok()?;
    let target = share(fields.schedule_target?);
    let ttl = match fields.schedule_ttl {
        Some(ttl) => Some(share(ttl).clone()).filter(|_| Life::parse(ttl).is_ok()).map(Some)?,
        None => None,
    };
    Some((Found { target, ttl, when }, fields.schedule_source.map(share)))
}

/// What a schedule sends: the message's body and header, without what made it a schedule.
fn sent(schedule: &Bytes, found: &Found, message: &StreamMessage) -> Published {
    let gone = |name: &[u8]| {
        name.starts_with(b"Nats-Schedule-")
            || name.starts_with(b"Nats-Expected-")
            || [header::SCHEDULE, header::MESSAGE_ID, header::TTL, header::ROLLUP]
                .iter()
                .any(|own| name == own.as_bytes())
    };
    let mut header = header_edit::remove_lines(&message.share(message.header()), gone);
    header = header_edit::append(&header, header::SCHEDULER, schedule);
    let next = match found.when.repeats {
        true => GoTime::from_unix_nanos(found.when.next).to_string(),
        false => header::SCHEDULE_DONE.to_string(),
    };
    header = header_edit::append(&header, header::SCHEDULE_NEXT, next.as_bytes());
    if let Some(ttl) = &found.ttl {
        header = header_edit::append(&header, header::TTL, ttl);
    }
    let payload = message.share(message.payload());
    Published { subject: found.target.clone(), header, payload, sourced: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_as_upstream_reads_them() {
        let parse = |text: &str, from, now| parse(text.as_bytes(), from, now).ok();
        let at = "@at 1970-01-01T00:00:07Z";
        assert_eq!(parse(at, 0, 0), Some(When { next: 7 * SECOND, repeats: false }));
        let every = |next| Some(When { next, repeats: true });
        assert_eq!(parse("@every 2s", SECOND * 3 / 2, 0), every(4 * SECOND));
        assert_eq!(parse("@every 1m", 0, 3600 * SECOND + 1), every(3660 * SECOND));
        for text in ["", "@at", "@at soon", "@every 999ms", "@every", "@every x", "* * * * *"] {
            assert_eq!(parse(text, 0, 0), None, "{text}");
        }
    }
}
