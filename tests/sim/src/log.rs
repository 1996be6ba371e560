//! One group's log on a simulated disk, with its snapshot and its term and vote; and the contract
//! that every change of it must keep.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use jetwake::command::{LogChange, SnapshotFile as Which};
use jetwake::event::{Damage, Damaged, Standing, TermAndVote};
use jetwake::ids::{Index, Term};

/// A snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The last record that it covers.
    pub index: Index,
    /// The term of that record.
    pub term: Term,
    /// The whole file.
    pub file: Bytes,
}

/// A log, as it would be found if it was opened now.
#[derive(Clone, Debug, Default)]
pub struct Log {
    vote: Option<TermAndVote>,
    snapshot: Option<SnapshotFile>,
    /// The snapshot file that is being written in parts.
    parts: Vec<u8>,
    /// The place that counts as the one before the first record.
    base: Index,
    records: VecDeque<Bytes>,
    standing: Option<Standing>,
    rot: Rot,
}

/// What of a log can no longer be read.
#[derive(Clone, Debug, Default)]
struct Rot {
    votes: bool,
    snapshot: bool,
    records: BTreeSet<Index>,
    /// Whether the file with the records is gone.
    missing: bool,
}

impl Log {
    /// The term and vote, if they were ever written.
    pub const fn vote(&self) -> Option<TermAndVote> {
        self.vote
    }

    /// What the member wrote of how it stands.
    pub const fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// Whether the member that writes it lost something that it may have promised.
    pub const fn is_impaired(&self) -> bool {
        matches!(self.standing, Some(Standing::Impaired(_)))
    }

    /// Whether all that was ever reported as written can be read.
    pub fn is_sound(&self) -> bool {
        let Rot { votes, snapshot, records, missing } = &self.rot;
        !(*votes || *snapshot || *missing) && records.is_empty()
    }

    /// What a process that starts is told of the damage.
    pub fn damage(&self) -> Vec<Damaged> {
        let found = |file: &str, what: String| Damage { file: file.into(), offset: Some(0), what };
        let mut damage = Vec::new();
        if self.rot.votes {
            damage.push(Damaged::Vote(found("votes", "neither slot is whole".into())));
        }
        if self.snapshot.is_none() && self.base > Index::ZERO {
            let what = format!("no snapshot, but the log begins behind {}", self.base);
            damage.push(Damaged::Snapshot(found("snapshot", what)));
        }
        if self.rot.missing {
            damage.push(Damaged::Log(found("log", "the file is missing".into())));
        } else if let Some(index) = self.rot.records.first() {
            let what = format!("record {index}: wrong checksum");
            damage.push(Damaged::Log(found("log", what)));
        }
        damage
    }

    /// Whether this record can be read.
    pub fn is_readable(&self, index: Index) -> bool {
        !self.rot.records.contains(&index)
    }

    /// Neither vote slot can be read any more.
    pub fn lose_votes(&mut self) {
        self.vote = None;
        self.rot.votes = true;
    }

    /// A record cannot be read any more.
    pub fn spoil_record(&mut self, index: Index) {
        self.rot.records.insert(index);
    }

    /// The file with the records is gone.
    pub fn lose_records(&mut self) {
        self.records.clear();
        self.base = Index::ZERO;
        self.rot.missing = true;
    }

    /// The snapshot is gone.
    pub fn lose_snapshot(&mut self) {
        self.rot.snapshot = self.snapshot.take().is_some();
    }

    /// Something else stands in the snapshot's file. What is spoilt already stays as it is: another
    /// change could make it whole again.
    pub fn spoil_snapshot(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(snapshot) = self.snapshot.as_mut().filter(|_| !self.rot.snapshot) {
            let mut file = snapshot.file.to_vec();
            change(&mut file);
            snapshot.file = file.into();
            self.rot.snapshot = true;
        }
    }

