//! A leader never removes or replaces a record of its own log.

use std::collections::BTreeMap;

use jetwake::command::{Command, LogChange, Report, Role};
use jetwake::ids::GroupId;

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// Remembers who leads.
#[derive(Debug, Default)]
pub(super) struct LeaderOnlyAppends {
    roles: BTreeMap<(Machine, GroupId), Role>,
}

impl Checker for LeaderOnlyAppends {
    fn rule(&self) -> &'static str {
        "leaders only append"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, _: &Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Started { group, .. } => {
                self.roles.remove(&(machine, *group));
            }
            Seen::Commanded(Command::Report {
                group: Some(group),
                report: Report::Role { role, .. },
            }) => {
                self.roles.insert((machine, *group), *role);
            }
            Seen::Commanded(Command::Write {
                group,
                change: change @ (LogChange::Truncate { .. } | LogChange::Reset { .. }),
                ..
            }) if self.roles.get(&(machine, *group)) == Some(&Role::Leader) => {
                return Err(format!("{machine} leads {group} and asks for {change:?}"));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, leads, truncate};
    use super::*;

    #[test]
    fn a_leader_that_truncates_is_found() {
        let mut stage = Stage::new();
        let mut checker = LeaderOnlyAppends::default();
        assert_eq!(stage.commanded(&mut checker, 0, &truncate(0)), Ok(()));
        stage.commanded(&mut checker, 0, &leads(1)).unwrap();
        assert!(stage.commanded(&mut checker, 0, &truncate(0)).is_err());
        stage.started(&mut checker, 0);
        assert_eq!(stage.commanded(&mut checker, 0, &truncate(0)), Ok(()));
    }
}
