//! Whether a histogram fits the chunk that is open, and with what.

use tsdb_model::histogram::{NativeHistogram, is_custom_buckets_schema};
use tsdb_model::staleness::STALE_NAN_BITS;
use tsdb_model::{CounterResetHint, Span};

use super::AppendState;
use crate::histogram::kind::Cut;
use crate::histogram::spans::{Inserts, expand_counters, expand_gauges};
use crate::histogram::{Coded, CounterReset};

/// How a histogram fits a chunk.
pub(super) enum Fit {
    /// As it is.
    Same,
    /// With other buckets on one side or both.
    Expand { positive: Inserts, negative: Inserts, merged: Option<[Vec<Span>; 2]> },
    /// Not at all.
    Cut(Cut),
}

impl<B: Coded> AppendState<B> {
    /// Why a counter histogram does not fit behind the last sample, if it does not.
    pub(super) fn cut_of(&self, histogram: &NativeHistogram<B>) -> Option<Cut> {
        match self.fit_counter(histogram) {
            Fit::Cut(cut) => Some(cut),
            _ => None,
        }
    }

    pub(super) fn fit(&self, histogram: &NativeHistogram<B>) -> Fit {
        match histogram.counter_reset_hint {
            CounterResetHint::Gauge => self.fit_gauge(histogram),
            _ => self.fit_counter(histogram),
        }
    }

    fn fit_counter(&self, histogram: &NativeHistogram<B>) -> Fit {
        if self.num_samples() > 0 && self.counter_reset == CounterReset::Gauge {
            return Fit::Cut(Cut::Kind);
        }
        if histogram.counter_reset_hint == CounterResetHint::CounterReset {
            return Fit::Cut(Cut::CounterReset);
        }
        if histogram.is_stale() {
            return Fit::Same;
        }
        if self.sum == STALE_NAN_BITS {
            return Fit::Cut(Cut::Layout);
        }
        if histogram.count < B::count(&self.count) {
            return Fit::Cut(Cut::CounterReset);
        }
        if histogram.schema != self.layout.schema || histogram.zero_threshold != self.layout.zero_threshold {
            return Fit::Cut(Cut::Layout);
        }
        if self.other_bounds(histogram) || histogram.zero_count < B::count(&self.zero_count) {
            return Fit::Cut(Cut::CounterReset);
        }
        let (positive, negative) = self.buckets.split_at(self.positive);
        let layout = &self.layout;
        // Most histograms have the layout of the one before: then only the counts are to be compared.
        if layout.positive_spans == histogram.positive_spans && layout.negative_spans == histogram.negative_spans {
            let reset =
                went_down(positive, &histogram.positive_buckets) || went_down(negative, &histogram.negative_buckets);
            return if reset { Fit::Cut(Cut::CounterReset) } else { Fit::Same };
        }
        let expand = |spans: &[Span], cells: &[B::Cell], new_spans: &[Span], new: &[B]| {
            expand_counters(spans, absolutes(cells.iter().map(B::bucket)), new_spans, absolutes(new.iter().copied()))
        };
        let positive = expand(&layout.positive_spans, positive, &histogram.positive_spans, &histogram.positive_buckets);
        let negative = expand(&layout.negative_spans, negative, &histogram.negative_spans, &histogram.negative_buckets);
        match (positive, negative) {
            (Some(positive), Some(negative)) => Fit::of(positive, negative, None),
            _ => Fit::Cut(Cut::CounterReset),
        }
    }

    fn fit_gauge(&self, histogram: &NativeHistogram<B>) -> Fit {
        if self.num_samples() > 0 && self.counter_reset != CounterReset::Gauge {
            return Fit::Cut(Cut::Kind);
        }
        if histogram.is_stale() {
            return Fit::Same;
        }
        let layout = &self.layout;
        if self.sum == STALE_NAN_BITS
            || histogram.schema != layout.schema
            || histogram.zero_threshold != layout.zero_threshold
            || self.other_bounds(histogram)
        {
            return Fit::Cut(Cut::Layout);
        }
        if layout.positive_spans == histogram.positive_spans && layout.negative_spans == histogram.negative_spans {
            return Fit::Same;
        }
        let (positive, positive_spans) = expand_gauges(&layout.positive_spans, &histogram.positive_spans);
        let (negative, negative_spans) = expand_gauges(&layout.negative_spans, &histogram.negative_spans);
        Fit::of(positive, negative, Some([positive_spans, negative_spans]))
    }

    fn other_bounds(&self, histogram: &NativeHistogram<B>) -> bool {
        is_custom_buckets_schema(histogram.schema) && histogram.custom_values != self.layout.custom_values
    }
}

impl Fit {
    fn of(positive: Inserts, negative: Inserts, merged: Option<[Vec<Span>; 2]>) -> Self {
        let nothing = Inserts::default();
        if positive == nothing && negative == nothing {
            return Self::Same;
        }
        Self::Expand { positive, negative, merged }
    }
}

/// The absolute counts of buckets.
fn absolutes<B: Coded>(buckets: impl Iterator<Item = B>) -> impl Iterator<Item = B> {
    buckets.scan(B::default(), |before, bucket| {
        *before = B::absolute(*before, bucket);
        Some(*before)
    })
}

/// Whether any bucket of the same layout lost observations.
#[inline]
fn went_down<B: Coded>(cells: &[B::Cell], buckets: &[B]) -> bool {
    let (mut old, mut new) = (B::default(), B::default());
    cells.iter().zip(buckets).any(|(cell, bucket)| {
        old = B::absolute(old, B::bucket(cell));
        new = B::absolute(new, *bucket);
        old > new
    })
}
