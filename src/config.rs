//! What a node is told before it starts.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::GroupName;
use crate::limits::{Limits, Timers};
use crate::wire::{ConsumerConfig, StreamConfig};

/// One node: its name, its groups, its bounds, and the seed of all its randomness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The server's name; its peer id follows from it.
    pub name: String,
    /// The JetStream domain, which acknowledgements of publishes and answers about streams name; empty
    /// if there is none. The same on all servers of a cluster.
    pub domain: String,
    /// Where all randomness comes from; two nodes of a cluster should differ in it.
    pub seed: u64,
    /// Every bound.
    pub limits: Limits,
    /// Every interval.
    pub timers: Timers,
    /// The groups that the node takes part in; the place in this list is the
    /// [`GroupId`](crate::ids::GroupId).
    pub groups: Vec<GroupConfig>,
}

/// One group of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// The group's name, the same on every member.
    pub name: GroupName,
    /// The names of the servers that are members when the group begins. A node that is not among
    /// them waits until the group's leader is asked to add it; its log then tells the members.
    pub members: Vec<String>,
    /// What its entries mean.
    pub kind: GroupKind,
}

/// What a group's entries mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "there is one for each group, not one for a message")]
pub enum GroupKind {
    /// Nothing to the core: they are handed out by
    /// [`Command::Apply`](crate::command::Command::Apply).
    Plain,
    /// They are the messages, deletes and purges of a stream.
    Stream(StreamConfig),
    /// They are the deliveries and acknowledgements of a consumer.
    Consumer(ConsumerConfig),
    /// They assign streams and consumers to servers. A node has one such group at most; it opens and
    /// closes the groups that are assigned to it by itself.
    Meta(MetaConfig),
}

/// What a member of the meta group is told beside who the others are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaConfig {
    /// The cluster's name, where streams go whose creators name none.
    pub cluster: String,
    /// Two replicas of a stream must differ in the server's tag that begins so; empty for no such
    /// rule.
    pub unique_tag: String,
    /// Replicated streams and consumers of one server at most; zero for no bound. At the bound the
    /// next is placed elsewhere, or refused with upstream's "no suitable peers".
    pub most_replicated_assets: u64,
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {why}")]
pub struct ConfigError {
    /// The field, as a path such as `groups[0].members`.
    pub field: String,
    /// What was found and what was expected.
    pub why: String,
}
