//! A cluster against a model that knows neither leaders nor failures: a log to which entries are added.
//!
//! The model says which machines run and what may be proposed; proptest draws lives of it, plays them
//! with real nodes in the simulator, and shrinks what fails. After every step each rule of the
//! simulator holds; in the end every replica has what was acknowledged, nothing that was not proposed,
//! nothing that was refused, and later entries behind earlier ones.

use jetwake::time::Duration;
use jetwake_sim::Machine;
use jetwake_sim::steps::{GROUP, Life, Step};
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

const MACHINES: usize = 3;

/// The model: which machines run, and how many entries were offered to it.
#[derive(Clone, Debug)]
struct Model {
    seed: u64,
    up: [bool; MACHINES],
    offered: usize,
}

impl Model {
    fn running(&self) -> impl Iterator<Item = Machine> + '_ {
        (0..MACHINES).filter(|at| self.up[*at]).map(Machine)
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let model = |seed| Self { seed, up: [true; MACHINES], offered: 0 };
        any::<u64>().prop_map(model).boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Step> {
        let any = (0..MACHINES).prop_map(Machine);
        let up: Vec<_> = model.running().collect();
        let down: Vec<_> = (0..MACHINES).map(Machine).filter(|m| !model.up[m.0]).collect();
        let millis = (0_u32..11).prop_map(|power| Step::Pass(Duration::from_millis(1 << power)));
        let mut steps = vec![
            (8, millis.boxed()),
            (8, Just(Step::ProposeToLeader).boxed()),
            (2, (any.clone(), any.clone()).prop_map(|(a, b)| Step::Cut(a, b)).boxed()),
            (2, Just(Step::Mend).boxed()),
            (1, proptest::option::of(any.clone()).prop_map(Step::HandOver).boxed()),
            (1, (any.clone(), 1_u32..20).prop_map(|(m, times)| Step::Slow(m, times)).boxed()),
        ];
        if !up.is_empty() {
            let up = proptest::sample::select(up);
            steps.push((2, up.clone().prop_map(Step::Crash).boxed()));
            steps.push((1, up.clone().prop_map(Step::Snapshot).boxed()));
            steps.push((1, up.clone().prop_map(Step::FailWrite).boxed()));
            steps.push((2, up.prop_map(Step::Propose).boxed()));
        }
        if !down.is_empty() {
            steps.push((4, proptest::sample::select(down).prop_map(Step::Restart).boxed()));
        }
        proptest::strategy::Union::new_weighted(steps).boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        match step {
            Step::Crash(machine) => model.up[machine.0] = false,
            Step::Restart(machine) => model.up[machine.0] = true,
            Step::Propose(_) | Step::ProposeToLeader => model.offered += 1,
            _ => {}
        }
        model
    }

    fn preconditions(model: &Self, step: &Step) -> bool {
        match step {
            Step::Crash(machine) | Step::Propose(machine) => model.up[machine.0],
            Step::Restart(machine) => !model.up[machine.0],
            _ => true,
        }
    }
}

/// The real nodes.
struct Nodes;

impl StateMachineTest for Nodes {
    type SystemUnderTest = Life;
    type Reference = Model;

    fn init_test(model: &Model) -> Life {
        Life::begin(model.seed, MACHINES)
    }

    fn apply(mut life: Life, _: &Model, step: Step) -> Life {
        assert!(life.take(step), "{}", life.cluster);
        life
    }

    fn check_invariants(life: &Life, model: &Model) {
        for machine in (0..MACHINES).map(Machine) {
            assert_eq!(life.cluster.is_up(machine), model.up[machine.0], "{machine}");
            let node = life.cluster.process(machine).node.as_ref();
            if let Some(status) = node.and_then(|node| node.status(GROUP)) {
                assert!(status.applied <= status.commit, "{machine}: {status:?}");
                assert!(status.durable <= status.last.index, "{machine}: {status:?}");
                assert!(status.commit <= status.last.index, "{machine}: {status:?}");
            }
        }
        assert!(life.proposals().len() <= model.offered);
    }

    fn teardown(mut life: Life, _: Model) {
        if let Err(what) = life.end() {
            panic!("{what}");
        }
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 48, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_cluster_is_a_log(sequential 1..60 => Nodes);
}
