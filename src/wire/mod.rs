//! Bytes to types and back, one format a file, with no state.

mod append_entry;
mod append_response;
mod error;
mod op;
mod peer_state;
mod raft_snapshot;
mod reader;
pub mod s2;
mod stream_config;
mod stream_message;
mod term_and_vote;
mod varint;
mod vote;

pub use append_entry::{AppendEntry, AppendEntryBuilder, Entries, EntriesIter, Entry, EntryKind};
pub use append_response::AppendResponse;
pub use error::{Fault, WireError};
pub use op::Op;
pub use peer_state::{DomainState, PeerState};
pub use raft_snapshot::RaftSnapshot;
pub use stream_config::StreamConfig;
pub use stream_message::StreamMessage;
pub use term_and_vote::TermAndVote;
pub use vote::{VoteRequest, VoteResponse};
