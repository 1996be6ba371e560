//! Row 1: an observer of a live group agrees at each step on leader, term, commit, members and log.

use bytes::Bytes;
use jetwake::ids::Index;
use jetwake::wire::AppendEntry;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bed::{Bed, PATIENCE, Plan, Release, api, publish};
use super::member::{Member, Voice, listen};

#[tokio::test]
async fn an_observer_agrees_with_the_newest_servers() {
    observe(Release::Newest).await;
}

#[tokio::test]
async fn an_observer_agrees_with_the_older_servers() {
    observe(Release::Older).await;
}

async fn observe(release: Release) {
    let Some(mut bed) = Bed::start(&Plan::of(release, 3)).await else { return };
    let client = bed.client_of_all().await;
    let system = bed.system_of_all().await;
    let heard = listen(&system).await;
    let mut config = json!({"name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3});
    let group = bed.create(&client, config.clone()).await;
    let ours = Member::start(system, heard, "watcher", &[&group], 3, Voice::Mute);
    agree(&mut bed, &group, &ours, "a new group").await;

    for n in 0..20 {
        publish(&client, "orders.new", format!("order {n}")).await.expect("an ack");
    }
    let compared = agree(&mut bed, &group, &ours, "messages").await;
    assert!(compared >= 20, "{compared} records");

    api(&client, "STREAM.MSG.DELETE.ORDERS", &json!({"seq": 3})).await.expect("a deletion");
    api(&client, "STREAM.PURGE.ORDERS", &json!({"keep": 10})).await.expect("a purge");
    agree(&mut bed, &group, &ours, "a deletion and a purge").await;

    for _ in 0..3 {
        let leader = bed.leader(&group).await;
        let told = bed.group(leader, &group).await.expect("the leader has the group");
        let to = told["peers"].as_array().expect("a list").iter().find(|peer| **peer != told["me"]);
        bed.ask(leader, json!({"do": "stepdown", "group": group, "peer": to})).await.expect("done");
        agree_on_a_newer_term(&mut bed, &group, &ours, &told, "a transfer").await;
        publish_soon(&client, "orders.new").await;
    }

    let leader = bed.leader(&group).await;
    let before = bed.group(leader, &group).await.expect("the leader has the group");
    bed.kill(leader);
    agree_on_a_newer_term(&mut bed, &group, &ours, &before, "a kill of the leader").await;
    publish_soon(&client, "orders.new").await;
    let now = bed.leader(&group).await;
    let snapshot = json!({"do": "snapshot", "account": "APP", "stream": "ORDERS"});
    bed.ask(now, snapshot).await.expect("a snapshot");
    bed.run(leader).await;
    publish_soon(&client, "orders.new").await;
    agree(&mut bed, &group, &ours, "a snapshot, and the catchup of who was down").await;

    // In 2.10 the members of a stream change by its assignment, not by an entry of its own group.
    let told_elsewhere = (release == Release::Older).then_some("peers");
    for replicas in [2, 3] {
        config["num_replicas"] = json!(replicas);
        api(&client, "STREAM.UPDATE.ORDERS", &config).await.expect("an update");
        bed.until_members(&group, replicas).await;
        publish_soon(&client, "orders.new").await;
        agree_apart_from(told_elsewhere, &mut bed, &group, &ours, "a change of the members").await;
    }
    let part = ours.look();
    assert_eq!(part.refused, 0, "{:?}", part.last_refused);
}

/// Publishes until it is acknowledged: a leader that was just elected may not be known yet.
async fn publish_soon(client: &async_nats::Client, subject: &str) {
    let begun = Instant::now();
    while let Err(why) = publish(client, subject, "soon").await {
        assert!(begun.elapsed() < PATIENCE, "{why}");
    }
}

async fn agree_on_a_newer_term(
    bed: &mut Bed,
    group: &str,
    ours: &Member,
    before: &Value,
    step: &str,
) {
    let begun = Instant::now();
    while bed.settled(group).await["term"].as_u64() <= before["term"].as_u64() {
        assert!(begun.elapsed() < PATIENCE, "after {step}: still {before}");
    }
    agree(bed, group, ours, step).await;
}

/// Waits until the observer and the servers say the same of the group, and compares the logs.
/// Says how many records there were: a leader compacts its log when it likes.
async fn agree(bed: &mut Bed, group: &str, ours: &Member, step: &str) -> usize {
    agree_apart_from(None, bed, group, ours, step).await
}

async fn agree_apart_from(
    apart: Option<&str>,
    bed: &mut Bed,
    group: &str,
    ours: &Member,
    step: &str,
) -> usize {
    let keys = ["term", "leader", "last", "commit", "peers"];
    let begun = Instant::now();
    loop {
        let told = bed.settled(group).await;
        let mine = describe(ours);
        if keys.iter().all(|key| Some(*key) == apart || mine[*key] == told[*key]) {
            break;
        }
        let refused = &ours.look().last_refused.clone();
        let late = begun.elapsed() > PATIENCE;
        assert!(!late, "after {step}: servers {told}, observer {mine}, refused {refused:?}");
        tokio::time::sleep(super::bed::HEARTBEAT / 4).await;
    }
    let leader = bed.leader(group).await;
    let logged = bed.ask(leader, json!({"do": "log", "group": group})).await.expect("the log");
    let logged = logged["log"].as_array().expect("a list");
    for record in logged {
        let index = Index::new(record["index"].as_u64().expect("a number"));
        let theirs = decode(&unhex(record["hex"].as_str().expect("hex")));
        let part = ours.look();
        let mine = part.files[0].log.get(&index).map(decode);
        assert_eq!(mine, Some(theirs), "after {step}: record {index}");
    }
    logged.len()
}

fn describe(ours: &Member) -> Value {
    let status = ours.look().status(0);
    let mut peers: Vec<_> = status.members.iter().map(ToString::to_string).collect();
    peers.sort_unstable();
    json!({
        "term": status.term.get(),
        "leader": status.leader.map_or_else(String::new, |leader| leader.to_string()),
        "last": status.last.index.get(),
        "commit": status.commit.get(),
        "peers": peers,
    })
}

/// A record without what differs by where it is kept.
fn decode(record: &Bytes) -> AppendEntry {
    let mut entry = AppendEntry::decode(record).expect("a record");
    entry.has_leader_term = false;
    entry.leader_term = Default::default();
    entry
}

fn unhex(hex: &str) -> Bytes {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}
