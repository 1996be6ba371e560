//! The process on one machine: a node, what it listens to, and whether it runs.

use std::collections::{BTreeMap, VecDeque};

use jetwake::command::{Command, LogChange, Role};
use jetwake::event::Event;
use jetwake::ids::{GroupId, PeerId, Term};
use jetwake::node::{Node, Wake};
use jetwake::time::{Duration, Time};

use crate::clock::Clock;
use crate::cluster::Making;
use crate::network::{Machine, Subscriptions};
use crate::plain::PlainMachine;

/// How often in a row a node may ask to be woken at once before it is said to spin.
const SPINS: u32 = 100;

/// A machine's process; when it is down, what will be started again.
#[derive(Debug)]
pub struct Process {
    /// The node's peer id.
    pub peer: PeerId,
    /// What the machine's clock shows.
    pub clock: Clock,
    /// The node, while it runs.
    pub node: Option<Node>,
    /// Whether it runs, but gets nothing done.
    pub paused: bool,
    /// What happened while it was paused.
    pub held: VecDeque<Event>,
    /// What it listens to.
    pub subscriptions: Subscriptions,
    /// The next deadline.
    pub deadline: Option<Deadline>,
    /// The crash that awaits it, if one does.
    pub doom: Option<Doom>,
    /// The crash that awaits it when it next asks for a change of a log of some kind.
    pub dies_at_change: Option<ChangeDoom>,
    /// What it last said of its role in each group.
    pub roles: BTreeMap<GroupId, (Role, Term, Option<PeerId>)>,
    /// What it last said of the members of each group, and whether that was committed.
    pub members: BTreeMap<GroupId, (Vec<PeerId>, bool)>,
    /// Whether it said of any group that it stands aside.
    pub told_aside: bool,
    /// The machines of its plain groups.
    pub machines: BTreeMap<GroupId, PlainMachine>,
    /// How many events it was handed.
    pub events: u64,
    /// Which machines it was told that it reaches.
    pub told_connected: Vec<bool>,
    /// The checkpoints that the machines of its plain groups make.
    pub makings: BTreeMap<GroupId, Making>,
    spins: u32,
}

/// When a process wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When its driver wakes it, in true time.
    pub at: Time,
    /// When it asked to be woken, on its own clock.
    pub shown: Time,
    /// What for.
    pub why: Wake,
}

/// A crash between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doom {
    /// How many more commands are performed.
    pub commands: u32,
    /// How long the process is down then; for good if none.
    pub downtime: Option<Duration>,
}

/// A crash at a change of a log that is no record at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeDoom {
    /// Which change it is.
    pub change: RareChange,
    /// Whether the process dies before the change is asked for, and not behind it.
    pub before: bool,
    /// How long the process is down then.
    pub downtime: Duration,
}

/// A change of a log other than by a record at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RareChange {
    /// The first of these that comes.
    Any,
    /// Records at the end go.
    Truncation,
    /// Records at the beginning go, which a snapshot covers.
    Compaction,
    /// The whole log goes: a leader's snapshot takes its place.
    Reset,
    /// A snapshot, of its own or of a leader.
    Snapshot,
}

impl RareChange {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Any, Self::Truncation, Self::Compaction, Self::Reset, Self::Snapshot];

    /// Whether a command asks for a change of this kind.
    pub const fn is_asked_by(self, command: &Command) -> bool {
        let Command::Write { change, .. } = command else { return false };
        match self {
            Self::Any => !matches!(
                change,
                LogChange::Append { .. }
                    | LogChange::TermAndVote(_)
                    | LogChange::SnapshotPart { .. }
            ),
            Self::Truncation => matches!(change, LogChange::Truncate { .. }),
            Self::Compaction => matches!(change, LogChange::Compact { .. }),
            Self::Reset => matches!(change, LogChange::Reset { .. }),
            Self::Snapshot => {
                matches!(change, LogChange::Snapshot { .. } | LogChange::PlaceSnapshot { .. })
            }
        }
    }
}

impl Process {
    /// A process that was never started.
    pub fn new(machine: Machine, machines: usize, clock: Clock) -> Self {
        Self {
            peer: PeerId::from_name(&machine.to_string()),
            clock,
            node: None,
            paused: false,
            held: VecDeque::new(),
            subscriptions: Subscriptions::default(),
            deadline: None,
            doom: None,
            dies_at_change: None,
            roles: BTreeMap::new(),
            members: BTreeMap::new(),
            told_aside: false,
            machines: BTreeMap::new(),
            events: 0,
            told_connected: vec![false; machines],
            makings: BTreeMap::new(),
            spins: 0,
        }
    }

    /// Whether it runs, paused or not.
    pub const fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// It died: what it had in memory is gone.
    pub fn die(&mut self) {
        self.node = None;
        self.paused = false;
        self.held.clear();
        self.subscriptions = Subscriptions::default();
        self.deadline = None;
        self.doom = None;
        self.dies_at_change = None;
        self.roles.clear();
        self.members.clear();
        self.told_aside = false;
        self.machines.clear();
        self.makings.clear();
        self.told_connected.fill(false);
    }

    /// Takes note of the deadline that the node has now; a deadline fires up to `slack` late.
    pub fn note_deadline(&mut self, now: Time, next: Option<(Time, Wake)>, slack: Duration) {
        self.deadline = next.map(|(shown, why)| match self.deadline {
            Some(same) if (same.shown, same.why) == (shown, why) => same,
            _ => Deadline { at: self.clock.when(shown).max(now) + slack, shown, why },
        });
    }

    /// The clock was set: the deadline falls elsewhere in true time.
    pub fn move_deadline(&mut self, now: Time) {
        if let Some(deadline) = &mut self.deadline {
            deadline.at = self.clock.when(deadline.shown).max(now);
        }
    }

    /// It was woken; whether it asks again and again to be woken at once, and gets nowhere.
    pub fn spins(&mut self, shown: Time) -> bool {
        let at_once = self.deadline.is_some_and(|deadline| deadline.shown <= shown);
        self.spins = if at_once { self.spins + 1 } else { 0 };
        self.spins > SPINS
    }
}
