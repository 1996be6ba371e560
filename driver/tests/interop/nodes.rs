//! A cluster of our nodes that meet at a NATS server, and whose streams its clients publish to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::Client;
use serde_json::json;
use tokio::time::sleep;

use super::bed::{PATIENCE, api};

/// What the nodes are told of themselves.
pub(crate) struct Settings<'a> {
    /// How peers are reached, and where clients are: TOML, at its beginning.
    pub(crate) ways: &'a str,
    /// The streams, in TOML.
    pub(crate) streams: &'a str,
}

/// Nodes `n1`, `n2` and `n3`, each a process.
pub(crate) struct Nodes {
    folder: tempfile::TempDir,
    children: Vec<Option<Child>>,
}

/// The name of a node.
pub(crate) fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in 0..self.children.len() {
            self.kill(node);
        }
        if std::thread::panicking() {
            for node in 0..self.children.len() {
                eprintln!("-- log of {}\n{}", name(node), self.log(node));
            }
        }
    }
}

impl Nodes {
    /// Starts three nodes.
    pub(crate) fn start(settings: &Settings<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nodes = Self { folder, children: vec![None, None, None] };
        for node in 0..3 {
            std::fs::write(nodes.file(node, "toml"), settings.of(node)).expect("a file");
            nodes.run(node);
        }
        nodes
    }

    fn file(&self, node: usize, ending: &str) -> PathBuf {
        self.folder.path().join(name(node)).with_extension(ending)
    }

    /// Everything that a node has said so far.
    pub(crate) fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.file(node, "log")).unwrap_or_default()
    }

    /// Starts a node that was killed.
    pub(crate) fn run(&mut self, node: usize) {
        let mut log = std::fs::File::options();
        let log = log.create(true).append(true).open(self.file(node, "log")).expect("a log");
        let mut program = command(&self.file(node, "toml"));
        program.arg("--until-stdin-closes");
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = program.spawn().expect("the program runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        self.children[node] = Some(child);
        read.expect("it is text");
        assert!(line.starts_with("listening on "), "{line:?}: {}", self.log(node));
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The node that leads a stream, as it tells NATS clients.
    pub(crate) async fn leader(&self, client: &Client, stream: &str) -> usize {
        for _ in 0..PATIENCE.as_millis() / 50 {
            let info = api(client, &format!("STREAM.INFO.{stream}"), &json!({})).await;
            if let Ok(info) = &info
                && let Some(leader) = info["cluster"]["leader"].as_str()
                && let Some(place) = (0..3).find(|node| name(*node) == leader)
                && self.children[place].is_some()
            {
                return place;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody leads {stream}");
    }
}

impl Settings<'_> {
    /// The settings of a node.
    fn of(&self, node: usize) -> String {
        let Self { ways, streams } = self;
        let name = name(node);
        format!(
            "name = {name:?}\nlisten = \"127.0.0.1:0\"\ninsecure_plaintext = true\ndir = {name:?}\n\
             peers = {{ n1 = \"\", n2 = \"\", n3 = \"\" }}\n{TIMERS}\n{ways}\n{streams}\n"
        )
    }
}

/// The nodes' intervals.
const TIMERS: &str = "timers = { election_min = \"400ms\", election_max = \"900ms\", \
                      heartbeat = \"100ms\", lost_quorum = \"1s\", catchup_retry = \"400ms\" }";

/// What a node says that cannot start.
pub(crate) fn refused(settings: &Settings<'_>) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("n1.toml");
    std::fs::write(&file, settings.of(0)).expect("a file");
    let ended = command(&file).output().expect("the program runs");
    assert!(!ended.status.success(), "nothing stood against it");
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// The program as a node with these settings.
fn command(file: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    program.args(["node", "--config"]).arg(file);
    program
}
