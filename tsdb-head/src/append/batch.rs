//! What an appender holds until it commits.
//!
//! In the log all floats of a batch stand before its histograms, and those before its float histograms. So that every
//! series' samples keep their order, a series has one type per batch: a sample of another type begins the next batch,
//! except for histograms behind floats, which is the order anyway.

use std::collections::HashMap;

use tsdb_model::histogram::{FloatHistogram, Histogram};
use tsdb_model::{Labels, SeriesRef};
use wal_format::Sample;

/// What must not be mixed within a batch, floats apart: each has a log record or a chunk encoding of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleType {
    Histogram { custom: bool },
    FloatHistogram { custom: bool },
}

/// An integer or a float histogram.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnyHistogram {
    Int(Box<Histogram>),
    Float(Box<FloatHistogram>),
}

impl AnyHistogram {
    pub(crate) fn sample_type(&self) -> SampleType {
        match self {
            Self::Int(h) => SampleType::Histogram { custom: h.uses_custom_buckets() },
            Self::Float(h) => SampleType::FloatHistogram { custom: h.uses_custom_buckets() },
        }
    }

    /// The staleness marker of a histogram series.
    pub(crate) fn stale(sample_type: SampleType, sum: f64) -> Self {
        match sample_type {
            SampleType::Histogram { .. } => Self::Int(Box::new(Histogram { sum, ..Histogram::default() })),
            SampleType::FloatHistogram { .. } => {
                Self::Float(Box::new(FloatHistogram { sum, ..FloatHistogram::default() }))
            }
        }
    }
}

/// A histogram with its series and times.
#[derive(Debug, Clone)]
pub(crate) struct HistogramEntry<H> {
    pub(crate) series: SeriesRef,
    pub(crate) st: i64,
    pub(crate) t: i64,
    pub(crate) histogram: H,
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) floats: Vec<Sample>,
    pub(crate) histograms: Vec<HistogramEntry<Box<Histogram>>>,
    pub(crate) float_histograms: Vec<HistogramEntry<Box<FloatHistogram>>>,
}

impl Batch {
    fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
        self.float_histograms.clear();
    }
}

/// Labels of so many new series are kept until they are logged; those of more are looked up again.
const KEPT_LABELS: usize = 4096;

/// An appender's memory, used again by the next one.
#[derive(Debug, Default)]
pub(crate) struct AppendBuffers {
    /// The first `used` of them hold something.
    batches: Vec<Batch>,
    used: usize,
    /// The histogram type of each series in the last batch that has one.
    pub(crate) kinds: HashMap<u64, SampleType>,
    /// Series this appender made, ascending.
    pub(crate) created: Vec<u64>,
    /// The labels of the first ones of them, which are about to be written to the log.
    pub(crate) created_labels: Vec<Labels>,
    /// Series that were not in the log yet when a sample was taken for them; with repeats.
    pub(crate) unlogged: Vec<u64>,
    pub(crate) ids: Vec<u8>,
    pub(crate) records: wal_format::Batch,
}

impl AppendBuffers {
    pub(crate) fn batches(&self) -> &[Batch] {
        &self.batches[..self.used]
    }

    pub(crate) fn batches_mut(&mut self) -> &mut [Batch] {
        &mut self.batches[..self.used]
    }

    #[inline]
    pub(crate) fn push_float(&mut self, sample: Sample) {
        if self.used == 0 || (!self.kinds.is_empty() && self.kinds.contains_key(&sample.series.0)) {
            self.next_batch();
        }
        self.batches[self.used - 1].floats.push(sample);
    }

    /// Where floats go that begin no batch of their own: those of series without histograms in this transaction.
    pub(crate) fn floats_and_unlogged(&mut self) -> (&mut Vec<Sample>, &mut Vec<u64>) {
        if self.used == 0 {
            self.next_batch();
        }
        (&mut self.batches[self.used - 1].floats, &mut self.unlogged)
    }

    pub(crate) fn push_histogram(&mut self, series: SeriesRef, st: i64, t: i64, histogram: AnyHistogram) {
        let sample_type = histogram.sample_type();
        let other = self.kinds.get(&series.0).is_some_and(|&before| before != sample_type);
        if self.used == 0 || other {
            self.next_batch();
        }
        self.kinds.insert(series.0, sample_type);
        let batch = &mut self.batches[self.used - 1];
        match histogram {
            AnyHistogram::Int(histogram) => batch.histograms.push(HistogramEntry { series, st, t, histogram }),
            AnyHistogram::Float(histogram) => batch.float_histograms.push(HistogramEntry { series, st, t, histogram }),
        }
    }

    /// A staleness marker for a series that has histograms in this batch, as one of that type.
    pub(crate) fn stale_as_histogram(&self, series: u64, marker: f64) -> Option<AnyHistogram> {
        self.kinds.get(&series).map(|&sample_type| AnyHistogram::stale(sample_type, marker))
    }

    /// Notes a series that this appender made.
    pub(crate) fn push_created(&mut self, series: u64, labels: &Labels) {
        self.created.push(series);
        if self.created_labels.len() < KEPT_LABELS {
            self.created_labels.push(labels.clone());
        }
    }

    #[cold]
    fn next_batch(&mut self) {
        self.kinds.clear();
        if self.batches.len() == self.used {
            self.batches.push(Batch::default());
        }
        self.used += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.batches.truncate(4);
        self.batches.iter_mut().for_each(Batch::clear);
        self.used = 0;
        self.kinds.clear();
        self.created.clear();
        self.created_labels.clear();
        self.unlogged.clear();
        self.records.clear();
    }
}
