//! Streams and consumers assigned to servers: operations 0, 1, 2, 3, 9 and 11 of the meta group's
//! log.
//!
//! Upstream: `streamAssignment`, `consumerAssignment` and `raftGroup` in
//! `server/jetstream_cluster.go`, with their encoders and decoders.
//!
//! An assignment is never dropped because a newer server made it: one whose configuration we do
//! not understand is [`Unsupported`], keeps that configuration as it came, and stays offline.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::buffer::Buffer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api_level::{self, Unsupported};
use super::client_info::ClientInfo;
use super::consumer_config::ConsumerConfig;
use super::consumer_state::ConsumerState;
use super::error::{Fault, WireError};
use super::go_json::{self, Framing, is_zero};
use super::go_time::GoTime;
use super::op::Op;
use super::peer_text;
use super::s2_stream::{decode_stream, encode_stream};
use super::stream_config::{StorageType, StreamConfig};
use super::stream_info::StreamInfoState;
use crate::ids::PeerId;
use crate::limits::Limits;

/// A group without a name is none, which Go writes as `null`.
pub(super) mod group_or_null {
    use serde::{Deserializer, Serialize, Serializer};

    use super::super::go_json::{is_zero, null_as_default};
    use super::RaftGroup;

    pub(crate) fn serialize<S: Serializer>(
        group: &RaftGroup,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if is_zero(group) { serializer.serialize_none() } else { group.serialize(serializer) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<RaftGroup, D::Error> {
        null_as_default(deserializer)
    }
}

const STREAM: &str = "assign_stream";
const CONSUMER: &str = "assign_consumer";

/// The servers that hold a stream or consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaftGroup {
    /// The group's name.
    pub name: String,
    /// Its members.
    #[serde(with = "peer_text::list")]
    pub peers: Vec<PeerId>,
    /// Where its log is kept.
    #[serde(rename = "store")]
    pub storage: StorageType,
    /// The cluster that its members belong to.
    #[serde(skip_serializing_if = "is_zero")]
    pub cluster: String,
    /// The member that should lead first.
    #[serde(with = "peer_text", skip_serializing_if = "is_zero")]
    pub preferred: Option<PeerId>,
    /// Whether it grows, so that new members wait for the old ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub scale_up: bool,
    /// How often other members were wanted. Ours, and left out while there was no such wish: it tells
    /// the end of a change from that of an earlier one.
    #[serde(skip_serializing_if = "is_zero")]
    pub resizes: u64,
}

/// A stream, how it is meant to be, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamAssignment {
    /// Who asked for it.
    pub client: Option<ClientInfo>,
    /// When it was created.
    pub created: GoTime,
    /// How it is meant to be.
    pub config: StreamConfig,
    /// Where it is.
    pub group: RaftGroup,
    /// The subject where its leader serves catchups.
    pub sync: String,
    /// The subject of the request.
    pub subject: String,
    /// Where the answer goes.
    pub reply: String,
    /// What it holds to begin with, if it is restored.
    pub restore: Option<StreamInfoState>,
    /// Why it must not run here, if so.
    pub unsupported: Option<Unsupported>,
}

/// A consumer, how it is meant to be, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerAssignment {
    /// Who asked for it.
    pub client: Option<ClientInfo>,
    /// When it was created.
    pub created: GoTime,
    /// Its name.
    pub name: String,
    /// Its stream.
    pub stream: String,
    /// How it is meant to be.
    pub config: ConsumerConfig,
    /// Where it is.
    pub group: RaftGroup,
    /// The subject of the request.
    pub subject: String,
    /// Where the answer goes.
    pub reply: String,
    /// How far it is to begin with, if it is restored or moved.
    pub state: Option<ConsumerState>,
    /// Why it must not run here, if so.
    pub unsupported: Option<Unsupported>,
}

/// What an entry does to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamChange {
    /// It is to be (op 0).
    Assign,
    /// It is to be otherwise than before (op 11).
    Update,
    /// It is to be no more (op 2).
    Remove,
}

impl StreamChange {
    const fn framing(self) -> Framing {
        let op = match self {
            Self::Assign => Op::AssignStream,
            Self::Update => Op::UpdateStream,
            Self::Remove => Op::RemoveStream,
        };
        Framing::Operation(op.as_u8())
    }
}

/// What an entry does to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerChange {
    /// It is to be, as said (op 1); see also
    /// [`encode_assign_compressed`](ConsumerAssignment::encode_assign_compressed).
    Assign,
    /// It is to be no more (op 3).
    Remove,
    /// Its group has the members that it was to have, and these are they (op 254).
    Resized,
}

