//! Logs, votes, snapshots: round trips and reopening.

use bytes::Bytes;
use jetwake::command::LogChange;
use jetwake::event::{Event, Failure, Opened, SnapshotFound, Standing, TermAndVote};
use jetwake::ids::{GroupName, Index, PeerId, Term};
use jetwake_driver::disk::{Disk, DiskError};

use crate::rig::{A, B, Rig, names, record};

fn bounds(opened: &Opened) -> Option<(u64, u64)> {
    assert_eq!(opened.damage, []);
    opened.log.map(|(first, last)| (first.get(), last.get()))
}

fn truncate(last: u64) -> LogChange {
    LogChange::Truncate { last: Index::new(last) }
}

fn compact(through: u64) -> LogChange {
    LogChange::Compact { through: Index::new(through) }
}

fn reset(last: u64) -> LogChange {
    LogChange::Reset { last: Index::new(last) }
}

fn whole(file: &'static [u8]) -> Option<SnapshotFound> {
    Some(SnapshotFound::Whole(Bytes::from_static(file)))
}

fn snapshot(index: u64, file: &'static [u8]) -> LogChange {
    LogChange::Snapshot {
        index: Index::new(index),
        term: Term::new(7),
        file: Bytes::from_static(file),
    }
}

#[test]
fn records_come_back_from_the_log_and_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let fresh = Opened { standing: Standing::Unknown, ..Opened::default() };
    assert_eq!(rig.opened, [fresh.clone(), fresh]);
    rig.fill(A, 1, 100);
    rig.fill(B, 1, 3);
    let large = vec![7; 256 << 10];
    let id = rig.append(B, 4, &large);
    rig.await_written(id);
    rig.check(A, 1, 100);
    rig.disk.close();

    let mut rig = Rig::open(folder.path());
    assert_eq!(bounds(&rig.opened[0]), Some((1, 100)));
    assert_eq!(bounds(&rig.opened[1]), Some((1, 4)));
    rig.check(A, 50, 100);
    rig.check(B, 1, 3);
    assert!(matches!(rig.load(B, 4, 4, 0), Event::Loaded { records, .. } if records == [large]));
}

#[test]
fn one_sync_serves_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let ids: Vec<_> = (1..=500).map(|index| rig.append(A, index, &record(A, index))).collect();
    let mut syncs = 0;
    loop {
        let Event::Written { through } = rig.event() else { panic!("not written") };
        syncs += 1;
        if through == *ids.last().unwrap() {
            break;
        }
    }
    assert!(syncs < 100, "{syncs} syncs for 500 records");
}

#[test]
fn a_load_sees_writes_asked_before_it_and_stops_at_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let ids: Vec<_> = (1..=10).map(|index| rig.append(A, index, &record(A, index))).collect();
    let mut loaded = rig.load(A, 2, 10, 1);
    while let Event::Written { .. } = loaded {
        loaded = rig.event();
    }
    assert!(matches!(loaded, Event::Loaded { records, .. } if records == [record(A, 2)]));
    rig.append(A, 11, b"");
    while !matches!(rig.event(), Event::Written { through } if through > ids[9]) {}
    let two = 2 * record(A, 2).len() as u64;
    let Event::Loaded { records, .. } = rig.load(A, 2, 10, two) else { panic!("not loaded") };
    assert_eq!(records.len(), 2);
    assert!(matches!(rig.load(A, 9, 12, 1), Event::LoadFailed { failure: Failure::Io(_), .. }));
}

#[test]
fn truncate_compact_and_reset_hold_over_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.fill(A, 1, 30);
    rig.fill(B, 1, 30);
    rig.write(A, truncate(20));
    rig.fill(A, 21, 22);
    rig.write(A, snapshot(10, b"ten"));
    rig.write(A, compact(10));
    rig.write(B, snapshot(500, b"five hundred"));
    rig.write(B, reset(500));
    rig.disk.close();

    let mut rig = Rig::open(folder.path());
    assert_eq!(bounds(&rig.opened[0]), Some((11, 22)));
    assert_eq!(rig.opened[0].snapshot, whole(b"ten"));
    assert_eq!(bounds(&rig.opened[1]), None);
    rig.check(A, 11, 22);
    assert!(matches!(rig.load(A, 10, 12, 1), Event::LoadFailed { .. }));
    rig.fill(B, 501, 502);
    rig.check(B, 501, 502);
    rig.write(A, compact(99));
    rig.fill(A, 23, 23);
    rig.check(A, 23, 23);
}

