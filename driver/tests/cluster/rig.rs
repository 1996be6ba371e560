//! Three real nodes under TLS, run and asked as a user would.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn jetwake() -> Command {
    Command::new(env!("CARGO_BIN_EXE_jetwake"))
}

/// Nodes that end with the test, whatever becomes of that.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
    pub(crate) nodes: Vec<Option<Child>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}

impl Cluster {
    pub(crate) fn start() -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
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
             [timers]\nelection_min = '500ms'\nelection_max = '1s'\nheartbeat = '50ms'\n\
             [limits]\nlog_before_snapshot = 4194304\n",
            self.addresses[place]
        )
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn run(&mut self, node: usize) {
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

    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks a node to end, and waits until it has.
    pub(crate) fn stop(&mut self, node: usize) {
        let mut node = self.nodes[node].take().expect("it runs");
        drop(node.stdin.take());
        assert!(node.wait().expect("it ends").success());
    }

    /// A command that asks all nodes, or one.
    pub(crate) fn client(&self, arguments: &[&str], node: Option<usize>) -> Command {
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

    pub(crate) fn output(&self, arguments: &[&str], node: Option<usize>) -> Result<String, String> {
        let output = self.client(arguments, node).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// The leader as one of the nodes names it.
    pub(crate) fn leader(&self) -> Option<usize> {
        let told = (0..NAMES.len())
            .filter(|node| self.nodes[*node].is_some())
            .find_map(|node| self.output(&["info", "ORDERS"], Some(node)).ok())?;
        let name = told.lines().nth(1)?.split_whitespace().nth(1)?.to_owned();
        NAMES.iter().position(|known| *known == name)
    }

    pub(crate) fn payloads(&self, node: usize) -> Vec<String> {
        let all = ["get", "ORDERS", "1", "--count", "0", "--format", "payload"];
        let payloads = self.output(&all, Some(node)).unwrap_or_default();
        payloads.lines().map(str::to_owned).collect()
    }
}

/// Waits until something is there.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come about within a minute");
}
