//! What clients publish, with any headers: it is decided without a panic, each is answered once, and
//! the stream is what its log says: a replica that has the log alone ends with the same messages.

use bytes::Bytes;
use jetwake::command::LogChange;
use jetwake::config::GroupKind;
use jetwake::event::Request;
use jetwake::ids::{Index, Sequence};
use jetwake::node::Node;
use jetwake::time::{Duration, Time};
use jetwake::wire::{DiscardPolicy, StreamConfig};
use jetwake_sim::lone::{Lone, LoneDisk, config};

use super::draws::Draws;

/// How many steps of an input are taken; a longer one costs time and shows nothing new.
const STEPS: usize = 100;

/// The fields that a leader looks at, and one that it does not.
const FIELDS: [&str; 27] = [
    "Nats-Msg-Id",
    "Nats-Expected-Stream",
    "Nats-Expected-Last-Sequence",
    "Nats-Expected-Last-Subject-Sequence",
    "Nats-Expected-Last-Subject-Sequence-Subject",
    "Nats-Expected-Last-Msg-Id",
    "Nats-Rollup",
    "Nats-TTL",
    "Nats-Incr",
    "Nats-Counter-Sources",
    "Nats-Stream-Source",
    "Nats-Schedule",
    "Nats-Schedule-TTL",
    "Nats-Schedule-Target",
    "Nats-Schedule-Source",
    "Nats-Scheduler",
    "Nats-Schedule-Next",
    "Nats-Batch-Id",
    "Nats-Batch-Sequence",
    "Nats-Batch-Commit",
    "Nats-Trace-Dest",
    "Nats-Required-Api-Level",
    "Nats-Msg-Id",
    "Nats-Batch-Id",
    "Nats-Batch-Sequence",
    "Nats-Incr",
    "Other",
];

const VALUES: [&str; 24] = [
    "0",
    "1",
    "2",
    "3",
    "eob",
    "sub",
    "all",
    "S",
    "s.1",
    "s.2",
    "+1",
    "-7",
    "1s",
    "never",
    "purge",
    "@every 1s",
    "@at 2026-01-01T00:00:00Z",
    "* * * * * *",
    "@hourly",
    "a",
    "b",
    "18446744073709551615",
    "-170141183460469231731687303715884105728",
    "{\"O\":{\"s.1\":\"4\"}}",
];

const SUBJECTS: [&str; 6] = ["s.1", "s.2", "s.1.x", "", "s", "$JS.API.INFO"];

/// A stream whose settings, requests and times the input decides.
pub fn publish(input: &[u8]) {
    let mut draws = Draws::of(input);
    let Some(stream) = settings(&mut draws) else { return };
    let mut settings = config(&["n1"], GroupKind::Stream(stream));
    settings.limits.batches = 2;
    settings.limits.batch_messages = 4;
    settings.limits.dedupe_ids = 8;
    if Node::new(settings.clone()).is_err() {
        return;
    }
    let mut node = Lone::start(settings.clone(), LoneDisk::default());
    node.wait(Duration::from_millis(1));
    let began = node.now();
    for _ in 0..STEPS {
        let Some(step) = draws.byte() else { break };
        take(&mut node, step, &mut draws);
    }
    node.wait(Duration::from_secs(1));
    assert_as_the_log_says(&node, began);
}

/// A replica that has nothing but the log ends with the same messages.
fn assert_as_the_log_says(node: &Lone, began: Time) {
    let log = node.disk.durable_log();
    let Some((first, last)) = log.range() else { return };
    if first.get() > 1 {
        // What is before a snapshot is in the store alone.
        return;
    }
    let mut disk = LoneDisk::default();
    for index in first.get()..=last.get() {
        let record = log.record(Index::new(index)).expect("it is in range");
        disk.add_record(record.clone());
    }
    disk.change(&LogChange::TermAndVote(log.vote().expect("it has led")));
    let mut other = Lone::start(node.config().clone(), disk);
    other.wait(node.now().since(began) + Duration::from_millis(1));
    let messages = |node: &Lone| node.disk.store().messages().clone();
    assert_eq!(messages(node), messages(&other));
}

fn settings(draws: &mut Draws<'_>) -> Option<StreamConfig> {
    let (flags, bounds) = (draws.byte()?, draws.byte()?);
    let flag = |bit: u8| flags >> bit & 1 > 0;
    let bound = |bit: u8, bound: i64| if bounds >> bit & 1 > 0 { bound } else { -1 };
    Some(StreamConfig {
        allow_rollup_hdrs: flag(0),
        allow_msg_ttl: flag(1),
        allow_msg_counter: flag(2),
        allow_atomic: flag(3),
        allow_msg_schedules: flag(4),
        discard: if flag(5) { DiscardPolicy::New } else { DiscardPolicy::Old },
        discard_new_per_subject: flag(6),
        no_ack: flag(7),
        max_msgs: bound(0, 6),
        max_bytes: bound(1, 900),
        max_msgs_per_subject: bound(2, 3),
        max_msg_size: if bounds >> 3 & 1 > 0 { 60 } else { -1 },
        max_age: bound(4, 2_000_000_000).max(0),
        subject_delete_marker_ttl: bound(5, 1_000_000_000).max(0),
        deny_purge: bounds >> 6 & 1 > 0,
        sealed: bounds == 0xff,
        ..StreamConfig::new("S", ["s.>".to_string()])
    })
}

fn take(node: &mut Lone, step: u8, draws: &mut Draws<'_>) {
    let any = draws.byte().unwrap_or(0);
    match step % 16 {
        0 => node.wait(Duration::from_millis(u64::from(any) * 16)),
        1 => drop(node.request(Request::Delete { sequence: Sequence::new(u64::from(any % 20)) })),
        2 => {
            let filter = Bytes::copy_from_slice(draws.rest(usize::from(any) % 5));
            let (before, keep) = (any / 16, any % 3);
            let before = Sequence::new(u64::from(before));
            node.request(Request::Purge { filter, before, keep: u64::from(keep) });
        }
        3 => {
            let header = Bytes::copy_from_slice(draws.rest(usize::from(any)));
            let payload = Bytes::new();
            node.request(Request::Publish { subject: subject(any), header, payload });
        }
        4 => node.restart(),
        _ => {
            let header = header(step / 16, draws);
            let payload = Bytes::copy_from_slice(draws.rest(usize::from(any) / 4));
            node.request(Request::Publish { subject: subject(any), header, payload });
        }
    }
}

fn subject(pick: u8) -> Bytes {
    let rare = usize::from(pick) % 64;
    Bytes::from_static(SUBJECTS.get(rare).unwrap_or(&SUBJECTS[rare % 2]).as_bytes())
}

fn header(fields: u8, draws: &mut Draws<'_>) -> Bytes {
    if fields == 0 {
        return Bytes::new();
    }
    let mut header = b"NATS/1.0\r\n".to_vec();
    for _ in 0..fields % 5 {
        let (field, value) = (draws.byte().unwrap_or(0), draws.byte().unwrap_or(0));
        header.extend_from_slice(FIELDS[usize::from(field) % FIELDS.len()].as_bytes());
        header.extend_from_slice(b": ");
        match VALUES.get(usize::from(value) % (VALUES.len() + 1)) {
            Some(value) => header.extend_from_slice(value.as_bytes()),
            None => {
                let length = usize::from(draws.byte().unwrap_or(0)) % 24;
                header.extend_from_slice(draws.rest(length));
            }
        }
        header.extend_from_slice(b"\r\n");
    }
    header.extend_from_slice(b"\r\n");
    header.into()
}
