//! A map of bounded size: at the bound whatever came first goes.

use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

/// Entries at most. Far more than a cluster has groups, or inboxes that are in use.
const MOST: usize = 16 * 1024;

/// The map. What was forgotten and is heard of again is known again.
#[derive(Clone, Debug)]
pub(crate) struct Bounded<K, V> {
    entries: BTreeMap<K, V>,
    /// In the order in which they came.
    order: VecDeque<K>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<K: Ord + Clone, V> Bounded<K, V> {
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key)
    }

    /// Adds an entry, or puts another in its place.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
            if self.order.len() > MOST
                && let Some(first) = self.order.pop_front()
            {
                self.entries.remove(&first);
            }
        }
    }

    /// The entry, which is added if it is not there.
    pub(crate) fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if !self.entries.contains_key(key) {
            self.insert(key.clone(), V::default());
        }
        // It was added if it was not there, and what goes for it is another.
        self.entries.entry(key.clone()).or_default()
    }

    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Keeps what `keep` says.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain(&mut keep);
        self.order.retain(|key| self.entries.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounded, MOST};

    #[test]
    fn what_came_first_goes_at_the_bound() {
        let mut map = Bounded::default();
        for key in 0..=MOST {
            map.insert(key, key);
            map.insert(key, key + 1);
        }
        assert_eq!(map.get(&0), None);
        assert_eq!(map.get(&1), Some(&2));
        assert_eq!(map.iter().count(), MOST);
        *map.get_or_default(&0) += 7;
        assert_eq!((map.get(&0), map.get(&1)), (Some(&7), None));
        map.retain(|key, _| *key == 0);
        assert_eq!((map.iter().count(), map.order.len()), (1, 1));
    }
}
