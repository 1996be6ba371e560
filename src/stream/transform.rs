//! Under which subject a message is stored.
//!
//! Upstream: `itr` of `stream` in `server/stream.go`, which `processJetStreamMsg` applies on every
//! replica. Whatever a leader looks up before it proposes a message, it looks up under that subject too:
//! so do upstream's servers that stand alone, while those of its clusters look where nothing is stored.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Stream;
use super::checks::Staged;
use crate::ids::Sequence;
use crate::subject_transform::{TooLong, Transform};
use crate::wire::{ApiError, StreamConfig};

/// The transform of a stream.
#[derive(Clone, Debug)]
pub(super) struct SubjectsStored(Transform);

impl SubjectsStored {
    /// What a configuration says; none if subjects stay as they are.
    pub(super) fn of(config: &StreamConfig) -> Option<Self> {
        let transform = config.subject_transform.as_ref()?;
        // A stream whose transform cannot be applied is not kept: its configuration is refused.
        Transform::new(&transform.src, &transform.dest).ok().flatten().map(Self)
    }

    /// The subject of a message that was proposed behind this sequence.
    pub(super) fn stored(&self, subject: &[u8], proposed: Sequence) -> Result<Vec<u8>, TooLong> {
        let stored = self.0.apply(subject, proposed.get())?;
        Ok(stored.unwrap_or_else(|| subject.to_vec()))
    }
}

impl Stream {
    /// The subject under which a message will be stored that is proposed behind those that are staged.
    pub(super) fn stored_subject(
        &self,
        staged: &Staged,
        subject: &Bytes,
    ) -> Result<Bytes, ApiError> {
        let Some(transform) = &self.transform else { return Ok(subject.clone()) };
        let Some(leadership) = &self.leadership else { return Err(ApiError::CLUSTER_NOT_LEADER) };
        let proposed = leadership.sequence.plus(staged.messages);
        let stored =
            transform.stored(subject, proposed).map_err(|TooLong| ApiError::BAD_REQUEST)?;
        Ok(Bytes::from(stored))
    }
}
