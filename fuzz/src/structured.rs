//! Checks that begin with a value instead of bytes, so that the fuzzer need not guess hashes,
//! lengths and counts: made from the input, encoded, decoded, equal.

use std::collections::BTreeSet;

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use jetwake::ids::{Index, PeerId, Sequence, Term};
use jetwake::wire::{
    AppendEntry, AppendEntryBuilder, DomainState, EntryKind, PeerState, RaftSnapshot, SequenceSet,
    StreamMessage, StreamMessageView,
};

use crate::checks::formats::{group, limits};

/// Some of the input, as a field of variable length.
fn field(u: &mut Unstructured<'_>) -> Result<Bytes> {
    let length = u.arbitrary_len::<u8>()?;
    Ok(Bytes::copy_from_slice(u.bytes(length)?))
}

/// All that is left of the input.
fn rest<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    u.bytes(u.len())
}

/// A peer, or nobody.
fn peer(u: &mut Unstructured<'_>) -> Result<Option<PeerId>> {
    u.arbitrary().map(PeerId::from_wire)
}

/// Entries put in must come out.
///
/// # Errors
/// If the input has too few bytes to make a value of.
pub fn append_entry(input: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(input);
    let (leader, head) = (peer(u)?, u.arbitrary::<[u64; 5]>()?);
    let [term, commit, previous_term, previous_index, leader_term] = head;
    let mut builder = AppendEntryBuilder::new();
    let mut put = Vec::new();
    while !u.is_empty() {
        let kind = EntryKind::from_u8(u.arbitrary()?);
        let data = field(u)?;
        assert!(builder.push(kind, &data), "a few entries fit");
        put.push((kind, data));
    }
    let message = builder.finish(
        leader,
        Term::new(term),
        Index::new(commit),
        Term::new(previous_term),
        Index::new(previous_index),
        Term::new(leader_term),
    );
    let decoded = AppendEntry::decode(&message).expect("what was built decodes");
    let found: Vec<_> = decoded.entries.iter().map(|entry| (entry.kind, entry.data)).collect();
    assert_eq!(found, put);
    assert_eq!(
        (decoded.leader, decoded.term.get(), decoded.commit.get(), decoded.previous_term.get()),
        (leader, term, commit, previous_term)
    );
    assert_eq!(
        (decoded.previous_index.get(), decoded.leader_term.get()),
        (previous_index, leader_term)
    );
    Ok(())
}

/// Members put in must come out.
///
/// # Errors
/// If the input has too few bytes to make a value of.
pub fn peer_state(input: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(input);
    let (cluster_size, domain) = (u.arbitrary()?, DomainState::from_u16(u.arbitrary()?));
    let mut peers = Vec::new();
    while let Ok(Some(peer)) = peer(u) {
        if !peers.contains(&peer) && peers.len() < limits().members {
            peers.push(peer);
        }
        if u.is_empty() {
            break;
        }
    }
    let state = PeerState { cluster_size, peers, domain };
    assert_eq!(PeerState::decode(&state.to_bytes(), &limits()), Ok(state));
    Ok(())
}

/// A sealed snapshot must open, and no longer once a bit of it has changed.
///
/// # Errors
/// If the input has too few bytes to make a value of.
pub fn raft_snapshot(input: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(input);
    let [last_term, last_index, bit] = u.arbitrary::<[u64; 3]>()?;
    let snapshot = RaftSnapshot {
        last_term: Term::new(last_term),
        last_index: Index::new(last_index),
        peer_state: field(u)?,
        data: Bytes::copy_from_slice(rest(u)?),
    };
    let file = snapshot.to_bytes(&group());
    assert_eq!(RaftSnapshot::decode(&file, &group()).as_ref(), Ok(&snapshot));
    let mut spoilt = BytesMut::from(&file[..]);
    let bit = (bit % (8 * spoilt.len() as u64)) as usize;
    spoilt[bit / 8] ^= 1 << (bit % 8);
    assert!(RaftSnapshot::decode(&spoilt.freeze(), &group()).is_err(), "bit {bit} went unnoticed");
    Ok(())
}

/// A message put in must come out, compressed or not.
///
/// # Errors
/// If the input has too few bytes to make a value of.
pub fn stream_message(input: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(input);
    let flags: u64 = u.arbitrary()?;
    let repeated = usize::from(u.arbitrary::<u16>()?);
    let (sequence, timestamp) = (Sequence::new(u.arbitrary()?), u.arbitrary()?);
    let (subject, reply, header) = (field(u)?, field(u)?, field(u)?);
    // Long enough to be compressed, now and then.
    let payload = rest(u)?.repeat(1 + repeated % 32);
    let message = StreamMessageView {
        sequence,
        timestamp,
        subject: &subject,
        reply: &reply,
        header: &header,
        payload: &payload,
        sourced: flags & 1 != 0,
        unknown_flags: flags & !1,
    };
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer).expect("every field is short");
    let decode = |bytes| StreamMessage::decode(&bytes, &limits()).expect("just encoded");
    assert_eq!(decode(buffer.split().freeze()), message);
    message.encode_allow_compress(&mut buffer).expect("every field is short");
    assert_eq!(decode(buffer.freeze()), message);
    Ok(())
}

/// A set of sequences must be what a plain set is, whatever is done to it.
///
/// # Errors
/// If the input ends in the middle of a step, which shows nothing less.
pub fn sequence_set(input: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(input);
    let (mut set, mut model) = (SequenceSet::new(), BTreeSet::new());
    // Near zero, across many nodes of the tree, or near the largest number there is.
    let base = *u.choose(&[0, 1 << 20, u64::MAX - 20_000])?;
    while !u.is_empty() {
        let sequence = Sequence::new(base + u64::from(u.int_in_range::<u16>(1..=20_000)?));
        match u.arbitrary::<u8>()? % 8 {
            0..=2 => assert_eq!(set.insert(sequence), model.insert(sequence)),
            3..=4 => assert_eq!(set.remove(sequence), model.remove(&sequence)),
            5 => {
                let count = u64::from(u.arbitrary::<u8>()?).min(u64::MAX - sequence.get());
                let run: Vec<_> = (0..count).map(|step| sequence.plus(step)).collect();
                let new = run.iter().filter(|sequence| model.insert(**sequence)).count();
                assert_eq!(set.insert_run(sequence, count), new as u64);
            }
            6 => {
                set.remove_below(sequence);
                model = model.split_off(&sequence);
            }
            _ => {
                let bytes = set.to_bytes().expect("a few sequences fit");
                set = SequenceSet::decode(&bytes, &limits()).expect("what was encoded decodes");
            }
        }
        assert_eq!(set.len(), model.len() as u64);
        assert_eq!(set.contains(sequence), model.contains(&sequence));
        assert_eq!((set.first(), set.last()), (model.first().copied(), model.last().copied()));
    }
    assert!(set.iter().eq(model.iter().copied()));
    Ok(())
}
