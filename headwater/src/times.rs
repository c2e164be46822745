//! Times and durations as users write and read them.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A point in time that prints as RFC 3339 with its milliseconds value beside:
/// `2026-11-21T03:42:00.000Z (1795232520000)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// Milliseconds since the epoch; any value.
    pub(crate) ms: i64,
    /// Print in the local zone instead of UTC.
    pub(crate) local: bool,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Timestamps are any i64; the calendar ends long before.
        let Ok(time) = Timestamp::from_millisecond(self.ms) else {
            return write!(f, "{} ms", self.ms);
        };
        if self.local {
            let zoned = time.to_zoned(TimeZone::system());
            write!(f, "{} ({})", zoned.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z"), self.ms)
        } else {
            write!(f, "{} ({})", time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"), self.ms)
        }
    }
}

/// Reads a time: milliseconds since the epoch, RFC 3339, `now`, or a duration before now (`-2h`).
pub(crate) fn parse_time(text: &str) -> Result<i64> {
    if text == "now" {
        return Ok(now_ms());
    }
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago)?;
        return Ok(now_ms().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    let time: Timestamp = text.parse().with_context(|| {
        format!("`{text}` is no time: expected milliseconds since the epoch, RFC 3339, `now` or `-2h`")
    })?;
    Ok(time.as_millisecond())
}

/// Milliseconds since the epoch, now.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
    ("y", 31_536_000_000),
];

/// Reads a duration as Prometheus writes it: `500ms`, `15s`, `1h30m`, `2d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let sum = number.parse::<u64>().ok().zip(scale).and_then(|(n, s)| n.checked_mul(s)?.checked_add(total));
        let Some(sum) = sum else { bail!("`{text}` is no duration: expected for example 500ms, 15s, 1h30m, 2d") };
        total = sum;
        rest = after;
    }
    if text.is_empty() {
        bail!("an empty duration: expected for example 500ms, 15s, 1h30m, 2d");
    }
    Ok(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_prometheus_durations() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("15s", 15_000), ("1h30m", 5_400_000), ("2d", 172_800_000)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "15", "s", "1.5h", "-1s", "99999999999999999999s", "999999999999999y"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        assert_eq!(parse_time("1700000000123").unwrap(), 1_700_000_000_123);
        assert_eq!(parse_time("-1").unwrap(), -1);
        assert_eq!(parse_time("2023-11-14T22:13:20.123Z").unwrap(), 1_700_000_000_123);
        assert!(now_ms() - parse_time("-1h").unwrap() >= 3_600_000);
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn stamps_carry_both_forms() {
        let at = |ms| Stamp { ms, local: false }.to_string();
        assert_eq!(at(1_700_000_000_123), "2023-11-14T22:13:20.123Z (1700000000123)");
        assert_eq!(at(-1), "1969-12-31T23:59:59.999Z (-1)");
        assert_eq!(at(i64::MAX), "9223372036854775807 ms");
    }
}
