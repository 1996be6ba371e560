//! What clients are told about a consumer.
//!
//! Upstream: `ConsumerInfo` in `server/consumer.go`, `JSApiConsumerCreateResponse` and
//! `JSApiConsumerInfoResponse` in `server/jetstream_api.go`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::api_error::{ApiError, ResponseType};
use super::cluster_info::ClusterInfo;
use super::consumer_config::ConsumerConfig;
use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders};
use super::go_time::GoTime;
use crate::limits::Limits;

/// A consumer: how it is meant to be and how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerInfo {
    /// Its stream.
    #[serde(rename = "stream_name")]
    pub stream: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: GoTime,
    /// How it is meant to be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub config: Option<ConsumerConfig>,
    /// Its last delivery.
    #[serde(default)]
    pub delivered: SequenceActivity,
    /// The delivery up to which all is acknowledged.
    #[serde(default)]
    pub ack_floor: SequenceActivity,
    /// How many messages wait for their acknowledgement.
    #[serde(default)]
    pub num_ack_pending: i64,
    /// How many of them were delivered more than once.
    #[serde(default)]
    pub num_redelivered: i64,
    /// How many requests wait for messages.
    #[serde(default)]
    pub num_waiting: i64,
    /// How many messages it has not delivered.
    #[serde(default)]
    pub num_pending: u64,
    /// The group of its copies.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cluster: Option<ClusterInfo>,
    /// Whether a client listens where it delivers to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub push_bound: bool,
    /// Whether it pauses.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paused: bool,
    /// For how many nanoseconds more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause_remaining: i64,
    /// When this was gathered.
    #[serde(default, rename = "ts")]
    pub gathered: GoTime,
    /// The groups that its clients belong to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority_groups: Vec<PriorityGroupState>,
    /// Why it is offline; only between servers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offline_reason: String,
}

/// A delivery, the message that it delivered, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SequenceActivity {
    /// The number of the delivery.
    pub consumer_seq: u64,
    /// The message's sequence in the stream.
    pub stream_seq: u64,
    /// When it was.
    #[serde(skip_serializing_if = "is_zero")]
    pub last_active: Option<GoTime>,
}

/// A group of a consumer's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityGroupState {
    /// Its name.
    pub group: String,
    /// The client that is served, if it is one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pinned_client_id: String,
    /// Since when; Go's zero time if none is.
    pub pinned_ts: GoTime,
}

impl ConsumerInfo {
    /// Reads it, as servers tell each other.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode("consumer_info", Framing::Bare, bytes, limits)
    }
}

json_encoders!(ConsumerInfo, Framing::Bare);

/// An answer to a client about a consumer: created, updated or asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerInfoResponse {
    /// What is answered.
    #[serde(rename = "type")]
    pub response_type: ResponseType,
    /// Why it was refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: Option<ApiError>,
    /// The consumer, unless refused.
    #[serde(flatten)]
    pub info: Option<Box<ConsumerInfo>>,
}

/// What stands beside a consumer in an answer.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    response_type: ResponseType,
    error: Option<ApiError>,
    name: Option<IgnoredAny>,
}

impl ConsumerInfoResponse {
    /// The answer that tells of a consumer.
    pub fn info(response_type: ResponseType, info: ConsumerInfo) -> Self {
        Self { response_type, error: None, info: Some(Box::new(info)) }
    }

    /// The answer that it is refused.
    pub fn error(response_type: ResponseType, error: ApiError) -> Self {
        Self { response_type, error: Some(error), info: None }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format; neither a consumer nor a refusal.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        const FORMAT: &str = "consumer_info_response";
        let document = go_json::open(FORMAT, Framing::Bare, bytes, limits)?;
        let head: Head = go_json::parse(FORMAT, Framing::Bare, document)?;
        if head.error.is_none() && head.name.is_none() {
            return Err(go_json::neither(FORMAT));
        }
        let info = head.name.map(|_| go_json::parse(FORMAT, Framing::Bare, document));
        Ok(Self { response_type: head.response_type, error: head.error, info: info.transpose()? })
    }
}

json_encoders!(ConsumerInfoResponse, Framing::Bare);

/// An answer to a client that wants a consumer to pause, or to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerPauseResponse {
    /// What is answered.
    #[serde(rename = "type")]
    pub response_type: ResponseType,
    /// Why it was refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: Option<ApiError>,
    /// Whether it pauses now.
    pub paused: bool,
    /// When it goes on; Go's zero time if it does not pause.
    pub pause_until: GoTime,
    /// For how many nanoseconds it pauses from now on.
    #[serde(skip_serializing_if = "is_zero")]
    pub pause_remaining: i64,
}

impl ConsumerPauseResponse {
    /// The answer at this moment that a consumer pauses until that one.
    pub fn until(until: GoTime, now: GoTime) -> Self {
        let left = until.unix_nanos().zip(now.unix_nanos()).map_or(0, |(a, b)| a.saturating_sub(b));
        Self {
            response_type: ResponseType::ConsumerPause,
            error: None,
            paused: left > 0,
            pause_until: until,
            pause_remaining: left.max(0),
        }
    }

    /// The answer that it is refused.
    pub fn error(error: ApiError) -> Self {
        Self { error: Some(error), ..Self::until(GoTime::ZERO, GoTime::ZERO) }
    }
}

json_encoders!(ConsumerPauseResponse, Framing::Bare);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_answered_as_go_does() {
        let (now, until) = (GoTime::from_unix_nanos(5), GoTime::from_unix_nanos(1_000_000_005));
        let told = ConsumerPauseResponse::until(until, now).to_bytes();
        let expected = br#"{"type":"io.nats.jetstream.api.v1.consumer_pause_response","paused":true,"pause_until":"1970-01-01T00:00:01.000000005Z","pause_remaining":1000000000}"#;
        assert_eq!(&told[..], expected);
        let refused = ConsumerPauseResponse::error(ApiError::CONSUMER_NOT_FOUND).to_bytes();
        let expected = br#"{"type":"io.nats.jetstream.api.v1.consumer_pause_response","error":{"code":404,"err_code":10014,"description":"consumer not found"},"paused":false,"pause_until":"0001-01-01T00:00:00Z"}"#;
        assert_eq!(&refused[..], expected);
    }
}
