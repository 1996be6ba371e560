//! Snapshots: taken from the machine to shorten the log, or received from a leader in place of it.
//!
//! The order on disk: the snapshot is durable before any record that it covers goes, and it is
//! verified (length, hash, and that the machine can read it) before it replaces anything.

use bytes::Bytes;

use super::{Context, Position, Raft, Refusal};
use crate::command::{LogChange, Report};
use crate::ids::{GroupName, Index, WriteId};
use crate::limits::Limits;
use crate::wire::{AppendEntry, EntryKind, Fault, PeerState, RaftSnapshot, WireError};

use super::quorum::Members;

/// A verified snapshot.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) position: Position,
    pub(super) peer_state: Bytes,
    pub(super) data: Bytes,
}

impl Snapshot {
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
        Ok(Self { position, peer_state: file.peer_state, data: file.data })
    }

    fn encode(&self, group: &GroupName) -> Bytes {
        RaftSnapshot {
            last_term: self.position.term,
            last_index: self.position.index,
            peer_state: self.peer_state.clone(),
            data: self.data.clone(),
        }
        .encode(group)
    }
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(super) struct Installing {
    write: WriteId,
    position: Position,
    /// Whether it came from the leader, and the machine has to take it on.
    received: bool,
}

/// A durable snapshot from the leader, for the machine to take on.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What it covers.
    pub position: Position,
    /// What the leader's machine gave.
    pub data: Bytes,
}

impl Raft {
    /// Whether a snapshot is being written; another one waits for its end.
    pub const fn snapshotting(&self) -> bool {
        self.installing.is_some()
    }

    /// Keeps `data` as the state after record `index`, and compacts the log once it is durable.
    ///
    /// The caller has made the machine's own store durable up to there. Ignored for a record
    /// that was not applied or is covered already, and while another snapshot is written.
    pub fn take_snapshot(&mut self, context: &mut Context<'_>, index: Index, data: Bytes) {
        if index > self.applied || index <= self.log.base().index || self.installing.is_some() {
            return;
        }
        let Some(term) = self.log.term(index) else { return };
        let peer_state = self.peer_state().to_bytes();
        let snapshot = Snapshot { position: Position { index, term }, peer_state, data };
        self.write_snapshot(context, snapshot, false);
    }

    /// Whether a leader's snapshot is on its way to disk: until then nothing is acknowledged.
    pub(super) fn receiving_snapshot(&self) -> bool {
        self.installing.as_ref().is_some_and(|installing| installing.received)
    }

    fn write_snapshot(&mut self, context: &mut Context<'_>, snapshot: Snapshot, received: bool) {
        let position = snapshot.position;
        let change = LogChange::Snapshot {
            index: position.index,
            term: position.term,
            file: snapshot.encode(&self.name),
        };
        let mut write = context.out.write(self.group, change);
        if received {
            // Behind the snapshot in the queue: a crash between the two leaves both.
            write = self.log.reset(position, context.out);
            self.commit = position.index;
            self.applied = position.index;
        }
        self.snapshot = Some(snapshot);
        self.installing = Some(Installing { write, position, received });
    }

    /// Writes are on disk: perhaps a snapshot's, whose log can go now.
    pub(super) fn snapshot_written(&mut self, context: &mut Context<'_>, through: WriteId) {
        let Some(Installing { write, position, received }) = self.installing else { return };
        if through < write {
            return;
        }
        self.installing = None;
        let report = Report::Snapshot { index: position.index, installed: received };
        context.out.report(self.group, report);
        if received {
            self.offer_installed();
        } else {
            self.log.compact(position.index, context.out);
        }
    }

    pub(super) fn offer_installed(&mut self) {
        self.installed = self
            .snapshot
            .as_ref()
            .map(|snapshot| Installed { position: snapshot.position, data: snapshot.data.clone() });
    }

    /// The leader's snapshot that the machine has to take on before it applies more, once.
    pub fn take_installed(&mut self) -> Option<Installed> {
        self.installed.take()
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
        if data.data.len() as u64 > limit {
            let fault = Fault::TooLarge { limit, found: data.data.len() as u64 };
            let format = "append_entry";
            return Err(WireError { format, field: "snapshot", offset: 0, fault }.into());
        }
        (self.check_snapshot)(&data.data, context.limits)?;
        let peer_state = PeerState::decode(&peers.data, context.limits)?;
        self.take_members(&peer_state);
        let position = Position { index, term: entry.previous_term };
        let snapshot = Snapshot { position, peer_state: peers.data, data: data.data };
        self.write_snapshot(context, snapshot, true);
        Ok(())
    }

    pub(super) fn take_members(&mut self, state: &PeerState) {
        self.members = Members::from_peer_state(state);
        self.members_changed();
    }

    pub(super) fn peer_state(&self) -> PeerState {
        PeerState {
            cluster_size: u32::try_from(self.members.size()).unwrap_or(u32::MAX),
            peers: self.members.iter().collect(),
            domain: Default::default(),
        }
    }

    /// Follows the members that a committed record names.
    pub(super) fn apply_membership(&mut self, entry: &AppendEntry, limits: &Limits) {
        for part in entry.entries.iter() {
            if part.kind == EntryKind::PeerState
                && let Ok(state) = PeerState::decode(&part.data, limits)
            {
                self.take_members(&state);
            }
        }
    }
}

/// Whether an append entry of a catchup carries a snapshot: exactly two entries, the snapshot and
/// the peer state.
pub(super) fn is_snapshot(entry: &AppendEntry) -> bool {
    let mut kinds = entry.entries.iter().map(|part| part.kind);
    entry.entries.len() == 2
        && kinds.next() == Some(EntryKind::Snapshot)
        && kinds.next() == Some(EntryKind::PeerState)
}
