//! Who speaks to whom in a recorded exchange, and about what.
//!
//! A message names its sender, or the inbox that it comes to does: an inbox belongs to whoever
//! gave it as a reply subject before.

use bytes::Bytes;
use jetwake::limits::Limits;
use jetwake::subject::{Kind, Subject, Token};
use jetwake::wire::{
    AppendEntry, AppendResponse, CatchupState, Entry, EntryKind, Op, PeerState, StreamAssignment,
    StreamOp, SyncRequest, VoteRequest, VoteResponse, WireError,
};

use super::bounded::Bounded;
use super::subjects::kind_on;

/// The kind of what is no message between peers.
pub(crate) const UNKNOWN: &str = "unknown";

/// Where a message came, and where its sender awaits an answer; empty if nowhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) subject: &'a str,
    pub(crate) reply: &'a str,
}

/// A message of the exchange.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) kind: &'static str,
    /// The group that it concerns, if that is known.
    pub(crate) group: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) term: Option<u64>,
    /// An index of the log, or in a stream's catchup a sequence.
    pub(crate) index: Option<u64>,
    /// How far that is from where it should be.
    pub(crate) gap: Option<u64>,
    pub(crate) what: String,
    /// Whether it ends a stream's catchup.
    pub(crate) ends: bool,
    /// How far the sender says the log to be committed.
    pub(crate) commit: Option<u64>,
    /// Whether it tells who belongs to the group or should lead it, or replaces its log.
    pub(crate) weighty: bool,
    /// Whether its bytes are not of its kind.
    pub(crate) malformed: bool,
    /// Whether it is of the sort that comes all the time.
    pub(crate) routine: bool,
    /// Whether it asks for help or refuses.
    pub(crate) alarming: bool,
}

/// Whose an inbox is.
#[derive(Clone, Debug, Default)]
struct Inbox {
    owner: Option<String>,
    group: Option<String>,
    /// The last sequence asked for, if a stream's catchup comes here.
    last: Option<u64>,
}

/// What has been heard so far.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    inboxes: Bounded<String, Inbox>,
    /// Catchups of streams, by the token of their acknowledgements.
    catchups: Bounded<Token, Catchup>,
    groups: Bounded<String, Group>,
    /// The groups of streams, by the subject where they serve catchups.
    syncs: Bounded<String, String>,
    /// Whether what a known leader appends is put into words, if it is of the sort that comes all the
    /// time.
    terse: bool,
}

#[derive(Debug)]
struct Catchup {
    server: Option<String>,
    inbox: Inbox,
}

#[derive(Debug, Default)]
struct Group {
    leader: Option<String>,
    term: u64,
    /// The newest entry that was sent to all.
    newest: u64,
}

impl Exchange {
    /// One that is told the messages of a busy cluster, and finds no words for what nobody tells on.
    #[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "only the tap is in a hurry"))]
    pub(crate) fn terse() -> Self {
        Self { terse: true, ..Self::default() }
    }

