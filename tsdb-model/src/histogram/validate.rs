//! What a histogram must fulfil to be appended: the reference's rules.

use super::{
    BucketValue, CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, FloatHistogram, Histogram,
    NativeHistogram, ReduceError, Span, is_exponential_schema, reduce::check_layout,
};
use core::fmt;

/// Which buckets an error speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Positive observations.
    Positive,
    /// Negative observations.
    Negative,
    /// Custom buckets.
    Custom,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positive => "positive side",
            Self::Negative => "negative side",
            Self::Custom => "custom buckets",
        })
    }
}

/// Why a histogram makes no sense. Indices count from 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum HistogramError {
    /// Neither an exponential schema (-4 to 8) nor the one of custom buckets (-53).
    InvalidSchema(i32),
    /// A span begins before the end of the one before it (custom buckets: or before bucket 0).
    NegativeOffset {
        /// Where.
        side: Side,
        /// Which span.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// The spans announce another number of buckets than there are.
    SpansBucketsMismatch {
        /// Where.
        side: Side,
        /// Buckets by the spans.
        spans: u64,
        /// Buckets present.
        buckets: usize,
    },
    /// A bucket's count, summed up from the differences where they are stored, is negative.
    NegativeBucketCount {
        /// Where.
        side: Side,
        /// Which bucket.
        bucket: usize,
    },
    /// The zero bucket's count is negative.
    NegativeZeroCount,
    /// The count of all observations is negative.
    NegativeCount,
    /// The count differs from the observations in the buckets although the sum is a number.
    CountMismatch {
        /// Observations in the buckets.
        buckets: u64,
        /// The count field.
        count: u64,
    },
    /// The count is smaller than the observations in the buckets. (With a sum of NaN it may be larger: observations of
    /// NaN go into no bucket.)
    CountTooSmall {
        /// Observations in the buckets.
        buckets: u64,
        /// The count field.
        count: u64,
    },
    /// A custom bound is NaN.
    CustomBoundNaN {
        /// Which bound.
        bound: usize,
    },
    /// A custom bound is not above the one before it.
    CustomBoundsNotIncreasing {
        /// Which bound.
        bound: usize,
    },
    /// The last custom bound is +Inf, which is implied and must not be given.
    CustomBoundInfinite,
    /// The spans reach beyond the last custom bound's overflow bucket.
    TooFewCustomBounds {
        /// Bounds given.
        bounds: usize,
        /// Bucket positions the spans cover.
        covered: i64,
    },
    /// Custom buckets have no zero bucket: its count must be 0.
    CustomZeroCount,
    /// Custom buckets have no zero bucket: its threshold must be 0.
    CustomZeroThreshold,
    /// Custom buckets have no negative side: no spans.
    CustomNegativeSpans,
    /// Custom buckets have no negative side: no buckets.
    CustomNegativeBuckets,
    /// Exponential buckets have no custom bounds.
    ExponentialCustomBounds,
}

impl fmt::Display for HistogramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::InvalidSchema(schema) => write!(
                f,
                "schema {schema} is neither {CUSTOM_BUCKETS_SCHEMA} (custom buckets) nor between \
                 {EXPONENTIAL_SCHEMA_MIN} and {EXPONENTIAL_SCHEMA_MAX}"
            ),
            Self::NegativeOffset { side, span, offset } => {
                write!(f, "{side}: span {span} has the negative offset {offset}")
            }
            Self::SpansBucketsMismatch { side, spans, buckets } => {
                write!(f, "{side}: spans announce {spans} buckets, {buckets} are present")
            }
            Self::NegativeBucketCount { side, bucket } => write!(f, "{side}: bucket {bucket} has a negative count"),
            Self::NegativeZeroCount => f.write_str("the zero bucket has a negative count"),
            Self::NegativeCount => f.write_str("the count of observations is negative"),
            Self::CountMismatch { buckets, count } => {
                write!(f, "{buckets} observations in the buckets, but the count is {count}")
            }
            Self::CountTooSmall { buckets, count } => {
                write!(f, "{buckets} observations in the buckets, more than the count of {count}")
            }
            Self::CustomBoundNaN { bound } => write!(f, "custom bound {bound} is NaN"),
            Self::CustomBoundsNotIncreasing { bound } => {
                write!(f, "custom bound {bound} is not above the one before it")
            }
            Self::CustomBoundInfinite => f.write_str("the last custom bound is +Inf, which is implied"),
            Self::TooFewCustomBounds { bounds, covered } => {
                write!(f, "{bounds} custom bounds are too few for spans that cover {covered} buckets")
            }
            Self::CustomZeroCount => f.write_str("custom buckets with a zero count"),
            Self::CustomZeroThreshold => f.write_str("custom buckets with a zero threshold"),
            Self::CustomNegativeSpans => f.write_str("custom buckets with negative spans"),
            Self::CustomNegativeBuckets => f.write_str("custom buckets with negative buckets"),
            Self::ExponentialCustomBounds => f.write_str("exponential buckets with custom bounds"),
        }
    }
}

