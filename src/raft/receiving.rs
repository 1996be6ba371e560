//! A large snapshot on its way from the leader. The follower asks for its parts, as many at a time as
//! its disk keeps up with, and writes each as it comes.
//!
//! The rule: nothing of the group changes before all of it is on disk, was read back from there and
//! has its hash. A load that is interrupted goes on where it was if the same file is offered again,
//! by the same leader or another one: its hash tells it from any other. Else it begins anew.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::filing::Filed;
use super::follower::Follower;
use super::gap::{Catchup, Gap, Phase};
use super::proving::Proving;
use super::snapshot::{Origin, UnderWay};
use super::{Context, Position, Raft, Refusal, State, StateForm, catchup::Load, send_to};
use crate::command::{LogChange, Report, SnapshotRefusal};
use crate::event::{Damage, Damaged};
use crate::ids::{Index, WriteId};
use crate::subject::Subject;
use crate::wire::WireError;
use crate::wire::{Fault, PeerState, SnapshotId, SnapshotReader, SnapshotTransfer, TransferSays};

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Receiving {
    of: SnapshotId,
    /// What was written of it.
    reader: SnapshotReader,
    /// Bytes of one part at most.
    part: u64,
    /// The end of what was asked for.
    asked: u64,
    /// Where the parts begin that were asked for and did not come.
    awaited: BTreeSet<u64>,
    /// Parts that overtook others.
    early: BTreeMap<u64, Bytes>,
    /// Parts that are not on disk, and where they end.
    writing: VecDeque<(WriteId, u64)>,
    durable: u64,
}

impl Receiving {
    /// What comes is asked for again.
    fn resume(&mut self, part: u64) {
        self.part = part;
        self.asked = self.reader.read();
        self.awaited.clear();
        self.early.clear();
    }
}

impl Raft {
    /// A message about a snapshot in parts, at the inbox of the catchup that is under way.
    pub(super) fn handle_transfer(
        &mut self,
        context: &mut Context<'_>,
        reply: Option<Subject>,
        payload: &Bytes,
    ) -> Result<(), Refusal> {
        let SnapshotTransfer { sender, term, snapshot, says } = SnapshotTransfer::decode(payload)?;
        let State::Follower(Follower { catchup: Some(asking), .. }) = &mut self.state else {
            return Ok(());
        };
        if term != self.term || sender != asking.leader {
            return Ok(());
        }
        asking.until = context.now + context.timers.log_catchup_stall;
        asking.reply = reply;
        match says {
            TransferSays::Offer { part } => self.take_offer(context, snapshot, part),
            TransferSays::Part { offset, bytes } => {
                self.take_part(context, snapshot, offset, bytes)
            }
            TransferSays::Ask { .. } => Ok(()),
        }
    }

    /// The leader has a snapshot in place of the records that are lacking.
    fn take_offer(
        &mut self,
        context: &mut Context<'_>,
        of: SnapshotId,
        part: u64,
    ) -> Result<(), Refusal> {
        let (found, limit) = (of.length, context.limits.snapshot_file.get());
        if of.index <= self.commit {
            return Err(Refusal::OldSnapshot { index: of.index });
        }
        if self.log.term(of.index) == Some(of.term) || !matches!(self.form, StateForm::InParts) {
            return Ok(());
        }
        if found > limit {
            let fault = Fault::TooLarge { limit, found };
            let format = "snapshot_transfer";
            return Err(WireError { format, field: "length", offset: 0, fault }.into());
        }
        if let State::Follower(Follower { catchup: Some(asking), .. }) = &mut self.state {
            asking.phase = Phase::Parts(of.index);
        }
        if let UnderWay::Proving(proving) = &self.under_way
            && proving.is_of(&of)
        {
            self.tell_alive(context);
            return Ok(());
        }
        self.make_way(context, of.index);
        let part = part.min(self.part(context.limits) as u64).max(1);
        match self.receiving.as_mut().filter(|receiving| receiving.of == of) {
            Some(receiving) => {
                receiving.resume(part);
                let (index, at, length) = (of.index, receiving.reader.read(), of.length);
                let what = format!("the snapshot of {index} goes on at byte {at} of {length}");
                context.out.report(self.group, Report::Catchup(what));
            }
            None => self.begin_receiving(context, of, part)?,
        }
        self.ask_for_parts(context);
        self.prove_received(context);
        Ok(())
    }

