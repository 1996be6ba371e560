//! Our node follows a real leader, in the place of a server that is down: its log, its snapshots, its
//! catchups of the stream, and in the end the same contents and state.

use async_nats::Client;
use serde_json::{Value, json};

use super::bed::{Bed, Plan, Release, api, publish};
use super::ours::{Ours, refused};

/// A stream with all that a replica has to understand.
fn stream() -> Value {
    json!({
        "name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3, "allow_direct": true
    })
}

pub(crate) async fn publish_some(client: &Client, from: usize, to: usize) {
    for n in from..to {
        // Some that a server compresses in its log, and some that it does not.
        let payload = if n % 50 == 0 { "long ".repeat(4000) } else { format!("order {n}") };
        publish(client, &format!("orders.{}", n % 7), payload).await.expect("an ack");
    }
}

/// Takes messages out of a stream.
pub(crate) async fn remove_some(client: &Client, sequences: [u64; 5]) {
    for sequence in sequences {
        let asked = json!({"seq": sequence});
        api(client, "STREAM.MSG.DELETE.ORDERS", &asked).await.expect("a message to delete");
    }
    let asked = json!({"filter": "orders.3", "keep": 2});
    api(client, "STREAM.PURGE.ORDERS", &asked).await.expect("messages to purge");
}

/// A stream whose third server is down, and where that is.
pub(crate) async fn two_of_three(bed: &mut Bed, client: &Client) -> (String, usize) {
    let group = bed.create(client, stream()).await;
    publish_some(client, 0, 100).await;
    let leader = bed.leader(&group).await;
    // The client stays connected.
    let down = if leader == 2 { 1 } else { 2 };
    bed.kill(down);
    (group, down)
}

#[tokio::test]
async fn a_new_follower_of_the_newest_release() {
    new_follower(Release::Newest).await;
}

#[tokio::test]
async fn a_new_follower_of_the_older_release() {
    new_follower(Release::Older).await;
}

/// Its disk is empty: the log or the snapshot, the stream's catchup, then live entries.
async fn new_follower(release: Release) {
    let Some(mut bed) = Bed::start(&Plan::of(release, 3)).await else { return };
    let client = bed.client(0).await;
    let (group, down) = two_of_three(&mut bed, &client).await;
    remove_some(&client, [3, 4, 5, 17, 90]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = Ours::adopt(&bed, down, "ORDERS", folder.path().join("by-log"));
    log.same_as(&client).await;
    publish_some(&client, 100, 150).await;
    log.same_as(&client).await;
    assert!(!log.log().contains("try 1"), "all of it was in the log");
    drop(log);
    // With the log gone there is only the snapshot, and the stream's catchup.
    for server in (0..3).filter(|server| *server != down) {
        let asked = json!({"do": "snapshot", "account": "APP", "stream": "ORDERS"});
        bed.ask(server, asked).await.expect("a snapshot");
    }
    let snapshot = Ours::adopt(&bed, down, "ORDERS", folder.path().join("by-snapshot"));
    snapshot.same_as(&client).await;
    assert!(snapshot.log().contains("try 1"), "the stream's catchup brought it");
    remove_some(&client, [6, 8, 9, 19, 91]).await;
    publish_some(&client, 150, 180).await;
    snapshot.same_as(&client).await;
    // From the next term on it counts: with one of the others down nothing is committed without it.
    snapshot.counts(&mut bed, &group).await;
    let leader = bed.leader(&group).await;
    bed.kill((0..3).find(|at| *at != leader && *at != down).expect("a third"));
    let client = bed.client(leader).await;
    publish_some(&client, 180, 200).await;
    snapshot.same_as(&client).await;
}

#[tokio::test]
async fn a_role_is_taken_over_only_while_its_server_is_dead() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let client = bed.client(0).await;
    let (_, down) = two_of_three(&mut bed, &client).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| folder.path().join(name);
    let error = refused(&bed, 0, "ORDERS", &place("alive"));
    assert!(error.contains("server \"S1\" is alive"), "{error}");
    let error = refused(&bed, down, "OTHERS", &place("none"));
    assert!(error.contains("no stream \"OTHERS\""), "{error}");
    let mut ours = Ours::adopt(&bed, down, "ORDERS", place("ours"));
    ours.same_as(&client).await;
    bed.run(down).await;
    assert!(ours.ended().await, "it stops without a failure");
    let error = refused(&bed, down, "ORDERS", &place("ours"));
    assert!(error.contains("expected an empty folder"), "{error}");
    let other = if down == 2 { 1 } else { 2 };
    bed.kill(down);
    bed.kill(other);
    let error = refused(&bed, down, "ORDERS", &place("alone"));
    assert!(error.contains("cannot be reached") || error.contains("the meta group"), "{error}");
}
