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
    StreamMessage {
        subject: binary(&fields["subject_hex"]),
        reply: Bytes::copy_from_slice(text(&fields["reply"]).as_bytes()),
        header: binary(&fields["hdr"]),
        payload: binary(&fields["msg"]),
        sequence: Sequence::new(number(&fields["lseq"])),
        timestamp: signed(&fields["ts"]),
        sourced: fields["sourced"] == true,
        unknown_flags: 0,
    }
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
        decoded.encode_allow_compress(&mut encoded).expect(&vector.name);
        if op == 4 {
            assert_eq!(decoded.encoded_len(), vector.bytes.len());
            assert_eq!(decoded.to_bytes().expect("it fits"), vector.bytes, "{}", vector.name);
            assert_eq!(encoded, vector.bytes, "{}", vector.name);
            let view = StreamMessageView::decode_body(&vector.bytes[1..]).expect(&vector.name);
            assert_eq!((view.subject, view.reply), (&decoded.subject[..], &decoded.reply[..]));
            assert_eq!((view.header, view.payload), (&decoded.header[..], &decoded.payload[..]));
            assert_eq!((view.sequence, view.timestamp), (decoded.sequence, decoded.timestamp));
            assert_eq!((view.sourced, view.unknown_flags), (decoded.sourced, 0));
            assert_eq!(StreamMessage::decode_body(&vector.bytes.slice(1..)), Ok(decoded));
        } else {
            compressed += 1;
            assert_eq!(encoded[0], 14, "{}", vector.name);
            assert!(encoded.len() < decoded.encoded_len());
            let again = StreamMessage::decode(&encoded.freeze(), &Limits::default());
            assert_eq!(again, Ok(decoded), "{}", vector.name);
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
    assert_eq!(decoded.to_bytes().as_ref(), Ok(bytes));
}

#[test]
fn flags_of_newer_servers_are_kept() {
    let message = StreamMessage { sourced: true, unknown_flags: 1 << 63 | 6, ..sample() };
    let bytes = message.to_bytes().expect("it fits");
    assert_eq!(bytes.len(), message.encoded_len());
    assert_eq!(StreamMessage::decode(&bytes, &Limits::default()), Ok(message));
}

fn sample() -> StreamMessage {
    StreamMessage {
        subject: Bytes::from_static(b"orders.new"),
        payload: Bytes::from_static(b"{}"),
        sequence: Sequence::new(9),
        timestamp: 1,
        ..StreamMessage::default()
    }
}

#[test]
fn a_message_that_is_no_more_has_neither_subject_nor_time() {
    let skip = StreamMessage::skip(Sequence::new(77));
    assert!(skip.is_skip());
    let decoded = StreamMessage::decode(&skip.to_bytes().expect("it fits"), &Limits::default());
    assert_eq!(decoded, Ok(skip));
    assert!(!sample().is_skip());
}

#[test]
fn what_upstream_would_clip_is_refused() {
    let long = Bytes::from(vec![b'a'; 65_536]);
    let cases = [
        ("subject", StreamMessage { subject: long.clone(), ..sample() }),
        ("reply", StreamMessage { reply: long.clone(), ..sample() }),
        ("header", StreamMessage { header: long.clone(), ..sample() }),
    ];
    for (field, message) in cases {
        let mut buffer = BytesMut::new();
        for error in [message.encode(&mut buffer), message.encode_allow_compress(&mut buffer)] {
            let error = error.expect_err("a field too long");
            assert_eq!(error.field, field);
            assert_eq!(error.fault, Fault::TooLarge { limit: 65_535, found: 65_536 });
        }
        assert!(buffer.is_empty());
    }
    let fits = StreamMessage { subject: long.slice(1..), ..sample() };
    assert_eq!(StreamMessage::decode_body(&fits.to_bytes().expect("it fits").slice(1..)), Ok(fits));
}

#[test]
fn a_message_is_compressed_above_the_threshold_and_where_it_helps() {
    let encode = |payload: Vec<u8>| {
        let message = StreamMessage {
            subject: Bytes::from_static(b"ab"),
            payload: payload.into(),
            ..sample()
        };
        let mut buffer = BytesMut::new();
        message.encode_allow_compress(&mut buffer).expect("it fits");
        assert_eq!(
            StreamMessage::decode(&buffer.clone().freeze(), &Limits::default()),
            Ok(message)
        );
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
    let message = StreamMessage { payload: vec![0; 100_000].into(), ..sample() };
    let mut buffer = BytesMut::new();
    message.encode_allow_compress(&mut buffer).expect("it fits");
    assert_eq!(buffer[0], 14);
    let bytes = buffer.freeze();
    let mut limits = Limits { decompressed: ByteCount::new(99_999), ..Limits::default() };
    let error = StreamMessage::decode(&bytes, &limits).expect_err("too large");
    assert!(matches!(error.fault, Fault::TooLarge { limit: 99_999, .. }), "{error}");
    limits.decompressed = ByteCount::new(200_000);
    assert_eq!(StreamMessage::decode(&bytes, &limits), Ok(message));
}

#[test]
fn an_op_that_is_no_message_is_refused() {
    let error = StreamMessage::decode(&Bytes::from_static(b"\x05{}"), &Limits::default());
    let error = error.expect_err("a purge");
    assert_eq!((error.field, error.offset), ("op", 0));
    assert!(StreamMessage::decode(&Bytes::new(), &Limits::default()).is_err());
}
