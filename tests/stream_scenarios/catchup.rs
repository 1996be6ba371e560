//! A follower whose log was replaced by a snapshot gets what it lacks.

use std::sync::Arc;

use bytes::Bytes;
use jetwake::budget::{Budget, Charge};
use jetwake::event::{Damage, Failure};
use jetwake::ids::{ByteCount, Index, PeerId, Sequence, Term};
use jetwake::random::Random;
use jetwake::stream::Notice;
use jetwake::subject::Kind;
use jetwake::time::Duration;
use jetwake::wire::{DeleteRange, StreamConfig, StreamMessage, StreamMessageView, SyncRequest};

use crate::rig::{Log, Replica, Sent, Store, assert_same, leader};

pub(crate) fn install(replica: &mut Replica, index: Index, state: &Bytes) {
    let leader = Some(PeerId::from_name("n1"));
    replica.with_stream(|stream, cx| {
        stream.set_leader(cx, leader);
        stream.install(cx, index, Term::new(3), state).expect("a good snapshot");
    });
}

/// Carries messages between two replicas until none is left and nothing waits for time that is short.
pub(crate) fn carry(one: &mut Replica, two: &mut Replica) {
    loop {
        if let Some(sent) = one.sent.pop_front() {
            assert_eq!(sent.to, two.me);
            two.receive(&sent);
        } else if let Some(sent) = two.sent.pop_front() {
            assert_eq!(sent.to, one.me);
            one.receive(&sent);
        } else if two.stream.deadline().is_some_and(|(at, _)| at.since(two.now).as_millis() < 100) {
            two.wait();
        } else {
            break;
        }
    }
}

/// A leader with messages, deletes and a snapshot, and a follower that has the first few.
pub(crate) fn behind(messages: u64) -> (Replica, Replica, Log) {
    let (mut one, mut log) = leader();
    let mut two = Replica::new("n2", Store::default());
    for number in 0..messages {
        let fields = format!("Nats-Msg-Id: {number}");
        log.publish_with(&mut one, &format!("s.{}", number % 7), &fields, "some payload");
        if number % 10 == 9 {
            log.commit_to(&mut [&mut one]);
        }
        if number == 19 {
            log.feed(&mut two);
        }
    }
    for sequence in (5..messages).step_by(9) {
        log.delete(&mut one, sequence);
    }
    for sequence in messages / 2..messages / 2 + 50 {
        log.delete(&mut one, sequence);
    }
    log.commit_to(&mut [&mut one]);
    (one, two, log)
}

pub(crate) fn snapshot(one: &mut Replica) -> (Index, Bytes) {
    assert!(one.with_stream(|stream, cx| stream.snapshot(cx)));
    match one.notices.pop() {
        Some(Notice::Snapshot { index, data, .. }) => (index, data),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_follower_catches_up_and_goes_on_with_the_log() {
    let (mut one, mut two, mut log) = behind(3000);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    assert!(two.stream.is_catching_up() && two.step(|stream, cx| stream.paused(cx)));
    let request = two.sent.front().expect("a request");
    assert_eq!(request.to, one.me);
    let request = SyncRequest::decode(&request.payload, &two.limits).expect("a request");
    assert_eq!((request.first.get(), request.last.get()), (21, 3000));
    assert_eq!((request.min_applied, request.delete_ranges), (index, true));
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp], "{:?}", two.reports);
    assert!(!two.stream.is_catching_up());
    assert_eq!(two.stream.applied(), index);
    assert_same(&one, &two);
    log.publish(&mut one, "s.1", "more");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_same(&one, &two);
    let again = two.restart();
    assert_same(&one, &again);
    assert_eq!(one.budget.total(), 0);
    assert!(!one.stream.catchup_peers().any());
    assert_eq!((again.stream.deadline(), one.stream.deadline()), (None, None));
}

