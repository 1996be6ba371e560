//! What is encoded decodes to the same, at the edges of every field.

#[path = "golden/mod.rs"]
mod golden;

use bytes::{Bytes, BytesMut};
use golden::vectors;
use jetwake::ids::{ByteCount, GroupName, Index, PeerId, Sequence, Term};
use jetwake::limits::Limits;
use jetwake::subject::{self, Kind, Subject};
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, AppendResponse, BatchMessage, BatchMessageView, CatchupState,
    ConsumerOp, DeleteBlocks, DeleteBlocksBuilder, DomainState, Entry, EntryKind, PeerState,
    RaftSnapshot, SequenceSet, StreamMessage, StreamMessageView, StreamState, TermAndVote,
    VoteRequest, VoteResponse,
};
use proptest::prelude::*;

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(u64::MAX), any::<u64>()]
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 8]>().prop_filter_map("somebody", PeerId::from_wire)
}

fn data(most: usize) -> impl Strategy<Value = Bytes> {
    let lengths = prop_oneof![Just(0), Just(1), Just(255), Just(256), 0..most];
    lengths.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length)).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<u8>(), data(400)).prop_map(|(kind, data)| Entry { kind: EntryKind::from_u8(kind), data })
}

/// Whole numbers with a sign, at their edges and between.
fn signed() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

fn message() -> impl Strategy<Value = StreamMessage> {
    let fields = (data(300), data(300), data(300), data(20_000));
    let numbers = (edge(), signed(), any::<bool>(), edge());
    (fields, numbers).prop_map(|((subject, reply, header, payload), numbers)| {
        let view = StreamMessageView {
            subject: &subject,
            reply: &reply,
            header: &header,
            payload: &payload,
            sequence: Sequence::new(numbers.0),
            timestamp: numbers.1,
            sourced: numbers.2,
            unknown_flags: numbers.3 & !1,
        };
        view.to_message().expect("it fits")
    })
}

fn consumer_op() -> impl Strategy<Value = ConsumerOp> {
    let sequence = || edge().prop_map(Sequence::new);
    prop_oneof![
        (sequence(), sequence(), edge(), signed()).prop_map(
            |(consumer, stream, count, timestamp)| ConsumerOp::Delivered {
                consumer,
                stream,
                count,
                timestamp
            }
        ),
        (sequence(), sequence())
            .prop_map(|(consumer, stream)| ConsumerOp::Acks { consumer, stream }),
        sequence().prop_map(|stream| ConsumerOp::Skip { stream }),
        (sequence(), data(80))
            .prop_map(|(stream, reply)| ConsumerOp::ResetSequence { stream, reply }),
    ]
}

fn sequence() -> impl Strategy<Value = Sequence> {
    edge().prop_map(Sequence::new)
}

/// Deletes as runs and sets, in any order, and how many there are.
fn deleted() -> impl Strategy<Value = (u64, DeleteBlocks)> {
    let run = (sequence(), 1..=u64::MAX);
    let members = prop::collection::btree_set(0..10_000_u64, 0..100);
    prop::collection::vec(prop_oneof![run.prop_map(Ok), members.prop_map(Err)], 0..5).prop_map(
        |blocks| {
            let mut builder = DeleteBlocksBuilder::new();
            for block in blocks {
                match block {
                    // A run behind the largest sequence is none.
                    Ok((first, count)) => drop(builder.push_run(first, count)),
                    Err(members) => {
                        let set: SequenceSet = members.into_iter().map(Sequence::new).collect();
                        builder.push_set(&set).expect("it fits");
                    }
                }
            }
            let blocks = builder.finish();
            // Blocks are left out where the count is zero.
            match blocks.sequences() {
                0 => (0, DeleteBlocks::default()),
                count => (count, blocks),
            }
        },
    )
}

fn state() -> impl Strategy<Value = StreamState> {
    let numbers = (edge(), edge(), edge());
    (numbers, sequence(), sequence(), deleted()).prop_map(|(numbers, one, other, deleted)| {
        let (messages, bytes, failed) = numbers;
        StreamState {
            messages,
            bytes: ByteCount::new(bytes),
            first: one.min(other),
            last: one.max(other),
            failed,
            deleted_count: deleted.0,
            deleted: deleted.1,
        }
    })
}

/// Encodes behind bytes that are there already, and returns what was added.
fn appended<E>(exact: usize, encode: impl FnOnce(&mut BytesMut) -> Result<(), E>) -> Bytes {
    let mut buffer = BytesMut::from(&b"before"[..]);
    assert!(encode(&mut buffer).is_ok());
    assert_eq!(buffer.split_to(6), b"before"[..]);
    assert_eq!(buffer.len(), exact, "the size told beforehand");
    buffer.freeze()
}

