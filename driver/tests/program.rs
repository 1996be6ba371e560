//! The program as a user meets it: real processes, their output and how they end.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use jetwake::trace::{Reader, Record, Replay};

fn jetwake(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    jetwake(arguments).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node that ends with the test, whatever becomes of that.
struct Node {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Node {
    /// Starts a node in plain TCP and waits until it is ready.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let dir = dir.to_str().expect("a readable path");
        let flags = ["node", "--name", "n1", "--listen", "127.0.0.1:0", "--dir", dir];
        let more = ["--stream", "S=s.>", "--insecure-plaintext", "--until-stdin-closes"]
            .iter()
            .chain(more);
        let mut child = jetwake(&flags)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let address = line.strip_prefix("listening on ").expect("the line that says it is ready");
        Self { address: address.trim_end().to_owned(), child, stdout }
    }

    /// Waits for its end, and that it said nothing more on stdout.
    fn ends_well(mut self) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("stdout");
        assert_eq!(rest, "");
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn usage_errors_exit_2_and_say_what_was_expected() {
    let node = ["node", "--name", "n1", "--listen", "x", "--dir", "/nowhere", "--stream", "S=s"];
    let cases: [(&[&str], &str); 9] = [
        (&[], "Usage: jetwake"),
        (&["node", "--bogus"], "unexpected argument '--bogus'"),
        (&["node"], "name: missing, expected the name of this server"),
        (&["node", "--peer", "n2="], "expected NAME=VALUE"),
        (&["node", "--timer", "heartbeat=soon"], "found \"soon\", expected a duration"),
        (&node, "tls: missing, expected ca, certificate and key"),
        (&["pub", "S"], "<SUBJECT>"),
        (&["get", "S", "-n", "here:1"], "expected --ca, --certificate and --key, or --insecure"),
        (&["info", "S", "-n", "here"], "found \"here\", expected HOST:PORT or NAME=HOST:PORT"),
    ];
    for (arguments, expected) in cases {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn every_command_has_help() {
    for command in ["node", "pub", "get", "info", "certify", "decode"] {
        let output = output(&[command, "--help"]);
        assert!(output.status.success());
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(help.contains(&format!("Usage: jetwake {command}")), "{help}");
    }
}

#[test]
fn what_stands_in_a_nodes_way_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("node.toml");
    let node = |text: &str| {
        std::fs::write(&file, text).expect("a file in it");
        output(&["node", "--config", file.to_str().expect("a readable path")])
    };
    let sound = "name = 'n1'\nlisten = '127.0.0.1:0'\ndir = 'd'\n\
                 stream = [{ name = 'S', subjects = ['s'] }]\n";
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = holder.local_addr().expect("an address").port();
    let taken = format!("insecure_plaintext = true\n{}", sound.replace(":0", &format!(":{port}")));
    let cases = [
        ("name = 1".to_owned(), "node.toml: TOML parse error at line 1".to_owned()),
        (sound.to_owned(), "node.toml, with flags: tls: missing".to_owned()),
        (taken, format!("cannot listen on 127.0.0.1:{port}: Address already in use")),
        (
            format!("{sound}tls = {{ ca = 'ca.pem', certificate = 'n1.pem', key = 'n1.key' }}"),
            "ca.pem: expected certificates in PEM: ".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        let output = node(&text);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
    let absent = output(&["node", "--config", "absent.toml"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("config file absent.toml: No such file"));
}

#[test]
fn a_data_folder_serves_one_node_at_a_time() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = dir.path().join("data");
    let first = Node::start(&data, &[]);
    let path = data.to_str().expect("a readable path");
    let second = output(&[
        "node",
        "--name",
        "n1",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        path,
        "--stream",
        "S=s.>",
        "--insecure-plaintext",
    ]);
    assert_eq!(second.status.code(), Some(1));
    let expected =
        format!("data folder {path}: in use by another node (process {})", first.child.id());
    assert!(stderr(&second).contains(&expected), "{}", stderr(&second));
    drop(first);
    Node::start(&data, &[]);
}

#[test]
fn a_node_ends_with_its_parent_and_on_signals() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut node = Node::start(dir.path(), &[]);
    drop(node.child.stdin.take());
    node.ends_well();
    for signal in ["-TERM", "-INT"] {
        let node = Node::start(dir.path(), &[]);
        let id = node.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("kill runs");
        assert!(sent.success());
        node.ends_well();
    }
}

#[test]
fn a_recorded_run_begins_with_its_settings() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let trace = dir.path().join("trace");
    let path = trace.to_str().expect("a readable path");
    let mut node = Node::start(&dir.path().join("data"), &["--trace", path, "--seed", "42"]);
    drop(node.child.stdin.take());
    node.ends_well();
    let (mut reader, mut replay) = (Reader::default(), Replay::default());
    reader.push(&std::fs::read(&trace).expect("a trace"));
    let mut seeds = Vec::new();
    while let Some(record) = reader.next_record().expect("a sound trace") {
        if let Record::Start(config) = &record {
            seeds.push(config.seed);
        }
        replay.record(record).expect("the same commands");
    }
    assert_eq!(seeds, [42]);
    assert!(replay.events >= 1, "the opened disk is an event");
    assert!(!reader.has_rest());
}

#[test]
fn a_recorded_run_replays_the_same_and_a_damaged_one_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let trace = dir.path().join("n1.trace");
    let path = trace.to_str().expect("a readable path");
    let mut node = Node::start(&dir.path().join("data"), &["--trace", path]);
    for number in 0..3 {
        let text = format!("message {number}");
        let to = ["pub", "S", "s.x", &text, "--insecure-plaintext", "--node", &node.address];
        let published = output(&to);
        assert!(published.status.success(), "{}", stderr(&published));
    }
    drop(node.child.stdin.take());
    node.ends_well();
    let replayed = output(&["replay", path]);
    assert!(replayed.status.success(), "{}", stderr(&replayed));
    let told = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(told.ends_with("commands: all came out the same\n"), "{told}");

    let mut bytes = std::fs::read(&trace).expect("a trace");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&trace, bytes).expect("a damaged trace");
    let replayed = output(&["replay", path]);
    assert_eq!(replayed.status.code(), Some(1));
    let error = stderr(&replayed);
    assert!(error.contains("n1.trace: the record at byte"), "{error}");
}

#[test]
fn an_unknown_stream_and_a_node_that_is_not_there_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let node = Node::start(dir.path(), &[]);
    let ask = |address: &str| {
        let output = output(&["get", "NONE", "--insecure-plaintext", "--node", address]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let error = ask(&node.address);
    assert!(error.contains("node n1: stream not found (10059)"), "{error}");
    let error = ask("127.0.0.1:1");
    assert!(error.contains("node 127.0.0.1:1: Connection refused"), "{error}");
    assert!(error.contains("no node could be reached"), "{error}");
    let error = ask(&format!("n7={}", node.address));
    assert!(error.contains("found server \"n1\", expected \"n7\""), "{error}");
}

#[test]
fn certificates_are_made_once_and_keys_are_private() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().to_str().expect("a readable path");
    let made = output(&["certify", "--dir", path, "n1", "--client", "me"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let read = |name| std::fs::read(dir.path().join(name)).expect(name);
    let authority = read("ca.pem");
    assert!(output(&["certify", "--dir", path, "n2"]).status.success());
    assert_eq!(read("ca.pem"), authority, "the authority was replaced");
    for name in ["n1.pem", "n1.key", "n2.pem", "n2.key", "me.pem", "me.key"] {
        assert!(read(name).starts_with(b"-----BEGIN "));
    }
    #[cfg(unix)]
    for name in ["ca.key", "n1.key", "me.key"] {
        let metadata = std::fs::metadata(dir.path().join(name)).expect(name);
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
        assert_eq!(mode & 0o077, 0, "{name} can be read by others");
    }
    for bad in ["ca", "a/b", "", "-"] {
        let refused = output(&["certify", "--dir", path, "--", bad]);
        assert_eq!(refused.status.code(), Some(2), "{bad:?}: {}", stderr(&refused));
    }
}
