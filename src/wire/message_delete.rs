//! One message of a stream deleted: operation 6 of its log.
//!
//! Upstream: `streamMsgDelete` in `server/jetstream_cluster.go`.

use alloc::string::String;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::client_info::ClientInfo;
use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders};
use crate::ids::Sequence;
use crate::limits::Limits;

/// The name of the format.
const FORMAT: &str = "msg_delete";
const FRAMING: Framing = Framing::Operation(6);

/// A message to delete, and who is to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageDelete {
    /// Who asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub client: Option<ClientInfo>,
    /// The stream's name.
    pub stream: String,
    /// The message.
    #[serde(rename = "seq")]
    pub sequence: Sequence,
    /// Whether its bytes may stay on disk.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_erase: bool,
    /// The subject of the request.
    pub subject: String,
    /// Where the answer goes.
    pub reply: String,
}

impl MessageDelete {
    /// Reads a delete, its operation's byte included.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode(FORMAT, FRAMING, bytes, limits)
    }
}

json_encoders!(MessageDelete, FRAMING);
