//! At the end every acknowledged message is on every replica, with its sequence and its bytes,
//! unless a client asked to remove it; and what was removed with an acknowledgement is gone.

use std::collections::BTreeMap;

use jetwake::ids::Sequence;

use crate::history::History;
use crate::network::Machine;
use crate::records::StreamMessage;

/// What one replica holds at the end, by sequence.
pub type Contents = BTreeMap<Sequence, StreamMessage>;

/// Holds a replica against what the clients were told.
///
/// # Errors
/// The first message that is missing, changed, or still there.
pub fn check(machine: Machine, contents: &Contents, history: &History) -> Result<(), String> {
    for (number, sequence) in history.acknowledged() {
        let Some(publication) = history.publications().get(number) else { continue };
        let id = publication.id.escape_ascii();
        match contents.get(&sequence) {
            Some(held)
                if held.subject == publication.subject
                    && held.header == publication.header
                    && held.payload == publication.payload => {}
            Some(held) => {
                return Err(format!("{machine} holds {held:?} as {sequence}, which is {id}"));
            }
            None if history.may_be_gone(sequence, &publication.subject) => {}
            None => return Err(format!("{machine} lacks the acknowledged {id}, {sequence}")),
        }
    }
    for (sequence, held) in contents {
        if history.must_be_gone(*sequence, &held.subject) {
            return Err(format!("{machine} still holds {sequence}, {held:?}: it was removed"));
        }
        let known = held.message_id().and_then(|id| history.by_id(&id).map(|(number, _)| number));
        let Some(number) = known else {
            return Err(format!("{machine} holds {sequence}, {held:?}: nobody published it"));
        };
        if !history.may_be_at(number, *sequence) {
            return Err(format!("{machine} holds {held:?} as {sequence}, and not as acknowledged"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::checkers::stage::message;
    use crate::history::Publication;
    use crate::records::stream_message;
    use bytes::Bytes;

    const ON: Machine = Machine(0);

    pub(crate) fn contents(messages: &[(u64, &str)]) -> Contents {
        let read = |(sequence, id): &(u64, &str)| {
            let record = Bytes::from(message(*sequence, id, b"payload"));
            (Sequence::new(*sequence), stream_message(&record).unwrap())
        };
        messages.iter().map(read).collect()
    }

    pub(crate) fn history() -> History {
        let mut history = History::default();
        for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
            history.publish(Publication {
                id: Bytes::from(id),
                subject: Bytes::from_static(b"s.1"),
                header: Bytes::from(format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n")),
                payload: Bytes::from_static(b"payload"),
            });
            if id != "c" {
                history.acknowledge(number, Sequence::new(number as u64 + 1)).unwrap();
            }
        }
        history
    }

    #[test]
    fn what_is_missing_changed_or_moved_is_found() {
        let mut history = history();
        let whole = contents(&[(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(check(ON, &whole, &history), Ok(()));
        assert_eq!(check(ON, &contents(&[(1, "a"), (2, "b")]), &history), Ok(()));
        for (bad, words) in [
            (contents(&[(1, "a")]), "lacks the acknowledged b, 2"),
            (contents(&[(1, "b"), (2, "a")]), "as 1, which is a"),
            (contents(&[(1, "a"), (2, "b"), (3, "b")]), "not as acknowledged"),
            (contents(&[(1, "a"), (2, "b"), (3, "d")]), "nobody published it"),
        ] {
            let found = check(ON, &bad, &history).expect_err(words);
            assert!(found.contains(words), "{found}");
        }
        history.ask_delete(Sequence::new(2));
        assert_eq!(check(ON, &contents(&[(1, "a")]), &history), Ok(()));
        assert_eq!(check(ON, &whole, &history), Ok(()));
        history.deleted(Sequence::new(2));
        assert!(check(ON, &whole, &history).unwrap_err().contains("it was removed"));
    }
}
