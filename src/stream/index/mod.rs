//! What a stream knows of its messages without their bytes: sequences, times, sizes, subjects, deletes.
//!
//! 24 bytes a message, and one entry a subject. Messages are added at the end alone; they may be
//! removed anywhere. Runs of removed sequences cost nothing, whatever their length; every count is
//! kept, so none is ever worked out from the history.

mod chunk;
mod subjects;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use self::chunk::{CHUNK, Chunk, Dense, Slot, ones};
use self::subjects::Subjects;
use crate::ids::Sequence;
use crate::wire::StorageType;

/// A distance that does not fit its slot; the index keeps it aside.
const FAR: u32 = u32::MAX;

/// The messages of one stream.
#[derive(Debug)]
pub struct StreamIndex {
    /// Chunks behind which another begins, by number.
    sealed: BTreeMap<u64, Chunk>,
    /// The chunk that grows, and its number.
    tail: Chunk,
    tail_number: u64,
    first: u64,
    last: u64,
    messages: u64,
    bytes: u64,
    subjects: Subjects,
    /// Distances of 2^32 and more to the message of the same subject, by sequence.
    far_before: BTreeMap<u64, u64>,
    far_after: BTreeMap<u64, u64>,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedMessage {
    /// When it was taken, in nanoseconds since the epoch.
    pub timestamp: i64,
    /// Its bytes as upstream's file store counts them.
    pub size: u32,
}

/// A part of a stream's deleted sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "each is used up at once, none is kept")]
pub enum Deleted {
    /// Every sequence of an inclusive range.
    Run(Sequence, Sequence),
    /// The sequences from `base` on whose bit is set.
    Bits {
        /// The sequence of the first bit, a multiple of 2,048.
        base: Sequence,
        /// 2,048 bits, the first in the lowest place of the first number.
        bits: [u64; 32],
    },
}

/// Inclusive ranges of sequences, ascending and apart.
#[derive(Debug, Default)]
pub struct Ranges(Vec<(Sequence, Sequence)>);

impl Ranges {
    /// Adds a sequence behind all that were added.
    pub fn push(&mut self, sequence: Sequence) {
        match self.0.last_mut() {
            Some((_, last)) if last.next() == sequence => *last = sequence,
            _ => self.0.push((sequence, sequence)),
        }
    }

    /// Adds a range, in any order.
    pub fn push_range(&mut self, first: Sequence, last: Sequence) {
        self.0.push((first, last));
    }

    /// Adds others, in any order.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts ranges in order that were added in another; they must be apart all the same.
    pub fn sort(&mut self) {
        self.0.sort_unstable();
    }

    /// Takes out what lies at or behind a sequence. The ranges must be in order.
    pub fn split_off(&mut self, first: Sequence) -> Self {
        let from = self.0.partition_point(|(_, last)| *last < first);
        let mut behind = self.0.split_off(from);
        if let Some((start, _)) = behind.first_mut()
            && *start < first
        {
            self.0.push((*start, first.previous()));
            *start = first;
        }
        Self(behind)
    }

    /// Whether a sequence is in one of them. The ranges must be in order.
    pub fn contains(&self, sequence: Sequence) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < sequence);
        self.0.get(at).is_some_and(|(first, _)| *first <= sequence)
    }

    /// The ranges.
    pub fn into_vec(self) -> Vec<(Sequence, Sequence)> {
        self.0
    }
}

/// The bytes of a message as upstream's stores count them (`fileStoreMsgSize`, `memStoreMsgSize`);
/// none above 4 GiB.
pub fn message_size(
    storage: StorageType,
    subject: &[u8],
    header: &[u8],
    payload: &[u8],
) -> Option<u32> {
    let fields = subject.len() as u64 + header.len() as u64 + payload.len() as u64;
    let more = match (storage, header.is_empty()) {
        (StorageType::Memory, _) => 16,
        (_, true) => 30,
        (_, false) => 34,
    };
    u32::try_from(fields + more).ok()
}

