//! Both sides of a stream's catchup, each against a peer that sends whatever it likes: nothing stops
//! them, nothing is taken that was not asked for, what is in flight stays bounded, and when the peer
//! is honest again the catchup comes to its end.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::config::GroupKind;
use jetwake::event::Request;
use jetwake::ids::{ByteCount, Index, PeerId, Sequence, Term};
use jetwake::stream::sync_subject;
use jetwake::subject::{Kind, Subject};
use jetwake::time::Duration;
use jetwake::wire::{
    CatchupState, DeleteRange, Op, StreamConfig, StreamMessageView, StreamState, SyncRequest,
};
use jetwake_sim::lone::{Append, Lone, LoneDisk, Message, Sent, config};

use super::draws::Draws;

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];
/// How many steps of an input are taken; a longer one costs time and shows nothing new.
const STEPS: usize = 150;
/// The last message of the stream, and what the follower's snapshot covers.
const LAST: u64 = 24;
const COVERED: u64 = 4;
/// The begin of a state as members of our own kind end a catchup with it.
const STATE: u8 = 0xff;

fn peer(pick: u8) -> Option<PeerId> {
    match pick % 8 {
        0 => None,
        1 => Some(PeerId::from_name("n3")),
        2 => Some(PeerId::from_name("stranger")),
        _ => Some(PeerId::from_name("n2")),
    }
}

fn message(sequence: u64, payload: &[u8]) -> Bytes {
    let message = StreamMessageView {
        subject: b"s.1",
        payload,
        sequence: Sequence::new(sequence),
        timestamp: 7,
        ..StreamMessageView::default()
    };
    message.to_bytes().expect("a short message")
}

fn stream() -> GroupKind {
    GroupKind::Stream(StreamConfig::new("S", ["s.*".to_string()]))
}

