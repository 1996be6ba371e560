//! The checkpoints of plain machines: each is made from the snapshot before it and the records
//! between, piece by piece, while its group goes on, and now and then it is given up.

use bytes::Bytes;
use jetwake::command::{CheckpointNews, SnapshotRefusal};
use jetwake::event::{CheckpointStep, Event, MachineSays};
use jetwake::ids::{CheckpointId, GroupId, Index};
use jetwake::time::{Duration, Time};

use super::{Cluster, Due};
use crate::network::Machine;
use crate::plain::PlainMachine;

/// How likely a checkpoint is given up at its end, in a million.
const GIVES_UP: u32 = 100_000;

/// A checkpoint that a machine is making.
#[derive(Clone, Debug)]
pub struct Making {
    id: CheckpointId,
    /// What it covers.
    index: Index,
    /// What the snapshot before it covers.
    before: Index,
    /// The state, as far as it is made.
    state: PlainMachine,
    /// The snapshot before, as far as it was handed out.
    last: Vec<u8>,
    /// What is left to be handed in.
    left: Bytes,
    /// Bytes that were handed in, and those of them that are on disk.
    handed: u64,
    written: u64,
    /// Bytes of one step, and of all that may wait for the disk.
    step: usize,
    most: u64,
    gives_up: bool,
    /// When the last step is taken: none overtakes another.
    until: Time,
}

impl Cluster {
    /// The machine of a plain group begins a checkpoint.
    pub fn begin_checkpoint(&mut self, machine: Machine, group: GroupId, force: bool) {
        if self.is_up(machine) {
            self.coverage.count("checkpoints asked for");
            self.say(machine, group, CheckpointStep::Begin { force });
        }
    }

    /// After a while, in which the group goes on.
    fn say(&mut self, machine: Machine, group: GroupId, step: CheckpointStep) {
        let at = self.now + self.dice.duration(&(Duration::ZERO..self.setup.applying));
        let incarnation = self.incarnations[machine.0];
        let event = Event::Machine { group, says: MachineSays::Checkpoint(step) };
        self.agenda.put(at, Due::Event { machine, incarnation, event });
    }

    pub(super) fn hear_of_checkpoint(
        &mut self,
        machine: Machine,
        group: GroupId,
        news: CheckpointNews,
    ) {
        match news {
            CheckpointNews::Wanted { .. } => self.begin_checkpoint(machine, group, false),
            CheckpointNews::Begun { id, index, before, .. } => {
                self.coverage.count("checkpoints begun");
                let part = self.setup.limits.snapshot_part.get() as usize;
                let making = Making {
                    id,
                    index,
                    before,
                    state: PlainMachine::default(),
                    last: Vec::new(),
                    left: Bytes::new(),
                    handed: 0,
                    written: 0,
                    step: 1 + self.dice.place(part),
                    most: self.setup.limits.snapshot_parts_in_flight.get(),
                    gives_up: self.dice.chance(GIVES_UP),
                    until: self.now,
                };
                self.processes[machine.0].makings.insert(group, making);
                self.say(machine, group, CheckpointStep::LoadSnapshot(id));
            }
            CheckpointNews::Snapshot { id, data } => {
                self.checkpoint_goes_on(machine, group, id, |making| {
                    making.state = match (data, making.before.get()) {
                        (None, 0) => PlainMachine::default(),
                        (None, _) => return Err("has no snapshot before its checkpoint".into()),
                        (Some(data), _) => {
                            let mut state = PlainMachine::default();
                            state.install(making.before, &data)?;
                            state
                        }
                    };
                    let first = making.before.next();
                    Ok(vec![CheckpointStep::LoadRecords { id, first }])
                });
            }
            CheckpointNews::SnapshotPart { id, part, last } => {
                self.coverage.count("parts of snapshots read for a checkpoint");
                self.checkpoint_goes_on(machine, group, id, |making| {
                    making.last.extend_from_slice(&part);
                    if !last {
                        return Ok(vec![CheckpointStep::NextPart(id)]);
                    }
                    making.state.install(making.before, &std::mem::take(&mut making.last))?;
                    let first = making.before.next();
                    Ok(vec![CheckpointStep::LoadRecords { id, first }])
                });
            }
            CheckpointNews::Written { id, bytes } => {
                self.checkpoint_goes_on(machine, group, id, |making| {
                    if bytes <= making.written || bytes > making.handed {
                        let handed = making.handed;
                        return Err(format!("is told that {bytes} bytes of {handed} are written"));
                    }
                    making.written = bytes;
                    Ok(making.writes())
                });
            }
            CheckpointNews::Records { id, records, next } => {
                self.checkpoint_goes_on(machine, group, id, |making| {
                    for (index, entries) in &records {
                        making.state.apply(*index, entries)?;
                    }
                    making.steps(next)
                });
            }
            CheckpointNews::Durable { id, index, .. } => {
                self.coverage.count("checkpoints made durable");
                let made = self.processes[machine.0].makings.remove(&group);
                if made.is_none_or(|making| (making.id, making.index) != (id, index)) {
                    let what = format!("{machine} is told of a checkpoint that it did not make");
                    self.violate("the contract of commands", what);
                }
            }
            CheckpointNews::Ended { id, why } => {
                self.coverage.count("checkpoints ended");
                if let SnapshotRefusal::TooFast { .. } = why {
                    let what = format!("{machine} did not wait for its disk: {why}");
                    self.violate("the contract of commands", what);
                }
                let makings = &mut self.processes[machine.0].makings;
                if makings.get(&group).is_some_and(|making| making.id == id) {
                    makings.remove(&group);
                }
            }
            CheckpointNews::Refused(_) => self.coverage.count("snapshots refused"),
            other => panic!("the simulator does not know {other:?}"),
        }
    }

