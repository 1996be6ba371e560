//! No client is told that its message is stored before a quorum has it on disk.

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// Counts the durable copies of what is acknowledged.
#[derive(Debug)]
pub(super) struct QuorumBeforeAck;

impl Checker for QuorumBeforeAck {
    fn rule(&self) -> &'static str {
        "quorum before acknowledgement"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        let Seen::Acknowledged { group, message } = seen else { return Ok(()) };
        let Some(known) = scene.ledger.group(*group) else { return Ok(()) };
        let places = known.places_of(message);
        let lacks = places.iter().map(|(index, digest)| known.has_quorum(*index, *digest).err());
        let lacks = lacks.min().unwrap_or(Some((0, 1)));
        if let Some((copies, quorum)) = lacks {
            let message = message.escape_ascii();
            return Err(format!(
                "{machine} acknowledges {message} of {group}, which is on {copies} disks of {quorum}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, append, message, record};
    use super::*;

    #[test]
    fn a_copy_that_went_bad_after_it_was_told_of_counts() {
        let mut stage = Stage::new();
        let record = record(1, 0, 0, &message(0, "id", b"payload"));
        stage.write(0, &append(1, &record));
        stage.write(2, &append(1, &record));
        stage.lose(2);
        assert_eq!(stage.acknowledged(&mut QuorumBeforeAck, 0, "id"), Ok(()));
    }

    #[test]
    fn an_acknowledgement_with_too_few_copies_is_found() {
        let mut stage = Stage::new();
        let record = record(1, 0, 0, &message(0, "id", b"payload"));
        stage.write(0, &append(1, &record));
        let found = stage.acknowledged(&mut QuorumBeforeAck, 0, "id");
        assert!(found.unwrap_err().contains("on 1 disks of 2"));
        stage.write(2, &append(1, &record));
        assert_eq!(stage.acknowledged(&mut QuorumBeforeAck, 0, "id"), Ok(()));
        assert!(stage.acknowledged(&mut QuorumBeforeAck, 0, "another").is_err());
    }
}
