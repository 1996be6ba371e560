//! The same seed does the same: every event and every command, byte for byte, at the same time.

use core::time::Duration;

use jetwake_sim::story::Detail;
use jetwake_sim::workload::{Groups, Options, attempt};

#[test]
fn the_same_seed_gives_the_same_commands_of_a_plain_group() {
    same(Groups::Plain);
}

#[test]
fn the_same_seed_gives_the_same_commands_of_a_stream() {
    same(Groups::Stream);
}

#[test]
fn the_same_seed_gives_the_same_commands_of_many_groups() {
    same(Groups::Mixed);
}

fn same(groups: Groups) {
    let time = Duration::from_secs(20);
    let options = &Options { machines: 3, time, groups, digest: true, ..Options::default() };
    let mut digests = Vec::new();
    for seed in [3, 4, 6] {
        let once = attempt(seed, options, Detail::None);
        // Telling the story must not change it.
        let again = attempt(seed, options, Detail::Messages);
        assert!(once.events > 300, "seed {seed} saw only {} events", once.events);
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert_eq!((once.events, once.coverage), (again.events, again.coverage), "seed {seed}");
        digests.push(once.trace);
    }
    digests.dedup();
    assert_eq!(digests.len(), 3, "different seeds must do different things");
}
