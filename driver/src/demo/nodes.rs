//! Three nodes, each a process of its own, and what is done to them.
//!
//! A node holds one end of a pipe, its stdin, and ends when the other end does: no node outlives
//! the demo, however that ends.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use jetwake::time::Time;
use tokio::time::sleep;

use super::workload::{STREAM, SUBJECT_FILTER};
use super::{DemoError, bounded};
use crate::client::{Access, NodeAddress};
use crate::transport::certificates::Authority;
use crate::transport::tls::Security;

/// The names of the servers.
pub(super) const SERVERS: [&str; 3] = ["n1", "n2", "n3"];
/// Timers much shorter than upstream's, so that a demo does not wait.
const TIMERS: &str = "\
election_min = \"500ms\"
election_max = \"1s\"
heartbeat = \"100ms\"
lost_quorum = \"2s\"
log_catchup_stall = \"1s\"
catchup_start = \"1s\"
catchup_silence = \"5s\"
catchup_retry = \"500ms\"
";
/// The longest time without a leader after which one of them stands for election.
pub(super) const ELECTION_MAX: Duration = Duration::from_secs(1);
/// How often a process is looked at that ought to end.
const END_PAUSE: Duration = Duration::from_millis(2);
/// How often processes are looked at that ought not to end.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// How long a process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Lines of a node's log that are shown when it ended by itself.
const LOG_LINES: usize = 5;
/// What a node says whose port is taken.
const PORT_TAKEN: &str = "cannot listen on";

/// All three nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    folder: PathBuf,
    program: PathBuf,
    cluster: String,
    /// The NATS server through which the nodes reach each other, if they do not dial.
    between: Option<String>,
    access: Access,
    nodes: [Node; 3],
}

/// One server, running or not.
#[derive(Debug)]
struct Node {
    address: Cell<SocketAddr>,
    child: RefCell<Option<Child>>,
    /// Whether it must not end by itself.
    expected: Cell<bool>,
    /// The most memory that any of its processes had, in bytes.
    peak: Cell<Option<u64>>,
}

impl Nodes {
    /// Makes certificates in the folder. Nothing is started yet.
    pub(super) fn prepare(
        folder: &Path,
        program: &Path,
        between: Option<String>,
        now: Time,
    ) -> Result<Self, DemoError> {
        let certificates = folder.join("certificates");
        let authority = Authority::open(&certificates, now, 2)?;
        for server in SERVERS {
            authority.certify_server(server, &[])?;
        }
        let security = Security::load(&authority.certify_client("client")?)?;
        // Nodes of another demo that got hold of one of the ports must not be mistaken for ours.
        let cluster = format!("demo-{}", std::process::id());
        let access = Access { name: "demo".into(), cluster: cluster.clone(), security };
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let node = || Node {
            address: Cell::new(nowhere),
            child: RefCell::new(None),
            expected: Cell::new(false),
            peak: Cell::new(None),
        };
        let (folder, program) = (folder.to_owned(), program.to_owned());
        Ok(Self { folder, program, cluster, between, access, nodes: [node(), node(), node()] })
    }

    /// How a client introduces itself.
    pub(super) const fn access(&self) -> &Access {
        &self.access
    }

    /// Where all of them are.
    pub(super) fn addresses(&self) -> Vec<NodeAddress> {
        (0..SERVERS.len()).map(|node| self.address(node)).collect()
    }

    /// Where one of them is.
    pub(super) fn address(&self, node: usize) -> NodeAddress {
        NodeAddress {
            name: Some(SERVERS[node].into()),
            address: self.nodes[node].address.get().to_string(),
        }
    }

    /// Starts all three on ports that the system chooses. A port may be taken by another program
    /// before the node has it: see [`port_taken`](Self::port_taken).
    pub(super) fn start_all(&self) -> Result<(), DemoError> {
        // Held together, so that the three differ.
        let reserved = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        for (node, listener) in self.nodes.iter().zip(reserved) {
            let address = listener.and_then(|listener| listener.local_addr());
            node.address.set(address.map_err(|why| file_error(Path::new("127.0.0.1:0"), why))?);
        }
        for (node, server) in SERVERS.iter().enumerate() {
            let file = self.config_file(node);
            fs::write(&file, self.config(server)).map_err(|why| file_error(&file, why))?;
        }
        (0..SERVERS.len()).try_for_each(|node| self.start(node))
    }

