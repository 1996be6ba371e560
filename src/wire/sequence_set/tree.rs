//! The tree of a sequence set: AVL, in the order and shape of upstream's `avl` package, because
//! the shape is part of the encoding.
//!
//! Nodes live in one vector and refer to each other by place, so that a decoded set is one
//! allocation, in the order it came in.

use alloc::vec::Vec;

/// 64-bit words of a node's bitmap.
pub(super) const WORDS: usize = 32;
/// Sequences that one node stands for.
pub(super) const SPAN: u64 = WORDS as u64 * 64;
/// The place of no node.
pub(super) const NONE: u32 = u32::MAX;
/// No balanced tree that fits into 32-bit places is higher than 46.
pub(super) const HEIGHT_MAX: usize = 64;

/// 2,048 neighbouring sequences.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The first sequence; a multiple of 2,048.
    pub(super) base: u64,
    /// A bit for each sequence, lowest first. Never all zero in a tree.
    pub(super) words: [u64; WORDS],
    pub(super) left: u32,
    pub(super) right: u32,
    pub(super) height: u16,
}

/// Nodes ordered by base.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: u32,
    /// Places of removed nodes, to be used again; linked through `left`.
    free: u32,
    live: u32,
}

impl Tree {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), root: NONE, free: NONE, live: 0 }
    }

    /// Takes nodes that are linked already, the root first.
    pub(super) fn from_linked(nodes: Vec<Node>) -> Self {
        let root = if nodes.is_empty() { NONE } else { 0 };
        let live = nodes.len() as u32;
        Self { nodes, root, free: NONE, live }
    }

    /// Makes room for so many more nodes, and no more than that.
    pub(super) fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve_exact(nodes);
    }

    pub(super) const fn node_count(&self) -> u32 {
        self.live
    }

    pub(super) const fn root(&self) -> u32 {
        self.root
    }

    pub(super) fn node(&self, place: u32) -> Option<&Node> {
        self.nodes.get(place as usize)
    }

    /// The node that stands for a sequence.
    pub(super) fn find(&self, sequence: u64) -> Option<&Node> {
        self.nodes.get(self.find_place(sequence)?)
    }

    fn find_place(&self, sequence: u64) -> Option<usize> {
        let base = base_of(sequence);
        let mut place = self.root;
        while let Some(node) = self.node(place) {
            if base == node.base {
                return Some(place as usize);
            }
            place = if base < node.base { node.left } else { node.right };
        }
        None
    }

    /// Sets the bits of the aligned word that begins at `start`; how many were not set before.
    pub(super) fn set(&mut self, start: u64, bits: u64) -> u32 {
        if bits == 0 {
            return 0;
        }
        let mut added = 0;
        self.root = self.insert(self.root, start, bits, &mut added);
        added
    }

    /// Sets bits of the node that stands for `base`, word by word; how many were not set before.
    pub(super) fn set_all(&mut self, base: u64, bits: &[u64; WORDS]) -> u32 {
        let base = base_of(base);
        let Some(first) = bits.iter().position(|bits| *bits != 0) else { return 0 };
        let mut added = self.set(base + 64 * first as u64, bits[first]);
        if let Some(node) = self.find_place(base).and_then(|place| self.nodes.get_mut(place)) {
            for (word, bits) in node.words.iter_mut().zip(bits) {
                added += (bits & !*word).count_ones();
                *word |= bits;
            }
        }
        added
    }

    fn insert(&mut self, place: u32, start: u64, bits: u64, added: &mut u32) -> u32 {
        let base = base_of(start);
        let Some(node) = self.nodes.get_mut(place as usize) else {
            *added = bits.count_ones();
            return self.add(start, bits);
        };
        if base == node.base {
            let word = &mut node.words[word_of(start)];
            *added = (bits & !*word).count_ones();
            *word |= bits;
            return place;
        }
        let (left, right) = (node.left, node.right);
        let before = self.live;
        if base < self.at(place).base {
            let left = self.insert(left, start, bits, added);
            self.at_mut(place).left = left;
        } else {
            let right = self.insert(right, start, bits, added);
            self.at_mut(place).right = right;
        }
        // Without a new node no height has changed.
        if self.live == before { place } else { self.balance(place) }
    }

    fn add(&mut self, start: u64, bits: u64) -> u32 {
        let mut words = [0; WORDS];
        words[word_of(start)] = bits;
        let node = Node { base: base_of(start), words, left: NONE, right: NONE, height: 1 };
        self.live += 1;
        if let Some(place) = self.nodes.get_mut(self.free as usize) {
            let reused = self.free;
            self.free = place.left;
            *place = node;
            return reused;
        }
        self.nodes.push(node);
        // 2^32 nodes would be 1 TiB.
        (self.nodes.len() - 1) as u32
    }

    /// Clears bits of the aligned word that begins at `start`; how many were set. A node
    /// without bits goes.
    pub(super) fn clear(&mut self, start: u64, bits: u64) -> u32 {
        let Some(node) = self.find(start) else { return 0 };
        let bits = node.words[word_of(start)] & bits;
        if bits != 0 {
            self.root = self.remove(self.root, start, bits);
        }
        bits.count_ones()
    }

    /// Clears bits that are set below `place`.
    fn remove(&mut self, place: u32, start: u64, bits: u64) -> u32 {
        let base = base_of(start);
        let node = self.at_mut(place);
        let (left, right) = (node.left, node.right);
        if base == node.base {
            node.words[word_of(start)] &= !bits;
            if node.words != [0; WORDS] {
                return place;
            }
            return self.unlink(place);
        }
        if base < node.base {
            let left = self.remove(left, start, bits);
            self.at_mut(place).left = left;
        } else {
            let right = self.remove(right, start, bits);
            self.at_mut(place).right = right;
        }
        self.balance(place)
    }

    /// Takes a node out; the root of what is left of its subtree.
    fn unlink(&mut self, place: u32) -> u32 {
        let (left, right) = (self.at(place).left, self.at(place).right);
        let heir = match (left, right) {
            (NONE, only) | (only, NONE) => only,
            (left, right) => {
                let mut first = NONE;
                let right = self.take_first(right, &mut first);
                self.at_mut(first).left = left;
                self.at_mut(first).right = right;
                self.balance(first)
            }
        };
        self.at_mut(place).left = self.free;
        self.free = place;
        self.live -= 1;
        heir
    }

    /// Takes the first node of a subtree out into `first`; the root of the rest.
    fn take_first(&mut self, place: u32, first: &mut u32) -> u32 {
        let (left, right) = (self.at(place).left, self.at(place).right);
        if left == NONE {
            *first = place;
            return right;
        }
        let left = self.take_first(left, first);
        self.at_mut(place).left = left;
        self.balance(place)
    }

    /// A node at a place that this tree has handed out and not taken back.
    fn at(&self, place: u32) -> &Node {
        &self.nodes[place as usize]
    }

    fn at_mut(&mut self, place: u32) -> &mut Node {
        &mut self.nodes[place as usize]
    }

    fn height(&self, place: u32) -> u16 {
        self.node(place).map_or(0, |node| node.height)
    }

    /// How much higher the left side is.
    fn lean(&self, place: u32) -> i32 {
        self.node(place).map_or(0, |node| {
            i32::from(self.height(node.left)) - i32::from(self.height(node.right))
        })
    }

    fn measure(&mut self, place: u32) {
        let node = self.at(place);
        let height = self.height(node.left).max(self.height(node.right));
        self.at_mut(place).height = height.saturating_add(1);
    }

    /// Measures a node, and turns it if one side has become too high; the subtree's new root.
    fn balance(&mut self, place: u32) -> u32 {
        self.measure(place);
        let lean = self.lean(place);
        let (left, right) = (self.at(place).left, self.at(place).right);
        if lean > 1 {
            if self.lean(left) < 0 {
                let left = self.turn_left(left);
                self.at_mut(place).left = left;
            }
            return self.turn_right(place);
        }
        if lean < -1 {
            if self.lean(right) > 0 {
                let right = self.turn_right(right);
                self.at_mut(place).right = right;
            }
            return self.turn_left(place);
        }
        place
    }

    /// The right child, which leans are only turned towards if it is there, becomes the root.
    fn turn_left(&mut self, place: u32) -> u32 {
        let child = self.at(place).right;
        self.at_mut(place).right = self.at(child).left;
        self.at_mut(child).left = place;
        self.measure(place);
        self.measure(child);
        child
    }

    /// The left child becomes the root.
    fn turn_right(&mut self, place: u32) -> u32 {
        let child = self.at(place).left;
        self.at_mut(place).left = self.at(child).right;
        self.at_mut(child).right = place;
        self.measure(place);
        self.measure(child);
        child
    }

    /// Nodes by rising base.
    pub(super) fn ascending(&self) -> Ascending<'_> {
        let mut nodes = Ascending { tree: self, stack: [NONE; HEIGHT_MAX], depth: 0 };
        nodes.descend(self.root);
        nodes
    }

    /// Nodes in the order of the wire: each before its left side, that before its right.
    pub(super) fn root_first(&self) -> RootFirst<'_> {
        let mut nodes = RootFirst { tree: self, stack: [NONE; HEIGHT_MAX], depth: 0 };
        nodes.push(self.root);
        nodes
    }
}

