//! A snapshot that is written and read in parts.

use bytes::Bytes;
use jetwake::command::{Command, LogChange, SnapshotFile};
use jetwake::event::{Event, Failure, Opened, SnapshotFound, TermAndVote};
use jetwake::ids::{ByteCount, GroupId, Index, LoadId, Term};

use crate::rig::{A, B, Rig};

const MIB: usize = 1 << 20;

fn part(offset: u64, part: impl Into<Bytes>) -> LogChange {
    LogChange::SnapshotPart { offset, part: part.into() }
}

fn place(index: u64, length: u64) -> LogChange {
    LogChange::PlaceSnapshot { index: Index::new(index), term: Term::new(2), length }
}

fn load(rig: &mut Rig, group: GroupId, file: SnapshotFile, offset: u64, bytes: u64) -> Event {
    let id = LoadId::new(rig.id());
    rig.ask(Command::LoadSnapshot { id, group, file, offset, bytes: ByteCount::new(bytes) });
    loop {
        match rig.event() {
            Event::Written { .. } => {}
            Event::SnapshotLoaded { load, part } => {
                assert_eq!(load, id);
                return Event::SnapshotLoaded { load: LoadId::ZERO, part };
            }
            other => return other,
        }
    }
}

fn loaded(part: &'static [u8]) -> Event {
    Event::SnapshotLoaded { load: LoadId::ZERO, part: Bytes::from_static(part) }
}

/// What a start says of a group's snapshot.
fn found(opened: &Opened) -> Option<SnapshotFound> {
    assert_eq!(opened.damage, []);
    opened.snapshot.clone()
}

fn whole(bytes: &'static [u8]) -> Option<SnapshotFound> {
    Some(SnapshotFound::Whole(Bytes::from_static(bytes)))
}

#[test]
fn parts_become_the_snapshot_when_they_are_placed_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.write(A, LogChange::TermAndVote(TermAndVote::default()));
    let before = LogChange::Snapshot {
        index: Index::new(4),
        term: Term::new(1),
        file: Bytes::from_static(b"before"),
    };
    rig.write(A, before);
    rig.write(A, part(0, "of another"));
    for (offset, bytes) in [(0, "abc"), (3, "de"), (5, "f")] {
        rig.ask_write(A, part(offset, bytes));
    }
    assert_eq!(load(&mut rig, A, SnapshotFile::Parts, 1, 9), loaded(b"bcdef"));
    assert_eq!(load(&mut rig, A, SnapshotFile::Parts, 6, 9), loaded(b""));
    assert_eq!(load(&mut rig, A, SnapshotFile::Current, 2, 3), loaded(b"for"));
    rig.ask_write(A, place(7, 6));
    assert_eq!(load(&mut rig, A, SnapshotFile::Current, 0, 2), loaded(b"ab"));
    rig.write(A, part(0, "begun and never placed"));
    rig.disk.close();

    let rig = Rig::open(folder.path());
    assert_eq!(found(&rig.opened[0]), whole(b"abcdef"));
    let snapshots = folder.path().join("snapshots");
    let names = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let group = snapshots.join("S-R3F-aaaaaaaa");
    let names: Vec<_> = std::fs::read_dir(group).unwrap().map(names).collect();
    assert_eq!(names, ["snapshot.2.7.jws"], "nothing else is left");
}

#[test]
fn a_large_snapshot_is_not_handed_in_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    for at in 0..5_u64 {
        rig.ask_write(B, part(at * MIB as u64, vec![at as u8; MIB]));
    }
    rig.write(B, place(7, 5 * MIB as u64));
    rig.disk.close();

    let mut rig = Rig::open(folder.path());
    assert_eq!(found(&rig.opened[1]), Some(SnapshotFound::InParts { length: 5 * MIB as u64 }));
    let border = load(&mut rig, B, SnapshotFile::Current, 3 * MIB as u64 - 2, 4);
    assert_eq!(border, loaded(&[2, 2, 3, 3]));
    // The next one takes its place, and is whole again.
    rig.write(B, part(0, "small"));
    rig.write(B, place(8, 5));
    rig.disk.close();
    assert_eq!(found(&Rig::open(folder.path()).opened[1]), whole(b"small"));
}

#[test]
fn parts_that_are_dropped_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.write(A, part(0, vec![1; MIB]));
    rig.write(A, LogChange::DropSnapshotParts);
    rig.write(A, LogChange::DropSnapshotParts);
    let group = folder.path().join("snapshots").join("S-R3F-aaaaaaaa");
    assert_eq!(std::fs::read_dir(group).unwrap().count(), 0);
    let Event::LoadFailed { failure, .. } = load(&mut rig, A, SnapshotFile::Parts, 0, 1) else {
        panic!("there is nothing to load")
    };
    assert!(failure.to_string().contains("S-R3F-aaaaaaaa"), "{failure}");
    rig.write(A, part(0, "again"));
    assert_eq!(load(&mut rig, A, SnapshotFile::Parts, 0, 9), loaded(b"again"));
}

#[test]
fn parts_that_do_not_join_are_a_failed_write() {
    for wrong in [part(3, "gap"), part(1, "overlap"), place(7, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::open(folder.path());
        rig.write(A, part(0, "ab"));
        rig.ask_write(A, wrong);
        let Event::WriteFailed { failure: Failure::Io(damage), .. } = rig.event() else {
            panic!("it does not join")
        };
        assert!(damage.what.contains("parts.tmp: found 2 bytes"), "{damage}");
    }
}
