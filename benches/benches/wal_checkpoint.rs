//! wal-checkpoint: what a checkpoint costs, by what becomes of the records.

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tsdb_model::SeriesRef;
use tsdb_vfs::{Fs, RealFs};
use wal_checkpoint::{Options, Source, checkpoint};
use wal_format::{Batch, Sample, Version};
use wal_segment::{Compression, Log, LogOptions, layout};

const SERIES: u64 = 10_000;
const SCRAPES: i64 = 100;

/// A million samples, 200 a record.
fn log(fs: &Fs, dir: &Path, compression: Compression) -> u64 {
    let (log, _) =
        Log::open(fs.clone(), dir, LogOptions { compression, ..LogOptions::default() }).expect("an empty directory");
    let mut batch = Batch::new(Version::V1);
    for t in 0..SCRAPES {
        for first in (0..SERIES).step_by(200) {
            batch.clear();
            batch.samples((first..first + 200).map(|s| {
                let v = (s * 1000 + t as u64 * (s % 97)) as f64;
                Sample { series: SeriesRef(s + 1), t: t * 15_000, v, st: 0 }
            }));
            log.append(batch.records()).expect("room");
        }
    }
    let to = log.next_segment().expect("room") - 1;
    log.close().expect("room");
    to
}

/// Everything dropped (the cost of reading and looking), half of the records copied, all of them copied.
fn verdicts(c: &mut Criterion) {
    let fs: Fs = Arc::new(RealFs::new());
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let tmp = tempfile::tempdir().expect("a directory");
        let wal = tmp.path().join("wal");
        let out = tmp.path().join("out");
        let to = log(&fs, &wal, compression);
        let mut group = c.benchmark_group(format!("wal-checkpoint/{compression}"));
        group.throughput(Throughput::Elements(SERIES * SCRAPES as u64));
        for (name, mint) in [("all dropped", i64::MAX), ("half copied", SCRAPES / 2 * 15_000), ("all copied", i64::MIN)]
        {
            let options = Options { compression, publish_in: Some(out.clone()), ..Options::default() };
            group.bench_function(name, |b| {
                b.iter_batched(
                    || fresh(&fs, &out, to),
                    |()| checkpoint(&Source::segments(&fs, &wal), 0, to, |_| true, mint, &options).expect("sound"),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

fn fresh(fs: &Fs, out: &Path, to: u64) {
    fs.create_dir_all(out).expect("a disk");
    let old = out.join(layout::checkpoint_name(to));
    if fs.exists(&old).expect("a disk") {
        fs.remove_dir_all(&old).expect("a disk");
    }
}

criterion_group!(benches, verdicts);
criterion_main!(benches);
