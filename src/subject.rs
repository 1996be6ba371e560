//! Subjects: the addresses of messages between peers, and those that clients publish to.
//!
//! Upstream: `server/raft.go` (`$NRG`), `syncSubject` and its kin in
//! `server/jetstream_cluster.go` (`$JSC`), and `server/sublist.go` for what a client may use.

use alloc::format;
use alloc::string::String;
use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::ids::GroupName;
use crate::random::Random;

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

    /// The subject with `*` in place of its last token; none if it has but one.
    pub fn with_last_wildcard(&self) -> Option<Self> {
        let dot = self.0.iter().rposition(|byte| *byte == b'.')?;
        let mut bytes = BytesMut::with_capacity(dot + 2);
        bytes.put_slice(&self.0[..=dot]);
        bytes.put_u8(b'*');
        Some(Self(bytes.freeze()))
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

/// Eight base-62 digits that make an inbox unique.
pub type Token = [u8; 8];

const APPEND_ENTRY: &str = "$NRG.AE.";
const VOTE: &str = "$NRG.V.";
const PROPOSAL: &str = "$NRG.P.";
const REMOVE_PEER: &str = "$NRG.RP.";
const RAFT_REPLY: &str = "$NRG.R.";
const RAFT_CATCHUP: &str = "$NRG.CR.";
/// What the inbox of a follower ends with that takes snapshots in parts.
const IN_PARTS: &str = ".P";
const CATCHUP_PROGRESS: &str = "$NRG.CP.";
const SYNC: &str = "$JSC.SYNC.";
const SYNC_REPLY: &str = "$JSC.R.";
const SYNC_ACK: &str = "$JSC.ACK.";

/// A subject between peers, taken apart. `G` is how the group's name is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<G = GroupName> {
    /// Append entries for a group.
    AppendEntry(G),
    /// Vote requests for a group.
    Vote(G),
    /// Proposals forwarded to a group's leader.
    Proposal(G),
    /// Wishes to remove a peer, forwarded to a group's leader.
    RemovePeer(G),
    /// Answers to append entries or votes.
    RaftReply(Token),
    /// Append entries for a follower that catches up with its group's log.
    RaftCatchup(Token),
    /// The same, for one that takes large snapshots in parts: a node of this kind.
    RaftCatchupInParts(Token),
    /// How far such a follower is, told to the leader that feeds it; counts towards no quorum.
    CatchupProgress(Token),
    /// Requests for a stream's catchup.
    Sync(Token),
    /// A stream's catchup, or the answer to a question about a stream: upstream names both alike.
    SyncReply(Token),
    /// Acknowledgements of a stream's catchup.
    SyncAck {
        /// Names the catchup.
        token: Token,
        /// The bytes acknowledged; none in the wildcard form that is subscribed to.
        bytes: Option<u64>,
    },
}

impl Kind {
    /// Takes a subject of ours apart; none if it is not one. Copies the group's name;
    /// [`Kind::borrowed`] does not.
    pub fn parse(subject: &Subject) -> Option<Self> {
        // A group's name was checked to be one when it was borrowed.
        let owned = |group: &str| GroupName::new(group).ok();
        Some(match Kind::borrowed(subject)? {
            Kind::AppendEntry(group) => Self::AppendEntry(owned(group)?),
            Kind::Vote(group) => Self::Vote(owned(group)?),
            Kind::Proposal(group) => Self::Proposal(owned(group)?),
            Kind::RemovePeer(group) => Self::RemovePeer(owned(group)?),
            Kind::RaftReply(token) => Self::RaftReply(token),
            Kind::RaftCatchup(token) => Self::RaftCatchup(token),
            Kind::RaftCatchupInParts(token) => Self::RaftCatchupInParts(token),
            Kind::CatchupProgress(token) => Self::CatchupProgress(token),
            Kind::Sync(token) => Self::Sync(token),
            Kind::SyncReply(token) => Self::SyncReply(token),
            Kind::SyncAck { token, bytes } => Self::SyncAck { token, bytes },
        })
    }
}

