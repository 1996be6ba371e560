//! Checks of bytes as they come. A function that returns has found nothing.
//!
//! They know nothing of a fuzzer, so that the project's tests can replay the corpora through them.

pub mod formats;
pub mod subjects;

/// A check of any bytes.
pub type Check = fn(&[u8]);

/// The check of each target that reads what NATS has a format for, under the target's name.
pub const CHECKS: &[(&str, Check)] = &[
    ("api_response", formats::api_response),
    ("append_entry", formats::append_entry),
    ("append_response", formats::append_response),
    ("delete_range", formats::delete_range),
    ("go_time", formats::go_time),
    ("message_delete", formats::message_delete),
    ("peer_state", formats::peer_state),
    ("publish_ack", formats::publish_ack),
    ("purge", formats::purge),
    ("raft_snapshot", formats::raft_snapshot),
    ("s2_block", formats::s2_block),
    ("stream_message", formats::stream_message),
    ("subject", subjects::subject),
    ("sync_request", formats::sync_request),
    ("term_and_vote", formats::term_and_vote),
    ("vote", formats::vote),
];
