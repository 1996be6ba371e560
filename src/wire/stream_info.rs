//! What clients are told about a stream.
//!
//! Upstream: `StreamInfo` and `StreamSourceInfo` in `server/stream.go`, `StreamState` in
//! `server/store.go`, `JSApiStreamInfoResponse`, `JSApiStreamCreateResponse` and
//! `JSApiStreamUpdateResponse` in `server/jetstream_api.go`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::api_error::{ApiError, ResponseType};
use super::cluster_info::{ClusterInfo, StreamAlternate};
use super::error::WireError;
use super::go_json::{self, Framing, empty_as_null, is_zero, json_encoders, null_as_default};
use super::go_time::GoTime;
use super::stream_config::{ExternalStream, StreamConfig, SubjectTransform};
use crate::limits::Limits;

/// A stream: how it is meant to be and how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// How it is meant to be.
    pub config: StreamConfig,
    /// When it was created.
    pub created: GoTime,
    /// What it holds.
    #[serde(default)]
    pub state: StreamInfoState,
    /// Its domain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub domain: String,
    /// The group of its copies.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cluster: Option<ClusterInfo>,
    /// How far it is behind the stream that it mirrors.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mirror: Option<StreamSourceInfo>,
    /// How far it is behind the streams that it gathers from.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sources: Vec<StreamSourceInfo>,
    /// Streams that may be read instead.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub alternates: Vec<StreamAlternate>,
    /// When this was gathered.
    #[serde(rename = "ts", default)]
    pub gathered: GoTime,
    /// Why it is offline; only between servers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offline_reason: String,
}

/// What a stream holds, as clients are told. Also a part of the assignment of a restored stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamInfoState {
    /// How many messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first sequence.
    pub first_seq: u64,
    /// When the first message was stored.
    pub first_ts: GoTime,
    /// The last sequence.
    pub last_seq: u64,
    /// When the last message was stored.
    pub last_ts: GoTime,
    /// How many subjects.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_subjects: u64,
    /// How many messages of each subject, where asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub subjects: BTreeMap<String, u64>,
    /// How many deleted sequences lie between the first and the last.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_deleted: u64,
    /// Which ones, where asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: Vec<u64>,
    /// What damage took away.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: Option<LostMessages>,
    /// How many consumers.
    pub consumer_count: u64,
}

/// Messages that damage took away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LostMessages {
    /// Their sequences.
    #[serde(
        rename = "msgs",
        deserialize_with = "null_as_default",
        serialize_with = "empty_as_null"
    )]
    pub messages: Vec<u64>,
    /// Their bytes.
    pub bytes: u64,
}

/// How far a stream is behind one that it mirrors or gathers from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSourceInfo {
    /// The other stream.
    pub name: String,
    /// How it is reached.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub external: Option<ExternalStream>,
    /// How many messages are lacking.
    pub lag: u64,
    /// Nanoseconds since it was heard; -1 for never.
    pub active: i64,
    /// What stands in the way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub error: Option<ApiError>,
    /// The subjects wanted of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filter_subject: String,
    /// What is done to subjects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub subject_transforms: Vec<SubjectTransform>,
}

impl StreamInfo {
    /// Reads it, as servers tell each other.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode("stream_info", Framing::Bare, bytes, limits)
    }
}

json_encoders!(StreamInfo, Framing::Bare);

/// An answer to a client about a stream: created, updated or asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamInfoResponse {
    /// What is answered.
    #[serde(rename = "type")]
    pub response_type: ResponseType,
    /// Why it was refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: Option<ApiError>,
    /// Which part of the subjects this tells; only in answers to a question.
    #[serde(flatten)]
    pub page: Option<Page>,
    /// The stream, unless refused.
    #[serde(flatten)]
    pub info: Option<Box<StreamInfo>>,
    /// Whether it is new; only in answers to a creation.
    #[serde(skip_serializing_if = "is_zero")]
    pub did_create: bool,
}

/// What stands beside a stream in an answer; read in a pass of its own, as a reader of both would
/// have to keep what it does not know yet.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    response_type: ResponseType,
    error: Option<ApiError>,
    total: Option<i64>,
    offset: Option<i64>,
    limit: Option<i64>,
    #[serde(default)]
    did_create: bool,
    config: Option<IgnoredAny>,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// How long the list is.
    pub total: i64,
    /// Where the part begins.
    pub offset: i64,
    /// How long the part may be.
    pub limit: i64,
}

impl StreamInfoResponse {
    /// The answer that tells of a stream.
    pub fn info(response_type: ResponseType, info: StreamInfo) -> Self {
        let page = page_of(response_type);
        Self { response_type, error: None, page, info: Some(Box::new(info)), did_create: false }
    }

    /// The answer that it is refused.
    pub fn error(response_type: ResponseType, error: ApiError) -> Self {
        let page = page_of(response_type);
        Self { response_type, error: Some(error), page, info: None, did_create: false }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format; neither a stream nor a refusal.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        const FORMAT: &str = "stream_info_response";
        let document = go_json::open(FORMAT, Framing::Bare, bytes, limits)?;
        let head: Head = go_json::parse(FORMAT, Framing::Bare, document)?;
        if head.error.is_none() && head.config.is_none() {
            return Err(go_json::neither(FORMAT));
        }
        let info = head.config.map(|_| go_json::parse(FORMAT, Framing::Bare, document));
        let page = match (head.total, head.offset, head.limit) {
            (Some(total), Some(offset), Some(limit)) => Some(Page { total, offset, limit }),
            _ => None,
        };
        Ok(Self {
            response_type: head.response_type,
            error: head.error,
            page,
            info: info.transpose()?,
            did_create: head.did_create,
        })
    }
}

json_encoders!(StreamInfoResponse, Framing::Bare);

/// Only answers to a question have pages.
fn page_of(response_type: ResponseType) -> Option<Page> {
    (response_type == ResponseType::StreamInfo).then(Page::default)
}
