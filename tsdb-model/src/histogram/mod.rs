//! Native histograms: integer ([`Histogram`]) and float ([`FloatHistogram`]), with exponential or custom buckets.
//!
//! Buckets are sparse: spans say which bucket indices exist, the bucket slices hold one number for each. With schema *n*
//! (-4 to 8) bucket *i* covers `(base^(i-1), base^i]` where `base = 2^(2^-n)`; with schema -53 the upper bounds are the
//! custom values and the last bucket ends at +Inf.

mod buckets;
mod convert;
mod reduce;
mod schema;
mod text;
mod validate;

pub use buckets::{Bucket, upper_bound};
pub use reduce::{ReduceError, check_layout};
pub use schema::{
    CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MAX_RESERVED, EXPONENTIAL_SCHEMA_MIN,
    EXPONENTIAL_SCHEMA_MIN_RESERVED, is_custom_buckets_schema, is_exponential_schema, is_known_schema, is_valid_schema,
    needs_reduction,
};
pub use validate::{HistogramError, Side};

use alloc::vec::Vec;
use core::fmt::Debug;

/// What is known about a counter reset between the previous histogram of the series and this one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum CounterResetHint {
    /// Nothing is known: compare the buckets.
    #[default]
    Unknown,
    /// A reset happened: counting begins with this histogram.
    CounterReset,
    /// No reset happened.
    NotCounterReset,
    /// A gauge histogram: resets do not apply.
    Gauge,
    /// A byte that the reference never writes, kept so that a record can be written back as it was.
    Other(u8),
}

impl CounterResetHint {
    /// From its byte in records and chunks.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Unknown,
            1 => Self::CounterReset,
            2 => Self::NotCounterReset,
            3 => Self::Gauge,
            other => Self::Other(other),
        }
    }

    /// Its byte in records and chunks.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::CounterReset => 1,
            Self::NotCounterReset => 2,
            Self::Gauge => 3,
            Self::Other(byte) => byte,
        }
    }
}

/// A run of neighbouring buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Span {
    /// For the first span the index of its first bucket, for others the gap of empty buckets before it (not negative).
    pub offset: i32,
    /// How many buckets it has.
    pub length: u32,
}

/// The number in a bucket slice: `i64` differences in integer histograms, `f64` counts in float ones.
///
/// Sealed: these two are all there are.
pub trait BucketValue:
    Copy + PartialEq + PartialOrd + Default + Debug + Send + Sync + sealed::Sealed + 'static
{
    /// The number that counts observations: `u64` or `f64`.
    type Count: Copy + PartialEq + PartialOrd + Default + Debug + Send + Sync + 'static;
    /// Whether a bucket is stored as its difference to the one before.
    const DELTAS: bool;

    /// Whether two stored bucket values are the same, bit by bit.
    fn same_bits(self, other: Self) -> bool;
    /// Whether two counts are the same, bit by bit.
    fn same_count(a: Self::Count, b: Self::Count) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i64 {}
    impl Sealed for f64 {}
}

impl BucketValue for i64 {
    type Count = u64;
    const DELTAS: bool = true;

    fn same_bits(self, other: Self) -> bool {
        self == other
    }

    fn same_count(a: u64, b: u64) -> bool {
        a == b
    }
}

impl BucketValue for f64 {
    type Count = f64;
    const DELTAS: bool = false;

    fn same_bits(self, other: Self) -> bool {
        self.to_bits() == other.to_bits()
    }

    fn same_count(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits()
    }
}

/// A histogram with integer counts, as instrumented code makes them.
pub type Histogram = NativeHistogram<i64>;

/// A histogram with float counts, as calculations make them.
pub type FloatHistogram = NativeHistogram<f64>;

/// A native histogram; used by its two names [`Histogram`] and [`FloatHistogram`].
///
/// Any content can be represented, as a log can hold any; [`validate`](NativeHistogram::validate) says whether it makes
/// sense. Equality (`==`) is by value of every field, so that a sum of NaN equals nothing; use
/// [`same_bits`](NativeHistogram::same_bits) to compare stored data.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct NativeHistogram<B: BucketValue> {
    /// What is known about a counter reset.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution: -4 to 8 for exponential buckets, -53 for custom ones.
    pub schema: i32,
    /// Half the width of the zero bucket, which is `[-zero_threshold, zero_threshold]`.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: B::Count,
    /// All observations.
    pub count: B::Count,
    /// Sum of all observations; the stale marker here marks the whole histogram as stale.
    pub sum: f64,
    /// Which positive buckets exist.
    pub positive_spans: Vec<Span>,
    /// Which negative buckets exist, counted away from zero.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets; in integer histograms the first absolute, the others as the difference to the
    /// one before.
    pub positive_buckets: Vec<B>,
    /// Counts of the negative buckets, in the same form.
    pub negative_buckets: Vec<B>,
    /// Upper bounds of custom buckets, strictly increasing; empty with other schemas.
    pub custom_values: Vec<f64>,
}

impl<B: BucketValue> NativeHistogram<B> {
    /// Whether the buckets are custom ones (schema -53).
    #[inline]
    #[must_use]
    pub const fn uses_custom_buckets(&self) -> bool {
        is_custom_buckets_schema(self.schema)
    }

    /// Whether this marks the end of its series: the sum is the stale marker.
    #[inline]
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        crate::staleness::is_stale(self.sum)
    }

    /// Whether every field is the same, floats compared by their bits.
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && self.zero_threshold.same_bits(other.zero_threshold)
            && B::same_count(self.zero_count, other.zero_count)
            && B::same_count(self.count, other.count)
            && self.sum.same_bits(other.sum)
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && all_same(&self.positive_buckets, &other.positive_buckets)
            && all_same(&self.negative_buckets, &other.negative_buckets)
            && all_same(&self.custom_values, &other.custom_values)
    }
}

fn all_same<B: BucketValue>(a: &[B], b: &[B]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_bits(*b))
}
