//! The part of JetStream's API that is served: what a request asks of which stream, and how answers
//! of a node become those of the API.
//!
//! Upstream: `apiDispatch` and the handlers `js…Request` in `server/jetstream_api.go`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jetwake::cluster::api::{ApiRequest, Part, refusal};
use jetwake::command::{Answer, Message};
use jetwake::event::Request;
use jetwake::ids::{ByteCount, Sequence};
use jetwake::limits::Limits;
use jetwake::wire::{ApiError, GoTime, Page, PurgeRequest, ResponseType, StreamList, Untold};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What every subject of the API begins with, where there is no domain.
const PREFIX: &str = "$JS.API.";

/// The subjects of the API, up to and with their last dot.
pub(super) fn prefix(domain: Option<&str>) -> String {
    domain.map_or_else(|| PREFIX.to_owned(), |domain| format!("$JS.{domain}.API."))
}

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Ask this stream, whose leader answers.
    Stream {
        /// Its name.
        stream: &'a str,
        /// What is asked.
        request: Request,
        /// What the answer becomes.
        shape: Shape,
        /// What is answered.
        kind: ResponseType,
    },
    /// This is the answer of the leader of this stream, if there is one of the name.
    Refused {
        /// Its name.
        stream: &'a str,
        /// What is answered where it is there.
        answer: Bytes,
        /// What is answered.
        kind: ResponseType,
    },
    /// Name streams.
    Names(Part),
    /// Tell of streams.
    List(Part),
    /// This is the answer, whoever gives it.
    Answer(Bytes),
}

/// What a node's answer becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// It is the client's answer as it stands.
    AsItIs,
    /// What the node adds to upstream's information is left out.
    Info,
    /// One message, of this sequence if it is given, with or without its header.
    Message {
        /// The sequence.
        sequence: Option<Sequence>,
        /// Whether the header is wanted.
        header: bool,
    },
}

/// Names in one answer (upstream: `JSApiNamesLimit`).
const NAMES: usize = 1024;
/// Streams told of in one answer (upstream: `JSApiListLimit`).
const TOLD: usize = 256;

/// A request for one message.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Get {
    seq: u64,
    last_by_subj: String,
    next_by_subj: String,
    batch: u64,
    max_bytes: u64,
    start_time: Option<serde::de::IgnoredAny>,
    no_hdr: bool,
}

/// A request for the deletion of one message. It is never written over, so that is not asked for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Delete {
    seq: u64,
}

/// Reads a request, whose subject is given without the prefix.
pub(super) fn read<'a>(subject: &'a str, payload: &Bytes) -> Asked<'a> {
    use ResponseType::{MessageDelete, MessageGet, StreamInfo, StreamPurge};
    let tokens: Vec<&str> = subject.split('.').collect();
    let (stream, kind, asked) = match tokens[..] {
        ["STREAM", "INFO", stream] => (stream, StreamInfo, Ok((Request::Info, Shape::Info))),
        ["STREAM", "PURGE", stream] => (stream, StreamPurge, purge(payload)),
        ["STREAM", "MSG", "GET", stream] => (stream, MessageGet, get(payload)),
        ["STREAM", "MSG", "DELETE", stream] => (stream, MessageDelete, delete(payload)),
        _ => return other(subject, &tokens, payload),
    };
    match asked {
        Ok((request, shape)) => Asked::Stream { stream, request, shape, kind },
        Err(error) => Asked::Refused { stream, answer: refusal(kind, error), kind },
    }
}

/// What concerns all streams, or is not served.
fn other<'a>(subject: &'a str, tokens: &[&'a str], payload: &Bytes) -> Asked<'a> {
    let whole = [PREFIX, subject].concat();
    match ApiRequest::parse(whole.as_bytes(), payload, &Limits::default()) {
        Ok(ApiRequest::StreamNames(part)) => Asked::Names(part),
        Ok(ApiRequest::StreamList(part)) => Asked::List(part),
        Ok(known) => not_served(tokens, known.response_type(), ApiError::BAD_REQUEST),
        Err(refused) => match refused.response_type {
            Some(kind) => not_served(tokens, kind, refused.error),
            None => Asked::Answer(unknown()),
        },
    }
}

/// Streams are made by a node's settings, and nobody delivers to consumers.
fn not_served<'a>(tokens: &[&'a str], kind: ResponseType, error: ApiError) -> Asked<'a> {
    let creates = kind == ResponseType::StreamCreate;
    let place = if tokens.first() == Some(&"CONSUMER") && tokens.get(1) == Some(&"DURABLE") {
        3
    } else {
        2
    };
    match tokens.get(place) {
        Some(stream) if !creates => Asked::Refused { stream, answer: refusal(kind, error), kind },
        _ => Asked::Answer(refusal(kind, error)),
    }
}