#[test]
fn ids_that_came_by_a_catchup_are_known() {
    let (mut one, mut two, mut log) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    carry(&mut one, &mut two);
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    let again = log.publish_with(&mut two, "s.a", "Nats-Msg-Id: 30", "x");
    assert_eq!(two.answer(again), r#"{"stream":"S","seq":31,"duplicate": true}"#);
}

#[test]
fn lives_that_came_by_a_catchup_are_known() {
    let config = StreamConfig { allow_msg_ttl: true, ..crate::rig::config() };
    let (mut one, mut two, mut log) = crate::rig::two(&config);
    log.publish_with(&mut one, "s.a", "Nats-TTL: 5s", "x");
    log.publish(&mut one, "s.b", "x");
    log.commit_to(&mut [&mut one]);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    carry(&mut one, &mut two);
    two.with_stream(|stream, cx| {
        stream.set_leader(cx, None);
        stream.leadership_gained(cx);
    });
    two.pass(&mut log, Duration::from_secs(6));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(two.kept(), [2]);
    assert_same(&one, &two);
}

#[test]
fn nothing_lacking_asks_for_nothing() {
    let (mut one, mut two, log) = behind(100);
    log.feed(&mut two);
    // It has all, but its log was replaced all the same.
    let (index, state) = snapshot(&mut one);
    install(&mut two, index.plus(5), &state);
    assert!(two.sent.is_empty());
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_eq!(two.stream.applied(), index.plus(5));
    install(&mut two, index, &state);
    assert_eq!(two.stream.applied(), index.plus(5), "an older snapshot changes nothing");
}

#[test]
fn a_snapshot_of_an_emptied_stream_moves_the_ends() {
    let (mut one, mut two, mut log) = behind(100);
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one]);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
    assert!(two.store.messages.is_empty());
}

#[test]
fn no_ack_leaves_before_what_it_acknowledges_is_on_disk() {
    let (mut one, mut two, _) = behind(3000);
    let (index, state) = snapshot(&mut one);
    two.hold_syncs = true;
    install(&mut two, index, &state);
    let request = two.sent.pop_front().expect("a request");
    one.receive(&request);
    let mut replies = 0;
    while let Some(sent) = one.sent.pop_front() {
        replies += usize::from(sent.reply.is_some());
        two.receive(&sent);
        while two.stream.deadline().is_some_and(|(at, _)| at.since(two.now).as_millis() < 100) {
            two.wait();
        }
        assert!(two.sent.is_empty(), "nothing is on disk yet");
    }
    assert!(replies > 0);
    assert!(two.stream.is_catching_up(), "not done before the disk is");
    assert!(two.notices.is_empty());
    two.hold_syncs = false;
    two.release_syncs();
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_eq!(two.sent.len(), replies, "each reply is answered");
    assert!(two.sent.iter().all(|sent| sent.payload.is_empty()));
}

pub(crate) fn request_of(two: &mut Replica) -> Sent {
    let request = two.sent.pop_front().expect("a request");
    assert!(matches!(Kind::parse(&request.subject), Some(Kind::Sync(_))), "{request:?}");
    request
}

/// What a server might send to the follower that made the request.
pub(crate) fn message(request: &Sent, payload: Bytes) -> Sent {
    Sent {
        from: request.to,
        to: request.from,
        subject: request.reply.clone().expect("an inbox"),
        reply: Some(jetwake::subject::sync_ack_with(*b"abcdefgh", payload.len() as u64)),
        payload,
    }
}

/// A message of a replica's store as a catchup carries it.
pub(crate) fn stored(one: &Replica, sequence: u64) -> Bytes {
    let message = StreamMessage::decode(&one.store.messages[&sequence], &one.limits);
    let sequence = Sequence::new(sequence);
    let message = message.expect("a stored message");
    StreamMessageView { sequence, ..message.view() }.to_bytes().expect("short")
}

fn plain(sequence: u64) -> Bytes {
    let message = StreamMessageView {
        subject: b"s.1",
        payload: b"x",
        sequence: Sequence::new(sequence),
        timestamp: 7,
        ..StreamMessageView::default()
    };
    message.to_bytes().expect("short")
}

