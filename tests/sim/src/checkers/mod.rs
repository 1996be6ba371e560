//! What must always hold, one rule a file. Most look at every command before it is performed; the
//! others look at the end, when the faults are over.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jetwake::command::{Command, LogChange};
use jetwake::event::Opened;
use jetwake::ids::{GroupId, PeerId};
use jetwake::limits::Limits;
use jetwake::raft::Status;
use jetwake::subject::Subject;
use jetwake::time::Time;

use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::network::Machine;

pub mod acked_kept;
mod applied_alike;
mod aside_for_cause;
pub mod batches_whole;
pub mod budget_at_zero;
mod catchup_window;
pub(crate) mod committed_stays;
pub mod dedupe_kept;
pub mod deletes_identical;
mod durability_order;
mod elected_by_members;
mod impaired_are_silent;
mod indexes_in_order;
mod leader_complete;
mod leader_only_appends;
mod leaders_records;
mod log_matching;
pub mod no_duplicates;
mod one_leader;
mod one_vote;
mod own_term_first;
mod quorum_before_ack;
pub mod replicas_identical;
mod roles;
mod vote_binds;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in true time.
    pub at: Time,
    /// The rule.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.rule, self.at, self.what)
    }
}

/// Something that a checker looks at.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A process started and found this on its disk.
    Started {
        /// The group that the disk belongs to.
        group: GroupId,
        /// What it found.
        opened: &'a Opened,
    },
    /// A process asks for something; it is not done yet.
    Commanded(&'a Command),
    /// A change of a log became durable.
    Durable {
        /// Whose log.
        group: GroupId,
        /// The change.
        change: &'a LogChange,
    },
    /// Now and then: how a group stands in a process.
    Stands {
        /// The group.
        group: GroupId,
        /// What the node says of it.
        status: &'a Status,
    },
    /// A process tells a client that its message is stored.
    Acknowledged {
        /// The stream's group.
        group: GroupId,
        /// The `Nats-Msg-Id`.
        message: &'a Bytes,
    },
}

/// What a checker may know beside what it sees.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Each machine's peer id.
    pub peers: &'a [PeerId],
    /// Each machine's disk.
    pub disks: &'a [Disk],
    /// Each machine's count of starts and crashes.
    pub incarnations: &'a [u32],
    /// What is durable where.
    pub ledger: &'a Ledger,
    /// Whose inbox is whose.
    pub inboxes: &'a Inboxes,
}

/// A rule that is checked while things happen.
pub trait Checker: fmt::Debug {
    /// The rule's name.
    fn rule(&self) -> &'static str;

    /// Looks at what happens on a machine.
    ///
    /// # Errors
    /// How the rule is broken.
    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String>;
}

/// Every rule that is checked while things happen.
pub fn all(limits: &Limits) -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(one_leader::OneLeader::default()),
        Box::new(one_vote::OneVote::default()),
        Box::new(leader_complete::LeaderComplete),
        Box::new(leader_only_appends::LeaderOnlyAppends::default()),
        Box::new(log_matching::LogMatching),
        Box::new(committed_stays::CommittedStays),
        Box::new(applied_alike::AppliedAlike::default()),
        Box::new(durability_order::DurabilityOrder),
        Box::new(quorum_before_ack::QuorumBeforeAck),
        Box::new(indexes_in_order::IndexesInOrder::default()),
        Box::new(catchup_window::CatchupWindow::new(limits)),
        Box::new(impaired_are_silent::ImpairedAreSilent),
        Box::new(aside_for_cause::AsideForCause),
        Box::new(leaders_records::LeadersRecords::default()),
        Box::new(own_term_first::OwnTermFirst::default()),
        Box::new(vote_binds::VoteBinds::default()),
        Box::new(elected_by_members::ElectedByMembers::default()),
        Box::new(batches_whole::BatchesWhole),
    ]
}

/// Which group and which question an inbox belongs to, learned from the questions.
#[derive(Debug, Default)]
pub struct Inboxes {
    names: BTreeMap<Bytes, GroupId>,
    entries: BTreeMap<Subject, GroupId>,
    votes: BTreeMap<Subject, (GroupId, Machine)>,
}

impl Inboxes {
    /// A group's name stands in its subjects.
    pub fn add_group(&mut self, group: GroupId, name: &str) {
        self.names.insert(Bytes::copy_from_slice(name.as_bytes()), group);
    }

    /// Learns from a message that is sent.
    pub fn learn(&mut self, machine: Machine, subject: &Subject, reply: Option<&Subject>) {
        let Some(reply) = reply else { return };
        let group = |prefix: &[u8]| {
            subject.as_bytes().strip_prefix(prefix).and_then(|name| self.names.get(name)).copied()
        };
        if let Some(group) = group(b"$NRG.V.") {
            if !self.votes.contains_key(reply) {
                self.votes.insert(reply.clone(), (group, machine));
            }
        } else if let Some(group) = group(b"$NRG.AE.")
            && !self.entries.contains_key(reply)
        {
            self.entries.insert(reply.clone(), group);
        }
    }

    /// The group whose append entries are answered there.
    pub fn of_entries(&self, subject: &Subject) -> Option<GroupId> {
        self.entries.get(subject).copied()
    }

    /// The group and the candidate whose vote requests are answered there.
    pub fn of_votes(&self, subject: &Subject) -> Option<(GroupId, Machine)> {
        self.votes.get(subject).copied()
    }
}

#[cfg(test)]
pub(crate) mod stage;
