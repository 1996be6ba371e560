//! A batch is there whole or not at all: on disk with the change that brings it, in whatever a client
//! reads meanwhile, and on every replica at the end.
//!
//! The replica that catches up is the exception: it takes one message after the other, and gives none
//! out before it has all. Its changes are told apart by their bytes, which are no record of a log.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use jetwake::command::{Command, Place as StorePlace, StoreChange};
use jetwake::ids::Sequence;

use super::{Checker, Scene, Seen};
use crate::batches::Place;
use crate::ledger;
use crate::network::Machine;
use crate::records;

/// The ids of the messages that are there, by sequence.
pub type Ids = BTreeMap<Sequence, Bytes>;

/// Looks for a batch of which only a part is there. `known` is where everything is known that is there,
/// `gone` whether a message of this sequence and id may have been removed.
///
/// # Errors
/// The first message that lacks another of its batch.
pub fn check(
    ids: &Ids,
    known: &RangeInclusive<Sequence>,
    gone: impl Fn(Sequence, &Bytes) -> bool,
) -> Result<(), String> {
    let mut before = None;
    for (sequence, id) in ids {
        let Some(place) = Place::of(id) else { continue };
        let Some(base) = sequence.get().checked_sub(place.place) else {
            return Err(format!("{sequence} is {}, with no room before it", id.escape_ascii()));
        };
        let batch = (place.batch.clone(), base);
        if before.as_ref() == Some(&batch) {
            continue;
        }
        before = Some(batch);
        for at in 1..=place.count {
            let (sequence_of_other, other) = (Sequence::new(base + at), place.id_at(at));
            let what = match ids.get(&sequence_of_other) {
                Some(found) if *found == other => continue,
                Some(found) => format!("{sequence_of_other} is {}", found.escape_ascii()),
                None if !known.contains(&sequence_of_other) => continue,
                None if gone(sequence_of_other, &other) => continue,
                None => format!("{sequence_of_other} is not there"),
            };
            let id = id.escape_ascii();
            return Err(format!("{sequence} is {id}, but {what}"));
        }
    }
    Ok(())
}

/// A change of a store that brings a message of a batch brings all of it.
#[derive(Debug)]
pub(super) struct BatchesWhole;

impl Checker for BatchesWhole {
    fn rule(&self) -> &'static str {
        "batches are whole"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, _: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Store { change, mark, .. }) = seen else { return Ok(()) };
        let (block, places) = match change {
            StoreChange::Messages { block, places } => (block, places),
            StoreChange::Exchange(exchange) => (&exchange.block, &exchange.places),
            _ => return Ok(()),
        };
        // Most records have no batch; who else reads them shares what was read.
        let Some((_, entry)) = ledger::read(block) else { return Ok(()) };
        if !entry.entries.iter().any(|(_, data)| matches!(data.first(), Some(16 | 17))) {
            return Ok(());
        }
        let Some(first) = places.first() else { return Ok(()) };
        // What is at its place no more was removed by the same record.
        check(&ids(block, places), &(first.sequence..=Sequence::MAX), |sequence, _| {
            sequence <= mark.last
        })
        .map_err(|what| format!("{machine} stores a part of a batch: {what}"))
    }
}

fn ids(block: &Bytes, places: &[StorePlace]) -> Ids {
    let id = |place: &StorePlace| {
        let from = place.offset as usize;
        let record = block.slice(from..from + place.length as usize);
        let message = records::stream_message(&record)?;
        Some((place.sequence, message.message_id()?))
    };
    places.iter().filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(messages: &[(u64, &'static str)]) -> Ids {
        let message =
            |(sequence, id): &(u64, &'static str)| (Sequence::new(*sequence), Bytes::from(*id));
        messages.iter().map(message).collect()
    }

    fn look(messages: &[(u64, &'static str)], first: u64, last: u64) -> Result<(), String> {
        let known = Sequence::new(first)..=Sequence::new(last);
        check(&there(messages), &known, |sequence, _| sequence == Sequence::new(8))
    }

    #[test]
    fn what_lacks_a_part_is_found() {
        let whole = [(3, "a-1/3"), (4, "a-2/3"), (5, "a-3/3"), (6, "x")];
        assert_eq!(look(&whole, 1, 9), Ok(()));
        assert_eq!(look(&whole[1..], 4, 9), Ok(()));
        assert_eq!(look(&whole[..2], 1, 4), Ok(()));
        // What was removed need not be there.
        assert_eq!(look(&[(6, "a-1/3"), (7, "a-2/3"), (9, "x")], 1, 9), Ok(()));
        for (bad, words) in [
            (&whole[1..], "4 is a-2/3, but 3 is not there"),
            (&whole[..2], "3 is a-1/3, but 5 is not there"),
            (&[(3, "a-1/2"), (4, "x")], "3 is a-1/2, but 4 is x"),
            (&[(3, "a-1/2"), (5, "a-2/2")], "3 is a-1/2, but 4 is not there"),
            (&[(1, "a-3/4")], "with no room"),
        ] {
            let found = look(bad, 0, 9).expect_err(words);
            assert!(found.contains(words), "{found}");
        }
    }
}
