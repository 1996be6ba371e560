//! Who has which record on disk, and what is committed: the view from above that no node has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use jetwake::command::LogChange;
use jetwake::ids::{GroupId, Index, Term};

use crate::log::Log;
use crate::membership::Voters;
use crate::network::Machine;
use crate::records::{self, AppendEntry};
use crate::trace::digest;

/// What is durable where, for every group.
#[derive(Debug, Default)]
pub struct Ledger {
    groups: BTreeMap<GroupId, GroupLedger>,
}

/// What is durable where, for one group.
#[derive(Debug)]
pub struct GroupLedger {
    machines: usize,
    founders: Voters,
    records: BTreeMap<Index, Vec<Record>>,
    /// The last durable record of each machine.
    last: Vec<Index>,
    /// What the durable snapshot of each machine covers.
    covered: Vec<Index>,
    /// What it covered on a machine before its disk went bad.
    was_covered: Vec<Index>,
    committed: BTreeMap<Index, u64>,
    committed_through: Index,
    /// What was committed at the latest in which term, ascending in both.
    by_term: Vec<(Term, Index)>,
    /// Where a message id was appended, and as a part of which record.
    messages: BTreeMap<Bytes, Vec<(Index, u64)>>,
}

/// One of the records that ever stood at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The digest of what it says.
    pub digest: u64,
    /// The term in which it was made.
    pub term: Term,
    /// On which machines it is durable, a bit each.
    on: u64,
    /// On which it was before their disks went bad. What they said of it may still be on its way,
    /// and was true.
    was_on: u64,
    /// Who counts once it is appended.
    voters: Voters,
}

/// How many records are remembered that were read, at most; a power of two.
const READS: usize = 1 << 13;

thread_local! {
    /// Machines share the bytes of a record, and every checker reads them: what was read is kept by
    /// the place of the bytes in memory, which stays theirs as long as they are kept here.
    static KNOWN: RefCell<Reads> = const { RefCell::new(Reads(Vec::new())) };
}

/// Records that were read, each in the slot that its place in memory says; a newer one of the same slot
/// takes it over.
struct Reads(Vec<Option<(Bytes, u64, Rc<AppendEntry>)>>);

impl Reads {
    fn read(&mut self, record: &Bytes) -> Option<(u64, Rc<AppendEntry>)> {
        if self.0.is_empty() {
            self.0.resize(READS, None);
        }
        let place = record.as_ptr() as usize as u64;
        let slot = (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % READS;
        let slot = &mut self.0[slot];
        if let Some((known, digest, entry)) = slot
            && (known.as_ptr(), known.len()) == (record.as_ptr(), record.len())
        {
            return Some((*digest, entry.clone()));
        }
        let (digest, entry) = read_anew(record)?;
        let entry = Rc::new(entry);
        *slot = Some((record.clone(), digest, entry.clone()));
        Some((digest, entry))
    }
}

/// Reads a record, and digests what must be the same on all machines that have it.
pub fn read(record: &Bytes) -> Option<(u64, Rc<AppendEntry>)> {
    KNOWN.with_borrow_mut(|known| known.read(record))
}

fn read_anew(record: &Bytes) -> Option<(u64, AppendEntry)> {
    let entry = records::append_entry(record)?;
    let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * entry.entries.len() + 1);
    // Term, previous term and previous index, as they stand in the bytes; who led, and what was
    // committed then, may differ in a copy.
    parts.push(&record[8..16]);
    parts.push(&record[24..40]);
    for (kind, data) in &entry.entries {
        parts.push(std::slice::from_ref(kind));
        parts.push(data);
    }
    Some((digest(&parts), entry))
}

impl Ledger {
    /// A group begins, with so many machines and members.
    pub fn add_group(&mut self, group: GroupId, machines: usize, members: usize) {
        let ledger = GroupLedger {
            machines,
            founders: Voters::founders(members),
            records: BTreeMap::new(),
            last: vec![Index::ZERO; machines],
            covered: vec![Index::ZERO; machines],
            was_covered: vec![Index::ZERO; machines],
            committed: BTreeMap::new(),
            committed_through: Index::ZERO,
            by_term: Vec::new(),
            messages: BTreeMap::new(),
        };
        self.groups.insert(group, ledger);
    }

    /// A group.
    pub fn group(&self, group: GroupId) -> Option<&GroupLedger> {
        self.groups.get(&group)
    }

    /// A process asked for a change of its log.
    pub fn asked(&mut self, group: GroupId, change: &LogChange) {
        let (Some(ledger), LogChange::Append { index, record }) =
            (self.groups.get_mut(&group), change)
        else {
            return;
        };
        let Some((digest, entry)) = read(record) else { return };
        if ledger.record(*index, digest).is_some() {
            return;
        }
        let before = ledger.records_at(entry.previous_index).iter();
        let before = before.filter(|record| record.term == entry.previous_term);
        let voters = before.map(|record| record.voters).next().unwrap_or(ledger.founders);
        let voters = voters.after(&entry);
        let record = Record { digest, term: entry.term, on: 0, was_on: 0, voters };
        ledger.records.entry(*index).or_default().push(record);
        for (_, data) in entry.entries.iter().filter(|(kind, _)| *kind == 0) {
            if let Some(id) = records::entry_id(data) {
                ledger.messages.entry(id).or_default().push((*index, digest));
            }
        }
    }

