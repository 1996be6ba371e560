//! Atomic batches as a client publishes them: message by message, and now and then not to the end.
//!
//! A message id tells the batch, the message's place in it and how many there are to be, so that whoever
//! finds one message knows which others belong to it.

use std::io::Write;

use bytes::Bytes;
use jetwake::event::Request;

use crate::dice::{Dice, PerMillion};
use crate::history::{History, Publication};

/// How a client publishes batches.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchPlan {
    /// How likely a request begins a batch.
    pub begins: PerMillion,
    /// How many messages a batch has at most.
    pub most: u64,
    /// How likely a batch is left in the middle.
    pub leaves: PerMillion,
    /// How likely a message in the middle is left out.
    pub skips: PerMillion,
    /// How likely a batch has the id of the one before.
    pub same_id: PerMillion,
    /// Whether it asks for nothing else, one batch behind the other.
    pub only: bool,
}

/// What becomes of a batch on its publisher's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The last message commits it.
    Commits,
    /// A message that is not stored itself commits it.
    EndsApart,
    /// Only so many messages are sent.
    Leaves(usize),
    /// The message of this place is not sent.
    Skips(usize),
}

/// A batch that a client publishes, perhaps more than once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What the publisher calls it; another may be called the same.
    pub id: Bytes,
    /// The numbers of its messages.
    pub members: Vec<usize>,
    /// What becomes of it.
    pub course: Course,
    /// Whether its publisher hears of the first message before it sends another: who leads may have
    /// messages of an earlier batch of this id, which the others would go with if the first were lost.
    pub waits: bool,
}

/// A batch that a client is publishing, and the place of what it sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    /// The number of the batch.
    pub batch: usize,
    place: usize,
    /// Whether the first message was heard of.
    heard: bool,
}

impl Gathering {
    /// From the first message on.
    pub const fn from_the_first(batch: usize) -> Self {
        Self { batch, place: 1, heard: false }
    }

    /// The first message was heard of.
    pub const fn goes_on(&mut self) {
        self.heard = true;
    }

    /// Whether nothing may be sent for now.
    pub const fn waits(&self, batch: &Batch) -> bool {
        batch.waits && self.place > 1 && !self.heard
    }

    /// The place of what is sent next, and whether it commits the batch; none if nothing is.
    pub fn next(&mut self, batch: &Batch) -> Option<(usize, bool)> {
        let count = batch.members.len();
        let last = match batch.course {
            Course::Commits => count,
            Course::EndsApart => count + 1,
            Course::Leaves(after) => after,
            Course::Skips(place) => {
                self.place += usize::from(self.place == place);
                count
            }
        };
        let place = self.place;
        self.place += 1;
        let commits = place == last && !matches!(batch.course, Course::Leaves(_));
        (place <= last).then_some((place, commits))
    }
}

/// The place of a message in its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What all message ids of the batch begin with.
    pub batch: Bytes,
    /// From one on.
    pub place: u64,
    /// How many messages the batch has.
    pub count: u64,
}

impl Place {
    /// The place that a message id tells; none of a message on its own.
    pub fn of(message_id: &Bytes) -> Option<Self> {
        let at = message_id.iter().rposition(|byte| *byte == b'/')?;
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        let count = number(&message_id[at + 1..])?;
        let dash = message_id[..at].iter().rposition(|byte| *byte == b'-')?;
        let place = number(&message_id[dash + 1..at])?;
        Some(Self { batch: message_id.slice(..dash), place, count })
    }

    /// The message id that another place of the batch has.
    pub fn id_at(&self, place: u64) -> Bytes {
        message_id(&self.batch, place, self.count)
    }
}

/// Room for a place, and for a header beside the ids in it, so that neither has to grow.
const PLACE: usize = 12;
const HEADER: usize = 110;

/// Appends text; a vector takes all that is written to it.
fn put(bytes: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    bytes.write_fmt(text).expect("a vector takes all");
}

fn message_id(batch: &[u8], place: u64, count: u64) -> Bytes {
    let mut id = Vec::with_capacity(batch.len() + PLACE);
    id.extend_from_slice(batch);
    put(&mut id, format_args!("-{place}/{count}"));
    id.into()
}

/// The header of a message of a batch.
fn header(message_id: &[u8], batch: &[u8], place: usize, commit: &str) -> Bytes {
    let mut header = Vec::with_capacity(HEADER + message_id.len() + batch.len());
    header.extend_from_slice(b"NATS/1.0\r\n");
    if !message_id.is_empty() {
        header.extend_from_slice(b"Nats-Msg-Id: ");
        header.extend_from_slice(message_id);
        header.extend_from_slice(b"\r\n");
    }
    header.extend_from_slice(b"Nats-Batch-Id: ");
    header.extend_from_slice(batch);
    put(&mut header, format_args!("\r\nNats-Batch-Sequence: {place}\r\n"));
    if !commit.is_empty() {
        put(&mut header, format_args!("Nats-Batch-Commit: {commit}\r\n"));
    }
    header.extend_from_slice(b"\r\n");
    header.into()
}

