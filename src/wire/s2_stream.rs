//! The S2 stream format: chunks of compressed bytes with checksums, which carries large
//! assignments (a message's body is a single block instead, see [`s2`](super::s2)).
//!
//! A chunk is a kind u8, a length u24 and that many bytes. Upstream uses `s2.NewWriter` and
//! `s2.NewReader` of `github.com/klauspost/compress`. An empty stream is zero bytes.

use alloc::vec::Vec;

use bytes::Bytes;

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;

/// The name of the format.
const FORMAT: &str = "s2_stream";

/// A chunk of a checksum and an S2 block.
const COMPRESSED: u8 = 0;
/// A chunk of a checksum and the bytes themselves.
const UNCOMPRESSED: u8 = 1;
/// Kinds from here to the identifier's may be passed over; those below may not.
const SKIPPABLE: u8 = 0x80;
/// The chunk that a stream begins with.
const IDENTIFIER: u8 = 0xff;
const IDENTIFIERS: [&[u8]; 2] = [b"S2sTwO", b"sNaPpY"];
/// Bytes that one chunk may unpack to, by the format.
const CHUNK_MAX: u64 = 4 << 20;
/// Bytes that we pack into one chunk, as upstream does.
const CHUNK: usize = 1 << 20;
const CHECKSUM: usize = 4;

/// Unpacks a stream to at most `limit` bytes. Takes as much memory as it unpacks to.
///
/// # Errors
/// [`WireError`] if it does not begin with an identifier, would unpack to more than `limit` or
/// one chunk of it to more than 4 MiB, has a chunk that is cut off, corrupt or of a kind that
/// must be understood, or a checksum that does not match.
pub fn decode_stream(stream: &Bytes, limit: u64) -> Result<Vec<u8>, WireError> {
    let mut reader = Reader::new(FORMAT, stream);
    let mut unpacked = Vec::new();
    let mut identified = false;
    while reader.left() > 0 {
        let kind = reader.u8("chunk kind")?;
        let [a, b, c] = reader.array("chunk length")?;
        let chunk = reader.slice("chunk", u64::from(u32::from_le_bytes([a, b, c, 0])))?;
        match kind {
            IDENTIFIER if IDENTIFIERS.contains(&&chunk[..]) => identified = true,
            _ if !identified => {
                let expected = "the identifier of an S2 stream";
                let fault = Fault::Value { expected, found: u64::from(kind) };
                return Err(reader.error("chunk kind", fault));
            }
            COMPRESSED | UNCOMPRESSED => unpack(&reader, kind, &chunk, limit, &mut unpacked)?,
            SKIPPABLE.. if kind != IDENTIFIER => {}
            _ => {
                let expected = "a kind of chunk that is known or may be passed over";
                let fault = Fault::Value { expected, found: u64::from(kind) };
                return Err(reader.error("chunk kind", fault));
            }
        }
    }
    Ok(unpacked)
}

/// Appends what a chunk holds.
fn unpack(
    reader: &Reader<'_>,
    kind: u8,
    chunk: &Bytes,
    limit: u64,
    unpacked: &mut Vec<u8>,
) -> Result<(), WireError> {
    let short = Fault::Short { expected: CHECKSUM as u64, found: chunk.len() };
    let (checksum, packed) =
        chunk.split_first_chunk::<CHECKSUM>().ok_or_else(|| reader.error("checksum", short))?;
    let corrupt = |_| reader.error("chunk", Fault::Compression);
    let length = match kind {
        COMPRESSED => minlz::decode_len(packed).map_err(corrupt)?.0 as u64,
        _ => packed.len() as u64,
    };
    if length > CHUNK_MAX {
        let fault = Fault::TooLarge { limit: CHUNK_MAX, found: length };
        return Err(reader.error("chunk", fault));
    }
    let start = unpacked.len();
    let found = start as u64 + length;
    if found > limit {
        return Err(reader.error("contents", Fault::TooLarge { limit, found }));
    }
    if kind == COMPRESSED {
        // At most 4 MiB, as just checked.
        unpacked.resize(start + length as usize, 0);
        let written = minlz::decode_into(&mut unpacked[start..], packed).map_err(corrupt)?;
        unpacked.truncate(start + written);
    } else {
        unpacked.extend_from_slice(packed);
    }
    if minlz::crc::crc(&unpacked[start..]) != u32::from_le_bytes(*checksum) {
        return Err(reader.error("checksum", Fault::Checksum));
    }
    Ok(())
}

