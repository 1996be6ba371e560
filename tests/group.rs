//! What a plain group tells people and its machine: its health and sizes, that a snapshot is wanted,
//! and what became of a leader whose disk or machine fails. One real node, whose peers, disk and clock
//! are the test's.

use bytes::Bytes;
use jetwake::command::{Answer, CheckpointNews, Command, Report, Role, SnapshotRefusal};
use jetwake::config::GroupKind;
use jetwake::event::{CheckpointStep, Event, MachineSays, Opened, Request};
use jetwake::ids::{ByteCount, GroupId, Index, PeerId};
use jetwake::node::Node;
use jetwake::raft::Health;
use jetwake::stream::sync_subject;
use jetwake::subject::Subject;
use jetwake::time::{Duration, Time};
use jetwake::wire::{EntryKind, StreamConfig};
use jetwake_sim::lone::{Append, Lone, LoneDisk, config};

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A leader whose followers `n2` and `n3` have one record and none.
fn leader() -> Lone {
    let mut node = Lone::plain(&MEMBERS);
    node.elect(&["n2"]);
    node.acknowledge("n2", node.status().term.get(), 1);
    node.acknowledge("n3", 0, 0);
    assert_eq!(node.health(), Health::Healthy);
    node
}

/// The follower that a leader asked to lead, by a message to all.
fn heir(node: &mut Lone) -> Option<PeerId> {
    let transfers = node.appends().into_iter().flat_map(|append| {
        let parts = append.entries.iter().filter(|part| part.kind == EntryKind::LeaderTransfer);
        parts.map(|part| part.data).collect::<Vec<_>>()
    });
    let heirs: Vec<_> = transfers.collect();
    assert!(heirs.len() <= 1, "{heirs:?}");
    heirs.first().map(|heir| PeerId::from_wire(heir[..].try_into().unwrap()).unwrap())
}

#[test]
fn a_leader_whose_disk_fails_acknowledges_nothing_and_hands_over_at_once() {
    let mut node = leader();
    node.sent();
    node.disk.fail_writes = true;
    let asked = node.propose("lost or not");
    assert_eq!(heir(&mut node), Some(PeerId::from_name("n2")), "who has most");
    let handed_over = Report::HandedOver { to: PeerId::from_name("n2") };
    let told = node.reports();
    assert!(told.contains(&handed_over), "{told:?}");
    let Some(Answer::Json(json)) = node.answer_to(asked) else { panic!("the client hears of it") };
    let json = std::str::from_utf8(json).unwrap();
    assert!(json.contains("\"error\""), "nobody knows whether it is committed: {json}");
    // The record reaches a quorum all the same; that is another leader's to say.
    node.acknowledge("n2", node.status().term.get(), 2);
    node.acknowledge("n3", node.status().term.get(), 2);
    assert_eq!(node.status().commit, Index::new(1));
    node.wait(seconds(60));
    assert_eq!(node.sent(), [], "it neither leads, votes nor asks for votes");
    assert!(node.health().to_string().contains("the lone disk does not write"));
}

#[test]
fn a_leader_whose_machine_pauses_hands_over_and_does_not_lead_before_it_goes_on() {
    let mut node = leader();
    node.sent();
    node.machine_says(MachineSays::Paused);
    assert_eq!(heir(&mut node), Some(PeerId::from_name("n2")));
    assert_eq!(node.status().role, Some(Role::Follower));
    node.wait(seconds(60));
    assert_eq!(node.status().role, Some(Role::Follower), "it does not ask for votes");
    assert!(matches!(node.health(), Health::NoLeader { silent } if silent >= seconds(60)));
    node.machine_says(MachineSays::Resumed);
    node.elect(&["n3"]);

    let mut alone = Lone::plain(&["n1"]);
    alone.elect(&[]);
    alone.machine_says(MachineSays::Paused);
    alone.wait(seconds(60));
    assert_eq!(alone.status().role, Some(Role::Follower));
    alone.machine_says(MachineSays::Resumed);
    alone.wait(Duration::ZERO);
    assert_eq!(alone.status().role, Some(Role::Leader), "there is nobody to wait for");
}

#[test]
fn health_names_what_is_wrong() {
    let mut node = leader();
    node.wait(seconds(3));
    assert!(matches!(node.health(), Health::NoQuorum { silent } if silent >= seconds(2)));
    node.wait(seconds(9));
    assert!(matches!(node.health(), Health::NoLeader { .. }));

    let mut node = Lone::plain(&MEMBERS);
    node.hear(&Append::by("n2", 1).commit(1).entry("a"));
    assert_eq!(node.health(), Health::Healthy);
    node.wait(Duration::from_millis(2_500));
    assert_eq!(node.health().to_string(), "the leader is silent for 2 s");
    node.wait(seconds(20));
    let Health::NoLeader { silent } = node.health() else { panic!("{}", node.health()) };
    assert_eq!(silent, Duration::from_millis(22_500), "since it was last heard");
}

