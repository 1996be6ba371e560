//! Assignments of streams and consumers.

use bytes::Bytes;
use jetwake::limits::Limits;
use jetwake::wire::{
    ConsumerAssignment, ConsumerChange, MetaSnapshot, Op, RaftGroup, StreamAssignment, Unsupported,
    s2_stream::decode_stream,
};
use serde_json::{Value, json};

use super::DecodeError;
use super::fields::{Decoded, list, peer, text};
use super::kinds::Message;

type Outcome = Result<Decoded, DecodeError>;

pub(super) fn stream(message: &Message) -> Outcome {
    let assignment = StreamAssignment::decode(&message.bytes, &Limits::default())?;
    let (action, reencoded) = match Op::of(&message.bytes)? {
        Op::UpdateStream => ("update", assignment.encode_update()),
        Op::RemoveStream => ("remove", assignment.encode_remove()),
        _ => ("assign", assignment.encode_assign()),
    };
    let mut decoded = Decoded::new(
        [
            ("action", action.into()),
            ("stream", assignment.config.name.into()),
            ("sync", assignment.sync.into()),
            ("json", json_of(&message.bytes)),
        ],
        reencoded,
    );
    add_group(&mut decoded, &assignment.group, assignment.unsupported.as_ref());
    Ok(decoded)
}

pub(super) fn consumer(message: &Message) -> Outcome {
    let limits = Limits::default();
    let assignment = ConsumerAssignment::decode(&message.bytes, &limits)?;
    let op = Op::of(&message.bytes)?;
    let (action, reencoded) = match op {
        Op::RemoveConsumer => ("remove", assignment.encode_remove()),
        Op::ConsumerResized => ("resized", assignment.to_bytes(ConsumerChange::Resized)),
        Op::AssignCompressedConsumer => ("assign", assignment.encode_assign_compressed()),
        _ => ("assign", assignment.encode_assign()),
    };
    let json = match op {
        Op::AssignCompressedConsumer => {
            let document = decode_stream(&message.bytes.slice(1..), limits.decompressed.get())?;
            text(document.trim_ascii())
        }
        _ => json_of(&message.bytes),
    };
    let mut decoded = Decoded::new(
        [
            ("action", action.into()),
            ("stream", assignment.stream.into()),
            ("consumer", assignment.name.into()),
            ("json", json),
        ],
        reencoded,
    );
    add_group(&mut decoded, &assignment.group, assignment.unsupported.as_ref());
    Ok(decoded)
}

pub(super) fn meta_snapshot(message: &Message) -> Outcome {
    let snapshot = MetaSnapshot::decode(&message.bytes, &Limits::default())?;
    let streams = snapshot.streams.iter().map(|meta| {
        let group = &meta.stream.group;
        let consumers = meta.consumers.iter().map(|consumer| consumer.name.clone().into());
        json!({
            "stream": meta.stream.config.name, "group": group.name,
            "peers": list(group.peers.iter().map(|id| peer(Some(*id)))),
            "consumers": list(consumers),
        })
    });
    let document =
        if snapshot.streams.is_empty() { Value::Null } else { text(&snapshot.document()) };
    Ok(Decoded::new([("streams", list(streams)), ("json", document)], snapshot.encode()?))
}

/// The document behind the op byte.
fn json_of(bytes: &Bytes) -> Value {
    text(bytes.get(1..).unwrap_or_default().trim_ascii())
}

fn add_group(decoded: &mut Decoded, group: &RaftGroup, unsupported: Option<&Unsupported>) {
    let unsupported = unsupported.map(|unsupported| unsupported.reason.clone());
    let fields = [
        ("group", group.name.clone().into()),
        ("peers", list(group.peers.iter().map(|id| peer(Some(*id))))),
        ("preferred", peer(group.preferred)),
        ("unsupported", unsupported.map_or(Value::Null, Value::from)),
    ];
    decoded.fields.extend(fields.map(|(name, value)| (name.to_owned(), value)));
}
