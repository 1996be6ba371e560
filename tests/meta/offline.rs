//! What a newer server assigned: kept, offline, and answered so.

use bytes::Bytes;
use jetwake::event::Request;
use jetwake::ids::PeerId;
use jetwake::limits::Limits;
use jetwake::time::Duration;
use jetwake::wire::{
    ClientInfo, ConsumerAssignment, ConsumerConfig, MetaSnapshot, RaftGroup, RetentionPolicy,
    StreamAssignment, StreamConfig,
};
use serde_json::json;

use crate::rig::{META, Servers};

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

const STREAM: &str = "DowngradeStreamTest";
const CONSUMER: &str = "DowngradeConsumerTest";
/// The level that is above any other, and the one below it.
const HIGHEST: i64 = i64::MAX;
const HIGH: i64 = i64::MAX - 1;

fn client() -> Option<ClientInfo> {
    Some(ClientInfo { account: "$G".into(), cluster: "C".into(), ..ClientInfo::default() })
}

fn group(name: &str) -> RaftGroup {
    let peers = ["n1", "n2", "n3"].map(PeerId::from_name).to_vec();
    RaftGroup { name: name.into(), peers, cluster: "C".into(), ..RaftGroup::default() }
}

/// A stream on all three servers that requires this level, if any.
fn requiring(level: Option<i64>) -> StreamAssignment {
    let mut config =
        StreamConfig { num_replicas: 3, ..StreamConfig::new(STREAM, [format!("{STREAM}.>")]) };
    config.metadata.extend(level.map(|level| ("_nats.req.level".into(), level.to_string())));
    StreamAssignment { client: client(), config, group: group("S-R3F-x"), ..Default::default() }
}

/// A consumer of the stream of its name, on all three servers, that requires this level, if any.
fn consumer_requiring(level: Option<i64>) -> ConsumerAssignment {
    let mut config =
        ConsumerConfig { name: CONSUMER.into(), num_replicas: 3, ..ConsumerConfig::default() };
    config.metadata.extend(level.map(|level| ("_nats.req.level".into(), level.to_string())));
    ConsumerAssignment {
        client: client(),
        name: CONSUMER.into(),
        stream: CONSUMER.into(),
        config,
        group: group("C-R3F-x"),
        ..ConsumerAssignment::default()
    }
}

fn unsupported(level: i64) -> String {
    format!("unsupported - required API level: {level}, current API level: 3")
}

/// That a stream is offline for this reason, everywhere where one can ask, and that no server is
/// unhealthy for that.
fn expect_offline(servers: &mut Servers, stream: &str, reason: &str) {
    let info = servers.api(&format!("STREAM.INFO.{stream}"), "");
    let error = json!({
        "code": 500, "err_code": 10194, "description": format!("stream is offline: {reason}"),
    });
    assert_eq!(info["error"], error);
    assert_eq!(servers.api("STREAM.NAMES", "")["streams"], json!([stream]));
    let list = servers.api("STREAM.LIST", "");
    assert_eq!(list["streams"], json!([]));
    assert_eq!(list["missing"], json!([stream]));
    assert_eq!(list["offline"], json!({ stream: reason }));
    assert!((0..3).all(|at| servers.group(at, stream).is_none()), "it runs nowhere");
    assert!((0..3).all(|at| servers.healthy(at)));
}

/// That the consumer is offline for this reason, and its stream with it.
fn expect_consumer_offline(servers: &mut Servers, others: &[&str], reason: &str) {
    let info = servers.api(&format!("CONSUMER.INFO.{CONSUMER}.{CONSUMER}"), "");
    let error = json!({
        "code": 500, "err_code": 10195, "description": format!("consumer is offline: {reason}"),
    });
    assert_eq!(info["error"], error);
    let all: Vec<_> = [CONSUMER].iter().chain(others).collect();
    assert_eq!(servers.api(&format!("CONSUMER.NAMES.{CONSUMER}"), "")["consumers"], json!(all));
    let list = servers.api(&format!("CONSUMER.LIST.{CONSUMER}"), "");
    assert_eq!(list["consumers"], json!([]));
    assert_eq!(list["missing"], json!(all));
    assert_eq!(list["offline"], json!({ CONSUMER: reason }));
    let stopped = format!("stopped - unsupported consumer {CONSUMER:?}");
    expect_offline(servers, CONSUMER, &stopped);
}

