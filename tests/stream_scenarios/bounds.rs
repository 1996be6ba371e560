//! What a stream keeps at most, and what its messages take out: on every replica the same.

use jetwake::time::Duration;
use jetwake::wire::{DiscardPolicy, StreamConfig};

use crate::rig::{Log, Replica, ack, assert_same, config, error, two};

const SECOND: i64 = 1_000_000_000;

fn publish_all(log: &mut Log, one: &mut Replica, subjects: &[&str]) {
    for subject in subjects {
        log.publish(one, subject, "x");
    }
}

#[test]
fn the_oldest_messages_give_way() {
    let config = StreamConfig { max_msgs: 3, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.b", "s.c", "s.d"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2, 3, 4], "what one record adds and takes out is never stored");
    publish_all(&mut log, &mut one, &["s.a", "s.b"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [4, 5, 6]);
    assert_same(&one, &two);
    publish_all(&mut log, &mut one, &["s.a"; 10]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [14, 15, 16]);
    assert_same(&one.restart(), &two);
}

#[test]
fn a_bound_of_bytes_takes_out_as_many_as_it_must() {
    let config = StreamConfig { max_bytes: 3 * (30 + 3 + 10), ..config() };
    let (mut one, mut two, mut log) = two(&config);
    for _ in 0..5 {
        log.publish(&mut one, "s.a", "0123456789");
    }
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [3, 4, 5]);
    log.publish(&mut one, "s.a", &"x".repeat(30));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [5, 6]);
    assert_same(&one, &two);
}

#[test]
fn each_subject_has_its_bound() {
    let config = StreamConfig { max_msgs_per_subject: 2, max_msgs: 5, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.b", "s.a", "s.a", "s.c", "s.c"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2, 3, 4, 5, 6]);
    publish_all(&mut log, &mut one, &["s.c", "s.d"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [3, 4, 6, 7, 8], "5 for its subject, 2 for the stream");
    assert_same(&one, &two);
    assert_same(&one.restart(), &two);
}

#[test]
fn new_messages_are_discarded_with_what_is_in_flight_counted() {
    let config = StreamConfig { max_msgs: 2, discard: DiscardPolicy::New, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.b"]);
    let full = log.publish(&mut one, "s.c", "x");
    assert_eq!(one.answer(full), error(503, 10077, "maximum messages exceeded"));
    log.commit_to(&mut [&mut one, &mut two]);
    let full = log.publish(&mut one, "s.c", "x");
    assert_eq!(one.answer(full), error(503, 10077, "maximum messages exceeded"));
    log.delete(&mut one, 1);
    log.commit_to(&mut [&mut one, &mut two]);
    let room = log.publish(&mut one, "s.c", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(room), ack(3), "what was refused cost no sequence");
    assert_same(&one, &two);
}

#[test]
fn new_bytes_are_discarded_with_what_is_in_flight_counted() {
    let config = StreamConfig { max_bytes: 100, discard: DiscardPolicy::New, ..config() };
    let (mut one, _, mut log) = two(&config);
    let first = log.publish(&mut one, "s.a", &"x".repeat(17));
    let full = log.publish(&mut one, "s.a", &"x".repeat(18));
    let second = log.publish(&mut one, "s.a", &"x".repeat(17));
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(full), error(503, 10077, "maximum bytes exceeded"));
    assert_eq!((one.answer(first), one.answer(second)), (&*ack(1), &*ack(2)));
}

#[test]
fn new_messages_of_a_full_subject_are_discarded() {
    let config = StreamConfig {
        max_msgs_per_subject: 1,
        max_msgs: 3,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        ..config()
    };
    let (mut one, mut two, mut log) = two(&config);
    let why = "maximum messages per subject exceeded";
    let first = log.publish(&mut one, "s.a", "x");
    let in_flight = log.publish(&mut one, "s.a", "x");
    assert_eq!(one.answer(in_flight), error(503, 10077, why));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(first), ack(1));
    let held = log.publish(&mut one, "s.a", "x");
    assert_eq!(one.answer(held), error(503, 10077, why));
    let other = log.publish(&mut one, "s.b", "x");
    log.delete(&mut one, 1);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(other), ack(2));
    let again = log.publish(&mut one, "s.a", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(again), one.kept()), (&*ack(3), [2, 3].to_vec()));
    assert_same(&one, &two);
}