#[test]
fn what_does_not_follow_on_is_refused_and_asked_for_again() {
    let range = |first, count| DeleteRange { first: Sequence::new(first), count }.to_bytes();
    let mut bad_block = plain(21).to_vec();
    bad_block[0] = 14;
    for (payload, why) in [
        (plain(22), "expected sequence 21, found 22"),
        (plain(20), "expected sequence 21, found 20"),
        (range(22, 5), "expected sequence 21, found 22"),
        (range(0, 0), "a range of no deleted messages"),
        (range(21, 5000), "sequence 5020 is beyond 100"),
        (Bytes::from_static(b"\x04cut"), "bad catchup message"),
        (Bytes::from_static(b"\x0f{}"), "bad catchup message"),
        (Bytes::from(bad_block), "bad catchup message"),
        (Bytes::from_static(b"\x07"), "bad catchup message: op 7"),
        (
            Bytes::from_static(b"\xff123"),
            "catchup_state: applied at byte 1: expected 8 bytes, found 3",
        ),
    ] {
        let (mut one, mut two, _) = behind(100);
        let (index, state) = snapshot(&mut one);
        install(&mut two, index, &state);
        let request = request_of(&mut two);
        let bad = message(&request, payload);
        two.receive(&bad);
        let told = two.sent.pop_front().expect("the server is told");
        assert_eq!(Some(told.subject), bad.reply);
        let told = String::from_utf8_lossy(&told.payload).into_owned();
        assert!(told.contains(why), "{told} / {why}");
        two.receive(&message(&request, plain(21)));
        assert_eq!(two.stream.state().last.get(), 20, "nobody listens at the old inbox");
        assert_eq!(two.wait(), Duration::from_secs(2));
        carry(&mut one, &mut two);
        assert_eq!(two.notices, [Notice::CaughtUp]);
        assert_same(&one, &two);
    }
}

#[test]
fn an_end_that_comes_too_early_does_not_count() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    two.receive(&message(&request, plain(21)));
    two.receive(&Sent { reply: None, ..message(&request, Bytes::new()) });
    assert!(two.stream.is_catching_up());
    assert!(two.reports.last().expect("a report").contains("before 100"), "{:?}", two.reports);
    two.wait();
    let request = SyncRequest::decode(&two.sent[1].payload, &two.limits).expect("a request");
    assert_eq!(request.first.get(), 22, "what came is kept");
}

#[test]
fn silence_is_borne_five_seconds_at_first_and_thirty_later() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    request_of(&mut two);
    assert_eq!(two.wait(), Duration::from_secs(5));
    // The request was made longer ago than the rest between two takes.
    assert_eq!(two.wait(), Duration::ZERO);
    let request = request_of(&mut two);
    two.receive(&Sent { reply: None, ..message(&request, stored(&one, 21)) });
    assert_eq!(two.wait(), Duration::from_secs(30));
    assert_eq!(two.wait(), Duration::ZERO);
    request_of(&mut two);
    assert_eq!(two.wait(), Duration::from_secs(5));
    // The third try has failed.
    assert_eq!(two.wait(), Duration::from_secs(30));
    assert!(two.step(|stream, cx| stream.paused(cx)), "nothing is applied on top of a hole");
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
}

/// Found by a random seed: two followers that each had given up, and were sent what there was room for
/// when their turn came, kept each other from it for ever.
#[test]
fn who_waits_in_line_longer_than_it_listens_is_sent_nothing() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    let mut others = Charge::default();
    one.budget.add(&mut others, 64 << 20);
    install(&mut two, index, &state);
    let request = two.sent.pop_front().expect("a request");
    one.receive(&request);
    assert!(one.sent.is_empty(), "others have all the room");
    assert_eq!(one.wait(), one.timers.catchup_start);
    one.budget.release_last(&mut others);
    assert_eq!(one.budget.woken(), None, "nobody is in line any more");
    assert!(one.sent.is_empty(), "nobody listens there any more");
}

/// Found by a random seed: with room for one read at a time, who was served first had all of it, since
/// its acknowledgement made the room that it took.
#[test]
fn those_who_are_served_share_the_room_in_turn() {
    let (mut one, mut two, _) = behind(100);
    one.limits.load = ByteCount::new(200);
    one.budget = Budget::new(1);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = two.sent.pop_front().expect("a request");
    let three = PeerId::from_name("n3");
    one.receive(&request);
    one.receive(&Sent { from: three, ..request });
    // When the second came, the first was in line already for what follows its first read.
    for (turn, to) in [two.me, two.me, three, two.me, three, two.me].into_iter().enumerate() {
        let sent: Vec<Sent> = one.sent.drain(..).collect();
        assert!(!sent.is_empty() && sent.iter().all(|sent| sent.to == to), "turn {turn}: {sent:?}");
        for Sent { reply, .. } in sent.into_iter().filter(|sent| sent.reply.is_some()) {
            let subject = reply.expect("asks for an acknowledgement");
            one.receive(&Sent {
                from: to,
                to: one.me,
                subject,
                reply: None,
                payload: Bytes::new(),
            });
        }
        let (_, token) = one.budget.woken().expect("somebody is in line");
        one.with_stream(|stream, cx| stream.budget_available(cx, token));
    }
}

