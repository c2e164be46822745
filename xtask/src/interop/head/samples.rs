//! What a program appends: a few series of every shape, on one clock.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use tsdb_model::histogram::{CounterResetHint, Histogram, Span};
use tsdb_model::labels::Labels;
use tsdb_model::staleness::stale_nan;

use crate::interop::entry::{Entry, Value};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Float,
    /// Bits of any kind: the chunk grows fast and is cut by its bytes.
    Noise,
    Histogram,
    FloatHistogram,
    Custom,
    CustomFloat,
    /// Another kind every now and then.
    Mixed,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    shape: Shape,
    value: f64,
    histogram: Histogram,
}

#[derive(Debug)]
pub(super) struct Samples {
    series: Vec<Series>,
    /// The newest time handed out, ms.
    pub(super) now: i64,
    interval: i64,
    starts: bool,
}

impl Samples {
    pub(super) fn new(rng: &mut StdRng, chunk_range: i64, starts: bool) -> Self {
        let mut samples = Self {
            series: Vec::new(),
            now: rng.random_range(0..2_000_000_000_000),
            // From 5 to 500 scrapes in a chunk range.
            interval: (chunk_range / rng.random_range(5..500)).max(1),
            starts,
        };
        for _ in 0..rng.random_range(3..12) {
            samples.add_series(rng);
        }
        samples
    }

    fn add_series(&mut self, rng: &mut StdRng) {
        let shapes = [
            Shape::Float,
            Shape::Float,
            Shape::Noise,
            Shape::Histogram,
            Shape::FloatHistogram,
            Shape::Custom,
            Shape::CustomFloat,
            Shape::Mixed,
        ];
        let shape = *shapes.choose(rng).expect("not empty");
        let number = self.series.len().to_string();
        let labels =
            Labels::from_pairs([("__name__", "m"), ("number", &number), ("zone", ["a", "b", ""][number.len() % 3])]);
        let histogram = fresh_histogram(rng, matches!(shape, Shape::Custom | Shape::CustomFloat));
        self.series.push(Series { labels, shape, value: 0.0, histogram });
    }

    /// One sample of most series at the next time.
    pub(super) fn scrape(&mut self, rng: &mut StdRng) -> Vec<Entry> {
        self.now += match rng.random_range(0..30) {
            0 => self.interval * rng.random_range(1..40),
            1..4 => rng.random_range(1..=self.interval * 2),
            _ => self.interval,
        };
        if rng.random_ratio(1, 60) && self.series.len() < 30 {
            self.add_series(rng);
        }
        let mut entries = Vec::new();
        for i in 0..self.series.len() {
            if !rng.random_ratio(1, 25) {
                entries.push(self.sample(rng, i, self.now));
            }
        }
        entries
    }

    /// Samples that are not all right: old ones, repeated ones, bad labels, bad histograms.
    pub(super) fn odd(&mut self, rng: &mut StdRng, chunk_range: i64) -> Vec<Entry> {
        (0..rng.random_range(1..6))
            .map(|_| {
                let i = rng.random_range(0..self.series.len());
                let t = match rng.random_range(0..10) {
                    0 => self.now - chunk_range / 2 + rng.random_range(-3..3),
                    1 => self.now - rng.random_range(0..chunk_range * 2),
                    2..5 => self.now,
                    5 => self.now + rng.random_range(0..self.interval),
                    6 => self.now - self.interval,
                    _ => {
                        self.now += rng.random_range(1..self.interval + 1);
                        self.now
                    }
                };
                let mut entry = self.sample(rng, i, t);
                match rng.random_range(0..24) {
                    0 => entry.labels = Labels::empty(),
                    1 => entry.labels = Labels::from_pairs([("only", "")]),
                    2 => break_histogram(&mut entry),
                    _ => {}
                }
                entry
            })
            .collect()
    }

    /// A time that most series have a sample after, as a truncation would have it.
    pub(super) fn truncation(&self, rng: &mut StdRng, chunk_range: i64) -> i64 {
        self.now - chunk_range / 2 - rng.random_range(0..chunk_range * 2)
    }

