//! A leader commits nothing of an older term before something of its own is on a quorum of disks,
//! unless it was committed before (figure 8 of the Raft paper).

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::command::Command;
use jetwake::ids::{GroupId, Index, Term};

use super::committed_stays::touched;
use super::roles::Roles;
use super::{Checker, Scene, Seen};
use crate::ledger;
use crate::network::Machine;

/// Remembers what leaders said to be committed.
#[derive(Debug, Default)]
pub(super) struct OwnTermFirst {
    roles: Roles,
    /// For each group, what was said to be committed in which term, ascending in both.
    said: BTreeMap<GroupId, Vec<(Term, Index)>>,
}

impl Checker for OwnTermFirst {
    fn rule(&self) -> &'static str {
        "a record of a leader's own term is committed first"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        self.roles.learn(machine, seen, scene);
        match seen {
            Seen::Commanded(Command::Send { reply: Some(reply), payload, .. }) => {
                if let Some(group) = scene.inboxes.of_entries(reply) {
                    self.hear(group, payload);
                }
                Ok(())
            }
            Seen::Commanded(Command::Store { group, mark, .. }) => {
                self.applies(machine, *group, touched(mark), scene)
            }
            Seen::Commanded(Command::Apply { group, index, .. }) => {
                self.applies(machine, *group, *index, scene)
            }
            _ => Ok(()),
        }
    }
}

impl OwnTermFirst {
    /// A leader sends an append entry: its term, and what it has committed.
    fn hear(&mut self, group: GroupId, payload: &Bytes) {
        let number = |at: usize| {
            payload.get(at..at + 8)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
        };
        let (Some(term), Some(commit)) = (number(8), number(16)) else { return };
        let (term, commit) = (Term::new(term), Index::new(commit));
        let said = self.said.entry(group).or_default();
        match said.last_mut() {
            Some((last, known)) if term <= *last => {
                if term == *last {
                    *known = commit.max(*known);
                } else if let Some((_, known)) = said.iter_mut().find(|(known, _)| *known >= term) {
                    // A leader that was deposed and does not know it.
                    *known = commit.max(*known);
                }
            }
            _ => said.push((term, commit)),
        }
    }

    fn committed_before(&self, group: GroupId, term: Term) -> Index {
        let said = self.said.get(&group).into_iter().flatten();
        let earlier = said.take_while(|(said, _)| *said < term);
        earlier.map(|(_, commit)| *commit).max().unwrap_or_default()
    }

    fn applies(
        &self,
        machine: Machine,
        group: GroupId,
        through: Index,
        scene: &Scene<'_>,
    ) -> Result<(), String> {
        let (Some(term), Some(known), Some(log)) = (
            self.roles.leads(machine, group, scene),
            scene.ledger.group(group),
            scene.disks[machine.0].log(group),
        ) else {
            return Ok(());
        };
        if through <= known.committed_through() || through <= log.base() {
            return Ok(());
        }
        // The one member of a group tells nobody what it has committed, and nobody else may lead.
        let voters = known.voters_at(log.last(), log.record(log.last()));
        if voters.is_some_and(|voters| voters.quorum() == 1) {
            return Ok(());
        }
        let own = |index: &u64| {
            let record = log.record(Index::new(*index)).and_then(ledger::read);
            record.is_some_and(|(digest, record)| {
                record.term == term && known.has_quorum(Index::new(*index), digest).is_ok()
            })
        };
        if (through.get()..=log.last().get()).any(|index| own(&index))
            || through <= self.committed_before(group, term)
        {
            return Ok(());
        }
        Err(format!(
            "{machine} leads {group} in term {term} and applies {through}, which is of an older term"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stage::{Stage, append, leads, record, send_record, store_mark};

    #[test]
    fn an_older_term_is_not_committed_by_itself() {
        let mut stage = Stage::new();
        let mut checker = OwnTermFirst::default();
        let old = append(1, &record(1, 0, 0, b"old"));
        (0..2).for_each(|machine| stage.write(machine, &old));
        stage.commanded(&mut checker, 0, &leads(2)).unwrap();
        assert!(stage.commanded(&mut checker, 0, &store_mark(1)).is_err());
        let own = append(2, &record(2, 1, 1, b"own"));
        stage.write(0, &own);
        assert!(stage.commanded(&mut checker, 0, &store_mark(1)).is_err());
        stage.write(1, &own);
        assert_eq!(stage.commanded(&mut checker, 0, &store_mark(1)), Ok(()));
    }

    #[test]
    fn what_an_earlier_leader_committed_may_be_applied() {
        let mut stage = Stage::new();
        let mut checker = OwnTermFirst::default();
        let (old, inbox) = (record(1, 0, 0, b"old"), "$NRG.R.leader");
        stage.write(0, &append(1, &old));
        stage.commanded(&mut checker, 0, &leads(2)).unwrap();
        assert!(stage.commanded(&mut checker, 0, &store_mark(1)).is_err());
        let mut beat = record(1, 1, 1, b"next").to_vec();
        beat[16] = 1;
        let beat = send_record(&beat.into(), inbox);
        stage.send(1, &beat);
        stage.commanded(&mut checker, 1, &beat).unwrap();
        assert_eq!(stage.commanded(&mut checker, 0, &store_mark(1)), Ok(()));
    }
}
