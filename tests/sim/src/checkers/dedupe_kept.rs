//! Whoever leads knows the ids of the messages that were acknowledged: one that is published again
//! is told the place that it has, and is not stored once more.

use jetwake::ids::Sequence;

use crate::client::Told;
use crate::network::Machine;

/// Holds what a leader says of a message that is published once more against its place.
///
/// # Errors
/// That it says another place, or takes it for a new one. A leader that refuses says nothing.
pub fn check(machine: Machine, id: &str, told: &Told, place: Sequence) -> Result<(), String> {
    match told {
        Told::Acknowledged { sequence, duplicate: true } if *sequence == place => Ok(()),
        Told::Refused { .. } => Ok(()),
        told => Err(format!("{machine} was given {id} again, which is {place}, and says {told:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_id_is_found() {
        let check = |sequence, duplicate| {
            let told = Told::Acknowledged { sequence: Sequence::new(sequence), duplicate };
            check(Machine(0), "c0-1", &told, Sequence::new(4))
        };
        assert_eq!(check(4, true), Ok(()));
        assert!(check(5, true).is_err());
        assert!(check(9, false).unwrap_err().contains("given c0-1 again, which is 4"));
    }
}
