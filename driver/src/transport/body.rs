//! The values that frames hold.
//!
//! What is sent is serialized from the core's own types. What arrives is decoded into twins of
//! them that borrow from the frame, and every payload becomes a slice of it: no payload is
//! copied. A test holds the twins together.

use bytes::Bytes;
use jetwake::command::{Answer, Message};
use jetwake::event::Request;
use jetwake::ids::{ByteCount, PeerId, Sequence};
use jetwake::subject::Subject;
use jetwake::time::Time;
use serde::{Deserialize, Serialize};

use super::frame::{Frame, FrameError};

/// Who speaks, and what is bearable for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The name; for a server the one that its peer id follows from.
    pub name: String,
    /// The cluster that the speaker belongs to, or wants to speak to.
    pub cluster: String,
    /// What the speaker is.
    pub role: Role,
    /// Bytes of the largest item in a frame that the speaker takes.
    pub largest: u64,
}

/// What stands at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A server of the cluster. The dialing server sends messages, the other only receives.
    Peer,
    /// Somebody who asks, and is answered.
    Client,
}

/// A message between peers, to be sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow, with = "serde_bytes")]
    pub(super) subject: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    pub(super) reply: Option<&'a [u8]>,
    #[serde(borrow, with = "serde_bytes")]
    pub(super) payload: &'a [u8],
}

/// A message between peers, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// Where it arrived.
    pub subject: Subject,
    /// Where its sender awaits an answer.
    pub reply: Option<Subject>,
    /// Its bytes.
    pub payload: Bytes,
}

/// A client's request, to be sent or as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked<S, R> {
    /// The client's own number, which the answer carries.
    pub id: u64,
    /// The stream that it is for.
    pub stream: S,
    /// What is asked.
    pub request: R,
}

/// An answer to a client, to be sent or as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered<A> {
    /// The number of the request.
    pub id: u64,
    /// The answer.
    pub answer: A,
}

/// Decodes the body of a hello or refusal: one value, and nothing behind it.
///
/// # Errors
/// [`FrameError::Body`].
pub fn decode_one<'a, T: Deserialize<'a>>(frame: &'a Frame) -> Result<T, FrameError> {
    let mut values = Values { frame, rest: &frame.body };
    let value = values.next_value()?;
    if !values.rest.is_empty() {
        return Err(values.fault(&format!("{} bytes behind the end", values.rest.len())));
    }
    Ok(value)
}

/// Decodes messages between peers.
///
/// # Errors
/// [`FrameError::Body`].
pub fn decode_messages(frame: &Frame) -> Result<Vec<PeerMessage>, FrameError> {
    let mut values = Values { frame, rest: &frame.body };
    let mut messages = Vec::new();
    while !values.rest.is_empty() {
        let envelope: Envelope<'_> = values.next_value()?;
        messages.push(PeerMessage {
            subject: Subject::from_bytes(values.own(envelope.subject)),
            reply: envelope.reply.map(|reply| Subject::from_bytes(values.own(reply))),
            payload: values.own(envelope.payload),
        });
    }
    Ok(messages)
}

/// Decodes the requests of a client, `most` at most.
///
/// # Errors
/// [`FrameError::Body`].
pub fn decode_requests(
    frame: &Frame,
    most: usize,
) -> Result<Vec<Asked<Bytes, Request>>, FrameError> {
    let mut values = Values { frame, rest: &frame.body };
    let mut requests = Vec::new();
    while !values.rest.is_empty() {
        if requests.len() == most {
            return Err(values.fault(&format!("more than {most} requests")));
        }
        let asked: Asked<&str, BorrowedRequest<'_>> = values.next_value()?;
        let stream = values.own(asked.stream.as_bytes());
        let request = asked.request.into_owned(&values);
        requests.push(Asked { id: asked.id, stream, request });
    }
    Ok(requests)
}

/// Decodes answers to a client and adds them to a list.
///
/// # Errors
/// [`FrameError::Body`].
pub fn decode_answers(
    frame: &Frame,
    answers: &mut Vec<Answered<Answer>>,
) -> Result<(), FrameError> {
    let mut values = Values { frame, rest: &frame.body };
    while !values.rest.is_empty() {
        let answered: Answered<BorrowedAnswer<'_>> = values.next_value()?;
        let answer = answered.answer.into_owned(&values);
        answers.push(Answered { id: answered.id, answer });
    }
    Ok(())
}

