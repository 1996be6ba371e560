//! `jetwake tap`: what a live cluster's groups say.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jetwake_driver::tap::{Show, TapOptions, run as tap};

use super::nats_access::NatsArguments;
use super::{Failure, block_on};

/// Watch the raft and catchup traffic of a cluster of nats-servers, live.
///
/// Shows each group's leader, term, log and who is behind; elections and why there were any;
/// catchups with how far and how fast they are. On a terminal as a table that is made anew with the
/// story below it, elsewhere the story, a line as it happens. It only listens and publishes nothing.
///
/// The user has to be one of the system account, and may be allowed as little as to subscribe to
/// $NRG.>, $JSC.> and $SYS.SERVER.*.STATSZ.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct TapArguments {
    #[command(flatten)]
    nats: NatsArguments,

    /// Keep all messages in this file, for jetwake decode --trace.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Show only this group (may be repeated); a recording has all of them.
    #[arg(long)]
    group: Vec<String>,

    /// Write JSON lines for other programs: {"story":...} as it happens, {"state":...} every second.
    #[arg(long)]
    json: bool,

    /// Stop after this time, such as 30s; otherwise on SIGINT.
    #[arg(long = "for", value_name = "DURATION")]
    time: Option<humantime::Duration>,
}

const EXAMPLE: &str = "\
Examples:
  jetwake tap --server nats://127.0.0.1:4222 --creds sys.creds
  jetwake tap --server nats://127.0.0.1:4222 --user sys --password ... --for 1m --record it.jsonl
  jetwake decode --trace it.jsonl --group _meta_";

/// Runs the command.
pub(super) fn run(arguments: TapArguments) -> Result<(), Failure> {
    let TapArguments { nats, record, group, json, time } = arguments;
    let Some(access) = nats.access() else {
        return Err(Failure::Usage("--server: missing, expected a URL".into()));
    };
    let show = match stdout().is_terminal() {
        _ if json => Show::Json,
        true => Show::Live { colours: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()) },
        false => Show::Story,
    };
    let time = time.map_or(Duration::MAX, Into::into);
    let stop = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = tokio::time::sleep(time) => {}
        }
    };
    let options = TapOptions { show, record, groups: group };
    block_on(async { Ok(tap(&access, options, &mut stdout().lock(), stop).await?) })
}
