//! States of consumers, against vectors of the real server.

#[path = "golden/mod.rs"]
mod golden;

use bytes::Bytes;
use golden::{number, vectors};
use jetwake::ids::Sequence;
use jetwake::wire::{ConsumerState, Fault, Pending, SequencePair, WireError};
use proptest::prelude::*;
use serde_json::Value;

const SECOND: i64 = 1_000_000_000;

fn decode(bytes: &[u8]) -> Result<(ConsumerState, i64), WireError> {
    ConsumerState::decode(&Bytes::copy_from_slice(bytes))
}

fn pair(value: &Value) -> SequencePair {
    let at = |position: usize| Sequence::new(number(&value[position]));
    SequencePair { consumer: at(0), stream: at(1) }
}

fn sequences(pair: (u64, u64)) -> SequencePair {
    SequencePair { consumer: Sequence::new(pair.0), stream: Sequence::new(pair.1) }
}

#[test]
fn states_are_upstreams() {
    for vector in vectors("consumer_ops") {
        let (state, base) = decode(&vector.bytes).expect(&vector.name);
        assert_eq!(state.ack_floor, pair(&vector.fields["ack_floor"]));
        assert_eq!(state.delivered, pair(&vector.fields["delivered"]));
        assert_eq!(state.encoded_len(base), vector.bytes.len());
        // These two messages happen to come in rising order.
        assert_eq!(state.to_bytes(base), vector.bytes, "{}", vector.name);
    }
    let (state, base) = decode(&vectors("consumer_ops")[0].bytes).expect("pending ones");
    let pending: Vec<_> =
        state.pending.iter().map(|(at, pending)| (at.get(), pending.sequence.get())).collect();
    assert_eq!(pending, [(22, 12), (23, 13)]);
    let away: Vec<_> = state.pending.values().map(|each| base - each.timestamp / SECOND).collect();
    assert!(away.iter().all(|away| *away > 0), "{away:?}");
    assert_eq!(state.redelivered.into_iter().collect::<Vec<_>>(), [(Sequence::new(22), 3)]);
}

#[test]
fn the_old_version_counts_from_the_floor() {
    // Floor 10/20, delivered 5/6, base 100 s: one pending 2 above the floor at base + 3 s.
    let bytes = [22, 1, 10, 20, 5, 6, 1, 200, 1, 2, 6, 1, 3, 4];
    let (state, base) = decode(&bytes).expect("the old version");
    assert_eq!(base, 100);
    assert_eq!(state.delivered, sequences((14, 25)));
    let pending = Pending { sequence: Sequence::ZERO, timestamp: 103 * SECOND };
    assert_eq!(state.pending.into_iter().collect::<Vec<_>>(), [(Sequence::new(22), pending)]);
    assert_eq!(state.redelivered.into_iter().collect::<Vec<_>>(), [(Sequence::new(23), 4)]);
    // A floor of zero or one changes nothing.
    for floor in [0, 1] {
        let (state, _) = decode(&[22, 1, floor, floor, 5, 6, 0, 0]).expect("the old version");
        assert_eq!(state.delivered, sequences((5, 6)));
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_refused() {
    for vector in vectors("consumer_ops") {
        for length in 0..vector.bytes.len() {
            assert!(decode(&vector.bytes[..length]).is_err(), "{} cut to {length}", vector.name);
        }
        let longer = [&vector.bytes[..], b"x"].concat();
        assert_eq!(decode(&longer).expect_err("a byte too many").fault, Fault::Trailing(1));
    }
}

#[test]
fn what_upstream_would_overlook_is_refused() {
    let fault = |bytes: &[u8]| decode(bytes).expect_err("a bad state").fault;
    assert!(matches!(fault(&[21, 2, 0, 0, 0, 0, 0, 0]), Fault::Value { found: 21, .. }));
    assert!(matches!(fault(&[22, 3, 0, 0, 0, 0, 0, 0]), Fault::Value { found: 3, .. }));
    let twice = [22, 2, 0, 0, 9, 9, 2, 0, 1, 1, 0, 1, 2, 0, 0];
    assert_eq!(fault(&twice), Fault::Text("each message once"));
    let twice = [22, 2, 0, 0, 9, 9, 0, 2, 1, 1, 1, 2];
    assert_eq!(fault(&twice), Fault::Text("each message once"));
    let zero = [22, 2, 0, 0, 9, 9, 1, 0, 0, 1, 0, 0];
    assert!(matches!(fault(&zero), Fault::Value { found: 0, .. }));
    let many = [&[22, 2, 0, 0, 9, 9][..], &[0xff; 9], &[1, 0, 0]].concat();
    assert_eq!(fault(&many), Fault::TooLarge { limit: 0, found: u64::MAX });
    let high = [&[22, 2, 0][..], &[0x80; 9], &[1, 9, 9, 0, 0]].concat();
    assert!(matches!(fault(&high), Fault::Text(_)), "a floor of 2^63");
    let late = [&[22, 2, 0, 0, 9, 9, 1][..], &[0xfe], &[0xff; 8], &[1, 1, 1, 0, 0]].concat();
    assert!(matches!(fault(&late), Fault::Text(_)), "a base of 2^63 - 1 seconds");
}

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(u64::MAX), any::<u64>()]
}

fn below_the_top_bit() -> impl Strategy<Value = u64> {
    edge().prop_map(|number| number >> 1)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        floor in (edge(), below_the_top_bit()),
        delivered in (edge(), below_the_top_bit()),
        base in any::<i64>(),
        pending in prop::collection::btree_map(1..=u64::MAX, (edge(), any::<i64>()), 0..9),
        redelivered in prop::collection::btree_map(edge(), edge(), 0..9),
    ) {
        let whole = |(at, (sequence, time)): (u64, (u64, i64))| {
            let timestamp = time / SECOND * SECOND;
            (Sequence::new(at), Pending { sequence: Sequence::new(sequence), timestamp })
        };
        let state = ConsumerState {
            ack_floor: sequences(floor),
            delivered: sequences(delivered),
            pending: pending.into_iter().map(whole).collect(),
            redelivered: redelivered.into_iter().map(|(at, n)| (Sequence::new(at), n)).collect(),
        };
        let bytes = state.to_bytes(base);
        prop_assert_eq!(bytes.len(), state.encoded_len(base));
        let base = if state.pending.is_empty() { 0 } else { base };
        prop_assert_eq!(decode(&bytes), Ok((state, base)));
    }
}
