//! What goes wrong with disks: kills, torn writes, flipped bits, lost files, no space.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};

use bytes::Bytes;
use jetwake::command::LogChange;
use jetwake::event::{Damage, Damaged, Event, Failure, Loss, Standing, TermAndVote};
use jetwake::ids::{Index, PeerId, Term};

use crate::rig::{A, B, Rig, names, record};

/// Where a child finds its folder; without it, the children's tests have nothing to do.
const FOLDER: &str = "JETWAKE_DISK_TEST_FOLDER";

/// This program again, with one test.
fn child(test: &str, folder: &Path) -> Program {
    let mut program = Program::new(std::env::current_exe().unwrap());
    program.args(["--exact", test, "--nocapture"]).env(FOLDER, folder);
    program
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            let mut bytes = fs::read(entry.path()).unwrap();
            if to.extension().is_some_and(|extension| extension == "jnl") {
                bytes.truncate(used(&bytes) + 100);
            }
            fs::write(&to, bytes).unwrap();
        }
    }
}

/// Bytes before the zeros that a journal ends with.
fn used(bytes: &[u8]) -> usize {
    let mut used = bytes;
    // A test build compares pages much faster than it looks at bytes.
    while let Some((rest, page)) = used.split_last_chunk::<4096>()
        && page == &[0; 4096]
    {
        used = rest;
    }
    used.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
    found.sort();
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(file, bytes).unwrap();
}

fn only_journal(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    files(folder, &mut found);
    found.retain(|file| file.extension().is_some_and(|extension| extension == "jnl"));
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn a_killed_node_lost_nothing_that_it_reported() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut reported, mut term) = (1, 0, 0);
    for round in 0..5 {
        let mut child = child("faults::child_that_writes", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let killed_after = 150 + 90 * round;
        follow(&mut child, killed_after, |word, number| match word {
            "log" => reported = number,
            "first" => first = number,
            "term" => term = number,
            _ => {}
        });
        let mut rig = Rig::open(folder.path());
        let opened = &rig.opened[0];
        assert_eq!(opened.damage, [], "round {round}");
        let (begin, last) = opened.log.unwrap();
        assert!(begin.get() >= first && last.get() >= reported, "{begin} {last} {reported}");
        assert!(opened.vote.unwrap().term.get() >= term);
        let sequence = rig.opened[1].store.map_or(0, |mark| mark.last.get());
        rig.check(A, begin.get(), last.get());
        assert_eq!(rig.sequences(B, 300).last().copied().unwrap_or(0), sequence);
        reported = last.get();
    }
}

fn follow(child: &mut Child, lines: usize, mut tell: impl FnMut(&str, u64)) {
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((word, number)) = line.split_once(' ')
            && let Ok(number) = number.parse()
        {
            tell(word, number);
            seen += 1;
        }
        if seen == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= lines, "the child ended early");
}

/// Goes on where the folder ends, and says what was reported as written, until it is killed.
#[test]
fn child_that_writes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut rig = Rig::open(folder.as_ref());
    let mut last = rig.opened[0].log.map_or(0, |(_, last)| last.get());
    let mut sequence = rig.opened[1].store.map_or(0, |mark| mark.last.get());
    loop {
        let ids: Vec<_> =
            (last + 1..=last + 5).map(|index| rig.append(A, index, &record(A, index))).collect();
        last += 5;
        rig.await_written(ids[4]);
        println!("log {last}");
        sequence += 1;
        rig.add(B, &[sequence], 300);
        if last.is_multiple_of(50) {
            let (index, term) = (Index::new(last - 20), Term::new(last));
            rig.write(A, LogChange::TermAndVote(TermAndVote { term, vote: None }));
            println!("term {last}");
            let file = Bytes::from_static(b"all of it");
            rig.write(A, LogChange::Snapshot { index, term, file });
            rig.write(A, LogChange::Compact { through: index });
            println!("first {}", last - 19);
        }
    }
}

