//! Replicas of one stream with a store each, one log for all, and a network that is carried by hand.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use jetwake::budget::Budget;
use jetwake::command::{Answer, Command, Destination, Place, Report, StoreChange};
use jetwake::context::Context;
use jetwake::event::{Damage, LostMessages, StoreMark, StoredMessage};
use jetwake::ids::{GroupId, GroupName, Index, LoadId, PeerId, RequestId, Sequence, StoreId, Term};
use jetwake::limits::{Limits, Timers};
use jetwake::outbox::Outbox;
use jetwake::random::Random;
use jetwake::stream::{Notice, Proposal, Stream};
use jetwake::subject::{Kind, Subject};
use jetwake::time::{Duration, Time};
use jetwake::wire::{ApiError, AppendEntry, AppendEntryBuilder, EntryKind, StreamConfig};

pub(crate) const GROUP: GroupId = GroupId(7);

/// What a store in memory holds, written in one piece with its mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) messages: BTreeMap<u64, Bytes>,
    pub(crate) mark: Option<StoreMark>,
    pub(crate) only_adds: Option<Bytes>,
    /// The first and last of the messages that cannot be read.
    pub(crate) lost: Option<(u64, u64)>,
}

impl Store {
    fn change(&mut self, change: StoreChange, mark: StoreMark) {
        match change {
            StoreChange::Messages { block, places } => self.add(&block, &places),
            StoreChange::Remove(ranges) => self.remove(&ranges),
            StoreChange::Exchange(exchange) => {
                let gone = exchange.removed.last().expect("something to remove").1;
                let first = exchange.places.first().expect("something to add").sequence;
                assert!(gone < first, "{gone} is removed, {first} added");
                self.remove(&exchange.removed);
                self.add(&exchange.block, &exchange.places);
            }
            StoreChange::Mend(mend) => {
                self.messages.retain(|at, _| !(mend.first.get()..=mend.last.get()).contains(at));
                self.lost = None;
                let later = self.messages.split_off(&mend.first.get());
                self.add(&mend.block, &mend.places);
                self.messages.extend(later);
            }
            StoreChange::Clear => self.messages.clear(),
            StoreChange::Mark => {}
            StoreChange::OnlyAdds(until) => self.only_adds = Some(until),
            other => panic!("unknown change {other:?}"),
        }
        self.only_adds.take_if(|_| !mark.only_added);
        self.mark = Some(mark);
    }

    fn add(&mut self, block: &Bytes, places: &[Place]) {
        for place in places {
            let start = place.offset as usize;
            let record = block.slice(start..start + place.length as usize);
            let sequence = place.sequence.get();
            let last = self.messages.last_key_value().map_or(0, |(last, _)| *last);
            assert!(sequence > last, "message {sequence} is stored behind {last}");
            self.messages.insert(sequence, record);
        }
    }

    fn remove(&mut self, ranges: &[(Sequence, Sequence)]) {
        let mut end = None;
        for (first, last) in ranges {
            assert!(first <= last && end.is_none_or(|end| first > end), "{first}..={last}");
            self.messages.retain(|at, _| !(first.get()..=last.get()).contains(at));
            end = Some(last);
        }
    }

    /// What a read from `first` on is told, if the message there is lost.
    fn loses(&self, first: Sequence, last: Sequence) -> Option<LostMessages> {
        let (found, _) = self.messages.range(first.get()..=last.get()).next()?;
        let (first, last) = self.lost.filter(|(first, last)| (first..=last).contains(&found))?;
        Some(LostMessages {
            first: Sequence::new(first),
            last: Sequence::new(last),
            count: None,
            damage: Damage { file: "store".into(), offset: None, what: "bits flipped".into() },
        })
    }

    fn read(
        &self,
        first: Sequence,
        last: Sequence,
        most: usize,
        bytes: u64,
    ) -> (Vec<StoredMessage>, Option<Sequence>) {
        let (mut found, mut size) = (Vec::new(), 0);
        for (sequence, record) in self.messages.range(first.get()..=last.get()) {
            let lost = self.lost.is_some_and(|(first, last)| (first..=last).contains(sequence));
            let full = found.len() == most || size + record.len() as u64 > bytes;
            if !found.is_empty() && (full || lost) {
                return (found, Some(Sequence::new(*sequence)));
            }
            size += record.len() as u64;
            found
                .push(StoredMessage { sequence: Sequence::new(*sequence), record: record.clone() });
        }
        (found, None)
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) from: PeerId,
    pub(crate) to: PeerId,
    pub(crate) subject: Subject,
    pub(crate) reply: Option<Subject>,
    pub(crate) payload: Bytes,
}