impl ConsumerChange {
    const fn framing(self) -> Framing {
        let op = match self {
            Self::Assign => Op::AssignConsumer,
            Self::Remove => Op::RemoveConsumer,
            Self::Resized => Op::ConsumerResized,
        };
        Framing::Operation(op.as_u8())
    }
}

/// What lies around a stream's configuration.
#[derive(Serialize, Deserialize)]
struct StreamEnvelope {
    #[serde(default, skip_serializing_if = "is_zero")]
    client: Option<ClientInfo>,
    #[serde(default)]
    created: GoTime,
    #[serde(rename = "stream")]
    config: Box<RawValue>,
    #[serde(default, with = "group_or_null")]
    group: RaftGroup,
    #[serde(default)]
    sync: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    subject: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    reply: String,
    #[serde(rename = "restore_state", default, skip_serializing_if = "is_zero")]
    restore: Option<StreamInfoState>,
}

/// What lies around a consumer's configuration.
#[derive(Serialize, Deserialize)]
struct ConsumerEnvelope {
    #[serde(default, skip_serializing_if = "is_zero")]
    client: Option<ClientInfo>,
    #[serde(default)]
    created: GoTime,
    #[serde(default)]
    name: String,
    #[serde(default)]
    stream: String,
    #[serde(rename = "consumer")]
    config: Box<RawValue>,
    #[serde(default, with = "group_or_null")]
    group: RaftGroup,
    #[serde(default, skip_serializing_if = "is_zero")]
    subject: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    reply: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    state: Option<ConsumerState>,
}

impl StreamAssignment {
    /// Reads an assignment, update or removal, its op included; [`Op::of`] tells which it is.
    ///
    /// A mirror's duplicate window is taken for zero, as upstream does for assignments that old
    /// servers made by mistake.
    ///
    /// # Errors
    /// Another op; a document that is too long, too deep or not this format. A configuration that
    /// we cannot act on is no error but [`unsupported`](Self::unsupported).
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let framing = framing_of(STREAM, bytes, &STREAM_OPS)?;
        let envelope: StreamEnvelope = go_json::decode(STREAM, framing, bytes, limits)?;
        let (mut config, unsupported): (StreamConfig, _) =
            api_level::read(&envelope.config).map_err(|error| config_error(STREAM, &error))?;
        if config.mirror.is_some() {
            config.duplicate_window = 0;
        }
        Ok(Self {
            client: envelope.client,
            created: envelope.created,
            config,
            group: envelope.group,
            sync: envelope.sync,
            subject: envelope.subject,
            reply: envelope.reply,
            restore: envelope.restore,
            unsupported,
        })
    }

    /// The assignment as upstream writes it, its op and newline included.
    pub fn encode_assign(&self) -> Bytes {
        self.to_bytes(StreamChange::Assign)
    }

    /// The update as upstream writes it, its op and newline included.
    pub fn encode_update(&self) -> Bytes {
        self.to_bytes(StreamChange::Update)
    }

    /// The removal as upstream writes it, its op and newline included.
    pub fn encode_remove(&self) -> Bytes {
        self.to_bytes(StreamChange::Remove)
    }

    /// How many bytes [`encode`](Self::encode) appends. Costs what that costs: the document is
    /// written to be counted.
    pub fn encoded_len(&self, change: StreamChange) -> usize {
        go_json::encoded_len(change.framing(), &self.envelope())
    }

    /// Appends the change as upstream writes it, its op and newline included. One growth at most;
    /// takes a few times the memory of the document, for the time of the call.
    pub fn encode(&self, change: StreamChange, buffer: &mut impl Buffer) {
        go_json::encode(change.framing(), &self.envelope(), buffer);
    }

    /// The change as [`encode`](Self::encode) writes it, in a buffer of its own.
    pub fn to_bytes(&self, change: StreamChange) -> Bytes {
        go_json::to_bytes(change.framing(), &self.envelope())
    }

    fn envelope(&self) -> StreamEnvelope {
        StreamEnvelope {
            client: self.client.as_ref().map(without_credentials),
            created: self.created,
            config: raw_config(&self.config, self.unsupported.as_ref()),
            group: self.group.clone(),
            sync: self.sync.clone(),
            subject: self.subject.clone(),
            reply: self.reply.clone(),
            restore: self.restore.clone(),
        }
    }
}

