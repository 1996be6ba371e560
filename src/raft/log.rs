//! What the core knows of a group's log: where each term begins, how far it is durable, and its
//! recent records. The records themselves lie with the driver.
//!
//! The rule: a record is one append entry, and its place is one index. Nothing at or below the
//! commit index is ever removed from the tail; callers ask first, and this room asserts it.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::size::{Sizes, size};
use crate::canary::Canary;
use crate::command::LogChange;
use crate::ids::{GroupId, Index, LogSize, Term, WriteId};
use crate::outbox::Outbox;

/// A place in the log and the term of what stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The place.
    pub index: Index,
    /// Its term.
    pub term: Term,
}

/// A group's log, without the bodies of older records.
#[derive(Debug)]
pub(crate) struct Log {
    group: GroupId,
    /// The record before the first: what a snapshot covers, or zero.
    base: Position,
    last: Index,
    /// Where each term begins, ascending: so `term` needs no disk.
    terms: VecDeque<Position>,
    /// Appended and not yet reported durable, ascending.
    writing: VecDeque<(WriteId, Index)>,
    durable: Index,
    cache: Cache,
    /// Older records that were read back for the machine.
    loaded: Cache,
    sizes: Sizes,
}

impl Log {
    /// An empty log behind `base`, whose cache keeps at most `cache_bytes`.
    pub(crate) const fn new(group: GroupId, base: Position, cache_bytes: u64) -> Self {
        Self {
            group,
            base,
            last: base.index,
            terms: VecDeque::new(),
            writing: VecDeque::new(),
            durable: base.index,
            cache: Cache::new(cache_bytes),
            loaded: Cache::new(u64::MAX),
            sizes: Sizes::new(),
        }
    }

    /// The record before the first.
    pub(crate) const fn base(&self) -> Position {
        self.base
    }

    /// The first record, or where it will be.
    pub(crate) const fn first(&self) -> Index {
        self.base.index.next()
    }

    /// The last record, durable or not; the base if there is none.
    pub(crate) fn last(&self) -> Position {
        Position {
            index: self.last,
            term: self.terms.back().map_or(self.base.term, |run| run.term),
        }
    }

    /// The last record that is on disk.
    pub(crate) const fn durable(&self) -> Index {
        self.durable
    }

    /// All records that were not compacted.
    pub(crate) fn size(&self) -> LogSize {
        self.size_through(self.last)
    }

    /// Bytes of all records that were not compacted, in constant time.
    pub(crate) const fn bytes(&self) -> u64 {
        self.sizes.bytes()
    }

    /// About how many bytes of records are not on disk yet.
    pub(crate) fn unwritten(&self) -> u64 {
        self.size().bytes.saturating_sub(self.size_through(self.durable).bytes)
    }

    /// What a compaction through this record would free.
    pub(crate) fn size_through(&self, index: Index) -> LogSize {
        size(&self.sizes, self.base.index, index.min(self.last))
    }

    /// The term of a record or of the base; none outside of these. Costs the logarithm of the
    /// number of terms.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last {
            return None;
        }
        let runs = self.terms.partition_point(|run| run.index <= index);
        runs.checked_sub(1).and_then(|run| self.terms.get(run)).map(|run| run.term)
    }

    /// Adds a record behind the last and asks for it to be written.
    pub(crate) fn append(&mut self, term: Term, record: Bytes, out: &mut Outbox) -> WriteId {
        let index = self.last.next();
        self.note(term, &record);
        let id = out.write(self.group, LogChange::Append { index, record });
        self.writing.push_back((id, index));
        id
    }

    /// Learns of a record that is on disk since before the start.
    pub(crate) fn replay(&mut self, term: Term, record: &Bytes) {
        self.note(term, record);
        self.durable = self.last;
    }

    fn note(&mut self, term: Term, record: &Bytes) {
        let index = self.last.next();
        if self.last().term != term || self.terms.is_empty() {
            self.terms.push_back(Position { index, term });
        }
        self.sizes.push(index, record.len() as u64);
        self.cache.push(index, record.clone());
        self.last = index;
    }

    /// Removes every record behind `last`.
    pub(crate) fn truncate(&mut self, last: Index, commit: Index, out: &mut Outbox) {
        let allowed = last >= commit || out.planted(Canary::TruncationTakesCommitted);
        assert!(allowed, "a committed record is never removed: {last} < {commit}");
        assert!(last >= self.base.index, "what a snapshot covers is never removed");
        if last >= self.last {
            return;
        }
        out.write(self.group, LogChange::Truncate { last });
        while self.terms.back().is_some_and(|run| run.index > last) {
            self.terms.pop_back();
        }
        while self.writing.back().is_some_and(|(_, index)| *index > last) {
            self.writing.pop_back();
        }
        self.sizes.truncate(last);
        if !out.planted(Canary::CacheOutlivesTruncation) {
            self.cache.truncate(last);
            self.loaded.truncate(last);
        }
        self.last = last;
        self.durable = self.durable.min(last);
    }

    /// Removes what may stand behind the last record and could not be read.
    pub(crate) fn end_here(&self, out: &mut Outbox) {
        out.write(self.group, LogChange::Truncate { last: self.last });
    }

    /// Removes every record up to `through`, which a durable snapshot covers.
    pub(crate) fn compact(&mut self, through: Index, out: &mut Outbox) {
        let Some(term) = self.term(through) else { return };
        if through <= self.base.index {
            return;
        }
        out.write(self.group, LogChange::Compact { through });
        self.base = Position { index: through, term };
        while self.terms.get(1).is_some_and(|run| run.index <= self.first()) {
            self.terms.pop_front();
        }
        if self.last == through {
            self.terms.clear();
        }
        self.sizes.compact(through);
        self.cache.compact(through);
    }

    /// Removes every record; the log goes on behind `base`.
    pub(crate) fn reset(&mut self, base: Position, out: &mut Outbox) -> WriteId {
        let id = out.write(self.group, LogChange::Reset { last: base.index });
        *self = Self::new(self.group, base, self.cache.most);
        id
    }

    /// Learns that every write up to `through` is on disk.
    pub(crate) fn written(&mut self, through: WriteId) {
        while let Some((id, index)) = self.writing.front().copied() {
            if id > through {
                break;
            }
            self.writing.pop_front();
            self.durable = index;
        }
    }

    /// A recent record; none if it must be loaded from disk.
    pub(crate) fn record(&self, index: Index) -> Option<&Bytes> {
        self.cache.get(index).or_else(|| self.loaded.get(index))
    }

    /// Keeps records that the machine needs next, in place of those it needed before. They are
    /// bounded by the size of one load.
    pub(crate) fn keep_loaded(&mut self, first: Index, records: &[Bytes]) {
        self.loaded = Cache::new(u64::MAX);
        for (index, record) in (first.get()..).map(Index::new).zip(records) {
            if index <= self.last {
                self.loaded.push(index, record.clone());
            }
        }
    }
}

