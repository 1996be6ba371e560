//! The state by which a server of this kind ends a stream's catchup: NATS has no format for that.
//!
//! Op 255, the last record that the server has applied as a little-endian number of 64 bits, then what its
//! stream holds as snapshots say it since 2.10. A follower gets it that asked for it (see
//! [`SyncRequest::state`](super::SyncRequest::state)), and its store remembers it by the same bytes.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;
use super::stream_state::StreamState;
use crate::ids::Index;
use crate::limits::Limits;

const FORMAT: &str = "catchup_state";
/// The first byte: the last that upstream would ever give to an op.
const OP: u8 = 0xff;
/// Bytes before the state: the op and the record.
const HEAD: usize = 1 + 8;

/// What a stream holds as of a record of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchupState {
    /// The last record that is applied.
    pub applied: Index,
    /// What the stream holds then.
    pub state: StreamState,
}

impl CatchupState {
    /// Whether a catchup's message begins as such a state does.
    pub fn is_one(message: &[u8]) -> bool {
        message.first() == Some(&OP)
    }

    /// Reads a message. Checks all of it and takes what [`StreamState::decode`] takes: no memory, if
    /// the state's sets are as this encodes them.
    ///
    /// # Errors
    /// [`WireError`] for another op, if the record ends early, the state is one that
    /// [`StreamState::decode`] refuses, or if it begins more than one behind its last sequence.
    pub fn decode(message: &Bytes, limits: &Limits) -> Result<Self, WireError> {
        let mut reader = Reader::new(FORMAT, message);
        reader.constant("op", OP, "255")?;
        let applied = Index::new(reader.u64("applied")?);
        let offset = reader.offset();
        let state = StreamState::read(&mut reader, message, limits)?;
        if state.first > state.last.next() {
            let found = state.first.get();
            let fault = Fault::Value { expected: "a first one behind the last at most", found };
            return Err(WireError { format: FORMAT, field: "state", offset, fault });
        }
        Ok(Self { applied, state })
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        HEAD + self.state.encoded_len()
    }

    /// Appends the message, with one growth at most.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len());
        buffer.put_u8(OP);
        buffer.put_u64_le(self.applied.get());
        self.state.encode(buffer);
    }

    /// The message in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ByteCount, Sequence};

    /// Record 7; two messages of 100 bytes, 3 to 5, of which 4 is gone, and one that failed.
    const BYTES: &[u8] = b"\xff\x07\0\0\0\0\0\0\0\x2a\x01\x02\x64\x03\x05\x01\x01\x21\x04\x01";

    fn decode(bytes: &[u8]) -> Result<CatchupState, WireError> {
        CatchupState::decode(&Bytes::copy_from_slice(bytes), &Limits::default())
    }

    #[test]
    fn every_byte_has_its_place() {
        let read = decode(BYTES).expect("good");
        let state = &read.state;
        assert_eq!((read.applied, state.messages), (Index::new(7), 2));
        assert_eq!((state.bytes, state.failed), (ByteCount::new(100), 1));
        assert_eq!((state.first, state.last), (Sequence::new(3), Sequence::new(5)));
        assert_eq!(state.deleted.sequences(), 1);
        assert_eq!((read.encoded_len(), read.to_bytes()), (BYTES.len(), BYTES.into()));
    }

    #[test]
    fn errors_say_where() {
        let place = |bytes: &[u8]| {
            let WireError { format, field, offset, .. } = decode(bytes).expect_err("bad");
            assert_eq!(format, FORMAT);
            (field, offset)
        };
        assert_eq!(place(b""), ("op", 0));
        assert_eq!(place(b"\x04\x07\0\0\0\0\0\0\0"), ("op", 0));
        assert_eq!(place(b"\xff\x07\0\0\0\0\0\0"), ("applied", 1));
        assert_eq!(place(b"\xff\x07\0\0\0\0\0\0\0"), ("magic", 9));
        assert_eq!(place(b"\xff\x07\0\0\0\0\0\0\0{\"messages\":1}"), ("magic", 9));
        assert_eq!(place(b"\xff\x07\0\0\0\0\0\0\0\x2a\x01\x02\x64\x03\x80"), ("last", 14));
        assert_eq!(place(b"\xff\x07\0\0\0\0\0\0\0\x2a\x01\0\0\x07\x05\0\0"), ("state", 9));
        let set = b"\xff\x07\0\0\0\0\0\0\0\x2a\x01\x02\x64\x03\x05\x01\x01\x16\x02\x01\0\0\0";
        assert_eq!(place(set), ("set", 17));
    }

    #[test]
    fn every_prefix_is_refused() {
        for cut in 0..BYTES.len() {
            // Behind the numbers a state may have no blocks; the count of deletes is upstream's.
            let whole = cut == BYTES.len() - 3;
            assert_eq!(decode(&BYTES[..cut]).is_ok(), whole, "cut to {cut}");
        }
    }
}
