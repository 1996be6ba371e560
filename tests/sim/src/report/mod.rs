//! A run as one page of HTML that a browser opens without anything else: machines as lanes, terms
//! as colours, messages as arrows; faults, crashes and broken rules marked.
//!
//! Rust sorts the record into what the page draws; the page itself is `page.html`, `page.css` and
//! `page.js` in this folder. Times are whole microseconds.

use std::collections::BTreeMap;

use jetwake::command::Role;
use jetwake::ids::GroupId;
use jetwake::time::Time;
use serde::Serialize;

use crate::network::Machine;
use crate::record::{Happening, Kind, Record};
use crate::wording::{MessageKind, Said};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const CODE: &str = include_str!("page.js");

/// What a page tells.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The heading: which run this is.
    pub title: &'a str,
    /// The command that plays the run again; empty if there is none.
    pub command: &'a str,
    /// What happened.
    pub record: &'a Record,
}

/// What the page is made of.
#[derive(Debug, Default, Serialize)]
struct Data<'a> {
    title: &'a str,
    command: &'a str,
    machines: usize,
    groups: Vec<u32>,
    left_out: u64,
    from: u64,
    to: u64,
    /// Texts, each once; the rest names them by their place.
    texts: Vec<String>,
    spans: Vec<Span>,
    events: Vec<Event>,
    messages: Vec<Message>,
}

/// What a machine is in one group for a while, or that it does not run.
#[derive(Debug, Serialize)]
struct Span {
    machine: usize,
    /// None if it is true of all groups.
    group: Option<u32>,
    from: u64,
    to: u64,
    what: &'static str,
    term: u64,
    leader: Option<usize>,
}

