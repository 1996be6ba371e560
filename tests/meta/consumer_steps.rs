//! What each step does to the state of a consumer: situations of upstream's tests of its stores.

use jetwake::consumer::{Consumer, Wish};
use jetwake::ids::{Index, RequestId, Sequence};
use jetwake::limits::Limits;
use jetwake::time::Time;
use jetwake::wire::{
    AckPolicy, ApiError, ConsumerConfig, ConsumerOp, ConsumerState, DeliverPolicy, GoTime, Pending,
    SequencePair,
};
use proptest::prelude::*;

const NOW: Time = Time::from_nanos(1_767_225_600_000_000_000);

pub(crate) fn of(acks: AckPolicy) -> Consumer {
    Consumer::new(ConsumerConfig { ack_policy: acks, ..ConsumerConfig::default() })
}

pub(crate) fn seq(number: u64) -> Sequence {
    Sequence::new(number)
}

pub(crate) fn delivered(consumer: u64, stream: u64, count: u64) -> ConsumerOp {
    let timestamp = i64::try_from(consumer).expect("it is small") * 1_000_000_000;
    ConsumerOp::Delivered { consumer: seq(consumer), stream: seq(stream), count, timestamp }
}

pub(crate) fn acks(consumer: u64, stream: u64) -> ConsumerOp {
    ConsumerOp::Acks { consumer: seq(consumer), stream: seq(stream) }
}

pub(crate) fn apply(consumer: &mut Consumer, steps: &[ConsumerOp]) {
    for step in steps {
        consumer.apply(&step.to_bytes(), false).expect("such a step is made");
    }
}

/// The deliveries' numbers and messages: delivered, floor, then what waits.
pub(crate) fn standing(consumer: &Consumer) -> ([u64; 4], Vec<u64>) {
    let ConsumerState { delivered, ack_floor, pending, .. } = consumer.state();
    let pairs = [delivered.consumer, delivered.stream, ack_floor.consumer, ack_floor.stream];
    (pairs.map(Sequence::get), pending.keys().map(|stream| stream.get()).collect())
}

/// `TestFileStoreConsumerDeliveredUpdates`: without acknowledgements the floor is what was delivered.
/// Red when `steps::delivered` leaves the floor where it is.
#[test]
fn what_needs_no_acknowledgement_has_none_to_wait_for() {
    let mut consumer = of(AckPolicy::None);
    for (delivery, stream) in [(1, 100), (2, 110), (5, 130)] {
        apply(&mut consumer, &[delivered(delivery, stream, 1)]);
        assert_eq!(standing(&consumer), ([delivery, stream, delivery, stream], vec![]));
    }
    // Acknowledgements mean nothing, and nothing is delivered again.
    apply(&mut consumer, &[acks(1, 100)]);
    assert_eq!(standing(&consumer), ([5, 130, 5, 130], vec![]));
    let again = consumer.apply(&delivered(6, 131, 2).to_bytes(), false).expect_err("it cannot be");
    let why = "message 131 is delivered again, though nothing has to be acknowledged";
    assert_eq!(again.to_string(), why);
}

/// `TestFileStoreConsumerDeliveredAndAckUpdates`: its deliveries and acknowledgements.
/// Red when the floor moves by one message instead of up to the next that waits.
#[test]
fn a_floor_moves_up_to_the_next_message_that_waits() {
    let mut consumer = of(AckPolicy::Explicit);
    for (delivery, stream) in [(1, 100), (2, 110), (3, 130), (4, 150), (5, 165)] {
        apply(&mut consumer, &[delivered(delivery, stream, 1)]);
    }
    assert_eq!(standing(&consumer), ([5, 165, 0, 0], vec![100, 110, 130, 150, 165]));
    // What was never delivered, or is acknowledged already, changes nothing.
    apply(&mut consumer, &[acks(3, 101), acks(9, 200)]);
    assert_eq!(standing(&consumer).0, [5, 165, 0, 0]);
    apply(&mut consumer, &[acks(1, 100)]);
    assert_eq!(standing(&consumer), ([5, 165, 1, 109], vec![110, 130, 150, 165]));
    apply(&mut consumer, &[acks(1, 100), acks(3, 130)]);
    assert_eq!(standing(&consumer), ([5, 165, 1, 109], vec![110, 150, 165]));
    apply(&mut consumer, &[acks(2, 110)]);
    assert_eq!(standing(&consumer), ([5, 165, 3, 149], vec![150, 165]));
    apply(&mut consumer, &[acks(5, 165), acks(4, 150)]);
    assert_eq!(standing(&consumer), ([5, 165, 5, 165], vec![]));
}

