//! Questions of clients about streams and consumers, answered by the leader of the meta group from
//! what is assigned, and of what is on this server from what it holds.
//!
//! Upstream asks the others for what it does not hold; here such a stream is named among those that
//! are missing in a list, and told of without a state when it is asked for.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::Node;
use super::info::{Names, consumer_info, stream_info};
use super::machine::Machine;
use super::meta::{assigned_consumer, assigned_stream, read_client};
use crate::cluster::alternates::stream_alternates;
use crate::cluster::api::{self, ApiRequest, Part};
use crate::cluster::assignments::{Assigned, AssignedConsumer, StreamKey};
use crate::cluster::meta::Meta;
use crate::cluster::servers::Servers;
use crate::ids::GroupId;
use crate::subject::collide;
use crate::wire::{
    ApiError, ClientInfo, ConsumerInfo, ConsumerInfoResponse, ConsumerList, GoTime, Page,
    ResponseType, StreamInfo, StreamInfoResponse, StreamList, Untold,
};

/// Names in one answer (upstream: `JSApiNamesLimit`).
const NAMES: u64 = 1024;
/// Streams or consumers told of in one answer (upstream: `JSApiListLimit`).
const TOLD: u64 = 256;

/// What a question is answered from.
struct Asked<'a> {
    meta: &'a Meta,
    servers: Servers,
    client: ClientInfo,
    kind: ResponseType,
}

impl Node {
    /// The answer to a question; none to what is not one.
    pub(super) fn answer_question(
        &mut self,
        group: GroupId,
        (client, subject, payload): (&Bytes, &Bytes, &Bytes),
    ) -> Option<Bytes> {
        // What cannot be read is refused by who takes wishes.
        let question = ApiRequest::parse(subject, payload, &self.config.limits).ok()?;
        if !question.is_question() {
            return None;
        }
        let kind = question.response_type();
        let client = read_client(client, &self.context());
        let answer = client.and_then(|client| self.answer_to(group, client, question));
        Some(answer.unwrap_or_else(|error| api::refusal(kind, error)))
    }

    fn answer_to(
        &self,
        group: GroupId,
        client: Option<ClientInfo>,
        question: ApiRequest,
    ) -> Result<Bytes, ApiError> {
        let group = self.group_at(group).ok_or(ApiError::BAD_REQUEST)?;
        let meta = group.meta().ok_or(ApiError::BAD_REQUEST)?;
        if !group.raft.leads() {
            return Err(ApiError::CLUSTER_NOT_LEADER);
        }
        let servers = group.servers(self.now, &self.config.timers, self.names());
        let kind = question.response_type();
        let asked = Asked { meta, servers, client: client.unwrap_or_default(), kind };
        match question {
            ApiRequest::StreamInfo(name) => self.tell_stream(&asked, &asked.key(&name)),
            ApiRequest::StreamNames(part) => Ok(asked.stream_names(&part)),
            ApiRequest::StreamList(part) => Ok(self.list_streams(&asked, &part)),
            ApiRequest::ConsumerInfo { stream, consumer } => {
                self.tell_consumer(&asked, &stream, &consumer)
            }
            ApiRequest::ConsumerNames(stream, part) => asked.consumer_names(&stream, &part),
            ApiRequest::ConsumerList(stream, part) => self.list_consumers(&asked, &stream, &part),
            _ => Err(ApiError::BAD_REQUEST),
        }
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names { of_peers: &self.peers, cluster: &self.cluster }
    }

    fn gathered(&self) -> GoTime {
        GoTime::from_time(self.now)
    }

    fn tell_stream(&self, asked: &Asked<'_>, key: &StreamKey) -> Result<Bytes, ApiError> {
        let stream = asked.stream(key)?;
        if let Some(why) = stream.offline() {
            return Err(ApiError::STREAM_OFFLINE_REASON.with(&[("err", &why)]));
        }
        if asked.servers.all_offline(&stream.assignment.group.peers) {
            return Err(ApiError::STREAM_OFFLINE);
        }
        let info = self.held_stream(key, stream);
        let mut info = info.unwrap_or_else(|| assigned_stream(&stream.assignment, self.gathered()));
        let domain = &self.config.domain;
        info.alternates =
            stream_alternates(asked.meta.assignments(), &asked.client, &key.name, domain);
        info.domain.clone_from(domain);
        Ok(StreamInfoResponse::info(asked.kind, info).to_bytes())
    }

    /// What this server holds of a stream.
    fn held_stream(&self, key: &StreamKey, assigned: &Assigned) -> Option<StreamInfo> {
        let group = self.group_at(self.assigned_stream(key)?)?;
        let Machine::Stream(stream) = &group.machine else { return None };
        let timing = (self.now, &self.config.timers);
        let mut info = stream_info(stream, &group.raft, timing, self.names());
        info.created = assigned.assignment.created;
        info.state.consumer_count = assigned.consumers().count() as u64;
        Some(info)
    }

