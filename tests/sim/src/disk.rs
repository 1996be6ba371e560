//! The disk of one machine: what is written, what is synced, and what a crash leaves of it.
//!
//! Log writes become durable in the order of their ids, many by one sync; store writes are taken at
//! once and become durable by a sync of their own. Every change is kept twice: as the process sees
//! it, and as a crash would leave it at least.

mod rot;

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jetwake::command::{LogChange, SnapshotFile, StoreChange};
use jetwake::event::{Damage, Damaged, Event, Failure, Opened, SnapshotFound, StoreMark};
use jetwake::ids::{ByteCount, GroupId, Index, LoadId, Sequence, StoreId, WriteId};
use jetwake::time::{Duration, Time};

use crate::dice::{Dice, PerMillion};
use crate::log::Log;
use crate::store::Store;

pub use rot::{DiskCopy, Lost, Rot};

/// How a disk behaves while nothing is wrong with it, and a little when something is.
#[derive(Clone, Debug)]
pub struct DiskConditions {
    /// How long a sync takes, of the log or of the store.
    pub sync: Range<Duration>,
    /// How long a store write takes until reads see it.
    pub take: Range<Duration>,
    /// How long a load or read takes.
    pub load: Range<Duration>,
    /// How likely a load or read fails.
    pub read_failures: PerMillion,
    /// How many unsynced writes are on disk all the same after a crash; drawn if none.
    pub crash_keeps: Option<usize>,
    /// How many bytes a snapshot has at most that a process is handed in whole when it starts.
    pub whole_snapshots: usize,
    /// How likely a bit flips in a part of a snapshot while it is written.
    pub part_rot: PerMillion,
}

impl Default for DiskConditions {
    fn default() -> Self {
        let micros = |from, to| Duration::from_micros(from)..Duration::from_micros(to);
        Self {
            sync: micros(100, 2_000),
            take: micros(10, 100),
            load: micros(20, 500),
            read_failures: 0,
            crash_keeps: None,
            whole_snapshots: 1 << 20,
            part_rot: 0,
        }
    }
}

/// How far a slow store falls behind.
const LATEST: Duration = Duration::from_secs(1);

/// The disk of one machine; it outlives the processes that use it.
#[derive(Debug)]
pub struct Disk {
    /// How it behaves.
    pub conditions: DiskConditions,
    /// Everything takes this many times as long.
    pub slowness: u32,
    /// How many times as long it takes, beyond that, for what a stream stores.
    pub store_slowness: u32,
    /// Whether no space is left: records, snapshots and messages fail.
    pub full: bool,
    /// Whether the next log write fails.
    pub fail_next_write: bool,
    /// The groups whose part was wiped: where nothing is written of them, nothing is known. Of others
    /// it says that they begin on it.
    wiped: BTreeSet<GroupId>,
    dice: Dice,
    groups: BTreeMap<GroupId, GroupDisk>,
    waiting: VecDeque<LogWrite>,
    /// How many of those that wait the running sync covers.
    syncing: usize,
    /// When the store has done all that it was asked.
    store_busy_until: Time,
    asked: Asked,
}

#[derive(Clone, Debug, Default)]
struct GroupDisk {
    durable: Log,
    current: Log,
    /// Writes that failed, and those behind them: any prefix may be on disk.
    limbo: Vec<LogChange>,
    failed: bool,
    store: StoreDisk,
}

#[derive(Clone, Debug, Default)]
struct StoreDisk {
    durable: Store,
    current: Store,
    unsynced: VecDeque<(StoreId, StoreChange, StoreMark)>,
    failed: bool,
}

#[derive(Debug)]
struct LogWrite {
    id: WriteId,
    group: GroupId,
    change: LogChange,
}

/// The last number of each kind that the process used; numbers never go back.
#[derive(Debug, Default)]
struct Asked {
    write: Option<WriteId>,
    store: Option<StoreId>,
    load: Option<LoadId>,
}