/// `TestFileStoreConsumer`: all before a message goes with it.
/// Red when `all_acknowledged` takes the one message out.
#[test]
fn who_acknowledges_all_acknowledges_what_came_before() {
    let mut consumer = of(AckPolicy::All);
    for delivery in 1..=6 {
        apply(&mut consumer, &[delivered(delivery, delivery * 10, 1)]);
    }
    apply(&mut consumer, &[delivered(7, 20, 2), acks(4, 40)]);
    assert_eq!(standing(&consumer), ([7, 60, 4, 40], vec![50, 60]));
    assert!(consumer.state().redelivered.is_empty());
    apply(&mut consumer, &[acks(2, 20), acks(6, 60)]);
    assert_eq!(standing(&consumer), ([7, 60, 6, 60], vec![]));
}

/// `TestFileStoreConsumerRedeliveredLost`: what was delivered again is remembered until it is
/// acknowledged, also in a snapshot.
#[test]
fn deliveries_are_counted_until_the_message_is_acknowledged() {
    let mut consumer = of(AckPolicy::Explicit);
    let again = |delivery, count| delivered(delivery, 1, count);
    apply(&mut consumer, &[again(1, 1), again(2, 2), again(3, 3), again(4, 2)]);
    assert_eq!(consumer.state().redelivered, [(seq(1), 2)].into());
    let pending = Pending { sequence: seq(1), timestamp: 4_000_000_000 };
    assert_eq!(consumer.state().pending, [(seq(1), pending)].into(), "its first delivery counts");
    let mut other = of(AckPolicy::Explicit);
    other.install(Index::new(4), &consumer.snapshot()).expect("it was just made");
    assert_eq!(other.state(), consumer.state());
    apply(&mut other, &[delivered(5, 2, 1), acks(4, 1)]);
    assert_eq!(standing(&other), ([5, 2, 4, 1], vec![2]));
    assert!(other.state().redelivered.is_empty());
}

/// Red when a message that was delivered too often goes on waiting.
#[test]
fn a_message_that_was_delivered_as_often_as_it_may_be_waits_no_more() {
    let config =
        ConsumerConfig { ack_policy: AckPolicy::Explicit, max_deliver: 2, ..Default::default() };
    let mut consumer = Consumer::new(config);
    apply(&mut consumer, &[delivered(1, 1, 1), delivered(2, 1, 2)]);
    assert_eq!(standing(&consumer).1, [1]);
    apply(&mut consumer, &[delivered(1, 1, 3)]);
    assert_eq!(standing(&consumer), ([2, 1, 0, 0], vec![]));
    assert_eq!(consumer.state().redelivered, [(seq(1), 2)].into(), "that it was is remembered");
}

/// Red when a replay of old records moves anything.
#[test]
fn what_a_replay_brings_again_changes_nothing() {
    let steps =
        [delivered(1, 10, 1), delivered(2, 20, 1), delivered(3, 10, 2), acks(1, 10), acks(2, 20)];
    let mut consumer = of(AckPolicy::Explicit);
    apply(&mut consumer, &steps);
    let state = consumer.state().clone();
    assert_eq!(standing(&consumer), ([3, 20, 3, 20], vec![]));
    apply(&mut consumer, &steps);
    assert_eq!(consumer.state(), &state);
}

