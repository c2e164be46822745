//! What is appended, and the form in which it is compared.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;
use tsdb_head::{Sample, Value};
use tsdb_model::Labels;
use tsdb_model::histogram::{Histogram, Span};
use tsdb_model::staleness::{is_stale, stale_nan};

/// How many series there are to write to.
pub(crate) const SERIES: usize = 14;

/// A value by what it means: chunks may add empty buckets, and a staleness marker takes the type of its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plain {
    Stale,
    /// Bits.
    Float(u64),
    Histogram {
        float: bool,
        schema: i32,
        zero: [u64; 2],
        count: u64,
        sum: u64,
        buckets: [BTreeMap<i32, u64>; 2],
        custom: Vec<u64>,
    },
}

impl Plain {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Float(v) if is_stale(*v) => Self::Stale,
            Value::Float(v) => Self::Float(v.to_bits()),
            Value::Histogram(h) if is_stale(h.sum) => Self::Stale,
            Value::FloatHistogram(h) if is_stale(h.sum) => Self::Stale,
            Value::Histogram(h) => Self::Histogram {
                float: false,
                schema: h.schema,
                zero: [h.zero_threshold.to_bits(), h.zero_count],
                count: h.count,
                sum: h.sum.to_bits(),
                buckets: [
                    buckets(&h.positive_spans, absolute(&h.positive_buckets)),
                    buckets(&h.negative_spans, absolute(&h.negative_buckets)),
                ],
                custom: h.custom_values.iter().map(|v| v.to_bits()).collect(),
            },
            Value::FloatHistogram(h) => Self::Histogram {
                float: true,
                schema: h.schema,
                zero: [h.zero_threshold.to_bits(), h.zero_count.to_bits()],
                count: h.count.to_bits(),
                sum: h.sum.to_bits(),
                buckets: [
                    buckets(&h.positive_spans, h.positive_buckets.iter().map(|v| v.to_bits())),
                    buckets(&h.negative_spans, h.negative_buckets.iter().map(|v| v.to_bits())),
                ],
                custom: h.custom_values.iter().map(|v| v.to_bits()).collect(),
            },
        }
    }
}

fn absolute(deltas: &[i64]) -> impl Iterator<Item = u64> + '_ {
    deltas.iter().scan(0i64, |sum, delta| {
        *sum += delta;
        Some(*sum as u64)
    })
}

/// The buckets that hold something, by their index.
fn buckets(spans: &[Span], counts: impl Iterator<Item = u64>) -> BTreeMap<i32, u64> {
    let mut at = 0;
    let indices = spans.iter().flat_map(|span| {
        at += span.offset;
        let from = at;
        at += span.length as i32;
        from..at
    });
    // Zero as a count, and 0.0 as bits.
    indices.zip(counts).filter(|&(_, count)| count != 0).collect()
}

/// A sample as the model keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) t: i64,
    pub(crate) start: i64,
    pub(crate) value: Plain,
}

impl From<&Sample> for Kept {
    fn from(sample: &Sample) -> Self {
        Self { t: sample.t, start: sample.start, value: Plain::of(&sample.value) }
    }
}

pub(crate) fn labels(series: usize) -> Labels {
    let zone = ["north", "south", ""][series % 3];
    Labels::from_pairs([("__name__", "m"), ("series", &series.to_string()), ("zone", zone)])
}

/// Which series has these labels.
pub(crate) fn series_of(labels: &Labels) -> Option<usize> {
    std::str::from_utf8(labels.get(b"series")?).ok()?.parse().ok()
}

/// A value in the manner of the series: floats, integer and float histograms, custom buckets, and now and then another kind.
pub(crate) fn value(rng: &mut SmallRng, series: usize) -> Value {
    let kind = if rng.random_ratio(1, 12) { rng.random_range(0..8) } else { series % 8 };
    match kind {
        _ if rng.random_ratio(1, 25) => Value::Float(stale_nan()),
        0..4 => Value::Float(match rng.random_range(0..6) {
            0 => f64::from_bits(rng.random()),
            1 => 0.0,
            _ => f64::from(rng.random_range(0..1000u32)) / 4.0,
        }),
        4 => Value::Histogram(Box::new(histogram(rng, true))),
        5 => Value::FloatHistogram(Box::new(histogram(rng, false).to_float())),
        6 => Value::FloatHistogram(Box::new(histogram(rng, true).to_float())),
        _ => Value::Histogram(Box::new(histogram(rng, false))),
    }
}

fn histogram(rng: &mut SmallRng, custom: bool) -> Histogram {
    let mut h = Histogram { schema: if custom { -53 } else { 1 }, sum: rng.random(), ..Histogram::default() };
    let gap = rng.random_range(0..3);
    h.positive_spans = vec![Span { offset: 0, length: 2 }, Span { offset: gap, length: 1 }];
    let counts: [i64; 3] = std::array::from_fn(|_| rng.random_range(0..50));
    h.positive_buckets = vec![counts[0], counts[1] - counts[0], counts[2] - counts[1]];
    h.count = counts.iter().sum::<i64>() as u64;
    if custom {
        h.custom_values = (0..6).map(|i| f64::from(i) * 0.5).collect();
    } else {
        h.zero_threshold = 0.001;
        h.zero_count = rng.random_range(0..9);
        h.negative_spans = vec![Span { offset: rng.random_range(-2..2), length: 1 }];
        h.negative_buckets = vec![rng.random_range(0..5)];
        h.count += h.zero_count + h.negative_buckets[0] as u64;
    }
    h
}

/// A histogram that contradicts itself.
pub(crate) fn broken(rng: &mut SmallRng) -> Value {
    let mut h = histogram(rng, false);
    match rng.random_range(0..3) {
        0 => h.count += 1,
        1 => h.positive_spans.push(Span { offset: 0, length: 4 }),
        _ => {
            let mut h = h.to_float();
            h.negative_buckets[0] = -1.0;
            return Value::FloatHistogram(Box::new(h));
        }
    }
    Value::Histogram(Box::new(h))
}

pub(crate) fn name(value: &Value) -> &'static str {
    match value {
        Value::Float(v) if is_stale(*v) => "stale",
        Value::Float(_) => "float",
        Value::Histogram(_) => "histogram",
        Value::FloatHistogram(_) => "float histogram",
    }
}

pub(crate) fn has_custom_buckets(value: &Value) -> bool {
    match value {
        Value::Histogram(h) => h.uses_custom_buckets(),
        Value::FloatHistogram(h) => h.uses_custom_buckets(),
        Value::Float(_) => false,
    }
}
