//! A set of sequences: bitmaps of 2,048 neighbours in a balanced tree.
//!
//! Upstream: `server/avl/seqset.go`. Encoded: magic 22, version 2, count of nodes u32, size
//! u32, then the nodes, root first: base u64, 32 words of bitmap, height u16; little-endian.
//! Version 1 had 64 words a node. The same inserts make the same tree, and the same bytes.

mod codec;
mod order;
mod tree;

pub(super) use codec::{MAGIC, decode_prefix, verify_prefix};

use core::fmt;

use tree::{Ascending, Node, Tree, WORDS, word_of};

use crate::ids::Sequence;

/// Sequences, each at most once. Takes 280 bytes of memory for 2,048 neighbours, at least one
/// of which is in.
#[derive(Clone)]
pub struct SequenceSet {
    tree: Tree,
    len: u64,
    /// Whether the tree is balanced. Upstream's deletes leave some that are not; they are kept
    /// as they came until they change.
    balanced: bool,
}

impl Default for SequenceSet {
    fn default() -> Self {
        Self::new()
    }
}

impl SequenceSet {
    /// A set of none.
    pub const fn new() -> Self {
        Self { tree: Tree::new(), len: 0, balanced: true }
    }

    /// How many sequences are in.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is in.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a sequence in; whether it was not in before. Logarithmic; memory is taken once for
    /// 2,048 neighbours.
    pub fn insert(&mut self, sequence: Sequence) -> bool {
        let sequence = sequence.get();
        self.insert_word(sequence & !63, 1 << (sequence % 64)) == 1
    }

    /// Puts `count` sequences in, from `first` on; how many were not in before. Stops at the
    /// largest sequence. Logarithmic for each 64; takes memory for each 2,048.
    pub fn insert_run(&mut self, first: Sequence, count: u64) -> u64 {
        let Some(more) = count.checked_sub(1) else { return 0 };
        let last = first.plus(more).get();
        let mut start = first.get() & !63;
        let mut bits = u64::MAX << (first.get() % 64);
        let mut added = 0;
        loop {
            let end = start | 63;
            if end >= last {
                bits &= u64::MAX >> (end - last);
                return added + u64::from(self.insert_word(start, bits));
            }
            added += u64::from(self.insert_word(start, bits));
            bits = u64::MAX;
            // Below the last sequence, so that there is a next word.
            start = end + 1;
        }
    }

    /// Puts in those of 2,048 neighbours whose bit is set, lowest first; `base` is the first of them, a
    /// multiple of 2,048. Logarithmic, once for all of them.
    pub(crate) fn insert_bits(&mut self, base: Sequence, bits: &[u64; WORDS]) {
        self.make_balanced();
        self.len += u64::from(self.tree.set_all(base.get(), bits));
    }

    /// The sequences as bits of 2,048 neighbours each, rising: the first of them, and a bit for each,
    /// lowest first.
    pub(crate) fn bits(&self) -> impl Iterator<Item = (Sequence, &[u64; WORDS])> + '_ {
        self.tree.ascending().map(|node| (Sequence::new(node.base), &node.words))
    }

    /// Puts in all sequences of another set. Logarithmic for each 64.
    pub fn insert_set(&mut self, other: &Self) {
        for (start, bits) in other.words() {
            self.insert_word(start, bits);
        }
    }

    /// Sets bits of the aligned word that begins at `start`; how many were not set before.
    fn insert_word(&mut self, start: u64, bits: u64) -> u32 {
        self.make_balanced();
        let added = self.tree.set(start, bits);
        self.len += u64::from(added);
        added
    }

    /// Takes a sequence out; whether it was in. Logarithmic.
    pub fn remove(&mut self, sequence: Sequence) -> bool {
        self.make_balanced();
        let sequence = sequence.get();
        let removed = self.tree.clear(sequence & !63, 1 << (sequence % 64));
        self.len -= u64::from(removed);
        removed == 1
    }

    /// Takes out all sequences below `first`. Logarithmic for each 64.
    pub fn remove_below(&mut self, first: Sequence) {
        self.make_balanced();
        let first = first.get();
        while let Some((start, bits)) = self.words().next()
            && start < first
        {
            let below = match first - start {
                part @ ..64 => bits & !(u64::MAX << part),
                _ => bits,
            };
            if below == 0 {
                break;
            }
            self.len -= u64::from(self.tree.clear(start, below));
        }
    }

    /// Whether a sequence is in. Logarithmic.
    pub fn contains(&self, sequence: Sequence) -> bool {
        let sequence = sequence.get();
        self.tree
            .find(sequence)
            .is_some_and(|node| node.words[word_of(sequence)] >> (sequence % 64) & 1 == 1)
    }

    /// The lowest sequence.
    pub fn first(&self) -> Option<Sequence> {
        self.iter().next()
    }

    /// The highest sequence. Logarithmic.
    pub fn last(&self) -> Option<Sequence> {
        let mut node = self.tree.node(self.tree.root())?;
        while let Some(right) = self.tree.node(node.right) {
            node = right;
        }
        let (position, word) = node.words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        let bit = 63 - u64::from(word.leading_zeros());
        Some(Sequence::new(node.base + 64 * position as u64 + bit))
    }

    /// The sequences, rising. Takes no memory.
    pub fn iter(&self) -> Iter<'_> {
        Iter { words: self.words(), start: 0, bits: 0 }
    }

    /// The sequences as runs of neighbours: the first of each and how many; rising. Takes no
    /// memory.
    pub fn runs(&self) -> Runs<'_> {
        Runs { words: self.words(), start: 0, bits: 0 }
    }

    fn words(&self) -> Words<'_> {
        Words { nodes: self.tree.ascending(), node: None, position: 0 }
    }

    /// Builds a tree anew that upstream left out of balance, before it changes.
    fn make_balanced(&mut self) {
        if self.balanced {
            return;
        }
        let mut tree = Tree::new();
        tree.reserve(self.tree.node_count() as usize);
        for node in self.tree.root_first() {
            insert_node(&mut tree, node);
        }
        self.tree = tree;
        self.balanced = true;
    }
}

