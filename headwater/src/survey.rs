//! One pass over the logs that counts: what `inspect` and `top` show.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::Result;
use serde::Serialize;
use tsdb_model::staleness::is_stale;
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::Fs;
use wal_format::{
    DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, Kind, MetadataBatch, MmapMarkerBatch, RecordSink,
    SampleBatch, SeriesBatch, Timed, TombstoneBatch, dispatch,
};
use wal_segment::{Compression, layout};

use crate::source::{self, LogPart, Role, Step};

/// A series without a sample for so long before the newest sample is taken for dead: Prometheus' lookback.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// First and last time, milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    pub(crate) min: i64,
    pub(crate) max: i64,
}

impl Span {
    fn widen(span: &mut Option<Self>, t: i64) {
        let span = span.get_or_insert(Self { min: t, max: t });
        span.min = span.min.min(t);
        span.max = span.max.max(t);
    }
}

/// What there is of one kind of record.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct KindCount {
    pub(crate) records: u64,
    pub(crate) entries: u64,
    /// Of the records, decompressed.
    pub(crate) bytes: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Span>,
}

/// What there is in one segment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SegmentCount {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) snappy_records: u64,
    pub(crate) zstd_records: u64,
    /// Of the records, decompressed.
    pub(crate) record_bytes: u64,
    pub(crate) series: u64,
    pub(crate) samples: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<Span>,
}

/// What there is of one series.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeriesCount {
    /// `None` for a ref that no series record explains.
    pub(crate) labels: Option<Labels>,
    pub(crate) samples: u64,
    /// Its share of the records' bytes.
    pub(crate) bytes: u64,
    pub(crate) last: Option<i64>,
    /// The newest sample is the staleness marker.
    pub(crate) stale: bool,
}

impl SeriesCount {
    /// True if the series still gets samples at `newest`.
    pub(crate) fn is_live(&self, newest: i64) -> bool {
        !self.stale && self.last.is_some_and(|last| last >= newest.saturating_sub(LOOKBACK_MS))
    }
}

/// A place that could not be read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FaultCount {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) error: String,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) kinds: HashMap<Kind, KindCount>,
    pub(crate) unknown: KindCount,
    pub(crate) segments: Vec<SegmentCount>,
    pub(crate) series: HashMap<SeriesRef, SeriesCount>,
    pub(crate) faults: Vec<FaultCount>,
    /// Of samples and histograms.
    pub(crate) time: Option<Span>,
    keep_labels: bool,
    open: KindCount,
}

impl Survey {
    /// Reads `parts` to the end, behind damage too. Labels are kept only if asked for: they are most of the memory.
    pub(crate) fn take(fs: &Fs, parts: &[LogPart], keep_labels: bool, mut progress: impl FnMut(u64)) -> Result<Self> {
        let mut survey = Self { keep_labels, ..Self::default() };
        for part in parts {
            let first = survey.segments.len();
            for segment in &part.segments {
                let file = format!("{}{}", part.prefix, source::file_name(&segment.path));
                survey.segments.push(SegmentCount::empty(file, segment.len));
            }
            let numbers: HashMap<u64, usize> =
                part.segments.iter().enumerate().map(|(at, segment)| (segment.index, first + at)).collect();
            let mut last = (u64::MAX, 0);
            let walked = source::walk(fs, part, |step| {
                match step {
                    Step::Record(record) => {
                        let segment = record.position.segment;
                        progress(record.end.saturating_sub(if last.0 == segment { last.1 } else { 0 }));
                        last = (segment, record.end);
                        if let Some(at) = numbers.get(&segment) {
                            survey.record(*at, part.role, &record);
                        }
                    }
                    Step::Fault(fault) => {
                        let file = format!("{}{}", part.prefix, layout::segment_name(fault.segment));
                        survey.faults.push(FaultCount { file, offset: fault.offset, error: fault.error });
                    }
                }
                Ok(ControlFlow::Continue(()))
            })?;
            debug_assert!(walked.is_continue(), "nothing ends the walk");
        }
        Ok(survey)
    }

