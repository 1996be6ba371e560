//! One real node, alone with a test that plays everybody else: its peers, its disk, its machine and
//! the clock.
//!
//! The rule: nothing happens that the test did not ask for. Messages go nowhere but into
//! [`Lone::sent`], time stands still between two calls of [`Lone::wait`], and the disk performs
//! its writes at once unless it is told otherwise. What breaks the contract of commands panics.
//!
//! ```
//! use jetwake_sim::lone::{Append, Lone};
//! let mut node = Lone::plain(&["n1", "n2", "n3"]);
//! node.hear(&Append::by("n2", 1).entry("a"));
//! assert_eq!(node.acks(), [(1, 1)]);
//! node.hear(&Append::by("n2", 1).after(1, 1).commit(1));
//! assert_eq!(node.applied_texts(), ["a"]);
//! ```

mod disk;
mod message;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jetwake::command::{Answer, CheckpointNews, Command, Destination, Report, Role};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{CheckpointStep, Event, MachineSays, Request};
use jetwake::ids::{GroupId, GroupName, Index, PeerId, RequestId, Term};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::raft::{Health, Status};
use jetwake::subject::{self, Subject};
use jetwake::time::{Duration, Time};
use jetwake::wire::{AppendEntry, AppendResponse, VoteRequest, VoteResponse};

use crate::network::{Subscriptions, is_literal};
use crate::setup::EPOCH;

pub use disk::LoneDisk;
pub use message::{Append, Message, Sent};

/// The only group of a lone node.
pub const GROUP: GroupId = GroupId(0);

/// How often in a row a node may ask to be woken at once before it is said to spin.
const SPINS: u32 = 1000;

/// One real node, and everything that a test lets happen to it.
#[derive(Debug)]
pub struct Lone {
    config: Config,
    node: Node,
    now: Time,
    /// Its disk, which outlives it.
    pub disk: LoneDisk,
    /// Whether the plain machine waits for [`finish_applies`](Self::finish_applies) before it says
    /// that it has applied what it was handed.
    pub hold_applies: bool,
    held_applies: VecDeque<Event>,
    subscriptions: Subscriptions,
    catchup_inboxes: Vec<Subject>,
    append_replies: Option<Subject>,
    vote_replies: Option<Subject>,
    catchup_progress: Option<Subject>,
    sent: Vec<Sent>,
    applied: Vec<Applied>,
    reports: Vec<Report>,
    news: Vec<CheckpointNews>,
    answers: BTreeMap<RequestId, Answer>,
    requests: u64,
}

/// Something that the plain machine was handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The normal entries of a record.
    Entries {
        /// The record's place.
        index: Index,
        /// Its entries.
        entries: Vec<Bytes>,
    },
    /// A leader's snapshot, or its own after a restart.
    Snapshot {
        /// The last record that it covers.
        index: Index,
        /// The machine's state.
        data: Bytes,
    },
    /// A part of such a snapshot.
    Part {
        /// The last record that it covers.
        index: Index,
        /// Bytes before this part.
        offset: u64,
        /// Some bytes of the machine's state.
        data: Bytes,
        /// Whether nothing follows.
        last: bool,
    },
}

/// What a node of one group is told before it starts; the first of the members is the node itself.
///
/// # Panics
/// If there are no members.
pub fn config(members: &[&str], kind: GroupKind) -> Config {
    let group = GroupConfig {
        name: GroupName::new("LONE").expect("letters are one token"),
        members: members.iter().map(|name| (*name).into()).collect(),
        kind,
    };
    Config {
        name: members[0].into(),
        domain: String::new(),
        seed: 1,
        limits: Limits::default(),
        timers: Timers::default(),
        groups: vec![group],
    }
}

impl Lone {
    /// A node with an empty disk and one plain group of these members, the first of them itself.
    pub fn plain(members: &[&str]) -> Self {
        Self::start(config(members, GroupKind::Plain), LoneDisk::default())
    }