#[test]
fn a_torn_last_write_is_cut_off_and_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(&folder.path().join("live"));
    rig.fill(A, 1, 20);
    let journal = only_journal(&folder.path().join("live/log"));
    let before = used(&fs::read(&journal).unwrap());
    let large = vec![0xAB; 40_000];
    let id = rig.append(A, 21, &large);
    rig.await_written(id);
    let after = used(&fs::read(&journal).unwrap());
    assert!(after > before + 40_000);
    // A power cut leaves any part of what was not synced: it ends early, or has holes.
    for (at, step) in (before + 1..after).step_by(9001).enumerate() {
        for hole in [false, true] {
            let cut = folder.path().join(format!("cut-{at}-{hole}"));
            copy(&folder.path().join("live"), &cut);
            let journal = only_journal(&cut.join("log"));
            let mut bytes = fs::read(&journal).unwrap();
            let end = if hole { after.min(step + 500) } else { after };
            bytes[step..end].fill(0);
            fs::write(&journal, bytes).unwrap();
            let mut rig = Rig::open(&cut);
            assert_eq!(rig.opened[0].damage, [], "at {step}, hole {hole}");
            assert_eq!(rig.opened[0].log.unwrap().1.get(), 20, "at {step}, hole {hole}");
            rig.fill(A, 21, 22);
            rig.disk.close();
            let mut rig = Rig::open(&cut);
            rig.check(A, 1, 22);
        }
    }
}

#[test]
fn a_flipped_bit_in_what_was_synced_is_damage_and_what_is_left_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let mut rig = Rig::open(&live);
    for index in 1..=50 {
        rig.fill(A, index, index);
    }
    let log = only_journal(&live.join("log"));
    let end = used(&fs::read(log).unwrap());
    // The last write is not protected: nothing behind it says that it was synced.
    for (number, at) in (0..end * 9 / 10).step_by(1499).enumerate() {
        let copied = folder.path().join(format!("flipped-{number}"));
        copy(&live, &copied);
        let journal = only_journal(&copied.join("log"));
        flip(&journal, at);
        let bytes = fs::read(&journal).unwrap();
        let mut rig = Rig::open(&copied);
        for opened in &rig.opened {
            let [Damaged::Log(Damage { file, offset, .. })] = &opened.damage[..] else {
                panic!("at {at}: {:?}", opened.damage)
            };
            assert_eq!(file, &journal.display().to_string());
            let offset = offset.unwrap() as usize;
            assert!(offset <= at && at < offset + 1000, "{offset} for {at}");
            assert_eq!(opened.log, None);
            assert!(matches!(opened.standing, Standing::Impaired(_)), "{:?}", opened.standing);
        }
        let aside = copied.join("log.damaged-1").join(journal.file_name().unwrap());
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        // What is lost stays known, whatever is written now.
        rig.fill(A, 1, 3);
        rig.disk.close();
        let mut rig = Rig::open(&copied);
        for opened in &rig.opened {
            assert_eq!(opened.damage, []);
            assert!(matches!(opened.standing, Standing::Impaired(_)), "{:?}", opened.standing);
        }
        rig.check(A, 1, 3);
    }
}

/// Bits all over the files of a folder with journals, tables and blobs: the disk gives what was
/// written, or says that it is damaged.
#[test]
fn no_flipped_bit_changes_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut rig = Rig::open(&whole);
    let large = vec![0xAB; 256 << 10];
    for index in 1..=80 {
        rig.append(A, index, &large);
    }
    rig.fill(B, 1, 50);
    for hundred in 0..24 {
        let sequences: Vec<_> = (1..=100).map(|at| hundred * 100 + at).collect();
        rig.add(A, &sequences, 9000);
    }
    rig.remove(A, &[(200, 210), (555, 555)]);
    rig.fill(B, 51, 60);
    rig.disk.close();
    let mut all = Vec::new();
    files(&whole, &mut all);
    all.retain(|file| {
        file.components()
            .any(|part| ["log", "store"].map(AsRef::as_ref).contains(&part.as_os_str()))
    });
    let blobs = |file: &&PathBuf| file.components().any(|part| part.as_os_str() == "blobs");
    assert!(all.iter().any(|file| blobs(&file)), "no blob file: {all:?}");
    let flips: usize =
        std::env::var("JETWAKE_DISK_TEST_FLIPS").map_or(10, |flips| flips.parse().unwrap());
    let mut random = jetwake::random::Random::new(flips as u64);
    for _ in 0..flips {
        let file = &all[random.bits() as usize % all.len()];
        let length = used(&fs::read(file).unwrap());
        if length == 0 {
            continue;
        }
        let at = random.bits() as usize % length;
        let copied = folder.path().join("flipped");
        copy(&whole, &copied);
        let flipped = copied.join(file.strip_prefix(&whole).unwrap());
        flip(&flipped, at);
        let told = format!("{} at {at}", flipped.display());
        let mut rig = Rig::open(&copied);
        for (group, last) in [(A, 80), (B, 60)] {
            let opened = &rig.opened[group.0 as usize];
            if opened.damage.is_empty() {
                assert_eq!(opened.log, Some((Index::new(1), Index::new(last))), "{told}");
            }
        }
        if rig.opened[1].damage.is_empty() {
            rig.check(B, 1, 60);
        }
        if rig.opened[0].damage.is_empty() {
            read_all(&mut rig, &told);
        }
        rig.disk.close();
        fs::remove_dir_all(&copied).unwrap();
    }
}

