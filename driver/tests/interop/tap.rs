//! `jetwake tap` on live clusters: what it tells, that it publishes nothing, and what it says where
//! there is nothing to see.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use jetwake_driver::tap::{self, Show, TapError, TapOptions};
use jetwake_driver::transport::nats::NatsAccess;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bed::{Bed, HEARTBEAT, PATIENCE, Plan, Release, publish};

/// What a tap writes, and a test reads meanwhile.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("nobody panicked with it").clone();
        String::from_utf8(bytes).expect("text")
    }
}

/// A tap that runs beside the test.
pub(crate) struct Tap {
    stop: oneshot::Sender<()>,
    written: Written,
    task: JoinHandle<Result<(), TapError>>,
}

impl Tap {
    pub(crate) fn start(access: NatsAccess, options: TapOptions) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let written = Written::default();
        let mut out = written.clone();
        let task = tokio::spawn(async move {
            tap::run(&access, options, &mut out, async { drop(stopped.await) }).await
        });
        Self { stop, written, task }
    }

    /// Waits until it has written something.
    pub(crate) async fn until(&self, what: &str, wrote: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !wrote(&self.written.text()) {
            let text = self.written.text();
            assert!(begun.elapsed() < PATIENCE, "never wrote {what}:\n{text}");
            tokio::time::sleep(HEARTBEAT).await;
        }
    }

    /// Waits until a server says that the tap listens to all that it has to.
    pub(crate) async fn listens(&self, bed: &mut Bed, server: usize) {
        for _ in 0..PATIENCE.as_millis() / HEARTBEAT.as_millis() {
            if client(bed, server).await["subscriptions"] == 3 {
                return;
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
        let seen = client(bed, server).await;
        panic!("the tap never listened: {seen}; it wrote:\n{}", self.written.text());
    }

    /// Ends it, and gives all that it wrote.
    pub(crate) async fn stop(self) -> String {
        let _ = self.stop.send(());
        let done = self.task.await.expect("the tap does not panic");
        done.expect("the tap had all that it needs");
        self.written.text()
    }

    /// Waits until it ends by itself, which it does for a reason.
    async fn fails(self) -> TapError {
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time");
        ended.expect("the tap does not panic").expect_err("a reason")
    }
}

async fn client(bed: &mut Bed, server: usize) -> Value {
    let asked = json!({"do": "client", "name": "jetwake tap"});
    bed.ask(server, asked).await.expect("the clients of a server")
}

pub(crate) fn access(servers: Vec<String>, user: &str) -> NatsAccess {
    NatsAccess {
        servers,
        user: Some(user.into()),
        password: Some(user.into()),
        ..NatsAccess::default()
    }
}

pub(crate) const fn options(show: Show) -> TapOptions {
    TapOptions { show, record: None, groups: Vec::new() }
}

#[tokio::test]
async fn it_tells_what_happens_and_publishes_nothing() {
    let Some(mut bed) = Bed::start(&Plan::of(Release::Newest, 3)).await else { return };
    let client_of_streams = bed.client_of_all().await;
    let config = json!({"name": "ORDERS", "subjects": ["orders.>"], "num_replicas": 3});
    let group = bed.create(&client_of_streams, config).await;
    let leader = bed.leader(&group).await;
    bed.settled(&group).await;
    let (down, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    let client_of_streams = bed.client(stays).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let record = folder.path().join("exchange.jsonl");
    let mut options = options(Show::Story);
    options.record = Some(record.clone());
    let tap = Tap::start(access(vec![bed.url(stays)], "sys"), options);
    tap.listens(&mut bed, stays).await;

    bed.kill(down);
    for n in 0..100 {
        publish(&client_of_streams, "orders.new", format!("order {n}")).await.expect("an ack");
    }
    let snapshot = json!({"do": "snapshot", "account": "APP", "stream": "ORDERS"});
    bed.ask(leader, snapshot).await.expect("a snapshot");
    bed.run(down).await;
    bed.settled(&group).await;
    tap.until("a catchup", |told| told.contains("the catchup ends")).await;
    bed.kill(leader);
    let next = bed.leader(&group).await;
    tap.until("a new leader", |told| told.contains("leads; ")).await;
    let published = client(&mut bed, stays).await["published"].clone();
    assert_eq!(published, 0, "a tap only listens");
    bed.kill(stays);
    tap.until("that it is back", |told| told.matches("connected to a server").count() == 2).await;
    let told = tap.stop().await;

    let says = |what: &str| assert!(told.contains(what), "{what:?} is not in\n{told}");
    says(" is silent since ");
    says("votes for it");
    says("leads; ");
    says("lacks entries, and asks for them");
    says("once ");
    says("catchup of the ");
    says("lost the server, and tries again");
    says(" 0 malformed, ");
    says(", missed 0 times");
    let last = told.lines().find(|line| line.starts_with(&group)).expect("a line of the group");
    let leads = last.split_whitespace().nth(1).map(str::to_owned);
    assert_eq!(leads, Some(format!("S{}", next + 1)), "{last}");

    let decoded = Command::new(env!("CARGO_BIN_EXE_jetwake"))
        .args(["decode", "--group", &group, "--trace"])
        .arg(&record)
        .output()
        .expect("the program runs");
    assert!(decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let story = String::from_utf8(decoded.stdout).expect("text");
    assert!(story.contains("asks for votes"), "{story}");
    assert!(story.contains("appends message orders.new"), "{story}");
}

#[tokio::test]
async fn it_says_who_does_not_let_it_in() {
    let Some(bed) = Bed::start(&Plan::of(Release::Newest, 1)).await else { return };
    let stranger = Tap::start(access(bed.urls(), "stranger"), options(Show::Story));
    let why = stranger.fails().await;
    assert!(matches!(why, TapError::Nats(_)), "{why}");
    assert!(why.to_string().contains("authorization violation"), "{why}");
    let half = Tap::start(access(bed.urls(), "half"), options(Show::Story)).fails().await;
    assert!(matches!(&half, TapError::Permission(_)), "{half}");
    assert!(half.to_string().contains("$JSC"), "{half}");
    let nobody = access(vec!["nats://127.0.0.1:1".into()], "sys");
    let nobody = Tap::start(nobody, options(Show::Story)).fails().await;
    assert!(nobody.to_string().contains("127.0.0.1:1"), "{nobody}");
}

#[tokio::test]
async fn it_says_that_there_is_no_system_account() {
    let plan = Plan { system: false, ..Plan::of(Release::Newest, 1) };
    let Some(bed) = Bed::start(&plan).await else { return };
    let why = Tap::start(access(bed.urls(), "sys"), options(Show::Story)).fails().await;
    assert!(matches!(why, TapError::NotSystem), "{why}");
}

#[tokio::test]
async fn it_says_that_there_is_no_jetstream() {
    let plan = Plan { jetstream: false, ..Plan::of(Release::Newest, 1) };
    let Some(bed) = Bed::start(&plan).await else { return };
    let why = Tap::start(access(bed.urls(), "sys"), options(Show::Story)).fails().await;
    assert!(matches!(why, TapError::NoJetStream), "{why}");
}
