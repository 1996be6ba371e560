//! What a group does when its members change, and when leadership changes hands on purpose.

use jetwake::command::{Answer, Role};
use jetwake::event::Request;
use jetwake::ids::{GroupId, Index, PeerId};
use jetwake::raft::Status;
use jetwake::time::Duration;
use jetwake_sim::client::Told;
use jetwake_sim::coverage::Coverage;
use jetwake_sim::dice::Dice;
use jetwake_sim::faults::Fault;
use jetwake_sim::process::Doom;
use jetwake_sim::setup::stream;
use jetwake_sim::workload::quick_timers;
use jetwake_sim::{Change, ClientPlan, Cluster, Machine, Setup};

const GROUP: GroupId = GroupId(0);
const N1: Machine = Machine(0);
const N2: Machine = Machine(1);
const N3: Machine = Machine(2);
const N4: Machine = Machine(3);
const N5: Machine = Machine(4);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A plain group that the first machines found; the others wait to be added.
fn cluster(seed: u64, machines: usize, founders: usize) -> Cluster {
    let setup = Setup { timers: quick_timers(), founders, ..Setup::plain(machines) };
    let mut cluster = Cluster::new(seed, setup);
    cluster.wait_for_leader(GROUP);
    // What the leader begins with is committed, so it takes proposals.
    cluster.run_for(milliseconds(100));
    cluster
}

fn load(cluster: &mut Cluster) {
    cluster.add_client(ClientPlan { interval: milliseconds(5), ..ClientPlan::default() });
}

fn status(cluster: &Cluster, machine: Machine) -> Status {
    let node = cluster.process(machine).node.as_ref().expect("it runs");
    node.status(GROUP).expect("it has the group")
}

fn peer(machine: Machine) -> PeerId {
    PeerId::from_name(&machine.to_string())
}

fn peers(machines: &[Machine]) -> Vec<PeerId> {
    let mut peers: Vec<_> = machines.iter().map(|machine| peer(*machine)).collect();
    peers.sort();
    peers
}

/// Every one of these says that these are the members.
fn assert_members(cluster: &Cluster, machines: &[Machine]) {
    for machine in machines {
        let status = status(cluster, *machine);
        assert_eq!(status.members, peers(machines), "as {machine} says");
        assert_eq!(status.cluster_size, machines.len(), "as {machine} says");
    }
}

fn lead(cluster: &mut Cluster, machine: Machine) {
    if cluster.wait_for_leader(GROUP) != machine {
        cluster.run_for(milliseconds(300));
        cluster.step_down(GROUP, Some(machine));
        cluster.wait("it leads", seconds(2), |cluster| cluster.leader(GROUP) == Some(machine));
        assert_eq!(cluster.wait_for_leader(GROUP), machine);
    }
    // What it inherited is committed, so it takes proposals.
    cluster.run_for(milliseconds(100));
}

fn grow_and_shrink(mut cluster: Cluster) {
    load(&mut cluster);
    for machine in [N2, N3, N4, N5] {
        cluster.run_for(milliseconds(300));
        cluster.change_members(GROUP, Change::Add(machine));
    }
    cluster.run_for(seconds(1));
    assert_members(&cluster, &[N1, N2, N3, N4, N5]);
    let before = cluster.history(GROUP).acknowledged_count();
    // Five members bear the loss of two.
    cluster.crash(N1);
    cluster.crash(N2);
    cluster.run_for(seconds(3));
    assert!(cluster.history(GROUP).acknowledged_count() > before);
    cluster.restart(N1);
    cluster.restart(N2);
    cluster.run_for(seconds(2));
    for machine in [N1, N3, N2, N5] {
        cluster.change_members(GROUP, Change::Remove(machine));
        cluster.run_for(milliseconds(300));
    }
    assert_members(&cluster, &[N4]);
    assert_eq!(cluster.wait_for_leader(GROUP), N4);
    cluster.run_for(seconds(1));
    cluster.settle_soundly();
    assert!(cluster.history(GROUP).acknowledged_count() > before + 100);
}

