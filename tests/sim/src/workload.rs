//! One run from one seed: a cluster under load, faults, healing, and what was found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jetwake::config::GroupKind;
use jetwake::ids::{ByteCount, GroupId};
use jetwake::limits::{Limits, Timers};
use jetwake::time::{Duration, Time};
use jetwake::wire::{AckPolicy, ConsumerConfig, StreamConfig};

use crate::batches::BatchPlan;
use crate::checkers::Violation;
use crate::client::ClientPlan;
use crate::cluster::Cluster;
use crate::coverage::Coverage;
use crate::deliveries::DeliveryPlan;
use crate::dice::{Dice, PerMillion};
use crate::faults::{self, Fault, FaultPlan};
use crate::network::NetworkConditions;
use crate::record::Record;
use crate::setup::{Setup, stream};
use crate::story::Detail;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many machines; zero to let the seed choose among 1 to 5.
    pub machines: usize,
    /// How long the faults last.
    pub time: Duration,
    /// Which kinds of fault may come.
    pub faults: Vec<Fault>,
    /// Which of the faults happen, by their numbers; all if none.
    pub strikes: Option<Vec<usize>>,
    /// Which groups there are.
    pub groups: Groups,
    /// Whether a digest of every event and command is kept, which takes a third of the time.
    pub digest: bool,
    /// The defect that is planted.
    #[cfg(feature = "canaries")]
    pub canary: Option<jetwake::canary::Canary>,
}

/// Which groups a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// One plain group.
    Plain,
    /// One stream.
    Stream,
    /// One to four, plain ones and streams, as the seed draws them.
    Mixed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            machines: 0,
            time: Duration::from_secs(60),
            faults: faults::ALL.to_vec(),
            strikes: None,
            groups: Groups::Mixed,
            digest: false,
            #[cfg(feature = "canaries")]
            canary: None,
        }
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
    /// The digest of every event and command, if it was kept.
    pub trace: u64,
    /// How many machines there were.
    pub machines: usize,
    /// The faults that struck, by their numbers.
    pub strikes: Vec<usize>,
    /// What happened, if it was told.
    pub record: Record,
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
    let mut apart = Dice::new(!seed);
    draw_parts(&mut setup, &mut apart);
    draw_losses(&mut setup, &mut apart);
    draw_consumer(&mut setup, options, &mut apart);
    (setup.detail, setup.digest) = (detail, options.digest);
    let mut plan = FaultPlan::drawn(&options.faults, &setup, &mut dice);
    let machines = setup.machines;
    let mut cluster = Cluster::new(dice.bits(), setup);
    add_clients(&mut cluster, &mut dice, &mut apart);
    let mut strikes = Vec::new();
    let played = AssertUnwindSafe(|| play(&mut cluster, &mut plan, options, &mut strikes));
    let died = catch_unwind(played).err();
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
        machines,
        strikes,
        story: if violations.is_empty() { String::new() } else { cluster.to_string() },
        record: cluster.record().clone(),
        violations,
    }
}

