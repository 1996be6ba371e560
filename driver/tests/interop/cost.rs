//! What a tap costs those whom it listens to: by hand, with an optimised program.
//!
//! `JETWAKE_PROGRAM=target/release/jetwake cargo test -p jetwake-driver --test interop cost -- --ignored --nocapture`

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::time::Instant;

use super::bed::{Bed, Plan, Release};

/// Messages of one measurement, and how many of them wait for their acknowledgements at a time.
const MESSAGES: usize = 40_000;
const WAITING: usize = 512;
/// Measurements with a tap and without, in turn.
const PAIRS: usize = 10;

/// What publishing took.
#[derive(Debug)]
struct Cost {
    /// Messages a second.
    rate: f64,
    /// Microseconds of processor time that the servers took for each.
    servers: f64,
    /// The same of the tap.
    tap: f64,
}

/// Seconds of processor time that a process has taken.
fn seconds(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

async fn publish(js: &Context) {
    let mut waiting = FuturesUnordered::new();
    for n in 0..MESSAGES {
        if waiting.len() == WAITING {
            let ack: Result<_, _> = waiting.next().await.expect("some wait");
            ack.expect("an ack");
        }
        let payload = format!("{n:0128}");
        let sent = js.publish("orders.new", payload.into()).await.expect("sent");
        waiting.push(sent.into_future());
    }
    while let Some(ack) = waiting.next().await {
        ack.expect("an ack");
    }
}

fn tap(bed: &Bed) -> Child {
    let program = std::env::var("JETWAKE_PROGRAM");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_jetwake").into());
    let mut tap = Command::new(program);
    tap.args(["tap", "--server", &bed.url(0), "--user", "sys", "--password", "sys"]);
    tap.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs")
}

async fn measure(bed: &Bed, js: &Context, with_tap: bool) -> Cost {
    let mut tap = with_tap.then(|| tap(bed));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let servers = || bed.processes().into_iter().map(seconds).sum::<f64>();
    let of_tap = tap.as_ref().map(Child::id);
    let took = |began: f64, ended: f64| (ended - began) / MESSAGES as f64 * 1e6;
    let (before, tap_before, began) = (servers(), of_tap.map_or(0.0, seconds), Instant::now());
    publish(js).await;
    let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
    let cost = Cost {
        rate,
        servers: took(before, servers()),
        tap: took(tap_before, of_tap.map_or(0.0, seconds)),
    };
    if let Some(tap) = &mut tap {
        let _ = tap.kill();
        let _ = tap.wait();
    }
    cost
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

#[tokio::test]
#[ignore = "a measurement, for a quiet machine"]
async fn what_a_tap_costs() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let client = bed.client_of_all().await;
    let config = json!({"name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3});
    let group = bed.create(&client, config).await;
    bed.leader(&group).await;
    let js = jetstream::new(client);
    measure(&bed, &js, false).await;
    let (mut rates, mut servers, mut taps) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Which comes first changes.
        let first = measure(&bed, &js, pair % 2 == 0).await;
        let second = measure(&bed, &js, pair % 2 == 1).await;
        let (with, without) = if pair % 2 == 0 { (first, second) } else { (second, first) };
        println!("with {with:.1?} without {without:.1?}");
        rates.push((with.rate / without.rate - 1.0) * 100.0);
        servers.push((with.servers / without.servers - 1.0) * 100.0);
        taps.push(with.tap);
    }
    println!(
        "medians of {PAIRS} pairs: publish rate {:+.1} %, the servers' processor time {:+.1} %, the tap's own {:.1} us a message",
        median(rates),
        median(servers),
        median(taps),
    );
}
