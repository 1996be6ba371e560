//! What clients ask the meta group's leader, as they say it: a subject of JetStream's API and JSON.
//!
//! Upstream: the subjects `JSApi…` and the handlers `js…Request` in `server/jetstream_api.go`, as
//! far as they check before a server decides.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use serde::Deserialize;

use super::consumer_request::Action;
use super::stream_check::is_valid_name;
use crate::limits::Limits;
use crate::wire::{
    ApiError, ApiResponse, ConsumerConfig, ConsumerInfoResponse, ConsumerPauseResponse, GoTime,
    PublishAckResponse, ResponseType, StreamConfig, StreamInfoResponse, null_as_default, read_json,
};

/// What every subject of the API begins with.
const PREFIX: &str = "$JS.API.";

/// A wish or a question of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApiRequest {
    /// Create a stream.
    CreateStream {
        /// How it should be.
        config: Box<StreamConfig>,
        /// Whether to refuse where it would be changed.
        pedantic: bool,
    },
    /// Change a stream.
    UpdateStream {
        /// How it should be.
        config: Box<StreamConfig>,
        /// Whether to refuse where it would be changed.
        pedantic: bool,
    },
    /// Remove a stream.
    DeleteStream(String),
    /// Tell of a stream.
    StreamInfo(String),
    /// Name the streams.
    StreamNames(Part),
    /// Tell of all streams.
    StreamList(Part),
    /// Create or change a consumer.
    CreateConsumer {
        /// The stream.
        stream: String,
        /// How it should be.
        config: Box<ConsumerConfig>,
        /// Which of the two.
        action: Action,
        /// Whether to refuse where it would be changed.
        pedantic: bool,
    },
    /// Let a consumer pause, or go on.
    PauseConsumer {
        /// The stream.
        stream: String,
        /// Its name.
        consumer: String,
        /// When it goes on; Go's zero time for now.
        until: GoTime,
    },
    /// Remove a consumer.
    DeleteConsumer {
        /// The stream.
        stream: String,
        /// Its name.
        consumer: String,
    },
    /// Tell of a consumer.
    ConsumerInfo {
        /// The stream.
        stream: String,
        /// Its name.
        consumer: String,
    },
    /// Name the consumers of a stream.
    ConsumerNames(String, Part),
    /// Tell of all consumers of a stream.
    ConsumerList(String, Part),
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Part {
    /// How many to pass over.
    #[serde(deserialize_with = "null_as_default")]
    pub offset: u64,
    /// Only streams that take messages of this subject; all if empty.
    #[serde(deserialize_with = "null_as_default")]
    pub subject: String,
}

/// A request that is refused before anybody decides, with the type that its answer has; a subject
/// that is not of the API has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is answered.
    pub response_type: Option<ResponseType>,
    /// Why.
    pub error: ApiError,
}

impl Refused {
    /// The answer.
    pub fn to_bytes(&self) -> Bytes {
        match self.response_type {
            Some(kind) => refusal(kind, self.error.clone()),
            None => PublishAckResponse { error: Some(self.error.clone()), ack: None }.to_bytes(),
        }
    }
}

/// A refusal in the form that answers of this type have.
pub fn refusal(kind: ResponseType, error: ApiError) -> Bytes {
    use ResponseType::{ConsumerCreate, ConsumerInfo, StreamCreate, StreamInfo, StreamUpdate};
    match kind {
        StreamCreate | StreamUpdate | StreamInfo => {
            StreamInfoResponse::error(kind, error).to_bytes()
        }
        ConsumerCreate | ConsumerInfo => ConsumerInfoResponse::error(kind, error).to_bytes(),
        ResponseType::ConsumerPause => ConsumerPauseResponse::error(error).to_bytes(),
        _ => ApiResponse::error(kind, error).to_bytes(),
    }
}

