//! wal-segment: what a log costs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use tsdb_vfs::{Fs, RealFs};
use wal_segment::parallel::{self, ParallelOptions};
use wal_segment::{Compression, Durability, Log, LogOptions, ReadError, layout};

const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

fn fs() -> Fs {
    Arc::new(RealFs::new())
}

/// The checksum over one page and over a small record: the floor under every frame read or written.
fn checksum(c: &mut Criterion) {
    let mut page = vec![0; 32 << 10];
    SmallRng::seed_from_u64(1).fill_bytes(&mut page);
    let mut group = c.benchmark_group("wal-segment/crc32c");
    for length in [256, page.len()] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(format!("{length} bytes"), |b| {
            b.iter(|| crc_fast::crc32_iscsi(black_box(&page[..length])))
        });
    }
    group.finish();
}

fn record(rng: &mut SmallRng, len: usize) -> Vec<u8> {
    // Nearly incompressible values between two constant bytes, as samples are.
    let mut record = Vec::with_capacity(len + 10);
    while record.len() < len {
        record.extend_from_slice(&[2, 0]);
        record.extend_from_slice(&f64::from(rng.next_u32() % 100_000).to_be_bytes());
    }
    record.truncate(len);
    record
}

fn write(dir: &Path, compression: Compression, records: usize) {
    let options = LogOptions { compression, ..LogOptions::default() };
    let (log, _) = Log::open(fs(), dir, options).expect("open");
    let mut rng = SmallRng::seed_from_u64(2);
    for _ in 0..records / 100 {
        let batch: Vec<_> = (0..100).map(|_| record(&mut rng, 2_300)).collect();
        log.append(batch.iter().map(Vec::as_slice)).expect("append");
    }
    log.close().expect("close");
}

/// Framing, checksums and decompression of 115 MB, on one thread and on two.
fn read(c: &mut Criterion) {
    const RECORDS: usize = 50_000;
    for codec in CODECS {
        let scratch = tempfile::tempdir().expect("tempdir");
        write(scratch.path(), codec, RECORDS);
        let segments = layout::segments(&fs(), scratch.path()).expect("list");
        let mut group = c.benchmark_group(format!("wal-segment/read/{codec}"));
        group.sample_size(20).throughput(Throughput::Bytes(2_300 * RECORDS as u64));
        for threads in [1, 2] {
            let options = ParallelOptions { threads, ..ParallelOptions::default() };
            group.bench_function(BenchmarkId::new("threads", threads), |b| {
                b.iter(|| {
                    let mut bytes = 0;
                    let count = |block: &mut parallel::Block<'_>| {
                        let mut bytes = 0;
                        while let Some(record) = block.next() {
                            bytes += record.bytes.len();
                        }
                        bytes
                    };
                    parallel::read(&fs(), &segments, &options, count, |n| {
                        bytes += n;
                        Ok::<_, ReadError>(())
                    })
                    .expect("read");
                    assert_eq!(bytes, 2_300 * RECORDS);
                });
            });
        }
        group.finish();
    }
}

/// Commits of 2.3 kB that are durable when they return, from 1 to 64 threads: multiples of one thread's rate show what
/// sharing an fsync brings.
fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal-segment/durable commits");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for committers in [1_u64, 2, 4, 8, 16, 32, 64] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("committers", committers), |b| {
            b.iter_custom(|commits| {
                let scratch = tempfile::tempdir().expect("tempdir");
                let options = LogOptions { durability: Durability::Always, ..LogOptions::default() };
                let (log, _) = Log::open(fs(), scratch.path(), options).expect("open");
                let record = record(&mut SmallRng::seed_from_u64(3), 2_300);
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for i in 0..committers {
                        let mine = commits / committers + u64::from(i < commits % committers);
                        let (log, record) = (&log, &record);
                        scope.spawn(move || {
                            for _ in 0..mine {
                                log.append([record.as_slice()]).expect("append");
                            }
                        });
                    }
                });
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, checksum, read, group_commit);
criterion_main!(benches);