/// Reads all messages of `A`, and puts those that are lost in their place again.
fn read_all(rig: &mut Rig, told: &str) {
    let (mut from, mut read) = (0, 0);
    loop {
        match rig.ask_read(A, from, u64::MAX, usize::MAX, u64::MAX) {
            Event::Read { messages, next, .. } => {
                read += messages.len();
                for message in messages {
                    let sequence = message.sequence.get();
                    assert_eq!(message.record, crate::rig::message(sequence, 9000), "{told}");
                }
                match next {
                    Some(next) => from = next.get(),
                    None => break,
                }
            }
            Event::MessagesLost { lost, .. } => {
                let removed = |sequence: &u64| (200..=210).contains(sequence) || *sequence == 555;
                let all = lost.first.get()..=lost.last.get().min(2400);
                let lacking: Vec<_> = all.filter(|sequence| !removed(sequence)).collect();
                assert!(lost.count.is_none_or(|count| count == lacking.len() as u64), "{told}");
                rig.mend(A, (lost.first, lost.last), &lacking, 9000);
            }
            other => panic!("{told}: {other:?}"),
        }
    }
    assert_eq!(read, 2400 - 12, "{told}");
}

#[test]
fn a_log_that_is_gone_is_missed_and_a_new_group_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let term = Term::new(4);
    rig.write(A, LogChange::TermAndVote(TermAndVote { term, vote: None }));
    rig.fill(A, 1, 10);
    rig.disk.close();
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    let rig = Rig::open(folder.path());
    let [Damaged::Log(_)] = &rig.opened[0].damage[..] else { panic!("{:?}", rig.opened[0]) };
    // It is written down: the next start finds a log that is empty, and says the same.
    rig.disk.close();
    let rig = Rig::open(folder.path());
    let Standing::Impaired(impairment) = &rig.opened[0].standing else { panic!() };
    assert_eq!(impairment.lost, Loss::Records { promised: term });
    assert_eq!(rig.opened[1].damage, []);
    assert_eq!(rig.opened[1].standing, Standing::Unknown);
}

#[test]
fn a_store_that_cannot_be_opened_is_moved_aside_and_the_log_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.fill(A, 1, 10);
    rig.add(A, &[1, 2, 3], 2000);
    rig.disk.close();
    let journal = only_journal(&folder.path().join("store"));
    let at = used(&fs::read(&journal).unwrap()) / 2;
    flip(&journal, at);
    let mut rig = Rig::open(folder.path());
    for opened in &rig.opened {
        let [Damaged::Store(Damage { what, .. })] = &opened.damage[..] else { panic!() };
        assert!(what.contains("store.damaged-1"), "{what}");
        assert_eq!(opened.store, None);
        assert_eq!(opened.standing, Standing::Unknown, "no promise rests on it");
    }
    rig.check(A, 1, 10);
    rig.add(A, &[7], 2000);
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    assert_eq!(rig.opened[0].damage, []);
    assert_eq!(rig.sequences(A, 2000), [7]);
}