impl core::error::Error for HistogramError {}

fn check_spans(side: Side, spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    check_layout(spans.iter().copied(), buckets).map_err(|error| match error {
        ReduceError::NegativeOffset { span, offset } => HistogramError::NegativeOffset { side, span, offset },
        ReduceError::SpansBucketsMismatch { spans, buckets } => {
            HistogramError::SpansBucketsMismatch { side, spans, buckets }
        }
        // Layout checks speak of no schema.
        ReduceError::Target { from, .. } => HistogramError::InvalidSchema(from),
    })
}

fn check_custom_bounds(bounds: &[f64], spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    for (i, bound) in bounds.iter().enumerate() {
        if bound.is_nan() {
            return Err(HistogramError::CustomBoundNaN { bound: i });
        }
        if i > 0 && *bound <= bounds[i - 1] {
            return Err(HistogramError::CustomBoundsNotIncreasing { bound: i });
        }
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err(HistogramError::CustomBoundInfinite);
    }
    if let Some(first) = spans.first().filter(|span| span.offset < 0) {
        return Err(HistogramError::NegativeOffset { side: Side::Custom, span: 0, offset: first.offset });
    }
    check_spans(Side::Custom, spans, buckets)?;
    let covered = spans.iter().map(|span| i64::from(span.length) + i64::from(span.offset)).sum();
    if (bounds.len() as i64 + 1) < covered {
        return Err(HistogramError::TooFewCustomBounds { bounds: bounds.len(), covered });
    }
    Ok(())
}

/// What is checked in the same way for both kinds of counts: everything but the counts themselves.
fn check_shape<B: BucketValue>(h: &NativeHistogram<B>) -> Result<(), HistogramError> {
    if h.uses_custom_buckets() {
        check_custom_bounds(&h.custom_values, &h.positive_spans, h.positive_buckets.len())?;
        if h.zero_count != B::Count::default() {
            return Err(HistogramError::CustomZeroCount);
        }
        if h.zero_threshold != 0.0 {
            return Err(HistogramError::CustomZeroThreshold);
        }
        if !h.negative_spans.is_empty() {
            return Err(HistogramError::CustomNegativeSpans);
        }
        if !h.negative_buckets.is_empty() {
            return Err(HistogramError::CustomNegativeBuckets);
        }
        return Ok(());
    }
    if !is_exponential_schema(h.schema) {
        return Err(HistogramError::InvalidSchema(h.schema));
    }
    check_spans(Side::Positive, &h.positive_spans, h.positive_buckets.len())?;
    check_spans(Side::Negative, &h.negative_spans, h.negative_buckets.len())
}

/// Observations in integer buckets; sums wrap, as the reference's do.
fn sum_of_deltas(side: Side, buckets: &[i64]) -> Result<u64, HistogramError> {
    let (mut count, mut sum) = (0i64, 0u64);
    for (bucket, delta) in buckets.iter().enumerate() {
        count = count.wrapping_add(*delta);
        if count < 0 {
            return Err(HistogramError::NegativeBucketCount { side, bucket });
        }
        sum = sum.wrapping_add(count as u64);
    }
    Ok(sum)
}

fn check_floats(side: Side, buckets: &[f64]) -> Result<(), HistogramError> {
    match buckets.iter().position(|count| *count < 0.0) {
        Some(bucket) => Err(HistogramError::NegativeBucketCount { side, bucket }),
        None => Ok(()),
    }
}

impl Histogram {
    /// Whether the histogram may be appended: schema, spans and buckets fit together, no count is negative, and the
    /// count is the sum of all buckets (or, when NaN was observed, at least that).
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_shape(self)?;
        let negative = sum_of_deltas(Side::Negative, &self.negative_buckets)?;
        if !self.uses_custom_buckets() && !self.custom_values.is_empty() {
            return Err(HistogramError::ExponentialCustomBounds);
        }
        let positive = sum_of_deltas(Side::Positive, &self.positive_buckets)?;
        let (buckets, count) = (negative.wrapping_add(positive).wrapping_add(self.zero_count), self.count);
        match () {
            () if self.sum.is_nan() && buckets > count => Err(HistogramError::CountTooSmall { buckets, count }),
            () if !self.sum.is_nan() && buckets != count => Err(HistogramError::CountMismatch { buckets, count }),
            () => Ok(()),
        }
    }
}

impl FloatHistogram {
    /// Whether the histogram may be appended: schema, spans and buckets fit together and no count is negative. The
    /// count is not compared with the buckets: floating-point sums need not be exact.
    pub fn validate(&self) -> Result<(), HistogramError> {
        check_shape(self)?;
        check_floats(Side::Negative, &self.negative_buckets)?;
        if self.zero_count < 0.0 {
            return Err(HistogramError::NegativeZeroCount);
        }
        if !self.uses_custom_buckets() && !self.custom_values.is_empty() {
            return Err(HistogramError::ExponentialCustomBounds);
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount);
        }
        check_floats(Side::Positive, &self.positive_buckets)
    }
}
