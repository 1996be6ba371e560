//! Speaks to nodes: publishes, reads, deletes, purges, asks.
//!
//! A [`Client`] is one connection to one node. Requests are numbered by the caller, any number of
//! them may be open, and answers come back in batches, in the order in which the node gave them.
//! A [`Publisher`](publisher::Publisher) builds on it, follows the leader and loses nothing.

pub mod publisher;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::{Answer, Message};
use jetwake::event::Request;
use jetwake::ids::{ByteCount, PeerId, Sequence};
use jetwake::raft::Change;
use jetwake::wire::ApiError;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::io::ReadHalf;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::transport::body::{Answered, Asked, Hello, Role, decode_answers, decode_one};
use crate::transport::frame::{FrameError, Kind};
use crate::transport::tls::Security;
use crate::transport::{
    Connection, ConnectionError, Dialed, FrameReader, Lane, NotTaken, Outbox, dial,
};

/// Bytes of the largest answer that a client takes.
const LARGEST_ANSWER: u64 = 64 * 1024 * 1024;
/// Bytes that may wait to be written to one node.
const SEND_QUEUE: usize = 64 * 1024 * 1024;
/// How long a node may take to become reachable, or to say who leads.
const PATIENCE_WITH_A_NODE: Duration = Duration::from_secs(2);
/// How long to wait before asking again who leads.
const LEADER_PAUSE: Duration = Duration::from_millis(25);

/// Where a node is: `HOST:PORT`, or `NAME=HOST:PORT`.
///
/// Under TLS the node's certificate must hold the name, or the host if no name is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The server's name.
    pub name: Option<String>,
    /// Host and port.
    pub address: String,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = match text.split_once('=') {
            Some((name, address)) => (Some(name), address),
            None => (None, text),
        };
        let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if name == Some("") || !matches!(port, Some(Ok(_))) {
            return Err(format!("found {text:?}, expected HOST:PORT or NAME=HOST:PORT"));
        }
        Ok(Self { name: name.map(str::to_owned), address: address.to_owned() })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

impl NodeAddress {
    /// What the node's certificate must hold.
    fn certified_name(&self) -> &str {
        let host = || self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        self.name.as_deref().unwrap_or_else(|| host().trim_matches(['[', ']']))
    }
}

/// How a client introduces itself.
#[derive(Clone, Debug)]
pub struct Access {
    /// The client's name, for the node's log.
    pub name: String,
    /// The cluster that it means to speak to.
    pub cluster: String,
    /// Plain or TLS.
    pub security: Security,
}

/// Why a client did not get what it asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection ended, or did not come about.
    #[error("node {node}: {why}")]
    Connection {
        /// The node.
        node: String,
        /// What happened.
        why: ConnectionError,
    },
    /// The request cannot be sent.
    #[error("node {node}: {why}")]
    NotSent {
        /// The node.
        node: String,
        /// Why it was not taken.
        why: NotTaken,
    },
    /// The node refused, with upstream's code and text.
    #[error("{0}")]
    Refused(ApiError),
    /// The answer is of another kind than the request asks for.
    #[error("node {node}: found {found}, expected {expected}")]
    Answer {
        /// The node.
        node: String,
        /// What came, shortened.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
    /// Nobody leads, or the leader cannot be reached.
    #[error("no leader of stream {stream:?} within {patience:?}; last: {last}")]
    NoLeader {
        /// The stream.
        stream: String,
        /// How long it was looked for.
        patience: Duration,
        /// What came of the last attempt.
        last: String,
    },
}

