//! Looks up the fields of a NATS header block, as upstream reads them.
//!
//! Upstream: `getHeaderKeyIndex` and `sliceHeader` in `server/client.go`: the first line that
//! begins with exactly the key and a colon; spaces before the value are passed over.

/// Remembered for the stream's window; a second message with it is not stored again.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The id of the last message that the publisher knows of.
pub(super) const EXPECTED_LAST_MESSAGE_ID: &str = "Nats-Expected-Last-Msg-Id";
/// Takes out what came before: `sub` or `all`.
pub(super) const ROLLUP: &str = "Nats-Rollup";
/// The rollup of the message's subject.
pub(super) const ROLLUP_SUBJECT: &[u8] = b"sub";
/// The rollup of the whole stream.
pub(super) const ROLLUP_ALL: &[u8] = b"all";
/// Bounds the message's life.
pub(super) const TTL: &str = "Nats-TTL";
/// Adds to a counter.
pub(super) const INCREMENT: &str = "Nats-Incr";
/// What other streams have counted.
pub(super) const COUNTER_SOURCES: &str = "Nats-Counter-Sources";
/// Where a sourced message comes from.
pub(super) const SOURCE: &str = "Nats-Stream-Source";
/// When the message sends others.
pub(super) const SCHEDULE: &str = "Nats-Schedule";
/// The schedule that sent a message.
pub(super) const SCHEDULER: &str = "Nats-Scheduler";
/// When that schedule sends next, or that it is done.
pub(super) const SCHEDULE_NEXT: &str = "Nats-Schedule-Next";
/// That a schedule is done, and goes.
pub(super) const SCHEDULE_DONE: &str = "purge";
/// Names the batch that a message is a part of.
pub(super) const BATCH_ID: &str = "Nats-Batch-Id";
/// Ends a batch.
pub(super) const BATCH_COMMIT: &str = "Nats-Batch-Commit";
/// Where the publisher hears what becomes of the message.
pub(super) const TRACE: &str = "Nats-Trace-Dest";
/// What the server must be able to do.
pub(super) const REQUIRED_API_LEVEL: &str = "Nats-Required-Api-Level";

/// Declares the fields that a leader looks at, which are found in one pass.
macro_rules! fields {
    ($($(#[$meta:meta])* $name:ident = $key:expr;)*) => {
        /// The fields of a header that a leader looks at; the first of each name counts.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Fields<'a> {
            $($(#[$meta])* pub(super) $name: Option<&'a [u8]>,)*
        }

        impl<'a> Fields<'a> {
            fn set(&mut self, key: &[u8], value: &'a [u8]) {
                $(
                    if key == $key.as_bytes() {
                        self.$name = self.$name.or(Some(value));
                    }
                )*
            }

            /// An empty value is none.
            fn drop_empty(&mut self) {
                $(self.$name = self.$name.filter(|value| !value.is_empty());)*
            }
        }
    };
}

fields! {
    message_id = MESSAGE_ID;
    /// The stream that the publisher means.
    expected_stream = "Nats-Expected-Stream";
    /// The last sequence that the publisher knows of.
    expected_last_sequence = "Nats-Expected-Last-Sequence";
    /// The same, of one subject.
    expected_last_subject_sequence = "Nats-Expected-Last-Subject-Sequence";
    /// Which subject that is, if not the message's own.
    expected_last_subject = "Nats-Expected-Last-Subject-Sequence-Subject";
    /// The id of the last message that the publisher knows of.
    expected_last_message_id = EXPECTED_LAST_MESSAGE_ID;
    /// Takes out what came before.
    rollup = ROLLUP;
    /// Bounds the message's life.
    ttl = TTL;
    /// Adds to a counter.
    increment = INCREMENT;
    /// What other streams have counted.
    counter_sources = COUNTER_SOURCES;
    /// Where a sourced message comes from.
    source = SOURCE;
    /// When the message sends others.
    schedule = SCHEDULE;
    /// The life of what a schedule sends.
    schedule_ttl = "Nats-Schedule-TTL";
    /// Where a schedule sends.
    schedule_target = "Nats-Schedule-Target";
    /// Whose last message a schedule sends.
    schedule_source = "Nats-Schedule-Source";
    /// The schedule that sent the message.
    scheduler = SCHEDULER;
    /// When that schedule sends next, or that it is done.
    schedule_next = SCHEDULE_NEXT;
    /// Names the batch that the message is a part of.
    batch_id = BATCH_ID;
    /// The message's place in its batch.
    batch_sequence = "Nats-Batch-Sequence";
    /// Ends a batch; an empty value is one here, and none that a batch ends with.
    batch_commit = BATCH_COMMIT;
    /// Where the publisher hears what becomes of the message.
    trace = TRACE;
    /// What the server must be able to do.
    required_api_level = REQUIRED_API_LEVEL;
}

impl<'a> Fields<'a> {
    /// Looks a header through, once.
    pub(super) fn of(header: &'a [u8]) -> Self {
        let mut fields = Self::default();
        let (mut rest, mut some_empty) = (header, false);
        while let Some(end) = line_end(rest) {
            // The first line is the version.
            rest = rest.get(end + 2..).unwrap_or(&[]);
            if !rest.starts_with(b"Nats-") {
                continue;
            }
            if let Some(colon) = rest.iter().position(|byte| *byte == b':')
                && let (key, [_, value @ ..]) = rest.split_at(colon)
            {
                let value = trimmed(value);
                some_empty |= value.is_empty();
                fields.set(key, value);
            }
        }
        if some_empty {
            let batch_commit = fields.batch_commit;
            fields.drop_empty();
            fields.batch_commit = batch_commit;
        }
        fields
    }
}

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
            return Some(trimmed(value)).filter(|value| !value.is_empty());
        }
    }
}

