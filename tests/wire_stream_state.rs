//! States of streams, against vectors of the real server.

#[path = "golden/mod.rs"]
mod golden;

use bytes::Bytes;
use golden::{number, text, vectors};
use jetwake::ids::{ByteCount, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{DeleteBlock, DeleteBlocksBuilder, Fault, SequenceSet, StreamState, WireError};
use proptest::prelude::*;
use serde_json::Value;

fn decode(bytes: &[u8]) -> Result<StreamState, WireError> {
    StreamState::decode(&Bytes::copy_from_slice(bytes), &Limits::default())
}

fn run(first: u64, count: u64) -> DeleteBlock {
    DeleteBlock::Run { first: Sequence::new(first), count }
}

/// First, last and count of a block, as the vectors tell them, and its kind.
fn outline(block: &DeleteBlock) -> (u64, u64, u64, &'static str) {
    match block {
        DeleteBlock::Run { first, count } => {
            (first.get(), first.get() + count - 1, *count, "*server.DeleteRange")
        }
        DeleteBlock::Set(set) => {
            let ends = (set.first().unwrap_or_default(), set.last().unwrap_or_default());
            (ends.0.get(), ends.1.get(), set.len(), "*avl.SequenceSet")
        }
    }
}

fn numbers(values: &Value) -> Vec<u64> {
    values.as_array().map(|values| values.iter().map(number).collect()).unwrap_or_default()
}

#[test]
fn states_are_upstreams() {
    for vector in vectors("stream_state") {
        let decoded = decode(&vector.bytes).expect(&vector.name);
        let fields = &vector.fields;
        assert_eq!(decoded.messages, number(&fields["msgs"]));
        assert_eq!(decoded.bytes.get(), number(&fields["bytes"]));
        assert_eq!(decoded.first.get(), number(&fields["first_seq"]));
        assert_eq!(decoded.last.get(), number(&fields["last_seq"]));
        assert_eq!(decoded.failed, number(&fields["failed"]));
        assert_eq!(decoded.deleted.sequences(), number(&fields["num_deleted"]));
        let blocks: Vec<_> = decoded.deleted.iter().collect();
        let expected = fields["blocks"].as_array().cloned().unwrap_or_default();
        assert_eq!(blocks.len(), expected.len(), "{}", vector.name);
        for (block, expected) in blocks.iter().zip(&expected) {
            let (first, last, count, kind) = outline(block);
            assert_eq!(first, number(&expected["first"]), "{}", vector.name);
            assert_eq!(last, number(&expected["last"]), "{}", vector.name);
            assert_eq!(count, number(&expected["num"]), "{}", vector.name);
            assert_eq!(kind, text(&expected["type"]), "{}", vector.name);
        }
        let mut all = SequenceSet::new();
        for block in &blocks {
            match block {
                DeleteBlock::Run { first, count } => drop(all.insert_run(*first, *count)),
                DeleteBlock::Set(set) => all.insert_set(set),
            }
        }
        let all: Vec<_> = all.iter().map(Sequence::get).collect();
        assert_eq!(all, numbers(&fields["deleted"]), "{}", vector.name);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes(), vector.bytes, "{}", vector.name);
        assert!(StreamState::is_encoded(&vector.bytes));
        let rebuilt = StreamState { deleted: rebuild(&blocks), ..decoded.clone() };
        assert_eq!(rebuilt, decoded, "{}", vector.name);
    }
}

fn rebuild(blocks: &[DeleteBlock]) -> jetwake::wire::DeleteBlocks {
    let mut builder = DeleteBlocksBuilder::new();
    for block in blocks {
        match block {
            DeleteBlock::Run { first, count } => builder.push_run(*first, *count),
            DeleteBlock::Set(set) => builder.push_set(set),
        }
        .expect("it was decoded");
    }
    builder.finish()
}

#[test]
fn bad_states_are_refused() {
    for vector in vectors("stream_state_bad") {
        let error = decode(&vector.bytes).expect_err(&vector.name);
        assert_eq!(error.format, "stream_state", "{}", vector.name);
    }
    assert!(!StreamState::is_encoded(b""));
    assert!(!StreamState::is_encoded(b"{\"messages\":0}"));
    assert!(!StreamState::is_encoded(&[42, 2, 0]));
}

