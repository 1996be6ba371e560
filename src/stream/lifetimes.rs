//! How long messages live: as long as the stream keeps any, or as their own headers say.
//!
//! Upstream: `expireMsgs` in `server/filestore.go`, where each replica asks its own clock. There, two
//! replicas that apply a message around the end of another can disagree on what a bound takes out.
//! Here the log is the clock: a message that is applied takes with it what has ended by its own time,
//! on every replica alike, and while no messages come the leader proposes the removal of what has
//! ended. What is known here follows from the messages, so no snapshot carries it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::duration;
use super::header;
use super::index::StreamIndex;
use crate::ids::Sequence;

const SECOND: i64 = 1_000_000_000;
/// Entries of messages that are gone are kept up to here, whatever the stream holds.
const SPARE: usize = 1024;

/// What a header says of a message's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The stream's age does not end it.
    Forever,
    /// It ends so many seconds after the message's time.
    Seconds(i64),
}

/// A time to live that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLife;

impl Life {
    /// Reads a header's value: `never`, a duration of a second or more, or seconds; none for zero
    /// seconds. Upstream: `parseMessageTTL`.
    pub(super) fn parse(text: &[u8]) -> Result<Option<Self>, BadLife> {
        if text.eq_ignore_ascii_case(b"never") {
            return Ok(Some(Self::Forever));
        }
        let seconds = match duration::parse(text) {
            Some(nanos) if nanos < SECOND => return Err(BadLife),
            Some(nanos) => nanos / SECOND,
            None => i64::try_from(header::number(text)).map_err(|_| BadLife)?,
        };
        Ok((seconds > 0).then_some(Self::Seconds(seconds)))
    }
}

/// The ends of a stream's messages.
#[derive(Debug)]
pub(super) struct Lifetimes {
    /// Nanoseconds that the stream keeps a message.
    age: Option<i64>,
    /// Whether headers are heard.
    own: bool,
    /// Ends of messages with one of their own; some may be gone already.
    ends: BTreeSet<(i64, Sequence)>,
    /// Messages that no age ends; some may be gone already.
    forever: BTreeSet<Sequence>,
    /// Every message below lives for ever.
    cursor: Sequence,
    /// No message ends before.
    next: i64,
}

impl Lifetimes {
    /// Of a stream that keeps messages for `age` nanoseconds (for ever if that is not above zero), and
    /// hears their headers if `own`.
    pub(super) const fn new(age: i64, own: bool) -> Self {
        Self {
            age: if age > 0 { Some(age) } else { None },
            own,
            ends: BTreeSet::new(),
            forever: BTreeSet::new(),
            cursor: Sequence::ZERO,
            next: i64::MAX,
        }
    }

    /// A moment before which no message ends; none if none ever does.
    pub(super) const fn next(&self) -> Option<i64> {
        if self.next == i64::MAX { None } else { Some(self.next) }
    }

    /// A message was added; `ttl` is what its header says of its life.
    pub(super) fn added(&mut self, sequence: Sequence, timestamp: i64, ttl: Option<&[u8]>) {
        let life = ttl.filter(|_| self.own).and_then(|text| Life::parse(text).ok().flatten());
        match life {
            Some(Life::Forever) => {
                self.forever.insert(sequence);
                return;
            }
            Some(Life::Seconds(seconds)) => {
                let end = timestamp.saturating_add(seconds.saturating_mul(SECOND));
                self.ends.insert((end, sequence));
                self.next = self.next.min(end);
            }
            None => {}
        }
        if let Some(age) = self.age {
            self.next = self.next.min(timestamp.saturating_add(age));
        }
    }

    /// Takes a message whose end has come; it may be gone. Call until there is none.
    pub(super) fn take_ended(&mut self, index: &StreamIndex, now: i64) -> Option<Sequence> {
        if let Some((end, sequence)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            return Some(sequence);
        }
        let aged = self.oldest_mortal(index).filter(|(end, _)| *end <= now);
        if aged.is_none() {
            self.look_ahead(index);
        }
        aged.map(|(_, sequence)| sequence)
    }

    /// What a leader has to remove by proposals, `most` messages of each kind at most.
    pub(super) fn ended(&mut self, index: &StreamIndex, now: i64, most: usize) -> Ended {
        let mut ended = Ended::default();
        if let Some(age) = self.age {
            let aged = |sequence| {
                index.get(sequence).is_some_and(|found| found.timestamp.saturating_add(age) <= now)
            };
            let spared =
                self.oldest_mortal(index).is_some_and(|(_, oldest)| oldest > index.first());
            let mut next = self.cursor;
            for _ in 0..most {
                let Some(found) = index.at_or_after(next) else { break };
                next = found.next();
                if self.forever.contains(&found) {
                    continue;
                }
                if !aged(found) {
                    break;
                }
                if spared || self.forever.range(..found).next_back().is_some() {
                    ended.single.push(found);
                } else {
                    ended.below = Some(next);
                }
            }
        }
        let due = self.ends.range(..=(now, Sequence::MAX)).map(|(_, sequence)| *sequence);
        let below = ended.below.unwrap_or(Sequence::ZERO);
        let due = due.filter(|sequence| *sequence >= below && index.get(*sequence).is_some());
        ended.single.extend(due.take(most));
        ended.single.sort_unstable();
        ended.single.dedup();
        if ended.is_empty() {
            self.forget_gone(index);
            self.look_ahead(index);
        }
        ended
    }