/// A connection to one node.
pub struct Client {
    node: String,
    server: String,
    frames: FrameReader<ReadHalf<Box<dyn Connection>>>,
    outbox: Arc<Outbox>,
    writer: AbortHandle,
    /// Answers that came while another was awaited.
    arrived: Vec<Answered<Answer>>,
    /// Numbers of requests that are answered one at a time; they count down, callers' count up.
    next: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl Client {
    /// Connects to a node. Must be called inside a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`ClientError::Connection`] names the node.
    pub async fn connect(node: &NodeAddress, access: &Access) -> Result<Self, ClientError> {
        let failed = |why| ClientError::Connection { node: node.to_string(), why };
        let own = Hello {
            name: access.name.clone(),
            cluster: access.cluster.clone(),
            role: Role::Client,
            largest: LARGEST_ANSWER,
        };
        let dialed = dial(&access.security, node.certified_name(), &node.address, &own);
        let dialed = timeout(PATIENCE_WITH_A_NODE, dialed).await;
        let Dialed { frames, writer, hello } =
            dialed.unwrap_or(Err(ConnectionError::Silent(PATIENCE_WITH_A_NODE))).map_err(failed)?;
        if let Some(expected) = node.name.as_ref().filter(|name| **name != hello.name) {
            let text = format!("found server {:?}, expected {expected:?}", hello.name);
            return Err(failed(ConnectionError::Identity(text)));
        }
        let outbox = Arc::new(Outbox::new(SEND_QUEUE));
        outbox.open(hello.largest);
        let writing = Arc::clone(&outbox);
        // An error of the writer ends the connection, which the reader sees.
        let writer = tokio::spawn(async move { writing.write_to(writer, |_| {}).await });
        Ok(Self {
            node: node.to_string(),
            server: hello.name,
            frames,
            outbox,
            writer: writer.abort_handle(),
            arrived: Vec::new(),
            next: u64::MAX,
        })
    }

    /// Finds the node that leads a stream, and connects to it.
    ///
    /// # Errors
    /// [`ClientError::NoLeader`] if that takes longer than `patience`.
    pub async fn connect_to_leader(
        nodes: &[NodeAddress],
        access: &Access,
        stream: &str,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let mut last = String::from("no node answered");
        let search = async {
            loop {
                for node in nodes {
                    match Self::connect_if_leader(node, access, stream).await {
                        Ok(client) => return client,
                        Err(error) => last = error.to_string(),
                    }
                }
                sleep(LEADER_PAUSE).await;
            }
        };
        match timeout(patience, search).await {
            Ok(client) => Ok(client),
            Err(_) => Err(ClientError::NoLeader { stream: stream.to_owned(), patience, last }),
        }
    }

    async fn connect_if_leader(
        node: &NodeAddress,
        access: &Access,
        stream: &str,
    ) -> Result<Self, ClientError> {
        let mut client = Self::connect(node, access).await?;
        let info = timeout(PATIENCE_WITH_A_NODE, client.info(stream))
            .await
            .map_err(|_| client.failed(ConnectionError::Silent(PATIENCE_WITH_A_NODE)))??;
        let leader = info.pointer("/cluster/leader").and_then(Value::as_str).unwrap_or_default();
        if leader == client.server {
            return Ok(client);
        }
        let found =
            if leader.is_empty() { "nobody leads".into() } else { format!("{leader} leads") };
        Err(ClientError::Answer { node: client.node.clone(), found, expected: "the leader" })
    }

    /// The name of the server at the other end.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends a request without waiting for anything. `id` comes back with its answer; ids are
    /// the caller's business, from 0 to 2^63.
    ///
    /// The connection has no window of its own: keep count of what is open. A node stops reading
    /// from a client with more than 32 Ki open requests, or 16 MiB of them.
    ///
    /// # Errors
    /// [`ClientError::NotSent`] if it is too large, if too much waits to be written, or if the
    /// connection is gone.
    pub fn submit(&mut self, id: u64, stream: &str, request: &Request) -> Result<(), ClientError> {
        self.outbox
            .push(Lane::Live, Kind::Requests, &Asked { id, stream, request })
            .map_err(|why| ClientError::NotSent { node: self.node.clone(), why })
    }

    /// Waits until answers have come, and adds them to the list. Cancelling loses none.
    ///
    /// # Errors
    /// [`ClientError::Connection`]; the open requests may or may not have been done.
    pub async fn answers(
        &mut self,
        answers: &mut Vec<Answered<Answer>>,
    ) -> Result<(), ClientError> {
        if self.arrived.is_empty() {
            self.receive().await?;
        }
        answers.append(&mut self.arrived);
        Ok(())
    }

    /// Reads until there are answers.
    async fn receive(&mut self) -> Result<(), ClientError> {
        let before = self.arrived.len();
        loop {
            while let Some(frame) = self.frames.arrived().map_err(|why| self.failed(why.into()))? {
                let ended = match frame.kind {
                    Kind::Answers => {
                        decode_answers(&frame, &mut self.arrived).err().map(Into::into)
                    }
                    Kind::Pong => None,
                    Kind::Refusal => Some(match decode_one(&frame) {
                        Ok(why) => ConnectionError::Refused(why),
                        Err(error) => error.into(),
                    }),
                    found => Some(FrameError::Unexpected { found }.into()),
                };
                if let Some(why) = ended {
                    return Err(self.failed(why));
                }
            }
            if self.arrived.len() > before {
                return Ok(());
            }
            if let Err(why) = self.frames.read_more().await {
                return Err(self.failed(why));
            }
        }
    }

    fn failed(&self, why: ConnectionError) -> ClientError {
        ClientError::Connection { node: self.node.clone(), why }
    }

    /// Sends one request and waits for its answer; others may be open.
    ///
    /// # Errors
    /// [`ClientError::NotSent`], [`ClientError::Connection`].
    pub async fn request(
        &mut self,
        stream: &str,
        request: &Request,
    ) -> Result<Answer, ClientError> {
        let id = self.next;
        self.next -= 1;
        self.submit(id, stream, request)?;
        let mut seen = 0;
        loop {
            let found = self.arrived.iter().skip(seen).position(|answered| answered.id == id);
            if let Some(place) = found {
                return Ok(self.arrived.remove(seen + place).answer);
            }
            seen = self.arrived.len();
            self.receive().await?;
        }
    }

    /// Sends one request and waits for the JSON of its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if that is an error, and those of [`request`](Self::request).
    pub async fn request_json(
        &mut self,
        stream: &str,
        request: &Request,
    ) -> Result<Value, ClientError> {
        let json = match self.request(stream, request).await? {
            Answer::Json(json) => json,
            other => return Err(self.unexpected(format!("{other:?}"), "JSON")),
        };
        if let Some(error) = refusal(&json) {
            return Err(ClientError::Refused(error));
        }
        serde_json::from_slice(&json)
            .map_err(|_| self.unexpected(String::from_utf8_lossy(&json).into_owned(), "JSON"))
    }

    fn unexpected(&self, mut found: String, expected: &'static str) -> ClientError {
        if let Some((end, _)) = found.char_indices().nth(100) {
            found.truncate(end);
        }
        ClientError::Answer { node: self.node.clone(), found, expected }
    }

    /// The stream as this node sees it: upstream's stream info.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn info(&mut self, stream: &str) -> Result<Value, ClientError> {
        self.request_json(stream, &Request::Info).await
    }

