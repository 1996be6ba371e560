//! Holds `docs/parity.md` to the truth: every row is there once, under upstream's name, and what a
//! row names exists. The page is for people; this file knows what must stand on it.

#[path = "parity/other_tests.rs"]
mod other_tests;

use std::fs;
use std::path::{Path, PathBuf};

const STATUSES: [&str; 3] = ["works", "partly", "not yet"];

/// Id and upstream name of each feature.
const FEATURES: [(u16, &str); 57] = [
    (1694, "encodeDeleteRange"),
    (1695, "decodeDeleteRange"),
    (1696, "createGroupForConsumer"),
    (1697, "jsClusteredConsumerRequest"),
    (1698, "encodeAddConsumerAssignment"),
    (1699, "encodeDeleteConsumerAssignment"),
    (1700, "decodeConsumerAssignment"),
    (1701, "decodeConsumerAssignmentConfig"),
    (1702, "encodeAddConsumerAssignmentCompressed"),
    (1703, "decodeConsumerAssignmentCompressed"),
    (1704, "decodeStreamMsg"),
    (1705, "decodeBatchMsg"),
    (1706, "encodeStreamMsg"),
    (1707, "encodeStreamMsgAllowCompress"),
    (1708, "encodeStreamMsgAllowCompressAndBatch"),
    (1709, "supportsBinarySnapshot"),
    (1710, "supportsBinarySnapshotLocked"),
    (1711, "stateSnapshot"),
    (1712, "stateSnapshotLocked"),
    (1713, "processClusteredInboundMsg"),
    (1714, "getAndDeleteMsgTrace"),
    (1715, "calculateSyncRequest"),
    (1716, "processSnapshotDeletes"),
    (1717, "setCatchupPeer"),
    (1718, "updateCatchupPeer"),
    (1719, "decrementCatchupPeer"),
    (1720, "clearCatchupPeer"),
    (1721, "clearAllCatchupPeers"),
    (1722, "lagForCatchupPeer"),
    (1723, "hasCatchupPeers"),
    (1724, "setCatchingUp"),
    (1725, "clearCatchingUp"),
    (1726, "isCatchingUp"),
    (1727, "isCurrent"),
    (1728, "processSnapshot"),
    (1729, "processCatchupMsg"),
    (1730, "flushAllPending"),
    (1731, "handleClusterSyncRequest"),
    (1732, "offlineClusterInfo"),
    (1733, "clusterInfo"),
    (1734, "checkClusterInfo"),
    (1735, "streamAlternates"),
    (1736, "handleClusterStreamInfoRequest"),
    (1737, "processClusterStreamInfoRequest"),
    (1738, "gcbTotal"),
    (1739, "gcbBelowMax"),
    (1740, "gcbAdd"),
    (1741, "gcbSubLocked"),
    (1742, "gcbSub"),
    (1743, "gcbSubLast"),
    (1744, "cbKickChan"),
    (1745, "runCatchup"),
    (1746, "syncSubjForStream"),
    (1747, "syncReplySubject"),
    (1748, "infoReplySubject"),
    (1749, "syncAckSubject"),
    (1750, "syncSubject"),
];

