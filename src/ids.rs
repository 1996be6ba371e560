//! The numbers and names that everything else speaks of.
//!
//! Each is a type of its own, so that a term cannot be passed where an index is meant. None
//! has a unit but its own count; all arithmetic that could leave the range is checked.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Declares a counter type: a `u64` that orders, steps and prints, and nothing else.
macro_rules! counter {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The value before the first.
            pub const ZERO: Self = Self(0);
            /// The largest value the wire can carry.
            pub const MAX: Self = Self(u64::MAX);

            /// Wraps a number read from the wire or a file.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number as the wire carries it.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after this; stays at [`MAX`](Self::MAX).
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before this; stays at [`ZERO`](Self::ZERO).
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// This many steps further; stays at [`MAX`](Self::MAX).
            pub const fn plus(self, steps: u64) -> Self {
                Self(self.0.saturating_add(steps))
            }

            /// How far this lies ahead of `earlier`; zero if it does not.
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// A term of a group's consensus: at most one leader each (Raft paper, section 5.1).
    Term
}
counter! {
    /// The place of an append entry in a group's log; the first is 1.
    Index
}
counter! {
    /// The place of a message in a stream; the first is 1.
    Sequence
}
counter! {
    /// Numbers the log writes of one node; a finished write finishes all that were asked before it.
    WriteId
}
counter! {
    /// Numbers the store writes of one node, in the order in which they must be performed.
    StoreId
}
counter! {
    /// Numbers the loads and reads of one node.
    LoadId
}
counter! {
    /// A client's request, numbered by the driver; its answer carries the same number.
    RequestId
}
counter! {
    /// Numbers the checkpoints of one group, from its start on.
    CheckpointId
}
counter! {
    /// A count of bytes.
    ByteCount
}

/// How much of a log: its records, and the bytes that they have together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSize {
    /// Records; each is one append entry.
    pub records: u64,
    /// Bytes of their encoded form. An estimate where only a part of the log is asked for, as
    /// records are not counted one by one.
    pub bytes: u64,
}

/// One group among those of a node: a small number given when the group is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The digits that NATS builds identifiers and inboxes from.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A server as its peers know it: eight bytes made from its name.
///
/// Upstream: `getHash` in `server/sublist.go` of nats-server; byte i is the base-62 digit
/// `SHA-256(name)[i] mod 62`. Eight zero bytes on the wire mean "nobody", which is why the
/// codecs speak of `Option<PeerId>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PeerId([u8; 8]);

impl PeerId {
    /// The id of the server of this name.
    ///
    /// ```
    /// assert_eq!(jetwake::ids::PeerId::from_name("n1").to_string(), "fjFyEjc1");
    /// ```
    pub fn from_name(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let mut id = [0; 8];
        for (byte, hashed) in id.iter_mut().zip(digest.iter()) {
            *byte = BASE62[usize::from(*hashed) % BASE62.len()];
        }
        Self(id)
    }

    /// Reads the wire's eight bytes; zeros mean nobody.
    pub fn from_wire(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The wire's eight bytes.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

/// The name of a group on the wire, such as `S-R3F-abcdefgh`: the last token of its subjects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

/// A group's name that could not stand as one token of a subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group name {name:?}: expected 1 to 255 visible characters without '.', '*' and '>'")]
pub struct BadGroupName {
    /// What was given.
    pub name: String,
}

impl GroupName {
    /// Checks a name: 1 to 255 visible ASCII characters, no `.`, `*` or `>`.
    ///
    /// # Errors
    /// [`BadGroupName`] with the name.
    pub fn new(name: impl Into<String>) -> Result<Self, BadGroupName> {
        let name = name.into();
        if Self::is_valid(&name) { Ok(Self(name)) } else { Err(BadGroupName { name }) }
    }

    /// Whether this could be a group's name; see [`new`](Self::new).
    pub fn is_valid(name: &str) -> bool {
        let token = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>');
        (1..=255).contains(&name.len()) && name.bytes().all(token)
    }

    /// The name as it stands in subjects.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Orders and equals as its text, so that a map of groups can be asked with a part of a subject.
impl Borrow<str> for GroupName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GroupName {
    type Error = BadGroupName;
    fn try_from(name: String) -> Result<Self, BadGroupName> {
        Self::new(name)
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
