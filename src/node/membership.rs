//! Clients that asked for a change of a group's members, and what each is told when it is known.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::command::Answer;
use crate::context::Context;
use crate::ids::RequestId;
use crate::raft::{Change, ChangeError, Raft};
use crate::time::Time;
use crate::wire::{ApiError, ApiResponse, ResponseType};

/// Clients of one group that wait for the end of a change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Vec<Waiting>,
}

/// One who waits.
#[derive(Debug)]
struct Waiting {
    request: RequestId,
    change: Change,
    /// When it is told that nothing is known; none if this node leads, and will know.
    until: Option<Time>,
}

impl Changes {
    /// Begins a change, and remembers who asked. A removal is handed on by who does not lead.
    pub(super) fn ask(
        &mut self,
        context: &mut Context<'_>,
        raft: &mut Raft,
        request: RequestId,
        change: Change,
    ) {
        if self.waiting.len() >= context.limits.changes_waiting {
            return answer(context, request, change, Err(ApiError::INSUFFICIENT_RESOURCES));
        }
        let begun = match (raft.change_members(context, change), change) {
            (Err(ChangeError::NotLeader), Change::Remove(peer)) => raft
                .forward_removal(context, peer)
                .map(|()| Some(context.now + context.timers.lost_quorum))
                .map_err(|_| ChangeError::NotLeader),
            (begun, _) => begun.map(|()| None),
        };
        match begun {
            Ok(until) => self.waiting.push(Waiting { request, change, until }),
            Err(error) => answer(context, request, change, Err(refusal(error))),
        }
    }

    /// Tells those whose change is committed, or will not be.
    pub(super) fn settle(&mut self, context: &mut Context<'_>, raft: &Raft) {
        self.waiting.retain(|waiting| {
            let done = raft.change_is_done(waiting.change);
            let outcome = match (done, waiting.until) {
                (Some(true), _) => Ok(()),
                (Some(false), None) if raft.leads() => {
                    Err(ApiError::CLUSTER_NO_PEERS.with(&[("err", &"the peer does not answer")]))
                }
                (Some(false), None) => Err(ApiError::CLUSTER_NOT_LEADER),
                (_, Some(until)) if context.now >= until => Err(ApiError::CLUSTER_NOT_AVAIL),
                _ => return true,
            };
            answer(context, waiting.request, waiting.change, outcome);
            false
        });
    }

    /// All who wait, as the group ends here.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = RequestId> {
        self.waiting.drain(..).map(|waiting| waiting.request)
    }

    /// When somebody is to be told that nothing is known.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.iter().filter_map(|waiting| waiting.until).min()
    }
}

fn answer(
    context: &mut Context<'_>,
    request: RequestId,
    change: Change,
    outcome: Result<(), ApiError>,
) {
    let json = match (change, outcome) {
        (Change::Remove(_), Ok(())) => {
            ApiResponse::success(ResponseType::StreamRemovePeer).to_bytes()
        }
        (Change::Remove(_), Err(error)) => {
            ApiResponse::error(ResponseType::StreamRemovePeer, error).to_bytes()
        }
        // Upstream has no such request: its leaders add whoever was caught up.
        (Change::Add(_), Ok(())) => Bytes::from_static(b"{\"success\":true}"),
        (Change::Add(_), Err(error)) => {
            return context.out.answer(request, super::error_answer(error));
        }
    };
    context.out.answer(request, Answer::Json(json));
}

fn refusal(error: ChangeError) -> ApiError {
    match error {
        ChangeError::NotLeader => ApiError::CLUSTER_NOT_LEADER,
        ChangeError::UnderWay => ApiError::CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT,
        ChangeError::NotAMember(_) => ApiError::CLUSTER_PEER_NOT_MEMBER,
        ChangeError::Member(_) | ChangeError::Last | ChangeError::TooMany(_) => {
            ApiError::CLUSTER_NO_PEERS.with(&[("err", &error)])
        }
    }
}
