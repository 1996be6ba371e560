//! Bytes that another client of the system account publishes where peers speak: they are counted,
//! nothing else is lost, nothing panics and no memory stays taken.

use std::path::Path;

use async_nats::Client;
use bytes::Bytes;
use jetwake::random::Random;
use jetwake_driver::tap::Show;
use serde_json::Value;

use super::bed::{Bed, Plan, Release};
use super::member::{Member, Voice, listen};
use super::tap::{Tap, access, options};

/// Messages of one round, each different.
const KINDS: usize = 10_000;
/// Bytes by which the process may grow in the rounds after the first.
const GROWTH: u64 = 24 << 20;
/// Messages after which the server is asked whether it has them.
const TOGETHER: usize = 250;

#[tokio::test]
async fn hostile_bytes_are_counted_and_change_nothing() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 1)).await else { return };
    let tap = Tap::start(access(bed.urls(), "sys"), options(Show::Json));
    tap.listens(&mut bed, 0).await;
    let system = bed.system(0).await;
    let heard = listen(&system).await;
    let ours = Member::start(system, heard, "S1", &["HOSTILE"], 3, Voice::Mute);
    let hostile = bed.system(0).await;
    let seeds = corpora();
    let mut random = Random::new(11);
    let mut sent = round(&hostile, &seeds, &mut random).await;
    let mut memory = 0;
    for after in 0..3 {
        sent += round(&hostile, &seeds, &mut random).await;
        // What was sent last is what a member says when it is heard out.
        marker(&hostile, &ours, after).await;
        sent += 1;
        memory = if after == 0 { resident() } else { memory };
    }
    let grown = resident().saturating_sub(memory);
    assert!(grown < GROWTH, "{grown} bytes more");
    assert!(ours.look().refused > 0, "nothing was refused");

    tap.until("a state after all messages", |told| counts(told)["messages"] == sent as u64).await;
    let counts = counts(&tap.stop().await);
    assert_eq!(counts["missed"], 0, "{counts}");
    assert!(counts["malformed"].as_u64() > Some(1_000), "{counts}");
    assert!(counts["unknown"].as_u64() > Some(1_000), "{counts}");
}

/// The counts of the last state that a tap wrote.
fn counts(told: &str) -> Value {
    let states = told.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut counts = states.filter_map(|line| line.pointer("/state/counts").cloned());
    counts.next().unwrap_or_default()
}

/// Publishes one round, and says how many messages that were.
async fn round(client: &Client, seeds: &[Bytes], random: &mut Random) -> usize {
    const SUBJECTS: [&str; 12] = [
        "$NRG.AE.HOSTILE",
        "$NRG.V.HOSTILE",
        "$NRG.P.HOSTILE",
        "$NRG.RP.HOSTILE",
        "$NRG.R.",
        "$NRG.CR.",
        "$NRG.AE.",
        "$NRG.nobody.knows.",
        "$JSC.SYNC.",
        "$JSC.R.",
        "$JSC.ACK.hostile1.",
        "$JSC.",
    ];
    for n in 0..KINDS {
        let token = String::from_utf8(random.inbox_token().to_vec()).expect("digits");
        let mut subject = SUBJECTS[n % SUBJECTS.len()].to_owned();
        if subject.ends_with('.') {
            subject.push_str(&token);
        }
        let mut payload = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..random.below(4) {
            if !payload.is_empty() {
                let at = random.below(payload.len());
                payload[at] = random.bits() as u8;
            }
        }
        if random.below(8) == 0 {
            payload.truncate(random.below(payload.len() + 1));
        }
        let reply = format!("$NRG.R.{token}");
        let sent = client.publish_with_reply(subject, reply, payload.into()).await;
        sent.expect("the server takes it");
        if n % TOGETHER == 0 {
            client.flush().await.expect("the server answers");
            tokio::task::yield_now().await;
        }
    }
    client.flush().await.expect("the server answers");
    KINDS
}

/// Waits until the member has heard all that was published before.
async fn marker(client: &Client, ours: &Member, round: usize) {
    let before = ours.look().heard;
    client
        .publish(format!("$NRG.marker.{round}"), Bytes::new())
        .await
        .expect("the server takes it");
    client.flush().await.expect("the server answers");
    ours.until("heard the marker", |part| {
        (part.heard > before && part.marker == round + 1).then_some(())
    })
    .await;
}

/// Every file of the fuzzers' corpora.
fn corpora() -> Vec<Bytes> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
    let mut seeds = Vec::new();
    for target in std::fs::read_dir(root).expect("the corpora") {
        for file in std::fs::read_dir(target.expect("a target").path()).expect("a corpus") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("its bytes");
            // A server takes no more in one message, and has others to serve.
            seeds.extend((bytes.len() < 64 * 1024).then(|| Bytes::from(bytes)));
        }
    }
    assert!(seeds.len() > 100, "{} files", seeds.len());
    seeds
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let told = std::fs::read_to_string("/proc/self/statm").expect("a Linux system");
    let pages: u64 = told.split(' ').nth(1).expect("a second number").parse().expect("a number");
    pages * 4096
}
