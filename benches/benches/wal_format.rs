//! wal-format: nanoseconds per entry, both directions, every kind.

use std::hint::black_box;

use benches::records::{self, BATCH, Data};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use tsdb_model::{FloatHistogram, Histogram};
use wal_format::{
    Batch, DecodeError, ExemplarBatch, FloatHistogramBatch, HistogramBatch, MetadataBatch, SampleBatch, SeriesBatch,
    TombstoneBatch, Version,
};

const SCRAPES: usize = 50;
const ENTRIES: u64 = (BATCH * SCRAPES) as u64;

fn encode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, version: Version, mut put: impl FnMut(&mut Batch)) {
    let mut batch = Batch::new(version);
    group.bench_function(name, |b| {
        b.iter(|| {
            batch.clear();
            put(&mut batch);
            black_box(batch.byte_len())
        });
    });
}

fn samples(c: &mut Criterion) {
    let data = Data::new(1, SCRAPES);
    let mut group = c.benchmark_group("wal-format/samples");
    group.throughput(Throughput::Elements(ENTRIES));
    for version in [Version::V1, Version::V2] {
        encode(&mut group, &format!("{version:?} encode"), version, |batch| {
            data.samples.iter().for_each(|samples| batch.samples(samples.iter().copied()));
        });
        let records = data.sample_records(version);
        let batches: Vec<_> = records.iter().map(|record| SampleBatch::new(record).expect("of samples")).collect();
        group.bench_function(format!("{version:?} decode, for_each"), |b| {
            b.iter(|| batches.iter().try_fold(0, |sum, batch| sum_of(batch).map(|part| sum ^ part)));
        });
        group.bench_function(format!("{version:?} decode, iter"), |b| {
            b.iter(|| {
                let mut sum = 0;
                for sample in batches.iter().flatten() {
                    let sample = sample?;
                    sum ^= sample.v.to_bits() ^ sample.series.0 ^ sample.t as u64 ^ sample.st as u64;
                }
                Ok::<_, DecodeError>(sum)
            });
        });
        group.bench_function(format!("{version:?} validate"), |b| {
            b.iter(|| batches.iter().map(|batch| batch.validate().map_or(0, |checked| checked.entries)).sum::<usize>());
        });
    }
    group.finish();
}

fn sum_of(batch: &SampleBatch<'_>) -> Result<u64, DecodeError> {
    let mut sum = 0;
    batch.for_each(|s| sum ^= s.v.to_bits() ^ s.series.0 ^ s.t as u64 ^ s.st as u64)?;
    Ok(sum)
}

fn histograms(c: &mut Criterion) {
    let data = Data::new(2, SCRAPES);
    let mut group = c.benchmark_group("wal-format/histograms");
    group.throughput(Throughput::Elements(ENTRIES));
    for version in [Version::V1, Version::V2] {
        encode(&mut group, &format!("{version:?} encode"), version, |batch| {
            data.histograms.iter().for_each(|histograms| records::put_histograms(batch, histograms));
        });
        encode(&mut group, &format!("{version:?} encode, float"), version, |batch| {
            data.float_histograms.iter().for_each(|histograms| records::put_float_histograms(batch, histograms));
        });
        let (integer, float) = (data.histogram_records(version), data.float_histogram_records(version));
        let mut scratch = Histogram::default();
        group.bench_function(format!("{version:?} decode, for_each"), |b| {
            b.iter(|| {
                integer.iter().try_for_each(|record| {
                    HistogramBatch::new(record)?
                        .for_each(&mut scratch, |series, t, _, h| {
                            black_box((series, t, h));
                        })
                        .map(drop)
                })
            });
        });
        group.bench_function(format!("{version:?} decode, iter"), |b| {
            b.iter(|| {
                integer.iter().try_for_each(|record| {
                    HistogramBatch::new(record)?.iter().try_for_each(|entry| {
                        entry.map(|entry| {
                            black_box(entry.histogram.count());
                        })
                    })
                })
            });
        });
        let mut scratch = FloatHistogram::default();
        group.bench_function(format!("{version:?} decode, float, for_each"), |b| {
            b.iter(|| {
                float.iter().try_for_each(|record| {
                    FloatHistogramBatch::new(record)?
                        .for_each(&mut scratch, |series, t, _, h| {
                            black_box((series, t, h));
                        })
                        .map(drop)
                })
            });
        });
    }
    group.finish();
}

/// The kinds that are rare in a log.
fn others(c: &mut Criterion) {
    let data = Data::new(3, 1);
    let mut group = c.benchmark_group("wal-format/others");
    group.throughput(Throughput::Elements(BATCH as u64));
    type Put = fn(&Data, &mut Batch);
    let puts: [(&str, Put); 4] = [
        ("series", Data::put_series),
        ("exemplars", Data::put_exemplars),
        ("metadata", Data::put_metadata),
        ("tombstones", Data::put_tombstones),
    ];
    for (name, put) in puts {
        encode(&mut group, &format!("{name} encode"), Version::V1, |batch| put(&data, batch));
        let mut batch = Batch::default();
        put(&data, &mut batch);
        let record = batch.records().next().expect("one record").to_vec();
        group.bench_function(format!("{name} decode"), |b| b.iter(|| count(name, black_box(&record))));
    }
    group.finish();
}

fn count(kind: &str, record: &[u8]) -> Result<usize, DecodeError> {
    match kind {
        "series" => SeriesBatch::new(record)?.iter().try_fold(0, |n, entry| entry.map(|_| n + 1)),
        "exemplars" => ExemplarBatch::new(record)?.iter().try_fold(0, |n, entry| entry.map(|_| n + 1)),
        "metadata" => MetadataBatch::new(record)?.iter().try_fold(0, |n, entry| entry.map(|_| n + 1)),
        _ => TombstoneBatch::new(record)?.iter().try_fold(0, |n, entry| entry.map(|_| n + 1)),
    }
}

criterion_group!(benches, samples, histograms, others);
criterion_main!(benches);
