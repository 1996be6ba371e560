//! A cluster of real nodes: the loop that hands them events, performs their commands, and lets
//! simulated time pass.
//!
//! What is drawn is drawn from one seed, and everything happens in one order: two clusters with
//! the same seed and the same calls do the same, byte for byte.

mod checkpoint;
mod clients;
mod control;
mod health;
mod perform;
mod rot;
mod scale;
mod settle;
mod steer;

use std::collections::BTreeMap;
use std::fmt;

use jetwake::command::{Answer, Command};
use jetwake::event::{Event, Request};
use jetwake::ids::{GroupId, Index, PeerId, RequestId};
use jetwake::node::Node;
use jetwake::time::{Duration, Time};

use crate::agenda::Agenda;
use crate::checkers::{self, Checker, Inboxes, Scene, Seen, Violation, budget_at_zero};
use crate::client::{Client, Task, Told};
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::disk::{Disk, DiskWork};
use crate::faults::Relief;
use crate::history::History;
use crate::ledger::Ledger;
use crate::network::{Envelope, Machine, Network};
use crate::process::{Doom, Process};
use crate::record::{Happening, Kind, Record};
use crate::setup::{EPOCH, Setup};
use crate::story::Detail;
use crate::trace::TraceDigest;

use scale::Scale;

pub use checkpoint::Making;

/// How often somebody who waits for something looks whether it is so.
const GLANCE: Duration = Duration::from_millis(1);
/// After how many events of a process what its node says of itself is looked at.
const LOOK_EVERY: u64 = 16;
/// What is said of catchups that hold more than they may.
const BUDGET: &str = "the budget of catchups";
/// How many happenings are kept.
const HAPPENINGS: usize = 20_000;

/// N machines with a node each, a network, disks, clocks and clients.
#[derive(Debug)]
pub struct Cluster {
    seed: u64,
    setup: Setup,
    now: Time,
    dice: Dice,
    agenda: Agenda<Due>,
    processes: Vec<Process>,
    peers: Vec<PeerId>,
    incarnations: Vec<u32>,
    disks: Vec<Disk>,
    network: Network,
    clients: Vec<Client>,
    histories: Vec<History>,
    requests: BTreeMap<RequestId, Pending>,
    answers: BTreeMap<RequestId, Answer>,
    requested: u64,
    ledger: Ledger,
    inboxes: Inboxes,
    checkers: Vec<Box<dyn Checker>>,
    violations: Vec<Violation>,
    coverage: Coverage,
    record: Record,
    trace: TraceDigest,
    events: u64,
    /// Whether nobody changes members any more.
    members_rest: bool,
}

/// Something that becomes due.
#[derive(Debug)]
enum Due {
    Arrival(Envelope),
    Disk { machine: Machine, incarnation: u32, work: DiskWork },
    Event { machine: Machine, incarnation: u32, event: Event },
    Request { machine: Machine, id: RequestId, group: GroupId, request: Request },
    Links,
    Members(Scale),
    Restart(Machine),
    Relief(Relief),
    ClientActs(usize),
    ClientHears(usize, RequestId, Told),
    ClientGivesUp(usize, RequestId),
    ClientRetries(usize, Task),
    ClientRefused(usize, RequestId),
}

/// A request that a node was handed and has not answered.
#[derive(Clone, Debug)]
struct Pending {
    machine: Machine,
    incarnation: u32,
    group: GroupId,
    asker: Asker,
    /// What is asked, in words, if that is told.
    asked: String,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    Client(usize),
    Test,
}

impl Cluster {
    /// A cluster whose every machine is started.
    pub fn new(seed: u64, setup: Setup) -> Self {
        let mut dice = Dice::new(seed);
        let machines = setup.machines;
        assert!((1..=64).contains(&machines), "found {machines} machines, expected 1 to 64");
        let mut ledger = Ledger::default();
        let mut inboxes = Inboxes::default();
        for group in 0..setup.groups.len() {
            let id = GroupId(group as u32);
            ledger.add_group(id, machines, setup.founders);
            inboxes.add_group(id, setup.group_name(group).as_str());
        }
        let processes: Vec<_> = (0..machines)
            .map(|at| Process::new(Machine(at), machines, clock(&setup, &mut dice)))
            .collect();
        let disks = (0..machines).map(|_| Disk::new(setup.disk.clone(), dice.fork())).collect();
        let network = Network::new(machines, setup.network.clone(), dice.fork());
        let mut cluster = Self {
            seed,
            now: Time::ZERO,
            agenda: Agenda::default(),
            peers: processes.iter().map(|process| process.peer).collect(),
            incarnations: vec![0; machines],
            processes,
            disks,
            network,
            clients: Vec::new(),
            histories: vec![History::default(); setup.groups.len()],
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            requested: 0,
            ledger,
            inboxes,
            checkers: checkers::all(&setup.limits),
            violations: Vec::new(),
            coverage: Coverage::default(),
            record: Record::new(machines, setup.detail, HAPPENINGS),
            trace: TraceDigest::default(),
            events: 0,
            members_rest: false,
            dice,
            setup,
        };
        for machine in cluster.machines() {
            cluster.start(machine);
        }
        cluster
    }

