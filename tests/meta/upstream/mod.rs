//! Situations of nats-server's own tests, played by the meta group and the consumers of real nodes:
//! each test has the name of upstream's in snake case, and says what is different here.
//! `docs/parity.md` lists them.

mod assignments;
mod consumer_states;
mod consumers;
mod recoveries;
mod refusals;
mod streams;

use serde_json::Value;

use crate::rig::Servers;

/// Creates a stream of three replicas with its name as its subject, and more fields of its configuration.
fn create(servers: &mut Servers, name: &str, more: &str) -> Value {
    let config = format!(r#"{{"name":"{name}","num_replicas":3{more}}}"#);
    let told = servers.api(&format!("STREAM.CREATE.{name}"), &config);
    assert_eq!(told["error"], Value::Null, "{told}");
    told
}

/// Creates the durable consumer `d` of a stream, with more fields of its configuration.
fn consume(servers: &mut Servers, stream: &str, more: &str) -> Value {
    let config = format!(
        r#"{{"stream_name":"{stream}","config":{{"durable_name":"d","ack_policy":"explicit"{more}}}}}"#
    );
    let told = servers.api(&format!("CONSUMER.CREATE.{stream}.d"), &config);
    assert_eq!(told["error"], Value::Null, "{told}");
    told
}

/// That a wish is refused with this code and text.
#[track_caller]
fn refuse(servers: &mut Servers, subject: &str, payload: &str, (code, why): (u64, &str)) {
    let told = servers.api(subject, payload);
    let error = &told["error"];
    assert_eq!(
        (error["err_code"].as_u64(), error["description"].as_str()),
        (Some(code), Some(why))
    );
}
