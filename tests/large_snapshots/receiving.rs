//! A large snapshot on its way to a follower: `n2` leads, and is played.

use bytes::Bytes;
use core::time::Duration;
use jetwake::command::{CheckpointNews, Report, SnapshotRefusal};
use jetwake::event::{CheckpointStep, Damaged};
use jetwake::ids::{Index, PeerId, Term};
use jetwake::raft::{Cancelled, Catchup};
use jetwake::subject::Subject;
use jetwake::wire::{PeerState, RaftSnapshot, SnapshotId, SnapshotTransfer, TransferSays};
use jetwake_sim::lone::{Append, Lone, Message};

use crate::{MEMBERS, PART, checkpoint, hear_records, member, on_disk, state, taken};

/// Where the leader hears of a catchup.
const PROGRESS: Subject = Subject::from_static("$NRG.CP.leader00");

/// A snapshot of a leader, as it lies on the leader's disk.
#[derive(Clone)]
struct Offered {
    id: SnapshotId,
    file: Bytes,
}

fn offered(index: u64, data: &Bytes) -> Offered {
    let peers: Vec<_> = MEMBERS.iter().map(|name| PeerId::from_name(name)).collect();
    let peer_state = PeerState { cluster_size: 3, peers, domain: Default::default() }.to_bytes();
    let (last_index, last_term) = (Index::new(index), Term::new(1));
    let snapshot = RaftSnapshot { last_term, last_index, peer_state, data: data.clone() };
    let node = member(0);
    let file = snapshot.to_bytes(&node.config().groups[0].name);
    let seal = *file.last_chunk().expect("a file ends with its hash");
    let id = SnapshotId { index: last_index, term: last_term, length: file.len() as u64, seal };
    Offered { id, file }
}

/// The leader says something about a snapshot, at an inbox.
fn say_at(
    node: &mut Lone,
    inbox: &Subject,
    leader: (&str, u64),
    id: SnapshotId,
    says: TransferSays,
) {
    let (sender, term) = (PeerId::from_name(leader.0), Term::new(leader.1));
    let message = SnapshotTransfer { sender, term, snapshot: id, says };
    node.receive(Some(sender), inbox.clone(), Some(PROGRESS), message.to_bytes());
}

fn say(node: &mut Lone, leader: (&str, u64), id: SnapshotId, says: TransferSays) {
    let inbox = node.inbox().expect("a catchup is under way");
    say_at(node, &inbox, leader, id, says);
}

const N2: (&str, u64) = ("n2", 1);

fn offer(node: &mut Lone, leader: (&str, u64), offered: &Offered) {
    say(node, leader, offered.id, TransferSays::Offer { part: PART as u64 });
}

/// What was asked for since the last look; everything else is forgotten.
fn asked(node: &mut Lone) -> Vec<(u64, u64)> {
    let transfers = node.sent().into_iter().filter_map(|sent| match sent.message {
        Message::Transfer(transfer) => Some(transfer.says),
        _ => None,
    });
    transfers
        .map(|says| match says {
            TransferSays::Ask { offset, bytes } => (offset, bytes),
            other => panic!("a follower says {other:?}"),
        })
        .collect()
}

fn part(offered: &Offered, (offset, bytes): (u64, u64)) -> TransferSays {
    let bytes = offered.file.slice(offset as usize..(offset + bytes) as usize);
    TransferSays::Part { offset, bytes }
}

/// Answers everything that is asked for, at most so many times; how many parts were sent.
fn serve(node: &mut Lone, leader: (&str, u64), offered: &Offered, most: usize) -> usize {
    let mut parts = 0;
    let mut asks = asked(node);
    while !asks.is_empty() {
        for ask in asks {
            if ask.1 > 0 && parts < most {
                parts += 1;
                say(node, leader, offered.id, part(offered, ask));
            }
        }
        asks = if parts < most { asked(node) } else { Vec::new() };
    }
    parts
}

/// A follower with two records that learns that its leader has nine.
fn behind() -> Lone {
    let mut node = member(2);
    node.hear(&Append::by("n2", 1).after(1, 9).commit(9));
    node.sent();
    node.reports();
    node
}

fn told(node: &mut Lone, words: &str) -> bool {
    let reports = node.reports();
    reports.iter().any(|told| matches!(told, Report::Catchup(what) if what.contains(words)))
}

