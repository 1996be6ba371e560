//! NATS clients of a node's streams: they publish to the subjects of a stream, and its leader
//! answers; they ask JetStream's API, of which the part in [`api`](super::api) is served.
//!
//! The connection is one of its own, so that neither a flood of messages nor one that the library
//! cannot read (it leaves the server at a header that is no text) disturbs the peers. A stream's
//! subjects are subscribed by its leader alone, as upstream's are: while nobody leads, the server says
//! that nobody is there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use jetwake::cluster::api::Part;
use jetwake::command::Answer;
use jetwake::event::Request;
use jetwake::subject::collide;
use jetwake::wire::ApiError;
use slab::Slab;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::BATCH;
use super::access::{NatsAccess, NatsError};
use super::api::{self, Asked, Shape};
use crate::transport::asker::{Asker, ClientRequest};
use crate::transport::room::Room;
use crate::transport::{Bounds, Inbound, Shared};

/// How long to wait for a JetStream that answers where ours would.
const PROBE: Duration = Duration::from_secs(1);

/// What NATS clients are served, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where the clients are.
    pub access: NatsAccess,
    /// All streams of the cluster, in the same order on all its servers.
    pub streams: Vec<ServedStream>,
    /// Whether questions to JetStream's API are answered; where nats-servers answer them they are not.
    pub api: bool,
}

/// A stream of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedStream {
    /// Its name.
    pub name: String,
    /// Its subjects.
    pub subjects: Vec<String>,
    /// Whether this server keeps it.
    pub kept: bool,
}

/// The way to NATS clients.
#[derive(Debug)]
pub(in crate::transport) struct ClientsLink {
    clients: Arc<Clients>,
}

impl ClientsLink {
    /// Connects, and looks whether a JetStream answers there. The tasks that it needs are added to
    /// `tasks`.
    pub(in crate::transport) async fn start(
        service: Service,
        shared: &Shared,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, NatsError> {
        let Service { access, streams, api: answers } = service;
        let name = format!("{} for clients", shared.hello.name);
        let client = access.connect(&name, tell).await?;
        let prefix = api::prefix(access.domain.as_deref());
        if answers {
            check_no_jetstream(&client, &access, &prefix).await?;
        }
        let (orders, work) = mpsc::unbounded_channel();
        let leads = streams.iter().map(|_| AtomicBool::new(false)).collect();
        let bounds = Arc::clone(&shared.bounds);
        let (open, room) = (Mutex::default(), Room::default());
        let clients = Arc::new(Clients { streams, leads, prefix, orders, open, room, bounds });
        if answers {
            let listened = format!("{}>", clients.prefix);
            let asked = client.subscribe(listened).await.map_err(|why| ended(&access, &why))?;
            tasks.spawn(Arc::clone(&clients).take_questions(asked, shared.inbound.clone()));
        }
        let worker = Worker {
            client,
            clients: Arc::clone(&clients),
            inbound: shared.inbound.clone(),
            listeners: BTreeMap::new(),
        };
        tasks.spawn(worker.run(work));
        Ok(Self { clients })
    }

    /// Whether this node leads a stream now.
    pub(in crate::transport) fn leads(&self, stream: &str, leads: bool) {
        let streams = &self.clients.streams;
        let Some(place) = streams.iter().position(|one| one.name == stream) else { return };
        if self.clients.leads[place].swap(leads, Ordering::Relaxed) != leads {
            self.clients.order(Order::Leads { place, leads });
        }
    }
}

/// Says what became of the connection.
fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to the NATS server of clients"),
        Event::Disconnected => tracing::warn!("lost the NATS server of clients"),
        other => tracing::warn!("NATS server of clients: {other}"),
    }
}

fn ended(access: &NatsAccess, why: &dyn std::fmt::Display) -> NatsError {
    NatsError::Ended { servers: access.servers.join(", "), why: why.to_string() }
}

