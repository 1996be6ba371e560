//! The loop: waits for sockets, disk and time, tells the node, and does what it asks.
//!
//! Each turn takes everything that is ready, up to a bound, hands it to the node, and performs
//! all commands that came of it. So one turn's messages to a peer share a frame, its answers to
//! a client share a frame, and its writes share a sync. Nothing waits for anything inside a
//! turn; sockets and disk work between turns, or beside them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::{Answer, Command, Report, Role};
use jetwake::config::GroupKind;
use jetwake::event::{Event, Opened, Request};
use jetwake::ids::{GroupId, PeerId, RequestId};
use jetwake::node::Node;
use jetwake::time::Time;
use slab::Slab;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::transport::{Asker, ClientRequest, Inbound, Interest, Transport};

/// Batches from the transport that one turn takes.
const BATCHES_A_TURN: usize = 16;
/// Events from the disk that one turn takes.
const DISK_EVENTS_A_TURN: usize = 1024;

/// How long a node that stops waits for its last messages to leave.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// The number of requests that nobody awaits the answer to.
pub(crate) const OWN_REQUEST: RequestId = RequestId::MAX;

/// Performs the commands that concern the disk, and sends what comes of them as events.
pub trait Storage {
    /// Begins to do what a `Write`, `Load`, `LoadSnapshot`, `Store`, `SyncStore` or `Read` asks. Does not wait.
    fn perform(&mut self, command: Command);

    /// Called when a turn's commands have all been performed: what belongs together is
    /// together now.
    fn turn_ends(&mut self) {}
}

impl Storage for Disk {
    fn perform(&mut self, command: Command) {
        if let Some(other) = Self::perform(self, command) {
            tracing::error!("the disk has nothing that could do this: {other:?}");
        }
    }
}

/// Sees all that a node is told and all that it asks, in order. This is where a trace is
/// recorded.
pub trait Observer {
    /// The node is about to be told this.
    fn event(&mut self, now: Time, event: &Event);
    /// The node asked this.
    fn command(&mut self, command: &Command);
    /// The node asks no more until it is told something.
    fn drained(&mut self);
}

/// Why the loop ended before it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The disk's threads are gone.
    #[error("the disk has stopped working")]
    Disk,
    /// The listener is gone.
    #[error("the transport has stopped working")]
    Transport,
}

/// A node with all that surrounds it.
pub struct Runtime<S> {
    node: Node,
    clock: Clock,
    transport: Transport,
    storage: S,
    observer: Option<Box<dyn Observer + Send>>,
    interest: Interest,
    requests: OpenRequests,
    names: Names,
}

impl<S: Storage> Runtime<S> {
    /// Puts the parts together. The disk is open already; `told` is what the node is told before
    /// `opened`, what the disk holds for each group of the node's configuration.
    pub fn new(
        node: Node,
        clock: Clock,
        transport: Transport,
        storage: S,
        told: Vec<Event>,
        opened: Vec<Opened>,
        observer: Option<Box<dyn Observer + Send>>,
    ) -> Self {
        let names = Names::new(&node);
        let mut runtime = Self {
            node,
            clock,
            transport,
            storage,
            observer,
            interest: Interest::default(),
            requests: OpenRequests::default(),
            names,
        };
        let now = runtime.clock.now();
        for event in told {
            runtime.handle(now, event);
        }
        for (group, disk) in (0..).map(GroupId).zip(opened) {
            runtime.handle(now, Event::Opened { group, disk });
        }
        runtime.perform();
        runtime
    }

    /// Runs until `stop` comes true. Cancelling it drops the node where it stands, as a kill
    /// would.
    ///
    /// # Errors
    /// [`RuntimeError`] if a part that the node cannot do without is gone.
    pub async fn run(
        mut self,
        mut inbound: mpsc::Receiver<Inbound>,
        mut disk: mpsc::UnboundedReceiver<Event>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), RuntimeError> {
        let mut stop = pin!(stop);
        let mut batches = Vec::with_capacity(BATCHES_A_TURN);
        let mut events = Vec::with_capacity(DISK_EVENTS_A_TURN);
        loop {
            let deadline = self.node.deadline().map(|(when, _)| self.clock.until(when));
            tokio::select! {
                biased;
                () = &mut stop => break,
                taken = disk.recv_many(&mut events, DISK_EVENTS_A_TURN) => {
                    if taken == 0 {
                        return Err(RuntimeError::Disk);
                    }
                }
                taken = inbound.recv_many(&mut batches, BATCHES_A_TURN) => {
                    if taken == 0 {
                        return Err(RuntimeError::Transport);
                    }
                }
                () = tokio::time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => {}
            }
            while batches.len() < BATCHES_A_TURN
                && let Ok(batch) = inbound.try_recv()
            {
                batches.push(batch);
            }
            self.turn(&mut events, &mut batches);
            // Sockets get their turn, and gather what the next one takes.
            tokio::task::yield_now().await;
        }
        self.hand_over().await;
        tracing::info!("stopped: {}", self.transport.counters());
        Ok(())
    }