/// One replica and all around it.
pub(crate) struct Replica {
    pub(crate) me: PeerId,
    pub(crate) config: StreamConfig,
    pub(crate) stream: Stream,
    pub(crate) now: Time,
    pub(crate) limits: Limits,
    pub(crate) timers: Timers,
    pub(crate) random: Random,
    pub(crate) out: Outbox,
    pub(crate) budget: Budget,
    pub(crate) store: Store,
    /// Syncs are not answered while this is set.
    pub(crate) hold_syncs: bool,
    pub(crate) held_syncs: Vec<StoreId>,
    pub(crate) answers: BTreeMap<RequestId, String>,
    pub(crate) sent: VecDeque<Sent>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) reports: Vec<String>,
    pub(crate) traces: Vec<(u64, Option<u64>)>,
    /// Store changes that will still be performed; the power is cut behind them.
    pub(crate) changes_left: usize,
}

pub(crate) fn config() -> StreamConfig {
    StreamConfig::new("S", ["s.>".to_string()])
}

impl Replica {
    pub(crate) fn new(name: &str, store: Store) -> Self {
        Self::with(name, store, config(), Limits::default())
    }

    pub(crate) fn with(name: &str, store: Store, config: StreamConfig, limits: Limits) -> Self {
        Self::at(name, store, config, limits, Time::from_nanos(1_000_000_000_000))
    }

    fn at(name: &str, store: Store, config: StreamConfig, limits: Limits, now: Time) -> Self {
        let (timers, mut random) = (Timers::default(), Random::new(5));
        let (mut out, mut budget) = (Outbox::new(), Budget::new(64 << 20));
        let me = PeerId::from_name(name);
        let group = GroupName::new("S-R3F-abcdefgh").expect("valid");
        let mut context = Context {
            now,
            limits: &limits,
            timers: &timers,
            random: &mut random,
            out: &mut out,
            budget: &mut budget,
        };
        let stream = Stream::new(GROUP, &group, me, config.clone(), &mut context);
        let mut replica = Self {
            me,
            config,
            stream,
            now,
            limits,
            timers,
            random,
            out,
            budget,
            store,
            hold_syncs: false,
            held_syncs: Vec::new(),
            answers: BTreeMap::new(),
            sent: VecDeque::new(),
            notices: Vec::new(),
            reports: Vec::new(),
            traces: Vec::new(),
            changes_left: usize::MAX,
        };
        let (mark, only_adds) = (replica.store.mark, replica.store.only_adds.clone());
        if replica.store.lost.is_some() {
            // These are what it may ask.
            let others = ["n1", "n2", "n3"].map(PeerId::from_name).into_iter();
            let others = others.filter(|peer| *peer != replica.me).collect();
            replica.with_stream(|stream, cx| {
                stream.set_others(&others);
                stream.open(cx, mark, only_adds.as_ref(), false);
            });
            return replica;
        }
        replica.with_stream(|stream, cx| stream.open(cx, mark, only_adds.as_ref(), false));
        assert_eq!(replica.notices, [Notice::Ready], "{:?}", replica.stream.stopped());
        replica.notices.clear();
        replica
    }

