//! How a group describes itself: upstream's words for who leads and how far the others are, and
//! what this replica knows besides in a field of its own.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::machine::{Group, Machine};
use crate::cluster::info::{View, cluster_info};
use crate::consumer::Consumer;
use crate::context::Context;
use crate::event::Standing;
use crate::ids::{LogSize, PeerId};
use crate::limits::Timers;
use crate::raft::{Health, Lacking, Raft, Status};
use crate::stream::Stream;
use crate::stream::catchup::peers::CatchupPeers;
use crate::time::{Duration, Time};
use crate::wire::{
    ClusterInfo, ConsumerInfo, ConsumerInfoResponse, GoTime, ResponseType, SequenceActivity,
    SequencePair, StreamInfo, StreamInfoResponse,
};

/// What a group needs to know of its node to describe itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) of_peers: &'a BTreeMap<PeerId, String>,
    /// The cluster's; empty if it has none.
    pub(super) cluster: &'a str,
}

impl Group {
    /// Whether the group has here what it has elsewhere.
    pub(super) fn health(&self, now: Time, timers: &Timers) -> Health {
        let raft = self.raft.health_at(now, timers.heartbeat * 2);
        match (&self.machine, raft) {
            // Who lacks messages lacks applied records too: say what they wait for.
            (Machine::Stream(stream), Health::Healthy | Health::Applying { .. })
                if stream.is_catching_up() =>
            {
                let progress = stream.catchup(now);
                let (done, left) =
                    progress.map_or((0, 0), |progress| (progress.done, progress.left));
                let of = done.saturating_add(left);
                Health::CatchingUp { what: Lacking::Messages, done, of }
            }
            (Machine::Stream(stream), Health::Healthy | Health::Applying { .. })
                if !stream.is_open() =>
            {
                Health::Opening
            }
            (_, raft) => raft,
        }
    }

    /// Upstream's stream info of a stream, of other groups its part that says who leads; with what
    /// this replica knows besides in the field `jetwake`.
    pub(super) fn describe(&self, context: &Context<'_>, names: Names<'_>) -> Bytes {
        let mut own = self.group_info(context, names, &self.raft.status());
        let json = match &self.machine {
            Machine::Stream(stream) => {
                add_stream_info(&mut own, stream, context.now);
                let info = stream_info(stream, &self.raft, (context.now, context.timers), names);
                StreamInfoResponse::info(ResponseType::StreamInfo, info).to_bytes()
            }
            Machine::Consumer(consumer) => {
                let timing = (context.now, context.timers);
                let info = consumer_info(consumer, &self.raft, timing, names);
                ConsumerInfoResponse::info(ResponseType::ConsumerInfo, info).to_bytes()
            }
            Machine::Plain(_) | Machine::Meta(_) => {
                let timing = (context.now, context.timers);
                let cluster = cluster(&self.raft, &CatchupPeers::default(), timing, names);
                serde_json::to_vec(&json!({ "cluster": cluster })).unwrap_or_default().into()
            }
        };
        let own = own.to_string();
        let mut out = BytesMut::with_capacity(json.len() + own.len() + 16);
        out.extend_from_slice(json.strip_suffix(b"}").unwrap_or(&json));
        out.extend_from_slice(b",\"jetwake\":");
        out.extend_from_slice(own.as_bytes());
        out.extend_from_slice(b"}");
        out.freeze()
    }

