//! Every format behind one signature: bytes in, the same message's bytes out.
#![allow(dead_code, reason = "each test takes what it needs")]

use bytes::{Bytes, BytesMut};
use jetwake::ids::GroupName;
use jetwake::limits::Limits;
use jetwake::wire::{
    ApiResponse, AppendEntry, AppendResponse, BatchMessage, CatchupState, ClusterInfo,
    ConsumerAssignment, ConsumerChange, ConsumerConfig, ConsumerInfo, ConsumerInfoResponse,
    ConsumerOp, ConsumerState, DeleteRange, GoTime, LegacyStreamState, MessageDelete, MetaOp,
    MetaSnapshot, PeerState, PublishAckResponse, RaftSnapshot, SequenceSet, StreamAlternate,
    StreamAssignment, StreamConfig, StreamInfo, StreamInfoResponse, StreamMessage, StreamOp,
    StreamPurge, StreamState, SyncRequest, TermAndVote, VoteRequest, VoteResponse, WireError, s2,
    s2_stream,
};

/// Decodes, and encodes what came out.
pub(crate) type Again = fn(&Bytes, &Limits) -> Result<Bytes, WireError>;

/// A format and how it goes both ways.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) again: Again,
}

const fn format(name: &'static str, again: Again) -> Format {
    Format { name, again }
}

pub(crate) fn group() -> GroupName {
    GroupName::new("TESTGROUP").expect("a name")
}

