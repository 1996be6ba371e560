//! The connections that others dial: peers that send, and clients that ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jetwake::ids::PeerId;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::body::{Hello, Role, decode_messages};
use super::client_link::ClientLink;
use super::connection::{ConnectionError, FrameReader, write_frame};
use super::frame::{FrameError, Kind};
use super::tls::{Connection, Proof};
use super::{Inbound, Shared};

/// Handshakes at a time; further connections are dropped.
const HANDSHAKES: usize = 128;
/// How long to wait after the system could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until it is dropped, and ends them then.
pub(super) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let clients = Arc::new(Semaphore::new(shared.bounds.clients));
    let peers = Arc::new(Incoming::default());
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                        shared.counters.connections_refused.add(1);
                        tracing::warn!(%address, "refused: too many handshakes at a time");
                        continue;
                    };
                    let (shared, clients) = (Arc::clone(&shared), Arc::clone(&clients));
                    let peers = Arc::clone(&peers);
                    tasks.spawn(async move {
                        let handshake = timeout(shared.bounds.handshake, handshake(stream, &shared));
                        let ended = match handshake.await {
                            Err(_) => Err(ConnectionError::Silent(shared.bounds.handshake)),
                            Ok(Err(error)) => Err(error),
                            Ok(Ok(accepted)) => {
                                drop(permit);
                                shared.counters.connections_accepted.add(1);
                                tell(&shared, address, accepted.serve(address, &shared, &clients, &peers).await);
                                return;
                            }
                        };
                        shared.counters.connections_refused.add(1);
                        tell(&shared, address, ended);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

fn tell(shared: &Shared, address: SocketAddr, ended: Result<(), ConnectionError>) {
    match ended {
        Err(ConnectionError::Frame(error)) => {
            shared.counters.frames_refused.add(1);
            tracing::warn!(%address, "connection closed: {error}");
        }
        Err(error @ (ConnectionError::Closed | ConnectionError::Stopping)) => {
            tracing::debug!(%address, "connection ended: {error}");
        }
        Err(error) => tracing::info!(%address, "connection ended: {error}"),
        Ok(()) => tracing::debug!(%address, "connection ended"),
    }
}

/// The peers whose connections are read.
#[derive(Default)]
struct Incoming(Mutex<BTreeMap<PeerId, Arc<Notify>>>);

impl Incoming {
    /// Takes the place of the peer's older connection, if there is one: it is most likely dead.
    fn take_place(&self, peer: PeerId) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = connections.insert(peer, Arc::clone(&replaced)) {
            older.notify_one();
        }
        replaced
    }
}

/// A connection after the handshake of the side that was dialed.
struct Accepted {
    frames: FrameReader<ReadHalf<Box<dyn Connection>>>,
    writer: WriteHalf<Box<dyn Connection>>,
    hello: Hello,
}

async fn handshake(stream: TcpStream, shared: &Shared) -> Result<Accepted, ConnectionError> {
    stream.set_nodelay(true)?;
    let (connection, proof) = shared.security.accept(stream).await?;
    let (reader, mut writer) = tokio::io::split(connection);
    let mut frames = FrameReader::new(reader);
    let hello = frames.hello().await?;
    match admit(&hello, proof.as_ref(), shared) {
        Ok(()) => {
            let largest = match hello.role {
                Role::Peer => shared.hello.largest,
                Role::Client => shared.bounds.request,
            };
            let answer = Hello { largest, ..shared.hello.clone() };
            write_frame(&mut writer, Kind::Hello, &[answer]).await?;
            Ok(Accepted { frames, writer, hello })
        }
        Err(why) => {
            write_frame(&mut writer, Kind::Refusal, &[&why]).await?;
            Err(ConnectionError::Identity(why))
        }
    }
}

/// Whether the other side may come in.
fn admit(hello: &Hello, proof: Option<&Proof>, shared: &Shared) -> Result<(), String> {
    let Hello { name, cluster, role, .. } = hello;
    let own = &shared.hello.cluster;
    if cluster != own {
        return Err(format!("found a connection for cluster {cluster:?}, expected {own:?}"));
    }
    if *role == Role::Peer {
        if !shared.peers.contains_key(&PeerId::from_name(name)) {
            return Err(format!("server {name:?} is not among the peers of this node"));
        }
        if let Some(proof) = proof {
            proof.names(name)?;
        }
    }
    Ok(())
}

impl Accepted {
    async fn serve(
        self,
        address: SocketAddr,
        shared: &Arc<Shared>,
        clients: &Semaphore,
        peers: &Incoming,
    ) -> Result<(), ConnectionError> {
        let Self { mut frames, mut writer, hello } = self;
        match hello.role {
            Role::Peer => {
                let peer = PeerId::from_name(&hello.name);
                tracing::debug!(peer = hello.name, %address, "accepted");
                let replaced = peers.take_place(peer);
                frames.take_items_of(shared.hello.largest);
                tokio::select! {
                    ended = receive(peer, &mut frames, &mut writer, shared) => ended,
                    () = replaced.notified() => Err(ConnectionError::Replaced),
                }
            }
            Role::Client => {
                let Ok(_permit) = clients.try_acquire() else {
                    let why = format!("there are {} clients already", shared.bounds.clients);
                    write_frame(&mut writer, Kind::Refusal, &[&why]).await?;
                    return Err(ConnectionError::Identity(why));
                };
                tracing::debug!(client = hello.name, %address, "accepted");
                let bounds = Arc::clone(&shared.bounds);
                let link = ClientLink::new(hello.name, address, hello.largest, bounds);
                Arc::new(link).serve(frames, writer, &shared.inbound, &shared.counters).await
            }
        }
    }
}

/// Hands on what a peer sends. A peer that is alive pings: one that is silent is gone.
async fn receive(
    peer: PeerId,
    frames: &mut FrameReader<impl AsyncRead + Unpin>,
    writer: &mut (impl AsyncWrite + Unpin),
    shared: &Shared,
) -> Result<(), ConnectionError> {
    let silence = shared.bounds.ping * 4;
    loop {
        while let Some(frame) = frames.arrived()? {
            match frame.kind {
                Kind::Messages => {
                    let messages = decode_messages(&frame)?;
                    shared.counters.messages_received.add(messages.len() as u64);
                    let batch = Inbound::Messages { from: Some(peer), messages };
                    shared.inbound.send(batch).await.map_err(|_| ConnectionError::Stopping)?;
                }
                Kind::Ping => write_frame::<()>(writer, Kind::Pong, &[]).await?,
                found => return Err(FrameError::Unexpected { found }.into()),
            }
        }
        let length = timeout(silence, frames.read_more())
            .await
            .unwrap_or(Err(ConnectionError::Silent(silence)))?;
        shared.counters.bytes_received.add(length as u64);
    }
}
