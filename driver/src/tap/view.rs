//! What people and programs see of a cluster.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::Show;
use super::watch::{Catchup, Group, Watch};
use crate::decode::{Paint, Said, head, line};

/// Lines of the story that a live view has.
const LINES: usize = 16;
/// Beats between two states for programs.
const BEATS_A_STATE: u32 = 2;
/// Goes to the top of the terminal, and clears what is below.
const ANEW: &str = "\x1b[H\x1b[J";

/// The view.
pub(super) struct View {
    show: Show,
    groups: Vec<String>,
    paint: Paint,
    lines: VecDeque<String>,
    beats: u32,
    begun: bool,
}

impl View {
    pub(super) fn new(show: Show, groups: Vec<String>) -> Self {
        let paint = Paint::new(matches!(show, Show::Live { colours: true }));
        Self { show, groups, paint, lines: VecDeque::new(), beats: 0, begun: false }
    }

    fn takes(&self, group: Option<&String>) -> bool {
        self.groups.is_empty() || group.is_some_and(|group| self.groups.contains(group))
    }

    /// A message of the story.
    pub(super) fn story(&mut self, out: &mut impl Write, us: u64, said: &Said) -> io::Result<()> {
        if !self.takes(said.group.as_ref()) {
            return Ok(());
        }
        match self.show {
            Show::Json => {
                let story = json!({
                    "us": us, "kind": said.kind, "group": said.group, "from": said.from,
                    "to": said.to, "term": said.term, "index": said.index, "gap": said.gap,
                    "what": said.what, "alarming": said.alarming,
                });
                writeln!(out, "{}", json!({ "story": story }))
            }
            Show::Story | Show::Live { .. } => {
                let line = line(us, said, &self.paint);
                self.tell(out, line)
            }
        }
    }

    /// Something that no peer said.
    pub(super) fn note(&mut self, out: &mut impl Write, us: u64, news: &str) -> io::Result<()> {
        match self.show {
            Show::Json => writeln!(out, "{}", json!({"story": {"us": us, "what": news}})),
            Show::Story | Show::Live { .. } => {
                let line = format!("{:>5}.{:06}  -- {news}", us / 1_000_000, us % 1_000_000);
                self.tell(out, line)
            }
        }
    }

    fn tell(&mut self, out: &mut impl Write, line: String) -> io::Result<()> {
        if self.show == Show::Story {
            if !self.begun {
                head(out, &self.paint)?;
                self.begun = true;
            }
            writeln!(out, "{line}")?;
            return out.flush();
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
        Ok(())
    }

    /// Time passed.
    pub(super) fn beat(
        &mut self,
        out: &mut impl Write,
        watch: &Watch,
        elapsed: Duration,
    ) -> io::Result<()> {
        self.beats += 1;
        match self.show {
            Show::Story => Ok(()),
            Show::Json if self.beats.is_multiple_of(BEATS_A_STATE) => self.state(out, watch),
            Show::Json => Ok(()),
            Show::Live { .. } => {
                write!(out, "{ANEW}")?;
                self.table(out, watch, elapsed)?;
                writeln!(out)?;
                head(out, &self.paint)?;
                for line in &self.lines {
                    writeln!(out, "{line}")?;
                }
                out.flush()
            }
        }
    }

    /// The last words.
    pub(super) fn end(
        &mut self,
        out: &mut impl Write,
        watch: &Watch,
        elapsed: Duration,
    ) -> io::Result<()> {
        match self.show {
            Show::Json => self.state(out, watch)?,
            Show::Story if watch.counts.messages > 0 => {
                writeln!(out)?;
                self.table(out, watch, elapsed)?;
            }
            Show::Story | Show::Live { .. } => {}
        }
        out.flush()
    }

    fn state(&self, out: &mut impl Write, watch: &Watch) -> io::Result<()> {
        let groups: serde_json::Map<String, Value> = watch
            .groups
            .iter()
            .filter(|(name, _)| self.takes(Some(name)))
            .map(|(name, group)| (name.clone(), json!(group)))
            .collect();
        let catchups: Vec<_> = watch.catchups.iter().map(|(_, catchup)| catchup).collect();
        let state = json!({"groups": groups, "catchups": catchups, "counts": watch.counts});
        writeln!(out, "{}", json!({ "state": state }))?;
        out.flush()
    }

    fn table(&self, out: &mut impl Write, watch: &Watch, elapsed: Duration) -> io::Result<()> {
        let counts = &watch.counts;
        let seconds = elapsed.as_secs_f64();
        let text = format!(
            "{seconds:.1} s: {} messages, {:.2} MiB; {} malformed, {} unknown, missed {} times",
            counts.messages,
            counts.bytes as f64 / f64::from(1 << 20),
            counts.malformed,
            counts.unknown,
            counts.missed
        );
        writeln!(out, "{}", self.paint.quiet(&text))?;
        let head = format!(
            "{:20} {:>10} {:>6} {:>10} {:>10} {:>10}  behind it",
            "group", "leader", "term", "last", "committed", "entries/s"
        );
        writeln!(out, "{}", self.paint.quiet(&head))?;
        for (name, group) in watch.groups.iter().filter(|(name, _)| self.takes(Some(name))) {
            writeln!(out, "{}", group_line(name, group, watch))?;
        }
        let mut catchups = watch.catchups.iter().peekable();
        if catchups.peek().is_some() {
            writeln!(out)?;
        }
        for (_, catchup) in catchups {
            writeln!(out, "{}", catchup_line(catchup, watch))?;
        }
        Ok(())
    }
}

fn group_line(name: &str, group: &Group, watch: &Watch) -> String {
    let leader = group.leader.as_deref().map_or("?", |leader| watch.name(leader));
    let behind: Vec<String> = group
        .members
        .iter()
        .filter(|(peer, _)| Some(*peer) != group.leader.as_ref())
        .map(|(peer, has)| format!("{} {}", watch.name(peer), group.last.saturating_sub(*has)))
        .collect();
    format!(
        "{name:20} {leader:>10} {:>6} {:>10} {:>10} {:>10.1}  {}",
        group.term,
        group.last,
        group.commit,
        group.rate,
        behind.join(", ")
    )
}

fn catchup_line(catchup: &Catchup, watch: &Watch) -> String {
    let name =
        |peer: &Option<String>| peer.as_deref().map_or("?", |peer| watch.name(peer)).to_owned();
    let all = catchup.last.saturating_sub(catchup.first).max(1) as f64;
    let done = catchup.at.saturating_sub(catchup.first) as f64;
    let share = if catchup.done { 100.0 } else { (100.0 * done / all).clamp(0.0, 100.0) };
    format!(
        "catchup of the {} {}: {} -> {}, {share:.0} %, at {} of {}, {} messages, {:.2} MiB/s{}",
        catchup.of,
        catchup.group.as_deref().unwrap_or("?"),
        name(&catchup.from),
        name(&catchup.to),
        catchup.at,
        catchup.last,
        catchup.messages,
        catchup.rate() / f64::from(1 << 20),
        if catchup.done { ", done" } else { "" }
    )
}
