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
    Int(Histogram),
    Float(FloatHistogram),
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
            SampleType::Histogram { .. } => Self::Int(Histogram { sum, ..Histogram::default() }),
            SampleType::FloatHistogram { .. } => Self::Float(FloatHistogram { sum, ..FloatHistogram::default() }),
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
    pub(crate) histograms: Vec<HistogramEntry<Histogram>>,
    pub(crate) float_histograms: Vec<HistogramEntry<FloatHistogram>>,
}

impl Batch {
    fn clear(&mut self) {
        self.floats.clear();
        self.histograms.clear();
        self.float_histograms.clear();
    }
}

/// The histogram type of each series in the last batch that has one.
#[derive(Debug, Default)]
enum Kinds {
    #[default]
    None,
    /// The batch has histograms of this type alone: whose they are it says itself, if anybody wants to know.
    All(SampleType),
    Each(HashMap<u64, SampleType>),
}

/// Labels of so many new series are kept until they are logged; those of more are looked up again.
const KEPT_LABELS: usize = 4096;

/// An appender's memory, used again by the next one.
#[derive(Debug, Default)]
pub(crate) struct AppendBuffers {
    /// The first `used` of them hold something.
    batches: Vec<Batch>,
    used: usize,
    kinds: Kinds,
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
        if self.used == 0 || (self.has_histograms() && self.kind(sample.series.0).is_some()) {
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
        if self.used == 0 {
            self.next_batch();
        }
        match self.kinds {
            Kinds::None => self.kinds = Kinds::All(sample_type),
            Kinds::All(all) if all == sample_type => {}
            _ => self.note_kind(series.0, sample_type),
        }
        let batch = &mut self.batches[self.used - 1];
        match histogram {
            AnyHistogram::Int(histogram) => batch.histograms.push(HistogramEntry { series, st, t, histogram }),
            AnyHistogram::Float(histogram) => batch.float_histograms.push(HistogramEntry { series, st, t, histogram }),
        }
    }

    /// Whether any series has histograms in the last batch.
    #[inline]
    pub(crate) fn has_histograms(&self) -> bool {
        !matches!(self.kinds, Kinds::None)
    }

    /// The type of the series' histograms in the last batch, if it has any.
    fn kind(&mut self, series: u64) -> Option<SampleType> {
        self.each_kind().get(&series).copied()
    }

    /// Notes a type that not all histograms of the last batch have; a series of another type begins the next one.
    #[cold]
    fn note_kind(&mut self, series: u64, sample_type: SampleType) {
        if self.kind(series).is_some_and(|before| before != sample_type) {
            self.next_batch();
            self.kinds = Kinds::All(sample_type);
        } else {
            self.each_kind().insert(series, sample_type);
        }
    }

    fn each_kind(&mut self) -> &mut HashMap<u64, SampleType> {
        if let Kinds::All(all) = self.kinds
            && let Some(last) = self.batches[..self.used].last()
        {
            let refs = last.histograms.iter().map(|entry| entry.series.0);
            let refs = refs.chain(last.float_histograms.iter().map(|entry| entry.series.0));
            self.kinds = Kinds::Each(refs.map(|series| (series, all)).collect());
        } else if !matches!(self.kinds, Kinds::Each(_)) {
            self.kinds = Kinds::Each(HashMap::new());
        }
        match &mut self.kinds {
            Kinds::Each(each) => each,
            _ => unreachable!("made just now"),
        }
    }

    /// A staleness marker for a series that has histograms in this batch, as one of that type.
    pub(crate) fn stale_as_histogram(&mut self, series: u64, marker: f64) -> Option<AnyHistogram> {
        self.kind(series).map(|sample_type| AnyHistogram::stale(sample_type, marker))
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
        self.kinds = Kinds::None;
        if self.batches.len() == self.used {
            self.batches.push(Batch::default());
        }
        self.used += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.batches.truncate(4);
        self.batches.iter_mut().for_each(Batch::clear);
        self.used = 0;
        self.kinds = Kinds::None;
        self.created.clear();
        self.created_labels.clear();
        self.unlogged.clear();
        self.records.clear();
    }
}
