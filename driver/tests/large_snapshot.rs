//! A state of some hundred megabytes on a real disk: written, read back, verified at a start and handed
//! out again, and what that takes of memory.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::{CheckpointNews, Command};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{CheckpointStep, Event, MachineSays, Opened, Request, SnapshotFound};
use jetwake::ids::{GroupId, GroupName, Index, RequestId};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::time::Time;
use jetwake_driver::disk::Disk;

const GROUP: GroupId = GroupId(0);
const MIB: u64 = 1 << 20;
/// Bytes of the state.
const STATE: u64 = 300 * MIB;
/// Bytes that the process may take, beside what it takes with nothing to do.
const BOUND: u64 = 48 * MIB;

fn group() -> GroupName {
    GroupName::new("LARGE").expect("letters are a name")
}

/// A part of the state: each MiB is made of its number.
fn part(number: u64) -> Bytes {
    number.to_le_bytes().repeat(MIB as usize / 8).into()
}

/// The most memory that the process ever took, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it is told");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") * 1024
}

/// A lone member on a disk.
struct Member {
    node: Node,
    /// What the clock of the test shows: it jumps to what the node waits for.
    now: Time,
    disk: Disk,
    events: Receiver<Event>,
    /// Bytes of the state that were handed in, are written, and were handed out.
    handed: u64,
    written: u64,
    taken: u64,
    durable: bool,
    applied: Index,
}

impl Member {
    fn start(folder: &Path) -> (Self, Opened) {
        let (sender, events) = channel();
        let (disk, mut opened) = Disk::open(folder, &[group()], move |event| {
            let _ = sender.send(event);
        })
        .expect("a folder of its own");
        let opened = opened.remove(0);
        let members = vec!["n1".into()];
        let config = Config {
            name: "n1".into(),
            domain: String::new(),
            seed: 1,
            limits: Limits::default(),
            timers: Timers::default(),
            groups: vec![GroupConfig { name: group(), members, kind: GroupKind::Plain }],
        };
        let node = Node::new(config).expect("it works");
        let (handed, written, taken) = (0, 0, 0);
        let (durable, applied) = (false, Index::ZERO);
        let mut member =
            Self { node, now: Time::ZERO, disk, events, handed, written, taken, durable, applied };
        member.tell(Event::Opened { group: GROUP, disk: opened.clone() });
        (member, opened)
    }

    fn tell(&mut self, event: Event) {
        self.node.handle(self.now, event);
        while let Some(command) = self.node.poll() {
            if let Some(command) = self.disk.perform(command) {
                self.perform(command);
            }
        }
    }

    fn says(&mut self, says: MachineSays) {
        self.node.handle(self.now, Event::Machine { group: GROUP, says });
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Apply { index, .. } => {
                self.applied = index;
                self.says(MachineSays::Processed { through: index, applied: index });
            }
            Command::ApplySnapshotPart { index, offset, part: bytes, last, .. } => {
                assert_eq!(offset, self.taken);
                let number = offset / MIB;
                let two = [part(number), part(number + 1)].concat();
                let from = (offset % MIB) as usize;
                assert!(two[from..].starts_with(&bytes), "the state behind byte {offset}");
                self.taken += bytes.len() as u64;
                self.says(match last {
                    true => MachineSays::Processed { through: index, applied: index },
                    false => MachineSays::TookPart { index, through: self.taken },
                });
            }
            Command::Checkpoint { news, .. } => match news {
                CheckpointNews::Begun { id, .. } => self.hand_in(id),
                CheckpointNews::Written { id, bytes } => {
                    self.written = bytes;
                    self.hand_in(id);
                }
                CheckpointNews::Durable { .. } => self.durable = true,
                other => panic!("{other:?}"),
            },
            _ => {}
        }
    }

    fn hand_in(&mut self, id: jetwake::ids::CheckpointId) {
        let step = |step| MachineSays::Checkpoint(step);
        while self.handed < STATE && self.handed + MIB <= self.written + 4 * MIB {
            let part = part(self.handed / MIB);
            self.says(step(CheckpointStep::Write { id, part }));
            self.handed += MIB;
            if self.handed == STATE {
                self.says(step(CheckpointStep::Finish(id)));
            }
        }
    }

    /// What the disk says is told until this is so.
    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let mut idle = 0;
        while !so(self) {
            match self.events.recv_timeout(Duration::from_millis(1)) {
                Ok(event) => {
                    idle = 0;
                    self.tell(event);
                }
                Err(_) => {
                    idle += 1;
                    assert!(idle < 60_000, "the disk says nothing, and it is not so that {what}");
                    // Not while the disk is at work on what was asked before.
                    if let Some((at, _)) = self.node.deadline().filter(|_| idle % 1_000 == 0) {
                        self.now = self.now.max(at);
                        self.tell(Event::DeadlineReached);
                    }
                }
            }
        }
    }
}

#[test]
fn a_large_state_on_a_real_disk_is_never_in_memory_whole() {
    let folder = tempfile::tempdir().expect("a folder for files that are thrown away");
    let (mut member, _) = Member::start(folder.path());
    member.until("it leads", |member| {
        let status = member.node.status(GROUP);
        status.is_some_and(|it| it.leader_since.is_some() && it.applied > Index::ZERO)
    });
    let [subject, header, payload] = [Bytes::new(), Bytes::new(), Bytes::from_static(b"entry")];
    let request = Request::Publish { subject, header, payload };
    member.tell(Event::Request { id: RequestId::new(1), group: GROUP, request });
    member.until("an entry is applied", |member| member.applied.get() > 1);
    let idle = peak();

    let step = MachineSays::Checkpoint(CheckpointStep::Begin { force: false });
    member.tell(Event::Machine { group: GROUP, says: step });
    member.until("the snapshot is durable", |member| member.durable);
    let made = peak();
    member.disk.close();

    let (mut member, opened) = Member::start(folder.path());
    let Some(SnapshotFound::InParts { length }) = opened.snapshot else {
        panic!("{:?}", opened.snapshot)
    };
    assert!(length > STATE);
    member.until("the machine has it again", |member| member.taken == STATE);
    let started = peak();
    println!(
        "{} MiB: {} KiB of memory with nothing to do, at most {} while it is made, {} at a start",
        STATE / MIB,
        idle / 1024,
        made / 1024,
        started / 1024
    );
    assert!(started < idle + BOUND, "{started} bytes, with nothing to do {idle}");
}
