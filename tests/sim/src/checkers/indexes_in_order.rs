//! What is applied is committed, what is committed is in the log, and while a process runs neither
//! these nor its term ever move back.

use std::collections::BTreeMap;

use jetwake::command::Role;
use jetwake::ids::{GroupId, Index, Term};

use super::{Checker, Scene, Seen};
use crate::network::Machine;

/// Remembers where each process stood in each of its groups.
#[derive(Debug, Default)]
pub(super) struct IndexesInOrder {
    stands: BTreeMap<(Machine, GroupId), (u32, Stand)>,
}

#[derive(Clone, Copy, Debug)]
struct Stand {
    /// A candidate that nobody supports may go back to the term of a leader that it hears.
    asks_for_votes: bool,
    term: Term,
    applied: Index,
    commit: Index,
}

impl Checker for IndexesInOrder {
    fn rule(&self) -> &'static str {
        "applied is committed, and committed is in the log"
    }

    fn see(&mut self, machine: Machine, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), String> {
        let Seen::Stands { group, status } = seen else { return Ok(()) };
        // A group that reads its disk or stands aside promises nothing.
        if status.role.is_none() {
            return Ok(());
        }
        let (applied, commit, last) = (status.applied, status.commit, status.last.index);
        if applied > commit || commit > last || status.durable > last {
            let durable = status.durable;
            return Err(format!(
                "{machine} {group} has applied {applied} and committed {commit}, with a log that \
                 ends at {last} and is on disk through {durable}"
            ));
        }
        let asks_for_votes = status.role == Some(Role::Candidate);
        let now = Stand { asks_for_votes, term: status.term, applied, commit };
        let incarnation = scene.incarnations[machine.0];
        let before = self.stands.insert((machine, *group), (incarnation, now));
        match before {
            Some((same, before))
                if same == incarnation
                    && (before.term > now.term && !before.asks_for_votes
                        || before.applied > now.applied
                        || before.commit > now.commit) =>
            {
                Err(format!("{machine} {group} went back from {before:?} to {now:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;
    use jetwake::raft::{Position, Status};

    fn status(term: u64, applied: u64, commit: u64, last: u64) -> Status {
        let mut status = Status::default();
        status.role = Some(Role::Follower);
        status.term = Term::new(term);
        status.applied = Index::new(applied);
        status.commit = Index::new(commit);
        status.last = Position { index: Index::new(last), term: Term::new(term) };
        status
    }

    #[test]
    fn what_is_out_of_order_or_goes_back_is_found() {
        let mut stage = Stage::new();
        let mut checker = IndexesInOrder::default();
        assert_eq!(stage.stands(&mut checker, 0, &status(2, 3, 4, 5)), Ok(()));
        for bad in [status(2, 5, 4, 6), status(2, 3, 6, 5), status(1, 3, 4, 5)] {
            assert!(stage.stands(&mut checker, 0, &bad).is_err(), "{bad:?}");
            assert_eq!(
                stage.stands(&mut IndexesInOrder::default(), 0, &status(2, 3, 4, 5)),
                Ok(())
            );
        }
        let mut checker = IndexesInOrder::default();
        stage.stands(&mut checker, 0, &status(2, 3, 4, 5)).expect("in order");
        let found = stage.stands(&mut checker, 0, &status(2, 3, 3, 5));
        assert!(found.unwrap_err().contains("went back"));
        stage.incarnations[0] += 1;
        assert_eq!(stage.stands(&mut checker, 0, &status(2, 0, 1, 5)), Ok(()));
    }
}
