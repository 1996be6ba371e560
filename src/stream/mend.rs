//! Messages that a store lost, fetched from another member while the store is being read.
//!
//! The rule: what the store cannot verify is not in the stream before a member that has applied as
//! much has said what is there. One run of lost messages is mended at a time and put in its place in
//! one piece, so that a crash leaves it lost or mended; what the store still has is not touched.
//!
//! A run is asked for in pieces that a server sends without an acknowledgement, for nothing is on disk
//! before all of it is here. How much that is shows when the server falls silent in the middle.
//!
//! Who is asked may be ahead, and have removed some of them meanwhile. If not as many came as there
//! were, the replica only adds until it is as far (see `exact`).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::restore::Restore;
use super::{Notice, Phase, Stream};
use crate::command::{Command, Destination, Mend, Place, StoreChange};
use crate::context::Context;
use crate::event::{LostMessages, StoreMark, StoredMessage};
use crate::ids::{Index, PeerId, Sequence};
use crate::subject::{self, Subject};
use crate::time::Time;
use crate::wire::{CatchupState, DeleteRange, Op, StreamMessageView, SyncRequest, WireError};

/// How often each member is asked for the state that members of our own kind send at the end.
const STATE_ROUNDS: usize = 8;

/// A run of lost messages, and what of it came so far.
#[derive(Debug)]
pub(super) struct Mending {
    lost: LostMessages,
    /// What of it is asked for: messages in front of the stream's first are gone anyway.
    range: (Sequence, Sequence),
    /// What a member must have applied to know.
    min_applied: Index,
    step: Step,
    /// How often a member was asked.
    turns: usize,
    /// How many sequences are asked for at once, and those that are being asked for now.
    piece: u64,
    asked: (Sequence, Sequence),
    /// What came, and the sequence that is to come next.
    block: BytesMut,
    places: Vec<Place>,
    next: Sequence,
    /// The newest state that a member told at the end of a piece.
    until: Option<CatchupState>,
}

#[derive(Debug)]
enum Step {
    /// Has asked, and receives.
    Receiving { server: PeerId, inbox: Subject, until: Time },
    /// Waits before it asks another.
    Resting { until: Time },
}

/// Why what comes is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum MendError {
    #[error("bad message: {0}")]
    Wire(#[from] WireError),
    #[error("bad message: op {0}")]
    Op(u8),
    #[error("a range of no deleted messages")]
    Nothing,
    #[error("expected sequence {expected} of those up to {last}, found {found}")]
    Sequence { expected: Sequence, last: Sequence, found: Sequence },
    #[error("the end came before sequence {expected}")]
    TooEarly { expected: Sequence },
    #[error("more than {limit} bytes came")]
    TooMuch { limit: u64 },
    #[error("silent for too long")]
    Silent,
    #[error("some are gone, and the state that says so did not come")]
    NoState,
}

impl Mending {
    fn new(lost: LostMessages, from: Sequence, mark: &StoreMark, now: Time) -> Self {
        let range = (lost.first.max(from), lost.last.min(mark.last));
        // A record of which a part is applied is applied by who has all of it.
        let min_applied = mark.applied.plus(u64::from(mark.entries > 0));
        Self {
            piece: u64::MAX,
            asked: range,
            next: range.0,
            range,
            lost,
            min_applied,
            step: Step::Resting { until: now },
            turns: 0,
            block: BytesMut::new(),
            places: Vec::new(),
            until: None,
        }
    }

    /// When it wants to be woken.
    pub(super) const fn deadline(&self) -> Time {
        match self.step {
            Step::Receiving { until, .. } | Step::Resting { until } => until,
        }
    }

    /// What it does, in words.
    pub(super) fn describe(&self) -> String {
        let LostMessages { first, last, .. } = self.lost;
        let doing = match &self.step {
            Step::Receiving { server, .. } => format!("asks {server}, try {}", self.turns),
            Step::Resting { .. } => "rests".to_string(),
        };
        format!("messages {first} to {last} are lost here: {doing}")
    }

    /// Takes one message; whether it was the last of the piece.
    fn receive(&mut self, context: &Context<'_>, payload: &Bytes) -> Result<bool, MendError> {
        if payload.is_empty() {
            return self.end();
        }
        if CatchupState::is_one(payload) {
            let until = CatchupState::decode(payload, context.limits)?;
            if self.until.as_ref().is_none_or(|known| known.applied <= until.applied) {
                self.until = Some(until);
            }
            return self.end();
        }
        match Op::of(payload)? {
            Op::Message | Op::CompressedMessage => {
                let mut unpacked = Vec::new();
                let message = StreamMessageView::decode(payload, &mut unpacked, context.limits)?;
                let (sequence, skip) = (message.sequence, message.is_skip());
                self.advance(sequence, sequence)?;
                if !skip {
                    self.add(context, sequence, payload)?;
                }
            }
            Op::DeleteRange => {
                let range = DeleteRange::decode(payload, context.limits)?;
                let last = range.last().ok_or(MendError::Nothing)?;
                self.advance(range.first, last)?;
            }
            op => return Err(MendError::Op(op.as_u8())),
        }
        Ok(false)
    }

