//! Where a stream's replicas go.
//!
//! The rule: a server is asked for nothing it cannot do, those that are online come first, then
//! those with the fewest replicated streams, then those with the most room; equals are drawn from
//! the node's seed.
//!
//! Upstream: `selectPeerGroup` and `setPreferred` in `server/jetstream_cluster.go`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use super::assignments::Assignments;
use super::servers::{Server, Servers};
use crate::ids::PeerId;
use crate::random::Random;
use crate::wire::{StorageType, StreamConfig};

/// The tag of a server that takes no streams.
const EXCLUDED: &str = "!jetstream";

/// What placement chooses from.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The members of the meta group.
    pub members: &'a [PeerId],
    /// What is known of them.
    pub servers: &'a Servers,
    /// What they have already.
    pub assignments: &'a Assignments,
    /// Two replicas must differ in the tag that begins so; empty for no such rule.
    pub unique_tag: &'a str,
    /// Replicated assets of one server at most; zero for no bound.
    pub most_replicated_assets: u64,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How many replicas.
    pub replicas: usize,
    /// In which cluster.
    pub cluster: &'a str,
    /// The stream.
    pub config: &'a StreamConfig,
    /// Servers that stay; they come first in the answer.
    pub existing: &'a [PeerId],
    /// How many of those that stay, from the first, do not count for the unique tag, as they go
    /// when the others have what they have.
    pub replaced: usize,
    /// Servers that must not be chosen.
    pub ignored: &'a [PeerId],
}

/// Why there are not enough servers, as upstream tells clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoPlace {
    offline: bool,
    excluded: bool,
    no_room: bool,
    not_unique: bool,
    other: bool,
    no_members: bool,
    tags_missing: BTreeSet<String>,
    tags_excluded: BTreeSet<String>,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no suitable peers for placement")?;
        for (so, reason) in [
            (self.offline, "peer offline"),
            (self.excluded, "exclude tag set"),
            (self.no_room, "insufficient storage"),
            (self.not_unique, "server tag not unique"),
            (self.other, "miscellaneous issue"),
            (self.no_members, "jetstream not enabled in cluster"),
        ] {
            if so {
                write!(f, ", {reason}")?;
            }
        }
        for (words, tags) in
            [("tags not matched", &self.tags_missing), ("tags excluded", &self.tags_excluded)]
        {
            if !tags.is_empty() {
                let tags: Vec<_> = tags.iter().map(|tag| format!("'{tag}'")).collect();
                write!(f, ", {words} [{}]", tags.join(", "))?;
            }
        }
        Ok(())
    }
}

/// A server that could take a replica.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    peer: PeerId,
    offline: bool,
    room: u64,
    replicated: u64,
    streams: u64,
}

/// Chooses servers for a stream's replicas, those that stay first.
///
/// # Errors
/// [`NoPlace`] if there are too few, or too few of them online for a quorum.
pub fn select_peers(
    field: Field<'_>,
    wanted: Wanted<'_>,
    random: &mut Random,
) -> Result<Vec<PeerId>, NoPlace> {
    if wanted.cluster.is_empty() {
        return Err(NoPlace { other: true, ..NoPlace::default() });
    }
    if wanted.existing.len() >= wanted.replicas && !wanted.existing.is_empty() {
        return Ok(wanted.existing.iter().copied().take(wanted.replicas).collect());
    }
    let mut why = NoPlace::default();
    let mut candidates = candidates(field, wanted, random, &mut why);
    let lacking = wanted.replicas - wanted.existing.len();
    let online = candidates.iter().filter(|one| !one.offline).count();
    let quorum = wanted.replicas / 2 + 1;
    let too_few = candidates.len() < lacking;
    if too_few || online + wanted.existing.len() < quorum {
        why.no_members = field.members.is_empty();
        why.offline |= !why.no_members && !too_few;
        return Err(why);
    }
    candidates.sort_by_key(|one| (one.offline, Reverse(one.room), one.streams));
    if wanted.config.num_replicas > 1 {
        candidates.sort_by_key(|one| (one.offline, one.replicated));
    }
    let chosen = candidates.iter().take(lacking).map(|one| one.peer);
    Ok(wanted.existing.iter().copied().chain(chosen).collect())
}

