//! What the leader of the meta group makes of a client's wish: a decision, with what is in flight
//! counted, and who waits for its commit.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use bytes::Bytes;

use super::api::ApiRequest;
use super::assignments::StreamKey;
use super::consumer_check::ConsumerBounds;
use super::consumer_request::{self, ConsumerRequest};
use super::inflight::Foresight;
use super::levels::note_consumer_level;
use super::meta::Meta;
use super::servers::Servers;
use super::stream_request::{self, StreamRequest};
use crate::ids::{PeerId, RequestId};
use crate::random::Random;
use crate::wire::{
    ApiError, ClientInfo, ConsumerAssignment, ConsumerChange, GoTime, ResponseType,
    StreamAssignment, StreamChange, StreamConfig,
};

/// A proposal that a leader decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// About a stream.
    Stream(StreamChange, Box<StreamAssignment>),
    /// About a consumer.
    Consumer(ConsumerChange, Box<ConsumerAssignment>),
}

impl Decided {
    /// The entry to propose.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Stream(change, stream) => stream.to_bytes(*change),
            // Upstream compresses what it proposes for a new consumer.
            Self::Consumer(ConsumerChange::Assign, consumer) => consumer.encode_assign_compressed(),
            Self::Consumer(change, consumer) => consumer.to_bytes(*change),
        }
    }
}

/// A client that waits for its wish to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its request.
    pub request: RequestId,
    /// The type of its answer.
    pub kind: ResponseType,
    /// The stream that it is about.
    pub stream: StreamKey,
    /// The consumer that it is about, if it is about one.
    pub consumer: Option<String>,
    /// Whether what it wished for was not there before.
    pub new: bool,
}

/// A request and what a decision on it rests on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub request: RequestId,
    /// Who asks.
    pub client: &'a Option<ClientInfo>,
    /// The subject that it asked on.
    pub subject: &'a str,
    /// The members of the meta group.
    pub members: &'a [PeerId],
    /// The servers.
    pub servers: &'a Servers,
    /// Now.
    pub now: GoTime,
}

impl Meta {
    /// Decides on a wish: what to propose, and what its client waits for.
    ///
    /// # Errors
    /// What upstream refuses it with.
    pub fn decide(
        &self,
        request: ApiRequest,
        asked: Asked<'_>,
        random: &mut Random,
    ) -> Result<(Decided, Waiting), ApiError> {
        let kind = request.response_type();
        let foresight = Foresight { assignments: &self.assignments, inflight: &self.inflight };
        let account = asked.client.as_ref().map_or("", |client| client.service_account());
        let key = |name: &str| StreamKey { account: account.into(), name: name.into() };
        let waiting = |stream: StreamKey, consumer: Option<String>| Waiting {
            request: asked.request,
            kind,
            new: match &consumer {
                Some(name) => foresight.consumer(&stream, name).is_none(),
                None => foresight.stream(&stream).is_none(),
            },
            stream,
            consumer,
        };
        let grounds = stream_request::Grounds {
            foresight,
            members: asked.members,
            servers: asked.servers,
            cluster: &self.config.cluster,
            unique_tag: &self.config.unique_tag,
            most_replicated_assets: self.config.most_replicated_assets,
            now: asked.now,
        };
        let client = asked.client.clone();
        let subject = asked.subject.to_string();
        let wish = |config: Box<StreamConfig>, pedantic| StreamRequest {
            key: key(&config.name),
            config: *config,
            pedantic,
            client: client.clone(),
            subject: subject.clone(),
        };
        match request {
            ApiRequest::CreateStream { config, pedantic } => {
                let wish = wish(config, pedantic);
                let waits = waiting(wish.key.clone(), None);
                let stream = stream_request::create(wish, grounds, random)?;
                Ok((Decided::Stream(StreamChange::Assign, Box::new(stream)), waits))
            }
            ApiRequest::UpdateStream { config, pedantic } => {
                let wish = wish(config, pedantic);
                let waits = waiting(wish.key.clone(), None);
                let stream = stream_request::update(wish, grounds)?;
                Ok((Decided::Stream(StreamChange::Update, Box::new(stream)), waits))
            }
            ApiRequest::DeleteStream(name) => {
                let stream = stream_request::remove(&key(&name), client, foresight)?;
                let waits = waiting(key(&name), None);
                Ok((Decided::Stream(StreamChange::Remove, Box::new(stream)), waits))
            }
            ApiRequest::CreateConsumer { stream, config, action, pedantic } => {
                let stream = key(&stream);
                self.check_online(&stream)?;
                let wish = ConsumerRequest {
                    stream: stream.clone(),
                    config: *config,
                    action,
                    pedantic,
                    client,
                    subject,
                    reply: String::new(),
                };
                let grounds = consumer_request::Grounds {
                    foresight,
                    servers: asked.servers,
                    bounds: ConsumerBounds::default(),
                    most_replicated_assets: self.config.most_replicated_assets,
                    leader: None,
                    bound: false,
                    now: asked.now,
                };
                let consumer = consumer_request::decide(wish, grounds, random)?;
                let waits = waiting(stream, Some(consumer.name.clone()));
                Ok((Decided::Consumer(ConsumerChange::Assign, Box::new(consumer)), waits))
            }
            ApiRequest::PauseConsumer { stream, consumer, until } => {
                let stream = key(&stream);
                let paused = self.paused(&stream, &consumer, until)?;
                let waits = waiting(stream, Some(consumer));
                Ok((Decided::Consumer(ConsumerChange::Assign, Box::new(paused)), waits))
            }
            ApiRequest::DeleteConsumer { stream, consumer } => {
                let stream = key(&stream);
                let there = self.assignments.stream(&stream).ok_or(ApiError::STREAM_NOT_FOUND)?;
                let there = there.consumer(&consumer).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
                let client = client.or_else(|| there.assignment.client.clone());
                let removal = ConsumerAssignment { client, ..there.assignment.clone() };
                let waits = waiting(stream, Some(consumer));
                Ok((Decided::Consumer(ConsumerChange::Remove, Box::new(removal)), waits))
            }
            _ => Err(ApiError::BAD_REQUEST),
        }
    }