/// Something that the disk does, and ends later.
#[derive(Clone, Debug)]
pub enum DiskWork {
    /// A sync of the log.
    Sync,
    /// The taking of a store write.
    Take {
        /// Whose store.
        group: GroupId,
        /// The write.
        id: StoreId,
    },
    /// A sync of a store.
    SyncStore {
        /// Whose store.
        group: GroupId,
        /// What was asked to be covered.
        through: StoreId,
        /// The last write that was there when it began.
        covers: Option<StoreId>,
    },
    /// A load or read; the answer is what was there when it began.
    Answer(Box<Event>),
}

/// What came of a piece of work.
#[derive(Debug, Default)]
pub struct Done {
    /// What the process is told.
    pub events: Vec<Event>,
    /// What is durable now.
    pub durable: Vec<(GroupId, LogChange)>,
    /// What the disk does next.
    pub next: Option<(Time, DiskWork)>,
}

/// What a crash left.
#[derive(Debug, Default)]
pub struct Wreck {
    /// Log writes that nobody was told of, but that are on disk all the same.
    pub durable: Vec<(GroupId, LogChange)>,
    /// How many log writes are gone.
    pub lost_writes: usize,
    /// How many store writes are gone.
    pub lost_stores: usize,
}

impl Disk {
    /// An empty disk.
    pub fn new(conditions: DiskConditions, dice: Dice) -> Self {
        Self {
            conditions,
            slowness: 1,
            store_slowness: 1,
            full: false,
            fail_next_write: false,
            wiped: BTreeSet::new(),
            dice,
            groups: BTreeMap::new(),
            waiting: VecDeque::new(),
            syncing: 0,
            store_busy_until: Time::ZERO,
            asked: Asked::default(),
        }
    }

    /// What a process that starts now finds.
    pub fn opened(&self, group: GroupId) -> Opened {
        let Some(disk) = self.groups.get(&group) else {
            return Opened { standing: self.unwritten(group), ..Opened::default() };
        };
        let file = disk.durable.snapshot().map(|snapshot| &snapshot.file);
        Opened {
            vote: disk.durable.vote(),
            snapshot: file.map(|file| match file.len() > self.conditions.whole_snapshots {
                true => SnapshotFound::InParts { length: file.len() as u64 },
                false => SnapshotFound::Whole(file.clone()),
            }),
            log: disk.durable.range(),
            store: disk.store.durable.mark(),
            only_adds: disk.store.durable.only_adds(),
            standing: disk.durable.standing().cloned().unwrap_or_else(|| self.unwritten(group)),
            damage: (disk.durable.damage().into_iter())
                .chain(disk.store.durable.damage().map(Damaged::Store))
                .collect(),
        }
    }

    /// A group's log as the process sees it.
    pub fn log(&self, group: GroupId) -> Option<&Log> {
        self.groups.get(&group).map(|disk| &disk.current)
    }

    /// A group's log as a crash would leave it at least.
    pub fn durable_log(&self, group: GroupId) -> Option<&Log> {
        self.groups.get(&group).map(|disk| &disk.durable)
    }

    /// A group's store as the process sees it.
    pub fn store(&self, group: GroupId) -> Option<&Store> {
        self.groups.get(&group).map(|disk| &disk.store.current)
    }

    /// Whether a write of any group failed since the process started.
    pub fn has_failed(&self) -> bool {
        self.groups.values().any(|disk| disk.failed || disk.store.failed)
    }

    /// Takes a log write.
    ///
    /// # Errors
    /// How the core broke its contract.
    pub fn write(
        &mut self,
        now: Time,
        id: WriteId,
        group: GroupId,
        mut change: LogChange,
    ) -> Result<Option<(Time, DiskWork)>, String> {
        ascending("log write", &mut self.asked.write, id)?;
        self.spoil_part(&mut change);
        let disk = self.groups.entry(group).or_default();
        if let Some(objection) = disk.current.objection(&change) {
            return Err(format!("log write {id} {objection}"));
        }
        disk.current.apply(&change);
        self.waiting.push_back(LogWrite { id, group, change });
        Ok(self.begin_sync(now))
    }