    /// Hands something to the stream and performs what it asks for.
    pub(crate) fn with_stream<T>(
        &mut self,
        step: impl FnOnce(&mut Stream, &mut Context<'_>) -> T,
    ) -> T {
        let result = self.step(step);
        while let Some(command) = self.out.pop() {
            self.perform(command);
        }
        while let Some(notice) = self.stream.poll() {
            self.notices.push(notice);
        }
        result
    }

    pub(crate) fn step<T>(&mut self, step: impl FnOnce(&mut Stream, &mut Context<'_>) -> T) -> T {
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

    fn perform(&mut self, command: Command) {
        match command {
            Command::Store { id, change, mark, .. } => {
                if self.changes_left > 0 {
                    self.changes_left -= 1;
                    self.store.change(change, mark);
                }
                self.stream.handle_stored(id);
            }
            Command::SyncStore { through, .. } if self.hold_syncs => self.held_syncs.push(through),
            Command::SyncStore { through, .. } => {
                self.step(|stream, cx| stream.handle_synced(cx, through));
            }
            Command::Read { id, first, last, .. } if self.store.loses(first, last).is_some() => {
                let lost = self.store.loses(first, last).expect("as it was a moment ago");
                self.step(|stream, cx| stream.handle_messages_lost(cx, id, lost));
            }
            Command::Read { id, first, last, messages, bytes, .. } => {
                let (found, next) = self.store.read(first, last, messages, bytes.get());
                self.read(id, &found, next);
            }
            Command::Answer { id, answer } => {
                let text = match answer {
                    Answer::Json(json) => String::from_utf8(json.to_vec()).expect("JSON is text"),
                    other => format!("{other:?}"),
                };
                assert!(self.answers.insert(id, text).is_none(), "{id} is answered once");
            }
            Command::Send { to: Destination::Peers(peers), subject, reply, payload } => {
                for to in peers.iter() {
                    self.sent.push_back(Sent {
                        from: self.me,
                        to: *to,
                        subject: subject.clone(),
                        reply: reply.clone(),
                        payload: payload.clone(),
                    });
                }
            }
            Command::Report { report: Report::Catchup(what), .. } => self.reports.push(what),
            Command::Report { report: Report::Refused { why, .. }, .. } => self.reports.push(why),
            Command::Report { report: Report::Traced { request, sequence }, .. } => {
                self.traces.push((request.get(), sequence.map(Sequence::get)));
            }
            Command::Report { .. } | Command::Subscribe(_) | Command::Unsubscribe(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }

    fn read(&mut self, id: LoadId, found: &[StoredMessage], next: Option<Sequence>) {
        self.step(|stream, cx| stream.handle_read(cx, id, found, next));
    }

    /// Answers the syncs that were held.
    pub(crate) fn release_syncs(&mut self) {
        for through in std::mem::take(&mut self.held_syncs) {
            self.with_stream(|stream, cx| stream.handle_synced(cx, through));
        }
    }

    /// A message arrives.
    pub(crate) fn receive(&mut self, sent: &Sent) {
        let Sent { from, subject, reply, payload, .. } = sent.clone();
        self.with_stream(|stream, cx| match Kind::parse(&subject).expect("a subject of ours") {
            Kind::Sync(_) => {
                let log = stream.applied();
                stream.handle_sync_request(cx, Some(from), reply, &payload, log);
            }
            Kind::SyncReply(_) => {
                stream.handle_catchup_message(cx, Some(from), &subject, reply, &payload);
            }
            Kind::SyncAck { token, bytes } => {
                stream.handle_catchup_ack(cx, token, bytes.expect("bytes"), &payload);
            }
            other => panic!("unexpected {other:?}"),
        });
    }

    /// Lets time pass up to the next deadline, and tells the stream.
    pub(crate) fn wait(&mut self) -> Duration {
        let (deadline, _) = self.stream.deadline().expect("something is due");
        let waited = deadline.since(self.now);
        self.now = self.now.max(deadline);
        self.with_stream(|stream, cx| stream.handle_deadline(cx));
        waited
    }

    pub(crate) fn answer(&self, id: u64) -> &str {
        self.answers.get(&RequestId::new(id)).map_or("", |answer| answer.as_str())
    }

    pub(crate) fn answered(&self, id: u64) -> bool {
        self.answers.contains_key(&RequestId::new(id))
    }

    /// Stops the power and starts again from what the store has.
    pub(crate) fn restart(self) -> Self {
        let name = ["n1", "n2", "n3"].into_iter().find(|name| PeerId::from_name(name) == self.me);
        let (name, now) = (name.expect("one of the three"), self.now);
        Self::at(name, self.store, self.config, self.limits, now)
    }

    /// The numbers of the messages that the store has.
    pub(crate) fn kept(&self) -> Vec<u64> {
        self.store.messages.keys().copied().collect()
    }

    /// Time passes, and the stream is told of every deadline in it.
    pub(crate) fn pass(&mut self, log: &mut Log, time: Duration) {
        let end = self.now + time;
        while let Some((deadline, _)) = self.stream.deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(deadline);
            self.with_stream(|stream, cx| stream.handle_deadline(cx));
            log.propose_own(self);
        }
        self.now = end;
    }
}

/// The log of the group, with what is proposed for its next record.
pub(crate) struct Log {
    pub(crate) records: Vec<(Index, AppendEntry, Bytes)>,
    next: AppendEntryBuilder,
    pub(crate) full: bool,
    /// Records have so many entries at most.
    pub(crate) split_after: Option<usize>,
    last_request: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        let next = AppendEntryBuilder::new();
        Self { records: Vec::new(), next, full: false, split_after: None, last_request: 0 }
    }

    fn propose(&mut self, leader: &mut Replica, proposal: Option<Proposal>) {
        let Some(proposal) = proposal else { return };
        if self.full {
            let error = ApiError::INSUFFICIENT_RESOURCES;
            return leader.with_stream(|stream, cx| stream.not_proposed(cx, &proposal, error));
        }
        for entry in 0..proposal.entries() {
            if self.split_after.is_some_and(|most| self.next.len() >= most) {
                self.commit();
            }
            let length = proposal.encoded_len(entry);
            let encode = |buffer: &mut Vec<u8>| proposal.encode(entry, buffer);
            assert!(self.next.push_with(EntryKind::Normal, length, encode));
        }
        leader.stream.proposed(proposal);
    }

    /// Proposes what the stream wants of its own accord.
    pub(crate) fn propose_own(&mut self, leader: &mut Replica) {
        while let Some(proposal) = leader.with_stream(|stream, cx| stream.next_proposal(cx)) {
            self.propose(leader, Some(proposal));
        }
    }

    pub(crate) fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId::new(self.last_request)
    }

    /// Publishes; the request's number.
    pub(crate) fn publish(&mut self, leader: &mut Replica, subject: &str, payload: &str) -> u64 {
        self.publish_with(leader, subject, "", payload)
    }

    /// Brings a message of another stream; the request's number.
    pub(crate) fn source(
        &mut self,
        leader: &mut Replica,
        subject: &str,
        fields: &str,
        payload: &str,
    ) -> u64 {
        let message = parts(subject, fields, payload);
        let id = self.decide(leader, |stream, cx, id| stream.publish_sourced(cx, id, message));
        self.propose_own(leader);
        id
    }

    pub(crate) fn publish_with(
        &mut self,
        leader: &mut Replica,
        subject: &str,
        fields: &str,
        payload: &str,
    ) -> u64 {
        let message = parts(subject, fields, payload);
        self.decide(leader, |stream, cx, id| stream.publish(cx, id, message))
    }

    /// Has a leader decide on a request, and proposes what comes of it; the request's number.
    fn decide(
        &mut self,
        leader: &mut Replica,
        decide: impl FnOnce(&mut Stream, &mut Context<'_>, RequestId) -> Option<Proposal>,
    ) -> u64 {
        let id = self.next_request();
        let proposal = leader.with_stream(|stream, cx| decide(stream, cx, id));
        self.propose(leader, proposal);
        id.get()
    }

    pub(crate) fn delete(&mut self, leader: &mut Replica, sequence: u64) -> u64 {
        let id = self.next_request();
        let sequence = Sequence::new(sequence);
        let proposal = leader.with_stream(|stream, cx| stream.delete(cx, id, sequence));
        self.propose(leader, proposal);
        id.get()
    }

    pub(crate) fn purge(
        &mut self,
        leader: &mut Replica,
        filter: &str,
        before: u64,
        keep: u64,
    ) -> u64 {
        let id = self.next_request();
        let (filter, before) = (filter.as_bytes(), Sequence::new(before));
        let proposal = leader.with_stream(|stream, cx| stream.purge(cx, id, filter, before, keep));
        self.propose(leader, proposal);
        id.get()
    }

    /// Adds an entry that no stream of ours would propose.
    pub(crate) fn push_raw(&mut self, kind: EntryKind, data: &[u8]) {
        assert!(self.next.push(kind, data));
    }

    /// Closes the record that is being gathered, which a quorum then has.
    pub(crate) fn commit(&mut self) {
        let builder = std::mem::take(&mut self.next);
        let index = Index::new(self.records.len() as u64 + 1);
        let (term, before) = (Term::new(3), index.previous());
        let record = builder.finish(PeerId::from_name("n1"), term, before, term, before, term);
        let mut copy = BytesMut::with_capacity(record.len());
        copy.extend_from_slice(&record);
        let record = copy.freeze();
        let entry = AppendEntry::decode(&record).expect("just encoded");
        self.records.push((index, entry, record));
    }

    /// Hands a replica all that it has not applied, as far as it takes it.
    pub(crate) fn feed(&self, replica: &mut Replica) {
        self.feed_through(replica, Index::MAX);
    }

    pub(crate) fn feed_through(&self, replica: &mut Replica, last: Index) {
        for (index, entry, record) in &self.records {
            if *index <= replica.stream.applied() || *index > last {
                continue;
            }
            if replica.step(|stream, cx| stream.paused(cx)) {
                break;
            }
            replica.with_stream(|stream, cx| stream.apply(cx, *index, entry, record));
        }
    }

    pub(crate) fn commit_to(&mut self, replicas: &mut [&mut Replica]) {
        self.commit();
        for replica in replicas {
            self.feed(replica);
        }
    }
}

fn parts(subject: &str, fields: &str, payload: &str) -> (Bytes, Bytes, Bytes) {
    let header = match fields {
        "" => String::new(),
        fields => format!("NATS/1.0\r\n{fields}\r\n\r\n"),
    };
    let [subject, payload] = [subject, payload].map(str::to_string);
    (Bytes::from(subject), Bytes::from(header), Bytes::from(payload))
}

pub(crate) fn leader() -> (Replica, Log) {
    let mut leader = Replica::new("n1", Store::default());
    leader.with_stream(|stream, cx| stream.leadership_gained(cx));
    (leader, Log::new())
}

/// A leader and a follower of a stream.
pub(crate) fn two(config: &StreamConfig) -> (Replica, Replica, Log) {
    let with = |name| Replica::with(name, Store::default(), config.clone(), Limits::default());
    let (mut one, two) = (with("n1"), with("n2"));
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    (one, two, Log::new())
}

/// What a client is told that was refused.
pub(crate) fn error(code: i32, err_code: i32, text: &str) -> String {
    format!(
        r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"{text}"}},"stream":"S","seq":0}}"#
    )
}