    fn config_file(&self, node: usize) -> PathBuf {
        self.folder.join(format!("{}.toml", SERVERS[node]))
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.folder.join(format!("{}.log", SERVERS[node]))
    }

    /// A node's settings; paths start at the folder of the file.
    fn config(&self, server: &str) -> String {
        let addresses = SERVERS.iter().zip(&self.nodes);
        let listing =
            |(name, node): (&&str, &Node)| format!("{name} = \"{}\"\n", node.address.get());
        let peers: String = addresses.clone().map(listing).collect();
        let own =
            addresses.filter(|(name, _)| **name == server).map(|(_, node)| node.address.get());
        let listen: String = own.map(|address| address.to_string()).collect();
        let cluster = &self.cluster;
        let between = self.between.as_ref().map_or_else(String::new, |url| {
            let url = url.escape_default();
            let nats = format!("{{ servers = [\"{url}\"], prefix = \"{cluster}\" }}");
            format!("transport = \"nats\"\nnats = {nats}\n")
        });
        let (stream, subjects) = (bounded::STREAM, bounded::SUBJECT_FILTER);
        let (most, per_subject) = (bounded::MAX_MESSAGES, bounded::MAX_PER_SUBJECT);
        let bounded = format!(
            "[[stream]]\nname = \"{stream}\"\nsubjects = [\"{subjects}\"]\nmax_msgs = {most}\n\
             max_msgs_per_subject = {per_subject}\nallow_atomic = true\n"
        );
        format!(
            "name = \"{server}\"\ncluster = \"{cluster}\"\nlisten = \"{listen}\"\n\
             dir = \"{server}\"\n{between}\n[peers]\n{peers}\n\
             [[stream]]\nname = \"{STREAM}\"\nsubjects = [\"{SUBJECT_FILTER}\"]\n\n{bounded}\n\
             [tls]\nca = \"certificates/ca.pem\"\ncertificate = \"certificates/{server}.pem\"\n\
             key = \"certificates/{server}.key\"\n\n[timers]\n{TIMERS}"
        )
    }