    /// The end of the first message that the stream's age can end.
    fn oldest_mortal(&mut self, index: &StreamIndex) -> Option<(i64, Sequence)> {
        let age = self.age?;
        loop {
            let found = index.at_or_after(self.cursor)?;
            self.cursor = found;
            if !self.forever.contains(&found) {
                return Some((index.get(found)?.timestamp.saturating_add(age), found));
            }
            self.cursor = found.next();
        }
    }

    fn look_ahead(&mut self, index: &StreamIndex) {
        if self.ends.len() > SPARE && self.ends.len() as u64 > index.messages() * 2 {
            self.forget_gone(index);
        }
        let aged = self.oldest_mortal(index).map(|(end, _)| end);
        let own = self.ends.first().map(|(end, _)| *end);
        self.next = aged.into_iter().chain(own).min().unwrap_or(i64::MAX);
    }

    fn forget_gone(&mut self, index: &StreamIndex) {
        self.ends.retain(|(_, sequence)| index.get(*sequence).is_some());
        self.forever.retain(|sequence| index.get(*sequence).is_some());
    }

    /// Keeps no more entries than twice the messages that there are.
    pub(super) fn stay_small(&mut self, index: &StreamIndex) {
        let entries = self.ends.len() + self.forever.len();
        if entries > SPARE && entries as u64 / 2 > index.messages() {
            self.forget_gone(index);
        }
    }
}

/// Messages whose end has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Every message below.
    pub(super) below: Option<Sequence>,
    /// These besides, in order.
    pub(super) single: Vec<Sequence>,
}

impl Ended {
    pub(super) const fn is_empty(&self) -> bool {
        self.below.is_none() && self.single.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_as_upstream_reads_it() {
        let seconds = |seconds| Ok(Some(Life::Seconds(seconds)));
        for (text, life) in [
            ("never", Ok(Some(Life::Forever))),
            ("Never", Ok(Some(Life::Forever))),
            ("1s", seconds(1)),
            ("1h2m", seconds(3720)),
            ("2500ms", seconds(2)),
            ("120", seconds(120)),
            ("00", Ok(None)),
            ("0", Err(BadLife)),
            ("999ms", Err(BadLife)),
            ("-1s", Err(BadLife)),
            ("-1", Err(BadLife)),
            ("1.5", Err(BadLife)),
            ("soon", Err(BadLife)),
        ] {
            assert_eq!(Life::parse(text.as_bytes()), life, "{text}");
        }
    }

    fn index(times: &[i64]) -> StreamIndex {
        let mut index = StreamIndex::new(1);
        for (number, time) in (1..).zip(times) {
            assert!(index.append(Sequence::new(number), b"s", 10, *time));
        }
        index
    }

    #[test]
    fn the_age_ends_messages_in_their_order_and_spares_those_that_never_end() {
        let mut index = index(&[10, 20, 30, 25]);
        let mut lifetimes = Lifetimes::new(100, true);
        for (number, ttl) in [(1, Some(&b"never"[..])), (2, None), (3, None), (4, None)] {
            let sequence = Sequence::new(number);
            let time = index.get(sequence).expect("there").timestamp;
            lifetimes.added(sequence, time, ttl);
        }
        assert_eq!(lifetimes.next(), Some(120));
        let single = [2].map(Sequence::new).to_vec();
        assert_eq!(lifetimes.ended(&index, 125, 10), Ended { below: None, single });
        let mut taken = Vec::new();
        while let Some(sequence) = lifetimes.take_ended(&index, 125) {
            index.remove(sequence);
            taken.push(sequence.get());
        }
        assert_eq!((taken, lifetimes.next()), ([2].to_vec(), Some(130)));
    }

    #[test]
    fn what_a_leader_removes_is_said_shortly() {
        let index = index(&[10, 20, 30, 40]);
        let mut lifetimes = Lifetimes::new(100, true);
        for number in 1..=4 {
            let ttl = (number == 3).then_some(&b"1s"[..]);
            lifetimes.added(Sequence::new(number), number as i64 * 10, ttl);
        }
        let below = Some(Sequence::new(3));
        assert_eq!(lifetimes.ended(&index, 120, 10), Ended { below, single: Vec::new() });
        assert_eq!(lifetimes.ended(&index, 50, 10), Ended::default());
        assert_eq!(lifetimes.next(), Some(110));
    }

    #[test]
    fn entries_of_what_is_gone_do_not_gather() {
        let mut index = StreamIndex::new(1);
        let mut lifetimes = Lifetimes::new(0, true);
        for number in 1..10_000 {
            let sequence = Sequence::new(number);
            assert!(index.append(sequence, b"s", 10, 0));
            lifetimes.added(sequence, 0, Some(b"1h"));
            index.remove(sequence);
            lifetimes.stay_small(&index);
        }
        assert!(lifetimes.ends.len() <= SPARE + 1, "{}", lifetimes.ends.len());
    }
}
