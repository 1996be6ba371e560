//! Who answers a question about a stream that was put to all of its members.
//!
//! The rule: who leads answers at once. While the group has been without a leader for long, every
//! member answers, half a second later, so that a new leader comes first. All others are silent.
//!
//! Upstream: `handleClusterStreamInfoRequest`, `processClusterStreamInfoRequest` and
//! `isGroupLeaderless` in `server/jetstream_cluster.go`.

use alloc::collections::VecDeque;
use alloc::format;

use crate::ids::PeerId;
use crate::subject::Subject;
use crate::time::{Duration, Time};

/// How long who does not lead waits before it answers.
const LEADERS_FIRST: Duration = Duration::from_millis(500);

/// The account of streams that belong to none.
const GLOBAL_ACCOUNT: &str = "$G";

/// The subject on which the members of a stream are asked about it.
pub fn info_subject(stream: &str) -> Subject {
    Subject::from(format!("$JSC.SI.{GLOBAL_ACCOUNT}.{stream}"))
}

/// How a member stands when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// This member.
    pub me: PeerId,
    /// Who leads, as far as it knows.
    pub leader: Option<PeerId>,
    /// Since when it knows of nobody, or was started.
    pub since: Time,
}

/// Questions that wait for their answer.
#[derive(Debug, Default)]
pub struct InfoRequests {
    waiting: VecDeque<(Time, Subject)>,
}

impl InfoRequests {
    /// A question came. Gives its inbox back if it is to be answered at once.
    ///
    /// `lost_quorum` is how long a group may be without a leader before that is more than an
    /// election; at most `most` questions wait, further ones are not answered.
    pub fn asked(
        &mut self,
        now: Time,
        reply: Subject,
        standing: Standing,
        lost_quorum: Duration,
        most: usize,
    ) -> Option<Subject> {
        match standing.leader {
            Some(leader) if leader == standing.me => return Some(reply),
            None if now.since(standing.since) >= lost_quorum && self.waiting.len() < most => {
                self.waiting.push_back((now + LEADERS_FIRST, reply));
            }
            _ => {}
        }
        None
    }

    /// A question whose time has come.
    pub fn due(&mut self, now: Time) -> Option<Subject> {
        self.waiting.pop_front_if(|(due, _)| *due <= now).map(|(_, reply)| reply)
    }

    /// When the next answer is due.
    pub fn deadline(&self) -> Option<Time> {
        self.waiting.front().map(|(due, _)| *due)
    }
}
