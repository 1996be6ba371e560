//! How much memory decoders take: nothing for what they share with the input, and never much
//! for little input.

#[path = "golden/formats.rs"]
mod formats;
#[path = "golden/mod.rs"]
mod golden;

use allocation_counter::measure;
use bytes::{BufMut, Bytes, BytesMut};
use formats::{ANSWERS, FORMATS};
use golden::vectors;
use jetwake::ids::{ByteCount, GroupName, Index, Sequence, Term};
use jetwake::limits::Limits;
use jetwake::subject::{Kind, Subject};
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, AppendResponse, BatchMessage, CatchupState, ConsumerOp,
    DeleteBlocksBuilder, EntryKind, GoTime, RaftSnapshot, SequenceSet, StreamMessage,
    StreamMessageView, StreamState, TermAndVote, VoteRequest, VoteResponse,
};
use proptest::prelude::*;

/// Bytes whose memory is shared already, as those that come from a network buffer: the count of
/// owners is memory too, and not the decoder's.
fn shared(bytes: &[u8]) -> (Bytes, Bytes) {
    let bytes = Bytes::copy_from_slice(bytes);
    (bytes.clone(), bytes)
}

/// That a decoder takes no memory for these bytes.
fn takes_none<T, E: std::fmt::Debug>(bytes: &[u8], decode: impl Fn(&Bytes) -> Result<T, E>) {
    let (bytes, _other_owner) = shared(bytes);
    let mut result = None;
    let taken = measure(|| result = Some(decode(&bytes)));
    assert_eq!(
        taken.count_total,
        0,
        "{taken:?} for {}",
        golden::hex(&bytes[..bytes.len().min(40)])
    );
    result.expect("it ran").expect("it decodes");
}

/// The end of a catchup with this state, at record 7.
fn ending(state: &[u8]) -> Vec<u8> {
    [&[0xff, 7, 0, 0, 0, 0, 0, 0, 0], state].concat()
}

#[test]
fn decoding_shares_the_input_and_takes_no_memory() {
    for vector in vectors("append_entry") {
        takes_none(&vector.bytes, |bytes| {
            let message = AppendEntry::decode(bytes)?;
            let total: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
            assert!(total <= bytes.len());
            Ok::<_, jetwake::wire::WireError>(message)
        });
    }
    for vector in vectors("append_entry_response") {
        takes_none(&vector.bytes, AppendResponse::decode);
    }
    vectors("vote_request").iter().for_each(|it| takes_none(&it.bytes, VoteRequest::decode));
    vectors("vote_response").iter().for_each(|it| takes_none(&it.bytes, VoteResponse::decode));
    takes_none(&[1; 16], TermAndVote::decode);
    let group = GroupName::new("TESTGROUP").expect("a name");
    let snapshot = &vectors("raft_snapshot")[0].bytes;
    takes_none(snapshot, |bytes| RaftSnapshot::decode(bytes, &group));
    let limits = Limits::default();
    for vector in vectors("stream_msg") {
        match vector.bytes[0] {
            4 => takes_none(&vector.bytes, |bytes| StreamMessage::decode(bytes, &limits)),
            16 => takes_none(&vector.bytes, |bytes| BatchMessage::decode(bytes, &limits)),
            _ => {}
        }
    }
    for vector in vectors("stream_state") {
        takes_none(&vector.bytes, |bytes| StreamState::decode(bytes, &limits));
        takes_none(&ending(&vector.bytes), |bytes| CatchupState::decode(bytes, &limits));
    }
    takes_none(&[8, 1, 2], ConsumerOp::decode);
    takes_none(b"2023-11-14T22:13:20.123456789+01:00", |bytes| {
        GoTime::parse(core::str::from_utf8(bytes).expect("text"))
    });
    takes_none(b"$NRG.AE.S-R3F-BxW1M5cy", |bytes| {
        let subject = Subject::from_bytes(bytes.clone());
        Kind::borrowed(&subject).map(|_| ()).ok_or("a subject of ours")
    });
}

