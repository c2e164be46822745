//! The state of an open histogram chunk.

use tsdb_model::histogram::NativeHistogram;
use tsdb_model::staleness::STALE_NAN_BITS;
use tsdb_model::{CounterResetHint, Span, varint};

use super::fit::Fit;
use super::pieces::Pieces;
use super::{AppendError, Appended};
use crate::bits::{PIECE, SplitBits};
use crate::error::{ChunkFull, DecodeError};
use crate::floats::Count;
use crate::histogram::layout::Layout;
use crate::histogram::spans::{Inserts, bucket_count, insert_empty, with_inserts};
use crate::histogram::{Coded, CounterReset, HEADER, HistogramIter};
use crate::st::{self, FIRST_KNOWN};
use crate::varbit::{self, Field};
use crate::{Chunk, Encoding};

/// The state of an open histogram chunk: an [`Appender`](super::Appender) whose full pieces are its owner's. Each method
/// that takes pieces is to be given the same ones.
///
/// ```
/// use head_chunks::histogram::{AppendState, HistogramIter};
/// use tsdb_model::Histogram;
/// let (mut state, mut pieces) = (AppendState::new(false), Vec::new());
/// for i in 0..40 {
///     let histogram = Histogram { count: i as u64, zero_count: i as u64, sum: i as f64, ..Histogram::default() };
///     state.append(&mut pieces, None, 0, i * 15_000, &histogram)?;
/// }
/// let mut bytes = Vec::new();
/// state.assemble([&pieces[..]], &mut bytes);
/// assert_eq!(bytes.len(), state.byte_len());
/// assert_eq!(HistogramIter::<i64>::new(false, &bytes)?.nth(39).unwrap()?.1.count, 39);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AppendState<B: Coded> {
    bits: SplitBits<Count>,
    start_timestamps: bool,
    pub(super) counter_reset: CounterReset,
    pub(super) layout: Layout,
    /// How many of the buckets are positive.
    pub(super) positive: usize,
    t: i64,
    t_delta: i64,
    pub(super) count: B::Cell,
    pub(super) zero_count: B::Cell,
    pub(super) sum: u64,
    /// Positive buckets, then negative ones.
    pub(super) buckets: Vec<B::Cell>,
    start: i64,
}

/// A histogram's numbers in the layout of the chunk.
struct Numbers<'a, B: Coded> {
    count: B::Count,
    zero_count: B::Count,
    sum: f64,
    positive: &'a [B],
    negative: &'a [B],
}

impl<B: Coded> AppendState<B> {
    /// An empty chunk, of the encoding with or without start timestamps.
    #[must_use]
    pub fn new(start_timestamps: bool) -> Self {
        Self {
            bits: SplitBits::starting_with_zeros(HEADER as u32 * 8, Count::ZERO),
            start_timestamps,
            counter_reset: CounterReset::Unknown,
            layout: Layout::default(),
            positive: 0,
            t: 0,
            t_delta: 0,
            count: B::Cell::default(),
            zero_count: B::Cell::default(),
            sum: 0,
            buckets: Vec::new(),
            start: 0,
        }
    }

    /// Continues an existing chunk. As in the reference, windows are the *reader's*: a number that has not changed yet goes
    /// on as if a 64-bit window had been written.
    ///
    /// # Errors
    /// When the bytes are not a sound chunk of that encoding.
    pub fn resume(start_timestamps: bool, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut iter = HistogramIter::<B>::new(start_timestamps, bytes)?;
        let mut appender = Self::new(start_timestamps);
        appender.counter_reset = iter.counter_reset;
        if iter.total == 0 {
            return Ok(appender);
        }
        while let Some(advanced) = iter.advance() {
            advanced?;
        }
        let beside = Count::new(iter.read as u16, iter.sum_window);
        appender.bits = SplitBits::resume(bytes, iter.bits.pos() as u32, HEADER as u32 * 8, beside);
        if let Some(st) = &iter.st {
            let (header, start) = st.resume(iter.read as u16);
            appender.bits.set_flags(header);
            appender.start = start;
        }
        let numbers = iter.histogram.positive_buckets.iter().chain(&iter.histogram.negative_buckets);
        appender.buckets = numbers.zip(&iter.beside).map(|(bucket, beside)| B::cell(*bucket, *beside)).collect();
        appender.positive = iter.histogram.positive_buckets.len();
        appender.layout = Layout::of(iter.histogram);
        (appender.t, appender.t_delta) = (iter.t, iter.t_delta);
        (appender.count, appender.zero_count, appender.sum) = (iter.count, iter.zero_count, iter.sum);
        Ok(appender)
    }

