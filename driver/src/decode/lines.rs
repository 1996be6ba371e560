//! JSON lines in, JSON lines out.

use std::io::{self, BufRead, Read, Write};

use jetwake::limits::Limits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::DecodeError;
use super::fields::{Decoded, hex, unhex};
use super::kinds::{self, Message};

/// A line of input; what else it has is not looked at.
#[derive(Deserialize)]
struct Question {
    kind: String,
    hex: String,
    group: Option<String>,
    /// Vectors have the group here.
    fields: Option<GroupField>,
}

#[derive(Deserialize)]
struct GroupField {
    group: Option<Value>,
}

/// A line of output.
#[derive(Serialize)]
struct Answer<'a> {
    kind: Option<&'a str>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reencoded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Answers every line with a line.
pub(super) fn answer(mut input: impl BufRead, mut out: impl Write) -> Result<(), DecodeError> {
    let mut line = Vec::new();
    loop {
        match read_line(&mut input, &mut line)? {
            Line::End => return Ok(()),
            Line::TooLong => write_answer(&mut out, None, Err(too_long()))?,
            Line::Read if line.trim_ascii().is_empty() => {}
            Line::Read => answer_line(&line, &mut out)?,
        }
    }
}

fn answer_line(line: &[u8], out: &mut impl Write) -> Result<(), DecodeError> {
    let question: Question = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(error) => {
            let error = DecodeError::Input(format!("not a line with kind and hex: {error}"));
            return Ok(write_answer(out, None, Err(error))?);
        }
    };
    let decoded = unhex(&question.hex).and_then(|bytes| {
        let in_fields = || question.fields?.group?.as_str().map(str::to_owned);
        let group = question.group.or_else(in_fields);
        kinds::decode(&question.kind, &Message { bytes, group })
    });
    Ok(write_answer(out, Some(&question.kind), decoded)?)
}

/// Writes what was found out.
pub(super) fn write_answer(
    out: &mut impl Write,
    kind: Option<&str>,
    decoded: Result<Decoded, DecodeError>,
) -> io::Result<()> {
    let answer = match decoded {
        Ok(decoded) => Answer {
            kind,
            ok: true,
            fields: Some(decoded.fields),
            reencoded: Some(hex(&decoded.reencoded)),
            error: None,
        },
        Err(error) => Answer {
            kind,
            ok: false,
            fields: None,
            reencoded: None,
            error: Some(error.to_string()),
        },
    };
    serde_json::to_writer(&mut *out, &answer)?;
    out.write_all(b"\n")
}

/// What there was to read.
pub(super) enum Line {
    Read,
    TooLong,
    End,
}

/// Bytes of a line at most: a message as hex, and what stands beside it.
fn line_max() -> u64 {
    2 * Limits::default().peer_message.get() + 64 * 1024
}

pub(super) fn too_long() -> DecodeError {
    DecodeError::Input(format!("a line is longer than {} bytes", line_max()))
}

/// Reads a line of bounded length; the rest of a longer one is passed over.
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let most = line_max();
    let read = input.by_ref().take(most).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(Line::End);
    }
    if read as u64 == most && !line.ends_with(b"\n") {
        line.clear();
        input.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    Ok(Line::Read)
}

/// A line of a recorded exchange.
#[derive(Debug, Deserialize)]
pub(super) struct Recorded {
    /// Microseconds since the recording began.
    pub(super) us: u64,
    pub(super) subject: String,
    #[serde(default)]
    pub(super) reply: String,
    hex: String,
}

impl Recorded {
    /// Reads a line, and its bytes.
    pub(super) fn parse(line: &[u8]) -> Result<(Self, bytes::Bytes), DecodeError> {
        let recorded: Self = serde_json::from_slice(line)
            .map_err(|error| DecodeError::Input(format!("not a recorded message: {error}")))?;
        let bytes = unhex(&recorded.hex)?;
        Ok((recorded, bytes))
    }
}
