//! Every JSON format with every field set, as the real server's types write it.
//!
//! The vectors are made by `tests/interop/vectors`: each field has a value of its own, so that a
//! document that is written as it came was read whole.

#[path = "golden/mod.rs"]
mod golden;

use bytes::{Bytes, BytesMut};
use golden::vectors;
use jetwake::limits::Limits;
use jetwake::wire::s2_stream::decode_stream;
use jetwake::wire::{
    ApiResponse, ClusterInfo, ConsumerAssignment, ConsumerChange, ConsumerConfig, ConsumerInfo,
    ConsumerInfoResponse, MessageDelete, Op, PublishAckResponse, StreamAssignment, StreamChange,
    StreamConfig, StreamInfo, StreamInfoResponse, StreamPurge, WireError,
};

/// Reads a message as a type, and writes it three ways, which must agree.
macro_rules! again {
    ($type:ty, $bytes:expr, $limits:expr $(, $change:expr)?) => {
        <$type>::decode($bytes, $limits).map(|value| {
            let mut buffer = BytesMut::from(&b"before"[..]);
            value.encode($($change,)? &mut buffer);
            assert_eq!(buffer.split_to(6), b"before"[..]);
            assert_eq!(buffer.len(), value.encoded_len($($change)?), "the size told beforehand");
            assert_eq!(buffer, value.to_bytes($($change)?));
            buffer.freeze()
        })
    };
}

type Rewritten = Result<Bytes, WireError>;

/// A message read and written again.
fn rewrite(kind: &str, bytes: &Bytes, limits: &Limits) -> Rewritten {
    match kind {
        "stream_config" => again!(StreamConfig, bytes, limits),
        "consumer_config" => again!(ConsumerConfig, bytes, limits),
        "cluster_info" => again!(ClusterInfo, bytes, limits),
        "stream_info" => again!(StreamInfo, bytes, limits),
        "consumer_info" => again!(ConsumerInfo, bytes, limits),
        "stream_info_response" => {
            again!(StreamInfoResponse, bytes, limits)
        }
        "consumer_info_response" => {
            again!(ConsumerInfoResponse, bytes, limits)
        }
        "pub_ack" => again!(PublishAckResponse, bytes, limits),
        "api_response" => again!(ApiResponse, bytes, limits),
        "stream_purge" => again!(StreamPurge, bytes, limits),
        "msg_delete" => again!(MessageDelete, bytes, limits),
        "assign_stream" => rewrite_stream(bytes, limits),
        "assign_consumer" | "unsupported_consumer" => rewrite_consumer(bytes, limits),
        kind => panic!("{kind} is not known"),
    }
}

fn rewrite_stream(bytes: &Bytes, limits: &Limits) -> Rewritten {
    let change = match Op::of(bytes)? {
        Op::AssignStream => StreamChange::Assign,
        Op::UpdateStream => StreamChange::Update,
        _ => StreamChange::Remove,
    };
    again!(StreamAssignment, bytes, limits, change)
}

fn rewrite_consumer(bytes: &Bytes, limits: &Limits) -> Rewritten {
    let change = match Op::of(bytes)? {
        Op::AssignConsumer => ConsumerChange::Assign,
        Op::RemoveConsumer => ConsumerChange::Remove,
        Op::ConsumerResized => ConsumerChange::Resized,
        _ => {
            let assignment = ConsumerAssignment::decode(bytes, limits)?;
            return Ok(assignment.encode_assign_compressed());
        }
    };
    again!(ConsumerAssignment, bytes, limits, change)
}

/// What a message says, as compressed bytes differ from one compressor to the next.
fn contents(bytes: &Bytes) -> Bytes {
    match Op::of(bytes) {
        Ok(Op::AssignCompressedConsumer) => {
            decode_stream(&bytes.slice(1..), 1 << 20).expect("a stream").into()
        }
        _ => bytes.clone(),
    }
}

#[test]
fn every_field_goes_both_ways() {
    let mut cases = 0;
    for vector in vectors("json").iter().filter(|vector| vector.kind != "unsupported_consumer") {
        let rewritten = rewrite(&vector.kind, &vector.bytes, &Limits::default())
            .unwrap_or_else(|error| panic!("{} {}: {error}", vector.kind, vector.name));
        let (ours, theirs) = (contents(&rewritten), contents(&vector.bytes));
        // A duplicate window beside a mirror is taken for a mistake of old servers.
        let (ours, theirs) = match vector.kind.as_str() {
            "assign_stream" => (without_window(&ours), without_window(&theirs)),
            _ => (ours, theirs),
        };
        assert_eq!(ours, theirs, "{} {}", vector.kind, vector.name);
        cases += 1;
    }
    assert!(cases > 40, "{cases} cases");
}

fn without_window(bytes: &Bytes) -> Bytes {
    let text = std::str::from_utf8(bytes).expect("JSON");
    let Some((before, after)) = text.split_once("\"duplicate_window\":") else {
        return bytes.clone();
    };
    let rest = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
    format!("{before}{}", rest.trim_start_matches(',')).into()
}

#[test]
fn the_server_finds_the_same_unsupported() {
    for vector in vectors("json").iter().filter(|vector| vector.kind == "unsupported_consumer") {
        let assignment = ConsumerAssignment::decode(&vector.bytes, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        let found = assignment.unsupported.map(|unsupported| unsupported.reason);
        if vector.error.is_some() {
            // The server drops these.
            assert!(found.is_some(), "{} was taken", vector.name);
        } else {
            assert_eq!(found, vector.reason, "{}", vector.name);
        }
    }
}

#[test]
fn no_prefix_panics_and_none_is_taken() {
    for vector in vectors("json") {
        let end = vector.bytes.len() - usize::from(vector.bytes.ends_with(b"\n"));
        for length in (0..end).step_by(1 + end / 200) {
            let prefix = vector.bytes.slice(..length);
            let rewritten = rewrite(&vector.kind, &prefix, &Limits::default());
            assert!(rewritten.is_err(), "{} {}: {length} bytes", vector.kind, vector.name);
        }
    }
}

#[test]
fn no_flipped_bit_panics() {
    for vector in vectors("json") {
        for place in (0..vector.bytes.len()).step_by(1 + vector.bytes.len() / 300) {
            let mut damaged = vector.bytes.to_vec();
            damaged[place] ^= 1 << (place % 8);
            // Whatever is read can be written, and read again to the same.
            if let Ok(once) = rewrite(&vector.kind, &damaged.into(), &Limits::default()) {
                let twice = rewrite(&vector.kind, &once, &Limits::default());
                assert_eq!(twice.as_ref(), Ok(&once), "{} {}", vector.kind, vector.name);
            }
        }
    }
}
