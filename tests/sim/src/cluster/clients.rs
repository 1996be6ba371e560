//! The way between clients and nodes: whom they ask, what gets lost, what they remember.

use jetwake::command::Message;
use jetwake::event::Request;
use jetwake::ids::{GroupId, RequestId, Sequence};
use jetwake::time::Duration;

use super::{Asker, Cluster, Due};
use crate::checkers::batches_whole;
use crate::client::{Client, ClientPlan, Task, Told};
use crate::deliveries::Step;
use crate::dice::PerMillion;
use crate::history::History;
use crate::network::Machine;
use crate::record::Kind;
use crate::story::Detail;

/// How long a client rests between two messages of a batch, at most.
const WITHIN_BATCH: Duration = Duration::from_millis(4);
/// How likely whoever publishes a batch, or does anything else, asks somebody who may not lead.
const STRAYS: [PerMillion; 2] = [5_000, 50_000];
/// What is said of a batch that may go through when it is sent again: nobody is there who could take it,
/// or it is being stored. What is said of any other is the same the next time.
const MAY_GO_THROUGH: [u64; 4] = [10_008, 10_009, 10_023, 10_158];

impl Cluster {
    /// A client begins; its number.
    pub fn add_client(&mut self, plan: ClientPlan) -> usize {
        let number = self.clients.len();
        let dice = self.dice.fork();
        self.clients.push(Client::new(number, plan, dice));
        self.agenda.put(self.now, Due::ClientActs(number));
        number
    }

    /// A client, to change what it does.
    pub fn client_mut(&mut self, client: usize) -> &mut Client {
        &mut self.clients[client]
    }

    /// Whether every client has an answer to all that it asked.
    pub fn clients_are_done(&self) -> bool {
        self.clients.iter().all(|client| client.unfinished() == 0)
    }

    pub(super) fn client_acts(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let group = client.plan.group.0 as usize;
        let interval = client.plan.interval;
        if let Some(task) = client.next_task(&mut self.histories[group]) {
            self.client_asks(number, task);
        }
        if !self.clients[number].stopped {
            let gathers = self.clients[number].is_gathering();
            let rest = if gathers { interval.min(WITHIN_BATCH) } else { interval };
            self.agenda.put(self.now + rest, Due::ClientActs(number));
        }
    }

    /// Stops a client from beginning anything new; what it began, it ends.
    pub fn stop_client(&mut self, client: usize) {
        self.clients[client].stopped = true;
    }

    /// Stops every client.
    pub fn stop_clients(&mut self) {
        (0..self.clients.len()).for_each(|client| self.stop_client(client));
    }

    fn client_asks(&mut self, number: usize, task: Task) {
        let id = self.next_request();
        let machine = self.whom_to_ask(number, task);
        let client = &mut self.clients[number];
        let group = client.plan.group;
        let request = client.request(task, &self.histories[group.0 as usize]);
        client.asked(id, task);
        let losses = client.plan.losses;
        let travels = travel(client);
        let lost = client.dice().chance(losses);
        self.agenda
            .put(self.now + self.clients[number].plan.timeout, Due::ClientGivesUp(number, id));
        if matches!(task, Task::Publish(_)) {
            self.coverage.count("publishes sent");
        }
        if !lost {
            self.agenda.put(self.now + travels, Due::Request { machine, id, group, request });
        }
    }

    /// The leader, as far as the client was told; now and then anybody.
    fn whom_to_ask(&mut self, number: usize, task: Task) -> Machine {
        let group = self.clients[number].plan.group;
        let anywhere = matches!(task, Task::Read(_) | Task::Forward(_));
        let leader = self.leader(group).filter(|_| !anywhere);
        let machines = self.setup.machines;
        let dice = self.clients[number].dice();
        let anybody = Machine(dice.place(machines));
        let strays = STRAYS[usize::from(!matches!(task, Task::Member { .. }))];
        if dice.chance(strays) { anybody } else { leader.unwrap_or(anybody) }
    }

    pub(super) fn request_arrives(
        &mut self,
        machine: Machine,
        id: RequestId,
        group: GroupId,
        request: Request,
    ) {
        // Only clients' requests travel; who is not waited for any more still gets there.
        let Some(client) = self.clients.iter().position(|client| client.has_asked(id)) else {
            return;
        };
        if self.is_up(machine) {
            self.hand_request(machine, id, group, request, Asker::Client(client));
        } else {
            let travels = travel(&mut self.clients[client]);
            self.agenda.put(self.now + travels, Due::ClientRefused(client, id));
        }
    }

    pub(super) fn answer_travels(&mut self, number: usize, id: RequestId, told: Told) {
        let client = &mut self.clients[number];
        let losses = client.plan.losses;
        let travels = travel(client);
        if !client.dice().chance(losses) {
            self.agenda.put(self.now + travels, Due::ClientHears(number, id, told));
        }
    }

    pub(super) fn client_gives_up(&mut self, number: usize, id: RequestId) {
        if let Some(task) = self.clients[number].give_up(id) {
            self.coverage.count("requests given up");
            self.ask_again(number, task, None);
        }
    }

