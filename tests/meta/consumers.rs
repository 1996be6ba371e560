//! What becomes of a wish for a consumer.

use jetwake::cluster::assignments::{Assignments, StreamKey};
use jetwake::cluster::consumer_check::ConsumerBounds;
use jetwake::cluster::consumer_group::wanted_peers;
use jetwake::cluster::consumer_request::{Action, ConsumerRequest, Grounds, decide};
use jetwake::cluster::inflight::{Foresight, Inflight};
use jetwake::cluster::servers::{Resources, Server, Servers};
use jetwake::ids::PeerId;
use jetwake::random::Random;
use jetwake::wire::{
    AckPolicy, ApiError, ConsumerAssignment, ConsumerConfig, DeliverPolicy, GoTime, PriorityPolicy,
    RaftGroup, RetentionPolicy, StreamAssignment, StreamConfig, StreamConsumerLimits,
};

fn id(name: &str) -> PeerId {
    PeerId::from_name(name)
}

struct Cluster {
    assignments: Assignments,
    inflight: Inflight,
    servers: Servers,
    random: Random,
    bounds: ConsumerBounds,
    leader: Option<PeerId>,
    bound: bool,
}

impl Cluster {
    /// The stream S on n1, n2 and n3, changed.
    fn new(change: impl FnOnce(&mut StreamConfig)) -> Self {
        let names = ["n1", "n2", "n3"];
        let server = |name: &str| Server {
            name: name.into(),
            resources: Some(Resources::default()),
            ..Server::default()
        };
        let mut config = StreamConfig { num_replicas: 3, ..StreamConfig::new("S", ["s.>".into()]) };
        change(&mut config);
        let peers = names[..usize::try_from(config.num_replicas).expect("three")].iter();
        let group = RaftGroup {
            name: "S-R3F-x".into(),
            peers: peers.map(|name| id(name)).collect(),
            cluster: "C".into(),
            ..RaftGroup::default()
        };
        let mut assignments = Assignments::default();
        assignments.assign_stream(StreamAssignment {
            config,
            group,
            ..StreamAssignment::default()
        });
        Self {
            assignments,
            inflight: Inflight::default(),
            servers: names.iter().map(|name| (id(name), server(name))).collect(),
            random: Random::new(1),
            bounds: ConsumerBounds::default(),
            leader: None,
            bound: false,
        }
    }

    fn ask(
        &mut self,
        action: Action,
        pedantic: bool,
        config: ConsumerConfig,
    ) -> Result<ConsumerAssignment, ApiError> {
        let request = ConsumerRequest {
            stream: key(),
            config,
            action,
            pedantic,
            client: None,
            subject: "$JS.API.CONSUMER.CREATE.S".into(),
            reply: "_INBOX.1".into(),
        };
        let foresight = Foresight { assignments: &self.assignments, inflight: &self.inflight };
        let grounds = Grounds {
            foresight,
            servers: &self.servers,
            bounds: self.bounds,
            most_replicated_assets: 0,
            leader: self.leader,
            bound: self.bound,
            now: GoTime::from_unix_nanos(1),
        };
        decide(request, grounds, &mut self.random)
    }

    fn make(&mut self, config: ConsumerConfig) -> Result<ConsumerAssignment, ApiError> {
        self.ask(Action::CreateOrUpdate, false, config)
    }

    /// Makes it, as if the proposal was applied at once.
    fn made(&mut self, config: ConsumerConfig) -> ConsumerAssignment {
        let assignment = self.make(config).expect("it may be made");
        self.assignments.assign_consumer(assignment.clone()).expect("its stream is there");
        assignment
    }
}

impl Cluster {
    fn stream_config(&self) -> StreamConfig {
        self.assignments.stream(&key()).expect("it is assigned").assignment.config.clone()
    }
}

fn key() -> StreamKey {
    StreamKey { account: String::new(), name: "S".into() }
}

fn durable(name: &str) -> ConsumerConfig {
    ConsumerConfig {
        durable_name: name.into(),
        ack_policy: AckPolicy::Explicit,
        ..ConsumerConfig::default()
    }
}

#[test]
fn what_a_client_left_out_is_filled_in() {
    let mut cluster = Cluster::new(|_| {});
    let made = cluster.make(durable("d")).expect("it may be made");
    assert_eq!(made.name, "d");
    assert_eq!(made.group.peers.len(), 3);
    assert_eq!(made.group.cluster, "C");
    assert!(made.group.preferred.is_some());
    let config = &made.config;
    assert_eq!((config.max_deliver, config.ack_wait), (-1, 30_000_000_000));
    assert_eq!((config.max_waiting, config.max_ack_pending), (512, 1000));
    assert_eq!(config.metadata["_nats.req.level"], "0");
    let pinned = ConsumerConfig {
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec!["A".into()],
        ..durable("p")
    };
    let pinned = cluster.make(pinned).expect("it may be made");
    assert_eq!(pinned.config.priority_timeout, 120_000_000_000);
    assert_eq!(pinned.config.metadata["_nats.req.level"], "1");
}

