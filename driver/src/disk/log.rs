//! The logs of all groups, in one database.
//!
//! A record lies under its group's number and its index. The bounds of each log are a value of
//! their own, written with every change; they decide what belongs to the log, so that records
//! beyond them may go later, in pieces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use fjall::OwnedWriteBatch;
use jetwake::event::{Damage, Failure};
use jetwake::ids::{ByteCount, GroupName, Index};

use super::engine::{Engine, guarded, seal, unseal};
use super::failure::damage;

/// Keys removed in one batch.
const REMOVE_AT_ONCE: u64 = 4096;
/// Damages named for one group; more of them help nobody.
const DAMAGES: usize = 16;
/// First byte of the keys of small values.
const BOUNDS: u8 = b'b';
const GROUP: u8 = b'g';

/// All logs of a node.
pub(super) struct Logs {
    engine: Engine,
    logs: Vec<Log>,
    /// Changes not yet handed to the engine, and whose bounds go with them.
    pending: Option<OwnedWriteBatch>,
    pending_bytes: usize,
}

/// One group's log: it holds the records behind `before` up to `last`.
struct Log {
    number: u32,
    name: GroupName,
    before: Index,
    last: Index,
    changed: bool,
    /// Whether the database has not seen it before.
    new: bool,
}

/// The groups that a database knows, with their numbers on this disk.
pub(super) type Numbers = BTreeMap<Vec<u8>, u32>;

/// The first and last record of a log, if it has any, and what is wrong with it.
pub(super) type LogFound = (Option<(Index, Index)>, Vec<Damage>);

impl Logs {
    /// Opens the database, and gives numbers to groups that it has not seen: those `elsewhere`, or
    /// free ones. They are written by [`register`](Self::register).
    pub(super) fn open(
        folder: PathBuf,
        groups: &[GroupName],
        elsewhere: &Numbers,
    ) -> Result<Self, Failure> {
        let engine = Engine::open(&folder)?;
        let own = guarded(&folder, || read_numbers(&engine))?;
        let known = elsewhere.clone().into_iter().chain(own.clone()).collect();
        let log = |(name, number): (&GroupName, u32)| Log {
            number,
            name: name.clone(),
            before: Index::ZERO,
            last: Index::ZERO,
            changed: false,
            new: !own.contains_key(name.as_str().as_bytes()),
        };
        let logs = groups.iter().zip(assign(groups, &known)).map(log).collect();
        Ok(Self { engine, logs, pending: None, pending_bytes: 0 })
    }

    /// Whether the database had not seen the group before.
    pub(super) fn is_new(&self, group: usize) -> bool {
        self.logs[group].new
    }

    /// Writes the numbers of groups that the database had not seen.
    pub(super) fn register(&mut self) -> Result<(), Failure> {
        let new = self.logs.iter().filter(|log| log.new);
        write_numbers(&self.engine, new.map(|log| (&log.name, log.number)))
    }

    /// The number that a group has on this disk.
    pub(super) fn number(&self, group: usize) -> u32 {
        self.logs[group].number
    }

    /// The last place in front of a group's log.
    pub(super) fn before(&self, group: usize) -> Index {
        self.logs[group].before
    }

    /// Reads a group's whole log: its first and last record, and what is wrong with it.
    ///
    /// # Errors
    /// If the database itself cannot be relied on.
    pub(super) fn check(&mut self, group: usize) -> Result<LogFound, Failure> {
        let mut found = Vec::new();
        let folder = self.engine.folder().to_owned();
        guarded(&folder, || self.check_records(group, &mut found))?;
        let log = &self.logs[group];
        Ok(((log.before < log.last).then(|| (log.before.next(), log.last)), found))
    }

    fn check_records(&mut self, group: usize, found: &mut Vec<Damage>) -> Result<(), Failure> {
        if let Some(damage) = self.read_bounds(group)? {
            found.push(damage);
            return Ok(());
        }
        let log = &self.logs[group];
        let (number, first, last) = (log.number, log.before.next(), log.last);
        let (mut next, mut stray) = (first, Vec::new());
        let (from, to) = (record_key(number, Index::ZERO), record_key(number, Index::MAX));
        for entry in self.engine.range_with_gaps(&self.engine.large, &from[..]..=&to[..]) {
            let (key, value) = entry?;
            let Some(index) = index_of(&key) else { continue };
            if index < first || index > last {
                stray.push(index);
                continue;
            }
            if index != next {
                found.push(self.missing(group, next, index.previous()));
            }
            if value.and_then(|value| unseal(&key, &value)).is_none() {
                found.push(self.broken(group, index));
            }
            next = index.next();
            if found.len() >= DAMAGES {
                return Ok(());
            }
        }
        if next <= last {
            found.push(self.missing(group, next, last));
        }
        // What a crash left of a removal. A damaged log stays as it is.
        if found.is_empty() { self.remove_each(number, stray) } else { Ok(()) }
    }

