//! Proposals of members that do not lead: forwarded to the leader, who takes them as its own.
//!
//! Nothing is promised by it: the leader may change, the message be lost, or the leader have no
//! room. Whoever must know watches what is committed. Upstream: `ForwardProposal` and
//! `ProposeRemovePeer` in `server/raft.go`.

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Change, Context, ProposeError, Raft, Refusal, State, send_to};
use crate::ids::PeerId;
use crate::outbox::Outbox;
use crate::subject::Subject;
use crate::wire::{EntryKind, Fault, WireError};

impl Raft {
    /// Whether a message to this subject is a proposal that another member forwards.
    pub fn is_forwarded(&self, subject: &Subject) -> bool {
        *subject == self.subjects.proposals
    }

    /// Proposes what another member forwarded. A member that does not lead takes nothing.
    ///
    /// # Errors
    /// Why it is dropped, in words.
    pub fn take_forwarded(
        &mut self,
        context: &Context<'_>,
        from: Option<PeerId>,
        payload: &Bytes,
    ) -> Result<(), alloc::string::String> {
        self.check_forwarder(from).map_err(|refusal| format!("{refusal}"))?;
        let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(payload);
        self.propose(context, EntryKind::Normal, payload.len(), encode)
            .map_err(|error| format!("{error}"))
    }

    /// Hands a proposal to the leader.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if none is known, or this member leads.
    pub fn forward(&self, context: &mut Context<'_>, payload: Bytes) -> Result<(), ProposeError> {
        let leader = self.other_leader()?;
        context.out.push(send_to(leader, self.subjects.proposals.clone(), None, payload));
        Ok(())
    }

    /// Hands the removal of a member to the leader.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if none is known, or this member leads.
    pub fn forward_removal(
        &self,
        context: &mut Context<'_>,
        peer: PeerId,
    ) -> Result<(), ProposeError> {
        let leader = self.other_leader()?;
        let payload = Bytes::copy_from_slice(peer.as_bytes());
        context.out.push(send_to(leader, self.subjects.removals.clone(), None, payload));
        Ok(())
    }

    fn other_leader(&self) -> Result<PeerId, ProposeError> {
        self.leader().filter(|leader| *leader != self.me).ok_or(ProposeError::NotLeader)
    }

    /// Another member asks for the removal of one.
    pub(super) fn handle_removal(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        self.check_forwarder(from)?;
        let peer = <[u8; 8]>::try_from(&payload[..]).ok().and_then(PeerId::from_wire);
        let peer = peer.ok_or(WireError {
            format: "remove_peer",
            field: "peer",
            offset: 0,
            fault: Fault::Text("a peer id of eight bytes"),
        })?;
        Ok(self.change_members(context, Change::Remove(peer))?)
    }

    /// Nobody signs what is forwarded; but who is known to be no member has nothing to propose.
    fn check_forwarder(&self, from: Option<PeerId>) -> Result<(), Refusal> {
        match from {
            Some(from) if !self.members().contains(&from) => Err(Refusal::NotAMember(from)),
            _ => Ok(()),
        }
    }

    /// A new leader listens to what others forward.
    pub(super) fn listen_for_proposals(&self, context: &mut Context<'_>) {
        debug_assert!(matches!(self.state, State::Leader(_)), "only leaders take proposals");
        for subject in [&self.subjects.proposals, &self.subjects.removals] {
            context.out.subscribe(self.group, subject.clone());
        }
    }

    /// Leadership is over, if there was any.
    pub(super) fn stop_listening_for_proposals(&self, out: &mut Outbox) {
        if matches!(self.state, State::Leader(_)) {
            for subject in [&self.subjects.proposals, &self.subjects.removals] {
                out.unsubscribe(subject);
            }
        }
    }
}