    /// Appends a histogram of time `t` and start timestamp `st` (milliseconds since the epoch; `st` 0 means none, and it is
    /// not kept without start timestamps). Times are not compared.
    ///
    /// `previous` matters only for the first sample: it is the chunk before this one, and if the histogram itself does not
    /// say whether a counter reset lies between them, the comparison goes into the header.
    ///
    /// # Errors
    /// When the chunk is full, or spans and buckets do not belong together; nothing was changed.
    pub fn append(
        &mut self,
        pieces: &mut impl Pieces,
        previous: Option<&Self>,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
    ) -> Result<Appended, AppendError> {
        self.check(histogram)?;
        if self.num_samples() == 0 {
            self.counter_reset = match histogram.counter_reset_hint {
                CounterResetHint::Gauge => CounterReset::Gauge,
                CounterResetHint::CounterReset => CounterReset::Reset,
                _ => previous.map_or(self.counter_reset, |previous| B::header_behind(previous.cut_of(histogram))),
            };
            self.put_whole(pieces, st, t, histogram);
            return Ok(Appended::InPlace);
        }
        match self.fit(histogram) {
            Fit::Same => {
                self.put_whole(pieces, st, t, histogram);
                Ok(Appended::InPlace)
            }
            Fit::Expand { positive, negative, merged } => {
                Ok(self.append_expanded(pieces, st, t, histogram, &positive, &negative, merged))
            }
            Fit::Cut(cut) => {
                let gauge = histogram.counter_reset_hint == CounterResetHint::Gauge;
                let mut next = Self::new(self.start_timestamps);
                next.counter_reset = if gauge { CounterReset::Gauge } else { B::header_of_cut(cut) };
                let finished = Chunk { encoding: self.encoding(), data: self.to_bytes(pieces) };
                pieces.clear();
                next.put_whole(pieces, st, t, histogram);
                *self = next;
                Ok(Appended::NewChunk { finished, cut })
            }
        }
    }

    /// Appends a histogram only if it fits the chunk, which is then not written anew: what the reference calls append-only.
    /// A counter's empty buckets that the histogram lacks are no obstacle, a gauge's are.
    ///
    /// # Errors
    /// As [`append`](Self::append), and when the histogram does not fit; nothing was changed.
    pub fn try_append(
        &mut self,
        pieces: &mut impl Pieces,
        previous: Option<&Self>,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
    ) -> Result<(), AppendError> {
        self.check(histogram)?;
        if self.num_samples() > 0 {
            match self.fit(histogram) {
                Fit::Same => {}
                Fit::Cut(cut) => return Err(AppendError::Cut(cut)),
                Fit::Expand { positive, negative, merged } => {
                    let forward = positive.forward.len() + negative.forward.len();
                    let backward = positive.backward.len() + negative.backward.len();
                    if forward > 0 || merged.is_some() && backward > 0 {
                        return Err(AppendError::Layout { forward, backward });
                    }
                }
            }
        }
        self.append(pieces, previous, st, t, histogram).map(drop)
    }

