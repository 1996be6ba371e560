//! Consumers on servers that start, stop and lead: `jetstream_consumer_test.go` and
//! `jetstream_cluster_*_test.go` of upstream.

use jetwake::consumer::Wish;
use jetwake::ids::Sequence;
use jetwake::time::Duration;
use serde_json::Value;

use super::{consume, create, refuse};
use crate::rig::Servers;

fn deliver(servers: &mut Servers, sequence: u64) -> Value {
    let told = servers.step("TEST", "d", Wish::Deliver { sequence: Sequence::new(sequence) });
    assert_eq!(told["error"], Value::Null, "{told}");
    told
}

fn acknowledge(servers: &mut Servers, sequence: u64, delivery: u64) -> Value {
    let [sequence, delivery] = [sequence, delivery].map(Sequence::new);
    servers.step("TEST", "d", Wish::Acknowledge { sequence, delivery })
}

/// What was delivered and the floor, each as the consumer's number and the stream's, and how many wait.
fn standing(servers: &mut Servers) -> ([u64; 4], u64) {
    let info = servers.consumer_info("TEST", "d");
    let number = |value: &Value| value.as_u64().expect("a number");
    let of = |field: &str, which: &str| number(&info[field][which]);
    let pairs = [
        of("delivered", "consumer_seq"),
        of("delivered", "stream_seq"),
        of("ack_floor", "consumer_seq"),
        of("ack_floor", "stream_seq"),
    ];
    (pairs, number(&info["num_ack_pending"]))
}

/// A stream with messages, and its consumer.
fn started(messages: u64, more: &str) -> Servers {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo"]"#);
    for number in 1..=messages {
        servers.publish("TEST", "foo", &format!("msg{number}"));
    }
    consume(&mut servers, "TEST", more);
    servers
}

/// Red when a floor does not fill up to the next message that waits.
#[test]
fn jetstream_consumer_ack_floor_fill() {
    let mut servers = started(4, "");
    for sequence in 1..=4 {
        deliver(&mut servers, sequence);
    }
    // Neither the first nor the fourth.
    for sequence in [2, 3] {
        assert_eq!(acknowledge(&mut servers, sequence, sequence)["success"], true);
    }
    assert_eq!(standing(&mut servers), ([4, 4, 0, 0], 2));
    assert_eq!(acknowledge(&mut servers, 1, 1)["success"], true);
    assert_eq!(standing(&mut servers), ([4, 4, 3, 3], 1));
}

/// There is no delivery here and no interest: the driver delivers, and streams keep by limits.
/// Red when a reset leaves something to wait for, or counts on.
#[test]
fn jetstream_consumer_reset_to_sequence() {
    let mut servers = started(4, r#","max_ack_pending":1"#);
    let reset = |servers: &mut Servers, sequence: u64| {
        let told = servers.step("TEST", "d", Wish::Reset { sequence: Sequence::new(sequence) });
        assert_eq!(told["error"], Value::Null, "{told}");
    };
    deliver(&mut servers, 1);
    acknowledge(&mut servers, 1, 1);
    assert_eq!(standing(&mut servers), ([1, 1, 1, 1], 0));
    deliver(&mut servers, 2);
    assert_eq!(standing(&mut servers), ([2, 2, 1, 1], 1));
    // Back to the floor, once with nothing to go back from.
    for _ in 0..2 {
        reset(&mut servers, 0);
        assert_eq!(standing(&mut servers), ([0, 1, 0, 1], 0));
    }
    reset(&mut servers, 4);
    assert_eq!(standing(&mut servers), ([0, 3, 0, 3], 0));
    deliver(&mut servers, 4);
    assert_eq!(standing(&mut servers), ([1, 4, 0, 3], 1));
    acknowledge(&mut servers, 4, 1);
    assert_eq!(standing(&mut servers), ([1, 4, 1, 4], 0));
}

/// Red when a reset may go before where the consumer begins.
#[test]
fn jetstream_consumer_reset_to_sequence_constraint_on_start_seq() {
    let mut servers = started(4, r#","deliver_policy":"by_start_sequence","opt_start_seq":3"#);
    deliver(&mut servers, 3);
    acknowledge(&mut servers, 3, 1);
    let told = servers.step("TEST", "d", Wish::Reset { sequence: Sequence::new(2) });
    let error = &told["error"];
    assert_eq!(
        (&error["err_code"], &error["description"]),
        (&Value::from(10204), &Value::from("invalid reset: below start seq"),)
    );
    let told = servers.step("TEST", "d", Wish::Reset { sequence: Sequence::new(3) });
    assert_eq!(told["error"], Value::Null, "{told}");
    assert_eq!(standing(&mut servers), ([0, 2, 0, 2], 0));
    assert_eq!(deliver(&mut servers, 3)["consumer_seq"], 1, "the same message again");
    assert_eq!(acknowledge(&mut servers, 3, 1)["success"], true);
}

/// Red when an acknowledgement of what was never delivered moves the floor, here or on who leads next.
#[test]
fn jetstream_cluster_consumer_ack_out_of_bounds() {
    let mut servers = started(10, "");
    deliver(&mut servers, 1);
    acknowledge(&mut servers, 1, 1);
    assert_eq!(standing(&mut servers), ([1, 1, 1, 1], 0));
    acknowledge(&mut servers, 10_000_000_000, 0);
    assert_eq!(standing(&mut servers), ([1, 1, 1, 1], 0));
    let leads = servers.consumer_leader("TEST", "d").expect("it is led");
    servers.stop(leads);
    servers.wait(Duration::from_secs(15));
    servers.start(leads);
    servers.wait(Duration::from_secs(5));
    assert_eq!(standing(&mut servers), ([1, 1, 1, 1], 0));
}

/// Red when a consumer may have two names.
#[test]
fn jetstream_consumer_with_name_and_durable() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","description":"foo asset""#);
    let info = servers.api("STREAM.INFO.TEST", "");
    assert_eq!(info["config"]["description"], "foo asset");
    let both = |name: &str, durable: &str| {
        format!(
            r#"{{"stream_name":"TEST","config":{{"name":"{name}","durable_name":"{durable}"}}}}"#
        )
    };
    let told = servers.api("CONSUMER.CREATE.TEST.consumer", &both("consumer", "consumer"));
    assert_eq!(told["error"], Value::Null, "{told}");
    let why = "consumer name in subject does not match durable name in request";
    refuse(&mut servers, "CONSUMER.CREATE.TEST.name", &both("name", "durable"), (10017, why));
}
