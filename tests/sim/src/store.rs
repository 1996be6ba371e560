//! One stream's store on a simulated disk, and the contract that every change of it must keep.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::command::{Exchange, Mend, Place, StoreChange};
use jetwake::event::{Damage, LostMessages, StoreMark, StoredMessage};
use jetwake::ids::{ByteCount, Sequence};

/// A store, as it would be found if it was opened now.
#[derive(Clone, Debug, Default)]
pub struct Store {
    mark: Option<StoreMark>,
    /// Up to what nothing is taken out, where the mark says that it only added.
    only_adds: Option<Bytes>,
    messages: BTreeMap<Sequence, Bytes>,
    /// Runs of messages that cannot be read: the last of each, and whether it is known how many
    /// there are.
    lost: BTreeMap<Sequence, (Sequence, bool)>,
    /// Whether all was lost and nothing was written since.
    missing: bool,
}

impl Store {
    /// How far it has got, if it was ever written.
    pub const fn mark(&self) -> Option<StoreMark> {
        self.mark
    }

    /// Up to what nothing is taken out, if that was remembered.
    pub fn only_adds(&self) -> Option<Bytes> {
        self.only_adds.clone()
    }

    /// Every message, by sequence.
    pub const fn messages(&self) -> &BTreeMap<Sequence, Bytes> {
        &self.messages
    }

    /// Whether all that was written can be read.
    pub fn is_sound(&self) -> bool {
        let lost = self.lost.iter().any(|(first, (last, _))| self.count(*first, *last) > 0);
        !lost && !self.missing
    }

    /// What a process that starts is told of the damage.
    pub fn damage(&self) -> Option<Damage> {
        self.missing.then(|| damage("the database was moved aside".into()))
    }

    /// A run of so many messages cannot be read any more; whether there was one.
    pub fn lose_messages(&mut self, pick: u64, most: u64, counted: bool) -> bool {
        let Some(place) = pick.checked_rem(self.messages.len() as u64) else { return false };
        let mut run = self.messages.keys().skip(place as usize).take(most.max(1) as usize);
        let Some(first) = run.next().copied() else { return false };
        let last = run.next_back().copied().unwrap_or(first);
        let apart = self.lost.range(..=last).next_back().is_none_or(|(_, (end, _))| *end < first);
        if apart {
            self.lost.insert(first, (last, counted));
        }
        apart
    }

    /// Everything is gone.
    pub fn lose_all(&mut self) {
        *self = Self { missing: true, ..Self::default() };
    }

    fn count(&self, first: Sequence, last: Sequence) -> u64 {
        self.messages.range(first..=last).count() as u64
    }

    /// The messages that a read which begins at `first` cannot give, if it cannot.
    pub fn lost(&self, first: Sequence, last: Sequence) -> Option<LostMessages> {
        let (first, _) = self.messages.range(first..=last.max(first)).next()?;
        let (first, last, counted) = self.lost_around(*first)?;
        let count = counted.then(|| self.count(first, last));
        let damage = damage(format!("the messages from {first}: wrong checksum"));
        Some(LostMessages { first, last, count, damage })
    }

    fn lost_around(&self, sequence: Sequence) -> Option<(Sequence, Sequence, bool)> {
        let (first, (last, counted)) = self.lost.range(..=sequence).next_back()?;
        (sequence <= *last).then_some((*first, *last, *counted))
    }

    /// What is wrong with a change, if anything is: a core that asks for it breaks its contract.
    pub fn objection(&self, change: &StoreChange, mark: &StoreMark) -> Option<String> {
        let objection = match change {
            StoreChange::Messages { block, places } => self.messages_objection(block, places, mark),
            StoreChange::Remove(ranges) => ranges_objection(ranges),
            StoreChange::Mend(mend) => mend_objection(mend),
            StoreChange::Exchange(exchange) => {
                let Exchange { removed, block, places } = &**exchange;
                ranges_objection(removed)
                    .or_else(|| exchange_objection(removed, places))
                    .or_else(|| self.messages_objection(block, places, mark))
            }
            _ => None,
        };
        objection.or_else(|| self.mark_objection(change, mark))
    }

