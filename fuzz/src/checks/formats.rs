//! Checks of the formats of NATS: what decodes must encode, and decode to the same again.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use jetwake::ids::{ByteCount, GroupName};
use jetwake::limits::Limits;
use jetwake::wire::{
    ApiResponse, AppendEntry, AppendResponse, BatchMessage, CatchupState, ClusterInfo,
    ConsumerAssignment, ConsumerConfig, ConsumerInfo, ConsumerInfoResponse, ConsumerOp,
    ConsumerState, DeleteBlock, DeleteRange, GoTime, LegacyStreamState, MessageDelete,
    MetaSnapshot, PeerState, PublishAckResponse, RaftSnapshot, SequenceSet, SnapshotHead,
    SnapshotReader, SnapshotTransfer, StreamAlternate, StreamAssignment, StreamConfig, StreamInfo,
    StreamInfoResponse, StreamMessage, StreamOp, StreamPurge, StreamState, SyncRequest,
    TermAndVote, VoteRequest, VoteResponse, WireError, s2, s2_stream,
};

/// Bounds so small that an input of a few bytes which takes more memory is noticed.
pub fn limits() -> Limits {
    const KIB: u64 = 1024;
    Limits {
        decompressed: ByteCount::new(256 * KIB),
        json: ByteCount::new(64 * KIB),
        snapshot: ByteCount::new(256 * KIB),
        deleted: 65_536,
        ..Limits::default()
    }
}

/// The group whose name keys the hash of a snapshot; the corpus is made for it.
pub fn group() -> GroupName {
    GroupName::new("TESTGROUP").expect("visible characters without a dot")
}

/// What decodes must encode, at the length foretold, and decode to the same again.
pub fn round_trip<T: Debug + PartialEq>(
    input: &[u8],
    decode: impl Fn(&Bytes) -> Result<T, WireError>,
    encode: impl Fn(&T, &mut BytesMut),
    encoded_len: impl Fn(&T) -> usize,
) -> Option<Bytes> {
    let value = decode(&Bytes::copy_from_slice(input)).ok()?;
    let mut buffer = BytesMut::from(&b"before"[..]);
    encode(&value, &mut buffer);
    let encoded = buffer.freeze().slice(b"before".len()..);
    assert_eq!(encoded.len(), encoded_len(&value), "length foretold for {value:?}");
    assert_eq!(decode(&encoded).as_ref(), Ok(&value), "decoded from {encoded:?}");
    Some(encoded)
}

/// As [`round_trip`], for a format that has one encoding of each value.
fn exact<T: Debug + PartialEq>(
    input: &[u8],
    decode: impl Fn(&Bytes) -> Result<T, WireError>,
    encode: impl Fn(&T, &mut BytesMut),
    encoded_len: impl Fn(&T) -> usize,
) {
    if let Some(encoded) = round_trip(input, decode, encode, encoded_len) {
        assert_eq!(encoded, input);
    }
}

/// As [`round_trip`], for what upstream writes as JSON, where one value has one text.
fn json<T: Debug + PartialEq>(
    input: &[u8],
    decode: impl Fn(&Bytes, &Limits) -> Result<T, WireError>,
    encode: impl Fn(&T, &mut BytesMut),
    encoded_len: impl Fn(&T) -> usize,
) {
    let limits = limits();
    if decode(&Bytes::copy_from_slice(input), &limits).is_ok() {
        // The text may be longer than the input was allowed to be.
        let unlimited = |bytes: &Bytes| decode(bytes, &Limits::default());
        let once = round_trip(input, unlimited, &encode, &encoded_len);
        let once = once.expect("what small limits allow");
        assert_eq!(round_trip(&once, unlimited, encode, encoded_len), Some(once));
    }
}

/// As [`json`], for what is not passed on whole: encoded once, it stays the same.
fn settles<T>(
    input: &[u8],
    decode: impl Fn(&Bytes, &Limits) -> Result<T, WireError>,
    encode: impl Fn(&T) -> Bytes,
) {
    if let Ok(value) = decode(&Bytes::copy_from_slice(input), &limits()) {
        let encoded = encode(&value);
        let again = decode(&encoded, &Limits::default()).map(|again| encode(&again));
        assert_eq!(again, Ok(encoded));
    }
}

