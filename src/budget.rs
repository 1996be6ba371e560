//! The bytes in flight of all catchups of streams that a node serves.
//!
//! Upstream: the `gcb*` family in `server/jetstream_cluster.go`. What is charged is released once:
//! by acknowledgements, or in one piece when a catchup ends. A catchup that finds no room waits in
//! line; room is offered to one waiter at a time, in turn, so that none starves.

use alloc::collections::{BTreeSet, VecDeque};

use crate::ids::GroupId;

/// A node's bytes in flight, and the groups that wait for room.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    in_flight: u64,
    waiting: VecDeque<GroupId>,
    waiting_once: BTreeSet<GroupId>,
    woken: VecDeque<GroupId>,
}

impl Budget {
    /// A budget of this many bytes.
    pub const fn new(most: u64) -> Self {
        Self {
            most,
            in_flight: 0,
            waiting: VecDeque::new(),
            waiting_once: BTreeSet::new(),
            woken: VecDeque::new(),
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

    /// Charges if that stays within the budget, or nothing else is in flight; else puts the group
    /// in line for [`woken`](Self::woken).
    pub fn try_add(&mut self, group: GroupId, charge: &mut Charge, bytes: u64) -> bool {
        if self.in_flight > 0 && self.in_flight.saturating_add(bytes) > self.most {
            if self.waiting_once.insert(group) {
                self.waiting.push_back(group);
            }
            return false;
        }
        self.add(charge, bytes);
        // What is left may be enough for the next in line.
        self.wake();
        true
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

    /// The next group whose turn it is to try again. Upstream: `cbKickChan`.
    pub fn woken(&mut self) -> Option<GroupId> {
        self.woken.pop_front()
    }

    fn wake(&mut self) {
        if self.below_most()
            && let Some(group) = self.waiting.pop_front()
        {
            self.waiting_once.remove(&group);
            self.woken.push_back(group);
        }
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
        assert!(budget.try_add(GroupId(1), &mut one, 100));
        assert!(!budget.try_add(GroupId(2), &mut two, 60));
        assert!(!budget.try_add(GroupId(3), &mut three, 40));
        assert!(!budget.try_add(GroupId(2), &mut two, 60));
        assert_eq!(budget.woken(), None);
        budget.release(&mut one, 70);
        assert_eq!(budget.woken(), Some(GroupId(2)));
        assert_eq!(budget.woken(), None);
        assert!(budget.try_add(GroupId(2), &mut two, 60));
        assert_eq!(budget.woken(), Some(GroupId(3)), "ten bytes are left, so the next may try");
        assert!(!budget.try_add(GroupId(3), &mut three, 40));
        budget.release_last(&mut one);
        assert_eq!(budget.woken(), Some(GroupId(3)));
        assert!(budget.try_add(GroupId(3), &mut three, 40));
    }

    #[test]
    fn a_single_catchup_goes_on_whatever_its_size() {
        let (mut budget, mut charge) = (Budget::new(10), Charge::default());
        assert!(budget.try_add(GroupId(1), &mut charge, 50));
        assert!(!budget.try_add(GroupId(1), &mut charge, 1));
    }
}
