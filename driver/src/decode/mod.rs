//! `jetwake decode`: what captured bytes say.
//!
//! Every format has a kind (`kinds.rs`) with the names that its fields have in the vectors. Bytes
//! come as JSON lines (`lines.rs`), as one message by its subject (`subjects.rs`), or as a
//! recorded exchange that is told as a story (`exchange.rs` finds out who speaks to whom,
//! `story.rs` writes it down).

mod assignment_kinds;
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only the tap looks at all of it"))]
mod bounded;
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only the tap looks at all of it"))]
mod exchange;
mod fields;
mod json_kinds;
mod kinds;
mod lines;
mod paint;
mod raft_kinds;
mod story;
mod stream_kinds;
mod subjects;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use clap::Args;
use jetwake::wire::WireError;
use thiserror::Error;

pub use fields::Decoded;
pub use kinds::{KINDS, Kind, Message};

#[cfg(feature = "nats")]
pub(crate) use bounded::Bounded;
#[cfg(feature = "nats")]
pub(crate) use exchange::{Exchange, Heard, Said, UNKNOWN};
#[cfg(feature = "nats")]
pub(crate) use fields::hex;
#[cfg(feature = "nats")]
pub(crate) use story::{head, line};

pub(crate) use paint::Paint;

/// Say what captured NATS cluster bytes mean.
///
/// Reads JSON lines {"kind":...,"hex":...} from stdin and answers each with its fields and the
/// bytes that they encode to. With --subject or --kind and --hex it explains one message, with
/// --trace a recorded exchange.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DecodeArguments {
    /// List the kinds of messages, with a line each.
    #[arg(long, exclusive = true)]
    kinds: bool,

    /// Explain the message of --hex, whose kind follows from this subject.
    #[arg(long, requires = "hex", conflicts_with = "kind")]
    subject: Option<String>,

    /// Explain the message of --hex, which is of this kind; with --trace, tell only such messages
    /// (may be repeated).
    #[arg(long)]
    kind: Vec<String>,

    /// The bytes of one message.
    #[arg(long)]
    hex: Option<String>,

    /// Tell the story of a recorded exchange: JSON lines with us, subject, reply and hex.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "hex"])]
    trace: Option<PathBuf>,

    /// With --trace, tell only what concerns this group (may be repeated); otherwise the group
    /// whose snapshot this is.
    #[arg(long)]
    group: Vec<String>,

    /// Write JSON lines for other programs.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  jetwake decode < messages.jsonl
  jetwake decode --subject '$NRG.V.S-R3F-abcdefgh' --hex 0100...
  jetwake decode --trace exchange.jsonl --group S-R3F-abcdefgh --kind vote_request";

/// Why there is nothing to tell.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The command line asks for what there is not.
    #[error("{0}")]
    Usage(String),
    /// The bytes are not of their kind.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// What surrounds the bytes is wrong: not hex, not JSON, a field is missing.
    #[error("{0}")]
    Input(String),
    /// A file could not be read.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Input or output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs the command. `colours` says whether whoever reads `out` sees colours.
///
/// A message that does not decode is told as such and is no failure, unless it is the only one
/// that was asked about.
///
/// # Errors
/// [`DecodeError`].
pub fn run(
    arguments: &DecodeArguments,
    input: impl BufRead,
    mut out: impl Write,
    colours: bool,
) -> Result<(), DecodeError> {
    let DecodeArguments { kinds, subject, kind, hex, trace, group, json } = arguments;
    for name in kind {
        if kinds::find(name).is_none() && name != exchange::UNKNOWN {
            return Err(DecodeError::Usage(format!(
                "--kind {name}: expected one of those that --kinds lists"
            )));
        }
    }
    let paint = Paint::new(colours && !json);
    if *kinds {
        for kind in KINDS {
            writeln!(out, "{:24} {}", kind.name, kind.about)?;
        }
        return Ok(());
    }
    if let Some(path) = trace {
        let path_text = path.display().to_string();
        let file = File::open(path)
            .map_err(|error| DecodeError::File { path: path_text.clone(), error })?;
        let filter = story::Filter { groups: group, kinds: kind };
        return story::tell(&path_text, BufReader::new(file), out, filter, *json, &paint);
    }
    let Some(hex) = hex else {
        if !kind.is_empty() {
            return Err(DecodeError::Usage("--kind: expected --hex or --trace with it".into()));
        }
        return lines::answer(input, out);
    };
    let message = Message { bytes: fields::unhex(hex)?, group: group.first().cloned() };
    let kind = match (subject, kind.as_slice()) {
        (Some(subject), _) => subjects::kind_of(subject, &message.bytes)?,
        (None, [name]) => name,
        _ => return Err(DecodeError::Usage("--hex: expected --subject or one --kind".into())),
    };
    if *json {
        return Ok(lines::write_answer(&mut out, Some(kind), kinds::decode(kind, &message))?);
    }
    let decoded = kinds::decode(kind, &message)?;
    fields::explain(&mut out, kind, &decoded, &paint)?;
    Ok(())
}
