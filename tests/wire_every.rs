//! What holds for every format: no input panics, and what decodes is stable.

#[path = "golden/formats.rs"]
mod formats;
#[path = "golden/mod.rs"]
mod golden;

use bytes::Bytes;
use formats::{ANSWERS, FORMATS, Format};
use golden::vectors;
use jetwake::ids::ByteCount;
use jetwake::limits::Limits;
use jetwake::subject::{Kind, Subject};
use jetwake::wire::{
    AppendEntry, AppendResponse, CatchupState, EntryKind, PeerState, StreamOp, StreamState,
    SyncRequest, VoteRequest, VoteResponse,
};
use proptest::prelude::*;

/// Limits under which no vector takes long.
fn limits() -> Limits {
    Limits { decompressed: ByteCount::new(1 << 20), ..Limits::default() }
}

fn every() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().chain(&ANSWERS)
}

/// Decodes as every format; whatever is taken comes out the same the second time.
fn try_all(bytes: &Bytes, what: impl Fn() -> String) {
    for format in every() {
        if let Ok(once) = (format.again)(bytes, &limits()) {
            let twice = (format.again)(&once, &limits());
            assert_eq!(twice, Ok(once), "{} as {}", what(), format.name);
        }
    }
}

#[test]
fn every_prefix_of_every_vector_is_an_error_or_a_message() {
    for file in golden::FILES {
        for vector in vectors(file) {
            let length = vector.bytes.len();
            let near_an_end = |cut: &usize| *cut < 150 || length - cut < 20;
            for cut in (0..=length).filter(|cut| near_an_end(cut) || cut % 997 == 0) {
                try_all(&vector.bytes.slice(..cut), || {
                    format!("{file} {} {} cut to {cut}", vector.kind, vector.name)
                });
            }
        }
    }
}

/// A catchup's end is a record and a state: it is good as far as its state is, wherever it is cut.
#[test]
fn every_prefix_of_a_catchups_end_is_an_error_or_a_message() {
    let mut good = 0;
    for vector in vectors("stream_state").into_iter().chain(vectors("stream_state_bad")) {
        let end = Bytes::from([&[0xff, 7, 0, 0, 0, 0, 0, 0, 0], &vector.bytes[..]].concat());
        for cut in 0..=end.len() {
            let end = end.slice(..cut);
            try_all(&end, || format!("{} cut to {cut}", vector.name));
            let state =
                end.get(9..).and_then(|_| StreamState::decode(&end.slice(9..), &limits()).ok());
            let possible = state.as_ref().is_some_and(|state| state.first <= state.last.next());
            let read = CatchupState::decode(&end, &limits());
            assert_eq!(read.is_ok(), possible, "{} cut to {cut}: {read:?}", vector.name);
            assert_eq!(read.ok().map(|read| read.state), state.filter(|_| possible));
            good += usize::from(possible);
        }
    }
    assert!(good >= vectors("stream_state").len(), "{good} are good");
}

#[test]
fn every_vector_decodes_as_its_kind_alone_says() {
    let mut seen = std::collections::BTreeSet::new();
    for file in golden::FILES {
        for vector in vectors(file) {
            let kind = match vector.kind.as_str() {
                "stream_msg" if vector.bytes[0] > 14 => "batch_msg",
                "stream_msg_bad" => "stream_msg_body",
                "batch_msg_bad" => "batch_msg_body",
                "raft_file" if vector.name == "tav.idx" => "term_and_vote",
                "raft_file" => "peer_state",
                "s2_block_better" | "s2_block_best" => "s2_block",
                kind => kind.strip_suffix("_bad").unwrap_or(kind),
            };
            let format = every().find(|format| format.name == kind).expect(kind);
            let result = (format.again)(&vector.bytes, &Limits::default());
            // A snapshot that is sealed for another group is refused.
            let refused = vector.error.is_some() || kind == "raft_snapshot" && file == "meta";
            assert_eq!(result.is_err(), refused, "{kind} {}: {result:?}", vector.name);
            seen.insert(kind.to_owned());
        }
    }
    assert!(seen.len() >= 20, "{seen:?}");
}

#[test]
fn blocks_of_every_strength_unpack() {
    for vector in vectors("s2") {
        let raw = golden::binary(&vector.fields["raw"]);
        let unpacked = jetwake::wire::s2::decode_block(&vector.bytes, raw.len() as u64);
        assert!(unpacked.as_deref() == Ok(&raw[..]), "{} {}", vector.kind, vector.name);
        let packed = jetwake::wire::s2::encode_block(&raw).expect("it fits");
        let again = jetwake::wire::s2::decode_block(&packed, raw.len() as u64);
        assert!(again.as_deref() == Ok(&raw[..]), "{} {}", vector.kind, vector.name);
        if !raw.is_empty() {
            let less = raw.len() as u64 - 1;
            assert!(jetwake::wire::s2::decode_block(&vector.bytes, less).is_err());
        }
    }
}

