//! Disks that go bad under simulated clusters, those of Jepsen's reports on nats-server under their
//! numbers: nothing acknowledged is lost, the replicas end identical, and the damaged node says what
//! it found.

use jetwake::event::Standing;
use jetwake::ids::{ByteCount, GroupId};
use jetwake::time::Duration;
use jetwake_sim::disk::Rot;
use jetwake_sim::workload::quick_timers;
use jetwake_sim::{ClientPlan, Cluster, Machine, Setup};

const GROUP: GroupId = GroupId(0);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn busy(seed: u64, setup: Setup) -> Cluster {
    let mut cluster = Cluster::new(seed, Setup { timers: quick_timers(), ..setup });
    cluster.wait_for_leader(GROUP);
    cluster.add_client(ClientPlan { interval: Duration::from_millis(5), ..ClientPlan::default() });
    cluster.run_for(seconds(2));
    cluster
}

fn standing(cluster: &Cluster, machine: Machine) -> Standing {
    let node = cluster.process(machine).node.as_ref().expect("its process runs");
    node.status(GROUP).expect("it has the group").standing
}

fn acknowledged(cluster: &Cluster) -> usize {
    cluster.history(GROUP).acknowledged_count()
}

/// What a damaged follower goes through, and that the others go on meanwhile.
fn follower_is_repaired(cluster: &mut Cluster, rot: Rot) {
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    assert!(cluster.spoil(follower, GROUP, rot), "{rot:?} had something to spoil");
    cluster.run_for(seconds(1));
    let before = acknowledged(cluster);
    // Cut off, it has nobody to take anything from: it waits, and says so.
    cluster.isolate(follower);
    cluster.restart(follower);
    cluster.run_for(seconds(2));
    assert_ne!(standing(cluster, follower), Standing::Whole, "{rot:?}");
    assert!(acknowledged(cluster) > before, "the others go on");
    cluster.mend();
    cluster.wait("the follower is whole again", seconds(5), |cluster| {
        cluster.is_whole(follower, GROUP)
    });
    // Now it counts again: without the third nothing could be acknowledged otherwise.
    let leader = cluster.wait_for_leader(GROUP);
    let third = cluster.followers(GROUP).into_iter().find(|other| *other != follower).unwrap();
    cluster.crash(third);
    let before = acknowledged(cluster);
    cluster.run_for(seconds(2));
    assert!(acknowledged(cluster) > before, "{leader} and {follower} are a quorum");
    cluster.settle_soundly();
}

#[test]
fn plain_groups_repair_what_goes_bad_on_a_follower() {
    let spoilt = [Rot::Record, Rot::Misdirected, Rot::LogMissing, Rot::Votes, Rot::Wiped];
    for (seed, rot) in (0..).zip(spoilt) {
        let mut cluster = busy(100 + seed, Setup::plain(3));
        follower_is_repaired(&mut cluster, rot);
        assert_eq!(cluster.coverage().get("members impaired"), 1, "{rot:?}");
        assert_eq!(cluster.coverage().get("members repaired"), 1, "{rot:?}");
    }
}

/// A group whose followers have compacted logs, so that their snapshots are needed.
fn compacted(seed: u64, setup: Setup) -> Cluster {
    let mut cluster = busy(seed, setup);
    for machine in cluster.machines() {
        cluster.snapshot(machine, GROUP);
    }
    cluster.run_for(seconds(2));
    cluster
}

/// Bits flip in snapshot files of a minority, and nodes crash: streams were deleted as orphans, and
/// the cluster never recovered.
#[test]
fn report_7556_bits_flip_in_a_snapshot() {
    for (seed, setup) in (200..).zip([Setup::stream(3), Setup::plain(3)]) {
        follower_is_repaired(&mut compacted(seed, setup), Rot::Snapshot);
    }
}

/// A snapshot file is too short, or gone: streams were removed as orphans.
#[test]
fn report_4410_a_snapshot_is_too_short() {
    for (seed, rot) in (300..).zip([Rot::SnapshotShort, Rot::SnapshotMissing]) {
        follower_is_repaired(&mut compacted(seed, Setup::stream(3)), rot);
        follower_is_repaired(&mut compacted(seed, Setup::plain(3)), rot);
    }
}

