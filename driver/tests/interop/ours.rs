//! A node of ours in the place of a server that is down, run and asked as an operator would.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::Client as NatsClient;
use jetwake::command::Message;
use jetwake::event::Request;
use jetwake::ids::{ByteCount, Sequence};
use jetwake_driver::client::{Access, Client, NodeAddress};
use jetwake_driver::transport::tls::Security;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bed::{Bed, PATIENCE, api, name};

/// The node's intervals: those of the bed's servers.
const TIMERS: [&str; 7] = [
    "election_min=800ms",
    "election_max=1800ms",
    "heartbeat=200ms",
    "lost_quorum=2s",
    "catchup_start=3s",
    "catchup_silence=6s",
    "catchup_retry=400ms",
];

/// A node in the place of a server.
pub(crate) struct Ours {
    /// The place of the server whose name it has.
    place: usize,
    stream: String,
    dir: PathBuf,
    /// The only NATS server that it is told of, if it is not any that runs.
    server: Option<String>,
    address: Option<NodeAddress>,
    child: Option<Child>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.with_extension("log"));
            eprintln!("-- log of ours\n{}", log.unwrap_or_default());
        }
    }
}

/// The arguments that an adoption needs.
fn arguments(bed: &Bed, place: usize, stream: &str, dir: &Path, server: Option<&str>) -> Command {
    let live = (0..3).find(|server| bed.runs(*server)).expect("a server that runs");
    let server = server.map_or_else(|| bed.url(live), str::to_owned);
    let mut adopt = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    adopt.args(["adopt", "--stream", stream, "--as", &name(place), "--server", &server]);
    adopt.args(["--user", "sys", "--password", "sys", "--insecure-plaintext", "--dir"]).arg(dir);
    for timer in TIMERS {
        adopt.args(["--timer", timer]);
    }
    adopt
}

