//! What a snapshot takes the place of, what it never takes the place of, and how it is made.

use bytes::Bytes;
use jetwake::command::{CheckpointNews, Report, SnapshotRefusal};
use jetwake::event::{CheckpointStep, MachineSays};
use jetwake::ids::{CheckpointId, Index, LogSize};
use jetwake::subject::Subject;
use jetwake_sim::lone::{Append, Applied, Lone};

use crate::{MEMBERS, member, records};

fn entry(commit: u64, previous: (u64, u64), text: &'static str) -> Append {
    Append::by("n2", 1).after(previous.0, previous.1).commit(commit).entry(text)
}

fn heartbeat(commit: u64, index: u64) -> Append {
    Append::by("n2", 1).after(1, index).commit(commit)
}

/// A member whose machine says only what the test says.
fn quiet_member() -> Lone {
    let mut node = member();
    node.hold_applies = true;
    node
}

fn applied(node: &mut Lone, through: u64) {
    node.machine_processed(through, through);
}

/// Term and index of the snapshot on disk.
fn snapshot(node: &Lone) -> Option<(u64, u64)> {
    let status = node.status();
    let on_disk = node.disk.durable_log().snapshot();
    let on_disk = on_disk.map(|snapshot| (snapshot.term.get(), snapshot.index.get()));
    let known = status.snapshot.map(|at| (at.term.get(), at.index.get()));
    assert_eq!(known, on_disk, "it knows what is on its disk");
    on_disk
}

fn nothing_new(covered: u64) -> CheckpointNews {
    CheckpointNews::Refused(SnapshotRefusal::NothingNew { covered: Index::new(covered) })
}

/// A log that is cut down to the last record that a snapshot covers keeps the snapshot.
///
/// Seen red with `entry.previous_index.previous()` in `Raft::take`, which the assertion of
/// `Log::truncate` stops.
#[test]
fn nrg_dont_remove_snapshot_if_truncate_to_applied() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    assert_eq!(node.log(), records(&[(1, "a")]));
    node.hear(&heartbeat(1, 1));
    assert_eq!(node.status().commit, Index::new(1));
    node.take_snapshot(1, "");
    assert_eq!((snapshot(&node), node.log()), (Some((1, 1)), records(&[])));

    // A record that another leader replaces: the cut is right behind what is applied.
    node.hear(&entry(1, (1, 1), "lost"));
    node.hear(&Append::by("n3", 2).after(1, 1).commit(1).entry("kept"));
    assert_eq!((snapshot(&node), node.log()), (Some((1, 1)), records(&[(2, "kept")])));
    node.restart();
    assert_eq!((snapshot(&node), node.log()), (Some((1, 1)), records(&[(2, "kept")])));
}

/// A leader takes a snapshot, stores one more record and is replaced: what was committed stays, the
/// record of its own goes.
///
/// Upstream cuts the record at the new leader's heartbeat, ours when another takes its place.
/// Seen red without `self.truncate(context, entry.previous_index)` in `Raft::take`.
#[test]
fn nrg_snapshot_and_truncate_to_applied() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    assert_eq!((node.log(), node.status().commit.get()), (records(&[(1, "a")]), 0));
    node.hear(&entry(1, (1, 1), "b"));
    assert_eq!((node.log().len(), node.status().commit.get()), (2, 1));

    node.elect(&["n3"]);
    let term = node.status().term.get();
    node.acknowledge("n2", term, 3);
    assert_eq!((node.status().commit.get(), node.status().machine_applied.get()), (3, 3));
    node.take_snapshot(3, "");
    assert_eq!((snapshot(&node), node.log()), (Some((term, 3)), records(&[])));

    node.propose("uncommitted");
    assert_eq!((node.log(), node.status().commit.get()), (records(&[(term, "uncommitted")]), 3));

    node.hear(&Append::by("n2", term + 1).after(term, 3).commit(3));
    let kept = |node: &Lone| {
        (snapshot(node), node.status().commit.get(), node.status().machine_applied.get())
    };
    assert_eq!(kept(&node), (Some((term, 3)), 3, 3));
    node.hear(&Append::by("n2", term + 1).after(term, 3).commit(3).entry("other"));
    assert_eq!(node.log(), records(&[(term + 1, "other")]));
    assert_eq!(kept(&node), (Some((term, 3)), 3, 3));
    assert_eq!(node.applied_texts(), ["a", "b"], "what was never committed was never applied");
}

