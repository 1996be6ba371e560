//! The encoding of a sequence set.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::super::buffer::Buffer;
use super::SequenceSet;
use super::order::{Link, RootFirstOrder};
use super::tree::{HEIGHT_MAX, NONE, Node, Tree, WORDS};
use crate::limits::Limits;
use crate::wire::error::{Fault, WireError};

const FORMAT: &str = "sequence_set";

/// The first byte of every encoded set.
pub(in crate::wire) const MAGIC: u8 = 22;
const VERSION: u8 = 2;
const OLD_VERSION: u8 = 1;
const HEAD: usize = 1 + 1 + 4 + 4;
const NODE: usize = 8 + WORDS * 8 + 2;
const OLD_NODE: usize = 8 + 2 * WORDS * 8 + 2;

/// An encoded set whose lengths have been checked.
struct Encoded<'a> {
    old: bool,
    size: u32,
    /// The nodes, all of one length.
    nodes: &'a [u8],
    /// Bytes of the whole set.
    length: usize,
}

fn error(field: &'static str, offset: usize, fault: Fault) -> WireError {
    WireError { format: FORMAT, field, offset, fault }
}

/// The little-endian number at `offset`, if it is in.
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

impl<'a> Encoded<'a> {
    /// Checks head and length of the set that `bytes` begin with.
    fn new(bytes: &'a [u8], limits: &Limits) -> Result<Self, WireError> {
        let short = |expected: usize| {
            error("set", 0, Fault::Short { expected: expected as u64, found: bytes.len() })
        };
        let (Some(count), Some(size)) = (u32_at(bytes, 2), u32_at(bytes, 6)) else {
            return Err(short(HEAD));
        };
        let value = |field, offset, expected, found: u8| {
            Err(error(field, offset, Fault::Value { expected, found: u64::from(found) }))
        };
        if bytes[0] != MAGIC {
            return value("magic", 0, "22", bytes[0]);
        }
        let (old, node) = match bytes[1] {
            VERSION => (false, NODE),
            OLD_VERSION => (true, OLD_NODE),
            other => return value("version", 1, "1 or 2", other),
        };
        if u64::from(size) > limits.deleted {
            let fault = Fault::TooLarge { limit: limits.deleted, found: u64::from(size) };
            return Err(error("size", 6, fault));
        }
        let length = (count as usize).saturating_mul(node).saturating_add(HEAD);
        let nodes = bytes.get(HEAD..length).ok_or_else(|| short(length))?;
        Ok(Self { old, size, nodes, length })
    }

    /// Whether the nodes are a tree of aligned, distinct bitmaps: none is counted twice then.
    fn is_tree(&self) -> bool {
        let mut order = RootFirstOrder::new();
        !self.old && self.nodes.chunks_exact(NODE).all(|node| order.take(base(node)).is_some())
    }

    /// How many bits are set in all bitmaps together.
    fn bits(&self) -> u64 {
        let node = if self.old { OLD_NODE } else { NODE };
        self.nodes
            .chunks_exact(node)
            .map(|node| u64::from(count_bits(&node[8..node.len() - 2])))
            .sum()
    }

    fn wrong_size(&self) -> WireError {
        let found = u64::from(self.size);
        error("size", 6, Fault::Value { expected: "as many as the bitmaps have", found })
    }
}

fn base(node: &[u8]) -> u64 {
    node.first_chunk().map_or(0, |base| u64::from_le_bytes(*base))
}

