//! Batches as publishers send them: `jetstream_batching_test.go` of upstream.

use jetwake::limits::Limits;
use jetwake::time::Duration;
use jetwake::wire::StreamConfig;

use super::{STORAGES, reconfigure};
use crate::batch::{COMMIT, atomic, batch, fields, incomplete, part};
use crate::rig::{Log, Replica, Store, ack, assert_same, config, error, two};
use crate::schedule::message;

fn told(sequence: u64, id: &str, count: u64) -> String {
    format!(r#"{{"stream":"S","seq":{sequence},"batch":"{id}","count":{count}}}"#)
}

/// A publish of a batch that is one message alone.
fn alone(log: &mut Log, one: &mut Replica, id: &str, more: &str) -> u64 {
    let more = format!("{more}\r\n{COMMIT}");
    log.publish_with(one, "s.a", &fields(id, 1, more.trim_start()), "x")
}

/// Upstream has retention policies besides, which our streams do not have.
/// Red when `Stream::gather` takes up a batch that it did not see begin.
#[test]
fn jetstream_atomic_batch_publish() {
    for storage in STORAGES {
        let off = StreamConfig { storage, ..config() };
        let (mut one, mut two, mut log) = two(&off);
        let refused = log.publish_with(&mut one, "s.0", "Nats-Batch-Id: uuid", "s.0");
        assert_eq!(one.answer(refused), error(400, 10174, "atomic publish is disabled"));
        for replica in [&mut one, &mut two] {
            reconfigure(replica, &StreamConfig { storage, ..atomic() });
        }
        let missing = log.publish_with(&mut one, "s.0", "Nats-Batch-Id: uuid", "s.0");
        assert_eq!(one.answer(missing), error(400, 10175, "atomic publish sequence is missing"));
        let no_start = log.publish_with(&mut one, "s.0", &fields("uuid", 2, ""), "s.0");
        assert_eq!(one.answer(no_start), incomplete());
        let single = log.publish_with(&mut one, "s.0", &fields("uuid", 1, COMMIT), "s.0");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(single), told(1, "uuid", 1));
        log.publish_with(&mut one, "s.0", &fields("uuid", 1, ""), "s.0");
        let gap = log.publish_with(&mut one, "s.0", &fields("uuid", 3, ""), "s.0");
        assert_eq!(one.answer(gap), incomplete());
        let mut last = 0;
        for number in 1..=5 {
            let subject = format!("s.{number}");
            let more = if number == 5 { COMMIT } else { "" };
            last = log.publish_with(&mut one, &subject, &fields("uuid", number, more), &subject);
        }
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(last), told(6, "uuid", 5));
        for sequence in 1..=6 {
            let (subject, _, body) = message(&two, sequence);
            assert_eq!((&*subject, &*body), (&*format!("s.{}", sequence - 1), &*subject));
        }
        assert_same(&one, &two);
    }
}

/// Upstream bounds the batches of a whole server too, and ours those of each stream alone.
/// Red when `Batches::expire` gives nothing up, or the id's length is not looked at.
#[test]
fn jetstream_atomic_batch_publish_limits() {
    let batch_time = Duration::from_millis(500);
    let limits = Limits { batches: 1, batch_messages: 2, batch_time, ..Limits::default() };
    let mut one = Replica::with("n1", Store::default(), atomic(), limits);
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut log = Log::new();
    let longest = "A".repeat(64);
    let fits = alone(&mut log, &mut one, &longest, "");
    let long = alone(&mut log, &mut one, &"A".repeat(65), "");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(fits), told(1, &longest, 1));
    assert_eq!(one.answer(long), error(400, 10179, "atomic publish batch ID is invalid"));

    part(&mut log, &mut one, "uuid", 1, "");
    let second = alone(&mut log, &mut one, "exceeds_threshold", "");
    assert_eq!(one.answer(second), incomplete());
    one.pass(&mut log, Duration::from_secs(2));
    assert_eq!(one.stream.deadline(), None, "the first is given up");
    let late = part(&mut log, &mut one, "uuid", 2, COMMIT);
    assert_eq!(one.answer(late), incomplete());

    let whole = batch(&mut log, &mut one, "exceeds_threshold", 2);
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(whole), told(3, "exceeds_threshold", 2));
    let large = batch(&mut log, &mut one, "exceeds_threshold", 3);
    let why = "atomic publish batch is too large: 2";
    assert_eq!(one.answer(large), error(400, 10199, why));
    assert_eq!(one.kept(), [1, 2, 3], "and nothing of it is stored");
}

