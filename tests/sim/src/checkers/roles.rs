//! Who said last that it leads or follows: what several rules have to know.

use std::collections::BTreeMap;

use jetwake::command::{Command, Report, Role};
use jetwake::ids::{GroupId, PeerId, Term};

use super::{Scene, Seen};
use crate::network::Machine;

/// What a process last said of its part in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) term: Term,
    pub(super) leader: Option<PeerId>,
    incarnation: u32,
}

/// What each process last said, for as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Roles(BTreeMap<(Machine, GroupId), Part>);

impl Roles {
    /// Learns from what is seen.
    pub(super) fn learn(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) {
        if let Seen::Commanded(Command::Report {
            group: Some(group),
            report: Report::Role { role, term, leader },
        }) = seen
        {
            let incarnation = scene.incarnations[machine.0];
            let part = Part { role: *role, term: *term, leader: *leader, incarnation };
            self.0.insert((machine, *group), part);
        }
        if let Seen::Commanded(Command::Report {
            group: Some(group),
            report: Report::StoodAside(_),
        }) = seen
        {
            self.0.remove(&(machine, *group));
        }
    }

    /// What a process that still runs said last.
    pub(super) fn of(&self, machine: Machine, group: GroupId, scene: &Scene<'_>) -> Option<Part> {
        let part = self.0.get(&(machine, group)).copied();
        part.filter(|part| part.incarnation == scene.incarnations[machine.0])
    }

    /// The term that a process leads.
    pub(super) fn leads(
        &self,
        machine: Machine,
        group: GroupId,
        scene: &Scene<'_>,
    ) -> Option<Term> {
        let part = self.of(machine, group, scene)?;
        (part.role == Role::Leader).then_some(part.term)
    }
}
