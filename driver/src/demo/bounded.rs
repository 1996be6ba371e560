//! A second stream, which has limits and takes batches: what is published to it, and what it must hold
//! then.
//!
//! One client sends one batch after the other, whatever happens to the nodes meanwhile. Some it commits;
//! one whose outcome it does not learn it sends again, and the place of the next that is acknowledged
//! tells how often it was stored: always whole. Others it never commits, or sends with a gap, which must
//! be refused; of those nothing is stored. What the limits leave follows from that, message by message.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use indicatif::HumanCount;
use jetwake::command::{Answer, Message};
use jetwake::event::Request;
use jetwake::ids::Sequence;
use jetwake::wire::ApiError;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::DemoError;
use super::course::Course;
use super::nodes::{Nodes, SERVERS};
use super::replica::View;
use super::story::Story;
use super::trouble::{client_error, hung, passes};
use crate::client::{Client, refusal};

/// The stream.
pub(super) const STREAM: &str = "BOUNDED";
/// The subjects that it takes.
pub(super) const SUBJECT_FILTER: &str = "bounded.>";
/// Messages that it keeps.
pub(super) const MAX_MESSAGES: u64 = 64;
/// Messages of each subject that it keeps.
pub(super) const MAX_PER_SUBJECT: u64 = 10;

/// Batches, one with each percent of what the other stream is given.
const ROUNDS: u64 = 100;
/// Messages of a batch.
const PARTS: u64 = 5;
/// Subjects that all messages but the first of each batch are spread over.
const SUBJECTS: u64 = 8;
/// Before which batch the leader takes a snapshot: while a follower is away.
const SNAPSHOT: u64 = 55;
/// Before which batch a subject is purged.
const PURGE: u64 = 70;
/// How often a batch is sent that is found to be incomplete, before that is an error.
const ATTEMPTS: u64 = 10;
/// How long to rest before something is tried again.
const REST: Duration = Duration::from_millis(20);
/// How long the leader may take to answer, or to be found.
const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of a batch by the will of its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Commit,
    Abandon,
    /// A message is left out, and the next must be refused.
    Gap,
}

/// How sending a batch went.
#[derive(Debug)]
enum Sent {
    /// It is stored up to this sequence.
    Stored(u64),
    /// It may be stored or not.
    Unknown,
    /// It was refused, so nothing of it is stored.
    Refused(ApiError),
}

/// The client that publishes to the stream.
#[derive(Clone, Copy)]
pub(super) struct Bounded<'a> {
    pub(super) story: &'a Story,
    pub(super) nodes: &'a Nodes,
    pub(super) course: &'a Course,
}

/// What it was told, and what the stream must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Batches that are acknowledged.
    pub(super) committed: u64,
    /// Batches that were not committed.
    pub(super) abandoned: u64,
    /// Batches that were refused.
    pub(super) refused: u64,
    /// Messages that gave way to others.
    pub(super) evicted: u64,
    /// Messages that were purged.
    pub(super) purged: u64,
    last: u64,
    /// By sequence: the subject and the payload.
    messages: BTreeMap<u64, (String, String)>,
    of_subject: BTreeMap<String, VecDeque<u64>>,
    /// What cannot be as it was acknowledged.
    failures: Vec<String>,
}

