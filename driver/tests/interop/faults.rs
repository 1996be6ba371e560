//! Kills of either side, with kill -9: what a client was told is there in the end, on every replica.
//!
//! `JETWAKE_ROUNDS` says how many kills; a few unless it is set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use jetwake::event::Request;
use jetwake::random::Random;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::bed::{Bed, Plan, Release, name};
use super::follow::two_of_three;
use super::lead::lead;
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

/// What the tests of faults share: a cluster, ours in a dead server's place, and a publisher.
struct Stage {
    bed: Bed,
    group: String,
    /// The place that ours has.
    down: usize,
    /// The server that is killed; the client stays connected to the other.
    real: usize,
    client: Client,
    ours: Ours,
    /// What ours is told besides.
    more: &'static [&'static str],
    random: Random,
    stop: Arc<AtomicBool>,
    acked: Acked,
    publishing: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// How many kills.
fn rounds() -> u32 {
    std::env::var("JETWAKE_ROUNDS").map_or(4, |text| text.parse().expect("a number"))
}

impl Stage {
    async fn set(more: &'static [&'static str]) -> Option<Self> {
        let mut bed = Bed::start(&Plan::of(Release::Newest, 3)).await?;
        let client = bed.client(0).await;
        let (group, down) = two_of_three(&mut bed, &client).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ours = Ours::with(&bed, down, "ORDERS", folder.path().join("ours"), more);
        ours.same_as(&client).await;
        ours.counts(&mut bed, &group).await;
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Acked::default());
        let publishing = tokio::spawn(publish_on(client.clone(), Arc::clone(&stop), acked.clone()));
        let (real, random) = (if down == 2 { 1 } else { 2 }, Random::new(7));
        let _folder = folder;
        Some(Self {
            bed,
            group,
            down,
            real,
            client,
            ours,
            more,
            random,
            stop,
            acked,
            publishing,
            _folder,
        })
    }

    fn pause(&mut self, least: u64, most: u64) -> Duration {
        self.random.duration(Duration::from_millis(least)..Duration::from_millis(most))
    }

    /// Kills one, which comes back after a while; the other two are the quorum.
    async fn kill(&mut self, ours: bool) {
        sleep(self.pause(100, 900)).await;
        let away = self.pause(50, 1500);
        if ours {
            self.ours.kill();
            sleep(away).await;
            self.ours.resume(&self.bed, self.more);
        } else {
            self.bed.kill(self.real);
            sleep(away).await;
            self.bed.run(self.real).await;
        }
    }

    /// Waits until more is acknowledged than so much.
    async fn goes_on(&self, round: u32, before: usize) {
        let goes_on = async {
            while self.told() < before + 5 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), goes_on)
            .await
            .unwrap_or_else(|_| panic!("round {round}: nothing is acknowledged"));
    }

    fn told(&self) -> usize {
        self.acked.lock().expect("a sound map").len()
    }

    /// Ends publishing, and looks for all that was acknowledged on all replicas.
    async fn nothing_is_lost(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.publishing.await.expect("it ends");
        self.ours.same_as(&self.client).await;
        let acked = self.acked.lock().expect("a sound map").clone();
        let kept = self.ours.messages().await;
        let kept: BTreeMap<u64, _> =
            kept.iter().map(|message| (message.sequence.get(), &message.payload[..])).collect();
        for (sequence, payload) in &acked {
            assert_eq!(kept.get(sequence), Some(&payload.as_bytes()), "{sequence}");
        }
        let payloads: BTreeSet<_> = kept.values().collect();
        let ids = payloads.iter().filter(|payload| payload.starts_with(b"kept ")).count();
        let messages = kept.values().filter(|payload| payload.starts_with(b"kept ")).count();
        assert_eq!(ids, messages, "a message with an id is stored once");
        acked.len()
    }
}

#[tokio::test]
async fn kills_of_either_side_lose_nothing() {
    let Some(mut stage) = Stage::set(&[]).await else { return };
    for round in 0..rounds() {
        let before = stage.told();
        stage.kill(round % 2 == 0).await;
        stage.bed.leader(&stage.group).await;
        stage.goes_on(round, before).await;
    }
    let acked = stage.nothing_is_lost().await;
    println!("{} kills, {acked} acknowledged, none lost", rounds());
}

#[tokio::test]
async fn kills_while_ours_leads_lose_nothing() {
    const LEADS: &[&str] = &["--may-lead", "--clients-user", "app", "--clients-password", "app"];
    let Some(mut stage) = Stage::set(LEADS).await else { return };
    let mut led = 0;
    for round in 0..rounds() {
        lead(&mut stage.bed, &stage.group, &stage.ours, stage.down).await;
        let before = stage.told();
        stage.goes_on(round, before).await;
        let info = stage.ours.info().await;
        led += u32::from(info["cluster"]["leader"] == name(stage.down));
        let before = stage.told();
        stage.kill(round % 2 == 0).await;
        stage.goes_on(round, before).await;
    }
    assert!(led * 2 >= rounds(), "ours led in {led} rounds only");
    // What a stream holds is told by a server that leads it.
    let step_down = Request::StepDown { to: None };
    let _ = stage.ours.ask(&step_down).await;
    stage.bed.leader(&stage.group).await;
    let acked = stage.nothing_is_lost().await;
    println!("{} kills while ours led, {acked} acknowledged, none lost", rounds());
}
