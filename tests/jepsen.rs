//! What Jepsen found in nats-server 2.12.1 and before, played on simulated clusters: each situation
//! under the number of its report. Nothing acknowledged may be lost, and replicas end identical.
//!
//! Flipped bits and short files (`report_7549_…`, `report_7556_…`, `report_4410_…`) are in
//! `tests/rotten_disks.rs`.

use core::time::Duration;

use jetwake::ids::GroupId;
use jetwake_sim::workload::quick_timers;
use jetwake_sim::{ClientPlan, Cluster, Machine, Setup};

const GROUP: GroupId = GroupId(0);

fn cluster(seed: u64) -> Cluster {
    let timers = quick_timers();
    let mut setup = Setup { timers, ..Setup::stream(3) };
    setup.disk.sync = Duration::from_millis(2)..Duration::from_millis(20);
    let mut cluster = Cluster::new(seed, setup);
    cluster.wait_for_leader(GROUP);
    for _ in 0..2 {
        let interval = Duration::from_millis(5);
        cluster.add_client(ClientPlan { interval, repeats: 20_000, ..ClientPlan::default() });
    }
    cluster.run_for(Duration::from_millis(500));
    cluster
}

/// Some were acknowledged before, and more since.
fn settle(mut cluster: Cluster, before: u64) {
    cluster.settle_soundly();
    let acknowledged = cluster.history(GROUP).acknowledgements();
    assert!(before > 0 && acknowledged > before, "{before} acknowledged, then {acknowledged}");
}

fn acknowledged(cluster: &Cluster) -> u64 {
    cluster.history(GROUP).acknowledgements()
}

/// All nodes lose power at once, again and again: acks had left before they were on disk.
#[test]
fn report_7564_all_nodes_lose_power() {
    for seed in 1..=5 {
        let mut cluster = cluster(seed);
        let before = acknowledged(&cluster);
        for _ in 0..5 {
            for machine in cluster.machines() {
                cluster.crash(machine);
            }
            cluster.run_for(Duration::from_millis(50));
            for machine in cluster.machines() {
                cluster.restart(machine);
            }
            cluster.run_for(Duration::from_millis(1_500));
        }
        assert!(cluster.coverage().get("log writes lost") > 0, "a power cut costs something");
        settle(cluster, before);
    }
}

/// One node loses power, and the others are paused before and after, so that the one that lost what
/// was not on disk forms the next quorum.
#[test]
fn report_7567_the_one_that_lost_power_forms_the_next_quorum() {
    for seed in 1..=5 {
        let mut cluster = cluster(seed);
        let before = acknowledged(&cluster);
        for _ in 0..3 {
            let leader = cluster.wait_for_leader(GROUP);
            let followers = cluster.followers(GROUP);
            let (behind, victim) = (followers[0], followers[1]);
            // What is acknowledged now is on the leader and on the victim alone.
            cluster.pause(behind);
            cluster.run_for(Duration::from_millis(300));
            cluster.pause(leader);
            cluster.crash(victim);
            cluster.resume(behind);
            cluster.restart(victim);
            // The victim must not help the one that lacks it to lead without it.
            cluster.run_for(Duration::from_secs(3));
            cluster.resume(leader);
            cluster.run_for(Duration::from_millis(500));
        }
        settle(cluster, before);
    }
}

/// A node is killed a few times in a row: the stream was forgotten for good.
#[test]
fn report_6888_a_few_kills_do_not_forget_the_stream() {
    for seed in 1..=5 {
        let mut cluster = cluster(seed);
        let before = acknowledged(&cluster);
        for kill in 0..9 {
            let victim = Machine(kill % 3);
            cluster.crash(victim);
            cluster.run_for(Duration::from_millis(37 * (kill as u64 % 4)));
            cluster.restart(victim);
            cluster.run_for(Duration::from_millis(13 * (kill as u64 % 5)));
        }
        settle(cluster, before);
    }
}

/// Kills and partitions together.
#[test]
fn report_7545_kills_and_partitions_together() {
    for seed in 1..=5 {
        let mut cluster = cluster(seed);
        let before = acknowledged(&cluster);
        for round in 0..4 {
            let leader = cluster.wait_for_leader(GROUP);
            let cut_off = Machine(round % 3);
            cluster.isolate(cut_off);
            cluster.run_for(Duration::from_millis(200));
            cluster.crash(leader);
            cluster.run_for(Duration::from_secs(2));
            cluster.mend();
            cluster.restart(leader);
            cluster.run_for(Duration::from_millis(700));
        }
        settle(cluster, before);
    }
}
