//! Compares what the replicas hold with what the client was told, and with each other.
//!
//! A replica's messages come one by one, in the order in which it gives them; each is looked up
//! in the client's record by its message id. What is missing at the end was lost.

use highway::{HighwayHash, HighwayHasher, Key};
use jetwake::command::Message;

use super::record::Record;
use super::replica::View;
use super::workload::{hash, number_of};

/// Findings of one kind that are told one by one; of the rest there is only a count.
const TOLD: u64 = 3;
/// Any key, as digests do not leave the process.
const DIGEST_KEY: [u64; 4] = [5, 6, 7, 8];

/// Reads one replica.
pub(super) struct ReplicaCheck<'a> {
    record: &'a Record,
    /// A bit for each message that was there.
    seen: Vec<u64>,
    last: u64,
    digest: HighwayHasher,
    found: Found,
    told: Vec<String>,
}

/// Counts of what a replica held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    messages: u64,
    doubled: u64,
    different: u64,
    undeleted: u64,
    unknown: u64,
    disordered: u64,
}

/// What came of reading one replica.
#[derive(Debug)]
pub(super) struct ReplicaFindings {
    /// The server's name.
    pub(super) server: String,
    /// What the replica says of itself.
    pub(super) view: View,
    seen: Vec<u64>,
    digest: u64,
    found: Found,
    told: Vec<String>,
}

impl<'a> ReplicaCheck<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        let words = record.sent_count().div_ceil(64);
        Self {
            record,
            // The record itself takes 128 times as much.
            seen: vec![0; usize::try_from(words).unwrap_or(usize::MAX)],
            last: 0,
            digest: HighwayHasher::new(Key(DIGEST_KEY)),
            found: Found::default(),
            told: Vec::new(),
        }
    }

    /// The next message of the replica.
    pub(super) fn take(&mut self, message: &Message) {
        let Message { sequence, time, subject, header, payload } = message;
        let (sequence, hash) = (sequence.get(), hash(subject, header, payload));
        for part in [sequence, time.as_nanos(), hash] {
            self.digest.append(&part.to_le_bytes());
        }
        self.found.messages += 1;
        if sequence <= self.last {
            self.found.disordered += 1;
            let last = self.last;
            self.tell(self.found.disordered, || format!("{sequence} comes after {last}"));
        }
        self.last = sequence;
        let number = number_of(header);
        let Some((number, entry)) = number.and_then(|n| Some((n, self.record.get(n)?))) else {
            self.found.unknown += 1;
            return self.tell(self.found.unknown, || format!("{sequence} was never published"));
        };
        if entry.sequence != sequence {
            self.found.doubled += 1;
            let acked = entry.sequence;
            return self.tell(self.found.doubled, || {
                format!("message {number} is at {sequence}, and was acknowledged at {acked}")
            });
        }
        if self.mark(number) {
            self.found.doubled += 1;
            self.tell(self.found.doubled, || format!("message {number} comes twice"));
        }
        if entry.hash != hash {
            self.found.different += 1;
            self.tell(self.found.different, || {
                format!("message {number} at {sequence} has other bytes than were published")
            });
        }
        if self.record.is_removed(number, sequence) {
            self.found.undeleted += 1;
            self.tell(self.found.undeleted, || {
                format!("message {number} at {sequence} was deleted, and is there")
            });
        }
    }

    /// Marks a message as seen; whether it was seen before.
    fn mark(&mut self, number: u64) -> bool {
        // The record knows the number, and there is a bit for each that it knows.
        let word = &mut self.seen[(number / 64) as usize];
        let bit = 1 << (number % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    fn tell(&mut self, count: u64, what: impl FnOnce() -> String) {
        if count <= TOLD {
            self.told.push(what());
        }
    }

    /// All messages were taken.
    pub(super) fn finish(self, server: &str, view: View) -> ReplicaFindings {
        let Self { seen, digest, found, told, .. } = self;
        let server = server.to_owned();
        ReplicaFindings { server, view, seen, digest: digest.finalize64(), found, told }
    }
}

/// What came of comparing all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Acknowledged messages, and not removed, that some replica lacks.
    pub(super) lost: u64,
    /// Messages that some replica holds more than once, or at another place than was acknowledged.
    pub(super) duplicates: u64,
    /// Whether the replicas hold the same and say the same of themselves.
    pub(super) identical: bool,
    /// Everything that is wrong, in words; nothing if all is well.
    pub(super) failures: Vec<String>,
}

