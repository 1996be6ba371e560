//! Messages of batches and steps of consumers.

#[path = "golden/mod.rs"]
mod golden;

use bytes::{Bytes, BytesMut};
use golden::{binary, number, signed, text, unhex, vectors};
use jetwake::ids::Sequence;
use jetwake::limits::Limits;
use jetwake::wire::{BatchMessage, BatchMessageView, ConsumerOp, Fault, Op, StreamMessageView};

#[test]
fn messages_of_batches_are_upstreams() {
    let mut seen = 0;
    for vector in vectors("stream_msg") {
        let op = number(&vector.fields["op"]);
        if op < 16 {
            assert!(BatchMessage::decode(&vector.bytes, &Limits::default()).is_err());
            continue;
        }
        seen += 1;
        let fields = &vector.fields;
        let [subject, header, payload] =
            ["subject_hex", "hdr", "msg"].map(|field| binary(&fields[field]));
        let expected = BatchMessageView {
            batch_id: text(&fields["batch_id"]).as_bytes(),
            batch_sequence: number(&fields["batch_seq"]),
            commit: fields["batch_commit"] == true,
            message: StreamMessageView {
                subject: &subject,
                reply: text(&fields["reply"]).as_bytes(),
                header: &header,
                payload: &payload,
                sequence: Sequence::new(number(&fields["lseq"])),
                timestamp: signed(&fields["ts"]),
                sourced: fields["sourced"] == true,
                unknown_flags: 0,
            },
        };
        let decoded = BatchMessage::decode(&vector.bytes, &Limits::default()).expect(&vector.name);
        assert_eq!(decoded, expected, "{}", vector.name);
        let body = vector.bytes.slice(1..);
        let from_body = BatchMessage::decode_body(&body, expected.commit, &Limits::default());
        assert_eq!(from_body.as_ref(), Ok(&decoded));
        let mut encoded = BytesMut::new();
        expected.encode_allow_compress(&mut encoded).expect("it fits");
        if vector.name == "batch_large_compressed" {
            assert!(encoded.len() < expected.encoded_len());
            let again = BatchMessage::decode(&encoded.freeze(), &Limits::default());
            assert_eq!(again, Ok(decoded));
        } else {
            assert_eq!(expected.encoded_len(), vector.bytes.len());
            assert_eq!(expected.to_bytes().as_ref(), Ok(&vector.bytes), "{}", vector.name);
            assert_eq!(encoded, vector.bytes, "{}", vector.name);
        }
    }
    assert!(seen >= 3, "{seen} vectors are of batches");
}

/// Upstream: `TestJetStreamAtomicBatchPublishEncode`.
#[test]
fn jetstream_atomic_batch_publish_encode() {
    let header = b"NATS/1.0\r\nNats-Batch-Id: uuid\r\nNats-Batch-Sequence: 1\r\n\r\n";
    let small = b"A".to_vec();
    // As upstream: eight kilobytes, which only the other fields bring above the threshold.
    let large = b"A".repeat(8192);
    for (commit, payload, inner) in [
        (false, &small, Op::Message),
        (false, &large, Op::CompressedMessage),
        (true, &small, Op::Message),
        (true, &large, Op::CompressedMessage),
    ] {
        let message = StreamMessageView {
            subject: b"foo",
            reply: b"reply",
            header,
            payload,
            sequence: Sequence::new(1),
            timestamp: 1_700_000_000_123_456_789,
            ..StreamMessageView::default()
        };
        let batch = BatchMessageView { batch_id: b"uuid", batch_sequence: 1, commit, message };
        let mut encoded = BytesMut::new();
        batch.encode_allow_compress(&mut encoded).expect("it fits");
        let encoded = encoded.freeze();
        let outer = if commit { Op::BatchCommit } else { Op::Batch };
        assert_eq!(Op::of(&encoded), Ok(outer));
        // The id with its length and the place come before the message's own op.
        assert_eq!(&encoded[1..8], b"\x04\x00uuid\x01");
        assert_eq!(Op::of(&encoded[8..]), Ok(inner));
        if inner == Op::CompressedMessage {
            assert!(encoded.len() < 1024, "{} bytes", encoded.len());
        }
        let body = encoded.slice(1..);
        let decoded = BatchMessage::decode_body(&body, commit, &Limits::default());
        let decoded = decoded.expect("just encoded");
        assert_eq!(decoded, batch);
        assert_eq!(BatchMessage::decode(&encoded, &Limits::default()), Ok(decoded));
    }
}

