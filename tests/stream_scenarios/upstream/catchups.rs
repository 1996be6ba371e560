//! Replicas that lack what the log no longer has: `jetstream_cluster_*_test.go` of upstream.

use bytes::Bytes;
use jetwake::ids::Sequence;
use jetwake::stream::Notice;
use jetwake::time::Duration;
use jetwake::wire::{DeleteRange, Op, StreamConfig, StreamMessageView};

use super::{hand_over, publish_each, span};
use crate::catchup::{carry, install, message, request_of, snapshot};
use crate::defects::served;
use crate::rig::{Log, Replica, Sent, Store, ack, assert_same, config, leader, two};

/// What a replica sends while another catches up with it, all told.
fn caught_up(one: &mut Replica, two: &mut Replica) -> Vec<Bytes> {
    let mut sent = Vec::new();
    let (index, state) = snapshot(one);
    install(two, index, &state);
    while let Some(request) = two.sent.pop_front() {
        one.receive(&request);
        while let Some(next) = one.sent.pop_front() {
            sent.push(next.payload.clone());
            two.receive(&next);
        }
    }
    assert_eq!(two.notices.pop(), Some(Notice::CaughtUp), "{:?}", two.reports);
    sent
}

/// Upstream sends one skipped message where it is asked for one that is gone, and ours the range of it,
/// which the asker says that it reads.
/// Red when what is gone is passed over in silence.
#[test]
fn jetstream_cluster_catchup_load_next_msg_too_many_deletes() {
    for end_is_gone in [false, true] {
        let (mut one, mut log) = leader();
        for number in 0..100 {
            let subject = if number == 0 || number == 99 { "s.foo" } else { "s.bar" };
            log.publish(&mut one, subject, "");
        }
        log.commit_to(&mut [&mut one]);
        log.purge(&mut one, "s.bar", 0, 0);
        if end_is_gone {
            log.delete(&mut one, 100);
        }
        log.commit_to(&mut [&mut one]);
        let sent = served(&mut one, 5, 5);
        assert_eq!((sent.len(), sent.last()), (2, Some(&Bytes::new())));
        let gone = match Op::of(&sent[0]).expect("not empty") {
            Op::DeleteRange => {
                let range = DeleteRange::decode(&sent[0], &one.limits).expect("a range");
                (range.first.get(), range.count)
            }
            _ => {
                let mut unpacked = Vec::new();
                let view = StreamMessageView::decode(&sent[0], &mut unpacked, &one.limits);
                let view = view.expect("a message");
                assert!(view.subject.is_empty() && view.timestamp == 0);
                (view.sequence.get(), 1)
            }
        };
        assert_eq!(gone, (5, 1));
    }
}

/// A follower is away, the leader compacts its log, and all is purged while the follower comes back.
/// Red when the purge is done to what the follower lacks, or not at all.
#[test]
fn jetstream_cluster_stream_snapshot_catchup_with_purge() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one], "s.foo", 10);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one]);
    carry(&mut one, &mut two);
    log.feed(&mut two);
    assert_eq!(span(&two), (0, 11, 10));
    assert_same(&one, &two);
    hand_over(&mut one, &mut two);
    let next = log.publish(&mut two, "s.foo", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(two.answer(next), ack(11));
}

/// The logs of both and the state of one are gone; here the one that has its store makes a snapshot of it.
/// Red when a replica with nothing takes a hole for messages that were deleted.
#[test]
fn jetstream_cluster_stream_catchup_no_state() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.created", 100);
    let mut two = Replica::new("n2", Store::default());
    let sent = caught_up(&mut one, &mut two);
    assert_eq!(sent.len(), 101, "every message, and the end");
    assert_same(&one, &two);
    let next = log.publish(&mut one, "s.created", "ZZZ");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(next), span(&two)), (&*ack(101), (101, 1, 101)));
}

/// Red when a message of no bytes is taken for one that is gone.
#[test]
fn jetstream_cluster_stream_catchup_interior_nil_msgs() {
    let (mut one, mut two, mut log) = two(&config());
    for number in 1..=500 {
        log.publish(&mut one, "s.foo", if number % 100 == 0 { "" } else { "SNAP" });
    }
    log.commit_to(&mut [&mut one]);
    assert_eq!(span(&one), (500, 1, 500));
    caught_up(&mut one, &mut two);
    assert_eq!(span(&two), (500, 1, 500));
    assert_same(&one, &two);
}

/// Between servers of ours the end says too what the follower has to remove.
/// Red when what was purged is sent one by one.
#[test]
fn jetstream_cluster_snapshot_before_purge_and_catchup() {
    let (mut one, mut two, mut log) = two(&config());
    let thousand = |log: &mut Log, one: &mut Replica| {
        (0..1000).for_each(|_| _ = log.publish(one, "s.foo", "SNAP"));
        log.commit_to(&mut [one]);
    };
    thousand(&mut log, &mut one);
    log.feed(&mut two);
    thousand(&mut log, &mut one);
    let (index, state) = snapshot(&mut one);
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one]);
    thousand(&mut log, &mut one);
    install(&mut two, index, &state);
    let request = two.sent.pop_front().expect("a request");
    one.receive(&request);
    let sent: Vec<_> = one.sent.drain(..).collect();
    assert_eq!(sent.len(), 2, "a range, and the end");
    let range = DeleteRange::decode(&sent[0].payload, &one.limits).expect("a range");
    assert_eq!((range.first.get(), range.count), (1001, 1000));
    sent.iter().for_each(|sent| two.receive(sent));
    assert_eq!(two.notices, [Notice::CaughtUp], "with the second it has all");
    log.feed(&mut two);
    assert_eq!(span(&two), (1000, 2001, 3000));
    assert_same(&one, &two);
}