#[test]
fn a_catchup_waits_for_a_leader_and_follows_a_new_one() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    two.with_stream(|stream, cx| stream.install(cx, index, Term::new(3), &state).expect("good"));
    // Nobody leads, and nobody else is known.
    assert!(two.sent.is_empty());
    assert_eq!(two.wait(), Duration::from_secs(5));
    assert!(two.sent.is_empty());
    let dead = PeerId::from_name("n3");
    two.with_stream(|stream, cx| stream.set_leader(cx, Some(dead)));
    let request = request_of(&mut two);
    assert_eq!(request.to, dead);
    two.receive(&message(&request, stored(&one, 21)));
    let leader = one.me;
    two.with_stream(|stream, cx| stream.set_leader(cx, Some(leader)));
    let told = two.sent.pop_front().expect("the old one is told");
    assert_eq!((told.to, &told.payload[..]), (dead, &b"another leads now"[..]));
    let request = SyncRequest::decode(&two.sent[0].payload, &two.limits).expect("a request");
    assert_eq!(request.first.get(), 22);
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
}

#[test]
fn while_nobody_leads_the_other_members_are_asked_in_turn() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    let dead = PeerId::from_name("n3");
    let others = Arc::from([dead, one.me]);
    two.with_stream(|stream, cx| {
        stream.set_leader(cx, None);
        stream.set_others(&others);
        stream.install(cx, index, Term::new(3), &state).expect("good");
    });
    assert!(two.sent.is_empty());
    assert_eq!(two.wait(), Duration::from_secs(5));
    assert_eq!(request_of(&mut two).to, dead);
    // It does not answer; the next is asked after a rest.
    assert_eq!(two.wait(), Duration::from_secs(5));
    assert_eq!(two.wait(), Duration::ZERO);
    assert_eq!(two.wait(), Duration::from_secs(5));
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
}

/// It may have the only copy, when its log is gone and its store is whole.
#[test]
fn who_lost_its_log_serves_what_it_has_applied() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let asked = request_of(&mut two);
    let (from, nothing) = (Some(asked.from), Index::ZERO);
    one.with_stream(|stream, cx| {
        stream.handle_sync_request(cx, from, asked.reply, &asked.payload, nothing);
    });
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert_same(&one, &two);
}

#[test]
fn who_leads_and_lacks_messages_steps_down() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    assert!(matches!(&*two.notices, [Notice::StepDown(_)]), "{:?}", two.notices);
    two.notices.clear();
    let me = two.me;
    two.with_stream(|stream, cx| stream.set_leader(cx, Some(me)));
    assert!(matches!(&*two.notices, [Notice::StepDown(_)]), "{:?}", two.notices);
}

#[test]
fn a_newer_snapshot_takes_the_place_of_the_older() {
    let (mut one, mut two, mut log) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    two.receive(&message(&request, stored(&one, 21)));
    for sequence in 21..40 {
        log.delete(&mut one, sequence);
    }
    log.publish(&mut one, "s.1", "more");
    log.commit_to(&mut [&mut one]);
    let (newer, state) = snapshot(&mut one);
    install(&mut two, newer, &state);
    let told = two.sent.pop_front().expect("the server is told");
    assert_eq!(&told.payload[..], b"a newer snapshot has come");
    let request = two.sent.front().expect("a request");
    let request = SyncRequest::decode(&request.payload, &two.limits).expect("a request");
    assert_eq!((request.last.get(), request.min_applied), (101, newer));
}

#[test]
fn a_snapshot_that_cannot_be_read_changes_nothing() {
    let (one, mut two, _) = behind(100);
    let state = one.stream.state().to_bytes();
    let before = two.stream.state();
    for bad in [Bytes::from_static(b"{"), Bytes::new(), state.slice(..state.len() - 3)] {
        let result = two.with_stream(|s, cx| s.install(cx, Index::new(99), Term::new(3), &bad));
        assert!(result.is_err(), "{bad:?}");
        assert_eq!(two.stream.state(), before);
        assert!(two.stream.is_current());
    }
}