/// A second snapshot of the same record is refused, and the first one stays.
///
/// Seen red with `index >= covered` in `Raft::may_snapshot_at`.
#[test]
fn nrg_ignore_double_snapshot() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&heartbeat(1, 1));
    assert_eq!(node.status().commit.get(), 1);
    node.hear(&Append::by("n2", 2).after(1, 1).commit(1).entry("b"));
    let status = node.status();
    assert_eq!((status.last.index.get(), status.last.term.get(), status.term.get()), (2, 2, 2));

    node.take_snapshot(1, "first");
    assert_eq!((snapshot(&node), node.news()), (Some((1, 1)), vec![]));
    let file = node.disk.durable_log().snapshot().expect("it was written").file.clone();
    node.take_snapshot(1, "second");
    assert_eq!((snapshot(&node), node.news()), (Some((1, 1)), vec![nothing_new(1)]));
    let now = node.disk.durable_log().snapshot().expect("it stays").file.clone();
    assert_eq!(file, now, "not a byte of it is written again");
    assert_eq!(node.checkpoint(CheckpointStep::Begin { force: true }), [nothing_new(1)]);
}

/// A cut that the disk does not make: nothing is acknowledged on top of it, and the group says so.
///
/// Seen red with `handle_failure` left empty.
#[test]
fn nrg_truncate_down_to_committed_when_truncate_fails() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&entry(1, (1, 1), "b"));
    assert_eq!((node.log(), node.status().commit.get()), (records(&[(1, "a"), (1, "b")]), 1));
    assert_eq!(node.acks(), [(1, 1), (1, 2)]);
    node.reports();

    node.disk.fail_writes = true;
    let replacement = Append::by("n3", 2).after(1, 1).commit(1).entry("c");
    node.hear(&replacement);
    let aside = node.status().aside.expect("it stands aside");
    assert!(aside.contains("the lone disk does not write"), "{aside}");
    let said = node.reports();
    assert!(said.iter().any(|report| matches!(report, Report::StoodAside(_))), "{said:?}");
    assert!(node.health().to_string().starts_with("stands aside: a write failed"));
    node.hear(&replacement);
    node.ask_vote("n3", 3, 2, 2);
    assert_eq!(node.sent(), [], "it promises nothing any more");

    // The disk is as it was, and what it lacks is asked for again.
    node.restart();
    assert_eq!(node.log(), records(&[(1, "a"), (1, "b")]));
    node.hear(&replacement);
    assert_eq!(node.log(), records(&[(1, "a"), (2, "c")]));
    assert_eq!(node.acks().last(), Some(&(2, 2)));
}

/// A log that is kept in memory is gone after a restart, and its snapshot with it.
///
/// Upstream keeps such a log and its snapshots in two places and has to remove the latter; here both
/// are changes of one log (`LogChange`), so a driver that forgets one has forgotten the other.
/// Seen red with a `LoneDisk::wipe` that keeps the snapshot.
#[test]
fn nrg_memory_wal_empties_snapshots_dir() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&heartbeat(1, 1));
    node.take_snapshot(1, "state");
    assert_eq!(snapshot(&node), Some((1, 1)));

    node.restart_after(|disk| disk.wipe());
    assert_eq!((snapshot(&node), node.log()), (None, records(&[])));
    let status = node.status();
    assert_eq!((status.last.index, status.commit, status.applied), Default::default());
    assert_eq!(node.applied(), [], "and the machine is handed nothing of it");
}

/// After a restart the machine is handed the snapshot; it counts as applied when the machine says
/// so, not before.
///
/// Seen red without `self.machine.owe(…)` in `Raft::offer_newest`.
#[test]
fn nrg_snapshot_recovery() {
    let mut node = quiet_member();
    node.hear(&entry(1, (0, 0), "a"));
    let progress = |node: &Lone| {
        let status = node.status();
        [status.last.index, status.commit, status.processed, status.machine_applied]
            .map(|index| index.get())
    };
    assert_eq!(progress(&node), [1, 1, 0, 0]);
    applied(&mut node, 1);
    assert_eq!(progress(&node), [1, 1, 1, 1]);
    node.take_snapshot(1, "state");

    node.restart();
    assert_eq!(progress(&node), [1, 1, 0, 0]);
    let handed = Applied::Snapshot { index: Index::new(1), data: Bytes::from("state") };
    assert_eq!(node.applied(), [handed]);
    assert_eq!(node.checkpoint(CheckpointStep::Begin { force: true }), [nothing_new(1)]);
    node.finish_applies();
    assert_eq!(progress(&node), [1, 1, 1, 1]);
}

