//! Recorded runs: every event of a node, and a digest of the commands that followed, so that the
//! run can be replayed on any machine and shown to come out the same.
//!
//! A trace is a head (`MAGIC`, then the version as a little-endian u16) and records. A record is
//! its body's length, the CRC-32 of that length and the CRC-32 of the body, each a little-endian
//! u32, and the body: a [`Record`] in postcard. The length has a checksum of its own so that a
//! damaged one is not taken for the end of a trace that was cut off.
//! The first is the node's [`Config`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::command::Command;
use crate::config::{Config, ConfigError};
use crate::event::Event;
use crate::node::Node;
use crate::time::Time;

/// What every trace begins with.
pub const MAGIC: &[u8; 8] = b"jetwaket";
/// The version that is written, and the only one that is read.
pub const VERSION: u16 = 4;
/// Bytes of one record's body at most: a larger one is damage.
pub const LARGEST_RECORD: usize = 256 << 20;

const HEAD: usize = MAGIC.len() + 2;
const RECORD_HEAD: usize = 12;

/// One step of a run.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// What the node was told before it started.
    Start(Box<Config>),
    /// The node was handed this.
    Event(Time, Event),
    /// The node was drained.
    Drained(Drained),
}

/// The commands of one drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// How many there were.
    pub commands: u64,
    /// A digest of all of them, byte for byte and in order.
    pub digest: u64,
}

/// Why a trace cannot be read, or does not replay.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not a trace, or of a version that is not known here.
    #[error("expected a trace of version {VERSION}, found other bytes")]
    Head,
    /// A record that is not what was written.
    #[error("the record at byte {offset} is damaged: {what}")]
    Damaged {
        /// Where the record begins.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// The configuration in it cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The commands came out differently.
    #[error(
        "after event {event} the commands differ: recorded {recorded:?}, replayed {replayed:?}"
    )]
    Differs {
        /// The last event before the difference, counted from 1.
        event: u64,
        /// What was recorded.
        recorded: Drained,
        /// What came out now.
        replayed: Drained,
    },
}

/// Digests the commands of one drain.
#[derive(Debug, Default)]
pub struct Digest {
    drained: Drained,
    hasher: SipHasher13,
    scratch: Vec<u8>,
}

impl Digest {
    /// Takes in one command.
    pub fn command(&mut self, command: &Command) {
        self.scratch.clear();
        self.scratch = encode(command, core::mem::take(&mut self.scratch));
        self.hasher.write(&self.scratch);
        self.drained.commands += 1;
        self.drained.digest = self.hasher.finish();
    }

    /// The digest so far; the next drain starts anew.
    pub fn take(&mut self) -> Drained {
        self.hasher = SipHasher13::new();
        core::mem::take(&mut self.drained)
    }
}

/// Appends the head of a trace.
pub fn write_head(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
}

/// Appends a record. Costs one encoding of it.
pub fn write_record(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD]);
    *out = encode(record, core::mem::take(out));
    let body = start + RECORD_HEAD;
    let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = crc32fast::hash(&out[body..]).to_le_bytes();
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out[start + 8..body].copy_from_slice(&checksum);
}

fn encode<T: Serialize>(value: &T, out: Vec<u8>) -> Vec<u8> {
    // Vectors grow and none of our types can fail to serialize: no error is left.
    postcard::to_extend(value, out).unwrap_or_default()
}

/// Reads a trace that arrives in pieces.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// How many of `bytes` were read.
    read: usize,
    /// How many bytes were read before `bytes`.
    before: u64,
    begun: bool,
}