#[test]
fn a_restart_in_the_middle_begins_where_the_store_ends() {
    let (mut one, mut two, _) = behind(3000);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    one.receive(&request);
    for _ in 0..2000 {
        let sent = one.sent.pop_front().expect("more than that");
        two.receive(&sent);
    }
    two.wait();
    let had = two.stream.state().last;
    let mut two = two.restart();
    assert_eq!(two.stream.state().last, had);
    assert!(two.stream.applied() < index);
    assert!(two.step(|stream, cx| !stream.snapshot(cx)) || two.stream.applied() < index);
    one.sent.clear();
    two.sent.clear();
    two.notices.clear();
    install(&mut two, index, &state);
    carry(&mut one, &mut two);
    assert_eq!(two.notices.last(), Some(&Notice::CaughtUp));
    assert_same(&one, &two);
}

/// What arrives fills blocks, and each goes to the store with a mark of how far the stream is: a mark
/// that told of the message behind its block would, after a crash, count it as deleted.
#[test]
fn wherever_the_power_is_cut_nothing_that_came_counts_as_deleted() {
    let (mut one, mut log) = leader();
    let mut random = Random::new(1);
    for _ in 0..20 {
        // What compresses well fills no block.
        let body: String = (0..6_000).map(|_| format!("{:016x}", random.bits())).collect();
        log.publish(&mut one, "s.large", &body);
    }
    log.commit_to(&mut [&mut one]);
    let (index, state) = snapshot(&mut one);
    let catch_up = |one: &mut Replica, two: &mut Replica| {
        install(two, index, &state);
        carry(one, two);
    };
    let mut whole = Replica::new("n2", Store::default());
    whole.changes_left = 1_000;
    catch_up(&mut one, &mut whole);
    let changes = 1_000 - whole.changes_left;
    assert!(changes > 4, "{changes} changes are too few for this test");
    for cut in 0..changes {
        let mut two = Replica::new("n2", Store::default());
        two.changes_left = cut;
        catch_up(&mut one, &mut two);
        one.sent.clear();
        let mut two = two.restart();
        let last = two.store.mark.map_or(0, |mark| mark.last.get());
        let kept: Vec<_> = (1..=last).collect();
        assert_eq!(two.kept(), kept, "the power was cut behind change {cut}");
        catch_up(&mut one, &mut two);
        assert_same(&one, &two);
    }
}

/// A follower that takes on a snapshot of a leader that has deleted a message since.
fn ahead() -> (Replica, Replica, Log, (Index, Bytes)) {
    let (mut one, mut two, mut log) = behind(100);
    let (index, state) = snapshot(&mut one);
    log.delete(&mut one, 42);
    log.commit_to(&mut [&mut one]);
    install(&mut two, index, &state);
    (one, two, log, (index, state))
}

/// What the snapshot had is gone when it is asked for, so the replica only adds until it has applied the
/// removal. A crash before that is on disk empties its store: it may not count as caught up before.
#[test]
fn a_catchup_ends_when_the_removals_that_it_missed_are_on_disk() {
    let (mut one, mut two, log, _) = ahead();
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::CaughtUp], "{:?}", two.reports);
    assert!(
        two.stream.is_current() && two.stream.is_catching_up(),
        "it has not applied the delete"
    );
    two.hold_syncs = true;
    log.feed(&mut two);
    assert_eq!(one.stream.state(), two.stream.state());
    assert!(two.stream.is_catching_up(), "the delete is not on disk");
    two.release_syncs();
    assert!(!two.stream.is_catching_up());
    let again = two.restart();
    assert_same(&one, &again);
}

/// Found by a random seed: replicas that only added were emptied when they started again, and the last
/// that had all had lost some of it.
#[test]
fn a_restart_keeps_what_a_replica_has_that_only_adds() {
    for forgotten in [false, true] {
        let (mut one, mut two, log, (index, state)) = ahead();
        carry(&mut one, &mut two);
        let kept = two.kept();
        assert!(two.store.mark.expect("it has one").only_added);
        if forgotten {
            two.store.only_adds = None;
        }
        let mut two = two.restart();
        if forgotten {
            // Then only the group's snapshot says what is there.
            assert_eq!((two.kept(), two.stream.applied()), (vec![], Index::ZERO));
            install(&mut two, index, &state);
            carry(&mut one, &mut two);
        }
        assert_eq!((two.kept(), two.stream.applied()), (kept, index));
        assert!(two.stream.is_current() && two.stream.is_catching_up(), "it only adds");
        log.feed(&mut two);
        assert_same(&one, &two);
        let two = two.restart();
        assert_same(&one, &two);
    }
}