#[test]
fn no_prefix_of_a_state_but_between_its_blocks_is_one() {
    for vector in vectors("stream_state") {
        for length in 0..vector.bytes.len() {
            if let Ok(shorter) = decode(&vector.bytes[..length]) {
                assert!(shorter.deleted_count > 0, "{} cut to {length}", vector.name);
                assert_eq!(shorter.to_bytes(), vector.bytes[..length]);
            }
        }
    }
}

/// A state with these bytes for its blocks.
fn with_blocks(blocks: &[u8]) -> Vec<u8> {
    [&[42, 1, 0, 0, 0, 0, 0, 1], blocks].concat()
}

#[test]
fn runs_must_be_possible() {
    let fault = |blocks: &[u8]| decode(&with_blocks(blocks)).expect_err("a bad run").fault;
    assert_eq!(fault(&[33, 5, 0]), Fault::Value { expected: "at least 1", found: 0 });
    let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let past = [&[33][..], &max, &[2]].concat();
    assert!(matches!(fault(&past), Fault::Text(_)));
    let last = [&[33][..], &max, &[1]].concat();
    let decoded = decode(&with_blocks(&last)).expect("the largest sequence alone");
    assert_eq!(decoded.deleted.iter().collect::<Vec<_>>(), [run(u64::MAX, 1)]);
    assert!(matches!(fault(&[34]), Fault::Value { found: 34, .. }));
    let mut builder = DeleteBlocksBuilder::new();
    assert!(builder.push_run(Sequence::new(1), 0).is_err());
    assert!(builder.push_run(Sequence::MAX, 2).is_err());
    assert!(builder.finish().is_empty());
}

#[test]
fn blocks_behind_a_count_of_zero_are_refused() {
    let mut bytes = with_blocks(&[33, 5, 1]);
    assert!(decode(&bytes).is_ok());
    bytes[7] = 0;
    assert_eq!(decode(&bytes).expect_err("blocks of none").fault, Fault::Trailing(3));
}

#[test]
fn an_error_in_a_set_says_where_in_the_state_it_is() {
    let set: SequenceSet = [Sequence::new(7)].into_iter().collect();
    let mut bytes = with_blocks(&set.to_bytes().expect("it fits"));
    bytes[8 + 6] = 9;
    let error = decode(&bytes).expect_err("a wrong size");
    assert_eq!((error.format, error.field, error.offset), ("stream_state", "size", 14));
}

#[test]
fn sets_name_no_more_than_is_allowed_together_and_runs_count_once() {
    let set: SequenceSet = (1..=10).map(Sequence::new).collect();
    let mut builder = DeleteBlocksBuilder::new();
    builder.push_set(&set).expect("it fits");
    builder.push_set(&set).expect("it fits");
    builder.push_run(Sequence::new(100), 1 << 60).expect("it fits");
    let state =
        StreamState { deleted_count: 20, deleted: builder.finish(), ..StreamState::default() };
    let decode =
        |deleted| StreamState::decode(&state.to_bytes(), &Limits { deleted, ..Limits::default() });
    assert_eq!(decode(20), Ok(state.clone()));
    let fault = decode(19).expect_err("twenty of nineteen").fault;
    assert_eq!(fault, Fault::TooLarge { limit: 19, found: 20 });
}

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(u64::MAX), any::<u64>()]
}

fn block() -> impl Strategy<Value = DeleteBlock> {
    let runs = (edge(), 1..=u64::MAX)
        .prop_filter("a run that is possible", |(first, count)| {
            first.checked_add(count - 1).is_some()
        })
        .prop_map(|(first, count)| run(first, count));
    let sets = prop::collection::vec(prop_oneof![0..9000_u64, edge()], 0..30)
        .prop_map(|members| DeleteBlock::Set(members.into_iter().map(Sequence::new).collect()));
    prop_oneof![runs, sets]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        numbers in prop::array::uniform6(edge()),
        blocks in prop::collection::vec(block(), 0..6),
    ) {
        let [messages, bytes, first, last, failed, deleted_count] = numbers;
        let state = StreamState {
            messages,
            bytes: ByteCount::new(bytes),
            first: Sequence::new(first),
            last: Sequence::new(last),
            failed,
            deleted_count,
            deleted: if deleted_count > 0 { rebuild(&blocks) } else { Default::default() },
        };
        let encoded = state.to_bytes();
        prop_assert_eq!(encoded.len(), state.encoded_len());
        let decoded = decode(&encoded).expect("our own bytes");
        prop_assert_eq!(&decoded, &state);
        if deleted_count > 0 {
            prop_assert_eq!(decoded.deleted.iter().collect::<Vec<_>>(), blocks);
        }
    }
}
