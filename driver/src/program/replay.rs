//! `jetwake replay`: feeds a recorded run to a fresh core and shows that it comes out the same.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use jetwake::trace::{Reader, Replay};

use super::Failure;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Replay what `jetwake node --trace` recorded.
///
/// Every event of the trace is handed to a fresh core, with the times and the seed that were
/// recorded, and the commands that come out are compared with the recorded ones, byte for byte. It
/// needs neither disk nor network, and comes out the same on every machine; where it does not, the
/// first event after which commands differ is named, and the exit status is 1.
#[derive(Args)]
pub(super) struct ReplayArguments {
    /// The trace.
    trace: PathBuf,
}

/// Runs the command.
pub(super) fn run(arguments: ReplayArguments) -> Result<(), Failure> {
    let name = arguments.trace.display().to_string();
    let mut file = File::open(&arguments.trace).with_context(|| name.clone())?;
    let (mut reader, mut replay) = (Reader::default(), Replay::default());
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).with_context(|| name.clone())?;
        if read == 0 {
            break;
        }
        reader.push(&piece[..read]);
        while let Some(record) = reader.next_record().with_context(|| name.clone())? {
            replay.record(record).with_context(|| name.clone())?;
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} events, {} commands: all came out the same", replay.events, replay.commands)?;
    if reader.has_rest() {
        writeln!(
            out,
            "the trace ends in the middle of a record, as one does whose node was killed"
        )?;
    }
    Ok(())
}
