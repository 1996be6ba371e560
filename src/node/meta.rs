//! The meta group in a node: between its consensus and its machine, and what its clients are told.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::info::Names;
use super::machine::{Group, Machine};
use super::refusal as not_proposed;
use crate::cluster::api::{self, ApiRequest};
use crate::cluster::info::assigned_cluster_info;
use crate::cluster::meta::{Changes, Meta, decode};
use crate::cluster::servers::{Server, Servers};
use crate::cluster::wishes::{Asked, Waiting};
use crate::command::{Answer, Report};
use crate::context::Context;
use crate::ids::{LoadId, PeerId, RequestId};
use crate::limits::Timers;
use crate::raft::Committed;
use crate::time::Time;
use crate::wire::{
    ApiError, ApiResponse, AppendEntry, ClientInfo, ConsumerInfo, ConsumerInfoResponse,
    ConsumerPauseResponse, EntryKind, GoTime, ResponseType, StreamInfo, StreamInfoResponse,
};

impl Group {
    /// The machine, if this is the meta group.
    pub(super) fn meta(&self) -> Option<&Meta> {
        match &self.machine {
            Machine::Meta(meta) => Some(meta),
            _ => None,
        }
    }

    /// What the meta group wants done on this server.
    pub(super) fn take_changes(&mut self) -> Option<Changes> {
        match &mut self.machine {
            Machine::Meta(meta) => meta.take_changes(),
            _ => None,
        }
    }

    /// A stream that is assigned here cannot run.
    pub(super) fn stop_stream(
        &mut self,
        key: &crate::cluster::assignments::StreamKey,
        why: String,
    ) {
        if let Machine::Meta(meta) = &mut self.machine {
            meta.stop_stream(key, why);
        }
    }

