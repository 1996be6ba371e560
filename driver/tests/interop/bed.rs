//! Clusters of real nats-servers: one process a server, so that a kill is a kill and releases mix.
//!
//! The servers are built from `tests/interop/bed`, and end with the test. One cluster runs at a
//! time, as each takes what a small machine has.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use async_nats::Client;
use jetwake::ids::PeerId;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::time::Instant;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a new cluster may take to elect its first leader, and how often another one is tried:
/// servers of 2.10 that begin together sometimes never elect any, or never learn of all others.
const FIRST_LEADER: Duration = Duration::from_secs(12);
const BEGINNINGS: usize = 6;
/// How long a client waits for an answer before it asks again.
const REQUEST: Duration = Duration::from_secs(3);
/// How much faster than they do usually the servers elect leaders and send heartbeats.
const FASTER: u32 = 5;
/// The shortest election timeout of the servers.
pub(crate) const ELECTION_MIN: Duration = Duration::from_millis(4_000 / FASTER as u64);
/// The longest election timeout of the servers.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(9_000 / FASTER as u64);
/// How often a leader of theirs is heard.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(1_000 / FASTER as u64);
/// The group that assigns streams to servers.
pub(crate) const META: &str = "_meta_";

/// A release of nats-server that the bed has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// As in `go.mod`.
    Newest,
    /// As in `older.mod`: no leader's term in append entries.
    Older,
}

impl Release {
    const fn file(self) -> &'static str {
        match self {
            Self::Newest => "go.mod",
            Self::Older => "older.mod",
        }
    }

    /// The server, built once a run.
    fn program(self) -> &'static Path {
        static BUILT: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
        BUILT[self as usize].get_or_init(|| build("bed", self.file(), &format!("bed-{self:?}")))
    }
}

/// Builds a program of `tests/interop`; Go is there.
fn build(folder: &str, modules: &str, name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop").join(folder);
    let mut go = Command::new("go");
    go.current_dir(folder).args(["build", "-modfile", modules, "-o"]).arg(&program).arg(".");
    let built = go.output().expect("go was found before");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

/// What proves to a server who one is, in files of a folder, and what goes into the server's settings:
/// see `tests/interop/keys/main.go`. None if there is no Go.
pub(crate) fn keys(folder: &Path) -> Option<Value> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if !has_go() {
        return None;
    }
    let program = BUILT.get_or_init(|| build("keys", "go.mod", "keys"));
    let ended = Command::new(program).arg(folder).output().expect("the program runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    Some(serde_json::from_slice(&ended.stdout).expect("it tells in JSON"))
}

/// What nats.go tells of a stream that it publishes to, by way of a server: see
/// `tests/interop/publisher/main.go`.
pub(crate) async fn publish_from_go(url: &str, stream: &str, subject: &str) -> Value {
    let program = build("publisher", "go.mod", "publisher");
    let mut publisher = tokio::process::Command::new(program);
    publisher.args([url, "app", "app", stream, subject]);
    let ended = publisher.output().await.expect("the program runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).expect("it tells in JSON")
}

/// Whether the bed can be built here. Says so if not, and fails in CI. Who runs these tests by
/// themselves turns them off among all others by `JETWAKE_INTEROP=off`.
fn has_go() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if std::env::var("JETWAKE_INTEROP").is_ok_and(|wish| wish == "off") {
            let _ = std::io::stderr().write_all(b"skipped: JETWAKE_INTEROP=off\n");
            return false;
        }
        let found = Command::new("go").arg("version").output().is_ok_and(|go| go.status.success());
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(found || !ci, "Go is needed to run real nats-servers");
        if !found {
            // Not by a macro, whose output is shown only of tests that fail.
            let _ = std::io::stderr().write_all(b"skipped: no Go\n");
        }
        found
    })
}

/// What a cluster is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The release of each server.
    pub(crate) releases: Vec<Release>,
    /// Whether there is a system account.
    pub(crate) system: bool,
    /// Whether JetStream is on.
    pub(crate) jetstream: bool,
    /// Whether the last server is without JetStream: clients stay connected there, and a server whose
    /// peers are down has a route, without which it does not start its groups.
    pub(crate) router: bool,
    /// Settings of the accounts in place of the usual ones.
    pub(crate) accounts: Option<String>,
    /// A folder with the certificates of `S1` and of its authority, if clients must speak TLS and
    /// show a certificate.
    pub(crate) tls: Option<PathBuf>,
}

impl Plan {
    /// So many servers of one release.
    pub(crate) fn of(release: Release, servers: usize) -> Self {
        let releases = vec![release; servers];
        let (accounts, tls) = (None, None);
        Self { releases, system: true, jetstream: true, router: false, accounts, tls }
    }

