//! A start from disk: the snapshot is verified, the log is read once from end to end so that its
//! terms are known, and only then does the member take part.
//!
//! What was applied was committed, so the commit index starts there and not at zero. What cannot be
//! read, or does not join, may have been acknowledged: the member is impaired then (see `trust`),
//! and goes on with what it can rely on.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::filing::Filed;
use super::snapshot::{Body, Snapshot};
use super::{Context, Position, Raft, State, StateForm, log::Log, trust::Forgotten};
use crate::canary::Canary;
use crate::command::{Report, SnapshotFile};
use crate::event::{Damage, Damaged, Opened, SnapshotFound, StoreMark, TermAndVote};
use crate::ids::{ByteCount, Index, LoadId};
use crate::wire::{AppendEntry, PeerState, SnapshotReader, WireError};

/// How far the reading of the disk has got.
#[derive(Debug, Default)]
pub(super) struct Opening {
    load: Option<LoadId>,
    /// The last record that the disk has.
    last: Index,
    applied: Index,
    /// Whether the driver said that records cannot be read.
    damaged: bool,
    /// The snapshot that is read in parts, before the log.
    snapshot: Option<Box<ReadingSnapshot>>,
}

/// A snapshot that is verified, and what is to be done behind that.
#[derive(Debug)]
struct ReadingSnapshot {
    reader: SnapshotReader,
    /// Its data, if the machine is in the core.
    data: Option<BytesMut>,
    rest: Rest,
}

/// What was found beside the snapshot.
#[derive(Debug, Default)]
struct Rest {
    votes: Vec<Damage>,
    records: Vec<Damage>,
    log: Option<(Index, Index)>,
    applied: Index,
}

impl Opening {
    /// Whether it reads the snapshot, and not the log.
    pub(super) const fn reads_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether this load is the one that is under way.
    pub(super) fn awaits(&self, load: LoadId) -> bool {
        self.load == Some(load)
    }
}

impl Raft {
    /// The disk was opened. `machine` is how far the machine's own store had got.
    pub fn open(&mut self, context: &mut Context<'_>, disk: Opened, machine: Option<StoreMark>) {
        let applied = machine.map_or(Index::ZERO, |mark| mark.applied);
        let written = disk.snapshot.is_some() || disk.log.is_some() || disk.store.is_some();
        let empty = !written && disk.vote.is_none() && disk.damage.is_empty();
        let empty = empty && !context.limits.planted(Canary::WipedDiskVotes);
        let vote = disk.vote.unwrap_or_default();
        (self.term, self.promised) = (vote.term, vote);
        self.open_trust(disk.standing, empty);
        let (mut votes, mut records, mut snapshot) = (Vec::new(), Vec::new(), None);
        for damaged in disk.damage {
            match damaged {
                Damaged::Vote(damage) => votes.push(damage),
                Damaged::Log(damage) => records.push(damage),
                Damaged::Snapshot(damage) => snapshot = Some(damage),
                // What a store lost was committed: the others have it, and no promise rests on it.
                Damaged::Store(_) => self.note_damage(context, damaged),
            }
        }
        let began = disk.log.is_some() || disk.snapshot.is_some() || applied > Index::ZERO;
        if votes.is_empty() && disk.vote.is_none() && began && self.trust.deadline().is_none() {
            votes.push(found("term and vote", "missing, but there are records".into()));
        }
        let rest = Rest { votes, records, log: disk.log, applied };
        let snapshot = match (snapshot, disk.snapshot) {
            (None, Some(SnapshotFound::Whole(file))) => self.open_snapshot(context, file),
            (None, Some(SnapshotFound::InParts { length })) => {
                return self.open_large_snapshot(context, length, rest);
            }
            (damage, _) => damage.map_or(Ok(()), Err),
        };
        self.open_rest(context, snapshot, rest);
    }

    /// The snapshot was looked at.
    fn open_rest(&mut self, context: &mut Context<'_>, snapshot: Result<(), Damage>, rest: Rest) {
        let Rest { votes, records, log, applied } = rest;
        if !votes.is_empty() {
            self.impair(context, Forgotten::Votes, votes);
        }
        let damaged = !records.is_empty();
        let opening = Opening { applied, damaged, ..Opening::default() };
        if damaged {
            self.impair(context, Forgotten::Records, records);
        }
        self.open_log(context, log, snapshot.err(), opening);
    }

    /// Reads a snapshot that was not handed in whole, part by part, and verifies it.
    fn open_large_snapshot(&mut self, context: &mut Context<'_>, length: u64, rest: Rest) {
        let (data, limit) = match self.form {
            StateForm::Whole(_) => (Some(BytesMut::new()), context.limits.snapshot.get()),
            StateForm::InParts => (None, u64::MAX),
        };
        if length > limit {
            let what =
                format!("the snapshot file has {length} bytes, more than the {limit} allowed");
            return self.open_rest(context, Err(found("snapshot", what)), rest);
        }
        match SnapshotReader::new(&self.name, length, context.limits) {
            Ok(reader) => {
                let snapshot = Some(Box::new(ReadingSnapshot { reader, data, rest }));
                self.state = State::Opening(Opening { snapshot, ..Opening::default() });
                self.load_opening_snapshot(context);
            }
            Err(error) => {
                let damage = snapshot_damage(&error);
                self.open_rest(context, Err(damage), rest);
            }
        }
    }

