//! Whoever gave its vote to another acknowledges nothing more to a leader of an older term: that could
//! commit with it what the new leader lacks.

use std::collections::BTreeMap;

use jetwake::command::{Command, Destination, LogChange};
use jetwake::ids::{GroupId, Index, Term};

use super::roles::Roles;
use super::{Checker, Scene, Seen};
use crate::network::Machine;
use crate::records;

/// Remembers the newest vote of each process, and who leads which term.
#[derive(Debug, Default)]
pub(super) struct VoteBinds {
    roles: Roles,
    given: BTreeMap<(Machine, GroupId), Given>,
    /// The term of the newest vote that ever was on the disk.
    durable: BTreeMap<(Machine, GroupId), Term>,
}

/// A vote for another.
#[derive(Clone, Copy, Debug)]
struct Given {
    term: Term,
    /// Where the log ended then: whoever is elected by this vote has as much.
    last: Index,
}

impl Checker for VoteBinds {
    fn rule(&self) -> &'static str {
        "a vote binds"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        self.roles.learn(machine, seen, scene);
        match seen {
            Seen::Durable { group, change: LogChange::TermAndVote(written) } => {
                self.durable.insert((machine, *group), written.term);
                Ok(())
            }
            // A vote that did not get to the disk before a crash was told to nobody.
            Seen::Started { group, .. } => {
                let durable = self.durable.get(&(machine, *group)).copied().unwrap_or(Term::ZERO);
                if self.given.get(&(machine, *group)).is_some_and(|given| given.term > durable) {
                    self.given.remove(&(machine, *group));
                }
                Ok(())
            }
            Seen::Commanded(Command::Write {
                group,
                change: LogChange::TermAndVote(written),
                ..
            }) => {
                let other = written.vote.filter(|vote| *vote != scene.peers[machine.0]);
                match (other, scene.disks[machine.0].log(*group)) {
                    (Some(_), Some(log)) => {
                        let given = Given { term: written.term, last: log.last() };
                        self.given.insert((machine, *group), given);
                    }
                    (Some(_), None) => {
                        let given = Given { term: written.term, last: Index::ZERO };
                        self.given.insert((machine, *group), given);
                    }
                    // A vote for itself binds nobody else, and it may go back to a leader.
                    (None, _) => {
                        self.given.remove(&(machine, *group));
                    }
                }
                Ok(())
            }
            Seen::Commanded(Command::Send {
                to: Destination::Peers(to), subject, payload, ..
            }) => {
                let Some(group) = scene.inboxes.of_entries(subject) else { return Ok(()) };
                let (Some(given), Some(response)) =
                    (self.given.get(&(machine, group)), records::append_response(payload))
                else {
                    return Ok(());
                };
                if !response.success || response.index <= given.last {
                    return Ok(());
                }
                let leader = |peer| scene.peers.iter().position(|known| known == peer);
                let led = to.iter().filter_map(leader).map(Machine);
                let led = led.filter_map(|leader| self.roles.leads(leader, group, scene)).max();
                match led {
                    Some(led) if led < given.term => Err(format!(
                        "{machine} acknowledges {} of {group} to the leader of term {led}, and has \
                         voted in term {}",
                        response.index, given.term
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stage::vote;
    use crate::checkers::stage::{Stage, append_response_to, leads, record, send_record, write};

    #[test]
    fn an_acknowledgement_to_an_older_leader_is_found() {
        let mut stage = Stage::new();
        let mut checker = VoteBinds::default();
        let inbox = "$NRG.R.leader";
        stage.send(0, &send_record(&record(1, 0, 0, b"x"), inbox));
        stage.commanded(&mut checker, 0, &leads(1)).unwrap();
        let ack = append_response_to("n1", 1, 1, true, inbox);
        assert_eq!(stage.commanded(&mut checker, 1, &ack), Ok(()));
        stage.commanded(&mut checker, 1, &write(vote(2, "n3"))).unwrap();
        assert!(stage.commanded(&mut checker, 1, &ack).is_err());
        let refusal = append_response_to("n1", 1, 1, false, inbox);
        assert_eq!(stage.commanded(&mut checker, 1, &refusal), Ok(()));
        stage.commanded(&mut checker, 1, &write(vote(3, "n2"))).unwrap();
        assert_eq!(stage.commanded(&mut checker, 1, &ack), Ok(()));
    }

    #[test]
    fn a_vote_that_a_crash_took_binds_nobody() {
        let mut stage = Stage::new();
        let mut checker = VoteBinds::default();
        let inbox = "$NRG.R.leader";
        stage.send(0, &send_record(&record(1, 0, 0, b"x"), inbox));
        stage.commanded(&mut checker, 0, &leads(1)).unwrap();
        let ack = append_response_to("n1", 1, 1, true, inbox);
        stage.commanded(&mut checker, 1, &write(vote(2, "n3"))).unwrap();
        stage.started(&mut checker, 1);
        assert_eq!(stage.commanded(&mut checker, 1, &ack), Ok(()));
        stage.commanded(&mut checker, 1, &write(vote(2, "n3"))).unwrap();
        stage.durable(&mut checker, 1, &vote(2, "n3")).unwrap();
        stage.started(&mut checker, 1);
        assert!(stage.commanded(&mut checker, 1, &ack).is_err());
    }
}