    /// The same, and one more that only routes.
    pub(crate) fn with_router(release: Release, servers: usize) -> Self {
        Self { router: true, ..Self::of(release, servers + 1) }
    }

    /// How many servers have groups.
    fn members(&self) -> usize {
        self.releases.len() - usize::from(self.router)
    }
}

/// A server of the cluster.
struct Server {
    release: Release,
    settings: PathBuf,
    port: u16,
    running: Option<Running>,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Running {
    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        let line = line.expect("the server answers in time").expect("the server runs");
        serde_json::from_str(&line).expect("the server answers in JSON")
    }
}

/// A running cluster.
pub(crate) struct Bed {
    _folder: tempfile::TempDir,
    servers: Vec<Server>,
    _only_one: MutexGuard<'static, ()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        for server in 0..self.servers.len() {
            self.kill(server);
        }
        if std::thread::panicking() {
            for server in 0..self.servers.len() {
                eprintln!("-- log of {}\n{}", name(server), self.log(server));
            }
        }
    }
}

/// The name of a server.
pub(crate) fn name(server: usize) -> String {
    format!("S{}", server + 1)
}

impl Bed {
    /// Starts a cluster and waits until it takes requests; none if there is no Go.
    pub(crate) async fn start(plan: &Plan) -> Option<Self> {
        static ONLY_ONE: Mutex<()> = Mutex::const_new(());
        if !has_go() {
            return None;
        }
        let mut only_one = ONLY_ONE.lock().await;
        for _ in 0..BEGINNINGS {
            let mut bed = Self::spread(plan, only_one);
            // One after the other: servers that dial each other at the same moment may end with no
            // route between them.
            for server in 0..bed.servers.len() {
                bed.run(server).await;
            }
            let replicates = plan.jetstream && bed.servers.len() > 1;
            if !replicates
                || bed.leader_within(META, FIRST_LEADER).await.is_some()
                    && bed.places(plan.members()).await
            {
                return Some(bed);
            }
            drop(bed);
            only_one = ONLY_ONE.lock().await;
        }
        panic!("{BEGINNINGS} clusters took no stream in their first {FIRST_LEADER:?}");
    }

