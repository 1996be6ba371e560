//! The commands of one node that wait to be polled, and the numbers given to them.
//!
//! Every room pushes into the one outbox of its node, so commands leave in the order in which they
//! were decided, and ids are ascending over all groups of the node.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::command::{Answer, Command, LogChange, Report, SnapshotFile, StoreChange};
use crate::event::StoreMark;
use crate::ids::{ByteCount, GroupId, Index, LoadId, RequestId, Sequence, StoreId, WriteId};
use crate::subject::Subject;

/// Commands in the order in which they are handed out.
#[derive(Debug, Default)]
pub struct Outbox {
    commands: VecDeque<Command>,
    last_write: WriteId,
    last_store: StoreId,
    last_load: LoadId,
    subscriptions: BTreeMap<Subject, GroupId>,
    loads: BTreeMap<LoadId, GroupId>,
    /// Writes that were not reported yet, and whose they are.
    writing: VecDeque<(WriteId, GroupId)>,
    storing: VecDeque<(StoreId, GroupId)>,
    /// The defect that is planted, for those who know no limits.
    #[cfg(feature = "canaries")]
    pub(crate) canary: Option<crate::canary::Canary>,
}

impl Outbox {
    /// An empty one; the first id of each kind is 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command that needs no number.
    pub fn push(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    /// Takes the oldest command.
    pub fn pop(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// How many commands wait.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Listens to a subject on behalf of a group.
    pub fn subscribe(&mut self, group: GroupId, subject: Subject) {
        self.subscriptions.insert(subject.clone(), group);
        self.push(Command::Subscribe(subject));
    }

    /// Listens no longer.
    pub fn unsubscribe(&mut self, subject: &Subject) {
        if self.subscriptions.remove(subject).is_some() {
            self.push(Command::Unsubscribe(subject.clone()));
        }
    }

    /// A group is no more: nothing is listened to on its behalf, and what it asked to be loaded is for
    /// nobody.
    pub fn forget(&mut self, group: GroupId) {
        let of_group = self.subscriptions.iter().filter(|(_, of)| **of == group);
        let subjects: Vec<_> = of_group.map(|(subject, _)| subject.clone()).collect();
        for subject in &subjects {
            self.unsubscribe(subject);
        }
        self.loads.retain(|_, of| *of != group);
    }

    /// The group that listens to a subject, as it is or with `*` for its last token.
    pub fn subscriber(&self, subject: &Subject) -> Option<GroupId> {
        let exact = self.subscriptions.get(subject).copied();
        exact.or_else(|| self.subscriptions.get(&subject.with_last_wildcard()?).copied())
    }

    /// The group that asked for a load or read, which is answered now; none if it was answered
    /// before.
    pub fn take_load(&mut self, id: LoadId) -> Option<GroupId> {
        self.loads.remove(&id)
    }

    /// The next group that waits for log writes up to `through`: each comes at least once.
    pub fn next_written(&mut self, through: WriteId) -> Option<GroupId> {
        next_through(&mut self.writing, through)
    }

    /// The next group that waits for store writes up to `through`: each comes at least once.
    pub fn next_stored(&mut self, through: StoreId) -> Option<GroupId> {
        next_through(&mut self.storing, through)
    }

    /// Asks for a change of a group's log.
    pub fn write(&mut self, group: GroupId, change: LogChange) -> WriteId {
        let id = self.last_write.next();
        self.last_write = id;
        self.writing.push_back((id, group));
        self.push(Command::Write { id, group, change });
        id
    }

    /// Asks for a change of a group's store; `mark` is how far the store is after it.
    pub fn store(&mut self, group: GroupId, change: StoreChange, mark: StoreMark) -> StoreId {
        let id = self.last_store.next();
        self.last_store = id;
        self.storing.push_back((id, group));
        self.push(Command::Store { id, group, change, mark });
        id
    }

    /// Asks that the group's store writes up to `through` survive a power cut.
    pub fn sync_store(&mut self, group: GroupId, through: StoreId) {
        self.push(Command::SyncStore { group, through });
    }

    /// Asks for log records `first..=last`, at most `bytes` of them but at least one.
    pub fn load(&mut self, group: GroupId, first: Index, last: Index, bytes: ByteCount) -> LoadId {
        let id = self.next_load(group);
        self.push(Command::Load { id, group, first, last, bytes });
        id
    }

    /// Asks for `bytes` of a snapshot file.
    pub fn load_snapshot(
        &mut self,
        group: GroupId,
        file: SnapshotFile,
        offset: u64,
        bytes: ByteCount,
    ) -> LoadId {
        let id = self.next_load(group);
        self.push(Command::LoadSnapshot { id, group, file, offset, bytes });
        id
    }

    /// Asks for stored messages `first..=last`, at most `messages` and `bytes` of them, but at least
    /// one.
    pub fn read(
        &mut self,
        group: GroupId,
        (first, last): (Sequence, Sequence),
        messages: usize,
        bytes: ByteCount,
    ) -> LoadId {
        let id = self.next_load(group);
        self.push(Command::Read { id, group, first, last, messages, bytes });
        id
    }

    /// Answers a client.
    pub fn answer(&mut self, id: RequestId, answer: Answer) {
        self.push(Command::Answer { id, answer });
    }

    /// Tells what a person may want to know.
    pub fn report(&mut self, group: GroupId, report: Report) {
        self.push(Command::Report { group: Some(group), report });
    }

    /// The last log write that was asked for.
    pub const fn last_write(&self) -> WriteId {
        self.last_write
    }

    /// The last store write that was asked for.
    pub const fn last_store(&self) -> StoreId {
        self.last_store
    }

    fn next_load(&mut self, group: GroupId) -> LoadId {
        self.last_load = self.last_load.next();
        self.loads.insert(self.last_load, group);
        self.last_load
    }
}

/// Removes the first run of one group that is at or below `through`.
fn next_through<Id: Ord>(waiting: &mut VecDeque<(Id, GroupId)>, through: Id) -> Option<GroupId> {
    let group = waiting.front().filter(|(id, _)| *id <= through)?.1;
    while waiting.front().is_some_and(|(id, of)| *of == group && *id <= through) {
        waiting.pop_front();
    }
    Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_leave_in_order_with_ascending_ids() {
        let mut outbox = Outbox::new();
        let mark = StoreMark::default();
        assert_eq!(outbox.store(GroupId(1), StoreChange::Mark, mark), StoreId::new(1));
        assert_eq!(outbox.store(GroupId(0), StoreChange::Clear, mark), StoreId::new(2));
        let range = (Sequence::new(1), Sequence::new(9));
        assert_eq!(outbox.read(GroupId(0), range, 5, ByteCount::new(10)), LoadId::new(1));
        let load = outbox.load(GroupId(0), Index::new(1), Index::new(2), ByteCount::new(3));
        assert_eq!(load, LoadId::new(2));
        let change = LogChange::Compact { through: Index::new(4) };
        assert_eq!(outbox.write(GroupId(0), change), WriteId::new(1));
        assert_eq!(outbox.len(), 5);
        assert!(matches!(outbox.pop(), Some(Command::Store { group: GroupId(1), .. })));
        assert!(matches!(outbox.pop(), Some(Command::Store { group: GroupId(0), .. })));
        assert!(matches!(outbox.pop(), Some(Command::Read { messages: 5, .. })));
        assert!(matches!(outbox.pop(), Some(Command::Load { .. })));
        assert!(matches!(outbox.pop(), Some(Command::Write { .. })));
        assert!(outbox.is_empty() && outbox.pop().is_none());
        assert_eq!((outbox.last_store(), outbox.last_write()), (StoreId::new(2), WriteId::new(1)));
    }
}