    fn record(&mut self, at: usize, role: Role, record: &wal_segment::Record<'_>) {
        let bytes = record.bytes.len() as u64;
        let segment = &mut self.segments[at];
        segment.records += 1;
        segment.record_bytes += bytes;
        match record.compression {
            Compression::None => {}
            Compression::Snappy => segment.snappy_records += 1,
            Compression::Zstd => segment.zstd_records += 1,
        }
        self.open = KindCount { records: 1, bytes, ..KindCount::default() };
        if let Err(error) = dispatch(record.bytes, self) {
            let (file, offset) = (self.segments[at].file.clone(), record.position.offset);
            self.faults.push(FaultCount { file, offset, error: error.to_string() });
        }
        let open = self.open;
        let Some(kind) = Kind::of_record(record.bytes) else {
            self.unknown.records += 1;
            self.unknown.bytes += bytes;
            return;
        };
        let count = self.kinds.entry(kind).or_default();
        count.records += 1;
        count.entries += open.entries;
        count.bytes += bytes;
        let segment = &mut self.segments[at];
        match kind {
            Kind::Series => segment.series += open.entries,
            Kind::Samples | Kind::Histograms | Kind::FloatHistograms => segment.samples += open.entries,
            _ => {}
        }
        if let Some(time) = open.time {
            for t in [time.min, time.max] {
                Span::widen(&mut count.time, t);
                Span::widen(&mut segment.time, t);
                // What the out-of-order log holds does not make a series live.
                if matches!(kind, Kind::Samples | Kind::Histograms | Kind::FloatHistograms) && role != Role::OutOfOrder
                {
                    Span::widen(&mut self.time, t);
                }
            }
        }
    }

    /// A sample of any kind.
    fn sample(&mut self, series: SeriesRef, t: i64, stale: bool, bytes: u64) {
        self.open.entries += 1;
        Span::widen(&mut self.open.time, t);
        let count = self.series.entry(series).or_default();
        count.samples += 1;
        count.bytes += bytes;
        if count.last.is_none_or(|last| last <= t) {
            count.last = Some(t);
            count.stale = stale;
        }
    }

    /// Refs with samples that no series record explains.
    pub(crate) fn unknown_refs(&self) -> usize {
        self.series.values().filter(|series| series.labels.is_none()).count()
    }

    /// The newest sample's time.
    pub(crate) fn newest(&self) -> i64 {
        self.time.map_or(i64::MIN, |time| time.max)
    }

    /// Samples of all kinds.
    pub(crate) fn samples(&self) -> u64 {
        let kinds = [Kind::Samples, Kind::Histograms, Kind::FloatHistograms];
        kinds.iter().filter_map(|kind| self.kinds.get(kind)).map(|count| count.entries).sum()
    }
}

impl SegmentCount {
    fn empty(file: String, bytes: u64) -> Self {
        Self {
            file,
            bytes,
            records: 0,
            snappy_records: 0,
            zstd_records: 0,
            record_bytes: 0,
            series: 0,
            samples: 0,
            time: None,
        }
    }
}

impl RecordSink for Survey {
    type Error = DecodeError;

    fn series(&mut self, batch: SeriesBatch<'_>) -> Result<(), DecodeError> {
        for entry in batch.iter() {
            let entry = entry?;
            self.open.entries += 1;
            let bytes = entry.labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() as u64;
            let keep = self.keep_labels;
            let count = self.series.entry(entry.series).or_default();
            count.bytes += bytes;
            if count.labels.is_none() {
                count.labels = Some(if keep { entry.labels.to_labels() } else { Labels::empty() });
            }
        }
        Ok(())
    }

    fn samples(&mut self, batch: SampleBatch<'_>) -> Result<(), DecodeError> {
        let bytes = self.open.bytes / (batch.validate()?.entries as u64).max(1);
        batch.for_each(|sample| self.sample(sample.series, sample.t, is_stale(sample.v), bytes))
    }

    fn histograms(&mut self, batch: HistogramBatch<'_>) -> Result<(), DecodeError> {
        let bytes = self.open.bytes / (batch.validate()?.entries as u64).max(1);
        for entry in batch.iter() {
            let entry = entry?;
            self.sample(entry.series, entry.t, is_stale(entry.histogram.sum()), bytes);
        }
        Ok(())
    }

    fn float_histograms(&mut self, batch: FloatHistogramBatch<'_>) -> Result<(), DecodeError> {
        let bytes = self.open.bytes / (batch.validate()?.entries as u64).max(1);
        for entry in batch.iter() {
            let entry = entry?;
            self.sample(entry.series, entry.t, is_stale(entry.histogram.sum()), bytes);
        }
        Ok(())
    }

    fn tombstones(&mut self, batch: TombstoneBatch<'_>) -> Result<(), DecodeError> {
        for entry in batch.iter() {
            entry?;
            self.open.entries += 1;
        }
        Ok(())
    }

    fn exemplars(&mut self, batch: ExemplarBatch<'_>) -> Result<(), DecodeError> {
        for entry in batch.iter() {
            let t = entry?.t();
            self.open.entries += 1;
            Span::widen(&mut self.open.time, t);
        }
        Ok(())
    }

    fn metadata(&mut self, batch: MetadataBatch<'_>) -> Result<(), DecodeError> {
        for entry in batch.iter() {
            entry?;
            self.open.entries += 1;
        }
        Ok(())
    }

    fn mmap_markers(&mut self, batch: MmapMarkerBatch<'_>) -> Result<(), DecodeError> {
        for entry in batch.iter() {
            entry?;
            self.open.entries += 1;
        }
        Ok(())
    }

    fn unknown(&mut self, _tag: Option<u8>, _record: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
}
