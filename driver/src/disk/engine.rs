//! The two databases of a node, and the settings that keep them small.
//!
//! The log's is synced at every commit, the store's only when that is asked for; apart, the sync
//! of one does not carry the bytes of the other. `docs/decisions.md` has the figures.

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use fjall::{OwnedWriteBatch, PersistMode};
use jetwake::event::Failure;

use super::failure::from_engine;

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

/// One database: large values in one keyspace, small ones in another.
pub(super) struct Engine {
    folder: PathBuf,
    database: Database,
    /// Records or blocks.
    pub(super) large: Keyspace,
    /// Bounds, tables and marks.
    pub(super) small: Keyspace,
}

impl Engine {
    /// Opens the database in a folder, and makes it if it is not there.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let open = || {
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
            Ok(Self { folder: folder.to_owned(), database, large, small })
        };
        open().map_err(|error| from_engine(folder, &error))
    }

    /// A set of changes that is performed as a whole or not at all.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Performs a batch; reads see it, a power cut may take it.
    pub(super) fn commit(&self, batch: OwnedWriteBatch) -> Result<(), Failure> {
        batch.commit().map_err(|error| self.failure(&error))
    }

    /// Makes every batch so far survive a power cut.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.database.persist(PersistMode::SyncData).map_err(|error| self.failure(&error))
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

    fn failure(&self, error: &fjall::Error) -> Failure {
        from_engine(&self.folder, error)
    }

    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
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