/// The number of a sequence's chunk, and its offset in it.
fn place(sequence: u64) -> (u64, usize) {
    (sequence / CHUNK, (sequence % CHUNK) as usize)
}

impl StreamIndex {
    /// An empty one; `key` keeps the hashes of subjects from being foreseen.
    pub fn new(key: u64) -> Self {
        Self {
            sealed: BTreeMap::new(),
            tail: Chunk::Dense(Dense::new(1)),
            tail_number: 0,
            first: 0,
            last: 0,
            messages: 0,
            bytes: 0,
            subjects: Subjects::new(key),
            far_before: BTreeMap::new(),
            far_after: BTreeMap::new(),
        }
    }

    /// The first message; without messages the sequence of the next, or zero on a stream that
    /// never had one.
    pub fn first(&self) -> Sequence {
        Sequence::new(self.first)
    }

    /// The last sequence that the stream ever had.
    pub fn last(&self) -> Sequence {
        Sequence::new(self.last)
    }

    /// How many messages there are.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The bytes of all messages, as upstream's file store counts them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many sequences between the first and the last have no message.
    pub fn deleted(&self) -> u64 {
        let spanned = if self.last > self.first { self.last - self.first + 1 } else { 0 };
        spanned.saturating_sub(self.messages)
    }

    /// How many subjects have a message.
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// What is known of a message.
    pub fn get(&self, sequence: Sequence) -> Option<IndexedMessage> {
        let slot = self.slot(sequence.get())?;
        Some(IndexedMessage { timestamp: slot.timestamp, size: slot.size })
    }

    /// The newest message of the subjects that a filter takes. Asks each subject, unless the filter
    /// is a subject itself.
    pub fn last_of(&self, filter: &[u8]) -> Option<Sequence> {
        self.subjects.matching(filter).map(|(_, subject)| subject.last).max()
    }

    /// How many messages a subject has.
    pub fn messages_of(&self, subject: &[u8]) -> u64 {
        let number = self.subjects.find(subject);
        number.and_then(|number| self.subjects.get(number)).map_or(0, |subject| subject.messages)
    }

    /// The oldest message of this message's subject, if the subject has more than `most`.
    pub fn oldest_beyond(&self, sequence: Sequence, most: u64) -> Option<Sequence> {
        let subject = self.subjects.get(self.slot(sequence.get())?.subject)?;
        (subject.messages > most).then_some(subject.first)
    }

    /// The first message at or behind a sequence.
    pub fn at_or_after(&self, sequence: Sequence) -> Option<Sequence> {
        let (number, offset) = place(sequence.get().max(self.first));
        if let Some(found) = self.chunk(number).and_then(|chunk| chunk.at_or_after(offset)) {
            return Some(Sequence::new(number * CHUNK + found as u64));
        }
        let sealed = self.sealed.range(number.saturating_add(1)..).next();
        let tail = (self.tail_number > number).then_some((&self.tail_number, &self.tail));
        let (number, chunk) = sealed.or(tail)?;
        chunk.at_or_after(0).map(|found| Sequence::new(number * CHUNK + found as u64))
    }

    /// Adds a message behind the last; sequences in between count as deleted. Returns whether it
    /// was added: not if it is not behind the last, or if `size` is zero.
    #[must_use]
    pub fn append(&mut self, sequence: Sequence, subject: &[u8], size: u32, time: i64) -> bool {
        let sequence = sequence.get();
        if sequence <= self.last || size == 0 {
            return false;
        }
        if sequence - 1 > self.last {
            self.skip_to(Sequence::new(sequence - 1));
        }
        self.grow_to(sequence);
        let number = self.subjects.intern(subject);
        let before = self.link_behind(number, sequence);
        let slot = Slot { timestamp: time, subject: number, size, before, after: 0 };
        if let Chunk::Dense(dense) = &mut self.tail {
            dense.push(slot);
        }
        if self.messages == 0 {
            self.first = sequence;
        }
        self.last = sequence;
        self.messages += 1;
        self.bytes += u64::from(size);
        true
    }

