//! Publishes to whoever leads, and goes on with the next leader where the last one stopped.
//!
//! Every message is kept until it is acknowledged. When the leader is lost, or says that it leads
//! no more, all that are kept are sent again to the next one, in their order. A message that has
//! a `Nats-Msg-Id` is stored once all the same; one that has none may be stored twice then. The
//! stream has the messages in their order unless a leader is lost: what the lost one still stored
//! may have left gaps, which its heir fills later.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use jetwake::command::Answer;
use jetwake::event::Request;
use jetwake::wire::ApiError;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::{Access, Client, ClientError, NodeAddress, refusal};
use crate::transport::NotTaken;
use crate::transport::body::Answered;

/// How long to wait before a message is sent again that the leader had no room for.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// How a publisher behaves.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// Messages sent and not acknowledged, at most. A node reads no more than 32 Ki ahead.
    pub window: usize,
    /// How long to look for a leader.
    pub patience: Duration,
    /// How long a leader may be silent while messages wait, before another is looked for.
    pub silence: Duration,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self {
            window: 8 * 1024,
            patience: Duration::from_secs(30),
            silence: Duration::from_secs(5),
        }
    }
}

/// A publisher to one stream.
#[derive(Debug)]
pub struct Publisher {
    nodes: Vec<NodeAddress>,
    access: Access,
    stream: String,
    settings: PublisherSettings,
    client: Option<Client>,
    /// What is not acknowledged, and holes where something was; the front is never a hole.
    kept: VecDeque<Option<Kept>>,
    /// The number of the front.
    first: u64,
    leaders: u64,
    /// Whether something kept was not sent to the present leader.
    unsent: bool,
    answers: Vec<Answered<Answer>>,
}

#[derive(Debug)]
struct Kept {
    request: Request,
    /// Whether the present leader has it.
    sent: bool,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The message, as [`Publisher::offer`] numbered it.
    pub number: u64,
    /// Where it was stored, or why it was refused.
    pub outcome: Result<Stored, ApiError>,
}

/// Where a message was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// Its sequence.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Whether it had been stored before.
    #[serde(default)]
    pub duplicate: bool,
}

impl Publisher {
    /// A publisher that connects when it has something to send.
    pub fn new(
        nodes: Vec<NodeAddress>,
        access: Access,
        stream: impl Into<String>,
        settings: PublisherSettings,
    ) -> Self {
        Self {
            nodes,
            access,
            stream: stream.into(),
            settings,
            client: None,
            kept: VecDeque::new(),
            first: 0,
            leaders: 0,
            unsent: false,
            answers: Vec::new(),
        }
    }

    /// Whether the window has room for another message.
    pub fn has_room(&self) -> bool {
        self.kept.len() < self.settings.window
    }

    /// Whether everything that was offered is acknowledged or refused.
    pub fn is_done(&self) -> bool {
        self.kept.is_empty()
    }

    /// The server that takes the messages now, if one is known.
    pub fn leader(&self) -> Option<&str> {
        self.client.as_ref().map(Client::server)
    }

    /// How many times a leader was found: one more than the leaders that were lost.
    pub fn leaders(&self) -> u64 {
        self.leaders
    }

    /// Takes a message; it leaves with the next [`outcomes`](Self::outcomes), or at once if a
    /// leader is known. Numbers count up from 0.
    ///
    /// # Errors
    /// Gives the message back if the window has no room.
    pub fn offer(&mut self, request: Request) -> Result<u64, Request> {
        if !self.has_room() {
            return Err(request);
        }
        let number = self.first + self.kept.len() as u64;
        self.kept.push_back(Some(Kept { request, sent: false }));
        self.unsent |= self.client.is_none();
        if let Some(client) = &mut self.client
            && let Some(Some(kept)) = self.kept.back_mut()
        {
            kept.sent = client.submit(number, &self.stream, &kept.request).is_ok();
            self.unsent |= !kept.sent;
        }
        Ok(number)
    }

