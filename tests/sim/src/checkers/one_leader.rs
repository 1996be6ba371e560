//! At most one leader a term, and a leader does not lead its term again after a restart.

use std::collections::BTreeMap;

use jetwake::command::{Command, Report, Role};
use jetwake::ids::{GroupId, Term};

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// Remembers who led which term, as which incarnation of its process.
#[derive(Debug, Default)]
pub(super) struct OneLeader {
    leaders: BTreeMap<(GroupId, Term), (Machine, u32)>,
}

impl Checker for OneLeader {
    fn rule(&self) -> &'static str {
        "one leader a term"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Report {
            group: Some(group),
            report: Report::Role { role: Role::Leader, term, .. },
        }) = seen
        else {
            return Ok(());
        };
        let now = (machine, scene.incarnations[machine.0]);
        let before = *self.leaders.entry((*group, *term)).or_insert(now);
        if before == now {
            return Ok(());
        }
        let start = |(machine, start): (Machine, u32)| format!("{machine} (start {start})");
        let (before, now) = (start(before), start(now));
        Err(format!("{before} and {now} both lead term {term} of group {group}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{GROUP, Stage, leads};
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_found() {
        let mut stage = Stage::new();
        let mut checker = OneLeader::default();
        for (machine, term, sound) in [(0, 1, true), (0, 1, true), (1, 2, true), (2, 2, false)] {
            let command = leads(term);
            let found = stage.commanded(&mut checker, machine, &command);
            assert_eq!(found.is_ok(), sound, "{found:?}");
        }
        stage.incarnations[0] += 1;
        assert!(stage.commanded(&mut checker, 0, &leads(1)).is_err(), "{GROUP}");
    }
}
