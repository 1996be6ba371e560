//! Situations of nats-server's own tests, played by a stream's replicas: each test has the name of
//! upstream's in snake case, and says what is different here. `docs/parity.md` lists them.

mod batch_records;
mod batch_rules;
mod batches;
mod catchups;
mod counters;
mod dedupe;
mod expectations;
mod lifetimes;
mod limits;
mod removals;
mod schedules;

use jetwake::wire::{StorageType, StreamConfig};

use crate::rig::{Log, Replica};

/// Both kinds of storage, in which upstream plays most of its tests.
const STORAGES: [StorageType; 2] = [StorageType::File, StorageType::Memory];

/// The configuration of a stream is changed while it runs.
fn reconfigure(replica: &mut Replica, config: &StreamConfig) {
    replica.config = config.clone();
    replica.with_stream(|stream, _| stream.reconfigure(config.clone()));
}

/// Whether the leadership moved from one replica to another, who has applied all that was committed.
fn hand_over(from: &mut Replica, to: &mut Replica) {
    from.with_stream(|stream, cx| stream.leadership_lost(cx));
    to.with_stream(|stream, cx| stream.leadership_gained(cx));
}

/// Publishes messages of one subject, and commits each.
fn publish_each(log: &mut Log, replicas: &mut [&mut Replica], subject: &str, count: u64) {
    for _ in 0..count {
        log.publish(replicas[0], subject, "x");
        log.commit_to(replicas);
    }
}

/// Messages, first and last sequence of a replica.
fn span(replica: &Replica) -> (u64, u64, u64) {
    let state = replica.stream.state();
    (state.messages, state.first.get(), state.last.get())
}
