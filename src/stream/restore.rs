//! Rebuilds a stream's index from its store, in bounded reads, before anything else happens.
//!
//! The store's mark was written in one piece with what it describes, so every message between its
//! first and last that the store does not have was deleted.

use alloc::format;
use alloc::vec::Vec;

use crate::command::StoreChange;
use crate::context::Context;
use crate::event::{StoreMark, StoredMessage};
use crate::ids::{LoadId, Sequence};
use crate::wire::StreamMessageView;

use super::header::Fields;
use super::{Notice, Phase, Stream};

/// A store that is being read.
#[derive(Debug)]
pub(super) struct Restore {
    mark: StoreMark,
    /// The first sequence that was asked for.
    first: Sequence,
    load: LoadId,
}

impl Restore {
    /// Whether this is its read.
    pub(super) fn reads(&self, load: LoadId) -> bool {
        self.load == load
    }
}

impl Stream {
    /// The store was opened: how far it had got, if it was ever written. Ends in [`Notice::Ready`].
    pub fn open(&mut self, context: &mut Context<'_>, mark: Option<StoreMark>) {
        context.out.subscribe(self.group, self.sync.clone());
        let only_added = |mark: &StoreMark| mark.entries == StoreMark::ONLY_ADDED;
        if mark.as_ref().is_some_and(only_added) {
            // What was to be removed is not known any more: the group's snapshot says it anew.
            self.contents.put(context.out, StoreChange::Clear, 0);
        }
        let Some(mark) = mark.filter(|mark| !only_added(mark)) else {
            if self.config.first_seq > 1 {
                self.contents.index.compact(Sequence::new(self.config.first_seq));
            }
            return self.ready(context);
        };
        self.contents.restore(mark);
        if mark.first > mark.last {
            self.contents.skip_to(mark.last);
            return self.ready(context);
        }
        self.contents.skip_to(mark.first.previous());
        self.read_on(context, mark, mark.first);
    }

    fn read_on(&mut self, context: &mut Context<'_>, mark: StoreMark, first: Sequence) {
        let limits = context.limits;
        let range = (first, mark.last);
        let load = context.out.read(self.group, range, limits.read_messages, limits.load);
        self.phase = Phase::Restoring(Restore { mark, first, load });
    }

    /// Messages for the restore, if `load` is its read.
    pub(super) fn restored(
        &mut self,
        context: &mut Context<'_>,
        load: LoadId,
        messages: &[StoredMessage],
        next: Option<Sequence>,
    ) {
        let Phase::Restoring(restore) = &self.phase else { return };
        if restore.load != load {
            return;
        }
        let (mark, first) = (restore.mark, restore.first);
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
                    let why = format!("the store has message {sequence} where it cannot be");
                    return self.stop(context, why);
                }
                Err(error) => {
                    return self.stop(context, format!("the store's message {sequence}: {error}"));
                }
            }
        }
        // Ids come in the order of their messages, so the old ones go first.
        self.contents.dedupe.expire(context.now.as_timestamp());
        match next.filter(|next| *next <= mark.last) {
            Some(next) if next <= first => {
                self.stop(context, format!("the store does not read on from message {next}"));
            }
            Some(next) => self.read_on(context, mark, next),
            None => self.all_restored(context, mark),
        }
    }

    fn all_restored(&mut self, context: &mut Context<'_>, mark: StoreMark) {
        self.contents.skip_to(mark.last);
        let first = self.contents.index.first();
        if first != mark.first {
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
