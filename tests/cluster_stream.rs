//! What a replicated stream does when machines, links and disks fail: every acknowledged message is
//! held against the client's own record, and the replicas against each other.

use jetwake::command::Answer;
use jetwake::config::GroupKind;
use jetwake::event::Request;
use jetwake::ids::{ByteCount, GroupId, Sequence};
use jetwake::raft::{Health, Lacking};
use jetwake::time::Duration;
use jetwake::wire::StreamConfig;
use jetwake_sim::client::{Told, told};
use jetwake_sim::process::Doom;
use jetwake_sim::workload::quick_timers;
use jetwake_sim::{ClientPlan, Cluster, Machine, Setup};

const GROUP: GroupId = GroupId(0);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn setup() -> Setup {
    Setup { timers: quick_timers(), ..Setup::stream(3) }
}

fn busy_cluster(seed: u64, setup: Setup) -> Cluster {
    let mut cluster = Cluster::new(seed, setup);
    cluster.wait_for_leader(GROUP);
    cluster.add_client(ClientPlan {
        interval: Duration::from_millis(5),
        deletes: 10_000,
        reads: 20_000,
        ..ClientPlan::default()
    });
    cluster.run_for(seconds(1));
    cluster
}

fn acknowledged(cluster: &Cluster) -> usize {
    cluster.history(GROUP).acknowledged_count()
}

/// Asks, until somebody leads who takes it.
fn have_done(cluster: &mut Cluster, request: &Request) {
    for _ in 0..10 {
        let leader = cluster.wait_for_leader(GROUP);
        let answer = cluster.call(leader, GROUP, request.clone(), seconds(5));
        match answer.as_ref().map(told) {
            Some(Told::Done) => return,
            _ => cluster.run_for(Duration::from_millis(500)),
        }
    }
    panic!("{request:?} was never done");
}

/// Kills a follower, lets the others go on without it until their logs can no longer help it, and
/// starts it again.
fn leave_behind(cluster: &mut Cluster) -> Machine {
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    cluster.run_for(seconds(3));
    for machine in cluster.followers(GROUP).into_iter().chain(cluster.leader(GROUP)) {
        cluster.snapshot(machine, GROUP);
    }
    cluster.run_for(seconds(1));
    assert!(cluster.coverage().get("compactions") >= 2, "{}", cluster.coverage());
    cluster.restart(follower);
    follower
}

#[test]
fn a_follower_behind_a_compacted_log_catches_up_by_snapshot_and_catchup() {
    let mut cluster = busy_cluster(1, setup());
    let follower = leave_behind(&mut cluster);
    // Publishing goes on meanwhile.
    cluster.run_for(seconds(2));
    assert_eq!(cluster.coverage().get("snapshots installed"), 1);
    assert!(cluster.coverage().get("syncs asked for") >= 1, "{}", cluster.coverage());
    assert!(cluster.is_up(follower));
    cluster.settle_soundly();
}

#[test]
fn a_stream_is_healthy_when_group_and_messages_are_there() {
    let mut setup = setup();
    setup.limits.stream_catchup_messages = 1;
    setup.limits.read_messages = 1;
    let mut cluster = busy_cluster(11, setup);
    let follower = leave_behind(&mut cluster);
    let mut lacked = 0;
    for _ in 0..60_000 {
        cluster.run_for(Duration::from_millis(1));
        let node = cluster.process(follower).node.as_ref();
        match node.and_then(|node| node.health(GROUP, cluster.now())) {
            Some(Health::CatchingUp { what: Lacking::Messages, .. }) => lacked += 1,
            Some(Health::Healthy) => break,
            _ => {}
        }
    }
    assert!(lacked > 100, "the messages of three seconds come one by one, not {lacked} times");
    cluster.settle_soundly();
}

/// Whether a machine's stream lacks messages.
fn lacks_messages(cluster: &Cluster, machine: Machine) -> bool {
    let node = cluster.process(machine).node.as_ref();
    let health = node.and_then(|node| node.health(GROUP, cluster.now()));
    matches!(health, Some(Health::CatchingUp { what: Lacking::Messages, .. }))
}

