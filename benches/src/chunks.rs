//! Chunks as the head makes them: 120 samples 15 s apart, or histograms of 16 buckets up to 1 KiB.

use head_chunks::Encoding;
use head_chunks::histogram::{Appender, Coded};
use head_chunks::xor::XorAppender;
use head_chunks::xor2::Xor2Appender;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_model::Span;
use tsdb_model::histogram::{Histogram, NativeHistogram};

/// Samples in a float chunk.
pub const PER_CHUNK: usize = 120;
/// Histograms in a chunk: what brings those of [`histograms`] to about 1 KiB.
pub const HISTOGRAMS_PER_CHUNK: usize = 60;

/// The kinds of float series.
pub const FLOATS: &[&str] = &["counter", "gauge", "trivial"];

/// `n` samples of a series: `counter` (random integer increments), `gauge` (random walk, three decimals) or `trivial`
/// (+1,000 each); every tenth scrape is late by a few milliseconds.
#[must_use]
pub fn floats(values: &str, n: usize) -> Vec<(i64, f64)> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut value = 0.0_f64;
    (0..n as i64)
        .map(|i| {
            value = match values {
                "counter" => value + f64::from(rng.random_range(0..1_000)),
                "gauge" => ((value + rng.random_range(-1.0..1.0)) * 1_000.0).round() / 1_000.0,
                _ => value + 1_000.0,
            };
            (1_700_000_000_000 + i * 15_000 + if rng.random_bool(0.1) { rng.random_range(0..8) } else { 0 }, value)
        })
        .collect()
}

/// Chunks of such a series.
#[must_use]
pub fn float_chunks(encoding: Encoding, values: &str, n: usize) -> Vec<Vec<u8>> {
    floats(values, n * PER_CHUNK)
        .chunks(PER_CHUNK)
        .map(|samples| {
            if encoding == Encoding::Xor {
                let mut appender = XorAppender::new();
                samples.iter().for_each(|(t, v)| appender.append(*t, *v).expect("there is room"));
                appender.to_bytes()
            } else {
                let mut appender = Xor2Appender::new();
                samples.iter().for_each(|(t, v)| appender.append(0, *t, *v).expect("there is room"));
                appender.to_bytes()
            }
        })
        .collect()
}

/// 6,000 histograms of one series: 16 buckets in two spans, a few observations more from each to the next.
#[must_use]
pub fn histograms() -> Vec<Histogram> {
    let mut rng = SmallRng::seed_from_u64(11);
    let mut counts = [0_i64; 16];
    let mut sum = 0.0;
    (0..6_000)
        .map(|_| {
            for count in &mut counts {
                let new = rng.random_range(0..6);
                *count += new;
                sum += new as f64 * 0.125;
            }
            let positive_buckets =
                counts.iter().scan(0, |before, count| Some(count - std::mem::replace(before, *count))).collect();
            Histogram {
                schema: 3,
                zero_threshold: 2_f64.powi(-128),
                count: counts.iter().sum::<i64>() as u64,
                sum,
                positive_spans: vec![Span { offset: -4, length: 10 }, Span { offset: 3, length: 6 }],
                positive_buckets,
                ..Histogram::default()
            }
        })
        .collect()
}

/// The start timestamp of the histograms where they have one: that of the process that counts.
pub const STARTED: i64 = -60_000;

/// Chunks of histograms, with or without start timestamps.
#[must_use]
pub fn histogram_chunks<B: Coded>(start_timestamps: bool, all: &[NativeHistogram<B>]) -> Vec<Vec<u8>> {
    all.chunks(HISTOGRAMS_PER_CHUNK)
        .map(|some| {
            let mut appender = Appender::<B>::new(start_timestamps);
            for (t, histogram) in (0_i64..).zip(some) {
                appender.try_append(None, STARTED, t * 15_000, histogram).expect("it fits");
            }
            appender.to_bytes()
        })
        .collect()
}
