//! All that the meta group assigned, in one snapshot: JSON in one S2 block.
//!
//! Upstream: `encodeMetaSnapshot` and `decodeMetaSnapshot` in `server/jetstream_cluster.go`. No
//! stream at all is zero bytes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api_level;
use super::assignment::{
    ConsumerAssignment, RaftGroup, StreamAssignment, config_error, group_or_null, raw_config,
};
use super::client_info::ClientInfo;
use super::consumer_state::ConsumerState;
use super::error::WireError;
use super::go_json::{self, Framing, is_zero, null_as_default};
use super::go_time::GoTime;
use super::s2;
use crate::limits::Limits;

const FORMAT: &str = "meta_snapshot";

/// Every stream that is assigned, with its consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaSnapshot {
    /// The streams, in no order that means anything.
    pub streams: Vec<MetaStream>,
}

/// One assigned stream and its consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaStream {
    /// The stream.
    pub stream: StreamAssignment,
    /// Its consumers.
    pub consumers: Vec<ConsumerAssignment>,
}

/// A stream as the snapshot has it.
#[derive(Serialize, Deserialize)]
struct WrittenStream {
    #[serde(default)]
    client: ClientInfo,
    #[serde(default)]
    created: GoTime,
    #[serde(rename = "stream")]
    config: Box<RawValue>,
    #[serde(default, with = "group_or_null")]
    group: RaftGroup,
    #[serde(default)]
    sync: String,
    #[serde(rename = "Consumers", default, deserialize_with = "null_as_default")]
    consumers: Vec<WrittenConsumer>,
}

/// A consumer as the snapshot has it.
#[derive(Serialize, Deserialize)]
struct WrittenConsumer {
    #[serde(default)]
    client: ClientInfo,
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
    state: Option<ConsumerState>,
}

impl MetaSnapshot {
    /// Reads a snapshot. Takes memory for what the block unpacks to, [`Limits::decompressed`] at
    /// most, and a small multiple of that for what it says.
    ///
    /// # Errors
    /// A block that is corrupt or unpacks to more than is allowed; JSON that is too deep or not
    /// this format. Configurations that we cannot act on are no error: see
    /// [`StreamAssignment::unsupported`].
    pub fn decode(bytes: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let document = Bytes::from(s2::decode_block(bytes, limits.decompressed.get())?);
        let limits = Limits { json: limits.decompressed, ..limits.clone() };
        let written: Vec<WrittenStream> =
            go_json::decode(FORMAT, Framing::Bare, &document, &limits)?;
        let streams = written.into_iter().map(read_stream).collect::<Result<_, _>>()?;
        Ok(Self { streams })
    }

    /// The snapshot. What it unpacks to is what upstream writes for the streams in this order;
    /// the compressed bytes may differ.
    ///
    /// # Errors
    /// [`WireError`] above 4 GiB, which the compression cannot say.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        if self.streams.is_empty() {
            return Ok(Bytes::new());
        }
        s2::encode_block(&self.document()).map(Bytes::from)
    }

    /// The JSON, before it is compressed.
    pub fn document(&self) -> BytesMut {
        let written: Vec<WrittenStream> = self.streams.iter().map(write_stream).collect();
        let mut document = BytesMut::new();
        go_json::encode(Framing::Bare, &written, &mut document);
        document
    }
}

fn read_stream(written: WrittenStream) -> Result<MetaStream, WireError> {
    let (config, unsupported): (super::StreamConfig, _) =
        api_level::read(&written.config).map_err(|error| config_error(FORMAT, &error))?;
    let consumers = written.consumers.into_iter().map(|consumer| {
        let mut consumer = read_consumer(consumer)?;
        if consumer.stream.is_empty() {
            consumer.stream.clone_from(&config.name);
        }
        Ok(consumer)
    });
    let consumers = consumers.collect::<Result<_, WireError>>()?;
    let stream = StreamAssignment {
        client: Some(written.client),
        created: written.created,
        config,
        group: written.group,
        sync: written.sync,
        unsupported,
        ..StreamAssignment::default()
    };
    Ok(MetaStream { stream, consumers })
}

fn read_consumer(written: WrittenConsumer) -> Result<ConsumerAssignment, WireError> {
    let (config, unsupported) =
        api_level::read(&written.config).map_err(|error| config_error(FORMAT, &error))?;
    Ok(ConsumerAssignment {
        client: Some(written.client),
        created: written.created,
        name: written.name,
        stream: written.stream,
        config,
        group: written.group,
        state: written.state,
        unsupported,
        ..ConsumerAssignment::default()
    })
}

fn write_stream(meta: &MetaStream) -> WrittenStream {
    let stream = &meta.stream;
    WrittenStream {
        client: whose(stream.client.as_ref()),
        created: stream.created,
        config: raw_config(&stream.config, stream.unsupported.as_ref()),
        group: stream.group.clone(),
        sync: stream.sync.clone(),
        consumers: meta.consumers.iter().map(write_consumer).collect(),
    }
}

fn write_consumer(consumer: &ConsumerAssignment) -> WrittenConsumer {
    WrittenConsumer {
        client: whose(consumer.client.as_ref()),
        created: consumer.created,
        name: consumer.name.clone(),
        stream: consumer.stream.clone(),
        config: raw_config(&consumer.config, consumer.unsupported.as_ref()),
        group: consumer.group.clone(),
        state: consumer.state.clone(),
    }
}

/// What a snapshot keeps of who asked. Upstream: `forAssignmentSnap`.
fn whose(client: Option<&ClientInfo>) -> ClientInfo {
    let Some(client) = client else { return ClientInfo::default() };
    ClientInfo {
        account: client.account.clone(),
        service: client.service.clone(),
        cluster: client.cluster.clone(),
        ..ClientInfo::default()
    }
}
