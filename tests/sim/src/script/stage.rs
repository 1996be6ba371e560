//! The cluster that a script plays on.

use std::collections::BTreeMap;

use bytes::Bytes;
use jetwake::event::Request;
use jetwake::ids::{GroupId, RequestId, Sequence};
use jetwake::time::Duration;

use super::language::{Act, ClusterPlan, Expectation, Machines, Publish, Purge};
use super::{tables, telling::Teller};
use crate::client::{Told, told};
use crate::cluster::Cluster;
use crate::history::Publication;
use crate::network::Machine;
use crate::setup::Setup;
use crate::story::Detail;

/// The only group of a script.
pub(super) const GROUP: GroupId = GroupId(0);
/// How long what is on its way may take.
const DELIVERY: Duration = Duration::from_secs(60);
/// Election timers that do not run out by themselves while a script is watched.
const LONG: Duration = Duration::from_secs(600);

/// A cluster, and what its script needs to know of it.
#[derive(Debug)]
pub(super) struct Stage {
    cluster: Cluster,
    teller: Teller,
    /// How many happenings were told.
    told: usize,
    /// What clients asked and what the history must hear of the answer.
    asked: BTreeMap<RequestId, Asked>,
}

#[derive(Debug)]
enum Asked {
    Publish(usize),
    Delete(Sequence),
    Purge(Option<usize>),
}

impl Stage {
    pub(super) fn new(plan: &ClusterPlan) -> Self {
        let mut setup = match plan.stream {
            true => Setup::stream(plan.machines),
            false => Setup::plain(plan.machines),
        };
        let millis = |millis| Duration::from_millis(millis)..Duration::from_millis(millis);
        setup.network.delay = millis(1);
        (setup.disk.sync, setup.disk.take, setup.disk.load) = (millis(2), millis(0), millis(1));
        setup.disk.crash_keeps = Some(0);
        (setup.skew, setup.drift) = (Duration::ZERO, 0);
        (setup.slack, setup.applying) = (Duration::ZERO, Duration::ZERO);
        setup.detail = Detail::Messages;
        setup.founders = plan.founders;
        if !plan.own_timers {
            setup.timers.election_max = LONG;
        }
        if let Some(window) = plan.window {
            // A cache that holds nothing: what is fed is read from disk.
            setup.limits.log_catchup_in_flight = jetwake::ids::ByteCount::new(window);
            setup.limits.log_cache = jetwake::ids::ByteCount::new(1);
        }
        if let Some(part) = plan.part {
            setup.limits.snapshot_part = jetwake::ids::ByteCount::new(part);
            setup.limits.snapshot_parts_in_flight = jetwake::ids::ByteCount::new(2 * part);
        }
        let mut cluster = Cluster::new(plan.seed, setup);
        cluster.tell_links_now();
        Self { cluster, teller: Teller::new(plan.machines), told: 0, asked: BTreeMap::new() }
    }

    /// Has a machine elected, and lets everything arrive.
    pub(super) fn elect(&mut self, machine: Machine) -> Result<(), String> {
        self.act(Act::Campaign(machine))?;
        self.act(Act::Deliver)?;
        self.expect(&Expectation::Leader(Some(machine)))
    }

    /// The last line of the log of what happened since it was asked last, in which a leader says
    /// so.
    pub(super) fn outcome(&mut self) -> Option<String> {
        self.log().into_iter().rfind(|line| line.contains(" leads term "))
    }

    /// The log of what happened since it was asked last.
    pub(super) fn log(&mut self) -> Vec<String> {
        let record = self.cluster.record();
        let first = usize::try_from(record.left_out()).unwrap_or(usize::MAX);
        let lines = self.teller.tell(record.happenings().skip(self.told.saturating_sub(first)));
        self.told = first + record.happenings().len();
        lines
    }

    /// That no rule is broken.
    pub(super) fn sound(&self) -> Result<(), String> {
        match self.cluster.violations().first() {
            Some(violation) => Err(format!("a rule is broken: {violation}")),
            None => Ok(()),
        }
    }

    /// Heals every fault, compares the replicas, and checks what clients were told.
    pub(super) fn end(&mut self) -> Result<(), String> {
        self.cluster.end_soundly(GROUP);
        self.sound()
    }

