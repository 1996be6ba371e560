//! The end of a run: the faults are over, the cluster comes to rest, and what it holds is held
//! against what the clients were told.

use std::collections::BTreeSet;

use bytes::Bytes;
use jetwake::command::Answer;
use jetwake::config::GroupKind;
use jetwake::event::{Request, Standing};
use jetwake::ids::{ByteCount, GroupId, GroupName, Index, Sequence};
use jetwake::raft::Status;
use jetwake::time::Duration;
use jetwake::wire::{ConsumerConfig, ConsumerState, RaftSnapshot};
use serde_json::Value;

use super::{BUDGET, Cluster, GLANCE};
use crate::checkers::acked_kept::{self, Contents};
use crate::checkers::replicas_identical::{self, Replica};
use crate::checkers::{
    batches_whole, budget_at_zero, dedupe_kept, deletes_identical, no_duplicates,
};
use crate::client::told;
use crate::history::History;
use crate::network::{Machine, NetworkConditions};
use crate::plain::PlainMachine;
use crate::record::Kind;
use crate::records::StreamMessage;

/// What is said of a cluster that does not come to rest.
const PROGRESS: &str = "progress once the faults are over";

/// How often a snapshot is asked for at the end, until it is the newest.
const SNAPSHOTS: usize = 5;
/// How often it is seen who is furthest behind, while somebody waits.
const LOOK_BEHIND: Duration = Duration::from_millis(20);
/// How often patience begins anew, at most.
const PATIENCES: u32 = 10;
/// How many messages are published once more to each leader at the end.
const KNOWN: usize = 5;

/// What a group must have reached after a while.
struct Goal {
    group: GroupId,
    /// What every replica must have applied.
    applied: Index,
    /// How often clients must have been told that something is stored.
    acknowledged: u64,
}

impl Cluster {
    /// Ends every fault: links whole and quick, disks sound, every process started and running.
    pub fn heal(&mut self) {
        self.tell(None, None, |_| Kind::Healed);
        self.members_rest = true;
        // The relief of bad weather may still come: what it finds as usual then is a fine network.
        self.setup.network = NetworkConditions {
            names_senders: self.network.conditions.names_senders,
            ..NetworkConditions::default()
        };
        self.network.conditions = self.setup.network.clone();
        self.network.muted.clear();
        for machine in self.machines() {
            self.network.hear_acks_of(machine);
            self.drift_clock(machine, 0);
        }
        self.mend();
        for client in &mut self.clients {
            client.plan.losses = 0;
        }
        for machine in self.machines() {
            let disk = &mut self.disks[machine.0];
            (disk.full, disk.fail_next_write) = (false, false);
            (disk.slowness, disk.store_slowness) = (1, 1);
            (disk.conditions.read_failures, disk.conditions.part_rot) = (0, 0);
            self.processes[machine.0].doom = None;
            self.processes[machine.0].dies_at_change = None;
            self.resume(machine);
            // A group that stood aside takes part again when an operator restarts its server.
            if self.disks[machine.0].has_failed() || self.stands_aside(machine) {
                self.crash(machine);
            }
            if !self.is_up(machine) {
                self.start(machine);
            }
        }
    }

    /// Whether a machine's node takes no part in one of its groups.
    pub fn stands_aside(&self, machine: Machine) -> bool {
        let process = &self.processes[machine.0];
        let Some(node) = process.node.as_ref().filter(|_| process.told_aside) else { return false };
        self.groups().any(|group| node.status(group).is_some_and(|status| status.aside.is_some()))
    }

    /// Whether a running member has all that it may ever have promised.
    pub fn is_whole(&self, machine: Machine, group: GroupId) -> bool {
        let node = self.processes[machine.0].node.as_ref();
        let status = node.and_then(|node| node.status(group));
        status.is_some_and(|status| status.role.is_some() && status.standing == Standing::Whole)
    }

