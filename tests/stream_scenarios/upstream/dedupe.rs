//! Message ids that are stored once: `jetstream_test.go`, `jetstream_cluster_*_test.go` of upstream.

use jetwake::limits::Limits;
use jetwake::time::Duration;
use jetwake::wire::StreamConfig;

use super::{hand_over, span};
use crate::catchup::{carry, install, snapshot};
use crate::rig::{Log, Replica, Store, ack, assert_same, config, error, two};
use crate::schedule::message;

fn send(log: &mut Log, one: &mut Replica, id: &str) -> u64 {
    log.publish_with(one, "s.foo", &format!("Nats-Msg-Id: {id}"), "Hello DeDupe!")
}

fn duplicate(sequence: u64) -> String {
    format!(r#"{{"stream":"S","seq":{sequence},"duplicate": true}}"#)
}

/// A window cannot be changed while a stream runs here, so each is a stream of its own.
/// Red when a window is not that of the configuration, or a purge or a restart forgets ids.
#[test]
fn jetstream_publish_de_dupe() {
    let (mut one, mut two, mut log) = two(&config());
    let ids = ["AA", "BB", "CC", "ZZ"];
    for (sequence, id) in (1..).zip(ids) {
        let taken = send(&mut log, &mut one, id);
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(taken), ack(sequence));
    }
    for (sequence, id) in [(1, "AA"), (2, "BB"), (4, "ZZ")] {
        let again = send(&mut log, &mut one, id);
        assert_eq!(one.answer(again), duplicate(sequence));
    }
    assert_eq!(span(&one), (4, 1, 4));
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    for (sequence, id) in (1..).zip(ids) {
        let again = send(&mut log, &mut one, id);
        assert_eq!(one.answer(again), duplicate(sequence));
    }
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one, &mut two]);
    let again = send(&mut log, &mut one, "AA");
    assert_eq!((one.answer(again), span(&two)), (&*duplicate(1), (0, 5, 4)));

    let short = StreamConfig { duplicate_window: 100_000_000, ..config() };
    let (mut one, mut two, mut log) = crate::rig::two(&short);
    for sequence in 1..=3 {
        let taken = send(&mut log, &mut one, "AAA");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(taken), ack(sequence));
        one.now = one.now + Duration::from_millis(200);
    }
    assert_same(&one, &two);
}

/// Red when the second of two ids is taken for the first.
#[test]
fn jetstream_cluster_msg_id_duplicate_bug() {
    let (mut one, mut two, mut log) = two(&config());
    for (id, answer) in [("1", ack(1)), ("1", duplicate(1)), ("2", ack(2))] {
        let sent = send(&mut log, &mut one, id);
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(sent), answer);
    }
}

/// Every third message both replicas start again, and the other leads.
/// Red when a follower does not keep ids, or a restart forgets them.
#[test]
fn jetstream_cluster_pub_ack_sequence_dupe() {
    let window = StreamConfig { duplicate_window: 60_000_000_000, ..config() };
    let (mut leader, mut other, mut log) = two(&window);
    for sequence in 1..10 {
        if sequence % 3 == 0 {
            leader = leader.restart();
            let mut next = other.restart();
            next.with_stream(|stream, cx| stream.leadership_gained(cx));
            (leader, other) = (next, leader);
        }
        let id = format!("id {sequence}");
        let first = send(&mut log, &mut leader, &id);
        log.commit_to(&mut [&mut leader, &mut other]);
        let second = send(&mut log, &mut leader, &id);
        assert_eq!(leader.answer(first), ack(sequence));
        assert_eq!(leader.answer(second), duplicate(sequence));
    }
    assert_same(&leader, &other);
}

/// Red when an id in flight is answered as one that is stored.
#[test]
fn jetstream_cluster_pub_ack_sequence_dupe_async() {
    let (mut one, mut two, mut log) = two(&config());
    for sequence in 1..10 {
        let id = format!("id {sequence}");
        let first = send(&mut log, &mut one, &id);
        let second = send(&mut log, &mut one, &id);
        let conflict = error(409, 10158, "duplicate message id is in process");
        assert_eq!(one.answer(second), conflict);
        log.commit_to(&mut [&mut one, &mut two]);
        let retried = send(&mut log, &mut one, &id);
        assert_eq!(one.answer(first), ack(sequence));
        assert_eq!(one.answer(retried), duplicate(sequence));
    }
}