/// What is left of a frame's body.
struct Values<'a> {
    frame: &'a Frame,
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    fn next_value<T: Deserialize<'a>>(&mut self) -> Result<T, FrameError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|error| {
            self.fault(&format!("{error} at byte {}", self.frame.body.len() - self.rest.len()))
        })?;
        self.rest = rest;
        Ok(value)
    }

    /// The same bytes, kept alive by the frame's memory.
    fn own(&self, slice: &'a [u8]) -> Bytes {
        self.frame.body.slice_ref(slice)
    }

    fn fault(&self, what: &str) -> FrameError {
        FrameError::Body { kind: self.frame.kind, what: what.to_owned() }
    }
}

/// The twin of [`Request`].
#[derive(Deserialize)]
enum BorrowedRequest<'a> {
    Publish {
        #[serde(borrow, with = "serde_bytes")]
        subject: &'a [u8],
        #[serde(borrow, with = "serde_bytes")]
        header: &'a [u8],
        #[serde(borrow, with = "serde_bytes")]
        payload: &'a [u8],
    },
    Read {
        first: Sequence,
        most: usize,
        bytes: ByteCount,
    },
    Delete {
        sequence: Sequence,
    },
    Purge {
        #[serde(borrow, with = "serde_bytes")]
        filter: &'a [u8],
        before: Sequence,
        keep: u64,
    },
    Info,
    Snapshot,
    StepDown {
        to: Option<PeerId>,
    },
    AddPeer {
        peer: PeerId,
    },
    RemovePeer {
        peer: PeerId,
    },
    Forward {
        #[serde(borrow, with = "serde_bytes")]
        payload: &'a [u8],
    },
    Campaign,
    Observe {
        observer: bool,
    },
}

impl<'a> BorrowedRequest<'a> {
    fn into_owned(self, values: &Values<'a>) -> Request {
        match self {
            Self::Publish { subject, header, payload } => Request::Publish {
                subject: values.own(subject),
                header: values.own(header),
                payload: values.own(payload),
            },
            Self::Read { first, most, bytes } => Request::Read { first, most, bytes },
            Self::Delete { sequence } => Request::Delete { sequence },
            Self::Purge { filter, before, keep } => {
                Request::Purge { filter: values.own(filter), before, keep }
            }
            Self::Info => Request::Info,
            Self::Snapshot => Request::Snapshot,
            Self::StepDown { to } => Request::StepDown { to },
            Self::AddPeer { peer } => Request::AddPeer { peer },
            Self::RemovePeer { peer } => Request::RemovePeer { peer },
            Self::Forward { payload } => Request::Forward { payload: values.own(payload) },
            Self::Campaign => Request::Campaign,
            Self::Observe { observer } => Request::Observe { observer },
        }
    }
}

/// The twin of [`Answer`].
#[derive(Deserialize)]
enum BorrowedAnswer<'a> {
    Json(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    Messages {
        #[serde(borrow)]
        messages: Vec<BorrowedMessage<'a>>,
        next: Option<Sequence>,
    },
}

/// The twin of [`Message`].
#[derive(Deserialize)]
struct BorrowedMessage<'a> {
    sequence: Sequence,
    time: Time,
    #[serde(borrow, with = "serde_bytes")]
    subject: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    header: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    payload: &'a [u8],
}