    /// A change of a log became durable.
    pub fn durable(&mut self, machine: Machine, group: GroupId, change: &LogChange) {
        let Some(ledger) = self.groups.get_mut(&group) else { return };
        match change {
            LogChange::Append { index, record } => {
                ledger.last[machine.0] = *index;
                let Some((digest, _)) = read(record) else { return };
                let records = ledger.records.entry(*index).or_default();
                if let Some(known) = records.iter_mut().find(|known| known.digest == digest) {
                    known.on |= 1 << machine.0;
                }
            }
            LogChange::Truncate { last } => ledger.remove_behind(machine, *last),
            LogChange::Reset { last } => {
                ledger.remove_behind(machine, Index::ZERO);
                ledger.last[machine.0] = *last;
            }
            LogChange::Snapshot { index, .. } | LogChange::PlaceSnapshot { index, .. } => {
                ledger.covered[machine.0] = *index;
            }
            _ => {}
        }
    }

    /// A disk lost every record from this one on, and perhaps its snapshot.
    pub fn lost(&mut self, machine: Machine, group: GroupId, from: Index, snapshot: bool) {
        let Some(ledger) = self.groups.get_mut(&group) else { return };
        if from <= ledger.last[machine.0] {
            for record in ledger.records.range_mut(from..).flat_map(|(_, records)| records) {
                record.was_on |= record.on & (1 << machine.0);
            }
            ledger.remove_behind(machine, from.previous());
        }
        if snapshot {
            let covered = ledger.covered[machine.0].max(ledger.was_covered[machine.0]);
            ledger.was_covered[machine.0] = covered;
            ledger.covered[machine.0] = Index::ZERO;
        }
    }

    /// A process applied everything up to a record; its log shows what that was. It was committed
    /// in the process's own term or in an earlier one.
    pub fn applied(&mut self, group: GroupId, through: Index, term: Term, log: &Log) {
        let Some(ledger) = self.groups.get_mut(&group) else { return };
        if through > ledger.committed_through {
            match ledger.by_term.last_mut() {
                Some((last, index)) if term <= *last => *index = through,
                _ => ledger.by_term.push((term, through)),
            }
        }
        while ledger.committed_through < through {
            let index = ledger.committed_through.next();
            if let Some((digest, _)) = log.record(index).and_then(read) {
                ledger.committed.insert(index, digest);
            }
            ledger.committed_through = index;
        }
    }
}

impl GroupLedger {
    fn remove_behind(&mut self, machine: Machine, last: Index) {
        for (_, records) in self.records.range_mut(last.next()..) {
            for record in records {
                record.on &= !(1 << machine.0);
            }
        }
        self.last[machine.0] = last;
    }

    /// The last record that is durable on a machine, in its log or in its snapshot.
    pub fn durable_through(&self, machine: Machine) -> Index {
        self.last[machine.0].max(self.covered[machine.0])
    }

    /// A record that stood at a place.
    pub fn record(&self, index: Index, digest: u64) -> Option<Record> {
        self.records_at(index).iter().copied().find(|record| record.digest == digest)
    }

    /// Who counts before the first record.
    pub const fn founders(&self) -> Voters {
        self.founders
    }

    /// Who counts by a log that ends with this record; none if it is not known what that says.
    pub fn voters_at(&self, last: Index, record: Option<&Bytes>) -> Option<Voters> {
        if last == Index::ZERO {
            return Some(self.founders);
        }
        let (digest, _) = record.and_then(read)?;
        self.record(last, digest).map(|record| record.voters)
    }

    /// Every record that ever stood at a place.
    pub fn records_at(&self, index: Index) -> &[Record] {
        self.records.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Whether a record is durable, in the log or covered by a snapshot, on a quorum of those who
    /// count since it or since a later record; or was, where a disk went bad.
    ///
    /// # Errors
    /// On how many of how many of those who count since it.
    pub fn has_quorum(&self, index: Index, digest: u64) -> Result<(), (usize, usize)> {
        let record = self.record(index, digest);
        let on = record.map_or(0, |record| record.on | record.was_on);
        let covered = |at: usize| self.covered[at].max(self.was_covered[at]);
        let copies = |voters: Voters| {
            let has = |at: &usize| on >> at & 1 == 1 || covered(*at) >= index;
            let counts = |at: &usize| voters.contains(Machine(*at));
            (0..self.machines).filter(|at| counts(at) && has(at)).count()
        };
        let suffices = |voters: Voters| copies(voters) >= voters.quorum();
        let own = record.map_or(self.founders, |record| record.voters);
        // Members may have been added or removed before the record was committed.
        let later = || self.records.range(index..).flat_map(|(_, records)| records);
        if suffices(own) || later().any(|record| record.voters != own && suffices(record.voters)) {
            Ok(())
        } else {
            Err((copies(own), own.quorum()))
        }
    }

    /// The last record that is known to be committed.
    pub const fn committed_through(&self) -> Index {
        self.committed_through
    }

    /// The last record that is known to have been committed in a term before this one.
    pub fn committed_before(&self, term: Term) -> Index {
        let earlier = self.by_term.iter().rev().find(|(committed, _)| *committed < term);
        earlier.map_or(Index::ZERO, |(_, index)| *index)
    }

    /// The digest of a committed record.
    pub fn committed(&self, index: Index) -> Option<u64> {
        self.committed.get(&index).copied()
    }

    /// Where a message id was appended.
    pub fn places_of(&self, message: &Bytes) -> &[(Index, u64)] {
        self.messages.get(message).map_or(&[], Vec::as_slice)
    }
}
