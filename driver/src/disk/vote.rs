//! A group's term and vote: two checksummed slots in one small file.
//!
//! A write goes to the older slot and is synced, then to the other, and is synced again. A torn
//! write leaves the slot that was not being written; and once a write was reported, no one bad
//! slot can bring an older vote back, which would let a node vote twice in a term.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jetwake::event::{Damage, TermAndVote};
use jetwake::ids::{PeerId, Term};

use super::failure::damage;
use super::folder::sync_folder;

const MAGIC: &[u8; 8] = b"jwvote1\n";
/// Magic, generation, term, vote, checksum.
const SLOT: usize = 36;
/// The slots lie in different pages, so that no write touches both.
const SLOTS: [u64; 2] = [0, 4096];

/// The open file of one group.
#[derive(Debug)]
pub(super) struct VoteFile {
    path: PathBuf,
    group: String,
    file: Option<File>,
    generation: u64,
    /// The slot to write first.
    older: usize,
}

/// What a slot holds.
enum Slot {
    Empty,
    Bad,
    Good { generation: u64, vote: TermAndVote },
}

impl VoteFile {
    /// Reads the file, if there is one. The vote is that of the newer good slot.
    pub(super) fn open(path: PathBuf, group: &str) -> (Self, Option<TermAndVote>, Option<Damage>) {
        let mut this = Self { path, group: group.into(), file: None, generation: 0, older: 0 };
        let mut bytes = Vec::new();
        let most = SLOTS[1] + SLOT as u64;
        match File::options().read(true).write(true).open(&this.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (this, None, None),
            Err(error) => {
                let found = damage(&this.path, None, error.to_string());
                return (this, None, Some(found));
            }
            Ok(file) => {
                if let Err(error) = (&file).take(most).read_to_end(&mut bytes) {
                    let found = damage(&this.path, None, error.to_string());
                    return (this, None, Some(found));
                }
                this.file = Some(file);
            }
        }
        // A process that was killed may have left a slot that the system had not yet written.
        if let Some(Err(error)) = this.file.as_ref().map(File::sync_all) {
            let found = damage(&this.path, None, error.to_string());
            return (this, None, Some(found));
        }
        this.choose(&bytes)
    }

    fn choose(mut self, bytes: &[u8]) -> (Self, Option<TermAndVote>, Option<Damage>) {
        let mut best: Option<(u64, TermAndVote)> = None;
        let mut bad = None;
        for (place, start) in SLOTS.into_iter().enumerate() {
            match self.slot(bytes, start as usize) {
                Slot::Good { generation, vote } => {
                    if best.is_none_or(|(newest, _)| generation > newest) {
                        best = Some((generation, vote));
                        self.generation = generation;
                        self.older = 1 - place;
                    }
                }
                Slot::Bad => bad = bad.or(Some(start)),
                Slot::Empty => {}
            }
        }
        match (best, bad) {
            (Some((_, vote)), _) => (self, Some(vote), None),
            // The first write of all was torn: nothing was ever reported.
            (None, Some(start)) if bytes.len() as u64 <= SLOTS[1] => {
                let whole = bytes.len() >= SLOT;
                let found = whole.then(|| damage(&self.path, Some(start), "no slot is whole"));
                (self, None, found)
            }
            (None, Some(start)) => {
                let found = damage(&self.path, Some(start), "neither slot is whole");
                (self, None, Some(found))
            }
            (None, None) => (self, None, None),
        }
    }

    fn slot(&self, bytes: &[u8], start: usize) -> Slot {
        let bytes = bytes.get(start..).unwrap_or_default();
        if bytes.iter().take(SLOT).all(|byte| *byte == 0) {
            return Slot::Empty;
        }
        let Some(bytes) = bytes.first_chunk::<SLOT>() else { return Slot::Bad };
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            number
        };
        let generation = u64::from_le_bytes(number(8));
        let term = Term::new(u64::from_le_bytes(number(16)));
        let vote = TermAndVote { term, vote: PeerId::from_wire(number(24)) };
        if *bytes == self.encode(generation, &vote) {
            Slot::Good { generation, vote }
        } else {
            Slot::Bad
        }
    }

    fn encode(&self, generation: u64, vote: &TermAndVote) -> [u8; SLOT] {
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(MAGIC);
        slot[8..16].copy_from_slice(&generation.to_le_bytes());
        slot[16..24].copy_from_slice(&vote.term.get().to_le_bytes());
        if let Some(peer) = vote.vote {
            slot[24..32].copy_from_slice(peer.as_bytes());
        }
        // The group's name is in the checksum: the file of another group does not pass.
        let sum = crc32c::crc32c_append(crc32c::crc32c(self.group.as_bytes()), &slot[..32]);
        slot[32..].copy_from_slice(&sum.to_le_bytes());
        slot
    }

    /// Replaces the term and vote; synced when it returns.
    pub(super) fn write(&mut self, vote: &TermAndVote) -> io::Result<()> {
        let generation = self.generation + 1;
        let slot = self.encode(generation, vote);
        let new = self.file.is_none();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.path)?,
        };
        for place in [self.older, 1 - self.older] {
            file.seek(SeekFrom::Start(SLOTS[place]))?;
            file.write_all(&slot)?;
            file.sync_data()?;
        }
        if new {
            self.path.parent().map_or(Ok(()), sync_folder)?;
        }
        self.file = Some(file);
        self.generation = generation;
        Ok(())
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
