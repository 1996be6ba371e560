//! A node of ours in groups of real servers, with its disk in memory: it listens to all that the
//! groups say among themselves, and may or may not speak.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use jetwake::command::{Command, LogChange, Report};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Opened, Request, SnapshotFound, Standing, TermAndVote};
use jetwake::ids::{GroupId, GroupName, Index, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::raft::Status;
use jetwake::subject::{Kind, Subject};
use jetwake::time::Time;
use jetwake::wire::VoteResponse;
use jetwake_driver::clock::Clock;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bed::{ELECTION_MAX, ELECTION_MIN, HEARTBEAT, PATIENCE};

/// What a member says of what it wants to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Nothing: it only listens.
    Mute,
    /// All of it.
    Speaks,
}

/// A group's part of the disk.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) log: BTreeMap<Index, Bytes>,
    pub(crate) vote: Option<TermAndVote>,
    snapshot: Option<Bytes>,
    standing: Option<Standing>,
}

impl Files {
    fn change(&mut self, change: LogChange) {
        match change {
            LogChange::Append { index, record } => drop(self.log.insert(index, record)),
            LogChange::Truncate { last } => drop(self.log.split_off(&last.next())),
            LogChange::Compact { through } => self.log = self.log.split_off(&through.next()),
            LogChange::Reset { .. } => self.log.clear(),
            LogChange::TermAndVote(vote) => self.vote = Some(vote),
            LogChange::Snapshot { file, .. } => self.snapshot = Some(file),
            LogChange::Standing(standing) => self.standing = Some(standing),
            other => panic!("a disk has nothing that could do this: {other:?}"),
        }
    }

    fn opened(&self) -> Opened {
        let ends = self.log.first_key_value().zip(self.log.last_key_value());
        Opened {
            vote: self.vote,
            snapshot: self.snapshot.clone().map(SnapshotFound::Whole),
            log: ends.map(|((first, _), (last, _))| (*first, *last)),
            standing: self.standing.clone().unwrap_or(Standing::Unknown),
            ..Opened::default()
        }
    }
}

/// The node and what surrounds it.
pub(crate) struct Part {
    node: Node,
    clock: Clock,
    pub(crate) files: Vec<Files>,
    names: Vec<String>,
    interest: BTreeSet<Subject>,
    /// Where votes are awaited, and for which group.
    candidates: BTreeMap<Subject, usize>,
    voice: Voice,
    unsent: Vec<(Subject, Option<Subject>, Bytes)>,
    /// Votes that it gave, and refused, in each group.
    pub(crate) votes: Vec<(u64, u64)>,
    /// Messages that came, for it or not.
    pub(crate) heard: u64,
    /// How many markers of a test came.
    pub(crate) marker: usize,
    /// Messages that it refused to take, with the reasons of the last of them.
    pub(crate) refused: u64,
    pub(crate) last_refused: VecDeque<String>,
}

impl Part {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.node.handle(now, event);
        let mut done = Vec::new();
        loop {
            while let Some(command) = self.node.poll() {
                done.extend(self.perform(command));
            }
            if done.is_empty() {
                return;
            }
            for event in done.drain(..) {
                self.node.handle(now, event);
            }
        }
    }

    fn files(&mut self, group: GroupId) -> &mut Files {
        &mut self.files[group.0 as usize]
    }

    fn perform(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Send { subject, reply, payload, .. } => {
                self.count_vote(&subject, &payload);
                if self.voice == Voice::Speaks {
                    self.unsent.push((subject, reply, payload));
                }
                None
            }
            Command::Subscribe(subject) => {
                self.interest.insert(subject);
                None
            }
            Command::Unsubscribe(subject) => {
                self.interest.remove(&subject);
                None
            }
            Command::Write { id, group, change } => {
                self.files(group).change(change);
                Some(Event::Written { through: id })
            }
            Command::Load { id, group, first, last, .. } => {
                let records = self.files(group).log.range(first..=last);
                let records = records.map(|(_, record)| record.clone()).collect();
                Some(Event::Loaded { load: id, records })
            }
            Command::Apply { group, index, .. } | Command::ApplySnapshot { group, index, .. } => {
                Some(Event::Applied { group, through: index })
            }
            Command::Report { report: Report::Refused { why, .. }, .. } => {
                self.refused += 1;
                self.last_refused.push_back(why);
                if self.last_refused.len() > 8 {
                    self.last_refused.pop_front();
                }
                None
            }
            Command::Report { .. } | Command::Checkpoint { .. } | Command::Answer { .. } => None,
            other => panic!("a plain group does not ask this: {other:?}"),
        }
    }

    /// Remembers where a vote is awaited.
    fn note_candidate(&mut self, subject: &Subject, reply: Option<&Subject>) {
        if let (Some(Kind::Vote(group)), Some(reply)) = (Kind::borrowed(subject), reply)
            && let Some(at) = self.names.iter().position(|name| name == group)
        {
            self.candidates.insert(reply.clone(), at);
        }
    }

    fn count_vote(&mut self, subject: &Subject, payload: &Bytes) {
        if let (Some(at), Ok(vote)) = (self.candidates.get(subject), VoteResponse::decode(payload))
        {
            let (granted, refused) = &mut self.votes[*at];
            *(if vote.granted { granted } else { refused }) += 1;
        }
    }

    fn hears(&self, subject: &Subject) -> bool {
        self.interest.contains(subject)
            || subject.with_last_wildcard().is_some_and(|all| self.interest.contains(&all))
    }

    /// How a group stands; groups are numbered as they were named.
    pub(crate) fn status(&self, group: u32) -> Status {
        self.node.status(GroupId(group)).expect("a group that was named")
    }
}