    /// Gives up all leadership, so that the others need not wait for this node's silence.
    async fn hand_over(&mut self) {
        let now = self.clock.now();
        for group in (0..).map(GroupId).take(self.names.groups.len()) {
            let request = Request::StepDown { to: None };
            self.handle(now, Event::Request { id: OWN_REQUEST, group, request });
        }
        self.perform();
        // Peers that do not read must not keep it from stopping.
        let _ = tokio::time::timeout(LAST_WORDS, self.transport.flushed()).await;
    }

    fn turn(&mut self, events: &mut Vec<Event>, batches: &mut Vec<Inbound>) {
        let now = self.clock.now();
        for event in events.drain(..) {
            self.handle(now, event);
        }
        for batch in batches.drain(..) {
            self.take(now, batch);
        }
        if self.node.deadline().is_some_and(|(when, _)| when <= now) {
            self.handle(now, Event::DeadlineReached);
        }
        self.perform();
    }

    fn handle(&mut self, now: Time, event: Event) {
        if let Some(observer) = &mut self.observer {
            observer.event(now, &event);
        }
        self.node.handle(now, event);
    }

    fn take(&mut self, now: Time, batch: Inbound) {
        match batch {
            Inbound::Connected(peer) => self.handle(now, Event::Connected(peer)),
            Inbound::Disconnected(peer) => self.handle(now, Event::Disconnected(peer)),
            Inbound::Messages { from, messages } => {
                for message in messages {
                    if !self.interest.covers(&message.subject) {
                        self.transport.counters().messages_unheard.add(1);
                        continue;
                    }
                    let event = Event::Received {
                        from,
                        subject: message.subject,
                        reply: message.reply,
                        payload: message.payload,
                    };
                    self.handle(now, event);
                }
            }
            Inbound::Requests { client, requests } => {
                for request in requests {
                    self.ask(now, &client, request);
                }
            }
        }
    }

    fn ask(&mut self, now: Time, client: &Arc<dyn Asker>, request: ClientRequest) {
        let ClientRequest { id, stream, request, weight } = request;
        if let Some(group) = self.names.group(&stream) {
            let id = self.requests.open(Arc::clone(client), id, weight);
            self.handle(now, Event::Request { id, group, request });
        } else {
            client.answer(id, weight, &Answer::Json(Bytes::from_static(STREAM_NOT_FOUND)));
        }
    }

    fn perform(&mut self) {
        while let Some(command) = self.node.poll() {
            if let Some(observer) = &mut self.observer {
                observer.command(&command);
            }
            match command {
                Command::Send { to, subject, reply, payload } => {
                    self.transport.send(&to, &subject, reply.as_ref(), &payload);
                }
                Command::Answer { id, answer } => self.requests.answer(id, &answer),
                Command::Subscribe(subject) => {
                    self.transport.listen(&subject);
                    self.interest.add(subject);
                }
                Command::Unsubscribe(subject) => {
                    self.transport.listen_no_longer(&subject);
                    self.interest.remove(&subject);
                }
                Command::Report { group, report } => {
                    if let (Some(group), Report::Role { role, .. }) = (group, &report)
                        && let Some(stream) = self.names.stream(group)
                    {
                        self.transport.leads(stream, *role == Role::Leader);
                    }
                    self.names.tell(group, &report);
                }
                Command::Write { .. }
                | Command::Load { .. }
                | Command::LoadSnapshot { .. }
                | Command::Store { .. }
                | Command::SyncStore { .. }
                | Command::Read { .. } => self.storage.perform(command),
                other => tracing::error!("this driver has nothing that could do this: {other:?}"),
            }
        }
        if let Some(observer) = &mut self.observer {
            observer.drained();
        }
        self.storage.turn_ends();
    }
}