    /// A node that is told this, on this disk.
    ///
    /// # Panics
    /// If the configuration cannot work.
    pub fn start(config: Config, disk: LoneDisk) -> Self {
        let node = Node::new(config.clone()).expect("the configuration works");
        let mut lone = Self {
            config,
            node,
            now: EPOCH,
            disk,
            hold_applies: false,
            held_applies: VecDeque::new(),
            subscriptions: Subscriptions::default(),
            catchup_inboxes: Vec::new(),
            append_replies: None,
            vote_replies: None,
            catchup_progress: None,
            sent: Vec::new(),
            applied: Vec::new(),
            reports: Vec::new(),
            news: Vec::new(),
            answers: BTreeMap::new(),
            requests: 0,
        };
        lone.open();
        lone
    }

    fn open(&mut self) {
        let disk = self.disk.opened();
        self.handle(Event::Opened { group: GROUP, disk });
    }

    /// The power goes and comes back: what was not written is lost, and the machine of a plain
    /// group has forgotten everything. `alter` is done to the disk meanwhile.
    ///
    /// # Panics
    /// If the configuration cannot work, which it did before.
    pub fn restart_after(&mut self, alter: impl FnOnce(&mut LoneDisk)) {
        self.disk.crash();
        alter(&mut self.disk);
        self.config.seed += 1;
        self.node = Node::new(self.config.clone()).expect("the configuration has worked before");
        self.held_applies.clear();
        self.subscriptions = Subscriptions::default();
        self.catchup_inboxes.clear();
        (self.append_replies, self.vote_replies) = (None, None);
        self.applied.clear();
        self.open();
    }

    /// The power goes and comes back.
    pub fn restart(&mut self) {
        self.restart_after(|_| {});
    }

    /// One event, and everything that follows from it at once.
    pub fn handle(&mut self, event: Event) {
        self.node.handle(self.now, event);
        self.run();
    }

    /// What the disk has to tell is told, and what follows from it happens.
    pub fn settle(&mut self) {
        self.run();
    }

