//! `jetwake decode`, on everything that a real server wrote.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file)
}

/// Runs `jetwake decode` with these arguments, and these bytes on its stdin.
fn decode(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_jetwake"))
        .arg("decode")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that is not interested closes its stdin.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("no panic");
    output
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// One answer for each of these questions.
fn answers(questions: &[Value]) -> Vec<Value> {
    let input: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let output = decode(&[], &input);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(answers.len(), questions.len());
    answers
}

fn vectors(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(&format!("{file}.jsonl"))).expect(file);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Fields of a vector that say how it was made, not what its bytes say.
fn is_about_the_making(vector: &Value, field: &str) -> bool {
    match vector["kind"].as_str() {
        // It names those of the other file.
        Some("raft_file") => vector["name"] == "peers.idx",
        // Not every message of a sequence set's vectors has the same fields.
        _ => field == "name",
    }
}

#[test]
fn every_vector_decodes_to_its_fields_and_back() {
    let files = [
        "append_entry",
        "append_entry_response",
        "assignments",
        "cluster_info",
        "consumer_ops",
        "delete_range",
        "json",
        "live",
        "msg_delete_and_purge",
        "peer_state",
        "raft_snapshot",
        "s2",
        "sequence_set",
        "stream_msg",
        "stream_state",
        "sync_request",
        "vote_request",
        "vote_response",
    ];
    for file in files {
        // These are documents by hand, with fewer fields than a server writes.
        let vectors = vectors(file).into_iter().filter(|it| it["kind"] != "unsupported_consumer");
        let vectors: Vec<Value> = vectors.collect();
        for (vector, answer) in vectors.iter().zip(answers(&vectors)) {
            let case = format!("{file} {}: {answer:.300}", vector["name"]);
            assert_eq!(answer["ok"], true, "{case}");
            assert_eq!(answer["kind"], vector["kind"], "{case}");
            for (field, value) in vector["fields"].as_object().into_iter().flatten() {
                if !is_about_the_making(vector, field) {
                    assert_eq!(&answer["fields"][field], value, "{field} of {case}");
                }
            }
            if is_written_anew(vector) {
                reads_the_same(vector, &answer);
            } else {
                assert_eq!(answer["reencoded"], vector["hex"], "{case}");
            }
        }
    }
}

/// No vector has one, as only servers of this kind send it.
#[test]
fn the_state_that_ends_a_catchup_tells_its_record() {
    let hex = "ff07000000000000002a010264030501012104".to_owned() + "01";
    for kind in ["catchup_state", "catchup_message"] {
        let answer = answers(&[json!({ "kind": kind, "hex": hex })]).remove(0);
        let told = ["applied", "msgs", "first_seq", "last_seq", "failed"];
        assert_eq!(
            told.map(|field| &answer["fields"][field]),
            ["7", "2", "3", "5", "1"],
            "{answer}"
        );
        assert_eq!(answer["fields"]["deleted"], json!([4]), "{answer}");
        assert_eq!(answer["reencoded"], hex, "{answer}");
    }
    let cut = answers(&[json!({ "kind": "catchup_state", "hex": &hex[..12] })]).remove(0);
    let why = "catchup_state: applied at byte 1: expected 8 bytes, found 5";
    assert_eq!((&cut["ok"], &cut["error"]), (&json!(false), &json!(why)), "{cut}");
}

/// Whether a message's bytes may be others when it is written again: compressors differ, upstream
/// writes a consumer's messages in any order, and a mirror's duplicate window is a mistake.
fn is_written_anew(vector: &Value) -> bool {
    let hex = vector["hex"].as_str().unwrap_or_default();
    match vector["kind"].as_str().expect("a kind") {
        "s2_block" | "s2_block_better" | "s2_block_best" | "consumer_state" => true,
        "stream_msg" => hex.starts_with("0e") || vector["name"] == "batch_large_compressed",
        "assign_consumer" => hex.starts_with("09"),
        "assign_stream" => vector["made_by"] != Value::Null,
        _ => false,
    }
}

/// That what was written again says the same.
fn reads_the_same(vector: &Value, answer: &Value) {
    let again = json!({ "kind": vector["kind"], "hex": answer["reencoded"] });
    let mut again = answers(&[again]).remove(0);
    let mut first = answer.clone();
    if vector["kind"] == "assign_stream" {
        first["fields"]["json"].take();
        again["fields"]["json"].take();
    }
    assert_eq!(again["fields"], first["fields"], "{}", vector["name"]);
}

#[test]
fn every_bad_vector_is_refused_with_a_reason() {
    for file in ["append_entry_bad", "stream_msg_bad", "stream_state_bad"] {
        let vectors = vectors(file);
        for (vector, answer) in vectors.iter().zip(answers(&vectors)) {
            assert_eq!(answer["ok"], false, "{file} {}", vector["name"]);
            let error = answer["error"].as_str().expect("a reason");
            assert!(error.contains(" at byte "), "{error}");
            assert_eq!(answer["fields"], Value::Null);
        }
    }
}

#[test]
fn subjects_are_taken_apart() {
    let forms = vectors("subjects").into_iter().find(|vector| vector["kind"] == "sync_subject");
    let forms = forms.expect("the forms")["fields"].clone();
    let hex = |text: &Value| {
        text.as_str().expect("a subject").bytes().map(|byte| format!("{byte:02x}")).collect()
    };
    let question = |text: &Value| -> Value {
        let hex: String = hex(text);
        json!({ "kind": "subject", "hex": hex })
    };
    let roles = [
        ("stream", "sync"),
        ("reply", "sync_reply"),
        ("info_reply", "sync_reply"),
        ("ack", "sync_ack"),
    ];
    for (form, role) in roles {
        let answer = answers(&[question(&forms[form])]).remove(0);
        assert_eq!(answer["fields"]["role"], role, "{form}");
        let token = answer["fields"]["token"].as_str().expect("a token");
        assert!(forms[form].as_str().expect("a subject").contains(token), "{form}");
    }
}

#[test]
fn what_is_not_a_question_is_answered_too() {
    let input = "nonsense\n\n{\"kind\":\"vote_request\",\"hex\":\"0\"}\n\
                 {\"kind\":\"vote_request\",\"hex\":\"0g\"}\n{\"kind\":\"none\",\"hex\":\"\"}\n\
                 {\"kind\":\"raft_snapshot\",\"hex\":\"\"}";
    let output = decode(&[], input);
    assert!(output.status.success());
    let errors = [
        "not a line with kind and hex",
        "a digit is missing",
        "no digits at 0",
        "none: no such kind",
        "expected its group",
    ];
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), errors.len());
    for (line, error) in lines.iter().zip(errors) {
        let answer: Value = serde_json::from_str(line).expect(line);
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().expect("an error").contains(error), "{line}");
    }
}

