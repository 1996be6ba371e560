//! `jetwake peer`: adds a server to those that keep a stream, or removes one.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use jetwake::ids::PeerId;
use jetwake::raft::Change;
use jetwake_driver::client::{Client, ClientError};
use tokio::time::timeout;

use super::access::AccessArguments;
use super::{Failure, block_on, tell};

/// How long a change may take: a new server gets all that it lacks first.
const PATIENCE: Duration = Duration::from_secs(600);

/// Change which servers keep a stream, one at a time.
#[derive(Args)]
pub(super) struct PeerArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Add a server; its node must run, with `joins = true` in the stream's settings.
    Add(ServerArguments),
    /// Remove a server, be it dead or alive.
    Remove(ServerArguments),
}

#[derive(Args)]
struct ServerArguments {
    /// The stream.
    stream: String,

    /// The server's name.
    server: String,

    #[command(flatten)]
    access: AccessArguments,
}

pub(super) fn run(arguments: PeerArguments) -> Result<(), Failure> {
    let (server, done) = match arguments.what {
        What::Add(server) => (server, "added"),
        What::Remove(server) => (server, "removed"),
    };
    let ServerArguments { stream, server, access } = server;
    let peer = PeerId::from_name(&server);
    let change = if done == "added" { Change::Add(peer) } else { Change::Remove(peer) };
    let (nodes, access) = access.load()?;
    block_on(async {
        // Whoever leads does it; the others say that they do not lead, or hand it on.
        for node in &nodes {
            let asked = async {
                let mut client = Client::connect(node, &access).await?;
                client.change_members(&stream, change).await
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(_)) => {
                    writeln!(std::io::stdout(), "{server} is {done}")?;
                    return Ok(());
                }
                Ok(Err(ClientError::Refused(error))) => tell(&format!("node {node}: {error}")),
                Ok(Err(error)) => tell(&format!("warning: {error}")),
                Err(_) => tell(&format!("node {node}: no answer within {PATIENCE:?}")),
            }
        }
        Err(anyhow::anyhow!("no node has {done} {server}; does one of them lead?").into())
    })
}