#[test]
fn a_disk_that_is_full_in_a_catchup_frees_what_its_server_holds_at_once() {
    let mut setup = setup();
    setup.limits.stream_catchup_messages = 4;
    setup.limits.read_messages = 4;
    let mut cluster = busy_cluster(12, setup);
    let follower = leave_behind(&mut cluster);
    let step = Duration::from_millis(1);
    while !lacks_messages(&cluster, follower) {
        cluster.run_for(step);
    }
    let held = |cluster: &Cluster| {
        let leader = cluster.leader(GROUP).expect("one leads");
        cluster.process(leader).node.as_ref().expect("it runs").catchup_bytes()
    };
    assert!(held(&cluster) > 0);
    cluster.disk_mut(follower).full = true;
    let full = cluster.now();
    while !cluster.stands_aside(follower) {
        cluster.run_for(step);
    }
    cluster.run_for(step * 10);
    assert_eq!(held(&cluster), 0);
    let took = cluster.now().since(full);
    assert!(took < quick_timers().catchup_silence / 2, "that took {} ms", took.as_millis());
    cluster.disk_mut(follower).full = false;
    cluster.crash(follower);
    cluster.restart(follower);
    cluster.settle_soundly();
}

#[test]
fn deletes_and_a_purge_that_a_follower_missed_reach_it_by_the_catchup() {
    let mut cluster = busy_cluster(2, setup());
    let follower = cluster.followers(GROUP)[0];
    cluster.crash(follower);
    cluster.run_for(seconds(1));
    let before = Sequence::new(50);
    have_done(
        &mut cluster,
        &Request::Purge { filter: "s.3".into(), before: Sequence::ZERO, keep: 0 },
    );
    have_done(&mut cluster, &Request::Purge { filter: "".into(), before, keep: 0 });
    for machine in cluster.followers(GROUP).into_iter().chain(cluster.leader(GROUP)) {
        cluster.snapshot(machine, GROUP);
    }
    cluster.run_for(seconds(1));
    // The history knows nothing of these two purges: only the replicas are compared.
    cluster.restart(follower);
    cluster.run_for(seconds(2));
    cluster.stop_clients();
    cluster.run_for(seconds(5));
    let states: Vec<_> = cluster
        .machines()
        .into_iter()
        .map(|machine| {
            let contents = cluster.read_all(machine, GROUP).unwrap();
            assert!(contents.keys().all(|sequence| *sequence >= before));
            (contents, cluster.read_state(machine, GROUP).unwrap())
        })
        .collect();
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0], states[2]);
    assert_eq!(cluster.coverage().get("snapshots installed"), 1);
}

#[test]
fn a_follower_that_dies_in_the_middle_of_a_catchup_begins_again() {
    let mut setup = setup();
    // Small steps, so that a crash falls into the middle.
    setup.limits.stream_catchup_messages = 4;
    setup.limits.read_messages = 4;
    for commands in (0..200).step_by(20) {
        let mut cluster = busy_cluster(300 + u64::from(commands), setup.clone());
        let follower = leave_behind(&mut cluster);
        let doom = Doom { commands, downtime: Some(Duration::from_millis(300)) };
        cluster.crash_after(follower, doom);
        cluster.run_for(seconds(2));
        cluster.settle_soundly();
        assert!(cluster.coverage().get("crashes") >= 2);
    }
}

#[test]
fn a_leader_that_dies_in_the_middle_of_serving_a_catchup_is_replaced() {
    let mut setup = setup();
    setup.limits.stream_catchup_messages = 4;
    setup.limits.read_messages = 4;
    for commands in (0..200).step_by(20) {
        let mut cluster = busy_cluster(600 + u64::from(commands), setup.clone());
        leave_behind(&mut cluster);
        let leader = cluster.wait_for_leader(GROUP);
        cluster.crash_after(leader, Doom { commands, downtime: Some(seconds(3)) });
        cluster.run_for(seconds(4));
        cluster.settle_soundly();
    }
}

#[test]
fn a_leader_killed_while_publishing_keeps_each_message_once() {
    for seed in 0..5 {
        let mut cluster = busy_cluster(20 + seed, setup());
        // A second client repeats what it was told is stored.
        cluster.add_client(ClientPlan {
            interval: Duration::from_millis(7),
            repeats: 500_000,
            losses: 50_000,
            ..ClientPlan::default()
        });
        for _ in 0..4 {
            let leader = cluster.wait_for_leader(GROUP);
            cluster.crash(leader);
            cluster.run_for(seconds(3));
            cluster.restart(leader);
            cluster.run_for(seconds(1));
        }
        assert!(cluster.coverage().get("publishes acknowledged as duplicates") > 50);
        cluster.settle_soundly();
    }
}

