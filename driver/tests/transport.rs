//! The transport on real loopback sockets: who may come in, what ends a connection, what a
//! connection that was lost comes back to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jetwake::command::{Answer, Destination};
use jetwake::event::Request;
use jetwake::ids::PeerId;
use jetwake::subject::Subject;
use jetwake_driver::client::{Access, Client, NodeAddress};
use jetwake_driver::clock::Clock;
use jetwake_driver::transport::body::{Hello, Role, decode_one};
use jetwake_driver::transport::certificates::Authority;
use jetwake_driver::transport::frame::{self, Kind};
use jetwake_driver::transport::tls::{Security, TlsFiles};
use jetwake_driver::transport::{
    Bounds, Inbound, Transport, TransportError, TransportSettings, Way,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// More than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(name: &str, peers: &[(&str, &str)]) -> TransportSettings {
    let peers = peers.iter().map(|(name, address)| ((*name).into(), (*address).into()));
    TransportSettings {
        name: name.into(),
        cluster: "test".into(),
        listen: "127.0.0.1:0".into(),
        peers: peers.collect::<BTreeMap<_, _>>(),
        way: Way::Direct,
        security: Security::Plaintext,
        bounds: Bounds { reconnect_max: Duration::from_millis(100), ..Bounds::default() },
        seed: 7,
    }
}

fn access() -> Access {
    Access { name: "tester".into(), cluster: "test".into(), security: Security::Plaintext }
}

fn address_of(transport: &Transport) -> NodeAddress {
    transport.address().to_string().parse().expect("an address")
}

async fn next(inbound: &mut Receiver<Inbound>) -> Inbound {
    timeout(PATIENCE, inbound.recv()).await.expect("something in time").expect("a live transport")
}

/// Waits until a count has reached this.
async fn reaches(what: &str, expected: u64, count: impl Fn() -> u64) {
    let reached = async {
        while count() < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{what}: found {}, expected {expected}", count());
}

/// A port that nobody listens on now.
async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// Two transports that know each other, the second not yet started.
async fn two() -> (TransportSettings, TransportSettings) {
    let (first, second) = (free_address().await, free_address().await);
    let mut n1 = settings("n1", &[("n2", &second)]);
    let mut n2 = settings("n2", &[("n1", &first)]);
    (n1.listen, n2.listen) = (first, second);
    (n1, n2)
}

async fn start(settings: &TransportSettings) -> (Transport, Receiver<Inbound>) {
    Transport::start(settings.clone()).await.expect("the address is free")
}

fn hello(role: Role, name: &str) -> BytesMut {
    let mut buffer = BytesMut::new();
    let hello = Hello { name: name.into(), cluster: "test".into(), role, largest: 1 << 20 };
    frame::encode(&mut buffer, Kind::Hello, &[hello]).expect("a hello serializes");
    buffer
}

/// Everything that comes until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> BytesMut {
    let mut received = BytesMut::new();
    let reading = async {
        // A reset is an end as well: unread bytes of ours may cause it.
        while stream.read_buf(&mut received).await.is_ok_and(|length| length > 0) {}
    };
    timeout(PATIENCE, reading).await.expect("the connection was not closed");
    received
}

