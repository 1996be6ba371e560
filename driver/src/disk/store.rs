//! The bodies of all streams' messages, in one database, as blocks.
//!
//! A block is written in one piece, as it came; in memory it is a few numbers. A removed message
//! is a bit beside its block, and a block with less than half of its messages left is written
//! anew. Every change and its mark are one batch: both are there after a crash, or neither.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use fjall::OwnedWriteBatch;
use jetwake::command::{Mend, Place, StoreChange};
use jetwake::event::{Damage, Failure, LostMessages, StoreMark, StoredMessage};
use jetwake::ids::{ByteCount, GroupName, Index, Sequence, Term};

use super::block::{BadPlace, Block, Table, cut};
use super::engine::{Engine, guarded, seal, unseal};
use super::failure::{damage, into_damage};
use super::log::{Numbers, read_numbers, write_numbers};
use super::removed::Removed;

/// Blocks written anew in one change; what is left waits for the next removal.
const REWRITES: usize = 32;
/// Damages named for one group; more of them help nobody.
const DAMAGES: usize = 16;
/// First byte of the keys of small values.
const MARK: u8 = b'm';
const REMOVED: u8 = b'r';
const TABLE: u8 = b't';
const ONLY_ADDS: u8 = b'a';
/// The bit of a mark's count of entries which says that the store only added: a record has fewer.
const ONLY_ADDED: u32 = 1 << 31;

/// All stores of a node.
pub(super) struct Stores {
    engine: Engine,
    stores: Vec<Store>,
    numbers: Numbers,
    /// The block read last: small reads in a row take it apart.
    recent: Option<(usize, Sequence, Arc<Block>)>,
}

/// One stream's store.
struct Store {
    number: u32,
    name: GroupName,
    /// Blocks by their first sequence.
    blocks: BTreeMap<Sequence, Summary>,
    /// The last message that was added.
    last: Sequence,
    /// Whether it remembers up to what it only adds.
    only_adds: bool,
}

/// What is kept in memory of a block.
struct Summary {
    last: Sequence,
    count: u32,
    removed: Removed,
    /// Whether nobody knows which messages it has: they are lost.
    unreadable: bool,
}

/// How far a store has got, up to what it only adds, and what is wrong with it.
pub(super) type StoreFound = (Option<StoreMark>, Option<Bytes>, Vec<Damage>);

/// Why messages cannot be read.
pub(super) enum ReadFailure {
    /// These are lost.
    Lost(LostMessages),
    /// Anything else.
    Other(Failure),
}

impl From<Failure> for ReadFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl Summary {
    fn of(block: &Block) -> Self {
        let last = block.places.last().map_or(Sequence::ZERO, |place| place.sequence);
        let count = block.places.len() as u32;
        Self { last, count, removed: Removed::default(), unreadable: false }
    }

    fn live(&self) -> u32 {
        self.count.saturating_sub(self.removed.count())
    }
}

impl Stores {
    /// Opens the database.
    pub(super) fn open(folder: PathBuf) -> Result<Self, Failure> {
        let engine = Engine::open(&folder)?;
        let numbers = guarded(&folder, || {
            // A table that cannot be read stops the engine once it merges it.
            engine.check_tables(&engine.large)?;
            read_numbers(&engine)
        })?;
        Ok(Self { engine, stores: Vec::new(), numbers, recent: None })
    }

    /// The groups that it has seen. The log has the same, and could be lost.
    pub(super) const fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Takes on the groups, each with its number on this disk.
    pub(super) fn begin(&mut self, groups: &[(u32, GroupName)]) -> Result<(), Failure> {
        let store = |(number, name): &(u32, GroupName)| Store {
            number: *number,
            name: name.clone(),
            blocks: BTreeMap::new(),
            last: Sequence::ZERO,
            only_adds: false,
        };
        self.stores = groups.iter().map(store).collect();
        let new =
            groups.iter().filter(|(_, name)| !self.numbers.contains_key(name.as_str().as_bytes()));
        write_numbers(&self.engine, new.map(|(number, name)| (name, *number)))
    }

    /// Reads the mark and the tables of a group, and says what is wrong with them.
    ///
    /// # Errors
    /// If the database itself cannot be relied on.
    pub(super) fn check(&mut self, group: usize) -> Result<StoreFound, Failure> {
        let mut found = Vec::new();
        let folder = self.engine.folder().to_owned();
        let (mark, only_adds) = guarded(&folder, || {
            let mark = self.read_mark(group, &mut found)?;
            let only_added = mark.as_ref().is_some_and(|mark| mark.only_added);
            let only_adds = if only_added { self.read_only_adds(group, &mut found)? } else { None };
            self.read_tables(group, mark.as_ref(), &mut found)?;
            Ok((mark, only_adds))
        })?;
        Ok((mark, only_adds, found))
    }

