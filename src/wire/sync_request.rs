//! What a follower asks of a stream's server: the messages between two sequences.
//!
//! Upstream: `streamSyncRequest` in `server/jetstream_cluster.go`. Two fields are jetwake's own, left
//! out where they say nothing; nats-server passes over them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::WireError;
use super::go_json::{self, Framing, json_encoders};
use super::peer_text;
use crate::ids::{Index, PeerId, Sequence};
use crate::limits::Limits;

/// The name of the format.
const FORMAT: &str = "sync_request";

/// A request for the messages `first..=last`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Who asks.
    #[serde(default, with = "peer_text", skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerId>,
    /// The first sequence wanted.
    #[serde(rename = "first_seq")]
    pub first: Sequence,
    /// The last sequence wanted.
    #[serde(rename = "last_seq")]
    pub last: Sequence,
    /// Whether runs of deleted messages may come as one range; servers before 2.10 do not say.
    #[serde(default)]
    pub delete_ranges: bool,
    /// The index that the server must have applied before it serves; servers before 2.11 do not
    /// say.
    #[serde(default)]
    pub min_applied: Index,
    /// Whether the server's state is wanted at the end, as a
    /// [`CatchupState`](super::CatchupState).
    #[serde(default, rename = "jetwake_state", skip_serializing_if = "core::ops::Not::not")]
    pub state: bool,
    /// Who is asked. All members hear a request where a NATS server carries it, and one may answer.
    #[serde(
        default,
        rename = "jetwake_of",
        with = "peer_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub of: Option<PeerId>,
}

impl SyncRequest {
    /// Reads a request. Costs no memory beyond that of the answer.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format; a peer, be it who asks or who is
    /// asked, that is not eight visible characters. `first` may lie behind `last`: that is for the server to judge.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        go_json::decode(FORMAT, Framing::Bare, bytes, limits)
    }
}

json_encoders!(SyncRequest, Framing::Bare);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Fault;

    #[test]
    fn fields_that_older_servers_do_not_send_are_zero() {
        let bytes = Bytes::from_static(br#"{"peer":"S1abcdef","first_seq":1,"last_seq":100}"#);
        let request = SyncRequest::decode(&bytes, &Limits::default()).expect("valid");
        assert_eq!(request.min_applied, Index::ZERO);
        assert!(!request.delete_ranges && !request.state);
        assert_eq!(request.of, None);
    }

    #[test]
    fn own_fields_stand_behind_those_that_nats_has() {
        let plain =
            r#"{"peer":"S1abcdef","first_seq":3,"last_seq":9,"delete_ranges":true,"min_applied":4"#;
        let request = SyncRequest {
            peer: PeerId::from_wire(*b"S1abcdef"),
            first: Sequence::new(3),
            last: Sequence::new(9),
            delete_ranges: true,
            min_applied: Index::new(4),
            ..SyncRequest::default()
        };
        let asking =
            SyncRequest { state: true, of: PeerId::from_wire(*b"S2abcdef"), ..request.clone() };
        let own = r#","jetwake_state":true,"jetwake_of":"S2abcdef"}"#;
        for (request, end) in [(request, "}"), (asking, own)] {
            let bytes = Bytes::from(alloc::format!("{plain}{end}"));
            assert_eq!(request.to_bytes(), bytes);
            assert_eq!(SyncRequest::decode(&bytes, &Limits::default()), Ok(request));
        }
    }

    #[test]
    fn a_peer_with_quotes_is_written_as_it_was_read() {
        let bytes = Bytes::from_static(
            br#"{"peer":"a'b\"c\\de","first_seq":1,"last_seq":2,"delete_ranges":false,"min_applied":0}"#,
        );
        let request = SyncRequest::decode(&bytes, &Limits::default()).expect("seven and a quote");
        assert_eq!(request.to_bytes(), bytes);
    }

    #[test]
    fn a_peer_that_cannot_be_one_is_refused() {
        for peer in ["short", "eight\\u0000\\u0000\\u0000", "ninechars", "\u{e4}\u{f6}\u{fc}\u{df}"]
        {
            let text = alloc::format!(r#"{{"peer":"{peer}","first_seq":1,"last_seq":2}}"#);
            let error = SyncRequest::decode(&Bytes::from(text), &Limits::default());
            assert!(matches!(error.map_err(|error| error.fault), Err(Fault::Json(_))), "{peer}");
        }
    }

    #[test]
    fn a_request_without_a_range_is_refused() {
        let bytes = Bytes::from_static(br#"{"peer":"S1abcdef"}"#);
        assert!(SyncRequest::decode(&bytes, &Limits::default()).is_err());
    }
}
