//! Subjects: the addresses of messages between peers, and those that clients publish to.

use alloc::string::String;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A subject as bytes that a copy of costs no allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(Bytes);

impl Subject {
    /// Takes a subject as it is; what it means is found out where it is used.
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// A subject known at compile time.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The bytes as they stand on the wire.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<String> for Subject {
    fn from(text: String) -> Self {
        Self(Bytes::from(text.into_bytes()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({self})")
    }
}