    fn list_streams(&self, asked: &Asked<'_>, part: &Part) -> Bytes {
        let (mut streams, mut untold) = (Vec::new(), Untold::default());
        let (page, named) = asked.page(asked.streams(part), part, TOLD);
        for (key, stream) in named {
            match (stream.offline(), self.held_stream(key, stream)) {
                (None, Some(info)) => streams.push(info),
                (offline, _) => untold.add(&key.name, offline),
            }
        }
        StreamList { response_type: asked.kind, page, streams, untold }.to_bytes()
    }

    fn tell_consumer(
        &self,
        asked: &Asked<'_>,
        stream: &str,
        consumer: &str,
    ) -> Result<Bytes, ApiError> {
        let there = asked.stream(&asked.key(stream))?;
        let consumer = there.consumer(consumer).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
        if let Some(why) = consumer.offline() {
            return Err(ApiError::CONSUMER_OFFLINE_REASON.with(&[("err", &why)]));
        }
        let peers = &consumer.assignment.group.peers;
        if there.offline().is_some() || asked.servers.all_offline(peers) {
            return Err(ApiError::CONSUMER_OFFLINE);
        }
        let info = self.told_consumer(&asked.key(stream), consumer);
        Ok(ConsumerInfoResponse::info(asked.kind, info).to_bytes())
    }

    /// What is known of a consumer: what this server holds of it, if it does.
    fn told_consumer(&self, key: &StreamKey, consumer: &AssignedConsumer) -> ConsumerInfo {
        let assigned = &consumer.assignment;
        let held = self.assigned_consumer(key, &assigned.name);
        let told = assigned_consumer(assigned, self.gathered());
        let Some(group) = held.and_then(|group| self.group_at(group)) else { return told };
        let Machine::Consumer(machine) = &group.machine else { return told };
        let timing = (self.now, &self.config.timers);
        let info = consumer_info(machine, &group.raft, timing, self.names());
        ConsumerInfo { stream: told.stream, name: told.name, created: told.created, ..info }
    }

    fn list_consumers(
        &self,
        asked: &Asked<'_>,
        stream: &str,
        part: &Part,
    ) -> Result<Bytes, ApiError> {
        let there = asked.stream(&asked.key(stream))?;
        let (mut consumers, mut untold) = (Vec::<ConsumerInfo>::new(), Untold::default());
        let (page, named) = asked.page(there.consumers().collect(), part, TOLD);
        for consumer in named {
            match (there.offline(), consumer.offline()) {
                (None, None) => {
                    consumers.push(self.told_consumer(&asked.key(stream), consumer));
                }
                (_, offline) => untold.add(&consumer.assignment.name, offline),
            }
        }
        Ok(ConsumerList { response_type: asked.kind, page, consumers, untold }.to_bytes())
    }
}

impl<'a> Asked<'a> {
    fn key(&self, name: &str) -> StreamKey {
        StreamKey { account: self.client.service_account().into(), name: name.into() }
    }

    fn stream(&self, key: &StreamKey) -> Result<&'a Assigned, ApiError> {
        self.meta.assignments().stream(key).ok_or(ApiError::STREAM_NOT_FOUND)
    }

    /// The streams that are asked for.
    fn streams(&self, part: &Part) -> Vec<(&'a StreamKey, &'a Assigned)> {
        let subject = part.subject.as_bytes();
        let takes = |stream: &Assigned| {
            let subjects = &stream.assignment.config.subjects;
            subject.is_empty() || subjects.iter().any(|one| collide(one.as_bytes(), subject))
        };
        let account = self.client.service_account().to_string();
        let all = self.meta.assignments().streams();
        all.filter(|(key, stream)| key.account == account && takes(stream)).collect()
    }

    /// A part of a list.
    fn page<T>(&self, all: Vec<T>, part: &Part, limit: u64) -> (Page, Vec<T>) {
        let total = all.len() as u64;
        let offset = part.offset.min(total);
        // No list is longer than memory.
        let (skip, most) = (offset as usize, limit as usize);
        let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
        let page = Page { total: number(total), offset: number(offset), limit: number(limit) };
        (page, all.into_iter().skip(skip).take(most).collect())
    }

    fn stream_names(&self, part: &Part) -> Bytes {
        let (page, named) = self.page(self.streams(part), part, NAMES);
        let streams: Vec<&String> = named.into_iter().map(|(key, _)| &key.name).collect();
        let untold = Untold::default();
        StreamList { response_type: self.kind, page, streams, untold }.to_bytes()
    }

    fn consumer_names(&self, stream: &str, part: &Part) -> Result<Bytes, ApiError> {
        let there = self.stream(&self.key(stream))?;
        let (page, named) = self.page(there.consumers().collect(), part, NAMES);
        let consumers: Vec<&String> = named.into_iter().map(|one| &one.assignment.name).collect();
        let untold = Untold::default();
        Ok(ConsumerList { response_type: self.kind, page, consumers, untold }.to_bytes())
    }
}
