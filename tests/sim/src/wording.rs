//! What goes over the network and to disk, in words that a reader of the Raft paper knows.
//!
//! `5@2` is the record at place 5 of a log, of term 2. Peer ids stand as they are: who knows the
//! machines puts their names in.

use std::fmt::Write;

use bytes::Bytes;
use jetwake::command::{LogChange, Report, StoreChange};
use jetwake::event::{Request, Standing, StoreMark};
use jetwake::ids::{Index, PeerId, Sequence, Term};
use jetwake::limits::Limits;
use jetwake::subject::{Kind as SubjectKind, Subject};
use jetwake::wire::{
    AppendEntry, AppendResponse, Entry, EntryKind, PeerState, SnapshotId, SnapshotTransfer,
    StreamOp, SyncRequest, TransferSays, VoteRequest, VoteResponse,
};

use crate::client::Told;
use crate::deliveries::Delivery;
use crate::records;

/// How many entries of a record are told one by one.
const ENTRIES: usize = 4;
/// How many bytes of a text are told.
const TEXT: usize = 24;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// A candidate asks for votes.
    VoteRequest,
    /// An answer to a candidate.
    Vote,
    /// A leader hands out records.
    Append,
    /// A leader is heard, and says how far it is.
    Heartbeat,
    /// A follower says what it has, or why it does not take a record.
    Answer,
    /// Records or a snapshot for a follower that lags.
    LogCatchup,
    /// A catchup of a stream: requests, messages, acks.
    StreamCatchup,
    /// Anything else.
    Other,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What kind of message it is.
    pub kind: MessageKind,
    /// Its term, if it has one.
    pub term: Option<Term>,
    /// In words.
    pub words: String,
}

/// Reads a message. `asks` if it names an inbox for an answer; `heard_in` is the term of who gets
/// it, as far as that is known.
pub fn message(subject: &Subject, payload: &Bytes, asks: bool, heard_in: Option<Term>) -> Said {
    let said = match SubjectKind::borrowed(subject) {
        Some(SubjectKind::AppendEntry(_)) => append_entry(payload),
        Some(SubjectKind::RaftCatchupInParts(_) | SubjectKind::CatchupProgress(_))
            if SnapshotTransfer::is_one(payload) =>
        {
            transfer(payload)
        }
        Some(SubjectKind::RaftCatchup(_) | SubjectKind::RaftCatchupInParts(_)) => {
            log_catchup(payload)
        }
        Some(SubjectKind::Vote(_)) => vote_request(payload),
        Some(SubjectKind::CatchupProgress(_)) => catchup_progress(payload),
        Some(SubjectKind::RaftReply(_)) => {
            append_response(payload, asks, heard_in).or_else(|| vote_response(payload))
        }
        Some(SubjectKind::Sync(_)) => sync_request(payload),
        Some(SubjectKind::SyncReply(_)) => sync_message(payload),
        Some(SubjectKind::SyncAck { bytes, .. }) => Some(sync_ack(bytes, payload)),
        _ => None,
    };
    said.unwrap_or_else(|| Said {
        kind: MessageKind::Other,
        term: None,
        words: format!("{} bytes on {subject}", payload.len()),
    })
}

fn said(kind: MessageKind, term: Term, words: String) -> Option<Said> {
    Some(Said { kind, term: Some(term), words })
}

fn append_entry(payload: &Bytes) -> Option<Said> {
    let entry = AppendEntry::decode(payload).ok()?;
    let (term, commit) = (entry.term, entry.commit);
    let before = position(entry.previous_index, entry.previous_term);
    if entry.entries.is_empty() {
        let words = format!("heartbeat: the log ends at {before}, commit {commit}");
        return said(MessageKind::Heartbeat, term, words);
    }
    let words = format!("append {} behind {before}, commit {commit}", record_of(&entry));
    said(MessageKind::Append, term, words)
}

fn log_catchup(payload: &Bytes) -> Option<Said> {
    let entry = AppendEntry::decode(payload).ok()?;
    let term = entry.leader_term.max(entry.term);
    let words = match entry.entries.iter().next().map(|first| first.kind) {
        Some(EntryKind::Snapshot | EntryKind::OldSnapshot) => {
            let covered = position(entry.previous_index, entry.previous_term);
            format!("catchup: a snapshot through {covered}")
        }
        _ => format!("catchup: {}", record_of(&entry)),
    };
    said(MessageKind::LogCatchup, term, words)
}

