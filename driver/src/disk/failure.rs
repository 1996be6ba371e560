//! What the operating system and the engine say, in the words of the core.

use std::io;
use std::path::Path;

use jetwake::event::{Damage, Failure};

/// The space below which an engine that stopped counts as stopped for want of space.
const FULL: u64 = 1 << 20;

/// Names a file and what is wrong with it.
pub(super) fn damage(file: &Path, offset: Option<u64>, what: impl Into<String>) -> Damage {
    Damage { file: file.display().to_string(), offset, what: what.into() }
}

/// The operating system refused something that concerns this file.
pub(super) fn from_io(file: &Path, error: &io::Error) -> Failure {
    let damage = damage(file, None, error.to_string());
    match error.kind() {
        // A quota and a limit on a file's size are met like a full disk: by making room.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Failure::Full(damage)
        }
        _ => Failure::Io(damage),
    }
}

/// The engine refused something in this folder.
pub(super) fn from_engine(folder: &Path, error: &fjall::Error) -> Failure {
    use fjall::{Error, LsmError};
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => match error.kind() {
            // Its own files are there and as long as it made them, unless they are damaged.
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                Failure::Damaged(damage(folder, None, error.to_string()))
            }
            _ => from_io(folder, error),
        },
        // It stopped because of something that happened in its own threads.
        Error::Poisoned if space_left(folder) < FULL => {
            Failure::Full(damage(folder, None, "the engine stopped: no space left"))
        }
        Error::Poisoned => Failure::Io(damage(folder, None, "the engine stopped after an error")),
        Error::JournalRecovery(_)
        | Error::InvalidVersion(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable
        | Error::Storage(_) => Failure::Damaged(damage(folder, None, error.to_string())),
        _ => Failure::Io(damage(folder, None, error.to_string())),
    }
}

/// What a failure says of its file.
pub(super) fn into_damage(failure: Failure) -> Damage {
    match failure {
        Failure::Full(damage) | Failure::Damaged(damage) | Failure::Io(damage) => damage,
        // The enum may grow; a kind unknown here still has its words.
        other => Damage { file: String::new(), offset: None, what: format!("{other:?}") },
    }
}

/// Bytes that may still be written; all if the system does not say.
fn space_left(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder)
        .map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}
