//! What a consumer's configuration must hold to, and what stands in it that a client left out.
//!
//! Upstream: `setConsumerConfigDefaults`, `checkConsumerCfg` and `checkNewConsumerConfig` in
//! `server/consumer.go`, with their order, codes and texts.

use alloc::format;
use alloc::string::{String, ToString};

use crate::subject::{collide, is_subset, is_valid_filter, is_valid_publish};
use crate::wire::{
    AckPolicy, ApiError, ConsumerConfig, DeliverPolicy, PriorityPolicy, RetentionPolicy,
    StreamConfig,
};

const SECOND: i64 = 1_000_000_000;
/// How long a consumer waits for an acknowledgement unless it says otherwise.
const ACK_WAIT: i64 = 30 * SECOND;
/// Messages that may wait for their acknowledgement unless it says otherwise.
const MAX_ACK_PENDING: i64 = 1000;
/// Requests that may wait unless it says otherwise.
const MAX_WAITING: i64 = 512;
/// How long a pinned client stays the one that is served.
const PINNED: i64 = 120 * SECOND;
const LONGEST_DESCRIPTION: usize = 4 * 1024;
const LONGEST_METADATA: usize = 128 * 1024;

/// Bounds of the server or the account; zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerBounds {
    /// Messages of one consumer that may wait for their acknowledgement.
    pub max_ack_pending: i64,
    /// Messages of one request.
    pub max_request_batch: i64,
    /// Consumers of one stream.
    pub max_consumers: i64,
}

/// Fills in what a client left out. A pedantic client wants to be refused instead.
///
/// # Errors
/// [`ApiError::PEDANTIC`], for a pedantic client whose configuration would be changed.
pub fn set_defaults(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    bounds: ConsumerBounds,
    pedantic: bool,
) -> Result<(), ApiError> {
    let refuse = |so: bool, why: &str| match so && pedantic {
        true => Err(ApiError::PEDANTIC.with(&[("err", &why)])),
        false => Ok(()),
    };
    refuse(config.max_deliver < -1, "max_deliver must be set to -1")?;
    if config.max_deliver == 0 || config.max_deliver < -1 {
        config.max_deliver = -1;
    }
    for (value, least, why) in [
        (&mut config.max_waiting, 0, "max_waiting must not be negative"),
        (&mut config.max_ack_pending, -1, "max_ack_pending must be set to -1"),
        (&mut config.max_batch, 0, "max_batch must not be negative"),
        (&mut config.max_expires, 0, "max_expires must not be negative"),
        (&mut config.max_bytes, 0, "max_bytes must not be negative"),
        (&mut config.idle_heartbeat, 0, "idle_heartbeat must not be negative"),
        (&mut config.inactive_threshold, 0, "inactive_threshold must not be negative"),
        (&mut config.priority_timeout, 0, "priority_timeout must not be negative"),
    ] {
        refuse(*value < least, why)?;
        *value = (*value).max(least);
    }
    let pull = config.deliver_subject.is_empty();
    if pull && config.max_waiting == 0 {
        config.max_waiting = MAX_WAITING;
    }
    let acks = matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All);
    if config.ack_wait == 0 && acks {
        config.ack_wait = ACK_WAIT;
    }
    if let Some(first) = config.backoff.first().copied() {
        refuse(config.ack_wait != first, "first backoff value has to equal batch AckWait")?;
        config.ack_wait = first;
    }
    let limits = &stream.consumer_limits;
    if config.max_ack_pending == 0 {
        let why = "max_ack_pending must be set if it's configured in stream limits";
        refuse(limits.max_ack_pending > 0, why)?;
        config.max_ack_pending = limits.max_ack_pending;
    }
    if config.inactive_threshold == 0 {
        let why = "inactive_threshold must be set if it's configured in stream limits";
        refuse(limits.inactive_threshold > 0, why)?;
        config.inactive_threshold = limits.inactive_threshold;
    }
    if acks && config.max_ack_pending == 0 {
        let bound = bounds.max_ack_pending;
        config.max_ack_pending =
            if bound > 0 { bound.min(MAX_ACK_PENDING) } else { MAX_ACK_PENDING };
    }
    if pull && config.max_batch == 0 && bounds.max_request_batch > 0 {
        refuse(true, "max_request_batch must be set if it's JetStream limits are set")?;
        config.max_batch = bounds.max_request_batch;
    }
    if config.priority_policy == PriorityPolicy::PinnedClient && config.priority_timeout == 0 {
        config.priority_timeout = PINNED;
    }
    Ok(())
}

