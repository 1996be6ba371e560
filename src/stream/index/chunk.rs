//! A run of 2,048 sequences: what the index knows of each message in it.
//!
//! Runs are aligned, so that the deletes of one are the bitmap of one node of upstream's sequence
//! set. A run with few messages left keeps only those.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Sequences of one chunk.
pub(super) const CHUNK: u64 = 2048;
/// The same as a length.
const LENGTH: usize = CHUNK as usize;
/// A bit for each sequence of a chunk.
pub(super) type Bits = [u64; LENGTH / 64];

/// What the index knows of one message: 24 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// When it was taken, in nanoseconds since the epoch.
    pub(super) timestamp: i64,
    /// Its subject's number.
    pub(super) subject: u32,
    /// Its bytes as they are counted; zero for no message.
    pub(super) size: u32,
    /// How far before it the message of the same subject lies; zero for none.
    pub(super) before: u32,
    /// How far behind it the message of the same subject lies; zero for none.
    pub(super) after: u32,
}

impl Slot {
    const NONE: Self = Self { timestamp: 0, subject: 0, size: 0, before: 0, after: 0 };
}

/// One run.
#[derive(Debug)]
pub(super) enum Chunk {
    /// A slot for each sequence from the first message on.
    Dense(Dense),
    /// The messages alone, by offset.
    Sparse(Vec<(u16, Slot)>),
}

impl Chunk {
    /// How many messages it has.
    pub(super) fn live(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.live(),
            Self::Sparse(messages) => messages.len(),
        }
    }

    pub(super) fn get(&self, offset: usize) -> Option<&Slot> {
        match self {
            Self::Dense(dense) => dense.get(offset),
            Self::Sparse(messages) => {
                let found =
                    messages.binary_search_by_key(&offset, |(at, _)| usize::from(*at)).ok()?;
                messages.get(found).map(|(_, slot)| slot)
            }
        }
    }

    pub(super) fn get_mut(&mut self, offset: usize) -> Option<&mut Slot> {
        match self {
            Self::Dense(dense) => dense.get_mut(offset),
            Self::Sparse(messages) => {
                let found =
                    messages.binary_search_by_key(&offset, |(at, _)| usize::from(*at)).ok()?;
                messages.get_mut(found).map(|(_, slot)| slot)
            }
        }
    }

    /// No message is added any more: takes no more memory than the messages need.
    pub(super) fn seal(&mut self) {
        let Self::Dense(dense) = self else { return };
        if dense.is_sparse() {
            *self = Self::Sparse(dense.messages());
        } else {
            dense.slots.shrink_to_fit();
        }
    }

    /// Takes a message out; its slot, if there was one.
    pub(super) fn remove(&mut self, offset: usize) -> Option<Slot> {
        match self {
            Self::Dense(dense) => {
                let removed = dense.remove(offset)?;
                if dense.is_sparse() {
                    *self = Self::Sparse(dense.messages());
                }
                Some(removed)
            }
            Self::Sparse(messages) => {
                let found =
                    messages.binary_search_by_key(&offset, |(at, _)| usize::from(*at)).ok()?;
                let (_, removed) = messages.remove(found);
                if messages.len() * 4 <= messages.capacity() {
                    messages.shrink_to(messages.len() * 2);
                }
                Some(removed)
            }
        }
    }

    /// The first message at or behind the offset.
    pub(super) fn at_or_after(&self, offset: usize) -> Option<usize> {
        match self {
            Self::Dense(dense) => dense.at_or_after(offset),
            Self::Sparse(messages) => {
                let from = messages.partition_point(|(at, _)| usize::from(*at) < offset);
                messages.get(from).map(|(at, _)| usize::from(*at))
            }
        }
    }

    /// The message that has this many behind it in the chunk.
    pub(super) fn nth_last(&self, behind: usize) -> Option<usize> {
        match self {
            Self::Dense(dense) => dense.nth_last(behind),
            Self::Sparse(messages) => {
                let at = messages.len().checked_sub(behind + 1)?;
                messages.get(at).map(|(at, _)| usize::from(*at))
            }
        }
    }

    /// A set bit for each sequence with a message.
    pub(super) fn bits(&self) -> Bits {
        match self {
            Self::Dense(dense) => dense.bits(),
            Self::Sparse(messages) => {
                let mut bits = [0; _];
                for (at, _) in messages {
                    set(&mut bits, usize::from(*at));
                }
                bits
            }
        }
    }
}

/// A slot for each sequence from `start` on, as far as there are messages.
#[derive(Debug, Default)]
pub(super) struct Dense {
    start: usize,
    slots: Vec<Slot>,
    /// A set bit for each slot without a message; none while every slot has one.
    holes: Option<Box<Bits>>,
    holes_set: usize,
}

impl Dense {
    /// An empty one whose next message has this offset.
    pub(super) const fn new(start: usize) -> Self {
        Self { start, slots: Vec::new(), holes: None, holes_set: 0 }
    }

    pub(super) fn live(&self) -> usize {
        self.slots.len() - self.holes_set
    }

    /// Whether so few messages are left that they take less memory alone.
    fn is_sparse(&self) -> bool {
        self.live() * 4 <= self.slots.len()
    }