    /// What is said of any group.
    fn group_info(&self, context: &Context<'_>, names: Names<'_>, status: &Status) -> Value {
        let health = self.health(context.now, context.timers);
        let ago = |time| milliseconds(context.now.since(time));
        let name =
            |peer| names.of_peers.get(peer).cloned().unwrap_or_else(|| PeerId::to_string(peer));
        json!({
            "role": status.role.map(format_role),
            "term": status.term,
            "health": health.to_string(),
            "healthy": health.is_healthy(),
            "commit": status.commit,
            "processed": status.processed,
            "applied": status.machine_applied,
            "paused": status.paused,
            "log": {
                "first": status.first,
                "last": status.last.index,
                "durable": status.durable,
                "records": status.size.records,
                "bytes": status.size.bytes,
            },
            "compactable": size(status.compactable),
            "snapshot": status.snapshot.map(|at| json!({ "index": at.index, "term": at.term })),
            "leader_milliseconds": status.leader_since.map(ago),
            "quorum_heard_milliseconds": status.quorum_heard.map(ago),
            "log_catching_up": status.catching_up,
            "members": status.members.iter().map(name).collect::<Vec<_>>(),
            "cluster_size": status.cluster_size,
            "change": status.change,
            "joining": status.joining.as_ref().map(name),
            "observer": status.observer,
            "aside": status.aside,
            "impaired": impaired(status),
            "found": status.found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

/// What an impaired member lost, and what it waits for.
fn impaired(status: &Status) -> Option<Value> {
    let Standing::Impaired(impairment) = &status.standing else { return None };
    let found = impairment.found.iter().map(ToString::to_string);
    Some(json!({
        "lost": impairment.lost.to_string(),
        "found": found.collect::<Vec<_>>(),
        "waits": status.repair,
    }))
}

fn format_role(role: crate::command::Role) -> String {
    alloc::format!("{role:?}").to_lowercase()
}

fn size(size: LogSize) -> Value {
    json!({ "records": size.records, "bytes": size.bytes })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Upstream's stream info.
pub(super) fn stream_info(
    stream: &Stream,
    raft: &Raft,
    (now, timers): (Time, &Timers),
    names: Names<'_>,
) -> StreamInfo {
    StreamInfo {
        config: stream.config().clone(),
        state: stream.info(),
        domain: stream.domain().into(),
        cluster: Some(cluster(raft, stream.catchup_peers(), (now, timers), names)),
        gathered: GoTime::from_time(now),
        ..StreamInfo::default()
    }
}

/// Upstream's consumer info, as far as a replica knows it: not what waits to be delivered.
pub(super) fn consumer_info(
    consumer: &Consumer,
    raft: &Raft,
    (now, timers): (Time, &Timers),
    names: Names<'_>,
) -> ConsumerInfo {
    let at = |pair: SequencePair| SequenceActivity {
        consumer_seq: pair.consumer.get(),
        stream_seq: pair.stream.get(),
        last_active: None,
    };
    let (config, state) = (consumer.config(), consumer.state());
    let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    let pause = consumer.paused_until(now).map(|until| until.since(now));
    let nanos = |pause: Duration| i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
    ConsumerInfo {
        name: config.name.clone(),
        config: Some(config.clone()),
        delivered: at(state.delivered),
        ack_floor: at(state.ack_floor),
        num_ack_pending: count(state.pending.len()),
        num_redelivered: count(state.redelivered.len()),
        cluster: Some(cluster(raft, &CatchupPeers::default(), (now, timers), names)),
        paused: pause.is_some(),
        pause_remaining: pause.map_or(0, nanos),
        gathered: GoTime::from_time(now),
        ..ConsumerInfo::default()
    }
}

fn cluster(
    raft: &Raft,
    catchups: &CatchupPeers,
    (now, timers): (Time, &Timers),
    names: Names<'_>,
) -> ClusterInfo {
    cluster_info(View {
        now,
        lost_quorum: timers.lost_quorum,
        names: names.of_peers,
        cluster: names.cluster,
        group: raft.name().as_str(),
        status: &raft.status(),
        catchups,
    })
}

fn add_stream_info(own: &mut Value, stream: &Stream, now: Time) {
    let log_current = own["log_catching_up"] == false;
    own["applied"] = json!(stream.applied());
    own["open"] = json!(stream.is_open());
    own["current"] = json!(stream.is_current() && log_current);
    own["catchup"] = json!(stream.catchup(now).map(|catchup| json!({
        "phase": catchup.phase,
        "done": catchup.done,
        "left": catchup.left,
        "bytes": catchup.bytes,
        "milliseconds": milliseconds(catchup.elapsed),
        "retried": catchup.retried,
    })));
    if own["aside"].is_null() {
        own["aside"] = json!(stream.stopped());
    }
    own["digest"] = json!(alloc::format!("{:016x}", stream.digest()));
}
