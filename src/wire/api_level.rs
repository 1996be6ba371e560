//! Whether we understand a configuration well enough to act on it.
//!
//! Upstream: `server/jetstream_versioning.go`, and `newUnsupportedStreamAssignment` in
//! `server/jetstream_cluster.go`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::value::RawValue;

use super::consumer_config::ConsumerConfig;
use super::go_json;
use super::stream_config::StreamConfig;

/// The newest features of JetStream that we know, as upstream numbers them.
pub const API_LEVEL: u32 = 3;

/// The key of a configuration's metadata that names the level it requires.
pub const REQUIRED_LEVEL: &str = "_nats.req.level";

/// Why a stream or consumer is assigned and must not run here.
///
/// It stays assigned, offline, until a server that understands it takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The reason, as upstream tells clients.
    pub reason: String,
    /// The configuration as it came, which is what an encoded assignment carries on.
    pub config: Bytes,
}

/// A configuration that an assignment carries.
pub(crate) trait Configuration: Default + DeserializeOwned {
    /// Its metadata.
    fn metadata(&self) -> &BTreeMap<String, String>;
    /// What is known of one that cannot be read.
    fn unreadable(name: String, metadata: BTreeMap<String, String>) -> Self;
}

impl Configuration for StreamConfig {
    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn unreadable(name: String, metadata: BTreeMap<String, String>) -> Self {
        Self { name, metadata, ..Self::default() }
    }
}

impl Configuration for ConsumerConfig {
    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn unreadable(name: String, metadata: BTreeMap<String, String>) -> Self {
        Self { name, metadata, ..Self::default() }
    }
}

/// What every configuration has, in every version.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Outline {
    name: String,
    metadata: BTreeMap<String, String>,
}

/// Reads a configuration strictly, and if that fails as far as it can be read. `null` is the
/// configuration of zeros, as in Go.
///
/// Upstream drops an assignment whose fields are known and have values that are not; here it is
/// kept, as unsupported, with its name and metadata.
pub(crate) fn read<C: Configuration>(
    json: &RawValue,
) -> Result<(C, Option<Unsupported>), serde_json::Error> {
    if json.get() == "null" {
        return Ok((C::default(), None));
    }
    let mut unknown = None;
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    let strict = serde_ignored::deserialize(&mut deserializer, |path| {
        if unknown.is_none() {
            unknown = Some(match path {
                Path::Map { key, .. } => key,
                other => other.to_string(),
            });
        }
    });
    let (config, reason) = match strict {
        Ok(config) => {
            let config: C = config;
            let reason = match unknown {
                Some(field) => {
                    Some(alloc::format!("unsupported - config error: unknown field {field:?}"))
                }
                None => level_reason(config.metadata()),
            };
            (config, reason)
        }
        Err(error) => {
            let outline: Outline = serde_json::from_str(json.get()).map_err(|_| clone(&error))?;
            let config = C::unreadable(outline.name, outline.metadata);
            let why = go_json::describe(&error);
            (config, Some(alloc::format!("unsupported - config error: {why}")))
        }
    };
    let unsupported = reason.map(|reason| Unsupported {
        reason,
        config: Bytes::copy_from_slice(json.get().as_bytes()),
    });
    Ok((config, unsupported))
}

/// The same error again, as serde's cannot be copied.
fn clone(error: &serde_json::Error) -> serde_json::Error {
    serde::de::Error::custom(go_json::describe(error))
}

/// Why a configuration of this metadata is not supported, if it requires more than we know.
fn level_reason(metadata: &BTreeMap<String, String>) -> Option<String> {
    let required = metadata.get(REQUIRED_LEVEL).filter(|required| !required.is_empty())?;
    // Upstream reads the number with `strconv.Atoi`, which takes a sign as Rust does.
    let supported = required.parse::<i64>().is_ok_and(|level| level <= i64::from(API_LEVEL));
    (!supported).then(|| {
        alloc::format!(
            "unsupported - required API level: {required}, current API level: {API_LEVEL}"
        )
    })
}

/// Whether a configuration of this metadata requires no more than we know.
pub fn is_supported(metadata: &BTreeMap<String, String>) -> bool {
    level_reason(metadata).is_none()
}
