//! What the transport carries over loopback, in plain TCP and under TLS; run by `cargo bench`.
//!
//! Each side has a thread and a runtime of its own, as a node has. Messages go one way; requests
//! are answered, in a window of 8,192. Nothing is done with either: these are upper bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use jetwake::command::{Answer, Destination};
use jetwake::event::Request;
use jetwake::ids::PeerId;
use jetwake::subject::Subject;
use jetwake_driver::client::{Access, Client, NodeAddress};
use jetwake_driver::clock::Clock;
use jetwake_driver::transport::certificates::Authority;
use jetwake_driver::transport::tls::Security;
use jetwake_driver::transport::{Bounds, Inbound, Transport, TransportSettings, Way};

const WINDOW: u64 = 8192;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::open(dir.path(), Clock::start().now(), 1).expect("an authority");
    let certify = |name| {
        let files = authority.certify_server(name, &["127.0.0.1".into()]).expect("a certificate");
        Security::load(&files).expect("files that were just made")
    };
    let plain = [Security::Plaintext, Security::Plaintext];
    for (what, [first, second]) in [("plain", plain), ("TLS", [certify("n1"), certify("n2")])] {
        for (size, many) in [(300, 2_000_000), (16 * 1024, 200_000), (256 * 1024, 16_000)] {
            let took = messages(first.clone(), second.clone(), size, many);
            let (rate, bytes) = rates(took, size, many);
            println!("{what:5} messages of {size:6} B: {rate:9.0} /s, {bytes:6.0} MB/s");
        }
        let (size, many) = (256, 1_000_000);
        let took = requests(first, second, size, many);
        let (rate, bytes) = rates(took, size, many);
        println!("{what:5} requests of {size:6} B: {rate:9.0} /s, {bytes:6.0} MB/s");
    }
}

fn rates(took: Duration, size: usize, many: u64) -> (f64, f64) {
    let rate = many as f64 / took.as_secs_f64();
    (rate, rate * size as f64 / 1e6)
}

fn settings(name: &str, security: Security, peers: &[(&str, &str)]) -> TransportSettings {
    let peers = peers.iter().map(|(name, address)| ((*name).into(), (*address).into()));
    TransportSettings {
        name: name.into(),
        cluster: "bench".into(),
        listen: "127.0.0.1:0".into(),
        peers: peers.collect::<BTreeMap<_, _>>(),
        way: Way::Direct,
        security,
        bounds: Bounds::default(),
        seed: 1,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn messages(sending: Security, receiving: Security, size: usize, many: u64) -> Duration {
    let (tell, address) = sync_channel(1);
    let received = Arc::new(AtomicU64::new(0));
    let count_received = Arc::clone(&received);
    let receiver = std::thread::spawn(move || {
        block_on(async {
            let settings = settings("n2", receiving, &[("n1", "127.0.0.1:1")]);
            let (transport, mut inbound) = Transport::start(settings).await.expect("a free port");
            tell.send(transport.address().to_string()).expect("the sender waits");
            while count_received.load(Ordering::Relaxed) < many {
                if let Some(Inbound::Messages { messages, .. }) = inbound.recv().await {
                    count_received.fetch_add(messages.len() as u64, Ordering::Relaxed);
                }
            }
        });
    });
    let address = address.recv().expect("it listens");
    block_on(async {
        let settings = settings("n1", sending, &[("n2", &address)]);
        let (transport, mut inbound) = Transport::start(settings).await.expect("a free port");
        while !matches!(inbound.recv().await, Some(Inbound::Connected(_))) {}
        let to = Destination::Peers(Arc::new([PeerId::from_name("n2")]));
        let (subject, payload) =
            (Subject::from_static("$NRG.AE.S-R3F-abcdefgh"), Bytes::from(vec![7; size]));
        let clock = Clock::start();
        let started = clock.now();
        for count in 0..many {
            transport.send(&to, &subject, Some(&subject), &payload);
            // The loop ends a turn after some messages, and the core keeps its windows.
            if count % (1 + 256 * 1024 / size as u64) == 0 {
                tokio::task::yield_now().await;
                while (count - received.load(Ordering::Relaxed).min(count)) * size as u64 > 4 << 20
                {
                    tokio::time::sleep(Duration::from_micros(100)).await;
                }
            }
        }
        while !receiver.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        clock.now().since(started)
    })
}

fn requests(asking: Security, answering: Security, size: usize, many: u64) -> Duration {
    let (tell, address) = sync_channel(1);
    std::thread::spawn(move || {
        block_on(async {
            let settings = settings("n1", answering, &[]);
            let (transport, mut inbound) = Transport::start(settings).await.expect("a free port");
            tell.send(transport.address().to_string()).expect("the client waits");
            let answer = Answer::Json(Bytes::from_static(br#"{"stream":"S","seq":1000000}"#));
            let mut left = many;
            while left > 0 {
                if let Some(Inbound::Requests { client, requests }) = inbound.recv().await {
                    left -= requests.len() as u64;
                    for request in requests {
                        client.answer(request.id, request.weight, &answer);
                    }
                }
            }
            // The last answers must leave before the connection goes.
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
    });
    let address = address.recv().expect("it listens");
    block_on(async {
        let access = Access { name: "bench".into(), cluster: "bench".into(), security: asking };
        let node: NodeAddress = address.parse().expect("an address");
        let mut client = Client::connect(&node, &access).await.expect("it listens");
        let request = Request::Publish {
            subject: Bytes::from_static(b"orders.new"),
            header: Bytes::new(),
            payload: vec![7; size].into(),
        };
        let clock = Clock::start();
        let started = clock.now();
        let (mut sent, mut answers) = (0, Vec::new());
        let mut answered = 0;
        while answered < many {
            while sent < many && sent - answered < WINDOW {
                client.submit(sent, "S", &request).expect("the window bounds it");
                sent += 1;
            }
            client.answers(&mut answers).await.expect("answers");
            answered += answers.drain(..).len() as u64;
        }
        clock.now().since(started)
    })
}
