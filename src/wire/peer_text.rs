//! Peer ids as the text that JSON has for them; nobody is the empty text.
//!
//! For fields with `#[serde(with = "peer_text")]`.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{SerializeSeq, Serializer};

use crate::ids::PeerId;

/// Writes an id.
pub(crate) fn serialize<S: Serializer>(
    peer: &Option<PeerId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match peer {
        Some(peer) => write(peer, serializer),
        None => serializer.serialize_str(""),
    }
}

/// The id as it is: JSON has escapes of its own, and who reads it undoes no others.
fn write<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    match core::str::from_utf8(peer.as_bytes()) {
        Ok(text) => serializer.serialize_str(text),
        // No server has such an id; the binary formats could carry it.
        Err(_) => serializer.collect_str(peer),
    }
}

/// Reads an id of eight visible characters, or none.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PeerId>, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    parse(&text).map(Some)
}

fn parse<E: Error>(text: &str) -> Result<PeerId, E> {
    let id = <[u8; 8]>::try_from(text.as_bytes()).ok();
    id.filter(|id| id.iter().all(u8::is_ascii_graphic))
        .and_then(PeerId::from_wire)
        .ok_or_else(|| E::custom("expected a peer id of eight visible characters"))
}

/// A list of ids; none is `null`, as Go writes an absent list.
///
/// For fields with `#[serde(with = "peer_text::list")]`.
pub(crate) mod list {
    use super::*;

    /// Writes the ids.
    pub(crate) fn serialize<S: Serializer>(
        peers: &[PeerId],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if peers.is_empty() {
            return serializer.serialize_none();
        }
        let mut list = serializer.serialize_seq(Some(peers.len()))?;
        for peer in peers {
            list.serialize_element(&Text(*peer))?;
        }
        list.end()
    }

    /// Reads the ids.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PeerId>, D::Error> {
        let texts = Option::<Vec<Text>>::deserialize(deserializer)?.unwrap_or_default();
        Ok(texts.into_iter().map(|Text(peer)| peer).collect())
    }
}

/// One id of a list, which may not be nobody.
struct Text(PeerId);

impl serde::Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse(&Cow::<str>::deserialize(deserializer)?).map(Self)
    }
}
