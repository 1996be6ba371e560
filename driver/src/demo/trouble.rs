//! What happens to the nodes while the client publishes: kills, deletes, a snapshot, restarts.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use jetwake::command::Answer;
use jetwake::event::Request;
use jetwake::ids::Sequence;
use jetwake::wire::ApiError;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::DemoError;
use super::course::{Course, FOLLOWER_KILLED, FOLLOWER_RESTARTED, LEADER_KILLED};
use super::nodes::{Nodes, SERVERS};
use super::record::{DELETED_EVERY, Record};
use super::replica::{Catchup, View};
use super::story::{Story, spoken};
use super::workload::{STREAM, subject};
use crate::client::{Client, ClientError, refusal};
use crate::clock::Clock;

/// How long one step may take that does not grow with the number of messages, and how long one
/// that does may go without progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a node is asked how far it is.
const LOOK: Duration = Duration::from_millis(25);
/// How long to rest before something is tried again.
const REST: Duration = Duration::from_millis(20);
/// How often a node is started again whose port another program has for a moment.
const STARTS: usize = 20;
/// Deletes that are open at a time.
const DELETES: usize = 256;
/// The subject that is purged, by its place.
const PURGED: u64 = 13;

/// Does all that to the nodes.
#[derive(Clone, Copy)]
pub(super) struct Trouble<'a> {
    pub(super) clock: Clock,
    pub(super) story: &'a Story,
    pub(super) nodes: &'a Nodes,
    pub(super) course: &'a Course,
    pub(super) record: &'a RefCell<Record>,
}

/// What was measured of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    /// The stream's catchup of the follower that was away.
    pub(super) catchup: Catchup,
    /// How long nobody acknowledged anything after the leader was killed.
    pub(super) failover: Duration,
}

