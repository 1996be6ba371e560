//! The subjects of a stream's messages, each with a number, a count and its first and last message.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::ids::Sequence;

/// Every subject that has a message.
///
/// The hash is keyed, so that whoever chooses the subjects does not choose the buckets; the table
/// is only ever asked, never walked.
#[derive(Debug)]
pub(super) struct Subjects {
    hasher: SipHasher13,
    numbers: HashTable<u32>,
    subjects: Vec<Subject>,
    free: Vec<u32>,
}

/// One subject.
#[derive(Debug, Default)]
pub(super) struct Subject {
    text: Box<[u8]>,
    /// How many messages it has; zero for a number that is free.
    pub(super) messages: u64,
    /// Its oldest message.
    pub(super) first: Sequence,
    /// Its newest message.
    pub(super) last: Sequence,
}

impl Subjects {
    /// None yet, hashed with this key.
    pub(super) fn new(key: u64) -> Self {
        Self {
            hasher: SipHasher13::new_with_keys(key, 0),
            numbers: HashTable::new(),
            subjects: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many subjects have a message.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a subject that has a message.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash(text);
        self.numbers.find(hash, |number| self.is(*number, text)).copied()
    }

    /// The number of a subject, which it gets now if it has none.
    pub(super) fn intern(&mut self, text: &[u8]) -> u32 {
        let hash = self.hasher.hash(text);
        if let Some(number) = self.numbers.find(hash, |number| self.is(*number, text)) {
            return *number;
        }
        let subject = Subject { text: text.into(), ..Subject::default() };
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.subjects.get_mut(number as usize) {
                    *place = subject;
                }
                number
            }
            None => {
                let number = u32::try_from(self.subjects.len())
                    .expect("four thousand million subjects do not fit the memory");
                self.subjects.push(subject);
                number
            }
        };
        let (hasher, subjects) = (self.hasher, &self.subjects);
        self.numbers.insert_unique(hash, number, |number| {
            subjects.get(*number as usize).map_or(0, |subject| hasher.hash(&subject.text))
        });
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Subject> {
        self.subjects.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Subject> {
        self.subjects.get_mut(number as usize)
    }

    /// Forgets a subject without messages.
    pub(super) fn forget(&mut self, number: u32) {
        let Some(subject) = self.subjects.get_mut(number as usize) else { return };
        let text = core::mem::take(subject).text;
        if let Ok(entry) =
            self.numbers.find_entry(self.hasher.hash(&text), |found| *found == number)
        {
            entry.remove();
            self.free.push(number);
        }
    }

    /// Forgets every subject.
    pub(super) fn clear(&mut self) {
        self.numbers = HashTable::new();
        self.subjects = Vec::new();
        self.free = Vec::new();
    }

    /// The subjects that a filter takes, in order of their numbers. Asks each subject, unless the
    /// filter is a subject itself.
    pub(super) fn matching<'a>(
        &'a self,
        filter: &'a [u8],
    ) -> impl Iterator<Item = (u32, &'a Subject)> + 'a {
        let wild = filter.split(|byte| *byte == b'.').any(|token| matches!(token, b"*" | b">"));
        let literal = if wild { None } else { self.find(filter) };
        let all = if wild { self.subjects.as_slice() } else { &[] };
        let all = all.iter().enumerate().filter(move |(_, subject)| {
            subject.messages > 0 && crate::subject::matches(filter, &subject.text)
        });
        // Numbers are 32 bits wide.
        all.map(|(number, subject)| (number as u32, subject))
            .chain(literal.and_then(|number| Some((number, self.get(number)?))))
    }

    fn is(&self, number: u32, text: &[u8]) -> bool {
        self.subjects.get(number as usize).is_some_and(|subject| *subject.text == *text)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn numbers_are_given_once_and_again_when_free() {
        let mut subjects = Subjects::new(7);
        assert_eq!(
            (subjects.intern(b"a"), subjects.intern(b"b"), subjects.intern(b"a")),
            (0, 1, 0)
        );
        subjects.forget(0);
        assert_eq!((subjects.find(b"a"), subjects.len()), (None, 1));
        subjects.forget(0);
        assert_eq!((subjects.intern(b"c"), subjects.intern(b"d")), (0, 2));
        assert_eq!(subjects.find(b"b"), Some(1));
    }

    #[test]
    fn a_filter_takes_subjects_with_messages() {
        let mut subjects = Subjects::new(7);
        for text in [&b"a.1"[..], b"a.2", b"b.1", b"a.3"] {
            let number = subjects.intern(text);
            if text != b"a.2" {
                subjects.get_mut(number).expect("just given").messages = 1;
            }
        }
        let numbers = |filter| subjects.matching(filter).map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(numbers(b"a.*"), [0, 3]);
        assert_eq!(numbers(b">"), [0, 2, 3]);
        assert_eq!(numbers(b"b.1"), [2]);
        assert_eq!(numbers(b"c"), [0_u32; 0]);
    }
}