    fn run(&mut self) {
        loop {
            while let Some(command) = self.node.poll() {
                self.perform(command);
            }
            let Some(event) = self.disk.next_event() else { return };
            self.node.handle(self.now, event);
        }
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Send { to, subject, reply, payload } => self.send(to, subject, reply, payload),
            Command::Subscribe(subject) => {
                kept(self.subscriptions.add(&subject));
                if subject.as_bytes().starts_with(b"$NRG.CR.") {
                    self.catchup_inboxes.push(subject);
                }
            }
            Command::Unsubscribe(subject) => {
                kept(self.subscriptions.remove(&subject));
                self.catchup_inboxes.retain(|inbox| *inbox != subject);
            }
            Command::Apply { index, entries, .. } => {
                self.applied.push(Applied::Entries { index, entries });
                self.machine_applied(index);
            }
            Command::ApplySnapshot { index, data, .. } => {
                self.applied.push(Applied::Snapshot { index, data });
                self.machine_applied(index);
            }
            Command::ApplySnapshotPart { index, offset, part, last, .. } => {
                let through = offset + part.len() as u64;
                self.applied.push(Applied::Part { index, offset, data: part, last });
                match last {
                    true => self.machine_applied(index),
                    false => self.machine_took_part(index, through),
                }
            }
            Command::Answer { id, answer } => {
                let twice = self.answers.insert(id, answer);
                assert!(twice.is_none(), "request {id} is answered twice");
            }
            Command::Report { report, .. } => self.reports.push(report),
            Command::Checkpoint { news, .. } => self.news.push(news),
            other => kept(self.disk.take(other)),
        }
    }

    fn send(&mut self, to: Destination, subject: Subject, reply: Option<Subject>, payload: Bytes) {
        let literal = |subject: &Subject| is_literal(subject.as_bytes());
        assert!(literal(&subject) && reply.as_ref().is_none_or(literal), "sends to {subject}");
        let message = Message::read(&subject, &payload);
        if reply.as_ref().is_some_and(subject::is_catchup_progress) {
            self.catchup_progress.clone_from(&reply);
        }
        match &message {
            Message::Append(_) if !reply.as_ref().is_some_and(subject::is_catchup_progress) => {
                self.append_replies.clone_from(&reply);
            }
            Message::VoteRequest(_) => self.vote_replies.clone_from(&reply),
            _ => {}
        }
        self.sent.push(Sent { to, subject, reply, message });
    }

    fn machine_applied(&mut self, through: Index) {
        self.held_applies.push_back(Event::Applied { group: GROUP, through });
        if !self.hold_applies {
            self.disk.tell(self.held_applies.drain(..));
        }
    }

    fn machine_took_part(&mut self, index: Index, through: u64) {
        let says = MachineSays::TookPart { index, through };
        self.held_applies.push_back(Event::Machine { group: GROUP, says });
        if !self.hold_applies {
            self.disk.tell(self.held_applies.drain(..));
        }
    }

    /// The plain machine says that it has applied all that it was handed.
    pub fn finish_applies(&mut self) {
        self.disk.tell(self.held_applies.drain(..));
        self.run();
    }

    /// Time passes, and the node is woken whenever it asked to be.
    ///
    /// # Panics
    /// If it asks to be woken again and again without time passing.
    pub fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut spins = 0;
        while let Some((at, why)) = self.node.deadline().filter(|(at, _)| *at <= end) {
            spins = if at > self.now { 0 } else { spins + 1 };
            assert!(spins < SPINS, "the node asks for {why:?} again and again");
            self.now = self.now.max(at);
            self.handle(Event::DeadlineReached);
        }
        self.now = end;
    }

    /// Time passes, and the node is woken once at the end, however often it asked to be: a clock that
    /// jumps ahead, or a driver that slept.
    pub fn oversleep(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.handle(Event::DeadlineReached);
    }

    /// Time passes until this is so.
    ///
    /// # Panics
    /// If it is not so after a minute.
    pub fn wait_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        while !so(self) {
            let next = self.node.deadline().map(|(at, _)| at).filter(|at| *at <= end);
            let Some(at) = next else { panic!("a minute passed before {what}") };
            self.wait(at.since(self.now));
        }
    }

    /// The present.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// How the group stands.
    ///
    /// # Panics
    /// Never: a lone node has its one group.
    pub fn status(&self) -> Status {
        self.node.status(GROUP).expect("a lone node has one group")
    }

    /// Whether the group has here what it has elsewhere.
    ///
    /// # Panics
    /// Never: a lone node has its one group.
    pub fn health(&self) -> Health {
        self.node.health(GROUP, self.now).expect("a lone node has one group")
    }

    /// The node itself.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// What it was told before it started.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its own peer id.
    pub fn me(&self) -> PeerId {
        PeerId::from_name(&self.config.name)
    }

    fn group_name(&self) -> &GroupName {
        &self.config.groups[0].name
    }

    /// Whether it listens to this subject.
    pub fn listens(&self, subject: &Subject) -> bool {
        self.subscriptions.hear(subject)
    }
}

/// Messages of peers.
impl Lone {
    /// A message as bytes.
    pub fn receive(
        &mut self,
        from: Option<PeerId>,
        subject: Subject,
        reply: Option<Subject>,
        payload: Bytes,
    ) {
        self.handle(Event::Received { from, subject, reply, payload });
    }

    /// An append entry on the group's subject: a live one.
    pub fn hear(&mut self, append: &Append) {
        let (from, subject) = (append.leader(), subject::append_entry(self.group_name()));
        self.receive(Some(from), subject, Some(replies_of(from)), append.to_bytes());
    }

    /// An append entry for the catchup that is under way.
    ///
    /// # Panics
    /// If none is.
    pub fn feed(&mut self, append: &Append) {
        let inbox = self.inbox().expect("a catchup is under way");
        self.feed_at(&inbox, append);
    }

    /// An append entry for a catchup at this inbox, which may be over.
    pub fn feed_at(&mut self, inbox: &Subject, append: &Append) {
        let from = append.leader();
        let reply = Some(replies_of(from));
        self.receive(Some(from), inbox.clone(), reply, append.to_bytes());
    }

