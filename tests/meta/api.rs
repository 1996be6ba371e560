//! Streams and consumers from their creation to their removal, by JetStream's API.

use bytes::Bytes;
use jetwake::consumer::Wish;
use jetwake::event::Request;
use jetwake::ids::Sequence;
use jetwake::time::Duration;
use serde_json::json;

use crate::rig::{META, Servers, api};

fn stream(name: &str, more: &str) -> String {
    format!(r#"{{"name":"{name}","subjects":["{name}.>"],"num_replicas":3{more}}}"#)
}

fn create(servers: &mut Servers, name: &str) {
    let answer = servers.api(&format!("STREAM.CREATE.{name}"), &stream(name, ""));
    assert_eq!(answer["did_create"], true, "{answer}");
}

fn everywhere(servers: &Servers, so: impl Fn(usize) -> bool) -> bool {
    let _ = servers;
    (0..3).all(so)
}

/// Red when `Node::follow_assignments` opens nothing, or a removal erases nothing.
#[test]
fn a_stream_lives_from_its_creation_to_its_removal() {
    let mut servers = Servers::led(3);
    let answer = servers.api("STREAM.CREATE.S", &stream("S", ""));
    assert_eq!(answer["type"], "io.nats.jetstream.api.v1.stream_create_response");
    assert_eq!(answer["did_create"], true);
    assert_eq!(answer["config"]["max_msgs"], -1, "what was left out is filled in");
    assert_eq!(answer["config"]["metadata"]["_nats.req.level"], "0");
    assert_eq!(answer["cluster"]["name"], "C");
    assert_eq!(servers.publish("S", "S.a", "one")["seq"], 1);
    servers.wait(Duration::from_secs(2));
    assert!(everywhere(&servers, |at| servers.stored(at, "S") == Some(1)));

    // The same again is no error, and changes nothing.
    let again = servers.api("STREAM.CREATE.S", &stream("S", ""));
    assert_eq!((&again["did_create"], &again["error"]), (&json!(null), &json!(null)), "{again}");
    assert_eq!(again["cluster"]["raft_group"], answer["cluster"]["raft_group"]);

    servers.restart_as_they_are();
    assert_eq!(servers.publish("S", "S.a", "two")["seq"], 2, "it goes on after a restart");
    servers.wait(Duration::from_secs(2));
    assert!(everywhere(&servers, |at| servers.stored(at, "S") == Some(2)));
    servers.restart();
    assert_eq!(servers.publish("S", "S.a", "three")["seq"], 3, "and from a snapshot");
    let info = servers.api("STREAM.INFO.S", "");
    assert_eq!(info["state"]["messages"], 3);
    assert_eq!(info["created"], answer["created"]);

    let answer = servers.api("STREAM.DELETE.S", "");
    assert_eq!(answer["success"], true, "{answer}");
    servers.wait(Duration::from_secs(2));
    assert!(everywhere(&servers, |at| servers.on_disk(at).is_empty()));
    assert!(everywhere(&servers, |at| servers.group(at, "S").is_none()));
    assert_eq!(servers.refused("STREAM.INFO.S", ""), Some(10059));
    servers.restart();
    assert!(everywhere(&servers, |at| servers.opened(at).is_empty()));
    create(&mut servers, "S");
    assert_eq!(servers.publish("S", "S.a", "anew")["seq"], 1, "nothing of the old one is left");
    assert_eq!(servers.complaints, [""; 0]);
}

/// Red when an installed snapshot closes or erases nothing, or opens nothing.
#[test]
fn a_server_that_was_away_catches_up_with_what_was_assigned() {
    let mut servers = Servers::led(3);
    for name in ["KEPT", "GONE", "ANEW"] {
        create(&mut servers, name);
        servers.publish(name, &format!("{name}.a"), "one");
    }
    servers.wait(Duration::from_secs(3));
    let away = (0..3).find(|at| Some(*at) != servers.leader()).expect("two follow");
    let before = servers.on_disk(away);
    assert_eq!(before.len(), 3);
    servers.stop(away);
    servers.wait(Duration::from_secs(15));
    let answer = servers.api("STREAM.UPDATE.KEPT", &stream("KEPT", r#","max_msg_size":3"#));
    assert_eq!(answer["config"]["max_msg_size"], 3, "{answer}");
    for name in ["GONE", "ANEW"] {
        assert_eq!(servers.api(&format!("STREAM.DELETE.{name}"), "")["success"], true);
    }
    create(&mut servers, "ANEW");
    create(&mut servers, "NEW");
    // What the others have is in a snapshot, and no longer in their log.
    for at in (0..3).filter(|at| *at != away) {
        servers.ask(at, META, Request::Snapshot);
    }
    servers.start(away);
    servers.wait(Duration::from_secs(20));
    for name in ["KEPT", "ANEW", "NEW"] {
        assert!(servers.group(away, name).is_some(), "{name}");
    }
    assert_eq!(servers.group(away, "GONE"), None);
    let after = servers.on_disk(away);
    assert_eq!(after.len(), 3, "GONE and the old ANEW are erased: {after:?}");
    assert_eq!(after.iter().filter(|name| before.contains(name)).count(), 1);
    assert!(servers.healthy(away));
    // It has what was published meanwhile, and holds to the new configuration.
    assert_eq!(servers.publish("KEPT", "KEPT.a", "two")["seq"], 2);
    servers.wait(Duration::from_secs(2));
    assert_eq!(servers.stored(away, "KEPT"), Some(2));
    let long = servers.publish("KEPT", "KEPT.a", "four");
    assert_eq!(long["error"]["err_code"], 10054, "{long}");
}

/// It stops again when it has the snapshot that does not name the stream any more, in place of the
/// log that did, and not yet what comes behind it.
///
/// Red when `Meta::install` leaves until later what a snapshot says to be gone.
#[test]
fn what_is_gone_is_erased_by_a_server_that_starts_twice() {
    let mut servers = Servers::led(3);
    create(&mut servers, "GONE");
    servers.wait(Duration::from_secs(2));
    let away = (0..3).find(|at| Some(*at) != servers.leader()).expect("two follow");
    servers.stop(away);
    assert_eq!(servers.api("STREAM.DELETE.GONE", "")["success"], true);
    for at in (0..3).filter(|at| *at != away) {
        servers.ask(at, META, Request::Snapshot);
    }
    create(&mut servers, "NEW");
    servers.wait(Duration::from_secs(2));
    assert_eq!(servers.on_disk(away).len(), 1);
    servers.start(away);
    servers.wait_for("a snapshot", |servers| servers.has_meta_snapshot(away));
    assert!(servers.group(away, "NEW").is_none(), "it would be too late");
    servers.stop(away);
    servers.start(away);
    servers.wait(Duration::from_secs(20));
    assert!(servers.group(away, "NEW").is_some());
    assert_eq!(servers.on_disk(away).len(), 1, "{:?}", servers.on_disk(away));
    assert_eq!(servers.complaints, [""; 0]);
}

/// Red when a snapshot that a running server is sent erases nothing, or closes nothing.
#[test]
fn a_server_that_was_cut_off_is_told_by_a_snapshot_what_is_gone() {
    let mut servers = Servers::led(3);
    create(&mut servers, "KEPT");
    create(&mut servers, "GONE");
    servers.wait(Duration::from_secs(2));
    let away = (0..3).find(|at| Some(*at) != servers.leader()).expect("two follow");
    servers.cut_off(away, true);
    servers.wait(Duration::from_secs(1));
    assert_eq!(servers.api("STREAM.DELETE.GONE", "")["success"], true);
    create(&mut servers, "NEW");
    for at in (0..3).filter(|at| *at != away) {
        servers.ask(at, META, Request::Snapshot);
    }
    assert!(servers.group(away, "GONE").is_some());
    servers.cut_off(away, false);
    servers.wait(Duration::from_secs(20));
    assert!(servers.group(away, "GONE").is_none() && servers.group(away, "NEW").is_some());
    assert_eq!(servers.on_disk(away).len(), 2);
}

/// Red when `Meta::apply` does each step at once during a recovery.
#[test]
fn what_was_created_and_removed_again_is_never_opened_by_a_restart() {
    let mut servers = Servers::led(3);
    create(&mut servers, "A");
    create(&mut servers, "B");
    servers.wait(Duration::from_secs(2));
    let first = servers.opened(0);
    assert_eq!(servers.api("STREAM.DELETE.A", "")["success"], true);
    create(&mut servers, "A");
    servers.wait(Duration::from_secs(2));
    servers.restart_as_they_are();
    for at in 0..3 {
        let opened = servers.opened(at);
        assert_eq!(opened.len(), 2, "{opened:?}");
        assert_eq!(opened.iter().filter(|name| first.contains(name)).count(), 1, "only B's");
    }
}

/// Red when a removal that was committed and not performed before a crash is forgotten.
#[test]
fn what_was_removed_while_a_server_was_dying_is_erased_when_it_comes_back() {
    let mut servers = Servers::led(3);
    create(&mut servers, "A");
    servers.wait(Duration::from_secs(2));
    let away = (0..3).find(|at| Some(*at) != servers.leader()).expect("two follow");
    servers.stop(away);
    assert_eq!(servers.on_disk(away).len(), 1);
    assert_eq!(servers.api("STREAM.DELETE.A", "")["success"], true);
    // By the log, behind the assignment that it has there: never opened, and erased.
    servers.start(away);
    servers.wait(Duration::from_secs(5));
    assert_eq!((servers.opened(away), servers.on_disk(away)), (vec![], vec![]));
}

/// Red when the wait for a leader has no end.
#[test]
fn a_server_alone_begins_with_what_its_disk_says() {
    let mut servers = Servers::led(3);
    create(&mut servers, "A");
    servers.wait(Duration::from_secs(2));
    servers.ask(0, META, Request::Snapshot);
    for at in 0..3 {
        servers.stop(at);
    }
    servers.start(0);
    servers.wait(Duration::from_secs(5));
    assert_eq!(servers.group(0, "A"), None, "others may know more");
    servers.wait(Duration::from_secs(6));
    assert!(servers.group(0, "A").is_some());
}

/// Red when a stream that was changed is not told.
#[test]
fn what_a_leader_checks_is_changed_while_a_stream_runs() {
    let mut servers = Servers::led(3);
    create(&mut servers, "S");
    assert_eq!(servers.publish("S", "S.a", "one")["seq"], 1);
    let wider = r#"{"name":"S","subjects":["S.>","T.>"],"num_replicas":3,"description":"wider"}"#;
    let answer = servers.api("STREAM.UPDATE.S", wider);
    assert_eq!(answer["config"]["description"], "wider", "{answer}");
    servers.wait(Duration::from_secs(2));
    assert_eq!(servers.publish("S", "T.a", "two")["seq"], 2);
    servers.restart();
    assert_eq!(servers.publish("S", "T.a", "three")["seq"], 3);
    let refused = servers.api("STREAM.UPDATE.S", &stream("S", r#","max_msgs":5"#));
    assert_eq!(refused["error"]["description"], "max_msgs: can not be changed yet");
}

/// Red when decisions do not see what is in flight.
#[test]
fn two_wishes_that_come_together_do_not_both_come_true() {
    let mut servers = Servers::led(3);
    let leader = servers.leader().expect("it is led");
    // The followers are gone: nothing is committed.
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    others.iter().for_each(|at| servers.stop(*at));
    let first = servers.ask(leader, META, api("STREAM.CREATE.A", &stream("A", "")));
    let overlapping = r#"{"name":"B","subjects":["A.b"]}"#;
    let second = servers.ask(leader, META, api("STREAM.CREATE.B", overlapping));
    assert_eq!(servers.answer(first), None);
    let refused = servers.answer(second).expect("it is refused at once");
    assert_eq!(refused["error"]["err_code"], 10065, "{refused}");
    let gone = servers.ask(leader, META, api("STREAM.DELETE.A", ""));
    let second = servers.ask(leader, META, api("STREAM.CREATE.B", overlapping));
    assert_eq!(servers.answer(second), None, "A is as good as removed");
    others.iter().for_each(|at| servers.start(*at));
    servers.wait(Duration::from_secs(20));
    for id in [first, gone, second] {
        assert!(servers.answer(id).is_some());
    }
    assert!(servers.group(leader, "A").is_none());
}

/// Red when a client that waits is not told that leadership ended.
#[test]
fn who_waits_for_a_leader_that_lost_its_followers_is_told_so() {
    let mut servers = Servers::led(3);
    let leader = servers.leader().expect("it is led");
    (0..3).filter(|at| *at != leader).for_each(|at| servers.stop(at));
    let id = servers.ask(leader, META, api("STREAM.CREATE.A", &stream("A", "")));
    servers.wait(Duration::from_secs(30));
    let told = servers.answer(id).expect("it is told");
    assert_eq!(told["error"]["err_code"], 10008, "{told}");
    assert_eq!(told["type"], "io.nats.jetstream.api.v1.stream_create_response");
    let id = servers.ask(leader, META, api("STREAM.INFO.A", ""));
    assert_eq!(servers.answer(id).expect("at once")["error"]["err_code"], 10009);
}

/// Red when a forwarded entry is not checked before it is proposed.
#[test]
fn what_no_member_could_apply_is_not_proposed() {
    let mut servers = Servers::led(3);
    let leader = servers.leader().expect("it is led");
    for entry in [&b"\x04nothing of mine"[..], b"\x00{", b"", b"\xff"] {
        let payload = Bytes::copy_from_slice(entry);
        let id = servers.ask(leader, META, Request::Forward { payload });
        let answer = servers.answer(id).expect("at once");
        assert_eq!(answer["error"]["err_code"], 10025, "{answer}");
    }
    servers.wait(Duration::from_secs(3));
    create(&mut servers, "S");
    assert_eq!(servers.complaints, [""; 0]);
}

#[test]
fn consumers_are_created_changed_told_of_and_removed() {
    let mut servers = Servers::led(3);
    create(&mut servers, "S");
    let wish = |more: &str| {
        format!(
            r#"{{"stream_name":"S","config":{{"durable_name":"d","ack_policy":"explicit"{more}}}}}"#
        )
    };
    let answer = servers.api("CONSUMER.CREATE.S.d", &wish(""));
    assert_eq!(answer["type"], "io.nats.jetstream.api.v1.consumer_create_response");
    assert_eq!((&answer["name"], &answer["stream_name"]), (&json!("d"), &json!("S")), "{answer}");
    assert_eq!(answer["config"]["max_ack_pending"], 1000);
    let answer = servers.api("CONSUMER.CREATE.S.d", &wish(r#","description":"mine""#));
    assert_eq!(answer["config"]["description"], "mine");
    servers.restart();
    let info = servers.api("CONSUMER.INFO.S.d", "");
    assert_eq!(info["config"]["description"], "mine", "{info}");
    let names = servers.api("CONSUMER.NAMES.S", "");
    assert_eq!((&names["consumers"], &names["total"]), (&json!(["d"]), &json!(1)));
    let list = servers.api("CONSUMER.LIST.S", "");
    assert_eq!((&list["consumers"][0]["name"], &list["limit"]), (&json!("d"), &json!(256)));
    assert_eq!(servers.api("STREAM.INFO.S", "")["state"]["consumer_count"], 1);
    assert_eq!(servers.api("CONSUMER.DELETE.S.d", "")["success"], true);
    assert_eq!(servers.refused("CONSUMER.INFO.S.d", ""), Some(10014));
    assert_eq!(servers.api("CONSUMER.NAMES.S", "")["consumers"], json!([]));
}

#[test]
fn streams_are_named_and_listed_in_parts() {
    let mut servers = Servers::led(3);
    for name in ["A", "B", "C"] {
        create(&mut servers, name);
    }
    servers.wait(Duration::from_secs(2));
    let names = servers.api("STREAM.NAMES", "");
    assert_eq!(names["streams"], json!(["A", "B", "C"]));
    let rest = servers.api("STREAM.NAMES", r#"{"offset":2}"#);
    assert_eq!((&rest["streams"], &rest["total"]), (&json!(["C"]), &json!(3)));
    // As async-nats asks.
    let all = servers.api("STREAM.NAMES", r#"{"offset":0,"subject":null}"#);
    assert_eq!(all["total"], names["total"], "{all}");
    let of = servers.api("STREAM.NAMES", r#"{"subject":"B.x"}"#);
    assert_eq!(of["streams"], json!(["B"]));
    let list = servers.api("STREAM.LIST", r#"{"offset":1}"#);
    let told: Vec<_> =
        list["streams"].as_array().expect("a list").iter().map(|s| &s["config"]["name"]).collect();
    assert_eq!(told, ["B", "C"]);
    assert_eq!(list["missing"], json!(null));
}

/// A step of a consumer, asked of its leader.
fn step(servers: &mut Servers, wish: Wish) -> serde_json::Value {
    servers.step("S", "d", wish)
}

/// Red when a consumer's group is not opened, replicates nothing, or forgets its state.
#[test]
fn a_consumer_knows_what_it_delivered_wherever_it_goes_on() {
    let mut servers = Servers::led(3);
    create(&mut servers, "S");
    let wish = r#"{"stream_name":"S","config":{"durable_name":"d","ack_policy":"explicit"}}"#;
    servers.api("CONSUMER.CREATE.S.d", wish);
    let at = Sequence::new;
    let deliver = |sequence| Wish::Deliver { sequence: at(sequence) };
    let acknowledge =
        |sequence, delivery| Wish::Acknowledge { sequence: at(sequence), delivery: at(delivery) };
    let first = json!({ "consumer_seq": 1, "stream_seq": 1, "deliveries": 1 });
    assert_eq!(step(&mut servers, deliver(1)), first);
    step(&mut servers, deliver(2));
    assert_eq!(step(&mut servers, deliver(1))["deliveries"], 2);
    assert_eq!(step(&mut servers, acknowledge(1, 1))["success"], true);
    let told = |servers: &mut Servers| {
        let info = servers.api("CONSUMER.INFO.S.d", "");
        let pair = |field: &str| {
            (info[field]["consumer_seq"].as_u64(), info[field]["stream_seq"].as_u64())
        };
        (pair("delivered"), pair("ack_floor"), info["num_ack_pending"].as_u64())
    };
    let expected = ((Some(3), Some(2)), (Some(1), Some(1)), Some(1));
    servers.wait(Duration::from_secs(2));
    assert_eq!(told(&mut servers), expected);
    // From the log, and from a snapshot of it.
    servers.restart_as_they_are();
    servers.wait_for("a leader", |servers| servers.consumer_leader("S", "d").is_some());
    servers.wait(Duration::from_secs(2));
    assert_eq!(told(&mut servers), expected);
    (0..3).for_each(|at| servers.snapshot_consumer(at, "S", "d"));
    servers.restart();
    assert_eq!(step(&mut servers, deliver(2))["deliveries"], 2);
    assert_eq!(step(&mut servers, acknowledge(2, 2))["success"], true);
    servers.wait(Duration::from_secs(2));
    let expected = ((Some(4), Some(2)), (Some(4), Some(2)), Some(0));
    assert_eq!(told(&mut servers), expected);
    assert_eq!(servers.on_disk(0).len(), 2);
    assert_eq!(servers.api("CONSUMER.DELETE.S.d", "")["success"], true);
    servers.wait(Duration::from_secs(2));
    assert!((0..3).all(|at| servers.on_disk(at).len() == 1), "only the stream is left");
    assert_eq!(servers.complaints, [""; 0]);
}

/// Red when a running consumer is not told of its pause.
#[test]
fn a_consumer_pauses_until_it_is_told_to_go_on() {
    let mut servers = Servers::led(3);
    create(&mut servers, "S");
    let wish = r#"{"stream_name":"S","config":{"durable_name":"d","ack_policy":"explicit"}}"#;
    servers.api("CONSUMER.CREATE.S.d", wish);
    let deliver = |sequence| Wish::Deliver { sequence: Sequence::new(sequence) };
    assert_eq!(step(&mut servers, deliver(1))["deliveries"], 1);
    let told = servers.api("CONSUMER.PAUSE.S.d", r#"{"pause_until":"2100-01-01T00:00:00Z"}"#);
    assert_eq!(
        (&told["paused"], &told["pause_until"]),
        (&json!(true), &json!("2100-01-01T00:00:00Z"))
    );
    servers.wait(Duration::from_secs(1));
    assert_eq!(step(&mut servers, deliver(2))["error"]["err_code"], 10008);
    let info = servers.api("CONSUMER.INFO.S.d", "");
    assert_eq!(
        (&info["paused"], &info["config"]["metadata"]["_nats.req.level"]),
        (&json!(true), &json!("1"))
    );
    // A change of the consumer leaves the pause as it is, and so does a restart.
    servers.api("CONSUMER.CREATE.S.d", wish);
    servers.restart();
    assert_eq!(step(&mut servers, deliver(2))["error"]["err_code"], 10008);
    let told = servers.api("CONSUMER.PAUSE.S.d", "");
    assert_eq!((&told["paused"], &told["error"]), (&json!(false), &json!(null)), "{told}");
    servers.wait(Duration::from_secs(1));
    assert_eq!(step(&mut servers, deliver(2))["deliveries"], 1);
    let told = servers.api("CONSUMER.PAUSE.S.e", "");
    assert_eq!((&told["error"]["err_code"], &told["paused"]), (&json!(10014), &json!(false)));
}

/// Red when the preferred server waits for as long as the others.
#[test]
fn a_new_stream_is_led_by_whom_its_assignment_prefers_and_soon() {
    let mut leaders = std::collections::BTreeSet::new();
    let mut servers = Servers::led(3);
    for number in 0..8 {
        let name = format!("S{number}");
        create(&mut servers, &name);
        servers.wait(Duration::from_millis(3500));
        let leader = servers.stream_leader(&name).expect("it has a leader after three heartbeats");
        let at = servers.leader().expect("it is led");
        servers.ask(at, META, Request::Snapshot);
        let data = servers.meta_snapshot(at);
        let limits = jetwake::limits::Limits::default();
        let snapshot = jetwake::wire::MetaSnapshot::decode(&data, &limits).expect("it is whole");
        let stream = snapshot.streams.iter().find(|stream| stream.stream.config.name == name);
        let preferred = stream.expect("it is assigned").stream.group.preferred;
        let id = jetwake::ids::PeerId::from_name(&format!("n{}", leader + 1));
        assert_eq!(preferred, Some(id));
        leaders.insert(leader);
    }
    assert!(leaders.len() > 1, "not always the same");
}