/// What upstream answers to a request that it does not know.
pub(super) fn unknown() -> Bytes {
    #[derive(Serialize)]
    struct Unknown {
        #[serde(rename = "type")]
        kind: &'static str,
        error: ApiError,
    }
    let kind = "io.nats.jetstream.api.v1.system_response";
    json(&Unknown { kind, error: ApiError::BAD_REQUEST })
}

type Parsed = Result<(Request, Shape), ApiError>;

fn purge(payload: &Bytes) -> Parsed {
    let PurgeRequest { before, filter, keep } =
        if is_empty(payload) { PurgeRequest::default() } else { parse(payload)? };
    Ok((Request::Purge { filter: filter.into(), before, keep }, Shape::AsItIs))
}

fn delete(payload: &Bytes) -> Parsed {
    if is_empty(payload) {
        return Err(ApiError::BAD_REQUEST);
    }
    let Delete { seq } = parse(payload)?;
    Ok((Request::Delete { sequence: Sequence::new(seq) }, Shape::AsItIs))
}

fn get(payload: &Bytes) -> Parsed {
    if is_empty(payload) {
        return Err(ApiError::BAD_REQUEST);
    }
    let asked: Get = parse(payload)?;
    let by_sequence = asked.seq > 0;
    let not_served = asked.batch > 0
        || asked.max_bytes > 0
        || asked.start_time.is_some()
        || !asked.next_by_subj.is_empty();
    if not_served || by_sequence != asked.last_by_subj.is_empty() {
        return Err(ApiError::BAD_REQUEST);
    }
    let sequence = by_sequence.then_some(Sequence::new(asked.seq));
    let request = match sequence {
        Some(first) => Request::Read { first, most: 1, bytes: ByteCount::new(1) },
        None => Request::ReadLast { filter: asked.last_by_subj.into() },
    };
    Ok((request, Shape::Message { sequence, header: !asked.no_hdr }))
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ApiError> {
    let read = serde_json::from_slice(payload).and_then(|mut fields: Map<String, Value>| {
        // To Go it is as if they were not there.
        fields.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(fields))
    });
    read.map_err(|error| ApiError::INVALID_JSON.with(&[("err", &error)]))
}

/// Upstream: `isEmptyRequest`.
fn is_empty(payload: &[u8]) -> bool {
    matches!(payload.trim_ascii(), b"" | b"{}" | b"null")
}

impl Shape {
    /// The answer of the API.
    pub(super) fn of(&self, answer: &Answer) -> Bytes {
        match (self, answer) {
            (Self::Info, Answer::Json(json)) => without_our_part(json),
            (Self::Message { sequence, header }, Answer::Messages { messages, .. }) => {
                let wanted = |found: &&Message| sequence.is_none_or(|one| one == found.sequence);
                match messages.first().filter(wanted) {
                    Some(found) => message(found, *header),
                    None => refusal(ResponseType::MessageGet, ApiError::NO_MESSAGE_FOUND),
                }
            }
            (Self::Message { .. }, Answer::Json(_)) => {
                // A read is refused as a publish is, with the stream's name beside the error.
                let error = error_in(answer).unwrap_or(ApiError::BAD_REQUEST);
                refusal(ResponseType::MessageGet, error)
            }
            (_, Answer::Json(json)) => json.clone(),
            (_, other) => {
                tracing::error!("an answer of another kind than was asked for: {other:?}");
                unknown()
            }
        }
    }