pub(crate) const FORMATS: [Format; 31] = [
    format("append_entry", |bytes, _| Ok(AppendEntry::decode(bytes)?.to_bytes())),
    format("append_entry_response", |bytes, _| Ok(AppendResponse::decode(bytes)?.to_bytes())),
    format("vote_request", |bytes, _| Ok(VoteRequest::decode(bytes)?.to_bytes())),
    format("vote_response", |bytes, _| Ok(VoteResponse::decode(bytes)?.to_bytes())),
    format("peer_state", |bytes, limits| Ok(PeerState::decode(bytes, limits)?.to_bytes())),
    format("raft_snapshot", |bytes, _| {
        Ok(RaftSnapshot::decode(bytes, &group())?.to_bytes(&group()))
    }),
    format("term_and_vote", |bytes, _| Ok(TermAndVote::decode(bytes)?.to_bytes())),
    format("stream_msg", |bytes, limits| {
        let mut out = BytesMut::new();
        StreamMessage::decode(bytes, limits)?.encode_allow_compress(&mut out);
        Ok(out.freeze())
    }),
    format("stream_msg_body", |bytes, _| {
        Ok(StreamMessage::decode_body(bytes)?.to_bytes().slice(1..))
    }),
    format("batch_msg", |bytes, limits| BatchMessage::decode(bytes, limits)?.view().to_bytes()),
    format("batch_msg_body", |bytes, limits| {
        Ok(BatchMessage::decode_body(bytes, false, limits)?.view().to_bytes()?.slice(1..))
    }),
    format("stream_op", |bytes, limits| StreamOp::decode(bytes, limits)?.to_bytes()),
    format("stream_state", |bytes, limits| {
        let state = StreamState::decode(bytes, limits)?;
        // Blocks that were checked can all be unpacked.
        let unpacked =
            state.deleted.iter().fold(0, |sum: u64, block| sum.saturating_add(block.len()));
        assert_eq!(unpacked, state.deleted.sequences());
        Ok(state.to_bytes())
    }),
    format("catchup_state", |bytes, limits| Ok(CatchupState::decode(bytes, limits)?.to_bytes())),
    format("sequence_set", |bytes, limits| SequenceSet::decode(bytes, limits)?.to_bytes()),
    format("consumer_op", |bytes, _| Ok(ConsumerOp::decode(bytes)?.to_bytes())),
    format("consumer_state", |bytes, _| {
        let (state, base_seconds) = ConsumerState::decode(bytes)?;
        Ok(state.to_bytes(base_seconds))
    }),
    format("s2_block", |bytes, limits| {
        let limit = limits.decompressed.get();
        let mut contents = Vec::new();
        let unpacked = s2::decode_block_into(bytes, limit, &mut contents);
        let again = s2::decode_block(bytes, limit);
        assert_eq!(unpacked.is_ok(), again.as_ref().is_ok_and(|again| *again == contents));
        unpacked?;
        s2::encode_block(&contents).map(Bytes::from)
    }),
    format("s2_stream", |bytes, limits| {
        let mut out = BytesMut::new();
        let contents = s2_stream::decode_stream(bytes, limits.decompressed.get())?;
        s2_stream::encode_stream(&contents, &mut out);
        Ok(out.freeze())
    }),
    format("delete_range", |bytes, limits| Ok(DeleteRange::decode(bytes, limits)?.to_bytes())),
    format("msg_delete", |bytes, limits| Ok(MessageDelete::decode(bytes, limits)?.to_bytes())),
    format("stream_purge", |bytes, limits| Ok(StreamPurge::decode(bytes, limits)?.to_bytes())),
    format("sync_request", |bytes, limits| Ok(SyncRequest::decode(bytes, limits)?.to_bytes())),
    format("assign_stream", |bytes, limits| {
        Ok(StreamAssignment::decode(bytes, limits)?.encode_assign())
    }),
    format("assign_consumer", |bytes, limits| {
        Ok(ConsumerAssignment::decode(bytes, limits)?.encode_assign())
    }),
    format("meta_op", |bytes, limits| {
        Ok(match MetaOp::decode(bytes, limits)? {
            MetaOp::AssignStream(stream) => stream.encode_assign(),
            MetaOp::UpdateStream(stream) => stream.encode_update(),
            MetaOp::RemoveStream(stream) => stream.encode_remove(),
            MetaOp::AssignConsumer(consumer) => consumer.encode_assign(),
            MetaOp::RemoveConsumer(consumer) => consumer.encode_remove(),
            MetaOp::ConsumerResized(consumer) => consumer.to_bytes(ConsumerChange::Resized),
            _ => bytes.clone(),
        })
    }),
    format("go_time", |bytes, _| {
        let text = core::str::from_utf8(bytes).unwrap_or_default();
        Ok(GoTime::parse(text).map_or_else(|_| Bytes::new(), |time| time.to_string().into()))
    }),
    format("meta_snapshot", |bytes, limits| MetaSnapshot::decode(bytes, limits)?.encode()),
    format("cluster_info", |bytes, limits| Ok(ClusterInfo::decode(bytes, limits)?.to_bytes())),
    format("stream_alternates", |bytes, limits| {
        Ok(StreamAlternate::list_to_bytes(&StreamAlternate::decode_list(bytes, limits)?))
    }),
    format("stream_snapshot_legacy", |bytes, limits| {
        Ok(LegacyStreamState::decode(bytes, limits)?.to_bytes())
    }),
];

/// Formats of answers to clients.
pub(crate) const ANSWERS: [Format; 8] = [
    format("api_response", |bytes, limits| Ok(ApiResponse::decode(bytes, limits)?.to_bytes())),
    format(
        "publish_ack",
        |bytes, limits| Ok(PublishAckResponse::decode(bytes, limits)?.to_bytes()),
    ),
    format("stream_info", |bytes, limits| Ok(StreamInfo::decode(bytes, limits)?.to_bytes())),
    format("stream_info_response", |bytes, limits| {
        Ok(StreamInfoResponse::decode(bytes, limits)?.to_bytes())
    }),
    format("stream_config", |bytes, limits| Ok(StreamConfig::decode(bytes, limits)?.to_bytes())),
    format("consumer_info", |bytes, limits| Ok(ConsumerInfo::decode(bytes, limits)?.to_bytes())),
    format("consumer_info_response", |bytes, limits| {
        Ok(ConsumerInfoResponse::decode(bytes, limits)?.to_bytes())
    }),
    format(
        "consumer_config",
        |bytes, limits| Ok(ConsumerConfig::decode(bytes, limits)?.to_bytes()),
    ),
];
