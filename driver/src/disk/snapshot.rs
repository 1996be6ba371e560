//! A group's snapshot: one file, named `snapshot.<term>.<index>.jws`.
//!
//! A new one is written under a temporary name, synced and renamed; the one before goes only
//! when the new name is durable. The core verifies what is inside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jetwake::event::Damage;
use jetwake::ids::{Index, Term};

use super::failure::damage;
use super::folder::{replace, sync_folder};

const PREFIX: &str = "snapshot.";

/// The snapshots of one group.
#[derive(Debug)]
pub(super) struct Snapshots {
    folder: PathBuf,
    current: Option<(Index, PathBuf)>,
}

impl Snapshots {
    /// Reads the newest snapshot and removes what a crash left behind.
    pub(super) fn open(folder: PathBuf) -> (Self, Option<Bytes>, Option<Damage>) {
        let mut this = Self { folder, current: None };
        match this.find() {
            Ok(file) => (this, file, None),
            Err((path, error)) => {
                let found = damage(&path, None, error.to_string());
                (this, None, Some(found))
            }
        }
    }

    fn find(&mut self) -> Result<Option<Bytes>, (PathBuf, io::Error)> {
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
        let bytes = fs::read(&path).map_err(|error| (path.clone(), error))?;
        self.current = Some((index, path));
        // A crash came between the new name and the removal of the old one.
        for (_, _, path) in found {
            fs::remove_file(&path).map_err(|error| (path, error))?;
        }
        Ok(Some(Bytes::from(bytes)))
    }

    /// Puts a snapshot in the place of the one before; durable when it returns.
    pub(super) fn write(&mut self, index: Index, term: Term, file: &[u8]) -> io::Result<()> {
        if !self.folder.is_dir() {
            fs::create_dir_all(&self.folder)?;
            self.folder.parent().map_or(Ok(()), sync_folder)?;
        }
        // Not `with_extension`: the name's last number must stay.
        let path = self.folder.join(format!("{PREFIX}{term}.{index}.jws"));
        replace(&path, file)?;
        let before = self.current.replace((index, path.clone()));
        if let Some((_, before)) = before.filter(|(_, before)| *before != path) {
            fs::remove_file(before)?;
        }
        Ok(())
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

fn numbers(path: &Path) -> Option<(Term, Index)> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(".jws")?;
    let (term, index) = name.split_once('.')?;
    Some((Term::new(term.parse().ok()?), Index::new(index.parse().ok()?)))
}
