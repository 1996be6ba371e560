//! Where replicas go.

use jetwake::cluster::assignments::Assignments;
use jetwake::cluster::consumer_group::{create_group_for_consumer, replicas};
use jetwake::cluster::placement::{Field, NoPlace, Wanted, preferred, select_peers};
use jetwake::cluster::servers::{Resources, Server, Servers};
use jetwake::ids::{ByteCount, PeerId};
use jetwake::random::Random;
use jetwake::wire::{
    ConsumerConfig, Placement, RaftGroup, RetentionPolicy, StorageType, StreamAssignment,
    StreamConfig,
};

const GIB: u64 = 1 << 30;

fn id(name: &str) -> PeerId {
    PeerId::from_name(name)
}

/// Five servers of the cluster C, n1 to n5, with a zone each and a GiB more of disk each.
fn servers() -> Servers {
    (1..=5_u64)
        .map(|n| {
            let server = Server {
                name: format!("n{n}"),
                cluster: "C".into(),
                offline: false,
                tags: vec![format!("az:{}", n.min(4)), "cloud:aws".into()],
                resources: Some(Resources {
                    memory: ByteCount::new(GIB),
                    disk: ByteCount::new(n * GIB),
                    replicated_assets: 0,
                }),
            };
            (id(&server.name), server)
        })
        .collect()
}

fn changed(name: &str, change: impl FnOnce(&mut Server)) -> Servers {
    let mut servers = servers();
    let mut server = servers.get(&id(name)).expect("one of the five").clone();
    change(&mut server);
    servers.heard(id(name), server);
    servers
}

fn stream(replicas: i64) -> StreamConfig {
    StreamConfig { num_replicas: replicas, ..StreamConfig::new("S", ["s".into()]) }
}

fn place(
    servers: &Servers,
    config: &StreamConfig,
    unique_tag: &str,
    existing: &[PeerId],
    ignored: &[PeerId],
) -> Result<Vec<String>, NoPlace> {
    place_with(servers, &Assignments::default(), config, unique_tag, existing, ignored)
}

fn place_with(
    servers: &Servers,
    assignments: &Assignments,
    config: &StreamConfig,
    unique_tag: &str,
    existing: &[PeerId],
    ignored: &[PeerId],
) -> Result<Vec<String>, NoPlace> {
    let members: Vec<_> = servers.iter().map(|(peer, _)| peer).collect();
    let field =
        Field { members: &members, servers, assignments, unique_tag, most_replicated_assets: 10 };
    let wanted = Wanted {
        replicas: usize::try_from(config.num_replicas).expect("not many"),
        cluster: "C",
        config,
        existing,
        replaced: 0,
        ignored,
    };
    let chosen = select_peers(field, wanted, &mut Random::new(7))?;
    let name = |peer: &PeerId| servers.get(peer).expect("one of the five").name.clone();
    Ok(chosen.iter().map(name).collect())
}

#[test]
fn those_with_most_room_come_first() {
    assert_eq!(place(&servers(), &stream(3), "", &[], &[]).expect("room"), ["n5", "n4", "n3"]);
    assert_eq!(place(&servers(), &stream(1), "", &[], &[]).expect("room"), ["n5"]);
}

#[test]
fn those_with_fewer_replicated_streams_come_before_those_with_more_room() {
    let mut assignments = Assignments::default();
    let peers = ["n5", "n4", "n3"].map(id).to_vec();
    let group = RaftGroup { name: "S-R3F-a".into(), peers, ..RaftGroup::default() };
    let config = stream(3);
    assignments.assign_stream(StreamAssignment { config, group, ..StreamAssignment::default() });
    let chosen = place_with(&servers(), &assignments, &stream(3), "", &[], &[]).expect("room");
    assert_eq!(chosen, ["n2", "n1", "n5"]);
    // A single replica goes where there is room.
    let chosen = place_with(&servers(), &assignments, &stream(1), "", &[], &[]).expect("room");
    assert_eq!(chosen, ["n5"]);
}

#[test]
fn who_stays_comes_first_and_who_is_ignored_does_not_come() {
    let chosen = place(&servers(), &stream(3), "", &[id("n1")], &[id("n5")]).expect("room");
    assert_eq!(chosen, ["n1", "n4", "n3"]);
    let stay = ["n1", "n2", "n3"].map(id);
    assert_eq!(place(&servers(), &stream(1), "", &stay, &[]).expect("room"), ["n1"]);
}

