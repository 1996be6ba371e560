//! Messages that promise something which is not on disk yet.
//!
//! The rule of the whole crate is kept here: an ack or a vote leaves only after the write that it
//! rests on was reported durable.

use alloc::collections::VecDeque;

use crate::command::Command;
use crate::ids::WriteId;
use crate::outbox::Outbox;

/// Commands, each with the write that must be durable before it leaves; ascending.
#[derive(Debug, Default)]
pub(crate) struct Held {
    waiting: VecDeque<(WriteId, Command)>,
    written: WriteId,
}

impl Held {
    /// Hands the command out once `write` is durable, at once if it is.
    pub(crate) fn send_after(&mut self, write: WriteId, command: Command, out: &mut Outbox) {
        if write <= self.written {
            out.push(command);
        } else {
            self.waiting.push_back((write, command));
        }
    }

    /// Releases what rests on writes up to `through`.
    pub(crate) fn written(&mut self, through: WriteId, out: &mut Outbox) {
        self.written = self.written.max(through);
        while self.waiting.front().is_some_and(|(write, _)| *write <= through) {
            if let Some((_, command)) = self.waiting.pop_front() {
                out.push(command);
            }
        }
    }

    /// Forgets all that waits: what it rests on will not be written.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}
