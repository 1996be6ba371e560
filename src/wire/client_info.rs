//! Who asked for something, in upstream's JSON: a part of purges, deletes and assignments.
//!
//! Upstream: `ClientInfo` in `server/events.go`.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::go_json::is_zero;
use super::go_time::GoTime;

/// A client and its connection. Empty fields are not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInfo {
    /// When it connected.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: Option<GoTime>,
    /// Its address.
    #[serde(skip_serializing_if = "is_zero")]
    pub host: String,
    /// Its connection's number.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: u64,
    /// Its account.
    #[serde(rename = "acc", skip_serializing_if = "is_zero")]
    pub account: String,
    /// The account that it speaks for, where that is another.
    #[serde(rename = "svc", skip_serializing_if = "is_zero")]
    pub service: String,
    /// Its user.
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
    /// Its name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    /// The language of its library.
    #[serde(rename = "lang", skip_serializing_if = "is_zero")]
    pub language: String,
    /// The version of its library.
    #[serde(rename = "ver", skip_serializing_if = "is_zero")]
    pub version: String,
    /// Its round-trip time in nanoseconds.
    #[serde(rename = "rtt", skip_serializing_if = "is_zero")]
    pub round_trip: i64,
    /// The server that it is connected to.
    #[serde(skip_serializing_if = "is_zero")]
    pub server: String,
    /// The cluster of that server.
    #[serde(skip_serializing_if = "is_zero")]
    pub cluster: String,
    /// Other clusters, by distance.
    #[serde(rename = "alts", skip_serializing_if = "is_zero")]
    pub alternates: Vec<String>,
    /// When it disconnected.
    #[serde(skip_serializing_if = "is_zero")]
    pub stop: Option<GoTime>,
    /// Its credentials, which upstream removes from what it replicates.
    #[serde(skip_serializing_if = "is_zero")]
    pub jwt: String,
    /// Who issued them.
    #[serde(skip_serializing_if = "is_zero")]
    pub issuer_key: String,
    /// The name that they are tagged with.
    #[serde(skip_serializing_if = "is_zero")]
    pub name_tag: String,
    /// Their other tags.
    #[serde(skip_serializing_if = "is_zero")]
    pub tags: Vec<String>,
    /// What kind of connection it is.
    #[serde(skip_serializing_if = "is_zero")]
    pub kind: String,
    /// What protocol it speaks.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_type: String,
    /// Its name in MQTT.
    #[serde(rename = "client_id", skip_serializing_if = "is_zero")]
    pub mqtt_client: String,
    /// The challenge that it signed.
    #[serde(skip_serializing_if = "is_zero")]
    pub nonce: String,
}

impl ClientInfo {
    /// The account that a request counts for: the one it speaks for, else its own.
    ///
    /// Upstream: `serviceAccount`.
    pub fn service_account(&self) -> &str {
        if self.service.is_empty() { &self.account } else { &self.service }
    }
}
