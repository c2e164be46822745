//! Appending histograms.
//!
//! A histogram chunk is meant to have 1,024 bytes: when a quarter is full its end is estimated from the rate, as for
//! floats. It has at least ten samples unless its time range ends, and at 2,048 bytes it is cut whatever was estimated.
//! What else cuts it (a counter reset, another schema or layout) the chunk's appender decides.

use std::sync::Arc;

use head_chunks::Encoding;
use head_chunks::histogram::{Appended as Fit, Appender, Coded};
use head_chunks::packed::PackedState;
use tsdb_model::histogram::NativeHistogram;

use super::cut::{ChunkRules, estimated_end};
use super::float::Appended;
use super::rare::Open;
use super::same::same_histogram;
use super::{Finished, LastKind, Partition, Rare, Refusal};
use crate::append::AnyHistogram;

const TARGET_BYTES: usize = 1024;
const MIN_SAMPLES: u16 = 10;

/// An open histogram chunk, and the last histogram as it came: a repeat of it is no conflict.
#[derive(Debug)]
pub(super) struct OpenHistogram<B: Native> {
    pub(super) appender: Appender<B>,
    last: NativeHistogram<B>,
}

impl<B: Native> OpenHistogram<B> {
    pub(super) fn chunk(&self) -> (Encoding, u16, Vec<u8>) {
        (self.appender.encoding(), self.appender.num_samples(), self.appender.to_bytes())
    }

    pub(super) fn bytes(&self) -> usize {
        let buckets = self.last.positive_buckets.len() + self.last.negative_buckets.len();
        let spans = self.last.positive_spans.len() + self.last.negative_spans.len();
        self.appender.heap_size() + (buckets + spans + self.last.custom_values.len()) * 8
    }
}

/// Integer and float histograms: which of the open chunks is theirs.
pub(super) trait Native: Coded {
    const KIND: LastKind;
    fn open(open: &mut Open) -> Option<&mut OpenHistogram<Self>>;
    fn wrap(open: OpenHistogram<Self>) -> Open;
    fn take(open: Open) -> Option<OpenHistogram<Self>>;
}

impl Native for i64 {
    const KIND: LastKind = LastKind::Histogram;

    fn open(open: &mut Open) -> Option<&mut OpenHistogram<Self>> {
        if let Open::Histogram(open) = open { Some(open) } else { None }
    }

    fn wrap(open: OpenHistogram<Self>) -> Open {
        Open::Histogram(open)
    }

    fn take(open: Open) -> Option<OpenHistogram<Self>> {
        if let Open::Histogram(open) = open { Some(open) } else { None }
    }
}

impl Native for f64 {
    const KIND: LastKind = LastKind::FloatHistogram;

    fn open(open: &mut Open) -> Option<&mut OpenHistogram<Self>> {
        if let Open::FloatHistogram(open) = open { Some(open) } else { None }
    }

    fn wrap(open: OpenHistogram<Self>) -> Open {
        Open::FloatHistogram(open)
    }

    fn take(open: Open) -> Option<OpenHistogram<Self>> {
        if let Open::FloatHistogram(open) = open { Some(open) } else { None }
    }
}

impl Partition {
    /// Whether a histogram at `t` would go into the series in order. One equal to the newest is fine.
    pub(crate) fn accepts_histogram(&self, row: usize, t: i64, histogram: &AnyHistogram) -> Result<(), Refusal> {
        let newest = self.max_time(row);
        if t > newest {
            return Ok(());
        }
        let open = self.rares.get(row).map(|rare| &rare.open);
        if t < newest || (open.is_none() && self.hot[row].xor.num_samples() == 0) {
            return Err(Refusal::OutOfOrder);
        }
        let same = match (open, histogram) {
            (Some(Open::Histogram(open)), AnyHistogram::Int(histogram)) => same_histogram(&open.last, histogram),
            (Some(Open::FloatHistogram(open)), AnyHistogram::Float(histogram)) => same_histogram(&open.last, histogram),
            _ => false,
        };
        if same { Ok(()) } else { Err(Refusal::Duplicate) }
    }

