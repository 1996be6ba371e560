//! A group's snapshot: one file, named `snapshot.<term>.<index>.jws`.
//!
//! A new one is written under a temporary name, whole or in parts, synced and renamed; the one before
//! goes only when the new name is durable. The core verifies what is inside. A large one is never in
//! memory whole: it is read in parts, as the core asks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jetwake::command::SnapshotFile;
use jetwake::event::{Damage, SnapshotFound};
use jetwake::ids::{Index, Term};

use super::failure::damage;
use super::folder::{replace, sync_folder};

const PREFIX: &str = "snapshot.";
/// Where parts are gathered; a start removes what has this ending.
const PARTS: &str = "parts.tmp";
/// Bytes of a snapshot that a start hands in whole.
const WHOLE: u64 = 1 << 20;

/// The snapshots of one group.
#[derive(Debug)]
pub(super) struct Snapshots {
    folder: PathBuf,
    current: Option<(Index, PathBuf)>,
    parts: Option<Parts>,
}

/// A file that is written in parts.
#[derive(Debug)]
struct Parts {
    file: File,
    length: u64,
    synced: bool,
}

impl Snapshots {
    /// Reads the newest snapshot and removes what a crash left behind.
    pub(super) fn open(folder: PathBuf) -> (Self, Option<SnapshotFound>, Option<Damage>) {
        let mut this = Self { folder, current: None, parts: None };
        match this.find() {
            Ok(newest) => (this, newest, None),
            Err((path, error)) => {
                let found = damage(&path, None, error.to_string());
                (this, None, Some(found))
            }
        }
    }

    fn find(&mut self) -> Result<Option<SnapshotFound>, (PathBuf, io::Error)> {
        let at = |error| (self.folder.clone(), error);
        let mut found: Vec<(Index, Term, PathBuf)> = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(at)?,
        };
        for entry in entries {
            let path = entry.map_err(at)?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).map_err(|error| (path, error))?;
            } else if let Some((term, index)) = numbers(&path) {
                found.push((index, term, path));
            }
        }
        // A process that was killed may have renamed a file and not synced that.
        sync_folder(&self.folder).map_err(at)?;
        found.sort();
        let Some((index, _, path)) = found.pop() else { return Ok(None) };
        let newest = newest(&path).map_err(|error| (path.clone(), error))?;
        self.current = Some((index, path));
        // A crash came between the new name and the removal of the old one.
        for (_, _, path) in found {
            fs::remove_file(&path).map_err(|error| (path, error))?;
        }
        Ok(Some(newest))
    }

    /// Puts a snapshot in the place of the one before; durable when it returns.
    pub(super) fn write(&mut self, index: Index, term: Term, file: &[u8]) -> io::Result<()> {
        self.make_folder()?;
        let path = self.path(index, term);
        replace(&path, file)?;
        self.forget_before(index, path)
    }

    /// Adds a part to the file that is to be the next snapshot; [`sync_parts`](Self::sync_parts)
    /// makes it durable.
    pub(super) fn write_part(&mut self, offset: u64, part: &[u8]) -> io::Result<()> {
        if offset == 0 {
            self.make_folder()?;
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(self.folder.join(PARTS))?;
            self.parts = Some(Parts { file, length: 0, synced: false });
        }
        let parts = self.parts_of_length(offset)?;
        parts.file.write_all(part)?;
        (parts.length, parts.synced) = (offset + part.len() as u64, false);
        Ok(())
    }

    /// Makes every part that was added durable.
    pub(super) fn sync_parts(&mut self) -> io::Result<()> {
        if let Some(parts) = self.parts.as_mut().filter(|parts| !parts.synced) {
            parts.file.sync_data()?;
            parts.synced = true;
        }
        Ok(())
    }

    /// Puts the file in parts in the place of the snapshot before; durable when it returns.
    pub(super) fn place(&mut self, index: Index, term: Term, length: u64) -> io::Result<()> {
        self.parts_of_length(length)?.file.sync_all()?;
        let path = self.path(index, term);
        fs::rename(self.folder.join(PARTS), &path)?;
        sync_folder(&self.folder)?;
        self.parts = None;
        self.forget_before(index, path)
    }

    /// Forgets the file in parts.
    pub(super) fn drop_parts(&mut self) -> io::Result<()> {
        match self.parts.take() {
            Some(_) => fs::remove_file(self.folder.join(PARTS)),
            None => Ok(()),
        }
    }

    /// So many bytes of a file, or as many as it has from there on.
    pub(super) fn load(&self, which: SnapshotFile, from: u64, bytes: u64) -> io::Result<Bytes> {
        let opened = match (which, &self.current, &self.parts) {
            (SnapshotFile::Current, Some((_, path)), _) => File::open(path)?,
            (SnapshotFile::Parts, _, Some(parts)) => parts.file.try_clone()?,
            _ => return Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let left = opened.metadata()?.len().saturating_sub(from);
        let mut part = vec![0; usize::try_from(bytes.min(left)).map_err(io::Error::other)?];
        opened.read_exact_at(&mut part, from)?;
        Ok(part.into())
    }

    fn parts_of_length(&mut self, expected: u64) -> io::Result<&mut Parts> {
        let found = self.parts.as_ref().map_or(0, |parts| parts.length);
        let parts = self.parts.as_mut().filter(|parts| parts.length == expected);
        parts.ok_or_else(|| {
            let what = format!("{PARTS}: found {found} bytes, expected {expected}");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })
    }

    fn make_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        self.folder.parent().map_or(Ok(()), sync_folder)
    }

    fn path(&self, index: Index, term: Term) -> PathBuf {
        // Not `with_extension`: the name's last number must stay.
        self.folder.join(format!("{PREFIX}{term}.{index}.jws"))
    }

    fn forget_before(&mut self, index: Index, path: PathBuf) -> io::Result<()> {
        let before = self.current.replace((index, path.clone()));
        match before.filter(|(_, before)| *before != path) {
            Some((_, before)) => fs::remove_file(before),
            None => Ok(()),
        }
    }

    /// The last record that the current snapshot covers.
    pub(super) fn index(&self) -> Option<Index> {
        self.current.as_ref().map(|(index, _)| *index)
    }

    /// Where they lie.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

fn newest(path: &Path) -> io::Result<SnapshotFound> {
    let length = fs::metadata(path)?.len();
    match length > WHOLE {
        true => Ok(SnapshotFound::InParts { length }),
        false => fs::read(path).map(Bytes::from).map(SnapshotFound::Whole),
    }
}

fn numbers(path: &Path) -> Option<(Term, Index)> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(".jws")?;
    let (term, index) = name.split_once('.')?;
    Some((Term::new(term.parse().ok()?), Index::new(index.parse().ok()?)))
}