    fn check(&self, histogram: &NativeHistogram<B>) -> Result<(), AppendError> {
        let capacity = self.encoding().capacity();
        if self.num_samples() == capacity {
            return Err(ChunkFull { capacity }.into());
        }
        if histogram.is_stale() {
            // Whatever else it holds is not written.
            return Ok(());
        }
        for (side, spans, buckets) in [
            ("positive", &histogram.positive_spans, &histogram.positive_buckets),
            ("negative", &histogram.negative_spans, &histogram.negative_buckets),
        ] {
            let (expected, found) = (bucket_count(spans), buckets.len() as u64);
            if expected != found {
                return Err(AppendError::Buckets { side, expected, found });
            }
        }
        Ok(())
    }

    /// Brings chunk and histogram to one layout and appends.
    #[expect(clippy::too_many_arguments, reason = "what one append brings")]
    fn append_expanded(
        &mut self,
        pieces: &mut impl Pieces,
        st: i64,
        t: i64,
        histogram: &NativeHistogram<B>,
        positive: &Inserts,
        negative: &Inserts,
        merged: Option<[Vec<Span>; 2]>,
    ) -> Appended {
        let recode = !positive.forward.is_empty() || !negative.forward.is_empty();
        let backward = !positive.backward.is_empty() || !negative.backward.is_empty();
        if recode {
            let spans = match merged {
                Some(merged) if backward => merged,
                _ => [
                    with_inserts(&histogram.positive_spans, &positive.backward),
                    with_inserts(&histogram.negative_spans, &negative.backward),
                ],
            };
            self.recode(pieces, spans, positive, negative);
        }
        let (mut positive_buckets, mut negative_buckets) = (Vec::new(), Vec::new());
        insert_empty(&histogram.positive_buckets, &positive.backward, B::DELTAS, &mut positive_buckets);
        insert_empty(&histogram.negative_buckets, &negative.backward, B::DELTAS, &mut negative_buckets);
        self.put(
            pieces,
            st,
            t,
            &Numbers {
                count: histogram.count,
                zero_count: histogram.zero_count,
                sum: histogram.sum,
                positive: &positive_buckets,
                negative: &negative_buckets,
            },
        );
        if recode { Appended::Recoded } else { Appended::InPlace }
    }

    /// Writes the chunk anew in the layout of `spans`, with empty buckets where it had none.
    fn recode(
        &mut self,
        pieces: &mut impl Pieces,
        [positive_spans, negative_spans]: [Vec<Span>; 2],
        positive: &Inserts,
        negative: &Inserts,
    ) {
        let bytes = self.to_bytes(pieces);
        let Ok(mut iter) = HistogramIter::<B>::new(self.start_timestamps, &bytes) else { return };
        pieces.clear();
        let mut recoded = Self::new(self.start_timestamps);
        recoded.counter_reset = self.counter_reset;
        recoded.layout = Layout { positive_spans, negative_spans, ..self.layout.clone() };
        let mut new = (Vec::new(), Vec::new());
        // These are bytes that we wrote; an error in them would end the loop early and show as a missing sample.
        while let Some(Ok(())) = iter.advance() {
            insert_empty(&iter.histogram.positive_buckets, &positive.forward, B::DELTAS, &mut new.0);
            insert_empty(&iter.histogram.negative_buckets, &negative.forward, B::DELTAS, &mut new.1);
            let numbers = Numbers {
                count: B::count(&iter.count),
                zero_count: B::count(&iter.zero_count),
                sum: f64::from_bits(iter.sum),
                positive: &new.0,
                negative: &new.1,
            };
            recoded.put(pieces, iter.st.as_ref().map_or(0, |st| st.st), iter.t, &numbers);
        }
        debug_assert_eq!(recoded.num_samples(), self.num_samples());
        *self = recoded;
    }

