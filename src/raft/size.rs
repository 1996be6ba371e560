//! How many records and bytes a log has, and how many of them a snapshot would free.
//!
//! Sizes are kept in runs of records, not one by one: memory grows by one run for each 64 KiB of
//! log. Within a run every record counts as much as every other; the size of the whole log is exact
//! until a compaction ends within a run.

use alloc::collections::VecDeque;

use crate::ids::{Index, LogSize};

/// The bytes of one run at most, unless a single record is larger.
const RUN: u64 = 64 * 1024;

/// The sizes of a log's records, in the order of the records.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    runs: VecDeque<Run>,
    /// Bytes of all records that there ever were up to the last, and up to the base.
    end: u64,
    base: u64,
}

/// Records that are counted together.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Index,
    records: u64,
    /// Bytes of all records before them.
    before: u64,
    bytes: u64,
}

impl Run {
    /// Bytes of its first `records`.
    const fn bytes_of(&self, records: u64) -> u64 {
        if records >= self.records { self.bytes } else { self.bytes * records / self.records }
    }
}

impl Sizes {
    pub(super) const fn new() -> Self {
        Self { runs: VecDeque::new(), end: 0, base: 0 }
    }

    /// A record was added behind the last.
    pub(super) fn push(&mut self, index: Index, bytes: u64) {
        match self.runs.back_mut().filter(|run| run.bytes + bytes <= RUN) {
            Some(run) => {
                run.records += 1;
                run.bytes += bytes;
            }
            None => {
                let before = self.end;
                self.runs.push_back(Run { first: index, records: 1, before, bytes });
            }
        }
        self.end += bytes;
    }

    /// Every record behind `last` went.
    pub(super) fn truncate(&mut self, last: Index) {
        while self.runs.back().is_some_and(|run| run.first > last) {
            self.runs.pop_back();
        }
        match self.runs.back_mut() {
            Some(run) => {
                let records = run.records.min(last.since(run.first) + 1);
                (run.bytes, run.records) = (run.bytes_of(records), records);
                self.end = run.before + run.bytes;
            }
            None => self.end = self.base,
        }
    }

    /// Every record up to `through` went.
    pub(super) fn compact(&mut self, through: Index) {
        self.base = self.bytes_through(through);
        while self.runs.front().is_some_and(|run| run.first.plus(run.records - 1) <= through) {
            self.runs.pop_front();
        }
    }

    /// Bytes of all records behind the base.
    pub(super) const fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.base)
    }

    /// Bytes of the records behind the base, up to this one. Costs the logarithm of the log's size.
    pub(super) fn through(&self, index: Index) -> u64 {
        self.bytes_through(index).saturating_sub(self.base)
    }

    fn bytes_through(&self, index: Index) -> u64 {
        let place = self.runs.partition_point(|run| run.first <= index);
        match place.checked_sub(1).and_then(|place| self.runs.get(place)) {
            Some(run) => run.before + run.bytes_of(index.since(run.first) + 1),
            None => self.base,
        }
    }
}

/// The size of the records from behind `base` to `index`.
pub(super) fn size(sizes: &Sizes, base: Index, index: Index) -> LogSize {
    LogSize { records: index.since(base), bytes: sizes.through(index) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(bytes: &[u64]) -> Sizes {
        let mut sizes = Sizes::new();
        for (index, bytes) in (1..).map(Index::new).zip(bytes) {
            sizes.push(index, *bytes);
        }
        sizes
    }

    fn through(sizes: &Sizes, index: u64) -> u64 {
        sizes.through(Index::new(index))
    }

    #[test]
    fn records_of_one_size_are_counted_exactly() {
        let mut sizes = sizes(&[100; 1000]);
        assert_eq!((through(&sizes, 1), through(&sizes, 999)), (100, 99_900));
        assert!(sizes.runs.len() < 3, "{} runs", sizes.runs.len());
        sizes.compact(Index::new(700));
        assert_eq!((through(&sizes, 700), through(&sizes, 1000)), (0, 30_000));
        sizes.truncate(Index::new(710));
        assert_eq!(through(&sizes, 710), 1_000);
        sizes.push(Index::new(711), 100);
        assert_eq!(through(&sizes, 711), 1_100);
        sizes.compact(Index::new(711));
        assert_eq!(through(&sizes, 711), 0);
        sizes.push(Index::new(712), 5);
        assert_eq!(through(&sizes, 712), 5);
    }

    #[test]
    fn a_record_larger_than_a_run_stands_alone() {
        let mut sizes = sizes(&[10, 300_000, 20, 200_000]);
        assert_eq!(through(&sizes, 1), 10);
        assert_eq!(through(&sizes, 2), 300_010);
        assert_eq!(through(&sizes, 3), 300_030);
        assert_eq!(through(&sizes, 4), 500_030);
        sizes.truncate(Index::new(1));
        assert_eq!(through(&sizes, 1), 10);
        sizes.truncate(Index::ZERO);
        assert_eq!(through(&sizes, 0), 0);
    }

    #[test]
    fn the_whole_is_never_less_than_a_part() {
        let sizes = sizes(&[1, 60_000, 3, 5, 90, 64_000, 7, 2, 2, 2]);
        let parts: alloc::vec::Vec<_> = (0..=10).map(|index| through(&sizes, index)).collect();
        assert!(parts.is_sorted(), "{parts:?}");
        assert_eq!(parts.last(), Some(&124_112));
    }
}