/// Id and upstream name of each test, and the name of ours.
const TESTS: [(u16, &str, &str); 49] = [
    (730, "TestJetStreamAtomicBatchPublishEncode", "jetstream_atomic_batch_publish_encode"),
    (
        846,
        "TestJetStreamClusterMetaRecoveryUpdatesDeletesConsumers",
        "jetstream_cluster_meta_recovery_updates_deletes_consumers",
    ),
    (
        847,
        "TestJetStreamClusterMetaRecoveryRecreateFileStreamAsMemory",
        "jetstream_cluster_meta_recovery_recreate_file_stream_as_memory",
    ),
    (
        848,
        "TestJetStreamClusterMetaRecoveryConsumerCreateAndRemove",
        "jetstream_cluster_meta_recovery_consumer_create_and_remove",
    ),
    (
        890,
        "TestJetStreamClusterOfflineStreamAndConsumerAfterAssetCreateOrUpdate",
        "jetstream_cluster_offline_stream_and_consumer_after_asset_create_or_update",
    ),
    (
        891,
        "TestJetStreamClusterOfflineStreamAndConsumerAfterDowngrade",
        "jetstream_cluster_offline_stream_and_consumer_after_downgrade",
    ),
    (
        893,
        "TestJetStreamClusterOfflineStreamAndConsumerStrictDecoding",
        "jetstream_cluster_offline_stream_and_consumer_strict_decoding",
    ),
    (
        2640,
        "TestNRGWALEntryWithoutQuorumMustTruncate",
        "nrg_wal_entry_without_quorum_must_truncate",
    ),
    (2641, "TestNRGTermNoDecreaseAfterWALReset", "nrg_term_no_decrease_after_wal_reset"),
    (
        2643,
        "TestNRGCatchupDoesNotTruncateUncommittedEntriesWithQuorum",
        "nrg_catchup_does_not_truncate_uncommitted_entries_with_quorum",
    ),
    (
        2644,
        "TestNRGCatchupCanTruncateMultipleEntriesWithoutQuorum",
        "nrg_catchup_can_truncate_multiple_entries_without_quorum",
    ),
    (
        2645,
        "TestNRGCatchupDoesNotTruncateCommittedEntriesDuringRedelivery",
        "nrg_catchup_does_not_truncate_committed_entries_during_redelivery",
    ),
    (
        2646,
        "TestNRGCatchupFromNewLeaderWithIncorrectPterm",
        "nrg_catchup_from_new_leader_with_incorrect_pterm",
    ),
    (
        2647,
        "TestNRGDontRemoveSnapshotIfTruncateToApplied",
        "nrg_dont_remove_snapshot_if_truncate_to_applied",
    ),
    (2648, "TestNRGSnapshotAndTruncateToApplied", "nrg_snapshot_and_truncate_to_applied"),
    (2649, "TestNRGIgnoreDoubleSnapshot", "nrg_ignore_double_snapshot"),
    (
        2653,
        "TestNRGCancelCatchupWhenDetectingHigherTermDuringVoteRequest",
        "nrg_cancel_catchup_when_detecting_higher_term_during_vote_request",
    ),
    (2655, "TestNRGTruncateDownToCommitted", "nrg_truncate_down_to_committed"),
    (
        2656,
        "TestNRGTruncateDownToCommittedWhenTruncateFails",
        "nrg_truncate_down_to_committed_when_truncate_fails",
    ),
    (2658, "TestNRGMemoryWALEmptiesSnapshotsDir", "nrg_memory_wal_empties_snapshots_dir"),
    (2659, "TestNRGHealthCheckWaitForCatchup", "nrg_health_check_wait_for_catchup"),
    (2660, "TestNRGHealthCheckWaitForDoubleCatchup", "nrg_health_check_wait_for_double_catchup"),
    (
        2661,
        "TestNRGHealthCheckWaitForPendingCommitsWhenPaused",
        "nrg_health_check_wait_for_pending_commits_when_paused",
    ),
    (
        2662,
        "TestNRGAppendEntryCanEstablishQuorumAfterLeaderChange",
        "nrg_append_entry_can_establish_quorum_after_leader_change",
    ),
    (
        2665,
        "TestNRGSignalLeadChangeFalseIfCampaignImmediately",
        "nrg_signal_lead_change_false_if_campaign_immediately",
    ),
    (2666, "TestNRGCatchupDontCountTowardQuorum", "nrg_catchup_dont_count_toward_quorum"),
    (
        2668,
        "TestNRGRejectNewAppendEntryFromPreviousLeader",
        "nrg_reject_new_append_entry_from_previous_leader",
    ),
    (
        2669,
        "TestNRGRejectAppendEntryDuringCatchupFromPreviousLeader",
        "nrg_reject_append_entry_during_catchup_from_previous_leader",
    ),
    (2673, "TestNRGSnapshotRecovery", "nrg_snapshot_recovery"),
    (2676, "TestNRGInitializeAndScaleUp", "nrg_initialize_and_scale_up"),
    (2677, "TestNRGReplayOnSnapshotSameTerm", "nrg_replay_on_snapshot_same_term"),
    (2678, "TestNRGReplayOnSnapshotDifferentTerm", "nrg_replay_on_snapshot_different_term"),
    (2679, "TestNRGSizeAndApplied", "nrg_size_and_applied"),
    (2680, "TestNRGIgnoreEntryAfterCanceledCatchup", "nrg_ignore_entry_after_canceled_catchup"),
    (
        2681,
        "TestNRGDelayedMessagesAfterCatchupDontCountTowardQuorum",
        "nrg_delayed_messages_after_catchup_dont_count_toward_quorum",
    ),
    (
        2682,
        "TestNRGStepdownWithHighestTermDuringCatchup",
        "nrg_stepdown_with_highest_term_during_catchup",
    ),
    (2683, "TestNRGTruncateOnStartup", "nrg_truncate_on_startup"),
    (2684, "TestNRGLeaderCatchupHandling", "nrg_leader_catchup_handling"),
    (
        2685,
        "TestNRGNewEntriesFromOldLeaderResetsWALDuringCatchup",
        "nrg_new_entries_from_old_leader_resets_wal_during_catchup",
    ),
    (2686, "TestNRGProcessed", "nrg_processed"),
    (2688, "TestNRGDrainAndReplaySnapshot", "nrg_drain_and_replay_snapshot"),
    (2691, "TestNRGParallelCatchupRollback", "nrg_parallel_catchup_rollback"),
    (
        2696,
        "TestNRGTruncateLogWithMisalignedSnapshotGap",
        "nrg_truncate_log_with_misaligned_snapshot_gap",
    ),
    (2697, "TestNRGTruncateLogWithMissingSnapshot", "nrg_truncate_log_with_missing_snapshot"),
    (
        2703,
        "TestNRGUncommittedMembershipChangeGetsTruncated",
        "nrg_uncommitted_membership_change_gets_truncated",
    ),
    (2715, "TestNRGInstallSnapshotFromCheckpoint", "nrg_install_snapshot_from_checkpoint"),
    (2716, "TestNRGInstallSnapshotForce", "nrg_install_snapshot_force"),
    (
        2717,
        "TestNRGInstallSnapshotFromCheckpointAfterTruncateToSnapshot",
        "nrg_install_snapshot_from_checkpoint_after_truncate_to_snapshot",
    ),
    (2719, "TestNRGReplayAddPeerKeepsClusterSize", "nrg_replay_add_peer_keeps_cluster_size"),
];

