//! What the group of a stream or consumer replicates, and the catchups of streams.

use bytes::{Bytes, BytesMut};
use jetwake::ids::Sequence;
use jetwake::limits::Limits;
use jetwake::wire::{
    BatchMessage, BatchMessageView, CatchupState, ConsumerOp, ConsumerState, DeleteBlock,
    DeleteRange, MessageDelete, Op, SequencePair, SequenceSet, StreamMessage, StreamMessageView,
    StreamPurge, StreamState, s2, s2_stream,
};
use serde_json::{Value, json};

use super::fields::{Decoded, binary, list, number, sequence, signed, text};
use super::kinds::Message;
use super::{DecodeError, assignment_kinds, json_kinds};

type Outcome = Result<Decoded, DecodeError>;

/// Deleted sequences that are listed one by one; more are told as blocks only.
const LISTED: u64 = 1_000_000;

pub(super) fn entry(message: &Message) -> Outcome {
    match Op::of(&message.bytes)? {
        Op::AssignStream | Op::UpdateStream | Op::RemoveStream => assignment_kinds::stream(message),
        Op::AssignConsumer
        | Op::RemoveConsumer
        | Op::AssignCompressedConsumer
        | Op::ConsumerResized => assignment_kinds::consumer(message),
        Op::Message | Op::CompressedMessage | Op::Batch | Op::BatchCommit => self::message(message),
        Op::Purge => purge(message),
        Op::DeleteMessage => message_delete(message),
        Op::DeleteRange => delete_range(message),
        Op::Delivered | Op::Acks | Op::Skip | Op::ResetSequence => consumer_op(message),
        op => Ok(Decoded::new(
            [("op", op.as_u8().into()), ("unknown", true.into())],
            message.bytes.clone(),
        )),
    }
}

pub(super) fn message(message: &Message) -> Outcome {
    let limits = Limits::default();
    let op = Op::of(&message.bytes)?;
    let mut reencoded = BytesMut::new();
    let (batch, inner) = match op {
        Op::Batch | Op::BatchCommit => {
            let batch = BatchMessage::decode(&message.bytes, &limits)?;
            batch.view().encode_allow_compress(&mut reencoded)?;
            let inner = batch.message().clone();
            (Some(batch), inner)
        }
        _ => {
            let inner = StreamMessage::decode(&message.bytes, &limits)?;
            inner.encode_allow_compress(&mut reencoded);
            (None, inner)
        }
    };
    let batch = batch.as_ref().map(BatchMessage::view);
    let mut decoded = message_fields(inner.view(), batch, reencoded.freeze());
    decoded.fields.insert("op".into(), op.as_u8().into());
    Ok(decoded)
}

pub(super) fn message_body(message: &Message) -> Outcome {
    let inner = StreamMessage::decode_body(&message.bytes)?;
    let reencoded = inner.to_bytes().slice(1..);
    Ok(message_fields(inner.view(), None, reencoded))
}

pub(super) fn batch_body(message: &Message) -> Outcome {
    let batch = BatchMessage::decode_body(&message.bytes, false, &Limits::default())?;
    let mut reencoded = BytesMut::new();
    let batch = batch.view();
    batch.encode_allow_compress(&mut reencoded)?;
    let reencoded = reencoded.freeze().slice(1..);
    Ok(message_fields(batch.message, Some(batch), reencoded))
}

fn message_fields(
    message: StreamMessageView<'_>,
    batch: Option<BatchMessageView<'_>>,
    reencoded: Bytes,
) -> Decoded {
    Decoded::new(
        [
            ("lseq", sequence(message.sequence)),
            ("ts", signed(message.timestamp)),
            ("subject", text(message.subject)),
            ("subject_hex", binary(message.subject)),
            ("reply", text(message.reply)),
            ("hdr", binary(message.header)),
            ("msg", binary(message.payload)),
            ("sourced", message.sourced.into()),
            ("batch_id", text(batch.map_or(&[], |batch| batch.batch_id))),
            ("batch_seq", number(batch.map_or(0, |batch| batch.batch_sequence))),
            ("batch_commit", batch.is_some_and(|batch| batch.commit).into()),
        ],
        reencoded,
    )
}