#[test]
fn kinds_are_listed_and_each_is_known() {
    let output = decode(&["--kinds"], "");
    assert!(output.status.success());
    let mut questions = Vec::new();
    for line in stdout(&output).lines() {
        let (kind, about) = line.split_once(' ').expect("a name and what it is");
        assert!(!about.trim().is_empty(), "{line}");
        questions.push(json!({ "kind": kind, "hex": "ffff" }));
    }
    assert!(questions.len() > 30, "{} kinds", questions.len());
    for answer in answers(&questions) {
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(!error.contains("no such kind"), "{answer}");
    }
    for kind in ["append_entry", "stream_msg_body", "batch_msg_body", "s2_block", "assign_stream"] {
        assert!(questions.iter().any(|question| question["kind"] == kind), "{kind}");
    }
}

#[test]
fn one_message_is_explained_by_its_subject() {
    let vector = &vectors("vote_request")[0];
    let hex = vector["hex"].as_str().expect("hex");
    let output = decode(&["--subject", "$NRG.V.S-R3F-x", "--hex", hex], "");
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text.starts_with("vote_request\n"), "{text}");
    assert!(text.contains("  candidate   S1abcdef\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours into a pipe: {text}");
    let output = decode(&["--kind", "vote_request", "--hex", hex, "--json"], "");
    let answer: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    assert_eq!(answer["fields"], vector["fields"]);
    assert_eq!(answer["reencoded"], vector["hex"]);
}