/// It asks for as much as its disk takes at a time, and for all; and has nothing before it has all.
#[test]
fn a_large_snapshot_comes_part_by_part_and_is_installed_whole() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    node.hold_writes();
    offer(&mut node, N2, &snapshot);
    let first = asked(&mut node);
    assert_eq!(first, [(0, 16), (16, 16), (32, 16), (48, 16)], "as much as may be in flight");
    for ask in first {
        say(&mut node, N2, snapshot.id, part(&snapshot, ask));
    }
    assert_eq!(asked(&mut node), [], "its disk has not written it");
    node.perform_one_write();
    assert_eq!(asked(&mut node), [(64, 16)]);
    let Catchup::Parts { covers, bytes: 64, of, .. } = node.status().catchup else {
        panic!("{:?}", node.status().catchup)
    };
    assert_eq!((covers.get(), of), (9, snapshot.file.len() as u64));
    say(&mut node, N2, snapshot.id, part(&snapshot, (64, 16)));
    node.release_writes();
    let before = (node.status().last.index, node.status().commit, node.applied().len());
    assert_eq!((before.0.get(), before.1.get(), on_disk(&node)), (2, 2, None));
    serve(&mut node, N2, &snapshot, usize::MAX);
    assert_eq!(on_disk(&node), Some((9, state(5))));
    assert_eq!(taken(&node), [(9, state(5))]);
    let status = node.status();
    assert_eq!((status.first.get(), status.commit.get(), status.applied.get()), (10, 9, 9));
    hear_records(&mut node, 9, 1);
    assert_eq!(node.acks().last(), Some(&(1, 10)), "and it goes on");
    node.restart();
    assert_eq!(taken(&node), [(9, state(5))]);
}

/// What the leader is told when it is durable, and not before.
#[test]
fn the_leader_is_told_of_a_large_snapshot_when_it_is_durable() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    let parts = snapshot.file.len().div_ceil(PART);
    assert_eq!(serve(&mut node, N2, &snapshot, parts - 1), parts - 1);
    let last = ((parts - 1) * PART) as u64;
    node.hold_writes();
    say(&mut node, N2, snapshot.id, part(&snapshot, (last, snapshot.id.length - last)));
    node.perform_one_write();
    assert_eq!(node.responses(), [], "it is read back, and asked to be put in its place");
    assert_eq!(on_disk(&node), None);
    node.release_writes();
    let progress: Vec<_> = node.responses().iter().map(|told| told.index.get()).collect();
    assert_eq!(progress, [9]);
}

/// Parts that overtake each other or come twice are put in order; what was not asked for is not taken.
#[test]
fn parts_that_overtake_each_other_are_put_in_order() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    loop {
        let asks = asked(&mut node);
        if asks.is_empty() {
            break;
        }
        let beyond = (asks[asks.len() - 1].0 + PART as u64).min(snapshot.id.length - 1);
        say(&mut node, N2, snapshot.id, part(&snapshot, (beyond, 1)));
        for ask in asks.iter().rev().chain(&asks) {
            if node.inbox().is_some() {
                say(&mut node, N2, snapshot.id, part(&snapshot, *ask));
            }
        }
    }
    assert_eq!(on_disk(&node), Some((9, state(5))));
}

/// What is said in another term, by another server, or of another file counts for nothing.
#[test]
fn only_the_leader_of_the_term_speaks_of_the_snapshot_that_it_offered() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    for stranger in [("n3", 1), ("n2", 0), ("n2", 2)] {
        offer(&mut node, stranger, &snapshot);
        assert_eq!(asked(&mut node), [], "{stranger:?}");
    }
    offer(&mut node, N2, &snapshot);
    let first = asked(&mut node);
    let other = offered(9, &state(6));
    say(&mut node, N2, other.id, part(&other, first[0]));
    say(&mut node, ("n3", 1), snapshot.id, part(&other, first[0]));
    say(&mut node, N2, snapshot.id, part(&snapshot, first[0]));
    let rest = |node: &mut Lone| serve(node, N2, &snapshot, usize::MAX);
    for ask in &first[1..] {
        say(&mut node, N2, snapshot.id, part(&snapshot, *ask));
    }
    rest(&mut node);
    assert_eq!(on_disk(&node), Some((9, state(5))));
}