/// A plain group keeps its entries: their list is the one piece of memory, however many there are.
#[test]
fn handing_out_entries_takes_their_list_alone() {
    let mut builder = AppendEntryBuilder::new();
    for _ in 0..100 {
        assert!(builder.push(EntryKind::Normal, b"entry"));
    }
    let (term, index) = (Term::new(1), Index::ZERO);
    let message = builder.finish(None, term, index, term, index, Term::ZERO);
    let (message, _other_owner) = shared(&message);
    let mut handed = Vec::new();
    let taken = measure(|| {
        let decoded = AppendEntry::decode(&message).expect("our own bytes");
        assert_eq!(decoded.entries.views().count(), 100);
        handed = decoded.entries.data_of(EntryKind::Normal);
    });
    assert_eq!((taken.count_total, handed.len()), (1, 100), "{taken:?}");
    // Neither does a consumer's step take any that it does not keep.
    let taken = measure(|| assert!(ConsumerOp::decode_copied(&[8, 1, 2]).is_ok()));
    assert_eq!(taken.count_total, 0, "{taken:?}");
}

#[test]
fn encoding_into_a_buffer_with_room_takes_no_memory() {
    let message = StreamMessageView {
        subject: b"orders.new",
        payload: &[7; 128],
        sequence: Sequence::new(9),
        timestamp: 1,
        ..StreamMessageView::default()
    };
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    let taken = measure(|| message.encode(&mut buffer).expect("it fits"));
    assert_eq!(taken.count_total, 0, "{taken:?}");
    // A builder with room is one piece of memory from its first entry to the finished message.
    let mut finished = None;
    let taken = measure(|| {
        let entry = AppendEntryBuilder::entry_len(message.encoded_len());
        let mut builder = AppendEntryBuilder::with_capacity(64 * entry);
        for _ in 0..64 {
            assert!(builder.push_with(EntryKind::Normal, message.encoded_len(), |to| {
                message.encode(to).expect("it fits");
            }));
        }
        finished = Some(builder.finish(
            None,
            Term::new(1),
            Index::ZERO,
            Term::ZERO,
            Index::ZERO,
            Term::ZERO,
        ));
    });
    // The memory itself, and the count of its owners.
    assert!(taken.count_total <= 2, "{taken:?}");
    assert_eq!(AppendEntry::decode(&finished.expect("it ran")).expect("ours").entries.len(), 64);
}

/// Limits whose bounds a test can reach.
fn tight() -> Limits {
    Limits { decompressed: ByteCount::new(1 << 16), ..Limits::default() }
}

/// Bytes that decoding, and encoding again, may have at any time for an input this long.
///
/// JSON of ten bytes becomes a structure of a few hundred, and an error of JSON is text; a
/// consumer's pending message has three bytes on the wire and 64 in memory; compressed bytes
/// become what they claim, which `limits.decompressed` bounds, and are compressed anew.
fn allowed(format: &str, input: usize) -> u64 {
    let input = input as u64;
    let unpacked = 1 << 16;
    match format {
        "s2_block" | "s2_stream" | "stream_msg" | "stream_op" | "batch_msg" | "batch_msg_body"
        | "assign_consumer" | "meta_op" | "meta_snapshot" => 6 * unpacked + 64 * 1024 + 64 * input,
        "append_entry"
        | "append_entry_response"
        | "vote_request"
        | "vote_response"
        | "term_and_vote"
        | "raft_snapshot"
        | "stream_msg_body"
        | "consumer_op"
        | "peer_state"
        | "go_time" => 256 + 2 * input,
        "catchup_state" | "sequence_set" | "stream_state" => 256 + 8 * input,
        "consumer_state" => 512 + 32 * input,
        _ => 8 * 1024 + 64 * input,
    }
}

/// That no format takes more than it may.
fn within_bounds(bytes: &[u8]) {
    let limits = tight();
    for format in FORMATS.iter().chain(&ANSWERS) {
        let (input, _other_owner) = shared(bytes);
        let taken = measure(|| drop((format.again)(&input, &limits)));
        let allowed = allowed(format.name, bytes.len());
        assert!(
            taken.bytes_max <= allowed,
            "{} takes {} of {allowed} bytes for {}",
            format.name,
            taken.bytes_max,
            golden::hex(bytes)
        );
    }
}

