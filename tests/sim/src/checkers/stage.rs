//! Three machines without processes, on which the tests of the checkers play small scenes.

use std::sync::Arc;

use bytes::Bytes;
use jetwake::command::{Command, Destination, LogChange, Place, Report, Role, StoreChange};
use jetwake::event::{Opened, StoreMark, TermAndVote};
use jetwake::ids::{GroupId, Index, PeerId, Sequence, StoreId, Term, WriteId};
use jetwake::raft::Status;
use jetwake::subject::Subject;
use jetwake::time::Time;

use super::{Checker, Inboxes, Scene, Seen};
use crate::dice::Dice;
use crate::disk::{Disk, DiskConditions};
use crate::ledger::Ledger;
use crate::network::Machine;

pub(crate) const GROUP: GroupId = GroupId(0);

pub(crate) struct Stage {
    pub(crate) incarnations: Vec<u32>,
    peers: Vec<PeerId>,
    disks: Vec<Disk>,
    ledger: Ledger,
    inboxes: Inboxes,
    writes: u64,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let mut ledger = Ledger::default();
        ledger.add_group(GROUP, 3, 3);
        let mut inboxes = Inboxes::default();
        inboxes.add_group(GROUP, "group");
        Self {
            incarnations: vec![1; 3],
            peers: ["n1", "n2", "n3"].map(PeerId::from_name).to_vec(),
            disks: (0..3)
                .map(|seed| Disk::new(DiskConditions::default(), Dice::new(seed)))
                .collect(),
            ledger,
            inboxes,
            writes: 0,
        }
    }

    fn show(
        &self,
        checker: &mut dyn Checker,
        machine: usize,
        seen: &Seen<'_>,
    ) -> Result<(), String> {
        let scene = Scene {
            peers: &self.peers,
            disks: &self.disks,
            incarnations: &self.incarnations,
            ledger: &self.ledger,
            inboxes: &self.inboxes,
        };
        checker.see(Machine(machine), seen, &scene)
    }

    /// A command that is looked at, and not performed.
    pub(crate) fn commanded(
        &mut self,
        checker: &mut dyn Checker,
        machine: usize,
        command: &Command,
    ) -> Result<(), String> {
        self.show(checker, machine, &Seen::Commanded(command))
    }

    pub(crate) fn durable(
        &mut self,
        checker: &mut dyn Checker,
        machine: usize,
        change: &LogChange,
    ) -> Result<(), String> {
        self.show(checker, machine, &Seen::Durable { group: GROUP, change })
    }

    pub(crate) fn stands(
        &mut self,
        checker: &mut dyn Checker,
        machine: usize,
        status: &Status,
    ) -> Result<(), String> {
        self.show(checker, machine, &Seen::Stands { group: GROUP, status })
    }

    pub(crate) fn started(&mut self, checker: &mut dyn Checker, machine: usize) {
        let opened = Opened::default();
        let seen = Seen::Started { group: GROUP, opened: &opened };
        self.show(checker, machine, &seen).expect("nothing is wrong with a start");
    }

    pub(crate) fn acknowledged(
        &mut self,
        checker: &mut dyn Checker,
        machine: usize,
        message: &str,
    ) -> Result<(), String> {
        let message = Bytes::copy_from_slice(message.as_bytes());
        self.show(checker, machine, &Seen::Acknowledged { group: GROUP, message: &message })
    }

    /// A log write that becomes durable at once.
    pub(crate) fn write(&mut self, machine: usize, command: &Command) {
        let Command::Write { change, .. } = command else { panic!("expected a log write") };
        self.writes += 1;
        let (id, change) = (WriteId::new(self.writes), change.clone());
        self.ledger.asked(GROUP, &change);
        let disk = &mut self.disks[machine];
        let work = disk.write(Time::ZERO, id, GROUP, change).expect("the test keeps the contract");
        let (at, work) = work.expect("nothing else is synced");
        for (group, change) in disk.done(at, work).durable {
            self.ledger.durable(Machine(machine), group, &change);
        }
    }

    /// A machine's disk loses everything.
    pub(crate) fn lose(&mut self, machine: usize) {
        self.ledger.lost(Machine(machine), GROUP, Index::new(1), true);
    }

    /// A message whose inbox is learned.
    pub(crate) fn send(&mut self, machine: usize, command: &Command) {
        let Command::Send { subject, reply, .. } = command else { panic!("expected a message") };
        self.inboxes.learn(Machine(machine), subject, reply.as_ref());
    }

    /// A machine applies.
    pub(crate) fn apply(&mut self, machine: usize, through: u64, term: u64) {
        let log = self.disks[machine].log(GROUP).expect("the test wrote the log");
        self.ledger.applied(GROUP, Index::new(through), Term::new(term), log);
    }
}