/// A node that runs until it is dropped.
pub(crate) struct Member {
    part: Arc<Mutex<Part>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to listen to all groups of the servers.
pub(crate) async fn listen(client: &Client) -> Subscriber {
    let heard = client.subscribe("$NRG.>").await.expect("a subscription");
    client.flush().await.expect("a server that answers");
    heard
}

impl Member {
    /// A node of this name in these groups, each of the servers of the bed. It hears all that
    /// `heard` has kept, and never leads.
    pub(crate) fn start(
        client: Client,
        heard: Subscriber,
        name: &str,
        groups: &[&str],
        servers: usize,
        voice: Voice,
    ) -> Self {
        let members: Vec<_> = (0..servers).map(super::bed::name).collect();
        let group = |name: &&str| GroupConfig {
            name: GroupName::new(*name).expect("a group's name"),
            members: members.clone(),
            kind: GroupKind::Plain,
        };
        let timers = Timers {
            election_min: ELECTION_MIN,
            election_max: ELECTION_MAX,
            heartbeat: HEARTBEAT,
            ..Timers::default()
        };
        let config = Config {
            name: name.into(),
            domain: String::new(),
            seed: 7,
            limits: Limits::default(),
            timers,
            groups: groups.iter().map(group).collect(),
        };
        let mut part = Part {
            node: Node::new(config).expect("a sound configuration"),
            clock: Clock::start(),
            files: groups.iter().map(|_| Files::default()).collect(),
            names: groups.iter().map(ToString::to_string).collect(),
            interest: BTreeSet::new(),
            candidates: BTreeMap::new(),
            voice,
            unsent: Vec::new(),
            votes: vec![(0, 0); groups.len()],
            heard: 0,
            marker: 0,
            refused: 0,
            last_refused: VecDeque::new(),
        };
        for group in (0..).map(GroupId).take(groups.len()) {
            let files = part.files(group);
            // Who only listens promises nothing, and need not ask what was promised.
            files.standing = (voice == Voice::Mute).then_some(Standing::Whole);
            let disk = files.opened();
            part.handle(Event::Opened { group, disk });
            let request = Request::Observe { observer: true };
            part.handle(Event::Request { id: RequestId::new(1), group, request });
        }
        let part = Arc::new(Mutex::new(part));
        let changed = Arc::new(Notify::new());
        let task = tokio::spawn(run(Arc::clone(&part), Arc::clone(&changed), client, heard));
        Self { part, changed, task }
    }

    /// Looks at the node between two events.
    pub(crate) fn look(&self) -> MutexGuard<'_, Part> {
        self.part.lock().expect("the node did not panic")
    }

    /// From now on it speaks, or does not.
    pub(crate) fn set_voice(&self, voice: Voice) {
        self.look().voice = voice;
    }

    /// Waits until something is true of it.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Part) -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = look(&self.look()) {
                return found;
            }
            let _ = tokio::time::timeout(HEARTBEAT, self.changed.notified()).await;
        }
        let part = self.look();
        let statuses: Vec<_> = (0..).take(part.files.len()).map(|at| part.status(at)).collect();
        panic!("never {what}: {statuses:#?}, refused {:?}", part.last_refused);
    }
}

async fn run(part: Arc<Mutex<Part>>, changed: Arc<Notify>, client: Client, mut heard: Subscriber) {
    let lock = || part.lock().expect("the node did not panic");
    loop {
        let unsent = std::mem::take(&mut lock().unsent);
        for (subject, reply, payload) in unsent {
            let sent = match reply {
                Some(reply) => {
                    client.publish_with_reply(subject.to_string(), reply.to_string(), payload).await
                }
                None => client.publish(subject.to_string(), payload).await,
            };
            sent.expect("a message that can be sent");
        }
        changed.notify_waiters();
        let wait = {
            let part = lock();
            part.node.deadline().map_or(HEARTBEAT, |(when, _)| when.since(part.now()))
        };
        tokio::select! {
            message = heard.next() => {
                let Some(message) = message else { return };
                let subject = Subject::from(message.subject.to_string());
                let reply = message.reply.map(|reply| Subject::from(reply.to_string()));
                let mut part = lock();
                part.heard += 1;
                part.marker += usize::from(message.subject.starts_with("$NRG.marker."));
                if Kind::borrowed(&subject).is_some() && part.hears(&subject) {
                    let payload = message.payload;
                    part.note_candidate(&subject, reply.as_ref());
                    part.handle(Event::Received { from: None, subject, reply, payload });
                }
            }
            () = tokio::time::sleep(wait) => {
                let mut part = lock();
                if part.node.deadline().is_some_and(|(when, _)| when <= part.now()) {
                    part.handle(Event::DeadlineReached);
                }
            }
        }
    }
}
