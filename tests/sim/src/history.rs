//! What the clients of one group did and were told: the truth that replicas are held against.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jetwake::ids::Sequence;

use crate::batches::{Batch, Place};
use crate::deliveries::Deliveries;

/// A message that a client publishes, again and again until it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its `Nats-Msg-Id`.
    pub id: Bytes,
    /// Where it is published.
    pub subject: Bytes,
    /// Its header block, with the id.
    pub header: Bytes,
    /// Its body.
    pub payload: Bytes,
}

impl Publication {
    /// Whether it is stored with the others of a batch, and never alone.
    pub fn is_of_batch(&self) -> bool {
        Place::of(&self.id).is_some()
    }

    /// A header that has its id and nothing else.
    pub fn plain_header(&self) -> Bytes {
        let id = self.id.escape_ascii();
        Bytes::from(format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n"))
    }
}

/// A purge that a client asked for: everything of a subject below a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// The subject; all if empty.
    pub filter: Bytes,
    /// The first sequence that is kept.
    pub before: Sequence,
    /// Whether it was acknowledged.
    pub done: bool,
}

/// The record of all clients of a group.
#[derive(Clone, Debug, Default)]
pub struct History {
    publications: Vec<Publication>,
    by_id: BTreeMap<Bytes, usize>,
    /// The sequences that each message was acknowledged with: more than one if it was published
    /// anew after it had been removed.
    acknowledged: BTreeMap<usize, BTreeSet<Sequence>>,
    by_sequence: BTreeMap<Sequence, usize>,
    /// Deletes that were asked for, and whether they were acknowledged.
    deletes: BTreeMap<Sequence, bool>,
    purges: Vec<Purge>,
    batches: Vec<Batch>,
    /// Messages that a plain group said are committed, by number.
    committed: BTreeSet<usize>,
    /// How often a client was told that a message is stored.
    acknowledgements: u64,
    /// What was asked and told of a consumer.
    pub deliveries: Deliveries,
}

impl History {
    /// A plain group committed a message; whether this is the first time that it says so.
    pub fn commit(&mut self, number: usize) -> bool {
        self.acknowledgements += 1;
        self.committed.insert(number)
    }

    /// Whether a plain group said of anything that it is committed.
    pub fn of_plain_group(&self) -> bool {
        !self.committed.is_empty()
    }

    /// Every message that a plain group said is committed.
    pub fn committed(&self) -> impl Iterator<Item = &Publication> {
        self.committed.iter().filter_map(|number| self.publications.get(*number))
    }

    /// A message will be published; its number.
    pub fn publish(&mut self, publication: Publication) -> usize {
        let number = self.publications.len();
        self.by_id.insert(publication.id.clone(), number);
        self.publications.push(publication);
        number
    }

    /// Every message that was ever published, by number.
    pub fn publications(&self) -> &[Publication] {
        &self.publications
    }

    /// The message of this id.
    pub fn by_id(&self, id: &Bytes) -> Option<(usize, &Publication)> {
        let number = *self.by_id.get(id)?;
        self.publications.get(number).map(|publication| (number, publication))
    }

    /// A message was acknowledged, with this sequence; whether for the first time.
    ///
    /// # Errors
    /// That this contradicts what was told before.
    pub fn acknowledge(&mut self, number: usize, sequence: Sequence) -> Result<bool, String> {
        self.acknowledgements += 1;
        let name = |number: usize| {
            let id = self.publications.get(number).map_or(&b"?"[..], |message| &message.id[..]);
            id.escape_ascii().to_string()
        };
        if let Some(other) = self.by_sequence.get(&sequence).filter(|other| **other != number) {
            let (id, other) = (name(number), name(*other));
            return Err(format!("{id} is acknowledged as {sequence}, which is {other}"));
        }
        let before = self.acknowledged.entry(number).or_default();
        if before.contains(&sequence) {
            return Ok(false);
        }
        let first = before.is_empty();
        let all: Vec<_> = before.iter().copied().chain([sequence]).collect();
        let mut kept = all.into_iter().filter(|sequence| !self.is_gone(number, *sequence));
        if let (Some(one), Some(two)) = (kept.next(), kept.next()) {
            let id = name(number);
            return Err(format!("{id} is acknowledged as {one} and as {two}"));
        }
        self.acknowledged.entry(number).or_default().insert(sequence);
        self.by_sequence.insert(sequence, number);
        Ok(first)
    }