    fn load_opening_snapshot(&mut self, context: &mut Context<'_>) {
        let bytes = ByteCount::new(context.limits.snapshot_part.get().max(1));
        let State::Opening(Opening { load, snapshot: Some(reading), .. }) = &mut self.state else {
            return;
        };
        let (file, offset) = (SnapshotFile::Current, reading.reader.read());
        *load = Some(context.out.load_snapshot(self.group, file, offset, bytes));
    }

    /// A part of the snapshot that is being verified.
    pub(super) fn handle_opening_snapshot(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        part: &Bytes,
    ) {
        let State::Opening(opening) = &mut self.state else { return };
        let awaited = opening.awaits(load);
        let Some(reading) = opening.snapshot.as_mut().filter(|_| awaited) else { return };
        match (reading.reader.push(part), &mut reading.data) {
            (Err(error), _) => {
                let damage = snapshot_damage(&error);
                return self.end_snapshot_at_damage(context, damage);
            }
            (Ok(bytes), Some(data)) => data.extend_from_slice(&bytes),
            (Ok(_), None) => {}
        }
        if !reading.reader.is_whole() {
            return self.load_opening_snapshot(context);
        }
        let State::Opening(Opening { snapshot: Some(reading), .. }) =
            core::mem::replace(&mut self.state, State::Opening(Opening::default()))
        else {
            return;
        };
        let ReadingSnapshot { reader, data, rest } = *reading;
        let snapshot = self.large_snapshot_read(context, reader, data.map(BytesMut::freeze));
        self.open_rest(context, snapshot, rest);
    }

    fn large_snapshot_read(
        &mut self,
        context: &Context<'_>,
        reader: SnapshotReader,
        data: Option<Bytes>,
    ) -> Result<(), Damage> {
        let length = reader.length();
        let (head, seal) = reader.finish().map_err(|error| snapshot_damage(&error))?;
        let position = Position { index: head.last_index, term: head.last_term };
        let body = match data {
            Some(data) => Body::Held(data),
            None => Body::Filed(Filed { length, seal }),
        };
        self.take_opened(context, Snapshot { position, peer_state: head.peer_state, body })
    }

    /// The snapshot cannot be read: the log may reach back far enough without it.
    pub(super) fn end_snapshot_at_damage(&mut self, context: &mut Context<'_>, damage: Damage) {
        let State::Opening(Opening { snapshot: Some(reading), .. }) =
            core::mem::replace(&mut self.state, State::Opening(Opening::default()))
        else {
            return;
        };
        self.open_rest(context, Err(damage), reading.rest);
    }

    fn open_snapshot(&mut self, context: &mut Context<'_>, file: Bytes) -> Result<(), Damage> {
        let length = file.len() as u64;
        let seal = file.last_chunk().copied();
        let mut snapshot = Snapshot::decode(file, &self.name, context.limits)
            .map_err(|error| snapshot_damage(&error))?;
        if let (StateForm::InParts, Body::Held(data), Some(seal)) =
            (self.form, &snapshot.body, seal)
            && data.len() as u64 > context.limits.snapshot_part.get()
        {
            // It is read again when somebody asks for it.
            snapshot.body = Body::Filed(Filed { length, seal });
        }
        self.take_opened(context, snapshot)
    }

