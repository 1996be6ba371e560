//! A start from disk: the snapshot is verified, the log is read once from end to end so that its
//! terms are known, and only then does the member take part.
//!
//! What was applied was committed, so the commit index starts there and not at zero.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::{Context, Position, Raft, State, log::Log, snapshot::Snapshot};
use crate::canary::Canary;
use crate::command::Report;
use crate::event::{Opened, StoreMark, TermAndVote};
use crate::ids::{Index, LoadId};
use crate::wire::{AppendEntry, PeerState};

/// How far the reading of the disk has got.
#[derive(Debug, Default)]
pub(super) struct Opening {
    load: Option<LoadId>,
    /// The last record that the disk has.
    last: Index,
    applied: Index,
}

impl Opening {
    /// Whether this load is the one that is under way.
    pub(super) fn awaits(&self, load: LoadId) -> bool {
        self.load == Some(load)
    }
}

impl Raft {
    /// The disk was opened. `machine` is how far the machine's own store had got.
    pub fn open(&mut self, context: &mut Context<'_>, disk: Opened, machine: Option<StoreMark>) {
        if let Some(damage) = disk.damage.first() {
            return self.stand_aside(context, format!("the disk is damaged: {damage}"));
        }
        let vote = disk.vote.unwrap_or_default();
        (self.term, self.promised) = (vote.term, vote);
        if let Err(why) = self.open_snapshot(context, disk.snapshot) {
            return self.stand_aside(context, why);
        }
        let applied = machine.map_or(Index::ZERO, |mark| mark.applied);
        self.open_log(context, disk.log, applied);
    }

    fn open_snapshot(
        &mut self,
        context: &mut Context<'_>,
        file: Option<Bytes>,
    ) -> Result<(), String> {
        let Some(file) = file else { return Ok(()) };
        let snapshot = Snapshot::decode(file, &self.name, context.limits)
            .map_err(|error| format!("the snapshot file is damaged: {error}"))?;
        (self.check_snapshot)(&snapshot.data, context.limits)
            .map_err(|error| format!("the snapshot file is damaged: {error}"))?;
        let peers = PeerState::decode(&snapshot.peer_state, context.limits)
            .map_err(|error| format!("the snapshot file is damaged: {error}"))?;
        self.take_members(&peers);
        self.snapshot = Some(snapshot);
        Ok(())
    }

    fn open_log(&mut self, context: &mut Context<'_>, log: Option<(Index, Index)>, applied: Index) {
        let covered = self.snapshot.as_ref().map_or(Position::default(), |s| s.position);
        let cache = context.limits.log_cache.get();
        let (first, last) = log.unwrap_or((covered.index.next(), covered.index));
        if first > covered.index.next() {
            let why = format!(
                "the log begins at {first}, but the snapshot ends at {}: records are missing",
                covered.index
            );
            return self.stand_aside(context, why);
        }
        if applied > last.max(covered.index) {
            let why = format!(
                "the store has applied {applied}, but the log ends at {last}: records are missing"
            );
            return self.stand_aside(context, why);
        }
        // Records that the snapshot covers are read as well: the one at its end must agree with it.
        let base = Position { index: first.previous(), term: covered.term };
        let known = if base.index == covered.index { covered } else { base };
        self.log = Log::new(self.group, known, cache);
        let mut opening = Opening { load: None, last, applied };
        if first <= last {
            opening.load = Some(context.out.load(self.group, first, last, context.limits.load));
            self.state = State::Opening(opening);
        } else {
            if covered != Position::default() {
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
                    let why = format!("log record {index} says that it is record {place}");
                    return self.stand_aside(context, why);
                }
                Err(error) => {
                    return self.stand_aside(context, format!("log record {index}: {error}"));
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

    /// All is read: join the snapshot and the log, and begin to follow.
    fn opened(&mut self, context: &mut Context<'_>) {
        let State::Opening(opening) = &self.state else { return };
        let applied = opening.applied;
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
    }
}
