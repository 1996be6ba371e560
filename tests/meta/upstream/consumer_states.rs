//! What a consumer's store keeps: `filestore_test.go` of upstream. Ours has its state in its group's log
//! and snapshots, so a restart is a snapshot that is taken up.

use bytes::Bytes;
use jetwake::consumer::Consumer;
use jetwake::ids::Index;
use jetwake::wire::{AckPolicy, ConsumerState, Pending, SequencePair};

use crate::consumer_steps::{acks, apply, delivered, of, seq};

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_767_225_600;

fn pair(consumer: u64, stream: u64) -> SequencePair {
    SequencePair { consumer: seq(consumer), stream: seq(stream) }
}

/// Waiting messages, each with the second of its delivery and with its own number.
fn waiting(messages: &[u64]) -> std::collections::BTreeMap<jetwake::ids::Sequence, Pending> {
    let each = |(second, stream): (i64, &u64)| {
        let timestamp = (NOW - 60 + second) * SECOND;
        (seq(*stream), Pending { sequence: seq(*stream), timestamp })
    };
    (0..).zip(messages).map(each).collect()
}

/// Whether a consumer takes up a state, and then has it.
fn takes(state: &ConsumerState) -> bool {
    let mut consumer = of(AckPolicy::Explicit);
    let taken = consumer.install(Index::new(1), &state.to_bytes(NOW)).is_ok();
    assert_eq!(taken, consumer.state() == state, "all of it or nothing: {state:?}");
    taken
}

/// The consumer that starts from what another has.
fn restarted(consumer: &Consumer) -> Consumer {
    let mut again = of(AckPolicy::Explicit);
    again.install(Index::new(1), &consumer.snapshot()).expect("it was just made");
    assert_eq!(again.state(), consumer.state());
    again
}

/// Red when `check_state` lets a floor or a waiting message stand outside what was delivered.
#[test]
fn file_store_consumer() {
    let mut state = ConsumerState { delivered: pair(1, 22), ..ConsumerState::default() };
    assert!(takes(&state));
    state.delivered = pair(100, 122);
    for (floor, so) in [((50, 123), false), ((200, 100), false), ((50, 72), true)] {
        state.ack_floor = pair(floor.0, floor.1);
        assert_eq!(takes(&state), so, "{floor:?}");
    }
    for outside in [70, 140, 72] {
        let pending = waiting(&[outside]);
        assert!(!takes(&ConsumerState { pending, ..state.clone() }), "{outside}");
    }
    let all = waiting(&[75, 80, 83, 90, 111]);
    assert!(takes(&ConsumerState { pending: all.clone(), ..state.clone() }));
    state.redelivered = [(seq(22), 3), (seq(44), 8)].into();
    assert!(takes(&state));
    assert!(takes(&ConsumerState { pending: all, ..state }));
    let many: Vec<u64> = (101..101 + 8192).collect();
    let mut large = ConsumerState {
        delivered: pair(10_000, 10_000),
        ack_floor: pair(100, 100),
        pending: waiting(&many),
        ..ConsumerState::default()
    };
    assert!(takes(&large));
    (large.pending, large.ack_floor) = (<_>::default(), pair(10_000, 10_000));
    assert!(takes(&large));
}

/// Red when a restart, or an acknowledgement of another message, forgets what was delivered again.
#[test]
fn file_store_consumer_redelivered_lost() {
    let mut consumer = of(AckPolicy::Explicit);
    let steps = [(1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 2, 1)];
    apply(
        &mut consumer,
        &steps.map(|(delivery, stream, count)| delivered(delivery, stream, count)),
    );
    let mut consumer = restarted(&consumer);
    assert!(!consumer.state().redelivered.is_empty());
    apply(&mut consumer, &[delivered(6, 2, 2), delivered(7, 3, 1)]);
    let mut consumer = restarted(&consumer);
    assert_eq!(consumer.state().pending.len(), 3);
    apply(&mut consumer, &[acks(7, 3), acks(6, 2)]);
    let mut consumer = restarted(&consumer);
    assert!(!consumer.state().redelivered.is_empty());
    apply(&mut consumer, &[acks(4, 1)]);
    assert!(consumer.state().pending.is_empty() && consumer.state().redelivered.is_empty());
}

/// Red when a floor or what was delivered is lost between two starts.
#[test]
fn file_store_consumer_store_encode_after_restart() {
    let state = ConsumerState {
        delivered: pair(22, 22),
        ack_floor: pair(11, 11),
        ..ConsumerState::default()
    };
    let mut consumer = of(AckPolicy::Explicit);
    consumer.install(Index::new(1), &state.to_bytes(NOW)).expect("it is whole");
    assert_eq!(restarted(&consumer).state(), &state);
}

/// Red when what was delivered again is written only for messages that wait.
#[test]
fn file_store_consumer_encode_decode_redelivered() {
    let state = ConsumerState {
        delivered: pair(100, 100),
        ack_floor: pair(50, 50),
        redelivered: [(seq(122), 3), (seq(144), 8)].into(),
        ..ConsumerState::default()
    };
    let (read, _) = ConsumerState::decode(&state.to_bytes(NOW)).expect("it is whole");
    assert_eq!(read, state);
}

/// What no consumer takes up is read and written all the same.
/// Red when a difference to the floor is written without its sign.
#[test]
fn file_store_consumer_encode_decode_pending_below_stream_ack_floor() {
    let at = |stream, consumer, second| {
        (seq(stream), Pending { sequence: seq(consumer), timestamp: (NOW - 10 + second) * SECOND })
    };
    let state = ConsumerState {
        delivered: pair(1192, 10_185),
        ack_floor: pair(1189, 10_815),
        pending: [at(10_782, 1190, 0), at(10_810, 1191, 1), at(10_815, 1192, 2)].into(),
        ..ConsumerState::default()
    };
    let (read, _) = ConsumerState::decode(&state.to_bytes(NOW)).expect("it is whole");
    assert_eq!(read, state);
}

/// Red when a state with pending messages of an older server is taken for a damaged one.
#[test]
fn file_store_bad_consumer_state() {
    let bytes = b"\x16\x02\x01\x01\x03\x02\x01\x98\xf4\x8a\x8a\x0c\x01\x03\x86\xfa\n\x01\x00\x01";
    let (state, _) = ConsumerState::decode(&Bytes::from_static(bytes)).expect("it is one");
    assert_eq!((state.ack_floor, state.delivered), (pair(1, 1), pair(3, 2)));
    assert_eq!((state.pending.len(), state.redelivered.len()), (1, 1));
}
