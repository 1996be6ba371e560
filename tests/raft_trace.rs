//! What a live cluster of nats-servers said to each other, fed to a node of ours in the place of one of
//! them: at every step it agrees on leader, term, commit and log, and it answers what that server
//! answered.
//!
//! The recording (`tests/golden/trace.jsonl`) is of three servers: `S-1` leads the meta group, `S-2` the
//! group of a stream; `S-3` is stopped in the middle and comes back to a leader whose log no longer has
//! what it lacks. The expectations are read from the bytes by the simulator's readers, which know
//! nothing of the core's.

use jetwake::command::LogChange;
use jetwake::config::GroupKind;
use jetwake::event::TermAndVote;
use jetwake::ids::{GroupName, Index, PeerId, Term};
use jetwake::subject::Subject;
use jetwake::time::{Duration, Time};
use jetwake::wire::AppendEntry;
use jetwake_sim::lone::{self, Append, Applied, Lone, LoneDisk};
use jetwake_sim::records;

mod golden;

const STREAM: &str = "S-R3F-BxW1M5cy";
const META: &str = "_meta_";

/// A server's part in the recorded exchange, played by a node of ours.
struct Part {
    node: Lone,
    me: PeerId,
    began: Time,
    /// The subject of the group's append entries, and that of its leader's inbox.
    entries: String,
    replies: String,
    /// What it answered to append entries.
    said: Vec<records::AppendResponse>,
}

impl Part {
    fn new(name: &str, group: &str, replies: &str, disk: LoneDisk) -> Self {
        let others = ["S-1", "S-2", "S-3"].into_iter().filter(|other| *other != name);
        let members: Vec<_> = std::iter::once(name).chain(others).collect();
        let mut config = lone::config(&members, GroupKind::Plain);
        config.groups[0].name = GroupName::new(group).unwrap();
        // The recorded servers ran with shorter intervals than the usual ones.
        config.timers.heartbeat = Duration::from_millis(50);
        config.timers.election_min = Duration::from_millis(1500);
        config.timers.election_max = Duration::from_millis(3500);
        let node = Lone::start(config, disk);
        let (me, began) = (node.me(), node.now());
        let entries = format!("$NRG.AE.{group}");
        Self { node, me, began, entries, replies: replies.into(), said: Vec::new() }
    }

    /// Lets the time of the recording come.
    fn at(&mut self, us: u64) {
        let elapsed = self.node.now().since(self.began);
        self.node.wait(Duration::from_micros(us).saturating_sub(elapsed));
    }

    /// An append entry of the recording; the node must agree with it afterwards.
    fn hears(&mut self, recorded: &golden::Recorded) {
        let said = records::append_entry(&recorded.payload).expect("an append entry");
        let (subject, reply) = (&recorded.subject, &recorded.reply);
        let subject = Subject::from(subject.clone());
        let reply = Some(Subject::from(reply.clone()));
        self.node.receive(said.leader, subject, reply, recorded.payload.clone());
        for response in self.node.responses() {
            let bytes = response.to_bytes();
            self.said.push(records::append_response(&bytes).expect("an answer"));
        }
        if self.node.inbox().is_some() {
            return;
        }
        let status = self.node.status();
        assert_eq!((status.leader, status.term), (said.leader, said.term));
        let last = said.previous_index.plus(u64::from(!said.entries.is_empty()));
        assert_eq!((status.last.index, status.commit), (last, said.commit), "{said:?}");
        if !said.entries.is_empty() {
            let record = self.node.disk.durable_log().record(last);
            assert_eq!(record, Some(&recorded.payload), "record {last} is as it came");
        }
    }

    /// What the server whose part this is answered to append entries.
    fn recorded_answers(&self, trace: &[golden::Recorded]) -> Vec<records::AppendResponse> {
        let answers = trace.iter().filter(|recorded| recorded.subject == self.replies);
        answers
            .filter_map(|recorded| records::append_response(&recorded.payload))
            .filter(|response| response.peer == Some(self.me))
            .collect()
    }
}

fn vote_requests(trace: &[golden::Recorded]) -> Vec<usize> {
    let subject = format!("$NRG.V.{STREAM}");
    (0..trace.len()).filter(|place| trace[*place].subject == subject).collect()
}