    fn messages_objection(
        &self,
        block: &Bytes,
        places: &[Place],
        mark: &StoreMark,
    ) -> Option<String> {
        let mut last = self.messages.last_key_value().map_or(Sequence::ZERO, |(last, _)| *last);
        if places.is_empty() {
            return Some("stores a block without messages".into());
        }
        for place in places {
            let Place { sequence, offset, length } = *place;
            if sequence <= last {
                return Some(format!("stores message {sequence} behind message {last}"));
            }
            let end = u64::from(offset) + u64::from(length);
            if length == 0 || end > block.len() as u64 {
                let bytes = block.len();
                return Some(format!(
                    "places message {sequence} at {offset}..{end} of a block of {bytes} bytes"
                ));
            }
            let op = block[offset as usize];
            if !matches!(op, 4 | 14) {
                return Some(format!("stores message {sequence} with the op {op}"));
            }
            last = sequence;
        }
        (mark.last < last)
            .then(|| format!("stores message {last}, but marks {} as the last", mark.last))
    }

    fn mark_objection(&self, change: &StoreChange, mark: &StoreMark) -> Option<String> {
        if mark.first > mark.last.next() {
            return Some(format!("marks {} as the first of {}", mark.first, mark.last));
        }
        let old = self.mark.filter(|_| *change != StoreChange::Clear)?;
        let back = mark.entries < old.entries;
        if mark.applied < old.applied || mark.applied == old.applied && back {
            return Some(format!("moves applied back from {} to {}", old.applied, mark.applied));
        }
        if mark.last < old.last {
            return Some(format!(
                "moves the last sequence back from {} to {}",
                old.last, mark.last
            ));
        }
        if mark.first < old.first {
            let (old, new) = (old.first, mark.first);
            return Some(format!("moves the first sequence back from {old} to {new}"));
        }
        None
    }

    /// Performs a change that nothing speaks against.
    pub fn apply(&mut self, change: &StoreChange, mark: &StoreMark) {
        match change {
            StoreChange::Messages { block, places } => self.add(block, places),
            StoreChange::Remove(ranges) => self.remove(ranges),
            StoreChange::Exchange(exchange) => {
                self.remove(&exchange.removed);
                self.add(&exchange.block, &exchange.places);
            }
            StoreChange::Mend(mend) => {
                let Mend { first, last, block, places } = &**mend;
                self.remove(&[(*first, *last)]);
                self.lost.retain(|from, (to, _)| *to < *first || *from > *last);
                self.add(block, places);
            }
            StoreChange::Clear => {
                self.messages.clear();
                self.lost.clear();
                self.missing = false;
            }
            StoreChange::Mark => {}
            StoreChange::OnlyAdds(until) => self.only_adds = Some(until.clone()),
            other => panic!("the simulated store does not know the change {other:?}"),
        }
        if !mark.only_added {
            self.only_adds = None;
        }
        self.mark = Some(*mark);
    }

    fn add(&mut self, block: &Bytes, places: &[Place]) {
        for place in places {
            let start = place.offset as usize;
            let record = block.slice(start..start + place.length as usize);
            self.messages.insert(place.sequence, record);
        }
    }

    fn remove(&mut self, ranges: &[(Sequence, Sequence)]) {
        for (first, last) in ranges {
            let range = self.messages.range(first..=last);
            for sequence in range.map(|(sequence, _)| *sequence).collect::<Vec<_>>() {
                self.messages.remove(&sequence);
            }
        }
    }

    /// Reads a run, as [`Command::Read`](jetwake::command::Command::Read) asks.
    pub fn read(
        &self,
        first: Sequence,
        last: Sequence,
        most: usize,
        bytes: ByteCount,
    ) -> (Vec<StoredMessage>, Option<Sequence>) {
        let mut messages = Vec::new();
        let mut left = bytes.get();
        if first > last {
            return (messages, None);
        }
        for (sequence, record) in self.messages.range(first..=last) {
            if self.lost_around(*sequence).is_some() {
                return (messages, Some(*sequence));
            }
            let length = record.len() as u64;
            if messages.len() >= most.max(1) || (length > left && !messages.is_empty()) {
                return (messages, Some(*sequence));
            }
            left = left.saturating_sub(length);
            messages.push(StoredMessage { sequence: *sequence, record: record.clone() });
        }
        (messages, None)
    }
}

fn exchange_objection(removed: &[(Sequence, Sequence)], places: &[Place]) -> Option<String> {
    let (gone, first) = (removed.last()?.1, places.first()?.sequence);
    (gone >= first).then(|| format!("removes message {gone}, and stores message {first}"))
}