fn candidates(
    field: Field<'_>,
    wanted: Wanted<'_>,
    random: &mut Random,
    why: &mut NoPlace,
) -> Vec<Candidate> {
    let tags = wanted.config.placement.as_ref().map_or(&[][..], |placement| &placement.tags);
    // Whoever names such a tag wants all replicas there.
    let named = |tag: &String| tag.trim_start_matches('!').starts_with(field.unique_tag);
    let unique = if tags.iter().any(named) { "" } else { field.unique_tag };
    let mut taken: BTreeSet<&str> = wanted
        .existing
        .iter()
        .skip(wanted.replaced)
        .filter_map(|peer| unique_tag(field.servers.get(peer)?, unique))
        .collect();
    let load = load(field.assignments);
    let mut members = field.members.to_vec();
    random.shuffle(&mut members);
    let mut found = Vec::new();
    for peer in members {
        let Some(server) = field.servers.get(&peer) else {
            why.other = true;
            continue;
        };
        if server.cluster != wanted.cluster {
            continue;
        }
        let Some(resources) = server.resources else {
            why.offline = true;
            continue;
        };
        if wanted.ignored.contains(&peer) || wanted.existing.contains(&peer) {
            continue;
        }
        if !allows(server, tags, why) {
            continue;
        }
        let room = match wanted.config.storage {
            StorageType::Memory => resources.memory.get(),
            StorageType::File => resources.disk.get(),
        };
        if u64::try_from(wanted.config.max_bytes).is_ok_and(|most| most > room) {
            why.no_room = true;
            continue;
        }
        let most = field.most_replicated_assets;
        if most > 0 && resources.replicated_assets > most {
            why.other = true;
            continue;
        }
        if !unique.is_empty() && !unique_tag(server, unique).is_some_and(|tag| taken.insert(tag)) {
            why.not_unique = true;
            continue;
        }
        let (streams, replicated) = load.get(&peer).copied().unwrap_or_default();
        found.push(Candidate { peer, offline: server.offline, room, replicated, streams });
    }
    found
}

/// Whether a server's tags allow the stream: all that are named, none that is excluded.
fn allows(server: &Server, tags: &[String], why: &mut NoPlace) -> bool {
    if has_tag(server, EXCLUDED) {
        why.excluded = true;
        return false;
    }
    for tag in tags {
        let (excludes, name) = match tag.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, tag.as_str()),
        };
        if has_tag(server, name) == excludes {
            let list = if excludes { &mut why.tags_excluded } else { &mut why.tags_missing };
            list.insert(name.to_string());
            return false;
        }
    }
    true
}

/// Tags are compared as upstream does: whatever their case.
fn has_tag(server: &Server, tag: &str) -> bool {
    server.tags.iter().any(|one| one.eq_ignore_ascii_case(tag))
}

fn unique_tag<'a>(server: &'a Server, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return None;
    }
    server.tags.iter().map(String::as_str).find(|tag| tag.starts_with(prefix))
}

/// How many streams each server has, and how many of them with replicas elsewhere.
fn load(assignments: &Assignments) -> BTreeMap<PeerId, (u64, u64)> {
    let mut load: BTreeMap<PeerId, (u64, u64)> = BTreeMap::new();
    for (_, stream) in assignments.streams().filter(|(_, stream)| stream.offline().is_none()) {
        let peers = &stream.assignment.group.peers;
        for peer in peers {
            let (streams, replicated) = load.entry(*peer).or_default();
            *streams += 1;
            *replicated += u64::from(peers.len() > 1);
        }
    }
    load
}

/// Who should lead first: one that is online, drawn from the seed; any if none is.
pub fn preferred(peers: &[PeerId], servers: &Servers, random: &mut Random) -> Option<PeerId> {
    let online: Vec<_> = peers.iter().filter(|peer| servers.is_online(peer)).collect();
    match (peers, &online[..]) {
        ([], _) => None,
        ([only], _) => Some(*only),
        (_, []) => peers.get(random.below(peers.len())).copied(),
        (_, some) => some.get(random.below(some.len())).map(|peer| **peer),
    }
}