impl<'a> BorrowedAnswer<'a> {
    fn into_owned(self, values: &Values<'a>) -> Answer {
        match self {
            Self::Json(json) => Answer::Json(values.own(json)),
            Self::Messages { messages, next } => {
                let own = |message: BorrowedMessage<'a>| Message {
                    sequence: message.sequence,
                    time: message.time,
                    subject: values.own(message.subject),
                    header: values.own(message.header),
                    payload: values.own(message.payload),
                };
                Answer::Messages { messages: messages.into_iter().map(own).collect(), next }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::frame::{self, Kind};
    use super::*;

    fn frame_of<T: Serialize>(kind: Kind, values: &[T]) -> Frame {
        let mut buffer = BytesMut::new();
        frame::encode(&mut buffer, kind, values).expect("test values serialize");
        frame::decode(&mut buffer, usize::MAX).expect("a sound frame").expect("a whole frame")
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn every_request_arrives_as_it_was_sent() {
        let sequence = Sequence::new(300);
        let sent: Vec<_> = [
            Request::Publish { subject: bytes("a.b"), header: bytes("NATS"), payload: bytes("x") },
            Request::Publish { subject: bytes(""), header: bytes(""), payload: bytes("") },
            Request::Read { first: sequence, most: 4096, bytes: ByteCount::MAX },
            Request::Delete { sequence },
            Request::Purge { filter: bytes("a.>"), before: sequence, keep: u64::MAX },
            Request::Info,
            Request::Snapshot,
            Request::StepDown { to: None },
            Request::StepDown { to: Some(PeerId::from_name("n1")) },
            Request::AddPeer { peer: PeerId::from_name("n4") },
            Request::RemovePeer { peer: PeerId::from_name("n1") },
            Request::Forward { payload: bytes("entry") },
            Request::Campaign,
            Request::Observe { observer: true },
        ]
        .into_iter()
        .enumerate()
        .map(|(id, request)| Asked { id: id as u64, stream: bytes("ORDERS"), request })
        .collect();
        let out: Vec<_> = sent
            .iter()
            .map(|asked| Asked { id: asked.id, stream: "ORDERS", request: &asked.request })
            .collect();
        let frame = frame_of(Kind::Requests, &out);
        assert_eq!(decode_requests(&frame, sent.len()), Ok(sent.clone()));
        assert!(decode_requests(&frame, sent.len() - 1).is_err(), "the bound holds");
    }

    #[test]
    fn every_answer_arrives_as_it_was_sent() {
        let message = |sequence| Message {
            sequence: Sequence::new(sequence),
            time: Time::from_nanos(u64::MAX),
            subject: bytes("a"),
            header: bytes(""),
            payload: bytes("payload"),
        };
        let sent: Vec<_> = [
            Answer::Json(bytes("{\"seq\":1}")),
            Answer::Messages { messages: vec![], next: None },
            Answer::Messages {
                messages: vec![message(1), message(900)],
                next: Some(Sequence::new(901)),
            },
        ]
        .into_iter()
        .zip(7..)
        .map(|(answer, id)| Answered { id, answer })
        .collect();
        let mut got = Vec::new();
        decode_answers(&frame_of(Kind::Answers, &sent), &mut got).expect("sound answers");
        assert_eq!(got, sent);
    }

    #[test]
    fn payloads_are_slices_of_the_frame() {
        let envelope = Envelope { subject: b"$NRG.AE.x", reply: Some(b"r"), payload: b"entries" };
        let bare = Envelope { subject: b"s", reply: None, payload: b"" };
        let frame = frame_of(Kind::Messages, &[envelope, bare]);
        let messages = decode_messages(&frame).expect("sound messages");
        assert_eq!(messages[0].subject, Subject::from_static("$NRG.AE.x"));
        assert_eq!(messages[0].reply, Some(Subject::from_static("r")));
        assert_eq!(messages[1].reply, None);
        let inside = frame.body.as_ptr_range();
        assert!(inside.contains(&messages[0].payload.as_ptr()), "the payload was copied");
    }

    #[test]
    fn a_cut_body_is_an_error_at_every_byte() {
        let envelope = Envelope { subject: b"subject", reply: Some(b"reply"), payload: b"load" };
        let whole = frame_of(Kind::Messages, &[envelope]);
        for length in 1..whole.body.len() {
            let cut = Frame { kind: whole.kind, body: whole.body.slice(..length) };
            assert!(decode_messages(&cut).is_err(), "{length} bytes were taken for a message");
        }
        let hello = Frame { kind: Kind::Refusal, body: bytes("\u{1}ab") };
        assert!(decode_one::<&str>(&hello).is_err(), "a byte behind the end was overlooked");
    }
}