    /// Takes the snapshot on, whose hash fits, if what is in it can be read.
    fn take_opened(&mut self, context: &Context<'_>, snapshot: Snapshot) -> Result<(), Damage> {
        if let Body::Held(data) = &snapshot.body {
            self.check_state(data, context.limits).map_err(|error| snapshot_damage(&error))?;
        }
        let peers = PeerState::decode(&snapshot.peer_state, context.limits)
            .map_err(|error| snapshot_damage(&error))?;
        self.take_members(&peers);
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// Joins what is known of the log with the snapshot, of which `unreadable` is what is wrong.
    fn open_log(
        &mut self,
        context: &mut Context<'_>,
        log: Option<(Index, Index)>,
        unreadable: Option<Damage>,
        mut opening: Opening,
    ) {
        let covered = self.snapshot.as_ref().map_or(Position::default(), |s| s.position);
        let cache = context.limits.log_cache.get();
        let (first, last) = log.unwrap_or((covered.index.next(), covered.index));
        // Records that the snapshot covers are read as well: the one at its end must agree with it.
        let base = Position { index: first.previous(), term: covered.term };
        let joins = first <= covered.index.next();
        let known = if !joins || base.index == covered.index { covered } else { base };
        self.log = Log::new(self.group, known, cache);
        opening.last = last;
        let missing = !joins || log.is_none() && unreadable.is_some();
        if missing {
            let what = format!(
                "the log begins at {first}, but the snapshot ends at {}: records are missing",
                covered.index
            );
            let damage = unreadable.unwrap_or_else(|| found("log", what));
            self.impair(context, Forgotten::Records, vec![damage]);
            // What stands behind the gap joins nothing; the leader has it.
            self.log.reset(covered, context.out);
        } else if let Some(damage) = unreadable {
            // The log reaches back to its beginning: the snapshot is not needed.
            self.note_damage(context, Damaged::Snapshot(damage));
        }
        if !missing && opening.applied > last.max(covered.index) {
            let what = format!(
                "the store has applied {}, but the log ends at {last}: records are missing",
                opening.applied
            );
            self.impair(context, Forgotten::Records, vec![found("log", what)]);
        }
        if !missing && first <= last {
            opening.load = Some(context.out.load(self.group, first, last, context.limits.load));
            self.state = State::Opening(opening);
        } else {
            if !missing && covered != Position::default() {
                // Where an empty log goes on is not told: a crash may have come before its reset.
                self.log.reset(covered, context.out);
            }
            self.state = State::Opening(opening);
            self.opened(context);
        }
    }

    /// Records of the first reading.
    pub(super) fn handle_opening_records(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        records: &[Bytes],
    ) {
        let State::Opening(opening) = &mut self.state else { return };
        if !opening.awaits(load) {
            return;
        }
        let last = opening.last;
        // The snapshot tells the members after the records that it covers.
        let covered = self.snapshot.as_ref().map_or(Index::ZERO, |s| s.position.index);
        for record in records {
            let index = self.log.last().index.next();
            match AppendEntry::decode(record) {
                Ok(entry) if entry.previous_index.next() == index => {
                    if index > covered
                        && let Err(error) = self.replay_change(index, &entry, context.limits)
                    {
                        return self.stand_aside(context, format!("log record {index}: {error}"));
                    }
                    self.log.replay(entry.term, record);
                }
                Ok(entry) => {
                    let place = entry.previous_index.next();
                    let what = format!("record {index} says that it is record {place}");
                    return self.end_log_at_damage(context, found("log", what));
                }
                Err(error) => {
                    let what = format!("record {index}: {error}");
                    return self.end_log_at_damage(context, found("log", what));
                }
            }
        }
        let next = self.log.last().index.next();
        if next > last {
            return self.opened(context);
        }
        let load = context.out.load(self.group, next, last, context.limits.load);
        if let State::Opening(opening) = &mut self.state {
            opening.load = Some(load);
        }
    }

    /// The first reading came to a record that is not what was written: the log ends before it.
    pub(super) fn end_log_at_damage(&mut self, context: &mut Context<'_>, damage: Damage) {
        if !matches!(&self.state, State::Opening(opening) if opening.damaged) {
            self.impair(context, Forgotten::Records, vec![damage]);
        }
        self.log.end_here(context.out);
        self.opened(context);
    }

    /// All is read: join the snapshot and the log, and begin to follow.
    fn opened(&mut self, context: &mut Context<'_>) {
        let State::Opening(opening) = &self.state else { return };
        // A store may have applied what its log has lost: the leader brings it again.
        let applied = opening.applied.min(self.log.last().index);
        if let Some(covered) = self.snapshot.as_ref().map(|snapshot| snapshot.position) {
            if self.log.term(covered.index) == Some(covered.term) {
                self.log.compact(covered.index, context.out);
                self.settle_changes(covered.index);
            } else if !context.limits.planted(Canary::LogWithGapAccepted) {
                // The log was about to be replaced by this snapshot when the node stopped.
                self.revert_changes(covered.index);
                self.log.reset(covered, context.out);
            }
            if applied < covered.index {
                self.offer_newest();
            }
            self.commit = covered.index;
        }
        self.commit = self.commit.max(applied);
        self.applied = self.commit;
        if self.log.last().term > self.term {
            self.term = self.log.last().term;
            self.promised = TermAndVote { term: self.term, vote: None };
        }
        let covered = self.snapshot.as_ref().map_or(Index::ZERO, |s| s.position.index);
        let report = Report::Opened { covered, last: self.log.last().index };
        context.out.report(self.group, report);
        self.leader_seen = context.now;
        self.subjects.subscribe(self.group, context.out);
        self.follow(context, None);
        self.begin_repair(context);
    }
}

fn snapshot_damage(error: &WireError) -> Damage {
    found("snapshot", format!("the snapshot file is damaged: {error}"))
}

/// Something that the core found wrong, in a part of the disk whose file the driver knows.
fn found(file: &str, what: String) -> Damage {
    Damage { file: file.into(), offset: None, what }
}