/// The log's size, and how much of it a snapshot would free, after each step.
///
/// Seen red without `self.sizes.compact(through)` in `Log::compact`.
#[test]
fn nrg_size_and_applied() {
    let mut node = quiet_member();
    let size = |node: &Lone| node.status().size;
    let frees = |node: &Lone| node.status().compactable;
    let (one, two) = (entry(0, (0, 0), "a"), entry(0, (1, 1), "a"));
    let bytes = one.to_bytes().len() as u64;
    let records = |records: u64| LogSize { records, bytes: records * bytes };
    assert_eq!(size(&node), records(0));
    node.hear(&one);
    assert_eq!(size(&node), records(1));
    node.hear(&two);
    assert_eq!((size(&node), frees(&node)), (records(2), records(0)));

    node.hear(&heartbeat(1, 2));
    assert_eq!(frees(&node), records(0), "handed out is not applied");
    applied(&mut node, 1);
    assert_eq!(frees(&node), records(1));
    node.hear(&heartbeat(2, 2));
    applied(&mut node, 2);
    assert_eq!(frees(&node), records(2));

    node.take_snapshot(1, "");
    assert_eq!((size(&node), frees(&node)), (records(1), records(1)));
    node.take_snapshot(2, "");
    assert_eq!((size(&node), frees(&node)), (records(0), records(0)));
    let through = |through, freed| Report::Compacted { through: Index::new(through), freed };
    let told = node.reports().into_iter().filter(|told| matches!(told, Report::Compacted { .. }));
    assert!(told.eq([through(1, records(1)), through(2, records(1))]));
}

/// A machine that could not take a snapshot on is handed it again, alone; when it goes on it gets all
/// that is behind it, what was committed meanwhile too.
///
/// Upstream puts its commit index back for that; ours stays, and what was handed out goes back.
/// Seen red without `self.applied = index` in `Raft::replay_snapshot`.
#[test]
fn nrg_drain_and_replay_snapshot() {
    let mut node = quiet_member();
    for (index, text) in [(0, "a"), (1, "b"), (2, "c")] {
        node.hear(&entry(0, (u64::from(index > 0), index), text));
    }
    node.hear(&heartbeat(3, 3));
    let place = |node: &Lone| (node.status().commit.get(), node.status().applied.get());
    assert_eq!((place(&node), node.applied_texts()), ((3, 3), texts(&["a", "b", "c"])));

    node.machine_says(MachineSays::NeedsSnapshot);
    assert_eq!((place(&node), node.applied().len()), ((3, 3), 3), "there is none");
    assert!(!node.status().paused);

    applied(&mut node, 1);
    node.take_snapshot(1, "snapshot");
    let replayed = |node: &mut Lone| {
        let before = node.applied().len();
        node.machine_says(MachineSays::NeedsSnapshot);
        let snapshot = Applied::Snapshot { index: Index::new(1), data: Bytes::from("snapshot") };
        assert_eq!(node.applied()[before..], [snapshot]);
        assert!(node.status().paused && node.status().applied == Index::new(1));
    };
    replayed(&mut node);
    assert_eq!(place(&node), (3, 1));
    node.machine_says(MachineSays::Resumed);
    assert!(!node.status().paused);
    assert_eq!((place(&node), node.applied_texts()), ((3, 3), texts(&["a", "b", "c", "b", "c"])));

    replayed(&mut node);
    let handed = node.applied().len();
    node.hear(&entry(3, (1, 3), "d"));
    node.hear(&heartbeat(4, 4));
    assert_eq!((place(&node), node.applied().len()), ((4, 1), handed));
    replayed(&mut node);
    assert_eq!(place(&node), (4, 1));
    node.machine_says(MachineSays::Resumed);
    assert_eq!(place(&node), (4, 4));
    assert_eq!(node.applied_texts()[5..], ["b", "c", "d"]);
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).into()).collect()
}

/// Begins a checkpoint: its number, what it covers and what the one before covers.
fn begin(node: &mut Lone) -> (CheckpointId, u64, u64) {
    match &node.checkpoint(CheckpointStep::Begin { force: false })[..] {
        [CheckpointNews::Begun { id, index, before, .. }] => (*id, index.get(), before.get()),
        other => panic!("no checkpoint begins: {other:?}"),
    }
}

/// The data of the snapshot before a checkpoint.
fn last(node: &mut Lone, id: CheckpointId) -> Option<Bytes> {
    match &node.checkpoint(CheckpointStep::LoadSnapshot(id))[..] {
        [CheckpointNews::Snapshot { data, .. }] => data.clone(),
        other => panic!("the snapshot before is not told: {other:?}"),
    }
}

