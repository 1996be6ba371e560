//! What a node knows of the cluster's servers.
//!
//! Upstream: `nodeInfo` in `server/jetstream_cluster.go` and `nodeToInfo` in `server/server.go`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{ByteCount, PeerId};

/// One server of the cluster, as it told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its cluster's name.
    pub cluster: String,
    /// Whether it was not heard lately.
    pub offline: bool,
    /// Its tags, such as `cloud:aws`.
    pub tags: Vec<String>,
    /// What it has for streams; none if it never told.
    pub resources: Option<Resources>,
}

/// What a server has for streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory that are neither used nor promised.
    pub memory: ByteCount,
    /// Bytes of disk that are neither used nor promised.
    pub disk: ByteCount,
    /// Streams and consumers with more than one replica that it has part in.
    pub replicated_assets: u64,
}

/// The servers of a cluster by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers(BTreeMap<PeerId, Server>);

impl Servers {
    /// A server told of itself. One more than there are members of the meta group is never kept:
    /// the caller checks who may tell.
    pub fn heard(&mut self, peer: PeerId, server: Server) {
        self.0.insert(peer, server);
    }

    /// A server is not heard any more, or again.
    pub fn set_offline(&mut self, peer: PeerId, offline: bool) {
        if let Some(server) = self.0.get_mut(&peer) {
            server.offline = offline;
        }
    }

    /// What is known of a server.
    pub fn get(&self, peer: &PeerId) -> Option<&Server> {
        self.0.get(peer)
    }

    /// All that are known, by id.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Server)> {
        self.0.iter().map(|(peer, server)| (*peer, server))
    }

    /// Whether a server is known and was heard lately.
    pub fn is_online(&self, peer: &PeerId) -> bool {
        self.get(peer).is_some_and(|server| !server.offline)
    }

    /// Whether none of these is online. Upstream: `allPeersOffline`.
    pub fn all_offline(&self, peers: &[PeerId]) -> bool {
        !peers.iter().any(|peer| self.is_online(peer))
    }
}

impl FromIterator<(PeerId, Server)> for Servers {
    fn from_iter<T: IntoIterator<Item = (PeerId, Server)>>(servers: T) -> Self {
        Self(servers.into_iter().collect())
    }
}