#[test]
fn a_plain_group_describes_itself() {
    let mut node = leader();
    let asked = node.request(Request::Info);
    let Some(Answer::Json(json)) = node.answer_to(asked) else { panic!("it answers") };
    let info: serde_json::Value = serde_json::from_slice(json).unwrap();
    let text = |path: &str| info.pointer(path).cloned().unwrap_or_default();
    assert_eq!(text("/cluster/leader"), "n1");
    assert_eq!(text("/cluster/replicas/0/name"), "n2");
    assert_eq!(text("/jetwake/role"), "leader");
    assert_eq!(text("/jetwake/health"), "healthy");
    assert_eq!(text("/jetwake/healthy"), true);
    assert_eq!(text("/jetwake/log/records"), 1);
    assert_eq!(text("/jetwake/applied"), 1);
    assert_eq!(text("/jetwake/snapshot"), serde_json::Value::Null);
}

#[test]
fn a_machine_is_asked_for_a_snapshot_once_the_log_has_grown() {
    let mut config = config(&MEMBERS, GroupKind::Plain);
    let one = Append::by("n2", 1).commit(1).entry("a").to_bytes().len() as u64;
    config.limits.log_before_snapshot = ByteCount::new(3 * one);
    let mut node = Lone::start(config, LoneDisk::default());
    let mut wanted = Vec::new();
    for index in 0..8 {
        let append = Append::by("n2", 1).after(u64::from(index > 0), index).commit(index + 1);
        node.hear(&append.entry("a"));
        wanted.extend(node.news().iter().map(|news| match news {
            CheckpointNews::Wanted { frees } => (index + 1, frees.records),
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(wanted, [(3, 3), (6, 6)], "and again when it has grown by as much");
    node.take_snapshot(8, "state");
    node.hear(&Append::by("n2", 1).after(1, 8).commit(9).entry("a"));
    assert_eq!(node.news(), []);
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let mut config = config(&MEMBERS, GroupKind::Plain);
    config.limits.snapshot = ByteCount::new(100);
    config.limits.snapshot_file = ByteCount::new(100);
    let mut node = Lone::start(config, LoneDisk::default());
    node.hear(&Append::by("n2", 1).commit(1).entry("a"));
    let allowed = "0123456789".repeat(10);
    let mut largest = 0;
    for length in 0..=allowed.len() {
        let data = Bytes::from(allowed[..length].to_owned());
        let [CheckpointNews::Begun { id, .. }] =
            node.checkpoint(CheckpointStep::Begin { force: false })[..]
        else {
            break;
        };
        let told = node.checkpoint(CheckpointStep::Write { id, part: data });
        if let [CheckpointNews::Ended { why: SnapshotRefusal::TooLarge { limit, found }, .. }] =
            told[..]
        {
            assert_eq!((limit, found), (largest, length as u64));
            break;
        }
        largest = length as u64;
        node.checkpoint(CheckpointStep::Abandon(id));
    }
    assert!((1..100).contains(&largest), "{largest}");
    let data = Bytes::from(allowed[..largest as usize].to_owned());
    let told = node.checkpoint(CheckpointStep::Begin { force: false });
    let [CheckpointNews::Begun { id, .. }] = told[..] else { panic!("{told:?}") };
    node.checkpoint(CheckpointStep::Write { id, part: data });
    let told = node.checkpoint(CheckpointStep::Finish(id));
    assert!(matches!(told[..], [CheckpointNews::Durable { .. }]), "{told:?}");
    let file = node.disk.durable_log().snapshot().expect("it was written").file.len();
    assert_eq!(file, 100, "to the last byte that may be read again");
    node.restart();
    assert_eq!(node.status().snapshot.map(|at| at.index), Some(Index::new(1)));
    assert_eq!(node.status().aside, None);
}

#[test]
fn a_stream_that_others_made_is_asked_for_where_they_say() {
    let stream = StreamConfig::new("S".to_owned(), vec!["s".to_owned()]);
    let mut node = Node::new(config(&MEMBERS, GroupKind::Stream(stream))).expect("it works");
    let sync = Subject::from_static("$JSC.SYNC.abcdefgh");
    let (group, now) = (GroupId(0), Time::ZERO);
    node.handle(now, Event::Assigned { group, sync: sync.clone() });
    node.handle(now, Event::Opened { group, disk: Opened::default() });
    let asked: Vec<_> = std::iter::from_fn(|| node.poll()).collect();
    let listens = |to: &Subject| asked.contains(&Command::Subscribe(to.clone()));
    assert!(listens(&sync), "{asked:?}");
    assert!(!listens(&sync_subject(&node.config().groups[0].name)), "{asked:?}");
}
