//! `jetwake sim`: simulated clusters, one a seed, on all cores.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jetwake::time::Time;
use jetwake_driver::clock::Clock;
use jetwake_sim::coverage::{Coverage, STATES};
use jetwake_sim::faults::{self, Fault};
use jetwake_sim::report::Report;
use jetwake_sim::shrink::shrink;
use jetwake_sim::story::Detail;
use jetwake_sim::workload::{Groups, Options, Outcome, attempt};

use super::node::stop_signal;
use super::{Failure, tell};

/// Seeds, unless told otherwise.
const SEEDS: u64 = 64;
/// Runs that the search for a smaller one may take.
const TRIES: usize = 200;
/// Where there is no terminal, a line comes after the first seed, and then this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Play simulated clusters through every kind of failure, and hold them against every rule.
///
/// Each seed is one cluster: the nodes that `jetwake node` runs, on a simulated network, simulated
/// disks and simulated clocks, with clients at work. The seed decides what fails, when, and how
/// often. All the while, and at the end, when the faults are over and the cluster has come to rest,
/// it is held against the rules: one leader a term, nothing acknowledged that is not on the disks of
/// a quorum, nothing committed ever lost, replicas identical, and so on. The same seed does the same,
/// on every machine.
///
/// Exits 1 if a rule was broken, with the command that plays it again, and the story of the smallest
/// run that was found to break it. SIGINT ends it after the seeds that are being played, with what came
/// of all so far.
#[derive(Args)]
pub(super) struct SimArguments {
    /// The first seed [default: 1]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// How many seeds to play [default: 64, or one with --seed]
    #[arg(long, value_name = "NUMBER")]
    seeds: Option<NonZeroU64>,

    /// How many nodes each cluster has [default: 1 to 5, as the seed draws]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,

    /// How many simulated minutes the faults go on in each run.
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = minutes)]
    minutes: Duration,

    /// Which kinds of fault may come: all, or some of them with commas between, such as
    /// crash,partition.
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = fault_list)]
    faults: FaultList,

    /// Which groups each cluster has.
    #[arg(long, value_name = "KIND", default_value = "mixed")]
    groups: Kind,

    /// Which of the run's faults happen, by their numbers; a shrunk run is told so [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 0..)]
    strikes: Option<Vec<usize>>,

    /// Tell the story of the last run, whatever came of it.
    #[arg(long)]
    story: bool,

    /// Draw the run that broke a rule, made small, as a page of HTML; the last run if none did.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,

    /// Print the result on stdout as one JSON object, and all else on stderr.
    #[arg(long)]
    json: bool,

    /// Plant defects that others had, one at a time, and see how soon each is found: all, or those of
    /// some numbers, such as 37,45; needs a program that was built with the feature `canaries`.
    #[arg(long, value_name = "LIST", value_delimiter = ',', num_args = 0..)]
    canaries: Option<Vec<u8>>,
}

impl SimArguments {
    fn options(&self) -> Options {
        Options {
            machines: self.nodes.map_or(0, usize::from),
            time: self.minutes,
            faults: self.faults.0.clone(),
            strikes: self.strikes.clone(),
            groups: self.groups.groups(),
            ..Options::default()
        }
    }
}

/// Which groups each cluster has.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// One plain group.
    Plain,
    /// One stream.
    Stream,
    /// One to four of either kind, as the seed draws.
    Mixed,
}

impl Kind {
    const fn of(groups: Groups) -> Self {
        match groups {
            Groups::Plain => Self::Plain,
            Groups::Stream => Self::Stream,
            Groups::Mixed => Self::Mixed,
        }
    }

    const fn groups(self) -> Groups {
        match self {
            Self::Plain => Groups::Plain,
            Self::Stream => Groups::Stream,
            Self::Mixed => Groups::Mixed,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
            Self::Mixed => "mixed",
        }
    }
}

/// The kinds of fault that may come.
#[derive(Clone)]
struct FaultList(Vec<Fault>);

fn fault_list(text: &str) -> Result<FaultList, String> {
    if text == "all" {
        return Ok(FaultList(faults::ALL.to_vec()));
    }
    let parsed: Result<Vec<Fault>, _> = text.split(',').map(str::parse).collect();
    parsed.map(FaultList).map_err(|error| error.to_string())
}

fn minutes(text: &str) -> Result<Duration, String> {
    let wrong = || format!("found {text:?}, expected minutes, such as 10 or 0.5");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    let millis = (number * 60_000.0).round();
    // A week is more than anybody waits for, and far from any bound of the arithmetic.
    if (1.0..=7.0 * 86_400_000.0).contains(&millis) {
        Ok(Duration::from_millis(millis as u64))
    } else {
        Err(wrong())
    }
}

