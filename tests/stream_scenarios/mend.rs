//! Messages that a replica's store lost come from another member.

use jetwake::stream::Notice;

use crate::catchup::carry;
use crate::rig::{Log, Replica, Store, assert_same, leader};

/// A leader with a hundred messages, and a replica that starts with ten of them lost.
fn with_lost_messages() -> (Replica, Replica) {
    let (one, two, _) = with_log();
    (one, two)
}

fn with_log() -> (Replica, Replica, Log) {
    let (mut one, mut log) = leader();
    let mut two = Replica::new("n2", Store::default());
    for _ in 0..100 {
        log.publish(&mut one, "s.a", "payload");
    }
    log.commit_to(&mut [&mut one, &mut two]);
    two.store.lost = Some((41, 50));
    (one, two.restart(), log)
}

fn is_mended(one: &Replica, two: &Replica) {
    assert!(matches!(&two.notices[..], [.., Notice::Ready]), "{:?}", two.notices);
    assert_eq!(two.stream.applied(), one.stream.applied());
    assert_same(one, two);
}

/// It waits in vain, rests, and asks the next member, which is not there, and then this one.
fn ask_in_turn(one: &mut Replica, two: &mut Replica) {
    for _ in 0..6 {
        if two.stream.deadline().is_none() {
            break;
        }
        two.wait();
        two.sent.retain(|sent| sent.to == one.me);
        carry(one, two);
    }
}

#[test]
fn what_the_store_lost_comes_from_another_member() {
    let (mut one, mut two) = with_lost_messages();
    carry(&mut one, &mut two);
    is_mended(&one, &two);
}

#[test]
fn all_that_was_lost_is_asked_for_again_when_the_end_of_it_is_lost_too() {
    let (mut one, mut two) = with_lost_messages();
    let asked = two.sent.pop_front().expect("it asks");
    one.receive(&asked);
    // The end has no bytes.
    one.sent.retain(|sent| !sent.payload.is_empty());
    while let Some(sent) = one.sent.pop_front() {
        two.receive(&sent);
    }
    two.sent.clear();
    ask_in_turn(&mut one, &mut two);
    is_mended(&one, &two);
}

#[test]
fn what_is_gone_elsewhere_is_not_believed_without_the_state_that_says_since_when() {
    let (mut one, mut two, mut log) = with_log();
    for sequence in 41..=60 {
        log.delete(&mut one, sequence);
    }
    log.commit_to(&mut [&mut one]);
    let asked = two.sent.pop_front().expect("it asks");
    one.receive(&asked);
    let sent = one.sent.len();
    // A state begins with an op that NATS servers do not have.
    one.sent.retain(|sent| sent.payload.first() != Some(&0xff));
    assert_eq!(one.sent.len(), sent - 1);
    while let Some(sent) = one.sent.pop_front() {
        two.receive(&sent);
    }
    assert!(two.notices.iter().all(|notice| *notice != Notice::Ready), "{:?}", two.notices);
    ask_in_turn(&mut one, &mut two);
    log.feed(&mut two);
    is_mended(&one, &two);
}
