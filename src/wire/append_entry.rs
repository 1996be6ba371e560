//! Append entries: what a leader sends to its group, and what a group's log keeps.
//!
//! Upstream: `appendEntry` in `server/raft.go`. Little-endian: leader, term, commit, previous
//! term, previous index, count of entries; each entry as length, kind and data; last the
//! leader's term as a variable-length number, which servers before 2.11 leave out.

use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use super::buffer::Buffer;
use super::error::{Fault, WireError};
use super::reader::Reader;
use super::varint;
use crate::ids::{Index, PeerId, Term};

const FORMAT: &str = "append_entry";

/// Bytes before the first entry.
const HEAD: usize = 8 + 4 * 8 + 2;

/// Bytes of an entry before its data: the length, and the kind that the length includes.
const ENTRY_HEAD: usize = 4 + 1;

/// Bytes of one entry's data at most; upstream refuses to send more.
const DATA_MAX: usize = i32::MAX as usize;

/// What an entry's data means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A proposal; the first byte of the data tells which.
    Normal,
    /// A snapshot of servers before 2.9, which new ones read as [`Snapshot`](Self::Snapshot).
    OldSnapshot,
    /// The group's members.
    PeerState,
    /// A member that joins.
    AddPeer,
    /// A member that goes.
    RemovePeer,
    /// The member that should lead next.
    LeaderTransfer,
    /// The state of all entries before.
    Snapshot,
    /// A kind of a newer server, kept so that it can be passed on. It must not be applied.
    Unknown(u8),
}

impl EntryKind {
    /// The kind of this byte.
    pub const fn from_u8(byte: u8) -> Self {
        match byte {
            0 => Self::Normal,
            1 => Self::OldSnapshot,
            2 => Self::PeerState,
            3 => Self::AddPeer,
            4 => Self::RemovePeer,
            5 => Self::LeaderTransfer,
            6 => Self::Snapshot,
            unknown => Self::Unknown(unknown),
        }
    }

    /// The byte of this kind.
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::OldSnapshot => 1,
            Self::PeerState => 2,
            Self::AddPeer => 3,
            Self::RemovePeer => 4,
            Self::LeaderTransfer => 5,
            Self::Snapshot => 6,
            Self::Unknown(byte) => byte,
        }
    }
}

/// One entry of an append entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the data means.
    pub kind: EntryKind,
    /// The data, which shares the memory of the message it came in.
    pub data: Bytes,
}

/// The entries of one append entry, checked once and cut out one by one as they are asked for.
///
/// A copy costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Every length in here has been checked: the entries fill it exactly.
    region: Bytes,
    count: u16,
}

impl Entries {
    /// No entries: a heartbeat's.
    pub const fn empty() -> Self {
        Self { region: Bytes::new(), count: 0 }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries as the wire carries them.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.region
    }

    /// The entries in order. Each costs one slice of the message and no allocation; who only looks
    /// takes [`views`](Self::views).
    pub fn iter(&self) -> EntriesIter<'_> {
        EntriesIter { region: &self.region, rest: &self.region, left: self.count }
    }

    /// The entries in order, as kind and data, for those who only look: costs no count of
    /// owners.
    pub fn views(&self) -> impl Iterator<Item = (EntryKind, &[u8])> {
        let mut rest: &[u8] = &self.region;
        core::iter::from_fn(move || next_view(&mut rest))
    }

    /// The data of the entries of this kind, in order, for those who keep it: one allocation, and one
    /// slice of the message for each.
    pub fn data_of(&self, kind: EntryKind) -> Vec<Bytes> {
        let mut all = Vec::with_capacity(self.len());
        let mut rest: &[u8] = &self.region;
        while let Some((found, data)) = next_view(&mut rest) {
            if found == kind {
                let end = self.region.len() - rest.len();
                all.push(self.region.slice(end - data.len()..end));
            }
        }
        all
    }
}

/// How many bytes so many entries take; none if one of them has no kind, or ends behind these bytes.
fn entries_len(bytes: &[u8], count: u16) -> Option<usize> {
    let mut rest = bytes;
    for _ in 0..count {
        let (length, entry) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length == 0 {
            return None;
        }
        rest = entry.get(length..)?;
    }
    Some(bytes.len() - rest.len())
}

