//! A leader's large snapshot for its followers: `n1` leads, the others are played.

use core::time::Duration;

use bytes::Bytes;
use jetwake::command::{CheckpointNews, Report, SnapshotRefusal};
use jetwake::event::CheckpointStep;
use jetwake::ids::{ByteCount, PeerId, Term};
use jetwake::subject::Subject;
use jetwake::wire::{AppendResponse, SnapshotId, SnapshotTransfer, TransferSays};
use jetwake_sim::lone::{Lone, LoneDisk, Message, Sent};

use crate::{PART, checkpoint, hear_records, member, state};

/// Where a follower of this kind waits, and one of another.
const IN_PARTS: Subject = Subject::from_static("$NRG.CR.abcdefgh.P");
const WHOLE: Subject = Subject::from_static("$NRG.CR.abcdefgh");

/// A leader with a snapshot of record 3 and two records behind it, one of them its own.
fn leader() -> Lone {
    let mut node = member(3);
    checkpoint(&mut node, &state(1));
    hear_records(&mut node, 3, 1);
    node.elect(&["n2"]);
    node.sent();
    node.reports();
    node
}

fn file(node: &Lone) -> Bytes {
    node.disk.durable_log().snapshot().expect("it was written").file.clone()
}

/// What was said about snapshots since the last look.
fn transfers(node: &mut Lone) -> Vec<(SnapshotId, TransferSays)> {
    let said = |sent: Sent| match sent.message {
        Message::Transfer(transfer) => Some((transfer.snapshot, transfer.says)),
        Message::Append(append) => panic!("{append:?} overtakes the snapshot"),
        _ => None,
    };
    node.sent().into_iter().filter_map(said).collect()
}

/// A follower asks for bytes of a snapshot.
fn ask(node: &mut Lone, peer: &str, term: u64, snapshot: SnapshotId, (offset, bytes): (u64, u64)) {
    let sender = PeerId::from_name(peer);
    let says = TransferSays::Ask { offset, bytes };
    let message = SnapshotTransfer { sender, term: Term::new(term), snapshot, says };
    let progress = node.catchup_progress().expect("it has said where it listens");
    node.receive(Some(sender), progress, None, message.to_bytes());
}

/// Offers a snapshot to `n3`; which.
fn offer(node: &mut Lone) -> SnapshotId {
    node.ask_catchup("n3", (0, 0), &IN_PARTS);
    let sent = node.sent();
    let [Sent { subject, message: Message::Transfer(transfer), .. }] = &sent[..] else {
        panic!("no offer: {sent:?}")
    };
    assert_eq!(*subject, IN_PARTS);
    assert_eq!(transfer.says, TransferSays::Offer { part: PART as u64 });
    transfer.snapshot
}

fn term(node: &Lone) -> u64 {
    node.status().term.get()
}

/// The follower gets what it asks for, and records when it has the snapshot.
#[test]
fn a_follower_of_this_kind_gets_a_large_snapshot_as_it_asks() {
    let mut node = leader();
    let (id, file, term) = (offer(&mut node), file(&node), term(&node));
    assert_eq!((id.index.get(), id.length), (3, file.len() as u64));
    let mut got = Vec::new();
    while got.len() < file.len() {
        ask(&mut node, "n3", term, id, (got.len() as u64, 1 << 40));
        let said = transfers(&mut node);
        let [(of, TransferSays::Part { offset, bytes })] = &said[..] else { panic!("{said:?}") };
        assert_eq!((*of, *offset), (id, got.len() as u64));
        assert!(bytes.len() <= PART, "one part at a time");
        got.extend_from_slice(bytes);
    }
    assert_eq!(got, file);
    let progress = node.catchup_progress().expect("it has said where it listens");
    let peer = PeerId::from_name("n3");
    let (index, has) = (id.index, id.term);
    let told = AppendResponse { term: has, index, peer, success: true };
    node.receive(Some(peer), progress, None, told.to_bytes());
    let records: Vec<_> = node.appends().iter().map(|append| append.previous_index.get()).collect();
    assert_eq!(records, [3, 4, 5], "what follows the snapshot, and that nothing follows that");
}

/// What nobody may ask for is not read: of another server, term or file, or beyond the end.
#[test]
fn a_leader_hands_out_nothing_that_it_did_not_offer() {
    let mut node = leader();
    let (id, term) = (offer(&mut node), term(&node));
    ask(&mut node, "n9", term, id, (0, 16));
    ask(&mut node, "n2", term, id, (0, 16));
    ask(&mut node, "n3", term + 1, id, (0, 16));
    ask(&mut node, "n3", term - 1, id, (0, 16));
    ask(&mut node, "n3", term, id, (id.length, 16));
    ask(&mut node, "n3", term, id, (u64::MAX, u64::MAX));
    assert_eq!(transfers(&mut node), []);
    let refused =
        |told: &Report| matches!(told, Report::Refused { why, .. } if why.contains("not a member"));
    assert!(node.reports().iter().any(refused));
}

