//! The publisher against nodes that play a part: it finds the leader, follows it, and has every
//! message stored once whatever happens to leaders meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::Answer;
use jetwake::event::Request;
use jetwake::wire::ApiError;
use jetwake_driver::client::publisher::{
    Published, Publisher, PublisherSettings, message_id_header,
};
use jetwake_driver::client::{Access, Client, ClientError, NodeAddress};
use jetwake_driver::transport::tls::Security;
use jetwake_driver::transport::{Bounds, Inbound, Transport, TransportSettings, Way};
use tokio::task::JoinHandle;

/// What the nodes share: who leads, and what is stored.
#[derive(Default)]
struct Cluster {
    leader: Option<&'static str>,
    /// Messages by their header, which holds their id.
    stored: BTreeMap<Bytes, u64>,
    /// The payloads, in order.
    payloads: Vec<Bytes>,
    /// Publishes that reached a leader.
    publishes: u64,
}

type Shared = Arc<Mutex<Cluster>>;

impl Cluster {
    fn store(&mut self, header: &Bytes, payload: &Bytes) -> Answer {
        let next = self.payloads.len() as u64 + 1;
        let sequence = *self.stored.entry(header.clone()).or_insert(next);
        if sequence == next {
            self.payloads.push(payload.clone());
        }
        let duplicate = if sequence == next { "" } else { ",\"duplicate\":true" };
        json(format!("{{\"stream\":\"S\",\"seq\":{sequence}{duplicate}}}"))
    }
}

fn json(text: String) -> Answer {
    Answer::Json(text.into())
}

fn refusal(error: &ApiError) -> Answer {
    let error = serde_json::to_string(error).expect("an error serializes");
    json(format!("{{\"error\":{error},\"stream\":\"S\",\"seq\":0}}"))
}

/// A node that plays its part until it is dropped.
struct Node {
    address: NodeAddress,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a node. The part gets each publish that reaches it while it leads, counted over all
/// nodes from 1; what it does not answer stays without an answer.
async fn node(
    name: &'static str,
    cluster: &Shared,
    mut part: impl FnMut(&mut Cluster, &Bytes, &Bytes) -> Option<Answer> + Send + 'static,
) -> Node {
    let settings = TransportSettings {
        name: name.into(),
        cluster: "test".into(),
        listen: "127.0.0.1:0".into(),
        peers: BTreeMap::new(),
        way: Way::Direct,
        security: Security::Plaintext,
        bounds: Bounds::default(),
        seed: 1,
    };
    let (transport, mut inbound) = Transport::start(settings).await.expect("a free port");
    let address = transport.address().to_string().parse().expect("an address");
    let cluster = Arc::clone(cluster);
    let task = tokio::spawn(async move {
        // It lives as long as the task.
        let _transport = transport;
        while let Some(inbound) = inbound.recv().await {
            let Inbound::Requests { client, requests } = inbound else { continue };
            for asked in requests {
                let mut cluster = cluster.lock().expect("no part panics");
                let leads = cluster.leader == Some(name);
                let answer = match &asked.request {
                    Request::Info => {
                        let leader = cluster.leader.unwrap_or_default();
                        Some(json(format!("{{\"cluster\":{{\"leader\":\"{leader}\"}}}}")))
                    }
                    Request::Publish { .. } if !leads => {
                        Some(refusal(&ApiError::CLUSTER_NOT_LEADER))
                    }
                    Request::Publish { header, payload, .. } => {
                        cluster.publishes += 1;
                        part(&mut cluster, header, payload)
                    }
                    _ => None,
                };
                if let Some(answer) = answer {
                    client.answer(asked.id, asked.weight, &answer);
                }
            }
        }
    });
    Node { address, task }
}

fn store_all(cluster: &mut Cluster, header: &Bytes, payload: &Bytes) -> Option<Answer> {
    Some(cluster.store(header, payload))
}

fn access() -> Access {
    Access { name: "test".into(), cluster: "test".into(), security: Security::Plaintext }
}

fn publisher(nodes: &[&Node]) -> Publisher {
    let nodes = nodes.iter().map(|node| node.address.clone()).collect();
    let settings = PublisherSettings {
        window: 100,
        patience: Duration::from_secs(20),
        silence: Duration::from_millis(200),
    };
    Publisher::new(nodes, access(), "S", settings)
}

/// Publishes so many messages, and checks that each has one outcome.
async fn publish(publisher: &mut Publisher, many: u64) -> Vec<Published> {
    let mut outcomes = Vec::new();
    let mut offered = 0;
    while offered < many || !publisher.is_done() {
        while offered < many && publisher.has_room() {
            let number = publisher.offer(Request::Publish {
                subject: Bytes::from_static(b"s"),
                header: message_id_header(&offered.to_string()),
                payload: offered.to_string().into(),
            });
            assert_eq!(number, Ok(offered));
            offered += 1;
        }
        let done = tokio::time::timeout(Duration::from_secs(20), publisher.outcomes(&mut outcomes));
        done.await.expect("outcomes in time").expect("a leader");
    }
    let mut numbers: Vec<_> = outcomes.iter().map(|published| published.number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..many), "every message has one outcome");
    outcomes
}