    /// Appends a histogram that has the chunk's layout, or whose layout becomes the chunk's.
    #[inline]
    fn put_whole(&mut self, pieces: &mut impl Pieces, st: i64, t: i64, histogram: &NativeHistogram<B>) {
        let stale = histogram.is_stale();
        if self.num_samples() == 0 && !stale {
            self.layout = Layout {
                schema: histogram.schema,
                zero_threshold: histogram.zero_threshold,
                positive_spans: histogram.positive_spans.clone(),
                negative_spans: histogram.negative_spans.clone(),
                custom_values: histogram.custom_values.clone(),
            };
        }
        // A stale histogram says nothing but that it is.
        let numbers = if stale {
            let none = B::Count::default();
            Numbers { count: none, zero_count: none, sum: histogram.sum, positive: &[], negative: &[] }
        } else {
            Numbers {
                count: histogram.count,
                zero_count: histogram.zero_count,
                sum: histogram.sum,
                positive: &histogram.positive_buckets,
                negative: &histogram.negative_buckets,
            }
        };
        self.put(pieces, st, t, &numbers);
    }

    #[inline]
    fn put(&mut self, pieces: &mut impl Pieces, st: i64, t: i64, numbers: &Numbers<'_, B>) {
        let before = self.t;
        if self.num_samples() == 0 {
            self.put_first(pieces, t, numbers);
        } else {
            self.put_next(pieces, t, numbers);
        }
        if self.start_timestamps {
            self.put_st(pieces, st, t, before);
        }
        self.sum = numbers.sum.to_bits();
        self.t = t;
        self.bits.beside = self.bits.beside.next(self.bits.beside.window());
    }

    #[cold]
    fn put_first(&mut self, pieces: &mut impl Pieces, t: i64, numbers: &Numbers<'_, B>) {
        let bits = &mut self.bits;
        let mut put = |[a, b]: Field| bits.put_both(a, b, &mut |piece| pieces.push(piece));
        self.layout.write(&mut put);
        self.positive = self.layout.buckets().0;
        put(varbit::int_field(t));
        let mut cell = |(cell, field)| {
            put(field);
            cell
        };
        self.count = cell(B::first_count(numbers.count));
        self.zero_count = cell(B::first_count(numbers.zero_count));
        put([(0, 0), (numbers.sum.to_bits(), 64)]);
        self.buckets.clear();
        for bucket in numbers.positive.iter().chain(numbers.negative) {
            let (cell, field) = B::first_bucket(*bucket);
            put(field);
            self.buckets.push(cell);
        }
        self.t_delta = 0;
    }

    #[inline]
    fn put_next(&mut self, pieces: &mut impl Pieces, t: i64, numbers: &Numbers<'_, B>) {
        // Copied out, so that the accumulator can live in registers for the whole histogram.
        let mut bits = self.bits;
        let mut emit = |piece: [u8; PIECE]| pieces.push(piece);
        let mut put = |[a, b]: Field| bits.put_both(a, b, &mut emit);
        let t_delta = t.wrapping_sub(self.t);
        put(varbit::int_field(t_delta.wrapping_sub(self.t_delta)));
        self.t_delta = t_delta;
        let sum = numbers.sum.to_bits();
        let stale = sum == STALE_NAN_BITS;
        put(B::next_count(&mut self.count, numbers.count, stale));
        put(B::next_count(&mut self.zero_count, numbers.zero_count, stale));
        let mut window = self.bits.beside.window();
        put(window.xor_field(sum ^ self.sum));
        let (positive, negative) = self.buckets.split_at_mut(self.positive);
        for (cell, bucket) in positive.iter_mut().zip(numbers.positive) {
            put(B::next_bucket(cell, *bucket));
        }
        for (cell, bucket) in negative.iter_mut().zip(numbers.negative) {
            put(B::next_bucket(cell, *bucket));
        }
        bits.beside = Count::new(self.num_samples(), window);
        self.bits = bits;
    }

