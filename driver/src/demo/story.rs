//! What the demo tells while it runs: a line for each event, and bars where there is a terminal.
//!
//! Lines go to stdout, or to stderr if stdout is kept for the result; bars always go to stderr.
//! Without a terminal a bar becomes a few lines.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jetwake::time::Time;

use crate::clock::Clock;

/// How often a bar is drawn, each second.
const DRAWN: u8 = 10;
/// Where there are no bars, a line comes with each of so many parts of the whole.
const PARTS: u64 = 5;

/// Tells the story.
#[derive(Debug)]
pub(super) struct Story {
    clock: Clock,
    begun: Time,
    /// Whether stdout is kept for the result.
    aside: bool,
    bars: Option<MultiProgress>,
}

impl Story {
    /// Begins the story.
    pub(super) fn begin(clock: Clock, aside: bool) -> Self {
        let bars = std::io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWN)));
        Self { clock, begun: clock.now(), aside, bars }
    }

    /// Tells one event.
    pub(super) fn line(&self, text: &str) {
        let time = self.clock.now().since(self.begun).as_secs_f64();
        self.print(&format!("{time:6.1} s  {text}"));
    }

    /// Tells something without its time.
    pub(super) fn print(&self, text: &str) {
        let print = || {
            // Whoever reads our output may have read enough; the result counts.
            let _ = if self.aside {
                writeln!(std::io::stderr(), "{text}")
            } else {
                writeln!(std::io::stdout(), "{text}")
            };
        };
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    /// Begins something that can be measured.
    pub(super) fn bar(&self, what: &str, whole: u64) -> Bar<'_> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(whole));
            bar.set_style(style());
            bar.set_message(what.to_owned());
            bar
        });
        Bar { story: self, what: what.to_owned(), whole, told: Cell::new(0), bar }
    }
}

fn style() -> ProgressStyle {
    let template = "  {msg:24} [{bar:30}] {human_pos} of {human_len}, {per_sec}";
    // The template is a constant, and a wrong one is merely not used.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            // A bar that cannot be written is a bar less.
            let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
        })
        .progress_chars("=> ")
}

/// How far something has come.
#[derive(Debug)]
pub(super) struct Bar<'a> {
    story: &'a Story,
    what: String,
    whole: u64,
    /// The last part that got a line.
    told: Cell<u64>,
    bar: Option<ProgressBar>,
}

impl Bar<'_> {
    /// So much is done.
    pub(super) fn set(&self, done: u64) {
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        let part = done.saturating_mul(PARTS) / self.whole.max(1);
        if part > self.told.get() && done <= self.whole {
            self.told.set(part);
            let (what, done, whole) = (&self.what, HumanCount(done), HumanCount(self.whole));
            self.story.line(&format!("{what}: {done} of {whole}"));
        }
    }

    /// The whole turns out to be another.
    pub(super) fn set_whole(&mut self, whole: u64) {
        self.whole = whole;
        if let Some(bar) = &self.bar {
            bar.set_length(whole);
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A duration as people say it.
pub(super) fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spoken_in_their_own_unit() {
        assert_eq!(spoken(Duration::from_millis(640)), "640 ms");
        assert_eq!(spoken(Duration::from_millis(2640)), "2.6 s");
    }
}
