//! Rebuilds a stream's index from its store, in bounded reads, before anything else happens.
//!
//! The store's mark was written in one piece with what it describes, so every message between its
//! first and last that the store does not have was deleted. What it has and cannot give is fetched
//! from another member (see `mend`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::command::StoreChange;
use crate::context::Context;
use crate::event::{StoreMark, StoredMessage};
use crate::ids::{LoadId, Sequence};
use crate::limits::Limits;
use crate::wire::{CatchupState, StreamMessageView};

use super::exact;
use super::header::Fields;
use super::mend::Mending;
use super::{Notice, Phase, Stream};

/// A store that is being read.
#[derive(Debug)]
pub(super) struct Restore {
    mark: StoreMark,
    /// The first sequence that was asked for.
    first: Sequence,
    load: LoadId,
    /// Messages that are being fetched from another member.
    pub(super) mending: Option<Mending>,
    /// The state of a member that is ahead, of which messages were taken in.
    until: Option<CatchupState>,
}

impl Restore {
    /// Whether this is its read.
    pub(super) fn reads(&self, load: LoadId) -> bool {
        self.load == load && self.mending.is_none()
    }

    /// What the store's mark says.
    pub(super) const fn mark(&self) -> StoreMark {
        self.mark
    }

    /// The first sequence that was asked for.
    pub(super) const fn first(&self) -> Sequence {
        self.first
    }

    /// Messages come from a member that is ahead, if it is; the mark that tells so, and what has to
    /// be remembered before they are taken in.
    pub(super) fn takes_from(
        &mut self,
        ahead: Option<CatchupState>,
    ) -> (StoreMark, Option<StoreChange>) {
        let known = self.until.as_ref().map(|until| until.applied);
        let later = ahead.filter(|ahead| Some(ahead.applied) > known);
        let change = later.as_ref().map(|until| StoreChange::OnlyAdds(until.to_bytes()));
        self.until = later.or(self.until.take());
        (StoreMark { only_added: self.until.is_some(), ..self.mark }, change)
    }
}

impl Stream {
    /// The mark of a store that can be relied on; none for one that has to be emptied.
    pub fn known_mark(
        mark: Option<StoreMark>,
        only_adds: Option<&Bytes>,
        limits: &Limits,
    ) -> Option<StoreMark> {
        exact::opened(mark, only_adds, limits).map(|(mark, _)| mark)
    }

    /// The store was opened: how far it had got, if it was ever written, up to what it only adds, and
    /// whether it is `spoilt`; then what is there without a mark is removed. Ends in
    /// [`Notice::Ready`].
    pub fn open(
        &mut self,
        context: &mut Context<'_>,
        mark: Option<StoreMark>,
        only_adds: Option<&Bytes>,
        spoilt: bool,
    ) {
        context.out.subscribe(self.group, self.sync.clone());
        let known = exact::opened(mark, only_adds, context.limits);
        if known.is_none() && (spoilt || mark.is_some()) {
            // What was to be removed is not known any more: the group's snapshot says it anew.
            self.contents.put(context.out, StoreChange::Clear, 0);
        }
        let Some((mark, until)) = known else {
            if self.config.first_seq > 1 {
                self.contents.index.compact(Sequence::new(self.config.first_seq));
            }
            return self.ready(context);
        };
        self.contents.restore(mark);
        if mark.first > mark.last {
            self.contents.skip_to(mark.last);
            self.contents.until = until;
            return self.ready(context);
        }
        self.contents.skip_to(mark.first.previous());
        self.read_on(context, (mark, until), mark.first);
    }

    fn read_on(
        &mut self,
        context: &mut Context<'_>,
        (mark, until): (StoreMark, Option<CatchupState>),
        first: Sequence,
    ) {
        let limits = context.limits;
        let range = (first, mark.last);
        let load = context.out.read(self.group, range, limits.read_messages, limits.load);
        self.phase = Phase::Restoring(Restore { mark, first, load, mending: None, until });
    }

    /// Everything in front of `next` is taken in.
    pub(super) fn restore_on(&mut self, context: &mut Context<'_>, next: Option<Sequence>) {
        let Phase::Restoring(restore) = &mut self.phase else { return };
        let (mark, first, until) = (restore.mark, restore.first, restore.until.take());
        match next.filter(|next| *next <= mark.last) {
            Some(next) if next <= first => {
                self.stop(context, format!("the store does not read on from message {next}"));
            }
            Some(next) => self.read_on(context, (mark, until), next),
            None => self.all_restored(context, mark, until),
        }
    }

    /// Messages for the restore, if `load` is its read.
    pub(super) fn restored(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) {
        if !matches!(&self.phase, Phase::Restoring(restore) if restore.reads(load)) {
            return;
        }
        match self.take_in(context, messages) {
            Ok(()) => self.restore_on(context, next),
            Err(why) => self.stop(context, why),
        }
    }

    /// Takes messages of the store into the index.
    ///
    /// # Errors
    /// Why one of them cannot be what was stored.
    pub(super) fn take_in(
        &mut self,
        context: &Context<'_>,
        messages: &[StoredMessage],
    ) -> Result<(), String> {
        let Phase::Restoring(restore) = &self.phase else { return Ok(()) };
        let mark = restore.mark;
        let mut unpacked = Vec::new();
        for stored in messages {
            let sequence = stored.sequence;
            let added = StreamMessageView::decode(&stored.record, &mut unpacked, context.limits);
            let added = added.map(|message| {
                let fields = Fields::of(message.header);
                sequence <= mark.last && self.contents.add(sequence, &message, &fields)
            });
            match added {
                Ok(true) => {}
                Ok(false) => {
                    return Err(format!("the store has message {sequence} where it cannot be"));
                }
                Err(error) => return Err(format!("the store's message {sequence}: {error}")),
            }
        }
        // Ids come in the order of their messages, so the old ones go first.
        self.contents.dedupe.expire(context.now.as_timestamp());
        Ok(())
    }

    fn all_restored(
        &mut self,
        context: &mut Context<'_>,
        mark: StoreMark,
        until: Option<CatchupState>,
    ) {
        self.contents.skip_to(mark.last);
        let first = self.contents.index.first();
        self.contents.until = until;
        // A member that is ahead may have removed the first of them.
        let later = self.contents.only_adds() && first > mark.first;
        if first != mark.first && !later {
            let why = format!("the store begins at message {first}, its mark says {}", mark.first);
            return self.stop(context, why);
        }
        self.ready(context);
    }

    fn ready(&mut self, context: &mut Context<'_>) {
        self.phase = Phase::Current;
        self.notices.push_back(Notice::Ready);
        if let Some((position, state)) = self.snapshot_waiting.take() {
            self.process_snapshot(context, position, &state);
        }
    }
}
