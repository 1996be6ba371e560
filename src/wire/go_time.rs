//! Moments as Go writes them in JSON: RFC 3339, nanoseconds without trailing zeros.

use alloc::string::String;
use core::fmt;

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error as ThisError;

use crate::time::Time;

/// The first second of the year 1, where Go's zero time lies.
const ZERO_SECONDS: i64 = -62_135_596_800;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_MINUTE: i64 = 60;
const UNIX_EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

/// A moment between the years 0 and 9999, and the offset from UTC that it was written with.
///
/// The offset is kept so that a moment is written as it came. The default is Go's zero time,
/// `0001-01-01T00:00:00Z`, which upstream uses for "never".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoTime {
    seconds: i64,
    nanos: u32,
    offset_minutes: i16,
}

/// Text that is not a moment as Go writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error("expected a time such as 2023-11-14T22:13:20.123456789Z")]
pub struct BadTime;

impl GoTime {
    /// Go's zero time: the first moment of the year 1.
    pub const ZERO: Self = Self { seconds: ZERO_SECONDS, nanos: 0, offset_minutes: 0 };

    /// The moment in UTC.
    pub const fn from_time(time: Time) -> Self {
        let nanos = time.as_nanos();
        // Both fit: u64::MAX nanoseconds are 18 thousand million seconds, in the year 2554.
        Self {
            seconds: (nanos / NANOS_PER_SECOND) as i64,
            nanos: (nanos % NANOS_PER_SECOND) as u32,
            offset_minutes: 0,
        }
    }

    /// A moment from nanoseconds since the Unix epoch, in UTC.
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        let second = NANOS_PER_SECOND as i64;
        // The remainder lies between 0 and a second, so it fits.
        Self {
            seconds: nanos.div_euclid(second),
            nanos: nanos.rem_euclid(second) as u32,
            offset_minutes: 0,
        }
    }

    /// Nanoseconds since the Unix epoch; nothing for a moment before the year 1677 or after 2262.
    pub fn unix_nanos(self) -> Option<i64> {
        let nanos =
            i128::from(self.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(self.nanos);
        i64::try_from(nanos).ok()
    }

    /// Whether this is Go's zero time.
    pub const fn is_zero(self) -> bool {
        self.seconds == ZERO_SECONDS && self.nanos == 0
    }

    /// Reads what Go's `time.Time` writes, with at most nine digits of a fraction.
    ///
    /// # Errors
    /// [`BadTime`] for anything else.
    pub fn parse(text: &str) -> Result<Self, BadTime> {
        let (date_time, rest) = text.split_at_checked(19).ok_or(BadTime)?;
        let (nanos, offset) = parse_fraction(rest)?;
        let offset_minutes = parse_offset(offset)?;
        let local = parse_date_time(date_time)?.duration_since(UNIX_EPOCH).as_secs();
        let seconds = local - i64::from(offset_minutes) * SECONDS_PER_MINUTE;
        Ok(Self { seconds, nanos, offset_minutes })
    }
}

impl Default for GoTime {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<Time> for GoTime {
    fn from(time: Time) -> Self {
        Self::from_time(time)
    }
}

/// A number of exactly these decimal digits.
fn parse_digits(digits: &[u8]) -> Result<u32, BadTime> {
    digits.iter().try_fold(0, |number, digit| match digit {
        // At most nine digits are ever passed, which fit.
        b'0'..=b'9' => Ok(number * 10 + u32::from(digit - b'0')),
        _ => Err(BadTime),
    })
}

/// `2023-11-14T22:13:20`.
fn parse_date_time(text: &str) -> Result<DateTime, BadTime> {
    let &[y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2] =
        text.as_bytes()
    else {
        return Err(BadTime);
    };
    let year = parse_digits(&[y1, y2, y3, y4])?;
    let pair = |tens, ones| parse_digits(&[tens, ones]).map(|number| number as i8);
    DateTime::new(
        year as i16,
        pair(o1, o2)?,
        pair(d1, d2)?,
        pair(h1, h2)?,
        pair(m1, m2)?,
        pair(s1, s2)?,
        0,
    )
    .map_err(|_| BadTime)
}

/// Nanoseconds of `.123456789` at the front, if there, and what follows.
fn parse_fraction(text: &str) -> Result<(u32, &str), BadTime> {
    let Some(fraction) = text.strip_prefix('.') else { return Ok((0, text)) };
    let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&length) {
        return Err(BadTime);
    }
    let (digits, rest) = fraction.split_at_checked(length).ok_or(BadTime)?;
    let scale = (length..9).fold(1, |scale, _| scale * 10);
    Ok((parse_digits(digits.as_bytes())? * scale, rest))
}

