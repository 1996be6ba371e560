//! A stream is a function of its log: whoever begins with a snapshot and a catchup, wherever the log
//! is cut and however far ahead the server is, ends the same.

use jetwake::ids::Index;
use jetwake::limits::Limits;
use jetwake::stream::Notice;
use jetwake::time::Duration;
use jetwake::wire::StreamConfig;
use proptest::prelude::*;
use proptest::sample::Index as Choice;

use crate::catchup::{carry, install};
use crate::rig::{Log, Replica, Store, assert_same, config};

/// One thing that a client does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Publish { subject: u8, size: u8 },
    Live { subject: u8, seconds: u8 },
    Rollup { subject: u8, all: bool },
    Batch { size: u8 },
    Half,
    Delete(Choice),
    Purge { subject: u8, keep: u8 },
    PurgeBelow(Choice),
    PurgeBeyond,
    Wait { tenths: u8 },
    Commit,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..5_u8, 0..40_u8).prop_map(|(subject, size)| Act::Publish { subject, size }),
        3 => (0..5_u8, 1..9_u8).prop_map(|(subject, seconds)| Act::Live { subject, seconds }),
        1 => (0..5_u8, any::<bool>()).prop_map(|(subject, all)| Act::Rollup { subject, all }),
        1 => (1..6_u8).prop_map(|size| Act::Batch { size }),
        1 => Just(Act::Half),
        3 => any::<Choice>().prop_map(Act::Delete),
        1 => (0..5_u8, 0..4_u8).prop_map(|(subject, keep)| Act::Purge { subject, keep }),
        1 => any::<Choice>().prop_map(Act::PurgeBelow),
        1 => Just(Act::PurgeBeyond),
        3 => (1..30_u8).prop_map(|tenths| Act::Wait { tenths }),
        6 => Just(Act::Commit),
    ];
    prop::collection::vec(act, 1..120)
}

fn configs() -> impl Strategy<Value = StreamConfig> {
    let bound = || prop_oneof![Just(-1_i64), 1..12_i64];
    (bound(), bound(), prop_oneof![Just(-1_i64), 50..500_i64], prop_oneof![Just(0_i64), 1..9_i64])
        .prop_map(|(messages, per_subject, bytes, seconds)| StreamConfig {
            max_msgs: messages,
            max_msgs_per_subject: per_subject,
            max_bytes: bytes,
            max_age: seconds * 1_000_000_000,
            allow_msg_ttl: true,
            allow_rollup_hdrs: true,
            allow_atomic: true,
            ..config()
        })
}