impl Bounded<'_> {
    /// Runs until each batch has had its turn.
    pub(super) async fn run(self) -> Result<Held, DemoError> {
        let mut held = Held::default();
        let mut client = None;
        for round in 0..ROUNDS {
            self.course.reaches(self.course.share(round)).await?;
            if round == SNAPSHOT {
                self.snapshot(&mut client).await?;
            } else if round == PURGE {
                self.purge(&mut client, &mut held).await?;
            }
            match plan(round) {
                Plan::Commit => self.commit(&mut client, round, &mut held).await?,
                Plan::Abandon => {
                    self.send(&mut client, round, 0).await?;
                    held.abandoned += 1;
                }
                Plan::Gap => match self.send(&mut client, round, 0).await? {
                    Sent::Stored(at) => {
                        held.failures
                            .push(format!("batch {round} has a gap, and is stored at {at}"));
                    }
                    Sent::Refused(_) => held.refused += 1,
                    // The next leader has never heard of it.
                    Sent::Unknown => held.abandoned += 1,
                },
            }
        }
        Ok(held)
    }

    /// Sends a batch until it is acknowledged.
    async fn commit(
        &self,
        client: &mut Option<Client>,
        round: u64,
        held: &mut Held,
    ) -> Result<(), DemoError> {
        let mut unknown = 0;
        for attempt in 0.. {
            match self.send(client, round, attempt).await? {
                Sent::Stored(last) => {
                    held.stored(round, last, unknown);
                    break;
                }
                Sent::Unknown => unknown += 1,
                // Its first messages went to a leadership that has ended.
                Sent::Refused(why)
                    if why.is(&ApiError::ATOMIC_PUBLISH_INCOMPLETE_BATCH) && attempt < ATTEMPTS => {
                }
                Sent::Refused(why) => {
                    let what = format!("batch {round} of the stream {STREAM}");
                    return Err(DemoError::Refused { what, why });
                }
            }
        }
        Ok(())
    }

    /// Sends a batch once.
    async fn send(
        &self,
        client: &mut Option<Client>,
        round: u64,
        attempt: u64,
    ) -> Result<Sent, DemoError> {
        const STEP: &str = "publishing batches";
        let mut connected = self.leader(client, STEP).await?;
        let asked = timeout(PATIENCE, send_batch(&mut connected, round, attempt)).await;
        let sent = asked.map_err(|_| hung(STEP, format!("{} is silent", connected.server())))?;
        match sent {
            Some(sent) => {
                *client = Some(connected);
                Ok(sent)
            }
            None => {
                sleep(REST).await;
                Ok(Sent::Unknown)
            }
        }
    }

    /// The client that was used last, or one of who leads now.
    async fn leader(&self, client: &mut Option<Client>, step: &str) -> Result<Client, DemoError> {
        if let Some(client) = client.take() {
            return Ok(client);
        }
        let (nodes, access) = (self.nodes.addresses(), self.nodes.access());
        let found = Client::connect_to_leader(&nodes, access, STREAM, PATIENCE).await;
        found.map_err(|why| client_error(step, why))
    }

    /// Has the leader compact its log, so that a follower that is away needs a catchup.
    async fn snapshot(&self, client: &mut Option<Client>) -> Result<(), DemoError> {
        self.ask(client, "taking a snapshot of the second stream", &Request::Snapshot).await?;
        Ok(())
    }

    /// Takes a subject out up to the last message that was acknowledged.
    async fn purge(&self, client: &mut Option<Client>, held: &mut Held) -> Result<(), DemoError> {
        let (filter, before) = (subject(PURGE, 1), held.last + 1);
        let request = Request::Purge {
            filter: Bytes::from(filter.clone()),
            before: Sequence::new(before),
            keep: 0,
        };
        self.ask(client, "purging a subject of the second stream", &request).await?;
        held.purge(&filter, before);
        Ok(())
    }

    /// Asks the leader, whoever that is, until it does it.
    async fn ask(
        &self,
        client: &mut Option<Client>,
        step: &str,
        request: &Request,
    ) -> Result<Value, DemoError> {
        let asked = async {
            loop {
                let mut connected = self.leader(client, step).await?;
                if let Ok(answer) = connected.request_json(STREAM, request).await {
                    *client = Some(connected);
                    return Ok(answer);
                }
                sleep(REST).await;
            }
        };
        let asked = timeout(PATIENCE, asked).await;
        asked.unwrap_or_else(|_| Err(hung(step, "the leader does not do it".into())))
    }

    /// Tells what came of it.
    pub(super) fn tell(&self, held: &Held) {
        let Held { committed, abandoned, refused, .. } = held;
        let kept = HumanCount(held.count());
        self.story.line(&format!(
            "of the second stream's batches {committed} are committed, {abandoned} were abandoned \
             and {refused} refused; its limits leave {kept} messages"
        ));
    }
}

fn plan(round: u64) -> Plan {
    match round % 5 {
        3 => Plan::Abandon,
        4 => Plan::Gap,
        _ => Plan::Commit,
    }
}

/// The first of each batch has a subject that they share, the others go round.
fn subject(round: u64, part: u64) -> String {
    let place = if part == 0 { 0 } else { 1 + (round * PARTS + part) % SUBJECTS };
    format!("bounded.{place}")
}

fn payload(round: u64, part: u64) -> String {
    format!("message {part} of batch {round}")
}

