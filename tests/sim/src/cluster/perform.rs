//! What a command does to the simulated world.

use jetwake::command::{Command, Destination, LogChange, Report, Role};
use jetwake::event::{Event, MachineSays};
use jetwake::ids::{GroupId, Index, RequestId};
use jetwake::subject::Subject;
use jetwake::time::Duration;
use jetwake::wire::SnapshotTransfer;

use super::{Asker, Cluster, Due, unknown};
use crate::checkers::{Seen, committed_stays::touched};
use crate::client::{Told, told};
use crate::disk::DiskWork;
use crate::network::{Envelope, Machine, Passage, is_literal};
use crate::record::Kind;
use crate::story::Detail;
use crate::wording;

const CONTRACT: &str = "the contract of commands";

impl Cluster {
    pub(super) fn perform(&mut self, machine: Machine, command: Command) {
        let now = self.now;
        match command {
            Command::Send { to, subject, reply, payload } => {
                let envelope = Envelope { from: machine, to: machine, subject, reply, payload };
                self.send(&to, envelope);
            }
            Command::Subscribe(subject) => {
                let done = self.processes[machine.0].subscriptions.add(&subject);
                self.keep_contract(machine, done);
            }
            Command::Unsubscribe(subject) => {
                let done = self.processes[machine.0].subscriptions.remove(&subject);
                self.keep_contract(machine, done);
            }
            Command::Write { id, group, change } => {
                self.cover_change(machine, group, &change);
                self.ledger.asked(group, &change);
                let work = self.disks[machine.0].write(now, id, group, change);
                if let Some(Some(work)) = self.keep_contract(machine, work) {
                    self.disk_works(machine, work);
                }
            }
            Command::Load { id, group, first, last, bytes } => {
                let work = self.disks[machine.0].load(now, id, group, (first, last), bytes);
                self.try_disk(machine, work);
            }
            Command::Store { id, group, change, mark } => {
                self.applies(machine, group, touched(&mark));
                let told = self.record.keeps(Detail::Messages);
                if let Some(what) = told.then(|| wording::store_change(&change, &mark)).flatten() {
                    self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
                        Kind::Applied(what)
                    });
                }
                let work = self.disks[machine.0].take(now, id, group, change, mark);
                self.try_disk(machine, work);
            }
            Command::SyncStore { group, through } => {
                let work = self.disks[machine.0].sync_store(now, group, through);
                self.try_disk(machine, work);
            }
            Command::Read { id, group, first, last, messages, bytes } => {
                let most = (messages, bytes);
                let work = self.disks[machine.0].read(now, id, group, (first, last), most);
                self.try_disk(machine, work);
            }
            Command::Answer { id, answer } => self.answer(machine, id, answer),
            Command::Apply { group, index, entries } => {
                self.applies(machine, group, index);
                if !entries.is_empty() {
                    self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
                        let told: Vec<_> =
                            entries.iter().map(|entry| wording::text(entry)).collect();
                        Kind::Applied(format!("applies {index} {}", told.join(", ")))
                    });
                }
                let plain = self.processes[machine.0].machines.entry(group).or_default();
                let applied = plain.apply(index, &entries);
                self.plain_applies(machine, group, applied);
            }
            Command::ApplySnapshot { group, index, data } => {
                self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
                    Kind::Applied(format!("takes the state of the snapshot through {index} on"))
                });
                let plain = self.processes[machine.0].machines.entry(group).or_default();
                let applied = plain.install(index, &data);
                self.plain_applies(machine, group, applied);
            }
            Command::ApplySnapshotPart { group, index, offset, part, last } => {
                self.coverage.count("parts of snapshots applied");
                self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
                    let bytes = part.len();
                    Kind::Applied(match last {
                        true => format!("takes the state of the snapshot through {index} on"),
                        false => format!("takes {bytes} bytes of the snapshot through {index}"),
                    })
                });
                let plain = self.processes[machine.0].machines.entry(group).or_default();
                let taken = plain.take_part(index, offset, &part, last);
                let through = offset + part.len() as u64;
                self.plain_takes(machine, group, taken, (!last).then_some((index, through)));
            }
            Command::LoadSnapshot { id, group, file, offset, bytes } => {
                let range = (offset, bytes);
                let work = self.disks[machine.0].load_snapshot(now, id, group, file, range);
                self.try_disk(machine, work);
            }
            Command::Checkpoint { group, news } => self.hear_of_checkpoint(machine, group, news),
            Command::Report { group, report } => self.report(machine, group, report),
            other => unknown(&other),
        }
    }

    /// A breach of the contract is a violation like any other.
    fn keep_contract<T>(&mut self, machine: Machine, done: Result<T, String>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(what) => {
                self.violate(CONTRACT, format!("{machine} {what}"));
                None
            }
        }
    }

    fn try_disk(
        &mut self,
        machine: Machine,
        work: Result<(jetwake::time::Time, DiskWork), String>,
    ) {
        if let Some(work) = self.keep_contract(machine, work) {
            self.disk_works(machine, work);
        }
    }

    fn disk_works(&mut self, machine: Machine, (at, work): (jetwake::time::Time, DiskWork)) {
        let incarnation = self.incarnations[machine.0];
        self.agenda.put(at, Due::Disk { machine, incarnation, work });
    }

    fn send(&mut self, to: &Destination, mut envelope: Envelope) {
        let from = envelope.from;
        let reply_is_literal = envelope.reply.as_ref().is_none_or(|r| is_literal(r.as_bytes()));
        if !is_literal(envelope.subject.as_bytes()) || !reply_is_literal {
            let (subject, reply) = (&envelope.subject, &envelope.reply);
            let what = format!("{from} sends to {subject} with the reply {reply:?}");
            return self.violate(CONTRACT, what);
        }
        self.inboxes.learn(from, &envelope.subject, envelope.reply.as_ref());
        if SnapshotTransfer::is_one(&envelope.payload) {
            self.coverage.count("messages about snapshots in parts");
        }
        let syncs = envelope.subject.as_bytes().starts_with(b"$JSC.SYNC.");
        self.coverage.add("syncs asked for", u64::from(syncs));
        for to in self.targets(from, to, &envelope.subject) {
            if to == from {
                let what = format!("{from} sends {} to itself", envelope.subject);
                return self.violate(CONTRACT, what);
            }
            let passage = match self.network.mutes(from, &envelope.subject) {
                true => Passage { dropped: true, ..Passage::default() },
                false => self.network.pass(self.now, from, to, envelope.payload.len()),
            };
            self.coverage.add("messages dropped", u64::from(passage.dropped));
            let doubled = passage.arrivals.len().saturating_sub(1);
            self.coverage.add("messages doubled", doubled as u64);
            self.tell_message(&envelope, to, &passage);
            envelope.to = to;
            self.network.remember(&envelope);
            for at in passage.arrivals {
                self.agenda.put(at, Due::Arrival(envelope.clone()));
            }
        }
    }

    fn targets(&self, from: Machine, to: &Destination, subject: &Subject) -> Vec<Machine> {
        match to {
            Destination::Peers(peers) => {
                let place = |peer| self.processes.iter().position(|process| process.peer == peer);
                peers.iter().filter_map(|peer| place(*peer)).map(Machine).collect()
            }
            Destination::Subscribers => self
                .machines()
                .into_iter()
                .filter(|to| *to != from && self.processes[to.0].subscriptions.hear(subject))
                .collect(),
        }
    }

    fn answer(&mut self, machine: Machine, id: RequestId, answer: jetwake::command::Answer) {
        let incarnation = self.incarnations[machine.0];
        let Some(pending) = self.requests.remove(&id) else {
            let what = format!("{machine} answers request {id}, which waits for nothing");
            return self.violate(CONTRACT, what);
        };
        if (pending.machine, pending.incarnation) != (machine, incarnation) {
            let what = format!("{machine} answers request {id}, which it was not asked");
            return self.violate(CONTRACT, what);
        }
        self.tell_at(Detail::Messages, Some(machine), Some(pending.group), |cluster| {
            let asked = cluster.spell(&pending.asked);
            Kind::Answered { asked, answer: wording::told(&told(&answer)) }
        });
        match pending.asker {
            Asker::Test => {
                self.answers.insert(id, answer);
            }
            Asker::Client(client) => {
                let told = told(&answer);
                self.look_at_acknowledgement(machine, pending.group, client, id, &told);
                self.answer_travels(client, id, told);
            }
        }
    }

    fn look_at_acknowledgement(
        &mut self,
        machine: Machine,
        group: GroupId,
        client: usize,
        id: RequestId,
        told: &Told,
    ) {
        if !matches!(told, Told::Acknowledged { .. } | Told::Committed(_)) {
            return;
        }
        let history = &self.histories[group.0 as usize];
        let numbers = self.clients[client].publications_asked(id, history).into_iter();
        let ids: Vec<_> =
            numbers.filter_map(|at| Some(history.publications().get(at)?.id.clone())).collect();
        for message in &ids {
            self.look(machine, &Seen::Acknowledged { group, message });
        }
    }

    /// What a process applies is committed, in its term at the latest.
    fn applies(&mut self, machine: Machine, group: GroupId, through: jetwake::ids::Index) {
        let role = self.processes[machine.0].roles.get(&group);
        let term = role.map_or(jetwake::ids::Term::MAX, |(_, term, _)| *term);
        if let Some(log) = self.disks[machine.0].log(group) {
            self.ledger.applied(group, through, term, log);
        }
    }

    fn plain_applies(&mut self, machine: Machine, group: GroupId, applied: Result<(), String>) {
        self.plain_takes(machine, group, applied, None);
    }

    /// The machine of a plain group did something; if that was a part of a snapshot, which.
    fn plain_takes(
        &mut self,
        machine: Machine,
        group: GroupId,
        taken: Result<(), String>,
        part: Option<(Index, u64)>,
    ) {
        self.keep_contract(machine, taken);
        let through = self.processes[machine.0].machines.entry(group).or_default().applied();
        let at = self.now + self.dice.duration(&(Duration::ZERO..self.setup.applying));
        let incarnation = self.incarnations[machine.0];
        let event = match part {
            None => Event::Applied { group, through },
            Some((index, through)) => {
                Event::Machine { group, says: MachineSays::TookPart { index, through } }
            }
        };
        self.agenda.put(at, Due::Event { machine, incarnation, event });
    }

    fn cover_change(&mut self, machine: Machine, group: GroupId, change: &LogChange) {
        self.coverage.count(match change {
            LogChange::Append { .. } => "records appended",
            LogChange::Truncate { .. } => "truncations",
            LogChange::Compact { .. } => "compactions",
            LogChange::Reset { .. } => "resets",
            LogChange::TermAndVote(_) => "terms and votes written",
            LogChange::Snapshot { .. } => "snapshots written",
            LogChange::SnapshotPart { .. } => "parts of snapshots written",
            LogChange::PlaceSnapshot { .. } => "snapshots written in parts",
            LogChange::DropSnapshotParts => "snapshots in parts given up",
            LogChange::Standing(_) => "standings written",
            _ => "other changes of a log",
        });
        let detail = match change {
            LogChange::Append { .. } | LogChange::SnapshotPart { .. } => Detail::Messages,
            _ => Detail::Events,
        };
        self.tell_at(detail, Some(machine), Some(group), |cluster| {
            Kind::Wrote(cluster.spell(&wording::log_change(change)))
        });
    }

    fn report(&mut self, machine: Machine, group: Option<GroupId>, report: Report) {
        self.tell(machine, group, |cluster| cluster.reported(&report));
        let what = match &report {
            Report::Role { role: Role::Leader, .. } => "elections won",
            Report::Role { role: Role::Candidate, .. } => "candidacies",
            Report::Role { .. } => "changes of role",
            Report::Refused { .. } => "messages refused",
            Report::Catchup(phase) => match phase {
                _ if phase.starts_with("the log asks") => "catchups of logs",
                _ if phase.starts_with("the log waits for its own disk") => {
                    "catchups of logs that waited for their own disk"
                }
                _ if phase.contains("asks again") => "catchups of streams that asked again",
                _ if phase.starts_with("has all of the snapshot") => "catchups of streams",
                _ if phase.contains("comes in parts") => "snapshots that came in parts",
                _ if phase.contains("goes on at byte") => "snapshots in parts that went on",
                _ if phase.contains("is given up at byte") => "snapshots in parts cut short",
                _ => "other phases of catchups",
            },
            Report::Snapshot { installed: true, .. } => "snapshots installed",
            Report::Snapshot { installed: false, .. } => "snapshots taken",
            Report::StoodAside(_) => {
                self.processes[machine.0].told_aside = true;
                "groups that stood aside"
            }
            Report::Members { members, committed } => {
                self.count_members(machine, group, members, *committed)
            }
            Report::Impaired(_) => "members impaired",
            Report::Repaired { .. } => "members repaired",
            Report::Damaged(_) => "damages that cost nothing promised",
            _ => "other reports",
        };
        self.coverage.count(what);
        if let (Some(group), Report::Role { role, term, leader }) = (group, report) {
            self.processes[machine.0].roles.insert(group, (role, term, leader));
        }
    }

    /// What a report of the members tells beside those before it.
    fn count_members(
        &mut self,
        machine: Machine,
        group: Option<GroupId>,
        members: &[jetwake::ids::PeerId],
        committed: bool,
    ) -> &'static str {
        let Some(group) = group else { return "other reports" };
        let told = self.processes[machine.0].members.insert(group, (members.to_vec(), committed));
        match told {
            Some((before, false)) if committed && before == members => {
                "changes of members committed"
            }
            Some((before, false)) if committed && before != members => "changes taken back",
            Some((before, _)) if before.len() < members.len() => "members added",
            Some((before, _)) if before.len() > members.len() => "members removed",
            _ => "members told",
        }
    }

    fn reported(&self, report: &Report) -> Kind {
        match report {
            Report::Role { role, term, leader } => {
                let leader = leader.and_then(|leader| self.machine_of(leader));
                Kind::Role { role: *role, term: *term, leader }
            }
            Report::Refused { from, why } => {
                let of = from.map_or(String::new(), |from| format!(" of {from}"));
                Kind::Refused(self.spell(&format!("refuses a message{of}: {why}")))
            }
            Report::Catchup(phase) => Kind::Catchup(self.spell(phase)),
            Report::Snapshot { index, installed } => {
                Kind::Snapshot { index: *index, installed: *installed }
            }
            Report::StoodAside(why) => Kind::StoodAside(self.spell(why)),
            Report::Members { members, committed } => {
                let machines = members.iter().filter_map(|peer| self.machine_of(*peer));
                let mut members: Vec<_> = machines.collect();
                members.sort();
                Kind::Members { members, committed: *committed }
            }
            other => Kind::Reported(self.spell(&wording::report(other))),
        }
    }

    pub(super) fn tell_event(&mut self, machine: Machine, event: &Event) {
        let reach =
            |peer, reaches| self.machine_of(peer).map(|other| Kind::Reach { other, reaches });
        let kind = match event {
            Event::WriteFailed { failure, .. } | Event::StoreFailed { failure, .. } => {
                Some(Kind::DiskFailed(failure.to_string()))
            }
            Event::LoadFailed { load, failure } => {
                Some(Kind::DiskFailed(format!("load {load}: {failure}")))
            }
            Event::MessagesLost { load, lost } => {
                Some(Kind::DiskFailed(format!("load {load}: {}", lost.damage)))
            }
            Event::Connected(peer) => reach(*peer, true),
            Event::Disconnected(peer) => reach(*peer, false),
            _ => None,
        };
        if let Some(kind) = kind {
            self.tell(machine, None, |_| kind);
        }
    }

    fn tell_message(&mut self, envelope: &Envelope, to: Machine, passage: &Passage) {
        self.tell_at(Detail::Messages, Some(envelope.from), None, |cluster| Kind::Sent {
            to,
            said: cluster.said(envelope, to),
            arrivals: passage.arrivals.clone(),
        });
    }

    /// What a message says to whom it reaches.
    pub(super) fn said(&self, envelope: &Envelope, to: Machine) -> wording::Said {
        let group = self.inboxes.of_entries(&envelope.subject);
        let role = group.and_then(|group| self.processes[to.0].roles.get(&group));
        let asks = envelope.reply.is_some();
        let term = role.map(|(_, term, _)| *term);
        let mut said = wording::message(&envelope.subject, &envelope.payload, asks, term);
        said.words = self.spell(&said.words);
        said
    }
}
