//! Every story in `tests/stories` goes as it is written there.
//!
//! A change of behaviour shows as a difference of stories: `UPDATE_STORIES=1 cargo test --test
//! stories` writes them anew, and the difference is reviewed as code is.

use std::fs;
use std::path::{Path, PathBuf};

use jetwake_sim::script::retell;

/// How many lines are shown before and after the first difference of a story.
const AROUND: usize = 4;

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let entries = fs::read_dir(&folder).expect("the stories lie beside their test");
    let mut stories: Vec<_> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    stories.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    stories.sort();
    stories
}

/// The path as a reader types it.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("tests/stories/{name}")
}

/// The first lines that differ, as a reader of differences knows them.
fn difference(name: &str, written: &str, told: &str) -> String {
    let (written, told): (Vec<_>, Vec<_>) = (written.lines().collect(), told.lines().collect());
    let same = written.iter().zip(&told).take_while(|(one, other)| one == other).count();
    let mut rest = written[same..].iter().rev().zip(told[same..].iter().rev());
    let same_at_end = rest.by_ref().take_while(|(one, other)| one == other).count();
    let mut lines = vec![format!("{name}:{}: it goes otherwise than it is written", same + 1)];
    let part = |lines: &[&str], mark: &str, from: usize, to: usize| {
        let shown = &lines[from..to.min(from + 4 * AROUND)];
        let mut shown: Vec<_> = shown.iter().map(|line| format!("  {mark} {line}")).collect();
        let left_out = (to - from).saturating_sub(4 * AROUND);
        shown.extend((left_out > 0).then(|| format!("  {mark} ... and {left_out} lines more")));
        shown
    };
    lines.extend(part(&written, " ", same.saturating_sub(AROUND), same));
    lines.extend(part(&written, "-", same, written.len() - same_at_end));
    lines.extend(part(&told, "+", same, told.len() - same_at_end));
    let end = written.len() - same_at_end;
    lines.extend(part(&written, " ", end, (end + AROUND).min(written.len())));
    lines.join("\n")
}

#[test]
fn every_story_goes_as_it_is_written() {
    let update = std::env::var_os("UPDATE_STORIES").is_some();
    let mut wrong = Vec::new();
    for path in stories() {
        let written = fs::read_to_string(&path).expect("a story is text");
        let name = name(&path);
        match retell(&name, &written) {
            Err(error) => wrong.push(error.to_string()),
            Ok(told) if told == written => {}
            Ok(told) if update => fs::write(&path, told).expect("a story can be written"),
            Ok(told) => wrong.push(difference(&name, &written, &told)),
        }
    }
    let count = wrong.len();
    let hint =
        "if that is meant: UPDATE_STORIES=1 cargo test --test stories, and read the difference";
    assert!(wrong.is_empty(), "\n{}\n{count} stories; {hint}\n", wrong.join("\n\n"));
}

#[test]
fn every_story_has_a_title_and_says_what_to_look_at() {
    for path in stories() {
        let written = fs::read_to_string(&path).expect("a story is text");
        let mut lines = written.lines();
        let title = lines.next().unwrap_or_default();
        assert!(title.starts_with("# ") && title.len() > 10, "{}: {title:?}", name(&path));
        let prose =
            lines.take_while(|line| !line.starts_with("> ")).filter(|line| !line.is_empty());
        assert!(prose.count() >= 2, "{}: no prose before the first command", name(&path));
        assert!(written.lines().all(|line| line.len() <= 140), "{}: a long line", name(&path));
    }
}

#[test]
fn a_difference_names_the_line_and_shows_both_sides() {
    let shown = difference("x", "a\nb\nc\nd\ne\n", "a\nb\nC\nd\ne\n");
    assert_eq!(
        shown,
        "x:3: it goes otherwise than it is written\n    a\n    b\n  - c\n  + C\n    d\n    e"
    );
    let longer = difference("x", "a\n", "a\nb\n");
    assert_eq!(longer, "x:2: it goes otherwise than it is written\n    a\n  + b");
}