#[test]
fn a_follower_in_the_place_of_upstreams_agrees_at_every_step() {
    let trace = golden::trace();
    let replies = "$NRG.R.e2MNBgkc";
    let mut part = Part::new("S-1", STREAM, replies, LoneDisk::default());
    let votes = vote_requests(&trace);
    // The last of them asks for votes in the next term, after a silence of the leader.
    let end = votes.last().expect("votes were asked for") + 1;
    for (place, recorded) in trace[..end].iter().enumerate() {
        part.at(recorded.us);
        if recorded.subject == part.entries {
            part.hears(recorded);
        } else if votes.contains(&place) {
            let request = records::vote_request(&recorded.payload).unwrap();
            let subject = Subject::from(recorded.subject.clone());
            let reply = Subject::from(recorded.reply.clone());
            part.node.receive(request.candidate, subject, Some(reply), recorded.payload.clone());
            let answers = part.node.votes();
            assert_eq!(answers.len(), 1);
            assert!(answers[0].granted && answers[0].term == request.term, "{answers:?}");
            assert_eq!(part.node.status().term, request.term);
        }
    }
    assert_eq!(part.node.status().term, Term::new(2));
    assert_eq!(part.node.status().last.index, Index::new(111));
    // The recording has answers until a moment before its last heartbeats.
    let recorded = part.recorded_answers(&trace);
    assert_eq!(part.said[..recorded.len()], recorded);
    assert!(recorded.len() > 200);
}

#[test]
fn a_follower_of_the_meta_group_agrees_although_it_begins_in_the_middle() {
    let trace = golden::trace();
    // Three records came before the recording: what they said is not known, and not needed.
    let mut disk = LoneDisk::default();
    for index in 0..3 {
        let stand_in = Append::by("S-1", 1).after(u64::from(index > 0), index).entry("before");
        disk.add_record(stand_in.to_bytes());
    }
    let heard = TermAndVote { term: Term::new(1), vote: None };
    disk.change(&LogChange::TermAndVote(heard));
    let mut part = Part::new("S-2", META, "$NRG.R.eqklRjew", disk);
    for recorded in &trace {
        part.at(recorded.us);
        if recorded.subject == part.entries {
            part.hears(recorded);
        }
    }
    assert_eq!(part.node.status().last.index, Index::new(4));
    // Ours says at once that it has what came before, and acknowledges the first record when it is
    // written.
    assert_eq!(part.said.remove(0).index, Index::new(3));
    // `S-2` answers nothing more from the middle on.
    let recorded = part.recorded_answers(&trace);
    assert_eq!(part.said[..recorded.len()], recorded);
    assert!(recorded.len() > 20);
}

#[test]
fn a_follower_that_was_down_asks_and_takes_what_upstreams_did() {
    let trace = golden::trace();
    let mut part = Part::new("S-3", STREAM, "$NRG.R.e2MNBgkc", LoneDisk::default());
    let asks = |recorded: &golden::Recorded| recorded.reply.starts_with("$NRG.CR.");
    let asked = trace.iter().position(asks).expect("S-3 asked for what it lacked");
    let recorded_request = records::append_response(&trace[asked].payload).unwrap();
    let known = recorded_request.index;

    // Up to the record that it had when it was stopped; then down until the last before it asked.
    let entries: Vec<_> =
        trace[..asked].iter().filter(|recorded| recorded.subject == part.entries).collect();
    let has = |recorded: &&&golden::Recorded| {
        let said = records::append_entry(&recorded.payload).unwrap();
        said.previous_index < known && !said.entries.is_empty()
    };
    for recorded in entries.iter().filter(has) {
        part.at(recorded.us);
        part.hears(recorded);
    }
    assert_eq!(part.node.status().last.index, known);
    part.node.restart();
    assert_eq!(part.node.status().last.index, known);
    let heartbeat = entries.last().unwrap();
    part.at(heartbeat.us);
    part.said.clear();
    part.hears(heartbeat);
    assert_eq!(part.said, [recorded_request], "it asks for the same");

    let inbox = part.node.inbox().expect("it asked");
    let answer = &trace[asked + 1];
    assert_eq!(answer.subject, trace[asked].reply, "the leader answered at once");
    let snapshot = AppendEntry::decode(&answer.payload).unwrap();
    let reply = Some(Subject::from(answer.reply.clone()));
    part.node.receive(snapshot.leader, inbox, reply, answer.payload.clone());
    let status = part.node.status();
    assert_eq!(status.last.index, snapshot.previous_index);
    assert_eq!(status.last.term, snapshot.previous_term);
    assert_eq!((status.commit, status.leader), (snapshot.commit, snapshot.leader));
    let data = snapshot.entries.iter().next().unwrap().data;
    let index = snapshot.previous_index;
    assert_eq!(part.node.applied().last(), Some(&Applied::Snapshot { index, data }));

    // The next heartbeat would be the same again: it joins now, and is acknowledged.
    part.said.clear();
    part.hears(heartbeat);
    assert_eq!(part.node.inbox(), None);
    assert!(part.said.last().is_some_and(|last| last.success && last.index == index));
}
