//! Snapshots: taken from the machine to shorten the log, or received from a leader in place of it.
//! Small ones are kept in memory; of a large one of a plain group, that it lies on the disk.
//!
//! The order on disk: the snapshot is durable before any record that it covers goes, and it is
//! verified (length, hash, and that the machine can read it) before it replaces anything. None is
//! ever replaced by an older one: what is made here covers more than the log's base, what a leader
//! sends covers more than is committed here and ends what is being made.

use alloc::format;

use bytes::Bytes;

use super::{
    Context, Position, Raft, Refusal, State, StateForm, checkpoint::Checkpoint, filing::Filed,
    proving::Proving,
};
use crate::canary::Canary;
use crate::command::{CheckpointNews, Command, LogChange, Report, SnapshotRefusal};
use crate::ids::{CheckpointId, GroupName, Index, WriteId};
use crate::limits::Limits;
use crate::wire::{AppendEntry, EntryKind, Fault, PeerState, RaftSnapshot, WireError};

/// Bytes of an append entry that carries a snapshot, but for what its two entries hold: more than
/// they are.
const MESSAGE_HEAD: u64 = 128;

/// A verified snapshot.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) position: Position,
    pub(super) peer_state: Bytes,
    pub(super) body: Body,
}

/// Where the data of a snapshot is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Here.
    Held(Bytes),
    /// On the disk alone.
    Filed(Filed),
}

impl Snapshot {
    pub(super) const fn held(position: Position, peer_state: Bytes, data: Bytes) -> Self {
        Self { position, peer_state, body: Body::Held(data) }
    }

    /// Verifies a file: its size, its hash, its parts.
    pub(super) fn decode(
        file: Bytes,
        group: &GroupName,
        limits: &Limits,
    ) -> Result<Self, WireError> {
        let (limit, found) = (limits.snapshot.get(), file.len() as u64);
        if found > limit {
            let fault = Fault::TooLarge { limit, found };
            return Err(WireError { format: "raft_snapshot", field: "file", offset: 0, fault });
        }
        let file = RaftSnapshot::decode(&file, group)?;
        let position = Position { index: file.last_index, term: file.last_term };
        Ok(Self::held(position, file.peer_state, file.data))
    }
}

/// The file of a snapshot whose data is here.
fn encode(position: Position, peer_state: &Bytes, data: &Bytes, group: &GroupName) -> Bytes {
    RaftSnapshot {
        last_term: position.term,
        last_index: position.index,
        peer_state: peer_state.clone(),
        data: data.clone(),
    }
    .to_bytes(group)
}

/// What a group does about its next snapshot.
#[derive(Debug, Default)]
pub(super) enum UnderWay {
    #[default]
    Nothing,
    /// The machine makes it.
    Checkpoint(Checkpoint),
    /// It was written in parts, and is read back.
    Proving(Proving),
    /// The disk writes it.
    Writing(Writing),
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    write: WriteId,
    snapshot: Snapshot,
    /// What is kept of it when it is durable, if it is large.
    filed: Option<Filed>,
    origin: Origin,
}

impl Writing {
    pub(super) const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The checkpoint that it came from, if it did.
    pub(super) const fn checkpoint(&self) -> Option<CheckpointId> {
        self.origin.checkpoint()
    }
}

/// Whose a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The machine offered it in one piece.
    Machine,
    /// The machine made it step by step.
    Checkpoint(CheckpointId),
    /// It came from the leader, and the machine has to take it on.
    Leader,
}

impl Origin {
    /// The checkpoint that it came from, if it did.
    pub(super) const fn checkpoint(self) -> Option<CheckpointId> {
        match self {
            Self::Checkpoint(id) => Some(id),
            Self::Machine | Self::Leader => None,
        }
    }
}

/// A durable snapshot from the leader, for the machine to take on: all of it, or a part.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What it covers.
    pub position: Position,
    /// Bytes of its data that were handed out before.
    pub offset: u64,
    /// What the leader's machine gave.
    pub data: Bytes,
    /// Whether nothing follows.
    pub last: bool,
}

impl Raft {
    /// Whether a snapshot is made or written; another one waits for its end.
    pub const fn snapshotting(&self) -> bool {
        !matches!(self.under_way, UnderWay::Nothing)
    }

    /// Whether a snapshot of what the machine has applied could be taken now. Unless it is forced,
    /// none is taken while followers are fed from the log: they would have to begin again.
    ///
    /// # Errors
    /// [`SnapshotRefusal`] says why not.
    pub fn may_snapshot(&self, force: bool) -> Result<Position, SnapshotRefusal> {
        self.may_snapshot_at(self.machine_applied(), force)
    }

