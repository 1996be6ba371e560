//! A snapshot file in the making: its data is gathered while it is small, and goes to the disk in
//! parts, with a running hash, once it is not.

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Position;
use crate::command::LogChange;
use crate::ids::{GroupId, GroupName, WriteId};
use crate::outbox::Outbox;
use crate::wire::{SnapshotHash, SnapshotHead, SnapshotSeal};

/// A snapshot file that the disk has, and the core has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filed {
    /// How many bytes it has.
    pub(super) length: u64,
    /// What it ends with.
    pub(super) seal: SnapshotSeal,
}

/// A file that is being made.
#[derive(Debug)]
pub(super) struct Filing {
    head: SnapshotHead,
    hash: SnapshotHash,
    /// What is to be the next part; all of the data while nothing was handed to the disk.
    buffer: BytesMut,
    /// Bytes of data that were taken.
    data: u64,
    /// Bytes of the file that were handed to the disk.
    handed: u64,
    /// Parts that are not on disk, and the bytes of data up to the end of each.
    writing: VecDeque<(WriteId, u64)>,
    /// Bytes of data on disk.
    durable: u64,
}

impl Filing {
    pub(super) fn new(group: &GroupName, position: Position, peer_state: Bytes) -> Self {
        let (last_term, last_index) = (position.term, position.index);
        Self {
            head: SnapshotHead { last_term, last_index, peer_state },
            hash: SnapshotHash::new(group),
            buffer: BytesMut::new(),
            data: 0,
            handed: 0,
            writing: VecDeque::new(),
            durable: 0,
        }
    }

    /// Bytes of data so far.
    pub(super) const fn data(&self) -> u64 {
        self.data
    }

    /// Bytes that were handed to the disk and are not on it.
    pub(super) fn in_flight(&self) -> u64 {
        self.writing.back().map_or(0, |(_, data)| data - self.durable)
    }

    /// Whether any of it lies on the disk.
    pub(super) const fn on_disk(&self) -> bool {
        self.handed > 0
    }

    /// Takes the next bytes of the data. What is more than `part` bytes in all goes to the disk, in
    /// parts of so many.
    pub(super) fn take(&mut self, group: GroupId, bytes: &Bytes, part: usize, out: &mut Outbox) {
        self.data += bytes.len() as u64;
        let small = self.buffer.len() + bytes.len() <= part;
        if small && !self.on_disk() {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        if !self.on_disk() {
            let head = self.head.to_bytes();
            self.write(group, head, 0, out);
        }
        let mut left = bytes.clone();
        while self.buffer.len() + left.len() >= part {
            let next = match self.buffer.is_empty() {
                true => left.split_to(part),
                false => {
                    let room = part.saturating_sub(self.buffer.len());
                    self.buffer.extend_from_slice(&left.split_to(room));
                    self.buffer.split_to(part).freeze()
                }
            };
            let covered = self.data - (self.buffer.len() + left.len()) as u64;
            self.write(group, next, covered, out);
        }
        self.buffer.extend_from_slice(&left);
    }

    /// Hands bytes of the file to the disk; with them, so many bytes of the data are there.
    fn write(&mut self, group: GroupId, part: Bytes, data: u64, out: &mut Outbox) {
        self.hash.append(&part);
        let (offset, bytes) = (self.handed, part.len() as u64);
        let id = out.write(group, LogChange::SnapshotPart { offset, part });
        self.handed += bytes;
        self.writing.push_back((id, data));
    }

    /// Writes up to this one are on disk; how many bytes of data that makes, if it makes more.
    pub(super) fn written(&mut self, through: WriteId) -> Option<u64> {
        let before = self.durable;
        while let Some((id, data)) = self.writing.front().copied()
            && id <= through
        {
            self.writing.pop_front();
            self.durable = data;
        }
        (self.durable > before).then_some(self.durable)
    }

    /// All data was taken: what is left goes to the disk with the hash, if anything is there.
    pub(super) fn finish(mut self, group: GroupId, out: &mut Outbox) -> Made {
        let rest = core::mem::take(&mut self.buffer).freeze();
        let Self { head: SnapshotHead { last_term, last_index, .. }, data, .. } = self;
        let position = Position { index: last_index, term: last_term };
        if !self.on_disk() {
            return Made::Held { position, peer_state: self.head.peer_state, data: rest };
        }
        if !rest.is_empty() {
            self.write(group, rest, data, out);
        }
        let Self { head: SnapshotHead { peer_state, .. }, hash, handed: offset, .. } = self;
        let seal = hash.seal();
        let part = Bytes::copy_from_slice(&seal);
        let length = offset + part.len() as u64;
        let last = out.write(group, LogChange::SnapshotPart { offset, part });
        Made::Filed { position, peer_state, filed: Filed { length, seal }, last }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Made {
    /// It is small.
    Held { position: Position, peer_state: Bytes, data: Bytes },
    /// It lies on the disk when this last write does.
    Filed { position: Position, peer_state: Bytes, filed: Filed, last: WriteId },
}
