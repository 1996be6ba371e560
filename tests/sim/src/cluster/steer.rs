//! What a script does to a cluster beyond what a test does: timers run out when it says so, and
//! time passes as it says.

use jetwake::command::Role;
use jetwake::ids::GroupId;
use jetwake::node::Wake;
use jetwake::time::Duration;

use super::{Cluster, Due};
use crate::history::History;
use crate::network::Machine;

/// How many other deadlines may stand before an election's.
const DEADLINES: usize = 10;
/// How often a script's cluster is helped to a leader before it is said to find none.
const ELECTIONS: usize = 40;

impl Cluster {
    /// Whether messages are on their way, disks are at work, or machines are applying.
    pub fn in_flight(&self) -> bool {
        self.agenda.any(|due| {
            matches!(
                due,
                Due::Arrival(_) | Due::Disk { .. } | Due::Event { .. } | Due::Request { .. }
            )
        })
    }

    /// Lets time pass until nothing is on its way any more, and what that set off neither; whether
    /// that happened in time.
    pub fn deliver_all(&mut self, at_most: Duration) -> bool {
        let until = self.now + at_most;
        while self.in_flight() {
            if !self.violations.is_empty() || !self.step(until) {
                return false;
            }
        }
        true
    }

    /// A follower's or candidate's election timer runs out now: its clock jumps there, by whole
    /// heartbeats, so that those come when they would have come.
    ///
    /// # Errors
    /// Why it has no such timer.
    pub fn campaign_now(&mut self, machine: Machine) -> Result<(), String> {
        for _ in 0..DEADLINES {
            let process = &self.processes[machine.0];
            if !process.is_up() || process.paused {
                return Err(format!("{machine} does not run"));
            }
            let Some(deadline) = process.deadline else {
                return Err(format!("{machine} waits for no election"));
            };
            if deadline.why == Wake::Heartbeat {
                return Err(format!("{machine} leads: its election timer does not run"));
            }
            let now = process.clock.shows(self.now);
            let heartbeat = self.setup.timers.heartbeat;
            let heartbeats = deadline.shown.since(now).as_nanos().div_ceil(heartbeat.as_nanos());
            if heartbeats > 0 {
                self.jump_clock(machine, heartbeat * u32::try_from(heartbeats).unwrap_or(u32::MAX));
            }
            self.wake(machine);
            if deadline.why == Wake::Election {
                return Ok(());
            }
        }
        Err(format!("{machine} has other things to do than to campaign"))
    }

    /// Tells every process at once whom it reaches.
    pub fn tell_links_now(&mut self) {
        self.tell_links();
    }

    /// What the clients of a group did, to add to it.
    pub fn history_mut(&mut self, group: GroupId) -> &mut History {
        &mut self.histories[group.0 as usize]
    }

    /// Ends all faults, has somebody elected, and lets the cluster settle and be checked.
    pub fn end_soundly(&mut self, group: GroupId) {
        self.heal();
        self.tell_links_now();
        for _ in 0..ELECTIONS {
            if self.agrees(group) || !self.violations.is_empty() {
                break;
            }
            let heartbeat = self.setup.timers.heartbeat;
            self.advance(self.now + heartbeat * 5);
            if self.leader(group).is_none()
                && let Some(best) = self.best_candidate(group)
            {
                // Whoever has no timer leads, or is about to.
                let _ = self.campaign_now(best);
            }
        }
        self.settle();
    }

    /// Whose log is the best.
    fn best_candidate(&self, group: GroupId) -> Option<Machine> {
        let last = |machine: &Machine| {
            let status = self.processes[machine.0].node.as_ref()?.status(group)?;
            let role = status.role.filter(|role| *role != Role::Leader)?;
            (role != Role::Observer).then_some((status.last.term, status.last.index))
        };
        let machines = self.machines().into_iter();
        let standing = machines.filter_map(|machine| last(&machine).map(|last| (last, machine)));
        standing.max().map(|(_, machine)| machine)
    }
}
