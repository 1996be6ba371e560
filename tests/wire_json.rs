//! The JSON formats against vectors that a real server wrote, and against all that they are not.
//!
//! A vector decodes to its fields, and those fields encode to its bytes.

#[path = "golden/mod.rs"]
mod golden;

use bytes::Bytes;
use golden::{number, text, trace, vectors};
use jetwake::ids::{ByteCount, Index, PeerId, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{
    ApiError, ClientInfo, ClusterInfo, DeleteRange, GoTime, LegacyStreamState, MessageDelete,
    PeerInfo, PurgeRequest, StreamAlternate, StreamPurge, SyncRequest, WireError,
};
use serde_json::Value;

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
            ..SyncRequest::default()
        };
        assert_eq!(request.to_bytes(), vector.bytes);
        assert_eq!(SyncRequest::decode(&vector.bytes, &Limits::default()), Ok(request));
        prefixes_are_refused(&vector.bytes, SyncRequest::decode);
    }
}

#[test]
fn delete_ranges() {
    for vector in vectors("delete_range") {
        let first = Sequence::new(number(&vector.fields["first"]));
        let count = number(&vector.fields["num"]);
        let range = DeleteRange { first, count };
        assert_eq!(range.to_bytes(), vector.bytes, "{}", vector.name);
        let decoded = DeleteRange::decode(&vector.bytes, &Limits::default());
        assert_eq!(decoded, Ok(range), "{}", vector.name);
        prefixes_are_refused(&vector.bytes, DeleteRange::decode);
    }
}

#[test]
fn deletes_and_purges() {
    for vector in vectors("msg_delete_and_purge") {
        let text = |field: &str| text(&vector.fields[field]).to_owned();
        match vector.kind.as_str() {
            "msg_delete" => {
                let client = ClientInfo { account: "A".to_owned(), ..ClientInfo::default() };
                let delete = MessageDelete {
                    client: Some(client),
                    stream: text("stream"),
                    sequence: Sequence::new(number(&vector.fields["seq"])),
                    no_erase: true,
                    subject: text("subject"),
                    reply: text("reply"),
                };
                assert_eq!(delete.to_bytes(), vector.bytes);
                assert_eq!(MessageDelete::decode(&vector.bytes, &Limits::default()), Ok(delete));
                prefixes_are_refused(&vector.bytes, MessageDelete::decode);
            }
            "stream_purge" => {
                let purge = StreamPurge {
                    client: None,
                    stream: text("stream"),
                    last: Sequence::new(number(&vector.fields["last_seq"])),
                    subject: text("subject"),
                    reply: text("reply"),
                    request: Some(PurgeRequest {
                        before: Sequence::new(number(&vector.fields["req_seq"])),
                        filter: text("req_filter"),
                        keep: 0,
                    }),
                };
                assert_eq!(purge.to_bytes(), vector.bytes);
                assert_eq!(StreamPurge::decode(&vector.bytes, &Limits::default()), Ok(purge));
                prefixes_are_refused(&vector.bytes, StreamPurge::decode);
            }
            kind => panic!("{kind} is not of this file"),
        }
    }
}

#[test]
fn cluster_infos() {
    for vector in vectors("cluster_info") {
        let limits = Limits::default();
        match vector.kind.as_str() {
            "cluster_info" => {
                let info = cluster_info();
                assert_eq!(info.to_bytes(), vector.bytes);
                assert_eq!(ClusterInfo::decode(&vector.bytes, &limits), Ok(info));
                prefixes_are_refused(&vector.bytes, ClusterInfo::decode);
            }
            "stream_alternates" => {
                let alternate = |name: &str, domain: &str, cluster: &str| StreamAlternate {
                    name: name.to_owned(),
                    domain: domain.to_owned(),
                    cluster: cluster.to_owned(),
                };
                let list = vec![alternate("ORDERS", "", "C1"), alternate("M1", "hub", "C2")];
                assert_eq!(StreamAlternate::list_to_bytes(&list), vector.bytes);
                assert_eq!(StreamAlternate::decode_list(&vector.bytes, &limits), Ok(list));
                prefixes_are_refused(&vector.bytes, StreamAlternate::decode_list);
            }
            "stream_snapshot_legacy" => {
                let state = LegacyStreamState {
                    messages: 10,
                    bytes: ByteCount::new(100),
                    first: Sequence::new(1),
                    last: Sequence::new(12),
                    failed: 3,
                    deleted: vec![Sequence::new(4), Sequence::new(5)],
                };
                assert_eq!(state.to_bytes(), vector.bytes);
                assert_eq!(LegacyStreamState::decode(&vector.bytes, &limits), Ok(state));
                prefixes_are_refused(&vector.bytes, LegacyStreamState::decode);
            }
            kind => panic!("{kind} is not of this file"),
        }
    }
}

/// What the vector says.
fn cluster_info() -> ClusterInfo {
    let second = PeerInfo {
        name: "n2".to_owned(),
        current: true,
        active: 123_456_789,
        peer: PeerId::from_wire(*b"S2abcdef"),
        ..PeerInfo::default()
    };
    let third = PeerInfo {
        name: "n3".to_owned(),
        offline: true,
        lag: 44,
        peer: PeerId::from_wire(*b"S3abcdef"),
        ..PeerInfo::default()
    };
    ClusterInfo {
        name: "C1".to_owned(),
        raft_group: "S-R3F-abcdefgh".to_owned(),
        leader: "n1".to_owned(),
        leader_since: GoTime::parse("2023-11-14T22:13:20.123456789Z").ok(),
        system_account: true,
        traffic_account: "$SYS".to_owned(),
        replicas: vec![second, third],
    }
}

#[test]
fn api_errors_are_those_of_upstream() {
    let mut expected = include_str!("golden/api_errors.jsonl").lines();
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

#[test]
fn live_traffic_is_written_as_it_came() {
    let limits = Limits::default();
    let mut counts = [0; 2];
    for message in trace() {
        if message.subject.starts_with("$JSC.SYNC.") {
            let request = SyncRequest::decode(&message.payload, &limits).expect("a request");
            assert_eq!(request.to_bytes(), message.payload);
            counts[0] += 1;
        } else if message.subject.starts_with("$JSC.R.") && message.payload.starts_with(&[15]) {
            let range = DeleteRange::decode(&message.payload, &limits).expect("a range");
            assert_eq!(range.to_bytes(), message.payload);
            counts[1] += 1;
        }
    }
    assert_eq!(counts, [2, 5]);
}
