//! Which servers run: asked for, and listened for.
//!
//! Upstream: `$SYS.REQ.SERVER.PING` and `$SYS.SERVER.*.STATSZ` in `server/events.go`.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{AdoptError, failed};

/// Every server of the cluster answers here.
const PING: &str = "$SYS.REQ.SERVER.PING";
/// What every server says of itself from time to time, and when it starts.
const STATS: &str = "$SYS.SERVER.*.STATSZ";
/// How long to wait for answers.
const ANSWERS: Duration = Duration::from_millis(1500);
/// How often to ask who is back.
const AGAIN: Duration = Duration::from_secs(2);

/// What a server says of itself, as far as it matters here.
#[derive(Deserialize)]
struct Says {
    server: Server,
}

#[derive(Deserialize)]
struct Server {
    name: String,
}

fn name_in(message: &Message) -> Option<String> {
    serde_json::from_slice(&message.payload).ok().map(|says: Says| says.server.name)
}

/// The names of the servers that run.
pub(super) async fn alive(client: &Client) -> Result<BTreeSet<String>, AdoptError> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(failed)?;
    client.publish_with_reply(PING, inbox, Bytes::new()).await.map_err(failed)?;
    let mut alive = BTreeSet::new();
    let until = Instant::now() + ANSWERS;
    while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
        alive.extend(name_in(&answer));
    }
    if alive.is_empty() { Err(AdoptError::NoSystemAccount(PING)) } else { Ok(alive) }
}

/// Comes true when a server is heard that was dead.
///
/// # Errors
/// [`AdoptError::Connection`] if nobody can be heard any more.
pub async fn returned(client: &Client, server: &str) -> Result<(), AdoptError> {
    let mut stats = client.subscribe(STATS).await.map_err(failed)?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(failed)?;
    let mut again = tokio::time::interval(AGAIN);
    loop {
        let heard = tokio::select! {
            _ = again.tick() => {
                let asked = client.publish_with_reply(PING, inbox.clone(), Bytes::new());
                asked.await.map_err(failed)?;
                continue;
            }
            heard = stats.next() => heard,
            heard = answers.next() => heard,
        };
        let heard = heard.ok_or_else(|| failed("the subscription ended"))?;
        if name_in(&heard).as_deref() == Some(server) {
            return Ok(());
        }
    }
}
