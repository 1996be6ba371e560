//! A recorded exchange as a story: a message a line, in columns.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use bytes::Bytes;
use clap::builder::styling::AnsiColor;
use serde::Serialize;
use serde_json::{Map, Value};

use super::DecodeError;
use super::exchange::{Exchange, Heard, Said, UNKNOWN};
use super::fields::{Decoded, hex};
use super::kinds::{self, Message};
use super::lines::{Line, Recorded, read_line, too_long};
use super::paint::Paint;

/// What is told; all if a list is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter<'a> {
    pub(super) groups: &'a [String],
    pub(super) kinds: &'a [String],
}

impl Filter<'_> {
    fn takes(self, said: &Said) -> bool {
        let group = self.groups.is_empty()
            || said.group.as_ref().is_some_and(|group| self.groups.contains(group));
        let kind = self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == said.kind);
        group && kind
    }
}

/// A message for other programs.
#[derive(Serialize)]
struct Told<'a> {
    us: u64,
    kind: &'a str,
    group: Option<&'a str>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    term: Option<u64>,
    index: Option<u64>,
    gap: Option<u64>,
    what: &'a str,
    subject: &'a str,
    reply: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reencoded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Tells an exchange as it is read. Memory grows with the inboxes in it only.
pub(super) fn tell(
    path: &str,
    mut input: impl BufRead,
    mut out: impl Write,
    filter: Filter<'_>,
    json: bool,
    paint: &Paint,
) -> Result<(), DecodeError> {
    let mut exchange = Exchange::default();
    let mut counts = Counts::default();
    let mut line = Vec::new();
    // Above the first line that is told: a file that is no recording gets an error alone.
    let mut headed = json;
    for number in 1_u64.. {
        let at = |error: DecodeError| DecodeError::Input(format!("{path}:{number}: {error}"));
        match read_line(&mut input, &mut line)? {
            Line::End => break,
            Line::TooLong => return Err(at(too_long())),
            Line::Read if line.trim_ascii().is_empty() => continue,
            Line::Read => {}
        }
        let (recorded, bytes) = Recorded::parse(&line).map_err(at)?;
        let said =
            exchange.hear(Heard { subject: &recorded.subject, reply: &recorded.reply }, &bytes);
        if !filter.takes(&said) {
            continue;
        }
        counts.count(&recorded, &said);
        if !headed {
            head(&mut out, paint)?;
            headed = true;
        }
        if json {
            tell_programs(&mut out, &recorded, &bytes, &said)?;
        } else {
            tell_people(&mut out, &recorded, &said, paint)?;
        }
    }
    if !json {
        counts.sum_up(&mut out, paint)?;
    }
    Ok(())
}

fn tell_programs(
    out: &mut impl Write,
    recorded: &Recorded,
    bytes: &Bytes,
    said: &Said,
) -> io::Result<()> {
    let message = Message { bytes: bytes.clone(), group: said.group.clone() };
    let decoded = match said.kind {
        UNKNOWN => Err("not a message between peers".to_owned()),
        kind => kinds::decode(kind, &message).map_err(|error| error.to_string()),
    };
    let (fields, reencoded, error) = match decoded {
        Ok(Decoded { fields, reencoded }) => (Some(fields), Some(hex(&reencoded)), None),
        Err(error) => (None, None, Some(error)),
    };
    let told = Told {
        us: recorded.us,
        kind: said.kind,
        group: said.group.as_deref(),
        from: said.from.as_deref(),
        to: said.to.as_deref(),
        term: said.term,
        index: said.index,
        gap: said.gap,
        what: &said.what,
        subject: &recorded.subject,
        reply: &recorded.reply,
        ok: error.is_none(),
        fields,
        reencoded,
        error,
    };
    serde_json::to_writer(&mut *out, &told)?;
    out.write_all(b"\n")
}

/// What stands above the columns.
pub(crate) fn head(out: &mut impl Write, paint: &Paint) -> io::Result<()> {
    let head = format!(
        "{:>12}  {:18}  {:>8}    {:8}  {:>6}  {:>8}  {:>6}  what",
        "seconds", "group", "from", "to", "term", "index", "gap"
    );
    writeln!(out, "{}", paint.quiet(&head))
}

fn tell_people(
    out: &mut impl Write,
    recorded: &Recorded,
    said: &Said,
    paint: &Paint,
) -> io::Result<()> {
    writeln!(out, "{}", line(recorded.us, said, paint))
}

/// A message in columns.
pub(crate) fn line(us: u64, said: &Said, paint: &Paint) -> String {
    let number = |number: Option<u64>| number.map_or_else(String::new, |it| it.to_string());
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
    let behind = said.gap.is_some_and(|gap| gap > 0);
    let time = format!("{:>5}.{:06}", us / 1_000_000, us % 1_000_000);
    let group = format!("{:18}", said.group.as_deref().unwrap_or("?"));
    let gap = format!("{:>6}", number(said.gap.filter(|_| behind)));
    let gap = if behind { paint.coloured(AnsiColor::Yellow, &gap) } else { gap };
    let what = match (colour(said), said.routine) {
        (_, true) => paint.quiet(&said.what),
        (colour, _) => paint.coloured(colour, &said.what),
    };
    format!(
        "{}  {group}  {:>8} {} {:8}  {:>6}  {:>8}  {gap}  {what}",
        paint.quiet(&time),
        name(&said.from),
        paint.quiet("->"),
        name(&said.to),
        number(said.term),
        number(said.index),
    )
}

fn colour(said: &Said) -> AnsiColor {
    match said.kind {
        _ if said.alarming => AnsiColor::Red,
        "append_entry" => AnsiColor::Green,
        "vote_request" | "vote_response" => AnsiColor::Magenta,
        "sync_request" | "catchup_message" | "catchup_ack" => AnsiColor::Cyan,
        _ => AnsiColor::Blue,
    }
}

/// How much was told.
#[derive(Default)]
struct Counts {
    kinds: BTreeMap<&'static str, u64>,
    alarming: u64,
    first: Option<u64>,
    last: u64,
}

impl Counts {
    fn count(&mut self, recorded: &Recorded, said: &Said) {
        *self.kinds.entry(said.kind).or_default() += 1;
        self.alarming += u64::from(said.alarming);
        self.first.get_or_insert(recorded.us);
        self.last = recorded.us;
    }

    fn sum_up(&self, out: &mut impl Write, paint: &Paint) -> io::Result<()> {
        let total: u64 = self.kinds.values().sum();
        let time = self.last.saturating_sub(self.first.unwrap_or_default());
        let kinds: Vec<String> =
            self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let seconds = format!("{}.{:03}", time / 1_000_000, time / 1_000 % 1_000);
        let text = format!(
            "\n{total} messages in {seconds} s, {} of which lack or refuse something: {}",
            self.alarming,
            kinds.join(", ")
        );
        writeln!(out, "{}", paint.quiet(text.trim_end_matches(": ")))
    }
}