#[test]
fn the_page_is_complete_and_true() {
    let faults = faults(&page(), &Sources::read());
    assert!(faults.is_empty(), "docs/parity.md:\n{}", faults.join("\n"));
}

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/parity.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything that is wrong with a page, one sentence each.
fn faults(page: &str, sources: &Sources) -> Vec<String> {
    let Some((features, tests)) = page.split_once("\n## Tests\n") else {
        return vec!["the heading '## Tests' is missing".into()];
    };
    let Some((tests, others)) = tests.split_once(other_tests::HEADING) else {
        return vec!["the heading '## Other tests of nats-server' is missing".into()];
    };
    let (features, tests) = (rows(features), rows(tests));
    let mut faults = Vec::new();
    other_tests::check(others, sources, &mut faults);
    check_names(&FEATURES, &features, &mut faults);
    check_names(&TESTS.map(|(id, upstream, _)| (id, upstream)), &tests, &mut faults);
    for row in &features {
        check_feature(row, sources, &mut faults);
    }
    for row in &tests {
        check_test(row, sources, &mut faults);
    }
    for rows in [&features, &tests] {
        let counts = counts(rows);
        if !page.lines().any(|line| line == counts) {
            faults.push(format!("a line is missing: {counts}"));
        }
    }
    faults
}

/// A row of a table: its id and the cells behind it, without backticks.
struct Row<'a> {
    id: u16,
    cells: Vec<String>,
    text: &'a str,
}

