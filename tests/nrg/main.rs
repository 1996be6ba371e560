//! The situations of nats-server's `TestNRG…` tests (`server/raft_test.go` at b26f71513), each under
//! its name, played through the public API of one real node whose peers, disk and clock are the
//! test's.
//!
//! Upstream's tests reach into the state of a group; here the same state is brought about by
//! messages, and judged by what the node says, writes and applies. Where a rule of ours makes a bad
//! state impossible, the test shows what happens to the same bytes and says why. The doc of each
//! test names the line that was broken once to see it fail.
//!
//! `log` is about what is kept and what is cut, `catchup` about closing gaps, `elections` about terms,
//! votes and quorums; `snapshots`, `health`, `membership` and `startup` have the rest.

mod catchup;
mod elections;
mod health;
mod log;
mod membership;
mod snapshots;
mod startup;

use jetwake::config::GroupKind;
use jetwake::ids::ByteCount;
use jetwake_sim::lone::{self, Lone, LoneDisk};

/// The node under test is `n1`; the others are played.
const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

/// A member with an empty disk.
fn member() -> Lone {
    Lone::plain(&MEMBERS)
}

/// A member that keeps no live entry from beyond a gap, as upstream's do not: what it lacks comes by
/// the catchup alone.
fn member_that_holds_nothing() -> Lone {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.follower_held = ByteCount::ZERO;
    Lone::start(config, LoneDisk::default())
}

/// What a log is expected to hold.
fn records(records: &[(u64, &str)]) -> Vec<(u64, String)> {
    records.iter().map(|(term, text)| (*term, (*text).into())).collect()
}
