//! A member stands aside because of its own disk, and never because a leader contradicts what is
//! committed: then one of the two has broken a promise.

use jetwake::command::{Command, Report};

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// What a member says that is contradicted.
const CONTRADICTED: &str = "a leader contradicts";

/// Looks at why members stand aside.
#[derive(Debug)]
pub(super) struct AsideForCause;

impl Checker for AsideForCause {
    fn rule(&self) -> &'static str {
        "nobody contradicts what is committed"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, _: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Report { report: Report::StoodAside(why), .. }) = seen else {
            return Ok(());
        };
        if why.starts_with(CONTRADICTED) { Err(format!("{machine}: {why}")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stage::{GROUP, Stage};

    #[test]
    fn a_disk_is_a_cause_and_a_contradiction_is_none() {
        let mut stage = Stage::new();
        let aside = |why: &str| Command::Report {
            group: Some(GROUP),
            report: Report::StoodAside(why.into()),
        };
        let disk = aside("a write failed: no space is left");
        assert_eq!(stage.commanded(&mut AsideForCause, 0, &disk), Ok(()));
        let other = aside("a leader contradicts record 4, which is committed here");
        assert!(stage.commanded(&mut AsideForCause, 0, &other).is_err());
    }
}