    /// What a machine makes, or what was received of another leader's, has to go.
    fn make_way(&mut self, context: &mut Context<'_>, index: Index) {
        match &self.under_way {
            UnderWay::Proving(proving) if proving.origin == Origin::Leader => {
                self.stop_proving_received();
            }
            UnderWay::Checkpoint(_) | UnderWay::Proving(_) => {
                self.end_checkpoint(context.out, &SnapshotRefusal::Replaced { index });
            }
            // It needs the disk's queue alone, and is done before what is asked from now on.
            UnderWay::Writing(_) | UnderWay::Nothing => {}
        }
    }

    fn begin_receiving(
        &mut self,
        context: &mut Context<'_>,
        of: SnapshotId,
        part: u64,
    ) -> Result<(), Refusal> {
        if let Some(before) = self.receiving.take() {
            let (index, at) = (before.of.index, before.reader.read());
            let what = format!(
                "the snapshot of {index} is given up at byte {at} of {}: the leader has that of {}",
                before.of.length, of.index
            );
            context.out.report(self.group, Report::Catchup(what));
        }
        let reader = SnapshotReader::new(&self.name, of.length, context.limits)?;
        self.receiving = Some(Box::new(Receiving {
            of,
            reader,
            part,
            asked: 0,
            awaited: BTreeSet::new(),
            early: BTreeMap::new(),
            writing: VecDeque::new(),
            durable: 0,
        }));
        let what = format!("the snapshot of {} comes in parts of {part} bytes", of.index);
        context.out.report(self.group, Report::Catchup(what));
        Ok(())
    }

    /// Asks for as much as may be on its way to the disk.
    fn ask_for_parts(&mut self, context: &mut Context<'_>) {
        let window = context.limits.snapshot_parts_in_flight.get();
        loop {
            let Some(receiving) = &mut self.receiving else { return };
            let (offset, length) = (receiving.asked, receiving.of.length);
            let bytes = receiving.part.min(length - offset);
            let in_flight = offset - receiving.durable;
            if bytes == 0 || in_flight > 0 && in_flight + bytes > window {
                return;
            }
            receiving.asked += bytes;
            receiving.awaited.insert(offset);
            let of = receiving.of;
            self.tell_leader(context, of, TransferSays::Ask { offset, bytes });
        }
    }

    fn tell_leader(&self, context: &mut Context<'_>, snapshot: SnapshotId, says: TransferSays) {
        let State::Follower(Follower { catchup: Some(asking), .. }) = &self.state else { return };
        let Some(reply) = asking.reply.clone() else { return };
        let message = SnapshotTransfer { sender: self.me, term: self.term, snapshot, says };
        context.out.push(send_to(asking.leader, reply, None, message.to_bytes()));
    }

    /// Its own disk is at work, so nothing is asked for: the leader shall not take it for dead.
    fn tell_alive(&mut self, context: &mut Context<'_>) {
        let of = match (&self.receiving, &self.under_way) {
            (Some(receiving), _) => receiving.of,
            (None, UnderWay::Proving(proving)) => proving.id(),
            _ => return,
        };
        self.tell_leader(context, of, TransferSays::Ask { offset: 0, bytes: 0 });
        if let State::Follower(Follower { catchup: Some(asking), .. }) = &mut self.state {
            asking.until = context.now + context.timers.log_catchup_stall / 2;
        }
    }

    /// Nothing came for too long. Whether that is because of this member's own disk.
    pub(super) fn waits_for_own_parts(&mut self, context: &mut Context<'_>) -> bool {
        let writes = self.receiving.as_ref().is_some_and(|receiving| !receiving.writing.is_empty());
        let proves = matches!(&self.under_way, UnderWay::Proving(proving)
            if proving.origin == Origin::Leader);
        let waits = writes || proves;
        if waits {
            self.tell_alive(context);
        }
        waits
    }

    fn take_part(
        &mut self,
        context: &mut Context<'_>,
        of: SnapshotId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), Refusal> {
        let Some(receiving) = self.receiving.as_mut().filter(|receiving| receiving.of == of) else {
            return Ok(());
        };
        let fits = !bytes.is_empty() && bytes.len() as u64 <= receiving.part;
        if !fits || !receiving.awaited.remove(&offset) {
            return Ok(());
        }
        receiving.early.insert(offset, bytes);
        while let Some(receiving) = &mut self.receiving
            && let at = receiving.reader.read()
            && let Some(part) = receiving.early.remove(&at)
        {
            if let Err(error) = receiving.reader.push(&part) {
                self.forget_received(context);
                return Err(error.into());
            }
            let end = receiving.reader.read();
            let id = context.out.write(self.group, LogChange::SnapshotPart { offset: at, part });
            receiving.writing.push_back((id, end));
        }
        Ok(())
    }

    /// It is not what it should be: it is asked for again when the catchup has stalled.
    fn forget_received(&mut self, context: &mut Context<'_>) {
        self.receiving = None;
        context.out.write(self.group, LogChange::DropSnapshotParts);
    }