    /// A consumer that pauses until then. Upstream: `jsConsumerPauseRequest` in
    /// `server/jetstream_api.go`; it leaves requests unanswered for what is offline.
    fn paused(
        &self,
        stream: &StreamKey,
        consumer: &str,
        until: GoTime,
    ) -> Result<ConsumerAssignment, ApiError> {
        let assigned = self.assignments.stream(stream).ok_or(ApiError::STREAM_NOT_FOUND)?;
        let there = assigned.consumer(consumer).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
        if let Some(why) = there.offline() {
            return Err(ApiError::CONSUMER_OFFLINE_REASON.with(&[("err", &why)]));
        }
        self.check_online(stream)?;
        // What was proposed since must not be taken back.
        let foresight = Foresight { assignments: &self.assignments, inflight: &self.inflight };
        let there = foresight.consumer(stream, consumer).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
        let mut paused = there.clone();
        paused.config.pause_until = (!until.is_zero()).then_some(until);
        note_consumer_level(&mut paused.config);
        Ok(paused)
    }

    /// A stream that is offline gets no consumers: nobody could start them.
    fn check_online(&self, key: &StreamKey) -> Result<(), ApiError> {
        match self.assignments.stream(key).and_then(|stream| stream.offline()) {
            Some(why) => Err(ApiError::STREAM_OFFLINE_REASON.with(&[("err", &why)])),
            None => Ok(()),
        }
    }

    /// How many proposals of this leadership are not committed yet.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// What was decided was proposed.
    pub fn proposed(&mut self, decided: Decided, waiting: Waiting) {
        match decided {
            Decided::Stream(change, stream) => {
                let proposed = (change != StreamChange::Remove).then_some(*stream);
                self.inflight.stream_proposed(waiting.stream.clone(), proposed);
            }
            Decided::Consumer(change, consumer) => {
                let name = consumer.name.clone();
                let proposed = (change == ConsumerChange::Assign).then_some(*consumer);
                self.inflight.consumer_proposed(waiting.stream.clone(), name, proposed);
            }
        }
        self.waiting.push_back(Some(waiting));
    }
}
