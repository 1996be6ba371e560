//! Messages as lines that `jetwake decode --trace` reads.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use async_nats::Message;
use serde::Serialize;

use super::TapError;
use crate::decode::hex;

/// A recording that is being made.
pub(super) struct Recording {
    path: PathBuf,
    file: BufWriter<File>,
}

#[derive(Serialize)]
struct Line<'a> {
    us: u64,
    subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reply: &'a str,
    hex: String,
}

impl Recording {
    pub(super) fn create(path: PathBuf) -> Result<Self, TapError> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file: BufWriter::new(file) }),
            Err(why) => Err(TapError::Record { path, why }),
        }
    }

    pub(super) fn add(&mut self, us: u64, message: &Message) -> Result<(), TapError> {
        let line = Line {
            us,
            subject: &message.subject,
            reply: message.reply.as_deref().unwrap_or_default(),
            hex: hex(&message.payload),
        };
        let written = serde_json::to_writer(&mut self.file, &line).map_err(Into::into);
        let written = written.and_then(|()| self.file.write_all(b"\n"));
        self.check(written)
    }

    pub(super) fn flush(&mut self) -> Result<(), TapError> {
        let flushed = self.file.flush();
        self.check(flushed)
    }

    fn check(&self, done: std::io::Result<()>) -> Result<(), TapError> {
        done.map_err(|why| TapError::Record { path: self.path.clone(), why })
    }
}