/// What the meta group's snapshot keeps; taken by the restart before.
fn snapshot(servers: &mut Servers) -> MetaSnapshot {
    let leader = servers.leader().expect("it is led");
    servers.ask(leader, META, Request::Snapshot);
    MetaSnapshot::decode(&servers.meta_snapshot(leader), &Limits::default()).expect("it is whole")
}

/// The level that a stream requires in the snapshot, and those of its consumers.
fn levels(servers: &mut Servers) -> (String, Vec<(String, String)>) {
    let snapshot = snapshot(servers);
    let [stream] = &snapshot.streams[..] else { panic!("{snapshot:?}") };
    let level = |metadata: &std::collections::BTreeMap<String, String>| {
        metadata.get("_nats.req.level").cloned().unwrap_or_default()
    };
    let of = |one: &ConsumerAssignment| (one.config.name.clone(), level(&one.config.metadata));
    (level(&stream.stream.config.metadata), stream.consumers.iter().map(of).collect())
}

fn create_supported(servers: &mut Servers) {
    let wish = format!(r#"{{"name":"{CONSUMER}","num_replicas":3}}"#);
    let made = servers.api(&format!("STREAM.CREATE.{CONSUMER}"), &wish);
    assert_eq!(made["did_create"], true, "{made}");
    servers.wait(Duration::from_secs(2));
}

/// Red when an unsupported stream is dropped or started, when what came later does not say why
/// anew, or when a snapshot loses what was not understood.
#[test]
fn jetstream_cluster_offline_stream_and_consumer_after_asset_create_or_update() {
    let mut servers = Servers::led(3);
    servers.propose(requiring(Some(HIGH)).encode_assign());
    expect_offline(&mut servers, STREAM, &unsupported(HIGH));
    servers.restart();
    expect_offline(&mut servers, STREAM, &unsupported(HIGH));
    assert_eq!(levels(&mut servers).0, HIGH.to_string());

    servers.propose(requiring(Some(HIGHEST)).encode_update());
    expect_offline(&mut servers, STREAM, &unsupported(HIGHEST));
    servers.restart();
    expect_offline(&mut servers, STREAM, &unsupported(HIGHEST));
    assert_eq!(levels(&mut servers).0, HIGHEST.to_string());

    // What cannot run can be removed.
    let removed = servers.api(&format!("STREAM.DELETE.{STREAM}"), "");
    assert_eq!(removed["success"], true, "{removed}");
    servers.wait(Duration::from_secs(1));
    assert_eq!(snapshot(&mut servers), MetaSnapshot::default());

    create_supported(&mut servers);
    let wish = format!(r#"{{"stream_name":"{CONSUMER}","config":{{"name":"consumer"}}}}"#);
    let made = servers.api(&format!("CONSUMER.CREATE.{CONSUMER}.consumer"), &wish);
    assert_eq!(made["name"], "consumer", "{made}");
    servers.propose(consumer_requiring(Some(HIGH)).encode_assign());
    expect_consumer_offline(&mut servers, &["consumer"], &unsupported(HIGH));
    servers.restart();
    expect_consumer_offline(&mut servers, &["consumer"], &unsupported(HIGH));
    let supported = ("consumer".to_string(), "0".to_string());
    let expected = vec![(CONSUMER.to_string(), HIGH.to_string()), supported.clone()];
    assert_eq!(levels(&mut servers), ("0".to_string(), expected));

    servers.propose(consumer_requiring(Some(HIGHEST)).encode_assign_compressed());
    expect_consumer_offline(&mut servers, &["consumer"], &unsupported(HIGHEST));
    servers.restart();
    expect_consumer_offline(&mut servers, &["consumer"], &unsupported(HIGHEST));
    let expected = vec![(CONSUMER.to_string(), HIGHEST.to_string()), supported.clone()];
    assert_eq!(levels(&mut servers), ("0".to_string(), expected));

    let removed = servers.api(&format!("CONSUMER.DELETE.{CONSUMER}.{CONSUMER}"), "");
    assert_eq!(removed["success"], true, "{removed}");
    servers.wait(Duration::from_secs(1));
    assert_eq!(levels(&mut servers), ("0".to_string(), vec![supported]));
    // Nothing of it is left that a restart would not start.
    servers.restart();
    servers.wait_for("a leader", |servers| servers.stream_leader(CONSUMER).is_some());
    assert_eq!(servers.complaints, [""; 0]);
}

/// Red when a stream that runs goes on after it was changed to what is not understood.
#[test]
fn jetstream_cluster_offline_stream_and_consumer_after_downgrade() {
    let mut servers = Servers::led(3);
    servers.propose(requiring(None).encode_assign());
    expect_online(&mut servers, STREAM);
    assert_eq!(servers.publish(STREAM, "DowngradeStreamTest.a", "kept")["seq"], 1);
    servers.restart();
    expect_online(&mut servers, STREAM);
    assert_eq!(levels(&mut servers).0, "");

    servers.propose(requiring(Some(HIGHEST)).encode_update());
    expect_offline(&mut servers, STREAM, &unsupported(HIGHEST));
    servers.restart();
    expect_offline(&mut servers, STREAM, &unsupported(HIGHEST));
    assert_eq!(levels(&mut servers).0, HIGHEST.to_string());
    assert!((0..3).all(|at| servers.on_disk(at) == ["S-R3F-x"]), "what it held is kept");
    assert_eq!(servers.api(&format!("STREAM.DELETE.{STREAM}"), "")["success"], true);
    servers.wait(Duration::from_secs(1));
    assert_eq!(snapshot(&mut servers), MetaSnapshot::default());
    assert!((0..3).all(|at| servers.on_disk(at).is_empty()));

    create_supported(&mut servers);
    servers.propose(consumer_requiring(None).encode_assign());
    let runs = |servers: &mut Servers| {
        let led = |servers: &Servers| servers.consumer_leader(CONSUMER, CONSUMER).is_some();
        servers.wait_for("a leader of the consumer", led);
        let info = servers.api(&format!("CONSUMER.INFO.{CONSUMER}.{CONSUMER}"), "");
        assert_eq!((&info["error"], &info["name"]), (&json!(null), &json!(CONSUMER)));
    };
    runs(&mut servers);
    servers.restart();
    runs(&mut servers);
    expect_online(&mut servers, CONSUMER);

    servers.propose(consumer_requiring(Some(HIGHEST)).encode_assign());
    expect_consumer_offline(&mut servers, &[], &unsupported(HIGHEST));
    servers.restart();
    expect_consumer_offline(&mut servers, &[], &unsupported(HIGHEST));
    let expected = vec![(CONSUMER.to_string(), HIGHEST.to_string())];
    assert_eq!(levels(&mut servers), ("0".to_string(), expected));
    assert_eq!(servers.complaints, [""; 0]);
}

fn expect_online(servers: &mut Servers, stream: &str) {
    servers.wait_for("a leader", |servers| servers.stream_leader(stream).is_some());
    let info = servers.api(&format!("STREAM.INFO.{stream}"), "");
    assert_eq!((&info["error"], &info["config"]["name"]), (&json!(null), &json!(stream)));
    servers.wait_for("health", |servers| (0..3).all(|at| servers.healthy(at)));
}

/// Red when a stream that ours cannot be is opened, or dropped.
#[test]
fn a_stream_of_a_kind_that_ours_cannot_be_is_kept_offline() {
    let mut servers = Servers::led(3);
    let mut stream = requiring(None);
    stream.config.retention = RetentionPolicy::Interest;
    servers.propose(stream.encode_assign());
    expect_offline(&mut servers, STREAM, "stopped - retention: not supported yet");
    // And one that runs, once it is changed as only a restart could take it up.
    servers.propose(stream.encode_remove());
    let mut stream = requiring(None);
    servers.propose(stream.encode_assign());
    expect_online(&mut servers, STREAM);
    stream.config.max_msgs = 1;
    servers.propose(stream.encode_update());
    expect_offline(&mut servers, STREAM, "stopped - max_msgs: can not be changed yet");
    servers.restart();
    expect_online(&mut servers, STREAM);
}

/// Red when a removal erases by the group's name alone.
#[test]
fn what_lies_under_a_name_that_was_given_twice_is_not_erased_with_one_of_them() {
    let mut servers = Servers::led(3);
    servers.propose(requiring(None).encode_assign());
    assert_eq!(servers.publish(STREAM, "DowngradeStreamTest.a", "kept")["seq"], 1);
    servers.propose(requiring(Some(HIGHEST)).encode_update());
    expect_offline(&mut servers, STREAM, &unsupported(HIGHEST));
    let mut other = requiring(None);
    other.config.name = "OTHER".into();
    other.config.subjects = vec!["other".into()];
    servers.propose(other.encode_assign());
    servers.propose(other.encode_remove());
    assert!((0..3).all(|at| servers.on_disk(at) == ["S-R3F-x"]));
}