    /// What is said instead of an answer that the NATS server would not take.
    pub(super) fn too_large(&self) -> Bytes {
        let why = &"the answer is larger than the NATS server takes";
        let error = ApiError::STREAM_GENERAL.with(&[("err", why)]);
        match self {
            Self::Info => refusal(ResponseType::StreamInfo, error),
            Self::Message { .. } => refusal(ResponseType::MessageGet, error),
            Self::AsItIs => json(&serde_json::json!({ "error": error })),
        }
    }
}

/// The error in an answer, if it is one.
pub(super) fn error_in(answer: &Answer) -> Option<ApiError> {
    #[derive(Deserialize)]
    struct Refused {
        error: Option<ApiError>,
    }
    let Answer::Json(json) = answer else { return None };
    // What a message or a name holds has its quotes escaped.
    memchr::memmem::find(json, b"\"error\":")?;
    serde_json::from_slice::<Refused>(json).ok()?.error
}

/// A stream's information as upstream gives it.
fn without_our_part(json: &Bytes) -> Bytes {
    match memchr::memmem::rfind(json, b",\"jetwake\":") {
        Some(end) => [&json[..end], b"}"].concat().into(),
        None => json.clone(),
    }
}

/// The answer that holds a message.
fn message(found: &Message, header: bool) -> Bytes {
    #[derive(Serialize)]
    struct Got<'a> {
        #[serde(rename = "type")]
        kind: ResponseType,
        message: Stored<'a>,
    }
    #[derive(Serialize)]
    struct Stored<'a> {
        subject: std::borrow::Cow<'a, str>,
        seq: Sequence,
        #[serde(skip_serializing_if = "Option::is_none")]
        hdrs: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<String>,
        time: GoTime,
    }
    let text = |bytes: &Bytes| (!bytes.is_empty()).then(|| STANDARD.encode(bytes));
    let message = Stored {
        subject: String::from_utf8_lossy(&found.subject),
        seq: found.sequence,
        hdrs: text(&found.header).filter(|_| header),
        data: text(&found.payload),
        time: GoTime::from_time(found.time),
    };
    json(&Got { kind: ResponseType::MessageGet, message })
}

/// The names of streams, as the API gives them.
pub(super) fn names(all: Vec<&str>, offset: u64) -> Bytes {
    list(ResponseType::StreamNames, all, offset, NAMES, Untold::default())
}

/// What is known of streams, each as [`Shape::Info`] gave it, and the names of the others.
pub(super) fn infos(all: &[Bytes], missing: &[&str], offset: u64) -> Bytes {
    let read = |info: &Bytes| {
        let mut info = serde_json::from_slice::<Value>(info).ok()?;
        let object = info.as_object_mut()?;
        for beside in ["type", "total", "offset", "limit"] {
            object.remove(beside);
        }
        Some(info)
    };
    let all = all.iter().filter_map(read).collect();
    let mut untold = Untold::default();
    for name in missing {
        untold.add(name, None);
    }
    list(ResponseType::StreamList, all, offset, TOLD, untold)
}

fn list<T: Serialize>(
    response_type: ResponseType,
    all: Vec<T>,
    offset: u64,
    limit: usize,
    untold: Untold,
) -> Bytes {
    let total = all.len();
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(total);
    let streams: Vec<T> = all.into_iter().skip(offset).take(limit).collect();
    let number = |value| i64::try_from(value).unwrap_or(i64::MAX);
    let page = Page { total: number(total), offset: number(offset), limit: number(limit) };
    StreamList { response_type, page, streams, untold }.to_bytes()
}

/// What a stream that is not there is answered with.
pub(super) fn no_such_stream(kind: ResponseType) -> Bytes {
    refusal(kind, ApiError::STREAM_NOT_FOUND)
}

