//! When two histograms say the same: what the reference takes for a harmless repeat.

use tsdb_model::Span;
use tsdb_model::histogram::{BucketValue, NativeHistogram};

/// Equal schema, counts, sum (by bits), zero bucket, custom bounds and buckets; the counter-reset hint does not matter, and
/// empty spans are only gaps.
pub(super) fn same_histogram<B: BucketValue>(a: &NativeHistogram<B>, b: &NativeHistogram<B>) -> bool {
    let same_buckets = |x: &[B], y: &[B]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.same_bits(*y));
    a.schema == b.schema
        && B::same_count(a.count, b.count)
        && a.sum.to_bits() == b.sum.to_bits()
        && (!a.uses_custom_buckets() || a.custom_values == b.custom_values)
        && a.zero_threshold == b.zero_threshold
        && B::same_count(a.zero_count, b.zero_count)
        && same_spans(&a.negative_spans, &b.negative_spans)
        && same_buckets(&a.negative_buckets, &b.negative_buckets)
        && same_spans(&a.positive_spans, &b.positive_spans)
        && same_buckets(&a.positive_buckets, &b.positive_buckets)
}

fn same_spans(a: &[Span], b: &[Span]) -> bool {
    filled(a).eq(filled(b))
}

/// The spans that have buckets, each with the gaps of the empty ones before it.
fn filled(spans: &[Span]) -> impl Iterator<Item = (i32, u32)> + '_ {
    let mut gap = 0i32;
    spans.iter().filter_map(move |span| {
        gap = gap.wrapping_add(span.offset);
        (span.length > 0).then(|| (std::mem::take(&mut gap), span.length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsdb_model::{CounterResetHint, Histogram};

    #[test]
    fn empty_spans_and_hints_do_not_matter() {
        let span = |offset, length| Span { offset, length };
        let a = Histogram {
            count: 3,
            positive_spans: vec![span(1, 1), span(2, 1)],
            positive_buckets: vec![1, 1],
            ..Histogram::default()
        };
        let mut b = a.clone();
        b.positive_spans = vec![span(0, 0), span(1, 1), span(1, 0), span(1, 1), span(7, 0)];
        b.counter_reset_hint = CounterResetHint::Gauge;
        assert!(same_histogram(&a, &b));
        b.positive_spans[1].length = 2;
        assert!(!same_histogram(&a, &b));
        let mut c = a.clone();
        c.sum = f64::NAN;
        assert!(!same_histogram(&a, &c) && same_histogram(&c, &c.clone()));
    }
}
