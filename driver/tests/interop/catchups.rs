//! Catchups of a stream that are disturbed in the middle, in both directions: the leader goes, the
//! connection goes, messages or acks are lost. A gate before our node's server decides when that is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use jetwake::event::Request;
use jetwake::ids::{PeerId, Sequence};
use jetwake::limits::Limits;
use jetwake::random::Random;
use jetwake::wire::SyncRequest;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::bed::{Bed, PATIENCE, Plan, Release, name, publish};
use super::follow::two_of_three;
use super::gate::{Fate, Gate, Rule, Way};
use super::lead::{follows, lead};
use super::ours::Ours;

/// The bytes of each of many messages.
const BYTES: usize = 128 * 1024;
/// So many messages that a real leader has not sent all before it waits for acks.
const FROM_REAL: usize = 600;
/// The same for ours, and more than enough for a catchup that is not sent at once.
const FEWER: usize = 250;
/// How many messages or acks go through before the disturbance.
const BEFORE: u64 = 50;

/// Publishes so many messages.
async fn publish_much(client: &Client, messages: usize) {
    let mut random = Random::new(1);
    for n in 0..messages {
        // Nothing makes them smaller.
        let words = (0..BYTES / 8).flat_map(|_| random.bits().to_le_bytes());
        let payload: Vec<u8> = words.collect();
        publish(client, &format!("orders.{}", n % 7), payload).await.expect("an ack");
    }
}

/// What one peer asks for, in order.
struct Requests {
    heard: Arc<Mutex<Vec<SyncRequest>>>,
    task: JoinHandle<()>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Requests {
    async fn of(client: &Client, server: usize) -> Self {
        let mut requests = client.subscribe("$JSC.SYNC.>").await.expect("a subscription");
        client.flush().await.expect("a server that answers");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (into, peer) = (Arc::clone(&heard), Some(PeerId::from_name(&name(server))));
        let task = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let request = SyncRequest::decode(&request.payload, &Limits::default());
                let request = request.expect("a request");
                if request.peer == peer {
                    into.lock().expect("nobody panicked").push(request);
                }
            }
        });
        Self { heard, task }
    }

    fn all(&self) -> Vec<SyncRequest> {
        self.heard.lock().expect("nobody panicked").clone()
    }

    async fn until(&self, count: usize) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if self.all().len() >= count {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{count} requests were never heard, but {:?}", self.all());
    }

    /// It was interrupted after its first message and before its last, and the rest was asked for.
    fn met_the_middle(&self) {
        let all = self.all();
        let (first, again) = (&all[0], all.get(1).expect("a second request"));
        assert!(first.first < again.first && again.first <= first.last, "{all:?}");
    }
}

/// Ours, which a real leader brings messages.
struct Served {
    client: Client,
    group: String,
    leader: usize,
    gate: Gate,
    requests: Requests,
    ours: Ours,
}

/// The disturbance has begun when this returns.
async fn being_served(
    bed: &mut Bed,
    folder: &tempfile::TempDir,
    messages: usize,
    subjects: &'static str,
    fate: Fate,
) -> Served {
    let client = bed.client(0).await;
    let (group, down) = two_of_three(bed, &client).await;
    publish_much(&client, messages).await;
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
    let stays = (0..3).find(|server| ![leader, down].contains(server)).expect("a third");
    let gate = Gate::before(&bed.url(stays));
    let way = if subjects == "$JSC.R." { Way::ToOurs } else { Way::FromOurs };
    gate.set(Rule { way, subjects, after: BEFORE, fate });
    let requests = Requests::of(&bed.system(stays).await, down).await;
    let (dir, url) = (folder.path().join("ours"), Some(gate.url().to_owned()));
    let ours = Ours::by(bed, down, "ORDERS", dir, &[], url);
    gate.stops().await;
    Served { client, group, leader, gate, requests, ours }
}

impl Served {
    /// It has taken some of what went through.
    async fn has_some(&self) {
        for _ in 0..PATIENCE.as_millis() / 20 {
            if self.ours.info().await["state"]["last_seq"].as_u64() > Some(0) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("it takes nothing: {}", self.ours.info().await);
    }

    /// It has all in the end.
    async fn is_served_on(&self, bed: &mut Bed) {
        bed.leader(&self.group).await;
        self.ours.same_as(&self.client).await;
    }
}

#[tokio::test]
async fn ours_is_served_on_when_the_leader_hands_over() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = being_served(&mut bed, &folder, FROM_REAL, "$JSC.R.", Fate::Held).await;
    let asked = json!({"do": "stepdown", "group": served.group});
    bed.ask(served.leader, asked).await.expect("it hands over");
    served.requests.until(2).await;
    // What was sent before comes late, at an inbox that is left.
    served.gate.open();
    served.is_served_on(&mut bed).await;
    served.requests.met_the_middle();
    assert_eq!(served.requests.all()[1].first, Sequence::new(BEFORE + 1));
}

#[tokio::test]
async fn ours_is_served_on_when_the_leader_is_killed() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = being_served(&mut bed, &folder, FEWER, "$JSC.R.", Fate::Lost(u64::MAX)).await;
    bed.kill(served.leader);
    served.gate.open();
    sleep(Duration::from_millis(300)).await;
    bed.run(served.leader).await;
    served.is_served_on(&mut bed).await;
    served.requests.met_the_middle();
}

