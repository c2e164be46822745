//! Native histograms that follow from a seed by integer arithmetic alone: `interop/bench_head.go` makes the same.

use tsdb_model::{Histogram, Span};

/// Buckets of every histogram.
pub const BUCKETS: usize = 16;

/// The histograms of one series, in order: latencies that are counted.
#[derive(Debug, Clone)]
pub struct Latencies {
    state: u64,
    counts: [i64; BUCKETS],
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Vigna's SplitMix64.
fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Latencies {
    /// The histograms of series `id`.
    #[must_use]
    pub fn new(seed: u64, id: u64) -> Self {
        Self { state: mix(seed ^ id.wrapping_mul(STEP)), counts: [0; BUCKETS] }
    }

    /// The next scrape's.
    pub fn next_histogram(&mut self) -> Histogram {
        let mut before = 0;
        let mut positive_buckets = Vec::with_capacity(BUCKETS);
        for count in &mut self.counts {
            self.state = self.state.wrapping_add(STEP);
            *count += (mix(self.state) % 8) as i64;
            positive_buckets.push(*count - before);
            before = *count;
        }
        let count = self.counts.iter().sum::<i64>() as u64;
        Histogram {
            schema: 3,
            zero_threshold: 1e-128,
            count,
            sum: count as f64 / 4.0,
            positive_spans: vec![Span { offset: 2, length: BUCKETS as u32 }],
            positive_buckets,
            ..Histogram::default()
        }
    }
}

/// A number over all histograms of so many series and scrapes, for comparing with another program's.
#[must_use]
pub fn digest(seed: u64, series: u64, scrapes: u64) -> u64 {
    let mut digest = 0_u64;
    for id in 0..series {
        let mut latencies = Latencies::new(seed, id);
        for _ in 0..scrapes {
            let histogram = latencies.next_histogram();
            let buckets = histogram.positive_buckets.iter().map(|&bucket| bucket as u64);
            for x in buckets.chain([histogram.count, histogram.sum.to_bits()]) {
                digest = (digest.rotate_left(5) ^ x).wrapping_mul(STEP);
            }
        }
    }
    digest
}
