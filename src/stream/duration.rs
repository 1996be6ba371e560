//! Durations as Go writes them, such as `1h30m` or `1.5s`.
//!
//! Upstream: `time.ParseDuration` of Go's library, which reads what headers say of times.

/// Nanoseconds of each unit; longer names before those that they begin with.
const UNITS: [(&[u8], u64); 8] = [
    (b"ns", 1),
    (b"us", 1_000),
    ("µs".as_bytes(), 1_000),
    ("μs".as_bytes(), 1_000),
    (b"ms", 1_000_000),
    (b"s", 1_000_000_000),
    (b"m", 60 * 1_000_000_000),
    (b"h", 3600 * 1_000_000_000),
];

/// The nanoseconds that a text says; none if it is no duration, or does not fit 63 bits.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if rest == b"0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let (whole, after, digits) = digits(rest)?;
        let (fraction, scale, after) = fraction(after);
        if !digits && scale == 1 {
            return None;
        }
        let (unit, after) = unit(after)?;
        sum = sum.checked_add(whole.checked_mul(unit)?)?;
        // Go rounds a fraction down too.
        let part = u128::from(fraction) * u128::from(unit) / u128::from(scale);
        sum = sum.checked_add(u64::try_from(part).ok()?)?;
        rest = after;
    }
    let sum = i64::try_from(sum).ok()?;
    Some(if negative { -sum } else { sum })
}

/// A number, what follows it, and whether there was a digit at all.
fn digits(text: &[u8]) -> Option<(u64, &[u8], bool)> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(count)?;
    let mut number: u64 = 0;
    for digit in digits {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some((number, rest, count > 0))
}

/// What stands behind a point, over which power of ten, and what follows.
fn fraction(text: &[u8]) -> (u64, u64, &[u8]) {
    let [b'.', after @ ..] = text else { return (0, 1, text) };
    let mut rest = after;
    let (mut number, mut scale) = (0_u64, 1_u64);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        // Further digits are below a nanosecond.
        if scale < 1_000_000_000_000_000_000 {
            number = number * 10 + u64::from(digit - b'0');
            scale *= 10;
        }
        rest = after;
    }
    (number, scale, rest)
}

/// The nanoseconds of a unit, and what follows it.
fn unit(text: &[u8]) -> Option<(u64, &[u8])> {
    UNITS.iter().find_map(|(name, nanos)| Some((*nanos, text.strip_prefix(*name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("100ms", 100_000_000),
            ("10.5µs", 10_500),
            ("3us4ns", 3_004),
            ("1.s", 1_000_000_000),
            (".5m", 30_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(nanos), "{text}");
        }
        for text in ["", "3", "-", "s", ".", ".s", "1x", "1s2", "never", "99999999999h", "1 s"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
