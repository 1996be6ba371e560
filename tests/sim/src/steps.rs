//! Single steps in the life of a cluster, for those who draw them one by one: a fuzzer, a property test.
//!
//! A step that cannot be taken now (a restart of what runs, a cut between a machine and itself) does
//! nothing, so that any list of steps is a life.

use std::collections::BTreeSet;

use bytes::Bytes;
use jetwake::event::Request;
use jetwake::ids::{ByteCount, GroupId, Index, RequestId};
use jetwake::time::Duration;

use crate::client::{Told, told};
use crate::cluster::Cluster;
use crate::network::Machine;
use crate::process::Doom;
use crate::setup::Setup;
use crate::story::Detail;
use crate::workload::quick_timers;

/// The group that the steps are about: a plain one.
pub const GROUP: GroupId = GroupId(0);

/// Upstream's codes for what was not taken: nothing of it may ever happen.
const NOT_LEADER: u64 = 10_009;
const BUSY: u64 = 10_023;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Time passes.
    Pass(Duration),
    /// A client of a machine proposes an entry.
    Propose(Machine),
    /// A client of the machine that leads, if one does, proposes an entry.
    ProposeToLeader,
    /// A process dies.
    Crash(Machine),
    /// A process dies after so many more commands, and comes back soon.
    CrashAfter(Machine, u32),
    /// A process that is down starts.
    Restart(Machine),
    /// A process gets nothing done.
    Pause(Machine),
    /// A paused process goes on.
    Resume(Machine),
    /// Messages from the first to the second are lost.
    Cut(Machine, Machine),
    /// Messages to and from a machine are lost.
    Isolate(Machine),
    /// Every link is whole.
    Mend,
    /// The leader is asked to hand over, to somebody or to whom it likes.
    HandOver(Option<Machine>),
    /// A machine takes a snapshot and shortens its log.
    Snapshot(Machine),
    /// The next write of a machine's disk fails.
    FailWrite(Machine),
    /// A machine's disk takes this many times as long.
    Slow(Machine, u32),
    /// A machine's clock jumps ahead.
    JumpClock(Machine, Duration),
}

impl Step {
    /// The step that two bytes mean in a cluster of so many machines; every pair means one.
    ///
    /// # Panics
    /// If there are no machines.
    pub fn read([kind, detail]: [u8; 2], machines: usize) -> Self {
        let (machine, rest) = (Machine(detail as usize % machines), detail as usize / machines);
        let other = Machine(rest % machines);
        match kind % 20 {
            0..=3 => Self::Pass(Duration::from_millis(1 << (detail % 11))),
            4..=6 => Self::ProposeToLeader,
            7 => Self::Propose(machine),
            8 => Self::Crash(machine),
            9 => Self::CrashAfter(machine, rest as u32),
            10 => Self::Restart(machine),
            11 => Self::Pause(machine),
            12 => Self::Resume(machine),
            13 => Self::Cut(machine, other),
            14 => Self::Isolate(machine),
            15 => Self::Mend,
            16 => Self::HandOver((rest % 2 == 0).then_some(machine)),
            17 => Self::Snapshot(machine),
            18 => match rest % 2 {
                0 => Self::FailWrite(machine),
                _ => Self::Slow(machine, rest as u32),
            },
            _ => Self::JumpClock(machine, Duration::from_millis(rest as u64 * 20)),
        }
    }
}

/// An entry that a client proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The number of the request.
    pub request: RequestId,
    /// What stands before the first line end of the entry: no two are alike.
    pub id: Bytes,
    /// The last record that a client knew to be committed when it was made.
    pub behind: Index,
}

/// A cluster that lives step by step.
#[derive(Debug)]
pub struct Life {
    /// The cluster.
    pub cluster: Cluster,
    machines: usize,
    proposals: Vec<Proposal>,
}

impl Life {
    /// A cluster of so many machines with one plain group, small caches and quick timers.
    pub fn begin(seed: u64, machines: usize) -> Self {
        let mut setup = Setup { timers: quick_timers(), ..Setup::plain(machines) };
        setup.detail = Detail::from_environment(Detail::Events);
        let small = ByteCount::new;
        setup.limits.log_cache = small(500);
        setup.limits.log_catchup_in_flight = small(300);
        setup.limits.follower_held = small(300);
        setup.limits.load = small(300);
        setup.limits.follower_unwritten = small(600);
        Self { cluster: Cluster::new(seed, setup), machines, proposals: Vec::new() }
    }

    /// How many machines there are.
    pub const fn machines(&self) -> usize {
        self.machines
    }

    /// Everything that was proposed, in order.
    pub fn proposals(&self) -> &[Proposal] {
        &self.proposals
    }