#[test]
fn what_is_skipped_was_delivered_and_a_reset_forgets_all() {
    let mut consumer = of(AckPolicy::Explicit);
    apply(&mut consumer, &[delivered(1, 1, 1), ConsumerOp::Skip { stream: seq(10) }]);
    assert_eq!(standing(&consumer), ([1, 9, 0, 0], vec![1]));
    apply(&mut consumer, &[ConsumerOp::Skip { stream: seq(5) }]);
    assert_eq!(standing(&consumer).0, [1, 9, 0, 0], "and never goes back");
    let reset = |stream| ConsumerOp::ResetSequence { stream: seq(stream), reply: "r".into() };
    apply(&mut consumer, &[reset(4)]);
    assert_eq!(standing(&consumer), ([0, 3, 0, 3], vec![]));
    apply(&mut consumer, &[delivered(1, 4, 1)]);
    assert_eq!(standing(&consumer), ([1, 4, 0, 3], vec![4]));
    let mut silent = of(AckPolicy::None);
    apply(&mut silent, &[ConsumerOp::Skip { stream: seq(10) }]);
    assert_eq!(standing(&silent).0, [0, 9, 0, 9]);
}

/// `TestFileStoreBadConsumerState` and what `Update` refuses.
#[test]
fn a_state_that_no_consumer_is_in_is_refused() {
    let pair = |consumer, stream| SequencePair { consumer: seq(consumer), stream: seq(stream) };
    let good = ConsumerState { delivered: pair(5, 50), ack_floor: pair(2, 20), ..<_>::default() };
    let waits = |stream| [(seq(stream), Pending { sequence: seq(3), timestamp: 0 })].into();
    for (state, so) in [
        (good.clone(), true),
        (ConsumerState { pending: waits(21), ..good.clone() }, true),
        (ConsumerState { pending: waits(20), ..good.clone() }, false),
        (ConsumerState { pending: waits(51), ..good.clone() }, false),
        (ConsumerState { ack_floor: pair(6, 20), ..good.clone() }, false),
        (ConsumerState { ack_floor: pair(2, 51), ..good.clone() }, false),
    ] {
        let mut consumer = of(AckPolicy::Explicit);
        let installed = consumer.install(Index::new(9), &state.to_bytes(0));
        assert_eq!(installed.is_ok(), so, "{state:?}");
        assert_eq!(*consumer.state() == state, so, "nothing is changed where it is refused");
    }
    let unknown = of(AckPolicy::Explicit).apply(&[200, 1], false);
    assert!(unknown.expect_err("it is of a newer server").to_string().contains("200"));
}

/// A leader that makes and commits one wish after the other.
struct Leader(Consumer, u64);

impl Leader {
    fn of(config: ConsumerConfig) -> Self {
        let mut consumer = Consumer::new(config);
        consumer.leadership_gained();
        Self(consumer, 0)
    }

    fn decide(&self, wish: &Wish) -> Result<Option<ConsumerOp>, ApiError> {
        self.0.decide(NOW, wish, &Limits::default())
    }

    /// Proposes a wish, without committing it.
    fn propose(&mut self, wish: Wish) -> ConsumerOp {
        let step = self.decide(&wish).expect("it may be").expect("it changes something");
        self.1 += 1;
        self.0.proposed(RequestId::new(self.1), step.clone());
        step
    }
}

fn explicit() -> ConsumerConfig {
    let config = ConsumerConfig { max_deliver: 2, max_ack_pending: 2, ..Default::default() };
    ConsumerConfig { ack_policy: AckPolicy::Explicit, ..config }
}

const fn deliver(sequence: u64) -> Wish {
    Wish::Deliver { sequence: Sequence::new(sequence) }
}

const fn acknowledge(sequence: u64) -> Wish {
    Wish::Acknowledge { sequence: Sequence::new(sequence), delivery: Sequence::ZERO }
}