#[test]
fn ten_bytes_cannot_take_much() {
    let huge = u64::MAX;
    let mut cases = vec![
        // Claims of compressed blocks, counts of nodes, entries, pending messages and peers.
        vec![14, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0],
        vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x11, 0x1d, 0x00, 0x93, 0x86],
        vec![0x80, 0x80, 0x04, 0x00, 0x78, 0x11, 0x1d, 0x00, 0x93, 0x86],
        vec![22, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        vec![22, 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
        vec![42, 1, 0, 0, 0, 0, 0, 1, 22, 2],
        vec![3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        vec![9, 0xff, 6, 0, 0, b'S', b'2', b's', b'T', b'w'],
        b"[[[[[[[[[[".to_vec(),
        b"\x05[[[[[[[[[".to_vec(),
        b"{\"a\":{\"a\":".to_vec(),
    ];
    cases.push([&[4_u8][..], &huge.to_le_bytes(), &[9]].concat());
    for op in 0..=20 {
        cases.push([&[op][..], &[0xff; 9]].concat());
        cases.push([&[op][..], &[0; 9]].concat());
    }
    for case in cases {
        within_bounds(&case);
    }
}

#[test]
fn a_long_list_of_small_things_takes_little_more_than_it_has() {
    let mut runs = BytesMut::from(&[42, 1, 0, 0, 0, 0, 0, 1][..]);
    (0..10_000).for_each(|_| runs.put_slice(&[33, 1, 1]));
    within_bounds(&runs);
    within_bounds(&ending(&runs));
    let mut pending = BytesMut::from(&[22, 2, 0, 0, 9, 9][..]);
    pending.put_slice(&[0x80 | 0x10, 0x4e, 0]);
    (0..10_000_u64).for_each(|at| {
        pending.put_slice(&[0x80 | (at % 128) as u8, 0x80 | (at / 128) as u8, 1, 0, 0]);
    });
    pending.put_u8(0);
    within_bounds(&pending);
    let mut entries = BytesMut::from(&[0; 40][..]);
    entries.put_u16_le(u16::MAX);
    (0..u16::MAX).for_each(|_| entries.put_slice(&[1, 0, 0, 0, 0]));
    within_bounds(&entries);
    let sparse: SequenceSet = (0..200).map(|node| Sequence::new(node * 2048)).collect();
    within_bounds(&sparse.to_bytes().expect("it fits"));
    let mut deleted = DeleteBlocksBuilder::new();
    deleted.push_set(&sparse).expect("it fits");
    let (deleted_count, deleted) = (sparse.len(), deleted.finish());
    let state = StreamState { deleted_count, deleted, ..StreamState::default() };
    within_bounds(&ending(&state.to_bytes()));
    let mut unaligned = sparse.to_bytes().expect("it fits").to_vec();
    for node in 0..200 {
        let at = 10 + node * 266;
        unaligned[at] = 1;
        unaligned[at + 8 + 255] = 0x80;
    }
    unaligned[6..10].copy_from_slice(&400_u32.to_le_bytes());
    within_bounds(&unaligned);
}

proptest! {
    #[test]
    fn arbitrary_bytes_cannot_take_much(bytes in prop::collection::vec(any::<u8>(), 0..=10)) {
        within_bounds(&bytes);
    }

    #[test]
    fn damaged_vectors_cannot_take_much(
        file in prop::sample::select(&golden::FILES[..]),
        which in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let vectors = vectors(file);
        let vector = &vectors[which.index(vectors.len())].bytes;
        let mut bytes = vector[..cut.index(vector.len() + 1)].to_vec();
        if !bytes.is_empty() {
            for (place, byte) in damage {
                let place = place.index(bytes.len().min(80));
                bytes[place] = byte;
            }
        }
        within_bounds(&bytes);
    }
}
