//! Entries a second that one group of three nodes commits in memory: no sockets, no disk.
//!
//! `cargo bench --bench raft`

use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "peers/src/ours.rs"]
pub mod ours;

use ours::{Handed, ThreeNodes};

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("three nodes commit");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for size in [16, 128, 1024] {
        for batch in [1, 64, 1024] {
            let payload = Bytes::from(vec![7; size]);
            let rounds = 4096 / batch;
            group.throughput(Throughput::Elements(rounds * batch));
            let id = BenchmarkId::new(format!("{size} B"), format!("batch {batch}"));
            group.bench_function(id, |bencher| {
                bencher.iter_batched_ref(
                    ThreeNodes::new,
                    |cluster| {
                        for _ in 0..rounds {
                            cluster.commit(&payload, batch);
                        }
                        assert_eq!(cluster.answered(), rounds * batch);
                        let all =
                            Handed { entries: rounds * batch, bytes: rounds * batch * size as u64 };
                        assert_eq!(cluster.handed(), [all; 3]);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