/// Red when a batch answers a duplicate as a message of its own does.
#[test]
fn jetstream_atomic_batch_publish_dedupe_not_allowed() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..atomic() });
        log.publish_with(&mut one, "s.a", "Nats-Msg-Id: pre-existing", "");
        log.commit_to(&mut [&mut one, &mut two]);
        let known = alone(&mut log, &mut one, "uuid", "Nats-Msg-Id: pre-existing");
        let why = "atomic publish batch contains duplicate message id";
        assert_eq!(one.answer(known), error(400, 10201, why));
        part(&mut log, &mut one, "uuid", 1, "Nats-Msg-Id: msgId1");
        let both = format!("Nats-Msg-Id: msgId2\r\n{COMMIT}");
        let done = part(&mut log, &mut one, "uuid", 2, &both);
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(done), told(3, "uuid", 2));
        assert_same(&one, &two);
    }
}

/// What ends a batch that its publisher has begun.
#[derive(Clone, Copy, Debug)]
enum End {
    Disable,
    StepDown,
    Delete,
    Commit,
}

/// Upstream looks at its lists of batches, and here nothing waits for time and no bound is used up.
/// Red when `Stream::reconfigure` leaves the batches of a stream that takes none any more.
#[test]
fn jetstream_atomic_batch_publish_cleanup() {
    for end in [End::Disable, End::StepDown, End::Delete, End::Commit] {
        let (mut one, mut two, mut log) = two(&config());
        for replica in [&mut one, &mut two] {
            reconfigure(replica, &atomic());
        }
        assert_eq!(one.stream.deadline(), None, "nothing is begun by that alone");
        part(&mut log, &mut one, "uuid", 1, "");
        let other = alone(&mut log, &mut one, "commit", "");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(other), told(1, "commit", 1));
        assert!(one.stream.deadline().is_some(), "one batch waits");
        match end {
            End::Disable => reconfigure(&mut one, &config()),
            End::StepDown => one.with_stream(|stream, cx| stream.leadership_lost(cx)),
            End::Delete => one.with_stream(|stream, cx| stream.close(cx)),
            End::Commit => _ = part(&mut log, &mut one, "uuid", 2, COMMIT),
        }
        assert_eq!(one.stream.deadline(), None, "{end:?}");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.stream.state().failed, 0, "{end:?}");
        let kept: &[u64] = if matches!(end, End::Commit) { &[1, 2, 3] } else { &[1] };
        assert_eq!(two.kept(), kept, "{end:?}");
        // Whoever goes on afterwards finds nothing of it.
        if matches!(end, End::Disable | End::StepDown) {
            reconfigure(&mut one, &atomic());
            one.with_stream(|stream, cx| stream.leadership_gained(cx));
            let late = part(&mut log, &mut one, "uuid", 2, COMMIT);
            assert_eq!(one.answer(late), incomplete(), "{end:?}");
        }
    }
}

/// Ours are fields of `Limits`, fixed with the node; upstream's bound for a whole server is none of them.
#[test]
fn jetstream_atomic_batch_publish_config_opts() {
    let limits = Limits::default();
    assert_eq!((limits.batches, limits.batch_messages), (50, 1000));
    assert_eq!(limits.batch_time, Duration::from_secs(10));
    let batch_time = Duration::from_secs(5);
    let limits = Limits { batches: 10, batch_messages: 100, batch_time, ..limits };
    let mut one = Replica::with("n1", Store::default(), atomic(), limits);
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    let mut log = Log::new();
    for number in 0..10 {
        let begun = part(&mut log, &mut one, &format!("b{number}"), 1, "");
        assert_eq!(one.answer(begun), "");
    }
    let eleventh = part(&mut log, &mut one, "b10", 1, "");
    assert_eq!(one.answer(eleventh), incomplete());
    assert_eq!(one.wait(), batch_time);
    let large = batch(&mut log, &mut one, "large", 101);
    let why = "atomic publish batch is too large: 100";
    assert_eq!(one.answer(large), error(400, 10199, why));
}

