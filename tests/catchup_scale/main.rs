//! Catchups of many messages, and of many streams at once.
//!
//! A debug build is too slow for ten million messages and plays fewer; `cargo test --release --test
//! catchup_scale` plays all.

mod crowd;
mod replica;

use allocation_counter::measure;
use replica::{
    Deleted, History, RECORD, Replica, alternating, catch_up, config, in_runs, scattered,
};

/// Sequences of the streams.
const SEQUENCES: u64 = if cfg!(debug_assertions) { 100_000 } else { 10_000_000 } / RECORD * RECORD;
/// Bytes on their way between the two: one catchup's window, its reads, what the follower gathers for
/// its disk, and twice the bytes for what carries each of its short messages.
const IN_FLIGHT: u64 = 96 << 20;

/// A follower that has the first `has` messages, deleted ones too, catches up.
fn catches_up(deleted: Deleted, has: u64) {
    let history = History::new(16, 1000, deleted);
    let mut server = Replica::new("n1", config(), Some(history.clone()));
    server.fill(&history, SEQUENCES);
    server.delete(&history, SEQUENCES);
    let snapshot = server.snapshot();
    let mut follower = Replica::new("n2", config(), Some(history.clone()));
    follower.fill(&history, has);
    let follower_had = follower.stream.state().last.get();
    let used = measure(|| catch_up(&mut server, &mut follower, &snapshot));

    let messages = SEQUENCES - history.count_deleted(SEQUENCES);
    let state = follower.stream.state();
    assert_eq!((state.messages, state.last.get()), (messages, SEQUENCES));
    assert_eq!(server.stream.state(), state);
    assert_eq!(server.stream.digest(), follower.stream.digest());
    assert_eq!((server.stored(), follower.stored()), (Some(messages), Some(messages)));
    let went = follower.stream.catchup(follower.now).expect("it caught up");
    assert_eq!((went.retried, went.left), (None, 0));
    assert_eq!(went.done, SEQUENCES - follower_had.max(state.first.get() - 1));
    assert_eq!(server.budget.total(), 0);
    assert!(!server.stream.catchup_peers().any());
    println!(
        "{SEQUENCES} sequences, {messages} messages, {has} there: {} bytes at most, {} kept, {} \
         allocations",
        used.bytes_max, used.bytes_current, used.count_total
    );
    // A message takes 24 bytes of the index, 32 where it is alone; its place next to another that is
    // gone takes as much.
    let kept = messages * 56 + IN_FLIGHT.min(SEQUENCES * 256);
    assert!(used.bytes_max < kept, "{used:?}, expected {kept} at most");
}

#[test]
fn a_catchup_of_ten_million_messages_of_which_nine_in_ten_are_deleted_in_runs() {
    catches_up(in_runs, 0);
    catches_up(in_runs, SEQUENCES / 2);
}

#[test]
fn a_catchup_of_ten_million_messages_of_which_every_second_is_deleted() {
    catches_up(alternating, 0);
    catches_up(alternating, SEQUENCES / 2);
}

#[test]
fn a_catchup_of_ten_million_messages_of_which_every_tenth_is_left() {
    catches_up(scattered, 0);
    catches_up(scattered, SEQUENCES / 2);
}