    /// Appends a histogram. `st` is its start timestamp, 0 for none.
    #[expect(private_bounds, reason = "both kinds there are satisfy it")]
    pub(crate) fn append_histogram<B: Native>(
        &mut self,
        row: usize,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
        rules: &ChunkRules,
    ) -> Appended {
        if t <= self.max_time(row) {
            return Appended::Late;
        }
        // A start timestamp needs an encoding that has room for it, whatever the options say.
        let starts = rules.histogram_st || st != 0;
        let mut cut = false;
        let mut previous = None;
        let keeps = self.rares.get_mut(row).is_some_and(|rare| rare.takes_histogram::<B>(t, starts, rules));
        if !keeps {
            previous = self.take_previous::<B>(row);
            cut = previous.is_some() || self.finish_open(row);
        }
        let Some(rare) = self.rares.get_mut(row) else {
            let mut appender = Appender::new(starts);
            if let Err(error) = appender.append(previous.as_ref(), st, t, histogram) {
                // Validated when it was appended, or read from a log that nobody validated.
                tracing::warn!(%error, "a histogram whose buckets do not match its spans is left out");
                return Appended::Late;
            }
            let open = B::wrap(OpenHistogram { appender, last: histogram.clone() });
            let rare = Rare { mint: t, next_at: rules.range_end(t), estimated: false, open };
            self.rares.set(row, self.hot.len(), rare);
            self.cold[row].last_kind = B::KIND;
            return Self::cut_or_added(cut);
        };
        let (mint, maxt) = (rare.mint, rare.open_maxt());
        let Some(open) = B::open(&mut rare.open) else { return Appended::Late };
        match open.appender.append(None, st, t, histogram) {
            Ok(Fit::InPlace | Fit::Recoded) => {
                open.last.clone_from(histogram);
                Appended::Added
            }
            Ok(Fit::NewChunk { finished, .. }) => {
                open.last.clone_from(histogram);
                rare.mint = t;
                rare.next_at = rules.range_end(t);
                // Whether the end was estimated stays as it was, as in the reference.
                self.hot[row].xor = PackedState::new_after(maxt);
                self.finished.push(Finished {
                    low: self.rank.low(row),
                    encoding: finished.encoding,
                    samples: finished.num_samples(),
                    mint,
                    maxt,
                    bytes: Arc::from(finished.data),
                });
                Appended::Cut
            }
            Err(error) => {
                tracing::warn!(%error, "a histogram that no chunk takes is left out");
                Appended::Late
            }
        }
    }

    /// Finishes an open chunk of the same kind of histograms and hands out its appender: the next chunk's header says
    /// whether there was a counter reset in between.
    fn take_previous<B: Native>(&mut self, row: usize) -> Option<Appender<B>> {
        B::open(&mut self.rares.get_mut(row)?.open)?;
        let rare = self.rares.take(row)?;
        self.hot[row].xor = PackedState::new_after(rare.open_maxt());
        self.finished.push(rare.finished(self.rank.low(row)));
        Some(B::take(rare.open)?.appender)
    }
}

impl Rare {
    /// Whether the open chunk takes a histogram at `t`; decides about its end on the way.
    fn takes_histogram<B: Native>(&mut self, t: i64, starts: bool, rules: &ChunkRules) -> bool {
        let (mint, maxt) = (self.mint, self.open_maxt());
        let Some(open) = B::open(&mut self.open) else { return false };
        let encoding = open.appender.encoding();
        if starts && !encoding.has_start_timestamps() {
            return false;
        }
        let (samples, bytes) = (open.appender.num_samples(), open.appender.byte_len());
        let range_end = if self.estimated { rules.range_end(mint) } else { self.next_at };
        if !self.estimated && bytes >= TARGET_BYTES / 4 {
            self.next_at = estimated_end(mint, maxt, self.next_at, TARGET_BYTES as f64 / bytes as f64);
            self.estimated = true;
        }
        let over = t >= self.next_at || bytes >= TARGET_BYTES * 2;
        let long_enough = samples >= MIN_SAMPLES || t >= range_end;
        !(over && long_enough) && samples < encoding.capacity()
    }
}
