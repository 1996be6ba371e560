//! How a follower of a log catches up, and how its state shows.

use jetwake::config::GroupKind;
use jetwake::ids::{ByteCount, Index, PeerId, Sequence, Term};
use jetwake::raft::{Cancelled, Catchup, Gap};
use jetwake::subject::{self, Subject};
use jetwake::time::Duration;
use jetwake::wire::{AppendResponse, StreamConfig, StreamState};
use jetwake_sim::lone::{self, Append, Lone, LoneDisk, Message};

const MEMBERS: [&str; 3] = ["n1", "n2", "n3"];
/// Ten thousand letters.
const LONG: &str = match str::from_utf8(&[b'd'; 10_000]) {
    Ok(text) => text,
    Err(_) => panic!("letters are text"),
};

/// A follower of `n2` that keeps no live entry from beyond a gap.
fn follower() -> Lone {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.follower_held = ByteCount::ZERO;
    Lone::start(config, LoneDisk::default())
}

fn record(index: u64) -> Append {
    Append::by("n2", 1).after(u64::from(index > 1), index - 1).entry("record")
}

fn gap(node: &Lone, from: u64, have: u64, want: u64) -> Gap {
    let leader = PeerId::from_name("n2");
    let [from, have, want] = [from, have, want].map(Index::new);
    Gap { leader, since: node.now(), from, have, want }
}

#[test]
fn each_step_of_a_catchup_can_be_seen() {
    let mut node = follower();
    assert_eq!(node.status().catchup, Catchup::None);
    node.hear(&record(9));
    assert_eq!(node.status().catchup, Catchup::Waiting(gap(&node, 0, 0, 9)));
    let since = node.now();
    let gap = |node: &Lone, have| Gap { since, ..gap(node, 0, have, 9) };

    // The answer does not come, twice.
    for times in 1..=2 {
        node.wait(node.config().timers.log_catchup_stall);
        node.hear(&Append::by("n2", 1).after(1, 9));
        assert_eq!(node.status().catchup, Catchup::Stalled { gap: gap(&node, 0), times });
    }
    node.feed(&Append::by("n2", 1).after(1, 4).commit(4).snapshot("state", &MEMBERS));
    let covers = Index::new(4);
    assert_eq!(node.status().catchup, Catchup::Snapshot { gap: gap(&node, 4), covers });
    node.feed(&record(5));
    node.feed(&record(6));
    assert_eq!(node.status().catchup, Catchup::Log(gap(&node, 6)));
    assert_eq!(
        node.status().catchup.to_string(),
        format!("from the log of {}: 6 of 9", gap(&node, 6).leader)
    );
    assert!(node.status().catchup.is_under_way());

    // Its leader asks for votes: whatever it sent for the catchup counts no longer.
    node.ask_vote("n2", 2, 1, 9);
    let why = Cancelled::NewTerm(Term::new(2));
    assert_eq!(node.status().catchup, Catchup::Cancelled { gap: gap(&node, 6), why });
    assert!(!node.status().catchup.is_under_way());

    // The next leader goes on behind record 6: nothing is missing.
    node.hear(&Append::by("n3", 2).after(1, 6).entry("next"));
    assert_eq!(node.status().catchup, Catchup::None);
}

#[test]
fn a_catchup_ends_with_its_leader_and_with_its_disk() {
    let mut node = follower();
    node.hear(&record(3));
    let found = gap(&node, 0, 0, 3);
    node.wait_until("it asks for votes", |node| node.status().term == Term::new(2));
    let why = Cancelled::Campaign;
    assert_eq!(node.status().catchup, Catchup::Cancelled { gap: found, why });
    node.elect(&["n3"]);
    assert_eq!(node.status().catchup, Catchup::None, "a leader has all that there is");

    let mut node = follower();
    node.hear(&record(3));
    let (found, inbox) = (gap(&node, 0, 0, 3), node.inbox().expect("it asks"));
    node.disk.fail_writes = true;
    node.feed(&record(1));
    assert!(node.status().aside.is_some());
    let (found, why) = (Gap { have: Index::new(1), ..found }, Cancelled::Aside);
    assert_eq!(node.status().catchup, Catchup::Cancelled { gap: found, why });
    assert!(!node.listens(&inbox));
}

/// Bytes of a record of these tests.
fn record_bytes() -> u64 {
    record(2).to_bytes().len() as u64
}