fn play(cluster: &mut Cluster, plan: &mut FaultPlan, options: &Options, strikes: &mut Vec<usize>) {
    while let Some(strike) = plan.next_strike().filter(|strike| strike.at < options.time) {
        if !cluster.advance(Time::ZERO + strike.at) {
            return;
        }
        let chosen = options.strikes.as_ref();
        if chosen.is_none_or(|chosen| chosen.contains(&strike.number)) {
            strikes.push(strike.number);
            strike.strike(cluster);
        }
    }
    if cluster.advance(Time::ZERO + options.time) {
        cluster.settle();
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_string()
}

fn draw_setup(options: &Options, dice: &mut Dice) -> Setup {
    let drawn = [1, 2, 3, 3, 3, 4, 5][dice.place(7)];
    let machines = if options.machines == 0 { drawn } else { options.machines };
    let groups = match options.groups {
        Groups::Plain => vec![GroupKind::Plain],
        Groups::Stream => vec![draw_stream("S", dice)],
        Groups::Mixed => draw_groups(dice),
    };
    let mut setup = Setup::of(machines, groups);
    // Some machines may wait to be added.
    if dice.chance(200_000) {
        setup.founders = 1 + dice.place(machines);
    }
    if dice.chance(700_000) {
        setup.timers = quick_timers();
    }
    draw_limits(&mut setup.limits, dice);
    #[cfg(feature = "canaries")]
    {
        setup.limits.canary = options.canary;
    }
    setup.network.names_senders = dice.chance(700_000);
    setup.skew = Duration::from_millis(1 << dice.below(13));
    setup.drift = [0, 100, 10_000][dice.place(3)];
    setup.disk.sync.end = Duration::from_millis(1 << dice.below(6));
    setup
}

fn draw_groups(dice: &mut Dice) -> Vec<GroupKind> {
    let count = [1, 1, 2, 4][dice.place(4)];
    let group = |place| match dice.chance(300_000) {
        true => GroupKind::Plain,
        false => draw_stream(&format!("S{place}"), dice),
    };
    (0..count).map(group).collect()
}

fn draw_stream(name: &str, dice: &mut Dice) -> GroupKind {
    let GroupKind::Stream(config) = stream(name) else { unreachable!("a stream is one") };
    GroupKind::Stream(StreamConfig { allow_atomic: dice.chance(700_000), ..config })
}

/// Some runs have a consumer, too.
fn draw_consumer(setup: &mut Setup, options: &Options, dice: &mut Dice) {
    let config = ConsumerConfig {
        durable_name: "d".into(),
        ack_policy: [AckPolicy::Explicit, AckPolicy::Explicit, AckPolicy::None][dice.place(3)],
        max_deliver: [-1, -1, 3][dice.place(3)],
        max_ack_pending: [10, 1_000, 0][dice.place(3)],
        ..ConsumerConfig::default()
    };
    if dice.chance(200_000) && options.groups == Groups::Mixed {
        setup.groups.push(GroupKind::Consumer(config));
    }
}

fn draw_deliveries(dice: &mut Dice) -> DeliveryPlan {
    DeliveryPlan {
        acknowledges: [100_000, 450_000, 490_000, 700_000][dice.place(4)],
        again: [0, 50_000, 400_000][dice.place(3)],
        skips: [0, 20_000][dice.place(2)],
    }
}

/// Some networks lose and mix up a few messages all the time, not only while the weather is bad: what
/// takes long, or comes when a fault is over, meets that too.
fn draw_losses(setup: &mut Setup, dice: &mut Dice) {
    let mut up_to = |most| dice.below(most) as PerMillion;
    let (drops, doubles, overtaken) = (up_to(30_000), up_to(10_000), up_to(150_000));
    if dice.chance(250_000) {
        setup.network = NetworkConditions { drops, doubles, overtaken, ..setup.network.clone() };
    }
}

/// One or two clients for each group. Some streams are written to by batches alone, so that nothing
/// parts what one leader left half done from what the next one begins with.
fn add_clients(cluster: &mut Cluster, dice: &mut Dice, apart: &mut Dice) {
    for group in 0..cluster.setup().groups.len() as u32 {
        let kind = cluster.setup().groups[group as usize].clone();
        let only = OnlyBatches::drawn(apart);
        for _ in 0..=dice.below(2) {
            let mut plan = ClientPlan { group: GroupId(group), ..draw_client(dice) };
            if matches!(&kind, GroupKind::Consumer(_)) {
                plan.deliveries = Some(draw_deliveries(apart));
            }
            if matches!(&kind, GroupKind::Stream(stream) if stream.allow_atomic) {
                plan.batches = draw_batches(dice);
                let limits = &cluster.setup().limits;
                plan = only.and_then(|only| only.client(&plan, limits)).unwrap_or(plan);
            }
            cluster.add_client(plan);
        }
    }
}

/// How all clients of a stream publish that is written to by batches alone.
#[derive(Clone, Copy)]
struct OnlyBatches {
    most: u64,
    /// Whether they await an answer before they send anything else; who is not answered sends the same
    /// batch again.
    awaits: bool,
}

impl OnlyBatches {
    fn drawn(dice: &mut Dice) -> Option<Self> {
        let (only, most, awaits) = (dice.chance(330_000), 8 << dice.below(4), dice.chance(500_000));
        only.then_some(Self { most, awaits })
    }

    /// A client that does as they do, if a leader takes such batches.
    fn client(self, plan: &ClientPlan, limits: &Limits) -> Option<ClientPlan> {
        let batches = BatchPlan { only: true, most: self.most, ..plan.batches };
        let window = if self.awaits { 1 } else { plan.window };
        let plan = ClientPlan { batches, window, ..plan.clone() };
        plan.batches_fit(limits).then_some(plan)
    }
}

/// Some clients publish little else than batches, some none.
fn draw_batches(dice: &mut Dice) -> BatchPlan {
    BatchPlan {
        begins: [0, 20_000, 100_000, 500_000][dice.place(4)],
        most: 1 << dice.below(7),
        leaves: dice.below(200_000) as PerMillion,
        skips: dice.below(100_000) as PerMillion,
        same_id: [0, 500_000, 1_000_000][dice.place(3)],
        only: false,
    }
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
        let shift = dice.below(20);
        if dice.chance(500_000) { ByteCount::new((usual.get() >> shift).max(least)) } else { usual }
    };
    limits.append_entry_bytes = small(limits.append_entry_bytes, 1_000);
    limits.log_cache = small(limits.log_cache, 1_000);
    limits.load = small(limits.load, 1_000);
    limits.follower_held = small(limits.follower_held, 1_000);
    // With room for a record or two alone, who lacks many does not get them in time.
    limits.follower_unwritten = small(limits.follower_unwritten, 5_000);
    limits.log_catchup_in_flight = small(limits.log_catchup_in_flight, 10_000);
    limits.stream_catchups_in_flight = small(limits.stream_catchups_in_flight, 20_000);
    limits.stream_catchup_bytes = small(limits.stream_catchup_bytes, 20_000);
    limits.proposals_waiting = small(limits.proposals_waiting, 100_000);
    limits.batch_bytes = small(limits.batch_bytes, 2_000);
    limits.store_in_flight = small(limits.store_in_flight, 1_000);
    // A share is reached only by who lacks more, in more than one read.
    if dice.chance(200_000) {
        limits.stream_catchup_bytes = ByteCount::new(8_000 << dice.below(4));
        limits.load = ByteCount::new(4_000 << dice.below(3));
    }
    // The usual bound is hardly ever reached; with a low one followers need snapshots.
    if dice.chance(600_000) {
        limits.log_before_snapshot = ByteCount::new(1_000 << dice.below(10));
    }
    if dice.chance(500_000) {
        limits.append_entry_entries = 1 << dice.below(8);
        limits.append_entries_in_flight = 1 + dice.place(8);
        limits.stream_catchup_messages = 1 << dice.below(10);
        limits.read_messages = 1 << dice.below(10);
    }
    if dice.chance(300_000) {
        limits.batches = 1 + dice.place(3);
        limits.batch_messages = 1 << dice.below(7);
        limits.batch_time = Duration::from_millis(50 << dice.below(8));
    }
}

