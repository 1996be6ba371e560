//! Bytes to types and back, one format a file, with no state.
//!
//! Decoding slices the [`Bytes`](bytes::Bytes) it is given: fields share its memory, and nothing
//! is copied or taken but where a format says so. (The first slice of bytes that nobody shares
//! yet takes the count of their owners, once.) Encoding appends to the caller's buffer, after
//! telling its exact size.

mod api_error;
mod api_error_table;
pub mod api_level;
mod api_list;
mod append_entry;
mod append_response;
mod assignment;
mod batch_message;
mod buffer;
mod catchup_state;
mod client_info;
mod cluster_info;
mod consumer_config;
mod consumer_info;
mod consumer_ops;
mod consumer_state;
mod consumer_state_binary;
mod delete_range;
mod entry;
mod error;
pub(crate) mod go_json;
mod go_time;
mod legacy_stream_state;
mod message_delete;
mod meta_op;
mod meta_snapshot;
mod op;
mod peer_state;
pub(crate) mod peer_text;
mod publish_ack;
mod purge;
mod raft_snapshot;
mod raft_snapshot_parts;
mod reader;
pub mod s2;
pub mod s2_stream;
mod sequence_set;
mod snapshot_transfer;
mod stream_config;
mod stream_info;
mod stream_message;
mod stream_state;
mod sync_request;
mod term_and_vote;
mod varint;
mod vote;
mod written;

pub use api_error::{ApiError, ApiResponse, ResponseType};
pub use api_level::{API_LEVEL, Unsupported};
pub use api_list::{ConsumerList, StreamList, Untold};
pub use append_entry::{AppendEntry, AppendEntryBuilder, Entries, EntriesIter, Entry, EntryKind};
pub use append_response::AppendResponse;
pub use assignment::{
    ConsumerAssignment, ConsumerChange, RaftGroup, StreamAssignment, StreamChange,
};
pub use batch_message::{BatchMessage, BatchMessageView};
pub use buffer::Buffer;
pub use catchup_state::CatchupState;
pub use client_info::ClientInfo;
pub use cluster_info::{ClusterInfo, PeerInfo, StreamAlternate};
pub use consumer_config::{AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy, ReplayPolicy};
pub use consumer_info::{
    ConsumerInfo, ConsumerInfoResponse, ConsumerPauseResponse, PriorityGroupState, SequenceActivity,
};
pub use consumer_ops::ConsumerOp;
pub use consumer_state::{ConsumerState, Pending, SequencePair};
pub use delete_range::DeleteRange;
pub use entry::StreamOp;
pub use error::{Fault, WireError};
pub(crate) use go_json::{null_as_default, read_json};
pub use go_time::{BadTime, GoTime};
pub use legacy_stream_state::LegacyStreamState;
pub use message_delete::MessageDelete;
pub use meta_op::MetaOp;
pub use meta_snapshot::{MetaSnapshot, MetaStream};
pub use op::Op;
pub use peer_state::{DomainState, PeerState};
pub use publish_ack::{PublishAck, PublishAckResponse, PublishAckTemplate};
pub use purge::{PurgeRequest, StreamPurge};
pub use raft_snapshot::RaftSnapshot;
pub use raft_snapshot_parts::{SnapshotHash, SnapshotHead, SnapshotReader, SnapshotSeal};
pub use sequence_set::{Iter as SequenceSetIter, Runs as SequenceSetRuns, SequenceSet};
pub use snapshot_transfer::{SnapshotId, SnapshotTransfer, TransferSays};
pub use stream_config::{
    DiscardPolicy, ExternalStream, PersistMode, Placement, Republish, RetentionPolicy, StorageType,
    StoreCompression, StreamConfig, StreamConsumerLimits, StreamSource, SubjectTransform,
};
pub use stream_info::{
    LostMessages, Page, StreamInfo, StreamInfoResponse, StreamInfoState, StreamSourceInfo,
};
pub use stream_message::{StreamMessage, StreamMessageView};
pub use stream_state::{
    DeleteBlock, DeleteBlocks, DeleteBlocksBuilder, DeleteBlocksIter, StreamState,
};
pub use sync_request::SyncRequest;
pub use term_and_vote::TermAndVote;
pub use vote::{VoteRequest, VoteResponse};
pub use written::Written;
