//! The kinds of messages, by name.

use bytes::Bytes;

use super::fields::Decoded;
use super::{DecodeError, assignment_kinds, json_kinds, raft_kinds, stream_kinds};

/// A message to decode.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Bytes,
    /// The group that it belongs to; the hash of a snapshot rests on it.
    pub group: Option<String>,
}

/// A kind of message.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, as in the vectors.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    decode: fn(&Message) -> Result<Decoded, DecodeError>,
}

type Decode = fn(&Message) -> Result<Decoded, DecodeError>;

const fn kind(name: &'static str, about: &'static str, decode: Decode) -> Kind {
    Kind { name, about, decode }
}

/// Every kind.
pub const KINDS: &[Kind] = &[
    kind("append_entry", "$NRG.AE.*, $NRG.CR.*: what a leader sends", raft_kinds::append_entry),
    kind("append_entry_response", "$NRG.R.*: what a follower answers", raft_kinds::append_response),
    kind("vote_request", "$NRG.V.*: a candidate asks", raft_kinds::vote_request),
    kind("vote_response", "$NRG.R.*: a vote", raft_kinds::vote_response),
    kind("remove_peer", "$NRG.RP.*: the id of a peer that should go", raft_kinds::remove_peer),
    kind("peer_state", "a group's members, in entries and in peers.idx", raft_kinds::peer_state),
    kind("raft_snapshot", "a group's snapshot file; needs its group", raft_kinds::snapshot),
    kind("term_and_vote", "a group's tav.idx", raft_kinds::term_and_vote),
    kind("raft_file", "a group's tav.idx or peers.idx, by its size", raft_kinds::raft_file),
    kind("entry", "$NRG.P.*: the data of a normal entry, by its op byte", stream_kinds::entry),
    kind("stream_msg", "ops 4, 14, 16 and 17: a message", stream_kinds::message),
    kind("stream_msg_body", "a message, behind its op byte 4", stream_kinds::message_body),
    kind("batch_msg_body", "a batch's message, behind its op byte 16", stream_kinds::batch_body),
    kind("delete_range", "op 15: deleted messages, in a catchup", stream_kinds::delete_range),
    kind("msg_delete", "op 6: a message to delete", stream_kinds::message_delete),
    kind("stream_purge", "op 5: a stream to purge", stream_kinds::purge),
    kind("consumer_op", "ops 7, 8, 10 and 18: a consumer's step", stream_kinds::consumer_op),
    kind("consumer_state", "how far a consumer is, binary", stream_kinds::consumer_state),
    kind("stream_state", "what a stream holds, binary", stream_kinds::stream_state),
    kind(
        "catchup_state",
        "op 255: ours end a catchup with their state",
        stream_kinds::catchup_state,
    ),
    kind("stream_snapshot_legacy", "the same before 2.10, JSON", json_kinds::legacy_stream_state),
    kind("sequence_set", "a set of sequences", stream_kinds::sequence_set),
    kind("assign_stream", "ops 0, 2 and 11: a stream's assignment", assignment_kinds::stream),
    kind("assign_consumer", "ops 1, 3 and 9: a consumer's assignment", assignment_kinds::consumer),
    kind("meta_snapshot", "all that is assigned, in _meta_", assignment_kinds::meta_snapshot),
    kind("sync_request", "$JSC.SYNC.*: a follower asks for messages", json_kinds::sync_request),
    kind("catchup_message", "$JSC.R.*: what it gets", stream_kinds::catchup_message),
    kind("catchup_ack", "$JSC.ACK.*: that it got it, or why it stops", stream_kinds::catchup_ack),
    kind("pub_ack", "what a publisher is answered, JSON", json_kinds::publish_ack),
    kind("api_response", "what a client is answered, JSON", json_kinds::api_response),
    kind("cluster_info", "who leads and who follows, JSON", json_kinds::cluster_info),
    kind("stream_alternates", "streams to read instead, JSON", json_kinds::stream_alternates),
    kind("stream_config", "how a stream is meant to be, JSON", json_kinds::stream_config),
    kind("stream_info", "a stream, JSON", json_kinds::stream_info),
    kind("stream_info_response", "an answer about a stream, JSON", json_kinds::stream_response),
    kind("consumer_config", "how a consumer is meant to be, JSON", json_kinds::consumer_config),
    kind("consumer_info", "a consumer, JSON", json_kinds::consumer_info),
    kind("consumer_info_response", "an answer about a consumer", json_kinds::consumer_response),
    kind("s2_block", "compressed bytes, one block", stream_kinds::s2_block),
    kind("s2_stream", "compressed bytes, in chunks", stream_kinds::s2_stream),
    kind("subject", "the bytes are a subject between peers", raft_kinds::subject),
];

/// The kind of this name, or of a name that vectors have for cases of it: bytes that must be
/// refused (`_bad`), and what other levels of compression made (`_better`, `_best`).
pub(super) fn find(name: &str) -> Option<&'static Kind> {
    let name = match name {
        // These begin behind the op byte.
        "stream_msg_bad" => "stream_msg_body",
        "batch_msg_bad" => "batch_msg_body",
        "s2_block_better" | "s2_block_best" => "s2_block",
        name => name.strip_suffix("_bad").unwrap_or(name),
    };
    KINDS.iter().find(|kind| kind.name == name)
}

/// Decodes a message of the kind of this name.
pub(super) fn decode(name: &str, message: &Message) -> Result<Decoded, DecodeError> {
    match find(name) {
        Some(kind) => (kind.decode)(message),
        None => Err(DecodeError::Input(format!("{name}: no such kind"))),
    }
}
