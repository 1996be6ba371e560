//! A leader is killed in the middle of publishing, and another is asked to stop.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::rig::{Cluster, NAMES, eventually};

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
    cluster.stop(leader);
    let heir = eventually("another leader", || cluster.leader().filter(|heir| *heir != leader));
    assert_eq!(cluster.payloads(heir).len(), 6000);
}