    /// Takes on a log's bounds, or says what is wrong with them.
    fn read_bounds(&mut self, group: usize) -> Result<Option<Damage>, Failure> {
        let key = bounds_key(self.logs[group].number);
        let Some(value) = self.engine.get(&self.engine.small, &key)? else { return Ok(None) };
        let bounds = unseal(&key, &value).and_then(|body| {
            let (before, last) = body.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*before), u64::from_be_bytes(*last.first_chunk()?)))
        });
        let Some((before, last)) = bounds.filter(|(before, last)| before <= last) else {
            let what =
                format!("the bounds of the log of {}: wrong checksum", self.logs[group].name);
            return Ok(Some(damage(self.engine.folder(), None, what)));
        };
        self.logs[group].before = Index::new(before);
        self.logs[group].last = Index::new(last);
        Ok(None)
    }

    /// Adds a record behind the last.
    pub(super) fn append(
        &mut self,
        group: usize,
        index: Index,
        record: &[u8],
    ) -> Result<(), Failure> {
        let log = &mut self.logs[group];
        if index != log.last.next() || index == log.last {
            let what = format!("record {index} for {}: expected {}", log.name, log.last.next());
            return Err(Failure::Io(damage(self.engine.folder(), None, what)));
        }
        log.last = index;
        log.changed = true;
        let key = record_key(log.number, index);
        let batch = self.pending.get_or_insert_with(|| self.engine.batch());
        batch.insert(&self.engine.large, key, seal(&key, &[], record));
        self.pending_bytes += record.len();
        Ok(())
    }

    /// Removes every record behind this one.
    pub(super) fn truncate(&mut self, group: usize, last: Index) -> Result<(), Failure> {
        let log = &self.logs[group];
        if last < log.before {
            let what = format!(
                "truncation of {} to {last}: the log begins behind {}",
                log.name, log.before
            );
            return Err(Failure::Io(damage(self.engine.folder(), None, what)));
        }
        let (number, before, behind) = (log.number, log.before, log.last);
        if last >= behind {
            return Ok(());
        }
        self.set_bounds(group, before, last)?;
        self.remove(number, last.next(), behind)
    }

    /// Removes every record up to this one, or all if there are fewer.
    pub(super) fn compact(&mut self, group: usize, through: Index) -> Result<(), Failure> {
        let log = &self.logs[group];
        let (number, before, last) = (log.number, log.before, log.last);
        let through = through.min(last);
        if through <= before {
            return Ok(());
        }
        self.set_bounds(group, through, last)?;
        self.remove(number, before.next(), through)
    }

    /// Removes every record; the next one has the place behind `last`.
    pub(super) fn reset(&mut self, group: usize, last: Index) -> Result<(), Failure> {
        let log = &self.logs[group];
        let (number, first, behind) = (log.number, log.before.next(), log.last);
        self.set_bounds(group, last, last)?;
        if first > behind {
            return Ok(());
        }
        self.remove(number, first, behind)
    }

    /// Records `first..=last`, as many as have room in `bytes` but at least one.
    pub(super) fn load(
        &mut self,
        group: usize,
        first: Index,
        last: Index,
        bytes: ByteCount,
    ) -> Result<Vec<Bytes>, Failure> {
        self.flush()?;
        let folder = self.engine.folder();
        guarded(folder, || self.read_records(group, first, last, bytes))
    }

    fn read_records(
        &self,
        group: usize,
        first: Index,
        last: Index,
        bytes: ByteCount,
    ) -> Result<Vec<Bytes>, Failure> {
        let log = &self.logs[group];
        if first <= log.before || last > log.last || first > last {
            let what = format!(
                "records {first} to {last} of {}: the log has those behind {} up to {}",
                log.name, log.before, log.last
            );
            return Err(Failure::Io(damage(self.engine.folder(), None, what)));
        }
        let (from, to) = (record_key(log.number, first), record_key(log.number, last));
        let (mut records, mut room, mut next) = (Vec::new(), bytes.get(), first);
        for entry in self.engine.range_with_gaps(&self.engine.large, &from[..]..=&to[..]) {
            let (key, value) = entry?;
            if key[..] != record_key(log.number, next) {
                break;
            }
            let Some(record) = value.and_then(|value| unseal(&key, &value)) else {
                // Those before it are good: the load that begins with it says that it is not.
                let broken = Failure::Damaged(self.broken(group, next));
                return if records.is_empty() { Err(broken) } else { Ok(records) };
            };
            let size = record.len() as u64;
            if size > room && !records.is_empty() {
                return Ok(records);
            }
            room = room.saturating_sub(size);
            records.push(record);
            next = next.next();
        }
        if next <= last && records.is_empty() {
            let what = format!("record {next} of {} is missing", log.name);
            return Err(Failure::Damaged(damage(self.engine.folder(), None, what)));
        }
        Ok(records)
    }

    /// Bytes that wait for [`sync`](Self::sync).
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Puts every change so far on disk.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.pending_bytes = 0;
        self.engine.sync()
    }

    /// Puts every change on disk, and an end behind them.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.engine.end()
    }

    /// Hands the engine what waits; loads see it then.
    fn flush(&mut self) -> Result<(), Failure> {
        let Some(mut batch) = self.pending.take() else { return Ok(()) };
        for log in self.logs.iter_mut().filter(|log| log.changed) {
            let key = bounds_key(log.number);
            batch.insert(&self.engine.small, key, bounds(&key, log.before, log.last));
            log.changed = false;
        }
        self.engine.commit(batch)
    }

    /// Moves the bounds in a batch of their own: a batch must not write one key twice.
    fn set_bounds(&mut self, group: usize, before: Index, last: Index) -> Result<(), Failure> {
        self.flush()?;
        let log = &mut self.logs[group];
        (log.before, log.last) = (before, last);
        let key = bounds_key(log.number);
        let mut batch = self.engine.batch();
        batch.insert(&self.engine.small, key, bounds(&key, before, last));
        self.engine.commit(batch)
    }

    fn remove(&mut self, number: u32, first: Index, last: Index) -> Result<(), Failure> {
        self.remove_each(number, (first.get()..=last.get()).map(Index::new))
    }

    fn remove_each(
        &mut self,
        number: u32,
        indexes: impl IntoIterator<Item = Index>,
    ) -> Result<(), Failure> {
        let mut indexes = indexes.into_iter().peekable();
        while indexes.peek().is_some() {
            let mut batch = self.engine.batch();
            for index in indexes.by_ref().take(REMOVE_AT_ONCE as usize) {
                batch.remove(&self.engine.large, record_key(number, index));
            }
            self.engine.commit(batch)?;
        }
        Ok(())
    }

    fn missing(&self, group: usize, first: Index, last: Index) -> Damage {
        let what = format!("records {first} to {last} of {} are missing", self.logs[group].name);
        damage(self.engine.folder(), None, what)
    }

    fn broken(&self, group: usize, index: Index) -> Damage {
        let what = format!("record {index} of {}: wrong checksum", self.logs[group].name);
        damage(self.engine.folder(), None, what)
    }
}

