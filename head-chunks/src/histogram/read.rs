//! Reading histogram chunks.

use tsdb_model::histogram::{EXPONENTIAL_SCHEMA_MAX, NativeHistogram, needs_reduction};
use tsdb_model::staleness::STALE_NAN_BITS;

use super::layout::{Layout, check_count};
use super::{Coded, CounterReset, HEADER};
use crate::bits::{BitReader, BitStream, MAX_VARINT_BITS};
use crate::error::{Counted, DecodeError, DecodeErrorKind};
use crate::st::StReader;
use crate::varbit;
use crate::window::Window;

/// Reads a histogram chunk: yields `(t, histogram, st)` with an allocation for each, or without one through
/// [`HistogramIter::next_into`]. Ends behind the first error.
///
/// ```
/// use head_chunks::histogram::{HistogramAppender, HistogramIter};
/// use tsdb_model::{Histogram, Span};
/// let mut histogram = Histogram {
///     count: 3, sum: 4.5, positive_spans: vec![Span { offset: 0, length: 2 }], positive_buckets: vec![1, 1], ..Histogram::default()
/// };
/// let mut appender = HistogramAppender::new(true);
/// appender.append(None, 500, 1_000, &histogram)?;
/// let bytes = appender.to_bytes();
/// let (t, read, st) = HistogramIter::<i64>::new(true, &bytes)?.next().unwrap()?;
/// assert_eq!((t, st), (1_000, 500));
/// assert_eq!(read, histogram);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HistogramIter<'a, B: Coded> {
    pub(super) bits: BitReader<'a>,
    pub(super) total: u32,
    pub(super) read: u32,
    pub(super) counter_reset: CounterReset,
    pub(super) layout: Layout,
    /// How many of the buckets are positive.
    positive: usize,
    pub(super) t: i64,
    pub(super) t_delta: i64,
    pub(super) count: B::Cell,
    pub(super) zero_count: B::Cell,
    pub(super) sum: u64,
    pub(super) sum_window: Window,
    /// Positive buckets, then negative ones.
    pub(super) buckets: Vec<B::Cell>,
    pub(super) st: Option<StReader>,
}

impl<'a, B: Coded> HistogramIter<'a, B> {
    /// Reads `bytes`, a whole chunk with its header, of the encoding with or without start timestamps. Bytes behind the last
    /// sample are ignored, as the reference does.
    ///
    /// # Errors
    /// When there are fewer than the three bytes of the header.
    pub fn new(start_timestamps: bool, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(&[high, low, flags]) = bytes.first_chunk() else {
            return Err(DecodeError::header(HEADER, bytes));
        };
        let count = u16::from_be_bytes([high, low]);
        let (total, reset, st) = if start_timestamps {
            (count & B::ENCODINGS[1].capacity(), high, Some(StReader::new(flags)))
        } else {
            (count, flags, None)
        };
        Ok(Self {
            bits: BitReader::new(bytes, HEADER * 8),
            total: total.into(),
            read: 0,
            counter_reset: CounterReset::from_bits(reset),
            layout: Layout::default(),
            positive: 0,
            t: 0,
            t_delta: 0,
            count: B::Cell::default(),
            zero_count: B::Cell::default(),
            sum: 0,
            sum_window: Window::FULL,
            buckets: Vec::new(),
            st,
        })
    }

    /// Samples not yet read, as the header promises.
    #[must_use]
    pub fn remaining(&self) -> u16 {
        (self.total - self.read) as u16
    }

    /// What the header says about a counter reset.
    #[must_use]
    pub fn counter_reset(&self) -> CounterReset {
        self.counter_reset
    }

    /// Reads the next histogram into `histogram`, whose buffers are used again, and returns its time and start timestamp
    /// (0 for none), both in milliseconds since the epoch. `None` behind the last.
    ///
    /// A resolution finer than schema 8 is reduced to it, as the reference does.
    #[inline]
    pub fn next_into(&mut self, histogram: &mut NativeHistogram<B>) -> Option<Result<(i64, i64), DecodeError>> {
        self.advance().map(|advanced| advanced.and_then(|()| self.copy_into(histogram)).map(|()| self.times()))
    }