/// Checks a configuration for itself and against its stream's.
///
/// # Errors
/// What upstream refuses it with.
pub fn check(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    bounds: ConsumerBounds,
) -> Result<(), ApiError> {
    check_replicas(config, stream)?;
    check_acks(config)?;
    if config.deliver_subject.is_empty() {
        check_pull(config, stream, bounds)?;
    } else {
        check_push(config, stream)?;
    }
    check_bounds(config, stream, bounds)?;
    if config.direct {
        ensure(!config.deliver_subject.is_empty(), &ApiError::CONSUMER_DIRECT_REQUIRES_PUSH)?;
        let ephemeral = config.durable_name.is_empty();
        ensure(ephemeral, &ApiError::CONSUMER_DIRECT_REQUIRES_EPHEMERAL)?;
    }
    check_filters(config)?;
    check_start(config)?;
    check_rest(config)?;
    let preferred = stream.placement.as_ref().map_or("", |placement| &placement.preferred);
    ensure(preferred.is_empty(), &invalid("preferred server not permitted in placement"))
}

fn ensure(holds: bool, error: &ApiError) -> Result<(), ApiError> {
    if holds { Ok(()) } else { Err(error.clone()) }
}

fn invalid(why: &str) -> ApiError {
    ApiError::STREAM_INVALID_CONFIG.with(&[("err", &why)])
}

fn check_replicas(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let (own, of_stream) = (config.num_replicas, stream.num_replicas);
    ensure(own <= of_stream || own <= 0, &ApiError::CONSUMER_REPLICAS_EXCEEDS_STREAM)?;
    ensure(own >= 0, &ApiError::REPLICAS_COUNT_CANNOT_BE_NEGATIVE)?;
    // Every server that drops messages must know what is acknowledged.
    let must_match = stream.retention != RetentionPolicy::Limits;
    let matches = own == 0 || own == of_stream;
    ensure(!must_match || matches, &ApiError::CONSUMER_REPLICAS_SHOULD_MATCH_STREAM)
}

fn check_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    let positive = config.backoff.iter().all(|wait| *wait >= 0);
    ensure(positive, &ApiError::CONSUMER_BACK_OFF_NEGATIVE)?;
    ensure(config.ack_wait >= 0, &ApiError::CONSUMER_ACK_WAIT_NEGATIVE)?;
    check_backoff(config)?;
    let short = config.description.len() <= LONGEST_DESCRIPTION;
    let long = ApiError::CONSUMER_DESCRIPTION_TOO_LONG.with(&[("max", &LONGEST_DESCRIPTION)]);
    ensure(short, &long)
}

/// There are no more waits than deliveries.
fn check_backoff(config: &ConsumerConfig) -> Result<(), ApiError> {
    let waits = i64::try_from(config.backoff.len()).unwrap_or(i64::MAX);
    let fits = waits == 0 || config.max_deliver == -1 || waits <= config.max_deliver;
    ensure(fits, &ApiError::CONSUMER_MAX_DELIVER_BACKOFF)
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let subject = config.deliver_subject.as_bytes();
    let literal = !subject.split(|byte| *byte == b'.').any(|token| matches!(token, b"*" | b">"));
    ensure(literal, &ApiError::CONSUMER_DELIVER_TO_WILDCARDS)?;
    ensure(is_valid_publish(subject), &ApiError::CONSUMER_INVALID_DELIVER_SUBJECT)?;
    let cycle = stream.subjects.iter().any(|taken| is_subset(subject, taken.as_bytes()));
    ensure(!cycle, &ApiError::CONSUMER_DELIVER_CYCLE)?;
    ensure(config.max_waiting == 0, &ApiError::CONSUMER_PUSH_MAX_WAITING)?;
    let acks = config.max_ack_pending <= 0 || config.ack_policy != AckPolicy::None;
    ensure(acks, &ApiError::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED)?;
    let beat = config.idle_heartbeat;
    ensure(beat <= 0 || beat >= SECOND / 10, &ApiError::CONSUMER_SMALL_HEARTBEAT)
}

fn check_pull(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    bounds: ConsumerBounds,
) -> Result<(), ApiError> {
    let silent = config.ack_policy == AckPolicy::None;
    let work = stream.retention == RetentionPolicy::WorkQueue;
    ensure(!(silent && work), &ApiError::CONSUMER_PULL_REQUIRES_ACK)?;
    ensure(config.rate_limit_bps == 0, &ApiError::CONSUMER_PULL_WITH_RATE_LIMIT)?;
    ensure(config.max_waiting >= 0, &ApiError::CONSUMER_MAX_WAITING_NEGATIVE)?;
    ensure(config.idle_heartbeat <= 0, &ApiError::CONSUMER_HB_REQUIRES_PUSH)?;
    ensure(!config.flow_control, &ApiError::CONSUMER_FC_REQUIRES_PUSH)?;
    ensure(config.max_batch >= 0, &ApiError::CONSUMER_MAX_REQUEST_BATCH_NEGATIVE)?;
    let waits = config.max_expires == 0 || config.max_expires >= SECOND / 1000;
    ensure(waits, &ApiError::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL)?;
    let most = bounds.max_request_batch;
    let excess = ApiError::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with(&[("limit", &most)]);
    ensure(most <= 0 || config.max_batch <= most, &excess)
}

