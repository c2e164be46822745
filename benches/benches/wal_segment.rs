//! wal-segment: what a log costs.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

/// The checksum over one page and over a small record: the floor under every frame read or written.
fn checksum(c: &mut Criterion) {
    let mut page = vec![0; 32 << 10];
    SmallRng::seed_from_u64(1).fill_bytes(&mut page);
    let mut group = c.benchmark_group("wal-segment/crc32c");
    for length in [256, page.len()] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(format!("{length} bytes"), |b| b.iter(|| crc32c::crc32c(black_box(&page[..length]))));
    }
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);
