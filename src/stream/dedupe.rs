//! The message ids of a stream's last minutes, so that a message that is published twice is stored
//! once.
//!
//! An id is kept as its keyed 128-bit hash: 32 bytes and a place in the table, whatever its length.
//! Only the leader decides by it, so it is no part of the stream's state; every replica keeps it, so
//! that each can lead. Ids that were proposed and not yet applied are in it on the leader alone, and
//! leave it with the leadership (upstream pull request 6486).

use alloc::collections::VecDeque;

use hashbrown::HashTable;
use siphasher::sip128::SipHasher13;

use crate::ids::Sequence;

/// Upstream's window where a stream names none: two minutes, in nanoseconds.
const DEFAULT_WINDOW: i64 = 120_000_000_000;

/// The ids of one stream.
#[derive(Debug)]
pub struct Dedupe {
    hasher: SipHasher13,
    window: i64,
    most: usize,
    /// In the order in which they were seen.
    ids: VecDeque<Id>,
    /// How many ids left at the front: what a place in the table counts from.
    gone: u64,
    /// Places by hash; only ever asked, never walked.
    places: HashTable<u64>,
    in_flight: usize,
}

#[derive(Clone, Copy, Debug)]
struct Id {
    hash: u128,
    /// Zero while it is proposed and not yet applied.
    sequence: Sequence,
    timestamp: i64,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was stored at this sequence.
    Stored(Sequence),
    /// It is proposed and not yet applied.
    InFlight,
}

impl Dedupe {
    /// Keeps ids for `window` nanoseconds (zero for upstream's two minutes, less for not at all),
    /// and `most` at most.
    pub fn new(key: u64, window: i64, most: usize) -> Self {
        Self {
            hasher: SipHasher13::new_with_keys(key, 1),
            window: if window == 0 { DEFAULT_WINDOW } else { window },
            most,
            ids: VecDeque::new(),
            gone: 0,
            places: HashTable::new(),
            in_flight: 0,
        }
    }

    /// How many ids are known.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether no id is known.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether a message of this time is of any interest.
    pub fn covers(&self, timestamp: i64, now: i64) -> bool {
        self.window > 0 && now.saturating_sub(timestamp) < self.window
    }

    /// What is known of an id.
    pub fn find(&mut self, id: &[u8], now: i64) -> Option<Seen> {
        self.expire(now);
        let hash = self.hash(id);
        let known = self.ids.get(self.position(hash)?)?;
        match known.sequence {
            Sequence::ZERO => Some(Seen::InFlight),
            sequence => Some(Seen::Stored(sequence)),
        }
    }

    /// An id was proposed.
    pub fn propose(&mut self, id: &[u8], now: i64) {
        self.insert(Id { hash: self.hash(id), sequence: Sequence::ZERO, timestamp: now });
    }

    /// A message with this id was stored.
    pub fn store(&mut self, id: &[u8], sequence: Sequence, timestamp: i64) {
        let hash = self.hash(id);
        let stored = Id { hash, sequence, timestamp };
        let known = self.position(hash).and_then(|position| self.ids.get_mut(position));
        match known.filter(|known| known.sequence == Sequence::ZERO) {
            Some(known) => {
                *known = stored;
                self.in_flight -= 1;
            }
            None => self.insert(stored),
        }
    }

    /// Forgets an id that was proposed, as its message was not stored.
    pub fn withdraw(&mut self, id: &[u8]) {
        let hash = self.hash(id);
        let Some(position) = self.position(hash) else { return };
        if let Some(known) = self.ids.get_mut(position).filter(|id| id.sequence == Sequence::ZERO) {
            // It keeps its position, to which nothing points any more.
            known.sequence = Sequence::MAX;
            self.in_flight -= 1;
            self.unplace(hash, self.gone + position as u64);
        }
    }

    /// Forgets the ids that were proposed and not applied.
    pub fn drop_in_flight(&mut self) {
        for position in (0..self.ids.len()).rev() {
            if self.in_flight == 0 {
                break;
            }
            let Some(id) = self.ids.get_mut(position) else { break };
            if id.sequence == Sequence::ZERO {
                // It keeps its position, to which nothing points any more.
                id.sequence = Sequence::MAX;
                let hash = id.hash;
                self.in_flight -= 1;
                self.unplace(hash, self.gone + position as u64);
            }
        }
    }

    /// Forgets the ids that are past the window.
    pub fn expire(&mut self, now: i64) {
        while let Some(id) = self.ids.front()
            && now.saturating_sub(id.timestamp) >= self.window
        {
            self.forget_oldest();
        }
    }

    fn hash(&self, id: &[u8]) -> u128 {
        self.hasher.hash(id).as_u128()
    }

    /// Where an id stands among those that are kept.
    fn position(&self, hash: u128) -> Option<usize> {
        let is = |place: &u64| self.at(*place).is_some_and(|id| id.hash == hash);
        let place = self.places.find(table_hash(hash), is)?;
        usize::try_from(place - self.gone).ok()
    }

    fn at(&self, place: u64) -> Option<&Id> {
        self.ids.get(usize::try_from(place.checked_sub(self.gone)?).ok()?)
    }

