//! Frames: what travels on a connection, whole or not at all.
//!
//! A frame is the magic, a version, a kind, the length of its body and a checksum, then the
//! body: postcard values one behind the other, as many as fit. Decoding is a pure function of
//! the bytes, takes no memory for what a header merely claims, and slices the body instead of
//! copying it.

use bytes::{Buf, Bytes, BytesMut};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use thiserror::Error;

/// The first bytes of every frame.
pub const MAGIC: [u8; 4] = *b"jtwk";
/// The one version there is; a frame of another ends its connection.
pub const VERSION: u8 = 1;
/// Bytes before the body: magic, version, kind, length of the body and checksum, the last two
/// little-endian. The checksum (CRC-32C) covers version, kind, length and body.
pub const HEADER: usize = 14;

/// What a frame's body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One [`Hello`](super::body::Hello): the first frame in each direction.
    Hello = 1,
    /// One string: why the connection ends.
    Refusal = 2,
    /// Messages between peers.
    Messages = 3,
    /// Requests of a client.
    Requests = 4,
    /// Answers to a client.
    Answers = 5,
    /// Nothing: asks for a pong.
    Ping = 6,
    /// Nothing: shows that the sender is alive.
    Pong = 7,
}

impl Kind {
    const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Refusal,
            3 => Self::Messages,
            4 => Self::Requests,
            5 => Self::Answers,
            6 => Self::Ping,
            7 => Self::Pong,
            _ => return None,
        })
    }
}

/// A frame whose checksum fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body holds.
    pub kind: Kind,
    /// The body, a slice of the bytes that were decoded.
    pub body: Bytes,
}

/// Bytes that are no frame; the connection that they came by ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Not ours at all.
    #[error("frame begins with {}, expected \"jtwk\"", .found.escape_ascii())]
    Magic {
        /// The first bytes, four at most.
        found: Vec<u8>,
    },
    /// Written by a program that is older or newer.
    #[error("frame of version {found}, expected {VERSION}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// A kind that does not exist.
    #[error("frame of kind {found}, expected 1 to 7")]
    Kind {
        /// The kind byte.
        found: u8,
    },
    /// A kind that has no place here.
    #[error("{found:?} frame out of place")]
    Unexpected {
        /// The kind.
        found: Kind,
    },
    /// Longer than this connection takes; found out before memory was taken.
    #[error("frame of {found} bytes is more than the {limit} allowed")]
    TooLong {
        /// The length that the header claims.
        found: usize,
        /// The bound.
        limit: usize,
    },
    /// The bytes are not those that were sent.
    #[error("the checksum of a frame does not match")]
    Checksum,
    /// The body is not what its kind says.
    #[error("{kind:?} frame: {what}")]
    Body {
        /// The kind.
        kind: Kind,
        /// What was wrong with it.
        what: String,
    },
}

/// Takes the first frame off the front of `input`; none while it is not complete.
///
/// What is already certain to be wrong is an error at once: a peer that sends something else
/// than frames is not waited for.
///
/// # Errors
/// [`FrameError`]; the input is spoilt then, and nothing more can be read from it.
pub fn decode(input: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let magic = input.get(..MAGIC.len()).unwrap_or(input);
    if !MAGIC.starts_with(magic) {
        return Err(FrameError::Magic { found: magic.to_vec() });
    }
    let Some(&[_, _, _, _, version, kind, l0, l1, l2, l3, c0, c1, c2, c3]) =
        input.first_chunk::<HEADER>()
    else {
        return Ok(None);
    };
    if version != VERSION {
        return Err(FrameError::Version { found: version });
    }
    let known = Kind::from_wire(kind).ok_or(FrameError::Kind { found: kind })?;
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let found = usize::try_from(length).unwrap_or(usize::MAX);
    if found > limit {
        return Err(FrameError::TooLong { found, limit });
    }
    if input.len() - HEADER < found {
        return Ok(None);
    }
    let mut body = input.split_to(HEADER + found).freeze();
    body.advance(HEADER);
    if checksum(kind, length, &body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(FrameError::Checksum);
    }
    Ok(Some(Frame { kind: known, body }))
}

fn checksum(kind: u8, length: u32, body: &[u8]) -> u32 {
    let [l0, l1, l2, l3] = length.to_le_bytes();
    let head = crc32c::crc32c(&[VERSION, kind, l0, l1, l2, l3]);
    crc32c::crc32c_append(head, body)
}

