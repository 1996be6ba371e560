//! Checks of bytes as they come. A function that returns has found nothing.
//!
//! They know nothing of a fuzzer, so that the project's tests can replay the corpora through them.

pub mod catchups;
mod draws;
pub mod formats;
pub mod lives;
pub mod publishes;
pub mod subjects;
pub mod traces;

/// A check of any bytes.
pub type Check = fn(&[u8]);

/// The check of each target that needs the core and the simulator alone, under the target's name.
pub const CHECKS: &[(&str, Check)] = &[
    ("api_response", formats::api_response),
    ("append_entry", formats::append_entry),
    ("append_response", formats::append_response),
    ("batch_message", formats::batch_message),
    ("catchup_follower", catchups::catchup_follower),
    ("catchup_leader", catchups::catchup_leader),
    ("catchup_state", formats::catchup_state),
    ("cluster_info", formats::cluster_info),
    ("consumer_assignment", formats::consumer_assignment),
    ("consumer_info", formats::consumer_info),
    ("consumer_op", formats::consumer_op),
    ("consumer_state", formats::consumer_state),
    ("delete_range", formats::delete_range),
    ("go_time", formats::go_time),
    ("legacy_stream_state", formats::legacy_stream_state),
    ("message_delete", formats::message_delete),
    ("meta_snapshot", formats::meta_snapshot),
    ("peer_state", formats::peer_state),
    ("publish", publishes::publish),
    ("publish_ack", formats::publish_ack),
    ("purge", formats::purge),
    ("raft_group", lives::raft_group),
    ("raft_snapshot", formats::raft_snapshot),
    ("s2_block", formats::s2_block),
    ("s2_stream", formats::s2_stream),
    ("sequence_set", formats::sequence_set),
    ("snapshot_transfer", formats::snapshot_transfer),
    ("stream_assignment", formats::stream_assignment),
    ("stream_info", formats::stream_info),
    ("stream_message", formats::stream_message),
    ("stream_op", formats::stream_op),
    ("stream_state", formats::stream_state),
    ("subject", subjects::subject),
    ("sync_request", formats::sync_request),
    ("term_and_vote", formats::term_and_vote),
    ("trace", traces::trace),
    ("vote", formats::vote),
];