/// Cuts the next entry off.
#[inline]
fn next_view<'a>(rest: &mut &'a [u8]) -> Option<(EntryKind, &'a [u8])> {
    // The entries were checked when they were decoded, so they end with one.
    let (length, entries) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (entry, more) = entries.split_at_checked(length)?;
    let (kind, data) = entry.split_first()?;
    *rest = more;
    Some((EntryKind::from_u8(*kind), data))
}

impl<'a> IntoIterator for &'a Entries {
    type Item = Entry;
    type IntoIter = EntriesIter<'a>;
    fn into_iter(self) -> EntriesIter<'a> {
        self.iter()
    }
}

/// Cuts entries out of a message, in order.
#[derive(Clone, Debug)]
pub struct EntriesIter<'a> {
    region: &'a Bytes,
    /// The end of the region that has not been cut yet.
    rest: &'a [u8],
    left: u16,
}

impl Iterator for EntriesIter<'_> {
    type Item = Entry;

    #[inline]
    fn next(&mut self) -> Option<Entry> {
        let (kind, data) = next_view(&mut self.rest)?;
        self.left = self.left.saturating_sub(1);
        let end = self.region.len() - self.rest.len();
        Some(Entry { kind, data: self.region.slice(end - data.len()..end) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for EntriesIter<'_> {}

/// What a leader sends: its entries, where they follow on, and how far the group has committed.
///
/// Without entries it is a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntry {
    /// Who sends it, as leader or from its log.
    pub leader: Option<PeerId>,
    /// The term in which the entries were proposed.
    pub term: Term,
    /// How far the sender knows the log to be committed.
    pub commit: Index,
    /// The term of the append entry before this.
    pub previous_term: Term,
    /// The index of the append entry before this; the entries are at the next.
    pub previous_index: Index,
    /// The entries, at most 65,535.
    pub entries: Entries,
    /// The term of the leader that serves a catchup from its log; zero otherwise.
    pub leader_term: Term,
    /// Whether `leader_term` stands on the wire: servers before 2.11 leave it out.
    pub has_leader_term: bool,
}

impl AppendEntry {
    /// Reads a message, checking every length. Takes no memory; the entries share the message's.
    ///
    /// Bytes behind the leader's term are refused, which upstream overlooks.
    ///
    /// # Errors
    /// [`WireError`] if the bytes end early, an entry has no kind, or bytes are left.
    pub fn decode(message: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(FORMAT, message);
        let leader = reader.peer("leader")?;
        let term = Term::new(reader.u64("term")?);
        let commit = Index::new(reader.u64("commit")?);
        let previous_term = Term::new(reader.u64("previous term")?);
        let previous_index = Index::new(reader.u64("previous index")?);
        let count = reader.u16("count")?;
        let entries = Self::decode_entries(&mut reader, message, count)?;
        let has_leader_term = reader.left() > 0;
        let leader_term =
            Term::new(if has_leader_term { reader.uvarint("leader term")? } else { 0 });
        reader.end()?;
        Ok(Self {
            leader,
            term,
            commit,
            previous_term,
            previous_index,
            entries,
            leader_term,
            has_leader_term,
        })
    }

    /// Walks the entries by their lengths alone.
    fn decode_entries(
        reader: &mut Reader<'_>,
        message: &Bytes,
        count: u16,
    ) -> Result<Entries, WireError> {
        let start = reader.offset();
        // What is well formed is walked without a thought of errors, which are large; the rest is
        // walked again, to say what is wrong with it.
        match entries_len(reader.as_slice(), count) {
            Some(length) => reader.skip("entries", length as u64)?,
            None => Self::explain_entries(reader, count)?,
        }
        Ok(Entries { region: message.slice(start..reader.offset()), count })
    }

    #[cold]
    fn explain_entries(reader: &mut Reader<'_>, count: u16) -> Result<(), WireError> {
        for _ in 0..count {
            let length = reader.u32("entry length")?;
            if length == 0 {
                return Err(reader.error(
                    "entry length",
                    Fault::Value { expected: "at least 1, for the kind", found: 0 },
                ));
            }
            reader.skip("entry", u64::from(length))?;
        }
        Ok(())
    }

    /// How many bytes [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        let leader_term =
            if self.has_leader_term { varint::len(self.leader_term.get()) } else { 0 };
        HEAD + self.entries.region.len() + leader_term
    }

    /// Appends the message. The entries are copied at once.
    pub fn encode(&self, buffer: &mut impl Buffer) {
        buffer.reserve(self.encoded_len());
        buffer.put_slice(&self.head());
        buffer.put_slice(&self.entries.region);
        if self.has_leader_term {
            varint::put(buffer, self.leader_term.get());
        }
    }

    /// The message in a buffer of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut buffer);
        buffer.freeze()
    }

    fn head(&self) -> [u8; HEAD] {
        head(
            self.leader,
            self.term,
            self.commit,
            self.previous_term,
            self.previous_index,
            self.entries.count,
        )
    }
}