    /// Every group.
    pub(super) fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..self.setup.groups.len() as u32).map(GroupId)
    }

    /// Ends every fault, waits until the cluster has come to rest with clients still at work, stops
    /// the clients, and checks all that must hold at the end; whether it holds.
    pub fn settle(&mut self) -> bool {
        self.heal();
        let patience = self.patience();
        // With writes going on there is nothing to compare yet, but there must be a leader, what is
        // published must be acknowledged, and what was there must get to every replica.
        self.rest("every group has a leader that all follow", patience, |cluster| {
            cluster.groups().all(|group| cluster.agrees(group))
        });
        self.rest("every member is whole", patience, |cluster| {
            cluster.groups().all(|group| {
                let members = cluster.members_of(group);
                members.into_iter().all(|machine| cluster.is_whole(machine, group))
            })
        });
        let goals: Vec<_> = self.groups().map(|group| self.goal(group)).collect();
        self.rest("every replica gets on, with clients at work", patience, |cluster| {
            goals.iter().all(|goal| cluster.reached(goal))
        });
        self.stop_clients();
        self.rest("every client has its answers", patience, Self::clients_are_done);
        self.rest("the replicas agree", patience, |cluster| {
            cluster.groups().all(|group| cluster.replicas_agree(group))
        });
        // Replicas that agree may lag alike: behind a new leader that has committed nothing yet, say.
        self.rest(
            "every member is healthy, all is committed, and the replicas agree",
            patience,
            |cluster| {
                let rests = |group| {
                    cluster.is_healthy(group)
                        && cluster.all_is_committed(group)
                        && cluster.replicas_agree(group)
                };
                cluster.groups().all(rests)
            },
        );
        if self.violations.is_empty() {
            self.check_end();
        }
        self.violations.is_empty()
    }

    /// What a group must have reached after a while, from here on.
    fn goal(&self, group: GroupId) -> Goal {
        let members = self.members_of(group).into_iter();
        let statuses = members.filter_map(|at| self.status(at, group));
        let active =
            |client: &crate::client::Client| client.plan.group == group && client.is_active();
        let acknowledged = self.histories[group.0 as usize].acknowledgements();
        let more = u64::from(self.clients.iter().any(active));
        Goal {
            group,
            applied: statuses.map(|status| status.commit).max().unwrap_or_default(),
            acknowledged: acknowledged + more,
        }
    }

    fn reached(&self, goal: &Goal) -> bool {
        let far = |at| {
            let status = self.status(at, goal.group);
            status.is_some_and(|status| status.applied >= goal.applied)
        };
        let history = &self.histories[goal.group.0 as usize];
        let members = self.members_of(goal.group);
        history.acknowledgements() >= goal.acknowledged && members.into_iter().all(far)
    }

    fn status(&self, machine: Machine, group: GroupId) -> Option<Status> {
        self.processes[machine.0].node.as_ref()?.status(group)
    }

    /// Settles.
    ///
    /// # Panics
    /// If a rule is broken.
    pub fn settle_soundly(&mut self) {
        self.settle();
        self.assert_sound();
    }

    /// Waits until it is so. Patience begins anew whenever who is furthest behind gets on, for a
    /// catchup of one message at a time takes as long as there are messages; but not for ever.
    fn rest(&mut self, what: &str, patience: Duration, so: impl Fn(&Self) -> bool) {
        let (from, at_most) = (self.now, self.now + patience * PATIENCES);
        let mut until = self.now + patience;
        // To see who is furthest behind costs more than most glances.
        let (mut furthest_behind, mut seen) = (self.furthest_behind(), self.now);
        let mut restarted = BTreeSet::new();
        while !so(self) && self.advance(until.min(self.now + GLANCE)) {
            self.restart_who_stands_aside(&mut restarted);
            if self.now < until.min(seen + LOOK_BEHIND) {
                continue;
            }
            let behind = self.furthest_behind();
            if behind != furthest_behind {
                // Whoever got on did so after it was seen last.
                until = at_most.min(seen + patience);
                furthest_behind = behind;
            }
            seen = self.now;
            if self.now >= until && !so(self) {
                let stand = self.describe_stand();
                let text = format!("waited from {from} until {until}, but not: {what}\n{stand}");
                self.violate(PROGRESS, text);
            }
        }
    }

    /// An operator starts a server again whose group stands aside: what went bad while faults struck is
    /// found when it is read, which may be late. Once, as who stands aside again does not come to rest.
    fn restart_who_stands_aside(&mut self, restarted: &mut BTreeSet<Machine>) {
        for machine in self.machines() {
            if self.stands_aside(machine) && restarted.insert(machine) {
                self.crash(machine);
                self.start(machine);
            }
        }
    }

    /// How far the member of each group is that has come least far: what it has applied, and how
    /// many messages it has.
    fn furthest_behind(&self) -> Vec<(Index, usize)> {
        let stand = |group| {
            let members = self.members_of(group).into_iter();
            members.map(move |at| {
                let applied = self.status(at, group).map(|status| status.applied);
                let store = self.disks[at.0].store(group);
                (applied.unwrap_or_default(), store.map_or(0, |store| store.messages().len()))
            })
        };
        self.groups().map(|group| stand(group).min().unwrap_or_default()).collect()
    }

    /// Where every replica stands, for a run that does not come to rest.
    pub fn describe_stand(&self) -> String {
        let mut lines = Vec::new();
        for group in self.groups() {
            for machine in self.machines() {
                let node = self.processes[machine.0].node.as_ref();
                let status = node.and_then(|node| node.status(group));
                let log = self.disks[machine.0].log(group);
                let log = log.map(|log| (log.base().get(), log.last().get()));
                let stand = status.map_or("is down".into(), |status| {
                    let role = status.aside.or(status.role.map(|role| format!("{role:?}")));
                    format!(
                        "{} in term {}, applied {}, committed {}, log {log:?}",
                        role.unwrap_or("opening".into()),
                        status.term,
                        status.applied,
                        status.commit
                    )
                });
                let store = self.disks[machine.0].store(group);
                let store = store.and_then(|store| Some((store.mark()?, store.messages().len())));
                let store = store.map_or(String::new(), |(mark, messages)| {
                    let (applied, first, last) = (mark.applied, mark.first, mark.last);
                    format!(", store {first}..={last} with {messages} messages, applied {applied}")
                });
                lines.push(format!("  {machine} {group}: {stand}{store}"));
            }
        }
        let unfinished: Vec<_> = self.clients.iter().map(|client| client.unfinished()).collect();
        lines.push(format!("  requests of clients without an answer: {unfinished:?}"));
        lines.join("\n")
    }

    /// Whether no member of a group has a record that it does not know to be committed.
    fn all_is_committed(&self, group: GroupId) -> bool {
        self.members_of(group).into_iter().all(|at| {
            let last = self.disks[at.0].log(group).map(|log| log.last());
            self.status(at, group)
                .is_some_and(|status| last.is_none_or(|last| status.commit >= last))
        })
    }

    /// Whether all replicas of a group look the same from above.
    fn replicas_agree(&self, group: GroupId) -> bool {
        match self.setup.groups[group.0 as usize] {
            GroupKind::Plain => {
                let machine = |at: &Machine| self.processes[at.0].machines.get(&group);
                let machines: Vec<_> = self.members_of(group).iter().map(machine).collect();
                machines.windows(2).all(|pair| match (pair[0], pair[1]) {
                    (Some(a), Some(b)) => a.applied() == b.applied(),
                    (a, b) => a.is_none() && b.is_none(),
                })
            }
            GroupKind::Stream(_) => {
                let store = |at: &Machine| {
                    let store = self.disks[at.0].store(group)?;
                    let mark = store.mark()?;
                    Some((mark.first, mark.last, store.messages().len()))
                };
                let stores: Vec<_> = self.members_of(group).iter().map(store).collect();
                stores.windows(2).all(|pair| pair[0] == pair[1])
            }
            GroupKind::Consumer(_) => {
                let applied = |at: &Machine| Some(self.status(*at, group)?.applied);
                let applied: Vec<_> = self.members_of(group).iter().map(applied).collect();
                applied.windows(2).all(|pair| pair[0] == pair[1])
            }
            // It keeps nothing but its log, of which other rules speak.
            GroupKind::Meta(_) => true,
        }
    }

    fn check_end(&mut self) {
        for group in self.groups() {
            let checked = match self.setup.groups[group.0 as usize].clone() {
                GroupKind::Plain => self.check_plain(group),
                GroupKind::Stream(_) => self.check_stream(group),
                GroupKind::Consumer(config) => self.check_consumer(group, &config),
                GroupKind::Meta(_) => Ok(()),
            };
            if let Err((rule, what)) = checked {
                self.violate(rule, what);
            }
        }
        // Whoever fell behind when the leaders changed is caught up with first.
        let patience = self.patience();
        self.rest("every catchup ends", patience, |cluster| {
            let nodes = cluster.processes.iter().filter_map(|process| process.node.as_ref());
            nodes.map(jetwake::node::Node::catchup_bytes).all(|bytes| bytes == 0)
        });
        for machine in self.machines() {
            let Some(node) = &self.processes[machine.0].node else { continue };
            if let Err(what) = budget_at_zero::check_end(machine, node.catchup_bytes()) {
                self.violate(BUDGET, what);
            }
        }
    }

    fn check_plain(&self, group: GroupId) -> Result<(), (&'static str, String)> {
        let none = PlainMachine::default();
        let machine = |at: Machine| self.processes[at.0].machines.get(&group).unwrap_or(&none);
        let members = self.members_of(group);
        for at in members.iter().copied() {
            let held = machine(at).entries();
            for publication in self.histories[group.0 as usize].committed() {
                if !held.contains_key(&publication.id) {
                    let id = publication.id.escape_ascii();
                    let what = format!("{at} lacks {id} of {group}, which was acknowledged");
                    return Err(("acknowledged entries are kept", what));
                }
            }
            if held != machine(members[0]).entries() {
                let what = format!("{at} has applied other entries of {group} than {}", members[0]);
                return Err(("replicas are identical", what));
            }
        }
        Ok(())
    }

    fn check_stream(&mut self, group: GroupId) -> Result<(), (&'static str, String)> {
        let mut replicas = Vec::new();
        for machine in self.members_of(group) {
            let contents = self.read_all(machine, group).map_err(|what| (PROGRESS, what))?;
            let state = self.read_state(machine, group).map_err(|what| (PROGRESS, what))?;
            let (state, digest) = state;
            replicas.push(Replica { machine, contents, state, digest });
        }
        for replica in &replicas {
            let history = &self.histories[group.0 as usize];
            acked_kept::check(replica.machine, &replica.contents, history)
                .map_err(|what| ("acknowledged messages are kept", what))?;
            no_duplicates::check(replica.machine, &replica.contents)
                .map_err(|what| ("no message is held twice", what))?;
            check_batches(replica, history).map_err(|what| ("batches are whole", what))?;
        }
        replicas_identical::check(&replicas).map_err(|what| ("replicas are identical", what))?;
        self.check_snapshots(group, &replicas).map_err(|what| ("deletes are identical", what))?;
        self.check_dedupe(group).map_err(|what| ("acknowledged ids are known", what))
    }

    /// Has each replica take a snapshot: all are in the same state, and in one that has all that was
    /// told.
    fn check_consumer(
        &mut self,
        group: GroupId,
        config: &ConsumerConfig,
    ) -> Result<(), (&'static str, String)> {
        let name = self.setup.group_name(group.0 as usize);
        let mut first = None;
        for machine in self.members_of(group) {
            let file = self.newest_snapshot(machine, group).map_err(|what| (PROGRESS, what))?;
            let state = match file {
                Some(file) => read_consumer(&file, &name)
                    .map_err(|what| (PROGRESS, format!("{machine} of {group}: {what}")))?,
                None => ConsumerState::default(),
            };
            let told = &self.histories[group.0 as usize].deliveries;
            told.check(config, &state)
                .map_err(|what| ("deliveries are kept", format!("{machine} of {group}: {what}")))?;
            let (one, same) = first.get_or_insert_with(|| (machine, state.clone()));
            if *same != state {
                let what = format!("{one} of {group} is in {same:?}, and {machine} in {state:?}");
                return Err(("replicas are identical", what));
            }
        }
        Ok(())
    }

    /// Has each replica take a snapshot, and holds it against what the replica holds.
    fn check_snapshots(&mut self, group: GroupId, replicas: &[Replica]) -> Result<(), String> {
        let name = self.setup.group_name(group.0 as usize);
        for Replica { machine, contents, .. } in replicas {
            // A stream in which nothing ever happened has nothing to take one of.
            if let Some(file) = self.newest_snapshot(*machine, group)? {
                deletes_identical::check(*machine, &file, &name, contents)?;
            }
        }
        Ok(())
    }

    /// The file of a snapshot of all that a replica has applied.
    fn newest_snapshot(
        &mut self,
        machine: Machine,
        group: GroupId,
    ) -> Result<Option<Bytes>, String> {
        let applied = self.status(machine, group).map(|status| status.applied).unwrap_or_default();
        let mut answer = None;
        // A request that comes while an older snapshot is under way is answered with that one.
        for _ in 0..SNAPSHOTS {
            let snapshot = self.disks[machine.0].log(group).and_then(|log| log.snapshot());
            match snapshot {
                Some(snapshot) if snapshot.index >= applied => {
                    return Ok(Some(snapshot.file.clone()));
                }
                None if applied == Index::ZERO => return Ok(None),
                _ => {}
            }
            answer = self.call(machine, group, Request::Snapshot, Duration::from_secs(10));
        }
        Err(format!("{machine} does not snapshot record {applied}, and answers {answer:?}"))
    }

    /// Lets each machine lead in turn, and publishes to it once more what was acknowledged.
    fn check_dedupe(&mut self, group: GroupId) -> Result<(), String> {
        let history = &self.histories[group.0 as usize];
        let known: Vec<_> = history.kept().collect();
        let step = (known.len() / KNOWN).max(1);
        let some: Vec<_> = known.into_iter().step_by(step).take(KNOWN).collect();
        if some.is_empty() {
            return Ok(());
        }
        for machine in self.members_of(group) {
            self.step_down(group, Some(machine));
            let patience = self.patience();
            self.rest("a leader is found after a transfer", patience, |c| c.agrees(group));
            let Some(leader) = self.leader(group) else { continue };
            self.coverage.add("leaders that hand over well", u64::from(leader == machine));
            for (number, place) in &some {
                let Some(message) = self.histories[group.0 as usize].publications().get(*number)
                else {
                    continue;
                };
                let id = message.id.escape_ascii().to_string();
                let request = Request::Publish {
                    subject: message.subject.clone(),
                    header: message.plain_header(),
                    payload: message.payload.clone(),
                };
                let answer = self.call(leader, group, request, Duration::from_secs(10));
                let told = answer.as_ref().map(told).ok_or_else(|| {
                    format!("{leader} does not answer when {id} is published once more")
                })?;
                self.coverage.count("known ids published once more");
                dedupe_kept::check(leader, &id, &told, *place)?;
            }
        }
        Ok(())
    }

    /// Reads a whole stream from one replica, page by page, as a client would.
    ///
    /// # Errors
    /// That the replica does not answer with messages.
    pub fn read_all(&mut self, machine: Machine, group: GroupId) -> Result<Contents, String> {
        let mut contents = Contents::new();
        let mut first = Some(Sequence::new(1));
        while let Some(from) = first {
            let request =
                Request::Read { first: from, most: 1_000, bytes: ByteCount::new(1 << 20) };
            let answer = self.call(machine, group, request, Duration::from_secs(10));
            let Some(Answer::Messages { messages, next }) = answer else {
                return Err(format!("{machine} answers a read from {from} with {answer:?}"));
            };
            for message in messages {
                let held = StreamMessage {
                    sequence: message.sequence,
                    timestamp: message.time.as_timestamp(),
                    subject: message.subject,
                    header: message.header,
                    payload: message.payload,
                };
                contents.insert(message.sequence, held);
            }
            if next.is_some_and(|next| next <= from) {
                return Err(format!("{machine} says to read on at {next:?} after {from}"));
            }
            first = next;
        }
        Ok(contents)
    }

    /// What a replica says of its stream: the `state` of upstream's stream info, and the digest.
    ///
    /// # Errors
    /// That it says nothing that can be understood.
    pub fn read_state(
        &mut self,
        machine: Machine,
        group: GroupId,
    ) -> Result<(Value, Value), String> {
        let answer = self.call(machine, group, Request::Info, Duration::from_secs(10));
        let Some(Answer::Json(json)) = &answer else {
            return Err(format!("{machine} answers a question for its state with {answer:?}"));
        };
        let info: Value = serde_json::from_slice(json)
            .map_err(|error| format!("{machine} says of its state what is not JSON: {error}"))?;
        match (info.get("state"), info.pointer("/jetwake/digest")) {
            (Some(state), Some(digest)) => Ok((state.clone(), digest.clone())),
            _ => Err(format!("{machine} says nothing of its state: {info}")),
        }
    }
}

fn read_consumer(file: &Bytes, name: &GroupName) -> Result<ConsumerState, String> {
    let snapshot = RaftSnapshot::decode(file, name).map_err(|error| error.to_string())?;
    let state = ConsumerState::decode(&snapshot.data).map_err(|error| error.to_string())?;
    Ok(state.0)
}

/// Every batch is whole, but for what clients asked to remove.
fn check_batches(replica: &Replica, history: &History) -> Result<(), String> {
    let held = replica.contents.iter();
    let ids = held.filter_map(|(sequence, held)| Some((*sequence, held.message_id()?))).collect();
    let known = Sequence::ZERO..=Sequence::MAX;
    batches_whole::check(&ids, &known, |at, id| history.may_lack(at, id))
        .map_err(|what| format!("{}: {what}", replica.machine))
}
