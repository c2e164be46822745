//! What an appender holds until it commits.
//!
//! In the log all floats of a batch stand before its histograms, and those before its float histograms. So that every
//! series' samples keep their order, a series has one type per batch: a sample of another type begins the next batch,
//! except for histograms behind floats, which is the order anyway.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use tsdb_model::histogram::{BucketValue, FloatHistogram, Histogram, NativeHistogram};
use tsdb_model::{Labels, SeriesRef};
use wal_format::{NativeSample, Sample, Wire};

use crate::partition::PartitionCell;
use crate::refs::OwnRefs;

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

/// The memory of so many histograms is kept for those of the next transaction.
const KEPT_HISTOGRAMS: usize = 256;

/// Histograms of one kind, and behind them the memory of earlier ones.
#[derive(Debug)]
pub(crate) struct Histograms<B: BucketValue> {
    entries: Vec<HistogramEntry<NativeHistogram<B>>>,
    used: usize,
}

impl<B: BucketValue> Default for Histograms<B> {
    fn default() -> Self {
        Self { entries: Vec::new(), used: 0 }
    }
}

impl<B: BucketValue> Deref for Histograms<B> {
    type Target = [HistogramEntry<NativeHistogram<B>>];

    fn deref(&self) -> &Self::Target {
        &self.entries[..self.used]
    }
}

impl<B: BucketValue> Histograms<B> {
    pub(crate) fn push(&mut self, entry: HistogramEntry<NativeHistogram<B>>) {
        match self.entries.get_mut(self.used) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        self.used += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.entries.truncate(KEPT_HISTOGRAMS);
        self.used = 0;
    }
}

impl<B: Wire> Histograms<B> {
    /// A copy, into memory that is there already.
    fn copy(&mut self, sample: &NativeSample<'_, B>, st: i64) {
        let NativeSample { series, t, histogram, .. } = *sample;
        let Some(place) = self.entries.get_mut(self.used) else {
            return self.push(HistogramEntry { series, st, t, histogram: histogram.clone() });
        };
        (place.series, place.st, place.t) = (series, st, t);
        let to = &mut place.histogram;
        (to.counter_reset_hint, to.schema) = (histogram.counter_reset_hint, histogram.schema);
        (to.zero_threshold, to.zero_count) = (histogram.zero_threshold, histogram.zero_count);
        (to.count, to.sum) = (histogram.count, histogram.sum);
        to.positive_spans.clone_from(&histogram.positive_spans);
        to.negative_spans.clone_from(&histogram.negative_spans);
        to.positive_buckets.clone_from(&histogram.positive_buckets);
        to.negative_buckets.clone_from(&histogram.negative_buckets);
        to.custom_values.clone_from(&histogram.custom_values);
        self.used += 1;
    }
}

/// Integer and float histograms: which of a batch's are theirs.
pub(crate) trait Staged: Wire {
    fn sample_type(custom: bool) -> SampleType;
    fn of(batch: &mut Batch) -> &mut Histograms<Self>;
    fn any(histogram: NativeHistogram<Self>) -> AnyHistogram;
}

impl Staged for i64 {
    fn sample_type(custom: bool) -> SampleType {
        SampleType::Histogram { custom }
    }

    fn of(batch: &mut Batch) -> &mut Histograms<Self> {
        &mut batch.histograms
    }

    fn any(histogram: Histogram) -> AnyHistogram {
        AnyHistogram::Int(histogram)
    }
}

impl Staged for f64 {
    fn sample_type(custom: bool) -> SampleType {
        SampleType::FloatHistogram { custom }
    }

    fn of(batch: &mut Batch) -> &mut Histograms<Self> {
        &mut batch.float_histograms
    }

    fn any(histogram: FloatHistogram) -> AnyHistogram {
        AnyHistogram::Float(histogram)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) floats: Vec<Sample>,
    pub(crate) histograms: Histograms<i64>,
    pub(crate) float_histograms: Histograms<f64>,
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
    /// Series this appender made, mostly ascending.
    pub(crate) created: Vec<u64>,
    /// The labels of the first ones of them, which are about to be written to the log.
    pub(crate) created_labels: Vec<Labels>,
    /// Series that were not in the log yet when a sample was taken for them; with repeats.
    pub(crate) unlogged: Vec<u64>,
    pub(crate) ids: Vec<u8>,
    pub(crate) records: wal_format::Batch,
    /// Whether the series that were looked for last were many and all new.
    pub(crate) all_new: bool,
    /// For the series it is going to make.
    pub(crate) refs: OwnRefs,
    /// The partition used last: the next appender's samples mostly begin there.
    pub(crate) cell: Option<Arc<PartitionCell>>,
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

    /// Whether all of these histograms go into the last batch whatever their series are: they have one type, and so has
    /// all that is there.
    pub(crate) fn take_together<B: Staged>(&self, samples: &[NativeSample<'_, B>]) -> bool {
        let Some(first) = samples.first() else { return true };
        let custom = first.histogram.uses_custom_buckets();
        samples.iter().all(|sample| sample.histogram.uses_custom_buckets() == custom)
            && match self.kinds {
                Kinds::None => true,
                Kinds::All(all) => all == B::sample_type(custom),
                Kinds::Each(_) => false,
            }
    }

    /// Copies histograms of which [`take_together`](Self::take_together) is true into the last batch.
    pub(crate) fn copy_together<B: Staged>(&mut self, samples: &[NativeSample<'_, B>], starts: bool) {
        let Some(first) = samples.first() else { return };
        if self.used == 0 {
            self.next_batch();
        }
        self.kinds = Kinds::All(B::sample_type(first.histogram.uses_custom_buckets()));
        let histograms = B::of(&mut self.batches[self.used - 1]);
        samples.iter().for_each(|sample| histograms.copy(sample, if starts { sample.st } else { 0 }));
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