    fn sample(&mut self, rng: &mut StdRng, i: usize, t: i64) -> Entry {
        let series = &mut self.series[i];
        let shape = match series.shape {
            Shape::Mixed => *[Shape::Float, Shape::Histogram, Shape::FloatHistogram].choose(rng).expect("not empty"),
            shape => shape,
        };
        let value = match shape {
            _ if rng.random_ratio(1, 40) => Value::Float(stale_nan()),
            Shape::Float => {
                series.value += f64::from(rng.random_range(0..3_u32));
                Value::Float(series.value)
            }
            Shape::Noise => Value::Float(f64::from_bits(rng.next_u64())),
            Shape::FloatHistogram | Shape::CustomFloat => {
                observe(rng, &mut series.histogram);
                Value::FloatHistogram(series.histogram.to_float())
            }
            Shape::Histogram | Shape::Custom | Shape::Mixed => {
                observe(rng, &mut series.histogram);
                Value::Histogram(series.histogram.clone())
            }
        };
        let st = match rng.random_range(0..4) {
            _ if !self.starts => 0,
            0 => 0,
            1 => t - rng.random_range(1..10_000),
            _ => self.now - self.now % 1_000_000,
        };
        Entry { labels: series.labels.clone(), t, st, value }
    }
}

fn break_histogram(entry: &mut Entry) {
    match &mut entry.value {
        Value::Histogram(h) => h.count += 1,
        Value::FloatHistogram(h) => h.positive_spans.push(Span { offset: 0, length: 9 }),
        _ => {}
    }
}

fn fresh_histogram(rng: &mut StdRng, custom: bool) -> Histogram {
    let n = rng.random_range(1..20_u32);
    let mut histogram = Histogram {
        schema: if custom { -53 } else { rng.random_range(-4..=8) },
        zero_threshold: if custom { 0.0 } else { [0.0, 0.001, 1e-128][rng.random_range(0..3)] },
        positive_spans: vec![Span { offset: 0, length: n }],
        positive_buckets: vec![0; n as usize],
        ..Histogram::default()
    };
    if custom {
        histogram.custom_values = (0..n).map(|i| f64::from(i) * 1.5).collect();
    } else if rng.random() {
        histogram.negative_spans = vec![Span { offset: -3, length: 2 }];
        histogram.negative_buckets = vec![0, 0];
    }
    histogram
}

/// Counts on; now and then the histogram is reset, changes its layout, schema or hint.
fn observe(rng: &mut StdRng, h: &mut Histogram) {
    let custom = h.uses_custom_buckets();
    match rng.random_range(0..40) {
        0 => *h = fresh_histogram(rng, custom),
        1 => {
            h.positive_buckets.iter_mut().for_each(|bucket| *bucket = 0);
            h.negative_buckets.iter_mut().for_each(|bucket| *bucket = 0);
            h.zero_count = 0;
        }
        2 if !custom => {
            h.positive_spans.push(Span { offset: rng.random_range(0..4), length: 1 });
            let last: i64 = h.positive_buckets.iter().sum();
            h.positive_buckets.push(-last);
        }
        3 => {
            let hints = [CounterResetHint::Unknown, CounterResetHint::Gauge, CounterResetHint::CounterReset];
            h.counter_reset_hint = *hints.choose(rng).expect("not empty");
        }
        4 if !custom => h.zero_threshold = 0.5,
        _ => {}
    }
    for _ in 0..rng.random_range(0..6) {
        let buckets = if h.negative_buckets.is_empty() || rng.random() {
            &mut h.positive_buckets
        } else {
            &mut h.negative_buckets
        };
        let at = rng.random_range(0..buckets.len());
        // Deltas: one more in bucket `at` is one less in the difference to the next.
        buckets[at] += 1;
        if let Some(next) = buckets.get_mut(at + 1) {
            *next -= 1;
        }
        h.sum += 0.5;
    }
    if !custom {
        h.zero_count += u64::from(rng.random_range(0..2_u32));
    }
    let absolute = |buckets: &[i64]| {
        buckets
            .iter()
            .scan(0, |sum, delta| {
                *sum += delta;
                Some(*sum)
            })
            .sum::<i64>() as u64
    };
    h.count = h.zero_count + absolute(&h.positive_buckets) + absolute(&h.negative_buckets);
}
