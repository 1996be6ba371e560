//! Stores: blocks, removals, reads, marks.

use bytes::Bytes;
use jetwake::command::{Command, Mend, StoreChange};
use jetwake::event::{Damaged, Event, Failure, StoreMark};
use jetwake::ids::{Sequence, StoreId};

use crate::rig::{A, B, Rig, block, mark, message};

#[test]
fn messages_come_back_and_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.add(A, &[1, 2, 3], 100);
    rig.add(A, &[4, 7, 9], 100);
    rig.add(B, &[5], 2000);
    assert_eq!(rig.sequences(A, 100), [1, 2, 3, 4, 7, 9]);
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    assert_eq!(rig.opened[0].store, Some(mark(9)));
    assert_eq!(rig.opened[0].damage, []);
    assert_eq!(rig.sequences(A, 100), [1, 2, 3, 4, 7, 9]);
    assert_eq!(rig.sequences(B, 2000), [5]);
}

#[test]
fn what_a_store_only_adds_up_to_is_kept_as_long_as_its_mark_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let until = Bytes::from_static(b"what it has then");
    let only_added = |last| StoreMark { only_added: true, ..mark(last) };
    rig.add(A, &[1, 2], 100);
    rig.store(A, StoreChange::OnlyAdds(until.clone()), only_added(2));
    let (bytes, places) = block(&[3], 100);
    rig.store(A, StoreChange::Messages { block: bytes, places }, only_added(3));
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    assert_eq!(rig.opened[0].store, Some(only_added(3)));
    assert_eq!(rig.opened[0].only_adds, Some(until));
    assert_eq!(rig.opened[1].only_adds, None);
    rig.store(A, StoreChange::Mark, mark(3));
    rig.store(A, StoreChange::Mark, only_added(4));
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    // A mark that says so with nothing that tells up to what: it went with the mark before.
    assert_eq!((&rig.opened[0].store, &rig.opened[0].only_adds), (&Some(only_added(4)), &None));
    let [Damaged::Store(damage)] = &rig.opened[0].damage[..] else { panic!("{:?}", rig.opened[0]) };
    assert!(damage.what.contains("only adds"), "{damage:?}");
    assert_eq!(rig.sequences(A, 100), [1, 2, 3]);
}

#[test]
fn a_read_is_bounded_and_says_where_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.add(A, &[1, 2, 3], 100);
    rig.add(A, &[10, 11, 12], 100);
    rig.remove(A, &[(2, 2)]);
    let list = |(messages, next): (Vec<jetwake::event::StoredMessage>, Option<u64>)| {
        (messages.iter().map(|message| message.sequence.get()).collect::<Vec<_>>(), next)
    };
    assert_eq!(list(rig.read(A, 1, 99, 1, 9999)), (vec![1], Some(3)));
    assert_eq!(list(rig.read(A, 1, 99, 2, 9999)), (vec![1, 3], Some(10)));
    assert_eq!(list(rig.read(A, 1, 3, 2, 9999)), (vec![1, 3], None));
    assert_eq!(list(rig.read(A, 4, 11, 99, 150)), (vec![10], Some(11)));
    assert_eq!(list(rig.read(A, 4, 9, 99, 150)), (vec![], None));
    assert_eq!(list(rig.read(A, 2, 2, 99, 150)), (vec![], None));
    assert_eq!(list(rig.read(A, 11, 99, 99, 0)), (vec![11], Some(12)));
    assert_eq!(list(rig.read(A, 12, 99, 99, 0)), (vec![12], None));
    assert_eq!(list(rig.read(B, 0, 99, 99, 0)), (vec![], None));
}

#[test]
fn removed_messages_never_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.add(A, &(1..=100).collect::<Vec<_>>(), 50);
    rig.add(A, &(101..=200).map(|at| at * 2).collect::<Vec<_>>(), 50);
    rig.add(A, &[1000], 50);
    let mut expected: Vec<u64> = rig.sequences(A, 50);
    // A few, a run over the blocks' border, more than half of a block, a whole block, all again.
    let steps: [&[(u64, u64)]; 6] = [
        &[(1, 1), (5, 5), (17, 19)],
        &[(99, 205), (231, 236)],
        &[(2, 60)],
        &[(400, 400), (300, 302)],
        &[(999, 2000)],
        &[(1, 1), (5, 20), (300, 300)],
    ];
    for ranges in steps {
        rig.remove(A, ranges);
        expected.retain(|at| !ranges.iter().any(|(from, to)| from <= at && at <= to));
        assert_eq!(rig.sequences(A, 50), expected, "after {ranges:?}");
        rig.disk.close();
        rig = Rig::open(folder.path());
        assert_eq!(rig.opened[0].damage, []);
        assert_eq!(rig.sequences(A, 50), expected, "after {ranges:?} and reopening");
    }
    rig.remove(A, &[(0, u64::MAX)]);
    assert_eq!(rig.sequences(A, 50), [0u64; 0]);
    rig.disk.close();
    assert_eq!(Rig::open(folder.path()).sequences(A, 50), [0u64; 0]);
}

