//! A client: publishes with message ids, remembers what it was told, and asks again when it was
//! told nothing.

use core::ops::Range;
use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::command::{Answer, Message};
use jetwake::event::Request;
use jetwake::ids::{ByteCount, GroupId, Index, RequestId, Sequence};
use jetwake::limits::Limits;
use jetwake::time::Duration;
use serde::Deserialize;

use crate::batches::{self, BatchPlan, Gathering};
use crate::deliveries::{Delivery, DeliveryPlan, Step};
use crate::dice::{Dice, PerMillion};
use crate::history::{History, Publication};

/// What a client does.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// The group that it asks.
    pub group: GroupId,
    /// How long it rests between two requests.
    pub interval: Duration,
    /// How many requests it leaves unanswered at most.
    pub window: usize,
    /// How many messages it publishes at most.
    pub messages: u64,
    /// How many bytes each has.
    pub payload: Range<usize>,
    /// Over how many subjects, `s.0`, `s.1`…
    pub subjects: u64,
    /// How likely a request is a delete.
    pub deletes: PerMillion,
    /// How many deletes follow each other at most.
    pub delete_run: u64,
    /// How likely a delete takes back what was acknowledged a moment ago, rather than any message.
    pub takes_back: PerMillion,
    /// How likely a request is a purge.
    pub purges: PerMillion,
    /// How likely a request is a read.
    pub reads: PerMillion,
    /// How likely it publishes once more what was acknowledged.
    pub repeats: PerMillion,
    /// How it publishes batches.
    pub batches: BatchPlan,
    /// How it delivers the messages of a consumer; it does nothing else then.
    pub deliveries: Option<DeliveryPlan>,
    /// How likely it has somebody forward a message, in a plain group.
    pub forwards: PerMillion,
    /// After how long it gives up on an answer.
    pub timeout: Duration,
    /// How long it waits before it asks again.
    pub backoff: Duration,
    /// How likely a request or an answer is lost.
    pub losses: PerMillion,
}

impl Default for ClientPlan {
    fn default() -> Self {
        Self {
            group: GroupId(0),
            interval: Duration::from_millis(20),
            window: 64,
            messages: u64::MAX,
            payload: 8..200,
            subjects: 10,
            deletes: 0,
            delete_run: 1,
            takes_back: 0,
            purges: 0,
            reads: 0,
            repeats: 0,
            batches: BatchPlan::default(),
            deliveries: None,
            forwards: 0,
            timeout: Duration::from_secs(3),
            backoff: Duration::from_millis(200),
            losses: 0,
        }
    }
}

impl ClientPlan {
    /// Whether every batch is one that a leader takes.
    pub fn batches_fit(&self, limits: &Limits) -> bool {
        let most = self.batches.most;
        let bytes = (self.payload.end + AROUND_PAYLOAD) as u64 * most;
        most <= limits.batch_messages as u64 && bytes <= limits.batch_bytes.get()
    }
}

/// Something that a client wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Publish the message of this number.
    Publish(usize),
    /// Delete a message.
    Delete(Sequence),
    /// Have whoever is asked hand the message of this number to the leader of a plain group.
    Forward(usize),
    /// Purge; the number is the history's.
    Purge(usize),
    /// Read from here.
    Read(Sequence),
    /// Take a step of a consumer.
    Step(Step),
    /// Send a message of a batch.
    Member {
        /// The batch's number.
        batch: usize,
        /// The message's place.
        place: usize,
        /// Whether it commits the batch.
        commits: bool,
    },
}

impl Task {
    /// The number of the batch that it commits.
    pub const fn commits(self) -> Option<usize> {
        match self {
            Self::Member { batch, commits: true, .. } => Some(batch),
            _ => None,
        }
    }
}

/// Bytes of a message of a batch at most, beside its payload.
const AROUND_PAYLOAD: usize = 300;
/// How often a batch is sent again that is refused.
const REFUSALS: u32 = 10;
/// Among how many of the newest messages is chosen which is taken back.
const NEWEST: usize = 8;