/// Red when a leader decides by what is committed, or says that something is done which it has only
/// proposed.
#[test]
fn a_leader_decides_by_what_it_has_proposed() {
    let mut leader = Leader::of(explicit());
    let first = leader.propose(deliver(5));
    assert!(matches!(first, ConsumerOp::Delivered { count: 1, .. }));
    assert_eq!(leader.propose(deliver(7)), {
        let (consumer, timestamp) = (seq(2), NOW.as_timestamp());
        ConsumerOp::Delivered { consumer, stream: seq(7), count: 1, timestamp }
    });
    assert_eq!(leader.decide(&deliver(8)), Err(ApiError::INSUFFICIENT_RESOURCES), "two wait");
    assert_eq!(leader.decide(&deliver(6)), Err(ApiError::BAD_REQUEST), "it was passed over");
    assert_eq!(leader.propose(acknowledge(5)), acks(1, 5));
    assert_eq!(leader.propose(acknowledge(5)), acks(0, 5), "it is not committed");
    assert!(leader.decide(&deliver(8)).is_ok());
    // Each is answered when it is committed, in order.
    let steps = [first, delivered(2, 7, 1), acks(1, 5), acks(0, 5)];
    for (number, step) in (1..).zip(steps) {
        let decided = leader.0.apply(&step.to_bytes(), true).expect("it was just made");
        assert_eq!(decided.expect("who asked waits").request, RequestId::new(number));
    }
    assert_eq!(leader.decide(&acknowledge(5)), Ok(None), "it is acknowledged");
    // What was proposed and not committed is forgotten with the leadership.
    leader.propose(acknowledge(7));
    assert_eq!(leader.0.leadership_lost().collect::<Vec<_>>(), [RequestId::new(5)]);
    assert_eq!(leader.decide(&acknowledge(7)), Err(ApiError::CLUSTER_NOT_LEADER));
    leader.0.leadership_gained();
    assert_eq!(leader.propose(acknowledge(7)), acks(2, 7));
}

/// Red when a second wish is told that it is done before the first is committed.
#[test]
fn what_is_passed_over_is_done_when_it_is_committed() {
    let mut leader = Leader::of(explicit());
    let skip = Wish::Skip { sequence: seq(9) };
    let step = leader.propose(skip.clone());
    assert_eq!(leader.propose(skip.clone()), step);
    for number in [1, 2] {
        assert_eq!(leader.decide(&skip), Ok(Some(step.clone())));
        let decided = leader.0.apply(&step.to_bytes(), true).expect("it was just made");
        assert_eq!(decided.expect("who asked waits").request, RequestId::new(number));
    }
    assert_eq!(leader.decide(&skip), Ok(None));
    assert_eq!(standing(&leader.0), ([0, 8, 0, 0], vec![]));
}

#[test]
fn a_message_is_delivered_again_as_often_as_it_may_be_and_then_given_up() {
    let mut leader = Leader::of(explicit());
    leader.propose(deliver(5));
    let again = leader.propose(deliver(5));
    assert!(
        matches!(again, ConsumerOp::Delivered { count: 2, consumer, .. } if consumer == seq(2))
    );
    let end = leader.propose(deliver(5));
    let ConsumerOp::Delivered { count, consumer, .. } = end else { panic!("{end:?}") };
    assert_eq!((count, consumer), (3, seq(1)), "it is no delivery of its own");
    assert!(leader.0.exceeds(count));
    assert_eq!(leader.decide(&deliver(5)), Err(ApiError::BAD_REQUEST), "it waits no more");
}

#[test]
fn a_consumer_that_pauses_delivers_nothing() {
    let until = i64::try_from(NOW.as_nanos()).expect("it fits") + 5;
    let pause_until = Some(GoTime::from_unix_nanos(until));
    let leader = Leader::of(ConsumerConfig { pause_until, ..explicit() });
    assert_eq!(leader.decide(&deliver(1)), Err(ApiError::CLUSTER_NOT_AVAIL));
    let later = Time::from_nanos(NOW.as_nanos() + 5);
    assert!(leader.0.decide(later, &deliver(1), &Limits::default()).is_ok());
    assert!(leader.0.paused_until(later).is_none());
}

