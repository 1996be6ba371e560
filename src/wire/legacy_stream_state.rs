//! The state of a stream as snapshots had it before 2.10, for peers that know no other.
//!
//! Upstream: `streamSnapshot` in `server/jetstream_cluster.go`.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{Fault, WireError};
use super::go_json::{self, Framing, is_zero, json_encoders};
use crate::ids::{ByteCount, Sequence};
use crate::limits::Limits;

/// The name of the format.
const FORMAT: &str = "stream_snapshot_legacy";

/// A stream's counts, and every deleted sequence of its range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyStreamState {
    /// How many messages it holds.
    pub messages: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// The first sequence.
    #[serde(rename = "first_seq")]
    pub first: Sequence,
    /// The last sequence.
    #[serde(rename = "last_seq")]
    pub last: Sequence,
    /// How many proposals were committed and then refused, which shifts sequences.
    #[serde(rename = "clfs")]
    pub failed: u64,
    /// The deleted sequences, one by one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted: Vec<Sequence>,
}

impl LegacyStreamState {
    /// Reads it. Takes 8 bytes of memory for each deleted sequence, and up to as many to spare.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format; more deleted sequences than
    /// [`Limits::deleted`].
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let document = go_json::open(FORMAT, Framing::Bare, bytes, limits)?;
        // Every sequence but the last of its list is followed by a comma.
        let found = document.iter().filter(|byte| **byte == b',').count() as u64;
        let limit = limits.deleted.saturating_add(FIELDS);
        if found > limit {
            let fault = Fault::TooLarge { limit, found };
            return Err(WireError { format: FORMAT, field: "deleted", offset: 0, fault });
        }
        go_json::parse(FORMAT, Framing::Bare, document)
    }
}

json_encoders!(LegacyStreamState, Framing::Bare);

/// The fields of the format.
const FIELDS: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_deletes_are_refused() {
        let state = LegacyStreamState {
            deleted: (1..100).map(Sequence::new).collect(),
            ..LegacyStreamState::default()
        };
        let bytes = state.to_bytes();
        let limits = Limits { deleted: 99, ..Limits::default() };
        assert_eq!(LegacyStreamState::decode(&bytes, &limits), Ok(state));
        let limits = Limits { deleted: 9, ..Limits::default() };
        let error = LegacyStreamState::decode(&bytes, &limits).map_err(|error| error.fault);
        assert!(matches!(error, Err(Fault::TooLarge { .. })), "{error:?}");
    }
}
