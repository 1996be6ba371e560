//! What the demo publishes: messages made from their number, or the lines of a file.
//!
//! A message is known by its number alone: subject and message id follow from it, and so does the
//! payload unless it is a line of the file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use highway::{HighwayHash, HighwayHasher, Key};
use jetwake::event::Request;

use super::DemoError;

/// The stream that the demo publishes to.
pub(super) const STREAM: &str = "DEMO";
/// The subjects that it takes.
pub(super) const SUBJECT_FILTER: &str = "demo.>";
/// How many subjects the messages are spread over.
pub(super) const SUBJECTS: u64 = 100;
/// Messages at least: with fewer, the steps of the demo cannot be told apart.
pub const FEWEST_MESSAGES: u64 = 100;
/// Messages at most: the client's record of them takes 16 GB of memory.
pub const MOST_MESSAGES: u64 = 1_000_000_000;
/// Bytes of the largest payload, so that subject and header find room in a message of 1 MiB.
pub const LARGEST_PAYLOAD: usize = 1024 * 1024 - 1024;

/// What stands before and behind the number in the header of a message.
const HEADER: (&[u8], &[u8]) = (b"NATS/1.0\r\nNats-Msg-Id: demo-", b"\r\n\r\n");
/// Bytes of memory that messages are cut from.
const CHUNK: usize = 256 * 1024;
/// Any key, as hashes do not leave the process.
const HASH_KEY: [u64; 4] = [1, 2, 3, 4];

/// Where the messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// So many messages with payloads of so many bytes.
    Made {
        /// How many.
        messages: u64,
        /// Bytes of each payload.
        size: usize,
    },
    /// The lines of a file, without their ends: all, or at most so many.
    Lines {
        /// The file.
        file: PathBuf,
        /// How many at most.
        most: Option<u64>,
    },
}

/// The messages of one run, known to be good.
#[derive(Debug)]
pub(super) struct Workload {
    source: Source,
    messages: u64,
    bytes: u64,
}

impl Workload {
    /// Looks at the source; a file is read once, to count its lines.
    pub(super) fn survey(source: Source) -> Result<Self, DemoError> {
        let (messages, bytes) = match &source {
            Source::Made { messages, size } => (*messages, messages.saturating_mul(*size as u64)),
            Source::Lines { file, most } => count_lines(file, most.unwrap_or(MOST_MESSAGES))?,
        };
        if messages < FEWEST_MESSAGES {
            let what = match &source {
                Source::Made { .. } => "messages".to_owned(),
                Source::Lines { file, .. } => format!("lines in {}", file.display()),
            };
            return Err(DemoError::Input(format!(
                "found {messages} {what}, expected at least {FEWEST_MESSAGES}"
            )));
        }
        Ok(Self { source, messages, bytes })
    }

    /// How many messages there are.
    pub(super) const fn messages(&self) -> u64 {
        self.messages
    }

    /// What is published, in words.
    pub(super) fn describe(&self) -> String {
        let count = indicatif::HumanCount(self.messages);
        match &self.source {
            Source::Made { size, .. } => format!("{count} messages of {size} bytes"),
            Source::Lines { file, .. } => {
                let bytes = indicatif::HumanBytes(self.bytes);
                format!("{count} lines of {}, {bytes}", file.display())
            }
        }
    }

    /// The messages from the first on.
    pub(super) fn begin(&self) -> Result<Messages, DemoError> {
        let payloads = match &self.source {
            Source::Made { size, .. } => Payloads::Made(*size),
            Source::Lines { file, .. } => {
                Payloads::Lines { reader: open(file)?, line: Vec::new(), file: file.clone() }
            }
        };
        let subjects = (0..SUBJECTS).map(subject).collect();
        Ok(Messages { payloads, subjects, next: 0, left: self.messages, chunk: BytesMut::new() })
    }
}

/// Makes the messages, one after the other.
#[derive(Debug)]
pub(super) struct Messages {
    payloads: Payloads,
    subjects: Vec<Bytes>,
    next: u64,
    left: u64,
    chunk: BytesMut,
}

#[derive(Debug)]
enum Payloads {
    Made(usize),
    Lines { reader: BufReader<File>, line: Vec<u8>, file: PathBuf },
}