/// What an adoption that is refused says.
pub(crate) fn refused(bed: &Bed, place: usize, stream: &str, dir: &Path) -> String {
    let ended = arguments(bed, place, stream, dir, None).output().expect("the program runs");
    assert!(!ended.status.success(), "nothing stood against it");
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

impl Ours {
    /// Takes over the role of a server that is down, with an empty folder.
    pub(crate) fn adopt(bed: &Bed, place: usize, stream: &str, dir: PathBuf) -> Self {
        Self::with(bed, place, stream, dir, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn with(bed: &Bed, place: usize, stream: &str, dir: PathBuf, more: &[&str]) -> Self {
        Self::by(bed, place, stream, dir, more, None)
    }

    /// The same, by way of the server that is at a URL.
    pub(crate) fn by(
        bed: &Bed,
        place: usize,
        stream: &str,
        dir: PathBuf,
        more: &[&str],
        server: Option<String>,
    ) -> Self {
        let mut ours =
            Self { place, stream: stream.into(), dir, server, address: None, child: None };
        ours.run(bed, more);
        ours
    }

    /// Lets the group elect once, from when on ours acknowledges and votes.
    pub(crate) async fn counts(&self, bed: &mut Bed, group: &str) {
        let leader = bed.leader(group).await;
        let asked = json!({"do": "stepdown", "group": group});
        bed.ask(leader, asked).await.expect("the leader hands over");
        for _ in 0..PATIENCE.as_millis() / 50 {
            if self.log().contains("repaired from the others") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not count: {}", self.info().await);
    }

    /// Everything that it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("log")).expect("a log")
    }

    /// Goes on after a kill, with more arguments; all other servers may be named, as some may be down.
    pub(crate) fn resume(&mut self, bed: &Bed, more: &[&str]) {
        let others: Vec<_> = (0..3).filter(|server| *server != self.place).map(name).collect();
        let resume = ["--resume", "--other", &others[0], "--other", &others[1]];
        self.run(bed, &[&resume, more].concat());
    }

    fn run(&mut self, bed: &Bed, more: &[&str]) {
        let mut log = std::fs::File::options();
        let log = log.create(true).append(true).open(self.dir.with_extension("log"));
        let log = log.expect("a log");
        let server = self.server.as_deref();
        let mut adopt = arguments(bed, self.place, &self.stream, &self.dir, server);
        adopt.args(more).arg("--until-stdin-closes");
        adopt.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = adopt.spawn().expect("the program runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        self.child = Some(child);
        read.expect("it is text");
        let address = line.trim().strip_prefix("listening on ").map(str::parse);
        self.address = Some(address.expect("it is ready").expect("an address"));
    }

    /// Kills it: it can do nothing any more.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> bool {
        let mut child = self.child.take().expect("it runs");
        for _ in 0..PATIENCE.as_millis() / 50 {
            if let Some(status) = child.try_wait().expect("a process of ours") {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not end");
    }

    async fn client(&self) -> Client {
        let access = Access {
            name: "test".into(),
            cluster: jetwake_driver::settings::DEFAULT_CLUSTER.into(),
            security: Security::Plaintext,
        };
        let address = self.address.as_ref().expect("it was run");
        Client::connect(address, &access).await.expect("it takes clients")
    }

    /// What it says of its stream.
    pub(crate) async fn info(&self) -> Value {
        self.client().await.info(&self.stream).await.expect("an info")
    }

    /// Asks it to do something.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Value, String> {
        let asked = self.client().await.request_json(&self.stream, request).await;
        asked.map_err(|error| error.to_string())
    }

    /// All messages that it holds.
    pub(crate) async fn messages(&self) -> Vec<Message> {
        let (mut client, mut all) = (self.client().await, Vec::new());
        let mut next = Some(Sequence::new(1));
        while let Some(first) = next {
            let read = client.read(&self.stream, first, 4096, ByteCount::new(1 << 20)).await;
            let (mut messages, more) = read.expect("its messages");
            all.append(&mut messages);
            next = more;
        }
        all
    }

    /// Waits until what it holds is what the servers hold: the state, and every message.
    pub(crate) async fn same_as(&self, client: &NatsClient) {
        let (mut last, begun) = ((Value::Null, Value::Null), Instant::now());
        while begun.elapsed() < PATIENCE {
            let what = format!("STREAM.INFO.{}", self.stream);
            let theirs = api(client, &what, &json!({})).await.unwrap_or_default();
            let theirs = theirs["state"].clone();
            let info = self.info().await;
            let ours = info["state"].clone();
            self.hands_over_if_it_leads(&info).await;
            let same = |key: &str| theirs[key] == ours[key];
            let keys = [
                "messages",
                "bytes",
                "first_seq",
                "last_seq",
                "num_deleted",
                "first_ts",
                "last_ts",
            ];
            // Before it has all, it hands out nothing.
            let current = info["jetwake"]["current"] == true;
            if current && theirs["last_seq"].is_u64() && keys.into_iter().all(same) {
                let held = self.messages().await;
                return compare(client, &self.stream, held, Some(self)).await;
            }
            last = (theirs, ours);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("theirs {}\nours {}\n{}", last.0, last.1, self.info().await);
    }

    /// The API is answered by a server that leads, and ours is none.
    async fn hands_over_if_it_leads(&self, info: &Value) {
        if info["cluster"]["leader"] == name(self.place) {
            let _ = self.ask(&Request::StepDown { to: None }).await;
        }
    }
}

/// Holds every message of ours against that of whoever leads the stream; who may lead it of ours, if
/// somebody may.
pub(crate) async fn compare(
    client: &NatsClient,
    stream: &str,
    held: Vec<Message>,
    ours: Option<&Ours>,
) {
    assert!(!held.is_empty());
    for message in held {
        let theirs = theirs(client, stream, message.sequence, ours).await;
        let text = |bytes: &[u8]| {
            if bytes.is_empty() { Value::Null } else { json!(base64(bytes)) }
        };
        assert_eq!(theirs["subject"].as_str().map(str::as_bytes), Some(&message.subject[..]));
        assert_eq!(theirs["data"], text(&message.payload), "{}", message.sequence);
        assert_eq!(theirs["hdrs"], text(&message.header), "{}", message.sequence);
        let time: jetwake::wire::GoTime =
            serde_json::from_value(theirs["time"].clone()).expect("a time");
        assert_eq!(time, jetwake::wire::GoTime::from_time(message.time));
    }
}

/// A message as the servers have it.
async fn theirs(
    client: &NatsClient,
    stream: &str,
    sequence: Sequence,
    ours: Option<&Ours>,
) -> Value {
    let (asked, begun) = (json!({"seq": sequence}), Instant::now());
    let what = format!("STREAM.MSG.GET.{stream}");
    loop {
        match api(client, &what, &asked).await {
            Ok(theirs) => return theirs["message"].clone(),
            Err(error) if begun.elapsed() > PATIENCE => panic!("{sequence}: {error}"),
            // Between two leaders there is nobody to ask, nor while ours leads.
            Err(_) => {
                if let Some(ours) = ours {
                    ours.hands_over_if_it_leads(&ours.info().await).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// As upstream writes bytes into JSON.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - part.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place > part.len() { '=' } else { char::from(digit) });
        }
    }
    text
}
