//! tsdb-head: what an append, a commit, a replay and a selection cost, each alone.

use std::path::Path;
use std::sync::Arc;

use benches::workload::{Values, Workload};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tsdb_head::{Head, HeadOptions, Matcher};
use tsdb_model::{Labels, SeriesRef};
use tsdb_vfs::{Fs, RealFs};
use wal_format::Sample;

const SERIES: u64 = 10_000;
const SCRAPES: u64 = 60;

fn workload(values: Values) -> Workload {
    Workload { series: SERIES, scrapes: SCRAPES, interval: 15_000, start: 1_700_000_000_000, values, churn: 0, seed: 1 }
}

fn open(dir: &Path) -> Head {
    let fs: Fs = Arc::new(RealFs::new());
    let options = HeadOptions { min_valid_time: Some(0), ..HeadOptions::default() };
    Head::open(fs, dir, options).expect("a directory").0
}

fn labels(workload: &Workload) -> Vec<Labels> {
    (0..workload.series).map(|id| Labels::from_pairs(workload.labels(id))).collect()
}

/// A head with every series of the workload and its first scrape.
fn filled(dir: &Path, workload: &Workload) -> (Head, Vec<SeriesRef>) {
    let head = open(dir);
    let mut appender = head.appender();
    let labels = labels(workload);
    let refs = labels.iter().map(|labels| appender.append(None, labels, workload.start, 0.0).expect("fresh")).collect();
    appender.commit().expect("room");
    (head, refs)
}

/// Scrapes of known series, 200 in a commit; and the same taken and rolled back, so that the difference is the commit.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("tsdb-head/append");
    group.throughput(Throughput::Elements(SERIES));
    for (name, values) in [("counter", Values::Counter), ("gauge", Values::Gauge)] {
        for commit in [true, false] {
            let workload = workload(values);
            let tmp = tempfile::tempdir().expect("a directory");
            let (head, refs) = filled(tmp.path(), &workload);
            let mut walks: Vec<_> = (0..SERIES).map(|id| workload.walk(id)).collect();
            let mut scrape = 0;
            let what = if commit { "committed" } else { "rolled back" };
            group.bench_function(BenchmarkId::new(what, name), |b| {
                b.iter_batched(
                    || {
                        scrape += 1;
                        let t = workload.time(scrape);
                        let next = |(&series, walk): (&SeriesRef, &mut benches::workload::Walk)| Sample {
                            series,
                            t,
                            v: walk.next_value(),
                            st: 0,
                        };
                        refs.iter().zip(&mut walks).map(next).collect::<Vec<_>>()
                    },
                    |samples| {
                        for samples in samples.chunks(200) {
                            let mut appender = head.appender();
                            appender.append_many(samples, |_, error| panic!("{error}"));
                            if commit {
                                appender.commit().expect("room");
                            } else {
                                appender.rollback();
                            }
                        }
                    },
                    BatchSize::PerIteration,
                );
            });
            head.close().expect("room");
        }
    }
    group.finish();
}

/// Series that nobody has seen, with their first sample.
fn create(c: &mut Criterion) {
    let mut group = c.benchmark_group("tsdb-head/create");
    group.throughput(Throughput::Elements(SERIES));
    let workload = workload(Values::Counter);
    let labels = labels(&workload);
    group.bench_function("series", |b| {
        b.iter_batched(
            || {
                let tmp = tempfile::tempdir().expect("a directory");
                (open(tmp.path()), tmp)
            },
            |(head, tmp)| {
                for labels in labels.chunks(200) {
                    let mut appender = head.appender();
                    for labels in labels {
                        appender.append(None, labels, workload.start, 1.0).expect("fresh");
                    }
                    appender.commit().expect("room");
                }
                (head, tmp)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("tsdb-head/replay");
    group.throughput(Throughput::Elements(SERIES * SCRAPES)).sample_size(20);
    for (name, values) in [("counter", Values::Counter), ("gauge", Values::Gauge)] {
        let tmp = tempfile::tempdir().expect("a directory");
        let workload = workload(values);
        let (head, refs) = filled(tmp.path(), &workload);
        let mut walks: Vec<_> = (0..SERIES).map(|id| workload.walk(id)).collect();
        for scrape in 1..SCRAPES {
            let t = workload.time(scrape);
            let samples: Vec<_> =
                refs.iter().zip(&mut walks).map(|(&series, walk)| (series, walk.next_value())).collect();
            for samples in samples.chunks(200) {
                let samples: Vec<_> = samples.iter().map(|&(series, v)| Sample { series, t, v, st: 0 }).collect();
                let mut appender = head.appender();
                appender.append_many(&samples, |_, error| panic!("{error}"));
                appender.commit().expect("room");
            }
        }
        head.close().expect("room");
        let fs: Fs = Arc::new(RealFs::new());
        group.bench_function(BenchmarkId::new("log only", name), |b| {
            b.iter(|| {
                let options = HeadOptions { min_valid_time: Some(0), ..HeadOptions::default() };
                Head::open_read_only(fs.clone(), tmp.path(), options).expect("sound").0.series_count()
            });
        });
    }
    group.finish();
}

fn select(c: &mut Criterion) {
    let mut group = c.benchmark_group("tsdb-head/select");
    let tmp = tempfile::tempdir().expect("a directory");
    let workload = workload(Values::Counter);
    let (head, _) = filled(tmp.path(), &workload);
    let all = || (i64::MIN, i64::MAX);
    group.bench_function("one series by its id", |b| {
        let matchers = [Matcher::equal("id", "00000042")];
        b.iter(|| head.select(&matchers, all().0, all().1).count());
    });
    group.bench_function("by two labels", |b| {
        let matchers = [Matcher::equal("container", "app-07"), Matcher::equal("job", "job-07")];
        b.iter(|| head.select(&matchers, all().0, all().1).count());
    });
    group.throughput(Throughput::Elements(SERIES));
    group.bench_function("every sample", |b| {
        b.iter(|| head.select(&[], all().0, all().1).map(|series| series.samples().count()).sum::<usize>());
    });
    group.finish();
    head.close().expect("room");
}

criterion_group!(benches, append, create, replay, select);
criterion_main!(benches);
