//! The API level that a configuration requires, kept in its metadata.
//!
//! Upstream: `server/jetstream_versioning.go`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use crate::wire::api_level::REQUIRED_LEVEL;
use crate::wire::{ConsumerConfig, PersistMode, PriorityPolicy, StreamConfig};

/// What servers add to the metadata of an answer, and nobody keeps.
const DYNAMIC: [&str; 2] = ["_nats.ver", "_nats.level"];

/// Notes the level that a consumer requires, as what its creator asks for began with.
pub fn note_consumer_level(config: &mut ConsumerConfig) {
    drop_dynamic(&mut config.metadata);
    let paused = config.pause_until.is_some_and(|until| !until.is_zero());
    let prioritized = config.priority_policy != PriorityPolicy::None
        || config.priority_timeout != 0
        || !config.priority_groups.is_empty();
    let level = u32::from(paused || prioritized);
    config.metadata.insert(REQUIRED_LEVEL.into(), level.to_string());
}

/// Takes the level over from the configuration before, so that the two can be compared.
pub fn keep_consumer_level(config: &mut ConsumerConfig, before: &ConsumerConfig) {
    drop_dynamic(&mut config.metadata);
    match before.metadata.get(REQUIRED_LEVEL) {
        Some(level) => config.metadata.insert(REQUIRED_LEVEL.into(), level.clone()),
        None => config.metadata.remove(REQUIRED_LEVEL),
    };
}

/// Notes the level that a stream requires.
pub fn note_stream_level(config: &mut StreamConfig) {
    drop_dynamic(&mut config.metadata);
    let lives = config.allow_msg_ttl || config.subject_delete_marker_ttl > 0;
    let newer = config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || config.persist_mode == PersistMode::Async;
    let level = if newer { 2 } else { u32::from(lives) };
    config.metadata.insert(REQUIRED_LEVEL.into(), level.to_string());
}

/// Takes the level over from the configuration before, so that the two can be compared.
pub fn keep_stream_level(config: &mut StreamConfig, before: &StreamConfig) {
    drop_dynamic(&mut config.metadata);
    match before.metadata.get(REQUIRED_LEVEL) {
        Some(level) => config.metadata.insert(REQUIRED_LEVEL.into(), level.clone()),
        None => config.metadata.remove(REQUIRED_LEVEL),
    };
}

fn drop_dynamic(metadata: &mut BTreeMap<String, String>) {
    for key in DYNAMIC {
        metadata.remove(key);
    }
}