/// Snapshots of plain groups are larger than one part, most of the time.
fn draw_parts(setup: &mut Setup, dice: &mut Dice) {
    if dice.chance(800_000) {
        let part = 16 << dice.below(10);
        setup.limits.snapshot_part = ByteCount::new(part);
        setup.limits.snapshot_parts_in_flight = ByteCount::new(part * (2 + dice.below(8)));
    }
    setup.disk.whole_snapshots = 1 << dice.below(18);
    if dice.chance(100_000) {
        setup.disk.part_rot = 10_000;
    }
}

fn draw_client(dice: &mut Dice) -> ClientPlan {
    let rate = 1 << dice.below(8);
    let deletes = [50_000, 50_000, 50_000, 500_000][dice.place(4)];
    ClientPlan {
        interval: Duration::from_secs(1) / rate,
        window: 1 << dice.below(8),
        payload: if dice.chance(100_000) { 1..20_000 } else { 1..300 },
        deletes: dice.below(deletes) as u32,
        delete_run: 1 << dice.below(6),
        takes_back: [0, 0, 300_000, 1_000_000][dice.place(4)],
        purges: dice.below(5_000) as u32,
        reads: dice.below(50_000) as u32,
        repeats: dice.below(50_000) as u32,
        forwards: dice.below(50_000) as u32,
        losses: dice.below(3) as u32 * 20_000,
        ..ClientPlan::default()
    }
}