/// The places of the records that a checkpoint adds.
fn added(node: &mut Lone, id: CheckpointId) -> Vec<u64> {
    let first = Index::new(1);
    match &node.checkpoint(CheckpointStep::LoadRecords { id, first })[..] {
        [CheckpointNews::Records { records, next: None, .. }] => {
            records.iter().map(|(index, _)| index.get()).collect()
        }
        other => panic!("the records are not told: {other:?}"),
    }
}

fn install(node: &mut Lone, id: CheckpointId, data: &'static str) -> Vec<CheckpointNews> {
    let mut told = node.checkpoint(CheckpointStep::Write { id, part: Bytes::from(data) });
    told.extend(node.checkpoint(CheckpointStep::Finish(id)));
    told
}

/// Every step of a checkpoint that is over is answered by that.
fn assert_over(node: &mut Lone, id: CheckpointId) {
    let first = Index::new(1);
    let part = Bytes::from("late");
    for step in [
        CheckpointStep::LoadSnapshot(id),
        CheckpointStep::LoadRecords { id, first },
        CheckpointStep::Write { id, part },
        CheckpointStep::Finish(id),
        CheckpointStep::Abandon(id),
    ] {
        let why = SnapshotRefusal::Over;
        assert_eq!(node.checkpoint(step), [CheckpointNews::Ended { id, why }]);
    }
}

/// A snapshot is made from the one before it and the records between; one at a time, and never in
/// the place of a newer one.
///
/// Seen red without `self.end_checkpoint(…)` in `Raft::receive_snapshot`.
#[test]
fn nrg_install_snapshot_from_checkpoint() {
    let mut node = quiet_member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&entry(1, (1, 1), "b"));
    applied(&mut node, 1);

    let (id, index, before) = begin(&mut node);
    assert_eq!((index, before, last(&mut node, id)), (1, 0, None));
    assert_eq!(added(&mut node, id), [1]);
    let durable = install(&mut node, id, "old");
    let freed = |index: u64, records| {
        let bytes = records * entry(0, (0, 0), "a").to_bytes().len() as u64;
        (Index::new(index), LogSize { records, bytes })
    };
    let (index, size) = freed(1, 1);
    assert_eq!(durable, [CheckpointNews::Durable { id, index, freed: size }]);
    assert_eq!((snapshot(&node), node.status().first.get()), (Some((1, 1)), 2));
    assert_over(&mut node, id);

    // The next one: only one at a time, and one that is abandoned is over.
    node.hear(&entry(2, (1, 2), "c"));
    node.hear(&entry(3, (1, 3), "d"));
    applied(&mut node, 3);
    let (id, ..) = begin(&mut node);
    let under_way = [CheckpointNews::Refused(SnapshotRefusal::UnderWay)];
    assert_eq!(node.checkpoint(CheckpointStep::Begin { force: true }), under_way);
    let why = SnapshotRefusal::Over;
    let told = node.checkpoint(CheckpointStep::Abandon(id));
    assert_eq!(told, [CheckpointNews::Ended { id, why }]);
    assert_over(&mut node, id);
    assert_eq!(snapshot(&node), Some((1, 1)), "nothing came of it");

    let (id, index, before) = begin(&mut node);
    assert_eq!((index, before, last(&mut node, id)), (3, 1, Some(Bytes::from("old"))));
    assert_eq!(added(&mut node, id), [2, 3]);
    let (index, size) = freed(3, 2);
    let durable = [CheckpointNews::Durable { id, index, freed: size }];
    assert_eq!(install(&mut node, id, "new"), durable);
    assert_eq!(snapshot(&node), Some((1, 3)));

    // While one is made, another in one piece is refused.
    node.hear(&heartbeat(4, 4));
    applied(&mut node, 4);
    let (id, ..) = begin(&mut node);
    node.take_snapshot(4, "other");
    assert_eq!(node.news(), under_way);
    assert_eq!(last(&mut node, id), Some(Bytes::from("new")));

    // The leader's snapshot ends it: an older one never takes the place of a newer.
    node.hear(&heartbeat(9, 9));
    node.feed(&Append::by("n2", 1).after(1, 9).led_in(1).snapshot("leader's", &MEMBERS));
    let why = SnapshotRefusal::Replaced { index: Index::new(9) };
    assert_eq!(node.news(), [CheckpointNews::Ended { id, why }]);
    assert_over(&mut node, id);
    assert_eq!(snapshot(&node), Some((1, 9)));
}