#[test]
fn a_pedantic_client_is_refused_where_its_wish_would_be_changed() {
    let mut cluster = Cluster::new(|config| {
        config.consumer_limits =
            StreamConsumerLimits { max_ack_pending: 5, ..StreamConsumerLimits::default() };
    });
    let strange = ConsumerConfig { max_waiting: -3, max_ack_pending: 1, ..durable("d") };
    let error = cluster.ask(Action::Create, true, strange.clone()).expect_err("it is pedantic");
    assert!(error.is(&ApiError::PEDANTIC));
    assert_eq!(error.description, "pedantic mode: max_waiting must not be negative");
    assert_eq!(cluster.make(strange).expect("others are helped").config.max_waiting, 512);
    let error = cluster.ask(Action::Create, true, durable("d")).expect_err("it is pedantic");
    let expected = "pedantic mode: max_ack_pending must be set if it's configured in stream limits";
    assert_eq!(error.description, expected);
}

#[test]
fn an_ephemeral_consumer_gets_a_name_that_no_other_has() {
    let mut cluster = Cluster::new(|_| {});
    let one = cluster.made(ConsumerConfig::default());
    let other = cluster.made(ConsumerConfig::default());
    assert_eq!((one.name.len(), one.group.peers.len()), (8, 1));
    assert_ne!(one.name, other.name);
    assert_eq!(one.group.preferred, Some(one.group.peers[0]));
}

#[test]
fn what_is_in_flight_counts() {
    let mut cluster = Cluster::new(|config| config.max_consumers = 1);
    let proposed = cluster.make(durable("d")).expect("it may be made");
    cluster.inflight.consumer_proposed(key(), "d".into(), Some(proposed.clone()));
    assert_eq!(cluster.make(durable("e")), Err(ApiError::MAXIMUM_CONSUMERS_LIMIT));
    // The same again changes nothing, and does not count twice.
    assert!(cluster.ask(Action::Create, false, durable("d")).is_ok());
    let other = ConsumerConfig { description: "other".into(), ..durable("d") };
    let error = cluster.ask(Action::Create, false, other);
    assert_eq!(error, Err(ApiError::CONSUMER_ALREADY_EXISTS));

    let change = cluster.assignments.assign_consumer(proposed).expect("its stream is there");
    cluster.inflight.applied(&change);
    assert!(cluster.inflight.is_empty());
    assert_eq!(cluster.make(durable("e")), Err(ApiError::MAXIMUM_CONSUMERS_LIMIT));
    cluster.inflight.consumer_proposed(key(), "d".into(), None);
    assert!(cluster.make(durable("e")).is_ok(), "its removal is in flight");
    cluster.inflight.stream_proposed(key(), None);
    assert_eq!(cluster.make(durable("e")), Err(ApiError::STREAM_NOT_FOUND));
    cluster.inflight.clear();
    assert_eq!(cluster.make(durable("e")), Err(ApiError::MAXIMUM_CONSUMERS_LIMIT));
}

#[test]
fn nobody_is_changed_who_is_not_there_or_offline() {
    let mut cluster = Cluster::new(|_| {});
    let error = cluster.ask(Action::Update, false, durable("d"));
    assert_eq!(error, Err(ApiError::CONSUMER_DOES_NOT_EXIST));
    cluster.made(durable("d"));
    for name in ["n1", "n2", "n3"] {
        cluster.servers.set_offline(id(name), true);
    }
    let error = cluster.ask(Action::Update, false, durable("d"));
    assert_eq!(error, Err(ApiError::CONSUMER_OFFLINE));
    assert_eq!(cluster.make(durable("e")), Err(ApiError::INSUFFICIENT_RESOURCES));
}