fn rows(section: &str) -> Vec<Row<'_>> {
    section
        .lines()
        .filter_map(|text| {
            let cells = text.strip_prefix("| ")?.strip_suffix(" |")?;
            let mut cells = cells.split(" | ").map(|cell| cell.replace('`', ""));
            Some(Row { id: cells.next()?.parse().ok()?, cells: cells.collect(), text })
        })
        .collect()
}

/// The line that sums up a section.
fn counts(rows: &[Row<'_>]) -> String {
    let count = |status: &str| {
        rows.iter().filter(|row| row.cells.iter().any(|cell| cell == status)).count()
    };
    let [works, partly, not_yet] = STATUSES.map(count);
    format!("{} rows: {works} works, {partly} partly, {not_yet} not yet.", rows.len())
}

/// Every known id is there once, under its name, and no other.
fn check_names(known: &[(u16, &str)], rows: &[Row<'_>], faults: &mut Vec<String>) {
    for (id, upstream) in known {
        let found: Vec<_> = rows.iter().filter(|row| row.id == *id).collect();
        match found[..] {
            [row] if row.cells.first().is_some_and(|cell| cell == upstream) => {}
            [row] => faults.push(format!("row {id}: expected {upstream}, found {}", row.text)),
            [] => faults.push(format!("row {id} ({upstream}) is missing")),
            _ => faults.push(format!("row {id} ({upstream}) is there {} times", found.len())),
        }
    }
    for row in rows.iter().filter(|row| known.iter().all(|(id, _)| *id != row.id)) {
        faults.push(format!("row {} is none of ours: {}", row.id, row.text));
    }
}

fn check_feature(row: &Row<'_>, sources: &Sources, faults: &mut Vec<String>) {
    let [_, items, tests, status, left] = &row.cells[..] else {
        return faults.push(format!("row {}: expected 6 cells: {}", row.id, row.text));
    };
    check_status(row, status, left, faults);
    for (what, cell) in [("item", items), ("test", tests)] {
        if status == "works" && cell == "-" {
            faults.push(format!("row {}: works, but names no {what}", row.id));
        }
    }
    for item in names(items).filter(|item| !sources.declare(item)) {
        faults.push(format!("row {}: item {item} is not in the source", row.id));
    }
    for test in names(tests).filter(|test| !sources.test(test, &["src", "tests", "driver"])) {
        faults.push(format!("row {}: test {test} is not in the source", row.id));
    }
}

fn check_test(row: &Row<'_>, sources: &Sources, faults: &mut Vec<String>) {
    let [_, ours, status, left] = &row.cells[..] else {
        return faults.push(format!("row {}: expected 5 cells: {}", row.id, row.text));
    };
    check_status(row, status, left, faults);
    if let Some((_, _, name)) = TESTS.iter().find(|(id, _, _)| *id == row.id)
        && ours != name
    {
        faults.push(format!("row {}: expected test {name}, found {ours}", row.id));
    }
    if status != "not yet" && !sources.test(ours, &["tests"]) {
        faults.push(format!("row {}: {status}, but test {ours} is not in tests/", row.id));
    }
}

fn check_status(row: &Row<'_>, status: &str, left: &str, faults: &mut Vec<String>) {
    if !STATUSES.contains(&status) {
        faults.push(format!("row {}: status {status:?}, expected one of {STATUSES:?}", row.id));
    }
    if status == "partly" && left == "-" {
        faults.push(format!("row {}: partly, but does not say what is left to do", row.id));
    }
    if status == "works" && left != "-" {
        faults.push(format!("row {}: works, but something is left to do: {left}", row.id));
    }
}

/// The names in a cell.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(", ").filter(|name| *name != "-")
}

/// The project's Rust files: path from the root, and text.
struct Sources(Vec<(PathBuf, String)>);

impl Sources {
    fn read() -> Self {
        let mut files = Vec::new();
        for folder in ["src", "tests", "driver"] {
            Self::read_folder(Path::new(folder), &mut files);
        }
        Self(files)
    }

    fn read_folder(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let entries = fs::read_dir(root.join(folder))
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = folder.join(entry.expect("an entry of a readable folder").file_name());
            if root.join(&path).is_dir() {
                if !path.ends_with("target") {
                    Self::read_folder(&path, files);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(root.join(&path))
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                files.push((path, text));
            }
        }
    }

    /// Whether `module::item` or `module::Type::item` stands in the files of that module: its own
    /// and those below it, which it may re-export.
    fn declare(&self, path: &str) -> bool {
        let mut module = PathBuf::from("src");
        let mut segments = path.split("::").peekable();
        while let Some(segment) = segments.next_if(|segment| {
            let inner = module.join(segment);
            self.0
                .iter()
                .any(|(file, _)| file.starts_with(&inner) || *file == inner.with_extension("rs"))
        }) {
            module.push(segment);
        }
        let segments: Vec<_> = segments.collect();
        self.0
            .iter()
            .filter(|(file, _)| *file == module.with_extension("rs") || file.starts_with(&module))
            .any(|(_, text)| match segments[..] {
                [item] => text.lines().any(|line| declares(line, item)),
                [owner, item] => declares_inside(text, owner, item),
                _ => false,
            })
    }

    /// Whether a test function of this name stands in one of the folders, and runs.
    fn test(&self, name: &str, folders: &[&str]) -> bool {
        let files = self.0.iter().filter(|(file, _)| folders.iter().any(|at| file.starts_with(at)));
        files.into_iter().any(|(_, text)| {
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            let mut places = (0..lines.len()).filter(|at| declares(lines[*at], name));
            places.any(|at| {
                let above = lines[..at].iter().rev();
                let attributes: Vec<_> = above
                    .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
                    .collect();
                attributes.iter().any(|line| line.starts_with("#[") && line.contains("test"))
                    && !attributes.iter().any(|line| line.starts_with("#[ignore"))
            })
        })
    }
}

/// Whether a line begins the declaration of this name, at whatever visibility.
fn declares(line: &str, name: &str) -> bool {
    const KEYWORDS: [&str; 9] = [
        "fn ",
        "const fn ",
        "async fn ",
        "struct ",
        "enum ",
        "trait ",
        "type ",
        "const ",
        "static ",
    ];
    let code = line.trim_start();
    let code = match code.strip_prefix("pub(") {
        Some(scope) => scope.split_once(") ").map_or(code, |(_, declared)| declared),
        None => code.strip_prefix("pub ").unwrap_or(code),
    };
    let mut declared = KEYWORDS.iter().filter_map(|keyword| code.strip_prefix(keyword));
    declared.any(|declared| {
        let after = declared.strip_prefix(name);
        after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// Whether an item stands in a block of its owner: a function of an `impl`, a variant of an
/// `enum`, a field of a `struct`. Blocks end at a brace in the first column, as rustfmt has them.
fn declares_inside(text: &str, owner: &str, item: &str) -> bool {
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('}') {
            inside = false;
        } else if line.ends_with('{') && !line.starts_with(' ') {
            let implements = line.starts_with("impl")
                && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == owner);
            inside = implements || declares(line, owner);
        } else if inside {
            let code = line.trim_start();
            let code = code.strip_prefix("pub ").unwrap_or(code);
            let member =
                code.strip_prefix(item).is_some_and(|rest| rest.starts_with([':', ',', '(', ' ']));
            if declares(line, item) || member {
                return true;
            }
        }
    }
    false
}

/// The checks themselves, shown to fail: a page that is right but for one row.
mod spoilt {
    use super::*;

    /// What is wrong with a page on which nothing works, but for this row in place of its own.
    fn faults_with(id: u16, row: &str) -> Vec<String> {
        let own = |known: u16| known == id && !row.is_empty();
        let mut page = String::new();
        for (known, upstream) in FEATURES {
            let blank = format!("| {known} | `{upstream}` | - | - | not yet | - |");
            page += &format!("{}\n", if own(known) { row } else { &blank });
        }
        page += "57 rows: 0 works, 0 partly, 57 not yet.\n\n## Tests\n";
        for (known, upstream, ours) in TESTS {
            let blank = format!("| {known} | `{upstream}` | `{ours}` | not yet | - |");
            page += &format!("{}\n", if own(known) { row } else { &blank });
        }
        page += "49 rows: 0 works, 0 partly, 49 not yet.\n";
        let own_page = super::page();
        let (_, others) = own_page.split_once(other_tests::HEADING).expect("the heading is there");
        page += &format!("{}{others}", other_tests::HEADING);
        faults(&page, &Sources::read())
    }

    #[track_caller]
    fn assert_fault(id: u16, row: &str, expected: &str) {
        let faults = faults_with(id, row);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "found {faults:?}");
    }

    #[test]
    fn nothing_is_wrong_with_a_page_that_claims_nothing() {
        assert_eq!(faults_with(0, ""), Vec::<String>::new());
    }

    #[test]
    fn rows() {
        assert_fault(1694, "gone", "row 1694 (encodeDeleteRange) is missing");
        assert_fault(730, "gone", "row 730 (TestJetStreamAtomicBatchPublishEncode) is missing");
        let other = "| 1695 | `decodeDeleteRange` | - | - | not yet | - |";
        assert_fault(1694, other, "row 1695 (decodeDeleteRange) is there 2 times");
        let renamed = "| 1694 | `encodeRange` | - | - | not yet | - |";
        assert_fault(1694, renamed, "row 1694: expected encodeDeleteRange");
        let strange = "| 1 | `encodeDeleteRange` | - | - | not yet | - |";
        assert_fault(1694, strange, "row 1 is none of ours");
        let short = "| 1694 | `encodeDeleteRange` | - | not yet | - |";
        assert_fault(1694, short, "row 1694: expected 6 cells");
    }

    #[test]
    fn statuses() {
        let vague = "| 1694 | `encodeDeleteRange` | - | - | soon | - |";
        assert_fault(1694, vague, "row 1694: status \"soon\"");
        assert_fault(1694, vague, "a line is missing: 57 rows: 0 works, 0 partly, 56 not yet.");
        let bare = "| 1694 | `encodeDeleteRange` | - | - | works | - |";
        assert_fault(1694, bare, "row 1694: works, but names no item");
        assert_fault(1694, bare, "row 1694: works, but names no test");
        let silent = "| 1694 | `encodeDeleteRange` | - | - | partly | - |";
        assert_fault(1694, silent, "row 1694: partly, but does not say what is left");
        let open = "| 1694 | `encodeDeleteRange` | - | - | works | bounds |";
        assert_fault(1694, open, "row 1694: works, but something is left to do: bounds");
    }

    #[test]
    fn items_and_tests() {
        let row =
            |item, test| format!("| 1694 | `encodeDeleteRange` | {item} | {test} | partly | all |");
        let named = row("`ids::PeerId::from_nobody`", "`no_such_test`");
        assert_fault(1694, &named, "row 1694: item ids::PeerId::from_nobody is not in the source");
        assert_fault(1694, &named, "row 1694: test no_such_test is not in the source");
        let helper = row("`ids::PeerId::from_name`, `ids::Nobody`", "`faults_with`");
        assert_fault(1694, &helper, "row 1694: item ids::Nobody is not in the source");
        assert_fault(1694, &helper, "row 1694: test faults_with is not in the source");
        let true_names = row(
            "`ids::PeerId::from_name`, `event::Event::Opened`, `node::Node`",
            "`items_and_tests`",
        );
        let faults = faults_with(1694, &true_names);
        assert!(faults.iter().all(|fault| fault.contains("a line is missing")), "{faults:?}");
    }

    #[test]
    fn named_tests() {
        let upstream = "TestJetStreamAtomicBatchPublishEncode";
        let renamed = format!("| 730 | `{upstream}` | `encodes_a_batch` | not yet | - |");
        assert_fault(730, &renamed, "row 730: expected test jetstream_atomic_batch_publish_encode");
        let absent = format!("| 730 | `{upstream}` | `no_such_test` | partly | all |");
        assert_fault(730, &absent, "row 730: partly, but test no_such_test is not in tests/");
    }
}
