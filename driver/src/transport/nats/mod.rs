//! Peers reached through a NATS server, on the subjects that nats-servers use among themselves.
//!
//! One connection carries all groups of a node. What the core listens to is subscribed, one subject
//! at a time and each once; what it sends is published once, however many peers it is for. Nothing
//! rests on what arrives: while the connection is away, and at each bound, messages are dropped and
//! counted, as on any network. The server does not tell who published a message, so the core
//! believes what the message says of its sender: let nobody else publish on `$NRG.>` and `$JSC.>`.

mod access;
mod api;
mod clients;

use std::collections::BTreeMap;
use std::str::Utf8Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use jetwake::subject::Subject;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

pub use access::{NatsAccess, NatsError};
pub(super) use clients::ClientsLink;
pub use clients::{ServedStream, Service};

use super::body::PeerMessage;
use super::counters::Counters;
use super::{Inbound, Shared};

/// Messages of one subscription that are handed on together at most.
const BATCH: usize = 256;

/// The way to all peers.
#[derive(Debug)]
pub(super) struct NatsLink {
    client: Client,
    orders: mpsc::UnboundedSender<Order>,
    waiting: Arc<AtomicUsize>,
    /// Bytes that may wait to be published.
    bound: usize,
    counters: Arc<Counters>,
}

/// What is to be done on the connection, in order.
#[derive(Debug)]
enum Order {
    Publish { subject: Subject, reply: Option<Subject>, payload: Bytes },
    Listen(Subject),
    ListenNoLonger(Subject),
}

impl NatsLink {
    /// Connects. The tasks that it needs are added to `tasks`.
    pub(super) async fn start(
        access: &NatsAccess,
        shared: &Shared,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, NatsError> {
        let counters = Arc::clone(&shared.counters);
        let happened = move |event: &Event| tell(event, &counters);
        let client = access.connect(&shared.hello.name, happened).await?;
        let (orders, work) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            client: client.clone(),
            names: Names { prefix: access.prefix.as_ref().map(|prefix| format!("{prefix}.")) },
            inbound: shared.inbound.clone(),
            waiting: Arc::clone(&waiting),
            counters: Arc::clone(&shared.counters),
            listening: BTreeMap::new(),
            listeners: JoinSet::new(),
        };
        tasks.spawn(worker.run(work));
        let (bound, counters) = (shared.bounds.peer_queue, Arc::clone(&shared.counters));
        Ok(Self { client, orders, waiting, bound, counters })
    }

    /// Publishes a message once for all whom it is for. At the bound it is dropped.
    pub(super) fn send(&self, subject: &Subject, reply: Option<&Subject>, payload: &Bytes) {
        let length = weight(subject, payload);
        if self.waiting.load(Ordering::Relaxed).saturating_add(length) > self.bound {
            return self.counters.messages_over_bound.add(1);
        }
        self.waiting.fetch_add(length, Ordering::Relaxed);
        let (subject, reply, payload) = (subject.clone(), reply.cloned(), payload.clone());
        self.order(Order::Publish { subject, reply, payload });
    }

    /// Listens to a subject.
    pub(super) fn listen(&self, subject: Subject) {
        self.order(Order::Listen(subject));
    }

    /// Listens to a subject no longer.
    pub(super) fn listen_no_longer(&self, subject: Subject) {
        self.order(Order::ListenNoLonger(subject));
    }

    /// Waits until all that was sent has left.
    pub(super) async fn flushed(&self) {
        while self.waiting.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if let Err(why) = self.client.flush().await {
            tracing::debug!("last messages did not leave: {why}");
        }
    }

    fn order(&self, order: Order) {
        // The worker ends with the transport.
        let _ = self.orders.send(order);
    }
}

/// Bytes that a waiting message is counted with.
fn weight(subject: &Subject, payload: &Bytes) -> usize {
    subject.as_bytes().len() + payload.len()
}

/// Says what became of the connection.
fn tell(event: &Event, counters: &Counters) {
    match event {
        Event::Connected => tracing::info!("connected to the NATS server"),
        Event::SlowConsumer(_) => counters.messages_over_bound.add(1),
        Event::Disconnected => tracing::warn!("lost the NATS server"),
        other => tracing::warn!("NATS server: {other}"),
    }
}

