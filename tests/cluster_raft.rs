//! What a group does when machines, links and disks fail: scenarios with a plain group, whose
//! entries the core hands out as they are.

use jetwake::event::Request;
use jetwake::ids::{ByteCount, GroupId};
use jetwake::time::Duration;
use jetwake_sim::client::{Told, told};
use jetwake_sim::process::Doom;
use jetwake_sim::workload::quick_timers;
use jetwake_sim::{ClientPlan, Cluster, Machine, Setup};

const GROUP: GroupId = GroupId(0);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cluster(seed: u64) -> Cluster {
    Cluster::new(seed, Setup { timers: quick_timers(), ..Setup::plain(3) })
}

fn busy_cluster(seed: u64) -> Cluster {
    let mut cluster = cluster(seed);
    cluster.wait_for_leader(GROUP);
    cluster.add_client(ClientPlan { interval: Duration::from_millis(5), ..ClientPlan::default() });
    cluster
}

/// How many messages the clients know to be committed.
fn acknowledged(cluster: &Cluster) -> usize {
    cluster.history(GROUP).acknowledged_count()
}

fn publish(text: &'static str) -> Request {
    let [subject, header, payload] = ["", "", text].map(|text| text.as_bytes().into());
    Request::Publish { subject, header, payload }
}

#[test]
fn a_killed_follower_is_not_missed_and_catches_up_from_the_log() {
    let mut cluster = busy_cluster(1);
    cluster.run_for(seconds(2));
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    let before = acknowledged(&cluster);
    cluster.run_for(seconds(5));
    assert!(acknowledged(&cluster) > before + 500, "two of three go on");
    cluster.restart(follower);
    cluster.run_for(seconds(3));
    cluster.settle_soundly();
    assert!(cluster.coverage().get("catchups of logs") > 0);
    assert_eq!(cluster.coverage().get("snapshots installed"), 0);
}

#[test]
fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = busy_cluster(2);
    for _ in 0..5 {
        cluster.run_for(seconds(2));
        let leader = cluster.wait_for_leader(GROUP);
        let before = acknowledged(&cluster);
        cluster.crash(leader);
        let next = cluster.wait_for_leader(GROUP);
        assert_ne!(next, leader);
        cluster.run_for(seconds(3));
        assert!(acknowledged(&cluster) > before, "the others go on");
        cluster.restart(leader);
    }
    cluster.settle_soundly();
}

#[test]
fn a_leader_killed_between_any_two_commands_loses_nothing_acknowledged() {
    for commands in 0..60 {
        let mut cluster = busy_cluster(1000 + u64::from(commands));
        cluster.run_for(seconds(1));
        let leader = cluster.wait_for_leader(GROUP);
        cluster.crash_after(leader, Doom { commands, downtime: Some(seconds(1)) });
        cluster.run_for(seconds(3));
        assert_eq!(cluster.coverage().get("crashes"), 1, "after {commands} commands");
        cluster.settle_soundly();
    }
}

#[test]
fn a_leader_in_the_minority_acknowledges_nothing() {
    let mut cluster = busy_cluster(3);
    cluster.run_for(seconds(1));
    let leader = cluster.wait_for_leader(GROUP);
    cluster.isolate(leader);
    let alone = cluster.ask(leader, GROUP, publish("alone\n"));
    cluster.run_for(seconds(4));
    if let Some(answer) = cluster.answer_to(alone) {
        assert!(matches!(told(answer), Told::Refused { .. }), "{answer:?}");
    }
    let next = cluster.leader(GROUP).expect("the majority has elected another");
    assert_ne!(next, leader);
    cluster.mend();
    cluster.settle_soundly();
    assert!(cluster.coverage().get("truncations") > 0, "what it wrote alone had to go");
}

#[test]
fn a_member_that_hears_nothing_does_not_disturb_the_rest_when_it_returns() {
    let mut cluster = busy_cluster(4);
    cluster.run_for(seconds(1));
    let leader = cluster.wait_for_leader(GROUP);
    let cut_off = cluster.followers(GROUP)[0];
    let elections = cluster.coverage().get("elections won");
    // It asks for votes again and again, and is heard, but hears nothing.
    for other in cluster.machines() {
        if other != cut_off {
            cluster.cut(other, cut_off);
        }
    }
    cluster.run_for(seconds(10));
    assert!(cluster.coverage().get("candidacies") > 3);
    assert_eq!(cluster.leader(GROUP), Some(leader));
    assert_eq!(cluster.coverage().get("elections won"), elections);
    cluster.mend();
    cluster.settle_soundly();
}

