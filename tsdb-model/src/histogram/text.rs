//! The text form of histograms: `{count:3, sum:1.5, [-0.001,0.001]:1, (0.5,1]:2}`.

use super::buckets::Accumulate;
use super::{Bucket, FloatHistogram, Histogram, NativeHistogram};
use crate::gotext::write_float_g;
use alloc::vec::Vec;
use core::fmt;

/// How a count is printed.
trait PrintCount: Copy {
    fn print(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl PrintCount for u64 {
    fn print(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self, f)
    }
}

impl PrintCount for f64 {
    fn print(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_float_g(f, self)
    }
}

fn write_bucket<C: PrintCount>(f: &mut fmt::Formatter<'_>, bucket: &Bucket<C>) -> fmt::Result {
    f.write_str(if bucket.lower_inclusive { ", [" } else { ", (" })?;
    write_float_g(f, bucket.lower)?;
    f.write_str(",")?;
    write_float_g(f, bucket.upper)?;
    f.write_str(if bucket.upper_inclusive { "]:" } else { "):" })?;
    bucket.count.print(f)
}

fn write_histogram<B>(f: &mut fmt::Formatter<'_>, h: &NativeHistogram<B>) -> fmt::Result
where
    B: Accumulate<Count: PrintCount>,
{
    let empty = B::Count::default();
    f.write_str("{count:")?;
    h.count.print(f)?;
    f.write_str(", sum:")?;
    write_float_g(f, h.sum)?;
    let negative: Vec<_> = h.negative().filter(|bucket| bucket.count != empty).collect();
    for bucket in negative.iter().rev() {
        write_bucket(f, bucket)?;
    }
    if h.zero_count != empty {
        write_bucket(f, &h.zero_bucket())?;
    }
    for bucket in h.positive().filter(|bucket| bucket.count != empty) {
        write_bucket(f, &bucket)?;
    }
    f.write_str("}")
}

/// The reference's text form: count, sum, then every bucket that is not empty, from the lowest bound up.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_histogram(f, self)
    }
}

/// As for [`Histogram`], with float counts.
impl fmt::Display for FloatHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_histogram(f, self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Histogram, Span};

    #[test]
    fn buckets_from_the_lowest_bound_up() {
        let h = Histogram {
            schema: 0,
            zero_threshold: 0.001,
            zero_count: 1,
            count: 9,
            sum: 1.5,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_buckets: vec![2, -2, 1],
            negative_spans: vec![Span { offset: -1, length: 2 }],
            negative_buckets: vec![1, 3],
            ..Histogram::default()
        };
        let text = "{count:9, sum:1.5, [-1,-0.5):4, [-0.5,-0.25):1, [-0.001,0.001]:1, (0.5,1]:2, (4,8]:1}";
        assert_eq!(h.to_string(), text);
        assert_eq!(h.to_float().to_string(), text);
    }

    #[test]
    fn custom_buckets() {
        let h = Histogram {
            schema: -53,
            count: 3,
            sum: 1e6,
            positive_spans: vec![Span { offset: 0, length: 3 }],
            positive_buckets: vec![1, 0, 0],
            custom_values: vec![1.0, 5.0],
            ..Histogram::default()
        };
        assert_eq!(h.to_string(), "{count:3, sum:1e+06, [-Inf,1]:1, (1,5]:1, (5,+Inf]:1}");
    }
}
