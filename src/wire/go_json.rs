//! JSON as Go's `encoding/json` writes it, and as we dare to read it from a peer.
//!
//! Bounds come first: length and nesting are checked in one pass over the bytes, which takes no
//! memory, before anything is parsed. What parsing takes is then at most a small multiple of the
//! document's length (see [`Limits::json`]).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::error::{Fault, WireError};
use crate::limits::Limits;

/// How a format lies around its JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing but the document.
    Bare,
    /// An operation's byte before it and a newline behind it, as an entry of a log has it.
    Operation(u8),
}

impl Framing {
    /// The operation's byte, if there is one.
    const fn operation(self) -> Option<u8> {
        match self {
            Self::Bare => None,
            Self::Operation(byte) => Some(byte),
        }
    }
}

/// The JSON of a format, bounded by `limits`, behind its operation's byte.
///
/// Costs one pass over the bytes and no memory.
pub(crate) fn open<'a>(
    format: &'static str,
    framing: Framing,
    bytes: &'a Bytes,
    limits: &Limits,
) -> Result<&'a [u8], WireError> {
    let document = match (framing.operation(), bytes.split_first()) {
        (None, _) => bytes,
        (Some(expected), Some((found, document))) if *found == expected => document,
        (Some(_), Some((found, _))) => {
            let fault = Fault::Value {
                expected: "the byte of this format's operation",
                found: u64::from(*found),
            };
            return Err(WireError { format, field: "operation", offset: 0, fault });
        }
        (Some(_), None) => {
            let fault = Fault::Short { expected: 1, found: 0 };
            return Err(WireError { format, field: "operation", offset: 0, fault });
        }
    };
    check(document, limits).map_err(|fault| WireError {
        format,
        field: "document",
        offset: 0,
        fault,
    })?;
    Ok(document)
}

/// Reads a value from a format's bytes. Fields that it does not know are passed over.
pub(crate) fn decode<T: DeserializeOwned>(
    format: &'static str,
    framing: Framing,
    bytes: &Bytes,
    limits: &Limits,
) -> Result<T, WireError> {
    parse(format, framing, open(format, framing, bytes, limits)?)
}

/// Reads a value from a document that stands alone.
pub(crate) fn read_json<T: DeserializeOwned>(
    format: &'static str,
    bytes: &Bytes,
    limits: &Limits,
) -> Result<T, WireError> {
    decode(format, Framing::Bare, bytes, limits)
}

/// Reads a value from a document that [`open`] gave.
pub(crate) fn parse<'a, T: Deserialize<'a>>(
    format: &'static str,
    framing: Framing,
    document: &'a [u8],
) -> Result<T, WireError> {
    serde_json::from_slice(document).map_err(|error| {
        let before = framing.operation().map_or(0, |_| 1);
        WireError {
            format,
            field: "document",
            offset: before + offset_of(&error, document),
            fault: Fault::Json(describe(&error)),
        }
    })
}

/// The error of an answer that neither tells nor refuses.
pub(crate) fn neither(format: &'static str) -> WireError {
    let fault = Fault::Text("a result or an error");
    WireError { format, field: "document", offset: 0, fault }
}

/// Refuses a document that is longer or nested deeper than allowed, before it is parsed.
pub(crate) fn check(document: &[u8], limits: &Limits) -> Result<(), Fault> {
    let (limit, found) = (limits.json.get(), document.len() as u64);
    if found > limit {
        return Err(Fault::TooLarge { limit, found });
    }
    let (limit, found) = (limits.json_depth, depth(document));
    if found > limit {
        return Err(Fault::TooLarge { limit: limit as u64, found: found as u64 });
    }
    Ok(())
}

/// How deep objects and arrays lie within each other. Costs one pass.
fn depth(document: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What was wrong, without the place, which the offset tells.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if let Some(end) = text.rfind(" at line ") {
        text.truncate(end);
    }
    text
}

/// Where in the document an error lies.
fn offset_of(error: &serde_json::Error, document: &[u8]) -> usize {
    let earlier = error.line().saturating_sub(1);
    let lines = document.split_inclusive(|byte| *byte == b'\n').take(earlier);
    let start: usize = lines.map(<[u8]>::len).sum();
    start + error.column().saturating_sub(1)
}

/// Appends a value as Go's `json.Marshal` writes it, in its framing: one growth at most.
///
/// Takes as much memory again as the document, for the time of the call.
pub(crate) fn encode<T: Serialize>(framing: Framing, value: &T, out: &mut impl Buffer) {
    put(framing, &to_vec(value), out);
}

