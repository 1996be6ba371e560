//! The life of a group of three nodes, with every rule of the simulator checked.

use jetwake_sim::steps::{Life, Step};

/// How many steps of an input are taken; a longer one costs time and shows nothing new.
const STEPS: usize = 200;

/// Two bytes are the seed of network, disks and clocks, and every two behind them a step.
pub fn raft_group(input: &[u8]) {
    let Some((seed, steps)) = input.split_first_chunk() else { return };
    let mut life = Life::begin(u64::from(u16::from_le_bytes(*seed)), 3);
    for step in steps.as_chunks().0.iter().take(STEPS) {
        let step = Step::read(*step, life.machines());
        assert!(life.take(step), "{step:?}\n{}", life.cluster);
    }
    if let Err(what) = life.end() {
        panic!("{what}");
    }
}