fn mend_objection(mend: &Mend) -> Option<String> {
    let (first, last) = (mend.first, mend.last);
    let inside = mend.places.iter().all(|place| (first..=last).contains(&place.sequence));
    let rise = mend.places.is_sorted_by(|a, b| a.sequence < b.sequence);
    (first > last || !inside || !rise)
        .then(|| format!("mends {first}..={last} with messages that are not of it"))
}

fn damage(what: String) -> Damage {
    Damage { file: "store".into(), offset: None, what }
}

fn ranges_objection(ranges: &[(Sequence, Sequence)]) -> Option<String> {
    let mut before: Option<Sequence> = None;
    for (first, last) in ranges {
        if first > last {
            return Some(format!("removes the range {first}..={last}"));
        }
        if before.is_some_and(|before| *first <= before) {
            return Some(format!("removes {first}..={last} behind a range that ends later"));
        }
        before = Some(*last);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetwake::ids::Index;

    fn mark(applied: u64, first: u64, last: u64) -> StoreMark {
        StoreMark {
            applied: Index::new(applied),
            first: Sequence::new(first),
            last: Sequence::new(last),
            ..StoreMark::default()
        }
    }

    fn messages(sequences: &[u64]) -> StoreChange {
        let block = Bytes::from(vec![4; sequences.len() * 10]);
        let place = |(at, sequence): (usize, &u64)| Place {
            sequence: Sequence::new(*sequence),
            offset: at as u32 * 10,
            length: 10,
        };
        StoreChange::Messages { block, places: sequences.iter().enumerate().map(place).collect() }
    }

    #[test]
    fn keeps_messages_and_removes_ranges() {
        let mut store = Store::default();
        let change = messages(&[1, 2, 3, 5, 9]);
        assert_eq!(store.objection(&change, &mark(1, 1, 9)), None);
        store.apply(&change, &mark(1, 1, 9));
        let remove = StoreChange::Remove(vec![
            (Sequence::new(2), Sequence::new(2)),
            (Sequence::new(4), Sequence::new(8)),
        ]);
        assert_eq!(store.objection(&remove, &mark(2, 1, 9)), None);
        store.apply(&remove, &mark(2, 1, 9));
        let left: Vec<_> = store.messages().keys().map(|sequence| sequence.get()).collect();
        assert_eq!(left, [1, 3, 9]);
        let all = Sequence::new(1)..=Sequence::new(9);
        let (read, next) = store.read(*all.start(), *all.end(), 2, ByteCount::new(1000));
        assert_eq!((read.len(), next), (2, Some(Sequence::new(9))));
        let (read, next) = store.read(*all.start(), *all.end(), 9, ByteCount::new(1));
        assert_eq!((read.len(), next), (1, Some(Sequence::new(3))));
    }

    #[test]
    fn objects_to_what_does_not_hold_together() {
        let mut store = Store::default();
        store.apply(&messages(&[1, 2, 3]), &mark(5, 1, 3));
        let (sequence, block) = (Sequence::new(4), Bytes::from_static(&[4; 10]));
        let outside = StoreChange::Messages {
            block: block.clone(),
            places: vec![Place { sequence, offset: 5, length: 6 }],
        };
        let wrong_op = StoreChange::Messages {
            block: Bytes::from_static(&[5; 10]),
            places: vec![Place { sequence, offset: 0, length: 10 }],
        };
        let backwards = StoreChange::Remove(vec![(Sequence::new(3), Sequence::new(2))]);
        for (change, mark, words) in [
            (messages(&[3]), mark(6, 1, 3), "stores message 3 behind message 3"),
            (messages(&[5, 4]), mark(6, 1, 5), "stores message 4 behind message 5"),
            (messages(&[4]), mark(6, 1, 3), "marks 3 as the last"),
            (outside, mark(6, 1, 4), "at 5..11 of a block of 10 bytes"),
            (wrong_op, mark(6, 1, 4), "with the op 5"),
            (backwards, mark(6, 1, 3), "the range 3..=2"),
            (StoreChange::Mark, mark(4, 1, 3), "moves applied back"),
            (StoreChange::Mark, mark(6, 1, 2), "moves the last sequence back"),
            (StoreChange::Mark, mark(6, 5, 3), "as the first"),
        ] {
            let objection = store.objection(&change, &mark).expect(words);
            assert!(objection.contains(words), "{objection}");
        }
    }
}
