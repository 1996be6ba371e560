//! A leader feeds one follower that lags: records from its log, after its snapshot if the log
//! does not reach back far enough.
//!
//! Each feed has a window of its own and never holds up the others. It begins small and doubles with
//! each word of progress, up to `Limits::log_catchup_in_flight`: a follower that has to ask again and
//! again was sent little in vain. What is sent carries the leader's term, so that a deposed leader's
//! feed is ignored.

use alloc::collections::VecDeque;
use alloc::format;

use bytes::Bytes;

use super::{
    Context, Position, Raft, State,
    leader::{Leader, append_entry_of},
    offering::Offered,
    send_to,
    snapshot::Body,
};
use crate::command::SnapshotFile;
use crate::event::Failure;
use crate::ids::{ByteCount, CheckpointId, Index, LoadId, PeerId, Term};
use crate::subject::{self, Subject};
use crate::time::Time;
use crate::wire::{AppendEntry, AppendEntryBuilder, EntryKind, RaftSnapshot, SnapshotId};

/// What a load of log records or of a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// The machine applies them.
    Machine(Index),
    /// A follower lacks them.
    Feed(PeerId),
    /// A checkpoint is made from them.
    Checkpoint {
        /// Which.
        id: CheckpointId,
        /// The first of them.
        first: Index,
    },
    /// A snapshot that was written in parts is read back.
    Proof,
    /// The machine takes a snapshot on.
    Handing,
    /// A checkpoint is made from the snapshot before it.
    LastSnapshot(CheckpointId),
    /// A follower lacks what the snapshot covers.
    FeedSnapshot(PeerId),
    /// A follower asked for a part of it.
    FeedPart {
        /// Who.
        peer: PeerId,
        /// Which file it is.
        snapshot: SnapshotId,
        /// Where the part begins.
        offset: u64,
    },
}

/// Bytes in flight of a feed that has not heard of progress yet.
const FIRST_WINDOW: u64 = 32 << 10;

/// A follower that is being fed.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) inbox: Subject,
    next: Index,
    /// The snapshot that it asks for, part by part, before it gets records.
    pub(super) offered: Option<Offered>,
    /// Sent and not yet on the follower's disk, ascending, with sizes.
    sent: VecDeque<(Index, u64)>,
    in_flight: u64,
    /// How many bytes may be in flight.
    window: u64,
    loading: Option<LoadId>,
    /// Whether the follower was told where the log ends.
    told_end: bool,
    /// When it counts as dead.
    pub(super) until: Time,
}

impl Raft {
    /// A follower whose log ends at `index` asks for what follows, at its inbox.
    pub(super) fn start_feed(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        index: Index,
        inbox: Subject,
    ) {
        let mut next = index.next();
        let (mut loading, mut offered) = (None, None);
        if next < self.log.first() {
            // One that is being written is what the disk would read.
            let Some(snapshot) = self.newest_snapshot() else { return };
            next = snapshot.position.index.next();
            match &snapshot.body {
                Body::Held(data) => {
                    let parts = (snapshot.position, data, &snapshot.peer_state);
                    self.send_snapshot(context, peer, &inbox, parts);
                }
                Body::Filed(_) if subject::takes_parts(&inbox) => {
                    let Some(snapshot) = self.newest_filed() else { return };
                    self.offer(context, peer, &inbox, snapshot);
                    offered = Some(Offered::new(snapshot, index));
                }
                Body::Filed(filed) if filed.length > self.most_data(context.limits) => {
                    return self.cannot_feed(context, peer, snapshot.position.index);
                }
                Body::Filed(filed) => {
                    let (file, bytes) = (SnapshotFile::Current, ByteCount::new(filed.length));
                    let load = context.out.load_snapshot(self.group, file, 0, bytes);
                    self.loads.insert(load, Load::FeedSnapshot(peer));
                    loading = Some(load);
                }
            }
        }
        let State::Leader(leader) = &mut self.state else { return };
        let progress = leader.peers.entry(peer).or_default();
        progress.feed = Some(Feed {
            inbox,
            next,
            offered,
            sent: VecDeque::new(),
            in_flight: 0,
            window: FIRST_WINDOW.min(context.limits.log_catchup_in_flight.get()),
            loading,
            told_end: false,
            until: context.now + context.timers.log_catchup_stall,
        });
        self.feed(context, peer);
    }