#[test]
fn bad_messages_of_batches_are_refused() {
    let vectors = vectors("stream_msg_bad");
    let bad: Vec<_> = vectors.iter().filter(|vector| vector.kind == "batch_msg_bad").collect();
    assert_eq!(bad.len(), 8);
    for vector in bad {
        BatchMessage::decode_body(&vector.bytes, false, &Limits::default())
            .expect_err(&vector.name);
    }
    for (bytes, why) in [
        (&b"\x01\x00b\x05"[..], "upstream panics without an op"),
        (b"\x01\x00b\x05\x04", "an op and no message"),
        (b"\x01\x00b\x05\x05{}", "a purge in a batch"),
        (b"\x01\x00b\x05\x10\x01\x00b\x05\x04", "a batch in a batch"),
        (b"\x00\x00\x05\x04", "no id"),
    ] {
        let result =
            BatchMessage::decode_body(&Bytes::from_static(bytes), true, &Limits::default());
        assert!(result.is_err(), "{why}");
    }
}

#[test]
fn an_id_that_upstream_would_clip_is_refused() {
    let long = vec![b'i'; 65_536];
    let batch = |length: usize| BatchMessageView {
        batch_id: &long[..length],
        batch_sequence: u64::MAX,
        ..BatchMessageView::default()
    };
    let fault = batch(65_536).to_bytes().expect_err("too long").fault;
    assert_eq!(fault, Fault::TooLarge { limit: 65_535, found: 65_536 });
    assert!(batch(0).to_bytes().is_err(), "a batch has an id");
    let bytes = batch(65_535).to_bytes().expect("it fits");
    let decoded = BatchMessage::decode(&bytes, &Limits::default()).expect("it fits");
    assert_eq!(decoded, batch(65_535));
}

#[test]
fn steps_of_consumers_have_upstreams_bytes() {
    let steps = [
        (
            ConsumerOp::Delivered {
                consumer: Sequence::new(1),
                stream: Sequence::new(300),
                count: 2,
                timestamp: -1,
            },
            "0701ac020201",
        ),
        (
            ConsumerOp::Delivered {
                consumer: Sequence::new(5),
                stream: Sequence::new(6),
                count: 1,
                timestamp: 1_700_000_000_000_000_000,
            },
            "070506018080d0e2c6bfce972f",
        ),
        (ConsumerOp::Acks { consumer: Sequence::new(127), stream: Sequence::new(128) }, "087f8001"),
        (ConsumerOp::Skip { stream: Sequence::new(258) }, "0a0201000000000000"),
        (
            ConsumerOp::ResetSequence {
                stream: Sequence::MAX,
                reply: Bytes::from_static(b"_INBOX.a"),
            },
            "12ffffffffffffffff5f494e424f582e61",
        ),
    ];
    for (step, hex) in steps {
        let bytes = unhex(hex);
        assert_eq!(golden::hex(&step.to_bytes()), hex);
        assert_eq!(step.encoded_len(), bytes.len());
        assert_eq!(ConsumerOp::decode(&bytes), Ok(step.clone()));
        if !matches!(step, ConsumerOp::ResetSequence { .. }) {
            assert!(ConsumerOp::decode(&[&bytes[..], b"x"].concat().into()).is_err());
        }
        for length in 0..bytes.len().min(9) {
            assert!(ConsumerOp::decode(&bytes.slice(..length)).is_err(), "{hex} cut to {length}");
        }
    }
    assert!(ConsumerOp::decode(&Bytes::from_static(&[4, 0])).is_err());
    for op in [12, 13, 19, 255] {
        let bytes = Bytes::from(vec![op, 1, 2]);
        let step = ConsumerOp::decode(&bytes).expect("a step of a newer server");
        assert!(matches!(&step, ConsumerOp::Unknown { bytes, .. } if bytes.len() == 3));
        assert_eq!((step.op().as_u8(), step.encoded_len()), (op, 3));
        assert_eq!(step.to_bytes(), bytes);
    }
}
