//! `jetwake demo`: three nodes, and all that may happen to them in a minute.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use jetwake_driver::clock::Clock;
use jetwake_driver::demo::{
    self, Ending, FEWEST_MESSAGES, LARGEST_PAYLOAD, MOST_MESSAGES, Options, Source,
};
use jetwake_driver::settings::GivenTransport;

use super::{Failure, block_on, tell};

/// Messages, unless told otherwise.
const MESSAGES: u64 = 200_000;

/// See it all at work: three nodes of their own on this machine, and what may happen to them.
///
/// Starts three nodes with mutual TLS on ports that the system chooses, with one stream replicated
/// three times, and publishes. At 40 % a follower is killed; messages are deleted, a subject is
/// purged, and the leader compacts its log. The follower comes back and catches up by the stream's
/// own catchup. At 75 % the leader is killed; the client goes on with the next one. At the end
/// everything is read back from each replica and compared with what was acknowledged.
///
/// Exits 0 if nothing was lost, doubled or different. Else it exits 1 and says where the data is.
#[derive(Args)]
#[command(after_help = AFTER)]
pub(super) struct DemoArguments {
    /// How many messages [default: 200000, or all lines of --input]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(FEWEST_MESSAGES..=MOST_MESSAGES))]
    messages: Option<u64>,

    /// Bytes of each payload.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 256,
        value_parser = clap::value_parser!(u64).range(..=LARGEST_PAYLOAD as u64),
        conflicts_with = "input"
    )]
    size: u64,

    /// Publish the lines of this file, each as one message.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Where to make the folder for the data [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Leave the data there.
    #[arg(long)]
    keep: bool,

    /// How the nodes reach each other: tcp, or nats for a NATS server between them.
    #[arg(long, value_name = "WAY", default_value = "tcp")]
    transport: GivenTransport,

    /// The URL of a plain NATS server, such as nats://127.0.0.1:4222.
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "URL", required_if_eq("transport", "nats"))]
    server: Option<String>,

    /// Print the result on stdout as one JSON object, and all else on stderr.
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "\
What the figures of --json mean:
  publish   messages acknowledged per second over the first 40 %, before anything is disturbed,
            each synced to disk by two of three nodes; and how long an acknowledgement took, from
            handing the message to the client
  catchup   the stream's catchup of the follower, from its request to its end: messages received
            and deletes told, bytes received
  failover  from SIGKILL of the leader to the first acknowledgement of the next
  memory    the most memory that each node's process had at any time";

pub(super) fn run(arguments: DemoArguments) -> Result<(), Failure> {
    let between = between(&arguments)?;
    let DemoArguments { messages, size, input, dir, keep, json, .. } = arguments;
    let source = match input {
        Some(file) => Source::Lines { file, most: messages },
        None => Source::Made {
            messages: messages.unwrap_or(MESSAGES),
            size: usize::try_from(size).context("--size")?,
        },
    };
    let program = std::env::current_exe().context("finding this program's own file")?;
    let options = Options { source, dir, between, keep, quiet_stdout: json, program };
    let ending = block_on(async { Ok(demo::run(options, Clock::start()).await) })?;
    print(&ending, json)?;
    let Ending { summary, folder, error } = ending;
    let kept = folder.map(|folder| format!("the data is kept in {}", folder.display()));
    match (error, kept) {
        (None, kept) if summary.verified => {
            if let Some(kept) = kept {
                tell(&kept);
            }
            Ok(())
        }
        (Some(error), None) => Err(error.into()),
        (Some(error), Some(kept)) => Err(anyhow!("{error}\n{kept}").into()),
        (None, kept) => {
            let kept = kept.unwrap_or_default();
            Err(anyhow!("something was lost, doubled or different; {kept}").into())
        }
    }
}

/// The NATS server between the nodes, if they are not to dial each other.
#[cfg(feature = "nats")]
fn between(arguments: &DemoArguments) -> Result<Option<String>, Failure> {
    match (arguments.transport, &arguments.server) {
        (GivenTransport::Tcp, Some(_)) => {
            Err(Failure::Usage("--server is for --transport nats".into()))
        }
        (_, server) => Ok(server.clone()),
    }
}

#[cfg(not(feature = "nats"))]
#[allow(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
fn between(_: &DemoArguments) -> Result<Option<String>, Failure> {
    Ok(None)
}

fn print(ending: &Ending, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        demo::tell(ending, &mut std::io::stderr())?;
        writeln!(out, "{}", ending.summary.to_json())?;
    } else {
        demo::tell(ending, &mut out)?;
    }
    out.flush()
}
