//! Checks of what a connection carries: frames, and the values in them.

use std::fmt::Debug;

use bytes::BytesMut;
use serde::Serialize;

use crate::transport::body::{self, Asked, Hello};
use crate::transport::frame::{self, Frame, Kind};

/// Bytes of one frame at most, and requests in it.
const LONGEST: usize = 64 * 1024;
const MOST: usize = 100;

/// Bytes of a connection, and the same bytes as the body of a sound frame of each kind.
pub fn frame(input: &[u8]) {
    let mut stream = BytesMut::from(input);
    while let Ok(Some(frame)) = frame::decode(&mut stream, LONGEST) {
        values(&frame);
        // The body's bytes, each a value of its own, make the same frame.
        assert_eq!(framed(frame.kind, &frame.body), frame);
    }
    let kinds = [Kind::Hello, Kind::Refusal, Kind::Messages, Kind::Requests, Kind::Answers];
    for kind in kinds {
        values(&framed(kind, input));
    }
}

/// A frame with these values, as it arrives.
fn framed<T: Serialize>(kind: Kind, values: &[T]) -> Frame {
    let mut buffer = BytesMut::new();
    frame::encode(&mut buffer, kind, values).expect("bytes and decoded values serialize");
    let frame = frame::decode(&mut buffer, usize::MAX).expect("a sound frame");
    assert!(buffer.is_empty(), "one frame");
    frame.expect("a whole frame")
}

/// What a frame's values decode to must encode, and decode to the same again.
fn values(frame: &Frame) {
    match frame.kind {
        Kind::Hello => same(frame, |frame| body::decode_one::<Hello>(frame).map(|one| vec![one])),
        Kind::Refusal => {
            let text = body::decode_one::<&str>(frame);
            if let Ok(text) = text {
                let again = framed(frame.kind, &[text]);
                assert_eq!(body::decode_one::<&str>(&again).as_ref(), Ok(&text));
            }
        }
        Kind::Messages => drop(body::decode_messages(frame)),
        Kind::Requests => {
            if let Ok(asked) = body::decode_requests(frame, MOST) {
                assert!(asked.len() <= MOST, "{} requests", asked.len());
                let texts: Vec<_> = asked
                    .iter()
                    .map(|asked| {
                        let stream = str::from_utf8(&asked.stream).expect("decoded as text");
                        Asked { id: asked.id, stream, request: &asked.request }
                    })
                    .collect();
                let again = framed(frame.kind, &texts);
                assert_eq!(body::decode_requests(&again, MOST), Ok(asked));
            }
        }
        Kind::Answers => same(frame, |frame| {
            let mut answers = Vec::new();
            body::decode_answers(frame, &mut answers).map(|()| answers)
        }),
        Kind::Ping | Kind::Pong => {}
    }
}

fn same<T, E>(frame: &Frame, decode: impl Fn(&Frame) -> Result<Vec<T>, E>)
where
    T: Debug + PartialEq + Serialize,
    E: Debug + PartialEq,
{
    if let Ok(values) = decode(frame) {
        assert_eq!(decode(&framed(frame.kind, &values)), Ok(values));
    }
}
