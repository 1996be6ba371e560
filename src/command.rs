//! Commands: what a [`Node`](crate::node::Node) asks of its driver.
//!
//! Log writes are performed in the order of their ids, as are store writes; loads and reads see
//! every write that was asked before them. Nothing else is ordered. A message that rests on a
//! write is not handed out before [`Event::Written`](crate::event::Event::Written) said that the
//! write is on disk: a driver need not, and cannot, get that wrong.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{Damaged, Impairment, Standing, StoreMark, TermAndVote};
use crate::ids::{
    ByteCount, CheckpointId, GroupId, GroupName, Index, LoadId, LogSize, PeerId, RequestId,
    Sequence, StoreId, Term, WriteId,
};
use crate::subject::Subject;
use crate::time::Time;
use crate::wire::StorageType;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Send a message. It may be lost, doubled or late.
    Send {
        /// To whom.
        to: Destination,
        /// The subject it arrives at.
        subject: Subject,
        /// Where an answer is awaited.
        reply: Option<Subject>,
        /// The bytes.
        payload: Bytes,
    },
    /// Listen to a subject: one literal subject, or one whose last token is `*`.
    Subscribe(Subject),
    /// Listen no longer.
    Unsubscribe(Subject),
    /// Change a group's log, and sync it; report with
    /// [`Event::Written`](crate::event::Event::Written).
    Write {
        /// Numbers the write.
        id: WriteId,
        /// Whose log.
        group: GroupId,
        /// The change.
        change: LogChange,
    },
    /// Read log records `first..=last`; answer with
    /// [`Event::Loaded`](crate::event::Event::Loaded).
    Load {
        /// Numbers the load.
        id: LoadId,
        /// Whose log.
        group: GroupId,
        /// The first record.
        first: Index,
        /// The last record.
        last: Index,
        /// Stop after this many bytes, but not before one record.
        bytes: ByteCount,
    },
    /// Change a group's store without syncing it; report with
    /// [`Event::Stored`](crate::event::Event::Stored).
    Store {
        /// Numbers the write.
        id: StoreId,
        /// Whose store.
        group: GroupId,
        /// The change.
        change: StoreChange,
        /// How far the store is after the change; written in one piece with it.
        mark: StoreMark,
    },
    /// Make a group's store survive a power cut as it is now; report with
    /// [`Event::StoreSynced`](crate::event::Event::StoreSynced).
    SyncStore {
        /// Whose store.
        group: GroupId,
        /// The last store write that must be covered.
        through: StoreId,
    },
    /// Read messages `first..=last`; answer with [`Event::Read`](crate::event::Event::Read), or
    /// [`Event::MessagesLost`](crate::event::Event::MessagesLost).
    Read {
        /// Numbers the read.
        id: LoadId,
        /// Whose store.
        group: GroupId,
        /// The first sequence.
        first: Sequence,
        /// The last sequence.
        last: Sequence,
        /// Stop after this many messages.
        messages: usize,
        /// Stop after this many bytes, but not before one message.
        bytes: ByteCount,
    },
    /// Answer a client.
    Answer {
        /// The request that is answered.
        id: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Apply the committed entries of a plain group; report with
    /// [`Event::Applied`](crate::event::Event::Applied).
    Apply {
        /// The group.
        group: GroupId,
        /// The place of the record in the log.
        index: Index,
        /// The record's normal entries, in order.
        entries: Vec<Bytes>,
    },
    /// Replace the machine of a plain group by a snapshot's data; report with
    /// [`Event::Applied`](crate::event::Event::Applied). A large one comes by
    /// [`ApplySnapshotPart`](Self::ApplySnapshotPart).
    ApplySnapshot {
        /// The group.
        group: GroupId,
        /// The last record that the snapshot covers.
        index: Index,
        /// What the machine gave when the snapshot was taken.
        data: Bytes,
    },
    /// Something that a person may want to know; nothing needs to be done.
    Report {
        /// The group it is about, if it is about one.
        group: Option<GroupId>,
        /// What happened.
        report: Report,
    },
    /// Tell the machine of a plain group how its snapshot stands.
    Checkpoint {
        /// The group.
        group: GroupId,
        /// What there is to tell.
        news: CheckpointNews,
    },
    /// A stream or consumer was assigned to this server: open the disk of its group, which is told
    /// from others by the group's name; answer with
    /// [`Event::Opened`](crate::event::Event::Opened), and
    /// [`Standing::Unknown`] if nothing was ever written there.
    OpenGroup {
        /// The number by which commands and events name the group until it is closed; numbers are
        /// not used again.
        group: GroupId,
        /// The group's name: the same after a restart, where the number may be another.
        name: GroupName,
        /// Where what it holds is kept.
        storage: StorageType,
    },
    /// Nothing more is asked of a group: let go of its disk, behind all that was asked before. What
    /// it holds stays.
    CloseGroup(GroupId),
    /// A stream or consumer was removed, or is no longer this server's: remove what the disk holds of
    /// the group of this name, if it holds anything. The group is closed, or was never opened.
    EraseGroup(GroupName),
    /// Read a part of a snapshot file; answer with
    /// [`Event::SnapshotLoaded`](crate::event::Event::SnapshotLoaded).
    LoadSnapshot {
        /// Numbers the load.
        id: LoadId,
        /// Whose snapshot.
        group: GroupId,
        /// Which file.
        file: SnapshotFile,
        /// The first byte.
        offset: u64,
        /// How many bytes, if the file has them.
        bytes: ByteCount,
    },
    /// Replace the machine of a plain group by a large snapshot, of which this is the next part. The
    /// one at offset zero begins it, and ends another one that was begun. The core asks for the next
    /// part when [`MachineSays::TookPart`](crate::event::MachineSays::TookPart) came; the last is
    /// reported with [`Event::Applied`](crate::event::Event::Applied).
    ///
    /// The snapshot's hash is checked before the last part is handed out: what a machine was given
    /// must not take the place of its state before.
    ApplySnapshotPart {
        /// The group.
        group: GroupId,
        /// The last record that the snapshot covers.
        index: Index,
        /// Bytes of the snapshot's data before this part.
        offset: u64,
        /// Some bytes; none only if it is the last.
        part: Bytes,
        /// Whether nothing follows.
        last: bool,
    },
}

