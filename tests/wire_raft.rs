//! The formats of consensus, against vectors of the real server.

#[path = "golden/mod.rs"]
mod golden;

use bytes::{BufMut, Bytes, BytesMut};
use golden::{binary, number, text, vectors};
use jetwake::ids::{GroupName, Index, PeerId, Term};
use jetwake::limits::Limits;
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, AppendResponse, DomainState, Entry, EntryKind, Fault,
    PeerState, RaftSnapshot, TermAndVote, VoteRequest, VoteResponse,
};
use serde_json::Value;

fn peer(value: &Value) -> PeerId {
    let bytes = text(value).as_bytes().try_into().expect("eight bytes");
    PeerId::from_wire(bytes).expect("somebody")
}

fn entry_of(value: &Value) -> Entry {
    Entry { kind: EntryKind::from_u8(number(&value["type"]) as u8), data: binary(&value["data"]) }
}

#[test]
fn append_entries_are_upstreams() {
    for vector in vectors("append_entry") {
        let decoded = AppendEntry::decode(&vector.bytes).expect(&vector.name);
        let fields = &vector.fields;
        assert_eq!(decoded.leader, Some(peer(&fields["leader"])));
        assert_eq!(decoded.term.get(), number(&fields["term"]));
        assert_eq!(decoded.commit.get(), number(&fields["commit"]));
        assert_eq!(decoded.previous_term.get(), number(&fields["pterm"]));
        assert_eq!(decoded.previous_index.get(), number(&fields["pindex"]));
        assert_eq!(decoded.leader_term.get(), number(&fields["lterm"]));
        assert!(decoded.has_leader_term);
        let expected: Vec<_> =
            fields["entries"].as_array().expect("entries").iter().map(entry_of).collect();
        assert_eq!(decoded.entries.len(), expected.len());
        assert_eq!(decoded.entries.iter().collect::<Vec<_>>(), expected, "{}", vector.name);
        let views: Vec<_> = decoded.entries.views().collect();
        let same: Vec<_> = expected.iter().map(|entry| (entry.kind, &entry.data[..])).collect();
        assert_eq!(views, same, "{}", vector.name);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes(), vector.bytes, "{}", vector.name);
        assert_eq!(rebuild(&decoded), vector.bytes, "{}", vector.name);
    }
}

/// The same message, as a leader builds it.
fn rebuild(decoded: &AppendEntry) -> Bytes {
    let mut builder = AppendEntryBuilder::new();
    for (position, entry) in decoded.entries.iter().enumerate() {
        assert_eq!(builder.len(), position);
        let taken = if position % 2 == 0 {
            builder.push(entry.kind, &entry.data)
        } else {
            builder.push_with(entry.kind, entry.data.len(), |to| to.put_slice(&entry.data))
        };
        assert!(taken);
    }
    assert_eq!(builder.byte_len(), 42 + decoded.entries.as_bytes().len());
    builder.finish(
        decoded.leader,
        decoded.term,
        decoded.commit,
        decoded.previous_term,
        decoded.previous_index,
        decoded.leader_term,
    )
}

#[test]
fn an_append_entry_of_an_old_server_has_no_leader_term() {
    for vector in vectors("append_entry").iter().filter(|vector| vector.name != "lterm_two_byte") {
        let old = vector.bytes.slice(..vector.bytes.len() - 1);
        let decoded = AppendEntry::decode(&old).expect(&vector.name);
        assert_eq!((decoded.leader_term, decoded.has_leader_term), (Term::ZERO, false));
        assert_eq!(decoded.to_bytes(), old);
    }
}

#[test]
fn bad_append_entries_are_refused() {
    for vector in vectors("append_entry_bad") {
        let error = AppendEntry::decode(&vector.bytes).expect_err(&vector.name);
        assert_eq!(error.format, "append_entry", "{}", vector.name);
    }
}

#[test]
fn bytes_behind_an_append_entry_are_refused() {
    let mut message = BytesMut::from(&vectors("append_entry")[1].bytes[..]);
    message.put_u8(0);
    let error = AppendEntry::decode(&message.freeze()).expect_err("a byte too many");
    assert_eq!(error.fault, Fault::Trailing(1));
}

#[test]
fn an_append_entry_takes_as_many_entries_as_its_count_can_say() {
    let mut builder = AppendEntryBuilder::with_capacity(5 * 65_535);
    for _ in 0..65_535 {
        assert!(builder.push(EntryKind::Unknown(200), b""));
    }
    let length = builder.byte_len();
    assert!(!builder.push(EntryKind::Normal, b"one too many"));
    assert_eq!(builder.byte_len(), length);
    let message = builder.finish(None, Term::MAX, Index::MAX, Term::MAX, Index::MAX, Term::MAX);
    let decoded = AppendEntry::decode(&message).expect("a full message");
    assert_eq!(decoded.leader, None);
    assert_eq!(decoded.entries.len(), 65_535);
    assert!(decoded.entries.iter().all(|entry| entry.kind == EntryKind::Unknown(200)));
    assert_eq!(decoded.leader_term, Term::MAX);
    assert_eq!(decoded.to_bytes(), message);
}