fn infallible(encode: impl FnOnce(&mut BytesMut)) -> impl FnOnce(&mut BytesMut) -> Result<(), ()> {
    |buffer| {
        encode(buffer);
        Ok(())
    }
}

proptest! {
    #[test]
    fn append_entries(
        leader in prop::option::of(peer()),
        numbers in prop::array::uniform5(edge()),
        entries in prop::collection::vec(entry(), 0..20),
    ) {
        let [term, commit, previous_term, previous_index, leader_term] = numbers;
        let mut builder = AppendEntryBuilder::new();
        for entry in &entries {
            prop_assert!(builder.push(entry.kind, &entry.data));
        }
        prop_assert_eq!(builder.len(), entries.len());
        let message = builder.finish(
            leader,
            Term::new(term),
            Index::new(commit),
            Term::new(previous_term),
            Index::new(previous_index),
            Term::new(leader_term),
        );
        let decoded = AppendEntry::decode(&message).expect("our own bytes");
        prop_assert_eq!(decoded.leader, leader);
        prop_assert_eq!(decoded.term.get(), term);
        prop_assert_eq!(decoded.commit.get(), commit);
        prop_assert_eq!(decoded.previous_term.get(), previous_term);
        prop_assert_eq!(decoded.previous_index.get(), previous_index);
        prop_assert_eq!(decoded.leader_term.get(), leader_term);
        prop_assert_eq!(decoded.entries.iter().len(), entries.len());
        prop_assert_eq!(decoded.entries.iter().collect::<Vec<_>>(), entries.clone());
        let views = decoded.entries.views().map(|(kind, data)| (kind, data.to_vec()));
        prop_assert!(views.eq(entries.iter().map(|entry| (entry.kind, entry.data.to_vec()))));
        for kind in entries.iter().map(|entry| entry.kind).chain([EntryKind::Normal]) {
            let of = entries.iter().filter(|entry| entry.kind == kind);
            prop_assert!(of.map(|entry| &entry.data).eq(&decoded.entries.data_of(kind)));
        }
        let again = appended(decoded.encoded_len(), infallible(|to| decoded.encode(to)));
        prop_assert_eq!(again, message);
    }

    #[test]
    fn answers_and_votes(
        numbers in prop::array::uniform3(edge()),
        peer in peer(),
        flags in any::<[bool; 2]>(),
    ) {
        let [first, second, third] = numbers;
        let term = Term::new(first);
        let answer =
            AppendResponse { term, index: Index::new(second), peer, success: flags[0] };
        let bytes = appended(answer.encoded_len(), infallible(|to| answer.encode(to)));
        prop_assert_eq!(AppendResponse::decode(&bytes), Ok(answer));
        let last_index = Index::new(third);
        let request = VoteRequest { term, last_term: Term::new(second), last_index, candidate: peer };
        let bytes = appended(request.encoded_len(), infallible(|to| request.encode(to)));
        prop_assert_eq!(VoteRequest::decode(&bytes), Ok(request));
        let vote = VoteResponse { term, peer, granted: flags[0], empty: flags[1] };
        let bytes = appended(vote.encoded_len(), infallible(|to| vote.encode(to)));
        prop_assert_eq!(VoteResponse::decode(&bytes), Ok(vote));
        let file = TermAndVote { term, vote: flags[0].then_some(peer) };
        let bytes = appended(file.encoded_len(), infallible(|to| file.encode(to)));
        prop_assert_eq!(TermAndVote::decode(&bytes), Ok(file));
    }

    #[test]
    fn peer_states_and_snapshots(
        cluster_size in any::<u32>(),
        peers in prop::collection::btree_set(peer(), 0..=64),
        domain in any::<u16>(),
        last in (edge(), edge()),
        data in data(500),
        name in "[!-~&&[^.*>]]{1,255}",
    ) {
        let peers = peers.into_iter().collect();
        let state = PeerState { cluster_size, peers, domain: DomainState::from_u16(domain) };
        let bytes = appended(state.encoded_len(), infallible(|to| state.encode(to)));
        prop_assert_eq!(PeerState::decode(&bytes, &Limits::default()), Ok(state));
        let group = GroupName::new(name).expect("a name");
        let snapshot = RaftSnapshot {
            last_term: Term::new(last.0),
            last_index: Index::new(last.1),
            peer_state: bytes,
            data,
        };
        let file = snapshot.to_bytes(&group);
        prop_assert_eq!(file.len(), snapshot.encoded_len());
        prop_assert_eq!(RaftSnapshot::decode(&file, &group), Ok(snapshot));
    }

    #[test]
    fn ends_of_catchups(applied in edge(), state in state()) {
        let end = CatchupState { applied: Index::new(applied), state };
        let bytes = appended(end.encoded_len(), infallible(|to| end.encode(to)));
        prop_assert_eq!(end.to_bytes(), &bytes);
        prop_assert!(CatchupState::is_one(&bytes));
        let decoded = CatchupState::decode(&bytes, &Limits::default());
        prop_assert_eq!(decoded, Ok(end.clone()));
        // An empty stream begins one behind its last; what begins later is none.
        let (last, beyond) = (end.state.first, end.state.first.next());
        let with = |first| StreamState { first, last, ..end.state.clone() };
        let decode = |state| {
            let end = CatchupState { applied: end.applied, state };
            CatchupState::decode(&end.to_bytes(), &Limits::default()).is_ok()
        };
        prop_assert!(decode(with(beyond)));
        prop_assert_eq!(decode(with(beyond.next())), beyond.next() == beyond);
    }

    #[test]
    fn messages(message in message()) {
        let bytes = appended(message.encoded_len(), infallible(|to| message.encode(to)));
        let decoded = StreamMessage::decode(&bytes, &Limits::default());
        prop_assert_eq!(decoded, Ok(message.clone()));
        prop_assert_eq!(StreamMessage::decode_body(&bytes.slice(1..)), Ok(message.clone()));
        let mut packed = BytesMut::new();
        message.encode_allow_compress(&mut packed);
        prop_assert!(packed.len() <= bytes.len());
        prop_assert_eq!(StreamMessage::decode(&packed.freeze(), &Limits::default()), Ok(message));
    }

    #[test]
    fn batches(
        batch_id in data(300).prop_filter("an id", |id| !id.is_empty()),
        batch_sequence in edge(),
        commit in any::<bool>(),
        message in message(),
    ) {
        let message = message.view();
        let batch = BatchMessageView { batch_id: &batch_id, batch_sequence, commit, message };
        let bytes = appended(batch.encoded_len(), |to| batch.encode(to));
        let decode = |bytes: Bytes| BatchMessage::decode(&bytes, &Limits::default());
        prop_assert_eq!(decode(bytes.clone()).expect("ours"), batch);
        let mut packed = BytesMut::new();
        batch.encode_allow_compress(&mut packed).expect("it fits");
        prop_assert!(packed.len() <= bytes.len());
        prop_assert_eq!(decode(packed.freeze()).expect("ours"), batch);
    }

    #[test]
    fn steps_of_consumers(op in consumer_op()) {
        let bytes = appended(op.encoded_len(), infallible(|to| op.encode(to)));
        prop_assert_eq!(ConsumerOp::decode_copied(&bytes), Ok(op.clone()));
        prop_assert_eq!(ConsumerOp::decode(&bytes), Ok(op));
    }

    #[test]
    fn subjects(name in "[!-~&&[^.*>]]{1,255}", token in "[0-9A-Za-z]{8}", bytes in edge()) {
        let group = GroupName::new(name).expect("a name");
        let parse = |subject: &Subject| Kind::parse(subject);
        prop_assert_eq!(
            parse(&subject::append_entry(&group)), Some(Kind::AppendEntry(group.clone()))
        );
        prop_assert_eq!(parse(&subject::vote(&group)), Some(Kind::Vote(group.clone())));
        prop_assert_eq!(parse(&subject::proposal(&group)), Some(Kind::Proposal(group.clone())));
        prop_assert_eq!(parse(&subject::remove_peer(&group)), Some(Kind::RemovePeer(group)));
        let token = token.into_bytes().try_into().expect("eight digits");
        prop_assert_eq!(
            parse(&subject::sync_ack_with(token, bytes)),
            Some(Kind::SyncAck { token, bytes: Some(bytes) })
        );
    }

    #[test]
    fn any_subject_is_ours_or_not(text in "(\\$NRG|\\$JSC)?[.A-Z$0-9a-z*>]{0,40}") {
        let subject = Subject::from(text);
        prop_assert_eq!(Kind::parse(&subject).is_some(), Kind::borrowed(&subject).is_some());
    }
}

#[test]
fn every_vector_can_be_part_of_an_append_entry() {
    let mut builder = AppendEntryBuilder::with_capacity(1 << 20);
    let mut pushed = Vec::new();
    for vector in vectors("stream_msg").into_iter().chain(vectors("assignments")) {
        assert!(builder.push(EntryKind::Normal, &vector.bytes));
        pushed.push(vector.bytes);
    }
    let leader = PeerId::from_name("n1");
    let message = builder.finish(
        leader,
        Term::new(1),
        Index::new(2),
        Term::new(1),
        Index::new(3),
        Term::ZERO,
    );
    let decoded = AppendEntry::decode(&message).expect("our own bytes");
    assert!(decoded.entries.iter().map(|entry| entry.data).eq(pushed));
}