fn json(value: &impl Serialize) -> Bytes {
    // Types of our own, whose keys are text.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(subject: &'a str, payload: &'static str) -> Asked<'a> {
        read(subject, &Bytes::from_static(payload.as_bytes()))
    }

    fn stream(subject: &str, payload: &'static str) -> Request {
        match asked(subject, payload) {
            Asked::Stream { stream: "S", request, .. } => request,
            other => panic!("{subject} {payload}: {other:?}"),
        }
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).expect("JSON is text")
    }

    #[test]
    fn requests_ask_the_stream_what_they_say() {
        let one = Sequence::new(1);
        let read_one = Request::Read { first: one, most: 1, bytes: ByteCount::new(1) };
        let last = Request::ReadLast { filter: Bytes::from_static(b"a.*") };
        let purge = |filter, before, keep| Request::Purge {
            filter: Bytes::from_static(filter),
            before: Sequence::new(before),
            keep,
        };
        for (subject, payload, expected) in [
            ("STREAM.INFO.S", r#"{"deleted_details":true}"#, Request::Info),
            ("STREAM.MSG.GET.S", r#"{"seq":1,"last_by_subj":null}"#, read_one),
            ("STREAM.MSG.GET.S", r#"{"last_by_subj":"a.*"}"#, last),
            (
                "STREAM.MSG.DELETE.S",
                r#"{"seq":1,"no_erase":true}"#,
                Request::Delete { sequence: one },
            ),
            ("STREAM.PURGE.S", "", purge(b"", 0, 0)),
            ("STREAM.PURGE.S", r#"{"filter":"a","keep":3}"#, purge(b"a", 0, 3)),
            ("STREAM.PURGE.S", r#"{"seq":9}"#, purge(b"", 9, 0)),
        ] {
            assert_eq!(stream(subject, payload), expected, "{subject} {payload}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_as_upstream_refuses() {
        for (subject, payload, expected) in [
            ("STREAM.MSG.GET.S", r#"{"seq":1,"last_by_subj":"a"}"#, "10003"),
            ("STREAM.MSG.GET.S", r#"{"next_by_subj":"a"}"#, "10003"),
            ("STREAM.MSG.GET.S", "no JSON", "10025"),
            ("STREAM.MSG.DELETE.S", "", "10003"),
            ("STREAM.DELETE.S", "", "stream_delete_response"),
            ("CONSUMER.DURABLE.CREATE.S.c", r#"{"stream_name":"S"}"#, "consumer_create_response"),
            ("CONSUMER.INFO.S.c", "", "consumer_info_response"),
        ] {
            match asked(subject, payload) {
                Asked::Refused { stream: "S", answer, .. } => {
                    assert!(text(&answer).contains(expected), "{subject}: {}", text(&answer));
                }
                other => panic!("{subject} {payload}: {other:?}"),
            }
        }
        let unknown = r#"{"type":"io.nats.jetstream.api.v1.system_response","error":{"code":400,"err_code":10003,"description":"bad request"}}"#;
        for subject in
            ["", ".", "STREAM", "STREAM.MSG.GET.S.x", "SERVER.REMOVE", "\u{e9}.\u{1f600}"]
        {
            let Asked::Answer(answer) = asked(subject, "") else { panic!("{subject} is known") };
            assert_eq!(text(&answer), unknown);
        }
    }

    #[test]
    fn answers_are_those_of_upstream() {
        let message = Message {
            sequence: Sequence::new(7),
            time: jetwake::time::Time::from_nanos(1_500_000_000_000_000_001),
            subject: Bytes::from_static(b"a.b"),
            header: Bytes::from_static(b"NATS/1.0\r\n\r\n"),
            payload: Bytes::new(),
        };
        let messages = Answer::Messages { messages: vec![message], next: None };
        let shape = |sequence: Option<u64>, header| Shape::Message {
            sequence: sequence.map(Sequence::new),
            header,
        };
        let kind = r#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","#;
        let time = r#""time":"2017-07-14T02:40:00.000000001Z"}}"#;
        let whole = r#""message":{"subject":"a.b","seq":7,"hdrs":"TkFUUy8xLjANCg0K","#;
        assert_eq!(text(&shape(None, true).of(&messages)), [kind, whole, time].concat());
        let without = r#""message":{"subject":"a.b","seq":7,"#;
        assert_eq!(text(&shape(Some(7), false).of(&messages)), [kind, without, time].concat());
        let other = shape(Some(6), true).of(&messages);
        assert!(text(&other).contains("\"err_code\":10037"), "a later one is another");
        let info = Answer::Json(Bytes::from_static(br#"{"a":",\"jetwake\":","jetwake":{"b":{}}}"#));
        assert_eq!(text(&Shape::Info.of(&info)), r#"{"a":",\"jetwake\":"}"#);
    }
}
