//! What the machine of a plain group, which the driver keeps, says to its group: how far it is, that
//! it rests, that it lost its state, and the snapshots that it makes.
//!
//! The machines of streams, of consumers and of the meta group are in the core, so nothing of this
//! concerns them.

use bytes::Bytes;

use super::machine::{Group, Machine};
use crate::command::{CheckpointNews, Command, Report, SnapshotRefusal};
use crate::context::Context;
use crate::event::MachineSays;
use crate::ids::Index;

impl Group {
    /// A word of the machine's.
    pub(super) fn hear_machine(&mut self, context: &mut Context<'_>, says: MachineSays) {
        if !matches!(self.machine, Machine::Plain(_)) {
            if matches!(says, MachineSays::Checkpoint(_)) {
                self.refuse_snapshot(context, SnapshotRefusal::OfAStream);
            }
            return;
        }
        match says {
            MachineSays::Processed { through, applied } => {
                self.raft.machine_processed(through, applied);
            }
            MachineSays::Paused => self.raft.pause_applies(context),
            MachineSays::Resumed => self.raft.resume_applies(context),
            MachineSays::NeedsSnapshot => {
                self.raft.replay_snapshot(context);
            }
            MachineSays::Checkpoint(step) => self.raft.checkpoint(context, step),
            MachineSays::TookPart { index, through } => {
                self.raft.machine_took_part(context, index, through);
            }
        }
    }

    /// The machine offers its state in one piece.
    pub(super) fn handle_snapshot_taken(
        &mut self,
        context: &mut Context<'_>,
        index: Index,
        data: Bytes,
    ) {
        let taken = match self.machine {
            Machine::Plain(_) => self.raft.take_snapshot(context, index, data, false),
            Machine::Stream(_) | Machine::Consumer(_) | Machine::Meta(_) => {
                Err(SnapshotRefusal::OfAStream)
            }
        };
        if let Err(why) = taken {
            context.out.report(self.id, Report::SnapshotRefused(why.clone()));
            self.refuse_snapshot(context, why);
        }
    }

    fn refuse_snapshot(&self, context: &mut Context<'_>, why: SnapshotRefusal) {
        let news = CheckpointNews::Refused(why);
        context.out.push(Command::Checkpoint { group: self.id, news });
    }

    /// Tells the machine that its snapshot is wanted.
    pub(super) fn ask_for_snapshot(&self, context: &mut Context<'_>) -> bool {
        let news = CheckpointNews::Wanted { frees: self.raft.compactable() };
        context.out.push(Command::Checkpoint { group: self.id, news });
        true
    }
}
