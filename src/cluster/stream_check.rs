//! What a stream's configuration must hold to, and what stands in it that a client left out.
//!
//! Upstream: `checkStreamCfg` and `configUpdateCheck` in `server/stream.go`, with their order, codes
//! and texts. What our streams cannot do yet is refused behind that, by name.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use crate::stream::check_config;
use crate::subject::{collide, is_subset, is_valid_filter};
use crate::subject_transform::{Transform, TransformError};
use crate::wire::{
    ApiError, DiscardPolicy, PersistMode, Placement, RetentionPolicy, StorageType, StreamConfig,
};

const SECOND: i64 = 1_000_000_000;
/// The shortest age and the shortest memory of message ids.
const SHORTEST: i64 = SECOND / 10;
/// How long message ids are remembered unless the stream says otherwise.
const DUPLICATES: i64 = 120 * SECOND;
const LONGEST_NAME: usize = 255;
const LONGEST_DESCRIPTION: usize = 4 * 1024;
const LONGEST_METADATA: usize = 128 * 1024;
const MOST_REPLICAS: i64 = 5;

/// Whether a stream or consumer may be called so. Upstream: `isValidName`.
pub fn is_valid_name(name: &str) -> bool {
    let bad = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0c' | '.' | '*' | '>');
    !name.is_empty() && !name.contains(bad)
}

/// Checks a configuration for itself, and fills in what a client left out. A pedantic client wants
/// to be refused instead.
///
/// # Errors
/// What upstream refuses it with; [`ApiError::STREAM_INVALID_CONFIG`] too for what our streams cannot
/// do yet.
pub fn check(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    check_texts(config)?;
    set_bounds(config, pedantic)?;
    set_ages(config, pedantic)?;
    check_features(config, pedantic)?;
    check_mirror(config)?;
    check_subjects(config)?;
    check_transform(config)?;
    if config.placement.as_ref().is_some_and(|placement| *placement == Placement::default()) {
        config.placement = None;
    }
    let preferred = config.placement.as_ref().map_or("", |placement| &placement.preferred);
    ensure(preferred.is_empty(), "preferred server not permitted in placement")?;
    check_config(config).map_err(|error| invalid(&format!("{error}")))
}

fn ensure(holds: bool, why: &str) -> Result<(), ApiError> {
    if holds { Ok(()) } else { Err(invalid(why)) }
}

fn invalid(why: &str) -> ApiError {
    ApiError::STREAM_INVALID_CONFIG.with(&[("err", &why)])
}

fn check_texts(config: &StreamConfig) -> Result<(), ApiError> {
    let named = is_valid_name(&config.name);
    ensure(named, "stream name is required and can not contain '.', '*', '>'")?;
    if config.name.len() > LONGEST_NAME {
        return Err(invalid(&format!(
            "stream name is too long, maximum allowed is {LONGEST_NAME}"
        )));
    }
    if config.description.len() > LONGEST_DESCRIPTION {
        return Err(invalid(&format!(
            "stream description is too long, maximum allowed is {LONGEST_DESCRIPTION}"
        )));
    }
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > LONGEST_METADATA {
        return Err(invalid(&format!(
            "stream metadata exceeds maximum size of {LONGEST_METADATA} bytes"
        )));
    }
    Ok(())
}

