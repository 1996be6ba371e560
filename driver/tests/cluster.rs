//! Three real nodes under TLS, run and asked as a user would, with a leader killed meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn jetwake() -> Command {
    Command::new(env!("CARGO_BIN_EXE_jetwake"))
}

/// Nodes that end with the test, whatever becomes of that.
struct Cluster {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
    nodes: Vec<Option<Child>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listeners = NAMES.map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("its address");
        let addresses: Vec<_> = listeners.iter().map(|held| address(held).to_string()).collect();
        let mut cluster = Self { dir, addresses, nodes: vec![None, None, None] };
        let certs = cluster.path("certs");
        let mut certify = jetwake();
        certify.args(["certify", "--client", "me", "--dir"]).arg(certs).args(NAMES);
        assert!(certify.output().expect("the program runs").status.success());
        for name in NAMES {
            std::fs::write(cluster.path(&format!("{name}.toml")), cluster.settings(name))
                .expect("a file in the folder");
        }
        drop(listeners);
        for node in 0..NAMES.len() {
            cluster.run(node);
        }
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self, name: &str) -> String {
        let place = NAMES.iter().position(|known| *known == name).expect("one of ours");
        let peers: String = NAMES
            .iter()
            .zip(&self.addresses)
            .map(|(name, address)| format!("{name} = '{address}'\n"))
            .collect();
        format!(
            "name = '{name}'\nlisten = '{}'\ndir = 'data-{name}'\n[peers]\n{peers}\
             [[stream]]\nname = 'ORDERS'\nsubjects = ['orders.>']\n\
             [tls]\nca = 'certs/ca.pem'\ncertificate = 'certs/{name}.pem'\nkey = 'certs/{name}.key'\n\
             [timers]\nelection_min = '500ms'\nelection_max = '1s'\nheartbeat = '50ms'\n",
            self.addresses[place]
        )
    }

    /// Starts a node and waits until it is ready.
    fn run(&mut self, node: usize) {
        let mut child = jetwake()
            .args(["node", "--until-stdin-closes", "--log", "warn", "--config"])
            .arg(self.path(&format!("{}.toml", NAMES[node])))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, format!("listening on {}\n", self.addresses[node]));
        self.nodes[node] = Some(child);
    }

    fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A command that asks all nodes, or one.
    fn client(&self, arguments: &[&str], node: Option<usize>) -> Command {
        let mut command = jetwake();
        command.args(arguments);
        let file = |name: &str| self.path("certs").join(name);
        command.arg("--ca").arg(file("ca.pem"));
        command.arg("--certificate").arg(file("me.pem")).arg("--key").arg(file("me.key"));
        for (at, (name, address)) in NAMES.iter().zip(&self.addresses).enumerate() {
            if node.is_none_or(|node| node == at) {
                command.args(["--node", &format!("{name}={address}")]);
            }
        }
        command
    }

    fn output(&self, arguments: &[&str], node: Option<usize>) -> Result<String, String> {
        let output = self.client(arguments, node).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The leader as one of the nodes names it.
    fn leader(&self) -> Option<usize> {
        let told = (0..NAMES.len())
            .filter(|node| self.nodes[*node].is_some())
            .find_map(|node| self.output(&["info", "ORDERS"], Some(node)).ok())?;
        let name = told.lines().nth(1)?.split_whitespace().nth(1)?.to_owned();
        NAMES.iter().position(|known| *known == name)
    }

    fn payloads(&self, node: usize) -> Vec<String> {
        let all = ["get", "ORDERS", "1", "--count", "0", "--format", "payload"];
        let payloads = self.output(&all, Some(node)).unwrap_or_default();
        payloads.lines().map(str::to_owned).collect()
    }
}

/// Waits until something is there.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come about within a minute");
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_none())
}

#[test]
fn nothing_is_lost_or_doubled_when_the_leader_is_killed() {
    let mut cluster = Cluster::start();
    assert!(!is_empty(&cluster.path("data-n1")), "relative paths start at the file's folder");
    let one = cluster.output(&["pub", "ORDERS", "orders.new", "line 0", "--id", "0"], None);
    assert!(one.as_ref().is_ok_and(|told| told.starts_with("stored 1 at sequence 1 ")), "{one:?}");
    let again = cluster.output(&["pub", "ORDERS", "orders.new", "line 0", "--id", "0"], None);
    assert!(again.as_ref().is_ok_and(|told| told.contains("been stored before")), "{again:?}");
    let other = cluster.output(&["pub", "ORDERS", "elsewhere", "x"], None);
    assert!(other.is_err(), "a subject that the stream does not take: {other:?}");

    let mut publishing = cluster
        .client(&["pub", "ORDERS", "orders.new", "--ids"], None)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = publishing.stdin.take().expect("stdin is piped");
    let mut publish = |from: u32, to: u32| {
        for line in from..to {
            writeln!(lines, "{line}\tline {line}").expect("it reads");
        }
    };
    publish(1, 3000);
    let leader = eventually("a leader", || cluster.leader());
    eventually("half of it", || (cluster.payloads(leader).len() > 1000).then_some(()));
    publish(3000, 5000);
    cluster.kill(leader);
    publish(5000, 6000);
    drop(lines);
    let told = publishing.wait_with_output().expect("it ends");
    let told = String::from_utf8(told.stdout).expect("text");
    assert!(told.starts_with("stored 5999 at sequence "), "{told}");

    cluster.run(leader);
    let mut expected: Vec<_> = (0..6000).map(|line| format!("line {line}")).collect();
    expected.sort();
    let replicas = eventually("three equal replicas", || {
        let replicas: Vec<_> = (0..NAMES.len()).map(|node| cluster.payloads(node)).collect();
        (replicas.iter().all(|replica| replica.len() == expected.len())).then_some(replicas)
    });
    assert!(replicas.iter().all(|replica| *replica == replicas[0]), "the order differs");
    let mut stored = replicas[0].clone();
    stored.sort();
    assert_eq!(stored, expected);

    // A leader that is asked to stop hands over first: the others need not wait for its silence.
    let leader = eventually("a leader", || cluster.leader());
    let mut node = cluster.nodes[leader].take().expect("it runs");
    drop(node.stdin.take());
    assert!(node.wait().expect("it ends").success());
    let heir = eventually("another leader", || cluster.leader().filter(|heir| *heir != leader));
    assert_eq!(cluster.payloads(heir).len(), 6000);
}