    /// Starts a node on the disk and the port that it has.
    pub(super) fn start(&self, node: usize) -> Result<(), DemoError> {
        let path = self.log_file(node);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|why| file_error(&path, why))?;
        let stdout = log.try_clone().map_err(|why| file_error(&path, why))?;
        let mut command = Command::new(&self.program);
        command
            .arg("node")
            .arg("--config")
            .arg(self.config_file(node))
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(log);
        // A Ctrl-C in the terminal is for the demo, which ends its nodes in its own order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|why| file_error(&self.program, why))?;
        self.nodes[node].child.replace(Some(child));
        Ok(())
    }

    /// Kills a node: SIGKILL, with which it can do nothing any more.
    pub(super) fn kill(&self, node: usize) {
        self.measure(node);
        self.nodes[node].expected.set(false);
        if let Some(child) = &mut *self.nodes[node].child.borrow_mut() {
            // It fails only for a process that has ended already.
            let _ = child.kill();
        }
    }

    /// Waits until a killed node is gone.
    pub(super) async fn gone(&self, node: usize) -> Result<(), DemoError> {
        let mut waited = Duration::ZERO;
        while !self.reap(node)? {
            if waited >= END_PATIENCE {
                let server = SERVERS[node];
                return Err(DemoError::Hung {
                    step: format!("ending {server}"),
                    patience: END_PATIENCE,
                    how: "the process is still there".into(),
                });
            }
            sleep(END_PAUSE).await;
            waited += END_PAUSE;
        }
        Ok(())
    }

    /// Whether the process has ended; then it is forgotten.
    fn reap(&self, node: usize) -> Result<bool, DemoError> {
        let ended = self.has_ended(node)?;
        if ended.is_some() {
            self.nodes[node].child.replace(None);
        }
        Ok(self.nodes[node].child.borrow().is_none())
    }

    fn has_ended(&self, node: usize) -> Result<Option<ExitStatus>, DemoError> {
        match &mut *self.nodes[node].child.borrow_mut() {
            Some(child) => child.try_wait().map_err(|why| file_error(&self.program, why)),
            None => Ok(None),
        }
    }

    /// Asks all to end, as a person would, and waits until they have.
    pub(super) async fn stop_all(&self) -> Result<(), DemoError> {
        for node in 0..SERVERS.len() {
            self.measure(node);
            self.nodes[node].expected.set(false);
            if let Some(child) = &mut *self.nodes[node].child.borrow_mut() {
                drop(child.stdin.take());
            }
        }
        for node in 0..SERVERS.len() {
            self.gone(node).await?;
        }
        Ok(())
    }

    /// From now on the node must not end by itself.
    pub(super) fn expect(&self, node: usize) {
        self.nodes[node].expected.set(true);
    }

    /// Fails as soon as a node ends by itself.
    pub(super) async fn watch(&self) -> DemoError {
        loop {
            for node in (0..SERVERS.len()).filter(|node| self.nodes[*node].expected.get()) {
                if let Err(error) = self.check(node) {
                    return error;
                }
                self.measure(node);
            }
            sleep(WATCH_PAUSE).await;
        }
    }

    /// An error if the process has ended.
    pub(super) fn check(&self, node: usize) -> Result<(), DemoError> {
        match self.has_ended(node)? {
            Some(status) => {
                let log = self.log_tail(node);
                Err(DemoError::Ended { server: SERVERS[node], status, log })
            }
            None => Ok(()),
        }
    }

    /// Whether this is the error of a node whose port was taken by another program.
    pub(super) fn port_taken(error: &DemoError) -> bool {
        matches!(error, DemoError::Ended { log, .. } if log.contains(PORT_TAKEN))
    }

    /// Ends all at once and removes what they wrote.
    pub(super) fn clear(&self) -> Result<(), DemoError> {
        for (node, server) in SERVERS.iter().enumerate() {
            self.nodes[node].end();
            for path in [self.folder.join(server), self.log_file(node)] {
                let removed =
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if let Err(why) = removed
                    && why.kind() != io::ErrorKind::NotFound
                {
                    return Err(file_error(&path, why));
                }
            }
        }
        Ok(())
    }

    fn log_tail(&self, node: usize) -> String {
        let text = fs::read(self.log_file(node)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Looks how much memory a node's process has had at most.
    fn measure(&self, node: usize) {
        let node = &self.nodes[node];
        if let Some(child) = &*node.child.borrow() {
            node.peak.set(node.peak.get().max(peak_bytes(child.id())));
        }
    }

    /// The most memory that each server's processes had, in bytes, where the system tells.
    pub(super) fn peaks(&self) -> [Option<u64>; 3] {
        [0, 1, 2].map(|node: usize| self.nodes[node].peak.get())
    }
}

impl Node {
    /// Ends the process, whatever it does.
    fn end(&self) {
        self.expected.set(false);
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// The most memory that a process has had, in bytes: `VmHWM` of Linux.
fn peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn file_error(path: &Path, why: io::Error) -> DemoError {
    DemoError::File { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::settings::{Given, Settings};

    #[test]
    fn nodes_understand_their_settings() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now = Clock::start().now();
        let nodes =
            Nodes::prepare(folder.path(), Path::new("/none"), None, now).expect("certificates");
        let error = nodes.start_all().expect_err("no such program").to_string();
        assert!(error.starts_with("/none: "), "{error}");
        let mut seen = std::collections::BTreeSet::new();
        for (node, server) in SERVERS.iter().enumerate() {
            let given = Given::read(&nodes.config_file(node)).expect("TOML");
            let settings = Settings::try_from(given).expect("sound settings");
            assert_eq!(settings.name, *server);
            assert_eq!(settings.listen, nodes.address(node).address);
            assert_eq!(settings.peers.len(), 2);
            assert_eq!(settings.timers.election_max, ELECTION_MAX);
            Security::load(&settings.tls.expect("files of TLS")).expect("sound certificates");
            seen.insert(settings.listen);
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn a_taken_port_is_told_from_other_ends() {
        let ended = |log: &str| DemoError::Ended {
            server: "n1",
            status: ExitStatus::default(),
            log: log.into(),
        };
        let taken = "error: cannot listen on 127.0.0.1:1: Address already in use (os error 98)";
        assert!(Nodes::port_taken(&ended(taken)));
        assert!(!Nodes::port_taken(&ended("error: disk: no space")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_of_a_process_is_known() {
        assert!(peak_bytes(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(peak_bytes(u32::MAX), None);
    }
}
