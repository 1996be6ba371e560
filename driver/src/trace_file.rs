//! Records a node's run in a file, for `jetwake replay`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jetwake::command::Command;
use jetwake::config::Config;
use jetwake::event::Event;
use jetwake::time::Time;
use jetwake::trace::{Digest, Record, write_head, write_record};

use crate::runtime::Observer;

/// Bytes gathered before they are written; a kill loses no more than these.
const GATHERED: usize = 64 * 1024;

/// The file that a run is recorded in.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    /// None once writing has failed.
    file: Option<File>,
    gathered: Vec<u8>,
    digest: Digest,
}

impl TraceFile {
    /// Makes the file, or empties it, and writes down what the node is told at first.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn create(path: &Path, config: &Config) -> io::Result<Self> {
        let file = Some(File::create(path)?);
        let mut gathered = Vec::new();
        write_head(&mut gathered);
        write_record(&Record::Start(Box::new(config.clone())), &mut gathered);
        let mut trace = Self { path: path.to_owned(), file, gathered, digest: Digest::default() };
        trace.write()?;
        Ok(trace)
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(&self.gathered)?;
        }
        self.gathered.clear();
        Ok(())
    }

    fn write_or_give_up(&mut self) {
        if let Err(error) = self.write() {
            tracing::error!("trace {}: {error}; recording ends", self.path.display());
            self.file = None;
            self.gathered.clear();
        }
    }
}

impl Observer for TraceFile {
    fn event(&mut self, now: Time, event: &Event) {
        if self.file.is_some() {
            write_record(&Record::Event(now, event.clone()), &mut self.gathered);
        }
    }

    fn command(&mut self, command: &Command) {
        if self.file.is_some() {
            self.digest.command(command);
        }
    }

    fn drained(&mut self) {
        if self.file.is_some() {
            write_record(&Record::Drained(self.digest.take()), &mut self.gathered);
        }
        if self.gathered.len() >= GATHERED {
            self.write_or_give_up();
        }
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        self.write_or_give_up();
    }
}
