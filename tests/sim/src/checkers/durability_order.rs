//! No acknowledgement of an append entry leaves before its write is on disk.

use jetwake::command::Command;

use super::{Checker, Scene, Seen};
use crate::network::Machine;
use crate::records;

/// Holds sent acknowledgements against what is durable.
#[derive(Debug, Default)]
pub(super) struct DurabilityOrder;

impl Checker for DurabilityOrder {
    fn rule(&self) -> &'static str {
        "disk before acknowledgement"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Send { subject, payload, .. }) = seen else {
            return Ok(());
        };
        let Some(group) = scene.inboxes.of_entries(subject) else { return Ok(()) };
        let (Some(response), Some(known)) =
            (records::append_response(payload), scene.ledger.group(group))
        else {
            return Ok(());
        };
        let durable = known.durable_through(machine);
        if response.success && response.index > durable {
            let index = response.index;
            return Err(format!(
                "{machine} acknowledges record {index} of {group}, but has only {durable} on disk"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, append, append_response, record, send_record};
    use super::*;

    #[test]
    fn an_acknowledgement_before_its_write_is_found() {
        let mut stage = Stage::new();
        let mut checker = DurabilityOrder;
        let record = record(1, 0, 0, b"one");
        stage.send(0, &send_record(&record, "$NRG.R.zero"));
        let response = |success| append_response(1, 1, success, "$NRG.R.zero");
        assert!(stage.commanded(&mut checker, 1, &response(true)).is_err());
        assert_eq!(stage.commanded(&mut checker, 1, &response(false)), Ok(()));
        stage.write(1, &append(1, &record));
        assert_eq!(stage.commanded(&mut checker, 1, &response(true)), Ok(()));
    }
}
