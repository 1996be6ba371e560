//! Members that come and go: somebody in charge has a group grow, shrink or move, one change at a time.

use jetwake::event::Request;
use jetwake::ids::GroupId;
use jetwake::time::Duration;

use super::{Cluster, Due};
use crate::dice::Dice;
use crate::membership::Change;
use crate::network::Machine;

/// Steps after which somebody who gets nowhere lets it be.
const STEPS: u32 = 60;

/// The members that a group is to have.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    group: GroupId,
    wanted: Vec<Machine>,
    every: Duration,
    steps: u32,
}

impl Cluster {
    /// Has a group changed, step by step, until it is on `others` machines beside one: each drawn, and
    /// every second time the leader of now is not among them.
    pub(crate) fn scale_to(&mut self, group: GroupId, others: usize, seed: u64) {
        self.note(None, "changes of the members asked for");
        let mut dice = Dice::new(seed);
        let mut machines = self.machines();
        let leader = self.leader(group).filter(|_| dice.chance(500_000));
        if machines.len() > others + 1 {
            machines.retain(|machine| Some(*machine) != leader);
        }
        while machines.len() > others + 1 {
            machines.remove(dice.place(machines.len()));
        }
        let every = self.setup.timers.heartbeat / 2;
        self.change_on(Scale { group, wanted: machines, every, steps: STEPS });
    }

    /// Asks for the next change that is lacking, and looks again after a while.
    pub(super) fn change_on(&mut self, scale: Scale) {
        let Scale { group, wanted, every, steps } = &scale;
        if self.members_rest || *steps == 0 {
            return;
        }
        let members = self.members_of(*group);
        let add = wanted.iter().find(|machine| !members.contains(machine));
        let remove = members.iter().find(|machine| !wanted.contains(machine));
        // Nobody goes before those who stay have everything: who goes may have the last copy.
        let settled = wanted.iter().all(|machine| self.is_well(*machine, *group));
        let remove = remove.filter(|_| settled || add.is_some());
        if add.is_none() && !settled {
            let at = self.now + *every;
            return self.agenda.put(at, Due::Members(Scale { steps: steps - 1, ..scale }));
        }
        let change = match (add, remove) {
            (Some(machine), _) => Change::Add(*machine),
            (None, Some(machine)) => Change::Remove(*machine),
            (None, None) => return self.coverage.count("groups on the machines that were wanted"),
        };
        // Whoever does not lead hands a removal on.
        let follower = self.followers(*group).into_iter().next();
        match (change, follower) {
            (Change::Remove(machine), Some(follower)) if steps % 4 == 0 => {
                self.note(Some(follower), "removals forwarded");
                let peer = self.process(machine).peer;
                self.ask(follower, *group, Request::RemovePeer { peer });
            }
            _ if self.change_membership(*group, change).is_none() => {}
            _ if self.is_leader_of(*group, change) => self.coverage.count("leaders asked to leave"),
            _ => {}
        }
        let at = self.now + *every;
        self.agenda.put(at, Due::Members(Scale { steps: steps - 1, ..scale }));
    }

    fn is_leader_of(&self, group: GroupId, change: Change) -> bool {
        matches!(change, Change::Remove(machine) if self.leader(group) == Some(machine))
    }
}
