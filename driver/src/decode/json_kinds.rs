//! Formats that are JSON and nothing else: their one field is the document.

use jetwake::limits::Limits;
use jetwake::wire::{
    ApiResponse, ClusterInfo, ConsumerConfig, ConsumerInfo, ConsumerInfoResponse,
    LegacyStreamState, PublishAckResponse, StreamAlternate, StreamConfig, StreamInfo,
    StreamInfoResponse, SyncRequest,
};

use super::DecodeError;
use super::fields::{Decoded, number, peer, sequence, text};
use super::kinds::Message;

type Outcome = Result<Decoded, DecodeError>;

/// A function that decodes a type and encodes it again.
macro_rules! document {
    ($name:ident, $type:ty) => {
        pub(super) fn $name(message: &Message) -> Outcome {
            let value = <$type>::decode(&message.bytes, &Limits::default())?;
            Ok(Decoded::new([("json", text(&message.bytes))], value.to_bytes()))
        }
    };
}

document!(legacy_stream_state, LegacyStreamState);
document!(publish_ack, PublishAckResponse);
document!(api_response, ApiResponse);
document!(cluster_info, ClusterInfo);
document!(stream_config, StreamConfig);
document!(stream_info, StreamInfo);
document!(stream_response, StreamInfoResponse);
document!(consumer_config, ConsumerConfig);
document!(consumer_info, ConsumerInfo);
document!(consumer_response, ConsumerInfoResponse);

pub(super) fn stream_alternates(message: &Message) -> Outcome {
    let alternates = StreamAlternate::decode_list(&message.bytes, &Limits::default())?;
    Ok(Decoded::new([("json", text(&message.bytes))], StreamAlternate::list_to_bytes(&alternates)))
}

pub(super) fn sync_request(message: &Message) -> Outcome {
    let request = SyncRequest::decode(&message.bytes, &Limits::default())?;
    Ok(Decoded::new(
        [
            ("json", text(&message.bytes)),
            ("peer", peer(request.peer)),
            ("first_seq", sequence(request.first)),
            ("last_seq", sequence(request.last)),
            ("delete_ranges", request.delete_ranges.into()),
            ("min_applied", number(request.min_applied.get())),
            ("jetwake_state", request.state.into()),
            ("jetwake_of", peer(request.of)),
        ],
        request.to_bytes(),
    ))
}
