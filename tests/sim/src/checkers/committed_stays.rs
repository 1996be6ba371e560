//! What is applied is on the disks of a quorum, and is never removed from a log afterwards unless
//! a snapshot covers it.

use jetwake::command::{Command, LogChange};
use jetwake::event::StoreMark;
use jetwake::ids::{GroupId, Index};

use super::{Checker, Scene, Seen};
use crate::ledger;
use crate::network::Machine;

/// Looks at what is applied and at what is removed.
#[derive(Debug)]
pub(super) struct CommittedStays;

impl Checker for CommittedStays {
    fn rule(&self) -> &'static str {
        "committed records stay"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Commanded(Command::Store { group, mark, .. }) => {
                applies(machine, *group, touched(mark), scene)
            }
            Seen::Commanded(Command::Apply { group, index, .. }) => {
                applies(machine, *group, *index, scene)
            }
            Seen::Commanded(Command::Write { group, change, .. }) => match change {
                LogChange::Truncate { last } => removes(machine, *group, *last, scene),
                LogChange::Reset { .. } => removes(machine, *group, Index::ZERO, scene),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// The last record of which anything is applied.
pub(crate) fn touched(mark: &StoreMark) -> Index {
    match mark.entries {
        0 => mark.applied,
        _ => mark.applied.next(),
    }
}

fn applies(
    machine: Machine,
    group: GroupId,
    through: Index,
    scene: &Scene<'_>,
) -> Result<(), String> {
    let (Some(known), Some(log)) = (scene.ledger.group(group), scene.disks[machine.0].log(group))
    else {
        return Ok(());
    };
    for index in known.committed_through().next().get()..=through.get() {
        let index = Index::new(index);
        if index <= log.base() && index < through {
            // Nothing that a machine applies stood there, and a snapshot covers it.
            continue;
        }
        let Some((digest, _)) = log.record(index).and_then(ledger::read) else {
            return Err(format!("{machine} applies {index} of {group}, which it does not have"));
        };
        if let Err((copies, quorum)) = known.has_quorum(index, digest) {
            return Err(format!(
                "{machine} applies {index} of {group}, which is on {copies} disks of {quorum}"
            ));
        }
    }
    let held = log.record(through).and_then(ledger::read).map(|(digest, _)| digest);
    match (known.committed(through), held) {
        (Some(committed), Some(held)) if committed != held => {
            Err(format!("{machine} applies another record {through} of {group} than others did"))
        }
        _ => Ok(()),
    }
}

fn removes(machine: Machine, group: GroupId, last: Index, scene: &Scene<'_>) -> Result<(), String> {
    let (Some(known), Some(log)) = (scene.ledger.group(group), scene.disks[machine.0].log(group))
    else {
        return Ok(());
    };
    // What it has counts in no quorum: it takes the leader's in its place.
    if log.is_impaired() {
        return Ok(());
    }
    let from = last.max(log.base()).max(log.snapshot_index()).next();
    for index in from.get()..=known.committed_through().get().min(log.last().get()) {
        let index = Index::new(index);
        let held = log.record(index).and_then(ledger::read).map(|(digest, _)| digest);
        if held.is_some() && held == known.committed(index) {
            return Err(format!("{machine} removes the committed record {index} of {group}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, append, record, reset, snapshot, store_mark, truncate};
    use super::*;

    #[test]
    fn applying_without_a_quorum_is_found() {
        let mut stage = Stage::new();
        let command = append(1, &record(1, 0, 0, b"one"));
        stage.write(0, &command);
        let found = stage.commanded(&mut CommittedStays, 0, &store_mark(1));
        assert!(found.unwrap_err().contains("on 1 disks of 2"));
        stage.write(1, &command);
        assert_eq!(stage.commanded(&mut CommittedStays, 0, &store_mark(1)), Ok(()));
        let found = stage.commanded(&mut CommittedStays, 0, &store_mark(2));
        assert!(found.unwrap_err().contains("does not have"));
    }

    /// Seed 5375 of five machines, before: a member whose lost messages came from one that was ahead
    /// seemed to apply a record that it did not have.
    #[test]
    fn a_store_that_only_adds_has_applied_nothing_more() {
        let applied = Index::new(10);
        let mark = |entries| StoreMark { applied, entries, ..StoreMark::default() };
        assert_eq!(touched(&mark(0)), applied);
        assert_eq!(touched(&mark(1)), applied.next());
        let only_added = StoreMark { only_added: true, ..mark(0) };
        assert_eq!(touched(&only_added), applied);
    }

    #[test]
    fn removing_what_is_committed_is_found() {
        let mut stage = Stage::new();
        for machine in [0, 1] {
            stage.write(machine, &append(1, &record(1, 0, 0, b"one")));
            stage.write(machine, &append(2, &record(1, 1, 1, b"two")));
        }
        stage.apply(0, 1, 1);
        assert_eq!(stage.commanded(&mut CommittedStays, 1, &truncate(1)), Ok(()));
        assert!(stage.commanded(&mut CommittedStays, 1, &truncate(0)).is_err());
        assert!(stage.commanded(&mut CommittedStays, 1, &reset(0)).is_err());
        stage.write(1, &snapshot(1));
        assert_eq!(stage.commanded(&mut CommittedStays, 1, &reset(1)), Ok(()));
    }
}
