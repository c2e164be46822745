//! One histogram inside a record.
//!
//! ```text
//! hint u8, varint schema, zero threshold f64 BE, zero count, count, sum f64 BE
//! positive spans, negative spans: uvarint n, n × { varint offset, uvarint length }
//! positive buckets, negative buckets: uvarint n, n × bucket
//! custom values, only with schema -53: uvarint n, n × f64 BE
//! ```
//! Counts are uvarints and buckets varints in integer histograms; both are f64 BE in float ones. Schemas, offsets and
//! lengths are cut to 32 bits.

use crate::buffer::Buffer;
use crate::cursor::Cursor;
use crate::error::{DecodeError, Problem};
use alloc::vec::Vec;
use tsdb_model::histogram::{
    BucketValue, CounterResetHint, EXPONENTIAL_SCHEMA_MAX, NativeHistogram, ReduceError, Span, check_layout,
    is_custom_buckets_schema, is_known_schema, needs_reduction,
};

/// How the two kinds of numbers stand in a record. Implemented for `i64` and `f64`.
pub trait Wire: BucketValue + sealed::Wire {}

impl Wire for i64 {}
impl Wire for f64 {}

pub(crate) mod sealed {
    use super::{Buffer, Cursor, DecodeError, NativeHistogram, ReduceError, Vec};
    use tsdb_model::histogram::BucketValue;

    pub trait Wire: BucketValue {
        /// Bytes that a bucket takes at least.
        const BUCKET_LEN: usize;
        #[allow(private_interfaces, reason = "sealed")]
        fn read_count(cursor: &mut Cursor<'_>, expected: &'static str) -> Result<Self::Count, DecodeError>;
        #[allow(private_interfaces, reason = "sealed")]
        fn read_buckets(cursor: &mut Cursor<'_>, n: usize, into: &mut Vec<Self>) -> Result<(), DecodeError>;
        #[allow(private_interfaces, reason = "sealed")]
        fn skip_buckets(cursor: &mut Cursor<'_>, n: usize) -> Result<(), DecodeError>;
        #[allow(private_interfaces, reason = "sealed")]
        fn put_count(out: &mut Buffer, count: Self::Count);
        #[allow(private_interfaces, reason = "sealed")]
        fn put_buckets(out: &mut Buffer, buckets: &[Self]);
        fn reduce(h: &mut NativeHistogram<Self>, schema: i32) -> Result<(), ReduceError>;
    }
}

#[allow(private_interfaces, reason = "sealed")]
impl sealed::Wire for i64 {
    const BUCKET_LEN: usize = 1;

    #[inline]
    fn read_count(cursor: &mut Cursor<'_>, expected: &'static str) -> Result<u64, DecodeError> {
        cursor.uvarint(expected)
    }

    #[inline]
    fn read_buckets(cursor: &mut Cursor<'_>, n: usize, into: &mut Vec<i64>) -> Result<(), DecodeError> {
        for _ in 0..n {
            into.push(cursor.varint("a bucket")?);
        }
        Ok(())
    }

    #[inline]
    fn skip_buckets(cursor: &mut Cursor<'_>, n: usize) -> Result<(), DecodeError> {
        cursor.skip_varints("a bucket", n)
    }

    #[inline]
    fn put_count(out: &mut Buffer, count: u64) {
        out.put_uvarint(count);
    }

    #[inline]
    fn put_buckets(out: &mut Buffer, buckets: &[i64]) {
        for &bucket in buckets {
            out.put_varint(bucket);
        }
    }

    fn reduce(h: &mut NativeHistogram<i64>, schema: i32) -> Result<(), ReduceError> {
        h.reduce_resolution(schema)
    }
}

#[allow(private_interfaces, reason = "sealed")]
impl sealed::Wire for f64 {
    const BUCKET_LEN: usize = 8;

    #[inline]
    fn read_count(cursor: &mut Cursor<'_>, expected: &'static str) -> Result<f64, DecodeError> {
        cursor.float(expected)
    }

    #[inline]
    fn read_buckets(cursor: &mut Cursor<'_>, n: usize, into: &mut Vec<f64>) -> Result<(), DecodeError> {
        let bytes = cursor.bytes("buckets", 8 * n)?;
        into.extend(floats(bytes));
        Ok(())
    }

    #[inline]
    fn skip_buckets(cursor: &mut Cursor<'_>, n: usize) -> Result<(), DecodeError> {
        cursor.bytes("buckets", 8 * n).map(drop)
    }

    #[inline]
    fn put_count(out: &mut Buffer, count: f64) {
        out.put_float(count);
    }

    #[inline]
    fn put_buckets(out: &mut Buffer, buckets: &[f64]) {
        let len = 8 * buckets.len();
        let (room, _) = out.room(len).as_chunks_mut();
        for (to, bucket) in room.iter_mut().zip(buckets) {
            *to = bucket.to_bits().to_be_bytes();
        }
        out.advance(len);
    }

