//! The faults that a run suffers, each drawn from the seed, and the relief that ends each.
//!
//! A run draws first which kinds of fault it knows and how often each comes: runs that differ in
//! their weather find more than runs that all have a little of everything.

use core::fmt;
use core::str::FromStr;

use jetwake::ids::GroupId;
use jetwake::time::Duration;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::disk::Rot;
use crate::network::{Machine, NetworkConditions};
use crate::process::{ChangeDoom, Doom, RareChange};
use crate::setup::Setup;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies between two events, and comes back.
    Crash,
    /// A process dies between two commands, and comes back.
    CrashAtCommand,
    /// A process dies when it next truncates, resets or compacts a log, or writes a snapshot, and
    /// comes back.
    CrashAtChange,
    /// Whoever leads dies, and comes back.
    CrashLeader,
    /// All processes die at once, and come back.
    CrashAll,
    /// A process gets nothing done for a while.
    Pause,
    /// All processes but one get nothing done for a while.
    PauseAllButOne,
    /// Nothing gets from one machine to another.
    CutOneWay,
    /// A machine reaches nobody, and nobody reaches it.
    Isolate,
    /// The machines fall into two sides.
    Partition,
    /// A link holds everything back, and then lets it all through at once.
    Clog,
    /// A link is slow and narrow for a while.
    SlowLink,
    /// Messages are dropped, doubled, delayed and overtaken.
    Weather,
    /// Old messages arrive once more, over restarts of who sent them and of who gets them.
    Replay,
    /// What a machine acknowledges of the catchups of its streams is lost.
    NoAcks,
    /// A disk takes its time.
    SlowDisk,
    /// A disk takes its time for what a stream stores, though not for the log: what is committed is
    /// applied late.
    SlowStore,
    /// A log write fails; the process is started again later.
    FailWrite,
    /// A disk is full; the process is started again when it is not.
    FullDisk,
    /// Loads and reads fail now and then.
    ReadFailures,
    /// The leader is asked to hand over, to somebody or to anybody.
    Transfer,
    /// The leader is asked to add and to remove members, one after the other, until some machines
    /// and no others are members.
    Members,
    /// A member is asked for a snapshot.
    Snapshot,
    /// A clock jumps ahead.
    ClockJump,
    /// A clock runs up to a fifth too fast or too slow.
    ClockDrift,
    /// A clock stands still, and its machine works on.
    ClockStall,
    /// A process dies, something goes bad on its disk, and it comes back; never on so many
    /// machines that what was acknowledged would be gone.
    Rot,
}

/// Every kind of fault.
pub const ALL: &[Fault] = &[
    Fault::Crash,
    Fault::CrashAtCommand,
    Fault::CrashAtChange,
    Fault::CrashLeader,
    Fault::CrashAll,
    Fault::Pause,
    Fault::PauseAllButOne,
    Fault::CutOneWay,
    Fault::Isolate,
    Fault::Partition,
    Fault::Clog,
    Fault::SlowLink,
    Fault::Weather,
    Fault::Replay,
    Fault::NoAcks,
    Fault::SlowDisk,
    Fault::SlowStore,
    Fault::FailWrite,
    Fault::FullDisk,
    Fault::ReadFailures,
    Fault::Transfer,
    Fault::Members,
    Fault::Snapshot,
    Fault::ClockJump,
    Fault::ClockDrift,
    Fault::ClockStall,
    Fault::Rot,
];

impl Fault {
    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::CrashAtCommand => "crash-at-command",
            Self::CrashAtChange => "crash-at-change",
            Self::CrashLeader => "crash-leader",
            Self::CrashAll => "crash-all",
            Self::Pause => "pause",
            Self::PauseAllButOne => "pause-all-but-one",
            Self::CutOneWay => "cut-one-way",
            Self::Isolate => "isolate",
            Self::Partition => "partition",
            Self::Clog => "clog",
            Self::SlowLink => "slow-link",
            Self::Weather => "weather",
            Self::Replay => "replay",
            Self::NoAcks => "no-acks",
            Self::SlowDisk => "slow-disk",
            Self::SlowStore => "slow-store",
            Self::FailWrite => "fail-write",
            Self::FullDisk => "full-disk",
            Self::ReadFailures => "read-failures",
            Self::Transfer => "transfer",
            Self::Members => "members",
            Self::Snapshot => "snapshot",
            Self::ClockJump => "clock-jump",
            Self::ClockDrift => "clock-drift",
            Self::ClockStall => "clock-stall",
            Self::Rot => "rot",
        }
    }
}

