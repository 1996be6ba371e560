//! The JSON formats against vectors that a real server wrote, and against all that they are not.
//!
//! A vector decodes to its fields, and those fields encode to its bytes.

use bytes::Bytes;
use jetwake::ids::{Index, PeerId, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{
    ApiError, ClientInfo, DeleteRange, Fault, MessageDelete, PurgeRequest, StreamPurge,
    SyncRequest, WireError,
};
use serde_json::Value;

/// A case of a file of vectors.
struct Vector {
    kind: String,
    name: String,
    fields: Value,
    bytes: Bytes,
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16).expect("a hex digit")).expect("below 16"))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = format!("{}/tests/golden/{file}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    let vectors: Vec<Vector> = text.lines().map(vector).collect();
    assert!(!vectors.is_empty(), "{path} has no cases");
    vectors
}

fn vector(line: &str) -> Vector {
    let case: Value = serde_json::from_str(line).expect(line);
    let text = |field: &str| case[field].as_str().expect(field).to_owned();
    Vector {
        kind: text("kind"),
        name: text("name"),
        fields: case["fields"].clone(),
        bytes: hex(&text("hex")),
    }
}

/// A field that vectors write as text, as JSON would lose its digits.
fn number(fields: &Value, field: &str) -> u64 {
    fields[field].as_str().expect(field).parse().expect(field)
}

/// That no prefix of a message panics, and none is taken for it.
fn prefixes_are_refused<T: PartialEq + std::fmt::Debug>(
    bytes: &Bytes,
    decode: fn(&Bytes, &Limits) -> Result<T, WireError>,
) {
    let whole = decode(bytes, &Limits::default());
    // A newline behind the document may be missing.
    let last = bytes.len() - usize::from(bytes.ends_with(b"\n"));
    for length in 0..last {
        let prefix = decode(&bytes.slice(..length), &Limits::default());
        assert!(prefix.is_err(), "{length} bytes of {bytes:?}");
        assert_ne!(prefix, whole);
    }
}

#[test]
fn sync_requests() {
    let peer = |id: &[u8; 8]| PeerId::from_wire(*id);
    let expected = [
        (None, 0, 0, false, 0),
        (peer(b"S1abcdef"), 1, 100, true, 99),
        (peer(b"cnrtt3eg"), u64::MAX - 1, u64::MAX, true, u64::MAX),
    ];
    for (vector, expected) in vectors("sync_request").iter().zip(expected) {
        let (peer, first, last, delete_ranges, min_applied) = expected;
        let request = SyncRequest {
            peer,
            first: Sequence::new(first),
            last: Sequence::new(last),
            delete_ranges,
            min_applied: Index::new(min_applied),
        };
        assert_eq!(request.encode(), vector.bytes);
        assert_eq!(SyncRequest::decode(&vector.bytes, &Limits::default()), Ok(request));
        prefixes_are_refused(&vector.bytes, SyncRequest::decode);
    }
}

#[test]
fn delete_ranges() {
    for vector in vectors("delete_range") {
        let first = Sequence::new(number(&vector.fields, "first"));
        let count = number(&vector.fields, "num");
        let range = DeleteRange { first, count };
        assert_eq!(range.encode(), vector.bytes, "{}", vector.name);
        let decoded = DeleteRange::decode(&vector.bytes, &Limits::default());
        if count == 0 {
            // Upstream writes and reads such a range; no catchup has use for it.
            assert!(matches!(decoded.map_err(|error| error.fault), Err(Fault::Value { .. })));
            continue;
        }
        assert_eq!(decoded, Ok(range), "{}", vector.name);
        prefixes_are_refused(&vector.bytes, DeleteRange::decode);
    }
}

#[test]
fn deletes_and_purges() {
    for vector in vectors("msg_delete_and_purge") {
        let text = |field: &str| vector.fields[field].as_str().expect(field).to_owned();
        match vector.kind.as_str() {
            "msg_delete" => {
                let client = ClientInfo { account: "A".to_owned(), ..ClientInfo::default() };
                let delete = MessageDelete {
                    client: Some(client),
                    stream: text("stream"),
                    sequence: Sequence::new(number(&vector.fields, "seq")),
                    no_erase: true,
                    subject: text("subject"),
                    reply: text("reply"),
                };
                assert_eq!(delete.encode(), vector.bytes);
                assert_eq!(MessageDelete::decode(&vector.bytes, &Limits::default()), Ok(delete));
                prefixes_are_refused(&vector.bytes, MessageDelete::decode);
            }
            "stream_purge" => {
                let purge = StreamPurge {
                    client: None,
                    stream: text("stream"),
                    last: Sequence::new(number(&vector.fields, "last_seq")),
                    subject: text("subject"),
                    reply: text("reply"),
                    request: Some(PurgeRequest {
                        before: Sequence::new(number(&vector.fields, "req_seq")),
                        filter: text("req_filter"),
                        keep: 0,
                    }),
                };
                assert_eq!(purge.encode(), vector.bytes);
                assert_eq!(StreamPurge::decode(&vector.bytes, &Limits::default()), Ok(purge));
                prefixes_are_refused(&vector.bytes, StreamPurge::decode);
            }
            kind => panic!("{kind} is not of this file"),
        }
    }
}

#[test]
fn api_errors_are_those_of_upstream() {
    let path = format!("{}/tests/golden/api_errors.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    let mut expected = text.lines();
    for error in ApiError::ALL {
        let line: Value = serde_json::from_str(expected.next().expect("as many")).expect("JSON");
        let known = [&line["code"], &line["err_code"]];
        assert_eq!(known, [&Value::from(error.code), &Value::from(error.err_code)]);
        assert_eq!(line["description"], *error.description);
    }
    assert_eq!(expected.next(), None);
    // A few by name, as the list above compares by place.
    assert_eq!(ApiError::INSUFFICIENT_RESOURCES.err_code, 10023);
    assert_eq!(ApiError::STREAM_SEALED.err_code, 10109);
    assert_eq!(ApiError::STREAM_WRONG_LAST_SEQUENCE.err_code, 10071);
}