/// Two that answer the same request would contradict each other.
async fn check_no_jetstream(
    client: &Client,
    access: &NatsAccess,
    prefix: &str,
) -> Result<(), NatsError> {
    let asked = client.request(format!("{prefix}INFO"), Bytes::new());
    // Nobody is there, or only others of ours that do not lead.
    let Ok(Ok(answer)) = tokio::time::timeout(PROBE, asked).await else { return Ok(()) };
    let not_enabled = [ApiError::NOT_ENABLED, ApiError::NOT_ENABLED_FOR_ACCOUNT];
    match api::error_in(&Answer::Json(answer.payload.clone())) {
        // Another of ours.
        Some(error) if error.is(&ApiError::BAD_REQUEST) => Ok(()),
        Some(error) if not_enabled.iter().any(|one| one.is(&error)) => Ok(()),
        found => {
            let servers = access.servers.join(", ");
            let found = found.map_or_else(|| "it is enabled".into(), |error| error.to_string());
            Err(NatsError::HasJetStream { servers, api: format!("{prefix}>"), found })
        }
    }
}

/// All NATS clients, as the node sees them.
#[derive(Debug)]
struct Clients {
    streams: Vec<ServedStream>,
    /// Which of them this node leads.
    leads: Vec<AtomicBool>,
    prefix: String,
    orders: mpsc::UnboundedSender<Order>,
    open: Mutex<Slab<Open>>,
    room: Room,
    bounds: Arc<Bounds>,
}

/// A request that the node has not answered yet.
#[derive(Debug)]
struct Open {
    reply: Reply,
    shape: Shape,
}

/// Where an answer goes.
#[derive(Debug)]
enum Reply {
    /// To whoever listens there; nobody if the client wants no answer.
    Client(Option<async_nats::Subject>),
    /// Into the list of which it is a part.
    List(Arc<List>),
}

/// A list of streams whose parts come one by one.
#[derive(Debug)]
struct List {
    reply: Option<async_nats::Subject>,
    offset: u64,
    parts: Mutex<Vec<Bytes>>,
    /// How many parts there will be.
    whole: usize,
    /// The names of those that are not kept here.
    missing: Vec<String>,
}

/// What is to be done on the connection, in order.
#[derive(Debug)]
enum Order {
    Leads { place: usize, leads: bool },
    Answer { to: async_nats::Subject, answer: Bytes, shape: Shape },
}

impl Clients {
    fn order(&self, order: Order) {
        // The worker ends with the transport.
        let _ = self.orders.send(order);
    }

    fn say(&self, reply: Option<async_nats::Subject>, answer: Bytes, shape: Shape) {
        if let Some(to) = reply {
            self.order(Order::Answer { to, answer, shape });
        }
    }

    fn open(&self, place: usize, request: Request, reply: Reply, shape: Shape) -> ClientRequest {
        let weight = match &request {
            Request::Publish { subject, header, payload } => {
                subject.len() + header.len() + payload.len()
            }
            _ => self.bounds.read,
        };
        let open = Open { reply, shape };
        let id = self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(open);
        self.room.take(1, weight);
        let stream = Bytes::copy_from_slice(self.streams[place].name.as_bytes());
        ClientRequest { id: id as u64, stream, request, weight }
    }

    async fn wait_for_room(&self) {
        let Bounds { client_requests, client_bytes, .. } = *self.bounds;
        self.room.wait(|count, weight| count < client_requests && weight < client_bytes).await;
        // Others may wait for the same.
        self.room.look_again();
    }