#[test]
fn all_lose_power_at_once_and_nothing_acknowledged_is_lost() {
    for seed in 0..10 {
        let mut cluster = busy_cluster(100 + seed);
        for _ in 0..3 {
            cluster.run_for(seconds(2));
            cluster.machines().into_iter().for_each(|machine| cluster.crash(machine));
            cluster.run_for(Duration::from_millis(500));
            cluster.machines().into_iter().for_each(|machine| cluster.restart(machine));
        }
        cluster.settle_soundly();
        assert!(acknowledged(&cluster) > 100);
    }
}

#[test]
fn a_follower_whose_records_are_compacted_away_gets_a_snapshot() {
    let mut cluster = busy_cluster(5);
    cluster.run_for(seconds(1));
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    cluster.run_for(seconds(3));
    for machine in cluster.machines() {
        cluster.snapshot(machine, GROUP);
    }
    cluster.run_for(seconds(3));
    assert!(cluster.coverage().get("compactions") > 0);
    cluster.restart(follower);
    cluster.run_for(seconds(3));
    assert_eq!(cluster.coverage().get("snapshots installed"), 1);
    cluster.settle_soundly();
}

#[test]
fn a_log_that_is_compacted_in_the_middle_of_a_catchup_is_replaced_by_the_snapshot() {
    // A window of one record, and a cache that holds none: the catchup is slow and reads the disk.
    let mut setup = Setup { timers: quick_timers(), ..Setup::plain(3) };
    setup.limits.log_catchup_in_flight = ByteCount::new(1);
    setup.limits.log_cache = ByteCount::new(1);
    let mut cluster = Cluster::new(12, setup);
    cluster.wait_for_leader(GROUP);
    cluster.add_client(ClientPlan { interval: Duration::from_millis(5), ..ClientPlan::default() });
    cluster.run_for(seconds(1));
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    cluster.run_for(seconds(4));
    cluster.restart(follower);
    cluster.wait("the catchup is under way", seconds(2), |cluster| {
        let node = cluster.process(follower).node.as_ref();
        node.and_then(|node| node.status(GROUP)).is_some_and(|status| status.catching_up)
    });
    cluster.run_for(Duration::from_millis(50));
    let leader = cluster.wait_for_leader(GROUP);
    cluster.snapshot(leader, GROUP);
    cluster.begin_checkpoint(leader, GROUP, false);
    cluster.run_for(Duration::from_millis(50));
    let coverage = cluster.coverage();
    assert_eq!((coverage.get("snapshots refused"), coverage.get("compactions")), (2, 0));
    cluster.begin_checkpoint(leader, GROUP, true);
    cluster.run_for(seconds(1));
    assert_eq!(cluster.coverage().get("checkpoints made durable"), 1);
    assert_eq!(cluster.coverage().get("snapshots installed"), 1);
    cluster.settle_soundly();
}

#[test]
fn a_follower_with_an_empty_log_may_die_at_any_moment_of_an_install() {
    for commands in 0..40 {
        let mut cluster = busy_cluster(2000 + u64::from(commands));
        cluster.run_for(seconds(1));
        cluster.client_mut(0).plan.messages = 0;
        cluster.run_for(seconds(1));
        // All that there is stands in snapshots now, and every log is empty.
        for machine in cluster.machines() {
            cluster.snapshot(machine, GROUP);
        }
        cluster.run_for(Duration::from_millis(100));
        let follower = cluster.followers(GROUP)[0];
        assert_eq!(cluster.disk(follower).log(GROUP).and_then(|log| log.range()), None);
        cluster.crash(follower);
        cluster.client_mut(0).plan.messages = u64::MAX;
        cluster.run_for(seconds(1));
        for machine in cluster.machines() {
            cluster.snapshot(machine, GROUP);
        }
        cluster.run_for(Duration::from_millis(100));
        cluster.restart(follower);
        let downtime = Some(Duration::from_millis(300));
        cluster.crash_after(follower, Doom { commands, downtime });
        cluster.run_for(seconds(1));
        cluster.settle_soundly();
    }
}

#[test]
fn a_follower_behind_a_quiet_leader_catches_up_from_heartbeats_alone() {
    let mut cluster = busy_cluster(6);
    cluster.run_for(seconds(1));
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    cluster.run_for(seconds(2));
    cluster.stop_clients();
    cluster.run_for(seconds(2));
    // From here on nothing but heartbeats is sent.
    cluster.restart(follower);
    cluster.settle_soundly();
}

