//! What one stream costs in the core: no group, no sockets, no disk.
//!
//! `cargo bench --bench stream`; memory a message is printed first.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jetwake::budget::Budget;
use jetwake::command::{Command, Destination, StoreChange};
use jetwake::context::Context;
use jetwake::event::StoredMessage;
use jetwake::ids::{GroupId, GroupName, Index, PeerId, RequestId, Sequence, Term};
use jetwake::limits::{Limits, Timers};
use jetwake::outbox::Outbox;
use jetwake::random::Random;
use jetwake::stream::{Notice, Stream};
use jetwake::subject::{Kind, Subject};
use jetwake::time::Time;
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, EntryKind, MessageDelete, StreamConfig, StreamMessageView,
};

/// Messages of one record.
const RECORD: u64 = 1024;

/// A record of the log, as the group hands it to the stream.
type Record = (Index, AppendEntry, Bytes);

struct Replica {
    me: PeerId,
    stream: Stream,
    now: Time,
    limits: Limits,
    timers: Timers,
    random: Random,
    out: Outbox,
    budget: Budget,
    store: BTreeMap<u64, Bytes>,
    /// Whether it keeps what it is told to store.
    keeps: bool,
    sent: VecDeque<(Subject, Option<Subject>, Bytes)>,
}

impl Replica {
    fn new(name: &str, config: StreamConfig) -> Self {
        let (limits, timers) = (Limits::default(), Timers::default());
        let (mut random, mut out) = (Random::new(5), Outbox::new());
        let mut budget = Budget::new(64 << 20);
        let now = Time::from_nanos(1_000_000_000_000);
        let me = PeerId::from_name(name);
        let group = GroupName::new("S").expect("a name");
        let mut context = Context {
            now,
            limits: &limits,
            timers: &timers,
            random: &mut random,
            out: &mut out,
            budget: &mut budget,
        };
        let mut stream = Stream::new(GroupId(0), &group, me, config, &mut context);
        stream.open(&mut context, None, None, false);
        let store = BTreeMap::new();
        let sent = VecDeque::new();
        let mut replica = Self {
            me,
            stream,
            now,
            limits,
            timers,
            random,
            out,
            budget,
            store,
            keeps: false,
            sent,
        };
        replica.perform();
        replica
    }

