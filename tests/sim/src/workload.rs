//! One run from one seed: a cluster under load, faults, healing, and what was found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jetwake::ids::ByteCount;
use jetwake::limits::{Limits, Timers};
use jetwake::time::{Duration, Time};

use crate::checkers::Violation;
use crate::client::ClientPlan;
use crate::cluster::Cluster;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::faults::{self, Fault, FaultPlan};
use crate::setup::Setup;
use crate::story::Detail;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many machines; zero to let the seed choose among 3 and 5.
    pub machines: usize,
    /// How long the faults last, in simulated seconds.
    pub seconds: u64,
    /// Which kinds of fault may come.
    pub faults: Vec<Fault>,
    /// Whether the group is a plain one, and not a stream.
    pub plain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { machines: 0, seconds: 60, faults: faults::ALL.to_vec(), plain: false }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed that it follows from.
    pub seed: u64,
    /// How many events the nodes were handed.
    pub events: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What happened how often.
    pub coverage: Coverage,
    /// The digest of every event and command.
    pub trace: u64,
    /// How it went, if something was broken.
    pub story: String,
}

/// Runs a seed; if something is broken, once more to tell the story of it.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let outcome = attempt(seed, options, Detail::None);
    if outcome.violations.is_empty() {
        return outcome;
    }
    attempt(seed, options, Detail::from_environment(Detail::Events))
}

/// Runs a seed once, telling this much.
pub fn attempt(seed: u64, options: &Options, detail: Detail) -> Outcome {
    let mut dice = Dice::new(seed);
    let mut setup = draw_setup(options, &mut dice);
    setup.detail = detail;
    let mut plan = FaultPlan::drawn(&options.faults, &setup, &mut dice);
    let mut cluster = Cluster::new(dice.bits(), setup);
    for _ in 0..=dice.below(2) {
        let client = draw_client(&mut dice);
        cluster.add_client(client);
    }
    let seconds = options.seconds;
    let died = catch_unwind(AssertUnwindSafe(|| play(&mut cluster, &mut plan, seconds))).err();
    let mut violations = cluster.violations().to_vec();
    if let Some(panic) = died {
        let at = cluster.now();
        violations.push(Violation { at, rule: "nothing panics", what: words(panic.as_ref()) });
    }
    Outcome {
        seed,
        events: cluster.events(),
        simulated: cluster.now().since(Time::ZERO),
        coverage: cluster.coverage().clone(),
        trace: cluster.trace_digest(),
        story: if violations.is_empty() { String::new() } else { cluster.to_string() },
        violations,
    }
}

fn play(cluster: &mut Cluster, plan: &mut FaultPlan, seconds: u64) {
    let end = cluster.after(Duration::from_secs(seconds));
    while cluster.now() < end && cluster.violations().is_empty() {
        let next = cluster.after(plan.quiet()).min(end);
        if cluster.advance(next) {
            plan.strike(cluster);
        }
    }
    if cluster.violations().is_empty() {
        cluster.settle();
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_string()
}

fn draw_setup(options: &Options, dice: &mut Dice) -> Setup {
    let machines = match options.machines {
        0 => [3, 3, 5][dice.place(3)],
        given => given,
    };
    let mut setup = if options.plain { Setup::plain(machines) } else { Setup::stream(machines) };
    if dice.chance(700_000) {
        setup.timers = quick_timers();
    }
    draw_limits(&mut setup.limits, dice);
    setup.network.names_senders = dice.chance(700_000);
    setup.skew = Duration::from_millis(1 << dice.below(13));
    setup.drift = [0, 100, 10_000][dice.place(3)];
    setup.disk.sync.end = Duration::from_millis(1 << dice.below(6));
    setup
}

/// Timers a tenth of the default ones: more happens in the same simulated time.
pub fn quick_timers() -> Timers {
    let usual = Timers::default();
    Timers {
        election_min: usual.election_min / 10,
        election_max: usual.election_max / 10,
        heartbeat: usual.heartbeat / 10,
        lost_quorum: usual.lost_quorum / 10,
        log_catchup_stall: usual.log_catchup_stall / 10,
        catchup_start: usual.catchup_start / 10,
        catchup_silence: usual.catchup_silence / 10,
        catchup_retry: usual.catchup_retry / 10,
    }
}

/// Small limits are reached, and what happens at them is seen.
fn draw_limits(limits: &mut Limits, dice: &mut Dice) {
    let mut small = |usual: ByteCount, least: u64| {
        let shift = dice.below(16);
        if dice.chance(500_000) { ByteCount::new((usual.get() >> shift).max(least)) } else { usual }
    };
    limits.append_entry_bytes = small(limits.append_entry_bytes, 1_000);
    limits.log_cache = small(limits.log_cache, 1_000);
    limits.load = small(limits.load, 1_000);
    limits.follower_held = small(limits.follower_held, 1_000);
    limits.log_catchup_in_flight = small(limits.log_catchup_in_flight, 1_000);
    limits.stream_catchups_in_flight = small(limits.stream_catchups_in_flight, 1_000);
    limits.store_in_flight = small(limits.store_in_flight, 1_000);
    if dice.chance(500_000) {
        limits.append_entry_entries = 1 << dice.below(8);
        limits.append_entries_in_flight = 1 + dice.place(8);
        limits.stream_catchup_messages = 1 << dice.below(10);
        limits.read_messages = 1 << dice.below(10);
    }
}

fn draw_client(dice: &mut Dice) -> ClientPlan {
    let rate = 1 << dice.below(8);
    ClientPlan {
        interval: Duration::from_secs(1) / rate,
        window: 1 << dice.below(8),
        payload: if dice.chance(100_000) { 1..20_000 } else { 1..300 },
        deletes: dice.below(50_000) as u32,
        purges: dice.below(5_000) as u32,
        reads: dice.below(50_000) as u32,
        repeats: dice.below(50_000) as u32,
        losses: dice.below(3) as u32 * 20_000,
        ..ClientPlan::default()
    }
}
