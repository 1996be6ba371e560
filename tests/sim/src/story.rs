//! The story of a run, in lines that a person can follow: its record, put into words.

use std::fmt;

use jetwake::command::Role;

use crate::record::{Happening, Kind, Record};

/// How many lines of a story are printed; the oldest are left out.
const LINES: usize = 3_000;

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing: the fastest.
    None,
    /// What happens to machines, who leads, what clients learn.
    #[default]
    Events,
    /// Every message and every write too.
    Messages,
}

impl Detail {
    /// What the environment asks for: `JETWAKE_STORY=messages` or `events`.
    pub fn from_environment(otherwise: Self) -> Self {
        match std::env::var("JETWAKE_STORY").as_deref() {
            Ok("messages") => Self::Messages,
            Ok("events") => Self::Events,
            Ok("none") => Self::None,
            _ => otherwise,
        }
    }
}

/// A record prints as its story.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.happenings().len().saturating_sub(LINES);
        let left_out = self.left_out() + skipped as u64;
        if left_out > 0 {
            writeln!(f, "       ({left_out} earlier lines are left out)")?;
        }
        self.happenings().skip(skipped).try_for_each(|happening| writeln!(f, "{happening}"))
    }
}

/// A happening prints as one line, with its time in seconds.
impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_nanos() / 1000;
        write!(f, "{:>6}.{:06} ", micros / 1_000_000, micros % 1_000_000)?;
        if let Some(machine) = self.machine {
            write!(f, "{machine} ")?;
        }
        if let Some(group) = self.group {
            write!(f, "{group} ")?;
        }
        write!(f, "{}", self.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("starts"),
            Self::Crashed { lost_writes, lost_stores } => write!(
                f,
                "crashes, and loses {lost_writes} log writes and {lost_stores} store writes"
            ),
            Self::Paused => f.write_str("is paused"),
            Self::Resumed => f.write_str("goes on"),
            Self::Cut { to } => write!(f, "can no longer send to {to}"),
            Self::Clogged { to, lasts } => write!(f, "has a clogged link to {to} for {lasts:?}"),
            Self::Mended => f.write_str("every link is mended"),
            Self::ClockJumped { by } => write!(f, "has a clock that jumps ahead by {by:?}"),
            Self::DiskFailed(why) => write!(f, "is told that its disk failed: {why}"),
            Self::Reach { other, reaches: true } => write!(f, "reaches {other}"),
            Self::Reach { other, .. } => write!(f, "no longer reaches {other}"),
            Self::HandsOver { to: Some(to) } => write!(f, "is asked to hand over to {to}"),
            Self::HandsOver { to: None } => f.write_str("is asked to hand over"),
            Self::Healed => f.write_str("the faults are over"),
            Self::Role { role: Role::Leader, term, .. } => write!(f, "leads term {term}"),
            Self::Role { role: Role::Candidate, term, .. } => {
                write!(f, "asks for votes in term {term}")
            }
            Self::Role { role, term, leader } => {
                match leader {
                    Some(leader) => write!(f, "follows {leader}")?,
                    None => f.write_str("follows nobody")?,
                }
                let observer = if *role == Role::Observer { " as an observer" } else { "" };
                write!(f, " in term {term}{observer}")
            }
            Self::Members { members, committed } => {
                let names: Vec<_> = members.iter().map(ToString::to_string).collect();
                let so = if *committed { "" } else { ", not committed" };
                write!(f, "members: {}{so}", names.join(" "))
            }
            Self::Catchup(phase) => write!(f, "catchup: {phase}"),
            Self::Snapshot { index, installed: true } => {
                write!(f, "installs a snapshot of {index}")
            }
            Self::Snapshot { index, .. } => write!(f, "takes a snapshot of {index}"),
            Self::StoodAside(why) => write!(f, "stands aside: {why}"),
            Self::Wrote(what) => write!(f, "writes {what}"),
            Self::Durable(what) => write!(f, "has {what} on disk"),
            Self::Committed(index) => write!(f, "commits {index}"),
            Self::CaughtUp(last) => write!(f, "ends its catchup, with a log to {last}"),
            Self::Asked(what) => write!(f, "is asked: {what}"),
            Self::Answered { asked, answer } => write!(f, "answers {asked}: {answer}"),
            Self::Missed { from, said, why } => {
                write!(f, "does not hear {from}, {why}: {}", said.words)
            }
            Self::Sent { to, said, arrivals } => {
                let copies = match arrivals.len() {
                    0 => ", and it is lost",
                    1 => "",
                    _ => ", and it is doubled",
                };
                write!(f, "> {to}: {}{copies}", said.words)
            }
            Self::Fault(what)
            | Self::Applied(what)
            | Self::Refused(what)
            | Self::Reported(what)
            | Self::Client(what) => f.write_str(what),
            Self::Violated { rule, what } => write!(f, "VIOLATION {rule}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Machine;
    use jetwake::ids::{GroupId, Term};
    use jetwake::time::Time;

    #[test]
    fn a_line_says_when_who_and_what_and_old_ones_are_counted() {
        let mut record = Record::new(3, Detail::Events, 2);
        let happening = |at, kind| Happening {
            at: Time::from_nanos(at),
            machine: Some(Machine(1)),
            group: Some(GroupId(0)),
            kind,
        };
        let role = |role, leader| Kind::Role { role, term: Term::new(7), leader };
        record.add(happening(1_000, role(Role::Candidate, None)));
        record.add(happening(2_500_000, role(Role::Leader, Some(Machine(1)))));
        record.add(happening(3_000_000_000, role(Role::Follower, Some(Machine(0)))));
        let lines = "       (1 earlier lines are left out)\n     \
                     0.002500 n2 #0 leads term 7\n     \
                     3.000000 n2 #0 follows n1 in term 7\n";
        assert_eq!(record.to_string(), lines);
        assert!(record.keeps(Detail::Events) && !record.keeps(Detail::Messages));
    }
}
