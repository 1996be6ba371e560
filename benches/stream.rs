//! What one stream costs in the core: no group, no sockets, no disk.
//!
//! `cargo bench --bench stream`; memory a message is printed first.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jetwake::ids::{Index, RequestId, Sequence};
use jetwake::wire::{EntryKind, StreamConfig, StreamMessageView};

#[path = "../tests/catchup_scale/replica.rs"]
mod replica;

use replica::{
    Deleted, History, RECORD, Record, Replica, alternating, catch_up, config, deletes, in_runs,
    record, scattered,
};

/// Record `index`, with messages of so many bytes over so many subjects.
fn messages(index: u64, bytes: usize, subjects: u64) -> Record {
    let payload = vec![b'x'; bytes];
    record(index, |builder| {
        for number in 0..RECORD {
            let sequence = (index - 1) * RECORD + number;
            let subject = format!("s.{}", sequence % subjects);
            let message = StreamMessageView {
                subject: subject.as_bytes(),
                payload: &payload,
                sequence: Sequence::new(sequence),
                timestamp: 1,
                ..StreamMessageView::default()
            };
            let data = message.to_bytes().expect("short");
            assert!(builder.push(EntryKind::Normal, &data));
        }
    })
}

/// A replica with so many messages of 128 bytes.
fn filled(count: u64, subjects: u64, config: StreamConfig) -> Replica {
    let mut replica = Replica::new("n1", config, None);
    for index in 1..=count / RECORD {
        replica.apply(&messages(index, 128, subjects));
    }
    replica
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    let records: Vec<_> = (1..=64).map(|index| messages(index, 128, 1000)).collect();
    group.throughput(Throughput::Elements(64 * RECORD));
    for (name, max_msgs, per_subject) in
        [("unbounded", -1, -1), ("10,000 messages", 10_000, -1), ("10 a subject", -1, 10)]
    {
        let config = StreamConfig { max_msgs, max_msgs_per_subject: per_subject, ..config() };
        group.bench_function(BenchmarkId::new("128 B", name), |bencher| {
            bencher.iter_batched_ref(
                || Replica::new("n1", config.clone(), None),
                |replica| records.iter().for_each(|record| replica.apply(record)),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply behind");
    group.sample_size(10).throughput(Throughput::Elements(64 * RECORD));
    for behind in [100_000, 1_000_000, 10_000_000_u64] {
        let mut replica = None;
        let mut next = behind / RECORD;
        group.bench_function(BenchmarkId::from_parameter(behind), |bencher| {
            let replica = replica.get_or_insert_with(|| filled(behind, 1000, config()));
            bencher.iter_batched(
                || {
                    let first = next + 1;
                    next += 64;
                    (first..=next).map(|index| messages(index, 128, 1000)).collect::<Vec<_>>()
                },
                |records| records.iter().for_each(|record| replica.apply(record)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(10_000));
    for (name, fields) in [("plain", ""), ("id", "Nats-Msg-Id: ")] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut leader = filled(RECORD, 1000, config());
                    leader.with(|stream, cx| stream.leadership_gained(cx));
                    let parts = |number: u64| {
                        let header = match fields {
                            "" => String::new(),
                            fields => format!("NATS/1.0\r\n{fields}{number}\r\n\r\n"),
                        };
                        let subject = format!("s.{}", number % 1000);
                        (
                            Bytes::from(subject),
                            Bytes::from(header),
                            Bytes::from_static(&[b'x'; 128]),
                        )
                    };
                    (leader, (0..10_000).map(parts).collect::<Vec<_>>(), BytesMut::new())
                },
                |(leader, parts, buffer)| {
                    for (number, parts) in (1..).zip(parts.drain(..)) {
                        let id = RequestId::new(number);
                        let proposal = leader.with(|stream, cx| stream.publish(cx, id, parts));
                        let proposal = proposal.expect("taken");
                        buffer.clear();
                        proposal.encode(0, buffer);
                        leader.stream.proposed(proposal);
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn delete(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("delete");
    // Spread over the stream, each once.
    let spread = (0..RECORD).map(|number| 1 + number * 997 % (64 * RECORD));
    let record = deletes(65, spread);
    group.throughput(Throughput::Elements(RECORD));
    group.bench_function("one by one", |bencher| {
        bencher.iter_batched_ref(
            || filled(64 * RECORD, 1000, config()),
            |replica| replica.apply(&record),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn snapshot(criterion: &mut Criterion) {
    let mut replica = None;
    criterion.bench_function("snapshot of 1,000,000 messages with 100,000 deletes", |bencher| {
        let replica = replica.get_or_insert_with(|| {
            let mut replica = filled(1_000_000, 1000, config());
            let index = replica.stream.applied().next().get();
            replica.apply(&deletes(index, (0..60_000).map(|number| 2 + number * 10)));
            replica.apply(&deletes(index + 1, (0..40_000).map(|number| 600_003 + number * 7)));
            let deleted = replica.stream.state().deleted_count;
            assert!(deleted > 95_000, "{deleted} deletes");
            replica
        });
        bencher.iter(|| black_box(replica.stream.state().to_bytes()));
    });
}

/// A server whose history has so many sequences, and its snapshot.
fn server(history: &History, count: u64) -> (Replica, (Index, Bytes)) {
    let mut server = Replica::new("n1", config(), Some(history.clone()));
    server.fill(history, count);
    server.delete(history, count);
    assert_eq!(server.stored(), Some(count - history.count_deleted(count)));
    let snapshot = server.snapshot();
    (server, snapshot)
}

/// Both sides of a catchup, and all that passes between them.
fn catchup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("catchup served and received");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for bytes in [128, 1024] {
        let (history, count) = (History::new(bytes, 1000, |_| false), 64 * RECORD);
        let mut served = None;
        group.throughput(Throughput::Bytes(count * bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{bytes} B")), |bencher| {
            let (server, snapshot) = served.get_or_insert_with(|| server(&history, count));
            bencher.iter_batched_ref(
                || Replica::new("n2", config(), None),
                |follower| catch_up(server, follower, snapshot),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// What a sequence costs in catchups of few and many, where most are deleted.
fn deleted(criterion: &mut Criterion) {
    let patterns: [(_, Deleted); 3] = [
        ("nine of ten in runs", in_runs),
        ("every second", alternating),
        ("all but every tenth", scattered),
    ];
    for (name, deleted) in patterns {
        let mut group = criterion.benchmark_group(format!("catchup with deletes, {name}"));
        group.sample_size(10);
        for count in [100_000, 1_000_000, 10_000_000].map(|count| count / RECORD * RECORD) {
            let history = History::new(128, 1000, deleted);
            let mut served = None;
            group.throughput(Throughput::Elements(count));
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                let (server, snapshot) = served.get_or_insert_with(|| server(&history, count));
                bencher.iter_batched_ref(
                    || Replica::new("n2", config(), None),
                    |follower| catch_up(server, follower, snapshot),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

fn memory(_: &mut Criterion) {
    for (what, subjects) in [("1,000 subjects", 1000), ("a subject each", u64::MAX)] {
        let mut kept = None;
        let used = allocation_counter::measure(|| {
            kept = Some(filled(1_000_000, subjects, config()));
        });
        let messages = kept.expect("filled").stream.state().messages as i64;
        println!("memory a message, {what}: {} bytes", used.bytes_current / messages);
    }
}

criterion_group!(benches, memory, apply, growth, publish, delete, snapshot, catchup, deleted);
criterion_main!(benches);
