//! One replica of a stream on a disk that is ready at once, for tests and benchmarks of many messages.
//!
//! What its disk has is made anew when it is read, so that time and memory are those of the core.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use jetwake::budget::Budget;
use jetwake::command::{Command, Destination, Place, StoreChange};
use jetwake::context::Context;
use jetwake::event::StoredMessage;
use jetwake::ids::{GroupId, GroupName, Index, PeerId, Sequence, Term};
use jetwake::limits::{Limits, Timers};
use jetwake::outbox::Outbox;
use jetwake::random::Random;
use jetwake::stream::{Notice, Stream};
use jetwake::subject::{Kind, Subject};
use jetwake::time::Time;
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, EntryKind, MessageDelete, StreamConfig, StreamMessageView,
};

/// Messages of one record.
pub(crate) const RECORD: u64 = 1024;
/// Where the sequence of a stored message is, the one thing in which it differs from its kin.
const SEQUENCE: std::ops::Range<usize> = 1..9;

/// A record of the log, as the group hands it to the stream.
pub(crate) type Record = (Index, AppendEntry, Bytes);
/// A message on its way.
pub(crate) type Sent = (Subject, Option<Subject>, Bytes);

/// Whether a message is deleted, by its sequence.
pub(crate) type Deleted = fn(u64) -> bool;

/// Nine of ten are deleted, 9,000 in a row.
pub(crate) const fn in_runs(sequence: u64) -> bool {
    !(sequence / 1000).is_multiple_of(10)
}

/// Every second is deleted.
pub(crate) const fn alternating(sequence: u64) -> bool {
    sequence.is_multiple_of(2)
}

/// Nine of ten are deleted, 9 in a row.
pub(crate) const fn scattered(sequence: u64) -> bool {
    !sequence.is_multiple_of(10)
}

/// All that a stream was ever given, and which of it is deleted.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// One for each subject, in turn.
    records: Arc<[Bytes]>,
    deleted: Deleted,
}

impl History {
    /// Messages of so many bytes over so many subjects.
    pub(crate) fn new(bytes: usize, subjects: u64, deleted: Deleted) -> Self {
        let payload = vec![b'x'; bytes];
        let record = |number| {
            let subject = format!("s.{number}");
            let message = StreamMessageView {
                subject: subject.as_bytes(),
                payload: &payload,
                timestamp: 1,
                ..StreamMessageView::default()
            };
            message.to_bytes().expect("short")
        };
        Self { records: (0..subjects).map(record).collect(), deleted }
    }

    /// Record `index` of the log, with messages.
    pub(crate) fn messages(&self, index: u64) -> Record {
        record(index, |builder| {
            for proposed in (index - 1) * RECORD..index * RECORD {
                let mut message = self.stored(proposed + 1).to_vec();
                message[SEQUENCE].copy_from_slice(&proposed.to_le_bytes());
                assert!(builder.push(EntryKind::Normal, &message));
            }
        })
    }

    fn stored(&self, sequence: u64) -> &Bytes {
        &self.records[((sequence - 1) % self.records.len() as u64) as usize]
    }

    /// How many of the first so many messages are deleted.
    pub(crate) fn count_deleted(&self, count: u64) -> u64 {
        (1..=count).filter(|sequence| (self.deleted)(*sequence)).count() as u64
    }

    fn read(
        &self,
        first: Sequence,
        last: Sequence,
        most: usize,
        bytes: u64,
    ) -> (Vec<StoredMessage>, Option<Sequence>) {
        let (mut found, mut size) = (Vec::new(), 0);
        for sequence in (first.get()..=last.get()).filter(|sequence| !(self.deleted)(*sequence)) {
            let (record, sequence) = (self.stored(sequence), Sequence::new(sequence));
            if !found.is_empty() && (found.len() == most || size + record.len() as u64 > bytes) {
                return (found, Some(sequence));
            }
            size += record.len() as u64;
            found.push(StoredMessage { sequence, record: record.clone() });
        }
        (found, None)
    }

