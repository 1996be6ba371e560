//! One type per engine, all behind [`Engine`]: the log of many groups, one sync a commit.

use std::path::Path;

use fjall::PersistMode;
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use protobuf::well_known_types::BytesValue;
use raft_engine::{LogBatch, MessageExt, ReadableSize};
use redb::{Database as Redb, ReadableDatabase, TableDefinition};

type Any = Box<dyn std::error::Error>;

/// The log of many groups.
pub trait Engine {
    /// Appends one record to each of the groups `0..groups`, and syncs once.
    fn append(&mut self, groups: u32, index: u64, record: &[u8]) -> Result<(), Any>;
    /// Removes what lies behind `last` in one group, and syncs.
    fn truncate(&mut self, group: u32, last: u64, behind: u64) -> Result<(), Any>;
    /// Removes `from..=through` in one group, and syncs.
    fn compact(&mut self, group: u32, from: u64, through: u64) -> Result<(), Any>;
    /// Reads a record and the place of the last.
    fn read(&mut self, group: u32, index: u64) -> Result<(Option<Vec<u8>>, Option<u64>), Any>;
}

/// Opens the engine of this name in this folder.
pub fn open(name: &str, dir: &Path) -> Result<Box<dyn Engine>, Any> {
    Ok(match name {
        "file" => Box::new(File::open(dir)?),
        "fjall" => Box::new(Fjall::open(dir, PersistMode::SyncData, false, 64)?),
        "fjall-all" => Box::new(Fjall::open(dir, PersistMode::SyncAll, false, 64)?),
        "fjall-16" => Box::new(Fjall::open(dir, PersistMode::SyncData, false, 16)?),
        "fjall-blob" => Box::new(Fjall::open(dir, PersistMode::SyncData, true, 16)?),
        "redb" => {
            Box::new(Red(Redb::builder().set_cache_size(32 << 20).create(dir.join("log"))?))
        }
        "raft-engine" => Box::new(Raft::open(dir)?),
        other => return Err(format!("engine {other:?}: not among those measured").into()),
    })
}

fn key(group: u32, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

struct Fjall(Database, Keyspace, PersistMode);

impl Fjall {
    fn open(dir: &Path, mode: PersistMode, blobs: bool, memtable: u64) -> Result<Self, Any> {
        let db = Database::builder(dir)
            .cache_size(8 << 20)
            .worker_threads(1)
            .max_journaling_size(128 << 20)
            .journal_compression(CompressionType::None)
            .open()?;
        let none = CompressionType::None;
        let keyspace = db.keyspace("log", || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(none))
                .max_memtable_size(memtable << 20)
                .with_kv_separation(blobs.then(|| {
                    KvSeparationOptions::default().compression(none).separation_threshold(4096)
                }))
        })?;
        Ok(Self(db, keyspace, mode))
    }
}

impl Engine for Fjall {
    fn append(&mut self, groups: u32, index: u64, record: &[u8]) -> Result<(), Any> {
        let mut batch = self.0.batch().durability(Some(self.2));
        for group in 0..groups {
            batch.insert(&self.1, key(group, index), record);
        }
        Ok(batch.commit()?)
    }
    fn truncate(&mut self, group: u32, last: u64, behind: u64) -> Result<(), Any> {
        self.compact(group, last + 1, behind)
    }
    fn compact(&mut self, group: u32, from: u64, through: u64) -> Result<(), Any> {
        let mut batch = self.0.batch().durability(Some(self.2));
        for index in from..=through {
            batch.remove(&self.1, key(group, index));
        }
        Ok(batch.commit()?)
    }
    fn read(&mut self, group: u32, index: u64) -> Result<(Option<Vec<u8>>, Option<u64>), Any> {
        let record = self.1.get(key(group, index))?.map(|found| found.to_vec());
        let last = self.1.range(key(group, 0)..=key(group, u64::MAX)).next_back();
        let last = last.map(|found| found.key()).transpose()?;
        Ok((record, last.and_then(|k| Some(u64::from_be_bytes(k.get(4..)?.try_into().ok()?)))))
    }
}

const LOG: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("log");

struct Red(Redb);

