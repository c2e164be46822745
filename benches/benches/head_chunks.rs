//! Chunks alone: appending and decoding every encoding, and reading stored chunks through `pread` and through a map.

use std::hint::black_box;
use std::sync::Arc;

use benches::chunks::{self, HISTOGRAMS_PER_CHUNK, PER_CHUNK};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use head_chunks::Encoding;
use head_chunks::files::{ChunkFiles, FilesError, NewChunk, Options};
use head_chunks::histogram::{Appender, Coded, HistogramIter};
use head_chunks::packed::{Misfit, PackedState};
use head_chunks::xor::{self, XorAppender, XorIter};
use head_chunks::xor2::{Xor2Appender, Xor2Iter};
use tsdb_model::SeriesRef;
use tsdb_model::histogram::NativeHistogram;
use tsdb_vfs::RealFs;

const CHUNKS: usize = 400;

/// A chunk as the head holds it while it is open, with the times that its samples have, or 15 s apart.
fn packed(samples: &[(i64, f64)], jitter: bool) -> (PackedState, Vec<u8>) {
    let (mut state, mut pieces) = (PackedState::new(), Vec::new());
    for (n, &(t, v)) in (0..).zip(samples) {
        let t = if jitter { t } else { 15_000 * n };
        while let Err(Misfit::Form) = state.append(t, v, &mut |piece| pieces.extend_from_slice(&piece)) {
            let old = std::mem::take(&mut pieces);
            state = state.repack([&old[..]], t, v, &mut |piece| pieces.extend_from_slice(&piece));
        }
    }
    (state, pieces)
}

fn floats(c: &mut Criterion) {
    for values in chunks::FLOATS {
        let samples = chunks::floats(values, CHUNKS * PER_CHUNK);
        let mut group = c.benchmark_group(format!("floats {values}"));
        group.throughput(Throughput::Elements(samples.len() as u64));
        group.bench_function("XOR append together", |b| {
            let mut appender = XorAppender::new();
            b.iter(|| {
                for chunk in samples.chunks(PER_CHUNK) {
                    appender.clear();
                    appender.append_all(chunk.iter().copied()).expect("there is room");
                    black_box(&appender);
                }
            });
        });
        group.bench_function("XOR append", |b| {
            let mut appender = XorAppender::new();
            b.iter(|| {
                for chunk in samples.chunks(PER_CHUNK) {
                    appender.clear();
                    chunk.iter().for_each(|(t, v)| appender.append(*t, *v).expect("there is room"));
                    black_box(&appender);
                }
            });
        });
        for (name, jitter) in [("packed to XOR", true), ("packed to XOR, on time", false)] {
            let packed: Vec<_> = samples.chunks(PER_CHUNK).map(|chunk| packed(chunk, jitter)).collect();
            group.bench_function(name, |b| {
                let mut xor = Vec::new();
                b.iter(|| {
                    for (state, pieces) in &packed {
                        xor.clear();
                        state.assemble([&pieces[..]], &mut xor);
                        black_box(&xor);
                    }
                });
            });
        }
        group.bench_function("XOR2 append together", |b| {
            let mut appender = Xor2Appender::new();
            b.iter(|| {
                for chunk in samples.chunks(PER_CHUNK) {
                    appender.clear();
                    appender.append_all(chunk.iter().map(|(t, v)| (0, *t, *v))).expect("there is room");
                    black_box(&appender);
                }
            });
        });
        group.bench_function("XOR2 append", |b| {
            let mut appender = Xor2Appender::new();
            b.iter(|| {
                for chunk in samples.chunks(PER_CHUNK) {
                    appender.clear();
                    chunk.iter().for_each(|(t, v)| appender.append(0, *t, *v).expect("there is room"));
                    black_box(&appender);
                }
            });
        });
        let stored = chunks::float_chunks(Encoding::Xor, values, CHUNKS);
        group.bench_function("XOR decode", |b| {
            b.iter(|| {
                let samples = stored.iter().flat_map(|chunk| XorIter::new(chunk).expect("a header"));
                samples.map(|sample| sample.expect("sound").1).sum::<f64>()
            });
        });
        group.bench_function("XOR decode into columns", |b| {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            b.iter(|| {
                for chunk in &stored {
                    times.clear();
                    values.clear();
                    xor::decode_columns(chunk, &mut times, &mut values).expect("sound");
                    black_box((&times, &values));
                }
            });
        });
        group.bench_function("XOR visit", |b| {
            b.iter(|| {
                let mut sum = 0.0;
                for chunk in &stored {
                    XorIter::new(chunk).and_then(|all| all.visit(|_, v| sum += v)).expect("sound");
                }
                sum
            });
        });
        let stored = chunks::float_chunks(Encoding::Xor2, values, CHUNKS);
        group.bench_function("XOR2 decode", |b| {
            b.iter(|| {
                let samples = stored.iter().flat_map(|chunk| Xor2Iter::new(chunk).expect("a header"));
                samples.map(|sample| sample.expect("sound").1).sum::<f64>()
            });
        });
        group.bench_function("XOR2 visit", |b| {
            b.iter(|| {
                let mut sum = 0.0;
                for chunk in &stored {
                    Xor2Iter::new(chunk).and_then(|all| all.visit(|_, v, _| sum += v)).expect("sound");
                }
                sum
            });
        });
        group.finish();
    }
}

