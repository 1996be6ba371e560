//! `jetwake sim --canaries`: how soon each planted defect is found.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::anyhow;
use indicatif::HumanCount;
use jetwake::canary::Canary;
use jetwake_sim::canaries::{Hunt, hunt};
use jetwake_sim::workload::Options;

use super::super::{Failure, tell};

/// Seeds that are played for each defect, unless told otherwise.
const SEEDS: u64 = 500;

/// Looks for the planted defects of these numbers, of all if none is given, on all cores.
pub(super) fn run(
    numbers: &[u8],
    (first, seeds): (u64, Option<u64>),
    options: &Options,
    json: bool,
) -> Result<(), Failure> {
    let seeds = seeds.unwrap_or(SEEDS);
    let canaries = chosen(numbers)?;
    std::panic::set_hook(Box::new(|_| {}));
    let hunts = hunt_all(&canaries, first, seeds, options);
    let _ = std::panic::take_hook();
    let missed: Vec<_> = hunts
        .iter()
        .filter(|hunt| hunt.found.is_none())
        .map(|hunt| hunt.canary.number().to_string())
        .collect();
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", as_json(&hunts))?;
    } else {
        writeln!(out, "canary                                 seeds   simulated  found by")?;
        for hunt in &hunts {
            writeln!(out, "{}", row(hunt))?;
        }
    }
    if missed.is_empty() {
        return Ok(());
    }
    let missed = missed.join(", ");
    Err(anyhow!("not found in {seeds} seeds: {missed}").into())
}

fn chosen(numbers: &[u8]) -> Result<Vec<Canary>, Failure> {
    let all = || Canary::ALL.iter().copied();
    if let Some(number) = numbers.iter().find(|number| all().all(|one| one.number() != **number)) {
        let known: Vec<_> = all().map(|canary| canary.number().to_string()).collect();
        let known = known.join(", ");
        return Err(Failure::Usage(format!(
            "--canaries: found {number}, expected some of {known}"
        )));
    }
    Ok(all().filter(|one| numbers.is_empty() || numbers.contains(&one.number())).collect())
}

fn hunt_all(canaries: &[Canary], first: u64, seeds: u64, options: &Options) -> Vec<Hunt> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let mut hunts = Vec::new();
    thread::scope(|scope| {
        let (sender, found) = mpsc::channel();
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(canary) = canaries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send(hunt(*canary, first, seeds, options)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for hunt in found {
            tell(&row(&hunt));
            hunts.push(hunt);
        }
    });
    hunts.sort_by_key(|hunt| hunt.canary);
    hunts
}

fn row(hunt: &Hunt) -> String {
    let name = format!("{:>2} {:?}", hunt.canary.number(), hunt.canary);
    let seconds = HumanCount(hunt.simulated.as_secs()).to_string();
    let by = hunt.found.as_ref().map_or("NOT FOUND", |(rule, _)| rule);
    format!("{name:<34} {:>9} {seconds:>9} s  {by}", hunt.seeds)
}

fn as_json(hunts: &[Hunt]) -> serde_json::Value {
    let one = |hunt: &Hunt| {
        serde_json::json!({
            "number": hunt.canary.number(),
            "title": hunt.canary.title(),
            "seeds": hunt.seeds,
            "simulated_seconds": hunt.simulated.as_secs(),
            "rule": hunt.found.as_ref().map(|(rule, _)| rule),
            "found": hunt.found.as_ref().map(|(_, what)| what),
        })
    };
    serde_json::Value::Array(hunts.iter().map(one).collect())
}