/// An answer of the API that only says whether it is done.
pub fn api_response(input: &[u8]) {
    json(input, ApiResponse::decode, ApiResponse::encode, ApiResponse::encoded_len);
}

/// An append entry; its entries must be as many as it says, and build the same message.
pub fn append_entry(input: &[u8]) {
    round_trip(input, AppendEntry::decode, AppendEntry::encode, AppendEntry::encoded_len);
    if let Ok(message) = AppendEntry::decode(&Bytes::copy_from_slice(input)) {
        let entries: Vec<_> = message.entries.iter().collect();
        assert_eq!(entries.len(), message.entries.len());
        let bytes: usize = entries.iter().map(|entry| 5 + entry.data.len()).sum();
        assert_eq!(bytes, message.entries.as_bytes().len(), "entries fill their region");
    }
}

/// The answer to an append entry.
pub fn append_response(input: &[u8]) {
    exact(input, AppendResponse::decode, AppendResponse::encode, AppendResponse::encoded_len);
}

/// A message of a batch, with its op byte.
pub fn batch_message(input: &[u8]) {
    let limits = limits();
    round_trip(
        input,
        |bytes| BatchMessage::decode(bytes, &limits),
        |message, buffer| message.view().encode(buffer).expect("it was decoded, so it fits"),
        |message| message.view().encoded_len(),
    );
}

/// The state that ends a catchup; no stream ends before it begins.
pub fn catchup_state(input: &[u8]) {
    let limits = limits();
    let decode = |bytes: &Bytes| CatchupState::decode(bytes, &limits);
    round_trip(input, decode, CatchupState::encode, CatchupState::encoded_len);
    if let Ok(end) = decode(&Bytes::copy_from_slice(input)) {
        assert!(CatchupState::is_one(input));
        assert!(end.state.first <= end.state.last.next());
        assert_eq!(
            end.state.deleted.iter().map(sequences_of).fold(0, u64::saturating_add),
            end.state.deleted.sequences()
        );
    }
}

/// Who is where in a cluster, or which streams hold the same messages.
pub fn cluster_info(input: &[u8]) {
    json(input, ClusterInfo::decode, ClusterInfo::encode, ClusterInfo::encoded_len);
    json(
        input,
        StreamAlternate::decode_list,
        |list, buffer| StreamAlternate::encode_list(list, buffer),
        |list| StreamAlternate::encoded_list_len(list),
    );
}

/// A consumer's assignment or removal, compressed or not.
pub fn consumer_assignment(input: &[u8]) {
    settles(input, ConsumerAssignment::decode, ConsumerAssignment::encode_assign);
    settles(input, ConsumerAssignment::decode, ConsumerAssignment::encode_remove);
    let limits = limits();
    if let Ok(value) = ConsumerAssignment::decode(&Bytes::copy_from_slice(input), &limits) {
        let compressed = value.encode_assign_compressed();
        let again = ConsumerAssignment::decode(&compressed, &Limits::default());
        assert_eq!(again.map(|again| again.encode_assign()), Ok(value.encode_assign()));
    }
}

/// A step of a consumer.
pub fn consumer_op(input: &[u8]) {
    round_trip(input, ConsumerOp::decode, ConsumerOp::encode, ConsumerOp::encoded_len);
}

/// How far a consumer is, and the second that its times count from.
pub fn consumer_state(input: &[u8]) {
    round_trip(
        input,
        ConsumerState::decode,
        |(state, base), buffer| state.encode(*base, buffer),
        |(state, base)| state.encoded_len(*base),
    );
}

/// What a consumer is like, alone, as an answer, or only how it is meant to be.
pub fn consumer_info(input: &[u8]) {
    json(input, ConsumerInfo::decode, ConsumerInfo::encode, ConsumerInfo::encoded_len);
    json(
        input,
        ConsumerInfoResponse::decode,
        ConsumerInfoResponse::encode,
        ConsumerInfoResponse::encoded_len,
    );
    json(input, ConsumerConfig::decode, ConsumerConfig::encode, ConsumerConfig::encoded_len);
}