    fn read_only_adds(
        &mut self,
        group: usize,
        found: &mut Vec<Damage>,
    ) -> Result<Option<Bytes>, Failure> {
        let key = group_key(ONLY_ADDS, self.stores[group].number);
        let value = self.engine.get(&self.engine.small, &key)?;
        self.stores[group].only_adds = value.is_some();
        let until = value.and_then(|value| unseal(&key, &value));
        if until.is_none() {
            found.push(into_damage(self.broken(group, "until when it only adds: wrong checksum")));
        }
        Ok(until)
    }

    fn read_mark(
        &self,
        group: usize,
        found: &mut Vec<Damage>,
    ) -> Result<Option<StoreMark>, Failure> {
        let key = group_key(MARK, self.stores[group].number);
        let Some(value) = self.engine.get(&self.engine.small, &key)? else { return Ok(None) };
        let mark = unseal(&key, &value).and_then(|body| decode_mark(&body));
        if mark.is_none() {
            found.push(into_damage(self.broken(group, "its mark: wrong checksum")));
        }
        Ok(mark)
    }

    fn read_tables(
        &mut self,
        group: usize,
        mark: Option<&StoreMark>,
        found: &mut Vec<Damage>,
    ) -> Result<(), Failure> {
        let mut blocks = BTreeMap::new();
        for entry in self.all(group, TABLE) {
            let (first, key, value) = entry?;
            if let Some(table) = Table::decode(&key, first, &value) {
                let last = table.places.last().map_or(first, |place| place.sequence);
                let count = table.places.len() as u32;
                let removed = Removed::default();
                blocks.insert(first, Summary { last, count, removed, unreadable: false });
            } else {
                // It reaches up to the next at most; reads say that it is lost.
                let last = Sequence::ZERO;
                let removed = Removed::default();
                blocks.insert(first, Summary { last, count: 0, removed, unreadable: true });
                if found.len() < DAMAGES {
                    let what = format!("the table of messages from {first}: wrong checksum");
                    found.push(into_damage(self.broken(group, &what)));
                }
            }
        }
        for entry in self.all(group, REMOVED) {
            let (first, key, value) = entry?;
            let Some(block) = blocks.get_mut(&first) else { continue };
            let removed = unseal(&key, &value).and_then(|body| Removed::decode(&body, block.count));
            if let Some(removed) = removed {
                block.removed = removed;
            } else {
                block.unreadable = true;
                if found.len() < DAMAGES {
                    let what = format!("the removals among messages from {first}: wrong checksum");
                    found.push(into_damage(self.broken(group, &what)));
                }
            }
        }
        let store = &mut self.stores[group];
        let mut behind = mark.map(|mark| mark.last.next());
        for (first, block) in blocks.iter_mut().rev() {
            if block.last == Sequence::ZERO {
                block.last = behind.map_or(*first, Sequence::previous).max(*first);
            }
            behind = Some(*first);
        }
        store.last = blocks.values().map(|block| block.last).max().unwrap_or_default();
        store.blocks = blocks;
        Ok(())
    }

    /// The group's small values of one kind.
    fn all(
        &self,
        group: usize,
        kind: u8,
    ) -> impl Iterator<Item = Result<(Sequence, Bytes, Bytes), Failure>> {
        let number = self.stores[group].number;
        let (from, to) =
            (small_key(kind, number, Sequence::ZERO), small_key(kind, number, Sequence::MAX));
        let entries: Vec<_> = self.engine.range(&self.engine.small, &from[..]..=&to[..]).collect();
        entries.into_iter().map(|entry| {
            let (key, value) = entry?;
            let first = key.last_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            Ok((Sequence::new(first), key, value))
        })
    }

