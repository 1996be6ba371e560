//! Whatever is written as JSON is read back, with every number at its edges and every text.

use bytes::{Bytes, BytesMut};
use jetwake::ids::{ByteCount, Index, PeerId, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{
    AckPolicy, ApiError, ClientInfo, ClusterInfo, ConsumerAssignment, ConsumerConfig,
    ConsumerState, DeleteRange, DeliverPolicy, DiscardPolicy, GoTime, LegacyStreamState,
    LostMessages, MessageDelete, PeerInfo, Pending, PersistMode, Placement, PriorityPolicy,
    PublishAckResponse, PublishAckTemplate, PurgeRequest, RaftGroup, Republish, RetentionPolicy,
    SequencePair, StorageType, StoreCompression, StreamAssignment, StreamConfig, StreamInfo,
    StreamInfoState, StreamPurge, StreamSource, SubjectTransform, SyncRequest, WireError,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z.*>]{1,12}",
        any::<String>(),
        select(&["<>&\u{2028}\u{2029}", "\0\u{1f}\u{7f}\"\\", "\u{ffff}\u{10ffff}"][..])
            .prop_map(str::to_owned),
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![select(&[0, 1, i64::MAX as u64, u64::MAX][..]), any::<u64>()]
}

fn signed() -> impl Strategy<Value = i64> {
    prop_oneof![select(&[0, 1, -1, i64::MIN, i64::MAX][..]), any::<i64>()]
}

fn time() -> impl Strategy<Value = GoTime> {
    let parsed = |text: &&str| GoTime::parse(text).expect("a time");
    prop_oneof![
        Just(GoTime::ZERO),
        signed().prop_map(GoTime::from_unix_nanos),
        select(&["9999-12-31T23:59:59.1-23:59", "0000-01-01T00:00:00.000000001+23:59"][..])
            .prop_map(move |text| parsed(&text)),
    ]
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<String>().prop_map(|name| PeerId::from_name(&name))
}

fn metadata() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

prop_compose! {
    fn transform()(src in text(), dest in text()) -> SubjectTransform {
        SubjectTransform { src, dest }
    }
}

prop_compose! {
    fn source()(
        name in text(),
        opt_start_seq in number(),
        opt_start_time in option::of(time()),
        subject_transforms in vec(transform(), 0..2),
    ) -> StreamSource {
        let filter_subject = name.clone();
        let external = None;
        StreamSource { name, opt_start_seq, opt_start_time, filter_subject, subject_transforms, external }
    }
}

prop_compose! {
    fn stream_config()(
        (name, description, subjects) in (text(), text(), texts()),
        (max_consumers, max_msgs, max_bytes, max_age) in (signed(), signed(), signed(), signed()),
        (max_msgs_per_subject, max_msg_size, duplicate_window) in (signed(), any::<i32>(), signed()),
        (retention, discard) in (
            select(&[RetentionPolicy::Limits, RetentionPolicy::Interest, RetentionPolicy::WorkQueue][..]),
            select(&[DiscardPolicy::Old, DiscardPolicy::New][..]),
        ),
        (storage, compression, persist_mode) in (
            select(&[StorageType::File, StorageType::Memory][..]),
            select(&[StoreCompression::None, StoreCompression::S2][..]),
            select(&[PersistMode::Default, PersistMode::Async][..]),
        ),
        placement in option::of((text(), texts(), text()).prop_map(|(cluster, tags, preferred)| {
            Placement { cluster, tags, preferred }
        })),
        (mirror, sources) in (option::of(source()), vec(source(), 0..2)),
        (subject_transform, republish) in (option::of(transform()), option::of(transform())),
        (no_ack, allow_direct, sealed, allow_msg_ttl) in any::<(bool, bool, bool, bool)>(),
        (first_seq, num_replicas, metadata) in (number(), signed(), metadata()),
    ) -> StreamConfig {
        StreamConfig {
            name, description, subjects, retention, max_consumers, max_msgs, max_bytes, max_age,
            max_msgs_per_subject, max_msg_size, discard, storage, num_replicas, no_ack,
            duplicate_window, placement, mirror, sources, compression, first_seq, subject_transform,
            republish: republish.map(|it| Republish { src: it.src, dest: it.dest, headers_only: no_ack }),
            allow_direct, sealed, allow_msg_ttl, persist_mode, metadata,
            ..StreamConfig::default()
        }
    }
}