    fn checkpoint_goes_on(
        &mut self,
        machine: Machine,
        group: GroupId,
        id: CheckpointId,
        step: impl FnOnce(&mut Making) -> Result<Vec<CheckpointStep>, String>,
    ) {
        let making = self.processes[machine.0].makings.get_mut(&group);
        let Some(making) = making.filter(|making| making.id == id) else { return };
        let incarnation = self.incarnations[machine.0];
        match step(making) {
            Ok(steps) => {
                let at = self.now + self.dice.duration(&(Duration::ZERO..self.setup.applying));
                let at = at.max(making.until);
                making.until = at;
                for step in steps {
                    let event = Event::Machine { group, says: MachineSays::Checkpoint(step) };
                    self.agenda.put(at, Due::Event { machine, incarnation, event });
                }
            }
            Err(what) => {
                self.violate("the contract of commands", format!("{machine} {what}"));
            }
        }
    }
}

impl Making {
    fn steps(&mut self, next: Option<Index>) -> Result<Vec<CheckpointStep>, String> {
        let id = self.id;
        if let Some(first) = next {
            return Ok(vec![CheckpointStep::LoadRecords { id, first }]);
        }
        if self.state.applied() != self.index {
            let (made, index) = (self.state.applied(), self.index);
            return Err(format!("gets records up to {made} for a checkpoint of {index}"));
        }
        self.left = self.state.snapshot();
        Ok(self.writes())
    }

    /// As much as the disk keeps up with, and at the end that it is the end.
    fn writes(&mut self) -> Vec<CheckpointStep> {
        let id = self.id;
        let mut steps = Vec::new();
        let begun = !self.left.is_empty();
        while !self.left.is_empty() {
            let part = self.left.slice(..self.step.min(self.left.len()));
            if self.handed + part.len() as u64 > self.written + self.most {
                return steps;
            }
            self.handed += part.len() as u64;
            self.left = self.left.slice(part.len()..);
            steps.push(CheckpointStep::Write { id, part });
        }
        if begun {
            steps.push(match self.gives_up {
                true => CheckpointStep::Abandon(id),
                false => CheckpointStep::Finish(id),
            });
        }
        steps
    }
}
