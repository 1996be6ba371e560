//! Our node leads a real group: real followers accept its entries, its snapshot and its catchup of the
//! stream, end with the same contents, and keep the stream when ours goes.

use bytes::Bytes;
use jetwake::event::Request;
use jetwake::ids::{PeerId, Sequence};
use serde_json::{Value, json};

use super::bed::{Bed, PATIENCE, Plan, Release, api, name, publish};
use super::follow::{publish_some, remove_some, two_of_three};
use super::ours::{Ours, compare};

/// Makes our node the leader, by asking the real one to hand over.
pub(crate) async fn lead(bed: &mut Bed, group: &str, ours: &Ours, place: usize) {
    let me = PeerId::from_name(&name(place)).to_string();
    for _ in 0..20 {
        if ours.info().await["cluster"]["leader"] == name(place) {
            return;
        }
        for server in 0..3 {
            if bed.runs(server) {
                let asked = json!({"do": "stepdown", "group": group, "peer": me});
                // Who does not lead refuses.
                let _ = bed.ask(server, asked).await;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("ours does not lead: {}", ours.info().await);
}

/// Publishes to our node, which leads.
async fn publish_to_ours(ours: &Ours, from: usize, to: usize) {
    for n in from..to {
        let payload = if n % 20 == 0 { "wide ".repeat(4000) } else { format!("ours {n}") };
        let (subject, payload) = (Bytes::from(format!("orders.{}", n % 7)), Bytes::from(payload));
        let header = match n % 3 {
            0 => Bytes::from(format!("NATS/1.0\r\nNats-Msg-Id: ours-{n}\r\n\r\n")),
            _ => Bytes::new(),
        };
        ours.ask(&Request::Publish { subject, header, payload }).await.expect("an ack");
    }
}

/// Waits until a real server's replica is as ours.
pub(crate) async fn follows(bed: &mut Bed, server: usize, ours: &Ours) {
    let mut last = Value::Null;
    for _ in 0..PATIENCE.as_millis() / 100 {
        let told = bed.ask(server, json!({"do": "streams"})).await.expect("the streams");
        let expected = ours.info().await["state"].clone();
        let keys = ["messages", "bytes", "first_seq", "last_seq", "num_deleted", "last_ts"];
        let state = told["streams"][0]["state"].clone();
        if keys.into_iter().all(|key| state[key] == expected[key]) {
            return;
        }
        last = json!([state, expected]);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{} does not follow: {last}", name(server));
}

#[tokio::test]
async fn real_followers_of_the_newest_release() {
    real_followers(Release::Newest).await;
}

#[tokio::test]
async fn real_followers_of_the_older_release() {
    real_followers(Release::Older).await;
}

async fn real_followers(release: Release) {
    let Some(mut bed) = Bed::start(&Plan::of(release, 3)).await else { return };
    let client = bed.client(0).await;
    let (group, down) = two_of_three(&mut bed, &client).await;
    remove_some(&client, [3, 4, 5, 17, 90]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ours = Ours::with(&bed, down, "ORDERS", folder.path().join("ours"), &["--may-lead"]);
    ours.same_as(&client).await;
    lead(&mut bed, &group, &ours, down).await;
    publish_to_ours(&ours, 0, 60).await;
    ours.ask(&Request::Delete { sequence: Sequence::new(110) }).await.expect("a message");
    let filter = Bytes::from_static(b"orders.4");
    let purge = Request::Purge { filter, before: Sequence::ZERO, keep: 1 };
    ours.ask(&purge).await.expect("messages to purge");
    let real = if down == 2 { 1 } else { 2 };
    for server in [0, real] {
        follows(&mut bed, server, &ours).await;
    }
    // One is away, and finds the log gone when it comes back.
    bed.kill(real);
    publish_to_ours(&ours, 60, 120).await;
    ours.ask(&Request::Delete { sequence: Sequence::new(115) }).await.expect("a message");
    ours.ask(&Request::Snapshot).await.expect("a snapshot");
    bed.run(real).await;
    follows(&mut bed, real, &ours).await;
    assert!(ours.log().contains("is served"), "ours brought it the messages");
    // One is away, and finds what it lacks in the log.
    bed.kill(real);
    publish_to_ours(&ours, 120, 140).await;
    bed.run(real).await;
    follows(&mut bed, real, &ours).await;
    let kept = ours.messages().await;
    let state = ours.info().await["state"].clone();
    ours.kill();
    bed.leader(&group).await;
    let info = api(&client, "STREAM.INFO.ORDERS", &json!({})).await.expect("an info");
    assert_eq!(info["state"]["messages"], state["messages"]);
    assert_eq!(info["state"]["last_seq"], state["last_seq"]);
    compare(&client, "ORDERS", kept, None).await;
    publish(&client, "orders.1", "they keep it").await.expect("an ack");
    publish_some(&client, 0, 10).await;
}