/// Draws a batch whose messages `name` begins the ids of, and `make` makes but for their headers.
pub fn draw(
    plan: &BatchPlan,
    history: &mut History,
    dice: &mut Dice,
    (name, id, waits): (&str, Bytes, bool),
    mut make: impl FnMut(&mut Dice) -> (Bytes, Bytes),
) -> usize {
    let count = 1 + dice.place(usize::try_from(plan.most).unwrap_or(1));
    let course = match () {
        () if count > 1 && dice.chance(plan.leaves) => Course::Leaves(1 + dice.place(count - 1)),
        // The first is never left out: others would go with what came before under the same id.
        () if count > 2 && dice.chance(plan.skips) => Course::Skips(2 + dice.place(count - 2)),
        () if dice.chance(250_000) => Course::EndsApart,
        () => Course::Commits,
    };
    let members = (1..=count).map(|place| {
        let message_id = message_id(name.as_bytes(), place as u64, count as u64);
        // Where the commit comes apart, it is told with the last message all the same.
        let commit = if place == count { "1" } else { "" };
        let header = header(&message_id, &id, place, commit);
        let (subject, payload) = make(dice);
        Publication { id: message_id, subject, header, payload }
    });
    let members = members.map(|publication| history.publish(publication)).collect();
    history.add_batch(Batch { id, members, course, waits })
}

impl Batch {
    /// The request that sends the message of a place.
    pub fn request(&self, place: usize, history: &History) -> Option<Request> {
        let at = place.min(self.members.len()).checked_sub(1)?;
        let message = history.publications().get(*self.members.get(at)?)?;
        let (subject, payload) = (message.subject.clone(), message.payload.clone());
        let apart = self.course == Course::EndsApart;
        let header = match () {
            () if place > self.members.len() => header(b"", &self.id, place, "eob"),
            () if apart => header(&message.id, &self.id, place, ""),
            () => message.header.clone(),
        };
        Some(Request::Publish { subject, header, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(course: Course, count: usize) -> Batch {
        Batch { id: Bytes::from_static(b"b"), members: (0..count).collect(), course, waits: true }
    }

    fn sent(batch: &Batch) -> Vec<(usize, bool)> {
        let mut gathering = Gathering::from_the_first(0);
        let first = gathering.next(batch);
        assert!(gathering.waits(batch));
        gathering.goes_on();
        assert!(!gathering.waits(batch));
        first.into_iter().chain(std::iter::from_fn(|| gathering.next(batch))).collect()
    }

    #[test]
    fn each_course_sends_what_it_says() {
        assert_eq!(sent(&drawn(Course::Commits, 2)), [(1, false), (2, true)]);
        assert_eq!(sent(&drawn(Course::EndsApart, 2)), [(1, false), (2, false), (3, true)]);
        assert_eq!(sent(&drawn(Course::Leaves(2), 3)), [(1, false), (2, false)]);
        assert_eq!(sent(&drawn(Course::Skips(2), 3)), [(1, false), (3, true)]);
    }

    #[test]
    fn a_message_id_tells_its_place() {
        let id = message_id(b"c0-b17", 3, 5);
        let place = Place::of(&id).expect("of a batch");
        assert_eq!((&place.batch[..], place.place, place.count), (&b"c0-b17"[..], 3, 5));
        assert_eq!((place.id_at(3), place.id_at(4)), (id, Bytes::from_static(b"c0-b17-4/5")));
        assert_eq!(Place::of(&Bytes::from_static(b"c0-17")), None);
    }

    #[test]
    fn what_is_stored_says_that_it_commits_and_what_is_sent_apart_does_not() {
        let (mut history, mut dice) = (History::default(), Dice::new(1));
        let plan = BatchPlan { most: 1, ..BatchPlan::default() };
        let make = |_: &mut Dice| (Bytes::from_static(b"s.1"), Bytes::from_static(b"body"));
        let id = Bytes::from_static(b"b");
        let number = draw(&plan, &mut history, &mut dice, ("c0-b1", id, false), make);
        let batch = Batch { course: Course::EndsApart, ..history.batches()[number].clone() };
        let header = |place| match batch.request(place, &history) {
            Some(Request::Publish { header, .. }) => String::from_utf8(header.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        let stored = &history.publications()[batch.members[0]].header;
        let fields =
            "NATS/1.0\r\nNats-Msg-Id: c0-b1-1/1\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\n";
        assert_eq!(stored, &format!("{fields}Nats-Batch-Commit: 1\r\n\r\n"));
        assert_eq!(header(1), format!("{fields}\r\n"));
        let end = "NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 2\r\nNats-Batch-Commit: eob\r\n\r\n";
        assert_eq!(header(2), end);
    }
}
