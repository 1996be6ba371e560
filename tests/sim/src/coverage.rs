//! What happened how often: what never happened was not tested.

use std::collections::BTreeMap;
use std::fmt;

use crate::faults::{self, Fault};

/// What a good number of runs reaches, whatever faults are allowed.
pub const STATES: &[&str] = &[
    "batches acknowledged",
    "catchups of logs",
    "catchups of logs that waited for their own disk",
    "catchups of streams",
    "catchups of streams that asked again",
    "compactions",
    "changes of members committed",
    "changes taken back",
    "crashes",
    "deletes acknowledged",
    "deliveries",
    "deliveries acknowledged",
    "deliveries of the same again",
    "elections won",
    "groups on the machines that were wanted",
    "leaders asked to leave",
    "leaders that hand over well",
    "log writes lost",
    "log writes that nobody was told of",
    "members added",
    "members removed",
    "messages doubled",
    "messages dropped",
    "messages of batches kept",
    "messages passed over",
    "proposals forwarded",
    "publishes acknowledged",
    "publishes acknowledged again",
    "publishes acknowledged as duplicates",
    "purges acknowledged",
    "removals forwarded",
    "resets",
    "snapshots installed",
    "snapshots taken",
    "store writes lost",
    "transfers asked for",
    "truncations",
];

/// Counts by name, in the order of the alphabet, and how often each kind of fault struck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Fault, u64>,
}

impl Coverage {
    /// Once more.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// So many more.
    pub fn add(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.counts.entry(what).or_default() += times;
        }
    }

    /// A fault struck.
    pub fn count_fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// How often.
    pub fn get(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Everything that happened, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, times)| (*what, *times))
    }

    /// Every kind of fault, and how often it struck.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> {
        faults::ALL.iter().map(|fault| (*fault, self.faults.get(fault).copied().unwrap_or(0)))
    }

    /// Which of [`STATES`] were never reached.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        STATES.iter().copied().filter(|state| self.get(state) == 0)
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (what, times) in &other.counts {
            self.add(what, *times);
        }
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (what, times)) in self.counts.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{what} {times}")?;
        }
        Ok(())
    }
}
