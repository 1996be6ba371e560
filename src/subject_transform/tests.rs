use alloc::string::ToString;
use alloc::vec;

use super::*;

fn transform(source: &str, destination: &str) -> Transform {
    let made = Transform::new(source, destination);
    made.unwrap_or_else(|error| panic!("{source} {destination}: {error}")).expect("a destination")
}

fn applied(source: &str, destination: &str, subject: &str) -> String {
    let made = transform(source, destination).apply(subject.as_bytes(), 7);
    let made = made.expect("short").expect("it matches");
    String::from_utf8(made).expect("text")
}

/// The results are those of nats-server, for its own examples and others.
#[test]
fn subjects_become_what_nats_server_makes_of_them() {
    for (source, destination, subject, expected) in [
        ("", "prefix.>", "foo", "prefix.foo"),
        ("foo", "bar", "foo", "bar"),
        ("foo.*.bar.*.baz", "req.$2.$1", "foo.A.bar.B.baz", "req.B.A"),
        ("foo.*.*", "x.{{wildcard(2)}}.{{ Wildcard( 1 ) }}", "foo.a.b", "x.b.a"),
        ("baz.>", "my.pre.>", "baz.1.2.3", "my.pre.1.2.3"),
        ("a.*.>", "$1.>", "a.b.c.d", "b.c.d"),
        ("*.>", "$0.{{wildcard(-3)}}.>", "a.b", "a.a.b"),
        ("x.*", "$0.$foo.$.{{}}", "x.b", "x.$foo.$.{{}}"),
        ("*", "{{splitfromleft(1,3)}}", "12345", "123.45"),
        ("*", "{{SplitFromRight(1,3)}}", "12345", "12.345"),
        ("*", "{{splitFromRight(1,5)}}", "12345", "12345"),
        ("*", "{{splitFromLeft(1,0)}}", "12345", "12345"),
        ("*", "{{SliceFromLeft(1,3)}}", "1234567890", "123.456.789.0"),
        ("*", "{{SliceFromRight(1,3)}}", "1234567890", "1.234.567.890"),
        ("*", "{{SliceFromLeft(1,3)}}", "123456", "123.456"),
        ("*", "{{SliceFromRight(1,3)}}", "123456", "123.456"),
        ("*", "{{sliceFromRight(1,-3)}}", "123456", "123456"),
        ("*", "{{split(1,-)}}", "-abc-def--ghi-", "abc.def.ghi"),
        ("*", "{{split(1,ab)}}", "1ab2abab3", "1.2.3"),
        ("*", "{{split(1,)}}", "a\u{e9}c", "a.\u{e9}.c"),
        (
            "*.*",
            "{{split(2,-)}}.{{splitfromleft(1,2)}}",
            "foo.-abc-def--ghij-",
            "abc.def.ghij.fo.o",
        ),
        ("*", "{{right(1,3)}}", "1234", "234"),
        ("*", "{{right(1,6)}}", "1234", "1234"),
        ("*", "{{left(1,3)}}", "1234", "123"),
        ("*", "bar.{{partition(0)}}", "baz", "bar.0"),
        ("*", "bar.{{partition(10, 0)}}", "foo", "bar.3"),
        ("*.*", "bar.{{partition(10)}}", "foo.bar", "bar.6"),
        ("*", "bar.{{partition(10,1)}}", "qux", "bar.9"),
        ("foo.baz", "qux.{{partition(10,5)}}", "foo.baz", "qux.4"),
        ("*", "p.{{partition(-7)}}", "foo", "p.2851307223"),
        ("*.*", "{{partition(1000,1,2)}}", "ab.c", "331"),
        ("*", "bar.{{random(0)}}", "qux", "bar.0"),
    ] {
        assert_eq!(applied(source, destination, subject), expected, "{source} {destination}");
    }
}

#[test]
fn what_does_not_match_and_what_maps_to_itself_stays() {
    assert_eq!(Transform::new("foo", ""), Ok(None));
    for (source, destination, subject) in [
        ("foo.*", "bar.$1", "foo"),
        ("foo.*", "bar.$1", "foo.a.b"),
        ("foo", "bar", "fo"),
        (">", ">", "foo.bar"),
        ("", ">", "foo.bar"),
    ] {
        assert_eq!(transform(source, destination).apply(subject.as_bytes(), 1), Ok(None));
    }
}