/// A message to be published.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The request that publishes it.
    pub(super) request: Request,
    /// The hash of all of it.
    pub(super) hash: u64,
    /// Bytes of all of it.
    pub(super) bytes: u32,
}

impl Messages {
    /// The next message; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Outgoing>, DemoError> {
        if self.left == 0 {
            return Ok(None);
        }
        let number = self.next;
        let length = self.payloads.prepare()?;
        let room = HEADER.0.len() + 20 + HEADER.1.len() + length;
        if self.chunk.capacity() < room {
            self.chunk = BytesMut::with_capacity(room.max(CHUNK));
        }
        put_header(number, &mut self.chunk);
        let header = self.chunk.split().freeze();
        self.payloads.put(number, &mut self.chunk);
        let payload = self.chunk.split().freeze();
        let subject = self.subjects[(number % SUBJECTS) as usize].clone();
        self.next += 1;
        self.left -= 1;
        // Each of the three has a bound far below 4 GiB.
        let bytes = (subject.len() + header.len() + payload.len()) as u32;
        let hash = hash(&subject, &header, &payload);
        Ok(Some(Outgoing { request: Request::Publish { subject, header, payload }, hash, bytes }))
    }
}

impl Payloads {
    /// Gets the next payload ready, and tells its length.
    fn prepare(&mut self) -> Result<usize, DemoError> {
        match self {
            Self::Made(size) => Ok(*size),
            Self::Lines { reader, line, file } => {
                line.clear();
                let read = reader.read_until(b'\n', line).map_err(|why| unreadable(file, &why))?;
                if read == 0 || read > LARGEST_PAYLOAD + 1 {
                    let file = file.display();
                    return Err(DemoError::Input(format!("{file} was changed meanwhile")));
                }
                line.pop_if(|byte| *byte == b'\n');
                Ok(line.len())
            }
        }
    }

    /// Appends it.
    fn put(&self, number: u64, out: &mut BytesMut) {
        match self {
            Self::Made(size) => put_made(number, *size, out),
            Self::Lines { line, .. } => out.put_slice(line),
        }
    }
}

/// Bytes that look random, follow from the number, and cannot be compressed.
fn put_made(number: u64, size: usize, out: &mut BytesMut) {
    let mut state = number.wrapping_mul(0xd134_2543_de82_ef95);
    let mut left = size;
    while left > 0 {
        // Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (mixed ^ mixed >> 31).to_le_bytes();
        let taken = left.min(word.len());
        out.put_slice(&word[..taken]);
        left -= taken;
    }
}

fn put_header(number: u64, out: &mut BytesMut) {
    use std::fmt::Write;
    out.put_slice(HEADER.0);
    // Writing to memory cannot fail: the caller has made room.
    let _ = write!(out, "{number}");
    out.put_slice(HEADER.1);
}

