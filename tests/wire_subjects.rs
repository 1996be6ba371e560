//! Subjects between peers and of clients.

#[path = "golden/mod.rs"]
mod golden;

use bytes::Bytes;
use golden::{text, vectors};
use jetwake::ids::{GroupName, PeerId};
use jetwake::random::Random;
use jetwake::subject::{self, Kind, Subject};

fn parse(text: &str) -> Option<Kind> {
    Kind::parse(&Subject::from(text.to_owned()))
}

fn show(subject: &Subject) -> String {
    subject.to_string()
}

#[test]
fn subjects_of_a_group_come_back_as_they_went() {
    let group = GroupName::new("S-R3F-BxW1M5cy").expect("a name");
    let cases = [
        (subject::append_entry(&group), "$NRG.AE.S-R3F-BxW1M5cy", Kind::AppendEntry(group.clone())),
        (subject::vote(&group), "$NRG.V.S-R3F-BxW1M5cy", Kind::Vote(group.clone())),
        (subject::proposal(&group), "$NRG.P.S-R3F-BxW1M5cy", Kind::Proposal(group.clone())),
        (subject::remove_peer(&group), "$NRG.RP.S-R3F-BxW1M5cy", Kind::RemovePeer(group.clone())),
    ];
    for (subject, text, kind) in cases {
        assert_eq!(show(&subject), text);
        assert_eq!(Kind::parse(&subject), Some(kind));
    }
}

#[test]
fn inboxes_are_drawn_from_the_seed_and_come_back() {
    let mut random = Random::new(1);
    let mut same = Random::new(1);
    let mut token = || same.inbox_token();
    assert_eq!(Kind::parse(&subject::raft_reply(&mut random)), Some(Kind::RaftReply(token())));
    assert_eq!(Kind::parse(&subject::raft_catchup(&mut random)), Some(Kind::RaftCatchup(token())));
    let (replies, token_of_replies) = (subject::raft_reply(&mut random), token());
    assert_eq!(
        Kind::parse(&subject::catchup_progress(&replies)),
        Some(Kind::CatchupProgress(token_of_replies))
    );
    assert_eq!(
        Kind::parse(&subject::sync_subject_for_stream(&mut random)),
        Some(Kind::Sync(token()))
    );
    assert_eq!(
        Kind::parse(&subject::sync_reply_subject(&mut random)),
        Some(Kind::SyncReply(token()))
    );
    assert_eq!(
        Kind::parse(&subject::info_reply_subject(&mut random)),
        Some(Kind::SyncReply(token()))
    );
    assert_eq!(
        Kind::parse(&subject::sync_ack_subject(&mut random)),
        Some(Kind::SyncAck { token: token(), bytes: None })
    );
    let own = subject::sync_subject("$OWN", &mut random);
    let digits = String::from_utf8(token().to_vec()).expect("digits");
    assert_eq!(show(&own), format!("$OWN.{digits}"));
}

#[test]
fn subjects_have_upstreams_forms() {
    let vectors = vectors("subjects");
    let forms = &vectors[0].fields;
    assert!(matches!(parse(text(&forms["stream"])), Some(Kind::Sync(_))));
    assert!(matches!(parse(text(&forms["reply"])), Some(Kind::SyncReply(_))));
    assert!(matches!(parse(text(&forms["info_reply"])), Some(Kind::SyncReply(_))));
    let Some(Kind::SyncAck { token, bytes: None }) = parse(text(&forms["ack"])) else {
        panic!("the form of acknowledgements");
    };
    assert_eq!(show(&subject::sync_ack_wildcard(token)), text(&forms["ack"]));
    assert_eq!(text(&forms["digits"]).as_bytes(), jetwake::ids::BASE62);
    for vector in vectors.iter().filter(|vector| vector.kind == "peer_id") {
        let id = PeerId::from_name(text(&vector.fields["name"]));
        assert_eq!(id.to_string(), text(&vector.fields["peer_id"]));
    }
}