#[test]
fn a_subject_that_replaces_its_message_has_room_where_new_ones_are_discarded() {
    let config = StreamConfig { max_msgs_per_subject: 1, discard: DiscardPolicy::New, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.a", "s.b"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2, 3]);
    assert_same(&one, &two);
}

#[test]
fn a_rollup_takes_the_place_of_its_subject_or_of_all() {
    let config = StreamConfig { allow_rollup_hdrs: true, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.b", "s.a", "s.b"]);
    log.publish_with(&mut one, "s.a", "Nats-Rollup: SUB", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2, 4, 5]);
    publish_all(&mut log, &mut one, &["s.c", "s.b"]);
    log.publish_with(&mut one, "s.d", "Nats-Rollup: all", "x");
    publish_all(&mut log, &mut one, &["s.c"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [8, 9]);
    assert_same(&one, &two);
    let wrong = log.publish_with(&mut one, "s.d", "Nats-Rollup: some", "x");
    let why = r#"rollup value invalid: \"some\""#;
    assert_eq!(one.answer(wrong), error(500, 10111, why));
}

#[test]
fn a_stream_that_cannot_be_purged_takes_no_rollup() {
    let config = StreamConfig { allow_rollup_hdrs: true, deny_purge: true, ..config() };
    let (mut one, _, mut log) = two(&config);
    let refused = log.publish_with(&mut one, "s.d", "Nats-Rollup: all", "x");
    assert_eq!(one.answer(refused), error(500, 10111, "rollup not permitted"));
}

#[test]
fn a_message_takes_with_it_what_has_ended_by_its_time() {
    let config = StreamConfig { max_age: 10 * SECOND, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.b"]);
    log.commit_to(&mut [&mut one, &mut two]);
    one.now = one.now + Duration::from_secs(6);
    publish_all(&mut log, &mut one, &["s.a"]);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [1, 2, 3]);
    one.now = one.now + Duration::from_secs(4);
    publish_all(&mut log, &mut one, &["s.a"]);
    // The follower's clock has no say.
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.kept(), two.kept()), ([3, 4].to_vec(), [3, 4].to_vec()));
    assert_same(&one, &two);
}

#[test]
fn the_leader_removes_what_has_ended_while_no_messages_come() {
    let config = StreamConfig { max_age: 10 * SECOND, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a"; 5]);
    log.commit_to(&mut [&mut one, &mut two]);
    one.now = one.now + Duration::from_secs(1);
    publish_all(&mut log, &mut one, &["s.a"]);
    log.commit_to(&mut [&mut one, &mut two]);
    one.pass(&mut log, Duration::from_millis(9_500));
    two.now = one.now;
    assert_eq!(two.stream.deadline(), None, "a follower waits for its leader");
    assert_eq!(one.kept().len(), 6, "not before a quorum has it");
    let before = log.records.len();
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.kept(), log.records[before].1.entries.len()), ([6].to_vec(), 1));
    one.pass(&mut log, Duration::from_secs(1));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_same(&one, &two);
    let state = one.stream.state();
    assert_eq!((state.messages, state.first.get(), state.last.get()), (0, 7, 6));
    one.pass(&mut log, Duration::from_secs(1));
    assert_eq!(one.stream.deadline(), None);
}

#[test]
fn a_message_may_say_how_long_it_lives() {
    let config = StreamConfig { allow_msg_ttl: true, max_age: 100 * SECOND, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    for ttl in ["5s", "never", "0", "3", "1h"] {
        let fields = match ttl {
            "0" => "Nats-TTL:".to_string(),
            ttl => format!("Nats-TTL: {ttl}"),
        };
        log.publish_with(&mut one, "s.a", &fields, "x");
    }
    log.commit_to(&mut [&mut one, &mut two]);
    one.pass(&mut log, Duration::from_secs(4));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [1, 2, 3, 5]);
    // Those who start again know it too.
    let mut one = one.restart();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    one.pass(&mut log, Duration::from_secs(2));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2, 3, 5]);
    one.pass(&mut log, Duration::from_secs(100));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2], "what never ends outlives the stream's age");
    assert_same(&one, &two);
}