/// A snapshot file of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotFile {
    /// The one that counts.
    Current,
    /// The one that [`LogChange::SnapshotPart`] writes.
    Parts,
}

/// What a machine is told of the snapshots that it makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CheckpointNews {
    /// A snapshot would free as much as
    /// [`Limits::log_before_snapshot`](crate::limits::Limits::log_before_snapshot); said once until
    /// the log was compacted.
    Wanted {
        /// What it would free.
        frees: LogSize,
    },
    /// A checkpoint began.
    Begun {
        /// Its number.
        id: CheckpointId,
        /// The last record that it covers: its state must contain that one and none behind it.
        index: Index,
        /// The last record that the snapshot before covers; zero if there is none.
        before: Index,
        /// What it will free.
        frees: LogSize,
    },
    /// The snapshot before it.
    Snapshot {
        /// The checkpoint.
        id: CheckpointId,
        /// The data of that snapshot; none if there is none.
        data: Option<Bytes>,
    },
    /// Records that it adds to the snapshot before it.
    Records {
        /// The checkpoint.
        id: CheckpointId,
        /// Each record's place and its normal entries, as
        /// [`Command::Apply`] handed them out.
        records: Vec<(Index, Vec<Bytes>)>,
        /// Where to read on; none after the last.
        next: Option<Index>,
    },
    /// It is durable, and the log was compacted.
    Durable {
        /// The checkpoint.
        id: CheckpointId,
        /// The last record that it covers.
        index: Index,
        /// What went from the log.
        freed: LogSize,
    },
    /// No snapshot was begun, and why.
    Refused(SnapshotRefusal),
    /// The checkpoint of this number came to nothing, or is over.
    Ended {
        /// Its number.
        id: CheckpointId,
        /// Why.
        why: SnapshotRefusal,
    },
    /// A part of the snapshot before it, which is large; the answer to
    /// [`CheckpointStep::LoadSnapshot`](crate::event::CheckpointStep::LoadSnapshot) and
    /// [`CheckpointStep::NextPart`](crate::event::CheckpointStep::NextPart).
    SnapshotPart {
        /// The checkpoint.
        id: CheckpointId,
        /// Some bytes of its data, in order.
        part: Bytes,
        /// Whether nothing follows. Only then the hash was checked.
        last: bool,
    },
    /// Parts of it are on disk.
    Written {
        /// The checkpoint.
        id: CheckpointId,
        /// How many bytes of its data.
        bytes: u64,
    },
}

