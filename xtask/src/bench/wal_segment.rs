//! wal-segment beside `tsdb/wlog`.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use anyhow::{Result, ensure};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use serde_json::json;
use tsdb_vfs::{Fs, RealFs, Vfs};
use wal_segment::parallel::{self, ParallelOptions};
use wal_segment::{
    Compression, Compressor, Decompressor, Durability, HEADER_SIZE, Log, LogOptions, LogReader, PAGE_SIZE, ReadError,
    layout::{self, SegmentRef},
};

use super::bare;
use super::versus::{Arena, Contest, Cost};
use crate::interop::wire;

pub(super) const CONTESTS: &[Contest] = &[
    Contest { name: "CRC-32C of a page", unit: "page", target: 1.0, run: checksum },
    Contest { name: "decompress 2.3 kB records", unit: "record", target: 1.0, run: decode },
    Contest { name: "read a log, 2.3 kB records", unit: "record", target: 1.2, run: read },
    Contest { name: "append 1 kB", unit: "record", target: 1.2, run: |arena| append(arena, 1 << 10, 1) },
    Contest { name: "append 64 kB", unit: "record", target: 2.5, run: |arena| append(arena, 64 << 10, 1) },
    Contest {
        name: "append 64 × 1 kB in one call",
        unit: "call",
        target: 3.0,
        run: |arena| append(arena, 1 << 10, 64),
    },
    Contest { name: "read on two threads (beside our own on one)", unit: "record", target: 1.7, run: read_on_two },
    Contest { name: "2 durable committers (beside one)", unit: "commit", target: 1.0, run: |arena| commit(arena, 2) },
    Contest { name: "4 durable committers (beside one)", unit: "commit", target: 2.0, run: |arena| commit(arena, 4) },
    Contest { name: "8 durable committers (beside one)", unit: "commit", target: 4.0, run: |arena| commit(arena, 8) },
    Contest { name: "16 durable committers (beside one)", unit: "commit", target: 8.0, run: |arena| commit(arena, 16) },
    Contest { name: "32 durable committers (beside one)", unit: "commit", target: 8.0, run: |arena| commit(arena, 32) },
    Contest { name: "64 durable committers (beside one)", unit: "commit", target: 8.0, run: |arena| commit(arena, 64) },
];

const CODECS: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

/// The floor under frames, with nothing of ours or theirs on top.
fn checksum(arena: &mut Arena) -> Result<()> {
    const PAGES: u64 = 20_000;
    let mut page = vec![0; 32 << 10];
    SmallRng::seed_from_u64(1).fill_bytes(&mut page);
    let expected = crc32c::crc32c(&page);
    arena.run(
        "",
        |reference| {
            let answer = reference.call("bench.crc32c", json!({ "repeat": PAGES }), &page)?;
            ensure!(answer.u64("crc")? == u64::from(expected), "another checksum");
            Cost::of(&answer, PAGES)
        },
        || {
            Cost::measure(PAGES, || {
                for _ in 0..PAGES {
                    black_box(crc_fast::crc32_iscsi(black_box(&page)));
                }
                Ok(())
            })
        },
    )
}

/// Records shaped as samples are: small steps of a ref and a time, and eight bytes of a value that changes a little.
fn records(n: usize, len: usize) -> Vec<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut value = 1000_u64;
    (0..n)
        .map(|_| {
            let mut record = vec![2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0];
            while record.len() < len {
                value += u64::from(rng.next_u32() % 50);
                record.extend_from_slice(&[2, 0]);
                record.extend_from_slice(&(value as f64).to_be_bytes());
            }
            record.truncate(len);
            record
        })
        .collect()
}

fn fs() -> Fs {
    Arc::new(RealFs::new())
}

fn options(compression: Compression) -> LogOptions {
    LogOptions { compression, ..LogOptions::default() }
}