/// The groups' numbers on this disk, which stay when the configuration changes.
pub(super) fn read_numbers(engine: &Engine) -> Result<Numbers, Failure> {
    let mut known = Numbers::new();
    for entry in engine.range(&engine.small, &[GROUP][..]..=&[GROUP + 1][..]) {
        let (key, value) = entry?;
        let number =
            unseal(&key, &value).and_then(|body| Some(u32::from_be_bytes(*body.first_chunk()?)));
        let Some(number) = number else {
            let what = format!("the number of group {}: wrong checksum", key[1..].escape_ascii());
            return Err(Failure::Damaged(damage(engine.folder(), None, what)));
        };
        known.insert(key[1..].to_vec(), number);
    }
    Ok(known)
}

/// The groups' numbers: those that are known, and free ones.
pub(super) fn assign(groups: &[GroupName], known: &Numbers) -> Vec<u32> {
    let mut free = known.values().map(|number| number + 1).max().unwrap_or(0);
    let number = |name: &GroupName| match known.get(name.as_str().as_bytes()) {
        Some(number) => *number,
        None => {
            free += 1;
            free - 1
        }
    };
    groups.iter().map(number).collect()
}

/// Writes numbers of groups, synced.
pub(super) fn write_numbers<'a>(
    engine: &Engine,
    groups: impl Iterator<Item = (&'a GroupName, u32)>,
) -> Result<(), Failure> {
    let mut batch = engine.batch();
    for (name, number) in groups {
        let key = [&[GROUP], name.as_str().as_bytes()].concat();
        batch.insert(&engine.small, &key[..], seal(&key, &[], &number.to_be_bytes()));
    }
    if batch.is_empty() {
        return Ok(());
    }
    engine.commit(batch)?;
    engine.sync()
}

fn bounds(key: &[u8], before: Index, last: Index) -> Bytes {
    seal(key, &before.get().to_be_bytes(), &last.get().to_be_bytes())
}

fn record_key(group: u32, index: Index) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.to_be_bytes());
    key[4..].copy_from_slice(&index.get().to_be_bytes());
    key
}

fn bounds_key(group: u32) -> [u8; 5] {
    let mut key = [BOUNDS; 5];
    key[1..].copy_from_slice(&group.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> Option<Index> {
    Some(Index::new(u64::from_be_bytes(*key.get(4..)?.first_chunk()?)))
}
