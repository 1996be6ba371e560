//! NATS clients of streams of ours, unchanged: what JetStream's client of async-nats is served.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, Context};
use futures_util::TryStreamExt;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::bed::{Bed, Plan, Release, api, publish, publish_from_go};
use super::nodes::{Nodes, Settings, refused};

pub(crate) const STREAMS: &str = "[[stream]]\nname = \"ORDERS\"\nsubjects = [\"orders.>\"]\n\
                      [[stream]]\nname = \"BILLS\"\nsubjects = [\"bills\", \"dues.*\"]\n";

/// One NATS server without JetStream.
pub(crate) fn plain(release: Release) -> Plan {
    Plan { jetstream: false, ..Plan::of(release, 1) }
}

/// Peers and clients at the bed's first server, both in the account of applications.
pub(crate) fn ways(bed: &Bed, more: &str) -> String {
    let access = format!("servers = [\"{}\"], user = \"app\", password = \"app\"", bed.url(0));
    format!(
        "transport = \"nats\"\nnats = {{ {access}, prefix = \"peers\" }}\n\
         nats_clients = {{ {access}{more} }}\n"
    )
}

fn start(bed: &Bed) -> Nodes {
    Nodes::start(&Settings { ways: &ways(bed, ""), streams: STREAMS })
}

fn message(payload: &str) -> PublishMessage {
    PublishMessage::build().payload(payload.to_owned().into())
}