/// The newest records, by bytes.
#[derive(Debug)]
struct Cache {
    first: Index,
    records: VecDeque<Bytes>,
    bytes: u64,
    most: u64,
}

impl Cache {
    const fn new(most: u64) -> Self {
        Self { first: Index::new(1), records: VecDeque::new(), bytes: 0, most }
    }

    fn push(&mut self, index: Index, record: Bytes) {
        if self.records.is_empty() {
            self.first = index;
        }
        self.bytes += record.len() as u64;
        self.records.push_back(record);
        while self.bytes > self.most && self.records.len() > 1 {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(record) = self.records.pop_front() {
            self.bytes -= record.len() as u64;
            self.first = self.first.next();
        }
    }

    fn get(&self, index: Index) -> Option<&Bytes> {
        let place = index.get().checked_sub(self.first.get())?;
        self.records.get(usize::try_from(place).ok()?)
    }

    fn truncate(&mut self, last: Index) {
        while !self.records.is_empty() && self.first.plus(self.records.len() as u64 - 1) > last {
            if let Some(record) = self.records.pop_back() {
                self.bytes -= record.len() as u64;
            }
        }
    }

    fn compact(&mut self, through: Index) {
        while !self.records.is_empty() && self.first <= through {
            self.drop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> (Log, Outbox) {
        let mut out = Outbox::new();
        let mut log = Log::new(GroupId(0), Position::default(), 30);
        for term in terms {
            log.append(Term::new(*term), Bytes::from_static(b"0123456789"), &mut out);
        }
        (log, out)
    }

    #[test]
    fn terms_are_known_without_the_records() {
        let (mut log, mut out) = log(&[1, 1, 2, 4, 4]);
        let terms = |log: &Log| (0..=6).map(|i| log.term(Index::new(i)).map(Term::get)).collect();
        let known: alloc::vec::Vec<_> = terms(&log);
        assert_eq!(known, [Some(0), Some(1), Some(1), Some(2), Some(4), Some(4), None]);
        log.compact(Index::new(2), &mut out);
        let known: alloc::vec::Vec<_> = terms(&log);
        assert_eq!(known, [None, None, Some(1), Some(2), Some(4), Some(4), None]);
        log.truncate(Index::new(3), Index::ZERO, &mut out);
        assert_eq!(log.last(), Position { index: Index::new(3), term: Term::new(2) });
        log.compact(Index::new(3), &mut out);
        assert_eq!(log.last(), Position { index: Index::new(3), term: Term::new(2) });
        assert_eq!(log.first(), Index::new(4));
    }

    #[test]
    fn a_rewritten_record_is_durable_only_by_its_own_write() {
        let (mut log, mut out) = log(&[1, 1]);
        log.truncate(Index::new(1), Index::ZERO, &mut out);
        let rewrite = log.append(Term::new(2), Bytes::from_static(b"new"), &mut out);
        log.written(WriteId::new(2));
        assert_eq!(log.durable(), Index::new(1));
        log.written(rewrite);
        assert_eq!(log.durable(), Index::new(2));
    }

    #[test]
    fn the_cache_keeps_the_newest_and_forgets_what_was_truncated() {
        let (mut log, mut out) = log(&[1, 1, 1, 1]);
        assert!(log.record(Index::new(1)).is_none());
        assert!(log.record(Index::new(2)).is_some());
        log.truncate(Index::new(2), Index::ZERO, &mut out);
        assert!(log.record(Index::new(3)).is_none());
        log.append(Term::new(2), Bytes::from_static(b"new"), &mut out);
        assert_eq!(log.record(Index::new(3)).map(Bytes::len), Some(3));
    }

    #[test]
    #[should_panic(expected = "a committed record is never removed")]
    fn truncating_below_the_commit_index_is_a_bug() {
        let (mut log, mut out) = log(&[1, 1, 1]);
        log.truncate(Index::new(1), Index::new(2), &mut out);
    }
}