#[test]
fn acknowledgements_carry_their_bytes() {
    for bytes in [0, 1, 9, 10, 99, 12_345, u64::MAX - 1, u64::MAX] {
        let subject = subject::sync_ack_with(*b"rlN4xsjp", bytes);
        assert_eq!(show(&subject), format!("$JSC.ACK.rlN4xsjp.{bytes}"));
        let expected = Kind::SyncAck { token: *b"rlN4xsjp", bytes: Some(bytes) };
        assert_eq!(Kind::parse(&subject), Some(expected));
    }
    for bad in ["", "-1", "+1", "01", "1x", "18446744073709551616", "1.2", "**"] {
        assert_eq!(parse(&format!("$JSC.ACK.rlN4xsjp.{bad}")), None, "{bad:?}");
    }
}

#[test]
fn what_is_not_ours_has_no_kind() {
    let cases = [
        "",
        "$NRG",
        "$NRG.",
        "$NRG.AE",
        "$NRG.AE.",
        "$NRG.AE.a.b",
        "$NRG.AE.*",
        "$NRG.XX.group",
        "$NRG.R.short",
        "$NRG.R.rlN4xsjp9",
        "$NRG.R.rlN4xsj_",
        "$JSC.SYNC.rlN4xsj",
        "$JSC.R.",
        "$JSC.ACK.rlN4xsjp",
        "$JSC.ACK.short.1",
        "$JSC.ARU.$G.rlN4xsjp",
        "$nrg.AE.group",
        "orders",
    ];
    for case in cases {
        assert_eq!(parse(case), None, "{case:?}");
    }
    let binary = Subject::from_bytes(Bytes::from_static(b"$NRG.AE.\xff\xfe"));
    assert_eq!(Kind::parse(&binary), None);
}

#[test]
fn the_whole_recorded_exchange_has_subjects_that_are_known() {
    let mut unknown = 0;
    for line in golden::trace() {
        match Kind::parse(&Subject::from(line.subject.clone())) {
            Some(_) => {}
            // What an account uses is told over subjects that are not of replication.
            None if line.subject.starts_with("$JSC.ARU.") => unknown += 1,
            None => panic!("{}", line.subject),
        }
        if !line.reply.is_empty() {
            assert!(parse(&line.reply).is_some(), "{}", line.reply);
        }
    }
    assert_eq!(unknown, 24);
}

#[test]
fn clients_publish_to_plain_subjects() {
    for good in ["a", "a.b", "$SYS.x", "a*b", "a>b", "**", "a.b*", "*a", "é.ü"] {
        assert!(subject::is_valid_publish(good.as_bytes()), "{good:?}");
    }
    assert!(subject::is_valid_publish(b"\xff\xfea"), "upstream stores such subjects");
    for bad in
        ["", ".", "a.", ".a", "a..b", "*", ">", "a.*", "a.>", "a b", "a\tb", "a\r\n", "\x0c", "\0"]
    {
        assert!(!subject::is_valid_publish(bad.as_bytes()), "{bad:?}");
    }
}

#[test]
fn filters_have_wildcards_where_they_may() {
    for good in ["a", "*", ">", "a.*", "a.>", "*.*.>", "a*.b>c"] {
        assert!(subject::is_valid_filter(good.as_bytes()), "{good:?}");
    }
    for bad in ["", ".", "a..b", "a.", ">.a", "a.>.b", "a b.>", ">.>"] {
        assert!(!subject::is_valid_filter(bad.as_bytes()), "{bad:?}");
    }
}

#[test]
fn filters_take_what_they_mean() {
    let cases = [
        ("a", "a", true),
        ("a", "b", false),
        ("a", "a.b", false),
        ("a.b", "a", false),
        ("*", "a", true),
        ("*", "a.b", false),
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.b.d", false),
        (">", "a", true),
        (">", "a.b.c", true),
        ("a.>", "a", false),
        ("a.>", "a.b", true),
        ("a.>", "a.b.c", true),
        ("a.>", "b.c", false),
        ("*.>", "a.b", true),
        ("a*", "a*", true),
        ("a*", "ab", false),
    ];
    for (filter, given, expected) in cases {
        let found = subject::matches(filter.as_bytes(), given.as_bytes());
        assert_eq!(found, expected, "{filter} and {given}");
    }
}
