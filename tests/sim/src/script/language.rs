//! The words of a script: one command a line, or several between semicolons.
//!
//! Machines are `n1`, `n2`…; times are `5ms`, `2s`; texts stand in double quotes; what may be left
//! out is written `name=value`.

use std::collections::BTreeMap;
use std::str::FromStr;

use jetwake::ids::Sequence;
use jetwake::time::Duration;

use crate::membership::Change;
use crate::network::Machine;

/// One thing that a script asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A cluster starts.
    Cluster(ClusterPlan),
    /// An election timer runs out.
    Campaign(Machine),
    /// Time passes until nothing is on its way.
    Deliver,
    /// Time passes.
    Wait(Duration),
    /// A client publishes.
    Publish(Machine, Publish),
    /// A client deletes a message.
    Delete(Machine, Sequence),
    /// A client purges.
    Purge(Machine, Purge),
    /// A member is asked for a snapshot.
    Snapshot(Vec<Machine>),
    /// The leader is asked to hand over.
    Transfer(Option<Machine>),
    /// The leader is asked to change the members.
    Change(Change),
    /// Nothing gets from one to the other, nor back.
    Cut(Machine, Machine),
    /// Nothing gets from one to the other.
    CutOneWay(Machine, Machine),
    /// A machine reaches nobody, and nobody reaches it.
    Isolate(Machine),
    /// Every link is whole again.
    Mend,
    /// What one sends to the other is held back for a while.
    Hold(Machine, Machine, Duration),
    /// Processes die.
    Crash(Machines),
    /// Processes start on what their disks hold.
    Restart(Machines),
    /// A process gets nothing done.
    Pause(Machine),
    /// It goes on.
    Resume(Machine),
    /// No space is left on a disk.
    FullDisk(Machine),
    /// Space is made on it.
    FreeDisk(Machine),
    /// The next sync of a disk fails.
    FailFsync(Machine),
    /// Everything that a disk does takes so many times as long.
    SlowDisk(Machine, u32),
    /// How every member stands.
    Status,
    /// What every log holds.
    Logs,
    /// What every store holds.
    Contents,
    /// Something must be so.
    Expect(Expectation),
}

/// Some machines, or every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machines {
    /// Every machine.
    All,
    /// These.
    These(Vec<Machine>),
}

/// What a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// How many machines.
    pub machines: usize,
    /// How many of them, the first ones, are members from the beginning.
    pub founders: usize,
    /// Whether the group is a stream.
    pub stream: bool,
    /// What chance follows from.
    pub seed: u64,
    /// Whether election timers run out by themselves after 4 to 9 seconds, and not only when the
    /// script says so.
    pub own_timers: bool,
    /// Who is elected before the story begins, if somebody is.
    pub leader: Option<Machine>,
    /// How many bytes of a log's catchup are in flight at most.
    pub window: Option<u64>,
    /// Bytes of a part of a snapshot; larger ones come in parts.
    pub part: Option<u64>,
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Its body, and its id if none is given.
    pub text: String,
    /// Where to.
    pub subject: String,
    /// Its message id.
    pub id: Option<String>,
    /// The last sequence that the stream must have.
    pub last: Option<u64>,
    /// The last sequence that its subject must have.
    pub last_of_subject: Option<u64>,
    /// The last message id that the stream must have.
    pub last_id: Option<String>,
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Only of this subject; of all if empty.
    pub subject: String,
    /// Only below this sequence; all if zero.
    pub below: u64,
    /// All but so many of the newest.
    pub keep: u64,
}

/// What must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// This machine leads, or nobody does.
    Leader(Option<Machine>),
    /// The leader counts these members, and no change of them is under way.
    Members(Vec<Machine>),
    /// This machine takes part in nothing.
    Aside(Machine),
    /// This machine's log is being caught up.
    CatchingUp(Machine),
    /// All logs or stores hold the same.
    Alike,
    /// Every machine that runs has this text applied.
    Kept(String),
    /// No log and no store holds this text.
    Lost(String),
}

/// One token: a word, or a text in quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
}

/// Reads a line of commands.
///
/// # Errors
/// What is wrong with it.
pub fn read(line: &str) -> Result<Vec<Act>, String> {
    tokens(line)?.into_iter().map(|tokens| Words::new(tokens)?.act()).collect()
}

