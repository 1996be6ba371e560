//! Checks of recorded runs, which are files that somebody else may have made.

use jetwake::trace::{Reader, Record, write_head, write_record};

/// A trace as it comes: whole records until it ends or is refused.
pub fn trace(input: &[u8]) {
    let mut reader = Reader::default();
    reader.push(input);
    while let Ok(Some(record)) = reader.next_record() {
        round_trip(&record);
    }
    // A checksum is hard to guess: the input as the body of one record, too.
    if let Ok(record) = postcard::from_bytes(input) {
        round_trip(&record);
    }
}

/// What is written must be read, however the bytes arrive.
fn round_trip(record: &Record) {
    let mut bytes = Vec::new();
    write_head(&mut bytes);
    write_record(record, &mut bytes);
    let mut reader = Reader::default();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    reader.push(first);
    assert_eq!(reader.next_record(), Ok(None), "half a record");
    reader.push(second);
    assert_eq!(reader.next_record().as_ref(), Ok(&Some(record.clone())));
    assert!(!reader.has_rest());
}