#[test]
fn all_lose_power_at_once_and_every_acknowledged_message_is_there() {
    for seed in 0..5 {
        let mut cluster = busy_cluster(40 + seed, setup());
        for _ in 0..3 {
            cluster.run_for(seconds(2));
            cluster.machines().into_iter().for_each(|machine| cluster.crash(machine));
            cluster.run_for(Duration::from_millis(500));
            cluster.machines().into_iter().for_each(|machine| cluster.restart(machine));
        }
        cluster.settle_soundly();
        assert!(acknowledged(&cluster) > 100);
        assert!(cluster.coverage().get("store writes lost") > 0);
    }
}

#[test]
fn a_republished_message_is_acknowledged_with_its_first_sequence_by_the_next_leader() {
    let mut cluster = Cluster::new(60, setup());
    let leader = cluster.wait_for_leader(GROUP);
    // A new leader takes requests when it has applied what it inherited.
    cluster.run_for(seconds(1));
    let publish = Request::Publish {
        subject: "s.1".into(),
        header: "NATS/1.0\r\nNats-Msg-Id: once\r\n\r\n".into(),
        payload: "body".into(),
    };
    let answer = cluster.call(leader, GROUP, publish.clone(), seconds(5)).expect("an answer");
    let sequence = Sequence::new(1);
    assert_eq!(told(&answer), Told::Acknowledged { sequence, duplicate: false });
    cluster.crash(leader);
    let next = cluster.wait_for_leader(GROUP);
    cluster.run_for(seconds(1));
    let answer = cluster.call(next, GROUP, publish, seconds(5)).expect("an answer");
    assert_eq!(told(&answer), Told::Acknowledged { sequence, duplicate: true });
}

#[test]
fn a_new_member_with_an_empty_disk_gets_everything() {
    let mut cluster = Cluster::new(61, setup());
    cluster.wait_for_leader(GROUP);
    let late = cluster.followers(GROUP)[0];
    cluster.isolate(late);
    cluster.add_client(ClientPlan { interval: Duration::from_millis(2), ..ClientPlan::default() });
    cluster.run_for(seconds(4));
    for machine in cluster.machines().into_iter().filter(|machine| *machine != late) {
        cluster.snapshot(machine, GROUP);
    }
    cluster.run_for(seconds(1));
    cluster.mend();
    cluster.run_for(seconds(3));
    assert_eq!(cluster.coverage().get("snapshots installed"), 1);
    cluster.settle_soundly();
}

#[test]
fn a_catchup_with_a_tiny_budget_ends() {
    let mut setup = setup();
    setup.limits.stream_catchups_in_flight = ByteCount::new(1);
    setup.limits.store_in_flight = ByteCount::new(1);
    setup.limits.load = ByteCount::new(1);
    let mut cluster = busy_cluster(62, setup);
    leave_behind(&mut cluster);
    cluster.run_for(seconds(4));
    cluster.settle_soundly();
    assert_eq!(cluster.coverage().get("snapshots installed"), 1);
}

#[test]
fn a_failed_write_of_the_leader_costs_no_acknowledged_message() {
    let mut cluster = busy_cluster(63, setup());
    for _ in 0..3 {
        let leader = cluster.wait_for_leader(GROUP);
        cluster.disk_mut(leader).fail_next_write = true;
        cluster.run_for(seconds(3));
        assert!(cluster.stands_aside(leader));
        cluster.crash(leader);
        cluster.restart(leader);
        cluster.run_for(seconds(1));
    }
    cluster.settle_soundly();
}

#[test]
fn a_transfer_under_load_costs_no_acknowledged_message() {
    let mut cluster = busy_cluster(64, setup());
    for _ in 0..10 {
        let heir = cluster.followers(GROUP)[0];
        cluster.step_down(GROUP, Some(heir));
        cluster.run_for(seconds(1));
    }
    assert!(cluster.coverage().get("elections won") > 5);
    cluster.settle_soundly();
}

