//! Lists of streams and of consumers, as clients are told.
//!
//! Upstream: `JSApiStreamNamesResponse`, `JSApiStreamListResponse`, `JSApiConsumerNamesResponse`
//! and `JSApiConsumerListResponse` in `server/jetstream_api.go`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::Serialize;

use super::api_error::ResponseType;
use super::go_json::{self, Framing, is_zero};
use super::stream_info::Page;

/// What of a list could not be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Untold {
    /// The names of which nothing but the name is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: Vec<String>,
    /// Those of them that are offline, and why.
    #[serde(skip_serializing_if = "is_zero")]
    pub offline: BTreeMap<String, String>,
}

impl Untold {
    /// One more, which is offline if a reason is given.
    pub fn add(&mut self, name: &str, offline: Option<&str>) {
        self.missing.push(name.into());
        if let Some(why) = offline {
            self.offline.insert(name.into(), why.into());
        }
    }
}

/// A part of the list of an account's streams: of their names, or of all that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamList<T> {
    /// What is answered.
    #[serde(rename = "type")]
    pub response_type: ResponseType,
    /// Which part.
    #[serde(flatten)]
    pub page: Page,
    /// The streams.
    pub streams: Vec<T>,
    /// Those that are not among them.
    #[serde(flatten)]
    pub untold: Untold,
}

/// A part of the list of a stream's consumers: of their names, or of all that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerList<T> {
    /// What is answered.
    #[serde(rename = "type")]
    pub response_type: ResponseType,
    /// Which part.
    #[serde(flatten)]
    pub page: Page,
    /// The consumers.
    pub consumers: Vec<T>,
    /// Those that are not among them.
    #[serde(flatten)]
    pub untold: Untold,
}

impl<T: Serialize> StreamList<T> {
    /// The answer.
    pub fn to_bytes(&self) -> Bytes {
        go_json::to_bytes(Framing::Bare, self)
    }
}

impl<T: Serialize> ConsumerList<T> {
    /// The answer.
    pub fn to_bytes(&self) -> Bytes {
        go_json::to_bytes(Framing::Bare, self)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_list_is_written_as_go_writes_it() {
        let mut list = StreamList {
            response_type: ResponseType::StreamNames,
            page: Page { total: 1, offset: 0, limit: 1024 },
            streams: alloc::vec!["A".to_string()],
            untold: Untold::default(),
        };
        let names = br#"{"type":"io.nats.jetstream.api.v1.stream_names_response","total":1,"offset":0,"limit":1024,"streams":["A"]}"#;
        assert_eq!(&list.to_bytes()[..], names);
        list.streams.clear();
        list.response_type = ResponseType::StreamList;
        list.untold.missing.push("A".to_string());
        list.untold.offline.insert("A".to_string(), "stopped".to_string());
        let offline = br#"{"type":"io.nats.jetstream.api.v1.stream_list_response","total":1,"offset":0,"limit":1024,"streams":[],"missing":["A"],"offline":{"A":"stopped"}}"#;
        assert_eq!(&list.to_bytes()[..], offline);
    }
}