/// A client.
#[derive(Debug)]
pub struct Client {
    /// What it does.
    pub plan: ClientPlan,
    /// Whether it begins nothing new.
    pub stopped: bool,
    number: usize,
    dice: Dice,
    published: u64,
    /// What it asked and was not answered; those that it gave up on stay, for late answers.
    asked: BTreeMap<RequestId, (Task, bool)>,
    waiting: usize,
    resting: usize,
    /// How many deletes of a run are still to come.
    deletes_left: u64,
    /// The batch that it is sending.
    gathering: Option<Gathering>,
    /// A batch that it sends once more, as nobody told it what became of it.
    again: Option<usize>,
    /// The batch that was refused last, and how often.
    refused: (usize, u32),
    batches: u64,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A message is stored.
    Acknowledged {
        /// Its place.
        sequence: Sequence,
        /// Whether it was there before.
        duplicate: bool,
    },
    /// An entry of a plain group is committed.
    Committed(Index),
    /// It is done.
    Done,
    /// A message of a batch waits for the others.
    Kept,
    /// A delivery is granted.
    Delivered(Delivery),
    /// It is refused.
    Refused {
        /// Upstream's error code.
        code: u64,
        /// The words.
        text: String,
    },
    /// Messages.
    Messages {
        /// In order.
        messages: Vec<Message>,
        /// Where to read on.
        next: Option<Sequence>,
    },
    /// Something that no client understands.
    Gibberish(String),
}

/// Reads an answer.
pub fn told(answer: &Answer) -> Told {
    let json = match answer {
        Answer::Json(json) if json.is_empty() => return Told::Kept,
        Answer::Messages { messages, next } => {
            return Told::Messages { messages: messages.clone(), next: *next };
        }
        Answer::Json(json) => json,
        other => return Told::Gibberish(format!("{other:?}")),
    };
    let gibberish = || Told::Gibberish(json.escape_ascii().to_string());
    let Ok(fields) = serde_json::from_slice::<Fields>(json) else {
        return gibberish();
    };
    match fields {
        Fields { error: Some(Error { err_code: code, description: text }), .. } => {
            Told::Refused { code, text }
        }
        Fields { consumer_seq: Some(number), stream_seq, deliveries, exceeded, .. } => {
            let (number, message) = (Sequence::new(number), Sequence::new(stream_seq));
            Told::Delivered(Delivery { number, message, count: deliveries, exceeded })
        }
        Fields { success: true, .. } => Told::Done,
        Fields { index: Some(index), .. } => Told::Committed(Index::new(index)),
        Fields { seq: Some(sequence), duplicate, .. } => {
            Told::Acknowledged { sequence: Sequence::new(sequence), duplicate }
        }
        _ => gibberish(),
    }
}

/// What a client reads of an answer.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    error: Option<Error>,
    success: bool,
    index: Option<u64>,
    seq: Option<u64>,
    duplicate: bool,
    consumer_seq: Option<u64>,
    stream_seq: u64,
    deliveries: u64,
    exceeded: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Error {
    err_code: u64,
    description: String,
}

impl Client {
    /// A client that begins at once.
    pub fn new(number: usize, plan: ClientPlan, dice: Dice) -> Self {
        Self {
            plan,
            stopped: false,
            number,
            dice,
            published: 0,
            asked: BTreeMap::new(),
            waiting: 0,
            resting: 0,
            deletes_left: 0,
            gathering: None,
            again: None,
            refused: (0, 0),
            batches: 0,
        }
    }

    /// What it does next, if it does not rest.
    pub fn next_task(&mut self, history: &mut History) -> Option<Task> {
        if self.stopped || self.unfinished() >= self.plan.window {
            return None;
        }
        if let Some(plan) = &self.plan.deliveries {
            return Some(Task::Step(history.deliveries.next_step(plan, &mut self.dice)));
        }
        let next = self.next_of_batch(history);
        if next.is_some() || self.plan.batches.only {
            return next;
        }
        self.other_task(history).or_else(|| self.publish(history))
    }

