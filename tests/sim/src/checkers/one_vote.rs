//! At most one vote a term, over restarts too; and nobody leads without its own vote on disk.

use std::collections::BTreeMap;

use jetwake::command::{Command, LogChange, Report, Role};
use jetwake::event::Standing;
use jetwake::ids::{GroupId, PeerId, Term};

use super::{Checker, Scene, Seen};
use crate::network::Machine;
use crate::records;

/// Remembers every vote that was durable.
#[derive(Debug, Default)]
pub(super) struct OneVote {
    votes: BTreeMap<(Machine, GroupId, Term), PeerId>,
}

impl Checker for OneVote {
    fn rule(&self) -> &'static str {
        "one vote a term"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Durable { group, change: LogChange::TermAndVote(written) } => {
                let Some(vote) = written.vote else { return Ok(()) };
                // Who lost its votes keeps itself from voting: nobody counts that one.
                if vote == scene.peers[machine.0] {
                    self.votes.entry((machine, *group, written.term)).or_insert(vote);
                    return Ok(());
                }
                self.vote(machine, *group, written.term, vote)
            }
            // It is no candidate any more, so nobody counts the vote that it gave itself.
            Seen::Durable { group, change: LogChange::Standing(Standing::Impaired(_)) } => {
                let own = scene.peers[machine.0];
                let of_it = |key: &(Machine, GroupId, Term)| key.0 == machine && key.1 == *group;
                self.votes.retain(|key, vote| !(of_it(key) && *vote == own));
                Ok(())
            }
            Seen::Commanded(Command::Send { subject, payload, .. }) => {
                let Some((group, candidate)) = scene.inboxes.of_votes(subject) else {
                    return Ok(());
                };
                match records::vote_response(payload) {
                    Some(response) if response.granted => {
                        let peer = scene.peers[candidate.0];
                        self.granted(machine, group, response.term, peer)
                    }
                    _ => Ok(()),
                }
            }
            Seen::Commanded(Command::Report {
                group: Some(group),
                report: Report::Role { role: Role::Leader, term, .. },
            }) => self.granted(machine, *group, *term, scene.peers[machine.0]),
            _ => Ok(()),
        }
    }
}

impl OneVote {
    fn vote(
        &mut self,
        machine: Machine,
        group: GroupId,
        term: Term,
        vote: PeerId,
    ) -> Result<(), String> {
        let before = *self.votes.entry((machine, group, term)).or_insert(vote);
        if before == vote {
            return Ok(());
        }
        Err(format!("{machine} votes for {vote} in term {term} of {group}, and had for {before}"))
    }

    fn granted(
        &self,
        machine: Machine,
        group: GroupId,
        term: Term,
        vote: PeerId,
    ) -> Result<(), String> {
        let durable = self.votes.get(&(machine, group, term));
        if durable == Some(&vote) {
            return Ok(());
        }
        let durable = durable.map_or("no vote".into(), |vote| format!("a vote for {vote}"));
        Err(format!(
            "{machine} gives its vote of term {term} of {group} to {vote}, but has {durable} on disk"
        ))
    }
}

#[cfg(test)]
mod tests {
    use jetwake::event::{Impairment, Loss};

    use super::super::stage::{GROUP, Stage, leads, vote, vote_request, vote_response};
    use super::*;

    #[test]
    fn a_second_vote_and_an_unwritten_vote_are_found() {
        let mut stage = Stage::new();
        let mut checker = OneVote::default();
        stage.send(0, &vote_request(1, "$NRG.R.zero"));
        let granted = vote_response(1, "$NRG.R.zero");
        assert!(stage.commanded(&mut checker, 1, &granted).is_err());
        stage.durable(&mut checker, 1, &vote(1, "n1")).unwrap();
        assert_eq!(stage.commanded(&mut checker, 1, &granted), Ok(()));
        let second = stage.durable(&mut checker, 1, &vote(1, "n3"));
        assert!(second.unwrap_err().contains("and had for"), "{GROUP}");
        assert!(stage.commanded(&mut checker, 0, &leads(1)).is_err());
        stage.durable(&mut checker, 0, &vote(1, "n1")).unwrap();
        assert_eq!(stage.commanded(&mut checker, 0, &leads(1)), Ok(()));
    }

    #[test]
    fn who_lost_its_votes_is_bound_by_those_for_others_only() {
        let mut stage = Stage::new();
        let mut checker = OneVote::default();
        stage.durable(&mut checker, 1, &vote(1, "n2")).unwrap();
        stage.durable(&mut checker, 1, &vote(2, "n1")).unwrap();
        let impairment = Impairment { lost: Loss::Votes, found: Vec::new() };
        let lost = LogChange::Standing(Standing::Impaired(impairment));
        stage.durable(&mut checker, 1, &lost).unwrap();
        assert_eq!(stage.durable(&mut checker, 1, &vote(1, "n1")), Ok(()));
        assert!(stage.durable(&mut checker, 1, &vote(2, "n3")).is_err());
    }
}