    fn insert(&mut self, id: Id) {
        if self.window <= 0 || self.most == 0 {
            return;
        }
        if self.ids.len() >= self.most {
            self.forget_oldest();
        }
        if let Some(position) = self.position(id.hash) {
            // The newer one counts; the older one stays as a place that nothing points to.
            self.unplace(id.hash, self.gone + position as u64);
        }
        let place = self.gone + self.ids.len() as u64;
        self.ids.push_back(id);
        self.in_flight += usize::from(id.sequence == Sequence::ZERO);
        let (gone, ids) = (self.gone, &self.ids);
        self.places.insert_unique(table_hash(id.hash), place, |place| {
            // A place counts from those that are gone, and points to one that is kept.
            ids.get((*place - gone) as usize).map_or(0, |id| table_hash(id.hash))
        });
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.ids.front().copied() else { return };
        self.unplace(id.hash, self.gone);
        self.ids.pop_front();
        self.gone += 1;
        self.in_flight -= usize::from(id.sequence == Sequence::ZERO);
        if self.ids.capacity() > 1024 && self.ids.len() * 4 < self.ids.capacity() {
            self.shrink();
        }
    }

    /// Gives memory back when most of it is not used any more.
    fn shrink(&mut self) {
        self.ids.shrink_to(self.ids.len() * 2);
        let (gone, ids) = (self.gone, &self.ids);
        self.places.shrink_to(self.places.len() * 2, |place| {
            ids.get((*place - gone) as usize).map_or(0, |id| table_hash(id.hash))
        });
    }

    fn unplace(&mut self, hash: u128, place: u64) {
        if let Ok(entry) = self.places.find_entry(table_hash(hash), |found| *found == place) {
            entry.remove();
        }
    }
}

/// The half of an id's hash that the table sorts by.
const fn table_hash(hash: u128) -> u64 {
    hash as u64
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::format;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn an_id_is_known_for_the_window() {
        let mut dedupe = Dedupe::new(3, 0, 10);
        dedupe.propose(b"a", 5 * SECOND);
        assert_eq!(dedupe.find(b"a", 6 * SECOND), Some(Seen::InFlight));
        dedupe.store(b"a", Sequence::new(9), 5 * SECOND);
        assert_eq!(dedupe.find(b"a", 124 * SECOND), Some(Seen::Stored(Sequence::new(9))));
        assert_eq!(dedupe.find(b"b", 124 * SECOND), None);
        assert_eq!(dedupe.find(b"a", 125 * SECOND), None);
        assert!(dedupe.is_empty());
    }

    #[test]
    fn ids_in_flight_leave_with_the_leadership() {
        let mut dedupe = Dedupe::new(3, 0, 10);
        dedupe.store(b"kept", Sequence::new(1), 0);
        dedupe.propose(b"a", 1);
        dedupe.propose(b"b", 2);
        dedupe.propose(b"lost", 2);
        dedupe.propose(b"withdrawn", 2);
        dedupe.withdraw(b"withdrawn");
        dedupe.withdraw(b"kept");
        assert_eq!(dedupe.find(b"withdrawn", 2), None);
        dedupe.store(b"a", Sequence::new(2), 1);
        dedupe.store(b"late", Sequence::new(3), 2);
        dedupe.drop_in_flight();
        assert_eq!(dedupe.find(b"lost", 3), None);
        assert_eq!(dedupe.find(b"late", 3), Some(Seen::Stored(Sequence::new(3))));
        assert_eq!(dedupe.find(b"b", 3), None);
        assert_eq!(dedupe.find(b"a", 3), Some(Seen::Stored(Sequence::new(2))));
        assert_eq!(dedupe.find(b"kept", 3), Some(Seen::Stored(Sequence::new(1))));
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut dedupe = Dedupe::new(3, 0, 2);
        for (number, id) in [b"a", b"b", b"c"].iter().enumerate() {
            dedupe.store(*id, Sequence::new(number as u64 + 1), 0);
        }
        assert_eq!((dedupe.find(b"a", 0), dedupe.len()), (None, 2));
        let mut none = Dedupe::new(3, -1, 2);
        none.store(b"a", Sequence::new(1), 0);
        assert_eq!(none.find(b"a", 0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_does_what_a_map_does(ids in prop::collection::vec((0..300_u32, 0..40_i64), 1..3000)) {
            let mut dedupe = Dedupe::new(3, 1000, usize::MAX);
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (number, (id, wait)) in ids.into_iter().enumerate() {
                now += wait;
                model.retain(|_, (_, time)| now - *time < 1000);
                let text = format!("id {id}");
                let known = model.get(&id).map(|(sequence, _)| Seen::Stored(*sequence));
                prop_assert_eq!(dedupe.find(text.as_bytes(), now), known);
                let sequence = Sequence::new(number as u64 + 1);
                dedupe.store(text.as_bytes(), sequence, now);
                model.insert(id, (sequence, now));
                prop_assert_eq!(dedupe.len(), model.len());
            }
            let known: Vec<_> = model.keys().collect();
            prop_assert_eq!(dedupe.len(), known.len());
        }
    }
}
