//! What becomes of a client's wish to create or change a consumer: a proposal to the meta group,
//! or a refusal.
//!
//! Upstream: `jsClusteredConsumerRequest` in `server/jetstream_cluster.go`, in its order.

use alloc::string::String;

use super::assignments::StreamKey;
use super::consumer_check::{self, ConsumerBounds, filters, filters_collide};
use super::consumer_group::{create_group_for_consumer, replicas, token};
use super::inflight::Foresight;
use super::levels::{keep_consumer_level, note_consumer_level};
use super::placement::preferred;
use super::servers::Servers;
use crate::ids::PeerId;
use crate::random::Random;
use crate::wire::{
    AckPolicy, ApiError, ClientInfo, ConsumerAssignment, ConsumerConfig, GoTime, RaftGroup,
    RetentionPolicy, StreamAssignment, StreamConfig,
};

/// What a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// A consumer like this, whether there is one or not.
    #[default]
    CreateOrUpdate,
    /// A new consumer; the same one again is no error.
    Create,
    /// A change of a consumer that there is.
    Update,
}

/// A client's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRequest {
    /// The stream.
    pub stream: StreamKey,
    /// How the consumer should be.
    pub config: ConsumerConfig,
    /// Whether it is to be made or changed.
    pub action: Action,
    /// Whether the client wants to be refused where its configuration would be changed.
    pub pedantic: bool,
    /// Who asks.
    pub client: Option<ClientInfo>,
    /// The subject that it asked on.
    pub subject: String,
    /// Where it awaits the answer.
    pub reply: String,
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// What is assigned, and in flight.
    pub foresight: Foresight<'a>,
    /// The servers.
    pub servers: &'a Servers,
    /// Bounds of the server and the account.
    pub bounds: ConsumerBounds,
    /// Replicated assets of one server at most; zero for no bound.
    pub most_replicated_assets: u64,
    /// Who leads the consumer, if it exists and that is known.
    pub leader: Option<PeerId>,
    /// Whether a client listens where the existing consumer delivers to.
    pub bound: bool,
    /// Now.
    pub now: GoTime,
}

/// Decides on a wish: the assignment to propose.
///
/// Costs the number of the stream's consumers.
///
/// # Errors
/// What upstream refuses it with.
pub fn decide(
    request: ConsumerRequest,
    grounds: Grounds<'_>,
    random: &mut Random,
) -> Result<ConsumerAssignment, ApiError> {
    let key = request.stream.clone();
    let stream = grounds.foresight.stream(&key).ok_or(ApiError::STREAM_NOT_FOUND)?;
    let mut config = request.config.clone();
    let bounds = grounds.bounds;
    consumer_check::set_defaults(&mut config, &stream.config, bounds, request.pedantic)?;
    consumer_check::check(&config, &stream.config, bounds)?;
    let named = match config.name.is_empty() {
        false => config.name.clone(),
        true => config.durable_name.clone(),
    };
    let existing = match named.is_empty() {
        true => None,
        false => grounds.foresight.consumer(&key, &named),
    };
    if request.action != Action::Update && existing.is_none() {
        check_count(&key, &stream.config, grounds)?;
    }
    match existing {
        Some(existing) => change(request, config, existing, stream, grounds, random),
        None if request.action == Action::Update => Err(ApiError::CONSUMER_DOES_NOT_EXIST),
        None => create(request, config, named, stream, grounds, random),
    }
}

/// A consumer that is changed does not count anew, those that belong to a mirror not at all.
fn check_count(
    key: &StreamKey,
    stream: &StreamConfig,
    grounds: Grounds<'_>,
) -> Result<(), ApiError> {
    let (of_stream, of_account) = (stream.max_consumers, grounds.bounds.max_consumers);
    let most = match of_stream <= 0 || (1..of_stream).contains(&of_account) {
        true => of_account,
        false => of_stream,
    };
    let counts = |one: &&ConsumerAssignment| one.unsupported.is_none() && !one.config.direct;
    let count = grounds.foresight.consumers(key).filter(counts).count();
    match usize::try_from(most) {
        Ok(most @ 1..) if count >= most => Err(ApiError::MAXIMUM_CONSUMERS_LIMIT),
        _ => Ok(()),
    }
}

fn create(
    request: ConsumerRequest,
    mut config: ConsumerConfig,
    named: String,
    stream: &StreamAssignment,
    grounds: Grounds<'_>,
    random: &mut Random,
) -> Result<ConsumerAssignment, ApiError> {
    if !named.is_empty() || request.action != Action::Create {
        note_consumer_level(&mut config);
    }
    let group =
        create_group_for_consumer(&config, &stream.config, &stream.group, grounds.servers, random)
            .ok_or(ApiError::INSUFFICIENT_RESOURCES)?;
    let group = RaftGroup {
        preferred: preferred(&group.peers, grounds.servers, random),
        cluster: stream.group.cluster.clone(),
        ..group
    };
    let name = match named.is_empty() {
        false => named,
        true => unused_name(&request.stream, grounds, random),
    };
    check_assets(&group, grounds)?;
    check_work_queue(&request.stream, &name, &config, &stream.config, grounds)?;
    Ok(ConsumerAssignment {
        client: request.client,
        created: grounds.now,
        name,
        stream: request.stream.name,
        config,
        group,
        subject: request.subject,
        reply: request.reply,
        ..ConsumerAssignment::default()
    })
}