    /// The offset of the next message.
    pub(super) fn end(&self) -> usize {
        self.start + self.slots.len()
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    /// Adds slots without a message.
    pub(super) fn push_holes(&mut self, count: usize) {
        let holes = self.holes.get_or_insert_with(|| Box::new([0; _]));
        let first = self.start + self.slots.len();
        for at in first..first + count {
            set(holes, at);
        }
        self.holes_set += count;
        self.slots.resize(self.slots.len() + count, Slot::NONE);
    }

    fn get(&self, offset: usize) -> Option<&Slot> {
        self.slots.get(offset.checked_sub(self.start)?).filter(|slot| slot.size > 0)
    }

    fn get_mut(&mut self, offset: usize) -> Option<&mut Slot> {
        self.slots.get_mut(offset.checked_sub(self.start)?).filter(|slot| slot.size > 0)
    }

    pub(super) fn remove(&mut self, offset: usize) -> Option<Slot> {
        let slot = self.get_mut(offset)?;
        let removed = core::mem::replace(slot, Slot::NONE);
        set(self.holes.get_or_insert_with(|| Box::new([0; _])), offset);
        self.holes_set += 1;
        Some(removed)
    }

    fn at_or_after(&self, offset: usize) -> Option<usize> {
        let offset = offset.max(self.start);
        let end = self.start + self.slots.len();
        if offset >= end {
            return None;
        }
        let Some(holes) = &self.holes else { return Some(offset) };
        let mut word = offset / 64;
        let mut messages = !*holes.get(word)? & (u64::MAX << (offset % 64));
        while messages == 0 {
            word += 1;
            messages = !*holes.get(word)?;
        }
        Some(word * 64 + messages.trailing_zeros() as usize).filter(|found| *found < end)
    }

    fn nth_last(&self, behind: usize) -> Option<usize> {
        let mut left = behind;
        for (at, slot) in self.slots.iter().enumerate().rev() {
            if slot.size > 0 {
                if left == 0 {
                    return Some(self.start + at);
                }
                left -= 1;
            }
        }
        None
    }

    fn bits(&self) -> Bits {
        let mut bits = ones(self.start, self.start + self.slots.len());
        if let Some(holes) = &self.holes {
            for (bits, holes) in bits.iter_mut().zip(holes.iter()) {
                *bits &= !holes;
            }
        }
        bits
    }

    fn messages(&self) -> Vec<(u16, Slot)> {
        let mut messages = Vec::with_capacity(self.live());
        for (at, slot) in self.slots.iter().enumerate() {
            if slot.size > 0 {
                // Offsets end at 2,047.
                messages.push(((self.start + at) as u16, *slot));
            }
        }
        messages
    }
}

fn set(bits: &mut Bits, at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

/// Set bits for `from..to`.
pub(super) fn ones(from: usize, to: usize) -> Bits {
    let mut bits = [0; _];
    for (number, word) in bits.iter_mut().enumerate() {
        let (start, end) = (number * 64, number * 64 + 64);
        let (low, high) = (from.max(start), to.min(end));
        if low < high {
            *word = (u64::MAX >> (64 - (high - low))) << (low - start);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(size: u32) -> Slot {
        Slot { size, ..Slot::NONE }
    }

    #[test]
    fn a_slot_takes_24_bytes() {
        assert_eq!(size_of::<Slot>(), 24);
    }

    #[test]
    fn a_chunk_stays_the_same_when_it_turns_sparse() {
        let mut dense = Dense::new(10);
        for size in 1..=100 {
            dense.push(slot(size));
        }
        dense.push_holes(28);
        assert_eq!((dense.live(), dense.end()), (100, 138));
        let mut chunk = Chunk::Dense(dense);
        for at in 0..80 {
            assert_eq!(chunk.remove(10 + at).map(|slot| slot.size), Some(at as u32 + 1));
            assert!(chunk.remove(10 + at).is_none() && chunk.get(10 + at).is_none());
            assert_eq!(chunk.at_or_after(0), Some(11 + at));
        }
        assert!(matches!(chunk, Chunk::Sparse(_)));
        assert_eq!(chunk.live(), 20);
        assert_eq!(chunk.get_mut(95).map(|slot| slot.size), Some(86));
        assert_eq!((chunk.nth_last(0), chunk.nth_last(19)), (Some(109), Some(90)));
        assert_eq!((chunk.nth_last(20), chunk.at_or_after(110)), (None, None));
        assert_eq!(chunk.bits(), ones(90, 110));
    }

    #[test]
    fn a_chunk_that_grew_by_holes_keeps_only_its_messages() {
        let mut dense = Dense::new(0);
        for size in 1..=512 {
            dense.push(slot(size));
            dense.push_holes(3);
        }
        let mut chunk = Chunk::Dense(dense);
        let before: Vec<_> = (0..LENGTH).map(|at| chunk.get(at).map(|slot| slot.size)).collect();
        chunk.seal();
        let Chunk::Sparse(messages) = &chunk else { panic!("{chunk:?}") };
        assert_eq!((messages.len(), messages.capacity()), (512, 512));
        let after: Vec<_> = (0..LENGTH).map(|at| chunk.get(at).map(|slot| slot.size)).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn holes_are_passed_over() {
        let mut dense = Dense::new(0);
        dense.push(slot(1));
        dense.push_holes(200);
        dense.push(slot(2));
        assert_eq!((dense.at_or_after(1), dense.at_or_after(202)), (Some(201), None));
        assert_eq!((dense.nth_last(0), dense.nth_last(1)), (Some(201), Some(0)));
    }

    #[test]
    fn runs_of_bits_have_their_ends() {
        assert_eq!(ones(0, LENGTH), [u64::MAX; _]);
        assert_eq!(ones(5, 5), [0; _]);
        let bits = ones(63, 65);
        assert_eq!((bits[0], bits[1], bits[2]), (1 << 63, 1, 0));
    }
}
