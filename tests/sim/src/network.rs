//! The network between the machines: delays, drops, doubles, disorder, one-way cuts and clogs.
//!
//! It knows who is linked to whom and what each link does to a message; who listens to what is
//! the processes' affair.

use core::fmt;
use core::ops::Range;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use jetwake::subject::Subject;
use jetwake::time::{Duration, Time};

use crate::dice::{Dice, PerMillion};

/// How the subjects of acknowledgements of streams' catchups begin.
const CATCHUP_ACKS: &[u8] = b"$JSC.ACK.";
/// How the subjects of questions for votes begin.
const QUESTIONS: &[u8] = b"$NRG.V.";
/// How many of them are kept; the oldest goes first.
const OLD_QUESTIONS: usize = 30;
/// How the subjects of what catchups bring begin: of logs, and of streams.
const CATCHUPS: [&[u8]; 2] = [b"$NRG.CR.", b"$JSC.R."];
/// How likely one of their messages is kept, and how many are; the oldest goes first.
const KEPT_OF_CATCHUPS: (PerMillion, usize) = (300_000, 100);
/// How likely a message is kept for when it comes once more.
const REMEMBERED: PerMillion = 50_000;
/// How many are kept; a new one takes the place of any of them.
const OLD_MESSAGES: usize = 500;

/// A machine, counted from zero; it prints as its server's name, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine(pub usize);

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}

/// What links do to messages.
#[derive(Clone, Debug)]
pub struct NetworkConditions {
    /// How long a message travels.
    pub delay: Range<Duration>,
    /// How likely a message is lost.
    pub drops: PerMillion,
    /// How likely a message arrives twice.
    pub doubles: PerMillion,
    /// How likely a message is held up, and others overtake it.
    pub overtaken: PerMillion,
    /// How long such a message is held up at most.
    pub held_up: Duration,
    /// How long the second copy of a doubled message may take: it may outlive a restart.
    pub stale: Duration,
    /// Bytes a second of each link; zero for no bound.
    pub bytes_per_second: u64,
    /// Whether a transport says who sent a message.
    pub names_senders: bool,
}

impl Default for NetworkConditions {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(50)..Duration::from_micros(1_000),
            drops: 0,
            doubles: 0,
            overtaken: 0,
            held_up: Duration::from_millis(50),
            stale: Duration::from_secs(5),
            bytes_per_second: 0,
            names_senders: true,
        }
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Who sent it.
    pub from: Machine,
    /// Who gets it, if the link holds until then.
    pub to: Machine,
    /// Where it arrives.
    pub subject: Subject,
    /// Where an answer is awaited.
    pub reply: Option<Subject>,
    /// Its bytes.
    pub payload: Bytes,
}

/// What a link did with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// When each copy arrives; nothing if it is lost.
    pub arrivals: Vec<Time>,
    /// Whether it was lost by chance.
    pub dropped: bool,
}

/// Every link, each in one direction.
#[derive(Debug)]
pub struct Network {
    /// What links do to messages now.
    pub conditions: NetworkConditions,
    /// How the subjects begin whose messages are all lost.
    pub muted: Vec<Bytes>,
    /// Whose acknowledgements of streams' catchups are all lost.
    without_acks: BTreeSet<Machine>,
    /// Some of the messages that were sent, for when they come once more.
    old: Vec<Envelope>,
    /// The last questions for votes, which are few.
    old_questions: VecDeque<Envelope>,
    /// Some of the last messages of catchups, which may outlive what they were sent for.
    old_catchups: VecDeque<Envelope>,
    old_dice: Dice,
    dice: Dice,
    machines: usize,
    links: Vec<Link>,
}

#[derive(Clone, Debug, Default)]
struct Link {
    cut: bool,
    /// Slow and narrow: how much longer a message takes, and bytes a second.
    slow: Option<(Duration, u64)>,
    clogged_until: Time,
    last_arrival: Time,
}

impl Network {
    /// Whole links between this many machines.
    pub fn new(machines: usize, conditions: NetworkConditions, mut dice: Dice) -> Self {
        Self {
            conditions,
            muted: Vec::new(),
            without_acks: BTreeSet::new(),
            old: Vec::new(),
            old_questions: VecDeque::new(),
            old_catchups: VecDeque::new(),
            old_dice: dice.fork(),
            dice,
            machines,
            links: vec![Link::default(); machines * machines],
        }
    }

    fn link(&mut self, from: Machine, to: Machine) -> &mut Link {
        &mut self.links[from.0 * self.machines + to.0]
    }

    /// Whether messages from one machine cannot reach the other.
    pub fn is_cut(&self, from: Machine, to: Machine) -> bool {
        self.links[from.0 * self.machines + to.0].cut
    }

    /// Cuts one direction; what is on its way is lost.
    pub fn cut(&mut self, from: Machine, to: Machine) {
        self.link(from, to).cut = true;
    }

    /// Mends one direction.
    pub fn mend(&mut self, from: Machine, to: Machine) {
        *self.link(from, to) = Link::default();
    }