    /// Hears a message, and says what it makes of it.
    pub(crate) fn hear(&mut self, heard: Heard<'_>, bytes: &Bytes) -> Said {
        let subject = Subject::from(heard.subject.to_owned());
        let Some(kind) = Kind::parse(&subject) else {
            return Said {
                kind: UNKNOWN,
                what: format!("{} bytes on {}", bytes.len(), heard.subject),
                routine: true,
                ..Said::default()
            };
        };
        let mut said = Said { kind: kind_on(&kind, bytes), ..Said::default() };
        let heard = match kind {
            Kind::AppendEntry(group) => {
                said.group = Some(group.as_str().to_owned());
                said.to = Some("all".into());
                self.append_entry(&mut said, heard, bytes, true)
            }
            Kind::RaftCatchup(_) | Kind::RaftCatchupInParts(_) => {
                self.to_inbox(&mut said, heard.subject);
                self.append_entry(&mut said, heard, bytes, false)
            }
            Kind::Vote(group) => {
                said.group = Some(group.as_str().to_owned());
                self.vote_request(&mut said, heard, bytes)
            }
            Kind::RaftReply(_) | Kind::CatchupProgress(_) => {
                self.to_inbox(&mut said, heard.subject);
                match bytes.len() {
                    AppendResponse::LEN => self.append_response(&mut said, heard, bytes),
                    _ => vote_response(&mut said, bytes),
                }
            }
            Kind::Proposal(group) => {
                self.to_leader(&mut said, group.as_str());
                said.what = format!("forwards: {}", self.entry_data(bytes));
                Ok(())
            }
            Kind::RemovePeer(group) => {
                self.to_leader(&mut said, group.as_str());
                said.what = format!("wants {} removed", bytes.escape_ascii());
                Ok(())
            }
            Kind::Sync(_) => self.sync_request(&mut said, heard, bytes),
            Kind::SyncReply(_) => self.catchup_message(&mut said, heard, bytes),
            Kind::SyncAck { token, .. } => {
                self.catchup_ack(&mut said, token, bytes);
                Ok(())
            }
        };
        if let Err(error) = heard {
            said.what = error.to_string();
            (said.alarming, said.malformed) = (true, true);
        }
        said
    }

    fn to_inbox(&self, said: &mut Said, subject: &str) {
        if let Some(inbox) = self.inboxes.get(subject) {
            said.to.clone_from(&inbox.owner);
            said.group.clone_from(&inbox.group);
        }
    }

    fn to_leader(&self, said: &mut Said, group: &str) {
        said.to = self.groups.get(group).and_then(|group| group.leader.clone());
        said.group = Some(group.to_owned());
    }

    /// Notes whose the reply subject is.
    fn note_reply(&mut self, heard: Heard<'_>, said: &Said, last: Option<u64>) {
        // An inbox of peers has one form; what others may name must not fill the memory.
        let reply = Subject::from(heard.reply.to_owned());
        let known = |inbox: &Inbox| {
            (&inbox.owner, &inbox.group, inbox.last) == (&said.from, &said.group, last)
        };
        if !self.inboxes.get(heard.reply).is_some_and(known) && Kind::borrowed(&reply).is_some() {
            let (owner, group) = (said.from.clone(), said.group.clone());
            self.inboxes.insert(heard.reply.to_owned(), Inbox { owner, group, last });
        }
    }

    fn append_entry(
        &mut self,
        said: &mut Said,
        heard: Heard<'_>,
        bytes: &Bytes,
        to_all: bool,
    ) -> Result<(), WireError> {
        let entry = AppendEntry::decode(bytes)?;
        let heartbeat = entry.entries.is_empty();
        let previous = entry.previous_index.get();
        let index = if heartbeat { previous } else { previous.saturating_add(1) };
        said.from = entry.leader.map(|leader| leader.to_string());
        said.term = Some(entry.term.get());
        said.index = Some(index);
        said.commit = Some(entry.commit.get());
        said.routine = heartbeat;
        said.weighty = entry.entries.iter().any(|entry| entry.kind != EntryKind::Normal);
        said.what = if self.terse && to_all && !said.weighty && self.is_routine(said, &entry) {
            String::new()
        } else if heartbeat {
            format!("heartbeat, committed to {}", entry.commit)
        } else {
            let entries: Vec<Entry> = entry.entries.iter().collect();
            let verb = if to_all { "appends" } else { "catches up with" };
            format!("{verb} {}; committed to {}", self.entries(&entries), entry.commit)
        };
        if to_all && let Some(group) = &said.group {
            let group = self.groups.get_or_default(group);
            group.leader.clone_from(&said.from);
            group.term = entry.term.get();
            group.newest = group.newest.max(index);
        }
        self.note_reply(heard, said, None);
        Ok(())
    }

    /// Whether its leader is known, and it assigns nothing, which is to be remembered.
    fn is_routine(&self, said: &Said, entry: &AppendEntry) -> bool {
        let group = said.group.as_ref().and_then(|group| self.groups.get(group));
        let assigns = |entry: Entry| {
            use Op::{AssignStream, RemoveStream, UpdateStream};
            matches!(Op::of(&entry.data), Ok(AssignStream | UpdateStream | RemoveStream))
        };
        group.is_some_and(|group| group.leader == said.from && Some(group.term) == said.term)
            && !entry.entries.iter().any(assigns)
    }

