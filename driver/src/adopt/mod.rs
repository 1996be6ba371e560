//! Takes over the role of a dead replica of a nats-server's stream, until its server is back.
//!
//! A group that nats-servers manage takes nobody in whom their meta group did not assign. But a
//! member is known by its peer id, which follows from its server's name: a node under the name of a
//! dead server is that server's replica. What it must know is read from the live cluster: who runs
//! from `$SYS.REQ.SERVER.PING`, the group, its members and its subject for catchups from the log of
//! the meta group, which its leader hands to whoever asks in the name of a member.
//!
//! The node begins with an empty disk, so it counts as one that forgot its promises (see
//! `raft::trust` in the core): it votes and acknowledges nothing before all others have told their
//! term, and it has a record of a newer one. nats-servers do not tell a follower where their log ends,
//! as leaders of ours do, so the group's next election is what it waits for.

mod assignments;
mod servers;

use std::collections::BTreeMap;

use async_nats::Client;
use jetwake::config::{GroupConfig, GroupKind};
use jetwake::ids::{GroupName, PeerId};
use jetwake::subject::Subject;
use jetwake::wire::{StreamAssignment, WireError};
use thiserror::Error;

pub use servers::returned;

/// Whose role is taken over, and of which stream.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The stream.
    pub stream: String,
    /// The account that the stream is in; not needed if no other has a stream of this name.
    pub account: Option<String>,
    /// The dead server's name.
    pub server: String,
    /// Names of other servers that may be down.
    pub others: Vec<String>,
    /// Whether the role was taken over before, and its disk is still there.
    pub resumes: bool,
}

/// The role of a dead replica.
#[derive(Clone, Debug)]
pub struct Role {
    /// The group, with the names of its members.
    pub group: GroupConfig,
    /// Where catchups of its stream are asked for.
    pub sync: Subject,
}

/// Why a role is not taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The connection to the NATS server ended, or its queues are gone.
    #[error("the NATS server: {0}")]
    Connection(String),
    /// Not even the server that we are connected to says that it runs.
    #[error("no server answers on {0}: this needs a user of the system account")]
    NoSystemAccount(&'static str),
    /// Two replicas of one name would promise in each other's name.
    #[error("server {0:?} is alive: two members of one name would break each other's promises")]
    Alive(String),
    /// The meta group has no leader that answers.
    #[error("the meta group: {0}")]
    Meta(String),
    /// What is assigned cannot be read.
    #[error("the meta group's log: {0}")]
    Wire(#[from] WireError),
    /// There is no such stream.
    #[error("no stream {0:?} is assigned in this cluster")]
    NoStream(String),
    /// Several accounts have such a stream.
    #[error("stream {stream:?} is in several accounts, name one of them: {accounts}")]
    SeveralAccounts {
        /// The stream.
        stream: String,
        /// The accounts.
        accounts: String,
    },
    /// The stream does what we cannot do.
    #[error("stream {stream:?} cannot be kept here: {why}")]
    Unsupported {
        /// The stream.
        stream: String,
        /// What it does.
        why: String,
    },
    /// The server keeps no replica.
    #[error("server {server:?} keeps no replica of {stream:?}; those that do: {members}")]
    NoReplica {
        /// The server.
        server: String,
        /// The stream.
        stream: String,
        /// Who keeps one.
        members: String,
    },
    /// The others cannot bring an empty replica up to date safely.
    #[error(
        "of the other replicas, {down} cannot be reached: what the dead one promised is only known \
         when all others tell what they have"
    )]
    Missing {
        /// Who is down.
        down: String,
    },
    /// The stream has no other replica.
    #[error("stream {0:?} has no other replica: there is nobody who could bring its messages")]
    OnlyReplica(String),
}

/// Finds out what the role is, and whether it may be taken over.
///
/// # Errors
/// [`AdoptError`] says what stands against it.
pub async fn role(client: &Client, wish: &Wish) -> Result<Role, AdoptError> {
    let alive = servers::alive(client).await?;
    if alive.contains(&wish.server) {
        return Err(AdoptError::Alive(wish.server.clone()));
    }
    let me = PeerId::from_name(&wish.server);
    let assigned = assignments::read(client, me).await?;
    let stream = find(assigned, wish)?;
    let known = alive.iter().chain(&wish.others).chain([&wish.server]);
    let known: BTreeMap<_, _> =
        known.map(|name| (PeerId::from_name(name), name.as_str())).collect();
    let name_of = |id: &PeerId| known.get(id).map_or_else(|| id.to_string(), |name| (*name).into());
    let peers = &stream.group.peers;
    let members: Vec<String> = peers.iter().map(name_of).collect();
    if !peers.contains(&me) {
        let (server, members) = (wish.server.clone(), members.join(", "));
        return Err(AdoptError::NoReplica { server, stream: wish.stream.clone(), members });
    }
    if peers.len() == 1 {
        return Err(AdoptError::OnlyReplica(wish.stream.clone()));
    }
    let down = peers.iter().filter(|id| {
        let runs = known.get(id).is_some_and(|name| alive.contains(*name));
        // A replica that was brought up to date needs no more than names.
        **id != me && !(runs || wish.resumes && known.contains_key(id))
    });
    let down: Vec<String> = down.map(name_of).collect();
    if !down.is_empty() {
        return Err(AdoptError::Missing { down: down.join(", ") });
    }
    let bad = |error| AdoptError::Meta(format!("{error}"));
    let name = GroupName::new(stream.group.name.clone()).map_err(bad)?;
    let kind = GroupKind::Stream(stream.config);
    Ok(Role { group: GroupConfig { name, members, kind }, sync: Subject::from(stream.sync) })
}

/// The assignment that is meant, if we can act on it.
fn find(assigned: Vec<StreamAssignment>, wish: &Wish) -> Result<StreamAssignment, AdoptError> {
    let account = |one: &StreamAssignment| {
        one.client.as_ref().map_or_else(String::new, |client| client.service_account().to_owned())
    };
    let meant = |one: &StreamAssignment| {
        one.config.name == wish.stream
            && wish.account.as_ref().is_none_or(|wanted| *wanted == account(one))
    };
    let mut found: Vec<_> = assigned.into_iter().filter(meant).collect();
    if found.len() > 1 {
        let accounts: Vec<_> = found.iter().map(account).collect();
        let (stream, accounts) = (wish.stream.clone(), accounts.join(", "));
        return Err(AdoptError::SeveralAccounts { stream, accounts });
    }
    let found = found.pop().ok_or_else(|| AdoptError::NoStream(wish.stream.clone()))?;
    let why = if let Some(unsupported) = &found.unsupported {
        Some(format!("{unsupported:?}"))
    } else if found.config.mirror.is_some() || !found.config.sources.is_empty() {
        Some("it is a mirror, or has sources".into())
    } else {
        None
    };
    match why {
        Some(why) => Err(AdoptError::Unsupported { stream: wish.stream.clone(), why }),
        None => Ok(found),
    }
}

/// A connection that does not do what it should.
fn failed(error: impl std::fmt::Display) -> AdoptError {
    AdoptError::Connection(error.to_string())
}