/// The messages of a batch as they are sent.
fn messages(round: u64, attempt: u64) -> Vec<Request> {
    let plan = plan(round);
    let left_out = |part: &u64| plan == Plan::Gap && *part == 2;
    let message = |part: u64| {
        let number = part + 1;
        let commit = match plan {
            Plan::Commit | Plan::Gap if number == PARTS => "Nats-Batch-Commit: 1\r\n",
            _ => "",
        };
        let header = format!(
            "NATS/1.0\r\nNats-Batch-Id: {round}-{attempt}\r\nNats-Batch-Sequence: {number}\r\n\
             {commit}\r\n"
        );
        let (subject, payload) = (subject(round, part), payload(round, part));
        let [subject, header, payload] = [subject, header, payload].map(Bytes::from);
        Request::Publish { subject, header, payload }
    };
    (0..PARTS).filter(|part| !left_out(part)).map(message).collect()
}

/// Sends a batch; none if this node is not, or no longer, the one to send it to.
async fn send_batch(client: &mut Client, round: u64, attempt: u64) -> Option<Sent> {
    let messages = messages(round, attempt);
    // Answers to an earlier batch may still be on their way.
    let first = (attempt * ROUNDS + round) * PARTS;
    for (id, request) in (first..).zip(&messages) {
        client.submit(id, STREAM, request).ok()?;
    }
    let ids = first..first + messages.len() as u64;
    let (mut answers, mut open, mut outcome) = (Vec::new(), messages.len(), Sent::Unknown);
    while open > 0 {
        client.answers(&mut answers).await.ok()?;
        for answered in answers.drain(..).filter(|answered| ids.contains(&answered.id)) {
            open -= 1;
            let Answer::Json(json) = &answered.answer else { continue };
            match refusal(json) {
                Some(error) if passes(&error) => return None,
                Some(error) => outcome = Sent::Refused(error),
                None => {
                    let ack: Option<Value> = serde_json::from_slice(json).ok();
                    if let Some(last) = ack.and_then(|ack| ack.get("seq")?.as_u64()) {
                        outcome = Sent::Stored(last);
                    }
                }
            }
        }
    }
    Some(outcome)
}

impl Held {
    /// How many messages there must be.
    pub(super) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    /// A batch is acknowledged at its last sequence; of as many others it is not known whether the
    /// same is stored before it.
    fn stored(&mut self, round: u64, last: u64, unknown: u64) {
        self.committed += 1;
        let since = last.saturating_sub(self.last);
        let (copies, rest) = (since / PARTS, since % PARTS);
        if rest != 0 || copies == 0 || copies > unknown + 1 {
            let before = self.last;
            self.failures.push(format!(
                "batch {round} of {PARTS} messages, sent {} times, ends at {last} behind {before}",
                unknown + 1
            ));
        }
        for _ in 0..copies.min(unknown + 1) {
            (0..PARTS).for_each(|part| self.add(round, part));
        }
        self.last = last;
    }

    fn add(&mut self, round: u64, part: u64) {
        self.last += 1;
        let (sequence, subject) = (self.last, subject(round, part));
        let of_subject = self.of_subject.entry(subject.clone()).or_default();
        of_subject.push_back(sequence);
        let beyond = of_subject.len() as u64 > MAX_PER_SUBJECT;
        let oldest = if beyond { of_subject.pop_front() } else { None };
        self.messages.insert(sequence, (subject, payload(round, part)));
        if let Some(oldest) = oldest {
            self.messages.remove(&oldest);
            self.evicted += 1;
        }
        while self.count() > MAX_MESSAGES
            && let Some((oldest, (subject, _))) = self.messages.pop_first()
        {
            if let Some(of_subject) = self.of_subject.get_mut(&subject) {
                of_subject.retain(|sequence| *sequence != oldest);
            }
            self.evicted += 1;
        }
    }

    fn purge(&mut self, subject: &str, before: u64) {
        let Some(of_subject) = self.of_subject.get_mut(subject) else { return };
        let there = of_subject.len();
        of_subject.retain(|sequence| *sequence >= before);
        self.purged += (there - of_subject.len()) as u64;
        self.messages.retain(|sequence, (of, _)| of != subject || *sequence >= before);
    }