    /// Something else is written than was asked, and nobody is told.
    fn spoil_part(&mut self, change: &mut LogChange) {
        if let LogChange::SnapshotPart { part, .. } = change
            && self.conditions.part_rot > 0
            && self.dice.chance(self.conditions.part_rot)
        {
            let mut bytes = part.to_vec();
            let at = self.dice.place(bytes.len());
            bytes[at] ^= 1 << self.dice.below(8);
            *part = bytes.into();
        }
    }

    fn begin_sync(&mut self, now: Time) -> Option<(Time, DiskWork)> {
        if self.syncing > 0 || self.waiting.is_empty() {
            return None;
        }
        self.syncing = self.waiting.len();
        Some((now + self.takes(|conditions| &conditions.sync), DiskWork::Sync))
    }

    /// Takes a store write.
    ///
    /// # Errors
    /// How the core broke its contract.
    pub fn take(
        &mut self,
        now: Time,
        id: StoreId,
        group: GroupId,
        change: StoreChange,
        mark: StoreMark,
    ) -> Result<(Time, DiskWork), String> {
        ascending("store write", &mut self.asked.store, id)?;
        let store = &mut self.groups.entry(group).or_default().store;
        if let Some(objection) = store.current.objection(&change, &mark) {
            return Err(format!("store write {id} {objection}"));
        }
        store.current.apply(&change, &mark);
        let adds = matches!(change, StoreChange::Messages { .. } | StoreChange::Exchange(_));
        store.failed |= self.full && adds;
        if !store.failed {
            store.unsynced.push_back((id, change, mark));
        }
        let taking = self.takes(|conditions| &conditions.take);
        Ok((self.store_done_at(now, taking), DiskWork::Take { group, id }))
    }

    /// Begins a sync of a store.
    ///
    /// # Errors
    /// How the core broke its contract.
    pub fn sync_store(
        &mut self,
        now: Time,
        group: GroupId,
        through: StoreId,
    ) -> Result<(Time, DiskWork), String> {
        if self.asked.store.is_none_or(|last| through > last) && through > StoreId::ZERO {
            return Err(format!("asks to sync store write {through}, which it never asked for"));
        }
        let store = &self.groups.entry(group).or_default().store;
        let covers = store.unsynced.back().map(|(id, ..)| *id);
        let syncing = self.takes(|conditions| &conditions.sync);
        let work = DiskWork::SyncStore { group, through, covers };
        Ok((self.store_done_at(now, syncing), work))
    }

    /// Begins to load records.
    ///
    /// # Errors
    /// How the core broke its contract.
    pub fn load(
        &mut self,
        now: Time,
        id: LoadId,
        group: GroupId,
        range: (Index, Index),
        bytes: ByteCount,
    ) -> Result<(Time, DiskWork), String> {
        ascending("load", &mut self.asked.load, id)?;
        let log = &self.groups.entry(group).or_default().current;
        let (first, last) = range;
        let held = log.range().filter(|held| held.0 <= first && last <= held.1);
        if held.is_none() || first > last {
            let held = log.range().map_or("nothing".into(), |(a, b)| format!("{a}..={b}"));
            return Err(format!("load {id} asks for {first}..={last}, but the log has {held}"));
        }
        let mut left = bytes.get();
        let mut records = Vec::new();
        for index in first.get()..=last.get() {
            let record = log.record(Index::new(index)).expect("the range lies within the log");
            if !log.is_readable(Index::new(index)) {
                if records.is_empty() {
                    let what = format!("record {index}: wrong checksum");
                    let failure = Failure::Damaged(damage("log", &what));
                    return Ok(self.answer(now, id, Event::LoadFailed { load: id, failure }));
                }
                break;
            }
            let length = record.len() as u64;
            if length > left && !records.is_empty() {
                break;
            }
            left = left.saturating_sub(length);
            records.push(record.clone());
        }
        Ok(self.answer(now, id, Event::Loaded { load: id, records }))
    }