    /// Mends every link.
    pub fn mend_all(&mut self) {
        self.links.fill(Link::default());
    }

    /// Holds everything on a link until a moment; then it arrives in one burst.
    pub fn clog(&mut self, from: Machine, to: Machine, until: Time) {
        self.link(from, to).clogged_until = until;
    }

    /// Makes a link slow and narrow: a message takes so much longer, and waits for those before it.
    pub fn slow(&mut self, from: Machine, to: Machine, delay: Duration, bytes_per_second: u64) {
        self.link(from, to).slow = Some((delay, bytes_per_second));
    }

    /// Whether messages of a machine to a subject are all lost.
    pub fn mutes(&self, from: Machine, subject: &Subject) -> bool {
        let bytes = subject.as_bytes();
        self.muted.iter().any(|prefix| bytes.starts_with(prefix))
            || self.without_acks.contains(&from) && bytes.starts_with(CATCHUP_ACKS)
    }

    /// Loses every acknowledgement of a stream's catchup that a machine sends.
    pub fn lose_acks_of(&mut self, machine: Machine) {
        self.without_acks.insert(machine);
    }

    /// The acknowledgements of a machine travel again.
    pub fn hear_acks_of(&mut self, machine: Machine) {
        self.without_acks.remove(&machine);
    }

    /// Keeps a message, now and then, for when it comes once more.
    pub fn remember(&mut self, envelope: &Envelope) {
        if envelope.subject.as_bytes().starts_with(QUESTIONS) {
            if self.old_questions.len() == OLD_QUESTIONS {
                self.old_questions.pop_front();
            }
            self.old_questions.push_back(envelope.clone());
        }
        let (chance, most) = KEPT_OF_CATCHUPS;
        let of_catchup = |prefix: &&[u8]| envelope.subject.as_bytes().starts_with(prefix);
        if CATCHUPS.iter().any(of_catchup) && self.old_dice.chance(chance) {
            if self.old_catchups.len() == most {
                self.old_catchups.pop_front();
            }
            self.old_catchups.push_back(envelope.clone());
        }
        if !self.old_dice.chance(REMEMBERED) {
            return;
        }
        if self.old.len() < OLD_MESSAGES {
            self.old.push(envelope.clone());
        } else {
            let place = self.old_dice.place(OLD_MESSAGES);
            self.old[place] = envelope.clone();
        }
    }

    /// One of the messages that were sent, from any time; every fourth a question for votes, every
    /// fourth of a catchup, if there was one.
    pub fn old_message(&self, dice: &mut Dice) -> Option<&Envelope> {
        let rare = match dice.below(4) {
            0 => self.old_questions.get(dice.place(self.old_questions.len())),
            1 => self.old_catchups.get(dice.place(self.old_catchups.len())),
            _ => None,
        };
        rare.or_else(|| dice.pick(&self.old))
    }

    /// Sends a message of so many bytes over a link.
    pub fn pass(&mut self, now: Time, from: Machine, to: Machine, bytes: usize) -> Passage {
        if self.is_cut(from, to) {
            return Passage::default();
        }
        if self.dice.chance(self.conditions.drops) {
            return Passage { dropped: true, ..Passage::default() };
        }
        let mut arrivals = vec![self.arrival(now, from, to, bytes)];
        if self.dice.chance(self.conditions.doubles) {
            let stale = Duration::ZERO..self.conditions.stale;
            arrivals.push(arrivals[0] + self.dice.duration(&stale));
        }
        Passage { arrivals, dropped: false }
    }

    fn arrival(&mut self, now: Time, from: Machine, to: Machine, bytes: usize) -> Time {
        let conditions = &self.conditions;
        let mut travels = self.dice.duration(&conditions.delay);
        let slow = self.links[from.0 * self.machines + to.0].slow;
        if let Some((delay, bytes_per_second)) = slow {
            let nanos = bytes as u64 * 1_000_000_000 / bytes_per_second.max(1);
            let link = self.link(from, to);
            // One after the other: what waits makes the next wait longer.
            link.last_arrival = link.last_arrival.max(now + travels + delay);
            link.last_arrival = link.last_arrival + Duration::from_nanos(nanos);
            return link.last_arrival;
        }
        if let Some(nanos) = (bytes as u64 * 1_000_000_000).checked_div(conditions.bytes_per_second)
        {
            travels += Duration::from_nanos(nanos);
        }
        if self.dice.chance(conditions.overtaken) {
            let held_up = Duration::ZERO..conditions.held_up;
            return now + travels + self.dice.duration(&held_up);
        }
        let link = self.link(from, to);
        link.last_arrival = (now + travels).max(link.last_arrival).max(link.clogged_until);
        link.last_arrival
    }
}

/// What one process listens to.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions {
    literals: BTreeSet<Bytes>,
    /// Subjects whose last token is `*`, without it.
    prefixes: BTreeSet<Bytes>,
}