impl ApiRequest {
    /// Reads a request. Takes memory for what the document says.
    ///
    /// # Errors
    /// [`Refused`], with what upstream refuses it with.
    pub fn parse(subject: &[u8], payload: &Bytes, limits: &Limits) -> Result<Self, Refused> {
        let unknown = || Refused { response_type: None, error: ApiError::BAD_REQUEST };
        let subject = core::str::from_utf8(subject).map_err(|_| unknown())?;
        let tokens: Vec<&str> =
            subject.strip_prefix(PREFIX).ok_or_else(unknown)?.split('.').collect();
        let (response_type, parsed) = match tokens[..] {
            ["STREAM", "CREATE", name] => {
                let parsed = stream_config(name, payload, limits)
                    .map(|(config, pedantic)| Self::CreateStream { config, pedantic });
                (ResponseType::StreamCreate, parsed)
            }
            ["STREAM", "UPDATE", name] => {
                let parsed = stream_config(name, payload, limits)
                    .map(|(config, pedantic)| Self::UpdateStream { config, pedantic });
                (ResponseType::StreamUpdate, parsed)
            }
            ["STREAM", "DELETE", name] => {
                let parsed = empty(payload).map(|()| Self::DeleteStream(name.into()));
                (ResponseType::StreamDelete, parsed)
            }
            // What is asked for besides is not told.
            ["STREAM", "INFO", name] => {
                (ResponseType::StreamInfo, Ok(Self::StreamInfo(name.into())))
            }
            ["STREAM", "NAMES"] => {
                (ResponseType::StreamNames, part(payload, limits).map(Self::StreamNames))
            }
            ["STREAM", "LIST"] => {
                (ResponseType::StreamList, part(payload, limits).map(Self::StreamList))
            }
            ["CONSUMER", "CREATE", stream] => {
                let parsed = consumer(stream, Named::Nowhere, payload, limits);
                (ResponseType::ConsumerCreate, parsed)
            }
            ["CONSUMER", "CREATE", stream, name, ref filter @ ..] => {
                let filter = filter.join(".");
                let named = Named::Here { name, filter: &filter };
                (ResponseType::ConsumerCreate, consumer(stream, named, payload, limits))
            }
            ["CONSUMER", "DURABLE", "CREATE", stream, name] => {
                let parsed = consumer(stream, Named::Durable(name), payload, limits);
                (ResponseType::ConsumerCreate, parsed)
            }
            ["CONSUMER", "DELETE", stream, name] => {
                let (stream, consumer) = (stream.into(), name.into());
                let parsed = empty(payload).map(|()| Self::DeleteConsumer { stream, consumer });
                (ResponseType::ConsumerDelete, parsed)
            }
            ["CONSUMER", "PAUSE", stream, name] => {
                let (stream, consumer) = (stream.into(), name.into());
                let parsed = pause(payload, limits);
                let parsed = parsed.map(|until| Self::PauseConsumer { stream, consumer, until });
                (ResponseType::ConsumerPause, parsed)
            }
            ["CONSUMER", "INFO", stream, name] => {
                let (stream, consumer) = (stream.into(), name.into());
                let parsed = empty(payload).map(|()| Self::ConsumerInfo { stream, consumer });
                (ResponseType::ConsumerInfo, parsed)
            }
            ["CONSUMER", "NAMES", stream] => {
                let parsed = part(payload, limits);
                let parsed = parsed.map(|part| Self::ConsumerNames(stream.into(), part));
                (ResponseType::ConsumerNames, parsed)
            }
            ["CONSUMER", "LIST", stream] => {
                let parsed = part(payload, limits);
                let parsed = parsed.map(|part| Self::ConsumerList(stream.into(), part));
                (ResponseType::ConsumerList, parsed)
            }
            _ => return Err(unknown()),
        };
        parsed.map_err(|error| Refused { response_type: Some(response_type), error })
    }

    /// The type of the answer to it.
    pub const fn response_type(&self) -> ResponseType {
        match self {
            Self::CreateStream { .. } => ResponseType::StreamCreate,
            Self::UpdateStream { .. } => ResponseType::StreamUpdate,
            Self::DeleteStream(_) => ResponseType::StreamDelete,
            Self::StreamInfo(_) => ResponseType::StreamInfo,
            Self::StreamNames(_) => ResponseType::StreamNames,
            Self::StreamList(_) => ResponseType::StreamList,
            Self::CreateConsumer { .. } => ResponseType::ConsumerCreate,
            Self::PauseConsumer { .. } => ResponseType::ConsumerPause,
            Self::DeleteConsumer { .. } => ResponseType::ConsumerDelete,
            Self::ConsumerInfo { .. } => ResponseType::ConsumerInfo,
            Self::ConsumerNames(..) => ResponseType::ConsumerNames,
            Self::ConsumerList(..) => ResponseType::ConsumerList,
        }
    }

