//! The replicas of a consumer that runs: more of them, fewer, and servers that stop meanwhile.

use jetwake::consumer::Wish;
use jetwake::event::Request;
use jetwake::ids::Sequence;
use jetwake::time::Duration;

use crate::rig::{META, Servers};

/// Servers with a stream on all of them, and its consumer on so many.
fn started(servers: usize, replicas: usize) -> Servers {
    let mut servers = Servers::led(servers);
    let count = servers.count();
    let stream = format!(r#"{{"name":"S","subjects":["S.>"],"num_replicas":{count}}}"#);
    assert_eq!(servers.api("STREAM.CREATE.S", &stream)["did_create"], true);
    want(&mut servers, replicas);
    servers
}

/// Asks for so many replicas of the consumer.
fn want(servers: &mut Servers, replicas: usize) {
    let wish = format!(
        r#"{{"stream_name":"S","config":{{"durable_name":"d","ack_policy":"explicit","num_replicas":{replicas}}}}}"#
    );
    let answer = servers.api("CONSUMER.CREATE.S.d", &wish);
    assert_eq!(answer["config"]["num_replicas"], replicas, "{answer}");
}

/// Delivers the next message, which must be this one.
fn deliver(servers: &mut Servers, sequence: u64) {
    let answer = servers.step("S", "d", Wish::Deliver { sequence: Sequence::new(sequence) });
    assert_eq!(
        (&answer["consumer_seq"], &answer["stream_seq"]),
        (&sequence.into(), &sequence.into())
    );
}

/// The servers on which the consumer runs.
fn places(servers: &Servers) -> Vec<usize> {
    (0..servers.count()).filter(|at| servers.consumer_runs(*at, "S", "d")).collect()
}

/// The servers whose disk has something of the consumer.
fn copies(servers: &Servers) -> Vec<usize> {
    let has = |at: &usize| servers.on_disk(*at).iter().any(|name| name.starts_with("C-"));
    (0..servers.count()).filter(has).collect()
}

fn wait_for_places(servers: &mut Servers, count: usize) {
    servers.wait_for("the consumer's places", |servers| {
        let places = places(servers);
        places.len() == count
            && copies(servers) == places
            && servers.members_of_consumer("S", "d").is_some_and(|members| members == count)
    });
}

/// Another server than this leads the meta group.
fn let_another_lead(servers: &mut Servers, but: usize) {
    if servers.leader() == Some(but) {
        servers.ask(but, META, Request::StepDown { to: None });
        servers.wait_for("another leader", |servers| servers.leader().is_some_and(|at| at != but));
    }
}

/// Red when nobody is added, when nobody is removed, or when the meta group is not told of it.
#[test]
fn a_consumer_gets_more_replicas_and_fewer_and_knows_what_it_delivered() {
    let mut servers = started(5, 1);
    deliver(&mut servers, 1);
    let mut sequence = 1;
    for replicas in [3, 5, 3, 1, 5, 1] {
        want(&mut servers, replicas);
        wait_for_places(&mut servers, replicas);
        sequence += 1;
        deliver(&mut servers, sequence);
        servers.wait(Duration::from_secs(2));
        assert!((0..5).all(|at| servers.healthy(at)), "{replicas}");
        servers.restart();
        wait_for_places(&mut servers, replicas);
        sequence += 1;
        deliver(&mut servers, sequence);
    }
    let info = servers.api("CONSUMER.INFO.S.d", "");
    assert_eq!(info["delivered"]["consumer_seq"], sequence, "{info}");
    assert_eq!(servers.complaints, [""; 0]);
}

/// The one that is to stay alone lacks what the others have: they keep it until it has it, although
/// they are started again meanwhile.
///
/// Red when the assignment leaves out at once who is to go.
#[test]
fn nobody_goes_before_those_that_stay_have_everything() {
    let mut servers = started(3, 3);
    wait_for_places(&mut servers, 3);
    deliver(&mut servers, 1);
    let stays = servers.last_assigned("S", "d");
    let_another_lead(&mut servers, stays);
    // The group's leader misses it by then, and the meta group's does not yet.
    servers.cut_off(stays, true);
    servers.wait(Duration::from_secs(5));
    want(&mut servers, 1);
    let others: Vec<_> = (0..3).filter(|at| *at != stays).collect();
    servers.wait(Duration::from_secs(20));
    deliver(&mut servers, 2);
    for at in &others {
        servers.stop(*at);
    }
    for at in &others {
        servers.start(*at);
    }
    servers.wait(Duration::from_secs(20));
    assert!(others.iter().all(|at| copies(&servers).contains(at)), "{:?}", copies(&servers));
    deliver(&mut servers, 3);
    servers.cut_off(stays, false);
    wait_for_places(&mut servers, 1);
    assert_eq!(places(&servers), [stays]);
    deliver(&mut servers, 4);
    assert_eq!(servers.complaints, [""; 0]);
}

/// Red when a server that is new to a group counts as a member of it before it is one.
#[test]
fn servers_that_come_decide_nothing_without_the_one_that_has_the_state() {
    let mut servers = started(3, 1);
    wait_for_places(&mut servers, 1);
    deliver(&mut servers, 1);
    let has = places(&servers)[0];
    let_another_lead(&mut servers, has);
    servers.stop(has);
    servers.wait(Duration::from_secs(1));
    want(&mut servers, 3);
    servers.wait(Duration::from_secs(30));
    assert_eq!(servers.consumer_leader("S", "d"), None, "two that know nothing lead nothing");
    // Nor do they when they are started again, as if they had always been there.
    servers.restart_all_but(has);
    servers.wait(Duration::from_secs(30));
    assert_eq!(servers.consumer_leader("S", "d"), None);
    servers.start(has);
    wait_for_places(&mut servers, 3);
    deliver(&mut servers, 2);
    servers.wait(Duration::from_secs(5));
    assert!((0..3).all(|at| servers.healthy(at)));
}

/// Red when the first server that does not answer is tried again and again.
#[test]
fn who_does_not_answer_keeps_nobody_else_from_coming() {
    let mut servers = started(5, 1);
    // In which order they are added is drawn each time.
    for _ in 0..4 {
        wait_for_places(&mut servers, 1);
        deliver(&mut servers, 1);
        let has = places(&servers)[0];
        let leader = servers.leader().expect("it is led");
        let away: Vec<_> = (0..5).filter(|at| ![has, leader].contains(at)).take(2).collect();
        away.iter().for_each(|at| servers.stop(*at));
        want(&mut servers, 5);
        let three = |servers: &Servers| servers.members_of_consumer("S", "d") >= Some(3);
        servers.wait_for("three members", three);
        deliver(&mut servers, 2);
        away.iter().for_each(|at| servers.start(*at));
        wait_for_places(&mut servers, 5);
        deliver(&mut servers, 3);
        assert_eq!(servers.api("CONSUMER.DELETE.S.d", "")["success"], true);
        servers.wait(Duration::from_secs(2));
        want(&mut servers, 1);
    }
}

/// Red when somebody who answers is let go first: those who are left would be no quorum.
#[test]
fn who_is_down_and_to_go_is_let_go_first() {
    for down in 0..2 {
        let mut servers = started(3, 3);
        wait_for_places(&mut servers, 3);
        deliver(&mut servers, 1);
        let stays = servers.last_assigned("S", "d");
        let others: Vec<_> = (0..3).filter(|at| *at != stays).collect();
        let_another_lead(&mut servers, others[down]);
        servers.stop(others[down]);
        servers.wait(Duration::from_secs(5));
        want(&mut servers, 1);
        let alone = |servers: &Servers| servers.members_of_consumer("S", "d") == Some(1);
        servers.wait_for("one member", alone);
        assert_eq!(places(&servers).len(), 1);
        deliver(&mut servers, 2);
        servers.start(others[down]);
        wait_for_places(&mut servers, 1);
        deliver(&mut servers, 3);
    }
}

/// A wish for more replicas overtakes one for fewer, and the other way around.
#[test]
fn a_change_of_mind_in_the_middle_is_followed() {
    let mut servers = started(5, 5);
    wait_for_places(&mut servers, 5);
    deliver(&mut servers, 1);
    for (sequence, replicas) in (2..).zip([1, 3, 1, 5, 3, 5, 1]) {
        want(&mut servers, replicas);
        servers.wait(Duration::from_millis(300));
        deliver(&mut servers, sequence);
    }
    wait_for_places(&mut servers, 1);
    want(&mut servers, 3);
    servers.wait(Duration::from_millis(100));
    want(&mut servers, 5);
    wait_for_places(&mut servers, 5);
    deliver(&mut servers, 9);
    assert_eq!(servers.complaints, [""; 0]);
}
