//! head-chunks beside `tsdb/chunkenc` and `tsdb/chunks`.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use benches::chunks::{self, PER_CHUNK};
use head_chunks::files::{ChunkFiles, FilesError, NewChunk, Options};
use head_chunks::histogram::{Appender, Coded, HistogramIter};
use head_chunks::xor::{XorAppender, XorIter};
use head_chunks::xor2::{Xor2Appender, Xor2Iter};
use head_chunks::{DecodeError, Encoding};
use serde_json::json;
use tsdb_model::SeriesRef;
use tsdb_model::histogram::NativeHistogram;
use tsdb_vfs::RealFs;

use super::bare;
use super::versus::{Arena, Contest, Cost};
use crate::interop::Reference;
use crate::interop::wire::{WireWriter, join};

pub(super) const CONTESTS: &[Contest] = &[
    Contest { name: "XOR append", unit: "sample", target: 8.0, run: |arena| append_floats(arena, Encoding::Xor) },
    Contest { name: "XOR decode", unit: "sample", target: 5.0, run: |arena| decode_floats(arena, Encoding::Xor) },
    Contest { name: "XOR2 append", unit: "sample", target: 4.0, run: |arena| append_floats(arena, Encoding::Xor2) },
    Contest { name: "XOR2 decode", unit: "sample", target: 4.0, run: |arena| decode_floats(arena, Encoding::Xor2) },
    Contest { name: "histogram append", unit: "histogram", target: 4.0, run: |arena| append_integers(arena) },
    Contest { name: "histogram decode", unit: "histogram", target: 4.0, run: |arena| decode_integers(arena) },
    Contest { name: "float histogram append", unit: "histogram", target: 4.0, run: |arena| append_float_ones(arena) },
    Contest { name: "float histogram decode", unit: "histogram", target: 4.0, run: |arena| decode_float_ones(arena) },
    Contest { name: "histogram append, start timestamps", unit: "histogram", target: 4.0, run: append_integers_st },
    Contest { name: "histogram decode, start timestamps", unit: "histogram", target: 4.0, run: decode_integers_st },
    Contest { name: "float histogram append, start timestamps", unit: "histogram", target: 4.0, run: append_floats_st },
    Contest { name: "float histogram decode, start timestamps", unit: "histogram", target: 4.0, run: decode_floats_st },
    Contest { name: "chunk file, 128 MiB, write", unit: "chunk", target: 3.0, run: |arena| files(arena, true) },
    Contest { name: "chunk file, 128 MiB, iterate", unit: "chunk", target: 3.0, run: |arena| files(arena, false) },
];

/// Enough repetitions for ten milliseconds a run: what the machine does meanwhile is then little of it.
const REPEAT: u64 = 80;

fn append_floats(arena: &mut Arena, encoding: Encoding) -> Result<()> {
    for values in chunks::FLOATS {
        let samples = chunks::floats(values, 400 * PER_CHUNK);
        let mut payload = WireWriter::default();
        for (t, v) in &samples {
            payload.i64(*t);
            payload.i64(0);
            payload.f64(*v);
        }
        let units = samples.len() as u64 * REPEAT;
        let mut total = 0;
        let args = json!({ "encoding": encoding.byte(), "per_chunk": PER_CHUNK, "repeat": REPEAT });
        let mut theirs_total = 0;
        arena.run(
            values,
            |reference| {
                let answer = reference.call("chunks.bench.append", args.clone(), &payload.0)?;
                theirs_total = answer.u64("bytes")?;
                Cost::of(&answer, units)
            },
            || {
                total = 0;
                Cost::measure(units, || {
                    let (mut xor, mut xor2) = (XorAppender::new(), Xor2Appender::new());
                    for _ in 0..REPEAT {
                        for chunk in samples.chunks(PER_CHUNK) {
                            if encoding == Encoding::Xor {
                                xor.clear();
                                xor.append_all(chunk.iter().copied())?;
                                total += xor.state().byte_len() as u64;
                                black_box(&xor);
                            } else {
                                xor2.clear();
                                xor2.append_all(chunk.iter().map(|(t, v)| (0, *t, *v)))?;
                                total += xor2.state().byte_len() as u64;
                                black_box(&xor2);
                            }
                        }
                    }
                    Ok(())
                })
            },
        )?;
        ensure!(total == theirs_total, "{total} bytes here, {theirs_total} there");
    }
    Ok(())
}

