//! Questions of other servers about a stream, put to all of its members.

use super::info::{Names, stream_info};
use super::machine::{Group, Machine};
use crate::cluster::info_request::{InfoRequests, Standing};
use crate::command::{Command, Destination};
use crate::context::Context;
use crate::subject::Subject;
use crate::time::Time;

/// Questions that wait, and what decides who answers them.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Where they come; none in a group that is no stream's.
    pub(super) subject: Option<Subject>,
    pub(super) requests: InfoRequests,
    /// Since when nobody is known to lead.
    pub(super) leaderless: Option<Time>,
}

impl Group {
    /// Another server asks about the stream.
    pub(super) fn handle_info_request(
        &mut self,
        context: &mut Context<'_>,
        names: Names<'_>,
        reply: Option<Subject>,
    ) {
        let Some(reply) = reply else { return };
        let (limits, timers) = (context.limits, context.timers);
        let standing = Standing {
            me: self.raft.me(),
            leader: self.raft.leader(),
            since: self.info.leaderless.unwrap_or(context.now),
        };
        let requests = &mut self.info.requests;
        let most = limits.info_requests;
        if let Some(reply) = requests.asked(context.now, reply, standing, timers.lost_quorum, most)
        {
            self.answer_info(context, names, reply);
        }
    }

    /// Answers the questions whose time has come.
    pub(super) fn answer_due(&mut self, context: &mut Context<'_>, names: Names<'_>) {
        while let Some(reply) = self.info.requests.due(context.now) {
            self.answer_info(context, names, reply);
        }
    }

    fn answer_info(&self, context: &mut Context<'_>, names: Names<'_>, reply: Subject) {
        let Machine::Stream(stream) = &self.machine else { return };
        let timing = (context.now, context.timers);
        let payload = stream_info(stream, &self.raft, timing, names).to_bytes();
        let to = Destination::Subscribers;
        context.out.push(Command::Send { to, subject: reply, reply: None, payload });
    }

    /// Whether a subject is where other servers ask about the stream.
    pub(super) fn is_info_subject(&self, subject: &Subject) -> bool {
        self.info.subject.as_ref() == Some(subject)
    }
}