impl Trouble<'_> {
    /// Runs until all nodes are back and have what there is.
    pub(super) async fn run(self) -> Result<Measured, DemoError> {
        let follower = self.lose_follower().await?;
        self.course.reaches(self.course.share(FOLLOWER_RESTARTED)).await?;
        self.remove_and_compact(follower).await?;
        let catchup = self.bring_follower_back(follower).await?;
        self.course.reaches(self.course.share(LEADER_KILLED)).await?;
        let failover = self.lose_leader().await?;
        Ok(Measured { catchup, failover })
    }

    async fn lose_follower(&self) -> Result<usize, DemoError> {
        self.course.reaches(self.course.share(FOLLOWER_KILLED)).await?;
        let leader = self.leader("finding a follower").await?.server().to_owned();
        let follower = SERVERS.iter().position(|server| *server != leader).unwrap_or(0);
        self.nodes.kill(follower);
        self.course.follower_away(self.clock.now());
        let acked = HumanCount(self.course.acked());
        let server = SERVERS[follower];
        self.story.line(&format!(
            "killed {server}, a follower of {leader}, with SIGKILL after {acked} messages; \
             publishing goes on"
        ));
        self.nodes.gone(follower).await?;
        Ok(follower)
    }

    /// Makes sure that neither the log nor the messages that are there still help the follower.
    async fn remove_and_compact(&self, away: usize) -> Result<(), DemoError> {
        let through = self.course.highest.get();
        let deleted = self.delete_all(through).await?;
        self.record.borrow_mut().deleted(through);
        let count = HumanCount(deleted);
        self.story.line(&format!("deleted every {DELETED_EVERY}th message: {count} of them"));

        let before = self.course.highest.get() + 1;
        let subject = subject(PURGED);
        let purge =
            Request::Purge { filter: subject.clone(), before: Sequence::new(before), keep: 0 };
        let (_, answer) = self.ask_leader("purging a subject", &purge).await?;
        self.record.borrow_mut().purged(PURGED, before);
        let purged = answer.get("purged").and_then(Value::as_u64).unwrap_or_default();
        let (count, subject) = (HumanCount(purged), String::from_utf8_lossy(&subject).into_owned());
        self.story.line(&format!("purged the subject {subject}: {count} messages"));

        let (leader, _) = self.ask_leader("taking a snapshot", &Request::Snapshot).await?;
        // The other one may lead before the follower is back: its log must not help either.
        let other = (0..SERVERS.len()).find(|node| *node != away && SERVERS[*node] != leader);
        if let Some(other) = other {
            let step = format!("{}: taking a snapshot", SERVERS[other]);
            let mut client = ready(self.nodes, other).await?;
            client.snapshot(STREAM).await.map_err(|error| hung(&step, error.to_string()))?;
        }
        self.story.line(&format!(
            "{leader} took a snapshot and compacted its log, which alone helps nobody any more; \
             the other node did too"
        ));
        Ok(())
    }

    async fn bring_follower_back(&self, follower: usize) -> Result<Catchup, DemoError> {
        let server = SERVERS[follower];
        let (mut client, first) = self.bring_back(follower).await?;
        let catchup = self.follow(&mut client, server, first).await?;
        self.course.follower_back();
        let (messages, bytes) = (HumanCount(catchup.done), HumanBytes(catchup.bytes));
        let took = spoken(Duration::from_millis(catchup.milliseconds));
        self.story.line(&format!(
            "{server} is current: its stream's catchup brought {messages} messages and deletes, \
             {bytes}, in {took}"
        ));
        Ok(catchup)
    }

    async fn lose_leader(&self) -> Result<Duration, DemoError> {
        let named = self.course.leader.borrow().clone().unwrap_or_default();
        let Some(leader) = SERVERS.iter().position(|server| *server == named) else {
            return Err(DemoError::Input(format!("{named:?} leads, which is no node of the demo")));
        };
        self.nodes.kill(leader);
        self.course.leader_killed(self.clock.now());
        let acked = HumanCount(self.course.acked());
        self.story.line(&format!(
            "killed {named}, the leader, with SIGKILL in the middle of publishing, after {acked} \
             messages"
        ));
        let failover = timeout(PATIENCE, self.course.failed_over()).await;
        let failover = failover.map_err(|_| hung("failing over", "no acknowledgement".into()))?;
        let next = self.course.leader.borrow().clone().unwrap_or_default();
        let took = spoken(failover);
        self.story.line(&format!(
            "{next} leads now; its first acknowledgement came {took} after the kill"
        ));
        self.nodes.gone(leader).await?;
        let (mut client, first) = self.bring_back(leader).await?;
        self.follow(&mut client, &named, first).await?;
        self.story.line(&format!("{named} is current, as a follower"));
        Ok(failover)
    }

    /// Starts a node again on its old disk, and waits until it has read it.
    async fn bring_back(&self, node: usize) -> Result<(Client, View), DemoError> {
        let (server, begun) = (SERVERS[node], self.clock.now());
        let step = format!("starting {server} again");
        let mut client = self.restart(node).await?;
        let (mut seen, mut changed) = (View::default(), begun);
        loop {
            let now = view(&mut client, STREAM, &step).await?;
            if now.open {
                let behind = HumanCount(self.course.highest.get().saturating_sub(now.last));
                let (has, took) = (HumanCount(now.messages), self.clock.now().since(begun));
                let took = spoken(took);
                self.story.line(&format!(
                    "started {server} again: {took} later it has read its old disk, with {has} \
                     messages, and is {behind} behind"
                ));
                return Ok((client, now));
            }
            if now != seen {
                (seen, changed) = (now, self.clock.now());
            } else if self.clock.now().since(changed) > PATIENCE {
                let how = format!("{server} stands still, with {} messages read", now.messages);
                return Err(hung(&step, how));
            }
            sleep(LOOK).await;
        }
    }

    /// Starts a node again, and connects to it.
    async fn restart(&self, node: usize) -> Result<Client, DemoError> {
        for _ in 1..STARTS {
            self.nodes.start(node)?;
            match ready(self.nodes, node).await {
                Err(error) if Nodes::port_taken(&error) => self.nodes.gone(node).await?,
                done => return done,
            }
            sleep(REST).await;
        }
        self.nodes.start(node)?;
        ready(self.nodes, node).await
    }

    /// Watches a node until it has what was acknowledged a moment ago; tells of its catchup.
    async fn follow(
        &self,
        client: &mut Client,
        server: &str,
        first: View,
    ) -> Result<Catchup, DemoError> {
        let step = format!("catching {server} up");
        let mut bar = self.story.bar(&format!("{server} catches up"), self.course.highest.get());
        let (mut seen, mut changed, mut phase) = (first, self.clock.now(), String::new());
        loop {
            let goal = self.course.highest.get();
            sleep(LOOK).await;
            let now = view(client, STREAM, &step).await?;
            bar.set_whole(self.course.highest.get());
            bar.set(now.last);
            if let Some(catchup) = &now.catchup
                && catchup.phase != phase
            {
                phase.clone_from(&catchup.phase);
                let left = HumanCount(catchup.left);
                self.story.line(&format!("{server}: catchup {phase}, {left} left"));
            }
            if now.last >= goal && !now.is_catching_up() {
                return Ok(now.catchup.unwrap_or_default());
            }
            if now != seen {
                (seen, changed) = (now, self.clock.now());
            } else if self.clock.now().since(changed) > PATIENCE {
                let left = goal.saturating_sub(now.last);
                let how = format!("{server} stands still, {left} messages behind; {phase}");
                return Err(hung(&step, how));
            }
        }
    }

    async fn leader(&self, step: &str) -> Result<Client, DemoError> {
        let (nodes, access) = (self.nodes.addresses(), self.nodes.access());
        Client::connect_to_leader(&nodes, access, STREAM, PATIENCE)
            .await
            .map_err(|why| client_error(step, why))
    }

    /// Asks the leader, whoever that is, until it answers.
    async fn ask_leader(
        &self,
        step: &str,
        request: &Request,
    ) -> Result<(String, Value), DemoError> {
        let asked = async {
            loop {
                let mut client = self.leader(step).await?;
                match client.request_json(STREAM, request).await {
                    Ok(answer) => return Ok((client.server().to_owned(), answer)),
                    Err(ClientError::Refused(error)) if !passes(&error) => {
                        return Err(DemoError::Refused { what: step.into(), why: error });
                    }
                    Err(_) => sleep(REST).await,
                }
            }
        };
        let asked = timeout(PATIENCE, asked).await;
        asked.unwrap_or_else(|_| Err(hung(step, "the leader does not answer".into())))
    }

    /// Deletes every so many messages up to a sequence; how many.
    async fn delete_all(&self, through: u64) -> Result<u64, DemoError> {
        const STEP: &str = "deleting messages";
        let mut deletes = Deletes {
            todo: (1..=through / DELETED_EVERY).map(|n| n * DELETED_EVERY).collect(),
            open: BTreeSet::new(),
            again: BTreeSet::new(),
        };
        let count = deletes.todo.len() as u64;
        let bar = self.story.bar("deleting", count);
        while !deletes.is_done() {
            let mut client = self.leader(STEP).await?;
            while !deletes.is_done() {
                let goes_on = timeout(PATIENCE, deletes.advance(&mut client)).await;
                let node = || hung(STEP, format!("{} does not answer", client.server()));
                if !goes_on.map_err(|_| node())?? {
                    break;
                }
                bar.set(count - deletes.left());
            }
            deletes.give_back();
        }
        Ok(count)
    }
}