/// What stands on the rest of a line, without the spaces before it.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line_end(line).and_then(|end| line.get(..end)).unwrap_or(line);
    let spaces = line.iter().take_while(|byte| **byte == b' ').count();
    line.get(spaces..).unwrap_or(&[])
}

/// A decimal number: upstream's -1 for anything else becomes the largest number, which no sequence
/// equals.
pub(super) fn number(digits: &[u8]) -> u64 {
    let text = core::str::from_utf8(digits).ok();
    let number = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// Where the line ends: at its CR LF.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
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
        assert_eq!(field(header, "Nats-Rollup"), None);
        assert_eq!(field(b"", MESSAGE_ID), None);
        assert_eq!(field(b"NATS/1.0\r\nNats-Msg-Id: cut", MESSAGE_ID), Some(&b"cut"[..]));
        assert_eq!(field(b"Nats-Msg-Id: first\r\n", MESSAGE_ID), None);
    }

    #[test]
    fn one_pass_finds_what_each_look_does() {
        let header = b"NATS/1.0 Nats-TTL: x\r\nNats-Msg-Id-Not: no\r\nNats-Msg-Id:  a b\r\n\
            nats-ttl: no\r\nNats-Msg-Id: second\r\nNats-Rollup:\r\nNats-Incr\r\n\
            Nats-Expected-Last-Sequence:17\r\n\r\n";
        let fields = Fields::of(header);
        assert_eq!(fields.message_id, Some(&b"a b"[..]));
        assert_eq!(fields.expected_last_sequence, field(header, "Nats-Expected-Last-Sequence"));
        assert_eq!((fields.ttl, fields.rollup, fields.increment), (None, None, None));
        assert!(Fields::of(b"Nats-TTL: first\r\n").ttl.is_none());
        let empty = b"NATS/1.0\r\nNats-TTL: \r\nNats-TTL: 5s\r\nNats-Batch-Commit:\r\n\r\n";
        assert_eq!((Fields::of(empty).ttl, field(empty, TTL)), (None, None), "the first counts");
        assert_eq!(Fields::of(empty).batch_commit, Some(&b""[..]));
        assert!(Fields::of(b"").message_id.is_none());
    }

    #[test]
    fn a_number_that_is_none_equals_no_sequence() {
        assert_eq!(number(b"17"), 17);
        for text in ["-1", "99999999999999999999", "+1", "x"] {
            assert_eq!(number(text.as_bytes()), u64::MAX, "{text}");
        }
    }
}