    /// Begins to read a part of a snapshot.
    ///
    /// # Errors
    /// How the core broke its contract.
    pub fn load_snapshot(
        &mut self,
        now: Time,
        id: LoadId,
        group: GroupId,
        file: SnapshotFile,
        range: (u64, ByteCount),
    ) -> Result<(Time, DiskWork), String> {
        ascending("load", &mut self.asked.load, id)?;
        let log = &self.groups.entry(group).or_default().current;
        let part = log.snapshot_bytes(file, range.0, range.1.get());
        if range.1.get() == 0 {
            return Err(format!("load {id} asks for no bytes of a snapshot"));
        }
        Ok(self.answer(now, id, Event::SnapshotLoaded { load: id, part }))
    }

    /// Begins to read messages.
    ///
    /// # Errors
    /// How the core broke its contract.
    pub fn read(
        &mut self,
        now: Time,
        id: LoadId,
        group: GroupId,
        range: (Sequence, Sequence),
        most: (usize, ByteCount),
    ) -> Result<(Time, DiskWork), String> {
        ascending("load", &mut self.asked.load, id)?;
        let store = &self.groups.entry(group).or_default().store.current;
        let answer = match store.lost(range.0, range.1) {
            Some(lost) => Event::MessagesLost { load: id, lost },
            None => {
                let (messages, next) = store.read(range.0, range.1, most.0, most.1);
                Event::Read { load: id, messages, next }
            }
        };
        Ok(self.answer(now, id, answer))
    }

    fn answer(&mut self, now: Time, load: LoadId, answer: Event) -> (Time, DiskWork) {
        let failure = Failure::Io(damage("log", "the simulated disk does not read"));
        let failed = self.dice.chance(self.conditions.read_failures);
        let event = if failed { Event::LoadFailed { load, failure } } else { answer };
        (now + self.takes(|conditions| &conditions.load), DiskWork::Answer(Box::new(event)))
    }

    /// Ends a piece of work.
    pub fn done(&mut self, now: Time, work: DiskWork) -> Done {
        match work {
            DiskWork::Sync => self.synced(now),
            DiskWork::Take { group, id } => self.taken(group, id),
            DiskWork::SyncStore { group, through, covers } => {
                self.store_synced(group, through, covers)
            }
            DiskWork::Answer(event) => Done { events: vec![*event], ..Done::default() },
        }
    }

    fn synced(&mut self, now: Time) -> Done {
        let mut done = Done::default();
        let mut through = None;
        for write in self.waiting.drain(..self.syncing) {
            let LogWrite { id, group, change } = write;
            let disk = self.groups.entry(group).or_default();
            let large = matches!(
                change,
                LogChange::Append { .. }
                    | LogChange::Snapshot { .. }
                    | LogChange::SnapshotPart { .. }
            );
            let fails = disk.failed || self.fail_next_write || (self.full && large);
            if fails {
                let first = !disk.failed;
                disk.failed = true;
                disk.limbo.push(change);
                self.fail_next_write = false;
                // Whether a driver speaks again of the writes behind the first is its own affair.
                if first || self.dice.chance(500_000) {
                    let failure = failure(self.full);
                    done.events.push(Event::WriteFailed { group, write: id, failure });
                }
            } else {
                disk.durable.apply(&change);
                done.durable.push((group, change));
                through = Some(id);
            }
        }
        self.syncing = 0;
        done.events.extend(through.map(|through| Event::Written { through }));
        done.next = self.begin_sync(now);
        done
    }

    fn taken(&self, group: GroupId, id: StoreId) -> Done {
        let failed = self.groups.get(&group).is_some_and(|disk| disk.store.failed);
        let event = if failed {
            Event::StoreFailed { group, failure: failure(self.full) }
        } else {
            Event::Stored { through: id }
        };
        Done { events: vec![event], ..Done::default() }
    }