/// How many bytes [`encode`] appends. Costs what that costs: the document is written to be counted.
pub(crate) fn encoded_len<T: Serialize>(framing: Framing, value: &T) -> usize {
    len(framing, &to_vec(value))
}

/// A value as [`encode`] writes it, in a buffer of exactly its size.
pub(crate) fn to_bytes<T: Serialize>(framing: Framing, value: &T) -> Bytes {
    let mut out = BytesMut::new();
    encode(framing, value, &mut out);
    out.freeze()
}

/// A value as the text of a JSON document, as Go writes it.
pub(crate) fn to_string<T: Serialize>(value: &T) -> String {
    let bytes = to_bytes(Framing::Bare, value);
    // serde_json writes UTF-8 only, and escaping replaces whole characters by ASCII.
    String::from_utf8(bytes.into()).expect("JSON is UTF-8")
}

/// A value as JSON, before it is escaped as Go does.
fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    // Our types have string keys only and no `Serialize` of theirs fails; memory aside, nothing
    // else can go wrong.
    serde_json::to_vec(value).expect("types of the wire formats serialize")
}

/// How Go escapes the beginning of a document besides what must be: the escape, and how many bytes
/// it stands for. It does so with `<`, `>`, `&` and the line separators U+2028 and U+2029.
///
/// They stand within strings only, so a pass over the finished document finds them.
#[inline]
const fn escape(document: &[u8]) -> Option<(&'static [u8; 6], usize)> {
    match document {
        [b'<', ..] => Some((b"\\u003c", 1)),
        [b'>', ..] => Some((b"\\u003e", 1)),
        [b'&', ..] => Some((b"\\u0026", 1)),
        [0xe2, 0x80, 0xa8, ..] => Some((b"\\u2028", 3)),
        [0xe2, 0x80, 0xa9, ..] => Some((b"\\u2029", 3)),
        _ => None,
    }
}

/// Where the document next may have to be escaped.
fn next_special(document: &[u8]) -> Option<usize> {
    document.iter().position(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2))
}

/// Bytes of a document once it is escaped and framed.
fn len(framing: Framing, document: &[u8]) -> usize {
    let mut length = document.len() + framing.operation().map_or(0, |_| 2);
    let mut rest = document;
    while let Some(place) = next_special(rest) {
        let found = &rest[place..];
        let (escape, escaped) = escape(found).map_or((1, 1), |(to, from)| (to.len(), from));
        length += escape - escaped;
        rest = found.get(escaped..).unwrap_or_default();
    }
    length
}

/// Appends a document, escaped and framed.
fn put(framing: Framing, document: &[u8], out: &mut impl Buffer) {
    out.reserve(len(framing, document));
    if let Some(operation) = framing.operation() {
        out.put_u8(operation);
    }
    let mut rest = document;
    while let Some(place) = next_special(rest) {
        let (before, found) = rest.split_at(place);
        out.put_slice(before);
        let length = match escape(found) {
            Some((escape, length)) => {
                out.put_slice(escape);
                length
            }
            None => {
                out.put_u8(found[0]);
                1
            }
        };
        rest = found.get(length..).unwrap_or_default();
    }
    out.put_slice(rest);
    if framing.operation().is_some() {
        out.put_u8(b'\n');
    }
}

/// Gives a type the encoders of its format, whose framing is told.
macro_rules! json_encoders {
    ($type:ty, $framing:expr) => {
        impl $type {
            /// How many bytes [`encode`](Self::encode) appends. Costs what that costs: the
            /// document is written to be counted.
            pub fn encoded_len(&self) -> usize {
                $crate::wire::go_json::encoded_len($framing, self)
            }

            /// Appends it as upstream writes it, with the operation's byte and the newline where
            /// the format has them. One growth at most; takes as much memory again as the
            /// document, for the time of the call.
            pub fn encode(&self, buffer: &mut impl $crate::wire::Buffer) {
                $crate::wire::go_json::encode($framing, self, buffer);
            }

            /// It as [`encode`](Self::encode) writes it, in a buffer of its own.
            pub fn to_bytes(&self) -> bytes::Bytes {
                $crate::wire::go_json::to_bytes($framing, self)
            }
        }
    };
}
pub(crate) use json_encoders;

/// Whether Go would omit a field: the zero of its type.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null`, which Go writes for an absent list, map or pointer, as the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Writes an empty list as `null`, as Go writes an absent one.
pub(crate) fn empty_as_null<T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