/// Appends a frame with these values as its body.
///
/// # Errors
/// [`FrameError::Body`] if a value does not serialize, [`FrameError::TooLong`] if they fill more
/// than 4 GiB; the buffer is as it was then.
pub fn encode<T: Serialize>(
    buffer: &mut BytesMut,
    kind: Kind,
    values: &[T],
) -> Result<(), FrameError> {
    let start = open(buffer, kind);
    let closed = values
        .iter()
        .try_for_each(|value| append(buffer, kind, value))
        .and_then(|()| close(buffer, start));
    if closed.is_err() {
        buffer.truncate(start);
    }
    closed
}

/// Begins a frame at the end of the buffer; [`close`] takes the place that is returned.
pub(super) fn open(buffer: &mut BytesMut, kind: Kind) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&[VERSION, kind as u8]);
    buffer.extend_from_slice(&[0; 8]);
    start
}

/// Adds a value to the body of the frame that is open at the end of the buffer.
pub(super) fn append<T: Serialize>(
    buffer: &mut BytesMut,
    kind: Kind,
    value: &T,
) -> Result<(), FrameError> {
    let length = buffer.len();
    postcard::serialize_with_flavor(value, Appending(buffer)).map_err(|error| {
        buffer.truncate(length);
        FrameError::Body { kind, what: error.to_string() }
    })
}

/// Fills in what the header of the frame that was opened at `start` could not know.
pub(super) fn close(buffer: &mut BytesMut, start: usize) -> Result<(), FrameError> {
    let Some((header, body)) =
        buffer.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<HEADER>())
    else {
        // Nothing was opened at this place: there is nothing to close.
        return Ok(());
    };
    let limit = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    let length =
        u32::try_from(body.len()).map_err(|_| FrameError::TooLong { found: body.len(), limit })?;
    let sum = checksum(header[5], length, body);
    header[6..10].copy_from_slice(&length.to_le_bytes());
    header[10..].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Lets postcard write behind what a buffer holds already.
struct Appending<'a>(&'a mut BytesMut);

impl Flavor for Appending<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.extend_from_slice(&[byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BytesMut {
        let mut buffer = BytesMut::new();
        encode(&mut buffer, Kind::Refusal, &["no such cluster"]).expect("a string serializes");
        buffer
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_arrive() {
        let mut sent = sample();
        encode::<u8>(&mut sent, Kind::Ping, &[]).expect("nothing serializes");
        let mut input = BytesMut::new();
        let mut frames = Vec::new();
        for byte in &sent {
            input.extend_from_slice(&[*byte]);
            frames.extend(decode(&mut input, 64).expect("a sound frame"));
        }
        let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [Kind::Refusal, Kind::Ping]);
        assert_eq!(postcard::from_bytes(&frames[0].body), Ok("no such cluster"));
        assert!(input.is_empty());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let sound = sample();
        for bit in 0..sound.len() * 8 {
            let mut spoilt = sound.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            // A longer length waits for bytes that never come: nothing is handed out.
            let decoded = decode(&mut spoilt, 1 << 31);
            assert!(!matches!(decoded, Ok(Some(_))), "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn what_is_wrong_is_named_before_the_frame_is_complete() {
        let decode = |bytes: &[u8]| decode(&mut BytesMut::from(bytes), 100);
        assert_eq!(decode(b"GE"), Err(FrameError::Magic { found: b"GE".to_vec() }));
        assert_eq!(decode(b"jt"), Ok(None));
        let header = |version, kind, length: u32| {
            let mut bytes = MAGIC.to_vec();
            bytes.extend([version, kind]);
            bytes.extend(length.to_le_bytes());
            bytes.extend([0; 4]);
            bytes
        };
        assert_eq!(decode(&header(2, 1, 5)), Err(FrameError::Version { found: 2 }));
        assert_eq!(decode(&header(1, 8, 5)), Err(FrameError::Kind { found: 8 }));
        assert_eq!(decode(&header(1, 1, 101)), Err(FrameError::TooLong { found: 101, limit: 100 }));
        assert_eq!(decode(&header(1, 1, 100)), Ok(None));
    }

    #[test]
    fn a_value_that_fails_leaves_no_trace_in_the_buffer() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_seq(None).map(|_| unreachable!("postcard wants a length"))
            }
        }
        let mut buffer = sample();
        let before = buffer.clone();
        assert!(encode(&mut buffer, Kind::Answers, &[Endless]).is_err());
        assert_eq!(buffer, before);
    }
}