#[test]
fn offline_servers_come_last_and_never_make_the_quorum() {
    let mut servers = servers();
    servers.set_offline(id("n5"), true);
    assert_eq!(place(&servers, &stream(3), "", &[], &[]).expect("room"), ["n4", "n3", "n2"]);
    assert_eq!(place(&servers, &stream(5), "", &[], &[]).expect("room")[4], "n5");
    for name in ["n4", "n3"] {
        servers.set_offline(id(name), true);
    }
    let error = place(&servers, &stream(5), "", &[], &[]).expect_err("two of five are online");
    assert_eq!(error.to_string(), "no suitable peers for placement, peer offline");
}

#[test]
fn tags_choose_and_exclude() {
    let placed = |tags: &[&str]| StreamConfig {
        placement: Some(Placement {
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
            ..Placement::default()
        }),
        ..stream(1)
    };
    assert_eq!(place(&servers(), &placed(&["AZ:2"]), "", &[], &[]).expect("n2 has it"), ["n2"]);
    assert_eq!(place(&servers(), &placed(&["!az:4"]), "", &[], &[]).expect("n3 is left"), ["n3"]);
    let none = place(&servers(), &placed(&["az:9"]), "", &[], &[]).expect_err("nobody has it");
    assert_eq!(none.to_string(), "no suitable peers for placement, tags not matched ['az:9']");
    let none = place(&servers(), &placed(&["!cloud:aws"]), "", &[], &[]).expect_err("all have it");
    assert_eq!(none.to_string(), "no suitable peers for placement, tags excluded ['cloud:aws']");
    let servers = changed("n5", |server| server.tags.push("!jetstream".into()));
    assert_eq!(place(&servers, &stream(1), "", &[], &[]).expect("n4 is left"), ["n4"]);
}

#[test]
fn replicas_differ_in_the_unique_tag() {
    // n4 and n5 share a zone.
    let chosen = place(&servers(), &stream(4), "az:", &[], &[]).expect("four zones");
    assert_eq!(chosen.len(), 4);
    assert!(chosen.contains(&"n4".into()) != chosen.contains(&"n5".into()));
    let error = place(&servers(), &stream(5), "az:", &[], &[]).expect_err("four zones for five");
    assert_eq!(error.to_string(), "no suitable peers for placement, server tag not unique");
    let chosen = place(&servers(), &stream(3), "az:", &[id("n4")], &[]).expect("others");
    assert!(!chosen.contains(&"n5".into()), "{chosen:?}");
}

#[test]
fn nobody_is_asked_for_more_than_there_is() {
    let large = StreamConfig { max_bytes: 4 << 30, ..stream(1) };
    assert_eq!(place(&servers(), &large, "", &[], &[]).expect("n5 and n4 have it"), ["n5"]);
    let replicated = StreamConfig { num_replicas: 3, ..large.clone() };
    let error = place(&servers(), &replicated, "", &[], &[]).expect_err("only two have it");
    assert_eq!(error.to_string(), "no suitable peers for placement, insufficient storage");
    let memory = StreamConfig { storage: StorageType::Memory, ..large };
    assert!(place(&servers(), &memory, "", &[], &[]).is_err());
    let busy = changed("n5", |server| {
        server.resources.as_mut().expect("it told").replicated_assets = 11;
    });
    assert_eq!(place(&busy, &stream(1), "", &[], &[]).expect("n4 is left"), ["n4"]);
    let silent = changed("n5", |server| server.resources = None);
    assert_eq!(place(&silent, &stream(1), "", &[], &[]).expect("n4 is left"), ["n4"]);
    let elsewhere = changed("n5", |server| server.cluster = "D".into());
    assert_eq!(place(&elsewhere, &stream(1), "", &[], &[]).expect("n4 is left"), ["n4"]);
}