/// Upstream's error for a stream that is not there (`JSStreamNotFoundErr`).
const STREAM_NOT_FOUND: &[u8] =
    br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;

/// The requests that the node has not answered yet, by slot; a slot is used again, and the
/// number that the node sees tells its uses apart.
#[derive(Default)]
struct OpenRequests {
    slots: Slab<OpenRequest>,
    uses: u32,
}

struct OpenRequest {
    number: RequestId,
    client: Arc<dyn Asker>,
    id: u64,
    weight: usize,
}

impl OpenRequests {
    fn open(&mut self, client: Arc<dyn Asker>, id: u64, weight: usize) -> RequestId {
        self.uses = self.uses.wrapping_add(1);
        let slot = self.slots.vacant_entry();
        let number = RequestId::new(u64::from(self.uses) << 32 | slot.key() as u64 & SLOT);
        slot.insert(OpenRequest { number, client, id, weight });
        number
    }

    fn answer(&mut self, number: RequestId, answer: &Answer) {
        let slot = usize::try_from(number.get() & SLOT).unwrap_or(usize::MAX);
        if self.slots.get(slot).is_some_and(|open| open.number == number) {
            let open = self.slots.remove(slot);
            open.client.answer(open.id, open.weight, answer);
        } else if number != OWN_REQUEST {
            tracing::error!("request {number} was answered twice, or never asked");
        }
    }
}

/// The part of a request's number that is its slot.
const SLOT: u64 = u32::MAX as u64;

/// What people call the things that the core numbers.
struct Names {
    streams: BTreeMap<String, GroupId>,
    groups: Vec<String>,
    servers: BTreeMap<PeerId, String>,
}

impl Names {
    fn new(node: &Node) -> Self {
        let mut names =
            Self { streams: BTreeMap::new(), groups: Vec::new(), servers: BTreeMap::new() };
        for (id, group) in (0..).map(GroupId).zip(&node.config().groups) {
            let name = match &group.kind {
                GroupKind::Stream(stream) => {
                    names.streams.insert(stream.name.clone(), id);
                    stream.name.clone()
                }
                GroupKind::Plain | GroupKind::Consumer(_) | GroupKind::Meta(_) => {
                    group.name.as_str().to_owned()
                }
            };
            names.groups.push(name);
            for member in &group.members {
                names.servers.insert(PeerId::from_name(member), member.clone());
            }
        }
        names
    }

    fn group(&self, stream: &[u8]) -> Option<GroupId> {
        self.streams.get(std::str::from_utf8(stream).ok()?).copied()
    }

    fn stream(&self, group: GroupId) -> Option<&str> {
        let name = self.groups.get(usize::try_from(group.0).ok()?)?;
        (self.streams.get(name) == Some(&group)).then_some(name)
    }

    fn server(&self, id: Option<PeerId>) -> String {
        id.map_or_else(
            || "nobody".into(),
            |id| self.servers.get(&id).cloned().unwrap_or_else(|| id.to_string()),
        )
    }

    /// Writes a report of the node into the log.
    fn tell(&self, group: Option<GroupId>, report: &Report) {
        let group = group.and_then(|group| self.groups.get(usize::try_from(group.0).ok()?));
        let group = group.map_or("", String::as_str);
        match report {
            Report::Role { role, term, leader } => {
                let leader = self.server(*leader);
                tracing::info!(group, ?role, %term, leader, "role");
            }
            Report::Refused { from, why } => {
                tracing::warn!(group, from = self.server(*from), "message refused: {why}");
            }
            Report::Catchup(phase) => tracing::info!(group, "catchup: {phase}"),
            Report::Snapshot { index, installed: true } => {
                tracing::info!(group, %index, "snapshot of the leader installed");
            }
            Report::Snapshot { index, installed: false } => {
                tracing::info!(group, %index, "snapshot taken");
            }
            Report::Members { members, committed } => {
                let members: Vec<_> = members.iter().map(|id| self.server(Some(*id))).collect();
                tracing::info!(group, committed, "members: {}", members.join(", "));
            }
            Report::Impaired(impairment) => tracing::error!(group, "impaired: {impairment}"),
            Report::Repaired { last } => tracing::warn!(group, %last, "repaired from the others"),
            Report::Damaged(damaged) => tracing::error!(group, "damaged: {}", damaged.damage()),
            Report::StoodAside(why) => tracing::error!(group, "stands aside: {why}"),
            other => tracing::info!(group, "{other:?}"),
        }
    }
}
