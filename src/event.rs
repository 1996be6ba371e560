//! Events: the facts that a driver tells a [`Node`](crate::node::Node).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::servers::Server;
use crate::consumer::Wish;
use crate::ids::{
    ByteCount, CheckpointId, GroupId, Index, LoadId, PeerId, RequestId, Sequence, StoreId, Term,
    WriteId,
};
use crate::subject::Subject;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A group's disk was opened: what it holds. Comes once for each group of the configuration, and
    /// for each that [`Command::OpenGroup`](crate::command::Command::OpenGroup) asked for, before
    /// all else that concerns it.
    Opened {
        /// The group whose files were opened.
        group: GroupId,
        /// What was found.
        disk: Opened,
    },
    /// A message reached a subject that the node listens to.
    Received {
        /// Who sent it, if the transport knows (a certificate does; a NATS server does not).
        from: Option<PeerId>,
        /// Where it arrived.
        subject: Subject,
        /// Where its sender awaits an answer.
        reply: Option<Subject>,
        /// Its bytes, not yet decoded.
        payload: Bytes,
    },
    /// The transport can reach this peer now.
    Connected(PeerId),
    /// The transport lost this peer.
    Disconnected(PeerId),
    /// A client of this node asks for something; answered by
    /// [`Command::Answer`](crate::command::Command::Answer) with the same id, once.
    Request {
        /// Numbers the request.
        id: RequestId,
        /// The group that it is for.
        group: GroupId,
        /// What is asked.
        request: Request,
    },
    /// Every log write up to this id is on disk: synced, and read back whole after a power cut.
    Written {
        /// The last such write.
        through: WriteId,
    },
    /// A log write failed; nothing of it may be relied on, nor of later writes of its group.
    WriteFailed {
        /// The group that it was for.
        group: GroupId,
        /// The write.
        write: WriteId,
        /// What the disk said.
        failure: Failure,
    },
    /// Every store write up to this id was taken: later reads see it. Nothing is said of power
    /// cuts.
    Stored {
        /// The last such write.
        through: StoreId,
    },
    /// Every store write of the group up to this id is on disk, as
    /// [`Command::SyncStore`](crate::command::Command::SyncStore) asked.
    StoreSynced {
        /// The group.
        group: GroupId,
        /// The last write that was synced.
        through: StoreId,
    },
    /// A store write or sync failed.
    StoreFailed {
        /// The group that it was for.
        group: GroupId,
        /// What the disk said.
        failure: Failure,
    },
    /// Log records that were asked for: consecutive from the first that was asked for, at least
    /// one, not necessarily all.
    Loaded {
        /// The load that is answered.
        load: LoadId,
        /// The records, in order.
        records: Vec<Bytes>,
    },
    /// Messages that were asked for, in order of sequence. Fewer than asked for if
    /// `next` names where to go on.
    Read {
        /// The read that is answered.
        load: LoadId,
        /// What the store holds in the range.
        messages: Vec<StoredMessage>,
        /// The first sequence that this answer says nothing about, if any is left.
        next: Option<Sequence>,
    },
    /// A load or read could not be done.
    LoadFailed {
        /// The load or read.
        load: LoadId,
        /// What the disk said.
        failure: Failure,
    },
    /// The machine of a plain group has applied entries.
    Applied {
        /// The group.
        group: GroupId,
        /// The last applied entry.
        through: Index,
    },
    /// The machine of a plain group offers its state, to shorten the log; a refusal comes by
    /// [`Command::Checkpoint`](crate::command::Command::Checkpoint).
    SnapshotTaken {
        /// The group.
        group: GroupId,
        /// The last applied entry that the state contains.
        index: Index,
        /// The state; it comes back by
        /// [`Command::ApplySnapshot`](crate::command::Command::ApplySnapshot).
        data: Bytes,
    },
    /// The moment of [`Node::deadline`](crate::node::Node::deadline) has come.
    DeadlineReached,
    /// A server says what it can read, as nats-servers do in their status messages. Of a server that
    /// says nothing it is believed that it reads all.
    Announced {
        /// The server.
        peer: PeerId,
        /// Whether it reads snapshots of streams in the binary form of 2.10 and later.
        binary_snapshots: bool,
    },
    /// The machine of a plain group says something else.
    Machine {
        /// The group.
        group: GroupId,
        /// What it says.
        says: MachineSays,
    },
    /// A server tells of itself, as nats-servers do in their status messages: what the leader of the
    /// meta group chooses by. A member of that group of which nothing was told is believed to have
    /// room and no tags; others are not kept. Who is offline the group finds out by itself.
    ServerTold {
        /// The server.
        peer: PeerId,
        /// What it told.
        server: Box<Server>,
    },
    /// The answer to a read that begins with messages which the store has and cannot give: what is
    /// there is not what was written.
    MessagesLost {
        /// The read that is answered.
        load: LoadId,
        /// Which messages.
        lost: LostMessages,
    },
    /// The stream of a group was made by others: they ask for its catchups, and are asked, at this
    /// subject. Comes before [`Event::Opened`]; without it the subject follows from the group's name.
    Assigned {
        /// The group.
        group: GroupId,
        /// The subject, such as `$JSC.SYNC.abcdefgh`.
        sync: Subject,
    },
    /// A part of a snapshot file that was asked for, from the byte that was asked for on.
    SnapshotLoaded {
        /// The load that is answered.
        load: LoadId,
        /// As many bytes as were asked for; fewer only where the file ends.
        part: Bytes,
    },
}

