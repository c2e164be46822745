//! What all histograms of a chunk share, written once in front of the first.
//!
//! ```text
//! layout         := zero threshold, varbit schema, spans (positive), spans (negative) [, custom bounds if schema is −53]
//! zero threshold := 8 bits: 0 → 0; 1–254 → 2^(n − 244); 255 → an f64 of 64 bits follows
//! spans          := varbit unsigned count, then each: varbit unsigned length, varbit signed offset
//! custom bounds  := varbit unsigned count, then each: varbit unsigned, n > 0 → (n − 1) / 1000; 0 → an f64 follows
//! ```

use tsdb_model::Span;
use tsdb_model::histogram::{BucketValue, NativeHistogram, is_custom_buckets_schema, is_known_schema};

use super::spans::bucket_count;
use crate::bits::BitReader;
use crate::error::{Counted, DecodeErrorKind};
use crate::varbit::{self, Field};

/// The layout of a chunk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive_spans: Vec<Span>,
    pub(super) negative_spans: Vec<Span>,
    pub(super) custom_values: Vec<f64>,
}

/// Where fields go.
pub(super) type Put<'a> = &'a mut dyn FnMut(Field);

impl Layout {
    /// That of a histogram.
    pub(super) fn of<B: BucketValue>(histogram: NativeHistogram<B>) -> Self {
        let NativeHistogram { schema, zero_threshold, positive_spans, negative_spans, custom_values, .. } = histogram;
        Self { schema, zero_threshold, positive_spans, negative_spans, custom_values }
    }

    /// Numbers of positive and of all buckets.
    pub(super) fn buckets(&self) -> (usize, usize) {
        let positive = bucket_count(&self.positive_spans) as usize;
        (positive, positive + bucket_count(&self.negative_spans) as usize)
    }

    pub(super) fn write(&self, put: Put<'_>) {
        write_zero_threshold(self.zero_threshold, put);
        put(varbit::int_field(self.schema.into()));
        for spans in [&self.positive_spans, &self.negative_spans] {
            put(varbit::uint_field(spans.len() as u64));
            for span in spans {
                put(varbit::uint_field(span.length.into()));
                put(varbit::int_field(span.offset.into()));
            }
        }
        if is_custom_buckets_schema(self.schema) {
            put(varbit::uint_field(self.custom_values.len() as u64));
            for bound in &self.custom_values {
                write_custom_bound(*bound, put);
            }
        }
    }

    /// Reads a layout. Counts are held against the bits that are left, so that what is allocated is bounded by the input.
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, Misread> {
        let zero_threshold = read_zero_threshold(bits);
        let at = bits.pos();
        let schema = varbit::read_int(bits);
        let known = i32::try_from(schema).ok().filter(|schema| is_known_schema(*schema));
        let schema = known.ok_or((at, DecodeErrorKind::Schema(schema)))?;
        let positive_spans = read_spans(bits)?;
        let negative_spans = read_spans(bits)?;
        let custom_values = if is_custom_buckets_schema(schema) { read_custom_bounds(bits)? } else { Vec::new() };
        Ok(Self { schema, zero_threshold, positive_spans, negative_spans, custom_values })
    }
}

/// A field that makes no sense, and the bit at which it begins.
pub(super) type Misread = (usize, DecodeErrorKind);

/// Reads a count of things that take at least `each` bits, and refuses one of more than the bits left could hold.
fn read_count(bits: &mut BitReader<'_>, each: usize, what: Counted) -> Result<u64, Misread> {
    let at = bits.pos();
    let found = varbit::read_uint(bits);
    check_count(bits, found, each, what).map_err(|kind| (at, kind))?;
    Ok(found)
}

/// Refuses a count of things that take at least `each` bits when there are not so many left.
pub(super) fn check_count(bits: &BitReader<'_>, found: u64, each: usize, what: Counted) -> Result<(), DecodeErrorKind> {
    let limit = (bits.remaining() / each) as u32;
    if found > limit.into() { Err(DecodeErrorKind::Count { what, found, limit }) } else { Ok(()) }
}

fn read_spans(bits: &mut BitReader<'_>) -> Result<Vec<Span>, Misread> {
    let count = read_count(bits, 2, Counted::Spans)?;
    let mut spans = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let at = bits.pos();
        let length = varbit::read_uint(bits);
        let length = u32::try_from(length).map_err(|_| (at, DecodeErrorKind::Span(length as i64)))?;
        let at = bits.pos();
        let offset = varbit::read_int(bits);
        let offset = i32::try_from(offset).map_err(|_| (at, DecodeErrorKind::Span(offset)))?;
        spans.push(Span { offset, length });
    }
    Ok(spans)
}