#[test]
fn all_changes_in_one_sync_end_as_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.ask_write(A, snapshot(6, b"six"));
    for index in 1..=20 {
        rig.append(A, index, &record(A, index));
    }
    rig.ask_write(A, truncate(5));
    for index in 6..=9 {
        rig.append(A, index, &record(A, index));
    }
    rig.ask_write(A, compact(6));
    rig.ask_write(A, truncate(8));
    let id = rig.append(A, 9, &record(A, 9));
    rig.await_written(id);
    rig.check(A, 7, 9);
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    assert_eq!(bounds(&rig.opened[0]), Some((7, 9)));
    rig.check(A, 7, 9);
}

#[test]
fn a_record_out_of_place_fails_and_so_does_all_that_follows_in_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.fill(A, 1, 3);
    let wrong = rig.append(A, 5, b"five");
    assert!(matches!(
        rig.event(),
        Event::WriteFailed { group: A, write, failure: Failure::Io(_) } if write == wrong
    ));
    let late = rig.append(A, 4, b"four");
    assert!(matches!(rig.event(), Event::WriteFailed { group: A, write, .. } if write == late));
    rig.fill(B, 1, 1);
    rig.check(A, 1, 3);
}

#[test]
fn term_and_vote_are_the_newest_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let votes = [3, 4, 9].map(|term| TermAndVote {
        term: Term::new(term),
        vote: (term != 4).then(|| PeerId::from_name("n2")),
    });
    for (at, vote) in votes.into_iter().enumerate() {
        rig.write(A, LogChange::TermAndVote(vote));
        rig.disk.close();
        rig = Rig::open(folder.path());
        assert_eq!(rig.opened[0].vote, Some(vote), "vote {at}");
        assert_eq!(rig.opened[1].vote, None);
    }
}

#[test]
fn one_snapshot_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.write(A, snapshot(1, b"one"));
    rig.write(A, snapshot(2, b"two"));
    rig.write(B, snapshot(3, b"three"));
    rig.disk.close();
    let of_a = folder.path().join("snapshots").join("S-R3F-aaaaaaaa");
    assert_eq!(std::fs::read_dir(&of_a).unwrap().count(), 1);
    std::fs::write(of_a.join("snapshot.7.9.tmp"), b"half of a snapsh").unwrap();
    let rig = Rig::open(folder.path());
    assert_eq!(rig.opened[0].snapshot, whole(b"two"));
    assert_eq!(rig.opened[1].snapshot, whole(b"three"));
    assert_eq!(std::fs::read_dir(&of_a).unwrap().count(), 1);
}

#[test]
fn groups_keep_their_files_when_the_configuration_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.fill(A, 1, 5);
    rig.fill(B, 1, 7);
    rig.add(B, &[1, 2], 10);
    rig.disk.close();
    let mut turned = names();
    turned.insert(0, GroupName::new("a-new-one").unwrap());
    turned.reverse();
    let mut rig = Rig::with(folder.path(), &turned);
    let found: Vec<_> = rig.opened.iter().map(bounds).collect();
    assert_eq!(found, [Some((1, 7)), Some((1, 5)), None]);
    assert_eq!(rig.sequences(A, 10), [1, 2]);
}

#[test]
fn a_folder_in_use_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(folder.path());
    let error = Disk::open(folder.path(), &names(), |_| {}).unwrap_err();
    let expected = format!(
        "data folder {}: in use by another node (process {})",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    rig.disk.close();
    Rig::open(folder.path());
}

#[test]
fn a_folder_of_another_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    Rig::open(folder.path()).disk.close();
    std::fs::write(folder.path().join("format"), "jetwake disk 999\n").unwrap();
    let error = Disk::open(folder.path(), &names(), |_| {}).unwrap_err();
    assert!(matches!(error, DiskError::Format { .. }), "{error}");
    assert!(error.to_string().contains("999"), "{error}");

    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("letter.txt"), "dear").unwrap();
    let error = Disk::open(foreign.path(), &names(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("letter.txt"), "{error}");
}