/// What the machine of a plain group tells its group, in the order in which it happened.
///
/// Streams have their machine in the core; what this says of one is ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MachineSays {
    /// It has taken entries in, and applied a part of them. The rest must stay in the log, because
    /// a snapshot taken now would lack it. Upstream: `Processed`, where
    /// [`Event::Applied`] is `Applied`.
    Processed {
        /// The last entry that it has taken in. More than it was handed is ignored.
        through: Index,
        /// The last entry that its state contains; counts as `through` if it is more.
        applied: Index,
    },
    /// It takes nothing more for now. A leader hands over; the group goes on without it. Upstream:
    /// `PauseApply`.
    Paused,
    /// It goes on. Upstream: `ResumeApply`.
    Resumed,
    /// It could not take the last snapshot on, or lost its state: it wants that snapshot again, then
    /// nothing until it says [`Resumed`](Self::Resumed), then everything behind the snapshot. What
    /// it has not applied of earlier commands it drops. Without a snapshot nothing happens.
    /// Upstream: `DrainAndReplaySnapshot`.
    NeedsSnapshot,
    /// It makes a snapshot, step by step; answered by
    /// [`Command::Checkpoint`](crate::command::Command::Checkpoint).
    Checkpoint(CheckpointStep),
    /// It has taken a part of a snapshot in, and waits for the next. Not said of the last one, behind
    /// which [`Event::Applied`] comes.
    TookPart {
        /// What the snapshot covers.
        index: Index,
        /// Bytes of the snapshot's data that it has, this part included.
        through: u64,
    },
}

/// A step of a checkpoint: a snapshot that a machine makes while its group goes on.
///
/// One checkpoint is under way at a time. A snapshot of the leader's ends it: an older one never
/// replaces a newer. Upstream: `RaftNodeCheckpoint` in `server/raft.go`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CheckpointStep {
    /// Begin: the snapshot is to cover what the machine has said to be applied.
    Begin {
        /// Even if followers are being fed from the log, which then have to be fed the snapshot.
        force: bool,
    },
    /// Hand out the data of the snapshot before this one, or the first part of it if it is large.
    LoadSnapshot(CheckpointId),
    /// Hand out records that this snapshot adds to the one before, at most
    /// [`Limits::load`](crate::limits::Limits::load) bytes of them.
    LoadRecords {
        /// The checkpoint.
        id: CheckpointId,
        /// The first of them; one that is covered already counts as the first that is not.
        first: Index,
    },
    /// The next part of the data, in order. While the data is no more than
    /// [`Limits::snapshot_part`](crate::limits::Limits::snapshot_part) nothing is said of it; what is
    /// more goes to the disk as it comes, which
    /// [`CheckpointNews::Written`](crate::command::CheckpointNews::Written) tells. No more than
    /// [`Limits::snapshot_parts_in_flight`](crate::limits::Limits::snapshot_parts_in_flight) may wait.
    Write {
        /// The checkpoint.
        id: CheckpointId,
        /// Some bytes.
        part: Bytes,
    },
    /// All parts are there: put the snapshot in the place of the one before, and compact the log
    /// when it is durable. What was written in parts is read back before, and its hash checked.
    Finish(CheckpointId),
    /// Forget it.
    Abandon(CheckpointId),
    /// Hand out the next part of the snapshot before this one.
    NextPart(CheckpointId),
}