/// Nodes by rising base.
#[derive(Clone, Debug)]
pub(super) struct Ascending<'a> {
    tree: &'a Tree,
    /// Nodes whose left sides are being visited.
    stack: [u32; HEIGHT_MAX],
    depth: usize,
}

impl Ascending<'_> {
    fn descend(&mut self, mut place: u32) {
        while let Some(node) = self.tree.node(place) {
            // A tree's height is checked when it is decoded, and stays balanced after.
            self.stack[self.depth] = place;
            self.depth += 1;
            place = node.left;
        }
    }
}

impl<'a> Iterator for Ascending<'a> {
    type Item = &'a Node;

    fn next(&mut self) -> Option<&'a Node> {
        self.depth = self.depth.checked_sub(1)?;
        let node = self.tree.node(self.stack[self.depth])?;
        self.descend(node.right);
        Some(node)
    }
}

/// Nodes in the order of the wire.
#[derive(Debug)]
pub(super) struct RootFirst<'a> {
    tree: &'a Tree,
    /// Right sides still to be visited, and what is next.
    stack: [u32; HEIGHT_MAX],
    depth: usize,
}

impl RootFirst<'_> {
    fn push(&mut self, place: u32) {
        if place != NONE {
            // At most one right side waits for each level above, and the height is bounded.
            self.stack[self.depth] = place;
            self.depth += 1;
        }
    }
}

impl<'a> Iterator for RootFirst<'a> {
    type Item = &'a Node;

    fn next(&mut self) -> Option<&'a Node> {
        self.depth = self.depth.checked_sub(1)?;
        let node = self.tree.node(self.stack[self.depth])?;
        self.push(node.right);
        self.push(node.left);
        Some(node)
    }
}

/// The base of the node that stands for a sequence.
pub(super) const fn base_of(sequence: u64) -> u64 {
    sequence & !(SPAN - 1)
}

/// The word of a sequence in its node; below 32 by its arithmetic.
pub(super) const fn word_of(sequence: u64) -> usize {
    (sequence % SPAN / 64) as usize
}