    /// Whether it changes nothing.
    pub const fn is_question(&self) -> bool {
        !matches!(
            self,
            Self::CreateStream { .. }
                | Self::UpdateStream { .. }
                | Self::DeleteStream(_)
                | Self::CreateConsumer { .. }
                | Self::PauseConsumer { .. }
                | Self::DeleteConsumer { .. }
        )
    }
}

fn invalid_json(error: &dyn core::fmt::Display) -> ApiError {
    ApiError::INVALID_JSON.with(&[("err", error)])
}

fn read<T: serde::de::DeserializeOwned>(payload: &Bytes, limits: &Limits) -> Result<T, ApiError> {
    read_json("api_request", payload, limits).map_err(|error| invalid_json(&error))
}

/// Upstream: `isEmptyRequest`.
fn empty(payload: &Bytes) -> Result<(), ApiError> {
    let text = payload.trim_ascii();
    let empty = text.is_empty() || matches!(text, b"{}" | b"null");
    if empty { Ok(()) } else { Err(ApiError::NOT_EMPTY_REQUEST) }
}

fn part(payload: &Bytes, limits: &Limits) -> Result<Part, ApiError> {
    if empty(payload).is_ok() { Ok(Part::default()) } else { read(payload, limits) }
}

/// A wish for a pause.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pause {
    pause_until: GoTime,
}

fn pause(payload: &Bytes, limits: &Limits) -> Result<GoTime, ApiError> {
    if payload.is_empty() {
        return Ok(GoTime::ZERO);
    }
    read::<Pause>(payload, limits).map(|pause| pause.pause_until)
}

/// What stands in a request beside the configuration of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Beside {
    pedantic: bool,
}

fn stream_config(
    name: &str,
    payload: &Bytes,
    limits: &Limits,
) -> Result<(Box<StreamConfig>, bool), ApiError> {
    let config = StreamConfig::decode(payload, limits).map_err(|error| invalid_json(&error))?;
    let Beside { pedantic } = read(payload, limits)?;
    if config.name != name {
        return Err(ApiError::STREAM_MISMATCH);
    }
    if name.contains(['\\', '/']) {
        return Err(ApiError::STREAM_NAME_CONTAINS_PATH_SEPARATORS);
    }
    Ok((Box::new(config), pedantic))
}

/// A wish for a consumer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Consumer {
    stream_name: String,
    config: ConsumerConfig,
    action: String,
    pedantic: bool,
}

/// What a subject says of a consumer.
#[derive(Clone, Copy)]
enum Named<'a> {
    /// Nothing: an ephemeral consumer, as old clients ask for it.
    Nowhere,
    /// The name of a durable one, as old clients say it.
    Durable(&'a str),
    /// Its name, and perhaps what it filters.
    Here { name: &'a str, filter: &'a str },
}

fn consumer(
    stream: &str,
    named: Named<'_>,
    payload: &Bytes,
    limits: &Limits,
) -> Result<ApiRequest, ApiError> {
    let mut wish: Consumer = read(payload, limits)?;
    let action = match wish.action.as_str() {
        "" => Action::CreateOrUpdate,
        "create" => Action::Create,
        "update" => Action::Update,
        other => return Err(invalid_json(&format!("unknown action {other:?}"))),
    };
    if wish.stream_name != stream {
        return Err(ApiError::STREAM_MISMATCH);
    }
    let config = &mut wish.config;
    match named {
        Named::Nowhere if !config.durable_name.is_empty() => {
            return Err(ApiError::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME);
        }
        Named::Nowhere => {}
        Named::Durable(name) | Named::Here { name, .. } => {
            check_name(name)?;
            if matches!(named, Named::Durable(_)) && config.durable_name.is_empty() {
                return Err(ApiError::CONSUMER_DURABLE_NAME_NOT_SET);
            }
            if !config.durable_name.is_empty() && config.durable_name != name {
                return Err(ApiError::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
            }
            config.name = name.to_string();
        }
    }
    if let Named::Here { filter, .. } = named
        && !filter.is_empty()
    {
        if !config.filter_subjects.is_empty() {
            return Err(ApiError::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
        }
        if config.filter_subject != filter {
            return Err(ApiError::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH);
        }
    }
    let (config, pedantic) = (Box::new(wish.config), wish.pedantic);
    Ok(ApiRequest::CreateConsumer { stream: stream.into(), config, action, pedantic })
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if name.contains(['\\', '/']) {
        return Err(ApiError::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
    }
    if is_valid_name(name) { Ok(()) } else { Err(ApiError::BAD_REQUEST) }
}
