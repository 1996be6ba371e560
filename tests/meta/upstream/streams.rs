//! Streams whose servers come and go: `jetstream_cluster_*_test.go` of upstream.

use jetwake::event::Request;
use jetwake::ids::Sequence;
use jetwake::time::Duration;
use serde_json::Value;

use super::{consume, create};
use crate::rig::{META, Servers, published};

/// Publishes so many messages.
fn send(servers: &mut Servers, count: u64) {
    for _ in 0..count {
        let told = servers.publish("TEST", "foo", "HELLO JSC");
        assert_eq!(told["error"], Value::Null, "{told}");
    }
}

fn delete(servers: &mut Servers, sequence: u64) {
    let told = servers.ask_stream("TEST", Request::Delete { sequence: Sequence::new(sequence) });
    assert_eq!(told["success"], true, "{told}");
}

/// Lets time pass until every replica has the same messages, and says what they have.
fn same_everywhere(servers: &mut Servers, messages: usize) -> Value {
    servers.wait_for("the same everywhere", |servers| {
        (0..servers.count()).all(|at| servers.stored(at, "TEST") == Some(messages))
    });
    servers.wait(Duration::from_secs(5));
    let states: Vec<_> =
        (0..servers.count()).map(|at| servers.stream_info(at, "TEST")["state"].clone()).collect();
    assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
    assert!((0..servers.count()).all(|at| servers.healthy(at)));
    states[0].clone()
}

/// Stops the leader of the stream; another leads when this returns.
fn stop_leader(servers: &mut Servers) -> usize {
    let leads = servers.stream_leader("TEST").expect("it is led");
    servers.stop(leads);
    servers.wait_for("another leader", |servers| {
        servers.stream_leader("TEST").is_some() && servers.leader().is_some()
    });
    leads
}

/// Red when a member that was away does not get records, or does not apply a delete among them.
#[test]
fn jetstream_cluster_stream_normal_catchup() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo","bar"]"#);
    send(&mut servers, 10);
    let away = stop_leader(&mut servers);
    send(&mut servers, 11);
    delete(&mut servers, 10);
    servers.start(away);
    let state = same_everywhere(&mut servers, 20);
    assert_eq!((&state["first_seq"], &state["last_seq"]), (&1.into(), &21.into()), "{state}");
}

/// Red when what was deleted before a snapshot, or behind it, comes back with a catchup.
#[test]
fn jetstream_cluster_stream_snapshot_catchup() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo"]"#);
    send(&mut servers, 2);
    let away = stop_leader(&mut servers);
    send(&mut servers, 100);
    delete(&mut servers, 51);
    delete(&mut servers, 52);
    let taken = servers.ask_stream("TEST", Request::Snapshot);
    assert!(taken["compacted"].as_u64().is_some_and(|index| index > 0), "{taken}");
    delete(&mut servers, 101);
    send(&mut servers, 100);
    servers.start(away);
    let state = same_everywhere(&mut servers, 199);
    assert_eq!((&state["first_seq"], &state["last_seq"]), (&1.into(), &202.into()), "{state}");
}

/// One server loses all that it had, and later all are started again.
/// Red when a server without a disk takes part before it has all again.
#[test]
fn jetstream_cluster_multi_restart_bug() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo","bar"]"#);
    send(&mut servers, 200);
    same_everywhere(&mut servers, 200);
    let lost = 1;
    servers.stop(lost);
    servers.lose_disk(lost);
    servers.start(lost);
    same_everywhere(&mut servers, 200);
    servers.restart_as_they_are();
    servers.wait_for("a leader", |servers| servers.stream_leader("TEST").is_some());
    let state = same_everywhere(&mut servers, 200);
    assert_eq!(state["last_seq"], 200, "{state}");
    assert_eq!(servers.publish("TEST", "foo", "")["seq"], 201);
}

