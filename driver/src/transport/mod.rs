//! Sockets: clients over TCP, in frames, under TLS unless told otherwise; peers likewise, or through
//! a NATS server.
//!
//! The transport owns every connection. What arrives is handed to the node's loop in batches, by
//! one bounded channel; what the loop sends goes into the outbox of a connection and leaves in
//! as few frames as there were turns of the loop.

mod asker;
pub mod body;
pub mod certificates;
mod client_link;
mod connection;
mod counters;
pub mod frame;
mod interest;
mod listener;
#[cfg(feature = "nats")]
pub mod nats;
mod outbox;
mod peer_link;
mod room;
pub mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::Destination;
use jetwake::ids::PeerId;
use jetwake::subject::Subject;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use asker::{Asker, ClientRequest};
pub use client_link::ClientLink;
pub use connection::ConnectionError;
pub(crate) use connection::FrameReader;
pub use counters::{Count, Counters};
pub use interest::Interest;
pub use outbox::{Lane, NotTaken, Outbox};
pub(crate) use peer_link::{Dialed, dial};
pub(crate) use tls::Connection;

use body::{Envelope, Hello, PeerMessage, Role};
use frame::Kind;
use peer_link::PeerLink;
use tls::Security;

/// What the transport takes at most, and how patient it is.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of the largest message of a peer; a larger one ends its connection.
    pub peer_message: u64,
    /// Bytes of the largest request of a client; a larger one ends its connection. More than the
    /// node's own bound for a message, so that most offenders can be told what is wrong.
    pub request: u64,
    /// Bytes that may wait for one peer, in each of two lanes; at the bound messages to it are
    /// dropped.
    pub peer_queue: usize,
    /// Requests of one client that may be open, and that one frame may hold; at the bound it is
    /// not read any further.
    pub client_requests: usize,
    /// Bytes of open requests, of answers asked for and of answers not yet written, of one
    /// client; at the bound it is not read any further.
    pub client_bytes: usize,
    /// Bytes that the answer to one read takes at most, for the count above.
    pub read: usize,
    /// Clients at a time; a further one is refused.
    pub clients: usize,
    /// Batches between the connections and the loop; at the bound connections are not read.
    pub batches: usize,
    /// The first pause after a connection to a peer failed; it doubles up to the largest, and
    /// each pause is drawn between half and one and a half of that.
    pub reconnect_min: Duration,
    /// The largest such pause.
    pub reconnect_max: Duration,
    /// How long a connection may take until both sides know each other.
    pub handshake: Duration,
    /// How long a connection between peers may be idle before a ping; after three unanswered
    /// ones it is dead.
    pub ping: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            peer_message: 64 * MIB as u64,
            request: 8 * MIB as u64,
            peer_queue: 96 * MIB,
            client_requests: 32 * 1024,
            client_bytes: 16 * MIB,
            read: MIB,
            clients: 1024,
            batches: 64,
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(1),
            handshake: Duration::from_secs(5),
            ping: Duration::from_secs(2),
        }
    }
}

/// How a node takes part in its cluster's traffic.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// The server's name.
    pub name: String,
    /// The cluster's name: connections of another are refused.
    pub cluster: String,
    /// Where to listen, as host and port; port 0 lets the system choose.
    pub listen: String,
    /// The other servers: names, and where they listen. Nobody is dialed if peers are reached
    /// through a NATS server.
    pub peers: BTreeMap<String, String>,
    /// How peers are reached.
    pub way: Way,
    /// Plain or TLS.
    pub security: Security,
    /// Every bound.
    pub bounds: Bounds,
    /// What the pauses between attempts are drawn from.
    pub seed: u64,
}

/// How the servers of a cluster reach each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// Each dials each of the others.
    #[default]
    Direct,
    /// Through a NATS server, on the subjects that nats-servers use.
    #[cfg(feature = "nats")]
    Nats(Box<nats::NatsAccess>),
}

/// The transport cannot begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is in use, not ours, or no address.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: String,
        /// What the operating system said.
        why: std::io::Error,
    },
    /// The NATS server is not there, or does not let us in.
    #[cfg(feature = "nats")]
    #[error(transparent)]
    Nats(#[from] nats::NatsError),
}

/// What arrives for the loop.
#[derive(Debug)]
pub enum Inbound {
    /// Messages to this peer have a way now.
    Connected(PeerId),
    /// Messages to this peer have no way any more.
    Disconnected(PeerId),
    /// A peer sent these.
    Messages {
        /// The peer; none if its messages come through a server that does not tell.
        from: Option<PeerId>,
        /// What it sent, in order.
        messages: Vec<PeerMessage>,
    },
    /// A client asks these.
    Requests {
        /// Who asks, and is answered.
        client: Arc<dyn Asker>,
        /// What is asked, in order.
        requests: Vec<ClientRequest>,
    },
}

/// What every connection of a node shares.
#[derive(Debug)]
struct Shared {
    hello: Hello,
    security: Security,
    bounds: Arc<Bounds>,
    seed: u64,
    peers: BTreeMap<PeerId, Arc<PeerLink>>,
    inbound: mpsc::Sender<Inbound>,
    counters: Arc<Counters>,
}

