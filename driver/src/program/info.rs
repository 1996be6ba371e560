//! `jetwake info`: what each node knows of a stream.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use jetwake_driver::client::{Access, Client, ClientError, NodeAddress};
use serde_json::Value;
use tokio::time::timeout;

use super::access::AccessArguments;
use super::{Failure, block_on, tell};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show what each of the given nodes knows of a stream.
///
/// One line a node: who leads as far as it knows, how many members it counts, what its own replica
/// holds, and whether that is all, or what keeps it from that; below it, what was found damaged on
/// its disk and how far the repair is. Fails if a node does not answer.
#[derive(Args)]
pub(super) struct InfoArguments {
    /// The stream.
    stream: String,

    /// Print each node's whole answer, one JSON object a line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    access: AccessArguments,
}

pub(super) fn run(arguments: InfoArguments) -> Result<(), Failure> {
    let InfoArguments { stream, json, access } = arguments;
    let (nodes, access) = access.load()?;
    let mut out = std::io::stdout();
    if !json {
        writeln!(
            out,
            "{:12} {:12} {:>7} {:>12} {:>14} {:>12} {:>12} {:>10}  health",
            "node", "leader", "members", "messages", "bytes", "first", "last", "deleted"
        )?;
    }
    let failed = block_on(async {
        let mut failed = 0;
        for node in &nodes {
            match ask(node, &access, &stream).await {
                Ok((_, info)) if json => writeln!(out, "{info}")?,
                Ok((server, info)) => print(&mut out, &server, &info)?,
                Err(error) => {
                    failed += 1;
                    tell(&format!("error: {error}"));
                }
            }
        }
        Ok(failed)
    })?;
    match failed {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{failed} of {} nodes did not answer", nodes.len()).into()),
    }
}

async fn ask(
    node: &NodeAddress,
    access: &Access,
    stream: &str,
) -> Result<(String, Value), anyhow::Error> {
    let asked = async {
        let mut client = Client::connect(node, access).await?;
        let info = client.info(stream).await?;
        Ok::<_, ClientError>((client.server().to_owned(), info))
    };
    timeout(PATIENCE, asked)
        .await
        .map_err(|_| anyhow::anyhow!("node {node}: no answer within {PATIENCE:?}"))?
        .map_err(|error| match error {
            ClientError::Refused(error) => anyhow::anyhow!("node {node}: {error}"),
            error => error.into(),
        })
}

fn print(out: &mut impl Write, server: &str, info: &Value) -> std::io::Result<()> {
    let number = |path| info.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let leader = info.pointer("/cluster/leader").and_then(Value::as_str);
    writeln!(
        out,
        "{server:12} {:12} {:>7} {:>12} {:>14} {:>12} {:>12} {:>10}  {}",
        leader.filter(|name| !name.is_empty()).unwrap_or("-"),
        number("/jetwake/cluster_size"),
        number("/state/messages"),
        number("/state/bytes"),
        number("/state/first_seq"),
        number("/state/last_seq"),
        number("/state/num_deleted"),
        info.pointer("/jetwake/health").and_then(Value::as_str).unwrap_or("-"),
    )?;
    tell_trouble(out, server, info)
}

/// What is wrong with a node's replica, if anything is, below its line.
fn tell_trouble(out: &mut impl Write, server: &str, info: &Value) -> std::io::Result<()> {
    let text = |path| info.pointer(path).and_then(Value::as_str);
    if let Some(why) = text("/jetwake/aside") {
        writeln!(out, "{server:12} stands aside: {why}")?;
    }
    let found = info.pointer("/jetwake/found").and_then(Value::as_array);
    for found in found.into_iter().flatten().filter_map(Value::as_str) {
        writeln!(out, "{server:12} found at its start: {found}")?;
    }
    if let Some(lost) = text("/jetwake/impaired/lost") {
        writeln!(out, "{server:12} is impaired and promises nothing: its disk lost {lost}")?;
        if let Some(waits) = text("/jetwake/impaired/waits") {
            writeln!(out, "{server:12} repair: {waits}")?;
        }
    }
    Ok(())
}
