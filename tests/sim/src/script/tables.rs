//! How a script's cluster stands, for its reader.

use jetwake::command::Role;
use jetwake::ids::{Index, Sequence};

use super::stage::GROUP;
use crate::cluster::Cluster;
use crate::network::Machine;
use crate::records;
use crate::wording;

/// Who says that it leads, in the newest term.
pub(super) fn leader(cluster: &Cluster) -> Option<Machine> {
    let leads = |machine: Machine| {
        let status = cluster.process(machine).node.as_ref()?.status(GROUP)?;
        (status.role == Some(Role::Leader)).then_some((status.term, machine))
    };
    cluster.machines().into_iter().filter_map(leads).max().map(|(_, machine)| machine)
}

/// Whether a machine's log is being caught up.
pub(super) fn is_catching_up(cluster: &Cluster, machine: Machine) -> bool {
    let node = cluster.process(machine).node.as_ref();
    node.and_then(|node| node.status(GROUP)).is_some_and(|status| status.catching_up)
}

/// The members as the leader counts them, if no change of them is under way.
pub(super) fn settled_members(cluster: &Cluster) -> Option<Vec<Machine>> {
    let node = cluster.process(leader(cluster)?).node.as_ref()?;
    let status = node.status(GROUP).filter(|status| status.change.is_none())?;
    Some(machines_of(cluster, &status.members))
}

fn machines_of(cluster: &Cluster, peers: &[jetwake::ids::PeerId]) -> Vec<Machine> {
    let mut machines: Vec<_> = peers.iter().filter_map(|peer| cluster.machine_of(*peer)).collect();
    machines.sort();
    machines
}

/// Role, term, log and commit of every member.
pub(super) fn status(cluster: &Cluster) -> Vec<String> {
    let titles = ["", "role", "term", "leader", "log", "commit", "applied", "members"];
    let mut rows = vec![titles.map(String::from)];
    let mut all_are_members = true;
    let mut lines = Vec::new();
    for machine in cluster.machines() {
        let node = cluster.process(machine).node.as_ref();
        let Some(status) = node.and_then(|node| node.status(GROUP)) else {
            let name = machine.to_string();
            let mut row = titles.map(|_| String::new());
            (row[0], row[1]) = (name, "down".into());
            rows.push(row);
            continue;
        };
        let role = match status.role {
            Some(Role::Leader) => "leader",
            Some(Role::Candidate) => "candidate",
            Some(Role::Follower) => "follower",
            Some(Role::Observer) => "observer",
            None if status.aside.is_some() => "aside",
            None => "opening",
        };
        let leader = status.leader.and_then(|leader| cluster.machine_of(leader));
        let log = match status.last.index {
            Index::ZERO => "empty".into(),
            last if status.first > last => format!("empty behind {last}"),
            last => format!("{}..{last}", status.first),
        };
        let members = machines_of(cluster, &status.members);
        all_are_members &= members.len() == cluster.machines().len();
        let catching_up = if status.catching_up { ", catching up" } else { "" };
        rows.push([
            machine.to_string(),
            format!("{role}{catching_up}"),
            status.term.to_string(),
            leader.map_or("-".into(), |leader| leader.to_string()),
            log,
            status.commit.to_string(),
            status.applied.to_string(),
            members.iter().map(Machine::to_string).collect::<Vec<_>>().join(" "),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    // Who is a member is of interest only where not everybody is.
    let columns = if all_are_members { titles.len() - 1 } else { titles.len() };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        lines.push(cells.collect::<Vec<_>>().join("  "));
    }
    lines
}

/// Every record of every log.
pub(super) fn logs(cluster: &Cluster) -> Vec<String> {
    let line = |machine: Machine| {
        let Some(log) = cluster.disk(machine).log(GROUP) else {
            return format!("{machine}  nothing");
        };
        let mut parts = Vec::new();
        if log.snapshot_index() > Index::ZERO {
            parts.push(format!("a snapshot through {}", log.snapshot_index()));
        }
        if let Some((first, last)) = log.range() {
            for index in (first.get()..=last.get()).map(Index::new) {
                if let Some(record) = log.record(index) {
                    parts.push(cluster.spell(&wording::record(index, record)));
                }
            }
        }
        match parts.is_empty() {
            true => format!("{machine}  nothing"),
            false => format!("{machine}  {}", parts.join("; ")),
        }
    };
    cluster.machines().into_iter().map(line).collect()
}

/// Every message of every store.
pub(super) fn contents(cluster: &Cluster) -> Vec<String> {
    let line = |machine: Machine| format!("{machine}  {}", state(cluster, machine));
    cluster.machines().into_iter().map(line).collect()
}

/// What a machine holds, in words.
pub(super) fn state(cluster: &Cluster, machine: Machine) -> String {
    if let Some(store) = cluster.disk(machine).store(GROUP).filter(|store| store.mark().is_some()) {
        let mark = store.mark().unwrap_or_default();
        let message = |(sequence, record): (&Sequence, &bytes::Bytes)| {
            let message = records::stream_message(record);
            let body = message.map_or("?".into(), |message| wording::text(&message.payload));
            format!("{sequence} {body}")
        };
        let messages: Vec<_> = store.messages().iter().map(message).collect();
        return format!("{}..{}: {}", mark.first, mark.last, messages.join(", "));
    }
    let Some(plain) = cluster.process(machine).machines.get(&GROUP) else {
        return "nothing".into();
    };
    let texts: Vec<_> = plain.entries().keys().map(|text| wording::text(text)).collect();
    format!("through {}: {}", plain.applied(), texts.join(", "))
}

/// Whether a machine has applied a text.
pub(super) fn has_applied(cluster: &Cluster, machine: Machine, text: &str) -> bool {
    let plain = cluster.process(machine).machines.get(&GROUP);
    plain.is_some_and(|plain| plain.entries().contains_key(text.as_bytes()))
        || has_stored(cluster, machine, text)
}

fn has_stored(cluster: &Cluster, machine: Machine, text: &str) -> bool {
    let store = cluster.disk(machine).store(GROUP);
    store.is_some_and(|store| {
        store.messages().values().any(|record| {
            let message = records::stream_message(record);
            message.is_some_and(|message| message.payload == text.as_bytes())
        })
    })
}

/// Whether a machine's log or store holds a text.
pub(super) fn holds(cluster: &Cluster, machine: Machine, text: &str) -> bool {
    let in_log = cluster.disk(machine).log(GROUP).is_some_and(|log| {
        let (first, last) = log.range().unwrap_or((Index::new(1), Index::ZERO));
        (first.get()..=last.get()).map(Index::new).filter_map(|index| log.record(index)).any(
            |record| {
                records::append_entry(record).is_some_and(|entry| {
                    entry.entries.iter().any(|(_, data)| {
                        let message = records::stream_message(data);
                        *data == text.as_bytes()
                            || message.is_some_and(|message| message.payload == text.as_bytes())
                    })
                })
            },
        )
    });
    in_log || has_stored(cluster, machine, text)
}