#[test]
fn a_follower_takes_no_more_than_its_disk_keeps_up_with() {
    for held in [0, 3] {
        let mut config = lone::config(&MEMBERS, GroupKind::Plain);
        config.limits.follower_unwritten = ByteCount::new(4 * record_bytes());
        config.limits.follower_held = ByteCount::new(held * record_bytes());
        let mut node = Lone::start(config, LoneDisk::default());
        node.hear(&record(1));
        node.hold_writes();
        node.sent();
        // The disk stands still, and the leader goes on: heartbeats are heard, records are not taken.
        for index in 2..=40 {
            node.hear(&record(index));
            node.wait(Duration::from_millis(300));
        }
        let status = node.status();
        assert_eq!(status.last.index, Index::new(5), "four records wait for the disk");
        assert!(matches!(status.catchup, Catchup::OwnDisk(gap) if gap.want == Index::new(40)));
        assert_eq!((status.leader, node.inbox()), (Some(PeerId::from_name("n2")), None));
        assert!(node.sent().is_empty(), "nothing is promised, and nothing asked for");

        // It goes on: what was held is taken, and the rest asked for.
        node.release_writes();
        node.hear(&Append::by("n2", 1).after(1, 40).commit(40));
        let known = 5 + held;
        assert_eq!(node.status().last.index, Index::new(known));
        assert!(matches!(node.status().catchup, Catchup::Waiting(gap) if gap.have.get() == known));
        assert!(node.inbox().is_some());
        (known + 1..=40).for_each(|index| node.feed(&record(index)));
        node.hear(&Append::by("n2", 1).after(1, 40).commit(40));
        assert_eq!((node.status().catchup, node.status().commit), (Catchup::None, Index::new(40)));
        assert_eq!(node.acks().last(), Some(&(1, 40)));
    }
}

/// Found by random seeds: it waited for ever for what nobody sends twice.
#[test]
fn a_follower_whose_disk_was_behind_asks_for_what_was_lost_meanwhile() {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.follower_unwritten = ByteCount::new(4 * record_bytes());
    let mut node = Lone::start(config, LoneDisk::default());
    node.hear(&record(1));
    node.hold_writes();
    (2..=5).for_each(|index| node.hear(&record(index)));
    // Record 6 is lost on its way.
    node.hear(&record(7));
    assert!(matches!(node.status().catchup, Catchup::OwnDisk(_)));
    node.release_writes();
    assert!(matches!(node.status().catchup, Catchup::Waiting(gap) if gap.have.get() == 5));
    assert!(node.inbox().is_some(), "it asks its leader");
}

/// Found by random seeds: a catchup of more than its disk keeps up with went on by a few records for
/// each silence.
#[test]
fn what_a_catchup_brings_too_fast_is_asked_for_again_as_soon_as_there_is_room() {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.follower_unwritten = ByteCount::new(4 * record_bytes());
    config.limits.follower_held = ByteCount::ZERO;
    let mut node = Lone::start(config, LoneDisk::default());
    node.hear(&record(20));
    let first = node.inbox().expect("it asks");
    node.hold_writes();
    (1..=10).for_each(|index| node.feed_at(&first, &record(index)));
    let status = node.status();
    assert_eq!(status.last.index, Index::new(4), "four records wait for the disk");
    assert!(matches!(status.catchup, Catchup::OwnDisk(gap) if gap.want == Index::new(20)));
    assert!(!node.listens(&first));
    node.release_writes();
    assert!(matches!(node.status().catchup, Catchup::Waiting(gap) if gap.have.get() == 4));
    assert!(node.inbox().is_some_and(|second| second != first), "it asks at once");
}

#[test]
fn a_leader_feeds_a_follower_within_its_window_and_keeps_nobody_waiting() {
    let mut config = lone::config(&MEMBERS, GroupKind::Plain);
    config.limits.log_catchup_in_flight = ByteCount::new(5 * record_bytes());
    // Most records must be read from disk.
    config.limits.log_cache = ByteCount::new(1);
    let mut node = Lone::start(config, LoneDisk::default());
    (1..=30).for_each(|index| node.hear(&record(index)));
    node.elect(&["n3"]);
    let term = node.status().term.get();
    node.acknowledge("n3", term, 31);
    node.sent();

    let inbox = Subject::from_static("$NRG.CR.laggards");
    node.ask_catchup("n2", (0, 0), &inbox);
    let fed = |node: &mut Lone| {
        let sent = node.sent().into_iter().filter(|sent| sent.subject == inbox);
        sent.map(|sent| match sent.message {
            Message::Append(entry) => (entry.previous_index.next(), entry.encoded_len() as u64),
            other => panic!("it feeds {other:?}"),
        })
        .collect::<Vec<_>>()
    };
    let (mut on_disk, mut flying) = (Index::ZERO, fed(&mut node));
    while on_disk < Index::new(31) {
        let bytes: u64 = flying.iter().map(|(_, bytes)| bytes).sum();
        assert!(!flying.is_empty() && bytes <= 6 * record_bytes() + 10, "{bytes} are in flight");
        assert_eq!(flying[0].0, on_disk.next(), "none is left out");
        // Meanwhile the others commit.
        let commit = node.status().commit.get();
        node.propose("new");
        node.acknowledge("n3", term, commit + 1);
        assert_eq!(node.status().commit.get(), commit + 1);
        // The slow one has written one record, and gets about as much.
        let (written, _) = flying.remove(0);
        on_disk = written;
        assert!(fed(&mut node).is_empty(), "the window is full");
        node.respond("n2", (1, written.get(), false), None);
        flying.extend(fed(&mut node));
    }
    assert_eq!(node.status().peers.iter().map(|peer| peer.last.get()).min(), Some(31));
}