/// Nothing comes any more: the leader is asked again, and the same file goes on where it was.
#[test]
fn an_interrupted_load_goes_on_where_it_was() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, 5);
    let before = node.inbox();
    node.sent();
    node.wait(Duration::from_secs(2));
    assert_ne!(node.inbox(), before, "a catchup of its own");
    node.sent();
    offer(&mut node, N2, &snapshot);
    assert!(told(&mut node, "the snapshot of 9 goes on at byte 80 of 262"));
    let parts = serve(&mut node, N2, &snapshot, usize::MAX);
    assert_eq!(parts, snapshot.file.len().div_ceil(PART) - 5, "none of them twice");
    assert_eq!(on_disk(&node), Some((9, state(5))));
}

/// A restart forgets it.
#[test]
fn a_load_that_a_restart_interrupts_begins_anew() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, 5);
    node.restart();
    assert_eq!((on_disk(&node), node.status().last.index.get()), (None, 2));
    node.hear(&Append::by("n2", 1).after(1, 9).commit(9));
    node.sent();
    offer(&mut node, N2, &snapshot);
    assert_eq!(asked(&mut node)[0], (0, 16));
}

/// A part is damaged on its way: that is found by the hash, said, and the whole is fetched again.
///
/// Seen red with a `SnapshotReader::push` that does not compare the hash.
#[test]
fn a_damaged_part_is_not_installed() {
    for at in [2, 9, 30, 150, 261] {
        let mut node = behind();
        let good = offered(9, &state(5));
        let mut file = good.file.to_vec();
        file[at] ^= 2;
        let bad = Offered { id: good.id, file: file.into() };
        offer(&mut node, N2, &bad);
        serve(&mut node, N2, &bad, usize::MAX);
        let reports = node.reports();
        let why = |told: &Report| match told {
            Report::Refused { why, .. } => why.contains("raft_snapshot"),
            Report::Catchup(what) => what.contains("is not what was offered"),
            _ => false,
        };
        assert!(reports.iter().any(why), "byte {at}: {reports:?}");
        assert_eq!((on_disk(&node), node.status().last.index.get()), (None, 2));
        node.wait(Duration::from_secs(2));
        node.sent();
        offer(&mut node, N2, &good);
        serve(&mut node, N2, &good, usize::MAX);
        assert_eq!(on_disk(&node), Some((9, state(5))), "byte {at}");
    }
}

/// A part goes bad on the member's own disk: it is read back, and not installed.
///
/// Seen red with a `Raft::proof_loaded` that reads nothing.
#[test]
fn a_part_that_goes_bad_on_its_own_disk_is_not_installed() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    let parts = snapshot.file.len().div_ceil(PART);
    let serve_all_but_one = |node: &mut Lone| serve(node, N2, &snapshot, parts - 1);
    serve_all_but_one(&mut node);
    node.disk.spoil_part(100);
    let last = ((parts - 1) * PART) as u64;
    say(&mut node, N2, snapshot.id, part(&snapshot, (last, snapshot.id.length - last)));
    let reports = node.reports();
    let damaged = |told: &Report| matches!(told, Report::Damaged(Damaged::Snapshot(_)));
    assert!(reports.iter().any(damaged), "{reports:?}");
    assert_eq!((on_disk(&node), node.status().aside.clone()), (None, None));
    node.wait(Duration::from_secs(2));
    node.sent();
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, usize::MAX);
    assert_eq!(on_disk(&node), Some((9, state(5))));
}

/// The leader has a newer one meanwhile: the older is given up, and that is said.
#[test]
fn a_newer_snapshot_amid_a_load_begins_anew() {
    let mut node = behind();
    let (older, newer) = (offered(9, &state(5)), offered(12, &state(6)));
    offer(&mut node, N2, &older);
    serve(&mut node, N2, &older, 5);
    offer(&mut node, N2, &newer);
    assert!(told(&mut node, "the snapshot of 9 is given up at byte 80 of 262"));
    say(&mut node, N2, older.id, part(&older, (80, 16)));
    serve(&mut node, N2, &newer, usize::MAX);
    assert_eq!((on_disk(&node), taken(&node)), (Some((12, state(6))), vec![(12, state(6))]));
}