pub(super) fn delete_range(message: &Message) -> Outcome {
    let range = DeleteRange::decode(&message.bytes, &Limits::default())?;
    Ok(Decoded::new(
        [("first", sequence(range.first)), ("num", number(range.count))],
        range.to_bytes(),
    ))
}

pub(super) fn message_delete(message: &Message) -> Outcome {
    let delete = MessageDelete::decode(&message.bytes, &Limits::default())?;
    let reencoded = delete.to_bytes();
    let account = delete.client.map_or(Value::Null, |client| client.account.into());
    Ok(Decoded::new(
        [
            ("account", account),
            ("stream", delete.stream.into()),
            ("seq", sequence(delete.sequence)),
            ("no_erase", delete.no_erase.into()),
            ("subject", delete.subject.into()),
            ("reply", delete.reply.into()),
        ],
        reencoded,
    ))
}

pub(super) fn purge(message: &Message) -> Outcome {
    let purge = StreamPurge::decode(&message.bytes, &Limits::default())?;
    let reencoded = purge.to_bytes();
    let account = purge.client.map_or(Value::Null, |client| client.account.into());
    let request = purge.request.unwrap_or_default();
    Ok(Decoded::new(
        [
            ("account", account),
            ("stream", purge.stream.into()),
            ("last_seq", sequence(purge.last)),
            ("req_seq", sequence(request.before)),
            ("req_filter", request.filter.into()),
            ("req_keep", number(request.keep)),
            ("subject", purge.subject.into()),
            ("reply", purge.reply.into()),
        ],
        reencoded,
    ))
}

pub(super) fn consumer_op(message: &Message) -> Outcome {
    let step = ConsumerOp::decode(&message.bytes)?;
    let reencoded = step.to_bytes();
    let op = Op::of(&message.bytes)?.as_u8();
    let fields = match step {
        ConsumerOp::Delivered { consumer, stream, count, timestamp } => vec![
            ("step", "delivered".into()),
            ("dseq", sequence(consumer)),
            ("sseq", sequence(stream)),
            ("dc", number(count)),
            ("ts", signed(timestamp)),
        ],
        ConsumerOp::Acks { consumer, stream } => {
            vec![("step", "acks".into()), ("dseq", sequence(consumer)), ("sseq", sequence(stream))]
        }
        ConsumerOp::Skip { stream } => vec![("step", "skip".into()), ("sseq", sequence(stream))],
        ConsumerOp::ResetSequence { stream, reply } => {
            vec![("step", "reset".into()), ("sseq", sequence(stream)), ("reply", text(&reply))]
        }
        _ => vec![("unknown", true.into())],
    };
    let mut decoded = Decoded::new([("op", op.into())], reencoded);
    decoded.fields.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(decoded)
}

pub(super) fn consumer_state(message: &Message) -> Outcome {
    let (state, base_seconds) = ConsumerState::decode(&message.bytes)?;
    let pair = |pair: SequencePair| json!([pair.consumer, pair.stream]);
    let pending = state.pending.iter().map(|(key, pending)| {
        json!({ "sseq": sequence(*key), "dseq": sequence(pending.sequence), "ts": signed(pending.timestamp) })
    });
    let redelivered = state.redelivered.iter();
    let redelivered =
        redelivered.map(|(key, count)| json!({ "sseq": sequence(*key), "count": number(*count) }));
    Ok(Decoded::new(
        [
            ("delivered", pair(state.delivered)),
            ("ack_floor", pair(state.ack_floor)),
            ("pending", list(pending)),
            ("redelivered", list(redelivered)),
            ("base_seconds", signed(base_seconds)),
        ],
        state.to_bytes(base_seconds),
    ))
}

pub(super) fn stream_state(message: &Message) -> Outcome {
    let state = StreamState::decode(&message.bytes, &Limits::default())?;
    Ok(state_fields(&state, state.to_bytes()))
}

