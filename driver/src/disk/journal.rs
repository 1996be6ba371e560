//! Looks through the engine's journals before the engine does.
//!
//! The engine ends its recovery at the first bytes that are no batch and cuts the file there,
//! silently; and it does not open at all if a batch has its end but not its middle, as a power
//! cut can leave it. The first would take back what was acknowledged when a bit flips; the
//! second would stop a node that lost nothing. So here is decided which of the two it is:
//! every batch carries the number of syncs before it, and a bad batch with one behind it that
//! was written after a further sync was whole once. That is damage, and nothing is touched. Any
//! other bad end was never reported as written, and is cut off.
//!
//! The journal's format is that of fjall 3 (`journal/entry.rs`): a start (1, count, sequence
//! number), items (2, …) and clears (4, keyspace), an end (3, XXH3 of what lies between, magic).
//! No sum covers the sequence number, by which the engine orders batches; so it must rise.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jetwake::event::Failure;
use xxhash_rust::xxh3::Xxh3;

use super::engine::sync_number;
use super::failure::{damage, from_io};

const MAGIC: &[u8; 4] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
static ZEROS: [u8; 4096] = [0; 4096];
/// Bytes read at once.
const READ: usize = 256 << 10;

/// Checks the journals in an engine's folder, and cuts off what a crash left half written.
///
/// # Errors
/// [`Failure::Damaged`] with the file and offset of the first bad batch.
pub(super) fn check(folder: &Path) -> Result<(), Failure> {
    let mut journals = journals(folder).map_err(|error| from_io(folder, &error))?;
    let newest = journals.pop();
    let mut before = None;
    for journal in journals {
        let end = walk(&journal, before).map_err(|error| from_io(&journal, &error))?;
        // The engine synced it before it began the next.
        if let Some(bad) = end.bad {
            return Err(Failure::Damaged(damage(&journal, Some(bad), "no whole batch")));
        }
        before = end.last;
    }
    let Some(journal) = newest else { return Ok(()) };
    let end = walk(&journal, before).map_err(|error| from_io(&journal, &error))?;
    let Some(bad) = end.bad else { return Ok(()) };
    let later = later_syncs(&journal, bad).map_err(|error| from_io(&journal, &error))?;
    if let Some((least, most)) = later {
        let at_most = end.last.map_or(least, |last| least.min(last.syncs + 1));
        if most > at_most {
            let what = "no whole batch, although one behind it is whole and was synced later";
            return Err(Failure::Damaged(damage(&journal, Some(bad), what)));
        }
    }
    cut(&journal, bad).map_err(|error| from_io(&journal, &error))
}

fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn cut(journal: &Path, at: u64) -> io::Result<()> {
    let file = File::options().write(true).open(journal)?;
    file.set_len(at)?;
    file.sync_all()
}

/// What a whole batch says of itself.
#[derive(Clone, Copy)]
struct Batch {
    sequence_number: u64,
    /// Syncs before it.
    syncs: u64,
}

/// Where a journal ends.
struct Ending {
    /// The last whole batch, of this journal or of those before it.
    last: Option<Batch>,
    /// Where something begins that is neither a whole batch nor the zeros of a fresh file.
    bad: Option<u64>,
}

fn walk(journal: &Path, mut last: Option<Batch>) -> io::Result<Ending> {
    let file = File::open(journal)?;
    let length = file.metadata()?.len();
    let mut batches = Batches { reader: BufReader::with_capacity(READ, file), left: length };
    loop {
        let at = length - batches.left;
        let rises =
            |next: &Batch| last.is_none_or(|last| last.sequence_number < next.sequence_number);
        match batches.next()?.filter(rises) {
            Some(next) => last = Some(next),
            None => {
                batches.reader.seek(SeekFrom::Start(at))?;
                let bad = (!only_zeros(&mut batches.reader)?).then_some(at);
                return Ok(Ending { last, bad });
            }
        }
    }
}

fn only_zeros(reader: &mut impl io::BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(true);
        }
        let read = bytes.len().min(ZEROS.len());
        if bytes[..read] != ZEROS[..read] {
            return Ok(false);
        }
        reader.consume(read);
    }
}

/// The least and the most syncs before the whole batches behind a bad one.
fn later_syncs(journal: &Path, bad: u64) -> io::Result<Option<(u64, u64)>> {
    let mut file = File::open(journal)?;
    file.seek(SeekFrom::Start(bad))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut range: Option<(u64, u64)> = None;
    let mut at = 0;
    // A batch begins where another ends; only an end has the magic.
    while let Some(found) = memchr::memmem::find(&bytes[at..], MAGIC) {
        at += found + MAGIC.len();
        let left = (bytes.len() - at) as u64;
        let mut batches = Batches { reader: &bytes[at..], left };
        if let Some(Batch { syncs, .. }) = batches.next()? {
            let (least, most) = range.unwrap_or((syncs, syncs));
            range = Some((least.min(syncs), most.max(syncs)));
        }
    }
    Ok(range)
}

/// Reads batches one after the other.
struct Batches<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Batches<R> {
    /// The next batch; none if what comes is not a whole batch.
    fn next(&mut self) -> io::Result<Option<Batch>> {
        match self.batch() {
            Ok(batch) => Ok(batch),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn batch(&mut self) -> io::Result<Option<Batch>> {
        let (mut hash, mut syncs) = (Xxh3::new(), None);
        let [START] = self.take()? else { return Ok(None) };
        let items = u32::from_le_bytes(self.take()?);
        let sequence_number = u64::from_le_bytes(self.take()?);
        for _ in 0..items {
            match self.take()? {
                [ITEM] => {
                    hash.update(&[ITEM]);
                    syncs = self.item(&mut hash)?.or(syncs);
                }
                [CLEAR] => {
                    let keyspace: [u8; 8] = self.take()?;
                    hash.update(&[CLEAR]);
                    hash.update(&keyspace);
                }
                _ => return Ok(None),
            }
        }
        let [END] = self.take()? else { return Ok(None) };
        let sum = u64::from_le_bytes(self.take()?);
        let magic: [u8; 4] = self.take()?;
        let whole = sum == hash.digest() && magic == *MAGIC;
        // Every batch that the driver writes has the number of syncs in it.
        Ok(syncs.filter(|_| whole).map(|syncs| Batch { sequence_number, syncs }))
    }

    fn item(&mut self, hash: &mut Xxh3) -> io::Result<Option<u64>> {
        // Kind and compression, keyspace, lengths of key, value, and value as it lies here.
        let head: [u8; 20] = self.take()?;
        hash.update(&head);
        let key = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let value = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
        let key = self.bytes(key as u64)?;
        hash.update(&key);
        let value = self.bytes(u64::from(value))?;
        hash.update(&value);
        Ok(sync_number(&key, value))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.left = self.left.saturating_sub(N as u64);
        Ok(bytes)
    }

    /// Takes no memory for what the file is too short for.
    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.left -= length;
        Ok(bytes)
    }
}
