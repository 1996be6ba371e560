//! The machine of a plain group: remembers the first entry of each message id.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::ids::Index;

use crate::records;
use crate::trace::digest;

/// What a plain group's machine has applied. A crash loses it; the core hands it out again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainMachine {
    applied: Index,
    entries: BTreeMap<Bytes, u64>,
    /// A snapshot that it takes on part by part.
    incoming: Option<(Index, Vec<u8>)>,
}

impl PlainMachine {
    /// The last record that it applied.
    pub const fn applied(&self) -> Index {
        self.applied
    }

    /// The digest of each entry, by message id.
    pub const fn entries(&self) -> &BTreeMap<Bytes, u64> {
        &self.entries
    }

    /// Applies a record.
    ///
    /// # Errors
    /// That it is not the next.
    pub fn apply(&mut self, index: Index, entries: &[Bytes]) -> Result<(), String> {
        if index <= self.applied {
            return Err(format!("applies {index} after {}", self.applied));
        }
        for entry in entries {
            let id = records::entry_id(entry).unwrap_or_else(|| entry.clone());
            self.entries.entry(id).or_insert_with(|| digest(&[entry]));
        }
        self.applied = index;
        Ok(())
    }

    /// Its state, as a snapshot keeps it.
    pub fn snapshot(&self) -> Bytes {
        let entries: Vec<_> = self.entries.iter().collect();
        let state = (self.applied, entries);
        Bytes::from(postcard::to_allocvec(&state).expect("plain data has a postcard form"))
    }

    /// Replaces its state by a snapshot.
    ///
    /// # Errors
    /// That it is not a snapshot, not of that record, or older than what was applied.
    pub fn install(&mut self, index: Index, data: &[u8]) -> Result<(), String> {
        let (applied, entries): (Index, Vec<(Bytes, u64)>) = postcard::from_bytes(data)
            .map_err(|error| format!("applies a snapshot that cannot be read: {error}"))?;
        if applied != index {
            return Err(format!("applies a snapshot of {applied} as one of {index}"));
        }
        if applied < self.applied {
            return Err(format!("applies a snapshot of {applied} after {}", self.applied));
        }
        *self = Self { applied, entries: entries.into_iter().collect(), incoming: None };
        Ok(())
    }

    /// Takes a part of a snapshot, and with the last one replaces its state.
    ///
    /// # Errors
    /// That the part does not follow those before it, or as [`install`](Self::install).
    pub fn take_part(
        &mut self,
        index: Index,
        offset: u64,
        part: &[u8],
        last: bool,
    ) -> Result<(), String> {
        if offset == 0 {
            self.incoming = Some((index, Vec::new()));
        }
        let Some((of, bytes)) = &mut self.incoming else {
            return Err(format!("applies byte {offset} of a snapshot that was not begun"));
        };
        if (*of, bytes.len() as u64) != (index, offset) {
            let have = bytes.len();
            return Err(format!(
                "applies byte {offset} of the snapshot of {index} behind {have} bytes of that of {of}"
            ));
        }
        if part.is_empty() && !last {
            return Err("applies an empty part of a snapshot".into());
        }
        bytes.extend_from_slice(part);
        if !last {
            return Ok(());
        }
        let bytes = std::mem::take(bytes);
        self.incoming = None;
        self.install(index, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_of_each_id_and_comes_back_from_a_snapshot() {
        let mut machine = PlainMachine::default();
        let entries = ["a\n1", "b\n2", "a\n3"].map(Bytes::from);
        machine.apply(Index::new(2), &entries).unwrap();
        assert_eq!(machine.entries().len(), 2);
        assert!(machine.apply(Index::new(2), &entries).is_err());
        let data = machine.snapshot();
        let mut other = PlainMachine::default();
        assert!(other.install(Index::new(3), &data).is_err());
        other.install(Index::new(2), &data).unwrap();
        assert_eq!(other, machine);
        for (offset, last) in [(0, false), (4, true)] {
            let part = if last { &data[4..] } else { &data[..4] };
            assert!(other.take_part(Index::new(2), offset + 1, part, last).is_err());
            other.take_part(Index::new(2), offset, part, last).unwrap();
        }
        assert_eq!(other, machine);
        machine.apply(Index::new(5), &[]).unwrap();
        assert!(machine.install(Index::new(2), &data).is_err());
    }
}
