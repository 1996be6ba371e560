//! The disk of a lone node: performs writes at once, holds them back or fails them, as it is told;
//! and lets a test change what lies on it behind the node's back.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use jetwake::command::{Command, LogChange, SnapshotFile};
use jetwake::event::{Damage, Damaged, Event, Failure, Opened, SnapshotFound, Standing};
use jetwake::ids::{ByteCount, Index, LoadId, WriteId};

use crate::log::Log;
use crate::store::Store;

/// The disk of a lone node.
#[derive(Debug, Default)]
pub struct LoneDisk {
    /// Whether log writes wait to be performed.
    pub hold_writes: bool,
    /// Whether loads wait to be answered by [`LoneDisk::answer_loads`].
    pub hold_loads: bool,
    /// Whether the next log write fails, and every one behind it.
    pub fail_writes: bool,
    /// What a start finds that cannot be trusted.
    pub damage: Vec<Damaged>,
    /// Whether a start is handed no snapshot in whole.
    pub snapshots_in_parts: bool,
    /// What it says of itself if that was never written.
    pub standing: Standing,
    unreadable: BTreeSet<Index>,
    /// As the node sees it.
    log: Log,
    /// As a crash would leave it.
    durable: Log,
    store: Store,
    waiting: VecDeque<(WriteId, LogChange)>,
    loads: VecDeque<Load>,
    events: VecDeque<Event>,
}

/// A read of the log's files.
#[derive(Debug)]
enum Load {
    Records(Box<Event>),
    Snapshot { id: LoadId, file: SnapshotFile, offset: u64, bytes: ByteCount },
}

impl LoneDisk {
    /// The log as the node sees it: with what was asked for and not performed.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The log as a crash would leave it.
    pub const fn durable_log(&self) -> &Log {
        &self.durable
    }

    /// The store of a stream.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// How many log writes are held back.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What a node that starts now finds.
    pub fn opened(&self) -> Opened {
        let file = self.durable.snapshot().map(|snapshot| snapshot.file.clone());
        Opened {
            vote: self.durable.vote(),
            snapshot: file.map(|file| match self.snapshots_in_parts {
                true => SnapshotFound::InParts { length: file.len() as u64 },
                false => SnapshotFound::Whole(file),
            }),
            log: self.durable.range(),
            store: self.store.mark(),
            only_adds: self.store.only_adds(),
            standing: self.durable.standing().unwrap_or(&self.standing).clone(),
            damage: self.damage.clone(),
        }
    }

    /// Takes a command that concerns it.
    pub(super) fn take(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Write { id, change, .. } => self.write(id, change),
            Command::Load { id, first, last, bytes, .. } => self.load(id, (first, last), bytes),
            Command::LoadSnapshot { id, file, offset, bytes, .. } => {
                self.read(Load::Snapshot { id, file, offset, bytes });
                Ok(())
            }
            Command::Store { id, change, mark, .. } => {
                if let Some(objection) = self.store.objection(&change, &mark) {
                    return Err(format!("store write {id} {objection}"));
                }
                self.store.apply(&change, &mark);
                self.events.push_back(Event::Stored { through: id });
                Ok(())
            }
            Command::SyncStore { group, through } => {
                self.events.push_back(Event::StoreSynced { group, through });
                Ok(())
            }
            Command::Read { id, first, last, messages, bytes, .. } => {
                let (messages, next) = self.store.read(first, last, messages, bytes);
                self.events.push_back(Event::Read { load: id, messages, next });
                Ok(())
            }
            other => Err(format!("asks for what a lone node's test does not know: {other:?}")),
        }
    }

    fn write(&mut self, id: WriteId, change: LogChange) -> Result<(), String> {
        if let Some(objection) = self.log.objection(&change) {
            return Err(format!("log write {id} {objection}"));
        }
        self.log.apply(&change);
        match &change {
            LogChange::Truncate { last } => drop(self.unreadable.split_off(&last.next())),
            LogChange::Reset { .. } => self.unreadable.clear(),
            _ => {}
        }
        self.waiting.push_back((id, change));
        if !self.hold_writes {
            self.perform(usize::MAX);
        }
        Ok(())
    }

    /// Performs so many of the writes that wait.
    pub(super) fn perform(&mut self, most: usize) {
        let Some(last) = most.min(self.waiting.len()).checked_sub(1) else { return };
        if self.fail_writes {
            let failure = Failure::Io(damage("the lone disk does not write"));
            let write = self.waiting.front().map_or(WriteId::ZERO, |(id, _)| *id);
            self.waiting.clear();
            let group = super::GROUP;
            return self.events.push_back(Event::WriteFailed { group, write, failure });
        }
        for (place, (id, change)) in self.waiting.drain(..=last).enumerate() {
            self.durable.apply(&change);
            if place == last {
                self.events.push_back(Event::Written { through: id });
            }
        }
    }

    fn load(
        &mut self,
        load: LoadId,
        (first, last): (Index, Index),
        bytes: ByteCount,
    ) -> Result<(), String> {
        let held = self.log.range();
        if first > last || held.is_none_or(|held| first < held.0 || held.1 < last) {
            return Err(format!("asks to load {first}..={last} of {held:?}"));
        }
        let (mut records, mut left) = (Vec::new(), bytes.get());
        for index in (first.get()..=last.get()).map(Index::new) {
            let Some(record) = self.log.record(index) else { break };
            if self.unreadable.contains(&index) {
                if records.is_empty() {
                    let failure = Failure::Damaged(damage(&format!("record {index} is damaged")));
                    self.read(Load::Records(Box::new(Event::LoadFailed { load, failure })));
                }
                break;
            }
            if !records.is_empty() && record.len() as u64 > left {
                break;
            }
            left = left.saturating_sub(record.len() as u64);
            records.push(record.clone());
        }
        if !records.is_empty() {
            self.read(Load::Records(Box::new(Event::Loaded { load, records })));
        }
        Ok(())
    }

    fn read(&mut self, load: Load) {
        match self.hold_loads {
            true => self.loads.push_back(load),
            false => self.answer(load),
        }
    }

    /// Answers the loads that wait, those of a snapshot with what stands there now; the node hears
    /// of it with the next event that it is given.
    pub fn answer_loads(&mut self) {
        for load in core::mem::take(&mut self.loads) {
            self.answer(load);
        }
    }

    fn answer(&mut self, load: Load) {
        self.events.push_back(match load {
            Load::Records(event) => *event,
            Load::Snapshot { id: load, file, offset, bytes } => {
                let part = self.log.snapshot_bytes(file, offset, bytes.get());
                Event::SnapshotLoaded { load, part }
            }
        });
    }

    pub(super) fn tell(&mut self, events: impl Iterator<Item = Event>) {
        self.events.extend(events);
    }

    /// What the node is told next.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The power goes: what was not performed is lost.
    pub(super) fn crash(&mut self) {
        self.waiting.clear();
        self.loads.clear();
        self.events.clear();
        self.fail_writes = false;
        self.log = self.durable.clone();
    }
}