    /// Whether a server is a member.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        self.raft.members().contains(&peer)
    }

    /// A member told of itself.
    pub(super) fn server_told(&mut self, peer: PeerId, server: Server) {
        if let Machine::Meta(meta) = &mut self.machine {
            meta.told(peer, server);
        }
    }

    /// Lets the machine do what it gathered, and tells the group how far it is.
    pub(super) fn settle_meta(&mut self, context: &Context<'_>) {
        let Machine::Meta(meta) = &mut self.machine else { return };
        meta.settle(context.now, self.raft.is_current());
        self.raft.machine_processed(meta.applied(), meta.settled());
    }

    /// Records of the log, for the consensus; those of the first reading name what the run before had
    /// open.
    pub(super) fn handle_loaded(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        records: &[Bytes],
    ) {
        if let Machine::Meta(meta) = &mut self.machine
            && self.raft.is_opening()
        {
            // What cannot be read is refused below.
            for entry in records.iter().filter_map(|record| AppendEntry::decode(record).ok()) {
                let normal = entry.entries.iter().filter(|part| part.kind == EntryKind::Normal);
                let index = entry.previous_index.next();
                normal.for_each(|part| meta.found(index, &part.data, context.limits));
            }
        }
        self.raft.handle_loaded(context, load, records);
    }

    /// Begins a snapshot of what is assigned; whether it did.
    pub(super) fn snapshot_meta(&mut self, context: &mut Context<'_>) -> bool {
        let Machine::Meta(meta) = &self.machine else { return false };
        let taken = match meta.snapshot() {
            Ok(data) => self.raft.take_snapshot(context, meta.settled(), data, true),
            Err(error) => Err(crate::command::SnapshotRefusal::Unreadable(format!("{error}"))),
        };
        if let Err(why) = &taken {
            context.out.report(self.id, Report::SnapshotRefused(why.clone()));
        }
        taken.is_ok()
    }

    pub(super) fn apply_assignments(&mut self, context: &mut Context<'_>, committed: &Committed) {
        let own = self.leading == Some(committed.entry.term);
        let Machine::Meta(meta) = &mut self.machine else { return };
        let normal = committed.entry.entries.iter().filter(|part| part.kind == EntryKind::Normal);
        let entries = normal.map(|part| part.data);
        match meta.apply(committed.index, entries, own, context.limits) {
            Ok(waiting) => {
                for one in waiting {
                    self.answer_wish(context, &one);
                }
            }
            Err(error) => self.raft.stop(context, format!("record {}: {error}", committed.index)),
        }
    }

    pub(super) fn meta_leadership_changed(&mut self, context: &mut Context<'_>, leads: bool) {
        let Machine::Meta(meta) = &mut self.machine else { return };
        for one in meta.leadership_lost() {
            let answer = api::refusal(one.kind, ApiError::CLUSTER_NOT_AVAIL);
            context.out.answer(one.request, Answer::Json(answer));
        }
        if leads {
            meta.leadership_gained(context.now);
        }
    }

    /// An entry that a client hands to whoever leads.
    pub(super) fn forward_assignment(
        &mut self,
        context: &mut Context<'_>,
        payload: &Bytes,
    ) -> Result<(), ApiError> {
        // What nobody could apply must not be committed.
        decode(payload, context.limits)
            .map_err(|error| ApiError::INVALID_JSON.with(&[("err", &error)]))?;
        if !self.raft.leads() {
            return self.raft.forward(context, payload.clone()).map_err(not_proposed);
        }
        self.propose_assignment(context, payload).map_err(not_proposed)?;
        if let Machine::Meta(meta) = &mut self.machine {
            meta.forwarded();
        }
        Ok(())
    }

    /// An entry that another member hands to its leader.
    pub(super) fn take_forwarded_assignment(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        payload: &Bytes,
    ) -> Result<(), String> {
        decode(payload, context.limits).map_err(|error| format!("{error}"))?;
        self.raft.take_forwarded(context, from, payload)?;
        if let Machine::Meta(meta) = &mut self.machine {
            meta.forwarded();
        }
        Ok(())
    }

    fn propose_assignment(
        &mut self,
        context: &Context<'_>,
        entry: &Bytes,
    ) -> Result<(), crate::raft::ProposeError> {
        let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(entry);
        self.raft.propose(context, EntryKind::Normal, entry.len(), encode)
    }

    /// A client's wish: decided on, and answered when that is committed.
    pub(super) fn take_wish(
        &mut self,
        context: &mut Context<'_>,
        names: Names<'_>,
        id: RequestId,
        (client, subject, payload): (&Bytes, &Bytes, &Bytes),
    ) {
        let request = match ApiRequest::parse(subject, payload, context.limits) {
            Ok(request) => request,
            Err(refused) => return context.out.answer(id, Answer::Json(refused.to_bytes())),
        };
        let kind = request.response_type();
        if let Err(error) = self.decide(context, names, id, (client, subject), request) {
            context.out.answer(id, Answer::Json(api::refusal(kind, error)));
        }
    }

    fn decide(
        &mut self,
        context: &mut Context<'_>,
        names: Names<'_>,
        request: RequestId,
        (client, subject): (&Bytes, &Bytes),
        wish: ApiRequest,
    ) -> Result<(), ApiError> {
        let client = read_client(client, context)?;
        if !self.raft.leads() {
            return Err(ApiError::CLUSTER_NOT_LEADER);
        }
        let servers = self.servers(context.now, context.timers, names);
        let members: Vec<_> = self.raft.members().iter().collect();
        let Machine::Meta(meta) = &self.machine else { return Err(ApiError::BAD_REQUEST) };
        if meta.in_flight() >= context.limits.meta_requests {
            return Err(ApiError::INSUFFICIENT_RESOURCES);
        }
        let asked = Asked {
            request,
            client: &client,
            subject: core::str::from_utf8(subject).unwrap_or_default(),
            members: &members,
            servers: &servers,
            now: GoTime::from_time(context.now),
        };
        let (decided, waiting) = meta.decide(wish, asked, context.random)?;
        self.propose_assignment(context, &decided.to_bytes()).map_err(not_proposed)?;
        if let Machine::Meta(meta) = &mut self.machine {
            meta.proposed(decided, waiting);
        }
        Ok(())
    }

    /// What is known of the members: those that a leader heard lately are online.
    pub(super) fn servers(&self, now: Time, timers: &Timers, names: Names<'_>) -> Servers {
        let status = self.raft.status();
        let heard = |heard: Time| now.since(heard) < timers.lost_quorum;
        let others = status.peers.iter().filter(|peer| peer.heard.is_some_and(heard));
        let online: BTreeSet<PeerId> =
            others.map(|peer| peer.peer).chain([self.raft.me()]).collect();
        let named = |peer: PeerId| (peer, names.of_peers.get(&peer).cloned().unwrap_or_default());
        let members = status.members.into_iter().map(named);
        self.meta().map(|meta| meta.servers(members, &online)).unwrap_or_default()
    }

    /// Tells a client that its wish is committed.
    fn answer_wish(&self, context: &mut Context<'_>, waiting: &Waiting) {
        let answer = match self.outcome(context.now, waiting) {
            Ok(answer) => answer,
            Err(error) => api::refusal(waiting.kind, error),
        };
        context.out.answer(waiting.request, Answer::Json(answer));
    }

    fn outcome(&self, now: Time, waiting: &Waiting) -> Result<Bytes, ApiError> {
        let kind = waiting.kind;
        if matches!(kind, ResponseType::StreamDelete | ResponseType::ConsumerDelete) {
            return Ok(ApiResponse::success(kind).to_bytes());
        }
        let meta = self.meta().ok_or(ApiError::CLUSTER_NOT_AVAIL)?;
        let stream = meta.assignments().stream(&waiting.stream);
        let stream = stream.ok_or(ApiError::STREAM_NOT_FOUND)?;
        if let Some(why) = stream.offline() {
            return Err(ApiError::STREAM_OFFLINE_REASON.with(&[("err", &why)]));
        }
        let gathered = GoTime::from_time(now);
        let Some(consumer) = &waiting.consumer else {
            let info = assigned_stream(&stream.assignment, gathered);
            let mut response = StreamInfoResponse::info(kind, info);
            response.did_create = kind == ResponseType::StreamCreate && waiting.new;
            return Ok(response.to_bytes());
        };
        let consumer = stream.consumer(consumer).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
        if kind == ResponseType::ConsumerPause {
            let until = consumer.assignment.config.pause_until.unwrap_or_default();
            return Ok(ConsumerPauseResponse::until(until, gathered).to_bytes());
        }
        let info = assigned_consumer(&consumer.assignment, gathered);
        Ok(ConsumerInfoResponse::info(kind, info).to_bytes())
    }
}

