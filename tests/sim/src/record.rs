//! The record of a run: what happened, when, on which machine. The story that is printed and the
//! page that is drawn are both made of it.

use std::collections::{BTreeMap, VecDeque};

use jetwake::command::Role;
use jetwake::ids::{GroupId, Index, Term};
use jetwake::time::{Duration, Time};

use crate::network::Machine;
use crate::story::Detail;
use crate::wording::Said;

/// Why a message is missed whose receiver does not run.
pub const DOWN: &str = "being down";
/// Why a message is missed for which nobody listens any more.
pub const DEAF: &str = "listening no longer";

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When, in true time.
    pub at: Time,
    /// On which machine; none if on all or on none.
    pub machine: Option<Machine>,
    /// In which group, if it concerns one.
    pub group: Option<GroupId>,
    /// What.
    pub kind: Kind,
}

/// What happened. Texts name servers as the machines print: `n1`, `n2`…
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its process starts on what its disk holds.
    Started,
    /// Its process dies.
    Crashed {
        /// Log writes that were not synced and are gone.
        lost_writes: usize,
        /// Store writes that were not synced and are gone.
        lost_stores: usize,
    },
    /// It gets nothing done until it is resumed.
    Paused,
    /// It goes on, and finds all that happened meanwhile.
    Resumed,
    /// It can no longer send to another.
    Cut {
        /// Whom it no longer reaches.
        to: Machine,
    },
    /// What it sends to another is held back, and then arrives at once.
    Clogged {
        /// Whom it does not reach for a while.
        to: Machine,
        /// For how long.
        lasts: Duration,
    },
    /// Every link is whole again.
    Mended,
    /// Its clock jumps ahead.
    ClockJumped {
        /// By so much.
        by: Duration,
    },
    /// Another fault begins.
    Fault(String),
    /// It is told that its disk did not do what it was asked.
    DiskFailed(String),
    /// It is told whether it reaches another.
    Reach {
        /// Whom.
        other: Machine,
        /// Whether it does.
        reaches: bool,
    },
    /// Its leader is asked to hand over.
    HandsOver {
        /// To whom, if that was said.
        to: Option<Machine>,
    },
    /// Every fault is over.
    Healed,
    /// Its role changed, or whom it follows.
    Role {
        /// What it is now.
        role: Role,
        /// In which term.
        term: Term,
        /// Who leads, as far as it knows.
        leader: Option<Machine>,
    },
    /// The members that it counts with.
    Members {
        /// Those that are machines of the run.
        members: Vec<Machine>,
        /// Whether the change to them is committed.
        committed: bool,
    },
    /// A catchup entered a phase.
    Catchup(String),
    /// A snapshot was taken or installed.
    Snapshot {
        /// The last record that it covers.
        index: Index,
        /// Whether it came from the leader.
        installed: bool,
    },
    /// It dropped a message, and why.
    Refused(String),
    /// A group takes part no longer, and why.
    StoodAside(String),
    /// Anything else that it reported.
    Reported(String),
    /// It asks for a change of its log.
    Wrote(String),
    /// A change of its log is on disk.
    Durable(String),
    /// It knows of a quorum for every record up to this one.
    Committed(Index),
    /// Its machine or its store took something on.
    Applied(String),
    /// A catchup of its log is over, and where its log ends.
    CaughtUp(Index),
    /// A client asks it for something.
    Asked(String),
    /// It answers a client: what was asked, and the answer.
    Answered {
        /// What was asked.
        asked: String,
        /// What it answers.
        answer: String,
    },
    /// It sends a message.
    Sent {
        /// To whom.
        to: Machine,
        /// What it says.
        said: Said,
        /// When each copy arrives; nothing if it is lost.
        arrivals: Vec<Time>,
    },
    /// A message that was sent to it reached nobody: its link was cut meanwhile, its process was
    /// down, or it listened no longer.
    Missed {
        /// Who had sent it.
        from: Machine,
        /// What it says.
        said: Said,
        /// Why.
        why: &'static str,
    },
    /// Something that a client did or was told.
    Client(String),
    /// A rule was broken.
    Violated {
        /// The rule.
        rule: &'static str,
        /// How.
        what: String,
    },
}

/// The last happenings of a run, in the order in which they happened.
#[derive(Clone, Debug)]
pub struct Record {
    /// How many machines the run has.
    pub machines: usize,
    detail: Detail,
    most: usize,
    left_out: u64,
    happenings: VecDeque<Happening>,
    /// The newest of each state among those that are left out.
    before: BTreeMap<(Machine, Option<GroupId>, Lasting), Happening>,
}

/// Happenings of which the newest says how a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    Running,
    Pause,
    Role,
}

impl Record {
    /// A record that keeps so many happenings at most; the oldest go first.
    pub fn new(machines: usize, detail: Detail, most: usize) -> Self {
        let happenings = VecDeque::new();
        let before = BTreeMap::new();
        Self { machines, detail, most: most.max(1), left_out: 0, happenings, before }
    }

    /// Whether happenings of this detail are kept.
    pub fn keeps(&self, detail: Detail) -> bool {
        self.detail >= detail
    }

    /// Adds what happened.
    pub fn add(&mut self, happening: Happening) {
        if self.happenings.len() == self.most {
            self.leave_out_oldest();
        }
        self.happenings.push_back(happening);
    }

    fn leave_out_oldest(&mut self) {
        let Some(oldest) = self.happenings.pop_front() else { return };
        self.left_out += 1;
        let lasting = match oldest.kind {
            Kind::Started | Kind::Crashed { .. } => Lasting::Running,
            Kind::Paused | Kind::Resumed => Lasting::Pause,
            Kind::Role { .. } | Kind::StoodAside(_) => Lasting::Role,
            _ => return,
        };
        if let Some(machine) = oldest.machine {
            if lasting == Lasting::Running {
                // Whoever starts or dies is nothing of what it was.
                self.before.retain(|(of, ..), _| *of != machine);
            }
            self.before.insert((machine, oldest.group, lasting), oldest);
        }
    }

    /// How the machines stood before the first happening that is kept, in the happenings that
    /// brought them there.
    pub fn before(&self) -> impl Iterator<Item = &Happening> {
        self.before.values()
    }

    /// How many earlier happenings were not kept.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The happenings that are kept.
    pub fn happenings(&self) -> impl DoubleEndedIterator<Item = &Happening> + ExactSizeIterator {
        self.happenings.iter()
    }
}
