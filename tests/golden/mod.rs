//! Reads the vectors of this folder.
#![allow(dead_code, reason = "each test takes what it needs")]

use bytes::Bytes;
use serde_json::Value;

/// One case, as the real server made it.
pub(crate) struct Vector {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) fields: Value,
    pub(crate) bytes: Bytes,
    /// What upstream's decoder says to it.
    pub(crate) error: Option<String>,
    /// Why upstream keeps it offline.
    pub(crate) reason: Option<String>,
}

/// The cases of a file, in order.
pub(crate) fn vectors(file: &str) -> Vec<Vector> {
    let path = format!("{}/tests/golden/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let vectors: Vec<_> = text.lines().map(vector).collect();
    assert!(!vectors.is_empty(), "{path} has no vectors");
    vectors
}

fn vector(line: &str) -> Vector {
    let value: Value = serde_json::from_str(line).expect("a vector is JSON");
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    Vector {
        kind: text("kind").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
        fields: value["fields"].clone(),
        bytes: unhex(value["hex"].as_str().expect("a vector has bytes")),
        error: text("error"),
        reason: text("reason"),
    }
}

/// Every file of vectors, and the recorded exchange.
pub(crate) const FILES: [&str; 22] = [
    "append_entry",
    "append_entry_bad",
    "append_entry_response",
    "assignments",
    "binary",
    "cluster_info",
    "consumer_ops",
    "delete_range",
    "live",
    "meta",
    "msg_delete_and_purge",
    "peer_state",
    "raft_snapshot",
    "s2",
    "sequence_set",
    "stream_msg",
    "stream_msg_bad",
    "stream_state",
    "stream_state_bad",
    "sync_request",
    "vote_request",
    "vote_response",
];

pub(crate) fn unhex(text: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number, which stands as text where JSON would lose digits.
pub(crate) fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().expect("a number"),
        value => value.as_u64().expect("a number"),
    }
}

pub(crate) fn signed(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.parse().expect("a number"),
        value => value.as_i64().expect("a number"),
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

pub(crate) fn binary(value: &Value) -> Bytes {
    unhex(text(value))
}

/// One message of the recorded exchange.
pub(crate) struct Recorded {
    /// Microseconds since the beginning.
    pub(crate) us: u64,
    pub(crate) subject: String,
    pub(crate) reply: String,
    pub(crate) payload: Bytes,
}

/// The recorded exchange, in order.
pub(crate) fn trace() -> Vec<Recorded> {
    let path = format!("{}/tests/golden/trace.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let recorded = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a line is JSON");
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let us = value["us"].as_u64().expect("a time");
        let payload = unhex(&text("hex"));
        Recorded { us, subject: text("subject"), reply: text("reply"), payload }
    };
    text.lines().map(recorded).collect()
}
