//! What becomes of a client's wish to create, change or remove a stream: a proposal to the meta
//! group, or a refusal.
//!
//! Upstream: `jsClusteredStreamRequest`, `jsClusteredStreamUpdateRequest`,
//! `jsClusteredStreamDeleteRequest` and `createGroupForStream` in `server/jetstream_cluster.go`, in
//! their order.

use alloc::string::{String, ToString};
use alloc::vec;

use super::assignments::StreamKey;
use super::consumer_group::group_name;
use super::inflight::Foresight;
use super::levels::{keep_stream_level, note_stream_level};
use super::placement::{Field, Wanted, preferred, select_peers};
use super::servers::Servers;
use super::stream_check;
use crate::ids::PeerId;
use crate::random::Random;
use crate::subject::{collide, sync_subject_for_stream};
use crate::wire::{ApiError, ClientInfo, GoTime, RaftGroup, StreamAssignment, StreamConfig};

/// A client's wish for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The account and name.
    pub key: StreamKey,
    /// How the stream should be.
    pub config: StreamConfig,
    /// Whether the client wants to be refused where its configuration would be changed.
    pub pedantic: bool,
    /// Who asks.
    pub client: Option<ClientInfo>,
    /// The subject that it asked on.
    pub subject: String,
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// What is assigned, and in flight.
    pub foresight: Foresight<'a>,
    /// The members of the meta group.
    pub members: &'a [PeerId],
    /// The servers.
    pub servers: &'a Servers,
    /// The cluster of clients that do not say theirs.
    pub cluster: &'a str,
    /// Two replicas must differ in the tag that begins so; empty for no such rule.
    pub unique_tag: &'a str,
    /// Replicated assets of one server at most; zero for no bound.
    pub most_replicated_assets: u64,
    /// Now.
    pub now: GoTime,
}

/// Decides on a wish for a new stream: the assignment to propose. The same stream again is no
/// error.
///
/// Costs the number of the account's streams.
///
/// # Errors
/// What upstream refuses it with.
pub fn create(
    request: StreamRequest,
    grounds: Grounds<'_>,
    random: &mut Random,
) -> Result<StreamAssignment, ApiError> {
    let mut config = request.config;
    note_stream_level(&mut config);
    let invalid = |why: &str| ApiError::STREAM_INVALID_CONFIG.with(&[("err", &why)]);
    if config.sealed {
        return Err(invalid("stream configuration for create can not be sealed"));
    }
    if config.mirror_direct && config.mirror.is_none() {
        return Err(invalid("stream has no mirror but does have mirror direct"));
    }
    stream_check::check(&mut config, request.pedantic)?;
    let existing = grounds.foresight.stream(&request.key);
    if let Some(existing) = existing {
        keep_stream_level(&mut config, &existing.config);
        if existing.unsupported.is_some() || existing.config != config {
            return Err(ApiError::STREAM_NAME_EXIST);
        }
    }
    check_overlap(&request.key, &config, grounds)?;
    let (group, sync, created) = match existing {
        Some(same) => (same.group.clone(), same.sync.clone(), same.created),
        None => {
            let group = create_group(&config, request.client.as_ref(), grounds, random)?;
            (group, String::new(), grounds.now)
        }
    };
    let sync = if sync.is_empty() { sync_subject_for_stream(random).to_string() } else { sync };
    Ok(StreamAssignment {
        client: request.client,
        created,
        config,
        group,
        sync,
        subject: request.subject,
        ..StreamAssignment::default()
    })
}

/// No two streams of an account take the same message.
fn check_overlap(
    key: &StreamKey,
    config: &StreamConfig,
    grounds: Grounds<'_>,
) -> Result<(), ApiError> {
    let others = grounds.foresight.streams(&key.account);
    let mut others = others.filter(|other| other.config.name != key.name);
    let overlaps = |other: &StreamAssignment| {
        let taken = other.config.subjects.iter();
        let collides = |one: &String, two: &String| collide(one.as_bytes(), two.as_bytes());
        taken.into_iter().any(|one| config.subjects.iter().any(|two| collides(one, two)))
    };
    match others.any(overlaps) {
        true => Err(ApiError::STREAM_SUBJECT_OVERLAP),
        false => Ok(()),
    }
}

/// Chooses servers for a stream, in its own cluster or its client's, or in those that the client
/// named.
fn create_group(
    config: &StreamConfig,
    client: Option<&ClientInfo>,
    grounds: Grounds<'_>,
    random: &mut Random,
) -> Result<RaftGroup, ApiError> {
    let own = config.placement.as_ref().map_or("", |placement| &placement.cluster);
    let of_client = client.map_or("", |client| &client.cluster);
    let mut clusters = vec![
        [own, of_client, grounds.cluster]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default(),
    ];
    if own.is_empty() {
        clusters.extend(client.iter().flat_map(|client| &client.alternates).map(String::as_str));
    }
    let replicas = usize::try_from(config.num_replicas).unwrap_or(1).max(1);
    let field = Field {
        members: grounds.members,
        servers: grounds.servers,
        assignments: grounds.foresight.assignments,
        unique_tag: grounds.unique_tag,
        most_replicated_assets: grounds.most_replicated_assets,
    };
    let mut refusal = None;
    for cluster in clusters {
        let wanted = Wanted { replicas, cluster, config, existing: &[], replaced: 0, ignored: &[] };
        match select_peers(field, wanted, random) {
            Ok(peers) => {
                return Ok(RaftGroup {
                    name: group_name("S", peers.len(), config.storage, random),
                    preferred: preferred(&peers, grounds.servers, random),
                    peers,
                    storage: config.storage,
                    cluster: cluster.into(),
                    scale_up: false,
                    resizes: 0,
                });
            }
            // The client's own cluster says best why.
            Err(why) => refusal = refusal.or(Some(why)),
        }
    }
    let why = refusal.unwrap_or_default();
    Err(ApiError::CLUSTER_NO_PEERS.with(&[("err", &why)]))
}

/// Decides on a wish to change a stream: the assignment to propose.
///
/// # Errors
/// What upstream refuses it with.
pub fn update(request: StreamRequest, grounds: Grounds<'_>) -> Result<StreamAssignment, ApiError> {
    let existing = grounds.foresight.stream(&request.key).ok_or(ApiError::STREAM_NOT_FOUND)?;
    if grounds.servers.all_offline(&existing.group.peers) {
        return Err(ApiError::STREAM_OFFLINE);
    }
    let mut config = request.config;
    note_stream_level(&mut config);
    stream_check::check(&mut config, request.pedantic)?;
    stream_check::check_update(&existing.config, &mut config)?;
    check_overlap(&request.key, &config, grounds)?;
    Ok(StreamAssignment {
        client: request.client,
        created: existing.created,
        config,
        group: RaftGroup { scale_up: false, preferred: None, ..existing.group.clone() },
        sync: existing.sync.clone(),
        subject: request.subject,
        ..StreamAssignment::default()
    })
}

/// Decides on a wish to remove a stream, supported or not: the removal to propose.
///
/// # Errors
/// [`ApiError::STREAM_NOT_FOUND`].
pub fn remove(
    key: &StreamKey,
    client: Option<ClientInfo>,
    foresight: Foresight<'_>,
) -> Result<StreamAssignment, ApiError> {
    let existing = foresight.stream(key).ok_or(ApiError::STREAM_NOT_FOUND)?;
    let client = client.or_else(|| existing.client.clone());
    Ok(StreamAssignment { client, restore: None, ..existing.clone() })
}
