//! A start on a log whose end or beginning is missing.
//!
//! Upstream cuts what it cannot read or join, and goes on as before. What it cuts may have been
//! acknowledged, so here the member is impaired as well: it promises nothing until a leader has given
//! it all of it again.

use jetwake::event::{Loss, Standing};
use jetwake::ids::{Index, Term};
use jetwake_sim::lone::{Append, Lone};

use crate::{member, records};

/// A member that has stored and acknowledged so many records of term 1.
fn member_with(count: u64) -> Lone {
    let mut node = member();
    for index in 0..count {
        let previous_term = u64::from(index > 0);
        let append = Append::by("n2", 1).after(previous_term, index).commit(index);
        node.hear(&append.entry(TEXTS[index as usize]));
    }
    assert_eq!(node.acks().last(), Some(&(1, count)));
    node
}

const TEXTS: [&str; 3] = ["one", "two", "three"];

fn lost(node: &Lone) -> Loss {
    match node.status().standing {
        Standing::Impaired(impairment) => impairment.lost,
        standing => panic!("it is {standing:?}"),
    }
}

/// It takes part in nothing: no vote for somebody who may lack what it acknowledged.
fn promises_nothing(node: &mut Lone) {
    assert_eq!(lost(node), Loss::Records { promised: Term::new(1) });
    node.sent();
    node.ask_vote("n3", 2, 2, 9);
    assert!(node.votes().iter().all(|vote| !vote.granted && !vote.empty));
    node.wait(node.config().timers.election_max * 3);
    assert_eq!(node.status().term, Term::new(1), "it does not campaign");
}

/// A leader brings what is lacking and says where its log ends: the member is whole.
fn is_repaired(node: &mut Lone, from: u64, through: u64) {
    node.hear(&Append::by("n2", 1).after(1, through).commit(through));
    assert_eq!(node.acks(), [], "nothing is acknowledged yet");
    for index in from..=through {
        let append = Append::by("n2", 1).after(u64::from(index > 1), index - 1);
        node.feed(&append.entry(TEXTS[index as usize - 1]).led_in(1));
    }
    assert_eq!(node.acks(), [], "what comes by a catchup is not acknowledged");
    assert!(matches!(node.status().standing, Standing::Impaired(_)));
    node.feed(&Append::by("n2", 1).after(1, through).commit(through).led_in(1));
    assert_eq!(node.status().standing, Standing::Whole);
    node.hear(&Append::by("n2", 1).after(1, through).commit(through));
    assert_eq!(node.acks().last(), Some(&(1, through)));
    assert_eq!(node.status().last.index, Index::new(through));
    node.ask_vote("n3", 2, 1, through);
    assert!(!node.votes().iter().any(|vote| vote.granted), "a live leader was just heard");
}

/// The last of two records is gone, as half a truncation leaves it, and then it names another place
/// than its own: either is cut.
///
/// Seen red without `self.log.end_here(context.out)` in `Raft::end_log_at_damage`.
#[test]
fn nrg_truncate_on_startup() {
    let mut node = member_with(2);
    node.restart_after(|disk| disk.spoil_record(2));
    assert_eq!(node.log(), records(&[(1, "one")]));
    assert_eq!(node.disk.durable_log().last(), Index::new(1), "the second is cut on disk, too");
    promises_nothing(&mut node);
    is_repaired(&mut node, 2, 2);

    let misplaced = Append::by("n2", 1).entry("two").to_bytes();
    node.restart_after(|disk| disk.replace_record(2, misplaced));
    assert_eq!(node.log(), records(&[(1, "one")]));
    promises_nothing(&mut node);
    is_repaired(&mut node, 2, 2);
    assert_eq!(node.log(), records(&[(1, "one"), (1, "two")]));
}

/// The log begins behind the record that should follow its snapshot: what joins nothing is cut, and
/// the leader brings what is missing.
///
/// Seen red with `joins` always true in `Raft::open_log`.
#[test]
fn nrg_truncate_log_with_misaligned_snapshot_gap() {
    let mut node = member_with(3);
    node.take_snapshot(1, "state");
    assert_eq!(node.disk.durable_log().range(), Some((Index::new(2), Index::new(3))));
    node.restart_after(|disk| disk.remove_through(2));
    assert_eq!(node.log(), []);
    assert_eq!(node.status().last.index, Index::new(1), "all that is left is the snapshot's");
    let on_disk = node.disk.durable_log();
    assert_eq!((on_disk.range(), on_disk.last()), (None, Index::new(1)), "it is cut on disk, too");
    promises_nothing(&mut node);
    is_repaired(&mut node, 2, 3);
    assert_eq!(node.log(), records(&[(1, "two"), (1, "three")]));
}

/// The log was compacted, and there is no snapshot: nothing of it can be joined.
///
/// Seen red with `joins` always true in `Raft::open_log`.
#[test]
fn nrg_truncate_log_with_missing_snapshot() {
    let mut node = member_with(3);
    node.restart_after(|disk| disk.remove_through(1));
    assert_eq!(node.log(), []);
    assert_eq!(node.status().last.index, Index::ZERO);
    let on_disk = node.disk.durable_log();
    assert_eq!((on_disk.range(), on_disk.last()), (None, Index::ZERO), "it is cut on disk, too");
    promises_nothing(&mut node);
    is_repaired(&mut node, 1, 3);
    assert_eq!(node.log(), records(&[(1, "one"), (1, "two"), (1, "three")]));
}