    fn next_of_batch(&mut self, history: &mut History) -> Option<Task> {
        let BatchPlan { begins: chance, only, .. } = self.plan.batches;
        if self.gathering.is_none() {
            let begun = self.again.take();
            let begun =
                begun.or_else(|| (only || self.dice.chance(chance)).then(|| self.batch(history)));
            self.gathering = Some(Gathering::from_the_first(begun?));
        }
        let gathering = self.gathering.as_mut()?;
        let batch = gathering.batch;
        if gathering.waits(&history.batches()[batch]) {
            return None;
        }
        let next = gathering.next(&history.batches()[batch]);
        if next.is_none_or(|(_, commits)| commits) {
            self.gathering = None;
        }
        next.map(|(place, commits)| Task::Member { batch, place, commits })
    }

    /// Draws a batch; its number.
    fn batch(&mut self, history: &mut History) -> usize {
        let plan = self.plan.batches;
        let again = self.batches > 0 && self.dice.chance(plan.same_id);
        self.batches += u64::from(!again);
        let name = format!("c{}-b{}", self.number, history.batches().len());
        let id = Bytes::from(format!("c{}-{}", self.number, self.batches));
        let (range, subjects) = (self.plan.payload.clone(), self.plan.subjects);
        let make = |dice: &mut Dice| (subject(dice, subjects), body(dice, &name, &range));
        batches::draw(&plan, history, &mut self.dice, (&name, id, again), make)
    }

    /// Whether it has patience with a batch that is refused: one may be larger than what the leader
    /// lets wait at any time.
    pub const fn bears_refusal(&mut self, batch: usize) -> bool {
        let before = if self.refused.0 == batch { self.refused.1 } else { 0 };
        self.refused = (batch, before + 1);
        before < REFUSALS
    }

    /// It sends a batch once more, if it does nothing else with one.
    pub fn sends_again(&mut self, batch: usize) {
        self.again = self.again.or(Some(batch));
    }

    /// What it sends of a batch leads nowhere any more: the batch is left.
    pub fn leaves(&mut self, batch: usize) {
        self.gathering.take_if(|gathering| gathering.batch == batch);
    }

    /// It heard of a message of a batch.
    pub fn goes_on(&mut self, batch: usize) {
        if let Some(gathering) = self.gathering.as_mut().filter(|own| own.batch == batch) {
            gathering.goes_on();
        }
    }

    /// Whether it is in the middle of a batch.
    pub const fn is_gathering(&self) -> bool {
        self.gathering.is_some()
    }

    fn other_task(&mut self, history: &mut History) -> Option<Task> {
        if history.of_plain_group() && self.dice.chance(self.plan.forwards) {
            let number = self.dice.place(history.publications().len());
            return history.publications().get(number).map(|_| Task::Forward(number));
        }
        let some = history.some_sequence(self.dice.bits())?;
        if self.deletes_left == 0 && self.dice.chance(self.plan.deletes) {
            self.deletes_left = 1 + self.dice.below(self.plan.delete_run);
        }
        if self.deletes_left > 0 {
            self.deletes_left -= 1;
            let sequence = match self.dice.chance(self.plan.takes_back) {
                true => history.newest_sequence(self.dice.place(NEWEST)).unwrap_or(some),
                false => some,
            };
            history.ask_delete(sequence);
            return Some(Task::Delete(sequence));
        }
        if self.dice.chance(self.plan.purges) {
            let filter = match self.dice.below(4) {
                0 => Bytes::new(),
                _ => self.subject(),
            };
            return Some(Task::Purge(history.ask_purge(filter, some)));
        }
        if self.dice.chance(self.plan.reads) {
            return Some(Task::Read(some));
        }
        if self.dice.chance(self.plan.repeats) {
            let number = self.dice.place(history.publications().len());
            let message = history.publications().get(number);
            let alone = message.is_some_and(|message| !message.is_of_batch());
            return alone.then_some(Task::Publish(number));
        }
        None
    }

