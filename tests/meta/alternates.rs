//! Where else a client may read.

use jetwake::cluster::alternates::stream_alternates;
use jetwake::cluster::assignments::Assignments;
use jetwake::wire::{
    ClientInfo, RaftGroup, StorageType, StreamAssignment, StreamSource, Unsupported,
};

use super::stream;

fn in_cluster(name: &str, cluster: &str, origin: Option<&str>) -> StreamAssignment {
    let mut assignment = stream(name, StorageType::File);
    assignment.config.mirror =
        origin.map(|origin| StreamSource { name: origin.into(), ..StreamSource::default() });
    assignment.client = Some(ClientInfo { account: "A".into(), ..ClientInfo::default() });
    assignment.group = RaftGroup { cluster: cluster.into(), ..RaftGroup::default() };
    assignment
}

fn asker(cluster: &str, alternates: &[&str]) -> ClientInfo {
    ClientInfo {
        account: "A".into(),
        cluster: cluster.into(),
        alternates: alternates.iter().map(|cluster| (*cluster).into()).collect(),
        ..ClientInfo::default()
    }
}

#[test]
fn a_stream_and_its_mirrors_are_ranked_by_the_askers_clusters() {
    let mut assignments = Assignments::default();
    assignments.assign_stream(in_cluster("SOURCE", "C1", None));
    assignments.assign_stream(in_cluster("OTHER", "C1", None));
    let told = |assignments: &Assignments, client: &ClientInfo| -> Vec<(String, String)> {
        let alternates = stream_alternates(assignments, client, "SOURCE", "hub");
        assert!(alternates.iter().all(|one| one.domain == "hub"));
        alternates.into_iter().map(|one| (one.name, one.cluster)).collect()
    };
    assert_eq!(told(&assignments, &asker("C1", &[])), [], "there is no choice");

    assignments.assign_stream(in_cluster("MIRROR-1", "C2", Some("SOURCE")));
    assignments.assign_stream(in_cluster("MIRROR-2", "C3", Some("SOURCE")));
    let pair = |name: &str, cluster: &str| (name.to_string(), cluster.to_string());
    let (source, one, two) = (pair("SOURCE", "C1"), pair("MIRROR-1", "C2"), pair("MIRROR-2", "C3"));
    let near = told(&assignments, &asker("C3", &["C2", "C1"]));
    assert_eq!(near, [two.clone(), one.clone(), source.clone()]);
    let near = told(&assignments, &asker("C1", &["C3"]));
    assert_eq!(near, [source.clone(), two.clone(), one.clone()], "who names no cluster comes last");

    let mut gone = in_cluster("MIRROR-2", "C3", Some("SOURCE"));
    gone.unsupported = Some(Unsupported { reason: "newer".into(), config: "{}".into() });
    assignments.assign_stream(gone);
    assert_eq!(told(&assignments, &asker("C2", &["C1"])), [one, source]);

    let stranger = ClientInfo { account: "B".into(), ..asker("C1", &[]) };
    assert_eq!(told(&assignments, &stranger), []);
}