#[test]
fn the_seed_decides_between_equals() {
    let equal: Servers = servers()
        .iter()
        .map(|(peer, server)| {
            let mut server = server.clone();
            server.resources.as_mut().expect("it told").disk = ByteCount::new(GIB);
            (peer, server)
        })
        .collect();
    let members: Vec<_> = equal.iter().map(|(peer, _)| peer).collect();
    let assignments = Assignments::default();
    let config = stream(1);
    let field = Field {
        members: &members,
        servers: &equal,
        assignments: &assignments,
        unique_tag: "",
        most_replicated_assets: 0,
    };
    let wanted = Wanted {
        replicas: 1,
        cluster: "C",
        config: &config,
        existing: &[],
        replaced: 0,
        ignored: &[],
    };
    let draw = |seed| select_peers(field, wanted, &mut Random::new(seed)).expect("room");
    assert_eq!(draw(3), draw(3));
    let drawn: std::collections::BTreeSet<_> = (0..100).map(draw).collect();
    assert_eq!(drawn.len(), 5);
}

#[test]
fn who_should_lead_is_online() {
    let mut servers = servers();
    let peers = ["n1", "n2", "n3"].map(id);
    servers.set_offline(id("n1"), true);
    servers.set_offline(id("n3"), true);
    let mut random = Random::new(1);
    assert_eq!(preferred(&peers, &servers, &mut random), Some(id("n2")));
    assert_eq!(preferred(&peers[..1], &servers, &mut random), Some(id("n1")));
    assert_eq!(preferred(&[], &servers, &mut random), None);
    servers.set_offline(id("n2"), true);
    assert!(preferred(&peers, &servers, &mut random).is_some());
}

fn group_of(names: &[&str]) -> RaftGroup {
    RaftGroup {
        name: "S-R3F-x".into(),
        peers: names.iter().map(|name| id(name)).collect(),
        ..RaftGroup::default()
    }
}

#[test]
fn a_consumer_is_on_servers_of_its_stream() {
    let mut servers = servers();
    let stream = stream(3);
    let group = group_of(&["n1", "n2", "n3"]);
    let mut random = Random::new(1);
    let mut made = |config: &ConsumerConfig, servers: &Servers| {
        create_group_for_consumer(config, &stream, &group, servers, &mut random)
    };
    let durable = ConsumerConfig { durable_name: "d".into(), ..ConsumerConfig::default() };
    let all = made(&durable, &servers).expect("three are online");
    assert_eq!(all.peers, group.peers);
    assert!(all.name.starts_with("C-R3F-") && all.name.len() == 14, "{}", all.name);
    // One that does not say and is not durable has one replica.
    let one = made(&ConsumerConfig::default(), &servers).expect("one is online");
    assert_eq!(one.peers.len(), 1);
    let memory = ConsumerConfig { mem_storage: true, num_replicas: 1, ..durable.clone() };
    let memory = made(&memory, &servers).expect("one is online");
    assert!(memory.name.starts_with("C-R1M-"), "{}", memory.name);
    assert_eq!(memory.storage, StorageType::Memory);

    servers.set_offline(id("n1"), true);
    assert_eq!(made(&durable, &servers).expect("two are a quorum").peers, group.peers);
    servers.set_offline(id("n3"), true);
    assert_eq!(made(&durable, &servers), None, "one of three is no quorum");
    for _ in 0..10 {
        let one = made(&ConsumerConfig::default(), &servers).expect("n2 is online");
        assert_eq!(one.peers, [id("n2")]);
    }
    let more = ConsumerConfig { num_replicas: 5, ..durable };
    assert_eq!(made(&more, &servers), None, "the stream has three");
}

#[test]
fn how_many_replicas_a_consumer_has() {
    let limits = stream(3);
    let interest = StreamConfig { retention: RetentionPolicy::Interest, ..stream(3) };
    let durable = |count| ConsumerConfig {
        durable_name: "d".into(),
        num_replicas: count,
        ..ConsumerConfig::default()
    };
    let ephemeral = |count| ConsumerConfig { num_replicas: count, ..ConsumerConfig::default() };
    for (config, stream, expected) in [
        (durable(0), &limits, 3),
        (durable(1), &limits, 1),
        (durable(5), &limits, 3),
        (ephemeral(0), &limits, 1),
        (ephemeral(2), &limits, 2),
        (ephemeral(0), &interest, 3),
    ] {
        assert_eq!(replicas(&config, stream), expected, "{config:?}");
    }
}