    /// Performs a change and moves the mark, in one piece.
    pub(super) fn apply(
        &mut self,
        group: usize,
        change: StoreChange,
        mark: &StoreMark,
    ) -> Result<(), Failure> {
        let mut batch = self.engine.batch();
        match change {
            StoreChange::Messages { block, places } => {
                self.add_all(group, &block, &places, &mut batch)?;
            }
            StoreChange::Exchange(exchange) => {
                self.remove(group, &exchange.removed, &mut batch)?;
                self.add_all(group, &exchange.block, &exchange.places, &mut batch)?;
            }
            StoreChange::Remove(ranges) => self.remove(group, &ranges, &mut batch)?,
            StoreChange::Mend(mend) => self.mend(group, &mend, &mut batch)?,
            StoreChange::Clear => {
                for first in std::mem::take(&mut self.stores[group].blocks).into_keys() {
                    self.drop_block(group, first, &mut batch);
                }
                self.stores[group].last = Sequence::ZERO;
                self.recent = None;
            }
            StoreChange::Mark => {}
            StoreChange::OnlyAdds(until) => {
                let key = group_key(ONLY_ADDS, self.stores[group].number);
                batch.insert(&self.engine.small, key, seal(&key, &[], &until));
                self.stores[group].only_adds = true;
            }
            other => {
                let what = format!("a change that this disk does not know: {other:?}");
                return Err(self.refused(group, &what));
            }
        }
        if !mark.only_added && core::mem::take(&mut self.stores[group].only_adds) {
            batch.remove(&self.engine.small, group_key(ONLY_ADDS, self.stores[group].number));
        }
        let key = group_key(MARK, self.stores[group].number);
        batch.insert(&self.engine.small, key, encode_mark(&key, mark));
        self.engine.commit(batch)
    }

    fn add_all(
        &mut self,
        group: usize,
        block: &Bytes,
        places: &[Place],
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), Failure> {
        let blocks = cut(block, places, self.stores[group].last)
            .map_err(|BadPlace(what)| self.refused(group, &what))?;
        for block in blocks {
            self.add(group, &block, batch);
        }
        Ok(())
    }

    /// Puts messages in the place of lost ones.
    fn mend(
        &mut self,
        group: usize,
        mend: &Mend,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), Failure> {
        let blocks = cut(&mend.block, &mend.places, mend.first.previous())
            .map_err(|BadPlace(what)| self.refused(group, &what))?;
        let beyond = mend.places.last().is_some_and(|place| place.sequence > mend.last);
        let lost = self.overlapping(group, mend.first, mend.last);
        let reaches_in = |first: &Sequence| {
            let known = &self.stores[group].blocks;
            *first < mend.first || known.get(first).is_some_and(|block| block.last > mend.last)
        };
        if beyond || lost.iter().any(reaches_in) {
            let what = format!("messages {} to {}: not whole blocks", mend.first, mend.last);
            return Err(self.refused(group, &what));
        }
        for first in lost {
            self.stores[group].blocks.remove(&first);
            self.forget(group, first);
            if blocks.iter().any(|block| block.first() == first) {
                // One batch must not write a key twice: the block is overwritten, its removals go.
                let key = small_key(REMOVED, self.stores[group].number, first);
                batch.remove(&self.engine.small, key);
            } else {
                self.drop_block(group, first, batch);
            }
        }
        for block in &blocks {
            self.add(group, block, batch);
        }
        Ok(())
    }

    fn add(&mut self, group: usize, block: &Block, batch: &mut OwnedWriteBatch) {
        let store = &mut self.stores[group];
        let first = block.first();
        let key = small_key(TABLE, store.number, first);
        batch.insert(&self.engine.small, key, block.table(&key));
        batch.insert(&self.engine.large, large_key(store.number, first), block.bytes.clone());
        let summary = Summary::of(block);
        store.last = store.last.max(summary.last);
        store.blocks.insert(first, summary);
    }

    fn drop_block(&self, group: usize, first: Sequence, batch: &mut OwnedWriteBatch) {
        let number = self.stores[group].number;
        batch.remove(&self.engine.small, small_key(TABLE, number, first));
        batch.remove(&self.engine.small, small_key(REMOVED, number, first));
        batch.remove(&self.engine.large, large_key(number, first));
    }

    fn remove(
        &mut self,
        group: usize,
        ranges: &[(Sequence, Sequence)],
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), Failure> {
        let mut touched = BTreeSet::new();
        for (from, to) in ranges.iter().filter(|(from, to)| from <= to) {
            for first in self.overlapping(group, *from, *to) {
                let (low, high) = self.positions(group, first, *from, *to)?;
                if let Some(block) = self.stores[group].blocks.get_mut(&first) {
                    block.removed.set(low, high, block.count);
                    touched.insert(first);
                }
            }
        }
        let mut rewrites = 0;
        for first in touched {
            let Some(block) = self.stores[group].blocks.get(&first) else { continue };
            if block.live() == 0 {
                self.stores[group].blocks.remove(&first);
                self.drop_block(group, first, batch);
                self.forget(group, first);
            } else if block.live() * 2 < block.count && rewrites < REWRITES {
                rewrites += 1;
                match self.rewrite(group, first, batch) {
                    // It stays as it is: reads say that it is lost.
                    Err(Failure::Damaged(_)) => self.write_removed(group, first, batch),
                    done => done?,
                }
            } else {
                self.write_removed(group, first, batch);
            }
        }
        Ok(())
    }