    /// Whether the leader of the meta group soon knows enough servers for a stream on all of them.
    async fn places(&self, replicas: usize) -> bool {
        let client = self.client(0).await;
        let begun = Instant::now();
        let probe = json!({"name": "PROBE", "subjects": ["probe"], "num_replicas": replicas});
        while api(&client, "STREAM.CREATE.PROBE", &probe).await.is_err() {
            if begun.elapsed() > FIRST_LEADER {
                return false;
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
        api(&client, "STREAM.DELETE.PROBE", &json!({})).await.is_ok()
    }

    /// Chooses ports, and writes down what each server is to be.
    fn spread(plan: &Plan, only_one: MutexGuard<'static, ()>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let held: Vec<_> = (0..2 * plan.releases.len())
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let ports: Vec<_> =
            held.iter().map(|held| held.local_addr().expect("its address").port()).collect();
        let (clients, routes) = ports.split_at(plan.releases.len());
        let mut servers = Vec::new();
        for (at, release) in plan.releases.iter().enumerate() {
            let path = folder.path().join(format!("{}.conf", name(at)));
            let text = settings(folder.path(), plan, at, clients[at], routes);
            std::fs::write(&path, text).expect("a file in the folder");
            let server =
                Server { release: *release, settings: path, port: clients[at], running: None };
            servers.push(server);
        }
        Self { _folder: folder, servers, _only_one: only_one }
    }

    /// Where a server takes clients.
    pub(crate) fn url(&self, server: usize) -> String {
        format!("nats://127.0.0.1:{}", self.servers[server].port)
    }

    /// The processes of the servers that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.servers.iter().filter_map(|server| Some(server.running.as_ref()?.child.id())).collect()
    }

    /// Everything that a server has said so far.
    pub(crate) fn log(&self, server: usize) -> String {
        let log = self.servers[server].settings.with_extension("log");
        std::fs::read_to_string(log).unwrap_or_default()
    }

    /// Whether a server runs.
    pub(crate) fn runs(&self, server: usize) -> bool {
        self.servers[server].running.is_some()
    }

    fn spawn(&mut self, server: usize) {
        let server = &mut self.servers[server];
        let mut child = Command::new(server.release.program())
            .arg(&server.settings)
            .env("BED_FASTER", FASTER.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        server.running = Some(Running { child, stdin, lines });
    }

    async fn ready(&mut self, server: usize) {
        let running = self.servers[server].running.as_mut().expect("it was spawned");
        let hello = running.line().await;
        assert!(hello["release"].is_string(), "{hello}");
    }

    /// Starts a server that was stopped or killed, and waits until it takes clients.
    pub(crate) async fn run(&mut self, server: usize) {
        self.spawn(server);
        self.ready(server).await;
    }

    /// Ends a server as a crash would.
    pub(crate) fn kill(&mut self, server: usize) {
        if let Some(mut running) = self.servers[server].running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// Asks a server to shut down, and waits until it has.
    pub(crate) async fn stop(&mut self, server: usize) {
        let mut running = self.servers[server].running.take().expect("it runs");
        running.stdin.write_all(b"{\"do\":\"stop\"}\n").expect("the server reads");
        let end = tokio::time::timeout(PATIENCE, running.lines.recv()).await;
        assert_eq!(end.expect("the server ends in time"), None);
        assert!(running.child.wait().expect("it ended").success());
    }

    /// Asks a server's process for something: see `tests/interop/bed/main.go`.
    pub(crate) async fn ask(&mut self, server: usize, command: Value) -> Result<Value, String> {
        let running = self.servers[server].running.as_mut().expect("it runs");
        writeln!(running.stdin, "{command}").expect("the server reads");
        let answer = running.line().await;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// How a group stands on a server; none if it is not there.
    pub(crate) async fn group(&mut self, server: usize, group: &str) -> Option<Value> {
        self.ask(server, json!({"do": "group", "group": group})).await.ok()
    }

    /// Waits until all servers that run and have the group agree on a leader that runs; says which.
    pub(crate) async fn leader(&mut self, group: &str) -> usize {
        let leader = self.leader_within(group, PATIENCE).await;
        leader.unwrap_or_else(|| panic!("no leader of {group}"))
    }

    async fn leader_within(&mut self, group: &str, patience: Duration) -> Option<usize> {
        for _ in 0..patience.as_millis() / 50 {
            let mut told = Vec::new();
            for server in (0..self.servers.len()).filter(|at| self.runs(*at)).collect::<Vec<_>>() {
                if let Some(found) = self.group(server, group).await {
                    told.push((server, found));
                }
            }
            let leads = |(_, found): &&(usize, Value)| found["state"] == "LEADER";
            if let Some((leader, found)) = told.iter().find(leads)
                && told.iter().all(|(_, other)| other["leader"] == found["me"])
            {
                return Some(*leader);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// How many servers run that are members of a group by what some of them told; at least one.
    fn members_that_run(&self, told: &[Value]) -> usize {
        let peers = told.first().and_then(|found| found["peers"].as_array());
        let id = |server| json!(PeerId::from_name(&name(server)).to_string());
        let runs = (0..self.servers.len()).filter(|server| self.runs(*server));
        runs.filter(|server| peers.is_some_and(|peers| peers.contains(&id(*server)))).count().max(1)
    }

    /// Waits until the servers that run have the same log of the group, all of it applied.
    pub(crate) async fn settled(&mut self, group: &str) -> Value {
        let mut last = Vec::new();
        for _ in 0..PATIENCE.as_millis() / 50 {
            let mut told = Vec::new();
            for server in (0..self.servers.len()).filter(|at| self.runs(*at)).collect::<Vec<_>>() {
                let Some(found) = self.group(server, group).await else { continue };
                told.push(found);
            }
            let same = |found: &Value| {
                found["last"] == found["applied"]
                    && ["term", "leader", "last", "commit", "peers"]
                        .iter()
                        .all(|key| found[*key] == told[0][*key])
            };
            if told.len() == self.members_that_run(&told)
                && told[0]["leader"] != ""
                && told.iter().all(same)
            {
                return told.swap_remove(0);
            }
            last = told;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the members of {group} do not come to agree: {last:#?}");
    }

    /// A client of the account that has the streams, by way of one server.
    pub(crate) async fn client(&self, server: usize) -> Client {
        connect(&[self.url(server)], "app").await
    }

    /// The same, by way of any server that runs.
    pub(crate) async fn client_of_all(&self) -> Client {
        connect(&self.urls(), "app").await
    }

    /// A client of the system account, by way of one server.
    pub(crate) async fn system(&self, server: usize) -> Client {
        connect(&[self.url(server)], "sys").await
    }

    /// The same, by way of any server that runs.
    pub(crate) async fn system_of_all(&self) -> Client {
        connect(&self.urls(), "sys").await
    }

    /// Where all servers take clients.
    pub(crate) fn urls(&self) -> Vec<String> {
        (0..self.servers.len()).map(|server| self.url(server)).collect()
    }

    /// Waits until a group has so many members.
    pub(crate) async fn until_members(&mut self, group: &str, members: usize) {
        for _ in 0..PATIENCE.as_millis() / 50 {
            let told = self.settled(group).await;
            if told["peers"].as_array().is_some_and(|peers| peers.len() == members) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{group} never had {members} members");
    }

    /// Creates a stream of so many replicas, and says the name of its group.
    pub(crate) async fn create(&mut self, client: &Client, config: Value) -> String {
        let stream = config["name"].as_str().expect("a stream has a name").to_owned();
        create(client, &config).await;
        self.group_of(&stream).await
    }

    /// The name of a stream's group, once a server has it.
    pub(crate) async fn group_of(&mut self, stream: &str) -> String {
        for _ in 0..PATIENCE.as_millis() / 50 {
            for server in (0..self.servers.len()).filter(|at| self.runs(*at)).collect::<Vec<_>>() {
                let Ok(told) = self.ask(server, json!({"do": "streams"})).await else { continue };
                let streams = told["streams"].as_array().expect("a list");
                let found = streams.iter().find(|found| found["stream"] == stream);
                if let Some(group) = found.and_then(|found| found["group"].as_str())
                    && !group.is_empty()
                {
                    return group.to_owned();
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no group of {stream}");
    }
}

async fn connect(urls: &[String], user: &str) -> Client {
    async_nats::ConnectOptions::with_user_and_password(user.into(), user.into())
        .request_timeout(Some(REQUEST))
        .connect(urls)
        .await
        .expect("the servers take clients")
}

/// Asks JetStream's API, and gives what it answers, or the error that it answers.
pub(crate) async fn api(client: &Client, what: &str, request: &Value) -> Result<Value, Value> {
    let request = serde_json::to_vec(request).expect("JSON of our own");
    let answer = client.request(format!("$JS.API.{what}"), request.into()).await;
    let answer = answer.map_err(|error| json!(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&answer.payload).expect("the API answers in JSON");
    match answer.get("error") {
        Some(error) => Err(error.clone()),
        None => Ok(answer),
    }
}

/// Creates a stream. A leader that does not know all servers yet refuses that at first.
pub(crate) async fn create(client: &Client, config: &Value) {
    let begun = Instant::now();
    let what = format!("STREAM.CREATE.{}", config["name"].as_str().expect("a name"));
    while let Err(why) = api(client, &what, config).await {
        assert!(begun.elapsed() < PATIENCE, "{why}");
        tokio::time::sleep(HEARTBEAT).await;
    }
}

/// Publishes to a stream, and waits for its acknowledgement, which it gives.
pub(crate) async fn publish(
    client: &Client,
    subject: &str,
    payload: impl Into<bytes::Bytes>,
) -> Result<Value, Value> {
    let answer = client.request(subject.to_owned(), payload.into()).await;
    let answer = answer.map_err(|error| json!(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&answer.payload).expect("an ack is JSON");
    match answer.get("error") {
        Some(error) => Err(error.clone()),
        None => Ok(answer),
    }
}

fn settings(folder: &Path, plan: &Plan, at: usize, port: u16, routes: &[u16]) -> String {
    let name = name(at);
    let log = folder.join(format!("{name}.log"));
    let mut text = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\nlog_file: {:?}\n",
        log.display().to_string()
    );
    if plan.jetstream && at < plan.members() {
        let store = folder.join(&name);
        text += &format!(
            "jetstream {{ store_dir: {:?}, max_memory_store: 64MB, max_file_store: 1GB }}\n",
            store.display().to_string()
        );
    }
    if routes.len() > 1 {
        // Who has groups expects as many others as it has routes to begin with.
        let urls: Vec<_> = routes[..plan.members()]
            .iter()
            .map(|port| format!("\"nats://127.0.0.1:{port}\""))
            .collect();
        text += &format!(
            "cluster {{ name: BED, listen: \"127.0.0.1:{}\", pool_size: -1, routes: [{}] }}\n",
            routes[at],
            urls.join(", ")
        );
    }
    if let Some(tls) = &plan.tls {
        let file = |name: &str| tls.join(name).display().to_string();
        let (ca, certificate, key) = (file("ca.pem"), file("S1.pem"), file("S1.key"));
        text += &format!(
            "tls {{ ca_file: {ca:?}, cert_file: {certificate:?}, key_file: {key:?}, verify: true }}\n"
        );
    }
    if let Some(accounts) = &plan.accounts {
        return text + accounts;
    }
    let jetstream = if plan.jetstream { "jetstream: enabled, " } else { "" };
    text +=
        &format!("accounts {{\n  APP {{ {jetstream}users: [{{ user: app, password: app }}] }}\n");
    if plan.system {
        text += "  SYS { users: [\n    { user: sys, password: sys }\n    { user: half, password: half, \
                 permissions: { subscribe: { deny: [\"$JSC.>\"] } } }\n  ] }\n}\n\
                 system_account: SYS\n";
    } else {
        text += "  OTHER { users: [{ user: sys, password: sys }] }\n}\n";
    }
    text
}