    fn reduce(h: &mut NativeHistogram<f64>, schema: i32) -> Result<(), ReduceError> {
        h.reduce_resolution(schema)
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    let (chunks, _) = bytes.as_chunks();
    chunks.iter().map(|chunk| f64::from_bits(u64::from_be_bytes(*chunk)))
}

/// The fields before the spans.
#[derive(Clone, Copy, Debug)]
struct Head<B: BucketValue> {
    counter_reset_hint: CounterResetHint,
    schema: i32,
    zero_threshold: f64,
    zero_count: B::Count,
    count: B::Count,
    sum: f64,
}

#[inline]
fn read_head<B: Wire>(cursor: &mut Cursor<'_>) -> Result<Head<B>, DecodeError> {
    Ok(Head {
        counter_reset_hint: CounterResetHint::from_byte(cursor.byte("a counter reset hint")?),
        schema: cursor.varint("a schema")? as i32,
        zero_threshold: cursor.float("a zero threshold")?,
        zero_count: B::read_count(cursor, "a zero count")?,
        count: B::read_count(cursor, "a count")?,
        sum: cursor.float("a sum")?,
    })
}

#[inline]
fn read_span(cursor: &mut Cursor<'_>) -> Result<Span, DecodeError> {
    let offset = cursor.varint("a span")? as i32;
    Ok(Span { offset, length: cursor.uvarint("a span")? as u32 })
}

#[inline]
fn read_spans(cursor: &mut Cursor<'_>, into: &mut Vec<Span>) -> Result<(), DecodeError> {
    let n = cursor.count("spans", 2)?;
    into.clear();
    into.reserve(n);
    for _ in 0..n {
        into.push(read_span(cursor)?);
    }
    Ok(())
}

#[inline]
fn read_buckets<B: Wire>(cursor: &mut Cursor<'_>, into: &mut Vec<B>) -> Result<(), DecodeError> {
    let n = cursor.count("buckets", B::BUCKET_LEN)?;
    into.clear();
    into.reserve(n);
    B::read_buckets(cursor, n, into)
}

/// Reads a histogram into `h`, keeping its memory. False if the schema is unknown: what `h` then holds has no meaning.
pub(super) fn read_into<B: Wire>(cursor: &mut Cursor<'_>, h: &mut NativeHistogram<B>) -> Result<bool, DecodeError> {
    let start = *cursor;
    read_stored(cursor, h)?;
    if needs_reduction(h.schema) {
        B::reduce(h, EXPONENTIAL_SCHEMA_MAX).map_err(|error| start.error(Problem::Reduce(error)))?;
    }
    Ok(is_known_schema(h.schema))
}

/// Reads a histogram of any schema into `h` as it is stored, keeping its memory.
#[inline]
pub(crate) fn read_stored<B: Wire>(cursor: &mut Cursor<'_>, h: &mut NativeHistogram<B>) -> Result<(), DecodeError> {
    let head = read_head::<B>(cursor)?;
    h.counter_reset_hint = head.counter_reset_hint;
    h.schema = head.schema;
    h.zero_threshold = head.zero_threshold;
    h.zero_count = head.zero_count;
    h.count = head.count;
    h.sum = head.sum;
    read_spans(cursor, &mut h.positive_spans)?;
    read_spans(cursor, &mut h.negative_spans)?;
    read_buckets(cursor, &mut h.positive_buckets)?;
    read_buckets(cursor, &mut h.negative_buckets)?;
    h.custom_values.clear();
    if is_custom_buckets_schema(h.schema) {
        read_buckets::<f64>(cursor, &mut h.custom_values)?;
    }
    Ok(())
}

/// A run of encoded items: how many, and their bytes.
#[derive(Clone, Copy, Debug)]
struct Items<'a> {
    n: usize,
    bytes: &'a [u8],
}

/// A histogram borrowed from a record: the fixed fields decoded, spans and buckets still encoded (and checked).
///
/// What a consumer that keeps histograms does is [`decode_into`](Self::decode_into) one it reuses, or
/// [`to_histogram`](Self::to_histogram).
#[derive(Clone, Copy, Debug)]
pub struct HistogramView<'a, B: Wire> {
    head: Head<B>,
    positive_spans: Items<'a>,
    negative_spans: Items<'a>,
    /// From the positive buckets' count to the end of the histogram.
    tail: &'a [u8],
}

impl<'a, B: Wire> HistogramView<'a, B> {
    /// Checks a histogram and passes over it; `None` if its schema is unknown.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Option<Self>, DecodeError> {
        let start = *cursor;
        let head = read_head::<B>(cursor)?;
        let positive_spans = Self::span_items(cursor)?;
        let negative_spans = Self::span_items(cursor)?;
        let tail_start = *cursor;
        let n = cursor.count("buckets", B::BUCKET_LEN)?;
        B::skip_buckets(cursor, n)?;
        let positive = n;
        let n = cursor.count("buckets", B::BUCKET_LEN)?;
        B::skip_buckets(cursor, n)?;
        let negative = n;
        if is_custom_buckets_schema(head.schema) {
            let n = cursor.count("buckets", 8)?;
            <f64 as sealed::Wire>::skip_buckets(cursor, n)?;
        }
        let tail = &tail_start.rest()[..cursor.pos() - tail_start.pos()];
        let view = Self { head, positive_spans, negative_spans, tail };
        if needs_reduction(head.schema) {
            check_layout(view.spans(positive_spans), positive)
                .and_then(|()| check_layout(view.spans(negative_spans), negative))
                .map_err(|error| start.error(Problem::Reduce(error)))?;
        }
        Ok(is_known_schema(head.schema).then_some(view))
    }

