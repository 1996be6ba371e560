//! Catchups of a stream that are disturbed in the middle, in both directions: the leader goes, or the
//! connection with what was on its way.

use std::time::Duration;

use async_nats::Client;
use jetwake::event::Request;
use jetwake::random::Random;
use serde_json::json;
use tokio::time::sleep;

use super::bed::{Bed, PATIENCE, Plan, Release, publish};
use super::follow::two_of_three;
use super::lead::{follows, lead};
use super::ours::Ours;

/// The bytes of each of many messages.
const BYTES: usize = 128 * 1024;

/// Publishes so many messages, for which a catchup takes its time.
async fn publish_much(client: &Client, messages: usize) {
    let mut random = Random::new(1);
    for n in 0..messages {
        // Nothing makes them smaller.
        let words = (0..BYTES / 8).flat_map(|_| random.bits().to_le_bytes());
        let payload: Vec<u8> = words.collect();
        publish(client, &format!("orders.{}", n % 7), payload).await.expect("an ack");
    }
}

/// Waits until ours says this once more than before.
async fn says(ours: &Ours, what: &str, before: usize) {
    for _ in 0..PATIENCE.as_millis() / 5 {
        if ours.log().matches(what).count() > before {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("it never says {what:?}");
}

/// Ours, which is being brought messages by a real leader.
struct Served {
    client: Client,
    group: String,
    leader: usize,
    ours: Ours,
}

async fn being_served(bed: &mut Bed, folder: &tempfile::TempDir) -> Served {
    let client = bed.client(0).await;
    let (group, down) = two_of_three(bed, &client).await;
    publish_much(&client, 600).await;
    // The leader may go.
    let client = bed.client_of_all().await;
    for server in (0..3).filter(|server| *server != down) {
        let asked = json!({"do": "snapshot", "account": "APP", "stream": "ORDERS"});
        // It may be taking one by itself.
        while bed.ask(server, asked.clone()).await.is_err_and(|why| why.contains("in progress")) {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let leader = bed.leader(&group).await;
    let ours = Ours::adopt(bed, down, "ORDERS", folder.path().join("ours"));
    says(&ours, "try 1", 0).await;
    Served { client, group, leader, ours }
}

/// It asks again, and gets what it lacks.
async fn is_served_on(bed: &mut Bed, group: &str, ours: &Ours, client: &Client) {
    bed.leader(group).await;
    ours.same_as(client).await;
    let log = ours.log();
    let asked: Vec<_> = log.lines().filter(|line| line.contains(", try ")).collect();
    assert!(asked.len() > 1, "the catchup was over before: {asked:#?}");
}

#[tokio::test]
#[ignore = "whether it meets the middle of a catchup is a matter of luck"]
async fn ours_is_served_on_when_the_leader_hands_over() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Served { client, group, leader, ours } = being_served(&mut bed, &folder).await;
    let asked = json!({"do": "stepdown", "group": group});
    bed.ask(leader, asked).await.expect("it hands over");
    is_served_on(&mut bed, &group, &ours, &client).await;
}

#[tokio::test]
async fn ours_is_served_on_when_the_leader_is_killed() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Served { client, group, leader, ours } = being_served(&mut bed, &folder).await;
    bed.kill(leader);
    sleep(Duration::from_millis(300)).await;
    bed.run(leader).await;
    is_served_on(&mut bed, &group, &ours, &client).await;
}

#[tokio::test]
#[ignore = "whether it meets the middle of a catchup is a matter of luck"]
async fn a_real_follower_is_served_on_when_ours_hands_over_or_is_killed() {
    const LEADS: &[&str] = &["--may-lead", "--clients-user", "app", "--clients-password", "app"];
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let client = bed.client(0).await;
    let (group, down) = two_of_three(&mut bed, &client).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ours = Ours::with(&bed, down, "ORDERS", folder.path().join("ours"), LEADS);
    ours.same_as(&client).await;
    let real = if down == 2 { 1 } else { 2 };
    for kills in [false, true] {
        lead(&mut bed, &group, &ours, down).await;
        bed.kill(real);
        publish_much(&client, 150).await;
        ours.ask(&Request::Snapshot).await.expect("a snapshot");
        let before = ours.log().matches("is served").count();
        bed.run(real).await;
        says(&ours, "is served", before).await;
        if kills {
            ours.kill();
            ours.resume(&bed, LEADS);
        } else {
            ours.ask(&Request::StepDown { to: None }).await.expect("it hands over");
        }
        follows(&mut bed, real, &ours).await;
    }
    ours.ask(&Request::StepDown { to: None }).await.unwrap_or_default();
    bed.leader(&group).await;
    ours.same_as(&client).await;
}