fn check_bounds(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    bounds: ConsumerBounds,
) -> Result<(), ApiError> {
    for most in [bounds.max_ack_pending, stream.consumer_limits.max_ack_pending] {
        let excess = ApiError::CONSUMER_MAX_PENDING_ACK_EXCESS.with(&[("limit", &most)]);
        ensure(most <= 0 || config.max_ack_pending <= most, &excess)?;
    }
    let most = stream.consumer_limits.inactive_threshold;
    let excess =
        ApiError::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with(&[("limit", &go_duration(most))]);
    ensure(most <= 0 || config.inactive_threshold <= most, &excess)
}

/// The subjects that a consumer delivers; none for all.
pub fn filters(config: &ConsumerConfig) -> impl Iterator<Item = &str> {
    let one = Some(config.filter_subject.as_str()).filter(|filter| !filter.is_empty());
    config.filter_subjects.iter().map(String::as_str).chain(one)
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    let both = !config.filter_subject.is_empty() && !config.filter_subjects.is_empty();
    ensure(!both, &ApiError::CONSUMER_DUPLICATE_FILTER_SUBJECTS)?;
    let bad = invalid("malformed subject");
    let one = &config.filter_subject;
    ensure(one.is_empty() || is_valid_filter(one.as_bytes()), &bad)?;
    let named = config.filter_subjects.iter().all(|filter| !filter.is_empty());
    ensure(named, &ApiError::CONSUMER_EMPTY_FILTER)?;
    for (place, filter) in filters(config).enumerate() {
        ensure(is_valid_filter(filter.as_bytes()), &bad)?;
        let mut others = filters(config).enumerate().filter(|(other, _)| *other != place);
        let within = others.any(|(_, other)| is_subset(filter.as_bytes(), other.as_bytes()));
        ensure(!within, &ApiError::CONSUMER_OVERLAPPING_SUBJECT_FILTERS)?;
    }
    Ok(())
}

/// Whether some message would be delivered by both.
pub fn filters_collide(one: &ConsumerConfig, other: &ConsumerConfig) -> bool {
    let collides = |a: &str| filters(other).any(|b| collide(a.as_bytes(), b.as_bytes()));
    filters(one).any(collides)
}

/// Where a consumer begins is said once, and as its policy wants it.
fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let (sequence, time) = (config.opt_start_seq > 0, config.opt_start_time.is_some());
    let policy = |why: String| ApiError::CONSUMER_INVALID_POLICY.with(&[("err", &why)]);
    let also = |name: &str, what: &str| {
        policy(format!(
            "consumer delivery policy is deliver {name}, but optional start {what} is also set"
        ))
    };
    let lacks = |name: &str, what: &str| {
        policy(format!(
            "consumer delivery policy is deliver {name}, but optional {what} is not set"
        ))
    };
    let name = match config.deliver_policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::LastPerSubject => "last per subject",
        DeliverPolicy::New => "new",
        DeliverPolicy::ByStartSequence => {
            let name = "by start sequence";
            ensure(sequence, &lacks(name, "start sequence"))?;
            return ensure(!time, &also(name, "time"));
        }
        DeliverPolicy::ByStartTime => {
            let name = "by start time";
            ensure(time, &lacks(name, "start time"))?;
            return ensure(!sequence, &also(name, "start sequence"));
        }
    };
    ensure(!sequence, &also(name, "sequence"))?;
    ensure(!time, &also(name, "time"))?;
    let filtered = filters(config).next().is_some();
    let needs = config.deliver_policy == DeliverPolicy::LastPerSubject;
    ensure(!needs || filtered, &lacks(name, "filter subject"))
}

fn check_rest(config: &ConsumerConfig) -> Result<(), ApiError> {
    check_sampling(&config.sample_freq)?;
    let beats = !config.flow_control || config.idle_heartbeat != 0;
    ensure(beats, &ApiError::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS)?;
    let (durable, name) = (&config.durable_name, &config.name);
    let same = durable.is_empty() || name.is_empty() || durable == name;
    ensure(same, &ApiError::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH)?;
    let bytes: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    let limit = format!("{}KB", LONGEST_METADATA / 1024);
    let long = ApiError::CONSUMER_METADATA_LENGTH.with(&[("limit", &limit)]);
    ensure(bytes <= LONGEST_METADATA, &long)?;
    check_priority(config)
}