/// While a follower is fed from the log, none is taken unless it is forced: the follower would have to
/// begin again.
///
/// Upstream fakes a feed; here a follower asks for one.
/// Seen red without the arm of `CatchupsRunning` in `Raft::may_snapshot_at`.
#[test]
fn nrg_install_snapshot_force() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&heartbeat(1, 1));
    assert_eq!(node.status().machine_applied.get(), 1);
    node.elect(&["n2"]);
    node.ask_catchup("n3", (0, 0), &Subject::from(String::from("$NRG.CR.inbox")));

    let why = SnapshotRefusal::CatchupsRunning { followers: 1 };
    let refused = [CheckpointNews::Refused(why)];
    node.take_snapshot(1, "");
    assert_eq!((node.news(), snapshot(&node)), (refused.to_vec(), None));
    assert_eq!(node.checkpoint(CheckpointStep::Begin { force: false }), refused);

    let told = node.checkpoint(CheckpointStep::Begin { force: true });
    let [CheckpointNews::Begun { id, .. }] = told[..] else { panic!("{told:?}") };
    let told = install(&mut node, id, "");
    assert!(matches!(told[..], [CheckpointNews::Durable { .. }]), "{told:?}");
    assert_eq!(snapshot(&node), Some((1, 1)));
}

/// After a leader's snapshot, and after uncommitted records behind it were cut, a checkpoint begins
/// where that snapshot ends, and not before the machine has something behind it.
///
/// Seen red with `self.applied` for `self.machine_applied()` in `Raft::may_snapshot`.
#[test]
fn nrg_install_snapshot_from_checkpoint_after_truncate_to_snapshot() {
    let mut node = quiet_member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&heartbeat(1, 1));
    applied(&mut node, 1);
    node.take_snapshot(1, "");
    assert_eq!(snapshot(&node), Some((1, 1)));

    node.hear(&heartbeat(100, 100));
    node.feed(&Append::by("n2", 1).after(1, 100).led_in(1).snapshot("catchup", &MEMBERS));
    assert_eq!(snapshot(&node), Some((1, 100)));
    let begun = |node: &mut Lone| node.checkpoint(CheckpointStep::Begin { force: false });
    // An uncommitted record behind it goes again: the cut is at the snapshot.
    node.hear(&entry(100, (1, 100), "lost"));
    node.hear(&Append::by("n3", 2).after(1, 100).commit(100).entry("kept"));
    assert_eq!((node.log(), snapshot(&node)), (records(&[(2, "kept")]), Some((1, 100))));
    assert_eq!((node.status().processed.get(), node.status().machine_applied.get()), (1, 1));
    assert_eq!(begun(&mut node), [nothing_new(100)], "the machine has not taken it on");

    applied(&mut node, 100);
    assert_eq!(begun(&mut node), [nothing_new(100)]);
    node.hear(&Append::by("n3", 2).after(2, 101).commit(101));
    assert_eq!(begun(&mut node), [nothing_new(100)], "handed out is not applied");
    applied(&mut node, 101);
    let (id, index, before) = begin(&mut node);
    assert_eq!((index, before), (101, 100));
    assert_eq!(last(&mut node, id), Some(Bytes::from("catchup")));
    assert_eq!(added(&mut node, id), [101]);
}

/// A snapshot becomes the machine's floor only when it is durable: until then the log keeps what it
/// covers, and a crash leaves the snapshot before it.
///
/// Seen red with the compaction asked for in `Raft::write_snapshot`.
#[test]
fn a_log_is_compacted_only_behind_a_durable_snapshot() {
    let mut node = member();
    node.hear(&entry(0, (0, 0), "a"));
    node.hear(&entry(2, (1, 1), "b"));
    node.take_snapshot(1, "first");
    node.hold_writes();
    node.take_snapshot(2, "second");
    assert_eq!(snapshot(&node), Some((1, 1)));
    assert_eq!(node.status().first.get(), 2, "record 2 is still needed");
    assert_eq!(node.disk.waiting(), 1, "the snapshot alone is asked for");
    node.hear(&entry(2, (1, 2), "c"));
    node.restart();
    assert_eq!((snapshot(&node), node.log()), (Some((1, 1)), records(&[(1, "b")])));
    node.release_writes();
    node.hear(&heartbeat(2, 2));
    node.take_snapshot(2, "second");
    assert_eq!((snapshot(&node), node.log()), (Some((1, 2)), records(&[])));
}