#[test]
fn a_reset_goes_where_the_consumer_may_begin() {
    let reset = |config: ConsumerConfig, sequence: u64| -> Result<u64, ApiError> {
        let leader = Leader::of(config);
        match leader.decide(&Wish::Reset { sequence: seq(sequence) })? {
            Some(ConsumerOp::ResetSequence { stream, .. }) => Ok(stream.get()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reset(explicit(), 7), Ok(7));
    assert_eq!(reset(explicit(), 0), Ok(1), "behind the floor");
    let policy = DeliverPolicy::ByStartSequence;
    let by = ConsumerConfig { deliver_policy: policy, opt_start_seq: 5, ..explicit() };
    assert_eq!(reset(by.clone(), 5), Ok(5));
    let error = reset(by, 4).expect_err("it is below");
    assert_eq!((error.err_code, &*error.description), (10204, "invalid reset: below start seq"));
    let new = ConsumerConfig { deliver_policy: DeliverPolicy::New, ..explicit() };
    assert_eq!(reset(new, 4).expect_err("no").description, "invalid reset: not allowed");
}

/// Some step of a leader or of a replay.
fn any_step() -> impl Strategy<Value = ConsumerOp> {
    let small = 0..20_u64;
    prop_oneof![
        4 => (small.clone(), small.clone(), 1..4_u64).prop_map(|(d, s, n)| delivered(d, s, n)),
        4 => (small.clone(), small.clone()).prop_map(|(d, s)| acks(d, s)),
        1 => small.clone().prop_map(|stream| ConsumerOp::Skip { stream: seq(stream) }),
        1 => small.prop_map(|stream| {
            ConsumerOp::ResetSequence { stream: seq(stream), reply: <_>::default() }
        }),
    ]
}

proptest! {
    /// Red when a floor passes what was delivered, moves back without a reset, or when a state is not
    /// a function of the log.
    #[test]
    fn floors_rise_and_a_snapshot_and_the_rest_give_the_same(
        steps in proptest::collection::vec(any_step(), 0..60),
        cut in 0..60_usize,
        all in any::<bool>(),
    ) {
        let policy = if all { AckPolicy::All } else { AckPolicy::Explicit };
        let mut wishes = Leader::of(ConsumerConfig { ack_policy: policy, ..Default::default() });
        let mut whole = of(policy);
        let mut from_snapshot = None;
        for (place, step) in steps.iter().enumerate() {
            if place == cut {
                let mut other = of(policy);
                prop_assert!(other.install(Index::new(1), &whole.snapshot()).is_ok());
                from_snapshot = Some(other);
            }
            // What a leader makes of it, so that only what a leader proposes is applied.
            let wish = match step {
                ConsumerOp::Delivered { stream, .. } => Wish::Deliver { sequence: *stream },
                ConsumerOp::Acks { stream, consumer } => {
                    Wish::Acknowledge { sequence: *stream, delivery: *consumer }
                }
                ConsumerOp::Skip { stream } => Wish::Skip { sequence: *stream },
                _ => Wish::Reset { sequence: step_sequence(step) },
            };
            let Ok(Some(made)) = wishes.decide(&wish) else { continue };
            wishes.0.proposed(RequestId::new(1), made.clone());
            let before = whole.state().clone();
            for consumer in [&mut whole].into_iter().chain(&mut from_snapshot) {
                prop_assert!(consumer.apply(&made.to_bytes(), false).is_ok());
            }
            let now = whole.state();
            prop_assert!(now.ack_floor.consumer <= now.delivered.consumer, "{made:?}");
            prop_assert!(now.ack_floor.stream <= now.delivered.stream, "{made:?}");
            if !matches!(made, ConsumerOp::ResetSequence { .. }) {
                prop_assert!(before.ack_floor.consumer <= now.ack_floor.consumer);
                prop_assert!(before.ack_floor.stream <= now.ack_floor.stream);
            }
            prop_assert!(of(policy).install(Index::new(1), &whole.snapshot()).is_ok());
        }
        if let Some(other) = from_snapshot {
            prop_assert_eq!(other.state(), whole.state());
        }
    }
}

fn step_sequence(step: &ConsumerOp) -> Sequence {
    match step {
        ConsumerOp::ResetSequence { stream, .. } => *stream,
        _ => Sequence::ZERO,
    }
}
