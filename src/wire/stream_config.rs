//! The configuration of a stream, in upstream's JSON.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// How a stream behaves. Field names, order and omitted zeros are upstream's `StreamConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// The stream's name.
    pub name: String,
    /// The subjects that it takes, with wildcards.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// How long a message id is remembered, in nanoseconds; zero for upstream's two minutes.
    #[serde(default)]
    pub duplicate_window: i64,
    /// Bytes of one message at most; -1 for no bound.
    #[serde(default)]
    pub max_msg_size: i32,
}
