//! Assignments of streams and consumers, against vectors that a real server wrote.

#[path = "golden/mod.rs"]
mod golden;

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use golden::{trace, vectors};
use jetwake::ids::{ByteCount, PeerId, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::api_level::{API_LEVEL, is_supported};
use jetwake::wire::s2_stream::{decode_stream, encode_stream};
use jetwake::wire::{
    AckPolicy, AppendEntry, ClientInfo, ConsumerAssignment, ConsumerChange, ConsumerConfig,
    ConsumerState, Fault, GoTime, MessageDelete, MetaOp, Op, Pending, RaftGroup, SequencePair,
    StorageType, StreamAssignment, StreamConfig, Written,
};

fn created() -> GoTime {
    GoTime::parse("2023-11-14T22:13:20.123456789Z").expect("a time")
}

fn group() -> RaftGroup {
    let peer = |id: &[u8; 8]| PeerId::from_wire(*id).expect("somebody");
    RaftGroup {
        name: "S-R3F-abcdefgh".to_owned(),
        peers: vec![peer(b"S1abcdef"), peer(b"S2abcdef"), peer(b"S3abcdef")],
        storage: StorageType::File,
        cluster: "C1".to_owned(),
        preferred: Some(peer(b"S1abcdef")),
        scale_up: false,
        resizes: 0,
    }
}

/// What the vectors say.
fn stream_assignment() -> StreamAssignment {
    let config = StreamConfig {
        max_consumers: 0,
        max_age: 3_600_000_000_000,
        num_replicas: 3,
        allow_direct: true,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
        ..StreamConfig::new("ORDERS", ["orders.>".to_owned()])
    };
    StreamAssignment {
        client: Some(ClientInfo {
            account: "ACC".to_owned(),
            service: "ACC".to_owned(),
            ..ClientInfo::default()
        }),
        created: created(),
        config,
        group: group(),
        sync: "$JSC.SYNC.abcdefgh".to_owned(),
        subject: "$JS.API.STREAM.CREATE.ORDERS".to_owned(),
        reply: "_R_".to_owned(),
        restore: None,
        unsupported: None,
    }
}

/// What the vectors say.
fn consumer_assignment(state: Option<ConsumerState>) -> ConsumerAssignment {
    ConsumerAssignment {
        client: Some(ClientInfo { account: "ACC".to_owned(), ..ClientInfo::default() }),
        created: created(),
        name: "D1".to_owned(),
        stream: "ORDERS".to_owned(),
        config: ConsumerConfig {
            durable_name: "D1".to_owned(),
            name: "D1".to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: 30_000_000_000,
            max_deliver: -1,
            filter_subject: "orders.new".to_owned(),
            max_ack_pending: 1000,
            ..ConsumerConfig::default()
        },
        group: group(),
        subject: "$JS.API.CONSUMER.CREATE.ORDERS.D1".to_owned(),
        reply: "_R_".to_owned(),
        state,
        unsupported: None,
    }
}

fn consumer_state() -> ConsumerState {
    let pair = |consumer, stream| SequencePair {
        consumer: Sequence::new(consumer),
        stream: Sequence::new(stream),
    };
    let pending = Pending { sequence: Sequence::new(3), timestamp: 1_700_000_000_000_000_000 };
    ConsumerState {
        delivered: pair(5, 6),
        ack_floor: pair(1, 2),
        pending: [(Sequence::new(4), pending)].into(),
        redelivered: [(Sequence::new(4), 2)].into(),
    }
}

#[test]
fn vectors_of_streams() {
    let assignment = stream_assignment();
    for vector in vectors("assignments").iter().filter(|vector| vector.kind == "assign_stream") {
        let encoded = match vector.name.as_str() {
            "add" => assignment.encode_assign(),
            "update" => assignment.encode_update(),
            "delete" => assignment.encode_remove(),
            name => panic!("{name} is not known"),
        };
        assert_eq!(encoded, vector.bytes, "{}", vector.name);
        let decoded = StreamAssignment::decode(&vector.bytes, &Limits::default());
        assert_eq!(decoded.as_ref(), Ok(&assignment), "{}", vector.name);
        for length in 0..vector.bytes.len() - 1 {
            let prefix = vector.bytes.slice(..length);
            assert!(StreamAssignment::decode(&prefix, &Limits::default()).is_err());
        }
    }
}

#[test]
fn vectors_of_consumers() {
    for vector in vectors("assignments").iter().filter(|vector| vector.kind == "assign_consumer") {
        let with_state = vector.name == "with_state";
        let assignment = consumer_assignment(with_state.then(consumer_state));
        let decoded = ConsumerAssignment::decode(&vector.bytes, &Limits::default());
        assert_eq!(decoded.as_ref(), Ok(&assignment), "{}", vector.name);
        match vector.name.as_str() {
            "add" | "with_state" => assert_eq!(assignment.encode_assign(), vector.bytes),
            "delete" => assert_eq!(assignment.encode_remove(), vector.bytes),
            "compressed" => {
                let encoded = assignment.encode_assign_compressed();
                let contents = |bytes: &Bytes| decode_stream(&bytes.slice(1..), 1 << 20);
                assert_eq!(Op::of(&encoded), Op::of(&vector.bytes));
                assert_eq!(contents(&encoded), contents(&vector.bytes));
                let decoded = ConsumerAssignment::decode(&encoded, &Limits::default());
                assert_eq!(decoded, Ok(assignment));
            }
            name => panic!("{name} is not known"),
        }
        for length in 0..vector.bytes.len() - 1 {
            let prefix = vector.bytes.slice(..length);
            assert!(ConsumerAssignment::decode(&prefix, &Limits::default()).is_err());
        }
    }
}

#[test]
fn live_entries_are_written_as_they_came() {
    let limits = Limits::default();
    let (mut streams, mut deletes) = (0, 0);
    for message in trace().iter().filter(|message| message.subject.starts_with("$NRG.AE.")) {
        let entry = AppendEntry::decode(&message.payload).expect("an append entry");
        for data in entry.entries.iter().map(|entry| entry.data) {
            match Op::of(&data) {
                Ok(Op::AssignStream) if data.len() > 1 && data[1] == b'{' => {
                    let decoded = StreamAssignment::decode(&data, &limits).expect("a stream");
                    assert_eq!(decoded.unsupported, None);
                    assert_eq!(decoded.encode_assign(), data);
                    streams += 1;
                }
                Ok(Op::DeleteMessage) => {
                    let decoded = MessageDelete::decode(&data, &limits).expect("a delete");
                    assert_eq!(decoded.to_bytes(), data);
                    deletes += 1;
                }
                _ => {}
            }
        }
    }
    assert_eq!((streams, deletes), (1, 10));
}

/// A stream's assignment whose configuration has this after its name.
fn with_config(rest: &str) -> Bytes {
    let json = format!(
        r#"{{"stream":{{"name":"S"{rest}}},"group":{{"name":"G","peers":null,"store":"file"}},"new":[{{"a":1}}]}}"#
    );
    Bytes::from([&[0], json.as_bytes(), b"\n"].concat())
}

#[test]
fn what_is_not_understood_stays_offline_and_whole() {
    let unsupported = [
        (r#","new_field":{"x":[1,2]}"#, r#"config error: unknown field "new_field""#),
        (r#","consumer_limits":{"a.b":1}"#, r#"config error: unknown field "a.b""#),
        (r#","retention":"forever""#, "config error: unknown variant"),
        (r#","max_msgs":"many""#, "config error: invalid type"),
        (r#","metadata":{"_nats.req.level":"4"}"#, "required API level: 4, current API level: 3"),
        (r#","metadata":{"_nats.req.level":"x"}"#, "required API level: x"),
    ];
    for (rest, reason) in unsupported {
        let bytes = with_config(rest);
        let assignment = Written::read(&bytes, &Limits::default(), StreamAssignment::decode)
            .unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!(assignment.config.name, "S", "{rest}");
        let found = assignment.unsupported.as_ref().map(|unsupported| unsupported.reason.as_str());
        let found = found.unwrap_or_else(|| panic!("{rest} was taken"));
        assert!(found.starts_with(&format!("unsupported - {reason}")), "{rest}: {found}");
        assert_eq!(assignment.bytes(), &bytes);
        // A leader that writes it anew keeps the configuration.
        let config = format!(r#""stream":{{"name":"S"{rest}}}"#);
        let encoded = assignment.encode_update();
        assert_eq!(Op::of(&encoded), Ok(Op::UpdateStream));
        let encoded = std::str::from_utf8(&encoded[1..]).expect("JSON");
        assert!(encoded.contains(&config), "{encoded}");
    }
    let supported = [
        "",
        r#","metadata":{"_nats.req.level":"3","x":"y"}"#,
        r#","metadata":{"_nats.req.level":""}"#,
        r#","metadata":{"_nats.req.level":"-1"}"#,
    ];
    for rest in supported {
        let assignment = StreamAssignment::decode(&with_config(rest), &Limits::default());
        assert_eq!(assignment.expect(rest).unsupported, None, "{rest}");
    }
    assert_eq!(API_LEVEL, 3);
    assert!(is_supported(&[].into()));
}

#[test]
fn consumers_that_are_not_understood_are_kept_too() {
    let json = r#"{"name":"C","stream":"S","consumer":{"name":"C","new":1},"group":{"name":"G"}}"#;
    let mut out = BytesMut::from(&[9][..]);
    encode_stream(json.as_bytes(), &mut out);
    let assignment = ConsumerAssignment::decode(&out.freeze(), &Limits::default()).expect("kept");
    let unsupported = assignment.unsupported.expect("unsupported");
    assert_eq!(unsupported.reason, r#"unsupported - config error: unknown field "new""#);
    assert_eq!(&unsupported.config[..], br#"{"name":"C","new":1}"#);
}

#[test]
fn what_is_no_assignment_is_refused() {
    let streams: [&[u8]; 6] =
        [b"", b"\x00", b"\x01{}", b"\x00{}", b"\x00null", b"\x00{\"stream\":1,\"group\":{}}"];
    for bytes in streams {
        let bytes = Bytes::from_static(bytes);
        assert!(StreamAssignment::decode(&bytes, &Limits::default()).is_err(), "{bytes:?}");
        assert!(ConsumerAssignment::decode(&bytes, &Limits::default()).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_mirror_has_no_duplicate_window() {
    let bytes = with_config(r#","duplicate_window":120000000000,"mirror":{"name":"M"}"#);
    let assignment = StreamAssignment::decode(&bytes, &Limits::default()).expect("supported");
    assert_eq!(assignment.config.duplicate_window, 0);
}

#[test]
fn credentials_are_not_replicated() {
    let mut assignment = stream_assignment();
    let client = assignment.client.as_mut().expect("somebody");
    client.jwt = "secret".to_owned();
    client.issuer_key = "key".to_owned();
    assert_eq!(assignment.encode_assign(), stream_assignment().encode_assign());
}

#[test]
fn a_small_message_that_unpacks_to_much_is_refused() {
    let mut out = BytesMut::from(&[9][..]);
    let mut json = String::from(r#"{"name":""#);
    for _ in 0..100_000 {
        write!(json, "aaaaaaaaaa").expect("a String takes all");
    }
    encode_stream(json.as_bytes(), &mut out);
    assert!(out.len() < 100_000);
    let limits = Limits { decompressed: ByteCount::new(65_536), ..Limits::default() };
    let error = ConsumerAssignment::decode(&out.freeze(), &limits).map_err(|error| error.fault);
    assert!(matches!(error, Err(Fault::TooLarge { limit: 65_536, .. })), "{error:?}");
}

#[test]
fn pending_messages_are_in_the_order_of_their_digits() {
    let state = ConsumerState {
        pending: [9, 10, 100].map(|sequence| (Sequence::new(sequence), Pending::default())).into(),
        ..ConsumerState::default()
    };
    let encoded = consumer_assignment(Some(state)).encode_assign();
    let text = std::str::from_utf8(&encoded[1..]).expect("JSON");
    let place = |key: &str| text.find(&format!("\"{key}\":{{\"Sequence\"")).expect(key);
    assert!(place("10") < place("100") && place("100") < place("9"));
}

#[test]
fn nesting_is_bounded_within_configurations_too() {
    let mut bytes = BytesMut::from(&b"\x00{\"group\":{\"name\":\"G\"},\"stream\":"[..]);
    bytes.put_bytes(b'[', 1_000_000);
    let error = StreamAssignment::decode(&bytes.freeze(), &Limits::default());
    let fault = error.map_err(|error| error.fault);
    assert_eq!(fault, Err(Fault::TooLarge { limit: 64, found: 1_000_001 }));
}

/// An op of ours; everything else is as in an assignment.
#[test]
fn the_end_of_a_change_of_members_is_told_like_an_assignment() {
    let group = RaftGroup { resizes: 3, ..group() };
    let resized = ConsumerAssignment { group, ..consumer_assignment(None) };
    let bytes = resized.to_bytes(ConsumerChange::Resized);
    assert_eq!(bytes.len(), resized.encoded_len(ConsumerChange::Resized));
    assert_eq!((bytes[0], Op::of(&bytes)), (254, Ok(Op::ConsumerResized)));
    assert_eq!(&bytes[1..], &resized.encode_assign()[1..]);
    let limits = Limits::default();
    assert_eq!(ConsumerAssignment::decode(&bytes, &limits), Ok(resized.clone()));
    let op = MetaOp::decode(&bytes, &limits);
    assert_eq!(op, Ok(MetaOp::ConsumerResized(Box::new(resized.clone()))));
    for length in 0..bytes.len() - 1 {
        assert!(MetaOp::decode(&bytes.slice(..length), &limits).is_err(), "{length}");
    }
    // Vectors of the real server have no such field, and are written as they were.
    assert!(core::str::from_utf8(&bytes[1..]).expect("JSON").contains(r#""resizes":3"#));
    assert!(
        !String::from_utf8_lossy(&consumer_assignment(None).encode_assign()).contains("resizes")
    );
}
