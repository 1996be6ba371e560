//! How much memory the JSON formats take: a stated multiple of the document's length, whatever
//! the document says.

#[path = "golden/mod.rs"]
mod golden;

use allocation_counter::measure;
use bytes::Bytes;
use golden::vectors;
use jetwake::ids::Sequence;
use jetwake::limits::Limits;
use jetwake::wire::{
    ApiError, ClusterInfo, ConsumerAssignment, ConsumerConfig, ConsumerInfo, ConsumerInfoResponse,
    LegacyStreamState, PublishAckResponse, PublishAckTemplate, StreamAlternate, StreamAssignment,
    StreamConfig, StreamInfo, StreamInfoResponse, SyncRequest, WireError,
};

/// Bytes of memory that a document may take for each byte that it is long.
///
/// The worst is a list of the smallest elements, while the list is moved into a larger one: old
/// and new are there at once, of which the new may be twice as long as needed.
const FACTOR: u64 = 64;
/// Bytes that it may take besides: the value itself, and the text of an error.
const BASE: u64 = 4_096;

fn taken<T>(
    bytes: &Bytes,
    limits: &Limits,
    decode: fn(&Bytes, &Limits) -> Result<T, WireError>,
) -> u64 {
    measure(|| drop(decode(bytes, limits))).bytes_max
}

/// A document of this beginning, many of one element, and this end.
fn many(before: &str, element: &str, after: &str) -> Bytes {
    let elements = vec![element; 20_000].join(",");
    format!("{before}{elements}{after}").into()
}

#[test]
fn long_lists_take_a_stated_multiple() {
    let limits = Limits::default();
    let config = |field: &str, element: &str| many(&format!(r#"{{"{field}":["#), element, "]}");
    for document in [
        config("subjects", r#""""#),
        config("sources", r#"{"name":""}"#),
        config("sources", r#"{}"#),
        config("unknown", "0"),
        config("unknown", "[]"),
    ] {
        let allowed = BASE + FACTOR * document.len() as u64;
        let found = [
            taken(&document, &limits, StreamConfig::decode),
            taken(&document, &limits, ConsumerConfig::decode),
            taken(&document, &limits, StreamInfo::decode),
            taken(&document, &limits, StreamInfoResponse::decode),
            taken(&document, &limits, ConsumerInfo::decode),
            taken(&document, &limits, ConsumerInfoResponse::decode),
            taken(&document, &limits, PublishAckResponse::decode),
            taken(&document, &limits, SyncRequest::decode),
        ];
        assert!(found.iter().all(|found| *found <= allowed), "{found:?} of {allowed}");
    }
    let backoff = config("backoff", "1");
    assert!(taken(&backoff, &limits, ConsumerConfig::decode) <= FACTOR * backoff.len() as u64);
    let replicas = many(r#"{"replicas":["#, r#"{"name":"","current":true,"active":0}"#, "]}");
    assert!(taken(&replicas, &limits, ClusterInfo::decode) <= FACTOR * replicas.len() as u64);
    let alternates = many("[", r#"{"name":"","cluster":""}"#, "]");
    let found = taken(&alternates, &limits, StreamAlternate::decode_list);
    assert!(found <= FACTOR * alternates.len() as u64);
    let deleted = many(
        r#"{"messages":0,"bytes":0,"first_seq":1,"last_seq":1,"clfs":0,"deleted":["#,
        "1",
        "]}",
    );
    let found = taken(&deleted, &limits, LegacyStreamState::decode);
    assert!(found > 8 * 20_000 && found <= FACTOR * deleted.len() as u64, "{found}");
}

#[test]
fn assignments_take_a_stated_multiple() {
    let limits = Limits::default();
    let group = r#""group":{"name":"G"}}"#;
    let before = "\0{\"stream\":{\"name\":\"\",\"new\":1,\"sources\":[";
    let stream = many(before, r#"{"name":""}"#, &format!("]}},{group}"));
    let pending: Vec<String> = (0..20_000).map(|key| format!(r#""{key}":{{}}"#)).collect();
    let consumer = format!(
        "\u{1}{{\"name\":\"C\",\"stream\":\"S\",\"consumer\":{{}},\"state\":{{\"pending\":{{{}}}}},{group}",
        pending.join(",")
    );
    let consumer = Bytes::from(consumer);
    assert!(ConsumerAssignment::decode(&consumer, &limits).is_ok());
    for document in [stream, consumer] {
        let allowed = BASE + FACTOR * document.len() as u64;
        let found = [
            taken(&document, &limits, StreamAssignment::decode),
            taken(&document, &limits, ConsumerAssignment::decode),
        ];
        assert!(found.iter().all(|found| *found <= allowed), "{found:?} of {allowed}");
    }
}

#[test]
fn what_is_too_deep_or_too_long_takes_nothing() {
    let deep = Bytes::from("[".repeat(1_000_000));
    let long = Bytes::from(" ".repeat(9 << 20));
    for document in [deep, long] {
        let limits = Limits::default();
        assert_eq!(taken(&document, &limits, StreamConfig::decode), 0);
        assert_eq!(taken(&document, &limits, PublishAckResponse::decode), 0);
        assert_eq!(taken(&document, &limits, StreamAlternate::decode_list), 0);
    }
}

#[test]
fn acknowledgements_into_a_buffer_with_room_take_nothing() {
    let template = PublishAckTemplate::new("ORDERS", Some("hub"));
    let mut buffer = bytes::BytesMut::with_capacity(1 << 16);
    let found = measure(|| {
        for sequence in 1..500 {
            template.success(Sequence::new(sequence), &mut buffer);
            template.duplicate(Sequence::new(sequence), &mut buffer);
        }
    });
    assert_eq!(found.count_total, 0, "{found:?}");
    // A refusal may take memory; it is rare.
    template.error(&ApiError::STREAM_SEALED, &mut buffer);
}

#[test]
fn vectors_take_a_stated_multiple() {
    let limits = Limits::default();
    for vector in vectors("json") {
        let allowed = BASE + FACTOR * vector.bytes.len() as u64;
        let found = [
            taken(&vector.bytes, &limits, StreamAssignment::decode),
            taken(&vector.bytes, &limits, StreamInfo::decode),
            taken(&vector.bytes, &limits, StreamInfoResponse::decode),
        ];
        assert!(found.iter().all(|found| *found <= allowed), "{} {found:?}", vector.name);
    }
}