/// However much a follower asks for, few parts are in memory for it.
#[test]
fn a_follower_that_asks_for_everything_at_once_gets_a_little() {
    let mut node = leader();
    let (id, term) = (offer(&mut node), term(&node));
    node.disk.hold_loads = true;
    for _ in 0..100 {
        ask(&mut node, "n3", term, id, (0, 16));
    }
    node.disk.answer_loads();
    node.settle();
    assert_eq!(transfers(&mut node).len(), 16);
}

/// A newer snapshot took its place: that is offered, whenever the older one is asked for.
#[test]
fn a_newer_snapshot_is_offered_to_who_asks_for_the_older() {
    let mut node = leader();
    let (older, term) = (offer(&mut node), term(&node));
    node.acknowledge("n2", term, 5);
    checkpoint(&mut node, &state(2));
    node.sent();
    for _ in 0..2 {
        ask(&mut node, "n3", term, older, (16, 16));
        let said = transfers(&mut node);
        let [(newer, TransferSays::Offer { .. })] = said[..] else { panic!("{said:?}") };
        assert_eq!((newer.index.get(), newer.length), (5, older.length));
        assert_ne!(newer.seal, older.seal);
        ask(&mut node, "n3", term, newer, (16, 16));
        let said = transfers(&mut node);
        assert!(matches!(said[..], [(of, TransferSays::Part { .. })] if of == newer), "{said:?}");
    }
}

/// What was read of the file that took its place is neither sent in its name nor taken for damage,
/// though that file is shorter.
#[test]
fn a_read_that_a_newer_snapshot_overtakes_is_of_no_account() {
    let mut node = leader();
    let (older, term) = (offer(&mut node), term(&node));
    node.disk.hold_loads = true;
    ask(&mut node, "n3", term, older, (16, 16));
    ask(&mut node, "n3", term, older, (older.length - 16, 16));
    node.disk.hold_loads = false;
    node.acknowledge("n2", term, 5);
    checkpoint(&mut node, &state(2).slice(..150));
    node.sent();
    node.disk.answer_loads();
    node.settle();
    assert_eq!(transfers(&mut node), []);
    assert_eq!(node.status().aside, None);
    ask(&mut node, "n3", term, older, (16, 16));
    let said = transfers(&mut node);
    assert!(
        matches!(said[..], [(newer, TransferSays::Offer { .. })] if newer != older),
        "{said:?}"
    );
}

/// Who says that it goes on is waited for; who says nothing is not.
#[test]
fn a_follower_that_goes_on_keeps_its_feed() {
    for alive in [true, false] {
        let mut node = leader();
        let (id, term) = (offer(&mut node), term(&node));
        node.acknowledge("n2", term, 5);
        for _ in 0..4 {
            node.wait(Duration::from_secs(1));
            node.acknowledge("n2", term, 5);
            if alive {
                ask(&mut node, "n3", term, id, (0, 0));
            }
        }
        let told = node.checkpoint(CheckpointStep::Begin { force: false });
        let why = SnapshotRefusal::CatchupsRunning { followers: 1 };
        assert_eq!(told == [CheckpointNews::Refused(why)], alive, "{told:?}");
    }
}

/// A server of another kind gets it in one message, if it fits, and else nothing; that is said.
#[test]
fn a_server_of_another_kind_gets_what_fits_into_one_message() {
    for fits in [true, false] {
        let mut config = member(0).config().clone();
        if !fits {
            config.limits.peer_message = ByteCount::new(280);
        }
        let mut node = Lone::start(config, LoneDisk::default());
        hear_records(&mut node, 0, 3);
        checkpoint(&mut node, &state(1));
        hear_records(&mut node, 3, 1);
        node.elect(&["n2"]);
        node.sent();
        node.reports();
        node.ask_catchup("n3", (0, 0), &WHOLE);
        let sent = node.appends();
        assert_eq!(sent.first().is_some_and(|append| append.entries.len() == 2), fits);
        let words = "takes no parts";
        let says = |told: &Report| matches!(told, Report::Catchup(what) if what.contains(words));
        assert_eq!(node.reports().iter().any(says), !fits);
        // One of this kind is given it all the same.
        offer(&mut node);
    }
}

/// A part that cannot be read: the leader stands aside, and names an heir.
#[test]
fn a_leader_whose_snapshot_cannot_be_read_stands_aside() {
    let mut node = leader();
    let (id, term) = (offer(&mut node), term(&node));
    node.disk.lose_snapshot();
    ask(&mut node, "n3", term, id, (0, 16));
    let said = node.status().aside.expect("it stands aside");
    assert!(said.contains("the snapshot of 3 is damaged"), "{said}");
}