/// All that the meta group assigned.
pub fn meta_snapshot(input: &[u8]) {
    if let Ok(snapshot) = MetaSnapshot::decode(&Bytes::copy_from_slice(input), &limits()) {
        let encoded = snapshot.encode().expect("far below 4 GiB");
        let again = MetaSnapshot::decode(&encoded, &Limits::default()).expect("just encoded");
        assert_eq!(again.document(), snapshot.document(), "decoded from {encoded:?}");
    }
}

/// A run of deleted messages.
pub fn delete_range(input: &[u8]) {
    json(input, DeleteRange::decode, DeleteRange::encode, DeleteRange::encoded_len);
}

/// A moment in Go's text.
pub fn go_time(input: &[u8]) {
    if let Some(time) = str::from_utf8(input).ok().and_then(|text| GoTime::parse(text).ok()) {
        let text = time.to_string();
        assert_eq!(GoTime::parse(&text), Ok(time), "parsed from {text}");
    }
}

/// The state of a stream as old servers write it.
pub fn legacy_stream_state(input: &[u8]) {
    json(
        input,
        LegacyStreamState::decode,
        LegacyStreamState::encode,
        LegacyStreamState::encoded_len,
    );
}

/// A message's deletion.
pub fn message_delete(input: &[u8]) {
    json(input, MessageDelete::decode, MessageDelete::encode, MessageDelete::encoded_len);
}

/// A group's members.
pub fn peer_state(input: &[u8]) {
    let limits = limits();
    round_trip(
        input,
        |bytes| PeerState::decode(bytes, &limits),
        PeerState::encode,
        PeerState::encoded_len,
    );
}

/// A publisher's answer.
pub fn publish_ack(input: &[u8]) {
    json(
        input,
        PublishAckResponse::decode,
        PublishAckResponse::encode,
        PublishAckResponse::encoded_len,
    );
}

/// A stream's purge.
pub fn purge(input: &[u8]) {
    json(input, StreamPurge::decode, StreamPurge::encode, StreamPurge::encoded_len);
}

/// A snapshot file.
pub fn raft_snapshot(input: &[u8]) {
    let group = group();
    exact(
        input,
        |file| RaftSnapshot::decode(file, &group),
        |snapshot, buffer| snapshot.encode(&group, buffer),
        RaftSnapshot::encoded_len,
    );
    let whole = RaftSnapshot::decode(&Bytes::copy_from_slice(input), &group).ok();
    for part in [1, 7, 4096] {
        let read = snapshot_in_parts(input, part, &group);
        // In parts no more members are taken than the limits allow.
        assert!(read.is_none() || read == whole, "parts of {part} bytes");
    }
}

fn snapshot_in_parts(input: &[u8], part: usize, group: &GroupName) -> Option<RaftSnapshot> {
    let mut reader = SnapshotReader::new(group, input.len() as u64, &limits()).ok()?;
    let mut data = Vec::new();
    for part in input.chunks(part) {
        data.extend_from_slice(&reader.push(&Bytes::copy_from_slice(part)).ok()?);
    }
    let (head, _) = reader.finish().ok()?;
    let SnapshotHead { last_term, last_index, peer_state } = head;
    Some(RaftSnapshot { last_term, last_index, peer_state, data: data.into() })
}

/// A message about a snapshot in parts.
pub fn snapshot_transfer(input: &[u8]) {
    let message = Bytes::copy_from_slice(input);
    if let Ok(message) = SnapshotTransfer::decode(&message) {
        assert!(SnapshotTransfer::is_one(input));
        assert_eq!(SnapshotTransfer::decode(&message.to_bytes()), Ok(message));
    }
}

/// A set of sequences; its runs must be its sequences.
pub fn sequence_set(input: &[u8]) {
    let limits = limits();
    let decode = |bytes: &Bytes| SequenceSet::decode(bytes, &limits);
    round_trip(
        input,
        decode,
        |set, buffer| set.encode(buffer).expect("a decoded set is small enough"),
        SequenceSet::encoded_len,
    );
    if let Ok(set) = decode(&Bytes::copy_from_slice(input)) {
        assert_eq!(set.iter().count() as u64, set.len());
        assert_eq!(set.runs().map(|(_, count)| count).sum::<u64>(), set.len());
        assert!(set.iter().is_sorted_by(|a, b| a < b), "each sequence once, in order");
    }
}