    /// Waits until something became of some messages, and adds it to the list; finds the leader
    /// and sends again as often as it takes. Returns at once if nothing is kept. Cancelling loses
    /// nothing.
    ///
    /// # Errors
    /// [`ClientError::NoLeader`], and [`ClientError::NotSent`] for a message that is larger than
    /// the node takes. All that is kept stays kept.
    pub async fn outcomes(&mut self, outcomes: &mut Vec<Published>) -> Result<(), ClientError> {
        let before = outcomes.len();
        while !self.is_done() && outcomes.len() == before {
            if self.client.is_none() {
                self.find_leader().await?;
            }
            self.send_again()?;
            let Some(client) = &mut self.client else { continue };
            let arrived = timeout(self.settings.silence, client.answers(&mut self.answers)).await;
            let lost = match arrived {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer for {:?}", self.settings.silence)),
            };
            if let Some(why) = lost {
                self.lose_leader(&why);
            }
            if self.take_answers(outcomes) && outcomes.len() == before {
                sleep(BUSY_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn find_leader(&mut self) -> Result<(), ClientError> {
        let Self { nodes, access, stream, settings, .. } = self;
        let client = Client::connect_to_leader(nodes, access, stream, settings.patience).await?;
        tracing::debug!(stream = self.stream, leader = client.server(), "publishing");
        self.client = Some(client);
        self.leaders += 1;
        Ok(())
    }

    fn lose_leader(&mut self, why: &str) {
        tracing::debug!(stream = self.stream, leader = self.leader(), "leader lost: {why}");
        self.client = None;
        self.unsent = true;
        for kept in self.kept.iter_mut().flatten() {
            kept.sent = false;
        }
    }

    /// Sends what the present leader does not have.
    fn send_again(&mut self) -> Result<(), ClientError> {
        let Some(client) = self.client.as_mut().filter(|_| self.unsent) else { return Ok(()) };
        for (number, kept) in (self.first..).zip(&mut self.kept) {
            let Some(kept) = kept.as_mut().filter(|kept| !kept.sent) else { continue };
            match client.submit(number, &self.stream, &kept.request) {
                Ok(()) => kept.sent = true,
                Err(error @ ClientError::NotSent { why: NotTaken::TooLarge, .. }) => {
                    return Err(error);
                }
                // What waits to be written leaves first; a lost connection shows when it is read.
                Err(_) => return Ok(()),
            }
        }
        self.unsent = false;
        Ok(())
    }

    /// Sorts the answers; whether some must be sent again to the same leader.
    fn take_answers(&mut self, outcomes: &mut Vec<Published>) -> bool {
        let (mut leads, mut busy) = (true, false);
        for Answered { id: number, answer } in std::mem::take(&mut self.answers) {
            let place = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let Some(slot) = place.and_then(|place| self.kept.get_mut(place)) else { continue };
            let Some(kept) = slot else { continue };
            match outcome(&answer) {
                Err(error) if error.is(&ApiError::CLUSTER_NOT_LEADER) => leads = false,
                Err(error) if is_passing(&error) => {
                    kept.sent = false;
                    self.unsent = true;
                    busy = true;
                }
                outcome => {
                    *slot = None;
                    outcomes.push(Published { number, outcome });
                }
            }
        }
        while let Some(None) = self.kept.front() {
            self.kept.pop_front();
            self.first += 1;
        }
        if !leads {
            self.lose_leader("it leads no more");
        }
        busy || !leads
    }
}

fn outcome(answer: &Answer) -> Result<Stored, ApiError> {
    let Answer::Json(json) = answer else {
        return Err(ApiError::new(500, 0, "the answer to a publish is no JSON"));
    };
    match serde_json::from_slice(json) {
        // A refusal has a sequence too, and it is zero.
        Ok(stored @ Stored { sequence: 1.., .. }) => Ok(stored),
        _ => Err(refusal(json)
            .unwrap_or_else(|| ApiError::new(500, 0, "the answer to a publish cannot be read"))),
    }
}

/// Whether the same leader may take the message a little later.
fn is_passing(error: &ApiError) -> bool {
    error.is(&ApiError::INSUFFICIENT_RESOURCES) || error.is(&ApiError::CLUSTER_NOT_AVAIL)
}

/// A NATS header block with a message id, by which a stream knows a message again.
pub fn message_id_header(id: &str) -> Bytes {
    let mut block = BytesMut::with_capacity(id.len() + 32);
    block.put_slice(b"NATS/1.0\r\nNats-Msg-Id: ");
    block.put_slice(id.as_bytes());
    block.put_slice(b"\r\n\r\n");
    block.freeze()
}
