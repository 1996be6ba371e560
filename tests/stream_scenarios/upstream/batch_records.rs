//! Batches in the records of the log, however they were cut, left or mixed there:
//! `jetstream_batching_test.go` of upstream.

use bytes::{Bytes, BytesMut};
use jetwake::ids::{Index, Sequence};
use jetwake::wire::{BatchMessageView, EntryKind, Op, StreamMessageView};

use super::{hand_over, span};
use crate::batch::{atomic, fields};
use crate::rig::{Log, Replica, ack, assert_same, two};
use crate::schedule::message;

/// Messages as another kind of server proposes them, each with the sequence that comes next.
struct Raw {
    next: u64,
    payload: Bytes,
}

impl Raw {
    fn behind(last: u64) -> Self {
        Self { next: last, payload: Bytes::from_static(b"hello") }
    }

    fn view<'a>(&mut self, header: &'a str, payload: &'a Bytes) -> StreamMessageView<'a> {
        self.next += 1;
        StreamMessageView {
            subject: b"s.a",
            header: header.as_bytes(),
            payload,
            sequence: Sequence::new(self.next - 1),
            timestamp: 5,
            ..StreamMessageView::default()
        }
    }

    fn plain(&mut self, log: &mut Log) {
        let payload = Bytes::new();
        let message = self.view("", &payload).to_bytes().expect("short");
        log.push_raw(EntryKind::Normal, &message);
    }

    fn part(&mut self, log: &mut Log, id: &str, number: u64, commit: bool) {
        let commits = if commit { "Nats-Batch-Commit: 1" } else { "" };
        let header = format!("NATS/1.0\r\n{}\r\n\r\n", fields(id, number, commits));
        let payload = self.payload.clone();
        let message = BatchMessageView {
            batch_id: id.as_bytes(),
            batch_sequence: number,
            commit,
            message: self.view(&header, &payload),
        };
        let mut data = BytesMut::new();
        message.encode_allow_compress(&mut data).expect("short");
        log.push_raw(EntryKind::Normal, &data);
    }
}

/// Two replicas that have one message, of which the first leads.
fn begun() -> (Replica, Replica, Log) {
    let (mut one, mut two, mut log) = two(&atomic());
    let first = log.publish(&mut one, "s.a", "");
    log.commit_to(&mut [&mut one, &mut two]);
    assert_eq!(one.answer(first), ack(1));
    (one, two, log)
}

/// The record is whole, and the next message gets this sequence on both.
fn next_is(log: &mut Log, one: &mut Replica, two: &mut Replica, sequence: u64) {
    log.commit_to(&mut [one, two]);
    let next = log.publish(one, "s.a", "");
    log.commit_to(&mut [one, two]);
    assert_eq!(one.answer(next), ack(sequence));
    assert_same(one, two);
}

/// Red when a message of another kind in the same record disturbs a batch.
#[test]
fn jetstream_atomic_batch_publish_propose_one() {
    for combined in [false, true] {
        let (mut one, mut two, mut log) = begun();
        let mut raw = Raw::behind(1);
        if combined {
            raw.plain(&mut log);
        }
        raw.part(&mut log, "uuid", 1, false);
        raw.part(&mut log, "uuid", 2, true);
        if combined {
            raw.plain(&mut log);
        }
        next_is(&mut log, &mut one, &mut two, if combined { 6 } else { 4 });
    }
}

/// Red when a batch that goes on in another record counts from one again.
#[test]
fn jetstream_atomic_batch_publish_propose_multiple() {
    for (partial, combined) in [(true, false), (true, true), (false, false), (false, true)] {
        let (mut one, mut two, mut log) = begun();
        let mut raw = Raw::behind(1);
        if combined {
            raw.plain(&mut log);
        }
        raw.part(&mut log, "uuid", 1, false);
        log.commit_to(&mut [&mut one, &mut two]);
        raw.part(&mut log, "uuid", 2, false);
        log.commit_to(&mut [&mut one, &mut two]);
        if !partial {
            raw.part(&mut log, "uuid", 3, true);
        }
        if combined {
            raw.plain(&mut log);
        }
        // The leader counts what others proposed when it begins to lead.
        log.commit_to(&mut [&mut one, &mut two]);
        one.with_stream(|stream, cx| stream.leadership_gained(cx));
        let whole = if partial { 0 } else { 3 };
        next_is(&mut log, &mut one, &mut two, 2 + whole + if combined { 2 } else { 0 });
    }
}

/// Red when `Contents::stage` takes up a batch that lacks a message.
#[test]
fn jetstream_atomic_batch_publish_propose_one_partial_batch() {
    for left_out in 1..=4 {
        let (mut one, mut two, mut log) = begun();
        let mut raw = Raw::behind(1);
        for number in (1..=3).filter(|number| *number != left_out) {
            raw.part(&mut log, "uuid", number, number == 3);
        }
        log.commit_to(&mut [&mut one, &mut two]);
        one.with_stream(|stream, cx| stream.leadership_gained(cx));
        next_is(&mut log, &mut one, &mut two, if left_out == 4 { 5 } else { 2 });
    }
}

