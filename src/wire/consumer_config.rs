//! The configuration of a consumer, in upstream's JSON.
//!
//! Upstream: `ConsumerConfig` in `server/consumer.go`; field names, order and omitted zeros are
//! its.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders, json_within_binary};
use super::go_time::GoTime;
use crate::limits::Limits;

/// How a consumer delivers a stream. All durations are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, remote = "Self")]
pub struct ConsumerConfig {
    /// Its name, if it outlives its clients.
    #[serde(skip_serializing_if = "is_zero")]
    pub durable_name: String,
    /// Its name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// What it is for, in words.
    #[serde(skip_serializing_if = "is_zero")]
    pub description: String,
    /// Where in the stream it begins.
    pub deliver_policy: DeliverPolicy,
    /// The sequence that it begins with.
    #[serde(skip_serializing_if = "is_zero")]
    pub opt_start_seq: u64,
    /// The moment that it begins with.
    #[serde(skip_serializing_if = "is_zero")]
    pub opt_start_time: Option<GoTime>,
    /// What has to be acknowledged.
    pub ack_policy: AckPolicy,
    /// How long it waits for an acknowledgement.
    #[serde(skip_serializing_if = "is_zero")]
    pub ack_wait: i64,
    /// Deliveries of one message at most; -1 for no bound.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_deliver: i64,
    /// How long it waits after each delivery.
    #[serde(skip_serializing_if = "is_zero")]
    pub backoff: Vec<i64>,
    /// The subjects that it delivers, with wildcards.
    #[serde(skip_serializing_if = "is_zero")]
    pub filter_subject: String,
    /// The same, where there are several.
    #[serde(skip_serializing_if = "is_zero")]
    pub filter_subjects: Vec<String>,
    /// How fast it delivers what is old.
    pub replay_policy: ReplayPolicy,
    /// Bits a second at most.
    #[serde(skip_serializing_if = "is_zero")]
    pub rate_limit_bps: u64,
    /// Which share of acknowledgements is reported, such as `100%`.
    #[serde(skip_serializing_if = "is_zero")]
    pub sample_freq: String,
    /// Requests that may wait.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_waiting: i64,
    /// Messages that may wait for their acknowledgement; -1 for no bound.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
    /// Whether a slow client is waited for.
    #[serde(skip_serializing_if = "is_zero")]
    pub flow_control: bool,
    /// Whether payloads stay behind.
    #[serde(skip_serializing_if = "is_zero")]
    pub headers_only: bool,
    /// Messages of one request at most.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_batch: i64,
    /// How long a request may wait at most.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_expires: i64,
    /// Bytes of one request at most.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_bytes: i64,
    /// Where it delivers to, if it is not asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub deliver_subject: String,
    /// The queue that it delivers to.
    #[serde(skip_serializing_if = "is_zero")]
    pub deliver_group: String,
    /// How often it shows that it lives.
    #[serde(skip_serializing_if = "is_zero")]
    pub idle_heartbeat: i64,
    /// How long it lives without interest, if it is ephemeral.
    #[serde(skip_serializing_if = "is_zero")]
    pub inactive_threshold: i64,
    /// Copies of its state; 0 for as many as the stream has.
    pub num_replicas: i64,
    /// Whether its state is kept in memory, whatever the stream's.
    #[serde(skip_serializing_if = "is_zero")]
    pub mem_storage: bool,
    /// Whether it belongs to a mirror or to a stream that gathers.
    #[serde(skip_serializing_if = "is_zero")]
    pub direct: bool,
    /// Whatever its owner wrote down, and the API level that it requires.
    #[serde(skip_serializing_if = "is_zero")]
    pub metadata: BTreeMap<String, String>,
    /// When it goes on.
    #[serde(skip_serializing_if = "is_zero")]
    pub pause_until: Option<GoTime>,
    /// The groups that its clients belong to.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority_groups: Vec<String>,
    /// Which of a group's clients is served.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority_policy: PriorityPolicy,
    /// How long a client stays the one that is served.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority_timeout: i64,
}

json_within_binary!(ConsumerConfig);

impl ConsumerConfig {
    /// Reads a configuration. Fields that it has no place for are passed over.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode("consumer_config", Framing::Bare, bytes, limits)
    }
}

json_encoders!(ConsumerConfig, Framing::Bare);

/// Where in the stream a consumer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliverPolicy {
    /// At its first message.
    #[default]
    #[serde(alias = "undefined")]
    All,
    /// At its last message.
    Last,
    /// Behind its last message.
    New,
    /// At a sequence.
    ByStartSequence,
    /// At a moment.
    ByStartTime,
    /// At the last message of each subject.
    LastPerSubject,
}

/// What a consumer's clients have to acknowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AckPolicy {
    /// Nothing.
    #[default]
    None,
    /// A message, and with it all before.
    All,
    /// Every message.
    Explicit,
}

/// How fast a consumer delivers what is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReplayPolicy {
    /// As fast as it can.
    #[default]
    Instant,
    /// As fast as it came.
    Original,
}

/// Which of a group's clients is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PriorityPolicy {
    /// Any.
    #[default]
    None,
    /// One that asks only above a bound.
    Overflow,
    /// One, until it goes.
    PinnedClient,
    /// Those of the lowest number first.
    Prioritized,
}