    /// Entries in a few words.
    fn entries(&mut self, entries: &[Entry]) -> String {
        const SHOWN: usize = 3;
        let mut words: Vec<String> =
            entries.iter().take(SHOWN).map(|entry| self.entry(entry)).collect();
        if entries.len() > SHOWN {
            words.push(format!("{} more", entries.len() - SHOWN));
        }
        words.join(", ")
    }

    fn entry(&mut self, entry: &Entry) -> String {
        match entry.kind {
            EntryKind::Normal => self.entry_data(&entry.data),
            EntryKind::PeerState => match PeerState::decode(&entry.data, &Limits::default()) {
                Ok(state) => format!("{} members", state.peers.len()),
                Err(error) => error.to_string(),
            },
            EntryKind::AddPeer => format!("add {}", entry.data.escape_ascii()),
            EntryKind::RemovePeer => format!("remove {}", entry.data.escape_ascii()),
            EntryKind::LeaderTransfer => format!("leadership to {}", entry.data.escape_ascii()),
            EntryKind::Snapshot | EntryKind::OldSnapshot => {
                format!("snapshot of {} bytes", entry.data.len())
            }
            EntryKind::Unknown(kind) => format!("entry of unknown type {kind}"),
        }
    }

    /// The data of a normal entry in a few words.
    fn entry_data(&mut self, data: &Bytes) -> String {
        let limits = Limits::default();
        match Op::of(data) {
            Ok(op @ (Op::AssignStream | Op::UpdateStream | Op::RemoveStream)) => {
                match StreamAssignment::decode(data, &limits) {
                    Ok(assignment) => self.stream_assignment(op, assignment),
                    // Other groups than those of JetStream have entries of their own.
                    Err(_) => format!("{} bytes", data.len()),
                }
            }
            Ok(_) => match StreamOp::decode(data, &limits) {
                Ok(op) => operation(&op),
                Err(_) => format!("{} bytes", data.len()),
            },
            Err(_) => "nothing".to_owned(),
        }
    }

    fn stream_assignment(&mut self, op: Op, assignment: StreamAssignment) -> String {
        let name = printable(&assignment.config.name);
        let what = match op {
            Op::UpdateStream => "update",
            Op::RemoveStream => "removal",
            _ => "assignment",
        };
        let words = format!("{what} of stream {name} to {}", printable(&assignment.group.name));
        self.syncs.insert(assignment.sync, assignment.group.name);
        words
    }

    fn append_response(
        &mut self,
        said: &mut Said,
        heard: Heard<'_>,
        bytes: &Bytes,
    ) -> Result<(), WireError> {
        let response = AppendResponse::decode(bytes)?;
        said.from = Some(response.peer.to_string());
        said.term = Some(response.term.get());
        said.index = Some(response.index.get());
        let newest = said.group.as_ref().and_then(|group| self.groups.get(group));
        said.gap = newest.map(|group| group.newest.saturating_sub(response.index.get()));
        said.routine = response.success;
        said.alarming = !response.success;
        said.what = match (response.success, heard.reply.is_empty()) {
            (true, _) => "has it".into(),
            (false, true) => "refuses".into(),
            (false, false) => "lacks entries, and asks for them".into(),
        };
        self.note_reply(heard, said, None);
        Ok(())
    }

    fn vote_request(
        &mut self,
        said: &mut Said,
        heard: Heard<'_>,
        bytes: &Bytes,
    ) -> Result<(), WireError> {
        let request = VoteRequest::decode(bytes)?;
        said.from = Some(request.candidate.to_string());
        said.to = Some("all".into());
        said.term = Some(request.term.get());
        said.index = Some(request.last_index.get());
        said.what = format!("asks for votes; its log ends in term {}", request.last_term);
        self.note_reply(heard, said, None);
        Ok(())
    }

