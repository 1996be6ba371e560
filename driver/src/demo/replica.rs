//! What a node says of its replica.

use serde_json::Value;

/// A replica as its node describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Whether the node has read its disk; before that it does not know what it has.
    pub(super) open: bool,
    /// How many messages.
    pub(super) messages: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// The first sequence.
    pub(super) first: u64,
    /// The last sequence.
    pub(super) last: u64,
    /// How many sequences between the two are deleted.
    pub(super) deleted: u64,
    /// The digest of the replica's state.
    pub(super) digest: String,
    /// The catchup of the stream that is under way, or that ended last.
    pub(super) catchup: Option<Catchup>,
}

/// A catchup of the stream as its follower describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catchup {
    /// What it is doing.
    pub(super) phase: String,
    /// Messages and deleted sequences that it received.
    pub(super) done: u64,
    /// How many it still lacks.
    pub(super) left: u64,
    /// Bytes received.
    pub(super) bytes: u64,
    /// Milliseconds from its request to its end, or until now.
    pub(super) milliseconds: u64,
}

impl View {
    /// Reads a stream info.
    pub(super) fn from_json(info: &Value) -> Self {
        let number = |path| info.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        let text = |path| info.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let catchup = info.pointer("/jetwake/catchup").filter(|catchup| catchup.is_object());
        Self {
            open: info.pointer("/jetwake/open").and_then(Value::as_bool).unwrap_or_default(),
            messages: number("/state/messages"),
            bytes: number("/state/bytes"),
            first: number("/state/first_seq"),
            last: number("/state/last_seq"),
            deleted: number("/state/num_deleted"),
            digest: text("/jetwake/digest").to_owned(),
            catchup: catchup.map(|_| Catchup {
                phase: text("/jetwake/catchup/phase").to_owned(),
                done: number("/jetwake/catchup/done"),
                left: number("/jetwake/catchup/left"),
                bytes: number("/jetwake/catchup/bytes"),
                milliseconds: number("/jetwake/catchup/milliseconds"),
            }),
        }
    }

    /// Whether a catchup of the stream is under way.
    pub(super) fn is_catching_up(&self) -> bool {
        self.catchup.as_ref().is_some_and(|catchup| catchup.left > 0)
    }

    /// Whether another replica says that it holds the same.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let own = |view: &Self| (view.messages, view.bytes, view.first, view.last, view.deleted);
        own(self) == own(other) && !self.digest.is_empty() && self.digest == other.digest
    }
}