/// What a group's disk holds when a node starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The term and vote, of the newer of the two slots that passes its checksum; none on a
    /// disk that was never written.
    pub vote: Option<TermAndVote>,
    /// The newest snapshot file; the core verifies it.
    pub snapshot: Option<SnapshotFound>,
    /// The first and last record of the log, if it has any.
    pub log: Option<(Index, Index)>,
    /// How far the store has got, if it was ever written.
    pub store: Option<StoreMark>,
    /// What the last [`StoreChange::OnlyAdds`](crate::command::StoreChange::OnlyAdds) said; needed
    /// only where the mark says so.
    pub only_adds: Option<Bytes>,
    /// What the disk says of itself: the last
    /// [`LogChange::Standing`](crate::command::LogChange::Standing), or
    /// [`Standing::Unknown`] if it was never written for this group.
    pub standing: Standing,
    /// What could not be read or does not hold together. A member that lost what it may have
    /// promised promises nothing until it is repaired.
    pub damage: Vec<Damaged>,
}

/// A snapshot file that a start finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotFound {
    /// Its bytes.
    Whole(Bytes),
    /// One that is too large to be handed in whole: the core reads it with
    /// [`Command::LoadSnapshot`](crate::command::Command::LoadSnapshot).
    InParts {
        /// How many bytes it has.
        length: u64,
    },
}

/// What a member's disk says of the promises that were made on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Standing {
    /// All that the member ever acknowledged or voted is on it.
    #[default]
    Whole,
    /// Nothing was ever written: the member is new, or its disk is.
    Unknown,
    /// Something that it may have promised is lost.
    Impaired(Impairment),
}

/// What a member lost, as it stands on its disk until it has it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impairment {
    /// What may be gone.
    pub lost: Loss,
    /// What was found damaged, the first [`Impairment::DAMAGES`] of it.
    pub found: Vec<Damage>,
}

impl Impairment {
    /// Damages that are remembered; more of them help nobody.
    pub const DAMAGES: usize = 16;
}

/// What an impaired member may have promised and no longer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Loss {
    /// Records that it acknowledged. It promised nothing in a term behind `promised`.
    Records {
        /// The newest term in which it may have acknowledged or voted.
        promised: Term,
    },
    /// Whom it voted for, and in which terms.
    Votes,
    /// Both.
    Everything,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records { promised } => {
                write!(f, "records that it may have acknowledged up to term {promised}")
            }
            Self::Votes => write!(f, "its votes"),
            Self::Everything => write!(f, "its votes and records that it may have acknowledged"),
        }
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lost {}", self.lost)?;
        let mut before = ": ";
        for damage in &self.found {
            write!(f, "{before}{damage}")?;
            before = "; ";
        }
        Ok(())
    }
}

/// A damaged part of a group's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Damaged {
    /// The term and vote: neither slot can be read.
    Vote(Damage),
    /// The snapshot; [`Opened::snapshot`] is none then.
    Snapshot(Damage),
    /// The log. Loads give its records up to the first bad one, and fail with
    /// [`Failure::Damaged`] at that one.
    Log(Damage),
    /// The store. Reads say which messages are lost ([`Event::MessagesLost`]); if
    /// [`Opened::store`] is none, nothing of it is relied on.
    Store(Damage),
}

impl Damaged {
    /// What was found.
    pub const fn damage(&self) -> &Damage {
        match self {
            Self::Vote(damage)
            | Self::Snapshot(damage)
            | Self::Log(damage)
            | Self::Store(damage) => damage,
        }
    }
}

/// A term and the vote given in it, as they stand on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermAndVote {
    /// The newest term that the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<PeerId>,
}

/// How far a stream's store has got; written in one piece with what it describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMark {
    /// The last log record that is applied.
    pub applied: Index,
    /// The term of that record.
    pub term: Term,
    /// How many normal entries of the record behind it are applied as well: a record with
    /// messages and purges is stored in steps, and none is repeated after a crash.
    pub entries: u32,
    /// Whether the store's messages are more than its stream has, since it was caught up by a replica
    /// that was ahead: removals are behind, up to what
    /// [`StoreChange::OnlyAdds`](crate::command::StoreChange::OnlyAdds) said.
    pub only_added: bool,
    /// The first sequence of the stream.
    pub first: Sequence,
    /// The last sequence that the stream ever had.
    pub last: Sequence,
    /// Proposed messages that failed when they were applied (upstream's `clfs`).
    pub failed: u64,
}

/// A part of a disk that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in the file, in bytes, if that is known.
    pub offset: Option<u64>,
    /// What was found there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// A run of messages that a store had, and cannot give any more.