    /// The end of a piece, which members of our own kind tell by their state.
    fn end(&self) -> Result<bool, MendError> {
        let all = self.next > self.asked.1;
        if all { Ok(true) } else { Err(MendError::TooEarly { expected: self.next }) }
    }

    fn advance(&mut self, first: Sequence, last: Sequence) -> Result<(), MendError> {
        if first != self.next || last > self.asked.1 {
            let (expected, last) = (self.next, self.asked.1);
            return Err(MendError::Sequence { expected, last, found: first });
        }
        self.next = last.next();
        Ok(())
    }

    fn add(
        &mut self,
        context: &Context<'_>,
        sequence: Sequence,
        payload: &Bytes,
    ) -> Result<(), MendError> {
        // A store loses what lies together: no more than one of its blocks.
        let limit = context.limits.snapshot.get().min(u64::from(u32::MAX));
        let (offset, length) = (self.block.len() as u64, payload.len() as u64);
        if offset.saturating_add(length) > limit {
            return Err(MendError::TooMuch { limit });
        }
        let (offset, length) = (offset as u32, length as u32);
        self.places.push(Place { sequence, offset, length });
        self.block.extend_from_slice(payload);
        Ok(())
    }

    /// The member to ask: who leads, then each in its turn.
    fn server(&self, leader: Option<PeerId>, others: &[PeerId]) -> Option<PeerId> {
        let leader = leader.filter(|leader| self.turns == 0 && others.contains(leader));
        leader.or_else(|| others.get(self.turns.checked_rem(others.len())?).copied())
    }

    /// Whether as many came as the store had.
    fn is_whole(&self) -> bool {
        self.lost.count == Some(self.places.len() as u64)
    }

    /// Whether some are gone elsewhere, and nobody said since when, as members of our own kind do:
    /// that was lost on the way. One that never says it is believed after a while.
    fn lacks_state(&self, others: &[PeerId]) -> bool {
        !self.is_whole()
            && self.until.is_none()
            && self.turns <= others.len().saturating_mul(STATE_ROUNDS)
    }

    /// Begins with nothing: what came is of no use.
    fn drop_what_came(&mut self) {
        self.next = self.range.0;
        self.block.clear();
        self.places.clear();
        self.until = None;
    }

    /// The next piece; how much a server sends unasked is as much as came of the last.
    fn next_piece(&mut self) -> (Sequence, Sequence) {
        let last = self.next.plus(self.piece.saturating_sub(1));
        self.asked = (self.next, last.min(self.range.1));
        self.asked
    }

    /// How many sequences of the piece came.
    const fn came(&self) -> u64 {
        self.next.since(self.asked.0)
    }

    fn stop_listening(&self, context: &mut Context<'_>) {
        if let Step::Receiving { inbox, .. } = &self.step {
            context.out.unsubscribe(inbox);
        }
    }
}

impl Stream {
    /// The store says that messages are lost which it was asked for by `load`: while it is being
    /// read they are mended; later the read has failed.
    pub(super) fn begin_mending(&mut self, context: &mut Context<'_>, lost: LostMessages) {
        let Phase::Restoring(restore) = &mut self.phase else { return };
        self.notices.push_back(Notice::StoreDamaged(lost.damage.clone()));
        let (mark, from) = (restore.mark(), restore.first());
        let taken_in = self.contents.index.at_or_after(lost.first).is_some();
        if taken_in || lost.last < lost.first.max(from) || lost.first > mark.last {
            let (first, last) = (lost.first, lost.last);
            let why = format!(
                "the store lost messages {first} to {last}, but gave some, or was not asked"
            );
            return self.stop(context, why);
        }
        if self.others.is_empty() {
            let why = format!("{}; no other member has the messages", lost.damage);
            return self.stop(context, why);
        }
        restore.mending = Some(Mending::new(lost, from, &mark, context.now));
        self.ask_for_lost(context);
    }

    fn ask_for_lost(&mut self, context: &mut Context<'_>) {
        let Phase::Restoring(Restore { mending: Some(mending), .. }) = &mut self.phase else {
            return;
        };
        let Some(server) = mending.server(self.leader, &self.others) else {
            mending.step = Step::Resting { until: context.now + context.timers.catchup_retry };
            return;
        };
        mending.turns = mending.turns.saturating_add(1);
        self.ask_for_piece(context, server);
    }