    fn subject(&mut self) -> Bytes {
        subject(&mut self.dice, self.plan.subjects)
    }

    fn publish(&mut self, history: &mut History) -> Option<Task> {
        if self.published >= self.plan.messages {
            return None;
        }
        self.published += 1;
        let name = format!("c{}-{}", self.number, self.published);
        let header = Bytes::from(format!("NATS/1.0\r\nNats-Msg-Id: {name}\r\n\r\n"));
        let payload = body(&mut self.dice, &name, &self.plan.payload);
        let subject = self.subject();
        let id = Bytes::from(name);
        Some(Task::Publish(history.publish(Publication { id, subject, header, payload })))
    }

    /// The request for a task.
    pub fn request(&self, task: Task, history: &History) -> Request {
        match task {
            Task::Publish(number) => {
                let publication = &history.publications()[number];
                Request::Publish {
                    subject: publication.subject.clone(),
                    header: publication.header.clone(),
                    payload: publication.payload.clone(),
                }
            }
            Task::Forward(number) => {
                Request::Forward { payload: history.publications()[number].payload.clone() }
            }
            Task::Delete(sequence) => Request::Delete { sequence },
            Task::Purge(number) => {
                let purge = history.purge(number).expect("a purge is recorded before it is asked");
                Request::Purge { filter: purge.filter.clone(), before: purge.before, keep: 0 }
            }
            Task::Member { batch, place, .. } => {
                let batch = &history.batches()[batch];
                batch.request(place, history).expect("a batch has a message at each of its places")
            }
            Task::Step(step) => step.request(),
            Task::Read(first) => Request::Read { first, most: 50, bytes: ByteCount::new(50_000) },
        }
    }

    /// It asked.
    pub fn asked(&mut self, id: RequestId, task: Task) {
        self.asked.insert(id, (task, true));
        self.waiting += 1;
    }

    /// It hears an answer: what it had asked, and whether it still waited.
    pub fn hear(&mut self, id: RequestId) -> Option<(Task, bool)> {
        let heard = self.asked.remove(&id);
        self.waiting -= usize::from(heard.is_some_and(|(_, waited)| waited));
        heard
    }

    /// It gives up on an answer, if it still waits for it: what it had asked.
    pub fn give_up(&mut self, id: RequestId) -> Option<Task> {
        let (task, waits) = self.asked.get_mut(&id).filter(|(_, waits)| *waits)?;
        *waits = false;
        self.waiting -= 1;
        Some(*task)
    }

    /// Whether it asked this, and was not answered.
    pub fn has_asked(&self, id: RequestId) -> bool {
        self.asked.contains_key(&id)
    }

    /// The numbers of the messages that are stored if what it asked is granted.
    pub fn publications_asked(&self, id: RequestId, history: &History) -> Vec<usize> {
        match self.asked.get(&id) {
            Some((Task::Publish(number), _)) => vec![*number],
            Some((task, _)) => {
                match task.commits().and_then(|batch| history.batches().get(batch)) {
                    Some(batch) => batch.members.clone(),
                    None => Vec::new(),
                }
            }
            None => Vec::new(),
        }
    }

    /// It will ask again, after a rest.
    pub fn rests(&mut self) {
        self.resting += 1;
    }

    /// It has rested.
    pub fn rested(&mut self) {
        self.resting = self.resting.saturating_sub(1);
    }

    /// How many requests it has neither an answer to nor given up on.
    pub const fn unfinished(&self) -> usize {
        self.waiting + self.resting
    }

    /// Whether it still has something to publish.
    pub const fn is_active(&self) -> bool {
        !self.stopped && self.published < self.plan.messages
    }

    /// Draws of its own: which server it asks, how long its messages travel.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }
}

fn subject(dice: &mut Dice, subjects: u64) -> Bytes {
    Bytes::from(format!("s.{}", dice.below(subjects)))
}

