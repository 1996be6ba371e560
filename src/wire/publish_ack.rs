//! What a publisher is answered.
//!
//! Upstream: `JSPubAckResponse` and `PubAck` in `server/stream.go`. A server has two ways of
//! writing one, which differ in order and spaces: a template for what it acknowledges often, and
//! `json.Marshal` for errors. So have we: [`PublishAckTemplate`] and [`PublishAckResponse`].

use alloc::string::{String, ToString};
use core::fmt::Write as _;

use bytes::Bytes;

use super::buffer::Buffer;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::api_error::ApiError;
use super::error::WireError;
use super::go_json::{self, Framing, is_zero, json_encoders};
use crate::ids::Sequence;
use crate::limits::Limits;

/// The name of the format.
const FORMAT: &str = "pub_ack";

/// Where a message was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishAck {
    /// The stream.
    pub stream: String,
    /// Its sequence; 0 beside an error.
    #[serde(rename = "seq")]
    pub sequence: Sequence,
    /// The domain of the stream.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub domain: String,
    /// Whether the message had been stored before, at this sequence.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicate: bool,
    /// The counter's value after the message.
    #[serde(default, rename = "val", skip_serializing_if = "is_zero")]
    pub value: String,
    /// The batch that was committed with the message.
    #[serde(default, rename = "batch", skip_serializing_if = "is_zero")]
    pub batch_id: String,
    /// How many messages the batch has.
    #[serde(default, rename = "count", skip_serializing_if = "is_zero")]
    pub batch_size: u64,
}

/// An acknowledgement, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublishAckResponse {
    /// Why the message was refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: Option<ApiError>,
    /// Where it was stored; beside an error, only the stream's name.
    #[serde(flatten)]
    pub ack: Option<PublishAck>,
}

/// What stands beside an acknowledgement.
#[derive(Deserialize)]
struct Head {
    error: Option<ApiError>,
    stream: Option<IgnoredAny>,
}

impl PublishAckResponse {
    /// The refusal of a message by this stream.
    pub fn error(stream: impl Into<String>, error: ApiError) -> Self {
        let ack = PublishAck { stream: stream.into(), ..PublishAck::default() };
        Self { error: Some(error), ack: Some(ack) }
    }

    /// Reads an answer in either way of writing.
    ///
    /// # Errors
    /// A document that is too long, too deep or not this format.
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let document = go_json::open(FORMAT, Framing::Bare, bytes, limits)?;
        let head: Head = go_json::parse(FORMAT, Framing::Bare, document)?;
        let ack = head.stream.map(|_| go_json::parse(FORMAT, Framing::Bare, document));
        Ok(Self { error: head.error, ack: ack.transpose()? })
    }
}

json_encoders!(PublishAckResponse, Framing::Bare);

/// Writes the acknowledgements of one stream, byte for byte as upstream does when all went well.
///
/// The stream's name is quoted once, here; an acknowledgement appends to the caller's buffer and
/// allocates nothing else. Upstream quotes with `%q`, which agrees with JSON but for control
/// characters, where it writes what is no JSON; this writes JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishAckTemplate {
    /// `{"stream":"S","domain":"D","seq":`, the domain only where there is one.
    prefix: Bytes,
    /// `"stream":"S","seq":0}`, as a refusal ends.
    refused: Bytes,
}

impl PublishAckTemplate {
    /// The template of a stream, in a domain or none.
    pub fn new(stream: &str, domain: Option<&str>) -> Self {
        let mut prefix = String::from("{\"stream\":");
        push_quoted(&mut prefix, stream);
        if let Some(domain) = domain.filter(|domain| !domain.is_empty()) {
            prefix.push_str(",\"domain\":");
            push_quoted(&mut prefix, domain);
        }
        prefix.push_str(",\"seq\":");
        let refused = alloc::format!("\"stream\":{},\"seq\":0}}", go_json::to_string(&stream));
        Self { prefix: Bytes::from(prefix), refused: Bytes::from(refused) }
    }

    /// Appends that a message was stored at `sequence`. Takes [`success_len`](Self::success_len)
    /// bytes.
    pub fn success(&self, sequence: Sequence, out: &mut impl Buffer) {
        self.begin(sequence, 1, out);
        out.put_u8(b'}');
    }

    /// The exact size of [`success`](Self::success).
    pub fn success_len(&self, sequence: Sequence) -> usize {
        self.prefix.len() + decimal_len(sequence.get()) + 1
    }

    /// Appends that a message had been stored before, at `sequence`. Takes
    /// [`duplicate_len`](Self::duplicate_len) bytes.
    pub fn duplicate(&self, sequence: Sequence, out: &mut impl Buffer) {
        self.begin(sequence, DUPLICATE.len(), out);
        out.put_slice(DUPLICATE);
    }

    /// The exact size of [`duplicate`](Self::duplicate).
    pub fn duplicate_len(&self, sequence: Sequence) -> usize {
        self.prefix.len() + decimal_len(sequence.get()) + DUPLICATE.len()
    }

