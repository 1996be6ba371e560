//! A member whose disk does not say that it has all that it promised promises nothing: it votes for
//! nobody and acknowledges nothing.

use jetwake::command::Command;

use super::{Checker, Scene, Seen};
use crate::network::Machine;
use crate::records;

/// Holds promises against what the disk of who makes them says.
#[derive(Debug)]
pub(super) struct ImpairedAreSilent;

impl Checker for ImpairedAreSilent {
    fn rule(&self) -> &'static str {
        "impaired members promise nothing"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Send { subject, payload, .. }) = seen else {
            return Ok(());
        };
        let (group, what) = if let Some(group) = scene.inboxes.of_entries(subject) {
            match records::append_response(payload) {
                Some(response) if response.success => {
                    (group, format!("acknowledges {}", response.index))
                }
                _ => return Ok(()),
            }
        } else if let Some((group, candidate)) = scene.inboxes.of_votes(subject) {
            match records::vote_response(payload) {
                Some(response) if response.granted => (group, format!("votes for {candidate}")),
                _ => return Ok(()),
            }
        } else {
            return Ok(());
        };
        match scene.disks[machine.0].says_whole(group) {
            true => Ok(()),
            false => Err(format!("{machine} {what} in {group}, but is impaired")),
        }
    }
}

#[cfg(test)]
mod tests {
    use jetwake::command::LogChange;
    use jetwake::event::{Impairment, Loss, Standing};

    use super::super::stage::{Stage, append_response, record, send_record, write};
    use super::*;

    #[test]
    fn an_acknowledgement_of_an_impaired_member_is_found() {
        let mut stage = Stage::new();
        stage.send(0, &send_record(&record(1, 0, 0, b"one"), "$NRG.R.zero"));
        let ack = append_response(1, 0, true, "$NRG.R.zero");
        assert_eq!(stage.commanded(&mut ImpairedAreSilent, 1, &ack), Ok(()));
        stage.write(1, &write(LogChange::Standing(Standing::Whole)));
        assert_eq!(stage.commanded(&mut ImpairedAreSilent, 1, &ack), Ok(()));
        let impairment = Impairment { lost: Loss::Votes, found: Vec::new() };
        stage.write(1, &write(LogChange::Standing(Standing::Impaired(impairment))));
        assert!(stage.commanded(&mut ImpairedAreSilent, 1, &ack).is_err());
    }
}