    fn span_items(cursor: &mut Cursor<'a>) -> Result<Items<'a>, DecodeError> {
        let n = cursor.count("spans", 2)?;
        let start = *cursor;
        cursor.skip_varints("a span", 2 * n)?;
        Ok(Items { n, bytes: &start.rest()[..cursor.pos() - start.pos()] })
    }

    fn spans(&self, items: Items<'a>) -> impl Iterator<Item = Span> + use<'a, B> {
        let mut cursor = Cursor::at(items.bytes, 0);
        // Checked when the view was made.
        (0..items.n).map_while(move |_| read_span(&mut cursor).ok())
    }

    /// What is known about a counter reset.
    #[must_use]
    pub const fn counter_reset_hint(&self) -> CounterResetHint {
        self.head.counter_reset_hint
    }

    /// The schema as stored: decoding reduces 9 to 52 to 8.
    #[must_use]
    pub const fn schema(&self) -> i32 {
        self.head.schema
    }

    /// Half the width of the zero bucket.
    #[must_use]
    pub const fn zero_threshold(&self) -> f64 {
        self.head.zero_threshold
    }

    /// Observations in the zero bucket.
    #[must_use]
    pub fn zero_count(&self) -> B::Count {
        self.head.zero_count
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> B::Count {
        self.head.count
    }

    /// Sum of all observations; the stale marker here ends a series.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.head.sum
    }

    /// Decodes into `h`, keeping its memory: nothing is allocated once its vectors have grown large enough (but for the
    /// rare schemas of 9 to 52, which are reduced to 8).
    pub fn decode_into(&self, h: &mut NativeHistogram<B>) {
        let Head { counter_reset_hint, schema, zero_threshold, zero_count, count, sum } = self.head;
        (h.counter_reset_hint, h.schema, h.zero_threshold) = (counter_reset_hint, schema, zero_threshold);
        (h.zero_count, h.count, h.sum) = (zero_count, count, sum);
        h.positive_spans.clear();
        h.positive_spans.extend(self.spans(self.positive_spans));
        h.negative_spans.clear();
        h.negative_spans.extend(self.spans(self.negative_spans));
        h.custom_values.clear();
        let checked = self.decode_tail(h);
        debug_assert!(checked.is_ok(), "a view was not checked");
    }

    fn decode_tail(&self, h: &mut NativeHistogram<B>) -> Result<(), DecodeError> {
        let mut cursor = Cursor::at(self.tail, 0);
        read_buckets(&mut cursor, &mut h.positive_buckets)?;
        read_buckets(&mut cursor, &mut h.negative_buckets)?;
        if is_custom_buckets_schema(h.schema) {
            read_buckets::<f64>(&mut cursor, &mut h.custom_values)?;
        }
        if needs_reduction(h.schema) {
            B::reduce(h, EXPONENTIAL_SCHEMA_MAX).map_err(|error| cursor.error(Problem::Reduce(error)))?;
        }
        Ok(())
    }

    /// An owned copy.
    #[must_use]
    pub fn to_histogram(&self) -> NativeHistogram<B> {
        let mut h = NativeHistogram::default();
        self.decode_into(&mut h);
        h
    }
}

fn put_spans(out: &mut Buffer, spans: &[Span]) {
    out.put_uvarint(spans.len() as u64);
    for span in spans {
        out.put_varint(i64::from(span.offset));
        out.put_uvarint(u64::from(span.length));
    }
}

fn put_buckets<B: Wire>(out: &mut Buffer, buckets: &[B]) {
    out.put_uvarint(buckets.len() as u64);
    B::put_buckets(out, buckets);
}

pub(crate) fn put<B: Wire>(out: &mut Buffer, h: &NativeHistogram<B>) {
    out.put_byte(h.counter_reset_hint.to_byte());
    out.put_varint(i64::from(h.schema));
    out.put_float(h.zero_threshold);
    B::put_count(out, h.zero_count);
    B::put_count(out, h.count);
    out.put_float(h.sum);
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    put_buckets(out, &h.positive_buckets);
    put_buckets(out, &h.negative_buckets);
    if h.uses_custom_buckets() {
        put_buckets(out, &h.custom_values);
    }
}