/// What a leader makes of it; the log, which has a record for each commit.
fn play(leader: &mut Replica, acts: &[Act], log: &mut Log) {
    let mut batches = 0;
    for act in acts {
        let last = leader.stream.state().last.get();
        let subject = |subject: u8| format!("s.{subject}");
        match *act {
            Act::Publish { subject: number, size } => {
                let payload = "x".repeat(usize::from(size));
                log.publish(leader, &subject(number), &payload);
            }
            Act::Live { subject: number, seconds } => {
                let life = if seconds == 8 { "never".into() } else { format!("{seconds}s") };
                log.publish_with(leader, &subject(number), &format!("Nats-TTL: {life}"), "x");
            }
            Act::Rollup { subject: number, all } => {
                let rollup = if all { "Nats-Rollup: all" } else { "Nats-Rollup: sub" };
                log.publish_with(leader, &subject(number), rollup, "x");
            }
            Act::Batch { size } => {
                batches += 1;
                for number in 1..=size {
                    let commit = if number == size { "\r\nNats-Batch-Commit: 1" } else { "" };
                    let fields = format!(
                        "Nats-Batch-Id: b{batches}\r\nNats-Batch-Sequence: {number}{commit}"
                    );
                    log.publish_with(leader, &subject(number), &fields, "x");
                }
            }
            Act::Half => {
                // A leader goes in the middle of a batch: what it had proposed stays in the log.
                log.commit_to(&mut [leader]);
                let state = leader.stream.state();
                for number in 1..=2 {
                    let message = jetwake::wire::BatchMessageView {
                        batch_id: b"half",
                        batch_sequence: number,
                        commit: false,
                        message: jetwake::wire::StreamMessageView {
                            subject: b"s.0",
                            sequence: state.last.plus(state.failed + number - 1),
                            timestamp: leader.now.as_timestamp(),
                            ..jetwake::wire::StreamMessageView::default()
                        },
                    };
                    let data = message.to_bytes().expect("short");
                    log.push_raw(jetwake::wire::EntryKind::Normal, &data);
                }
                leader.with_stream(|stream, cx| stream.leadership_lost(cx));
                log.commit_to(&mut [leader]);
                leader.with_stream(|stream, cx| stream.leadership_gained(cx));
            }
            Act::Delete(choice) if last > 0 => {
                log.delete(leader, choice.index(last as usize) as u64 + 1);
            }
            Act::PurgeBelow(choice) if last > 0 => {
                log.purge(leader, "", choice.index(last as usize) as u64 + 1, 0);
            }
            Act::Delete(_) | Act::PurgeBelow(_) => {}
            Act::Purge { subject: number, keep } => {
                log.purge(leader, &subject(number), 0, u64::from(keep));
            }
            Act::PurgeBeyond => {
                log.purge(leader, "", last + 5, 0);
            }
            Act::Wait { tenths } => {
                log.commit_to(&mut [leader]);
                leader.pass(log, Duration::from_millis(u64::from(tenths) * 100));
            }
            Act::Commit => log.commit_to(&mut [leader]),
        }
    }
    log.commit_to(&mut [leader]);
}

fn replica(name: &str, config: &StreamConfig) -> Replica {
    Replica::with(name, Store::default(), config.clone(), Limits::default())
}

/// A replica that has applied the log up to here; it stands in for a server at that time.
fn server_at(log: &Log, config: &StreamConfig, index: u64) -> Replica {
    let mut server = replica("n1", config);
    log.feed_through(&mut server, Index::new(index));
    server
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_split_of_the_log_gives_the_same(
        config in configs(),
        acts in acts(),
        before in any::<Choice>(),
        cut in any::<Choice>(),
        ahead in any::<Choice>(),
        crash in any::<Choice>(),
    ) {
        let mut one = replica("n1", &config);
        one.with_stream(|stream, cx| stream.leadership_gained(cx));
        let mut log = Log::new();
        play(&mut one, &acts, &mut log);
        let records = log.records.len() as u64;
        // Had the log up to `before`, gets a snapshot of `cut` and messages from one at `ahead`.
        let cut = cut.index(records as usize) as u64 + 1;
        let before = before.index(cut as usize) as u64;
        let ahead = cut + ahead.index((records - cut) as usize + 1) as u64;
        let mut maker = server_at(&log, &config, cut);
        if !maker.with_stream(|stream, cx| stream.snapshot(cx)) {
            // In the middle of a batch.
            return Ok(());
        }
        let snapshot = maker.notices.pop();
        let Some(Notice::Snapshot { index, data, .. }) = snapshot else { panic!("{snapshot:?}") };
        let mut two = replica("n2", &config);
        log.feed_through(&mut two, Index::new(before));
        let mut server = server_at(&log, &config, ahead);
        install(&mut two, index, &data);
        carry(&mut server, &mut two);
        prop_assert!(two.stream.is_current(), "{:?}", two.reports);
        let crash = cut + crash.index((records - cut) as usize + 1) as u64;
        log.feed_through(&mut two, Index::new(crash));
        let state = two.stream.state();
        two = two.restart();
        prop_assert_eq!(two.stream.state().messages, state.messages);
        log.feed(&mut two);
        assert_same(&one, &two);
    }
}