/// The two that lack messages have the longer logs, so only they can be elected; and only the third
/// has the messages.
#[test]
fn members_that_lack_messages_get_them_from_a_member_that_cannot_be_elected() {
    let mut cluster = busy_cluster(65, setup());
    let leader = cluster.wait_for_leader(GROUP);
    // No catchup of a stream gets anywhere for now.
    cluster.network_mut().muted.push("$JSC.".into());
    for follower in cluster.followers(GROUP) {
        cluster.crash(follower);
        cluster.run_for(seconds(1));
        cluster.snapshot(leader, GROUP);
        cluster.run_for(Duration::from_millis(100));
        cluster.restart(follower);
        cluster.run_for(seconds(1));
    }
    assert_eq!(cluster.coverage().get("snapshots installed"), 2);
    assert_eq!(cluster.leader(GROUP), Some(leader));
    // The others commit what the leader has not yet on its own disk, and then it dies.
    cluster.disk_mut(leader).slowness = 10_000;
    cluster.run_for(Duration::from_millis(500));
    cluster.crash(leader);
    cluster.disk_mut(leader).slowness = 1;
    cluster.run_for(seconds(1));
    cluster.network_mut().muted.clear();
    cluster.restart(leader);
    cluster.wait("one of the others leads", seconds(10), |cluster| {
        cluster.leader(GROUP).is_some_and(|next| next != leader)
    });
    cluster.settle_soundly();
}

/// Bounds take out other messages on a replica that lacks some, unless it knows better.
#[test]
fn replicas_of_a_stream_with_bounds_end_the_same_whoever_was_behind() {
    for seed in 0..6 {
        let config = StreamConfig {
            max_msgs: 60,
            max_msgs_per_subject: 8 + seed as i64,
            max_age: if seed % 2 == 0 { 0 } else { 2_000_000_000 },
            duplicate_window: 3_600_000_000_000,
            ..StreamConfig::new("S", ["s.*".to_string()])
        };
        let setup =
            Setup { timers: quick_timers(), ..Setup::of(3, vec![GroupKind::Stream(config)]) };
        let mut cluster = busy_cluster(80 + seed, setup);
        leave_behind(&mut cluster);
        cluster.run_for(seconds(2));
        let leader = cluster.wait_for_leader(GROUP);
        cluster.crash(leader);
        cluster.run_for(seconds(2));
        cluster.restart(leader);
        cluster.run_for(seconds(1));
        cluster.stop_clients();
        cluster.run_for(seconds(5));
        assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
        let machines = cluster.machines();
        let states: Vec<_> = machines
            .into_iter()
            .map(|machine| {
                let contents = cluster.read_all(machine, GROUP).unwrap();
                assert!(contents.len() <= if seed % 2 == 0 { 60 } else { 0 });
                (contents, cluster.read_state(machine, GROUP).unwrap())
            })
            .collect();
        assert_eq!(states[0], states[1]);
        assert_eq!(states[0], states[2]);
    }
}

#[test]
fn the_newest_message_of_some_subjects_is_found_on_every_replica() {
    let mut cluster = Cluster::new(61, setup());
    let leader = cluster.wait_for_leader(GROUP);
    cluster.run_for(seconds(1));
    for subject in ["s.1", "s.2", "s.1", "s.3"] {
        let (header, payload) = ("".into(), "body".into());
        let publish = Request::Publish { subject: subject.into(), header, payload };
        cluster.call(leader, GROUP, publish, seconds(5)).expect("an answer");
    }
    let delete = Request::Delete { sequence: Sequence::new(4) };
    cluster.call(leader, GROUP, delete, seconds(5)).expect("an answer");
    cluster.run_for(seconds(1));
    for machine in cluster.machines() {
        for (filter, newest) in [
            ("s.1", Some(3)),
            ("s.2", Some(2)),
            ("s.*", Some(3)),
            ("", Some(3)),
            ("s.3", None),
            ("..", None),
        ] {
            let read = Request::ReadLast { filter: filter.into() };
            let answer = cluster.call(machine, GROUP, read, seconds(5)).expect("an answer");
            let Answer::Messages { messages, next: None } = answer else { panic!("{answer:?}") };
            let found: Vec<_> = messages.iter().map(|found| found.sequence.get()).collect();
            assert_eq!(found, newest.into_iter().collect::<Vec<_>>(), "{filter:?}");
        }
    }
}
