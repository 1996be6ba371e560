//! The fields of a message as JSON: numbers of 64 bits as text, binary as hex.

use std::fmt::Write as _;
use std::io::{self, Write};

use bytes::Bytes;
use jetwake::ids::{PeerId, Sequence};
use serde_json::{Map, Value};

use super::DecodeError;
use super::paint::Paint;

/// What a message says.
#[derive(Debug)]
pub struct Decoded {
    /// Its fields, by the names that the vectors have.
    pub fields: Map<String, Value>,
    /// The bytes that the fields encode to.
    pub reencoded: Bytes,
}

impl Decoded {
    /// Fields, and what they encode to.
    pub(super) fn new<const N: usize>(fields: [(&str, Value); N], reencoded: Bytes) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { fields, reencoded }
    }
}

/// A number of 64 bits, as text: JSON would lose its digits.
pub(super) fn number(number: u64) -> Value {
    number.to_string().into()
}

pub(super) fn signed(number: i64) -> Value {
    number.to_string().into()
}

pub(super) fn sequence(sequence: Sequence) -> Value {
    number(sequence.get())
}

/// Binary, as hex.
pub(super) fn binary(bytes: &[u8]) -> Value {
    hex(bytes).into()
}

/// Bytes that should be text.
pub(super) fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// A peer's id, or null for nobody.
pub(super) fn peer(peer: Option<PeerId>) -> Value {
    peer.map_or(Value::Null, |peer| peer.to_string().into())
}

/// A list, or null for none, as Go has it.
pub(super) fn list(values: impl Iterator<Item = Value>) -> Value {
    let values: Vec<Value> = values.collect();
    if values.is_empty() { Value::Null } else { values.into() }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hex digits.
pub(super) fn unhex(text: &str) -> Result<Bytes, DecodeError> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).enumerate();
    let bytes = pairs.map(|(place, pair)| match *pair {
        [high, low] => match (digit(high), digit(low)) {
            // Two digits fit a byte.
            (Some(high), Some(low)) => Ok((high << 4 | low) as u8),
            _ => Err(DecodeError::Input(format!("hex: no digits at {}", 2 * place))),
        },
        _ => Err(DecodeError::Input("hex: a digit is missing at the end".into())),
    });
    bytes.collect()
}

/// Writes a message for people: a field a line, the longest cut.
pub(super) fn explain(
    out: &mut impl Write,
    kind: &str,
    decoded: &Decoded,
    paint: &Paint,
) -> io::Result<()> {
    writeln!(out, "{}", paint.strong(kind))?;
    let width = decoded.fields.keys().map(String::len).max().unwrap_or_default();
    for (name, value) in &decoded.fields {
        explain_field(out, name, value, width, paint)?;
    }
    Ok(())
}

fn explain_field(
    out: &mut impl Write,
    name: &str,
    value: &Value,
    width: usize,
    paint: &Paint,
) -> io::Result<()> {
    let name = paint.quiet(&format!("{name:width$}"));
    match value {
        Value::Array(values) if !values.is_empty() => {
            for value in values.iter().take(ELEMENTS) {
                writeln!(out, "  {name}  {}", brief(value))?;
            }
            if values.len() > ELEMENTS {
                writeln!(out, "  {name}  and {} more", values.len() - ELEMENTS)?;
            }
            Ok(())
        }
        value => writeln!(out, "  {name}  {}", brief(value)),
    }
}

/// Elements of a list that people are shown.
const ELEMENTS: usize = 20;
/// Characters of a value that people are shown.
const CHARACTERS: usize = 2_000;

fn brief(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    // What came from elsewhere must not steer the terminal.
    let safe = |character: char| {
        if character.is_control() { '\u{fffd}' } else { character }
    };
    let mut shown: String = text.chars().take(CHARACTERS).map(safe).collect();
    if shown.len() < text.len() && text.chars().count() > CHARACTERS {
        shown.push_str("...");
    }
    shown
}