#[test]
fn append_responses_are_upstreams() {
    for vector in vectors("append_entry_response") {
        let decoded = AppendResponse::decode(&vector.bytes).expect(&vector.name);
        let expected = AppendResponse {
            term: Term::new(number(&vector.fields["term"])),
            index: Index::new(number(&vector.fields["index"])),
            peer: peer(&vector.fields["peer"]),
            success: vector.fields["success"] == true,
        };
        assert_eq!(decoded, expected);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes(), vector.bytes);
    }
}

#[test]
fn an_append_response_is_exact() {
    let good = &vectors("append_entry_response")[1].bytes;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        AppendResponse::decode(&Bytes::from(bytes))
    };
    assert!(with(24, 1).is_ok());
    assert!(with(24, 2).is_err(), "success is 0 or 1");
    assert!(AppendResponse::decode(&good.slice(..24)).is_err());
    assert!(AppendResponse::decode(&[&good[..], b"x"].concat().into()).is_err());
    let nobody = [&good[..16], &[0; 8], &[1]].concat();
    let error = AppendResponse::decode(&nobody.into()).expect_err("nobody answers");
    assert_eq!((error.field, error.offset), ("peer", 16));
}

#[test]
fn votes_are_upstreams() {
    for vector in vectors("vote_request") {
        let decoded = VoteRequest::decode(&vector.bytes).expect(&vector.name);
        let expected = VoteRequest {
            term: Term::new(number(&vector.fields["term"])),
            last_term: Term::new(number(&vector.fields["last_term"])),
            last_index: Index::new(number(&vector.fields["last_index"])),
            candidate: peer(&vector.fields["candidate"]),
        };
        assert_eq!(decoded, expected);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes(), vector.bytes);
    }
    for vector in vectors("vote_response") {
        let decoded = VoteResponse::decode(&vector.bytes).expect(&vector.name);
        let expected = VoteResponse {
            term: Term::new(number(&vector.fields["term"])),
            peer: peer(&vector.fields["peer"]),
            granted: vector.fields["granted"] == true,
            empty: vector.fields["empty"] == true,
        };
        assert_eq!(decoded, expected);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes(), vector.bytes);
    }
}

#[test]
fn a_vote_with_a_flag_of_unknown_meaning_is_refused() {
    let mut bytes = vectors("vote_response")[0].bytes.to_vec();
    for flags in 0..=3 {
        bytes[16] = flags;
        let decoded = VoteResponse::decode(&bytes.clone().into()).expect("known flags");
        assert_eq!((decoded.granted, decoded.empty), (flags & 1 != 0, flags & 2 != 0));
    }
    bytes[16] = 5;
    let error = VoteResponse::decode(&bytes.into()).expect_err("flag 4 is not known");
    assert_eq!((error.field, error.offset), ("flags", 16));
}

#[test]
fn peer_states_are_upstreams() {
    for vector in vectors("peer_state") {
        let decoded = PeerState::decode(&vector.bytes, &Limits::default()).expect(&vector.name);
        let peers = vector.fields["peers"].as_array().cloned().unwrap_or_default();
        let expected = PeerState {
            cluster_size: number(&vector.fields["cluster_size"]) as u32,
            peers: peers.iter().map(peer).collect(),
            domain: DomainState::from_u16(number(&vector.fields["domain_ext"]) as u16),
        };
        assert_eq!(decoded, expected);
        assert_eq!(decoded.encoded_len(), vector.bytes.len());
        assert_eq!(decoded.to_bytes(), vector.bytes);
    }
}

#[test]
fn a_peer_state_is_bounded_and_names_each_peer_once() {
    let decode =
        |bytes: &[u8]| PeerState::decode(&Bytes::copy_from_slice(bytes), &Limits::default());
    let good = &vectors("peer_state")[2].bytes;
    assert_eq!(
        decode(&good[..good.len() - 2]).expect("an old one").domain,
        DomainState::Undetermined
    );
    assert!(decode(&good[..good.len() - 1]).is_err(), "half a domain");
    let twice = [&good[..16], &good[8..16], &good[24..]].concat();
    assert_eq!(decode(&twice).expect_err("a peer twice").fault, Fault::Text("each peer once"));
    let many = [&[3, 0, 0, 0], &u32::MAX.to_le_bytes()[..], &good[8..]].concat();
    let fault = Fault::TooLarge { limit: 64, found: u64::from(u32::MAX) };
    assert_eq!(decode(&many).expect_err("too many").fault, fault);
}

