//! Randomness from a seed: the same seed draws the same numbers on every machine.

use core::ops::Range;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::ids::BASE62;
use crate::time::Duration;

/// A node's source of election timeouts and inbox names.
///
/// Not for secrets: whoever knows the seed knows every draw.
#[derive(Clone, Debug)]
pub struct Random(Pcg64Mcg);

impl Random {
    /// A source whose draws follow from the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A duration in the range, to the nanosecond; its start if the range is empty.
    pub fn duration(&mut self, range: Range<Duration>) -> Duration {
        let width = range.end.saturating_sub(range.start).as_nanos();
        let width = u64::try_from(width).unwrap_or(u64::MAX);
        if width == 0 {
            return range.start;
        }
        range.start + Duration::from_nanos(self.bits() % width)
    }

    /// A place below `count`; zero if there is none.
    pub fn below(&mut self, count: usize) -> usize {
        let bits = self.bits();
        // What is left of a division by a number of places is one of them.
        bits.checked_rem(count as u64).map_or(0, |place| place as usize)
    }

    /// Puts things in another order, each as likely as any other.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let place = self.below(last + 1);
            things.swap(last, place);
        }
    }

    /// Eight base-62 digits, the last token of an inbox.
    pub fn inbox_token(&mut self) -> [u8; 8] {
        let mut bits = self.bits();
        let mut token = [0; 8];
        for digit in &mut token {
            *digit = BASE62[(bits % BASE62.len() as u64) as usize];
            bits /= BASE62.len() as u64;
        }
        token
    }
}