    fn put_st(&mut self, pieces: &mut impl Pieces, st: i64, t: i64, before: i64) {
        let mut emit = |piece: [u8; PIECE]| pieces.push(piece);
        match self.bits.beside.samples() {
            0 => {
                if st != 0 {
                    self.bits.put_uvarint(varint::zigzag(t.wrapping_sub(st)), &mut emit);
                    self.bits.set_flags(FIRST_KNOWN);
                }
                self.start = st;
            }
            index => {
                if let Some(field) = st::field(self.bits.flags(), &mut self.start, index, before, st) {
                    let [a, b] = field.field;
                    self.bits.put_both(a, b, &mut emit);
                    self.bits.set_flags(field.header);
                }
            }
        }
    }

    /// How many pieces of 16 bytes were handed out since the chunk's start.
    #[must_use]
    pub fn full_pieces(&self) -> usize {
        self.bits.full_pieces()
    }

    /// Whether [`last`](Self::last) gives back the spans of `histogram`, which was appended last, as they are, and so all
    /// of it but the hint.
    #[must_use]
    #[inline]
    pub fn keeps_all_of(&self, histogram: &NativeHistogram<B>) -> bool {
        let layout = &self.layout;
        !histogram.is_stale()
            && layout.positive_spans == histogram.positive_spans
            && layout.negative_spans == histogram.negative_spans
    }

    /// Number of samples.
    #[must_use]
    pub fn num_samples(&self) -> u16 {
        self.bits.beside.samples()
    }

    /// Time of the last sample; meaningless in an empty chunk.
    #[must_use]
    pub fn last_t(&self) -> i64 {
        self.t
    }

    /// The last histogram, with the chunk's buckets and without a hint; `None` in an empty chunk.
    ///
    /// It may have more, empty buckets than the one that was appended.
    #[must_use]
    pub fn last(&self) -> Option<NativeHistogram<B>> {
        if self.num_samples() == 0 {
            return None;
        }
        let sum = f64::from_bits(self.sum);
        if self.sum == STALE_NAN_BITS {
            return Some(NativeHistogram { sum, ..NativeHistogram::default() });
        }
        let (positive, negative) = self.buckets.split_at(self.positive);
        let Layout { schema, zero_threshold, positive_spans, negative_spans, custom_values } = self.layout.clone();
        Some(NativeHistogram {
            counter_reset_hint: CounterResetHint::Unknown,
            schema,
            zero_threshold,
            zero_count: B::count(&self.zero_count),
            count: B::count(&self.count),
            sum,
            positive_spans,
            negative_spans,
            positive_buckets: positive.iter().map(B::bucket).collect(),
            negative_buckets: negative.iter().map(B::bucket).collect(),
            custom_values,
        })
    }

    /// Which of the two encodings the chunk has.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        B::ENCODINGS[usize::from(self.start_timestamps)]
    }

    /// What the header says about a counter reset.
    #[must_use]
    pub fn counter_reset(&self) -> CounterReset {
        self.counter_reset
    }

    /// Length of the chunk in bytes, header included: what the reference compares with its targets.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bits.byte_len()
    }

    fn to_bytes(&self, pieces: &impl Pieces) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.assemble(pieces.runs(), &mut bytes);
        bytes
    }

    /// Appends the chunk's exact bytes to `out`; `pieces` are contiguous runs of the pieces, in any partition.
    pub fn assemble<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        let [high, low] = self.num_samples().to_be_bytes();
        let reset = self.counter_reset as u8;
        let header = if self.start_timestamps { [high | reset, low, self.bits.flags()] } else { [high, low, reset] };
        self.bits.assemble(pieces, &header, out);
    }

    /// Bytes on the heap: what the chunk costs its owner beyond the state itself and the pieces.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        let spans = self.layout.positive_spans.capacity() + self.layout.negative_spans.capacity();
        self.buckets.capacity() * size_of::<B::Cell>()
            + spans * size_of::<Span>()
            + self.layout.custom_values.capacity() * size_of::<f64>()
    }
}
