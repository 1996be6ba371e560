//! What the bytes on the network and in the logs say, read a second time.
//!
//! The checkers must not believe the decoders that they check: these readers are written apart
//! from the core's, for the few formats that a checker looks into. They read and never write.

use std::fmt;

use bytes::Bytes;
use jetwake::ids::{Index, PeerId, Sequence, Term};

/// An append entry, as it is sent and as it stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntry {
    /// Who leads.
    pub leader: Option<PeerId>,
    /// The term in which the record was made.
    pub term: Term,
    /// What its leader had committed.
    pub commit: Index,
    /// The term of the record before.
    pub previous_term: Term,
    /// The place of the record before.
    pub previous_index: Index,
    /// Type and data of each entry.
    pub entries: Vec<(u8, Bytes)>,
}

/// An answer to an append entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendResponse {
    /// The term of who answers.
    pub term: Term,
    /// The last record that it has.
    pub index: Index,
    /// Who answers.
    pub peer: Option<PeerId>,
    /// Whether it took the entry.
    pub success: bool,
}

/// A candidate's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// The term that it wants to lead.
    pub term: Term,
    /// The term of its last record.
    pub last_term: Term,
    /// The place of its last record.
    pub last_index: Index,
    /// Who asks.
    pub candidate: Option<PeerId>,
}

/// An answer to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteResponse {
    /// The term of who answers.
    pub term: Term,
    /// Who answers.
    pub peer: Option<PeerId>,
    /// Whether the vote is given.
    pub granted: bool,
    /// Whether its log is empty.
    pub empty: bool,
}

/// A message of a stream, as it stands in an append entry, a catchup or a store.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamMessage {
    /// The sequence as it is written; a proposal carries the one before.
    pub sequence: Sequence,
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// Where it was published.
    pub subject: Bytes,
    /// Its header block.
    pub header: Bytes,
    /// Its body.
    pub payload: Bytes,
}

impl fmt::Debug for StreamMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} at {} ({} and {} bytes)",
            self.message_id()
                .map_or("message without id".into(), |id| id.escape_ascii().to_string()),
            self.subject.escape_ascii(),
            self.timestamp,
            self.header.len(),
            self.payload.len()
        )
    }
}

impl StreamMessage {
    /// Its `Nats-Msg-Id`.
    pub fn message_id(&self) -> Option<Bytes> {
        message_id(&self.header)
    }

    /// Whether two records hold the same message, however they are packed.
    pub fn same_as(&self, other: &Self) -> bool {
        self.timestamp == other.timestamp
            && self.subject == other.subject
            && self.header == other.header
            && self.payload == other.payload
    }
}

/// The `Nats-Msg-Id` of a header block.
pub fn message_id(header: &Bytes) -> Option<Bytes> {
    const KEY: &[u8] = b"\r\nNats-Msg-Id:";
    let at = header.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = header[at..].iter().position(|byte| *byte == b'\r')?;
    let value = header[at..at + length].trim_ascii();
    Some(header.slice_ref(value))
}

/// The message id in an entry: of a stream's message, or what a simulated client writes before
/// the first line end of its body.
pub fn entry_id(data: &Bytes) -> Option<Bytes> {
    match stream_message(data) {
        Some(message) => message.message_id(),
        None => {
            let end = data.iter().position(|byte| *byte == b'\n')?;
            Some(data.slice(..end))
        }
    }
}

struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    const fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, length: usize) -> Option<Bytes> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(array)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn short(&mut self) -> Option<usize> {
        self.array().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    fn long(&mut self) -> Option<usize> {
        self.array().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn peer(&mut self) -> Option<Option<PeerId>> {
        self.array().map(PeerId::from_wire)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// Reads an append entry.
pub fn append_entry(bytes: &Bytes) -> Option<AppendEntry> {
    let mut cursor = Cursor::new(bytes);
    let leader = cursor.peer()?;
    let term = Term::new(cursor.number()?);
    let commit = Index::new(cursor.number()?);
    let previous_term = Term::new(cursor.number()?);
    let previous_index = Index::new(cursor.number()?);
    let count = cursor.short()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = cursor.long()?;
        let kind = cursor.byte()?;
        entries.push((kind, cursor.take(length.checked_sub(1)?)?));
    }
    Some(AppendEntry { leader, term, commit, previous_term, previous_index, entries })
}

/// Reads an answer to an append entry.
pub fn append_response(bytes: &Bytes) -> Option<AppendResponse> {
    let mut cursor = Cursor::new(bytes);
    let response = AppendResponse {
        term: Term::new(cursor.number()?),
        index: Index::new(cursor.number()?),
        peer: cursor.peer()?,
        success: cursor.byte()? == 1,
    };
    (cursor.at == bytes.len()).then_some(response)
}

/// Reads a candidate's question.
pub fn vote_request(bytes: &Bytes) -> Option<VoteRequest> {
    let mut cursor = Cursor::new(bytes);
    let request = VoteRequest {
        term: Term::new(cursor.number()?),
        last_term: Term::new(cursor.number()?),
        last_index: Index::new(cursor.number()?),
        candidate: cursor.peer()?,
    };
    (cursor.at == bytes.len()).then_some(request)
}

/// Reads an answer to a candidate.
pub fn vote_response(bytes: &Bytes) -> Option<VoteResponse> {
    let mut cursor = Cursor::new(bytes);
    let term = Term::new(cursor.number()?);
    let peer = cursor.peer()?;
    let flags = cursor.byte()?;
    let response = VoteResponse { term, peer, granted: flags & 1 != 0, empty: flags & 2 != 0 };
    (cursor.at == bytes.len()).then_some(response)
}

/// Reads a message of a stream from an entry or a record, plain, compressed or of a batch.
pub fn stream_message(record: &Bytes) -> Option<StreamMessage> {
    let mut cursor = Cursor::new(record);
    match cursor.byte()? {
        4 => message_body(&record.slice(1..)),
        14 => message_body(&Bytes::from(minlz::decode(&record[1..]).ok()?)),
        16 | 17 => {
            let id = cursor.short()?;
            cursor.take(id)?;
            cursor.varint()?;
            stream_message(&record.slice(cursor.at..))
        }
        _ => None,
    }
}

fn message_body(body: &Bytes) -> Option<StreamMessage> {
    let mut cursor = Cursor::new(body);
    let sequence = Sequence::new(cursor.number()?);
    let timestamp = i64::from_le_bytes(cursor.array()?);
    let length = cursor.short()?;
    let subject = cursor.take(length)?;
    let length = cursor.short()?;
    let _reply = cursor.take(length)?;
    let length = cursor.short()?;
    let header = cursor.take(length)?;
    let length = cursor.long()?;
    let payload = cursor.take(length)?;
    Some(StreamMessage { sequence, timestamp, subject, header, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Bytes {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect::<Vec<_>>().into()
    }

    /// Bytes that a live nats-server sent.
    #[test]
    fn reads_what_upstream_wrote() {
        let entry = append_entry(&hex(
            "7a3357497a50746a0100000000000000000000000000000000000000000000000000000000000000010023\
             0000000203000000030000007a3357497a50746a5a327359454a48336573466844797333000000",
        ))
        .unwrap();
        assert_eq!(entry.leader.unwrap().to_string(), "z3WIzPtj");
        assert_eq!((entry.term, entry.entries.len(), entry.entries[0].0), (Term::new(1), 1, 2));
        let response =
            append_response(&hex("01000000000000000400000000000000657346684479733301")).unwrap();
        assert_eq!((response.index, response.success), (Index::new(4), true));
        let request =
            vote_request(&hex("0100000000000000000000000000000000000000000000007a3357497a50746a"))
                .unwrap();
        assert_eq!(request.candidate.unwrap().to_string(), "z3WIzPtj");
        let vote = vote_response(&hex("0100000000000000657346684479733301")).unwrap();
        assert!(vote.granted && !vote.empty);
        assert_eq!(append_response(&hex("0100")), None);
    }

    #[test]
    fn finds_the_message_id_among_headers() {
        let header = Bytes::from_static(b"NATS/1.0\r\nA: b\r\nNats-Msg-Id: c0-17\r\nB: c\r\n\r\n");
        assert_eq!(message_id(&header).unwrap(), "c0-17");
        assert_eq!(message_id(&Bytes::from_static(b"NATS/1.0\r\n\r\n")), None);
    }

    #[test]
    fn reads_a_message_packed_three_ways() {
        let mut body = Vec::new();
        body.extend(9_u64.to_le_bytes());
        body.extend(5_i64.to_le_bytes());
        for field in [&b"a.b"[..], b"", b"NATS/1.0\r\n\r\n"] {
            body.extend((field.len() as u16).to_le_bytes());
            body.extend(field);
        }
        body.extend(2_u32.to_le_bytes());
        body.extend(b"hi\0");
        let plain = [&[4][..], &body].concat();
        let packed = [&[14][..], &minlz::encode(&body)].concat();
        let batch = [&[17, 2, 0, b'i', b'd', 1][..], &plain].concat();
        for record in [&plain, &packed, &batch] {
            let message = stream_message(&Bytes::from(record.clone())).unwrap();
            assert_eq!(message.sequence, Sequence::new(9));
            assert_eq!((&message.subject[..], &message.payload[..]), (&b"a.b"[..], &b"hi"[..]));
        }
        assert_eq!(stream_message(&Bytes::from(plain[..20].to_vec())), None);
    }
}
