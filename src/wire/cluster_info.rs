//! Who leads a group, and how its other members are: a part of what clients are told.
//!
//! Upstream: `ClusterInfo`, `PeerInfo` and `StreamAlternate` in `server/stream.go`.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::buffer::Buffer;
use serde::{Deserialize, Serialize};

use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders};
use super::go_time::GoTime;
use super::peer_text;
use crate::ids::PeerId;
use crate::limits::Limits;

/// A group as the server that answers sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterInfo {
    /// The cluster's name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// The group's name.
    #[serde(skip_serializing_if = "is_zero")]
    pub raft_group: String,
    /// The name of the server that leads it.
    #[serde(skip_serializing_if = "is_zero")]
    pub leader: String,
    /// Since when it leads.
    #[serde(skip_serializing_if = "is_zero")]
    pub leader_since: Option<GoTime>,
    /// Whether its traffic goes through the system account.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_account: bool,
    /// The account that its traffic goes through.
    #[serde(skip_serializing_if = "is_zero")]
    pub traffic_account: String,
    /// All members but the leader.
    #[serde(skip_serializing_if = "is_zero")]
    pub replicas: Vec<PeerInfo>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The server's name.
    pub name: String,
    /// Whether it was heard lately and has all.
    pub current: bool,
    /// Whether it was not heard lately.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offline: bool,
    /// Nanoseconds since it was heard.
    pub active: i64,
    /// How many entries, or in a catchup messages, it lacks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lag: u64,
    /// Its id.
    #[serde(default, with = "peer_text")]
    pub peer: Option<PeerId>,
}

/// A stream that a client may read instead, as it holds the same subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAlternate {
    /// Its name.
    pub name: String,
    /// Its domain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub domain: String,
    /// Its cluster.
    pub cluster: String,
}

impl ClusterInfo {
    /// Reads it.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode("cluster_info", Framing::Bare, bytes, limits)
    }
}

json_encoders!(ClusterInfo, Framing::Bare);

impl StreamAlternate {
    /// Reads a list of them.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode_list(bytes: &Bytes, limits: &Limits) -> Result<Vec<Self>, WireError> {
        go_json::decode("stream_alternates", Framing::Bare, bytes, limits)
    }

    /// How many bytes [`encode_list`](Self::encode_list) appends. Costs what that costs: the
    /// document is written to be counted.
    pub fn encoded_list_len(alternates: &[Self]) -> usize {
        go_json::encoded_len(Framing::Bare, &alternates)
    }

    /// Appends a list of them as upstream writes it. One growth at most; takes as much memory again
    /// as the document, for the time of the call.
    pub fn encode_list(alternates: &[Self], buffer: &mut impl Buffer) {
        go_json::encode(Framing::Bare, &alternates, buffer);
    }

    /// A list of them as [`encode_list`](Self::encode_list) writes it, in a buffer of its own.
    pub fn list_to_bytes(alternates: &[Self]) -> Bytes {
        go_json::to_bytes(Framing::Bare, &alternates)
    }
}
