//! A member that can be trusted with nothing any more: its disk failed, or what it read cannot be.
//!
//! It promises nothing from then on, and what was promised and not yet sent is dropped. One that
//! leads names the follower that has most as its heir, without a write of its own: the others need
//! not wait for its silence.

use alloc::format;
use alloc::string::String;

use super::{Cancelled, Context, Raft, State, leader::append_entry_of};
use crate::command::{Report, SnapshotRefusal};
use crate::event::Failure;
use crate::ids::Term;
use crate::wire::EntryKind;

impl Raft {
    /// A write of the group's log or store failed: nothing may rest on it.
    pub fn handle_failure(&mut self, context: &mut Context<'_>, failure: &Failure) {
        self.stop(context, format!("a write failed: {failure}"));
    }

    /// The machine cannot go on: the group stands aside.
    pub fn stop(&mut self, context: &mut Context<'_>, why: String) {
        if !matches!(self.state, State::Aside(_)) {
            self.stand_aside(context, why);
        }
    }

    pub(super) fn stand_aside(&mut self, context: &mut Context<'_>, why: String) {
        self.hand_over(context);
        self.cancel_catchup(context.out, Cancelled::Aside);
        self.end_checkpoint(context.out, &SnapshotRefusal::Aside(why.clone()));
        self.held.clear();
        self.loads.clear();
        self.handing = None;
        context.out.report(self.group, Report::StoodAside(why.clone()));
        self.state = State::Aside(why);
    }

    /// Asks the follower that has most to lead. The record that says so is sent and not written:
    /// like any record of a leader that dies, it may be kept by the others or not.
    fn hand_over(&mut self, context: &mut Context<'_>) {
        let Some(heir) = self.heir(context, None) else { return };
        let last = self.log.last();
        let transfer = append_entry_of(&[(EntryKind::LeaderTransfer, heir.as_bytes())]);
        let payload =
            transfer.finish(self.me, self.term, self.commit, last.term, last.index, Term::ZERO);
        self.broadcast(context, payload);
        context.out.report(self.group, Report::HandedOver { to: heir });
    }
}
