//! Ends a catchup whose messages can no longer be kept: who serves it is told why, so that what it holds
//! in flight is free at once, and not when the silence was too long.
//!
//! Upstream: `notifyLeaderStopCatchup` of `processSnapshot` in `server/jetstream_cluster.go`, where a
//! message cannot be stored for want of space. A server is told at the reply of a message of its own; if
//! none came with one so far, at the next that does.

use alloc::string::String;
use alloc::sync::Arc;

use bytes::Bytes;

use super::follower::Ack;
use crate::command::{Command, Destination};
use crate::context::Context;
use crate::event::Failure;
use crate::ids::PeerId;
use crate::stream::{Phase, Stream};
use crate::subject::Subject;
use crate::time::Time;

/// A stream that cannot go on.
#[derive(Debug)]
pub(in crate::stream) struct Stopped {
    why: String,
    untold: Option<Untold>,
}

/// A server that sends, and could not be told yet.
#[derive(Debug)]
pub(super) struct Untold {
    pub(super) server: PeerId,
    pub(super) inbox: Subject,
    /// When it has given up by itself.
    pub(super) until: Time,
}

impl Ack {
    /// Tells the server to stop.
    pub(super) fn abort(self, context: &mut Context<'_>, why: &str) {
        let payload = Bytes::copy_from_slice(why.as_bytes());
        let Self { to, subject } = self;
        context.out.push(Command::Send { to, subject, reply: None, payload });
    }
}

impl Stopped {
    pub(in crate::stream) const fn new(why: String) -> Self {
        Self { why, untold: None }
    }

    pub(in crate::stream) const fn why(&self) -> &str {
        self.why.as_str()
    }

    pub(in crate::stream) fn deadline(&self) -> Option<Time> {
        self.untold.as_ref().map(|untold| untold.until)
    }

    pub(in crate::stream) fn handle_deadline(&mut self, context: &mut Context<'_>) {
        if self.deadline().is_some_and(|until| context.now >= until) {
            self.stop_listening(context);
        }
    }

    /// More of what nobody can keep.
    pub(in crate::stream) fn handle_message(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        at: &Subject,
        reply: Option<Subject>,
        payload: &Bytes,
    ) {
        let Some(Untold { server, inbox, .. }) = &self.untold else { return };
        if inbox != at || from.is_some_and(|from| from != *server) {
            return;
        }
        let to = Destination::Peers(Arc::from([*server]));
        let ack = reply.map(|subject| Ack { to, subject });
        // Behind its end a server holds nothing any more.
        if ack.is_some() || payload.is_empty() {
            self.stop_listening(context);
        }
        if let Some(ack) = ack {
            ack.abort(context, &self.why);
        }
    }

    pub(in crate::stream) fn stop_listening(&mut self, context: &mut Context<'_>) {
        if let Some(untold) = self.untold.take() {
            context.out.unsubscribe(&untold.inbox);
        }
    }
}

impl Stream {
    /// A write of the group's log or store failed: a catchup under way ends, for what comes can be kept
    /// no longer, and who serves it is told. The group stands aside.
    pub fn handle_failure(&mut self, context: &mut Context<'_>, failure: &Failure) {
        let Phase::CatchingUp(follower) = &mut self.phase else { return };
        let mut progress = follower.progress(&self.contents, context.now);
        let why = alloc::format!("{failure}");
        let untold = follower.give_up(context, &why);
        progress.phase.clone_from(&why);
        self.last_catchup = Some(progress);
        self.report(context, alloc::format!("ends: {why}"));
        self.phase = Phase::Stopped(Stopped { why, untold });
    }
}
