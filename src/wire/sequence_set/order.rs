//! Checks that nodes come root first, while linking them.

use super::tree::{HEIGHT_MAX, base_of};

/// Where a node belongs that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Root,
    LeftOf(u32),
    RightOf(u32),
}

/// Follows a list of bases that should be a tree, each node before its left side, that before
/// its right.
#[derive(Debug)]
pub(super) struct RootFirstOrder {
    /// Places and bases of nodes whose right side has not begun.
    stack: [(u32, u64); HEIGHT_MAX],
    depth: usize,
    /// Every base from here on is above this one.
    above: Option<u64>,
    next: u32,
}

impl RootFirstOrder {
    pub(super) const fn new() -> Self {
        Self { stack: [(0, 0); HEIGHT_MAX], depth: 0, above: None, next: 0 }
    }

    /// Takes the next base; none if it is not aligned, out of order, or the tree too high.
    pub(super) fn take(&mut self, base: u64) -> Option<Link> {
        if base != base_of(base) || self.above.is_some_and(|above| base <= above) {
            return None;
        }
        let mut link = Link::Root;
        while let Some(&(place, lower)) = self.stack[..self.depth].last()
            && lower < base
        {
            link = Link::RightOf(place);
            self.above = Some(lower);
            self.depth -= 1;
        }
        if link == Link::Root
            && let Some(&(place, upper)) = self.stack[..self.depth].last()
        {
            if upper == base {
                return None;
            }
            link = Link::LeftOf(place);
        }
        *self.stack.get_mut(self.depth)? = (self.next, base);
        self.depth += 1;
        self.next += 1;
        Some(link)
    }
}