/// Numbers that mean "no bound" unless they are above zero.
fn set_bounds(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.num_replicas == 0 {
        config.num_replicas = 1;
    }
    if config.num_replicas > MOST_REPLICAS {
        return Err(invalid(&format!("maximum replicas is {MOST_REPLICAS}")));
    }
    if config.num_replicas < 0 {
        return Err(ApiError::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
    }
    for (value, name) in [
        (&mut config.max_msgs, "max_msgs"),
        (&mut config.max_msgs_per_subject, "max_msgs_per_subject"),
        (&mut config.max_bytes, "max_bytes"),
        (&mut config.max_consumers, "max_consumers"),
    ] {
        if *value == 0 || *value < -1 {
            check_pedantic(pedantic && *value < -1, name)?;
            *value = -1;
        }
    }
    let size = &mut config.max_msg_size;
    if *size == 0 || *size < -1 {
        check_pedantic(pedantic && *size < -1, "max_msg_size")?;
        *size = -1;
    }
    Ok(())
}

fn check_pedantic(refuse: bool, name: &str) -> Result<(), ApiError> {
    match refuse {
        true => Err(ApiError::PEDANTIC.with(&[("err", &format!("{name} must be set to -1"))])),
        false => Ok(()),
    }
}

fn set_ages(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let age = config.max_age;
    ensure(age >= 0, "max age can not be negative")?;
    ensure(age == 0 || age >= SHORTEST, "max age needs to be >= 100ms")?;
    let copies = config.mirror.is_some() || !config.sources.is_empty();
    if config.duplicate_window == 0 && !copies {
        let shorter = age != 0 && age < DUPLICATES;
        if shorter && pedantic {
            let why = "duplicate window cannot be bigger than max age";
            return Err(ApiError::PEDANTIC.with(&[("err", &why)]));
        }
        config.duplicate_window = if shorter { age } else { DUPLICATES };
    }
    let window = config.duplicate_window;
    ensure(window >= 0, "duplicates window can not be negative")?;
    ensure(age == 0 || window <= age, "duplicates window can not be larger then max age")?;
    ensure(window == 0 || window >= SHORTEST, "duplicates window needs to be >= 100ms")
}

fn check_features(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let rollup = !(config.deny_purge && config.allow_rollup_hdrs);
    ensure(rollup, "roll-ups require the purge permission")?;
    if config.allow_msg_counter {
        let old = config.discard != DiscardPolicy::New;
        ensure(old, "counter stream cannot use discard new")?;
        ensure(!config.allow_msg_ttl, "counter stream cannot use message TTLs")?;
        let limits = config.retention == RetentionPolicy::Limits;
        ensure(limits, "counter stream can only use limits retention")?;
    }
    check_discard(config)?;
    let marks = config.subject_delete_marker_ttl;
    ensure(marks >= 0, "subject delete marker TTL must not be negative")?;
    if marks > 0 {
        ensure(marks >= SECOND, "subject delete marker TTL must be at least 1 second")?;
        let why = "subject delete marker cannot be set if message TTLs are disabled";
        ensure(config.allow_msg_ttl || !pedantic, why)?;
        config.allow_msg_ttl = true;
        let why = "subject delete marker cannot be set if roll-ups are disabled";
        allow_rollup(config, pedantic, why)?;
    }
    if config.allow_msg_schedules {
        let why = "message scheduling cannot be set if roll-ups are disabled";
        allow_rollup(config, pedantic, why)?;
    }
    if config.persist_mode == PersistMode::Async {
        let file = config.storage == StorageType::File;
        ensure(file, "async persist mode is only supported on file storage")?;
        let alone = config.num_replicas <= 1;
        ensure(alone, "async persist mode is not supported on replicated streams")?;
        let why = "async persist mode is not supported with atomic batch publish";
        ensure(!config.allow_atomic, why)?;
    }
    Ok(())
}

fn allow_rollup(config: &mut StreamConfig, pedantic: bool, why: &str) -> Result<(), ApiError> {
    if !config.allow_rollup_hdrs {
        ensure(!pedantic, why)?;
        (config.allow_rollup_hdrs, config.deny_purge) = (true, false);
    }
    Ok(())
}

fn check_discard(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.discard_new_per_subject {
        return Ok(());
    }
    let new = config.discard == DiscardPolicy::New;
    ensure(new, "discard new per subject requires discard new policy to be set")?;
    let bound = config.max_msgs_per_subject > 0;
    ensure(bound, "discard new per subject requires max msgs per subject > 0")
}

fn check_mirror(config: &StreamConfig) -> Result<(), ApiError> {
    if config.mirror.is_none() {
        let schedules = !config.sources.is_empty() && config.allow_msg_schedules;
        return if schedules { Err(ApiError::SOURCE_WITH_MSG_SCHEDULES) } else { Ok(()) };
    }
    for (so, error) in [
        (config.first_seq > 0, ApiError::MIRROR_WITH_FIRST_SEQ),
        (!config.subjects.is_empty(), ApiError::MIRROR_WITH_SUBJECTS),
        (!config.sources.is_empty(), ApiError::MIRROR_WITH_SOURCES),
        (config.allow_msg_counter, ApiError::MIRROR_WITH_COUNTERS),
        (config.allow_atomic, ApiError::MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_msg_schedules, ApiError::MIRROR_WITH_MSG_SCHEDULES),
    ] {
        if so {
            return Err(error);
        }
    }
    Ok(())
}

fn check_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() && config.mirror.is_none() && config.sources.is_empty() {
        config.subjects.push(config.name.clone());
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for subject in &config.subjects {
        ensure(is_valid_filter(subject.as_bytes()), "invalid subject")?;
        ensure(seen.insert(subject), "duplicate subjects detected")?;
        if subject == ">" {
            ensure(config.no_ack, "capturing all subjects requires no-ack to be true")?;
            let alone = config.num_replicas == 1;
            ensure(alone, "capturing all subjects requires replicas of 1")?;
        }
        if !config.no_ack {
            check_namespaces(subject.as_bytes())?;
        }
    }
    let mut others = config.subjects.iter();
    while let Some(subject) = others.next() {
        let overlaps = |other: &&String| collide(subject.as_bytes(), other.as_bytes());
        if let Some(other) = others.clone().find(overlaps) {
            return Err(invalid(&format!("subject {subject:?} overlaps with {other:?}")));
        }
    }
    Ok(())
}

fn check_transform(config: &StreamConfig) -> Result<(), ApiError> {
    let Some(given) = &config.subject_transform else { return Ok(()) };
    Transform::new(&given.src, &given.dest).map(|_| ()).map_err(|error| {
        let refusal = match error {
            TransformError::Source(_) => ApiError::STREAM_TRANSFORM_INVALID_SOURCE,
            _ => ApiError::STREAM_TRANSFORM_INVALID_DESTINATION,
        };
        refusal.with(&[("err", &error)])
    })
}

/// A stream does not acknowledge into the subjects of the servers themselves.
fn check_namespaces(subject: &[u8]) -> Result<(), ApiError> {
    let api = [&b"$JS.>"[..], b"$JSC.>", b"$NRG.>"].into_iter();
    let api = api.filter(|_| !is_subset(subject, b"$JS.EVENT.>"));
    let api = api.into_iter().any(|space| collide(subject, space));
    ensure(!api, "subjects that overlap with jetstream api require no-ack to be true")?;
    let system = collide(subject, b"$SYS.>") && !is_subset(subject, b"$SYS.ACCOUNT.>");
    ensure(!system, "subjects that overlap with system api require no-ack to be true")
}

/// Checks a change of a stream that there is; adjusts it where the stream is sealed.
///
/// # Errors
/// What upstream refuses it with; [`ApiError::STREAM_INVALID_CONFIG`] too for what our streams cannot
/// change while they run.
pub fn check_update(old: &StreamConfig, new: &mut StreamConfig) -> Result<(), ApiError> {
    let name = new.name == old.name;
    ensure(name, "stream configuration name must match original")?;
    let storage = new.storage == old.storage;
    ensure(storage, "stream configuration update can not change storage type")?;
    let work = |config: &StreamConfig| config.retention == RetentionPolicy::WorkQueue;
    let retention = new.retention == old.retention || !(work(old) || work(new));
    let why = "stream configuration update can not change retention policy to/from workqueue";
    ensure(retention, why)?;
    for (before, now, why) in [
        (old.sealed, new.sealed, "unseal a sealed stream"),
        (old.deny_delete, new.deny_delete, "cancel deny message deletes"),
        (old.deny_purge, new.deny_purge, "cancel deny purge"),
    ] {
        ensure(now || !before, &format!("stream configuration update can not {why}"))?;
    }
    if new.mirror.is_some() && new.mirror != old.mirror {
        return Err(ApiError::STREAM_MIRROR_NOT_UPDATABLE);
    }
    check_discard(new)?;
    let ttl = new.allow_msg_ttl || !old.allow_msg_ttl;
    ensure(ttl, "message TTL status can not be disabled")?;
    let counter = new.allow_msg_counter == old.allow_msg_counter;
    let why = "stream configuration update can not change message counter setting";
    ensure(counter, why)?;
    let schedules = new.allow_msg_schedules || !old.allow_msg_schedules;
    ensure(schedules, "message schedules can not be disabled")?;
    let persist = new.persist_mode == old.persist_mode;
    ensure(persist, "stream configuration update can not change persist mode")?;
    if new.sealed {
        (new.max_age, new.discard) = (0, DiscardPolicy::New);
        (new.deny_delete, new.deny_purge, new.allow_rollup_hdrs) = (true, true, false);
    }
    match fixed(old, new) {
        Some(field) => Err(invalid(&format!("{field}: can not be changed yet"))),
        None => Ok(()),
    }
}

/// The field of a running stream that a change would need each replica to take up at the same
/// message; none if every replica may take the change up when it hears of it. Replicas and placement
/// are among them as long as streams are not moved.
pub fn fixed(old: &StreamConfig, new: &StreamConfig) -> Option<&'static str> {
    [
        ("retention", old.retention != new.retention),
        ("max_msgs", old.max_msgs != new.max_msgs),
        ("max_bytes", old.max_bytes != new.max_bytes),
        ("max_age", old.max_age != new.max_age),
        ("max_msgs_per_subject", old.max_msgs_per_subject != new.max_msgs_per_subject),
        ("discard", old.discard != new.discard),
        ("storage", old.storage != new.storage),
        ("num_replicas", old.num_replicas != new.num_replicas),
        ("duplicate_window", old.duplicate_window != new.duplicate_window),
        ("placement", old.placement != new.placement),
        ("mirror", old.mirror != new.mirror),
        ("sources", old.sources != new.sources),
        ("first_seq", old.first_seq != new.first_seq),
        ("subject_transform", old.subject_transform != new.subject_transform),
        ("republish", old.republish != new.republish),
        ("discard_new_per_subject", old.discard_new_per_subject != new.discard_new_per_subject),
        ("allow_msg_ttl", old.allow_msg_ttl != new.allow_msg_ttl),
        ("allow_msg_counter", old.allow_msg_counter != new.allow_msg_counter),
        ("allow_msg_schedules", old.allow_msg_schedules != new.allow_msg_schedules),
        ("persist_mode", old.persist_mode != new.persist_mode),
    ]
    .into_iter()
    .find_map(|(field, differs)| differs.then_some(field))
}