/// What was counted in the recorded exchange.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    append_entries: usize,
    entries: usize,
    snapshots: usize,
    answers: usize,
    votes: usize,
    catchup: usize,
    ends: usize,
    acks: usize,
    others: usize,
}

#[test]
fn the_recorded_exchange_decodes_and_encodes_again() {
    let mut counts = Counts::default();
    for line in golden::trace() {
        let bytes = &line.payload;
        match Kind::parse(&Subject::from(line.subject.clone())) {
            Some(Kind::AppendEntry(group)) => {
                append_entry(bytes, group.as_str() == "_meta_", &mut counts);
            }
            Some(Kind::RaftCatchup(_)) => append_entry(bytes, false, &mut counts),
            Some(Kind::Vote(_)) => {
                counts.votes += 1;
                let request = VoteRequest::decode(bytes).expect("a vote request");
                assert_eq!(request.to_bytes(), bytes);
            }
            Some(Kind::RaftReply(_)) => {
                counts.answers += 1;
                let again = match bytes.len() {
                    VoteResponse::LEN => VoteResponse::decode(bytes).expect("a vote").to_bytes(),
                    _ => AppendResponse::decode(bytes).expect("an answer").to_bytes(),
                };
                assert_eq!(again, bytes);
            }
            Some(Kind::Sync(_)) => {
                let request = SyncRequest::decode(bytes, &limits()).expect("a sync request");
                assert_eq!(request.to_bytes(), bytes);
            }
            Some(Kind::SyncReply(_)) if bytes.is_empty() => counts.ends += 1,
            Some(Kind::SyncReply(_)) => {
                counts.catchup += 1;
                let message = StreamOp::decode(bytes, &limits()).expect("a catchup's message");
                assert!(!matches!(message, StreamOp::Unknown { .. }));
                assert_eq!(message.to_bytes().as_ref(), Ok(bytes));
            }
            Some(Kind::SyncAck { bytes: Some(_), .. }) => {
                counts.acks += 1;
                assert!(bytes.is_empty());
            }
            None if line.subject.starts_with("$JSC.ARU.") => counts.others += 1,
            other => panic!("{other:?}: {}", line.subject),
        }
    }
    let expected = Counts {
        append_entries: 309 + 91 + 1,
        entries: 114,
        snapshots: 1,
        answers: 400,
        votes: 2,
        catchup: 135 + 91 + 5,
        ends: 3,
        acks: 135,
        others: 24,
    };
    assert_eq!(counts, expected);
}

fn append_entry(bytes: &Bytes, meta: bool, counts: &mut Counts) {
    counts.append_entries += 1;
    let message = AppendEntry::decode(bytes).expect("an append entry");
    assert_eq!(message.to_bytes(), bytes);
    for entry in &message.entries {
        counts.entries += 1;
        match entry.kind {
            EntryKind::PeerState => {
                let state = PeerState::decode(&entry.data, &limits()).expect("a peer state");
                assert_eq!(state.to_bytes(), entry.data);
            }
            EntryKind::Snapshot if !meta => {
                counts.snapshots += 1;
                let state = StreamState::decode(&entry.data, &limits()).expect("a state");
                assert_eq!(state.to_bytes(), entry.data);
            }
            EntryKind::Normal if !meta => {
                let op = StreamOp::decode(&entry.data, &limits()).expect("an op");
                assert!(!matches!(op, StreamOp::Unknown { .. }));
                assert_eq!(op.to_bytes().expect("it fits"), entry.data);
            }
            _ => {}
        }
    }
}

#[test]
fn an_op_of_a_newer_server_is_kept_whole() {
    let bytes = Bytes::from_static(&[200, 1, 2, 3]);
    let op = StreamOp::decode(&bytes, &limits()).expect("an op");
    assert!(
        matches!(&op, StreamOp::Unknown { op, bytes } if op.as_u8() == 200 && bytes.len() == 4)
    );
    assert_eq!(op.to_bytes().expect("it is kept"), bytes);
    assert!(StreamOp::decode(&Bytes::new(), &limits()).is_err());
    for byte in 0..=255 {
        assert_eq!(jetwake::wire::Op::from_u8(byte).as_u8(), byte);
        assert_eq!(EntryKind::from_u8(byte).as_u8(), byte);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        try_all(&Bytes::from(bytes), || "arbitrary bytes".to_owned());
    }

    #[test]
    fn damaged_vectors_do_not_panic(
        file in prop::sample::select(&golden::FILES[..]),
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let vectors = vectors(file);
        let mut bytes = vectors[which.index(vectors.len())].bytes.to_vec();
        if !bytes.is_empty() {
            for (place, byte) in damage {
                // Heads and lengths are where damage matters.
                let place = place.index(bytes.len().min(80));
                bytes[place] = byte;
            }
        }
        try_all(&Bytes::from(bytes), || format!("a damaged vector of {file}"));
    }
}