/// One byte for 0 and for the powers of two from 2⁻²⁴³ to 2¹⁰, nine for all others.
fn write_zero_threshold(threshold: f64, put: Put<'_>) {
    let bits = threshold.to_bits();
    // A positive power of two has no mantissa; the exponent is what is left.
    let (exponent, mantissa) = ((bits >> 52) as i64 - 1023, bits << 12);
    if threshold == 0.0 {
        put([(0, 0), (0, 8)]);
    } else if mantissa == 0 && (-243..=10).contains(&exponent) {
        put([(0, 0), ((exponent + 244) as u64, 8)]);
    } else {
        put([(0xff, 8), (bits, 64)]);
    }
}

fn read_zero_threshold(bits: &mut BitReader<'_>) -> f64 {
    match bits.short(8) {
        0 => 0.0,
        255 => f64::from_bits(bits.read(64)),
        power => f64::from_bits((power + 1023 - 244) << 52),
    }
}

/// Thousandths from 0 to 33,554.430 as a number of them plus one, in at most four bytes; all others as they are.
fn write_custom_bound(bound: f64, put: Put<'_>) {
    let thousandths = bound * 1000.0;
    let whole = |thousandths: f64| (thousandths.round() as u64) as f64 / 1000.0 == bound;
    // A bound that is no number fails the last comparison.
    if !(0.0..=33_554_430.0).contains(&thousandths) || !whole(thousandths) {
        put([(0, 1), (bound.to_bits(), 64)]);
    } else {
        put(varbit::uint_field(thousandths.round() as u64 + 1));
    }
}

fn read_custom_bounds(bits: &mut BitReader<'_>) -> Result<Vec<f64>, Misread> {
    // The shortest is one of five bits.
    let count = read_count(bits, 5, Counted::CustomBounds)?;
    let bound = |bits: &mut BitReader<'_>| match varbit::read_uint(bits) {
        0 => f64::from_bits(bits.read(64)),
        above => (above - 1) as f64 / 1000.0,
    };
    Ok((0..count).map(|_| bound(bits)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(Put<'_>)) -> (Vec<u8>, usize) {
        let mut bits = Vec::new();
        write(&mut |field| {
            field.into_iter().for_each(|(value, n)| bits.extend((0..n).rev().map(|i| (value >> i & 1) as u8)));
        });
        let len = bits.len();
        (bits.chunks(8).map(|byte| (0..8).fold(0, |b, i| b << 1 | byte.get(i).copied().unwrap_or(0))).collect(), len)
    }

    #[test]
    fn zero_thresholds_keep_their_bits() {
        let mut cases =
            vec![(0.0, 8), (f64::MIN_POSITIVE, 72), (5e-324, 72), (-0.5, 72), (0.3, 72), (f64::INFINITY, 72)];
        cases.extend((-243..=10).map(|e| (2_f64.powi(e), 8)));
        cases.extend([(2_f64.powi(-244), 72), (2_f64.powi(11), 72), (f64::NAN, 72)]);
        for (threshold, len) in cases {
            let (bytes, n) = bytes(|put| write_zero_threshold(threshold, put));
            assert_eq!(n, len, "{threshold}");
            assert_eq!(read_zero_threshold(&mut BitReader::new(&bytes, 0)).to_bits(), threshold.to_bits());
        }
        assert_eq!(bytes(|put| write_zero_threshold(2_f64.powi(-128), put)).0, [116], "the usual one");
    }

    #[test]
    fn custom_bounds_keep_their_values() {
        for (bound, long) in [
            (0.0, false),
            (0.001, false),
            (1.5, false),
            (33_554.430, false),
            (33_554.431, true),
            (-1.0, true),
            (0.0001, true),
            (1e300, true),
            (f64::INFINITY, true),
            (f64::NAN, true),
        ] {
            let layout = Layout { schema: -53, custom_values: vec![bound], ..Layout::default() };
            let (bytes, n) = bytes(|put| layout.write(put));
            assert_eq!(n > 70, long, "{bound} in {n} bits");
            let read = Layout::read(&mut BitReader::new(&bytes, 0)).expect("sound");
            assert_eq!(read.custom_values[0].to_bits(), bound.to_bits());
        }
    }

    #[test]
    fn a_count_beyond_the_bits_is_refused_before_anything_is_allocated() {
        let (bytes, _) = bytes(|put| {
            put([(0, 0), (0, 8)]);
            put(varbit::int_field(3));
            put(varbit::uint_field(1 << 40));
        });
        let found = Layout::read(&mut BitReader::new(&bytes, 0));
        assert!(matches!(found, Err((13, DecodeErrorKind::Count { what: Counted::Spans, .. }))), "{found:?}");
    }
}