    /// A batch will be published; its number.
    pub fn add_batch(&mut self, batch: Batch) -> usize {
        self.batches.push(batch);
        self.batches.len() - 1
    }

    /// Every batch that was ever published, by number.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// A batch was acknowledged, its last message with this sequence; whether for the first time.
    ///
    /// # Errors
    /// That this contradicts what was told before.
    pub fn acknowledge_batch(&mut self, number: usize, last: Sequence) -> Result<bool, String> {
        let members = self.batches.get(number).map_or(Vec::new(), |batch| batch.members.clone());
        let base = last.get().checked_sub(members.len() as u64);
        let base = base.ok_or_else(|| {
            format!("a batch of {} messages is acknowledged as {last}", members.len())
        })?;
        let mut first = false;
        for (member, sequence) in members.into_iter().zip(base + 1..) {
            first = self.acknowledge(member, Sequence::new(sequence))?;
        }
        Ok(first)
    }

    /// Whether a message of this id, which may be of a batch, need not be at a sequence.
    pub fn may_lack(&self, sequence: Sequence, id: &Bytes) -> bool {
        self.by_id(id).is_some_and(|(_, message)| self.may_be_gone(sequence, &message.subject))
    }

    /// Whether somebody asked to remove a message of this number.
    fn is_gone(&self, number: usize, sequence: Sequence) -> bool {
        let publication = self.publications.get(number);
        publication.is_some_and(|message| self.may_be_gone(sequence, &message.subject))
    }

    /// Every acknowledged message: its number and its sequence.
    pub fn acknowledged(&self) -> impl Iterator<Item = (usize, Sequence)> {
        self.by_sequence.iter().map(|(sequence, number)| (*number, *sequence))
    }

    /// Whether a message may be found at a sequence, after what was acknowledged. A replica that is
    /// behind still has it where it was removed before it was published anew.
    pub fn may_be_at(&self, number: usize, sequence: Sequence) -> bool {
        let anothers = self.by_sequence.get(&sequence).is_some_and(|other| *other != number);
        !anothers
            && self.acknowledged.get(&number).is_none_or(|known| {
                known.contains(&sequence)
                    || self.is_gone(number, sequence)
                    || known.iter().all(|known| self.is_gone(number, *known))
            })
    }

    /// How often a client was told that a message is stored, or may be delivered.
    pub const fn acknowledgements(&self) -> u64 {
        self.acknowledgements + self.deliveries.granted()
    }

    /// Every acknowledged message that nobody asked to remove.
    pub fn kept(&self) -> impl Iterator<Item = (usize, Sequence)> {
        self.acknowledged().filter(|(number, sequence)| !self.is_gone(*number, *sequence))
    }