    /// Writes up to this one are on disk: perhaps parts that were received.
    pub(super) fn received_written(&mut self, context: &mut Context<'_>, through: WriteId) {
        let Some(receiving) = &mut self.receiving else { return };
        let before = receiving.durable;
        while let Some((id, end)) = receiving.writing.front().copied()
            && id <= through
        {
            receiving.writing.pop_front();
            receiving.durable = end;
        }
        if receiving.durable > before && self.receives() {
            self.ask_for_parts(context);
        }
        self.prove_received(context);
    }

    /// Reads all of it back, once it is there.
    fn prove_received(&mut self, context: &mut Context<'_>) {
        let whole = |receiving: &Receiving| receiving.durable == receiving.of.length;
        let free = matches!(self.under_way, UnderWay::Nothing);
        if !free || !self.receives() || !self.receiving.as_deref().is_some_and(whole) {
            return;
        }
        let Some(receiving) = self.receiving.take() else { return };
        let Receiving { of, reader, .. } = *receiving;
        match checked(reader, &of, context) {
            Ok(peer_state) => {
                let position = Position { index: of.index, term: of.term };
                let filed = Filed { length: of.length, seal: of.seal };
                let made = (position, peer_state);
                let proving = Proving::new(made, filed, Origin::Leader, WriteId::ZERO);
                self.under_way = UnderWay::Proving(proving);
                self.begin_reading_back(context);
                self.tell_alive(context);
            }
            Err(what) => {
                self.forget_received(context);
                let what = format!("the snapshot of {} is not what was offered: {what}", of.index);
                context.out.report(self.group, Report::Catchup(what));
            }
        }
    }

    /// What was received cannot be read back: it is fetched again.
    pub(super) fn received_not_proven(&mut self, context: &mut Context<'_>, what: String) {
        self.stop_proving_received();
        self.forget_received(context);
        let damage = Damage { file: "snapshot".into(), offset: None, what };
        self.note_damage(context, Damaged::Snapshot(damage));
    }

    /// Whether what was received may still take the place of the log. It may not where records came
    /// meanwhile by another way.
    pub(super) fn may_install(&mut self, context: &mut Context<'_>, proving: &Proving) -> bool {
        let SnapshotId { index, term, .. } = proving.id();
        let known = index <= self.commit || self.log.term(index) == Some(term);
        let follows = matches!(&self.state, State::Follower(follower) if follower.catching_up());
        if known || !follows {
            return false;
        }
        let Ok(peers) = PeerState::decode(proving.peer_state(), context.limits) else {
            return false;
        };
        self.take_members(&peers);
        true
    }

    /// Whether parts are asked for and come.
    pub(super) fn receives(&self) -> bool {
        let State::Follower(Follower { catchup: Some(asking), .. }) = &self.state else {
            return false;
        };
        self.receiving.is_some() && matches!(asking.phase, Phase::Parts(_))
    }

    /// The catchup is over, or given up: what came of a snapshot stays for the next one.
    pub(super) fn stop_receiving(&mut self) {
        self.stop_proving_received();
        let commit = self.commit;
        self.receiving = self.receiving.take().filter(|receiving| receiving.of.index > commit);
        if let Some(receiving) = &mut self.receiving {
            let part = receiving.part;
            receiving.resume(part);
        }
    }

    fn stop_proving_received(&mut self) {
        if matches!(&self.under_way, UnderWay::Proving(proving) if proving.origin == Origin::Leader)
        {
            self.under_way = UnderWay::Nothing;
            self.loads.retain(|_, load| !matches!(load, Load::Proof));
        }
    }

    /// How far a snapshot in parts is.
    pub(super) fn parts_status(&self, gap: Gap, covers: Index) -> Catchup {
        let (bytes, of) = match (&self.receiving, &self.under_way) {
            (Some(receiving), _) => (receiving.reader.read(), receiving.of.length),
            (None, UnderWay::Proving(proving)) => (proving.id().length, proving.id().length),
            _ => (0, 0),
        };
        Catchup::Parts { gap, covers, bytes, of }
    }
}

/// The peer state of a file that came whole, if it is the one that was offered.
fn checked(
    reader: SnapshotReader,
    of: &SnapshotId,
    context: &Context<'_>,
) -> Result<Bytes, String> {
    let (head, seal) = reader.finish().map_err(|error| format!("{error}"))?;
    if (head.last_index, head.last_term, seal) != (of.index, of.term, of.seal) {
        return Err(format!("it covers {}", head.last_index));
    }
    PeerState::decode(&head.peer_state, context.limits).map_err(|error| format!("{error}"))?;
    Ok(head.peer_state)
}
