//! The text form of records: for eyes, not for programs.

use crate::histograms::body::Wire;
use crate::{Exemplar, Metadata, MmapMarker, OwnedHistogram, Record, RecordEntries, Sample, Series, Tombstone};
use core::fmt;
use tsdb_model::gotext::{write_float_g, write_quoted};
use tsdb_model::histogram::NativeHistogram;
use tsdb_model::staleness::is_stale;

pub(crate) fn write_value(f: &mut fmt::Formatter<'_>, v: f64) -> fmt::Result {
    if is_stale(v) { f.write_str("stale") } else { write_float_g(f, v) }
}

fn write_start(f: &mut fmt::Formatter<'_>, st: i64) -> fmt::Result {
    if st == 0 { Ok(()) } else { write!(f, " st={st}") }
}

/// `ref=1 {__name__="up"}`
impl fmt::Display for Series<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} {}", self.series, self.labels)
    }
}

/// `ref=1 t=1000 v=1.5`, with ` st=…` when there is one; `v=stale` for the stale marker.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} t={} v=", self.series, self.t)?;
        write_value(f, self.v)?;
        write_start(f, self.st)
    }
}

/// `ref=1 t=1000 {count:3, …}`, with ` st=…` when there is one; `stale` for the stale marker.
impl<B: Wire> fmt::Display for OwnedHistogram<B>
where
    NativeHistogram<B>: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} t={} ", self.series, self.t)?;
        if self.histogram.is_stale() {
            f.write_str("stale")?;
        } else {
            write!(f, "{}", self.histogram)?;
        }
        write_start(f, self.st)
    }
}

/// `ref=1 mint=0 maxt=9`
impl fmt::Display for Tombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} mint={} maxt={}", self.series, self.mint, self.maxt)
    }
}

/// `ref=1 t=1000 v=1.5 {trace_id="a"}`
impl fmt::Display for Exemplar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} t={} v=", self.series, self.t)?;
        write_value(f, self.v)?;
        write!(f, " {}", self.labels)
    }
}

/// `ref=1 type=counter unit="" help="…"`
impl fmt::Display for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} type={} unit=", self.series, self.metric_type)?;
        write_quoted(f, self.unit)?;
        f.write_str(" help=")?;
        write_quoted(f, self.help)
    }
}

/// `ref=1 file=1 offset=8`
impl fmt::Display for MmapMarker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ref={} file={} offset={}", self.series, self.file(), self.offset())
    }
}

pub(crate) fn write_lines<T: fmt::Display>(f: &mut fmt::Formatter<'_>, entries: &[T]) -> fmt::Result {
    entries.iter().try_for_each(|entry| writeln!(f, "  {entry}"))
}

/// A line for the record, then one for each entry, indented; every line ends with a newline.
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().map_or("unknown", crate::Kind::name))?;
        match self.tag {
            Some(tag) => write!(f, " (tag {tag}): ")?,
            None => f.write_str(" (no tag): ")?,
        }
        if let RecordEntries::Unknown { bytes } = self.entries {
            return writeln!(f, "{bytes} bytes");
        }
        match self.len() {
            1 => f.write_str("1 entry")?,
            n => write!(f, "{n} entries")?,
        }
        if self.skipped > 0 {
            write!(f, ", {} of unknown schemas skipped", self.skipped)?;
        }
        f.write_str("\n")?;
        match &self.entries {
            RecordEntries::Series(e) => write_lines(f, e),
            RecordEntries::Samples(e) => write_lines(f, e),
            RecordEntries::Histograms(e) => write_lines(f, e),
            RecordEntries::FloatHistograms(e) => write_lines(f, e),
            RecordEntries::Tombstones(e) => write_lines(f, e),
            RecordEntries::Exemplars(e) => write_lines(f, e),
            RecordEntries::Metadata(e) => write_lines(f, e),
            RecordEntries::MmapMarkers(e) => write_lines(f, e),
            RecordEntries::Unknown { .. } => Ok(()),
        }
    }
}
