//! Where else a client may read a stream: at its mirrors, and a mirror's reader at the others.
//!
//! Upstream: `streamAlternates` in `server/jetstream_cluster.go`.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::assignments::Assignments;
use crate::wire::{ClientInfo, StreamAlternate};

/// The stream of this name and its mirrors, those in the asker's cluster first, then in the order
/// of the clusters that it named. None when there is no choice.
pub fn stream_alternates(
    assignments: &Assignments,
    client: &ClientInfo,
    stream: &str,
    domain: &str,
) -> Vec<StreamAlternate> {
    let clusters: Vec<&String> = [&client.cluster].into_iter().chain(&client.alternates).collect();
    // Of a cluster that is named twice the later place counts, as upstream has it.
    let weight = |cluster: &str| {
        let place = clusters.iter().rposition(|one| *one == cluster);
        place.map_or(0, |place| clusters.len() - place)
    };
    let mut found: Vec<_> = assignments
        .of_account(client.service_account())
        .filter(|(_, assigned)| assigned.offline().is_none())
        .map(|(key, assigned)| (key, &assigned.assignment))
        .filter(|(key, assignment)| {
            let mirror = assignment.config.mirror.as_ref();
            key.name == stream || mirror.is_some_and(|origin| origin.name == stream)
        })
        .map(|(key, assignment)| StreamAlternate {
            name: key.name.clone(),
            domain: domain.into(),
            cluster: assignment.group.cluster.clone(),
        })
        .collect();
    if found.len() < 2 {
        return Vec::new();
    }
    found.sort_by_key(|one| Reverse(weight(&one.cluster)));
    found
}
