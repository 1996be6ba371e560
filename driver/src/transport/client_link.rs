//! The connection of one client, as the node sees it.
//!
//! Requests that are not answered yet are counted, with the bytes that they and their answers
//! take. At the bound the client's connection is not read any further until answers have left.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use jetwake::command::Answer;
use jetwake::event::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::asker::{Asker, ClientRequest};
use super::body::{Answered, Asked, decode_requests};
use super::connection::{ConnectionError, FrameReader};
use super::counters::Counters;
use super::frame::{FrameError, Kind};
use super::outbox::{Lane, NotTaken, Outbox};
use super::room::Room;
use super::{Bounds, Inbound};

/// A client that is, or was, connected.
#[derive(Debug)]
pub struct ClientLink {
    /// The name that it gave, for logs.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    outbox: Outbox,
    room: Room,
    bounds: Arc<Bounds>,
}

impl ClientLink {
    pub(super) fn new(
        name: String,
        address: SocketAddr,
        largest: u64,
        bounds: Arc<Bounds>,
    ) -> Self {
        // What is open is bounded, and so are the answers to it.
        let outbox = Outbox::new(usize::MAX);
        outbox.open(largest);
        Self { name, address, outbox, room: Room::default(), bounds }
    }

    /// Reads requests and writes answers until the client goes.
    pub(super) async fn serve(
        self: &Arc<Self>,
        mut frames: FrameReader<impl AsyncRead + Unpin>,
        writer: impl AsyncWrite + Unpin,
        inbound: &mpsc::Sender<Inbound>,
        counters: &Counters,
    ) -> Result<(), ConnectionError> {
        frames.take_items_of(self.bounds.request);
        let sent = |length| {
            counters.bytes_sent.add(length as u64);
            self.room.look_again();
        };
        let ended = tokio::select! {
            read = self.read(&mut frames, inbound, counters) => read,
            written = self.outbox.write_to(writer, sent) => written.map_err(Into::into),
        };
        self.outbox.close();
        ended
    }

    async fn read(
        self: &Arc<Self>,
        frames: &mut FrameReader<impl AsyncRead + Unpin>,
        inbound: &mpsc::Sender<Inbound>,
        counters: &Counters,
    ) -> Result<(), ConnectionError> {
        loop {
            while let Some(frame) = frames.arrived()? {
                match frame.kind {
                    Kind::Requests => {
                        let requests = decode_requests(&frame, self.bounds.client_requests)?;
                        counters.requests.add(requests.len() as u64);
                        self.wait_for_room().await;
                        let batch = self.open(requests);
                        inbound.send(batch).await.map_err(|_| ConnectionError::Stopping)?;
                    }
                    Kind::Ping => self.outbox.push_empty(Kind::Pong),
                    found => return Err(FrameError::Unexpected { found }.into()),
                }
            }
            let length = frames.read_more().await?;
            counters.bytes_received.add(length as u64);
        }
    }

    fn open(self: &Arc<Self>, requests: Vec<Asked<Bytes, Request>>) -> Inbound {
        let weighed = |asked: Asked<Bytes, Request>| ClientRequest {
            weight: self.weight(&asked.request),
            id: asked.id,
            stream: asked.stream,
            request: asked.request,
        };
        let requests: Vec<_> = requests.into_iter().map(weighed).collect();
        let weight = requests.iter().map(|request| request.weight).sum();
        self.room.take(requests.len(), weight);
        let client: Arc<dyn Asker> = self.clone();
        Inbound::Requests { client, requests }
    }

    fn weight(&self, request: &Request) -> usize {
        match request {
            Request::Publish { subject, header, payload } => {
                subject.len() + header.len() + payload.len()
            }
            Request::Read { bytes, .. } => {
                usize::try_from(bytes.get()).unwrap_or(usize::MAX).min(self.bounds.read)
            }
            _ => 0,
        }
    }

    async fn wait_for_room(&self) {
        let Bounds { client_requests, client_bytes, .. } = *self.bounds;
        let has_room = |count, weight: usize| {
            count < client_requests && weight.saturating_add(self.outbox.waiting()) < client_bytes
        };
        self.room.wait(has_room).await;
    }
}

impl Asker for ClientLink {
    fn answer(&self, id: u64, weight: usize, answer: &Answer) {
        let sent = self.outbox.push(Lane::Live, Kind::Answers, &Answered { id, answer });
        if sent == Err(NotTaken::TooLarge) {
            let answer = &Answer::Json(Bytes::from_static(TOO_LARGE));
            // A client that does not even take this much has asked for silence.
            let _ = self.outbox.push(Lane::Live, Kind::Answers, &Answered { id, answer });
        }
        self.room.give_back(weight);
    }
}

/// Said instead of an answer that the client would not take.
const TOO_LARGE: &[u8] = br#"{"error":{"code":500,"description":"the answer is larger than the client takes: ask for fewer bytes"}}"#;