#[test]
fn a_consumer_that_is_scaled_keeps_its_leader() {
    let mut cluster = Cluster::new(|_| {});
    let made = cluster.made(ConsumerConfig { num_replicas: 1, ..durable("d") });
    let only = made.group.peers[0];
    cluster.leader = Some(only);
    let three = cluster.made(ConsumerConfig { num_replicas: 3, ..durable("d") });
    assert_eq!(three.group.peers.len(), 3);
    assert_eq!((three.group.peers[0], three.group.preferred), (only, Some(only)));
    assert!(three.group.scale_up);
    assert_eq!(three.group.name, made.group.name, "a single member of ours keeps a log, too");
    assert_eq!((three.created, three.group.resizes), (made.created, 1));

    cluster.leader = Some(three.group.peers[1]);
    cluster.servers.set_offline(three.group.peers[2], true);
    let one = cluster.made(ConsumerConfig { num_replicas: 1, ..durable("d") });
    let wanted = wanted_peers(&one, &cluster.stream_config());
    assert_eq!(wanted, [three.group.peers[1]], "who leads stays");
    assert_eq!(one.group.peers[0], three.group.peers[2], "who is offline goes first");
    assert_eq!(one.group.peers.len(), 3, "until they are let go");
    assert!(!one.group.scale_up);
    assert_eq!((&one.group.name, one.group.resizes), (&three.group.name, 2));

    // More are wanted before the others went.
    let two = cluster.made(ConsumerConfig { num_replicas: 2, ..durable("d") });
    assert_eq!((two.group.peers.len(), two.group.scale_up, two.group.resizes), (3, false, 3));
    // The end of the change before comes late.
    let late = ConsumerAssignment {
        group: RaftGroup { peers: wanted.to_vec(), ..one.group.clone() },
        ..one.clone()
    };
    assert_eq!(cluster.assignments.resize_consumer(&late), None);
    let mut done = two.clone();
    done.group.peers = wanted_peers(&two, &cluster.stream_config()).to_vec();
    assert!(cluster.assignments.resize_consumer(&done).is_some());
    let there = cluster.assignments.stream(&key()).and_then(|stream| stream.consumer("d"));
    assert_eq!(there.map(|there| &there.assignment), Some(&done));
    assert_eq!(cluster.assignments.resize_consumer(&done), None, "only once");
}

#[test]
fn each_message_of_a_work_queue_goes_to_one_consumer() {
    let mut cluster = Cluster::new(|config| config.retention = RetentionPolicy::WorkQueue);
    let silent = ConsumerConfig { ack_policy: AckPolicy::None, ..durable("d") };
    assert_eq!(cluster.make(silent), Err(ApiError::CONSUMER_PULL_REQUIRES_ACK));
    let all = ConsumerConfig { ack_policy: AckPolicy::All, ..durable("d") };
    assert_eq!(cluster.make(all), Err(ApiError::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK));
    let filtered = |name: &str, filter: &str| ConsumerConfig {
        filter_subject: filter.into(),
        ..durable(name)
    };
    cluster.made(filtered("a", "s.a.>"));
    assert_eq!(cluster.make(durable("d")), Err(ApiError::CONSUMER_WQ_MULTIPLE_UNFILTERED));
    let error = cluster.make(filtered("b", "s.*.x"));
    assert_eq!(error, Err(ApiError::CONSUMER_WQ_CONSUMER_NOT_UNIQUE));
    assert!(cluster.make(filtered("b", "s.b.>")).is_ok());
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let mut cluster = Cluster::new(|_| {});
    cluster.made(ConsumerConfig { deliver_subject: "out".into(), ..durable("d") });
    let mut refused = |config: ConsumerConfig| {
        cluster.ask(Action::Update, false, config).expect_err("it cannot be changed").description
    };
    let push = ConsumerConfig { deliver_subject: "out".into(), ..durable("d") };
    let policy = ConsumerConfig { deliver_policy: DeliverPolicy::New, ..push.clone() };
    assert_eq!(refused(policy), "deliver policy can not be updated");
    let acks = ConsumerConfig { ack_policy: AckPolicy::All, ..push.clone() };
    assert_eq!(refused(acks), "ack policy can not be updated");
    assert_eq!(refused(durable("d")), "can not update push consumer to pull based");
    cluster.bound = true;
    let elsewhere = ConsumerConfig { deliver_subject: "elsewhere".into(), ..push };
    let error = cluster.ask(Action::Update, false, elsewhere.clone());
    assert_eq!(error, Err(ApiError::CONSUMER_NAME_EXIST));
    cluster.bound = false;
    assert!(cluster.ask(Action::Update, false, elsewhere).is_ok());
}

