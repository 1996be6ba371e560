//! A consumer's group in a node: between its consensus and its machine, and what who delivers is told.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;
use serde_json::json;

use super::machine::{Group, Machine, done};
use super::{error_answer, refusal};
use crate::command::{Answer, Report};
use crate::consumer::{Consumer, Decided, Wish};
use crate::context::Context;
use crate::ids::RequestId;
use crate::raft::Committed;
use crate::wire::{ApiError, ConsumerOp, EntryKind};

impl Group {
    /// A step that who delivers asks for: proposed, and answered when it is committed.
    pub(super) fn take_step(&mut self, context: &mut Context<'_>, id: RequestId, wish: &Wish) {
        let Machine::Consumer(consumer) = &mut self.machine else { return };
        let step = match consumer.decide(context.now, wish, context.limits) {
            Ok(Some(step)) => step,
            Ok(None) => return context.out.answer(id, done()),
            Err(error) => return context.out.answer(id, error_answer(error)),
        };
        let entry = step.to_bytes();
        let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&entry);
        match self.raft.propose(context, EntryKind::Normal, entry.len(), encode) {
            Ok(()) => consumer.proposed(id, step),
            Err(error) => context.out.answer(id, error_answer(refusal(error))),
        }
    }

    pub(super) fn apply_steps(&mut self, context: &mut Context<'_>, committed: &Committed) {
        let own = self.leading == Some(committed.entry.term);
        let Machine::Consumer(consumer) = &mut self.machine else { return };
        for (kind, entry) in committed.entry.entries.views() {
            if kind != EntryKind::Normal {
                continue;
            }
            match consumer.apply(entry, own) {
                Ok(Some(decided)) => {
                    let answer = outcome(consumer, &decided);
                    context.out.answer(decided.request, answer);
                }
                Ok(None) => {}
                Err(error) => {
                    let why = format!("record {}: {error}", committed.index);
                    return self.raft.stop(context, why);
                }
            }
        }
        consumer.reached(committed.index);
    }

    /// Begins a snapshot of the state; whether it did.
    pub(super) fn snapshot_consumer(&mut self, context: &mut Context<'_>) -> bool {
        let Machine::Consumer(consumer) = &self.machine else { return false };
        let (index, data) = (consumer.applied(), consumer.snapshot());
        let taken = self.raft.take_snapshot(context, index, data, true);
        if let Err(why) = &taken {
            context.out.report(self.id, Report::SnapshotRefused(why.clone()));
        }
        taken.is_ok()
    }

    pub(super) fn consumer_leadership_changed(&mut self, context: &mut Context<'_>, leads: bool) {
        let Machine::Consumer(consumer) = &mut self.machine else { return };
        for request in consumer.leadership_lost() {
            context.out.answer(request, error_answer(ApiError::CLUSTER_NOT_AVAIL));
        }
        if leads {
            consumer.leadership_gained();
        }
    }
}

/// What who asked for a step is told when it is committed.
fn outcome(consumer: &Consumer, decided: &Decided) -> Answer {
    let ConsumerOp::Delivered { consumer: delivery, stream, count, .. } = &decided.step else {
        return done();
    };
    let mut told = json!({
        "consumer_seq": delivery,
        "stream_seq": stream,
        "deliveries": count,
    });
    if consumer.exceeds(*count) {
        told["exceeded"] = true.into();
    }
    Answer::Json(Bytes::from(told.to_string().into_bytes()))
}
