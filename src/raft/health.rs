//! Whether a member has what its group has, and if not, what keeps it from that.
//!
//! Upstream: `Healthy` and `isCurrent` in `server/raft.go`, which sleep up to ten milliseconds to see
//! whether the machine makes progress. Here it is told how much is left to apply, and may ask again.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Raft, State, leader::Leader, quorum::Members};
use crate::context::Context;
use crate::ids::{Index, PeerId};
use crate::time::{Duration, Time};

/// How a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It leads and hears a quorum, or follows a leader and has applied all that is committed.
    Healthy,
    /// It reads its disk.
    Opening,
    /// It can be trusted with nothing, and why.
    Aside(String),
    /// It may have forgotten what it promised, and what it waits for before it takes part.
    Impaired(String),
    /// Nobody is known to lead.
    NoLeader {
        /// Since then.
        silent: Duration,
    },
    /// Two heartbeats of the leader are missing.
    LeaderSilent {
        /// Since it was heard.
        silent: Duration,
    },
    /// It leads, and no quorum answers.
    NoQuorum {
        /// Since a quorum was heard.
        silent: Duration,
    },
    /// Nothing was ever committed.
    NothingCommitted,
    /// Its log or its stream lacks what the leader has.
    CatchingUp {
        /// What is lacking.
        what: Lacking,
        /// How much came since it began.
        done: u64,
        /// How much was lacking when it began, as far as is known, and came up meanwhile.
        of: u64,
    },
    /// Its machine takes nothing for now, and there is something to take.
    Paused {
        /// Committed records that the machine lacks.
        waiting: u64,
    },
    /// Its machine has not applied all that is committed.
    Applying {
        /// Records that are left.
        left: u64,
    },
}

/// What a member that catches up lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// Records of the log.
    Records,
    /// Messages of the stream.
    Messages,
}

impl Health {
    /// Whether nothing is wrong.
    pub const fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Opening => f.write_str("reading its disk"),
            Self::Aside(why) => write!(f, "stands aside: {why}"),
            Self::Impaired(waits) => write!(f, "impaired: {waits}"),
            Self::NoLeader { silent } => write!(f, "no leader for {}", Span(*silent)),
            Self::LeaderSilent { silent } => {
                write!(f, "the leader is silent for {}", Span(*silent))
            }
            Self::NoQuorum { silent } => write!(f, "no quorum for {}", Span(*silent)),
            Self::NothingCommitted => f.write_str("nothing was committed yet"),
            Self::CatchingUp { what: Lacking::Records, done, of } => {
                write!(f, "catching up: {} of {}", Count(*done), Count(*of))
            }
            Self::CatchingUp { what: Lacking::Messages, done, of } => {
                write!(f, "catching up: {} of {} messages", Count(*done), Count(*of))
            }
            Self::Paused { waiting } => write!(f, "paused: {} waiting", Count(*waiting)),
            Self::Applying { left } => write!(f, "applying: {} left", Count(*left)),
        }
    }
}

/// A number in groups of three digits.
struct Count(u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (0, ones) => write!(f, "{ones}"),
            (thousands, ones) => write!(f, "{},{ones:03}", Count(thousands)),
        }
    }
}

/// Whole seconds, or milliseconds below one.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            seconds => write!(f, "{} s", Count(seconds)),
        }
    }
}

impl Leader {
    /// When a quorum, this member included, was last heard; none where it needs nobody else.
    pub(super) fn quorum_heard(&self, members: &Members, me: PeerId) -> Option<Time> {
        let others_needed = members.quorum() - usize::from(members.contains(&me));
        let heard = |peer: PeerId| {
            let last = self.peers.get(&peer).and_then(|progress| progress.heard);
            last.unwrap_or(self.since)
        };
        let others = members.iter().filter(|peer| *peer != me);
        let mut times: Vec<Time> = others.map(heard).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(others_needed.checked_sub(1)?).copied()
    }
}

impl Raft {
    /// How this member stands at the time of the context.
    pub fn health(&self, context: &Context<'_>) -> Health {
        self.health_at(context.now, context.timers.heartbeat * 2)
    }

    /// How this member stands, when a silence of this length is too long.
    pub fn health_at(&self, now: Time, too_long: Duration) -> Health {
        let leader = match &self.state {
            State::Opening(_) => return Health::Opening,
            State::Aside(why) => return Health::Aside(why.clone()),
            State::Leader(leader) => {
                let heard = leader.quorum_heard(self.members(), self.me).unwrap_or(now);
                let silent = now.since(heard);
                if silent > too_long {
                    return Health::NoQuorum { silent };
                }
                // What a leader's machine lacks holds nobody up once it took office.
                return if self.leads() { Health::Healthy } else { self.applying() };
            }
            State::Candidate(_) => None,
            State::Follower(_) if !self.is_whole() => {
                return Health::Impaired(self.repair().unwrap_or_default());
            }
            State::Follower(follower) => follower.leader.map(|_| follower),
        };
        let Some(follower) = leader else {
            return Health::NoLeader { silent: now.since(self.leader_seen) };
        };
        let silent = now.since(follower.heard);
        match &follower.catchup {
            Some(asking) => {
                let gap = asking.gap(self.log.last().index);
                let (done, of) = (gap.have.since(gap.from), gap.want.since(gap.from));
                Health::CatchingUp { what: Lacking::Records, done, of }
            }
            None if silent > too_long => Health::LeaderSilent { silent },
            None => self.applying(),
        }
    }

    /// How the machine stands to what is committed.
    fn applying(&self) -> Health {
        let left = self.commit.since(self.machine_applied());
        match left {
            _ if self.commit == Index::ZERO => Health::NothingCommitted,
            0 => Health::Healthy,
            waiting if self.paused() => Health::Paused { waiting },
            left => Health::Applying { left },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn people_are_told_in_words() {
        let seconds = Duration::from_secs;
        let told = [
            (Health::Healthy, "healthy"),
            (
                Health::CatchingUp { what: Lacking::Records, done: 40, of: 3_000 },
                "catching up: 40 of 3,000",
            ),
            (
                Health::CatchingUp { what: Lacking::Messages, done: 0, of: 1_002_003 },
                "catching up: 0 of 1,002,003 messages",
            ),
            (Health::NoLeader { silent: seconds(12) }, "no leader for 12 s"),
            (Health::NoQuorum { silent: Duration::from_millis(250) }, "no quorum for 250 ms"),
            (Health::LeaderSilent { silent: seconds(3) }, "the leader is silent for 3 s"),
            (Health::Paused { waiting: 7 }, "paused: 7 waiting"),
            (Health::Applying { left: 1_000 }, "applying: 1,000 left"),
            (Health::Aside("the disk is full".into()), "stands aside: the disk is full"),
        ];
        for (health, text) in told {
            assert_eq!(health.to_string(), text);
            assert_eq!(health.is_healthy(), text == "healthy");
        }
    }
}
