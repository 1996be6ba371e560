//! How a cluster stands, from what its members say: groups, leaders, who is behind, catchups.
//!
//! Everything is bounded: of groups and catchups that came first the tap forgets once others come.

use std::collections::BTreeMap;

use async_nats::Message;
use jetwake::ids::PeerId;
use serde::{Deserialize, Serialize};

use crate::decode::{Bounded, Exchange, Heard, Said, UNKNOWN};

/// Microseconds that a catchup which has ended is still shown.
const SHOWN: u64 = 10_000_000;
/// Microseconds of silence after which a catchup counts as given up.
const GIVEN_UP: u64 = 30_000_000;
/// Members of one group that are remembered.
const MEMBERS: usize = 64;
/// Servers whose names are remembered.
const SERVERS: usize = 1024;

/// What was heard so far.
pub(super) struct Watch {
    exchange: Exchange,
    pub(super) groups: Bounded<String, Group>,
    /// By the inbox that they come to.
    pub(super) catchups: Bounded<String, Catchup>,
    servers: BTreeMap<String, Server>,
    pub(super) counts: Counts,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            exchange: Exchange::terse(),
            groups: Bounded::default(),
            catchups: Bounded::default(),
            servers: BTreeMap::new(),
            counts: Counts::default(),
        }
    }
}

/// How much was heard.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Messages that are not of the format of their subject.
    pub(super) malformed: u64,
    /// Messages on subjects that peers do not use.
    pub(super) unknown: u64,
    /// Times that messages were dropped here, since they came faster than they were read.
    pub(super) missed: u64,
}

/// A group, as its members tell.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Group {
    pub(super) leader: Option<String>,
    pub(super) term: u64,
    pub(super) last: u64,
    pub(super) commit: u64,
    pub(super) elections: u64,
    /// Why there was the last one.
    pub(super) why: Option<String>,
    /// The last record that each other member is known to have.
    pub(super) members: BTreeMap<String, u64>,
    /// Append entries a second.
    pub(super) rate: f64,
    #[serde(skip)]
    appended: u64,
    #[serde(skip)]
    appended_before: u64,
    /// When the leader was heard.
    #[serde(skip)]
    heard: u64,
    /// Whether the leader said that it hands over.
    #[serde(skip)]
    hands_over: bool,
}

/// A catchup of a log or of a stream.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Catchup {
    pub(super) of: &'static str,
    pub(super) group: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    /// Where it began, is, and will end: indexes of the log, or sequences.
    pub(super) first: u64,
    pub(super) at: u64,
    pub(super) last: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) began_us: u64,
    pub(super) heard_us: u64,
    pub(super) done: bool,
}

impl Catchup {
    /// Bytes a second, from its first message to its last.
    pub(super) fn rate(&self) -> f64 {
        let time = self.heard_us.saturating_sub(self.began_us).max(1) as f64 / 1e6;
        self.bytes as f64 / time
    }
}

#[derive(Debug)]
struct Server {
    name: String,
    jetstream: bool,
}

/// What of a server's status message is looked at.
#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow)]
    server: StatusServer<'a>,
    statsz: Statsz,
}

#[derive(Deserialize)]
struct StatusServer<'a> {
    name: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Statsz {
    jetstream: Option<serde::de::IgnoredAny>,
}

impl Watch {
    /// A server told how it stands.
    pub(super) fn hear_status(&mut self, payload: &[u8]) {
        let Ok(status) = serde_json::from_slice::<Status<'_>>(payload) else { return };
        let name = status.server.name.into_owned();
        let peer = PeerId::from_name(&name).to_string();
        if self.servers.len() < SERVERS || self.servers.contains_key(&peer) {
            let jetstream = status.statsz.jetstream.is_some();
            self.servers.insert(peer, Server { name, jetstream });
        }
    }

    /// How many servers told how they stand.
    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Whether one of them has JetStream.
    pub(super) fn has_jetstream(&self) -> bool {
        self.servers.values().any(|server| server.jetstream)
    }

    /// A peer's name, if its server told it.
    pub(super) fn name<'a>(&'a self, peer: &'a str) -> &'a str {
        self.servers.get(peer).map_or(peer, |server| &server.name)
    }

    /// A message was heard; given back if it is one for the story.
    pub(super) fn hear(&mut self, us: u64, message: &Message) -> Option<Said> {
        let reply = message.reply.as_deref().unwrap_or_default();
        let heard = Heard { subject: &message.subject, reply };
        let mut said = self.exchange.hear(heard, &message.payload);
        self.counts.messages += 1;
        self.counts.bytes += message.payload.len() as u64;
        if said.kind == UNKNOWN {
            self.counts.unknown += 1;
            return None;
        }
        self.counts.malformed += u64::from(said.malformed);
        if said.malformed {
            return None;
        }
        let bytes = message.payload.len() as u64;
        let tell = match said.kind {
            "append_entry" if said.to.as_deref() == Some("all") => self.append_entry(us, &mut said),
            "append_entry" => self.catchup_of_log(us, heard, bytes, &said),
            "append_entry_response" => self.append_response(us, heard, &said),
            "vote_request" => self.vote_request(us, &mut said),
            "vote_response" => true,
            "sync_request" => self.sync_request(us, heard, &said),
            "catchup_message" => self.catchup_message(us, heard, bytes, &said),
            _ => said.alarming,
        };
        for peer in [&mut said.from, &mut said.to].into_iter().flatten() {
            if let Some(server) = self.servers.get(peer) {
                peer.clone_from(&server.name);
            }
        }
        tell.then_some(said)
    }

