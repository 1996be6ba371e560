//! When a member says that it is healthy, and what it says before.

use jetwake::event::MachineSays;
use jetwake::raft::{Health, Lacking};
use jetwake_sim::lone::{Append, Lone};

use crate::{member, member_that_holds_nothing, records};

fn entry(commit: u64, previous: (u64, u64)) -> Append {
    Append::by("n2", 1).after(previous.0, previous.1).commit(commit).entry("a")
}

fn heartbeat(commit: u64, index: u64) -> Append {
    Append::by("n2", 1).after(1, index).commit(commit)
}

/// A member whose machine says only what the test says.
fn quiet(mut node: Lone) -> Lone {
    node.hold_applies = true;
    node
}

fn catching_up(done: u64, of: u64) -> Health {
    Health::CatchingUp { what: Lacking::Records, done, of }
}

fn applied(node: &mut Lone, through: u64) {
    node.machine_processed(through, through);
}

/// A member that catches up is not healthy before the catchup is over and its machine has applied
/// the last record, even if the machine is quicker than the catchup.
///
/// Seen red without the arm of the gap in `Raft::health_at`.
#[test]
fn nrg_health_check_wait_for_catchup() {
    let mut node = quiet(member());
    assert!(matches!(node.health(), Health::NoLeader { .. }));
    node.hear(&heartbeat(3, 3));
    assert!(node.inbox().is_some());
    assert_eq!(node.health(), catching_up(0, 3));

    node.feed(&entry(0, (0, 0)));
    assert_eq!(node.health(), catching_up(1, 3));
    node.feed(&entry(1, (1, 1)));
    assert_eq!((node.status().commit.get(), node.health()), (1, catching_up(2, 3)));
    applied(&mut node, 1);
    assert_eq!(node.health().to_string(), "catching up: 2 of 3");
    node.feed(&entry(2, (1, 2)));
    applied(&mut node, 2);
    assert_eq!(node.status().machine_applied, node.status().commit);
    assert_eq!(node.health(), catching_up(3, 3), "the machine is done, the catchup is not");

    node.hear(&heartbeat(3, 3));
    assert!(node.inbox().is_none());
    assert_eq!((node.status().commit.get(), node.log()), (3, records(&[(1, "a"); 3])));
    assert_eq!(node.health(), Health::Applying { left: 1 });
    applied(&mut node, 3);
    assert_eq!(node.health(), Health::Healthy);
}

/// A catchup to where the leader was, while the leader goes on: the member is not healthy before it
/// has what came meanwhile too.
///
/// Upstream ends the first catchup and begins another; ours goes on to where the leader is.
/// Seen red with `true` for `last >= catchup.beyond` in `Raft::end_catchup_if_joined`.
#[test]
fn nrg_health_check_wait_for_double_catchup() {
    let mut node = quiet(member_that_holds_nothing());
    node.hear(&heartbeat(2, 2));
    assert_eq!(node.health(), catching_up(0, 2));
    node.feed(&entry(0, (0, 0)));
    assert_eq!(node.health(), catching_up(1, 2));

    // Both are missed, but show how far the leader is.
    node.hear(&entry(2, (1, 2)));
    node.hear(&heartbeat(3, 3));
    assert_eq!((node.log().len(), node.health()), (1, catching_up(1, 3)));

    node.feed(&entry(1, (1, 1)));
    applied(&mut node, 1);
    assert_eq!((node.log().len(), node.health()), (2, catching_up(2, 3)));
    node.hear(&heartbeat(3, 3));
    assert!(node.inbox().is_some());
    assert_eq!(node.health(), catching_up(2, 3));

    node.feed(&entry(2, (1, 2)));
    applied(&mut node, 2);
    assert_eq!((node.log().len(), node.health()), (3, catching_up(3, 3)));
    node.hear(&heartbeat(3, 3));
    assert!(node.inbox().is_none());
    assert_eq!((node.status().commit.get(), node.health()), (3, Health::Applying { left: 1 }));
    applied(&mut node, 3);
    assert!(node.health().is_healthy());
}

/// A machine that takes nothing for now is no worry as long as there is nothing to take.
///
/// Seen red without `self.paused()` in `Raft::next_committed`.
#[test]
fn nrg_health_check_wait_for_pending_commits_when_paused() {
    let mut node = quiet(member());
    node.hear(&entry(0, (0, 0)));
    assert_eq!(node.health(), Health::NothingCommitted);
    node.hear(&entry(1, (1, 1)));
    assert_eq!(node.health(), Health::Applying { left: 1 });
    applied(&mut node, 1);
    assert!(node.health().is_healthy());

    node.machine_says(MachineSays::Paused);
    assert!(node.status().paused && node.health().is_healthy());
    node.hear(&heartbeat(2, 2));
    assert_eq!(node.health(), Health::Paused { waiting: 1 });
    assert_eq!(node.applied_texts().len(), 1, "nothing is handed out");

    node.machine_says(MachineSays::Resumed);
    assert_eq!((node.applied_texts().len(), node.health()), (2, Health::Applying { left: 1 }));
    applied(&mut node, 2);
    assert!(node.health().is_healthy());
}

/// The machine may take records in before it applies them; each index only goes up, and the applied
/// one never passes the other.
///
/// Seen red with `applied` for `applied.min(through)` in `Raft::machine_processed`.
#[test]
fn nrg_processed() {
    let mut node = quiet(member());
    let progress = |node: &Lone| {
        let status = node.status();
        [status.last.index, status.commit, status.processed, status.machine_applied]
            .map(|index| index.get())
    };
    for index in 0..3 {
        node.hear(&entry(index + 1, (u64::from(index > 0), index)));
        assert_eq!(progress(&node), [index + 1, index + 1, 0, 0]);
    }
    node.machine_processed(1, 0);
    assert_eq!(progress(&node), [3, 3, 1, 0]);
    node.machine_processed(2, 1);
    assert_eq!(progress(&node), [3, 3, 2, 1]);
    applied(&mut node, 3);
    assert_eq!(progress(&node), [3, 3, 3, 3]);

    for index in 3..5 {
        node.hear(&entry(index + 1, (1, index)));
        assert_eq!(progress(&node), [index + 1, index + 1, 3, 3]);
    }
    node.machine_processed(4, 5);
    assert_eq!(progress(&node), [5, 5, 4, 4]);
    node.machine_processed(6, 6);
    assert_eq!(progress(&node), [5, 5, 4, 4], "it cannot know of what it was not handed");
}
