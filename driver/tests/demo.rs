//! The demo as a user meets it: real processes, sockets and disks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jetwake_driver::clock::Clock;
use jetwake_driver::demo::{Options, Source, run};
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
    // What a killed leader had not finished may be sent again; what is left out, never.
    assert_eq!(number("/bounded/batches_committed"), 60.0);
    let without = ["abandoned", "refused"].map(|how| number(&format!("/bounded/batches_{how}")));
    assert_eq!(without.iter().sum::<f64>(), 40.0);
    assert!(without.iter().all(|count| *count > 0.0), "{without:?}");
    let gone = ["evicted", "purged"].map(|how| number(&format!("/bounded/{how}")));
    assert!(gone.iter().all(|count| *count > 0.0), "{gone:?}");
    assert_eq!(number("/bounded/messages"), 64.0, "as many as the stream keeps");
    for node in 0..3 {
        assert!(number(&format!("/memory/peak_bytes_per_node/{node}")) > 0.0);
    }
    assert!(is_empty(dir.path()), "a file stayed behind");
    assert_eq!(processes_of(dir.path()), [""; 0]);
}

#[test]
fn lines_of_a_file_are_published_and_the_data_is_kept_where_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let input = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines: Vec<String> = (0..700).map(|n| "\u{fc}\r".repeat(n % 50)).collect();
    std::fs::write(input.path(), lines.join("\n") + "\nthe last").expect("it is written");
    let path = input.path().to_str().expect("a readable path");
    let output = demo(dir.path(), &["--input", path, "--keep"]).output().expect("it runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(
        out.contains("\nverified: 701 published, 701 acknowledged, 0 lost, 0 doubled"),
        "{out}"
    );
    assert!(err.contains("the data is kept in"), "{err}");
    assert!(!is_empty(dir.path()));
}

#[test]
fn usage_errors_exit_2_and_say_what_was_expected() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (arguments, expected) in [
        (&["--messages", "99"][..], "99 is not in 100.."),
        (&["--size", "1047553"], "1047553 is not in 0..=1047552"),
        (&["--size", "1", "--input", "file"], "cannot be used with"),
    ] {
        let output = demo(dir.path(), arguments).output().expect("it runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn nodes_that_do_not_run_are_named_and_the_folder_is_kept() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = Options {
        source: Source::Made { messages: 100, size: 1 },
        dir: Some(dir.path().to_owned()),
        between: None,
        keep: false,
        quiet_stdout: true,
        program: "false".into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ending = runtime.expect("a runtime").block_on(run(options, Clock::start()));
    let error = ending.error.expect("an error").to_string();
    assert!(error.starts_with("node n1 ended by itself, exit status: 1"), "{error}");
    assert!(!ending.summary.verified);
    assert!(ending.folder.expect("a folder").join("n1.log").exists());
}

/// Starts a demo that would take long, and waits until it publishes.
#[cfg(unix)]
fn publishing(dir: &Path) -> Child {
    let mut child = demo(dir, &["--messages", "5000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (out, err) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
    std::thread::spawn(move || BufReader::new(err).lines().count());
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("publishing")));
    std::thread::spawn(move || lines.count());
    assert_eq!(processes_of(dir).len(), 3);
    child
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(sent.expect("the signal is sent").success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_every_node_and_leaves_no_file() {
    for name in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut child = publishing(dir.path());
        signal(&child, name);
        let status = child.wait().expect("its end");
        assert_eq!(status.code(), Some(1));
        assert_eq!(processes_of(dir.path()), [""; 0]);
        assert!(is_empty(dir.path()), "a file stayed behind");
    }
}

#[cfg(unix)]
#[test]
fn no_node_outlives_a_demo_that_is_killed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut child = publishing(dir.path());
    signal(&child, "-KILL");
    child.wait().expect("its end");
    let clock = Clock::start();
    let begun = clock.now();
    while !processes_of(dir.path()).is_empty() {
        let waited = clock.now().since(begun);
        assert!(waited < Duration::from_secs(30), "{:?}", processes_of(dir.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
}
