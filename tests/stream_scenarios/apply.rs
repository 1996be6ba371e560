//! What committed records do.

use jetwake::command::{Command, StoreChange};
use jetwake::ids::{ByteCount, RequestId, Sequence};
use jetwake::stream::Notice;
use jetwake::wire::EntryKind;

use crate::rig::{Log, Replica, Store, assert_same, leader};

fn success(kind: &str) -> String {
    format!(r#"{{"type":"io.nats.jetstream.api.v1.{kind}_response","success":true"#)
}

fn three(log: &mut Log, one: &mut Replica) {
    for subject in ["s.a", "s.b", "s.a"] {
        log.publish(one, subject, "hello");
    }
}

#[test]
fn the_messages_of_a_record_go_to_the_store_as_one_block() {
    let (mut one, mut log) = leader();
    three(&mut log, &mut one);
    log.commit();
    let (index, entry, record) = &log.records[0];
    one.step(|stream, cx| stream.apply(cx, *index, entry, record));
    let mut changes = Vec::new();
    while let Some(command) = one.out.pop() {
        if let Command::Store { change, mark, .. } = command {
            changes.push((change, mark));
        }
    }
    let [(StoreChange::Messages { block, places }, mark)] = &*changes else {
        panic!("{changes:?}")
    };
    assert_eq!(block.as_ptr(), record.as_ptr(), "the record itself, not a copy");
    assert_eq!(places.len(), 3);
    assert_eq!((mark.applied, mark.entries, mark.last), (*index, 0, Sequence::new(3)));
}

#[test]
fn deletes_and_purges_are_answered_as_upstream_does() {
    let (mut one, mut log) = leader();
    three(&mut log, &mut one);
    three(&mut log, &mut one);
    let deleted = log.delete(&mut one, 2);
    let again = log.delete(&mut one, 2);
    let beyond = log.delete(&mut one, 9);
    let filtered = log.purge(&mut one, "s.a", 0, 1);
    let rest = log.purge(&mut one, "", 6, 0);
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(deleted), success("stream_msg_delete") + "}");
    assert!(one.answer(again).contains(r#""err_code":10043,"description":"sequence 2 not found""#));
    assert!(one.answer(beyond).contains(r#""err_code":10057"#), "{}", one.answer(beyond));
    assert_eq!(one.answer(filtered), success("stream_purge") + r#","purged":3}"#);
    assert_eq!(one.answer(rest), success("stream_purge") + r#","purged":1}"#);
    assert_eq!(one.store.messages.keys().copied().collect::<Vec<_>>(), [6]);
    let state = one.stream.state();
    assert_eq!((state.first.get(), state.last.get(), state.messages), (6, 6, 1));
}

#[test]
fn a_purge_of_everything_keeps_the_last_sequence() {
    let (mut one, mut log) = leader();
    three(&mut log, &mut one);
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one]);
    // What was in flight behind what the leader knew stays.
    let state = one.stream.state();
    assert_eq!((state.messages, state.last.get()), (0, 3), "a purge of an empty stream takes all");
    three(&mut log, &mut one);
    log.commit_to(&mut [&mut one]);
    three(&mut log, &mut one);
    log.purge(&mut one, "", 0, 0);
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.store.messages.keys().copied().collect::<Vec<_>>(), [7, 8, 9]);
    let next = log.publish(&mut one, "s.a", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(next), r#"{"stream":"S","seq":10}"#);
}

#[test]
fn a_purge_beyond_the_end_moves_it_and_what_was_in_flight_fails() {
    let (mut one, mut log) = leader();
    three(&mut log, &mut one);
    log.purge(&mut one, "", 100, 0);
    let passed = log.publish(&mut one, "s.a", "x");
    log.commit_to(&mut [&mut one]);
    assert!(one.answer(passed).contains(r#""err_code":10063"#), "{}", one.answer(passed));
    let next = log.publish(&mut one, "s.a", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(next), r#"{"stream":"S","seq":100}"#);
}

#[test]
fn deletes_and_purges_can_be_refused() {
    let config =
        jetwake::wire::StreamConfig { deny_delete: true, deny_purge: true, ..crate::rig::config() };
    let limits = jetwake::limits::Limits::default();
    let mut one = Replica::with("n1", Store::default(), config, limits);
    let mut log = Log::new();
    let not_leader = log.delete(&mut one, 1);
    assert!(one.answer(not_leader).contains(r#""err_code":10009"#));
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let delete = log.delete(&mut one, 1);
    let purge = log.purge(&mut one, "", 0, 0);
    assert!(one.answer(delete).contains(r#"10057,"description":"message delete not permitted""#));
    assert!(one.answer(purge).contains(r#"10110,"description":"stream purge not permitted""#));
    assert!(one.answer(purge).contains(r#""purged":0"#));
}

#[test]
fn replicas_and_those_that_start_again_are_the_same() {
    let (mut one, mut log) = leader();
    let mut two = Replica::new("n2", Store::default());
    for round in 0..50 {
        three(&mut log, &mut one);
        log.delete(&mut one, round * 2 + 1);
        log.publish_with(&mut one, "s.c", &format!("Nats-Msg-Id: {round}"), "x");
        log.commit_to(&mut [&mut one, &mut two]);
    }
    log.purge(&mut one, "s.b", 0, 5);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_same(&one, &two);
    let before = one.stream.info();
    let one = one.restart();
    assert_eq!(one.stream.info(), before);
    assert_same(&one, &two);
}

#[test]
fn ids_are_known_after_a_restart() {
    let (mut one, mut log) = leader();
    log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.publish(&mut one, "s.a", "x");
    log.commit_to(&mut [&mut one]);
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let again = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    assert_eq!(one.answer(again), r#"{"stream":"S","seq":1,"duplicate": true}"#);
}

#[test]
fn a_restore_reads_in_bounded_pieces() {
    let (mut one, mut log) = leader();
    for _ in 0..20 {
        three(&mut log, &mut one);
    }
    log.commit_to(&mut [&mut one]);
    one.limits.read_messages = 7;
    one.limits.load = ByteCount::new(200);
    let state = one.stream.state();
    assert_eq!(one.restart().stream.state(), state);
}

#[test]
fn a_store_that_lost_its_first_message_is_not_trusted() {
    let (mut one, mut log) = leader();
    three(&mut log, &mut one);
    log.commit_to(&mut [&mut one]);
    let mut other = Replica::new("n2", Store::default());
    let mut store = one.store.clone();
    store.messages.remove(&1);
    other.store = store.clone();
    // Opened by hand, as the rig expects every store to be good.
    let (mark, mut stopped) = (store.mark, false);
    let mut bad = Replica::new("n3", Store::default());
    bad.store = store;
    bad.with_stream(|stream, cx| stream.open(cx, mark, None, false));
    for notice in &bad.notices {
        stopped |= matches!(notice, Notice::Stopped(why) if why.contains("begins at message 2"));
    }
    assert!(stopped, "{:?}", bad.notices);
}

#[test]
fn an_entry_that_is_not_understood_stops_the_stream() {
    for data in [&b"\x0fxyz"[..], b"\xc8", b"", b"\x04short", b"\x06{", b"\x10\x01\x00b\x01\x04"] {
        let (mut one, mut log) = leader();
        three(&mut log, &mut one);
        log.commit_to(&mut [&mut one]);
        let waiting = log.publish(&mut one, "s.a", "x");
        log.push_raw(EntryKind::Normal, data);
        log.commit_to(&mut [&mut one]);
        assert!(one.stream.stopped().expect("stopped").contains("log record 2, entry 1"));
        assert!(matches!(&*one.notices, [Notice::Stopped(_)]));
        assert_eq!(one.store.messages.len(), 3, "nothing of the record is stored");
        assert_ne!(one.answer(waiting), "");
        let after = log.publish(&mut one, "s.a", "x");
        assert!(one.answer(after).contains("10009"), "{}", one.answer(after));
    }
}

#[test]
fn entries_of_other_kinds_are_passed_over() {
    let (mut one, mut log) = leader();
    log.push_raw(EntryKind::PeerState, b"anything");
    three(&mut log, &mut one);
    log.push_raw(EntryKind::LeaderTransfer, b"anything");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.stream.state().messages, 3);
}

#[test]
fn records_wait_while_the_store_has_too_much_to_take() {
    let (mut one, mut log) = leader();
    one.limits.store_in_flight = ByteCount::new(100);
    three(&mut log, &mut one);
    log.commit();
    let (index, entry, record) = &log.records[0];
    one.step(|stream, cx| {
        stream.apply(cx, *index, entry, record);
        assert!(stream.paused(cx));
    });
    one.with_stream(|_, _| {});
    assert!(!one.step(|stream, cx| stream.paused(cx)));
}

#[test]
fn reads_give_what_this_replica_has() {
    let (mut one, mut log) = leader();
    three(&mut log, &mut one);
    log.delete(&mut one, 1);
    log.commit_to(&mut [&mut one]);
    let read = |one: &mut Replica, id: u64, first: u64, most: usize| {
        let bounds = (most, ByteCount::new(1 << 20));
        let (request, first) = (RequestId::new(id), Sequence::new(first));
        one.with_stream(|stream, cx| stream.read(cx, request, first, bounds));
        one.answer(id).to_string()
    };
    let all = read(&mut one, 100, 0, 10);
    assert!(all.contains("Sequence(2)") && all.contains("Sequence(3)") && all.contains("None"));
    let first = read(&mut one, 101, 1, 1);
    assert!(first.contains("next: Some(Sequence(3))"), "{first}");
    assert!(read(&mut one, 102, 4, 1).contains("messages: []"));
}

#[test]
fn an_id_whose_message_was_passed_over_can_be_used_again() {
    let (mut one, mut log) = leader();
    log.purge(&mut one, "", 100, 0);
    let passed = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.commit_to(&mut [&mut one]);
    assert!(one.answer(passed).contains(r#""err_code":10063"#), "{}", one.answer(passed));
    let again = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m", "x");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(again), r#"{"stream":"S","seq":100}"#);
}