fn transfer(payload: &Bytes) -> Option<Said> {
    let SnapshotTransfer { term, snapshot, says, .. } = SnapshotTransfer::decode(payload).ok()?;
    let SnapshotId { index, term: of, length, .. } = snapshot;
    let file = format!("the snapshot through {}", position(index, of));
    let words = match says {
        TransferSays::Offer { part } => {
            format!("catchup: offers {file}, {length} bytes in parts of {part}")
        }
        TransferSays::Ask { bytes: 0, .. } => format!("is at work on {file}"),
        TransferSays::Ask { offset, bytes } => {
            format!("asks for bytes {offset} to {} of {file}", offset + bytes)
        }
        TransferSays::Part { offset, bytes } => {
            let end = offset + bytes.len() as u64;
            format!("catchup: bytes {offset} to {end} of {length} of {file}")
        }
    };
    said(MessageKind::LogCatchup, term, words)
}

fn vote_request(payload: &Bytes) -> Option<Said> {
    let request = VoteRequest::decode(payload).ok()?;
    let last = position(request.last_index, request.last_term);
    let words = format!("asks for a vote in term {}, with a log to {last}", request.term);
    said(MessageKind::VoteRequest, request.term, words)
}

fn vote_response(payload: &Bytes) -> Option<Said> {
    let response = VoteResponse::decode(payload).ok()?;
    let verdict = if response.granted { "gives its vote" } else { "refuses its vote" };
    let empty = if response.empty { ", with an empty log" } else { "" };
    let words = format!("{verdict} in term {}{empty}", response.term);
    said(MessageKind::Vote, response.term, words)
}

fn append_response(payload: &Bytes, asks: bool, heard_in: Option<Term>) -> Option<Said> {
    let response = AppendResponse::decode(payload).ok()?;
    let (index, term) = (response.index, response.term);
    let newer = heard_in.is_none_or(|heard_in| term > heard_in);
    let words = match (response.success, asks) {
        (true, _) => format!("ack {index}"),
        (false, true) => format!("asks for what follows {index}"),
        (false, false) if newer => format!("refuses: this is term {term}"),
        (false, false) => format!("has {index} of the catchup on disk"),
    };
    said(MessageKind::Answer, term, words)
}

fn catchup_progress(payload: &Bytes) -> Option<Said> {
    let AppendResponse { index, term, .. } = AppendResponse::decode(payload).ok()?;
    said(MessageKind::Answer, term, format!("has {index} of the catchup on disk"))
}

fn stream_catchup(words: String) -> Said {
    Said { kind: MessageKind::StreamCatchup, term: None, words }
}

fn sync_request(payload: &Bytes) -> Option<Said> {
    let request = SyncRequest::decode(payload, &Limits::default()).ok()?;
    let (first, last, applied) = (request.first, request.last, request.min_applied);
    let of = if applied == Index::ZERO { String::new() } else { format!(", as of {applied}") };
    Some(stream_catchup(format!("asks for messages {first}..{last}{of}")))
}

/// The first byte of a state by which members of our own kind end a catchup.
const STATE: u8 = 0xff;

fn sync_message(payload: &Bytes) -> Option<Said> {
    if payload.is_empty() {
        return Some(stream_catchup("catchup: that is all".into()));
    }
    if payload.first() == Some(&STATE) {
        return Some(stream_catchup("catchup: that is all, and its state".into()));
    }
    let words = match StreamOp::decode(payload, &Limits::default()).ok()? {
        StreamOp::Message(message) if message.is_skip() => {
            format!("catchup: message {} is deleted", message.sequence())
        }
        StreamOp::Message(message) => {
            let (body, subject) = (text(message.payload()), message.subject().escape_ascii());
            format!("catchup: message {} is {body} on {subject}", message.sequence())
        }
        StreamOp::DeleteRange(range) => {
            let last = range.last().unwrap_or(range.first);
            format!("catchup: messages {}..{last} are deleted", range.first)
        }
        _ => format!("catchup: {} bytes", payload.len()),
    };
    Some(stream_catchup(words))
}

fn sync_ack(bytes: Option<u64>, payload: &Bytes) -> Said {
    stream_catchup(if payload.is_empty() {
        format!("ack {} bytes of the catchup", bytes.unwrap_or(0))
    } else {
        format!("gives the catchup up: {}", String::from_utf8_lossy(payload))
    })
}

/// A place in a log and its term.
pub fn position(index: Index, term: Term) -> String {
    if index == Index::ZERO { "0".into() } else { format!("{index}@{term}") }
}