impl Verdict {
    /// Whether nothing was lost, doubled or different.
    pub(super) fn is_sound(&self) -> bool {
        self.failures.is_empty() && self.identical && self.lost == 0 && self.duplicates == 0
    }
}

/// Compares the replicas with the record and with each other.
pub(super) fn compare(record: &Record, replicas: &[ReplicaFindings]) -> Verdict {
    let mut verdict = Verdict { identical: true, ..Verdict::default() };
    let unacked = record.sent_count() - record.acked();
    if unacked > 0 {
        verdict.failures.push(format!("{unacked} messages were published and not acknowledged"));
    }
    let kept = record.all().filter(|(number, entry)| record.is_kept(*number, *entry)).count();
    for replica in replicas {
        replica.judge(kept as u64, record, &mut verdict);
    }
    let seen_everywhere = |number: u64| {
        let bit = |replica: &ReplicaFindings| replica.seen[(number / 64) as usize] >> (number % 64);
        replicas.iter().all(|replica| bit(replica) & 1 == 1)
    };
    for (number, entry) in record.all() {
        if record.is_kept(number, entry) && !seen_everywhere(number) {
            verdict.lost += 1;
            if verdict.lost <= TOLD {
                let sequence = entry.sequence;
                let without = replicas.iter().filter(|replica| !replica.has(number));
                let servers: Vec<_> = without.map(|replica| &*replica.server).collect();
                let servers = servers.join(" and ");
                verdict.failures.push(format!(
                    "message {number}, acknowledged at {sequence}, is missing on {servers}"
                ));
            }
        }
    }
    if let Some((first, others)) = replicas.split_first() {
        for other in others {
            first.compare(other, &mut verdict);
        }
    }
    verdict
}

impl ReplicaFindings {
    fn has(&self, number: u64) -> bool {
        self.seen[(number / 64) as usize] >> (number % 64) & 1 == 1
    }

    /// Adds what is wrong with this replica alone.
    fn judge(&self, kept: u64, record: &Record, verdict: &mut Verdict) {
        let Self { server, view, found, told, .. } = self;
        let mut fail = |what: String| verdict.failures.push(format!("{server}: {what}"));
        let Found { messages, doubled, different, undeleted, unknown, disordered } = *found;
        for (count, what) in [
            (doubled, "doubled or elsewhere than acknowledged"),
            (different, "different from what was published"),
            (undeleted, "deleted and still there"),
            (unknown, "never published"),
            (disordered, "out of order"),
        ] {
            if count > 0 {
                fail(format!("{count} messages {what}"));
            }
        }
        for line in told {
            fail(line.clone());
        }
        let last = record.highest_sequence();
        for (name, says, is) in [
            ("messages", view.messages, messages),
            ("messages", view.messages, kept),
            ("as its last sequence", view.last, last),
        ] {
            if says != is {
                fail(format!("says {says} {name}, expected {is}"));
            }
        }
        // Between the first and the last, what is not there was deleted.
        let span = if view.messages == 0 { 0 } else { view.last + 1 - view.first.min(view.last) };
        let deleted = span.saturating_sub(messages);
        if view.messages > 0 && view.deleted != deleted {
            fail(format!("says {} deleted messages, expected {deleted}", view.deleted));
        }
        verdict.duplicates = verdict.duplicates.max(doubled);
    }