/// Takes one step after the other, each of which draws what it needs.
fn play(input: &[u8], mut take: impl FnMut(u8, &mut Draws<'_>)) {
    let mut draws = Draws::of(input);
    for _ in 0..STEPS {
        let Some(step) = draws.byte() else { break };
        take(step, &mut draws);
    }
}

// ---- the follower

/// A follower that has to catch up with a snapshot, and a peer that serves it: each step is a message
/// or some time.
pub fn catchup_follower(input: &[u8]) {
    let mut follower = Follower::begin();
    play(input, |step, draws| follower.take(step, draws));
    follower.end();
}

struct Follower {
    node: Lone,
    /// Where it listened at last, and whom it had asked.
    inbox: Option<(Subject, PeerId)>,
    asked: Option<SyncRequest>,
    /// Replies that were not acknowledged.
    replies: BTreeMap<Bytes, u64>,
    count: u64,
}

impl Follower {
    fn begin() -> Self {
        let mut settings = config(&MEMBERS, stream());
        settings.limits.stream_catchups_in_flight = ByteCount::new(20_000);
        let node = Lone::start(settings, LoneDisk::default());
        let mut follower =
            Self { node, inbox: None, asked: None, replies: BTreeMap::new(), count: 0 };
        let state = StreamState {
            first: Sequence::new(1),
            last: Sequence::new(LAST),
            messages: LAST,
            ..StreamState::default()
        };
        let leader = Append::by("n2", 1).after(1, COVERED).commit(COVERED);
        follower.node.hear(&leader);
        follower.node.feed(&leader.snapshot(state.to_bytes(), &MEMBERS));
        follower.look();
        follower
    }

    /// Looks at what it sent, and at its store.
    fn look(&mut self) {
        for Sent { to, subject, reply, message } in self.node.sent() {
            match (Kind::borrowed(&subject), message) {
                (Some(Kind::Sync(_)), Message::Other(payload)) => {
                    let limits = self.node.config().limits.clone();
                    let asked = SyncRequest::decode(&payload, &limits).expect("a request");
                    assert!(asked.first <= asked.last && asked.last.get() == LAST, "{asked:?}");
                    let jetwake::command::Destination::Peers(peers) = &to else {
                        panic!("it asks {to:?}")
                    };
                    self.inbox = reply.map(|inbox| (inbox, peers[0]));
                    self.asked = Some(asked);
                }
                // One that says why gives the catchup up.
                (Some(Kind::SyncAck { .. }), Message::Other(why)) if why.is_empty() => {
                    let waits = self.replies.get_mut(subject.as_bytes());
                    let waits = waits.expect("it acknowledges what asked for it");
                    *waits = waits.checked_sub(1).expect("it acknowledges once");
                }
                _ => {}
            }
        }
        let store = self.node.disk.store();
        let last = store.messages().last_key_value().map_or(0, |(last, _)| last.get());
        assert!(last <= LAST, "it has message {last}");
    }

    fn reply(&mut self, draws: &mut Draws<'_>) -> Option<Subject> {
        if draws.byte().unwrap_or(0) > 80 {
            return None;
        }
        self.count += 1;
        let reply = Subject::from(format!("$JSC.ACK.abcdefgh.{}", self.count));
        *self.replies.entry(reply.as_bytes().clone()).or_default() += 1;
        Some(reply)
    }

    fn send(&mut self, from: Option<PeerId>, reply: Option<Subject>, payload: Bytes) {
        let Some((inbox, _)) = self.inbox.clone() else { return };
        self.node.receive(from, inbox, reply, payload);
        self.look();
    }

    fn take(&mut self, step: u8, draws: &mut Draws<'_>) {
        let next = self.asked.as_ref().map_or(1, |asked| asked.first.get());
        let have = self.node.disk.store().messages().last_key_value();
        let next = have.map_or(next, |(last, _)| next.max(last.get() + 1));
        let (server, any) = (self.inbox.as_ref().map(|(_, server)| *server), draws.byte());
        let any = u64::from(any.unwrap_or(0));
        let payload = match step % 16 {
            0..=4 => message(next, draws.rest(any as usize)),
            5 => message(any, b"any"),
            6 => {
                StreamMessageView::skip(Sequence::new(next)).to_bytes().expect("a skipped message")
            }
            7 => DeleteRange { first: Sequence::new(next), count: any % 8 }.to_bytes(),
            8 => Bytes::copy_from_slice(draws.rest(any as usize)),
            9 => Bytes::new(),
            10 => {
                let mut state = vec![STATE];
                state.extend_from_slice(&any.to_le_bytes());
                state.extend_from_slice(draws.rest(64));
                state.into()
            }
            11 => {
                self.node.hear(&self.heartbeat());
                return self.look();
            }
            12 | 13 => {
                self.node.wait(Duration::from_millis(any * any));
                return self.look();
            }
            14 => {
                self.node.restart();
                return self.look();
            }
            _ => {
                let from = peer(draws.byte().unwrap_or(0));
                return self.send(from, None, message(next, b"from anybody"));
            }
        };
        let reply = self.reply(draws);
        self.send(server, reply, payload);
    }

    fn heartbeat(&self) -> Append {
        let status = self.node.status();
        let term = status.term.max(Term::new(1)).get();
        Append::by("n2", term).after(1, COVERED).commit(COVERED)
    }

    /// The peer is honest from now on: the follower gets all, and stops asking.
    fn end(mut self) {
        for _ in 0..400 {
            if self.caught_up() {
                return;
            }
            self.node.hear(&self.heartbeat());
            self.look();
            if let Some(asked) = self.asked.take() {
                self.serve(&asked);
            }
            self.node.wait(Duration::from_millis(500));
            self.look();
        }
        panic!("it does not catch up: {:?}, {:?}", self.node.status(), self.node.reports());
    }

    fn caught_up(&self) -> bool {
        let mark = self.node.disk.store().mark();
        mark.is_some_and(|mark| mark.applied == Index::new(COVERED) && mark.last.get() == LAST)
    }

    fn serve(&mut self, asked: &SyncRequest) {
        let server = self.inbox.as_ref().map(|(_, server)| *server);
        for sequence in asked.first.get()..=asked.last.get() {
            self.send(server, None, message(sequence, b"honest"));
        }
        self.send(server, None, Bytes::new());
    }
}

// ---- the leader

/// A leader with a stream, and peers that ask for catchups of it, acknowledge and abort as they like.
pub fn catchup_leader(input: &[u8]) {
    let mut leader = Leader::begin();
    play(input, |step, draws| leader.take(step, draws));
    leader.end();
}

struct Leader {
    node: Lone,
    /// What may be sent to each inbox, and what came.
    asked: BTreeMap<Bytes, Asked>,
    /// Where acks are awaited.
    replies: Vec<Subject>,
    count: u64,
}

#[derive(Default)]
struct Asked {
    range: (u64, u64),
    messages: Vec<u64>,
    ended: bool,
}

impl Leader {
    fn begin() -> Self {
        let mut settings = config(&MEMBERS, stream());
        settings.limits.load = ByteCount::new(200);
        settings.limits.message = ByteCount::new(2_000);
        settings.limits.stream_catchup_bytes = ByteCount::new(500);
        settings.limits.stream_catchups_in_flight = ByteCount::new(900);
        let mut node = Lone::start(settings, LoneDisk::default());
        node.elect(&["n2"]);
        let mut leader = Self { node, asked: BTreeMap::new(), replies: Vec::new(), count: 0 };
        leader.agree();
        for _ in 0..LAST {
            leader.publish(b"some payload");
        }
        leader.agree();
        for sequence in [5, 9, 10, 11] {
            leader.node.request(Request::Delete { sequence: Sequence::new(sequence) });
        }
        leader.agree();
        assert_eq!(leader.node.disk.store().messages().len() as u64, LAST - 4);
        leader
    }

    fn publish(&mut self, payload: &[u8]) {
        self.node.request(Request::Publish {
            subject: Bytes::from_static(b"s.1"),
            header: Bytes::new(),
            payload: Bytes::copy_from_slice(payload),
        });
    }

    /// The others have all that it has, as long as it leads.
    fn agree(&mut self) {
        for _ in 0..4 {
            let status = self.node.status();
            if status.role != Some(jetwake::command::Role::Leader) {
                break;
            }
            self.node.acknowledge("n2", status.term.get(), status.last.index.get());
        }
        self.look();
    }

    fn look(&mut self) {
        for Sent { subject, reply, message, .. } in self.node.sent() {
            let Some(asked) = self.asked.get_mut(subject.as_bytes()) else { continue };
            let Message::Other(payload) = message else { continue };
            assert!(!asked.ended, "something comes behind the end");
            self.replies.extend(reply);
            if payload.is_empty() || CatchupState::is_one(&payload) {
                let limits = &self.node.config().limits;
                let state = CatchupState::decode(&payload, limits);
                assert!(payload.is_empty() || state.is_ok(), "{state:?}");
                asked.ended = true;
                continue;
            }
            let (first, last) = match Op::of(&payload).expect("it is not empty") {
                Op::DeleteRange => {
                    let limits = self.node.config().limits.clone();
                    let range = DeleteRange::decode(&payload, &limits).expect("a range");
                    (range.first.get(), range.last().expect("not empty").get())
                }
                _ => {
                    let sequence = payload[1..9].try_into().expect("eight bytes");
                    let sequence = u64::from_le_bytes(sequence);
                    asked.messages.push(sequence);
                    (sequence, sequence)
                }
            };
            assert!(first >= asked.range.0 && last <= asked.range.1, "{first}..={last}");
        }
        let in_flight = self.node.node().catchup_bytes();
        // One read, and what it becomes, goes beyond what there is room for.
        assert!(in_flight <= 900 + 4 * 2_200, "{in_flight} bytes are in flight");
    }

    fn ask(&mut self, from: Option<PeerId>, range: (u64, u64), request: Bytes) -> Bytes {
        self.count += 1;
        let inbox = Subject::from(format!("$JSC.R.{:08}", self.count));
        let asked = Asked { range, ..Asked::default() };
        self.asked.insert(inbox.as_bytes().clone(), asked);
        let to = sync_subject(&self.node.config().groups[0].name);
        let at = inbox.as_bytes().clone();
        self.node.receive(from, to, Some(inbox), request);
        self.look();
        at
    }

    fn take(&mut self, step: u8, draws: &mut Draws<'_>) {
        let any = u64::from(draws.byte().unwrap_or(0));
        match step % 12 {
            0..=3 => {
                let (first, last) = (any % (LAST + 4), u64::from(draws.byte().unwrap_or(0)) % 40);
                let (asker, wants) = (draws.byte().unwrap_or(0), draws.byte().unwrap_or(0));
                let request = SyncRequest {
                    peer: peer(asker),
                    first: Sequence::new(first),
                    last: Sequence::new(last),
                    delete_ranges: wants > 0,
                    min_applied: Index::new(u64::from(draws.byte().unwrap_or(0)) % 40),
                    state: wants & 2 > 0,
                    of: None,
                };
                self.ask(peer(draws.byte().unwrap_or(3)), (first, last), request.to_bytes());
            }
            4 => {
                let request = Bytes::copy_from_slice(draws.rest(any as usize));
                self.ask(peer(draws.byte().unwrap_or(3)), (0, u64::MAX), request);
            }
            5..=7 => {
                let Some(reply) = self.replies.get(any as usize).cloned() else { return };
                let payload = match step % 12 {
                    7 => Bytes::copy_from_slice(draws.rest(any as usize % 8)),
                    _ => Bytes::new(),
                };
                self.node.receive(peer(draws.byte().unwrap_or(3)), reply, None, payload);
            }
            8 => {
                let Some(reply) = self.replies.last() else { return };
                let text = String::from_utf8_lossy(reply.as_bytes()).into_owned();
                let (token, _) = text.rsplit_once('.').expect("bytes stand at its end");
                let lie = Subject::from(format!("{token}.{}", any * 7));
                self.node.receive(peer(draws.byte().unwrap_or(3)), lie, None, Bytes::new());
            }
            9 => self.node.wait(Duration::from_millis(any * any)),
            10 => self.publish(draws.rest(any as usize)),
            _ => {
                let sequence = Sequence::new(any % (LAST + 4));
                self.node.request(Request::Delete { sequence });
            }
        }
        self.look();
        self.agree();
    }

    /// Nobody asks any more; then an honest follower gets all that there is.
    fn end(mut self) {
        let silence = self.node.config().timers.catchup_silence;
        for _ in 0..4 {
            self.node.wait(silence);
            self.look();
        }
        assert_eq!(self.node.node().catchup_bytes(), 0, "nobody is served");
        let last = self.node.disk.store().mark().map_or(0, |mark| mark.last.get());
        let me = self.node.me();
        let request = format!(
            "{{\"peer\":\"{}\",\"first_seq\":1,\"last_seq\":{last},\"delete_ranges\":true,\
             \"min_applied\":0,\"jetwake_of\":\"{me}\"}}",
            PeerId::from_name("n3"),
        );
        self.replies.clear();
        let n3 = Some(PeerId::from_name("n3"));
        let inbox = self.ask(n3, (1, last), request.into());
        while !self.replies.is_empty() {
            let reply = self.replies.remove(0);
            self.node.receive(n3, reply, None, Bytes::new());
            self.look();
        }
        let Asked { messages, ended, .. } = &self.asked[&inbox];
        assert!(ended, "{:?}", self.node.reports());
        let mut kept: Vec<_> = self.node.disk.store().messages().keys().map(|s| s.get()).collect();
        kept.retain(|sequence| *sequence <= last);
        let live = |sequence: &u64| kept.contains(sequence);
        assert!(messages.iter().copied().filter(live).eq(kept.iter().copied()));
    }
}
