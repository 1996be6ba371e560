//! How a follower of a log catches up, and how its state shows.

use jetwake::config::GroupKind;
use jetwake::ids::{ByteCount, Index, PeerId, Term};
use jetwake::raft::{Cancelled, Catchup, Gap};
use jetwake_sim::lone::{self, Append, Lone, LoneDisk};

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

/// A follower of `n2` that keeps no live entry from beyond a gap.
fn follower() -> Lone {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.follower_held = ByteCount::ZERO;
    Lone::start(config, LoneDisk::default())
}

fn record(index: u64) -> Append {
    Append::by("n2", 1).after(u64::from(index > 1), index - 1).entry("record")
}

fn gap(node: &Lone, from: u64, have: u64, want: u64) -> Gap {
    let leader = PeerId::from_name("n2");
    let [from, have, want] = [from, have, want].map(Index::new);
    Gap { leader, since: node.now(), from, have, want }
}

#[test]
fn each_step_of_a_catchup_can_be_seen() {
    let mut node = follower();
    assert_eq!(node.status().catchup, Catchup::None);
    node.hear(&record(9));
    assert_eq!(node.status().catchup, Catchup::Waiting(gap(&node, 0, 0, 9)));
    let since = node.now();
    let gap = |node: &Lone, have| Gap { since, ..gap(node, 0, have, 9) };

    // The answer does not come, twice.
    for times in 1..=2 {
        node.wait(node.config().timers.log_catchup_stall);
        node.hear(&Append::by("n2", 1).after(1, 9));
        assert_eq!(node.status().catchup, Catchup::Stalled { gap: gap(&node, 0), times });
    }
    node.feed(&Append::by("n2", 1).after(1, 4).commit(4).snapshot("state", &MEMBERS));
    let covers = Index::new(4);
    assert_eq!(node.status().catchup, Catchup::Snapshot { gap: gap(&node, 4), covers });
    node.feed(&record(5));
    node.feed(&record(6));
    assert_eq!(node.status().catchup, Catchup::Log(gap(&node, 6)));
    assert_eq!(
        node.status().catchup.to_string(),
        format!("from the log of {}: 6 of 9", gap(&node, 6).leader)
    );
    assert!(node.status().catchup.is_under_way());

    // Its leader asks for votes: whatever it sent for the catchup counts no longer.
    node.ask_vote("n2", 2, 1, 9);
    let why = Cancelled::NewTerm(Term::new(2));
    assert_eq!(node.status().catchup, Catchup::Cancelled { gap: gap(&node, 6), why });
    assert!(!node.status().catchup.is_under_way());

    // The next leader goes on behind record 6: nothing is missing.
    node.hear(&Append::by("n3", 2).after(1, 6).entry("next"));
    assert_eq!(node.status().catchup, Catchup::None);
}

#[test]
fn a_catchup_ends_with_its_leader_and_with_its_disk() {
    let mut node = follower();
    node.hear(&record(3));
    let found = gap(&node, 0, 0, 3);
    node.wait_until("it asks for votes", |node| node.status().term == Term::new(2));
    let why = Cancelled::Campaign;
    assert_eq!(node.status().catchup, Catchup::Cancelled { gap: found, why });
    node.elect(&["n3"]);
    assert_eq!(node.status().catchup, Catchup::None, "a leader has all that there is");

    let mut node = follower();
    node.hear(&record(3));
    let (found, inbox) = (gap(&node, 0, 0, 3), node.inbox().expect("it asks"));
    node.disk.fail_writes = true;
    node.feed(&record(1));
    assert!(node.status().aside.is_some());
    let (found, why) = (Gap { have: Index::new(1), ..found }, Cancelled::Aside);
    assert_eq!(node.status().catchup, Catchup::Cancelled { gap: found, why });
    assert!(!node.listens(&inbox));
}