impl Reader {
    /// More of the trace.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.before += self.read as u64;
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole record; none until more bytes come.
    ///
    /// # Errors
    /// [`TraceError::Head`] and [`TraceError::Damaged`].
    pub fn next_record(&mut self) -> Result<Option<Record>, TraceError> {
        if !self.begun {
            let Some(head) = self.bytes.get(..HEAD) else { return Ok(None) };
            if head[..MAGIC.len()] != MAGIC[..] || head[MAGIC.len()..] != VERSION.to_le_bytes() {
                return Err(TraceError::Head);
            }
            (self.begun, self.read) = (true, HEAD);
        }
        let rest = &self.bytes[self.read..];
        let Some((head, body)) = rest.split_first_chunk::<RECORD_HEAD>() else { return Ok(None) };
        let offset = self.before + self.read as u64;
        let ([length, length_checksum, checksum], _) = head.as_chunks::<4>() else {
            return Ok(None);
        };
        if crc32fast::hash(length) != u32::from_le_bytes(*length_checksum) {
            return Err(TraceError::Damaged {
                offset,
                what: "its length's checksum does not match",
            });
        }
        let (length, checksum) =
            (u32::from_le_bytes(*length) as usize, u32::from_le_bytes(*checksum));
        if length > LARGEST_RECORD {
            return Err(TraceError::Damaged { offset, what: "its length is beyond the bound" });
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        if crc32fast::hash(body) != checksum {
            return Err(TraceError::Damaged { offset, what: "its checksum does not match" });
        }
        let record = postcard::from_bytes(body)
            .map_err(|_| TraceError::Damaged { offset, what: "it is not a record" })?;
        self.read += RECORD_HEAD + length;
        Ok(Some(record))
    }

    /// Whether bytes are left that do not make a record: the trace was cut off.
    pub fn has_rest(&self) -> bool {
        self.read < self.bytes.len()
    }
}

/// Feeds a trace to a fresh node.
#[derive(Debug, Default)]
pub struct Replay {
    node: Option<Node>,
    /// Events and commands so far.
    pub events: u64,
    /// Commands so far, all the same as recorded.
    pub commands: u64,
    digest: Digest,
}

impl Replay {
    /// Takes one record.
    ///
    /// # Errors
    /// [`TraceError::Differs`] where the commands do not come out the same.
    pub fn record(&mut self, record: Record) -> Result<(), TraceError> {
        match (record, &mut self.node) {
            (Record::Start(config), _) => self.node = Some(Node::new(*config)?),
            (Record::Event(now, event), Some(node)) => {
                self.events += 1;
                node.handle(now, event);
            }
            (Record::Drained(recorded), Some(node)) => {
                while let Some(command) = node.poll() {
                    self.digest.command(&command);
                }
                let replayed = self.digest.take();
                if replayed != recorded {
                    return Err(TraceError::Differs { event: self.events, recorded, replayed });
                }
                self.commands += replayed.commands;
            }
            (_, None) => return Err(TraceError::Head),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GroupConfig, GroupKind};
    use crate::event::Opened;
    use crate::ids::{GroupId, GroupName};
    use crate::limits::{Limits, Timers};

    fn recorded() -> Vec<u8> {
        let name = GroupName::new("G").expect("a letter is a name");
        let members = alloc::vec!["a".into(), "b".into()];
        let group = GroupConfig { name, members, kind: GroupKind::Plain };
        let config = Config {
            name: "a".into(),
            domain: alloc::string::String::new(),
            seed: 7,
            limits: Limits::default(),
            timers: Timers::default(),
            groups: alloc::vec![group],
        };
        let mut out = Vec::new();
        write_head(&mut out);
        write_record(&Record::Start(Box::new(config.clone())), &mut out);
        let mut node = Node::new(config).expect("the configuration is sound");
        let mut digest = Digest::default();
        let mut now = Time::ZERO;
        let mut event = Event::Opened { group: GroupId(0), disk: Opened::default() };
        for _ in 0..20 {
            write_record(&Record::Event(now, event.clone()), &mut out);
            node.handle(now, event);
            while let Some(command) = node.poll() {
                digest.command(&command);
            }
            write_record(&Record::Drained(digest.take()), &mut out);
            (now, event) = (node.deadline().expect("an election is due").0, Event::DeadlineReached);
        }
        out
    }

    fn replay(trace: &[u8]) -> Result<Replay, TraceError> {
        let (mut reader, mut replay) = (Reader::default(), Replay::default());
        for piece in trace.chunks(7) {
            reader.push(piece);
            while let Some(record) = reader.next_record()? {
                replay.record(record)?;
            }
        }
        assert!(!reader.has_rest());
        Ok(replay)
    }

    #[test]
    fn a_recorded_run_comes_out_the_same() {
        let replay = replay(&recorded()).expect("it is the same code");
        assert_eq!(replay.events, 20);
        assert!(replay.commands >= 20, "{}", replay.commands);
    }

    #[test]
    fn another_seed_is_noticed() {
        let trace = recorded();
        let mut reader = Reader::default();
        reader.push(&trace);
        let Ok(Some(Record::Start(mut config))) = reader.next_record() else { panic!("no start") };
        config.seed += 1;
        let mut replay = Replay::default();
        replay.record(Record::Start(config)).expect("the configuration is sound");
        let result = (|| {
            while let Some(record) = reader.next_record()? {
                replay.record(record)?;
            }
            Ok(())
        })();
        assert!(matches!(result, Err(TraceError::Differs { .. })), "{result:?}");
    }

    #[test]
    fn a_flipped_bit_is_named_with_its_place() {
        let mut trace = recorded();
        trace[HEAD + RECORD_HEAD + 3] ^= 1;
        let damage = replay(&trace).expect_err("the checksum covers it");
        assert_eq!(damage, TraceError::Damaged { offset: 10, what: "its checksum does not match" });
        assert_eq!(replay(b"something else").err(), Some(TraceError::Head));
    }

    #[test]
    fn a_damaged_length_is_not_taken_for_the_end() {
        for bit in 0..RECORD_HEAD * 8 {
            let mut trace = recorded();
            trace[HEAD + bit / 8] ^= 1 << (bit % 8);
            let mut reader = Reader::default();
            reader.push(&trace);
            let found = reader.next_record();
            assert!(
                matches!(found, Err(TraceError::Damaged { offset: 10, .. })),
                "{bit}: {found:?}"
            );
        }
    }
}
