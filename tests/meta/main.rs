//! The meta group: what it assigns, what a restart makes of its log, and what stays offline.

mod alternates;
mod api;
mod consumer_steps;
mod consumers;
mod info;
mod offline;
mod placement;
mod recovery;
mod refusals;
mod resizing;
mod rig;
mod schedules;
mod upstream;

use bytes::Bytes;
use jetwake::limits::Limits;
use jetwake::wire::{
    ConsumerAssignment, ConsumerConfig, MetaOp, StorageType, StreamAssignment, StreamConfig,
};

fn stream(name: &str, storage: StorageType) -> StreamAssignment {
    let config = StreamConfig { name: name.into(), storage, ..StreamConfig::default() };
    StreamAssignment { config, ..StreamAssignment::default() }
}

fn consumer(stream: &str, name: &str) -> ConsumerAssignment {
    let config = ConsumerConfig { name: name.into(), ..ConsumerConfig::default() };
    ConsumerAssignment {
        name: name.into(),
        stream: stream.into(),
        config,
        ..ConsumerAssignment::default()
    }
}

/// What the bytes of an entry mean, as every member reads them.
fn op(entry: &Bytes) -> MetaOp {
    MetaOp::decode(entry, &Limits::default()).expect("an entry of the meta group")
}
