//! What streams of the newest release can do, followed by our node: from a snapshot and the stream's
//! catchup, and live.

use async_nats::{Client, HeaderMap};
use serde_json::{Value, json};

use super::bed::{Bed, Plan, Release};
use super::ours::Ours;

/// Publishes with headers, and waits for the acknowledgement.
async fn publish(client: &Client, subject: &str, headers: &[(&str, &str)], payload: &str) -> Value {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let mut tries = 0;
    let answer = loop {
        let payload = payload.to_owned().into();
        match client.request_with_headers(subject.to_owned(), map.clone(), payload).await {
            Ok(answer) => break answer.payload,
            // Nobody takes messages while the group elects.
            Err(error) if tries == 100 => panic!("no answer: {error}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    if answer.is_empty() {
        // Part of a batch that is not committed yet.
        return Value::Null;
    }
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert!(answer.get("error").is_none(), "{answer}");
    answer
}

/// Times to live, batches, rollups, duplicates and a bound of each subject.
async fn publish_everything(client: &Client, part: &str) {
    for n in 0..20 {
        let subject = format!("every.{}", n % 3);
        let id = format!("{part}-{n}");
        publish(client, &subject, &[("Nats-Msg-Id", &id)], &format!("{part} {n}")).await;
        publish(client, &subject, &[("Nats-Msg-Id", &id)], "a duplicate").await;
    }
    publish(client, "every.soon", &[("Nats-TTL", "1s")], "gone soon").await;
    publish(client, "every.late", &[("Nats-TTL", "1h"), ("Other", "kept")], "gone late").await;
    for n in 1..=5 {
        let place = n.to_string();
        let mut headers = vec![("Nats-Batch-Id", part), ("Nats-Batch-Sequence", &place)];
        if n == 5 {
            headers.push(("Nats-Batch-Commit", "1"));
        }
        let ack = publish(client, "every.batch", &headers, &format!("{part} of a batch {n}")).await;
        assert_eq!(n == 5, ack["count"] == 5, "{ack}");
    }
    publish(client, "every.1", &[("Nats-Rollup", "sub")], "all of it").await;
}

async fn count(client: &Client, times: usize) {
    for n in 0..times {
        let by = if n % 4 == 3 { "-100000000000000000000" } else { "+7" };
        publish(client, &format!("count.{}", n % 2), &[("Nats-Incr", by)], "").await;
    }
}

#[tokio::test]
async fn what_streams_of_the_newest_release_can_do() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let client = bed.client(0).await;
    let every = json!({
        "name": "EVERY", "subjects": ["every.>"], "num_replicas": 3, "max_msgs_per_subject": 4,
        "allow_msg_ttl": true, "allow_atomic": true, "allow_rollup_hdrs": true, "compression": "s2"
    });
    let counts = json!({
        "name": "COUNTS", "subjects": ["count.>"], "num_replicas": 3, "allow_msg_counter": true
    });
    let groups = [bed.create(&client, every).await, bed.create(&client, counts).await];
    publish_everything(&client, "before").await;
    count(&client, 20).await;
    bed.kill(2);
    let client = bed.client(0).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (stream, path) in [("EVERY", "by-log"), ("COUNTS", "by-log-2")] {
        let ours = Ours::adopt(&bed, 2, stream, folder.path().join(path));
        if stream == "EVERY" {
            // Time goes on with messages: what has ended goes with the next.
            publish(&client, "every.next", &[], "time goes on").await;
        }
        ours.same_as(&client).await;
    }
    for server in [0, 1] {
        for stream in ["EVERY", "COUNTS"] {
            let asked = json!({"do": "snapshot", "account": "APP", "stream": stream});
            // One that has a snapshot of all that it has takes no other.
            let _ = bed.ask(server, asked).await;
        }
    }
    let ours = Ours::adopt(&bed, 2, "EVERY", folder.path().join("every"));
    ours.same_as(&client).await;
    // It costs the group an election before it counts, in which a batch would be lost.
    ours.counts(&mut bed, &groups[0]).await;
    bed.leader(&groups[0]).await;
    publish_everything(&client, "after").await;
    // The message that goes soon goes here as well, with the next that comes.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    publish(&client, "every.next", &[], "time goes on").await;
    ours.same_as(&client).await;
    let subjects: Vec<_> = ours.messages().await.into_iter().map(|one| one.subject).collect();
    assert!(!subjects.iter().any(|subject| subject == "every.soon"), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject == "every.late"), "{subjects:?}");
    drop(ours);
    let ours = Ours::adopt(&bed, 2, "COUNTS", folder.path().join("counts"));
    ours.same_as(&client).await;
    ours.counts(&mut bed, &groups[1]).await;
    bed.leader(&groups[1]).await;
    count(&client, 10).await;
    ours.same_as(&client).await;
}