#[test]
fn one_bad_vote_slot_takes_nothing_back_and_two_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let vote = |term| TermAndVote { term: Term::new(term), vote: Some(PeerId::from_name("n1")) };
    rig.write(A, LogChange::TermAndVote(vote(4)));
    rig.write(A, LogChange::TermAndVote(vote(5)));
    rig.disk.close();
    let file = folder.path().join("votes").join(names()[0].as_str());
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        if [0, 9, 17, 35, 4096, 4105, 4113, 4131].contains(&at) {
            let rig = Rig::open(folder.path());
            assert_eq!(rig.opened[0].vote, Some(vote(5)), "byte {at}");
            assert_eq!(rig.opened[0].damage, []);
        }
    }
    for bytes in [&[0xFF; 36][..], &[0xFF; 4132][..], &whole[4096..]] {
        let mut damaged = bytes.to_vec();
        if bytes.len() == 36 {
            damaged[..36].copy_from_slice(&whole[..36]);
            damaged[20] ^= 1;
        }
        fs::write(&file, &damaged).unwrap();
        let rig = Rig::open(folder.path());
        if damaged[..] == whole[4096..] {
            assert_eq!(rig.opened[0].vote, Some(vote(5)));
            continue;
        }
        let [Damaged::Vote(Damage { file: named, offset: Some(0), .. })] =
            &rig.opened[0].damage[..]
        else {
            panic!("{:?}", rig.opened[0].damage)
        };
        assert_eq!(named, &file.display().to_string());
        assert_eq!(rig.opened[0].vote, None);
        assert_eq!(rig.opened[1].damage, []);
    }
    // The file of another group is nobody's vote here.
    fs::write(&file, &whole).unwrap();
    fs::copy(&file, folder.path().join("votes").join("#1")).unwrap();
    let rig = Rig::open(folder.path());
    assert_eq!(rig.opened[1].vote, None);
    assert_eq!(rig.opened[1].damage.len(), 1);
}

#[test]
fn a_log_that_begins_behind_its_snapshot_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.fill(A, 1, 10);
    let file = Bytes::from_static(b"up to five");
    rig.write(A, LogChange::Snapshot { index: Index::new(5), term: Term::new(1), file });
    rig.write(A, LogChange::Compact { through: Index::new(5) });
    rig.disk.close();
    let snapshots = folder.path().join("snapshots").join(names()[0].as_str());
    fs::remove_dir_all(&snapshots).unwrap();
    let rig = Rig::open(folder.path());
    let [Damaged::Snapshot(Damage { file, what, .. })] = &rig.opened[0].damage[..] else {
        panic!("{:?}", rig.opened[0].damage)
    };
    assert_eq!(file, &snapshots.display().to_string());
    assert_eq!(what, "no snapshot, but the log begins behind 5");
}

#[test]
fn a_full_disk_is_told_and_what_was_reported_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = folder.path().join("small");
    fs::create_dir(&mounted).unwrap();
    let child = child("faults::child_that_fills_its_disk", &mounted);
    // A file system of its own, seen by the child alone and gone with it.
    let script = "mount -t tmpfs -o size=72m tmpfs \"$1\" && shift && exec \"$@\"";
    let output = Program::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(&mounted)
        .arg(child.get_program())
        .args(child.get_args())
        .env(FOLDER, &mounted)
        .output();
    let said = output.map_or_else(
        |error| error.to_string(),
        |output| {
            [output.stdout, output.stderr]
                .map(|said| String::from_utf8_lossy(&said).into_owned())
                .concat()
        },
    );
    // Not every system lets a user mount; where it does, the child must have seen it all.
    let refused = ["not permitted", "No such file", "denied", "Invalid argument"];
    assert!(
        said.contains("full disk: seen") || refused.iter().any(|word| said.contains(word)),
        "{said}"
    );
}

#[test]
fn child_that_fills_its_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let (ballast, folder) = (folder.join("ballast"), folder.join("disk"));
    fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let mut rig = Rig::open(&folder);
    let large = vec![0xCD; 256 << 10];
    let (mut asked, mut written) = (0, 0);
    let failed = loop {
        asked += 1;
        let id = rig.append(A, asked, &large);
        match rig.event() {
            Event::Written { through } if through == id => written = asked,
            Event::WriteFailed { group: A, write, failure } if write == id => break failure,
            other => panic!("{other:?}"),
        }
    };
    let Failure::Full(Damage { file, .. }) = failed else { panic!("{failed:?}") };
    assert!(file.starts_with(folder.to_str().unwrap()), "{file}");
    // Nothing that comes later is reported, of this group or of another.
    rig.append(A, asked + 1, b"");
    assert!(matches!(rig.event(), Event::WriteFailed { group: A, .. }));
    rig.append(B, 1, &large);
    assert!(matches!(rig.event(), Event::WriteFailed { group: B, failure: Failure::Full(_), .. }));
    assert_eq!(written, asked - 1);
    rig.disk.close();
    // Room is made, the node starts again, and has what it reported.
    fs::remove_file(&ballast).unwrap();
    let mut rig = Rig::open(&folder);
    assert_eq!(rig.opened[0].damage, []);
    assert!(rig.opened[0].log.unwrap().1.get() >= written);
    let Event::Loaded { records, .. } = rig.load(A, 1, written, u64::MAX) else { panic!() };
    assert!(records.iter().all(|record| *record == large));
    println!("full disk: seen");
}
