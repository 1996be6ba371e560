//! How much memory a state of a gigabyte takes: it goes from the machine of a leader to its disk, to a
//! follower, to the follower's disk and to the follower's machine, and is never in memory as a whole.
//!
//! The state is made on the fly wherever it is needed, and held against that wherever it arrives, so
//! what is measured is what the two cores take, with all that is on its way between them.

use std::collections::VecDeque;

use allocation_counter::measure;
use bytes::Bytes;
use jetwake::command::{CheckpointNews, Command, Destination, LogChange, SnapshotFile};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{CheckpointStep, Event, MachineSays, Opened, Request};
use jetwake::ids::{CheckpointId, GroupId, GroupName, Index, PeerId, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::raft::Status;
use jetwake::subject::Subject;
use jetwake::time::Time;

const GROUP: GroupId = GroupId(0);
const MIB: u64 = 1 << 20;
/// Bytes of the state.
const STATE: u64 = 1 << 30;
/// Bytes that the two cores may take at any time, with what is on its way: the four parts that may
/// wait for a disk, as many on their way between the two, and the same once more for what this test
/// makes to compare.
const BOUND: u64 = 12 * MIB;

/// The state from one byte on: each KiB begins with its number.
fn state(from: u64, bytes: u64) -> Vec<u8> {
    let mut state = vec![0x5a; bytes as usize];
    let mut at = from.next_multiple_of(1024);
    while at + 8 <= from + bytes {
        let place = (at - from) as usize;
        state[place..place + 8].copy_from_slice(&at.to_le_bytes());
        at += 1024;
    }
    state
}

/// That these bytes are those of the state from there on. A number that a border cuts is not looked at.
fn assert_state(from: u64, bytes: &[u8]) {
    let expected = state(from, bytes.len() as u64);
    if bytes == expected {
        return;
    }
    let differ = bytes.iter().zip(&expected).position(|(one, other)| one != other);
    let near_border = |at: usize| at < 8 || at + 8 >= bytes.len();
    assert!(differ.is_none_or(near_border), "byte {differ:?} behind {from}");
}

/// The snapshot file of a member: its two ends; what is between is made when it is read.
#[derive(Debug, Default)]
struct File {
    head: Vec<u8>,
    length: u64,
    seal: Vec<u8>,
}

impl File {
    fn data_end(&self) -> u64 {
        self.head.len() as u64 + STATE
    }

    fn write(&mut self, offset: u64, part: &[u8]) {
        assert_eq!(offset, if offset == 0 { 0 } else { self.length }, "parts come in order");
        if offset == 0 {
            *self = Self::default();
            let peers = u32::from_le_bytes(part[16..20].try_into().expect("four bytes"));
            self.head = part[..20 + peers as usize].to_vec();
        }
        let data = &part[if offset == 0 { self.head.len() } else { 0 }..];
        let from = offset.saturating_sub(self.head.len() as u64);
        let here = (STATE - from.min(STATE)).min(data.len() as u64) as usize;
        assert_state(from, &data[..here]);
        self.seal.extend_from_slice(&data[here..]);
        self.length = offset + part.len() as u64;
    }

    fn read(&self, offset: u64, bytes: u64) -> Bytes {
        let head = self.head.len() as u64;
        let mut part = Vec::new();
        if offset < head {
            part.extend_from_slice(&self.head[offset as usize..]);
        }
        let from = (offset + part.len() as u64).min(self.data_end());
        let most = (bytes - part.len() as u64).min(self.data_end() - from);
        part.append(&mut state(from - head, most));
        let behind =
            (offset + part.len() as u64 - self.data_end().min(offset + part.len() as u64)) as usize;
        let left = (bytes as usize - part.len()).min(self.seal.len().saturating_sub(behind));
        part.extend_from_slice(&self.seal[behind.min(self.seal.len())..][..left]);
        part.into()
    }
}

/// A member, its disk and its machine.
struct Member {
    node: Node,
    me: PeerId,
    parts: File,
    current: File,
    /// What it is told next.
    events: VecDeque<Event>,
    /// The checkpoint that is made: what was handed in and what is written.
    making: Option<(CheckpointId, u64, u64)>,
    /// Bytes of the state that the machine took on.
    taken: u64,
    durable: bool,
}

impl Member {
    fn new(name: &str) -> Self {
        let group = GroupConfig {
            name: GroupName::new("G").expect("a letter is a name"),
            members: ["n1", "n2"].map(String::from).to_vec(),
            kind: GroupKind::Plain,
        };
        let config = Config {
            name: name.into(),
            domain: String::new(),
            seed: u64::from(name.as_bytes()[1]),
            limits: Limits::default(),
            timers: Timers::default(),
            groups: vec![group],
        };
        let disk = Opened::default();
        Self {
            node: Node::new(config).expect("it works"),
            me: PeerId::from_name(name),
            parts: File::default(),
            current: File::default(),
            events: VecDeque::from([Event::Opened { group: GROUP, disk }]),
            making: None,
            taken: 0,
            durable: false,
        }
    }

    fn status(&self) -> Status {
        self.node.status(GROUP).expect("it has one group")
    }

    fn write(&mut self, change: LogChange) {
        match change {
            LogChange::SnapshotPart { offset, part } => self.parts.write(offset, &part),
            LogChange::PlaceSnapshot { length, .. } => {
                assert_eq!(self.parts.length, length);
                self.current = std::mem::take(&mut self.parts);
            }
            LogChange::Snapshot { .. } => panic!("it is not small"),
            _ => {}
        }
    }

    fn checkpoint(&mut self, step: CheckpointStep) {
        let says = MachineSays::Checkpoint(step);
        self.events.push_back(Event::Machine { group: GROUP, says });
    }

    /// Hands in as much of the state as may wait for the disk.
    fn make(&mut self) {
        let Some((id, mut handed, written)) = self.making else { return };
        while handed < STATE && handed + MIB <= written + 4 * MIB {
            self.checkpoint(CheckpointStep::Write { id, part: state(handed, MIB).into() });
            handed += MIB;
            if handed == STATE {
                self.checkpoint(CheckpointStep::Finish(id));
            }
        }
        self.making = Some((id, handed, written));
    }

    fn hear(&mut self, news: CheckpointNews) {
        match news {
            CheckpointNews::Begun { id, .. } => self.making = Some((id, 0, 0)),
            CheckpointNews::Written { bytes, .. } => {
                if let Some(making) = &mut self.making {
                    making.2 = bytes;
                }
            }
            CheckpointNews::Durable { .. } => self.durable = true,
            other => panic!("{other:?}"),
        }
        self.make();
    }

    /// Performs a command; a message is given back.
    fn perform(
        &mut self,
        command: Command,
    ) -> Option<(Destination, Subject, Option<Subject>, Bytes)> {
        match command {
            Command::Send { to, subject, reply, payload } => {
                return Some((to, subject, reply, payload));
            }
            Command::Write { id, change, .. } => {
                self.write(change);
                self.events.push_back(Event::Written { through: id });
            }
            Command::LoadSnapshot { id, file, offset, bytes, .. } => {
                let file = match file {
                    SnapshotFile::Current => &self.current,
                    SnapshotFile::Parts => &self.parts,
                };
                let part = file.read(offset, bytes.get());
                self.events.push_back(Event::SnapshotLoaded { load: id, part });
            }
            Command::Apply { index, .. } => {
                self.events.push_back(Event::Applied { group: GROUP, through: index });
            }
            Command::ApplySnapshotPart { index, offset, part, last, .. } => {
                assert_eq!(offset, self.taken);
                assert_state(offset, &part);
                self.taken += part.len() as u64;
                let says = MachineSays::TookPart { index, through: self.taken };
                self.events.push_back(match last {
                    true => Event::Applied { group: GROUP, through: index },
                    false => Event::Machine { group: GROUP, says },
                });
            }
            Command::Checkpoint { news, .. } => self.hear(news),
            Command::ApplySnapshot { .. } => panic!("it is not small"),
            _ => {}
        }
        None
    }
}

/// The two members of a group.
struct Pair {
    members: [Member; 2],
    now: Time,
}

impl Pair {
    /// Everything that follows, at once.
    fn run(&mut self) {
        loop {
            let mut idle = true;
            for at in 0..2 {
                if let Some(event) = self.members[at].events.pop_front() {
                    self.members[at].node.handle(self.now, event);
                    idle = false;
                }
                while let Some(command) = self.members[at].node.poll() {
                    idle = false;
                    if let Some(message) = self.members[at].perform(command) {
                        self.send(at, message);
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn send(&mut self, from: usize, message: (Destination, Subject, Option<Subject>, Bytes)) {
        let (to, subject, reply, payload) = message;
        let other = 1 - from;
        let reaches = match to {
            Destination::Peers(peers) => peers.contains(&self.members[other].me),
            Destination::Subscribers => true,
        };
        if reaches {
            let from = Some(self.members[from].me);
            let event = Event::Received { from, subject, reply, payload };
            self.members[other].events.push_back(event);
        }
    }

    /// Time passes until this is so.
    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            self.run();
            if so(self) {
                return;
            }
            let deadlines = self.members.iter().filter_map(|member| member.node.deadline());
            let next = deadlines.map(|(at, _)| at).min().expect("somebody waits for something");
            self.now = self.now.max(next);
            for member in &mut self.members {
                member.node.handle(self.now, Event::DeadlineReached);
            }
        }
        panic!("it never came about that {what}");
    }
}

#[test]
fn a_state_of_a_gigabyte_passes_through_two_cores_in_little_memory() {
    let members = ["n1", "n2"].map(Member::new);
    let mut pair = Pair { members, now: Time::ZERO };
    pair.until("one leads and has applied its first record", |pair| {
        pair.members.iter().any(|member| {
            member
                .node
                .status(GROUP)
                .is_some_and(|s| s.leader_since.is_some() && s.commit > Index::ZERO)
        })
    });
    let leads = |member: &Member| member.status().leader_since.is_some();
    if leads(&pair.members[1]) {
        pair.members.swap(0, 1);
    }
    let payload = Bytes::from_static(b"an entry");
    let publish = Request::Publish { subject: Bytes::new(), header: Bytes::new(), payload };
    let event = Event::Request { id: RequestId::new(1), group: GROUP, request: publish };
    pair.members[0].events.push_back(event);
    pair.run();
    pair.until("it is committed", |pair| pair.members[0].status().machine_applied.get() >= 2);

    let made = measure(|| {
        pair.members[0].checkpoint(CheckpointStep::Begin { force: true });
        pair.until("the snapshot is durable", |pair| pair.members[0].durable);
    });
    // The follower's disk is new: it lacks everything.
    let name = if pair.members[1].me == PeerId::from_name("n1") { "n1" } else { "n2" };
    pair.members[1] = Member::new(name);
    let moved = measure(|| {
        pair.until("the follower has applied it", |pair| pair.members[1].taken == STATE);
    });
    println!(
        "peak of {} bytes while it is made, of {} while it moves, of the {BOUND} allowed",
        made.bytes_max, moved.bytes_max
    );
    assert!(made.bytes_max < BOUND, "{made:?}");
    assert!(moved.bytes_max < BOUND, "{moved:?}");
}
