//! Sets of sequences, against vectors of the real server and a set of the standard library.

#[path = "golden/mod.rs"]
mod golden;

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use golden::{number, vectors};
use jetwake::ids::Sequence;
use jetwake::limits::Limits;
use jetwake::wire::{Fault, SequenceSet, WireError};
use proptest::prelude::*;

fn decode(bytes: &[u8]) -> Result<SequenceSet, WireError> {
    SequenceSet::decode(&Bytes::copy_from_slice(bytes), &Limits::default())
}

fn set(sequences: impl IntoIterator<Item = u64>) -> SequenceSet {
    sequences.into_iter().map(Sequence::new).collect()
}

fn members(set: &SequenceSet) -> Vec<u64> {
    set.iter().map(Sequence::get).collect()
}

#[test]
fn sets_are_upstreams() {
    for vector in vectors("sequence_set") {
        let decoded = decode(&vector.bytes).expect(&vector.name);
        let fields = &vector.fields;
        assert_eq!(decoded.len(), number(&fields["size"]));
        let expected: Vec<u64> = match fields["members"].as_array() {
            Some(members) => members.iter().map(number).collect(),
            None => (number(&fields["first"])..=number(&fields["last"])).collect(),
        };
        assert_eq!(members(&decoded), expected, "{}", vector.name);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes().as_ref(), Ok(&vector.bytes), "{}", vector.name);
        // The same inserts make the same tree.
        assert_eq!(set(expected).to_bytes().as_ref(), Ok(&vector.bytes), "{}", vector.name);
    }
}

/// A set as old servers wrote it: twice the words a node.
fn old(sequences: &BTreeSet<u64>) -> Bytes {
    let bases: BTreeSet<u64> = sequences.iter().map(|sequence| sequence & !4095).collect();
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[22, 1]);
    bytes.put_u32_le(bases.len() as u32);
    bytes.put_u32_le(sequences.len() as u32);
    for base in bases {
        bytes.put_u64_le(base);
        let mut words = [0_u64; 64];
        for sequence in sequences.range(base..=base | 4095) {
            words[(sequence - base) as usize / 64] |= 1 << (sequence % 64);
        }
        words.iter().for_each(|word| bytes.put_u64_le(*word));
        bytes.put_u16_le(1);
    }
    bytes.freeze()
}

