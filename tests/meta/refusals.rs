//! What is wrong with a wish is said by upstream's numbers and texts.

use bytes::Bytes;
use jetwake::event::Request;
use proptest::prelude::*;

use crate::rig::{META, Servers, api};

/// Each wish, and the code of its refusal; none where it comes true.
#[test]
fn wishes_for_streams_are_refused_by_upstreams_numbers() {
    let mut servers = Servers::led(3);
    for (subject, payload, code) in [
        ("STREAM.CREATE.S", "{", Some(10025)),
        ("STREAM.CREATE.S", r#"{"name":"T"}"#, Some(10056)),
        ("STREAM.CREATE.a\\b", r#"{"name":"a\\b"}"#, Some(10128)),
        ("STREAM.CREATE.S", r#"{"name":"S","num_replicas":6}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","num_replicas":-1}"#, Some(10133)),
        ("STREAM.CREATE.S", r#"{"name":"S","num_replicas":5}"#, Some(10005)),
        ("STREAM.CREATE.S", r#"{"name":"S","max_msgs":-2,"pedantic":true}"#, Some(10157)),
        ("STREAM.CREATE.S", r#"{"name":"S","max_age":5}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","subjects":["a","a"]}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.*","a.b"]}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","subjects":[">"]}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","subjects":["$JS.API.x"]}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","sealed":true}"#, Some(10052)),
        ("STREAM.CREATE.S", r#"{"name":"S","mirror":{"name":"T"},"subjects":["a"]}"#, Some(10034)),
        (
            "STREAM.CREATE.S",
            r#"{"name":"S","subject_transform":{"src":"a..","dest":"b"}}"#,
            Some(10155),
        ),
        (
            "STREAM.CREATE.S",
            r#"{"name":"S","subject_transform":{"src":"a.*","dest":"{{x(1)}}"}}"#,
            Some(10156),
        ),
        ("STREAM.CREATE.S", r#"{"name":"S","subjects":["a.>"],"num_replicas":3}"#, None),
        ("STREAM.CREATE.S", r#"{"name":"S","subjects":["b.>"],"num_replicas":3}"#, Some(10058)),
        ("STREAM.CREATE.T", r#"{"name":"T","subjects":["a.b"]}"#, Some(10065)),
        ("STREAM.UPDATE.T", r#"{"name":"T"}"#, Some(10059)),
        ("STREAM.UPDATE.S", r#"{"name":"S","storage":"memory"}"#, Some(10052)),
        ("STREAM.DELETE.T", "", Some(10059)),
        ("STREAM.DELETE.S", r#"{"x":1}"#, Some(10038)),
        ("STREAM.INFO.T", "", Some(10059)),
        ("CONSUMER.CREATE.T.d", r#"{"stream_name":"T","config":{}}"#, Some(10059)),
        ("CONSUMER.CREATE.S.d", r#"{"stream_name":"T","config":{}}"#, Some(10056)),
        (
            "CONSUMER.CREATE.S.d",
            r#"{"stream_name":"S","config":{"durable_name":"e"}}"#,
            Some(10017),
        ),
        ("CONSUMER.DURABLE.CREATE.S.d", r#"{"stream_name":"S","config":{}}"#, Some(10018)),
        ("CONSUMER.CREATE.S", r#"{"stream_name":"S","config":{"durable_name":"d"}}"#, Some(10020)),
        (
            "CONSUMER.CREATE.S.d.a.x",
            r#"{"stream_name":"S","config":{"filter_subject":"a.y"}}"#,
            Some(10131),
        ),
        (
            "CONSUMER.CREATE.S.d",
            r#"{"stream_name":"S","config":{},"action":"update"}"#,
            Some(10149),
        ),
        ("CONSUMER.CREATE.S.d", r#"{"stream_name":"S","config":{"num_replicas":4}}"#, Some(10126)),
        ("CONSUMER.INFO.S.d", "", Some(10014)),
        ("CONSUMER.DELETE.S.d", "", Some(10014)),
        ("CONSUMER.PAUSE.S.d", r#"{"pause_until":"soon"}"#, Some(10025)),
        ("CONSUMER.PAUSE.T.d", "", Some(10059)),
        ("CONSUMER.NAMES.T", "", Some(10059)),
        ("STREAM.PEER.REMOVE.S", "", Some(10003)),
    ] {
        assert_eq!(servers.refused(subject, payload), code, "{subject} {payload}");
    }
}

#[test]
fn a_refusal_has_the_type_of_its_answer_and_says_why() {
    let mut servers = Servers::led(3);
    let told = servers.api("STREAM.CREATE.S", r#"{"name":"S","num_replicas":5}"#);
    assert_eq!(told["type"], "io.nats.jetstream.api.v1.stream_create_response");
    assert_eq!(told["error"]["code"], 400);
    let why = told["error"]["description"].as_str().expect("a text");
    assert!(why.starts_with("no suitable peers for placement"), "{why}");
    let told = servers.api("STREAM.CREATE.S", r#"{"name":"S","retention":"interest"}"#);
    assert_eq!(told["error"]["description"], "retention: not supported yet");
    let told = servers.api("STREAM.DELETE.S", "");
    assert_eq!(told["type"], "io.nats.jetstream.api.v1.stream_delete_response");
}

/// A request that may be meant well.
fn any_request() -> impl Strategy<Value = (String, String)> {
    let verb = prop_oneof![
        Just("STREAM.CREATE.S"),
        Just("STREAM.UPDATE.S"),
        Just("STREAM.DELETE.S"),
        Just("STREAM.INFO.S"),
        Just("STREAM.LIST"),
        Just("CONSUMER.CREATE.S.d"),
        Just("CONSUMER.DURABLE.CREATE.S.d"),
        Just("CONSUMER.PAUSE.S.d"),
        Just("CONSUMER.DELETE.S.d"),
        Just("CONSUMER.LIST.S"),
    ];
    let verb = prop_oneof![8 => verb.prop_map(String::from), 1 => "[A-Z.*> ]{0,20}"];
    let number = prop_oneof![-3..6_i64, Just(i64::MIN), Just(i64::MAX)];
    let field = prop_oneof![
        Just("max_msgs"),
        Just("max_bytes"),
        Just("max_age"),
        Just("max_msgs_per_subject"),
        Just("num_replicas"),
        Just("duplicate_window"),
        Just("max_deliver"),
        Just("max_ack_pending"),
        Just("ack_wait"),
        Just("offset"),
        Just("unheard_of"),
    ];
    let fields = proptest::collection::vec((field, number), 0..4);
    let document = fields.prop_map(|fields| {
        let more: String =
            fields.iter().map(|(name, value)| format!(r#","{name}":{value}"#)).collect();
        let config = format!(r#"{{"durable_name":"d","ack_policy":"explicit"{more}}}"#);
        format!(r#"{{"name":"S","stream_name":"S","config":{config}{more}}}"#)
    });
    (verb, prop_oneof![8 => document, 1 => Just(String::new()), 1 => ".{0,40}"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Red when a number of a client's leaves its range, or when something that is proposed cannot be
    /// applied.
    #[test]
    fn whatever_clients_ask_is_answered_and_no_group_stands_aside(
        requests in proptest::collection::vec(any_request(), 1..20),
        entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        let mut servers = Servers::led(1);
        for entry in entries {
            servers.ask(0, META, Request::Forward { payload: Bytes::from(entry) });
        }
        for (subject, payload) in requests {
            let id = servers.ask(0, META, api(&subject, &payload));
            prop_assert!(servers.answer(id).is_some(), "{} {}", subject, payload);
        }
        servers.restart();
        prop_assert_eq!(&servers.complaints, &[""; 0]);
    }
}
