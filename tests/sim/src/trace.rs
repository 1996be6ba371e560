//! A digest of everything that went into the nodes and came out of them.

use core::hash::Hasher;

use jetwake::time::Time;
use serde::Serialize;
use siphasher::sip::SipHasher13;

use crate::network::Machine;

/// The digest of a run: equal for two runs that agree in every event, command and time.
#[derive(Debug, Default)]
pub struct TraceDigest {
    hasher: SipHasher13,
    buffer: Vec<u8>,
}

impl TraceDigest {
    /// Adds an event or a command.
    pub fn add(&mut self, at: Time, machine: Machine, what: &impl Serialize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend(at.as_nanos().to_le_bytes());
        buffer.extend((machine.0 as u32).to_le_bytes());
        // Events and commands are plain data, and a vector takes all that is written to it.
        let buffer = postcard::to_extend(what, buffer).expect("plain data has a postcard form");
        self.hasher.write(&buffer);
        self.buffer = buffer;
    }

    /// The digest so far.
    pub fn value(&self) -> u64 {
        self.hasher.finish()
    }
}

/// A digest of bytes, for checkers that compare records: quick, and good enough where nobody makes
/// them collide on purpose.
pub fn digest(parts: &[&[u8]]) -> u64 {
    parts.iter().fold(0, |before, part| {
        let (words, rest) = part.as_chunks::<8>();
        let mut digest = fold(before, part.len() as u64);
        for word in words {
            digest = fold(digest, u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        fold(digest, u64::from_le_bytes(last))
    })
}

/// The two halves of a product, one over the other.
const fn fold(digest: u64, word: u64) -> u64 {
    let mixed = digest.rotate_left(23) ^ word ^ 0x9e37_79b9_7f4a_7c15;
    let product = mixed as u128 * 0xd6e8_feb8_6659_fd93;
    (product as u64) ^ (product >> 64) as u64
}
