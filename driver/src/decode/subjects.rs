//! The kind of a message by the subject that it came on.

use bytes::Bytes;
use jetwake::subject::{Kind, Subject};
use jetwake::wire::AppendResponse;

use super::DecodeError;

/// The kind of a message between peers.
pub(super) fn kind_of(subject: &str, bytes: &Bytes) -> Result<&'static str, DecodeError> {
    let parsed = Subject::from(subject.to_owned());
    Kind::borrowed(&parsed).map(|kind| kind_on(&kind, bytes)).ok_or_else(|| {
        DecodeError::Input(format!("{subject}: not a subject that peers use among themselves"))
    })
}

/// The kind of a message on a subject of this kind.
pub(super) fn kind_on<G>(subject: &Kind<G>, bytes: &Bytes) -> &'static str {
    match subject {
        Kind::AppendEntry(_) | Kind::RaftCatchup(_) | Kind::RaftCatchupInParts(_) => "append_entry",
        Kind::Vote(_) => "vote_request",
        Kind::Proposal(_) => "entry",
        Kind::RemovePeer(_) => "remove_peer",
        // Both answers come to the same inbox; only their sizes tell them apart.
        Kind::RaftReply(_) if bytes.len() == AppendResponse::LEN => "append_entry_response",
        Kind::RaftReply(_) => "vote_response",
        Kind::CatchupProgress(_) => "append_entry_response",
        Kind::Sync(_) => "sync_request",
        Kind::SyncReply(_) => "catchup_message",
        Kind::SyncAck { .. } => "catchup_ack",
    }
}
