//! How far a consumer is.
//!
//! Upstream: `ConsumerState` in `server/store.go`. As JSON it is a part of the assignment of a
//! restored consumer.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize, Serializer};

use super::go_json::is_zero;
use crate::ids::Sequence;

/// What a consumer has delivered, and what of that is not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerState {
    /// The last delivery.
    pub delivered: SequencePair,
    /// The last delivery up to which all is acknowledged.
    pub ack_floor: SequencePair,
    /// The messages that wait for their acknowledgement, by their sequence in the stream.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "by_text")]
    pub pending: BTreeMap<Sequence, Pending>,
    /// How often messages were delivered again, by their sequence in the stream.
    #[serde(skip_serializing_if = "is_zero", serialize_with = "by_text")]
    pub redelivered: BTreeMap<Sequence, u64>,
}

/// A delivery's number, and the message that it delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SequencePair {
    /// The number of the delivery.
    #[serde(rename = "consumer_seq")]
    pub consumer: Sequence,
    /// The message's sequence in the stream.
    #[serde(rename = "stream_seq")]
    pub stream: Sequence,
}

/// A message that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pending {
    /// The number of its delivery.
    #[serde(rename = "Sequence")]
    pub sequence: Sequence,
    /// When it was delivered: nanoseconds since the Unix epoch.
    #[serde(rename = "Timestamp")]
    pub timestamp: i64,
}

/// A map in the order of its keys' digits, as Go writes it: 10 comes before 9.
fn by_text<S: Serializer, V: Serialize>(
    map: &BTreeMap<Sequence, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut entries: Vec<(String, &V)> =
        map.iter().map(|(sequence, value)| (sequence.to_string(), value)).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    serializer.collect_map(entries)
}
