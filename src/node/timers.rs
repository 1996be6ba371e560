//! When each group wants to be woken: the earliest is found without asking them all.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Wake;
use crate::ids::GroupId;
use crate::time::Time;

/// The deadline of each group. Every change costs the logarithm of the number of groups.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Time, GroupId, Wake)>,
    by_group: BTreeMap<GroupId, (Time, Wake)>,
}

impl Timers {
    /// Replaces a group's deadline.
    pub(super) fn set(&mut self, group: GroupId, deadline: Option<(Time, Wake)>) {
        let before = match deadline {
            Some(deadline) => self.by_group.insert(group, deadline),
            None => self.by_group.remove(&group),
        };
        if before == deadline {
            return;
        }
        if let Some((time, wake)) = before {
            self.by_time.remove(&(time, group, wake));
        }
        if let Some((time, wake)) = deadline {
            self.by_time.insert((time, group, wake));
        }
    }

    /// The earliest deadline.
    pub(super) fn first(&self) -> Option<(Time, GroupId, Wake)> {
        self.by_time.first().copied()
    }
}