    /// Messages of this node's replica from `first` on: at most so many messages and bytes, but
    /// at least one if there is one. With them, where to read on; none at the end of the stream.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn read(
        &mut self,
        stream: &str,
        first: Sequence,
        most: usize,
        bytes: ByteCount,
    ) -> Result<(Vec<Message>, Option<Sequence>), ClientError> {
        match self.request(stream, &Request::Read { first, most, bytes }).await? {
            Answer::Messages { messages, next } => Ok((messages, next)),
            Answer::Json(json) => Err(match refusal(&json) {
                Some(error) => ClientError::Refused(error),
                None => self.unexpected(String::from_utf8_lossy(&json).into_owned(), "messages"),
            }),
            other => Err(self.unexpected(format!("{other:?}"), "messages")),
        }
    }

    /// Deletes one message; only the leader does.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn delete(&mut self, stream: &str, sequence: Sequence) -> Result<Value, ClientError> {
        self.request_json(stream, &Request::Delete { sequence }).await
    }

    /// Removes messages whose subject matches the filter (all if it is empty), that lie below
    /// `before` (all if it is zero), but for the newest `keep`; only the leader does.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn purge(
        &mut self,
        stream: &str,
        filter: impl Into<Bytes>,
        before: Sequence,
        keep: u64,
    ) -> Result<Value, ClientError> {
        let request = Request::Purge { filter: filter.into(), before, keep };
        self.request_json(stream, &request).await
    }

    /// Has the node take a snapshot and compact its log.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn snapshot(&mut self, stream: &str) -> Result<Value, ClientError> {
        self.request_json(stream, &Request::Snapshot).await
    }

    /// Adds a server to those that keep the stream, or removes one; answered when that is committed.
    /// Only the leader adds.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn change_members(
        &mut self,
        stream: &str,
        change: Change,
    ) -> Result<Value, ClientError> {
        let request = match change {
            Change::Add(peer) => Request::AddPeer { peer },
            Change::Remove(peer) => Request::RemovePeer { peer },
        };
        self.request_json(stream, &request).await
    }

    /// Has the leader hand over, to a certain server if one is named.
    ///
    /// # Errors
    /// Those of [`request_json`](Self::request_json).
    pub async fn step_down(
        &mut self,
        stream: &str,
        to: Option<&str>,
    ) -> Result<Value, ClientError> {
        let to = to.map(PeerId::from_name);
        self.request_json(stream, &Request::StepDown { to }).await
    }
}

/// The error in an answer, if it is one.
pub fn refusal(json: &[u8]) -> Option<ApiError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: ApiError,
    }
    serde_json::from_slice(json).ok().map(|refusal: Refusal| refusal.error)
}