    /// Adds where this replica and another differ.
    fn compare(&self, other: &Self, verdict: &mut Verdict) {
        let mut differ = |what: &str, mine: String, theirs: String| {
            if mine != theirs {
                verdict.identical = false;
                let (one, two) = (&self.server, &other.server);
                let text = format!("{what}: {mine} on {one}, {theirs} on {two}");
                verdict.failures.push(text);
            }
        };
        let (one, two) = (&self.view, &other.view);
        differ("first sequence", one.first.to_string(), two.first.to_string());
        differ("last sequence", one.last.to_string(), two.last.to_string());
        differ("messages", one.messages.to_string(), two.messages.to_string());
        differ("bytes", one.bytes.to_string(), two.bytes.to_string());
        differ("deleted messages", one.deleted.to_string(), two.deleted.to_string());
        differ("digest of the state", one.digest.clone(), two.digest.clone());
        let digest = |digest: u64| format!("{digest:016x}");
        differ("digest of what was read", digest(self.digest), digest(other.digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::workload::{Source, Workload};
    use jetwake::event::Request;
    use jetwake::ids::Sequence;
    use jetwake::time::Time;

    const COUNT: u64 = 300;

    /// All messages as they were published and acknowledged, and the record of it, in which some
    /// are removed.
    fn published() -> (Record, Vec<Message>) {
        let workload =
            Workload::survey(Source::Made { messages: COUNT, size: 40 }).expect("enough messages");
        let mut outgoing = workload.begin().expect("made messages");
        let mut record = Record::new(COUNT);
        let mut messages = Vec::new();
        for number in 0..COUNT {
            let message = outgoing.next().expect("made messages").expect("one more");
            let Request::Publish { subject, header, payload } = message.request else {
                panic!("expected a publish")
            };
            record.sent(message.hash);
            record.acknowledged(number, number + 1, false);
            let (sequence, time) = (Sequence::new(number + 1), Time::from_nanos(number));
            messages.push(Message { sequence, time, subject, header, payload });
        }
        record.deleted(200);
        record.purged(13, 250);
        (record, messages)
    }

    /// What a sound replica holds of them.
    fn stored(record: &Record, messages: &[Message]) -> Vec<Message> {
        let removed = |sequence: u64| record.is_removed(sequence - 1, sequence);
        let kept = |message: &&Message| !removed(message.sequence.get());
        messages.iter().filter(kept).cloned().collect()
    }

    fn findings(record: &Record, server: &str, messages: &[Message]) -> ReplicaFindings {
        let mut check = ReplicaCheck::new(record);
        for message in messages {
            check.take(message);
        }
        let (first, last) = (1, messages.last().map_or(0, |message| message.sequence.get()));
        let count = messages.len() as u64;
        let view = View {
            messages: count,
            bytes: count * 100,
            first,
            last,
            deleted: last - count,
            digest: "same".into(),
            ..View::default()
        };
        check.finish(server, view)
    }

    /// Three replicas, of which the second is changed.
    fn verdict(change: impl FnOnce(&mut Vec<Message>, &mut Record)) -> Verdict {
        let (mut record, all) = published();
        let messages = stored(&record, &all);
        let mut changed = messages.clone();
        change(&mut changed, &mut record);
        let replicas = [("n1", &messages), ("n2", &changed), ("n3", &messages)]
            .map(|(server, messages)| findings(&record, server, messages));
        compare(&record, &replicas)
    }

    fn has(verdict: &Verdict, text: &str) -> bool {
        verdict.failures.iter().any(|failure| failure.contains(text))
    }

    #[test]
    fn all_is_well() {
        let verdict = verdict(|_, _| {});
        assert_eq!(verdict, Verdict { identical: true, ..Verdict::default() });
        assert!(verdict.is_sound());
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let verdict = verdict(|messages, _| drop(messages.remove(100)));
        assert_eq!((verdict.lost, verdict.duplicates, verdict.identical), (1, 0, false));
        assert!(has(&verdict, "is missing on n2"), "{verdict:?}");
        assert!(!verdict.is_sound());
    }

    #[test]
    fn a_message_lost_everywhere_is_noticed() {
        let (record, all) = published();
        let mut messages = stored(&record, &all);
        messages.pop();
        let replicas = ["n1", "n2", "n3"].map(|server| findings(&record, server, &messages));
        let verdict = compare(&record, &replicas);
        assert_eq!((verdict.lost, verdict.identical), (1, true));
        assert!(has(&verdict, "as its last sequence, expected 300"), "{verdict:?}");
    }

    #[test]
    fn a_doubled_message_is_noticed() {
        let verdict = verdict(|messages, _| {
            let mut again = messages[100].clone();
            again.sequence = Sequence::new(COUNT + 1);
            messages.push(again);
        });
        assert_eq!((verdict.lost, verdict.duplicates, verdict.identical), (0, 1, false));
        assert!(has(&verdict, "n2: 1 messages doubled"), "{verdict:?}");
    }

    #[test]
    fn a_message_that_is_given_twice_is_noticed() {
        let verdict = verdict(|messages, _| messages.insert(101, messages[100].clone()));
        assert_eq!(verdict.duplicates, 1);
        assert!(has(&verdict, "comes twice") && has(&verdict, "out of order"), "{verdict:?}");
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        type Change = fn(&mut Message);
        let changes: [Change; 3] = [
            |message| message.payload = [&message.payload[..39], b"!"].concat().into(),
            |message| message.subject = "demo.99x".into(),
            |message| message.payload = message.payload.slice(..39),
        ];
        for change in changes {
            let verdict = verdict(|messages, _| change(&mut messages[100]));
            assert!(has(&verdict, "n2: 1 messages different"), "{verdict:?}");
            assert!(!verdict.identical && !verdict.is_sound());
        }
    }

    #[test]
    fn a_changed_time_makes_replicas_differ() {
        let verdict = verdict(|messages, _| messages[100].time = Time::from_nanos(1));
        assert!(has(&verdict, "digest of what was read"), "{verdict:?}");
        assert!(!verdict.is_sound());
    }

    #[test]
    fn a_message_that_was_deleted_or_purged_must_be_gone() {
        let (record, all) = published();
        for sequence in [97, 194, 14, 214] {
            let mut messages = stored(&record, &all);
            let place = messages.partition_point(|message| message.sequence.get() < sequence);
            assert_ne!(messages[place].sequence.get(), sequence);
            messages.insert(place, all[sequence as usize - 1].clone());
            let replicas = ["n1", "n2", "n3"].map(|server| findings(&record, server, &messages));
            let verdict = compare(&record, &replicas);
            assert!(has(&verdict, "n1: 1 messages deleted and still there"), "{verdict:?}");
            assert!(!verdict.is_sound());
        }
    }

    #[test]
    fn a_stranger_is_noticed() {
        let verdict = verdict(|messages, _| {
            let mut stranger = messages[0].clone();
            stranger.header = "NATS/1.0\r\n\r\n".into();
            stranger.sequence = Sequence::new(COUNT + 1);
            messages.push(stranger);
        });
        assert!(has(&verdict, "n2: 1 messages never published"), "{verdict:?}");
        assert!(!verdict.is_sound());
    }

    #[test]
    fn a_message_without_acknowledgement_is_no_success() {
        let verdict = verdict(|_, record| record.sent(0));
        assert!(has(&verdict, "1 messages were published and not acknowledged"));
        assert!(!verdict.is_sound());
    }

    #[test]
    fn replicas_that_describe_themselves_differently_are_not_identical() {
        type Change = fn(&mut View);
        let changes: [Change; 6] = [
            |view| view.first = 2,
            |view| view.last += 1,
            |view| view.messages -= 1,
            |view| view.bytes += 1,
            |view| view.deleted += 1,
            |view| view.digest = "other".into(),
        ];
        for change in changes {
            let (record, all) = published();
            let messages = stored(&record, &all);
            let mut replicas =
                ["n1", "n2", "n3"].map(|server| findings(&record, server, &messages));
            change(&mut replicas[2].view);
            let verdict = compare(&record, &replicas);
            assert!(!verdict.identical && !verdict.is_sound(), "{verdict:?}");
            assert!(verdict.failures.iter().all(|failure| failure.contains("n3")), "{verdict:?}");
        }
    }
}