fn check_sampling(share: &str) -> Result<(), ApiError> {
    if share.is_empty() {
        return Ok(());
    }
    let number = share.strip_suffix('%').unwrap_or(share);
    match number.parse::<i64>() {
        Ok(0..) => Ok(()),
        // Upstream's error is absent here, and Go writes that so.
        Ok(_) => Err(ApiError::CONSUMER_INVALID_SAMPLING.with(&[("err", &"%!s(<nil>)")])),
        Err(_) => {
            let why = format!("strconv.Atoi: parsing {number:?}: invalid syntax");
            Err(ApiError::CONSUMER_INVALID_SAMPLING.with(&[("err", &why)]))
        }
    }
}

fn check_priority(config: &ConsumerConfig) -> Result<(), ApiError> {
    let groups = &config.priority_groups;
    if config.priority_policy == PriorityPolicy::None {
        ensure(groups.is_empty(), &ApiError::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE)?;
        let unpinned = config.priority_timeout <= 0;
        return ensure(unpinned, &ApiError::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE);
    }
    let pull = config.deliver_subject.is_empty();
    ensure(pull, &ApiError::CONSUMER_PUSH_WITH_PRIORITY_GROUP)?;
    ensure(!groups.is_empty(), &ApiError::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP)?;
    for group in groups {
        ensure(!group.is_empty(), &ApiError::CONSUMER_EMPTY_GROUP_NAME)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_=-".contains(&byte);
        let valid = group.len() <= 16 && group.bytes().all(plain);
        ensure(valid, &ApiError::CONSUMER_INVALID_GROUP_NAME)?;
    }
    Ok(())
}

/// What of a consumer cannot be changed. `bound` tells whether a client listens where it delivers
/// to.
///
/// # Errors
/// [`ApiError::CONSUMER_CREATE`] with upstream's words, or the error that stands for itself.
pub fn check_update(
    before: &ConsumerConfig,
    next: &ConsumerConfig,
    bound: bool,
) -> Result<(), ApiError> {
    for (same, what) in [
        (before.deliver_policy == next.deliver_policy, "deliver policy"),
        (before.opt_start_seq == next.opt_start_seq, "start sequence"),
        (before.opt_start_time == next.opt_start_time, "start time"),
        (before.ack_policy == next.ack_policy, "ack policy"),
        (before.replay_policy == next.replay_policy, "replay policy"),
        (before.idle_heartbeat == next.idle_heartbeat, "heart beats"),
        (before.flow_control == next.flow_control, "flow control"),
    ] {
        ensure(same, &unchangeable(&format!("{what} can not be updated")))?;
    }
    if before.deliver_subject != next.deliver_subject {
        let was_push = !before.deliver_subject.is_empty();
        ensure(was_push, &unchangeable("can not update pull consumer to push based"))?;
        let is_push = !next.deliver_subject.is_empty();
        ensure(is_push, &unchangeable("can not update push consumer to pull based"))?;
        ensure(!bound, &ApiError::CONSUMER_NAME_EXIST)?;
    }
    let same = before.max_waiting == next.max_waiting;
    ensure(same, &unchangeable("max waiting can not be updated"))?;
    check_backoff(next)
}

fn unchangeable(why: &str) -> ApiError {
    ApiError::CONSUMER_CREATE.with(&[("err", &why)])
}

/// Nanoseconds as Go writes a duration: `1h0m0.5s`, `1.5ms`.
fn go_duration(nanoseconds: i64) -> String {
    let nanoseconds = u64::try_from(nanoseconds).unwrap_or(0);
    let fraction = |unit: u64, name: &str| {
        let (whole, rest) = (nanoseconds / unit, nanoseconds % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        match rest.trim_end_matches('0') {
            "" => format!("{whole}{name}"),
            rest => format!("{whole}.{rest}{name}"),
        }
    };
    match nanoseconds {
        0 => "0s".to_string(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => {
            const SECOND: u64 = 1_000_000_000;
            let minutes = nanoseconds / SECOND / 60;
            let below = nanoseconds % (60 * SECOND);
            let seconds = match below % SECOND {
                0 => format!("{}s", below / SECOND),
                rest => {
                    let rest = format!("{rest:09}");
                    format!("{}.{}s", below / SECOND, rest.trim_end_matches('0'))
                }
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}