#[test]
fn what_is_random_follows_from_the_number_and_has_every_value() {
    let random = transform("*", "bar.{{Random(6)}}");
    assert!(random.is_random() && !transform("*", "bar.$1").is_random());
    let draw = |number| random.apply(b"qux", number).expect("short").expect("it matches");
    let mut seen = vec![0; 6];
    for number in 0..600 {
        assert_eq!(draw(number), draw(number));
        let digit = draw(number).pop().expect("a digit");
        seen[usize::from(digit - b'0')] += 1;
    }
    assert!(seen.iter().all(|times| (60..140).contains(times)), "{seen:?}");
}

#[test]
fn what_cannot_be_applied_is_refused_in_upstreams_words() {
    let invalid = "invalid mapping destination: ";
    for (source, destination, why) in [
        ("foo..", "bar", "invalid subject foo.."),
        ("foo.*", "bar.*", "invalid subject"),
        ("foo.*", "bar.$1.>", "invalid subject"),
        ("foo.>", "bar.baz", "invalid subject"),
        ("foo.*", "bar..$1", "invalid transform in "),
        ("foo.>", "bar.>.$1", "invalid transform in $1"),
        ("foo.*", "a b", "invalid transform"),
        ("foo.*", "bar.$2", "wildcard index out of range in $2: [2]"),
        ("foo.*", "{{wildcard(2)}}", "wildcard index out of range in {{wildcard(2)}}: [2]"),
        ("foo", "{{wildcard(1)}}", "wildcard index out of range in {{wildcard(1)}}"),
        ("foo", "{{left(1,1)}}", "wildcard index out of range in {{left(1,1)}}"),
        (
            "foo.*",
            "{{partition(2,1,2)}}",
            "wildcard index out of range in {{partition(2,1,2)}}: [2]",
        ),
        ("foo.*", "{{other(1)}}", "unknown function in {{other(1)}}"),
        ("foo.*", "{{WILDCARD(1)}}", "unknown function in {{WILDCARD(1)}}"),
        ("foo.*", "{{ wildcard5) }}", "unknown function in {{ wildcard5) }}"),
        (
            "foo.*",
            "{{wildcard()}}",
            "not enough arguments passed to the function in {{wildcard()}}",
        ),
        ("foo.*", "{{split(1)}}", "not enough arguments passed to the function in {{split(1)}}"),
        ("foo.*", "{{left(1)}}", "not enough arguments passed to the function in {{left(1)}}"),
        (
            "foo.*",
            "{{left(1,2,3)}}",
            "too many arguments passed to the function in {{left(1,2,3)}}",
        ),
        (
            "foo.*",
            "{{wildcard(1,2)}}",
            "too many arguments passed to the function in {{wildcard(1,2)}}",
        ),
    ] {
        let found = Transform::new(source, destination).expect_err(destination).to_string();
        let prefix = if why.starts_with("invalid subject") { "" } else { invalid };
        assert_eq!(found, alloc::format!("{prefix}{why}"));
    }
    for token in [
        "{{partition()}}",
        "{{partition(x)}}",
        "{{partition(2147483648)}}",
        "{{partition(3,x)}}",
        "{{random()}}",
        "{{random(2147483648)}}",
        "{{wildcard(foo)}}",
        "{{split(1,a b)}}",
        "{{split(x,-)}}",
        "{{left(1,x)}}",
    ] {
        let found = Transform::new("foo.*", token).expect_err(token);
        let kind = TokenError::InvalidArgument;
        assert_eq!(found, TransformError::Token { token: token.into(), kind });
    }
}

#[test]
fn no_subject_grows_without_bound() {
    let long = "a".repeat(LONGEST);
    assert_eq!(transform("*", "$1").apply(long.as_bytes(), 0), Ok(Some(long.clone().into())));
    assert_eq!(transform("*", "$1.b").apply(long.as_bytes(), 0), Err(TooLong));
    let many = vec!["$1"; 20_000].join(".");
    assert_eq!(transform("*", &many).apply(long.as_bytes(), 0), Err(TooLong));
    let rest = transform("*.>", "b.$1.>");
    assert_eq!(rest.apply(alloc::format!("a.{}", &long[2..]).as_bytes(), 0), Err(TooLong));
}
