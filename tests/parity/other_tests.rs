//! The table of other tests of nats-server: each of upstream's is there once, and not in the table above
//! too, the test of ours that plays it stands in the file that is named, and the line above counts them.

use std::collections::BTreeSet;

use super::{Sources, TESTS};

pub(crate) const HEADING: &str = "\n## Other tests of nats-server\n";

/// The table has so many rows at least.
const FEWEST: usize = 40;

/// Everything that is wrong with the section.
pub(crate) fn check(section: &str, sources: &Sources, faults: &mut Vec<String>) {
    let mut seen: BTreeSet<&str> = TESTS.iter().map(|(_, upstream, _)| *upstream).collect();
    let (mut rows, mut same) = (0, 0);
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let cells: Vec<_> = cells.iter().filter_map(|cell| in_backticks(cell)).collect();
        let [upstream, ours, file] = cells[..] else {
            faults.push(format!("expected 3 names in backticks: {row}"));
            continue;
        };
        rows += 1;
        same += usize::from(snake_case(upstream) == ours);
        let word = upstream.strip_prefix("Test").is_some_and(|rest| {
            rest.starts_with(char::is_uppercase) && rest.chars().all(char::is_alphanumeric)
        });
        if !word {
            faults.push(format!("{upstream} is no name of a test of upstream"));
        }
        if !seen.insert(upstream) {
            faults.push(format!("{upstream} is there twice"));
        }
        if !sources.test(ours, &[file]) {
            faults.push(format!("{upstream}: test {ours} is not in {file}"));
        }
    }
    if rows < FEWEST {
        faults.push(format!("{rows} other tests, expected {FEWEST} at least"));
    }
    let own = rows - same;
    let counts =
        format!("{rows} rows: {same} under upstream's name, {own} under names of our own.");
    if !section.lines().any(|line| line == counts) {
        faults.push(format!("a line is missing: {counts}"));
    }
}

fn in_backticks(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|name| !name.contains('`'))
}

/// The name of ours for a test of upstream's: `TestJetStreamKVDelete` is `jetstream_kv_delete`.
fn snake_case(upstream: &str) -> String {
    let name = upstream.strip_prefix("Test").unwrap_or(upstream).replace("JetStream", "Jetstream");
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let small_behind = letters.get(at + 1).is_some_and(|next| next.is_ascii_lowercase());
        let begins = letter.is_ascii_uppercase()
            && before.is_some_and(|before| !before.is_ascii_uppercase() || small_behind);
        if begins {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[test]
fn names_become_those_of_tests_of_ours() {
    for (upstream, ours) in [
        ("TestJetStreamKVDelete", "jetstream_kv_delete"),
        ("TestJetStreamMessageTTLRestart", "jetstream_message_ttl_restart"),
        ("TestJetStreamClusterCreateR3StreamWith", "jetstream_cluster_create_r3_stream_with"),
        ("TestJetStreamPublishDeDupe", "jetstream_publish_de_dupe"),
        ("TestNRGSimple", "nrg_simple"),
    ] {
        assert_eq!(snake_case(upstream), ours);
    }
}

/// The checks themselves, shown to fail: the page's own section, but for one row in place of another.
mod spoilt {
    use super::*;

    const ROW: &str = "| `TestJetStreamClusterRollups` | `jetstream_cluster_rollups` \
        | `tests/stream_scenarios/upstream/limits.rs` |";

    fn faults_with(change: impl FnOnce(&str) -> String) -> Vec<String> {
        let page = super::super::page();
        let (_, section) = page.split_once(HEADING).expect("the heading is there");
        assert!(section.contains(ROW), "the row that is spoilt");
        let mut faults = Vec::new();
        check(&change(section), &Sources::read(), &mut faults);
        faults
    }

    #[track_caller]
    fn assert_fault(row: &str, expected: &str) {
        let faults = faults_with(|section| section.replace(ROW, row));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "found {faults:?}");
    }

    #[test]
    fn nothing_is_wrong_with_the_section_as_it_is() {
        assert_eq!(faults_with(str::to_string), Vec::<String>::new());
    }

    #[test]
    fn rows() {
        assert_fault("", "a line is missing: ");
        assert_fault("| `TestA` | `b` |", "expected 3 names in backticks: | `TestA` | `b` |");
        assert_fault(&format!("{ROW}\n{ROW}"), "TestJetStreamClusterRollups is there twice");
        let above = ROW.replace("ClusterRollups`", "AtomicBatchPublishEncode`");
        assert_fault(&above, "TestJetStreamAtomicBatchPublishEncode is there twice");
        let other = ROW.replace("TestJetStreamClusterRollups", "jetstreamRollups");
        assert_fault(&other, "jetstreamRollups is no name of a test of upstream");
        let faults = faults_with(|section| section.lines().take(20).collect::<Vec<_>>().join("\n"));
        assert!(faults.iter().any(|fault| fault.contains("expected 40 at least")), "{faults:?}");
    }

    #[test]
    fn tests() {
        let absent = ROW.replace("`jetstream_cluster_rollups`", "`no_such_test`");
        assert_fault(&absent, "TestJetStreamClusterRollups: test no_such_test is not in tests/");
        let elsewhere = ROW.replace("limits.rs", "removals.rs");
        assert_fault(&elsewhere, "is not in tests/stream_scenarios/upstream/removals.rs");
        let nowhere = ROW.replace("limits.rs", "nowhere.rs");
        assert_fault(&nowhere, "is not in tests/stream_scenarios/upstream/nowhere.rs");
        let renamed = ROW.replace("`jetstream_cluster_rollups`", "`jetstream_rollup`");
        assert_fault(&renamed, "under names of our own.");
    }
}
