//! How a catchup is served: who is refused, who waits, and what is in flight.

use bytes::Bytes;
use jetwake::ids::{Index, PeerId, Sequence};
use jetwake::limits::Limits;
use jetwake::stream::Notice;
use jetwake::subject::{self, Subject};
use jetwake::time::Duration;
use jetwake::wire::{LegacyStreamState, StreamMessage, StreamState, SyncRequest};

use crate::rig::{Log, Replica, Sent, Store, config, leader};

fn inbox(name: &str) -> Subject {
    Subject::from(format!("$JSC.R.{name}"))
}

fn request(first: u64, last: u64, min_applied: u64) -> Bytes {
    let request = SyncRequest {
        peer: Some(PeerId::from_name("n2")),
        first: Sequence::new(first),
        last: Sequence::new(last),
        delete_ranges: true,
        min_applied: Index::new(min_applied),
        ..SyncRequest::default()
    };
    request.to_bytes()
}

/// A peer asks; `log` is the last record of the server's log.
fn ask(one: &mut Replica, peer: &str, payload: &Bytes, log: u64) {
    let (from, reply) = (Some(PeerId::from_name(peer)), Some(inbox("abcdefgh")));
    let log = Index::new(log);
    one.with_stream(|stream, cx| stream.handle_sync_request(cx, from, reply, payload, log));
}

fn with_limits(limits: Limits, messages: u64) -> (Replica, Log) {
    let mut one = Replica::with("n1", Store::default(), config(), limits);
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut log = Log::new();
    for _ in 0..messages {
        log.publish(&mut one, "s.a", "payload");
    }
    log.commit_to(&mut [&mut one]);
    (one, log)
}

/// Answers what waits for it, with the bytes that it names or others.
fn ack(one: &mut Replica, sent: &Sent, payload: &'static [u8], lie: u64) {
    let reply = sent.reply.clone().expect("asks for an ack");
    let kind = subject::Kind::parse(&reply).expect("a subject of ours");
    let subject::Kind::SyncAck { token, bytes } = kind else { panic!("{reply}") };
    let bytes = bytes.expect("the bytes") + lie;
    let payload = Bytes::from_static(payload);
    one.with_stream(|stream, cx| stream.handle_catchup_ack(cx, token, bytes, &payload));
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let (mut one, _) = with_limits(Limits { members: 2, ..Limits::default() }, 10);
    ask(&mut one, "n2", &Bytes::from_static(b"{\"first_seq\":"), 1);
    assert!(one.reports.iter().any(|why| why.contains("$JSC.SYNC.")), "{:?}", one.reports);
    for (first, last) in [(5, 4), (0, 4), (0, 0)] {
        ask(&mut one, "n2", &request(first, last, 1), 1);
    }
    one.with_stream(|stream, cx| {
        stream.handle_sync_request(cx, None, None, &request(1, 10, 1), Index::new(1));
    });
    assert!(one.sent.is_empty() && !one.stream.catchup_peers().any());
    one.limits.stream_catchup_messages = 1;
    one.limits.read_messages = 1;
    for peer in ["n2", "n3", "n4"] {
        ask(&mut one, peer, &request(1, 10, 1), 1);
    }
    let served = |one: &Replica, peer| one.stream.catchup_peers().lag(PeerId::from_name(peer));
    assert!(served(&one, "n2") > 0 && served(&one, "n3") > 0);
    assert_eq!(served(&one, "n4"), 0, "as many are served as there may be members");
}

#[test]
fn a_request_that_all_members_hear_is_served_by_whom_it_names_or_by_the_leader() {
    let served = |leads: bool, of: &str| {
        let (mut one, _) = with_limits(Limits::default(), 10);
        if !leads {
            one.with_stream(|stream, cx| stream.leadership_lost(cx));
        }
        let more = match of {
            "" => String::new(),
            of => format!(",\"jetwake_of\":\"{}\"", PeerId::from_name(of)),
        };
        let request = String::from_utf8(request(1, 10, 1).to_vec()).expect("JSON");
        let request = Bytes::from(request.replace('}', &format!("{more}}}")));
        let (reply, log) = (Some(inbox("abcdefgh")), Index::new(1));
        one.with_stream(|stream, cx| stream.handle_sync_request(cx, None, reply, &request, log));
        !one.sent.is_empty()
    };
    assert!(served(true, ""), "a nats-server asks whoever leads");
    assert!(!served(false, ""), "two would serve the same messages twice");
    assert!(served(false, "n1") && served(true, "n1"), "it is asked by name");
    assert!(!served(true, "n3") && !served(false, "n3"), "another is asked");
}

