//! What a simulated cluster begins with.

use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::ids::GroupName;
use jetwake::limits::{Limits, Timers};
use jetwake::time::{Duration, Time};
use jetwake::wire::StreamConfig;

use crate::disk::DiskConditions;
use crate::network::{Machine, NetworkConditions};
use crate::story::Detail;

/// What a simulated cluster begins with: every group has a member on every machine, or on the
/// first few.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many machines there are; 64 at most.
    pub machines: usize,
    /// How many of the machines, the first ones, are members when the groups begin; the others
    /// wait to be added.
    pub founders: usize,
    /// What each group's entries mean.
    pub groups: Vec<GroupKind>,
    /// Every bound of the nodes.
    pub limits: Limits,
    /// Every interval of the nodes.
    pub timers: Timers,
    /// What links do to messages.
    pub network: NetworkConditions,
    /// How disks behave.
    pub disk: DiskConditions,
    /// How far the clocks of two machines are apart at most.
    pub skew: Duration,
    /// How many parts per million a clock runs too fast or too slow at most.
    pub drift: u32,
    /// How late a deadline is handed in at most.
    pub slack: Duration,
    /// How long the machine of a plain group takes to apply a record, at most.
    pub applying: Duration,
    /// How much of the story is told.
    pub detail: Detail,
    /// Whether a digest of every event and command is kept: to compare two runs.
    pub digest: bool,
}

impl Setup {
    /// One stream, `S` on `s.*`, on so many machines.
    pub fn stream(machines: usize) -> Self {
        Self::of(machines, vec![stream("S")])
    }

    /// One plain group on so many machines.
    pub fn plain(machines: usize) -> Self {
        Self::of(machines, vec![GroupKind::Plain])
    }

    /// These groups on so many machines.
    pub fn of(machines: usize, groups: Vec<GroupKind>) -> Self {
        Self {
            machines,
            founders: machines,
            groups,
            limits: Limits::default(),
            timers: Timers::default(),
            network: NetworkConditions::default(),
            disk: DiskConditions::default(),
            skew: Duration::from_millis(50),
            drift: 50,
            slack: Duration::from_millis(1),
            applying: Duration::from_millis(1),
            detail: Detail::from_environment(Detail::Events),
            digest: false,
        }
    }

    /// The name of a group on the wire.
    pub fn group_name(&self, group: usize) -> GroupName {
        let kind = match self.groups[group] {
            GroupKind::Plain => "P",
            GroupKind::Consumer(_) => "C",
            _ => "S",
        };
        GroupName::new(format!("{kind}-R{}F-sim{group:05}", self.machines))
            .expect("letters, digits and dashes are one token")
    }

    /// What the node of a machine is told before it starts.
    pub fn config(&self, machine: Machine, seed: u64) -> Config {
        let members: Vec<_> = (0..self.founders).map(|at| Machine(at).to_string()).collect();
        let group = |(place, kind): (usize, &GroupKind)| GroupConfig {
            name: self.group_name(place),
            members: members.clone(),
            kind: kind.clone(),
        };
        Config {
            name: machine.to_string(),
            domain: String::new(),
            seed,
            limits: self.limits.clone(),
            timers: self.timers.clone(),
            groups: self.groups.iter().enumerate().map(group).collect(),
        }
    }
}

/// A stream that remembers message ids for longer than a simulation takes.
pub fn stream(name: &str) -> GroupKind {
    const DAY: i64 = 24 * 3600 * 1_000_000_000;
    GroupKind::Stream(StreamConfig {
        name: name.into(),
        subjects: vec!["s.*".into()],
        duplicate_window: DAY,
        ..StreamConfig::default()
    })
}

/// What the clocks show, more or less, when a simulation begins: the first of January 2026.
pub const EPOCH: Time = Time::from_nanos(1_767_225_600_000_000_000);
