//! The bytes in flight of a node's catchups stay within its budget, and are zero at the end: what is
//! charged is released, whatever became of who was served.

use jetwake::limits::Limits;

use crate::network::Machine;

/// Holds what a node has in flight against its budget. A single catchup may go past it by what it
/// reads and sends at once.
///
/// # Errors
/// That it is more.
pub fn check(machine: Machine, in_flight: u64, limits: &Limits) -> Result<(), String> {
    let most = limits.stream_catchups_in_flight.get().max(limits.stream_catchup_bytes.get());
    let at_once = 4 * (limits.load.get() + limits.message.get());
    if in_flight > most.saturating_add(at_once) {
        return Err(format!("{machine} has {in_flight} bytes of catchups in flight, of {most}"));
    }
    Ok(())
}

/// Holds what a node has in flight when nobody is served any more against zero.
///
/// # Errors
/// That something is.
pub fn check_end(machine: Machine, in_flight: u64) -> Result<(), String> {
    match in_flight {
        0 => Ok(()),
        bytes => {
            Err(format!("{machine} has {bytes} bytes of catchups in flight, and serves nobody"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetwake::ids::ByteCount;

    #[test]
    fn what_stays_charged_is_found() {
        let limits = Limits {
            stream_catchups_in_flight: ByteCount::new(1_000),
            stream_catchup_bytes: ByteCount::new(500),
            load: ByteCount::new(10),
            message: ByteCount::new(10),
            ..Limits::default()
        };
        assert_eq!(check(Machine(0), 1_080, &limits), Ok(()));
        assert!(check(Machine(0), 1_081, &limits).is_err());
        assert_eq!(check_end(Machine(0), 0), Ok(()));
        assert!(check_end(Machine(2), 7).unwrap_err().contains("n3 has 7 bytes"));
    }
}