/// A name for an ephemeral consumer that no other has.
fn unused_name(key: &StreamKey, grounds: Grounds<'_>, random: &mut Random) -> String {
    loop {
        let name = token(random);
        if grounds.foresight.consumer(key, &name).is_none() {
            return name;
        }
    }
}

fn check_assets(group: &RaftGroup, grounds: Grounds<'_>) -> Result<(), ApiError> {
    let most = grounds.most_replicated_assets;
    let full = |peer: &PeerId| {
        let resources = grounds.servers.get(peer).and_then(|server| server.resources);
        resources.is_some_and(|resources| resources.replicated_assets > most)
    };
    match most > 0 && group.peers.len() > 1 && group.peers.iter().any(full) {
        true => Err(ApiError::INSUFFICIENT_RESOURCES),
        false => Ok(()),
    }
}

/// Each message of a work queue goes to one consumer.
fn check_work_queue(
    key: &StreamKey,
    name: &str,
    config: &ConsumerConfig,
    stream: &StreamConfig,
    grounds: Grounds<'_>,
) -> Result<(), ApiError> {
    if stream.retention != RetentionPolicy::WorkQueue || config.direct {
        return Ok(());
    }
    if config.ack_policy != AckPolicy::Explicit {
        return Err(ApiError::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK);
    }
    let unfiltered = filters(config).next().is_none();
    let mut others = grounds.foresight.consumers(key).filter(|other| other.name != name);
    if unfiltered {
        return match grounds.foresight.consumers(key).next() {
            Some(_) => Err(ApiError::CONSUMER_WQ_MULTIPLE_UNFILTERED),
            None => Ok(()),
        };
    }
    match others.any(|other| filters_collide(config, &other.config)) {
        true => Err(ApiError::CONSUMER_WQ_CONSUMER_NOT_UNIQUE),
        false => Ok(()),
    }
}

fn change(
    request: ConsumerRequest,
    mut config: ConsumerConfig,
    existing: &ConsumerAssignment,
    stream: &StreamAssignment,
    grounds: Grounds<'_>,
    random: &mut Random,
) -> Result<ConsumerAssignment, ApiError> {
    keep_consumer_level(&mut config, &existing.config);
    if request.action == Action::Create && config != existing.config {
        return Err(ApiError::CONSUMER_ALREADY_EXISTS);
    }
    if config != existing.config {
        consumer_check::check_update(&existing.config, &config, grounds.bound)?;
    }
    if grounds.servers.all_offline(&existing.group.peers) {
        return Err(ApiError::CONSUMER_OFFLINE);
    }
    if request.action != Action::Create {
        note_consumer_level(&mut config);
    }
    // A pause is changed by a request of its own.
    config.pause_until = existing.config.pause_until;
    let group = scaled(&config, existing, stream, grounds, random)?;
    Ok(ConsumerAssignment {
        client: request.client,
        config,
        group,
        subject: request.subject,
        reply: request.reply,
        ..existing.clone()
    })
}

/// The group with as many members as the configuration wants. Nobody is left out here: those that are
/// to go stand first, and go when the group itself has let them go (see
/// [`wanted_peers`](super::consumer_group::wanted_peers)). Who is offline goes before others, who
/// leads goes last.
///
/// Upstream leaves them out at once, whether or not those that stay have what they had; and it names
/// a group anew when it grows from one member or shrinks to one, as its single members keep no log.
fn scaled(
    config: &ConsumerConfig,
    existing: &ConsumerAssignment,
    stream: &StreamAssignment,
    grounds: Grounds<'_>,
    random: &mut Random,
) -> Result<RaftGroup, ApiError> {
    let count = |config| usize::try_from(replicas(config, &stream.config)).unwrap_or(0);
    let (before, after) = (count(&existing.config), count(config));
    let mut group = RaftGroup { scale_up: false, ..existing.group.clone() };
    if before == after {
        return Ok(group);
    }
    if before < after && stream.group.peers.len() < after {
        return Err(ApiError::CONSUMER_REPLICAS_EXCEEDS_STREAM);
    }
    let lacking = after.saturating_sub(group.peers.len());
    if lacking > 0 {
        let mut more = stream.group.peers.clone();
        more.retain(|peer| !group.peers.contains(peer));
        random.shuffle(&mut more);
        group.peers.extend(more.into_iter().take(lacking));
        group.scale_up = true;
    } else {
        let worth =
            |peer: &PeerId| (grounds.servers.is_online(peer), Some(*peer) == grounds.leader);
        group.peers.sort_by_key(worth);
    }
    group.preferred = grounds.leader;
    group.resizes = group.resizes.saturating_add(1);
    Ok(group)
}
