//! What is due when: the simulator's queue, ordered by time and, within a moment, by the order in
//! which things were put down.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use jetwake::time::Time;

/// A queue of things that become due. What is sorted are small entries; the things stay where they
/// were put.
#[derive(Debug)]
pub struct Agenda<T> {
    entries: BinaryHeap<Entry>,
    things: Vec<Option<T>>,
    free: Vec<usize>,
    numbered: u64,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    place: usize,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, because the heap hands out the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), numbered: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts down what becomes due at a moment.
    pub fn put(&mut self, at: Time, due: T) {
        self.numbered += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            self.things.len() - 1
        });
        self.things[place] = Some(due);
        self.entries.push(Entry { at, number: self.numbered, place });
    }

    /// Whether anything of this kind is still to come.
    pub fn any(&self, mut so: impl FnMut(&T) -> bool) -> bool {
        self.things.iter().flatten().any(&mut so)
    }

    /// When the next thing is due.
    pub fn next_at(&self) -> Option<Time> {
        self.entries.peek().map(|entry| entry.at)
    }

    /// Takes the next thing.
    pub fn take(&mut self) -> Option<(Time, T)> {
        let Entry { at, place, .. } = self.entries.pop()?;
        self.free.push(place);
        self.things[place].take().map(|due| (at, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_out_by_time_and_then_in_order() {
        let mut agenda = Agenda::default();
        for (at, name) in [(5, "late"), (1, "first"), (1, "second"), (3, "middle")] {
            agenda.put(Time::from_nanos(at), name);
        }
        assert_eq!(agenda.next_at(), Some(Time::from_nanos(1)));
        let order: Vec<_> = std::iter::from_fn(|| agenda.take().map(|(_, due)| due)).collect();
        assert_eq!(order, ["first", "second", "middle", "late"]);
    }
}
