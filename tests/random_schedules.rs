//! Random schedules: clusters under load, with faults that the seed draws, held against every rule.
//!
//! `JETWAKE_SEED=17` plays one seed and tells its story (`JETWAKE_STORY=messages` tells every
//! message too); `JETWAKE_SEEDS=1000` plays so many, `JETWAKE_FIRST_SEED=5000` from there on, and
//! `JETWAKE_SECONDS=600` for so long.

use jetwake_sim::coverage::Coverage;
use jetwake_sim::workload::{Options, run};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: found {text:?}, expected a number")))
}

fn play(test: &str, options: &Options) -> Coverage {
    let mut coverage = Coverage::default();
    let (first, seeds) = match number("JETWAKE_SEED") {
        Some(seed) => (seed, 1),
        None => (number("JETWAKE_FIRST_SEED").unwrap_or(1), number("JETWAKE_SEEDS").unwrap_or(20)),
    };
    let seconds = number("JETWAKE_SECONDS").unwrap_or(options.seconds);
    let options = Options { seconds, ..options.clone() };
    for seed in first..first + seeds {
        let outcome = run(seed, &options);
        coverage.merge(&outcome.coverage);
        if !outcome.violations.is_empty() {
            panic!(
                "{}\nreplay: JETWAKE_SEED={seed} JETWAKE_SECONDS={seconds} \
                 cargo test -p jetwake --test random_schedules {test}",
                outcome.story
            );
        }
    }
    println!("{seeds} seeds from {first}: {coverage}");
    coverage
}

/// What never happened was not tested; one seed alone need not see everything.
fn assert_covers(coverage: &Coverage, names: &[&str]) {
    if number("JETWAKE_SEED").is_none() {
        for name in names {
            assert!(coverage.get(name) > 0, "no run saw {name}: {coverage}");
        }
    }
}

#[test]
fn plain_groups_keep_every_rule() {
    let options = Options { plain: true, seconds: 30, ..Options::default() };
    let coverage = play("plain_groups_keep_every_rule", &options);
    assert_covers(
        &coverage,
        &[
            "crashes",
            "elections won",
            "log writes lost",
            "compactions",
            "snapshots installed",
            "truncations",
            "messages dropped",
            "publishes acknowledged",
        ],
    );
}

#[test]
fn streams_keep_every_rule() {
    let options = Options { seconds: 30, ..Options::default() };
    let coverage = play("streams_keep_every_rule", &options);
    assert_covers(
        &coverage,
        &[
            "crashes",
            "elections won",
            "store writes lost",
            "compactions",
            "snapshots installed",
            "publishes acknowledged",
            "publishes acknowledged as duplicates",
            "deletes acknowledged",
            "purges acknowledged",
            "reads",
        ],
    );
}
