//! The log below a command: one line for what several machines do alike in the same moment, and
//! nothing twice that says nothing new.

use std::collections::BTreeMap;
use std::fmt;

use jetwake::command::Role;
use jetwake::time::Time;

use crate::network::Machine;
use crate::record::{DEAF, DOWN, Happening, Kind};
use crate::wording::{MessageKind, Said};

/// Puts happenings into lines.
#[derive(Debug)]
pub(super) struct Teller {
    /// How many columns the names of all machines take at most.
    width: usize,
    /// What was said last from one to another, of those messages that repeat.
    last: BTreeMap<(Machine, Machine, MessageKind), String>,
}

#[derive(Debug)]
struct Line {
    at: Time,
    from: Vec<Machine>,
    to: Vec<Machine>,
    text: Text,
}

#[derive(Debug, PartialEq, Eq)]
enum Text {
    Words(String),
    /// What is on disk.
    Durable(Vec<String>),
    /// So many messages of a catchup came too late.
    Ignored(usize),
}

impl Teller {
    /// For a cluster of so many machines.
    pub(super) fn new(machines: usize) -> Self {
        Self { width: "n1 ".len() * machines + ">".len(), last: BTreeMap::new() }
    }

    /// The lines for what happened below one command.
    pub(super) fn tell<'a>(
        &mut self,
        happenings: impl Iterator<Item = &'a Happening>,
    ) -> Vec<String> {
        let mut single = Vec::new();
        let mut repeated = 0;
        for happening in happenings {
            if self.says_nothing_new(happening) {
                repeated += usize::from(is_heartbeat(happening));
            } else if let Some(line) = line(happening) {
                add(&mut single, line);
            }
        }
        let mut lines = Vec::new();
        single.into_iter().for_each(|line| join(&mut lines, line));
        let width = self.width;
        let mut told: Vec<_> = lines
            .iter()
            .map(|line| format!("{} {:<width$}  {}", clock(line.at), line.names(), line.text))
            .collect();
        if repeated > 0 {
            let what = match repeated {
                1 => "(1 more heartbeat, and its acks)".into(),
                _ => format!("({repeated} more heartbeats, and their acks)"),
            };
            told.push(format!("{:>8} {:<width$}  {what}", "...", ""));
        }
        told
    }

    /// Whether this is a heartbeat or an ack that repeats the one before.
    fn says_nothing_new(&mut self, happening: &Happening) -> bool {
        let (from, to, said, fate) = match (&happening.kind, happening.machine) {
            (Kind::Sent { to, said, arrivals }, Some(from)) => {
                (from, *to, said, if arrivals.is_empty() { "lost" } else { "" })
            }
            (Kind::Missed { from, said, why }, Some(to)) if *why != DOWN => (*from, to, said, *why),
            (Kind::Started | Kind::Crashed { .. }, Some(machine)) => {
                self.last.retain(|(from, to, _), _| *from != machine && *to != machine);
                return false;
            }
            _ => return false,
        };
        if !repeats(said) {
            return false;
        }
        let words = format!("{fate} {}", said.words);
        let key = (from, to, said.kind);
        let before = self.last.insert(key, words.clone());
        before.is_some_and(|before| before == words)
    }
}

fn is_heartbeat(happening: &Happening) -> bool {
    matches!(&happening.kind, Kind::Sent { said, .. } if said.kind == MessageKind::Heartbeat)
}

fn repeats(said: &Said) -> bool {
    match said.kind {
        MessageKind::Heartbeat => true,
        MessageKind::Answer => said.words.starts_with("ack "),
        _ => false,
    }
}

fn clock(at: Time) -> String {
    let millis = at.as_nanos() / 1_000_000;
    format!("{:>4}.{:03}", millis / 1000, millis % 1000)
}

/// What a happening says below a command; nothing for what the command itself says.
fn line(happening: &Happening) -> Option<Line> {
    let from: Vec<_> = happening.machine.into_iter().collect();
    let mut to = Vec::new();
    let words = match &happening.kind {
        Kind::Cut { .. }
        | Kind::Mended
        | Kind::Clogged { .. }
        | Kind::ClockJumped { .. }
        | Kind::Paused
        | Kind::Resumed
        | Kind::Reach { .. }
        | Kind::HandsOver { .. }
        | Kind::Healed
        | Kind::Fault(_)
        | Kind::Missed { why: DOWN, .. }
        | Kind::Asked(_) => return None,
        Kind::Reported(what) if what.starts_with("reads an empty") => return None,
        Kind::Reported(what) if what.starts_with("frees ") => return None,
        Kind::Catchup(phase) if phase.starts_with("the log asks ") => return None,
        Kind::Sent { to: machine, said, arrivals } => {
            to.push(*machine);
            let lost = if arrivals.is_empty() { "  -- lost, the link is cut" } else { "" };
            format!("{}{lost}", said.words)
        }
        Kind::Crashed { lost_writes, lost_stores } => match (lost_writes, lost_stores) {
            (0, 0) => "crashes".into(),
            (1, 0) => "crashes; 1 write was not on disk, and is lost".into(),
            (writes, 0) => format!("crashes; {writes} writes were not on disk, and are lost"),
            (0, stores) => {
                format!("crashes; {stores} writes to its store were not synced, and are lost")
            }
            (writes, stores) => {
                format!("crashes; {writes} writes to its log and {stores} to its store are lost")
            }
        },
        Kind::Catchup(phase) if phase.contains("catchup") => phase.clone(),
        Kind::Role { role: Role::Candidate, term, .. } => format!("is a candidate in term {term}"),
        Kind::Role { role: Role::Follower, term, leader: None } => {
            format!("knows no leader in term {term}")
        }
        other => other.to_string(),
    };
    let text = match &happening.kind {
        Kind::Durable(what) => Text::Durable(vec![what.clone()]),
        Kind::Missed { why: DEAF, said, .. } if said.kind == MessageKind::LogCatchup => {
            Text::Ignored(1)
        }
        _ => Text::Words(words),
    };
    Some(Line { at: happening.at, from, to, text })
}