/// Upstream writes into its map, and here the proposal never reaches a quorum.
/// Red when `leadership_lost` keeps ids in flight, or drops the others.
#[test]
fn jetstream_cluster_pub_ack_sequence_dupe_reset_after_leader_change() {
    let (mut one, mut two, mut log) = two(&config());
    send(&mut log, &mut one, "genuine");
    log.commit_to(&mut [&mut one, &mut two]);
    send(&mut log, &mut one, "msgId");
    let blocked = send(&mut log, &mut one, "msgId");
    assert!(one.answer(blocked).contains("10158"), "{}", one.answer(blocked));
    log.commit();
    log.records.pop();
    hand_over(&mut one, &mut two);
    hand_over(&mut two, &mut one);
    let taken = send(&mut log, &mut one, "msgId");
    let known = send(&mut log, &mut one, "genuine");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(taken), one.answer(known)), (&*ack(2), &*duplicate(1)));
    assert_same(&one, &two);
}

/// Red when ids that come by a catchup are not kept.
#[test]
fn jetstream_cluster_duplicate_msg_ids_on_catchup_and_leader_takeover() {
    let (mut one, mut two, mut log) = two(&config());
    (0..10).for_each(|id| _ = send(&mut log, &mut one, &id.to_string()));
    log.commit_to(&mut [&mut one]);
    let again = send(&mut log, &mut one, "8");
    assert_eq!(one.answer(again), duplicate(9));
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    carry(&mut one, &mut two);
    hand_over(&mut one, &mut two);
    let again = send(&mut log, &mut two, "8");
    assert_eq!(two.answer(again), duplicate(9));
    assert_same(&one, &two);
}

/// Each message is sent twice, over changes of the leader, a replica that lost all it had, and one that
/// was away.
/// Red when a duplicate is proposed and counted.
#[test]
fn jetstream_cluster_stream_fail_tracking() {
    let (mut one, mut two, mut log) = two(&config());
    let mut sent = 0;
    let mut batch = |log: &mut Log, leader: &mut Replica, others: &mut [&mut Replica]| {
        for _ in 0..5 {
            let id = format!("ID:{sent}");
            sent += 1;
            for _ in 0..2 {
                send(log, leader, &id);
                log.commit();
                log.feed(leader);
                others.iter_mut().for_each(|other| log.feed(other));
            }
        }
    };
    batch(&mut log, &mut one, &mut [&mut two]);
    hand_over(&mut one, &mut two);
    batch(&mut log, &mut two, &mut [&mut one]);
    // It lost all, and is away for a while.
    let mut one = Replica::with("n1", Store::default(), config(), Limits::default());
    batch(&mut log, &mut two, &mut []);
    log.feed(&mut one);
    batch(&mut log, &mut two, &mut [&mut one]);
    hand_over(&mut two, &mut one);
    batch(&mut log, &mut one, &mut [&mut two]);
    assert_eq!((span(&one), one.stream.state().failed), ((25, 1, 25), 0));
    for sequence in 1..=25 {
        let header = message(&one, sequence).1;
        assert!(header.contains(&format!("Nats-Msg-Id: ID:{}\r\n", sequence - 1)), "{header}");
    }
    assert_same(&one, &two);
}

/// Red when a catchup from a snapshot counts what failed otherwise than the log.
#[test]
fn jetstream_cluster_stream_fail_tracking_snapshots() {
    let (mut one, mut two, mut log) = two(&config());
    for number in 0..200 {
        for _ in 0..2 {
            send(&mut log, &mut one, &format!("ID:{number}"));
        }
        log.commit();
        log.feed(&mut one);
        if number < 100 {
            log.feed(&mut two);
        }
    }
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    carry(&mut one, &mut two);
    hand_over(&mut one, &mut two);
    let next = send(&mut log, &mut two, "ID:200");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(two.answer(next), ack(201));
    for sequence in 1..=201 {
        let header = message(&two, sequence).1;
        assert!(header.contains(&format!("Nats-Msg-Id: ID:{}\r\n", sequence - 1)), "{header}");
    }
    assert_same(&one, &two);
}