/// A moment on a lane, or on all of them.
#[derive(Debug, Serialize)]
struct Event(u64, Option<usize>, &'static str, usize);

/// A copy of a message: sent, from, arrives, to, kind, term, text, and what became of it.
#[derive(Debug, Serialize)]
struct Message(u64, usize, Option<u64>, usize, &'static str, Option<u64>, usize, Fate);

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Fate {
    Arrived,
    Lost,
    Missed,
}

impl Report<'_> {
    /// The page.
    pub fn to_html(&self) -> String {
        let data = Sorter::new(self).sort();
        let json = serde_json::to_string(&data).expect("numbers and texts have a JSON form");
        // Within a script element only this could end it.
        let json = json.replace("</", "<\\/");
        let title = escape(self.title);
        PAGE.replace("{{title}}", &title)
            .replace("{{style}}", STYLE)
            .replace("{{code}}", CODE)
            .replace("{{data}}", &json)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn micros(at: Time) -> u64 {
    at.as_nanos() / 1_000
}

/// Goes through a record once.
struct Sorter<'a> {
    data: Data<'a>,
    record: &'a Record,
    places: BTreeMap<String, usize>,
    /// What each machine is now, in each group, and since when.
    roles: BTreeMap<(usize, u32), Span>,
    /// Since when machines are down or paused.
    down: BTreeMap<usize, Span>,
    paused: BTreeMap<usize, Span>,
    /// Messages on their way, by who sends, who gets them and when.
    on_the_way: BTreeMap<(usize, usize, Time), usize>,
}

impl<'a> Sorter<'a> {
    fn new(report: &Report<'a>) -> Self {
        let record = report.record;
        let first = record.happenings().next().map_or(0, |first| micros(first.at));
        let last = record.happenings().next_back().map_or(0, |last| micros(last.at));
        let groups: std::collections::BTreeSet<u32> =
            record.happenings().filter_map(|happening| happening.group).map(|id| id.0).collect();
        let data = Data {
            title: report.title,
            command: report.command,
            machines: record.machines,
            groups: groups.into_iter().collect(),
            left_out: record.left_out(),
            from: first,
            to: last.max(first + 1),
            ..Data::default()
        };
        Self {
            data,
            record,
            places: BTreeMap::new(),
            roles: BTreeMap::new(),
            down: BTreeMap::new(),
            paused: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
        }
    }

    fn sort(mut self) -> Data<'a> {
        let from = self.data.from;
        for happening in self.record.before() {
            self.follow(happening, from);
        }
        for happening in self.record.happenings() {
            self.take(happening);
        }
        let end = self.data.to;
        let open = std::mem::take(&mut self.roles).into_values();
        let open = open.chain(std::mem::take(&mut self.down).into_values());
        let open: Vec<_> = open.chain(std::mem::take(&mut self.paused).into_values()).collect();
        open.into_iter().for_each(|span| self.close(span, end));
        self.data.spans.sort_by_key(|span| (span.from, span.machine));
        self.data.messages.sort_by_key(|message| message.0);
        self.data
    }

    fn text(&mut self, text: String) -> usize {
        let next = self.data.texts.len();
        let place = *self.places.entry(text.clone()).or_insert(next);
        if place == next {
            self.data.texts.push(text);
        }
        place
    }

    fn close(&mut self, mut span: Span, at: u64) {
        span.to = at;
        if span.to > span.from {
            self.data.spans.push(span);
        }
    }

    fn take(&mut self, happening: &Happening) {
        match &happening.kind {
            Kind::Sent { to, said, arrivals } => self.sent(happening, *to, said, arrivals),
            Kind::Missed { from, .. } => {
                let Some(to) = happening.machine else { return };
                if let Some(place) = self.on_the_way.get(&(from.0, to.0, happening.at)) {
                    self.data.messages[*place].7 = Fate::Missed;
                }
            }
            kind => {
                self.follow(happening, micros(happening.at));
                let text = match happening.group.filter(|_| self.data.groups.len() > 1) {
                    Some(group) => format!("{group} {kind}"),
                    None => kind.to_string(),
                };
                let text = self.text(text);
                let machine = happening.machine.map(|machine| machine.0);
                let event = Event(micros(happening.at), machine, class(kind), text);
                self.data.events.push(event);
            }
        }
    }

    fn sent(&mut self, happening: &Happening, to: Machine, said: &Said, arrivals: &[Time]) {
        let Some(from) = happening.machine else { return };
        let (at, kind) = (micros(happening.at), message_class(said.kind));
        let term = said.term.map(|term| term.get());
        let text = self.text(said.words.clone());
        if arrivals.is_empty() {
            let lost = Message(at, from.0, None, to.0, kind, term, text, Fate::Lost);
            self.data.messages.push(lost);
        }
        for arrival in arrivals {
            let place = self.data.messages.len();
            self.on_the_way.insert((from.0, to.0, *arrival), place);
            let arrives = Some(micros(*arrival));
            let copy = Message(at, from.0, arrives, to.0, kind, term, text, Fate::Arrived);
            self.data.messages.push(copy);
        }
    }

    /// Takes note of what a machine is from a moment on.
    fn follow(&mut self, happening: &Happening, at: u64) {
        let Some(machine) = happening.machine.map(|machine| machine.0) else { return };
        let span =
            |what| Span { machine, group: None, from: at, to: at, what, term: 0, leader: None };
        match &happening.kind {
            Kind::Started => {
                if let Some(down) = self.down.remove(&machine) {
                    self.close(down, at);
                }
            }
            Kind::Crashed { .. } => {
                self.end_roles(machine, None, at);
                if let Some(paused) = self.paused.remove(&machine) {
                    self.close(paused, at);
                }
                self.down.insert(machine, span("down"));
            }
            Kind::Paused => {
                self.paused.insert(machine, span("paused"));
            }
            Kind::Resumed => {
                if let Some(paused) = self.paused.remove(&machine) {
                    self.close(paused, at);
                }
            }
            Kind::Role { role, term, leader } => {
                let what = role_class(*role);
                let leader = leader.map(|leader| leader.0);
                self.begin_role(happening, Span { term: term.get(), leader, ..span(what) });
            }
            Kind::StoodAside(_) => self.begin_role(happening, span("aside")),
            _ => {}
        }
    }

    fn begin_role(&mut self, happening: &Happening, span: Span) {
        let GroupId(group) = happening.group.unwrap_or(GroupId(0));
        let (machine, at) = (span.machine, span.from);
        self.end_roles(machine, Some(group), at);
        self.roles.insert((machine, group), Span { group: Some(group), ..span });
    }

    fn end_roles(&mut self, machine: usize, group: Option<u32>, at: u64) {
        let mut keys: Vec<_> = self.roles.keys().copied().collect();
        keys.retain(|key| key.0 == machine && group.is_none_or(|group| group == key.1));
        for key in keys {
            if let Some(span) = self.roles.remove(&key) {
                self.close(span, at);
            }
        }
    }
}

const fn role_class(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
        Role::Observer => "observer",
    }
}

const fn message_class(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::VoteRequest | MessageKind::Vote => "vote",
        MessageKind::Append => "append",
        MessageKind::Heartbeat => "heartbeat",
        MessageKind::Answer => "ack",
        MessageKind::LogCatchup | MessageKind::StreamCatchup => "catchup",
        MessageKind::Other => "other",
    }
}

/// How the page draws a happening.
const fn class(kind: &Kind) -> &'static str {
    match kind {
        Kind::Violated { .. } => "violation",
        Kind::Started => "start",
        Kind::Crashed { .. } => "crash",
        Kind::DiskFailed(_) => "disk",
        Kind::StoodAside(_) => "aside",
        Kind::Cut { .. } | Kind::Clogged { .. } => "cut",
        Kind::Paused | Kind::ClockJumped { .. } | Kind::Fault(_) => "fault",
        Kind::Mended | Kind::Healed | Kind::Resumed => "relief",
        Kind::Role { role: Role::Leader, .. } => "elected",
        Kind::Role { .. } => "role",
        Kind::Snapshot { .. } => "snapshot",
        Kind::Catchup(_) | Kind::CaughtUp(_) => "catchup",
        Kind::Refused(_) => "refused",
        Kind::Wrote(_) | Kind::Durable(_) => "write",
        Kind::Committed(_) | Kind::Applied(_) => "commit",
        Kind::Asked(_) | Kind::Answered { .. } | Kind::Client(_) => "client",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