/// Checks that what was acknowledged is stored there, and nothing twice.
fn check(cluster: &Shared, outcomes: &[Published]) {
    let cluster = cluster.lock().expect("no part panics");
    assert_eq!(cluster.payloads.len(), outcomes.len());
    for published in outcomes {
        let stored = published.outcome.as_ref().expect("stored");
        let place = usize::try_from(stored.sequence).expect("a small sequence") - 1;
        assert_eq!(cluster.payloads[place], published.number.to_string());
    }
}

#[tokio::test]
async fn messages_go_to_the_leader_in_order() {
    let cluster = Shared::default();
    cluster.lock().unwrap().leader = Some("n2");
    let n1 = node("n1", &cluster, store_all).await;
    let n2 = node("n2", &cluster, store_all).await;
    let mut publisher = publisher(&[&n1, &n2]);
    let outcomes = publish(&mut publisher, 1000).await;
    check(&cluster, &outcomes);
    assert!(outcomes.iter().all(|done| done.outcome.as_ref().unwrap().sequence == done.number + 1));
    assert_eq!((publisher.leader(), publisher.leaders()), (Some("n2"), 1));
}

#[tokio::test]
async fn a_leader_that_steps_down_is_left_for_the_next() {
    let cluster = Shared::default();
    cluster.lock().unwrap().leader = Some("n2");
    let n1 = node("n1", &cluster, store_all).await;
    let n2 = node("n2", &cluster, |cluster, header, payload| {
        if cluster.publishes == 500 {
            cluster.leader = Some("n1");
        }
        Some(cluster.store(header, payload))
    })
    .await;
    let mut publisher = publisher(&[&n1, &n2]);
    check(&cluster, &publish(&mut publisher, 1000).await);
    assert_eq!((publisher.leader(), publisher.leaders()), (Some("n1"), 2));
}

#[tokio::test]
async fn what_a_dead_leader_stored_without_saying_is_not_stored_again() {
    let cluster = Shared::default();
    cluster.lock().unwrap().leader = Some("n2");
    let n1 = node("n1", &cluster, store_all).await;
    let (dies, dead) = tokio::sync::oneshot::channel();
    let mut dies = Some(dies);
    let n2 = node("n2", &cluster, move |cluster, header, payload| {
        let answer = cluster.store(header, payload);
        if cluster.publishes < 500 {
            return Some(answer);
        }
        // Stored, but not said: the connection goes first.
        if let Some(dies) = dies.take() {
            let _ = dies.send(());
        }
        None
    })
    .await;
    let mut publisher = publisher(&[&n1, &n2]);
    let heir = Arc::clone(&cluster);
    let killer = tokio::spawn(async move {
        dead.await.expect("it dies");
        drop(n2);
        heir.lock().unwrap().leader = Some("n1");
    });
    let outcomes = publish(&mut publisher, 1000).await;
    killer.await.expect("no panic");
    check(&cluster, &outcomes);
    let duplicates = outcomes.iter().filter(|done| done.outcome.as_ref().unwrap().duplicate);
    assert!(duplicates.count() > 0, "nothing was sent twice: the situation did not occur");
    assert_eq!(publisher.leader(), Some("n1"));
}