pub(crate) fn leads(term: u64) -> Command {
    let report = Report::Role { role: Role::Leader, term: Term::new(term), leader: None };
    Command::Report { group: Some(GROUP), report }
}

pub(crate) fn follows(term: u64, leader: &str) -> Command {
    let leader = Some(PeerId::from_name(leader));
    let report = Report::Role { role: Role::Follower, term: Term::new(term), leader };
    Command::Report { group: Some(GROUP), report }
}

pub(crate) fn vote(term: u64, name: &str) -> LogChange {
    let vote = Some(PeerId::from_name(name));
    LogChange::TermAndVote(TermAndVote { term: Term::new(term), vote })
}

fn send(subject: &str, reply: Option<&str>, payload: Vec<u8>) -> Command {
    Command::Send {
        to: Destination::Peers(Arc::from([])),
        subject: Subject::from(subject.to_string()),
        reply: reply.map(|reply| Subject::from(reply.to_string())),
        payload: payload.into(),
    }
}

/// An empty message.
pub(crate) fn message_to(subject: &str, reply: Option<&str>) -> Command {
    send(subject, reply, Vec::new())
}

pub(crate) fn vote_request(term: u64, reply: &str) -> Command {
    let payload = [&term.to_le_bytes()[..], &[0; 24]].concat();
    send("$NRG.V.group", Some(reply), payload)
}

pub(crate) fn vote_response(term: u64, inbox: &str) -> Command {
    send(inbox, None, [&term.to_le_bytes()[..], b"peerpeer", &[1]].concat())
}

pub(crate) fn append_response(term: u64, index: u64, success: bool, inbox: &str) -> Command {
    let numbers = [term.to_le_bytes(), index.to_le_bytes()].concat();
    send(inbox, None, [&numbers[..], b"peerpeer", &[u8::from(success)]].concat())
}

/// An answer to an append entry that goes to one machine.
pub(crate) fn append_response_to(
    to: &str,
    term: u64,
    index: u64,
    success: bool,
    inbox: &str,
) -> Command {
    match append_response(term, index, success, inbox) {
        Command::Send { subject, reply, payload, .. } => Command::Send {
            to: Destination::Peers(Arc::from([PeerId::from_name(to)])),
            subject,
            reply,
            payload,
        },
        other => other,
    }
}

pub(crate) fn send_record(record: &Bytes, reply: &str) -> Command {
    send("$NRG.AE.group", Some(reply), record.to_vec())
}

/// A record of one normal entry.
pub(crate) fn record(term: u64, previous_term: u64, previous_index: u64, data: &[u8]) -> Bytes {
    let mut record = b"leader!!".to_vec();
    for number in [term, 0, previous_term, previous_index] {
        record.extend(number.to_le_bytes());
    }
    record.extend(1_u16.to_le_bytes());
    record.extend((data.len() as u32 + 1).to_le_bytes());
    record.push(0);
    record.extend(data);
    record.into()
}

pub(crate) fn write(change: LogChange) -> Command {
    Command::Write { id: WriteId::new(1), group: GROUP, change }
}

pub(crate) fn append(index: u64, record: &Bytes) -> Command {
    write(LogChange::Append { index: Index::new(index), record: record.clone() })
}

pub(crate) fn truncate(last: u64) -> Command {
    write(LogChange::Truncate { last: Index::new(last) })
}

pub(crate) fn reset(last: u64) -> Command {
    write(LogChange::Reset { last: Index::new(last) })
}

pub(crate) fn snapshot(index: u64) -> Command {
    let (index, term) = (Index::new(index), Term::new(1));
    write(LogChange::Snapshot { index, term, file: Bytes::from_static(b"snapshot") })
}

fn store(change: StoreChange, applied: u64) -> Command {
    let mark = StoreMark { applied: Index::new(applied), ..StoreMark::default() };
    Command::Store { id: StoreId::new(1), group: GROUP, change, mark }
}

pub(crate) fn store_mark(applied: u64) -> Command {
    store(StoreChange::Mark, applied)
}

/// The bytes of a stream's message.
pub(crate) fn message(sequence: u64, id: &str, payload: &[u8]) -> Vec<u8> {
    let header = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
    let mut record = vec![4];
    record.extend(sequence.to_le_bytes());
    record.extend(7_i64.to_le_bytes());
    for field in [b"s.1", &b""[..], header.as_bytes()] {
        record.extend((field.len() as u16).to_le_bytes());
        record.extend(field);
    }
    record.extend((payload.len() as u32).to_le_bytes());
    record.extend(payload);
    record.push(0);
    record
}

pub(crate) fn store_message(sequence: u64, id: &str, payload: &[u8]) -> Command {
    let block = Bytes::from(message(sequence, id, payload));
    let length = block.len() as u32;
    let place = Place { sequence: Sequence::new(sequence), offset: 0, length };
    store(StoreChange::Messages { block, places: vec![place] }, 1)
}
