//! Two records of one place and one term are the same record, and every record names the one
//! before it.

use jetwake::command::{Command, LogChange};
use jetwake::ids::{GroupId, Index};

use super::{Checker, Scene, Seen};
use crate::ledger;
use crate::network::Machine;

/// Compares each appended record with those that ever stood at its place.
#[derive(Debug)]
pub(super) struct LogMatching;

impl Checker for LogMatching {
    fn rule(&self) -> &'static str {
        "logs match"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Write {
            group,
            change: LogChange::Append { index, record },
            ..
        }) = seen
        else {
            return Ok(());
        };
        let Some((digest, entry)) = ledger::read(record) else {
            return Err(format!("{machine} appends record {index}, which is no append entry"));
        };
        if entry.previous_index.next() != *index {
            let before = entry.previous_index;
            return Err(format!("{machine} appends at {index} a record that follows {before}"));
        }
        let other = scene.ledger.group(*group).and_then(|ledger| {
            let at = ledger.records_at(*index).iter();
            at.copied().find(|other| other.term == entry.term && other.digest != digest)
        });
        if other.is_some() {
            let term = entry.term;
            return Err(format!("{machine} appends at {index} another record of term {term}"));
        }
        joins(machine, *group, *index, &entry, scene)
    }
}

/// The record before has the term that this record says it has.
fn joins(
    machine: Machine,
    group: GroupId,
    index: Index,
    entry: &crate::records::AppendEntry,
    scene: &Scene<'_>,
) -> Result<(), String> {
    let log = scene.disks[machine.0].log(group);
    let before = log.and_then(|log| log.record(index.previous())).and_then(ledger::read);
    match before {
        Some((_, before)) if before.term != entry.previous_term => Err(format!(
            "{machine} appends at {index} a record that follows term {}, but has term {} there",
            entry.previous_term, before.term
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, append, record};
    use super::*;

    #[test]
    fn another_record_of_the_same_term_is_found() {
        let mut stage = Stage::new();
        let (one, two) = (record(1, 0, 0, b"one"), record(1, 0, 0, b"two"));
        assert_eq!(stage.commanded(&mut LogMatching, 0, &append(1, &one)), Ok(()));
        stage.write(0, &append(1, &one));
        assert_eq!(stage.commanded(&mut LogMatching, 1, &append(1, &one)), Ok(()));
        let found = stage.commanded(&mut LogMatching, 2, &append(1, &two));
        assert!(found.unwrap_err().contains("another record of term 1"));
        let later = record(2, 0, 0, b"two");
        assert_eq!(stage.commanded(&mut LogMatching, 2, &append(1, &later)), Ok(()));
        assert!(stage.commanded(&mut LogMatching, 2, &append(3, &later)).is_err());
    }

    #[test]
    fn a_record_that_does_not_join_is_found() {
        let mut stage = Stage::new();
        stage.write(0, &append(1, &record(1, 0, 0, b"one")));
        let found = stage.commanded(&mut LogMatching, 0, &append(2, &record(3, 2, 1, b"two")));
        assert!(found.unwrap_err().contains("but has term 1 there"));
    }
}