impl ConsumerAssignment {
    /// Reads an assignment, compressed or not, a removal, or the end of a change of its members, its op
    /// included; [`Op::of`] tells which it is.
    ///
    /// # Errors
    /// Another op; a compressed document that unpacks to more than [`Limits::decompressed`] or
    /// [`Limits::json`]; a document that is too long, too deep or not this format. A configuration
    /// that we cannot act on is no error but [`unsupported`](Self::unsupported).
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let framing = framing_of(CONSUMER, bytes, &CONSUMER_OPS)?;
        let envelope: ConsumerEnvelope =
            if framing == Framing::Operation(Op::AssignCompressedConsumer.as_u8()) {
                let limit = limits.decompressed.min(limits.json).get();
                let document = Bytes::from(decode_stream(&bytes.slice(1..), limit)?);
                go_json::decode(CONSUMER, Framing::Bare, &document, limits)?
            } else {
                go_json::decode(CONSUMER, framing, bytes, limits)?
            };
        let (config, unsupported) =
            api_level::read(&envelope.config).map_err(|error| config_error(CONSUMER, &error))?;
        Ok(Self {
            client: envelope.client,
            created: envelope.created,
            name: envelope.name,
            stream: envelope.stream,
            config,
            group: envelope.group,
            subject: envelope.subject,
            reply: envelope.reply,
            state: envelope.state,
            unsupported,
        })
    }

    /// The assignment as upstream writes it, its op and newline included.
    pub fn encode_assign(&self) -> Bytes {
        self.to_bytes(ConsumerChange::Assign)
    }

    /// The removal as upstream writes it, its op and newline included.
    pub fn encode_remove(&self) -> Bytes {
        self.to_bytes(ConsumerChange::Remove)
    }

    /// How many bytes [`encode`](Self::encode) appends. Costs what that costs: the document is
    /// written to be counted.
    pub fn encoded_len(&self, change: ConsumerChange) -> usize {
        go_json::encoded_len(change.framing(), &self.envelope())
    }

    /// Appends the change as upstream writes it, its op and newline included. One growth at most;
    /// takes a few times the memory of the document, for the time of the call.
    pub fn encode(&self, change: ConsumerChange, buffer: &mut impl Buffer) {
        go_json::encode(change.framing(), &self.envelope(), buffer);
    }

    /// The change as [`encode`](Self::encode) writes it, in a buffer of its own.
    pub fn to_bytes(&self, change: ConsumerChange) -> Bytes {
        go_json::to_bytes(change.framing(), &self.envelope())
    }

    /// The assignment as a compressed stream, its op included. What it unpacks to is what
    /// upstream writes; the compressed bytes may differ.
    pub fn encode_assign_compressed(&self) -> Bytes {
        let mut document = BytesMut::new();
        go_json::encode(Framing::Bare, &self.envelope(), &mut document);
        document.put_u8(b'\n');
        let mut out = BytesMut::with_capacity(1 + document.len());
        out.put_u8(Op::AssignCompressedConsumer.as_u8());
        encode_stream(&document, &mut out);
        out.freeze()
    }

    fn envelope(&self) -> ConsumerEnvelope {
        ConsumerEnvelope {
            client: self.client.as_ref().map(without_credentials),
            created: self.created,
            name: self.name.clone(),
            stream: self.stream.clone(),
            config: raw_config(&self.config, self.unsupported.as_ref()),
            group: self.group.clone(),
            subject: self.subject.clone(),
            reply: self.reply.clone(),
            state: self.state.clone(),
        }
    }
}

const STREAM_OPS: [Op; 3] = [Op::AssignStream, Op::UpdateStream, Op::RemoveStream];
const CONSUMER_OPS: [Op; 4] =
    [Op::AssignConsumer, Op::RemoveConsumer, Op::AssignCompressedConsumer, Op::ConsumerResized];

/// The framing of a message whose op is one of these.
fn framing_of(format: &'static str, bytes: &Bytes, ops: &[Op]) -> Result<Framing, WireError> {
    let op = Op::of(bytes)?;
    if ops.contains(&op) {
        return Ok(Framing::Operation(op.as_u8()));
    }
    let fault = Fault::Value { expected: "an op of this format", found: u64::from(op.as_u8()) };
    Err(WireError { format, field: "op", offset: 0, fault })
}

/// Who asked, without what others need not keep. Upstream: `forProposal`.
fn without_credentials(client: &ClientInfo) -> ClientInfo {
    ClientInfo { jwt: String::new(), issuer_key: String::new(), ..client.clone() }
}

/// A configuration as JSON: as it came where we do not understand it, else anew.
pub(super) fn raw_config<C: Serialize>(
    config: &C,
    unsupported: Option<&Unsupported>,
) -> Box<RawValue> {
    let as_it_came = unsupported.and_then(|unsupported| {
        RawValue::from_string(core::str::from_utf8(&unsupported.config).ok()?.to_owned()).ok()
    });
    as_it_came.unwrap_or_else(|| {
        // It was just written by serde_json.
        RawValue::from_string(go_json::to_string(config)).expect("an encoded document is JSON")
    })
}

pub(super) fn config_error(format: &'static str, error: &serde_json::Error) -> WireError {
    let fault = Fault::Json(go_json::describe(error));
    WireError { format, field: "config", offset: 0, fault }
}