/// The number of the message that has this header; none if it is no message of the demo.
pub(super) fn number_of(header: &[u8]) -> Option<u64> {
    let digits = header.strip_prefix(HEADER.0)?.strip_suffix(HEADER.1)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// One of the subjects.
pub(super) fn subject(place: u64) -> Bytes {
    Bytes::from(format!("demo.{:02}", place % SUBJECTS))
}

/// A hash of a whole message, such that no byte can change or move unseen.
pub(super) fn hash(subject: &[u8], header: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = HighwayHasher::new(Key(HASH_KEY));
    for part in [subject, header] {
        hasher.append(&(part.len() as u64).to_le_bytes());
        hasher.append(part);
    }
    hasher.append(payload);
    hasher.finalize64()
}

fn open(file: &Path) -> Result<BufReader<File>, DemoError> {
    let opened = File::open(file).map_err(|why| unreadable(file, &why))?;
    Ok(BufReader::with_capacity(CHUNK, opened))
}

/// How many lines there are, and their bytes.
fn count_lines(file: &Path, most: u64) -> Result<(u64, u64), DemoError> {
    let mut reader = open(file)?;
    let (mut lines, mut bytes, mut line) = (0, 0, 0);
    while lines < most {
        let found = reader.fill_buf().map_err(|why| unreadable(file, &why))?;
        if found.is_empty() {
            lines += u64::from(line > 0);
            bytes += line as u64;
            break;
        }
        let end = found.iter().position(|byte| *byte == b'\n');
        let (taken, ends) = end.map_or((found.len(), false), |place| (place + 1, true));
        reader.consume(taken);
        line += taken - usize::from(ends);
        if line > LARGEST_PAYLOAD {
            return Err(DemoError::Input(format!(
                "{} line {}: longer than the {LARGEST_PAYLOAD} bytes of a payload at most",
                file.display(),
                lines + 1
            )));
        }
        if ends {
            lines += 1;
            bytes += line as u64;
            line = 0;
        }
    }
    Ok((lines, bytes))
}

fn unreadable(file: &Path, why: &std::io::Error) -> DemoError {
    DemoError::Input(format!("{}: {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all(source: Source) -> Vec<Outgoing> {
        let mut messages =
            Workload::survey(source).expect("enough messages").begin().expect("a readable source");
        std::iter::from_fn(|| messages.next().expect("a readable source")).collect()
    }

    fn parts(outgoing: &Outgoing) -> (&[u8], &[u8], &[u8]) {
        let Request::Publish { subject, header, payload } = &outgoing.request else {
            panic!("expected a publish")
        };
        (subject, header, payload)
    }

    #[test]
    fn messages_follow_from_their_number() {
        let messages = all(Source::Made { messages: 300, size: 21 });
        assert_eq!(messages.len(), 300);
        let hashes: BTreeSet<_> = messages.iter().map(|message| message.hash).collect();
        assert_eq!(hashes.len(), 300);
        for (number, message) in (0..).zip(&messages) {
            let (subject, header, payload) = parts(message);
            assert_eq!(number_of(header), Some(number));
            assert_eq!(subject, format!("demo.{:02}", number % 100).as_bytes());
            assert_eq!(payload.len(), 21);
            assert_eq!(message.hash, hash(subject, header, payload));
            assert_eq!(message.bytes as usize, subject.len() + header.len() + payload.len());
        }
        let again = all(Source::Made { messages: 300, size: 21 });
        assert!(again.iter().map(|message| message.hash).eq(messages.iter().map(|m| m.hash)));
    }

    #[test]
    fn lines_of_a_file_are_payloads_as_they_are() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("lines");
        let mut lines: Vec<Vec<u8>> = (0..200).map(|n| format!("line {n}").into()).collect();
        lines[3].clear();
        lines[4] = b"\xff\r".to_vec();
        lines[150] = vec![b'x'; CHUNK * 2];
        for end in [&b""[..], b"\n"] {
            std::fs::write(&file, [lines.join(&b'\n'), end.to_vec()].concat()).expect("a file");
            let source = |most| Source::Lines { file: file.clone(), most };
            let messages = all(source(None));
            let payloads: Vec<_> = messages.iter().map(|message| parts(message).2).collect();
            assert_eq!(payloads, lines);
            assert_eq!(all(source(Some(120))).len(), 120);
        }
    }

    #[test]
    fn sources_that_cannot_work_are_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("lines");
        let survey = |text: &[u8]| {
            std::fs::write(&file, text).expect("a file");
            let source = Source::Lines { file: file.clone(), most: None };
            Workload::survey(source).expect_err("a bad file").to_string()
        };
        assert!(survey(b"").contains("found 0 lines in"), "{}", survey(b""));
        assert!(survey(b"a\nb").contains("found 2 lines in"));
        let long = [b"short\n", &vec![b'x'; LARGEST_PAYLOAD + 1][..]].concat();
        assert!(survey(&long).contains("line 2: longer than"));
        let missing = Source::Lines { file: dir.path().join("none"), most: None };
        let error = Workload::survey(missing).expect_err("no file").to_string();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn a_hash_sees_where_bytes_belong() {
        assert_ne!(hash(b"ab", b"c", b"d"), hash(b"a", b"bc", b"d"));
        assert_ne!(hash(b"ab", b"c", b"d"), hash(b"ab", b"cd", b""));
    }

    #[test]
    fn headers_of_others_have_no_number() {
        for header in [&b""[..], b"NATS/1.0\r\nNats-Msg-Id: demo-\r\n\r\n", b"NATS/1.0\r\n\r\n"] {
            assert_eq!(number_of(header), None);
        }
    }
}