    /// Does what a command says; the lines of a command that asks how things are, with the log
    /// before them.
    pub(super) fn perform(&mut self, act: Act) -> Result<Vec<String>, String> {
        let machines = self.cluster.machines().len();
        if let Some(stranger) = act.names().into_iter().find(|machine| machine.0 >= machines) {
            return Err(format!("there is no {stranger}: the cluster has {machines} machines"));
        }
        let table = match act {
            Act::Status => tables::status(&self.cluster),
            Act::Logs => tables::logs(&self.cluster),
            Act::Contents => tables::contents(&self.cluster),
            other => {
                self.act(other)?;
                self.hear_answers()?;
                return Ok(Vec::new());
            }
        };
        let mut lines = self.log();
        lines.extend(table);
        Ok(lines)
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        let cluster = &mut self.cluster;
        match act {
            Act::Campaign(machine) => cluster.campaign_now(machine)?,
            Act::Deliver => {
                if !cluster.deliver_all(DELIVERY) {
                    self.sound()?;
                    return Err(format!("something is on its way for more than {DELIVERY:?}"));
                }
            }
            Act::Wait(time) => {
                let until = cluster.after(time);
                cluster.advance(until);
            }
            Act::Publish(machine, publish) => self.publish(machine, &publish)?,
            Act::Delete(machine, sequence) => {
                cluster.history_mut(GROUP).ask_delete(sequence);
                self.ask(machine, Request::Delete { sequence }, Asked::Delete(sequence))?;
            }
            Act::Purge(machine, purge) => self.purge(machine, &purge)?,
            Act::Snapshot(machines) => {
                for machine in machines {
                    self.running(machine)?;
                    self.cluster.snapshot(machine, GROUP);
                }
            }
            Act::Transfer(to) => {
                if cluster.leader(GROUP).is_none() {
                    return Err("nobody leads, so nobody can hand over".into());
                }
                cluster.step_down(GROUP, to);
            }
            Act::Change(change) => {
                if cluster.change_membership(GROUP, change).is_none() {
                    return Err("nobody leads, so nobody can change the members".into());
                }
            }
            Act::Expect(expectation) => self.expect(&expectation)?,
            other => self.fault(other)?,
        }
        Ok(())
    }

    /// What happens to machines, links and disks.
    fn fault(&mut self, act: Act) -> Result<(), String> {
        let cluster = &mut self.cluster;
        match act {
            Act::Cut(one, other) => {
                cluster.cut(one, other);
                cluster.cut(other, one);
            }
            Act::CutOneWay(from, to) => cluster.cut(from, to),
            Act::Isolate(machine) => cluster.isolate(machine),
            Act::Mend => cluster.mend(),
            Act::Hold(from, to, lasts) => cluster.clog(from, to, lasts),
            Act::Crash(machines) => {
                for machine in self.named(machines) {
                    self.running(machine)?;
                    self.cluster.crash(machine);
                }
            }
            Act::Restart(machines) => {
                for machine in self.named(machines) {
                    if self.cluster.is_up(machine) {
                        return Err(format!("{machine} runs already"));
                    }
                    self.cluster.restart(machine);
                }
            }
            Act::Pause(machine) => {
                self.running(machine)?;
                self.cluster.pause(machine);
            }
            Act::Resume(machine) => cluster.resume(machine),
            Act::FullDisk(machine) => cluster.disk_mut(machine).full = true,
            Act::FreeDisk(machine) => cluster.disk_mut(machine).full = false,
            Act::FailFsync(machine) => cluster.disk_mut(machine).fail_next_write = true,
            Act::SlowDisk(machine, times) => cluster.disk_mut(machine).slowness = times,
            other => return Err(format!("{other:?} cannot be done here")),
        }
        self.cluster.tell_links_now();
        Ok(())
    }

    fn named(&self, machines: Machines) -> Vec<Machine> {
        match machines {
            Machines::All => self.cluster.machines(),
            Machines::These(machines) => machines,
        }
    }

    fn running(&self, machine: Machine) -> Result<(), String> {
        if self.cluster.is_up(machine) { Ok(()) } else { Err(format!("{machine} is down")) }
    }

    fn ask(&mut self, machine: Machine, request: Request, asked: Asked) -> Result<(), String> {
        self.running(machine)?;
        let id = self.cluster.ask(machine, GROUP, request);
        self.asked.insert(id, asked);
        Ok(())
    }

    fn publish(&mut self, machine: Machine, publish: &Publish) -> Result<(), String> {
        let id = publish.id.as_ref().unwrap_or(&publish.text);
        let payload = Bytes::from(publish.text.clone());
        let subject = Bytes::from(publish.subject.clone());
        let header = header(id, publish);
        let id = Bytes::from(id.clone());
        let history = self.cluster.history_mut(GROUP);
        let number = match history.by_id(&id) {
            Some((number, _)) => number,
            None => history.publish(Publication {
                id,
                subject: subject.clone(),
                header: header.clone(),
                payload: payload.clone(),
            }),
        };
        let request = Request::Publish { subject, header, payload };
        self.ask(machine, request, Asked::Publish(number))
    }

