//! At the end all replicas hold the same messages, and say the same of their state.

use jetwake::ids::Sequence;
use serde_json::Value;

use super::acked_kept::Contents;
use crate::network::Machine;

/// What one replica holds and says.
#[derive(Debug)]
pub struct Replica {
    /// Whose it is.
    pub machine: Machine,
    /// Its messages.
    pub contents: Contents,
    /// What it says of its state, as JSON.
    pub state: Value,
    /// What it says its state comes to: a hash of its counts, its ends and its deletes.
    pub digest: Value,
}

/// Compares replicas with the first.
///
/// # Errors
/// The first difference.
pub fn check(replicas: &[Replica]) -> Result<(), String> {
    let Some((first, others)) = replicas.split_first() else { return Ok(()) };
    for other in others {
        messages(first, other)?;
        if agreed(first) != agreed(other) {
            let (one, two) = (first.machine, other.machine);
            return Err(format!("{one} says {}, and {two} says {}", first.state, other.state));
        }
        if first.digest != other.digest {
            let (one, two) = (first.machine, other.machine);
            return Err(format!("{one} has digest {}, {two} has {}", first.digest, other.digest));
        }
    }
    Ok(())
}

/// What all replicas must say of their state. When a message came that is gone, no snapshot says.
fn agreed(replica: &Replica) -> Value {
    let mut state = replica.state.clone();
    let last = state.get("last_seq").and_then(Value::as_u64).unwrap_or_default();
    if !replica.contents.contains_key(&Sequence::new(last))
        && let Some(fields) = state.as_object_mut()
    {
        fields.remove("last_ts");
    }
    state
}

fn messages(first: &Replica, other: &Replica) -> Result<(), String> {
    let (one, two) = (first.machine, other.machine);
    for (sequence, message) in &first.contents {
        match other.contents.get(sequence) {
            None => return Err(format!("{one} holds {sequence}, {message:?}, and {two} does not")),
            Some(held) if !held.same_as(message) => {
                return Err(format!(
                    "{one} holds {message:?} as {sequence}, and {two} holds {held:?}"
                ));
            }
            Some(_) => {}
        }
    }
    let more = other.contents.iter().find(|(sequence, _)| !first.contents.contains_key(sequence));
    match more {
        Some((sequence, message)) => {
            Err(format!("{two} holds {sequence}, {message:?}, and {one} does not"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::acked_kept::tests::contents;
    use super::*;

    #[test]
    fn when_the_last_message_came_counts_while_it_is_there() {
        let check_with = |last: u64, times: [&str; 2]| {
            let replica = |at: usize| Replica {
                machine: Machine(at),
                contents: contents(&[(1, "a"), (2, "b")]),
                state: serde_json::json!({ "last_seq": last, "last_ts": times[at] }),
                digest: Value::from(5),
            };
            check(&[replica(0), replica(1)])
        };
        assert_eq!(check_with(3, ["noon", "one"]), Ok(()));
        assert!(check_with(2, ["noon", "one"]).is_err());
    }

    #[test]
    fn a_difference_is_found_in_messages_and_in_words() {
        let digested = |at, messages: &[(u64, &str)], count: u64, digest: u64| Replica {
            machine: Machine(at),
            contents: contents(messages),
            state: serde_json::json!({ "messages": count }),
            digest: Value::from(digest),
        };
        let replica = |at, messages: &[(u64, &str)], count| digested(at, messages, count, 5);
        let whole = [(1, "a"), (2, "b")];
        let check_with = |other| check(&[replica(0, &whole, 2), other]);
        assert_eq!(check_with(replica(1, &whole, 2)), Ok(()));
        for (other, words) in [
            (replica(1, &whole[..1], 2), "n1 holds 2"),
            (replica(1, &[(1, "a"), (2, "b"), (3, "c")], 2), "n2 holds 3"),
            (replica(1, &[(1, "a"), (2, "c")], 2), "and n2 holds c"),
            (replica(1, &whole, 3), "n2 says"),
            (digested(1, &whole, 2, 6), "n2 has 6"),
        ] {
            let found = check_with(other).expect_err(words);
            assert!(found.contains(words), "{found}");
        }
    }
}