    /// Advances to the first histogram at or after `t`, the current one included if it was read already, and reads it into
    /// `histogram`: as [`HistogramIter::next_into`].
    pub fn seek_into(&mut self, t: i64, histogram: &mut NativeHistogram<B>) -> Option<Result<(i64, i64), DecodeError>> {
        while self.read == 0 || self.t < t {
            match self.advance()? {
                Ok(()) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        Some(self.copy_into(histogram).map(|()| self.times()))
    }

    fn times(&self) -> (i64, i64) {
        (self.t, self.st.as_ref().map_or(0, |st| st.st))
    }

    /// Decodes the next sample into `self`; an error ends the iteration.
    #[inline]
    pub(super) fn advance(&mut self) -> Option<Result<(), DecodeError>> {
        if self.read == self.total {
            return None;
        }
        let stepped = if self.read == 0 { self.step_first() } else { self.step() };
        let stepped = match stepped {
            Ok(()) if self.bits.overrun() => Err(DecodeError::truncated(self.bits, self.read, self.total)),
            stepped => stepped,
        };
        match stepped {
            Ok(()) => self.read += 1,
            Err(_) => self.total = self.read,
        }
        Some(stepped)
    }

    #[cold]
    fn step_first(&mut self) -> Result<(), DecodeError> {
        self.layout = Layout::read(&mut self.bits).map_err(|(at, kind)| self.error(at, kind))?;
        let (positive, all) = self.layout.buckets();
        let at = self.bits.pos();
        check_count(&self.bits, all as u64, B::FIRST_BUCKET_BITS, Counted::Buckets)
            .map_err(|kind| self.error(at, kind))?;
        self.positive = positive;
        self.t = varbit::read_int(&mut self.bits);
        self.count = B::read_first_count(&mut self.bits);
        self.zero_count = B::read_first_count(&mut self.bits);
        self.sum = self.bits.read(64);
        self.buckets.clear();
        self.buckets.extend((0..all).map(|_| B::read_first_bucket(&mut self.bits)));
        if let Some(st) = &mut self.st
            && st.has_first()
        {
            let (diff, bits) = self.bits.varint();
            self.bits = bits;
            let Some(diff) = diff else {
                return Err(self.error(bits.pos() - MAX_VARINT_BITS, DecodeErrorKind::VarintOverflow));
            };
            st.set_first(self.t.wrapping_sub(diff));
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self) -> Result<(), DecodeError> {
        let before = self.t;
        // A reader of its own, so that what it has can live in registers.
        let mut bits = BitStream::new(self.bits);
        self.t_delta = self.t_delta.wrapping_add(varbit::next_int(&mut bits));
        self.t = self.t.wrapping_add(self.t_delta);
        let sound = self.step_values(&mut bits);
        self.bits = bits.reader();
        if !sound {
            return Err(DecodeError::misread(self.bits, self.read, self.total));
        }
        if let Some(st) = &mut self.st {
            st.read(&mut self.bits, self.read, before);
        }
        Ok(())
    }

    /// Counts, sum and buckets; `false` for a window that is none.
    #[inline(always)]
    fn step_values(&mut self, bits: &mut BitStream<'_>) -> bool {
        if !B::read_next(&mut self.count, bits) || !B::read_next(&mut self.zero_count, bits) {
            return false;
        }
        let Some(xor) = self.sum_window.next_xor(bits) else { return false };
        self.sum ^= xor;
        self.sum == STALE_NAN_BITS || B::read_all(&mut self.buckets, bits)
    }

    #[cold]
    fn error(&self, at: usize, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::at(self.bits, self.read, self.total, at, kind)
    }

    /// The current sample.
    fn copy_into(&mut self, histogram: &mut NativeHistogram<B>) -> Result<(), DecodeError> {
        histogram.sum = f64::from_bits(self.sum);
        if self.sum == STALE_NAN_BITS {
            let NativeHistogram { positive_buckets, negative_buckets, .. } = histogram;
            positive_buckets.clear();
            negative_buckets.clear();
            let NativeHistogram { positive_spans, negative_spans, custom_values, .. } = histogram;
            positive_spans.clear();
            negative_spans.clear();
            custom_values.clear();
            histogram.counter_reset_hint = Default::default();
            (histogram.schema, histogram.zero_threshold) = (0, 0.0);
            (histogram.count, histogram.zero_count) = (B::Count::default(), B::Count::default());
            return Ok(());
        }
        histogram.counter_reset_hint = self.counter_reset.hint(self.read > 1);
        histogram.schema = self.layout.schema;
        histogram.zero_threshold = self.layout.zero_threshold;
        histogram.count = B::count(&self.count);
        histogram.zero_count = B::count(&self.zero_count);
        keep_or_clone(&mut histogram.positive_spans, &self.layout.positive_spans);
        keep_or_clone(&mut histogram.negative_spans, &self.layout.negative_spans);
        // Their bits count, which floats do not compare.
        let (to, bounds) = (&mut histogram.custom_values, &self.layout.custom_values);
        if !to.iter().map(|bound| bound.to_bits()).eq(bounds.iter().map(|bound| bound.to_bits())) {
            to.clone_from(bounds);
        }
        let (positive, negative) = self.buckets.split_at(self.positive);
        copy_buckets::<B>(positive, &mut histogram.positive_buckets);
        copy_buckets::<B>(negative, &mut histogram.negative_buckets);
        if needs_reduction(self.layout.schema) && !B::reduce(histogram, EXPONENTIAL_SCHEMA_MAX) {
            self.read -= 1;
            self.total = self.read;
            return Err(self.error(HEADER * 8, DecodeErrorKind::Reduce(self.layout.schema)));
        }
        Ok(())
    }
}

/// The layout is nearly always that of the histogram before, which is there still.
#[inline(always)]
fn keep_or_clone<T: Copy + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    if *to != from {
        to.clear();
        to.extend_from_slice(from);
    }
}

#[inline(always)]
fn copy_buckets<B: Coded>(cells: &[B::Cell], to: &mut Vec<B>) {
    if to.len() != cells.len() {
        to.clear();
        to.resize(cells.len(), B::default());
    }
    for (to, cell) in to.iter_mut().zip(cells) {
        *to = B::bucket(cell);
    }
}

impl<B: Coded> Iterator for HistogramIter<'_, B> {
    type Item = Result<(i64, NativeHistogram<B>, i64), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut histogram = NativeHistogram::default();
        self.next_into(&mut histogram).map(|read| read.map(|(t, st)| (t, histogram, st)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends the chunk early.
        (usize::from(self.remaining()).min(1), Some(self.remaining().into()))
    }
}

impl<B: Coded> core::iter::FusedIterator for HistogramIter<'_, B> {}