/// What a client is told whose message was stored.
pub(crate) fn ack(sequence: u64) -> String {
    format!(r#"{{"stream":"S","seq":{sequence}}}"#)
}

/// That two replicas are the same in every respect that clients can see.
pub(crate) fn assert_same(left: &Replica, right: &Replica) {
    assert_eq!(left.stream.state(), right.stream.state());
    assert_eq!(left.stream.digest(), right.stream.digest());
    let all = |replica: &Replica| {
        let message = |(sequence, record): (&u64, &Bytes)| {
            let message = jetwake::wire::StreamMessage::decode(record, &Limits::default());
            let message = message.expect("a stored message");
            let view = message.view();
            let [subject, header, payload] = [view.subject, view.header, view.payload];
            (*sequence, [subject, header, payload].map(<[u8]>::to_vec), view.timestamp)
        };
        replica.store.messages.iter().map(message).collect::<Vec<_>>()
    };
    assert_eq!(all(left), all(right));
    assert_eq!(left.store.messages.len() as u64, left.stream.state().messages);
    // A log that changed nothing of the store may leave no mark, or an older one.
    let ends = |mark: StoreMark| (mark.first, mark.last, mark.failed);
    let same_place = |(left, right): &(StoreMark, StoreMark)| left.applied == right.applied;
    let marks = left.store.mark.zip(right.store.mark).filter(same_place);
    let marks = marks.map(|(left, right)| (ends(left), ends(right)));
    assert!(marks.is_none_or(|(left, right)| left == right), "{marks:?}");
}
