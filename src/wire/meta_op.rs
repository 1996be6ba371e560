//! The data of an entry of the meta group, by its op: what is assigned, and what no more.
//!
//! Upstream: `applyMetaEntries` in `server/jetstream_cluster.go`.

use alloc::boxed::Box;

use bytes::Bytes;

use super::assignment::{ConsumerAssignment, StreamAssignment};
use super::error::WireError;
use super::op::Op;
use crate::limits::Limits;

/// What an entry of the meta group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetaOp {
    /// Assign a stream (op 0).
    AssignStream(Box<StreamAssignment>),
    /// Change a stream that is assigned (op 11).
    UpdateStream(Box<StreamAssignment>),
    /// Remove a stream, and its consumers with it (op 2).
    RemoveStream(Box<StreamAssignment>),
    /// Assign a consumer, or change one (ops 1 and 9).
    AssignConsumer(Box<ConsumerAssignment>),
    /// Remove a consumer (op 3).
    RemoveConsumer(Box<ConsumerAssignment>),
    /// The group of a consumer has the members that it was to have, and these are they (op 254).
    ConsumerResized(Box<ConsumerAssignment>),
    /// An op that is not the meta group's, or of a newer server. It is kept so that it can be
    /// passed on; whoever should apply it must stop, as it cannot know what it would miss.
    Unknown {
        /// The op.
        op: Op,
        /// All of the data, op byte first.
        bytes: Bytes,
    },
}

impl MetaOp {
    /// Reads an entry's data. Takes memory for what the document says.
    ///
    /// # Errors
    /// [`WireError`] if there is no op, or as [`StreamAssignment::decode`] and
    /// [`ConsumerAssignment::decode`] say.
    pub fn decode(data: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let stream = || StreamAssignment::decode(data, limits).map(Box::new);
        let consumer = || ConsumerAssignment::decode(data, limits).map(Box::new);
        Ok(match Op::of(data)? {
            Op::AssignStream => Self::AssignStream(stream()?),
            Op::UpdateStream => Self::UpdateStream(stream()?),
            Op::RemoveStream => Self::RemoveStream(stream()?),
            Op::AssignConsumer | Op::AssignCompressedConsumer => Self::AssignConsumer(consumer()?),
            Op::RemoveConsumer => Self::RemoveConsumer(consumer()?),
            Op::ConsumerResized => Self::ConsumerResized(consumer()?),
            op => Self::Unknown { op, bytes: data.clone() },
        })
    }
}