    fn purge(&mut self, machine: Machine, purge: &Purge) -> Result<(), String> {
        let filter = Bytes::from(purge.subject.clone());
        let below = if purge.below == 0 { Sequence::MAX } else { Sequence::new(purge.below) };
        let number = self.cluster.history_mut(GROUP).ask_purge(filter.clone(), below);
        // What is kept of a purge, the history does not know: then nothing must be gone.
        let asked = Asked::Purge((purge.keep == 0 && purge.below > 0).then_some(number));
        let before = Sequence::new(purge.below);
        self.ask(machine, Request::Purge { filter, before, keep: purge.keep }, asked)
    }

    /// Takes down what clients were told.
    fn hear_answers(&mut self) -> Result<(), String> {
        let answered: Vec<_> = self
            .asked
            .keys()
            .filter_map(|id| self.cluster.answer_to(*id).map(|answer| (*id, told(answer))))
            .collect();
        for (id, told) in answered {
            let history = self.cluster.history_mut(GROUP);
            match (self.asked.remove(&id), told) {
                (Some(Asked::Publish(number)), Told::Committed(_)) => {
                    history.commit(number);
                }
                (Some(Asked::Publish(number)), Told::Acknowledged { sequence, .. }) => {
                    history.acknowledge(number, sequence)?;
                }
                (Some(Asked::Delete(sequence)), Told::Done) => history.deleted(sequence),
                (Some(Asked::Purge(Some(number))), Told::Done) => history.purged(number),
                _ => {}
            }
        }
        Ok(())
    }

    fn expect(&self, expectation: &Expectation) -> Result<(), String> {
        let cluster = &self.cluster;
        let running = || cluster.machines().into_iter().filter(|machine| cluster.is_up(*machine));
        match expectation {
            Expectation::Leader(expected) => {
                let leads = tables::leader(cluster);
                let name = |one: Option<Machine>, nobody: &str| {
                    one.map_or(nobody.to_string(), |one| one.to_string())
                };
                if leads != *expected {
                    let (expected, leads) = (name(*expected, "nobody"), name(leads, "nobody"));
                    return Err(format!("expected {expected} to lead, but {leads} does"));
                }
            }
            Expectation::Members(expected) => {
                let found = tables::settled_members(cluster);
                if found.as_ref() != Some(expected) {
                    let name = |machines: &[Machine]| {
                        machines.iter().map(Machine::to_string).collect::<Vec<_>>().join(" ")
                    };
                    let found = found.map_or("none that are settled".into(), |found| name(&found));
                    let expected = name(expected);
                    return Err(format!("expected the members {expected}, but found {found}"));
                }
            }
            Expectation::Aside(machine) if !cluster.stands_aside(*machine) => {
                return Err(format!("expected {machine} to stand aside, but it takes part"));
            }
            Expectation::CatchingUp(machine) if !tables::is_catching_up(cluster, *machine) => {
                return Err(format!("expected {machine} to be catching up, but it is not"));
            }
            Expectation::Alike => {
                let mut all = running().map(|machine| (machine, tables::state(cluster, machine)));
                if let Some((first, state)) = all.next()
                    && let Some((other, _)) = all.find(|(_, other)| *other != state)
                {
                    return Err(format!("expected all to be alike, but {other} is not as {first}"));
                }
            }
            Expectation::Kept(text) => {
                let lacks = running().find(|machine| !tables::has_applied(cluster, *machine, text));
                if let Some(machine) = lacks {
                    return Err(format!(
                        "expected {text:?} to be applied by {machine}, but it is not"
                    ));
                }
            }
            Expectation::Lost(text) => {
                let mut all = cluster.machines().into_iter();
                if let Some(machine) = all.find(|machine| tables::holds(cluster, *machine, text)) {
                    return Err(format!("expected {text:?} to be nowhere, but {machine} holds it"));
                }
            }
            Expectation::Aside(_) | Expectation::CatchingUp(_) => {}
        }
        Ok(())
    }
}

fn header(id: &str, publish: &Publish) -> Bytes {
    let expected = |name: &str, value: Option<String>| {
        value.map_or(String::new(), |value| format!("Nats-Expected-Last-{name}: {value}\r\n"))
    };
    let last = expected("Sequence", publish.last.map(|last| last.to_string()));
    let of = expected("Subject-Sequence", publish.last_of_subject.map(|last| last.to_string()));
    let last_id = expected("Msg-Id", publish.last_id.clone());
    Bytes::from(format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n{last}{of}{last_id}\r\n"))
}
