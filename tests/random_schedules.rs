//! Random schedules: clusters under load, with faults that the seed draws, held against every rule.
//!
//! `JETWAKE_SEED=17` plays one seed and tells its story (`JETWAKE_STORY=messages` tells every
//! message too); `JETWAKE_SEEDS=1000` plays so many, `JETWAKE_FIRST_SEED=5000` from there on, and
//! `JETWAKE_SECONDS=600` for so long.

use core::time::Duration;

use jetwake_sim::coverage::Coverage;
use jetwake_sim::workload::{Groups, Options, run};

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
    let seconds = number("JETWAKE_SECONDS").unwrap_or(options.time.as_secs());
    let options = Options { time: Duration::from_secs(seconds), ..options.clone() };
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

fn of(groups: Groups) -> Options {
    Options { time: Duration::from_secs(30), groups, ..Options::default() }
}

#[test]
fn plain_groups_keep_every_rule() {
    let options = of(Groups::Plain);
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
    let options = of(Groups::Stream);
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

#[test]
fn many_groups_of_both_kinds_keep_every_rule() {
    let coverage = play("many_groups_of_both_kinds_keep_every_rule", &of(Groups::Mixed));
    assert_covers(&coverage, &["catchups of logs", "elections won", "publishes acknowledged"]);
}