/// Deletes that are not done.
struct Deletes {
    todo: VecDeque<u64>,
    open: BTreeSet<u64>,
    /// Those that were asked for before, and may be done.
    again: BTreeSet<u64>,
}

impl Deletes {
    fn is_done(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> u64 {
        (self.todo.len() + self.open.len()) as u64
    }

    /// What was asked for and not answered must be asked for again.
    fn give_back(&mut self) {
        self.again.extend(self.open.iter().copied());
        self.todo.extend(std::mem::take(&mut self.open));
    }

    /// Asks for more and takes answers; whether this node is still the one to ask.
    async fn advance(&mut self, client: &mut Client) -> Result<bool, DemoError> {
        while self.open.len() < DELETES
            && let Some(number) = self.todo.pop_front()
        {
            self.open.insert(number);
            let request = Request::Delete { sequence: Sequence::new(number) };
            if client.submit(number, STREAM, &request).is_err() {
                return Ok(false);
            }
        }
        let mut answers = Vec::new();
        if client.answers(&mut answers).await.is_err() {
            return Ok(false);
        }
        let mut leads = true;
        for answered in answers {
            let Answer::Json(json) = &answered.answer else { continue };
            match refusal(json) {
                Some(error) if passes(&error) => leads = false,
                Some(why) if !self.again.contains(&answered.id) => {
                    let what = format!("deleting message {}", answered.id);
                    return Err(DemoError::Refused { what, why });
                }
                // Asked for again, and gone already: the read at the end shows whether it is.
                _ => drop(self.open.remove(&answered.id)),
            }
        }
        if !leads {
            sleep(REST).await;
        }
        Ok(leads)
    }
}

/// Waits until a node that was started answers.
pub(super) async fn ready(nodes: &Nodes, node: usize) -> Result<Client, DemoError> {
    let server = SERVERS[node];
    let step = format!("starting {server}");
    let (address, mut last) = (nodes.address(node), String::new());
    let connected = timeout(PATIENCE, async {
        loop {
            nodes.check(node)?;
            match Client::connect(&address, nodes.access()).await {
                Ok(client) => return Ok(client),
                Err(error) => last = error.to_string(),
            }
            sleep(REST).await;
        }
    });
    let client = connected.await.unwrap_or_else(|_| Err(hung(&step, last)))?;
    nodes.expect(node);
    Ok(client)
}

/// What a node says of its replica of a stream.
pub(super) async fn view(client: &mut Client, stream: &str, step: &str) -> Result<View, DemoError> {
    let server = client.server().to_owned();
    loop {
        match timeout(PATIENCE, client.info(stream)).await {
            Ok(Ok(info)) => return Ok(View::from_json(&info)),
            Ok(Err(ClientError::Refused(error))) if passes(&error) => sleep(REST).await,
            Ok(Err(why)) => return Err(client_error(step, why)),
            Err(_) => return Err(hung(step, format!("{server} does not answer"))),
        }
    }
}

/// Whether another node, or the same a little later, may do what this one refused.
pub(super) fn passes(error: &ApiError) -> bool {
    error.is(&ApiError::CLUSTER_NOT_LEADER)
        || error.is(&ApiError::CLUSTER_NOT_AVAIL)
        || error.is(&ApiError::INSUFFICIENT_RESOURCES)
}

pub(super) fn client_error(step: &str, why: ClientError) -> DemoError {
    DemoError::Client { step: step.into(), why }
}

pub(super) fn hung(step: &str, how: String) -> DemoError {
    DemoError::Hung { step: step.into(), patience: PATIENCE, how }
}
