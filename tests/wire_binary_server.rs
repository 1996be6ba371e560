//! Binary formats with every flag set, at their edges and in odd shapes, as the real server writes
//! them; and what a consumer's group replicates, taken from live clusters.
//!
//! The vectors are made by `tests/interop/vectors`.

#[path = "golden/mod.rs"]
mod golden;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use golden::{Vector, binary, number, signed, text, vectors};
use jetwake::ids::{GroupName, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{
    BatchMessage, BatchMessageView, ConsumerOp, ConsumerState, DomainState, MetaSnapshot, Op,
    PeerState, Pending, RaftSnapshot, SequencePair, SequenceSet, StreamMessage, StreamMessageView,
    s2,
};
use serde_json::Value;

const SECOND: i64 = 1_000_000_000;

/// The vectors of one kind, of which there are this many.
fn of_kind(file: &str, kind: &str, count: usize) -> Vec<Vector> {
    let vectors: Vec<_> = vectors(file).into_iter().filter(|vector| vector.kind == kind).collect();
    assert_eq!(vectors.len(), count, "{file}: {kind}");
    vectors
}

#[test]
fn messages_of_every_flag() {
    let mut ops = BTreeMap::new();
    for vector in of_kind("binary", "stream_msg", 28) {
        let fields = &vector.fields;
        let [subject, header, payload] =
            ["subject_hex", "hdr", "msg"].map(|field| binary(&fields[field]));
        let message = StreamMessageView {
            subject: &subject,
            reply: text(&fields["reply"]).as_bytes(),
            header: &header,
            payload: &payload,
            sequence: Sequence::new(number(&fields["lseq"])),
            timestamp: signed(&fields["ts"]),
            sourced: fields["sourced"] == true,
            unknown_flags: 0,
        };
        let batch = BatchMessageView {
            batch_id: text(&fields["batch_id"]).as_bytes(),
            batch_sequence: number(&fields["batch_seq"]),
            commit: fields["batch_commit"] == true,
            message,
        };
        // Upstream writes no batch without an id.
        let in_batch = !batch.batch_id.is_empty();
        let mut encoded = BytesMut::new();
        let inner = if in_batch {
            batch.encode_allow_compress(&mut encoded).expect("it fits");
            let varint = (70 - (batch.batch_sequence | 1).leading_zeros() as usize) / 7;
            1 + 2 + batch.batch_id.len() + varint
        } else {
            message.encode_allow_compress(&mut encoded).expect("it fits");
            0
        };
        let name = &vector.name;
        let decode = |bytes: &Bytes| match in_batch {
            true => {
                let decoded = BatchMessage::decode(bytes, &Limits::default()).expect(name);
                assert_eq!(decoded, batch, "{name}");
                decoded.message().clone()
            }
            false => StreamMessage::decode(bytes, &Limits::default()).expect(name),
        };
        assert_eq!(decode(&vector.bytes), message, "{name}");
        let op = Op::of(&vector.bytes[inner..]).expect(name);
        *ops.entry((vector.bytes[0], op.as_u8())).or_insert(0) += 1;
        if op == Op::Message {
            assert_eq!(encoded, vector.bytes, "{name}");
        } else if payload.len() == 9000 {
            // Upstream's compressor saves a few bytes of noise, for which ours does not bother.
            assert_eq!(decode(&encoded.freeze()), message, "{name}");
        } else {
            assert_eq!(encoded[..=inner], vector.bytes[..=inner], "{name}");
            assert_eq!(decode(&encoded.freeze()), message, "{name}");
        }
    }
    let kinds: Vec<_> = ops.keys().copied().collect();
    assert_eq!(kinds, [(4, 4), (14, 14), (16, 4), (16, 14), (17, 4), (17, 14)]);
}

#[test]
fn states_of_consumers() {
    let pair = |value: &Value| SequencePair {
        consumer: Sequence::new(number(&value[0])),
        stream: Sequence::new(number(&value[1])),
    };
    let sequence = |key: &str| Sequence::new(key.parse().expect("a sequence"));
    for vector in of_kind("binary", "consumer_state", 8) {
        let fields = &vector.fields;
        let entries = |field: &str| fields[field].as_object().expect("a map").clone();
        let pending = entries("pending").into_iter().map(|(key, value)| {
            let timestamp = signed(&value[1]) / SECOND * SECOND;
            (sequence(&key), Pending { sequence: Sequence::new(number(&value[0])), timestamp })
        });
        let redelivered = entries("redelivered").into_iter();
        let expected = ConsumerState {
            delivered: pair(&fields["delivered"]),
            ack_floor: pair(&fields["ack_floor"]),
            pending: pending.collect(),
            redelivered: redelivered.map(|(key, n)| (sequence(&key), number(&n))).collect(),
        };
        let (decoded, base) = ConsumerState::decode(&vector.bytes).expect(&vector.name);
        assert_eq!(decoded, expected, "{}", vector.name);
        let encoded = decoded.to_bytes(base);
        if decoded.pending.len() <= 1 && decoded.redelivered.len() <= 1 {
            assert_eq!(encoded, vector.bytes, "{}", vector.name);
        }
        // Several come in any order from upstream.
        assert_eq!(encoded.len(), vector.bytes.len());
        assert_eq!(ConsumerState::decode(&encoded), Ok((expected, base)));
    }
}

#[test]
fn sets_of_odd_shapes() {
    for vector in of_kind("binary", "sequence_set", 14) {
        let set = SequenceSet::decode(&vector.bytes, &Limits::default()).expect(&vector.name);
        assert_eq!(set.len(), number(&vector.fields["size"]), "{}", vector.name);
        let runs = vector.fields["runs"].as_array().expect("a list");
        let expected = runs.iter().map(|run| (number(&run[0]), number(&run[1])));
        let found = set.runs().map(|(first, count)| (first.get(), count));
        let (found, mut expected): (Vec<_>, Vec<_>) = (found.collect(), expected.collect());
        if vector.name == "ends" {
            // Upstream encodes and counts its last node, but its walk passes over it.
            expected.push((u64::MAX, 1));
        }
        assert_eq!(found, expected, "{}", vector.name);
        if vector.name == "from_a_minimum" {
            // Upstream puts a first node where it is told, and others across it; ours are in line.
            let encoded = set.to_bytes().expect("it fits");
            assert_eq!(SequenceSet::decode(&encoded, &Limits::default()), Ok(set));
            continue;
        }
        assert_eq!(set.encoded_len(), vector.bytes.len(), "{}", vector.name);
        assert_eq!(set.to_bytes().as_ref(), Ok(&vector.bytes), "{}", vector.name);
    }
}

#[test]
fn peers_of_every_domain() {
    let mut domains = Vec::new();
    for vector in of_kind("binary", "peer_state", 15) {
        let fields = &vector.fields;
        let state = PeerState::decode(&vector.bytes, &Limits::default()).expect(&vector.name);
        assert_eq!(u64::from(state.cluster_size), number(&fields["cluster_size"]));
        assert_eq!(u64::from(state.domain.as_u16()), number(&fields["domain_ext"]));
        let peers = fields["peers"].as_array().expect("a list").iter().map(text);
        assert!(state.peers.iter().map(ToString::to_string).eq(peers), "{}", vector.name);
        assert_eq!(state.to_bytes(), vector.bytes, "{}", vector.name);
        domains.push(state.domain);
    }
    domains.dedup();
    use DomainState::{Extended, NotExtended, Undetermined};
    assert_eq!(domains, [Undetermined, Extended, NotExtended]);
}

#[test]
fn steps_of_live_consumers() {
    let mut steps = BTreeMap::new();
    for vector in of_kind("live", "consumer_op", 25) {
        let step = ConsumerOp::decode(&vector.bytes).expect(&vector.name);
        assert_eq!(u64::from(step.op().as_u8()), number(&vector.fields["op"]));
        assert_eq!(step.to_bytes(), vector.bytes, "{}", vector.name);
        assert_eq!(step.encoded_len(), vector.bytes.len());
        // What the program did: it looked at the first messages of a stream of 45, in 2026.
        match &step {
            ConsumerOp::Delivered { consumer, stream, count, timestamp } => {
                assert!((1..=6).contains(&consumer.get()) && (1..=40).contains(&stream.get()));
                assert!((1..=2).contains(count), "{step:?}");
                assert!((1_767_225_600..1_798_761_600).contains(&(timestamp / SECOND)), "{step:?}");
            }
            ConsumerOp::Acks { consumer, stream } => {
                assert!((1..=6).contains(&consumer.get()) && (1..=40).contains(&stream.get()));
            }
            ConsumerOp::Skip { stream } => assert!((1..=46).contains(&stream.get())),
            ConsumerOp::ResetSequence { stream, reply } => {
                assert!((1..=3).contains(&stream.get()));
                assert!(reply.starts_with(b"_INBOX."), "{reply:?}");
            }
            other => panic!("{other:?}"),
        }
        *steps.entry(step.op().as_u8()).or_insert(0) += 1;
    }
    assert_eq!(steps, BTreeMap::from([(7, 10), (8, 9), (10, 3), (18, 3)]));
}

#[test]
fn snapshots_of_the_group_that_assigns_streams() {
    let group = GroupName::new("_meta_").expect("a name");
    let mut found = Vec::new();
    for vector in of_kind("meta", "raft_snapshot", 2) {
        let file = RaftSnapshot::decode(&vector.bytes, &group).expect(&vector.name);
        assert_eq!(file.to_bytes(&group), vector.bytes, "{}", vector.name);
        let members = PeerState::decode(&file.peer_state, &Limits::default()).expect(&vector.name);
        assert_eq!((members.peers.len(), members.cluster_size), (3, 3), "{}", vector.name);

        let snapshot = MetaSnapshot::decode(&file.data, &Limits::default()).expect(&vector.name);
        let document = s2::decode_block(&file.data, 1 << 20).expect(&vector.name);
        assert_eq!(snapshot.document(), document, "{}: the JSON, byte for byte", vector.name);
        let encoded = snapshot.encode().expect("it fits");
        assert_eq!(MetaSnapshot::decode(&encoded, &Limits::default()), Ok(snapshot.clone()));
        found.push(
            snapshot
                .streams
                .into_iter()
                .map(|one| {
                    let consumers = one.consumers.into_iter().map(|consumer| consumer.name);
                    (one.stream.config.name, consumers.collect::<BTreeSet<_>>())
                })
                .collect::<BTreeMap<_, _>>(),
        );
    }
    let consumers = BTreeSet::from(["all".to_owned(), "some".to_owned()]);
    let first = BTreeMap::from([("S".to_owned(), consumers)]);
    let mut second = first.clone();
    second.extend(["ESCAPED", "MEMORY"].map(|name| (name.to_owned(), BTreeSet::new())));
    assert_eq!(found, [first, second]);
}
