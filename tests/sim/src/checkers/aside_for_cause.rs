//! A member stands aside because of its own disk, and never because a leader contradicts what is
//! committed, or because its stream cannot apply what is: then somebody has broken a promise.

use jetwake::command::{Command, Report};

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// What a member says that is contradicted, and how one begins whose stream cannot apply a record.
const PROMISES_BROKEN: [&str; 2] = ["a leader contradicts", "log record "];

/// Looks at why members stand aside.
#[derive(Debug)]
pub(super) struct AsideForCause;

impl Checker for AsideForCause {
    fn rule(&self) -> &'static str {
        "what is committed is contradicted by nobody, and can be applied"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, _: &Scene<'_>) -> Result<(), String> {
        let Seen::Commanded(Command::Report { report: Report::StoodAside(why), .. }) = seen else {
            return Ok(());
        };
        let broken = PROMISES_BROKEN.iter().any(|words| why.starts_with(words));
        if broken { Err(format!("{machine}: {why}")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::stage::{GROUP, Stage};

    #[test]
    fn a_disk_is_a_cause_and_a_broken_promise_is_none() {
        let mut stage = Stage::new();
        let aside = |why: &str| Command::Report {
            group: Some(GROUP),
            report: Report::StoodAside(why.into()),
        };
        let disk = aside("a write failed: no space is left");
        assert_eq!(stage.commanded(&mut AsideForCause, 0, &disk), Ok(()));
        for why in [
            "a leader contradicts record 4, which is committed here",
            "log record 106, entry 0: proposed behind sequence 92, but the stream is at 91",
        ] {
            assert!(stage.commanded(&mut AsideForCause, 0, &aside(why)).is_err(), "{why}");
        }
    }
}
