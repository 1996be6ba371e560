//! Small rules of a member of a plain group, one by one: whom it hears, when it asks for votes, and what
//! it tells. One real node, whose peers, disk and clock are the test's.

use bytes::Bytes;
use jetwake::command::{Answer, CheckpointNews, Destination, Report, Role, SnapshotRefusal};
use jetwake::config::GroupKind;
use jetwake::event::{CheckpointStep, MachineSays, Request, Standing};
use jetwake::ids::{ByteCount, Index, PeerId, RequestId, Term};
use jetwake::raft::Catchup;
use jetwake::subject;
use jetwake::time::Duration;
use jetwake::wire::{EntryKind, StreamConfig};
use jetwake_sim::lone::{Append, Lone, LoneDisk, Message, config};

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(index: u64) -> Append {
    Append::by("n2", 1).after(u64::from(index > 1), index - 1).entry("record")
}

fn bytes_of_a_record() -> u64 {
    record(2).to_bytes().len() as u64
}

/// A follower with so many records, all committed.
fn follower(records: u64) -> Lone {
    let mut node = Lone::plain(&MEMBERS);
    (1..=records).for_each(|index| node.hear(&record(index)));
    node.hear(&Append::by("n2", 1).after(1, records).commit(records));
    assert_eq!(node.status().commit, Index::new(records));
    node
}

fn refused(node: &mut Lone) -> Vec<(Option<PeerId>, String)> {
    let reports = node.reports();
    let refused = reports.into_iter().filter_map(|report| match report {
        Report::Refused { from, why } => Some((from, why)),
        _ => None,
    });
    refused.collect()
}

#[test]
fn a_leader_takes_what_members_forward_and_nothing_of_others() {
    let mut node = Lone::plain(&MEMBERS);
    let name = node.config().groups[0].name.clone();
    let (proposals, removals) = (subject::proposal(&name), subject::remove_peer(&name));
    assert!(!node.listens(&proposals) && !node.listens(&removals), "it does not lead");
    node.elect(&["n2"]);
    assert!(node.listens(&proposals) && node.listens(&removals));
    node.acknowledge("n2", node.status().term.get(), 1);
    node.reports();

    let last = node.status().last.index;
    let stranger = PeerId::from_name("n9");
    node.receive(Some(stranger), proposals.clone(), None, Bytes::from_static(b"no"));
    node.receive(
        Some(stranger),
        removals.clone(),
        None,
        Bytes::copy_from_slice(PeerId::from_name("n3").as_bytes()),
    );
    let told = refused(&mut node);
    assert_eq!(told.len(), 2, "{told:?}");
    let not_a_member = format!("{stranger} is not a member");
    assert!(told.iter().all(|(from, why)| *from == Some(stranger) && why.contains(&not_a_member)));
    assert_eq!((node.status().last.index, node.status().members.len()), (last, 3));

    let member = PeerId::from_name("n3");
    node.receive(Some(member), proposals.clone(), None, Bytes::from_static(b"yes"));
    assert_eq!(node.status().last.index, last.next());
    assert_eq!(node.log().last().map(|(_, text)| text.as_str()), Some("yes"));
    assert_eq!(refused(&mut node), []);

    node.request(Request::StepDown { to: None });
    assert!(!node.listens(&proposals) && !node.listens(&removals), "it leads no longer");
}

#[test]
fn a_member_that_is_alone_leads_again_as_soon_as_its_disk_is_read() {
    let mut node = Lone::plain(&["n1"]);
    node.elect(&[]);
    node.propose("kept");
    node.restart();
    node.wait(Duration::ZERO);
    assert_eq!(node.status().role, Some(Role::Leader), "there is nobody to wait for");
    // One who is not alone waits for others.
    let mut node = follower(2);
    node.restart();
    node.wait(node.config().timers.election_min - Duration::from_millis(1));
    assert_eq!((node.status().role, node.status().term), (Some(Role::Follower), Term::new(1)));
}

