//! A run of deleted messages, as one message of a stream's catchup: operation 15.
//!
//! Upstream: `encodeDeleteRange` and `decodeDeleteRange` in `server/jetstream_cluster.go`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::{Fault, WireError};
use super::go_json::{self, Framing, json_encoders};
use crate::ids::Sequence;
use crate::limits::Limits;

/// The name of the format.
const FORMAT: &str = "delete_range";
const FRAMING: Framing = Framing::Operation(15);

/// `count` deleted messages from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// The first of them.
    #[serde(rename = "First")]
    pub first: Sequence,
    /// How many.
    #[serde(rename = "Num")]
    pub count: u64,
}

impl DeleteRange {
    /// Upstream's range when nothing was set.
    const NOTHING: Self = Self { first: Sequence::ZERO, count: 0 };

    /// The last of them; nothing for a range that is empty or passes the largest sequence.
    pub fn last(self) -> Option<Sequence> {
        // Upstream counts up to the sequence behind the range, so that one has to exist too.
        let end = self.first.get().checked_add(self.count)?;
        (self.count > 0).then(|| Sequence::new(end - 1))
    }

    /// Reads a range, its operation's byte included. A range of nothing, from 0 on, is read as
    /// upstream writes it; no catchup sends it, and [`last`](Self::last) says that it has no end.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format; another range that is empty,
    /// begins with sequence 0 or passes the largest sequence. Upstream takes those, and then
    /// counts around zero.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let range: Self = go_json::decode(FORMAT, FRAMING, bytes, limits)?;
        let error = |field, expected, found| {
            let fault = Fault::Value { expected, found };
            Err(WireError { format: FORMAT, field, offset: 1, fault })
        };
        if range == Self::NOTHING {
            return Ok(range);
        }
        if range.first == Sequence::ZERO {
            return error("First", "a sequence of at least 1", 0);
        }
        if range.count == 0 {
            return error("Num", "at least 1", 0);
        }
        if range.last().is_none() {
            return error("Num", "a range that ends before the largest sequence", range.count);
        }
        Ok(range)
    }
}

json_encoders!(DeleteRange, FRAMING);

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str) -> Result<DeleteRange, Fault> {
        let bytes = Bytes::from(alloc::format!("\u{f}{json}\n"));
        DeleteRange::decode(&bytes, &Limits::default()).map_err(|error| error.fault)
    }

    #[test]
    fn ranges_that_no_stream_can_have_are_refused() {
        let refused = [
            r#"{"First":1,"Num":0}"#,
            r#"{"First":0,"Num":1}"#,
            r#"{"First":18446744073709551615,"Num":1}"#,
            r#"{"First":2,"Num":18446744073709551615}"#,
        ];
        for json in refused {
            assert!(matches!(decode(json), Err(Fault::Value { .. })), "{json}");
        }
        for json in ["", "{}", r#"{"First":1}"#, r#"{"First":-1,"Num":1}"#, "[1,2,3]"] {
            assert!(matches!(decode(json), Err(Fault::Json(_))), "{json}");
        }
    }

    #[test]
    fn a_range_of_nothing_is_read_and_has_no_end() {
        let range = decode(r#"{"First":0,"Num":0}"#).expect("upstream writes it");
        assert_eq!(range.last(), None);
    }

    #[test]
    fn the_largest_range_is_taken() {
        let range = decode(r#"{"First":1,"Num":18446744073709551614}"#).expect("valid");
        assert_eq!(range.last(), Some(Sequence::new(u64::MAX - 1)));
    }
}