/// What a test does to the disk of a node that is down.
impl LoneDisk {
    /// Performs a change of the log that nobody asked for.
    pub fn change(&mut self, change: &LogChange) {
        self.durable.apply(change);
        self.log = self.durable.clone();
    }

    /// Adds a record behind the last.
    pub fn add_record(&mut self, record: impl Into<Bytes>) {
        let index = self.durable.last().next();
        self.change(&LogChange::Append { index, record: record.into() });
    }

    /// Removes every record behind this one.
    pub fn remove_behind(&mut self, last: u64) {
        self.change(&LogChange::Truncate { last: Index::new(last) });
    }

    /// Removes every record up to this one, whether a snapshot covers them or not.
    pub fn remove_through(&mut self, through: u64) {
        self.change(&LogChange::Compact { through: Index::new(through) });
    }

    /// Puts these bytes in the place of a record, and leaves the others.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn replace_record(&mut self, index: u64, record: impl Into<Bytes>) {
        let index = Index::new(index);
        let range = self.durable.range().filter(|range| range.0 <= index && index <= range.1);
        let (_, last) = range.expect("the record is there");
        let behind = (index.get() + 1..=last.get()).map(Index::new);
        let behind: Vec<_> =
            behind.filter_map(|index| self.durable.record(index).cloned()).collect();
        self.change(&LogChange::Truncate { last: index.previous() });
        self.add_record(record);
        behind.into_iter().for_each(|record| self.add_record(record));
    }

    /// Cuts a record short, as a torn write does.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn tear_record(&mut self, index: u64) {
        let record = self.durable.record(Index::new(index)).expect("the record is there");
        self.replace_record(index, record.slice(..record.len() / 2));
    }

    /// A record cannot be read from now on.
    pub fn spoil_record(&mut self, index: u64) {
        self.unreadable.insert(Index::new(index));
    }

    /// Loses the term and vote.
    pub fn lose_votes(&mut self) {
        self.durable.lose_votes();
        self.log = self.durable.clone();
        self.damage.push(Damaged::Vote(damage("neither slot is whole")));
    }

    /// Loses the snapshot.
    pub fn lose_snapshot(&mut self) {
        self.durable.lose_snapshot();
        self.log = self.durable.clone();
        self.damage.push(Damaged::Snapshot(damage("the snapshot is gone")));
    }

    /// A bit of the snapshot flips, whether the node runs or not.
    pub fn spoil_snapshot(&mut self, at: usize) {
        for log in [&mut self.log, &mut self.durable] {
            log.spoil_snapshot(|file| file[at] ^= 1);
        }
    }

    /// A bit flips in what was written of a snapshot in parts.
    pub fn spoil_part(&mut self, at: usize) {
        for log in [&mut self.log, &mut self.durable] {
            log.spoil_part(|parts| parts[at] ^= 1);
        }
    }

    /// Forgets everything: a new disk.
    pub fn wipe(&mut self) {
        *self = Self { standing: Standing::Unknown, ..Self::default() };
    }
}

fn damage(what: &str) -> Damage {
    Damage { file: "log".into(), offset: None, what: what.into() }
}