    /// What must be done is asked again after a rest; a delete or a read is let go.
    fn ask_again(&mut self, number: usize, task: Task, code: Option<u64>) {
        if let Task::Member { batch, commits, .. } = task {
            let client = &mut self.clients[number];
            client.leaves(batch);
            let may_go_through = code
                .is_none_or(|code| MAY_GO_THROUGH.contains(&code) && client.bears_refusal(batch));
            if commits && may_go_through {
                client.sends_again(batch);
            }
        }
        if matches!(task, Task::Publish(_)) {
            let client = &mut self.clients[number];
            client.rests();
            let backoff = client.plan.backoff;
            let rest = backoff + client.dice().duration(&(Duration::ZERO..backoff));
            self.agenda.put(self.now + rest, Due::ClientRetries(number, task));
        }
    }

    pub(super) fn client_retries(&mut self, number: usize, task: Task) {
        self.clients[number].rested();
        self.client_asks(number, task);
    }

    pub(super) fn client_hears(&mut self, number: usize, id: RequestId, told: Told) {
        let Some((task, waited)) = self.clients[number].hear(id) else { return };
        let group = self.clients[number].plan.group;
        if let Told::Refused { code, text } = &told {
            self.coverage.count("requests refused");
            self.tell_at(Detail::Messages, None, Some(group), |_| {
                Kind::Client(format!("client {number} is refused: {code} {text}"))
            });
            if let Task::Step(step) = task {
                self.histories[group.0 as usize].deliveries.refused(step, *code);
            }
            if waited {
                self.ask_again(number, task, Some(*code));
            }
            return;
        }
        if let Task::Member { batch, .. } = task {
            self.clients[number].goes_on(batch);
        }
        match self.learn(group, task, told) {
            Ok(what) => self.coverage.count(what),
            Err(what) => self.violate("clients are told the truth", what),
        }
    }

    /// Takes down what a client was told.
    fn learn(&mut self, group: GroupId, task: Task, told: Told) -> Result<&'static str, String> {
        let history = &mut self.histories[group.0 as usize];
        match (task, told) {
            (Task::Publish(number), Told::Acknowledged { sequence, duplicate }) => {
                let first = history.acknowledge(number, sequence)?;
                Ok(match (duplicate, first) {
                    (true, _) => "publishes acknowledged as duplicates",
                    (false, true) => "publishes acknowledged",
                    (false, false) => "publishes acknowledged again",
                })
            }
            (Task::Publish(number), Told::Committed(_)) => {
                let first = history.commit(number);
                Ok(if first { "publishes acknowledged" } else { "publishes acknowledged again" })
            }
            (Task::Step(Step::Deliver(asked)), Told::Delivered(delivery)) => {
                history.deliveries.delivered(asked, delivery)?;
                Ok(if delivery.count == 1 { "deliveries" } else { "deliveries of the same again" })
            }
            (Task::Step(Step::Acknowledge(sequence, _)), Told::Done) => {
                history.deliveries.acknowledged(sequence);
                Ok("deliveries acknowledged")
            }
            (Task::Step(Step::Skip(_)), Told::Done) => Ok("messages passed over"),
            (Task::Forward(_), Told::Done) => Ok("proposals forwarded"),
            (Task::Delete(sequence), Told::Done) => {
                history.deleted(sequence);
                Ok("deletes acknowledged")
            }
            (Task::Purge(number), Told::Done) => {
                history.purged(number);
                Ok("purges acknowledged")
            }
            (Task::Member { commits: false, .. }, Told::Kept) => Ok("messages of batches kept"),
            (Task::Member { batch, commits: true, .. }, Told::Acknowledged { sequence, .. }) => {
                history.acknowledge_batch(batch, sequence)?;
                Ok("batches acknowledged")
            }
            (Task::Read(first), Told::Messages { messages, next }) => {
                look_at_messages(history, first, (&messages, next))?;
                Ok("reads")
            }
            (task, told) => Err(format!("{task:?} is answered by {told:?}")),
        }
    }
}

/// Every message that is read was published, and has the sequence that was acknowledged.
fn look_at_messages(
    history: &History,
    first: Sequence,
    (messages, next): (&[Message], Option<Sequence>),
) -> Result<(), String> {
    let mut before = first.previous();
    let mut ids = batches_whole::Ids::new();
    for message in messages {
        let sequence = message.sequence;
        if sequence <= before {
            return Err(format!("a read gives {sequence} after {before}"));
        }
        before = sequence;
        let id = crate::records::message_id(&message.header);
        let Some((number, publication)) = id.as_ref().and_then(|id| history.by_id(id)) else {
            return Err(format!("a read gives {sequence}, which nobody published"));
        };
        let whole = publication.payload == message.payload
            && publication.subject == message.subject
            && publication.header == message.header;
        if !whole || !history.may_be_at(number, sequence) {
            let id = publication.id.escape_ascii();
            return Err(format!("a read gives {id} as {sequence}, changed or moved"));
        }
        ids.insert(sequence, publication.id.clone());
    }
    // What follows the last is known to be nothing, or not known.
    let last = next.map_or(Sequence::MAX, Sequence::previous);
    batches_whole::check(&ids, &(first..=last), |at, id| history.may_lack(at, id))
        .map_err(|what| format!("a read gives a part of a batch: {what}"))
}

fn travel(client: &mut Client) -> Duration {
    client.dice().duration(&(Duration::from_micros(100)..Duration::from_millis(3)))
}