    /// Every machine.
    pub fn machines(&self) -> Vec<Machine> {
        (0..self.setup.machines).map(Machine).collect()
    }

    /// True time since the start.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// What was broken so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What happened how often.
    pub const fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// How many events the nodes were handed.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The digest of every event and command so far, if it is kept.
    pub fn trace_digest(&self) -> u64 {
        self.trace.value()
    }

    /// What happened so far; it prints as its story.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// A machine's process.
    pub fn process(&self, machine: Machine) -> &Process {
        &self.processes[machine.0]
    }

    /// A machine's disk.
    pub fn disk(&self, machine: Machine) -> &Disk {
        &self.disks[machine.0]
    }

    /// A machine's disk, to break or to mend it.
    pub fn disk_mut(&mut self, machine: Machine) -> &mut Disk {
        &mut self.disks[machine.0]
    }

    /// What the clients of a group were told.
    pub fn history(&self, group: GroupId) -> &History {
        &self.histories[group.0 as usize]
    }

    /// What is durable where.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Lets time pass until a moment, or until a rule is broken; whether none is.
    pub fn advance(&mut self, until: Time) -> bool {
        while self.violations.is_empty() && self.step(until) {}
        self.violations.is_empty()
    }

    /// Does the next thing, if it is due by then; else time passes until then.
    fn step(&mut self, until: Time) -> bool {
        let agenda = self.agenda.next_at();
        let woken = self.next_deadline();
        let wakes_first = match (agenda, woken) {
            (None, None) => None,
            (Some(at), Some((deadline, _))) if at <= deadline => Some((at, None)),
            (_, Some((deadline, machine))) => Some((deadline, Some(machine))),
            (Some(at), None) => Some((at, None)),
        };
        let Some((at, wakes)) = wakes_first.filter(|(at, _)| *at <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(at);
        match wakes {
            Some(machine) => self.wake(machine),
            None => {
                if let Some((_, due)) = self.agenda.take() {
                    self.happen(due);
                }
            }
        }
        true
    }

    fn next_deadline(&self) -> Option<(Time, Machine)> {
        let deadlines = self.processes.iter().enumerate().filter(|(_, process)| !process.paused);
        deadlines
            .filter_map(|(at, process)| process.deadline.map(|deadline| (deadline.at, Machine(at))))
            .min()
    }

    fn wake(&mut self, machine: Machine) {
        let shown = self.processes[machine.0].clock.shows(self.now);
        self.processes[machine.0].deadline = None;
        self.deliver(machine, Event::DeadlineReached);
        if self.processes[machine.0].spins(shown) {
            let deadline = self.processes[machine.0].deadline;
            self.violate(
                "a deadline is disarmed or moves",
                format!("{machine} spins: {deadline:?}"),
            );
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Arrival(envelope) => self.arrive(envelope),
            Due::Disk { machine, incarnation, work } => {
                if self.incarnations[machine.0] == incarnation {
                    self.disk_done(machine, work);
                }
            }
            Due::Event { machine, incarnation, event } => {
                if self.incarnations[machine.0] == incarnation {
                    self.deliver(machine, event);
                }
            }
            Due::Request { machine, id, group, request } => {
                self.request_arrives(machine, id, group, request);
            }
            Due::Links => self.tell_links(),
            Due::Members(scale) => self.change_on(scale),
            Due::Restart(machine) => {
                if !self.processes[machine.0].is_up() {
                    self.start(machine);
                }
            }
            Due::Relief(relief) => self.relieve(relief),
            Due::ClientActs(client) => self.client_acts(client),
            Due::ClientHears(client, id, told) => self.client_hears(client, id, told),
            Due::ClientGivesUp(client, id) => self.client_gives_up(client, id),
            Due::ClientRetries(client, task) => self.client_retries(client, task),
            Due::ClientRefused(client, id) => self.client_gives_up(client, id),
        }
    }

    fn arrive(&mut self, envelope: Envelope) {
        let Envelope { from, to, subject, reply, payload } = envelope;
        let process = &self.processes[to.0];
        if self.network.is_cut(from, to)
            || !process.is_up()
            || !process.subscriptions.hear(&subject)
        {
            self.coverage.count("messages that reached nobody");
            return self.missed(Envelope { from, to, subject, reply, payload });
        }
        let named = self.network.conditions.names_senders;
        let from = named.then_some(self.processes[from.0].peer);
        self.deliver(to, Event::Received { from, subject, reply, payload });
    }

    /// Tells of a message that reaches nobody.
    fn missed(&mut self, envelope: Envelope) {
        let (from, to) = (envelope.from, envelope.to);
        let why = match () {
            () if self.network.is_cut(from, to) => "whose link is cut",
            () if !self.processes[to.0].is_up() => crate::record::DOWN,
            () => crate::record::DEAF,
        };
        self.tell_at(Detail::Messages, Some(to), None, |cluster| Kind::Missed {
            from,
            said: cluster.said(&envelope, to),
            why,
        });
    }

    fn disk_done(&mut self, machine: Machine, work: DiskWork) {
        let incarnation = self.incarnations[machine.0];
        let done = self.disks[machine.0].done(self.now, work);
        for (group, change) in &done.durable {
            self.became_durable(machine, *group, change);
        }
        if let Some((at, work)) = done.next {
            self.agenda.put(at, Due::Disk { machine, incarnation, work });
        }
        for event in done.events {
            // A crash between two of them ends the process that they are for.
            if self.incarnations[machine.0] == incarnation {
                self.deliver(machine, event);
            }
        }
    }

    fn became_durable(
        &mut self,
        machine: Machine,
        group: GroupId,
        change: &jetwake::command::LogChange,
    ) {
        self.ledger.durable(machine, group, change);
        self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
            Kind::Durable(crate::wording::durable(change))
        });
        self.look(machine, &Seen::Durable { group, change });
    }

    /// Hands an event to a machine's node and performs what it asks for; a paused process gets it
    /// when it goes on.
    fn deliver(&mut self, machine: Machine, event: Event) {
        let process = &mut self.processes[machine.0];
        if process.paused {
            process.held.push_back(event);
            return;
        }
        let Some(mut node) = process.node.take() else { return };
        if self.setup.digest {
            self.trace.add(self.now, machine, &event);
        }
        self.events += 1;
        let shown = process.clock.shows(self.now);
        self.tell_event(machine, &event);
        let before = self.standings(&node);
        node.handle(shown, event);
        self.tell_commits(machine, &node, &before);
        let lives = self.drain(machine, &mut node);
        self.tell_ended_catchups(machine, &node, &before);
        if lives {
            let slack = self.dice.duration(&(Duration::ZERO..self.setup.slack));
            let process = &mut self.processes[machine.0];
            process.note_deadline(self.now, node.deadline(), slack);
            process.events += 1;
            if process.events.is_multiple_of(LOOK_EVERY) {
                self.look_at_node(machine, &node);
            }
            self.processes[machine.0].node = Some(node);
        } else {
            self.crash_now(machine);
        }
    }

    /// Looks at what a node says of itself.
    fn look_at_node(&mut self, machine: Machine, node: &jetwake::node::Node) {
        for group in self.groups() {
            if let Some(status) = node.status(group) {
                self.look(machine, &Seen::Stands { group, status: &status });
            }
        }
        let checked = budget_at_zero::check(machine, node.catchup_bytes(), &self.setup.limits);
        if let Err(what) = checked {
            self.violate(BUDGET, what);
        }
    }

    /// How far a node's groups are committed, and whether they catch up, if that is told.
    fn standings(&self, node: &Node) -> Vec<(Index, bool)> {
        let told = self.record.keeps(Detail::Messages);
        let groups = (0..self.setup.groups.len() as u32).filter(|_| told).map(GroupId);
        groups
            .filter_map(|group| node.status(group))
            .map(|status| (status.commit, status.catching_up))
            .collect()
    }

    /// Tells what a node did not ask for, but decided.
    fn tell_commits(&mut self, machine: Machine, node: &Node, before: &[(Index, bool)]) {
        for (group, (commit, _)) in (0..).map(GroupId).zip(before) {
            if let Some(status) = node.status(group).filter(|status| status.commit > *commit) {
                self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
                    Kind::Committed(status.commit)
                });
            }
        }
    }

    /// As [`tell_commits`](Self::tell_commits), of catchups of the log.
    fn tell_ended_catchups(&mut self, machine: Machine, node: &Node, before: &[(Index, bool)]) {
        for (group, (_, catching_up)) in (0..).map(GroupId).zip(before) {
            if let Some(status) = node.status(group).filter(|s| *catching_up && !s.catching_up) {
                self.tell_at(Detail::Messages, Some(machine), Some(group), |_| {
                    Kind::CaughtUp(status.last.index)
                });
            }
        }
    }

    /// Performs a node's commands; false if it is to die before the next.
    fn drain(&mut self, machine: Machine, node: &mut Node) -> bool {
        while let Some(command) = node.poll() {
            if let Some(doom) = &mut self.processes[machine.0].doom {
                if doom.commands == 0 {
                    return false;
                }
                doom.commands -= 1;
            }
            let awaits = &mut self.processes[machine.0].dies_at_change;
            if let Some(death) = awaits.take_if(|death| death.change.is_asked_by(&command)) {
                // It is asked for and nothing that follows, or not even that.
                let doom = Doom { commands: 0, downtime: Some(death.downtime) };
                self.processes[machine.0].doom = Some(doom);
                if death.before {
                    return false;
                }
            }
            if self.setup.digest {
                self.trace.add(self.now, machine, &command);
            }
            self.look(machine, &Seen::Commanded(&command));
            self.perform(machine, command);
        }
        true
    }

    /// Lets every checker look.
    fn look(&mut self, machine: Machine, seen: &Seen<'_>) {
        let scene = Scene {
            peers: &self.peers,
            disks: &self.disks,
            incarnations: &self.incarnations,
            ledger: &self.ledger,
            inboxes: &self.inboxes,
        };
        let mut found = Vec::new();
        for checker in &mut self.checkers {
            if let Err(what) = checker.see(machine, seen, &scene) {
                found.push((checker.rule(), what));
            }
        }
        for (rule, what) in found {
            self.violate(rule, what);
        }
    }

    /// Takes down that a rule was broken.
    fn violate(&mut self, rule: &'static str, what: String) {
        let violation = Violation { at: self.now, rule, what };
        let what = violation.what.clone();
        self.tell(None, None, |_| Kind::Violated { rule, what });
        self.violations.push(violation);
    }

    /// Records what happens; it is put together only if it is kept.
    fn tell(
        &mut self,
        machine: impl Into<Option<Machine>>,
        group: impl Into<Option<GroupId>>,
        kind: impl FnOnce(&Self) -> Kind,
    ) {
        self.tell_at(Detail::Events, machine.into(), group.into(), kind);
    }

    fn tell_at(
        &mut self,
        detail: Detail,
        machine: Option<Machine>,
        group: Option<GroupId>,
        kind: impl FnOnce(&Self) -> Kind,
    ) {
        if self.record.keeps(detail) {
            let kind = kind(self);
            self.record.add(Happening { at: self.now, machine, group, kind });
        }
    }

    /// A text of a node's, with the names of servers in the place of their peer ids.
    pub(crate) fn spell(&self, text: &str) -> String {
        let peers = self.machines().into_iter().zip(&self.peers);
        peers.fold(text.into(), |text: String, (machine, peer)| {
            text.replace(&peer.to_string(), &machine.to_string())
        })
    }
}

fn clock(setup: &Setup, dice: &mut Dice) -> Clock {
    let skew = dice.duration(&(Duration::ZERO..setup.skew));
    let drift = dice.below(2 * u64::from(setup.drift) + 1) as i32 - setup.drift as i32;
    Clock::new(EPOCH + skew, drift)
}

/// A test that fails while a cluster stands prints the cluster's story.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() && self.record.keeps(Detail::Events) {
            eprintln!("{self}");
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.record)?;
        writeln!(f, "seed {}, {} events: {}", self.seed, self.events, self.coverage)?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

/// A command that a driver of this simulator does not know is a gap in the simulator.
fn unknown(command: &Command) -> ! {
    panic!("the simulator does not know the command {command:?}")
}
