//! What the busiest formats cost.
//!
//! `cargo bench --bench wire`

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jetwake::ids::{ByteCount, Index, PeerId, Sequence, Term};
use jetwake::limits::Limits;
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, DeleteBlock, DeleteBlocksBuilder, EntryKind, SequenceSet,
    StreamMessage, StreamMessageView, StreamState,
};

/// Entries in the append entry, and bytes of data in each.
const ENTRIES: usize = 64;
const ENTRY: usize = 128;

fn append_entry(data: &[u8]) -> Bytes {
    let room = ENTRIES * AppendEntryBuilder::entry_len(ENTRY);
    let mut builder = AppendEntryBuilder::with_capacity(room);
    for _ in 0..ENTRIES {
        assert!(builder.push(EntryKind::Normal, data));
    }
    let leader = PeerId::from_wire(*b"S1abcdef");
    builder.finish(
        leader,
        Term::new(3),
        Index::new(900),
        Term::new(3),
        Index::new(901),
        Term::new(3),
    )
}

/// Bytes with an owner beside, as those of a network buffer have.
fn shared(bytes: &Bytes) -> (Bytes, Bytes) {
    (bytes.clone(), bytes.clone())
}

fn append_entries(criterion: &mut Criterion) {
    let data = [7; ENTRY];
    let (message, _owner) = shared(&append_entry(&data));
    let mut group = criterion.benchmark_group("append entry, 64 entries of 128 bytes");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| append_entry(black_box(&data)));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| AppendEntry::decode(black_box(&message)).expect("our own bytes"));
    });
    // As the meta group does, which reads JSON out of each.
    group.bench_function("decode and take each entry", |bencher| {
        bencher.iter(|| {
            let decoded = AppendEntry::decode(black_box(&message)).expect("our own bytes");
            decoded.entries.iter().map(|entry| entry.data.len()).sum::<usize>()
        });
    });
    // As plain groups do: who uses them keeps the entries, so the list of them takes memory.
    group.bench_function("decode and hand out all entries", |bencher| {
        bencher.iter(|| {
            let decoded = AppendEntry::decode(black_box(&message)).expect("our own bytes");
            decoded.entries.data_of(EntryKind::Normal)
        });
    });
    // As streams and consumers do: all who apply message by message.
    group.bench_function("decode and look at each entry", |bencher| {
        bencher.iter(|| {
            let decoded = AppendEntry::decode(black_box(&message)).expect("our own bytes");
            decoded.entries.views().map(|(_, data)| data.len()).sum::<usize>()
        });
    });
    group.finish();
}

fn message(payload: &[u8]) -> StreamMessageView<'_> {
    StreamMessageView {
        subject: b"orders.eu.new",
        payload,
        sequence: Sequence::new(12_345),
        timestamp: 1_700_000_000_000_000_000,
        ..StreamMessageView::default()
    }
}

fn stream_messages(criterion: &mut Criterion) {
    let limits = Limits::default();
    let small = message(&[7; 128]);
    let (bytes, _owner) = shared(&small.to_bytes().expect("it fits"));
    let mut group = criterion.benchmark_group("stream message of 128 bytes");
    group.throughput(Throughput::Elements(1));
    let mut buffer = BytesMut::with_capacity(1024);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            black_box(&small).encode(&mut buffer).expect("it fits");
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| StreamMessage::decode(black_box(&bytes), &limits).expect("our own bytes"));
    });
    group.bench_function("look at", |bencher| {
        bencher.iter(|| {
            let mut unpacked = Vec::new();
            let view = StreamMessageView::decode(black_box(&bytes), &mut unpacked, &limits);
            view.expect("our own bytes").payload.len()
        });
    });
    group.finish();

    let text = b"jetstream replicated message body ".repeat(482);
    let large = message(&text[..16 * 1024]);
    let mut group = criterion.benchmark_group("stream message of 16 KiB, compressible");
    group.throughput(Throughput::Bytes(16 * 1024));
    let mut buffer = BytesMut::with_capacity(32 * 1024);
    group.bench_function("encode with S2", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            black_box(&large).encode_allow_compress(&mut buffer).expect("it fits");
        });
    });
    let packed = buffer.clone().freeze();
    group.bench_function("decode with S2", |bencher| {
        bencher.iter(|| StreamMessage::decode(black_box(&packed), &limits).expect("our own bytes"));
    });
    group.finish();
}

/// Every second sequence of 200,000.
fn deletes() -> SequenceSet {
    (1..=100_000).map(|place| Sequence::new(2 * place)).collect()
}

fn state(set: &SequenceSet) -> StreamState {
    let mut blocks = DeleteBlocksBuilder::new();
    blocks.push_set(set).expect("it fits");
    StreamState {
        messages: 100_000,
        bytes: ByteCount::new(12_800_000),
        first: Sequence::new(1),
        last: Sequence::new(200_001),
        failed: 0,
        deleted_count: set.len(),
        deleted: blocks.finish(),
    }
}

fn stream_states(criterion: &mut Criterion) {
    let limits = Limits::default();
    let set = deletes();
    let (bytes, _owner) = shared(&state(&set).to_bytes());
    let mut group = criterion.benchmark_group("stream state with 100,000 deletes");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| state(black_box(&set)).to_bytes());
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| StreamState::decode(black_box(&bytes), &limits).expect("our own bytes"));
    });
    let decoded = StreamState::decode(&bytes, &limits).expect("our own bytes");
    group.bench_function("unpack the set", |bencher| {
        bencher.iter_batched(
            || (),
            |()| match decoded.deleted.iter().next() {
                Some(DeleteBlock::Set(set)) => set,
                other => panic!("a set was encoded: {other:?}"),
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, append_entries, stream_messages, stream_states);
criterion_main!(benches);