/// A stream of S2 chunks, as one and as contents.
pub fn s2_stream(input: &[u8]) {
    let limit = limits().decompressed.get();
    if let Ok(contents) = s2_stream::decode_stream(&Bytes::copy_from_slice(input), limit) {
        assert!(contents.len() as u64 <= limit, "{} bytes", contents.len());
    }
    let mut stream = BytesMut::new();
    s2_stream::encode_stream(input, &mut stream);
    let contents = s2_stream::decode_stream(&stream.freeze(), input.len() as u64);
    assert_eq!(contents.as_deref(), Ok(input));
}

/// An S2 block, as one and as contents.
pub fn s2_block(input: &[u8]) {
    let limit = limits().decompressed.get();
    if let Ok(contents) = s2::decode_block(input, limit) {
        assert!(contents.len() as u64 <= limit, "{} bytes", contents.len());
    }
    if let Ok(block) = s2::encode_block(input) {
        assert_eq!(s2::decode_block(&block, input.len() as u64).as_deref(), Ok(input));
    }
}

/// A stream's assignment, update or removal.
pub fn stream_assignment(input: &[u8]) {
    settles(input, StreamAssignment::decode, StreamAssignment::encode_assign);
    settles(input, StreamAssignment::decode, StreamAssignment::encode_update);
    settles(input, StreamAssignment::decode, StreamAssignment::encode_remove);
}

/// What a stream is like, alone, as an answer, or only how it is meant to be.
pub fn stream_info(input: &[u8]) {
    json(input, StreamConfig::decode, StreamConfig::encode, StreamConfig::encoded_len);
    json(input, StreamInfo::decode, StreamInfo::encode, StreamInfo::encoded_len);
    json(
        input,
        StreamInfoResponse::decode,
        StreamInfoResponse::encode,
        StreamInfoResponse::encoded_len,
    );
}

/// The state of a stream; its blocks must hold as many sequences as they say.
pub fn stream_state(input: &[u8]) {
    let limits = limits();
    let decode = |bytes: &Bytes| StreamState::decode(bytes, &limits);
    round_trip(input, decode, StreamState::encode, StreamState::encoded_len);
    if let Ok(state) = decode(&Bytes::copy_from_slice(input)) {
        let sequences: u64 = state.deleted.iter().map(sequences_of).fold(0, u64::saturating_add);
        assert_eq!(sequences, state.deleted.sequences());
    }
}

/// How many sequences a block holds.
fn sequences_of(block: DeleteBlock) -> u64 {
    match block {
        DeleteBlock::Run { count, .. } => count,
        DeleteBlock::Set(set) => set.len(),
    }
}

/// What a stream's entry asks for, whatever its op.
pub fn stream_op(input: &[u8]) {
    let limits = limits();
    if let Ok(op) = StreamOp::decode(&Bytes::copy_from_slice(input), &limits) {
        let encoded = op.to_bytes().expect("what was decoded fits its lengths");
        assert_eq!(StreamOp::decode(&encoded, &Limits::default()), Ok(op));
    }
}

/// A message of a stream, compressed or not, with its op byte.
pub fn stream_message(input: &[u8]) {
    let limits = limits();
    let decode = |bytes: &Bytes| StreamMessage::decode(bytes, &limits);
    let encode = |message: &StreamMessage, buffer: &mut BytesMut| {
        message.encode(buffer);
    };
    round_trip(input, decode, encode, StreamMessage::encoded_len);
    if let Ok(message) = decode(&Bytes::copy_from_slice(input)) {
        let mut buffer = BytesMut::new();
        message.encode_allow_compress(&mut buffer);
        assert_eq!(decode(&buffer.freeze()).as_ref(), Ok(&message), "decoded from a block");
    }
}

/// A follower's wish for messages.
pub fn sync_request(input: &[u8]) {
    json(input, SyncRequest::decode, SyncRequest::encode, SyncRequest::encoded_len);
}

/// A file of a term and a vote.
pub fn term_and_vote(input: &[u8]) {
    round_trip(input, TermAndVote::decode, TermAndVote::encode, TermAndVote::encoded_len);
}

/// A vote request or its answer; their lengths tell them apart.
pub fn vote(input: &[u8]) {
    exact(input, VoteRequest::decode, VoteRequest::encode, VoteRequest::encoded_len);
    exact(input, VoteResponse::decode, VoteResponse::encode, VoteResponse::encoded_len);
}
