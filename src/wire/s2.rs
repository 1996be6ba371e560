//! S2, the compression of messages, in one block.
//!
//! The claimed size is checked against a limit before memory is taken. Compressed bytes are not
//! the same from one compressor to the next; only what they unpack to is.

use alloc::vec::Vec;

use super::error::{Fault, WireError};

const FORMAT: &str = "s2_block";

/// Unpacks a block. Takes as much memory as it claims to unpack to, `limit` bytes at most.
///
/// # Errors
/// [`WireError`] if the block claims more than `limit` bytes, or is corrupt.
pub fn decode_block(block: &[u8], limit: u64) -> Result<Vec<u8>, WireError> {
    let mut unpacked = Vec::new();
    decode_block_into(block, limit, &mut unpacked)?;
    Ok(unpacked)
}

/// Unpacks a block in place of what `unpacked` holds, which grows to what the block claims to
/// unpack to, `limit` bytes at most. After an error it holds anything.
///
/// # Errors
/// As [`decode_block`].
pub fn decode_block_into(
    block: &[u8],
    limit: u64,
    unpacked: &mut Vec<u8>,
) -> Result<(), WireError> {
    let error = |field, offset, fault| WireError { format: FORMAT, field, offset, fault };
    let corrupt = |_| error("block", 0, Fault::Compression);
    let (length, _) = minlz::decode_len(block).map_err(corrupt)?;
    if length as u64 > limit {
        let fault = Fault::TooLarge { limit, found: length as u64 };
        return Err(error("length", 0, fault));
    }
    if unpacked.capacity() < length {
        // Memory that comes zeroed is cheaper than memory that has to be.
        *unpacked = alloc::vec![0; length];
    }
    unpacked.resize(length, 0);
    let written = minlz::decode_into(unpacked, block).map_err(corrupt)?;
    unpacked.truncate(written);
    Ok(())
}

/// Packs a block.
///
/// # Errors
/// [`WireError`] above 4 GiB, which the format cannot say.
pub fn encode_block(contents: &[u8]) -> Result<Vec<u8>, WireError> {
    let limit = u64::from(u32::MAX);
    if contents.len() as u64 > limit {
        let fault = Fault::TooLarge { limit, found: contents.len() as u64 };
        return Err(WireError { format: FORMAT, field: "contents", offset: 0, fault });
    }
    Ok(minlz::encode(contents))
}
