//! At the end no message id is held twice.

use std::collections::BTreeMap;

use super::acked_kept::Contents;
use crate::network::Machine;

/// Looks for a message id that a replica holds twice.
///
/// # Errors
/// The first such id.
pub fn check(machine: Machine, contents: &Contents) -> Result<(), String> {
    let mut held = BTreeMap::new();
    for (sequence, message) in contents {
        let Some(id) = message.message_id() else { continue };
        let text = id.escape_ascii().to_string();
        if let Some(before) = held.insert(id, *sequence) {
            return Err(format!("{machine} holds {text} twice, as {before} and as {sequence}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::acked_kept::tests::contents;
    use super::*;

    #[test]
    fn a_doubled_id_is_found() {
        assert_eq!(check(Machine(0), &contents(&[(1, "a"), (2, "b")])), Ok(()));
        let found = check(Machine(0), &contents(&[(1, "a"), (2, "b"), (7, "a")]));
        assert!(found.unwrap_err().contains("holds a twice, as 1 and as 7"));
    }
}
