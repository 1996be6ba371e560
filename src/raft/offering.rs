//! A leader's large snapshot for a follower of this kind: offered, and handed out part by part as the
//! follower asks. A follower's asking is its flow control; records follow when it has the snapshot.
//!
//! Servers of another kind take a snapshot in one message alone. Who takes parts says so by the
//! inbox at which it waits.

use alloc::format;

use bytes::Bytes;

use super::catchup::{Load, feed_of};
use super::snapshot::Body;
use super::{Context, Raft, Refusal, State, send_to};
use crate::command::{Report, SnapshotFile};
use crate::ids::{ByteCount, Index, PeerId};
use crate::subject::Subject;
use crate::wire::{SnapshotId, SnapshotTransfer, TransferSays};

/// Parts that are read for one follower at the same time; it asks again for what goes beyond.
const READS: usize = 16;

/// A snapshot that a follower was offered, and does not have yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered {
    snapshot: SnapshotId,
    /// Where its log ends.
    from: Index,
    /// How many parts are being read.
    reading: usize,
}

impl Offered {
    pub(super) const fn new(snapshot: SnapshotId, from: Index) -> Self {
        Self { snapshot, from, reading: 0 }
    }

    /// Whether who has this record has the snapshot.
    pub(super) fn is_done(&self, index: Index) -> bool {
        index >= self.snapshot.index
    }
}

impl Raft {
    /// The newest snapshot, if it lies on the disk alone: what a load would read.
    pub(super) fn newest_filed(&self) -> Option<SnapshotId> {
        let newest = self.newest_snapshot()?;
        let Body::Filed(filed) = &newest.body else { return None };
        let (index, term) = (newest.position.index, newest.position.term);
        Some(SnapshotId { index, term, length: filed.length, seal: filed.seal })
    }

    pub(super) fn offer(
        &self,
        context: &mut Context<'_>,
        peer: PeerId,
        inbox: &Subject,
        snapshot: SnapshotId,
    ) {
        let part = self.part(context.limits) as u64;
        self.send_transfer(context, peer, inbox, snapshot, TransferSays::Offer { part });
    }

    fn send_transfer(
        &self,
        context: &mut Context<'_>,
        peer: PeerId,
        inbox: &Subject,
        snapshot: SnapshotId,
        says: TransferSays,
    ) {
        let message = SnapshotTransfer { sender: self.me, term: self.term, snapshot, says };
        let reply = Some(self.subjects.catchup_progress.clone());
        context.out.push(send_to(peer, inbox.clone(), reply, message.to_bytes()));
    }

    /// A follower asks for a part of the snapshot that it was offered.
    pub(super) fn handle_ask(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let SnapshotTransfer { sender, term, snapshot, says } = SnapshotTransfer::decode(payload)?;
        let peer = self.check_follower(from, sender)?;
        let (newest, most) = (self.newest_filed(), self.part(context.limits) as u64);
        let State::Leader(leader) = &mut self.state else { return Ok(()) };
        let TransferSays::Ask { offset, bytes } = says else { return Ok(()) };
        if term != self.term {
            return Ok(());
        }
        let progress = leader.peers.entry(peer).or_default();
        progress.heard = Some(context.now);
        let Some(feed) = &mut progress.feed else { return Ok(()) };
        feed.until = context.now + context.timers.log_catchup_stall;
        let Some(offered) = &mut feed.offered else { return Ok(()) };
        if Some(snapshot) != newest {
            return self.offer_newer(context, peer, newest);
        }
        let bytes = bytes.min(most).min(snapshot.length.saturating_sub(offset));
        if bytes == 0 || offered.reading >= READS {
            return Ok(());
        }
        offered.reading += 1;
        let (file, bytes) = (SnapshotFile::Current, ByteCount::new(bytes));
        let load = context.out.load_snapshot(self.group, file, offset, bytes);
        self.loads.insert(load, Load::FeedPart { peer, snapshot, offset });
        Ok(())
    }

    /// It asks for one that is gone.
    fn offer_newer(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        newest: Option<SnapshotId>,
    ) -> Result<(), Refusal> {
        let State::Leader(leader) = &mut self.state else { return Ok(()) };
        let Some(feed) = feed_of(leader, peer) else { return Ok(()) };
        let inbox = feed.inbox.clone();
        let Some(Offered { snapshot: offered, from, .. }) = feed.offered else { return Ok(()) };
        match newest {
            Some(newest) if offered == newest => self.offer(context, peer, &inbox, newest),
            // The new one may be small.
            _ => self.start_feed(context, peer, from, inbox),
        }
        Ok(())
    }

    /// A part that was read for a follower.
    pub(super) fn feed_part(
        &mut self,
        context: &mut Context<'_>,
        (peer, snapshot, offset): (PeerId, SnapshotId, u64),
        bytes: Bytes,
    ) {
        let newest = self.newest_filed();
        let State::Leader(leader) = &mut self.state else { return };
        let Some(feed) = feed_of(leader, peer) else { return };
        let inbox = feed.inbox.clone();
        let Some(offered) = &mut feed.offered else { return };
        offered.reading = offered.reading.saturating_sub(1);
        // What was read may be bytes of a newer one, which is offered when this one is asked for again.
        if Some(snapshot) != newest || offered.snapshot != snapshot {
            return;
        }
        if bytes.is_empty() {
            let what = format!("it ends before byte {offset}");
            self.snapshot_is_bad(context, snapshot.index, &what);
        } else {
            let says = TransferSays::Part { offset, bytes };
            self.send_transfer(context, peer, &inbox, snapshot, says);
        }
    }

    /// A server of another kind lacks what only a large snapshot covers.
    pub(super) fn cannot_feed(&self, context: &mut Context<'_>, peer: PeerId, index: Index) {
        let what = format!(
            "{peer} needs the snapshot of {index}, which is larger than a message may be, and takes \
             no parts"
        );
        context.out.report(self.group, Report::Catchup(what));
    }
}