/// The same, but the end that tells what is gone is lost, or the power is cut in front of it: all
/// messages are here, and yet not what the snapshot says.
#[test]
fn a_catchup_whose_end_is_lost_asks_for_the_end_alone() {
    for crashes in [false, true] {
        let (mut one, mut two, log, (index, state)) = ahead();
        one.receive(&request_of(&mut two));
        while let Some(sent) = one.sent.pop_front() {
            // The state begins with an op that NATS servers do not have; no other end follows it.
            if sent.payload.first() != Some(&0xff) {
                assert!(!sent.payload.is_empty());
                two.receive(&sent);
            }
        }
        assert!(two.stream.is_catching_up() && two.stream.state().last.get() == 100);
        if crashes {
            two.wait();
            two = two.restart();
            install(&mut two, index, &state);
        } else {
            // Until the silence is too long, and the rest behind it is over.
            while !two
                .sent
                .iter()
                .any(|sent| matches!(Kind::parse(&sent.subject), Some(Kind::Sync(_))))
            {
                two.wait();
            }
        }
        two.sent.retain(|sent| matches!(Kind::parse(&sent.subject), Some(Kind::Sync(_))));
        let asked = SyncRequest::decode(&two.sent[0].payload, &two.limits).expect("a request");
        assert_eq!((asked.first.get(), asked.last.get()), (100, 100));
        carry(&mut one, &mut two);
        assert_eq!(two.notices.last(), Some(&Notice::CaughtUp), "{:?}", two.reports);
        assert!(two.stream.is_catching_up(), "it only adds until it has applied the delete");
        log.feed(&mut two);
        assert_same(&one, &two);
    }
}

/// A NATS server sends no state: its empty end is believed.
#[test]
fn an_empty_end_is_believed_as_nats_followers_believe_it() {
    let (mut one, mut two, ..) = ahead();
    one.receive(&request_of(&mut two));
    for mut sent in std::mem::take(&mut one.sent) {
        if sent.payload.first() == Some(&0xff) {
            sent.payload = Bytes::new();
        }
        two.receive(&sent);
    }
    assert_eq!(two.notices, [Notice::CaughtUp]);
    assert!(!two.stream.is_catching_up());
}

#[test]
fn who_catches_up_gives_out_nothing() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = jetwake::ids::RequestId::new(900);
    let read = |two: &mut Replica| {
        let bytes = ByteCount::new(1_000_000);
        two.with_stream(|stream, cx| stream.read(cx, request, Sequence::new(1), (1_000, bytes)));
    };
    read(&mut two);
    assert!(two.answer(900).contains("\"err_code\":10008"), "{}", two.answer(900));
    two.answers.clear();
    carry(&mut one, &mut two);
    read(&mut two);
    assert!(two.answer(900).starts_with("Messages"), "{}", two.answer(900));
}

#[test]
fn no_snapshot_is_taken_in_the_middle_of_a_catchup() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    assert!(!two.with_stream(|stream, cx| stream.snapshot(cx)));
    carry(&mut one, &mut two);
    assert!(two.with_stream(|stream, cx| stream.snapshot(cx)));
    let (again, data) = match two.notices.pop() {
        Some(Notice::Snapshot { index, data, .. }) => (index, data),
        other => panic!("{other:?}"),
    };
    assert_eq!((again, data), (index, state));
}

