//! Messages of streams, against vectors of the real server.

#[path = "golden/mod.rs"]
mod golden;

use bytes::{Bytes, BytesMut};
use golden::{binary, number, signed, text, vectors};
use jetwake::ids::{ByteCount, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{Fault, StreamMessage, StreamMessageView};
use serde_json::Value;

fn expected(fields: &Value) -> StreamMessage {
    let [subject, header, payload] =
        ["subject_hex", "hdr", "msg"].map(|field| binary(&fields[field]));
    let view = StreamMessageView {
        subject: &subject,
        reply: text(&fields["reply"]).as_bytes(),
        header: &header,
        payload: &payload,
        sequence: Sequence::new(number(&fields["lseq"])),
        timestamp: signed(&fields["ts"]),
        sourced: fields["sourced"] == true,
        unknown_flags: 0,
    };
    view.to_message().expect("it fits")
}

#[test]
fn messages_are_upstreams() {
    let mut compressed = 0;
    for vector in vectors("stream_msg") {
        let op = number(&vector.fields["op"]);
        if op > 14 {
            continue;
        }
        let decoded = StreamMessage::decode(&vector.bytes, &Limits::default()).expect(&vector.name);
        assert_eq!(decoded, expected(&vector.fields), "{}", vector.name);
        let mut encoded = BytesMut::new();
        decoded.encode_allow_compress(&mut encoded);
        if op == 4 {
            assert_eq!(decoded.encoded_len(), vector.bytes.len());
            assert_eq!(decoded.to_bytes(), vector.bytes, "{}", vector.name);
            assert_eq!(encoded, vector.bytes, "{}", vector.name);
            let view = StreamMessageView::decode_body(&vector.bytes[1..]).expect(&vector.name);
            assert_eq!(decoded, view);
            assert_eq!((view.subject, view.reply), (decoded.subject(), decoded.reply()));
            assert_eq!((view.header, view.payload), (decoded.header(), decoded.payload()));
            assert_eq!((view.sequence, view.timestamp), (decoded.sequence(), decoded.timestamp()));
            assert_eq!(decoded.share(decoded.payload()), view.payload);
            assert_eq!(StreamMessage::decode_body(&vector.bytes.slice(1..)), Ok(decoded));
        } else {
            compressed += 1;
            assert_eq!(encoded[0], 14, "{}", vector.name);
            assert!(encoded.len() < decoded.encoded_len());
            let again = StreamMessage::decode(&encoded.freeze(), &Limits::default());
            assert_eq!(again.as_ref(), Ok(&decoded), "{}", vector.name);
            let mut unpacked = vec![7; 100];
            let view = StreamMessageView::decode(&vector.bytes, &mut unpacked, &Limits::default());
            assert_eq!(decoded, view.expect(&vector.name), "{}", vector.name);
        }
    }
    assert!(compressed > 0, "no vector is compressed");
}

#[test]
fn bad_messages_are_refused() {
    for vector in vectors("stream_msg_bad").iter().filter(|v| v.kind == "stream_msg_bad") {
        let error = StreamMessage::decode_body(&vector.bytes).expect_err(&vector.name);
        assert_eq!(error.format, "stream_msg", "{}", vector.name);
    }
}

#[test]
fn a_message_of_an_old_server_has_no_flags() {
    let bytes = &vectors("stream_msg")[2].bytes;
    let decoded =
        StreamMessage::decode(&bytes.slice(..bytes.len() - 1), &Limits::default()).expect("old");
    assert_eq!(decoded.to_bytes(), bytes);
}

#[test]
fn flags_of_newer_servers_are_kept() {
    let message = StreamMessageView { sourced: true, unknown_flags: 1 << 63 | 6, ..sample() };
    let bytes = message.to_bytes().expect("it fits");
    assert_eq!(bytes.len(), message.encoded_len());
    assert_eq!(decode(&bytes), message);
}

fn sample() -> StreamMessageView<'static> {
    StreamMessageView {
        subject: b"orders.new",
        payload: b"{}",
        sequence: Sequence::new(9),
        timestamp: 1,
        ..StreamMessageView::default()
    }
}

fn decode(bytes: &Bytes) -> StreamMessage {
    StreamMessage::decode(bytes, &Limits::default()).expect("a message")
}

#[test]
fn a_message_that_is_no_more_has_neither_subject_nor_time() {
    let skip = StreamMessageView::skip(Sequence::new(77));
    assert!(skip.is_skip());
    let decoded = decode(&skip.to_bytes().expect("it fits"));
    assert!(decoded.is_skip());
    assert_eq!(decoded, skip);
    assert!(!sample().is_skip() && !sample().to_message().expect("it fits").is_skip());
}

#[test]
fn what_upstream_would_clip_is_refused() {
    let long = &vec![b'a'; 65_536][..];
    let cases = [
        ("subject", StreamMessageView { subject: long, ..sample() }),
        ("reply", StreamMessageView { reply: long, ..sample() }),
        ("header", StreamMessageView { header: long, ..sample() }),
    ];
    for (field, message) in cases {
        let mut buffer = BytesMut::new();
        for error in [
            message.encode(&mut buffer),
            message.encode_allow_compress(&mut buffer),
            message.to_bytes().map(drop),
            message.to_message().map(drop),
        ] {
            let error = error.expect_err("a field too long");
            assert_eq!(error.field, field);
            assert_eq!(error.fault, Fault::TooLarge { limit: 65_535, found: 65_536 });
        }
        assert!(buffer.is_empty());
    }
    let fits = StreamMessageView { subject: &long[1..], ..sample() };
    assert_eq!(decode(&fits.to_bytes().expect("it fits")), fits);
}

#[test]
fn a_message_is_compressed_above_the_threshold_and_where_it_helps() {
    let encode = |payload: Vec<u8>| {
        let message = StreamMessageView { subject: b"ab", payload: &payload, ..sample() };
        let mut buffer = BytesMut::new();
        message.encode_allow_compress(&mut buffer).expect("it fits");
        assert_eq!(decode(&buffer.clone().freeze()), message);
        buffer[0]
    };
    assert_eq!(encode(vec![b'x'; 8190]), 4, "8,192 bytes are not above");
    assert_eq!(encode(vec![b'x'; 8191]), 14);
    let mut state = 1_u64;
    let noise = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    assert_eq!(encode((0..9000).map(noise).collect()), 4, "noise does not get smaller");
}

#[test]
fn a_block_unpacks_to_no_more_than_is_allowed() {
    let payload = vec![0; 100_000];
    let message = StreamMessageView { payload: &payload, ..sample() };
    let mut buffer = BytesMut::new();
    message.encode_allow_compress(&mut buffer).expect("it fits");
    assert_eq!(buffer[0], 14);
    let bytes = buffer.freeze();
    let mut limits = Limits { decompressed: ByteCount::new(99_999), ..Limits::default() };
    let error = StreamMessage::decode(&bytes, &limits).expect_err("too large");
    assert!(matches!(error.fault, Fault::TooLarge { limit: 99_999, .. }), "{error}");
    limits.decompressed = ByteCount::new(200_000);
    assert_eq!(StreamMessage::decode(&bytes, &limits).expect("small enough"), message);
}

#[test]
fn an_op_that_is_no_message_is_refused() {
    let error = StreamMessage::decode(&Bytes::from_static(b"\x05{}"), &Limits::default());
    let error = error.expect_err("a purge");
    assert_eq!((error.field, error.offset), ("op", 0));
    assert!(StreamMessage::decode(&Bytes::new(), &Limits::default()).is_err());
}
