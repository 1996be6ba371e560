//! Messages that send others: `jetstream_cluster_1_test.go` and `jetstream_test.go` of upstream.

use jetwake::time::Duration;
use jetwake::wire::StreamConfig;

use super::{STORAGES, span};
use crate::rig::{Log, Replica, ack, assert_same, config, error, two};
use crate::schedule::{at, message, pass, scheduling};

const PAST: &str = "Nats-Schedule: @at 1970-01-01T00:00:00Z";

/// A message is refused.
fn refuse(log: &mut Log, one: &mut Replica, fields: &str, (err_code, why): (i32, &str)) {
    let id = log.publish_with(one, "s.invalid", fields, "");
    assert_eq!(one.answer(id), error(400, err_code, why), "{fields}");
}

/// That schedules cannot be turned off again is in `tests/meta`.
/// Red when what is sent keeps a field of its schedule, or the schedule stays.
#[test]
fn jetstream_cluster_scheduled_delayed_message() {
    for storage in STORAGES {
        let (mut one, _, mut log) = two(&StreamConfig { storage, ..config() });
        let off = (10188, "message schedules is disabled");
        refuse(&mut log, &mut one, PAST, off);
        refuse(&mut log, &mut one, "Nats-Schedule: disabled", off);
        let untimed = StreamConfig { storage, allow_msg_ttl: false, ..scheduling() };
        let (mut one, _, mut log) = two(&untimed);
        let fields = format!("{PAST}\r\nNats-Schedule-TTL: 1s");
        refuse(&mut log, &mut one, &fields, (10166, "per-message TTL is disabled"));

        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..scheduling() });
        let target = (10190, "message schedules target is invalid");
        let pattern = (10189, "message schedules pattern is invalid");
        refuse(&mut log, &mut one, "Nats-Schedule: invalid", pattern);
        for wrong in ["not.matching", "s.*", "s.invalid"] {
            refuse(&mut log, &mut one, &format!("{PAST}\r\nNats-Schedule-Target: {wrong}"), target);
        }
        let publish = format!("{PAST}\r\nNats-Schedule-Target: s.publish\r\nNats-Schedule-TTL: ");
        let ttl = (10191, "message schedules invalid per-message TTL");
        refuse(&mut log, &mut one, &format!("{publish}invalid"), ttl);
        let rollup = (10192, "message schedules invalid rollup");
        refuse(&mut log, &mut one, &format!("{publish}1s\r\nNats-Rollup: all"), rollup);

        let later = "Nats-Schedule-Target: s.publish\r\nNats-Schedule-TTL: 1s\r\n";
        let fields = format!("{}\r\n{later}Nats-Rollup: sub", at(&one, 3600));
        let first = log.publish_with(&mut one, "s.schedule", &fields, "");
        log.commit_to(&mut [&mut one, &mut two]);
        let fields = format!(
            "{}\r\n{later}Nats-Expected-Stream: S\r\nNats-Expected-Last-Sequence: 1\r\n\
             Nats-Expected-Last-Subject-Sequence: 1\r\nNats-Msg-Id: X\r\nNats-TTL: 60s\r\n\
             Header: Value",
            at(&one, 1)
        );
        let second = log.publish_with(&mut one, "s.schedule", &fields, "hello");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!((one.answer(first), one.answer(second)), (&*ack(1), &*ack(2)));
        assert_eq!(span(&two), (1, 2, 2), "one schedule a subject");
        for _ in 0..5 {
            pass(&mut log, &mut one, &mut two, 1);
            if span(&two).2 == 3 {
                break;
            }
        }
        assert_eq!(span(&two), (1, 3, 3));
        let (subject, header, body) = message(&two, 3);
        let expected = "NATS/1.0\r\nHeader: Value\r\nNats-Scheduler: s.schedule\r\n\
            Nats-Schedule-Next: purge\r\nNats-TTL: 1s\r\n\r\n";
        assert_eq!((&*subject, &*header, &*body), ("s.publish", expected, "hello"));
        pass(&mut log, &mut one, &mut two, 2);
        assert_eq!(span(&two), (0, 4, 3), "it ends as its schedule said");
        assert_same(&one, &two);
    }
}

