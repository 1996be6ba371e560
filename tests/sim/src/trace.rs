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

/// A digest of bytes, for checkers that compare records.
pub fn digest(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}