/// Why a snapshot was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotRefusal {
    /// The disk is being read.
    #[error("the group's disk is still being read")]
    Opening,
    /// The group stands aside.
    #[error("the group stands aside: {0}")]
    Aside(String),
    /// Another one is made or written.
    #[error("another snapshot is under way")]
    UnderWay,
    /// They would have to start again from the snapshot.
    #[error("{followers} followers are being fed from the log")]
    CatchupsRunning {
        /// How many.
        followers: usize,
    },
    /// All that the machine has applied is in the snapshot that there is.
    #[error("nothing was applied behind record {covered}, which the last snapshot covers")]
    NothingNew {
        /// The last record that is covered.
        covered: Index,
    },
    /// The machine cannot know of it.
    #[error("record {index} was not handed to the machine, only {handed}")]
    NotApplied {
        /// The record.
        index: Index,
        /// The last that was handed out.
        handed: Index,
    },
    /// It would be refused when it is read again, or by a follower.
    #[error("it has {found} bytes, of which {limit} are allowed")]
    TooLarge {
        /// Bytes of data that the limits allow.
        limit: u64,
        /// Bytes of data that there were.
        found: u64,
    },
    /// It could not be read again.
    #[error("it cannot be read again: {0}")]
    Unreadable(String),
    /// A snapshot of the leader's took its place.
    #[error("the leader's snapshot of {index} took its place")]
    Replaced {
        /// What that one covers.
        index: Index,
    },
    /// It was finished or abandoned before, or never begun.
    #[error("this checkpoint is over")]
    Over,
    /// The core takes the snapshots of streams and of the meta group itself.
    #[error("a stream takes its snapshots itself")]
    OfAStream,
    /// The machine did not wait for the disk.
    #[error("{found} bytes of it wait for the disk, and {limit} may")]
    TooFast {
        /// [`Limits::snapshot_parts_in_flight`](crate::limits::Limits::snapshot_parts_in_flight).
        limit: u64,
        /// Bytes that would have waited.
        found: u64,
    },
}

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// These peers. A transport with subjects publishes once.
    Peers(Arc<[PeerId]>),
    /// Whoever listens to the subject.
    Subscribers,
}

/// A change of a group's log or of what lies beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LogChange {
    /// Add a record behind the last.
    Append {
        /// Its place: one more than the last.
        index: Index,
        /// The record: one encoded append entry.
        record: Bytes,
    },
    /// Remove every record behind this one.
    Truncate {
        /// The new last record.
        last: Index,
    },
    /// Remove every record up to this one.
    Compact {
        /// The last record removed.
        through: Index,
    },
    /// Remove every record; the next one has the place behind this one.
    Reset {
        /// The place that counts as the last.
        last: Index,
    },
    /// Replace the term and vote, in the older of the two slots.
    TermAndVote(TermAndVote),
    /// Put a snapshot in the place of the one before, which goes only when this is durable.
    Snapshot {
        /// The last record that it covers.
        index: Index,
        /// The term of that record.
        term: Term,
        /// The whole file.
        file: Bytes,
    },
    /// Remember how the member stands. Comes before everything that an impaired member discards,
    /// and behind all that it took in its place.
    Standing(Standing),
    /// Add bytes to the snapshot file that is being written in parts, beside the one that counts. A
    /// start finds nothing of it.
    SnapshotPart {
        /// How many bytes of it there are before; zero begins it, and forgets another one.
        offset: u64,
        /// The bytes.
        part: Bytes,
    },
    /// Put the file that was written in parts in the place of the snapshot before, which goes only
    /// when this is durable. The core has read it back.
    PlaceSnapshot {
        /// The last record that it covers.
        index: Index,
        /// The term of that record.
        term: Term,
        /// How many bytes it has.
        length: u64,
    },
    /// Forget the file that was being written in parts.
    DropSnapshotParts,
}

/// A change of a stream's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StoreChange {
    /// Add messages, in order of sequence, all above those there are.
    Messages {
        /// The bytes that the places point into.
        block: Bytes,
        /// Where each message lies.
        places: Vec<Place>,
    },
    /// Remove messages: inclusive ranges, ascending, apart from each other.
    Remove(Vec<(Sequence, Sequence)>),
    /// Remove messages, and add others, in one piece.
    Exchange(Box<Exchange>),
    /// Remove every message.
    Clear,
    /// Move the mark alone.
    Mark,
    /// Remember these bytes, until a mark says no more that it only added: a
    /// [`CatchupState`](crate::wire::CatchupState), before whose record nothing is taken out. A start is
    /// handed them as [`Opened::only_adds`](crate::event::Opened::only_adds).
    OnlyAdds(Bytes),
    /// Put messages in the place of lost ones, in one piece.
    Mend(Box<Mend>),
}

