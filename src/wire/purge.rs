//! A stream purged: operation 5 of its log.
//!
//! Upstream: `streamPurge` in `server/jetstream_cluster.go` and `JSApiStreamPurgeRequest` in
//! `server/jetstream_api.go`.

use alloc::string::String;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::client_info::ClientInfo;
use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders};
use crate::ids::Sequence;
use crate::limits::Limits;

/// The name of the format.
const FORMAT: &str = "stream_purge";
const FRAMING: Framing = Framing::Operation(5);

/// What to purge, and who is to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamPurge {
    /// Who asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub client: Option<ClientInfo>,
    /// The stream's name.
    pub stream: String,
    /// The last sequence of the stream when it was asked; later messages stay.
    #[serde(rename = "last_seq")]
    pub last: Sequence,
    /// The subject of the request.
    pub subject: String,
    /// Where the answer goes.
    pub reply: String,
    /// What to spare; nothing if absent.
    #[serde(skip_serializing_if = "is_zero")]
    pub request: Option<PurgeRequest>,
}

/// Which messages a purge takes. All that is absent spares nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PurgeRequest {
    /// Only messages before this one.
    #[serde(rename = "seq", skip_serializing_if = "is_zero")]
    pub before: Sequence,
    /// Only messages of these subjects, with wildcards.
    #[serde(skip_serializing_if = "is_zero")]
    pub filter: String,
    /// All but the last so many messages.
    #[serde(skip_serializing_if = "is_zero")]
    pub keep: u64,
}

impl StreamPurge {
    /// Reads a purge, its operation's byte included.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode(FORMAT, FRAMING, bytes, limits)
    }
}

json_encoders!(StreamPurge, FRAMING);
