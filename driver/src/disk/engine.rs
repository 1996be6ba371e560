//! The two databases of a node, and the settings that keep them small.
//!
//! The log's is synced at every commit, the store's only when that is asked for; apart, the sync
//! of one does not carry the bytes of the other. `docs/decisions.md` has the figures.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use fjall::{OwnedWriteBatch, PersistMode};
use jetwake::event::Failure;

use super::failure::{damage, from_engine};
use super::journal;

/// Bytes of a memtable; at most five are in memory while the engine falls behind.
const MEMTABLE: u64 = 16 << 20;
/// Bytes of small values that wait in memory.
const SMALL_MEMTABLE: u64 = 4 << 20;
/// Bytes of blocks read that are kept.
const CACHE: u64 = 8 << 20;
/// Bytes of journals before the engine writes out what pins the oldest.
const JOURNALS: u64 = 64 << 20;
/// Values from this size on are written to files of their own once, and not again when the
/// engine merges its tables.
const SEPARATE: u32 = 1024;

/// The key, in the small keyspace, of the number of syncs before a batch.
const SYNCS: &[u8] = b"s";

/// One database: large values in one keyspace, small ones in another.
pub(super) struct Engine {
    folder: PathBuf,
    database: Database,
    /// Records or blocks.
    pub(super) large: Keyspace,
    /// Bounds, tables and marks.
    pub(super) small: Keyspace,
    /// Syncs so far; every batch carries the number, see [`journal`].
    syncs: Cell<u64>,
    unsynced: Cell<bool>,
}

impl Engine {
    /// Opens the database in a folder, and makes it if it is not there.
    ///
    /// What it holds is on disk when this returns: a process that was killed may have left what
    /// the system had not yet written.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        if folder.join("version").exists() {
            journal::check(folder)?;
        }
        let (database, large, small) = guarded(folder, || {
            Self::databases(folder).map_err(|error| from_engine(folder, &error))
        })?;
        let folder = folder.to_owned();
        let this =
            Self { folder, database, large, small, syncs: Cell::new(0), unsynced: Cell::new(true) };
        let syncs = this.get(&this.small, SYNCS)?.and_then(|value| sync_number(SYNCS, value));
        this.syncs.set(syncs.map_or(0, |syncs| syncs + 1));
        this.end()?;
        Ok(this)
    }

    fn databases(folder: &Path) -> fjall::Result<(Database, Keyspace, Keyspace)> {
        let database = Database::builder(folder)
            .cache_size(CACHE)
            .worker_threads(1)
            .max_journaling_size(JOURNALS)
            .journal_compression(CompressionType::None)
            .open()?;
        let large = database.keyspace("large", || {
            let separate = KvSeparationOptions::default()
                .compression(CompressionType::None)
                .separation_threshold(SEPARATE);
            options(MEMTABLE).with_kv_separation(Some(separate))
        })?;
        let small = database.keyspace("small", || options(SMALL_MEMTABLE))?;
        Ok((database, large, small))
    }

    /// Syncs, and puts a batch behind all that there is: if anything before it goes bad, that is
    /// told from a write that a crash cut short.
    pub(super) fn end(&self) -> Result<(), Failure> {
        self.sync()?;
        self.commit(self.batch())?;
        self.sync()
    }

    /// A set of changes that is performed as a whole or not at all.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Performs a batch; reads see it, a power cut may take it.
    pub(super) fn commit(&self, mut batch: OwnedWriteBatch) -> Result<(), Failure> {
        batch.insert(&self.small, SYNCS, seal(SYNCS, &[], &self.syncs.get().to_be_bytes()));
        self.unsynced.set(true);
        batch.commit().map_err(|error| self.failure(&error))
    }

    /// Makes every batch so far survive a power cut.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        if self.unsynced.get() {
            self.database.persist(PersistMode::SyncData).map_err(|error| self.failure(&error))?;
            self.unsynced.set(false);
            self.syncs.set(self.syncs.get() + 1);
        }
        Ok(())
    }

    /// The value at a key.
    pub(super) fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>, Failure> {
        let found = keyspace.get(key).map_err(|error| self.failure(&error))?;
        Ok(found.map(Bytes::from))
    }

    /// The keys and values of a range, in order.
    pub(super) fn range<'a>(
        &'a self,
        keyspace: &Keyspace,
        range: std::ops::RangeInclusive<&'a [u8]>,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), Failure>> + use<'a> {
        keyspace.range(range).map(|found| match found.into_inner() {
            Ok((key, value)) => Ok((Bytes::from(key), Bytes::from(value))),
            Err(error) => Err(self.failure(&error)),
        })
    }

    /// The same, with nothing for a value in a file of its own that is not what was written.
    pub(super) fn range_with_gaps<'a>(
        &'a self,
        keyspace: &Keyspace,
        range: std::ops::RangeInclusive<&'a [u8]>,
    ) -> impl Iterator<Item = Result<(Bytes, Option<Bytes>), Failure>> + use<'a> {
        keyspace.range(range).map(|found| {
            let seen = RefCell::new(None);
            let found = found.into_inner_if(|key| seen.replace(Some(key.clone())).is_none());
            match found {
                Ok((key, value)) => Ok((Bytes::from(key), value.map(Bytes::from))),
                Err(error) => match (seen.take(), self.failure(&error)) {
                    (Some(key), Failure::Damaged(_)) => Ok((Bytes::from(key), None)),
                    (_, failure) => Err(failure),
                },
            }
        })
    }

    /// Reads every table of a keyspace, but not the values in files of their own.
    pub(super) fn check_tables(&self, keyspace: &Keyspace) -> Result<(), Failure> {
        keyspace
            .iter()
            .try_for_each(|found| found.key().map(drop).map_err(|error| self.failure(&error)))
    }

    fn failure(&self, error: &fjall::Error) -> Failure {
        from_engine(&self.folder, error)
    }

    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Does something with what lies in a folder: the engine asserts what a damaged file may break.
pub(super) fn guarded<T>(
    folder: &Path,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Whoever gets the failure relies on nothing that the work may have left half done.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let what = "the engine gave up on its files; it says more on standard error";
        Err(Failure::Damaged(damage(folder, None, what)))
    })
}

fn options(memtable: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .max_memtable_size(memtable)
}

/// Puts a checksum before a value; it covers the key too, so that a value under a wrong key does
/// not pass.
pub(super) fn seal(key: &[u8], head: &[u8], body: &[u8]) -> Bytes {
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), head);
    let mut value = BytesMut::with_capacity(4 + head.len() + body.len());
    value.put_u32_le(crc32c::crc32c_append(sum, body));
    value.put_slice(head);
    value.put_slice(body);
    value.freeze()
}

/// Takes the checksum off; none if it is not that of the key and value.
pub(super) fn unseal(key: &[u8], value: &Bytes) -> Option<Bytes> {
    let sum = u32::from_le_bytes(*value.first_chunk()?);
    let body = value.slice(4..);
    (crc32c::crc32c_append(crc32c::crc32c(key), &body) == sum).then_some(body)
}

/// The number of syncs before a batch, if this is the item of a batch that says so.
pub(super) fn sync_number(key: &[u8], value: impl Into<Bytes>) -> Option<u64> {
    if key != SYNCS {
        return None;
    }
    unseal(key, &value.into()).and_then(|body| Some(u64::from_be_bytes(*body.first_chunk()?)))
}
