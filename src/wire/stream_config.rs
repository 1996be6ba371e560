//! The configuration of a stream, in upstream's JSON.
//!
//! Upstream: `StreamConfig` in `server/stream.go`; field names, order and omitted zeros are its.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders, json_within_binary};
use super::go_time::GoTime;
use crate::limits::Limits;

/// Upstream's default of [`StreamConfig::duplicate_window`]: two minutes, in nanoseconds.
const DEFAULT_DUPLICATE_WINDOW: i64 = 120_000_000_000;

/// How a stream behaves.
///
/// All durations are nanoseconds. Where a bound may be -1, that means no bound. The default has
/// zeros throughout; [`StreamConfig::new`] has upstream's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, remote = "Self")]
pub struct StreamConfig {
    /// The stream's name.
    pub name: String,
    /// What it is for, in words.
    #[serde(skip_serializing_if = "is_zero")]
    pub description: String,
    /// The subjects that it takes, with wildcards.
    #[serde(skip_serializing_if = "is_zero")]
    pub subjects: Vec<String>,
    /// When a message has served its purpose.
    pub retention: RetentionPolicy,
    /// Consumers at most; -1 for no bound.
    pub max_consumers: i64,
    /// Messages at most; -1 for no bound.
    pub max_msgs: i64,
    /// Bytes of all messages at most; -1 for no bound.
    pub max_bytes: i64,
    /// Nanoseconds that a message is kept; zero for ever.
    pub max_age: i64,
    /// Messages of one subject at most; -1 for no bound.
    pub max_msgs_per_subject: i64,
    /// Bytes of one message at most; -1 for no bound.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_msg_size: i32,
    /// What gives way at a bound.
    pub discard: DiscardPolicy,
    /// Where messages are kept.
    pub storage: StorageType,
    /// Copies of the stream.
    pub num_replicas: i64,
    /// Whether publishes go without an acknowledgement.
    #[serde(skip_serializing_if = "is_zero")]
    pub no_ack: bool,
    /// Nanoseconds that a message id is remembered.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate_window: i64,
    /// Where its copies may lie.
    #[serde(skip_serializing_if = "is_zero")]
    pub placement: Option<Placement>,
    /// The stream that it mirrors.
    #[serde(skip_serializing_if = "is_zero")]
    pub mirror: Option<StreamSource>,
    /// The streams that it gathers from.
    #[serde(skip_serializing_if = "is_zero")]
    pub sources: Vec<StreamSource>,
    /// How messages are compressed on disk.
    pub compression: StoreCompression,
    /// The sequence of the first message, if not 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub first_seq: u64,
    /// What is done to the subject of each message before all else.
    #[serde(skip_serializing_if = "is_zero")]
    pub subject_transform: Option<SubjectTransform>,
    /// Where each stored message is published again.
    #[serde(skip_serializing_if = "is_zero")]
    pub republish: Option<Republish>,
    /// Whether every copy answers reads.
    pub allow_direct: bool,
    /// Whether a mirror answers reads of its origin.
    pub mirror_direct: bool,
    /// Whether [`DiscardPolicy::New`] holds for each subject too.
    #[serde(skip_serializing_if = "is_zero")]
    pub discard_new_per_subject: bool,
    /// Whether nothing goes in or out any more.
    pub sealed: bool,
    /// Whether messages cannot be deleted.
    pub deny_delete: bool,
    /// Whether the stream cannot be purged.
    pub deny_purge: bool,
    /// Whether a message's header may purge what came before it.
    pub allow_rollup_hdrs: bool,
    /// What consumers get that do not say otherwise.
    pub consumer_limits: StreamConsumerLimits,
    /// Whether a message's header may bound its life.
    pub allow_msg_ttl: bool,
    /// Nanoseconds that a mark of a deleted subject is kept; zero for no marks.
    #[serde(skip_serializing_if = "is_zero")]
    pub subject_delete_marker_ttl: i64,
    /// Whether its messages are counters.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_msg_counter: bool,
    /// Whether batches are taken whole or not at all.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_atomic: bool,
    /// Whether a message's header may schedule others.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_msg_schedules: bool,
    /// When a message counts as stored.
    #[serde(skip_serializing_if = "is_zero")]
    pub persist_mode: PersistMode,
    /// Whatever its owner wrote down, and the API level that it requires.
    #[serde(skip_serializing_if = "is_zero")]
    pub metadata: BTreeMap<String, String>,
}

