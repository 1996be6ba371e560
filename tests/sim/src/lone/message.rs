//! What goes between a lone node and the peers that its test plays.

use bytes::Bytes;
use jetwake::command::Destination;
use jetwake::ids::{Index, PeerId, Term};
use jetwake::subject::{Kind, Subject};
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, AppendResponse, EntryKind, PeerState, SnapshotTransfer,
    VoteRequest, VoteResponse,
};

/// A message that the node sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// To whom.
    pub to: Destination,
    /// Where it arrives.
    pub subject: Subject,
    /// Where an answer is awaited.
    pub reply: Option<Subject>,
    /// What it says.
    pub message: Message,
}

/// What a message of the node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Entries or a heartbeat, live or for a catchup.
    Append(AppendEntry),
    /// An answer to an append entry.
    AppendResponse(AppendResponse),
    /// A candidate's question.
    VoteRequest(VoteRequest),
    /// An answer to a candidate.
    VoteResponse(VoteResponse),
    /// About a snapshot in parts.
    Transfer(SnapshotTransfer),
    /// Something else: a forwarded proposal, a stream's catchup.
    Other(Bytes),
}

impl Message {
    /// Reads what the node sends.
    ///
    /// # Panics
    /// If it cannot be read: the node must send nothing of that kind.
    pub fn read(subject: &Subject, payload: &Bytes) -> Self {
        const READS: &str = "what the node sends can be read";
        match Kind::borrowed(subject) {
            Some(Kind::AppendEntry(_)) => Self::Append(AppendEntry::decode(payload).expect(READS)),
            Some(Kind::Vote(_)) => Self::VoteRequest(VoteRequest::decode(payload).expect(READS)),
            Some(Kind::RaftReply(_) | Kind::CatchupProgress(_))
                if payload.len() == AppendResponse::LEN =>
            {
                Self::AppendResponse(AppendResponse::decode(payload).expect(READS))
            }
            Some(Kind::RaftReply(_)) => {
                Self::VoteResponse(VoteResponse::decode(payload).expect(READS))
            }
            Some(Kind::RaftCatchupInParts(_) | Kind::CatchupProgress(_))
                if SnapshotTransfer::is_one(payload) =>
            {
                Self::Transfer(SnapshotTransfer::decode(payload).expect(READS))
            }
            Some(Kind::RaftCatchup(_) | Kind::RaftCatchupInParts(_)) => {
                Self::Append(AppendEntry::decode(payload).expect(READS))
            }
            _ => Self::Other(payload.clone()),
        }
    }
}

/// An append entry of a peer, built step by step: a heartbeat of an empty log at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    leader: PeerId,
    term: u64,
    commit: u64,
    previous: (u64, u64),
    leader_term: u64,
    entries: Vec<(EntryKind, Bytes)>,
}

impl Append {
    /// Of this server, with records of this term.
    pub fn by(leader: &str, term: u64) -> Self {
        let leader = PeerId::from_name(leader);
        Self { leader, term, commit: 0, previous: (0, 0), leader_term: 0, entries: Vec::new() }
    }

    /// It follows the record of this term at this index.
    pub const fn after(mut self, term: u64, index: u64) -> Self {
        self.previous = (term, index);
        self
    }

    /// Its sender has committed so far.
    pub const fn commit(mut self, commit: u64) -> Self {
        self.commit = commit;
        self
    }

    /// Its sender leads in this term, which it says apart from the records' own.
    pub const fn led_in(mut self, term: u64) -> Self {
        self.leader_term = term;
        self
    }

    /// One more normal entry.
    pub fn entry(self, text: &'static str) -> Self {
        self.part(EntryKind::Normal, text)
    }

    /// One more entry.
    pub fn part(mut self, kind: EntryKind, data: impl Into<Bytes>) -> Self {
        self.entries.push((kind, data.into()));
        self
    }

    /// The two entries with which a leader sends a snapshot: `data`, and these members.
    pub fn snapshot(self, data: impl Into<Bytes>, members: &[&str]) -> Self {
        let state = PeerState {
            cluster_size: u32::try_from(members.len()).expect("a test has few members"),
            peers: members.iter().map(|name| PeerId::from_name(name)).collect(),
            domain: Default::default(),
        };
        self.part(EntryKind::Snapshot, data).part(EntryKind::PeerState, state.to_bytes())
    }

    /// Its sender.
    pub const fn leader(&self) -> PeerId {
        self.leader
    }

    /// As it stands on the wire.
    ///
    /// # Panics
    /// If it has more entries than the wire carries.
    pub fn to_bytes(&self) -> Bytes {
        let mut builder = AppendEntryBuilder::new();
        for (kind, data) in &self.entries {
            assert!(builder.push(*kind, data), "a test has few entries");
        }
        let (previous_term, previous_index) = self.previous;
        builder.finish(
            self.leader,
            Term::new(self.term),
            Index::new(self.commit),
            Term::new(previous_term),
            Index::new(previous_index),
            Term::new(self.leader_term),
        )
    }
}
