//! Makes a failing run smaller: fewer machines, one group, a shorter time, fewer faults, as long as
//! the same rule is broken.
//!
//! A try is a whole run, so there is a bound on how many there are; what is found when the bound is
//! reached is small enough.

use jetwake::time::{Duration, Time};

use crate::checkers::Violation;
use crate::story::Detail;
use crate::workload::{Groups, Options, Outcome, attempt};

/// A smaller run that breaks the same rule.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What it is made of.
    pub options: Options,
    /// What came of it, with its record.
    pub outcome: Outcome,
    /// How many runs were tried.
    pub tries: usize,
}

struct Search {
    seed: u64,
    rule: &'static str,
    tries: usize,
    most: usize,
    /// The best so far.
    options: Options,
    outcome: Outcome,
}

/// Looks for a smaller run that breaks the rule that `outcome` broke, in at most so many tries.
pub fn shrink(outcome: &Outcome, options: &Options, most: usize) -> Shrunk {
    let rule = outcome.violations.first().map_or("", |violation| violation.rule);
    let mut options = options.clone();
    options.machines = outcome.machines;
    let mut search =
        Search { seed: outcome.seed, rule, tries: 0, most, options, outcome: outcome.clone() };
    search.single_group();
    search.fewer_machines();
    search.shorter();
    search.fewer_strikes();
    search.shorter();
    // Once more, to tell of it.
    let detail = Detail::from_environment(Detail::Events);
    let outcome = attempt(search.seed, &search.options, detail);
    Shrunk { options: search.options, outcome, tries: search.tries }
}

impl Search {
    /// Takes these options if the rule is broken with them too.
    fn try_with(&mut self, options: Options) -> bool {
        if self.tries >= self.most {
            return false;
        }
        self.tries += 1;
        let outcome = attempt(self.seed, &options, Detail::None);
        let same = |violation: &Violation| violation.rule == self.rule;
        let found = outcome.violations.first().is_some_and(same);
        if found {
            (self.options, self.outcome) = (options, outcome);
        }
        found
    }

    fn single_group(&mut self) {
        if self.options.groups == Groups::Mixed {
            for groups in [Groups::Plain, Groups::Stream] {
                if self.try_with(Options { groups, ..self.options.clone() }) {
                    return;
                }
            }
        }
    }

    fn fewer_machines(&mut self) {
        for machines in 1..self.options.machines {
            if self.try_with(Options { machines, ..self.options.clone() }) {
                return;
            }
        }
    }

    /// Ends the faults when the rule is broken, or earlier.
    fn shorter(&mut self) {
        let broken = self.outcome.violations.first().map_or(Time::ZERO, |violation| violation.at);
        let time = broken.since(Time::ZERO) + Duration::from_millis(1);
        if time < self.options.time {
            self.try_with(Options { time, ..self.options.clone() });
        }
        // What is broken at the end may need no more than the beginning.
        let two_seconds = Duration::from_secs(2);
        while self.options.time >= two_seconds {
            let time = self.options.time / 2;
            if !self.try_with(Options { time, ..self.options.clone() }) {
                return;
            }
        }
    }

    /// Leaves out faults: halves first, then single ones.
    fn fewer_strikes(&mut self) {
        let mut strikes = self.outcome.strikes.clone();
        let mut piece = strikes.len();
        while piece > 0 && self.tries < self.most {
            let mut from = 0;
            while from < strikes.len() {
                let mut fewer = strikes.clone();
                fewer.drain(from..(from + piece).min(strikes.len()));
                if self.try_with(Options { strikes: Some(fewer), ..self.options.clone() }) {
                    // The run may have ended before some of those that were allowed.
                    strikes = self.outcome.strikes.clone();
                } else {
                    from += piece;
                }
            }
            piece /= 2;
        }
    }
}
