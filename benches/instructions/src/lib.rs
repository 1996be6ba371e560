//! What the busiest formats are measured with; see `benches/wire.rs` for the limits.

use bytes::Bytes;
use jetwake::ids::{ByteCount, Index, PeerId, Sequence, Term};
use jetwake::wire::{
    AppendEntryBuilder, DeleteBlocksBuilder, EntryKind, SequenceSet, StreamMessageView, StreamState,
};

/// Entries in an append entry, and bytes of data in each.
const ENTRIES: usize = 64;
/// See [`ENTRIES`].
pub const ENTRY: usize = 128;

/// An append entry of 64 entries.
pub fn append_entry(data: &[u8]) -> Bytes {
    let room = ENTRIES * AppendEntryBuilder::entry_len(ENTRY);
    let mut builder = AppendEntryBuilder::with_capacity(room);
    for _ in 0..ENTRIES {
        assert!(builder.push(EntryKind::Normal, data));
    }
    let leader = PeerId::from_wire(*b"S1abcdef");
    let (term, index) = (Term::new(3), Index::new(900));
    builder.finish(leader, term, index, term, index, Term::ZERO)
}

/// A message with this payload.
pub fn message(payload: &[u8]) -> StreamMessageView<'_> {
    StreamMessageView {
        subject: b"orders.eu.new",
        payload,
        sequence: Sequence::new(12_345),
        timestamp: 1_700_000_000_000_000_000,
        ..StreamMessageView::default()
    }
}

/// 16 KiB that compress well.
pub fn compressible() -> Vec<u8> {
    let mut text = b"jetstream replicated message body ".repeat(482);
    text.truncate(16 * 1024);
    text
}

/// Every second sequence of 200,000.
pub fn deletes() -> SequenceSet {
    (1..=100_000).map(|place| Sequence::new(2 * place)).collect()
}

/// The state of a stream with these deletes.
pub fn state(set: &SequenceSet) -> StreamState {
    let mut blocks = DeleteBlocksBuilder::new();
    blocks.push_set(set).expect("it fits");
    StreamState {
        messages: 100_000,
        bytes: ByteCount::new(12_800_000),
        first: Sequence::new(1),
        last: Sequence::new(200_001),
        failed: 0,
        deleted_count: set.len(),
        deleted: blocks.finish(),
    }
}