impl<'a> Kind<&'a str> {
    /// Takes a subject of ours apart without taking memory; none if it is not one.
    pub fn borrowed(subject: &'a Subject) -> Option<Self> {
        let text = core::str::from_utf8(subject.as_bytes()).ok()?;
        let after = |prefix| text.strip_prefix(prefix);
        if let Some(rest) = text.strip_prefix("$NRG.") {
            return match rest.split_once('.')? {
                ("AE", group) => group_name(group).map(Self::AppendEntry),
                ("V", group) => group_name(group).map(Self::Vote),
                ("P", group) => group_name(group).map(Self::Proposal),
                ("RP", group) => group_name(group).map(Self::RemovePeer),
                ("R", rest) => token(rest).map(Self::RaftReply),
                ("CR", rest) => match rest.strip_suffix(IN_PARTS) {
                    Some(rest) => token(rest).map(Self::RaftCatchupInParts),
                    None => token(rest).map(Self::RaftCatchup),
                },
                ("CP", rest) => token(rest).map(Self::CatchupProgress),
                _ => None,
            };
        }
        if let Some(rest) = after(SYNC_ACK) {
            let (name, bytes) = rest.split_once('.')?;
            let bytes = if bytes == "*" { None } else { Some(count(bytes)?) };
            return Some(Self::SyncAck { token: token(name)?, bytes });
        }
        if let Some(rest) = after(SYNC) {
            return token(rest).map(Self::Sync);
        }
        token(after(SYNC_REPLY)?).map(Self::SyncReply)
    }
}

/// A group's name, if it is one.
fn group_name(text: &str) -> Option<&str> {
    GroupName::is_valid(text).then_some(text)
}

/// Eight base-62 digits.
fn token(text: &str) -> Option<Token> {
    let token = Token::try_from(text.as_bytes()).ok()?;
    token.iter().all(u8::is_ascii_alphanumeric).then_some(token)
}

/// A decimal number as Go prints it: digits only, none of them a leading zero.
fn count(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero { text.parse().ok() } else { None }
}

/// Joins a prefix and its last token: one allocation.
fn join(prefix: &str, last: &[u8]) -> Subject {
    let mut subject = BytesMut::with_capacity(prefix.len() + last.len());
    subject.put_slice(prefix.as_bytes());
    subject.put_slice(last);
    Subject(subject.freeze())
}

/// Where a group's append entries go.
pub fn append_entry(group: &GroupName) -> Subject {
    join(APPEND_ENTRY, group.as_str().as_bytes())
}

/// Where a group's vote requests go.
pub fn vote(group: &GroupName) -> Subject {
    join(VOTE, group.as_str().as_bytes())
}

/// Where proposals for a group's leader go.
pub fn proposal(group: &GroupName) -> Subject {
    join(PROPOSAL, group.as_str().as_bytes())
}

/// Where wishes to remove a peer go.
pub fn remove_peer(group: &GroupName) -> Subject {
    join(REMOVE_PEER, group.as_str().as_bytes())
}

/// A new inbox for the answers to append entries and votes.
pub fn raft_reply(random: &mut Random) -> Subject {
    join(RAFT_REPLY, &random.inbox_token())
}

/// A new inbox for a catchup of a group's log.
pub fn raft_catchup(random: &mut Random) -> Subject {
    join(RAFT_CATCHUP, &random.inbox_token())
}

/// A new inbox for a catchup of a group's log that may begin with a snapshot in parts. To servers of
/// another kind it is an inbox like any other.
pub fn raft_catchup_in_parts(random: &mut Random) -> Subject {
    let mut last = random.inbox_token().to_vec();
    last.extend_from_slice(IN_PARTS.as_bytes());
    join(RAFT_CATCHUP, &last)
}

/// Whether who waits at this inbox of a catchup takes snapshots in parts.
pub fn takes_parts(inbox: &Subject) -> bool {
    matches!(Kind::borrowed(inbox), Some(Kind::RaftCatchupInParts(_)))
}

/// Where a leader hears how far those are whom it feeds: the inbox beside that for answers. Servers
/// since 2.15 tell it at such inboxes alone.
pub fn catchup_progress(replies: &Subject) -> Subject {
    let token = replies.as_bytes().strip_prefix(RAFT_REPLY.as_bytes()).unwrap_or_default();
    join(CATCHUP_PROGRESS, token)
}

/// Whether a catchup's progress is told there, and nothing else.
pub fn is_catchup_progress(subject: &Subject) -> bool {
    subject.as_bytes().starts_with(CATCHUP_PROGRESS.as_bytes())
}

