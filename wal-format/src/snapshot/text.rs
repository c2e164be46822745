//! The text form of a snapshot's records: for eyes, not for programs.

use super::{LastValue, SnapshotRecord, SnapshotSeries};
use crate::text::{write_lines, write_value};
use core::fmt;

/// `ref=1 {__name__="up"} chunk mint=1000 maxt=2000 encoding=1 samples=2 bytes=20 last=1.5`
impl fmt::Display for SnapshotSeries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} {}", self.series, self.labels)?;
        let Some(chunk) = &self.chunk else { return f.write_str(" no chunk") };
        write!(f, " chunk mint={} maxt={} encoding={}", chunk.mint, chunk.maxt, chunk.encoding)?;
        if let Some(samples) = chunk.samples() {
            write!(f, " samples={samples}")?;
        }
        write!(f, " bytes={} last=", chunk.bytes.len())?;
        match &chunk.last {
            LastValue::Floats([.., (_, v)]) => write_value(f, *v),
            LastValue::Histogram(h) if h.is_stale() => f.write_str("stale"),
            LastValue::FloatHistogram(h) if h.is_stale() => f.write_str("stale"),
            LastValue::Histogram(h) => write!(f, "{h}"),
            LastValue::FloatHistogram(h) => write!(f, "{h}"),
        }
    }
}

/// A line for the record, then one for each entry, indented; every line ends with a newline.
impl fmt::Display for SnapshotRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.tag() {
            Some(tag) => write!(f, " (tag {tag}): ")?,
            None => f.write_str(" (no tag): ")?,
        }
        match self {
            Self::Unknown { bytes, .. } => return writeln!(f, "{bytes} bytes"),
            _ if self.len() == 1 => f.write_str("1 entry\n")?,
            _ => writeln!(f, "{} entries", self.len())?,
        }
        match self {
            Self::Series(series) => writeln!(f, "  {series}"),
            Self::Tombstones(entries) => write_lines(f, entries),
            Self::Exemplars(entries) => write_lines(f, entries),
            Self::Unknown { .. } => Ok(()),
        }
    }
}