#[test]
fn a_plain_group_grows_to_five_and_shrinks_to_one_under_load() {
    grow_and_shrink(cluster(1, 5, 1));
}

#[test]
fn a_stream_grows_to_five_and_shrinks_to_one_under_load() {
    let setup = Setup { timers: quick_timers(), founders: 1, ..Setup::of(5, vec![stream("S")]) };
    let mut cluster = Cluster::new(2, setup);
    cluster.wait_for_leader(GROUP);
    grow_and_shrink(cluster);
}

#[test]
fn a_member_joins_from_a_snapshot() {
    let mut cluster = cluster(3, 4, 3);
    load(&mut cluster);
    cluster.run_for(seconds(1));
    cluster.change_members(GROUP, Change::Remove(N3));
    cluster.machines().into_iter().for_each(|machine| cluster.snapshot(machine, GROUP));
    cluster.run_for(seconds(1));
    cluster.change_members(GROUP, Change::Add(N4));
    assert!(cluster.coverage().get("snapshots installed") > 0);
    cluster.run_for(milliseconds(500));
    assert_members(&cluster, &[N1, N2, N4]);
    cluster.crash(N4);
    cluster.restart(N4);
    cluster.run_for(seconds(1));
    // The snapshot that it has told whose group it is.
    assert_members(&cluster, &[N1, N2, N4]);
    cluster.settle_soundly();
}

#[test]
fn a_node_that_waits_to_be_added_neither_leads_nor_counts() {
    let mut cluster = cluster(4, 3, 2);
    let leader = cluster.wait_for_leader(GROUP);
    let other = cluster.followers(GROUP)[0];
    assert_eq!(status(&cluster, N3).members, peers(&[N1, N2]));
    cluster.crash(other);
    let asked = cluster.ask(leader, GROUP, publish("one of two\n"));
    cluster.run_for(seconds(5));
    assert_ne!(status(&cluster, N3).role, Some(Role::Leader));
    assert!(!matches!(cluster.told(asked), Some(Told::Committed(_))));
    cluster.settle_soundly();
}

/// Changes, kills, cuts, transfers and snapshots in any order, drawn from a seed.
fn play_changes(seed: u64, groups: Vec<jetwake::config::GroupKind>) -> Coverage {
    let setup = Setup { timers: quick_timers(), founders: 3, ..Setup::of(5, groups) };
    let mut cluster = Cluster::new(seed, setup);
    let mut dice = Dice::new(seed);
    load(&mut cluster);
    for _ in 0..40 {
        cluster.run_for(dice.duration(&(milliseconds(10)..milliseconds(800))));
        let lasts = dice.duration(&(milliseconds(50)..milliseconds(2000)));
        let machine = Machine(dice.place(5));
        match dice.below(10) {
            0..3 => drop(cluster.change_membership(GROUP, Change::Add(machine))),
            3..5 => drop(cluster.change_membership(GROUP, Change::Remove(machine))),
            _ => {
                let faults = [
                    Fault::Crash,
                    Fault::CrashAtCommand,
                    Fault::CrashLeader,
                    Fault::CrashAll,
                    Fault::CutOneWay,
                    Fault::Isolate,
                    Fault::Partition,
                    Fault::Pause,
                    Fault::Weather,
                    Fault::Transfer,
                    Fault::Snapshot,
                ];
                cluster.suffer(faults[dice.place(faults.len())], lasts, &mut dice);
            }
        }
    }
    cluster.settle_soundly();
    cluster.coverage().clone()
}

