//! Streams and consumers as the meta group assigns them to servers: `jetstream_cluster_*_test.go` of
//! upstream.

use jetwake::consumer::Wish;
use jetwake::ids::Sequence;
use jetwake::time::Duration;
use serde_json::{Value, json};

use super::{consume, create};
use crate::rig::{META, Servers, api};

/// How many messages of a stream each server's disk holds.
fn copies(servers: &Servers, stream: &str) -> Vec<Option<usize>> {
    (0..servers.count()).map(|at| servers.stored(at, stream)).collect()
}

/// Red when a second wish of the same is refused, or made anew.
#[test]
fn jetstream_cluster_double_add() {
    let mut servers = Servers::led(3);
    let first = create(&mut servers, "TEST", "");
    let again = create(&mut servers, "TEST", "");
    assert_eq!(again["cluster"]["raft_group"], first["cluster"]["raft_group"]);
    let first = consume(&mut servers, "TEST", "");
    let again = consume(&mut servers, "TEST", "");
    assert_eq!(again["created"], first["created"]);
}

/// Red when what was filled in makes the same wish another one.
#[test]
fn jetstream_clustered_stream_create_idempotent() {
    let mut servers = Servers::led(3);
    let audit = r#","storage":"memory","deny_delete":true,"deny_purge":true"#;
    let first = create(&mut servers, "AUDIT", audit);
    let again = create(&mut servers, "AUDIT", audit);
    assert_eq!(again["cluster"]["raft_group"], first["cluster"]["raft_group"]);
    assert_eq!((&first["did_create"], &again["did_create"]), (&json!(true), &Value::Null));
}