/// Messages in the place of those that [`Event::MessagesLost`](crate::event::Event::MessagesLost)
/// named: whatever lies between the two sequences goes, whether it can be read or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    /// The first sequence of the run.
    pub first: Sequence,
    /// The last sequence of the run.
    pub last: Sequence,
    /// As in [`StoreChange::Messages`], but of the run; may be empty.
    pub block: Bytes,
    /// As in [`StoreChange::Messages`], but of the run; may be none.
    pub places: Vec<Place>,
}

/// Messages that go when others come, as a stream's bounds take them out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// As in [`StoreChange::Remove`]; all below those that are added.
    pub removed: Vec<(Sequence, Sequence)>,
    /// As in [`StoreChange::Messages`].
    pub block: Bytes,
    /// As in [`StoreChange::Messages`].
    pub places: Vec<Place>,
}

/// Where a message lies in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The message.
    pub sequence: Sequence,
    /// Its first byte, the op.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// Upstream's JSON: a PubAck, an API response, an error.
    Json(Bytes),
    /// Messages of this replica.
    Messages {
        /// In order of sequence.
        messages: Vec<Message>,
        /// Where to read on; none at the end of the stream.
        next: Option<Sequence>,
    },
}

/// A message as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// When the leader took it.
    pub time: Time,
    /// Its subject.
    pub subject: Bytes,
    /// Its header block, or empty.
    pub header: Bytes,
    /// Its body.
    pub payload: Bytes,
}

/// News for the log of a driver, and for tests that follow a group's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Report {
    /// The node's role in a group changed.
    Role {
        /// `leader`, `candidate`, `follower` or `observer`.
        role: Role,
        /// In which term.
        term: Term,
        /// Who leads, as far as is known.
        leader: Option<PeerId>,
    },
    /// A message was dropped, and why.
    Refused {
        /// Who sent it, if that is known.
        from: Option<PeerId>,
        /// What was wrong with it.
        why: String,
    },
    /// A catchup of the log or of the stream entered a new phase.
    Catchup(String),
    /// A snapshot was taken or installed.
    Snapshot {
        /// The last record that it covers.
        index: Index,
        /// Whether it came from the leader.
        installed: bool,
    },
    /// What became of a message that its publisher wants traced.
    Traced {
        /// The request that published it.
        request: RequestId,
        /// Where it is stored; none if it is not.
        sequence: Option<Sequence>,
    },
    /// The group stands aside: it neither votes, acknowledges nor leads.
    StoodAside(String),
    /// The disk was read, and the member takes part from here on.
    Opened {
        /// The last record that its snapshot covers; zero if it has none.
        covered: Index,
        /// The last record of its log.
        last: Index,
    },
    /// The log was compacted.
    Compacted {
        /// The last record that went.
        through: Index,
        /// How much went.
        freed: LogSize,
    },
    /// A snapshot was not taken, and why.
    SnapshotRefused(SnapshotRefusal),
    /// A machine makes a snapshot.
    CheckpointBegun {
        /// The last record that it will cover.
        index: Index,
    },
    /// The machine takes nothing for now.
    Paused,
    /// The machine goes on.
    Resumed {
        /// How many records it lacks.
        waiting: u64,
    },
    /// A leader that cannot go on asked this follower to lead.
    HandedOver {
        /// Who should lead next.
        to: PeerId,
    },
    /// The members of a group changed, or a change of them was committed or taken back.
    Members {
        /// The members that count now.
        members: Vec<PeerId>,
        /// Whether that is committed.
        committed: bool,
    },
    /// The member lost something that it may have promised: it neither votes, acknowledges nor
    /// leads until it has it again from the others.
    Impaired(Impairment),
    /// The member has all that it may ever have promised, and takes part again.
    Repaired {
        /// The last record of its log.
        last: Index,
    },
    /// Something on the disk was damaged, and nothing that was promised rested on it.
    Damaged(Damaged),
}

/// A node's role in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Follows, and never becomes a candidate.
    Observer,
}
