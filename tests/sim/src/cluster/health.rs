//! Whether the members of a group say that they are well, and the machines of plain groups that rest.

use jetwake::event::{Event, MachineSays};
use jetwake::ids::GroupId;

use super::Cluster;
use crate::network::Machine;

impl Cluster {
    /// Whether every member that a group's leader knows says that it is healthy, the leader included.
    pub fn is_healthy(&self, group: GroupId) -> bool {
        let Some(leader) = self.leader(group) else { return false };
        let status = |machine: Machine| self.processes[machine.0].node.as_ref()?.status(group);
        let Some(led) = status(leader) else { return false };
        self.machines().into_iter().all(|machine| {
            let process = &self.processes[machine.0];
            let known = led.peers.iter().any(|known| known.peer == process.peer);
            let Some(node) = process.node.as_ref().filter(|_| known || machine == leader) else {
                return true;
            };
            let now = process.clock.shows(self.now);
            node.health(group, now).is_some_and(|health| health.is_healthy())
        })
    }

    /// Whether a machine's node runs and says that a group is healthy there.
    pub fn is_well(&self, machine: Machine, group: GroupId) -> bool {
        let process = &self.processes[machine.0];
        let now = process.clock.shows(self.now);
        let health = process.node.as_ref().and_then(|node| node.health(group, now));
        !process.paused && health.is_some_and(|health| health.is_healthy())
    }

    /// The machine of a plain group takes nothing for now.
    pub fn pause_machine(&mut self, machine: Machine, group: GroupId) {
        self.coverage.count("machines that rest");
        self.machine_says(machine, group, MachineSays::Paused);
    }

    /// The machine of a plain group goes on.
    pub fn resume_machine(&mut self, machine: Machine, group: GroupId) {
        self.machine_says(machine, group, MachineSays::Resumed);
    }

    fn machine_says(&mut self, machine: Machine, group: GroupId, says: MachineSays) {
        if self.is_up(machine) {
            self.deliver(machine, Event::Machine { group, says });
        }
    }
}
