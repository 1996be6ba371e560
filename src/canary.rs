//! Defects that others had, planted one at a time to see whether the simulator finds them.
//!
//! The number of each is its place in the project's list of defects of others. Without the feature `canaries`
//! no plant is ever there: what asks for one is the constant `false`, and the compiler takes it out.

use crate::limits::Limits;
use crate::outbox::Outbox;

/// A defect that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    not(feature = "canaries"),
    allow(unreachable_pub, reason = "only the simulator names them")
)]
#[non_exhaustive]
pub enum Canary {
    /// A leader stores an entry and dies before a quorum has it; the entry stays in the log of one.
    LoneEntryStays = 1,
    /// Truncating one uncommitted entry takes the committed one before it.
    TruncationTakesCommitted = 2,
    /// Truncation lowers the term.
    TruncationLowersTerm = 3,
    /// A log that does not join its snapshot is accepted.
    LogWithGapAccepted = 5,
    /// A term that is not known any more, below the commit index, truncates committed entries.
    UnknownTermConflicts = 6,
    /// A cache of entries outlives a truncation, and stale bytes are applied.
    CacheOutlivesTruncation = 7,
    /// A follower votes in a new term, and then gives the old leader its quorum.
    OldLeaderHeardAfterVote = 9,
    /// What a follower says when it asks for a catchup counts towards the quorum.
    CatchupRequestCounts = 10,
    /// Entries that a deposed leader sends for a catchup are taken.
    DeposedLeaderFeeds = 11,
    /// Success is reported in the middle of a catchup, after a mismatch.
    SuccessInCatchup = 12,
    /// A late catchup truncates entries that were acknowledged.
    LateCatchupTruncates = 14,
    /// The end of a catchup removes the inbox of its successor.
    CatchupEndsSuccessor = 15,
    /// What a catchup brings is never acknowledged, so it stalls again and again.
    CatchupNeverAcknowledged = 16,
    /// The log is compacted before the snapshot is on disk.
    CompactedTooSoon = 17,
    /// A node whose stream is still being caught up with leads.
    HalfCaughtUpLeads = 18,
    /// A node's own snapshot replaces the leader's newer one.
    OwnSnapshotReplacesNewer = 19,
    /// A transfer clears the vote, and a second one is given in the term.
    TransferClearsVote = 21,
    /// A vote is granted before it is on disk.
    VoteNotWritten = 23,
    /// A leader commits entries of older terms by counting their copies.
    OldTermCommitted = 24,
    /// A wiped disk votes like any other, for whoever asks.
    WipedDiskVotes = 25,
    /// A leader counts members that it adds while earlier changes are not committed.
    ChangesOverlap = 28,
    /// When a record that adds a member is read at the start, the group has one member.
    ReplayedAddShrinks = 32,
    /// Members that were removed are asked for votes, and theirs count.
    RemovedMemberVotes = 34,
    /// When the tries of a stream's catchup run out, the log is deleted.
    #[cfg(feature = "canaries")]
    GivesLogUp = 35,
    /// What is deleted past the range that was asked for is told too.
    PastTheRange = 36,
    /// A leader that is behind on applies serves messages that are deleted later.
    ServesBehindApplies = 37,
    /// The end of a stream's catchup is accepted before everything is there.
    EarlyEndAccepted = 39,
    /// A skip out of order is accepted, and what it passes over is lost.
    SkipOutOfOrder = 40,
    /// A proposal that the group refused still moves the sequence on.
    RefusedProposalCounts = 44,
    /// The ids of proposals in flight outlive the leadership.
    IdsOutliveLeadership = 45,
    /// One catchup may take the whole budget of its node.
    CatchupTakesWholeBudget = 46,
    /// What there is of a batch that was left goes with the next batch of its id.
    LeftBatchGoesOn = 48,
    /// What there is of a batch is stored when another leader's entries end it.
    HalfBatchSurvives = 49,
}