/// There are no accounts to ask: the list of streams says that none is left.
/// Red when a stream cannot go after its consumer.
#[test]
fn jetstream_cluster_delete() {
    let mut servers = Servers::led(3);
    create(&mut servers, "C22", r#","max_msgs":100,"subjects":["foo","bar","baz"]"#);
    consume(&mut servers, "C22", "");
    assert_eq!(servers.api("CONSUMER.DELETE.C22.d", "")["success"], true);
    assert_eq!(servers.api("STREAM.DELETE.C22", "")["success"], true);
    assert_eq!(servers.api("STREAM.NAMES", "")["total"], 0);
    servers.wait(Duration::from_secs(2));
    assert!((0..3).all(|at| servers.on_disk(at).is_empty()));
}

/// Red when a list is not filtered by what a stream takes.
#[test]
fn jetstream_cluster_list_filter() {
    let mut servers = Servers::led(3);
    create(&mut servers, "ONE", r#","subjects":["one.>"]"#);
    create(&mut servers, "TWO", r#","subjects":["two.>"]"#);
    servers.wait(Duration::from_secs(2));
    let names = |list: &Value| -> Vec<String> {
        let streams = list["streams"].as_array().expect("a list").iter();
        streams.map(|stream| stream["config"]["name"].as_str().expect("a name").into()).collect()
    };
    assert_eq!(names(&servers.api("STREAM.LIST", "{}")), ["ONE", "TWO"]);
    assert_eq!(names(&servers.api("STREAM.LIST", r#"{"subject":"two.x"}"#)), ["TWO"]);
}

/// Placement cannot be changed while a stream runs here: upstream sets it, and takes it back.
/// Red when an empty placement stays.
#[test]
fn jetstream_cluster_unset_empty_placement() {
    let mut servers = Servers::led(3);
    let empty = r#","placement":{}"#;
    assert_eq!(create(&mut servers, "TEST", empty)["config"]["placement"], Value::Null);
    let config = format!(r#"{{"name":"TEST","num_replicas":3{empty}}}"#);
    let told = servers.api("STREAM.UPDATE.TEST", &config);
    assert_eq!((&told["error"], &told["config"]["placement"]), (&Value::Null, &Value::Null));
    let placed = create(&mut servers, "OTHER", r#","placement":{"cluster":"C"}"#);
    assert_eq!(placed["config"]["placement"]["cluster"], "C");
}

/// Twenty clients wish for the same at once.
/// Red when wishes in flight do not count, and each makes a group of its own.
#[test]
fn jetstream_cluster_parallel_stream_creation_dupe_raft_groups() {
    let mut servers = Servers::led(3);
    let leader = servers.leader().expect("it is led");
    let config = r#"{"name":"TEST","subjects":["common.*.*"],"num_replicas":3}"#;
    let ids: Vec<_> =
        (0..20).map(|_| servers.ask(leader, META, api("STREAM.CREATE.TEST", config))).collect();
    servers.wait(Duration::from_secs(5));
    for id in ids {
        let told = servers.answer(id).expect("each is answered");
        assert_eq!(told["error"], Value::Null, "{told}");
    }
    let at = (leader + 1) % 3;
    servers.stop(at);
    servers.start(at);
    servers.wait(Duration::from_secs(15));
    let groups: std::collections::BTreeSet<_> = (0..3).flat_map(|at| servers.on_disk(at)).collect();
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert!((0..3).all(|at| servers.open_groups(at).len() == 1));
}

/// Red when an ephemeral consumer is put on a server that is offline.
#[test]
fn jetstream_cluster_create_ephemeral_consumer_with_offline_nodes() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", "");
    servers.wait(Duration::from_secs(3));
    let gone = (servers.leader().expect("it is led") + 1) % 3;
    servers.stop(gone);
    servers.wait_for("a leader of the stream", |servers| servers.stream_leader("TEST").is_some());
    servers.wait(Duration::from_secs(15));
    for _ in 0..10 {
        let told = servers.api("CONSUMER.CREATE.TEST", r#"{"stream_name":"TEST","config":{}}"#);
        assert_eq!(told["error"], Value::Null, "{told}");
        let name = told["name"].as_str().expect("a name").to_string();
        servers.wait_for("a leader of the consumer", |servers| {
            servers.consumer_leader("TEST", &name).is_some()
        });
        assert_ne!(servers.consumer_leader("TEST", &name), Some(gone));
    }
}

/// Upstream's server was shut down with its log ahead of what it applied; here it is away meanwhile, and
/// the first message waits for it, as a new group has to hear all its members once.
/// Red when a stream that was made anew under its name keeps what the one before it had.
#[test]
fn jetstream_cluster_meta_recovery_recreate_stream() {
    for by_snapshot in [false, true] {
        let mut servers = Servers::led(3);
        create(&mut servers, "TEST", "");
        for _ in 0..5 {
            servers.publish("TEST", "TEST", "");
        }
        servers.wait_for("all of it", |servers| copies(servers, "TEST") == [Some(5); 3]);
        let away = (servers.leader().expect("it is led") + 1) % 3;
        servers.stop(away);
        assert_eq!(servers.api("STREAM.DELETE.TEST", "")["success"], true);
        create(&mut servers, "TEST", "");
        create(&mut servers, "RANDOM", "");
        if by_snapshot {
            let leader = servers.leader().expect("it is led");
            servers.ask(leader, META, jetwake::event::Request::Snapshot);
        }
        servers.start(away);
        assert_eq!(servers.publish("TEST", "TEST", "")["seq"], 1);
        servers.wait_for("the new one", |servers| copies(servers, "TEST") == [Some(1); 3]);
        servers.wait(Duration::from_secs(5));
        assert_eq!(servers.on_disk(away).len(), 2, "nothing is left of the old one");
    }
}

/// Upstream's server was shut down with its log ahead of what it applied; here it is away meanwhile, and
/// the first delivery waits for it, as a new group has to hear all its members once.
/// Red when a consumer that was made anew keeps what the one before it delivered.
#[test]
fn jetstream_cluster_meta_recovery_recreate_consumer() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", "");
    let each = |servers: &mut Servers, sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            let sequence = Sequence::new(sequence);
            servers.step("TEST", "d", Wish::Deliver { sequence });
            let wish = Wish::Acknowledge { sequence, delivery: sequence };
            assert_eq!(servers.step("TEST", "d", wish)["success"], true);
        }
    };
    consume(&mut servers, "TEST", r#","num_replicas":3"#);
    each(&mut servers, 1..=5);
    servers.wait(Duration::from_secs(2));
    let away = (servers.leader().expect("it is led") + 1) % 3;
    servers.stop(away);
    assert_eq!(servers.api("CONSUMER.DELETE.TEST.d", "")["success"], true);
    consume(&mut servers, "TEST", r#","num_replicas":3"#);
    servers.wait(Duration::from_secs(3));
    servers.start(away);
    each(&mut servers, 1..=1);
    servers.wait(Duration::from_secs(15));
    // It has it from the others, and tells it when it leads.
    let others: Vec<_> = (0..3).filter(|at| *at != away).collect();
    for _ in 0..20 {
        if servers.consumer_leader("TEST", "d") == Some(away) {
            break;
        }
        let Some(leads) = servers.consumer_leader("TEST", "d") else {
            servers.wait(Duration::from_secs(1));
            continue;
        };
        assert!(others.contains(&leads));
        servers.stop(leads);
        servers.wait(Duration::from_secs(12));
        servers.start(leads);
        servers.wait(Duration::from_secs(5));
    }
    assert_eq!(servers.consumer_leader("TEST", "d"), Some(away));
    let info = servers.consumer_info("TEST", "d");
    assert_eq!(info["ack_floor"]["stream_seq"], 1, "{info}");
    assert_eq!(info["delivered"]["stream_seq"], 1, "{info}");
}

/// Red when a server that was away keeps the group of a consumer that a snapshot no longer has.
#[test]
fn jetstream_cluster_recreate_consumer_from_meta_snapshot() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", "");
    servers.publish("TEST", "TEST", "");
    consume(&mut servers, "TEST", "");
    servers.wait_for("the consumer everywhere", |servers| {
        (0..3).all(|at| servers.consumer_runs(at, "TEST", "d"))
    });
    let away = (servers.leader().expect("it is led") + 1) % 3;
    servers.stop(away);
    let before = servers.on_disk((away + 1) % 3);
    assert_eq!(servers.api("CONSUMER.DELETE.TEST.d", "")["success"], true);
    consume(&mut servers, "TEST", "");
    servers.wait(Duration::from_secs(3));
    for at in (0..3).filter(|at| *at != away) {
        servers.ask(at, META, jetwake::event::Request::Snapshot);
    }
    servers.start(away);
    servers.wait(Duration::from_secs(15));
    let groups: Vec<_> = (0..3).map(|at| servers.open_groups(at)).collect();
    let sorted = |mut groups: Vec<String>| {
        groups.sort();
        groups
    };
    let first = sorted(groups[0].clone());
    assert!(groups.into_iter().all(|each| sorted(each) == first));
    assert_ne!(first, sorted(before), "the consumer has another group");
    assert_eq!(servers.on_disk(away).len(), 2);
}

/// Red when a server that dies behind a creation forgets what it acknowledged.
#[test]
fn jetstream_cluster_hard_kill_after_stream_add() {
    let mut servers = Servers::led(3);
    let told = create(&mut servers, "TEST", "");
    // The rig's disks have what was written, and no more: this is the moment.
    servers.restart_as_they_are();
    let info = servers.api("STREAM.INFO.TEST", "");
    assert_eq!(info["error"], Value::Null, "{info}");
    assert_eq!(info["created"], told["created"]);
    assert_eq!(servers.publish("TEST", "TEST", "")["seq"], 1);
}
