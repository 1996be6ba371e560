//! At the end the snapshot that each replica takes says what it holds: as many messages, the same
//! ends, and as deleted exactly the sequences between them that are not there.

use bytes::Bytes;
use jetwake::ids::{GroupName, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{DeleteBlock, RaftSnapshot, StreamState};

use super::acked_kept::Contents;
use crate::network::Machine;

/// Holds the snapshot file of a replica against what it was read to hold.
///
/// # Errors
/// The first difference.
pub fn check(
    machine: Machine,
    file: &Bytes,
    name: &GroupName,
    contents: &Contents,
) -> Result<(), String> {
    let unreadable = |error| format!("{machine} wrote a snapshot that cannot be read: {error}");
    let snapshot = RaftSnapshot::decode(file, name).map_err(unreadable)?;
    let state = StreamState::decode(&snapshot.data, &Limits::default()).map_err(unreadable)?;
    let held = contents.len() as u64;
    if state.messages != held {
        let said = state.messages;
        return Err(format!("the snapshot of {machine} has {said} messages, and it holds {held}"));
    }
    if let Some((first, _)) = contents.first_key_value()
        && *first != state.first
    {
        let said = state.first;
        return Err(format!("the snapshot of {machine} begins at {said}, and it holds {first}"));
    }
    let wrong = |sequence: Sequence, what: &str| {
        Err(format!("the snapshot of {machine} says that {sequence} is {what}, and it is not"))
    };
    let deleted = deleted(&state);
    let mut next = deleted.iter().peekable();
    for at in state.first.get().max(1)..=state.last.get() {
        let sequence = Sequence::new(at);
        let says = next.next_if(|gone| **gone <= sequence).copied();
        match (says, contents.contains_key(&sequence)) {
            (Some(gone), _) if gone < sequence => return wrong(gone, "deleted once"),
            (Some(_), true) => return wrong(sequence, "deleted"),
            (None, false) => return wrong(sequence, "there"),
            _ => {}
        }
    }
    next.next().map_or(Ok(()), |gone| wrong(*gone, "deleted below the last"))
}

fn deleted(state: &StreamState) -> Vec<Sequence> {
    let mut deleted = Vec::new();
    let mut run = |first: Sequence, count: u64| {
        deleted.extend((0..count).map(|place| first.plus(place)));
    };
    for block in &state.deleted {
        match block {
            DeleteBlock::Run { first, count } => run(first, count),
            DeleteBlock::Set(set) => set.runs().for_each(|(first, count)| run(first, count)),
        }
    }
    deleted.sort_unstable();
    deleted
}

#[cfg(test)]
mod tests {
    use super::super::acked_kept::tests::contents;
    use super::*;
    use jetwake::ids::{ByteCount, Index, Term};
    use jetwake::wire::{DeleteBlocksBuilder, SequenceSet};

    fn name() -> GroupName {
        GroupName::new("group").expect("one token")
    }

    fn file(messages: u64, first: u64, last: u64, gone: &[u64]) -> Bytes {
        let mut set = SequenceSet::new();
        gone.iter().for_each(|sequence| {
            set.insert(Sequence::new(*sequence));
        });
        let mut deleted = DeleteBlocksBuilder::new();
        if !set.is_empty() {
            deleted.push_set(&set).expect("a small set");
        }
        let state = StreamState {
            messages,
            bytes: ByteCount::new(1),
            first: Sequence::new(first),
            last: Sequence::new(last),
            failed: 0,
            deleted_count: set.len(),
            deleted: deleted.finish(),
        };
        RaftSnapshot {
            last_term: Term::new(1),
            last_index: Index::new(9),
            peer_state: Bytes::new(),
            data: state.to_bytes(),
        }
        .to_bytes(&name())
    }

    #[test]
    fn a_delete_too_many_or_too_few_is_found() {
        let held = contents(&[(2, "a"), (4, "b")]);
        let check = |file: &Bytes| check(Machine(0), file, &name(), &held);
        assert_eq!(check(&file(2, 2, 6, &[3, 5, 6])), Ok(()));
        for (bad, words) in [
            (file(3, 2, 6, &[3, 5, 6]), "has 3 messages"),
            (file(2, 1, 6, &[1, 3, 5, 6]), "begins at 1"),
            (file(2, 2, 6, &[5, 6]), "3 is there"),
            (file(2, 2, 6, &[3, 4, 5, 6]), "4 is deleted"),
            (file(2, 2, 6, &[3, 5, 6, 8]), "8 is deleted below the last"),
        ] {
            let found = check(&bad).expect_err(words);
            assert!(found.contains(words), "{found}");
        }
        assert!(check(&Bytes::from_static(b"torn")).unwrap_err().contains("cannot be read"));
    }
}