#[test]
fn a_set_of_the_old_version_is_read_and_written_in_the_new_one() {
    let sequences: BTreeSet<u64> = [0, 1, 63, 64, 2047, 2048, 4095, 4096, 1 << 40].into();
    let bytes = old(&sequences);
    let decoded = decode(&bytes).expect("the old version");
    assert_eq!(members(&decoded), sequences.iter().copied().collect::<Vec<_>>());
    assert_eq!(decoded.to_bytes().expect("it fits")[..2], [22, 2]);
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_refused() {
    let bytes = set([1, 5000, 9000]).to_bytes().expect("it fits");
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    let error = decode(&[&bytes[..], b"x"].concat()).expect_err("a byte too many");
    assert_eq!(error.fault, Fault::Trailing(1));
}

/// The encoding with bytes replaced.
fn patched(set: &SequenceSet, offset: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = set.to_bytes().expect("it fits").to_vec();
    bytes[offset..offset + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn a_size_that_is_not_that_of_the_bitmaps_is_refused() {
    for size in [0_u32, 1, 3, u32::MAX] {
        let error = decode(&patched(&set([1, 2]), 6, &size.to_le_bytes())).expect_err("a lie");
        assert_eq!((error.field, error.offset), ("size", 6));
    }
    let huge = patched(&set([1, 2]), 2, &u32::MAX.to_le_bytes());
    assert!(matches!(decode(&huge).expect_err("too many nodes").fault, Fault::Short { .. }));
    let limits = Limits { deleted: 1, ..Limits::default() };
    let bytes = set([1, 2]).to_bytes().expect("it fits");
    let error = SequenceSet::decode(&bytes, &limits).expect_err("two of one allowed");
    assert_eq!(error.fault, Fault::TooLarge { limit: 1, found: 2 });
}

#[test]
fn an_unaligned_base_is_put_right_and_one_past_the_end_refused() {
    let decoded = decode(&patched(&set([0, 1, 63, 2047]), 10, &100_u64.to_le_bytes()));
    let decoded = decoded.expect("upstream lets a caller choose the first base");
    assert_eq!(members(&decoded), [100, 101, 163, 2147]);
    assert_eq!(decoded.to_bytes(), set([100, 101, 163, 2147]).to_bytes());
    let error = decode(&patched(&set([0, 2047]), 10, &(u64::MAX - 5).to_le_bytes()));
    assert!(error.is_err(), "2,047 past the largest");
    let error = decode(&patched(&set([0, 64]), 10, &(u64::MAX - 63).to_le_bytes()));
    assert!(error.is_err(), "64 past the largest");
    assert!(decode(&patched(&set([0, 5]), 10, &(u64::MAX - 5).to_le_bytes())).is_ok());
}

#[test]
fn bitmaps_that_overlap_are_refused() {
    // Three nodes: root 2048, then 0, then 4096; the last becomes a second 0 or 2048.
    let three = set([1, 2049, 4097]);
    let last = 10 + 2 * 266;
    for base in [0_u64, 2048] {
        let error = decode(&patched(&three, last, &base.to_le_bytes())).expect_err("overlap");
        assert_eq!(error.field, "size", "base {base}");
    }
}

#[test]
fn wrong_heights_and_orders_are_put_right() {
    let three = set([1, 2049, 4097]);
    let good = three.to_bytes().expect("it fits");
    let high = decode(&patched(&three, 10 + 264, &9_u16.to_le_bytes())).expect("a height");
    assert_eq!(high.to_bytes().expect("it fits"), good);
    // Leaf, root, leaf is no order with the root first.
    let (head, nodes) = good.split_at(10);
    let nodes: Vec<_> = nodes.chunks(266).collect();
    let turned = decode(&[head, nodes[2], nodes[0], nodes[1]].concat()).expect("another order");
    assert_eq!(turned, three);
    let again = decode(&turned.to_bytes().expect("it fits")).expect("its own bytes");
    assert_eq!(again, three);
}

/// A chain of nodes to the right, with right heights: a tree that is far out of balance.
fn chain(count: u16) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[22, 2]);
    bytes.put_u32_le(u32::from(count));
    bytes.put_u32_le(u32::from(count));
    for position in 0..count {
        bytes.put_u64_le(u64::from(position) * 2048);
        bytes.put_u64_le(1);
        bytes.put_bytes(0, 31 * 8);
        bytes.put_u16_le(count - position);
    }
    bytes.freeze()
}

#[test]
fn a_tree_out_of_balance_stays_as_it_is_until_it_changes() {
    for count in [3, 40, 63] {
        let bytes = chain(count);
        let mut decoded = decode(&bytes).expect("a chain");
        assert_eq!(decoded.to_bytes().expect("it fits"), bytes, "{count} nodes");
        assert_eq!(members(&decoded).len(), usize::from(count));
        assert!(decoded.insert(Sequence::new(1)));
        assert!(decoded.remove(Sequence::new(1)));
        let root = decoded.to_bytes().expect("it fits").slice(10..).get_u64_le();
        assert!(root > 0, "the lowest is the root no more");
        assert_eq!(decoded, decode(&bytes).expect("a chain"));
    }
    let high = decode(&chain(5000)).expect("a chain too high to walk is built anew");
    assert_eq!(high.len(), 5000);
    assert_ne!(high.to_bytes().expect("it fits"), chain(5000));
}

#[test]
fn the_largest_sequences_have_their_place() {
    let edges = [0, 1, 2047, 2048, u64::MAX - 2048, u64::MAX - 2047, u64::MAX - 1, u64::MAX];
    let all = set(edges);
    assert_eq!(members(&all), edges);
    assert_eq!((all.first(), all.last()), (Some(Sequence::ZERO), Some(Sequence::MAX)));
    assert_eq!(decode(&all.to_bytes().expect("it fits")), Ok(all.clone()));
    let runs: Vec<_> = all.runs().map(|(first, count)| (first.get(), count)).collect();
    let expected = [(0, 2), (2047, 2), (u64::MAX - 2048, 2), (u64::MAX - 1, 2)];
    assert_eq!(runs, expected);
}

#[test]
fn runs_reach_over_words_and_nodes() {
    let mut set = SequenceSet::new();
    assert_eq!(set.insert_run(Sequence::new(60), 5000), 5000);
    assert_eq!(set.insert_run(Sequence::new(60), 5001), 1);
    assert_eq!(set.insert_run(Sequence::new(9), 0), 0);
    assert_eq!(set.insert_run(Sequence::MAX, 9), 1);
    let runs: Vec<_> = set.runs().map(|(first, count)| (first.get(), count)).collect();
    assert_eq!(runs, [(60, 5001), (u64::MAX, 1)]);
    set.remove_below(Sequence::new(5000));
    assert_eq!(set.runs().next(), Some((Sequence::new(5000), 61)));
}

/// What is done to both sets.
#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(u64),
    InsertRun(u64, u64),
    RemoveBelow(u64),
    ThroughTheWire,
    ThroughTheOldWire,
}

