//! The faults that a run suffers, each drawn from the seed, and the relief that ends each.
//!
//! A run draws first which kinds of fault it knows and how often each comes: runs that differ in
//! their weather find more than runs that all have a little of everything.

use jetwake::ids::GroupId;
use jetwake::time::Duration;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::network::{Machine, NetworkConditions};
use crate::process::Doom;
use crate::setup::Setup;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies between two events, and comes back.
    Crash,
    /// A process dies between two commands, and comes back.
    CrashAtCommand,
    /// Whoever leads dies, and comes back.
    CrashLeader,
    /// All processes die at once, and come back.
    CrashAll,
    /// A process gets nothing done for a while.
    Pause,
    /// Nothing gets from one machine to another.
    CutOneWay,
    /// A machine reaches nobody, and nobody reaches it.
    Isolate,
    /// The machines fall into two sides.
    Partition,
    /// A link holds everything back, and then lets it all through at once.
    Clog,
    /// Messages are dropped, doubled, delayed and overtaken.
    Weather,
    /// A disk takes its time.
    SlowDisk,
    /// A log write fails; the process is started again later.
    FailWrite,
    /// A disk is full; the process is started again when it is not.
    FullDisk,
    /// Loads and reads fail now and then.
    ReadFailures,
    /// The leader is asked to hand over, to somebody or to anybody.
    Transfer,
    /// A member is asked for a snapshot.
    Snapshot,
    /// A clock jumps ahead.
    ClockJump,
}

/// Every kind of fault.
pub const ALL: [Fault; 17] = [
    Fault::Crash,
    Fault::CrashAtCommand,
    Fault::CrashLeader,
    Fault::CrashAll,
    Fault::Pause,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::Partition,
    Fault::Clog,
    Fault::Weather,
    Fault::SlowDisk,
    Fault::FailWrite,
    Fault::FullDisk,
    Fault::ReadFailures,
    Fault::Transfer,
    Fault::Snapshot,
    Fault::ClockJump,
];

/// The end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Every link is mended.
    Links,
    /// A process goes on.
    Resume(Machine),
    /// A disk is as quick as before, and reads what it is asked; the process is started anew if
    /// it stood aside.
    Disk(Machine),
    /// A disk has space again, and the process is started anew if it was told of the lack.
    Space(Machine),
    /// The weather is fine.
    Weather,
}

/// Which faults come, how often, and how long each lasts.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    weights: Vec<(Fault, u64)>,
    between: core::ops::Range<Duration>,
    lasts: core::ops::Range<Duration>,
    dice: Dice,
}

impl FaultPlan {
    /// Draws a plan from these kinds of fault; the timers say what is short and what is long.
    pub fn drawn(kinds: &[Fault], setup: &Setup, dice: &mut Dice) -> Self {
        let mut weights: Vec<_> = kinds.iter().map(|kind| (*kind, dice.below(10))).collect();
        // About half of the kinds stay away from each run.
        weights.retain(|_| dice.chance(500_000));
        // Snapshots and transfers are part of any life.
        for always in [Fault::Snapshot, Fault::Transfer] {
            if kinds.contains(&always) {
                weights.push((always, 1));
            }
        }
        let election = setup.timers.election_max;
        let busy = dice.below(3) as u32 + 1;
        Self {
            weights,
            between: election / 20..election * 2 / busy,
            lasts: election / 10..election * 2,
            dice: dice.fork(),
        }
    }

    /// How long it is quiet until the next fault.
    pub fn quiet(&mut self) -> Duration {
        self.dice.duration(&self.between.clone())
    }

    /// The next fault happens to a cluster.
    pub fn strike(&mut self, cluster: &mut Cluster) {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.dice.below(total);
        for (fault, weight) in &self.weights {
            if drawn < *weight {
                let fault = *fault;
                let lasts = self.dice.duration(&self.lasts.clone());
                return cluster.suffer(fault, lasts, &mut self.dice);
            }
            drawn -= weight;
        }
    }
}