    fn sync_request(
        &mut self,
        said: &mut Said,
        heard: Heard<'_>,
        bytes: &Bytes,
    ) -> Result<(), WireError> {
        if let Some(group) = self.syncs.get(heard.subject).cloned() {
            self.to_leader(said, &group);
        }
        let request = SyncRequest::decode(bytes, &Limits::default())?;
        let (first, last) = (request.first.get(), request.last.get());
        said.from = request.peer.map(|peer| peer.to_string());
        said.index = Some(first);
        said.gap = Some(last.saturating_sub(first).saturating_add(1));
        said.what =
            format!("asks for messages {first} to {last}, once {} is applied", request.min_applied);
        self.note_reply(heard, said, Some(last));
        Ok(())
    }

    fn catchup_message(
        &mut self,
        said: &mut Said,
        heard: Heard<'_>,
        bytes: &Bytes,
    ) -> Result<(), WireError> {
        let inbox = self.inboxes.get(heard.subject).cloned().unwrap_or_default();
        said.to.clone_from(&inbox.owner);
        said.group.clone_from(&inbox.group);
        let group = inbox.group.as_ref().and_then(|group| self.groups.get(group));
        said.from = group.and_then(|group| group.leader.clone());
        let reply = Subject::from(heard.reply.to_owned());
        if let Some(Kind::SyncAck { token, .. }) = Kind::borrowed(&reply) {
            let catchup = Catchup { server: said.from.clone(), inbox: inbox.clone() };
            if self.catchups.get(&token).is_none() {
                self.catchups.insert(token, catchup);
            }
        }
        if bytes.is_empty() {
            said.ends = true;
            said.what = "the catchup ends".into();
            return Ok(());
        }
        if CatchupState::is_one(bytes) {
            let state = CatchupState::decode(bytes, &Limits::default())?;
            said.ends = true;
            said.what = format!("the catchup ends with its server's state at {}", state.applied);
            return Ok(());
        }
        if bytes.starts_with(b"{") {
            said.what = format!("answers in {} bytes", bytes.len());
            return Ok(());
        }
        let op = StreamOp::decode(bytes, &Limits::default())?;
        said.index = match &op {
            StreamOp::Message(message) => Some(message.sequence().get()),
            StreamOp::DeleteRange(range) => range.last().map(jetwake::ids::Sequence::get),
            _ => None,
        };
        said.gap = inbox.last.zip(said.index).map(|(last, index)| last.saturating_sub(index));
        said.what = operation(&op);
        Ok(())
    }

    fn catchup_ack(&self, said: &mut Said, token: Token, bytes: &Bytes) {
        if let Some(Catchup { server, inbox }) = self.catchups.get(&token) {
            said.from.clone_from(&inbox.owner);
            said.to.clone_from(server);
            said.group.clone_from(&inbox.group);
        }
        said.routine = bytes.is_empty();
        said.alarming = !bytes.is_empty();
        said.what = match bytes.len() {
            0 => "got it".into(),
            _ => format!("stops the catchup: {}", bytes.escape_ascii()),
        };
    }
}

fn vote_response(said: &mut Said, bytes: &Bytes) -> Result<(), WireError> {
    let response = VoteResponse::decode(bytes)?;
    said.from = Some(response.peer.to_string());
    said.term = Some(response.term.get());
    said.alarming = !response.granted;
    let vote = if response.granted { "votes for it" } else { "refuses its vote" };
    let log = if response.empty { ", its own log is empty" } else { "" };
    said.what = format!("{vote}{log}");
    Ok(())
}