prop_compose! {
    fn consumer_config()(
        (durable_name, name, filter_subjects) in (text(), text(), texts()),
        deliver_policy in select(&[
            DeliverPolicy::All, DeliverPolicy::Last, DeliverPolicy::New,
            DeliverPolicy::ByStartSequence, DeliverPolicy::ByStartTime, DeliverPolicy::LastPerSubject,
        ][..]),
        ack_policy in select(&[AckPolicy::None, AckPolicy::All, AckPolicy::Explicit][..]),
        priority_policy in select(&[
            PriorityPolicy::None, PriorityPolicy::Overflow, PriorityPolicy::PinnedClient,
            PriorityPolicy::Prioritized,
        ][..]),
        (ack_wait, max_deliver, backoff) in (signed(), signed(), vec(signed(), 0..3)),
        (opt_start_time, pause_until) in (option::of(time()), option::of(time())),
        (rate_limit_bps, metadata) in (number(), metadata()),
    ) -> ConsumerConfig {
        ConsumerConfig {
            durable_name, name, deliver_policy, opt_start_time, ack_policy, ack_wait, max_deliver,
            backoff, filter_subjects, rate_limit_bps, metadata, pause_until, priority_policy,
            ..ConsumerConfig::default()
        }
    }
}

prop_compose! {
    fn client()(
        start in option::of(time()),
        id in number(),
        round_trip in signed(),
        (account, service, tags) in (text(), text(), texts()),
    ) -> ClientInfo {
        ClientInfo { start, id, account, service, round_trip, tags, ..ClientInfo::default() }
    }
}

prop_compose! {
    fn group()(
        (name, cluster) in (text(), text()),
        peers in vec(peer(), 0..4),
        preferred in option::of(peer()),
        scale_up in any::<bool>(),
        resizes in number(),
    ) -> RaftGroup {
        RaftGroup { name, peers, storage: StorageType::Memory, cluster, preferred, scale_up, resizes }
    }
}

prop_compose! {
    fn info_state()(
        (messages, bytes, first_seq, last_seq) in (number(), number(), number(), number()),
        (first_ts, last_ts) in (time(), time()),
        subjects in btree_map(text(), number(), 0..3),
        deleted in vec(number(), 0..4),
        lost in option::of((vec(number(), 0..2), number())),
    ) -> StreamInfoState {
        StreamInfoState {
            messages, bytes, first_seq, first_ts, last_seq, last_ts, subjects, deleted,
            lost: lost.map(|(messages, bytes)| LostMessages { messages, bytes }),
            ..StreamInfoState::default()
        }
    }
}

prop_compose! {
    fn consumer_state()(
        pairs in any::<[u64; 4]>(),
        pending in btree_map(number(), (number(), signed()), 0..5),
        redelivered in btree_map(number(), number(), 0..5),
    ) -> ConsumerState {
        let pair = |consumer: usize, stream: usize| SequencePair {
            consumer: Sequence::new(pairs[consumer]),
            stream: Sequence::new(pairs[stream]),
        };
        let waiting = |(key, (sequence, timestamp))| {
            (Sequence::new(key), Pending { sequence: Sequence::new(sequence), timestamp })
        };
        ConsumerState {
            delivered: pair(0, 1),
            ack_floor: pair(2, 3),
            pending: pending.into_iter().map(waiting).collect(),
            redelivered: redelivered.into_iter().map(|(key, n)| (Sequence::new(key), n)).collect(),
        }
    }
}

