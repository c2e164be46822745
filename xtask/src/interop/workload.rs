//! Random scrapes for rows about whole directories.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use tsdb_model::histogram::{Histogram, Span};
use tsdb_model::labels::Labels;

use super::Coverage;
use super::entry::{Entry, Value};

/// The compressions of a log, as both sides name them.
pub(crate) const COMPRESSIONS: [&str; 3] = ["none", "snappy", "zstd"];

/// Scrapes of a set of series whose clock goes on from call to call, so that a directory can be continued.
pub(crate) struct Scrapes {
    series: Vec<(Labels, Shape, f64)>,
    histograms: Vec<(Labels, HistogramShape, Histogram)>,
    /// Time of the next scrape, ms since the epoch.
    now: i64,
}

/// What kind of histograms a series has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum HistogramShape {
    Integer,
    Float,
    CustomBuckets,
    FloatCustomBuckets,
}

/// How a series' values go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Counter,
    Gauge,
    Constant,
    /// Anything that 64 bits can say.
    Wild,
}

impl Scrapes {
    /// A few dozen series, at a random moment of the last half century.
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        let count = rng.random_range(1..40);
        Self::with_series(rng, count)
    }

    /// As many series as one wants.
    pub(crate) fn with_series(rng: &mut StdRng, count: usize) -> Self {
        let series = (0..count).map(|n| {
            let shape = *[Shape::Counter, Shape::Gauge, Shape::Constant, Shape::Wild].choose(rng).expect("not empty");
            (labels(rng, n), shape, f64::from(rng.random_range(0..1000_u32)))
        });
        Self { series: series.collect(), histograms: Vec::new(), now: rng.random_range(0..1_700_000_000_000) }
    }

    /// The same with some series of histograms of every kind, which only count: their layouts stay as they are.
    pub(crate) fn and_histograms(mut self, rng: &mut StdRng) -> Self {
        use HistogramShape::{CustomBuckets, Float, FloatCustomBuckets, Integer};
        let shapes = [Integer, Float, CustomBuckets, FloatCustomBuckets];
        for n in 0..rng.random_range(1..9_usize) {
            let shape = shapes[n % 4];
            let custom = matches!(shape, CustomBuckets | FloatCustomBuckets);
            let length = rng.random_range(1..12_u32);
            let mut h = Histogram {
                schema: if custom { -53 } else { rng.random_range(-4..=8) },
                positive_spans: vec![Span { offset: 0, length }],
                positive_buckets: vec![0; length as usize],
                ..Histogram::default()
            };
            if custom {
                h.custom_values = (0..length).map(f64::from).collect();
            } else {
                h.zero_threshold = 0.001;
                h.negative_spans = vec![Span { offset: -2, length: 1 }];
                h.negative_buckets = vec![0];
            }
            self.histograms.push((Labels::from_pairs([("__name__", "h"), ("number", &n.to_string())]), shape, h));
        }
        self
    }

    /// `count` scrapes, each one commit. Series miss scrapes, go stale, and new ones come.
    pub(crate) fn take(&mut self, rng: &mut StdRng, count: usize, coverage: &mut Coverage) -> Vec<Vec<Entry>> {
        (0..count).map(|_| self.scrape(rng, coverage)).collect()
    }

    fn scrape(&mut self, rng: &mut StdRng, coverage: &mut Coverage) -> Vec<Entry> {
        self.now += match rng.random_range(0..20) {
            0 => rng.random_range(1..600_000),
            1..5 => rng.random_range(14_900..15_100),
            _ => 15_000,
        };
        if rng.random_ratio(1, 20) {
            let fresh = labels(rng, self.series.len());
            self.series.push((fresh, Shape::Gauge, 0.0));
            coverage.hit("series that came later");
        }
        let now = self.now;
        let mut scrape = Vec::with_capacity(self.series.len());
        for (labels, shape, value) in &mut self.series {
            if rng.random_ratio(1, 30) {
                coverage.hit("missed scrape");
                continue;
            }
            let v = match shape {
                Shape::Counter if rng.random_ratio(1, 60) => {
                    coverage.hit("counter reset");
                    *value = 0.0;
                    0.0
                }
                Shape::Counter => {
                    *value += f64::from(rng.random_range(0..500_u32));
                    *value
                }
                Shape::Gauge => {
                    *value += f64::from(rng.random_range(-1000..1000_i32)) / 1000.0;
                    *value
                }
                Shape::Constant => *value,
                Shape::Wild => wild(rng, coverage),
            };
            scrape.push(Entry::float(labels.clone(), now, v));
        }
        for (labels, shape, h) in &mut self.histograms {
            if rng.random_ratio(1, 30) {
                continue;
            }
            let at = rng.random_range(0..h.positive_buckets.len());
            let more = rng.random_range(0..9_i64);
            h.positive_buckets[at] += more;
            if let Some(next) = h.positive_buckets.get_mut(at + 1) {
                // Deltas.
                *next -= more;
            }
            h.count += more as u64;
            h.sum += more as f64 * 0.3;
            let (name, value) = match shape {
                HistogramShape::Integer => ("histogram", Value::Histogram(h.clone())),
                HistogramShape::Float => ("float histogram", Value::FloatHistogram(h.to_float())),
                HistogramShape::CustomBuckets => ("custom buckets", Value::Histogram(h.clone())),
                HistogramShape::FloatCustomBuckets => ("float custom buckets", Value::FloatHistogram(h.to_float())),
            };
            coverage.hit(name);
            scrape.push(Entry { labels: labels.clone(), t: now, st: 0, value });
        }
        coverage.add("samples", scrape.len() as u64);
        coverage.hit("commits");
        scrape
    }
}