/// A prefix, a dot and eight digits of the random source, as upstream's `syncSubject`.
pub fn sync_subject(prefix: &str, random: &mut Random) -> Subject {
    join(&format!("{prefix}."), &random.inbox_token())
}

/// A new subject on which a stream's catchups are asked for.
pub fn sync_subject_for_stream(random: &mut Random) -> Subject {
    join(SYNC, &random.inbox_token())
}

/// A new inbox for a stream's catchup.
pub fn sync_reply_subject(random: &mut Random) -> Subject {
    join(SYNC_REPLY, &random.inbox_token())
}

/// A new inbox for answers about a stream.
pub fn info_reply_subject(random: &mut Random) -> Subject {
    join(SYNC_REPLY, &random.inbox_token())
}

/// A new wildcard for the acknowledgements of a stream's catchup.
pub fn sync_ack_subject(random: &mut Random) -> Subject {
    sync_ack_wildcard(random.inbox_token())
}

/// The wildcard for the acknowledgements of the catchup of this token.
pub fn sync_ack_wildcard(token: Token) -> Subject {
    sync_ack(token, b"*")
}

/// Where this many bytes of the catchup of this token are acknowledged.
pub fn sync_ack_with(token: Token, bytes: u64) -> Subject {
    let mut digits = [0; 20];
    sync_ack(token, decimal(bytes, &mut digits))
}

fn sync_ack(token: Token, last: &[u8]) -> Subject {
    let mut subject = BytesMut::with_capacity(SYNC_ACK.len() + token.len() + 1 + last.len());
    subject.put_slice(SYNC_ACK.as_bytes());
    subject.put_slice(&token);
    subject.put_u8(b'.');
    subject.put_slice(last);
    Subject(subject.freeze())
}

/// The number's digits, written from the back of the room given.
fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut start = room.len();
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    &room[start..]
}

/// Whether a client may publish to the subject: tokens between dots, none empty, none a
/// wildcard, no space, tab, line break, form feed or zero. It need not be UTF-8.
pub fn is_valid_publish(subject: &[u8]) -> bool {
    !subject.is_empty()
        && subject
            .split(|byte| *byte == b'.')
            .all(|token| !matches!(token, b"" | b"*" | b">") && is_plain(token))
}

/// Whether a client may subscribe to the subject, or a stream take it: as
/// [`is_valid_publish`], but a token may be `*`, and the last one `>`.
pub fn is_valid_filter(filter: &[u8]) -> bool {
    let mut tokens = filter.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || !is_plain(token) || token == b">" && tokens.peek().is_some() {
            return false;
        }
    }
    !filter.is_empty()
}

/// No byte that upstream forbids inside of a token.
fn is_plain(token: &[u8]) -> bool {
    !token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c | 0))
}

/// Whether a valid filter takes a valid subject. `*` stands for one token, a last `>` for one
/// or more.
pub fn matches(filter: &[u8], subject: &[u8]) -> bool {
    let mut wanted = filter.split(|byte| *byte == b'.');
    let mut given = subject.split(|byte| *byte == b'.');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) => return true,
            (Some(b"*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

/// Whether every subject that `filter` takes is taken by `of` too. Upstream:
/// `subjectIsSubsetMatch`.
pub fn is_subset(filter: &[u8], of: &[u8]) -> bool {
    let mut outer = of.split(|byte| *byte == b'.');
    let mut inner = filter.split(|byte| *byte == b'.');
    loop {
        match (outer.next(), inner.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) => return true,
            (_, Some(b">")) => return false,
            (Some(b"*"), Some(_)) => {}
            (Some(outer), Some(inner)) if outer == inner && inner != b"*" => {}
            _ => return false,
        }
    }
}

/// Whether some subject is taken by both filters. Upstream: `SubjectsCollide`.
pub fn collide(one: &[u8], other: &[u8]) -> bool {
    let mut left = one.split(|byte| *byte == b'.');
    let mut right = other.split(|byte| *byte == b'.');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(b">"), Some(_)) | (Some(_), Some(b">")) => return true,
            (Some(b"*"), Some(_)) | (Some(_), Some(b"*")) => {}
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
    }
}
