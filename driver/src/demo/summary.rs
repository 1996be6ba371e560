//! What came of a run: for a program as one JSON object, for a person in a few lines.

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::nodes::SERVERS;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Whether nothing was lost, doubled or different.
    pub verified: bool,
    /// Messages published.
    pub published: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages acknowledged, not removed since, and missing on some replica.
    pub lost: u64,
    /// Messages that are there twice, or elsewhere than was acknowledged.
    pub duplicates: u64,
    /// Whether all replicas hold the same and say the same of themselves.
    pub replicas_identical: bool,
    /// Publishing before anything was disturbed: the first 40 % of all messages.
    pub publish: Publish,
    /// The stream's catchup of the follower that was away.
    pub catchup: CatchupFigures,
    /// How a new leader took over.
    pub failover: Failover,
    /// What the nodes needed.
    pub memory: Memory,
    /// The second stream, which has limits and takes batches.
    pub bounded: BoundedFigures,
}

/// Publishing before anything was disturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Publish {
    /// Messages acknowledged each second, each by a quorum of synced disks.
    pub messages_per_second: f64,
    /// From handing a message to the client to its acknowledgement; half took less.
    pub p50_milliseconds: f64,
    /// 99 of 100 took less.
    pub p99_milliseconds: f64,
}

/// The stream's catchup of the follower that was away, from its request to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CatchupFigures {
    /// Messages received, and deleted sequences that it was told of.
    pub messages: u64,
    /// Bytes received.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// How a new leader took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Failover {
    /// From the SIGKILL of the leader to the first acknowledgement of the next.
    pub milliseconds: f64,
}

/// The second stream, which has limits and takes batches: what all replicas must agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BoundedFigures {
    /// Batches that were acknowledged, and are stored whole.
    pub batches_committed: u64,
    /// Batches that were never committed, or forgotten with their leader, and left nothing.
    pub batches_abandoned: u64,
    /// Batches that were refused as a message of them was left out, and left nothing.
    pub batches_refused: u64,
    /// Messages that gave way to others, as the stream's limits say.
    pub evicted: u64,
    /// Messages that were purged.
    pub purged: u64,
    /// Messages that are there at the end.
    pub messages: u64,
}

/// What the nodes needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// The most memory that a process of each node had; null where the system does not tell.
    pub peak_bytes_per_node: Vec<Option<u64>>,
}

impl Summary {
    /// The object on one line.
    pub fn to_json(&self) -> String {
        // It fails for maps whose keys are no text, of which there is none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The figures in words.
    pub fn to_lines(&self) -> Vec<String> {
        let Publish { messages_per_second, p50_milliseconds, p99_milliseconds } = self.publish;
        let CatchupFigures { messages, bytes, seconds } = self.catchup;
        let rate = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
        let memory = SERVERS.iter().zip(&self.memory.peak_bytes_per_node);
        let memory = memory.map(|(server, peak)| match peak {
            Some(bytes) => format!("{server} {}", HumanBytes(*bytes)),
            None => format!("{server} not known"),
        });
        let outcome = if self.verified { "verified" } else { "NOT VERIFIED" };
        let replicas = if self.replicas_identical { "identical" } else { "DIFFERENT" };
        let bounded = &self.bounded;
        vec![
            format!(
                "{outcome}: {} published, {} acknowledged, {} lost, {} doubled; three replicas, \
                 {replicas}",
                HumanCount(self.published),
                HumanCount(self.acked),
                HumanCount(self.lost),
                HumanCount(self.duplicates),
            ),
            format!(
                "publish:  {} messages/s with three durable replicas, undisturbed (the first \
                 40 %); half acknowledged within {p50_milliseconds} ms, 99 % within \
                 {p99_milliseconds} ms",
                HumanCount(messages_per_second as u64),
            ),
            format!(
                "catchup:  {} messages and deletes, {}, in {seconds} s: {}/s",
                HumanCount(messages),
                HumanBytes(bytes),
                HumanBytes(rate as u64),
            ),
            format!(
                "failover: {} ms from the kill of the leader to the next one's first \
                 acknowledgement",
                self.failover.milliseconds
            ),
            format!(
                "batches:  {} stored whole, {} abandoned and {} refused without a trace; of their \
                 messages {} gave way to the limits, {} are purged and {} there",
                HumanCount(bounded.batches_committed),
                HumanCount(bounded.batches_abandoned),
                HumanCount(bounded.batches_refused),
                HumanCount(bounded.evicted),
                HumanCount(bounded.purged),
                HumanCount(bounded.messages),
            ),
            format!("memory:   at most {}", memory.collect::<Vec<_>>().join(", ")),
        ]
    }
}

/// A figure with so many digits as mean something.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_its_fields_in_their_order() {
        let peak_bytes_per_node = vec![Some(5), None, Some(7)];
        let summary = Summary { memory: Memory { peak_bytes_per_node }, ..Summary::default() };
        assert_eq!(
            summary.to_json(),
            r#"{"verified":false,"published":0,"acked":0,"lost":0,"duplicates":0,"replicas_identical":false,"publish":{"messages_per_second":0.0,"p50_milliseconds":0.0,"p99_milliseconds":0.0},"catchup":{"messages":0,"bytes":0,"seconds":0.0},"failover":{"milliseconds":0.0},"memory":{"peak_bytes_per_node":[5,null,7]},"bounded":{"batches_committed":0,"batches_abandoned":0,"batches_refused":0,"evicted":0,"purged":0,"messages":0}}"#
        );
    }
}
