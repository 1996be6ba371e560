//! Where a consumer's replicas go: on servers of its stream.
//!
//! Upstream: `createGroupForConsumer` in `server/jetstream_cluster.go` and `replicas` in
//! `server/consumer.go`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::servers::Servers;
use crate::ids::PeerId;
use crate::random::Random;
use crate::wire::{
    ConsumerAssignment, ConsumerConfig, RaftGroup, RetentionPolicy, StorageType, StreamConfig,
};

/// How many replicas a consumer of a stream has: its own number, else its stream's. An ephemeral
/// one that does not say has one, where no message waits for it.
pub fn replicas(consumer: &ConsumerConfig, stream: &StreamConfig) -> i64 {
    let own = consumer.num_replicas;
    if own != 0 && own <= stream.num_replicas {
        return own;
    }
    let ephemeral = consumer.durable_name.is_empty();
    if ephemeral && stream.retention == RetentionPolicy::Limits && own == 0 {
        return 1;
    }
    stream.num_replicas
}

/// The servers that a consumer is to be on in the end: the last of its group. Those that stand before
/// them are to go, once the group has the others as its members and no more.
///
/// Upstream marks the servers of a stream that is moved in the same way (`calcMigration`).
pub fn wanted_peers<'a>(consumer: &'a ConsumerAssignment, stream: &StreamConfig) -> &'a [PeerId] {
    let peers = &consumer.group.peers;
    let count = usize::try_from(replicas(&consumer.config, stream)).unwrap_or(0).max(1);
    &peers[peers.len().saturating_sub(count)..]
}

/// Chooses a group for a consumer from the servers of its stream; none if too few are online.
///
/// With as many replicas as the stream, all of its servers are taken; with fewer, those that are
/// online, drawn from the seed.
pub fn create_group_for_consumer(
    consumer: &ConsumerConfig,
    stream: &StreamConfig,
    group: &RaftGroup,
    servers: &Servers,
    random: &mut Random,
) -> Option<RaftGroup> {
    let of_stream = &group.peers;
    let fits = |count: i64| usize::try_from(count).is_ok_and(|count| count <= of_stream.len());
    if of_stream.is_empty() || !fits(consumer.num_replicas.max(0)) {
        return None;
    }
    let replicas = usize::try_from(replicas(consumer, stream)).unwrap_or(0);
    let mut online: Vec<PeerId> =
        of_stream.iter().copied().filter(|peer| servers.is_online(peer)).collect();
    if replicas / 2 + 1 > online.len() {
        return None;
    }
    let peers = if (1..of_stream.len()).contains(&replicas) {
        if online.len() < replicas {
            return None;
        }
        random.shuffle(&mut online);
        online.truncate(replicas);
        online
    } else {
        of_stream.clone()
    };
    let storage = if consumer.mem_storage { StorageType::Memory } else { stream.storage };
    let name = group_name("C", peers.len(), storage, random);
    Some(RaftGroup { name, peers, storage, ..RaftGroup::default() })
}

/// A new name for a group of a stream (`S`) or consumer (`C`), such as `C-R3F-x4Dz0aQ9`.
pub fn group_name(
    kind: &str,
    replicas: usize,
    storage: StorageType,
    random: &mut Random,
) -> String {
    let storage = match storage {
        StorageType::File => 'F',
        StorageType::Memory => 'M',
    };
    format!("{kind}-R{replicas}{storage}-{}", token(random))
}

/// Eight base-62 digits.
pub(super) fn token(random: &mut Random) -> String {
    random.inbox_token().iter().copied().map(char::from).collect()
}