    /// Takes a step; whether every rule still holds.
    pub fn take(&mut self, step: Step) -> bool {
        let cluster = &mut self.cluster;
        match step {
            Step::Pass(time) => {
                let until = cluster.after(time);
                cluster.advance(until);
            }
            Step::Propose(machine) => self.propose(machine),
            Step::ProposeToLeader => {
                if let Some(leader) = cluster.leader(GROUP) {
                    self.propose(leader);
                }
            }
            Step::Crash(machine) => cluster.crash(machine),
            Step::CrashAfter(machine, commands) => {
                let downtime = Some(Duration::from_millis(200));
                cluster.crash_after(machine, Doom { commands, downtime });
            }
            Step::Restart(machine) if !cluster.is_up(machine) => cluster.restart(machine),
            Step::Restart(_) => {}
            Step::Pause(machine) => cluster.pause(machine),
            Step::Resume(machine) => cluster.resume(machine),
            Step::Cut(from, to) if from != to => cluster.cut(from, to),
            Step::Cut(..) => {}
            Step::Isolate(machine) => cluster.isolate(machine),
            Step::Mend => cluster.mend(),
            Step::HandOver(to) => cluster.step_down(GROUP, to),
            Step::Snapshot(machine) => cluster.snapshot(machine, GROUP),
            Step::FailWrite(machine) => cluster.disk_mut(machine).fail_next_write = true,
            Step::Slow(machine, times) => cluster.disk_mut(machine).slowness = times.max(1),
            Step::JumpClock(machine, by) => cluster.jump_clock(machine, by),
        }
        self.cluster.violations().is_empty()
    }

    fn propose(&mut self, machine: Machine) {
        if !self.cluster.is_up(machine) {
            return;
        }
        let id = Bytes::from(format!("entry-{}", self.proposals.len()));
        let behind = self.committed().map(|(_, index)| index).max().unwrap_or(Index::ZERO);
        let payload = Bytes::from([&id[..], b"\n and its body"].concat());
        let (subject, header) = (Bytes::new(), Bytes::new());
        let publish = Request::Publish { subject, header, payload };
        let request = self.cluster.ask(machine, GROUP, publish);
        self.proposals.push(Proposal { request, id, behind });
    }

    /// The proposals that a client was told to be committed, with the record that they are in.
    pub fn committed(&self) -> impl Iterator<Item = (&Proposal, Index)> {
        self.told().filter_map(|(proposal, told)| match told {
            Told::Committed(index) => Some((proposal, index)),
            _ => None,
        })
    }

    fn told(&self) -> impl Iterator<Item = (&Proposal, Told)> {
        self.proposals.iter().filter_map(|proposal| {
            Some((proposal, told(self.cluster.answer_to(proposal.request)?)))
        })
    }

    /// Ends every fault, waits until the cluster has come to rest, and compares it with a log that
    /// knows neither leaders nor failures.
    ///
    /// # Errors
    /// How the cluster differs from it.
    pub fn end(&mut self) -> Result<(), String> {
        if !self.cluster.settle() {
            return Err(self.cluster.to_string());
        }
        let machines = (0..self.machines).map(Machine).map(|machine| {
            let plain = self.cluster.process(machine).machines.get(&GROUP);
            (machine, plain.map(|plain| plain.entries().clone()).unwrap_or_default())
        });
        for (machine, entries) in machines {
            self.compare(&entries.into_keys().collect())
                .map_err(|what| format!("{machine} {what}\n{}", self.cluster))?;
        }
        Ok(())
    }

    fn compare(&self, applied: &BTreeSet<Bytes>) -> Result<(), String> {
        let proposed: BTreeSet<_> = self.proposals.iter().map(|proposal| &proposal.id).collect();
        if let Some(id) = applied.iter().find(|id| !proposed.contains(id)) {
            return Err(format!("has applied {id:?}, which nobody proposed"));
        }
        for (Proposal { id, behind, .. }, told) in self.told() {
            match told {
                Told::Committed(_) if !applied.contains(id) => {
                    return Err(format!("has not applied {id:?}, which was acknowledged"));
                }
                Told::Committed(index) if index <= *behind => {
                    return Err(format!(
                        "has {id:?} in record {index}, but {behind} was committed before it was proposed"
                    ));
                }
                Told::Refused { code: NOT_LEADER | BUSY, .. } if applied.contains(id) => {
                    return Err(format!("has applied {id:?}, which was not taken"));
                }
                Told::Committed(_) | Told::Refused { .. } => {}
                other => return Err(format!("has answered {other:?} to {id:?}")),
            }
        }
        Ok(())
    }
}