/// Adds a line; what one machine has on disk in one moment is one line, and what it ignores.
fn add(lines: &mut Vec<Line>, line: Line) {
    if let Some(last) = lines.last_mut()
        && (last.at, &last.from) == (line.at, &line.from)
    {
        match (&mut last.text, &line.text) {
            (Text::Durable(known), Text::Durable(more)) => {
                return known.extend(more.iter().cloned());
            }
            (Text::Ignored(count), Text::Ignored(more)) => return *count += more,
            _ => {}
        }
    }
    lines.push(line);
}

/// Adds a line, or its machine to a line that says the same of the same moment.
fn join(lines: &mut Vec<Line>, line: Line) {
    // What a machine did must stay in order: nothing is moved before its latest line.
    for earlier in lines.iter_mut().rev().take_while(|earlier| earlier.at == line.at) {
        if earlier.text == line.text {
            if earlier.from == line.from && !line.to.is_empty() {
                return earlier.to.extend(line.to);
            }
            if earlier.to == line.to && !line.from.is_empty() {
                return earlier.from.extend(line.from);
            }
        }
        if earlier.from.iter().any(|machine| line.from.contains(machine)) {
            break;
        }
    }
    lines.push(line);
}

impl Line {
    fn names(&self) -> String {
        let names = |machines: &[Machine]| {
            let mut machines = machines.to_vec();
            machines.sort();
            machines.iter().map(Machine::to_string).collect::<Vec<_>>().join(" ")
        };
        match self.to.is_empty() {
            true => names(&self.from),
            false => format!("{} > {}", names(&self.from), names(&self.to)),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Durable(what) => write!(f, "has {} on disk", what.join(", ")),
            Self::Ignored(1) => f.write_str("ignores 1 message of a catchup that is over"),
            Self::Ignored(count) => write!(f, "ignores {count} messages of a catchup that is over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetwake::ids::Index;

    fn at(nanos: u64, machine: usize, kind: Kind) -> Happening {
        Happening {
            at: Time::from_nanos(nanos * 1_000_000),
            machine: Some(Machine(machine)),
            group: None,
            kind,
        }
    }

    fn sent(words: &str, kind: MessageKind) -> Kind {
        let said = Said { kind, term: None, words: words.into() };
        Kind::Sent { to: Machine(0), said, arrivals: vec![Time::ZERO] }
    }

    #[test]
    fn what_two_do_alike_is_one_line_but_keeps_each_ones_order() {
        let disk = |what: &str| Kind::Durable(what.into());
        let commit = |index| Kind::Committed(Index::new(index));
        let told = Teller::new(3).tell(
            [
                at(5, 1, disk("2")),
                at(5, 1, disk("3")),
                at(5, 1, commit(1)),
                at(5, 2, disk("2")),
                at(5, 2, disk("3")),
                at(5, 2, commit(1)),
                at(6, 2, commit(2)),
                at(6, 1, disk("4")),
                at(6, 1, commit(2)),
            ]
            .iter(),
        );
        assert_eq!(
            told,
            [
                "   0.005 n2 n3       has 2, 3 on disk",
                "   0.005 n2 n3       commits 1",
                "   0.006 n3          commits 2",
                "   0.006 n2          has 4 on disk",
                "   0.006 n2          commits 2",
            ]
        );
    }

    #[test]
    fn heartbeats_that_repeat_are_counted() {
        let mut teller = Teller::new(3);
        let ack = |nanos| at(nanos, 1, sent("ack 2", MessageKind::Answer));
        assert_eq!(teller.tell([ack(1)].iter()), ["   0.001 n2 > n1     ack 2"]);
        assert!(teller.tell([ack(2), ack(3)].iter()).is_empty());
        let beat = |nanos| at(nanos, 1, sent("heartbeat", MessageKind::Heartbeat));
        assert_eq!(teller.tell([beat(3)].iter()).len(), 1);
        let told = teller.tell([beat(4), ack(4), beat(5)].iter());
        assert_eq!(told, ["     ...             (2 more heartbeats, and their acks)"]);
        let told = teller.tell([at(4, 1, Kind::Started), ack(5)].iter());
        assert_eq!(told.len(), 2);
    }
}