#[tokio::test]
async fn a_bad_frame_closes_its_connection_and_no_other() {
    let (transport, mut inbound) = start(&settings("n1", &[("n2", "127.0.0.1:1")])).await;
    let mut witness =
        Client::connect(&address_of(&transport), &access()).await.expect("a sound client");

    let mut sound = BytesMut::new();
    frame::encode::<u8>(&mut sound, Kind::Ping, &[]).expect("a ping serializes");
    let changed = |place: usize, value: u8| {
        let mut frame = sound.clone();
        frame[place] = value;
        frame
    };
    let of_kind = |kind| {
        let mut frame = BytesMut::new();
        frame::encode(&mut frame, kind, &[0xff_u8; 3]).expect("bytes serialize");
        frame
    };
    let bad: Vec<(&str, BytesMut)> = vec![
        ("another protocol", BytesMut::from("GET / HTTP/1.1\r\n\r\n")),
        ("another version", changed(4, 2)),
        ("an unknown kind", changed(5, 200)),
        ("a length beyond the bound", changed(9, 0x7f)),
        ("a wrong checksum", changed(13, sound[13] ^ 1)),
        ("a body that does not decode", of_kind(Kind::Requests)),
        ("a frame out of place", of_kind(Kind::Answers)),
    ];
    for (role, name) in [(None, ""), (Some(Role::Client), "c"), (Some(Role::Peer), "n2")] {
        for (what, frame) in &bad {
            let refused = transport.counters().frames_refused.get();
            let mut stream = TcpStream::connect(transport.address()).await.expect("it listens");
            if let Some(role) = role {
                stream.write_all(&hello(role, name)).await.expect("a hello leaves");
            }
            stream.write_all(frame).await.expect("a frame leaves");
            until_closed(&mut stream).await;
            reaches(what, refused + 1, || transport.counters().frames_refused.get()).await;
        }
    }

    witness.submit(5, "S", &Request::Info).expect("the witness is still connected");
    let Inbound::Requests { client, requests } = next(&mut inbound).await else {
        panic!("expected the witness's request");
    };
    assert_eq!((requests[0].id, &requests[0].request), (5, &Request::Info));
    client.answer(5, 0, &Answer::Json(Bytes::from_static(b"{}")));
    let mut answers = Vec::new();
    witness.answers(&mut answers).await.expect("the node lives on");
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn strangers_are_told_why_they_are_refused() {
    let (transport, _inbound) = start(&settings("n1", &[("n2", "127.0.0.1:1")])).await;
    let mut other_cluster = access();
    other_cluster.cluster = "elsewhere".into();
    let error = Client::connect(&address_of(&transport), &other_cluster).await;
    let error = error.expect_err("another cluster").to_string();
    assert!(error.contains("\"elsewhere\", expected \"test\""), "{error}");

    let mut stream = TcpStream::connect(transport.address()).await.expect("it listens");
    stream.write_all(&hello(Role::Peer, "n9")).await.expect("a hello leaves");
    let mut received = until_closed(&mut stream).await;
    let frame = frame::decode(&mut received, 1 << 16).expect("a frame").expect("a whole one");
    let why: &str = decode_one(&frame).expect("a text");
    assert_eq!(why, "server \"n9\" is not among the peers of this node");

    let named = NodeAddress { name: Some("n3".into()), ..address_of(&transport) };
    let error = Client::connect(&named, &access()).await.expect_err("another server").to_string();
    assert!(error.contains("found server \"n1\", expected \"n3\""), "{error}");
}

#[tokio::test]
async fn messages_of_one_turn_share_a_frame_and_keep_their_order() {
    let (n1, n2) = two().await;
    let (first, mut from_first) = start(&n1).await;
    let (_second, mut inbound) = start(&n2).await;
    let n2 = PeerId::from_name("n2");
    assert!(matches!(next(&mut from_first).await, Inbound::Connected(id) if id == n2));

    let to = Destination::Peers(Arc::new([n2]));
    for group in 0..5000_u32 {
        let subject = Subject::from(format!("$NRG.AE.g{group}"));
        first.send(&to, &subject, Some(&subject), &Bytes::copy_from_slice(&group.to_le_bytes()));
    }
    let (mut got, mut batches) = (0_u32, 0);
    while got < 5000 {
        let Inbound::Messages { from, messages } = next(&mut inbound).await else { continue };
        assert_eq!(from, Some(PeerId::from_name("n1")));
        for message in messages {
            assert_eq!(message.payload, &got.to_le_bytes()[..]);
            assert_eq!(message.subject, Subject::from(format!("$NRG.AE.g{got}")));
            assert_eq!(message.reply, Some(message.subject));
            got += 1;
        }
        batches += 1;
    }
    assert_eq!(batches, 1, "5000 small messages fit one frame");
}

#[tokio::test]
async fn a_peer_that_comes_back_is_connected_again() {
    let (n1, n2) = two().await;
    let (first, mut inbound) = start(&n1).await;
    let to = Destination::Peers(Arc::new([PeerId::from_name("n2")]));
    let subject = Subject::from_static("$NRG.V.g");
    for life in 0..3_u8 {
        let (second, mut received) = start(&n2).await;
        assert!(matches!(next(&mut inbound).await, Inbound::Connected(_)), "life {life}");
        first.send(&to, &subject, None, &Bytes::copy_from_slice(&[life]));
        let payload = loop {
            if let Inbound::Messages { messages, .. } = next(&mut received).await {
                break messages[0].payload.clone();
            }
        };
        assert_eq!(payload, &[life][..]);
        drop(second);
        assert!(matches!(next(&mut inbound).await, Inbound::Disconnected(_)), "life {life}");
        // Nobody is there: the message is lost and counted, not kept for later.
        first.send(&to, &subject, None, &Bytes::from_static(b"lost"));
        assert_eq!(first.counters().messages_unconnected.get(), u64::from(life) + 1);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_no_more_than_its_bound() {
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = deaf.local_addr().expect("an address").to_string();
    let mut settings = settings("n1", &[("n2", &address)]);
    settings.bounds.peer_queue = 1 << 20;
    let (transport, mut inbound) = start(&settings).await;
    let (mut stream, _) = deaf.accept().await.expect("it dials");
    stream.write_all(&hello(Role::Peer, "n2")).await.expect("a hello leaves");
    assert!(matches!(next(&mut inbound).await, Inbound::Connected(_)));

    let to = Destination::Subscribers;
    let (subject, payload) = (Subject::from_static("s"), Bytes::from(vec![0; 100_000]));
    for _ in 0..1000 {
        transport.send(&to, &subject, None, &payload);
        tokio::task::yield_now().await;
    }
    let counters = transport.counters();
    let (sent, dropped) = (counters.messages_sent.get(), counters.messages_over_bound.get());
    assert_eq!(sent + dropped, 1000);
    // What the system buffers of a socket comes on top.
    assert!(dropped > 800, "only {dropped} of 100 MB were dropped at a bound of 1 MiB");
}

#[tokio::test]
async fn a_client_is_read_no_further_than_its_requests_are_answered() {
    let mut settings = settings("n1", &[]);
    settings.bounds.client_requests = 100;
    let (transport, mut inbound) = start(&settings).await;
    let mut client = Client::connect(&address_of(&transport), &access()).await.expect("it listens");
    let mut taken = Vec::new();
    for id in 0..1000 {
        client.submit(id, "S", &Request::Info).expect("the queue has room");
        // Small frames, so that the bound lies between two of them.
        tokio::task::yield_now().await;
        while let Ok(Inbound::Requests { client, requests }) = inbound.try_recv() {
            taken.extend(requests.into_iter().map(|request| (client.clone(), request)));
        }
    }
    while taken.len() < 100 {
        let Inbound::Requests { client, requests } = next(&mut inbound).await else { continue };
        taken.extend(requests.into_iter().map(|request| (client.clone(), request)));
    }
    let more = timeout(Duration::from_millis(50), inbound.recv()).await;
    assert!(more.is_err(), "{} requests were read, and then more", taken.len());
    assert!(taken.len() < 200, "{} requests were read at a bound of 100", taken.len());

    let (mut answered, mut answers) = (0, Vec::new());
    while answers.len() < 1000 {
        for (client, request) in taken.drain(..) {
            assert_eq!(request.id, answered);
            client.answer(request.id, request.weight, &Answer::Json(Bytes::new()));
            answered += 1;
        }
        if answered < 1000 {
            let Inbound::Requests { client, requests } = next(&mut inbound).await else { continue };
            taken.extend(requests.into_iter().map(|request| (client.clone(), request)));
        } else {
            let read = timeout(PATIENCE, client.answers(&mut answers)).await;
            read.expect("answers in time").expect("a live connection");
        }
    }
    assert!(answers.iter().map(|answered| answered.id).eq(0..1000));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (first, _inbound) = start(&settings("n1", &[])).await;
    let mut second = settings("n2", &[]);
    second.listen = first.address().to_string();
    let error = Transport::start(second.clone()).await.expect_err("the port is taken");
    let TransportError::Listen { address, .. } = &error else { panic!("{error}") };
    assert_eq!(*address, second.listen);
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

/// An authority in a folder of its own, and a certificate for each name.
fn certificates<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> (tempfile::TempDir, Vec<TlsFiles>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::open(dir.path(), Clock::start().now(), 1).expect("an authority");
    let certify = |name| authority.certify_server(name, &["127.0.0.1".into()]).expect(name);
    let files = names.into_iter().map(certify).collect();
    (dir, files)
}

fn security(files: &TlsFiles) -> Security {
    Security::load(files).expect("files that were just made")
}

#[tokio::test]
async fn peers_and_clients_of_one_authority_meet_under_tls() {
    let (dir, files) = certificates(["n1", "n2"]);
    let (mut n1, mut n2) = two().await;
    (n1.security, n2.security) = (security(&files[0]), security(&files[1]));
    let (first, mut from_first) = start(&n1).await;
    let (_second, mut inbound) = start(&n2).await;
    assert!(matches!(next(&mut from_first).await, Inbound::Connected(_)));
    let payload = Bytes::from(vec![9; 1_000_000]);
    first.send(&Destination::Subscribers, &Subject::from_static("s"), None, &payload);
    let got = loop {
        if let Inbound::Messages { messages, .. } = next(&mut inbound).await {
            break messages;
        }
    };
    assert_eq!(got[0].payload, payload);

    // An authority that is opened again is the same one.
    let authority = Authority::open(dir.path(), Clock::start().now(), 1).expect("an authority");
    let files = authority.certify_client("alice").expect("a certificate");
    let access = Access { security: security(&files), ..access() };
    Client::connect(&address_of(&first), &access).await.expect("the host is in the certificate");
    let named = NodeAddress { name: Some("n1".into()), ..address_of(&first) };
    Client::connect(&named, &access).await.expect("the name is in the certificate");
    let other = NodeAddress { name: Some("n2".into()), ..address_of(&first) };
    let error = Client::connect(&other, &access).await.expect_err("another server").to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused() {
    let (_ours, mine) = certificates(["n1", "n2"]);
    let (_theirs, foreign) = certificates(["n2", "alice"]);
    let (mut n1, mut n2) = two().await;
    // It believes our authority, so that it is our side that must refuse.
    let forged = TlsFiles { ca: mine[0].ca.clone(), ..foreign[0].clone() };
    (n1.security, n2.security) = (security(&mine[0]), security(&forged));
    let (first, mut inbound) = start(&n1).await;
    let (_second, mut from_second) = start(&n2).await;
    reaches("refused", 2, || first.counters().connections_refused.get()).await;
    assert_eq!(first.counters().connections_accepted.get(), 0);
    assert!(inbound.try_recv().is_err(), "a foreign server was connected to");
    assert!(from_second.try_recv().is_err(), "a foreign server got in");

    let alice = TlsFiles { ca: mine[0].ca.clone(), ..foreign[1].clone() };
    let secured = Access { security: security(&alice), ..access() };
    let error = Client::connect(&address_of(&first), &secured).await;
    let error = match error {
        Err(error) => error.to_string(),
        // The client's side of TLS ends first; what the node thinks of it shows at the next step.
        Ok(mut client) => client.info("S").await.expect_err("foreign").to_string(),
    };
    assert!(error.contains("fatal alert"), "{error}");
    Client::connect(&address_of(&first), &access()).await.expect_err("plain TCP");
}

#[tokio::test]
async fn a_peer_is_who_its_certificate_says() {
    let (_dir, files) = certificates(["n1", "n3"]);
    let (mut n1, mut n2) = two().await;
    // Signed by the right authority, but for another name than the one it goes by.
    (n1.security, n2.security) = (security(&files[0]), security(&files[1]));
    let (first, mut inbound) = start(&n1).await;
    let (_second, _from_second) = start(&n2).await;
    reaches("refused", 2, || first.counters().connections_refused.get()).await;
    assert_eq!(first.counters().connections_accepted.get(), 0);
    assert!(inbound.try_recv().is_err(), "n3 was taken for n2");
}
