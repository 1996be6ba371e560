//! The index against a map that does the same slowly.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const FILE: StorageType = StorageType::File;
const HEADER: &[u8] = b"NATS/1.0\r\n\r\n";
const SUBJECTS: [&[u8]; 4] = [b"a", b"a.b", b"a.c", b"d.b.c"];

/// What the index should hold: sequence to subject and size.
#[derive(Default)]
struct Model {
    messages: BTreeMap<u64, (usize, u32)>,
    first: u64,
    last: u64,
}

impl Model {
    fn settle(&mut self) {
        if self.last > 0 {
            self.first = self.messages.keys().next().map_or(self.last + 1, |first| *first);
        }
    }

    fn deleted(&self) -> Vec<u64> {
        if self.messages.is_empty() {
            return Vec::new();
        }
        (self.first..=self.last).filter(|at| !self.messages.contains_key(at)).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { gap: u64, subject: usize },
    Skip(u64),
    SkipToEndOfChunk,
    Remove(u64),
    Compact(u64),
    RemoveMatching { subject: usize, before: u64, keep: u64 },
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![20 => Just(0_u64), 2 => 0..3000_u64, 1 => Just(5_000_000_000)];
    prop_oneof![
        30 => (gap, 0..4_usize).prop_map(|(gap, subject)| Step::Append { gap, subject }),
        2 => (0..5000_u64).prop_map(Step::Skip),
        1 => Just(Step::SkipToEndOfChunk),
        10 => any::<u64>().prop_map(Step::Remove),
        2 => any::<u64>().prop_map(Step::Compact),
        1 => (0..4_usize, any::<u64>(), 0..5_u64)
            .prop_map(|(subject, before, keep)| Step::RemoveMatching { subject, before, keep }),
        1 => Just(Step::Clear),
    ]
}

/// A number of the stream, or a little beside it.
fn among(model: &Model, any: u64) -> u64 {
    model.messages.keys().nth(any as usize % (model.messages.len() + 1)).map_or(any % 50, |at| *at)
}

fn perform(index: &mut StreamIndex, model: &mut Model, step: Step) {
    match step {
        Step::Append { gap, subject } => {
            let sequence = model.last + 1 + gap;
            let size = 30 + (sequence % 100) as u32;
            assert!(index.append(Sequence::new(sequence), SUBJECTS[subject], size, 7));
            model.messages.insert(sequence, (subject, size));
            model.last = sequence;
        }
        Step::Skip(count) => {
            index.skip_to(Sequence::new(model.last + count));
            model.last += count;
        }
        Step::SkipToEndOfChunk => {
            let end = (model.last / CHUNK + 2) * CHUNK - 1;
            perform(index, model, Step::Skip(end - model.last));
        }
        Step::Remove(any) => {
            let sequence = among(model, any);
            let there = model.messages.remove(&sequence).is_some();
            assert_eq!(index.remove(Sequence::new(sequence)), there);
        }
        Step::Compact(any) => {
            let sequence = among(model, any);
            let removed = model.messages.range(..sequence).count();
            assert_eq!(index.compact(Sequence::new(sequence)), removed as u64);
            model.messages = model.messages.split_off(&sequence);
            if sequence > model.last {
                (model.first, model.last) = (sequence, sequence - 1);
            }
        }
        Step::RemoveMatching { subject, before, keep } => {
            let before = if before % 2 == 0 { 0 } else { among(model, before) };
            let removed = index.remove_matching(SUBJECTS[subject], Sequence::new(before), keep);
            let mut gone: Vec<u64> = model
                .messages
                .iter()
                .filter(|(at, (found, _))| *found == subject && (before == 0 || **at < before))
                .map(|(at, _)| *at)
                .collect();
            gone.truncate(gone.len().saturating_sub(keep as usize));
            let ranges = removed.into_vec();
            let listed: Vec<u64> =
                ranges.iter().flat_map(|(first, last)| first.get()..=last.get()).collect();
            assert_eq!(listed, gone);
            for sequence in gone {
                model.messages.remove(&sequence);
            }
        }
        Step::Clear => {
            index.clear();
            model.messages.clear();
            model.first = model.last + 1;
        }
    }
    model.settle();
}

fn listed(index: &StreamIndex) -> (u64, Vec<u64>) {
    let (mut count, mut listed) = (0, Vec::new());
    for part in index.deleted_parts() {
        match part {
            Deleted::Run(first, last) => {
                count += last.get() - first.get() + 1;
                if last.get() - first.get() < 100_000 {
                    listed.extend(first.get()..=last.get());
                }
            }
            Deleted::Bits { base, bits } => {
                for (number, word) in bits.iter().enumerate() {
                    let set = (0..64).filter(|bit| word >> bit & 1 == 1);
                    listed.extend(set.clone().map(|bit| base.get() + number as u64 * 64 + bit));
                    count += set.count() as u64;
                }
            }
        }
    }
    (count, listed)
}

fn check(index: &StreamIndex, model: &Model) {
    assert_eq!(index.messages(), model.messages.len() as u64);
    assert_eq!((index.first().get(), index.last().get()), (model.first, model.last));
    let bytes: u64 = model.messages.values().map(|(_, size)| u64::from(*size)).sum();
    assert_eq!(index.bytes(), bytes);
    let mut next = Sequence::ZERO;
    for (sequence, (_, size)) in &model.messages {
        assert_eq!(index.at_or_after(next), Some(Sequence::new(*sequence)));
        assert_eq!(index.get(Sequence::new(*sequence)).map(|found| found.size), Some(*size));
        next = Sequence::new(sequence + 1);
    }
    assert_eq!(index.at_or_after(next), None);
    for (number, subject) in SUBJECTS.iter().enumerate() {
        let newest = model.messages.iter().rev().find(|(_, (found, _))| *found == number);
        assert_eq!(index.last_of(subject), newest.map(|(at, _)| Sequence::new(*at)));
        // Forward and back, a subject's messages are the same.
        let mut back = Vec::new();
        let mut at = index.last_of(subject).map(Sequence::get);
        while let Some(sequence) = at {
            back.push(sequence);
            at = index.before(sequence);
        }
        back.reverse();
        let wanted = model.messages.iter().filter(|(_, (found, _))| *found == number);
        assert_eq!(back, wanted.map(|(at, _)| *at).collect::<Vec<_>>());
    }
    let (deleted, parts) = listed(index);
    assert_eq!(deleted, index.deleted());
    if model.last - model.first.min(model.last) < 200_000 {
        assert_eq!(parts, model.deleted());
    }
    for keep in [0, 1, model.messages.len() / 2, model.messages.len()] {
        let cut = model.messages.len().checked_sub(keep).filter(|gone| *gone > 0);
        let wanted =
            cut.map(|gone| model.messages.keys().nth(gone).map_or(model.last + 1, |at| *at));
        assert_eq!(index.cut_to_keep(keep as u64).map(Sequence::get), wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_does_what_a_map_does(steps in prop::collection::vec(step(), 1..300)) {
        let (mut index, mut model) = (StreamIndex::new(1), Model::default());
        for (number, step) in steps.into_iter().enumerate() {
            perform(&mut index, &mut model, step);
            if number % 16 == 0 {
                check(&index, &model);
            }
        }
        check(&index, &model);
    }

    #[test]
    fn the_deletes_of_one_make_another_the_same(
        steps in prop::collection::vec(step(), 1..200),
        removed in prop::collection::vec(any::<u64>(), 0..100),
    ) {
        let (mut index, mut model) = (StreamIndex::new(1), Model::default());
        let (mut other, mut same) = (StreamIndex::new(2), Model::default());
        for step in steps {
            perform(&mut index, &mut model, step.clone());
            perform(&mut other, &mut same, step);
        }
        for any in removed {
            perform(&mut index, &mut model, Step::Remove(any));
        }
        other.compact(index.first());
        other.remove_deleted(index.deleted_parts(), &mut Ranges::default());
        check(&other, &model);
        assert!(index.deleted_parts().eq(other.deleted_parts()));
    }
}

/// A skip that ends with a chunk leaves an empty tail in the next one; another skip begins there.
#[test]
fn a_skip_goes_on_behind_one_that_ended_with_its_chunk() {
    let (mut index, mut model) = (StreamIndex::new(1), Model::default());
    perform(&mut index, &mut model, Step::Append { gap: 0, subject: 0 });
    perform(&mut index, &mut model, Step::SkipToEndOfChunk);
    assert_eq!(index.last().get(), 2 * CHUNK - 1);
    perform(&mut index, &mut model, Step::Skip(3));
    perform(&mut index, &mut model, Step::Append { gap: 0, subject: 1 });
    check(&index, &model);
}

#[test]
fn a_stream_that_never_had_a_message_begins_with_zero() {
    let mut index = StreamIndex::new(1);
    assert_eq!((index.first(), index.last()), (Sequence::ZERO, Sequence::ZERO));
    assert!(!index.remove(Sequence::new(1)));
    assert!(index.remove_matching(b">", Sequence::ZERO, 0).is_empty());
    assert_eq!(index.first(), Sequence::ZERO);
    assert!(!index.append(Sequence::ZERO, b"a", 30, 0));
    assert!(index.append(Sequence::new(1), b"a", 30, 0));
    assert!(!index.append(Sequence::new(1), b"a", 30, 0));
    assert_eq!((index.first(), index.last()), (Sequence::new(1), Sequence::new(1)));
}

#[test]
fn sizes_are_upstreams() {
    assert_eq!(message_size(FILE, b"foo", b"", b"hello"), Some(22 + 3 + 5 + 8));
    assert_eq!(message_size(FILE, b"foo", HEADER, b"hello"), Some(22 + 3 + 4 + 12 + 5 + 8));
    assert_eq!(message_size(StorageType::Memory, b"foo", HEADER, b"hello"), Some(3 + 12 + 5 + 16));
}

#[test]
fn the_last_sequences_can_be_reached() {
    let mut index = StreamIndex::new(1);
    assert!(index.append(Sequence::new(1), b"a", 30, 0));
    assert!(index.append(Sequence::new(u64::MAX - 1), b"a", 30, 0));
    assert_eq!(index.deleted(), u64::MAX - 3);
    assert_eq!(listed(&index).0, u64::MAX - 3);
    assert_eq!(index.before(u64::MAX - 1), Some(1));
    assert!(index.remove(Sequence::new(1)) && index.remove(Sequence::new(u64::MAX - 1)));
    assert_eq!((index.first(), index.deleted()), (Sequence::MAX, 0));
}