#[cfg(feature = "canaries")]
impl Canary {
    /// Every defect that can be planted.
    pub const ALL: &'static [Self] = &[
        Self::LoneEntryStays,
        Self::TruncationTakesCommitted,
        Self::TruncationLowersTerm,
        Self::LogWithGapAccepted,
        Self::UnknownTermConflicts,
        Self::CacheOutlivesTruncation,
        Self::OldLeaderHeardAfterVote,
        Self::CatchupRequestCounts,
        Self::DeposedLeaderFeeds,
        Self::SuccessInCatchup,
        Self::LateCatchupTruncates,
        Self::CatchupEndsSuccessor,
        Self::CatchupNeverAcknowledged,
        Self::CompactedTooSoon,
        Self::HalfCaughtUpLeads,
        Self::OwnSnapshotReplacesNewer,
        Self::TransferClearsVote,
        Self::VoteNotWritten,
        Self::OldTermCommitted,
        Self::WipedDiskVotes,
        Self::ChangesOverlap,
        Self::ReplayedAddShrinks,
        Self::RemovedMemberVotes,
        Self::GivesLogUp,
        Self::PastTheRange,
        Self::ServesBehindApplies,
        Self::EarlyEndAccepted,
        Self::SkipOutOfOrder,
        Self::RefusedProposalCounts,
        Self::IdsOutliveLeadership,
        Self::CatchupTakesWholeBudget,
        Self::LeftBatchGoesOn,
        Self::HalfBatchSurvives,
    ];

    /// Its place in the list.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What it does, in one line.
    pub const fn title(self) -> &'static str {
        match self {
            Self::LoneEntryStays => {
                "A leader stores an entry and dies before a quorum has it; the entry stays in the log of one"
            }
            Self::TruncationTakesCommitted => {
                "Truncating one uncommitted entry takes the committed one before it"
            }
            Self::TruncationLowersTerm => "Truncation lowers the term",
            Self::LogWithGapAccepted => "A log that does not join its snapshot is accepted",
            Self::UnknownTermConflicts => {
                "A term that is not known any more, below the commit index, truncates committed entries"
            }
            Self::CacheOutlivesTruncation => {
                "A cache of entries outlives a truncation, and stale bytes are applied"
            }
            Self::OldLeaderHeardAfterVote => {
                "A follower votes in a new term, and then gives the old leader its quorum"
            }
            Self::CatchupRequestCounts => {
                "What a follower says when it asks for a catchup counts towards the quorum"
            }
            Self::DeposedLeaderFeeds => {
                "Entries that a deposed leader sends for a catchup are taken"
            }
            Self::SuccessInCatchup => {
                "Success is reported in the middle of a catchup, after a mismatch"
            }
            Self::LateCatchupTruncates => "A late catchup truncates entries that were acknowledged",
            Self::CatchupEndsSuccessor => "The end of a catchup removes the inbox of its successor",
            Self::CatchupNeverAcknowledged => {
                "What a catchup brings is never acknowledged, so it stalls again and again"
            }
            Self::CompactedTooSoon => "The log is compacted before the snapshot is on disk",
            Self::HalfCaughtUpLeads => "A node whose stream is still being caught up with leads",
            Self::OwnSnapshotReplacesNewer => {
                "A node's own snapshot replaces the leader's newer one"
            }
            Self::TransferClearsVote => {
                "A transfer clears the vote, and a second one is given in the term"
            }
            Self::VoteNotWritten => "A vote is granted before it is on disk",
            Self::OldTermCommitted => {
                "A leader commits entries of older terms by counting their copies"
            }
            Self::WipedDiskVotes => "A wiped disk votes like any other, for whoever asks",
            Self::ChangesOverlap => {
                "A leader counts members that it adds while earlier changes are not committed"
            }
            Self::ReplayedAddShrinks => {
                "When a record that adds a member is read at the start, the group has one member"
            }
            Self::RemovedMemberVotes => {
                "Members that were removed are asked for votes, and theirs count"
            }
            Self::GivesLogUp => "When the tries of a stream's catchup run out, the log is deleted",
            Self::PastTheRange => "What is deleted past the range that was asked for is told too",
            Self::ServesBehindApplies => {
                "A leader that is behind on applies serves messages that are deleted later"
            }
            Self::EarlyEndAccepted => {
                "The end of a stream's catchup is accepted before everything is there"
            }
            Self::SkipOutOfOrder => {
                "A skip out of order is accepted, and what it passes over is lost"
            }
            Self::RefusedProposalCounts => {
                "A proposal that the group refused still moves the sequence on"
            }
            Self::IdsOutliveLeadership => "The ids of proposals in flight outlive the leadership",
            Self::CatchupTakesWholeBudget => "One catchup may take the whole budget of its node",
            Self::LeftBatchGoesOn => {
                "What there is of a batch that was left goes with the next batch of its id"
            }
            Self::HalfBatchSurvives => {
                "What there is of a batch is stored when another leader's entries end it"
            }
        }
    }
}

#[cfg(feature = "canaries")]
impl Limits {
    /// Whether this defect is planted.
    pub(crate) fn planted(&self, canary: Canary) -> bool {
        self.canary == Some(canary)
    }
}

#[cfg(not(feature = "canaries"))]
impl Limits {
    /// Never.
    pub(crate) const fn planted(&self, _: Canary) -> bool {
        false
    }
}

#[cfg(feature = "canaries")]
impl Outbox {
    /// Whether this defect is planted.
    pub(crate) fn planted(&self, canary: Canary) -> bool {
        self.canary == Some(canary)
    }
}

#[cfg(not(feature = "canaries"))]
impl Outbox {
    /// Never.
    pub(crate) const fn planted(&self, _: Canary) -> bool {
        false
    }
}