/// Bits flip in files of a minority, the leader's among them: damaged nodes led, and spread the loss.
#[test]
fn report_7549_bits_flip_on_the_leader_again_and_again() {
    for (seed, rot) in (400..).zip([Rot::Record, Rot::Votes, Rot::LogMissing, Rot::Wiped]) {
        let mut cluster = busy(seed, Setup::stream(3));
        for _ in 0..3 {
            let leader = cluster.wait_for_leader(GROUP);
            cluster.crash(leader);
            assert!(cluster.spoil(leader, GROUP, rot));
            cluster.run_for(seconds(2));
            cluster.restart(leader);
            cluster
                .wait("it is whole again", seconds(5), |cluster| cluster.is_whole(leader, GROUP));
            cluster.run_for(seconds(1));
        }
        cluster.settle_soundly();
        assert_eq!(cluster.coverage().get("members repaired"), 3, "{rot:?}");
    }
}

/// What a follower goes through whose store lost messages, while clients publish, delete and purge.
fn messages_are_mended(cluster: &mut Cluster, rot: Rot) {
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    assert!(cluster.spoil(follower, GROUP, rot), "{rot:?} had something to spoil");
    cluster.run_for(seconds(1));
    cluster.isolate(follower);
    cluster.restart(follower);
    cluster.run_for(seconds(2));
    let node = cluster.process(follower).node.as_ref().expect("its process runs");
    let status = node.status(GROUP).expect("it has the group");
    assert_eq!(status.standing, Standing::Whole, "no promise rests on a store");
    assert!(!status.found.is_empty(), "{rot:?}: it says what it found");
    assert!(!cluster.is_healthy(GROUP));
    cluster.mend();
    cluster.settle_soundly();
}

/// Bits flip in message files: damaged replicas served what they had, and spread the loss.
#[test]
fn report_7549_bits_flip_in_messages() {
    for (seed, rot) in (600..).zip([Rot::Messages, Rot::MessageTable]) {
        messages_are_mended(&mut busy(seed, Setup::stream(5)), rot);
    }
    for (seed, rot) in (650..).zip([Rot::Messages, Rot::MessageTable, Rot::StoreMissing]) {
        messages_are_mended(&mut compacted(seed, Setup::stream(3)), rot);
    }
}

/// A server waits for acknowledgements after a few messages; what is lost is asked for bit by bit.
#[test]
fn lost_messages_come_through_small_windows() {
    for (seed, messages) in (750..).zip([1, 3]) {
        let mut setup = Setup::stream(3);
        setup.limits.stream_catchup_messages = messages;
        setup.limits.load = ByteCount::new(500);
        messages_are_mended(&mut compacted(seed, setup), Rot::MessageTable);
    }
}

/// The leader's messages go bad again and again, each time that of another.
#[test]
fn report_7549_messages_go_bad_on_the_leader_again_and_again() {
    for (seed, rot) in (700..).zip([Rot::Messages, Rot::MessageTable, Rot::StoreMissing]) {
        let mut cluster = compacted(seed, Setup::stream(3));
        for _ in 0..3 {
            let leader = cluster.wait_for_leader(GROUP);
            cluster.crash(leader);
            assert!(cluster.spoil(leader, GROUP, rot));
            cluster.run_for(seconds(2));
            cluster.restart(leader);
            cluster.wait("all are healthy again", seconds(20), |cluster| cluster.is_healthy(GROUP));
        }
        cluster.settle_soundly();
    }
}

/// Two of three lost something: they elect nobody, and say so, until the third is back.
#[test]
fn a_quorum_of_impaired_members_waits_for_one_that_is_whole() {
    let mut cluster = busy(500, Setup::plain(3));
    let followers = cluster.followers(GROUP);
    let leader = cluster.wait_for_leader(GROUP);
    cluster.machines().into_iter().for_each(|machine| cluster.crash(machine));
    for follower in &followers {
        assert!(cluster.spoil(*follower, GROUP, Rot::Record));
        cluster.restart(*follower);
    }
    cluster.run_for(seconds(5));
    assert_eq!(cluster.leader(GROUP), None);
    for follower in &followers {
        let node = cluster.process(*follower).node.as_ref().expect("its process runs");
        let status = node.status(GROUP).expect("it has the group");
        assert!(status.repair.is_some_and(|waits| waits.contains("waits for a leader")));
    }
    // One vote is no quorum either: forgetting is not a way out.
    cluster.restart(leader);
    cluster.run_for(seconds(5));
    assert_eq!(cluster.leader(GROUP), None);
}