/// Red when sequences that never were are sent as deleted.
#[test]
fn jetstream_cluster_stream_reset_with_large_first_seq() {
    let (mut one, mut two, mut log) = two(&config());
    log.purge(&mut one, "", 1_000_000, 0);
    log.commit_to(&mut [&mut one]);
    let mut one = one.restart();
    assert_eq!(one.stream.state().first.get(), 1_000_000);
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    (0..500).for_each(|_| _ = log.publish(&mut one, "s.foo", "SNAP"));
    log.commit_to(&mut [&mut one]);
    assert_eq!(span(&one), (500, 1_000_000, 1_000_499));
    let sent = caught_up(&mut one, &mut two);
    assert_eq!(sent.len(), 501, "the messages and the end");
    assert_same(&one, &two);
}

/// Red when lives that come by a catchup are not heard.
#[test]
fn jetstream_cluster_message_ttl_catchup() {
    let (mut one, mut two, mut log) = two(&StreamConfig { allow_msg_ttl: true, ..config() });
    for _ in 0..10 {
        log.publish_with(&mut one, "s.bar", "Nats-TTL: 60s", "");
    }
    log.commit_to(&mut [&mut one]);
    caught_up(&mut one, &mut two);
    assert_eq!(span(&two), (10, 1, 10));
    // Whoever leads knows when they end.
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    two.with_stream(|stream, cx| {
        stream.set_leader(cx, None);
        stream.leadership_gained(cx);
    });
    assert!(two.stream.deadline().is_some());
    two.pass(&mut log, Duration::from_secs(61));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(span(&two), (0, 11, 10));
    assert_same(&one, &two);
}

/// Upstream's follower was reset; here nobody leads, twenty times in a row, and its messages stay.
/// Red when a catchup that nobody serves empties the store.
#[test]
fn jetstream_cluster_desync_after_error_during_catchup() {
    let (mut one, mut two, mut log) = two(&config());
    publish_each(&mut log, &mut [&mut one, &mut two], "s.foo", 10);
    publish_each(&mut log, &mut [&mut one], "s.foo", 10);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    two.with_stream(|stream, cx| stream.set_leader(cx, None));
    for _ in 0..20 {
        two.sent.clear();
        if two.stream.deadline().is_some() {
            two.wait();
        }
    }
    assert_eq!(span(&two), (10, 1, 10), "nothing is given up");
    // It cannot lead with what it has.
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    assert!(matches!(&*two.notices, [Notice::StepDown(_)]), "{:?}", two.notices);
    two.notices.clear();
    install(&mut two, index, &state);
    two.sent.clear();
    for _ in 0..20 {
        if two.sent.is_empty() && two.stream.deadline().is_some() {
            two.wait();
        }
    }
    carry(&mut one, &mut two);
    assert_same(&one, &two);
}

/// Upstream's store tells which messages were loaded, and here none is sent after the error.
/// Red when an error does not end a catchup, or a follower says nothing of a wrong sequence.
#[test]
fn jetstream_cluster_leader_aborts_catchup_on_follower_error() {
    let (mut one, mut two, mut log) = two(&config());
    (0..100).for_each(|_| _ = log.publish(&mut one, "s.foo", &"0".repeat(1024)));
    log.commit_to(&mut [&mut one]);
    one.limits.stream_catchup_messages = 10;
    one.limits.read_messages = 5;
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    one.receive(&request);
    let asks = one.sent.iter().find(|sent| sent.reply.is_some()).expect("one asks").clone();
    let loaded = one.sent.len();
    assert!(loaded <= 11, "{loaded} at once");
    one.sent.clear();
    let (subject, payload) = (asks.reply.expect("it asks"), "simulate error".into());
    let from = two.me;
    one.receive(&Sent { from, to: one.me, subject, reply: None, payload });
    assert!(one.sent.is_empty() && !one.stream.catchup_peers().any());
    assert_eq!((one.budget.total(), one.stream.deadline()), (0, None));
    assert!(one.reports.iter().any(|why| why.contains("simulate error")), "{:?}", one.reports);
    // And the other way round: a follower that is sent a message with a wrong sequence.
    let wrong = StreamMessageView {
        subject: b"s.foo",
        payload: b"fail",
        sequence: Sequence::new(102),
        timestamp: 5,
        ..StreamMessageView::default()
    };
    two.receive(&message(&request, wrong.to_bytes().expect("short")));
    let told = two.sent.pop_front().expect("the server is told");
    assert!(!told.payload.is_empty() && two.stream.is_catching_up());
}