/// What came of all runs.
#[derive(Default)]
struct Total {
    seeds: u64,
    violations: usize,
    simulated: Duration,
    events: u64,
    coverage: Coverage,
    /// The runs that broke a rule, in the order of their seeds.
    failing: Vec<Outcome>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.violations += outcome.violations.len();
        self.simulated += outcome.simulated;
        self.events += outcome.events;
        self.coverage.merge(&outcome.coverage);
        if !outcome.violations.is_empty() {
            self.failing.push(outcome);
            self.failing.sort_by_key(|outcome| outcome.seed);
        }
    }

    fn json(&self) -> serde_json::Value {
        let hours = (self.simulated.as_secs_f64() / 3.6).round() / 1e3;
        let failing: Vec<_> = self.failing.iter().map(|outcome| outcome.seed).collect();
        serde_json::json!({
            "seeds": self.seeds,
            "violations": self.violations,
            "simulated_hours": hours,
            "events": self.events,
            "failing_seeds": failing,
        })
    }
}

/// Runs the command.
pub(super) fn run(arguments: SimArguments) -> Result<(), Failure> {
    let SimArguments { seed, seeds, json, .. } = arguments;
    let options = arguments.options();
    let first = seed.unwrap_or(1);
    if let Some(numbers) = &arguments.canaries {
        return canaries::run(numbers, (first, seeds.map(NonZeroU64::get)), &options, json);
    }
    let usual = if seed.is_some() { 1 } else { SEEDS };
    let count = seeds.map_or(usual, NonZeroU64::get);
    if let Some(file) = &arguments.report {
        // Before hours of work that it would be told too late after.
        let opened = File::options().create(true).append(true).open(file);
        opened.with_context(|| format!("--report {}", file.display()))?;
    }
    let interrupt = Interrupt::watch()?;
    // A panic of a node is a broken rule like any other, and is told with the others.
    std::panic::set_hook(Box::new(|_| {}));
    let clock = Clock::start();
    let begun = clock.now();
    let total = play(first, count, &options, clock, &interrupt);
    let _ = std::panic::take_hook();
    print(&total, clock.now().since(begun), json)?;
    let last = first.saturating_add(count - 1);
    if arguments.story {
        let detail = Detail::from_environment(Detail::Events);
        aside(json, &attempt(last, &options, detail).record)?;
    }
    let (drawn_seed, drawn) = match total.failing.first() {
        Some(outcome) => (outcome.seed, explain(outcome, &options, json)?),
        None => (last, options),
    };
    if let Some(file) = &arguments.report {
        draw(drawn_seed, &drawn, file)?;
    }
    if json {
        writeln!(std::io::stdout(), "{}", total.json())?;
    }
    match total.failing.len() {
        0 if total.seeds < count => {
            Err(anyhow!("stopped by a signal after {} of {count} seeds", total.seeds).into())
        }
        0 => Ok(()),
        broken => Err(anyhow!("{broken} of {} seeds broke a rule", total.seeds).into()),
    }
}

/// Plays a run once more, with every message, and draws it.
fn draw(seed: u64, options: &Options, file: &Path) -> Result<(), Failure> {
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = attempt(seed, options, Detail::Messages);
    let _ = std::panic::take_hook();
    let again = command(seed, outcome.machines, options);
    let title = format!("jetwake sim, seed {seed}");
    let report = Report { title: &title, command: &again, record: &outcome.record };
    std::fs::write(file, report.to_html()).with_context(|| file.display().to_string())?;
    tell(&format!("drawn in {}", file.display()));
    Ok(())
}

/// Whether SIGINT or SIGTERM came: no further seed is begun then. A second one ends the program at
/// once.
#[derive(Clone, Default)]
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn watch() -> Result<Self, Failure> {
        let interrupt = Self::default();
        let came = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                while let Ok(stop) = stop_signal(false) {
                    stop.await;
                    if came.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                    tell("stopping after the seeds that are being played");
                }
            });
        })?;
        Ok(interrupt)
    }

    fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Plays the seeds on all cores.
fn play(first: u64, count: u64, options: &Options, clock: Clock, interrupt: &Interrupt) -> Total {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let mut total = Total::default();
    let mut progress = Progress::new(count, clock);
    thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let more = place < count && !interrupt.came();
                    let Some(seed) = first.checked_add(place).filter(|_| more) else {
                        return;
                    };
                    let outcome = attempt(seed, options, Detail::None);
                    if sender.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            if let Some(violation) = outcome.violations.first() {
                let command = command(outcome.seed, outcome.machines, options);
                progress.tell(&format!(
                    "seed {} breaks a rule: {violation}\n  again: {command}",
                    outcome.seed
                ));
            }
            total.add(outcome);
            progress.show(&total);
        }
    });
    progress.end();
    total
}

/// How far the runs have come, on stderr.
struct Progress {
    clock: Clock,
    begun: Time,
    count: u64,
    bar: Option<ProgressBar>,
    next_line: Time,
}