    /// Appends that a batch of `size` messages was committed, the last of them at `sequence`.
    pub fn batch(&self, sequence: Sequence, batch_id: &str, size: u64, out: &mut impl Buffer) {
        let mut end = String::from(",\"batch\":");
        push_quoted(&mut end, batch_id);
        end.push_str(",\"count\":");
        end.push_str(&size.to_string());
        end.push('}');
        self.begin(sequence, end.len(), out);
        out.put_slice(end.as_bytes());
    }

    /// Appends that a counter's message was stored at `sequence`, and its value after it.
    pub fn counter(&self, sequence: Sequence, value: &str, out: &mut impl Buffer) {
        let mut end = String::from(",\"val\":");
        push_quoted(&mut end, value);
        end.push('}');
        self.begin(sequence, end.len(), out);
        out.put_slice(end.as_bytes());
    }

    /// Appends that a message was refused.
    pub fn error(&self, error: &ApiError, out: &mut impl Buffer) {
        out.put_slice(b"{\"error\":");
        go_json::encode(Framing::Bare, error, out);
        out.put_u8(b',');
        out.put_slice(&self.refused);
    }

    /// Appends all up to the sequence, and makes room for `more` bytes behind it.
    fn begin(&self, sequence: Sequence, more: usize, out: &mut impl Buffer) {
        let mut digits = [0; DECIMAL_LEN];
        let digits = decimal(sequence.get(), &mut digits);
        out.reserve(self.prefix.len() + digits.len() + more);
        out.put_slice(&self.prefix);
        out.put_slice(digits);
    }
}

/// How upstream ends the acknowledgement of a duplicate, with its space.
const DUPLICATE: &[u8] = b",\"duplicate\": true}";
/// The digits of the largest number of 64 bits.
const DECIMAL_LEN: usize = 20;

/// The digits of a number, at the end of `buffer`.
fn decimal(mut number: u64, buffer: &mut [u8; DECIMAL_LEN]) -> &[u8] {
    let mut start = buffer.len();
    for (place, digit) in buffer.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start = place;
        if number == 0 {
            break;
        }
    }
    &buffer[start..]
}

/// How many digits a number has.
fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

/// Appends text in quotes, as Go's `%q` does where that is JSON.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a `String` cannot fail.
            '\0'..='\u{1f}' => write!(out, "\\u{:04x}", character as u32).unwrap_or_default(),
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use alloc::vec::Vec;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(Vec::from(out)).expect("JSON")
    }

    fn decoded(text: &str) -> PublishAckResponse {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        PublishAckResponse::decode(&bytes, &Limits::default()).expect(text)
    }

    #[test]
    fn templates_write_what_upstream_does() {
        let plain = PublishAckTemplate::new("ORDERS", None);
        let hub = PublishAckTemplate::new("a\"<b", Some("hub"));
        let seven = Sequence::new(7);
        for (text, expected) in [
            (written(|out| plain.success(seven, out)), r#"{"stream":"ORDERS","seq":7}"#),
            (
                written(|out| plain.duplicate(Sequence::MAX, out)),
                r#"{"stream":"ORDERS","seq":18446744073709551615,"duplicate": true}"#,
            ),
            (
                written(|out| hub.success(Sequence::ZERO, out)),
                r#"{"stream":"a\"<b","domain":"hub","seq":0}"#,
            ),
            (
                written(|out| plain.batch(seven, "uuid", 3, out)),
                r#"{"stream":"ORDERS","seq":7,"batch":"uuid","count":3}"#,
            ),
            (
                written(|out| plain.counter(seven, "-12", out)),
                r#"{"stream":"ORDERS","seq":7,"val":"-12"}"#,
            ),
        ] {
            assert_eq!(text, expected);
            assert!(decoded(&text).ack.is_some());
        }
    }

    #[test]
    fn a_refusal_is_the_same_from_template_and_response() {
        let template = PublishAckTemplate::new("a\"<b", Some("hub"));
        let error = ApiError::STREAM_WRONG_LAST_SEQUENCE.with(&[("seq", &9)]);
        let text = written(|out| template.error(&error, out));
        assert_eq!(
            text,
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 9"},"stream":"a\"\u003cb","seq":0}"#
        );
        let response = PublishAckResponse::error("a\"<b", error);
        assert_eq!(&response.to_bytes()[..], text.as_bytes());
        assert_eq!(decoded(&text), response);
    }

    #[test]
    fn sizes_are_told_beforehand() {
        let template = PublishAckTemplate::new("S", None);
        for number in [0, 1, 9, 10, 99, 100, u64::MAX / 10, u64::MAX] {
            let sequence = Sequence::new(number);
            let success = written(|out| template.success(sequence, out));
            assert_eq!(success.len(), template.success_len(sequence));
            let duplicate = written(|out| template.duplicate(sequence, out));
            assert_eq!(duplicate.len(), template.duplicate_len(sequence));
        }
    }

    #[test]
    fn every_name_stays_json() {
        for name in ["\0\u{7}\u{b}\n\t\u{1b}", "\u{7f}\u{2028}\u{1f600}", "\\\"/"] {
            let template = PublishAckTemplate::new(name, Some(name));
            let text = written(|out| template.batch(Sequence::new(1), name, 1, out));
            let ack = decoded(&text).ack.expect("an acknowledgement");
            assert_eq!([&ack.stream, &ack.domain, &ack.batch_id], [name; 3]);
        }
    }
}
