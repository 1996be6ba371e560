//! What a newer server assigned: kept, offline, and answered so.

use bytes::Bytes;
use jetwake::limits::Limits;
use jetwake::wire::{ConsumerAssignment, StreamAssignment};

/// `{"unknown":true}` with an operation's byte before it.
fn entry(op: u8, field: &str) -> Bytes {
    let mut bytes = vec![op];
    bytes.extend_from_slice(format!("{{\"{field}\":{{\"unknown\": true}}}}").as_bytes());
    bytes.into()
}

fn compressed(json: &[u8]) -> Bytes {
    let mut out = bytes::BytesMut::from(&[9_u8][..]);
    jetwake::wire::s2_stream::encode_stream(json, &mut out);
    out.freeze()
}

/// Red when `api_level::read` passes over unknown fields.
#[test]
fn jetstream_cluster_offline_stream_and_consumer_strict_decoding() {
    let limits = Limits::default();
    let as_it_came = &br#"{"unknown": true}"#[..];
    let stream = StreamAssignment::decode(&entry(0, "stream"), &limits).expect("it is kept");
    let why = stream.unsupported.expect("it is not supported");
    assert_eq!(why.config, as_it_came);

    let plain = entry(1, "consumer");
    for bytes in [plain.clone(), compressed(&plain[1..])] {
        let consumer = ConsumerAssignment::decode(&bytes, &limits).expect("it is kept");
        let why = consumer.unsupported.expect("it is not supported");
        assert_eq!(why.config, as_it_came);
        assert_eq!(why.reason, "unsupported - config error: unknown field \"unknown\"");
    }
}