#[test]
fn a_message_that_is_none_fails() {
    let output = decode(&["--subject", "$NRG.V.S-R3F-x", "--hex", "00"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("vote_request: term at byte 0"), "{}", stderr(&output));
    let output = decode(&["--subject", "orders.new", "--hex", "00"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("orders.new: not a subject"), "{}", stderr(&output));
}

#[test]
fn a_wrong_command_line_exits_2() {
    for arguments in [
        &["--hex", "00"][..],
        &["--subject", "x"],
        &["--kind", "nothing", "--hex", "00"],
        &["--kind", "vote_request"],
        &["--trace", "x", "--hex", "00"],
    ] {
        assert_eq!(decode(arguments, "").status.code(), Some(2), "{arguments:?}");
    }
}

fn trace(more: &[&str]) -> Output {
    let path = golden("trace.jsonl");
    let mut arguments = vec!["--trace", path.to_str().expect("UTF-8")];
    arguments.extend(more);
    let output = decode(&arguments, "");
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

#[test]
fn the_whole_trace_decodes_and_is_written_as_it_came() {
    let recorded = vectors("trace");
    let output = trace(&["--json"]);
    let told: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(told.len(), recorded.len());
    let mut between_peers = 0;
    for (told, recorded) in told.iter().zip(&recorded) {
        let subject = recorded["subject"].as_str().expect("a subject");
        // The server tells others what an account uses: no format of a group or stream.
        if subject.starts_with("$JSC.ARU.") {
            assert_eq!(told["kind"], "unknown");
            continue;
        }
        assert_eq!(told["ok"], true, "{subject}: {told}");
        assert_eq!(told["reencoded"], recorded["hex"], "{subject}");
        between_peers += 1;
    }
    assert_eq!(between_peers, 1174);
}

#[test]
fn the_trace_is_told_as_a_story() {
    let output = trace(&[]);
    let text = stdout(&output);
    assert!(!text.contains('\u{1b}'), "no colours into a pipe");
    // The columns are where they were in the first line.
    let lines: Vec<&str> = text.lines().collect();
    let column = lines[0].find("what").expect("a head");
    for line in [
        "z3WIzPtj -> all       ",
        "esFhDys3 -> z3WIzPtj",
        "asks for votes; its log ends in term 0",
        "votes for it",
        "heartbeat, committed to",
        "assignment of stream T to S-R3F-BxW1M5cy",
        "lacks entries, and asks for them",
        "asks for messages 51 to 100, once 111 is applied",
        "6 deleted messages from 60",
        "the catchup ends",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let asks = lines.iter().find(|line| line.contains("asks for messages 51")).expect("told");
    assert_eq!(asks.find("asks for"), Some(column), "{asks}");
    assert!(asks.contains("S-R3F-BxW1M5cy      Z2sYEJH3 -> z3WIzPtj"), "{asks}");
}

#[test]
fn a_story_is_filtered_by_group_and_kind() {
    let output =
        trace(&["--group", "S-R3F-BxW1M5cy", "--kind", "vote_request", "--kind", "vote_response"]);
    let text = stdout(&output);
    assert!(text.contains("asks for votes"), "{text}");
    assert!(text.contains("votes for it"), "{text}");
    assert!(!text.contains("_meta_") && !text.contains("heartbeat"), "{text}");
    let output = trace(&["--group", "none", "--json"]);
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_file_that_is_no_trace_is_named_with_its_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("broken.jsonl");
    std::fs::write(&path, "{\"us\":1,\"subject\":\"a\",\"hex\":\"00\"}\nbroken\n")
        .expect("written");
    let output = decode(&["--trace", path.to_str().expect("UTF-8")], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("broken.jsonl:2: not a recorded message"),
        "{}",
        stderr(&output)
    );
    std::fs::write(&path, "broken\n").expect("written");
    let output = decode(&["--trace", path.to_str().expect("UTF-8")], "");
    assert!(output.stdout.is_empty(), "the error stands alone: {output:?}");
    let output = decode(&["--trace", "/nowhere/at/all"], "");
    assert!(stderr(&output).contains("/nowhere/at/all"), "{}", stderr(&output));
}