    fn store_synced(&mut self, group: GroupId, through: StoreId, covers: Option<StoreId>) -> Done {
        let store = &mut self.groups.entry(group).or_default().store;
        if store.failed {
            let event = Event::StoreFailed { group, failure: failure(self.full) };
            return Done { events: vec![event], ..Done::default() };
        }
        while let Some((id, change, mark)) = store.unsynced.pop_front() {
            if covers.is_none_or(|covers| id > covers) {
                store.unsynced.push_front((id, change, mark));
                break;
            }
            store.durable.apply(&change, &mark);
        }
        Done { events: vec![Event::StoreSynced { group, through }], ..Done::default() }
    }

    /// The process died, or the power went: of what was not synced a prefix is left.
    pub fn crash(&mut self) -> Wreck {
        let mut wreck = Wreck::default();
        let kept = self.prefix(self.waiting.len());
        for (place, write) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let disk = self.groups.entry(write.group).or_default();
            if disk.failed {
                disk.limbo.push(write.change);
            } else if place < kept {
                disk.durable.apply(&write.change);
                wreck.durable.push((write.group, write.change));
            } else {
                wreck.lost_writes += 1;
            }
        }
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            self.crash_group(group, &mut wreck);
        }
        self.syncing = 0;
        self.asked = Asked::default();
        wreck
    }

    fn crash_group(&mut self, group: GroupId, wreck: &mut Wreck) {
        let disk = self.groups.entry(group).or_default();
        let (limbo, unsynced) = (disk.limbo.len(), disk.store.unsynced.len());
        let (kept_limbo, kept_stores) = (self.prefix(limbo), self.prefix(unsynced));
        let disk = self.groups.entry(group).or_default();
        wreck.lost_writes += limbo - kept_limbo;
        wreck.lost_stores += unsynced - kept_stores;
        for change in disk.limbo.drain(..).take(kept_limbo) {
            disk.durable.apply(&change);
            wreck.durable.push((group, change));
        }
        for (_, change, mark) in disk.store.unsynced.drain(..).take(kept_stores) {
            disk.store.durable.apply(&change, &mark);
        }
        disk.current = disk.durable.clone();
        disk.store.current = disk.store.durable.clone();
        disk.failed = false;
        disk.store.failed = false;
    }

    /// How many of so many unsynced writes are on disk all the same.
    fn prefix(&mut self, writes: usize) -> usize {
        if let Some(kept) = self.conditions.crash_keeps {
            return kept.min(writes);
        }
        match self.dice.below(4) {
            0 => 0,
            1 => writes,
            _ => self.dice.place(writes + 1),
        }
    }

    fn takes(&mut self, range: impl Fn(&DiskConditions) -> &Range<Duration>) -> Duration {
        self.dice.duration(range(&self.conditions)) * self.slowness
    }

    fn store_done_at(&mut self, now: Time, takes: Duration) -> Time {
        let begins = self.store_busy_until.max(now);
        // What is late is late by no more than this, or it would be for long after the fault is over.
        let late = (begins + takes * self.store_slowness).min(now + LATEST);
        self.store_busy_until = late.max(begins + takes);
        self.store_busy_until
    }
}

fn ascending<T: Copy + Ord + std::fmt::Display>(
    what: &str,
    last: &mut Option<T>,
    id: T,
) -> Result<(), String> {
    match last.replace(id) {
        Some(before) if id <= before => Err(format!("numbers a {what} {id} behind {before}")),
        _ => Ok(()),
    }
}

fn failure(full: bool) -> Failure {
    if full {
        Failure::Full(damage("log", "no space is left on the simulated disk"))
    } else {
        Failure::Io(damage("log", "the simulated disk does not write"))
    }
}

