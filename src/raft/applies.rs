//! How far the machine is: what it was handed, what it has taken in, what its state contains.
//!
//! A member hands records out in order and never waits for the machine; what the machine says it
//! has done counts for health and snapshots, never for consensus. Records without a normal entry
//! are never handed out: they count as done with those before them.

use super::{Context, Raft, State, snapshot::UnderWay};
use crate::command::{Report, SnapshotRefusal};
use crate::ids::Index;

/// What a machine has said.
#[derive(Debug, Default)]
pub(super) struct Applies {
    /// The last record that it was handed, or a snapshot's: what it has to speak of.
    owed: Index,
    processed: Index,
    applied: Index,
    intake: Intake,
}

/// What a machine may be handed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Intake {
    #[default]
    Open,
    /// Nothing.
    Paused,
    /// The last snapshot, and then nothing.
    Replay,
}

impl Applies {
    /// The machine was handed this record, or the snapshot of it.
    pub(super) fn owe(&mut self, index: Index) {
        self.owed = index;
    }

    /// The machine goes back to the snapshot of this record.
    fn go_back(&mut self, index: Index) {
        self.owed = index;
        self.processed = self.processed.min(index.previous());
        self.applied = self.applied.min(index.previous());
    }

    /// Whether the machine takes records.
    pub(super) const fn open(&self) -> bool {
        matches!(self.intake, Intake::Open)
    }

    /// Whether the machine takes a snapshot; a replay is granted once.
    pub(super) fn admits_snapshot(&mut self) -> bool {
        if self.intake == Intake::Replay {
            self.intake = Intake::Paused;
            return true;
        }
        self.open()
    }
}

impl Raft {
    /// The machine was handed this record and will say when it has done it.
    pub fn handed_out(&mut self, index: Index) {
        self.machine.owe(index);
    }

    /// The machine has taken in what it was handed up to `through`, and its state contains what is
    /// up to `applied`. More than it was handed is ignored, and neither ever goes back.
    pub fn machine_processed(&mut self, through: Index, applied: Index) {
        if through <= self.applied {
            let machine = &mut self.machine;
            machine.processed = machine.processed.max(through);
            machine.applied = machine.applied.max(applied.min(through));
        }
    }

    /// The last record that the machine has taken in.
    pub(super) fn processed(&self) -> Index {
        self.done(self.machine.processed)
    }

    /// The last record that the machine's state contains.
    pub(super) fn machine_applied(&self) -> Index {
        self.done(self.machine.applied)
    }

    /// What was handed out behind the last record that the machine must speak of needs no word.
    fn done(&self, said: Index) -> Index {
        if said >= self.machine.owed { self.applied } else { said }
    }

    /// The machine takes nothing more for now. Who cannot apply does not lead.
    pub fn pause_applies(&mut self, context: &mut Context<'_>) {
        if !self.machine.open() {
            return;
        }
        self.machine.intake = Intake::Paused;
        context.out.report(self.group, Report::Paused);
        self.set_may_lead(false);
        match &self.state {
            State::Leader(_) => {
                // It leads, so this cannot be refused.
                let _ = self.step_down(context, None);
            }
            State::Candidate(_) => self.follow(context, None),
            _ => {}
        }
    }

    /// The machine goes on with what it lacks.
    pub fn resume_applies(&mut self, context: &mut Context<'_>) {
        if self.machine.open() {
            return;
        }
        self.machine.intake = Intake::Open;
        let waiting = self.commit.since(self.processed());
        context.out.report(self.group, Report::Resumed { waiting });
        self.set_may_lead(true);
    }

    /// Whether the machine takes nothing for now.
    pub(super) const fn paused(&self) -> bool {
        !self.machine.open()
    }

    /// Hands the newest snapshot out again, and nothing behind it before the machine goes on.
    /// Whether there is one; without it nothing changes.
    pub fn replay_snapshot(&mut self, context: &mut Context<'_>) -> bool {
        let Some(index) = self.newest_snapshot().map(|snapshot| snapshot.position.index) else {
            return false;
        };
        self.pause_applies(context);
        self.machine.intake = Intake::Replay;
        if matches!(self.under_way, UnderWay::Checkpoint(_) | UnderWay::Proving(_)) {
            self.end_checkpoint(context.out, &SnapshotRefusal::Over);
        }
        if let Some(load) = self.applying.take() {
            self.loads.remove(&load);
        }
        self.applied = index;
        self.machine.go_back(index);
        // A leader's that is still being written is offered when it is durable.
        if !self.receiving_snapshot() {
            self.offer_newest();
        }
        true
    }
}
