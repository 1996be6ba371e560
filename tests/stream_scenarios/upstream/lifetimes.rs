//! Messages that live only so long: `jetstream_test.go` and `jetstream_cluster_4_test.go` of upstream.

use jetwake::time::Duration;
use jetwake::wire::StreamConfig;

use super::{STORAGES, publish_each, span};
use crate::rig::{Log, Replica, ack, assert_same, config, error, two};

const SECOND: i64 = 1_000_000_000;

fn timed() -> StreamConfig {
    StreamConfig { allow_msg_ttl: true, ..config() }
}

fn live(log: &mut Log, one: &mut Replica, ttl: &str) -> u64 {
    log.publish_with(one, "s.a", &format!("Nats-TTL: {ttl}"), "")
}

/// Time passes in steps, after each of which what the leader wants is committed.
fn pass(log: &mut Log, one: &mut Replica, two: &mut Replica, milliseconds: u64) {
    for _ in 0..milliseconds / 250 {
        one.pass(log, Duration::from_millis(250));
        log.commit_to(&mut [one, two]);
        two.now = one.now;
    }
}

/// Red when `Lifetimes::added` does not hear the header.
#[test]
fn jetstream_message_ttl() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..timed() });
        (0..10).for_each(|_| _ = live(&mut log, &mut one, "1s"));
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!((span(&one), span(&two)), ((10, 1, 10), (10, 1, 10)));
        pass(&mut log, &mut one, &mut two, 2000);
        assert_eq!((span(&one), span(&two)), ((0, 11, 10), (0, 11, 10)));
        assert_same(&one, &two);
    }
}

/// Ours has no file of lives that could be lost: a restart always reads them from the messages, which is
/// upstream's `TestJetStreamMessageTTLRecovered` too.
/// Red when `Contents::add` hears the header only of what is applied.
#[test]
fn jetstream_message_ttl_restart() {
    let (mut one, mut two, mut log) = two(&timed());
    (0..10).for_each(|_| _ = live(&mut log, &mut one, "1s"));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(span(&one), (10, 1, 10));
    let (mut one, mut two) = (one.restart(), two.restart());
    assert_eq!((span(&one), span(&two)), ((10, 1, 10), (10, 1, 10)));
    one.with_stream(|stream, cx| stream.leadership_gained(cx));
    pass(&mut log, &mut one, &mut two, 2000);
    assert_eq!((span(&one), span(&two)), ((0, 11, 10), (0, 11, 10)));
    assert_same(&one, &two);
}

/// Red when less than a second is taken for none.
#[test]
fn jetstream_message_ttl_invalid() {
    for storage in STORAGES {
        let (mut one, _, mut log) = two(&StreamConfig { storage, ..timed() });
        for ttl in ["500ms", "something"] {
            let refused = live(&mut log, &mut one, ttl);
            assert_eq!(one.answer(refused), error(400, 10165, "invalid per-message TTL"));
        }
    }
}

/// Red when `Lifetimes::ended` purges past a message that never ends.
#[test]
fn jetstream_message_ttl_never_expire() {
    for storage in STORAGES {
        let config = StreamConfig { storage, max_age: SECOND, ..timed() };
        let (mut one, mut two, mut log) = two(&config);
        live(&mut log, &mut one, "never");
        (0..10).for_each(|_| _ = log.publish(&mut one, "s.a", ""));
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(span(&two), (11, 1, 11));
        pass(&mut log, &mut one, &mut two, 2000);
        assert_eq!((span(&one), span(&two)), ((1, 1, 11), (1, 1, 11)));
        assert_same(&one, &two);
    }
}

/// Red when `check_plain` asks for nothing.
#[test]
fn jetstream_message_ttl_disabled() {
    for storage in STORAGES {
        let (mut one, _, mut log) = two(&StreamConfig { storage, ..config() });
        let refused = live(&mut log, &mut one, "1s");
        assert_eq!(one.answer(refused), error(400, 10166, "per-message TTL is disabled"));
    }
}

/// Nothing pulls here: what the source would bring is handed over. A stream that hears no lives keeps
/// what it is brought, and one that hears them does not.
/// Red when a life that a source brings is refused, or heard where none are.
#[test]
fn jetstream_message_ttl_when_sourcing() {
    let source = "Nats-TTL: 1s\r\nNats-Stream-Source: O 1 > > s.a";
    for (config, left) in [(config(), 1), (timed(), 0)] {
        let (mut one, mut two, mut log) = two(&config);
        let taken = log.source(&mut one, "s.a", source, "");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(taken), ack(1));
        pass(&mut log, &mut one, &mut two, 2000);
        assert_eq!((span(&one).0, span(&two).0), (left, left));
        assert_same(&one, &two);
    }
}

