//! The same seed does the same: every event and every command, byte for byte, at the same time.

use jetwake_sim::story::Detail;
use jetwake_sim::workload::{Options, attempt};

#[test]
fn the_same_seed_gives_the_same_commands_of_a_plain_group() {
    same(&Options { plain: true, seconds: 20, ..Options::default() });
}

#[test]
fn the_same_seed_gives_the_same_commands_of_a_stream() {
    same(&Options { seconds: 20, ..Options::default() });
}

fn same(options: &Options) {
    let mut digests = Vec::new();
    for seed in [3, 4, 5] {
        let once = attempt(seed, options, Detail::None);
        // Telling the story must not change it.
        let again = attempt(seed, options, Detail::Messages);
        assert!(once.events > 1000, "seed {seed} saw only {} events", once.events);
        assert_eq!(once.trace, again.trace, "seed {seed}");
        assert_eq!((once.events, once.coverage), (again.events, again.coverage), "seed {seed}");
        digests.push(once.trace);
    }
    digests.dedup();
    assert_eq!(digests.len(), 3, "different seeds must do different things");
}