#[test]
fn a_snapshot_that_came_before_the_store_was_read_waits() {
    let (mut one, two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    let mut two = two.restart();
    let mark = two.store.mark;
    two.stream = {
        let group = jetwake::ids::GroupName::new("S-R3F-abcdefgh").expect("valid");
        let me = two.me;
        two.step(|_, cx| {
            let config = crate::rig::config();
            jetwake::stream::Stream::new(crate::rig::GROUP, &group, me, config, cx)
        })
    };
    install(&mut two, index, &state);
    assert!(!two.stream.is_catching_up());
    two.with_stream(|stream, cx| stream.open(cx, mark, None, false));
    assert!(two.stream.is_catching_up());
    carry(&mut one, &mut two);
    assert_eq!(two.notices, [Notice::Ready, Notice::CaughtUp]);
    assert_same(&one, &two);
}

#[test]
fn a_server_that_never_stops_sending_is_stopped() {
    let (mut one, mut two, _) = behind(100);
    let (index, state) = snapshot(&mut one);
    two.limits.stream_catchups_in_flight = ByteCount::new(1000);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    let payload = vec![b'x'; 600 << 10];
    let small = StreamMessage::decode(&plain(21), &two.limits).expect("good");
    for sequence in [21, 22].map(Sequence::new) {
        let big = StreamMessageView { sequence, payload: &payload, ..small.view() };
        let sent = message(&request, big.to_bytes().expect("short"));
        // The store takes nothing meanwhile.
        two.step(|stream, cx| {
            let from = Some(request.to);
            stream.handle_catchup_message(cx, from, &sent.subject, sent.reply, &sent.payload);
        });
    }
    two.with_stream(|_, _| {});
    assert!(two.reports.iter().any(|what| what.contains("wait for the disk")), "{:?}", two.reports);
}

fn full() -> Failure {
    let what = "28 bytes left".to_string();
    Failure::Full(Damage { file: "store".into(), offset: None, what })
}

/// A leader that may send no more than a few messages unacknowledged, and a follower that has asked.
fn served_in_small_steps() -> (Replica, Replica) {
    let (mut one, mut two, _) = behind(100);
    (one.limits.stream_catchup_messages, one.limits.read_messages) = (10, 5);
    let (index, state) = snapshot(&mut one);
    install(&mut two, index, &state);
    let request = request_of(&mut two);
    one.receive(&request);
    assert!(one.budget.total() > 0 && one.stream.catchup_peers().any());
    (one, two)
}

fn assert_served_no_longer(one: &Replica) {
    assert_eq!((one.budget.total(), one.stream.deadline()), (0, None), "what it held is free");
    assert!(!one.stream.catchup_peers().any());
    assert!(one.reports.iter().any(|what| what.contains("28 bytes left")), "{:?}", one.reports);
}

#[test]
fn who_has_a_full_disk_tells_who_serves_it_at_once() {
    let (mut one, mut two) = served_in_small_steps();
    two.hold_syncs = true;
    for sent in std::mem::take(&mut one.sent) {
        two.receive(&sent);
    }
    assert!(two.sent.is_empty(), "nothing is on disk yet");
    two.with_stream(|stream, cx| stream.handle_failure(cx, &full()));
    assert_eq!(two.sent.len(), 1, "and no ack of what may not be on disk");
    one.receive(&two.sent.pop_front().expect("the server is told"));
    assert_served_no_longer(&one);
    two.release_syncs();
    assert!(two.sent.is_empty() && two.stream.deadline().is_none(), "it has no more to say");
    assert_eq!(two.stream.stopped(), Some("no space is left: store: 28 bytes left"));
    let progress = two.stream.catchup(two.now).expect("there was one");
    assert_eq!(progress.phase, "no space is left: store: 28 bytes left");
}

/// The first messages may carry no reply: there is nowhere to say it before one does.
#[test]
fn who_cannot_say_yet_that_its_disk_is_full_says_it_at_the_next_message() {
    let (mut one, mut two) = served_in_small_steps();
    let kept = two.kept();
    assert!(one.sent.front().is_some_and(|first| first.reply.is_none()), "a reply is for several");
    two.with_stream(|stream, cx| stream.handle_failure(cx, &full()));
    two.with_stream(|stream, cx| stream.handle_failure(cx, &full()));
    assert!(two.sent.is_empty() && two.stream.deadline().is_some());
    let stranger = PeerId::from_name("n9");
    for sent in std::mem::take(&mut one.sent) {
        two.receive(&Sent { from: stranger, ..sent.clone() });
        two.receive(&sent);
    }
    assert_eq!(two.sent.len(), 1, "it is said once");
    one.receive(&two.sent.pop_front().expect("the server is told"));
    assert_served_no_longer(&one);
    assert_eq!(two.stream.deadline(), None);
    assert_eq!(two.kept(), kept, "nothing more is kept");
}

#[test]
fn a_server_that_sends_nothing_more_is_not_listened_to_for_ever() {
    let (mut one, mut two) = served_in_small_steps();
    two.with_stream(|stream, cx| stream.handle_failure(cx, &full()));
    assert_eq!(two.wait(), two.timers.catchup_start);
    assert_eq!(two.stream.deadline(), None);
    for sent in std::mem::take(&mut one.sent) {
        two.receive(&sent);
    }
    assert!(two.sent.is_empty());
}
