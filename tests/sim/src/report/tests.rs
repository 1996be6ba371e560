use super::*;
use crate::story::Detail;
use jetwake::ids::Term;
use serde_json::Value;

fn at(micros: u64, machine: Option<usize>, kind: Kind) -> Happening {
    let at = Time::from_nanos(micros * 1_000);
    Happening { at, machine: machine.map(Machine), group: Some(GroupId(0)), kind }
}

fn said(words: &str) -> Said {
    Said { kind: MessageKind::Append, term: Some(Term::new(3)), words: words.into() }
}

fn sent(to: usize, words: &str, arrivals: &[u64]) -> Kind {
    let arrivals = arrivals.iter().map(|micros| Time::from_nanos(micros * 1_000)).collect();
    Kind::Sent { to: Machine(to), said: said(words), arrivals }
}

fn role(role: Role, term: u64) -> Kind {
    Kind::Role { role, term: Term::new(term), leader: None }
}

fn data(happenings: Vec<Happening>) -> Value {
    let mut record = Record::new(3, Detail::Messages, 1_000);
    happenings.into_iter().for_each(|happening| record.add(happening));
    let html = Report { title: "a <run>", command: "again", record: &record }.to_html();
    assert!(html.contains("<title>a &lt;run&gt;</title>"));
    assert!(!html.contains("http") && !html.contains("{{"), "a page needs nothing else");
    let start = html.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = start + html[start..].find("</script>").unwrap();
    serde_json::from_str(&html[start..end]).unwrap()
}

#[test]
fn what_a_machine_is_becomes_spans_that_end_where_the_next_begins() {
    let data = data(vec![
        at(0, Some(0), Kind::Started),
        at(0, Some(0), role(Role::Follower, 0)),
        at(10, Some(0), role(Role::Candidate, 1)),
        at(20, Some(0), role(Role::Leader, 1)),
        at(50, Some(0), Kind::Crashed { lost_writes: 0, lost_stores: 0 }),
        at(80, Some(0), Kind::Started),
        at(90, Some(0), role(Role::Follower, 1)),
        at(100, None, Kind::Mended),
    ]);
    let spans: Vec<_> = data["spans"].as_array().unwrap().iter().collect();
    let told: Vec<_> = spans
        .iter()
        .map(|span| (span["what"].as_str().unwrap(), span["from"].as_u64(), span["to"].as_u64()))
        .collect();
    let span = |what, from, to| (what, Some(from), Some(to));
    assert_eq!(
        told,
        [
            span("follower", 0, 10),
            span("candidate", 10, 20),
            span("leader", 20, 50),
            span("down", 50, 80),
            span("follower", 90, 100),
        ]
    );
    assert_eq!(data["events"].as_array().unwrap().len(), 8);
}

#[test]
fn what_happened_before_the_first_that_is_kept_still_holds() {
    let mut record = Record::new(2, Detail::Messages, 2);
    record.add(at(0, Some(0), Kind::Started));
    record.add(at(1, Some(0), role(Role::Leader, 1)));
    record.add(at(2, Some(1), Kind::Crashed { lost_writes: 0, lost_stores: 0 }));
    record.add(at(3, Some(0), Kind::Crashed { lost_writes: 0, lost_stores: 0 }));
    record.add(at(4, Some(0), Kind::Started));
    record.add(at(5, Some(0), role(Role::Follower, 2)));
    record.add(at(8, Some(0), Kind::ClockJumped { by: std::time::Duration::ZERO }));
    record.add(at(9, Some(0), Kind::ClockJumped { by: std::time::Duration::ZERO }));
    let data = Sorter::new(&Report { title: "", command: "", record: &record }).sort();
    let spans: Vec<_> = data.spans.iter().map(|s| (s.machine, s.what, s.from, s.to)).collect();
    assert_eq!(spans, [(0, "follower", 8, 9), (1, "down", 8, 9)]);
}

#[test]
fn each_copy_of_a_message_is_an_arrow_with_its_fate() {
    let data = data(vec![
        at(5, Some(0), sent(1, "x</script>", &[9, 30])),
        at(5, Some(0), sent(2, "x</script>", &[])),
        at(30, Some(1), Kind::Missed { from: Machine(0), said: said("x"), why: "being down" }),
    ]);
    assert_eq!(
        data["messages"],
        serde_json::json!([
            [5, 0, 9, 1, "append", 3, 0, "arrived"],
            [5, 0, 30, 1, "append", 3, 0, "missed"],
            [5, 0, null, 2, "append", 3, 0, "lost"],
        ])
    );
    assert_eq!(data["texts"], serde_json::json!(["x</script>"]), "each text once");
}

#[test]
fn a_broken_rule_is_marked() {
    let what = "n1 and n2 lead term 3".into();
    let data = data(vec![at(7, None, Kind::Violated { rule: "one leader a term", what })]);
    assert_eq!(data["events"], serde_json::json!([[7, null, "violation", 0]]));
}
