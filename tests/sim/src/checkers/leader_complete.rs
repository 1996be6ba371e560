//! A new leader has every record that was committed in an earlier term.

use jetwake::command::{Command, Report, Role};
use jetwake::ids::{GroupId, Index, Term};

use super::{Checker, Scene, Seen};
use crate::ledger;
use crate::network::Machine;

/// Compares the log of a new leader with what is known to be committed.
#[derive(Debug)]
pub(super) struct LeaderComplete;

impl Checker for LeaderComplete {
    fn rule(&self) -> &'static str {
        "a leader has all that is committed"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Commanded(Command::Report {
                group: Some(group),
                report: Report::Role { role: Role::Leader, term, .. },
            }) => complete(machine, *group, *term, scene),
            _ => Ok(()),
        }
    }
}

fn complete(machine: Machine, group: GroupId, term: Term, scene: &Scene<'_>) -> Result<(), String> {
    let (Some(known), Some(log)) = (scene.ledger.group(group), scene.disks[machine.0].log(group))
    else {
        return Ok(());
    };
    let committed = known.committed_before(term);
    let last = log.last().max(log.snapshot_index());
    if last < committed {
        return Err(format!(
            "{machine} leads {group} with a log that ends at {last}, but {committed} is committed"
        ));
    }
    for index in log.base().next().get()..=committed.get() {
        let index = Index::new(index);
        let held = log.record(index).and_then(ledger::read).map(|(digest, _)| digest);
        let differs = known.committed(index).is_some_and(|digest| held != Some(digest));
        if differs && index > log.snapshot_index() {
            return Err(format!(
                "{machine} leads {group} with another record {index} than the committed one"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, append, leads, record};
    use super::*;

    #[test]
    fn a_leader_without_a_committed_record_is_found() {
        let mut stage = Stage::new();
        let (first, second) = (record(1, 0, 0, b"one"), record(1, 1, 1, b"two"));
        for command in [append(1, &first), append(2, &second)] {
            stage.write(0, &command);
        }
        stage.write(1, &append(1, &first));
        stage.apply(0, 1, 1);
        assert_eq!(stage.commanded(&mut LeaderComplete, 1, &leads(2)), Ok(()));
        stage.apply(0, 2, 1);
        assert!(stage.commanded(&mut LeaderComplete, 1, &leads(2)).is_err());
        // Who was elected in the term of the commit, or before it, need not have it.
        assert_eq!(stage.commanded(&mut LeaderComplete, 1, &leads(1)), Ok(()));
        stage.write(1, &append(2, &record(2, 1, 1, b"else")));
        let found = stage.commanded(&mut LeaderComplete, 1, &leads(3));
        assert!(found.unwrap_err().contains("another record 2"));
    }
}
