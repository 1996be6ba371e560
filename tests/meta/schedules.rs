//! Streams and consumers that come and go, and consumers that grow and shrink, while servers do come
//! and go: whatever happens, all servers end with what is assigned, open and on disk, and with nothing
//! else, and a consumer knows all that it was said to have delivered.

use std::collections::{BTreeMap, BTreeSet};

use jetwake::consumer::Wish;
use jetwake::event::Request;
use jetwake::ids::{RequestId, Sequence};
use jetwake::random::Random;
use jetwake::time::Duration;
use jetwake::wire::GoTime;

use crate::rig::{META, Servers, api};

const NAMES: [&str; 4] = ["A", "B", "C", "D"];
const SERVERS: usize = 3;

/// What was asked of one stream, in order, and what is known of it.
#[derive(Debug, Default)]
struct History {
    /// The last wish that came true, and whether it was a creation.
    last: Option<bool>,
    /// Wishes whose end nobody knows.
    open: Vec<(RequestId, bool)>,
    /// Whether an end stayed unknown since the last that is known.
    unknown: bool,
}

/// A consumer: its stream, and when it was created.
type Made = (&'static str, GoTime);

struct Play {
    servers: Servers,
    random: Random,
    down: BTreeSet<usize>,
    cut_off: Option<usize>,
    histories: BTreeMap<&'static str, History>,
    /// The last message that was delivered by any consumer.
    sequence: u64,
    /// Deliveries whose end nobody knows yet.
    steps: Vec<(RequestId, Made, u64)>,
    /// The last message that each consumer said it has delivered.
    delivered: BTreeMap<Made, u64>,
}

impl Play {
    fn new(seed: u64) -> Self {
        Self {
            servers: Servers::led(SERVERS),
            random: Random::new(seed),
            down: BTreeSet::new(),
            cut_off: None,
            histories: NAMES.map(|name| (name, History::default())).into(),
            sequence: 0,
            steps: Vec::new(),
            delivered: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        let name = NAMES[self.random.below(NAMES.len())];
        let at = self.random.below(SERVERS);
        match self.random.below(16) {
            0..=3 => {
                let replicas = [1, 3][self.random.below(2)];
                let wish = format!(
                    r#"{{"name":"{name}","subjects":["{name}.>"],"num_replicas":{replicas}}}"#
                );
                self.ask(name, true, &format!("STREAM.CREATE.{name}"), &wish);
            }
            4 | 5 => self.ask(name, false, &format!("STREAM.DELETE.{name}"), ""),
            6 => {
                let replicas = [0, 1, 3][self.random.below(3)];
                let wish = format!(
                    r#"{{"stream_name":"{name}","config":{{"durable_name":"d","num_replicas":{replicas}}}}}"#
                );
                self.request(&format!("CONSUMER.CREATE.{name}.d"), &wish);
            }
            7 => {
                self.request(&format!("CONSUMER.DELETE.{name}.d"), "");
            }
            8 if self.all_well() => {
                self.servers.stop(at);
                self.down.insert(at);
            }
            9 => self.start_all(),
            10 if !self.down.contains(&at) => {
                self.servers.ask(at, META, Request::Snapshot);
            }
            12 if self.all_well() => {
                self.servers.cut_off(at, true);
                self.cut_off = Some(at);
            }
            13 => self.let_back(),
            14 | 15 => self.deliver(name),
            // The power goes everywhere.
            11 if self.random.below(4) == 0 => {
                (0..SERVERS).for_each(|at| self.servers.stop(at));
                self.down.extend(0..SERVERS);
                self.start_all();
            }
            _ => {}
        }
        let pause = Duration::ZERO..Duration::from_secs([0, 1, 20][self.random.below(3)]);
        let pause = self.random.duration(pause);
        self.servers.wait(pause);
        self.hear();
        self.hear_steps();
    }

    fn all_well(&self) -> bool {
        self.down.is_empty() && self.cut_off.is_none()
    }

    fn let_back(&mut self) {
        if let Some(at) = self.cut_off.take() {
            self.servers.cut_off(at, false);
        }
    }

    fn start_all(&mut self) {
        for at in std::mem::take(&mut self.down) {
            self.servers.start(at);
        }
    }

    /// The next message of a consumer is delivered; the answer is heard later.
    fn deliver(&mut self, name: &'static str) {
        self.sequence += 1;
        let wish = Wish::Deliver { sequence: Sequence::new(self.sequence) };
        if let Some((id, created)) = self.servers.ask_step(name, "d", wish) {
            self.steps.push((id, (name, created), self.sequence));
        }
    }

    fn request(&mut self, subject: &str, payload: &str) -> Option<RequestId> {
        let leader = self.servers.leader()?;
        Some(self.servers.ask(leader, META, api(subject, payload)))
    }

    fn ask(&mut self, name: &'static str, creates: bool, subject: &str, payload: &str) {
        if let Some(id) = self.request(subject, payload) {
            self.histories.entry(name).or_default().open.push((id, creates));
        }
    }

    fn hear_steps(&mut self) {
        for (id, consumer, sequence) in std::mem::take(&mut self.steps) {
            match self.servers.answer(id) {
                Some(answer) if answer["stream_seq"] == sequence => {
                    let last = self.delivered.entry(consumer).or_default();
                    *last = sequence.max(*last);
                }
                Some(_) => {}
                None => self.steps.push((id, consumer, sequence)),
            }
        }
    }

    fn check_delivered(&mut self, seed: u64) {
        for ((name, created), sequence) in std::mem::take(&mut self.delivered) {
            let leader = self.servers.leader().expect("the meta group has a leader");
            if self.servers.consumer_created(leader, name, "d") == Some(created) {
                let info = self.servers.consumer_info(name, "d");
                let knows = info["delivered"]["stream_seq"].as_u64();
                assert!(knows >= Some(sequence), "seed {seed}: {sequence} of {name}: {info}");
            }
        }
    }

    /// What clients were told meanwhile; wishes of one stream end in the order in which they were made.
    fn hear(&mut self) {
        for history in self.histories.values_mut() {
            for (id, creates) in std::mem::take(&mut history.open) {
                let Some(answer) = self.servers.answer(id) else {
                    history.open.push((id, creates));
                    continue;
                };
                match answer["error"]["err_code"].as_u64() {
                    None => (history.last, history.unknown) = (Some(creates), false),
                    // Whether it was committed is not known.
                    Some(10008) => history.unknown = true,
                    Some(_) => {}
                }
            }
        }
    }

    fn check(&mut self, seed: u64) {
        self.start_all();
        self.let_back();
        self.servers.wait(Duration::from_secs(60));
        self.hear();
        self.hear_steps();
        self.check_delivered(seed);
        assert_eq!(self.servers.complaints, [""; 0], "seed {seed}");
        let names = self.servers.api("STREAM.NAMES", "");
        let names: Vec<String> = serde_json::from_value(names["streams"].clone()).expect("a list");
        for (name, history) in &self.histories {
            // Who died had no word for those who waited.
            let known = !history.unknown && history.open.is_empty();
            if let Some(created) = history.last.filter(|_| known) {
                let there = names.iter().any(|there| there == name);
                assert_eq!(there, created, "seed {seed}: {name}, of which all is known");
            }
        }
        let groups = self.assigned_groups(&names);
        for at in 0..SERVERS {
            let mine = |(_, peers): &(&String, &Vec<String>)| {
                peers
                    .contains(&jetwake::ids::PeerId::from_name(&format!("n{}", at + 1)).to_string())
            };
            let expected: Vec<String> =
                groups.iter().filter(mine).map(|(group, _)| group.clone()).collect();
            assert_eq!(self.servers.on_disk(at), expected, "seed {seed}: the disk of {at}");
            let mut open = self.servers.open_groups(at);
            open.sort();
            assert_eq!(open, expected, "seed {seed}: open on {at}");
            assert!(self.servers.healthy(at), "seed {seed}: {at}");
        }
    }

    /// The groups of all streams and consumers, and on which servers they are.
    fn assigned_groups(&mut self, names: &[String]) -> BTreeMap<String, Vec<String>> {
        let leader = self.servers.leader().expect("the meta group has a leader");
        self.servers.ask(leader, META, Request::Snapshot);
        self.servers.wait(Duration::from_secs(1));
        let data = self.servers.meta_snapshot(leader);
        let limits = jetwake::limits::Limits::default();
        let snapshot = jetwake::wire::MetaSnapshot::decode(&data, &limits).expect("it is whole");
        assert_eq!(snapshot.streams.len(), names.len());
        let groups = snapshot.streams.iter().flat_map(|stream| {
            let consumers = stream.consumers.iter().map(|consumer| &consumer.group);
            consumers.chain([&stream.stream.group])
        });
        let peers = |group: &jetwake::wire::RaftGroup| {
            group.peers.iter().map(ToString::to_string).collect()
        };
        groups.map(|group| (group.name.clone(), peers(group))).collect()
    }
}

/// Red when a removal is forgotten, when something is erased that is assigned, or when what a client
/// was told does not hold.
#[test]
fn all_servers_end_with_what_is_assigned_and_nothing_else() {
    for seed in 1..=60 {
        let mut play = Play::new(seed);
        for _ in 0..60 {
            play.step();
        }
        play.check(seed);
    }
}
