//! Appending histograms.
//!
//! A histogram chunk is meant to have 1,024 bytes: when a quarter is full its end is estimated from the rate, as for
//! floats. It has at least ten samples unless its time range ends, and at 2,048 bytes it is cut whatever was estimated.
//! What else cuts it (a counter reset, another schema or layout) the chunk's appender decides.

use head_chunks::Encoding;
use head_chunks::histogram::{AppendError, AppendState, Appended as Fit, Coded};
use head_chunks::packed::PackedState;
use tsdb_model::histogram::NativeHistogram;

use super::cut::{ChunkRules, estimated_end};
use super::float::Appended;
use super::rare::Open;
use super::same::same_histogram;
use super::segments::{Chain, InSegments, Segments};
use super::{Finished, LastKind, Partition, Rare, Refusal};
use crate::append::AnyHistogram;

const TARGET_BYTES: usize = 1024;
const MIN_SAMPLES: u16 = 10;

/// An open histogram chunk.
#[derive(Debug)]
pub(crate) struct OpenHistogram<B: Native> {
    pub(super) state: AppendState<B>,
    pub(super) chain: Chain,
    /// The last histogram as it came, if the chunk does not say all of it: a repeat of it is no conflict.
    last: Option<Box<NativeHistogram<B>>>,
}

impl<B: Native> OpenHistogram<B> {
    fn new(starts: bool) -> Self {
        Self { state: AppendState::new(starts), chain: Chain::EMPTY, last: None }
    }

    #[inline]
    fn append(
        &mut self,
        segments: &mut Segments,
        previous: Option<&AppendState<B>>,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
    ) -> Result<Fit, AppendError> {
        let pieces = self.state.full_pieces();
        let mut pieces = InSegments { segments, chain: &mut self.chain, pieces };
        let fit = self.state.append(&mut pieces, previous, st, t, histogram)?;
        self.last = if self.state.keeps_all_of(histogram) { None } else { Some(Box::new(histogram.clone())) };
        Ok(fit)
    }

    fn is_last(&self, histogram: &NativeHistogram<B>) -> bool {
        match &self.last {
            Some(last) => same_histogram(last, histogram),
            None => self.state.last().is_some_and(|last| same_histogram(&last, histogram)),
        }
    }

    pub(super) fn chunk(&self, segments: &Segments) -> (Encoding, u16, Vec<u8>) {
        let mut bytes = Vec::with_capacity(self.state.byte_len());
        self.state.assemble(segments.runs(self.chain, self.state.full_pieces()), &mut bytes);
        (self.state.encoding(), self.state.num_samples(), bytes)
    }

    pub(super) fn bytes(&self) -> usize {
        let last = self.last.as_ref().map_or(0, |last| {
            let buckets = last.positive_buckets.len() + last.negative_buckets.len();
            let spans = last.positive_spans.len() + last.negative_spans.len();
            size_of::<NativeHistogram<B>>() + (buckets + spans + last.custom_values.len()) * 8
        });
        self.state.heap_size() + last
    }
}

/// Integer and float histograms: which of the open chunks is theirs.
pub(crate) trait Native: Coded {
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
            (Some(Open::Histogram(open)), AnyHistogram::Int(histogram)) => open.is_last(histogram),
            (Some(Open::FloatHistogram(open)), AnyHistogram::Float(histogram)) => open.is_last(histogram),
            _ => false,
        };
        if same { Ok(()) } else { Err(Refusal::Duplicate) }
    }

    /// Appends a histogram. `st` is its start timestamp, 0 for none.
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
            let mut open = OpenHistogram::new(starts);
            if let Err(error) = open.append(&mut self.segments, previous.as_ref(), st, t, histogram) {
                // Validated when it was appended, or read from a log that nobody validated.
                tracing::warn!(%error, "a histogram whose buckets do not match its spans is left out");
                return Appended::Late;
            }
            let rare = Rare { mint: t, next_at: rules.range_end(t), estimated: false, open: B::wrap(open) };
            self.rares.set(row, self.hot.len(), rare);
            self.cold[row].last_kind = B::KIND;
            return Self::cut_or_added(cut);
        };
        let (mint, maxt) = (rare.mint, rare.open_maxt());
        let Some(open) = B::open(&mut rare.open) else { return Appended::Late };
        match open.append(&mut self.segments, None, st, t, histogram) {
            Ok(Fit::InPlace | Fit::Recoded) => Appended::Added,
            Ok(Fit::NewChunk { finished, .. }) => {
                rare.mint = t;
                rare.next_at = rules.range_end(t);
                // Whether the end was estimated stays as it was, as in the reference.
                self.hot[row].xor = PackedState::new_after(maxt);
                self.finished.push_back(Finished {
                    low: self.rank.low(row),
                    encoding: finished.encoding,
                    samples: finished.num_samples(),
                    mint,
                    maxt,
                    packed: None,
                    bytes: finished.data.into(),
                });
                Appended::Cut
            }
            Err(error) => {
                tracing::warn!(%error, "a histogram that no chunk takes is left out");
                Appended::Late
            }
        }
    }

    /// Finishes an open chunk of the same kind of histograms and hands out its state: the next chunk's header says whether
    /// there was a counter reset in between.
    fn take_previous<B: Native>(&mut self, row: usize) -> Option<AppendState<B>> {
        B::open(&mut self.rares.get_mut(row)?.open)?;
        Some(B::take(self.take_finished(row)?.open)?.state)
    }
}

impl Rare {
    /// Whether the open chunk takes a histogram at `t`; decides about its end on the way.
    fn takes_histogram<B: Native>(&mut self, t: i64, starts: bool, rules: &ChunkRules) -> bool {
        let (mint, maxt) = (self.mint, self.open_maxt());
        let Some(open) = B::open(&mut self.open) else { return false };
        let encoding = open.state.encoding();
        if starts && !encoding.has_start_timestamps() {
            return false;
        }
        let (samples, bytes) = (open.state.num_samples(), open.state.byte_len());
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
