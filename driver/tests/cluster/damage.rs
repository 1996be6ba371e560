//! Bits flip and files vanish on the disk of a stopped node: it says what it found, gets back what it
//! lost from the others, and has every message again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::rig::{Cluster, NAMES, eventually};

/// A way for the disk of a node to go bad, and words of what the node says of it then.
struct Damage {
    what: &'static str,
    /// Does it in a data folder.
    does: fn(&Path),
    says: &'static str,
}

const DAMAGES: [Damage; 8] = [
    Damage {
        what: "a bit of the log's journal",
        does: |dir| flip_in_the_middle(&newest(&dir.join("log"), "jnl")),
        says: "log.damaged-1",
    },
    Damage {
        what: "a bit of a message",
        does: |dir| flip_in_the_middle(&largest(&dir.join("store"), "blobs")),
        says: "wrong checksum",
    },
    Damage {
        what: "a bit of the store's journal",
        does: |dir| flip_in_the_middle(&newest(&dir.join("store"), "jnl")),
        says: "the whole database was moved to",
    },
    Damage {
        what: "a bit of a table of the store",
        does: |dir| flip_in_the_middle(&largest(&dir.join("store"), "tables")),
        says: "the whole database was moved to",
    },
    Damage {
        what: "a bit of the snapshot",
        does: |dir| flip_in_the_middle(&newest(&dir.join("snapshots"), "jws")),
        says: "snapshot",
    },
    Damage {
        what: "both slots with the vote",
        does: |dir| {
            let file = newest(&dir.join("votes"), "");
            let mut bytes = fs::read(&file).expect("the file");
            for at in [20, 4096 + 20] {
                bytes[at] ^= 1;
            }
            fs::write(&file, bytes).expect("the file");
        },
        says: "neither slot is whole",
    },
    Damage {
        what: "the folder of the log",
        does: |dir| fs::remove_dir_all(dir.join("log")).expect("the folder"),
        says: "nothing of a group of which there are other files",
    },
    Damage {
        what: "the whole disk",
        does: |dir| fs::remove_dir_all(dir).expect("the folder"),
        says: "empty, but",
    },
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
    found.sort();
}

/// The last file, by name, with this extension.
fn newest(folder: &Path, extension: &str) -> PathBuf {
    let mut found = Vec::new();
    files(folder, &mut found);
    let has = |file: &PathBuf| file.extension().unwrap_or_default() == extension;
    found.into_iter().rfind(has).expect(extension)
}

/// The largest file in a folder of this name.
fn largest(folder: &Path, name: &str) -> PathBuf {
    let mut found = Vec::new();
    files(folder, &mut found);
    found.retain(|file| file.components().any(|part| part.as_os_str() == name));
    let length = |file: &PathBuf| fs::metadata(file).map_or(0, |data| data.len());
    let all = format!("{name}: {found:?}");
    found.into_iter().max_by_key(length).expect(&all)
}

/// Flips a bit in the middle of what a file holds; journals end with zeros.
fn flip_in_the_middle(file: &Path) {
    let mut bytes = fs::read(file).expect("the file");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("something in it");
    bytes[used / 2] ^= 0x10;
    fs::write(file, bytes).expect("the file");
}

/// What a line of the stream says, long enough that its messages fill files of their own.
fn line(number: usize) -> String {
    format!("line {number} {}", "of many words ".repeat(500))
}

fn publish(cluster: &Cluster, lines: std::ops::Range<usize>) {
    let mut publishing = cluster
        .client(&["pub", "ORDERS", "orders.new"], None)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = publishing.stdin.take().expect("stdin is piped");
    let count = lines.len();
    for number in lines {
        writeln!(input, "{}", line(number)).expect("it reads");
    }
    drop(input);
    let told = publishing.wait_with_output().expect("it ends");
    let told = String::from_utf8(told.stdout).expect("text");
    assert!(told.starts_with(&format!("stored {count} at sequence ")), "{told}");
}

#[test]
fn a_node_gets_back_what_its_disk_lost() {
    let mut cluster = Cluster::start();
    let mut stored = 3600;
    publish(&cluster, 0..stored);
    for (place, damage) in DAMAGES.into_iter().enumerate() {
        let Damage { what, does, says } = damage;
        // Now a follower, now the leader: whoever was stopped gives up leadership.
        let leader = eventually("a leader", || cluster.leader());
        let node = if place == 3 { leader } else { 2 };
        cluster.stop(node);
        does(&cluster.path(&format!("data-{}", NAMES[node])));
        publish(&cluster, stored..stored + 20);
        stored += 20;
        cluster.run(node);
        let told = eventually(what, || {
            let told = cluster.output(&["info", "ORDERS"], Some(node)).ok()?;
            told.contains(" healthy").then_some(told)
        });
        assert!(told.contains(says), "{what}: {told}");
        // It counts again: with another one stopped, nothing is stored without it.
        let other = (node + 1) % NAMES.len();
        cluster.stop(other);
        publish(&cluster, stored..stored + 20);
        stored += 20;
        cluster.run(other);
        let expected: Vec<_> = (0..stored).map(line).collect();
        for replica in 0..NAMES.len() {
            eventually(what, || {
                let payloads = cluster.payloads(replica);
                (payloads.len() == expected.len()).then(|| assert!(payloads == expected, "{what}"))
            });
        }
    }
}
