//! The bytes in flight of all catchups of streams that a node serves.
//!
//! Upstream: the `gcb*` family in `server/jetstream_cluster.go`. What is charged is released once:
//! by acknowledgements, or in one piece when a catchup ends. A catchup that finds no room, or others
//! in line, goes to the end of the line; room is for the first in line alone, so that none starves.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use crate::ids::GroupId;
use crate::subject::Token;

/// A node's bytes in flight, and the catchups that wait for room.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    in_flight: u64,
    /// By when they came. Never longer than the catchups that the node serves: each stands in it once.
    line: BTreeMap<u64, Waiter>,
    places: BTreeMap<Waiter, u64>,
    next_place: u64,
    /// Whether there is room for the first in line to try again.
    kick: bool,
}

/// A catchup that a group serves, by the token of its acknowledgements.
pub type Waiter = (GroupId, Token);

impl Budget {
    /// A budget of this many bytes.
    pub const fn new(most: u64) -> Self {
        Self {
            most,
            in_flight: 0,
            line: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
            kick: false,
        }
    }

    /// Bytes in flight on the whole node. Upstream: `gcbTotal`.
    pub const fn total(&self) -> u64 {
        self.in_flight
    }

    /// Whether there is room. Upstream: `gcbBelowMax`.
    pub const fn below_most(&self) -> bool {
        self.in_flight < self.most
    }

    /// Charges the node and `charge`. Upstream: `gcbAdd`.
    pub fn add(&mut self, charge: &mut Charge, bytes: u64) {
        charge.0 += bytes;
        self.in_flight += bytes;
    }

    /// Charges if nobody else is first in line, and if that stays within the budget or nothing else
    /// is in flight; else the waiter stands in line for [`woken`](Self::woken).
    pub fn try_add(&mut self, waiter: Waiter, charge: &mut Charge, bytes: u64) -> bool {
        let fits = self.in_flight == 0 || self.in_flight.saturating_add(bytes) <= self.most;
        let first = self.first().is_none_or(|first| first == waiter);
        if !fits || !first {
            if let Entry::Vacant(place) = self.places.entry(waiter) {
                place.insert(self.next_place);
                self.line.insert(self.next_place, waiter);
                self.next_place += 1;
            }
            return false;
        }
        self.take_out(&waiter);
        self.add(charge, bytes);
        // What is left may be enough for the next in line.
        self.wake();
        true
    }

    /// Leaves the line, if it stands in it: it wants no room any more.
    pub fn leave(&mut self, waiter: &Waiter) {
        self.take_out(waiter);
        self.wake();
    }

    fn take_out(&mut self, waiter: &Waiter) {
        if let Some(place) = self.places.remove(waiter) {
            self.line.remove(&place);
        }
    }

    fn first(&self) -> Option<Waiter> {
        self.line.first_key_value().map(|(_, waiter)| *waiter)
    }

    /// Releases part of a charge, never more than is charged. Upstream: `gcbSub`.
    pub fn release(&mut self, charge: &mut Charge, bytes: u64) {
        let bytes = bytes.min(charge.0);
        charge.0 -= bytes;
        assert!(self.in_flight >= bytes, "what is released was charged");
        self.in_flight -= bytes;
        self.wake();
    }

    /// Releases what a finished catchup still holds, once. Upstream: `gcbSubLast`.
    pub fn release_last(&mut self, charge: &mut Charge) {
        self.release(charge, charge.0);
    }

    /// The first in line, if it may try again. Upstream: `cbKickChan`.
    pub fn woken(&mut self) -> Option<Waiter> {
        core::mem::take(&mut self.kick).then(|| self.first()).flatten()
    }

    const fn wake(&mut self) {
        self.kick = self.below_most();
    }
}

/// What one catchup has in flight.
#[derive(Debug, Default)]
pub struct Charge(u64);

impl Charge {
    /// Bytes charged and not released.
    pub const fn bytes(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Waiter = (GroupId(1), *b"tokenone");
    const TWO: Waiter = (GroupId(2), *b"tokenone");
    const THREE: Waiter = (GroupId(2), *b"tokentwo");

    #[test]
    fn what_is_charged_is_released_once() {
        let (mut budget, mut charge) = (Budget::new(100), Charge::default());
        budget.add(&mut charge, 70);
        budget.release(&mut charge, 1000);
        assert_eq!((budget.total(), charge.bytes()), (0, 0));
        budget.add(&mut charge, 120);
        assert!(!budget.below_most());
        budget.release_last(&mut charge);
        budget.release_last(&mut charge);
        assert_eq!(budget.total(), 0);
    }

    #[test]
    fn waiters_are_woken_in_turn_and_only_below_the_maximum() {
        let mut budget = Budget::new(100);
        let (mut one, mut two, mut three) = Default::default();
        assert!(budget.try_add(ONE, &mut one, 100));
        assert!(!budget.try_add(TWO, &mut two, 60));
        assert!(!budget.try_add(THREE, &mut three, 40));
        assert!(!budget.try_add(TWO, &mut two, 60));
        assert_eq!(budget.woken(), None);
        budget.release(&mut one, 70);
        assert_eq!(budget.woken(), Some(TWO));
        assert_eq!(budget.woken(), None);
        assert!(budget.try_add(TWO, &mut two, 60));
        assert_eq!(budget.woken(), Some(THREE), "ten bytes are left, so the next may try");
        assert!(!budget.try_add(THREE, &mut three, 40));
        budget.release_last(&mut one);
        assert_eq!(budget.woken(), Some(THREE));
        assert!(budget.try_add(THREE, &mut three, 40));
    }

    #[test]
    fn who_frees_room_does_not_take_it_from_the_first_in_line() {
        let mut budget = Budget::new(100);
        let (mut one, mut two) = Default::default();
        assert!(budget.try_add(ONE, &mut one, 80));
        assert!(!budget.try_add(TWO, &mut two, 90));
        budget.release(&mut one, 40);
        assert!(!budget.try_add(ONE, &mut one, 40), "there is room, but not for it");
        assert!(!budget.try_add(TWO, &mut two, 90), "it waits on, as the first");
        budget.release_last(&mut one);
        assert_eq!(budget.woken(), Some(TWO));
        assert!(budget.try_add(TWO, &mut two, 90));
        assert_eq!(budget.woken(), Some(ONE));
    }

    #[test]
    fn who_leaves_the_line_makes_way_for_the_next() {
        let mut budget = Budget::new(100);
        let (mut one, mut two, mut three) = Default::default();
        assert!(budget.try_add(ONE, &mut one, 60));
        assert!(!budget.try_add(TWO, &mut two, 60));
        assert!(!budget.try_add(THREE, &mut three, 40));
        budget.leave(&TWO);
        assert_eq!(budget.woken(), Some(THREE));
        assert!(budget.try_add(THREE, &mut three, 40));
        assert_eq!(budget.woken(), None, "nobody is left");
    }

    #[test]
    fn a_single_catchup_goes_on_whatever_its_size() {
        let (mut budget, mut charge) = (Budget::new(10), Charge::default());
        assert!(budget.try_add(ONE, &mut charge, 50));
        assert!(!budget.try_add(ONE, &mut charge, 1));
    }
}