    fn write_removed(&self, group: usize, first: Sequence, batch: &mut OwnedWriteBatch) {
        let store = &self.stores[group];
        if let Some(block) = store.blocks.get(&first) {
            let key = small_key(REMOVED, store.number, first);
            batch.insert(&self.engine.small, key, seal(&key, &[], &block.removed.encode()));
        }
    }

    /// Puts what is left of a block in its place.
    fn rewrite(
        &mut self,
        group: usize,
        first: Sequence,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), Failure> {
        let block = self.block(group, first)?;
        let Some(summary) = self.stores[group].blocks.remove(&first) else { return Ok(()) };
        let left = block.only(|at| !summary.removed.contains(at));
        self.forget(group, first);
        if left.first() == first {
            // One batch must not write a key twice: the block is overwritten, its removals go.
            let key = small_key(REMOVED, self.stores[group].number, first);
            batch.remove(&self.engine.small, key);
        } else {
            self.drop_block(group, first, batch);
        }
        self.add(group, &left, batch);
        Ok(())
    }

    /// The first sequences of blocks that may hold messages of `from..=to`.
    fn overlapping(&self, group: usize, from: Sequence, to: Sequence) -> Vec<Sequence> {
        let blocks = &self.stores[group].blocks;
        let start = blocks.range(..=from).next_back().map_or(from, |(first, _)| *first);
        let found = blocks.range(start..=to).filter(|(_, block)| block.last >= from);
        found.map(|(first, _)| *first).collect()
    }

    /// Which messages of a block lie in `from..=to`: from the one place up to before the other.
    fn positions(
        &mut self,
        group: usize,
        first: Sequence,
        from: Sequence,
        to: Sequence,
    ) -> Result<(u32, u32), Failure> {
        let Some(block) = self.stores[group].blocks.get(&first) else { return Ok((0, 0)) };
        if from <= first && block.last <= to {
            return Ok((0, block.count));
        }
        if block.last.since(first) + 1 == u64::from(block.count) {
            let high = to.min(block.last).since(first) + 1;
            return Ok((from.since(first) as u32, high as u32));
        }
        let places = self.table(group, first)?.places;
        let low = places.partition_point(|place| place.sequence < from);
        let high = places.partition_point(|place| place.sequence <= to);
        Ok((low as u32, high as u32))
    }

    /// Messages `first..=last`, and the first that the bounds left out.
    pub(super) fn read(
        &mut self,
        group: usize,
        first: Sequence,
        last: Sequence,
        most: usize,
        bytes: ByteCount,
    ) -> Result<(Vec<StoredMessage>, Option<Sequence>), ReadFailure> {
        let folder = self.engine.folder().to_owned();
        let (mut messages, mut room) = (Vec::new(), bytes.get());
        if first > last {
            return Ok((messages, None));
        }
        // Blocks are found one by one: a read that stops early costs what it gives.
        let mut from = first;
        while let Some(begin) = self.next_block(group, from, last) {
            let block = guarded(&folder, || self.block(group, begin));
            let Some(summary) = self.stores[group].blocks.get(&begin) else { break };
            let block = match block {
                Ok(block) => block,
                // Those before it are good: the read that begins with it says that it is lost.
                Err(Failure::Damaged(_)) if !messages.is_empty() => {
                    return Ok((messages, Some(from.max(begin))));
                }
                Err(Failure::Damaged(damage)) => {
                    let count = (!summary.unreadable).then(|| u64::from(summary.live()));
                    let (first, last) = (begin, summary.last);
                    return Err(ReadFailure::Lost(LostMessages { first, last, count, damage }));
                }
                Err(failure) => return Err(failure.into()),
            };
            let low = block.places.partition_point(|place| place.sequence < from);
            for (at, place) in block.places.iter().enumerate().skip(low) {
                if place.sequence > last {
                    break;
                }
                if summary.removed.contains(at) {
                    continue;
                }
                let size = u64::from(place.length);
                if messages.len() >= most || (size > room && !messages.is_empty()) {
                    return Ok((messages, Some(place.sequence)));
                }
                room = room.saturating_sub(size);
                let record = block.message(place);
                messages.push(StoredMessage { sequence: place.sequence, record });
            }
            if summary.last >= last {
                break;
            }
            from = summary.last.next();
        }
        Ok((messages, None))
    }

