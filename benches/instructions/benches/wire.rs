//! How many instructions the busiest formats cost, each with a limit: above it the run fails.
//!
//! `cargo bench --manifest-path benches/instructions/Cargo.toml`, with valgrind and
//! `gungraun-runner` of the library's version installed. Counts hardly depend on the machine; a
//! limit is a tenth to a fifth above what was counted when it was set, so that another compiler or
//! libc does not pass it, and a copy or an allocation more does.

// What the macros make has no docs.
#![allow(missing_docs, reason = "a benchmark has no API")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use jetwake::limits::Limits;
use jetwake::wire::{AppendEntry, SequenceSet, StreamMessage, StreamMessageView, StreamState};
use jetwake_instructions::{ENTRY, append_entry, compressible, deletes, message, state};

/// At most so many instructions.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

/// Bytes with an owner beside, as those of a network buffer have.
fn shared(bytes: Bytes) -> (Bytes, Bytes) {
    (bytes.clone(), bytes)
}

fn encoded(payload: &[u8]) -> Bytes {
    message(payload).to_bytes().expect("it fits")
}

#[library_benchmark(config = at_most(4_100))]
#[bench::entries_64(vec![7; ENTRY])]
fn append_entry_encode(data: Vec<u8>) -> Bytes {
    black_box(append_entry(black_box(&data)))
}

#[library_benchmark(config = at_most(2_400))]
#[bench::entries_64(shared(append_entry(&[7; ENTRY])))]
fn append_entry_decode((bytes, _owner): (Bytes, Bytes)) -> usize {
    let decoded = AppendEntry::decode(black_box(&bytes)).expect("our own bytes");
    black_box(decoded.entries.views().map(|(_, data)| data.len()).sum())
}

#[library_benchmark(config = at_most(260))]
#[bench::bytes_128((vec![7; 128], BytesMut::with_capacity(1024)))]
fn message_encode((payload, mut buffer): (Vec<u8>, BytesMut)) -> BytesMut {
    message(black_box(&payload)).encode(&mut buffer).expect("it fits");
    black_box(buffer)
}

#[library_benchmark(config = at_most(190))]
#[bench::bytes_128(shared(encoded(&[7; 128])))]
fn message_decode((bytes, _owner): (Bytes, Bytes)) -> StreamMessage {
    black_box(StreamMessage::decode(black_box(&bytes), &Limits::default()).expect("our own bytes"))
}

#[library_benchmark(config = at_most(300))]
#[bench::bytes_128(encoded(&[7; 128]))]
fn message_look_at(bytes: Bytes) -> usize {
    let mut unpacked = Vec::new();
    let view = StreamMessageView::decode(black_box(&bytes), &mut unpacked, &Limits::default());
    black_box(view.expect("our own bytes").payload.len())
}

#[library_benchmark(config = at_most(110_000))]
#[bench::kibibytes_16((compressible(), BytesMut::with_capacity(32 * 1024)))]
fn message_compress((payload, mut buffer): (Vec<u8>, BytesMut)) -> BytesMut {
    message(black_box(&payload)).encode_allow_compress(&mut buffer).expect("it fits");
    black_box(buffer)
}

#[library_benchmark(config = at_most(40_000))]
#[bench::deletes_100_000(deletes())]
fn state_encode(set: SequenceSet) -> Bytes {
    black_box(state(black_box(&set)).to_bytes())
}

#[library_benchmark(config = at_most(41_000))]
#[bench::deletes_100_000(shared(state(&deletes()).to_bytes()))]
fn state_decode((bytes, _owner): (Bytes, Bytes)) -> StreamState {
    black_box(StreamState::decode(black_box(&bytes), &Limits::default()).expect("our own bytes"))
}

library_benchmark_group!(
    name = wire,
    benchmarks = [
        append_entry_encode,
        append_entry_decode,
        message_encode,
        message_decode,
        message_look_at,
        message_compress,
        state_encode,
        state_decode
    ]
);

main!(library_benchmark_groups = wire);
