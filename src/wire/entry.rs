//! The data of a stream's entry, or a message of its catchup, by its op.

use bytes::Bytes;

use super::batch_message::BatchMessage;
use super::delete_range::DeleteRange;
use super::error::WireError;
use super::message_delete::MessageDelete;
use super::op::Op;
use super::purge::StreamPurge;
use super::stream_message::StreamMessage;
use crate::limits::Limits;

/// What a stream's entry, or a message of its catchup, asks for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StreamOp {
    /// Store a message (op 4), or one that came compressed (op 14).
    Message(StreamMessage),
    /// Keep a message of a batch (op 16), or store the batch (op 17).
    Batch(BatchMessage),
    /// Purge the stream (op 5).
    Purge(StreamPurge),
    /// Delete a message (op 6).
    Delete(MessageDelete),
    /// Messages that are no more, in a catchup (op 15).
    DeleteRange(DeleteRange),
    /// An op that is not a stream's, or of a newer server. It is kept so that it can be passed
    /// on; whoever should apply it must stop, as it cannot know what it would miss.
    Unknown {
        /// The op.
        op: Op,
        /// All of the data, op byte first.
        bytes: Bytes,
    },
}

impl StreamOp {
    /// Reads an entry's data, or a catchup's message. Takes no memory for messages that are not
    /// compressed; else what the formats say.
    ///
    /// # Errors
    /// [`WireError`] if there is no op, or as the op's format says.
    pub fn decode(data: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        Ok(match Op::of(data)? {
            Op::Message | Op::CompressedMessage => {
                Self::Message(StreamMessage::decode(data, limits)?)
            }
            Op::Batch | Op::BatchCommit => Self::Batch(BatchMessage::decode(data, limits)?),
            Op::Purge => Self::Purge(StreamPurge::decode(data, limits)?),
            Op::DeleteMessage => Self::Delete(MessageDelete::decode(data, limits)?),
            Op::DeleteRange => Self::DeleteRange(DeleteRange::decode(data, limits)?),
            op => Self::Unknown { op, bytes: data.clone() },
        })
    }

    /// The data again, byte for byte but for compressed messages, which are compressed anew
    /// where that makes them smaller.
    ///
    /// # Errors
    /// As the op's format says.
    pub fn to_bytes(&self) -> Result<Bytes, WireError> {
        let mut buffer = bytes::BytesMut::new();
        match self {
            Self::Message(message) => message.encode_allow_compress(&mut buffer),
            Self::Batch(message) => message.view().encode_allow_compress(&mut buffer)?,
            Self::Purge(purge) => purge.encode(&mut buffer),
            Self::Delete(delete) => delete.encode(&mut buffer),
            Self::DeleteRange(range) => range.encode(&mut buffer),
            Self::Unknown { bytes, .. } => return Ok(bytes.clone()),
        }
        Ok(buffer.freeze())
    }
}