fn tokens(line: &str) -> Result<Vec<Vec<Token>>, String> {
    let mut commands = vec![Vec::new()];
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let last = commands.len() - 1;
        let Some(first) = rest.chars().next() else { break };
        match first {
            ';' => {
                commands.push(Vec::new());
                rest = &rest[1..];
            }
            '"' => {
                let end = rest[1..].find('"').ok_or("a text has no second quote")?;
                commands[last].push(Token::Text(rest[1..=end].to_string()));
                rest = &rest[end + 2..];
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(rest.len());
                commands[last].push(Token::Word(rest[..end].to_string()));
                rest = &rest[end..];
            }
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("found nothing, expected a command".into());
    }
    Ok(commands)
}

/// The words of one command: its name, what stands in order, and what is named.
struct Words {
    name: String,
    plain: std::vec::IntoIter<Token>,
    named: BTreeMap<String, String>,
}

impl Words {
    fn new(tokens: Vec<Token>) -> Result<Self, String> {
        let mut tokens = tokens.into_iter();
        let Some(Token::Word(name)) = tokens.next() else {
            return Err("found a text, expected a command".into());
        };
        let (mut plain, mut named) = (Vec::new(), BTreeMap::new());
        for token in tokens {
            let pair = match &token {
                Token::Word(word) => word.split_once('='),
                Token::Text(_) => None,
            };
            match pair {
                Some((key, value)) => {
                    if named.insert(key.to_string(), value.to_string()).is_some() {
                        return Err(format!("{name}: {key} is given twice"));
                    }
                }
                None => plain.push(token),
            }
        }
        Ok(Self { name, plain: plain.into_iter(), named })
    }

    fn act(mut self) -> Result<Act, String> {
        let name = self.name.clone();
        let act = match name.as_str() {
            "cluster" => Act::Cluster(self.cluster()?),
            "campaign" => Act::Campaign(self.machine()?),
            "deliver" => Act::Deliver,
            "wait" => Act::Wait(self.time()?),
            "publish" => Act::Publish(self.machine()?, self.publish()?),
            "delete" => Act::Delete(self.machine()?, Sequence::new(self.number("a sequence")?)),
            "purge" => Act::Purge(self.machine()?, self.purge()?),
            "snapshot" => Act::Snapshot(self.machines()?),
            "transfer" => Act::Transfer(self.machine_if_any()?),
            "add" => Act::Change(Change::Add(self.machine()?)),
            "remove" => Act::Change(Change::Remove(self.machine()?)),
            "cut" => Act::Cut(self.machine()?, self.machine()?),
            "cut-one-way" => Act::CutOneWay(self.machine()?, self.machine()?),
            "isolate" => Act::Isolate(self.machine()?),
            "mend" => Act::Mend,
            "hold" => Act::Hold(self.machine()?, self.machine()?, self.time()?),
            "crash" => Act::Crash(self.machines_or_all()?),
            "restart" => Act::Restart(self.machines_or_all()?),
            "pause" => Act::Pause(self.machine()?),
            "resume" => Act::Resume(self.machine()?),
            "full-disk" => Act::FullDisk(self.machine()?),
            "free-disk" => Act::FreeDisk(self.machine()?),
            "fail-fsync" => Act::FailFsync(self.machine()?),
            "slow-disk" => Act::SlowDisk(self.machine()?, self.slowness()?),
            "status" => Act::Status,
            "logs" => Act::Logs,
            "contents" => Act::Contents,
            "expect" => Act::Expect(self.expectation()?),
            _ => return Err(format!("unknown command {name:?}")),
        };
        self.end()?;
        Ok(act)
    }

    fn wrong(&self, expected: &str, found: Option<&Token>) -> String {
        let found = match found {
            None => "nothing".into(),
            Some(Token::Word(word)) => format!("{word:?}"),
            Some(Token::Text(text)) => format!("the text {text:?}"),
        };
        format!("{}: found {found}, expected {expected}", self.name)
    }

    /// Everything must have been understood.
    fn end(mut self) -> Result<(), String> {
        if let Some(token) = self.plain.next() {
            return Err(self.wrong("the end of the command", Some(&token)));
        }
        match self.named.pop_first() {
            Some((key, _)) => Err(format!("{}: unknown argument {key:?}", self.name)),
            None => Ok(()),
        }
    }