/// Makes a type of the wire one that other formats than JSON carry too: there it is the text of
/// its JSON, as the fields that JSON omits would be missed by formats without names.
///
/// The type derives both traits with `#[serde(remote = "Self")]`.
macro_rules! json_within_binary {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return <$type>::serialize(self, serializer);
                }
                serializer.serialize_str(&$crate::wire::go_json::to_string(self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    return <$type>::deserialize(deserializer);
                }
                let text = alloc::string::String::deserialize(deserializer)?;
                serde_json::from_str(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use json_within_binary;

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use super::*;
    use crate::ids::ByteCount;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let text = "<a>&\u{2028}\u{2029}\u{20ac}\u{e2}\"\\\n\r\t\u{8}\u{c}\u{1}\u{7f}\u{1f600}";
        let expected = concat!(
            r#""\u003ca\u003e\u0026\u2028\u2029"#,
            "\u{20ac}\u{e2}",
            r#"\"\\\n\r\t\b\f\u0001"#,
            "\u{7f}\u{1f600}\""
        );
        assert_eq!(to_string(&text), expected);
        assert_eq!(serde_json::from_str::<String>(expected).expect("JSON"), text);
    }

    #[test]
    fn sizes_are_told_beforehand_and_what_is_there_stays() {
        let texts = ["", "<>&", "\u{2028}a\u{2029}", "\u{20ac}\u{2027}\u{202a}", "\u{1f600}<"];
        for (text, framing) in texts
            .iter()
            .flat_map(|text| [Framing::Bare, Framing::Operation(5)].map(|framing| (text, framing)))
        {
            let mut out = BytesMut::from(&b"before"[..]);
            encode(framing, text, &mut out);
            assert_eq!(out.split_to(6), b"before"[..]);
            assert_eq!(out.len(), encoded_len(framing, text), "{text:?}");
            assert_eq!(out, to_bytes(framing, text));
        }
    }

    #[test]
    fn depth_counts_what_is_open_and_not_what_is_quoted() {
        for (document, expected) in [
            (r#""#, 0),
            (r#"1"#, 0),
            (r#"{}"#, 1),
            (r#"[{},[[]],{}]"#, 3),
            (r#"{"[[[\"[[[":"{{\\"}"#, 1),
            (r#"]]]][["#, 2),
        ] {
            assert_eq!(depth(document.as_bytes()), expected, "{document}");
        }
    }

    #[test]
    fn bounds_are_checked_before_anything_is_parsed() {
        let limits = Limits { json: ByteCount::new(10), json_depth: 2, ..Limits::default() };
        assert_eq!(check(b"[[1]]", &limits), Ok(()));
        assert_eq!(check(b"[[[1]]]", &limits), Err(Fault::TooLarge { limit: 2, found: 3 }));
        assert_eq!(check(b"[1,2,3,4,5]", &limits), Err(Fault::TooLarge { limit: 10, found: 11 }));
    }

    #[test]
    fn a_million_brackets_are_an_error() {
        for bracket in ["[", "{\"a\":"] {
            let document = Bytes::from(bracket.repeat(1_000_000));
            let limits = Limits { json_depth: usize::MAX, ..Limits::default() };
            let unbounded = decode::<serde_json::Value>("test", Framing::Bare, &document, &limits);
            assert!(matches!(unbounded.map_err(|error| error.fault), Err(Fault::Json(_))));
            let bounded =
                decode::<serde_json::Value>("test", Framing::Bare, &document, &Limits::default());
            let fault = Fault::TooLarge { limit: 64, found: 1_000_000 };
            assert_eq!(bounded.map_err(|error| error.fault), Err(fault));
        }
    }

    #[test]
    fn errors_tell_the_byte() {
        let bytes = Bytes::from_static(b"\x0f[1,\n2,x]\n");
        let error = decode::<Vec<u8>>("test", Framing::Operation(15), &bytes, &Limits::default())
            .expect_err("x is no number");
        assert_eq!(error.offset, 7);
        assert_eq!(format!("{error}"), "test: document at byte 7: expected value");
        let wrong = decode::<Vec<u8>>("test", Framing::Operation(6), &bytes, &Limits::default());
        let fault = Fault::Value { expected: "the byte of this format's operation", found: 15 };
        assert_eq!(wrong.map_err(|error| error.fault), Err(fault));
    }

    #[test]
    fn framing_goes_both_ways() {
        let bytes = to_bytes(Framing::Operation(15), &vec![1, 2]);
        assert_eq!(&bytes[..], b"\x0f[1,2]\n");
        let back: Vec<u8> =
            decode("test", Framing::Operation(15), &bytes, &Limits::default()).expect("just made");
        assert_eq!(back, [1, 2]);
    }
}