    fn with<T>(&mut self, step: impl FnOnce(&mut Stream, &mut Context<'_>) -> T) -> T {
        let mut context = Context {
            now: self.now,
            limits: &self.limits,
            timers: &self.timers,
            random: &mut self.random,
            out: &mut self.out,
            budget: &mut self.budget,
        };
        step(&mut self.stream, &mut context)
    }

    /// Does what the stream asks for; a disk that is at once ready.
    fn perform(&mut self) {
        while let Some(command) = self.out.pop() {
            match command {
                Command::Store { id, change, .. } => {
                    if self.keeps {
                        self.change(change);
                    }
                    self.stream.handle_stored(id);
                }
                Command::SyncStore { through, .. } => {
                    self.with(|stream, cx| stream.handle_synced(cx, through));
                }
                Command::Read { id, first, last, messages, bytes, .. } => {
                    let (found, next) = self.read(first, last, messages, bytes.get());
                    self.with(|stream, cx| stream.handle_read(cx, id, &found, next));
                }
                Command::Send { to: Destination::Peers(_), subject, reply, payload } => {
                    self.sent.push_back((subject, reply, payload));
                }
                _ => {}
            }
        }
    }

    fn change(&mut self, change: StoreChange) {
        if let StoreChange::Messages { block, places } = change {
            for place in places {
                let start = place.offset as usize;
                let record = block.slice(start..start + place.length as usize);
                self.store.insert(place.sequence.get(), record);
            }
        }
    }

    fn read(
        &self,
        first: Sequence,
        last: Sequence,
        most: usize,
        bytes: u64,
    ) -> (Vec<StoredMessage>, Option<Sequence>) {
        let (mut found, mut size) = (Vec::new(), 0);
        for (sequence, record) in self.store.range(first.get()..=last.get()) {
            let sequence = Sequence::new(*sequence);
            if !found.is_empty() && (found.len() == most || size + record.len() as u64 > bytes) {
                return (found, Some(sequence));
            }
            size += record.len() as u64;
            found.push(StoredMessage { sequence, record: record.clone() });
        }
        (found, None)
    }

    fn apply(&mut self, (index, entry, record): &Record) {
        self.with(|stream, cx| stream.apply(cx, *index, entry, record));
        self.perform();
    }

    fn receive(
        &mut self,
        from: PeerId,
        (subject, reply, payload): (Subject, Option<Subject>, Bytes),
    ) {
        let kind = Kind::parse(&subject).expect("a subject of ours");
        self.with(|stream, cx| match kind {
            Kind::Sync(_) => {
                let log = stream.applied();
                stream.handle_sync_request(cx, Some(from), reply, &payload, log);
            }
            Kind::SyncReply(_) => {
                stream.handle_catchup_message(cx, Some(from), &subject, reply, &payload);
            }
            Kind::SyncAck { token, bytes: Some(bytes) } => {
                stream.handle_catchup_ack(cx, token, bytes, &payload);
            }
            other => panic!("unexpected {other:?}"),
        });
        self.perform();
    }
}

fn config() -> StreamConfig {
    StreamConfig::new("S", ["s.>".to_string()])
}

fn record(index: u64, fill: impl FnOnce(&mut AppendEntryBuilder)) -> Record {
    let mut builder = AppendEntryBuilder::new();
    fill(&mut builder);
    let (index, term) = (Index::new(index), Term::new(1));
    let before = index.previous();
    let bytes = builder.finish(PeerId::from_name("n1"), term, before, term, before, term);
    let entry = AppendEntry::decode(&bytes).expect("just encoded");
    (index, entry, bytes)
}

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
    let mut replica = Replica::new("n1", config);
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
                || Replica::new("n1", config.clone()),
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
        let mut replica = filled(behind, 1000, config());
        let mut next = behind / RECORD;
        group.bench_function(BenchmarkId::from_parameter(behind), |bencher| {
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
    let deletes = |index: u64| {
        record(index, |builder| {
            for number in 0..RECORD {
                // Spread over the stream, each once.
                let sequence = Sequence::new(1 + number * 997 % (64 * RECORD));
                let delete = MessageDelete { sequence, no_erase: true, ..MessageDelete::default() };
                assert!(builder.push(EntryKind::Normal, &delete.to_bytes()));
            }
        })
    };
    let record = deletes(65);
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
    let mut replica = filled(1_000_000, 1000, config());
    let index = replica.stream.applied().next().get();
    let deletes = record(index, |builder| {
        for number in 0..60_000_u64 {
            let sequence = Sequence::new(2 + number * 10);
            let delete = MessageDelete { sequence, no_erase: true, ..MessageDelete::default() };
            assert!(builder.push(EntryKind::Normal, &delete.to_bytes()));
        }
    });
    replica.apply(&deletes);
    let more = record(index + 1, |builder| {
        for number in 0..40_000_u64 {
            let sequence = Sequence::new(600_003 + number * 7);
            let delete = MessageDelete { sequence, no_erase: true, ..MessageDelete::default() };
            assert!(builder.push(EntryKind::Normal, &delete.to_bytes()));
        }
    });
    replica.apply(&more);
    let deleted = replica.stream.state().deleted_count;
    assert!(deleted > 95_000, "{deleted} deletes");
    criterion.bench_function("snapshot of 1,000,000 messages with 100,000 deletes", |bencher| {
        bencher.iter(|| black_box(replica.stream.state().to_bytes()));
    });
}

/// Both sides of a catchup, and all that passes between them.
fn catchup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("catchup served and received");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for bytes in [128, 1024] {
        let records = 64;
        let mut server = Replica::new("n1", config());
        server.keeps = true;
        for index in 1..=records {
            server.apply(&messages(index, bytes, 1000));
        }
        assert!(server.with(|stream, cx| stream.snapshot(cx)));
        server.perform();
        let notices = core::iter::from_fn(|| server.stream.poll());
        let state = notices.into_iter().find_map(|notice| match notice {
            Notice::Snapshot { index, data, .. } => Some((index, data)),
            _ => None,
        });
        let (index, data) = state.expect("taken");
        group.throughput(Throughput::Bytes(records * RECORD * bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{bytes} B")), |bencher| {
            bencher.iter_batched_ref(
                || Replica::new("n2", config()),
                |follower| {
                    let (one, two) = (server.me, follower.me);
                    follower.with(|stream, cx| {
                        stream.set_leader(cx, Some(one));
                        stream.install(cx, index, Term::new(1), &data).expect("a good snapshot");
                    });
                    follower.perform();
                    while follower.stream.is_catching_up() {
                        if let Some(sent) = server.sent.pop_front() {
                            follower.receive(one, sent);
                        } else if let Some(sent) = follower.sent.pop_front() {
                            server.receive(two, sent);
                        } else {
                            let (deadline, _) = follower.stream.deadline().expect("waits");
                            follower.now = deadline;
                            follower.with(|stream, cx| stream.handle_deadline(cx));
                            follower.perform();
                        }
                    }
                    server.sent.clear();
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
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

criterion_group!(benches, memory, apply, growth, publish, delete, snapshot, catchup);
criterion_main!(benches);
