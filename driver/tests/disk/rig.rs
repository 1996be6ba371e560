//! A disk in a folder of its own, and the words to speak with it.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::{Command, LogChange, Mend, Place, StoreChange};
use jetwake::event::{Event, Opened, StoreMark, StoredMessage};
use jetwake::ids::{ByteCount, GroupId, GroupName, Index, LoadId, Sequence, StoreId, WriteId};
use jetwake_driver::disk::Disk;

pub(crate) const A: GroupId = GroupId(0);
pub(crate) const B: GroupId = GroupId(1);

/// An open disk with the groups `A` and `B`.
pub(crate) struct Rig {
    pub(crate) disk: Disk,
    pub(crate) opened: Vec<Opened>,
    events: Receiver<Event>,
    number: u64,
}

pub(crate) fn names() -> Vec<GroupName> {
    ["S-R3F-aaaaaaaa", "odd/name"].map(|name| GroupName::new(name).unwrap()).to_vec()
}

impl Rig {
    pub(crate) fn open(folder: &Path) -> Self {
        Self::with(folder, &names())
    }

    pub(crate) fn with(folder: &Path, groups: &[GroupName]) -> Self {
        let (sender, events) = channel();
        let (disk, opened) = Disk::open(folder, groups, move |event| {
            let _ = sender.send(event);
        })
        .unwrap();
        Self { disk, opened, events, number: 0 }
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(crate) fn event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(30)).expect("the disk says something")
    }

    pub(crate) fn ask(&self, command: Command) {
        assert_eq!(self.disk.perform(command), None);
    }

    pub(crate) fn ask_write(&mut self, group: GroupId, change: LogChange) -> WriteId {
        let id = WriteId::new(self.id());
        self.ask(Command::Write { id, group, change });
        id
    }

    /// Writes, and waits until it is on disk.
    pub(crate) fn write(&mut self, group: GroupId, change: LogChange) {
        let id = self.ask_write(group, change);
        self.await_written(id);
    }

    pub(crate) fn await_written(&self, id: WriteId) {
        loop {
            match self.event() {
                Event::Written { through } if through >= id => return,
                Event::Written { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn append(&mut self, group: GroupId, index: u64, record: &[u8]) -> WriteId {
        let record = Bytes::copy_from_slice(record);
        self.ask_write(group, LogChange::Append { index: Index::new(index), record })
    }

    /// Appends records `first..=last` that name themselves, and waits for the last.
    pub(crate) fn fill(&mut self, group: GroupId, first: u64, last: u64) {
        let ids: Vec<_> =
            (first..=last).map(|index| self.append(group, index, &record(group, index))).collect();
        if let Some(id) = ids.last() {
            self.await_written(*id);
        }
    }

    pub(crate) fn load(&mut self, group: GroupId, first: u64, last: u64, bytes: u64) -> Event {
        let id = LoadId::new(self.id());
        let (first, last, bytes) = (Index::new(first), Index::new(last), ByteCount::new(bytes));
        self.ask(Command::Load { id, group, first, last, bytes });
        self.event()
    }

    /// Loads records and checks that they are those that `fill` wrote.
    pub(crate) fn check(&mut self, group: GroupId, first: u64, last: u64) {
        match self.load(group, first, last, u64::MAX) {
            Event::Loaded { records, .. } => {
                let expected: Vec<_> = (first..=last).map(|index| record(group, index)).collect();
                assert_eq!(records, expected);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask_store(
        &mut self,
        group: GroupId,
        change: StoreChange,
        mark: StoreMark,
    ) -> StoreId {
        let id = StoreId::new(self.id());
        self.ask(Command::Store { id, group, change, mark });
        id
    }

    /// Changes a store, and waits until it took it.
    pub(crate) fn store(
        &mut self,
        group: GroupId,
        change: StoreChange,
        mark: StoreMark,
    ) -> StoreId {
        let id = self.ask_store(group, change, mark);
        loop {
            match self.event() {
                Event::Stored { through } if through >= id => return id,
                Event::Stored { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Adds messages that name themselves, as one block.
    pub(crate) fn add(&mut self, group: GroupId, sequences: &[u64], size: usize) {
        let (block, places) = block(sequences, size);
        self.store(
            group,
            StoreChange::Messages { block, places },
            mark(*sequences.last().unwrap()),
        );
    }

    /// Puts messages in the place of lost ones.
    pub(crate) fn mend(
        &mut self,
        group: GroupId,
        (first, last): (Sequence, Sequence),
        sequences: &[u64],
        size: usize,
    ) {
        let (block, places) = block(sequences, size);
        let change = StoreChange::Mend(Box::new(Mend { first, last, block, places }));
        self.store(group, change, mark(*sequences.last().unwrap()));
    }

    pub(crate) fn remove(&mut self, group: GroupId, ranges: &[(u64, u64)]) {
        let pair = |(from, to): &(u64, u64)| (Sequence::new(*from), Sequence::new(*to));
        let ranges = ranges.iter().map(pair).collect();
        self.store(group, StoreChange::Remove(ranges), mark(1));
    }

    pub(crate) fn ask_read(
        &mut self,
        group: GroupId,
        first: u64,
        last: u64,
        messages: usize,
        bytes: u64,
    ) -> Event {
        let id = LoadId::new(self.id());
        let (first, last) = (Sequence::new(first), Sequence::new(last));
        let bytes = ByteCount::new(bytes);
        self.ask(Command::Read { id, group, first, last, messages, bytes });
        self.event()
    }

    pub(crate) fn read(
        &mut self,
        group: GroupId,
        first: u64,
        last: u64,
        messages: usize,
        bytes: u64,
    ) -> (Vec<StoredMessage>, Option<u64>) {
        match self.ask_read(group, first, last, messages, bytes) {
            Event::Read { messages, next, .. } => (messages, next.map(Sequence::get)),
            other => panic!("{other:?}"),
        }
    }

    /// The sequences of all messages, each of which is what `add` wrote.
    pub(crate) fn sequences(&mut self, group: GroupId, size: usize) -> Vec<u64> {
        let (messages, next) = self.read(group, 0, u64::MAX, usize::MAX, u64::MAX);
        assert_eq!(next, None);
        let check = |message: &StoredMessage| {
            assert_eq!(message.record, self::message(message.sequence.get(), size));
            message.sequence.get()
        };
        messages.iter().map(check).collect()
    }
}

pub(crate) fn record(group: GroupId, index: u64) -> Vec<u8> {
    format!("record {index} of {group} ").repeat(20).into_bytes()
}

pub(crate) fn message(sequence: u64, size: usize) -> Vec<u8> {
    let word = format!("message {sequence} ");
    let mut message = word.repeat(size / word.len() + 1).into_bytes();
    message.truncate(size);
    message
}

pub(crate) fn block(sequences: &[u64], size: usize) -> (Bytes, Vec<Place>) {
    let mut block = b"what stands before the first message".to_vec();
    let mut places = Vec::new();
    for sequence in sequences {
        let offset = block.len() as u32;
        block.extend(message(*sequence, size));
        let length = block.len() as u32 - offset;
        places.push(Place { sequence: Sequence::new(*sequence), offset, length });
        block.extend(b"--");
    }
    (block.into(), places)
}

pub(crate) fn mark(last: u64) -> StoreMark {
    StoreMark {
        applied: Index::new(last * 10),
        last: Sequence::new(last),
        failed: 3,
        entries: 4,
        ..StoreMark::default()
    }
}