/// A body, with a name in it: a plain group sees nothing else of a message.
fn body(dice: &mut Dice, name: &str, lengths: &Range<usize>) -> Bytes {
    let length = lengths.start + dice.place(lengths.end.saturating_sub(lengths.start));
    let mut random = dice.fork();
    let whole = name.len() + 1 + length;
    // The last draw may go beyond the end.
    let mut payload = Vec::with_capacity(whole + size_of::<u64>());
    payload.extend_from_slice(name.as_bytes());
    payload.push(b'\n');
    while payload.len() < whole {
        payload.extend(random.bits().to_le_bytes());
    }
    payload.truncate(whole);
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_upstream_says() {
        let json = |text: &'static str| told(&Answer::Json(Bytes::from_static(text.as_bytes())));
        let acknowledged = |sequence, duplicate| Told::Acknowledged {
            sequence: Sequence::new(sequence),
            duplicate,
        };
        assert_eq!(json(r#"{"stream":"S","seq":7}"#), acknowledged(7, false));
        assert_eq!(json(r#"{"stream":"S","seq":7,"duplicate":true}"#), acknowledged(7, true));
        assert_eq!(json(r#"{"type":"x","success":true}"#), Told::Done);
        assert_eq!(json(r#"{"index":4}"#), Told::Committed(Index::new(4)));
        assert_eq!(json(""), Told::Kept);
        let refused = json(
            r#"{"error":{"code":503,"err_code":10077,"description":"no"},"stream":"S","seq":0}"#,
        );
        assert_eq!(refused, Told::Refused { code: 10077, text: "no".into() });
        assert!(matches!(json("nonsense"), Told::Gibberish(_)));
    }

    #[test]
    fn who_publishes_batches_alone_sends_one_again_before_the_next() {
        let batches = BatchPlan { most: 3, only: true, ..BatchPlan::default() };
        let plan = ClientPlan { window: 1, batches, ..ClientPlan::default() };
        assert!(plan.batches_fit(&Limits::default()));
        assert!(!plan.batches_fit(&Limits { batch_messages: 2, ..Limits::default() }));
        assert!(
            !plan.batches_fit(&Limits { batch_bytes: ByteCount::new(1_000), ..Limits::default() })
        );
        let mut client = Client::new(0, plan, Dice::new(1));
        let mut history = History::default();
        let mut committed = 0;
        for id in (1..100).map(RequestId::new) {
            let task = client.next_task(&mut history);
            let Some(Task::Member { batch, commits, .. }) = task else { panic!("{task:?}") };
            // The first to be committed is not answered, and comes again as a whole.
            assert_eq!(batch, committed);
            client.asked(id, Task::Member { batch, place: 1, commits });
            assert_eq!(client.next_task(&mut history), None);
            match (commits, id.get() < 10) {
                (true, true) => {
                    client.give_up(id);
                    client.sends_again(batch);
                }
                (commits, _) => {
                    client.hear(id);
                    committed += usize::from(commits);
                }
            }
        }
        assert!(committed > 10, "{committed}");
    }

    #[test]
    fn keeps_to_its_window_and_hears_late_answers() {
        let plan = ClientPlan { window: 2, ..ClientPlan::default() };
        let mut client = Client::new(0, plan, Dice::new(1));
        let mut history = History::default();
        for id in 1..=2 {
            let task = client.next_task(&mut history).unwrap();
            client.asked(RequestId::new(id), task);
        }
        assert_eq!(client.next_task(&mut history), None);
        assert_eq!(client.give_up(RequestId::new(1)), Some(Task::Publish(0)));
        assert_eq!(client.give_up(RequestId::new(1)), None);
        assert!(client.next_task(&mut history).is_some());
        assert_eq!(client.hear(RequestId::new(1)), Some((Task::Publish(0), false)));
        assert_eq!(client.hear(RequestId::new(2)), Some((Task::Publish(1), true)));
        assert_eq!((client.hear(RequestId::new(2)), client.unfinished()), (None, 0));
    }
}