#[test]
fn bad_times_to_live_are_refused() {
    let config = StreamConfig { allow_msg_ttl: true, ..config() };
    let (mut one, _, mut log) = two(&config);
    for ttl in ["0", "-1s", "soon", "999ms"] {
        let refused = log.publish_with(&mut one, "s.a", &format!("Nats-TTL: {ttl}"), "x");
        assert_eq!(one.answer(refused), error(400, 10165, "invalid per-message TTL"), "{ttl}");
    }
}

/// Upstream's issues 3567 and 3596: a replica that removes by its own clock may keep another message
/// in its place, and then the replicas begin with different ones.
#[test]
fn replicas_begin_with_the_same_message_whenever_each_of_them_hears_of_the_time() {
    let config = StreamConfig { allow_msg_ttl: true, max_msgs: 3, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a", "s.b"]);
    log.publish_with(&mut one, "s.c", "Nats-TTL: 1s", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    // Proposed before the end of the third, applied behind it on one of the two.
    one.now = one.now + Duration::from_millis(900);
    publish_all(&mut log, &mut one, &["s.d"]);
    one.now = one.now + Duration::from_millis(200);
    log.commit_to(&mut [&mut one, &mut two]);
    assert_same(&one, &two);
    assert_eq!(two.kept(), [2, 3, 4]);
    one.pass(&mut log, Duration::from_secs(1));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(two.kept(), [2, 4]);
    assert_same(&one, &two);
}

#[test]
fn a_new_leader_goes_on_removing_what_has_ended() {
    let config = StreamConfig { max_age: 10 * SECOND, ..config() };
    let (mut one, mut two, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a"; 3]);
    log.commit_to(&mut [&mut one, &mut two]);
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    assert_eq!(one.stream.deadline(), None);
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    two.pass(&mut log, Duration::from_secs(11));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.kept().len(), two.kept().len()), (0, 0));
    assert_same(&one, &two);
}

#[test]
fn a_removal_that_the_group_did_not_take_is_proposed_again() {
    let config = StreamConfig { max_age: SECOND, ..config() };
    let (mut one, _, mut log) = two(&config);
    publish_all(&mut log, &mut one, &["s.a"; 3]);
    log.commit_to(&mut [&mut one]);
    log.full = true;
    one.pass(&mut log, Duration::from_millis(1_100));
    log.full = false;
    one.pass(&mut log, Duration::from_secs(1));
    log.commit_to(&mut [&mut one]);
    assert!(one.kept().is_empty());
}

#[test]
fn a_last_message_id_is_checked_again_when_it_is_applied() {
    let (mut one, mut two, mut log) = two(&config());
    log.publish_with(&mut one, "s.a", "Nats-Msg-Id: m1", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    // A server of another kind proposes what expects another id.
    let message = jetwake::wire::StreamMessageView {
        subject: b"s.b",
        header: b"NATS/1.0\r\nNats-Expected-Last-Msg-Id: other\r\n\r\n",
        sequence: jetwake::ids::Sequence::new(1),
        timestamp: 5,
        ..jetwake::wire::StreamMessageView::default()
    };
    log.push_raw(jetwake::wire::EntryKind::Normal, &message.to_bytes().expect("short"));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.kept(), one.stream.state().failed), ([1].to_vec(), 1));
    let next = log.publish(&mut one, "s.c", "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(next), one.kept()), (&*ack(2), [1, 2].to_vec()));
    assert_same(&one, &two);
}

#[test]
fn a_stream_has_no_more_bytes_than_its_node_allows() {
    let limits = jetwake::limits::Limits {
        stream_bytes: jetwake::ids::ByteCount::new(100),
        ..jetwake::limits::Limits::default()
    };
    let mut one = Replica::with("n1", crate::rig::Store::default(), config(), limits);
    let mut log = Log::new();
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    log.publish(&mut one, "s.a", &"x".repeat(60));
    let refused = log.publish(&mut one, "s.a", &"x".repeat(10));
    assert_eq!(one.answer(refused), error(400, 10002, "resource limits exceeded for account"));
}

#[test]
fn a_sealed_stream_takes_nothing() {
    let config = StreamConfig { sealed: true, ..config() };
    let (mut one, _, mut log) = two(&config);
    let publish = log.publish(&mut one, "s.a", "x");
    assert_eq!(one.answer(publish), error(400, 10109, "invalid operation on sealed stream"));
}