    fn word(&mut self, expected: &str) -> Result<String, String> {
        match self.plain.next() {
            Some(Token::Word(word)) => Ok(word),
            found => Err(self.wrong(expected, found.as_ref())),
        }
    }

    fn text(&mut self, expected: &str) -> Result<String, String> {
        match self.plain.next() {
            Some(Token::Text(text)) => Ok(text),
            found => Err(self.wrong(expected, found.as_ref())),
        }
    }

    fn number<T: FromStr>(&mut self, expected: &str) -> Result<T, String> {
        let word = self.word(expected)?;
        word.parse().map_err(|_| self.wrong(expected, Some(&Token::Word(word))))
    }

    fn slowness(&mut self) -> Result<u32, String> {
        self.number("how many times as slow")
    }

    fn named_number(&mut self, key: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.named.remove(key) else { return Ok(None) };
        let wrong = |_| format!("{}: found {key}={value}, expected a number", self.name);
        value.parse().map(Some).map_err(wrong)
    }

    fn named_machine(&mut self, key: &str) -> Result<Option<Machine>, String> {
        self.named.remove(key).map(|word| self.read_machine(word)).transpose()
    }

    fn machine(&mut self) -> Result<Machine, String> {
        let word = self.word("a machine such as n1")?;
        self.read_machine(word)
    }

    fn read_machine(&self, word: String) -> Result<Machine, String> {
        let number = word.strip_prefix('n').and_then(|digits| digits.parse::<usize>().ok());
        match number.and_then(|number| number.checked_sub(1)) {
            Some(place) => Ok(Machine(place)),
            None => Err(self.wrong("a machine such as n1", Some(&Token::Word(word)))),
        }
    }

    fn machine_if_any(&mut self) -> Result<Option<Machine>, String> {
        if self.plain.as_slice().is_empty() { Ok(None) } else { self.machine().map(Some) }
    }

    fn machines(&mut self) -> Result<Vec<Machine>, String> {
        let mut machines = vec![self.machine()?];
        while !self.plain.as_slice().is_empty() {
            machines.push(self.machine()?);
        }
        Ok(machines)
    }

    fn machines_or_all(&mut self) -> Result<Machines, String> {
        if self.plain.as_slice() == [Token::Word("all".into())] {
            self.plain.next();
            return Ok(Machines::All);
        }
        self.machines().map(Machines::These)
    }

    fn time(&mut self) -> Result<Duration, String> {
        let expected = "a time such as 5ms or 2s";
        let word = self.word(expected)?;
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number = digits.parse::<u64>().ok();
        match (number, &word[digits.len()..]) {
            (Some(number), "ms") => Ok(Duration::from_millis(number)),
            (Some(number), "s") => Ok(Duration::from_secs(number)),
            _ => Err(self.wrong(expected, Some(&Token::Word(word)))),
        }
    }

    fn cluster(&mut self) -> Result<ClusterPlan, String> {
        let machines = self.number("how many machines")?;
        if !(1..=9).contains(&machines) {
            return Err(format!("cluster: found {machines} machines, expected 1 to 9"));
        }
        let founders = self.named_number("founders")?.and_then(|count| usize::try_from(count).ok());
        let founders = founders.unwrap_or(machines);
        if !(1..=machines).contains(&founders) {
            return Err(format!("cluster: found {founders} founders, expected 1 to {machines}"));
        }
        let mut plan = ClusterPlan {
            machines,
            founders,
            stream: false,
            seed: self.named_number("seed")?.unwrap_or(1),
            own_timers: false,
            leader: self.named_machine("leader")?.filter(|leader| leader.0 < machines),
            window: self.named_number("window")?,
            part: self.named_number("part")?,
        };
        while !self.plain.as_slice().is_empty() {
            match self.word("stream or own-timers")?.as_str() {
                "stream" => plan.stream = true,
                "own-timers" => plan.own_timers = true,
                other => {
                    let found = Token::Word(other.into());
                    return Err(self.wrong("stream or own-timers", Some(&found)));
                }
            }
        }
        Ok(plan)
    }

    fn publish(&mut self) -> Result<Publish, String> {
        let subject = match self.plain.as_slice().first() {
            Some(Token::Word(_)) => self.word("a subject")?,
            _ => "s.a".into(),
        };
        Ok(Publish {
            text: self.text("a text in quotes")?,
            subject,
            id: self.named.remove("id"),
            last: self.named_number("last")?,
            last_of_subject: self.named_number("last-of-subject")?,
            last_id: self.named.remove("last-id"),
        })
    }