    /// A vote request.
    pub fn ask_vote(&mut self, candidate: &str, term: u64, last_term: u64, last_index: u64) {
        let candidate = PeerId::from_name(candidate);
        let request = VoteRequest {
            term: Term::new(term),
            last_term: Term::new(last_term),
            last_index: Index::new(last_index),
            candidate,
        };
        let subject = subject::vote(self.group_name());
        let reply = Some(replies_of(candidate));
        self.receive(Some(candidate), subject, reply, request.to_bytes());
    }

    /// An answer to its vote request.
    ///
    /// # Panics
    /// If it never asked for votes.
    pub fn answer_vote(&mut self, peer: &str, response: (u64, bool, bool)) {
        let (term, granted, empty) = response;
        let peer = PeerId::from_name(peer);
        let response = VoteResponse { term: Term::new(term), peer, granted, empty };
        let subject = self.vote_replies.clone().expect("it has asked for votes");
        self.receive(Some(peer), subject, None, response.to_bytes());
    }

    /// A follower says that its log agrees up to `index`.
    pub fn acknowledge(&mut self, peer: &str, term: u64, index: u64) {
        self.respond(peer, (term, index, true), None);
    }

    /// A follower says that its log ends with a record of `last.0` at `last.1`, and where it waits
    /// for the rest.
    pub fn ask_catchup(&mut self, peer: &str, last: (u64, u64), inbox: &Subject) {
        self.respond(peer, (last.0, last.1, false), Some(inbox.clone()));
    }

    /// An answer to its append entries.
    ///
    /// # Panics
    /// If it never sent one.
    pub fn respond(&mut self, peer: &str, response: (u64, u64, bool), inbox: Option<Subject>) {
        let (term, index, success) = response;
        let peer = PeerId::from_name(peer);
        let (term, index) = (Term::new(term), Index::new(index));
        let response = AppendResponse { term, index, peer, success };
        let subject = self.append_replies.clone().expect("it has sent append entries");
        self.receive(Some(peer), subject, inbox, response.to_bytes());
    }

    /// Time passes until it asks for votes; these members grant theirs, with a log that is not
    /// empty; and it leads.
    ///
    /// # Panics
    /// If it does not.
    pub fn elect(&mut self, voters: &[&str]) {
        if self.status().role != Some(Role::Leader) {
            self.wait_until("it asks for votes", |lone| {
                matches!(lone.status().role, Some(Role::Candidate | Role::Leader))
            });
        }
        for voter in voters {
            self.answer_vote(voter, (self.status().term.get(), true, false));
        }
        assert_eq!(self.status().role, Some(Role::Leader), "{voters:?} have elected it");
    }
}

/// Clients, and the machine.
impl Lone {
    /// A client asks for something.
    pub fn request(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId::new(self.requests);
        self.handle(Event::Request { id, group: GROUP, request });
        id
    }

    /// A client of a plain group proposes an entry.
    pub fn propose(&mut self, text: &'static str) -> RequestId {
        let [subject, header, payload] = ["", "", text].map(|text| text.as_bytes().into());
        self.request(Request::Publish { subject, header, payload })
    }

    /// What a client was told, if it was told anything.
    pub fn answer_to(&self, id: RequestId) -> Option<&Answer> {
        self.answers.get(&id)
    }

    /// The plain machine offers its state after record `index`.
    pub fn take_snapshot(&mut self, index: u64, data: &'static str) {
        let (index, data) = (Index::new(index), Bytes::from(data));
        self.handle(Event::SnapshotTaken { group: GROUP, index, data });
    }

    /// The plain machine says something.
    pub fn machine_says(&mut self, says: MachineSays) {
        self.handle(Event::Machine { group: GROUP, says });
    }

    /// The plain machine has taken in what is up to `through`, and applied what is up to `applied`.
    pub fn machine_processed(&mut self, through: u64, applied: u64) {
        let (through, applied) = (Index::new(through), Index::new(applied));
        self.machine_says(MachineSays::Processed { through, applied });
    }

    /// The plain machine goes a step with a checkpoint, and this is what it is told.
    pub fn checkpoint(&mut self, step: CheckpointStep) -> Vec<CheckpointNews> {
        self.machine_says(MachineSays::Checkpoint(step));
        self.news()
    }

