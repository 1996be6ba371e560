//! Rows 2 and 5: ours takes the place of a server that is down. A real server becomes leader with
//! our vote, or does not for want of it; a real leader commits with our acknowledgements.

use std::time::Duration;

use async_nats::Client;
use jetwake::event::Standing;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bed::{Bed, HEARTBEAT, META, PATIENCE, Plan, Release, api, create, name, publish};
use super::member::{Member, Voice, listen};

#[tokio::test]
async fn the_newest_servers_are_elected_by_our_vote() {
    vote(Release::Newest).await;
}

#[tokio::test]
async fn the_older_servers_are_elected_by_our_vote() {
    vote(Release::Older).await;
}

#[tokio::test]
async fn the_newest_servers_commit_with_our_acknowledgements() {
    quorum(Release::Newest).await;
}

#[tokio::test]
async fn the_older_servers_commit_with_our_acknowledgements() {
    quorum(Release::Older).await;
}

/// The server that has no groups.
const ROUTER: usize = 3;

/// A stream of three replicas of which one is down, and ours in its place.
struct Stage {
    bed: Bed,
    client: Client,
    group: String,
    ours: Member,
    /// The server that leads, the other, and the one that is down.
    cast: [usize; 3],
    /// What was acknowledged, by sequence.
    acknowledged: Vec<(u64, String)>,
}

impl Stage {
    async fn set(release: Release) -> Option<Self> {
        let mut bed = Bed::start(&Plan::with_router(release, 3)).await?;
        let client = bed.client(ROUTER).await;
        let config = json!({"name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3});
        let group = bed.create(&client, config).await;
        let other = json!({"name": "OTHER", "subjects": ["other"], "num_replicas": 1});
        create(&client, &other).await;
        let leader = bed.leader(&group).await;
        let cast = [leader, (leader + 1) % 3, (leader + 2) % 3];
        for group in [&group, META] {
            bed.settled(group).await;
        }
        bed.kill(cast[2]);
        let system = bed.system(ROUTER).await;
        let heard = listen(&system).await;
        let groups = [group.as_str(), META];
        let ours = Member::start(system, heard, &name(cast[2]), &groups, 3, Voice::Speaks);
        let mut stage = Self { bed, client, group, ours, cast, acknowledged: Vec::new() };
        stage.publish("with all that are left").await;
        for group in [0, 1] {
            let whole = |part: &super::member::Part| {
                (part.status(group).standing == Standing::Whole).then_some(())
            };
            stage.ours.until("trusted again", whole).await;
        }
        stage.caught_up().await;
        // Who led when all began may have lost that while the machine was busy.
        let leader = stage.bed.leader(&stage.group).await;
        if leader != stage.cast[0] {
            stage.cast.swap(0, 1);
        }
        Some(stage)
    }

    /// Publishes until it is acknowledged.
    async fn publish(&mut self, what: &str) {
        let begun = Instant::now();
        loop {
            match publish(&self.client, "orders.new", what.to_owned()).await {
                Ok(ack) => {
                    let sequence = ack["seq"].as_u64().expect("an ack has a sequence");
                    return self.acknowledged.push((sequence, what.to_owned()));
                }
                Err(why) => assert!(begun.elapsed() < PATIENCE, "{what}: {why}"),
            }
        }
    }

    /// Waits until ours has all that the servers have.
    async fn caught_up(&mut self) {
        let told = self.bed.settled(&self.group).await;
        let last = told["last"].as_u64().expect("a number");
        let has = |part: &super::member::Part| (part.status(0).durable.get() >= last).then_some(());
        self.ours.until("caught up", has).await;
    }

    /// Lets all servers run again without ours, and looks for all that was acknowledged.
    async fn nothing_is_lost(mut self) {
        self.ours.set_voice(Voice::Mute);
        for server in self.cast {
            if !self.bed.runs(server) {
                self.bed.run(server).await;
            }
        }
        self.bed.leader(META).await;
        self.publish("after all").await;
        self.bed.settled(&self.group).await;
        for (sequence, what) in &self.acknowledged {
            let found = api(&self.client, "STREAM.MSG.GET.ORDERS", &json!({"seq": sequence})).await;
            let found = found.unwrap_or_else(|why| panic!("message {sequence}: {why}"));
            assert_eq!(found["message"]["data"], base64(what), "message {sequence}");
        }
    }
}

async fn vote(release: Release) {
    let Some(mut stage) = Stage::set(release).await else { return };
    let [first, second, _] = stage.cast;
    let granted = stage.ours.look().votes[0].0;
    stage.bed.kill(first);
    let leader = stage.bed.leader(&stage.group).await;
    assert_eq!(leader, second);
    let votes = stage.ours.look().votes[0].0;
    assert!(votes > granted, "no leader without our vote");
    // A busy machine may see it elected more than once.
    let begun = Instant::now();
    loop {
        let told = stage.bed.group(second, &stage.group).await.expect("the group");
        let vote = stage.ours.look().files[0].vote.expect("a vote on disk");
        let elected = vote.vote.map(|peer| json!(peer.to_string())) == Some(told["me"].clone())
            && Some(vote.term.get()) == told["term"].as_u64();
        if elected {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it leads without our vote: {vote:?}, {told}");
        tokio::time::sleep(HEARTBEAT).await;
    }
    stage.publish("by our vote").await;
    stage.caught_up().await;

    // What the first lacks was acknowledged by ours: it must not lead.
    let refused = stage.ours.look().votes[0].1;
    stage.bed.kill(second);
    stage.bed.run(first).await;
    let twice = |part: &super::member::Part| (part.votes[0].1 >= refused + 2).then_some(());
    stage.ours.until("asked twice for a vote that it refuses", twice).await;
    let told = stage.bed.group(first, &stage.group).await.expect("the group");
    assert_ne!(told["state"], "LEADER", "it lacks what was acknowledged");
    stage.bed.run(second).await;
    assert_eq!(stage.bed.leader(&stage.group).await, second);
    stage.nothing_is_lost().await;
}

async fn quorum(release: Release) {
    let Some(mut stage) = Stage::set(release).await else { return };
    let [leader, second, _] = stage.cast;
    stage.bed.kill(second);
    for n in 0..20 {
        stage.publish(&format!("by our acknowledgement {n}")).await;
    }
    let before = commit(&mut stage, leader).await;
    stage.ours.set_voice(Voice::Mute);
    let short = Duration::from_millis(500);
    let alone = publish(&stage.client, "orders.new", "without");
    let stalled = tokio::time::timeout(short, alone).await;
    assert!(!matches!(stalled, Ok(Ok(_))), "nobody else could have it: {stalled:?}");
    assert_eq!(commit(&mut stage, leader).await, before, "one of three is no quorum");
    stage.ours.set_voice(Voice::Speaks);
    stage.publish("on we go").await;
    assert!(commit(&mut stage, leader).await > before);
    stage.nothing_is_lost().await;
}

async fn commit(stage: &mut Stage, server: usize) -> u64 {
    let told: Value = stage.bed.group(server, &stage.group).await.expect("the group");
    told["commit"].as_u64().expect("a number")
}

/// As JetStream's API gives bytes.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for piece in text.as_bytes().chunks(3) {
        let bits = piece.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - piece.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= piece.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
