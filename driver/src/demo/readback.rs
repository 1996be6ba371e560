//! Reads everything back from every replica, once they have settled.

use std::time::Duration;

use indicatif::HumanCount;
use jetwake::command::Message;
use jetwake::ids::{ByteCount, Sequence};
use tokio::time::{sleep, timeout};

use super::DemoError;
use super::nodes::{Nodes, SERVERS};
use super::record::Record;
use super::replica::View;
use super::story::Story;
use super::trouble::{ready, view};
use super::verify::{ReplicaCheck, ReplicaFindings};
use super::workload::STREAM;
use crate::client::Client;
use crate::clock::Clock;

/// How long replicas may differ with nothing happening, and how long a read may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often they are asked.
const LOOK: Duration = Duration::from_millis(50);
/// Messages of one read.
const MESSAGES: usize = 4096;
/// Bytes of one read.
const BYTES: ByteCount = ByteCount::new(1024 * 1024);

/// Waits until all replicas say that they hold the same; if that does not come, the comparison
/// will tell what is different.
pub(super) async fn settle(
    clock: Clock,
    story: &Story,
    nodes: &Nodes,
    stream: &str,
    highest: u64,
) -> Result<(), DemoError> {
    let mut clients = connect(nodes).await?;
    let (mut seen, mut changed) = (Vec::new(), clock.now());
    loop {
        let views = views(&mut clients, stream).await?;
        let same = |one: &View| {
            views.iter().all(|other| one.agrees_with(other) && !other.is_catching_up())
        };
        if views.iter().all(|view| same(view) && view.last >= highest) {
            let count = HumanCount(views.first().map_or(0, |view| view.messages));
            story.line(&format!(
                "all three replicas of {stream} have settled, with {count} messages each"
            ));
            return Ok(());
        }
        if views != seen {
            (seen, changed) = (views, clock.now());
        } else if clock.now().since(changed) > PATIENCE {
            story.line(&format!(
                "the replicas of {stream} do not come to agree; reading them all the same"
            ));
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

async fn connect(nodes: &Nodes) -> Result<Vec<Client>, DemoError> {
    let mut clients = Vec::new();
    for node in 0..SERVERS.len() {
        clients.push(ready(nodes, node).await?);
    }
    Ok(clients)
}

async fn views(clients: &mut [Client], stream: &str) -> Result<Vec<View>, DemoError> {
    let mut views = Vec::new();
    for client in clients {
        views.push(view(client, stream, "settling").await?);
    }
    Ok(views)
}

/// Reads one replica of the stream from its first message to its last, against the record.
pub(super) async fn read_replica(
    story: &Story,
    nodes: &Nodes,
    node: usize,
    record: &Record,
) -> Result<ReplicaFindings, DemoError> {
    let mut check = ReplicaCheck::new(record);
    let view = read_all(story, nodes, node, STREAM, |message| check.take(&message)).await?;
    Ok(check.finish(SERVERS[node], view))
}

/// Hands on every message of a node's replica, in order; what the node says of it.
pub(super) async fn read_all(
    story: &Story,
    nodes: &Nodes,
    node: usize,
    stream: &str,
    mut take: impl FnMut(Message),
) -> Result<View, DemoError> {
    let server = SERVERS[node];
    let step = format!("reading {server}");
    let mut client = ready(nodes, node).await?;
    let view = view(&mut client, stream, &step).await?;
    let bar = story.bar(&format!("reading {server}"), view.messages);
    let (mut from, mut read) = (Some(Sequence::new(1)), 0);
    while let Some(first) = from {
        let asked = timeout(PATIENCE, client.read(stream, first, MESSAGES, BYTES)).await;
        let (messages, next) = match asked {
            Ok(answered) => {
                answered.map_err(|why| DemoError::Client { step: step.clone(), why })?
            }
            Err(_) => {
                let how = format!("{server} does not answer a read at {first}");
                return Err(DemoError::Hung { step, patience: PATIENCE, how });
            }
        };
        read += messages.len() as u64;
        messages.into_iter().for_each(&mut take);
        bar.set(read);
        // An answer that leads nowhere must not be asked for again and again.
        from = next.filter(|next| *next > first);
    }
    Ok(view)
}