    /// Sends a snapshot in one message, as NATS servers do.
    fn send_snapshot(
        &self,
        context: &mut Context<'_>,
        peer: PeerId,
        inbox: &Subject,
        (at, data, peer_state): (Position, &Bytes, &Bytes),
    ) {
        let builder =
            append_entry_of(&[(EntryKind::Snapshot, data), (EntryKind::PeerState, peer_state)]);
        let payload =
            builder.finish(self.me, self.term, self.commit, at.term, at.index, Term::ZERO);
        let reply = Some(self.subjects.catchup_progress.clone());
        context.out.push(send_to(peer, inbox.clone(), reply, payload));
    }

    /// The snapshot that a follower lacks was read.
    fn feed_snapshot(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        load: LoadId,
        file: Bytes,
    ) {
        let State::Leader(leader) = &mut self.state else { return };
        let Some(feed) = feed_of(leader, peer).filter(|feed| feed.loading == Some(load)) else {
            return;
        };
        feed.loading = None;
        let inbox = feed.inbox.clone();
        match RaftSnapshot::decode(&file, &self.name) {
            Ok(file) => {
                let at = Position { index: file.last_index, term: file.last_term };
                self.send_snapshot(context, peer, &inbox, (at, &file.data, &file.peer_state));
                self.feed(context, peer);
            }
            Err(error) => {
                let covered = self.log.base().index;
                self.snapshot_is_bad(context, covered, &format!("{error}"));
            }
        }
    }

    /// A part of a snapshot file that was asked for.
    pub fn handle_snapshot_loaded(&mut self, context: &mut Context<'_>, load: LoadId, part: Bytes) {
        if matches!(self.state, State::Opening(_)) {
            return self.handle_opening_snapshot(context, load, &part);
        }
        match self.loads.remove(&load) {
            Some(Load::Proof) => self.proof_loaded(context, &part),
            Some(Load::Handing) => self.handing_loaded(context, &part),
            Some(Load::LastSnapshot(id)) => self.last_snapshot_loaded(context, id, &part),
            Some(Load::FeedSnapshot(peer)) => self.feed_snapshot(context, peer, load, part),
            Some(Load::FeedPart { peer, snapshot, offset }) => {
                self.feed_part(context, (peer, snapshot, offset), part);
            }
            _ => {}
        }
    }

    /// Sends as much as the window allows, from the cache or from disk.
    fn feed(&mut self, context: &mut Context<'_>, peer: PeerId) {
        let (first, last) = (self.log.first(), self.log.last().index);
        loop {
            let State::Leader(leader) = &mut self.state else { return };
            let Some(feed) = feed_of(leader, peer) else { return };
            if feed.loading.is_some() || feed.offered.is_some() {
                return;
            }
            if feed.next < first {
                // The log was compacted meanwhile: what comes next is in the snapshot alone.
                let (inbox, index) = (feed.inbox.clone(), feed.next.previous());
                return self.start_feed(context, peer, index, inbox);
            }
            if feed.in_flight >= feed.window || feed.next > last {
                break;
            }
            let Some(record) = self.log.record(feed.next).cloned() else {
                let room = feed.window - feed.in_flight;
                let most = ByteCount::new(context.limits.load.get().min(room));
                let load = context.out.load(self.group, feed.next, last, most);
                feed.loading = Some(load);
                self.loads.insert(load, Load::Feed(peer));
                return;
            };
            if !self.feed_record(context, peer, &record) {
                return;
            }
        }
        self.tell_end(context, peer);
        let State::Leader(leader) = &mut self.state else { return };
        if let Some(progress) = leader.peers.get_mut(&peer)
            && progress.feed.as_ref().is_some_and(|feed| feed.next > last && feed.sent.is_empty())
        {
            progress.feed = None;
        }
    }

    /// Behind the last record comes an empty one, once: the log ended there when the follower had
    /// asked. One that lost what it acknowledged has it all again then.
    fn tell_end(&mut self, context: &mut Context<'_>, peer: PeerId) {
        let last = self.log.last();
        let State::Leader(leader) = &mut self.state else { return };
        let Some(feed) = feed_of(leader, peer) else { return };
        if feed.next <= last.index || feed.told_end {
            return;
        }
        feed.told_end = true;
        let end = AppendEntryBuilder::new();
        let (term, commit) = (self.term, self.commit);
        let payload = end.finish(self.me, term, commit, last.term, last.index, term);
        let reply = Some(self.subjects.catchup_progress.clone());
        context.out.push(send_to(peer, feed.inbox.clone(), reply, payload));
    }