fn sequence() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..20_000_u64,
        4 => (0..60_u64).prop_map(|node| node * 2048),
        2 => (0..60_u64).prop_map(|node| node * 2048 + 2047),
        1 => (u64::MAX - 5000)..=u64::MAX,
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => sequence().prop_map(Step::Insert),
        8 => sequence().prop_map(Step::Remove),
        3 => (sequence(), prop_oneof![0..70_u64, 0..3000_u64]).prop_map(|(first, count)| Step::InsertRun(first, count)),
        1 => (0..20_000_u64).prop_map(Step::RemoveBelow),
        2 => Just(Step::ThroughTheWire),
        1 => Just(Step::ThroughTheOldWire),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_set_of_the_standard_library(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = BTreeSet::new();
        let mut set = SequenceSet::new();
        for step in steps {
            match step {
                Step::Insert(sequence) => {
                    prop_assert_eq!(set.insert(Sequence::new(sequence)), model.insert(sequence));
                }
                Step::Remove(sequence) => {
                    prop_assert_eq!(set.remove(Sequence::new(sequence)), model.remove(&sequence));
                }
                Step::InsertRun(first, count) => {
                    let added = set.insert_run(Sequence::new(first), count);
                    let before = model.len();
                    model.extend((0..count).map_while(|step| first.checked_add(step)));
                    prop_assert_eq!(added, (model.len() - before) as u64);
                }
                Step::RemoveBelow(first) => {
                    set.remove_below(Sequence::new(first));
                    model = model.split_off(&first);
                }
                Step::ThroughTheWire => {
                    let bytes = set.to_bytes().expect("it fits");
                    prop_assert_eq!(bytes.len(), set.encoded_len());
                    let decoded = decode(&bytes).expect("our own bytes");
                    prop_assert_eq!(&decoded, &set);
                    prop_assert_eq!(decoded.to_bytes().expect("it fits"), bytes);
                    set = decoded;
                }
                Step::ThroughTheOldWire => set = decode(&old(&model)).expect("old bytes"),
            }
        }
        prop_assert_eq!(set.len(), model.len() as u64);
        prop_assert_eq!(set.is_empty(), model.is_empty());
        prop_assert_eq!(set.first().map(Sequence::get), model.first().copied());
        prop_assert_eq!(set.last().map(Sequence::get), model.last().copied());
        prop_assert!(members(&set).iter().eq(model.iter()));
        let mut from_runs = BTreeSet::new();
        let mut end = None;
        for (first, count) in set.runs() {
            prop_assert!(count > 0);
            prop_assert!(end.is_none_or(|end| first.get() > end), "runs do not touch");
            end = first.get().checked_add(count);
            from_runs.extend((0..count).map(|step| first.get() + step));
        }
        prop_assert_eq!(&from_runs, &model);
        for near in model.iter().flat_map(|at| [at.saturating_sub(1), *at, at.saturating_add(1)]) {
            prop_assert_eq!(set.contains(Sequence::new(near)), model.contains(&near));
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_mean_a_set(
        sequences in prop::collection::btree_set(sequence(), 0..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = set(sequences).to_bytes().expect("it fits").to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(decoded) = decode(&bytes) {
            prop_assert_eq!(decoded.iter().count() as u64, decoded.len());
            let again = decode(&decoded.to_bytes().expect("it fits")).expect("our own bytes");
            prop_assert_eq!(again, decoded);
        }
    }
}