/// What of reading is the decoder's.
fn decode(arena: &mut Arena) -> Result<()> {
    const REPEAT: u64 = 10;
    let records = records(2_000, 2_300);
    for codec in [Compression::Snappy, Compression::Zstd] {
        let mut compressor = Compressor::default();
        let stored: Vec<Vec<u8>> = records
            .iter()
            .map(|record| {
                let mut stored = Vec::new();
                compressor.append(codec, record, &mut stored);
                stored
            })
            .collect();
        let payload = wire::join(&stored);
        let (units, bytes) = (REPEAT * records.len() as u64, REPEAT * 2_300 * records.len() as u64);
        arena.run(
            &codec.to_string(),
            |reference| {
                let args = json!({ "compression": codec.to_string(), "repeat": REPEAT });
                let answer = reference.call("segment.bench_decode", args, &payload)?;
                ensure!(answer.u64("bytes")? == bytes, "it decoded something else");
                Cost::of(&answer, units)
            },
            || {
                let (mut decompressor, mut found) = (Decompressor::default(), 0);
                let cost = Cost::measure(units, || {
                    for stored in (0..REPEAT).flat_map(|_| &stored) {
                        found += decompressor.decode(codec, black_box(stored)).map_or(0, <[u8]>::len) as u64;
                    }
                    Ok(())
                })?;
                ensure!(found == bytes, "we decoded something else");
                Ok(cost)
            },
        )?;
    }
    Ok(())
}

fn read(arena: &mut Arena) -> Result<()> {
    let records = records(20_000, 2_300);
    for codec in CODECS {
        let scratch = tempfile::tempdir()?;
        let dir = scratch.path().join("wal");
        let (log, _) = Log::open(fs(), &dir, options(codec))?;
        for batch in records.chunks(100) {
            log.append(batch.iter().map(Vec::as_slice))?;
        }
        log.close()?;
        const REPEAT: u64 = 3;
        let (units, bytes) = (REPEAT * records.len() as u64, REPEAT * 2_300 * records.len() as u64);
        arena.run(
            &codec.to_string(),
            |reference| {
                let answer = reference.call("segment.bench_read", json!({ "dir": dir, "repeat": REPEAT }), &[])?;
                ensure!(answer.u64("records")? == units && answer.u64("bytes")? == bytes, "it read something else");
                Cost::of(&answer, units)
            },
            || {
                let mut found = (0, 0);
                let cost = Cost::measure(units, || {
                    for _ in 0..REPEAT {
                        let mut reader = LogReader::open(fs(), &dir)?;
                        while let Some(record) = reader.next()? {
                            found = (found.0 + 1, found.1 + record.bytes.len() as u64);
                        }
                    }
                    Ok(())
                })?;
                ensure!(found == (units, bytes), "we read something else");
                Ok(cost)
            },
        )?;
        if codec == Compression::None {
            // The floor: the file's bytes in our pieces, and nobody who looks at them.
            let paths = paths(&layout::segments(&fs(), &dir)?);
            arena.run(
                "none, bare reads for ours: the floor",
                |reference| {
                    let answer = reference.call("segment.bench_read", json!({ "dir": dir, "repeat": REPEAT }), &[])?;
                    Cost::of(&answer, units)
                },
                || Cost::measure(units, || (0..REPEAT).try_for_each(|_| bare::reads(&paths, 1))),
            )?;
        }
    }
    Ok(())
}

/// About 64 MB in each run, `each` records of `len` bytes in a call.
fn append(arena: &mut Arena, len: usize, each: usize) -> Result<()> {
    let repeat = (64 << 20) / (len * each);
    let records = records((8 << 20) / len, len);
    let payload = wire::join(&records);
    for codec in CODECS {
        let scratch = tempfile::tempdir()?;
        let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
        arena.run(
            &codec.to_string(),
            |reference| {
                let args = json!({
                    "dir": theirs, "compression": codec.to_string(), "segment_size": 128 << 20, "each": each,
                    "repeat": repeat,
                });
                Cost::of(&reference.call("segment.bench_append", args, &payload)?, repeat as u64)
            },
            || append_ours(&ours, codec, &records, each, repeat),
        )?;
    }
    // The floor: the bytes of such a call with the headers of their fragments, and nothing of ours.
    let framed = each * len + HEADER_SIZE * (each + each * len / PAGE_SIZE);
    let scratch = tempfile::tempdir()?;
    let (bare, theirs) = (scratch.path().join("bare"), scratch.path().join("theirs"));
    arena.run(
        "none, bare writes for ours: the floor",
        |reference| {
            let args = json!({
                "dir": theirs, "compression": "none", "segment_size": 128 << 20, "each": each, "repeat": repeat,
            });
            Cost::of(&reference.call("segment.bench_append", args, &payload)?, repeat as u64)
        },
        || bare::writes(&bare, framed, repeat, false, repeat as u64),
    )
}

fn paths(segments: &[SegmentRef]) -> Vec<PathBuf> {
    segments.iter().map(|segment| segment.path.clone()).collect()
}