#[test]
fn an_observer_never_asks_for_votes_and_one_that_led_hands_over() {
    for voters in [&["n2"][..], &[]] {
        let members = if voters.is_empty() { &MEMBERS[..1] } else { &MEMBERS[..] };
        let mut node = Lone::plain(members);
        node.elect(voters);
        node.request(Request::Observe { observer: true });
        assert_eq!(node.status().role, Some(Role::Observer));
        assert!(node.status().observer);
        let term = node.status().term;
        node.wait(seconds(60));
        assert_eq!((node.status().role, node.status().term), (Some(Role::Observer), term));
        node.request(Request::Observe { observer: false });
        assert_eq!(node.status().role, Some(Role::Follower));
        node.elect(voters);
    }
}

#[test]
fn a_catchup_takes_nothing_that_names_another_leaders_term() {
    let mut node = follower(1);
    node.hear(&record(9));
    assert!(matches!(node.status().catchup, Catchup::Waiting(_)));
    for term in [2, 7] {
        node.feed(&record(2).led_in(term));
        assert_eq!(node.status().last.index, Index::new(1), "fed by a leader of term {term}");
    }
    // A record of a term that has not begun here is of no leader that is followed, named or not.
    node.feed(&Append::by("n2", 3).after(1, 1).entry("newer"));
    node.feed(&Append::by("n2", 3).after(1, 1).entry("newer").led_in(1));
    assert_eq!((node.status().last.index, node.status().term), (Index::new(1), Term::new(1)));
    assert!(matches!(node.status().catchup, Catchup::Waiting(_)), "none of it was progress");
    node.feed(&record(2).led_in(1));
    node.feed(&record(3));
    assert_eq!(node.status().last.index, Index::new(3), "its own leader's, named or not");
}

#[test]
fn a_follower_goes_on_when_its_disk_has_written_half_of_what_waits() {
    let mut settings = config(&MEMBERS, GroupKind::Plain);
    settings.limits.follower_unwritten = ByteCount::new(4 * bytes_of_a_record());
    let mut node = Lone::start(settings, LoneDisk::default());
    node.hear(&record(1));
    node.hold_writes();
    (2..=8).for_each(|index| node.hear(&record(index)));
    let mut taken = vec![node.status().last.index.get()];
    for _ in 0..4 {
        node.perform_one_write();
        taken.push(node.status().last.index.get());
    }
    assert_eq!(taken, [5, 5, 5, 8, 8], "and then as much as there is room for");
    assert_eq!(node.status().catchup, Catchup::None);
}

#[test]
fn what_a_follower_has_already_needs_no_room_on_its_disk() {
    let mut settings = config(&MEMBERS, GroupKind::Plain);
    settings.limits.follower_unwritten = ByteCount::new(2 * bytes_of_a_record());
    let mut node = Lone::start(settings, LoneDisk::default());
    node.hear(&record(1));
    node.hold_writes();
    node.hear(&record(2));
    node.hear(&record(3));
    node.hear(&record(2));
    node.hear(&Append::by("n2", 1).after(1, 3).commit(3));
    assert_eq!(node.status().catchup, Catchup::None, "neither came anew");
    assert_eq!(node.status().commit, Index::new(3));
    node.hear(&record(4));
    assert!(matches!(node.status().catchup, Catchup::OwnDisk(_)));
}

#[test]
fn a_member_that_stands_aside_says_so_to_a_machine_that_offers_a_snapshot() {
    let mut node = follower(2);
    node.disk.fail_writes = true;
    node.hear(&record(3));
    let aside = node.status().aside.expect("its disk failed");
    node.news();
    let told = node.checkpoint(CheckpointStep::Begin { force: true });
    assert_eq!(told, [CheckpointNews::Refused(SnapshotRefusal::Aside(aside))]);
}