#[tokio::test]
async fn ours_asks_again_when_messages_are_lost() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A leader that has sent all hears no more of it.
    let served = being_served(&mut bed, &folder, FROM_REAL, "$JSC.R.", Fate::Lost(3)).await;
    served.is_served_on(&mut bed).await;
    served.requests.met_the_middle();
    let why = format!("expected sequence {}, found {}", BEFORE + 1, BEFORE + 4);
    assert!(served.ours.log().contains(&why), "it goes by the sequence");
    let told = format!("aborted on the remote due to: {why:?}");
    assert!(bed.log(served.leader).contains(&told), "the leader is told so");
}

#[tokio::test]
async fn ours_asks_again_when_the_connection_is_cut() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = being_served(&mut bed, &folder, FEWER, "$JSC.R.", Fate::Held).await;
    // What went through, and is not taken yet, would be lost with the connection.
    served.has_some().await;
    served.gate.cut();
    served.gate.open();
    served.is_served_on(&mut bed).await;
    served.requests.met_the_middle();
}

#[tokio::test]
async fn a_real_leader_goes_on_when_acks_of_ours_are_lost() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = being_served(&mut bed, &folder, FROM_REAL, "$JSC.ACK.", Fate::Lost(20)).await;
    served.is_served_on(&mut bed).await;
    assert_eq!(served.requests.all().len(), 1, "one catchup brought all");
}

/// A real follower, which ours brings messages.
struct Serves {
    client: Client,
    group: String,
    /// Where the follower is, and where ours.
    real: usize,
    place: usize,
    gate: Gate,
    requests: Requests,
    ours: Ours,
}

const LEADS: &[&str] = &["--may-lead", "--clients-user", "app", "--clients-password", "app"];

/// The disturbance has begun when this returns.
async fn serving(
    bed: &mut Bed,
    folder: &tempfile::TempDir,
    subjects: &'static str,
    fate: Fate,
) -> Serves {
    let client = bed.client(0).await;
    let (group, place) = two_of_three(bed, &client).await;
    let gate = Gate::before(&bed.url(0));
    let (dir, url) = (folder.path().join("ours"), Some(gate.url().to_owned()));
    let ours = Ours::by(bed, place, "ORDERS", dir, LEADS, url);
    ours.same_as(&client).await;
    lead(bed, &group, &ours, place).await;
    let real = if place == 2 { 1 } else { 2 };
    bed.kill(real);
    publish_much(&client, FEWER).await;
    ours.ask(&Request::Snapshot).await.expect("a snapshot");
    let way = if subjects == "$JSC.R." { Way::FromOurs } else { Way::ToOurs };
    gate.set(Rule { way, subjects, after: BEFORE, fate });
    let requests = Requests::of(&bed.system(0).await, real).await;
    bed.run(real).await;
    gate.stops().await;
    Serves { client, group, real, place, gate, requests, ours }
}

impl Serves {
    /// The follower has all in the end, and ours as well.
    async fn is_served_on(&self, bed: &mut Bed) {
        follows(bed, self.real, &self.ours).await;
        let _ = self.ours.ask(&Request::StepDown { to: None }).await;
        bed.leader(&self.group).await;
        self.ours.same_as(&self.client).await;
    }
}

#[tokio::test]
async fn a_real_follower_is_served_to_the_end_when_ours_hands_over() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = serving(&mut bed, &folder, "$JSC.R.", Fate::Held).await;
    served.ours.ask(&Request::StepDown { to: None }).await.expect("it hands over");
    bed.leader(&served.group).await;
    assert_ne!(served.ours.info().await["cluster"]["leader"], name(served.place));
    let ended = "has all that was asked for";
    assert!(!served.ours.log().contains(ended), "it was over before");
    served.gate.open();
    served.is_served_on(&mut bed).await;
    assert!(served.ours.log().contains(ended), "who leads no longer serves what it has begun");
    assert_eq!(served.requests.all().len(), 1, "one catchup brought all");
}

#[tokio::test]
async fn a_real_follower_is_served_on_when_ours_is_killed() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut served = serving(&mut bed, &folder, "$JSC.R.", Fate::Lost(u64::MAX)).await;
    served.ours.kill();
    served.gate.open();
    served.ours.resume(&bed, LEADS);
    // A real follower bears half a minute of silence before it asks again.
    served.is_served_on(&mut bed).await;
    served.requests.met_the_middle();
}

#[tokio::test]
async fn a_real_follower_asks_again_when_messages_are_lost() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = serving(&mut bed, &folder, "$JSC.R.", Fate::Lost(3)).await;
    served.is_served_on(&mut bed).await;
    served.requests.met_the_middle();
    assert!(served.ours.log().contains("was aborted there"), "ours is told");
}

#[tokio::test]
async fn ours_goes_on_when_acks_of_a_real_follower_are_lost() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = serving(&mut bed, &folder, "$JSC.ACK.", Fate::Lost(20)).await;
    served.is_served_on(&mut bed).await;
    assert_eq!(served.requests.all().len(), 1, "one catchup brought all");
}