/// Appends a stream of these contents; nothing for no contents.
pub fn encode_stream(contents: &[u8], out: &mut impl Buffer) {
    for (number, raw) in contents.chunks(CHUNK).enumerate() {
        if number == 0 {
            put_head(IDENTIFIER, IDENTIFIERS[0].len(), out);
            out.put_slice(IDENTIFIERS[0]);
        }
        let packed = minlz::encode(raw);
        let (kind, body) =
            if packed.len() < raw.len() { (COMPRESSED, &packed[..]) } else { (UNCOMPRESSED, raw) };
        put_head(kind, CHECKSUM + body.len(), out);
        out.put_u32_le(minlz::crc::crc(raw));
        out.put_slice(body);
    }
}

/// The head of a chunk, whose length is that of [`CHUNK`] and a checksum at most.
fn put_head(kind: u8, length: usize, out: &mut impl Buffer) {
    out.put_u8(kind);
    out.put_uint_le(length as u64, 3);
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    fn packed(contents: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        encode_stream(contents, &mut out);
        out
    }

    /// Bytes that do not repeat within reach of a compressor.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| step()).collect()
    }

    #[test]
    fn contents_go_both_ways() {
        let contents =
            [Vec::new(), alloc::vec![7; 10], alloc::vec![7; 3 * CHUNK + 1], noise(CHUNK + 1)];
        for contents in contents {
            let stream = packed(&contents).freeze();
            let unpacked = decode_stream(&stream, contents.len() as u64).expect("just packed");
            assert!(unpacked == contents, "{} bytes", contents.len());
        }
        assert!(packed(b"").is_empty());
        assert!(packed(&alloc::vec![7; 3 * CHUNK]).len() < CHUNK);
    }

    #[test]
    fn a_limit_holds_before_memory_is_taken() {
        let stream = packed(&alloc::vec![0; 1000]).freeze();
        let error = decode_stream(&stream, 999).map_err(|error| error.fault);
        assert_eq!(error, Err(Fault::TooLarge { limit: 999, found: 1000 }));
        // A block that claims 4 GiB.
        let mut claims = packed(b"");
        put_head(IDENTIFIER, 6, &mut claims);
        claims.put_slice(b"S2sTwO");
        put_head(COMPRESSED, 9, &mut claims);
        claims.put_slice(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        let error = decode_stream(&claims.freeze(), u64::MAX).map_err(|error| error.fault);
        assert!(matches!(error, Err(Fault::TooLarge { .. } | Fault::Compression)), "{error:?}");
    }

    #[test]
    fn damage_is_seen() {
        let stream = packed(b"a short one that is not compressed");
        let decode = |bytes: BytesMut| decode_stream(&bytes.freeze(), 1 << 20);
        for place in 0..stream.len() {
            let mut damaged = stream.clone();
            damaged[place] ^= 0x10;
            assert!(decode(damaged).is_err(), "bit flipped in byte {place}");
        }
        for length in (1..stream.len()).filter(|length| *length != 10) {
            let cut = BytesMut::from(&stream[..length]);
            assert!(decode(cut).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn padding_and_later_identifiers_are_passed_over() {
        let mut stream = packed(b"one ");
        put_head(0xfe, 3, &mut stream);
        stream.put_slice(b"pad");
        stream.extend_from_slice(&packed(b"two"));
        assert_eq!(decode_stream(&stream.clone().freeze(), 100), Ok(b"one two".to_vec()));
        put_head(0x7f, 0, &mut stream);
        assert!(decode_stream(&stream.freeze(), 100).is_err());
    }
}