fn histograms_of<B: Coded>(c: &mut Criterion, name: &str, all: &[NativeHistogram<B>]) {
    let mut group = c.benchmark_group(name.to_owned());
    group.throughput(Throughput::Elements(all.len() as u64));
    group.bench_function("append", |b| {
        b.iter(|| {
            for some in all.chunks(HISTOGRAMS_PER_CHUNK) {
                let mut appender = Appender::<B>::new(false);
                for (t, histogram) in (0_i64..).zip(some) {
                    appender.append(None, 0, t * 15_000, histogram).expect("it fits");
                }
                black_box(&appender);
            }
        });
    });
    let stored = chunks::histogram_chunks(false, all);
    group.bench_function("decode", |b| {
        let mut histogram = NativeHistogram::default();
        b.iter(|| {
            for chunk in &stored {
                let mut iter = HistogramIter::<B>::new(false, chunk).expect("a header");
                while let Some(read) = iter.next_into(&mut histogram) {
                    read.expect("sound");
                    black_box(&histogram);
                }
            }
        });
    });
    group.bench_function("visit", |b| {
        b.iter(|| {
            let mut sum = 0.0;
            for chunk in &stored {
                let all = HistogramIter::<B>::new(false, chunk);
                all.and_then(|all| all.visit(|_, histogram, _| sum += histogram.sum)).expect("sound");
            }
            sum
        });
    });
    group.finish();
}

fn histograms(c: &mut Criterion) {
    let all = chunks::histograms();
    histograms_of(c, "histograms", &all);
    let floats: Vec<_> = all.iter().map(|histogram| histogram.to_float()).collect();
    histograms_of(c, "float histograms", &floats);
}

/// What a map would save: the same records, one chunk after the other in scattered order.
fn reading(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RealFs::new());
    let (files, _) = ChunkFiles::open(fs.clone(), dir.path(), Options::default()).expect("opens");
    let stored = chunks::float_chunks(Encoding::Xor, "counter", CHUNKS);
    let refs: Vec<_> = stored
        .iter()
        .map(|data| {
            let (series, encoding) = (SeriesRef(1), Encoding::Xor);
            files.write(&NewChunk { series, mint: 0, maxt: 1, encoding, data, out_of_order: false }).expect("written")
        })
        .collect();
    files.flush().expect("flushed");
    let scattered: Vec<_> = (0..refs.len()).map(|i| refs[i * 7919 % refs.len()]).collect();
    let mut group = c.benchmark_group("read a chunk");
    group.throughput(Throughput::Elements(refs.len() as u64));
    group.bench_function("pread, checksum verified", |b| {
        let mut data = Vec::new();
        b.iter(|| {
            for chunk_ref in &scattered {
                files.read_into(*chunk_ref, &mut data).expect("sound");
                black_box(&data);
            }
        });
    });
    group.bench_function("map, checksum verified", |b| {
        let map = tsdb_vfs::Vfs::open_read(&*fs, &dir.path().join("000001")).expect("opens").map().expect("mapped");
        let mut data = Vec::new();
        b.iter(|| {
            for (chunk_ref, i) in scattered.iter().zip(0..) {
                let len = stored[i * 7919 % refs.len()].len();
                let record = &map[chunk_ref.offset as usize..][..25 + 2 + len + 4];
                black_box(crc32c::crc32c(&record[..record.len() - 4]));
                data.clear();
                data.extend_from_slice(&record[27..27 + len]);
                black_box(&data);
            }
        });
    });
    group.finish();
}

/// What a map would save of going through a whole file, checksums included: `pread` in pieces on one thread and on all, and a
/// map on one, opened anew each time.
fn iterating(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let fs = Arc::new(RealFs::new());
    let open = || ChunkFiles::open(fs.clone(), dir.path(), Options::default()).expect("opens").0;
    let data = chunks::float_chunks(Encoding::Xor, "counter", 1).swap_remove(0);
    let count = (64 << 20) / (data.len() as u64 + 31);
    let files = open();
    let mut refs = (0..count).map(|n| {
        let (series, encoding, data) = (SeriesRef(n + 1), Encoding::Xor, &data[..]);
        files
            .write(&NewChunk { series, mint: 0, maxt: 1, encoding, data, out_of_order: false })
            .expect("written")
            .offset
    });
    let (first, second) = (refs.next().expect("one"), refs.next().expect("two"));
    let (stride, last) = ((second - first) as usize, refs.last().expect("many"));
    files.close().expect("closed");
    let mut group = c.benchmark_group("go through a chunk file");
    group.throughput(Throughput::Elements(count)).sample_size(20);
    let all = || {
        let mut found = 0;
        let count_one = |_: &_| {
            found += 1;
            Ok::<_, FilesError>(())
        };
        open().iterate(count_one).expect("sound");
        assert_eq!(found, count);
    };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    group.bench_function("pread, one thread", |b| b.iter(|| one.install(all)));
    group.bench_function("pread, all threads", |b| b.iter(all));
    group.bench_function("map, one thread", |b| {
        b.iter(|| {
            let map = tsdb_vfs::Vfs::open_read(&*fs, &dir.path().join("000001")).expect("opens").map().expect("mapped");
            for at in (first as usize..=last as usize).step_by(stride) {
                let (record, sum) = map[at..at + stride].split_at(stride - 4);
                assert_eq!(crc_fast::crc32_iscsi(record).to_be_bytes(), sum, "at {at}");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, floats, histograms, reading, iterating);
criterion_main!(benches);