    /// Something else stands in the file that is written in parts.
    pub fn spoil_part(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.parts);
    }

    /// The newest snapshot.
    pub const fn snapshot(&self) -> Option<&SnapshotFile> {
        self.snapshot.as_ref()
    }

    /// Some bytes of a snapshot file: fewer than asked for where it ends, or is not there.
    pub fn snapshot_bytes(&self, file: Which, from: u64, most: u64) -> Bytes {
        let bytes = match file {
            Which::Current => self.snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.file),
            Which::Parts => &self.parts,
        };
        let from = (from as usize).min(bytes.len());
        let to = from.saturating_add(most as usize).min(bytes.len());
        Bytes::copy_from_slice(&bytes[from..to])
    }

    /// The last record that the snapshot covers; zero without one.
    pub fn snapshot_index(&self) -> Index {
        let readable = self.snapshot.as_ref().filter(|_| !self.rot.snapshot);
        readable.map_or(Index::ZERO, |snapshot| snapshot.index)
    }

    /// The place that counts as the one before the first record.
    pub const fn base(&self) -> Index {
        self.base
    }

    /// The place of the last record, or of the one that counts as it.
    pub fn last(&self) -> Index {
        self.base.plus(self.records.len() as u64)
    }

    /// The first and last record, if there is any.
    pub fn range(&self) -> Option<(Index, Index)> {
        (!self.records.is_empty()).then(|| (self.base.next(), self.last()))
    }

    /// A record.
    pub fn record(&self, index: Index) -> Option<&Bytes> {
        let place = index.get().checked_sub(self.base.get())?.checked_sub(1)?;
        self.records.get(usize::try_from(place).ok()?)
    }

    /// What is wrong with a change, if anything is: a core that asks for it breaks its contract.
    pub fn objection(&self, change: &LogChange) -> Option<String> {
        let (base, last, covered) = (self.base, self.last(), self.snapshot_index());
        match change {
            LogChange::Append { index, .. } if *index != last.next() => {
                Some(format!("appends record {index} behind record {last}"))
            }
            LogChange::Append { record, .. } if record.is_empty() => {
                Some("appends an empty record".into())
            }
            LogChange::Truncate { last: to } if *to < base => {
                Some(format!("truncates to {to}, which is compacted: the log begins behind {base}"))
            }
            LogChange::Truncate { last: to } if *to > last => {
                Some(format!("truncates to {to}, but the last record is {last}"))
            }
            LogChange::Compact { through } if *through > last => {
                Some(format!("compacts through {through}, but the last record is {last}"))
            }
            LogChange::Compact { through } if *through > covered => {
                Some(format!("compacts through {through}, but the snapshot covers only {covered}"))
            }
            LogChange::Reset { last: to } if *to > covered => Some(format!(
                "resets the log to begin behind {to}, but the snapshot covers only {covered}"
            )),
            LogChange::TermAndVote(new) => self.vote.and_then(|old| vote_objection(old, *new)),
            LogChange::Snapshot { index, .. } if *index < covered => {
                Some(format!("replaces a snapshot of {covered} by an older one of {index}"))
            }
            LogChange::PlaceSnapshot { index, .. } if *index < covered => {
                Some(format!("replaces a snapshot of {covered} by an older one of {index}"))
            }
            LogChange::PlaceSnapshot { length, .. } if *length != self.parts.len() as u64 => {
                let there = self.parts.len();
                Some(format!("says that a snapshot in parts has {length} bytes, of {there}"))
            }
            LogChange::SnapshotPart { part, .. } if part.is_empty() => {
                Some("writes an empty part of a snapshot".into())
            }
            LogChange::SnapshotPart { offset, .. }
                if *offset != 0 && *offset != self.parts.len() as u64 =>
            {
                let there = self.parts.len();
                Some(format!("writes a part at byte {offset} of a snapshot that has {there}"))
            }
            LogChange::Snapshot { file, .. } if file.is_empty() => {
                Some("writes an empty snapshot".into())
            }
            _ => None,
        }
    }

    /// Performs a change that nothing speaks against.
    pub fn apply(&mut self, change: &LogChange) {
        match change {
            LogChange::Append { record, .. } => self.records.push_back(record.clone()),
            LogChange::Truncate { last } => {
                self.records.truncate(last.since(self.base) as usize);
                self.rot.records.split_off(&last.next());
            }
            LogChange::Compact { through } => {
                let gone = (through.since(self.base) as usize).min(self.records.len());
                self.records.drain(..gone);
                self.base = self.base.plus(gone as u64);
                self.rot.records = self.rot.records.split_off(&self.base.next());
            }
            LogChange::Reset { last } => {
                self.records.clear();
                (self.rot.records, self.rot.missing) = (BTreeSet::new(), false);
                self.base = *last;
            }
            LogChange::TermAndVote(vote) => (self.vote, self.rot.votes) = (Some(*vote), false),
            LogChange::Standing(standing) => {
                self.standing = Some(standing.clone());
                // What was told to be lost is known to be, and what is left of the file is used.
                self.rot.missing = false;
            }
            LogChange::Snapshot { index, term, file } => {
                let file = file.clone();
                self.snapshot = Some(SnapshotFile { index: *index, term: *term, file });
                self.rot.snapshot = false;
            }
            LogChange::SnapshotPart { offset, part } => {
                self.parts.truncate(*offset as usize);
                self.parts.extend_from_slice(part);
            }
            LogChange::PlaceSnapshot { index, term, .. } => {
                let file = std::mem::take(&mut self.parts).into();
                self.snapshot = Some(SnapshotFile { index: *index, term: *term, file });
                self.rot.snapshot = false;
            }
            LogChange::DropSnapshotParts => self.parts.clear(),
            other => panic!("the simulated disk does not know the change {other:?}"),
        }
    }
}

