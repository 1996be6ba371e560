//! `jetwake sim` as a user meets it: what it prints, how it ends, and what it says of bad arguments.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    command.arg("sim").args(arguments).stdin(Stdio::null());
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn bad_arguments_are_named_with_what_was_expected() {
    let cases: [(&[&str], &str); 7] = [
        (
            &["--faults", "crash,nonsense"],
            "found \"nonsense\", expected all, or some of crash, crash-at-command,",
        ),
        (&["--faults", ""], "found \"\", expected all, or some of crash,"),
        (&["--minutes", "soon"], "found \"soon\", expected minutes, such as 10 or 0.5"),
        (&["--minutes=-1"], "found \"-1\", expected minutes, such as 10 or 0.5"),
        (&["--nodes", "0"], "0 is not in 1..=9"),
        (&["--seeds", "0"], "number would be zero for non-zero type"),
        (&["--groups", "many"], "[possible values: plain, stream, mixed]"),
    ];
    for (arguments, expected) in cases {
        let output = sim(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
#[cfg(not(feature = "canaries"))]
fn planted_defects_need_a_program_that_has_them() {
    let output = sim(&["--canaries"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let expected = "expected one built with them: cargo run --release --features canaries";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn sound_runs_end_with_what_was_covered() {
    let output = sim(&["--seed", "11", "--seeds", "2", "--minutes", "0.1", "--nodes", "3"]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    for expected in ["2 seeds, ", "faults that struck:", "states that were reached:"] {
        assert!(told.contains(expected), "{told}");
    }
    assert!(told.ends_with("no rule was broken\n"), "{told}");
}

#[test]
fn the_same_seeds_give_the_same_result_as_json_on_one_line() {
    let play = || {
        let output = sim(&["--seed", "5", "--seeds", "2", "--minutes", "0.1", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let once = play();
    let value: Value = serde_json::from_str(&once).expect("one JSON object");
    assert_eq!((&value["seeds"], &value["violations"]), (&Value::from(2), &Value::from(0)));
    assert_eq!(value["failing_seeds"], Value::Array(Vec::new()));
    assert!(value["events"].as_u64().is_some_and(|events| events > 100), "{once}");
    assert!(value["simulated_hours"].as_f64().is_some_and(|hours| hours > 0.0), "{once}");
    assert_eq!(once.trim_end().lines().count(), 1, "{once}");
    assert_eq!(once, play());
}

#[test]
fn a_story_is_told_when_it_is_asked_for() {
    let output = sim(&["--seed", "5", "--minutes", "0.1", "--faults", "crash", "--story"]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains(" n1 starts\n") && told.contains(" leads term "), "{told}");
    assert!(told.contains(" the faults are over\n"), "{told}");
}

#[test]
fn a_run_is_drawn_as_a_page() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("run.html");
    let path = file.to_str().expect("a readable path");
    let output = sim(&["--seed", "5", "--minutes", "0.1", "--report", path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(&file).expect("the page");
    assert!(page.contains("jetwake sim, seed 5"));
    let nowhere = sim(&["--seed", "5", "--minutes", "0.1", "--report", "/nowhere/run.html"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("/nowhere/run.html"), "{}", text(&nowhere.stderr));
}

#[test]
fn a_report_that_cannot_be_written_is_named_before_anything_is_played() {
    let output = sim(&["--seeds", "1000000", "--report", "/nowhere/at/all.html"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("--report /nowhere/at/all.html"), "{told}");
}

#[test]
fn a_signal_ends_it_with_what_came_of_the_seeds_so_far() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetwake"));
    command.args(["sim", "--seeds", "1000000", "--minutes", "0.05", "--nodes", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let mut told = BufReader::new(child.stderr.take().expect("piped")).lines();
    // Once it tells how far it is, the signal is caught.
    let stand = told.next().expect("a line").expect("text");
    assert!(stand.contains(" of 1000000 seeds"), "{stand}");
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let mut printed = String::new();
    let mut out = child.stdout.take().expect("piped");
    out.read_to_string(&mut printed).expect("text");
    let status = child.wait().expect("it ends");
    let rest: Vec<_> = told.map_while(Result::ok).collect();
    assert_eq!(status.code(), Some(1), "{rest:?}");
    assert!(printed.contains(" simulated hours") && printed.ends_with("no rule was broken\n"));
    let why = rest.last().expect("a reason");
    assert!(why.contains("stopped by a signal after "), "{why}");
}