    /// Hands messages of clients to the node until it no longer leads.
    async fn take_messages(
        self: Arc<Self>,
        place: usize,
        mut subscriber: Subscriber,
        inbound: mpsc::Sender<Inbound>,
    ) {
        while let Some(first) = subscriber.next().await {
            self.wait_for_room().await;
            let mut requests = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                let Message { subject, reply, headers, payload, .. } = message;
                let header = headers.as_ref().map_or_else(Bytes::new, header_block);
                let subject = Bytes::from(subject.into_string());
                let request = Request::Publish { subject, header, payload };
                requests.push(self.open(place, request, Reply::Client(reply), Shape::AsItIs));
                let more = requests.len() < BATCH;
                next = if more { subscriber.next().now_or_never().flatten() } else { None };
            }
            let client: Arc<dyn Asker> = self.clone();
            if inbound.send(Inbound::Requests { client, requests }).await.is_err() {
                return;
            }
        }
    }

    /// Hands requests to the API to the node, or answers them.
    async fn take_questions(
        self: Arc<Self>,
        mut subscriber: Subscriber,
        inbound: mpsc::Sender<Inbound>,
    ) {
        while let Some(message) = subscriber.next().await {
            self.wait_for_room().await;
            let requests = self.take_question(message);
            let client: Arc<dyn Asker> = self.clone();
            if !requests.is_empty()
                && inbound.send(Inbound::Requests { client, requests }).await.is_err()
            {
                return;
            }
        }
    }

    fn take_question(&self, message: Message) -> Vec<ClientRequest> {
        let Some(subject) = message.subject.strip_prefix(&self.prefix) else { return Vec::new() };
        let reply = message.reply.clone();
        // Who starts wants to know at once whether somebody else is there.
        if subject == "INFO" {
            self.say(reply, api::unknown(), Shape::AsItIs);
            return Vec::new();
        }
        match api::read(subject, &message.payload) {
            Asked::Stream { stream, request, shape, kind } => match self.place(stream) {
                Some(place) if self.leads_at(place) => {
                    return vec![self.open(place, request, Reply::Client(reply), shape)];
                }
                None if self.speaks() => {
                    self.say(reply, api::no_such_stream(kind), Shape::AsItIs);
                }
                _ => {}
            },
            Asked::Refused { stream, answer, kind } => match self.place(stream) {
                Some(place) if self.leads_at(place) => self.say(reply, answer, Shape::AsItIs),
                None if self.speaks() => {
                    self.say(reply, api::no_such_stream(kind), Shape::AsItIs);
                }
                _ => {}
            },
            _ if !self.speaks() => {}
            Asked::Answer(answer) => self.say(reply, answer, Shape::AsItIs),
            Asked::Names(part) => {
                let meant = self.meant(&part);
                let names = meant.map(|(_, stream)| &stream.name[..]).collect();
                self.say(reply, api::names(names, part.offset), Shape::AsItIs);
            }
            Asked::List(part) => return self.list(reply, &part),
        }
        Vec::new()
    }

    /// The streams that take messages of a subject, if one is given.
    fn meant<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = (usize, &'a ServedStream)> {
        let subject = part.subject.as_bytes();
        let takes = move |stream: &ServedStream| {
            let subjects = &mut stream.subjects.iter();
            subject.is_empty() || subjects.any(|one| collide(one.as_bytes(), subject))
        };
        self.streams.iter().enumerate().filter(move |(_, stream)| takes(stream))
    }

    /// Asks for what is known of each stream that is kept here.
    fn list(&self, reply: Option<async_nats::Subject>, part: &Part) -> Vec<ClientRequest> {
        let (kept, others): (Vec<_>, Vec<_>) =
            self.meant(part).partition(|(_, stream)| stream.kept);
        let list = Arc::new(List {
            reply,
            offset: part.offset,
            parts: Mutex::default(),
            whole: kept.len(),
            missing: others.into_iter().map(|(_, stream)| stream.name.clone()).collect(),
        });
        if kept.is_empty() {
            self.say(list.reply.clone(), list.answer(&[]), Shape::AsItIs);
        }
        let ask = |(place, _)| {
            self.open(place, Request::Info, Reply::List(Arc::clone(&list)), Shape::Info)
        };
        kept.into_iter().map(ask).collect()
    }

    fn place(&self, stream: &str) -> Option<usize> {
        self.streams.iter().position(|one| one.name == stream)
    }

    fn leads_at(&self, place: usize) -> bool {
        self.leads[place].load(Ordering::Relaxed)
    }

    /// Whether this node answers what concerns no stream: the leader of the first does.
    fn speaks(&self) -> bool {
        !self.leads.is_empty() && self.leads_at(0)
    }
}