    /// How many messages are acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len() + self.committed.len()
    }

    /// An acknowledged sequence near a place in their order, wrapping around.
    pub fn some_sequence(&self, place: u64) -> Option<Sequence> {
        let highest = self.by_sequence.last_key_value()?.0.get();
        let wanted = Sequence::new(1 + place % highest);
        self.by_sequence.range(wanted..).next().map(|(sequence, _)| *sequence)
    }

    /// The acknowledged sequence that so many others follow.
    pub fn newest_sequence(&self, others: usize) -> Option<Sequence> {
        self.by_sequence.keys().nth_back(others).copied()
    }

    /// A delete is asked for; it may happen from now on.
    pub fn ask_delete(&mut self, sequence: Sequence) {
        self.deletes.entry(sequence).or_insert(false);
    }

    /// A delete was acknowledged.
    pub fn deleted(&mut self, sequence: Sequence) {
        self.deletes.insert(sequence, true);
    }

    /// A purge is asked for; its number.
    pub fn ask_purge(&mut self, filter: Bytes, before: Sequence) -> usize {
        self.purges.push(Purge { filter, before, done: false });
        self.purges.len() - 1
    }

    /// A purge.
    pub fn purge(&self, number: usize) -> Option<&Purge> {
        self.purges.get(number)
    }

    /// A purge was acknowledged.
    pub fn purged(&mut self, number: usize) {
        if let Some(purge) = self.purges.get_mut(number) {
            purge.done = true;
        }
    }

    /// Whether a message may be missing: somebody asked to remove it.
    pub fn may_be_gone(&self, sequence: Sequence, subject: &Bytes) -> bool {
        self.deletes.contains_key(&sequence)
            || self.purges.iter().any(|purge| purge.covers(sequence, subject))
    }

    /// Whether a message must be missing: its removal was acknowledged.
    pub fn must_be_gone(&self, sequence: Sequence, subject: &Bytes) -> bool {
        self.deletes.get(&sequence) == Some(&true)
            || self.purges.iter().any(|purge| purge.done && purge.covers(sequence, subject))
    }
}

impl Purge {
    fn covers(&self, sequence: Sequence, subject: &Bytes) -> bool {
        sequence < self.before && (self.filter.is_empty() || self.filter == *subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::default();
        for name in ["a", "b", "c"] {
            history.publish(Publication {
                id: Bytes::from(name),
                subject: Bytes::from_static(b"s"),
                header: Bytes::new(),
                payload: Bytes::new(),
            });
        }
        history
    }

    #[test]
    fn an_acknowledgement_must_not_contradict_another() {
        let mut history = history();
        assert_eq!(history.acknowledge(0, Sequence::new(1)), Ok(true));
        assert_eq!(history.acknowledge(0, Sequence::new(1)), Ok(false));
        assert!(history.acknowledge(0, Sequence::new(2)).unwrap_err().contains("as 1 and as 2"));
        assert!(history.acknowledge(1, Sequence::new(1)).unwrap_err().contains("which is a"));
        assert!(!history.may_be_at(0, Sequence::new(2)) && history.may_be_at(1, Sequence::new(2)));
        // What was removed may be published anew: its id is forgotten with it.
        history.ask_delete(Sequence::new(1));
        assert!(history.may_be_at(0, Sequence::new(2)));
        assert_eq!(history.acknowledge(0, Sequence::new(2)), Ok(false));
    }

    #[test]
    fn what_was_asked_may_be_gone_and_what_was_granted_must() {
        let (mut history, subject) = (history(), Bytes::from_static(b"s"));
        let sequence = Sequence::new(3);
        assert!(!history.may_be_gone(sequence, &subject));
        let purge = history.ask_purge(subject.clone(), Sequence::new(4));
        assert!(history.may_be_gone(sequence, &subject));
        assert!(!history.may_be_gone(sequence, &Bytes::from_static(b"t")));
        assert!(!history.may_be_gone(Sequence::new(4), &subject));
        assert!(!history.must_be_gone(sequence, &subject));
        history.purged(purge);
        assert!(history.must_be_gone(sequence, &subject));
        history.ask_delete(Sequence::new(9));
        assert!(history.may_be_gone(Sequence::new(9), &subject));
        assert!(!history.must_be_gone(Sequence::new(9), &subject));
        history.deleted(Sequence::new(9));
        assert!(history.must_be_gone(Sequence::new(9), &subject));
    }

    #[test]
    fn a_message_may_still_be_where_it_was_removed_and_never_where_another_is() {
        let mut history = history();
        let at = Sequence::new;
        history.acknowledge(0, at(9)).expect("the first");
        history.acknowledge(1, at(4)).expect("another");
        assert!(!history.may_be_at(0, at(3)), "nobody asked to remove it there");
        history.ask_delete(at(3));
        history.ask_delete(at(4));
        assert!(history.may_be_at(0, at(3)));
        assert!(!history.may_be_at(0, at(4)), "that place is another's");
    }
}