/// Publishes, again while nobody leads.
pub(crate) async fn stored(js: &Context, subject: &str, payload: &str) -> u64 {
    for _ in 0..200 {
        let sent = js.send_publish(subject.to_owned(), message(payload).message_id(payload));
        if let Ok(ack) = sent.await
            && let Ok(Ok(ack)) = timeout(Duration::from_secs(2), ack.into_future()).await
        {
            return ack.sequence;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("{payload} is not stored");
}

#[tokio::test]
async fn clients_publish_to_our_streams_and_ask_about_them_at_the_newest_server() {
    serve(Release::Newest).await;
}

#[tokio::test]
async fn clients_publish_to_our_streams_and_ask_about_them_at_an_older_server() {
    serve(Release::Older).await;
}

async fn serve(release: Release) {
    let Some(bed) = Bed::start(&plain(release)).await else { return };
    let nodes = start(&bed);
    let client = bed.client(0).await;
    for stream in ["ORDERS", "BILLS"] {
        nodes.leader(&client, stream).await;
    }
    let js = jetstream::new(client.clone());
    publishes(&js).await;
    asks(&js).await;
    is_refused(&client).await;
}

async fn publishes(js: &Context) {
    assert_eq!(stored(js, "orders.new", "one").await, 1);
    let send = async |message| js.send_publish("orders.new", message).await.expect("sent").await;
    let again = send(message("one").message_id("one")).await.expect("an ack");
    assert_eq!((again.sequence, again.duplicate, &again.stream[..]), (1, true, "ORDERS"));
    let next = send(message("two").expected_last_sequence(1).expected_stream("ORDERS"));
    assert_eq!(next.await.expect("an ack").sequence, 2);
    let wrong = send(message("three").expected_last_sequence(1)).await.expect_err("it is 2");
    assert_eq!(wrong.kind(), PublishErrorKind::WrongLastSequence);
    let wrong = send(message("three").expected_last_message_id("one")).await.expect_err("none");
    assert_eq!(wrong.kind(), PublishErrorKind::WrongLastMessageId);
    let wrong = send(message("three").expected_stream("BILLS")).await.expect_err("ORDERS");
    assert!(wrong.to_string().contains("expected stream does not match"), "{wrong}");
    let batch = message("three").header("Nats-Batch-Id", "b").header("Nats-Batch-Sequence", "1");
    let refused = send(batch.header("Nats-Batch-Commit", "1")).await.expect_err("not allowed");
    assert!(refused.to_string().contains("10174"), "{refused}");
    let with_header = message("three").header("Their", "own").header("Another", "one");
    assert_eq!(send(with_header).await.expect("an ack").sequence, 3);
    // Nobody waits for an answer to this, and it is stored all the same.
    js.client().publish("dues.may", "unanswered".into()).await.expect("sent");
    assert_eq!(stored(js, "bills", "four").await, 2);
    let nowhere = js.send_publish("dues.may.x", message("five")).await.expect("sent").await;
    assert_eq!(nowhere.expect_err("no stream").kind(), PublishErrorKind::StreamNotFound);
}

async fn asks(js: &Context) {
    let orders = js.get_stream("ORDERS").await.expect("a stream");
    let info = orders.cached_info();
    assert_eq!((info.state.messages, info.state.last_sequence), (3, 3));
    assert_eq!(info.config.num_replicas, 3);
    let third = orders.get_raw_message(3).await.expect("a message");
    assert_eq!((&third.subject[..], &third.payload[..]), ("orders.new", &b"three"[..]));
    let header = |name| third.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!((header("Their"), header("Another")), (Some("own".into()), Some("one".into())));
    let last = orders.get_last_raw_message_by_subject("orders.*").await.expect("a message");
    assert_eq!((last.sequence, last.time.unix_timestamp() > 1_600_000_000), (3, true));
    let none = orders.get_last_raw_message_by_subject("orders.old").await.expect_err("none");
    assert_eq!(none.kind(), LastRawMessageErrorKind::NoMessageFound);
    assert!(orders.delete_message(2).await.expect("an answer"));
    assert!(orders.delete_message(2).await.is_err(), "it is gone");
    assert!(orders.get_raw_message(2).await.is_err(), "it is gone");
    let purged = orders.purge().keep(1).await.expect("an answer");
    assert_eq!((purged.success, purged.purged), (true, 1));
    // The library hands lists out from their end.
    let names: Vec<String> = js.stream_names().try_collect().await.expect("a list");
    assert_eq!(names, ["ORDERS", "BILLS"]);
    assert_eq!(js.stream_by_subject("dues.may").await.expect("an answer"), "BILLS");
    let all: Vec<_> = js.streams().try_collect().await.expect("a list");
    let told: Vec<_> =
        all.iter().map(|info| (&info.config.name[..], info.state.messages)).collect();
    assert_eq!(told, [("ORDERS", 1), ("BILLS", 2)]);
    assert!(js.get_stream("NONE").await.is_err(), "there is no such stream");
}

async fn is_refused(client: &async_nats::Client) {
    for (asked, payload, code) in [
        ("STREAM.INFO.NONE", json!({}), 10059),
        ("STREAM.PURGE.ORDERS", json!({"keep": 1, "seq": 1}), 10003),
        ("STREAM.PURGE.ORDERS", json!({"keep": "one"}), 10025),
        ("STREAM.MSG.GET.ORDERS", json!({}), 10003),
        ("STREAM.MSG.GET.ORDERS", json!({"seq": 9}), 10037),
        ("STREAM.MSG.DELETE.NONE", json!({"seq": 9}), 10059),
        ("STREAM.CREATE.NEW", json!({"name": "NEW", "subjects": ["new"]}), 10003),
        ("STREAM.DELETE.ORDERS", json!({}), 10003),
        ("CONSUMER.LIST.ORDERS", json!({}), 10003),
        ("CONSUMER.LIST.NONE", json!({}), 10059),
        ("WHAT.IS.THIS", json!({}), 10003),
    ] {
        let refused = api(client, asked, &payload).await.expect_err(asked);
        assert_eq!(refused["err_code"], code, "{asked}: {refused}");
    }
    let nobody = publish(client, "nobody.there", "").await.expect_err("no stream has it");
    assert!(nobody.to_string().contains("no responders"), "{nobody}");
}

#[tokio::test]
async fn the_client_of_go_publishes_to_our_streams() {
    let Some(bed) = Bed::start(&plain(Release::Newest)).await else { return };
    let nodes = start(&bed);
    nodes.leader(&bed.client(0).await, "ORDERS").await;
    let told = publish_from_go(&bed.url(0), "ORDERS", "orders.go").await;
    let ack = |duplicate| json!({"stream": "ORDERS", "seq": 1, "duplicate": duplicate});
    assert_eq!((&told["first"], &told["again"]), (&ack(false), &ack(true)));
    assert_eq!((&told["refused"], &told["async"]), (&json!(10071), &json!(500)));
    assert_eq!((&told["messages"], &told["last"]), (&json!(501), &json!("async 499")));
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_leader_is_killed() {
    let Some(bed) = Bed::start(&plain(Release::Newest)).await else { return };
    let mut nodes = start(&bed);
    let client = bed.client(0).await;
    let mut leader = nodes.leader(&client, "ORDERS").await;
    let js = jetstream::new(client.clone());
    let publishing = tokio::spawn(async move {
        let mut acked = BTreeMap::new();
        for n in 0..600 {
            let payload = format!("kept {n}");
            acked.insert(stored(&js, "orders.kept", &payload).await, payload);
        }
        acked
    });
    for _ in 0..3 {
        sleep(Duration::from_millis(400)).await;
        nodes.kill(leader);
        let next = nodes.leader(&client, "ORDERS").await;
        assert_ne!(next, leader);
        nodes.run(leader);
        leader = next;
    }
    let acked = publishing.await.expect("all are stored");
    assert_eq!(acked.len(), 600, "each has a sequence of its own");
    let stream = jetstream::new(client).get_stream("ORDERS").await.expect("a stream");
    assert_eq!(stream.cached_info().state.messages, 600, "none is doubled");
    for (sequence, payload) in acked {
        let found = stream.get_raw_message(sequence).await.expect("a message");
        assert_eq!(found.payload, payload.as_bytes(), "{sequence}");
    }
}

#[tokio::test]
async fn where_jetstream_answers_itself_clients_are_served_in_a_domain_or_not_at_all() {
    let Some(bed) = Bed::start(&Plan::of(Release::Newest, 1)).await else { return };
    let said = refused(&Settings { ways: &ways(&bed, ""), streams: STREAMS });
    assert!(said.contains("the account has JetStream, which answers at $JS.API.>"), "{said}");

    let ways = ways(&bed, ", domain = \"ours\"");
    let _nodes = Nodes::start(&Settings { ways: &ways, streams: STREAMS });
    let client = bed.client(0).await;
    let js = jetstream::with_domain(client.clone(), "ours");
    assert_eq!(stored(&js, "orders.new", "one").await, 1);
    let acknowledged = js.publish("orders.new", "two".into()).await.expect("sent").await;
    assert_eq!(acknowledged.expect("it is stored").domain, "ours");
    let ours = js.get_stream("ORDERS").await.expect("our stream");
    assert_eq!(ours.cached_info().state.messages, 2);
    assert!(jetstream::new(client).get_stream("ORDERS").await.is_err(), "it is not theirs");
}