    /// The last sequence that the stream must have.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Everything that is wrong, in words, with what the replicas hold and say of themselves.
    pub(super) fn compare(&self, replicas: &[(View, Vec<Message>)]) -> Vec<String> {
        let mut failures = self.failures.clone();
        for (server, (view, found)) in SERVERS.iter().zip(replicas) {
            let mut wrong = |what: String| failures.push(format!("{server}: {STREAM}: {what}"));
            let mut expected = self.messages.clone();
            for message in found {
                let sequence = message.sequence.get();
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                let is = (text(&message.subject), text(&message.payload));
                match expected.remove(&sequence) {
                    Some(should) if should == is => {}
                    Some(should) => wrong(format!("{sequence} is {is:?}, expected {should:?}")),
                    None => wrong(format!("{sequence} is {is:?}, and should not be there")),
                }
            }
            for (sequence, should) in expected {
                wrong(format!("{sequence} is missing: {should:?}"));
            }
            let says = (view.messages, view.last);
            if says != (self.count(), self.last) {
                let should = (self.count(), self.last);
                wrong(format!("says {says:?} messages and last sequence, expected {should:?}"));
            }
            if !replicas.iter().all(|(other, _)| view.agrees_with(other)) {
                wrong("says another state than the others".into());
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use jetwake::time::Time;

    use super::*;

    /// All batches stored at once, and the messages that a replica then has.
    fn all() -> (Held, Vec<Message>) {
        let mut held = Held::default();
        for round in (0..ROUNDS).filter(|round| plan(*round) == Plan::Commit) {
            if round == PURGE {
                held.purge(&subject(PURGE, 1), held.last + 1);
            }
            held.stored(round, held.last + PARTS, 0);
        }
        let message = |(sequence, (subject, payload)): (&u64, &(String, String))| Message {
            sequence: Sequence::new(*sequence),
            time: Time::ZERO,
            subject: Bytes::from(subject.clone()),
            header: Bytes::new(),
            payload: Bytes::from(payload.clone()),
        };
        let messages = held.messages.iter().map(message).collect();
        (held, messages)
    }

    fn failures(change: impl FnOnce(&mut Vec<Message>)) -> Vec<String> {
        let (held, messages) = all();
        let mut changed = messages.clone();
        change(&mut changed);
        let view = View {
            messages: held.count(),
            last: held.last(),
            digest: "same".into(),
            ..View::default()
        };
        let replicas = [messages.clone(), changed, messages].map(|m| (view.clone(), m));
        held.compare(&replicas)
    }

    #[test]
    fn both_limits_and_the_purge_take_something_out() {
        let (held, _) = all();
        assert_eq!((held.committed, held.last), (60, 300));
        assert_eq!(held.count(), MAX_MESSAGES);
        assert!(held.purged > 0, "{held:?}");
        assert_eq!(held.evicted + held.purged + held.count(), held.last);
        let first = held.of_subject.get("bounded.0").expect("each batch has one");
        assert_eq!(first.len() as u64, MAX_PER_SUBJECT);
        assert_eq!(failures(|_| {}), [""; 0]);
    }

    #[test]
    fn what_differs_on_one_replica_is_noticed() {
        type Change = fn(&mut Vec<Message>);
        let changes: [(Change, &str); 4] = [
            (|all| drop(all.remove(3)), "is missing"),
            (|all| all[3].payload = Bytes::from_static(b"x"), "expected (\"bounded."),
            (|all| all[3].subject = Bytes::from_static(b"x"), "expected (\"bounded."),
            (|all| all[3].sequence = Sequence::new(1), "should not be there"),
        ];
        for (change, expected) in changes {
            let failures = failures(change);
            assert!(failures.iter().any(|line| line.contains(expected)), "{failures:?}");
            assert!(failures.iter().all(|line| line.starts_with("n2")), "{failures:?}");
        }
    }

    #[test]
    fn a_batch_that_is_stored_in_part_is_noticed() {
        let mut held = Held::default();
        held.stored(0, PARTS, 0);
        held.stored(1, 3 * PARTS, 1);
        assert_eq!((held.failures.len(), held.messages.len() as u64), (0, 3 * PARTS));
        held.stored(2, 4 * PARTS + 2, 1);
        held.stored(3, 6 * PARTS + 2, 0);
        assert_eq!(held.failures.len(), 2, "{:?}", held.failures);
    }

    #[test]
    fn batches_end_as_they_are_planned_to() {
        let commits = |round| {
            let header = |request: Request| match request {
                Request::Publish { header, .. } => header,
                other => panic!("{other:?}"),
            };
            let headers = messages(round, 0).into_iter().map(header);
            headers.filter(|header| header.ends_with(b"Commit: 1\r\n\r\n")).count()
        };
        assert_eq!([0, 3, 4].map(commits), [1, 0, 1]);
        assert_eq!([0, 3, 4].map(|round| messages(round, 0).len()), [5, 5, 4]);
    }
}