    /// What the plain machine was told of its snapshots since the last call.
    pub fn news(&mut self) -> Vec<CheckpointNews> {
        std::mem::take(&mut self.news)
    }

    /// Everything that the plain machine was handed since the start.
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// The entries that the plain machine was handed since the start, in order.
    pub fn applied_texts(&self) -> Vec<String> {
        let entries = self.applied.iter().filter_map(|applied| match applied {
            Applied::Entries { entries, .. } => Some(entries),
            Applied::Snapshot { .. } | Applied::Part { .. } => None,
        });
        entries.flatten().map(text).collect()
    }

    /// The disk performs what it held back, all of it, and goes on holding back what comes.
    pub fn perform_writes(&mut self) {
        self.disk.perform(usize::MAX);
        self.run();
    }

    /// The disk performs the next of the writes that it held back.
    pub fn perform_one_write(&mut self) {
        self.disk.perform(1);
        self.run();
    }

    /// The disk holds writes back until [`perform_writes`](Self::perform_writes).
    pub const fn hold_writes(&mut self) {
        self.disk.hold_writes = true;
    }

    /// The disk performs what it held back, and from now on everything at once.
    pub fn release_writes(&mut self) {
        self.disk.hold_writes = false;
        self.perform_writes();
    }
}

/// What it said.
impl Lone {
    /// Every message since the last call of this, or of a method that looks for some of them.
    pub fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// Every answer to an append entry since the last look; all other messages are forgotten.
    pub fn responses(&mut self) -> Vec<AppendResponse> {
        let sent = self.sent().into_iter();
        sent.filter_map(|sent| match sent.message {
            Message::AppendResponse(response) => Some(response),
            _ => None,
        })
        .collect()
    }

    /// Term and index of every success that it answered since the last look: what counts towards a
    /// quorum. All other messages are forgotten.
    pub fn acks(&mut self) -> Vec<(u64, u64)> {
        let responses = self.responses().into_iter().filter(|response| response.success);
        responses.map(|response| (response.term.get(), response.index.get())).collect()
    }

    /// Every answer to a vote request since the last look; all other messages are forgotten.
    pub fn votes(&mut self) -> Vec<VoteResponse> {
        let sent = self.sent().into_iter();
        sent.filter_map(|sent| match sent.message {
            Message::VoteResponse(response) => Some(response),
            _ => None,
        })
        .collect()
    }

    /// Every append entry since the last look, heartbeats among them; all other messages are
    /// forgotten.
    pub fn appends(&mut self) -> Vec<AppendEntry> {
        let sent = self.sent().into_iter();
        sent.filter_map(|sent| match sent.message {
            Message::Append(append) => Some(append),
            _ => None,
        })
        .collect()
    }

    /// What it reported since the last call.
    pub fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Where it waits for the catchup that is under way.
    pub fn inbox(&self) -> Option<Subject> {
        assert!(self.catchup_inboxes.len() <= 1, "it waits at {:?}", self.catchup_inboxes);
        self.catchup_inboxes.last().cloned()
    }

    /// Where it hears how far those are whom it feeds, once it fed somebody.
    pub fn catchup_progress(&self) -> Option<Subject> {
        self.catchup_progress.clone()
    }

    /// Its log as it sees it: the term of each record, and its first entry as text.
    ///
    /// # Panics
    /// If a record is not an append entry.
    pub fn log(&self) -> Vec<(u64, String)> {
        let records = self.disk.log().range().into_iter();
        let indexes = records.flat_map(|(first, last)| first.get()..=last.get());
        let record = |index| self.disk.log().record(Index::new(index)).expect("it is in range");
        indexes
            .map(|index| {
                let entry = AppendEntry::decode(record(index)).expect("a record is an entry");
                let first = entry.entries.iter().next();
                (entry.term.get(), first.map_or(String::new(), |part| text(&part.data)))
            })
            .collect()
    }
}

/// Where a peer of a lone node awaits answers.
pub fn replies_of(peer: PeerId) -> Subject {
    Subject::from(format!("$NRG.R.{peer}"))
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn kept<T>(done: Result<T, String>) {
    if let Err(what) = done {
        panic!("the node {what}");
    }
}