/// Red when a message that had no quorum is in the log of who leads later.
#[test]
fn jetstream_cluster_desync_after_publish_to_leader_without_quorum() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo"]"#);
    servers.wait_for("a leader", |servers| servers.stream_leader("TEST").is_some());
    servers.wait(Duration::from_secs(3));
    let leads = servers.stream_leader("TEST").expect("it is led");
    let group = servers.group(leads, "TEST").expect("it leads it");
    let followers: Vec<_> = (0..3).filter(|at| *at != leads).collect();
    followers.iter().for_each(|at| servers.stop(*at));
    let first = servers.ask(leads, group, published("foo", "first"));
    servers.wait(Duration::from_secs(1));
    assert_eq!(servers.answer(first), None, "it is on one disk alone");
    servers.stop(leads);
    followers.iter().for_each(|at| servers.start(*at));
    servers.wait_for("a leader", |servers| servers.leader().is_some());
    let retry = servers.publish("TEST", "foo", "first, this is a retry");
    assert_eq!(retry["seq"], 1, "{retry}");
    servers.start(leads);
    let state = same_everywhere(&mut servers, 1);
    assert_eq!((&state["messages"], &state["last_seq"]), (&1.into(), &1.into()), "{state}");
}

/// Red when a server that was away keeps a consumer, told by the log or by a snapshot.
#[test]
fn jetstream_cluster_delete_consumer_while_server_down() {
    for by_snapshot in [false, true] {
        let mut servers = Servers::led(3);
        create(&mut servers, "TEST", r#","subjects":["foo"]"#);
        consume(&mut servers, "TEST", r#","num_replicas":3"#);
        servers.wait_for("the consumer", |servers| {
            servers.consumer_leader("TEST", "d").is_some()
                && (0..3).all(|at| servers.consumer_runs(at, "TEST", "d"))
        });
        let leads = servers.consumer_leader("TEST", "d").expect("it is led");
        let away = (leads + 1) % 3;
        servers.stop(away);
        servers.wait_for("a leader", |servers| servers.leader().is_some());
        assert_eq!(servers.api("CONSUMER.DELETE.TEST.d", "")["success"], true);
        if by_snapshot {
            let leader = servers.leader().expect("it is led");
            servers.ask(leader, META, Request::Snapshot);
        }
        servers.start(away);
        servers.wait(Duration::from_secs(15));
        assert!(!servers.consumer_runs(away, "TEST", "d"));
        assert!(servers.healthy(away));
        assert_eq!(servers.on_disk(away).len(), 1, "only the stream is left");
    }
}

/// Streams of one replica come and go while a server is away.
/// Red when a server that was away does not get a snapshot, or a removal behind it.
#[test]
fn jetstream_cluster_meta_snapshots_and_catchup() {
    let mut servers = Servers::led(3);
    servers.wait(Duration::from_secs(3));
    let away = (servers.leader().expect("it is led") + 1) % 3;
    servers.stop(away);
    servers.wait(Duration::from_secs(15));
    for number in 1..=4 {
        let config = format!(r#"{{"name":"T-{number}"}}"#);
        let told = servers.api(&format!("STREAM.CREATE.T-{number}"), &config);
        assert_eq!(told["error"], Value::Null, "{told}");
    }
    let leader = servers.leader().expect("it is led");
    servers.ask(leader, META, Request::Snapshot);
    servers.start(away);
    servers.wait(Duration::from_secs(10));
    assert!(servers.has_meta_snapshot(away) && servers.healthy(away));
    servers.stop(away);
    servers.wait_for("a leader", |servers| servers.leader().is_some());
    for number in 1..=4 {
        let told = servers.api(&format!("STREAM.DELETE.T-{number}"), "");
        assert_eq!(told["success"], true, "{told}");
    }
    servers.start(away);
    servers.wait(Duration::from_secs(10));
    assert!(servers.healthy(away));
    assert!((0..3).all(|at| servers.on_disk(at).is_empty()));
}