    fn feed_record(&mut self, context: &mut Context<'_>, peer: PeerId, record: &Bytes) -> bool {
        let payload = match AppendEntry::decode(record) {
            Ok(mut entry) => {
                (entry.leader_term, entry.has_leader_term) = (self.term, true);
                entry.to_bytes()
            }
            Err(error) => {
                self.stand_aside(context, format!("a log record for {peer}: {error}"));
                return false;
            }
        };
        let State::Leader(leader) = &mut self.state else { return false };
        let Some(feed) = feed_of(leader, peer) else { return false };
        let bytes = payload.len() as u64;
        feed.sent.push_back((feed.next, bytes));
        feed.in_flight += bytes;
        feed.next = feed.next.next();
        let reply = Some(self.subjects.catchup_progress.clone());
        context.out.push(send_to(peer, feed.inbox.clone(), reply, payload));
        true
    }

    /// A follower said that it has records up to `index` on disk.
    pub(super) fn feed_progressed(
        &mut self,
        context: &mut Context<'_>,
        peer: PeerId,
        index: Index,
    ) {
        let State::Leader(leader) = &mut self.state else { return };
        let Some(feed) = feed_of(leader, peer) else { return };
        feed.until = context.now + context.timers.log_catchup_stall;
        feed.offered = feed.offered.filter(|offered| !offered.is_done(index));
        let before = feed.in_flight;
        while let Some((sent, bytes)) = feed.sent.front().copied()
            && sent <= index
        {
            feed.sent.pop_front();
            feed.in_flight -= bytes;
        }
        if feed.in_flight < before {
            let most = context.limits.log_catchup_in_flight.get();
            feed.window = feed.window.saturating_mul(2).min(most);
        }
        self.feed(context, peer);
    }

    pub(super) fn load_for_machine(&mut self, context: &mut Context<'_>, index: Index) {
        let last = self.commit.min(self.log.durable());
        let load = context.out.load(self.group, index, last, context.limits.load);
        self.loads.insert(load, Load::Machine(index));
        self.applying = Some(load);
    }

    /// Log records that were asked for.
    pub fn handle_loaded(&mut self, context: &mut Context<'_>, load: LoadId, records: &[Bytes]) {
        if matches!(self.state, State::Opening(_)) {
            return self.handle_opening_records(context, load, records);
        }
        match self.loads.remove(&load) {
            Some(Load::Machine(first)) => {
                self.applying = None;
                if first == self.applied.next() {
                    self.log.keep_loaded(first, records);
                }
            }
            Some(Load::Feed(peer)) => {
                let State::Leader(leader) = &mut self.state else { return };
                let Some(feed) = feed_of(leader, peer).filter(|f| f.loading == Some(load)) else {
                    return;
                };
                feed.loading = None;
                for record in records {
                    if !self.feed_record(context, peer, record) {
                        return;
                    }
                }
                self.feed(context, peer);
            }
            Some(Load::Checkpoint { id, first }) => {
                self.checkpoint_loaded(context, (id, first), records);
            }
            _ => {}
        }
    }

    /// Log records could not be read: what the group promised may be gone. While the disk is read
    /// for the first time, a damaged record ends the log; later the group stands aside, and is
    /// repaired when its server starts again.
    pub fn handle_load_failed(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        failure: &Failure,
    ) {
        if let (State::Opening(opening), Failure::Damaged(damage)) = (&self.state, failure) {
            return match opening.reads_snapshot() {
                true => self.end_snapshot_at_damage(context, damage.clone()),
                false => self.end_log_at_damage(context, damage.clone()),
            };
        }
        if self.loads.get(&load) == Some(&Load::Proof) {
            self.loads.remove(&load);
            return self.not_proven(context, format!("{failure}"));
        }
        if self.owns_load(load) {
            self.stand_aside(context, format!("the log cannot be read: {failure}"));
        }
    }
}

pub(super) fn feed_of(leader: &mut Leader, peer: PeerId) -> Option<&mut Feed> {
    leader.peers.get_mut(&peer).and_then(|progress| progress.feed.as_mut())
}