#[test]
fn members_change_while_all_else_fails() {
    let first = std::env::var("JETWAKE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let count = std::env::var("JETWAKE_SEEDS").map_or(6, |count| count.parse().expect("a number"));
    let seeds = first.map_or(1..1 + count, |seed: u64| seed..seed + 1);
    let mut coverage = Coverage::default();
    for seed in seeds.clone() {
        println!("replay: JETWAKE_SEED={seed} cargo test --test cluster_membership while_all");
        let kind = if seed % 2 == 0 { stream("S") } else { jetwake::config::GroupKind::Plain };
        coverage.merge(&play_changes(seed, vec![kind]));
    }
    println!("{coverage}");
    if first.is_none() {
        for name in ["members added", "members removed", "snapshots installed", "crashes"] {
            assert!(coverage.get(name) > 0, "no run saw {name}: {coverage}");
        }
    }
}

fn publish(text: &'static str) -> Request {
    let [subject, header, payload] = ["", "", text].map(|text| text.as_bytes().into());
    Request::Publish { subject, header, payload }
}

#[test]
fn a_machine_that_is_dead_is_not_added_and_the_group_stays_as_it_is() {
    let mut cluster = cluster(5, 4, 3);
    cluster.crash(N4);
    let asked = cluster.change_membership(GROUP, Change::Add(N4)).expect("one leads");
    cluster.run_for(milliseconds(100));
    let leader = cluster.wait_for_leader(GROUP);
    assert_eq!(status(&cluster, leader).joining, Some(peer(N4)));
    assert_eq!(status(&cluster, leader).cluster_size, 3, "it counts when it has what it lacks");
    cluster.run_for(quick_timers().lost_quorum * 2);
    let Some(Told::Refused { text, .. }) = cluster.told(asked) else { panic!("it is not said") };
    assert_eq!(text, "the peer does not answer");
    assert_eq!(status(&cluster, leader).joining, None);
    assert_members(&cluster, &[N1, N2, N3]);
    cluster.settle_soundly();
}

#[test]
fn a_new_member_may_die_at_any_moment_of_its_coming() {
    for commands in (0..40).step_by(4) {
        let mut cluster = cluster(600 + u64::from(commands), 4, 3);
        load(&mut cluster);
        cluster.run_for(milliseconds(500));
        cluster.crash_after(N4, Doom { commands, downtime: Some(milliseconds(300)) });
        cluster.change_members(GROUP, Change::Add(N4));
        cluster.run_for(milliseconds(500));
        cluster.settle_soundly();
        assert_members(&cluster, &[N1, N2, N3, N4]);
    }
}

#[test]
fn a_leader_may_die_at_any_moment_of_a_change() {
    for commands in (0..60).step_by(6) {
        let mut cluster = cluster(700 + u64::from(commands), 4, 3);
        load(&mut cluster);
        cluster.run_for(milliseconds(500));
        let leader = cluster.wait_for_leader(GROUP);
        cluster.crash_after(leader, Doom { commands, downtime: Some(milliseconds(300)) });
        let (add, victim) = (commands % 2 == 0, cluster.followers(GROUP)[0]);
        let change = if add { Change::Add(N4) } else { Change::Remove(victim) };
        cluster.change_members(GROUP, change);
        cluster.settle_soundly();
        assert_eq!(cluster.members_of(GROUP).len(), if add { 4 } else { 2 });
    }
}

/// Upstream defects 28 and 29.
#[test]
fn a_leader_that_is_cut_off_makes_no_majority_of_those_that_it_adds() {
    let mut cluster = cluster(8, 5, 3);
    lead(&mut cluster, N1);
    cluster.part(&[N1, N4, N5], &[N2, N3]);
    let first = cluster.ask(N1, GROUP, Request::AddPeer { peer: peer(N4) });
    cluster.run_for(milliseconds(100));
    // It has what there is, and counts; but the majority of four is three.
    let alone = status(&cluster, N1);
    assert_eq!((alone.cluster_size, alone.change.is_some()), (4, true));
    let second = cluster.ask(N1, GROUP, Request::AddPeer { peer: peer(N5) });
    let third = cluster.ask(N1, GROUP, Request::RemovePeer { peer: peer(N2) });
    for refused in [second, third] {
        assert!(matches!(cluster.told(refused), Some(Told::Refused { code: 10202, .. })));
    }
    let lost = cluster.ask(N1, GROUP, publish("lost\n"));
    cluster.run_for(seconds(4));
    assert!(!matches!(cluster.told(first), Some(Told::Done)));
    assert!(!matches!(cluster.told(lost), Some(Told::Committed(_))));
    let next = cluster.leader(GROUP).expect("the majority has elected one");
    assert!([N2, N3].contains(&next));
    cluster.mend();
    cluster.settle_soundly();
    // The change went with its record.
    assert_members(&cluster, &[N1, N2, N3]);
}

/// Upstream defect 33, and 20: a snapshot of that time has no trace of the change.
#[test]
fn a_change_that_is_truncated_restores_the_members_and_the_quorum() {
    let mut cluster = cluster(9, 3, 3);
    load(&mut cluster);
    lead(&mut cluster, N1);
    cluster.run_for(milliseconds(300));
    cluster.isolate(N1);
    cluster.ask(N1, GROUP, Request::RemovePeer { peer: peer(N2) });
    cluster.run_for(milliseconds(50));
    assert_eq!(status(&cluster, N1).cluster_size, 2);
    cluster.snapshot(N1, GROUP);
    cluster.run_for(milliseconds(50));
    assert_eq!(cluster.coverage().get("snapshots taken"), 1);
    cluster.run_for(seconds(3));
    cluster.crash(N1);
    cluster.restart(N1);
    cluster.run_for(milliseconds(100));
    assert_eq!(status(&cluster, N1).cluster_size, 2, "the record is still there");
    cluster.mend();
    cluster.run_for(seconds(3));
    assert!(cluster.coverage().get("truncations") > 0);
    assert!(cluster.coverage().get("changes taken back") > 0);
    assert_members(&cluster, &[N1, N2, N3]);
    cluster.crash(N1);
    cluster.restart(N1);
    cluster.run_for(seconds(1));
    assert_members(&cluster, &[N1, N2, N3]);
    cluster.settle_soundly();
}

/// Upstream defects 30 and 32.
#[test]
fn members_are_the_same_after_a_restart() {
    let mut cluster = cluster(10, 4, 3);
    load(&mut cluster);
    lead(&mut cluster, N1);
    cluster.change_members(GROUP, Change::Remove(N3));
    cluster.change_members(GROUP, Change::Add(N4));
    cluster.change_members(GROUP, Change::Remove(N2));
    for _ in 0..2 {
        for machine in [N1, N4] {
            cluster.crash(machine);
        }
        for machine in [N1, N4] {
            cluster.restart(machine);
        }
        cluster.run_for(milliseconds(50));
        assert_members(&cluster, &[N1, N4]);
        cluster.wait_for_leader(GROUP);
        // The second time, the changes are in a snapshot.
        cluster.run_for(milliseconds(500));
        [N1, N4].into_iter().for_each(|machine| cluster.snapshot(machine, GROUP));
        cluster.run_for(milliseconds(500));
    }
    assert!(cluster.coverage().get("compactions") > 0);
    cluster.settle_soundly();
}

/// Upstream defect 31.
#[test]
fn a_leader_that_is_removed_hands_over_and_is_not_added_again() {
    let mut cluster = cluster(11, 3, 3);
    load(&mut cluster);
    cluster.run_for(milliseconds(500));
    for left in [2, 1] {
        let leader = cluster.wait_for_leader(GROUP);
        let asked = cluster.change_membership(GROUP, Change::Remove(leader)).expect("one leads");
        cluster.wait("another leads", quick_timers().election_min, |cluster| {
            cluster.leader(GROUP).is_some_and(|next| next != leader)
        });
        assert_eq!(cluster.told(asked), Some(Told::Done), "it was committed before");
        cluster.run_for(seconds(2));
        assert_ne!(cluster.wait_for_leader(GROUP), leader);
        assert_eq!(cluster.members_of(GROUP).len(), left);
        let gone = status(&cluster, leader);
        assert!(!gone.members.contains(&peer(leader)) && gone.role == Some(Role::Follower));
    }
    let last = cluster.wait_for_leader(GROUP);
    let asked = cluster.ask(last, GROUP, Request::RemovePeer { peer: peer(last) });
    assert!(matches!(cluster.told(asked), Some(Told::Refused { .. })), "one must remain");
    cluster.settle_soundly();
}

/// Upstream defect 34.
#[test]
fn the_vote_of_a_removed_member_elects_nobody() {
    let mut cluster = cluster(12, 3, 3);
    lead(&mut cluster, N1);
    cluster.isolate(N3);
    cluster.change_members(GROUP, Change::Remove(N3));
    cluster.crash(N2);
    cluster.crash(N1);
    cluster.mend();
    cluster.restart(N1);
    // The removed one does not know it, and votes and campaigns.
    assert_eq!(status(&cluster, N3).cluster_size, 3);
    cluster.run_for(seconds(10));
    assert!(cluster.coverage().get("candidacies") > 4);
    assert_eq!(cluster.leader(GROUP), None);
    cluster.restart(N2);
    let leader = cluster.wait_for_leader(GROUP);
    assert_ne!(leader, N3);
    // Whoever comes back with an old term is taken in again when that is wanted.
    cluster.change_members(GROUP, Change::Add(N3));
    cluster.run_for(seconds(1));
    assert_members(&cluster, &[N1, N2, N3]);
    cluster.settle_soundly();
}

#[test]
fn a_removed_member_learns_it_and_asks_for_no_votes() {
    let mut cluster = cluster(13, 3, 3);
    lead(&mut cluster, N1);
    cluster.change_members(GROUP, Change::Remove(N3));
    cluster.run_for(seconds(1));
    let candidacies = cluster.coverage().get("candidacies");
    cluster.run_for(seconds(10));
    assert_eq!(cluster.coverage().get("candidacies"), candidacies);
    assert_eq!(status(&cluster, N3).members, peers(&[N1, N2]));
    cluster.settle_soundly();
}

#[test]
fn a_member_whose_removal_is_not_committed_may_be_the_one_that_is_needed() {
    let mut cluster = cluster(14, 4, 4);
    lead(&mut cluster, N1);
    // Only the one that is to go hears of it, and then the leader dies.
    cluster.part(&[N1], &[N2, N3]);
    cluster.ask(N1, GROUP, Request::RemovePeer { peer: peer(N4) });
    cluster.run_for(milliseconds(50));
    assert_eq!(status(&cluster, N4).cluster_size, 3);
    cluster.crash(N1);
    cluster.mend();
    let at_most = quick_timers().election_max * 10;
    cluster.wait("the removal is committed", at_most, |cluster| {
        let leader = cluster.leader(GROUP).filter(|leader| *leader != N4);
        leader.is_some_and(|leader| status(cluster, leader).members == peers(&[N1, N2, N3]))
    });
    cluster.settle_soundly();
}

/// Upstream defect 27.
#[test]
fn a_member_that_was_cut_off_deposes_nobody_when_it_returns() {
    let mut cluster = cluster(15, 3, 3);
    load(&mut cluster);
    lead(&mut cluster, N1);
    for cut_off in [N2, N3, N2] {
        cluster.run_for(milliseconds(300));
        let (elections, term) =
            (cluster.coverage().get("elections won"), status(&cluster, N1).term);
        let candidacies = cluster.coverage().get("candidacies");
        cluster.isolate(cut_off);
        cluster.run_for(seconds(8));
        assert!(cluster.coverage().get("candidacies") > candidacies + 3, "it tried");
        cluster.mend();
        cluster.run_for(seconds(2));
        assert_eq!(cluster.leader(GROUP), Some(N1));
        assert_eq!(status(&cluster, N1).term, term);
        assert_eq!(status(&cluster, cut_off).term, term, "it follows again");
        assert_eq!(cluster.coverage().get("elections won"), elections);
    }
    // It still takes part: with the other one gone, the leader needs it.
    cluster.crash(N3);
    let before = cluster.history(GROUP).acknowledged_count();
    cluster.run_for(seconds(1));
    assert!(cluster.history(GROUP).acknowledged_count() > before + 100);
    cluster.settle_soundly();
}

#[test]
fn leadership_goes_to_who_is_fit_for_it() {
    let mut cluster = cluster(16, 5, 4);
    load(&mut cluster);
    lead(&mut cluster, N1);
    cluster.change_members(GROUP, Change::Remove(N4));
    cluster.crash(N2);
    cluster.run_for(seconds(1));
    // Dead, removed, never a member: each time it goes to the one that is left.
    for unfit in [N2, N4, N5] {
        lead(&mut cluster, N1);
        cluster.run_for(milliseconds(300));
        let from = cluster.now();
        cluster.step_down(GROUP, Some(unfit));
        cluster.wait("the one that is left leads", milliseconds(200), |cluster| {
            cluster.leader(GROUP) == Some(N3)
        });
        assert!(cluster.now().since(from) < quick_timers().election_min);
        cluster.wait_for_leader(GROUP);
    }
    cluster.settle_soundly();
}

#[test]
fn observers_follow_and_count_but_do_not_lead() {
    let mut cluster = cluster(17, 3, 3);
    load(&mut cluster);
    lead(&mut cluster, N1);
    for machine in [N2, N3] {
        cluster.ask(machine, GROUP, Request::Observe { observer: true });
        assert_eq!(status(&cluster, machine).role, Some(Role::Observer));
    }
    let before = cluster.history(GROUP).acknowledged_count();
    cluster.run_for(seconds(1));
    assert!(cluster.history(GROUP).acknowledged_count() > before + 100, "they acknowledge");
    // Offered leadership is not taken; whoever offered it leads again.
    cluster.step_down(GROUP, Some(N2));
    cluster.run_for(quick_timers().election_max * 2);
    assert_eq!(cluster.wait_for_leader(GROUP), N1);
    cluster.crash(N1);
    let candidacies = cluster.coverage().get("candidacies");
    cluster.run_for(quick_timers().election_max * 5);
    assert_eq!(cluster.coverage().get("candidacies"), candidacies);
    cluster.ask(N3, GROUP, Request::Observe { observer: false });
    cluster.wait("it leads", quick_timers().election_max * 2, |cluster| {
        cluster.leader(GROUP) == Some(N3)
    });
    cluster.ask(N3, GROUP, Request::Observe { observer: true });
    assert_eq!(status(&cluster, N3).role, Some(Role::Observer), "who leads hands over");
    cluster.ask(N2, GROUP, Request::Observe { observer: false });
    cluster.settle_soundly();
}

#[test]
fn a_campaign_can_be_asked_for_while_nobody_leads() {
    let mut cluster = cluster(18, 3, 3);
    lead(&mut cluster, N1);
    cluster.run_for(milliseconds(300));
    let asked = cluster.ask(N2, GROUP, Request::Campaign);
    assert!(matches!(cluster.told(asked), Some(Told::Refused { .. })), "one leads already");
    cluster.crash(N1);
    cluster.run_for(quick_timers().election_min);
    cluster.ask(N2, GROUP, Request::Campaign);
    cluster.wait("it leads", quick_timers().election_max, |cluster| {
        cluster.leader(GROUP).is_some_and(|leader| leader != N1)
    });
    cluster.settle_soundly();
}

#[test]
fn entries_and_removals_are_forwarded_to_the_leader() {
    let mut cluster = cluster(19, 4, 3);
    lead(&mut cluster, N1);
    load(&mut cluster);
    let forward = |text: &'static str| Request::Forward { payload: text.as_bytes().into() };
    for (machine, text) in [(N1, "one\n"), (N2, "two\n"), (N3, "three\n")] {
        let asked = cluster.ask(machine, GROUP, forward(text));
        assert_eq!(cluster.told(asked), Some(Told::Done));
    }
    // Who waits to be added knows no leader, and is none.
    let asked = cluster.ask(N4, GROUP, forward("four\n"));
    assert!(matches!(cluster.told(asked), Some(Told::Refused { .. })));
    cluster.run_for(seconds(1));
    for machine in [N1, N2, N3] {
        let entries = cluster.process(machine).machines[&GROUP].entries();
        for id in ["one", "two", "three"] {
            assert!(entries.contains_key(id.as_bytes()), "{machine} lacks {id}");
        }
    }
    let asked = cluster.ask(N2, GROUP, Request::RemovePeer { peer: peer(N3) });
    cluster.run_for(seconds(1));
    assert_eq!(cluster.told(asked), Some(Told::Done));
    assert_eq!(cluster.members_of(GROUP), [N1, N2]);
    // What the leader refuses, or never hears, ends as well.
    let asked = cluster.ask(N2, GROUP, Request::RemovePeer { peer: peer(N1) });
    cluster.run_for(seconds(2));
    assert_eq!(cluster.told(asked), Some(Told::Done));
    let asked = cluster.ask(N2, GROUP, Request::RemovePeer { peer: peer(N2) });
    cluster.run_for(quick_timers().lost_quorum * 2);
    assert!(matches!(cluster.told(asked), Some(Told::Refused { .. })));
    cluster.stop_clients();
    cluster.settle_soundly();
}

#[test]
fn status_and_info_tell_of_the_members() {
    let setup = Setup { timers: quick_timers(), founders: 2, ..Setup::stream(3) };
    let mut cluster = Cluster::new(20, setup);
    let leader = cluster.wait_for_leader(GROUP);
    cluster.run_for(seconds(1));
    let standing = status(&cluster, leader);
    assert!(standing.quorum_heard.is_some() && standing.leader_since.is_some());
    assert_eq!((standing.change, standing.joining), (None, None));
    let Some(Answer::Json(json)) = cluster.call(leader, GROUP, Request::Info, seconds(1)) else {
        panic!("a stream tells what it is");
    };
    let info: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let mut members = [N1, N2];
    members.sort_by_key(|machine| peer(*machine));
    let members: Vec<_> = members.iter().map(Machine::to_string).collect();
    assert_eq!(info["jetwake"]["members"], serde_json::json!(members), "by name");
    assert_eq!(info["jetwake"]["cluster_size"], 2);
    cluster.part(&[leader], &[Machine(1 - leader.0)]);
    cluster.ask(leader, GROUP, Request::RemovePeer { peer: peer(leader) });
    let change = status(&cluster, leader).change;
    assert!(change.is_some_and(|change| change > Index::ZERO));
    cluster.mend();
    cluster.settle_soundly();
}

/// Who leads is removed, and loses the record with the tail of its disk. The member that has it has
/// the longer log, and lacks what only the one who goes has.
#[test]
fn who_is_left_gets_what_it_lacks_from_who_goes() {
    let setup = Setup { timers: quick_timers(), founders: 1, ..Setup::stream(2) };
    let mut cluster = Cluster::new(21, setup);
    load(&mut cluster);
    cluster.wait_for_leader(GROUP);
    cluster.run_for(seconds(1));
    cluster.snapshot(N1, GROUP);
    cluster.run_for(milliseconds(300));
    // No catchup of a stream gets anywhere for now.
    cluster.network_mut().muted.push("$JSC.".into());
    cluster.change_members(GROUP, Change::Add(N2));
    cluster.run_for(seconds(1));
    assert_members(&cluster, &[N1, N2]);
    cluster.disk_mut(N1).slowness = 10_000;
    cluster.disk_mut(N1).conditions.crash_keeps = Some(0);
    cluster.ask(N1, GROUP, Request::RemovePeer { peer: peer(N1) });
    cluster.run_for(milliseconds(50));
    assert_eq!(status(&cluster, N2).members, peers(&[N2]), "it has the record");
    cluster.crash(N1);
    cluster.crash(N2);
    cluster.heal();
    cluster.run_for(seconds(1));
    assert_eq!(status(&cluster, N1).members, peers(&[N1, N2]), "it has lost the record");
    cluster.run_for(seconds(5));
    assert_eq!(cluster.leader(GROUP), Some(N2));
    assert!(cluster.is_well(N2, GROUP), "{}", cluster.describe_stand());
    cluster.settle_soundly();
}
