//! Replays the committed inputs of the fuzz targets through the checks that the fuzzer uses, so that
//! what it once found stays found, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../fuzz/src/checks/mod.rs"]
pub mod checks;

#[test]
fn every_committed_input_passes_its_check() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (target, check) in checks::CHECKS {
        let inputs = names(&fuzz.join("corpus").join(target));
        assert!(!inputs.is_empty(), "fuzz/corpus/{target} is empty");
        for input in inputs {
            let path = fuzz.join("corpus").join(target).join(&input);
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            println!("fuzz/corpus/{target}/{input}");
            check(&bytes);
        }
    }
}

#[test]
fn every_check_has_a_target_of_its_name() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let targets = names(&fuzz.join("fuzz_targets"));
    let corpora = names(&fuzz.join("corpus"));
    for (target, _) in checks::CHECKS {
        assert!(targets.contains(&format!("{target}.rs")), "fuzz/fuzz_targets/{target}.rs");
    }
    for target in &targets {
        let corpus = target.trim_end_matches(".rs");
        assert!(corpora.contains(corpus), "fuzz/corpus/{corpus} is missing");
    }
    for corpus in corpora {
        assert!(targets.contains(&format!("{corpus}.rs")), "fuzz/corpus/{corpus} has no target");
    }
}

/// The names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.expect("an entry of a readable folder").file_name())
        .map(|name| name.into_string().expect("names here are plain"))
        .collect()
}
