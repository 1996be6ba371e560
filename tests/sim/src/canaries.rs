//! Looks for planted defects: whether the faults bring each about, and whether a checker sees it.

use jetwake::canary::Canary;
use jetwake::time::Duration;

use crate::story::Detail;
use crate::workload::{Groups, Options, attempt};

/// From this number on, the defects are those of streams.
const OF_STREAMS: u8 = 35;

/// What came of the search for one planted defect.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The defect.
    pub canary: Canary,
    /// How many seeds were played, the one that found it among them.
    pub seeds: u64,
    /// How much simulated time that took.
    pub simulated: Duration,
    /// The rule that was broken, and how; none if it was not found.
    pub found: Option<(&'static str, String)>,
}

/// Plays seeds with a defect planted, from the first on, until one breaks a rule.
pub fn hunt(canary: Canary, first: u64, seeds: u64, options: &Options) -> Hunt {
    let mut options = Options { canary: Some(canary), ..options.clone() };
    // Half of the runs would have no stream that could be wrong.
    if options.groups == Groups::Mixed && canary.number() >= OF_STREAMS {
        options.groups = Groups::Stream;
    }
    let mut hunt = Hunt { canary, seeds: 0, simulated: Duration::ZERO, found: None };
    for seed in (first..).take(usize::try_from(seeds).unwrap_or(usize::MAX)) {
        let outcome = attempt(seed, &options, Detail::None);
        hunt.seeds += 1;
        hunt.simulated += outcome.simulated;
        if let Some(violation) = outcome.violations.first() {
            hunt.found = Some((violation.rule, violation.what.clone()));
            break;
        }
    }
    hunt
}
