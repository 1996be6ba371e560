//! Messages that send others.

use jetwake::time::Duration;
use jetwake::wire::{GoTime, StreamConfig, StreamMessage};

use crate::rig::{Log, Replica, ack, assert_same, config, error, two};

pub(crate) fn scheduling() -> StreamConfig {
    StreamConfig { allow_msg_schedules: true, allow_msg_ttl: true, ..config() }
}

pub(crate) fn at(one: &Replica, seconds: u64) -> String {
    let time = one.now + Duration::from_secs(seconds);
    format!("Nats-Schedule: @at {}", GoTime::from_time(time))
}

pub(crate) fn message(replica: &Replica, sequence: u64) -> (String, String, String) {
    let record = replica.store.messages.get(&sequence).expect("stored");
    let message = StreamMessage::decode(record, &replica.limits).expect("a message");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(message.subject()), text(message.header()), text(message.payload()))
}

pub(crate) fn pass(log: &mut Log, one: &mut Replica, two: &mut Replica, seconds: u64) {
    for _ in 0..seconds * 2 {
        one.pass(log, Duration::from_millis(500));
        log.commit_to(&mut [one, two]);
        two.now = one.now;
    }
}

#[test]
fn a_message_is_sent_once_at_its_time_and_its_schedule_goes() {
    let (mut one, mut two, mut log) = two(&scheduling());
    let fields = format!(
        "{}\r\nNats-Schedule-Target: s.out\r\nNats-Schedule-TTL: 1h\r\nNats-Msg-Id: m\r\nOwn: kept",
        at(&one, 5)
    );
    let id = log.publish_with(&mut one, "s.later", &fields, "body");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(id), ack(1));
    assert!(message(&one, 1).1.contains("Nats-Rollup: sub\r\n"), "one schedule a subject");
    pass(&mut log, &mut one, &mut two, 4);
    assert_eq!(one.kept(), [1]);
    pass(&mut log, &mut one, &mut two, 2);
    assert_eq!(one.kept(), [2], "the schedule is gone");
    let (subject, header, body) = message(&one, 2);
    let expected = "NATS/1.0\r\nOwn: kept\r\nNats-Scheduler: s.later\r\n\
        Nats-Schedule-Next: purge\r\nNats-TTL: 1h\r\n\r\n";
    assert_eq!((&*subject, &*header, &*body), ("s.out", expected, "body"));
    pass(&mut log, &mut one, &mut two, 20);
    assert_eq!(one.kept(), [2], "once");
    assert_same(&one, &two);
}

#[test]
fn a_message_is_sent_again_and_again() {
    let (mut one, mut two, mut log) = two(&scheduling());
    let fields = "Nats-Schedule: @every 2s\r\nNats-Schedule-Target: s.out";
    log.publish_with(&mut one, "s.beat", fields, "x");
    log.commit_to(&mut [&mut one, &mut two]);
    pass(&mut log, &mut one, &mut two, 7);
    let sent = one.kept().len() - 1;
    assert!((3..=4).contains(&sent), "{sent} in seven seconds");
    assert!(message(&one, 2).1.contains("Nats-Schedule-Next: 1970-"));
    // Another leader goes on.
    one.with_stream(|stream, cx| stream.leadership_lost(cx));
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    pass(&mut log, &mut two, &mut one, 4);
    let more = one.kept().len() - 1 - sent;
    assert!((1..=3).contains(&more), "{more} in four seconds");
    // And one that starts again.
    let mut two = two.restart();
    two.with_stream(|stream, cx| stream.leadership_gained(cx));
    pass(&mut log, &mut two, &mut one, 4);
    assert!(one.kept().len() - 1 - sent > more);
    assert_same(&one, &two);
    let beat = one.kept()[0];
    log.delete(&mut two, beat);
    log.commit_to(&mut [&mut one, &mut two]);
    let before = one.kept().len();
    pass(&mut log, &mut two, &mut one, 6);
    assert_eq!(one.kept().len(), before, "nothing comes of a schedule that was deleted");
    assert_eq!(two.stream.deadline(), None);
}

