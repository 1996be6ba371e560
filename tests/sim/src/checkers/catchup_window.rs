//! A catchup of a stream sends no more than its share before it is acknowledged, so that one dead
//! follower does not hold what all followers of a node share.
//!
//! An ack says how many bytes it stands for, and not which. Where a network doubles acks or changes
//! their order, a server may take one for that of a later message of the same size: a quarter more than
//! the share is borne.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::command::Command;
use jetwake::limits::Limits;

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// How the subjects of acknowledgements begin; a token and the bytes they stand for follow.
const ACKS: &[u8] = b"$JSC.ACK.";
/// What goes beyond a share at most: a message that is larger than a read, and what is told of deletes
/// between those of one read.
const SLACK: u64 = 24 * 1024;

/// Counts what each catchup has sent and has no acknowledgement for.
#[derive(Debug)]
pub(super) struct CatchupWindow {
    most: u64,
    waiting: BTreeMap<Bytes, u64>,
}

impl CatchupWindow {
    /// Counts up to the bounds of these limits.
    pub(super) fn new(limits: &Limits) -> Self {
        // One read is sent whatever the share.
        let (share, read) = (limits.stream_catchup_bytes.get(), limits.load.get());
        let share = share.max(read);
        let most = share.saturating_add(share / 4).saturating_add(read.min(2 * SLACK) + SLACK);
        Self { most, waiting: BTreeMap::new() }
    }
}

impl Checker for CatchupWindow {
    fn rule(&self) -> &'static str {
        "a catchup keeps to its share"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, _: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Send { subject, reply, .. }) = seen else { return Ok(()) };
        if let Some((token, bytes)) = ack(subject.as_bytes()) {
            // Whether it arrives or not: the follower has done its part.
            if let Some(waiting) = self.waiting.get_mut(&token) {
                *waiting = waiting.saturating_sub(bytes);
            }
        }
        let Some((token, bytes)) = reply.as_ref().and_then(|reply| ack(reply.as_bytes())) else {
            return Ok(());
        };
        let waiting = self.waiting.entry(token).or_default();
        *waiting += bytes;
        match *waiting {
            waiting if waiting > self.most => Err(format!(
                "{machine} has {waiting} bytes of one catchup in flight, of {} that it may",
                self.most
            )),
            _ => Ok(()),
        }
    }
}

/// The token and the bytes of an acknowledgement's subject.
fn ack(subject: &Bytes) -> Option<(Bytes, u64)> {
    let rest = subject.strip_prefix(ACKS)?;
    let dot = rest.iter().position(|byte| *byte == b'.')?;
    let bytes = core::str::from_utf8(&rest[dot + 1..]).ok()?.parse().ok()?;
    Some((subject.slice_ref(&rest[..dot]), bytes))
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, message_to};
    use super::*;
    use jetwake::ids::ByteCount;

    #[test]
    fn a_catchup_that_does_not_wait_for_acks_is_found() {
        let limits = Limits {
            stream_catchup_bytes: ByteCount::new(1_000),
            load: ByteCount::new(1_000),
            ..Limits::default()
        };
        let mut stage = Stage::new();
        let mut checker = CatchupWindow::new(&limits);
        let part = message_to("$JSC.R.inbox", Some("$JSC.ACK.token.20000"));
        assert_eq!(stage.commanded(&mut checker, 0, &part), Ok(()));
        let other = message_to("$JSC.R.inbox", Some("$JSC.ACK.other.20000"));
        assert_eq!(stage.commanded(&mut checker, 0, &other), Ok(()));
        let ack = message_to("$JSC.ACK.token.20000", None);
        assert_eq!(stage.commanded(&mut checker, 1, &ack), Ok(()));
        assert_eq!(stage.commanded(&mut checker, 0, &part), Ok(()));
        let found = stage.commanded(&mut checker, 0, &part);
        assert!(found.unwrap_err().contains("n1 has 40000 bytes of one catchup in flight"));
    }
}
