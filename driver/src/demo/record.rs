//! The client's own record: what was acknowledged, and what was removed since.
//!
//! Sixteen bytes a message: its sequence and a hash of all of it. What was removed follows from
//! two rules and takes no memory.

use super::workload::SUBJECTS;

/// Every so many sequences one message is deleted.
pub(super) const DELETED_EVERY: u64 = 97;

/// What the client knows of every message, by number.
#[derive(Debug)]
pub(super) struct Record {
    entries: Vec<Entry>,
    acked: u64,
    highest: u64,
    /// Acknowledgements that said that the message had been stored before.
    repeated: u64,
    /// Messages of the sequences `DELETED_EVERY`, twice that and so on are deleted up to this one.
    deleted_through: u64,
    /// Messages of this subject are purged below this sequence.
    purged: Option<(u64, u64)>,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it is stored; zero until that is acknowledged.
    pub(super) sequence: u64,
    /// The hash of all of it.
    pub(super) hash: u64,
}

impl Record {
    /// An empty record with memory for so many messages.
    pub(super) fn new(messages: u64) -> Self {
        Self {
            // A count that no memory holds fails here, before anything was started.
            entries: Vec::with_capacity(usize::try_from(messages).unwrap_or(usize::MAX)),
            acked: 0,
            highest: 0,
            repeated: 0,
            deleted_through: 0,
            purged: None,
        }
    }

    /// The next message was sent.
    pub(super) fn sent(&mut self, hash: u64) {
        self.entries.push(Entry { sequence: 0, hash });
    }

    /// A message was acknowledged; whether that is news.
    pub(super) fn acknowledged(&mut self, number: u64, sequence: u64, repeated: bool) -> bool {
        let Some(entry) =
            usize::try_from(number).ok().and_then(|place| self.entries.get_mut(place))
        else {
            return false;
        };
        let news = entry.sequence == 0;
        entry.sequence = sequence;
        self.acked += u64::from(news);
        self.highest = self.highest.max(sequence);
        self.repeated += u64::from(repeated);
        news
    }

    /// All messages of the deleted sequences are gone up to this one.
    pub(super) fn deleted(&mut self, through: u64) {
        self.deleted_through = through;
    }

    /// All messages of a subject are gone that lie below this sequence.
    pub(super) fn purged(&mut self, subject: u64, before: u64) {
        self.purged = Some((subject, before));
    }

    /// How many messages were sent.
    pub(super) fn sent_count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// How many messages were acknowledged.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// How many acknowledgements said that the message had been stored before.
    pub(super) const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// What is known of the message of this number.
    pub(super) fn get(&self, number: u64) -> Option<Entry> {
        self.entries.get(usize::try_from(number).ok()?).copied()
    }

    /// Every message with its number.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, Entry)> + '_ {
        (0..).zip(self.entries.iter().copied())
    }

    /// Whether the message of this number and sequence was deleted or purged.
    pub(super) fn is_removed(&self, number: u64, sequence: u64) -> bool {
        let deleted = sequence <= self.deleted_through && sequence.is_multiple_of(DELETED_EVERY);
        deleted
            || self
                .purged
                .is_some_and(|(subject, before)| number % SUBJECTS == subject && sequence < before)
    }

    /// Whether a replica must hold the message.
    pub(super) fn is_kept(&self, number: u64, entry: Entry) -> bool {
        entry.sequence != 0 && !self.is_removed(number, entry.sequence)
    }

    /// The highest sequence that was acknowledged; zero if none was.
    pub(super) const fn highest_sequence(&self) -> u64 {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_counts_once() {
        let mut record = Record::new(2);
        record.sent(7);
        record.sent(8);
        assert!(record.acknowledged(1, 5, false));
        assert!(!record.acknowledged(1, 5, true));
        assert!(!record.acknowledged(2, 6, false));
        assert_eq!((record.sent_count(), record.acked(), record.repeated()), (2, 1, 1));
        assert_eq!(record.get(0), Some(Entry { sequence: 0, hash: 7 }));
        assert_eq!(record.get(1), Some(Entry { sequence: 5, hash: 8 }));
        assert_eq!(record.get(2), None);
    }

    #[test]
    fn removals_end_where_they_were_asked_to() {
        let mut record = Record::new(0);
        assert!(!record.is_removed(0, 97));
        record.deleted(2 * 97);
        record.purged(13, 150);
        let removed: Vec<u64> = (1..=400).filter(|n| record.is_removed(n + 2, *n)).collect();
        assert_eq!(removed, [11, 97, 111, 194]);
    }
}
