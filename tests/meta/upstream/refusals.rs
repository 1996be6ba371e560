//! What cannot be configured, or changed: `jetstream_test.go`, `jetstream_batching_test.go` and
//! `jetstream_cluster_*_test.go` of upstream.

use serde_json::Value;

use super::{consume, create, refuse};
use crate::rig::Servers;

const INVALID: u64 = 10052;

fn stream(more: &str) -> String {
    format!(r#"{{"name":"TEST","num_replicas":3{more}}}"#)
}

/// Red when `check_update` lets a stream forget lives.
#[test]
fn jetstream_message_ttl_not_updatable() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","allow_msg_ttl":true"#);
    let why = "message TTL status can not be disabled";
    refuse(&mut servers, "STREAM.UPDATE.TEST", &stream(""), (INVALID, why));
}

/// That what a counter was cannot be changed is of `TestJetStreamAllowMsgCounter`.
/// Red when `check_features` does not look at counters.
#[test]
fn jetstream_allow_msg_counter_incompatible_settings() {
    let mut servers = Servers::led(3);
    for (more, why) in [
        (r#""discard":"new""#, "counter stream cannot use discard new"),
        (r#""allow_msg_ttl":true"#, "counter stream cannot use message TTLs"),
        (r#""retention":"interest""#, "counter stream can only use limits retention"),
        (r#""retention":"workqueue""#, "counter stream can only use limits retention"),
    ] {
        let config = stream(&format!(r#","allow_msg_counter":true,{more}"#));
        refuse(&mut servers, "STREAM.CREATE.TEST", &config, (INVALID, why));
    }
    create(&mut servers, "TEST", "");
    let why = "stream configuration update can not change message counter setting";
    let counting = stream(r#","allow_msg_counter":true"#);
    refuse(&mut servers, "STREAM.UPDATE.TEST", &counting, (INVALID, why));
}

/// There are no mirrors yet, so nothing is copied: what a source brings is in
/// `jetstream_allow_msg_counter_source_verbatim`.
/// Red when `check_mirror` lets a mirror count.
#[test]
fn jetstream_allow_msg_counter_mirror() {
    let mut servers = Servers::led(3);
    let mirror = stream(r#","mirror":{"name":"O"},"allow_msg_counter":true"#);
    let why = "stream mirrors can not also calculate counters";
    refuse(&mut servers, "STREAM.CREATE.TEST", &mirror, (10173, why));
}

/// Red when `check_features` lets a stream with batches be written late.
#[test]
fn jetstream_atomic_batch_publish_persist_mode_async() {
    let mut servers = Servers::led(3);
    let config = r#"{"name":"TEST","persist_mode":"async","allow_atomic":true}"#;
    let why = "async persist mode is not supported with atomic batch publish";
    refuse(&mut servers, "STREAM.CREATE.TEST", config, (INVALID, why));
}

/// Red when `check_features` lets replicas be written late.
#[test]
fn jetstream_cluster_persist_mode_async() {
    let mut servers = Servers::led(3);
    let config = stream(r#","persist_mode":"async""#);
    let why = "async persist mode is not supported on replicated streams";
    refuse(&mut servers, "STREAM.CREATE.TEST", &config, (INVALID, why));
}

/// Red when `check_mirror` lets what is copied send messages.
#[test]
fn jetstream_scheduled_mirror_or_source() {
    let mut servers = Servers::led(3);
    let of = |what: &str| stream(&format!(r#","allow_msg_schedules":true,{what}"#));
    let why = "stream mirrors can not also schedule messages";
    let mirror = of(r#""mirror":{"name":"M"}"#);
    refuse(&mut servers, "STREAM.CREATE.TEST", &mirror, (10186, why));
    let why = "stream source can not also schedule messages";
    let sources = of(r#""sources":[{"name":"S"}]"#);
    refuse(&mut servers, "STREAM.CREATE.TEST", &sources, (10187, why));
    // And whoever schedules cannot stop it, as `TestJetStreamClusterScheduledDelayedMessage` ends.
    create(&mut servers, "TEST", r#","allow_msg_schedules":true"#);
    let why = "message schedules can not be disabled";
    let plain = stream(r#","allow_rollup_hdrs":true"#);
    refuse(&mut servers, "STREAM.UPDATE.TEST", &plain, (INVALID, why));
}

/// Red when `check_features` lets a stream that cannot be purged roll up.
#[test]
fn jetstream_cluster_rollups_require_purge() {
    let mut servers = Servers::led(3);
    let config = stream(r#","allow_rollup_hdrs":true,"deny_purge":true,"max_msgs_per_subject":10"#);
    let why = "roll-ups require the purge permission";
    refuse(&mut servers, "STREAM.CREATE.TEST", &config, (INVALID, why));
}

/// Red when `set_ages` takes a negative window for none.
#[test]
fn jetstream_negative_dupe_window() {
    let mut servers = Servers::led(3);
    let config = r#"{"name":"TEST","retention":"workqueue","max_consumers":1,"max_msgs":-1,
        "max_bytes":-1,"discard":"new","max_age":0,"duplicate_window":-1,
        "max_msgs_per_subject":-1,"max_msg_size":-1,"storage":"file","num_replicas":1}"#;
    let why = "duplicates window can not be negative";
    refuse(&mut servers, "STREAM.CREATE.TEST", config, (INVALID, why));
}

/// Red when a number of replicas below zero is taken for one.
#[test]
fn jetstream_cluster_negative_replicas() {
    let mut servers = Servers::led(3);
    let why = (10133, "replicas count cannot be negative");
    let with = |replicas: i64| format!(r#"{{"name":"TEST","num_replicas":{replicas}}}"#);
    refuse(&mut servers, "STREAM.CREATE.TEST", &with(-1), why);
    assert_eq!(servers.api("STREAM.CREATE.TEST", &with(1))["error"], Value::Null);
    refuse(&mut servers, "STREAM.UPDATE.TEST", &with(-11), why);
    let consumer = |replicas: i64, action: &str| {
        format!(
            r#"{{"stream_name":"TEST","action":"{action}",
                "config":{{"durable_name":"d","num_replicas":{replicas}}}}}"#
        )
    };
    refuse(&mut servers, "CONSUMER.CREATE.TEST.d", &consumer(-1, ""), why);
    let told = servers.api("CONSUMER.CREATE.TEST.d", &consumer(1, ""));
    assert_eq!(told["error"], Value::Null, "{told}");
    refuse(&mut servers, "CONSUMER.CREATE.TEST.d", &consumer(-11, "update"), why);
}

/// Red when an update is checked less than a creation.
#[test]
fn jetstream_cluster_bad_stream_update() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo","bar"]"#);
    for _ in 0..5 {
        servers.publish("TEST", "foo", "Keep Me");
    }
    let bad = stream(r#","subjects":["foo..bar"]"#);
    refuse(&mut servers, "STREAM.UPDATE.TEST", &bad, (INVALID, "invalid subject"));
    let info = servers.api("STREAM.INFO.TEST", "");
    assert_eq!(info["config"]["subjects"], serde_json::json!(["foo", "bar"]));
    assert_eq!(info["state"]["messages"], 5);
}

/// Red when an update may take the subjects of another stream.
#[test]
fn jetstream_cluster_update_stream_to_existing() {
    let mut servers = Servers::led(3);
    create(&mut servers, "ORDERS1", r#","subjects":["foo"]"#);
    create(&mut servers, "ORDERS2", r#","subjects":["bar"]"#);
    let config = r#"{"name":"ORDERS2","num_replicas":3,"subjects":["foo"]}"#;
    let why = "subjects overlap with an existing stream";
    refuse(&mut servers, "STREAM.UPDATE.ORDERS2", config, (10065, why));
}

/// Red when a stream whose subjects overlap is assigned and only then refused.
#[test]
fn jetstream_cluster_stream_overlap_subjects() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["foo"]"#);
    let second = r#"{"name":"TEST2","subjects":["foo"]}"#;
    let why = "subjects overlap with an existing stream";
    refuse(&mut servers, "STREAM.CREATE.TEST2", second, (10065, why));
    assert_eq!(servers.api("STREAM.NAMES", "")["streams"], serde_json::json!(["TEST"]));
    let list = servers.api("STREAM.LIST", "");
    assert_eq!(list["streams"].as_array().map(Vec::len), Some(1), "{list}");
}

/// Red when a name may be that of a folder and a file.
#[test]
fn jetstream_cluster_consumer_and_stream_names_with_path_separators() {
    let mut servers = Servers::led(3);
    let why = (10128, "Stream name can not contain path separators");
    for name in ["usr/bin", r"Documents\\readme"] {
        let config = format!(r#"{{"name":"{name}"}}"#);
        let subject = format!("STREAM.CREATE.{}", name.replace(r"\\", r"\"));
        refuse(&mut servers, &subject, &config, why);
    }
    create(&mut servers, "T", "");
    let why = (10127, "Consumer name can not contain path separators");
    for name in ["a/b", r"a\\b"] {
        let config = format!(r#"{{"stream_name":"T","config":{{"durable_name":"{name}"}}}}"#);
        let subject = format!("CONSUMER.CREATE.T.{}", name.replace(r"\\", r"\"));
        refuse(&mut servers, &subject, &config, why);
    }
}

/// Red when the consumers that there are do not count.
#[test]
fn jetstream_cluster_max_consumers() {
    let mut servers = Servers::led(3);
    let told = create(&mut servers, "MAXC", r#","max_consumers":1,"storage":"memory""#);
    assert_eq!(told["config"]["max_consumers"], 1);
    consume(&mut servers, "MAXC", "");
    let second = r#"{"stream_name":"MAXC","config":{"durable_name":"e"}}"#;
    let why = "maximum consumers limit reached";
    refuse(&mut servers, "CONSUMER.CREATE.MAXC.e", second, (10026, why));
}

/// Red when a consumer that is there counts against its own change, or a restart drops those that are too
/// many.
#[test]
fn jetstream_cluster_stream_update_max_consumers_limit() {
    for remove in [false, true] {
        let mut servers = Servers::led(3);
        create(&mut servers, "TEST", "");
        let wish = |name: &str| {
            let subject = format!("CONSUMER.CREATE.TEST.{name}");
            let config = format!(r#""durable_name":"{name}","num_replicas":3"#);
            (subject, format!(r#"{{"stream_name":"TEST","config":{{{config}}}}}"#))
        };
        let count = |servers: &mut Servers| {
            servers.api("CONSUMER.NAMES.TEST", "")["total"].as_u64().expect("a number")
        };
        for name in ["C1", "C2"] {
            let (subject, config) = wish(name);
            assert_eq!(servers.api(&subject, &config)["error"], Value::Null);
        }
        let told = servers.api("STREAM.UPDATE.TEST", &stream(r#","max_consumers":1"#));
        assert_eq!((&told["error"], count(&mut servers)), (&Value::Null, 2));
        let (subject, config) = wish("C3");
        let why = (10026, "maximum consumers limit reached");
        refuse(&mut servers, &subject, &config, why);
        for name in ["C1", "C2"] {
            let (subject, config) = wish(name);
            assert_eq!(servers.api(&subject, &config)["error"], Value::Null, "{name} is there");
        }
        if remove {
            assert_eq!(servers.api("CONSUMER.DELETE.TEST.C2", "")["success"], true);
            refuse(&mut servers, &subject, &config, why);
        }
        servers.restart();
        assert_eq!(count(&mut servers), if remove { 1 } else { 2 });
        let told = servers.api("STREAM.UPDATE.TEST", &stream(r#","max_consumers":-1"#));
        assert_eq!(told["error"], Value::Null);
        for name in ["C1", "C2", "C3"] {
            let (subject, config) = wish(name);
            assert_eq!(servers.api(&subject, &config)["error"], Value::Null);
        }
        assert_eq!(count(&mut servers), 3);
    }
}

/// Red when an action is not heard.
#[test]
fn jetstream_cluster_consumer_actions() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","subjects":["test"]"#);
    let wish = |action: &str, more: &str| {
        format!(
            r#"{{"stream_name":"TEST","action":"{action}","config":{{"deliver_policy":"last",
                "filter_subject":"test","ack_policy":"explicit"{more}}}}}"#
        )
    };
    let subject = "CONSUMER.CREATE.TEST.CONSUMER.test";
    for _ in 0..2 {
        let told = servers.api(subject, &wish("create", ""));
        assert_eq!(told["error"], Value::Null, "the same again is no error: {told}");
    }
    let changed = wish("create", r#","description":"changed""#);
    refuse(&mut servers, subject, &changed, (10148, "consumer already exists"));
    let again = wish("update", r#","description":"changed again""#);
    assert_eq!(servers.api(subject, &again)["config"]["description"], "changed again");
    let new = "CONSUMER.CREATE.TEST.NEW.test";
    refuse(&mut servers, new, &wish("update", ""), (10149, "consumer does not exist"));
}

/// Red when a denial can be taken back.
#[test]
fn a_denial_cannot_be_taken_back() {
    let mut servers = Servers::led(3);
    create(&mut servers, "TEST", r#","deny_delete":true,"deny_purge":true"#);
    let why = "stream configuration update can not cancel deny message deletes";
    refuse(&mut servers, "STREAM.UPDATE.TEST", &stream(""), (INVALID, why));
}

/// Red when either bound that the policy needs may be missing.
#[test]
fn discarding_new_messages_of_a_subject_needs_both_of_its_bounds() {
    let mut servers = Servers::led(3);
    let each = r#","max_msgs":10,"discard_new_per_subject":true"#;
    let why = "discard new per subject requires discard new policy to be set";
    refuse(&mut servers, "STREAM.CREATE.TEST", &stream(each), (INVALID, why));
    let new = format!(r#"{each},"discard":"new""#);
    let why = "discard new per subject requires max msgs per subject > 0";
    refuse(&mut servers, "STREAM.CREATE.TEST", &stream(&new), (INVALID, why));
}
