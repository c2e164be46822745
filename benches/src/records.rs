//! Records as a scrape makes them: what both sides of a comparison encode and decode.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tsdb_model::{FloatHistogram, Histogram, Labels, SeriesRef, Span};
use wal_format::{
    Batch, Exemplar, FloatHistogramSample, HistogramSample, Metadata, MetricType, Sample, Series, Tombstone, Version,
};

/// Series in one commit.
pub const BATCH: usize = 200;

/// What records can hold, made once from a seed.
pub struct Data {
    /// A batch of float samples of one scrape: dense refs, one timestamp.
    pub samples: Vec<Vec<Sample>>,
    /// Integer histograms of 16 buckets, by batch: ref, time, start timestamp, histogram.
    pub histograms: Vec<Vec<(SeriesRef, i64, i64, Histogram)>>,
    /// The same with float counts.
    pub float_histograms: Vec<Vec<(SeriesRef, i64, i64, FloatHistogram)>>,
    /// Seven labels, some 130 bytes of text each.
    pub series: Vec<(SeriesRef, Labels)>,
}

impl Data {
    /// The same data for the same seed. `batches` scrapes of [`BATCH`] series.
    #[must_use]
    pub fn new(seed: u64, batches: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let histograms: Vec<Vec<_>> = (0..batches).map(|i| scrape(i, |_| histogram(&mut rng))).collect();
        let float_histograms = histograms
            .iter()
            .map(|batch| batch.iter().map(|(series, t, st, h)| (*series, *t, *st, h.to_float())).collect())
            .collect();
        Self {
            samples: (0..batches)
                .map(|i| {
                    let batch = scrape(i, |_| f64::from(rng.random_range(0..1_000_000_u32)));
                    batch.into_iter().map(|(series, t, st, v)| Sample { series, t, v, st }).collect()
                })
                .collect(),
            histograms,
            float_histograms,
            series: (0..BATCH).map(|i| (SeriesRef(i as u64 + 1), labels(i))).collect(),
        }
    }

    /// The sample batches, encoded.
    #[must_use]
    pub fn sample_records(&self, version: Version) -> Vec<Vec<u8>> {
        encode(version, &self.samples, |batch, samples| batch.samples(samples.iter().copied()))
    }

    /// The histogram batches, encoded.
    #[must_use]
    pub fn histogram_records(&self, version: Version) -> Vec<Vec<u8>> {
        encode(version, &self.histograms, put_histograms)
    }

    /// The float histogram batches, encoded.
    #[must_use]
    pub fn float_histogram_records(&self, version: Version) -> Vec<Vec<u8>> {
        encode(version, &self.float_histograms, put_float_histograms)
    }

    /// A series record.
    pub fn put_series(&self, batch: &mut Batch) {
        batch.series(self.series.iter().map(|(series, labels)| Series { series: *series, labels: labels.pairs() }));
    }

    /// An exemplar for each series, labelled by its own.
    pub fn put_exemplars(&self, batch: &mut Batch) {
        batch.exemplars(self.series.iter().map(|(series, labels)| Exemplar {
            series: *series,
            t: 1_700_000_000_000,
            v: 1.5,
            labels: labels.pairs(),
        }));
    }

    /// Metadata for each series.
    pub fn put_metadata(&self, batch: &mut Batch) {
        batch.metadata(self.series.iter().map(|(series, _)| Metadata {
            series: *series,
            metric_type: MetricType::Counter,
            unit: b"bytes",
            help: b"Bytes received over the network since the process started.",
        }));
    }

    /// A tombstone for each series.
    pub fn put_tombstones(&self, batch: &mut Batch) {
        let rows = self.series.iter().map(|(series, _)| *series);
        batch.tombstones(rows.map(|series| Tombstone { series, mint: 1_700_000_000_000, maxt: 1_700_000_100_000 }));
    }
}

/// One record of integer histograms.
pub fn put_histograms(batch: &mut Batch, histograms: &[(SeriesRef, i64, i64, Histogram)]) {
    batch.histograms(histograms.iter().map(|(series, t, st, histogram)| HistogramSample {
        series: *series,
        t: *t,
        st: *st,
        histogram,
    }));
}

/// One record of float histograms.
pub fn put_float_histograms(batch: &mut Batch, histograms: &[(SeriesRef, i64, i64, FloatHistogram)]) {
    batch.float_histograms(histograms.iter().map(|(series, t, st, histogram)| FloatHistogramSample {
        series: *series,
        t: *t,
        st: *st,
        histogram,
    }));
}

fn encode<T>(version: Version, batches: &[Vec<T>], put: impl Fn(&mut Batch, &[T])) -> Vec<Vec<u8>> {
    let mut out = Batch::new(version);
    batches.iter().for_each(|entries| put(&mut out, entries));
    out.records().map(<[u8]>::to_vec).collect()
}

fn scrape<T>(n: usize, mut one: impl FnMut(usize) -> T) -> Vec<(SeriesRef, i64, i64, T)> {
    let t = 1_700_000_000_000 + 15_000 * n as i64;
    (0..BATCH).map(|i| (SeriesRef((n * BATCH + i) as u64 + 1), t, 1_690_000_000_000, one(i))).collect()
}

fn histogram(rng: &mut SmallRng) -> Histogram {
    let counts: Vec<i64> = (0..16).map(|_| rng.random_range(0..100)).collect();
    let zero_count = rng.random_range(0..10);
    let deltas = counts.iter().scan(0, |last, count| Some(count - std::mem::replace(last, *count)));
    Histogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count,
        count: counts.iter().sum::<i64>() as u64 + zero_count,
        sum: rng.random_range(0.0..1000.0),
        positive_spans: vec![Span { offset: -3, length: 10 }, Span { offset: 2, length: 6 }],
        positive_buckets: deltas.collect(),
        ..Histogram::default()
    }
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", "container_network_receive_bytes_total".to_owned()),
        ("job", "kubelet".to_owned()),
        ("instance", format!("10.0.{}.{}:10250", i / 250, i % 250)),
        ("namespace", format!("namespace-{}", i % 17)),
        ("pod", format!("pod-{i}-5d8c7b9f4-{:05x}", i * 7919)),
        ("container", "main".to_owned()),
        ("id", i.to_string()),
    ])
}