impl Engine for Red {
    fn append(&mut self, groups: u32, index: u64, record: &[u8]) -> Result<(), Any> {
        let commit = self.0.begin_write()?;
        for group in 0..groups {
            commit.open_table(LOG)?.insert((group, index), record)?;
        }
        Ok(commit.commit()?)
    }
    fn truncate(&mut self, group: u32, last: u64, behind: u64) -> Result<(), Any> {
        self.compact(group, last + 1, behind)
    }
    fn compact(&mut self, group: u32, from: u64, through: u64) -> Result<(), Any> {
        let commit = self.0.begin_write()?;
        commit.open_table(LOG)?.retain_in((group, from)..=(group, through), |_, _| false)?;
        Ok(commit.commit()?)
    }
    fn read(&mut self, group: u32, index: u64) -> Result<(Option<Vec<u8>>, Option<u64>), Any> {
        let table = self.0.begin_read()?.open_table(LOG)?;
        let record = table.get((group, index))?.map(|found| found.value().to_vec());
        let last = table.range((group, 0)..=(group, u64::MAX))?.next_back().transpose()?;
        Ok((record, last.map(|(key, _)| key.value().1)))
    }
}

/// The index lies in the first eight bytes of the record.
struct Place;

impl MessageExt for Place {
    type Entry = BytesValue;
    fn index(entry: &BytesValue) -> u64 {
        u64::from_be_bytes(entry.value[..8].try_into().expect("a record has eight bytes"))
    }
}

struct Raft(raft_engine::Engine);

impl Raft {
    fn open(dir: &Path) -> Result<Self, Any> {
        let config = raft_engine::Config {
            dir: dir.display().to_string(),
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize::mb(64),
            purge_threshold: ReadableSize::mb(256),
            ..Default::default()
        };
        Ok(Self(raft_engine::Engine::open(config)?))
    }
}

impl Engine for Raft {
    fn append(&mut self, groups: u32, index: u64, record: &[u8]) -> Result<(), Any> {
        let mut batch = LogBatch::default();
        let mut entry = BytesValue::new();
        entry.value = [&index.to_be_bytes(), &record[8..]].concat();
        for group in 0..groups {
            batch.add_entries::<Place>(u64::from(group) + 1, std::slice::from_ref(&entry))?;
        }
        self.0.write(&mut batch, true)?;
        Ok(())
    }
    fn truncate(&mut self, group: u32, last: u64, _behind: u64) -> Result<(), Any> {
        // It truncates by overwriting; the record at `last` is written again.
        let (record, _) = self.read(group, last)?;
        let mut batch = LogBatch::default();
        let mut entry = BytesValue::new();
        entry.value = record.ok_or("a record is missing")?;
        batch.add_entries::<Place>(u64::from(group) + 1, &[entry])?;
        self.0.write(&mut batch, true)?;
        Ok(())
    }
    fn compact(&mut self, group: u32, _from: u64, through: u64) -> Result<(), Any> {
        self.0.compact_to(u64::from(group) + 1, through + 1);
        self.0.purge_expired_files()?;
        Ok(())
    }
    fn read(&mut self, group: u32, index: u64) -> Result<(Option<Vec<u8>>, Option<u64>), Any> {
        let group = u64::from(group) + 1;
        let record = self.0.get_entry::<Place>(group, index)?.map(|entry| entry.value);
        Ok((record, self.0.last_index(group)))
    }
}

/// No engine: one file, its blocks allocated ahead; the limit to come near.
struct File(std::fs::File, u64, u64);

impl File {
    fn open(dir: &Path) -> Result<Self, Any> {
        Ok(Self(std::fs::File::create(dir.join("log"))?, 0, 0))
    }
}

impl Engine for File {
    fn append(&mut self, groups: u32, _index: u64, record: &[u8]) -> Result<(), Any> {
        use std::os::unix::fs::FileExt;
        let mut batch = Vec::with_capacity((record.len() + 24) * groups as usize);
        for _ in 0..groups {
            batch.extend_from_slice(&[7; 24]);
            batch.extend_from_slice(record);
        }
        while self.1 + batch.len() as u64 > self.2 {
            self.0.write_all_at(&vec![0; 64 << 20], self.2)?;
            self.2 += 64 << 20;
        }
        self.0.write_all_at(&batch, self.1)?;
        self.1 += batch.len() as u64;
        Ok(self.0.sync_data()?)
    }
    fn truncate(&mut self, _group: u32, _last: u64, _behind: u64) -> Result<(), Any> {
        self.append(1, 0, &[0; 24])
    }
    fn compact(&mut self, _group: u32, _from: u64, _through: u64) -> Result<(), Any> {
        self.append(1, 0, &[0; 24])
    }
    fn read(&mut self, _group: u32, _index: u64) -> Result<(Option<Vec<u8>>, Option<u64>), Any> {
        Ok((None, None))
    }
}