/// Blocks of pages on two threads; what stands for the reference is our own on one.
fn read_on_two(arena: &mut Arena) -> Result<()> {
    let records = records(40_000, 2_300);
    let (units, bytes) = (records.len() as u64, 2_300 * records.len() as u64);
    for codec in CODECS {
        let scratch = tempfile::tempdir()?;
        let dir = scratch.path().join("wal");
        let (log, _) = Log::open(fs(), &dir, options(codec))?;
        for batch in records.chunks(100) {
            log.append(batch.iter().map(Vec::as_slice))?;
        }
        log.close()?;
        let segments = layout::segments(&fs(), &dir)?;
        let on = |threads| {
            let mut found = 0;
            let cost = Cost::measure(units, || {
                let count = |block: &mut parallel::Block<'_>| {
                    let mut bytes = 0;
                    while let Some(record) = block.next() {
                        bytes += record.bytes.len() as u64;
                    }
                    bytes
                };
                let options = ParallelOptions { threads, ..ParallelOptions::default() };
                parallel::read(&fs(), &segments, &options, count, |bytes| {
                    found += bytes;
                    Ok::<_, ReadError>(())
                })?;
                Ok(())
            })?;
            ensure!(found == bytes, "we read something else");
            Ok(cost)
        };
        arena.run(&codec.to_string(), |_| on(1), || on(2))?;
        if codec == Compression::None {
            let paths = paths(&segments);
            let bare = |threads| Cost::measure(units, || bare::reads(&paths, threads));
            arena.run("none, bare reads for both: the floor", |_| bare(1), || bare(2))?;
        }
    }
    Ok(())
}

/// Commits of 2.3 kB that are durable when they return; what stands for the reference is one committer of ours.
fn commit(arena: &mut Arena, committers: usize) -> Result<()> {
    const COMMITS: usize = 3_200;
    let record = records(1, 2_300).remove(0);
    let run = |threads: usize| {
        let scratch = tempfile::tempdir()?;
        let options = LogOptions { durability: Durability::Always, ..LogOptions::default() };
        let (log, _) = Log::open(fs(), scratch.path(), options)?;
        on_threads(threads, COMMITS, || Ok(log.append([&record[..]]).map(drop)?))
    };
    arena.run("", |_| run(1), || run(committers))?;
    if committers != 16 && committers != 64 {
        return Ok(());
    }
    // The floor: rounds that are always full, one bare write and sync each, the least that sleeping and waking take.
    let bare = |threads: usize| {
        let scratch = tempfile::tempdir()?;
        let file = RealFs::new().create_new(&scratch.path().join("bare"))?;
        let (round, written) = (Mutex::new(Round::default()), Condvar::new());
        let bytes = record.repeat(threads);
        on_threads(threads, COMMITS, || {
            let mut now = round.lock().expect("no committer panics");
            now.arrived += 1;
            if now.arrived == threads {
                file.write_all_at(&bytes, now.number * bytes.len() as u64)?;
                file.sync_data()?;
                *now = Round { number: now.number + 1, arrived: 0 };
                drop(now);
                written.notify_all();
            } else {
                let mine = now.number;
                drop(written.wait_while(now, |now| now.number == mine).expect("no committer panics"));
            }
            Ok(())
        })
    };
    arena.run("rounds always full, bare writes: the floor", |_| run(1), || bare(committers))
}

/// Committers that have come to the round that is written next.
#[derive(Default)]
struct Round {
    number: u64,
    arrived: usize,
}

/// So many commits, on so many threads alike.
fn on_threads(threads: usize, commits: usize, commit: impl Fn() -> Result<()> + Sync) -> Result<Cost> {
    Cost::measure(commits as u64, || {
        std::thread::scope(|scope| {
            let handles: Vec<_> =
                (0..threads).map(|_| scope.spawn(|| (0..commits / threads).try_for_each(|_| commit()))).collect();
            handles.into_iter().try_for_each(|handle| handle.join().expect("no committer panics"))
        })
    })
}

fn append_ours(dir: &Path, codec: Compression, records: &[Vec<u8>], each: usize, repeat: usize) -> Result<Cost> {
    let (log, _) = Log::open(fs(), dir, options(codec))?;
    let cost = Cost::measure(repeat as u64, || {
        let mut calls = records.chunks_exact(each).cycle();
        for _ in 0..repeat {
            let Some(call) = calls.next() else { break };
            log.append(call.iter().map(Vec::as_slice))?;
        }
        Ok(())
    })?;
    log.close()?;
    std::fs::remove_dir_all(dir)?;
    Ok(cost)
}