/// Red when the schedule's own body or fields are sent.
#[test]
fn jetstream_cluster_scheduled_message_subject_sourcing() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..scheduling() });
        log.publish_with(&mut one, "s.data", "Header: Value", "data");
        log.commit_to(&mut [&mut one, &mut two]);
        let from = format!("{PAST}\r\nNats-Schedule-Target: s.publish\r\nNats-Schedule-Source: ");
        for wrong in ["s.schedule", "s.publish", "s.*", "s.>"] {
            let id = log.publish_with(&mut one, "s.schedule", &format!("{from}{wrong}"), "");
            let why = "message schedules source is invalid";
            assert_eq!(one.answer(id), error(400, 10203, why), "{wrong}");
        }
        let id = log.publish_with(&mut one, "s.schedule", &format!("{from}s.data"), "");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!((one.answer(id), span(&two)), (&*ack(2), (2, 1, 2)));
        pass(&mut log, &mut one, &mut two, 2);
        assert_eq!(span(&two), (2, 1, 3), "the source and what was sent");
        let (subject, header, body) = message(&two, 3);
        let expected = "NATS/1.0\r\nHeader: Value\r\nNats-Scheduler: s.schedule\r\n\
            Nats-Schedule-Next: purge\r\n\r\n";
        assert_eq!((&*subject, &*header, &*body), ("s.publish", expected, "data"));
        assert_same(&one, &two);
    }
}

/// Red when a field is looked for by the beginning of its name.
#[test]
fn jetstream_cluster_scheduled_delayed_message_reversed_header_order() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..scheduling() });
        let fields = format!("Nats-Schedule-Target: s.publish\r\n{PAST}");
        log.publish_with(&mut one, "s.schedule", &fields, "");
        log.commit_to(&mut [&mut one, &mut two]);
        pass(&mut log, &mut one, &mut two, 2);
        assert_eq!(span(&two), (1, 2, 2));
        assert_eq!(message(&two, 2).0, "s.publish");
        assert_same(&one, &two);
    }
}

/// Red when a schedule that was deleted goes on.
#[test]
fn jetstream_cluster_scheduled_interval_message() {
    for storage in STORAGES {
        let config = StreamConfig { storage, allow_msg_ttl: false, ..scheduling() };
        let (mut one, mut two, mut log) = two(&config);
        let fields = "Nats-Schedule: @every 1s\r\nNats-Schedule-Target: s.publish";
        let id = log.publish_with(&mut one, "s.schedule", fields, "");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(id), ack(1));
        pass(&mut log, &mut one, &mut two, 6);
        let sent = two.kept().len() - 1;
        assert!(sent >= 3, "{sent} in six seconds");
        assert_same(&one, &two);
        log.delete(&mut one, 1);
        log.commit_to(&mut [&mut one, &mut two]);
        let sent = two.kept().len();
        pass(&mut log, &mut one, &mut two, 4);
        assert_eq!(two.kept().len(), sent, "nothing more is sent");
        assert_same(&one, &two);
    }
}

/// Red when a schedule that sends later takes the place of the next one.
#[test]
fn jetstream_scheduled_message_not_triggering() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..scheduling() });
        let later =
            |one: &Replica, seconds| format!("{}\r\nNats-Schedule-Target: s.msg", at(one, seconds));
        let fields = later(&one, 3600);
        log.publish_with(&mut one, "s.first", &fields, "");
        let fields = later(&one, 1);
        let soon = log.publish_with(&mut one, "s.validate", &fields, "");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(soon), ack(2));
        for number in 0..30 {
            let fields = later(&one, 3600);
            log.publish_with(&mut one, &format!("s.{number}"), &fields, "");
            one.pass(&mut log, Duration::from_millis(100));
            log.commit_to(&mut [&mut one, &mut two]);
        }
        assert!(!two.kept().contains(&2), "it was sent, and its schedule is gone");
        assert!(two.kept().contains(&1));
        assert_same(&one, &two);
    }
}

/// Red when a message that is no schedule leaves the one of its subject.
#[test]
fn jetstream_scheduled_message_not_deactivated() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..scheduling() });
        let to =
            |one: &Replica, target| format!("{}\r\nNats-Schedule-Target: {target}", at(one, 1));
        let fields = to(&one, "s.msg1");
        log.publish_with(&mut one, "s.schedule", &fields, "");
        log.commit_to(&mut [&mut one, &mut two]);
        pass(&mut log, &mut one, &mut two, 3);
        let subjects = |replica: &Replica| -> Vec<String> {
            replica.kept().iter().map(|sequence| message(replica, *sequence).0).collect()
        };
        assert_eq!(subjects(&two), ["s.msg1"]);
        let fields = to(&one, "s.msg2");
        log.publish_with(&mut one, "s.schedule", &fields, "");
        log.publish(&mut one, "s.schedule", "");
        log.commit_to(&mut [&mut one, &mut two]);
        pass(&mut log, &mut one, &mut two, 4);
        assert!(!subjects(&two).contains(&"s.msg2".to_string()), "{:?}", subjects(&two));
        assert_same(&one, &two);
    }
}