/// Minutes of `Z`, `+01:00` or `-01:00`.
fn parse_offset(text: &str) -> Result<i16, BadTime> {
    match *text.as_bytes() {
        [b'Z'] => Ok(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (parse_digits(&[h1, h2])?, parse_digits(&[m1, m2])?);
            if hours > 23 || minutes > 59 {
                return Err(BadTime);
            }
            let minutes = (hours * 60 + minutes) as i16;
            Ok(if sign == b'-' { -minutes } else { minutes })
        }
        _ => Err(BadTime),
    }
}

impl fmt::Display for GoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset_minutes) * SECONDS_PER_MINUTE;
        // Every constructor gives a moment whose local date lies between the years 0 and 9999.
        let local =
            UNIX_EPOCH.checked_add(SignedDuration::from_secs(local)).map_err(|_| fmt::Error)?;
        write!(f, "{:04}-{:02}-{:02}T", local.year(), local.month(), local.day())?;
        write!(f, "{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
        write_fraction(f, self.nanos)?;
        match self.offset_minutes {
            0 => f.write_str("Z"),
            minutes => {
                let sign = if minutes < 0 { '-' } else { '+' };
                let minutes = minutes.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

/// `.12` for 120 million nanoseconds, nothing for none.
fn write_fraction(f: &mut fmt::Formatter<'_>, nanos: u32) -> fmt::Result {
    if nanos == 0 {
        return Ok(());
    }
    let (mut digits, mut width) = (nanos, 9);
    while digits % 10 == 0 {
        digits /= 10;
        width -= 1;
    }
    write!(f, ".{digits:0width$}")
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = GoTime;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as 2023-11-14T22:13:20.123456789Z")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<GoTime, E> {
                GoTime::parse(text).map_err(E::custom)
            }
            fn visit_string<E: Error>(self, text: String) -> Result<GoTime, E> {
                self.visit_str(&text)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_moment_is_written_as_it_came() {
        for text in [
            "2023-11-14T22:13:20.123456789Z",
            "0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "1969-12-31T23:59:59.5Z",
            "2024-02-29T00:00:00.00012+05:45",
            "2024-02-29T00:00:00-12:00",
        ] {
            assert_eq!(GoTime::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn nanoseconds_go_both_ways() {
        let text = "2023-11-14T22:13:20.123456789Z";
        let nanos = 1_700_000_000_123_456_789;
        assert_eq!(GoTime::parse(text).map(GoTime::unix_nanos), Ok(Some(nanos)));
        assert_eq!(GoTime::from_unix_nanos(nanos).to_string(), text);
        assert_eq!(GoTime::from_time(Time::from_nanos(nanos as u64)).to_string(), text);
        assert_eq!(GoTime::from_unix_nanos(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(GoTime::from_unix_nanos(i64::MIN).unix_nanos(), Some(i64::MIN));
        assert_eq!(GoTime::ZERO.unix_nanos(), None);
        assert_eq!(GoTime::from_time(Time::from_nanos(u64::MAX)).unix_nanos(), None);
    }

    #[test]
    fn what_go_never_writes_is_refused() {
        for text in [
            "",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14t22:13:20Z",
            "2023-11-14T22:13:20z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20,5Z",
            "2023-11-14T22:13:20.1234567890Z",
            "2023-11-14T22:13:60Z",
            "2023-02-29T22:13:20Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:20+1:00",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:2\u{e9}Z",
            "-023-11-14T22:13:20Z",
        ] {
            assert_eq!(GoTime::parse(text), Err(BadTime), "{text}");
        }
    }
}
