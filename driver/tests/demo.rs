//! The demo as a user meets it: real processes, sockets and disks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

fn demo(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    command.arg("demo").args(arguments).arg("--dir").arg(dir).stdin(Stdio::null());
    command
}

/// Processes whose command line names the folder.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().expect("a readable path");
    let entries = std::fs::read_dir("/proc").expect("the list of processes");
    let command = |entry: std::io::Result<std::fs::DirEntry>| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(dir) && line.contains(" node ")).then_some(line)
    };
    entries.filter_map(command).collect()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("the folder").next().is_none()
}

#[test]
fn all_that_is_acknowledged_is_on_all_replicas() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = demo(dir.path(), &["--messages", "5000", "--json"]).output().expect("it runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let summary: Value = serde_json::from_str(out.lines().last().unwrap_or_default())
        .expect("the last line is one object");
    let number = |path: &str| summary.pointer(path).and_then(Value::as_f64).expect(path);
    assert_eq!(summary["verified"], true);
    assert_eq!(summary["replicas_identical"], true);
    assert_eq!((number("/published"), number("/acked")), (5000.0, 5000.0));
    assert_eq!((number("/lost"), number("/duplicates")), (0.0, 0.0));
    assert!(number("/publish/messages_per_second") > 0.0);
    assert!(number("/publish/p50_milliseconds") <= number("/publish/p99_milliseconds"));
    assert!(number("/catchup/messages") > 0.0, "the stream's catchup had to run: {out}{err}");
    assert!(number("/catchup/bytes") > 0.0 && number("/catchup/seconds") >= 0.0);
    assert!(number("/failover/milliseconds") > 0.0);
    for node in 0..3 {
        assert!(number(&format!("/memory/peak_bytes_per_node/{node}")) > 0.0);
    }
    assert!(is_empty(dir.path()), "a file stayed behind");
    assert_eq!(processes_of(dir.path()), [""; 0]);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_every_node_and_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut child = demo(dir.path(), &["--messages", "5000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (out, err) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
    let drained = std::thread::spawn(move || BufReader::new(err).lines().count());
    let publishing =
        BufReader::new(out).lines().map_while(Result::ok).find(|line| line.contains("publishing"));
    assert!(publishing.is_some());
    assert_eq!(processes_of(dir.path()).len(), 3);
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("the signal is sent");
    assert!(interrupted.success());
    let status = child.wait().expect("its end");
    assert!(!status.success());
    drained.join().expect("stderr is read");
    assert_eq!(processes_of(dir.path()), [""; 0]);
    assert!(is_empty(dir.path()), "a file stayed behind");
}