#[test]
fn a_replica_that_is_not_current_serves_nobody() {
    let (mut one, mut log) = with_limits(Limits::default(), 10);
    let mut two = Replica::new("n2", Store::default());
    log.publish(&mut one, "s.a", "x");
    log.commit_to(&mut [&mut one]);
    assert!(one.with_stream(|stream, cx| stream.snapshot(cx)));
    let Some(Notice::Snapshot { index, data, .. }) = one.notices.pop() else { panic!() };
    crate::catchup::install(&mut two, index, &data);
    two.sent.clear();
    ask(&mut two, "n3", &request(1, 5, 1), 9);
    assert!(two.sent.is_empty());
}

#[test]
fn who_knows_of_more_waits_until_it_is_applied() {
    let (mut one, mut log) = with_limits(Limits::default(), 10);
    log.publish(&mut one, "s.a", "x");
    log.commit();
    // The record is in the log, and not applied yet.
    ask(&mut one, "n2", &request(1, 11, 2), 2);
    assert!(one.sent.is_empty() && one.stream.catchup_peers().any());
    log.feed(&mut one);
    assert_eq!(one.sent.len(), 12, "eleven messages and the end");
    assert!(one.notices.is_empty());
}

#[test]
fn a_leader_that_lacks_what_is_asked_for_steps_down() {
    for (last, min_applied, log) in [(10, 9, 1), (11, 1, 1)] {
        let (mut one, _) = with_limits(Limits::default(), 10);
        ask(&mut one, "n2", &request(1, last, min_applied), log);
        assert!(matches!(&*one.notices, [Notice::StepDown(_)]), "{:?}", one.notices);
        assert!(one.sent.is_empty() && !one.stream.catchup_peers().any());
    }
    // One that waited, and finds out later.
    let (mut one, mut log) = with_limits(Limits::default(), 10);
    ask(&mut one, "n2", &request(1, 20, 2), 2);
    log.commit_to(&mut [&mut one]);
    assert!(matches!(&*one.notices, [Notice::StepDown(_)]), "{:?}", one.notices);
}

#[test]
fn no_more_is_in_flight_than_the_window_allows_and_acks_open_it() {
    let limits = Limits { stream_catchup_messages: 10, read_messages: 5, ..Limits::default() };
    let (mut one, _) = with_limits(limits, 100);
    ask(&mut one, "n2", &request(1, 100, 1), 1);
    let (mut seen, mut ended) = (0, false);
    while !ended {
        let sent: Vec<_> = one.sent.drain(..).collect();
        assert!(sent.len() <= 11, "{} messages at once", sent.len());
        assert!(!sent.is_empty(), "stuck after {seen}");
        // With its end a catchup gives back all that it holds.
        ended = sent.iter().any(|sent| sent.payload.is_empty());
        for sent in sent {
            seen += u64::from(!sent.payload.is_empty());
            if sent.reply.is_some() {
                assert!(ended || one.budget.total() > 0);
                let before = one.budget.total();
                ack(&mut one, &sent, b"", 1);
                assert_eq!(one.budget.total(), before, "an ack that lies frees nothing");
                ack(&mut one, &sent, b"", 0);
            }
        }
    }
    assert_eq!((seen, one.budget.total()), (100, 0));
    assert!(!one.stream.catchup_peers().any());
}

#[test]
fn what_is_deleted_asks_for_no_ack_of_its_own() {
    let (mut one, mut log) = with_limits(Limits::default(), 100);
    for sequence in (2..=40).step_by(2).chain(50..=60) {
        log.delete(&mut one, sequence);
    }
    log.commit_to(&mut [&mut one]);
    ask(&mut one, "n2", &request(1, 100, 2), 2);
    let asks: Vec<_> = one.sent.iter().map(|sent| sent.reply.is_some()).collect();
    assert_eq!(asks.iter().filter(|asks| **asks).count(), 1, "{asks:?}");
    assert!(asks[asks.len() - 2], "the last before the end: {asks:?}");
    let one_by_one = 20 + 20 + 9;
    assert_eq!(asks.len(), one_by_one + 1 + 40 + 1, "one range, and the end");
}

#[test]
fn what_is_deleted_and_told_one_by_one_is_as_little_at_once_as_messages_are() {
    let limits = Limits { stream_catchup_messages: 10, read_messages: 5, ..Limits::default() };
    let (mut one, mut log) = with_limits(limits, 100);
    for sequence in (3..=88).chain(90..=92).chain(99..=100) {
        log.delete(&mut one, sequence);
    }
    log.commit_to(&mut [&mut one]);
    let asked = SyncRequest::decode(&request(1, 100, 2), &Limits::default()).expect("as written");
    let asked = SyncRequest { delete_ranges: false, ..asked };
    ask(&mut one, "n2", &asked.to_bytes(), 2);
    let (mut seen, mut ended) = (Vec::new(), false);
    while !ended {
        let sent: Vec<_> = one.sent.drain(..).collect();
        ended = sent.iter().any(|sent| sent.payload.is_empty());
        assert!(!sent.is_empty() && sent.len() <= 21, "{} messages at once", sent.len());
        for sent in sent {
            if !sent.payload.is_empty() {
                let message = StreamMessage::decode(&sent.payload, &Limits::default());
                let message = message.expect("a message, or the place of one");
                seen.push((message.sequence().get(), message.view().is_skip()));
            }
            if sent.reply.is_some() {
                ack(&mut one, &sent, b"", 0);
            }
        }
    }
    let there = |sequence| matches!(sequence, 1 | 2 | 89 | 93..=98);
    assert_eq!(seen, (1..=100).map(|at| (at, !there(at))).collect::<Vec<_>>());
    assert_eq!(one.budget.total(), 0);
}