    fn append_entry(&mut self, us: u64, said: &mut Said) -> bool {
        let Some(name) = &said.group else { return false };
        let group = self.groups.get_or_default(name);
        let term = said.term.unwrap_or_default();
        if term < group.term && group.leader.is_some() {
            // Of what a known leader appends nothing is put into words.
            let what = if said.what.is_empty() { "appends" } else { &said.what };
            said.what = format!("{what}; the term is over");
            return true;
        }
        let new = group.leader != said.from || group.term != term;
        if new {
            group.leader.clone_from(&said.from);
            group.members.clear();
            said.what = format!("leads; {}", said.what);
        }
        group.term = term;
        group.last = group.last.max(said.index.unwrap_or_default());
        group.commit = group.commit.max(said.commit.unwrap_or_default());
        group.heard = us;
        group.hands_over = said.weighty && said.what.contains("leadership to");
        group.appended += u64::from(!said.routine);
        new || said.weighty
    }

    fn append_response(&mut self, us: u64, heard: Heard<'_>, said: &Said) -> bool {
        let (Some(name), Some(peer)) = (&said.group, &said.from) else { return said.alarming };
        let index = said.index.unwrap_or_default();
        if let Some(group) = self.groups.get_mut(name)
            && (group.members.len() < MEMBERS || group.members.contains_key(peer))
        {
            group.members.insert(peer.clone(), index);
        }
        if said.alarming && !heard.reply.is_empty() {
            let last = self.groups.get(name).map_or(0, |group| group.last);
            let catchup = Catchup {
                of: "log",
                group: said.group.clone(),
                from: said.to.clone(),
                to: said.from.clone(),
                first: index,
                at: index,
                last,
                began_us: us,
                heard_us: us,
                ..Catchup::default()
            };
            self.catchups.insert(heard.reply.to_owned(), catchup);
        }
        said.alarming
    }

    fn vote_request(&mut self, us: u64, said: &mut Said) -> bool {
        let Some(name) = &said.group else { return false };
        let group = self.groups.get_or_default(name);
        group.elections += 1;
        let leader = group.leader.clone();
        let silent = us.saturating_sub(group.heard) as f64 / 1e6;
        let why = match leader.as_deref() {
            Some(leader) if group.hands_over => {
                format!("{} hands over", name_in(&self.servers, leader))
            }
            Some(leader) => {
                format!("{} is silent since {silent:.3} s", name_in(&self.servers, leader))
            }
            None => "nobody is known to lead".to_owned(),
        };
        said.what = format!("{}; {why}", said.what);
        group.why = Some(why);
        true
    }

    fn catchup_of_log(&mut self, us: u64, heard: Heard<'_>, bytes: u64, said: &Said) -> bool {
        let Some(catchup) = self.catchups.get_mut(heard.subject) else { return false };
        catchup.messages += 1;
        catchup.bytes += bytes;
        catchup.heard_us = us;
        catchup.from.clone_from(&said.from);
        catchup.at = catchup.at.max(said.index.unwrap_or_default());
        let first = catchup.messages == 1;
        let over = catchup.at >= catchup.last && !catchup.done;
        catchup.done |= over;
        first || over || said.weighty
    }

    fn sync_request(&mut self, us: u64, heard: Heard<'_>, said: &Said) -> bool {
        let first = said.index.unwrap_or_default();
        let last = first.saturating_add(said.gap.unwrap_or_default()).saturating_sub(1);
        let catchup = Catchup {
            of: "stream",
            group: said.group.clone(),
            from: said.to.clone(),
            to: said.from.clone(),
            first,
            at: first.saturating_sub(1),
            last,
            began_us: us,
            heard_us: us,
            ..Catchup::default()
        };
        self.catchups.insert(heard.reply.to_owned(), catchup);
        true
    }

    fn catchup_message(&mut self, us: u64, heard: Heard<'_>, bytes: u64, said: &Said) -> bool {
        let Some(catchup) = self.catchups.get_mut(heard.subject) else { return false };
        catchup.heard_us = us;
        if said.ends {
            catchup.done = true;
            return true;
        }
        catchup.messages += 1;
        catchup.bytes += bytes;
        catchup.at = catchup.at.max(said.index.unwrap_or_default());
        said.alarming
    }

    /// Time passes.
    pub(super) fn beat(&mut self, us: u64) {
        let beat = super::BEAT.as_secs_f64();
        self.groups.retain(|_, group| {
            group.rate = (group.appended - group.appended_before) as f64 / beat;
            group.appended_before = group.appended;
            true
        });
        self.catchups.retain(|_, catchup| {
            let kept = if catchup.done { SHOWN } else { GIVEN_UP };
            us.saturating_sub(catchup.heard_us) < kept
        });
    }
}

fn name_in<'a>(servers: &'a BTreeMap<String, Server>, peer: &'a str) -> &'a str {
    servers.get(peer).map_or(peer, |server| &server.name)
}