#[test]
fn a_later_schedule_takes_the_place_of_an_earlier() {
    let (mut one, mut two, mut log) = two(&scheduling());
    for seconds in [2, 6] {
        let fields = format!("{}\r\nNats-Schedule-Target: s.out", at(&one, seconds));
        log.publish_with(&mut one, "s.later", &fields, "x");
    }
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.kept(), [2]);
    pass(&mut log, &mut one, &mut two, 4);
    assert_eq!(one.kept(), [2]);
    pass(&mut log, &mut one, &mut two, 4);
    assert_eq!(one.kept(), [3]);
    assert_same(&one, &two);
}

#[test]
fn a_schedule_may_send_the_last_message_of_another_subject() {
    let (mut one, mut two, mut log) = two(&scheduling());
    log.publish(&mut one, "s.price", "old");
    log.publish_with(&mut one, "s.price", "Unit: EUR", "new");
    let fields =
        format!("{}\r\nNats-Schedule-Target: s.out\r\nNats-Schedule-Source: s.price", at(&one, 1));
    log.publish_with(&mut one, "s.later", &fields, "ignored");
    log.commit_to(&mut [&mut one, &mut two]);
    pass(&mut log, &mut one, &mut two, 2);
    let (subject, header, body) = message(&one, 4);
    assert_eq!((&*subject, &*body), ("s.out", "new"));
    assert!(header.starts_with("NATS/1.0\r\nUnit: EUR\r\nNats-Scheduler: s.later\r\n"), "{header}");
    assert_same(&one, &two);
}

#[test]
fn what_is_wrong_with_a_schedule_is_said_as_upstream_does() {
    let (mut plain, _, mut log) = two(&config());
    let off = log.publish_with(&mut plain, "s.a", "Nats-Schedule: @every 1s", "");
    assert_eq!(plain.answer(off), error(400, 10188, "message schedules is disabled"));
    let config = StreamConfig { allow_msg_ttl: false, ..scheduling() };
    let (mut untimed, _, mut log) = two(&config);
    let every = "Nats-Schedule: @every 1s\r\nNats-Schedule-Target: s.out";
    let fields = format!("{every}\r\nNats-Schedule-TTL: 5s");
    let untimed_ttl = log.publish_with(&mut untimed, "s.a", &fields, "");
    assert_eq!(untimed.answer(untimed_ttl), error(400, 10166, "per-message TTL is disabled"));
    let (mut one, _, mut log) = two(&scheduling());
    let target = error(400, 10190, "message schedules target is invalid");
    let source = error(400, 10203, "message schedules source is invalid");
    for (fields, refused) in [
        (
            "Nats-Schedule: @hourly".to_string(),
            error(400, 10189, "message schedules pattern is invalid"),
        ),
        ("Nats-Schedule: @every 1s".to_string(), target.clone()),
        ("Nats-Schedule: @every 1s\r\nNats-Schedule-Target: s.*".to_string(), target.clone()),
        ("Nats-Schedule: @every 1s\r\nNats-Schedule-Target: s.a".to_string(), target.clone()),
        ("Nats-Schedule: @every 1s\r\nNats-Schedule-Target: t.a".to_string(), target),
        (
            format!("{every}\r\nNats-Schedule-TTL: x"),
            error(400, 10191, "message schedules invalid per-message TTL"),
        ),
        (format!("{every}\r\nNats-Schedule-Source: s.out"), source.clone()),
        (format!("{every}\r\nNats-Schedule-Source: s.a"), source.clone()),
        (format!("{every}\r\nNats-Schedule-Source: s.>"), source),
        (
            format!("{every}\r\nNats-Rollup: all"),
            error(400, 10192, "message schedules invalid rollup"),
        ),
    ] {
        let id = log.publish_with(&mut one, "s.a", &fields, "");
        assert_eq!(one.answer(id), refused, "{fields}");
    }
}

#[test]
fn what_cannot_be_stored_now_is_sent_later() {
    let (mut one, mut two, mut log) = two(&scheduling());
    let fields = format!("{}\r\nNats-Schedule-Target: s.out", at(&one, 1));
    log.publish_with(&mut one, "s.later", &fields, "x");
    log.commit_to(&mut [&mut one, &mut two]);
    log.full = true;
    pass(&mut log, &mut one, &mut two, 2);
    log.full = false;
    assert_eq!(one.kept(), [1]);
    pass(&mut log, &mut one, &mut two, 6);
    assert_eq!(one.kept(), [2]);
    assert_same(&one, &two);
}