impl Subscriptions {
    /// Listens to a subject.
    ///
    /// # Errors
    /// That it is not one that can be listened to, or is already.
    pub fn add(&mut self, subject: &Subject) -> Result<(), String> {
        let (set, key) = self.place(subject)?;
        if set.insert(key) { Ok(()) } else { Err(format!("subscribes to {subject} twice")) }
    }

    /// Listens no longer.
    ///
    /// # Errors
    /// That it was not listened to.
    pub fn remove(&mut self, subject: &Subject) -> Result<(), String> {
        let (set, key) = self.place(subject)?;
        if set.remove(&key) {
            Ok(())
        } else {
            Err(format!("unsubscribes from {subject}, to which it does not listen"))
        }
    }

    fn place(&mut self, subject: &Subject) -> Result<(&mut BTreeSet<Bytes>, Bytes), String> {
        let bytes = subject.as_bytes();
        let (set, key) = match bytes.strip_suffix(b".*") {
            Some(prefix) => (&mut self.prefixes, bytes.slice_ref(prefix)),
            None => (&mut self.literals, bytes.clone()),
        };
        if is_literal(&key) { Ok((set, key)) } else { Err(format!("listens to {subject}")) }
    }

    /// Whether a message to this subject is heard.
    pub fn hear(&self, subject: &Subject) -> bool {
        let bytes = subject.as_bytes();
        self.literals.contains(bytes)
            || bytes
                .iter()
                .rposition(|byte| *byte == b'.')
                .is_some_and(|dot| self.prefixes.contains(&bytes[..dot]))
    }
}

/// Whether a message can be sent there: tokens of visible characters, and no wildcard.
pub fn is_literal(subject: &[u8]) -> bool {
    subject.split(|byte| *byte == b'.').all(|token| {
        !token.is_empty()
            && token.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Machine = Machine(0);
    const B: Machine = Machine(1);

    fn network(change: impl FnOnce(&mut NetworkConditions)) -> Network {
        let mut conditions = NetworkConditions::default();
        change(&mut conditions);
        Network::new(2, conditions, Dice::new(1))
    }

    #[test]
    fn a_whole_link_keeps_the_order_and_a_cut_goes_one_way() {
        let mut network = network(|_| ());
        let mut before = Time::ZERO;
        for nanos in 0..1000 {
            let passage = network.pass(Time::from_nanos(nanos), A, B, 100);
            assert!(passage.arrivals.len() == 1 && passage.arrivals[0] >= before);
            before = passage.arrivals[0];
        }
        network.cut(A, B);
        assert_eq!(network.pass(Time::ZERO, A, B, 1), Passage::default());
        assert_eq!(network.pass(Time::ZERO, B, A, 1).arrivals.len(), 1);
        network.mend_all();
        assert_eq!(network.pass(Time::ZERO, A, B, 1).arrivals.len(), 1);
    }

    #[test]
    fn drops_doubles_and_disorder_happen_as_often_as_they_should() {
        let mut network = network(|conditions| {
            conditions.drops = 100_000;
            conditions.doubles = 100_000;
            conditions.overtaken = 100_000;
        });
        let mut counts = [0; 4];
        let mut before = Time::ZERO;
        for micros in 0..10_000_u64 {
            let passage = network.pass(Time::from_nanos(micros * 1000), A, B, 1);
            counts[passage.arrivals.len()] += 1;
            if let Some(first) = passage.arrivals.first() {
                counts[3] += usize::from(*first < before);
                before = *first;
            }
        }
        assert!((800..1200).contains(&counts[0]), "{counts:?}");
        assert!((700..1100).contains(&counts[2]), "{counts:?}");
        assert!(counts[3] > 300, "{counts:?}");
    }

    #[test]
    fn a_clogged_link_lets_everything_through_at_once() {
        let mut network = network(|_| ());
        let until = Time::from_nanos(1_000_000_000);
        network.clog(A, B, until);
        for _ in 0..3 {
            assert_eq!(network.pass(Time::ZERO, A, B, 1).arrivals, [until]);
        }
    }

    #[test]
    fn hears_literals_and_a_last_token_of_any_kind() {
        let mut heard = Subscriptions::default();
        let subject = |text: &str| Subject::from(text.to_string());
        heard.add(&subject("$NRG.AE.g")).unwrap();
        heard.add(&subject("$JSC.ACK.abc.*")).unwrap();
        for (text, expected) in [
            ("$NRG.AE.g", true),
            ("$NRG.AE.h", false),
            ("$JSC.ACK.abc.17", true),
            ("$JSC.ACK.abc.17.18", false),
            ("$JSC.ACK.abc", false),
        ] {
            assert_eq!(heard.hear(&subject(text)), expected, "{text}");
        }
        assert!(heard.add(&subject("$NRG.AE.g")).is_err());
        assert!(heard.remove(&subject("$JSC.ACK.abd.*")).is_err());
        heard.remove(&subject("$JSC.ACK.abc.*")).unwrap();
        assert!(!heard.hear(&subject("$JSC.ACK.abc.17")));
        for bad in ["a..b", "a.*.b", "a.>", "", "a b"] {
            assert!(heard.add(&subject(bad)).is_err(), "{bad}");
        }
    }
}
