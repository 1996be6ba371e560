//! Every replica applies the same: one message a sequence, and one list of entries a record.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::command::{Command, StoreChange};
use jetwake::ids::{GroupId, Index, Sequence};

use super::{Checker, Scene, Seen};
use crate::network::Machine;
use crate::records;
use crate::trace::digest;

/// Remembers who first stored or applied what.
#[derive(Debug, Default)]
pub(super) struct AppliedAlike {
    messages: BTreeMap<(GroupId, Sequence), (Machine, u64)>,
    entries: BTreeMap<(GroupId, Index), (Machine, u64)>,
}

impl Checker for AppliedAlike {
    fn rule(&self) -> &'static str {
        "replicas apply the same"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, _: &Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Commanded(Command::Store { group, change, .. }) => {
                let (block, places) = match change {
                    StoreChange::Messages { block, places } => (block, places),
                    StoreChange::Exchange(exchange) => (&exchange.block, &exchange.places),
                    StoreChange::Mend(mend) => (&mend.block, &mend.places),
                    _ => return Ok(()),
                };
                for place in places {
                    let start = place.offset as usize;
                    let end = start + place.length as usize;
                    let record =
                        if end <= block.len() { block.slice(start..end) } else { continue };
                    self.message(machine, *group, place.sequence, &record)?;
                }
                Ok(())
            }
            Seen::Commanded(Command::Apply { group, index, entries }) => {
                let parts: Vec<_> = entries.iter().map(|entry| &entry[..]).collect();
                let now = (machine, digest(&parts));
                let before = *self.entries.entry((*group, *index)).or_insert(now);
                same(before, now).map_err(|other| {
                    format!("{machine} applies other entries of {index} in {group} than {other}")
                })
            }
            _ => Ok(()),
        }
    }
}

impl AppliedAlike {
    fn message(
        &mut self,
        machine: Machine,
        group: GroupId,
        sequence: Sequence,
        record: &Bytes,
    ) -> Result<(), String> {
        let Some(message) = records::stream_message(record) else {
            return Err(format!("{machine} stores message {sequence}, which cannot be read"));
        };
        let timestamp = message.timestamp.to_le_bytes();
        let parts = [&timestamp[..], &message.subject, &message.header, &message.payload];
        let now = (machine, digest(&parts));
        let before = *self.messages.entry((group, sequence)).or_insert(now);
        same(before, now).map_err(|other| {
            format!("{machine} stores {message:?} as {sequence} of {group}, unlike {other}")
        })
    }
}

fn same(before: (Machine, u64), now: (Machine, u64)) -> Result<(), Machine> {
    if before.1 == now.1 { Ok(()) } else { Err(before.0) }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, store_message};
    use super::*;

    #[test]
    fn another_message_of_the_same_sequence_is_found() {
        let mut stage = Stage::new();
        let mut checker = AppliedAlike::default();
        let mut see = |machine, payload: &[u8]| {
            stage.commanded(&mut checker, machine, &store_message(1, "id", payload))
        };
        assert_eq!((see(0, b"one"), see(1, b"one")), (Ok(()), Ok(())));
        assert!(see(2, b"two").unwrap_err().contains("unlike n1"));
    }
}