json_within_binary!(StreamConfig);

impl StreamConfig {
    /// A stream of this name and these subjects, with upstream's defaults: no bounds, one copy
    /// on disk, ids remembered for two minutes.
    pub fn new(name: impl Into<String>, subjects: impl IntoIterator<Item = String>) -> Self {
        Self {
            name: name.into(),
            subjects: subjects.into_iter().collect(),
            max_consumers: -1,
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            max_msg_size: -1,
            num_replicas: 1,
            duplicate_window: DEFAULT_DUPLICATE_WINDOW,
            ..Self::default()
        }
    }

    /// Reads a configuration. Fields that it has no place for are passed over.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode("stream_config", Framing::Bare, bytes, limits)
    }
}

json_encoders!(StreamConfig, Framing::Bare);

/// When a message has served its purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RetentionPolicy {
    /// When a bound of the stream is reached.
    #[default]
    Limits,
    /// When every consumer has acknowledged it.
    Interest,
    /// When one consumer has acknowledged it.
    WorkQueue,
}

/// What gives way at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DiscardPolicy {
    /// The oldest message.
    #[default]
    Old,
    /// The new message.
    New,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StorageType {
    /// On disk.
    #[default]
    File,
    /// In memory.
    Memory,
}

/// How messages are compressed on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoreCompression {
    /// Not at all.
    #[default]
    None,
    /// With S2.
    S2,
}

/// When a message counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PersistMode {
    /// When it was written.
    #[default]
    #[serde(alias = "")]
    Default,
    /// At once; it is written later.
    Async,
}

/// Where copies may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// The cluster.
    #[serde(skip_serializing_if = "is_zero")]
    pub cluster: String,
    /// Tags that a server must have.
    #[serde(skip_serializing_if = "is_zero")]
    pub tags: Vec<String>,
    /// The server that should lead.
    #[serde(skip_serializing_if = "is_zero")]
    pub preferred: String,
}

/// A stream that another one mirrors or gathers from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSource {
    /// Its name.
    pub name: String,
    /// The sequence to begin with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opt_start_seq: u64,
    /// The moment to begin with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opt_start_time: Option<GoTime>,
    /// The subjects wanted of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filter_subject: String,
    /// What is done to subjects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub subject_transforms: Vec<SubjectTransform>,
    /// How it is reached in another account or domain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub external: Option<ExternalStream>,
}

/// How a stream in another account or domain is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalStream {
    /// The prefix of its API's subjects.
    pub api: String,
    /// The prefix of subjects that it delivers to.
    pub deliver: String,
}

/// A change of subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectTransform {
    /// Which subjects, with wildcards.
    pub src: String,
    /// What becomes of them.
    pub dest: String,
}

/// Where stored messages are published again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Republish {
    /// Which subjects, with wildcards; all if empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub src: String,
    /// What becomes of them.
    pub dest: String,
    /// Whether the payload stays behind.
    #[serde(skip_serializing_if = "is_zero")]
    pub headers_only: bool,
}

/// What consumers of a stream get that do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamConsumerLimits {
    /// Nanoseconds without interest after which an ephemeral consumer goes.
    #[serde(skip_serializing_if = "is_zero")]
    pub inactive_threshold: i64,
    /// Messages that may wait for their acknowledgement.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_default_is_written_as_go_writes_it() {
        let config = StreamConfig::new("S", ["a.>".to_string()]);
        assert_eq!(
            go_json::to_string(&config),
            concat!(
                r#"{"name":"S","subjects":["a.\u003e"],"retention":"limits","max_consumers":-1,"#,
                r#""max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"#,
                r#""max_msg_size":-1,"discard":"old","storage":"file","num_replicas":1,"#,
                r#""duplicate_window":120000000000,"compression":"none","allow_direct":false,"#,
                r#""mirror_direct":false,"sealed":false,"deny_delete":false,"deny_purge":false,"#,
                r#""allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false}"#
            )
        );
    }

    #[test]
    fn formats_without_names_carry_every_field() {
        let mut config = StreamConfig::new("S", ["a.>".to_string(), "<&>".to_string()]);
        config.placement = Some(Placement::default());
        config.persist_mode = PersistMode::Async;
        config.metadata.insert("k".to_string(), "v".to_string());
        let bytes = postcard::to_allocvec(&config).expect("fits memory");
        assert_eq!(postcard::from_bytes(&bytes), Ok(config));
    }
}