/// Copies a node's sequences; how many were not in before.
fn insert_node(tree: &mut Tree, node: &Node) -> u64 {
    let starts = (node.base..).step_by(64);
    starts.zip(&node.words).map(|(start, bits)| u64::from(tree.set(start, *bits))).sum()
}

impl PartialEq for SequenceSet {
    /// Whether both have the same sequences, whatever the shapes of their trees.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.words().eq(other.words())
    }
}

impl Eq for SequenceSet {}

impl fmt::Debug for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = |(first, count): (Sequence, u64)| first.get()..=first.plus(count - 1).get();
        f.debug_set().entries(self.runs().map(run)).finish()
    }
}

impl Extend<Sequence> for SequenceSet {
    fn extend<T: IntoIterator<Item = Sequence>>(&mut self, sequences: T) {
        for sequence in sequences {
            self.insert(sequence);
        }
    }
}

impl FromIterator<Sequence> for SequenceSet {
    fn from_iter<T: IntoIterator<Item = Sequence>>(sequences: T) -> Self {
        let mut set = Self::new();
        set.extend(sequences);
        set
    }
}

impl<'a> IntoIterator for &'a SequenceSet {
    type Item = Sequence;
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The words of the bitmaps that have bits, rising, with the sequence of their lowest bit.
#[derive(Clone, Debug)]
struct Words<'a> {
    nodes: Ascending<'a>,
    node: Option<&'a Node>,
    position: usize,
}

impl Iterator for Words<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        loop {
            let Some(word) = self.node.and_then(|node| node.words.get(self.position)) else {
                self.node = Some(self.nodes.next()?);
                self.position = 0;
                continue;
            };
            let base = self.node?.base;
            let start = base + 64 * self.position as u64;
            self.position += 1;
            if *word != 0 {
                return Some((start, *word));
            }
        }
    }
}

/// The sequences of a set, rising.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    words: Words<'a>,
    start: u64,
    bits: u64,
}

impl Iterator for Iter<'_> {
    type Item = Sequence;

    fn next(&mut self) -> Option<Sequence> {
        if self.bits == 0 {
            (self.start, self.bits) = self.words.next()?;
        }
        let bit = u64::from(self.bits.trailing_zeros());
        self.bits &= self.bits - 1;
        Some(Sequence::new(self.start + bit))
    }
}

/// The runs of neighbours in a set, rising.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    words: Words<'a>,
    start: u64,
    bits: u64,
}

impl Iterator for Runs<'_> {
    type Item = (Sequence, u64);

    fn next(&mut self) -> Option<(Sequence, u64)> {
        if self.bits == 0 {
            (self.start, self.bits) = self.words.next()?;
        }
        let skipped = self.bits.trailing_zeros();
        let first = self.start + u64::from(skipped);
        let ones = (self.bits >> skipped).trailing_ones();
        self.bits &= self.bits.checked_add(1 << skipped).unwrap_or(0);
        let mut count = u64::from(ones);
        let mut reaches_end = skipped + ones == 64;
        // A run that ends with its word may go on in the next.
        while reaches_end {
            let Some((start, bits)) = self.words.next() else { break };
            (self.start, self.bits) = (start, bits);
            if start != first.wrapping_add(count) || bits & 1 == 0 {
                break;
            }
            let ones = bits.trailing_ones();
            count += u64::from(ones);
            self.bits = bits.checked_shr(ones).map_or(0, |rest| rest << ones);
            reaches_end = ones == 64;
        }
        Some((Sequence::new(first), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_make_the_same_bytes_as_their_sequences() {
        let mut random = 1_u64;
        let mut word = || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            if random >> 62 == 0 { 0 } else { random & random << 7 }
        };
        let (mut whole, mut single) = (SequenceSet::new(), SequenceSet::new());
        for base in [4, 2, 9, 3, 4, 0, 12, 5, 6, 7, 2].map(|number| number * tree::SPAN) {
            let bits: [u64; WORDS] = core::array::from_fn(|_| word());
            whole.insert_bits(Sequence::new(base), &bits);
            for at in (0..tree::SPAN).filter(|at| bits[word_of(*at)] >> (at % 64) & 1 == 1) {
                single.insert(Sequence::new(base + at));
            }
        }
        assert_eq!((whole.len(), whole.to_bytes()), (single.len(), single.to_bytes()));
        let mut again = SequenceSet::new();
        whole.bits().for_each(|(base, bits)| again.insert_bits(base, bits));
        assert_eq!(again, single);
        again.insert_bits(Sequence::ZERO, &[0; _]);
        assert_eq!(again.len(), single.len());
    }
}