/// Values that text, rounding or a comparison by `==` would lose.
fn wild(rng: &mut StdRng, coverage: &mut Coverage) -> f64 {
    let (case, bits) = match rng.random_range(0..8) {
        0 => ("stale marker", tsdb_model::staleness::STALE_NAN_BITS),
        1 => ("plain NaN", tsdb_model::staleness::NORMAL_NAN_BITS),
        2 => ("NaN with a payload", 0x7ff0_0000_0000_0000 | (rng.next_u64() & 0x800f_ffff_ffff_ffff) | 1),
        3 => ("-0", (-0.0_f64).to_bits()),
        4 => ("infinity", if rng.random() { f64::INFINITY } else { f64::NEG_INFINITY }.to_bits()),
        5 => ("subnormal", rng.random_range(1..1 << 52)),
        _ => ("any bits", rng.next_u64()),
    };
    coverage.hit(case);
    f64::from_bits(bits)
}

/// The kinds of histograms of [`Scrapes::and_histograms`].
pub(crate) const HISTOGRAMS: [&str; 4] = ["histogram", "float histogram", "custom buckets", "float custom buckets"];

/// What [`Scrapes`] produces sooner or later, and a row over whole directories must have seen.
pub(crate) fn require(coverage: &mut Coverage, at_least: u64) {
    for case in [
        "stale marker",
        "plain NaN",
        "NaN with a payload",
        "-0",
        "infinity",
        "subnormal",
        "any bits",
        "counter reset",
        "missed scrape",
        "series that came later",
    ] {
        coverage.require(case, at_least);
    }
}

/// A label set no other `n` has, with the odd value that needs quoting.
fn labels(rng: &mut StdRng, n: usize) -> Labels {
    let number = n.to_string();
    let values = ["", "a", "with \"quotes\" and \\", "line\nbreak", "Žluťoučký kůň", "\u{7f}\t\u{0}", "日本"];
    let mut pairs = vec![("number", number.as_str())];
    if rng.random_ratio(9, 10) {
        pairs.push(("__name__", ["up", "http_requests_total", "with space", "größe"].choose(rng).expect("not empty")));
    }
    for name in ["job", "instance", "le", "dotted.name", "0digit"] {
        let value = *values.choose(rng).expect("not empty");
        // A label without value is no label.
        if rng.random_ratio(1, 2) && !value.is_empty() {
            pairs.push((name, value));
        }
    }
    Labels::from_pairs(pairs)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn scrapes_move_forward_in_time_and_repeat_from_a_seed() {
        let mut coverage = Coverage::new(false);
        let mut make = || {
            let mut rng = StdRng::seed_from_u64(7);
            Scrapes::new(&mut rng).take(&mut rng, 50, &mut coverage)
        };
        let (first, second) = (make(), make());
        assert!(first == second);
        let times: Vec<_> = first.iter().filter_map(|scrape| scrape.first()).map(|entry| entry.t).collect();
        assert!(times.is_sorted_by(|a, b| a < b));
    }
}