#[tokio::test]
async fn a_leader_that_says_nothing_is_left() {
    let cluster = Shared::default();
    cluster.lock().unwrap().leader = Some("n2");
    let n1 = node("n1", &cluster, store_all).await;
    let n2 = node("n2", &cluster, |cluster, header, payload| {
        (cluster.publishes < 300).then(|| cluster.store(header, payload))
    })
    .await;
    let mut publisher = publisher(&[&n1, &n2]);
    // The window is full at 400, so that the leader would be asked no further.
    let heir = Arc::clone(&cluster);
    let heir = tokio::spawn(async move {
        while heir.lock().unwrap().publishes < 350 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        heir.lock().unwrap().leader = Some("n1");
    });
    let outcomes = publish(&mut publisher, 1000).await;
    heir.await.expect("no panic");
    check(&cluster, &outcomes);
    assert_eq!(publisher.leader(), Some("n1"));
}

#[tokio::test]
async fn a_busy_leader_is_asked_again() {
    let cluster = Shared::default();
    cluster.lock().unwrap().leader = Some("n1");
    let n1 = node("n1", &cluster, |cluster, header, payload| {
        let busy = cluster.publishes.is_multiple_of(10);
        Some(match busy {
            true => refusal(&ApiError::INSUFFICIENT_RESOURCES),
            false => cluster.store(header, payload),
        })
    })
    .await;
    let mut publisher = publisher(&[&n1]);
    check(&cluster, &publish(&mut publisher, 500).await);
    assert_eq!(publisher.leaders(), 1);
    assert!(cluster.lock().unwrap().publishes > 550);
}

#[tokio::test]
async fn a_refusal_is_an_outcome() {
    let cluster = Shared::default();
    cluster.lock().unwrap().leader = Some("n1");
    let n1 = node("n1", &cluster, |cluster, header, payload| {
        let even = cluster.publishes.is_multiple_of(2);
        Some(match even {
            true => refusal(&ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM),
            false => cluster.store(header, payload),
        })
    })
    .await;
    let outcomes = publish(&mut publisher(&[&n1]), 10).await;
    let (stored, refused): (Vec<_>, Vec<_>) =
        outcomes.iter().partition(|published| published.outcome.is_ok());
    assert_eq!((stored.len(), refused.len()), (5, 5));
    for published in refused {
        let error = published.outcome.as_ref().unwrap_err();
        assert!(error.is(&ApiError::STREAM_MESSAGE_EXCEEDS_MAXIMUM), "{error}");
    }
}

#[tokio::test]
async fn nobody_leading_is_an_error_after_the_patience() {
    let cluster = Shared::default();
    let n1 = node("n1", &cluster, store_all).await;
    let patience = Duration::from_millis(100);
    let nodes = [n1.address.clone(), "127.0.0.1:1".parse().expect("an address")];
    let found = Client::connect_to_leader(&nodes, &access(), "S", patience).await;
    let Err(error @ ClientError::NoLeader { .. }) = found else { panic!("{found:?}") };
    let text = error.to_string();
    assert!(text.contains("stream \"S\" within 100ms; last: node "), "{text}");
    let named = NodeAddress { name: Some("n9".into()), ..n1.address.clone() };
    let error = Client::connect_to_leader(&[named], &access(), "S", patience).await;
    let error = error.expect_err("another name").to_string();
    assert!(error.contains("found server \"n1\", expected \"n9\""), "{error}");
}