fn words(node: &[u8]) -> impl Iterator<Item = u64> {
    node[8..].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// Bits of one bitmap.
fn count_bits(bitmap: &[u8]) -> u32 {
    bitmap.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum()
}

/// Checks the set that `bytes` begin with; how many bytes it takes, and how many sequences are
/// in. Takes no memory for a set as servers since 2.10 write it.
pub(in crate::wire) fn verify_prefix(
    bytes: &[u8],
    limits: &Limits,
) -> Result<(usize, u32), WireError> {
    let encoded = Encoded::new(bytes, limits)?;
    if encoded.is_tree() {
        if encoded.bits() != u64::from(encoded.size) {
            return Err(encoded.wrong_size());
        }
    } else {
        decode(&encoded)?;
    }
    Ok((encoded.length, encoded.size))
}

/// Reads the set that `bytes` begin with, and says how many bytes it takes.
pub(in crate::wire) fn decode_prefix(
    bytes: &[u8],
    limits: &Limits,
) -> Result<(SequenceSet, usize), WireError> {
    let encoded = Encoded::new(bytes, limits)?;
    Ok((decode(&encoded)?, encoded.length))
}

fn decode(encoded: &Encoded<'_>) -> Result<SequenceSet, WireError> {
    let size = u64::from(encoded.size);
    // Checked first, so that no more is unpacked than was promised.
    if encoded.bits() != size {
        return Err(encoded.wrong_size());
    }
    let set = match link(encoded) {
        Some(set) => set,
        None => insert_all(encoded)?,
    };
    // Bitmaps that overlap have fewer sequences than bits.
    if set.len != size { Err(encoded.wrong_size()) } else { Ok(set) }
}

/// Takes the nodes as they are, if they are a tree with right heights: one allocation.
fn link(encoded: &Encoded<'_>) -> Option<SequenceSet> {
    if encoded.old {
        return None;
    }
    let mut order = RootFirstOrder::new();
    let mut nodes: Vec<Node> = Vec::with_capacity(encoded.nodes.len() / NODE);
    for bytes in encoded.nodes.chunks_exact(NODE) {
        let mut node = Node {
            base: base(bytes),
            words: [0; WORDS],
            left: NONE,
            right: NONE,
            height: bytes.last_chunk().map_or(0, |height| u16::from_le_bytes(*height)),
        };
        for (word, found) in node.words.iter_mut().zip(words(bytes)) {
            *word = found;
        }
        let place = nodes.len() as u32;
        match order.take(node.base)? {
            Link::Root if place > 0 => return None,
            Link::Root => {}
            Link::LeftOf(parent) => nodes.get_mut(parent as usize)?.left = place,
            Link::RightOf(parent) => nodes.get_mut(parent as usize)?.right = place,
        }
        if node.words == [0; WORDS] {
            return None;
        }
        nodes.push(node);
    }
    let balanced = heights_are_right(&nodes)?;
    Some(SequenceSet { tree: Tree::from_linked(nodes), len: u64::from(encoded.size), balanced })
}

/// Whether the tree is balanced; none if a height is wrong, or too high to walk.
fn heights_are_right(nodes: &[Node]) -> Option<bool> {
    let height = |place: u32| nodes.get(place as usize).map_or(0, |node| node.height);
    let mut balanced = true;
    for node in nodes {
        let (left, right) = (height(node.left), height(node.right));
        if node.height != left.max(right).checked_add(1)? {
            return None;
        }
        balanced &= left.abs_diff(right) <= 1;
    }
    (usize::from(height(0)) < HEIGHT_MAX).then_some(balanced)
}

/// Builds a tree anew from bitmaps of the old version, or of an unusual shape.
fn insert_all(encoded: &Encoded<'_>) -> Result<SequenceSet, WireError> {
    let node = if encoded.old { OLD_NODE } else { NODE };
    let mut set = SequenceSet::new();
    set.tree.reserve(encoded.nodes.len() / NODE);
    for (position, bytes) in encoded.nodes.chunks_exact(node).enumerate() {
        let mut start = Some(base(bytes));
        for bits in words(bytes) {
            let word = Word { start, bits };
            let offset = HEAD + position * node;
            word.insert(&mut set).ok_or_else(|| {
                error("base", offset, Fault::Text("sequences of at most 64 bits"))
            })?;
            start = start.and_then(|start| start.checked_add(64));
        }
    }
    Ok(set)
}

/// 64 neighbours that need not begin at a multiple of 64.
struct Word {
    start: Option<u64>,
    bits: u64,
}

impl Word {
    /// Puts the sequences in; none if one is past the largest.
    fn insert(&self, set: &mut SequenceSet) -> Option<()> {
        if self.bits == 0 {
            return Some(());
        }
        let start = self.start?;
        let shift = start % 64;
        set.insert_word(start - shift, self.bits << shift);
        if shift > 0 && self.bits >> (64 - shift) != 0 {
            set.insert_word((start - shift).checked_add(64)?, self.bits >> (64 - shift));
        }
        Some(())
    }
}

impl SequenceSet {
    /// Reads a set of version 1 or 2. Takes 280 bytes for each node in one allocation; up to
    /// twice the input's bytes for a set of the old version or of an unusual shape.
    ///
    /// Bases that are no multiples of 2,048 and wrong heights, which upstream accepts, are
    /// put right.
    ///
    /// # Errors
    /// [`WireError`] if the bytes do not fit the count, the size is not that of the bitmaps
    /// (upstream believes it) or above `limits.deleted`, bitmaps overlap, or bytes are left.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let (set, length) = decode_prefix(bytes, limits)?;
        match bytes.len() - length {
            0 => Ok(set),
            more => Err(error("end", length, Fault::Trailing(more))),
        }
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        HEAD + self.tree.node_count() as usize * NODE
    }

    /// Appends the set, in version 2. One copy of each node.
    ///
    /// # Errors
    /// [`WireError`] if the set has more than 2^32 - 1 sequences, which the format cannot say;
    /// nothing is appended then.
    pub fn encode(&self, buffer: &mut impl Buffer) -> Result<(), WireError> {
        let Ok(size) = u32::try_from(self.len) else {
            let fault = Fault::TooLarge { limit: u64::from(u32::MAX), found: self.len };
            return Err(error("size", 6, fault));
        };
        buffer.reserve(self.encoded_len());
        buffer.put_u8(MAGIC);
        buffer.put_u8(VERSION);
        buffer.put_u32_le(self.tree.node_count());
        buffer.put_u32_le(size);
        for node in self.tree.root_first() {
            put_node(buffer, node);
        }
        Ok(())
    }

    /// The set in a buffer of its own.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn to_bytes(&self) -> Result<Bytes, WireError> {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer)?;
        Ok(buffer.freeze())
    }
}

fn put_node(buffer: &mut impl Buffer, node: &Node) {
    let mut bytes = [0; NODE];
    let (head, rest) = bytes.split_at_mut(8);
    head.copy_from_slice(&node.base.to_le_bytes());
    let (bitmap, height) = rest.split_at_mut(WORDS * 8);
    for (room, word) in bitmap.as_chunks_mut::<8>().0.iter_mut().zip(&node.words) {
        *room = word.to_le_bytes();
    }
    height.copy_from_slice(&node.height.to_le_bytes());
    buffer.put_slice(&bytes);
}