/// A record that stands behind the one it names: its place and what is in it.
fn record_of(entry: &AppendEntry) -> String {
    let place = position(entry.previous_index.next(), entry.term);
    format!("{place} {}", entries(entry))
}

fn entries(record: &AppendEntry) -> String {
    let count = record.entries.len();
    let told: Vec<_> = record.entries.iter().take(ENTRIES).map(|entry| one_entry(&entry)).collect();
    let mut words = told.join(", ");
    if count > ENTRIES {
        // Writing to a string cannot fail.
        let _ = write!(words, " and {} more", count - ENTRIES);
    }
    words
}

fn one_entry(entry: &Entry) -> String {
    let peer = || match entry.data[..].try_into().ok().and_then(PeerId::from_wire) {
        Some(peer) => peer.to_string(),
        None => "nobody".into(),
    };
    match entry.kind {
        EntryKind::Normal => normal_entry(&entry.data),
        EntryKind::PeerState => match PeerState::decode(&entry.data, &Limits::default()) {
            Ok(state) => format!("{} members", state.peers.len()),
            Err(_) => "members".into(),
        },
        EntryKind::AddPeer => format!("add {}", peer()),
        EntryKind::RemovePeer => format!("remove {}", peer()),
        EntryKind::LeaderTransfer => format!("hand over to {}", peer()),
        EntryKind::Snapshot | EntryKind::OldSnapshot => "snapshot".into(),
        EntryKind::Unknown(kind) => format!("an entry of kind {kind}"),
    }
}

fn normal_entry(data: &Bytes) -> String {
    match StreamOp::decode(data, &Limits::default()) {
        Ok(StreamOp::Message(message)) => {
            format!("{} on {}", text(message.payload()), message.subject().escape_ascii())
        }
        Ok(StreamOp::Batch(batch)) => {
            format!(
                "{} of batch {}",
                text(batch.message().payload()),
                batch.batch_id().escape_ascii()
            )
        }
        Ok(StreamOp::Delete(delete)) => format!("delete message {}", delete.sequence),
        Ok(StreamOp::Purge(_)) => "purge".into(),
        _ => text(data),
    }
}