///
/// They stay lost until [`StoreChange::Mend`](crate::command::StoreChange::Mend) puts others in
/// their place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostMessages {
    /// The first sequence of the run; not above the first message that was asked for.
    pub first: Sequence,
    /// The last sequence of the run.
    pub last: Sequence,
    /// How many messages the store has between the two, if it knows.
    pub count: Option<u64>,
    /// What was found.
    pub damage: Damage,
}

/// Why a disk did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No space is left.
    #[error("no space is left: {0}")]
    Full(Damage),
    /// What is there is not what was written.
    #[error("damaged: {0}")]
    Damaged(Damage),
    /// The operating system refused.
    #[error("{0}")]
    Io(Damage),
}

/// A message as the store gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// Its record, op byte first, as it was handed to the store.
    pub record: Bytes,
}

/// What a client asks of a stream, on the node that it is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Store a message; answered with upstream's PubAck JSON when a quorum has it on disk.
    /// Only the leader takes it. In a plain group it is an entry, made of the payload alone, and
    /// the answer is `{"index":n}`.
    Publish {
        /// The subject, which one of the stream's subjects must match.
        subject: Bytes,
        /// NATS header block, `NATS/1.0\r\n…\r\n\r\n`, or empty.
        header: Bytes,
        /// The body.
        payload: Bytes,
    },
    /// Read a run of messages from this replica, applied or not by others.
    Read {
        /// The first sequence.
        first: Sequence,
        /// Messages at most.
        most: usize,
        /// Bytes at most, but at least one message.
        bytes: ByteCount,
    },
    /// Delete one message. Only the leader takes it.
    Delete {
        /// Which.
        sequence: Sequence,
    },
    /// Remove messages from the front. Only the leader takes it.
    Purge {
        /// Only those whose subject matches; all if empty.
        filter: Bytes,
        /// Only those below this sequence; all if zero.
        before: Sequence,
        /// Keep this many of the newest.
        keep: u64,
    },
    /// Describe the group, and its stream if it has one, as this replica sees it.
    Info,
    /// Take a snapshot now and compact the log.
    Snapshot,
    /// Give up leadership, to this peer if it is named.
    StepDown {
        /// Who should lead next.
        to: Option<PeerId>,
    },
    /// Add a member to the group: the leader gives it what it lacks, and then counts it. Answered
    /// when that is committed. Only the leader takes it.
    AddPeer {
        /// Who; its node waits for this, or was a member before.
        peer: PeerId,
    },
    /// Remove a member from the group, a dead one too; answered when that is committed. Who does
    /// not lead forwards it to the leader.
    RemovePeer {
        /// Who; a leader that is to go hands over first.
        peer: PeerId,
    },
    /// Hand an entry of a plain group, or of the meta group, to whoever leads. Answered at once:
    /// nothing is promised.
    Forward {
        /// The entry.
        payload: Bytes,
    },
    /// Ask for votes now, unless a leader is heard.
    Campaign,
    /// Follow and vote, but never ask for votes; or be an ordinary member again. Who leads hands
    /// over first. Not remembered over a restart.
    Observe {
        /// Whether to be an observer.
        observer: bool,
    },
    /// What JetStream's API offers for streams and consumers: create, update, delete, info, names
    /// and lists. Only the leader of the meta group takes it. A wish is answered when it is committed
    /// there: the members of the stream or consumer begin then.
    Api {
        /// Upstream's client information as JSON, from which the account and the cluster follow; or
        /// empty.
        client: Bytes,
        /// The subject, such as `$JS.API.STREAM.CREATE.ORDERS`.
        subject: Bytes,
        /// Upstream's JSON, or empty.
        payload: Bytes,
    },
    /// A step of a consumer, asked for by who delivers its messages. Only its leader takes it;
    /// answered when it is committed, or at once if it changes nothing. A delivery is answered by
    /// `{"consumer_seq":n,"stream_seq":m,"deliveries":k}`, with `"exceeded":true` if the message was
    /// delivered as often as it may be before, and is not to be sent.
    Consumer(Wish),
    /// Read the newest message of some subjects from this replica, applied or not by others; answered
    /// by one message, or by none.
    ReadLast {
        /// The subjects, with wildcards; all if empty.
        filter: Bytes,
    },
    /// Store a message of another stream, for who pulls from it: as [`Publish`](Self::Publish), but on
    /// any subject, and as it was stored there. Its header names where it comes from
    /// (`Nats-Stream-Source`), and has none of the fields that begin with `Nats-Expected-` or
    /// `Nats-Batch-`.
    Source {
        /// The subject.
        subject: Bytes,
        /// NATS header block.
        header: Bytes,
        /// The body.
        payload: Bytes,
    },
}