    /// That a block has the messages of these places.
    fn assert_has(&self, block: &Bytes, places: &[Place]) {
        for Place { sequence, offset, length } in places {
            let (start, length) = (*offset as usize, *length as usize);
            let (stored, expected) = (&block[start..start + length], self.stored(sequence.get()));
            assert_eq!(stored[SEQUENCE.end..], expected[SEQUENCE.end..], "message {sequence}");
        }
    }
}

/// A disk that holds every change against the history.
#[derive(Debug)]
struct Disk {
    history: History,
    last: Sequence,
    messages: u64,
}

impl Disk {
    fn change(&mut self, change: &StoreChange) {
        match change {
            StoreChange::Messages { block, places } => {
                self.history.assert_has(block, places);
                for place in places {
                    assert!(place.sequence > self.last, "{} behind {}", place.sequence, self.last);
                    self.last = place.sequence;
                }
                self.messages += places.len() as u64;
            }
            StoreChange::Remove(ranges) => {
                let count = |(first, last): &(Sequence, Sequence)| last.since(*first) + 1;
                self.messages -= ranges.iter().map(count).sum::<u64>();
            }
            StoreChange::Clear => self.messages = 0,
            StoreChange::Mark | StoreChange::OnlyAdds(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

/// A replica and all around it.
pub(crate) struct Replica {
    pub(crate) me: PeerId,
    pub(crate) stream: Stream,
    pub(crate) now: Time,
    limits: Limits,
    timers: Timers,
    random: Random,
    out: Outbox,
    pub(crate) budget: Budget,
    /// None takes what it is told to store, and has nothing to read.
    disk: Option<Disk>,
    pub(crate) sent: VecDeque<Sent>,
}

impl Replica {
    /// A replica without messages; what it is told to store is held against the history, if there is
    /// one.
    pub(crate) fn new(name: &str, config: StreamConfig, history: Option<History>) -> Self {
        let (limits, timers) = (Limits::default(), Timers::default());
        let (mut random, mut out) = (Random::new(5), Outbox::new());
        let mut budget = Budget::new(limits.stream_catchups_in_flight.get());
        let now = Time::from_nanos(1_000_000_000_000);
        let me = PeerId::from_name(name);
        let group = GroupName::new("S").expect("a name");
        let mut context = Context {
            now,
            limits: &limits,
            timers: &timers,
            random: &mut random,
            out: &mut out,
            budget: &mut budget,
        };
        let mut stream = Stream::new(GroupId(0), &group, me, config, &mut context);
        stream.open(&mut context, None, None, false);
        let disk = history.map(|history| Disk { history, last: Sequence::ZERO, messages: 0 });
        let sent = VecDeque::new();
        let mut replica = Self { me, stream, now, limits, timers, random, out, budget, disk, sent };
        replica.perform();
        replica
    }

    pub(crate) fn with<T>(&mut self, step: impl FnOnce(&mut Stream, &mut Context<'_>) -> T) -> T {
        let mut context = Context {
            now: self.now,
            limits: &self.limits,
            timers: &self.timers,
            random: &mut self.random,
            out: &mut self.out,
            budget: &mut self.budget,
        };
        step(&mut self.stream, &mut context)
    }

    /// Does what the stream asks for.
    pub(crate) fn perform(&mut self) {
        while let Some(command) = self.out.pop() {
            match command {
                Command::Store { id, change, .. } => {
                    if let Some(disk) = &mut self.disk {
                        disk.change(&change);
                    }
                    self.stream.handle_stored(id);
                }
                Command::SyncStore { through, .. } => {
                    self.with(|stream, cx| stream.handle_synced(cx, through));
                }
                Command::Read { id, first, last, messages, bytes, .. } => {
                    let disk = self.disk.as_ref().expect("who is asked has a disk");
                    let (found, next) = disk.history.read(first, last, messages, bytes.get());
                    self.with(|stream, cx| stream.handle_read(cx, id, &found, next));
                }
                Command::Send { to: Destination::Peers(_), subject, reply, payload } => {
                    self.sent.push_back((subject, reply, payload));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn apply(&mut self, (index, entry, record): &Record) {
        self.with(|stream, cx| stream.apply(cx, *index, entry, record));
        self.perform();
    }

    /// Applies a log of so many messages, without deletes.
    pub(crate) fn fill(&mut self, history: &History, count: u64) {
        for index in 1..=count / RECORD {
            self.apply(&history.messages(index));
        }
    }

    /// Applies deletes of all that is deleted, one by one.
    pub(crate) fn delete(&mut self, history: &History, count: u64) {
        let mut gone = (1..=count).filter(|sequence| (history.deleted)(*sequence)).peekable();
        while gone.peek().is_some() {
            let index = self.stream.applied().next().get();
            self.apply(&deletes(index, gone.by_ref().take(RECORD as usize)));
        }
    }

    /// A snapshot of what is applied.
    pub(crate) fn snapshot(&mut self) -> (Index, Bytes) {
        assert!(self.with(|stream, cx| stream.snapshot(cx)));
        self.perform();
        let mut notices = core::iter::from_fn(|| self.stream.poll());
        let found = notices.find_map(|notice| match notice {
            Notice::Snapshot { index, data, .. } => Some((index, data)),
            _ => None,
        });
        found.expect("its store is on disk at once")
    }

    /// How many messages its disk has.
    pub(crate) fn stored(&self) -> Option<u64> {
        self.disk.as_ref().map(|disk| disk.messages)
    }

    fn receive(&mut self, from: PeerId, (subject, reply, payload): Sent) {
        let kind = Kind::parse(&subject).expect("a subject of ours");
        self.with(|stream, cx| match kind {
            Kind::Sync(_) => {
                let log = stream.applied();
                stream.handle_sync_request(cx, Some(from), reply, &payload, log);
            }
            Kind::SyncReply(_) => {
                stream.handle_catchup_message(cx, Some(from), &subject, reply, &payload);
            }
            Kind::SyncAck { token, bytes: Some(bytes) } => {
                stream.handle_catchup_ack(cx, token, bytes, &payload);
            }
            other => panic!("unexpected {other:?}"),
        });
        self.perform();
    }
}

/// A follower takes a snapshot on, and gets from the server what it lacks.
pub(crate) fn catch_up(
    server: &mut Replica,
    follower: &mut Replica,
    (index, state): &(Index, Bytes),
) {
    let (one, two) = (server.me, follower.me);
    follower.with(|stream, cx| {
        stream.set_leader(cx, Some(one));
        stream.install(cx, *index, Term::new(1), state).expect("a good snapshot");
    });
    follower.perform();
    while follower.stream.is_catching_up() {
        if let Some(sent) = server.sent.pop_front() {
            follower.receive(one, sent);
        } else if let Some(sent) = follower.sent.pop_front() {
            server.receive(two, sent);
        } else {
            let (deadline, _) = follower.stream.deadline().expect("waits");
            follower.now = deadline;
            follower.with(|stream, cx| stream.handle_deadline(cx));
            follower.perform();
        }
    }
    // The last acks are on their way.
    while let Some(sent) = follower.sent.pop_front() {
        server.receive(two, sent);
    }
}

/// A stream that takes all subjects of a history.
pub(crate) fn config() -> StreamConfig {
    StreamConfig::new("S", ["s.>".to_string()])
}

/// A record with what is put into it.
pub(crate) fn record(index: u64, fill: impl FnOnce(&mut AppendEntryBuilder)) -> Record {
    let mut builder = AppendEntryBuilder::new();
    fill(&mut builder);
    let (index, term) = (Index::new(index), Term::new(1));
    let before = index.previous();
    let bytes = builder.finish(PeerId::from_name("n1"), term, before, term, before, term);
    let entry = AppendEntry::decode(&bytes).expect("just encoded");
    (index, entry, bytes)
}

/// A record that deletes messages.
pub(crate) fn deletes(index: u64, sequences: impl Iterator<Item = u64>) -> Record {
    record(index, |builder| {
        for sequence in sequences.map(Sequence::new) {
            let delete = MessageDelete { sequence, no_erase: true, ..MessageDelete::default() };
            assert!(builder.push(EntryKind::Normal, &delete.to_bytes()));
        }
    })
}
