//! Kills of either side, with kill -9: what a client was told is there in the end, on every replica.
//!
//! `JETWAKE_ROUNDS` says how many kills; a few unless it is set.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use jetwake::random::Random;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::bed::{Bed, Plan, Release};
use super::follow::two_of_three;
use super::ours::Ours;

/// What the client was told: sequences, and what is in them.
type Acked = Arc<Mutex<BTreeMap<u64, String>>>;

/// Publishes without a pause, each message until it is acknowledged.
async fn publish_on(client: Client, stop: Arc<AtomicBool>, acked: Acked) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let payload = format!("kept {n}");
        loop {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", payload.as_str());
            let asked = client.request_with_headers("orders.kept", headers, payload.clone().into());
            if let Ok(Ok(answer)) = timeout(Duration::from_secs(2), asked).await
                && let Ok(ack) = serde_json::from_slice::<Value>(&answer.payload)
                && let (Some(sequence), None) = (ack["seq"].as_u64(), ack.get("error"))
            {
                acked.lock().expect("a sound map").insert(sequence, payload);
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn kills_of_either_side_lose_nothing() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let client = bed.client(0).await;
    let (group, down) = two_of_three(&mut bed, &client).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ours = Ours::adopt(&bed, down, "ORDERS", folder.path().join("ours"));
    ours.same_as(&client).await;
    ours.counts(&mut bed, &group).await;
    let rounds = std::env::var("JETWAKE_ROUNDS").map_or(4, |text| text.parse().expect("a number"));
    let mut random = Random::new(7);
    let (stop, acked) = (Arc::new(AtomicBool::new(false)), Acked::default());
    let publishing = tokio::spawn(publish_on(client.clone(), Arc::clone(&stop), acked.clone()));
    let real = if down == 2 { 1 } else { 2 };
    for round in 0..rounds {
        let mut pause = |least, most| {
            random.duration(Duration::from_millis(least)..Duration::from_millis(most))
        };
        sleep(pause(100, 900)).await;
        let away = pause(50, 1500);
        let before = acked.lock().expect("a sound map").len();
        // One at a time: the other two are the quorum.
        if round % 2 == 0 {
            ours.kill();
            sleep(away).await;
            ours.resume(&bed);
        } else {
            bed.kill(real);
            sleep(away).await;
            bed.run(real).await;
        }
        bed.leader(&group).await;
        // It goes on before the next.
        let goes_on = async {
            while acked.lock().expect("a sound map").len() < before + 5 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), goes_on)
            .await
            .unwrap_or_else(|_| panic!("round {round}: nothing is acknowledged"));
    }
    stop.store(true, Ordering::Relaxed);
    publishing.await.expect("it ends");
    ours.same_as(&client).await;
    let acked = acked.lock().expect("a sound map").clone();
    let kept = ours.messages().await;
    let kept: BTreeMap<u64, _> =
        kept.iter().map(|message| (message.sequence.get(), &message.payload[..])).collect();
    for (sequence, payload) in &acked {
        assert_eq!(kept.get(sequence), Some(&payload.as_bytes()), "{sequence}");
    }
    println!("{rounds} kills, {} acknowledged, none lost", acked.len());
}
