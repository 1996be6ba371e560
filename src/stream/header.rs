//! Looks up the fields of a NATS header block, as upstream reads them.
//!
//! Upstream: `getHeaderKeyIndex` and `sliceHeader` in `server/client.go`: the first line that
//! begins with exactly the key and a colon; spaces before the value are passed over.

/// Remembered for the stream's window; a second message with it is not stored again.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The stream that the publisher means.
pub(super) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// The last sequence that the publisher knows of.
pub(super) const EXPECTED_LAST_SEQUENCE: &str = "Nats-Expected-Last-Sequence";
/// The same, of one subject.
pub(super) const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// Which subject that is, if not the message's own.
pub(super) const EXPECTED_LAST_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// The id of the last message that the publisher knows of.
pub(super) const EXPECTED_LAST_MESSAGE_ID: &str = "Nats-Expected-Last-Msg-Id";
/// Purges what came before.
pub(super) const ROLLUP: &str = "Nats-Rollup";
/// Bounds the message's life.
pub(super) const TTL: &str = "Nats-TTL";
/// Adds to a counter.
pub(super) const INCREMENT: &str = "Nats-Incr";
/// Schedules other messages.
pub(super) const SCHEDULE: &str = "Nats-Schedule";
/// Names the batch that the message is a part of.
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";

/// The value of a field, or none if the header does not have it. An empty value is none too.
pub(super) fn field<'a>(header: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let key = key.as_bytes();
    let mut rest = header;
    loop {
        // Lines end with CR LF; the first line is the version.
        rest = rest.get(line_end(rest)? + 2..)?;
        if let Some(after) = rest.strip_prefix(key)
            && let Some(value) = after.strip_prefix(b":")
        {
            let end = line_end(value).unwrap_or(value.len());
            let value = value.get(..end)?;
            let spaces = value.iter().take_while(|byte| **byte == b' ').count();
            return value.get(spaces..).filter(|value| !value.is_empty());
        }
    }
}

/// A field that is a decimal number: upstream's -1 for anything else becomes the largest number,
/// which no sequence equals.
pub(super) fn number(header: &[u8], key: &str) -> Option<u64> {
    let digits = field(header, key)?;
    let text = core::str::from_utf8(digits).ok();
    let number = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    Some(number.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX))
}

/// Whether the header could have any field of NATS: one look for all of them.
pub(super) fn has_nats_field(header: &[u8]) -> bool {
    header.windows(5).any(|bytes| bytes == b"Nats-")
}

/// Where the line ends: at its CR LF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let found = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\r')?;
        if bytes.get(found + 1) == Some(&b'\n') {
            return Some(found);
        }
        from = found + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_the_key_counts() {
        let header = b"NATS/1.0 Nats-Msg-Id:x\r\nX-Nats-Msg-Id: no\r\nNats-Msg-Id-Not: no\r\n\
            Nats-Msg-Id:  a b \rc\r\nNats-Msg-Id: second\r\nEmpty:   \r\n\r\n";
        assert_eq!(field(header, MESSAGE_ID), Some(&b"a b \rc"[..]));
        assert_eq!(field(header, "Empty"), None);
        assert_eq!(field(header, "nats-msg-id"), None);
        assert_eq!(field(header, ROLLUP), None);
        assert_eq!(field(b"", MESSAGE_ID), None);
        assert_eq!(field(b"NATS/1.0\r\nNats-Msg-Id: cut", MESSAGE_ID), Some(&b"cut"[..]));
        assert_eq!(field(b"Nats-Msg-Id: first\r\n", MESSAGE_ID), None);
        assert!(has_nats_field(header) && !has_nats_field(b"NATS/1.0\r\nA: b\r\n\r\n"));
    }

    #[test]
    fn a_number_that_is_none_equals_no_sequence() {
        let header = b"NATS/1.0\r\nA: 17\r\nB: -1\r\nC: 99999999999999999999\r\nD: +1\r\n\r\n";
        assert_eq!(number(header, "A"), Some(17));
        for key in ["B", "C", "D"] {
            assert_eq!(number(header, key), Some(u64::MAX), "{key}");
        }
        assert_eq!(number(header, "E"), None);
    }
}