/// A name that is no kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = ALL.iter().map(|fault| fault.name()).collect();
        write!(f, "found {:?}, expected all, or some of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let named = |fault: &&Self| fault.name() == name;
        ALL.iter().find(named).copied().ok_or_else(|| UnknownFault(name.into()))
    }
}

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
    /// The weather is as it usually is in this network.
    Weather,
    /// A clock runs as it did before.
    Clock(Machine),
    /// What a machine acknowledges is no longer lost.
    Acks(Machine),
}

/// One fault of a run.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// Its place among all faults of the run, from 1 on.
    pub number: usize,
    /// When it happens, counted from the beginning.
    pub at: Duration,
    /// What happens.
    pub fault: Fault,
    /// How long it lasts, if it has an end.
    pub lasts: Duration,
    /// Where its own draws come from: they stay the same if others are left out.
    seed: u64,
}

impl Strike {
    /// It happens to a cluster.
    pub fn strike(&self, cluster: &mut Cluster) {
        cluster.suffer(self.fault, self.lasts, &mut Dice::new(self.seed));
    }
}

/// Which faults come, how often, and how long each lasts. It knows no end: a shorter run suffers
/// the first of the same faults.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    weights: Vec<(Fault, u64)>,
    between: core::ops::Range<Duration>,
    lasts: core::ops::Range<Duration>,
    dice: Dice,
    number: usize,
    at: Duration,
}

impl FaultPlan {
    /// Draws a plan from these kinds of fault; the timers say what is short and what is long.
    pub fn drawn(kinds: &[Fault], setup: &Setup, dice: &mut Dice) -> Self {
        let mut weights: Vec<_> = kinds.iter().map(|kind| (*kind, 1 + dice.below(10))).collect();
        // About half of the kinds stay away from each run.
        weights.retain(|_| kinds.len() == 1 || dice.chance(500_000));
        // Whose disk goes bad must not be left alone with it by those who go.
        if weights.iter().any(|(kind, _)| *kind == Fault::Rot) {
            weights.retain(|(kind, _)| *kind != Fault::Members);
        }
        // Snapshots and transfers are part of any life.
        for (always, weight) in [(Fault::Snapshot, 3), (Fault::Transfer, 1)] {
            if kinds.contains(&always) {
                weights.push((always, weight));
            }
        }
        let election = setup.timers.election_max;
        let busy = dice.below(3) as u32 + 1;
        Self {
            weights,
            between: election / 20..election * 2 / busy,
            lasts: election / 10..election * 2,
            dice: dice.fork(),
            number: 0,
            at: Duration::ZERO,
        }
    }

    /// The next fault; none if no kind comes.
    pub fn next_strike(&mut self) -> Option<Strike> {
        self.at += self.dice.duration(&self.between);
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.dice.below(total);
        let lasts = self.dice.duration(&self.lasts);
        let seed = self.dice.bits();
        self.number += 1;
        for (fault, weight) in &self.weights {
            if drawn < *weight {
                let (number, at, fault) = (self.number, self.at, *fault);
                return Some(Strike { number, at, fault, lasts, seed });
            }
            drawn -= weight;
        }
        None
    }
}

