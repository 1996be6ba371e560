//! A power cut between any two changes of the store: what the log repeats gives the same stream.

use jetwake::ids::Sequence;
use proptest::prelude::*;

use crate::rig::{Log, Replica, Store, assert_same, leader};

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Delete(u64),
    Purge { filter: u8, before: u64, keep: u64 },
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8).prop_map(Step::Publish),
        2 => (1..60_u64).prop_map(Step::Delete),
        2 => (0..3_u8, 0..40_u64, 0..4_u64).prop_map(|(filter, before, keep)| {
            let before = if keep > 0 { 0 } else { before };
            Step::Purge { filter, before, keep }
        }),
        2 => Just(Step::Commit),
    ]
}

fn perform(log: &mut Log, one: &mut Replica, step: &Step) {
    match step {
        Step::Publish(subject) => {
            log.publish(one, &format!("s.{subject}"), "hello");
        }
        Step::Delete(sequence) => {
            log.delete(one, *sequence);
        }
        Step::Purge { filter, before, keep } => {
            let filter = ["", "s.1", "s.*"][usize::from(*filter)];
            log.purge(one, filter, *before, *keep);
        }
        Step::Commit => log.commit_to(&mut [one]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_crash_between_two_changes_is_not_seen(
        steps in prop::collection::vec(step(), 1..80),
        cut in 0..30_usize,
    ) {
        let (mut one, mut log) = leader();
        for step in &steps {
            perform(&mut log, &mut one, step);
        }
        log.commit_to(&mut [&mut one]);
        prop_assert!(one.stream.stopped().is_none(), "{:?}", one.stream.stopped());
        let mut two = Replica::new("n2", Store::default());
        two.changes_left = cut;
        log.feed(&mut two);
        let mut two = two.restart();
        log.feed(&mut two);
        if two.store.mark.is_some() {
            prop_assert_eq!(two.stream.applied(), one.stream.applied());
            assert_same(&one, &two);
        }
    }

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_give_the_same(
        steps in prop::collection::vec(step(), 1..80),
        behind in 0..20_usize,
        at in 0..20_usize,
    ) {
        let (mut one, mut log) = leader();
        let mut two = Replica::new("n2", Store::default());
        let mut snapshot = None;
        for step in steps.iter().chain([&Step::Commit]) {
            perform(&mut log, &mut one, step);
            if matches!(step, Step::Commit) {
                if log.records.len() <= behind {
                    log.feed(&mut two);
                }
                if log.records.len() <= at {
                    let state = one.stream.state().to_bytes();
                    snapshot = Some((one.stream.applied(), state, one.store.clone()));
                }
            }
        }
        if let Some((index, state, store)) = snapshot {
            crate::catchup::install(&mut two, index, &state);
            // The server has what it had when the snapshot was taken, or more.
            let mut server = Replica::new("n1", store);
            log.feed_through(&mut server, index);
            crate::catchup::carry(&mut server, &mut two);
            prop_assert!(two.stream.is_current(), "{:?}", two.reports);
        }
        log.feed(&mut two);
        if log.records.len() > 1 && two.store.mark.is_some() {
            prop_assert_eq!(two.stream.state().last, one.stream.state().last);
            assert_same(&one, &two);
        }
        prop_assert!(two.stream.state().last >= Sequence::ZERO);
    }
}
