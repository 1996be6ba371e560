//! Who of a stream's members answers when all are asked.

use bytes::Bytes;
use jetwake::cluster::info_request::info_subject;
use jetwake::command::{Answer, Command, Destination};
use jetwake::config::{Config, GroupConfig, GroupKind};
use jetwake::event::{Event, Opened, Request};
use jetwake::ids::{GroupId, GroupName, PeerId, RequestId, Term};
use jetwake::limits::{Limits, Timers};
use jetwake::node::Node;
use jetwake::subject::{self, Subject};
use jetwake::time::{Duration, Time};
use jetwake::wire::{AppendEntryBuilder, StreamConfig, StreamInfo};

const GROUP: GroupId = GroupId(0);

/// A node of one empty stream whose disk does at once what it is asked.
struct Member {
    node: Node,
    now: Time,
    /// Answers to the inbox, with the moment that each was sent.
    answers: Vec<(Duration, StreamInfo)>,
    /// What clients are told.
    told: Vec<Answer>,
    begun: Time,
}

impl Member {
    fn new(members: &[&str]) -> Self {
        let group = GroupConfig {
            name: name(),
            members: members.iter().map(|name| (*name).into()).collect(),
            kind: GroupKind::Stream(StreamConfig::new("S", ["s.>".into()])),
        };
        let config = Config {
            name: members[0].into(),
            domain: "hub".into(),
            seed: 1,
            limits: Limits { info_requests: 2, ..Limits::default() },
            timers: Timers::default(),
            groups: vec![group],
        };
        let begun = Time::from_nanos(1_767_225_600_000_000_000);
        let node = Node::new(config).expect("it can work");
        let mut member = Self { node, now: begun, answers: Vec::new(), told: Vec::new(), begun };
        member.handle(Event::Opened { group: GROUP, disk: Opened::default() });
        member
    }

    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.node.handle(self.now, event);
            while let Some(command) = self.node.poll() {
                match command {
                    Command::Write { id, .. } => events.insert(0, Event::Written { through: id }),
                    Command::Store { id, .. } => events.insert(0, Event::Stored { through: id }),
                    Command::Read { id, .. } => {
                        let read = Event::Read { load: id, messages: Vec::new(), next: None };
                        events.insert(0, read);
                    }
                    Command::Send { to: Destination::Subscribers, subject, payload, .. }
                        if subject == inbox() =>
                    {
                        let info = StreamInfo::decode(&payload, &Limits::default());
                        let answer = (self.now.since(self.begun), info.expect("an answer"));
                        self.answers.push(answer);
                    }
                    Command::Answer { answer, .. } => self.told.push(answer),
                    _ => {}
                }
            }
        }
    }

    fn receive(&mut self, subject: Subject, reply: Option<Subject>, payload: Bytes) {
        self.handle(Event::Received { from: None, subject, reply, payload });
    }

    fn ask(&mut self) {
        self.receive(info_subject("S"), Some(inbox()), Bytes::new());
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((due, _)) = self.node.deadline()
            && due <= end
        {
            self.now = self.now.max(due);
            self.handle(Event::DeadlineReached);
        }
        self.now = end;
    }

    fn answered_at(&self) -> Vec<u128> {
        self.answers.iter().map(|(when, _)| when.as_millis()).collect()
    }
}

fn name() -> GroupName {
    GroupName::new("S-R3F-info").expect("letters and digits")
}

fn inbox() -> Subject {
    Subject::from_static("_INBOX.info")
}

#[test]
fn who_leads_answers_at_once() {
    let mut alone = Member::new(&["n1"]);
    alone.wait(Duration::from_secs(1));
    alone.ask();
    assert_eq!(alone.answered_at(), [1000]);
    let info = &alone.answers[0].1;
    assert_eq!(info.config.name, "S");
    assert_eq!(info.cluster.as_ref().map(|cluster| cluster.leader.as_str()), Some("n1"));
    // A question without an inbox has no answer.
    alone.receive(info_subject("S"), None, Bytes::new());
    assert_eq!(alone.answers.len(), 1);
}

#[test]
fn the_domain_of_the_server_is_named() {
    let mut alone = Member::new(&["n1"]);
    alone.wait(Duration::from_secs(1));
    let (subject, header, payload) = ("s.a".into(), Bytes::new(), "x".into());
    let request = Request::Publish { subject, header, payload };
    alone.handle(Event::Request { id: RequestId::new(1), group: GROUP, request });
    let told = Bytes::from_static(br#"{"stream":"S","domain":"hub","seq":1}"#);
    assert_eq!(alone.told, [Answer::Json(told)]);
    alone.ask();
    assert_eq!(alone.answers[0].1.domain, "hub");
}

/// Red when `InfoRequests::asked` does not look who leads, or for how long nobody does.
#[test]
fn others_answer_half_a_second_later_and_only_when_nobody_leads_for_long() {
    let mut member = Member::new(&["n1", "n2", "n3"]);
    member.wait(Duration::from_secs(9));
    member.ask();
    member.wait(Duration::from_secs(2));
    assert_eq!(member.answered_at(), [0; 0], "it may be but an election");
    member.ask();
    member.ask();
    // Two may wait.
    member.ask();
    member.wait(Duration::from_millis(499));
    assert_eq!(member.answered_at(), [0; 0]);
    member.wait(Duration::from_millis(1));
    assert_eq!(member.answered_at(), [11_500, 11_500]);
    assert_eq!(member.answers[0].1.cluster.as_ref().map(|one| one.leader.as_str()), Some(""));

    let term = Term::new(1000);
    let leader = PeerId::from_name("n2");
    let zero = jetwake::ids::Index::ZERO;
    let beat = AppendEntryBuilder::new().finish(leader, term, zero, Term::ZERO, zero, Term::ZERO);
    member.receive(subject::append_entry(&name()), Some(Subject::from_static("r")), beat);
    member.wait(Duration::from_secs(1));
    member.ask();
    member.wait(Duration::from_secs(1));
    assert_eq!(member.answers.len(), 2, "who follows leaves it to the leader");
}