/// Does what is ordered, in order: whoever is asked for an answer finds its inbox open.
struct Worker {
    client: Client,
    names: Names,
    inbound: mpsc::Sender<Inbound>,
    waiting: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    listening: BTreeMap<Subject, AbortHandle>,
    listeners: JoinSet<()>,
}

impl Worker {
    async fn run(mut self, mut work: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = work.recv().await {
            match order {
                Order::Publish { subject, reply, payload } => {
                    self.publish(&subject, reply.as_ref(), payload.clone()).await;
                    self.waiting.fetch_sub(weight(&subject, &payload), Ordering::Relaxed);
                }
                Order::Listen(subject) => self.listen(subject).await,
                Order::ListenNoLonger(subject) => {
                    if let Some(listener) = self.listening.remove(&subject) {
                        listener.abort();
                    }
                }
            }
            while self.listeners.try_join_next().is_some() {}
        }
    }

    async fn publish(&self, subject: &Subject, reply: Option<&Subject>, payload: Bytes) {
        if self.client.connection_state() != State::Connected {
            // Once it is back, what is said now is old.
            return self.counters.messages_unconnected.add(1);
        }
        let length = payload.len();
        let to = self.names.outside(subject);
        let reply = reply.map(|reply| self.names.outside(reply)).transpose();
        let (Ok(to), Ok(reply)) = (to, reply) else {
            return tracing::error!(%subject, "message dropped: a subject is no text");
        };
        let published = match reply {
            Some(reply) => self.client.publish_with_reply(to, reply, payload).await,
            None => self.client.publish(to, payload).await,
        };
        match published {
            Ok(()) => {
                self.counters.messages_sent.add(1);
                self.counters.bytes_sent.add(length as u64);
            }
            Err(why) => tracing::error!(%subject, length, "message dropped: {why}"),
        }
    }

    async fn listen(&mut self, subject: Subject) {
        let Ok(listened) = self.names.outside(&subject) else { return };
        match self.client.subscribe(listened).await {
            Ok(subscriber) => {
                let (inbound, counters) = (self.inbound.clone(), Arc::clone(&self.counters));
                let listener = self.listeners.spawn(hand_on(
                    subscriber,
                    self.names.clone(),
                    inbound,
                    counters,
                ));
                if let Some(before) = self.listening.insert(subject, listener) {
                    before.abort();
                }
            }
            Err(why) => tracing::error!(%subject, "cannot be listened to: {why}"),
        }
    }
}

/// Hands on what a subscription brings. When it is aborted the subscription ends.
async fn hand_on(
    mut subscriber: Subscriber,
    names: Names,
    inbound: mpsc::Sender<Inbound>,
    counters: Arc<Counters>,
) {
    while let Some(first) = subscriber.next().await {
        let mut messages = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            // The server answers for those who are not there; silence says as much.
            if message.status.is_none() {
                messages.push(names.of_peer(message));
            }
            let more = messages.len() < BATCH;
            next = if more { subscriber.next().now_or_never().flatten() } else { None };
        }
        let length: usize = messages.iter().map(|message| message.payload.len()).sum();
        counters.messages_received.add(messages.len() as u64);
        counters.bytes_received.add(length as u64);
        if inbound.send(Inbound::Messages { from: None, messages }).await.is_err() {
            return;
        }
    }
}

/// What subjects of the core are called on the server.
#[derive(Clone, Debug)]
struct Names {
    /// With its last dot.
    prefix: Option<String>,
}

impl Names {
    fn outside(&self, subject: &Subject) -> Result<async_nats::Subject, Utf8Error> {
        match &self.prefix {
            None => async_nats::Subject::from_utf8(subject.as_bytes().clone()),
            Some(prefix) => {
                let subject = std::str::from_utf8(subject.as_bytes())?;
                Ok(async_nats::Subject::from([prefix, subject].concat()))
            }
        }
    }

    fn inside(&self, subject: async_nats::Subject) -> Subject {
        let mut name = subject.into_string();
        if let Some(prefix) = &self.prefix
            && name.starts_with(prefix)
        {
            name.drain(..prefix.len());
        }
        Subject::from(name)
    }

    fn of_peer(&self, message: Message) -> PeerMessage {
        PeerMessage {
            subject: self.inside(message.subject),
            reply: message.reply.map(|reply| self.inside(reply)),
            payload: message.payload,
        }
    }
}
