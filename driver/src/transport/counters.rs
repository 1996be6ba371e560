//! What a node's transport has counted since it started.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// One count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    /// The count as it stands.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a node's transport has counted since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections of peers and clients that were let in.
    pub connections_accepted: Count,
    /// Connections that did not get past their handshake.
    pub connections_refused: Count,
    /// Frames that ended their connection: no frame, too long, another version, a wrong
    /// checksum, a body that does not decode.
    pub frames_refused: Count,
    /// Bytes read from peers and clients.
    pub bytes_received: Count,
    /// Bytes written to peers and clients.
    pub bytes_sent: Count,
    /// Messages for peers put into send queues.
    pub messages_sent: Count,
    /// Messages from peers.
    pub messages_received: Count,
    /// Messages from peers to subjects that nobody here listens to.
    pub messages_unheard: Count,
    /// Messages dropped because their peer was not connected.
    pub messages_unconnected: Count,
    /// Messages dropped because their peer's send queue was full.
    pub messages_over_bound: Count,
    /// Requests of clients.
    pub requests: Count,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connections accepted {} refused {}, frames refused {}, bytes received {} sent {}, \
             messages received {} unheard {} sent {} unconnected {} over bound {}, requests {}",
            self.connections_accepted.get(),
            self.connections_refused.get(),
            self.frames_refused.get(),
            self.bytes_received.get(),
            self.bytes_sent.get(),
            self.messages_received.get(),
            self.messages_unheard.get(),
            self.messages_sent.get(),
            self.messages_unconnected.get(),
            self.messages_over_bound.get(),
            self.requests.get(),
        )
    }
}