/// Red when a batch that is begun again, or another, goes on with what is left of the first.
#[test]
fn jetstream_atomic_batch_publish_propose_multiple_partial_batches() {
    for (first, second) in [("ID_1", "ID_2"), ("uuid", "uuid")] {
        for size in 1..=2 {
            let (mut one, mut two, mut log) = begun();
            let mut raw = Raw::behind(1);
            raw.part(&mut log, first, 1, false);
            for number in 1..=size {
                raw.part(&mut log, second, number, number == size);
            }
            next_is(&mut log, &mut one, &mut two, 2 + size);
            for number in 1..=size {
                let header = message(&two, 1 + number).1;
                assert!(header.contains(&fields(second, number, "")), "{header}");
            }
            assert_eq!(message(&two, 2 + size).1, "");
            assert_eq!(two.stream.state().failed, 1);
        }
    }
}

/// Upstream looks at where the batch began, and here at the store's mark, which stays before it.
/// Red when the first of two batches in one record is stored with the second.
#[test]
fn jetstream_atomic_batch_publish_partial_batch_in_shared_append_entry() {
    for commit in [false, true] {
        let (mut one, mut two, mut log) = two(&atomic());
        let mut raw = Raw::behind(0);
        raw.part(&mut log, "b1", 1, false);
        raw.part(&mut log, "b2", 1, commit);
        log.commit_to(&mut [&mut one, &mut two]);
        if commit {
            assert_eq!((span(&two), two.stream.state().failed), ((1, 1, 1), 1));
            assert!(message(&two, 1).1.contains("Nats-Batch-Id: b2"));
            let mark = two.store.mark.expect("written");
            assert_eq!((mark.applied, mark.entries), (Index::new(1), 0));
        } else {
            assert_eq!((span(&two), two.stream.state().failed), ((0, 0, 0), 1));
            assert!(!two.with_stream(|stream, cx| stream.snapshot(cx)), "inside a batch");
            let applied = two.store.mark.map_or(Index::ZERO, |mark| mark.applied);
            assert_eq!(applied, Index::ZERO, "a start reads the record again");
        }
        let again = two.restart();
        let (mut again, failed) = (again, one.stream.state().failed);
        log.feed(&mut again);
        assert_eq!((again.stream.state().failed, span(&again)), (failed, span(&one)));
    }
}

/// What a new leader proposes first.
fn peer_state(log: &mut Log, replicas: &mut [&mut Replica]) {
    log.push_raw(EntryKind::PeerState, b"who is in the group");
    log.commit_to(replicas);
}

/// Red when a record that has nothing for the stream leaves half a batch waiting.
#[test]
fn jetstream_atomic_batch_publish_reject_partial_batch_on_leader_change() {
    let (mut one, mut two, mut log) = two(&atomic());
    let mut raw = Raw::behind(0);
    (1..=10).for_each(|number| raw.part(&mut log, "b", number, false));
    log.commit_to(&mut [&mut one, &mut two]);
    for replica in [&mut one, &mut two] {
        assert_eq!(replica.stream.state().failed, 0);
        assert!(!replica.with_stream(|stream, cx| stream.snapshot(cx)));
    }
    hand_over(&mut one, &mut two);
    peer_state(&mut log, &mut [&mut one, &mut two]);
    for replica in [&mut one, &mut two] {
        assert_eq!(replica.stream.state().failed, 10);
        assert!(replica.with_stream(|stream, cx| stream.snapshot(cx)), "the log can be compacted");
    }
    next_is(&mut log, &mut two, &mut one, 1);
}

/// Red when the store's mark waits for a batch after the batch before it was stored.
#[test]
fn jetstream_atomic_batch_publish_continuous_batches_still_move_applied_up() {
    for large in [false, true] {
        let (mut one, mut two, mut log) = begun();
        let payload = if large { "0".repeat(2 * 8192) } else { "0".into() };
        let mut raw = Raw { payload: Bytes::from(payload), ..Raw::behind(1) };
        raw.part(&mut log, "ID_1", 1, false);
        log.commit_to(&mut [&mut one, &mut two]);
        raw.part(&mut log, "ID_1", 2, false);
        raw.part(&mut log, "ID_1", 3, true);
        raw.part(&mut log, "ID_2", 1, false);
        log.commit_to(&mut [&mut one, &mut two]);
        let compressed = Op::of(&two.store.messages[&2]).expect("stored");
        assert_eq!(compressed == Op::CompressedMessage, large);
        for replica in [&one, &two] {
            let mark = replica.store.mark.expect("written");
            assert_eq!((mark.applied, mark.entries), (Index::new(2), 2), "up to the second batch");
        }
        assert_same(&one, &two);
        // The leader is gone, and with it what is left of the batch.
        hand_over(&mut one, &mut two);
        let mut gone = one.restart();
        peer_state(&mut log, &mut [&mut two]);
        let next = log.publish(&mut two, "s.a", "");
        log.commit_to(&mut [&mut two]);
        assert_eq!(two.answer(next), ack(5));
        log.feed(&mut gone);
        assert_same(&gone, &two);
        next_is(&mut log, &mut two, &mut gone, 6);
    }
}