#[test]
fn a_transfer_goes_to_whom_it_names() {
    let mut cluster = busy_cluster(7);
    for _ in 0..4 {
        cluster.run_for(seconds(1));
        let leader = cluster.wait_for_leader(GROUP);
        let heir = cluster.followers(GROUP)[0];
        let from = cluster.now();
        cluster.step_down(GROUP, Some(heir));
        cluster.wait("the heir leads", Duration::from_millis(200), |cluster| {
            cluster.leader(GROUP) == Some(heir)
        });
        assert_ne!(heir, leader);
        assert!(cluster.now().since(from) < quick_timers().election_min);
    }
    cluster.settle_soundly();
}

#[test]
fn a_failed_write_makes_a_member_stand_aside_until_it_is_restarted() {
    let mut cluster = busy_cluster(8);
    cluster.run_for(seconds(1));
    let leader = cluster.wait_for_leader(GROUP);
    cluster.disk_mut(leader).fail_next_write = true;
    cluster.run_for(Duration::from_millis(200));
    assert!(quick_timers().election_min > Duration::from_millis(200));
    let heir = cluster.leader(GROUP).expect("it has handed over before anybody missed it");
    assert_ne!(heir, leader);
    cluster.run_for(seconds(4));
    let status = cluster.process(leader).node.as_ref().and_then(|node| node.status(GROUP)).unwrap();
    assert!(status.aside.unwrap().contains("a write failed"), "and says so");
    let next = cluster.leader(GROUP).expect("the others have elected one of them");
    assert_ne!(next, leader);
    let before = acknowledged(&cluster);
    cluster.run_for(seconds(2));
    assert!(acknowledged(&cluster) > before, "and go on");
    cluster.settle_soundly();
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let mut cluster = busy_cluster(9);
    cluster.run_for(seconds(1));
    let full = cluster.followers(GROUP)[0];
    cluster.disk_mut(full).full = true;
    cluster.run_for(seconds(2));
    let status = cluster.process(full).node.as_ref().and_then(|node| node.status(GROUP)).unwrap();
    assert!(status.aside.unwrap().contains("no space is left"));
    cluster.settle_soundly();
}

#[test]
fn a_single_member_leads_itself_and_survives_its_own_crash() {
    let mut cluster = Cluster::new(10, Setup { timers: quick_timers(), ..Setup::plain(1) });
    assert_eq!(cluster.wait_for_leader(GROUP), Machine(0));
    cluster.add_client(ClientPlan { interval: Duration::from_millis(5), ..ClientPlan::default() });
    for _ in 0..5 {
        cluster.run_for(seconds(1));
        cluster.crash(Machine(0));
        cluster.restart(Machine(0));
    }
    cluster.settle_soundly();
    assert!(acknowledged(&cluster) > 100);
}

#[test]
fn every_request_is_answered_even_if_leadership_is_lost_meanwhile() {
    let mut cluster = cluster(11);
    let leader = cluster.wait_for_leader(GROUP);
    let followers = cluster.followers(GROUP);
    cluster.part(&[leader], &followers);
    let asked: Vec<_> = (0..10).map(|_| cluster.ask(leader, GROUP, publish("lost\n"))).collect();
    cluster.run_for(seconds(3));
    for id in &asked {
        let answer = cluster.answer_to(*id).expect("a leader that hears nobody gives up");
        assert!(matches!(told(answer), Told::Refused { .. }), "{answer:?}");
    }
    cluster.settle_soundly();
}

#[test]
fn machines_may_rest_while_others_go_on() {
    let mut cluster = busy_cluster(13);
    for round in 0..12 {
        cluster.run_for(Duration::from_millis(300));
        let machine = cluster.machines()[round % 3];
        cluster.snapshot(machine, GROUP);
        cluster.run_for(Duration::from_millis(50));
        cluster.begin_checkpoint(machine, GROUP, true);
        let before = acknowledged(&cluster);
        cluster.pause_machine(machine, GROUP);
        cluster.run_for(Duration::from_millis(700));
        let leader = cluster.wait_for_leader(GROUP);
        assert_ne!(leader, machine, "who cannot apply does not lead");
        assert!(acknowledged(&cluster) > before, "the others go on");
        assert!(!cluster.is_healthy(GROUP));
        cluster.resume_machine(machine, GROUP);
        cluster.wait("all are healthy", seconds(5), |cluster| cluster.is_healthy(GROUP));
    }
    assert!(cluster.coverage().get("checkpoints made durable") > 3);
    cluster.settle_soundly();
}
