//! What JetStream's API answers when it refuses, and the answers that carry nothing but that.
//!
//! Upstream: `ApiError` in `server/jetstream_errors.go`, `ApiResponse` and those that embed it in
//! `server/jetstream_api.go`. The table of errors is in `api_error_table.rs`.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders};
use crate::limits::Limits;

/// A refusal of JetStream's API.
///
/// ```
/// use jetwake::wire::ApiError;
/// let error = ApiError::STREAM_WRONG_LAST_SEQUENCE.with(&[("seq", &7)]);
/// assert_eq!(error.description, "wrong last sequence: 7");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{description} ({err_code})")]
#[serde(default)]
pub struct ApiError {
    /// The kind of refusal, as HTTP numbers them.
    pub code: i64,
    /// The refusal itself; 0 from servers before 2.7.
    #[serde(skip_serializing_if = "is_zero")]
    pub err_code: u16,
    /// It in words.
    #[serde(skip_serializing_if = "is_zero")]
    pub description: Cow<'static, str>,
}

impl ApiError {
    /// An error with a fixed text.
    pub const fn new(code: i64, err_code: u16, description: &'static str) -> Self {
        Self { code, err_code, description: Cow::Borrowed(description) }
    }

    /// Replaces `{name}` in the text by the value of that name; values are not searched again.
    #[must_use]
    pub fn with(&self, values: &[(&str, &dyn fmt::Display)]) -> Self {
        let mut text = String::new();
        let mut rest: &str = &self.description;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let known = after.split_once('}').and_then(|(name, after)| {
                let (_, value) = values.iter().find(|(known, _)| *known == name)?;
                Some((value, after))
            });
            rest = match known {
                Some((value, after)) => {
                    text.push_str(&value.to_string());
                    after
                }
                None => {
                    text.push('{');
                    after
                }
            };
        }
        text.push_str(rest);
        Self { code: self.code, err_code: self.err_code, description: Cow::Owned(text) }
    }

    /// Whether both are the same refusal, whatever values their texts carry.
    pub const fn is(&self, other: &Self) -> bool {
        self.err_code == other.err_code
    }
}

/// The `type` of an answer of JetStream's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResponseType {
    /// To the creation of a stream.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_create_response")]
    StreamCreate,
    /// To the update of a stream.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_update_response")]
    StreamUpdate,
    /// To the deletion of a stream.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_delete_response")]
    StreamDelete,
    /// To a question about a stream.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_info_response")]
    StreamInfo,
    /// To the purge of a stream.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_purge_response")]
    StreamPurge,
    /// To the deletion of a message.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_msg_delete_response")]
    MessageDelete,
    /// To the reading of a message.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_msg_get_response")]
    MessageGet,
    /// To the removal of a stream's peer.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_remove_peer_response")]
    StreamRemovePeer,
    /// To the wish that a stream's leader step down.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_leader_stepdown_response")]
    StreamLeaderStepDown,
    /// To the creation of a consumer.
    #[serde(rename = "io.nats.jetstream.api.v1.consumer_create_response")]
    ConsumerCreate,
    /// To the deletion of a consumer.
    #[serde(rename = "io.nats.jetstream.api.v1.consumer_delete_response")]
    ConsumerDelete,
    /// To a question about a consumer.
    #[serde(rename = "io.nats.jetstream.api.v1.consumer_info_response")]
    ConsumerInfo,
    /// To a question for the names of streams.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_names_response")]
    StreamNames,
    /// To a question about all streams.
    #[serde(rename = "io.nats.jetstream.api.v1.stream_list_response")]
    StreamList,
    /// To a question for the names of consumers.
    #[serde(rename = "io.nats.jetstream.api.v1.consumer_names_response")]
    ConsumerNames,
    /// To a question about all consumers of a stream.
    #[serde(rename = "io.nats.jetstream.api.v1.consumer_list_response")]
    ConsumerList,
    /// To the wish that a consumer pause, or go on.
    #[serde(rename = "io.nats.jetstream.api.v1.consumer_pause_response")]
    ConsumerPause,
}

/// An answer without a result of its own: done, or why not.
///
/// ```
/// use jetwake::wire::{ApiError, ApiResponse, ResponseType};
/// let refused = ApiResponse::error(ResponseType::MessageDelete, ApiError::STREAM_NOT_FOUND);
/// assert_eq!(
///     &refused.to_bytes()[..],
///     br#"{"type":"io.nats.jetstream.api.v1.stream_msg_delete_response","error":{"code":404,"err_code":10059,"description":"stream not found"}}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiResponse {
    /// What is answered.
    #[serde(rename = "type")]
    pub response_type: ResponseType,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub error: Option<ApiError>,
    /// Whether it was done.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub success: bool,
    /// How many messages a purge took; every answer to a purge carries it, and no other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub purged: Option<u64>,
}

impl ApiResponse {
    /// The answer that it is done.
    pub fn success(response_type: ResponseType) -> Self {
        Self::plain(response_type, None, true)
    }

    /// The answer that it is refused.
    pub fn error(response_type: ResponseType, error: ApiError) -> Self {
        Self::plain(response_type, Some(error), false)
    }

    /// The answer to a purge that took so many messages.
    pub fn purged(messages: u64) -> Self {
        Self { purged: Some(messages), ..Self::success(ResponseType::StreamPurge) }
    }

    fn plain(response_type: ResponseType, error: Option<ApiError>, success: bool) -> Self {
        let purged = (response_type == ResponseType::StreamPurge).then_some(0);
        Self { response_type, error, success, purged }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format; a type that is not known.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode("api_response", Framing::Bare, bytes, limits)
    }
}

json_encoders!(ApiResponse, Framing::Bare);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_filled_in_one_pass() {
        let error = ApiError::STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS
            .with(&[("prefix", &"{subject}"), ("subject", &"a.>")]);
        assert_eq!(
            error.description,
            "stream external delivery prefix {subject} overlaps with stream subject a.>"
        );
        let other = ApiError::new(400, 1, "{ {x} {y").with(&[("x", &1), ("y", &2)]);
        assert_eq!(other.description, "{ 1 {y");
        assert!(error.is(&ApiError::STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS));
    }

    #[test]
    fn answers_are_those_of_upstream() {
        for (response, expected) in [
            (
                ApiResponse::success(ResponseType::MessageDelete),
                r#"{"type":"io.nats.jetstream.api.v1.stream_msg_delete_response","success":true}"#,
            ),
            (
                ApiResponse::purged(7),
                r#"{"type":"io.nats.jetstream.api.v1.stream_purge_response","success":true,"purged":7}"#,
            ),
            (
                ApiResponse::error(
                    ResponseType::StreamPurge,
                    ApiError::STREAM_PURGE_FAILED.with(&[("err", &"<x>")]),
                ),
                r#"{"type":"io.nats.jetstream.api.v1.stream_purge_response","error":{"code":500,"err_code":10110,"description":"\u003cx\u003e"},"purged":0}"#,
            ),
        ] {
            let bytes = response.to_bytes();
            assert_eq!(&bytes[..], expected.as_bytes());
            assert_eq!(ApiResponse::decode(&bytes, &Limits::default()), Ok(response));
        }
    }
}