/// All connections of one node; they end when it is dropped.
#[derive(Debug)]
pub struct Transport {
    shared: Arc<Shared>,
    #[cfg(feature = "nats")]
    nats: Option<nats::NatsLink>,
    #[cfg(feature = "nats")]
    clients: Option<nats::ClientsLink>,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Transport {
    /// Listens, and begins to dial the peers. What arrives comes by the receiver.
    ///
    /// # Errors
    /// [`TransportError::Listen`] if the address cannot be listened on, [`TransportError::Nats`] if
    /// the NATS server lets nobody in.
    pub async fn start(
        settings: TransportSettings,
    ) -> Result<(Self, mpsc::Receiver<Inbound>), TransportError> {
        let TransportSettings { name, cluster, listen, mut peers, way, security, bounds, seed } =
            settings;
        if way != Way::Direct {
            peers.clear();
        }
        let failed = |why| TransportError::Listen { address: listen.clone(), why };
        let listener = TcpListener::bind(&listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (inbound, receiver) = mpsc::channel(bounds.batches.max(1));
        let link = |(name, address): (String, String)| {
            let id = PeerId::from_name(&name);
            let outbox = Outbox::new(bounds.peer_queue);
            (id, Arc::new(PeerLink { name, id, address, outbox }))
        };
        let shared = Arc::new(Shared {
            hello: Hello { name, cluster, role: Role::Peer, largest: bounds.peer_message },
            peers: peers.into_iter().map(link).collect(),
            security,
            bounds: Arc::new(bounds),
            seed,
            inbound,
            counters: Arc::default(),
        });
        let mut tasks = JoinSet::new();
        #[cfg(feature = "nats")]
        let nats = match &way {
            Way::Direct => None,
            Way::Nats(access) => Some(nats::NatsLink::start(access, &shared, &mut tasks).await?),
        };
        tasks.spawn(listener::listen(listener, Arc::clone(&shared)));
        for peer in shared.peers.values() {
            tasks.spawn(Arc::clone(peer).keep_connected(Arc::clone(&shared)));
        }
        let transport = Self {
            shared,
            #[cfg(feature = "nats")]
            nats,
            #[cfg(feature = "nats")]
            clients: None,
            address,
            tasks,
        };
        Ok((transport, receiver))
    }

    /// Lets NATS clients publish to streams, and ask JetStream's API about them, at a NATS server.
    ///
    /// # Errors
    /// [`TransportError::Nats`] if that server lets nobody in, or has a JetStream that would answer
    /// too.
    #[cfg(feature = "nats")]
    pub async fn serve_nats_clients(
        &mut self,
        service: nats::Service,
    ) -> Result<(), TransportError> {
        let link = nats::ClientsLink::start(service, &self.shared, &mut self.tasks).await?;
        self.clients = Some(link);
        Ok(())
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Puts a message into the send queue of each peer that it is for. It may get lost, as
    /// every message may: there is no connection, or the queue is full.
    pub fn send(
        &self,
        to: &Destination,
        subject: &Subject,
        reply: Option<&Subject>,
        payload: &Bytes,
    ) {
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            return nats.send(subject, reply, payload);
        }
        let envelope = Envelope {
            subject: subject.as_bytes(),
            reply: reply.map(|reply| &reply.as_bytes()[..]),
            payload,
        };
        let lane = lane(envelope.subject);
        match to {
            Destination::Peers(peers) => {
                for peer in peers.iter().filter_map(|peer| self.shared.peers.get(peer)) {
                    self.push(peer, lane, &envelope);
                }
            }
            Destination::Subscribers => {
                for peer in self.shared.peers.values().filter(|peer| peer.outbox.is_open()) {
                    self.push(peer, lane, &envelope);
                }
            }
        }
    }

    /// Lets messages to this subject come in: a literal one, or one whose last token is `*`. Peers
    /// that dial send without being asked.
    pub fn listen(&self, subject: &Subject) {
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            nats.listen(subject.clone());
        }
        #[cfg(not(feature = "nats"))]
        let _ = subject;
    }

    /// Lets them come in no longer.
    pub fn listen_no_longer(&self, subject: &Subject) {
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            nats.listen_no_longer(subject.clone());
        }
        #[cfg(not(feature = "nats"))]
        let _ = subject;
    }

    /// Tells NATS clients of a stream whether this node leads it: who leads takes their messages.
    pub fn leads(&self, stream: &str, leads: bool) {
        #[cfg(feature = "nats")]
        if let Some(clients) = &self.clients {
            clients.leads(stream, leads);
        }
        #[cfg(not(feature = "nats"))]
        let _ = (stream, leads);
    }

    /// Waits until everything that was sent to peers has been written.
    pub async fn flushed(&self) {
        #[cfg(feature = "nats")]
        if let Some(nats) = &self.nats {
            return nats.flushed().await;
        }
        while self.shared.peers.values().any(|peer| peer.outbox.waiting() > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn push(&self, peer: &PeerLink, lane: Lane, envelope: &Envelope<'_>) {
        let counters = &self.shared.counters;
        match peer.outbox.push(lane, Kind::Messages, envelope) {
            Ok(()) => counters.messages_sent.add(1),
            Err(NotTaken::Closed) => counters.messages_unconnected.add(1),
            Err(NotTaken::Full) => counters.messages_over_bound.add(1),
            Err(NotTaken::TooLarge) => {
                let subject = envelope.subject.escape_ascii();
                tracing::error!(peer = peer.name, %subject, "message dropped: larger than the peer takes");
            }
        }
    }
}

/// Consensus must not wait behind a catchup's window: only what goes to the inbox of a catchup
/// is bulk.
fn lane(subject: &[u8]) -> Lane {
    let inboxes: [&[u8]; 2] = [b"$JSC.R.", b"$NRG.CR."];
    if inboxes.into_iter().any(|inbox| subject.starts_with(inbox)) {
        Lane::Bulk
    } else {
        Lane::Live
    }
}