impl Cluster {
    /// A fault happens, to a machine and a group that its dice choose; what has an end ends after a
    /// while.
    pub fn suffer(&mut self, fault: Fault, lasts: Duration, dice: &mut Dice) {
        self.count_fault(fault);
        let machines = self.machines();
        let group = GroupId(dice.place(self.setup().groups.len()) as u32);
        let victim = Machine(dice.place(machines.len()));
        let other =
            Machine((victim.0 + 1 + dice.place(machines.len().max(2) - 1)) % machines.len());
        match fault {
            Fault::Crash => self.crash_for(victim, lasts),
            Fault::CrashAtCommand => {
                let commands = dice.below(40) as u32;
                self.crash_after(victim, Doom { commands, downtime: Some(lasts) });
            }
            Fault::CrashAtChange => {
                let change = RareChange::ALL[dice.place(RareChange::ALL.len())];
                let before = dice.chance(500_000);
                self.crash_at_change(victim, ChangeDoom { change, before, downtime: lasts });
            }
            Fault::CrashLeader => {
                let leader = self.leader(group).unwrap_or(victim);
                self.crash_for(leader, lasts);
            }
            Fault::CrashAll => {
                for machine in machines {
                    let downtime = dice.duration(&(Duration::ZERO..lasts));
                    self.crash_for(machine, downtime);
                }
            }
            Fault::Pause => self.pause_for(victim, lasts),
            Fault::PauseAllButOne => {
                for machine in machines.into_iter().filter(|machine| *machine != victim) {
                    self.pause_for(machine, lasts);
                }
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
            Fault::SlowLink if victim != other => {
                let delay = Duration::from_millis(1 << dice.below(10));
                self.slow_link(victim, other, delay, 1_000 << dice.below(10));
                self.relieve_after(lasts, Relief::Links);
            }
            Fault::Weather => self.bad_weather(lasts, dice),
            Fault::Replay => self.replay_old_messages(1 + dice.place(200), lasts, dice),
            Fault::NoAcks => {
                self.lose_acks(victim);
                self.relieve_after(lasts, Relief::Acks(victim));
            }
            Fault::Transfer => {
                let to = dice.chance(500_000).then_some(victim);
                self.step_down(group, to);
            }
            Fault::Members => self.scale_to(group, dice.place(machines.len()), dice.bits()),
            Fault::Snapshot if self.is_plain(group) && dice.chance(500_000) => {
                self.begin_checkpoint(victim, group, dice.chance(500_000));
            }
            Fault::Snapshot => self.snapshot(victim, group),
            Fault::ClockJump => self.jump_clock(victim, lasts),
            Fault::ClockDrift => {
                let drift = dice.below(400_001) as i32 - 200_000;
                self.drift_clock(victim, drift);
                self.relieve_after(lasts, Relief::Clock(victim));
            }
            Fault::ClockStall => {
                self.drift_clock(victim, -1_000_000);
                self.relieve_after(lasts, Relief::Clock(victim));
            }
            Fault::Rot => self.rot_for(victim, Rot::drawn(dice), lasts),
            Fault::SlowDisk
            | Fault::SlowStore
            | Fault::FailWrite
            | Fault::FullDisk
            | Fault::ReadFailures => {
                self.disk_fault(fault, victim, lasts, dice);
            }
            // A single machine has no links.
            Fault::CutOneWay | Fault::Clog | Fault::SlowLink => {}
        }
    }

    fn crash_for(&mut self, machine: Machine, downtime: Duration) {
        if self.is_up(machine) {
            self.crash(machine);
            self.restart_after(machine, downtime);
        }
    }

    fn pause_for(&mut self, machine: Machine, lasts: Duration) {
        self.pause(machine);
        self.relieve_after(lasts, Relief::Resume(machine));
    }

    fn bad_weather(&mut self, lasts: Duration, dice: &mut Dice) {
        self.note(None, "bad weather");
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
            Fault::SlowStore => disk.store_slowness = 1 << dice.below(12),
            Fault::ReadFailures => disk.conditions.read_failures = 300_000,
            Fault::FailWrite => disk.fail_next_write = true,
            _ => disk.full = true,
        }
        let what = match fault {
            Fault::SlowDisk => "slow disks",
            Fault::SlowStore => "slow stores",
            Fault::ReadFailures => "disks that do not always read",
            Fault::FailWrite => "writes that fail",
            _ => "full disks",
        };
        self.note(Some(victim), what);
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
                (disk.slowness, disk.store_slowness) = (1, 1);
                disk.conditions.read_failures = 0;
                self.repair(machine);
            }
            Relief::Space(machine) => {
                let disk = self.disk_mut(machine);
                (disk.full, disk.fail_next_write) = (false, false);
                self.repair(machine);
            }
            Relief::Weather => {
                let usual = self.setup().network.clone();
                self.network_mut().conditions = usual;
            }
            Relief::Clock(machine) => self.drift_clock(machine, 0),
            Relief::Acks(machine) => self.network_mut().hear_acks_of(machine),
        }
    }
}