    /// Moves the last sequence up without a message; does nothing if it is there already.
    pub fn skip_to(&mut self, last: Sequence) {
        let last = last.get();
        if last <= self.last {
            return;
        }
        let (number, offset) = place(last);
        if self.messages == 0 {
            self.first = last.saturating_add(1);
            self.sealed.clear();
            self.start_tail(last.saturating_add(1));
        } else if number == self.tail_number {
            if let Chunk::Dense(dense) = &mut self.tail {
                // The tail ends behind the last, or begins there when that one ended its chunk.
                dense.push_holes(offset + 1 - dense.end());
            }
        } else {
            self.seal_tail(last.saturating_add(1));
        }
        self.last = last;
    }

    /// Takes a message out, and moves the first up if it was that; whether it was there.
    pub fn remove(&mut self, sequence: Sequence) -> bool {
        let removed = self.take(sequence.get());
        if removed && sequence.get() == self.first {
            self.move_first();
        }
        removed
    }

    /// Takes out every message below a sequence, and moves the first up to it or to the next
    /// message behind it. Beyond the last, the last moves too, as in upstream's `Compact`. Returns
    /// how many were taken out.
    pub fn compact(&mut self, first: Sequence) -> u64 {
        let target = first.get();
        if target > self.last {
            let removed = self.messages;
            self.clear();
            self.skip_to(first.previous());
            return removed;
        }
        let before = self.messages;
        while let Some(sequence) = self.at_or_after(Sequence::new(self.first)) {
            if sequence.get() >= target {
                break;
            }
            self.take(sequence.get());
            self.first = sequence.get() + 1;
        }
        self.move_first();
        before - self.messages
    }

    /// Takes every message out.
    pub fn clear(&mut self) {
        self.sealed.clear();
        self.subjects.clear();
        self.far_before.clear();
        self.far_after.clear();
        self.messages = 0;
        self.bytes = 0;
        self.first = self.last.saturating_add(1);
        self.start_tail(self.first);
    }

    /// The message that has `keep` messages behind it or with it: where to cut so that so many
    /// stay. None if there are no more than that.
    pub fn cut_to_keep(&self, keep: u64) -> Option<Sequence> {
        if keep >= self.messages {
            return None;
        }
        if keep == 0 {
            return Some(self.last().next());
        }
        let mut behind = keep - 1;
        let tail = core::iter::once((&self.tail_number, &self.tail));
        for (number, chunk) in tail.chain(self.sealed.iter().rev()) {
            let live = chunk.live() as u64;
            if behind < live {
                // A chunk has at most 2,048 messages.
                let found = chunk.nth_last(behind as usize)?;
                return Some(Sequence::new(number * CHUNK + found as u64));
            }
            behind -= live;
        }
        None
    }

    /// Takes out the messages of this message's subject that are older than it.
    pub fn remove_older(&mut self, sequence: Sequence, removed: &mut Ranges) {
        while let Some(before) = self.before(sequence.get()) {
            self.take(before);
            removed.push(Sequence::new(before));
        }
        self.move_first();
    }

    /// Takes out the messages whose subject a filter takes: those below `before` unless it is zero,
    /// and all but the newest `keep` of them. Cost grows with what the filter takes.
    pub fn remove_matching(&mut self, filter: &[u8], before: Sequence, keep: u64) -> Ranges {
        let mut sequences = Vec::new();
        for (_, subject) in self.subjects.matching(filter) {
            let mut next = Some(subject.first.get());
            while let Some(sequence) = next {
                if before > Sequence::ZERO && sequence >= before.get() {
                    break;
                }
                sequences.push(sequence);
                next = self.after(sequence);
            }
        }
        sequences.sort_unstable();
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        sequences.truncate(sequences.len().saturating_sub(keep));
        let mut removed = Ranges::default();
        for sequence in sequences {
            self.take(sequence);
            removed.push(Sequence::new(sequence));
        }
        self.move_first();
        removed
    }

