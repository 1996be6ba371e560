//! A gap in a follower's log, and what the follower does about it.
//!
//! The rule: a catchup has an inbox of its own, which dies with it. So nothing that a leader sends to an
//! earlier one is ever taken for an answer to the present one.

use alloc::collections::VecDeque;
use core::fmt;

use bytes::Bytes;

use crate::ids::{Index, PeerId, Term};
use crate::subject::Subject;
use crate::time::Time;
use crate::wire::AppendEntry;

/// What a follower lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Who is asked for it.
    pub leader: PeerId,
    /// When it was found.
    pub since: Time,
    /// The last record that was here when it was found.
    pub from: Index,
    /// The last record that is here now.
    pub have: Index,
    /// The last record that the leader is known to have.
    pub want: Index,
}

/// How a follower closes a gap in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Catchup {
    /// Nothing is known to be missing.
    #[default]
    None,
    /// The leader was asked, and nothing came yet.
    Waiting(Gap),
    /// This member's own disk is behind by more than
    /// [`Limits::follower_unwritten`](crate::limits::Limits::follower_unwritten): it takes nothing,
    /// and asks for nothing, before half of that is written.
    OwnDisk(Gap),
    /// Records come from the leader's log.
    Log(Gap),
    /// A snapshot came in place of records that the leader's log no longer has.
    Snapshot {
        /// What is missing still.
        gap: Gap,
        /// The last record that the snapshot covers.
        covers: Index,
    },
    /// A large snapshot comes in parts, in place of records that the leader's log no longer has.
    Parts {
        /// What is missing still.
        gap: Gap,
        /// The last record that the snapshot covers.
        covers: Index,
        /// Bytes of it that came.
        bytes: u64,
        /// Bytes that it has.
        of: u64,
    },
    /// Nothing came for [`Timers::log_catchup_stall`](crate::limits::Timers::log_catchup_stall): the
    /// leader was asked again.
    Stalled {
        /// What is missing still.
        gap: Gap,
        /// How often in a row.
        times: u32,
    },
    /// It was given up before the gap was closed, and nothing has shown since that it is.
    Cancelled {
        /// What was missing then.
        gap: Gap,
        /// Why.
        why: Cancelled,
    },
}

/// Why a catchup was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// A newer term began: what its old leader sends counts no longer.
    NewTerm(Term),
    /// The leader is gone, and this member asks for votes.
    Campaign,
    /// The member can be trusted with nothing.
    Aside,
}

impl Catchup {
    /// Whether a gap is being closed.
    pub const fn is_under_way(&self) -> bool {
        !matches!(self, Self::None | Self::Cancelled { .. })
    }
}

impl fmt::Display for Catchup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing is missing"),
            Self::Waiting(gap) => write!(f, "waits for {}: {gap}", gap.leader),
            Self::OwnDisk(gap) => write!(f, "waits for its own disk: {gap}"),
            Self::Log(gap) => write!(f, "from the log of {}: {gap}", gap.leader),
            Self::Snapshot { gap, covers } => {
                write!(f, "from a snapshot of {} that covers {covers}: {gap}", gap.leader)
            }
            Self::Parts { gap, covers, bytes, of } => {
                write!(f, "from a snapshot of {} that covers {covers}, ", gap.leader)?;
                write!(f, "{bytes} of {of} bytes: {gap}")
            }
            Self::Stalled { gap, times } => {
                write!(f, "{} was asked {times} times in vain: {gap}", gap.leader)
            }
            Self::Cancelled { gap, why } => write!(f, "given up at {gap}: {why}"),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.have.since(self.from), self.want.since(self.from))
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewTerm(term) => write!(f, "term {term} began"),
            Self::Campaign => f.write_str("the leader is gone"),
            Self::Aside => f.write_str("the member stands aside"),
        }
    }
}

/// A catchup that is under way.
#[derive(Debug)]
pub(super) struct Asking {
    /// Where the leader sends what is missing.
    pub(super) inbox: Subject,
    pub(super) leader: PeerId,
    pub(super) since: Time,
    /// Where the log ended when the gap was found.
    pub(super) from: Index,
    /// The last record that the leader was told is on disk.
    pub(super) seen: Index,
    /// The last record that a live entry showed the leader to have: the catchup is not over before
    /// it is here.
    pub(super) beyond: Index,
    /// When it counts as stalled.
    pub(super) until: Time,
    /// Where the leader awaits word of progress, if it does.
    pub(super) reply: Option<Subject>,
    pub(super) phase: Phase,
    /// Live entries from beyond the gap, in order and without a gap of their own.
    pub(super) held: VecDeque<(AppendEntry, Bytes)>,
    pub(super) held_bytes: u64,
}

/// What an answer to a catchup consists of, so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing: the leader was not asked, since this member's disk is behind.
    OwnDisk,
    /// Nothing, after so many stalls.
    Asked { stalls: u32 },
    /// Records.
    Log,
    /// A snapshot of what is covered up to here.
    Snapshot(Index),
    /// Parts of such a snapshot.
    Parts(Index),
}

impl Asking {
    /// Keeps a live entry for the end of the catchup, if it continues what is held and fits.
    pub(super) fn hold(&mut self, entry: AppendEntry, record: Bytes, most: u64) {
        let known = entry.previous_index.plus(u64::from(!entry.entries.is_empty()));
        self.beyond = self.beyond.max(known);
        let continues = self
            .held
            .back()
            .is_none_or(|(last, _)| last.previous_index.next() == entry.previous_index);
        let bytes = record.len() as u64;
        if !entry.entries.is_empty() && continues && self.held_bytes + bytes <= most {
            self.held_bytes += bytes;
            self.held.push_back((entry, record));
        }
    }

    /// The gap, when the log ends at `have`.
    pub(super) fn gap(&self, have: Index) -> Gap {
        let Self { leader, since, from, beyond, .. } = *self;
        Gap { leader, since, from, have: have.max(from), want: beyond.max(have).max(from) }
    }

    /// How it goes, when the log ends at `have`.
    pub(super) fn status(&self, have: Index) -> Catchup {
        let gap = self.gap(have);
        match self.phase {
            Phase::Asked { stalls: 0 } => Catchup::Waiting(gap),
            Phase::Asked { stalls } => Catchup::Stalled { gap, times: stalls },
            Phase::OwnDisk => Catchup::OwnDisk(gap),
            Phase::Log => Catchup::Log(gap),
            Phase::Snapshot(covers) | Phase::Parts(covers) => Catchup::Snapshot { gap, covers },
        }
    }
}