/// What a client wrote, in quotes, and short: the first line alone.
pub fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match bytes.get(..TEXT) {
        Some(start) if bytes.len() > TEXT => format!("\"{}...\"", start.escape_ascii()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// A record as it stands in a log.
pub fn record(index: Index, record: &Bytes) -> String {
    match AppendEntry::decode(record) {
        Ok(entry) => format!("{} {}", position(index, entry.term), entries(&entry)),
        Err(_) => format!("{index}, which is no record"),
    }
}

/// A change of a log that a machine asks for: what it "writes".
pub fn log_change(change: &LogChange) -> String {
    match change {
        LogChange::Append { index, record: bytes } => record(*index, bytes),
        LogChange::Truncate { last } => format!("a truncation: the log ends at {last}"),
        LogChange::Compact { through } => format!("a compaction: the log begins behind {through}"),
        LogChange::Reset { last } => format!("a reset: the log is empty, and begins behind {last}"),
        LogChange::TermAndVote(written) => match written.vote {
            Some(vote) => format!("term {}, vote for {vote}", written.term),
            None => format!("term {}, no vote", written.term),
        },
        LogChange::Snapshot { index, term, .. } => {
            format!("a snapshot through {}", position(*index, *term))
        }
        LogChange::SnapshotPart { offset, part } => {
            format!("a part of a snapshot: {} bytes behind {offset}", part.len())
        }
        LogChange::PlaceSnapshot { index, term, length } => {
            format!("a snapshot through {}, of {length} bytes", position(*index, *term))
        }
        LogChange::DropSnapshotParts => "that it forgets the parts of a snapshot".into(),
        LogChange::Standing(Standing::Whole) => "that it has all that it promised".into(),
        LogChange::Standing(Standing::Impaired(impairment)) => format!("that it {impairment}"),
        other => format!("{other:?}"),
    }
}

/// A change of a log that is on disk, in short.
pub fn durable(change: &LogChange) -> String {
    match change {
        LogChange::Append { index, .. } => format!("{index}"),
        LogChange::Truncate { last } => format!("the truncation to {last}"),
        LogChange::Compact { through } => format!("the compaction through {through}"),
        LogChange::Reset { last } => format!("the reset to {last}"),
        LogChange::TermAndVote(written) if written.vote.is_some() => {
            format!("its vote in term {}", written.term)
        }
        LogChange::TermAndVote(written) => format!("term {}", written.term),
        LogChange::Snapshot { index, .. } | LogChange::PlaceSnapshot { index, .. } => {
            format!("the snapshot through {index}")
        }
        LogChange::SnapshotPart { offset, .. } => format!("the part behind byte {offset}"),
        LogChange::DropSnapshotParts => "that no parts are left".into(),
        LogChange::Standing(_) => "how it stands".into(),
        other => format!("{other:?}"),
    }
}

/// What happens to a stream's store; nothing if only its mark moves.
pub fn store_change(change: &StoreChange, mark: &StoreMark) -> Option<String> {
    match change {
        StoreChange::Messages { block, places } => {
            let told = places.iter().map(|place| {
                let start = place.offset as usize;
                let bytes = block.get(start..start + place.length as usize).unwrap_or_default();
                let message = records::stream_message(&Bytes::copy_from_slice(bytes));
                let body = message.map_or("?".into(), |message| text(&message.payload));
                format!("{} {body}", place.sequence)
            });
            Some(format!("stores {}", told.collect::<Vec<_>>().join(", ")))
        }
        StoreChange::Remove(ranges) => {
            let range = |(first, last): &(Sequence, Sequence)| match first == last {
                true => first.to_string(),
                false => format!("{first}..{last}"),
            };
            let ranges: Vec<_> = ranges.iter().map(range).collect();
            Some(format!("removes {}, and begins at {}", ranges.join(", "), mark.first))
        }
        StoreChange::Clear => Some("removes every message".into()),
        StoreChange::OnlyAdds(_) => Some("only adds, for what is gone is behind".into()),
        StoreChange::Mend(mend) => {
            let (first, last, came) = (mend.first, mend.last, mend.places.len());
            Some(format!("mends messages {first}..{last}, of which {came} came"))
        }
        _ => None,
    }
}

/// What a node says of itself, where that is told in no other way.
pub fn report(report: &Report) -> String {
    match report {
        Report::Opened { covered: Index::ZERO, last: Index::ZERO } => "reads an empty disk".into(),
        Report::Opened { covered: Index::ZERO, last } => format!("reads its disk: a log to {last}"),
        Report::Opened { covered, last } => {
            format!("reads its disk: a snapshot through {covered}, and a log to {last}")
        }
        Report::Compacted { through, freed } => {
            format!("frees {} bytes of log, through {through}", freed.bytes)
        }
        Report::HandedOver { to } => format!("hands over to {to}"),
        Report::CheckpointBegun { index } => format!("begins a snapshot through {index}"),
        Report::Impaired(impairment) => format!("is impaired: {impairment}"),
        Report::Repaired { last } => format!("is repaired, up to record {last}"),
        Report::Damaged(damaged) => format!("found damaged: {}", damaged.damage()),
        other => format!("{other:?}"),
    }
}

/// What a client asks.
pub fn request(request: &Request) -> String {
    let filter = |filter: &Bytes| match filter.is_empty() {
        true => String::new(),
        false => format!(" {}", filter.escape_ascii()),
    };
    match request {
        Request::Publish { payload, .. } => format!("publish {}", text(payload)),
        Request::Delete { sequence } => format!("delete {sequence}"),
        Request::Purge { filter: of, .. } => format!("purge{}", filter(of)),
        Request::Snapshot => "snapshot".into(),
        Request::StepDown { to: Some(to) } => format!("hand over to {to}"),
        Request::StepDown { to: None } => "hand over".into(),
        Request::AddPeer { peer } => format!("add {peer}"),
        Request::RemovePeer { peer } => format!("remove {peer}"),
        Request::Read { first, .. } => format!("read from {first}"),
        Request::Info => "info".into(),
        other => format!("{other:?}"),
    }
}

/// What a client is told.
pub fn told(told: &Told) -> String {
    match told {
        Told::Acknowledged { sequence, duplicate: true } => {
            format!("a duplicate of message {sequence}")
        }
        Told::Acknowledged { sequence, .. } => format!("stored as message {sequence}"),
        Told::Committed(index) => format!("committed as {index}"),
        Told::Done => "done".into(),
        Told::Refused { code, text } => format!("refused, {text} ({code})"),
        Told::Kept => "kept".into(),
        Told::Delivered(delivery) => {
            let Delivery { number, message, count, .. } = delivery;
            format!("delivery {number}, of message {message} for the time {count}")
        }
        Told::Messages { messages, .. } => format!("{} messages", messages.len()),
        Told::Gibberish(text) => text.replace('\\', ""),
    }
}