/// Who asks, if that was said.
pub(super) fn read_client(
    client: &Bytes,
    context: &Context<'_>,
) -> Result<Option<ClientInfo>, ApiError> {
    if client.is_empty() {
        return Ok(None);
    }
    let read = crate::wire::read_json("client_info", client, context.limits);
    read.map(Some).map_err(|error| ApiError::INVALID_JSON.with(&[("err", &error)]))
}

/// What is known of a stream that is assigned and not on this server, or not yet.
pub(super) fn assigned_stream(
    stream: &crate::wire::StreamAssignment,
    gathered: GoTime,
) -> StreamInfo {
    StreamInfo {
        config: stream.config.clone(),
        created: stream.created,
        cluster: Some(assigned_cluster_info(&stream.group)),
        gathered,
        ..StreamInfo::default()
    }
}

/// What is known of a consumer that is assigned.
pub(super) fn assigned_consumer(
    consumer: &crate::wire::ConsumerAssignment,
    gathered: GoTime,
) -> ConsumerInfo {
    ConsumerInfo {
        stream: consumer.stream.clone(),
        name: consumer.name.clone(),
        created: consumer.created,
        config: Some(consumer.config.clone()),
        cluster: Some(assigned_cluster_info(&consumer.group)),
        gathered,
        ..ConsumerInfo::default()
    }
}