    fn next_block(&self, group: usize, from: Sequence, last: Sequence) -> Option<Sequence> {
        let blocks = &self.stores[group].blocks;
        let around = blocks.range(..=from).next_back().filter(|(_, block)| block.last >= from);
        around.or_else(|| blocks.range(from..=last).next()).map(|(first, _)| *first)
    }

    fn table(&self, group: usize, first: Sequence) -> Result<Table, Failure> {
        let key = small_key(TABLE, self.stores[group].number, first);
        let value = self.engine.get(&self.engine.small, &key)?;
        value.and_then(|value| Table::decode(&key, first, &value)).ok_or_else(|| {
            self.broken(group, &format!("the table of messages from {first}: wrong checksum"))
        })
    }

    fn block(&mut self, group: usize, first: Sequence) -> Result<Arc<Block>, Failure> {
        if let Some((of, at, block)) = &self.recent
            && (*of, *at) == (group, first)
        {
            return Ok(block.clone());
        }
        if self.stores[group].blocks.get(&first).is_some_and(|block| block.unreadable) {
            let what = format!("the messages from {first}: nobody knows which there are");
            return Err(self.broken(group, &what));
        }
        let table = self.table(group, first)?;
        let key = large_key(self.stores[group].number, first);
        let bytes = match self.engine.get(&self.engine.large, &key) {
            // The engine's own sum says the same, but not of which messages.
            Err(Failure::Damaged(_)) => None,
            bytes => bytes?,
        };
        let block = bytes.and_then(|bytes| table.join(bytes)).ok_or_else(|| {
            self.broken(group, &format!("the messages from {first}: wrong checksum"))
        })?;
        let block = Arc::new(block);
        self.recent = Some((group, first, block.clone()));
        Ok(block)
    }

    fn forget(&mut self, group: usize, first: Sequence) {
        self.recent = self.recent.take().filter(|(of, at, _)| (*of, *at) != (group, first));
    }

    /// Makes every change so far survive a power cut.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.engine.sync()
    }

    /// Does the same, and puts an end behind the changes.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.engine.end()
    }

    fn broken(&self, group: usize, what: &str) -> Failure {
        let what = format!("store of {}: {what}", self.stores[group].name);
        Failure::Damaged(damage(self.engine.folder(), None, what))
    }

    fn refused(&self, group: usize, what: &str) -> Failure {
        let what = format!("store of {}: {what}", self.stores[group].name);
        Failure::Io(damage(self.engine.folder(), None, what))
    }
}

fn encode_mark(key: &[u8], mark: &StoreMark) -> Bytes {
    let mut body = BytesMut::with_capacity(44);
    for number in
        [mark.applied.get(), mark.term.get(), mark.first.get(), mark.last.get(), mark.failed]
    {
        body.put_u64_le(number);
    }
    body.put_u32_le(mark.entries | if mark.only_added { ONLY_ADDED } else { 0 });
    seal(key, &[], &body)
}

fn decode_mark(body: &[u8]) -> Option<StoreMark> {
    let (numbers, rest) = body.as_chunks::<8>();
    let [applied, term, first, last, failed] = *numbers.first_chunk()?;
    let entries = u32::from_le_bytes(*rest.first_chunk()?);
    Some(StoreMark {
        applied: Index::new(u64::from_le_bytes(applied)),
        term: Term::new(u64::from_le_bytes(term)),
        entries: entries & !ONLY_ADDED,
        only_added: entries & ONLY_ADDED != 0,
        first: Sequence::new(u64::from_le_bytes(first)),
        last: Sequence::new(u64::from_le_bytes(last)),
        failed: u64::from_le_bytes(failed),
    })
}

fn group_key(kind: u8, group: u32) -> [u8; 5] {
    let mut key = [kind; 5];
    key[1..].copy_from_slice(&group.to_be_bytes());
    key
}

fn small_key(kind: u8, group: u32, first: Sequence) -> [u8; 13] {
    let mut key = [kind; 13];
    key[1..].copy_from_slice(&large_key(group, first));
    key
}

fn large_key(group: u32, first: Sequence) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.to_be_bytes());
    key[4..].copy_from_slice(&first.get().to_be_bytes());
    key
}
