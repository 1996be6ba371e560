//! Checks of subjects and filters.

use bytes::Bytes;
use jetwake::subject::{self, Kind, Subject};

/// A subject taken apart must be the one that its parts make; and what a filter takes must agree
/// with the rule said plainly.
pub fn subject(input: &[u8]) {
    let given = Subject::from_bytes(Bytes::copy_from_slice(input));
    if let Some(kind) = Kind::parse(&given) {
        assert_eq!(rebuilt(&kind).as_bytes(), given.as_bytes(), "from {kind:?}");
    }
    // A filter before a space, and a subject behind it.
    let (filter, name) = match input.iter().position(|byte| *byte == b' ') {
        Some(space) => (&input[..space], &input[space + 1..]),
        None => (input, input),
    };
    if subject::is_valid_publish(name) {
        assert!(subject::is_valid_filter(name), "a literal subject is a filter");
        assert!(subject::matches(name, name), "a subject takes itself");
        assert!(subject::matches(b">", name), "everything is taken");
        if subject::is_valid_filter(filter) {
            let tokens = |bytes: &[u8]| bytes.split(|b| *b == b'.').map(<[u8]>::to_vec).collect();
            let (wanted, has): (Vec<_>, Vec<_>) = (tokens(filter), tokens(name));
            assert_eq!(subject::matches(filter, name), takes(&wanted, &has));
        }
    }
}

/// The subject that the parts make.
fn rebuilt(kind: &Kind) -> Subject {
    let inbox = |prefix: &str, token: &[u8; 8]| {
        Subject::from_bytes(Bytes::from([prefix.as_bytes(), token].concat()))
    };
    match kind {
        Kind::AppendEntry(group) => subject::append_entry(group),
        Kind::Vote(group) => subject::vote(group),
        Kind::Proposal(group) => subject::proposal(group),
        Kind::RemovePeer(group) => subject::remove_peer(group),
        Kind::RaftReply(token) => inbox("$NRG.R.", token),
        Kind::RaftCatchup(token) => inbox("$NRG.CR.", token),
        Kind::RaftCatchupInParts(token) => {
            Subject::from_bytes(Bytes::from([&b"$NRG.CR."[..], token, b".P"].concat()))
        }
        Kind::CatchupProgress(token) => inbox("$NRG.CP.", token),
        Kind::Sync(token) => inbox("$JSC.SYNC.", token),
        Kind::SyncReply(token) => inbox("$JSC.R.", token),
        Kind::SyncAck { token, bytes: None } => subject::sync_ack_wildcard(*token),
        Kind::SyncAck { token, bytes: Some(bytes) } => subject::sync_ack_with(*token, *bytes),
    }
}

/// The rule of filters, token by token.
fn takes(wanted: &[Vec<u8>], has: &[Vec<u8>]) -> bool {
    match (wanted, has) {
        ([], []) => true,
        ([last], [_, ..]) if last == b">" => true,
        ([first, wanted @ ..], [token, has @ ..]) => {
            (first == b"*" || first == token) && takes(wanted, has)
        }
        _ => false,
    }
}