/// What a stream's group or its catchup does, in a few words.
fn operation(op: &StreamOp) -> String {
    match op {
        StreamOp::Message(message) if message.is_skip() => "a message that is no more".into(),
        StreamOp::Message(message) => {
            let size = message.payload().len();
            format!("message {}, {size} bytes", message.subject().escape_ascii())
        }
        StreamOp::Batch(batch) => {
            let batch = batch.view();
            let end = if batch.commit { ", the last" } else { "" };
            format!(
                "message {} of batch {}{end}",
                batch.batch_sequence,
                batch.batch_id.escape_ascii()
            )
        }
        StreamOp::Purge(purge) => format!("purge of {}", printable(&purge.stream)),
        StreamOp::Delete(delete) => format!("deletion of message {}", delete.sequence),
        StreamOp::DeleteRange(range) => {
            format!("{} deleted messages from {}", range.count, range.first)
        }
        StreamOp::Unknown { op, bytes } => format!("op {}, {} bytes", op.as_u8(), bytes.len()),
        _ => "an operation".into(),
    }
}

/// Text that does not steer a terminal.
fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use jetwake::ids::{Index, PeerId, Term};
    use jetwake::wire::{AppendEntryBuilder, StreamConfig};

    use super::*;

    /// What is made of an append entry of this term with one entry.
    fn hear(exchange: &mut Exchange, term: u64, entry: (EntryKind, &[u8])) -> Said {
        let mut builder = AppendEntryBuilder::new();
        assert!(builder.push(entry.0, entry.1));
        let (term, index) = (Term::new(term), Index::new(7));
        let leader = Some(PeerId::from_name("n1"));
        let bytes = builder.finish(leader, term, index, term, index, term);
        let heard = Heard { subject: "$NRG.AE.S-R3F-abcdefgh", reply: "$NRG.R.abcdefgh" };
        exchange.hear(heard, &bytes)
    }

    #[test]
    fn who_is_terse_has_words_for_what_is_told() {
        const MESSAGE: (EntryKind, &[u8]) = (EntryKind::Normal, b"\x04and a message");
        let mut exchange = Exchange::terse();
        assert!(hear(&mut exchange, 1, MESSAGE).what.starts_with("appends "), "a new leader");
        let known = hear(&mut exchange, 1, MESSAGE);
        assert_eq!((&known.what[..], known.index, known.commit), ("", Some(8), Some(7)));
        assert!(hear(&mut exchange, 2, MESSAGE).what.starts_with("appends "), "a new term");
        let transfer = hear(&mut exchange, 2, (EntryKind::LeaderTransfer, b"abcdefgh"));
        assert!(transfer.what.contains("leadership to abcdefgh"), "{}", transfer.what);
        let config = StreamConfig::new("S".to_owned(), vec!["s".to_owned()]);
        let mut assigned = StreamAssignment { config, ..StreamAssignment::default() };
        (assigned.sync, assigned.group.name) = ("$JSC.SYNC.abcdefgh".into(), "S-R3F-x".into());
        let assigned = (EntryKind::Normal, &assigned.encode_assign()[..]);
        let assigned = hear(&mut exchange, 2, assigned);
        assert!(assigned.what.contains("assignment of stream S"), "{}", assigned.what);
        assert!(exchange.syncs.get("$JSC.SYNC.abcdefgh").is_some());

        let mut wordy = Exchange::default();
        for _ in 0..2 {
            assert!(hear(&mut wordy, 1, MESSAGE).what.starts_with("appends "));
        }
    }

    /// Real servers end a catchup with nothing, ours with their state.
    #[test]
    fn a_catchup_ends_with_nothing_or_with_a_state() {
        let mut exchange = Exchange::default();
        let mut ends = |bytes: &'static [u8]| {
            let heard = Heard { subject: "$JSC.R.abcdefgh", reply: "" };
            let said = exchange.hear(heard, &Bytes::from_static(bytes));
            (said.ends, said.what)
        };
        assert_eq!(ends(b""), (true, "the catchup ends".into()));
        let state = b"\xff\x07\0\0\0\0\0\0\0\x2a\x01\x02\x64\x03\x05\x01\x01\x21\x04\x01";
        assert_eq!(ends(state), (true, "the catchup ends with its server's state at 7".into()));
        // Who gets this asks again.
        assert!(!ends(b"\xff\x07\0\0\0\0\0\0\0and no state").0);
        assert!(!ends(b"\x0f{\"First\":1,\"Num\":2}").0);
    }
}
