//! The connection to one peer: dialed, kept, and dialed again.
//!
//! A node dials each of its peers and sends on that connection; what the peer sends comes by the
//! connection that the peer dialed. So there is never a question whose connection counts.

use std::sync::Arc;
use std::time::Duration;

use jetwake::ids::PeerId;
use jetwake::random::Random;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::body::Hello;
use super::connection::{ConnectionError, FrameReader, write_frame};
use super::frame::{FrameError, Kind};
use super::outbox::Outbox;
use super::tls::{Connection, Security};
use super::{Inbound, Shared};

/// Pings that may go unanswered before a connection counts as dead.
const MISSED_PINGS: u32 = 3;

/// A peer, connected or not.
#[derive(Debug)]
pub(super) struct PeerLink {
    pub(super) name: String,
    pub(super) id: PeerId,
    pub(super) address: String,
    pub(super) outbox: Outbox,
}

/// A connection after the handshake of the side that dialed.
pub(crate) struct Dialed {
    pub(crate) frames: FrameReader<ReadHalf<Box<dyn Connection>>>,
    pub(crate) writer: WriteHalf<Box<dyn Connection>>,
    /// What the other side said of itself.
    pub(crate) hello: Hello,
}

/// Dials an address and introduces itself. The other side's certificate must hold the name.
pub(crate) async fn dial(
    security: &Security,
    name: &str,
    address: &str,
    own: &Hello,
) -> Result<Dialed, ConnectionError> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connection = security.connect(stream, name).await?;
    let (reader, mut writer) = tokio::io::split(connection);
    write_frame(&mut writer, Kind::Hello, &[own]).await?;
    let mut frames = FrameReader::new(reader);
    let hello = frames.hello().await?;
    if hello.cluster != own.cluster {
        let (found, expected) = (&hello.cluster, &own.cluster);
        let text = format!("found a server of cluster {found:?}, expected {expected:?}");
        return Err(ConnectionError::Identity(text));
    }
    frames.take_items_of(own.largest);
    Ok(Dialed { frames, writer, hello })
}

impl PeerLink {
    /// Keeps the peer connected for as long as the node runs.
    pub(crate) async fn keep_connected(self: Arc<Self>, shared: Arc<Shared>) {
        let bounds = &shared.bounds;
        let mut random = Random::new(shared.seed ^ u64::from_le_bytes(*self.id.as_bytes()));
        let mut pause = bounds.reconnect_min;
        let mut failures = 0_u32;
        loop {
            let attempt = timeout(bounds.handshake, self.dial(&shared)).await;
            match attempt.unwrap_or(Err(ConnectionError::Silent(bounds.handshake))) {
                Ok(dialed) => {
                    tracing::info!(peer = self.name, address = self.address, "connected");
                    (failures, pause) = (0, bounds.reconnect_min);
                    self.outbox.open(dialed.hello.largest);
                    if shared.inbound.send(Inbound::Connected(self.id)).await.is_err() {
                        return;
                    }
                    let ended = self.serve(dialed, &shared).await;
                    self.outbox.close();
                    tracing::warn!(peer = self.name, address = self.address, "lost: {ended}");
                    if shared.inbound.send(Inbound::Disconnected(self.id)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.tell(failures, &error);
                }
            }
            sleep(random.duration(pause / 2..pause * 3 / 2)).await;
            pause = (pause * 2).min(bounds.reconnect_max);
        }
    }

    /// Tells of the first failure and of every further one that doubles their number.
    fn tell(&self, failures: u32, error: &ConnectionError) {
        let (peer, address) = (&self.name, &self.address);
        if failures.is_power_of_two() {
            tracing::warn!(peer, address, failures, "cannot connect: {error}");
        } else {
            tracing::debug!(peer, address, failures, "cannot connect: {error}");
        }
    }

    async fn dial(&self, shared: &Shared) -> Result<Dialed, ConnectionError> {
        let dialed = dial(&shared.security, &self.name, &self.address, &shared.hello).await?;
        if dialed.hello.name != self.name {
            let (found, expected) = (&dialed.hello.name, &self.name);
            let text = format!("found server {found:?}, expected {expected:?}");
            return Err(ConnectionError::Identity(text));
        }
        Ok(dialed)
    }

    async fn serve(&self, mut dialed: Dialed, shared: &Shared) -> ConnectionError {
        let sent = |length| shared.counters.bytes_sent.add(length as u64);
        tokio::select! {
            error = self.watch(&mut dialed.frames, shared.bounds.ping) => {
                if matches!(error, ConnectionError::Frame(_)) {
                    shared.counters.frames_refused.add(1);
                }
                error
            }
            written = self.outbox.write_to(dialed.writer, sent) => {
                written.err().map_or(ConnectionError::Stopping, Into::into)
            }
        }
    }

    /// Pings, until no pong comes any more.
    async fn watch(
        &self,
        frames: &mut FrameReader<ReadHalf<Box<dyn Connection>>>,
        ping: Duration,
    ) -> ConnectionError {
        let mut missed = 0;
        loop {
            match timeout(ping, frames.next_frame()).await {
                Ok(Ok(frame)) if frame.kind == Kind::Pong => missed = 0,
                Ok(Ok(frame)) => return FrameError::Unexpected { found: frame.kind }.into(),
                Ok(Err(error)) => return error,
                Err(_) if missed == MISSED_PINGS => {
                    return ConnectionError::Silent(ping * MISSED_PINGS);
                }
                Err(_) => {
                    missed += 1;
                    self.outbox.push_empty(Kind::Ping);
                }
            }
        }
    }
}