    /// Asks a member for the next of the lost messages.
    fn ask_for_piece(&mut self, context: &mut Context<'_>, server: PeerId) {
        let Phase::Restoring(Restore { mending: Some(mending), .. }) = &mut self.phase else {
            return;
        };
        mending.stop_listening(context);
        let (first, last) = mending.next_piece();
        let request = SyncRequest {
            peer: Some(self.me),
            first,
            last,
            delete_ranges: true,
            min_applied: mending.min_applied,
            state: true,
            of: Some(server),
        };
        let inbox = subject::sync_reply_subject(context.random);
        context.out.subscribe(self.group, inbox.clone());
        context.out.push(Command::Send {
            to: Destination::Peers(Arc::from([server])),
            subject: self.sync.clone(),
            reply: Some(inbox.clone()),
            payload: request.to_bytes(),
        });
        let until = context.now + context.timers.catchup_start;
        mending.step = Step::Receiving { server, inbox, until };
        let what = mending.describe();
        self.report(context, what);
    }

    /// A message reached an inbox of this stream's while its store is being read.
    pub(super) fn handle_mending_message(
        &mut self,
        context: &mut Context<'_>,
        from: Option<PeerId>,
        at: &Subject,
        payload: &Bytes,
    ) {
        let Phase::Restoring(Restore { mending: Some(mending), .. }) = &mut self.phase else {
            return;
        };
        let Step::Receiving { server, inbox, until } = &mut mending.step else { return };
        if inbox != at || from.is_some_and(|from| from != *server) {
            return;
        }
        *until = context.now + context.timers.catchup_silence;
        let server = *server;
        match mending.receive(context, payload) {
            Ok(true) if mending.next > mending.range.1 => match mending.lacks_state(&self.others) {
                true => {
                    mending.drop_what_came();
                    self.mending_failed(context, &MendError::NoState);
                }
                false => self.mended(context),
            },
            Ok(true) => self.ask_for_piece(context, server),
            Ok(false) => {}
            Err(error) => {
                mending.drop_what_came();
                self.mending_failed(context, &error);
            }
        }
    }

    fn mending_failed(&mut self, context: &mut Context<'_>, error: &MendError) {
        let Phase::Restoring(Restore { mending: Some(mending), .. }) = &mut self.phase else {
            return;
        };
        mending.stop_listening(context);
        mending.step = Step::Resting { until: context.now + context.timers.catchup_retry };
        let what = format!("{}: {error}", mending.describe());
        self.report(context, what);
    }

    /// A moment of its deadline has come.
    pub(super) fn mending_deadline(&mut self, context: &mut Context<'_>) {
        let Phase::Restoring(Restore { mending: Some(mending), .. }) = &self.phase else { return };
        match mending.step {
            Step::Receiving { server, until, .. } if context.now >= until => {
                self.mending_fell_silent(context, server);
            }
            Step::Resting { until } if context.now >= until => self.ask_for_lost(context),
            _ => {}
        }
    }

    /// A server that sent a part waits for acknowledgements: it is asked for as much at once from now
    /// on. One that sent nothing is given up; so is one that sent all but the end, which tells
    /// whether some are gone since.
    fn mending_fell_silent(&mut self, context: &mut Context<'_>, server: PeerId) {
        let Phase::Restoring(Restore { mending: Some(mending), .. }) = &mut self.phase else {
            return;
        };
        let all = mending.next > mending.range.1;
        match mending.came() {
            came if came > 0 && !all => {
                mending.piece = came;
                self.ask_for_piece(context, server);
            }
            _ => {
                if all {
                    mending.drop_what_came();
                }
                self.mending_failed(context, &MendError::Silent);
            }
        }
    }

    /// All that a member has of the lost messages is here.
    fn mended(&mut self, context: &mut Context<'_>) {
        let Phase::Restoring(restore) = &mut self.phase else { return };
        let Some(mending) = restore.mending.take() else { return };
        mending.stop_listening(context);
        // All that there were, or all that there are at the same record.
        let whole = mending.is_whole();
        let Mending { lost, block, places, until, .. } = mending;
        let block = block.freeze();
        let applied = restore.mark().applied;
        let ahead = until.filter(|until| !whole && until.applied > applied);
        let (mark, remember) = restore.takes_from(ahead);
        let LostMessages { first, last, .. } = lost;
        let what = format!("messages {first} to {last} are mended: {} came", places.len());
        let record = |place: &Place| {
            let (start, length) = (place.offset as usize, place.length as usize);
            StoredMessage { sequence: place.sequence, record: block.slice(start..start + length) }
        };
        let messages: Vec<_> = places.iter().map(record).collect();
        if let Err(why) = self.take_in(context, &messages) {
            return self.stop(context, why);
        }
        if let Some(change) = remember {
            self.contents.store.change(context.out, change, mark, 0);
        }
        let bytes = block.len() as u64;
        let change = StoreChange::Mend(alloc::boxed::Box::new(Mend { first, last, block, places }));
        self.contents.store.change(context.out, change, mark, bytes);
        self.report(context, what);
        self.restore_on(context, Some(last.next()));
    }
}