#[test]
fn clear_takes_all_and_lower_sequences_may_follow() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.add(A, &[50, 51], 10);
    rig.add(B, &[60], 10);
    rig.remove(A, &[(51, 51)]);
    rig.store(A, StoreChange::Clear, mark(0));
    assert_eq!(rig.sequences(A, 10), [0u64; 0]);
    rig.add(A, &[50, 51], 12);
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    assert_eq!(rig.sequences(A, 12), [50, 51]);
    assert_eq!(rig.sequences(B, 10), [60]);
}

#[test]
fn large_blocks_are_cut_and_large_messages_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let sequences: Vec<u64> = (1..=40).collect();
    rig.add(A, &sequences, 100_000);
    rig.add(A, &[41, 42], 1 << 20);
    let (messages, _) = rig.read(A, 1, 40, 99, u64::MAX);
    assert_eq!(messages.len(), 40);
    assert_eq!(rig.read(A, 42, 42, 1, 0).0[0].record, message(42, 1 << 20));
    rig.remove(A, &[(1, 20), (42, 42)]);
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    let (messages, _) = rig.read(A, 0, 40, 99, u64::MAX);
    assert_eq!(messages.len(), 20);
    for message in messages {
        assert_eq!(message.record, self::message(message.sequence.get(), 100_000));
    }
}

#[test]
fn messages_that_lie_in_whole_blocks_are_mended_in_one_piece() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.add(A, &[1, 2, 3], 2000);
    rig.add(A, &[4, 6, 9], 2000);
    rig.add(A, &[12, 13], 2000);
    let range = |first, last| (Sequence::new(first), Sequence::new(last));
    rig.mend(A, range(4, 11), &[5, 6, 7, 8], 1000);
    rig.mend(A, range(12, 13), &[13], 1000);
    rig.disk.close();
    let mut rig = Rig::open(folder.path());
    let (messages, _) = rig.read(A, 0, 99, 99, u64::MAX);
    let read: Vec<_> = messages.iter().map(|message| message.sequence.get()).collect();
    assert_eq!(read, [1, 2, 3, 5, 6, 7, 8, 13]);
    assert_eq!(messages[4].record, message(6, 1000));
    // A block that reaches beyond the run would be lost with it.
    let (block, places) = block(&[3], 10);
    let (first, last) = range(2, 3);
    let mend = Mend { first, last, block, places };
    rig.ask_store(A, StoreChange::Mend(Box::new(mend)), mark(13));
    assert!(matches!(rig.event(), Event::StoreFailed { group: A, .. }));
}

#[test]
fn the_mark_moves_with_its_change_or_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    let through = rig.store(A, StoreChange::Mark, mark(77));
    rig.ask(Command::SyncStore { group: A, through });
    assert_eq!(rig.event(), Event::StoreSynced { group: A, through });
    rig.disk.close();
    let rig = Rig::open(folder.path());
    assert_eq!(rig.opened[0].store, Some(mark(77)));
    assert_eq!(rig.opened[1].store, None);
}

#[test]
fn messages_out_of_place_fail_and_so_does_all_that_follows_in_their_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::open(folder.path());
    rig.add(A, &[1, 2], 10);
    let (block, places) = block(&[2], 10);
    rig.ask_store(A, StoreChange::Messages { block, places }, mark(2));
    let refused = |event| matches!(event, Event::StoreFailed { group: A, failure: Failure::Io(_) });
    assert!(refused(rig.event()));
    rig.ask_store(A, StoreChange::Mark, mark(3));
    assert!(refused(rig.event()));
    rig.ask(Command::SyncStore { group: A, through: StoreId::new(1) });
    assert!(refused(rig.event()));
    rig.add(B, &[1], 10);
    assert_eq!(rig.sequences(A, 10), [1, 2]);
    rig.disk.close();
    assert_eq!(Rig::open(folder.path()).opened[0].store, Some(mark(2)));
}