impl Cluster {
    /// A fault happens, to a machine that the dice choose; what has an end ends after a while.
    pub fn suffer(&mut self, fault: Fault, lasts: Duration, dice: &mut Dice) {
        let machines = self.machines();
        let victim = Machine(dice.place(machines.len()));
        let other =
            Machine((victim.0 + 1 + dice.place(machines.len().max(2) - 1)) % machines.len());
        match fault {
            Fault::Crash => self.crash_for(victim, lasts),
            Fault::CrashAtCommand => {
                let commands = dice.below(40) as u32;
                self.crash_after(victim, Doom { commands, downtime: Some(lasts) });
            }
            Fault::CrashLeader => {
                let leader = self.leader(GroupId(0)).unwrap_or(victim);
                self.crash_for(leader, lasts);
            }
            Fault::CrashAll => {
                for machine in machines {
                    let downtime = dice.duration(&(Duration::ZERO..lasts));
                    self.crash_for(machine, downtime);
                }
            }
            Fault::Pause => {
                self.pause(victim);
                self.relieve_after(lasts, Relief::Resume(victim));
            }
            Fault::CutOneWay if victim != other => {
                self.cut(victim, other);
                self.relieve_after(lasts, Relief::Links);
            }
            Fault::Isolate => {
                self.isolate(victim);
                self.relieve_after(lasts, Relief::Links);
            }
            Fault::Partition => {
                let (one, two): (Vec<_>, Vec<_>) =
                    machines.into_iter().partition(|_| dice.chance(500_000));
                self.part(&one, &two);
                self.relieve_after(lasts, Relief::Links);
            }
            Fault::Clog if victim != other => self.clog(victim, other, lasts),
            Fault::Weather => self.bad_weather(lasts, dice),
            Fault::Transfer => {
                let to = dice.chance(500_000).then_some(victim);
                self.step_down(GroupId(0), to);
            }
            Fault::Snapshot if self.is_plain(GroupId(0)) && dice.chance(500_000) => {
                self.begin_checkpoint(victim, GroupId(0), dice.chance(500_000));
            }
            Fault::Snapshot => self.snapshot(victim, GroupId(0)),
            Fault::ClockJump => self.jump_clock(victim, lasts),
            Fault::SlowDisk | Fault::FailWrite | Fault::FullDisk | Fault::ReadFailures => {
                self.disk_fault(fault, victim, lasts, dice);
            }
            Fault::CutOneWay | Fault::Clog => {}
        }
    }

    fn crash_for(&mut self, machine: Machine, downtime: Duration) {
        if self.is_up(machine) {
            self.crash(machine);
            self.restart_after(machine, downtime);
        }
    }

    fn bad_weather(&mut self, lasts: Duration, dice: &mut Dice) {
        self.note("bad weather");
        let worst = dice.below(4) as u32 * 100_000;
        let usual = Duration::from_millis(1 << dice.below(8));
        let conditions = &mut self.network_mut().conditions;
        *conditions = NetworkConditions {
            delay: usual / 4..usual,
            drops: dice.below(u64::from(worst) + 1) as u32,
            doubles: dice.below(100_000) as u32,
            overtaken: dice.below(300_000) as u32,
            held_up: usual * 10,
            stale: lasts,
            bytes_per_second: [0, 100_000, 10_000_000][dice.place(3)],
            names_senders: conditions.names_senders,
        };
        self.relieve_after(lasts, Relief::Weather);
    }

    fn disk_fault(&mut self, fault: Fault, victim: Machine, lasts: Duration, dice: &mut Dice) {
        let disk = self.disk_mut(victim);
        match fault {
            Fault::SlowDisk => disk.slowness = 1 << dice.below(9),
            Fault::ReadFailures => disk.conditions.read_failures = 300_000,
            Fault::FailWrite => disk.fail_next_write = true,
            _ => disk.full = true,
        }
        self.note(match fault {
            Fault::SlowDisk => "slow disks",
            Fault::ReadFailures => "disks that do not always read",
            Fault::FailWrite => "writes that fail",
            _ => "full disks",
        });
        let restarts = matches!(fault, Fault::FailWrite | Fault::FullDisk);
        let relief = if restarts { Relief::Space(victim) } else { Relief::Disk(victim) };
        self.relieve_after(lasts, relief);
    }

    /// A process that stood aside because of its disk is started again.
    fn repair(&mut self, machine: Machine) {
        if self.is_up(machine) && (self.disk(machine).has_failed() || self.stands_aside(machine)) {
            self.crash(machine);
            self.restart_after(machine, Duration::from_millis(100));
        }
    }

    /// Ends a fault.
    pub(crate) fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Links => self.mend(),
            Relief::Resume(machine) => self.resume(machine),
            Relief::Disk(machine) => {
                let disk = self.disk_mut(machine);
                disk.slowness = 1;
                disk.conditions.read_failures = 0;
                self.repair(machine);
            }
            Relief::Space(machine) => {
                let disk = self.disk_mut(machine);
                (disk.full, disk.fail_next_write) = (false, false);
                self.repair(machine);
            }
            Relief::Weather => {
                let names_senders = self.network_mut().conditions.names_senders;
                let fine = NetworkConditions { names_senders, ..NetworkConditions::default() };
                self.network_mut().conditions = fine;
            }
        }
    }
}
