//! Every draw of the simulator comes from here, and so from the seed.

use core::ops::Range;

use jetwake::random::Random;
use jetwake::time::Duration;

/// A chance in parts per million, so that no draw depends on floating point.
pub type PerMillion = u32;

/// A source of draws; each part of the simulator forks one of its own, so that a further draw in
/// one part does not shift those of another.
#[derive(Clone, Debug)]
pub struct Dice(Random);

impl Dice {
    /// Draws that follow from the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// A source of its own for another part.
    pub fn fork(&mut self) -> Self {
        Self::new(self.0.bits())
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number below the bound; zero if the bound is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let bits = u128::from(self.0.bits());
        // The high half of the product: even enough, and without the bias of low bits.
        ((bits * u128::from(bound)) >> 64) as u64
    }

    /// A place in a list of this length; zero if it is empty.
    pub fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Whether something of this chance happens now.
    pub fn chance(&mut self, chance: PerMillion) -> bool {
        chance > 0 && self.below(1_000_000) < u64::from(chance)
    }

    /// A duration in the range; its start if the range is empty.
    pub fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let width = range.end.saturating_sub(range.start).as_nanos();
        range.start + Duration::from_nanos(self.below(u64::try_from(width).unwrap_or(u64::MAX)))
    }

    /// One of a list; none of an empty one.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.place(list.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_bounds_and_repeat() {
        let mut dice = Dice::new(7);
        let mut again = Dice::new(7);
        let range = Duration::from_millis(2)..Duration::from_millis(3);
        for _ in 0..1000 {
            assert!(dice.below(3) < 3 && again.below(3) < 3);
            let drawn = dice.duration(&range);
            assert!(range.contains(&drawn), "{drawn:?}");
            assert_eq!(drawn, again.duration(&range));
        }
        assert_eq!(dice.below(0), 0);
        assert!(!dice.chance(0) && dice.chance(1_000_000));
    }
}