    fn may_snapshot_at(&self, index: Index, force: bool) -> Result<Position, SnapshotRefusal> {
        match &self.state {
            State::Opening(_) => return Err(SnapshotRefusal::Opening),
            State::Aside(why) => return Err(SnapshotRefusal::Aside(why.clone())),
            State::Leader(leader) if !force && leader.feeds() > 0 => {
                return Err(SnapshotRefusal::CatchupsRunning { followers: leader.feeds() });
            }
            _ => {}
        }
        if self.snapshotting() {
            return Err(SnapshotRefusal::UnderWay);
        }
        if index > self.applied {
            return Err(SnapshotRefusal::NotApplied { index, handed: self.applied });
        }
        let covered = self.log.base().index;
        let known = self.log.term(index).filter(|_| index > covered);
        let term = known.ok_or(SnapshotRefusal::NothingNew { covered })?;
        Ok(Position { index, term })
    }

    /// Keeps `data` as the state after record `index`, and compacts the log once it is durable.
    ///
    /// The caller has made the machine's own store durable up to there.
    ///
    /// # Errors
    /// [`SnapshotRefusal`]; nothing is changed then.
    pub fn take_snapshot(
        &mut self,
        context: &mut Context<'_>,
        index: Index,
        data: Bytes,
        force: bool,
    ) -> Result<(), SnapshotRefusal> {
        let older = context.limits.planted(Canary::OwnSnapshotReplacesNewer);
        let position = match self.may_snapshot_at(index, force) {
            Err(SnapshotRefusal::NothingNew { .. } | SnapshotRefusal::UnderWay) if older => {
                Position { index, term: self.log.base().term }
            }
            checked => checked?,
        };
        self.machine_processed(index, index);
        let peer_state = self.peer_state_at(index).to_bytes();
        self.keep_snapshot(context, (position, peer_state, data), Origin::Machine)
    }

    /// Writes a snapshot of this member's own, if it could be read again.
    pub(super) fn keep_snapshot(
        &mut self,
        context: &mut Context<'_>,
        (position, peer_state, data): (Position, Bytes, Bytes),
        origin: Origin,
    ) -> Result<(), SnapshotRefusal> {
        let (found, limit) = (data.len() as u64, self.most_data(context.limits));
        if found > limit {
            return Err(SnapshotRefusal::TooLarge { limit, found });
        }
        self.check_state(&data, context.limits)
            .map_err(|error| SnapshotRefusal::Unreadable(format!("{error}")))?;
        self.write_snapshot(context, (position, peer_state, data), origin);
        Ok(())
    }

    /// Whether the machine could take this on.
    pub(super) fn check_state(&self, data: &Bytes, limits: &Limits) -> Result<(), WireError> {
        match self.form {
            StateForm::Whole(check) => check(data, limits),
            StateForm::InParts => Ok(()),
        }
    }

    /// Bytes of a state that are kept in memory at most, and written or read in one part.
    pub(super) fn part(&self, limits: &Limits) -> usize {
        let part = limits.snapshot_part.get().min(self.most_data(limits)).max(1);
        usize::try_from(part).unwrap_or(usize::MAX)
    }

    /// Bytes of data that one snapshot may have: it must be read again as one file, and it goes to a
    /// follower as one message.
    pub(super) fn most_data(&self, limits: &Limits) -> u64 {
        let peers = self.peer_state_at(self.applied).encoded_len() as u64;
        let file = limits.snapshot.get().saturating_sub(RaftSnapshot::LEN_MIN as u64);
        let message = limits.peer_message.get().saturating_sub(MESSAGE_HEAD);
        file.min(message).saturating_sub(peers)
    }

    /// Bytes of data that a snapshot may have that is never in memory whole.
    pub(super) fn most_filed(&self, limits: &Limits) -> u64 {
        let peers = self.peer_state_at(self.applied).encoded_len() as u64;
        limits.snapshot_file.get().saturating_sub(RaftSnapshot::LEN_MIN as u64 + peers)
    }

    /// Whether a leader's snapshot is on its way to disk: until then nothing is acknowledged.
    pub(super) const fn receiving_snapshot(&self) -> bool {
        matches!(&self.under_way, UnderWay::Writing(Writing { origin: Origin::Leader, .. }))
    }

    /// The newest snapshot that there is, on disk or on its way there.
    pub(super) const fn newest_snapshot(&self) -> Option<&Snapshot> {
        match &self.under_way {
            UnderWay::Writing(writing) => Some(writing.snapshot()),
            _ => self.snapshot.as_ref(),
        }
    }

    fn write_snapshot(
        &mut self,
        context: &mut Context<'_>,
        (position, peer_state, data): (Position, Bytes, Bytes),
        origin: Origin,
    ) {
        let file = encode(position, &peer_state, &data, &self.name);
        let large =
            matches!(self.form, StateForm::InParts) && data.len() > self.part(context.limits);
        let seal = file.last_chunk().filter(|_| large);
        let filed = seal.map(|seal| Filed { length: file.len() as u64, seal: *seal });
        let change = LogChange::Snapshot { index: position.index, term: position.term, file };
        self.put_snapshot(
            context,
            change,
            Snapshot::held(position, peer_state, data),
            filed,
            origin,
        );
    }

