//! Changes a NATS header block, as upstream does before it proposes a message.
//!
//! Upstream: `genHeader`, `setHeader`, `removeHeaderIfPresent` and `removeHeaderIfPrefixPresent` in
//! `server/client.go`. Each change is a copy; most messages need none.

use alloc::vec::Vec;

use bytes::Bytes;

use super::header;

const VERSION: &[u8] = b"NATS/1.0\r\n";
const END: &[u8] = b"\r\n";

/// Adds a field behind the others.
pub(super) fn append(header: &Bytes, key: &str, value: &[u8]) -> Bytes {
    let (lines, length) = match header.strip_suffix(END) {
        Some(lines) if !lines.is_empty() => (lines, header.len()),
        _ => (VERSION, VERSION.len()),
    };
    let mut out = Vec::with_capacity(length + key.len() + value.len() + 6);
    out.extend_from_slice(lines);
    push(&mut out, key, value);
    out.extend_from_slice(END);
    Bytes::from(out)
}

/// Replaces the value of a field, or adds the field.
pub(super) fn set(header: &Bytes, key: &str, value: &[u8]) -> Bytes {
    match header::field(header, key) {
        Some(_) => append(&remove(header, key), key, value),
        None => append(header, key, value),
    }
}

/// Removes the first field of this name; nothing is left of a header without fields.
pub(super) fn remove(header: &Bytes, key: &str) -> Bytes {
    let mut left = 1;
    remove_lines(header, |name| {
        let found = left > 0 && name == key.as_bytes();
        left -= usize::from(found);
        found
    })
}

/// Removes every field whose name `is_gone`.
pub(super) fn remove_lines(header: &Bytes, mut is_gone: impl FnMut(&[u8]) -> bool) -> Bytes {
    let mut out = Vec::with_capacity(header.len());
    let (mut fields, mut removed) = (0, false);
    for (number, line) in lines(header).enumerate() {
        let name = line.iter().position(|byte| *byte == b':').and_then(|at| line.get(..at));
        if number > 0 && name.is_some_and(&mut is_gone) {
            removed = true;
            continue;
        }
        fields += usize::from(number > 0 && line != END);
        out.extend_from_slice(line);
    }
    match (removed, fields) {
        (false, _) => header.clone(),
        (true, 0) => Bytes::new(),
        (true, _) => Bytes::from(out),
    }
}

fn push(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(END);
}

/// The lines of a header, each with its end.
fn lines(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    core::iter::from_fn(move || {
        let end = header::line_end(rest).map_or(rest.len(), |end| end + END.len());
        let (line, after) = rest.split_at_checked(end).filter(|(line, _)| !line.is_empty())?;
        rest = after;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn fields_are_added_replaced_and_removed() {
        let header = bytes("NATS/1.0\r\nA: 1\r\nB: 2\r\nA: 3\r\n\r\n");
        assert_eq!(append(&Bytes::new(), "A", b"1"), "NATS/1.0\r\nA: 1\r\n\r\n");
        assert_eq!(append(&header, "C", b"4"), "NATS/1.0\r\nA: 1\r\nB: 2\r\nA: 3\r\nC: 4\r\n\r\n");
        assert_eq!(set(&header, "B", b"x"), "NATS/1.0\r\nA: 1\r\nA: 3\r\nB: x\r\n\r\n");
        assert_eq!(remove(&header, "A"), "NATS/1.0\r\nB: 2\r\nA: 3\r\n\r\n");
        assert_eq!(remove(&header, "a"), header);
        assert_eq!(remove_lines(&header, |name| name == b"A"), "NATS/1.0\r\nB: 2\r\n\r\n");
        assert_eq!(remove_lines(&header, |_| true), "");
    }

    #[test]
    fn a_header_that_is_cut_is_left_as_it_is() {
        for text in ["", "NATS/1.0", "NATS/1.0\r\nA: 1", "\r\n"] {
            assert_eq!(remove(&bytes(text), "B"), text);
        }
        assert_eq!(remove(&bytes("NATS/1.0\r\nA: 1"), "A"), "");
    }
}
