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
    /// The histogram as it is now, unless that is stale: its layout is that of all, and the buckets go on from its own.
    pub(super) histogram: NativeHistogram<B>,
    pub(super) t: i64,
    pub(super) t_delta: i64,
    pub(super) count: B::Cell,
    pub(super) zero_count: B::Cell,
    pub(super) sum: u64,
    pub(super) sum_window: Window,
    /// What goes with the positive buckets, and then with the negative ones.
    pub(super) beside: Vec<B::Beside>,
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
            histogram: NativeHistogram::default(),
            t: 0,
            t_delta: 0,
            count: B::Cell::default(),
            zero_count: B::Cell::default(),
            sum: 0,
            sum_window: Window::FULL,
            beside: Vec::new(),
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
        let stepped = if self.read == 0 { self.step_first() } else { self.step_next() };
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
        let layout = Layout::read(&mut self.bits).map_err(|(at, kind)| self.error(at, kind))?;
        let (positive, all) = layout.buckets();
        let at = self.bits.pos();
        check_count(&self.bits, all as u64, B::FIRST_BUCKET_BITS, Counted::Buckets)
            .map_err(|kind| self.error(at, kind))?;
        let Layout { schema, zero_threshold, positive_spans, negative_spans, custom_values } = layout;
        self.t = varbit::read_int(&mut self.bits);
        self.count = B::read_first_count(&mut self.bits);
        self.zero_count = B::read_first_count(&mut self.bits);
        self.sum = self.bits.read(64);
        let (mut buckets, beside): (Vec<_>, _) = (0..all).map(|_| B::read_first_bucket(&mut self.bits)).unzip();
        let negative_buckets = buckets.split_off(positive);
        self.beside = beside;
        self.histogram = NativeHistogram {
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            positive_buckets: buckets,
            negative_buckets,
            custom_values,
            ..NativeHistogram::default()
        };
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
    fn step_next(&mut self) -> Result<(), DecodeError> {
        // A reader of its own, so that what it has can live in registers.
        let mut bits = BitStream::new(self.bits);
        let sound = self.step(&mut bits);
        self.bits = bits.reader();
        if sound { Ok(()) } else { Err(DecodeError::misread(self.bits, self.read, self.total)) }
    }

    /// Decodes a sample behind the first; whether it was sound, if it did not reach past the end.
    #[inline(always)]
    fn step(&mut self, bits: &mut BitStream<'_>) -> bool {
        let before = self.t;
        self.t_delta = self.t_delta.wrapping_add(varbit::next_int(bits));
        self.t = self.t.wrapping_add(self.t_delta);
        let sound = self.step_values(bits);
        if let Some(st) = &mut self.st
            && sound
        {
            st.next(bits, self.read, before);
        }
        sound
    }

    /// Counts, sum and buckets; `false` for a window that is none.
    #[inline(always)]
    fn step_values(&mut self, bits: &mut BitStream<'_>) -> bool {
        if !B::read_next(&mut self.count, bits) || !B::read_next(&mut self.zero_count, bits) {
            return false;
        }
        let Some(xor) = self.sum_window.next_xor(bits) else { return false };
        self.sum ^= xor;
        if self.sum == STALE_NAN_BITS {
            return true;
        }
        let NativeHistogram { positive_buckets, negative_buckets, .. } = &mut self.histogram;
        let (positive, negative) = self.beside.split_at_mut(positive_buckets.len());
        B::read_all(positive_buckets, positive, bits)
            && (negative.is_empty() || B::read_all(negative_buckets, negative, bits))
    }

    /// Calls `each` with the time, the histogram and the start timestamp (0 for none) of every sample that is left: the
    /// fastest way through a chunk, as nothing is copied. A resolution finer than schema 8 is reduced to it.
    ///
    /// ```
    /// # use head_chunks::histogram::{FloatHistogramAppender, HistogramIter};
    /// # use tsdb_model::FloatHistogram;
    /// let mut appender = FloatHistogramAppender::new(false);
    /// for t in 0..5 {
    ///     appender.append(None, 0, t, &FloatHistogram { count: t as f64, ..FloatHistogram::default() })?;
    /// }
    /// let mut counts = Vec::new();
    /// HistogramIter::<f64>::new(false, &appender.to_bytes())?.visit(|_, histogram, _| counts.push(histogram.count))?;
    /// assert_eq!(counts, [0.0, 1.0, 2.0, 3.0, 4.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the bytes are not a sound chunk, behind the samples before the damage.
    #[inline]
    pub fn visit(mut self, mut each: impl FnMut(i64, &NativeHistogram<B>, i64)) -> Result<(), DecodeError> {
        let mut own = NativeHistogram::default();
        while let Some(read) = self.next_into(&mut own) {
            let (t, st) = read?;
            each(t, &own, st);
            if !needs_reduction(self.histogram.schema) {
                break;
            }
        }
        self.histogram.counter_reset_hint = self.counter_reset.hint(true);
        let mut bits = BitStream::new(self.bits);
        while self.read < self.total {
            let sound = self.step(&mut bits);
            if !sound || bits.overrun() {
                return Err(DecodeError::misread(bits.reader(), self.read, self.total));
            }
            self.read += 1;
            let (t, st) = self.times();
            if self.sum == STALE_NAN_BITS {
                each(t, &stale(), st);
                continue;
            }
            self.histogram.sum = f64::from_bits(self.sum);
            self.histogram.count = B::count(&self.count);
            self.histogram.zero_count = B::count(&self.zero_count);
            each(t, &self.histogram, st);
        }
        Ok(())
    }

    #[cold]
    fn error(&self, at: usize, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::at(self.bits, self.read, self.total, at, kind)
    }

    /// The current sample.
    fn copy_into(&mut self, to: &mut NativeHistogram<B>) -> Result<(), DecodeError> {
        let from = &self.histogram;
        to.sum = f64::from_bits(self.sum);
        if self.sum == STALE_NAN_BITS {
            set_stale(to);
            return Ok(());
        }
        to.counter_reset_hint = self.counter_reset.hint(self.read > 1);
        (to.schema, to.zero_threshold) = (from.schema, from.zero_threshold);
        (to.count, to.zero_count) = (B::count(&self.count), B::count(&self.zero_count));
        copy(&mut to.positive_spans, &from.positive_spans);
        copy(&mut to.negative_spans, &from.negative_spans);
        copy(&mut to.positive_buckets, &from.positive_buckets);
        copy(&mut to.negative_buckets, &from.negative_buckets);
        copy(&mut to.custom_values, &from.custom_values);
        if needs_reduction(from.schema) && !B::reduce(to, EXPONENTIAL_SCHEMA_MAX) {
            let kind = DecodeErrorKind::Reduce(from.schema);
            self.read -= 1;
            self.total = self.read;
            return Err(self.error(HEADER * 8, kind));
        }
        Ok(())
    }
}

/// What a stale histogram is beside its sum, in the buffers that are there.
#[cold]
fn set_stale<B: Coded>(histogram: &mut NativeHistogram<B>) {
    let NativeHistogram {
        sum, positive_buckets, negative_buckets, positive_spans, negative_spans, custom_values, ..
    } = std::mem::take(histogram);
    *histogram = NativeHistogram {
        sum,
        positive_buckets: emptied(positive_buckets),
        negative_buckets: emptied(negative_buckets),
        positive_spans: emptied(positive_spans),
        negative_spans: emptied(negative_spans),
        custom_values: emptied(custom_values),
        ..NativeHistogram::default()
    };
}

fn emptied<T>(mut buffer: Vec<T>) -> Vec<T> {
    buffer.clear();
    buffer
}

/// A stale histogram.
#[cold]
fn stale<B: Coded>() -> NativeHistogram<B> {
    NativeHistogram { sum: f64::from_bits(STALE_NAN_BITS), ..NativeHistogram::default() }
}

#[inline(always)]
fn copy<T: Copy>(to: &mut Vec<T>, from: &[T]) {
    to.clear();
    to.extend_from_slice(from);
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
