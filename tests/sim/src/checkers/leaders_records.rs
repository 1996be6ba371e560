//! Whoever follows a leader appends what that leader has, and nothing that somebody else sends.

use jetwake::command::{Command, LogChange};
use jetwake::ids::{GroupId, Index};

use super::roles::Roles;
use super::{Checker, Scene, Seen};
use crate::ledger;
use crate::network::Machine;

/// Compares what a follower appends with the log of its leader.
#[derive(Debug, Default)]
pub(super) struct LeadersRecords {
    roles: Roles,
}

impl Checker for LeadersRecords {
    fn rule(&self) -> &'static str {
        "followers append what their leader has"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        self.roles.learn(machine, seen, scene);
        let Seen::Commanded(Command::Write {
            group,
            change: LogChange::Append { index, record },
            ..
        }) = seen
        else {
            return Ok(());
        };
        let Some(leader) = self.leader_of(machine, *group, scene) else { return Ok(()) };
        let Some(log) = scene.disks[leader.0].log(*group) else { return Ok(()) };
        if *index <= log.base() {
            return Ok(());
        }
        let digest = |record| ledger::read(record).map(|(digest, _)| digest);
        if log.record(*index).is_some_and(|held| digest(held) == digest(record)) {
            return Ok(());
        }
        let what = if *index > log.last() { Index::ZERO } else { *index };
        Err(match what {
            Index::ZERO => format!("{machine} appends {index} of {group}, which {leader} lacks"),
            _ => format!("{machine} appends another record {index} of {group} than {leader} has"),
        })
    }
}

impl LeadersRecords {
    /// The machine that a process follows, if that still leads.
    fn leader_of(&self, machine: Machine, group: GroupId, scene: &Scene<'_>) -> Option<Machine> {
        let part = self.roles.of(machine, group, scene)?;
        let leader = scene.peers.iter().position(|peer| Some(*peer) == part.leader)?;
        let leader = Machine(leader);
        let leads = self.roles.leads(leader, group, scene) == Some(part.term);
        (leads && leader != machine).then_some(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stage::{Stage, append, follows, leads, record};

    #[test]
    fn what_the_leader_does_not_have_is_found() {
        let mut stage = Stage::new();
        let mut checker = LeadersRecords::default();
        let (one, two) = (record(1, 0, 0, b"one"), record(1, 0, 0, b"two"));
        stage.write(0, &append(1, &one));
        stage.commanded(&mut checker, 0, &leads(1)).unwrap();
        stage.commanded(&mut checker, 1, &follows(1, "n1")).unwrap();
        assert_eq!(stage.commanded(&mut checker, 1, &append(1, &one)), Ok(()));
        assert!(stage.commanded(&mut checker, 1, &append(1, &two)).is_err());
        assert!(stage.commanded(&mut checker, 1, &append(2, &record(1, 1, 1, b"x"))).is_err());
        stage.incarnations[0] += 1;
        assert_eq!(stage.commanded(&mut checker, 1, &append(1, &two)), Ok(()), "n1 is down");
    }
}