fn decode_floats(arena: &mut Arena, encoding: Encoding) -> Result<()> {
    for values in chunks::FLOATS {
        let all = chunks::float_chunks(encoding, values, 400);
        let payload = join(&all);
        let units = 400 * PER_CHUNK as u64 * REPEAT;
        let args = json!({ "encoding": encoding.byte(), "repeat": REPEAT });
        arena.run(
            values,
            |reference| {
                let answer = reference.call("chunks.bench.decode", args.clone(), &payload)?;
                Cost::of(&answer, answer.u64("samples")?)
            },
            || {
                Cost::measure(units, || {
                    let mut sum = 0.0;
                    for _ in 0..REPEAT {
                        sum += if encoding == Encoding::Xor { sum_xor(&all)? } else { sum_xor2(&all)? };
                    }
                    black_box(sum);
                    Ok(())
                })
            },
        )?;
    }
    Ok(())
}

/// A function of its own, as a scan is: in a large one the compiler keeps the sum in memory.
#[inline(never)]
fn sum_xor(all: &[Vec<u8>]) -> Result<f64, DecodeError> {
    let mut sum = 0.0;
    for chunk in all {
        XorIter::new(chunk)?.visit(|t, v| sum += v + t as f64)?;
    }
    Ok(sum)
}

/// As [`sum_xor`].
#[inline(never)]
fn sum_xor2(all: &[Vec<u8>]) -> Result<f64, DecodeError> {
    let mut sum = 0.0;
    for chunk in all {
        Xor2Iter::new(chunk)?.visit(|t, v, _| sum += v + t as f64)?;
    }
    Ok(sum)
}

fn append_integers(arena: &mut Arena) -> Result<()> {
    append_histograms(arena, Encoding::Histogram, &chunks::histograms(), |out, h| out.histogram(h))
}

fn append_float_ones(arena: &mut Arena) -> Result<()> {
    let all: Vec<_> = chunks::histograms().iter().map(|h| h.to_float()).collect();
    append_histograms(arena, Encoding::FloatHistogram, &all, |out, h| out.float_histogram(h))
}

fn append_integers_st(arena: &mut Arena) -> Result<()> {
    append_histograms(arena, Encoding::HistogramSt, &chunks::histograms(), |out, h| out.histogram(h))
}

fn append_floats_st(arena: &mut Arena) -> Result<()> {
    let all: Vec<_> = chunks::histograms().iter().map(|h| h.to_float()).collect();
    append_histograms(arena, Encoding::FloatHistogramSt, &all, |out, h| out.float_histogram(h))
}

fn has_start_timestamps(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt)
}

fn append_histograms<B: Coded>(
    arena: &mut Arena,
    encoding: Encoding,
    all: &[NativeHistogram<B>],
    put: fn(&mut WireWriter, &NativeHistogram<B>),
) -> Result<()> {
    let start_timestamps = has_start_timestamps(encoding);
    let mut payload = WireWriter::default();
    for (n, histogram) in all.iter().enumerate() {
        payload.i64(n as i64 * 15_000);
        payload.i64(chunks::STARTED);
        put(&mut payload, histogram);
    }
    let units = all.len() as u64 * REPEAT;
    let args = json!({ "encoding": encoding.byte(), "per_chunk": chunks::HISTOGRAMS_PER_CHUNK, "repeat": REPEAT });
    let (mut total, mut theirs_total) = (0, 0);
    arena.run(
        "16 buckets",
        |reference| {
            let answer = reference.call("chunks.bench.append", args.clone(), &payload.0)?;
            theirs_total = answer.u64("bytes")?;
            Cost::of(&answer, units)
        },
        || {
            total = 0;
            Cost::measure(units, || {
                for _ in 0..REPEAT {
                    for (chunk, some) in all.chunks(chunks::HISTOGRAMS_PER_CHUNK).enumerate() {
                        let mut appender = Appender::<B>::new(start_timestamps);
                        let first = chunk * chunks::HISTOGRAMS_PER_CHUNK;
                        for (n, histogram) in some.iter().enumerate() {
                            let t = (first + n) as i64 * 15_000;
                            appender.try_append(None, chunks::STARTED, t, histogram)?;
                        }
                        total += appender.byte_len() as u64;
                        black_box(&appender);
                    }
                }
                Ok(())
            })
        },
    )?;
    ensure!(total == theirs_total, "{total} bytes here, {theirs_total} there");
    Ok(())
}