/// Red when `Stream::commit` does not look for the field.
#[test]
fn jetstream_atomic_batch_publish_deny_headers() {
    let (mut one, _, mut log) = two(&atomic());
    part(&mut log, &mut one, "uuid", 1, "Nats-Expected-Last-Msg-Id: msgId");
    let end = part(&mut log, &mut one, "uuid", 2, "Nats-Batch-Commit: eob");
    let why = "atomic publish unsupported header used: Nats-Expected-Last-Msg-Id";
    assert_eq!(one.answer(end), error(400, 10177, why));
    log.commit_to(&mut [&mut one]);
    assert!(one.kept().is_empty());
}

/// Upstream looks at its maps; here what is refused leaves its id and its subject free.
/// Red when `check_id` or `check_expected` marks before the whole is taken.
#[test]
fn jetstream_atomic_batch_publish_high_level_rollback() {
    let (mut one, mut two, mut log) = two(&StreamConfig { max_msgs: 1, ..config() });
    let expects =
        |last: u64| format!("Nats-Msg-Id: dedupe\r\nNats-Expected-Last-Subject-Sequence: {last}");
    let refused = log.publish_with(&mut one, "s.a", &expects(1), "x");
    assert_eq!(one.answer(refused), error(400, 10071, "wrong last sequence: 0"));
    let taken = log.publish_with(&mut one, "s.a", &expects(0), "x");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!((one.answer(taken), one.stream.state().failed), (&*ack(1), 0));
    assert_same(&one, &two);
}

/// Upstream tells by advisories, and ours by reports.
/// Red when `Batches::expire` gives up in silence.
#[test]
fn jetstream_atomic_batch_publish_advisories() {
    let (mut one, _, mut log) = two(&atomic());
    part(&mut log, &mut one, "uuid", 1, "");
    part(&mut log, &mut one, "uuid", 3, "");
    let told = |why: &str| format!(r#"batch "uuid" is abandoned: {why}"#);
    assert_eq!(one.reports, [told("incomplete")]);
    let large = batch(&mut log, &mut one, "uuid", 1001);
    let why = "atomic publish batch is too large: 1000";
    assert_eq!(one.answer(large), error(400, 10199, why));
    assert_eq!(one.reports[1..], [told("large")]);
    part(&mut log, &mut one, "uuid", 1, "");
    one.pass(&mut log, Duration::from_secs(11));
    assert_eq!(one.reports[2..], [told("timeout")]);
}

/// Red when an empty value ends a batch as if there was none, or what was required is stored.
#[test]
fn jetstream_atomic_batch_publish_commit_unsupported() {
    let (mut one, _, mut log) = two(&StreamConfig { storage: STORAGES[1], ..atomic() });
    for unsupported in ["", "unsupported", "0"] {
        part(&mut log, &mut one, "uuid", 1, "");
        let commit = format!("Nats-Batch-Commit: {unsupported}");
        let refused = part(&mut log, &mut one, "uuid", 2, &commit);
        let why = "atomic publish batch commit is invalid";
        assert_eq!(one.answer(refused), error(400, 10200, why), "{unsupported:?}");
        assert_eq!(one.stream.deadline(), None, "no batch is left after {unsupported:?}");
    }
    let most = format!("Nats-Required-Api-Level: {}", i64::MAX);
    let refused = alone(&mut log, &mut one, "uuid", &most);
    let why = "JetStream minimum api level required";
    assert_eq!(one.answer(refused), error(412, 10185, why));
    let taken = alone(&mut log, &mut one, "uuid", "Nats-Required-Api-Level: 0");
    log.commit_to(&mut [&mut one]);
    assert_eq!(one.answer(taken), told(1, "uuid", 1));
    assert!(!message(&one, 1).1.contains("Nats-Required-Api-Level"));
}
