//! Integer to float counts, and back where nothing is lost.

use super::{FloatHistogram, Histogram};
use alloc::vec::Vec;

/// The largest range of integers in which every one is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn absolute(deltas: &[i64]) -> Vec<f64> {
    let mut count = 0.0;
    deltas
        .iter()
        .map(|delta| {
            count += *delta as f64;
            count
        })
        .collect()
}

/// Whether `count` is a whole number that an integer holds exactly.
fn exact(count: f64) -> Option<i64> {
    let whole = count as i64;
    ((0.0..=EXACT).contains(&count) && whole as f64 == count && !(count == 0.0 && count.is_sign_negative()))
        .then_some(whole)
}

fn deltas(counts: &[f64]) -> Option<Vec<i64>> {
    let mut last = 0;
    counts
        .iter()
        .map(|count| {
            let count = exact(*count)?;
            let delta = count - last;
            last = count;
            Some(delta)
        })
        .collect()
}

impl Histogram {
    /// The same histogram with float counts; counts above 2^53 are rounded. Of custom buckets only what they use is
    /// taken over (no zero bucket, no negative side), of exponential ones no custom bounds.
    #[must_use]
    pub fn to_float(&self) -> FloatHistogram {
        let mut float = FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            ..FloatHistogram::default()
        };
        if self.uses_custom_buckets() {
            float.custom_values.clone_from(&self.custom_values);
        } else {
            float.zero_threshold = self.zero_threshold;
            float.zero_count = self.zero_count as f64;
            float.negative_spans.clone_from(&self.negative_spans);
            float.negative_buckets = absolute(&self.negative_buckets);
        }
        float
    }
}

impl FloatHistogram {
    /// The same histogram with integer counts, if every count is a whole number from 0 to 2^53; else `None`.
    #[must_use]
    pub fn to_integer(&self) -> Option<Histogram> {
        Some(Histogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: exact(self.zero_count)? as u64,
            count: exact(self.count)? as u64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: deltas(&self.positive_buckets)?,
            negative_buckets: deltas(&self.negative_buckets)?,
            custom_values: self.custom_values.clone(),
        })
    }
}