    fn purge(&mut self) -> Result<Purge, String> {
        Ok(Purge {
            subject: self.named.remove("subject").unwrap_or_default(),
            below: self.named_number("below")?.unwrap_or(0),
            keep: self.named_number("keep")?.unwrap_or(0),
        })
    }

    fn expectation(&mut self) -> Result<Expectation, String> {
        let expected = "leader, members, aside, catching-up, alike, kept or lost";
        let word = self.word(expected)?;
        Ok(match word.as_str() {
            "leader" => match self.word("a machine, or nobody")? {
                nobody if nobody == "nobody" => Expectation::Leader(None),
                machine => Expectation::Leader(Some(self.read_machine(machine)?)),
            },
            "members" => Expectation::Members(self.machines()?),
            "aside" => Expectation::Aside(self.machine()?),
            "catching-up" => Expectation::CatchingUp(self.machine()?),
            "alike" => Expectation::Alike,
            "kept" => Expectation::Kept(self.text("a text in quotes")?),
            "lost" => Expectation::Lost(self.text("a text in quotes")?),
            _ => return Err(self.wrong(expected, Some(&Token::Word(word)))),
        })
    }
}

impl Act {
    /// Every machine that it names.
    pub fn names(&self) -> Vec<Machine> {
        match self {
            Self::Campaign(one)
            | Self::Publish(one, _)
            | Self::Delete(one, _)
            | Self::Purge(one, _)
            | Self::Isolate(one)
            | Self::Pause(one)
            | Self::Resume(one)
            | Self::FullDisk(one)
            | Self::FreeDisk(one)
            | Self::FailFsync(one)
            | Self::SlowDisk(one, _)
            | Self::Transfer(Some(one))
            | Self::Change(Change::Add(one) | Change::Remove(one))
            | Self::Expect(
                Expectation::Leader(Some(one))
                | Expectation::Aside(one)
                | Expectation::CatchingUp(one),
            ) => vec![*one],
            Self::Cut(one, other) | Self::CutOneWay(one, other) | Self::Hold(one, other, _) => {
                vec![*one, *other]
            }
            Self::Snapshot(these)
            | Self::Expect(Expectation::Members(these))
            | Self::Crash(Machines::These(these))
            | Self::Restart(Machines::These(these)) => these.clone(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_commands_stand_in_a_line() {
        let acts = read("campaign n1; wait 20ms; publish n2 s.b \"x; y\" id=7").unwrap();
        assert_eq!(acts[..2], [Act::Campaign(Machine(0)), Act::Wait(Duration::from_millis(20))]);
        let Act::Publish(machine, publish) = &acts[2] else { panic!("{acts:?}") };
        assert_eq!((*machine, publish.text.as_str()), (Machine(1), "x; y"));
        assert_eq!((publish.subject.as_str(), publish.id.as_deref()), ("s.b", Some("7")));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, error) in [
            ("elect n1", "unknown command \"elect\""),
            ("campaign", "campaign: found nothing, expected a machine such as n1"),
            ("campaign n0", "campaign: found \"n0\", expected a machine such as n1"),
            ("campaign n1 n2", "campaign: found \"n2\", expected the end of the command"),
            ("wait 5", "wait: found \"5\", expected a time such as 5ms or 2s"),
            ("publish n1 a", "publish: found nothing, expected a text in quotes"),
            ("publish n1 \"a\" ids=3", "publish: unknown argument \"ids\""),
            ("publish n1 \"a", "a text has no second quote"),
            ("purge n1 below=x", "purge: found below=x, expected a number"),
            ("cluster 3 raft", "cluster: found \"raft\", expected stream or own-timers"),
            ("cluster 3 founders=4", "cluster: found 4 founders, expected 1 to 3"),
            ("cluster 10", "cluster: found 10 machines, expected 1 to 9"),
            (
                "expect peace",
                "expect: found \"peace\", expected leader, members, aside, catching-up, alike, kept or lost",
            ),
            ("deliver;", "found nothing, expected a command"),
        ] {
            assert_eq!(read(line).unwrap_err(), error, "{line}");
        }
    }
}
