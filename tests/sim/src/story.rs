//! The story of a run, in lines that a person can follow.

use std::collections::VecDeque;
use std::fmt;

use jetwake::time::Time;

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

/// The last lines of a run's story.
#[derive(Clone, Debug)]
pub struct Story {
    detail: Detail,
    most: usize,
    left_out: u64,
    lines: VecDeque<String>,
}

impl Story {
    /// A story that keeps so many lines at most; the oldest go first.
    pub fn new(detail: Detail, most: usize) -> Self {
        Self { detail, most: most.max(1), left_out: 0, lines: VecDeque::new() }
    }

    /// Whether lines of this detail are told.
    pub fn tells(&self, detail: Detail) -> bool {
        self.detail >= detail
    }

    /// Tells a line; it is made only if it is told.
    pub fn tell(&mut self, detail: Detail, at: Time, line: impl FnOnce() -> String) {
        if !self.tells(detail) {
            return;
        }
        if self.lines.len() == self.most {
            self.lines.pop_front();
            self.left_out += 1;
        }
        let micros = at.as_nanos() / 1000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        self.lines.push_back(format!("{seconds:>6}.{micros:06} {}", line()));
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left_out > 0 {
            writeln!(f, "       ({} earlier lines are left out)", self.left_out)?;
        }
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
