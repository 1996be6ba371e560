//! Entries a second that three nodes commit in memory, ours beside others.
//!
//! `cargo bench --manifest-path benches/peers/Cargo.toml` prints a table at its end. What is
//! measured is the time of the thread that does all the work, which other programs on the machine
//! disturb less than the clock on the wall.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use jetwake_peers::Cluster;
use jetwake_peers::ours::{Handed, ThreeNodes};
use jetwake_peers::theirs_omnipaxos::ThreeOmniPaxos;
use jetwake_peers::theirs_raft::ThreeRaft;
use rustix::time::{ClockId, clock_gettime};

const SIZES: [usize; 3] = [16, 128, 1024];
const BATCHES: [u64; 3] = [1, 64, 1024];

/// Entries of one measurement.
const ENTRIES: u64 = 4096;

const NAMES: [&str; 5] =
    ["jetwake", "omnipaxos as bytes", "raft-rs as bytes", "omnipaxos", "raft-rs"];

/// The time that this thread was given.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn shape(size: usize, batch: u64) -> String {
    format!("{size} B, batches of {batch}")
}

fn commits<C: Cluster>(criterion: &mut Criterion<ThreadTime>, name: &str) {
    let mut group = criterion.benchmark_group(name);
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for size in SIZES {
        let payload = Bytes::from(vec![7; size]);
        let all = Handed { entries: ENTRIES, bytes: ENTRIES * size as u64 };
        for batch in BATCHES {
            group.throughput(Throughput::Elements(ENTRIES));
            group.bench_function(BenchmarkId::from_parameter(shape(size, batch)), |bencher| {
                bencher.iter_batched_ref(
                    C::new,
                    |cluster| {
                        for _ in 0..ENTRIES / batch {
                            cluster.commit(black_box(&payload), batch);
                        }
                        assert_eq!(cluster.handed(), [all; 3]);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// Millions of entries a second, by the median that criterion left on disk; none if it was not asked
/// to measure that.
fn millions(results: &Path, name: &str, size: usize, batch: u64) -> Option<f64> {
    let file = results.join(name).join(shape(size, batch)).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let nanoseconds = estimates["median"]["point_estimate"].as_f64()?;
    Some(ENTRIES as f64 * 1e3 / nanoseconds)
}

fn print_table(results: &Path) {
    println!("| million entries/s | {} |", NAMES.join(" | "));
    println!("|---|{}", "---|".repeat(NAMES.len()));
    for size in SIZES {
        for batch in BATCHES {
            let cell = |name| match millions(results, name, size, batch) {
                Some(millions) => format!("{millions:.2}"),
                None => "not measured".into(),
            };
            println!("| {} | {} |", shape(size, batch), NAMES.map(cell).join(" | "));
        }
    }
}

fn main() {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commits");
    let mut criterion = Criterion::default()
        .with_measurement(ThreadTime)
        .output_directory(&results)
        .configure_from_args();
    commits::<ThreeNodes>(&mut criterion, NAMES[0]);
    commits::<ThreeOmniPaxos<true>>(&mut criterion, NAMES[1]);
    commits::<ThreeRaft<true>>(&mut criterion, NAMES[2]);
    commits::<ThreeOmniPaxos<false>>(&mut criterion, NAMES[3]);
    commits::<ThreeRaft<false>>(&mut criterion, NAMES[4]);
    criterion.final_summary();
    print_table(&results);
}