/// One wish for each refusal, in upstream's words.
#[test]
fn refusals_are_upstreams() {
    let mut cluster = Cluster::new(|config| {
        config.consumer_limits =
            StreamConsumerLimits { inactive_threshold: 90_500_000_000, max_ack_pending: 2000 };
    });
    cluster.bounds.max_request_batch = 10;
    let base = durable("d");
    let push = ConsumerConfig { deliver_subject: "out".into(), ..base.clone() };
    for (config, code) in [
        (ConsumerConfig { num_replicas: 4, ..base.clone() }, 10126),
        (ConsumerConfig { num_replicas: -1, ..base.clone() }, 10133),
        (ConsumerConfig { backoff: vec![-1], ..base.clone() }, 10184),
        (ConsumerConfig { ack_wait: -1, ..base.clone() }, 10183),
        (ConsumerConfig { backoff: vec![1, 2], max_deliver: 1, ..base.clone() }, 10116),
        (ConsumerConfig { description: "x".repeat(4097), ..base.clone() }, 10107),
        (ConsumerConfig { deliver_subject: "a.*".into(), ..base.clone() }, 10079),
        (ConsumerConfig { deliver_subject: "a..b".into(), ..base.clone() }, 10112),
        (ConsumerConfig { deliver_subject: "s.x".into(), ..base.clone() }, 10081),
        (ConsumerConfig { max_waiting: 1, ..push.clone() }, 10080),
        (ConsumerConfig { ack_policy: AckPolicy::None, max_ack_pending: 1, ..push.clone() }, 10082),
        (ConsumerConfig { idle_heartbeat: 1, ..push.clone() }, 10083),
        (ConsumerConfig { flow_control: true, ..push.clone() }, 10108),
        (ConsumerConfig { rate_limit_bps: 1, ..base.clone() }, 10086),
        (ConsumerConfig { idle_heartbeat: 1, ..base.clone() }, 10088),
        (ConsumerConfig { flow_control: true, ..base.clone() }, 10089),
        (ConsumerConfig { max_expires: 1, ..base.clone() }, 10115),
        (ConsumerConfig { max_batch: 11, ..base.clone() }, 10125),
        (ConsumerConfig { max_ack_pending: 2001, ..base.clone() }, 10121),
        (ConsumerConfig { inactive_threshold: 90_500_000_001, ..base.clone() }, 10153),
        (ConsumerConfig { direct: true, ..base.clone() }, 10090),
        (ConsumerConfig { direct: true, ..push.clone() }, 10091),
        (
            ConsumerConfig {
                filter_subject: "s.a".into(),
                filter_subjects: vec!["s.b".into()],
                ..base.clone()
            },
            10136,
        ),
        (ConsumerConfig { filter_subject: "s..a".into(), ..base.clone() }, 10052),
        (ConsumerConfig { filter_subjects: vec!["".into()], ..base.clone() }, 10139),
        (
            ConsumerConfig { filter_subjects: vec!["s.a".into(), "s.*".into()], ..base.clone() },
            10138,
        ),
        (ConsumerConfig { opt_start_seq: 1, ..base.clone() }, 10094),
        (ConsumerConfig { deliver_policy: DeliverPolicy::LastPerSubject, ..base.clone() }, 10094),
        (ConsumerConfig { deliver_policy: DeliverPolicy::ByStartSequence, ..base.clone() }, 10094),
        (ConsumerConfig { deliver_policy: DeliverPolicy::ByStartTime, ..base.clone() }, 10094),
        (ConsumerConfig { sample_freq: "x%".into(), ..base.clone() }, 10095),
        (ConsumerConfig { name: "other".into(), ..base.clone() }, 10132),
        (
            ConsumerConfig {
                metadata: [("k".into(), "v".repeat(128 * 1024))].into(),
                ..base.clone()
            },
            10135,
        ),
        (
            ConsumerConfig {
                priority_policy: PriorityPolicy::Overflow,
                priority_groups: vec!["A".into()],
                ..push.clone()
            },
            10178,
        ),
        (ConsumerConfig { priority_policy: PriorityPolicy::Overflow, ..base.clone() }, 10159),
        (
            ConsumerConfig {
                priority_policy: PriorityPolicy::Overflow,
                priority_groups: vec!["".into()],
                ..base.clone()
            },
            10161,
        ),
        (
            ConsumerConfig {
                priority_policy: PriorityPolicy::Overflow,
                priority_groups: vec!["a b".into()],
                ..base.clone()
            },
            10162,
        ),
        (ConsumerConfig { priority_groups: vec!["A".into()], ..base.clone() }, 10196),
        (ConsumerConfig { priority_timeout: 1, ..base.clone() }, 10197),
    ] {
        let error = cluster.make(config.clone()).expect_err("it is refused");
        assert_eq!(error.err_code, code, "{config:?}: {error}");
        if code == 10153 {
            let expected = "consumer inactive threshold exceeds system limit of 1m30.5s";
            assert_eq!(error.description, expected);
        }
    }
    let mut interest = Cluster::new(|config| config.retention = RetentionPolicy::Interest);
    let fewer = ConsumerConfig { num_replicas: 1, ..base };
    assert_eq!(interest.make(fewer), Err(ApiError::CONSUMER_REPLICAS_SHOULD_MATCH_STREAM));
}
