//! The bed itself: clusters of each release start, elect, replicate, fail and come back.

use futures_util::StreamExt;
use serde_json::json;

use super::bed::{Bed, Plan, Release, api, publish};

#[tokio::test]
async fn newest_servers_start_and_replicate() {
    start_and_replicate(&Plan::of(Release::Newest, 3)).await;
}

#[tokio::test]
async fn older_servers_start_and_replicate() {
    start_and_replicate(&Plan::of(Release::Older, 3)).await;
}

async fn start_and_replicate(plan: &Plan) {
    let Some(mut bed) = Bed::start(plan).await else { return };
    let client = bed.client(0).await;
    let mut heard = bed.system(0).await.subscribe("$NRG.AE.>").await.expect("a subscription");
    let config = json!({"name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3});
    let group = bed.create(&client, config).await;
    let leader = bed.leader(&group).await;
    for n in 1..=10 {
        let ack = publish(&client, "orders.new", format!("order {n}")).await.expect("an ack");
        assert_eq!(ack["seq"], n);
    }
    let append_entry = heard.next().await.expect("the system account hears the groups");
    assert!(append_entry.subject.starts_with("$NRG.AE."), "{}", append_entry.subject);
    let before = bed.settled(&group).await;
    let (down, client) = ((leader + 1) % 3, bed.client(leader).await);
    bed.kill(down);
    publish(&client, "orders.new", "two are enough").await.expect("an ack");
    bed.run(down).await;
    let after = bed.settled(&group).await;
    assert!(after["commit"].as_u64() > before["commit"].as_u64(), "{before} {after}");
    let info = api(&client, "STREAM.INFO.ORDERS", &json!({})).await.expect("the stream's info");
    assert_eq!(info["state"]["messages"], 11);
    bed.stop(down).await;
}