#[test]
fn a_follower_that_gives_up_says_so_and_is_served_no_longer() {
    let limits = Limits { stream_catchup_messages: 10, read_messages: 5, ..Limits::default() };
    let (mut one, _) = with_limits(limits, 100);
    ask(&mut one, "n2", &request(1, 100, 1), 1);
    let asks = one.sent.iter().find(|sent| sent.reply.is_some()).expect("one asks").clone();
    one.sent.clear();
    ack(&mut one, &asks, b"out of space", 0);
    assert!(one.sent.is_empty() && !one.stream.catchup_peers().any());
    assert_eq!((one.budget.total(), one.stream.deadline()), (0, None));
    assert!(one.reports.iter().any(|why| why.contains("out of space")), "{:?}", one.reports);
}

#[test]
fn a_silent_follower_is_given_up_after_thirty_seconds() {
    let limits = Limits { stream_catchup_messages: 10, read_messages: 5, ..Limits::default() };
    let (mut one, _) = with_limits(limits, 100);
    ask(&mut one, "n2", &request(1, 100, 1), 1);
    one.now = one.now + Duration::from_secs(20);
    let asks = one.sent.iter().find(|sent| sent.reply.is_some()).expect("one asks").clone();
    ack(&mut one, &asks, b"", 0);
    assert_eq!(one.wait(), Duration::from_secs(30), "from its last word");
    assert_eq!((one.budget.total(), one.stream.deadline()), (0, None));
    assert!(!one.stream.catchup_peers().any());
}

#[test]
fn a_follower_that_asks_again_is_served_once() {
    let limits = Limits { stream_catchup_messages: 10, read_messages: 5, ..Limits::default() };
    let (mut one, _) = with_limits(limits, 100);
    for _ in 0..3 {
        ask(&mut one, "n2", &request(1, 100, 1), 1);
    }
    let lag = one.stream.catchup_peers().lag(PeerId::from_name("n2"));
    assert_eq!(lag, 100);
    one.wait();
    assert_eq!((one.budget.total(), one.stream.deadline()), (0, None));
}

#[test]
fn a_member_that_reads_no_binary_snapshots_gets_the_older_form() {
    let (mut one, mut log) = leader();
    for _ in 0..3000 {
        log.publish(&mut one, "s.a", "x");
    }
    log.commit_to(&mut [&mut one]);
    for sequence in [1, 5, 6, 7, 2999] {
        log.delete(&mut one, sequence);
    }
    log.purge(&mut one, "", 3, 0);
    log.commit_to(&mut [&mut one]);
    let others = [PeerId::from_name("n2"), PeerId::from_name("n3")].into();
    one.stream.set_others(&others);
    assert!(one.stream.supports_binary_snapshot(), "of whom nothing is known, it is believed");
    let state = one.stream.state();
    let snapshot = one.step(|stream, cx| stream.state_snapshot(cx)).expect("one can be made");
    assert!(StreamState::is_encoded(&snapshot));
    let announce = |one: &mut Replica, name: &str, binary| {
        let peer = PeerId::from_name(name);
        one.step(|stream, cx| stream.announced(cx, peer, binary));
    };
    announce(&mut one, "n9", false);
    announce(&mut one, "n3", true);
    assert!(one.stream.supports_binary_snapshot(), "who is no member has no say");
    announce(&mut one, "n3", false);
    assert!(!one.stream.supports_binary_snapshot());
    assert!(one.with_stream(|stream, cx| stream.snapshot(cx)));
    let Some(Notice::Snapshot { data, .. }) = one.notices.pop() else { panic!() };
    let legacy = LegacyStreamState::decode(&data, &one.limits).expect("JSON");
    assert_eq!((legacy.first.get(), legacy.last.get(), legacy.messages), (3, 3000, 2994));
    assert_eq!(legacy.deleted, [5, 6, 7, 2999].map(Sequence::new));
    assert_eq!(jetwake::stream::decode_state(&data, &one.limits).expect("read"), state);
    one.limits.deleted = 3;
    assert!(!one.with_stream(|stream, cx| stream.snapshot(cx)), "too much to name");
    announce(&mut one, "n3", true);
    assert!(one.with_stream(|stream, cx| stream.snapshot(cx)));
}