fn damage(file: &str, what: &str) -> Damage {
    Damage { file: file.into(), offset: None, what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const GROUP: GroupId = GroupId(0);

    fn disk(seed: u64) -> Disk {
        Disk::new(DiskConditions::default(), Dice::new(seed))
    }

    fn append(disk: &mut Disk, index: u64) -> Option<(Time, DiskWork)> {
        let change =
            LogChange::Append { index: Index::new(index), record: Bytes::from_static(b"record") };
        disk.write(Time::ZERO, WriteId::new(index), GROUP, change).unwrap()
    }

    #[test]
    fn one_sync_serves_all_that_waited_for_it() {
        let mut disk = disk(1);
        let (at, work) = append(&mut disk, 1).unwrap();
        assert!(append(&mut disk, 2).is_none() && append(&mut disk, 3).is_none());
        let done = disk.done(at, work);
        assert_eq!(done.events, [Event::Written { through: WriteId::new(1) }]);
        let (at, work) = done.next.unwrap();
        assert_eq!(disk.durable_log(GROUP).unwrap().last(), Index::new(1));
        assert_eq!(disk.done(at, work).events, [Event::Written { through: WriteId::new(3) }]);
        assert_eq!(disk.durable_log(GROUP).unwrap().last(), Index::new(3));
    }

    #[test]
    fn a_crash_keeps_what_is_synced_and_a_prefix_of_the_rest() {
        let mut left = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = disk(seed);
            let (at, work) = append(&mut disk, 1).unwrap();
            disk.done(at, work);
            for index in 2..=5 {
                append(&mut disk, index);
            }
            let wreck = disk.crash();
            let opened = disk.opened(GROUP).log.unwrap();
            assert_eq!(wreck.durable.len() + wreck.lost_writes, 4);
            left.insert(opened.1.get());
        }
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn after_a_failed_write_nothing_of_its_group_is_written() {
        let mut disk = disk(3);
        let (at, work) = append(&mut disk, 1).unwrap();
        disk.fail_next_write = true;
        append(&mut disk, 2);
        let done = disk.done(at, work);
        assert!(matches!(done.events[..], [Event::WriteFailed { .. }]), "{:?}", done.events);
        let (at, work) = done.next.unwrap();
        let events = disk.done(at, work).events;
        assert!(!events.iter().any(|event| matches!(event, Event::Written { .. })), "{events:?}");
        assert!(disk.has_failed() && disk.durable_log(GROUP).unwrap().last() == Index::ZERO);
        disk.crash();
        assert!(!disk.has_failed());
    }

    #[test]
    fn a_store_sync_covers_what_came_before_it_alone() {
        let mut disk = disk(4);
        let mark = |applied| StoreMark { applied: Index::new(applied), ..StoreMark::default() };
        let id = StoreId::new;
        disk.take(Time::ZERO, id(1), GROUP, StoreChange::Mark, mark(1)).unwrap();
        let (at, work) = disk.sync_store(Time::ZERO, GROUP, id(1)).unwrap();
        disk.take(Time::ZERO, id(2), GROUP, StoreChange::Mark, mark(2)).unwrap();
        let events = disk.done(at, work).events;
        assert_eq!(events, [Event::StoreSynced { group: GROUP, through: id(1) }]);
        assert_eq!(disk.opened(GROUP).store.unwrap(), mark(1));
        assert_eq!(disk.store(GROUP).unwrap().mark().unwrap(), mark(2));
        assert!(disk.sync_store(Time::ZERO, GROUP, id(3)).is_err());
    }

    #[test]
    fn objects_to_loads_outside_the_log_and_to_numbers_that_go_back() {
        let mut disk = disk(5);
        append(&mut disk, 1);
        let load = |disk: &mut Disk, id, last| {
            let range = (Index::new(1), Index::new(last));
            disk.load(Time::ZERO, LoadId::new(id), GROUP, range, ByteCount::new(1))
        };
        assert!(load(&mut disk, 1, 1).is_ok());
        assert!(load(&mut disk, 1, 1).unwrap_err().contains("numbers a load 1 behind 1"));
        assert!(load(&mut disk, 2, 2).unwrap_err().contains("the log has 1..=1"));
    }
}
