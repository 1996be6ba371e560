//! The disk of one node: performs the core's writes, loads and reads, off the async threads.
//!
//! Two threads, each with a queue: one for logs, votes and snapshots, which syncs before it
//! reports; one for the stores, which syncs only when asked. What was not synced is never
//! reported as written; what failed is never performed as if it had been written; what cannot be
//! read is named and left as it is.
//!
//! In the folder:
//!
//! | name | what |
//! |---|---|
//! | `lock` | held by the node that works on the folder; its process id |
//! | `format` | which layout the folder has |
//! | `log/` | records of all groups |
//! | `store/` | messages of all streams |
//! | `votes/` | a file of two slots a group |
//! | `snapshots/` | a folder a group, with one file |
//! | `standing/` | a file a group: whether all that its member promised is here |
//! | `log.damaged-1/`, `store.damaged-1/`, … | databases that were moved aside; nothing reads them |

mod block;
mod engine;
mod failure;
mod folder;
mod journal;
mod log;
mod log_thread;
mod removed;
mod snapshot;
mod standing;
mod start;
mod store;
mod store_thread;
mod vote;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use jetwake::command::Command;
use jetwake::event::{Event, Failure, Opened};
use jetwake::ids::GroupName;

use self::failure::damage;
use self::folder::Folder;
use self::log::Logs;
use self::log_thread::{Beside, LogThread};
use self::start::Found;
use self::store::Stores;
use self::store_thread::StoreThread;

/// Where the disk's threads put what happened.
type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// Why a data folder could not be opened at all.
///
/// A folder that holds something damaged does open: see [`Opened::damage`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Another process works on it.
    #[error("data folder {}: in use by another node (process {pid})", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other's process id, if it could be read.
        pid: String,
    },
    /// Another version of this program wrote it.
    #[error("{}: found {found:?}, expected {expected:?}: not a format of this version", file.display())]
    Format {
        /// The file that names the format.
        file: PathBuf,
        /// The beginning of what it holds.
        found: String,
        /// What this version writes.
        expected: &'static str,
    },
    /// It holds files, and none that says that it is a data folder.
    #[error("{}: found {file:?} but no file `format`: not a data folder", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// One of its files.
        file: String,
    },
    /// The operating system refused.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What it said.
        #[source]
        error: io::Error,
    },
}

impl DiskError {
    fn io(file: &Path, error: io::Error) -> Self {
        Self::Io { file: file.to_owned(), error }
    }
}

/// One node's disk. Dropping it waits until everything asked is done.
pub struct Disk {
    log: Worker,
    store: Worker,
    report: Report,
    _folder: Folder,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("folder", &self._folder.path()).finish_non_exhaustive()
    }
}

/// A thread and the queue to it.
struct Worker {
    /// Without a bound of its own: the core bounds the bytes it has in flight
    /// (`Limits::store_in_flight`, `proposals_waiting`, `load`), and asks nothing twice.
    queue: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(
        name: &str,
        work: impl FnOnce(Receiver<Command>) + Send + 'static,
    ) -> Result<Self, DiskError> {
        let (queue, commands) = channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(commands));
        let thread = thread.map_err(|error| DiskError::io(Path::new(name), error))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Gives the command back if the thread is gone.
    fn ask(&self, command: Command) -> Result<(), Command> {
        match &self.queue {
            Some(queue) => queue.send(command).map_err(|refused| refused.0),
            None => Err(command),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook; here is nobody to hand it to.
            let _ = thread.join();
        }
    }
}

impl Disk {
    /// Opens a node's data folder, makes it if it is not there, and says what it holds of each
    /// group; the place in `groups` is the [`GroupId`](jetwake::ids::GroupId).
    ///
    /// It reads and checks every record of every log, and every table of every store. A database
    /// that cannot be used is moved aside, and an empty one takes its place. `report`
    /// gets what happens later, on the disk's threads; it must not block. What it hands on needs
    /// no bound of its own: there is at most one event for each command.
    ///
    /// # Errors
    /// [`DiskError`] if the folder is in use, is not of this format, or cannot be made. Damage in
    /// it is no error, but [`Opened::damage`].
    pub fn open(
        folder: &Path,
        groups: &[GroupName],
        report: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<(Self, Vec<Opened>), DiskError> {
        let folder = Folder::open(folder)?;
        let Found { logs, stores, besides, opened } = start::look(&folder, groups)?;
        let disk = Self::start(folder, Arc::new(report), logs, stores, besides)?;
        Ok((disk, opened))
    }

    fn start(
        folder: Folder,
        report: Report,
        logs: Result<Logs, Failure>,
        stores: Result<Stores, Failure>,
        groups: Vec<Beside>,
    ) -> Result<Self, DiskError> {
        let failed = groups.iter().map(|_| None).collect();
        let unsynced = BTreeMap::new();
        let unsynced_parts = BTreeSet::new();
        let log = LogThread {
            logs,
            groups,
            report: report.clone(),
            through: None,
            unsynced,
            unsynced_parts,
        };
        let store = StoreThread { stores, failed, report: report.clone(), through: None };
        Ok(Self {
            log: Worker::start("disk-log", move |queue| log.run(&queue))?,
            store: Worker::start("disk-store", move |queue| store.run(&queue))?,
            report,
            _folder: folder,
        })
    }

    /// Takes a command of the disk and returns at once; the answer comes through `report`.
    /// A command that is not for the disk is given back.
    pub fn perform(&self, command: Command) -> Option<Command> {
        let refused = match &command {
            Command::Write { .. } | Command::Load { .. } | Command::LoadSnapshot { .. } => {
                self.log.ask(command)
            }
            Command::Store { .. } | Command::SyncStore { .. } | Command::Read { .. } => {
                self.store.ask(command)
            }
            _ => return Some(command),
        };
        if let Err(command) = refused {
            self.refuse(command);
        }
        None
    }

    /// A thread of the disk ended by a panic: nothing is written any more, and that is said.
    fn refuse(&self, command: Command) {
        let what = "the thread of the disk ended unexpectedly";
        let failure = Failure::Io(damage(self._folder.path(), None, what));
        (self.report)(match command {
            Command::Write { id, group, .. } => Event::WriteFailed { group, write: id, failure },
            Command::Load { id, .. }
            | Command::LoadSnapshot { id, .. }
            | Command::Read { id, .. } => Event::LoadFailed { load: id, failure },
            Command::Store { group, .. } | Command::SyncStore { group, .. } => {
                Event::StoreFailed { group, failure }
            }
            _ => return,
        });
    }

    /// Waits until everything asked is done and reported, and lets go of the folder.
    pub fn close(self) {
        drop(self);
    }
}
