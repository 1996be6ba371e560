//! Every bound of the core, in one place, each with its unit and what happens at it.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::ByteCount;

/// What a node takes at most. All sizes are checked before memory is taken.
///
/// The defaults are upstream's where it has such a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of one message from a peer; a larger one is refused and counted.
    pub peer_message: ByteCount,
    /// Bytes of entries in one append entry that a leader builds (upstream: 256 KiB); what does
    /// not fit goes into the next.
    pub append_entry_bytes: ByteCount,
    /// Entries in one append entry that a leader builds; what does not fit goes into the next.
    /// The wire cannot carry more than 65,535.
    pub append_entry_entries: u16,
    /// Append entries sent and not yet committed before a leader waits, gathering proposals
    /// into larger ones.
    pub append_entries_in_flight: usize,
    /// Bytes of proposals that wait in one group; what would go beyond them while others wait is
    /// refused with upstream's "insufficient resources" error. One message or batch may be larger.
    pub proposals_waiting: ByteCount,
    /// Bytes of recent log records that one group keeps in memory; older ones are loaded from
    /// disk when they are needed.
    pub log_cache: ByteCount,
    /// Bytes of log after which a stream takes a snapshot and compacts, and the machine of a plain
    /// group is told that a snapshot is wanted. A stream waits until it is twice as much while
    /// followers are fed from the log.
    pub log_before_snapshot: ByteCount,
    /// Bytes of one load from the log or read from the store.
    pub load: ByteCount,
    /// Messages of one read from the store.
    pub read_messages: usize,
    /// Bytes handed to the store and not yet taken by it; at the bound applies wait.
    pub store_in_flight: ByteCount,
    /// Bytes of live append entries that a follower in a catchup keeps for its end; at the
    /// bound they are dropped and asked for again.
    pub follower_held: ByteCount,
    /// Bytes of records that a follower has taken and its disk has not written; at the bound it takes
    /// no more, and catches up once half of them are written. Its leader and the others go on.
    pub follower_unwritten: ByteCount,
    /// Bytes in flight of the catchup of one follower's log (upstream: 2 MiB).
    pub log_catchup_in_flight: ByteCount,
    /// Bytes in flight of all catchups of streams that a node serves (upstream: 64 MiB); at the
    /// bound they wait in turn.
    pub stream_catchups_in_flight: ByteCount,
    /// Bytes in flight of one catchup of a stream, so that a dead follower holds only this much of
    /// the node's.
    pub stream_catchup_bytes: ByteCount,
    /// Messages in flight of one catchup of a stream (upstream: 256 Ki).
    pub stream_catchup_messages: u64,
    /// Bytes of one snapshot file that is in memory whole; a larger one is refused. Such a snapshot
    /// goes to a follower as one message, so it is also refused where it would not fit into
    /// [`peer_message`](Self::peer_message).
    pub snapshot: ByteCount,
    /// Bytes of a plain group's state that the core keeps in memory: a snapshot with more is written,
    /// read, sent and handed out in parts of this size.
    pub snapshot_part: ByteCount,
    /// Bytes of a snapshot in parts on their way to the disk. A machine that hands in more than these
    /// without waiting for [`CheckpointNews::Written`](crate::command::CheckpointNews::Written) has
    /// its checkpoint ended; a follower asks its leader for no more than these.
    pub snapshot_parts_in_flight: ByteCount,
    /// Bytes of one snapshot file that is never in memory whole; a larger one is refused. A follower
    /// of another kind than ours can be given one only if it fits into
    /// [`peer_message`](Self::peer_message).
    pub snapshot_file: ByteCount,
    /// Bytes of one published message, header and payload (upstream's `max_payload`: 1 MiB); a
    /// larger one is refused with upstream's error.
    pub message: ByteCount,
    /// Bytes of one published header.
    pub header: ByteCount,
    /// Bytes of all messages of one stream; a publish beyond is refused with upstream's error of an
    /// account that has used up what it has.
    pub stream_bytes: ByteCount,
    /// Message ids kept for deduplication in one stream; the oldest is forgotten.
    pub dedupe_ids: usize,
    /// Publishes of one stream that wait for their commit; at the bound the next is refused.
    pub publishes_in_flight: usize,
    /// Questions about one stream that wait for their answer; further ones are not answered.
    pub info_requests: usize,
    /// Batches of one stream that are not committed yet (upstream: 50); at the bound the next is
    /// refused as incomplete.
    pub batches: usize,
    /// Messages of one batch (upstream: 1,000); a larger one is refused.
    pub batch_messages: usize,
    /// Bytes of one batch, subjects and headers included; a larger one is refused.
    pub batch_bytes: ByteCount,
    /// How long a batch may take from its first message to its last (upstream: 10 s); then it is
    /// given up.
    pub batch_time: Duration,
    /// Members of one group; a peer state that names more is refused.
    pub members: usize,
    /// Clients that wait for a change of one group's members; at the bound the next is refused with
    /// upstream's "insufficient resources" error.
    pub changes_waiting: usize,
    /// Wishes of clients that wait for their commit in the meta group; at the bound the next is
    /// refused with upstream's "insufficient resources" error.
    pub meta_requests: usize,
    /// Steps of one consumer that wait for their commit; at the bound the next is refused with
    /// upstream's "insufficient resources" error.
    pub consumer_steps: usize,
    /// Messages of one consumer that wait for their acknowledgement, whatever its configuration
    /// allows; at the bound the next delivery is refused likewise.
    pub consumer_pending: usize,
    /// Commands that wait to be polled; a node at the bound makes no more of its own accord
    /// until they are drained.
    pub commands: usize,
    /// Bytes that compressed input may unpack to.
    pub decompressed: ByteCount,
    /// Bytes of one JSON document from a peer; a longer one is refused. Decoding one takes up to 64
    /// times as much memory, for lists of very small elements.
    pub json: ByteCount,
    /// Nesting of one JSON document from a peer.
    pub json_depth: usize,
    /// Deleted sequences that a decoded stream state may name one by one; runs count once.
    pub deleted: u64,
    /// The defect that is planted, for tests of the tests.
    #[cfg(feature = "canaries")]
    #[serde(skip)]
    pub canary: Option<crate::canary::Canary>,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        Self {
            peer_message: ByteCount::new(64 * MIB),
            append_entry_bytes: ByteCount::new(256 * KIB),
            append_entry_entries: 1024,
            append_entries_in_flight: 4,
            proposals_waiting: ByteCount::new(64 * MIB),
            log_cache: ByteCount::new(16 * MIB),
            log_before_snapshot: ByteCount::new(64 * MIB),
            load: ByteCount::new(MIB),
            read_messages: 4096,
            store_in_flight: ByteCount::new(16 * MIB),
            follower_held: ByteCount::new(8 * MIB),
            follower_unwritten: ByteCount::new(16 * MIB),
            log_catchup_in_flight: ByteCount::new(2 * MIB),
            stream_catchups_in_flight: ByteCount::new(64 * MIB),
            stream_catchup_bytes: ByteCount::new(16 * MIB),
            stream_catchup_messages: 256 * KIB,
            snapshot: ByteCount::new(64 * MIB),
            snapshot_part: ByteCount::new(MIB),
            snapshot_parts_in_flight: ByteCount::new(4 * MIB),
            snapshot_file: ByteCount::new(MIB * MIB),
            message: ByteCount::new(MIB),
            header: ByteCount::new(64 * KIB - 1),
            stream_bytes: ByteCount::new(i64::MAX.unsigned_abs()),
            dedupe_ids: 4_000_000,
            publishes_in_flight: 100_000,
            info_requests: 1024,
            batches: 50,
            batch_messages: 1000,
            batch_bytes: ByteCount::new(64 * MIB),
            batch_time: Duration::from_secs(10),
            members: 64,
            changes_waiting: 64,
            meta_requests: 10_000,
            consumer_steps: 100_000,
            consumer_pending: 1_000_000,
            commands: 1_000_000,
            decompressed: ByteCount::new(64 * MIB),
            json: ByteCount::new(8 * MIB),
            json_depth: 64,
            deleted: 64_000_000,
            #[cfg(feature = "canaries")]
            canary: None,
        }
    }
}

/// The intervals of one node's groups. The defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timers {
    /// The shortest silence of a leader after which a follower becomes a candidate.
    pub election_min: Duration,
    /// The longest such silence; each wait is drawn between the two.
    pub election_max: Duration,
    /// How often an idle leader is heard.
    pub heartbeat: Duration,
    /// How long a leader that hears no quorum goes on.
    pub lost_quorum: Duration,
    /// How long a follower in a catchup of its log waits for the next message.
    pub log_catchup_stall: Duration,
    /// How long a stream's catchup waits for its first message.
    pub catchup_start: Duration,
    /// How long a stream's catchup bears silence, on either side.
    pub catchup_silence: Duration,
    /// How long a stream's catchup rests before it asks again.
    pub catchup_retry: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            election_min: Duration::from_secs(4),
            election_max: Duration::from_secs(9),
            heartbeat: Duration::from_secs(1),
            lost_quorum: Duration::from_secs(10),
            log_catchup_stall: Duration::from_secs(2),
            catchup_start: Duration::from_secs(5),
            catchup_silence: Duration::from_secs(30),
            catchup_retry: Duration::from_secs(2),
        }
    }
}