/// Upstream counts what is to end, and here nothing is proposed when it would have.
/// Red when `Lifetimes::ended` names what is gone.
#[test]
fn jetstream_remove_ttl_on_remove_msg() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..timed() });
        live(&mut log, &mut one, "1h");
        log.commit_to(&mut [&mut one, &mut two]);
        log.delete(&mut one, 1);
        log.commit_to(&mut [&mut one, &mut two]);
        one.pass(&mut log, Duration::from_secs(3601));
        log.commit();
        assert!(log.records.last().expect("a record").1.entries.is_empty(), "nothing to remove");
        assert_eq!(one.stream.deadline(), None);
    }
}

/// Red when a message that ends later takes the place of the next end.
#[test]
fn jetstream_message_ttl_not_expiring() {
    for storage in STORAGES {
        let (mut one, mut two, mut log) = two(&StreamConfig { storage, ..timed() });
        live(&mut log, &mut one, "1h");
        let short = live(&mut log, &mut one, "1s");
        log.commit_to(&mut [&mut one, &mut two]);
        assert_eq!(one.answer(short), ack(2));
        for _ in 0..15 {
            live(&mut log, &mut one, "1h");
            one.pass(&mut log, Duration::from_millis(100));
            log.commit_to(&mut [&mut one, &mut two]);
        }
        assert!(one.kept().contains(&1) && !one.kept().contains(&2), "{:?}", one.kept());
        assert_same(&one, &two);
    }
}

/// Red when the id of a refused message stays known.
#[test]
fn jetstream_cluster_ttl_and_dedupe() {
    let (mut one, mut two, mut log) = two(&config());
    let off = error(400, 10166, "per-message TTL is disabled");
    for _ in 0..2 {
        let refused = live(&mut log, &mut one, "10s\r\nNats-Msg-Id: msgId");
        assert_eq!(one.answer(refused), off);
    }
    let taken = log.publish_with(&mut one, "s.a", "Nats-Msg-Id: msgId", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(taken), ack(1));
}

/// Red when the id of a refused message stays known.
#[test]
fn jetstream_cluster_invalid_ttl_and_dedupe() {
    let (mut one, mut two, mut log) = two(&timed());
    for ttl in ["invalid!", "-10s"] {
        let refused = live(&mut log, &mut one, &format!("{ttl}\r\nNats-Msg-Id: msgId"));
        assert_eq!(one.answer(refused), error(400, 10165, "invalid per-message TTL"));
    }
    let taken = live(&mut log, &mut one, "10s\r\nNats-Msg-Id: msgId");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(taken), ack(1));
}

/// Upstream's store removes by its own clock; here the leader proposes it.
/// Red when deletes in the middle keep `Lifetimes` from what comes behind them.
#[test]
fn file_store_age_limit() {
    let (mut one, mut two, mut log) = two(&StreamConfig { max_age: SECOND, ..config() });
    (0..500).for_each(|_| _ = log.publish(&mut one, "s.a", "Hello World"));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(span(&one), (500, 1, 500));
    pass(&mut log, &mut one, &mut two, 2000);
    assert_eq!((span(&two), two.stream.state().bytes.get()), ((0, 501, 500), 0));
    (0..500).for_each(|_| _ = log.publish(&mut one, "s.a", "Hello World"));
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(span(&one), (500, 501, 1000));
    for sequence in [502, 602, 702, 802] {
        log.delete(&mut one, sequence);
    }
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(span(&one).0, 496);
    pass(&mut log, &mut one, &mut two, 2000);
    assert_eq!((span(&two), two.stream.state().bytes.get()), ((0, 1001, 1000), 0));
    assert_same(&one, &two);
}

/// Upstream's follower removes by its own clock while it is away, and may begin elsewhere; here the
/// follower that was away has what the log says, whenever it comes back.
/// Red when a replica removes what has ended by itself.
#[test]
fn jetstream_cluster_first_seq_mismatch() {
    let (mut one, mut two, mut log) = two(&StreamConfig { max_age: 2 * SECOND, ..config() });
    for _ in 0..10 {
        publish_each(&mut log, &mut [&mut one, &mut two], "s.a", 5);
        one.pass(&mut log, Duration::from_millis(250));
    }
    let first = two.stream.state().first;
    assert!(first.get() > 1, "some have ended");
    for _ in 0..16 {
        publish_each(&mut log, &mut [&mut one], "s.a", 5);
        one.pass(&mut log, Duration::from_millis(250));
    }
    log.commit_to(&mut [&mut one]);
    two.now = one.now;
    let mut two = two.restart();
    assert_eq!(two.stream.state().first, first, "time alone removes nothing");
    log.feed(&mut two);
    assert_same(&one, &two);
}