fn decode_integers(arena: &mut Arena) -> Result<()> {
    decode_histograms(arena, Encoding::Histogram, &chunks::histograms())
}

fn decode_float_ones(arena: &mut Arena) -> Result<()> {
    let all: Vec<_> = chunks::histograms().iter().map(|h| h.to_float()).collect();
    decode_histograms(arena, Encoding::FloatHistogram, &all)
}

fn decode_integers_st(arena: &mut Arena) -> Result<()> {
    decode_histograms(arena, Encoding::HistogramSt, &chunks::histograms())
}

fn decode_floats_st(arena: &mut Arena) -> Result<()> {
    let all: Vec<_> = chunks::histograms().iter().map(|h| h.to_float()).collect();
    decode_histograms(arena, Encoding::FloatHistogramSt, &all)
}

fn decode_histograms<B: Coded>(arena: &mut Arena, encoding: Encoding, all: &[NativeHistogram<B>]) -> Result<()> {
    let start_timestamps = has_start_timestamps(encoding);
    let stored = chunks::histogram_chunks(start_timestamps, all);
    let payload = join(&stored);
    let units = all.len() as u64 * REPEAT;
    let args = json!({ "encoding": encoding.byte(), "repeat": REPEAT });
    arena.run(
        "16 buckets",
        |reference| {
            let answer = reference.call("chunks.bench.decode", args.clone(), &payload)?;
            Cost::of(&answer, answer.u64("samples")?)
        },
        || {
            Cost::measure(units, || {
                let mut sum = 0.0;
                for _ in 0..REPEAT {
                    sum += sum_histograms::<B>(start_timestamps, &stored)?;
                }
                black_box(sum);
                Ok(())
            })
        },
    )
}

/// As [`sum_xor`].
#[inline(never)]
fn sum_histograms<B: Coded>(start_timestamps: bool, all: &[Vec<u8>]) -> Result<f64, DecodeError> {
    let mut sum = 0.0;
    for chunk in all {
        HistogramIter::<B>::new(start_timestamps, chunk)?.visit(|_, histogram, _| sum += histogram.sum)?;
    }
    Ok(sum)
}

/// One full file of chunks as a counter makes them, written and closed (fsync included), then opened and iterated.
fn files(arena: &mut Arena, write: bool) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    let data = chunks::float_chunks(Encoding::Xor, "counter", 1).swap_remove(0);
    let count = (128 << 20) / (data.len() as u64 + 31) - 1;
    let args = |write: bool| json!({ "dir": theirs, "count": count, "write": write });
    if !write {
        arena.reference.call("chunks.bench.files", args(true), &data)?;
        write_files(&ours, count, &data)?;
    }
    let reference = |reference: &mut Reference| {
        let answer = reference.call("chunks.bench.files", args(write), &data)?;
        Cost::of(&answer, if write { count } else { answer.u64("chunks")? })
    };
    arena.run("", reference, || {
        if write {
            if ours.exists() {
                std::fs::remove_dir_all(&ours)?;
            }
            return Cost::measure(count, || write_files(&ours, count, &data));
        }
        let mut found = 0;
        let cost = Cost::measure(count, || {
            let (files, _) = ChunkFiles::open(Arc::new(RealFs::new()), &ours, Options::default())?;
            files.iterate::<FilesError>(|_| {
                found += 1;
                Ok(())
            })?;
            Ok(files.close()?)
        })?;
        ensure!(found == count, "{found} chunks instead of {count}");
        Ok(cost)
    })?;
    if write {
        // In pieces of the write buffer.
        let bare = scratch.path().join("bare");
        return arena.run("bare writes and a sync for ours: the floor", reference, || {
            bare::writes(&bare, 4 << 20, 32, true, count)
        });
    }
    let (files, threads) = ([ours.join("000001")], std::thread::available_parallelism()?.get());
    arena.run("bare reads on all threads for ours: the floor", reference, || {
        Cost::measure(count, || bare::reads(&files, threads))
    })
}

fn write_files(dir: &Path, count: u64, data: &[u8]) -> Result<()> {
    let (files, _) = ChunkFiles::open(Arc::new(RealFs::new()), dir, Options::default())?;
    for n in 0..count {
        files.write(&NewChunk {
            series: SeriesRef(n + 1),
            mint: n as i64,
            maxt: n as i64 + 1,
            encoding: Encoding::Xor,
            data,
            out_of_order: false,
        })?;
    }
    Ok(files.close()?)
}