/// A newer term ends the load, with the reason; what the old leader sends counts no longer. The new
/// leader's own file begins anew, the same file goes on.
#[test]
fn a_new_leader_amid_a_load_ends_it_and_may_go_on_with_it() {
    for same in [true, false] {
        let mut node = behind();
        let first = offered(9, &state(5));
        offer(&mut node, N2, &first);
        serve(&mut node, N2, &first, 5);
        let inbox = node.inbox().expect("a catchup is under way");
        node.hear(&Append::by("n3", 2).after(1, 9).commit(9));
        let cancelled = "the log's catchup is given up at 0 of 7: term 2 began";
        assert!(told(&mut node, cancelled));
        node.sent();
        say_at(&mut node, &inbox, N2, first.id, part(&first, (80, 16)));
        let n3 = ("n3", 2);
        let second = if same { first.clone() } else { offered(9, &state(6)) };
        offer(&mut node, n3, &second);
        let parts = serve(&mut node, n3, &second, usize::MAX);
        let all = second.file.len().div_ceil(PART);
        assert_eq!(parts, if same { all - 5 } else { all });
        assert_eq!(on_disk(&node), Some((9, if same { state(5) } else { state(6) })));
    }
}

/// A new term while it is read back: nothing is installed for the old leader.
#[test]
fn a_new_term_while_a_load_is_read_back_ends_it() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    node.disk.hold_loads = true;
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, usize::MAX);
    node.ask_vote("n3", 2, 1, 9);
    node.wait(Duration::from_secs(10));
    let why = Cancelled::NewTerm(Term::new(2));
    let ended = matches!(node.status().catchup, Catchup::Cancelled { why: ended, .. } if ended == why)
        || node.status().term.get() > 1;
    assert!(ended, "{:?}", node.status().catchup);
    node.disk.hold_loads = false;
    node.disk.answer_loads();
    node.settle();
    assert_eq!((on_disk(&node), node.status().last.index.get()), (None, 2));
}

/// While it is read back the leader is told that it goes on, so that it waits.
#[test]
fn a_slow_disk_keeps_a_load_alive() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    node.disk.hold_loads = true;
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, usize::MAX);
    let inbox = node.inbox();
    for _ in 0..3 {
        node.hear(&Append::by("n2", 1).after(1, 9).commit(9));
        node.sent();
        node.wait(Duration::from_secs(1));
        assert_eq!(asked(&mut node), [(0, 0)]);
    }
    assert_eq!(node.inbox(), inbox);
    node.disk.hold_loads = false;
    node.disk.answer_loads();
    node.settle();
    assert_eq!(on_disk(&node), Some((9, state(5))));
}

/// The disk is full amid a load: the member stands aside, and has what it had after a restart.
#[test]
fn a_full_disk_amid_a_load_costs_nothing_that_was_there() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, 5);
    node.disk.fail_writes = true;
    say(&mut node, N2, snapshot.id, part(&snapshot, (80, 16)));
    assert!(node.status().aside.is_some());
    node.restart();
    assert_eq!((on_disk(&node), node.status().last.index.get()), (None, 2));
    assert_eq!(node.status().aside, None);
}

/// A checkpoint gives way to a load, and none begins before its end.
#[test]
fn one_file_in_parts_is_written_at_a_time() {
    let mut node = behind();
    let id = crate::begin(&mut node);
    node.checkpoint(CheckpointStep::Write { id, part: state(1).slice(..3 * PART) });
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    let why = SnapshotRefusal::Replaced { index: Index::new(9) };
    assert_eq!(node.news().last(), Some(&CheckpointNews::Ended { id, why }));
    let refused = [CheckpointNews::Refused(SnapshotRefusal::UnderWay)];
    assert_eq!(node.checkpoint(CheckpointStep::Begin { force: true }), refused);
    serve(&mut node, N2, &snapshot, usize::MAX);
    assert_eq!(on_disk(&node), Some((9, state(5))));
    hear_records(&mut node, 9, 1);
    checkpoint(&mut node, &state(7));
    assert_eq!(on_disk(&node), Some((10, state(7))));
}

/// A load that nobody goes on with does not keep the machine from its own snapshots.
#[test]
fn a_load_that_was_given_up_gives_way_to_a_checkpoint() {
    let mut node = behind();
    let snapshot = offered(9, &state(5));
    offer(&mut node, N2, &snapshot);
    serve(&mut node, N2, &snapshot, 5);
    node.hear(&Append::by("n3", 2).after(1, 2).commit(2));
    checkpoint(&mut node, &state(7));
    assert_eq!(on_disk(&node), Some((2, state(7))));
}
