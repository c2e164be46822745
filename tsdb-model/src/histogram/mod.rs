//! Native histograms: integer ([`Histogram`]) and float ([`FloatHistogram`]), with exponential or custom buckets.
//!
//! Buckets are sparse: spans say which bucket indices exist, the bucket slices hold one number for each. With schema *n*
//! (-4 to 8) bucket *i* covers `(base^(i-1), base^i]` where `base = 2^(2^-n)`; with schema -53 the upper bounds are the
//! custom values and the last bucket ends at +Inf.

mod schema;

pub use schema::{
    CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MAX_RESERVED, EXPONENTIAL_SCHEMA_MIN,
    EXPONENTIAL_SCHEMA_MIN_RESERVED, is_custom_buckets_schema, is_exponential_schema, is_known_schema, is_valid_schema,
    needs_reduction,
};

use alloc::vec::Vec;

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

/// A histogram with integer counts.
///
/// Equality (`==`) is by value of every field, so that a sum of NaN equals nothing; use
/// [`same_bits`](Histogram::same_bits) to compare stored data.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Histogram {
    /// What is known about a counter reset.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution: -4 to 8 for exponential buckets, -53 for custom ones.
    pub schema: i32,
    /// Half the width of the zero bucket, which is `[-zero_threshold, zero_threshold]`.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of all observations; the stale marker here marks the whole histogram as stale.
    pub sum: f64,
    /// Which positive buckets exist.
    pub positive_spans: Vec<Span>,
    /// Which negative buckets exist, counted away from zero.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets: the first absolute, the others as the difference to the one before.
    pub positive_buckets: Vec<i64>,
    /// Counts of the negative buckets, in the same form.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds of custom buckets, strictly increasing; empty with other schemas.
    pub custom_values: Vec<f64>,
}

/// A histogram with float counts, as calculations make them. Equality as for [`Histogram`].
#[derive(Clone, PartialEq, Default, Debug)]
pub struct FloatHistogram {
    /// What is known about a counter reset.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution: -4 to 8 for exponential buckets, -53 for custom ones.
    pub schema: i32,
    /// Half the width of the zero bucket, which is `[-zero_threshold, zero_threshold]`.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale marker here marks the whole histogram as stale.
    pub sum: f64,
    /// Which positive buckets exist.
    pub positive_spans: Vec<Span>,
    /// Which negative buckets exist, counted away from zero.
    pub negative_spans: Vec<Span>,
    /// Absolute counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Absolute counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, strictly increasing; empty with other schemas.
    pub custom_values: Vec<f64>,
}

fn same_floats(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

impl Histogram {
    /// Whether the buckets are custom ones (schema -53).
    #[must_use]
    pub const fn uses_custom_buckets(&self) -> bool {
        is_custom_buckets_schema(self.schema)
    }

    /// Whether every field is the same, floats compared by their bits.
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.zero_count == other.zero_count
            && self.count == other.count
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && self.positive_buckets == other.positive_buckets
            && self.negative_buckets == other.negative_buckets
            && same_floats(&self.custom_values, &other.custom_values)
    }
}

impl FloatHistogram {
    /// Whether the buckets are custom ones (schema -53).
    #[must_use]
    pub const fn uses_custom_buckets(&self) -> bool {
        is_custom_buckets_schema(self.schema)
    }

    /// Whether every field is the same, floats compared by their bits.
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && same_floats(&self.positive_buckets, &other.positive_buckets)
            && same_floats(&self.negative_buckets, &other.negative_buckets)
            && same_floats(&self.custom_values, &other.custom_values)
    }
}