    /// Takes out what another replica has deleted, and adds to `removed` what was taken out. Costs
    /// time for the chunks that are there, not for the sequences that were deleted.
    pub fn remove_deleted(
        &mut self,
        deleted: impl IntoIterator<Item = Deleted>,
        removed: &mut Ranges,
    ) {
        let mut take = |index: &mut Self, sequence: u64| {
            if index.take(sequence) {
                removed.push(Sequence::new(sequence));
            }
        };
        for part in deleted {
            match part {
                Deleted::Run(first, last) => {
                    let mut next = first;
                    while let Some(found) = self.at_or_after(next).filter(|found| *found <= last) {
                        take(self, found.get());
                        next = found.next();
                    }
                }
                Deleted::Bits { base, bits } => {
                    let Some(chunk) = self.chunk(place(base.get()).0) else { continue };
                    for (number, (wanted, there)) in bits.iter().zip(chunk.bits()).enumerate() {
                        let mut both = wanted & there;
                        while both != 0 {
                            let bit = number as u64 * 64 + u64::from(both.trailing_zeros());
                            take(self, base.get() + bit);
                            both &= both - 1;
                        }
                    }
                }
            }
        }
        self.move_first();
    }

    /// What is deleted between the first and the last sequence: ascending, and the same for the
    /// same messages whatever their history. Chunks without messages join into runs.
    pub fn deleted_parts(&self) -> impl Iterator<Item = Deleted> + '_ {
        let mut chunks = self
            .sealed
            .iter()
            .chain(core::iter::once((&self.tail_number, &self.tail)))
            .filter(|(_, chunk)| chunk.live() > 0)
            .peekable();
        let end = self.last.saturating_add(1);
        let mut next = if self.deleted() == 0 { end } else { self.first };
        core::iter::from_fn(move || {
            while next < end {
                let (number, offset) = place(next);
                let chunk_end = (number + 1).saturating_mul(CHUNK).min(end);
                let Some((_, chunk)) = chunks.next_if(|(found, _)| **found == number) else {
                    // Nothing is left here: a run up to the next chunk with messages.
                    let until = chunks.peek().map_or(end, |(found, _)| **found * CHUNK);
                    let run = Deleted::Run(Sequence::new(next), Sequence::new(until - 1));
                    next = until;
                    return Some(run);
                };
                let mut bits = ones(offset, (chunk_end - number * CHUNK) as usize);
                for (bits, there) in bits.iter_mut().zip(chunk.bits()) {
                    *bits &= !there;
                }
                next = chunk_end;
                if bits != [0; _] {
                    return Some(Deleted::Bits { base: Sequence::new(number * CHUNK), bits });
                }
            }
            None
        })
    }

    fn chunk(&self, number: u64) -> Option<&Chunk> {
        if number == self.tail_number { Some(&self.tail) } else { self.sealed.get(&number) }
    }

    fn slot(&self, sequence: u64) -> Option<&Slot> {
        let (number, offset) = place(sequence);
        self.chunk(number)?.get(offset)
    }

    fn slot_mut(&mut self, sequence: u64) -> Option<&mut Slot> {
        let (number, offset) = place(sequence);
        if number == self.tail_number {
            self.tail.get_mut(offset)
        } else {
            self.sealed.get_mut(&number)?.get_mut(offset)
        }
    }

    /// Makes the tail ready for the sequence behind the last.
    fn grow_to(&mut self, sequence: u64) {
        if sequence / CHUNK != self.tail_number {
            self.seal_tail(sequence);
        }
    }

    fn seal_tail(&mut self, next: u64) {
        let (number, offset) = place(next);
        let mut tail = core::mem::replace(&mut self.tail, Chunk::Dense(Dense::new(offset)));
        if tail.live() > 0 {
            tail.seal();
            self.sealed.insert(self.tail_number, tail);
        }
        self.tail_number = number;
    }

    fn start_tail(&mut self, next: u64) {
        let (number, offset) = place(next);
        self.tail = Chunk::Dense(Dense::new(offset));
        self.tail_number = number;
    }

    /// Puts a message behind the newest of its subject; the distance to that one.
    fn link_behind(&mut self, number: u32, sequence: u64) -> u32 {
        let Some(subject) = self.subjects.get_mut(number) else { return 0 };
        let newest = Sequence::new(sequence);
        subject.messages += 1;
        if subject.messages == 1 {
            (subject.first, subject.last) = (newest, newest);
            return 0;
        }
        let before = core::mem::replace(&mut subject.last, newest).get();
        self.set_after(before, Some(sequence));
        self.far_or(sequence, sequence - before, true)
    }

    /// A distance as a slot keeps it.
    fn far_or(&mut self, sequence: u64, distance: u64, before: bool) -> u32 {
        let far = if before { &mut self.far_before } else { &mut self.far_after };
        match u32::try_from(distance) {
            Ok(near) if near != FAR => near,
            _ => {
                far.insert(sequence, distance);
                FAR
            }
        }
    }

    fn before(&self, sequence: u64) -> Option<u64> {
        match self.slot(sequence)?.before {
            0 => None,
            FAR => Some(sequence - self.far_before.get(&sequence)?),
            near => Some(sequence - u64::from(near)),
        }
    }

    fn after(&self, sequence: u64) -> Option<u64> {
        match self.slot(sequence)?.after {
            0 => None,
            FAR => Some(sequence + self.far_after.get(&sequence)?),
            near => Some(sequence + u64::from(near)),
        }
    }

    fn set_before(&mut self, sequence: u64, before: Option<u64>) {
        self.far_before.remove(&sequence);
        let kept = before.map_or(0, |before| self.far_or(sequence, sequence - before, true));
        if let Some(slot) = self.slot_mut(sequence) {
            slot.before = kept;
        }
    }

    fn set_after(&mut self, sequence: u64, after: Option<u64>) {
        self.far_after.remove(&sequence);
        let kept = after.map_or(0, |after| self.far_or(sequence, after - sequence, false));
        if let Some(slot) = self.slot_mut(sequence) {
            slot.after = kept;
        }
    }

    /// Takes a message out of its chunk and out of its subject; the first stays as it is.
    fn take(&mut self, sequence: u64) -> bool {
        let Some(subject) = self.slot(sequence).map(|slot| slot.subject) else { return false };
        self.unlink(sequence, subject);
        let (number, offset) = place(sequence);
        let removed = if number == self.tail_number {
            let Chunk::Dense(tail) = &mut self.tail else { return false };
            // The tail grows, so it stays dense.
            tail.remove(offset)
        } else {
            let Some(chunk) = self.sealed.get_mut(&number) else { return false };
            let removed = chunk.remove(offset);
            if chunk.live() == 0 {
                self.sealed.remove(&number);
            }
            removed
        };
        self.messages -= 1;
        self.bytes -= removed.map_or(0, |slot| u64::from(slot.size));
        true
    }

    fn unlink(&mut self, sequence: u64, number: u32) {
        let (before, after) = (self.before(sequence), self.after(sequence));
        if let Some(before) = before {
            self.set_after(before, after);
        }
        if let Some(after) = after {
            self.set_before(after, before);
        }
        self.far_before.remove(&sequence);
        self.far_after.remove(&sequence);
        let Some(subject) = self.subjects.get_mut(number) else { return };
        subject.messages -= 1;
        if before.is_none() {
            subject.first = Sequence::new(after.unwrap_or(0));
        }
        if after.is_none() {
            subject.last = Sequence::new(before.unwrap_or(0));
        }
        if subject.messages == 0 {
            self.subjects.forget(number);
        }
    }

    /// Moves the first to the first message there is.
    fn move_first(&mut self) {
        match self.at_or_after(Sequence::ZERO) {
            Some(first) => self.first = first.get(),
            // A stream that never had a message keeps its zero.
            None if self.last == 0 => {}
            None => {
                self.first = self.last.saturating_add(1);
                self.start_tail(self.first);
            }
        }
    }
}

#[cfg(test)]
mod tests;