#[test]
fn what_a_machine_gives_back_counts_as_done_no_longer() {
    let mut node = follower(5);
    let done = |node: &Lone| (node.status().processed.get(), node.status().machine_applied.get());
    assert_eq!(done(&node), (5, 5));
    node.take_snapshot(3, "state");
    node.hold_applies = true;
    node.machine_says(MachineSays::NeedsSnapshot);
    assert_eq!(done(&node), (2, 2), "it has not even the snapshot");
    assert_eq!(node.status().commit, Index::new(5));
    node.finish_applies();
    assert_eq!(done(&node), (3, 3));
    node.machine_says(MachineSays::Resumed);
    node.finish_applies();
    assert_eq!(done(&node), (5, 5));
}

#[test]
fn damage_that_is_found_again_is_listed_once() {
    let mut node = follower(3);
    node.restart_after(|disk| disk.spoil_record(2));
    let listed = |node: &Lone| match node.status().standing {
        Standing::Impaired(impairment) => (impairment.found.len(), node.status().found.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(&node), (1, 1));
    // The same place of the log goes bad again before anything is repaired.
    node.hear(&Append::by("n2", 1).after(1, 3).commit(3));
    node.feed(&record(1).led_in(1));
    node.feed(&record(2).led_in(1));
    node.restart_after(|disk| disk.spoil_record(2));
    assert_eq!(listed(&node), (1, 1));
}

#[test]
fn a_leader_tells_since_when_it_leads_and_how_far_the_others_are() {
    let mut node = Lone::plain(&MEMBERS);
    node.elect(&["n2"]);
    let since = node.now();
    node.wait(Duration::from_millis(700));
    node.acknowledge("n2", node.status().term.get(), 1);
    let status = node.status();
    assert_eq!((status.leader_since, status.quorum_heard), (Some(since), Some(node.now())));
    let told: Vec<_> = status.peers.iter().map(|told| (told.peer, told.last, told.heard)).collect();
    let [n2, n3] = ["n2", "n3"].map(PeerId::from_name);
    let mut expected = vec![(n2, Index::new(1), Some(node.now())), (n3, Index::ZERO, None)];
    expected.sort();
    let mut sorted = told;
    sorted.sort();
    assert_eq!(sorted, expected);

    let status = follower(1).status();
    assert_eq!((status.leader_since, status.quorum_heard, status.peers.len()), (None, None, 0));
}

/// Whom the last vote request went to.
fn asked_for_votes(node: &mut Lone) -> Vec<PeerId> {
    node.sent();
    let term = node.status().term;
    node.wait_until("it asks for votes", |node| node.status().term > term);
    let asked = node.sent().into_iter().rev().find_map(|sent| match (sent.message, sent.to) {
        (Message::VoteRequest(_), Destination::Peers(peers)) => Some(peers.to_vec()),
        _ => None,
    });
    let mut asked = asked.expect("it has asked");
    asked.sort();
    asked
}

#[test]
fn who_was_added_in_vain_is_asked_for_no_vote() {
    let mut node = follower(1);
    let [n2, n3, n4] = ["n2", "n3", "n4"].map(PeerId::from_name);
    let add = Append::by("n2", 1).after(1, 1).commit(1);
    node.hear(&add.part(EntryKind::AddPeer, n4.as_bytes().to_vec()));
    let sorted = |mut peers: Vec<PeerId>| {
        peers.sort();
        peers
    };
    assert_eq!(asked_for_votes(&mut node), sorted(vec![n2, n3, n4]));
    let term = node.status().term.get();
    node.hear(&Append::by("n3", term + 1).after(1, 1).commit(1).entry("instead"));
    assert_eq!(node.status().members.len(), 3);
    assert_eq!(asked_for_votes(&mut node), sorted(vec![n2, n3]));
}

#[test]
fn who_was_added_and_is_removed_campaigns_as_long_as_that_may_be_uncommitted() {
    let mut node = Lone::plain(&MEMBERS);
    let n1 = PeerId::from_name("n1").as_bytes().to_vec();
    node.hear(&Append::by("n2", 1).after(1, 5).commit(5));
    node.feed(
        &Append::by("n2", 1).after(1, 5).commit(5).led_in(1).snapshot("it left", &["n2", "n3"]),
    );
    node.feed(&Append::by("n2", 1).after(1, 5).commit(5).led_in(1));
    let change =
        |last, kind| Append::by("n2", 1).after(1, last).commit(last).part(kind, n1.clone());
    node.hear(&change(5, EntryKind::AddPeer));
    node.hear(&change(6, EntryKind::RemovePeer));
    // What is committed behind the snapshot is not remembered: the first change may be the last.
    node.restart();
    assert_eq!((node.status().commit, node.status().last.index), (Index::new(5), Index::new(7)));
    let [n2, n3] = ["n2", "n3"].map(PeerId::from_name);
    let mut voters = vec![n2, n3];
    voters.sort();
    assert_eq!(asked_for_votes(&mut node), voters, "its log may be the one that is needed");
    // Once that is committed, it asks nobody any more.
    let term = node.status().term.get();
    node.hear(&Append::by("n2", term + 1).after(1, 7).commit(7));
    node.wait(seconds(60));
    assert_eq!(node.status().term.get(), term + 1);
}

#[test]
fn a_peer_that_joins_hears_at_once_that_it_has_all() {
    let mut node = Lone::plain(&MEMBERS);
    node.elect(&["n2"]);
    node.acknowledge("n2", node.status().term.get(), 1);
    node.propose("two");
    node.acknowledge("n2", node.status().term.get(), 2);
    let n4 = PeerId::from_name("n4");
    node.request(Request::AddPeer { peer: n4 });
    assert_eq!(node.status().joining, Some(n4));
    let heard = |node: &mut Lone, peer, index| -> Vec<bool> {
        node.sent();
        node.respond(peer, (0, index, false), None);
        let sent = node.sent();
        let to = sent.into_iter().filter_map(|sent| match (sent.message, sent.to) {
            (Message::Append(append), Destination::Peers(to)) if append.entries.is_empty() => {
                Some(to.contains(&n4))
            }
            _ => None,
        });
        to.collect()
    };
    assert!(heard(&mut node, "n4", 1).is_empty(), "it lacks a record");
    assert!(heard(&mut node, "n3", 2).is_empty(), "a member needs no such word");
    assert_eq!(heard(&mut node, "n4", 2), [true]);
    node.acknowledge("n4", node.status().term.get(), 2);
    assert_eq!(node.status().members.len(), 4, "and is added when it has shown that it has all");
}

#[test]
fn only_success_in_the_leaders_own_term_counts_towards_a_commit() {
    let mut node = Lone::plain(&MEMBERS);
    node.elect(&["n2"]);
    let term = node.status().term.get();
    node.acknowledge("n2", term, 1);
    node.propose("two");
    node.respond("n2", (term, 2, false), None);
    assert_eq!(node.status().commit, Index::new(1), "what a catchup brought is no promise");
    node.acknowledge("n2", term - 1, 2);
    assert_eq!(node.status().commit, Index::new(1), "another leader's record stood there");
    node.acknowledge("n2", term, 2);
    assert_eq!(node.status().commit, Index::new(2));
}

/// A leader that sends an entry only when the one before it is committed.
fn one_by_one(kind: GroupKind, proposals_waiting: u64) -> Lone {
    let mut settings = config(&MEMBERS, kind);
    settings.limits.append_entries_in_flight = 1;
    settings.limits.proposals_waiting = ByteCount::new(proposals_waiting);
    let mut node = Lone::start(settings, LoneDisk::default());
    node.elect(&["n2"]);
    node.acknowledge("n2", node.status().term.get(), 1);
    node
}

fn publish(node: &mut Lone, fields: &str) -> RequestId {
    node.request(Request::Publish {
        subject: Bytes::from_static(b"s.1"),
        header: Bytes::from(format!("NATS/1.0\r\n{fields}\r\n\r\n")),
        payload: Bytes::from(vec![b'x'; 90]),
    })
}

fn is_refused(node: &Lone, asked: RequestId) -> bool {
    match node.answer_to(asked) {
        Some(Answer::Json(json)) => json.windows(5).any(|text| text == b"10023"),
        _ => false,
    }
}

#[test]
fn one_proposal_may_be_larger_than_what_may_wait() {
    let mut node = one_by_one(GroupKind::Plain, 10);
    node.propose("at once");
    let large = node.propose("larger than ten bytes");
    let more = node.propose("more");
    assert!(!is_refused(&node, large) && is_refused(&node, more));
    let term = node.status().term.get();
    node.acknowledge("n2", term, 2);
    node.acknowledge("n2", term, 3);
    assert_eq!(node.applied_texts(), ["at once", "larger than ten bytes"]);
    let again = node.propose("more");
    assert!(!is_refused(&node, again));
}

#[test]
fn a_batch_that_is_larger_than_what_may_wait_is_proposed_whole() {
    let stream = StreamConfig { allow_atomic: true, ..StreamConfig::new("S", ["s.*".to_string()]) };
    let mut node = one_by_one(GroupKind::Stream(stream), 100);
    publish(&mut node, "Nats-Msg-Id: at once");
    publish(&mut node, "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 1");
    publish(&mut node, "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 2");
    let end = "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 3\r\nNats-Batch-Commit: 1";
    let whole = publish(&mut node, end);
    let more = publish(&mut node, "Nats-Msg-Id: 4");
    assert!(!is_refused(&node, whole) && is_refused(&node, more));
    let term = node.status().term.get();
    node.acknowledge("n2", term, 2);
    node.acknowledge("n2", term, 3);
    let Some(Answer::Json(json)) = node.answer_to(whole) else { panic!("it is stored") };
    assert_eq!(&json[..], br#"{"stream":"S","seq":4,"batch":"b","count":3}"#);
}

#[test]
fn what_waits_leaves_in_append_entries_of_the_size_that_is_allowed() {
    // As many entries as are allowed, or as many bytes: the head has 42, and five stand before each.
    for (entries, bytes, sizes) in [(2, 100_000, [2, 2, 1]), (100, 42 + 2 * (5 + 8), [2, 2, 1])] {
        let mut settings = config(&MEMBERS, GroupKind::Plain);
        settings.limits.append_entries_in_flight = 1;
        settings.limits.append_entry_entries = entries;
        settings.limits.append_entry_bytes = ByteCount::new(bytes);
        let mut node = Lone::start(settings, LoneDisk::default());
        node.elect(&["n2"]);
        let term = node.status().term.get();
        node.acknowledge("n2", term, 1);
        node.propose("at once");
        for text in ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd", "eeeeeeee"] {
            node.propose(text);
        }
        let mut sent = Vec::new();
        for index in 2..=5 {
            node.appends();
            node.acknowledge("n2", term, index);
            sent.extend(node.appends().iter().map(|append| append.entries.len()));
        }
        sent.retain(|entries| *entries > 0);
        assert_eq!(sent, sizes, "{entries} entries, {bytes} B");
        assert_eq!(node.applied_texts().len(), 6);
    }
}

#[test]
fn a_member_is_whole_only_when_the_snapshot_that_heals_it_is_on_disk() {
    let mut node = follower(3);
    node.restart_after(|disk| disk.spoil_record(1));
    assert!(matches!(node.status().standing, Standing::Impaired(_)));
    node.hear(&Append::by("n2", 1).after(1, 5).commit(5));
    node.hold_writes();
    node.feed(&Append::by("n2", 1).after(1, 5).commit(5).led_in(1).snapshot("state", &MEMBERS));
    node.feed(&Append::by("n2", 1).after(1, 5).commit(5).led_in(1));
    assert!(matches!(node.status().standing, Standing::Impaired(_)), "it may be lost again");
    node.release_writes();
    node.hear(&Append::by("n2", 1).after(1, 5).commit(5));
    assert_eq!(node.status().standing, Standing::Whole);
}
