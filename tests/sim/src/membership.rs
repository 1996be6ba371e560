//! Who is a member of a group: as a test changes it, and as the records say, read a second time.

use bytes::Bytes;
use jetwake::event::Request;
use jetwake::ids::{GroupId, PeerId, RequestId};
use jetwake::time::Duration;

use crate::client::{Told, told};
use crate::cluster::Cluster;
use crate::network::Machine;
use crate::records::AppendEntry;

/// A change of a group's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A machine becomes a member.
    Add(Machine),
    /// A machine is no member any more.
    Remove(Machine),
}

/// The machines that count for a group from one record on, and how many there are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voters {
    /// A bit for each machine.
    machines: u64,
    size: usize,
}

impl Voters {
    /// The first so many machines.
    pub const fn founders(count: usize) -> Self {
        let machines = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        Self { machines, size: count }
    }

    /// Whether a machine counts.
    pub const fn contains(self, machine: Machine) -> bool {
        self.machines >> machine.0 & 1 == 1
    }

    /// How many make a majority.
    pub const fn quorum(self) -> usize {
        self.size / 2 + 1
    }

    /// Who counts once a record is appended.
    #[must_use]
    pub fn after(mut self, entry: &AppendEntry) -> Self {
        for (kind, data) in &entry.entries {
            match kind {
                2 => self = Self::of_peer_state(data).unwrap_or(self),
                3 | 4 => {
                    let Some(bit) = peer(data).and_then(bit_of) else { continue };
                    let member = self.machines & bit != 0;
                    if *kind == 3 {
                        self.machines |= bit;
                        self.size = self.size.max(self.machines.count_ones() as usize);
                    } else if member {
                        self.machines &= !bit;
                        self.size -= 1;
                    }
                }
                _ => {}
            }
        }
        self
    }

    fn of_peer_state(data: &Bytes) -> Option<Self> {
        let number = |at: usize| {
            let bytes = data.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes) as usize)
        };
        let (size, count) = (number(0)?, number(4)?);
        let mut machines = 0;
        for place in 0..count {
            let at = 8 + 8 * place;
            machines |= peer(data.get(at..at + 8)?).and_then(bit_of)?;
        }
        Some(Self { machines, size: size.max(count) })
    }
}

fn peer(data: &[u8]) -> Option<PeerId> {
    PeerId::from_wire(data.try_into().ok()?)
}

fn bit_of(peer: PeerId) -> Option<u64> {
    let machine = (0..64).find(|at| PeerId::from_name(&Machine(*at).to_string()) == peer)?;
    Some(1 << machine)
}

impl Cluster {
    /// Asks the leader of a group for a change of its members; none if nobody leads.
    pub fn change_membership(&mut self, group: GroupId, change: Change) -> Option<RequestId> {
        let leader = self.leader(group)?;
        let (what, request) = match change {
            Change::Add(machine) => {
                ("additions asked for", Request::AddPeer { peer: self.process(machine).peer })
            }
            Change::Remove(machine) => {
                ("removals asked for", Request::RemovePeer { peer: self.process(machine).peer })
            }
        };
        self.note(Some(leader), what);
        Some(self.ask(leader, group, request))
    }

    /// Changes the members of a group, and lets time pass until its leader says that it is
    /// committed. Asks again when it is refused or forgotten, as a person would.
    ///
    /// # Panics
    /// If it is not done in time.
    pub fn change_members(&mut self, group: GroupId, change: Change) {
        let until = self.now() + self.patience();
        let mut asked = None;
        let mut ask_at = self.now();
        while !self.has_changed(group, change) {
            assert!(
                self.now() < until,
                "{change:?} of {group} is not done: {:?}",
                asked.and_then(|id| self.told(id))
            );
            let refused = asked.and_then(|id| self.answer_to(id)).is_some();
            if refused || self.now() >= ask_at {
                self.run_for(Duration::from_millis(10));
                asked = self.change_membership(group, change);
                ask_at = self.now() + Duration::from_millis(500);
            }
            self.run_for(Duration::from_millis(1));
        }
    }

    /// Whether a change is committed, as the leader of the group sees it.
    pub fn has_changed(&self, group: GroupId, change: Change) -> bool {
        let (machine, wanted) = match change {
            Change::Add(machine) => (machine, true),
            Change::Remove(machine) => (machine, false),
        };
        let leader = self.leader(group).and_then(|leader| self.process(leader).node.as_ref());
        leader.and_then(|node| node.status(group)).is_some_and(|status| {
            let member = status.members.contains(&self.process(machine).peer);
            member == wanted && status.change.is_none()
        })
    }

    /// The machines that are members of a group, as its leader sees it; all that founded it if
    /// nobody leads.
    pub fn members_of(&self, group: GroupId) -> Vec<Machine> {
        let status = |machine: Machine| self.process(machine).node.as_ref()?.status(group);
        let newest = self.machines().into_iter().filter_map(|machine| {
            let status = status(machine)?;
            Some((status.leader_since.is_some(), status.term, status.last.index, status.members))
        });
        let Some((.., members)) =
            newest.max_by_key(|(leads, term, last, _)| (*leads, *term, *last))
        else {
            return self.machines();
        };
        self.machines()
            .into_iter()
            .filter(|machine| members.contains(&self.process(*machine).peer))
            .collect()
    }

    /// What a request was answered, if it was.
    pub fn told(&self, id: RequestId) -> Option<Told> {
        self.answer_to(id).map(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetwake::ids::{Index, Term};

    fn entry(kind: u8, data: &[u8]) -> AppendEntry {
        AppendEntry {
            leader: None,
            term: Term::new(1),
            commit: Index::ZERO,
            previous_term: Term::ZERO,
            previous_index: Index::ZERO,
            entries: vec![(kind, Bytes::copy_from_slice(data))],
        }
    }

    #[test]
    fn changes_and_peer_states_are_followed() {
        let peer = |name| *PeerId::from_name(name).as_bytes();
        let one = Voters::founders(1);
        let two = one.after(&entry(3, &peer("n2")));
        assert_eq!((two, two.quorum()), (Voters::founders(2), 2));
        assert_eq!(two.after(&entry(3, &peer("n1"))), two);
        assert_eq!(two.after(&entry(4, &peer("n2"))), one);
        let state = [&3_u32.to_le_bytes()[..], &1_u32.to_le_bytes(), &peer("n1")].concat();
        assert_eq!(one.after(&entry(2, &state)), Voters { machines: 1, size: 3 });
        assert!(two.contains(Machine(1)) && !one.contains(Machine(1)));
    }
}
