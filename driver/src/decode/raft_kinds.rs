//! What the members of a group say to each other and keep.

use jetwake::ids::{GroupName, PeerId};
use jetwake::limits::Limits;
use jetwake::subject::{self, Subject};
use jetwake::wire::{
    AppendEntry, AppendResponse, Entry, EntryKind, PeerState, RaftSnapshot, TermAndVote,
    VoteRequest, VoteResponse,
};
use serde_json::{Value, json};

use super::DecodeError;
use super::fields::{Decoded, binary, list, number, peer, text};
use super::kinds::Message;

type Outcome = Result<Decoded, DecodeError>;

pub(super) fn append_entry(message: &Message) -> Outcome {
    let entry = AppendEntry::decode(&message.bytes)?;
    let entries: Vec<Value> = entry.entries.iter().map(|entry| entry_fields(&entry)).collect();
    Ok(Decoded::new(
        [
            ("leader", peer(entry.leader)),
            ("term", number(entry.term.get())),
            ("commit", number(entry.commit.get())),
            ("pterm", number(entry.previous_term.get())),
            ("pindex", number(entry.previous_index.get())),
            ("entries", entries.into()),
            // Servers before 2.11 leave it out.
            (
                "lterm",
                if entry.has_leader_term { number(entry.leader_term.get()) } else { Value::Null },
            ),
        ],
        entry.to_bytes(),
    ))
}

fn entry_fields(entry: &Entry) -> Value {
    let (number, name) = (entry.kind.as_u8(), entry_type(entry.kind));
    json!({ "type": number, "type_name": name, "data": binary(&entry.data) })
}

/// A type of entries, as upstream names it.
fn entry_type(kind: EntryKind) -> String {
    let name = match kind {
        EntryKind::Normal => "Normal",
        EntryKind::OldSnapshot => "OldSnapshot",
        EntryKind::PeerState => "PeerState",
        EntryKind::AddPeer => "AddPeer",
        EntryKind::RemovePeer => "RemovePeer",
        EntryKind::LeaderTransfer => "LeaderTransfer",
        EntryKind::Snapshot => "Snapshot",
        EntryKind::Unknown(number) => return format!("Unknown [{number}]"),
    };
    name.to_owned()
}

pub(super) fn append_response(message: &Message) -> Outcome {
    let response = AppendResponse::decode(&message.bytes)?;
    Ok(Decoded::new(
        [
            ("term", number(response.term.get())),
            ("index", number(response.index.get())),
            ("peer", peer(Some(response.peer))),
            ("success", response.success.into()),
        ],
        response.to_bytes(),
    ))
}

pub(super) fn vote_request(message: &Message) -> Outcome {
    let request = VoteRequest::decode(&message.bytes)?;
    Ok(Decoded::new(
        [
            ("term", number(request.term.get())),
            ("last_term", number(request.last_term.get())),
            ("last_index", number(request.last_index.get())),
            ("candidate", peer(Some(request.candidate))),
        ],
        request.to_bytes(),
    ))
}

pub(super) fn vote_response(message: &Message) -> Outcome {
    let response = VoteResponse::decode(&message.bytes)?;
    Ok(Decoded::new(
        [
            ("term", number(response.term.get())),
            ("peer", peer(Some(response.peer))),
            ("granted", response.granted.into()),
            ("empty", response.empty.into()),
        ],
        response.to_bytes(),
    ))
}

pub(super) fn remove_peer(message: &Message) -> Outcome {
    let removed = <[u8; 8]>::try_from(&message.bytes[..]).ok().and_then(PeerId::from_wire);
    let Some(removed) = removed else {
        return Err(DecodeError::Input("remove_peer: expected the eight bytes of a peer".into()));
    };
    Ok(Decoded::new([("peer", peer(Some(removed)))], message.bytes.clone()))
}

pub(super) fn peer_state(message: &Message) -> Outcome {
    let state = PeerState::decode(&message.bytes, &Limits::default())?;
    Ok(Decoded::new(
        [
            ("cluster_size", state.cluster_size.into()),
            ("domain_ext", state.domain.as_u16().into()),
            ("peers", list(state.peers.iter().map(|id| peer(Some(*id))))),
        ],
        state.to_bytes(),
    ))
}

pub(super) fn snapshot(message: &Message) -> Outcome {
    let Some(name) = &message.group else {
        return Err(DecodeError::Input("raft_snapshot: expected its group".into()));
    };
    let group = GroupName::new(name.as_str())
        .map_err(|error| DecodeError::Input(format!("raft_snapshot: {error}")))?;
    let snapshot = RaftSnapshot::decode(&message.bytes, &group)?;
    Ok(Decoded::new(
        [
            ("group", name.as_str().into()),
            ("hash_key_is_sha256_of", name.as_str().into()),
            ("last_term", number(snapshot.last_term.get())),
            ("last_index", number(snapshot.last_index.get())),
            ("peer_state", binary(&snapshot.peer_state)),
            ("data", binary(&snapshot.data)),
        ],
        snapshot.to_bytes(&group),
    ))
}

pub(super) fn term_and_vote(message: &Message) -> Outcome {
    let file = TermAndVote::decode(&message.bytes)?;
    Ok(Decoded::new(
        [("term", number(file.term.get())), ("vote", peer(file.vote))],
        file.to_bytes(),
    ))
}

pub(super) fn raft_file(message: &Message) -> Outcome {
    // A peer state is never as long: its peers have eight bytes each, and ten besides.
    if message.bytes.len() == TERM_AND_VOTE { term_and_vote(message) } else { peer_state(message) }
}

/// Bytes of a term and a vote.
const TERM_AND_VOTE: usize = 16;

pub(super) fn subject(message: &Message) -> Outcome {
    let text_of = |token: subject::Token| text(&token);
    let subject = Subject::from_bytes(message.bytes.clone());
    let Some(kind) = subject::Kind::parse(&subject) else {
        return Err(DecodeError::Input(format!("subject: {subject} is not one between peers")));
    };
    use subject::Kind;
    let (role, part, value) = match kind {
        Kind::AppendEntry(group) => ("append_entry", "group", group.as_str().into()),
        Kind::Vote(group) => ("vote", "group", group.as_str().into()),
        Kind::Proposal(group) => ("proposal", "group", group.as_str().into()),
        Kind::RemovePeer(group) => ("remove_peer", "group", group.as_str().into()),
        Kind::RaftReply(token) => ("raft_reply", "token", text_of(token)),
        Kind::RaftCatchup(token) => ("raft_catchup", "token", text_of(token)),
        Kind::RaftCatchupInParts(token) => ("raft_catchup_in_parts", "token", text_of(token)),
        Kind::CatchupProgress(token) => ("catchup_progress", "token", text_of(token)),
        Kind::Sync(token) => ("sync", "token", text_of(token)),
        Kind::SyncReply(token) => ("sync_reply", "token", text_of(token)),
        Kind::SyncAck { token, bytes } => {
            let bytes = bytes.map_or(Value::Null, number);
            return Ok(Decoded::new(
                [("role", "sync_ack".into()), ("token", text_of(token)), ("bytes", bytes)],
                message.bytes.clone(),
            ));
        }
    };
    Ok(Decoded::new([("role", role.into()), (part, value)], message.bytes.clone()))
}