impl Progress {
    fn new(count: u64, clock: Clock) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(count), target);
            // The template is a constant, and a wrong one is merely not used.
            let style = ProgressStyle::with_template("  [{bar:30}] {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(format!("playing {count} seeds"));
            bar.tick();
            bar
        });
        let begun = clock.now();
        Self { clock, begun, count, bar, next_line: begun }
    }

    fn show(&mut self, total: &Total) {
        let line = stand(total, self.count, self.clock.now().since(self.begun));
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.set_position(total.seeds);
            }
            None if self.clock.now() >= self.next_line => {
                self.next_line = self.clock.now() + LINE_EVERY;
                tell(&line);
            }
            None => {}
        }
    }

    fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn stand(total: &Total, count: u64, elapsed: Duration) -> String {
    let struck = total.coverage.faults().filter(|(_, times)| *times > 0).count();
    let reached = STATES.len() - total.coverage.missing().count();
    format!(
        "{} of {count} seeds, {} simulated seconds a second, {struck} of {} kinds of fault, \
         {reached} of {} states, {} violations",
        total.seeds,
        HumanCount(rate(total, elapsed)),
        faults::ALL.len(),
        STATES.len(),
        total.violations,
    )
}

fn rate(total: &Total, elapsed: Duration) -> u64 {
    (total.simulated.as_secs_f64() / elapsed.as_secs_f64().max(1e-3)) as u64
}

/// Prints on stdout, or on stderr if stdout is kept for the result.
fn aside(json: bool, what: &dyn std::fmt::Display) -> std::io::Result<()> {
    if json { write!(std::io::stderr(), "{what}") } else { write!(std::io::stdout(), "{what}") }
}

fn print(total: &Total, elapsed: Duration, json: bool) -> std::io::Result<()> {
    let mut text = String::new();
    let hours = total.simulated.as_secs_f64() / 3600.0;
    let seconds = elapsed.as_secs_f64();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} seeds, {hours:.1} simulated hours, {} events in {seconds:.1} s: {} simulated seconds a \
         second",
        HumanCount(total.seeds),
        HumanCount(total.events),
        HumanCount(rate(total, elapsed)),
    );
    let faults = total.coverage.faults().map(|(fault, times)| (fault.name(), times));
    let _ = writeln!(text, "\nfaults that struck:\n{}", columns(faults.collect()));
    let states = STATES.iter().map(|state| (*state, total.coverage.get(state)));
    let _ = writeln!(text, "states that were reached:\n{}", columns(states.collect()));
    let missing: Vec<_> = total.coverage.missing().collect();
    if !missing.is_empty() {
        let _ = writeln!(text, "never reached, and so not tested: {}", missing.join(", "));
    }
    let _ = match total.failing.len() {
        0 => writeln!(text, "no rule was broken"),
        broken => writeln!(text, "{broken} seeds broke a rule"),
    };
    aside(json, &text)
}

/// Names and counts, two a line.
fn columns(counts: Vec<(&str, u64)>) -> String {
    let cell =
        |(name, times): &(&str, u64)| format!("{:>12}  {name:<38}", HumanCount(*times).to_string());
    let line = |pair: &[(&str, u64)]| pair.iter().map(cell).collect::<String>();
    counts.chunks(2).map(|pair| format!("{}\n", line(pair).trim_end())).collect()
}

/// The command that plays a run again.
fn command(seed: u64, machines: usize, options: &Options) -> String {
    let mut command = format!("jetwake sim --seed {seed} --nodes {machines}");
    let minutes = options.time.as_secs_f64() / 60.0;
    let groups = Kind::of(options.groups).name();
    let _ = write!(command, " --minutes {minutes} --groups {groups}");
    if options.faults.len() < faults::ALL.len() {
        let names: Vec<_> = options.faults.iter().map(|fault| fault.name()).collect();
        let _ = write!(command, " --faults {}", names.join(","));
    }
    if let Some(strikes) = &options.strikes {
        let numbers: Vec<_> = strikes.iter().map(usize::to_string).collect();
        let _ = write!(command, " --strikes {}", numbers.join(","));
    }
    command
}

/// Tells the story of a run that broke a rule, after it was made as small as can be; what the small
/// one is made of.
fn explain(outcome: &Outcome, options: &Options, json: bool) -> std::io::Result<Options> {
    std::panic::set_hook(Box::new(|_| {}));
    // What was shrunk before is only told.
    let tries = if options.strikes.is_some() { 0 } else { TRIES };
    let small = shrink(outcome, options, tries);
    let _ = std::panic::take_hook();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\nthe story of seed {}, in {} tries to make it small:\n",
        outcome.seed, small.tries
    );
    let _ = writeln!(text, "{}", small.outcome.story);
    let again = command(outcome.seed, small.options.machines, &small.options);
    let _ = writeln!(text, "this run again:  {again}");
    let _ = writeln!(text, "the whole run:   {}", command(outcome.seed, outcome.machines, options));
    aside(json, &text)?;
    Ok(small.options)
}

/// Built without planted defects.
#[cfg(not(feature = "canaries"))]
mod canaries {
    use jetwake_sim::workload::Options;

    use super::Failure;

    pub(super) fn run(
        _: &[u8],
        _: (u64, Option<u64>),
        _: &Options,
        _: bool,
    ) -> Result<(), Failure> {
        let why = "--canaries: this program was built without planted defects; expected one built \
                   with them: cargo run --release --features canaries -- sim --canaries";
        Err(Failure::Usage(why.into()))
    }
}

#[cfg(feature = "canaries")]
mod canaries;
