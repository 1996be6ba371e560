//! Who leads a group, and how far its replicas are, in upstream's words.
//!
//! Upstream: `clusterInfo` and `checkClusterInfo` in `server/jetstream_cluster.go`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::servers::Servers;
use crate::ids::PeerId;
use crate::raft::{PeerStatus, Status};
use crate::stream::catchup::peers::CatchupPeers;
use crate::time::{Duration, Time};
use crate::wire::{ClusterInfo, GoTime, PeerInfo, RaftGroup};

/// What one member knows of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The time now.
    pub now: Time,
    /// After this long without a word a peer is offline.
    pub lost_quorum: Duration,
    /// The names of servers by their ids.
    pub names: &'a BTreeMap<PeerId, String>,
    /// The cluster's name; empty if it has none.
    pub cluster: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// How the group stands here.
    pub status: &'a Status,
    /// The followers whose streams this member is catching up.
    pub catchups: &'a CatchupPeers,
}

/// Describes a group: its leader and the other replicas, sorted by name. A replica whose name is
/// not known is said to be unknown, with its id and without a lag, which would mislead.
pub fn cluster_info(view: View<'_>) -> ClusterInfo {
    let name = |peer: &PeerId| view.names.get(peer).cloned().unwrap_or_else(|| peer.to_string());
    let replica = |peer: &PeerStatus| match view.names.get(&peer.peer) {
        Some(name) => peer_info(view, name.clone(), peer),
        None => {
            let name = format!("Server name unknown at this time (peerID: {})", peer.peer);
            PeerInfo { lag: 0, ..peer_info(view, name, peer) }
        }
    };
    let mut replicas: Vec<PeerInfo> = view.status.peers.iter().map(replica).collect();
    replicas.sort_by(|a, b| a.name.cmp(&b.name));
    ClusterInfo {
        name: view.cluster.into(),
        raft_group: view.group.into(),
        leader: view.status.leader.as_ref().map(name).unwrap_or_default(),
        leader_since: view.status.leader_since.map(GoTime::from_time),
        replicas,
        ..ClusterInfo::default()
    }
}

fn peer_info(view: View<'_>, name: String, peer: &PeerStatus) -> PeerInfo {
    let silent = peer.heard.map(|heard| view.now.since(heard));
    let behind = view.status.last.index.since(peer.last);
    // A follower whose log is current may still lack messages of its stream.
    let lag = if behind > 0 { behind } else { view.catchups.lag(peer.peer) };
    let offline = silent.is_none_or(|silent| silent >= view.lost_quorum);
    PeerInfo {
        name,
        current: lag == 0 && !offline,
        offline,
        active: silent.map_or(0, |silent| i64::try_from(silent.as_nanos()).unwrap_or(i64::MAX)),
        lag,
        peer: Some(peer.peer),
    }
}

/// Describes a group that is assigned, and of which nothing else is known here.
pub fn assigned_cluster_info(group: &RaftGroup) -> ClusterInfo {
    let replica = |peer: &PeerId| PeerInfo {
        name: peer.to_string(),
        peer: Some(*peer),
        ..PeerInfo::default()
    };
    ClusterInfo {
        name: group.cluster.clone(),
        raft_group: group.name.clone(),
        replicas: group.peers.iter().map(replica).collect(),
        ..ClusterInfo::default()
    }
}

/// Describes a group of which nobody answers: the servers that are known, all offline.
///
/// Upstream: `offlineClusterInfo`.
pub fn offline_cluster_info(cluster: &str, group: &RaftGroup, servers: &Servers) -> ClusterInfo {
    let replica = |peer: &PeerId| {
        let name = servers.get(peer)?.name.clone();
        Some(PeerInfo { name, offline: true, peer: Some(*peer), ..PeerInfo::default() })
    };
    ClusterInfo {
        name: cluster.into(),
        raft_group: group.name.clone(),
        replicas: group.peers.iter().filter_map(replica).collect(),
        ..ClusterInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::servers::Server;
    use crate::ids::{Index, Term};
    use crate::raft::Position;

    #[test]
    fn replicas_are_sorted_and_lag_by_log_or_by_catchup() {
        let [n1, n2, n3, n4] = ["n1", "n2", "n3", "n4"].map(PeerId::from_name);
        let names = [(n1, "n1".into()), (n2, "n2".into()), (n3, "n3".into())].into();
        let second = 1_000_000_000;
        let now = Time::from_nanos(100 * second);
        let peer = |peer, last, heard: Option<u64>| PeerStatus {
            peer,
            last: Index::new(last),
            heard: heard.map(|heard| Time::from_nanos(heard * second)),
        };
        let status = Status {
            leader: Some(n1),
            leader_since: Some(Time::from_nanos(second)),
            term: Term::new(3),
            last: Position { index: Index::new(50), term: Term::new(3) },
            peers: alloc::vec![peer(n4, 50, None), peer(n3, 50, Some(99)), peer(n2, 41, Some(89))],
            ..Status::default()
        };
        let mut catchups = CatchupPeers::default();
        catchups.set(n3, 7);
        let lost_quorum = Duration::from_secs(10);
        let view = View {
            now,
            lost_quorum,
            names: &names,
            cluster: "C",
            group: "G",
            status: &status,
            catchups: &catchups,
        };
        let info = cluster_info(view);
        assert_eq!((info.name.as_str(), info.leader.as_str()), ("C", "n1"));
        let told: Vec<_> =
            info.replicas.iter().map(|r| (r.name.as_str(), r.current, r.offline, r.lag)).collect();
        let unknown = format!("Server name unknown at this time (peerID: {n4})");
        let mut expected = alloc::vec![
            ("n2", false, true, 9),
            ("n3", false, false, 7),
            (unknown.as_str(), false, true, 0),
        ];
        expected.sort();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_group_of_which_nobody_answers_is_all_offline() {
        let [n1, n2] = ["n1", "n2"].map(PeerId::from_name);
        let servers: Servers =
            [(n1, Server { name: "n1".into(), ..Server::default() })].into_iter().collect();
        let peers = alloc::vec![n1, n2];
        let group = RaftGroup { name: "S-R2F-x".into(), peers, ..RaftGroup::default() };
        let info = offline_cluster_info("C", &group, &servers);
        assert_eq!((info.name.as_str(), info.raft_group.as_str()), ("C", "S-R2F-x"));
        assert_eq!(info.leader, "");
        let told: Vec<_> =
            info.replicas.iter().map(|r| (r.name.as_str(), r.current, r.offline, r.peer)).collect();
        // Of n2 nothing was ever heard.
        assert_eq!(told, [("n1", false, true, Some(n1))]);
    }
}