fn vote_objection(old: TermAndVote, new: TermAndVote) -> Option<String> {
    if new.term < old.term {
        return Some(format!("lowers the term from {} to {}", old.term, new.term));
    }
    match (old.vote, new.vote) {
        (Some(was), now) if new.term == old.term && now != Some(was) => Some(format!(
            "changes the vote of term {} from {was} to {}",
            old.term,
            now.map_or("nobody".into(), |peer| peer.to_string())
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetwake::ids::PeerId;

    fn append(index: u64) -> LogChange {
        LogChange::Append { index: Index::new(index), record: Bytes::from(vec![index as u8; 3]) }
    }

    fn snapshot(index: u64) -> LogChange {
        LogChange::Snapshot {
            index: Index::new(index),
            term: Term::new(1),
            file: Bytes::from_static(b"snapshot"),
        }
    }

    fn part(offset: u64, part: &'static [u8]) -> LogChange {
        LogChange::SnapshotPart { offset, part: Bytes::from_static(part) }
    }

    fn place(index: u64, length: u64) -> LogChange {
        LogChange::PlaceSnapshot { index: Index::new(index), term: Term::new(1), length }
    }

    #[test]
    fn a_snapshot_in_parts_takes_the_place_of_the_one_before() {
        let mut log = filled(9);
        log.apply(&snapshot(6));
        for change in [part(0, b"lost"), part(0, b"ab"), part(2, b"c"), place(8, 3)] {
            assert_eq!(log.objection(&change), None);
            log.apply(&change);
            let bytes = |which| log.snapshot_bytes(which, 1, 9);
            match log.snapshot_index().get() {
                8 => assert_eq!(
                    (&bytes(Which::Current)[..], bytes(Which::Parts).len()),
                    (&b"bc"[..], 0)
                ),
                _ => assert_eq!(bytes(Which::Current)[..], b"napshot"[..]),
            }
        }
    }

    fn filled(through: u64) -> Log {
        let mut log = Log::default();
        for index in 1..=through {
            let change = append(index);
            assert_eq!(log.objection(&change), None);
            log.apply(&change);
        }
        log
    }

    #[test]
    fn a_snapshot_that_is_spoilt_twice_is_not_whole_again() {
        let mut log = filled(10);
        log.apply(&snapshot(6));
        let whole = log.snapshot_bytes(Which::Current, 0, 100);
        for _ in 0..2 {
            log.spoil_snapshot(|file| file[0] ^= 1);
            assert_ne!(log.snapshot_bytes(Which::Current, 0, 100), whole);
        }
    }

    #[test]
    fn follows_appends_truncations_compactions_and_resets() {
        let mut log = filled(10);
        log.apply(&snapshot(6));
        for change in [
            LogChange::Compact { through: Index::new(6) },
            LogChange::Truncate { last: Index::new(8) },
        ] {
            assert_eq!(log.objection(&change), None);
            log.apply(&change);
        }
        assert_eq!(log.range(), Some((Index::new(7), Index::new(8))));
        assert_eq!(log.record(Index::new(7)).unwrap()[0], 7);
        assert_eq!((log.record(Index::new(6)), log.record(Index::new(9))), (None, None));
        log.apply(&snapshot(20));
        log.apply(&LogChange::Reset { last: Index::new(20) });
        assert_eq!((log.range(), log.last()), (None, Index::new(20)));
        assert_eq!(log.objection(&append(21)), None);
    }

    #[test]
    fn objects_to_what_would_tear_the_log() {
        let mut log = filled(10);
        log.apply(&snapshot(6));
        log.apply(&LogChange::Compact { through: Index::new(5) });
        for (change, words) in [
            (append(12), "appends record 12 behind record 10"),
            (LogChange::Truncate { last: Index::new(4) }, "which is compacted"),
            (LogChange::Truncate { last: Index::new(11) }, "the last record is 10"),
            (LogChange::Compact { through: Index::new(7) }, "the snapshot covers only 6"),
            (LogChange::Reset { last: Index::new(7) }, "the snapshot covers only 6"),
            (snapshot(5), "by an older one"),
            (part(1, b"b"), "a part at byte 1 of a snapshot that has 0"),
            (part(0, b""), "an empty part"),
            (place(7, 1), "has 1 bytes, of 0"),
            (place(5, 0), "by an older one"),
        ] {
            let objection = log.objection(&change).expect(words);
            assert!(objection.contains(words), "{objection}");
        }
    }

    #[test]
    fn objects_to_a_second_vote_and_to_a_lower_term() {
        let of = |term, name: Option<&str>| TermAndVote {
            term: Term::new(term),
            vote: name.map(PeerId::from_name),
        };
        let mut log = Log::default();
        log.apply(&LogChange::TermAndVote(of(3, Some("n1"))));
        for bad in [of(2, None), of(3, None), of(3, Some("n2"))] {
            assert!(log.objection(&LogChange::TermAndVote(bad)).is_some(), "{bad:?}");
        }
        for good in [of(3, Some("n1")), of(4, None), of(4, Some("n2"))] {
            assert_eq!(log.objection(&LogChange::TermAndVote(good)), None, "{good:?}");
        }
    }
}