impl List {
    /// Takes a part; the last one makes it whole.
    fn add(&self, part: Bytes) -> Option<Bytes> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(part);
        (parts.len() == self.whole).then(|| self.answer(&parts))
    }

    fn answer(&self, parts: &[Bytes]) -> Bytes {
        let missing: Vec<_> = self.missing.iter().map(String::as_str).collect();
        api::infos(parts, &missing, self.offset)
    }
}

impl Asker for Clients {
    fn answer(&self, id: u64, weight: usize, answer: &Answer) {
        self.room.give_back(weight);
        let slot = usize::try_from(id).unwrap_or(usize::MAX);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).try_remove(slot);
        let Some(Open { reply, shape }) = open else { return };
        match reply {
            Reply::List(list) => {
                if let Some(whole) = list.add(shape.of(answer)) {
                    self.say(list.reply.clone(), whole, Shape::AsItIs);
                }
            }
            Reply::Client(None) => {}
            // Who leads answers, if anybody does; this was too late or too early.
            Reply::Client(_) if not_leading(answer) => {}
            Reply::Client(reply) => {
                let answer = shape.of(answer);
                self.say(reply, answer, shape);
            }
        }
    }
}

fn not_leading(answer: &Answer) -> bool {
    api::error_in(answer).is_some_and(|error| error.is(&ApiError::CLUSTER_NOT_LEADER))
}

/// The header as NATS writes it. The library tells the fields in no order, and they are sorted by their
/// names, so that the same fields are the same bytes.
fn header_block(fields: &HeaderMap) -> Bytes {
    let mut sorted: Vec<(&str, _)> =
        fields.iter().map(|(name, values)| (name.as_ref(), values)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, values) in sorted {
        for value in values {
            for part in [name, ": ", value.as_str(), "\r\n"] {
                block.extend_from_slice(part.as_bytes());
            }
        }
    }
    block.extend_from_slice(b"\r\n");
    block.into()
}

/// Does what is ordered, in order.
struct Worker {
    client: Client,
    clients: Arc<Clients>,
    inbound: mpsc::Sender<Inbound>,
    /// Of the streams that this node leads; when they go the subscriptions end.
    listeners: BTreeMap<usize, JoinSet<()>>,
}

impl Worker {
    async fn run(mut self, mut work: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = work.recv().await {
            match order {
                Order::Leads { place, leads: true } => self.listen(place).await,
                Order::Leads { place, leads: false } => drop(self.listeners.remove(&place)),
                Order::Answer { to, answer, shape } => self.answer(to, answer, &shape).await,
            }
        }
    }

    async fn listen(&mut self, place: usize) {
        let stream = &self.clients.streams[place];
        let mut listeners = JoinSet::new();
        for subject in &stream.subjects {
            match self.client.subscribe(subject.clone()).await {
                Ok(subscriber) => {
                    let clients = Arc::clone(&self.clients);
                    listeners.spawn(clients.take_messages(place, subscriber, self.inbound.clone()));
                }
                Err(why) => {
                    tracing::error!(stream = stream.name, subject, "cannot be listened to: {why}");
                }
            }
        }
        self.listeners.insert(place, listeners);
    }

    async fn answer(&self, to: async_nats::Subject, answer: Bytes, shape: &Shape) {
        if self.client.connection_state() != State::Connected {
            // Once it is back, who asked has given up.
            return;
        }
        let most = self.client.max_payload();
        let answer = if answer.len() > most { shape.too_large() } else { answer };
        if let Err(why) = self.client.publish(to, answer).await {
            tracing::error!("an answer was dropped: {why}");
        }
    }
}