#[test]
fn raft_snapshots_are_upstreams() {
    let vectors = vectors("raft_snapshot");
    let vector = &vectors[0];
    assert_eq!(vector.kind, "raft_snapshot");
    let group = GroupName::new(text(&vector.fields["group"])).expect("a name");
    let decoded = RaftSnapshot::decode(&vector.bytes, &group).expect(&vector.name);
    let expected = RaftSnapshot {
        last_term: Term::new(number(&vector.fields["last_term"])),
        last_index: Index::new(number(&vector.fields["last_index"])),
        peer_state: binary(&vector.fields["peer_state"]),
        data: binary(&vector.fields["data"]),
    };
    assert_eq!(decoded, expected);
    assert_eq!(decoded.encoded_len(), vector.bytes.len());
    assert_eq!(decoded.to_bytes(&group), vector.bytes);

    let other = GroupName::new("OTHER").expect("a name");
    let error = RaftSnapshot::decode(&vector.bytes, &other).expect_err("another group's");
    assert_eq!((error.field, error.fault), ("hash", Fault::Checksum));
    for position in (0..vector.bytes.len()).step_by(53) {
        let mut flipped = vector.bytes.to_vec();
        flipped[position] ^= 4;
        let error = RaftSnapshot::decode(&flipped.into(), &group).expect_err("a flipped bit");
        assert_eq!(error.fault, Fault::Checksum);
    }
}

#[test]
fn a_snapshot_whose_peer_state_does_not_fit_is_refused_though_its_hash_is_right() {
    let group = GroupName::new("G").expect("a name");
    let nested = RaftSnapshot {
        last_term: Term::new(1),
        last_index: Index::new(2),
        peer_state: Bytes::new(),
        data: Bytes::new(),
    };
    assert_eq!(RaftSnapshot::decode(&nested.to_bytes(&group), &group), Ok(nested));
    // The seal of any bytes can be had by sealing them as data behind a forged head.
    let forged = forge(&group, 29, b"four");
    let error = RaftSnapshot::decode(&forged, &group).expect_err("29 of 4 bytes");
    assert_eq!(error.field, "peer state");
    assert!(RaftSnapshot::decode(&forge(&group, 4, b"four"), &group).is_ok());
}

/// A snapshot file with a right hash over a length that may be wrong.
fn forge(group: &GroupName, length: u32, rest: &[u8]) -> Bytes {
    use highway::{HighwayHash, HighwayHasher, Key};
    use sha2::{Digest, Sha256};
    let mut file = [[0; 16].as_slice(), &length.to_le_bytes(), rest].concat();
    let digest = Sha256::digest(group.as_str());
    let lane = |at: usize| u64::from_le_bytes(digest[at..at + 8].try_into().expect("8 bytes"));
    let hasher = HighwayHasher::new(Key([lane(0), lane(8), lane(16), lane(24)]));
    let seal = hasher.hash64(&file);
    file.put_u64_le(seal);
    file.into()
}

#[test]
fn files_of_a_member_are_upstreams() {
    let vectors = vectors("raft_snapshot");
    let file = |name: &str| {
        vectors.iter().find(|vector| vector.name == name).expect("the vector").bytes.clone()
    };
    let bytes = file("tav.idx");
    let decoded = TermAndVote::decode(&bytes).expect("a file");
    let expected = TermAndVote { term: Term::new(77), vote: PeerId::from_wire(*b"S2abcdef") };
    assert_eq!(decoded, expected);
    assert_eq!(decoded.to_bytes(), bytes);

    let bytes = file("peers.idx");
    let decoded = PeerState::decode(&bytes, &Limits::default()).expect("a file");
    assert_eq!((decoded.cluster_size, decoded.peers.len()), (3, 3));
    assert_eq!(decoded.to_bytes(), bytes);
}

#[test]
fn a_member_that_did_not_vote_writes_its_term_alone() {
    let none = TermAndVote { term: Term::new(5), vote: None };
    assert_eq!(none.to_bytes()[..], [5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(TermAndVote::decode(&none.to_bytes()), Ok(none));
    for length in [0, 1, 7, 9, 15, 17] {
        let file = Bytes::from(vec![b'a'; length]);
        assert!(TermAndVote::decode(&file).is_err(), "{length} bytes");
    }
    assert!(TermAndVote::decode(&Bytes::from(vec![0; 16])).is_err(), "a vote for nobody");
}