    /// Asks for a snapshot to be put in its place, and for what follows from that.
    pub(super) fn put_snapshot(
        &mut self,
        context: &mut Context<'_>,
        change: LogChange,
        snapshot: Snapshot,
        filed: Option<Filed>,
        origin: Origin,
    ) {
        let position = snapshot.position;
        if origin != Origin::Leader && context.limits.planted(Canary::CompactedTooSoon) {
            self.log.compact(position.index, context.out);
        }
        let mut write = context.out.write(self.group, change);
        if origin == Origin::Leader {
            // Behind the snapshot in the queue: a crash between the two leaves both.
            write = self.log.reset(position, context.out);
            self.commit = position.index;
            self.applied = position.index;
            self.machine.owe(position.index);
            self.snapshot = Some(snapshot.clone());
            // What the machine was to be handed is no longer there to be read.
            self.offer_nothing();
        }
        self.under_way = UnderWay::Writing(Writing { write, snapshot, filed, origin });
    }

    /// Writes are on disk: perhaps a snapshot's, whose log can go now.
    pub(super) fn snapshot_written(&mut self, context: &mut Context<'_>, through: WriteId) {
        match core::mem::take(&mut self.under_way) {
            UnderWay::Writing(writing) if writing.write <= through => {
                self.snapshot_durable(context, writing);
            }
            other => self.under_way = other,
        }
        self.parts_written(context, through);
    }

    fn snapshot_durable(&mut self, context: &mut Context<'_>, writing: Writing) {
        let Writing { mut snapshot, filed, origin, .. } = writing;
        if let Some(filed) = filed {
            snapshot.body = Body::Filed(filed);
        }
        let index = snapshot.position.index;
        self.snapshot = Some(snapshot);
        let report = Report::Snapshot { index, installed: origin == Origin::Leader };
        context.out.report(self.group, report);
        if origin == Origin::Leader {
            return self.offer_newest();
        }
        let freed = self.log.size_through(index);
        self.log.compact(index, context.out);
        self.settle_changes(index);
        context.out.report(self.group, Report::Compacted { through: index, freed });
        if let Origin::Checkpoint(id) = origin {
            let news = CheckpointNews::Durable { id, index, freed };
            context.out.push(Command::Checkpoint { group: self.group, news });
        }
    }

    /// What [`Canary::GivesLogUp`] does.
    #[cfg(feature = "canaries")]
    pub(crate) fn delete_log(&mut self, context: &mut Context<'_>) {
        self.log.reset(Position::default(), context.out);
        (self.snapshot, self.commit, self.applied) = (None, Index::ZERO, Index::ZERO);
    }

    /// Replaces log and state by the snapshot that a leader sent in place of records.
    pub(super) fn receive_snapshot(
        &mut self,
        context: &mut Context<'_>,
        entry: &AppendEntry,
    ) -> Result<(), Refusal> {
        let index = entry.previous_index;
        if index <= self.commit {
            return Err(Refusal::OldSnapshot { index });
        }
        if self.log.term(index) == Some(entry.previous_term) {
            // All that it covers is here, and records behind it may be acknowledged already.
            return Ok(());
        }
        let mut parts = entry.entries.iter();
        let (Some(data), Some(peers)) = (parts.next(), parts.next()) else { return Ok(()) };
        let limit = context.limits.snapshot.get();
        let found = (RaftSnapshot::LEN_MIN + peers.data.len() + data.data.len()) as u64;
        if found > limit {
            let fault = Fault::TooLarge { limit, found };
            let format = "append_entry";
            return Err(WireError { format, field: "snapshot", offset: 0, fault }.into());
        }
        self.check_state(&data.data, context.limits)?;
        let peer_state = PeerState::decode(&peers.data, context.limits)?;
        self.take_members(&peer_state);
        self.end_checkpoint(context.out, &SnapshotRefusal::Replaced { index });
        let position = Position { index, term: entry.previous_term };
        self.write_snapshot(context, (position, peers.data, data.data), Origin::Leader);
        Ok(())
    }
}

/// Whether an append entry of a catchup carries a snapshot: exactly two entries, the snapshot and
/// the peer state.
pub(super) fn is_snapshot(entry: &AppendEntry) -> bool {
    let mut kinds = entry.entries.views().map(|(kind, _)| kind);
    entry.entries.len() == 2
        && kinds.next() == Some(EntryKind::Snapshot)
        && kinds.next() == Some(EntryKind::PeerState)
}