/// Found by random seeds: a follower whose disk took little at a time was sent two megabytes whenever it
/// asked.
#[test]
fn a_feed_that_begins_again_and_again_sends_little_in_vain() {
    let config = lone::config(&MEMBERS, GroupKind::Plain);
    let whole = config.limits.log_catchup_in_flight.get();
    let mut node = Lone::start(config, LoneDisk::default());
    let long = |index: u64| Append::by("n2", 1).after(u64::from(index > 1), index - 1).entry(LONG);
    (1..=400).for_each(|index| node.hear(&long(index)));
    node.elect(&["n3"]);
    node.sent();
    let fed = |node: &mut Lone, inbox: &Subject| {
        let sent = node.sent().into_iter().filter(|sent| sent.subject == *inbox);
        sent.map(|sent| match sent.message {
            Message::Append(entry) => entry.encoded_len() as u64,
            other => panic!("it feeds {other:?}"),
        })
        .collect::<Vec<_>>()
    };

    let mut on_disk = 0;
    for (number, inbox) in ["first000", "second00", "third000"].into_iter().enumerate() {
        let inbox = Subject::from(format!("$NRG.CR.{inbox}"));
        node.ask_catchup("n2", (1, number as u64), &inbox);
        let bytes: u64 = fed(&mut node, &inbox).iter().sum();
        assert!((10_000..50_000).contains(&bytes), "{bytes} are sent to who has asked anew");
        on_disk = number as u64;
    }
    // What gets on is soon sent as much as it may be.
    let inbox = Subject::from_static("$NRG.CR.third000");
    let mut most = 0;
    while on_disk < 350 {
        on_disk += 3;
        node.respond("n2", (1, on_disk, false), None);
        most = most.max(fed(&mut node, &inbox).len());
    }
    assert!(most as u64 * 10_000 > whole / 4, "{most} at once");
}

/// Found by a random seed: a clock jumped ahead, and the catchup of a log came due at the very moment
/// at which the rest of the stream's had been over.
#[test]
fn two_deadlines_of_one_moment_are_both_handled() {
    let stream = GroupKind::Stream(StreamConfig::new("S", ["s.*".to_string()]));
    let mut node = Lone::start(lone::config(&MEMBERS, stream), LoneDisk::default());
    node.hear(&record(9));
    let (first, last) = (Sequence::new(1), Sequence::new(5));
    let state = StreamState { first, last, messages: 5, ..StreamState::default() };
    node.feed(&Append::by("n2", 1).after(1, 4).commit(4).snapshot(state.to_bytes(), &MEMBERS));
    let timers = node.config().timers.clone();
    assert_eq!(timers.log_catchup_stall, timers.catchup_retry, "they fall on one moment");
    node.oversleep(timers.catchup_start + timers.catchup_retry);
    assert!(node.sent().iter().any(|sent| sent.subject.to_string().starts_with("$JSC.SYNC.")));
}

#[test]
fn progress_is_success_only_where_nothing_else_is_told() {
    for (inbox, success) in [("$NRG.R.abcdefgh", false), ("$NRG.CP.abcdefgh", true)] {
        let mut node = follower();
        node.hear(&record(9));
        let (to, reply) = (node.inbox().expect("it asks"), Subject::from_static(inbox));
        node.sent();
        let from = PeerId::from_name("n2");
        node.receive(Some(from), to, Some(reply.clone()), record(1).led_in(1).to_bytes());
        let told = node.sent().into_iter().find(|sent| sent.subject == reply).expect("progress");
        let Message::AppendResponse(told) = told.message else { panic!("{told:?}") };
        assert_eq!((told.index.get(), told.success), (1, success), "{inbox}");
    }
}

#[test]
fn progress_brings_more_and_counts_towards_no_quorum() {
    let mut node = Lone::plain(&MEMBERS);
    node.elect(&["n2"]);
    let term = node.status().term;
    for n in 0..8 {
        node.propose(LONG);
        let last = node.status().last.index.get();
        if n < 7 {
            node.acknowledge("n2", term.get(), last);
        }
    }
    let (last, commit) = (node.status().last.index, node.status().commit);
    assert!(commit < last);
    node.sent();
    let inbox = Subject::from_static("$NRG.CR.abcdefgh");
    node.ask_catchup("n3", (0, 0), &inbox);
    let mut fed = 0;
    while fed < last.get() {
        let sent: Vec<_> = node.sent().into_iter().filter(|sent| sent.subject == inbox).collect();
        assert!(!sent.is_empty(), "there is room for more than {fed} of {last}");
        assert!(fed > 0 || (sent.len() as u64) < last.get(), "the first window is small");
        fed += sent.len() as u64;
        let reply = sent[0].reply.clone().expect("it is told how far the follower is");
        assert!(subject::is_catchup_progress(&reply), "{reply}");
        let (peer, index) = (PeerId::from_name("n3"), Index::new(fed.min(last.get())));
        let progress = AppendResponse { term, index, peer, success: true };
        node.receive(Some(peer), reply, None, progress.to_bytes());
    }
    assert_eq!(node.status().commit, commit, "what a catchup brings is no vote for it");
}
