//! Whoever leads was given the votes of a majority of those who are members by its own log.

use std::collections::BTreeMap;

use jetwake::command::{Command, Report, Role};
use jetwake::ids::{GroupId, Term};

use super::{Checker, Scene, Seen};
use crate::membership::Voters;
use crate::network::Machine;
use crate::records;

/// Remembers every vote that was given.
#[derive(Debug, Default)]
pub(super) struct ElectedByMembers {
    /// Who voted for whom in which term, a bit each.
    votes: BTreeMap<(GroupId, Machine, Term), u64>,
}

impl Checker for ElectedByMembers {
    fn rule(&self) -> &'static str {
        "a majority of the members elects a leader"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Commanded(Command::Send { subject, payload, .. }) => {
                let asked = scene.inboxes.of_votes(subject);
                if let (Some((group, candidate)), Some(response)) =
                    (asked, asked.and_then(|_| records::vote_response(payload)))
                    && response.granted
                {
                    *self.votes.entry((group, candidate, response.term)).or_default() |=
                        1 << machine.0;
                }
                Ok(())
            }
            Seen::Commanded(Command::Report {
                group: Some(group),
                report: Report::Role { role: Role::Leader, term, .. },
            }) => self.leads(machine, *group, *term, scene),
            _ => Ok(()),
        }
    }
}

impl ElectedByMembers {
    fn leads(
        &self,
        machine: Machine,
        group: GroupId,
        term: Term,
        scene: &Scene<'_>,
    ) -> Result<(), String> {
        let Some(members) = members_of(machine, group, scene) else { return Ok(()) };
        let given = self.votes.get(&(group, machine, term)).copied().unwrap_or_default();
        let votes = given | 1 << machine.0;
        let counted = (0..64).map(Machine);
        let counted =
            counted.filter(|voter| votes >> voter.0 & 1 == 1 && members.contains(*voter)).count();
        if counted >= members.quorum() {
            return Ok(());
        }
        Err(format!(
            "{machine} leads {group} in term {term} with {counted} votes of members, {} are needed",
            members.quorum()
        ))
    }
}

/// The members by the last record of a machine's log.
fn members_of(machine: Machine, group: GroupId, scene: &Scene<'_>) -> Option<Voters> {
    let known = scene.ledger.group(group)?;
    let Some(log) = scene.disks[machine.0].log(group) else { return Some(known.founders()) };
    known.voters_at(log.last(), log.record(log.last()))
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, append, leads, record, vote_request, vote_response};
    use super::*;

    #[test]
    fn a_leader_without_a_majority_is_found() {
        let mut stage = Stage::new();
        let mut checker = ElectedByMembers::default();
        stage.send(0, &vote_request(4, "$NRG.R.asksvote"));
        assert!(stage.commanded(&mut checker, 0, &leads(4)).is_err(), "it has its own vote alone");
        let granted = vote_response(4, "$NRG.R.asksvote");
        assert_eq!(stage.commanded(&mut checker, 1, &granted), Ok(()));
        assert_eq!(stage.commanded(&mut checker, 0, &leads(4)), Ok(()));
        assert!(stage.commanded(&mut checker, 0, &leads(5)).is_err(), "votes are of one term");
    }

    #[test]
    fn votes_of_others_do_not_count() {
        let mut stage = Stage::new();
        let mut checker = ElectedByMembers::default();
        // The log says that the second machine is removed: two are members, both are needed.
        let mut removal =
            record(1, 0, 0, jetwake::ids::PeerId::from_name("n2").as_bytes()).to_vec();
        removal[46] = 4;
        stage.write(0, &append(1, &removal.into()));
        stage.send(0, &vote_request(4, "$NRG.R.asksvote"));
        let granted = vote_response(4, "$NRG.R.asksvote");
        assert_eq!(stage.commanded(&mut checker, 1, &granted), Ok(()));
        let found = stage.commanded(&mut checker, 0, &leads(4));
        assert!(found.unwrap_err().contains("1 votes of members, 2 are needed"));
        assert_eq!(stage.commanded(&mut checker, 2, &granted), Ok(()));
        assert_eq!(stage.commanded(&mut checker, 0, &leads(4)), Ok(()));
    }
}
