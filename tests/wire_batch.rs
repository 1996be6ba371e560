//! Messages of batches and steps of consumers.

#[path = "golden/mod.rs"]
mod golden;

use bytes::{Bytes, BytesMut};
use golden::{binary, number, signed, text, unhex, vectors};
use jetwake::ids::Sequence;
use jetwake::limits::Limits;
use jetwake::wire::{BatchMessage, ConsumerOp, Fault, StreamMessage};

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
        let expected = BatchMessage {
            batch_id: Bytes::copy_from_slice(text(&fields["batch_id"]).as_bytes()),
            batch_sequence: number(&fields["batch_seq"]),
            commit: fields["batch_commit"] == true,
            message: StreamMessage {
                subject: binary(&fields["subject_hex"]),
                reply: Bytes::copy_from_slice(text(&fields["reply"]).as_bytes()),
                header: binary(&fields["hdr"]),
                payload: binary(&fields["msg"]),
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
        assert_eq!(from_body.as_ref(), Ok(&expected));
        let mut encoded = BytesMut::new();
        expected.encode_allow_compress(&mut encoded).expect("it fits");
        if vector.name == "batch_large_compressed" {
            assert!(encoded.len() < expected.encoded_len());
            let again = BatchMessage::decode(&encoded.freeze(), &Limits::default());
            assert_eq!(again, Ok(expected));
        } else {
            assert_eq!(expected.encoded_len(), vector.bytes.len());
            assert_eq!(expected.to_bytes().as_ref(), Ok(&vector.bytes), "{}", vector.name);
            assert_eq!(encoded, vector.bytes, "{}", vector.name);
        }
    }
    assert!(seen >= 3, "{seen} vectors are of batches");
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
    let batch = |length: usize| BatchMessage {
        batch_id: Bytes::from(vec![b'i'; length]),
        batch_sequence: u64::MAX,
        ..BatchMessage::default()
    };
    let fault = batch(65_536).to_bytes().expect_err("too long").fault;
    assert_eq!(fault, Fault::TooLarge { limit: 65_535, found: 65_536 });
    assert!(batch(0).to_bytes().is_err(), "a batch has an id");
    let bytes = batch(65_535).to_bytes().expect("it fits");
    assert_eq!(BatchMessage::decode(&bytes, &Limits::default()), Ok(batch(65_535)));
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
}