/// That a value's bytes are read as the value, and need no more room than JSON has.
fn returns<T: PartialEq + std::fmt::Debug>(
    value: T,
    bytes: &Bytes,
    decode: fn(&Bytes, &Limits) -> Result<T, WireError>,
) -> Result<(), TestCaseError> {
    prop_assert!(!bytes.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')));
    prop_assert_eq!(decode(bytes, &Limits::default()), Ok(value));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sync_requests(
        peer in option::of(peer()), first in number(), last in number(), min in number(),
        delete_ranges in any::<bool>(), state in any::<bool>(), of in option::of(peer()),
    ) {
        let (first, last) = (Sequence::new(first), Sequence::new(last));
        let min_applied = Index::new(min);
        let value = SyncRequest { peer, first, last, delete_ranges, min_applied, state, of };
        let bytes = value.to_bytes();
        returns(value, &bytes, SyncRequest::decode)?;
    }

    #[test]
    fn delete_ranges(first in number(), count in number()) {
        let value = DeleteRange { first: Sequence::new(first), count };
        let bytes = value.to_bytes();
        let decoded = DeleteRange::decode(&bytes, &Limits::default());
        if (first, count) == (0, 0) {
            prop_assert_eq!(decoded, Ok(value));
        } else if first == 0 || count == 0 || first.checked_add(count).is_none() {
            prop_assert!(decoded.is_err());
            prop_assert_eq!(value.last(), if first == 0 && count > 0 {
                Some(Sequence::new(count - 1))
            } else {
                None
            });
        } else {
            prop_assert_eq!(decoded, Ok(value));
        }
    }

    #[test]
    fn purges_and_deletes(
        client in option::of(client()), stream in text(), sequence in number(), subject in text(),
        request in option::of((number(), text(), number())), no_erase in any::<bool>(),
    ) {
        let sequence = Sequence::new(sequence);
        let request = request.map(|(before, filter, keep)| {
            PurgeRequest { before: Sequence::new(before), filter, keep }
        });
        let reply = stream.clone();
        let delete = MessageDelete {
            client: client.clone(), stream: stream.clone(), sequence, no_erase,
            subject: subject.clone(), reply: reply.clone(),
        };
        let bytes = delete.to_bytes();
        returns(delete, &bytes, MessageDelete::decode)?;
        let purge = StreamPurge { client, stream, last: sequence, subject, reply, request };
        let bytes = purge.to_bytes();
        returns(purge, &bytes, StreamPurge::decode)?;
    }

    #[test]
    fn stream_configs(value in stream_config()) {
        let bytes = value.to_bytes();
        let binary = postcard::to_allocvec(&value).expect("fits memory");
        prop_assert_eq!(&postcard::from_bytes::<StreamConfig>(&binary).expect("ours"), &value);
        returns(value, &bytes, StreamConfig::decode)?;
    }

    #[test]
    fn consumer_configs(value in consumer_config()) {
        let bytes = value.to_bytes();
        returns(value, &bytes, ConsumerConfig::decode)?;
    }

    #[test]
    fn stream_assignments(
        client in option::of(client()), created in time(), mut config in stream_config(),
        group in group(), (sync, subject, reply) in (text(), text(), text()),
        restore in option::of(info_state()),
    ) {
        if config.mirror.is_some() {
            config.duplicate_window = 0;
        }
        config.metadata.remove("_nats.req.level");
        let value = StreamAssignment {
            client, created, config, group, sync, subject, reply, restore, unsupported: None,
        };
        let bytes = value.encode_update();
        returns(value, &bytes, StreamAssignment::decode)?;
    }

    #[test]
    fn consumer_assignments(
        client in option::of(client()), created in time(), config in consumer_config(),
        group in group(), (name, stream, subject, reply) in (text(), text(), text(), text()),
        state in option::of(consumer_state()),
    ) {
        let value = ConsumerAssignment {
            client, created, name, stream, config, group, subject, reply, state, unsupported: None,
        };
        let bytes = value.encode_assign();
        let compressed = value.encode_assign_compressed();
        let decoded = ConsumerAssignment::decode(&compressed, &Limits::default());
        prop_assert_eq!(decoded.as_ref(), Ok(&value));
        returns(value, &bytes, ConsumerAssignment::decode)?;
    }

    #[test]
    fn infos(
        config in stream_config(), created in time(), state in info_state(), domain in text(),
        replicas in vec((text(), any::<bool>(), signed(), number(), option::of(peer())), 0..3),
        leader_since in option::of(time()),
    ) {
        let replicas = replicas.into_iter().map(|(name, current, active, lag, peer)| {
            PeerInfo { name, current, offline: !current, active, lag, peer }
        });
        let cluster = ClusterInfo {
            name: domain.clone(), leader_since, replicas: replicas.collect(),
            ..ClusterInfo::default()
        };
        let bytes = cluster.to_bytes();
        returns(cluster.clone(), &bytes, ClusterInfo::decode)?;
        let cluster = Some(cluster);
        let info = StreamInfo { config, created, state, domain, cluster, ..StreamInfo::default() };
        let bytes = info.to_bytes();
        returns(info, &bytes, StreamInfo::decode)?;
    }

    #[test]
    fn legacy_states(
        counts in any::<[u64; 5]>(), deleted in vec(number(), 0..50),
    ) {
        let [messages, size, first, last, failed] = counts;
        let value = LegacyStreamState {
            messages, bytes: ByteCount::new(size), first: Sequence::new(first),
            last: Sequence::new(last), failed,
            deleted: deleted.into_iter().map(Sequence::new).collect(),
        };
        let bytes = value.to_bytes();
        returns(value, &bytes, LegacyStreamState::decode)?;
    }

    #[test]
    fn acknowledgements(
        stream in text(), domain in option::of(text()), sequence in number(), batch in text(),
        size in number(),
    ) {
        let template = PublishAckTemplate::new(&stream, domain.as_deref());
        let mut out = BytesMut::new();
        template.batch(Sequence::new(sequence), &batch, size, &mut out);
        let read = PublishAckResponse::decode(&out.freeze(), &Limits::default()).expect("JSON");
        let ack = read.ack.expect("an acknowledgement");
        prop_assert_eq!(ack.stream, stream.clone());
        prop_assert_eq!(ack.domain, domain.unwrap_or_default());
        prop_assert_eq!((ack.sequence.get(), ack.batch_size), (sequence, size));
        prop_assert_eq!(ack.batch_id, batch.clone());
        let error = ApiError::STREAM_GENERAL.with(&[("err", &batch)]);
        let mut out = BytesMut::new();
        template.error(&error, &mut out);
        let response = PublishAckResponse::error(stream, error);
        prop_assert_eq!(&out.freeze(), &response.to_bytes());
        let bytes = response.to_bytes();
        returns(response, &bytes, PublishAckResponse::decode)?;
    }

    #[test]
    fn times(nanos in any::<i64>()) {
        let time = GoTime::from_unix_nanos(nanos);
        prop_assert_eq!(GoTime::parse(&time.to_string()), Ok(time));
        prop_assert_eq!(time.unix_nanos(), Some(nanos));
    }
}