/// The bytes before the entries.
fn head(
    leader: Option<PeerId>,
    term: Term,
    commit: Index,
    previous_term: Term,
    previous_index: Index,
    count: u16,
) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let mut rest = head.as_mut_slice();
    rest.put_slice(&leader.map_or([0; 8], |peer| *peer.as_bytes()));
    rest.put_u64_le(term.get());
    rest.put_u64_le(commit.get());
    rest.put_u64_le(previous_term.get());
    rest.put_u64_le(previous_index.get());
    rest.put_u16_le(count);
    head
}

/// A leader's append entry while it grows: proposals are written straight into the message, so
/// that each is copied once.
#[derive(Debug)]
pub struct AppendEntryBuilder {
    /// Begins with room for the head, which is only known at the end.
    message: Vec<u8>,
    count: u16,
}

impl Default for AppendEntryBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl AppendEntryBuilder {
    /// An empty one, with room for a heartbeat.
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty one, with room for so many bytes of entries before it must grow. They, the head,
    /// and the leader's term of zero that a live message has, fill one piece of memory exactly.
    pub fn with_capacity(entries: usize) -> Self {
        let room = HEAD.saturating_add(entries).saturating_add(varint::len(0));
        let mut message = Vec::with_capacity(room);
        message.resize(HEAD, 0);
        Self { message, count: 0 }
    }

    /// How many bytes an entry with so much data adds.
    pub const fn entry_len(data: usize) -> usize {
        data.saturating_add(ENTRY_HEAD)
    }

    /// Appends an entry, and says whether it was taken: not if 65,535 are in already, or the
    /// data is longer than upstream takes (2 GiB).
    #[inline]
    #[must_use]
    pub fn push(&mut self, kind: EntryKind, data: &[u8]) -> bool {
        let taken = self.begin(kind, data.len());
        if taken {
            self.message.extend_from_slice(data);
        }
        taken
    }

    /// Appends an entry whose data `write` appends to the message, `exact_len` bytes of it; says
    /// whether it was taken, as [`push`](Self::push) does. If it was not, `write` was not called.
    ///
    /// # Panics
    /// If `write` does anything but append `exact_len` bytes: the message would be corrupt.
    #[inline]
    #[must_use]
    pub fn push_with(
        &mut self,
        kind: EntryKind,
        exact_len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if !self.begin(kind, exact_len) {
            return false;
        }
        let end = self.message.len() + exact_len;
        write(&mut self.message);
        assert_eq!(self.message.len(), end, "an entry is as long as its writer said");
        true
    }

    /// Writes an entry's length and kind, if there is room for it, and counts it.
    #[inline]
    fn begin(&mut self, kind: EntryKind, data: usize) -> bool {
        if self.count == u16::MAX || data > DATA_MAX {
            return false;
        }
        self.count += 1;
        // The check above leaves room for the kind's byte in 32 bits.
        let [a, b, c, d] = (data as u32 + 1).to_le_bytes();
        self.message.extend_from_slice(&[a, b, c, d, kind.as_u8()]);
        true
    }

    /// How many entries are in.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether no entry is in.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the message so far, head included.
    pub const fn byte_len(&self) -> usize {
        self.message.len()
    }

    /// Bytes of the entries so far.
    pub const fn entries_len(&self) -> usize {
        self.message.len().saturating_sub(HEAD)
    }

    /// Writes the head in its place and the leader's term at the end.
    pub fn finish(
        mut self,
        leader: impl Into<Option<PeerId>>,
        term: Term,
        commit: Index,
        previous_term: Term,
        previous_index: Index,
        leader_term: Term,
    ) -> Bytes {
        let head = head(leader.into(), term, commit, previous_term, previous_index, self.count);
        // The room was put there when the builder was made, and entries only append.
        self.message[..HEAD].copy_from_slice(&head);
        varint::put(&mut self.message, leader_term.get());
        if self.message.capacity() / 2 > self.message.len() {
            // It is kept for long, and so is all of its memory.
            self.message.shrink_to_fit();
        }
        Bytes::from(self.message)
    }
}
