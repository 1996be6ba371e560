//! One node's data folder: who holds it, which format it has, how files in it are replaced.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jetwake::ids::GroupName;

use super::DiskError;

const LOCK: &str = "lock";
const FORMAT: &str = "format";
/// The first line of `format`; the number steps with every change that older programs cannot read.
const VERSION: &str = "jetwake disk 1\n";

/// A data folder that nobody else holds while this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Its lock goes when it is closed, also by a SIGKILL.
    _lock: File,
}

impl Folder {
    /// Takes the folder, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        fs::create_dir_all(path).map_err(|error| DiskError::io(path, error))?;
        let lock = lock(path)?;
        check_format(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside, made if it is not there.
    pub(super) fn inside(&self, name: &str) -> Result<PathBuf, DiskError> {
        let path = self.path.join(name);
        if !path.is_dir() {
            fs::create_dir(&path)
                .and_then(|()| sync_folder(&self.path))
                .map_err(|error| DiskError::io(&path, error))?;
        }
        Ok(path)
    }
}

fn lock(folder: &Path) -> Result<File, DiskError> {
    let path = folder.join(LOCK);
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut lock = opened.map_err(|error| DiskError::io(&path, error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Best effort: the error below stands without the number too.
            let _ = (&lock).take(20).read_to_string(&mut holder);
            return Err(DiskError::InUse { folder: folder.to_owned(), pid: holder.trim().into() });
        }
        Err(TryLockError::Error(error)) => return Err(DiskError::io(&path, error)),
    }
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|error| DiskError::io(&path, error))?;
    Ok(lock)
}

fn check_format(folder: &Path) -> Result<(), DiskError> {
    let path = folder.join(FORMAT);
    match fs::read(&path) {
        Ok(found) if found == VERSION.as_bytes() => Ok(()),
        Ok(found) => Err(DiskError::Format {
            file: path,
            found: String::from_utf8_lossy(&found[..found.len().min(64)]).into_owned(),
            expected: VERSION,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let entries = fs::read_dir(folder).map_err(|error| DiskError::io(folder, error))?;
            let temporary = temporary(&path);
            for entry in entries {
                let entry = entry.map_err(|error| DiskError::io(folder, error))?;
                if entry.file_name() != LOCK && entry.path() != temporary {
                    return Err(DiskError::Foreign {
                        folder: folder.to_owned(),
                        file: entry.file_name().to_string_lossy().into_owned(),
                    });
                }
            }
            replace(&path, VERSION.as_bytes()).map_err(|error| DiskError::io(&path, error))
        }
        Err(error) => Err(DiskError::io(&path, error)),
    }
}

/// The name under which a file is written before it takes its place.
pub(super) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Puts a file in its place whole: written beside it, synced, renamed, its folder synced.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The name of a group's own file or folder: the group's, if that can stand as a file name, else
/// its number.
pub(super) fn file_name(group: &GroupName, number: u32) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if group.as_str().len() <= 200 && group.as_str().bytes().all(plain) {
        group.as_str().to_owned()
    } else {
        format!("#{number}")
    }
}