pub(super) fn catchup_state(message: &Message) -> Outcome {
    let end = CatchupState::decode(&message.bytes, &Limits::default())?;
    let mut decoded = state_fields(&end.state, end.to_bytes());
    decoded.fields.insert("applied".into(), number(end.applied.get()));
    Ok(decoded)
}

fn state_fields(state: &StreamState, reencoded: Bytes) -> Decoded {
    let deleted = if state.deleted.sequences() <= LISTED {
        list(state.deleted.iter().flat_map(sequences_of).map(Value::from))
    } else {
        "more than are listed one by one".into()
    };
    Decoded::new(
        [
            ("msgs", number(state.messages)),
            ("bytes", number(state.bytes.get())),
            ("first_seq", sequence(state.first)),
            ("last_seq", sequence(state.last)),
            ("failed", number(state.failed)),
            ("num_deleted", number(state.deleted.sequences())),
            ("blocks", list(state.deleted.iter().map(|block| block_fields(&block)))),
            ("deleted", deleted),
        ],
        reencoded,
    )
}

fn block_fields(block: &DeleteBlock) -> Value {
    let (name, first, last) = match block {
        DeleteBlock::Run { first, count } => {
            // A block has been checked to hold at least one, and to end within 64 bits.
            ("*server.DeleteRange", *first, first.plus(count.saturating_sub(1)))
        }
        DeleteBlock::Set(set) => {
            ("*avl.SequenceSet", set.first().unwrap_or_default(), set.last().unwrap_or_default())
        }
    };
    json!({
        "type": name, "first": sequence(first), "last": sequence(last), "num": number(block.len()),
    })
}

fn sequences_of(block: DeleteBlock) -> Vec<u64> {
    match block {
        DeleteBlock::Run { first, count } => {
            (0..count).map(|steps| first.plus(steps).get()).collect()
        }
        DeleteBlock::Set(set) => set.iter().map(Sequence::get).collect(),
    }
}

pub(super) fn sequence_set(message: &Message) -> Outcome {
    let set = SequenceSet::decode(&message.bytes, &Limits::default())?;
    // Behind magic and version; decoding has checked that it is there.
    let nodes = message.bytes.get(2..6).and_then(|nodes| <[u8; 4]>::try_from(nodes).ok());
    let members = if set.len() <= LISTED {
        set.iter().map(|member| member.get().into()).collect::<Vec<Value>>().into()
    } else {
        Value::from("more than are listed one by one")
    };
    let edge = |edge: Option<Sequence>| edge.map_or(Value::Null, |edge| edge.get().into());
    Ok(Decoded::new(
        [
            ("size", set.len().into()),
            ("nodes", nodes.map_or(0, u32::from_le_bytes).into()),
            ("first", edge(set.first())),
            ("last", edge(set.last())),
            ("members", members),
        ],
        set.to_bytes()?,
    ))
}

pub(super) fn catchup_message(message: &Message) -> Outcome {
    match message.bytes.first() {
        None => Ok(Decoded::new([("end", true.into())], Bytes::new())),
        Some(_) if CatchupState::is_one(&message.bytes) => catchup_state(message),
        // Answers to questions about a stream come to inboxes of the same form.
        Some(b'{') => json_kinds::stream_info(message),
        Some(_) => entry(message),
    }
}

pub(super) fn catchup_ack(message: &Message) -> Outcome {
    let abort = if message.bytes.is_empty() { Value::Null } else { text(&message.bytes) };
    Ok(Decoded::new([("abort", abort)], message.bytes.clone()))
}

pub(super) fn s2_block(message: &Message) -> Outcome {
    let raw = s2::decode_block(&message.bytes, Limits::default().decompressed.get())?;
    let reencoded = s2::encode_block(&raw)?;
    Ok(Decoded::new([("raw", binary(&raw))], reencoded.into()))
}

pub(super) fn s2_stream(message: &Message) -> Outcome {
    let raw = s2_stream::decode_stream(&message.bytes, Limits::default().decompressed.get())?;
    let mut reencoded = BytesMut::new();
    s2_stream::encode_stream(&raw, &mut reencoded);
    Ok(Decoded::new([("raw", binary(&raw))], reencoded.freeze()))
}
