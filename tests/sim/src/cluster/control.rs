//! What a test or a fault does to a cluster: kills, cuts, pauses, requests; and waiting.

use jetwake::command::{Answer, Role};
use jetwake::event::{Event, Request};
use jetwake::ids::{GroupId, PeerId, RequestId};
use jetwake::node::Node;
use jetwake::time::{Duration, Time};

use super::{Asker, Cluster, Due, GLANCE, Pending};
use crate::checkers::Seen;
use crate::dice::Dice;
use crate::faults::Relief;
use crate::network::Machine;
use crate::process::{ChangeDoom, Doom};
use crate::record::Kind;
use crate::story::Detail;
use crate::wording;

impl Cluster {
    /// Starts a machine's process on what its disk holds.
    pub(super) fn start(&mut self, machine: Machine) {
        self.incarnations[machine.0] += 1;
        let incarnation = self.incarnations[machine.0];
        // Every start draws otherwise, as a driver that asks its system for a seed would have it.
        let of_start = u64::from(incarnation) << 8 | machine.0 as u64;
        let seed = Dice::new(self.seed ^ of_start.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bits();
        let config = self.setup.config(machine, seed);
        match Node::new(config) {
            Ok(node) => self.processes[machine.0].node = Some(node),
            Err(error) => return self.violate("a node starts", format!("{machine}: {error}")),
        }
        self.coverage.count("starts");
        self.tell(machine, None, |_| Kind::Started);
        for group in 0..self.setup.groups.len() {
            let group = GroupId(group as u32);
            let disk = self.disks[machine.0].opened(group);
            self.look(machine, &Seen::Started { group, opened: &disk });
            if self.incarnations[machine.0] == incarnation {
                self.deliver(machine, Event::Opened { group, disk });
            }
        }
        self.links_change();
    }

    /// Starts a machine that is down.
    pub fn restart(&mut self, machine: Machine) {
        assert!(!self.processes[machine.0].is_up(), "{machine} runs already");
        self.start(machine);
    }

    /// Kills a machine's process: what was not synced may be lost.
    pub fn crash(&mut self, machine: Machine) {
        if self.processes[machine.0].is_up() {
            self.crash_now(machine);
        }
    }

    /// Kills a machine's process after so many more commands.
    pub fn crash_after(&mut self, machine: Machine, doom: Doom) {
        if self.processes[machine.0].is_up() {
            self.processes[machine.0].doom = Some(doom);
        }
    }

    /// Kills a machine's process when it next asks for a change of a log of this kind.
    pub fn crash_at_change(&mut self, machine: Machine, death: ChangeDoom) {
        if self.processes[machine.0].is_up() {
            self.processes[machine.0].dies_at_change = Some(death);
        }
    }

    pub(super) fn crash_now(&mut self, machine: Machine) {
        let process = &mut self.processes[machine.0];
        let downtime = process.doom.and_then(|doom| doom.downtime);
        process.die();
        // Nothing that was begun for the dead process may reach the next one.
        self.incarnations[machine.0] += 1;
        self.requests.retain(|_, pending| pending.machine != machine);
        let wreck = self.disks[machine.0].crash();
        for (group, change) in &wreck.durable {
            self.became_durable(machine, *group, change);
        }
        self.coverage.count("crashes");
        self.coverage.add("log writes lost", wreck.lost_writes as u64);
        self.coverage.add("log writes that nobody was told of", wreck.durable.len() as u64);
        self.coverage.add("store writes lost", wreck.lost_stores as u64);
        let (lost_writes, lost_stores) = (wreck.lost_writes, wreck.lost_stores);
        self.tell(machine, None, |_| Kind::Crashed { lost_writes, lost_stores });
        if let Some(downtime) = downtime {
            self.agenda.put(self.now + downtime, Due::Restart(machine));
        }
        self.links_change();
    }

    /// Starts a machine again after a while, if it is down then.
    pub(crate) fn restart_after(&mut self, machine: Machine, downtime: Duration) {
        self.agenda.put(self.now + downtime, Due::Restart(machine));
    }

    /// A machine's process gets nothing done until it is resumed.
    pub fn pause(&mut self, machine: Machine) {
        if self.processes[machine.0].is_up() {
            self.coverage.count("pauses");
            self.tell(machine, None, |_| Kind::Paused);
            self.processes[machine.0].paused = true;
        }
    }

    /// A paused process goes on, and finds all that happened meanwhile.
    pub fn resume(&mut self, machine: Machine) {
        if !self.processes[machine.0].paused {
            return;
        }
        self.tell(machine, None, |_| Kind::Resumed);
        self.processes[machine.0].paused = false;
        let incarnation = self.incarnations[machine.0];
        for event in std::mem::take(&mut self.processes[machine.0].held) {
            if self.incarnations[machine.0] == incarnation {
                self.deliver(machine, event);
            }
        }
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: Machine, to: Machine) {
        self.coverage.count("links cut");
        self.tell(from, None, |_| Kind::Cut { to });
        self.network.cut(from, to);
        self.links_change();
    }

    /// Cuts a machine off in both directions.
    pub fn isolate(&mut self, machine: Machine) {
        let others: Vec<_> = self.machines().into_iter().filter(|to| *to != machine).collect();
        self.part(&[machine], &others);
    }

    /// Cuts every link between two sides.
    pub fn part(&mut self, one: &[Machine], other: &[Machine]) {
        for a in one {
            for b in other {
                self.cut(*a, *b);
                self.cut(*b, *a);
            }
        }
    }

    /// Mends every link.
    pub fn mend(&mut self) {
        self.tell(None, None, |_| Kind::Mended);
        self.network.mend_all();
        self.links_change();
    }

    /// Holds back what one machine sends to another, until it all arrives at once.
    pub fn clog(&mut self, from: Machine, to: Machine, lasts: Duration) {
        self.coverage.count("links clogged");
        self.tell(from, None, |_| Kind::Clogged { to, lasts });
        self.network.clog(from, to, self.now + lasts);
    }

    /// A machine's clock jumps ahead.
    pub fn jump_clock(&mut self, machine: Machine, by: Duration) {
        self.coverage.count("clock jumps");
        self.tell(machine, None, |_| Kind::ClockJumped { by });
        let process = &mut self.processes[machine.0];
        process.clock.jump(self.now, by);
        process.move_deadline(self.now);
    }

    /// A machine's clock runs too fast by so many parts per million, or too slow below zero, beyond
    /// what it does by itself; at minus a million it stands still.
    pub fn drift_clock(&mut self, machine: Machine, drift: i32) {
        if drift != 0 {
            self.coverage.count("clocks that drift or stand still");
            let what = format!("has a clock that runs {drift} parts per million too fast");
            self.tell(machine, None, |_| Kind::Fault(what));
        }
        let process = &mut self.processes[machine.0];
        process.clock.drift_more(self.now, drift);
        process.move_deadline(self.now);
    }

    /// Makes one direction of a link slow and narrow.
    pub fn slow_link(&mut self, from: Machine, to: Machine, delay: Duration, bytes: u64) {
        self.coverage.count("slow links");
        let what = format!("has a slow link to {to}: {delay:?} longer, {bytes} bytes a second");
        self.tell(from, None, |_| Kind::Fault(what));
        self.network.slow(from, to, delay, bytes);
    }

    /// Loses every acknowledgement of a stream's catchup that a machine sends.
    pub fn lose_acks(&mut self, machine: Machine) {
        self.note(Some(machine), "catchup peers that never acknowledge");
        self.network.lose_acks_of(machine);
    }

    /// Messages of any time before now arrive once more, within a while.
    pub fn replay_old_messages(&mut self, count: usize, within: Duration, dice: &mut Dice) {
        self.note(None, "replays of old messages");
        for _ in 0..count {
            let Some(envelope) = self.network.old_message(dice).cloned() else { return };
            let at = self.now + dice.duration(&(Duration::ZERO..within));
            self.coverage.count("old messages that come once more");
            self.agenda.put(at, Due::Arrival(envelope));
        }
    }

    /// What links do to messages from now on.
    pub fn network_mut(&mut self) -> &mut crate::network::Network {
        &mut self.network
    }

    fn links_change(&mut self) {
        let notice = Duration::from_millis(1)..Duration::from_millis(20);
        let at = self.now + self.dice.duration(&notice);
        self.agenda.put(at, Due::Links);
    }

    /// Tells each process whom it reaches, where that is not what it was told last.
    pub(super) fn tell_links(&mut self) {
        for machine in self.machines() {
            for other in self.machines() {
                if machine == other || !self.processes[machine.0].is_up() {
                    continue;
                }
                let cut =
                    self.network.is_cut(machine, other) && self.network.is_cut(other, machine);
                let reaches = self.processes[other.0].is_up() && !cut;
                let told = &mut self.processes[machine.0].told_connected[other.0];
                if *told != reaches {
                    *told = reaches;
                    let peer = self.processes[other.0].peer;
                    let event =
                        if reaches { Event::Connected(peer) } else { Event::Disconnected(peer) };
                    self.deliver(machine, event);
                }
            }
        }
    }

    /// The machine of this peer id.
    pub fn machine_of(&self, peer: PeerId) -> Option<Machine> {
        self.processes.iter().position(|process| process.peer == peer).map(Machine)
    }

    /// Who leads a group, as the one with the newest term says of itself.
    pub fn leader(&self, group: GroupId) -> Option<Machine> {
        let leads = |(at, process): (usize, &crate::process::Process)| {
            let (role, term, _) = process.roles.get(&group)?;
            (*role == Role::Leader && process.is_up()).then_some((*term, Machine(at)))
        };
        self.processes.iter().enumerate().filter_map(leads).max().map(|(_, machine)| machine)
    }

    /// The members of a group that run and do not lead it.
    pub fn followers(&self, group: GroupId) -> Vec<Machine> {
        let leader = self.leader(group);
        let follows = |machine: &Machine| Some(*machine) != leader && self.is_up(*machine);
        self.members_of(group).into_iter().filter(follows).collect()
    }

    /// Whether a machine's process runs.
    pub fn is_up(&self, machine: Machine) -> bool {
        self.processes[machine.0].is_up()
    }

    /// Hands a request to a machine's node at once; the number of the request.
    pub fn ask(&mut self, machine: Machine, group: GroupId, request: Request) -> RequestId {
        let id = self.next_request();
        self.hand_request(machine, id, group, request, Asker::Test);
        id
    }

    pub(super) fn next_request(&mut self) -> RequestId {
        self.requested += 1;
        RequestId::new(self.requested)
    }

    pub(super) fn hand_request(
        &mut self,
        machine: Machine,
        id: RequestId,
        group: GroupId,
        request: Request,
        asker: Asker,
    ) {
        let incarnation = self.incarnations[machine.0];
        let told = self.record.keeps(Detail::Messages);
        let asked = if told { wording::request(&request) } else { String::new() };
        self.tell_at(Detail::Messages, Some(machine), Some(group), |cluster| {
            Kind::Asked(cluster.spell(&asked))
        });
        self.requests.insert(id, Pending { machine, incarnation, group, asker, asked });
        self.deliver(machine, Event::Request { id, group, request });
    }

    /// The answer to a request, once it is there.
    pub fn answer_to(&self, id: RequestId) -> Option<&Answer> {
        self.answers.get(&id)
    }

    /// Asks a machine's node, and lets time pass until it answers; none if it does not in time.
    pub fn call(
        &mut self,
        machine: Machine,
        group: GroupId,
        request: Request,
        at_most: Duration,
    ) -> Option<Answer> {
        let id = self.ask(machine, group, request);
        let until = self.now + at_most;
        while !self.answers.contains_key(&id) {
            if !self.violations.is_empty() || !self.step(until) {
                break;
            }
        }
        self.answers.remove(&id)
    }

    /// Asks a machine to snapshot a group and compact its log: a stream by itself, a plain group
    /// with the state of its machine.
    pub fn snapshot(&mut self, machine: Machine, group: GroupId) {
        if !self.is_up(machine) {
            return;
        }
        self.coverage.count("snapshots asked for");
        let plain = self.processes[machine.0].machines.get(&group);
        match self.setup.groups[group.0 as usize] {
            jetwake::config::GroupKind::Plain => {
                let Some(plain) = plain.filter(|plain| plain.applied().get() > 0) else { return };
                let (index, data) = (plain.applied(), plain.snapshot());
                self.deliver(machine, Event::SnapshotTaken { group, index, data });
            }
            jetwake::config::GroupKind::Stream(_)
            | jetwake::config::GroupKind::Consumer(_)
            | jetwake::config::GroupKind::Meta(_) => {
                self.ask(machine, group, Request::Snapshot);
            }
        }
    }

    /// Whether this is a plain group.
    pub fn is_plain(&self, group: GroupId) -> bool {
        matches!(self.setup.groups[group.0 as usize], jetwake::config::GroupKind::Plain)
    }

    /// Asks the leader of a group to hand over.
    pub fn step_down(&mut self, group: GroupId, to: Option<Machine>) {
        if let Some(leader) = self.leader(group) {
            self.coverage.count("transfers asked for");
            self.tell(leader, group, |_| Kind::HandsOver { to });
            let to = to.map(|to| self.processes[to.0].peer);
            self.ask(leader, group, Request::StepDown { to });
        }
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// If a rule is broken meanwhile.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.advance(until);
        self.assert_sound();
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// If a rule is broken meanwhile, or it is not so in time.
    pub fn wait(&mut self, what: &str, at_most: Duration, so: impl Fn(&Self) -> bool) {
        let (from, until) = (self.now, self.now + at_most);
        while !so(self) {
            assert!(self.now < until, "waited from {from} until {until}, but not: {what}");
            self.advance(until.min(self.now + GLANCE));
            self.assert_sound();
        }
    }

    /// Lets time pass until a group has a leader that all running members follow.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_for_leader(&mut self, group: GroupId) -> Machine {
        let at_most = self.setup.timers.election_max * 10;
        self.wait("one leads and the others follow", at_most, |cluster| cluster.agrees(group));
        self.leader(group).expect("the members agree on their leader")
    }

    /// Whether every running member follows the same leader, which leads.
    pub fn agrees(&self, group: GroupId) -> bool {
        let Some(leader) = self.leader(group) else { return false };
        let peer = Some(self.processes[leader.0].peer);
        let status = |machine: Machine| self.processes[machine.0].node.as_ref()?.status(group);
        let Some(term) = status(leader).map(|status| status.term) else { return false };
        let members = self.members_of(group);
        members.into_iter().filter(|machine| self.is_up(*machine)).all(|machine| {
            status(machine).is_some_and(|status| {
                let leads = status.role == Some(Role::Leader);
                (status.leader, status.term, leads) == (peer, term, machine == leader)
            })
        })
    }

    /// That no rule was broken.
    ///
    /// # Panics
    /// With the first that was.
    pub fn assert_sound(&self) {
        if let Some(violation) = self.violations.first() {
            panic!("{violation}");
        }
    }

    /// How long a cluster with these timers may take to come to rest, all faults being over.
    pub fn patience(&self) -> Duration {
        let timers = &self.setup.timers;
        // Ten elections, and three catchups that each fall silent once.
        timers.election_max * 10
            + (timers.catchup_start + timers.catchup_silence + timers.catchup_retry) * 3
            + timers.log_catchup_stall * 10
    }

    /// Something ends after a while.
    pub(crate) fn relieve_after(&mut self, lasts: Duration, relief: Relief) {
        self.agenda.put(self.now + lasts, Due::Relief(relief));
    }

    /// What it began with.
    pub const fn setup(&self) -> &crate::setup::Setup {
        &self.setup
    }

    /// Counts a fault that strikes.
    pub(crate) fn count_fault(&mut self, fault: crate::faults::Fault) {
        self.coverage.count_fault(fault);
    }

    /// Counts and tells a fault that begins.
    pub(crate) fn note(&mut self, machine: Option<Machine>, what: &'static str) {
        self.coverage.count(what);
        self.tell(machine, None, |_| Kind::Fault(what.into()));
    }

    /// A moment so much later than now.
    pub fn after(&self, time: Duration) -> Time {
        self.now + time
    }
}
